"""Several inputs, outputs and losses; losses as functions; labels that carry weights."""

from __future__ import annotations

from typing import Any

import mpsnn
import numpy as np
import pytest
import torch
from mpsnn import nn, ops, optim

RNG = np.random.default_rng(4)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


class Two(nn.Module):
    """Two inputs, two outputs."""

    def __init__(self, named: bool = False) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(2, 4)
        self.classes, self.value = nn.Linear(4, 5), nn.Linear(4, 2)
        self.named = named

    def forward(self, left: Any, right: Any) -> Any:
        h = ops.tanh(self.a(left) + self.b(right))
        y = self.classes(h), self.value(h)
        return {"classes": y[0], "value": y[1]} if self.named else y


LEFT, RIGHT, Y, V = floats(6, 3), floats(6, 2), RNG.integers(0, 5, 6), floats(6, 2)


def expected(model: Two, weights: tuple[float, float], image: np.ndarray) -> tuple[float, Any]:
    p = {n: torch.tensor(np.asarray(w), requires_grad=True) for n, w in model.named_parameters()}
    h = torch.tanh(torch.from_numpy(LEFT) @ p["a.weight"].T + p["a.bias"]
                   + torch.from_numpy(RIGHT) @ p["b.weight"].T + p["b.bias"])  # fmt: skip
    w = torch.from_numpy(image)
    ce = torch.nn.functional.cross_entropy(
        h @ p["classes.weight"].T + p["classes.bias"], torch.from_numpy(Y), reduction="none"
    )
    se = ((h @ p["value.weight"].T + p["value.bias"] - torch.from_numpy(V)) ** 2).mean(1)
    loss = weights[0] * (ce * w).sum() / w.sum() + weights[1] * (se * w).sum() / w.sum()
    loss.backward()
    return loss.item(), {n: v.grad.numpy() for n, v in p.items()}


@pytest.mark.parametrize("named", [False, True])
def test_several_inputs_and_weighted_losses(device: str, named: bool) -> None:
    model = Two(named)
    losses: Any = (nn.SoftmaxCrossEntropy(), nn.MSE())
    factors: Any = (0.5, 2.0)
    inputs: Any = (LEFT, RIGHT)
    targets: Any = (Y, V)
    shapes: Any = ((3,), (2,))
    if named:
        keys = ("classes", "value")
        losses, factors = (
            dict(zip(keys, losses, strict=True)),
            dict(zip(keys, factors, strict=True)),
        )
        targets = dict(zip(keys, targets, strict=True))
        inputs, shapes = {"right": RIGHT, "left": LEFT}, {"left": (3,), "right": (2,)}
    names = [n for n, _ in model.named_parameters()]
    graph = mpsnn.TrainingGraph(model, losses, None, shapes, 8, device, loss_weights=factors,
                                outputs=[f"{n}:grad" for n in names])  # fmt: skip
    image = np.array([1, 2, 0, 1, 0.5, 1], np.float32)
    step = graph.encode(inputs, targets, weights=image)
    loss, gradients = expected(model, (0.5, 2.0), image)
    assert step.loss == pytest.approx(loss, rel=1e-5)
    for name in names:
        np.testing.assert_allclose(step.outputs[f"{name}:grad"], gradients[name], rtol=1e-3,
                                   atol=1e-5)  # fmt: skip
    whole = graph.encode(inputs, targets)
    assert whole.losses.mean() == pytest.approx(whole.loss, rel=1e-5)
    labels = {"classes": mpsnn.LossLabels(Y, image), "value": V} if named else (
        mpsnn.LossLabels(Y, image), V)  # fmt: skip
    assert graph.encode(inputs, labels).loss == step.loss
    predict = mpsnn.InferenceGraph(model, shapes, 4, device)
    found = predict(inputs)
    assert (set(found) == {"classes", "value"}) if named else (len(found) == 2)


def test_an_output_without_a_loss_and_soft_labels(device: str) -> None:
    model = Two()
    graph = mpsnn.TrainingGraph(model, (nn.SoftmaxCrossEntropy(), None), optim.SGD(0.1),
                                ((3,), (2,)), 6, device)  # fmt: skip
    before = model.value.weight.numpy()
    hard = graph.encode((LEFT, RIGHT), (Y, None)).loss
    soft = graph.encode((LEFT, RIGHT), (np.eye(5, dtype=np.float32)[Y], None)).loss
    assert soft < hard
    np.testing.assert_array_equal(model.value.weight.numpy(), before)


def huber(outputs: Any, targets: Any) -> Any:
    """|d| - 0.5 beyond 1, d^2/2 within: relu(|d| - 1) + min(|d|, 1)^2 / 2."""
    d = ops.subtract(outputs, targets)
    size = ops.add(ops.relu(d), ops.relu(ops.subtract(targets, outputs)))
    one = ops.multiply(size, size)
    over = ops.relu(ops.subtract(size, ops.sigmoid(ops.multiply(one, one))))
    return ops.image_mean(ops.add(over, one))


