"""Convolutions, pooling, resizing, padding and cropping, over images and sequences."""

from __future__ import annotations

from typing import Any

import numpy as np

from mpsnn import _check
from mpsnn._core import ShapeError
from mpsnn.ops.run import apply
from mpsnn.ops.run import gradient as _gradient


def _conv(
    op: str, stride: Any, padding: Any, dilation: Any, groups: int, axes: int = 2
) -> dict[str, Any]:
    return {
        "stride": _check.sizes(op, "stride", stride, axes),
        "dilation": _check.sizes(op, "dilation", dilation, axes),
        "groups": _check.integer(op, "groups", groups),
        **_check.padding(op, padding, axes),
    }


def conv2d(
    x: Any,
    w: Any,
    b: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    device: str | None = None,
) -> Any:
    """Convolution: x `(N, H, W, C)`, w `(out, kh, kw, C / groups)`, b `(out)`.

    `padding` is "valid", "same", an int, (height, width) or ((top, bottom), (left, right)).
    """
    attrs = _conv("conv2d", stride, padding, dilation, groups)
    return apply("conv2d", [x, w, b], attrs, device)[0]


def conv2d_gradient(
    gy: Any,
    x: Any,
    w: Any,
    b: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    device: str | None = None,
) -> tuple[Any, ...]:
    """Gradients by x, w and, if given, b."""
    attrs = _conv("conv2d", stride, padding, dilation, groups)
    return _gradient("conv2d", gy, [x, w, b], attrs, device)


def conv1d(
    x: Any,
    w: Any,
    b: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    device: str | None = None,
) -> Any:
    """Convolution of sequences: x `(N, T, C)`, w `(out, k, C / groups)`, b `(out)`.

    `padding` is "valid", "same", an int or ((before, after),).
    """
    attrs = _conv("conv1d", stride, padding, dilation, groups, axes=1)
    return apply("conv2d", [x, w, b], attrs, device)[0]


def conv1d_gradient(
    gy: Any,
    x: Any,
    w: Any,
    b: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    device: str | None = None,
) -> tuple[Any, ...]:
    """Gradients by x, w and, if given, b."""
    attrs = _conv("conv1d", stride, padding, dilation, groups, axes=1)
    return _gradient("conv2d", gy, [x, w, b], attrs, device)


def _conv_transpose(
    stride: Any, padding: Any, output_padding: Any, groups: int, dilation: Any
) -> dict[str, Any]:
    attrs = _conv("conv_transpose2d", stride, padding, dilation, groups)
    return attrs | _check.output_padding(
        "conv_transpose2d", output_padding, attrs["stride"], padding
    )


def conv_transpose2d(
    x: Any,
    w: Any,
    b: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    device: str | None = None,
) -> Any:
    """Transposed convolution: x `(N, H, W, C)`, w `(out, kh, kw, C / groups)`, b `(out)`.

    `padding` is what is left out of the output on each side, as of `conv2d`; "same" gives
    `(H stride, W stride)`; `output_padding` rows and columns are added at the bottom and right.
    """
    attrs = _conv_transpose(stride, padding, output_padding, groups, dilation)
    return apply("conv_transpose2d", [x, w, b], attrs, device)[0]


def conv_transpose2d_gradient(
    gy: Any,
    x: Any,
    w: Any,
    b: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    device: str | None = None,
) -> tuple[Any, ...]:
    """Gradients by x, w and, if given, b."""
    attrs = _conv_transpose(stride, padding, output_padding, groups, dilation)
    return _gradient("conv_transpose2d", gy, [x, w, b], attrs, device)


def _max(
    op: str, kernel: Any, stride: Any, padding: Any, ceil: bool, dilation: Any, axes: int = 2
) -> dict[str, Any]:
    attrs = _check.window(op, kernel, stride, padding, ceil, axes)
    return attrs | {"dilation": _check.sizes(op, "dilation", dilation, axes)}


def _avg(
    op: str, kernel: Any, stride: Any, padding: Any, ceil: bool, include: bool | None, axes: int = 2
) -> dict[str, Any]:
    attrs = _check.window(op, kernel, stride, padding, ceil, axes)
    counts = padding != "same" if include is None else include
    return attrs | {"count_include_pad": _check.flag(op, "count_include_pad", counts)}


_l2 = _check.window


