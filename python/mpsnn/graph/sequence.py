"""Sequences: the lengths and carried states of a graph's recurrent layers.

Inputs are made as layers ask for them while they are traced. A layer whose sequence has fewer steps
than the graph's input, behind a strided convolution, has lengths in proportion: a step counts when
at least one of the input's steps under it does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mpsnn._core import DTypeError, ShapeError
from mpsnn._trace import Symbol, Tracer


class Sequences:
    """What a trace knows of lengths and states, and the arrays of a step in the inputs' order.

    Args:
        shape: of one image of the graph's first input.
        lengths, states: whether steps come with them.
        training: whether it is a training graph's.
    """

    def __init__(
        self, tracer: Tracer, shape: tuple[int, ...], lengths: bool, states: bool, training: bool
    ) -> None:
        self._tracer = tracer
        self.steps = shape[-2] if len(shape) > 1 else 1
        self._training = training
        self._normalized: dict[int, int] = {}  # steps -> sequences an item, where statistics are
        self._has_lengths, self._has_states = lengths, states
        self._lengths: dict[int, Symbol] = {}
        self._inputs: list[tuple[int, tuple[str, int, int]]] = []  # steps, or 0 and a state's place
        self.finals: dict[str, tuple[tuple[str, ...], list[list[Symbol]]]] = {}
        self._shapes: dict[str, tuple[int, int]] = {}  # path -> (slots, hidden)

    def lengths(self, x: Symbol, statistics: bool = False) -> Symbol | None:
        """The lengths of a layer's input, None where the graph has none.

        Args:
            x: the input.
            statistics: whether the layer takes them of the steps that count.
        """
        if not self._has_lengths:
            return None
        steps = x.shape[-2]
        if statistics and self._training:
            self._normalized[steps] = math.prod(x.shape[1:-2])
        if steps not in self._lengths:
            self._lengths[steps] = self._tracer.symbol(
                f"lengths {steps}", x.shape[:1], "int32", classes=steps + 1
            )
            self._inputs.append((steps, ("", 0, 0)))
        return self._lengths[steps]

    def initial(
        self, path: str, fields: tuple[str, ...], slots: int, shape: tuple[int, ...]
    ) -> list[list[Symbol]] | None:
        """The carried state of a layer: for each field the symbols of its layers and directions."""
        if not self._has_states:
            return None
        if path in self._shapes:
            raise ValueError(f"[{path}] is used twice: it has one carried state only")
        self._shapes[path] = (slots, shape[1])
        made = []
        for f, field in enumerate(fields):
            symbols = []
            for slot in range(slots):
                symbols.append(self._tracer.symbol(f"{path} {field} {slot}", shape))
                self._inputs.append((0, (path, f, slot)))
            made.append(symbols)
        return made

    def final(self, path: str, fields: tuple[str, ...], values: list[list[Symbol]]) -> None:
        """What a layer leaves, to be carried on."""
        if self._has_states and path in self._shapes:
            self.finals[path] = (fields, values)

    def results(self) -> list[Symbol]:
        """All final states, in the order that `gather` takes them."""
        return [s for _, values in self.finals.values() for field in values for s in field]

    def gather(self, arrays: list[np.ndarray]) -> dict[str, Any]:
        """`step.states` from what `results` came to."""
        found: dict[str, Any] = {}
        rest = iter(arrays)
        for path, (fields, values) in self.finals.items():
            made = tuple(np.stack([next(rest) for _ in field]) for field in values)
            found[path] = made if len(fields) > 1 else made[0]
        return found

    def arrays(self, count: int, lengths: Any, states: Any) -> list[np.ndarray]:
        """The inputs of a step of `count` sequences, in the order they were made."""
        whole = self.check_lengths(lengths, count) if self._has_lengths else None
        for steps, lines in self._normalized.items():
            if whole is not None and self.scaled(whole, steps).sum() * lines < 2:
                raise ShapeError("[input lengths] normalisation in training needs more than one "
                                 "value a channel")  # fmt: skip
        carried = self.check_states(states, count) if self._has_states else {}
        made: list[np.ndarray] = []
        for steps, (path, field, slot) in self._inputs:
            if steps:
                assert whole is not None
                made.append(self.scaled(whole, steps))
            elif path in carried:
                made.append(carried[path][field][slot])
            else:
                made.append(np.zeros((count, self._shapes[path][1]), np.float32))
        return made

    def valid(self, lengths: Any, count: int, shape: tuple[int, ...]) -> np.ndarray:
        """Which positions of outputs `(count, ..., steps, C)` count: `(count, ..., steps)`."""
        steps = self.scaled(self.check_lengths(lengths, count), shape[-2])
        counts = np.arange(shape[-2]) < steps.reshape(-1, *(1,) * (len(shape) - 2))
        return np.broadcast_to(counts, (count, *shape[1:-1]))

    def scaled(self, lengths: np.ndarray, steps: int) -> np.ndarray:
        """Lengths of the input as those of a sequence of `steps` steps."""
        return -(-lengths * steps // self.steps)

    def check_lengths(self, lengths: Any, count: int) -> np.ndarray:
        """Lengths as int32 `(count,)`."""
        found = np.asarray(lengths)
        if found.dtype.kind not in "iu":
            raise DTypeError(f"[input lengths] expected integers, got {found.dtype}")
        if found.shape != (count,):
            raise ShapeError(f"[input lengths] expected ({count},), got {found.shape}")
        wrong = found[(found < 0) | (found > self.steps)]
        if wrong.size:
            raise ValueError(f"[input lengths] {wrong[0]} is outside 0..{self.steps}")
        return found.astype(np.int32)

    def check_states(self, states: Any, count: int) -> dict[str, tuple[np.ndarray, ...]]:
        """States by path, each field `(layers * D, N, H)`."""
        if not isinstance(states, Mapping):
            raise TypeError("[input states] expected a dict of states by layer, such as "
                            "step.states; {} for zeros")  # fmt: skip
        found = {}
        for path, given in states.items():
            if path not in self._shapes:
                raise ValueError(f"[input states] there is no layer {path!r} with a state; there "
                                 f"are {list(self._shapes)}")  # fmt: skip
            slots, hidden = self._shapes[path]
            fields = given if isinstance(given, (tuple, list)) else (given,)
            arrays = tuple(np.asarray(a) for a in fields)
            if len(arrays) != len(self.finals[path][0]):
                raise ValueError(f"[input states] {path}: expected {self.finals[path][0]}")
            for array in arrays:
                if array.shape != (slots, count, hidden):
                    raise ShapeError(f"[input states] {path}: expected {(slots, count, hidden)}, "
                                     f"got {array.shape}")  # fmt: skip
            found[path] = arrays
        return found


__all__ = ["Sequences"]
