"""Every primitive as a function, on arrays and on graph values alike, forward and gradient.

On arrays an op runs at once as a plan of one op, on `device` (default "cpu", "reference" where
there
is no other). Shapes are channels last; weights are in canonical layouts. `*_gradient` functions
take
the gradient of the output first and return the gradient by each differentiable operand, in order.
"""

from __future__ import annotations

from typing import Any

from mpsnn.ops.run import apply as apply
from mpsnn.ops.run import eager_loss as eager_loss
from mpsnn.ops.run import gradient as _gradient
from mpsnn.ops.spatial import (
    avg_pool1d,
    avg_pool1d_gradient,
    avg_pool2d,
    avg_pool2d_gradient,
    conv1d,
    conv1d_gradient,
    conv2d,
    conv2d_gradient,
    conv_transpose2d,
    conv_transpose2d_gradient,
    crop,
    crop_gradient,
    l2_pool1d,
    l2_pool1d_gradient,
    l2_pool2d,
    l2_pool2d_gradient,
    max_pool1d,
    max_pool1d_gradient,
    max_pool2d,
    max_pool2d_gradient,
    pad,
    pad_gradient,
    resize,
    resize_gradient,
    upsample,
    upsample_gradient,
)


def linear(x: Any, w: Any, b: Any = None, *, device: str | None = None) -> Any:
    """X w^T + b: x `(..., in)`, w `(out, in)`, b `(out)`."""
    return apply("linear", [x, w, b], {}, device)[0]


def linear_gradient(
    gy: Any, x: Any, w: Any, b: Any = None, *, device: str | None = None
) -> tuple[Any, ...]:
    """Gradients by x, w and, if given, b."""
    return _gradient("linear", gy, [x, w, b], {}, device)


def neuron(x: Any, kind: str, a: float = 0.0, *, device: str | None = None) -> Any:
    """A pointwise function: "relu", "leaky_relu" (slope `a`), "sigmoid", "tanh"."""
    return apply("neuron", [x], {"kind": kind, "a": float(a)}, device)[0]


def neuron_gradient(
    gy: Any, x: Any, kind: str, a: float = 0.0, *, device: str | None = None
) -> tuple[Any, ...]:
    """Gradient by x."""
    return _gradient("neuron", gy, [x], {"kind": kind, "a": float(a)}, device)


def relu(x: Any, *, device: str | None = None) -> Any:
    """max(0, x)."""
    return neuron(x, "relu", device=device)


def leaky_relu(x: Any, negative_slope: float = 0.01, *, device: str | None = None) -> Any:
    """X for x > 0, else `negative_slope` x."""
    return neuron(x, "leaky_relu", negative_slope, device=device)


def sigmoid(x: Any, *, device: str | None = None) -> Any:
    """1 / (1 + exp(-x))."""
    return neuron(x, "sigmoid", device=device)


def tanh(x: Any, *, device: str | None = None) -> Any:
    """tanh(x)."""
    return neuron(x, "tanh", device=device)


def batch_norm(
    x: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any, *, training: bool = False,
    eps: float = 1e-5, device: str | None = None,
) -> Any:  # fmt: skip
    """Normalise over all axes but the last; running statistics are read, never written."""
    attrs = {"epsilon": float(eps), "frozen": not training}
    operands = [x, weight, bias, running_mean, running_var]
    return apply("batch_norm", operands, attrs, device, training=training)[0]


def batch_norm_gradient(
    gy: Any, x: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any, *,
    training: bool = True, eps: float = 1e-5, device: str | None = None,
) -> tuple[Any, ...]:  # fmt: skip
    """Gradients by x, weight and bias."""
    attrs = {"epsilon": float(eps), "frozen": not training}
    operands = [x, weight, bias, running_mean, running_var]
    return _gradient("batch_norm", gy, operands, attrs, device, wanted=3)


def dropout(x: Any, p: float = 0.5, *, seed: int = 0, device: str | None = None) -> Any:
    """Zero elements with probability `p`, scale the rest by 1 / (1 - p); one mask a seed."""
    return apply("dropout", [x], {"rate": float(p)}, device, training=True, seed=seed)[0]


