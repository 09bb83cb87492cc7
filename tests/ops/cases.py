"""THE op case table: every op, its shapes and attributes, and what PyTorch computes for it.

One row serves every device: forward, each gradient, half storage and support are tested from it by
test_ops.py. To add an op, add rows here; losses are in loss_cases.py.

A case's `operands` are (kind, shape), or None for an absent one: "x" data of the graph's type, "u"
the same within 0.05..0.95, "p" a parameter (master type), "i" class indices or lengths, in
0..classes-1, "t" targets and "w" positive weights (master type), "z" soft labels, "b" labels 0 or
1, "yolo" a YOLO target. `torch` gets float64 tensors in mpsnn's layouts and returns the output (for
a loss: the scalar; a tuple where all outputs count).
"""

from __future__ import annotations

import math
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
    operands: tuple[tuple[str, tuple[int, ...]] | None, ...]
    torch: Callable[..., T]
    attrs: dict[str, Any] = field(default_factory=dict)
    classes: int = 0
    long_sum: bool = False  # over 1,000 terms: tolerance 1e-4
    training: bool = True
    positive: tuple[int, ...] = ()  # operands that must be positive
    differences: bool = True  # no part of the gradient is left out on purpose
    distinct: bool = False  # no two equal values (ties of max pooling)
    scale: float = 1.0  # of parameters
    outputs: tuple[int, ...] = ()  # those in use, which `torch` returns; one only if empty
    negative: bool = False  # the first operand is: padding by zeros would win a maximum


CASES: list[Case] = []


def case(name: str, op: str, operands: Any, torch: Callable[..., T], **rest: Any) -> None:
    """Append a row."""
    CASES.append(Case(name, op, tuple(operands), torch, **rest))


def nchw(x: T) -> T:
    return x.permute(0, 3, 1, 2)


def nhwc(x: T) -> T:
    return x.permute(0, 2, 3, 1)


def inside(x: T, low: float, high: float) -> T:
    """Clamped, with the gradient of F.relu6: 0 at the ends."""
    return torch.where((x > low) & (x < high), x, x.clamp(low, high).detach())


