"""Recurrent layers over whole sequences, one op a direction: LSTM, GRU, minimally gated, plain.

x is `(N, T, C)`, weight_ih `(G H, C)`, weight_hh `(G H, H)`, bias `(G H)`, states `(N, H)`, lengths
`(N,)`: steps past a sequence's length give zero and leave the state. `reverse` goes from the end to
the start. Gate orders: LSTM i, f, g, o; GRU r, z, n; minimally gated f, n.
"""

from __future__ import annotations

from typing import Any

from mpsnn import _check
from mpsnn._core import ShapeError
from mpsnn.ops.run import apply, gradient

NEURONS = {"tanh": "tanh", "relu": "relu", "sigmoid": "sigmoid", "linear": "none"}
_LENGTHS = 8  # its place among the operands


def recurrent(
    cell: str, x: Any, weight_ih: Any, weight_hh: Any, bias: Any = None, bias_hn: Any = None,
    peephole: Any = None, h0: Any = None, c0: Any = None, lengths: Any = None, *,
    reverse: bool = False, neuron: str = "tanh", device: str | None = None,
) -> list[Any]:  # fmt: skip
    """[y, h] or, of an LSTM, [y, h, c] of the op `rnn`; what is absent is None."""
    operands = [x, weight_ih, weight_hh, bias, bias_hn, peephole, h0, c0, lengths]
    attrs = _attrs(cell, x, reverse, neuron)
    return apply("rnn", operands, attrs, device, indices={_LENGTHS: x.shape[-2] + 1})


def _attrs(cell: str, x: Any, reverse: Any, neuron: Any) -> dict[str, Any]:
    if len(getattr(x, "shape", ())) not in (3, 4):
        raise ShapeError(f"[{cell}] x must be an array of sequences (N, T, C), got {x!r}")
    return {
        "cell": cell,
        "reverse": _check.flag(cell, "reverse", reverse),
        "neuron": _check.text(cell, "neuron", neuron),
    }


def _gradient(cell: str, gy: Any, operands: list[Any], reverse: bool, neuron: str,
              device: str | None) -> tuple[Any, ...]:  # fmt: skip
    attrs = _attrs(cell, operands[0], reverse, neuron)
    indices = {_LENGTHS: operands[0].shape[-2] + 1}
    return gradient("rnn", gy, operands, attrs, device, wanted=_LENGTHS, indices=indices)


def lstm(
    x: Any, weight_ih: Any, weight_hh: Any, bias: Any = None, *, peephole: Any = None,
    h0: Any = None, c0: Any = None, lengths: Any = None, reverse: bool = False,
    device: str | None = None,
) -> tuple[Any, tuple[Any, Any]]:  # fmt: skip
    """LSTM: (y `(N, T, H)`, (h, c)); peephole weights `(3, H)` are those of i, f and o."""
    y, h, c = recurrent("lstm", x, weight_ih, weight_hh, bias, None, peephole, h0, c0, lengths,
                        reverse=reverse, device=device)  # fmt: skip
    return y, (h, c)


def lstm_gradient(
    gy: Any, x: Any, weight_ih: Any, weight_hh: Any, bias: Any = None, *, peephole: Any = None,
    h0: Any = None, c0: Any = None, lengths: Any = None, reverse: bool = False,
    device: str | None = None,
) -> tuple[Any, ...]:  # fmt: skip
    """Gradients by x, weights and, of those given, bias, peephole, h0 and c0.

    `gy` is the gradient by y, or a tuple of those by y, h and c, with None where there is none.
    """
    operands = [x, weight_ih, weight_hh, bias, None, peephole, h0, c0, lengths]
    return _gradient("lstm", gy, operands, reverse, "tanh", device)


def _gru_cell(reset_after: bool) -> str:
    return "gru" if _check.flag("gru", "reset_after", reset_after) else "gru_reset_before"


def gru(
    x: Any, weight_ih: Any, weight_hh: Any, bias: Any = None, bias_hn: Any = None, *,
    h0: Any = None, lengths: Any = None, reset_after: bool = True, reverse: bool = False,
    device: str | None = None,
) -> tuple[Any, Any]:  # fmt: skip
    """GRU: (y `(N, T, H)`, h). `reset_after`: r times the product with h (PyTorch), not h."""
    y, h = recurrent(_gru_cell(reset_after), x, weight_ih, weight_hh, bias, bias_hn, None, h0,
                     None, lengths, reverse=reverse, device=device)  # fmt: skip
    return y, h


