"""Random graphs: each is compiled or refused with a typed error, and every device agrees.

    python tests/fuzz/graphs.py COUNT [FIRST]

A graph is decided by its number alone. Layers, shapes, dtypes, frozen parts, losses and exported
values are random, and some are wrong on purpose. `reference` runs each a second time without the
compiler's passes, which two devices may have wrong alike.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import mpsnn
import numpy as np
from mpsnn import _core, nn, ops, optim

TYPED = (ValueError, TypeError, mpsnn.UnsupportedError)  # ShapeError, DTypeError among them
DTYPES = ("float32", "float32", "float32", "float16", "bfloat16", "float64")
PLAIN = "reference without passes"
LIMITS = {"float32": 2e-3, "float16": 6e-2, "bfloat16": 3e-1, "float64": 1e-9}


class Branches(nn.Module):
    """Two paths over one input, joined: by their channels, by arithmetic or in a stack."""

    def __init__(self, left: nn.Module, right: nn.Module, join: str) -> None:
        super().__init__()
        self.left, self.right, self.join = left, right, join

    def forward(self, x: Any) -> Any:
        a, b = self.left(x), self.right(x)
        if self.join == "concat":
            return nn.concat([a, b])
        if self.join == "stack":
            flat = ops.reshape(a, (-1,))  # a view of what the stack might move
            first, second = ops.unstack(ops.tanh(ops.stack([a, b])))
            return first * second + ops.reshape(flat * flat, a.shape[1:])
        if self.join == "stack twice":
            first, second, again = ops.unstack(ops.tanh(ops.stack([a, b, a])))
            return first * second + again
        return getattr(nn, self.join)(a, b)


def pick(rng: np.random.Generator, options: Any) -> Any:
    return options[int(rng.integers(len(options)))]


def image_layer(rng: np.random.Generator, channels: int) -> tuple[nn.Module, int]:
    """A random layer over images of (about) so many channels, and how many it returns."""
    off = 1 if rng.random() < 0.02 else 0  # a wrong number of channels
    kind = rng.integers(12)
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
        join = pick(
            rng, ["concat", "concat", "add", "add", "subtract", "multiply", "stack", "stack twice"]
        )
        return Branches(left, right, join), a + b if join == "concat" else a
    if kind == 8:
        return resampling(rng), channels
    if kind == 9:
        return normalisation(rng, channels), channels
    if kind == 10:
        groups = pick(rng, [1, 1, channels])
        out = groups * int(rng.integers(1, 4))
        return nn.ConvTranspose2d(channels + off, out, k, stride, padding=int(rng.integers(2)),
                                  dilation=int(rng.integers(1, 3)),
                                  groups=groups if not off else 1), out  # fmt: skip
    return neuron(rng), channels


def resampling(rng: np.random.Generator) -> nn.Module:
    sides = rng.integers(0, 3, (2, 2)).tolist()
    size = (int(rng.integers(1, 12)), int(rng.integers(1, 12)))
    corners = bool(rng.integers(2))
    made: nn.Module = pick(rng, [
        lambda: nn.Upsample(2), lambda: nn.Upsample(2, "bilinear", corners),
        lambda: nn.Resize(size, "bilinear", corners), lambda: nn.Pad(sides),
        lambda: nn.Pad(sides, pick(rng, ["reflect", "edge"])),
        lambda: nn.Pad(sides, "constant", 0.5), lambda: nn.Crop(0, 1, 2, 2), nn.SpatialMean,
        nn.SpatialMax, nn.GlobalAvgPool2d, lambda: nn.L2Pool2d(2), lambda: nn.Dropout2d(0.4),
        lambda: nn.Permute((0, 2, 1, 3)),
    ])()  # fmt: skip
    return made


def normalisation(rng: np.random.Generator, channels: int) -> nn.Module:
    made: nn.Module = pick(rng, [
        lambda: nn.GroupNorm(pick(rng, [1, channels]), channels),
        lambda: nn.InstanceNorm2d(channels), lambda: nn.LayerNorm(channels),
        lambda: nn.LocalResponseNorm(int(rng.integers(1, 6))),
        lambda: nn.LocalContrastNorm(3, p0=float(rng.random())), nn.Softmax,
    ])()  # fmt: skip
    return made


def sequence_layer(rng: np.random.Generator, features: int) -> tuple[nn.Module, int]:
    """A random layer over sequences of so many features, and how many it returns."""
    hidden, layers = int(rng.integers(1, 6)), int(rng.integers(1, 3))
    off = 1 if rng.random() < 0.02 else 0
    both = bool(rng.integers(2))
    kind = rng.integers(6)
    if kind == 4:
        return nn.Conv1d(features + off, hidden, int(rng.integers(1, 4)), padding="same"), hidden
    if kind == 5:
        return neuron(rng), features
    cell = [nn.LSTM, nn.GRU, nn.RNN, nn.MGU][kind]
    return cell(features + off, hidden, layers, bidirectional=both), hidden * (1 + both)


def neuron(rng: np.random.Generator) -> nn.Module:
    made: nn.Module = pick(rng, [nn.ReLU, nn.Sigmoid, nn.Tanh, lambda: nn.LeakyReLU(0.2),
                                 nn.Identity, nn.ELU, nn.GELU, nn.Softplus, nn.HardSwish,
                                 nn.PReLU, nn.Abs, nn.LogSoftmax, lambda: nn.ReLUN(0.1, 1.0),
                                 lambda: nn.LinearNeuron(0.5, 0.1)])()  # fmt: skip
    return made


def random_model(rng: np.random.Generator) -> tuple[nn.Module, tuple[int, ...]]:
    shape: tuple[int, ...]
    layers: list[nn.Module] = []
    draw = rng.random()
    if draw < 0.2:
        features = int(rng.integers(1, 5))
        shape = (int(rng.integers(1, 8)), features)
        for _ in range(rng.integers(1, 4)):
            layer, features = sequence_layer(rng, features)
            layers.append(layer)
    elif draw < 0.8:
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


def error(a: np.ndarray, b: np.ndarray, loss: float) -> float:
    # A gradient may be zero but for rounding, such as that of a bias before a batch-norm.
    scale = max(float(np.abs(b).max(initial=0.0)), 0.1 * max(1.0, abs(loss)))
    return float(np.abs(a - b).max(initial=0.0)) / scale


@contextmanager
def passes(optimize: bool) -> Iterator[None]:
    """Programs are compiled with the compiler's passes, or without."""
    compiles = _core.Program.compile
    _core.Program.compile = partial(compiles, optimize=optimize)
    try:
        yield
    finally:
        _core.Program.compile = compiles


