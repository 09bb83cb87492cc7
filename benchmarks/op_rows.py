"""The rows of `ops.py`: each op at a shape of Inception V3 or YOLO, and the same in PyTorch.

PyTorch's functions get images and weights of convolutions as (N, C, H, W), in the layout that is
measured; operands of rows that are not `images` come as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F

T = torch.Tensor


@dataclass(frozen=True)
class Row:
    """One op at one shape.

    Operands are (kind, shape): "x" data, "p" a parameter, "s" one without a gradient, "t" targets,
    "i" class indices in 0..classes-1. `products` marks convolutions and dense layers.
    """

    name: str
    op: str
    operands: tuple[tuple[str, tuple[int, ...]], ...]
    torch: Callable[..., T]
    attrs: dict[str, Any] = field(default_factory=dict)
    images: bool = True
    products: bool = False
    positive: bool = False  # all data in 0.5..1.5
    classes: int = 0


Kind = tuple[str, str, dict[str, Any], Callable[..., T]]
ROWS: list[Row] = []
BATCH = 16
IMAGE = (BATCH, 35, 35, 288)  # a block of Inception V3: 5.6 million elements
GRID = (BATCH, 13, 13, 125)  # what tiny YOLO returns: 5 anchors, 20 classes


def row(name: str, op: str, operands: Any, torch: Callable[..., T], **rest: Any) -> None:
    """Append a row."""
    ROWS.append(Row(name, op, tuple(operands), torch, **rest))


def channels(t: T) -> T:
    """A vector along channels, for images."""
    return t.view(-1, 1, 1)


def convolution(
    name: str, image: tuple[int, ...], out: int, kernel: tuple[int, int],
    stride: int = 1, pads: tuple[int, int] = (0, 0), groups: int = 1,
) -> None:  # fmt: skip
    """Append a convolution with a bias."""
    row(
        name,
        "conv2d",
        [("x", image), ("p", (out, *kernel, image[-1] // groups)), ("p", (out,))],
        lambda x, w, b: F.conv2d(x, w, b, stride, pads, groups=groups),
        attrs={"stride": (stride, stride), "pads": (*pads, *pads), "groups": groups},
        products=True,
    )


convolution("conv 1x1", (8, 35, 35, 288), 64, (1, 1))
convolution("conv 3x3", (8, 35, 35, 64), 96, (3, 3), pads=(1, 1))
convolution("conv 5x5", (8, 35, 35, 48), 64, (5, 5), pads=(2, 2))
convolution("conv 1x7", (8, 17, 17, 128), 128, (1, 7), pads=(0, 3))
convolution("conv 3x3 /2", (4, 35, 35, 288), 384, (3, 3), stride=2)
convolution("conv 3x3 YOLO", (2, 26, 26, 256), 512, (3, 3), pads=(1, 1))
convolution("conv 3x3 YOLO first", (2, 416, 416, 3), 16, (3, 3), pads=(1, 1))
convolution("conv 3x3 depthwise", (8, 35, 35, 288), 288, (3, 3), pads=(1, 1), groups=288)
row(
    "transposed conv 4x4 /2",
    "conv_transpose2d",
    [("x", (4, 26, 26, 128)), ("p", (64, 4, 4, 128)), ("p", (64,))],
    lambda x, w, b: F.conv_transpose2d(x, w.transpose(0, 1), b, 2, 1),
    attrs={"stride": (2, 2), "pads": (1, 1, 1, 1)},
    products=True,
)
row(
    "dense",
    "linear",
    [("x", (64, 2048)), ("p", (1000, 2048)), ("p", (1000,))],
    F.linear,
    images=False,
    products=True,
)

NEURONS: list[Kind] = [
    ("relu", "relu", {"a": 0.0}, F.relu),
    ("leaky relu", "leaky_relu", {"a": 0.1}, lambda x: F.leaky_relu(x, 0.1)),
    ("sigmoid", "sigmoid", {}, torch.sigmoid),
    ("tanh", "tanh", {"a": 1.0, "b": 1.0}, torch.tanh),
    ("softplus", "softplus", {"a": 1.0, "b": 1.0}, F.softplus),
    ("softsign", "softsign", {}, F.softsign),
    ("elu", "elu", {"a": 1.0, "b": 1.0, "c": 1.0}, F.elu),
    ("relu 6", "relun", {"a": 0.0, "b": 6.0}, F.relu6),
    ("hard sigmoid", "hard_sigmoid", {"a": 1 / 6, "b": 0.5}, F.hardsigmoid),
    ("hard swish", "hard_swish", {}, F.hardswish),
    ("gelu", "gelu", {}, F.gelu),
    ("gelu tanh", "gelu_tanh", {}, lambda x: F.gelu(x, approximate="tanh")),
    ("absolute", "absolute", {}, torch.abs),
]
for title, kind, attrs, function in NEURONS:
    row(title, "neuron", [("x", IMAGE)], function, attrs={"kind": kind, **attrs})
POSITIVE_NEURONS: list[Kind] = [
    ("power 0.7", "power", {"a": 1.0, "b": 0.0, "c": 0.7}, lambda x: x**0.7),
    ("exp", "exponential", {"a": 1.0, "b": 0.0, "c": -1.0}, torch.exp),
    ("log", "logarithm", {"a": 1.0, "b": 0.0, "c": -1.0}, torch.log),
    ("linear neuron", "linear", {"a": 2.0, "b": 0.5}, lambda x: 2 * x + 0.5),
]
for title, kind, attrs, function in POSITIVE_NEURONS:
    row(title, "neuron", [("x", IMAGE)], function, attrs={"kind": kind, **attrs}, positive=True)
row("prelu", "prelu", [("x", IMAGE), ("p", (288,))], F.prelu)

row(
    "max pool 3x3 /2",
    "max_pool2d",
    [("x", IMAGE)],
    lambda x: F.max_pool2d(x, 3, 2),
    attrs={"kernel": (3, 3), "stride": (2, 2)},
)
row(
    "max pool 2x2 /2 YOLO",
    "max_pool2d",
    [("x", (4, 208, 208, 32))],
    lambda x: F.max_pool2d(x, 2),
    attrs={"kernel": (2, 2), "stride": (2, 2)},
)
row(
    "average pool 3x3",
    "avg_pool2d",
    [("x", IMAGE)],
    lambda x: F.avg_pool2d(x, 3, 1, 1),
    attrs={
        "kernel": (3, 3),
        "stride": (1, 1),
        "pads": (1, 1, 1, 1),
        "count_include_pad": True,
    },
)
row(
    "L2 pool 2x2 /2",
    "l2_pool2d",
    [("x", IMAGE)],
    lambda x: F.lp_pool2d(x, 2.0, 2),
    attrs={"kernel": (2, 2), "stride": (2, 2)},
)
for mode in ("nearest", "bilinear"):
    row(
        f"upsample {mode} x2",
        "resize2d",
        [("x", (BATCH, 26, 26, 128))],
        (lambda m: lambda x: F.interpolate(x, scale_factor=2, mode=m))(mode),
        attrs={"size": (52, 52), "mode": mode},
    )
row(
    "pad by 1",
    "pad2d",
    [("x", IMAGE)],
    lambda x: F.pad(x, (1, 1, 1, 1)),
    attrs={"sides": (1, 1, 1, 1)},
)
row(
    "pad by 1, reflected",
    "pad2d",
    [("x", IMAGE)],
    lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"),
    attrs={"sides": (1, 1, 1, 1), "mode": "reflect"},
)

C = IMAGE[-1]
row(
    "batch norm",
    "batch_norm",
    [("x", IMAGE), ("p", (C,)), ("p", (C,)), ("s", (C,)), ("s", (C,))],
    lambda x, w, b, m, v: F.batch_norm(x, m, v, w, b, True, 0.1, 1e-5),
    attrs={"epsilon": 1e-5, "momentum": 0.1},
)
for title, groups in (("group norm 32", 32), ("instance norm", C)):
    row(
        title,
        "group_norm",
        [("x", IMAGE), ("p", (C,)), ("p", (C,))],
        (lambda g: lambda x, w, b: F.group_norm(x, g, w, b))(groups),
        attrs={"groups": groups},
    )
row(
    "layer norm",
    "layer_norm",
    [("x", IMAGE), ("p", (C,)), ("p", (C,))],
    lambda x, w, b: F.layer_norm(x, (C,), w, b),
    attrs={"axes": 1},
    images=False,
)
row(
    "local response norm 5",
    "local_response_norm",
    [("x", IMAGE)],
    lambda x: F.local_response_norm(x, 5),
    attrs={"size": 5, "alpha": 1e-4, "beta": 0.75, "k": 1.0},
)


def contrast(x: T) -> T:
    """Local contrast norm of 5x5 windows."""
    mean = F.avg_pool2d(x, 5, 1, 2)
    variance = (F.avg_pool2d(x * x, 5, 1, 2) - mean * mean).clamp(min=0)
    return (x - mean) * (1 + variance) ** -0.5


row(
    "local contrast norm 5",
    "local_contrast_norm",
    [("x", (4, 35, 35, 288))],
    contrast,
    attrs={"size": 5, "alpha": 1.0, "beta": 0.5, "delta": 1.0, "p0": 1.0, "pm": 0.0, "ps": 1.0},
)
row("dropout", "dropout", [("x", IMAGE)], lambda x: F.dropout(x, 0.5), attrs={"rate": 0.5})
row(
    "dropout of channels",
    "dropout",
    [("x", IMAGE)],
    lambda x: F.dropout2d(x, 0.5),
    attrs={"rate": 0.5, "spatial": True},
)
row("softmax", "softmax", [("x", IMAGE)], lambda x: F.softmax(x, 1))
row("log-softmax", "log_softmax", [("x", IMAGE)], lambda x: F.log_softmax(x, 1))

row(
    "permute to channels first",
    "permute",
    [("x", IMAGE)],
    lambda x: x.permute(0, 3, 1, 2).contiguous(),
    attrs={"dims": (0, 3, 1, 2)},
    images=False,
)
row(
    "slice of channels",
    "slice",
    [("x", IMAGE)],
    lambda x: x[:, 96:192].clone(memory_format=torch.preserve_format),
    attrs={"dims": (-1,), "starts": (96,), "stops": (192,)},
)
row(
    "concat 64+64+96+64",
    "concat",
    [("x", (*IMAGE[:3], c)) for c in (64, 64, 96, 64)],
    lambda *x: torch.cat(x, 1),
    attrs={"dim": -1},
)
ARITHMETIC: list[tuple[str, Callable[..., T]]] = [
    ("add", torch.add),
    ("subtract", torch.sub),
    ("multiply", torch.mul),
    ("divide", torch.div),
]
for op, function in ARITHMETIC:
    row(op, op, [("x", IMAGE), ("x", IMAGE)], function, positive=True)
    row(
        f"{op} by channels",
        op,
        [("x", IMAGE), ("p", (C,))],
        (lambda f: lambda x, b: f(x, channels(b)))(function),
        positive=True,
    )
row("sum of 3", "add_n", [("x", IMAGE)] * 3, lambda x, y, z: x + y + z)
row(
    "multiply by image and channel",
    "multiply",
    [("x", IMAGE), ("x", (BATCH, 1, 1, C))],
    torch.mul,
)
row("multiply by pixel", "multiply", [("x", IMAGE), ("x", (*IMAGE[:3], 1))], torch.mul)
REDUCTIONS: list[tuple[str, Callable[..., T]]] = [
    ("sum", lambda x, d: x.sum(d)),
    ("mean", lambda x, d: x.mean(d)),
    ("max", lambda x, d: x.amax(d)),
    ("min", lambda x, d: x.amin(d)),
]
for title, function in REDUCTIONS:
    for place, dims, theirs in (("space", (1, 2), (2, 3)), ("channels", (3,), (1,))):
        row(
            f"{title} over {place}",
            f"reduce_{title}",
            [("x", IMAGE)],
            (lambda f, d: lambda x: f(x, d))(function, theirs),
            attrs={"dims": dims},
        )
row(
    "embedding",
    "embedding",
    [("i", (64, 100)), ("p", (10000, 256))],
    F.embedding,
    images=False,
    classes=10000,
)
row("stack 4", "stack", [("x", (64, 20000))] * 4, lambda *x: torch.stack(x), images=False)

row(
    "softmax cross-entropy",
    "softmax_cross_entropy",
    [("x", (BATCH, 104, 104, 21)), ("i", (BATCH, 104, 104))],
    lambda x, t: F.cross_entropy(x, t),
    classes=21,
)
LOSSES: list[Kind] = [
    ("mean squared error", "mse", {}, F.mse_loss),
    ("mean absolute error", "mae", {}, F.l1_loss),
    ("huber", "huber", {"a": 1.0}, F.huber_loss),
    ("sigmoid cross-entropy", "sigmoid_cross_entropy", {}, F.binary_cross_entropy_with_logits),
]
for title, kind, attrs, function in LOSSES:
    row(
        title,
        "element_loss",
        [("x", IMAGE), ("t", IMAGE)],
        function,
        attrs={"kind": kind, **attrs},
    )
row(
    "cosine distance",
    "cosine_distance",
    [("x", IMAGE), ("t", IMAGE)],
    lambda x, t: (1 - (x * t).sum(1)).mean(),
)
