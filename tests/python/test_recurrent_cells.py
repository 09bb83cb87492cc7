"""Recurrent layers: given weights, differences in float64, integers among the inputs."""

from __future__ import annotations

from typing import Any

import mpsnn
import numpy as np
import pytest
from mpsnn import nn, optim

rng = np.random.default_rng(0)
N, T, C, H = 5, 7, 4, 6


class Source(mpsnn.DataSource):
    """A recurrent layer's arrays, and a plain step of 0.5 on the host."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays, self.calls = arrays, [0, 0]

    def load(self) -> None:
        self.calls[0] += 1

    def purge(self) -> None:
        self.calls[1] += 1

    def weights(self) -> dict[str, np.ndarray]:
        return self.arrays

    def update(self, gradients: mpsnn.WeightsAndBias, source: mpsnn.WeightsAndBias) -> Any:
        return mpsnn.WeightsAndBias(
            {k: v - 0.5 * gradients.weights[k] for k, v in source.weights.items()}
        )


def test_given_weights() -> None:
    """A dict of arrays, a function, and a data source that is loaded once and when needed."""
    layer = nn.GRU(C, H, 2, bidirectional=True)
    state = layer.state_dict()
    x = rng.standard_normal((N, T, C)).astype(np.float32)
    same = nn.GRU(C, H, 2, bidirectional=True, weights=state)
    np.testing.assert_array_equal(same(x), layer(x))
    ones = nn.LSTM(C, H, weights=lambda shape, generator: np.ones(shape))
    assert (ones.state_dict()["weight_hh_l0"] == 1).all()
    assert ones.state_dict()["bias_l0"].std() > 0
    source = Source(state)
    lazy = nn.GRU(C, H, 2, bidirectional=True, weights=source)
    assert source.calls == [0, 0]
    np.testing.assert_array_equal(lazy(x), layer(x))
    assert source.calls == [1, 1]
    without = {k: v for k, v in state.items() if not k.startswith("bias")}
    bare = nn.GRU(C, H, 2, bidirectional=True, weights=Source(without))
    assert not any(v.any() for k, v in bare.state_dict().items() if k.startswith("bias"))

    target = np.zeros((N, T, 2 * H), np.float32)
    for net, rate in ((lazy, 0.0), (layer, 0.5)):
        graph = mpsnn.TrainingGraph(net, nn.MSE(), optim.SGD(rate), (T, C), N, "cpu")
        for _ in range(3):
            graph.encode(x, target)
        graph.wait()
    for name, value in layer.state_dict().items():
        np.testing.assert_allclose(lazy.state_dict()[name], value, rtol=1e-5, atol=1e-8)

    with pytest.raises(ValueError, match="no arrays \\['weight'\\]"):
        nn.RNN(C, H, weights={"weight": np.ones(3)})
    with pytest.raises(ValueError, match="no array 'weight_hh_l0'"):
        nn.RNN(C, H, weights={"weight_ih_l0": np.ones((H, C))})
    with pytest.raises(mpsnn.ShapeError, match="weight_ih_l0 must be"):
        nn.MGU(C, H, weights=dict.fromkeys(nn.MGU(C, H).state_dict(), np.ones(3)))
    with pytest.raises(TypeError, match="weights must be"):
        nn.LSTM(C, H, weights=3)  # type: ignore[arg-type]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", ["lstm", "peephole", "gru", "before", "mgu", "tanh", "sigmoid"])
def test_gradcheck(cell: str, reverse: bool) -> None:
    """Differences in float64 by inputs, weights, biases and states, with lengths."""
    ops = mpsnn.ops
    n, t, c, h = 3, 3, 2, 2
    gates = {"lstm": 4, "peephole": 4, "gru": 3, "before": 3, "mgu": 2}.get(cell, 1)
    x, w, u, bias, h0 = (
        0.7 * rng.standard_normal(shape)
        for shape in ((n, t, c), (gates * h, c), (gates * h, h), (gates * h,), (n, h))
    )
    lengths = np.array([3, 1, 2])
    given = {"reverse": reverse}

    def lstm(x: Any, w: Any, u: Any, b: Any, h: Any, lengths: Any, c: Any, p: Any = None) -> Any:
        y, (h, c) = ops.lstm(x, w, u, b, peephole=p, h0=h, c0=c, lengths=lengths, **given)
        return y, h, c

    def gru(x: Any, w: Any, u: Any, b: Any, h: Any, lengths: Any, hn: Any = None) -> Any:
        return ops.gru(x, w, u, b, hn, h0=h, lengths=lengths, reset_after=hn is not None, **given)

    def mgu(x: Any, w: Any, u: Any, b: Any, h: Any, lengths: Any) -> Any:
        return ops.minimal_gated(x, w, u, b, h0=h, lengths=lengths, **given)

    def rnn(x: Any, w: Any, u: Any, b: Any, h: Any, lengths: Any) -> Any:
        return ops.rnn(x, w, u, b, h0=h, lengths=lengths, nonlinearity=cell, **given)

    function: Any = {"lstm": lstm, "peephole": lstm, "gru": gru, "before": gru, "mgu": mgu}
    more = {"lstm": [h0 - 0.3], "peephole": [h0 - 0.3, 0.5 * rng.standard_normal((3, h))],
            "gru": [0.4 * rng.standard_normal(h)]}  # fmt: skip
    inputs = [x, w, u, bias, h0, lengths, *more.get(cell, [])]
    assert mpsnn.gradcheck(function.get(cell, rnn), inputs)


def test_vjp_takes_integers_where_indices_are_read() -> None:
    layer = nn.Embedding(5, 3)
    i = np.array([[1, 4], [1, 0]])
    y, by_inputs, (by_weight,) = mpsnn.vjp(layer, i, np.ones((2, 2, 3), np.float32), [layer.weight])
    np.testing.assert_array_equal(y, layer.weight.numpy()[i])
    assert by_inputs == [None]
    np.testing.assert_array_equal(by_weight[:, 0], [1, 2, 0, 0, 1])
    with pytest.raises(mpsnn.DTypeError, match="floating"):
        mpsnn.vjp(nn.Linear(2, 3), i, np.ones((2, 3), np.float32))
