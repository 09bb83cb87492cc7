"""SGD, Adam, AdamW, RMSProp: what PyTorch's mean, in one fused pass on the device."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mpsnn import _check

if TYPE_CHECKING:
    from mpsnn.nn.module import Module

Rate = float | Callable[[int], float]


class Optimizer:
    """Base of optimizers. A subclass that defines `update_parameter` runs on the host.

    Args:
        lr: learning rate, or `f(update)` of the 0-based count of encoded updates.
        groups: `(pattern, overrides)` pairs; the first pattern (fnmatch) that matches a parameter's
            name decides. Overrides are this optimizer's own arguments.
    """

    kind = ""
    fields: tuple[str, ...] = ()

    def __init__(
        self, lr: Any, groups: Sequence[tuple[str, dict[str, Any]]] = (), **hyper: Any
    ) -> None:
        if not self.kind and type(self).update_parameter is Optimizer.update_parameter:
            raise TypeError(f"[{type(self).__name__}] an optimizer defines update_parameter")
        self.lr: Rate = self._rate(lr)
        self._given = hyper
        self.hyper = self._checked(hyper)
        self.groups: list[tuple[str, Rate | None, dict[str, float]]] = []
        me = type(self).__name__
        for entry in groups:
            if not (isinstance(entry, (tuple, list)) and len(entry) == 2
                    and isinstance(entry[0], str) and isinstance(entry[1], dict)):  # fmt: skip
                raise TypeError(f"[{me}] groups are (pattern, dict) pairs, got {entry!r}")
            pattern, overrides = entry[0], dict(entry[1])
            own = self._rate(overrides.pop("lr")) if "lr" in overrides else None
            unknown = sorted(set(overrides) - set(self.fields))
            if unknown:
                raise ValueError(f"[{me}] a group sets unknown arguments {unknown}")
            merged = self._checked({**hyper, **overrides})
            self.groups.append((pattern, own, merged))

    def _rate(self, lr: Any) -> Rate:
        if callable(lr):
            made: Rate = lr
            return made
        return _check.number(type(self).__name__, "lr", lr, 0)

    def _checked(self, given: dict[str, Any]) -> dict[str, float]:
        me = type(self).__name__
        found: dict[str, float] = {}
        for name, value in given.items():
            if name in ("nesterov", "centered"):
                found[name] = float(_check.flag(me, name, value))
            elif name == "betas":
                if not (isinstance(value, (tuple, list)) and len(value) == 2):
                    raise TypeError(f"[{me}] betas must be a pair, got {value!r}")
                for i, beta in enumerate(value):
                    found[f"beta{i + 1}"] = _check.number(me, "betas", beta, 0, 1, open_high=True)
            elif name == "eps":
                found["epsilon"] = _check.number(me, name, value, 0)
            elif name == "alpha":
                found[name] = _check.number(me, name, value, 0, 1)
            else:
                found[name] = _check.number(me, name, value, 0)
        if found.get("nesterov") and (not found.get("momentum") or found.get("dampening")):
            raise ValueError(f"[{me}] nesterov needs momentum, and no dampening")
        return found

    def update_parameter(
        self, name: str, weights: np.ndarray, gradient: np.ndarray, state: dict[str, Any], lr: float
    ) -> np.ndarray:
        """The new weights of one parameter; of a subclass written in Python.

        Called between two steps, on a thread of the device. Nothing may be encoded, awaited or read
        of a model in it. If it raises, the weights stay and the next wait raises.

        Args:
            name: the parameter's path.
            weights, gradient: arrays of its shape, its own to change; the gradient is accumulated,
                unscaled and clipped.
            state: a dict of the parameter's own, empty at first: numbers and arrays that
                `save_state` saves.
            lr: the rate of this update.
        """
        raise NotImplementedError

    def update(self, model: Module, grads: Any) -> None:
        """Apply given gradients to a model's trainable parameters, outside any graph.

        Its moments belong to this optimizer and model.

        Args:
            model: the module.
            grads: gradients by parameter name, or in the order of its trainable parameters.

        Raises:
            ValueError: names or their number do not fit. ShapeError, DTypeError: an array.
        """
        from mpsnn.optim.eager import update

        update(self, model, grads)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_eager"}

    def group_of(self, name: str) -> int:
        """0 for the optimizer's own settings, else 1 + the index of the first matching group."""
        for i, (pattern, _, _) in enumerate(self.groups):
            if fnmatch.fnmatchcase(name, pattern):
                return i + 1
        return 0

    def rates(self) -> list[Rate]:
        """One rate a group; a group without its own has the optimizer's."""
        return [self.lr, *[self.lr if own is None else own for _, own, _ in self.groups]]

    def spec(self, parameters: Sequence[tuple[str, Any]], host: Any = None) -> dict[str, Any]:
        """What the core compiles: the groups, each trained parameter's, and what the host does."""
        sourced = host.sourced if host is not None else {}
        return {
            "kind": self.kind or "sgd",
            "host_update": host,
            "groups": [h if self.kind else {} for h in (self.hyper, *[g[2] for g in self.groups])],
            "parameters": [
                (p.core, self.group_of(name), name, not self.kind or name in sourced)
                for name, p in parameters
            ],
        }

    def __repr__(self) -> str:
        settings = ", ".join(f"{k}={v}" for k, v in self._given.items())
        return f"{type(self).__name__}(lr={self.lr}, {settings})"


