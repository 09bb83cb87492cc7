"""Running ops: a node in a traced graph, or a cached plan of one op on arrays."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any

import numpy as np

from mpsnn import _check, _core
from mpsnn._core import Program, Tensor
from mpsnn._device import Device
from mpsnn._trace import Symbol, Tracer, find_symbol

CAPACITY = 64


class ProgramCache:
    """The last programs used, least recently used out first."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._programs: OrderedDict[Any, Any] = OrderedDict()

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        """The value of `key`, made at first use."""
        with self._lock:
            if key in self._programs:
                self._programs.move_to_end(key)
                return self._programs[key]
        made = make()
        with self._lock:
            self._programs[key] = made
            if len(self._programs) > CAPACITY:
                self._programs.popitem(last=False)
        return made


_cache = ProgramCache()


@functools.lru_cache
def default_device() -> str:
    """ "cpu" where this build has it, else "reference"."""
    kinds = [row["id"] for row in _core.devices()]
    return "cpu" if "cpu" in kinds else "reference"


def device_of(device: Any, arrays: list[Any]) -> str:
    """The device asked for, else that of the first Tensor, else the default."""
    if device is not None:
        if isinstance(device, Device):
            return device.id
        return _check.text("device", "the name", device)
    for array in arrays:
        if isinstance(array, Tensor):
            return array.device
    return default_device()


def as_arrays(who: str, values: list[Any], integers: bool = False) -> tuple[list[Any], str]:
    """Operands as arrays, and the dtype of the graph that computes with them.

    `integers`: all of them may be indices.
    """
    from mpsnn.nn.module import Parameter

    arrays: list[Any] = []
    for value in values:
        if isinstance(value, Parameter):
            value = value.numpy()
        if value is not None and not isinstance(value, (np.ndarray, Tensor)):
            dlpack = hasattr(value, "__dlpack__")
            value = Tensor.from_dlpack(value) if dlpack else _check.numbers(who, "operands", value)
        arrays.append(value)
    names = [str(a.dtype) for a in arrays if a is not None]
    floats = [n for n in names if "float" in n]
    if not floats and not (integers and names):
        raise _core.DTypeError(f"[{who}] expected floating arrays, got {', '.join(names)}")
    dtype = floats[0] if floats and floats[0] in ("float16", "bfloat16", "float64") else "float32"
    return arrays, dtype


def finish(results: list[Tensor], arrays: list[Any]) -> list[Any]:
    """Numpy in gives numpy out, Tensors give Tensors."""
    if any(isinstance(a, Tensor) for a in arrays):
        return list(results)
    return [r.numpy() for r in results]


def _symbols(
    tracer: Tracer, op: str, arrays: list[Any], dtype: str, indices: dict[int, int]
) -> list[Any]:
    made: list[Any] = []
    for i, array in enumerate(arrays):
        if array is None:
            made.append(None)
            continue
        kind = str(array.dtype)
        if i in indices:  # integers in 0..indices[i] - 1
            classes = indices[i]
            made.append(
                tracer.symbol(f"x{i}", array.shape, "int32", batched=False, classes=classes)
            )
            continue
        if "float" not in kind:
            raise _core.DTypeError(f"[{op}] operand {i} must be floating, got {kind}")
        made.append(tracer.symbol(f"x{i}", array.shape, dtype, batched=False))
    return made


def _key(op: str, arrays: list[Any], attrs: dict[str, Any], *rest: Any) -> Any:
    shapes = tuple(None if a is None else tuple(a.shape) for a in arrays)
    return (op, shapes, tuple(sorted((k, str(v)) for k, v in attrs.items())), rest)


def _inputs(arrays: list[Any]) -> tuple[Any, ...]:
    return tuple(a for a in arrays if a is not None)


def apply(
    op: str,
    operands: list[Any],
    attrs: dict[str, Any],
    device: Any = None,
    *,
    training: bool = False,
    seed: int = 0,
    indices: dict[int, int] | None = None,
) -> list[Any]:
    """Append the op to the graph of its operands, or run it on arrays.

    `indices`: the places of integer operands, and how many values each has.
    """
    symbol = find_symbol(operands)
    if symbol is not None:
        for place, classes in (indices or {}).items():
            if place < len(operands) and isinstance(operands[place], Symbol):
                symbol.tracer.indices(operands[place], classes)
        return list(symbol.tracer.add(op, operands, attrs))
    arrays, dtype = as_arrays(op, operands)
    where = device_of(device, arrays)

    def make() -> Any:
        tracer = Tracer(dtype)
        outputs = tracer.add(op, _symbols(tracer, op, arrays, dtype, indices or {}), attrs)
        results = [(f"y{i}", y.id, False) for i, y in enumerate(outputs)]
        return Program.compile(
            tracer.graph, device=where, training=training, seed=seed, results=results
        ), len(results)

    program, count = _cache.get(_key(op, arrays, attrs, dtype, where, training, seed), make)
    step = program.encode(_inputs(arrays), ())
    step.wait()
    return finish([step.result(i) for i in range(count)], arrays)


