"""Ops that only move elements. The batch, the first axis, always stays what it is."""

from __future__ import annotations

import builtins
from typing import Any

from mpsnn import _check
from mpsnn.ops.run import apply
from mpsnn.ops.run import gradient as _gradient


def reshape(x: Any, shape: Any, *, device: str | None = None) -> Any:
    """Give each image or row another shape (MPSNNReshape, ONNX Reshape); in a graph, no copy.

    Args:
        x: `(N, ...)`.
        shape: of one item, without the batch; one size may be -1, which is what remains. Elements
            keep their order, in which channels are innermost.
        device: where arrays are computed.

    Raises:
        ShapeError: `shape` does not hold the elements of an item.
        ValueError, TypeError: a size is wrong.
    """
    return apply("reshape", [x], {"shape": _check.integers("reshape", "shape", shape)}, device)[0]


def reshape_gradient(gy: Any, x: Any, shape: Any, *, device: str | None = None) -> tuple[Any, ...]:
    """Gradient by x: gy in x's shape."""
    attrs = {"shape": _check.integers("reshape", "shape", shape)}
    return _gradient("reshape", gy, [x], attrs, device)


def permute(x: Any, dims: Any, *, device: str | None = None) -> Any:
    """Another order of the axes (ONNX Transpose).

    Args:
        x: `(N, ...)`.
        dims: which axis of x becomes each axis of the result; the first is 0, the batch.
            `(0, 3, 1, 2)` makes `(N, H, W, C)` to `(N, C, H, W)`, `(0, 2, 3, 1)` is the way back.
        device: where arrays are computed.

    Raises:
        ValueError: `dims` does not name each axis once, or moves the batch.
        TypeError: it is of the wrong type.
    """
    return apply("permute", [x], {"dims": _check.integers("permute", "dims", dims)}, device)[0]


def permute_gradient(gy: Any, x: Any, dims: Any, *, device: str | None = None) -> tuple[Any, ...]:
    """Gradient by x: gy with its axes put back."""
    attrs = {"dims": _check.integers("permute", "dims", dims)}
    return _gradient("permute", gy, [x], attrs, device)


def _box(x: Any, starts: Any, stops: Any, dims: Any) -> dict[str, Any]:
    first = _check.integers("slice", "starts", starts)
    axes = (
        tuple(range(1, 1 + len(first))) if dims is None else _check.integers("slice", "dims", dims)
    )
    last = stops if isinstance(stops, (tuple, list)) else [stops]
    shape = x.shape if hasattr(x, "shape") else _check.numbers("slice", "x", x).shape
    ends = []
    for i, stop in enumerate(last):
        whole = i < len(axes) and -len(shape) <= axes[i] < len(shape)
        end = shape[axes[i]] if stop is None and whole else stop
        ends.append(_check.integer("slice", "stops", end, -(2**62)))
    return {"starts": first, "stops": tuple(ends), "dims": axes}


def slice(x: Any, starts: Any, stops: Any, dims: Any = None, *, device: str | None = None) -> Any:
    """A box out of each image or row (MPSNNSlice, ONNX Slice); in `forward`, `x[:, 1:5, ..., :3]`.

    Args:
        x: `(N, ...)`.
        starts: the first element along each of `dims`; an int or a sequence of them.
        stops: the one behind the last; None is the end. Both count from the end if negative.
        dims: the axes; by default axis 1 and those that follow it. The batch stays whole.
        device: where arrays are computed.

    Raises:
        ShapeError: the box is empty, or not in x.
        ValueError, TypeError: the arguments differ in length, name the batch, or are of the wrong
            type.
    """
    return apply("slice", [x], _box(x, starts, stops, dims), device)[0]


def slice_gradient(
    gy: Any, x: Any, starts: Any, stops: Any, dims: Any = None, *, device: str | None = None
) -> tuple[Any, ...]:
    """Gradient by x: gy in its place, 0 elsewhere."""
    return _gradient("slice", gy, [x], _box(x, starts, stops, dims), device)


