"""Step: one encoded training step; reading anything of it waits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from mpsnn import _check, _core
from mpsnn.graph.sequence import Sequences


class Step:
    """What `TrainingGraph.encode` returns at once. `index` counts encodes from 0."""

    __slots__ = ("_core", "_names", "_parts", "_sequence", "_tensors")

    def __init__(
        self, core: _core.Step, names: tuple[Any, ...], tensors: bool, parts: tuple[float, ...],
        sequence: Sequences | None = None,
    ) -> None:  # fmt: skip
        self._core = core
        self._names = names
        self._tensors = tensors
        self._parts = parts  # the weight of each loss
        self._sequence = sequence

    @property
    def index(self) -> int:
        """The number of this encode."""
        return self._core.index

    @property
    def updated(self) -> bool:
        """False when a dynamic loss scale, or an earlier failed step, skipped the update. Waits."""
        self._core.wait()
        return self._core.updated

    def done(self) -> bool:
        """Whether the step has finished, without waiting."""
        return self._core.done()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end, at most `timeout` seconds; False if it has not come.

        Raises:
            NonFiniteError: the loss or a gradient is not finite; nothing was updated.
        """
        if timeout is not None and timeout != math.inf:
            timeout = max(0.0, _check.number("Step.wait", "timeout", timeout))
        return self._core.wait(None if timeout == math.inf else timeout)

    @property
    def loss(self) -> float:
        """sum(w l) / sum(w) over the batch's elements. Waits."""
        self._core.wait()
        return float(self._core.result(0).numpy()[0])

    @property
    def losses(self) -> np.ndarray:
        """The same formula over each image, `(N,)`. Waits."""
        self._core.wait()
        parts = [self._core.result(1 + i).numpy() for i in range(len(self._parts))]
        if self._parts == (1.0,):
            return np.array(parts[0])
        weighed = sum(w * np.float64(p) for w, p in zip(self._parts, parts, strict=True))
        return np.asarray(weighed, parts[0].dtype)

    @property
    def outputs(self) -> dict[Any, Any]:
        """The values that `outputs=` asked for, by name. Waits."""
        self._core.wait()
        found: dict[Any, Any] = {}
        for i, name in enumerate(self._names):
            value = self._core.result(1 + len(self._parts) + i)
            found[name] = value if self._tensors else fresh(value)
        return found

    @property
    def states(self) -> dict[str, Any]:
        """Final states by layer, of a step encoded with `states=`: what the next one takes. Waits.

        Each is h, or (h, c) of an LSTM, `(layers * D, N, H)`.
        """
        if self._sequence is None:
            raise ValueError("this step was encoded without states=")
        self._core.wait()
        first = 1 + len(self._parts) + len(self._names)
        count = len(self._sequence.results())
        return self._sequence.gather([fresh(self._core.result(first + i)) for i in range(count)])

    def add_done_callback(self, callback: Callable[[Step], None]) -> None:
        """Call `callback(step)` on the notifier thread once the step has finished."""
        if not callable(callback):
            raise TypeError(f"[Step] a callback is a function of the step, got {callback!r}")
        self._core.add_done_callback(lambda: callback(self))

    def __repr__(self) -> str:
        return f"Step({self.index}, {'done' if self.done() else 'queued'})"


def as_tensor(value: Any) -> Any:
    """What is given over DLPack, as a Tensor (its caller gets Tensors back); all else as it is."""
    if isinstance(value, (np.ndarray, _core.Tensor)) or not hasattr(value, "__dlpack__"):
        return value
    return _core.Tensor.from_dlpack(value)


def fresh(value: _core.Tensor) -> np.ndarray:
    """A result as an array of its own: float64 from float64 graphs, float32 from all others."""
    array = value.numpy()
    return array.astype(np.float64 if array.dtype == np.float64 else np.float32)