def gradient(
    op: str,
    gy: Any,
    operands: list[Any],
    attrs: dict[str, Any],
    device: Any = None,
    *,
    first: int = 0,
    wanted: int | None = None,
    seed: int = 0,
    indices: dict[int, int] | None = None,
) -> tuple[Any, ...]:
    """Gradients by the operands (from `first`, or to `wanted`), on arrays.

    `gy` is the gradient by the first output, or a tuple of those by each, None where there is none.
    """
    if find_symbol(operands, gy) is not None:
        raise _core.UnsupportedError(
            f"[{op}] gradients of graph values are made by TrainingGraph and vjp"
        )
    if gy is None:
        raise TypeError(f"[{op}] the gradient of the output is missing")
    given = gy if isinstance(gy, tuple) else (gy,)
    arrays, dtype = as_arrays(op, [*operands, *given])
    where = device_of(device, arrays)
    count_x = len(operands)

    def make() -> Any:
        tracer = Tracer(dtype)
        symbols = _symbols(tracer, op, arrays[:count_x], dtype, indices or {})
        outputs = tracer.add(op, symbols, attrs)
        if len(given) > len(outputs):
            raise ValueError(f"[{op}] has {len(outputs)} outputs, got {len(given)} gradients")
        seeds = []
        for y, g in zip(outputs, arrays[count_x:], strict=False):
            if g is None:
                continue
            if tuple(g.shape) != y.shape:
                raise _core.ShapeError(f"[{op}] gradient must be {y.shape}, got {tuple(g.shape)}")
            seeds.append((y.id, tracer.symbol("gy", y.shape, dtype, batched=False).id))
        by = [s for s in symbols[first:wanted] if s is not None]
        results = [(f"gx{i}", s.id, True) for i, s in enumerate(by)]
        return Program.compile(
            tracer.graph, device=where, training=True, seed=seed, seeds=seeds, results=results,
        ), len(results)  # fmt: skip

    key = _key(op, arrays, attrs, "gradient", dtype, where, seed)
    program, count = _cache.get(key, make)
    step = program.encode(_inputs(arrays), ())
    step.wait()
    return tuple(finish([step.result(i) for i in range(count)], arrays))


def _loss_program(
    loss: Any, outputs: Any, targets: Any, weights: Any, gradient: bool, gy: Any = None
) -> tuple[Any, tuple[Any, ...], list[Any]]:
    """The program of a loss on arrays, its inputs, and the outputs' array."""
    arrays, dtype = as_arrays(type(loss).__name__, [outputs])
    target = np.asarray(_check.numbers("input targets", "the targets", targets))
    soft = target.dtype.kind == "f"
    weight = None if weights is None else np.asarray(weights)
    by_element = weight is not None and weight.ndim > 1
    where = device_of(None, arrays)

    def make() -> Any:
        tracer = Tracer(dtype)
        y = tracer.symbol("outputs", arrays[0].shape, dtype)
        t = loss.target_symbol(tracer, y, "targets", soft)
        if by_element:
            assert weight is not None
            w, e = None, loss.element_weight_symbol(tracer, y, "weights", weight.shape[1:])
        else:
            w, e = loss.weight_symbol(tracer, y, "weights"), None
        values = loss.apply(y, t, w, e)
        if not gradient:
            results = [("loss", values[0].id, False), ("losses", values[1].id, False)]
            return Program.compile(tracer.graph, device=where, results=results)
        seed = -1
        if loss.attrs["reduction"] == "none" or gy is not None:
            seed = tracer.symbol("gy", values[0].shape, values[0].dtype, batched=False).id
        return Program.compile(
            tracer.graph, device=where, training=True, seeds=[(values[0].id, seed)],
            results=[("gx", y.id, True)],
        )  # fmt: skip

    form = (gradient, gy is not None, None if weight is None else weight.shape)
    key = _key(loss.op, [arrays[0], target], loss.attrs, "loss", dtype, soft, where, form)
    program = _cache.get(key, make)
    return program, (arrays[0], target, weight), arrays


def eager_loss(loss: Any, outputs: Any, targets: Any, weights: Any) -> Any:
    """(loss, losses) of arrays, or of graph values."""
    if find_symbol(outputs, targets) is not None:
        by_element = weights is not None and len(weights.shape) > 1
        given = (None, weights) if by_element else (weights, None)
        return tuple(loss.apply(outputs, targets, *given))
    program, inputs, arrays = _loss_program(loss, outputs, targets, weights, gradient=False)
    step = program.encode(inputs, ())
    step.wait()
    losses = step.result(1).numpy().copy()
    if loss.attrs["reduction"] == "none":
        return finish([step.result(0)], arrays)[0], losses
    return float(step.result(0).numpy()[0]), losses


def loss_gradient(loss: Any, outputs: Any, targets: Any, weights: Any, gy: Any) -> Any:
    """The gradient of a loss by arrays of outputs."""
    unreduced = loss.attrs["reduction"] == "none"
    program, inputs, arrays = _loss_program(loss, outputs, targets, weights, True, gy)
    if unreduced and gy is None:
        gy = np.ones(eager_loss(loss, outputs, targets, weights)[0].shape, np.float32)
    elif gy is not None and not unreduced:
        gy = np.asarray(gy, np.float64).reshape(1)
    step = program.encode(inputs if gy is None else (*inputs, gy), ())
    step.wait()
    return finish([step.result(0)], arrays)[0]
