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
    whole = np.ones((2, 3), np.int64)
    with pytest.raises(mpsnn.DTypeError, match=rf"\[{op.__name__}\] expected floating arrays"):
        op(whole, whole)
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
        mpsnn.vjp(lambda x: x * [2.0, 1.0], floats(2, 2), floats(2, 2))


NUMBERS: list[Callable[[Any], Any]] = [
    lambda x: x + 2, lambda x: 1.5 + x, lambda x: x - 2.0, lambda x: 2.0 - x, lambda x: x * 3,
    lambda x: np.float32(0.5) * x, lambda x: x / 4, lambda x: 2 / x, lambda x: -x,
    lambda x: x**2, lambda x: x**-0.5, lambda x: x**0,
]  # fmt: skip


@pytest.mark.parametrize("index", range(len(NUMBERS)))
def test_numbers_beside_graph_values(device: str, index: int) -> None:
    class Formula(nn.Module):
        def forward(self, x: Any) -> Any:
            return NUMBERS[index](x)

    x = np.random.default_rng(1).uniform(0.5, 2, (3, 4)).astype(np.float32)
    given = torch.tensor(x, requires_grad=True)
    theirs = NUMBERS[index](given)
    weights = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    theirs.backward(torch.tensor(weights))
    ours, (gradient,) = mpsnn.vjp(Formula(), [x], weights, device=device)
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-5)
    assert given.grad is not None
    np.testing.assert_allclose(gradient, given.grad.numpy(), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("formula", "error"),
    [(lambda x: x / 0, ValueError), (lambda x: x * float("nan"), ValueError),
     (lambda x: x + True, TypeError), (lambda x: x * "2", TypeError),
     (lambda x: x ** float("inf"), ValueError)],
)  # fmt: skip
def test_numbers_that_are_refused(formula: Callable[[Any], Any], error: type[Exception]) -> None:
    class Formula(nn.Module):
        def forward(self, x: Any) -> Any:
            return formula(x)

    with pytest.raises(error, match=r"\["):
        mpsnn.InferenceGraph(Formula(), (3,), 2, "reference")


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


def gradients(fn: Callable[..., Any], *arrays: np.ndarray) -> tuple[Any, Any]:
    """Output and gradients of sum(output * its own indices)."""
    y = fn(*arrays)
    cotangent = np.arange(y.size, dtype=np.float32).reshape(y.shape)
    return mpsnn.vjp(fn, list(arrays), cotangent)[:2]


KEYS = [
    np.s_[:],
    np.s_[...],
    np.s_[:, 1],
    np.s_[:, -1],
    np.s_[:, 1:3],
    np.s_[..., :2],
    np.s_[:, ..., 3],
    np.s_[:, 1:, -2, ::1],
    np.s_[:, 2, 1, 4],
    np.s_[:, -3:-1, :, 1:],
]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_indexing_of_graph_values_is_numpy_s(key: Any) -> None:
    x = floats(3, 4, 6, 5)
    y, (gx,) = gradients(lambda v: v[key] + v[key], x)
    np.testing.assert_array_equal(y, 2 * x[key])
    expected = np.zeros_like(x)
    expected[key] = 2 * np.arange(x[key].size).reshape(x[key].shape)
    np.testing.assert_array_equal(gx, expected)


