"""Objective: which loss each output of a model has, and how their targets are named and weighed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mpsnn import _check, _core
from mpsnn._trace import Symbol, Tracer, flatten
from mpsnn.graph.values import LossLabels
from mpsnn.nn.losses import FunctionLoss, Loss

# What a program depends on of a loss's labels: whether they are soft, and the shape of an image's
# element weights, if it has any.
Form = tuple[bool, "tuple[int, ...] | None"]


class Objective:
    """The losses of a training graph: one, a tuple in `forward`'s order, or a dict by name.

    Args:
        loss: losses, or functions `f(outputs, targets) -> (N,)`; None for an output without one.
        weights: a number a loss, in the same form; ones by default.
    """

    def __init__(self, owner: str, loss: Any, weights: Any) -> None:
        self.owner = owner
        self.single = not isinstance(loss, (tuple, list, dict))
        if isinstance(loss, Mapping):
            named = list(loss.items())
        elif self.single:
            named = [("", loss)]
        else:
            named = [(str(i), one) for i, one in enumerate(loss)]
        self.by_name = isinstance(loss, Mapping)
        self.keys = [key for key, _ in named]
        self.losses: dict[str, Loss] = {}
        for key, one in named:
            if one is None and not self.single:
                continue
            if not isinstance(one, Loss):
                if not callable(one) or isinstance(one, type):
                    raise TypeError(f"[{owner}] loss must be a loss of mpsnn.nn or a function, "
                                    f"got {one!r}")  # fmt: skip
                one = FunctionLoss(one)
            if one.attrs["reduction"] == "none":
                raise ValueError(f"[{owner}] the loss of a graph is one number: reduction must be "
                                 "'mean' or 'sum'")  # fmt: skip
            self.losses[key] = one
        if not self.losses:
            raise ValueError(f"[{owner}] there is no loss")
        self._shapes: dict[str, tuple[int, ...]] = {}  # of the output of each, once built
        self.weights = dict.fromkeys(self.losses, 1.0)
        if weights is not None:
            for key, weight in zip(self.losses, self.of_each(weights, "loss_weights"), strict=True):
                self.weights[key] = _check.number(owner, "loss_weights", weight, 0)

    def name(self, key: str) -> str:
        """The input that the targets of a loss are staged in."""
        return f"targets {key}" if key else "targets"

    def of_each(self, values: Any, what: str) -> list[Any]:
        """One value a loss, from the form that `loss=` was given in."""
        if self.single:
            return [values]
        if isinstance(values, Mapping):
            if set(values) != set(self.losses):
                raise ValueError(
                    f"[{self.owner}] expected {what} {list(self.losses)}, got {list(values)}"
                )
            return [values[key] for key in self.losses]
        if self.by_name or not isinstance(values, (tuple, list)) or len(values) != len(self.keys):
            form = f"a dict of {list(self.losses)}" if self.by_name else f"{len(self.keys)} values"
            raise ValueError(f"[{self.owner}] {what} must be {form}")
        return [v for key, v in zip(self.keys, values, strict=True) if key in self.losses]

    def outputs(self, structure: Any) -> dict[str, Any]:
        """The model's outputs that the losses are of."""
        if self.single:
            if not isinstance(self.losses[""], FunctionLoss) and not isinstance(structure, Symbol):
                raise ValueError(
                    f"[{self.owner}] a model of several outputs takes a tuple or dict of losses"
                )
            return {"": structure}
        if self.by_name and isinstance(structure, Mapping):
            found = dict(structure)
        elif not self.by_name and isinstance(structure, (tuple, list, Symbol)):
            outputs = [structure] if isinstance(structure, Symbol) else structure
            found = {str(i): y for i, y in enumerate(outputs)}
        else:
            raise ValueError(
                f"[{self.owner}] loss is a {'dict' if self.by_name else 'tuple'}, but forward "
                f"returns {type(structure).__name__}"
            )
        if set(found) != set(self.keys):
            raise ValueError(
                f"[{self.owner}] expected a loss (or None) for each output {list(found)}, got "
                f"{self.keys}"
            )
        return {key: found[key] for key in self.losses}

    def build(
        self, tracer: Tracer, structure: Any, forms: tuple[Form, ...]
    ) -> tuple[Symbol, list[Symbol]]:
        """Append the losses: (total loss, the images' losses of each)."""
        targets = {}
        outputs = self.outputs(structure)
        for (key, loss), (is_soft, _) in zip(self.losses.items(), forms, strict=True):
            leaves = flatten(outputs[key])
            if not all(isinstance(y, Symbol) for y in leaves):
                raise TypeError(f"[{self.owner}] output {key!r} is no value of the graph")
            made = [
                loss.target_symbol(tracer, y, self.name(key) + (f".{i}" if i else ""), is_soft)
                for i, y in enumerate(leaves)
            ]
            targets[key] = made[0] if len(leaves) == 1 else tuple(made)
            self._shapes[key] = leaves[0].shape
        first = flatten(outputs[next(iter(self.losses))])[0]
        weight = next(iter(self.losses.values())).weight_symbol(tracer, first, "weights")
        totals, losses = [], []
        for (key, loss), (_, shape) in zip(self.losses.items(), forms, strict=True):
            of_elements = None
            if shape is not None:
                name = f"weights {key}" if key else "element weights"
                image = flatten(outputs[key])[0]
                of_elements = loss.element_weight_symbol(tracer, image, name, shape)
            tracer.layer = type(loss).__name__ + (f" {key}" if key else "")
            total, each = loss.apply(outputs[key], targets[key], weight, of_elements)
            tracer.layer = None
            totals.append(total)
            losses.append(each)
        if len(totals) == 1 and self.weights[next(iter(self.losses))] == 1:
            return totals[0], losses
        tracer.layer = "total loss"
        total = tracer.add("total_loss", list(totals), {"weights": list(self.weights.values())})[0]
        tracer.layer = None
        return total, losses

    def arrays(
        self, targets: Any, weights: Any,
        valid: Callable[[tuple[int, ...]], np.ndarray] | None = None,
    ) -> tuple[list[Any], tuple[Form, ...], list[Any]]:  # fmt: skip
        """Targets in the order of their inputs, the labels' forms, and the inputs of weights.

        Args:
            targets, weights: of `encode`.
            valid: which positions count in outputs of a shape; all where it is None.
        """
        found: list[Any] = []
        forms: list[Form] = []
        of_elements: list[Any] = []
        if isinstance(targets, LossLabels):
            targets, weights = _split(targets, weights)
        each = self.of_each(targets, "targets")
        for (key, loss), value in zip(self.losses.items(), each, strict=True):
            own = None
            if isinstance(value, LossLabels):
                if rank(value.weights) > 1:
                    value, own = value.targets, value.weights
                else:
                    value, weights = _split(value, weights)
            if isinstance(value, Mapping):
                raise ValueError(f"[{self.owner}] {self.name(key)} must be arrays")
            if own is None and self.single and rank(weights) > 1:
                own, weights = weights, None
            soft = loss.has_classes and is_soft(value)
            if soft and np.ndim(value) < 2:
                raise _core.DTypeError(
                    f"[input {self.name(key)}] class indices are integers, got floats"
                )
            shape = self._shapes[key]
            if valid is not None and len(shape) > 2:  # else one target a sequence
                value, own = loss.masked(value, own, valid(shape), soft)
            found += list(value) if isinstance(value, tuple) else [value]
            forms.append((soft, None if own is None else np.shape(own)[1:]))
            if own is not None:
                of_elements.append(own)
        if rank(weights) > 1:
            raise _core.ShapeError(
                f"[{self.owner}] with several losses, weights of elements are given by LossLabels"
            )
        return found, tuple(forms), [weights, *of_elements]


def rank(weights: Any) -> int:
    """The number of axes of weights; 0 where there are none."""
    if weights is None:
        return 0
    return np.ndim(_check.numbers("input weights", "the weights", weights))


def _split(labels: LossLabels, weights: Any) -> tuple[Any, Any]:
    if weights is not None and labels.weights is not None:
        raise ValueError("[input weights] given twice: by encode and by LossLabels")
    return labels.targets, labels.weights if labels.weights is not None else weights


def is_soft(targets: Any) -> bool:
    """Whether labels are floating: one-hot or soft."""
    dtype = getattr(targets, "dtype", None)
    if dtype is None:
        dtype = _check.numbers("input targets", "the labels", targets).dtype
    return "float" in str(dtype)


__all__ = ["Form", "Objective", "is_soft"]
