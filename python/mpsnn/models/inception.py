"""Inception V3 (Szegedy et al. 2015, arXiv 1512.00567), with torchvision's names."""

from __future__ import annotations

from typing import Any

from mpsnn import nn, ops
from mpsnn.models._parts import classes_of, mean_over_space, normal

Size = Any  # int or (height, width)


class BasicConv2d(nn.Module):
    """Convolution without bias, batch-norm, ReLU."""

    def __init__(
        self, inside: int, outside: int, size: Size, stride: int = 1, padding: Size = 0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            inside, outside, size, stride, padding, bias=False, weights=normal(0.1)
        )
        self.bn = nn.BatchNorm2d(outside, eps=0.001)

    def forward(self, x: Any) -> Any:
        """Images to images."""
        return ops.relu(self.bn(self.conv(x)))


def _wide(inside: int, outside: int) -> BasicConv2d:
    return BasicConv2d(inside, outside, (1, 7), padding=(0, 3))


def _tall(inside: int, outside: int) -> BasicConv2d:
    return BasicConv2d(inside, outside, (7, 1), padding=(3, 0))


def _averaged(x: Any) -> Any:
    return ops.avg_pool2d(x, 3, 1, 1)


class InceptionA(nn.Module):
    """Branches 1x1, 5x5, two 3x3 and pooling, at 35x35."""

    def __init__(self, inside: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = BasicConv2d(inside, 64, 1)
        self.branch5x5_1 = BasicConv2d(inside, 48, 1)
        self.branch5x5_2 = BasicConv2d(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = BasicConv2d(inside, 64, 1)
        self.branch3x3dbl_2 = BasicConv2d(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = BasicConv2d(96, 96, 3, padding=1)
        self.branch_pool = BasicConv2d(inside, pooled, 1)

    def forward(self, x: Any) -> Any:
        """Images to images of 224 + `pooled` channels."""
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return ops.concat([self.branch1x1(x), self.branch5x5_2(self.branch5x5_1(x)), double,
                           self.branch_pool(_averaged(x))])  # fmt: skip


class InceptionB(nn.Module):
    """From 35x35 to 17x17."""

    def __init__(self, inside: int) -> None:
        super().__init__()
        self.branch3x3 = BasicConv2d(inside, 384, 3, 2)
        self.branch3x3dbl_1 = BasicConv2d(inside, 64, 1)
        self.branch3x3dbl_2 = BasicConv2d(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = BasicConv2d(96, 96, 3, 2)

    def forward(self, x: Any) -> Any:
        """Images to images of 480 channels more."""
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return ops.concat([self.branch3x3(x), double, ops.max_pool2d(x, 3, 2)])


class InceptionC(nn.Module):
    """7x7 as 1x7 and 7x1, at 17x17; `narrow` channels between."""

    def __init__(self, inside: int, narrow: int) -> None:
        super().__init__()
        self.branch1x1 = BasicConv2d(inside, 192, 1)
        self.branch7x7_1 = BasicConv2d(inside, narrow, 1)
        self.branch7x7_2 = _wide(narrow, narrow)
        self.branch7x7_3 = _tall(narrow, 192)
        self.branch7x7dbl_1 = BasicConv2d(inside, narrow, 1)
        self.branch7x7dbl_2 = _tall(narrow, narrow)
        self.branch7x7dbl_3 = _wide(narrow, narrow)
        self.branch7x7dbl_4 = _tall(narrow, narrow)
        self.branch7x7dbl_5 = _wide(narrow, 192)
        self.branch_pool = BasicConv2d(inside, 192, 1)

    def forward(self, x: Any) -> Any:
        """Images to images of 768 channels."""
        single = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_1(x)
        for i in range(2, 6):
            double = getattr(self, f"branch7x7dbl_{i}")(double)
        return ops.concat([self.branch1x1(x), single, double, self.branch_pool(_averaged(x))])


class InceptionD(nn.Module):
    """From 17x17 to 8x8."""

    def __init__(self, inside: int) -> None:
        super().__init__()
        self.branch3x3_1 = BasicConv2d(inside, 192, 1)
        self.branch3x3_2 = BasicConv2d(192, 320, 3, 2)
        self.branch7x7x3_1 = BasicConv2d(inside, 192, 1)
        self.branch7x7x3_2 = _wide(192, 192)
        self.branch7x7x3_3 = _tall(192, 192)
        self.branch7x7x3_4 = BasicConv2d(192, 192, 3, 2)

    def forward(self, x: Any) -> Any:
        """Images to images of 512 channels more."""
        double = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        return ops.concat([self.branch3x3_2(self.branch3x3_1(x)), self.branch7x7x3_4(double),
                           ops.max_pool2d(x, 3, 2)])  # fmt: skip


class InceptionE(nn.Module):
    """Branches that end in 1x3 beside 3x1, at 8x8."""

    def __init__(self, inside: int) -> None:
        super().__init__()
        self.branch1x1 = BasicConv2d(inside, 320, 1)
        self.branch3x3_1 = BasicConv2d(inside, 384, 1)
        self.branch3x3_2a = BasicConv2d(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = BasicConv2d(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = BasicConv2d(inside, 448, 1)
        self.branch3x3dbl_2 = BasicConv2d(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = BasicConv2d(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = BasicConv2d(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = BasicConv2d(inside, 192, 1)

    def forward(self, x: Any) -> Any:
        """Images to images of 2048 channels."""
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        return ops.concat([
            self.branch1x1(x), self.branch3x3_2a(single), self.branch3x3_2b(single),
            self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double),
            self.branch_pool(_averaged(x)),
        ])  # fmt: skip


class InceptionAux(nn.Module):
    """The auxiliary head: a second classifier on 17x17, for training alone."""

    def __init__(self, inside: int, classes: int) -> None:
        super().__init__()
        self.conv0 = BasicConv2d(inside, 128, 1)
        self.conv1 = BasicConv2d(128, 768, 5)
        self.fc = nn.Linear(768, classes, weights=normal(0.001))

    def forward(self, x: Any) -> Any:
        """Images of at least 17x17 to logits."""
        return self.fc(mean_over_space(self.conv1(self.conv0(ops.avg_pool2d(x, 5, 3)))))


class InceptionV3(nn.Module):
    """The network of `inception_v3`."""

    def __init__(self, classes: int, aux_logits: bool, dropout: float) -> None:
        super().__init__()
        classes = classes_of("inception_v3", classes)
        self.Conv2d_1a_3x3 = BasicConv2d(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = BasicConv2d(32, 32, 3)
        self.Conv2d_2b_3x3 = BasicConv2d(32, 64, 3, padding=1)
        self.maxpool1 = nn.MaxPool2d(3, 2)
        self.Conv2d_3b_1x1 = BasicConv2d(64, 80, 1)
        self.Conv2d_4a_3x3 = BasicConv2d(80, 192, 3)
        self.maxpool2 = nn.MaxPool2d(3, 2)
        self.Mixed_5b = InceptionA(192, 32)
        self.Mixed_5c = InceptionA(256, 64)
        self.Mixed_5d = InceptionA(288, 64)
        self.Mixed_6a = InceptionB(288)
        self.Mixed_6b = InceptionC(768, 128)
        self.Mixed_6c = InceptionC(768, 160)
        self.Mixed_6d = InceptionC(768, 160)
        self.Mixed_6e = InceptionC(768, 192)
        self.AuxLogits: nn.Module | None = InceptionAux(768, classes) if aux_logits else None
        self.Mixed_7a = InceptionD(768)
        self.Mixed_7b = InceptionE(1280)
        self.Mixed_7c = InceptionE(2048)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(2048, classes, weights=normal(0.1))

    def forward(self, x: Any) -> Any:
        """`(N, H, W, 3)` to logits; in training with an auxiliary head (logits, its logits)."""
        training = x.tracer.training(self)
        for name in ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1",
                     "Conv2d_3b_1x1", "Conv2d_4a_3x3", "maxpool2", "Mixed_5b", "Mixed_5c",
                     "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e",
                     ):  # fmt: skip
            x = getattr(self, name)(x)
        aux = self.AuxLogits(x) if self.AuxLogits is not None and training else None
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        logits = self.fc(self.dropout(mean_over_space(x)))
        return logits if aux is None else (logits, aux)


def inception_v3(classes: int = 1000, aux_logits: bool = True, dropout: float = 0.5) -> InceptionV3:
    """Inception V3 for `(N, H, W, 3)` of at least 75x75, 299x299 with the auxiliary head.

    With the auxiliary head a TrainingGraph has two outputs, and takes two losses and targets:
    `loss=(nn.SoftmaxCrossEntropy(), nn.SoftmaxCrossEntropy()), loss_weights=(1, 0.4)`. An
    InferenceGraph leaves the head out.

    Args:
        classes: outputs.
        aux_logits: with the auxiliary head.
        dropout: rate before the last layer.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
    """
    if not isinstance(aux_logits, bool):
        raise TypeError(f"[inception_v3] aux_logits must be True or False, got {aux_logits!r}")
    return InceptionV3(classes, aux_logits, dropout)
