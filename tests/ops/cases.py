"""THE op case table: every op, its shapes and attributes, and what PyTorch computes for it.

One row serves every device: forward, each gradient, half storage and support are tested from it by
test_ops.py. To add an op, add rows here.

A case's `operands` are (kind, shape): "x" data of the graph's type, "p" a parameter (master type),
"i" class indices. `torch` gets float64 tensors in mpsnn's layouts and returns the output (for a
loss: the scalar).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F

T = torch.Tensor


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    name: str
    op: str
    operands: tuple[tuple[str, tuple[int, ...]], ...]
    torch: Callable[..., T]
    attrs: dict[str, Any] = field(default_factory=dict)
    classes: int = 0
    long_sum: bool = False  # over 1,000 terms: tolerance 1e-4
    training: bool = True
    positive: tuple[int, ...] = ()  # operands that must be positive
    distinct: bool = False  # no two equal values (ties of max pooling)


CASES: list[Case] = []


def case(name: str, op: str, operands: Any, torch: Callable[..., T], **rest: Any) -> None:
    """Append a row."""
    CASES.append(Case(name, op, tuple(operands), torch, **rest))


def nchw(x: T) -> T:
    return x.permute(0, 3, 1, 2)


def nhwc(x: T) -> T:
    return x.permute(0, 2, 3, 1)


def neuron(kind: str, a: float) -> Callable[[T], T]:
    return {
        "relu": F.relu,
        "leaky_relu": lambda x: F.leaky_relu(x, a),
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
    }[kind]


def conv_oracle(
    stride: Any, pads: Any, dilation: Any, groups: int, act: Any = None
) -> Callable[..., T]:
    def compute(x: T, w: T, b: T | None = None) -> T:
        top, left, bottom, right = pads
        padded = F.pad(nchw(x), (left, right, top, bottom))
        y = F.conv2d(padded, nchw(w), b, stride=stride, dilation=dilation, groups=groups)
        y = nhwc(y)
        return y if act is None else act(y)

    return compute


def conv(
    name: str,
    image: tuple[int, ...],
    out: int,
    kernel: Any,
    *,
    stride: Any = (1, 1),
    pads: Any = (0, 0, 0, 0),
    dilation: Any = (1, 1),
    groups: int = 1,
    bias: bool = True,
) -> None:
    channels = image[-1]
    operands: list[Any] = [("x", image), ("p", (out, *kernel, channels // groups))]
    if bias:
        operands.append(("p", (out,)))
    case(
        f"conv2d-{name}",
        "conv2d",
        operands,
        conv_oracle(stride, pads, dilation, groups),
        attrs={"stride": stride, "pads": pads, "dilation": dilation, "groups": groups},
        long_sum=kernel[0] * kernel[1] * channels // groups > 1000
        or image[0] * image[1] * image[2] > 1000,
    )


conv("1x1", (2, 5, 6, 3), 4, (1, 1))
conv("3x3-same", (2, 7, 6, 4), 8, (3, 3), pads=(1, 1, 1, 1))
conv("5x5-one-channel", (3, 12, 12, 1), 32, (5, 5), pads=(2, 2, 2, 2))
conv("5x5-wide", (2, 14, 14, 32), 64, (5, 5), pads=(2, 2, 2, 2))
conv("3x3-wide", (3, 19, 18, 16), 48, (3, 3), pads=(1, 1, 1, 1))
conv("3x3-wide-asymmetric", (1, 34, 33, 32), 16, (3, 3), pads=(0, 2, 1, 0), bias=False)
conv("5x5-wide-valid", (2, 17, 18, 16), 32, (5, 5))
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

for shape, out in (
    ((4, 10), 3),
    ((64, 64), 64),
    ((1, 7), 1),
    ((33, 130), 17),
    ((5, 1200), 6),
    ((8, 600), 512),
    ((3, 4, 6), 5),
    ((2, 3, 3, 8), 4),
):
    case(
        f"linear-{'x'.join(map(str, shape))}-{out}",
        "linear",
        [("x", shape), ("p", (out, shape[-1])), ("p", (out,))],
        lambda x, w, b: F.linear(x, w, b),
        long_sum=shape[-1] > 1000,
    )
case("linear-no-bias", "linear", [("x", (6, 9)), ("p", (4, 9))], lambda x, w: F.linear(x, w))

for kind, a in (("relu", 0.0), ("leaky_relu", 0.1), ("sigmoid", 0.0), ("tanh", 0.0)):
    for shape in ((2, 5, 4, 3), (7, 33)):
        case(
            f"{kind}-{len(shape)}d",
            "neuron",
            [("x", shape)],
            neuron(kind, a),
            attrs={"kind": kind, "a": a},
        )
    # The fused forms exist as attributes, so they are rows too.
    case(
        f"conv2d+{kind}",
        "conv2d",
        [("x", (2, 6, 7, 4)), ("p", (8, 3, 3, 4)), ("p", (8,))],
        conv_oracle((1, 1), (1, 1, 1, 1), (1, 1), 1, neuron(kind, a)),
        attrs={"pads": (1, 1, 1, 1), "neuron": kind, "neuron_a": a},
    )
    case(
        f"linear+{kind}",
        "linear",
        [("x", (9, 20)), ("p", (12, 20)), ("p", (12,))],
        (lambda act: lambda x, w, b: act(F.linear(x, w, b)))(neuron(kind, a)),
        attrs={"neuron": kind, "neuron_a": a},
    )


def max_oracle(kernel: Any, stride: Any, pads: Any, dilation: Any) -> Callable[[T], T]:
    def compute(x: T) -> T:
        top, left, bottom, right = pads
        padded = F.pad(nchw(x), (left, right, top, bottom), value=float("-inf"))
        return nhwc(F.max_pool2d(padded, kernel, stride, dilation=dilation))

    return compute


def avg_oracle(kernel: Any, stride: Any, pads: Any, include: bool) -> Callable[[T], T]:
    def compute(x: T) -> T:
        top, left, bottom, right = pads
        pad = (left, right, top, bottom)
        area = kernel[0] * kernel[1]
        total = F.avg_pool2d(F.pad(nchw(x), pad), kernel, stride) * area
        if include:
            return nhwc(total / area)
        ones = torch.ones_like(nchw(x)).detach()
        return nhwc(total / (F.avg_pool2d(F.pad(ones, pad), kernel, stride) * area))

    return compute


for name, image, kernel, stride, pads, dilation in (
    ("2", (2, 6, 8, 3), (2, 2), (2, 2), (0, 0, 0, 0), (1, 1)),
    ("2-leftover", (2, 7, 9, 32), (2, 2), (2, 2), (0, 0, 0, 0), (1, 1)),
    ("3-stride-2", (2, 9, 8, 17), (3, 3), (2, 2), (1, 1, 1, 1), (1, 1)),
    ("3-overlapping", (1, 6, 6, 4), (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
    ("dilated", (2, 9, 9, 5), (2, 3), (1, 2), (0, 1, 0, 1), (2, 2)),
    ("asymmetric", (2, 5, 5, 2), (2, 2), (2, 2), (0, 0, 1, 1), (1, 1)),
):
    case(
        f"max_pool2d-{name}",
        "max_pool2d",
        [("x", image)],
        max_oracle(kernel, stride, pads, dilation),
        attrs={"kernel": kernel, "stride": stride, "pads": pads, "dilation": dilation},
        distinct=True,
    )
    case(
        f"max_pool2d-{name}+relu",
        "max_pool2d",
        [("x", image)],
        (lambda pool: lambda x: F.relu(pool(x)))(max_oracle(kernel, stride, pads, dilation)),
        attrs={
            "kernel": kernel,
            "stride": stride,
            "pads": pads,
            "dilation": dilation,
            "neuron": "relu",
            "neuron_a": 0.0,
        },
        distinct=True,
    )
    if dilation == (1, 1):
        for include in (True, False):
            case(
                f"avg_pool2d-{name}-{'in' if include else 'ex'}clude",
                "avg_pool2d",
                [("x", image)],
                avg_oracle(kernel, stride, pads, include),
                attrs={
                    "kernel": kernel,
                    "stride": stride,
                    "pads": pads,
                    "count_include_pad": include,
                },
            )


def bn_oracle(training: bool) -> Callable[..., T]:
    def compute(x: T, w: T, b: T, mean: T, var: T) -> T:
        flat = x.reshape(-1, x.shape[-1])
        y = F.batch_norm(flat, mean.clone(), var.clone(), w, b, training, 0.1, 1e-5)
        return y.reshape(x.shape)

    return compute


for shape in ((4, 5, 6, 3), (2, 7, 5, 32), (16, 9), (2, 11, 6)):
    for training in (True, False):
        c = shape[-1]
        case(
            f"batch_norm-{len(shape)}d-{c}-{'training' if training else 'inference'}",
            "batch_norm",
            [("x", shape), ("p", (c,)), ("p", (c,)), ("p", (c,)), ("p", (c,))],
            bn_oracle(training),
            attrs={"epsilon": 1e-5, "momentum": 0.1, "frozen": not training},
            positive=(4,),
        )

case("flatten", "flatten", [("x", (3, 4, 2, 5))], lambda x: x.reshape(3, -1))
case("flatten-1d", "flatten", [("x", (4,))], lambda x: x.reshape(4, 1))
for shape in ((5, 10), (2, 3, 4, 7), (3, 1), (2, 200)):
    case(
        f"softmax-{'x'.join(map(str, shape))}",
        "softmax",
        [("x", shape)],
        lambda x: torch.softmax(x, -1),
    )
case(
    "concat-images",
    "concat",
    [("x", (2, 3, 4, 5)), ("x", (2, 3, 4, 16)), ("x", (2, 3, 4, 1))],
    lambda *parts: torch.cat(parts, -1),
)
case("concat-rows", "concat", [("x", (3, 2)), ("x", (3, 6))], lambda *p: torch.cat(p, -1))
case("concat-one", "concat", [("x", (3, 2))], lambda x: x * 1)
case("add", "add", [("x", (2, 3, 4, 5)), ("x", (2, 3, 4, 5))], lambda a, b: a + b)
case(
    "add-n",
    "add_n",
    [("x", (2, 3, 5)), ("x", (2, 3, 5)), ("x", (2, 3, 5))],
    lambda a, b, c: a + b + c,
)
case("add-n-one", "add_n", [("x", (40, 9))], lambda a: a)
case("add-rows", "add", [("x", (40, 9)), ("x", (40, 9))], lambda a, b: a + b)


def ce_oracle(attrs: dict[str, Any], classes: int) -> Callable[..., T]:
    smoothing = attrs.get("label_smoothing", 0.0)
    ignore = attrs.get("ignore_index", -100)
    reduction = attrs.get("reduction", "mean")

    def compute(x: T, target: T, image: T | None = None) -> T:
        weight = torch.tensor(attrs["weight"], dtype=x.dtype) if attrs.get("weight") else None
        n = x.shape[0]
        z = x.reshape(n, -1, classes).transpose(1, 2)
        per_image = torch.ones(n, dtype=x.dtype) if image is None else image
        if target.is_floating_point():
            t = target.reshape(n, -1, classes).transpose(1, 2)
            losses = F.cross_entropy(
                z, t, weight=weight, label_smoothing=smoothing, reduction="none"
            )
            w = per_image[:, None].expand_as(losses)
        else:
            t = target.reshape(n, -1)
            losses = F.cross_entropy(
                z,
                t,
                weight=weight,
                label_smoothing=smoothing,
                ignore_index=ignore,
                reduction="none",
            )
            valid = t != ignore
            w = per_image[:, None] * valid
            if weight is not None:
                w = w * weight[t.clamp(min=0)]
        # cross_entropy has put the class weight into each loss; the image's is ours.
        total = (losses * per_image[:, None]).sum()
        return total if reduction == "sum" else total / w.sum()

    return compute


for name, shape, soft, weighted, attrs in (
    ("rows", (8, 10), False, False, {}),
    ("one-class-row", (3, 2), False, True, {}),
    ("images", (2, 3, 4, 6), False, False, {}),
    ("singleton", (4, 1, 1, 5), False, True, {}),
    ("sum", (6, 10), False, True, {"reduction": "sum"}),
    ("smooth", (8, 10), False, False, {"label_smoothing": 0.1}),
    ("class-weights", (8, 4), False, True, {"weight": [0.5, 1.0, 2.0, 0.25]}),
    ("smooth-weights", (8, 4), False, True, {"label_smoothing": 0.2, "weight": [0.5, 1.0, 2.0,
    0.2]}),
    ("ignore", (8, 10), False, True, {"ignore_index": 3}),
    ("ignore-all-options", (2, 6, 4), False, True,
     {"ignore_index": 1, "weight": [1.0, 2.0, 3.0, 0.5], "label_smoothing": 0.1}),
    ("soft", (8, 10), True, True, {}),
    ("soft-smooth-weights", (8, 4), True, True,
     {"label_smoothing": 0.1, "weight": [0.5, 1.0, 2.0, 0.2]}),
    ("soft-sum", (2, 5, 4), True, False, {"reduction": "sum"}),
):  # fmt: skip
    classes = shape[-1]
    positions = (shape[0], *[s for s in shape[1:-1] if s != 1])
    ops: list[Any] = [("x", shape), ("t", shape) if soft else ("i", positions)]
    if weighted:
        ops.append(("w", (shape[0],)))
    case(
        f"softmax_cross_entropy-{name}",
        "softmax_cross_entropy",
        ops,
        ce_oracle(attrs, classes),
        attrs=attrs,
        classes=classes,
    )


def mse_oracle(reduction: str) -> Callable[..., T]:
    def compute(x: T, target: T, image: T | None = None) -> T:
        n = x.shape[0]
        w = torch.ones(n, dtype=x.dtype) if image is None else image
        losses = ((x - target) ** 2).reshape(n, -1) * w[:, None]
        if reduction == "sum":
            return losses.sum()
        return losses.sum() / (w.sum() * losses.shape[1])

    return compute


for name, shape, weighted, reduction in (
    ("rows", (6, 3), False, "mean"),
    ("images", (2, 4, 5, 3), True, "mean"),
    ("sum", (5, 7), True, "sum"),
):
    ops = [("x", shape), ("t", shape)]
    if weighted:
        ops.append(("w", (shape[0],)))
    case(f"mse-{name}", "mse", ops, mse_oracle(reduction), attrs={"reduction": reduction})

case("subtract", "subtract", [("x", (2, 3, 4, 5)), ("x", (2, 3, 4, 5))], lambda a, b: a - b)
case("multiply", "multiply", [("x", (7, 33)), ("x", (7, 33))], lambda a, b: a * b)
for shape in ((3, 4, 5, 2), (6, 9), (4,)):
    case(
        f"image_mean-{len(shape)}d",
        "image_mean",
        [("x", shape)],
        lambda x: x.reshape(x.shape[0], -1).mean(1),
    )
for reduction in ("mean", "sum"):
    case(
        f"given_loss-{reduction}",
        "given_loss",
        [("x", (6,)), ("w", (6,))],
        (lambda mean: lambda x, w: (x * w).sum() / (w.sum() if mean else 1))(reduction == "mean"),
        attrs={"reduction": reduction},
    )
case(
    "total_loss",
    "total_loss",
    [("w", (1,)), ("w", (1,))],
    lambda a, b: (2 * a + 0.25 * b).sum(),
    attrs={"weights": [2.0, 0.25]},
)
