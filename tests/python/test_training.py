"""Training as a whole: parity with PyTorch, reruns, resume, accuracy, the finite guard."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import mpsnn
import numpy as np
import pytest
import torch
from mpsnn import nn, optim
from twin import nchw, twin

OPTIMIZERS: list[tuple[str, Any, Any]] = [
    ("sgd", lambda: optim.SGD(0.05), lambda p: torch.optim.SGD(p, 0.05)),
    ("momentum", lambda: optim.SGD(0.05, momentum=0.9, weight_decay=1e-3),
     lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, weight_decay=1e-3)),
    ("nesterov", lambda: optim.SGD(0.02, momentum=0.8, nesterov=True),
     lambda p: torch.optim.SGD(p, 0.02, momentum=0.8, nesterov=True)),
    ("dampening", lambda: optim.SGD(0.05, momentum=0.9, dampening=0.3),
     lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, dampening=0.3)),
    ("adam", lambda: optim.Adam(1e-3), lambda p: torch.optim.Adam(p, 1e-3)),
    ("adam-decay", lambda: optim.Adam(1e-3, betas=(0.8, 0.95), weight_decay=1e-2),
     lambda p: torch.optim.Adam(p, 1e-3, betas=(0.8, 0.95), weight_decay=1e-2)),
    ("adamw", lambda: optim.AdamW(1e-3, weight_decay=0.1),
     lambda p: torch.optim.AdamW(p, 1e-3, weight_decay=0.1)),
    ("rmsprop", lambda: optim.RMSProp(1e-3), lambda p: torch.optim.RMSprop(p, 1e-3)),
    ("rmsprop-all", lambda: optim.RMSProp(1e-3, momentum=0.5, centered=True, weight_decay=1e-3),
     lambda p: torch.optim.RMSprop(p, 1e-3, momentum=0.5, centered=True, weight_decay=1e-3)),
]  # fmt: skip


def data(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random((n, 8, 8, 1), np.float32), rng.integers(0, 10, n)


def torch_losses(
    model: Any, optimizer: Any, x: np.ndarray, y: np.ndarray, steps: int, *,
    accumulate: int = 1, clip_value: float | None = None, clip_norm: float | None = None,
) -> list[float]:  # fmt: skip
    losses = []
    for i in range(0, steps, accumulate):
        optimizer.zero_grad()
        for k in range(i, i + accumulate):
            part = slice(16 * k, 16 * k + 16)
            loss = torch.nn.functional.cross_entropy(
                model(nchw(x[part])), torch.from_numpy(y[part])
            )
            (loss / accumulate).backward()
            losses.append(loss.item())
        if clip_value is not None:
            torch.nn.utils.clip_grad_value_(model.parameters(), clip_value)
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()
    return losses


def our_losses(graph: Any, x: np.ndarray, y: np.ndarray, steps: int) -> list[float]:
    made = []
    for k in range(steps):
        part = slice(16 * k, 16 * k + 16)
        made.append(graph.encode(x[part], y[part]).loss)
    return made


def assert_curves(ours: list[float], theirs: list[float], limit: float = 1e-4) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert abs(a - b) / max(1.0, abs(b)) <= limit, (ours, theirs)


@pytest.mark.parametrize(
    ("ours", "theirs"), [o[1:] for o in OPTIMIZERS], ids=[o[0] for o in OPTIMIZERS]
)
def test_twenty_steps_as_pytorch(device: str, digits_model: Any, ours: Any, theirs: Any) -> None:
    mpsnn.manual_seed(1)
    model = digits_model()
    other = twin(model).train()
    x, y = data(320)
    graph = mpsnn.TrainingGraph(model, nn.SoftmaxCrossEntropy(), ours(), (8, 8, 1), 16, device)
    expected = torch_losses(other, theirs(other.parameters()), x, y, 20)
    assert_curves(our_losses(graph, x, y, 20), expected)
    weight = other[0].weight.detach().numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(model.state_dict()["0.weight"], weight, atol=2e-3)
    running = other[4].running_var.numpy()
    np.testing.assert_allclose(model.state_dict()["4.running_var"], running, rtol=1e-3)


@pytest.mark.parametrize(
    "options",
    [{"clip_value": 0.01}, {"clip_norm": 0.1}, {"clip_norm": 1e6},
     {"clip_value": 0.05, "clip_norm": 0.1}, {"accumulate": 4}, {"accumulate": 2, "clip_norm":
     0.2}],
    ids=str,
)  # fmt: skip
def test_clipping_and_accumulation_as_pytorch(device: str, options: Any) -> None:
    mpsnn.manual_seed(2)
    # Without batch-norm, whose statistics accumulation does not merge.
    model = nn.Sequential(nn.Conv2d(1, 6, 3, padding="same"), nn.Tanh(), nn.MaxPool2d(2),
                          nn.Flatten(), nn.Linear(96, 10))  # fmt: skip
    other = twin(model)
    x, y = data(320)
    graph = mpsnn.TrainingGraph(
        model, nn.SoftmaxCrossEntropy(), optim.SGD(0.1, momentum=0.9), (8, 8, 1), 16, device,
        **options,
    )  # fmt: skip
    optimizer = torch.optim.SGD(other.parameters(), 0.1, momentum=0.9)
    assert_curves(our_losses(graph, x, y, 20), torch_losses(other, optimizer, x, y, 20, **options))


def test_groups_schedules_and_frozen_layers(device: str) -> None:
    mpsnn.manual_seed(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 20), nn.ReLU(),
                          nn.Linear(20, 10))  # fmt: skip
    other = twin(model)
    model[3].trainable = False
    for p in other[3].parameters():
        p.requires_grad_(False)
    x, y = data(160)
    recipe = optim.SGD(
        lambda update: 0.1 / (1 + update),
        momentum=0.9,
        groups=[("1.*", {"lr": 0.01, "momentum": 0.5})],
    )
    graph = mpsnn.TrainingGraph(model, nn.SoftmaxCrossEntropy(), recipe, (8, 8, 1), 16, device)
    optimizer = torch.optim.SGD(
        [{"params": other[1].parameters(), "lr": 0.01, "momentum": 0.5},
         {"params": other[5].parameters(), "lr": 0.1, "momentum": 0.9}])  # fmt: skip
    expected = []
    for k in range(10):
        optimizer.param_groups[1]["lr"] = 0.1 / (1 + k)
        expected += torch_losses(other, optimizer, x[16 * k :], y[16 * k :], 1)
    frozen = model.state_dict()["3.weight"].copy()
    assert_curves(our_losses(graph, x, y, 10), expected)
    np.testing.assert_array_equal(model.state_dict()["3.weight"], frozen)


def train_bits(device: str, model: Any, steps: int, **options: Any) -> dict[str, bytes]:
    mpsnn.manual_seed(5)
    made = model(0.5)
    graph = mpsnn.TrainingGraph(
        made, nn.SoftmaxCrossEntropy(), optim.Adam(1e-3), (8, 8, 1), 16, device, seed=9, **options
    )
    x, y = data(16 * steps)
    for k in range(steps):
        graph.encode(x[16 * k : 16 * k + 16], y[16 * k : 16 * k + 16])
    graph.wait()
    return {k: np.asarray(v).tobytes() for k, v in made.state_dict().items()}


@pytest.mark.parametrize("threads", [1, 2])
def test_reruns_are_equal_bit_for_bit(device: str, digits_model: Any, threads: int) -> None:
    before = mpsnn.num_threads()
    mpsnn.set_num_threads(threads)
    try:
        assert train_bits(device, digits_model, 12) == train_bits(device, digits_model, 12)
    finally:
        mpsnn.set_num_threads(before)


def test_reference_is_equal_at_any_thread_count(digits_model: Any) -> None:
    before, found = mpsnn.num_threads(), []
    try:
        for threads in (1, 2, 3, 5):
            mpsnn.set_num_threads(threads)
            found.append(train_bits("reference", digits_model, 3))
    finally:
        mpsnn.set_num_threads(before)
    assert all(bits == found[0] for bits in found)


def test_resume_equals_unbroken_run(device: str, digits_model: Any, tmp_path: Path) -> None:
    x, y = data(16 * 12)

    def run(graph: Any, steps: range) -> None:
        for k in steps:
            graph.encode(x[16 * k : 16 * k + 16], y[16 * k : 16 * k + 16])
        graph.wait()

    def fresh(model: Any) -> Any:
        return mpsnn.TrainingGraph(
            model, nn.SoftmaxCrossEntropy(), optim.Adam(lambda u: 1e-3 / (1 + u)), (8, 8, 1), 16,
            device, seed=4,
        )  # fmt: skip

    mpsnn.manual_seed(6)
    whole = digits_model(0.5)
    broken = copy.deepcopy(whole)
    run(fresh(whole), range(12))
    first = fresh(broken)
    run(first, range(5))
    first.save_state(tmp_path / "state.safetensors")
    mpsnn.manual_seed(99)
    resumed = digits_model(0.5)
    second = fresh(resumed)
    second.load_state(tmp_path / "state.safetensors")
    run(second, range(5, 12))
    for name, value in whole.state_dict().items():
        assert np.array_equal(np.asarray(value), np.asarray(resumed.state_dict()[name])), name


def test_a_float64_graph_trains_in_float64(digits_model: Any, tmp_path: Path) -> None:
    """As PyTorch's double network does; weights stay float64 then, and float32 graphs take them."""
    model = digits_model()
    other = twin(model).double().train()
    optimizer = torch.optim.Adam(other.parameters(), 1e-2)
    rng = np.random.default_rng(0)
    x, y = rng.random((16, 8, 8, 1)), rng.integers(0, 10, 16)

    def graph(model: Any, dtype: str) -> Any:
        return mpsnn.TrainingGraph(
            model, nn.SoftmaxCrossEntropy(), optim.Adam(1e-2), (8, 8, 1), 16, "reference", dtype,
            seed=0,
        )  # fmt: skip

    trains = graph(model, "float64")
    for _ in range(6):
        loss = trains.encode(x, y).loss
        optimizer.zero_grad()
        expected = torch.nn.functional.cross_entropy(other(nchw(x)), torch.from_numpy(y))
        expected.backward()
        optimizer.step()
        assert loss == pytest.approx(expected.item(), rel=1e-12)
    assert {v.dtype for v in model.state_dict().values()} == {np.dtype(np.float64)}

    trains.save_state(tmp_path / "state.safetensors")
    resumed = graph(digits_model(), "float64")
    resumed.load_state(tmp_path / "state.safetensors")
    assert resumed.encode(x, y).loss == trains.encode(x, y).loss
    narrow = graph(model, "float32").encode(x, y).loss
    wide = trains.encode(x, y).loss  # with the weights of the float32 step
    assert narrow != wide == pytest.approx(narrow, rel=0.5)


