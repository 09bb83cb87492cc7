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
from mpsnn.ops.recurrent import (
    embedding,
    embedding_gradient,
    gru,
    gru_gradient,
    lstm,
    lstm_gradient,
    minimal_gated,
    minimal_gated_gradient,
    rnn,
    rnn_gradient,
    stack,
    unstack,
)
from mpsnn.ops.run import apply as apply
from mpsnn.ops.run import eager_loss as eager_loss
from mpsnn.ops.run import gradient as _gradient
from mpsnn.ops.run import loss_gradient as loss_gradient
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


def _neuron(kind: str, **parameters: float | None) -> dict[str, Any]:
    given = {k: _check.number("neuron", k, v) for k, v in parameters.items() if v is not None}
    return {"kind": _check.text("neuron", "kind", kind), **given}


def neuron(
    x: Any, kind: str, a: float | None = None, b: float | None = None, c: float | None = None, *,
    device: str | None = None,
) -> Any:  # fmt: skip
    """A pointwise function of MPSCNNNeuron, by kind, with its defaults of a, b and c.

    "relu"; "leaky_relu": slope a = 0.01; "sigmoid"; "tanh": a tanh(b x), 1 and 1; "linear": a x +
    b, 1 and 0; "hard_sigmoid": a x + b within 0..1, 0.2 and 0.5; "absolute"; "softplus":
    a log(1 + exp(b x)), 1 and 1; "softsign"; "elu": b x, or b a (exp(c x) - 1) below 0, 1, 1 and
    1; "relun": slope a = 0, at most b = 6; "power": (a x + b)^c, 1, 0 and 1; "exponential":
    c^(a x + b), 1, 0 and -1 for e; "logarithm" of a x + b to the base c, 1, 0 and -1 for e;
    "gelu"; "gelu_tanh"; "hard_swish".
    """
    return apply("neuron", [x], _neuron(kind, a=a, b=b, c=c), device)[0]


def neuron_gradient(
    gy: Any, x: Any, kind: str, a: float | None = None, b: float | None = None,
    c: float | None = None, *, device: str | None = None,
) -> tuple[Any, ...]:  # fmt: skip
    """Gradient by x."""
    return _gradient("neuron", gy, [x], _neuron(kind, a=a, b=b, c=c), device)


def prelu(x: Any, slopes: Any, *, device: str | None = None) -> Any:
    """X for x > 0, else a slope times x; slopes `(C,)` or `(1,)`."""
    return apply("prelu", [x, slopes], {}, device)[0]


def prelu_gradient(gy: Any, x: Any, slopes: Any, *, device: str | None = None) -> tuple[Any, ...]:
    """Gradients by x and the slopes."""
    return _gradient("prelu", gy, [x, slopes], {}, device)


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


def _norm(eps: Any, training: Any) -> dict[str, Any]:
    return {
        "epsilon": _check.number("batch_norm", "eps", eps, 0, open_low=True),
        "frozen": not _check.flag("batch_norm", "training", training),
    }


def batch_norm(
    x: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any, *, training: bool = False,
    eps: float = 1e-5, lengths: Any = None, device: str | None = None,
) -> Any:  # fmt: skip
    """Normalise over all axes but the last; running statistics are read, never written.

    `lengths` `(N,)`: positions past them along the last axis but one give zero and do not count.
    """
    attrs = _norm(eps, training)
    operands = [x, weight, bias, running_mean, running_var, lengths]
    indices = {5: x.shape[-2] + 1} if lengths is not None else {}
    return apply("batch_norm", operands, attrs, device, training=training, indices=indices)[0]


def batch_norm_gradient(
    gy: Any, x: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any, *,
    training: bool = True, eps: float = 1e-5, lengths: Any = None, device: str | None = None,
) -> tuple[Any, ...]:  # fmt: skip
    """Gradients by x, weight and bias."""
    attrs = _norm(eps, training)
    operands = [x, weight, bias, running_mean, running_var, lengths]
    indices = {5: x.shape[-2] + 1} if lengths is not None else {}
    return _gradient("batch_norm", gy, operands, attrs, device, wanted=3, indices=indices)


