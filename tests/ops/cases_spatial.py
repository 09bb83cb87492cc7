"""More rows of the case table: convolutions, pooling and resampling, over images and sequences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from cases import T, case, conv, max_oracle, nchw, neuron, nhwc

conv("1x1", (2, 5, 6, 3), 4, (1, 1))
conv("3x3-same", (2, 7, 6, 4), 8, (3, 3), pads=(1, 1, 1, 1))
conv("5x5-one-channel", (3, 12, 12, 1), 32, (5, 5), pads=(2, 2, 2, 2))
conv("5x5-wide", (2, 14, 14, 32), 64, (5, 5), pads=(2, 2, 2, 2))
conv("3x3-wide", (3, 19, 18, 16), 48, (3, 3), pads=(1, 1, 1, 1))
conv("3x3-wide-asymmetric", (1, 34, 33, 32), 16, (3, 3), pads=(0, 2, 1, 0), bias=False)
conv("5x5-wide-valid", (2, 17, 18, 16), 32, (5, 5))
conv("wide-stride", (2, 13, 12, 16), 24, (3, 3), stride=(2, 3), pads=(1, 0, 1, 2))
conv("wide-dilation", (2, 12, 11, 32), 8, (3, 3), dilation=(2, 3), pads=(2, 3, 2, 3))
conv("1x7-wide", (2, 9, 9, 32), 16, (1, 7), pads=(0, 3, 0, 3))
conv("7x1-wide-valid", (2, 14, 9, 16), 48, (7, 1))
conv("1x3-wide", (2, 9, 14, 32), 16, (1, 3), pads=(0, 1, 0, 1))
conv("3x1-wide-asymmetric", (2, 13, 9, 16), 32, (3, 1), pads=(0, 0, 2, 0), bias=False)
conv("odd-channels", (2, 9, 8, 5), 7, (3, 2), pads=(1, 0, 1, 1))
conv("stride", (2, 11, 10, 3), 5, (3, 3), stride=(2, 3), pads=(1, 1, 1, 1))
conv("asymmetric", (1, 8, 9, 3), 4, (4, 3), pads=(0, 2, 3, 1))
conv("dilation", (2, 12, 11, 4), 6, (3, 3), dilation=(2, 3), pads=(2, 3, 2, 3))
conv("groups", (2, 6, 7, 8), 12, (3, 3), groups=4, pads=(1, 1, 1, 1))
conv("depthwise", (2, 8, 8, 16), 16, (3, 3), groups=16, pads=(1, 1, 1, 1))
conv("groups-stride-dilation", (1, 13, 13, 6), 9, (3, 3), groups=3, stride=(2, 2), dilation=(2, 2))
conv("no-bias", (2, 6, 6, 8), 16, (3, 3), bias=False)
conv("whole-image", (3, 4, 4, 6), 10, (4, 4))
conv("1d", (2, 1, 50, 6), 8, (1, 5), stride=(1, 5))
conv("one-pixel", (1, 1, 1, 3), 2, (1, 1))

# Where a whole group is narrower than a vector, and where the last pixels meet no window.
conv("groups-of-one-output", (2, 7, 6, 12), 6, (3, 3), groups=6, pads=(1, 1, 1, 1))
conv("groups-wide", (2, 9, 9, 64), 32, (3, 3), groups=2, pads=(1, 1, 1, 1))
conv("depthwise-multiplier", (2, 6, 7, 5), 15, (3, 2), groups=5, pads=(0, 1, 2, 0))
conv("depthwise-stride", (2, 9, 8, 32), 32, (3, 3), groups=32, stride=(2, 2), pads=(0, 0, 1, 1))
conv("depthwise-dilation", (1, 11, 12, 8), 8, (3, 3), groups=8, dilation=(2, 3), pads=(2, 3, 2, 3))
conv("depthwise-5x5", (2, 6, 9, 16), 16, (5, 5), groups=16, pads=(2, 2, 2, 2))
conv("depthwise-vectors-dilation", (2, 9, 9, 16), 16, (3, 3), groups=16, dilation=(2, 3),
     pads=(2, 3, 1, 2))  # fmt: skip
conv(
    "depthwise-7x7-stride", (1, 9, 11, 32), 32, (7, 7), groups=32, stride=(2, 3), pads=(3, 3, 2, 3)
)
conv("stride-leftover", (2, 10, 12, 4), 6, (3, 2), stride=(3, 4))
conv("dilation-stride-asymmetric", (2, 11, 9, 3), 5, (2, 3), stride=(2, 1), dilation=(3, 2),
     pads=(3, 0, 1, 2))  # fmt: skip
conv("asymmetric-groups", (2, 6, 5, 6), 4, (3, 3), groups=2, pads=(2, 0, 0, 1), bias=False)


def conv1d_oracle(stride: int, pads: Any, dilation: int, groups: int) -> Callable[..., T]:
    def compute(x: T, w: T, b: T | None = None) -> T:
        padded = F.pad(x.transpose(1, 2), pads)
        y = F.conv1d(padded, w.transpose(1, 2), b, stride, 0, dilation, groups)
        return y.transpose(1, 2)

    return compute


for name, sequence, out, kernel, stride, pads, dilation, groups, bias in (
    ("3", (2, 17, 6), 8, 3, 1, (1, 1), 1, 1, True),
    ("causal", (3, 12, 4), 5, 3, 1, (4, 0), 2, 1, True),
    ("stride", (2, 23, 3), 7, 5, 3, (2, 1), 1, 1, False),
    ("groups-dilation", (2, 20, 8), 12, 3, 2, (2, 2), 3, 4, True),
    ("depthwise", (2, 16, 16), 16, 7, 1, (3, 3), 1, 16, True),
    ("one-step", (3, 1, 5), 4, 1, 1, (0, 0), 1, 1, True),
):
    operands: list[Any] = [("x", sequence), ("p", (out, kernel, sequence[-1] // groups))]
    case(
        f"conv1d-{name}",
        "conv2d",
        operands + [("p", (out,))] * bias,
        conv1d_oracle(stride, pads, dilation, groups),
        attrs={
            "stride": (stride,),
            "pads": (0, pads[0], 0, pads[1]),
            "dilation": (dilation,),
            "groups": groups,
        },
    )


def transposed_oracle(
    stride: Any, pads: Any, more: Any, dilation: Any, groups: int, act: Any = None
) -> Callable[..., T]:
    def compute(x: T, w: T, b: T | None = None) -> T:
        out, kh, kw, per_group = w.shape
        grouped = w.reshape(groups, out // groups, kh, kw, per_group).permute(0, 4, 1, 2, 3)
        theirs = grouped.reshape(x.shape[-1], out // groups, kh, kw)
        # PyTorch leaves out the same on both sides; the rest is cut off, or added as bias alone.
        whole = F.conv_transpose2d(nchw(x), theirs, None, stride, 0, 0, groups, dilation)
        whole = F.pad(whole, (0, more[1], 0, more[0]))
        if b is not None:
            whole = whole + b[:, None, None]
        top, left, bottom, right = pads
        y = nhwc(whole[..., top : whole.shape[2] - bottom, left : whole.shape[3] - right])
        return y if act is None else act(y)

    return compute


def transposed(
    name: str,
    image: tuple[int, ...],
    out: int,
    kernel: Any,
    *,
    stride: Any = (1, 1),
    pads: Any = (0, 0, 0, 0),
    more: Any = (0, 0),
    dilation: Any = (1, 1),
    groups: int = 1,
    bias: bool = True,
    fused: tuple[str, float, float] | None = None,
) -> None:
    operands: list[Any] = [("x", image), ("p", (out, *kernel, image[-1] // groups))]
    attrs = {
        "stride": stride,
        "pads": pads,
        "output_padding": more,
        "dilation": dilation,
        "groups": groups,
    }
    act = None if fused is None else neuron(*fused)
    if fused is not None:
        attrs.update(zip(("neuron", "neuron_a", "neuron_b"), fused, strict=True))
    case(
        f"conv_transpose2d-{name}",
        "conv_transpose2d",
        operands + [("p", (out,))] * bias,
        transposed_oracle(stride, pads, more, dilation, groups, act),
        attrs=attrs,
        long_sum=kernel[0] * kernel[1] * image[-1] // groups > 1000
        or image[0] * image[1] * image[2] > 1000,
    )


transposed("3x3", (2, 5, 6, 4), 8, (3, 3), pads=(1, 1, 1, 1))
transposed("1x1", (2, 4, 5, 3), 7, (1, 1))
transposed("2x2-stride", (2, 7, 6, 16), 8, (2, 2), stride=(2, 2))
transposed("4x4-stride", (2, 5, 7, 6), 5, (4, 4), stride=(2, 2), pads=(1, 1, 1, 1))
transposed("output-padding", (2, 5, 4, 3), 6, (3, 3), stride=(2, 3), pads=(1, 1, 1, 1), more=(1, 2))
transposed("beyond-the-kernel", (1, 4, 3, 2), 3, (1, 2), stride=(3, 4), more=(2, 1))
transposed("asymmetric", (2, 6, 5, 5), 4, (4, 3), stride=(2, 1), pads=(0, 2, 1, 0))
transposed("dilation", (2, 6, 7, 4), 6, (3, 2), dilation=(2, 3), pads=(1, 0, 2, 1))
transposed("dilation-stride", (2, 5, 4, 4), 6, (3, 3), stride=(3, 2), dilation=(2, 2), more=(1, 0))
transposed("groups", (2, 5, 6, 12), 8, (3, 3), groups=4, stride=(2, 2), pads=(1, 1, 1, 1),
           more=(1, 1))  # fmt: skip
transposed("depthwise", (2, 5, 6, 16), 16, (4, 4), groups=16, stride=(2, 2), pads=(1, 1, 1, 1))
transposed("no-bias", (2, 4, 4, 8), 16, (3, 3), bias=False)
transposed("wide", (2, 14, 14, 32), 64, (3, 3), stride=(2, 2), pads=(1, 1, 0, 0))
transposed("whole-image", (3, 1, 1, 10), 6, (4, 4))
transposed("+relu", (2, 5, 4, 4), 8, (3, 3), stride=(2, 2), fused=("relu", 0.0, 0.0))
transposed("+tanh", (2, 5, 4, 4), 8, (3, 3), fused=("tanh", -1.7, 0.6))
case(
    "conv_transpose1d",
    "conv_transpose2d",
    [("x", (2, 9, 4)), ("p", (6, 5, 4)), ("p", (6,))],
    lambda x, w, b: F.conv_transpose1d(
        x.transpose(1, 2), w.permute(2, 0, 1), b, 2, 2, 1
    ).transpose(1, 2),
    attrs={"stride": (2,), "pads": (2,), "output_padding": (1,)},
)  # fmt: skip

# Padding that would win if it were zero; last windows that reach beyond the padding; sequences.
for name, image, kernel, stride, pad, dilation in (
    ("dilated-padded", (2, 9, 9, 5), (2, 3), (2, 2), (1, 1), (2, 3)),
    ("dilated-vector", (2, 12, 11, 16), (3, 3), (2, 1), (1, 1), (2, 2)),
    ("all-sides", (2, 7, 6, 3), (3, 3), (2, 2), (1, 1), (1, 1)),
    ("dilated-stride-3", (1, 14, 13, 7), (3, 2), (3, 3), (0, 0), (3, 4)),
    ("dilated-stride-2", (1, 15, 22, 12), (3, 3), (2, 2), (1, 1), (4, 4)),
):
    case(
        f"max_pool2d-negative-{name}",
        "max_pool2d",
        [("x", image)],
        max_oracle(kernel, stride, (*pad, *pad), dilation),
        attrs={"kernel": kernel, "stride": stride, "pads": pad, "dilation": dilation},
        distinct=True,
        negative=True,
    )


def l2_oracle(kernel: Any, stride: Any, pads: Any, ceil: bool) -> Callable[[T], T]:
    def compute(x: T) -> T:
        top, left, bottom, right = pads
        squares = F.pad(nchw(x) ** 2, (left, right, top, bottom))
        # Not F.lp_pool2d: it scales the windows that reach beyond the image.
        ones = torch.ones_like(squares[:1, :1])[..., :1, :1].expand(x.shape[-1], 1, *kernel)
        if ceil:
            squares = F.pad(squares, (0, stride[1] - 1, 0, stride[0] - 1))
        return nhwc(F.conv2d(squares, ones, stride=stride, groups=x.shape[-1]).sqrt())

    return compute


for name, image, kernel, stride, pads, ceil in (
    ("2", (2, 6, 8, 3), (2, 2), (2, 2), (0, 0, 0, 0), False),
    ("3-overlapping", (1, 6, 6, 20), (3, 3), (1, 1), (1, 1, 1, 1), False),
    ("asymmetric", (2, 5, 7, 2), (3, 2), (2, 3), (0, 1, 1, 0), False),
    ("ceil", (2, 8, 7, 5), (3, 3), (2, 2), (0, 0, 0, 0), True),
    ("global", (3, 5, 4, 6), (5, 4), (1, 1), (0, 0, 0, 0), False),
):
    case(
        f"l2_pool2d-{name}",
        "l2_pool2d",
        [("x", image)],
        l2_oracle(kernel, stride, pads, ceil),
        attrs={"kernel": kernel, "stride": stride, "pads": pads, "ceil_mode": ceil},
    )

for name, image, kernel, stride, pad in (
    ("leftover", (2, 8, 7, 3), (3, 3), (2, 2), (0, 0)),
    ("padded", (2, 9, 10, 16), (3, 2), (2, 3), (1, 1)),
    ("none-behind", (2, 5, 5, 4), (2, 2), (3, 4), (1, 1)),
    ("larger-than-the-image", (1, 2, 3, 2), (3, 4), (2, 2), (0, 0)),
    ("exact", (2, 6, 6, 4), (2, 2), (2, 2), (0, 0)),
    ("tall", (1, 40, 6, 5), (35, 3), (1, 1), (2, 1)),
):
    rest = {"kernel": kernel, "stride": stride, "pads": pad, "ceil_mode": True}
    case(
        f"max_pool2d-ceil-{name}",
        "max_pool2d",
        [("x", image)],
        (lambda k, s, p: lambda x: nhwc(F.max_pool2d(nchw(x), k, s, p, ceil_mode=True)))(
            kernel, stride, pad
        ),
        attrs=rest,
        distinct=True,
        negative=True,
    )
    for include in (True, False):
        case(
            f"avg_pool2d-ceil-{name}-{'in' if include else 'ex'}clude",
            "avg_pool2d",
            [("x", image)],
            (lambda k, s, p, i: lambda x: nhwc(F.avg_pool2d(nchw(x), k, s, p, True, i)))(
                kernel, stride, pad, include
            ),
            attrs={**rest, "count_include_pad": include},
        )

for name, sequence, size, step, pad, ceil in (
    ("2", (2, 9, 5), 2, 2, 0, False),
    ("overlapping", (3, 12, 16), 3, 1, 1, False),
    ("ceil", (2, 10, 3), 3, 2, 1, True),
):
    rest = {"kernel": (size,), "stride": (step,), "pads": (pad,), "ceil_mode": ceil}
    for op, pooled in (
        (
            "max",
            (lambda k, s, p, c: lambda x: F.max_pool1d(x, k, s, p, ceil_mode=c))(
                size, step, pad, ceil
            ),
        ),
        ("avg", (lambda k, s, p, c: lambda x: F.avg_pool1d(x, k, s, p, c))(size, step, pad, ceil)),
        (
            "l2",
            (
                lambda k, s, p: (
                    lambda x: (
                        F.avg_pool1d(F.pad(x**2, (p, p + s)), k, s)[
                            ..., : (x.shape[-1] + 2 * p - k) // s + 1
                        ]
                        * k
                    ).sqrt()
                )
            )(size, step, pad)
            if not ceil
            else None,
        ),
    ):
        if pooled is not None:
            case(
                f"{op}_pool1d-{name}",
                f"{op}_pool2d",
                [("x", sequence)],
                (lambda f: lambda x: f(x.transpose(1, 2)).transpose(1, 2))(pooled),
                attrs=rest,
                distinct=op == "max",
            )
case(
    "max_pool1d-dilated",
    "max_pool2d",
    [("x", (2, 17, 6))],
    lambda x: F.max_pool1d(x.transpose(1, 2), 3, 2, 1, 4).transpose(1, 2),
    attrs={"kernel": (3,), "stride": (2,), "pads": (1,), "dilation": (4,)},
    distinct=True,
    negative=True,
)
case(
    "avg_pool2d-global",
    "avg_pool2d",
    [("x", (3, 5, 7, 6))],
    lambda x: x.mean((1, 2), keepdim=True),
    attrs={"kernel": (5, 7)},
)
case(
    "max_pool2d-global",
    "max_pool2d",
    [("x", (2, 3, 4, 3))],
    lambda x: x.amax((1, 2), keepdim=True),
    attrs={"kernel": (3, 4)},
    distinct=True,
)


def resize_oracle(size: Any, mode: str, align: bool) -> Callable[[T], T]:
    def compute(x: T) -> T:
        corners = align if mode == "bilinear" else None
        return nhwc(F.interpolate(nchw(x), size, mode=mode, align_corners=corners))

    return compute


for image, size in (
    ((2, 4, 5, 3), (8, 10)),
    ((2, 3, 4, 16), (9, 4)),
    ((1, 7, 6, 5), (11, 13)),
    ((2, 9, 8, 4), (4, 3)),
    ((2, 5, 6, 2), (5, 6)),
    ((2, 1, 3, 4), (4, 1)),
    ((2, 6, 1, 1), (1, 5)),
):
    for mode, align in (("nearest", False), ("bilinear", False), ("bilinear", True)):
        case(
            f"resize2d-{image[1]}x{image[2]}-{size[0]}x{size[1]}-{mode}{'-corners' * align}",
            "resize2d",
            [("x", image)],
            resize_oracle(size, mode, align),
            attrs={"size": size, "mode": mode, "align_corners": align},
        )
for mode in ("nearest", "linear"):
    case(
        f"resize1d-{mode}",
        "resize2d",
        [("x", (2, 7, 3))],
        (lambda m: lambda x: F.interpolate(x.transpose(1, 2), 12, mode=m).transpose(1, 2))(mode),
        attrs={"size": (12,), "mode": "nearest" if mode == "nearest" else "bilinear"},
    )


def pad_oracle(sides: Any, mode: str, value: float) -> Callable[[T], T]:
    top, left, bottom, right = sides
    theirs = "replicate" if mode == "edge" else mode
    fill = value if mode == "constant" else None
    return lambda x: nhwc(F.pad(nchw(x), (left, right, top, bottom), theirs, fill))


for name, image, sides, mode, value in (
    ("zero", (2, 4, 5, 3), (1, 2, 0, 3), "constant", 0.0),
    ("value", (2, 3, 4, 16), (2, 0, 1, 1), "constant", -1.5),
    ("reflect", (2, 5, 4, 3), (4, 1, 2, 3), "reflect", 0.0),
    ("reflect-one-side", (1, 3, 6, 17), (0, 5, 2, 0), "reflect", 0.0),
    ("edge", (2, 3, 2, 4), (5, 1, 2, 4), "edge", 0.0),
    ("crop", (2, 7, 8, 5), (-1, -2, -3, -1), "constant", 0.0),
    ("crop-and-pad", (2, 6, 5, 3), (-2, 1, 3, -2), "constant", 0.5),
    ("crop-and-edge", (2, 6, 5, 3), (2, -1, -3, 2), "edge", 0.0),
    ("nothing", (2, 2, 3, 4), (0, 0, 0, 0), "constant", 0.0),
    ("runs", (1, 3, 40, 20), (1, 2, 0, 1), "reflect", 0.0),
):
    case(
        f"pad2d-{name}",
        "pad2d",
        [("x", image)],
        pad_oracle(sides, mode, value),
        attrs={"sides": sides, "mode": mode, "value": value},
    )
case(
    "pad1d-reflect",
    "pad2d",
    [("x", (2, 6, 3))],
    lambda x: F.pad(x.transpose(1, 2), (3, 1), "reflect").transpose(1, 2),
    attrs={"sides": (0, 3, 0, 1), "mode": "reflect"},
)
