"""Every primitive as a function, on arrays and on graph values alike, forward and gradient.

On arrays an op runs at once as a plan of one op, on `device` (default "cpu", "reference" where
there
is no other). Shapes are channels last; weights are in canonical layouts. `*_gradient` functions
take
the gradient of the output first and return the gradient by each differentiable operand, in order.
"""

from __future__ import annotations

from typing import Any

from mpsnn import _check
from mpsnn.ops.arithmetic import (
    add,
    add_gradient,
    amax,
    amax_gradient,
    amin,
    amin_gradient,
    divide,
    divide_gradient,
    image_mean,
    image_mean_gradient,
    mean,
    mean_gradient,
    multiply,
    multiply_gradient,
    subtract,
    subtract_gradient,
    sum,
    sum_gradient,
)
from mpsnn.ops.run import apply as apply
from mpsnn.ops.run import eager_loss as eager_loss
from mpsnn.ops.run import gradient as _gradient
from mpsnn.ops.shape import (
    concat,
    concat_gradient,
    image_to_matrix,
    image_to_matrix_gradient,
    matrix_to_image,
    matrix_to_image_gradient,
    permute,
    permute_gradient,
    reshape,
    reshape_gradient,
    slice,
    slice_gradient,
)


def _conv(stride: Any, padding: Any, dilation: Any, groups: int) -> dict[str, Any]:
    return {
        "stride": _check.pair("conv2d", "stride", stride),
        "dilation": _check.pair("conv2d", "dilation", dilation),
        "groups": _check.integer("conv2d", "groups", groups),
        **_check.padding("conv2d", padding),
    }


def _window(op: str, kernel: Any, stride: Any, padding: Any) -> dict[str, Any]:
    size = _check.pair(op, "kernel_size", kernel)
    return {
        "kernel": size,
        "stride": size if stride is None else _check.pair(op, "stride", stride),
        **_check.padding(op, padding),
    }


def conv2d(
    x: Any, w: Any, b: Any = None, *, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1, device: str | None = None,
) -> Any:  # fmt: skip
    """Convolution: x `(N, H, W, C)`, w `(out, kh, kw, C / groups)`, b `(out)`."""
    return apply("conv2d", [x, w, b], _conv(stride, padding, dilation, groups), device)[0]


def conv2d_gradient(
    gy: Any, x: Any, w: Any, b: Any = None, *, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1, device: str | None = None,
) -> tuple[Any, ...]:  # fmt: skip
    """Gradients by x, w and, if given, b."""
    return _gradient("conv2d", gy, [x, w, b], _conv(stride, padding, dilation, groups), device)


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


def max_pool2d(
    x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, *,
    device: str | None = None,
) -> Any:  # fmt: skip
    """Maximum over windows of x `(N, H, W, C)`; stride is the kernel's size by default."""
    attrs = _window("max_pool2d", kernel_size, stride, padding)
    attrs["dilation"] = _check.pair("max_pool2d", "dilation", dilation)
    return apply("max_pool2d", [x], attrs, device)[0]


def max_pool2d_gradient(
    gy: Any, x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, *,
    device: str | None = None,
) -> tuple[Any, ...]:  # fmt: skip
    """Gradient by x."""
    attrs = _window("max_pool2d", kernel_size, stride, padding)
    attrs["dilation"] = _check.pair("max_pool2d", "dilation", dilation)
    return _gradient("max_pool2d", gy, [x], attrs, device)


def _avg(kernel: Any, stride: Any, padding: Any, include: bool | None) -> dict[str, Any]:
    attrs = _window("avg_pool2d", kernel, stride, padding)
    attrs["count_include_pad"] = padding != "same" if include is None else include
    return attrs


def avg_pool2d(
    x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0,
    count_include_pad: bool | None = None, *, device: str | None = None,
) -> Any:  # fmt: skip
    """Mean over windows of x `(N, H, W, C)`."""
    return apply("avg_pool2d", [x], _avg(kernel_size, stride, padding, count_include_pad), device)[
        0
    ]


def avg_pool2d_gradient(
    gy: Any, x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0,
    count_include_pad: bool | None = None, *, device: str | None = None,
) -> tuple[Any, ...]:  # fmt: skip
    """Gradient by x."""
    attrs = _avg(kernel_size, stride, padding, count_include_pad)
    return _gradient("avg_pool2d", gy, [x], attrs, device)


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


__all__ = [
    "add",
    "add_gradient",
    "amax",
    "amax_gradient",
    "amin",
    "amin_gradient",
    "avg_pool2d",
    "avg_pool2d_gradient",
    "batch_norm",
    "batch_norm_gradient",
    "concat",
    "concat_gradient",
    "conv2d",
    "conv2d_gradient",
    "divide",
    "divide_gradient",
    "dropout",
    "dropout_gradient",
    "flatten",
    "image_mean",
    "image_mean_gradient",
    "image_to_matrix",
    "image_to_matrix_gradient",
    "leaky_relu",
    "linear",
    "linear_gradient",
    "matrix_to_image",
    "matrix_to_image_gradient",
    "max_pool2d",
    "max_pool2d_gradient",
    "mean",
    "mean_gradient",
    "multiply",
    "multiply_gradient",
    "neuron",
    "neuron_gradient",
    "permute",
    "permute_gradient",
    "relu",
    "reshape",
    "reshape_gradient",
    "sigmoid",
    "slice",
    "slice_gradient",
    "softmax",
    "softmax_gradient",
    "subtract",
    "subtract_gradient",
    "sum",
    "sum_gradient",
    "tanh",
]
