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


class Descent(optim.Optimizer):
    """SGD on the host."""

    def update_parameter(
        self, name: str, weights: Any, gradient: Any, state: Any, lr: float
    ) -> Any:
        return weights - np.float32(lr) * gradient


SEVERAL: list[Any] = [
    (nn.SoftmaxCrossEntropy(ignore_index=2), nn.MSE()),
    (nn.SoftmaxCrossEntropy(weight=[1, 5, 1, 0.2, 3]), nn.MSE("sum")),
    (nn.SoftmaxCrossEntropy("sum"), nn.MSE("sum")),
]


@pytest.mark.parametrize("losses", SEVERAL, ids=["mean mean", "mean sum", "sum sum"])
@pytest.mark.parametrize(
    "options", [{}, {"clip_norm": 0.3}, {"clip_value": 0.05}, {"loss_scale": 64.0}, {"ema": 0.5}],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("optimizer", [optim.SGD(0.5, momentum=0.9), optim.Adam(0.1), Descent(0.5)],
                         ids=lambda one: type(one).__name__)  # fmt: skip
def test_several_accumulated_losses_count_as_one_batch(
    device: str, losses: Any, options: Any, optimizer: Any
) -> None:
    """Unequal parts of different weights: each loss is divided by its own sum of weights."""
    image = np.array([1, 2, 0.5, 1, 0, 3], np.float32)
    found = []
    for parts in ([range(6)], [range(1), range(1, 4), range(4, 6)]):
        mpsnn.manual_seed(1)
        model = Two()
        graph = mpsnn.TrainingGraph(model, losses, optimizer, ((3,), (2,)), 6, device,
                                    loss_weights=(0.5, 2.0), accumulate=len(parts),
                                    **options)  # fmt: skip
        for _ in range(3):
            for part in parts:
                at = list(part)
                graph.encode((LEFT[at], RIGHT[at]), (Y[at], V[at]), weights=image[at]).wait()
        if "ema" in options:
            model = graph.averaged_model()
        found.append(model.state_dict())
    for name, value in found[0].items():
        np.testing.assert_allclose(found[1][name], value, rtol=1e-3, atol=2e-5, err_msg=name)


def test_exported_gradients_are_those_of_the_step_s_loss(device: str) -> None:
    """Whatever is accumulated, and in a step that does not update too."""
    image = np.array([1, 2, 0.5, 1, 0, 3], np.float32)
    names = ["a.weight:grad", "value.bias:grad", "left:grad"]
    found = []
    for accumulate in (1, 2):
        mpsnn.manual_seed(1)
        graph = mpsnn.TrainingGraph(Two(), SEVERAL[0], None if accumulate == 1 else optim.SGD(0.5),
                                    ((3,), (2,)), 6, device, accumulate=accumulate,
                                    outputs=names)  # fmt: skip
        found.append(graph.encode((LEFT, RIGHT), (Y, V), weights=image).outputs)
    for name in names:
        np.testing.assert_allclose(found[1][name], found[0][name], rtol=1e-4, atol=1e-6)


def test_accumulated_losses_are_saved_and_guarded(device: str, tmp_path: Any) -> None:
    """A state in the middle of a window is whole, and a failure drops what had been accumulated."""

    def make() -> Any:
        mpsnn.manual_seed(1)
        return mpsnn.TrainingGraph(Two(), SEVERAL[0], optim.SGD(0.5, momentum=0.9), ((3,), (2,)), 6,
                                   device, accumulate=2, seed=0)  # fmt: skip

    def encode(graph: Any, at: Any, scale: float = 1.0) -> Any:
        return graph.encode((LEFT[at] * scale, RIGHT[at]), (Y[at], V[at]))

    first, second = [0, 1, 2, 3], [4, 5]
    whole, part, failed = make(), make(), make()
    for at in (first, second):
        encode(whole, at).wait()
    encode(part, first).wait()
    part.save_state(tmp_path / "middle")
    resumed = make()
    resumed.load_state(tmp_path / "middle")
    encode(resumed, second).wait()
    encode(failed, second).wait()  # begins a window that the next step spoils
    before = failed.model.state_dict()
    with pytest.raises(mpsnn.NonFiniteError):
        encode(failed, first, np.inf).wait()
    encode(failed, first).wait()
    for name, value in failed.model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    assert encode(failed, second).updated
    for name, value in whole.model.state_dict().items():
        np.testing.assert_array_equal(resumed.model.state_dict()[name], value)
        np.testing.assert_array_equal(failed.model.state_dict()[name], value)


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


LOSSES: list[Any] = [
    nn.MAE, nn.MSE, nn.Huber, nn.KLDivergence, nn.SigmoidCrossEntropy, nn.CategoricalCrossEntropy,
    nn.Hinge, nn.LogLoss, nn.CosineDistance, nn.SoftmaxCrossEntropy,
]  # fmt: skip


@pytest.mark.parametrize("make", LOSSES)
def test_reductions_agree(make: Any) -> None:
    """Of arrays: "none" gives every w l, the others follow from it, and gradients from both."""
    y = 0.1 + 0.8 * RNG.random((3, 4, 5)).astype(np.float32)
    t = RNG.dirichlet(np.ones(5), (3, 4)).astype(np.float32)
    image = np.array([1, 0, 2], np.float32)
    each, losses = make("none")(y, t, image)
    units = each.reshape(3, -1)
    np.testing.assert_allclose(losses, units.sum(1), rtol=1e-5)
    total, sums = make("sum")(y, t, image)
    assert total == pytest.approx(units.sum(), rel=1e-5)
    np.testing.assert_allclose(sums, units.sum(1), rtol=1e-5)
    mean, means = make()(y, t, image)
    assert mean == pytest.approx(units.sum() / (3 * units.shape[1]), rel=1e-5)
    np.testing.assert_allclose(means, units.mean(1) * [1, 0, 0.5], rtol=1e-5)
    gradient = make("sum").gradient(y, t, image)
    np.testing.assert_allclose(make("none").gradient(y, t, image), gradient, rtol=1e-5, atol=1e-7)
    scaled = make().gradient(y, t, image, gy=3.0)  # the images' weights sum to 3
    np.testing.assert_allclose(scaled, gradient / units.shape[1], rtol=1e-5, atol=1e-7)
    weights = RNG.random(each.shape).astype(np.float32)
    unweighted = make("none")(y, t)[0]
    np.testing.assert_allclose(make("none")(y, t, weights)[0], unweighted * weights, rtol=1e-5,
                               atol=1e-7)  # fmt: skip
    assert make()(y, t, weights)[0] == pytest.approx(
        (unweighted * weights).sum() / weights.sum(), rel=1e-4
    )


@pytest.mark.parametrize("make", LOSSES)
def test_what_has_no_weight_does_not_count(device: str, make: Any) -> None:
    """Not even if it is not finite; and where nothing counts the loss is 0."""
    y = 0.1 + 0.8 * RNG.random((3, 4)).astype(np.float32)
    t = RNG.dirichlet(np.ones(4), 3).astype(np.float32)
    model = nn.Sequential(nn.LinearNeuron(1.0, 0.0))
    graph = mpsnn.TrainingGraph(model, make(), None, (4,), 3, device, outputs=["x:grad"])
    bad, bad_t = y.copy(), t.copy()
    bad[1] = bad_t[1] = np.nan
    step = graph.encode(bad, bad_t, weights=np.array([1, 0, 1], np.float32))
    kept = graph.encode(y[[0, 2]], t[[0, 2]])
    assert step.loss == pytest.approx(kept.loss, rel=1e-6)
    np.testing.assert_array_equal(step.outputs["x:grad"][1], 0)
    np.testing.assert_allclose(step.outputs["x:grad"][[0, 2]], kept.outputs["x:grad"], rtol=1e-6)
    nothing = graph.encode(bad, bad_t, weights=np.zeros(3, np.float32))
    assert nothing.loss == 0
    assert not nothing.outputs["x:grad"].any()


def test_weights_of_elements_in_a_graph(device: str) -> None:
    """A mask of time steps, then one of elements, then indices: each is a program of the graph."""
    x, t = floats(4, 6, 3), floats(4, 6, 2)
    model = nn.Sequential(nn.Linear(3, 2))
    graph = mpsnn.TrainingGraph(model, nn.MSE(), optim.SGD(0.1), (6, 3), 4, device,
                                outputs=["0"])  # fmt: skip
    for mask in (RNG.integers(0, 2, (4, 6)), RNG.integers(0, 2, (4, 6, 2))):
        weights = mask.astype(np.float32)
        step = graph.encode(x, t, weights=weights)
        squares = (step.outputs["0"] - t) ** 2
        whole = weights.reshape(4, 6, -1) * np.ones(2)
        assert step.loss == pytest.approx((squares * whole).sum() / whole.sum(), rel=1e-5)
        np.testing.assert_allclose(
            step.losses, (squares * whole).sum((1, 2)) / whole.sum((1, 2)), rtol=1e-5
        )
        labels = mpsnn.LossLabels(t, weights)
        assert graph.encode(x, labels).loss < step.loss, "one training state"
    part = graph.encode(x[:3], t[:3], weights=weights[:3])
    assert part.losses.shape == (3,)
    with pytest.raises(mpsnn.ShapeError, match="weights must be"):
        graph.encode(x, t, weights=np.ones((4, 5), np.float32))
    with pytest.raises(ValueError, match="twice"):
        graph.encode(x, mpsnn.LossLabels(t, np.ones(4)), weights=np.ones(4))


def test_weights_of_elements_of_several_losses(device: str) -> None:
    model = Two()
    graph = mpsnn.TrainingGraph(model, (nn.SoftmaxCrossEntropy(), nn.MSE()), None, ((3,), (2,)), 6,
                                device, outputs=["value"])  # fmt: skip
    plain = graph.encode((LEFT, RIGHT), (Y, V))
    mask = np.zeros((6, 2), np.float32)
    mask[:, 1] = 1
    step = graph.encode((LEFT, RIGHT), (Y, mpsnn.LossLabels(V, mask)))
    masked = ((plain.outputs["value"] - V)[:, 1] ** 2).mean()
    both = ((plain.outputs["value"] - V) ** 2).mean()
    assert step.loss == pytest.approx(plain.loss - both + masked, rel=1e-5)
    with pytest.raises(mpsnn.ShapeError, match="LossLabels"):
        graph.encode((LEFT, RIGHT), (Y, V), weights=mask)


def test_losses_inside_a_function(device: str) -> None:
    """One loss an image of a loss, and its elements, have gradients."""
    x, t = floats(5, 3, 4), floats(5, 3, 4)

    def images(outputs: Any, targets: Any) -> Any:
        return ops.multiply(nn.Huber()(outputs, targets)[1], nn.MSE("sum")(outputs, targets)[1])

    def elements(outputs: Any, targets: Any) -> Any:
        each = nn.Huber("none")(outputs, targets)[0]
        return ops.multiply(ops.image_mean(each), nn.MSE("sum")(outputs, targets)[1])

    expected = torch.from_numpy(x).double().requires_grad_(True)
    wanted = torch.from_numpy(t).double()
    huber = torch.nn.functional.huber_loss(expected, wanted, reduction="none").mean((1, 2))
    loss = (huber * ((expected - wanted) ** 2).sum((1, 2))).mean()
    loss.backward()
    for function in (images, elements):
        model = nn.Sequential(nn.Identity())
        graph = mpsnn.TrainingGraph(model, function, None, (3, 4), 5, device, outputs=["x:grad"])
        step = graph.encode(x, t)
        assert step.loss == pytest.approx(loss.item(), rel=1e-5)
        assert expected.grad is not None
        np.testing.assert_allclose(step.outputs["x:grad"], expected.grad.numpy(), rtol=1e-4,
                                   atol=1e-6)  # fmt: skip


def test_unreduced_losses_are_no_graphs_loss() -> None:
    model = nn.Sequential(nn.Linear(3, 2))
    with pytest.raises(ValueError, match="one number"):
        mpsnn.TrainingGraph(model, nn.MSE("none"), None, (3,), 4, "reference")
    graph = mpsnn.Graph()
    x, t = graph.image(3), graph.targets(3)
    with pytest.raises(ValueError, match="one number"):
        graph.loss(x, t, nn.MSE("none"))


def test_yolo_learns_a_box(device: str) -> None:
    anchors = [(1, 2), (2, 1), (3, 3)]
    t = np.zeros((2, 4, 4, 3, 7), np.float32)
    t[0, 1, 2] = [0.3, 0.6, 1.9, 1.2, 1, 1, 0]
    t[1, 3, 0] = [0.8, 0.1, 2.5, 3.5, 1, 0, 1]
    mpsnn.manual_seed(0)
    x = np.random.default_rng(0).standard_normal((2, 4, 4, 8)).astype(np.float32)

    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(8, 21, 3, padding="same")

        def forward(self, x: Any) -> Any:
            return self.conv(x)

    model = Detector()
    graph = mpsnn.TrainingGraph(model, nn.YOLO(anchors), optim.Adam(0.03), (4, 4, 8), 2, device,
                                outputs=["conv"])  # fmt: skip
    for _ in range(300):
        step = graph.encode(x, t.reshape(2, 4, 4, 21))
    assert step.loss < 1.5
    found = step.outputs["conv"].reshape(2, 4, 4, 3, 7)
    belief = found[..., 4]
    assert {tuple(int(i) for i in np.unravel_index(belief[n].argmax(), (4, 4, 3)))
            for n in range(2)} == {(1, 2, 1), (3, 0, 2)}  # fmt: skip
    best = found[0, 1, 2, 1]
    np.testing.assert_allclose(1 / (1 + np.exp(-best[:2])), [0.3, 0.6], atol=0.05)
    np.testing.assert_allclose(np.exp(best[2:4]) * [2, 1], [1.9, 1.2], rtol=0.05)
    assert best[5] > best[6]


def test_accumulated_elements_count_as_one(device: str) -> None:
    weights = RNG.random((6, 5)).astype(np.float32)
    t = floats(6, 5)
    found = []
    for accumulate in (1, 3):
        mpsnn.manual_seed(1)
        model = nn.Sequential(nn.Linear(3, 5))
        graph = mpsnn.TrainingGraph(model, nn.Huber(), optim.SGD(0.5), (3,), 6, device,
                                    accumulate=accumulate)  # fmt: skip
        for part in np.array_split(np.arange(6), accumulate):
            graph.encode(LEFT[part], t[part], weights=weights[part]).wait()
        found.append(model[0].weight.numpy())
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-6)
