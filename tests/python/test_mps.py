"""The mps device: parity, faults, leaks, counts.

On the stand-in (see tests/apple.py) and, where the stand-in is not asked, on a Mac.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import mpsnn
import numpy as np
import pytest
from apple import SIMULATED, count, each, sim
from mpsnn import _core, nn, ops, optim

HERE = any(d.kind == "mps" for d in mpsnn.devices())
pytestmark = pytest.mark.skipif(not HERE, reason="there is no mps device")
simulated = pytest.mark.skipif(not SIMULATED, reason="asks the stand-in for Apple's frameworks")
ROOT = Path(__file__).resolve().parent.parent.parent


def data(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.random((n, 8, 8, 1), np.float32), rng.integers(0, 10, n)


def training(model: Any, device: str = "mps", **options: Any) -> mpsnn.TrainingGraph:
    return mpsnn.TrainingGraph(
        model, nn.SoftmaxCrossEntropy(), optim.Adam(1e-3), (8, 8, 1), 16, device, seed=0,
        **options,
    )  # fmt: skip


def train(graph: Any, x: np.ndarray, y: np.ndarray, steps: int) -> list[float]:
    made = []
    for k in range(steps):
        part = slice(16 * k % len(x), 16 * k % len(x) + 16)
        made.append(graph.encode(x[part], y[part]).loss)
    return made


def script(devices: str, code: str, environment: dict[str, str] | None = None) -> str:
    """Run in a process of its own, with these devices."""
    path = os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "APPLE_SIM_DEVICES": devices, "PYTHONPATH": path,
             **(environment or {})},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def example_network() -> Any:
    """The network of examples/digits.py, without dropout."""
    spec = importlib.util.spec_from_file_location("digits", ROOT / "examples" / "digits.py")
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    return example.small_network(0.0)


@pytest.mark.parametrize("network", ["example", "more kinds of layers"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_loss_curve_equals_reference(digits_model: Any, dtype: str, network: str) -> None:
    make = example_network if network == "example" else digits_model
    mpsnn.manual_seed(1)
    first = make()
    mpsnn.manual_seed(1)
    second = make()
    x, y = data(320)
    ours = train(training(first, dtype=dtype), x, y, 20)
    theirs = train(training(second, "reference", dtype=dtype), x, y, 20)
    errors = [abs(a - b) / max(1.0, abs(b)) for a, b in zip(ours, theirs, strict=True)]
    print(f"{network}, {dtype}: 20 losses differ by {max(errors):.1e} at most")
    assert max(errors) <= (1e-3 if dtype == "float32" else 1e-2), (ours, theirs)


def test_flatten_of_more_channels_than_an_image_has() -> None:
    model = nn.Sequential(nn.Conv2d(1, 200, 3, padding="same"), nn.Flatten(), nn.Linear(12800, 10))
    x, y = data(16)
    losses = train(training(model), x, y, 3)
    assert losses[2] < losses[0]
    alone = nn.Sequential(nn.Conv2d(1, 200, 3, padding="same"), nn.Flatten(), nn.ReLU())
    with pytest.raises(_core.UnsupportedError, match="8192 channels"):
        mpsnn.InferenceGraph(alone, (8, 8, 1), 4, device="mps")


def test_a_norm_behind_a_flatten() -> None:
    """It reads images of another form than those that its input lives in, twice."""
    curves = []
    for device in ("mps", "reference"):
        mpsnn.manual_seed(2)
        model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.BatchNorm1d(108),
                              nn.Linear(108, 10))  # fmt: skip
        curves.append(train(training(model, device), *data(32), 4))
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-4)


def test_another_dtype_is_refused_with_the_reason(digits_model: Any) -> None:
    with pytest.raises(_core.UnsupportedError, match="bfloat16"):
        training(digits_model(), dtype="bfloat16")


def test_dropout_whose_gradient_nobody_wants() -> None:
    """Its states are given back: the stand-in counts them."""
    y = ops.dropout(np.ones((4, 64), np.float32), 0.5, device="mps")
    assert set(np.unique(y)) == {0.0, 2.0}


def live_after(steps: int, model: Any) -> tuple[dict[str, int], int, int]:
    x, y = data(160)
    graph = training(model)
    counts: list[tuple[dict[str, int], int, int]] = []
    for half in range(2):
        for k in range(steps // 2):
            part = slice(16 * k % 160, 16 * k % 160 + 16)
            graph.encode(x[part], y[part])
        graph.wait()
        _core.drain()
        counts.append((each("live"), count("live_buffers"), count("live_heaps")))
        assert half == 0 or counts[0] == counts[1]
    return counts[1]


class Rows(nn.Module):
    """An image's rows as a sequence: one layer by MPS, one of products and own cells."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.gru = nn.LSTM(8, 12), nn.GRU(12, 12, return_sequences=False)
        self.head = nn.Linear(12, 10)

    def forward(self, x: Any) -> Any:
        return self.head(self.gru(self.lstm(ops.reshape(x, (8, 8)))))