def neuron(kind: str, a: float, b: float = 0.0, c: float = 0.0) -> Callable[[T], T]:
    return {
        "none": lambda x: x * 1,
        "relu": F.relu,
        "leaky_relu": lambda x: F.leaky_relu(x, a),
        "sigmoid": torch.sigmoid,
        "tanh": lambda x: a * torch.tanh(b * x),
        "linear": lambda x: a * x + b,
        "hard_sigmoid": lambda x: inside(a * x + b, 0.0, 1.0),
        "absolute": torch.abs,
        "softplus": lambda x: a * F.softplus(b * x, threshold=1e9),
        "softsign": F.softsign,
        "elu": lambda x: b * torch.where(x > 0, x, a * torch.expm1(c * x.clamp(max=0))),
        "relun": lambda x: inside(torch.where(x > 0, x, a * x), -math.inf, b),
        "power": lambda x: (a * x + b) ** c,
        "exponential": lambda x: torch.exp(a * x + b) if c == -1 else c ** (a * x + b),
        "logarithm": lambda x: torch.log(a * x + b) / (1 if c == -1 else math.log(c)),
        "gelu": F.gelu,
        "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
        "hard_swish": F.hardswish,
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


def conv_case(
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
) -> Case:
    channels = image[-1]
    operands: list[Any] = [("x", image), ("p", (out, *kernel, channels // groups))]
    if bias:
        operands.append(("p", (out,)))
    return Case(
        f"conv2d-{name}",
        "conv2d",
        tuple(operands),
        conv_oracle(stride, pads, dilation, groups),
        attrs={"stride": stride, "pads": pads, "dilation": dilation, "groups": groups},
        long_sum=kernel[0] * kernel[1] * channels // groups > 1000
        or image[0] * image[1] * image[2] > 1000,
    )


def conv(*what: Any, **rest: Any) -> None:
    """Append a row."""
    CASES.append(conv_case(*what, **rest))


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

# Kind, parameters a, b, c, whether the input must be positive, whether the neuron can be fused.
NEURONS: list[tuple[str, tuple[float, ...], bool, bool]] = [
    ("none", (), False, True),
    ("relu", (0.0,), False, True),
    ("leaky_relu", (0.1,), False, True),
    ("leaky_relu", (-0.3,), False, False),
    ("sigmoid", (0.0,), False, True),
    ("tanh", (1.0, 1.0), False, True),
    ("tanh", (-1.7, 0.6), False, True),
    ("linear", (-0.7, 0.3), False, True),
    ("hard_sigmoid", (0.2, 0.5), False, False),
    ("hard_sigmoid", (1 / 6, 0.5), False, False),
    ("absolute", (), False, False),
    ("softplus", (1.0, 1.0), False, False),
    ("softplus", (0.5, 2.0), False, False),
    ("softplus", (-0.5, -12.0), False, False),
    ("softsign", (), False, False),
    ("elu", (1.0, 1.0, 1.0), False, True),
    ("elu", (0.3, 1.0, 1.0), False, True),
    ("elu", (1.6732632423543772, 1.0507009873554805, 1.0), False, True),  # SELU
    ("elu", (0.5, 1.0, 2.0), False, True),  # CELU
    ("elu", (-0.5, 1.0, 1.0), False, False),
    ("relun", (0.0, 1.0), False, True),
    ("relun", (0.5, 2.0), False, True),
    ("relun", (0.5, 0.7), False, False),
    ("relun", (-1.5, 0.7), False, False),
    ("power", (1.0, 0.0, 2.0), False, False),
    ("power", (-0.5, 0.2, 3.0), False, False),
    ("power", (0.5, 0.1, 0.5), True, False),
    ("power", (2.0, 0.1, -1.3), True, False),
    ("power", (1.0, 0.0, 0.0), False, False),
    ("exponential", (1.0, 0.0, -1.0), False, False),
    ("exponential", (-0.3, 0.3, 2.0), False, True),
    ("logarithm", (1.0, 0.0, -1.0), True, False),
    ("logarithm", (3.0, 0.5, 10.0), True, False),
    ("gelu", (), False, False),
    ("gelu_tanh", (), False, False),
    ("hard_swish", (), False, False),
]
for kind, given, positive, fused in NEURONS:
    named = dict(zip("abc", given, strict=False))
    act = neuron(kind, **named) if "a" in named else neuron(kind, 0.0)
    title = "-".join([kind, *(f"{v:.3g}" for v in given)])
    for shape in ((2, 5, 4, 3), (7, 33)):
        case(
            f"{title}-{len(shape)}d",
            "neuron",
            [("x", shape)],
            act,
            attrs={"kind": kind, **named},
            positive=(0,) if positive else (),
        )
    # The fused forms exist as attributes, so they are rows too.
    if not fused:
        continue
    epilogue = {"neuron": kind, **{f"neuron_{k}": v for k, v in named.items()}}
    case(
        f"conv2d+{title}",
        "conv2d",
        [("x", (2, 6, 7, 4)), ("p", (8, 3, 3, 4)), ("p", (8,))],
        conv_oracle((1, 1), (1, 1, 1, 1), (1, 1), 1, act),
        attrs={"pads": (1, 1, 1, 1), **epilogue},
    )
    case(
        f"linear+{title}",
        "linear",
        [("x", (9, 20)), ("p", (12, 20)), ("p", (12,))],
        (lambda f: lambda x, w, b: f(F.linear(x, w, b)))(act),
        attrs=epilogue,
    )

for shape, slopes in (((2, 5, 4, 3), 3), ((7, 33), 33), ((3, 9, 9, 300), 300), ((4, 7, 6, 5), 1)):
    case(
        f"prelu-{'x'.join(map(str, shape))}-{slopes}",
        "prelu",
        [("x", shape), ("p", (slopes,))],
        lambda x, w: torch.where(x > 0, x, w * x),
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
    # Vectors of all widths; several windows together, and pixels.
    ("widths", (1, 7, 11, 29), (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
    ("many-channels", (1, 7, 8, 93), (3, 2), (2, 1), (1, 0, 0, 1), (1, 1)),
    ("wide", (1, 4, 30, 12), (2, 3), (1, 2), (0, 1, 1, 1), (1, 1)),
    ("wide-stride-3", (1, 8, 27, 20), (4, 4), (3, 3), (1, 1, 1, 1), (1, 1)),
    ("wide-dilated", (1, 5, 23, 20), (2, 3), (1, 1), (0, 1, 1, 1), (1, 2)),
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


def affine(y: T, w: T | None, b: T | None) -> T:
    return y * (1 if w is None else w) + (0 if b is None else b)


for shape, groups, given in (
    ((3, 4, 5, 6), 2, "wb"),
    ((2, 7, 3, 32), 8, "wb"),
    ((1, 30, 31, 16), 16, "wb"),
    ((4, 5, 12), 3, "w"),
    ((5, 12), 3, ""),
    ((2, 6, 5, 4), 4, ""),
    ((3, 3, 2, 5), 1, "b"),
):
    ops = [("x", shape), ("p", shape[-1:]) if "w" in given else None, ("p", shape[-1:])]
    ops = ops[: 3 if "b" in given else 2 if "w" in given else 1]
    case(
        f"group_norm-{'x'.join(map(str, shape))}-{groups}-{given}",
        "group_norm",
        ops,
        (lambda g: lambda x, w=None, b=None: affine(
            F.group_norm(x.movedim(-1, 1), g, eps=1e-5).movedim(1, -1), w, b))(groups),
        attrs={"groups": groups},
    )  # fmt: skip

for shape, axes, given in (
    ((6, 10), 1, "wb"),
    ((3, 4, 5, 6), 3, "wb"),
    ((4, 7, 300), 1, "w"),
    ((2, 3, 4, 5), 2, ""),
    ((5, 17), 1, "b"),
    ((37, 6), 1, "wb"),
    ((37, 20), 1, "wb"),
    ((2, 11, 40), 1, ""),
    ((3, 28, 30), 2, "w"),
):
    last = shape[-axes:]
    ops = [("x", shape), ("p", last) if "w" in given else None, ("p", last)]
    ops = ops[: 3 if "b" in given else 2 if "w" in given else 1]
    case(
        f"layer_norm-{'x'.join(map(str, shape))}-{axes}-{given}",
        "layer_norm",
        ops,
        (lambda row: lambda x, w=None, b=None: affine(
            F.layer_norm(x, row, eps=1e-5), w, b))(last),
        attrs={"axes": axes},
    )  # fmt: skip


def window_mean(x: T, size: int) -> T:
    """Over a square around each pixel, zeros beyond the image counted."""
    before, after = size // 2, (size - 1) // 2
    return nhwc(F.avg_pool2d(F.pad(nchw(x), (before, after, before, after)), size, 1))


def response_oracle(a: dict[str, Any]) -> Callable[[T], T]:
    if a["across"] == "space":
        return lambda x: x / (a["k"] + a["alpha"] * window_mean(x * x, a["size"])) ** a["beta"]
    return lambda x: F.local_response_norm(
        x.movedim(-1, 1), a["size"], a["alpha"], a["beta"], a["k"]
    ).movedim(1, -1)


for name, shape, attrs in (
    ("alexnet", (2, 4, 3, 20), {"size": 5, "alpha": 1e-4, "beta": 0.75, "k": 2.0}),
    ("strong", (2, 3, 4, 9), {"size": 3, "alpha": 2.0, "beta": 0.5, "k": 1.0}),
    ("even", (3, 5, 8), {"size": 4, "alpha": 1.0, "beta": 0.75, "k": 1.0}),
    ("wider-than-channels", (2, 3, 3, 4), {"size": 11, "alpha": 1.0, "beta": 1.0, "k": 1.0}),
    ("rows", (70, 6, 66), {"size": 5, "alpha": 1.0, "beta": 5.0, "k": 1.0}),
    ("even-rows", (70, 10, 5), {"size": 4, "alpha": 1.0, "beta": 0.75, "k": 1.0}),
    ("space", (2, 7, 6, 3), {"size": 3, "alpha": 1.0, "beta": 0.75, "k": 1.0}),
    ("space-even", (2, 5, 6, 5), {"size": 4, "alpha": 2.0, "beta": 0.5, "k": 0.5}),
    ("space-wide", (1, 4, 3, 2), {"size": 9, "alpha": 1.0, "beta": 5.0, "k": 1.0}),
):
    attrs = {"across": "space" if name.startswith("space") else "channels", **attrs}
    case(f"local_response_norm-{name}", "local_response_norm", [("x", shape)],
         response_oracle(attrs), attrs=attrs)  # fmt: skip


def contrast_oracle(a: dict[str, Any]) -> Callable[[T], T]:
    def compute(x: T) -> T:
        mean = window_mean(x, a["size"])
        variance = window_mean(x * x, a["size"]) - mean**2
        scale = (a["delta"] + a["alpha"] * variance) ** a["beta"]
        return a["pm"] + a["ps"] * (x - a["p0"] * mean) / scale

    return compute


MPS_CONTRAST = {"alpha": 1.0, "beta": 0.5, "delta": 1 / 1024, "p0": 1.0, "pm": 0.0, "ps": 1.0}
for name, shape, attrs in (
    ("3", (2, 7, 6, 3), {"size": 3}),
    ("even", (2, 5, 6, 5), {"size": 4, "delta": 0.5}),
    ("wide", (1, 5, 4, 2), {"size": 9, "delta": 0.1}),
    ("all", (2, 6, 5, 3), {"size": 5, "alpha": 0.7, "beta": 0.8, "delta": 0.3, "p0": 0.6,
                           "pm": 0.2, "ps": 1.5}),
):  # fmt: skip
    attrs = {**MPS_CONTRAST, **attrs}
    case(f"local_contrast_norm-{name}", "local_contrast_norm", [("x", shape)],
         contrast_oracle(attrs), attrs=attrs)  # fmt: skip

case("flatten", "flatten", [("x", (3, 4, 2, 5))], lambda x: x.reshape(3, -1))
case("flatten-1d", "flatten", [("x", (4,))], lambda x: x.reshape(4, 1))
for shape in ((5, 10), (2, 3, 4, 7), (3, 1), (2, 200), (37, 21), (21, 64), (17, 65), (2, 1300)):
    case(
        f"softmax-{'x'.join(map(str, shape))}",
        "softmax",
        [("x", shape)],
        lambda x: torch.softmax(x, -1),
    )
    case(
        f"log_softmax-{'x'.join(map(str, shape))}",
        "log_softmax",
        [("x", shape)],
        lambda x: torch.log_softmax(x, -1),
    )
for name, shapes, dim in (
    ("images", ((2, 3, 4, 5), (2, 3, 4, 16), (2, 3, 4, 1)), -1),
    ("fours", ((2, 3, 4, 8), (2, 3, 4, 4), (2, 3, 4, 5)), -1),
    ("rows", ((3, 2), (3, 6)), -1),
    ("one", ((3, 2),), -1),
    ("widths", ((2, 3, 4, 5), (2, 3, 1, 5), (2, 3, 2, 5)), 2),
    ("heights", ((2, 3, 4, 5), (2, 1, 4, 5)), -3),
    ("steps", ((3, 4, 6), (3, 2, 6)), 1),
):
    case(
        f"concat-{name}",
        "concat",
        [("x", shape) for shape in shapes],
        (lambda d: lambda *parts: torch.cat(parts, d))(dim),
        attrs={"dim": dim},
    )
for name, shape, to in (
    ("rows", (3, 4, 2, 5), (-1,)),
    ("images", (3, 24), (2, 3, 4)),
    ("sequence", (2, 3, 4, 5), (12, -1)),
    ("scalar", (4, 1), ()),
):
    case(
        f"reshape-{name}",
        "reshape",
        [("x", shape)],
        (lambda size: lambda x: x.reshape(x.shape[0], *size))(to),
        attrs={"shape": to},
    )
for name, shape, dims in (
    ("channels-first", (2, 5, 4, 3), (0, 3, 1, 2)),
    ("channels-last", (2, 3, 5, 4), (0, 2, 3, 1)),
    ("turned", (2, 5, 4, 3), (0, 2, 1, 3)),
    ("reversed", (2, 5, 4, 3), (0, -1, -2, -3)),
    ("same", (2, 5, 4, 3), (0, 1, 2, 3)),
    ("sequence", (3, 20, 17), (0, 2, 1)),
    ("rows", (3, 7), (0, 1)),
    ("thin", (2, 1, 6, 1), (0, 2, 3, 1)),
    ("five", (2, 3, 4, 5, 6), (0, 4, 2, 1, 3)),
    ("large", (3, 33, 35, 40), (0, 3, 1, 2)),
):
    case(
        f"permute-{name}",
        "permute",
        [("x", shape)],
        (lambda d: lambda x: x.permute(*d))(dims),
        attrs={"dims": dims},
    )
for name, shape, box in (
    ("rows", (4, 9), {1: (2, 7)}),
    ("channels", (2, 3, 4, 5), {-1: (1, 3)}),
    ("channel", (2, 3, 4, 5), {-1: (3, 4)}),
    ("pixel", (3, 4, 6, 5), {1: (2, 3), 2: (1, 2), 3: (4, 5)}),
    ("space", (2, 6, 7, 3), {1: (1, 4), 2: (-3, 7)}),
    ("width", (2, 6, 7, 3), {2: (0, -2)}),
    ("all", (2, 6, 7, 8), {1: (5, 6), 2: (1, 7), 3: (2, 7)}),
    ("whole", (2, 3, 4), {}),
    ("large", (3, 60, 50, 8), {1: (3, 57), 2: (1, 49)}),
):

    def box_oracle(box: dict[int, tuple[int, int]]) -> Callable[[T], T]:
        def compute(x: T) -> T:
            for dim, (start, stop) in box.items():
                first, last = (v + x.shape[dim] if v < 0 else v for v in (start, stop))
                x = x.narrow(dim, first, last - first)
            return x * 1

        return compute

    case(
        f"slice-{name}",
        "slice",
        [("x", shape)],
        box_oracle(box),
        attrs={
            "dims": tuple(box),
            "starts": tuple(start for start, _ in box.values()),
            "stops": tuple(stop for _, stop in box.values()),
        },
    )
REDUCTIONS: dict[str, Callable[..., T]] = {
    "sum": lambda x, dims, keep: x.sum(dims, keep),
    "mean": lambda x, dims, keep: x.mean(dims, keep),
    "max": lambda x, dims, keep: x.amax(dims, keep),
    "min": lambda x, dims, keep: x.amin(dims, keep),
}
for kind, reduction_of in REDUCTIONS.items():
    # Gradients of a mean of 40,500 elements are too small for half.
    whole = [] if kind == "mean" else [("large-images", (1, 90, 50, 9), (1, 2, 3), False)]
    for name, shape, dims, keep in (
        *whole,
        ("space", (2, 5, 4, 3), (1, 2), False),
        ("space-kept", (2, 5, 4, 35), (1, 2), True),
        ("channels", (2, 5, 4, 33), (-1,), False),
        ("one-channel", (2, 5, 4, 1), (-1,), True),
        ("columns", (2, 5, 4, 3), (1,), True),
        ("rows", (2, 5, 4, 3), (2,), False),
        ("rows-and-channels", (2, 5, 4, 3), (2, 3), False),
        ("height-and-channels", (2, 5, 4, 3), (1, 3), False),
        ("images", (3, 4, 5, 2), (1, 2, 3), False),
        ("steps", (4, 21, 6), (1,), False),
        ("row", (6, 9), (1,), False),
        ("large-space", (1, 120, 50, 9), (1, 2), False),
        ("large-height", (1, 120, 50, 9), (1,), False),
        ("large-channels", (2, 40, 50, 20), (3,), False),
        ("few-channels", (2, 6, 3, 40), (3,), False),
        ("some-channels", (2, 3, 3, 7), (3,), False),
        ("wide-channels", (3, 6, 1, 530), (3,), False),
    ):
        case(
            f"reduce_{kind}-{name}",
            f"reduce_{kind}",
            [("x", shape)],
            (lambda f, d, k: lambda x: f(x, d, k))(reduction_of, dims, keep),
            attrs={"dims": dims, "keepdim": keep},
            distinct=kind in ("max", "min"),
            long_sum=name.startswith("large"),
        )
    case(f"reduce_{kind}-of-nothing", f"reduce_{kind}", [("x", (4,))], lambda x: x * 1)
for op in ("add", "subtract", "multiply", "divide"):
    for name, left, right in (
        ("images", ("x", (2, 3, 4, 5)), ("x", (2, 3, 4, 5))),
        ("rows", ("x", (40, 9)), ("x", (40, 9))),
        ("by-channels", ("x", (2, 3, 4, 5)), ("p", (5,))),
        ("of-channels", ("p", (5,)), ("x", (2, 3, 4, 5))),
        ("by-space", ("x", (2, 3, 4, 5)), ("x", (2, 3, 4, 1))),
        ("by-image-channels", ("x", (2, 3, 4, 32)), ("x", (2, 1, 1, 32))),
        ("by-height", ("x", (2, 3, 4, 5)), ("x", (2, 3, 1, 1))),
        ("by-width-channels", ("x", (2, 3, 4, 5)), ("x", (2, 1, 4, 5))),
        ("by-pixels-of-all", ("x", (3, 4, 5, 2)), ("p", (4, 5, 1))),
        ("both", ("x", (2, 3, 1, 5)), ("x", (2, 1, 4, 1))),
        ("outer", ("x", (3, 7, 1)), ("x", (3, 1, 20))),
        ("by-image", ("x", (3, 4, 5, 2)), ("x", (3, 1, 1, 1))),
        ("by-one", ("x", (4, 33)), ("p", (1,))),
        ("by-scalar", ("x", (4, 33)), ("p", ())),
        ("by-parameter", ("x", (4, 33)), ("p", (4, 33))),
        ("one-image", ("x", (1, 1, 1, 3)), ("p", (3,))),
        ("large-by-channels", ("x", (4, 40, 30, 24)), ("p", (24,))),
        ("large-by-image-channels", ("x", (5, 40, 30, 24)), ("x", (5, 1, 1, 24))),
        ("large-by-pixels", ("x", (3, 50, 40, 20)), ("p", (50, 40, 20))),
        ("large-by-one", ("x", (3, 200, 60)), ("p", (1,))),
    ):
        case(
            f"{op}-{name}",
            op,
            [left, right],
            getattr(torch, op),
            long_sum=name.startswith("large"),
            positive=(1,) if op == "divide" else (),
        )
case("add-n", "add_n", [("x", (2, 3, 5))] * 3, lambda a, b, c: a + b + c)
case("add-n-one", "add_n", [("x", (40, 9))], lambda a: a)
