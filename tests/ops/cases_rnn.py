"""Rows of the case table for sequences: cells, lengths, initial states, peepholes, masked norms.

PyTorch's own layers are the oracle where it has the cell; loops of its tensors where it has not.
Both see one bias: PyTorch's second one is zero, but for a GRU's, whose last part is bias_hn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from cases import T, bn_oracle, case

GATES = {"lstm": 4, "gru": 3, "gru_reset_before": 3, "mgu": 2, "rnn": 1}
NAMES = ("x", "w", "u", "bias", "bias_hn", "peephole", "h0", "c0", "lengths")


def cell_step(cell: str, neuron: str, a: dict[str, Any], x: T, h: T, c: T) -> tuple[T, T]:
    """One step of ir/rnn.h's formulas, for a batch."""
    size = h.shape[1]
    w, u = a["w"].split(size), a["u"].split(size)
    b = a["bias"].split(size) if a["bias"] is not None else [torch.zeros(size).double()] * len(w)
    p = a["peephole"]

    def pre(g: int, state: T | None = None) -> T:
        return x @ w[g].T + b[g] + (h if state is None else state) @ u[g].T

    if cell == "lstm":
        i, f, o = pre(0), pre(1), pre(3)
        if p is not None:
            i, f = i + p[0] * c, f + p[1] * c
        c = f.sigmoid() * c + i.sigmoid() * pre(2).tanh()
        if p is not None:
            o = o + p[2] * c
        return o.sigmoid() * c.tanh(), c
    if cell == "gru":
        r, z = pre(0).sigmoid(), pre(1).sigmoid()
        hn = h @ u[2].T + (a["bias_hn"] if a["bias_hn"] is not None else 0)
        n = (x @ w[2].T + b[2] + r * hn).tanh()
        return (1 - z) * n + z * h, c
    if cell == "gru_reset_before":
        r, z = pre(0).sigmoid(), pre(1).sigmoid()
        return (1 - z) * pre(2, r * h).tanh() + z * h, c
    if cell == "mgu":
        f = pre(0).sigmoid()
        return (1 - f) * h + f * pre(1, f * h).tanh(), c
    functions: dict[str, Callable[[T], T]] = {
        "tanh": torch.tanh, "relu": torch.relu, "sigmoid": torch.sigmoid, "none": lambda v: v,
    }  # fmt: skip
    return functions[neuron](pre(0)), c


def by_loops(cell: str, neuron: str, reverse: bool, a: dict[str, Any]) -> tuple[T, ...]:
    x, size = a["x"], a["u"].shape[1]
    zero = torch.zeros(len(x), size, dtype=x.dtype)
    h = zero if a["h0"] is None else a["h0"]
    c = zero if a["c0"] is None else a["c0"]
    steps = x.shape[1]
    y: list[T] = [zero] * steps
    for t in reversed(range(steps)) if reverse else range(steps):
        next_h, next_c = cell_step(cell, neuron, a, x[:, t], h, c)
        on = torch.ones(len(x), 1).bool() if a["lengths"] is None else (t < a["lengths"])[:, None]
        y[t] = torch.where(on, next_h, zero)
        h, c = torch.where(on, next_h, h), torch.where(on, next_c, c)
    out = torch.stack(y, 1)
    return (out, h, c) if cell == "lstm" else (out, h)


def by_torch(cell: str, neuron: str, a: dict[str, Any]) -> tuple[T, ...]:
    """The same by torch.nn.LSTM, GRU and RNN, without lengths and peepholes."""
    x, size = a["x"], a["u"].shape[1]
    rows = a["w"].shape[0]
    bias = a["bias"] if a["bias"] is not None else torch.zeros(rows, dtype=x.dtype)
    second = torch.zeros(rows, dtype=x.dtype)
    if a["bias_hn"] is not None:
        second = torch.cat([second[: 2 * size], a["bias_hn"]])
    zero = torch.zeros(len(x), size, dtype=x.dtype)
    h = (zero if a["h0"] is None else a["h0"])[None]
    weights = [a["w"], a["u"], bias, second]
    plain = (True, 1, 0.0, False, False, True)
    if cell == "lstm":
        c = (zero if a["c0"] is None else a["c0"])[None]
        y, hn, cn = torch.lstm(x, (h, c), weights, *plain)
        return y, hn[0], cn[0]
    function = torch.gru if cell == "gru" else getattr(torch, f"rnn_{neuron}")
    y, hn = function(x, h, weights, *plain)
    return y, hn[0]


def rnn(
    name: str, cell: str, n: int, t: int, size: int, hidden: int, *, neuron: str = "tanh",
    reverse: bool = False, without: tuple[str, ...] = (), lengths: bool = False,
    peephole: bool = False, scale: float = 0.3, loops: bool = False, outputs: str = "yhc",
) -> None:  # fmt: skip
    """Append a row. Of `outputs` are used the sequence y, the last h and the last c."""
    rows = GATES[cell] * hidden
    operands: list[Any] = [
        ("x", (n, t, size)),
        ("p", (rows, size)),
        ("p", (rows, hidden)),
        ("p", (rows,)),
        ("p", (hidden,)) if cell == "gru" else None,
        ("p", (3, hidden)) if peephole else None,
        ("x", (n, hidden)),
        ("x", (n, hidden)) if cell == "lstm" else None,
        ("i", (n,)) if lengths else None,
    ]
    for absent in without:
        operands[NAMES.index(absent)] = None
    while operands[-1] is None:
        operands.pop()
    own = cell in ("gru_reset_before", "mgu") or neuron in ("sigmoid", "none")
    loops = loops or own or reverse or lengths or peephole

    used = tuple(i for i, o in enumerate("yhc" if cell == "lstm" else "yh") if o in outputs)

    def oracle(*values: Any) -> tuple[T, ...]:
        a = dict.fromkeys(NAMES)
        a.update(zip(NAMES, values, strict=False))
        every = by_loops(cell, neuron, reverse, a) if loops else by_torch(cell, neuron, a)
        return tuple(every[i] for i in used)

    case(
        f"rnn-{name}", "rnn", operands, oracle, outputs=used, classes=t + 1, scale=scale,
        attrs={"cell": cell, "neuron": neuron, "reverse": reverse},
        long_sum=t >= 20 or n * t > 1000,
    )  # fmt: skip