def test_smaller_last_batch_trains_as_pytorch(device: str, digits_model: Any) -> None:
    mpsnn.manual_seed(7)
    model = digits_model()
    other = twin(model).train()
    x, y = data(50)
    graph = mpsnn.TrainingGraph(
        model, nn.SoftmaxCrossEntropy(), optim.Adam(1e-3), (8, 8, 1), 16, device
    )
    optimizer = torch.optim.Adam(other.parameters(), 1e-3)
    ours, theirs = [], []
    for _ in range(3):
        for i in range(0, 50, 16):
            ours.append(graph.encode(x[i : i + 16], y[i : i + 16]).loss)
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(
                other(nchw(x[i : i + 16])), torch.from_numpy(y[i : i + 16])
            )
            loss.backward()
            optimizer.step()
            theirs.append(loss.item())
    assert_curves(ours, theirs)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_learns_digits_in_every_dtype(device: str, dtype: str) -> None:
    """A known accuracy after few epochs: PyTorch reaches 93-95 % in five."""
    if dtype not in next(d for d in mpsnn.devices() if d.id == device).dtypes:
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        with pytest.raises(mpsnn.UnsupportedError):
            mpsnn.TrainingGraph(model, nn.SoftmaxCrossEntropy(), None, (8, 8, 1), 4, device, dtype)
        return
    (x, y), (xt, yt) = mpsnn.datasets.digits()
    mpsnn.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(128, 32), nn.ReLU(), nn.Linear(32, 10))  # fmt: skip
    graph = mpsnn.TrainingGraph(
        model, nn.SoftmaxCrossEntropy(), optim.Adam(3e-3), (8, 8, 1), 32, device, dtype, seed=0
    )
    batches = mpsnn.data.batches(x, y, 32, shuffle=True, seed=0)
    for _ in range(5):
        for images, labels in batches:
            graph.encode(images, labels)
    predict = mpsnn.InferenceGraph(model, input_shape=(8, 8, 1), batch_size=128, device=device)
    assert predict.evaluate(xt, yt, metrics=("accuracy",))["accuracy"] >= 0.92


