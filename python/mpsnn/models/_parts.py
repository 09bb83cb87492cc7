"""What the models share: distributions of initial weights, and the mean over space."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from mpsnn import _check, ops

Draw = Callable[[tuple[int, ...], np.random.Generator], np.ndarray]


def normal(deviation: float) -> Draw:
    """A normal distribution around 0."""

    def draw(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
        values = generator.standard_normal(shape, np.float32)
        values *= np.float32(deviation)
        return values

    return draw


def he_normal(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """He et al. 2015 by a convolution's outputs: what reaches a ReLU's input keeps its variance."""
    return normal(math.sqrt(2 / (shape[0] * shape[1] * shape[2])))(shape, generator)


def mean_over_space(x: Any) -> Any:
    """`(N, H, W, C)` to `(N, C)`."""
    return ops.flatten(ops.avg_pool2d(x, tuple(x.shape[1:3])))


def classes_of(model: str, classes: Any) -> int:
    """A number of classes, checked."""
    return _check.integer(model, "classes", classes)
