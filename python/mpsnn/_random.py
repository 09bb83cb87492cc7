"""The generator that draws initial weights."""

from __future__ import annotations

import operator

import numpy as np

_PIECE = 4096
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


def uniform(bound: float, shape: tuple[int, ...]) -> np.ndarray:
    """Draw a float32 array uniform in +-`bound`.

    In pieces: a large array in double precision would stay with the process when freed.
    """
    values = np.empty(shape, np.float32)
    flat = values.reshape(-1)
    for piece in np.split(flat, range(_PIECE, flat.size, _PIECE)):
        piece[...] = _generator.uniform(-bound, bound, piece.size)
    return values
