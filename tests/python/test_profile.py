"""graph.profile(): rows, what they add up to, the trace; wrong use."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import mpsnn
import numpy as np
import pytest
from mpsnn import nn, optim


def model() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding="same"), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(16 * 16, 10),
    )  # fmt: skip


def test_training(device: str, tmp_path: Path) -> None:
    graph = mpsnn.TrainingGraph(model(), nn.SoftmaxCrossEntropy(), optim.SGD(0.1), (8, 8, 3), 4,
                                device=device, seed=0)  # fmt: skip
    x, y = np.ones((4, 8, 8, 3), np.float32), np.arange(4)
    graph.encode(x, y)
    if device.startswith("mps"):
        with pytest.raises(mpsnn.UnsupportedError, match="times of nodes"):
            graph.profile().__enter__()
        return
    with graph.profile() as profile:
        for _ in range(3):
            graph.encode(x, y)
        graph.encode(x[:2], y[:2])  # a smaller batch is a plan of its own
    graph.encode(x, y).wait()
    assert profile.steps == 3
    ops = [row["op"] for row in profile.rows]
    assert {"conv2d", "conv2d gradient", "batch_norm gradient", "update"} <= set(ops)
    assert sum(row["share"] for row in profile.rows) == pytest.approx(1)
    assert sum(profile.by_op().values()) == pytest.approx(profile.seconds)
    conv = next(row for row in profile.rows if row["op"] == "conv2d")
    assert conv["operations"] == 2 * 4 * 8 * 8 * 16 * 27
    assert conv["gigaflops"] == pytest.approx(conv["operations"] / conv["seconds"] / 1e9)
    assert conv["bytes"] == 4 * (4 * 8 * 8 * 3 + 16 * 27 + 16 + 4 * 8 * 8 * 16)
    assert all(row["roofline"] > 0 for row in profile.rows if row["op"] != "update")
    gradient = next(row for row in profile.rows if row["op"] == "conv2d gradient")
    assert gradient["operations"] == conv["operations"]  # by the weights alone
    assert "a step, 3 recorded" in str(profile)
    profile.save(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert len(events) == 3 * len(profile.rows)
    ends = [(e["ts"], e["ts"] + e["dur"]) for e in events]
    assert all(a[1] <= b[0] + 1e-3 for a, b in itertools.pairwise(ends))  # in order


def test_inference_and_nothing(device: str) -> None:
    if device.startswith("mps"):
        pytest.skip("mps records no times of nodes")
    predict: Any = mpsnn.InferenceGraph(model(), (8, 8, 3), 4, device=device)
    with predict.profile() as profile:
        predict(np.ones((8, 8, 8, 3), np.float32))
    assert profile.steps == 2
    with predict.profile() as empty:
        pass
    assert "no full batch" in str(empty)