def index(x: Any, key: Any) -> Any:
    """`x[key]` of a graph value: slices of step 1, integers and one ellipsis, behind the batch."""
    keys = list(key) if isinstance(key, tuple) else [key]
    rank = len(x.shape)
    if Ellipsis in keys:
        at = keys.index(Ellipsis)
        keys[at : at + 1] = [builtins.slice(None)] * (rank - len(keys) + 1)
    if len(keys) > rank or Ellipsis in keys:
        raise IndexError(f"[slice] {len(keys)} indices for {rank} axes")
    if keys and keys[0] != builtins.slice(None):
        raise TypeError(f"[slice] the batch stays whole: x[:, ...], got {keys[0]!r} for it")
    starts, stops, dims, kept = [], [], [], []
    for axis, k in enumerate(keys[1:], 1):
        size = x.shape[axis]
        if isinstance(k, builtins.slice):
            if k.step not in (None, 1):
                raise ValueError(f"[slice] steps are 1, got {k.step!r}")
            start, stop, _ = k.indices(size)
            kept.append(stop - start)
        else:
            start = _check.integer("slice", "an index", k, -(2**62))
            if not -size <= start < size:
                raise IndexError(f"[slice] index {start} is out of axis {axis} of {x.shape}")
            start %= size
            stop = start + 1
        if (start, stop) != (0, size):
            starts.append(start)
            stops.append(stop)
            dims.append(axis)
    kept += x.shape[len(keys) :] if keys else x.shape[1:]
    part = slice(x, starts, stops, dims) if dims else x
    return part if len(kept) == rank - 1 else reshape(part, kept)


def concat(parts: Any, dim: int = -1, *, device: str | None = None) -> Any:
    """Join along an axis, by default channels, the last (MPSNNConcatenation, ONNX Concat).

    Args:
        parts: 1 to 64 arrays that agree in all other axes.
        dim: the axis, counted from the end if negative; not the batch.
        device: where arrays are computed.

    Raises:
        ShapeError: the parts do not agree.
        ValueError: there are none, too many, or `dim` is no axis of theirs, or the batch.
        TypeError: `parts` is no list, or `dim` no integer.
    """
    return apply("concat", _parts(parts), _joined(dim), device)[0]


def concat_gradient(
    gy: Any, parts: Any, dim: int = -1, *, device: str | None = None
) -> tuple[Any, ...]:
    """Gradients by each part: its piece of gy."""
    return _gradient("concat", gy, _parts(parts), _joined(dim), device)


def _parts(parts: Any) -> list[Any]:
    if not isinstance(parts, (list, tuple)):
        raise TypeError(f"[concat] parts must be a list of arrays, got {parts!r}")
    if not parts:
        raise ValueError("[concat] parts must not be empty")
    return list(parts)


def _joined(dim: Any) -> dict[str, Any]:
    return {"dim": _check.integer("concat", "dim", dim, -(2**62))}


LAYOUTS = ("HWC", "CHW")


def image_to_matrix(x: Any, layout: str = "HWC", *, device: str | None = None) -> Any:
    """Each image a row: `(N, H, W, C)` to `(N, H * W * C)` (MPSImageCopyToMatrix).

    Args:
        x: images.
        layout: the order of a row's elements, "HWC" as in Flatten, or "CHW", which is MPS's
            default and PyTorch's order.
        device: where arrays are computed.

    Raises:
        ShapeError: x has not four axes.
        ValueError: the layout is unknown.
    """
    _check.rank("image_to_matrix", "images", x, 4)
    if _check.one_of("image_to_matrix", "layout", layout, LAYOUTS) == "CHW":
        x = permute(x, (0, 3, 1, 2), device=device)
    return reshape(x, -1, device=device)


def image_to_matrix_gradient(
    gy: Any, x: Any, layout: str = "HWC", *, device: str | None = None
) -> tuple[Any, ...]:
    """Gradient by x: the images that hold gy."""
    _check.rank("image_to_matrix", "images", x, 4)
    height, width, channels = x.shape[1:]
    return (matrix_to_image(gy, height, width, channels, layout, device=device),)


def matrix_to_image(
    x: Any, height: int, width: int, channels: int, layout: str = "HWC", *,
    device: str | None = None,
) -> Any:  # fmt: skip
    """Each row an image: `(N, H * W * C)` to `(N, H, W, C)` (MPSMatrixCopyToImage).

    Args:
        x: rows.
        height, width, channels: of an image.
        layout: the order of a row's elements, as in `image_to_matrix`.
        device: where arrays are computed.

    Raises:
        ShapeError: a row does not hold an image.
        ValueError, TypeError: a size or the layout is wrong.
    """
    _check.rank("matrix_to_image", "rows", x, 2)
    h, w, c = (
        _check.integer("matrix_to_image", name, size)
        for name, size in (("height", height), ("width", width), ("channels", channels))
    )
    if _check.one_of("matrix_to_image", "layout", layout, LAYOUTS) == "HWC":
        return reshape(x, (h, w, c), device=device)
    return permute(reshape(x, (c, h, w), device=device), (0, 2, 3, 1), device=device)


def matrix_to_image_gradient(
    gy: Any, x: Any, height: int, width: int, channels: int, layout: str = "HWC", *,
    device: str | None = None,
) -> tuple[Any, ...]:  # fmt: skip
    """Gradient by x: the rows that hold gy."""
    _check.rank("matrix_to_image", "rows", x, 2)
    return (image_to_matrix(gy, layout, device=device),)
