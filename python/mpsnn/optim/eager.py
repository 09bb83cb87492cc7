"""`optimizer.update(model, grads)`: a program of no nodes whose gradients come from the host."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mpsnn import _check, _core
from mpsnn.ops.run import default_device
from mpsnn.optim.host import HostUpdate

if TYPE_CHECKING:
    from mpsnn.nn.module import Module
    from mpsnn.optim.optimizers import Optimizer


def update(optimizer: Optimizer, model: Module, grads: Any) -> None:
    """See `Optimizer.update`."""
    if not hasattr(model, "_frozen"):
        raise TypeError(f"[update] expected a Module, got {model!r}")
    stopped = {id(p) for p in model._frozen()}
    trained = [(n, p) for n, p in model.named_parameters() if id(p) not in stopped]
    names = [n for n, _ in trained]
    if isinstance(grads, Mapping):
        if set(grads) != set(names):
            raise ValueError(f"expected gradients of {names}, got {list(grads)}")
        grads = [grads[n] for n in names]
    elif not isinstance(grads, (list, tuple)):
        raise TypeError(f"[update] expected gradients by name or in order, got {grads!r}")
    if len(grads) != len(names):
        raise ValueError(f"expected {len(names)} gradients, of {names}, got {len(grads)}")
    arrays = tuple(
        np.asarray(_check.numbers(n, "the gradient", g)) for n, g in zip(names, grads, strict=True)
    )
    programs = optimizer.__dict__.setdefault("_eager", weakref.WeakKeyDictionary())
    key = tuple(names)
    if model not in programs or programs[model][0] != key:
        programs[model] = (key, _program(optimizer, trained))
    program = programs[model][1]
    count = program.encoded_updates()
    rates = tuple(float(r(count)) if callable(r) else r for r in optimizer.rates())
    program.encode(arrays, rates).wait()


def _program(optimizer: Optimizer, trained: list[tuple[str, Any]]) -> Any:
    graph = _core.Graph("float32")
    seeds = []
    for name, parameter in trained:
        value = graph.parameter(name, parameter.core)
        gradient = graph.input(name, parameter.shape, "float32", batched=False)
        seeds.append((value, gradient))
    host = HostUpdate(optimizer, None)
    return _core.Program.compile(
        graph, device=default_device(), training=True, seeds=seeds,
        optimizer=optimizer.spec(trained, host if host.needed else None),
    )  # fmt: skip
