"""Layers against PyTorch's modules of the same name and arguments; what they learn and refuse."""

from __future__ import annotations

from typing import Any

import mpsnn
import numpy as np
import pytest
import torch
from mpsnn import nn, optim

RNG = np.random.default_rng(8)
X = RNG.standard_normal((2, 3, 4, 5)).astype(np.float32) * 3


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (nn.LeakyReLU(0.2), torch.nn.LeakyReLU(0.2)),
        (nn.ReLUN(), torch.nn.ReLU6()),
        (nn.HardSigmoid(), torch.nn.Hardsigmoid()),
        (nn.Tanh(), torch.nn.Tanh()),
        (nn.Softplus(), torch.nn.Softplus()),
        (nn.Softplus(2.0), torch.nn.Softplus(2.0)),
        (nn.Softsign(), torch.nn.Softsign()),
        (nn.ELU(), torch.nn.ELU()),
        (nn.ELU(0.5), torch.nn.ELU(0.5)),
        (nn.SELU(), torch.nn.SELU()),
        (nn.CELU(0.7), torch.nn.CELU(0.7)),
        (nn.GELU(), torch.nn.GELU()),
        (nn.GELU("tanh"), torch.nn.GELU("tanh")),
        (nn.HardSwish(), torch.nn.Hardswish()),
        (nn.LogSoftmax(), torch.nn.LogSoftmax(-1)),
        (nn.PReLU(), torch.nn.PReLU()),
    ],
    ids=lambda m: repr(m)[:24],
)
def test_neurons_are_torchs(ours: Any, theirs: Any) -> None:
    np.testing.assert_allclose(ours(X), theirs(torch.from_numpy(X)).detach().numpy(), rtol=1e-5,
                               atol=1e-6)  # fmt: skip


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.Abs(), np.abs(X)),
        (nn.LinearNeuron(2.0, -1.0), 2 * X - 1),
        (nn.Power(1.0, 0.0, 2.0), X**2),
        (nn.Exp(0.5, 0.1, 3.0), 3.0 ** (0.5 * X + 0.1)),
        (nn.Exp(), np.exp(X)),
        (nn.Tanh(1.7159, 2 / 3), 1.7159 * np.tanh(X * 2 / 3)),
        (nn.HardSigmoid(0.2), np.clip(0.2 * X + 0.5, 0, 1)),
        (nn.ReLUN(0.5, 2.0), np.minimum(np.where(X > 0, X, 0.5 * X), 2)),
        (nn.Softplus(2.0, 3.0), 3 * np.log1p(np.exp(2 * X.astype(float)))),
    ],
)
def test_neurons_of_mps(layer: Any, expected: np.ndarray) -> None:
    np.testing.assert_allclose(layer(X), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        nn.Log(2.0, 0.5, 10.0)(np.abs(X)), np.log10(2 * np.abs(X) + 0.5), rtol=1e-5, atol=1e-6
    )


def test_powers_of_negative_numbers() -> None:
    x = np.array([[-2.0, -0.5, 0.0, 2.0]], np.float32)
    for c in (-2.0, -1.0, 0.0, 0.5, 2.0, 3.0):
        for device in ("reference", mpsnn.ops.run.default_device()):
            with np.errstate(all="ignore"):
                np.testing.assert_allclose(
                    mpsnn.ops.neuron(x, "power", 1, 0, c, device=device), x**c, rtol=1e-6
                )


@pytest.mark.parametrize("kind", [
    "sigmoid", "tanh", "softplus", "softsign", "elu", "gelu", "gelu_tanh", "exponential",
    "hard_sigmoid", "relun", "hard_swish", "logarithm",
])  # fmt: skip
def test_neurons_at_the_ends_of_the_range(kind: str) -> None:
    """Infinities, NaN and large numbers: the vectorised kernels do what plain loops do."""
    x = np.array([[-np.inf, -1e30, -200, -88, -1e-30, -0.0, 0, 1e-30, 88, 200, 1e30, np.inf,
                   np.nan]], np.float32)  # fmt: skip
    with np.errstate(all="ignore"):
        expected = mpsnn.ops.neuron(x, kind, device="reference")
        got = mpsnn.ops.neuron(x, kind, device=mpsnn.ops.run.default_device())
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-37)


def test_prelu_learns_a_slope_a_channel(device: str) -> None:
    slopes = np.array([0.5, -0.2, 0.1, 1.5, 0.0], np.float32)
    model = nn.Sequential(nn.PReLU(5))
    graph = mpsnn.TrainingGraph(model, nn.MSE(), optim.SGD(0.5), (3, 4, 5), 2, device)
    for _ in range(60):
        graph.encode(X, np.where(X > 0, X, slopes * X))
    graph.wait()
    np.testing.assert_allclose(model[0].weight.numpy(), slopes, atol=1e-3)


def test_dropout2d_is_identity_in_inference() -> None:
    layer = nn.Dropout2d(0.5)
    np.testing.assert_array_equal(layer(X), X)
    layer.train()
    y = layer(X).reshape(2, -1, 5)
    assert ((y == 0).all(1) | (y == 2 * X.reshape(2, -1, 5)).all(1)).all()