def gru_gradient(
    gy: Any, x: Any, weight_ih: Any, weight_hh: Any, bias: Any = None, bias_hn: Any = None, *,
    h0: Any = None, lengths: Any = None, reset_after: bool = True, reverse: bool = False,
    device: str | None = None,
) -> tuple[Any, ...]:  # fmt: skip
    """Gradients by x, weights and, of those given, biases and h0; `gy` as in `lstm_gradient`."""
    operands = [x, weight_ih, weight_hh, bias, bias_hn, None, h0, None, lengths]
    return _gradient(_gru_cell(reset_after), gy, operands, reverse, "tanh", device)


def minimal_gated(
    x: Any, weight_ih: Any, weight_hh: Any, bias: Any = None, *, h0: Any = None,
    lengths: Any = None, reverse: bool = False, device: str | None = None,
) -> tuple[Any, Any]:  # fmt: skip
    """Minimally gated unit (Zhou et al. 2016): (y `(N, T, H)`, h)."""
    y, h = recurrent("mgu", x, weight_ih, weight_hh, bias, None, None, h0, None, lengths,
                     reverse=reverse, device=device)  # fmt: skip
    return y, h


def minimal_gated_gradient(
    gy: Any, x: Any, weight_ih: Any, weight_hh: Any, bias: Any = None, *, h0: Any = None,
    lengths: Any = None, reverse: bool = False, device: str | None = None,
) -> tuple[Any, ...]:  # fmt: skip
    """Gradients by x, weights and, of those given, bias and h0; `gy` as in `lstm_gradient`."""
    operands = [x, weight_ih, weight_hh, bias, None, None, h0, None, lengths]
    return _gradient("mgu", gy, operands, reverse, "tanh", device)


def rnn(
    x: Any, weight_ih: Any, weight_hh: Any, bias: Any = None, *, h0: Any = None,
    lengths: Any = None, nonlinearity: str = "tanh", reverse: bool = False,
    device: str | None = None,
) -> tuple[Any, Any]:  # fmt: skip
    """Single gate (Elman): (y `(N, T, H)`, h); "tanh", "relu", "sigmoid" or "linear"."""
    neuron = NEURONS[_check.one_of("rnn", "nonlinearity", nonlinearity, tuple(NEURONS))]
    y, h = recurrent("rnn", x, weight_ih, weight_hh, bias, None, None, h0, None, lengths,
                     reverse=reverse, neuron=neuron, device=device)  # fmt: skip
    return y, h


def rnn_gradient(
    gy: Any, x: Any, weight_ih: Any, weight_hh: Any, bias: Any = None, *, h0: Any = None,
    lengths: Any = None, nonlinearity: str = "tanh", reverse: bool = False,
    device: str | None = None,
) -> tuple[Any, ...]:  # fmt: skip
    """Gradients by x, weights and, of those given, bias and h0; `gy` as in `lstm_gradient`."""
    neuron = NEURONS[_check.one_of("rnn", "nonlinearity", nonlinearity, tuple(NEURONS))]
    operands = [x, weight_ih, weight_hh, bias, None, None, h0, None, lengths]
    return _gradient("rnn", gy, operands, reverse, neuron, device)


def _rows(weight: Any, padding_idx: Any) -> tuple[dict[str, Any], dict[int, int]]:
    _check.rank("embedding", "weight", weight, 2)
    padding = -1
    if padding_idx is not None:
        padding = _check.integer("embedding", "padding_idx", padding_idx, 0, weight.shape[0] - 1)
    return {"padding": padding}, {0: weight.shape[0]}


def embedding(
    indices: Any, weight: Any, *, padding_idx: int | None = None, device: str | None = None
) -> Any:
    """Rows of weight `(V, D)`: indices `(...)` to `(..., D)`; `padding_idx` has no gradient."""
    attrs, classes = _rows(weight, padding_idx)
    return apply("embedding", [indices, weight], attrs, device, indices=classes)[0]


def embedding_gradient(
    gy: Any, indices: Any, weight: Any, *, padding_idx: int | None = None,
    device: str | None = None,
) -> tuple[Any, ...]:  # fmt: skip
    """Gradient by the weight: zero in rows that no index names."""
    attrs, classes = _rows(weight, padding_idx)
    return gradient("embedding", gy, [indices, weight], attrs, device, first=1, indices=classes)


def stack(parts: Any, *, device: str | None = None) -> Any:
    """Arrays of one shape along a new first axis."""
    if not isinstance(parts, (list, tuple)):
        raise TypeError(f"[stack] parts must be a list of arrays, got {parts!r}")
    return apply("stack", list(parts), {}, device)[0]


def unstack(x: Any, *, device: str | None = None) -> list[Any]:
    """The slices along the first axis: the inverse of `stack`."""
    return apply("unstack", [x], {}, device)
