"""Weights in PyTorch's layouts and back: channels first, and flattened in its order.

Which arrays a Flatten reaches is found by tracing: each value behind one carries the order in which
PyTorch would have its channels, through pointwise layers, sums and concatenations, to the arrays of
a dense layer or a normalisation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mpsnn import _check, _core

if TYPE_CHECKING:
    from mpsnn.nn.module import Module
    from mpsnn.nn.recurrent import Recurrent

POINTWISE = ("neuron", "dropout", "softmax")


def _orders(model: Module, input_shape: Any) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """What differs from the order of PyTorch, by name.

    First the order of an array's last axis there: theirs[j] = ours[order[j]]. Then the groups of
    transposed convolutions, by weight.
    """
    from mpsnn._trace import Tracer
    from mpsnn.graph.training import input_shapes

    tracer = Tracer("float32", model)
    shapes = input_shapes(model, input_shape)
    tracer.call(model, tuple(tracer.symbol(n, (2, *s)) for n, s in shapes), {})
    graph = tracer.graph
    found: dict[str, np.ndarray] = {}
    transposed: dict[str, int] = {}
    order: dict[int, np.ndarray] = {}

    def record(value: int, by: np.ndarray | None) -> None:
        name = tracer.parameters[value]
        mine = np.arange(graph.shape(value)[-1]) if by is None else by
        if name in found and not np.array_equal(found[name], mine):
            raise _core.UnsupportedError(
                f"[{name}] is used behind a Flatten and elsewhere: PyTorch has no such weight"
            )
        found[name] = mine

    for op, _, operands, outputs in graph.nodes():
        x = order.get(operands[0])
        if op == "flatten":
            shape = graph.shape(operands[0])[1:]
            if len(shape) > 1:
                index = np.arange(int(np.prod(shape))).reshape(shape)
                order[outputs[0]] = np.moveaxis(index, -1, 0).ravel()
            elif x is not None:
                order[outputs[0]] = x
        elif op == "linear":
            record(operands[1], x)
        elif op == "conv_transpose2d":
            channels = graph.shape(operands[0])[-1]
            groups = channels // graph.shape(operands[1])[-1]
            transposed[tracer.parameters[operands[1]]] = groups
        elif op == "batch_norm":
            for value in operands[1:]:
                record(value, x)
            if x is not None:
                order[outputs[0]] = x
        elif op in POINTWISE and x is not None:
            order[outputs[0]] = x
        elif op in ("reshape", "permute", "slice") and (
            x is not None
            or (
                op == "reshape"
                and len(graph.shape(operands[0])) > 2 == len(graph.shape(outputs[0]))
            )
        ):
            raise _core.UnsupportedError(
                f"[{op}] behind a Flatten, or in its place: PyTorch's order is unclear"
            )
        elif op == "concat" and any(o in order for o in operands):
            parts, start = [], 0
            for o in operands:
                size = graph.shape(o)[-1]
                parts.append(start + order.get(o, np.arange(size)))
                start += size
            order[outputs[0]] = np.concatenate(parts)
        elif op in ("add", "subtract", "multiply", "divide") and any(o in order for o in operands):
            pair = [order.get(o) for o in operands]
            if any(p is None for p in pair) or not np.array_equal(*pair):  # type: ignore[arg-type]
                raise _core.UnsupportedError(
                    f"[{op}] mixes values behind a Flatten with others: PyTorch's order is unclear"
                )
            order[outputs[0]] = pair[0]  # type: ignore[assignment]
    return found, transposed


def _transpose(value: np.ndarray, groups: int, axes: tuple[int, ...]) -> np.ndarray:
    """The weight of a transposed convolution, its axes exchanged within each group."""
    parts = value.reshape(groups, -1, *value.shape[1:]).transpose(axes)
    whole: np.ndarray = parts.reshape(-1, *parts.shape[2:])
    return whole


def _recurrent(model: Module) -> list[tuple[str, Recurrent]]:
    """(prefix of its arrays' names, layer) of each recurrent layer."""
    from mpsnn.nn.recurrent import Recurrent

    return [
        (f"{path}." if path else "", layer)
        for path, layer in model.named_modules()
        if isinstance(layer, Recurrent)
    ]


def to_torch(model: Module, input_shape: Any) -> dict[str, np.ndarray]:
    """See `Module.torch_state_dict`."""
    orders, transposed = _orders(model, input_shape)
    from mpsnn.export.recurrent import state_to_torch

    state: dict[str, np.ndarray] = {}
    ours = model.state_dict()
    for prefix, layer in _recurrent(model):
        own = {k[len(prefix) :]: ours.pop(k) for k in list(ours) if k.startswith(prefix)}
        state.update({prefix + k: v for k, v in state_to_torch(layer, own).items()})
    for name, value in ours.items():
        if name in orders:
            value = value[..., orders[name]]
        elif name in transposed:
            value = _transpose(value, transposed[name], (0, 4, 1, 2, 3))
        elif value.ndim in (3, 4):
            value = np.moveaxis(value, -1, 1)
        state[name] = np.ascontiguousarray(value)
        if name.endswith("running_var"):
            state[name[: -len("running_var")] + "num_batches_tracked"] = np.array(0, np.int64)
    return state


def from_torch(model: Module, source: Any, input_shape: Any) -> dict[str, np.ndarray]:
    """A state dict in mpsnn's layouts."""
    from mpsnn.export.recurrent import state_from_torch

    mapping = isinstance(source, Mapping)
    state = dict(source if mapping else _read(_check.path("load_torch_state_dict", source)))
    orders, transposed = _orders(model, input_shape)
    shapes = {name: p.shape for name, p in model._all_arrays()}
    found: dict[str, np.ndarray] = {}
    for prefix, layer in _recurrent(model):
        own = {
            k[len(prefix) :]: _array(k, state.pop(k)) for k in list(state) if k.startswith(prefix)
        }
        found.update({prefix + k: v for k, v in state_from_torch(layer, own).items()})
    for name, given in state.items():
        if name.endswith("num_batches_tracked"):
            continue
        value = _array(name, given)
        if name in orders:
            order = orders[name]
            if value.shape[-1:] != order.shape:
                raise _core.ShapeError(f"[{name}] expected shape {shapes[name]}, got {value.shape}")
            ours = np.empty_like(value)
            ours[..., order] = value
            value = ours
        elif name in transposed and value.ndim == 4:
            if value.shape[0] % transposed[name] != 0:
                raise _core.ShapeError(f"[{name}] expected shape {shapes[name]}, got {value.shape}")
            value = _transpose(value, transposed[name], (0, 2, 3, 4, 1))
        elif value.ndim in (3, 4):
            value = np.moveaxis(value, 1, -1)
        found[name] = np.ascontiguousarray(value)
    return found


def _array(name: str, given: Any) -> np.ndarray:
    if hasattr(given, "detach"):
        given = given.detach().cpu()
    given = _check.numbers(name, "the value", given)
    dlpack = hasattr(given, "__dlpack__") and not isinstance(given, np.ndarray)
    array = np.asarray(_core.Tensor.from_dlpack(given) if dlpack else given)
    if array.dtype.kind != "f":
        raise _core.DTypeError(f"[{name}] expected floating values, got {array.dtype}")
    return array


def _read(path: str) -> Mapping[str, Any]:
    with open(path, "rb") as file:
        head = file.read(4)
    if not path.endswith(".safetensors") and head[:2] in (b"PK", b"\x80\x02"):
        try:
            import torch
        except ImportError:
            raise _core.UnsupportedError(
                f"{path}: a file of torch.save needs PyTorch to be read; safetensors do not"
            ) from None
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(loaded, Mapping):
            raise _core.FormatError(f"{path}: expected a state dict, got {type(loaded).__name__}")
        return loaded
    tensors, _ = _core.read_safetensors(path)
    found: Mapping[str, Any] = tensors
    return found
