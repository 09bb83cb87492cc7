"""Explicit graphs: gradient nodes by hand, against the same network compiled whole."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import mpsnn
import numpy as np
import pytest
from mpsnn import nn, ops, optim

RNG = np.random.default_rng(3)
X = RNG.standard_normal((6, 8, 8, 2)).astype(np.float32)
Y = RNG.integers(0, 5, 6)


def layers() -> list[nn.Module]:
    """Without a bias before the norm: its gradient is rounding alone, which Adam would blow up."""
    mpsnn.manual_seed(5)
    return [nn.Conv2d(2, 4, 3, padding="same", bias=False), nn.BatchNorm2d(4), nn.ReLU(),
            nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 5)]  # fmt: skip


def by_hand(made: list[nn.Module]) -> tuple[mpsnn.Graph, Any, Any, Any, list[Any]]:
    g = mpsnn.Graph()
    x, t = g.image(8, 8, 2), g.labels(5)
    values = [x]
    for layer in made:
        values.append(g.node(values[-1], layer))
    return g, x, t, g.loss(values[-1], t, nn.SoftmaxCrossEntropy()), values


def test_the_contract_s_own_lines(device: str) -> None:
    g = mpsnn.Graph()
    x, t = g.image(28, 28, 1), g.labels(10)
    conv = nn.Conv2d(1, 10, 28)
    y = g.convolution(x, conv)
    loss = g.loss(y, t, nn.SoftmaxCrossEntropy())
    gx = y.gradient(loss.gradient())
    run = g.compile(results=[loss, gx], optimizer=optim.SGD(0.01), batch_size=32, device=device)
    images = RNG.random((32, 28, 28, 1), np.float32)
    labels = RNG.integers(0, 10, 32)
    losses = []
    for _ in range(5):
        step = run.encode({x: images, t: labels})
        losses.append(step.loss)
    assert losses == sorted(losses, reverse=True)
    assert len(set(losses)) == 5
    assert step.outputs[gx].shape == images.shape
    assert step.outputs[loss].shape == (1,)
    assert step.losses.shape == (32,)
    assert run.encode({x: images[:7], t: labels[:7]}).outputs[gx].shape == (7, 28, 28, 1)


@pytest.mark.parametrize("built", ["by hand", "training_graph"])
def test_it_trains_as_the_compiled_model(device: str, built: str) -> None:
    made = layers()
    model = nn.Sequential(*copy.deepcopy(made))
    graph = mpsnn.TrainingGraph(model, nn.SoftmaxCrossEntropy(), optim.Adam(1e-2), (8, 8, 2), 6,
                                device, outputs=["x:grad"], seed=1)  # fmt: skip
    g, x, t, loss, values = by_hand(made)
    if built == "by hand":
        gradient = loss.gradient()
        for value in reversed(values[1:]):
            gradient = value.gradient(gradient)
    else:
        (gradient,) = g.training_graph(loss)
    run = g.compile([loss, gradient], optim.Adam(1e-2), 6, device)
    for _ in range(4):
        a, b = graph.encode(X, Y), run.encode({x: X, t: Y})
        assert abs(a.loss - b.loss) < 1e-5
        np.testing.assert_allclose(b.outputs[gradient], a.outputs["x:grad"], rtol=1e-3, atol=1e-6)
    for name, value in model.state_dict().items():
        i, array = name.split(".")
        np.testing.assert_allclose(getattr(made[int(i)], array).numpy(), value, rtol=2e-3,
                                   atol=1e-5)  # fmt: skip


def test_branches_are_summed_as_by_vjp(device: str) -> None:
    a, b = nn.Conv2d(2, 3, 1), nn.Conv2d(2, 3, 3, padding="same")
    g = mpsnn.Graph()
    x, t = g.image(4, 4, 2), g.targets(4, 4, 6)
    y = g.concatenation([g.convolution(x, a), g.neuron(g.convolution(x, b), nn.Tanh())])
    loss = g.loss(y, t, nn.MSE())
    (gradient,) = g.training_graph(loss)
    images = RNG.standard_normal((2, 4, 4, 2)).astype(np.float32)
    target = RNG.standard_normal((2, 4, 4, 6)).astype(np.float32)
    found = g.compile([gradient], batch_size=2, device=device).encode({x: images, t: target})

    def fn(x: Any) -> Any:
        return ops.concat([a(x), ops.tanh(b(x))])

    out = fn(images)
    cotangent = 2 * (out - target) / out.size
    _, (expected,) = mpsnn.vjp(fn, images, cotangent, device=device)
    np.testing.assert_allclose(found.outputs[gradient], expected, rtol=1e-4, atol=1e-6)


def test_a_node_of_several_inputs_gives_a_tuple(device: str) -> None:
    g = mpsnn.Graph()
    a, b, seed = g.image(3), g.image(2), g.image(5)
    y = g.concatenation([a, b])
    ga, gb = y.gradient(seed)
    run = g.compile([ga, gb], batch_size=4, device=device)
    s = np.arange(20, dtype=np.float32).reshape(4, 5)
    step = run.encode({a: s[:, :3], b: s[:, :2], seed: s})
    np.testing.assert_array_equal(step.outputs[ga], s[:, :3])
    np.testing.assert_array_equal(step.outputs[gb], s[:, 3:])
    with pytest.raises(ValueError, match="no loss"):
        assert step.loss
    one, two = g.addition(a, a).gradient(a)
    assert one == two == a


def test_image_weights_states_and_loss_scale(device: str) -> None:
    made = layers()
    g, x, t, loss, values = by_hand(made)
    (gradient,) = g.training_graph(loss)
    assert values[4].states == mpsnn.StateBatch("MaxPool2d m3", True)
    assert values[2].states.per_image is False
    assert values[1].states is None
    plain = g.compile([loss, gradient], batch_size=6, device=device)
    scaled = g.compile([loss, gradient], batch_size=6, device=device, loss_scale=512)
    weights = np.array([1, 0, 2, 0, 0, 1], np.float32)
    feed = {x: X, t: mpsnn.LossLabels(Y, weights)}
    a, b = plain.encode(feed), scaled.encode(feed)
    assert a.loss == pytest.approx(b.loss, rel=1e-6)
    np.testing.assert_allclose(a.outputs[gradient], b.outputs[gradient], rtol=1e-4, atol=1e-7)
    assert a.loss != pytest.approx(plain.encode({x: X, t: Y}).loss, rel=1e-3)


def test_frozen_layers_keep_their_weights(device: str) -> None:
    made = layers()
    made[0].trainable = False
    g, x, t, loss, _ = by_hand(made)
    g.training_graph(loss)
    before = [made[0].weight.numpy(), made[5].weight.numpy()]
    run = g.compile([loss], optim.SGD(0.1), 6, device)
    run.encode({x: X, t: Y}).wait()
    np.testing.assert_array_equal(made[0].weight.numpy(), before[0])
    assert not np.array_equal(made[5].weight.numpy(), before[1])
    assert "gradient" in str(run.summary())


def test_a_total_of_losses(device: str) -> None:
    g = mpsnn.Graph()
    x, t = g.image(3), g.targets(3)
    mse = g.loss(x, t, nn.MSE())

    def squared(y: Any, t: Any) -> Any:
        d = ops.subtract(y, t)
        return ops.image_mean(ops.multiply(d, d))

    own = g.loss(x, t, squared)
    total = g.total([mse, own], [1.0, 3.0])
    (gradient,) = g.training_graph(total)
    a, b = RNG.standard_normal((2, 4, 3)).astype(np.float32)
    step = g.compile([total, gradient], batch_size=4, device=device).encode({x: a, t: b})
    assert step.loss == pytest.approx(4 * ((a - b) ** 2).mean(), rel=1e-5)
    np.testing.assert_allclose(step.outputs[gradient], 8 * (a - b) / 12, rtol=1e-4, atol=1e-6)


def test_mistakes_are_named() -> None:
    g, x, t, loss, values = by_hand(layers())
    other = mpsnn.Graph().image(8, 8, 2)
    with pytest.raises(TypeError, match="value of this graph"):
        g.node(other, nn.ReLU())
    with pytest.raises(TypeError, match="layer"):
        g.node(x, 3)
    with pytest.raises(TypeError, match="loss"):
        g.loss(x, t, 3)
    with pytest.raises(mpsnn.ShapeError, match="gradient"):
        values[1].gradient(x)
    with pytest.raises(ValueError, match="missing"):
        values[1].gradient()
    with pytest.raises(ValueError, match="only the output"):
        x.gradient(x)
    with pytest.raises(ValueError, match="another node"):
        values[4].gradient(values[4], states=values[2].states)
    with pytest.raises(ValueError, match="gradient nodes"):
        g.compile([loss], optim.SGD(0.1))
    with pytest.raises(ValueError, match="result"):
        g.compile([])
    with pytest.raises(ValueError, match="starts from a loss"):
        g.training_graph(x)
    run = g.compile([loss], batch_size=6, device="reference")
    with pytest.raises(TypeError, match="missing"):
        run.encode({x: X})
    with pytest.raises(ValueError, match="no input"):
        run.encode({loss: X})
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(run)


def test_matrix() -> None:
    rows = mpsnn.Matrix(np.eye(3, dtype=np.float32))
    rows.append(np.ones(3, np.float32))
    assert rows.shape == (4, 3)
    assert isinstance(rows[1:], mpsnn.Matrix)
    with pytest.raises(mpsnn.ShapeError, match="N, C"):
        mpsnn.Matrix(np.zeros((2, 2, 2), np.float32))
    with pytest.raises(mpsnn.ShapeError, match="item"):
        rows.append(np.ones(2, np.float32))
