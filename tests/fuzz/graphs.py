"""Random graphs: each is compiled or refused with a typed error, and every device agrees.

    python tests/fuzz/graphs.py COUNT [FIRST]

A graph is decided by its number alone. Layers, shapes, dtypes, frozen parts, losses and exported
values are random, and some are wrong on purpose.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import mpsnn
import numpy as np
from mpsnn import nn, optim

TYPED = (ValueError, TypeError, mpsnn.UnsupportedError)  # ShapeError, DTypeError among them
DTYPES = ("float32", "float32", "float32", "float16", "bfloat16", "float64")
LIMITS = {"float32": 2e-3, "float16": 6e-2, "bfloat16": 3e-1}


class Branches(nn.Module):
    """Two paths over one input, joined."""

    def __init__(self, left: nn.Module, right: nn.Module, joined: bool) -> None:
        super().__init__()
        self.left, self.right, self.joined = left, right, joined

    def forward(self, x: Any) -> Any:
        a, b = self.left(x), self.right(x)
        return nn.concat([a, b]) if self.joined else a + b


def pick(rng: np.random.Generator, options: Any) -> Any:
    return options[int(rng.integers(len(options)))]


def image_layer(rng: np.random.Generator, channels: int) -> tuple[nn.Module, int]:
    """A random layer over images of (about) so many channels, and how many it returns."""
    off = 1 if rng.random() < 0.02 else 0  # a wrong number of channels
    kind = rng.integers(9)
    k = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    padding = pick(rng, ["same", "valid", 0, 1, (1, 0)])
    stride = int(rng.integers(1, 3))
    if kind <= 2:
        groups = pick(rng, [1, 1, 1, channels])
        out = groups * int(rng.integers(1, 5))
        return nn.Conv2d(channels + off, out, k, stride, padding, int(rng.integers(1, 3)),
                         groups if not off else 1, bool(rng.integers(2))), out  # fmt: skip
    if kind == 3:
        return nn.MaxPool2d(k, stride, padding, int(rng.integers(1, 3))), channels
    if kind == 4:
        return nn.AvgPool2d(
            k, stride, padding, bool(rng.integers(2)), bool(rng.integers(2))
        ), channels
    if kind == 5:
        return nn.BatchNorm2d(channels + off), channels
    if kind == 6:
        return nn.Dropout(float(rng.random() * 0.9)), channels
    if kind == 7:
        left, a = image_layer(rng, channels)
        right, b = image_layer(rng, channels)
        joined = bool(rng.integers(2))
        return Branches(left, right, joined), a + b if joined else a
    return neuron(rng), channels


def neuron(rng: np.random.Generator) -> nn.Module:
    made: nn.Module = pick(rng, [nn.ReLU, nn.Sigmoid, nn.Tanh, lambda: nn.LeakyReLU(0.2),
                                 nn.Identity, nn.ELU, nn.GELU, nn.Softplus, nn.HardSwish,
                                 nn.PReLU, nn.Abs, nn.LogSoftmax, lambda: nn.ReLUN(0.1, 1.0),
                                 lambda: nn.LinearNeuron(0.5, 0.1)])()  # fmt: skip
    return made


def random_model(rng: np.random.Generator) -> tuple[nn.Module, tuple[int, ...]]:
    shape: tuple[int, ...]
    layers: list[nn.Module] = []
    if rng.random() < 0.75:
        shape = tuple(int(rng.integers(1, high)) for high in (9, 9, 5))
        channels = shape[2]
        for _ in range(rng.integers(0, 5)):
            layer, channels = image_layer(rng, channels)
            layers.append(layer)
        if rng.random() < 0.8:
            layers.append(nn.Flatten())
            try:
                width = np.prod(
                    nn.Sequential(*layers).eval()(np.zeros((1, *shape), np.float32)).shape
                )
            except TYPED:
                width = 7
            features = int(width)
        else:
            features = channels
    else:
        features = int(rng.integers(1, 9))
        shape = (features,)
    for _ in range(rng.integers(0, 3)):
        out = int(rng.integers(1, 8))
        layers.append(nn.Linear(features, out, bool(rng.integers(2))))
        features = out
        if rng.random() < 0.3:
            layers.append(nn.BatchNorm1d(features))
        if rng.random() < 0.5:
            layers.append(neuron(rng))
        if rng.random() < 0.2:
            layers.append(nn.Softmax())
    return nn.Sequential(*layers), shape


def error(a: np.ndarray, b: np.ndarray) -> float:
    # A gradient may be zero but for rounding, such as that of a bias before a batch-norm.
    scale = max(float(np.abs(b).max(initial=0.0)), 0.1)
    return float(np.abs(a - b).max(initial=0.0)) / scale


def run(number: int) -> str:
    """Try one graph; what became of it."""
    rng = np.random.default_rng([2609, number])
    mpsnn.manual_seed(number)
    devices = [d.id for d in mpsnn.devices() if d.kind in ("cpu", "reference")]
    try:
        model, shape = random_model(rng)
    except TYPED as refused:
        return type(refused).__name__
    for _, parameter in model.named_parameters():
        if parameter.shape and rng.random() < 0.7:
            spread = rng.standard_normal(parameter.shape) * 0.5
            parameter.assign(spread.astype(np.float32))
    for name, module in model.named_modules():
        if name and rng.random() < 0.15:
            module.trainable = False
    dtype = pick(rng, DTYPES)
    batch = int(rng.integers(1, 6))
    names = [n for n, _ in model.named_modules() if n] + [n for n, _ in model.named_parameters()]
    names += ["x", "loss"]
    outputs = [pick(rng, names) + pick(rng, ["", ":grad"]) for _ in range(rng.integers(0, 3))]
    outputs = list(dict.fromkeys(outputs))
    cross = rng.random() < 0.5
    reduction = pick(rng, ["mean", "sum"])
    loss: Any = nn.MSE(reduction)
    if cross:
        loss = nn.SoftmaxCrossEntropy(reduction, label_smoothing=pick(rng, [0.0, 0.1]))
    recipe = pick(rng, [None, optim.SGD(0.01, momentum=0.9), optim.Adam(1e-3)])
    options = {"accumulate": pick(rng, [1, 1, 2]), "clip_norm": pick(rng, [None, 1.0])}
    x = rng.standard_normal((batch, *shape)).astype(np.float32)
    weights = pick(rng, [None, rng.random(batch).astype(np.float32)])
    state = model.state_dict()
    found: dict[str, Any] = {}
    for device in devices:
        model.load_state_dict(state)
        try:
            graph = mpsnn.TrainingGraph(model, loss, recipe, shape, batch, device, dtype, 3,
                                        outputs=outputs, **options)  # fmt: skip
            predict = mpsnn.InferenceGraph(model, shape, batch, device, dtype)
            y = predict(x)
            made = np.random.default_rng([7, number])
            target: Any = made.standard_normal(y.shape).astype(np.float32)
            if cross:
                sizes = [s for s in y.shape[1:-1] if s != 1]
                target = made.integers(0, y.shape[-1], (batch, *sizes))
            step = graph.encode(x, target, weights=weights)
            found[device] = [y, np.array(step.loss), *step.outputs.values()]
            part = max(1, batch - 1)
            graph.encode(x[:part], target[:part]).wait()
        except mpsnn.NonFiniteError:
            found[device] = "non-finite"  # half overflowed
        except TYPED as refused:
            found[device] = type(refused).__name__
    if len(devices) < 2:
        return "compiled"
    a, b = (found[d] for d in devices)
    if isinstance(a, str) or isinstance(b, str):
        unsupported = "UnsupportedError" in (a, b)
        if not unsupported and (isinstance(a, str) != isinstance(b, str) or a != b):
            raise AssertionError(f"graph {number}: {devices[0]} says {a}, {devices[1]} says {b}")
        return a if isinstance(a, str) else b
    for i, (left, right) in enumerate(zip(a, b, strict=True)):
        finite = np.isfinite(left).all() and np.isfinite(right).all()
        if not finite and dtype == "float16":
            return "overflow"  # from there on it counts in which order a device multiplies by zeros
        wrong = error(left, right) if finite else float(
            not np.array_equal(np.isfinite(left), np.isfinite(right)))  # fmt: skip
        if not wrong <= LIMITS[dtype]:
            raise AssertionError(
                f"graph {number} ({dtype}), value {i}: {devices[0]} and {devices[1]} differ by "
                f"{wrong:.2e}\n{model!r}\n{shape} {outputs} {loss.attrs} {options} {recipe}"
            )
    return "compiled"


def main() -> int:
    count, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    found: Counter[str] = Counter()
    wrong = 0
    for number in range(first, first + count):
        try:
            found[run(number)] += 1
        except AssertionError as mismatch:
            wrong += 1
            print(mismatch, flush=True)
    print(f"{count} graphs from {first}: {dict(found)}; {wrong} mismatches")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
