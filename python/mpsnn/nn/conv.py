"""Convolution and transposed convolution."""

from __future__ import annotations

import math
from typing import Any

from mpsnn import _check, ops
from mpsnn.nn.module import Module, weight_and_bias


class _Convolution(Module):
    is_layer = True
    op = "conv2d"
    axes = 2

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        groups: int,
        bias: bool,
        weights: Any,
        accumulator: str | None,
    ) -> None:
        super().__init__()
        me = type(self).__name__
        inside = _check.integer(me, "in_channels", in_channels)
        outside = _check.integer(me, "out_channels", out_channels)
        kernel = _check.sizes(me, "kernel_size", kernel_size, self.axes)
        groups = _check.integer(me, "groups", groups)
        if inside % groups or outside % groups:
            raise ValueError(f"[{me}] groups {groups} must divide {inside} and {outside} channels")
        self.attrs: dict[str, Any] = {
            "stride": _check.sizes(me, "stride", stride, self.axes),
            "dilation": _check.sizes(me, "dilation", dilation, self.axes),
            "groups": groups,
            **_check.padding(me, padding, self.axes),
        }
        if accumulator is not None:
            self.attrs["accumulator"] = _check.one_of(
                me, "accumulator", accumulator, ("float16", "float32")
            )
        shape = (outside, *kernel, inside // groups)
        # PyTorch counts the inputs of a weight by its second axis, which a transposed convolution
        # has for outputs.
        fan_in = (inside if self.op == "conv2d" else outside) // groups * math.prod(kernel)
        self.weight, self.bias = weight_and_bias(
            self, me, shape, weights, _check.flag(me, "bias", bias), 1 / math.sqrt(fan_in)
        )

    def forward(self, x: Any) -> Any:
        """Images to images, or sequences to sequences."""
        return ops.apply(self.op, [x, self.weight, self.bias], self.attrs)[0]


class Conv2d(_Convolution):
    """2-D convolution over images (MPSCNNConvolution, ONNX Conv).

    `(N, H, W, in_channels)` to `(N, H', W', out_channels)`, H' = floor((H + top + bottom -
    dilation (kernel - 1) - 1) / stride) + 1, W' alike; weight `(out, kh, kw, in / groups)`, bias
    `(out)`, both drawn as in PyTorch: uniform in +-1/sqrt(in / groups * kh * kw).

    Args:
        in_channels, out_channels: channels, multiples of `groups`.
        kernel_size, stride, dilation: pixels, an int or (height, width).
        padding: "valid", "same" (the odd pixel at the bottom and right), or zeros on each side: an
            int, (height, width), or ((top, bottom), (left, right)).
        groups: channels are convolved in this many separate groups; as many as `in_channels` make a
            depthwise convolution.
        bias: whether there is one.
        weights: an array, `f(shape, generator)` or a `DataSource`, instead of the default
            distribution.
        accumulator: "float32"; "float16" permits half accumulation in a float16 graph.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
        ShapeError: `weights` has another shape.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: Any = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        weights: Any = None,
        accumulator: str | None = None,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups,
                         bias, weights, accumulator)  # fmt: skip


class Conv1d(_Convolution):
    """Convolution over sequences (MPSCNNConvolution on images of height 1, ONNX Conv).

    `(N, T, in_channels)` to `(N, T', out_channels)`, T' = floor((T + before + after -
    dilation (kernel - 1) - 1) / stride) + 1; weight `(out, k, in / groups)`, bias `(out)`, both
    drawn as in PyTorch: uniform in +-1/sqrt(in / groups * k).

    Args:
        in_channels, out_channels: channels, multiples of `groups`.
        kernel_size, stride, dilation: steps.
        padding: "valid", "same" (the odd step at the end), or zeros at both ends: an int or
            ((before, after),).
        groups, bias, weights, accumulator: as of Conv2d.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
        ShapeError: `weights` has another shape.
    """

    axes = 1

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int],
        stride: int | tuple[int] = 1,
        padding: Any = 0,
        dilation: int | tuple[int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        weights: Any = None,
        accumulator: str | None = None,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups,
                         bias, weights, accumulator)  # fmt: skip


class ConvTranspose2d(_Convolution):
    """Transposed convolution of images: the gradient of a Conv2d by its input, with a bias.

    (MPSCNNConvolutionTranspose, ONNX ConvTranspose.)

    `(N, H, W, in_channels)` to `(N, H', W', out_channels)`, H' = (H - 1) stride - top - bottom +
    dilation (kernel - 1) + 1 + output_padding, W' alike; weight `(out, kh, kw, in / groups)`, bias
    `(out)`, both drawn as in PyTorch: uniform in +-1/sqrt(out / groups * kh * kw).

    Args:
        in_channels, out_channels: channels, multiples of `groups`.
        kernel_size, dilation: pixels, an int or (height, width).
        stride: pixels between the outputs of neighbouring inputs.
        padding: rows and columns left out on each side: an int, (height, width), or ((top, bottom),
            (left, right)); "valid" leaves out none; "same" gives `(H stride, W stride)`.
        output_padding: rows and columns more at the bottom and right, fewer than `stride`.
        groups, bias, weights, accumulator: as of Conv2d.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
        ShapeError: `weights` has another shape.
    """

    op = "conv_transpose2d"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: Any = 0,
        output_padding: int | tuple[int, int] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | tuple[int, int] = 1,
        *,
        weights: Any = None,
        accumulator: str | None = None,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups,
                         bias, weights, accumulator)  # fmt: skip
        me = type(self).__name__
        self.attrs.update(_check.output_padding(me, output_padding, self.attrs["stride"], padding))
