"""Runs one case of the table through the core, on any device and dtype."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import torch
from cases import Case
from mpsnn import _core

LOSSES = {
    "softmax_cross_entropy",
    "element_loss",
    "cosine_distance",
    "yolo_loss",
    "given_loss",
    "total_loss",
}
HALF_WEIGHTS = {
    "conv2d": (1,),
    "conv_transpose2d": (1,),
    "linear": (1,),
    "rnn": (1, 2),
    "embedding": (1,),
}
TOLERANCE = {"float64": 1e-9, "float32": 1e-5, "float16": 1e-2, "bfloat16": 5e-2}


def round_to(x: np.ndarray, dtype: str) -> np.ndarray:
    """float64 values that `dtype` holds exactly."""
    if dtype == "float64":
        return x
    name = "float32" if dtype == "float32" else dtype
    return torch.from_numpy(x).to(getattr(torch, name)).to(torch.float64).numpy()


def scalar(case: Case) -> bool:
    """Whether the output is a loss, which is differentiated without a cotangent."""
    return case.op in LOSSES and case.attrs.get("reduction") != "none"


def yolo_target(rng: np.random.Generator, case: Case, shape: tuple[int, ...]) -> np.ndarray:
    """A third of the cells holds a box, whose labels all anchors have."""
    n, h, w, channels = shape
    count = len(case.attrs["anchors"]) // 2
    t = np.zeros((n, h, w, count, channels // count))
    for cell in np.ndindex(n, h, w):
        if rng.random() < 1 / 3:
            t[cell][:, :2] = rng.random(2)
            t[cell][:, 2:4] = 0.7 + 3 * rng.random(2)
            t[cell][:, 4] = 1
            if channels // count > 5:
                t[cell][:, 5 + rng.integers(channels // count - 5)] = 1
    return t.reshape(shape)


def make_operands(case: Case, dtype: str) -> list[Any]:
    """Seeded operands in float64, already rounded to what the graph stores."""
    rng = np.random.default_rng(zlib.crc32(case.name.encode()))
    master = "float64" if dtype == "float64" else "float32"
    operands: list[Any] = []
    for i, operand in enumerate(case.operands):
        if operand is None:
            operands.append(None)
            continue
        kind, shape = operand
        if kind == "i":
            operands.append(rng.integers(0, max(case.classes, 1), shape))
            continue
        x = np.asarray(rng.standard_normal(shape) * (case.scale if kind == "p" else 1))
        if case.distinct:  # of both signs, so that a rectifier behind a maximum shows; none is 0
            x = rng.permutation(x.size).reshape(shape) - x.size * 2 // 3
            x = (x + (x >= 0)) / 16.0
        if case.negative and i == 0:
            x = x - x.max() - 0.5
        if i in case.positive or kind == "w":
            x = np.asarray(np.abs(x) + 0.5)
        if kind == "z" or (kind == "t" and case.op == "softmax_cross_entropy"):
            x = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
        if kind == "u":
            x = 0.05 + 0.9 * rng.random(shape)
        if kind == "b":
            x = rng.integers(0, 2, shape).astype(np.float64)
        if kind == "yolo":
            x = yolo_target(rng, case, shape)
        # Weights of products are rounded to half when used; biases are not.
        half_weight = kind == "p" and i in HALF_WEIGHTS.get(case.op, ())
        stored = dtype if kind in ("x", "u") or half_weight else master
        operands.append(round_to(x, "float32" if stored == "float64" and i < 0 else stored))
    return operands


def differentiable(case: Case) -> list[int]:
    """Operands with a gradient."""
    if case.op in LOSSES:
        return [0]
    count = 3 if case.op == "batch_norm" else len(case.operands)
    return [
        i
        for i, operand in enumerate(case.operands[:count])
        if operand is not None and operand[0] != "i"
    ]


def as_tensors(operands: list[Any]) -> list[Any]:
    return [None if o is None else torch.from_numpy(np.ascontiguousarray(o)) for o in operands]


def oracle(
    case: Case, operands: list[Any], cotangent: np.ndarray | None
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Output and gradients by PyTorch in float64."""
    wanted = differentiable(case)
    tensors = as_tensors(operands)
    for i in wanted:
        tensors[i].requires_grad_(True)
    y = case.torch(*tensors)
    if case.outputs:
        y = torch.cat([part.reshape(-1) for part in y])
    seed = torch.ones_like(y) if cotangent is None else torch.from_numpy(cotangent)
    y.backward(seed)
    return y.detach().numpy(), [tensors[i].grad.numpy() for i in wanted]


