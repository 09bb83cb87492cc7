"""Updates on the host, data sources, averages of weights, and `optimizer.update`."""

from __future__ import annotations

import copy
import gc
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import mpsnn
import numpy as np
import pytest
import torch
from mpsnn import nn, optim

RNG = np.random.default_rng(6)
X = RNG.standard_normal((8, 6)).astype(np.float32)
Y = RNG.integers(0, 4, 8)


def network() -> nn.Module:
    mpsnn.manual_seed(2)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4))


class Momentum(optim.Optimizer):
    """SGD with momentum, in numpy."""

    def __init__(self, lr: Any, momentum: float = 0.9, **rest: Any) -> None:
        super().__init__(lr, **rest)
        self.momentum = momentum

    def update_parameter(
        self, name: str, weights: Any, gradient: Any, state: Any, lr: float
    ) -> Any:
        old = state.get("buffer")
        state["buffer"] = gradient if old is None else self.momentum * old + gradient
        return weights - np.float32(lr) * state["buffer"]


def train(model: nn.Module, optimizer: Any, device: str, steps: int = 5, **options: Any) -> Any:
    graph = mpsnn.TrainingGraph(model, nn.SoftmaxCrossEntropy(), optimizer, (6,), 8, device, seed=0,
                                **options)  # fmt: skip
    losses = [graph.encode(X, Y).loss for _ in range(steps)]
    return graph, losses


@pytest.mark.parametrize(
    "options",
    [{}, {"clip_norm": 0.05}, {"clip_value": 0.01}, {"accumulate": 2}, {"loss_scale": 64.0}],
    ids=str,
)
def test_an_optimizer_in_python_equals_the_device_s(device: str, options: Any) -> None:
    a, b = network(), network()
    on_host, first = train(a, Momentum(0.1), device, 6, **options)
    _, second = train(b, optim.SGD(0.1, momentum=0.9), device, 6, **options)
    np.testing.assert_allclose(first, second, rtol=1e-5)
    for name, value in a.state_dict().items():
        np.testing.assert_allclose(value, b.state_dict()[name], rtol=1e-3, atol=1e-6)
    assert "one step in flight" in str(on_host.summary())


def test_half_graphs_update_masters_on_the_host(device: str) -> None:
    model = network()
    _, losses = train(model, Momentum(0.1), device, 8, dtype="float16")
    assert losses[-1] < losses[0]


def test_rates_groups_and_frozen_parts(device: str) -> None:
    seen: list[tuple[str, float]] = []

    class Look(optim.Optimizer):
        def update_parameter(self, name: str, weights: Any, gradient: Any, state: Any,
                             lr: float) -> Any:  # fmt: skip
            seen.append((name, lr))
            return weights - lr * gradient

    model = network()
    model[2].trainable = False
    train(model, Look(lambda update: 0.5 + update, groups=[("*.bias", {"lr": 0.25})]), device, 2)
    assert seen == [("0.weight", 0.5), ("0.bias", 0.25), ("0.weight", 1.5), ("0.bias", 0.25)]


def test_an_exception_leaves_the_weights_and_comes_at_the_next_wait(device: str) -> None:
    class Fails(Momentum):
        broken = True

        def update_parameter(self, *args: Any) -> Any:
            if self.broken and args[0] == "2.bias":  # the last: others were made before it
                raise KeyError("broken")
            return super().update_parameter(*args)

    model, optimizer = network(), Fails(0.1)
    before = copy.deepcopy(model.state_dict())
    graph = mpsnn.TrainingGraph(model, nn.SoftmaxCrossEntropy(), optimizer, (6,), 8, device)
    step = graph.encode(X, Y)
    with pytest.raises(KeyError, match="broken"):
        step.wait()
    graph.encode(X, Y)
    with pytest.raises(KeyError, match="broken"):
        graph.encode(X, Y)
    graph.wait()
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    optimizer.broken = False
    assert graph.encode(X, Y).loss > graph.encode(X, Y).loss


@pytest.mark.parametrize(
    ("wrong", "error"), [(np.zeros(3), mpsnn.ShapeError), (3, mpsnn.DTypeError),
                         ("text", mpsnn.DTypeError)]
)  # fmt: skip
def test_a_wrong_return_is_an_error(wrong: Any, error: type[Exception]) -> None:
    class Wrong(optim.Optimizer):
        def update_parameter(self, *args: Any) -> Any:
            return wrong

    graph = mpsnn.TrainingGraph(network(), nn.SoftmaxCrossEntropy(), Wrong(0.1), (6,), 8,
                                "reference")  # fmt: skip
    with pytest.raises(error):
        graph.encode(X, Y).wait()