@pytest.mark.parametrize("poison", ["input", "weights"])
def test_finite_guard(device: str, digits_model: Any, poison: str) -> None:
    mpsnn.manual_seed(8)
    model = digits_model()
    graph = mpsnn.TrainingGraph(
        model, nn.SoftmaxCrossEntropy(), optim.Adam(1e-3), (8, 8, 1), 16, device
    )
    x, y = data(16)
    graph.encode(x, y).wait()
    if poison == "weights":
        broken = dict(model.state_dict())
        broken["8.weight"] = np.full_like(broken["8.weight"], np.inf)
        good = dict(model.state_dict())
        model.load_state_dict(broken)
    before = {k: np.array(v) for k, v in model.state_dict().items()}
    bad = x.copy()
    if poison == "input":
        bad[3, 2, 2, 0] = np.nan
    first = graph.encode(bad, y)
    with pytest.raises(mpsnn.NonFiniteError, match="step 1"):
        first.wait()
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(np.asarray(value), before[name], err_msg=name)
    if poison == "weights":
        model.load_state_dict(good)
    graph.encode(x, y).wait()  # goes on once the error has been raised
    assert not np.array_equal(np.asarray(model.state_dict()["0.weight"]), before["0.weight"])


def test_later_queued_steps_do_not_update_after_a_bad_one(device: str, digits_model: Any) -> None:
    model = digits_model()
    graph = mpsnn.TrainingGraph(
        model, nn.SoftmaxCrossEntropy(), optim.SGD(0.1), (8, 8, 1), 16, device
    )
    x, y = data(16)
    before = {k: np.array(v) for k, v in model.state_dict().items()}
    graph.encode(np.full_like(x, np.nan), y)
    raised = 0
    for _ in range(2):
        try:
            graph.encode(x, y)
        except mpsnn.NonFiniteError:
            raised += 1
            break
    if not raised:
        with pytest.raises(mpsnn.NonFiniteError):
            graph.wait()
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(np.asarray(value), before[name], err_msg=name)


