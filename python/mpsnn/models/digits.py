"""The handwritten-digits network of WWDC 2018, talk 609."""

from __future__ import annotations

from mpsnn import nn
from mpsnn.models._parts import classes_of


def digits(side: int = 28, classes: int = 10, dropout: float = 0.5) -> nn.Sequential:
    """Two 5x5 convolutions with max-poolings, dense 1024, dense `classes`.

    Takes `(N, side, side, 1)`, returns logits `(N, classes)`.

    Args:
        side: of the pictures, in pixels, a multiple of 4.
        classes: outputs.
        dropout: rate behind the dense layer of 1024.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
    """
    if not isinstance(side, int) or side < 4 or side % 4:
        raise ValueError(f"[digits] side must be a multiple of 4, got {side!r}")
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding="same"), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding="same"), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(side // 4 * (side // 4) * 64, 1024), nn.ReLU(),
        nn.Dropout(dropout), nn.Linear(1024, classes_of("digits", classes)),
    )  # fmt: skip
