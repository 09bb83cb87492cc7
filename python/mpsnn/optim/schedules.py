"""Learning-rate schedules: functions of the 0-based count of encoded updates."""

from __future__ import annotations

import math
from collections.abc import Callable

from mpsnn import _check


class StepDecay:
    """lr * factor ** (update // every)."""

    def __init__(self, lr: float, every: int, factor: float = 0.1) -> None:
        self.lr = _check.number("StepDecay", "lr", lr, 0)
        self.every = _check.integer("StepDecay", "every", every)
        self.factor = _check.number("StepDecay", "factor", factor, 0)

    def __call__(self, update: int) -> float:
        """The rate of an update."""
        return self.lr * self.factor ** (update // self.every)


class ExponentialDecay:
    """lr * factor ** update."""

    def __init__(self, lr: float, factor: float) -> None:
        self.lr = _check.number("ExponentialDecay", "lr", lr, 0)
        self.factor = _check.number("ExponentialDecay", "factor", factor, 0)

    def __call__(self, update: int) -> float:
        """The rate of an update."""
        return self.lr * self.factor**update


class CosineDecay:
    """From lr to `last` along half a cosine over `updates`, then `last` (arXiv 1608.03983)."""

    def __init__(self, lr: float, updates: int, last: float = 0.0) -> None:
        self.lr = _check.number("CosineDecay", "lr", lr, 0)
        self.updates = _check.integer("CosineDecay", "updates", updates)
        self.last = _check.number("CosineDecay", "last", last, 0)

    def __call__(self, update: int) -> float:
        """The rate of an update."""
        part = min(update / self.updates, 1.0)
        return self.last + (self.lr - self.last) * 0.5 * (1 + math.cos(math.pi * part))


class LinearWarmup:
    """`after` (a rate or a schedule) scaled up linearly over the first `updates`."""

    def __init__(self, updates: int, after: float | Callable[[int], float]) -> None:
        self.updates = _check.integer("LinearWarmup", "updates", updates)
        self.after = after if callable(after) else _check.number("LinearWarmup", "after", after, 0)

    def __call__(self, update: int) -> float:
        """The rate of an update."""
        rate = self.after(update) if callable(self.after) else self.after
        return rate * min(1.0, (update + 1) / self.updates)
