"""Dropout."""

from __future__ import annotations

from typing import Any

from mpsnn import _check, ops
from mpsnn._core import ShapeError
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


class Dropout2d(Module):
    """Zeroes whole channels of an image with probability `p` in training, scales the rest.

    (MPSCNNDropout with a mask stride of (0, 0, 1); Tompson et al. 2015.) Drawn as by Dropout, with
    the channel in place of the element.

    Args:
        p: at least 0 and below 1.

    Raises:
        ValueError, TypeError: `p` is out of range or no number.
        ShapeError: the input is no image.
    """

    is_layer = True

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = _check.number("Dropout2d", "p", p, 0, 1, open_high=True)

    def forward(self, x: Any) -> Any:
        """`(N, H, W, C)` to the same."""
        if len(x.shape) != 4:
            layer = f"Dropout2d {x.tracer.path(self)}".rstrip()
            raise ShapeError(f"[{layer}] expected (N, H, W, C), got {x.shape}")
        if self.p == 0 or x.tracer.training(self) is False:
            return x
        return ops.apply("dropout", [x], {"rate": self.p, "spatial": True})[0]
