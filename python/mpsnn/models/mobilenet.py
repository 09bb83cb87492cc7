"""MobileNet V2 (Sandler et al. 2018, arXiv 1801.04381), with torchvision's names."""

from __future__ import annotations

from typing import Any

import numpy as np

from mpsnn import nn, ops
from mpsnn.models._parts import classes_of, he_normal, mean_over_space, normal

# Expansion, channels, blocks, stride of the first.
STAGES = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
    (6, 320, 1, 1),
)  # fmt: skip


def _conv(
    inside: int, outside: int, size: int, stride: int = 1, groups: int = 1
) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    convolution = nn.Conv2d(
        inside, outside, size, stride, size // 2, groups=groups, bias=False, weights=he_normal
    )
    return convolution, nn.BatchNorm2d(outside)


def _conv_relu6(*arguments: int) -> nn.Sequential:
    return nn.Sequential(*_conv(*arguments), nn.ReLUN())


class InvertedResidual(nn.Module):
    """1x1 to more channels, 3x3 on each of them, 1x1 to few; added to the input if shapes agree."""

    def __init__(self, inside: int, outside: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inside * expansion
        self.adds = stride == 1 and inside == outside
        widen = [] if expansion == 1 else [_conv_relu6(inside, wide, 1)]
        self.conv = nn.Sequential(
            *widen, _conv_relu6(wide, wide, 3, stride, wide), *_conv(wide, outside, 1)
        )

    def forward(self, x: Any) -> Any:
        """Images to images."""
        y = self.conv(x)
        return ops.add(x, y) if self.adds else y


class MobileNetV2(nn.Module):
    """The network of `mobilenet_v2`."""

    def __init__(self, classes: int, dropout: float) -> None:
        super().__init__()
        inside = 32
        layers: list[nn.Module] = [_conv_relu6(3, inside, 3, 2)]
        for expansion, outside, count, stride in STAGES:
            for i in range(count):
                layers.append(InvertedResidual(inside, outside, stride if i == 0 else 1, expansion))
                inside = outside
        layers.append(_conv_relu6(inside, 1280, 1))
        self.features = nn.Sequential(*layers)
        classes = classes_of("mobilenet_v2", classes)
        dense = nn.Linear(1280, classes, weights=normal(0.01))
        assert dense.bias is not None
        dense.bias.assign(np.zeros(classes, np.float32))
        self.classifier = nn.Sequential(nn.Dropout(dropout), dense)

    def forward(self, x: Any) -> Any:
        """`(N, H, W, 3)` to logits `(N, classes)`."""
        return self.classifier(mean_over_space(self.features(x)))


def mobilenet_v2(classes: int = 1000, dropout: float = 0.2) -> MobileNetV2:
    """MobileNet V2 for `(N, H, W, 3)`, usually 224x224.

    Args:
        classes: outputs.
        dropout: rate before the dense layer.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
    """
    return MobileNetV2(classes, dropout)
