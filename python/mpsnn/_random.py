"""The generator that draws initial weights."""

from __future__ import annotations

import operator

import numpy as np

_generator = np.random.Generator(np.random.Philox(0))


def manual_seed(seed: int) -> None:
    """Seed the drawing of initial weights. A graph's own `seed` governs dropout.

    Raises:
        TypeError: `seed` is not an integer.
        ValueError: it is negative.
    """
    global _generator
    try:
        number = operator.index(seed)
    except TypeError:
        raise TypeError(f"manual_seed takes an integer, got {seed!r}") from None
    if number < 0:
        raise ValueError(f"manual_seed takes a seed of at least 0, got {number}")
    _generator = np.random.Generator(np.random.Philox(number))


def generator() -> np.random.Generator:
    """The generator in use."""
    return _generator
