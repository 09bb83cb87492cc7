"""Layers that move elements, or reduce space."""

from __future__ import annotations

from typing import Any

from mpsnn import _check, ops
from mpsnn.nn.module import Module


class Flatten(Module):
    """`(N, H, W, C)` to `(N, H * W * C)`, in that order. No copy."""

    is_layer = True

    def forward(self, x: Any) -> Any:
        """Merge all axes but the first."""
        return ops.apply("flatten", [x], {})[0]


class Reshape(Module):
    """Gives each item another shape (MPSNNReshape, ONNX Reshape). No copy.

    Args:
        shape: of one item, without the batch; one size may be -1, which is what remains.

    Raises:
        ShapeError: in a graph, `shape` does not hold the elements of an item.
        ValueError, TypeError: a size is wrong.
    """

    is_layer = True

    def __init__(self, shape: Any) -> None:
        super().__init__()
        self.shape = _check.integers("Reshape", "shape", shape)
        if any(s < 1 and s != -1 for s in self.shape) or self.shape.count(-1) > 1:
            raise ValueError(f"[Reshape] sizes must be at least 1, one may be -1, got {self.shape}")

    def forward(self, x: Any) -> Any:
        """`(N, ...)` to `(N, *shape)`."""
        return ops.apply("reshape", [x], {"shape": self.shape})[0]


class Permute(Module):
    """Another order of axes (ONNX Transpose), such as `(0, 3, 1, 2)` to channels first.

    Args:
        dims: which axis of the input becomes each axis of the output; the batch, 0, stays first.

    Raises:
        ValueError: `dims` does not name each axis once, or moves the batch.
        TypeError: it is of the wrong type.
    """

    is_layer = True

    def __init__(self, dims: Any) -> None:
        super().__init__()
        self.dims = _check.integers("Permute", "dims", dims)
        if self.dims[:1] != (0,):
            raise ValueError(f"[Permute] the batch stays the first axis, got dims {self.dims}")

    def forward(self, x: Any) -> Any:
        """The same elements in another order."""
        return ops.apply("permute", [x], {"dims": self.dims})[0]


class _OverSpace(Module):
    is_layer = True
    op = ""

    def __init__(self, keepdim: bool = False) -> None:
        super().__init__()
        self.keepdim = _check.flag(type(self).__name__, "keepdim", keepdim)

    def forward(self, x: Any) -> Any:
        """`(N, H, W, C)` to `(N, C)`, or `(N, 1, 1, C)`; sequences `(N, T, C)` likewise."""
        me = type(self).__name__
        if len(x.shape) < 3:
            _check.rank(me, "images", x, 4)
        attrs = {"dims": tuple(range(1, len(x.shape) - 1)), "keepdim": self.keepdim}
        return ops.apply(self.op, [x], attrs)[0]


class SpatialMean(_OverSpace):
    """The mean of each channel over space or time (MPSNNReductionSpatialMeanNode, ONNX ReduceMean).

    Args:
        keepdim: whether the axes stay, with size 1.

    Raises:
        ShapeError: the input has no axis between batch and channels.
        TypeError: `keepdim` is not True or False.
    """

    op = "reduce_mean"


class SpatialMax(_OverSpace):
    """The largest value of each channel over space or time (MPSNNReduce...Max, ONNX ReduceMax).

    Equal values share the gradient. Arguments and errors are those of SpatialMean.
    """

    op = "reduce_max"