for cell in GATES:
    rnn(f"{cell}-one-step", cell, 3, 1, 5, 4)
    rnn(f"{cell}", cell, 4, 3, 6, 16)
    rnn(f"{cell}-odd", cell, 5, 7, 3, 21)
    rnn(f"{cell}-wide", cell, 37, 5, 40, 70, scale=0.15)
    rnn(f"{cell}-reverse-lengths", cell, 6, 9, 4, 17, reverse=True, lengths=True)
    rnn(f"{cell}-lengths", cell, 70, 6, 17, 9, lengths=True)
    rnn(f"{cell}-bare", cell, 2, 4, 3, 5, without=("bias", "bias_hn", "h0", "c0"))
    rnn(f"{cell}-bare-lengths-reverse", cell, 3, 4, 3, 5, lengths=True, reverse=True,
        without=("bias", "bias_hn", "h0", "c0"))  # fmt: skip
    rnn(f"{cell}-20", cell, 2, 20, 8, 12)
    rnn(f"{cell}-100", cell, 2, 100, 5, 16, scale=0.2)
    # Without states that are given or, of c, read: the layers of Apple and oneDNN.
    own = ("h0", "c0")
    rnn(f"{cell}-sequence", cell, 4, 6, 5, 18, without=own, outputs="y")
    rnn(f"{cell}-last", cell, 3, 5, 6, 7, without=own, outputs="h")
    rnn(f"{cell}-sequence-and-last", cell, 5, 4, 3, 9, without=own, outputs="yh")
    rnn(f"{cell}-reverse", cell, 3, 7, 4, 6, without=own, outputs="yh", reverse=True)
    rnn(f"{cell}-reverse-bare", cell, 2, 3, 4, 5, without=("bias", "bias_hn", *own), outputs="h",
        reverse=True)  # fmt: skip
for neuron in ("relu", "sigmoid", "none"):
    rnn(f"rnn-{neuron}-sequence", "rnn", 4, 6, 5, 18, neuron=neuron, without=("h0",), outputs="y")
    rnn(f"rnn-{neuron}", "rnn", 4, 6, 5, 18, neuron=neuron)
rnn("lstm-peepholes", "lstm", 3, 6, 5, 19, peephole=True)
rnn("lstm-peepholes-lengths", "lstm", 5, 6, 5, 8, peephole=True, lengths=True, reverse=True)
rnn("lstm-cell", "lstm", 3, 6, 5, 11, without=("h0", "c0"))
rnn("lstm-peepholes-sequence", "lstm", 3, 6, 5, 19, peephole=True, without=("h0", "c0"),
    outputs="yh")  # fmt: skip
rnn("lstm-large-batch", "lstm", 150, 3, 4, 8)
rnn("gru-no-initial-state", "gru", 3, 5, 4, 8, without=("h0",))
rnn("lstm-saturated", "lstm", 4, 6, 30, 8, scale=3.0)

for shape in ((7,), (3, 5)):  # a padding row's gradient is zero by definition: test_recurrent.py
    case(
        f"embedding-{len(shape)}d", "embedding", [("i", shape), ("p", (6, 4))],
        torch.nn.functional.embedding, classes=6,
    )  # fmt: skip

case("stack", "stack", [("x", (3, 4))] * 3, lambda *parts: torch.stack(parts))
case("unstack", "unstack", [("x", (3, 4, 5))], lambda x: x.unbind(0), outputs=(0, 1, 2))


def masked_bn_oracle(training: bool) -> Callable[..., T]:
    """Only rows before the lengths are there; the others give zero."""

    def compute(x: T, w: T, b: T, mean: T, var: T, lengths: T) -> T:
        counts = torch.arange(x.shape[-2]) < lengths.reshape(-1, *[1] * (x.ndim - 2))
        counts = counts.expand(x.shape[:-1])
        y = torch.zeros_like(x)
        y[counts] = bn_oracle(training)(x[counts], w, b, mean, var)
        return y

    return compute


for shape in ((4, 6, 3), (5, 1, 9, 20), (3, 4, 5, 8), (40, 30, 16)):
    for training in (True, False):
        c = shape[-1]
        case(
            f"batch_norm-lengths-{len(shape)}d-{c}-{'training' if training else 'inference'}",
            "batch_norm",
            [("x", shape), *[("p", (c,))] * 4, ("i", shape[:1])],
            masked_bn_oracle(training),
            attrs={"epsilon": 1e-5, "momentum": 0.1, "frozen": not training},
            positive=(4,),
            classes=shape[-2] + 1,
        )
