"""Weights and training state on disk: round trips, other readers, kill -9 while saving."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import mpsnn
import numpy as np
import pytest
import safetensors.numpy
from mpsnn import _core, nn


def model() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding="same"), nn.BatchNorm2d(4), nn.Flatten(),
                         nn.Linear(256, 10))  # fmt: skip


def test_round_trip_and_other_reader(tmp_path: Path) -> None:
    first, second = model(), model()
    path = tmp_path / "weights.safetensors"
    first.save(path)
    second.load(path)
    for name, value in first.state_dict().items():
        np.testing.assert_array_equal(np.asarray(value), np.asarray(second.state_dict()[name]))
    loaded = safetensors.numpy.load_file(path)
    assert set(loaded) == set(first.state_dict())
    np.testing.assert_array_equal(loaded["3.weight"], np.asarray(first.state_dict()["3.weight"]))


SAVER = """
import sys, numpy as np, mpsnn
from mpsnn import nn
m = nn.Sequential(nn.Linear(700, 700))
value = 0
print("ready", flush=True)
while True:
    value += 1
    m.load_state_dict({"0.weight": np.full((700, 700), value, np.float32),
                       "0.bias": np.full(700, value, np.float32)})
    m.save(sys.argv[1])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_kill_while_saving_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    rng = np.random.default_rng(0)
    for _ in range(8):
        command = [sys.executable, "-c", SAVER, os.fspath(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            while not path.exists():
                time.sleep(0.01)
            time.sleep(float(rng.uniform(0, 0.1)))
            child.kill()
        loaded = nn.Sequential(nn.Linear(700, 700))
        loaded.load(path)
        weight = np.asarray(loaded.state_dict()["0.weight"])
        assert (weight == weight[0, 0]).all()
        assert (np.asarray(loaded.state_dict()["0.bias"]) == weight[0, 0]).all()


STATE_SAVER = """
import sys, numpy as np, mpsnn
from mpsnn import nn, optim
mpsnn.manual_seed(3)
m = nn.Sequential(nn.Flatten(), nn.Linear(64, 2000), nn.ReLU(), nn.Dropout(0.3),
                  nn.Linear(2000, 10))
g = mpsnn.TrainingGraph(m, nn.SoftmaxCrossEntropy(), optim.Adam(1e-3), (8, 8, 1), 16, sys.argv[2],
                        seed=4)
if len(sys.argv) > 3:
    g.load_state(sys.argv[1])
x, y = np.random.default_rng(0).random((16, 8, 8, 1), np.float32), np.arange(16) % 10
print("ready", flush=True)
while len(sys.argv) < 4 or g.encoded < int(sys.argv[3]):
    g.encode(x, y)
    g.save_state(sys.argv[1])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_kill_while_saving_the_state_and_resume(device: str, tmp_path: Path) -> None:
    """The file is whole after every kill, and a resumed run equals one that was never killed."""
    path, other = tmp_path / "state.safetensors", tmp_path / "unbroken.safetensors"
    rng = np.random.default_rng(1)

    def command(where: Path, *last: int) -> list[str]:
        return [sys.executable, "-c", STATE_SAVER, os.fspath(where), device, *map(str, last)]

    reached = []
    for _ in range(5):
        with subprocess.Popen(command(path), stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            deadline = time.monotonic() + 60
            while not path.exists() and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(float(rng.uniform(0, 0.15)))
            child.kill()
        tensors, _ = _core.read_safetensors(os.fspath(path))
        reached.append(int(tensors["state/encoded"][0]))
        assert reached[-1] > 0
    steps = reached[-1] + 3
    subprocess.run(command(path, steps), check=True, capture_output=True, timeout=300)
    straight = STATE_SAVER.replace("    g.load_state(sys.argv[1])", "    pass")
    subprocess.run([sys.executable, "-c", straight, *command(other, steps)[3:]], check=True,
                   capture_output=True, timeout=300)  # fmt: skip
    found, expected = (_core.read_safetensors(os.fspath(p))[0] for p in (path, other))
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(np.asarray(found[name]), np.asarray(expected[name]), name)


def test_unwritable_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        model().save(tmp_path / "no" / "such" / "folder.safetensors")
    assert not list(tmp_path.iterdir())


def test_state_of_another_model_is_refused(tmp_path: Path) -> None:
    def graph(m: nn.Module) -> mpsnn.TrainingGraph:
        return mpsnn.TrainingGraph(m, nn.SoftmaxCrossEntropy(), mpsnn.optim.Adam(1e-3), (8, 8, 1),
        4,
                                   "reference")  # fmt: skip

    path = tmp_path / "state.safetensors"
    graph(model()).save_state(path)
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    before = np.array(other.state_dict()["1.weight"])
    with pytest.raises((ValueError, mpsnn.ShapeError)):
        graph(other).load_state(path)
    np.testing.assert_array_equal(np.asarray(other.state_dict()["1.weight"]), before)