def _groups(groups: int, eps: float) -> dict[str, Any]:
    return {
        "groups": _check.integer("group_norm", "groups", groups),
        "epsilon": _check.number("group_norm", "eps", eps, 0, open_low=True),
    }


def group_norm(
    x: Any, groups: int, weight: Any = None, bias: Any = None, *, eps: float = 1e-5,
    device: str | None = None,
) -> Any:  # fmt: skip
    """Normalise groups of channels of each image; weight and bias `(C,)`."""
    return apply("group_norm", [x, weight, bias], _groups(groups, eps), device)[0]


def group_norm_gradient(
    gy: Any, x: Any, groups: int, weight: Any = None, bias: Any = None, *, eps: float = 1e-5,
    device: str | None = None,
) -> tuple[Any, ...]:  # fmt: skip
    """Gradients by x and, if given, weight and bias."""
    return _gradient("group_norm", gy, [x, weight, bias], _groups(groups, eps), device)


def _axes(axes: int, eps: float) -> dict[str, Any]:
    return {
        "axes": _check.integer("layer_norm", "axes", axes),
        "epsilon": _check.number("layer_norm", "eps", eps, 0, open_low=True),
    }


def layer_norm(
    x: Any, axes: int = 1, weight: Any = None, bias: Any = None, *, eps: float = 1e-5,
    device: str | None = None,
) -> Any:  # fmt: skip
    """Normalise the last `axes` axes together; weight and bias of their shape."""
    return apply("layer_norm", [x, weight, bias], _axes(axes, eps), device)[0]


def layer_norm_gradient(
    gy: Any, x: Any, axes: int = 1, weight: Any = None, bias: Any = None, *, eps: float = 1e-5,
    device: str | None = None,
) -> tuple[Any, ...]:  # fmt: skip
    """Gradients by x and, if given, weight and bias."""
    return _gradient("layer_norm", gy, [x, weight, bias], _axes(axes, eps), device)


def _response(size: int, alpha: float, beta: float, k: float, across: str) -> dict[str, Any]:
    me = "local_response_norm"
    return {
        "size": _check.integer(me, "size", size, 1, 2**20),
        "alpha": _check.number(me, "alpha", alpha, 0),
        "beta": _check.number(me, "beta", beta),
        "k": _check.number(me, "k", k, 0),
        "across": _check.one_of(me, "across", across, ("channels", "space")),
    }


def local_response_norm(
    x: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0,
    across: str = "channels", *, device: str | None = None,
) -> Any:  # fmt: skip
    """X / (k + alpha * mean of squares in a window over channels or space)^beta."""
    attrs = _response(size, alpha, beta, k, across)
    return apply("local_response_norm", [x], attrs, device)[0]


def local_response_norm_gradient(
    gy: Any, x: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0,
    across: str = "channels", *, device: str | None = None,
) -> tuple[Any, ...]:  # fmt: skip
    """Gradient by x."""
    attrs = _response(size, alpha, beta, k, across)
    return _gradient("local_response_norm", gy, [x], attrs, device)


def _contrast(size: int, **numbers: float) -> dict[str, Any]:
    me = "local_contrast_norm"
    given = {name: _check.number(me, name, value) for name, value in numbers.items()}
    return {"size": _check.integer(me, "size", size, 1, 2**20), **given}


def local_contrast_norm(
    x: Any, size: int, alpha: float = 1.0, beta: float = 0.5, delta: float = 1 / 1024,
    p0: float = 1.0, pm: float = 0.0, ps: float = 1.0, *, device: str | None = None,
) -> Any:  # fmt: skip
    """Pm + ps (x - p0 mean) / (delta + alpha variance)^beta, of a spatial window."""
    attrs = _contrast(size, alpha=alpha, beta=beta, delta=delta, p0=p0, pm=pm, ps=ps)
    return apply("local_contrast_norm", [x], attrs, device)[0]


def local_contrast_norm_gradient(
    gy: Any, x: Any, size: int, alpha: float = 1.0, beta: float = 0.5, delta: float = 1 / 1024,
    p0: float = 1.0, pm: float = 0.0, ps: float = 1.0, *, device: str | None = None,
) -> tuple[Any, ...]:  # fmt: skip
    """Gradient by x."""
    attrs = _contrast(size, alpha=alpha, beta=beta, delta=delta, p0=p0, pm=pm, ps=ps)
    return _gradient("local_contrast_norm", gy, [x], attrs, device)


