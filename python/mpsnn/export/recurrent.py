"""Weights of recurrent layers from PyTorch, Keras and ONNX, and to PyTorch.

What differs is the order of the gates, whether matrices are transposed, and that the others keep
two biases where one is enough: they are summed, but for the last part of a GRU's that resets after
the product, which stays on its own as bias_hn.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from mpsnn import _core
from mpsnn.nn.recurrent import Recurrent

L = TypeVar("L", bound=Recurrent)

# Where our gates stand in theirs: LSTM i, f, g, o; GRU r, z, n.
KERAS = {"LSTM": (0, 1, 2, 3), "GRU": (1, 0, 2), "RNN": (0,)}
ONNX = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
ONNX_PEEPHOLES = (0, 2, 1)


def reorder(array: Any, order: tuple[int, ...]) -> np.ndarray:
    """Blocks of rows in another order."""
    blocks = np.split(np.asarray(array, np.float32), len(order))
    return np.concatenate([blocks[i] for i in order])


def biases(layer: Any, first: np.ndarray, second: np.ndarray) -> dict[str, np.ndarray]:
    """Our biases from the two that others keep, in our order of gates."""
    if not getattr(layer, "reset_after", False):
        return {"bias": first + second}
    rest = 2 * layer.hidden_size
    return {
        "bias": np.concatenate([first[:rest] + second[:rest], first[rest:]]),
        "bias_hn": second[rest:],
    }


def fill(layer: L, arrays: list[dict[str, np.ndarray]]) -> L:
    """The layer with its arrays set, one dict a layer and direction."""
    state = {
        f"{name}_{suffix}": value
        for suffix, found in zip(layer._all_suffixes(), arrays, strict=True)
        for name, value in found.items()
    }
    layer.load_state_dict(state)
    return layer


def state_from_torch(layer: Any, state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Our state of a layer from that of PyTorch's."""
    needs_torch(layer)
    found: dict[str, np.ndarray] = {}
    for suffix in layer._all_suffixes():
        for name in ("weight_ih", "weight_hh"):
            if f"{name}_{suffix}" in state:
                found[f"{name}_{suffix}"] = state[f"{name}_{suffix}"]
        given = [state.get(f"bias_{kind}_{suffix}") for kind in ("ih", "hh")]
        if given[0] is not None and given[1] is not None:
            for name, value in biases(layer, given[0], given[1]).items():
                found[f"{name}_{suffix}"] = value
    return found


def state_to_torch(layer: Any, state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inverse; PyTorch's second bias is zero but for a GRU's last part."""
    needs_torch(layer)
    found: dict[str, np.ndarray] = {}
    for suffix in layer._all_suffixes():
        for name in ("weight_ih", "weight_hh"):
            found[f"{name}_{suffix}"] = state[f"{name}_{suffix}"]
        if layer.has_bias:
            first = state[f"bias_{suffix}"]
            second = np.zeros_like(first)
            if f"bias_hn_{suffix}" in state:
                second[2 * layer.hidden_size :] = state[f"bias_hn_{suffix}"]
            found[f"bias_ih_{suffix}"], found[f"bias_hh_{suffix}"] = first, second
    return found


def needs_torch(layer: Any) -> None:
    """Refuses what PyTorch has no layer for."""
    kind = type(layer).__name__
    own = getattr(layer, "peepholes", False) or not getattr(layer, "reset_after", True)
    linear = getattr(layer, "nonlinearity", "tanh") not in ("tanh", "relu")
    joined = layer.bidirectional and layer.merge != "concat" and layer.num_layers > 1
    if kind not in KERAS or own or linear or joined:
        raise _core.UnsupportedError(f"[{kind}] PyTorch has no such layer")


def from_torch(cls: type[L], layer: Any) -> L:
    """See `LSTM.from_torch`."""
    if type(layer).__name__ != cls.__name__ or not hasattr(layer, "state_dict"):
        raise TypeError(f"[{cls.__name__}] from_torch takes a torch.nn.{cls.__name__}, got "
                        f"{type(layer).__name__}")  # fmt: skip
    if getattr(layer, "proj_size", 0):
        raise _core.UnsupportedError(f"[{cls.__name__}] projections (proj_size) are not supported")
    options = {"nonlinearity": layer.nonlinearity} if cls.__name__ == "RNN" else {}
    made = cls(
        layer.input_size, layer.hidden_size, layer.num_layers, bias=layer.bias,
        dropout=layer.dropout, bidirectional=layer.bidirectional, **options,
    )  # fmt: skip
    state = {k: v.detach().cpu().numpy() for k, v in layer.state_dict().items()}
    made.load_state_dict(state_from_torch(made, state))
    return made


def from_keras(cls: type[L], weights: Any, **options: Any) -> L:
    """See `LSTM.from_keras`."""
    name = cls.__name__
    order = KERAS[name]
    arrays = [np.asarray(w, np.float32) for w in weights]
    each = 3 if len(arrays) in (3, 6) else 2
    if len(arrays) not in (each, 2 * each):
        raise ValueError(
            f"[{name}] from_keras takes the kernel, the recurrent kernel and perhaps the bias of "
            f"one or two directions, got {len(arrays)} arrays"
        )
    if arrays[0].ndim != 2 or arrays[0].shape[1] % len(order):
        raise _core.ShapeError(f"[{name}] the kernel must be (in, {len(order)} H), got "
                               f"{arrays[0].shape}")  # fmt: skip
    if name == "GRU":
        options.setdefault("reset_after", each == 2 or arrays[2].ndim == 2)
    layer = cls(
        arrays[0].shape[0], arrays[0].shape[1] // len(order), bias=each == 3,
        bidirectional=len(arrays) == 2 * each, **options,
    )  # fmt: skip
    found = []
    for start in range(0, len(arrays), each):
        kernel, recurrent_kernel, *rest = arrays[start : start + each]
        made = {"weight_ih": reorder(kernel.T, order),
                "weight_hh": reorder(recurrent_kernel.T, order)}  # fmt: skip
        if rest:
            two = rest[0] if rest[0].ndim == 2 else np.stack([rest[0], np.zeros_like(rest[0])])
            made.update(biases(layer, *(reorder(b, order) for b in two)))
        found.append(made)
    return fill(layer, found)


def from_onnx(cls: type[L], w: Any, r: Any, b: Any = None, p: Any = None, **options: Any) -> L:
    """See `LSTM.from_onnx`."""
    name = cls.__name__
    order = ONNX[name]
    w, r = np.asarray(w, np.float32), np.asarray(r, np.float32)
    if w.ndim != 3 or r.ndim != 3 or len(w) not in (1, 2) or w.shape[1] % len(order):
        raise _core.ShapeError(f"[{name}] W must be (directions, {len(order)} H, in), got "
                               f"{w.shape}")  # fmt: skip
    if p is not None:
        options["peepholes"] = True
    layer = cls(w.shape[2], r.shape[2], bias=b is not None, bidirectional=len(w) == 2, **options)
    found = []
    for d in range(len(w)):
        made = {"weight_ih": reorder(w[d], order), "weight_hh": reorder(r[d], order)}
        if b is not None:
            made.update(biases(layer, *(reorder(part, order) for part in np.split(b[d], 2))))
        if p is not None:
            made["peephole"] = reorder(p[d], ONNX_PEEPHOLES).reshape(3, -1)
        found.append(made)
    return fill(layer, found)