def test_check_finite_off(device: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    graph = mpsnn.TrainingGraph(
        model, nn.SoftmaxCrossEntropy(), optim.SGD(0.1), (8, 8, 1), 16, device, check_finite=False
    )
    x, y = data(16)
    step = graph.encode(np.full_like(x, np.nan), y)
    assert np.isnan(step.loss)
    assert np.isnan(np.asarray(model.state_dict()["1.weight"])).all()


def overflowing() -> nn.Module:
    """Gradients of the hidden values overflow half at a scale of 65536, those at 64 do not."""
    mpsnn.manual_seed(11)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Linear(32, 10))
    state = dict(model.state_dict())
    model.load_state_dict({**state, "2.weight": state["2.weight"] * 300})
    return model


def test_dynamic_loss_scale_skips_and_halves(device: str) -> None:
    model = overflowing()
    graph = mpsnn.TrainingGraph(
        model, nn.SoftmaxCrossEntropy(), optim.SGD(1e-6), (8, 8, 1), 16, device, "float16",
        loss_scale="dynamic",
    )  # fmt: skip
    x, y = data(16)
    before = np.array(model.state_dict()["1.weight"])
    first = graph.encode(x, y)
    assert not first.updated
    np.testing.assert_array_equal(np.asarray(model.state_dict()["1.weight"]), before)
    updated = [graph.encode(x, y).updated for _ in range(20)]
    assert updated[-1]
    assert updated == sorted(updated)
    assert not np.array_equal(np.asarray(model.state_dict()["1.weight"]), before)


