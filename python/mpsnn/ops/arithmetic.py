"""Arithmetic on two arrays whose shapes broadcast, and reductions over axes of each image."""

from __future__ import annotations

from typing import Any

from mpsnn import _check
from mpsnn.ops.run import apply
from mpsnn.ops.run import gradient as _gradient


def add(a: Any, b: Any, *, device: str | None = None) -> Any:
    """A + b (MPSCNNAdd, ONNX Add).

    Args:
        a, b: arrays whose shapes broadcast as NumPy's do: axes are aligned at the end, and one of
            size 1, or missing, is repeated. Only the batch must be equal, or missing in one of
            them.
        device: where arrays are computed.

    Raises:
        ShapeError: the shapes do not broadcast.
        DTypeError: the arrays are not floating.
    """
    return apply("add", [a, b], {}, device)[0]


def add_gradient(gy: Any, a: Any, b: Any, *, device: str | None = None) -> tuple[Any, ...]:
    """Gradients by a and b: gy, summed over the axes along which the operand was repeated."""
    return _gradient("add", gy, [a, b], {}, device)


def subtract(a: Any, b: Any, *, device: str | None = None) -> Any:
    """A - b (MPSCNNSubtract, ONNX Sub); shapes, arguments and errors are those of `add`."""
    return apply("subtract", [a, b], {}, device)[0]


def subtract_gradient(gy: Any, a: Any, b: Any, *, device: str | None = None) -> tuple[Any, ...]:
    """Gradients by a and b: gy and -gy, summed over repeated axes."""
    return _gradient("subtract", gy, [a, b], {}, device)


def multiply(a: Any, b: Any, *, device: str | None = None) -> Any:
    """A b, element by element (MPSCNNMultiply, ONNX Mul); the rest as `add`."""
    return apply("multiply", [a, b], {}, device)[0]


def multiply_gradient(gy: Any, a: Any, b: Any, *, device: str | None = None) -> tuple[Any, ...]:
    """Gradients by a and b: gy b and gy a, summed over repeated axes."""
    return _gradient("multiply", gy, [a, b], {}, device)


def divide(a: Any, b: Any, *, device: str | None = None) -> Any:
    """A / b, element by element (MPSCNNDivide, ONNX Div); by zero as IEEE has it; else as `add`."""
    return apply("divide", [a, b], {}, device)[0]


def divide_gradient(gy: Any, a: Any, b: Any, *, device: str | None = None) -> tuple[Any, ...]:
    """Gradients by a and b: gy / b and -gy a / b^2, summed over repeated axes."""
    return _gradient("divide", gy, [a, b], {}, device)


def _axes(op: str, dim: Any, keepdim: bool) -> dict[str, Any]:
    attrs: dict[str, Any] = {"keepdim": _check.flag(op, "keepdim", keepdim)}
    if dim is not None:
        attrs["dims"] = _check.integers(op, "dim", dim)
        if not attrs["dims"]:
            raise ValueError(f"[{op}] dim must name an axis, got {dim!r}")
    return attrs


def sum(x: Any, dim: Any = None, keepdim: bool = False, *, device: str | None = None) -> Any:
    """Sums over axes of each image or row (MPSNNReduce...Sum, ONNX ReduceSum).

    Args:
        x: `(N, ...)`.
        dim: the axis or axes that are summed, counted from the end if negative; by default all but
            the batch, which always stays. `(1, 2)` is space, `-1` the channels of an image.
        keepdim: whether they stay, with size 1.
        device: where arrays are computed.

    Raises:
        ValueError: `dim` is no axis of x, is the batch, or names an axis twice.
        TypeError: an argument is of the wrong type.
    """
    return apply("reduce_sum", [x], _axes("sum", dim, keepdim), device)[0]


def sum_gradient(
    gy: Any, x: Any, dim: Any = None, keepdim: bool = False, *, device: str | None = None
) -> tuple[Any, ...]:
    """Gradient by x: gy, repeated."""
    return _gradient("reduce_sum", gy, [x], _axes("sum", dim, keepdim), device)


def mean(x: Any, dim: Any = None, keepdim: bool = False, *, device: str | None = None) -> Any:
    """Means over axes of each image or row (MPSNNReduce...Mean, ONNX ReduceMean).

    Arguments and errors are those of `sum`.
    """
    return apply("reduce_mean", [x], _axes("mean", dim, keepdim), device)[0]


def mean_gradient(
    gy: Any, x: Any, dim: Any = None, keepdim: bool = False, *, device: str | None = None
) -> tuple[Any, ...]:
    """Gradient by x: gy over the number of terms, repeated."""
    return _gradient("reduce_mean", gy, [x], _axes("mean", dim, keepdim), device)


def amax(x: Any, dim: Any = None, keepdim: bool = False, *, device: str | None = None) -> Any:
    """The largest values over axes of each image or row (MPSNNReduce...Max, ONNX ReduceMax).

    NaN wins. Arguments and errors are those of `sum`.
    """
    return apply("reduce_max", [x], _axes("amax", dim, keepdim), device)[0]


def amax_gradient(
    gy: Any, x: Any, dim: Any = None, keepdim: bool = False, *, device: str | None = None
) -> tuple[Any, ...]:
    """Gradient by x: gy at the largest element, in equal parts where several are."""
    return _gradient("reduce_max", gy, [x], _axes("amax", dim, keepdim), device)


def amin(x: Any, dim: Any = None, keepdim: bool = False, *, device: str | None = None) -> Any:
    """The smallest values over axes of each image or row (MPSNNReduce...Min, ONNX ReduceMin).

    NaN wins. Arguments and errors are those of `sum`.
    """
    return apply("reduce_min", [x], _axes("amin", dim, keepdim), device)[0]


def amin_gradient(
    gy: Any, x: Any, dim: Any = None, keepdim: bool = False, *, device: str | None = None
) -> tuple[Any, ...]:
    """Gradient by x: gy at the smallest element, in equal parts where several are."""
    return _gradient("reduce_min", gy, [x], _axes("amin", dim, keepdim), device)


def image_mean(x: Any, *, device: str | None = None) -> Any:
    """The mean of each image: `(N, ...)` to `(N,)`, as `mean(x)`."""
    return mean(x, device=device)


def image_mean_gradient(gy: Any, x: Any, *, device: str | None = None) -> tuple[Any, ...]:
    """Gradient by x."""
    return mean_gradient(gy, x, device=device)
