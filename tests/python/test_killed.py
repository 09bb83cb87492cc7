"""kill -9 at random moments of training that saves its state every ten steps."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TRAINER = """
import os, sys, numpy as np, mpsnn
from mpsnn import nn, optim
path, last = sys.argv[1], int(sys.argv[2])
mpsnn.manual_seed(0)
rng = np.random.default_rng(0)
x, y = rng.random((60, 8, 8, 1), np.float32), rng.integers(0, 10, 60)
model = nn.Sequential(nn.Conv2d(1, 8, 3, padding="same"), nn.BatchNorm2d(8), nn.ReLU(),
                      nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(128, 10))
graph = mpsnn.TrainingGraph(model, nn.SoftmaxCrossEntropy(), optim.Adam(1e-3), (8, 8, 1), 8,
                            os.environ["DEVICE"], seed=0)
if os.path.exists(path):
    graph.load_state(path)
batches = mpsnn.data.batches(x, y, 8, shuffle=True, seed=0)
resumed = graph.encoded
batches.epoch, skip = divmod(resumed, len(batches))
print(resumed, flush=True)
while graph.encoded < last:
    for i, (images, labels) in enumerate(batches):
        if i < skip:
            continue
        graph.encode(images, labels)
        print(".", flush=True)
        if graph.encoded % 10 == 0:
            graph.save_state(path)
        if graph.encoded == last:
            break
    skip = 0
print(graph.encoded)
for name, value in sorted(model.state_dict().items()):
    print(name, hash(value.tobytes()))
"""


def start(path: Path, device: str, last: int) -> subprocess.Popen[str]:
    environment = {**os.environ, "DEVICE": device, "PYTHONHASHSEED": "0"}
    return subprocess.Popen(
        [sys.executable, "-c", TRAINER, str(path), str(last)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def ending(lines: list[str]) -> list[str]:
    """What a trainer prints once it has finished."""
    return [line for line in lines if line.strip() != "."]


def finish(path: Path, device: str, last: int) -> list[str]:
    out, err = start(path, device, last).communicate(timeout=300)
    lines = ending(out.splitlines())
    assert len(lines) > 2, err
    return lines[1:]


def killed(tmp_path: Path, device: str, times: int) -> int:
    """Kill training `times` times, each resuming the last; how many resumed from a saved state.

    One that ends before it is killed must end as the unbroken run did; then all begins anew.
    """
    rng = random.Random(5)
    last = 400
    expected = finish(tmp_path / "whole", device, last)
    path, resumed = tmp_path / "broken", 0
    kills = 0
    while kills < times:
        process = start(path, device, last)
        assert process.stdout is not None
        begun = process.stdout.readline()
        if not begun:
            raise AssertionError(process.communicate()[1])
        resumed += int(begun) > 0
        # Some steps, however fast the machine is; then any moment.
        seen = [process.stdout.readline() for _ in range(rng.randrange(60))]
        time.sleep(rng.random() * 0.004)
        process.send_signal(signal.SIGKILL)
        ended = ending([line.strip() for line in [*seen, *process.stdout] if line])
        process.communicate()
        if process.returncode == 0:
            assert ended == expected
            path.unlink()
        else:
            kills += 1
    assert finish(path, device, last) == expected
    return resumed


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_killed_training_goes_on(tmp_path: Path, device: str) -> None:
    killed(tmp_path, device, 4)


@pytest.mark.soak
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_200_killed_trainings_go_on(tmp_path: Path) -> None:
    resumed = killed(tmp_path, os.environ.get("MPSNN_TEST_DEVICE", "cpu"), 200)
    assert resumed > 150
