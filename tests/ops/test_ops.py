"""Every row of the case table on every device: forward, gradients, half storage, support."""

from __future__ import annotations

from typing import Any

import cases_rnn  # noqa: F401  its rows join the table
import cases_spatial as _more  # noqa: F401  # rows of the same table
import numpy as np
import pytest
from cases import Case
from devices import DEVICES, DTYPES, with_dtypes
from harness import (  # fmt: skip
    TOLERANCE,
    as_tensors,
    differentiable,
    error,
    make_operands,
    oracle,
    round_to,
    run,
    scalar,
)
from loss_cases import CASES
from mpsnn import _core

by_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
by_device = pytest.mark.parametrize("device", DEVICES)


def cotangent_for(case: Case, operands: list[Any], dtype: str) -> np.ndarray | None:
    if scalar(case):
        return None
    y = case.torch(*as_tensors(operands))
    shape = (sum(part.numel() for part in y),) if case.outputs else y.shape
    return round_to(np.random.default_rng(7).standard_normal(tuple(shape)), dtype)


def tolerance(case: Case, dtype: str) -> float:
    return 1e-4 if case.long_sum and dtype == "float32" else TOLERANCE[dtype]


def check(case: Case, device: str, dtype: str) -> None:
    operands = make_operands(case, dtype)
    cotangent = cotangent_for(case, operands, dtype)
    expected, expected_gradients = oracle(case, operands, cotangent)
    got, gradients = run(case, operands, device, dtype, cotangent, gradient=True)
    limit = tolerance(case, dtype)
    assert error(got, expected) <= limit, "forward"
    for i, g, e in zip(differentiable(case), gradients, expected_gradients, strict=True):
        assert error(g, e) <= limit, f"gradient by operand {i}"


@by_device
@by_case
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_against_torch(case: Case, device: str, dtype: str) -> None:
    if dtype not in DTYPES[device]:
        # A device without the dtype must say so when the graph is compiled, and why.
        operands = make_operands(case, dtype)
        with pytest.raises(_core.UnsupportedError, match=dtype):
            run(case, operands, device, dtype)
        return
    check(case, device, dtype)


@by_device
@by_case
def test_inference_equals_training_forward(case: Case, device: str) -> None:
    operands = make_operands(case, "float32")
    if case.op == "batch_norm" and not case.attrs["frozen"]:
        case = Case(**{**case.__dict__, "attrs": {**case.attrs, "frozen": True}})
    trained, _ = run(
        case, operands, device, "float32", cotangent_for(case, operands, "float32"), gradient=True
    )
    inferred, _ = run(case, operands, device, "float32")
    assert error(inferred, trained) <= 1e-6


@by_case
@pytest.mark.parametrize(
    ("device", "dtype"),
    with_dtypes("float32", "float16", "bfloat16"),
)
def test_between_other_ops_memory_is_shared_and_nothing_changes(
    case: Case, device: str, dtype: str
) -> None:
    operands = make_operands(case, dtype)
    cotangent = cotangent_for(case, operands, dtype)
    everything = [
        run(case, operands, device, dtype, cotangent, gradient, between=True, optimize=optimize)
        for gradient in (True, False)
        for optimize in (True, False)
    ]
    limit = 1e-6 if dtype == "float32" else TOLERANCE[dtype]
    for (y, gradients), (plain_y, plain) in zip(everything[::2], everything[1::2], strict=True):
        assert error(y, plain_y) <= limit, "forward"
        for i, g, e in zip(differentiable(case), gradients, plain, strict=False):
            assert error(g, e) <= limit, f"gradient by operand {i}"


@pytest.mark.parametrize("case", [c for c in CASES if c.differences], ids=lambda c: c.name)
def test_finite_differences(case: Case) -> None:
    """float64 on `reference`: directional derivatives by central differences."""
    operands = make_operands(case, "float64")
    cotangent = cotangent_for(case, operands, "float64")
    _, gradients = run(case, operands, "reference", "float64", cotangent, gradient=True)
    rng = np.random.default_rng(3)
    step = 1e-6
    for i, gradient in zip(differentiable(case), gradients, strict=True):
        direction = rng.standard_normal(operands[i].shape)
        ends = []
        for sign in (1, -1):
            moved = list(operands)
            moved[i] = operands[i] + sign * step * direction
            y, _ = run(case, moved, "reference", "float64", cotangent, gradient=True)
            ends.append(
                float((y * (1.0 if cotangent is None else cotangent.reshape(y.shape))).sum())
            )
        numeric = (ends[0] - ends[1]) / (2 * step)
        analytic = float((gradient.reshape(direction.shape) * direction).sum())
        assert numeric == pytest.approx(analytic, rel=1e-5, abs=1e-6), f"operand {i}"