def run(number: int) -> str:
    """Try one graph; what became of it."""
    rng = np.random.default_rng([2609, number])
    mpsnn.manual_seed(number)
    devices = [d.id for d in mpsnn.devices()]
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
        if isinstance(module, (nn.Dropout, nn.Dropout2d)):  # MPS draws masks of its own
            devices = [d for d in devices if not d.startswith("mps")]
    dtype = pick(rng, DTYPES)
    batch = int(rng.integers(1, 6))
    names = [n for n, _ in model.named_modules() if n] + [n for n, _ in model.named_parameters()]
    names += ["x", "loss"]
    outputs = [pick(rng, names) + pick(rng, ["", ":grad"]) for _ in range(rng.integers(0, 3))]
    outputs = list(dict.fromkeys(outputs))
    cross = rng.random() < 0.5
    reduction = pick(rng, ["mean", "sum"])
    loss: Any = pick(rng, [nn.MSE, nn.MSE, nn.Huber, nn.SigmoidCrossEntropy])(reduction)
    if cross:
        loss = nn.SoftmaxCrossEntropy(reduction, label_smoothing=pick(rng, [0.0, 0.1]))
    recipe = pick(rng, [None, optim.SGD(0.01, momentum=0.9), optim.Adam(1e-3, eps=1e-3)])
    options = {"accumulate": pick(rng, [1, 1, 2]), "clip_norm": pick(rng, [None, 1.0])}
    x = rng.standard_normal((batch, *shape)).astype(np.float32)
    weights = pick(rng, [None, rng.random(batch).astype(np.float32)])
    state = model.state_dict()
    found: dict[str, Any] = {}
    for device in [*devices, PLAIN]:
        model.load_state_dict(state)
        try:
            with passes(optimize=device != PLAIN):
                where = device.split()[0]
                graph = mpsnn.TrainingGraph(model, loss, recipe, shape, batch, where, dtype, 3,
                                            outputs=outputs, **options)  # fmt: skip
                predict = mpsnn.InferenceGraph(model, shape, batch, where, dtype)
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
    return compare(
        found,
        dtype,
        f"{model!r}\n{shape} {outputs} {loss.attrs} {options} {recipe}",
        dtype,
    )


def compare(found: dict[str, Any], graph: str, about: str, dtype: str) -> str:
    """What became of a graph on all devices; AssertionError where they differ."""
    kept = {d: what for d, what in found.items() if what != "UnsupportedError"}
    if not kept:
        return "UnsupportedError"
    first, a = next(iter(kept.items()))
    for device, b in kept.items():
        if isinstance(a, str) or isinstance(b, str):
            if isinstance(a, str) != isinstance(b, str) or a != b:
                raise AssertionError(f"{graph}: {first} says {a}, {device} says {b}\n{about}")
            continue
        for i, (left, right) in enumerate(zip(a, b, strict=True)):
            finite = np.isfinite(left).all() and np.isfinite(right).all()
            if not finite and dtype == "float16":
                return "overflow"  # then it counts in which order a device multiplies by zeros
            wrong = error(left, right, float(a[1])) if finite else float(
                not np.array_equal(np.isfinite(left), np.isfinite(right)))  # fmt: skip
            if not wrong <= LIMITS[dtype]:
                raise AssertionError(
                    f"{graph}, value {i}: {first} and {device} differ by {wrong:.2e}\n{about}"
                )
    return a if isinstance(a, str) else "compiled"


def main() -> int:
    count, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    found: Counter[str] = Counter()
    wrong = 0
    for number in range(first, first + count):
        try:
            found[run(number)] += 1
        except (AssertionError, mpsnn.DeviceError) as mismatch:
            wrong += 1
            print(f"graph {number}:", mismatch, flush=True)
    print(f"{count} graphs from {first}: {dict(found)}; {wrong} mismatches")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
