"""The rows of `ops.py`: each op at a shape of Inception V3 or YOLO, and the same in PyTorch.

`FEW_CHANNELS` has most ops again, on small images whose channels end within a vector.

PyTorch's functions get images and weights of convolutions as (N, C, H, W), in the layout that is
measured; operands of rows that are not `images` come as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F

T = torch.Tensor
Shape = tuple[int, int, int, int]
Kind = tuple[str, str, dict[str, Any], Callable[..., T]]


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


def row(name: str, op: str, operands: Any, torch: Callable[..., T], **rest: Any) -> Row:
    """Return a row."""
    return Row(name, op, tuple(operands), torch, **rest)


def convolution(
    name: str, image: Shape, out: int, kernel: tuple[int, int],
    stride: int = 1, pads: tuple[int, int] = (0, 0), groups: int = 1,
) -> Row:  # fmt: skip
    """Return a convolution with a bias."""
    return row(
        name,
        "conv2d",
        [("x", image), ("p", (out, *kernel, image[-1] // groups)), ("p", (out,))],
        lambda x, w, b: F.conv2d(x, w, b, stride, pads, groups=groups),
        attrs={"stride": (stride, stride), "pads": (*pads, *pads), "groups": groups},
        products=True,
    )


def transposed(name: str, image: Shape, out: int, kernel: int, pad: int) -> Row:
    """Return a transposed convolution of stride 2 with a bias."""
    return row(
        name,
        "conv_transpose2d",
        [("x", image), ("p", (out, kernel, kernel, image[-1])), ("p", (out,))],
        lambda x, w, b: F.conv_transpose2d(x, w.transpose(0, 1), b, 2, pad),
        attrs={"stride": (2, 2), "pads": (pad,) * 4},
        products=True,
    )


def dense(batch: int, inputs: int, outputs: int) -> Row:
    """Return a dense layer with a bias."""
    operands = [("x", (batch, inputs)), ("p", (outputs, inputs)), ("p", (outputs,))]
    return row("dense", "linear", operands, F.linear, images=False, products=True)


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
POSITIVE_NEURONS: list[Kind] = [
    ("power 0.7", "power", {"a": 1.0, "b": 0.0, "c": 0.7}, lambda x: x**0.7),
    ("exp", "exponential", {"a": 1.0, "b": 0.0, "c": -1.0}, torch.exp),
    ("log", "logarithm", {"a": 1.0, "b": 0.0, "c": -1.0}, torch.log),
    ("linear neuron", "linear", {"a": 2.0, "b": 0.5}, lambda x: 2 * x + 0.5),
]


def neurons(image: Shape) -> Iterator[Row]:
    """Yield the neurons."""
    for kinds, positive in ((NEURONS, False), (POSITIVE_NEURONS, True)):
        for name, kind, attrs, f in kinds:
            attrs = {"kind": kind, **attrs}
            yield row(name, "neuron", [("x", image)], f, attrs=attrs, positive=positive)
    yield row("prelu", "prelu", [("x", image), ("p", image[-1:])], F.prelu)


def pools(image: Shape, halved: Shape) -> Iterator[Row]:
    """Yield the poolings; `halved` is the image of those of 2x2."""
    yield row(
        "max pool 3x3 /2",
        "max_pool2d",
        [("x", image)],
        lambda x: F.max_pool2d(x, 3, 2),
        attrs={"kernel": (3, 3), "stride": (2, 2)},
    )
    yield row(
        "max pool 2x2 /2",
        "max_pool2d",
        [("x", halved)],
        lambda x: F.max_pool2d(x, 2),
        attrs={"kernel": (2, 2), "stride": (2, 2)},
    )
    yield row(
        "average pool 3x3",
        "avg_pool2d",
        [("x", image)],
        lambda x: F.avg_pool2d(x, 3, 1, 1),
        attrs={
            "kernel": (3, 3),
            "stride": (1, 1),
            "pads": (1, 1, 1, 1),
            "count_include_pad": True,
        },
    )
    yield row(
        "L2 pool 2x2 /2",
        "l2_pool2d",
        [("x", image)],
        lambda x: F.lp_pool2d(x, 2.0, 2),
        attrs={"kernel": (2, 2), "stride": (2, 2)},
    )


def resized(image: Shape, small: Shape) -> Iterator[Row]:
    """Yield upsamplings of `small`, and paddings."""
    size = (2 * small[1], 2 * small[2])
    for mode in ("nearest", "bilinear"):
        yield row(
            f"upsample {mode} x2",
            "resize2d",
            [("x", small)],
            (lambda m: lambda x: F.interpolate(x, scale_factor=2, mode=m))(mode),
            attrs={"size": size, "mode": mode},
        )
    yield row(
        "pad by 1",
        "pad2d",
        [("x", image)],
        lambda x: F.pad(x, (1, 1, 1, 1)),
        attrs={"sides": (1, 1, 1, 1)},
    )
    yield row(
        "pad by 1, reflected",
        "pad2d",
        [("x", image)],
        lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"),
        attrs={"sides": (1, 1, 1, 1), "mode": "reflect"},
    )


def contrast(x: T) -> T:
    """Local contrast norm of 5x5 windows."""
    mean = F.avg_pool2d(x, 5, 1, 2)
    variance = (F.avg_pool2d(x * x, 5, 1, 2) - mean * mean).clamp(min=0)
    return (x - mean) * (1 + variance) ** -0.5


def norms(image: Shape, groups: int, local: Shape) -> Iterator[Row]:
    """Yield norms, dropouts and softmaxes; `local` is the image of the local contrast norm."""
    c = image[-1]
    learned = [("x", image), ("p", (c,)), ("p", (c,))]
    yield row(
        "batch norm",
        "batch_norm",
        [*learned, ("s", (c,)), ("s", (c,))],
        lambda x, w, b, m, v: F.batch_norm(x, m, v, w, b, True, 0.1, 1e-5),
        attrs={"epsilon": 1e-5, "momentum": 0.1},
    )
    for title, count in ((f"group norm {groups}", groups), ("instance norm", c)):
        f = (lambda g: lambda x, w, b: F.group_norm(x, g, w, b))(count)
        yield row(title, "group_norm", learned, f, attrs={"groups": count})
    yield row(
        "layer norm",
        "layer_norm",
        learned,
        lambda x, w, b: F.layer_norm(x, (c,), w, b),
        attrs={"axes": 1},
        images=False,
    )
    yield row(
        "local response norm 5",
        "local_response_norm",
        [("x", image)],
        lambda x: F.local_response_norm(x, 5),
        attrs={"size": 5, "alpha": 1e-4, "beta": 0.75, "k": 1.0},
    )
    yield row(
        "local contrast norm 5",
        "local_contrast_norm",
        [("x", local)],
        contrast,
        attrs={
            "size": 5,
            "alpha": 1.0,
            "beta": 0.5,
            "delta": 1.0,
            "p0": 1.0,
            "pm": 0.0,
            "ps": 1.0,
        },
    )
    x = [("x", image)]
    yield row("dropout", "dropout", x, lambda x: F.dropout(x, 0.5), attrs={"rate": 0.5})
    spatial = {"rate": 0.5, "spatial": True}
    yield row("dropout of channels", "dropout", x, lambda x: F.dropout2d(x, 0.5), attrs=spatial)
    yield row("softmax", "softmax", x, lambda x: F.softmax(x, 1))
    yield row("log-softmax", "log_softmax", x, lambda x: F.log_softmax(x, 1))


def layouts(image: Shape, parts: tuple[int, ...]) -> Iterator[Row]:
    """Yield permutation, slice and concatenation of `parts`."""
    first, last = image[-1] // 3, image[-1] // 3 * 2
    yield row(
        "permute to channels first",
        "permute",
        [("x", image)],
        lambda x: x.permute(0, 3, 1, 2).contiguous(),
        attrs={"dims": (0, 3, 1, 2)},
        images=False,
    )
    yield row(
        "slice of channels",
        "slice",
        [("x", image)],
        lambda x: x[:, first:last].clone(memory_format=torch.preserve_format),
        attrs={"dims": (-1,), "starts": (first,), "stops": (last,)},
    )
    yield row(
        f"concat {'+'.join(map(str, parts))}",
        "concat",
        [("x", (*image[:3], c)) for c in parts],
        lambda *x: torch.cat(x, 1),
        attrs={"dim": -1},
    )


ARITHMETIC: list[tuple[str, Callable[..., T]]] = [
    ("add", torch.add),
    ("subtract", torch.sub),
    ("multiply", torch.mul),
    ("divide", torch.div),
]


def arithmetic(image: Shape) -> Iterator[Row]:
    """Yield arithmetic of two images, and of an image with vectors and maps."""
    batch, c = image[0], image[-1]
    for op, function in ARITHMETIC:
        yield row(op, op, [("x", image), ("x", image)], function, positive=True)
        yield row(
            f"{op} by channels",
            op,
            [("x", image), ("p", (c,))],
            (lambda f: lambda x, b: f(x, b.view(-1, 1, 1)))(function),
            positive=True,
        )
    yield row("sum of 3", "add_n", [("x", image)] * 3, lambda x, y, z: x + y + z)
    for title, shape in (("image and channel", (batch, 1, 1, c)), ("pixel", (*image[:3], 1))):
        yield row(f"multiply by {title}", "multiply", [("x", image), ("x", shape)], torch.mul)


REDUCTIONS: list[tuple[str, Callable[..., T]]] = [
    ("sum", lambda x, d: x.sum(d)),
    ("mean", lambda x, d: x.mean(d)),
    ("max", lambda x, d: x.amax(d)),
    ("min", lambda x, d: x.amin(d)),
]


def reductions(image: Shape) -> Iterator[Row]:
    """Yield reductions over space and channels."""
    for title, function in REDUCTIONS:
        for place, dims, theirs in (("space", (1, 2), (2, 3)), ("channels", (3,), (1,))):
            yield row(
                f"{title} over {place}",
                f"reduce_{title}",
                [("x", image)],
                (lambda f, d: lambda x: f(x, d))(function, theirs),
                attrs={"dims": dims},
            )


LOSSES: list[Kind] = [
    ("mean squared error", "mse", {}, F.mse_loss),
    ("mean absolute error", "mae", {}, F.l1_loss),
    ("huber", "huber", {"a": 1.0}, F.huber_loss),
    ("sigmoid cross-entropy", "sigmoid_cross_entropy", {}, F.binary_cross_entropy_with_logits),
]


def losses(image: Shape, scores: Shape) -> Iterator[Row]:
    """Yield losses; `scores` has a class a channel."""
    yield row(
        "softmax cross-entropy",
        "softmax_cross_entropy",
        [("x", scores), ("i", scores[:3])],
        lambda x, t: F.cross_entropy(x, t),
        classes=scores[-1],
    )
    both = [("x", image), ("t", image)]
    for title, kind, attrs, function in LOSSES:
        yield row(title, "element_loss", both, function, attrs={"kind": kind, **attrs})
    yield row("cosine distance", "cosine_distance", both, lambda x, t: (1 - (x * t).sum(1)).mean())


IMAGE = (16, 35, 35, 288)  # a block of Inception V3: 5.6 million elements
ROWS = [
    convolution("conv 1x1", (8, 35, 35, 288), 64, (1, 1)),
    convolution("conv 3x3", (8, 35, 35, 64), 96, (3, 3), pads=(1, 1)),
    convolution("conv 5x5", (8, 35, 35, 48), 64, (5, 5), pads=(2, 2)),
    convolution("conv 1x7", (8, 17, 17, 128), 128, (1, 7), pads=(0, 3)),
    convolution("conv 3x3 /2", (4, 35, 35, 288), 384, (3, 3), stride=2),
    convolution("conv 3x3 YOLO", (2, 26, 26, 256), 512, (3, 3), pads=(1, 1)),
    convolution("conv 3x3 YOLO first", (2, 416, 416, 3), 16, (3, 3), pads=(1, 1)),
    convolution("conv 3x3 depthwise", (8, 35, 35, 288), 288, (3, 3), pads=(1, 1), groups=288),
    transposed("transposed conv 4x4 /2", (4, 26, 26, 128), 64, 4, 1),
    dense(64, 2048, 1000),
    *neurons(IMAGE),
    *pools(IMAGE, (4, 208, 208, 32)),
    *resized(IMAGE, (16, 26, 26, 128)),
    *norms(IMAGE, 32, (4, 35, 35, 288)),
    *layouts(IMAGE, (64, 64, 96, 64)),
    *arithmetic(IMAGE),
    *reductions(IMAGE),
    row(
        "embedding",
        "embedding",
        [("i", (64, 100)), ("p", (10000, 256))],
        F.embedding,
        images=False,
        classes=10000,
    ),
    row("stack 4", "stack", [("x", (64, 20000))] * 4, lambda *x: torch.stack(x), images=False),
    *losses(IMAGE, (16, 104, 104, 21)),
]

FEW = (32, 32, 32, 20)  # 0.7 million elements: in a processor's second cache
FEW_CHANNELS = [
    convolution("conv 1x1", FEW, 20, (1, 1)),
    convolution("conv 3x3", FEW, 20, (3, 3), pads=(1, 1)),
    convolution("conv 3x3 /2", FEW, 40, (3, 3), stride=2, pads=(1, 1)),
    convolution("conv 5x5", FEW, 20, (5, 5), pads=(2, 2)),
    convolution("conv 3x3 first", (32, 32, 32, 3), 20, (3, 3), pads=(1, 1)),
    convolution("conv 3x3 depthwise", FEW, 20, (3, 3), pads=(1, 1), groups=20),
    transposed("transposed conv 2x2 /2", (32, 16, 16, 40), 20, 2, 0),
    dense(64, 100, 10),
    *neurons(FEW),
    *pools(FEW, FEW),
    *resized(FEW, (32, 16, 16, 20)),
    *norms(FEW, 4, FEW),
    *layouts(FEW, (4, 4, 6, 6)),
    *arithmetic(FEW),
    *reductions(FEW),
    *losses(FEW, (32, 32, 32, 10)),
]
