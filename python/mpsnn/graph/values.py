"""LossLabels and StateBatch: what a loss takes, and what a node leaves for its gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class LossLabels:
    """Targets of a loss, and weights of images or elements (MPSCNNLossLabels).

    Taken by `encode` wherever targets are.

    Args:
        targets: class indices, soft labels, or values of the output's shape.
        weights: `(N,)`, or of the shape of the loss's elements or positions; ones by default.
    """

    targets: Any
    weights: Any = None


@dataclass(frozen=True)
class StateBatch:
    """What a forward node leaves for its gradient (MPSStateBatch): opaque, one state an image.

    Attributes:
        layer: the node that makes it.
        per_image: False where the node makes one state a batch, which stands for every image.
    """

    layer: str
    per_image: bool


__all__ = ["LossLabels", "StateBatch"]
