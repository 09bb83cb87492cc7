"""precision_report, what summary() says of dtypes, and loss scales without the host."""

from __future__ import annotations

from typing import Any

import mpsnn
import numpy as np
import pytest
from mpsnn import nn, optim

RNG = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def rounded(x: Any, dtype: Any = np.float16) -> np.ndarray:
    return np.asarray(x, dtype).astype(np.float64)


def test_a_layer_s_numbers_are_those_of_its_roundings() -> None:
    """One dense layer by hand: half images round input, weights and output once."""
    mpsnn.manual_seed(1)
    model = nn.Sequential(nn.Linear(600, 7))
    x = floats(50, 600)
    w, b = (np.asarray(p.numpy(), np.float64) for p in model.parameters())
    exact = rounded(np.asarray(x, np.float64) @ w.T + b, np.float32)
    half = rounded(rounded(x) @ rounded(w).T + b)
    report = mpsnn.precision_report(model, x, batch_size=16)  # pieces, the last one smaller
    assert report.count == 50
    (layer,), (output,) = report.layers, report.outputs
    assert (layer["name"], layer["shape"], output["shape"]) == ("0", (7,), (7,))
    error = np.abs(half - exact).max()
    for row in (layer, output):
        assert row["images"]["max"] == error
        assert row["images"]["relative"] == error / np.abs(exact).max()
    assert output["images"]["top1"] == (half.argmax(1) == exact.argmax(1)).mean()
    assert "top1" not in layer["images"]
    # A half accumulator rounds each of the 600 sums too.
    assert layer["accumulators"]["max"] > 2 * error
    text = str(report)
    assert "50 items in float16 against float32" in text
    assert "half accumulators: max" in text
    assert f"{error:.3g}" in text


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(4, 3), nn.Conv2d(2, 5, 3)
        self.norm = nn.BatchNorm2d(5)

    def forward(self, rows: Any, image: Any) -> Any:
        return self.left(rows), {"image": self.norm(self.right(image))}


def test_a_report_of_several_inputs_and_outputs() -> None:
    mpsnn.manual_seed(2)
    model = Two()
    rows, image = floats(6, 4), floats(6, 5, 5, 2)
    report = mpsnn.precision_report(model, {"image": image, "rows": rows}, dtype="bfloat16")
    assert [row["name"] for row in report.layers] == ["left", "right", "norm"]
    assert [row["name"] for row in report.outputs] == ["output 0", "output 1"]
    assert all("accumulators" not in row for row in report.layers)
    assert "accumulators" not in str(report)
    wide = [row["images"]["relative"] for row in report.outputs]
    same = mpsnn.precision_report(model, (rows, image))
    narrow = [row["images"]["relative"] for row in same.outputs]
    for a, b in zip(wide, narrow, strict=True):
        assert 3 * b < a < 0.05  # bfloat16 has three digits fewer


def test_an_overflow_is_an_endless_error() -> None:
    model = nn.Sequential(nn.Linear(2, 2, weights=np.full((2, 2), 300, np.float32)), nn.Tanh())
    report = mpsnn.precision_report(model, np.full((3, 2), 200, np.float32))
    linear, tanh = report.layers
    assert linear["images"]["max"] == np.inf
    assert tanh["images"]["max"] == 0


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda m, x: mpsnn.precision_report(lambda v: v, x), TypeError, "must be a Module"),
        (lambda m, x: mpsnn.precision_report(m, x, dtype="float32"), ValueError, "dtype must be"),
        (lambda m, x: mpsnn.precision_report(m, x, batch_size=0), ValueError, "batch_size"),
        (lambda m, x: mpsnn.precision_report(m, x, batch_size=1.5), TypeError, "batch_size"),
        (lambda m, x: mpsnn.precision_report(m, x[:0]), ValueError, "there are no data"),
        (lambda m, x: mpsnn.precision_report(m, np.float32(1)), mpsnn.ShapeError, "batch axis"),
        (lambda m, x: mpsnn.precision_report(m, x[:, :3]), mpsnn.ShapeError, "Linear 0"),
        (lambda m, x: mpsnn.precision_report(m, x.astype(int)), mpsnn.DTypeError, "integer"),
        (lambda m, x: mpsnn.precision_report(m, (x, x)), ValueError, "inputs"),
        (lambda m, x: mpsnn.precision_report(m, {"y": x}), ValueError, "forward takes"),
    ],
)
def test_a_report_refuses(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call(nn.Sequential(nn.Linear(4, 2)), floats(5, 4))


def test_a_summary_says_what_each_dtype_costs(device: str) -> None:
    row = next(d for d in mpsnn.devices() if d.id == device)
    for dtype in row.dtypes:
        graph = mpsnn.InferenceGraph(nn.Tanh(), (3,), 4, device, dtype)
        lines = str(graph.summary()).splitlines()
        for other, remark in zip(row.dtypes, row.dtype_notes, strict=True):
            chosen = " (this graph)" if other == dtype else ""
            assert f"{other}{chosen}: {remark}" in lines
            assert len(remark) > 20
        if device == "cpu" and dtype in ("float16", "bfloat16"):
            assert graph.summary().conversions == 1
            assert "1 of 1 kernels convert halves" in lines
        elif device in ("cpu", "reference"):
            assert graph.summary().conversions == 0
    if device == "mps":
        assert "bfloat16" not in row.dtypes


def classifier() -> nn.Module:
    mpsnn.manual_seed(7)
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4))


