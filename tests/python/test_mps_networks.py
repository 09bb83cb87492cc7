"""The project's networks on the mps device: they train as on `reference`, and no step waits.

Dropout is left out, as its masks are MPS's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpsnn
import numpy as np
import pytest
from apple import SIMULATED, count, each, sim
from mpsnn import _core, models, nn, optim

HERE = any(d.kind == "mps" for d in mpsnn.devices())
pytestmark = pytest.mark.skipif(not HERE, reason="there is no mps device")
STEPS = 20
# A model's maker, its loss and optimizer, one batch.
Network = tuple[Callable[[], nn.Module], Any, Any, np.ndarray, Any]


class Characters(nn.Module):
    """The network of examples/text.py, smaller."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(30, 12)
        self.lstm = nn.LSTM(12, 24, 2)
        self.head = nn.Linear(24, 30)

    def forward(self, x: Any) -> Any:
        return self.head(self.lstm(self.embedding(x)))


def digits(rng: np.random.Generator) -> Network:
    x = rng.random((8, 28, 28, 1), np.float32)
    return lambda: models.digits(dropout=0.0), nn.SoftmaxCrossEntropy(), optim.Adam(1e-3), x, (10,)


def activity(rng: np.random.Generator) -> Network:
    x = rng.standard_normal((4, 1, 2000, 6)).astype(np.float32)  # the talk's 20 steps

    def make() -> nn.Module:
        return models.activity_classifier(100, 6, 5, filters=16, hidden=24, dense=16,
                                          dropout=(0, 0))  # fmt: skip

    return make, nn.SoftmaxCrossEntropy(), optim.Adam(1e-3), x, (5, 20)


def text(rng: np.random.Generator) -> Network:
    x = rng.integers(0, 30, (4, 16)).astype(np.int32)
    return Characters, nn.SoftmaxCrossEntropy(), optim.Adam(1e-3), x, (30, 16)


def tiny_yolo(rng: np.random.Generator) -> Network:
    anchors = [(1.0, 1.5), (2.0, 1.0)]
    x = rng.random((1, 64, 64, 3), np.float32)
    targets = np.zeros((1, 2, 2, 2, 5 + 3), np.float32)
    targets[0, 1, 0, :, :5] = [0.3, 0.6, 1.2, 1.1, 1]
    targets[0, 1, 0, :, 6] = 1
    return (lambda: models.tiny_yolo_v2(3, 2), nn.YOLO(anchors), optim.SGD(2e-5, momentum=0.9), x,
            targets.reshape(1, 2, 2, -1))  # fmt: skip


def inception(rng: np.random.Generator) -> Network:
    # Smooth pictures and small steps: through forty batch-norms gradients are so large at first
    # that rounding alone would part the curves.
    x = np.kron(rng.random((2, 7, 7, 3)), np.ones((1, 16, 16, 1)))[:, :107, :107]
    return (lambda: models.inception_v3(5, aux_logits=False, dropout=0.0),
            nn.SoftmaxCrossEntropy(), optim.SGD(2e-6), x.astype(np.float32), (5,))  # fmt: skip


NETWORKS = [digits, activity, text, tiny_yolo, pytest.param(inception, marks=pytest.mark.soak)]


@pytest.mark.parametrize("network", NETWORKS)
def test_twenty_steps_as_on_reference(network: Callable[[np.random.Generator], Network]) -> None:
    rng = np.random.default_rng(0)
    make, loss, optimizer, x, target = network(rng)
    if isinstance(target, tuple):
        classes, *positions = target
        target = rng.integers(0, classes, (len(x), *positions))
    clip = 1.0 if network is inception else None
    curves = {}
    for device in ("mps", "reference"):
        mpsnn.manual_seed(3)
        graph = mpsnn.TrainingGraph(
            make(), loss, optimizer, x.shape[1:], len(x), device, clip_norm=clip
        )
        curves[device] = [graph.encode(x, target).loss for _ in range(STEPS)]
        if device == "mps" and SIMULATED:
            report(network.__name__, graph, x, target)
    errors = [abs(a - b) / max(1.0, abs(b)) for a, b in zip(*curves.values(), strict=True)]
    print(f"{network.__name__}: {STEPS} losses differ by {max(errors):.1e} at most")
    assert max(errors) <= 1e-3, curves
    assert curves["mps"][-1] < curves["mps"][0]


def report(name: str, graph: mpsnn.TrainingGraph, x: np.ndarray, target: np.ndarray) -> None:
    """Count what a step asks of the device; none waits for the host."""
    _core.drain()
    sim.apple_sim_reset_counters()
    for _ in range(2):
        graph.encode(x, target)
    graph.wait()
    _core.drain()
    encodes = {kind: n // 2 for kind, n in each("encode").items() if n}
    conversions = {kind: encodes.get(kind, 0) for kind in
                   ("MPSMatrixCopyToImage", "MPSImageCopyToMatrix")}  # fmt: skip
    print(f"{name}, a step: {count('encodes', None) // 2} encodes, of these {conversions}; "
          f"{count('blits') // 2} copies of buffers, {count('synchronizations') // 2} "
          f"synchronisations, {count('host_waits')} host waits")  # fmt: skip
    assert count("host_waits") == 0
    assert count("commits") == 2