class SGD(Optimizer):
    """Stochastic gradient descent, as torch.optim.SGD (MPSNNOptimizerStochasticGradientDescent).

    g <- g + weight_decay w; b <- momentum b + (1 - dampening) g (first b = g);
    w <- w - lr b, or with Nesterov w - lr (g + momentum b). The rate is outside the momentum.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
    """

    kind = "sgd"
    fields = ("momentum", "dampening", "weight_decay", "nesterov")

    def __init__(
        self, lr: Any, momentum: float = 0.0, dampening: float = 0.0, weight_decay: float = 0.0,
        nesterov: bool = False, *, groups: Sequence[tuple[str, dict[str, Any]]] = (),
    ) -> None:  # fmt: skip
        super().__init__(lr, groups, momentum=momentum, dampening=dampening,
                         weight_decay=weight_decay, nesterov=nesterov)  # fmt: skip


class Adam(Optimizer):
    """Adam (Kingma, Ba 2015, arXiv 1412.6980), as torch.optim.Adam (MPSNNOptimizerAdam).

    Epsilon is outside the bias correction; weight decay is added to the gradient.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
    """

    kind = "adam"
    fields = ("betas", "eps", "weight_decay")

    def __init__(
        self, lr: Any = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0.0, *, groups: Sequence[tuple[str, dict[str, Any]]] = (),
    ) -> None:  # fmt: skip
        super().__init__(lr, groups, betas=betas, eps=eps, weight_decay=weight_decay)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov, Hutter 2019, arXiv 1711.05101)."""

    kind = "adamw"

    def __init__(
        self, lr: Any = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0.01, *, groups: Sequence[tuple[str, dict[str, Any]]] = (),
    ) -> None:  # fmt: skip
        super().__init__(lr, betas, eps, weight_decay, groups=groups)


class RMSProp(Optimizer):
    """RMSProp (Hinton 2012), as torch.optim.RMSprop (MPSNNOptimizerRMSProp).

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
    """

    kind = "rmsprop"
    fields = ("alpha", "eps", "weight_decay", "momentum", "centered")

    def __init__(
        self, lr: Any = 1e-2, alpha: float = 0.99, eps: float = 1e-8, weight_decay: float = 0.0,
        momentum: float = 0.0, centered: bool = False, *,
        groups: Sequence[tuple[str, dict[str, Any]]] = (),
    ) -> None:  # fmt: skip
        super().__init__(lr, groups, alpha=alpha, eps=eps, weight_decay=weight_decay,
                         momentum=momentum, centered=centered)  # fmt: skip
