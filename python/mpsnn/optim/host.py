"""Updates on the host: optimizers written in Python, and data sources with `update`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mpsnn.data.source import WeightsAndBias

if TYPE_CHECKING:
    from mpsnn.nn.module import Module
    from mpsnn.optim.optimizers import Optimizer

Item = tuple[str, np.ndarray, np.ndarray, float]  # name, weights, gradient, rate


def _together(arrays: dict[str, np.ndarray]) -> WeightsAndBias:
    """A layer's weight and bias, or a recurrent layer's arrays by name."""
    if set(arrays) <= {"weight", "bias"}:
        return WeightsAndBias(arrays.get("weight"), arrays.get("bias"))
    return WeightsAndBias(arrays)


class HostUpdate:
    """What a graph calls between two steps. Holds the state of the optimizer, not the graph.

    Attributes:
        sourced: the parameters that a data source updates: name -> (layer's path, role).
        state: parameter name -> what `update_parameter` keeps.
    """

    def __init__(self, optimizer: Optimizer, model: Module | None) -> None:
        self.optimizer = optimizer
        self.sources: dict[str, Any] = {}
        self.sourced: dict[str, tuple[str, str]] = {}
        self.state: dict[str, dict[str, Any]] = {}
        for path, module in model.named_modules() if model is not None else ():
            source = getattr(module, "source", None)
            if not callable(getattr(source, "update", None)):
                continue
            self.sources[path] = source
            for role, _ in module._own():
                self.sourced[f"{path}.{role}" if path else role] = (path, role)

    @property
    def needed(self) -> bool:
        """Whether anything is updated on the host."""
        return not self.optimizer.kind or bool(self.sources)

    def __call__(self, items: list[Item]) -> list[np.ndarray | None]:
        """New weights in the order of the items; all or, if something raises, none."""
        made: dict[str, Any] = {}
        changed: dict[str, dict[str, Any]] = {}
        by_layer: dict[str, dict[str, Item]] = {}
        for item in items:
            if item[0] in self.sourced:
                path, role = self.sourced[item[0]]
                by_layer.setdefault(path, {})[role] = item
                continue
            name, weights, gradient, rate = item
            state = {k: np.copy(v) if isinstance(v, np.ndarray) else v
                     for k, v in self.state.get(name, {}).items()}  # fmt: skip
            made[name] = self.optimizer.update_parameter(name, weights, gradient, state, rate)
            changed[name] = state
        for path, roles in by_layer.items():
            gradients = _together({role: item[2] for role, item in roles.items()})
            source = _together({role: item[1] for role, item in roles.items()})
            new = self.sources[path].update(gradients, source)
            if new is None:
                continue
            weights, bias = (new.weights, new.bias) if isinstance(new, WeightsAndBias) else new
            values = weights if isinstance(weights, dict) else {"weight": weights, "bias": bias}
            for role, value in values.items():
                if role in roles:
                    made[roles[role][0]] = value
        arrays = [made.get(item[0]) for item in items]
        self.state.update(changed)
        return arrays
