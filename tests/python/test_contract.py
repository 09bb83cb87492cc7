"""Statements of docs/contract.md that no other test is about."""

from __future__ import annotations

import threading
from typing import Any

import mpsnn
import numpy as np
import pytest
from mpsnn import nn, optim

RNG = np.random.default_rng(3)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def test_a_tensor_has_no_arithmetic() -> None:
    t: Any = mpsnn.Tensor(floats(2, 3))
    for attempt in (lambda: t + t, lambda: t * 2, lambda: -t, lambda: t @ t):
        with pytest.raises(TypeError):
            attempt()


def test_numpy_out_is_float32_and_of_its_own(device: str) -> None:
    x = floats(3, 4)
    for dtype in ("float32", "float16"):
        predict = mpsnn.InferenceGraph(nn.Linear(4, 2), (4,), 2, device, dtype)
        first = predict(x)
        assert first.dtype == np.float32
        kept = first.copy()
        predict(x + 1)
        np.testing.assert_array_equal(first, kept)


def test_float64_graphs_give_float64() -> None:
    predict = mpsnn.InferenceGraph(nn.Tanh(), (4,), 2, "reference", "float64")
    x = RNG.standard_normal((3, 4))
    assert predict(x).dtype == np.float64
    np.testing.assert_allclose(predict(x), np.tanh(x), rtol=1e-15)


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Identity()})
        self.rest = nn.ModuleList([nn.Linear(4, 3)])

    def forward(self, x: Any) -> Any:
        for name in self.parts:
            x = self.parts[name](x)
        return self.rest[0](x)


def test_names_are_attribute_paths_and_state_is_a_snapshot() -> None:
    model = Named()
    assert [n for n, _ in model.named_modules()] == [
        "", "parts", "parts.a", "parts.b", "rest", "rest.0"]  # fmt: skip
    names = ["parts.a.weight", "parts.a.bias", "rest.0.weight", "rest.0.bias"]
    assert [n for n, _ in model.named_parameters()] == names
    assert len(list(model.parameters())) == 4
    state = model.state_dict()
    assert list(state) == names
    state["rest.0.bias"][:] = 7
    assert not (model.state_dict()["rest.0.bias"] == 7).any()
    with pytest.raises(ValueError, match=r"missing names \['parts.a.bias'"):
        model.load_state_dict({"parts.a.weight": state["parts.a.weight"]})
    model.load_state_dict({"rest.0.bias": state["rest.0.bias"], "other": 3}, strict=False)
    assert (model.state_dict()["rest.0.bias"] == 7).all()
    assert model(floats(2, 4)).shape == (2, 3)


def test_weights_are_drawn_as_pytorch_draws_them_and_by_seed() -> None:
    mpsnn.manual_seed(5)
    layers = [nn.Conv2d(8, 64, 3, groups=2), nn.Linear(36, 500)]
    for layer in layers:
        for array in (layer.weight.numpy(), layer.bias.numpy()):
            bound = 1 / np.sqrt(36)
            assert np.abs(array).max() <= bound
            assert np.abs(array).max() > 0.95 * bound
        assert layer.weight.numpy().std() == pytest.approx(bound / np.sqrt(3), rel=0.05)
    mpsnn.manual_seed(5)
    np.testing.assert_array_equal(nn.Conv2d(8, 64, 3, groups=2).weight.numpy(),
                                  layers[0].weight.numpy())  # fmt: skip