@simulated
@pytest.mark.parametrize("network", ["digits", "rows"])
def test_nothing_grows(digits_model: Any, network: str) -> None:
    live_after(200, digits_model(0.5) if network == "digits" else Rows())
    assert count("missing_pools") == 0


@simulated
@pytest.mark.soak
@pytest.mark.parametrize("network", ["digits", "rows"])
def test_nothing_grows_in_two_thousand_steps(digits_model: Any, network: str) -> None:
    live_after(2000, digits_model(0.5) if network == "digits" else Rows())
    assert count("missing_pools") == 0


@simulated
def test_a_step_that_the_host_updates_has_its_pools(digits_model: Any) -> None:
    class Plain(optim.Optimizer):
        def update_parameter(self, name: str, weights: Any, gradient: Any, state: Any,
                             lr: float) -> Any:  # fmt: skip
            return weights - lr * gradient

    x, y = data(32)
    graph = mpsnn.TrainingGraph(
        digits_model(), nn.SoftmaxCrossEntropy(), Plain(0.1), (8, 8, 1), 16, "mps", ema=0.9,
        outputs=["0"], loss_scale=4.0,
    )  # fmt: skip
    before = count("missing_pools")
    train(graph, x, y, 4)
    _core.drain()
    assert count("missing_pools") == before


@simulated
def test_nothing_is_left_of_a_graph(digits_model: Any) -> None:
    def once() -> None:
        x, y = data(16)
        train(training(digits_model(0.5)), x, y, 2)
        gc.collect()  # modules and graphs refer to each other
        _core.drain()

    once()
    before = each("live")
    for _ in range(3):
        once()
    assert each("live") == before


@simulated
def test_encodes_copies_and_waits_of_a_step(digits_model: Any) -> None:
    x, y = data(16)
    graph = training(digits_model(0.5))
    train(graph, x, y, 3)
    _core.drain()
    sim.apple_sim_reset_counters()
    train(graph, x, y, 10)
    _core.drain()
    assert count("host_waits") == 0
    assert count("commits") == 10
    encodes = {name: n / 10 for name, n in sorted(each("encode").items()) if n}
    print(f"a step: {encodes}")
    print(f"{count('encodes', None) / 10} encodes, {count('blits') / 10} copies of buffers, "
          f"{count('synchronizations') / 10} synchronisations, 0 host waits")  # fmt: skip
    # To images: the inputs, labels and weights of the loss's two halves. To buffers: losses.
    assert encodes["MPSMatrixCopyToImage"] == 5
    assert encodes["MPSImageCopyToMatrix"] == 1


@simulated
def test_a_failed_command_buffer_names_the_layer(digits_model: Any) -> None:
    x, y = data(16)
    graph = training(digits_model())
    train(graph, x, y, 1)
    _core.drain()
    sim.apple_sim_fail_command_buffer(3, b"Conv2d 0", 0)
    with pytest.raises(_core.DeviceError, match=r"Conv2d 0"):
        graph.encode(x, y).wait()
    sim.apple_sim_fail_command_buffer(8, None, 0)
    with pytest.raises(_core.OutOfMemoryError):
        graph.encode(x, y).wait()
    assert np.isfinite(train(graph, x, y, 2)).all()


class Held:
    """While it lasts, nothing that is committed starts to execute: no host copy may be needed."""

    def __enter__(self) -> None:
        sim.apple_sim_hold(1)

    def __exit__(self, *_: object) -> None:
        sim.apple_sim_hold(0)


@simulated
def test_an_update_that_breaks_off_stops_those_behind_it(digits_model: Any, tmp_path: Path) -> None:
    x, y = data(48)
    mpsnn.manual_seed(3)
    model = digits_model()
    graph = training(model)
    train(graph, x, y, 2)
    graph.save_state(tmp_path / "state")
    unbroken = train(graph, x, y, 3)
    before = model.state_dict()
    _core.drain()
    with Held():
        # Weights and moments are written by then, running statistics are not.
        sim.apple_sim_fail_command_buffer(3, b"running_statistic", 0)
        broken, behind = graph.encode(x[:16], y[:16]), graph.encode(x[16:32], y[16:32])
    partly = model.state_dict()  # waits for both
    with pytest.raises(_core.DeviceError, match=r"\[update\].* may be written in part"):
        broken.wait()
    behind.wait()
    changed = {name for name, value in partly.items() if (value != before[name]).any()}
    assert "0.weight" in changed
    assert not any("running" in name for name in changed)
    # What was queued behind has left all of it as it was.
    after = model.state_dict()
    assert all((after[name] == value).all() for name, value in partly.items())
    graph.load_state(tmp_path / "state")
    assert train(graph, x, y, 3) == unbroken


