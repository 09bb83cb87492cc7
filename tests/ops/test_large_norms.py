"""Norms on cpu: outputs that no cache holds, written past them, in whole vectors or not; means that
are far from 0."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from devices import DEVICES
from harness import as_float64, error
from mpsnn import _core


@pytest.mark.skipif("cpu" not in DEVICES, reason="how the cpu device computes")
@pytest.mark.parametrize("neuron", ["none", "relu", "leaky_relu", "tanh"])
@pytest.mark.parametrize("channels", [128, 130, 6])
@pytest.mark.parametrize("op", ["batch_norm", "group_norm"])
def test_outputs_beyond_the_caches(op: str, channels: int, neuron: str) -> None:
    shape = (9, 60, 1 + 4194304 // (9 * 60 * channels), channels)
    rng = np.random.default_rng(channels)
    x = rng.standard_normal(shape, np.float32) + np.float32(0.5)
    w, b = rng.random((2, channels), np.float32)
    graph = _core.Graph()
    node = graph.input("x", shape)
    kept = [graph.parameter(n, _core.Parameter(v)) for n, v in (("w", w), ("b", b))]
    attrs = {"groups": 2, "epsilon": 1e-5}
    if op == "batch_norm":
        kept += [graph.parameter(n, _core.Parameter(np.ones(channels, np.float32)))
                 for n in ("mean", "variance")]  # fmt: skip
        attrs = {"epsilon": 1e-5, "momentum": 0.1}
    y = graph.add(op, [node, *kept], attrs, "norm")[0]
    z = graph.add("neuron", [y], {"kind": neuron}, "neuron")[0]
    c = graph.input("c", shape, batched=False)
    program = _core.Program.compile(graph, device="cpu", training=True, seeds=[(z, c)],
                                    results=[("z", z, False), ("g", node, True)])  # fmt: skip
    step = program.encode((x, np.ones(shape, np.float32)), ())
    step.wait()
    images = torch.from_numpy(x.astype(np.float64)).movedim(-1, 1)
    scale = [torch.from_numpy(v.astype(np.float64)) for v in (w, b)]
    if op == "batch_norm":
        made = F.batch_norm(images, None, None, *scale, True)
    else:
        made = F.group_norm(images, 2, *scale)
    behind = {"none": lambda t: t, "relu": F.relu, "tanh": torch.tanh,
              "leaky_relu": lambda t: F.leaky_relu(t, 0.01)}[neuron]  # fmt: skip
    assert error(as_float64(step.result(0)), behind(made).movedim(1, -1).numpy()) < 1e-5


@pytest.mark.skipif("cpu" not in DEVICES, reason="how the cpu device computes")
@pytest.mark.parametrize("channels", [3, 10, 20, 33, 100, 130, 530])
def test_layer_norm_of_constant_rows_is_0(channels: int) -> None:
    x = (
        np.full((40, channels), 1.2345, np.float32)
        * np.logspace(0, 6, 40, dtype=np.float32)[:, None]
    )
    graph = _core.Graph()
    y = graph.add("layer_norm", [graph.input("x", x.shape)], {"axes": 1, "epsilon": 1e-12}, "n")[0]
    program = _core.Program.compile(graph, device="cpu", training=False, results=[("y", y, False)])
    step = program.encode((x,), ())
    step.wait()
    assert not as_float64(step.result(0)).any()