@pytest.mark.parametrize(
    ("key", "error", "text"),
    [
        (np.s_[0], TypeError, "batch stays whole"),
        (np.s_[1:], TypeError, "batch stays whole"),
        (np.s_[:, ::2], ValueError, "steps are 1"),
        (np.s_[:, 4], IndexError, "index 4 is out of axis 1"),
        (np.s_[:, -5], IndexError, "index -5"),
        (np.s_[:, "a"], TypeError, "must be an integer"),
        (np.s_[:, None], TypeError, "must be an integer"),
        (np.s_[:, True], TypeError, "must be an integer"),
        (np.s_[:, 0, 0, 0], IndexError, "4 indices for 3 axes"),
        (np.s_[..., ...], IndexError, "indices"),
        (np.s_[:, 3:3], mpsnn.ShapeError, "no 3 to 3 in axis 1"),
    ],
    ids=str,
)
def test_indexing_refuses(key: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        mpsnn.vjp(lambda v: v[key], floats(2, 4, 5), floats(2))


X = floats(2, 3, 4, 5)
REFUSALS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: ops.reshape(X, (7, 8)), mpsnn.ShapeError, "does not hold the 60 elements"),
    (lambda: ops.reshape(X, (2**62, 8)), mpsnn.ShapeError, "more than the 60 elements"),
    (lambda: ops.reshape(X, (-1, 7)), mpsnn.ShapeError, "does not hold"),
    (lambda: ops.reshape(X, (-1, -1)), ValueError, "one may be -1"),
    (lambda: ops.reshape(X, (0, 60)), ValueError, "at least 1"),
    (lambda: ops.reshape(X, (6.0, 10)), TypeError, "shape must be an integer"),
    (lambda: ops.reshape(np.float32(1), ()), mpsnn.ShapeError, "needs a batch axis"),
    (lambda: ops.reshape(X.astype(int), -1), mpsnn.DTypeError, "floating"),
    (lambda: nn.Reshape((-1, -1)), ValueError, "one may be -1"),
    (lambda: nn.Reshape((0,)), ValueError, "at least 1"),
    (lambda: nn.Reshape("ab"), TypeError, "must be an integer"),
    (lambda: nn.Reshape((7,))(X), mpsnn.ShapeError, r"\[Reshape"),
    (lambda: ops.permute(X, (0, 1, 2)), ValueError, "each axis"),
    (lambda: ops.permute(X, (0, 1, 2, 2)), ValueError, "once"),
    (lambda: ops.permute(X, (0, 1, 2, 4)), ValueError, "none is 4"),
    (lambda: ops.permute(X, (1, 0, 2, 3)), ValueError, "batch stays"),
    (lambda: ops.permute(X, (0, 1, 2, 0)), ValueError, "is the batch"),
    (lambda: ops.permute(X, (0, 1, 2, None)), TypeError, "must be an integer"),
    (lambda: nn.Permute((3, 0, 1, 2)), ValueError, "batch stays"),
    (lambda: nn.Permute((0, 2, 1))(X), ValueError, r"\[Permute"),
    (lambda: nn.Permute(0.5), TypeError, "must be an integer"),
    (lambda: ops.slice(X, 0, 4), mpsnn.ShapeError, "no 0 to 4 in axis 1"),
    (lambda: ops.slice(X, 2, 1), mpsnn.ShapeError, "no 2 to 1"),
    (lambda: ops.slice(X, -4, 2), mpsnn.ShapeError, "no -4"),
    (lambda: ops.slice(X, (0, 0), 2), ValueError, "one length"),
    (lambda: ops.slice(X, 0, 1, 0), ValueError, "is the batch"),
    (lambda: ops.slice(X, 0, 1, -4), ValueError, "is the batch"),
    (lambda: ops.slice(X, 0, 1, 4), ValueError, "none is 4"),
    (lambda: ops.slice(X, 0, None, 7), TypeError, "stops must be an integer"),
    (lambda: ops.slice(X, (0, 0), (1, 1), (1, 1)), ValueError, "twice"),
    (lambda: ops.slice(X, 0.0, 1), TypeError, "starts must be an integer"),
    (lambda: ops.concat([]), ValueError, "must not be empty"),
    (lambda: ops.concat([X] * 65), ValueError, "takes 1 to 64"),
    (lambda: ops.concat([X, X[:, :2]]), mpsnn.ShapeError, "agree but in axis 3"),
    (lambda: ops.concat([X, X[0]], 1), mpsnn.ShapeError, "agree but in axis 1"),
    (lambda: ops.concat([X, X], 0), ValueError, "is the batch"),
    (lambda: ops.concat([X, X], 4), ValueError, "none is 4"),
    (lambda: ops.concat([X, X], "C"), TypeError, "dim must be an integer"),
    (lambda: ops.image_to_matrix(X[0]), mpsnn.ShapeError, "images must have 4 axes"),
    (lambda: ops.image_to_matrix(X, "NHW"), ValueError, "layout must be one of"),
    (lambda: ops.image_to_matrix_gradient(X, X[0]), mpsnn.ShapeError, "4 axes"),
    (lambda: ops.matrix_to_image(X, 3, 4, 5), mpsnn.ShapeError, "rows must have 2 axes"),
    (lambda: ops.matrix_to_image(X[0, 0], 3, 4, 5), mpsnn.ShapeError, "more than the 5"),
    (lambda: ops.matrix_to_image(X[0, 0], 0, 4, 5), ValueError, "height must be at least 1"),
    (lambda: ops.matrix_to_image(X[0, 0], 1, 1.5, 5), TypeError, "width must be an integer"),
    (lambda: ops.matrix_to_image(X[0, 0], 1, 1, 5, "WHC"), ValueError, "layout must be one of"),
    (lambda: nn.SpatialMean()(X[0, 0]), mpsnn.ShapeError, r"\[SpatialMean\] images"),
    (lambda: nn.SpatialMax(1), TypeError, "keepdim must be True or False"),
]