@simulated
def test_updates_go_on_once_the_error_is_raised(digits_model: Any) -> None:
    x, y = data(16)
    model = digits_model()
    graph = training(model)
    train(graph, x, y, 1)
    _core.drain()
    sim.apple_sim_fail_command_buffer(3, b"running_statistic", 0)
    with pytest.raises(_core.DeviceError, match="update"):
        graph.encode(x, y).wait()
    before = model.state_dict()
    graph.encode(x, y).wait()
    assert all((value != before[name]).any() for name, value in model.state_dict().items())


@simulated
def test_weights_whose_loading_failed_are_loaded_again(digits_model: Any) -> None:
    x, _ = data(16)
    model = digits_model()
    g = mpsnn.Graph()
    image = g.image(8, 8, 1)
    first = g.convolution(image, model[0])
    run = g.compile(results=[first], batch_size=16, device="mps")
    once = run.encode({image: x}).outputs[first]
    model.load_state_dict({n: 2 * v for n, v in model.state_dict().items()})
    mpsnn.InferenceGraph(model, (8, 8, 1), 16, device="mps")(x)  # brings them to the device
    _core.drain()
    with Held():
        sim.apple_sim_fail_command_buffer(3, b"no encoder", 0)  # before the first
        failed, behind = run.encode({image: x}), run.encode({image: x})
    with pytest.raises(_core.DeviceError):
        failed.wait()
    np.testing.assert_allclose(behind.outputs[first], 2 * once, rtol=1e-5)
    np.testing.assert_allclose(run.encode({image: x}).outputs[first], 2 * once, rtol=1e-5)


@simulated
def test_weights_are_loaded_once(digits_model: Any) -> None:
    predict = mpsnn.InferenceGraph(digits_model(), (8, 8, 1), 16, device="mps")
    x, _ = data(64)
    predict(x)
    _core.drain()
    sim.apple_sim_reset_counters()
    predict(x)
    _core.drain()
    counts = {n: c for n, c in each("encode").items() if c}
    assert counts.get("MPSCNNConvolution") == 4 * 4, counts


@simulated
def test_no_memory_for_a_buffer(digits_model: Any) -> None:
    model = digits_model()
    for skip in (0, 3, 12):
        sim.apple_sim_fail_allocation(skip)
        try:
            planned = r"no memory.*; planned: \d+ MiB for a step of batch 16, \d+ MiB for weights"
            with pytest.raises(_core.OutOfMemoryError, match=planned):
                training(model)
        finally:
            sim.apple_sim_fail_allocation(-1)
    x, y = data(16)
    train(training(model), x, y, 1)


@simulated
def test_the_device_is_removed() -> None:
    """Steps say so, and how old the weights are that are left; these train on elsewhere."""
    out = script("removable,unified", """
        import json, numpy as np, mpsnn
        from mpsnn import nn, optim, _core
        from apple import sim, violations
        x, y = np.random.rand(16, 8, 8, 1).astype(np.float32), np.zeros(16, int)
        model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))

        def training(device):
            return mpsnn.TrainingGraph(model, nn.SoftmaxCrossEntropy(), optim.SGD(0.1),
                                       (8, 8, 1), 16, device, seed=0)

        graph = training("mps")
        for _ in range(3):
            graph.encode(x, y).wait()
        before = dict(model.state_dict())
        sim.apple_sim_remove_device(0)
        found = []
        for _ in range(3):
            try:
                graph.encode(x, y).wait()
            except mpsnn.DeviceError as error:
                found.append([str(error), error.step])
        same = all(np.array_equal(v, before[k]) for k, v in model.state_dict().items())
        losses = [training(device).encode(x, y).loss for device in ("cpu", "mps", "cpu")]
        print(json.dumps([found, same, losses, violations()]))
    """, {"MPSNN_SAVE_SECONDS": "1e-9"})  # fmt: skip
    found, same, losses, violations = json.loads(out)
    assert len(found) == 3
    for text, step in found:
        assert "the device was removed" in text
        assert "the weights that the host has are those of step 2" in text
        assert step == 2
    assert same
    assert losses[0] > losses[1] > losses[2]
    assert violations == []


