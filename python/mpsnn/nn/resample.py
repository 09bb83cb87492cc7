"""Resizing, padding and cropping of images."""

from __future__ import annotations

from typing import Any

from mpsnn import _check, ops
from mpsnn.nn.module import Module


class Resize(Module):
    """Images of another size (MPSNNResizeBilinear, MPSCNNUpsampling*, ONNX Resize).

    `(N, H, W, C)` to `(N, *size, C)`. Nearest takes pixel floor(i H / H'), as PyTorch's "nearest".
    Bilinear blends pixels at (i + 1/2) H / H' - 1/2, within the image (half-pixel centres), or with
    `align_corners` at i (H - 1) / (H' - 1). Nothing is filtered when an image shrinks.

    Args:
        size: pixels, an int or (height, width).
        mode: "nearest" or "bilinear".
        align_corners: whether the corners' pixels meet; of "bilinear" alone.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
    """

    is_layer = True

    def __init__(self, size: Any, mode: str = "nearest", align_corners: bool = False) -> None:
        super().__init__()
        me = "Resize"
        self.attrs = {
            "size": _check.pair(me, "size", size),
            **_check.resampling(me, mode, align_corners),
        }

    def forward(self, x: Any) -> Any:
        """Images to images of `size`."""
        return ops.apply("resize2d", [x], self.attrs)[0]


class Upsample(Module):
    """Images larger by whole factors (MPSCNNUpsamplingNearest, MPSCNNUpsamplingBilinear).

    `(N, H, W, C)` to `(N, H sh, W sw, C)`, pixels as of Resize.

    Args:
        scale_factor: an int or (vertical, horizontal).
        mode: "nearest" or "bilinear".
        align_corners: as of Resize.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
    """

    is_layer = True

    def __init__(
        self, scale_factor: Any, mode: str = "nearest", align_corners: bool = False
    ) -> None:
        super().__init__()
        me = "Upsample"
        self.scale_factor = _check.pair(me, "scale_factor", scale_factor)
        self.attrs = _check.resampling(me, mode, align_corners)

    def forward(self, x: Any) -> Any:
        """Images to larger images."""
        return ops.upsample(x, self.scale_factor, **self.attrs)


class Pad(Module):
    """Rows and columns around images (MPSNNPad, ONNX Pad).

    `(N, H, W, C)` to `(N, H + top + bottom, W + left + right, C)`.

    Args:
        padding: an int, (height, width), or ((top, bottom), (left, right)); negative amounts crop.
        mode: "zero"; "constant", which is `value`; "reflect" without repeating the outermost pixel,
            less than the image's size; "edge", which repeats it.
        value: of "constant".

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
        ShapeError: when the layer meets an image that is too small.
    """

    is_layer = True

    def __init__(self, padding: Any, mode: str = "zero", value: float = 0.0) -> None:
        super().__init__()
        self.attrs = _check.edges("Pad", padding, mode, value)

    def forward(self, x: Any) -> Any:
        """Images to padded images."""
        return ops.apply("pad2d", [x], self.attrs)[0]


class Crop(Module):
    """The same part of each image, `(N, H, W, C)` to `(N, height, width, C)`.

    Args:
        top, left: the first row and column that stay.
        height, width: how many stay.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
        ShapeError: the part reaches beyond the image.
    """

    is_layer = True

    def __init__(self, top: int, left: int, height: int, width: int) -> None:
        super().__init__()
        me = "Crop"
        self.part = (
            _check.integer(me, "top", top, 0),
            _check.integer(me, "left", left, 0),
            _check.integer(me, "height", height),
            _check.integer(me, "width", width),
        )

    def forward(self, x: Any) -> Any:
        """Images to parts of them."""
        return ops.crop(x, *self.part)
