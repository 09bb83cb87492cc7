"""Data sources: weights that are loaded when a graph needs them (MPSCNNConvolutionDataSource)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpsnn import _check, _core


@dataclass(frozen=True, eq=False)
class WeightsAndBias:
    """Weights or gradients of one layer; `bias` is None where the layer has none."""

    weights: Any
    bias: Any = None


class DataSource:
    """Gives a layer its weights. Subclass it and pass it as `weights=`.

    `load` is called before the arrays are asked for and `purge` after it; while graphs are compiled
    at most one source is loaded at a time.

    A subclass may define `update(gradients, source)`, both `WeightsAndBias`: it is called on the
    host in each update of a training graph that has an optimizer, in place of that optimizer, and
    returns the new `WeightsAndBias`, or None to leave them.

    The weights of a recurrent layer, and their gradients, are a dict of all its arrays by name.
    """

    def load(self) -> None:
        """Make the arrays available."""

    def purge(self) -> None:
        """Give their memory back."""

    def weights(self) -> Any:
        """The weight in the layer's canonical layout."""
        raise NotImplementedError(f"{type(self).__name__} defines no weights")

    def bias(self) -> Any:
        """The bias, or None for zeros."""
        return None


class SafetensorsSource(DataSource):
    """`name.weight` and `name.bias` of a safetensors file, read when they are needed.

    Args:
        path: the file; it is opened by `load` only.
        name: path of the layer in the file, such as "backbone.0".

    Raises:
        FormatError: the file is damaged. ValueError: it has no such array.
        TypeError: `path` is no path or `name` no text.
    """

    def __init__(self, path: str | os.PathLike[str], name: str) -> None:
        self.path = _check.path("SafetensorsSource", path)
        self.name = _check.text("SafetensorsSource", "name", name)
        self._arrays: dict[str, np.ndarray] | None = None

    def load(self) -> None:
        """Read the two arrays, and of the rest of the file its header alone."""
        key, bias = f"{self.name}.weight", f"{self.name}.bias"
        tensors, _ = _core.read_safetensors(self.path, [key, bias])
        if key not in tensors:
            raise ValueError(f"{self.path}: there is no array {key!r}")
        kept = {"weights": tensors[key], "bias": tensors.get(bias)}
        self._arrays = {k: np.asarray(v) for k, v in kept.items() if v is not None}

    def purge(self) -> None:
        """Forget them."""
        self._arrays = None

    def weights(self) -> np.ndarray:
        """The weight."""
        return self._loaded()["weights"]

    def bias(self) -> np.ndarray | None:
        """The bias, if the file has one."""
        return self._loaded().get("bias")

    def _loaded(self) -> dict[str, np.ndarray]:
        if self._arrays is None:
            raise ValueError(f"{self.path}: {self.name} is not loaded")
        return self._arrays


__all__ = ["DataSource", "SafetensorsSource", "WeightsAndBias"]