@simulated
def test_weights_that_nobody_saved_are_those_from_before() -> None:
    out = script("removable", """
        import numpy as np, mpsnn
        from mpsnn import nn, optim
        from apple import sim
        x = np.ones((4, 3), np.float32)
        model = nn.Linear(3, 2)
        first = np.array(model.weight)
        graph = mpsnn.TrainingGraph(model, nn.MSE(), optim.SGD(0.1), (3,), 4, "mps")
        graph.encode(x, np.ones((4, 2), np.float32)).wait()  # saved after 30 seconds
        sim.apple_sim_remove_device(0)
        try:
            graph.encode(x, np.ones((4, 2), np.float32)).wait()
        except mpsnn.DeviceError as error:
            print(error.step, "from before the first step" in str(error))
        print(np.array_equal(model.weight, first), mpsnn.DeviceError("other").step)
    """)  # fmt: skip
    assert out == "-1 True\nTrue None\n"


@simulated
def test_a_gpu_that_computes_wrongly_is_not_used(tmp_path: Path) -> None:
    code = """
        import numpy as np, mpsnn
        from mpsnn import nn
        from apple import sim
        sim.apple_sim_corrupt_convolutions({error})
        try:
            y = mpsnn.InferenceGraph(nn.Linear(4, 2), (4,), 2, "mps")(np.zeros((2, 4), np.float32))
            print("computed", y.shape)
        except mpsnn.DeviceError as error:
            print(error)
        print(mpsnn.InferenceGraph(nn.Linear(4, 2), (4,), 2, "auto").device)
    """
    cache = {"XDG_CACHE_HOME": str(tmp_path)}
    wrong = script("discrete", code.format(error=0.01), cache)
    assert "[mps] this GPU, or this release of Linux" in wrong
    assert "computes wrongly: step 1: loss" in wrong
    assert wrong.endswith("\ncpu\n")  # "auto" takes the next
    assert "computed" in script("discrete", code.format(error=0.01),
                                {**cache, "MPSNN_SELF_TEST": "0"})  # fmt: skip
    right = script("discrete", code.format(error=0.0), cache)
    assert right == "computed (2, 2)\nmps\n"
    # What has passed is not tested again: not for each process, and not once it would fail.
    assert "computed" in script("discrete", code.format(error=0.01), cache)
    (tmp_path / "mpsnn" / "self_tests.json").write_text("{broken")
    assert "computes wrongly" in script("discrete", code.format(error=0.01), cache)


@simulated
def test_devices_in_order_of_preference() -> None:
    out = script("integrated,discrete,removable", """
        import mpsnn
        for d in mpsnn.devices():
            if d.kind == "mps":
                print(d.id, d.removable, d.low_power, d.unified_memory, d.registry_id != 0,
                      d.memory > 0)
        print(mpsnn._core.self_test("mps:1") == "", mpsnn._core.self_test("mps:2") == "")
        print(mpsnn._device.on_device("auto", lambda d: d)[1])
    """)  # fmt: skip
    lines = out.splitlines()
    assert lines[0].startswith("mps True False")
    assert lines[1].startswith("mps:1 False False")
    assert lines[2].startswith("mps:2 False True")
    assert all(line.endswith("True True") for line in lines[:4]), out
    assert lines[4] == "mps"


@simulated
@pytest.mark.parametrize("devices", ["unified", "discrete"])
def test_storage_modes(devices: str) -> None:
    out = script(devices, """
        import numpy as np, mpsnn
        from apple import violations
        x, y = np.random.rand(64, 8, 8, 1).astype(np.float32), np.arange(64) % 10
        from mpsnn import nn, optim
        model = nn.Sequential(nn.Conv2d(1, 8, 3, padding="same"), nn.BatchNorm2d(8), nn.ReLU(),
            nn.MaxPool2d(2), nn.Dropout(0.5), nn.Flatten(), nn.Linear(128, 10))
        graph = mpsnn.TrainingGraph(model, nn.SoftmaxCrossEntropy(), optim.Adam(0.01), (8, 8, 1),
                                    64, "mps", seed=0)
        losses = [graph.encode(x, y).loss for _ in range(30)]
        predict = mpsnn.InferenceGraph(model, (8, 8, 1), 64, device="mps")
        predict(x)
        model.state_dict()
        print(losses[-1] < losses[0], mpsnn._core.drain() or violations())
    """)  # fmt: skip
    assert out == "True []\n"


@simulated
def test_what_a_mac_is_asked_first() -> None:
    if not (ROOT / "build" / "package" / "tests" / "mac" / "mac_probes").exists():
        pytest.skip("the probes are not built")
    done = subprocess.run([sys.executable, "tests/mac/first_run.py", "--probes"], cwd=ROOT,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert "DIFFERENT" not in done.stdout
    assert done.stdout.endswith("0 answers are not as assumed\n")


@simulated
def test_the_example_trains() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "digits.py"), "--device", "mps", "--epochs", "2"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "mps" in done.stdout