@pytest.mark.parametrize(("call", "error", "text"), REFUSALS)
def test_ops_that_move_elements_refuse(
    call: Callable[[], Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        call()


REDUCTIONS = (ops.sum, ops.mean, ops.amax, ops.amin)


@pytest.mark.parametrize("op", REDUCTIONS, ids=lambda op: op.__name__)
def test_reductions_refuse(op: Callable[..., Any]) -> None:
    for dim, error, text in (
        (0, ValueError, "is the batch"),
        (-4, ValueError, "is the batch"),
        (4, ValueError, "none is 4"),
        ((1, -3), ValueError, "named twice"),
        ((), ValueError, "must name an axis"),
        (1.0, TypeError, "dim must be an integer"),
        ("HW", TypeError, "dim must be an integer"),
    ):
        with pytest.raises(error, match=text):
            op(X, dim)
    with pytest.raises(TypeError, match="keepdim must be True or False"):
        op(X, 1, keepdim=0)
    with pytest.raises(mpsnn.ShapeError, match="needs a batch axis"):
        op(np.float32(1))
    gradient = getattr(ops, f"{op.__name__}_gradient")
    with pytest.raises(mpsnn.ShapeError, match="gradient must be"):
        gradient(floats(2), X, 1)


def test_eager_gradients_are_vjp_s() -> None:
    """Each `*_gradient` function against vjp of the function."""
    rows = floats(3, 24)
    for fn, by, arrays in (
        (ops.add, ops.add_gradient, (X, floats(5))),
        (ops.divide, ops.divide_gradient, (X, np.abs(floats(4, 1)) + 1)),
        (lambda x: ops.reshape(x, (5, -1)), lambda g, x: ops.reshape_gradient(g, x, (5, -1)), (X,)),
        (
            lambda x: ops.permute(x, (0, 3, 1, 2)),
            lambda g, x: ops.permute_gradient(g, x, (0, 3, 1, 2)),
            (X,),
        ),
        (
            lambda x: ops.slice(x, (1, -2), (None, None), (2, 3)),
            lambda g, x: ops.slice_gradient(g, x, (1, -2), (None, None), (2, 3)),
            (X,),
        ),
        (
            lambda a, b: ops.concat([a, b], 2),
            lambda g, a, b: ops.concat_gradient(g, [a, b], 2),
            (X, floats(2, 3, 1, 5)),
        ),
        (ops.image_to_matrix, ops.image_to_matrix_gradient, (X,)),
        (
            lambda x: ops.image_to_matrix(x, "CHW"),
            lambda g, x: ops.image_to_matrix_gradient(g, x, "CHW"),
            (X,),
        ),
        (
            lambda x: ops.matrix_to_image(x, 2, 3, 4, "CHW"),
            lambda g, x: ops.matrix_to_image_gradient(g, x, 2, 3, 4, "CHW"),
            (rows,),
        ),
        (lambda x: ops.mean(x, -1), lambda g, x: ops.mean_gradient(g, x, -1), (X,)),
        (lambda x: ops.amax(x, 1, True), lambda g, x: ops.amax_gradient(g, x, 1, True), (X,)),
        (ops.image_mean, ops.image_mean_gradient, (X,)),
    ):
        y, expected = gradients(fn, *arrays)  # type: ignore[arg-type]
        cotangent = np.arange(y.size, dtype=np.float32).reshape(y.shape)
        for got, wanted in zip(by(cotangent, *arrays), expected, strict=True):  # type: ignore[operator]
            np.testing.assert_array_equal(got, wanted)


def test_image_and_matrix_copies() -> None:
    """Each image is a row, in MPS's two layouts, and comes back."""
    x = floats(3, 4, 5, 2)
    np.testing.assert_array_equal(ops.image_to_matrix(x), x.reshape(3, -1))
    chw = ops.image_to_matrix(x, "CHW")
    np.testing.assert_array_equal(chw, x.transpose(0, 3, 1, 2).reshape(3, -1))
    for layout in ("HWC", "CHW"):
        row = ops.image_to_matrix(x, layout)
        np.testing.assert_array_equal(ops.matrix_to_image(row, 4, 5, 2, layout), x)
    batch = mpsnn.ImageBatch(x)
    matrix = mpsnn.Matrix(ops.image_to_matrix(batch.tensor))
    np.testing.assert_array_equal(matrix.numpy(), x.reshape(3, -1))


def test_ties_and_nan_are_torch_s(device: str) -> None:
    """Equal extremes share the gradient; NaN is the extreme."""
    x = np.array([[1, 3, 3, -2], [-2, -2, -2, -2]], np.float32)
    for op, torch_op in ((ops.amax, torch.amax), (ops.amin, torch.amin)):
        t = torch.from_numpy(x).requires_grad_(True)
        torch_op(t, 1).sum().backward()
        _, (gx,) = mpsnn.vjp(lambda v, op=op: op(v, 1), [x], np.ones(2, np.float32), device=device)
        np.testing.assert_allclose(gx, t.grad.numpy(), rtol=1e-6)
        for size in (5, 40, 700, 8000):
            for at in (0, size // 2, size - 1):
                long = floats(20, size)
                long[3, at] = np.nan
                found = np.isnan(op(long, 1, device=device))
                assert found.tolist() == [row == 3 for row in range(20)]
                columns = floats(2, size, 5)
                columns[1, at, 4] = np.nan
                found = np.isnan(op(columns, 1, device=device))
                assert np.argwhere(found).tolist() == [[1, 4]]


def test_long_sums_keep_their_digits() -> None:
    """A million equal terms: a float32 running sum would be off in the third digit."""
    x = np.full((1, 1000, 1000, 1), 0.1, np.float32)
    for dim in (None, 1, (1, 2)):
        y = ops.mean(x, dim, device="cpu" if "cpu" in [d.id for d in mpsnn.devices()] else None)
        np.testing.assert_allclose(y, 0.1, rtol=1e-6)


def test_moving_layers_in_a_model(device: str) -> None:
    """Reshape, Permute, SpatialMean and indexing in a graph that trains as torch's."""

    class Moved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(6, 4)
            self.reshape = nn.Reshape((2, 3, 6))
            self.permute = nn.Permute((0, 2, 1, 3))
            self.mean, self.max = nn.SpatialMean(), nn.SpatialMax(keepdim=True)

        def forward(self, x: Any) -> Any:
            image = self.a(self.permute(self.reshape(x)))
            part = nn.concat([image[:, 1:], image[:, :1]], 1) * self.max(image)
            return self.mean(part) + part[:, 0, 1]

    model = Moved()
    weight = torch.from_numpy(model.a.weight.numpy()).requires_grad_(True)
    bias = torch.from_numpy(model.a.bias.numpy()).requires_grad_(True)
    sgd = torch.optim.SGD([weight, bias], 0.05)
    graph = mpsnn.TrainingGraph(
        model, nn.MSE(), optim.SGD(0.05), input_shape=(36,), batch_size=4, device=device
    )
    for n in (4, 4, 1, 3):
        x, t = floats(n, 36), floats(n, 4)
        image = torch.from_numpy(x).reshape(n, 2, 3, 6).permute(0, 2, 1, 3) @ weight.T + bias
        part = torch.cat([image[:, 1:], image[:, :1]], 1) * image.amax((1, 2), True)
        loss = torch.nn.functional.mse_loss(part.mean((1, 2)) + part[:, 0, 1], torch.from_numpy(t))
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        assert graph.encode(x, t).loss == pytest.approx(float(loss.detach()), rel=1e-5)
    np.testing.assert_allclose(model.a.weight.numpy(), weight.detach(), rtol=1e-4, atol=1e-6)


def test_a_reshape_is_a_view_in_a_graph() -> None:
    model = nn.Sequential(nn.Reshape((4, 3)), nn.Linear(3, 2), nn.Reshape(-1))
    summary = mpsnn.InferenceGraph(model, (12,), 5, device="reference").summary()
    assert [row["op"] for row in summary.rows] == ["linear"]
    assert sum("a view" in note for note in summary.notes) == 2


def test_torch_has_no_order_for_reshaped_features() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Reshape(-1), nn.Linear(8, 2))
    with pytest.raises(mpsnn.UnsupportedError, match="order is unclear"):
        model.torch_state_dict((2, 2, 1))