@by_device
@by_case
def test_support_is_stated(case: Case, device: str) -> None:
    graph = _core.Graph("float32")
    ids = []
    for i, operand in enumerate(case.operands):
        if operand is None:
            ids.append(-1)
            continue
        kind, shape = operand
        if kind == "i":
            ids.append(graph.input(f"x{i}", shape, "int32", batched=False, classes=case.classes))
        else:
            ids.append(graph.input(f"x{i}", shape, "float32", batched=False))
    graph.add(case.op, ids, dict(case.attrs), case.name)
    for gradient in (False, True):
        ok, reason = _core.supports(graph, device, gradient)
        if not ok:
            raise _core.UnsupportedError(reason)


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.op == "max_pool2d" and "neuron" in c.attrs], ids=lambda c: c.name
)
def test_a_rectifier_behind_a_maximum_has_something_to_do(case: Case) -> None:
    y, _ = oracle(case, make_operands(case, "float32"), None)
    assert 0 < np.count_nonzero(y == 0) < y.size


def test_table_covers_every_op() -> None:
    ops = {row["name"] for row in _core.op_table()}
    assert ops - {"dropout"} == {c.op for c in CASES}  # dropout: test_dropout.py


@pytest.mark.parametrize("device", [d for d in DEVICES if d in ("reference", "cpu")])
def test_nan_passes_through_relu_and_max_pooling(device: str) -> None:
    x = np.array([[-1.0, np.nan], [2.0, 3.0]])
    relu = Case("nan", "neuron", (("x", (2, 2)),), lambda x: x, {"kind": "relu"})
    y, _ = run(relu, [x], device, "float32")
    assert np.isnan(y[0, 1])
    assert y[0, 0] == 0
    pool = Case("nan", "max_pool2d", (("x", (1, 2, 2, 1)),), lambda x: x, {"kernel": (2, 2)})
    y, _ = run(pool, [x.reshape(1, 2, 2, 1)], device, "float32")
    assert np.isnan(y).all()


def test_half_accumulation_rounds_on_reference() -> None:
    """1 + 2048 small terms: a half accumulator stops growing at 2048, a float32 one does not."""
    x, w = np.ones((1, 4096)), np.ones((1, 4096))
    case = Case(
        "half", "linear", (("x", (1, 4096)), ("p", (1, 4096))), lambda x, w: x @ w.T
    )  # fmt: skip
    wide, _ = run(case, [x, w], "reference", "float16")
    narrow, _ = run(case, [x, w], "reference", "float16", half_accumulator=True)
    assert wide.item() == 4096
    assert narrow.item() == 2048


def linear_case(rows: int, columns: int) -> Case:
    operands = (("x", (rows, columns)), ("p", (1, columns)), ("p", (1,)))
    return Case("half-bias", "linear", operands, lambda x, w, b: x @ w.T + b)


def test_half_accumulation_rounds_the_bias_too() -> None:
    """2048 + 1 + 1 is 2048 when each sum is rounded, 2050 when only the result is."""
    operands = [np.array([[2048.0, 1.0]]), np.ones((1, 2)), np.ones(1)]
    for half, expected in ((False, 2050), (True, 2048)):
        y, _ = run(linear_case(1, 2), operands, "reference", "float16", half_accumulator=half)
        assert y.item() == expected
    rows = 4096  # the bias's gradient is a sum as well
    operands = [np.zeros((rows, 1)), np.ones((1, 1)), np.zeros(1)]
    for half, expected in ((False, rows), (True, 2048)):
        _, gradients = run(linear_case(rows, 1), operands, "reference", "float16",
                           np.ones((rows, 1)), gradient=True, half_accumulator=half)  # fmt: skip
        assert gradients[2].item() == expected


@pytest.mark.parametrize(("dtype", "digits"), [("float16", 10), ("bfloat16", 7)])
def test_reference_rounds_once(dtype: str, digits: int) -> None:
    """A sum just above a tie: rounded to float32 on the way, it would be the tie, and go down."""
    tie = 1 + 2.0 ** -(digits + 1)
    operands = [np.array([[1.0, 2.0**-14]]), np.array([[1.0, 2.0**-14]]), np.array([tie - 1])]
    y, _ = run(linear_case(1, 2), operands, "reference", dtype)
    assert y.item() == 1 + 2.0**-digits
