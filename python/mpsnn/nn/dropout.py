"""Dropout."""

from __future__ import annotations

from typing import Any

from mpsnn import _check, ops
from mpsnn.nn.module import Module


class Dropout(Module):
    """Zeroes elements with probability `p` in training and scales the rest by 1 / (1 - p).

    (MPSCNNDropout with keepProbability 1 - p; Srivastava et al. 2014.) The mask is drawn by Philox
    from the graph's seed, the layer's path, the step, the image and the element.

    Args:
        p: at least 0 and below 1.

    Raises:
        ValueError, TypeError: `p` is out of range or no number.
    """

    is_layer = True

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = _check.number("Dropout", "p", p, 0, 1, open_high=True)

    def forward(self, x: Any) -> Any:
        """Any shape with a batch axis first."""
        if self.p == 0 or x.tracer.training(self) is False:
            return x
        return ops.apply("dropout", [x], {"rate": self.p})[0]
