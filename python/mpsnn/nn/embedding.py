"""Embedding."""

from __future__ import annotations

from typing import Any

import numpy as np

from mpsnn import _check, ops
from mpsnn._core import DTypeError, ShapeError
from mpsnn._random import generator
from mpsnn.nn.module import Module, Parameter


class Embedding(Module):
    """Rows of a weight `(num_embeddings, embedding_dim)` by integer indices, as PyTorch's.

    Its input must be an input of the graph; indices are checked when a step is encoded. The
    gradient is zero in rows that no index of the batch names.

    Args:
        num_embeddings: rows; indices are in 0..num_embeddings-1.
        embedding_dim: size of a row.
        padding_idx: a row of zeros at first that has no gradient.
        weights: an array or `f(shape, generator)` instead of the normal distribution.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
        ShapeError, DTypeError: `weights` has another shape or type.
    """

    is_layer = True

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, *,
        weights: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        me = "Embedding"
        self.num_embeddings = _check.integer(me, "num_embeddings", num_embeddings)
        self.embedding_dim = _check.integer(me, "embedding_dim", embedding_dim)
        self.padding_idx = padding_idx
        if padding_idx is not None:
            _check.integer(me, "padding_idx", padding_idx, 0, self.num_embeddings - 1)
        shape = (self.num_embeddings, self.embedding_dim)
        if weights is None:
            value = generator().standard_normal(shape, np.float32)
            if padding_idx is not None:
                value[padding_idx] = 0
        else:
            value = np.asarray(weights(shape, generator()) if callable(weights) else weights)
        if value.shape != shape:
            raise ShapeError(f"[{me}] weights must be {shape}, got {value.shape}")
        if value.dtype.kind != "f":
            raise DTypeError(f"[{me}] weights must be floating, got {value.dtype}")
        self.weight = Parameter(value)

    def forward(self, x: Any) -> Any:
        """`(N, ...)` integers to `(N, ..., embedding_dim)`."""
        attrs = {"padding": -1 if self.padding_idx is None else self.padding_idx}
        return ops.apply("embedding", [x, self.weight], attrs, indices={0: self.num_embeddings})[0]
