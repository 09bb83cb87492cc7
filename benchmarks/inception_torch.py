"""Inception V3 in torch.nn, as torchvision builds it (which need not be installed)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn as tnn
from torch.nn import functional as tf


class Basic(tnn.Module):
    def __init__(self, i: int, o: int, k: Any, s: int = 1, p: Any = 0) -> None:
        super().__init__()
        self.conv = tnn.Conv2d(i, o, k, s, p, bias=False)
        self.bn = tnn.BatchNorm2d(o, eps=0.001)

    def forward(self, x: Any) -> Any:
        return tf.relu(self.bn(self.conv(x)))


class Mixed(tnn.Module):
    """Branches of named convolutions over one input, concatenated.

    `branches`: for each, "pool" (maximum), or names that follow each other; "avg" averages before.
    A tuple as the last name is a fork: each of it, side by side.
    """

    def __init__(self, parts: dict[str, tuple[Any, ...]], branches: list[list[Any]]) -> None:
        super().__init__()
        for name, arguments in parts.items():
            setattr(self, name, Basic(*arguments))
        self.branches = branches

    def forward(self, x: Any) -> Any:
        made = []
        for branch in self.branches:
            y = x
            for name in branch:
                if name == "pool":
                    y = tf.max_pool2d(y, 3, 2)
                elif name == "avg":
                    y = tf.avg_pool2d(y, 3, 1, 1)
                elif isinstance(name, tuple):
                    y = torch.cat([getattr(self, one)(y) for one in name], 1)
                else:
                    y = getattr(self, name)(y)
            made.append(y)
        return torch.cat(made, 1)


WIDE, TALL = ((1, 7), 1, (0, 3)), ((7, 1), 1, (3, 0))


def mixed_a(i: int, pooled: int) -> Mixed:
    return Mixed(
        {"branch1x1": (i, 64, 1), "branch5x5_1": (i, 48, 1), "branch5x5_2": (48, 64, 5, 1, 2),
         "branch3x3dbl_1": (i, 64, 1), "branch3x3dbl_2": (64, 96, 3, 1, 1),
         "branch3x3dbl_3": (96, 96, 3, 1, 1), "branch_pool": (i, pooled, 1)},
        [["branch1x1"], ["branch5x5_1", "branch5x5_2"],
         ["branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"], ["avg", "branch_pool"]],
    )  # fmt: skip


def mixed_b(i: int) -> Mixed:
    return Mixed(
        {"branch3x3": (i, 384, 3, 2), "branch3x3dbl_1": (i, 64, 1),
         "branch3x3dbl_2": (64, 96, 3, 1, 1), "branch3x3dbl_3": (96, 96, 3, 2)},
        [["branch3x3"], ["branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"], ["pool"]],
    )  # fmt: skip


def mixed_c(i: int, c: int) -> Mixed:
    double = [f"branch7x7dbl_{k}" for k in range(1, 6)]
    return Mixed(
        {"branch1x1": (i, 192, 1), "branch7x7_1": (i, c, 1), "branch7x7_2": (c, c, *WIDE),
         "branch7x7_3": (c, 192, *TALL), double[0]: (i, c, 1), double[1]: (c, c, *TALL),
         double[2]: (c, c, *WIDE), double[3]: (c, c, *TALL), double[4]: (c, 192, *WIDE),
         "branch_pool": (i, 192, 1)},
        [["branch1x1"], ["branch7x7_1", "branch7x7_2", "branch7x7_3"], double,
         ["avg", "branch_pool"]],
    )  # fmt: skip


def mixed_d(i: int) -> Mixed:
    double = [f"branch7x7x3_{k}" for k in range(1, 5)]
    return Mixed(
        {"branch3x3_1": (i, 192, 1), "branch3x3_2": (192, 320, 3, 2), double[0]: (i, 192, 1),
         double[1]: (192, 192, *WIDE), double[2]: (192, 192, *TALL), double[3]: (192, 192, 3, 2)},
        [["branch3x3_1", "branch3x3_2"], double, ["pool"]],
    )  # fmt: skip


def mixed_e(i: int) -> Mixed:
    row, column = ((1, 3), 1, (0, 1)), ((3, 1), 1, (1, 0))
    return Mixed(
        {"branch1x1": (i, 320, 1), "branch3x3_1": (i, 384, 1),
         "branch3x3_2a": (384, 384, *row), "branch3x3_2b": (384, 384, *column),
         "branch3x3dbl_1": (i, 448, 1), "branch3x3dbl_2": (448, 384, 3, 1, 1),
         "branch3x3dbl_3a": (384, 384, *row), "branch3x3dbl_3b": (384, 384, *column),
         "branch_pool": (i, 192, 1)},
        [["branch1x1"], ["branch3x3_1", ("branch3x3_2a", "branch3x3_2b")],
         ["branch3x3dbl_1", "branch3x3dbl_2", ("branch3x3dbl_3a", "branch3x3dbl_3b")],
         ["avg", "branch_pool"]],
    )  # fmt: skip


class Aux(tnn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv0, self.conv1 = Basic(768, 128, 1), Basic(128, 768, 5)
        self.fc = tnn.Linear(768, classes)

    def forward(self, x: Any) -> Any:
        x = self.conv1(self.conv0(tf.avg_pool2d(x, 5, 3)))
        return self.fc(x.mean((2, 3)))


class Inception(tnn.Module):
    def __init__(self, classes: int, aux: bool) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Basic(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = Basic(32, 32, 3)
        self.Conv2d_2b_3x3 = Basic(32, 64, 3, 1, 1)
        self.Conv2d_3b_1x1 = Basic(64, 80, 1)
        self.Conv2d_4a_3x3 = Basic(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = (
            mixed_a(192, 32), mixed_a(256, 64), mixed_a(288, 64)
        )  # fmt: skip
        self.Mixed_6a = mixed_b(288)
        self.Mixed_6b, self.Mixed_6c = mixed_c(768, 128), mixed_c(768, 160)
        self.Mixed_6d, self.Mixed_6e = mixed_c(768, 160), mixed_c(768, 192)
        self.AuxLogits = Aux(classes) if aux else None
        self.Mixed_7a, self.Mixed_7b, self.Mixed_7c = mixed_d(768), mixed_e(1280), mixed_e(2048)
        self.fc = tnn.Linear(2048, classes)

    def forward(self, x: Any) -> Any:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(tf.max_pool2d(x, 3, 2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(tf.max_pool2d(x, 3, 2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        aux = self.AuxLogits(x) if self.AuxLogits is not None and self.training else None
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        logits = self.fc(x.mean((2, 3)))
        return logits if aux is None else (logits, aux)