def max_pool2d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    *,
    ceil_mode: bool = False,
    device: str | None = None,
) -> Any:
    """Maximum over windows of x `(N, H, W, C)`; the stride is `kernel_size` by default."""
    attrs = _max("max_pool2d", kernel_size, stride, padding, ceil_mode, dilation)
    return apply("max_pool2d", [x], attrs, device)[0]


def max_pool2d_gradient(
    gy: Any,
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    *,
    ceil_mode: bool = False,
    device: str | None = None,
) -> tuple[Any, ...]:
    """Gradient by x."""
    attrs = _max("max_pool2d", kernel_size, stride, padding, ceil_mode, dilation)
    return _gradient("max_pool2d", gy, [x], attrs, device)


def avg_pool2d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool | None = None,
    *,
    device: str | None = None,
) -> Any:
    """Mean over windows of x `(N, H, W, C)`; the stride is `kernel_size` by default."""
    attrs = _avg("avg_pool2d", kernel_size, stride, padding, ceil_mode, count_include_pad)
    return apply("avg_pool2d", [x], attrs, device)[0]


def avg_pool2d_gradient(
    gy: Any,
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool | None = None,
    *,
    device: str | None = None,
) -> tuple[Any, ...]:
    """Gradient by x."""
    attrs = _avg("avg_pool2d", kernel_size, stride, padding, ceil_mode, count_include_pad)
    return _gradient("avg_pool2d", gy, [x], attrs, device)


def l2_pool2d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    *,
    ceil_mode: bool = False,
    device: str | None = None,
) -> Any:
    """Square root of the sum of squares over windows of x `(N, H, W, C)`."""
    attrs = _l2("l2_pool2d", kernel_size, stride, padding, ceil_mode)
    return apply("l2_pool2d", [x], attrs, device)[0]


def l2_pool2d_gradient(
    gy: Any,
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    *,
    ceil_mode: bool = False,
    device: str | None = None,
) -> tuple[Any, ...]:
    """Gradient by x."""
    attrs = _l2("l2_pool2d", kernel_size, stride, padding, ceil_mode)
    return _gradient("l2_pool2d", gy, [x], attrs, device)


def max_pool1d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    *,
    ceil_mode: bool = False,
    device: str | None = None,
) -> Any:
    """Maximum over windows of x `(N, T, C)`; the stride is `kernel_size` by default."""
    attrs = _max("max_pool1d", kernel_size, stride, padding, ceil_mode, dilation, axes=1)
    return apply("max_pool2d", [x], attrs, device)[0]


def max_pool1d_gradient(
    gy: Any,
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    *,
    ceil_mode: bool = False,
    device: str | None = None,
) -> tuple[Any, ...]:
    """Gradient by x."""
    attrs = _max("max_pool1d", kernel_size, stride, padding, ceil_mode, dilation, axes=1)
    return _gradient("max_pool2d", gy, [x], attrs, device)


def avg_pool1d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool | None = None,
    *,
    device: str | None = None,
) -> Any:
    """Mean over windows of x `(N, T, C)`; the stride is `kernel_size` by default."""
    attrs = _avg("avg_pool1d", kernel_size, stride, padding, ceil_mode, count_include_pad, axes=1)
    return apply("avg_pool2d", [x], attrs, device)[0]


def avg_pool1d_gradient(
    gy: Any,
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool | None = None,
    *,
    device: str | None = None,
) -> tuple[Any, ...]:
    """Gradient by x."""
    attrs = _avg("avg_pool1d", kernel_size, stride, padding, ceil_mode, count_include_pad, axes=1)
    return _gradient("avg_pool2d", gy, [x], attrs, device)


def l2_pool1d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    *,
    ceil_mode: bool = False,
    device: str | None = None,
) -> Any:
    """Square root of the sum of squares over windows of x `(N, T, C)`."""
    attrs = _l2("l2_pool1d", kernel_size, stride, padding, ceil_mode, axes=1)
    return apply("l2_pool2d", [x], attrs, device)[0]


def l2_pool1d_gradient(
    gy: Any,
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    *,
    ceil_mode: bool = False,
    device: str | None = None,
) -> tuple[Any, ...]:
    """Gradient by x."""
    attrs = _l2("l2_pool1d", kernel_size, stride, padding, ceil_mode, axes=1)
    return _gradient("l2_pool2d", gy, [x], attrs, device)