def run(
    case: Case,
    operands: list[Any],
    device: str,
    dtype: str,
    cotangent: np.ndarray | None = None,
    gradient: bool = False,
    between: bool = False,
    **options: Any,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Output and, if asked, gradients by mpsnn, as float64.

    `between` puts the op between multiplications by 1: its data and results are temporaries, of
    which memory may be shared, as in a network.
    """
    graph = _core.Graph(dtype)
    master = "float64" if dtype == "float64" else "float32"
    one = graph.parameter("one", _core.Parameter(np.ones((), master))) if between else -1

    def through(value: int) -> int:
        return graph.add("multiply", [value, one], {}, "by one")[0] if between else value

    ids, fed = [], []
    for i, (operand, value) in enumerate(zip(case.operands, operands, strict=True)):
        if operand is None:
            ids.append(-1)
            continue
        kind = operand[0]
        if kind == "p":
            parameter = _core.Parameter(value.astype(master))
            ids.append(graph.parameter(f"p{i}", parameter))
            continue
        if kind == "i":
            extra: dict[str, Any] = {"classes": case.classes}
            if "ignore_index" in case.attrs:
                extra["ignore_index"] = case.attrs["ignore_index"]
            ids.append(graph.input(f"x{i}", value.shape, "int32", **extra))
            fed.append(value)
            continue
        ids.append(graph.input(f"x{i}", value.shape, dtype if kind in ("x", "u") else master))
        fed.append(value.astype(master))
        if kind in ("x", "u"):
            ids[-1] = through(ids[-1])
    outputs = graph.add(case.op, ids, dict(case.attrs), f"{case.op} {case.name}")
    kept = [outputs[i] for i in case.outputs or (0,)]
    if not scalar(case):
        kept = [through(y) for y in kept]
    results = [(f"y{i}", y, False) for i, y in enumerate(kept)]
    seeds = []
    if gradient:
        if scalar(case):
            seeds.append((outputs[0], -1))
        else:
            assert cotangent is not None
            flat = cotangent.reshape(-1).astype(master)
            for i, y in enumerate(kept):
                shape = graph.shape(y)
                seeds.append((y, graph.input(f"cotangent{i}", shape, dtype, batched=False)))
                own, flat = np.split(flat, [int(np.prod(shape))])
                fed.append(own.reshape(shape))
        results += [(f"g{i}", ids[i], True) for i in differentiable(case)]
    program = _core.Program.compile(
        graph, device=device, training=gradient and case.training, seeds=seeds, results=results,
        **options,
    )  # fmt: skip
    step = program.encode(tuple(fed), ())
    step.wait()
    values = [as_float64(step.result(i)) for i in range(len(results))]
    y = np.concatenate([v.reshape(-1) for v in values[: len(kept)]]) if case.outputs else values[0]
    return y, values[len(kept) :]


def as_float64(tensor: Any) -> np.ndarray:
    return np.array(tensor.numpy(), dtype=np.float64)


def error(got: np.ndarray, expected: np.ndarray) -> float:
    """design 4: max|a-b| / max|b|; absolute where everything expected is zero."""
    assert got.size == expected.size, (got.shape, expected.shape)
    difference = np.abs(got.reshape(-1) - expected.reshape(-1)).max(initial=0.0)
    scale = np.abs(expected).max(initial=0.0)
    return float(difference / scale) if scale > 0 else float(difference)