def test_weights_may_be_an_array_or_a_function() -> None:
    given = floats(3, 4)
    np.testing.assert_array_equal(nn.Linear(4, 3, weights=given).weight.numpy(), given)
    asked = []

    def initial(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
        asked.append(shape)
        return generator.random(shape)

    assert (nn.Conv2d(2, 3, 5, weights=initial).weight.numpy() > 0).all()
    assert asked == [(3, 5, 5, 2)]


def test_graphs_set_their_own_mode(device: str) -> None:
    model = nn.Sequential(nn.Linear(4, 50), nn.Dropout(0.5))
    assert not model.training
    model.train()
    x = floats(2, 4)
    predict = mpsnn.InferenceGraph(model, (4,), 2, device)
    assert (predict(x) != 0).all()
    model.eval()
    graph = mpsnn.TrainingGraph(model, nn.MSE(), None, (4,), 2, device, seed=1, outputs=["1"])
    step = graph.encode(x, floats(2, 50))
    assert 0.2 < (step.outputs["1"] == 0).mean() < 0.8


def test_steps_count_wait_and_tell(device: str) -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    graph = mpsnn.TrainingGraph(model, nn.MSE(), None, (4,), 2, device)
    before = model.state_dict()
    steps = [graph.encode(floats(2, 4), floats(2, 3)) for _ in range(3)]
    assert [s.index for s in steps] == [0, 1, 2]
    assert all(s.wait(60) for s in steps)
    assert all(s.done() for s in steps)
    assert graph.encoded == 3
    for name, value in model.state_dict().items():  # without an optimizer nothing is updated
        np.testing.assert_array_equal(value, before[name])


def test_a_wait_may_end_before_its_step() -> None:
    release = threading.Event()

    class Slow(optim.Optimizer):
        def update_parameter(self, name: str, weights: Any, *rest: Any) -> Any:
            assert release.wait(60)
            return weights

    graph = mpsnn.TrainingGraph(nn.Linear(4, 3), nn.MSE(), Slow(0.1), (4,), 2, "reference")
    step = graph.encode(floats(2, 4), floats(2, 3))
    try:
        assert not step.wait(0.05)
        assert not step.done()
    finally:
        release.set()
    assert step.wait()
    assert step.done()


def test_metrics_are_over_the_valid_elements(device: str) -> None:
    predict = mpsnn.InferenceGraph(nn.Identity(), (6, 3), 4, device)
    x = np.eye(3, dtype=np.float32)[RNG.integers(0, 3, (5, 6))]
    y = x.argmax(-1)
    y[:2] = (y[:2] + 1) % 3  # wrong
    y[3:] = -100  # ignored
    found = predict.evaluate(x, y, metrics=("accuracy", "confusion"))
    assert found["accuracy"] == pytest.approx(6 / 18)
    assert (found["confusion"].sum(), found["confusion"].trace()) == (18, 6)
    soft = predict.evaluate([(x[:3], x[:3]), (x[3:], x[3:])])  # one-hot, from a loader
    assert soft["accuracy"] == 1


def test_a_device_may_be_given_and_a_named_one_never_falls_back() -> None:
    for device in mpsnn.devices():
        predict = mpsnn.InferenceGraph(nn.Tanh(), (4,), 2, device)
        assert predict.device == device.id
        if "float64" in device.dtypes:
            continue
        with pytest.raises(mpsnn.UnsupportedError, match="float64"):
            mpsnn.InferenceGraph(nn.Tanh(), (4,), 2, device, "float64")
    with pytest.raises(mpsnn.UnsupportedError, match="reference"):  # never taken by "auto"
        mpsnn.InferenceGraph(nn.Tanh(), (4,), 2, "auto", "float64")


def test_the_first_group_that_matches_decides() -> None:
    recipe = optim.SGD(0.1, groups=[("head.*", {"lr": 0.2}), ("*.bias", {"momentum": 0.5})])
    assert [recipe.group_of(n) for n in ("head.bias", "body.bias", "body.weight")] == [1, 2, 0]
    assert recipe.rates() == [0.1, 0.2, 0.1]


def test_errors_are_python_s_own_kinds() -> None:
    kinds = {
        mpsnn.ShapeError: ValueError, mpsnn.DTypeError: TypeError, mpsnn.DeviceError: RuntimeError,
        mpsnn.UnsupportedError: NotImplementedError, mpsnn.OutOfMemoryError: MemoryError,
        mpsnn.FormatError: ValueError, mpsnn.NonFiniteError: ArithmeticError,
    }  # fmt: skip
    for error, kind in kinds.items():
        assert issubclass(error, kind)
        assert error.__name__ in mpsnn.__all__
