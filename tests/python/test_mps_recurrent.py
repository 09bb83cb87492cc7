"""Which recurrent layers go to MPSRNNMatrixTrainingLayer on mps, and what they encode."""

from __future__ import annotations

from typing import Any

import mpsnn
import numpy as np
import pytest
from apple import each, sim
from mpsnn import _core, nn, ops, optim
from test_mps import HERE, simulated

pytestmark = pytest.mark.skipif(not HERE, reason="there is no mps device")
LAYER, PRODUCT = "MPSRNNMatrixTrainingLayer", "MPSMatrixMultiplication"


class Last(nn.Module):
    """A head on the last state, or on both parts of an LSTM's."""

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(width, 3)

    def forward(self, x: Any) -> Any:
        return self.head(self.layer(x))


class Cell(nn.Module):
    """A head on an LSTM's cell state."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.LSTM(4, 6, return_state=True), nn.Linear(6, 3)

    def forward(self, x: Any) -> Any:
        _, state = self.layer(x)
        return self.head(ops.unstack(state[1])[0])


def last(layer: Any, width: int = 6, **options: Any) -> Last:
    return Last(layer(4, 6, return_sequences=False, **options), width)


def encodes(run: Any) -> dict[str, int]:
    run()
    _core.drain()
    sim.apple_sim_reset_counters()
    run()
    _core.drain()
    return each("encode")


# A layer's encodes in a step of training: forward, gradient, and for both passes what copies the
# weights: inputs', recurrent ones and bias of each gate, and peepholes.
@simulated
@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: last(nn.LSTM), 2 + 2 * 12),
        (lambda: last(nn.LSTM, peepholes=True), 2 + 2 * 15),
        (lambda: last(nn.LSTM, bias=False), 2 + 2 * 8),
        (lambda: last(nn.LSTM, num_layers=2), 2 * (2 + 2 * 12)),
        (lambda: last(nn.LSTM, bidirectional=True, width=12), 2 * (2 + 2 * 12)),
        (lambda: last(nn.GRU, reset_after=False), 2 + 2 * 9),
        (lambda: last(nn.MGU), 2 + 2 * 6),
        (lambda: last(nn.RNN), 2 + 2 * 3),
        (lambda: last(nn.GRU), 0),
        (Cell, 0),
    ],
    ids=["lstm", "peepholes", "bare", "stacked", "bidirectional", "gru-reset-before", "mgu", "rnn",
         "gru", "cell-state"],
)  # fmt: skip
def test_encodes_of_a_step(make: Any, expected: int) -> None:
    graph = mpsnn.TrainingGraph(
        make(), nn.SoftmaxCrossEntropy(), optim.SGD(0.1), (5, 4), 2, device="mps", seed=0
    )
    x, y = np.random.default_rng(0).random((2, 5, 4), np.float32), np.array([0, 2])
    counts = encodes(lambda: graph.encode(x, y).wait())
    assert counts.get(LAYER, 0) == expected, counts
    assert (counts.get(PRODUCT, 0) > 0) == (expected == 0), counts
    assert (LAYER in str(graph.summary())) == (expected > 0)


@simulated
def test_weights_are_copied_once() -> None:
    predict = mpsnn.InferenceGraph(last(nn.LSTM), (5, 4), 2, device="mps")
    x = np.random.default_rng(0).random((2, 5, 4), np.float32)
    assert encodes(lambda: predict(x))[LAYER] == 1


@simulated
def test_lengths_are_composed() -> None:
    graph = mpsnn.TrainingGraph(
        last(nn.LSTM), nn.SoftmaxCrossEntropy(), optim.SGD(0.1), (5, 4), 2, device="mps", seed=0
    )
    x, y = np.random.default_rng(0).random((2, 5, 4), np.float32), np.array([0, 2])
    counts = encodes(lambda: graph.encode(x, y, lengths=[5, 2]).wait())
    assert counts.get(LAYER, 0) == 0
    assert counts[PRODUCT] > 0


# What gradients arrive decides too: by y, the last h, the last c.
@pytest.mark.parametrize("given", ["y", "h", "c", "yh", "yc", "yhc"])
def test_gradients_of_some_outputs(given: str) -> None:
    rng = np.random.default_rng(4)
    x, w, u = rng.random((3, 5, 4)), rng.standard_normal((24, 4)), rng.standard_normal((24, 6))
    gy = [
        rng.standard_normal(shape).astype(np.float32) if name in given else None
        for name, shape in zip("yhc", [(3, 5, 6), (3, 6), (3, 6)], strict=True)
    ]
    operands = [np.asarray(v, np.float32) for v in (x, w, u)]
    found = ops.lstm_gradient(tuple(gy), *operands, device="mps")
    expected = ops.lstm_gradient(tuple(gy), *operands, device="reference")
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_all_outputs_of_one_layer() -> None:
    rng = np.random.default_rng(5)
    x, w, u = (rng.standard_normal(s).astype(np.float32) for s in [(3, 5, 4), (24, 4), (24, 6)])
    found, (h, c) = ops.lstm(x, w, u, device="mps")
    expected, (last_h, last_c) = ops.lstm(x, w, u, device="reference")
    for a, b in ((found, expected), (h, last_h), (c, last_c)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