def test_an_overflow_skips_the_whole_accumulation_window(device: str) -> None:
    """As torch.amp.GradScaler: no update, and the scale is halved once, at the window's end."""
    mpsnn.manual_seed(12)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    graph = mpsnn.TrainingGraph(
        model, nn.SoftmaxCrossEntropy(), optim.SGD(0.1), (8, 8, 1), 16, device, "float16",
        accumulate=3, loss_scale="dynamic",
    )  # fmt: skip
    x, y = data(16)

    def scale() -> float:
        return float(dict(graph._program.state())["loss_scale"][0])

    poisoned = x.copy()
    poisoned[0, 0, 0, 0] = np.inf
    for bad in range(3):  # each place in the window
        before, start = np.array(model.state_dict()["1.weight"]), scale()
        for place in range(3):
            assert scale() == start
            step = graph.encode(poisoned if place == bad else x, y)
            assert not step.updated
        assert scale() == start / 2
        np.testing.assert_array_equal(np.asarray(model.state_dict()["1.weight"]), before)
        updates = [graph.encode(x, y).updated for _ in range(3)]
        assert updates == [False, False, True]  # the next window is whole, and of its own steps
        assert np.abs(np.asarray(model.state_dict()["1.weight"]) - before).max() > 1e-4
        assert np.isfinite(np.asarray(model.state_dict()["1.weight"])).all()


