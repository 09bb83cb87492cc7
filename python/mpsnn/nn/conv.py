"""Convolution."""

from __future__ import annotations

import math
from typing import Any

from mpsnn import _check, ops
from mpsnn.nn.module import Module, weight_and_bias


class Conv2d(Module):
    """2-D convolution over images (MPSCNNConvolution, ONNX Conv).

    `(N, H, W, in_channels)` to `(N, H', W', out_channels)`; weight `(out, kh, kw, in / groups)`,
    bias
    `(out)`, both drawn as in PyTorch: uniform in +-1/sqrt(in / groups * kh * kw).

    Args:
        in_channels, out_channels: channels, multiples of `groups`.
        kernel_size, stride, dilation: pixels, an int or (height, width).
        padding: "valid", "same" (the odd pixel at the bottom and right), or zeros on each side.
        groups: channels are convolved in this many separate groups.
        bias: whether there is one.
        weights: an array, `f(shape, generator)` or a `DataSource`, instead of the default
            distribution.
        accumulator: "float32"; "float16" permits half accumulation in a float16 graph.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
        ShapeError: `weights` has another shape.
    """

    is_layer = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: str | int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        weights: Any = None,
        accumulator: str | None = None,
    ) -> None:
        super().__init__()
        me = "Conv2d"
        inside = _check.integer(me, "in_channels", in_channels)
        outside = _check.integer(me, "out_channels", out_channels)
        kernel = _check.pair(me, "kernel_size", kernel_size)
        groups = _check.integer(me, "groups", groups)
        if inside % groups or outside % groups:
            raise ValueError(f"[{me}] groups {groups} must divide {inside} and {outside} channels")
        self.attrs: dict[str, Any] = {
            "stride": _check.pair(me, "stride", stride),
            "dilation": _check.pair(me, "dilation", dilation),
            "groups": groups,
            **_check.padding(me, padding),
        }
        if accumulator is not None:
            self.attrs["accumulator"] = _check.one_of(
                me, "accumulator", accumulator, ("float16", "float32")
            )
        shape = (outside, *kernel, inside // groups)
        bound = 1 / math.sqrt(shape[1] * shape[2] * shape[3])
        self.weight, self.bias = weight_and_bias(
            self, me, shape, weights, _check.flag(me, "bias", bias), bound
        )

    def forward(self, x: Any) -> Any:
        """Images to images."""
        return ops.apply("conv2d", [x, self.weight, self.bias], self.attrs)[0]