def test_a_reader_sees_whole_steps_and_callers_inside_get_errors(device: str) -> None:
    caught: list[str] = []
    model = network()

    class Slow(optim.Optimizer):
        graph: Any = None

        def update_parameter(self, name: str, weights: Any, gradient: Any, state: Any,
                             lr: float) -> Any:  # fmt: skip
            time.sleep(0.02)
            for call in (lambda: model.state_dict(), lambda: self.graph.encode(X, Y),
                         lambda: self.graph.wait(), lambda: model(X)):  # fmt: skip
                try:
                    call()
                except mpsnn.DeviceError as error:
                    caught.append(str(error))
            return weights + 1

    optimizer = Slow(0.1)
    graph = mpsnn.TrainingGraph(model, nn.SoftmaxCrossEntropy(), optimizer, (6,), 8, device)
    optimizer.graph = graph
    before = model.state_dict()
    graph.encode(X, Y)
    after = model.state_dict()  # while the host is at work: waits for the whole step
    for name, value in after.items():
        np.testing.assert_allclose(value, before[name] + 1, rtol=1e-6)
    assert len(caught) == 16
    assert all("host" in c for c in caught)
    optimizer.graph = None


def test_garbage_in_a_host_update_does_not_hang(device: str) -> None:
    """A graph that dies inside the update waits elsewhere for its steps."""

    class Collects(optim.Optimizer):
        victim: Any = None

        def update_parameter(self, name: str, weights: Any, gradient: Any, state: Any,
                             lr: float) -> Any:  # fmt: skip
            self.victim = None
            gc.collect()
            return weights

    optimizer = Collects(0.1)
    optimizer.victim, _ = train(network(), optim.SGD(0.1), device, 1)
    _, losses = train(network(), optimizer, device, 3)
    assert len(losses) == 3
    assert optimizer.victim is None


