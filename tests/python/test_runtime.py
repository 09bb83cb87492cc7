"""Threads, callbacks, signals, forks and exits around queued steps."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from typing import Any

import mpsnn
import numpy as np
import pytest
from mpsnn import nn, optim

X = np.random.default_rng(0).random((8, 8, 8, 1), np.float32)
Y = np.arange(8) % 10


def graph(device: str = "reference", model: Any = None) -> mpsnn.TrainingGraph:
    model = model or nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    return mpsnn.TrainingGraph(
        model, nn.SoftmaxCrossEntropy(), optim.SGD(0.01), (8, 8, 1), 8, device, seed=0
    )


def run(code: str) -> str:
    """Run a script in a process of its own; its stdout. Fails when it hangs or dies."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


SCRIPT = """
import numpy as np, mpsnn
from mpsnn import nn, optim
x, y = np.random.rand(64, 28, 28, 1).astype(np.float32), np.zeros(64, int)
m = nn.Sequential(nn.Conv2d(1, 8, 5), nn.ReLU(), nn.Flatten(), nn.Linear(4608, 10))
g = mpsnn.TrainingGraph(m, nn.SoftmaxCrossEntropy(), optim.SGD(0.01), (28, 28, 1), 64, DEVICE)
"""


def test_many_threads_encode_one_graph(device: str) -> None:
    g = graph(device)

    def work() -> None:
        for _ in range(25):
            g.encode(X, Y)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    g.wait()
    assert g.encoded == 100