def _dropout(p: Any, spatial: bool) -> dict[str, Any]:
    rate = _check.number("dropout", "p", p, 0, 1, open_high=True)
    return {"rate": rate, "spatial": _check.flag("dropout", "spatial", spatial)}


def dropout(
    x: Any, p: float = 0.5, *, spatial: bool = False, seed: int = 0, device: str | None = None
) -> Any:
    """Zero elements, or whole channels if `spatial`, with probability `p`; scale by 1 / (1 - p).

    One mask a seed.
    """
    seed = _check.integer("dropout", "seed", seed, 0)
    return apply("dropout", [x], _dropout(p, spatial), device, training=True, seed=seed)[0]


def dropout_gradient(
    gy: Any, x: Any, p: float = 0.5, *, spatial: bool = False, seed: int = 0,
    device: str | None = None,
) -> tuple[Any, ...]:  # fmt: skip
    """Gradient by x, with the mask of `dropout` with the same seed."""
    seed = _check.integer("dropout", "seed", seed, 0)
    return _gradient("dropout", gy, [x], _dropout(p, spatial), device, seed=seed)


def flatten(x: Any, *, device: str | None = None) -> Any:
    """`(N, ...)` to `(N, rest)`."""
    return apply("flatten", [x], {}, device)[0]


def softmax(x: Any, *, device: str | None = None) -> Any:
    """exp(x) / sum(exp(x)) over the last axis."""
    return apply("softmax", [x], {}, device)[0]


def softmax_gradient(gy: Any, x: Any, *, device: str | None = None) -> tuple[Any, ...]:
    """Gradient by x."""
    return _gradient("softmax", gy, [x], {}, device)


def log_softmax(x: Any, *, device: str | None = None) -> Any:
    """X - log(sum(exp(x))) over the last axis."""
    return apply("log_softmax", [x], {}, device)[0]


def log_softmax_gradient(gy: Any, x: Any, *, device: str | None = None) -> tuple[Any, ...]:
    """Gradient by x."""
    return _gradient("log_softmax", gy, [x], {}, device)


__all__ = [
    "add",
    "add_gradient",
    "amax",
    "amax_gradient",
    "amin",
    "amin_gradient",
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
    "divide",
    "divide_gradient",
    "dropout",
    "dropout_gradient",
    "embedding",
    "embedding_gradient",
    "flatten",
    "group_norm",
    "group_norm_gradient",
    "gru",
    "gru_gradient",
    "image_mean",
    "image_mean_gradient",
    "image_to_matrix",
    "image_to_matrix_gradient",
    "l2_pool1d",
    "l2_pool1d_gradient",
    "l2_pool2d",
    "l2_pool2d_gradient",
    "layer_norm",
    "layer_norm_gradient",
    "leaky_relu",
    "linear",
    "linear_gradient",
    "local_contrast_norm",
    "local_contrast_norm_gradient",
    "local_response_norm",
    "local_response_norm_gradient",
    "log_softmax",
    "log_softmax_gradient",
    "lstm",
    "lstm_gradient",
    "matrix_to_image",
    "matrix_to_image_gradient",
    "max_pool1d",
    "max_pool1d_gradient",
    "max_pool2d",
    "max_pool2d_gradient",
    "mean",
    "mean_gradient",
    "minimal_gated",
    "minimal_gated_gradient",
    "multiply",
    "multiply_gradient",
    "neuron",
    "neuron_gradient",
    "pad",
    "pad_gradient",
    "permute",
    "permute_gradient",
    "prelu",
    "prelu_gradient",
    "relu",
    "reshape",
    "reshape_gradient",
    "resize",
    "resize_gradient",
    "rnn",
    "rnn_gradient",
    "sigmoid",
    "slice",
    "slice_gradient",
    "softmax",
    "softmax_gradient",
    "stack",
    "subtract",
    "subtract_gradient",
    "sum",
    "sum_gradient",
    "tanh",
    "unstack",
    "upsample",
    "upsample_gradient",
]