def test_other_graphs_run_beside_a_host_update(device: str) -> None:
    a, b = network(), network()
    first = mpsnn.TrainingGraph(a, nn.SoftmaxCrossEntropy(), Momentum(0.1), (6,), 8, device)
    second = mpsnn.TrainingGraph(b, nn.SoftmaxCrossEntropy(), optim.SGD(0.1), (6,), 8, device)

    def work(graph: Any) -> None:
        for _ in range(30):
            graph.encode(X, Y)
        graph.wait()

    threads = [threading.Thread(target=work, args=(g,)) for g in (first, second, first)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
        assert not t.is_alive()
    assert (first.encoded, second.encoded) == (60, 30)


def test_resume_with_an_optimizer_in_python(device: str, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    whole, losses = train(network(), Momentum(0.1), device, 6)
    first, _ = train(network(), Momentum(0.1), device, 3)
    first.save_state(path)
    second = mpsnn.TrainingGraph(network(), nn.SoftmaxCrossEntropy(), Momentum(0.1), (6,), 8,
                                 device, seed=0)  # fmt: skip
    second.load_state(path)
    assert [second.encode(X, Y).loss for _ in range(3)] == losses[3:]
    for name, value in whole.model.state_dict().items():
        np.testing.assert_array_equal(value, second.model.state_dict()[name])
    other = mpsnn.TrainingGraph(network(), nn.SoftmaxCrossEntropy(), optim.SGD(0.1), (6,), 8,
                                device, seed=0)  # fmt: skip
    with pytest.raises(ValueError, match="state"):
        other.load_state(path)


class Source(mpsnn.DataSource):
    """Counts what is loaded."""

    loaded = most = loads = 0

    def __init__(self, *shape: int) -> None:
        self.shape = shape

    def load(self) -> None:
        Source.loaded += 1
        Source.loads += 1
        Source.most = max(Source.most, Source.loaded)

    def purge(self) -> None:
        Source.loaded -= 1

    def weights(self) -> np.ndarray:
        assert Source.loaded == 1
        return np.full(self.shape, 0.1, np.float32)

    def bias(self) -> np.ndarray:
        return np.arange(self.shape[0], dtype=np.float32)


def test_one_source_is_loaded_at_a_time_and_not_before(device: str) -> None:
    Source.loaded = Source.most = Source.loads = 0
    model = nn.Sequential(nn.Conv2d(1, 3, 2, weights=Source(3, 2, 2, 1)), nn.Flatten(),
                          nn.Linear(27, 4, weights=Source(4, 27)))  # fmt: skip
    assert Source.loads == 0
    assert model[0].weight.shape == (3, 2, 2, 1)
    predict = mpsnn.InferenceGraph(model, (4, 4, 1), 2, device)
    assert (Source.loaded, Source.most, Source.loads) == (0, 1, 2)
    y = predict(np.ones((2, 4, 4, 1), np.float32))
    conv = 0.4 + np.tile([0, 1, 2], 9)
    np.testing.assert_allclose(y[0], 0.1 * conv.sum() + np.arange(4), rtol=1e-5)
    assert Source.loads == 2
    twin = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(np.asarray(twin[2].bias), np.arange(4))
    bad = nn.Linear(3, 4, weights=Source(4, 2))
    with pytest.raises(mpsnn.ShapeError, match="weights"):
        np.asarray(bad.weight)
    assert Source.loaded == 0


class Trained(Source):
    """Updates itself."""

    calls: list[Any] = []  # noqa: RUF012

    def update(self, gradients: mpsnn.WeightsAndBias, source: mpsnn.WeightsAndBias) -> Any:
        Trained.calls.append((gradients, source))
        return mpsnn.WeightsAndBias(source.weights - 0.5 * gradients.weights, source.bias + 1)


def test_a_source_updates_its_layer_and_the_device_the_others(device: str) -> None:
    Trained.calls.clear()
    Source.loaded = 0

    def model(source: Any) -> nn.Module:
        mpsnn.manual_seed(3)
        return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4, weights=source))

    a = model(Trained(4, 5))
    weight = a[2].weight.numpy()
    graph = mpsnn.TrainingGraph(a, nn.SoftmaxCrossEntropy(), optim.SGD(0.1), (6,), 8, device,
                                outputs=["2.weight:grad", "0.weight:grad"])  # fmt: skip
    first = a[0].weight.numpy()
    outputs = graph.encode(X, Y).outputs
    ((gradients, source),) = Trained.calls
    np.testing.assert_allclose(gradients.weights, outputs["2.weight:grad"], rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(source.weights, weight)
    np.testing.assert_array_equal(a[2].bias.numpy(), np.arange(4) + 1)
    np.testing.assert_allclose(a[2].weight.numpy(), weight - 0.5 * gradients.weights, rtol=1e-5)
    np.testing.assert_allclose(a[0].weight.numpy(), first - 0.1 * outputs["0.weight:grad"],
                               rtol=1e-5, atol=1e-7)  # fmt: skip
    frozen = mpsnn.TrainingGraph(a, nn.SoftmaxCrossEntropy(), None, (6,), 8, device)
    frozen.encode(X, Y).wait()
    assert len(Trained.calls) == 1


def test_safetensors_source(tmp_path: Path, device: str) -> None:
    saved = network()
    path = tmp_path / "weights.safetensors"
    saved.save(path)
    lazy = nn.Sequential(nn.Linear(6, 5, weights=mpsnn.SafetensorsSource(path, "0")), nn.Tanh(),
                         nn.Linear(5, 4, weights=mpsnn.SafetensorsSource(path, "2")))  # fmt: skip
    predict = mpsnn.InferenceGraph(lazy, (6,), 8, device)
    np.testing.assert_array_equal(predict(X), mpsnn.InferenceGraph(saved, (6,), 8, device)(X))
    absent = nn.Linear(6, 5, weights=mpsnn.SafetensorsSource(path, "9"))
    with pytest.raises(ValueError, match=r"9\.weight"):
        np.asarray(absent.weight)
    gone = nn.Linear(6, 5, weights=mpsnn.SafetensorsSource(tmp_path / "gone", "0"))
    with pytest.raises(FileNotFoundError):
        np.asarray(gone.weight)


READS = """
import resource, sys, mpsnn
source = mpsnn.SafetensorsSource(sys.argv[1], "small")
unit = 1 if sys.platform == "darwin" else 1024
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
source.load()
assert source.weights().shape == (5, 6) and source.bias() is None
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - before)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs the peak of memory in use")
def test_a_source_reads_its_own_arrays_of_a_file(tmp_path: Path) -> None:
    """The peak of memory grows by far less than the other layer of the file, 128 MB."""
    path = tmp_path / "weights.safetensors"
    arrays = {
        "big.weight": np.ones((32, 1 << 20), np.float32),
        "small.weight": np.ones((5, 6), "f"),
    }
    mpsnn._core.write_safetensors(str(path), arrays, {})
    done = subprocess.run([sys.executable, "-c", READS, str(path)], capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 16 << 20


@pytest.mark.parametrize("on_host", [False, True])
def test_averages_are_torch_s(device: str, on_host: bool) -> None:
    model = network()
    optimizer = Momentum(0.1, 0.0) if on_host else optim.SGD(0.1)
    graph = mpsnn.TrainingGraph(
        model, nn.SoftmaxCrossEntropy(), optimizer, (6,), 8, device, ema=0.9
    )
    weights = torch.nn.Parameter(torch.zeros(4, 5))
    holder = torch.nn.Module()
    holder.weight = weights
    averaged = torch.optim.swa_utils.AveragedModel(
        holder, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))  # fmt: skip
    np.testing.assert_array_equal(graph.averaged_model()[2].weight.numpy(), model[2].weight.numpy())
    for _ in range(5):
        graph.encode(X, Y)
        with torch.no_grad():
            weights.copy_(torch.from_numpy(model[2].weight.numpy()))
        averaged.update_parameters(holder)
    found = graph.averaged_model()[2].weight.numpy()
    np.testing.assert_allclose(found, averaged.module.weight.detach().numpy(), rtol=1e-5, atol=1e-6)
    assert not np.allclose(found, model[2].weight.numpy(), atol=1e-4)


def test_averages_are_saved(device: str, tmp_path: Path) -> None:
    def graph() -> mpsnn.TrainingGraph:
        return mpsnn.TrainingGraph(network(), nn.SoftmaxCrossEntropy(), optim.Adam(0.1), (6,), 8,
                                   device, seed=0, ema=0.5)  # fmt: skip

    first, second = graph(), graph()
    for _ in range(3):
        first.encode(X, Y)
    first.save_state(tmp_path / "s")
    second.load_state(tmp_path / "s")
    for g in (first, second):
        g.encode(X, Y).wait()
    a, b = first.averaged_model().state_dict(), second.averaged_model().state_dict()
    assert all(np.array_equal(a[n], b[n]) for n in a)
    with pytest.raises(ValueError, match="ema"):
        mpsnn.TrainingGraph(network(), nn.SoftmaxCrossEntropy(), None, (6,), 8, device, ema=0.5)
    with pytest.raises(ValueError, match="ema"):
        train(network(), optim.SGD(0.1), device, 1)[0].averaged_model()


RECIPES = {"sgd": lambda: optim.SGD(0.1, momentum=0.9), "adamw": lambda: optim.AdamW(0.01),
           "python": lambda: Momentum(0.1)}  # fmt: skip


@pytest.mark.parametrize("make", RECIPES.values(), ids=list(RECIPES))
def test_update_applies_given_gradients(make: Any) -> None:
    model, optimizer = network(), make()
    graph = mpsnn.TrainingGraph(network(), nn.SoftmaxCrossEntropy(), make(), (6,), 8)
    names = [n for n, _ in model.named_parameters()]
    reader = mpsnn.TrainingGraph(model, nn.SoftmaxCrossEntropy(), None, (6,), 8,
                                 outputs=[f"{n}:grad" for n in names])  # fmt: skip
    for turn in range(4):
        graph.encode(X, Y)
        outputs = reader.encode(X, Y).outputs
        grads: Any = {n: outputs[f"{n}:grad"] for n in names}
        optimizer.update(model, grads if turn % 2 else list(grads.values()))
    for name, value in graph.model.state_dict().items():
        np.testing.assert_allclose(model.state_dict()[name], value, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="expected"):
        optimizer.update(model, {"other": X})
    with pytest.raises(ValueError, match="4 gradients"):
        optimizer.update(model, [X])
    with pytest.raises(mpsnn.ShapeError):
        optimizer.update(model, [X] * 4)
    assert pickle.loads(pickle.dumps(optimizer)).rates() == optimizer.rates()


def test_a_subclass_defines_update_parameter() -> None:
    class Empty(optim.Optimizer):
        pass

    with pytest.raises(TypeError, match="update_parameter"):
        Empty(0.1)