def dropout_gradient(
    gy: Any, x: Any, p: float = 0.5, *, seed: int = 0, device: str | None = None
) -> tuple[Any, ...]:
    """Gradient by x, with the mask of `dropout` with the same seed."""
    return _gradient("dropout", gy, [x], {"rate": float(p)}, device, seed=seed)


def flatten(x: Any, *, device: str | None = None) -> Any:
    """`(N, ...)` to `(N, rest)`."""
    return apply("flatten", [x], {}, device)[0]


def softmax(x: Any, *, device: str | None = None) -> Any:
    """exp(x) / sum(exp(x)) over the last axis."""
    return apply("softmax", [x], {}, device)[0]


def softmax_gradient(gy: Any, x: Any, *, device: str | None = None) -> tuple[Any, ...]:
    """Gradient by x."""
    return _gradient("softmax", gy, [x], {}, device)


def concat(parts: Any, *, device: str | None = None) -> Any:
    """Join along channels, the last axis."""
    return apply("concat", list(parts), {}, device)[0]


def concat_gradient(gy: Any, parts: Any, *, device: str | None = None) -> tuple[Any, ...]:
    """Gradients by each part."""
    return _gradient("concat", gy, list(parts), {}, device)


def add(a: Any, b: Any, *, device: str | None = None) -> Any:
    """A + b, of one shape."""
    return apply("add", [a, b], {}, device)[0]


def subtract(a: Any, b: Any, *, device: str | None = None) -> Any:
    """A - b, of one shape."""
    return apply("subtract", [a, b], {}, device)[0]


def subtract_gradient(gy: Any, a: Any, b: Any, *, device: str | None = None) -> tuple[Any, ...]:
    """Gradients by a and b."""
    return _gradient("subtract", gy, [a, b], {}, device)


def multiply(a: Any, b: Any, *, device: str | None = None) -> Any:
    """A b, element by element, of one shape."""
    return apply("multiply", [a, b], {}, device)[0]


def multiply_gradient(gy: Any, a: Any, b: Any, *, device: str | None = None) -> tuple[Any, ...]:
    """Gradients by a and b."""
    return _gradient("multiply", gy, [a, b], {}, device)


def image_mean(x: Any, *, device: str | None = None) -> Any:
    """The mean of each image: `(N, ...)` to `(N,)`."""
    return apply("image_mean", [x], {}, device)[0]


def image_mean_gradient(gy: Any, x: Any, *, device: str | None = None) -> tuple[Any, ...]:
    """Gradient by x."""
    return _gradient("image_mean", gy, [x], {}, device)


__all__ = [
    "add",
    "avg_pool1d",
    "avg_pool1d_gradient",
    "avg_pool2d",
    "avg_pool2d_gradient",
    "batch_norm",
    "batch_norm_gradient",
    "concat",
    "concat_gradient",
    "conv1d",
    "conv1d_gradient",
    "conv2d",
    "conv2d_gradient",
    "conv_transpose2d",
    "conv_transpose2d_gradient",
    "crop",
    "crop_gradient",
    "dropout",
    "dropout_gradient",
    "flatten",
    "image_mean",
    "image_mean_gradient",
    "l2_pool1d",
    "l2_pool1d_gradient",
    "l2_pool2d",
    "l2_pool2d_gradient",
    "leaky_relu",
    "linear",
    "linear_gradient",
    "max_pool1d",
    "max_pool1d_gradient",
    "max_pool2d",
    "max_pool2d_gradient",
    "multiply",
    "multiply_gradient",
    "neuron",
    "neuron_gradient",
    "pad",
    "pad_gradient",
    "relu",
    "resize",
    "resize_gradient",
    "sigmoid",
    "softmax",
    "softmax_gradient",
    "subtract",
    "subtract_gradient",
    "tanh",
    "upsample",
    "upsample_gradient",
]