def test_a_dynamic_loss_scale_stops_at_its_bound(device: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    graph = mpsnn.TrainingGraph(
        model, nn.SoftmaxCrossEntropy(), optim.SGD(0.0), (8, 8, 1), 4, device, loss_scale="dynamic"
    )
    x, y = data(4)
    graph.encode(x, y).wait()
    for scale, expected in ((2.0**20, 2.0**21), (2.0**23, 2.0**24), (2.0**24, 2.0**24)):
        state = {n: np.array(v) for n, v in graph._program.state()}
        state["loss_scale"][:] = scale
        state["counters"][1] = 1999  # good updates since the scale changed; it doubles at 2000
        graph._program.load_state(list(state.items()))
        assert graph.encode(x, y).updated
        assert dict(graph._program.state())["loss_scale"][0] == expected


def test_a_fixed_loss_scale_that_overflows_is_an_error(device: str) -> None:
    graph = mpsnn.TrainingGraph(
        overflowing(), nn.SoftmaxCrossEntropy(), optim.SGD(1e-6), (8, 8, 1), 16, device, "float16",
        loss_scale=65536.0,
    )  # fmt: skip
    with pytest.raises(mpsnn.NonFiniteError):
        graph.encode(*data(16)).wait()


def test_exported_gradients_are_unscaled(device: str) -> None:
    model, names = overflowing(), ["1.weight:grad", "1:grad"]
    x, y = data(16)
    found = []
    for dtype, scale in (("float16", 64.0), ("float32", None)):
        graph = mpsnn.TrainingGraph(
            model, nn.SoftmaxCrossEntropy(), None, (8, 8, 1), 16, device, dtype, loss_scale=scale,
            outputs=names,
        )  # fmt: skip
        found.append(graph.encode(x, y).outputs)
    for name in names:
        half, single = found[0][name], found[1][name]
        assert half.dtype == np.float32
        assert np.abs(half - single).max() <= 3e-2 * np.abs(single).max()


def test_outputs_are_the_gradients_of_pytorch(device: str, digits_model: Any) -> None:
    mpsnn.manual_seed(10)
    model = digits_model()
    other = twin(model).train()
    x, y = data(16)
    names = ["3", "3:grad", "0.weight:grad", "9:grad", "x:grad", "11", "4.bias:grad"]
    graph = mpsnn.TrainingGraph(
        model, nn.SoftmaxCrossEntropy(), None, (8, 8, 1), 16, device, outputs=names
    )
    outputs = graph.encode(x, y).outputs
    assert set(outputs) == set(names)
    seen: dict[str, torch.Tensor] = {}
    value = xt = nchw(x).requires_grad_(True)
    for i, layer in enumerate(other):
        value = layer(value)
        value.retain_grad()
        seen[str(i)] = value
    loss = torch.nn.functional.cross_entropy(value, torch.from_numpy(y))
    loss.backward()

    def nhwc(t: torch.Tensor) -> np.ndarray:
        a = t.detach().numpy()
        return a.transpose(0, 2, 3, 1) if a.ndim == 4 else a

    expected = {
        "3": nhwc(seen["3"]), "3:grad": nhwc(seen["3"].grad), "11": nhwc(seen["11"]),
        "9:grad": nhwc(seen["9"].grad), "x:grad": nhwc(xt.grad),
        "0.weight:grad": nhwc(other[0].weight.grad), "4.bias:grad": other[4].bias.grad.numpy(),
    }  # fmt: skip
    for name in names:
        scale = np.abs(expected[name]).max()
        assert np.abs(outputs[name] - expected[name]).max() <= 1e-4 * scale, name


def test_losses_are_per_image(device: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    graph = mpsnn.TrainingGraph(model, nn.SoftmaxCrossEntropy(), None, (8, 8, 1), 16, device)
    x, y = data(16)
    weights = np.linspace(0, 2, 16, dtype=np.float32)
    step = graph.encode(x, y, weights=weights)
    other = twin(model)
    per = torch.nn.functional.cross_entropy(
        other(nchw(x)), torch.from_numpy(y), reduction="none"
    ).detach().numpy()  # fmt: skip
    np.testing.assert_allclose(step.losses[1:], per[1:], rtol=1e-4)
    assert step.losses[0] == 0  # weight 0
    assert step.loss == pytest.approx((per * weights).sum() / weights.sum(), rel=1e-4)


def resident() -> int:
    """Bytes of this process in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.soak
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
@pytest.mark.parametrize("network", ["small", "digits"])
def test_ten_thousand_steps_keep_memory_flat(device: str, digits_model: Any, network: str) -> None:
    """Smaller last batches, exported gradients, reads and callbacks included."""
    small = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    model = small if network == "small" else digits_model(0.3)
    graph = mpsnn.TrainingGraph(
        model, nn.SoftmaxCrossEntropy(), optim.Adam(1e-3), (8, 8, 1), 8, device, seed=1,
        outputs=["x:grad"],
    )  # fmt: skip
    x, y = data(8)
    seen: list[int] = []

    def work(steps: int) -> None:
        for i in range(steps):
            part = slice(0, 5 if i % 10 == 9 else 8)
            step = graph.encode(x[part], y[part])
            if i % 50 == 0:
                step.add_done_callback(lambda s: seen.append(s.index))
                assert np.isfinite(step.loss)
                assert step.outputs["x:grad"].shape == x[part].shape
        graph.wait()
        seen.clear()

    work(1000)
    before = resident()
    work(10_000)
    assert resident() - before <= 512 * 1024
