"""Tiny YOLO v2 and its loss in torch.nn: what `mpsnn.models.tiny_yolo_v2` and `nn.YOLO` compute."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn as tnn
from torch.nn import functional as tf

CHANNELS = (16, 32, 64, 128, 256, 512, 1024, 1024)
ANCHORS = [[1.08, 1.19], [3.42, 4.41], [6.63, 11.38], [9.42, 5.11], [16.62, 10.52]]


class TinyYOLO(tnn.Module):
    """Outputs (N, boxes (5 + classes), h, w)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        inside = 3
        self.convs, self.norms = tnn.ModuleList(), tnn.ModuleList()
        for outside in CHANNELS:
            self.convs.append(tnn.Conv2d(inside, outside, 3, padding=1, bias=False))
            self.norms.append(tnn.BatchNorm2d(outside))
            inside = outside
        self.head = tnn.Conv2d(inside, len(ANCHORS) * (5 + classes), 1)

    def forward(self, x: Any) -> Any:
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = tf.leaky_relu(norm(conv(x)), 0.1, inplace=True)
            if i < 5:
                x = tf.max_pool2d(x, 2)
            elif i == 5:
                x = tf.max_pool2d(tf.pad(x, (0, 1, 0, 1), value=-torch.inf), 2, 1)
        return self.head(x)


def iou(a: Any, b: Any, apart: Any) -> Any:
    """Overlap of boxes of sizes a and b whose centres lie `apart`."""
    low, high = torch.maximum(-a / 2, apart - b / 2), torch.minimum(a / 2, apart + b / 2)
    both = (high - low).clamp(min=0).prod(-1)
    return both / (a.prod(-1) + b.prod(-1) - both)


class Loss(tnn.Module):
    """The mean of each image's loss; targets are (N, h, w, boxes (5 + classes))."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors = torch.tensor(ANCHORS)

    def forward(self, x: Any, target: Any) -> Any:
        n, _, h, w = x.shape
        y = x.permute(0, 2, 3, 1).reshape(n, h, w, len(ANCHORS), -1)
        t = target.reshape(n, h, w, len(ANCHORS), -1)
        fit = iou(self.anchors.expand(t[..., 2:4].shape), t[..., 2:4], torch.zeros(2))
        most = fit == fit.max(-1, keepdim=True).values
        objects = (t[..., 4] > 0.5) & (most | (fit > 0.7))
        background = ~objects & (fit < 0.3)
        centre = torch.sigmoid(y[..., :2])
        with torch.no_grad():
            wanted = iou(torch.exp(y[..., 2:4]) * self.anchors, t[..., 2:4], t[..., :2] - centre)
            wanted = objects * wanted
        size = torch.log(t[..., 2:4] / self.anchors + 1e-5)
        place = 10 * ((centre - t[..., :2]) ** 2).sum(-1)
        place = place + 10 * tf.huber_loss(y[..., 2:4], size, reduction="none").sum(-1)
        place = place + 2 * (-t[..., 5:] * torch.log_softmax(y[..., 5:], -1)).sum(-1)
        belief = tf.binary_cross_entropy_with_logits(y[..., 4], wanted, reduction="none")
        count = objects.sum((1, 2, 3)).clamp(min=1)
        losses = (place * objects).sum((1, 2, 3)) / count
        losses = losses + (belief * (objects * 100 + background * 5)).sum((1, 2, 3)) / (h * w)
        return losses.mean()