def test_two_graphs_of_one_model_side_by_side(device: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    a, b = graph(device, model), graph(device, model)
    before = np.array(model.state_dict()["1.weight"])
    for _ in range(5):
        first, second = a.encode(X, Y), b.encode(X, Y)
    assert second.loss < first.loss  # one weight, both train it
    assert not np.array_equal(np.asarray(model.state_dict()["1.weight"]), before)


def test_graphs_share_the_memory_of_a_device(device: str) -> None:
    """The second graph is larger: the first one's memory moves between two of its steps."""

    def losses(others: bool) -> list[float]:
        mpsnn.manual_seed(0)
        layers = [nn.Conv2d(1, 4, 3, padding="same"), nn.ReLU(), nn.Flatten()]
        model = nn.Sequential(*layers, nn.Linear(256, 10))
        g, seen = graph(device, model), []
        wide = nn.Sequential(nn.Conv2d(1, 32, 3, padding="same"), nn.ReLU(), nn.Flatten())
        for i in range(6):
            seen.append(g.encode(X, Y))
            if others and i == 2:
                large = mpsnn.InferenceGraph(wide, input_shape=(8, 8, 1), batch_size=32,
                                             device=device)  # fmt: skip
            if others and i >= 2:
                large(X)
        return [s.loss for s in seen]

    assert losses(others=True) == losses(others=False)


def test_devices_hand_weights_over() -> None:
    kinds = [d.id for d in mpsnn.devices()]
    if "cpu" not in kinds:
        pytest.skip("handing over needs two devices, this build has one")
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    a, b = graph("cpu", model), graph("reference", model)
    losses = [g.encode(X, Y).loss for _ in range(4) for g in (a, b)]
    assert losses == sorted(losses, reverse=True)
    assert len(set(losses)) == len(losses)


def test_callbacks_run_and_wait_inside_one_raises(device: str) -> None:
    g, seen, done = graph(device), [], threading.Event()

    def callback(step: mpsnn.Step) -> None:
        seen.append(step.loss)  # it is done: no wait
        try:
            g.wait()
        except mpsnn.DeviceError as error:
            seen.append(str(error))
        done.set()

    g.encode(X, Y).add_done_callback(callback)
    assert done.wait(30)
    assert np.isfinite(seen[0])
    assert "callback" in seen[1]


def test_an_error_is_raised_once(device: str) -> None:
    g = graph(device)
    bad = g.encode(X * np.nan, Y)
    with pytest.raises(mpsnn.NonFiniteError):
        bad.wait()
    bad.wait()
    g.wait()
    g.encode(X * np.nan, Y)
    with pytest.raises(mpsnn.NonFiniteError):
        g.wait()
    g.wait()


def test_the_array_may_change_after_encode(device: str) -> None:
    g = graph(device)
    x = X.copy()
    expected = g.encode(x, Y).loss
    other = graph(device)
    other.model.load_state_dict(
        {k: np.asarray(v) for k, v in g.model.state_dict().items()}
    )  # same weights for both from here
    first, second = g.encode(x, Y), other.encode(x, Y)
    x[:] = 0
    assert first.loss == second.loss != expected


def test_strides_and_widths_are_converted(device: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    g = mpsnn.TrainingGraph(model, nn.SoftmaxCrossEntropy(), None, (8, 8, 1), 8, device)
    expected = g.encode(X, Y).loss
    wide = np.zeros((16, 8, 16, 1), np.float64)
    wide[::2, :, ::2] = X
    for images, labels in ((wide[::2, :, ::2], Y.astype(np.int32)), (X, Y.astype(np.uint8)),
                           (np.asfortranarray(X), Y[::-1][::-1])):  # fmt: skip
        assert g.encode(images, labels).loss == expected


@pytest.mark.parametrize("order", ["torch first", "mpsnn first"])
def test_torch_in_one_process(order: str, device: str) -> None:
    imports = ["import torch", "import mpsnn"]
    if order == "mpsnn first":
        imports.reverse()
    code = (
        "\n".join(imports)
        + SCRIPT.replace("DEVICE", repr(device))
        + (
            "\nfor _ in range(3): g.encode(x, y)\n"
            "torch.nn.functional.conv2d(torch.rand(4, 8, 16, 16), torch.rand(8, 8, 3, 3)).sum()\n"
            "g.wait(); print('fine')\n"
        )
    )
    assert run(code) == "fine\n"


def test_exit_with_steps_in_flight(device: str) -> None:
    code = SCRIPT.replace("DEVICE", repr(device)) + (
        "\nfor _ in range(6): s = g.encode(x, y)\ns.add_done_callback(lambda s: None)\n"
        "print('end')\n"
    )
    assert run(code) == "end\n"


@pytest.mark.skipif(not hasattr(os, "kill"), reason="needs signals")
def test_interrupt_leaves_everything_usable(device: str) -> None:
    """Ctrl-C in each call that blocks, 0.1 s into steps that take far longer."""
    code = (
        SCRIPT
        + """
import os, signal, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell runs behind
n, seconds = 64, 0
while seconds < 0.4:
    n *= 2
    x, y = np.random.rand(n, 28, 28, 1).astype(np.float32), np.zeros(n, int)
    g = mpsnn.TrainingGraph(m, nn.SoftmaxCrossEntropy(), optim.SGD(0.01), (28, 28, 1), n, DEVICE)
    times = [time.perf_counter()]
    for _ in range(4):
        g.encode(x, y).wait()
        times.append(time.perf_counter())
    seconds = min(np.diff(times))
blocks = {"wait": lambda: g.wait(), "third encode": lambda: g.encode(x, y),
          "read": lambda: step.loss, "step": lambda: step.wait()}
for name, block in blocks.items():
    step = g.encode(x, y)
    g.encode(x, y)
    before = g.encoded
    threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    try:
        block()
        print(name, "was not interrupted")
    except KeyboardInterrupt:
        print(name, step.done(), g.encoded == before)
    g.wait()
    assert np.isfinite(step.loss) and np.isfinite(g.encode(x, y).loss)
    assert g.encoded == before + 1
"""
    )
    names = ("wait", "third encode", "read", "step")
    expected = "".join(f"{name} False True\n" for name in names)
    assert run(code.replace("DEVICE", repr(device))) == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_gets_an_error_and_never_hangs(device: str) -> None:
    """Forked with two steps in flight; the child asks for everything and ends as usual."""
    code = (
        SCRIPT
        + """
import os, sys
step = g.encode(x, y)
g.encode(x, y)
def another():
    mpsnn.InferenceGraph(m, (28, 28, 1), 64, DEVICE)
asked = {"encode": lambda: g.encode(x, y), "wait": g.wait, "state_dict": m.state_dict,
         "another": another, "save_state": lambda: g.save_state("state"), "step.wait": step.wait,
         "step.loss": lambda: step.loss, "eager": lambda: nn.ReLU()(x),
         "devices": mpsnn.devices}
pid = os.fork()
if pid == 0:
    refused = []
    for name, ask in asked.items():
        try:
            ask()
        except mpsnn.DeviceError:
            refused.append(name)
    print(*refused, flush=True)
    sys.exit(7)
_, status = os.waitpid(pid, 0)
print(os.waitstatus_to_exitcode(status), np.isfinite(g.encode(x, y).loss))
"""
    )
    refused, _, rest = run(code.replace("DEVICE", repr(device))).partition("\n")
    # The step may have been done before the fork: answers are right there.
    names = [name for name in refused.split() if not name.startswith("step.")]
    assert names == ["encode", "wait", "state_dict", "another", "save_state", "eager", "devices"]
    assert rest == "7 True\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_never_waits_for_threads_it_has_not(device: str) -> None:
    """Forked again and again while two threads encode, read weights and run ops of their own."""
    code = (
        SCRIPT
        + """
import os, sys, threading, time
stop = threading.Event()
def work():
    while not stop.is_set():
        step = g.encode(x, y)
        m.state_dict(), step.wait(), nn.ReLU()(x[:2])
threads = [threading.Thread(target=work) for _ in range(2)]
for t in threads:
    t.start()
for i in range(40):
    time.sleep(0.005 * (i % 7))
    pid = os.fork()
    if pid == 0:
        for ask in (lambda: g.encode(x, y), m.state_dict, lambda: nn.ReLU()(x), mpsnn.devices):
            try:
                ask()
            except mpsnn.DeviceError:
                pass
        sys.exit(7)
    deadline = time.monotonic() + 60
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.kill(pid, 9)
            sys.exit(f"child {i} hangs")
        time.sleep(0.001)
    assert os.waitstatus_to_exitcode(ended[1]) == 7, ended
stop.set()
for t in threads:
    t.join()
print("ok")
"""
    )
    assert run(code.replace("DEVICE", repr(device))) == "ok\n"


def test_graphs_do_not_pickle() -> None:
    import pickle

    with pytest.raises(TypeError, match="save_state"):
        pickle.dumps(graph())
