"""ResNet-18 (He, Zhang, Ren, Sun 2015, arXiv 1512.03385)."""

from __future__ import annotations

from typing import Any

from mpsnn import nn, ops
from mpsnn.models._parts import classes_of, he_normal, mean_over_space


def _conv(inside: int, outside: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(
        inside, outside, size, stride, size // 2, bias=False, weights=he_normal
    )  # fmt: skip


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is 1x1 where the shape changes."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(inside, outside, 3, stride)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = _conv(outside, outside, 3)
        self.bn2 = nn.BatchNorm2d(outside)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inside != outside:
            self.downsample = nn.Sequential(
                _conv(inside, outside, 1, stride), nn.BatchNorm2d(outside)
            )

    def forward(self, x: Any) -> Any:
        """Images to images."""
        y = ops.relu(self.bn1(self.conv1(x)))
        return ops.relu(ops.add(self.bn2(self.conv2(y)), self.downsample(x)))


class ResNet(nn.Module):
    """A stem, four stages of `BasicBlock`, mean over space, one dense layer."""

    def __init__(self, blocks: tuple[int, int, int, int], classes: int) -> None:
        super().__init__()
        self.conv1 = _conv(3, 64, 7, 2)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inside = 64
        for i, count in enumerate(blocks):
            outside = 64 << i
            stage = [
                BasicBlock(inside if j == 0 else outside, outside, 2 if i > 0 and j == 0 else 1)
                for j in range(count)
            ]
            setattr(self, f"layer{i + 1}", nn.Sequential(*stage))
            inside = outside
        self.fc = nn.Linear(inside, classes_of("ResNet", classes))

    def forward(self, x: Any) -> Any:
        """`(N, H, W, 3)` to logits `(N, classes)`."""
        x = self.maxpool(ops.relu(self.bn1(self.conv1(x))))
        for i in range(1, 5):
            x = getattr(self, f"layer{i}")(x)
        return self.fc(mean_over_space(x))


def resnet18(classes: int = 1000) -> ResNet:
    """ResNet-18 for `(N, H, W, 3)`, usually 224x224.

    Args:
        classes: outputs.

    Raises:
        ValueError, TypeError: `classes` is no positive integer.
    """
    return ResNet((2, 2, 2, 2), classes)
