"""Feeding arrays to a graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mpsnn import _check
from mpsnn._core import ShapeError


def _array(owner: str, name: str, value: Any) -> Any:
    """What can be indexed by an array: a file's array stays one, a list or a Tensor becomes one."""
    if not hasattr(value, "shape") or hasattr(value, "__dlpack__"):
        value = np.asarray(_check.numbers(owner, name, value))
    if len(value.shape) == 0:
        raise ShapeError(f"[{owner}] {name} must be an array of items, got a single number")
    return value


class Batches:
    """Batches of arrays, pass after pass; made by `batches`."""

    def __init__(
        self, x: Any, y: Any, batch_size: int, shuffle: bool, seed: int, drop_last: bool,
        lengths: Any,
    ) -> None:  # fmt: skip
        me = "batches"
        self._x, self._y = _array(me, "x", x), _array(me, "y", y)
        self._lengths = None if lengths is None else _array(me, "lengths", lengths)
        if len(self._x) != len(self._y):
            raise ShapeError(f"[{me}] {len(self._x)} images and {len(self._y)} targets")
        if self._lengths is not None and len(self._x) != len(self._lengths):
            raise ShapeError(f"[{me}] {len(self._x)} sequences and {len(self._lengths)} lengths")
        self._batch = _check.integer(me, "batch_size", batch_size)
        self._shuffle = _check.flag(me, "shuffle", shuffle)
        self._seed = _check.integer(me, "seed", seed, 0)
        self._drop_last = _check.flag(me, "drop_last", drop_last)
        self._epoch = 0

    @property
    def epoch(self) -> int:
        """The number of the next pass; set it to resume."""
        return self._epoch

    @epoch.setter
    def epoch(self, value: int) -> None:
        self._epoch = _check.integer("batches", "epoch", value, 0)

    def __len__(self) -> int:
        n = len(self._x)
        return n // self._batch if self._drop_last else -(-n // self._batch)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        order = None
        if self._shuffle:
            key = np.random.Philox(key=self._seed, counter=[0, 0, 0, self._epoch])
            order = np.random.Generator(key).permutation(len(self._x))
        self._epoch += 1
        for start in range(0, len(self) * self._batch, self._batch):
            part: Any = slice(start, start + self._batch)
            if order is not None:
                part = order[part]
            batch = self._x[part], self._y[part]
            yield batch if self._lengths is None else (*batch, self._lengths[part])


def batches(
    x: Any, y: Any, batch_size: int, shuffle: bool = False, seed: int = 0, drop_last: bool = False,
    *, lengths: Any = None,
) -> Batches:  # fmt: skip
    """Iterate over `(images, targets)`; iterate again for the next pass.

    Args:
        x, y: arrays of one length (numpy, memmap).
        batch_size: the last batch of a pass is smaller unless `drop_last`.
        shuffle: a new order each pass, decided by `seed` and the number of the pass alone.
        lengths: of sequences, `(N,)`; they make the batches `(sequences, targets, lengths)`.

    Raises:
        ShapeError: the lengths differ.
        ValueError, TypeError: an argument is out of range or of the wrong type.
    """
    return Batches(x, y, batch_size, shuffle, seed, drop_last, lengths)


__all__ = ["Batches", "batches"]