def training(model: nn.Module, device: str, dtype: str, loss_scale: Any) -> mpsnn.TrainingGraph:
    return mpsnn.TrainingGraph(
        model, nn.SoftmaxCrossEntropy(), optim.Adam(1e-2), (12,), 8, device, dtype, seed=0,
        loss_scale=loss_scale,
    )  # fmt: skip


def test_an_overflow_is_skipped_within_the_compiled_step(device: str) -> None:
    """Nobody waits between the steps: the one queued behind an overflow has the halved scale.

    Afterwards everything is bit for bit as if the overflowing step had not been, at half the scale.
    """
    batches = [(floats(8, 12), RNG.integers(0, 4, 8)) for _ in range(5)]
    poisoned = batches[0][0].copy()
    poisoned[3, 3] = np.inf
    steps, states = [], []
    models = [classifier(), classifier()]
    for model, overflows, scale in zip(models, (True, False), (65536.0, 32768.0), strict=True):
        graph = training(model, device, "float16", "dynamic")
        state = {n: np.array(v) for n, v in graph._program.state()}
        assert state["loss_scale"][0] == 65536
        state["loss_scale"][:] = scale
        graph._program.load_state(list(state.items()))
        queued = [graph.encode(poisoned, batches[0][1])] if overflows else []
        queued += [graph.encode(x, y) for x, y in batches]  # at most two are in flight
        graph.wait()
        steps.append([step.updated for step in queued])
        states.append({n: np.array(v) for n, v in graph._program.state()})
    assert steps == [[False, *[True] * 5], [True] * 5]
    for name, value in states[1].items():
        if name not in ("step", "encoded"):
            np.testing.assert_array_equal(states[0][name], value, name)
    for a, b in zip(*(m.state_dict().values() for m in models), strict=True):
        np.testing.assert_array_equal(a, b)
    assert states[0]["loss_scale"][0] == 32768
    assert states[0]["counters"][0] == 5  # updates: the overflow is none of them


def test_a_static_scale_changes_no_bit_in_float32(device: str) -> None:
    """A power of two is exact, so that it must cancel; in half it saves small gradients."""
    x, y = floats(8, 12), RNG.integers(0, 4, 8)
    found = []
    for scale in (None, 1024.0):
        model = classifier()
        graph = training(model, device, "float32", scale)
        losses = [graph.encode(x, y).loss for _ in range(3)]
        found.append((losses, model.state_dict()))
    assert found[0][0] == found[1][0]
    for name, value in found[0][1].items():
        np.testing.assert_array_equal(found[1][1][name], value, name)


def test_a_scale_saves_gradients_that_half_cannot_hold(device: str) -> None:
    """With a loss of 1e-7 the gradients vanish in half, unless they are scaled."""
    x, y = floats(8, 12), RNG.integers(0, 4, 8)
    moved = []
    for scale in (1.0, 65536.0):
        model = nn.Sequential(nn.Linear(12, 16), nn.Linear(16, 4))
        before = model.state_dict()["0.weight"].copy()
        graph = mpsnn.TrainingGraph(
            model, nn.SoftmaxCrossEntropy(), optim.SGD(1e6), (12,), 8, device, "float16",
            loss_scale=scale, loss_weights=1e-7,
        )  # fmt: skip
        graph.encode(x, y).wait()
        moved.append(np.abs(model.state_dict()["0.weight"] - before).max())
    assert moved[0] < 0.5 * moved[1]
