"""Tiny YOLO v2 (Redmon and Farhadi 2016, arXiv 1612.08242): the network, without its loss."""

from __future__ import annotations

from typing import Any

from mpsnn import _check, nn, ops
from mpsnn.models._parts import classes_of

CHANNELS = (16, 32, 64, 128, 256, 512, 1024, 1024)


class Block(nn.Module):
    """3x3 convolution without bias, batch-norm, leaky ReLU 0.1."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, 3, padding="same", bias=False)
        self.bn = nn.BatchNorm2d(outside)

    def forward(self, x: Any) -> Any:
        """Images to images."""
        return ops.leaky_relu(self.bn(self.conv(x)), 0.1)


class TinyYOLO(nn.Module):
    """The network of `tiny_yolo_v2`."""

    def __init__(self, classes: int, anchors: int) -> None:
        super().__init__()
        inside = 3
        for i, outside in enumerate(CHANNELS):
            setattr(self, f"block{i}", Block(inside, outside))
            inside = outside
        boxes = _check.integer("tiny_yolo_v2", "anchors", anchors)
        outside = boxes * (5 + classes_of("tiny_yolo_v2", classes))
        self.head = nn.Conv2d(inside, outside, 1)

    def forward(self, x: Any) -> Any:
        """`(N, 32 h, 32 w, 3)` to `(N, h, w, anchors * (5 + classes))`."""
        for i in range(len(CHANNELS)):
            x = getattr(self, f"block{i}")(x)
            if i < 5:
                x = ops.max_pool2d(x, 2)
            elif i == 5:
                x = ops.max_pool2d(x, 2, 1, "same")
        return self.head(x)


def tiny_yolo_v2(classes: int = 20, anchors: int = 5) -> TinyYOLO:
    """Tiny YOLO v2: boxes on a grid of one cell every 32 pixels, usually from 416x416.

    Args:
        classes: kinds of objects.
        anchors: boxes a cell.

    Raises:
        ValueError, TypeError: an argument is no positive integer.
    """
    return TinyYOLO(classes, anchors)