def test_a_function_is_a_loss(device: str) -> None:
    model = nn.Sequential(nn.Linear(3, 4))
    x, t = floats(5, 3), floats(5, 4)
    image = np.array([1, 0, 2, 1, 1], np.float32)
    graph = mpsnn.TrainingGraph(model, huber, optim.SGD(0.1), (3,), 5, device,
                                outputs=["0", "0:grad"])  # fmt: skip
    step = graph.encode(x, t, weights=image)
    y = torch.from_numpy(step.outputs["0"]).double().requires_grad_(True)
    d = y - torch.from_numpy(t).double()
    size = torch.relu(d) + torch.relu(-d)
    per = (torch.relu(size - torch.sigmoid(size**4)) + size**2).mean(1)
    w = torch.from_numpy(image).double()
    loss = (per * w).sum() / w.sum()
    loss.backward()
    assert step.loss == pytest.approx(loss.item(), rel=1e-5)
    np.testing.assert_allclose(step.losses, per.detach().numpy() * (image > 0), rtol=1e-4)
    np.testing.assert_allclose(step.outputs["0:grad"], y.grad.numpy(), rtol=1e-3, atol=1e-6)
    assert graph.encode(x, t, weights=image).loss < step.loss


def test_a_function_of_all_outputs(device: str) -> None:
    def both(outputs: Any, targets: Any) -> Any:
        a = ops.subtract(outputs[0], targets[0])
        b = ops.subtract(outputs[1], targets[1])
        return ops.add(ops.image_mean(ops.multiply(a, a)), ops.image_mean(ops.multiply(b, b)))

    graph = mpsnn.TrainingGraph(Two(), both, optim.SGD(0.05), ((3,), (2,)), 6, device)
    losses = [graph.encode((LEFT, RIGHT), (floats(6, 5) * 0, V)).loss for _ in range(8)]
    assert losses == sorted(losses, reverse=True)


def test_accumulation_with_a_weighted_loss_counts_as_one(device: str) -> None:
    found = []
    for accumulate in (1, 2):
        mpsnn.manual_seed(1)
        model = nn.Sequential(nn.Linear(3, 5))
        graph = mpsnn.TrainingGraph(model, [nn.SoftmaxCrossEntropy()], optim.SGD(0.5), (3,), 6,
                                    device, loss_weights=[3.0], accumulate=accumulate)  # fmt: skip

        for part in np.array_split(np.arange(6), accumulate):
            graph.encode(LEFT[part], [Y[part]]).wait()
        found.append(model[0].weight.numpy())
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-6)


def test_mistakes_are_named() -> None:
    def graph(loss: Any, **options: Any) -> Any:
        return mpsnn.TrainingGraph(Two(), loss, None, ((3,), (2,)), 4, "reference", **options)

    ce, mse = nn.SoftmaxCrossEntropy(), nn.MSE()
    with pytest.raises(ValueError, match="tuple or dict of losses"):
        graph(ce)
    with pytest.raises(ValueError, match=r"a loss .or None. for each output"):
        graph((ce,))
    with pytest.raises(ValueError, match="forward returns tuple"):
        graph({"a": ce, "b": mse})
    with pytest.raises(ValueError, match="there is no loss"):
        graph((None, None))
    with pytest.raises(TypeError, match="must be a loss"):
        graph((ce, 3))
    with pytest.raises(ValueError, match="loss_weights"):
        graph((ce, mse), loss_weights=(1,))
    with pytest.raises(ValueError, match="loss_weights"):
        graph((ce, mse), loss_weights=(1, -1))
    with pytest.raises(mpsnn.ShapeError, match="one value an image"):
        graph(lambda outputs, targets: ops.subtract(outputs[0], targets[0]))
    with pytest.raises(TypeError, match="value of the graph"):
        graph(lambda outputs, targets: 3)
    with pytest.raises(mpsnn.UnsupportedError, match="several mean losses"):
        mpsnn.TrainingGraph(Two(), (ce, mse), optim.SGD(0.1), ((3,), (2,)), 4, "reference",
                            accumulate=2)  # fmt: skip
    made = graph((ce, mse))
    with pytest.raises(ValueError, match="targets"):
        made.encode((LEFT[:4], RIGHT[:4]), Y[:4])
    with pytest.raises(mpsnn.ShapeError, match="targets 1"):
        made.encode((LEFT[:4], RIGHT[:4]), (Y[:4], V[:4, :1]))
    with pytest.raises(mpsnn.DTypeError, match="targets 0"):
        made.encode((LEFT[:4], RIGHT[:4]), (Y[:4].astype(np.float32), V[:4]))
    with pytest.raises(ValueError, match="twice"):
        made.encode((LEFT[:4], RIGHT[:4]), (mpsnn.LossLabels(Y[:4], np.ones(4)), V[:4]),
                    weights=np.ones(4))  # fmt: skip