def _resize(op: str, size: Any, mode: str, align_corners: bool) -> dict[str, Any]:
    return {"size": _check.pair(op, "size", size), **_check.resampling(op, mode, align_corners)}


def resize(
    x: Any,
    size: Any,
    mode: str = "nearest",
    align_corners: bool = False,
    *,
    device: str | None = None,
) -> Any:
    """Images x `(N, H, W, C)` of another `size`, an int or (height, width).

    `mode` is "nearest" or "bilinear", the latter of half-pixel centres unless `align_corners`.
    """
    return apply("resize2d", [x], _resize("resize", size, mode, align_corners), device)[0]


def resize_gradient(
    gy: Any,
    x: Any,
    size: Any,
    mode: str = "nearest",
    align_corners: bool = False,
    *,
    device: str | None = None,
) -> tuple[Any, ...]:
    """Gradient by x."""
    return _gradient("resize2d", gy, [x], _resize("resize", size, mode, align_corners), device)


def _scaled(x: Any, scale_factor: Any) -> tuple[int, int]:
    vertical, horizontal = _check.pair("upsample", "scale_factor", scale_factor)
    height, width = _image_size("upsample", x)
    return height * vertical, width * horizontal


def _image_size(op: str, x: Any) -> tuple[int, int]:
    shape = tuple(x.shape) if hasattr(x, "shape") else np.shape(_check.numbers(op, "x", x))
    if len(shape) != 4:
        raise ShapeError(f"[{op}] expected (N, H, W, C), got {shape}")
    return shape[1], shape[2]


def upsample(
    x: Any,
    scale_factor: Any,
    mode: str = "nearest",
    align_corners: bool = False,
    *,
    device: str | None = None,
) -> Any:
    """Images x `(N, H, W, C)` larger by an int or (vertical, horizontal); as `resize`."""
    return resize(x, _scaled(x, scale_factor), mode, align_corners, device=device)


def upsample_gradient(
    gy: Any,
    x: Any,
    scale_factor: Any,
    mode: str = "nearest",
    align_corners: bool = False,
    *,
    device: str | None = None,
) -> tuple[Any, ...]:
    """Gradient by x."""
    size = _scaled(x, scale_factor)
    return resize_gradient(gy, x, size, mode, align_corners, device=device)


def pad(
    x: Any, padding: Any, mode: str = "zero", value: float = 0.0, *, device: str | None = None
) -> Any:
    """Rows and columns around images x `(N, H, W, C)`; negative amounts crop.

    `padding` is an int, (height, width) or ((top, bottom), (left, right)); `mode` is "zero",
    "constant" (`value`), "reflect" or "edge".
    """
    return apply("pad2d", [x], _check.edges("pad", padding, mode, value), device)[0]


def pad_gradient(
    gy: Any,
    x: Any,
    padding: Any,
    mode: str = "zero",
    value: float = 0.0,
    *,
    device: str | None = None,
) -> tuple[Any, ...]:
    """Gradient by x."""
    return _gradient("pad2d", gy, [x], _check.edges("pad", padding, mode, value), device)


def _around(x: Any, top: int, left: int, height: int, width: int) -> tuple[Any, Any]:
    """The negative padding that leaves a part."""
    rows, columns = _image_size("crop", x)
    top, left = _check.integer("crop", "top", top, 0), _check.integer("crop", "left", left, 0)
    bottom = top + _check.integer("crop", "height", height)
    right = left + _check.integer("crop", "width", width)
    if bottom > rows or right > columns:
        raise ShapeError(
            f"[crop] rows {top}..{bottom} and columns {left}..{right} reach beyond the image, "
            f"which is {rows} x {columns}"
        )
    return (-top, bottom - rows), (-left, right - columns)


def crop(x: Any, top: int, left: int, height: int, width: int, *, device: str | None = None) -> Any:
    """Rows `top` to `top + height` and columns `left` to `left + width` of images x."""
    return pad(x, _around(x, top, left, height, width), device=device)


def crop_gradient(
    gy: Any, x: Any, top: int, left: int, height: int, width: int, *, device: str | None = None
) -> tuple[Any, ...]:
    """Gradient by x."""
    return pad_gradient(gy, x, _around(x, top, left, height, width), device=device)
