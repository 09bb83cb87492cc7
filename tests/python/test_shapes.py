"""Arithmetic and ops that move or reduce elements: arguments, errors, use in models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpsnn
import numpy as np
import pytest
import torch
from mpsnn import nn, ops, optim

RNG = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


ARITHMETIC = (ops.add, ops.subtract, ops.multiply, ops.divide)


@pytest.mark.parametrize("op", ARITHMETIC, ids=lambda op: op.__name__)
@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((2, 3), (2, 4)),  # neither is 1
        ((2, 3), (1, 3)),  # another batch
        ((2, 1, 3), (4, 1, 3)),
        ((2, 3, 4), (2, 4)),  # aligned at the end
        ((2, 3), (3, 2)),
    ],
)
def test_shapes_that_do_not_broadcast(op: Callable[..., Any], a: Any, b: Any) -> None:
    with pytest.raises(mpsnn.ShapeError, match=rf"\[{op.__name__}\] shapes do not broadcast"):
        op(floats(*a), floats(*b))


@pytest.mark.parametrize("op", ARITHMETIC, ids=lambda op: op.__name__)
def test_arithmetic_refuses(op: Callable[..., Any]) -> None:
    with pytest.raises(mpsnn.DTypeError, match="must be floating"):
        op(floats(2, 3), np.ones((2, 3), np.int64))
    with pytest.raises(mpsnn.DeviceError):
        op(floats(2), floats(2), device="gpu")
    gradient = getattr(ops, f"{op.__name__}_gradient")
    with pytest.raises(mpsnn.ShapeError, match="gradient must be"):
        gradient(floats(2, 1), floats(2, 3), floats(3))


def test_operators_of_graph_values() -> None:
    """Every operator, with values and parameters on either side."""

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.p = nn.Parameter(np.abs(floats(3)) + 1)

        def forward(self, x: Any) -> Any:
            p = self.p
            return (x + p) * (p - x) / (x * x + p) + p / (p * x - x / p - p + x)

    model = Mixed()
    x = floats(4, 5, 3)
    tx = torch.from_numpy(x)
    p = torch.from_numpy(model.p.numpy())
    y = (tx + p) * (p - tx) / (tx * tx + p) + p / (p * tx - tx / p - p + tx)
    np.testing.assert_allclose(model(x), y.numpy(), rtol=1e-4, atol=1e-5)
    with pytest.raises(TypeError, match="takes values of the graph"):
        mpsnn.vjp(lambda x: x * 2, floats(2, 2), floats(2, 2))


def test_a_broadcast_parameter_trains_as_in_torch(device: str) -> None:
    """A scale and a shift by channel, whatever the batch, the last one smaller and of size 1."""

    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(np.ones(4, np.float32))
            self.shift = nn.Parameter(np.zeros((1, 4), np.float32))

        def forward(self, x: Any) -> Any:
            return x * self.scale + self.shift

    model = Scale()
    graph = mpsnn.TrainingGraph(
        model, nn.MSE(), optim.SGD(0.1), input_shape=(3, 4), batch_size=5, device=device
    )
    scale = torch.ones(4, requires_grad=True)
    shift = torch.zeros(1, 4, requires_grad=True)
    sgd = torch.optim.SGD([scale, shift], 0.1)
    for n in (5, 5, 2, 1, 5):
        x, t = floats(n, 3, 4), floats(n, 3, 4)
        sgd.zero_grad()
        torch.nn.functional.mse_loss(
            torch.from_numpy(x) * scale + shift, torch.from_numpy(t)
        ).backward()
        sgd.step()
        graph.encode(x, t).wait()
    np.testing.assert_allclose(model.scale.numpy(), scale.detach().numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.shift.numpy(), shift.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_an_added_value_keeps_its_gradient_without_a_node() -> None:
    """The gradient of a same-shape sum is its output's; only the broadcast side is summed."""
    from mpsnn import _core

    def nodes(shape: tuple[int, ...]) -> int:
        graph = _core.Graph()
        a, b = graph.input("a", (2, 3, 4)), graph.input("b", shape, batched=False)
        y = graph.add("add", [a, b], {}, "sum")[0]
        seed = graph.input("seed", (2, 3, 4))
        program = _core.Program.compile(
            graph, device="reference", training=True, seeds=[(y, seed)],
            results=[("ga", a, True), ("gb", b, True)],
        )  # fmt: skip
        return len(program.summary())

    assert nodes((2, 3, 4)) == 1  # the sum
    assert nodes((4,)) == 2
