"""Max-pooling fused into the batch-norm before it, and gradients summed by an average pooling's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from devices import with_dtypes
from mpsnn import _core

POOLS: dict[str, Any] = {
    "overlapping": {"kernel": (3, 3), "stride": (2, 2)},
    "tiles": {"kernel": (2, 2), "stride": (2, 2)},
    "padded": {"kernel": (3, 2), "stride": (1, 2), "pads": (1, 0, 1, 1)},
}
NEURONS: dict[str, Any] = {
    "none": None,
    "relu": {"kind": "relu"},
    "leaky": {"kind": "leaky_relu", "a": 0.2},
    "tanh": {"kind": "tanh"},
}


def trained(device: str, dtype: str, pool: Any, neuron: Any, **options: Any) -> tuple[Any, ...]:
    """Two steps: outputs, gradients, parameters and running statistics; and what was fused."""
    rng = np.random.default_rng(0)
    n, channels = 3, 20
    # No two equal values in a plane, nor after the rounding of any dtype; none is the mean, where a
    # rectifier's gradient would hang on the rounding.
    levels = np.array([[rng.permutation(99) for _ in range(channels)] for _ in range(n)])
    levels += levels > 48
    x = np.moveaxis(levels.reshape(n, channels, 9, 11), 1, 3) / 32.0
    weight = np.linspace(-1, 1, channels)
    weight[7] = 0  # all of a window's values are equal: the first one wins
    graph = _core.Graph(dtype)

    def parameter(name: str, value: np.ndarray) -> tuple[int, Any]:
        made = _core.Parameter(value.astype(np.float32))
        return graph.parameter(name, made), made

    source = graph.input("x", x.shape, dtype)
    operands = [
        parameter("weight", weight),
        parameter("bias", rng.standard_normal(channels) * (dtype == "float32")),
        parameter("mean", np.zeros(channels)),
        parameter("var", np.ones(channels)),
    ]
    y = graph.add("batch_norm", [source, *(i for i, _ in operands)], {}, "BatchNorm2d bn")[0]
    if neuron is not None:
        y = graph.add("neuron", [y], dict(neuron), "Neuron act")[0]
    y = graph.add("max_pool2d", [y], dict(pool), "MaxPool2d pool")[0]
    if options.get("recompute"):  # a gradient that reads the pooled values
        y = graph.add("multiply", [y, y], {}, "square")[0]
    out = graph.shape(y)
    cotangent = graph.input("g", out, dtype, batched=False)
    program = _core.Program.compile(
        graph, device=device, training=True, seeds=[(y, cotangent)],
        results=[("y", y, False), ("gx", source, True), ("gw", operands[0][0], True),
                 ("gb", operands[1][0], True)],
        **options,
    )  # fmt: skip
    values = []
    for k in range(2):
        g = np.random.default_rng(k).standard_normal(out).astype(np.float32)
        done = program.encode(((x * (1 + k)).astype(np.float32), g), ())
        done.wait()
        values += [np.array(done.result(i).numpy(), np.float64) for i in range(4)]
    return values, "\n".join(program.notes())


@pytest.mark.parametrize(("device", "dtype"), with_dtypes("float32", "float16", "bfloat16"))
@pytest.mark.parametrize("neuron", NEURONS.values(), ids=NEURONS.keys())
@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS.keys())
def test_a_pooled_norm_equals_its_parts(pool: Any, neuron: Any, dtype: str, device: str) -> None:
    fused, notes = trained(device, dtype, pool, neuron)
    plain, _ = trained(device, dtype, pool, neuron, optimize=False)
    keeps_order = neuron is None or neuron["kind"] != "tanh"
    assert ("[MaxPool2d pool] into [BatchNorm2d bn]" in notes) == (device == "cpu" and keeps_order)
    limit = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 2e-2}[dtype]
    for a, b in zip(fused, plain, strict=True):
        assert np.abs(a - b).max() <= limit * max(1.0, np.abs(b).max())


@pytest.mark.parametrize("neuron", [NEURONS["relu"], NEURONS["leaky"]], ids=["relu", "leaky"])
def test_a_pooled_norm_is_computed_again(neuron: Any, device: str) -> None:
    again, notes = trained(device, "float32", POOLS["padded"], neuron, recompute=True)
    plain, _ = trained(device, "float32", POOLS["padded"], neuron, recompute=True, optimize=False)
    remade = "computed again for gradients: [BatchNorm2d bn]" in notes
    assert remade or device != "cpu"
    for a, b in zip(again, plain, strict=True):
        assert np.abs(a - b).max() <= 1e-5 * max(1.0, np.abs(b).max())


def branched(device: str, dtype: str, **options: Any) -> tuple[Any, list[str]]:
    """The gradient by what two average poolings and two neurons read, one of them twice."""
    graph = _core.Graph(dtype)
    x = graph.input("x", (2, 7, 6, 20), dtype)
    first = graph.add("neuron", [x], {"kind": "sigmoid"}, "first")[0]
    pool = {"kernel": (3, 3), "stride": (1, 1), "pads": (1, 1, 1, 1), "count_include_pad": False}
    parts = [
        graph.add("avg_pool2d", [first], pool, "pool")[0],
        graph.add("neuron", [first], {"kind": "tanh"}, "tanh")[0],
        graph.add("avg_pool2d", [first], pool, "again")[0],
        graph.add("neuron", [first], {"kind": "softplus"}, "softplus")[0],
    ]
    y = parts[0]
    for part in parts[1:]:
        y = graph.add("multiply", [y, part], {}, "product")[0]
    cotangent = graph.input("g", graph.shape(y), dtype, batched=False)
    program = _core.Program.compile(
        graph, device=device, training=True, seeds=[(y, cotangent)], results=[("gx", x, True)],
        **options,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(np.float32)
              for shape in (graph.shape(x), graph.shape(y))]  # fmt: skip
    done = program.encode(tuple(arrays), ())
    done.wait()
    return np.array(done.result(0).numpy(), np.float64), [r["op"] for r in program.summary()]


@pytest.mark.parametrize(("device", "dtype"), with_dtypes("float32", "bfloat16"))
def test_an_average_poolings_gradient_adds_the_others(dtype: str, device: str) -> None:
    summed, ops = branched(device, dtype)
    plain, _ = branched(device, dtype, optimize=False)
    assert ("add_n" in ops or "add" in ops) == (device != "cpu")
    limit = 1e-6 if dtype == "float32" else 2e-2
    assert np.abs(summed - plain).max() <= limit * np.abs(plain).max()


def test_what_a_pooling_still_reads_is_not_overwritten(device: str) -> None:
    """x + avg_pool2d(x): the gradient is added to the pooling's, whose windows read all of it."""

    def gradient(optimize: bool) -> np.ndarray:
        graph = _core.Graph("float32")
        x = graph.input("x", (2, 7, 6, 20), "float32")
        first = graph.add("neuron", [x], {"kind": "sigmoid"}, "first")[0]
        pool = {"kernel": (3, 3), "stride": (1, 1), "pads": (1, 1, 1, 1)}
        pooled = graph.add("avg_pool2d", [first], pool, "pool")[0]
        y = graph.add("add", [first, pooled], {}, "sum")[0]
        y = graph.add("neuron", [y], {"kind": "tanh"}, "last")[0]
        cotangent = graph.input("g", graph.shape(y), "float32", batched=False)
        program = _core.Program.compile(
            graph, device=device, training=True, seeds=[(y, cotangent)],
            results=[("gx", x, True)], optimize=optimize,
        )  # fmt: skip
        rng = np.random.default_rng(0)
        arrays = [rng.standard_normal((2, 7, 6, 20)).astype(np.float32) for _ in range(2)]
        done = program.encode(tuple(arrays), ())
        done.wait()
        return np.array(done.result(0).numpy(), np.float64)

    np.testing.assert_allclose(gradient(True), gradient(False), rtol=1e-5, atol=1e-6)
