"""Networks of the literature at small sizes, each written once for mpsnn and for PyTorch.

`Framework` holds what the two name differently. Sizes are those of a small data set, not of the
papers: `NETWORKS` gives them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class Framework:
    """`mpsnn.nn` or `torch.nn`, and the functions of which name or axis differs."""

    def __init__(self, name: str) -> None:
        self.nn: Any = importlib.import_module(f"{name}.nn")
        package: Any = importlib.import_module(name)
        self.concat: Callable[[list[Any]], Any]
        self.mean: Callable[[Any], Any]
        if name == "mpsnn":
            ops: Any = importlib.import_module("mpsnn.ops")
            self.concat = self.nn.concat
            self.mean = lambda x: ops.mean(x, (1, 2))
        else:
            self.concat = lambda parts: package.cat(parts, 1)
            self.mean = lambda x: x.mean((2, 3))

    def module(self, children: dict[str, Any], forward: Callable[..., Any]) -> Any:
        """Make a module of these children: `forward(module, x)`."""
        kind = type("Block", (self.nn.Module,), {"forward": forward})
        made = kind()
        for name, child in children.items():
            setattr(made, name, child)
        return made

    def unit(
        self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1,
        relu: bool = True,
    ) -> Any:  # fmt: skip
        """Return a convolution, its batch norm and maybe a ReLU."""
        nn = self.nn
        conv = nn.Conv2d(
            inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False
        )
        return nn.Sequential(conv, nn.BatchNorm2d(outputs), *([nn.ReLU()] if relu else []))

    def head(self, channels: int, classes: int) -> Any:
        """Return the mean over the image, then a dense layer."""
        dense = self.nn.Linear(channels, classes)
        return self.module({"dense": dense}, lambda m, x: m.dense(self.mean(x)))


def resnet(f: Framework, widths: tuple[int, ...], blocks: int) -> Any:
    """Return a ResNet of 3x3 pairs (He 2016); the first stage keeps the picture's size."""

    def block(inputs: int, outputs: int, stride: int) -> Any:
        same = stride == 1 and inputs == outputs
        children = {
            "first": f.unit(inputs, outputs, 3, stride),
            "second": f.unit(outputs, outputs, relu=False),
            "relu": f.nn.ReLU(),
        }
        if same:
            return f.module(children, lambda m, x: m.relu(m.second(m.first(x)) + x))
        children["shortcut"] = f.unit(inputs, outputs, 1, stride, relu=False)
        return f.module(children, lambda m, x: m.relu(m.second(m.first(x)) + m.shortcut(x)))

    layers, channels = [f.unit(3, widths[0])], widths[0]
    for stage, width in enumerate(widths):
        for i in range(blocks):
            layers.append(block(channels, width, 2 if stage and not i else 1))
            channels = width
    return f.nn.Sequential(*layers, f.head(channels, 10))


def mobilenet_v2(f: Framework) -> Any:
    """Return MobileNetV2 (Sandler 2018), with ReLU for ReLU6."""

    def block(inputs: int, outputs: int, stride: int, factor: int) -> Any:
        wide = inputs * factor
        layers = [f.unit(inputs, wide, 1)] if factor > 1 else []
        layers += [f.unit(wide, wide, 3, stride, wide), f.unit(wide, outputs, 1, relu=False)]
        body = f.nn.Sequential(*layers)
        if stride > 1 or inputs != outputs:
            return body
        return f.module({"body": body}, lambda m, x: x + m.body(x))

    layers, channels = [f.unit(3, 32, 3, 2)], 32
    for factor, width, count, stride in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):  # fmt: skip
        for i in range(count):
            layers.append(block(channels, width, 1 if i else stride, factor))
            channels = width
    return f.nn.Sequential(*layers, f.unit(channels, 1280, 1), f.head(1280, 10))


def unet(f: Framework) -> Any:
    """Return a U-Net (Ronneberger 2015) of 16 to 128 channels, padded, with batch norm."""
    nn, widths = f.nn, (16, 32, 64, 128)

    def pair(inputs: int, outputs: int) -> Any:
        return nn.Sequential(f.unit(inputs, outputs), f.unit(outputs, outputs))

    children = {"pool": nn.MaxPool2d(2), "classes": nn.Conv2d(widths[0], 5, 1)}
    for i, width in enumerate(widths):
        children[f"down{i}"] = pair(widths[i - 1] if i else 3, width)
    for i in range(3):
        children[f"up{i}"] = nn.ConvTranspose2d(widths[i + 1], widths[i], 2, stride=2)
        children[f"join{i}"] = pair(2 * widths[i], widths[i])

    def forward(m: Any, x: Any) -> Any:
        kept = []
        for i in range(4):
            x = getattr(m, f"down{i}")(m.pool(x) if i else x)
            kept.append(x)
        for i in (2, 1, 0):
            x = getattr(m, f"join{i}")(f.concat([kept[i], getattr(m, f"up{i}")(x)]))
        return m.classes(x)

    return f.module(children, forward)


def densenet(f: Framework) -> Any:
    """Return a DenseNet-BC (Huang 2017) of three blocks of eight layers, growth 12."""
    nn, growth = f.nn, 12

    def before(channels: int, outputs: int, kernel: int) -> list[Any]:
        conv = nn.Conv2d(channels, outputs, kernel, padding=kernel // 2, bias=False)
        return [nn.BatchNorm2d(channels), nn.ReLU(), conv]

    def layer(channels: int) -> Any:
        body = nn.Sequential(*before(channels, 4 * growth, 1), *before(4 * growth, growth, 3))
        return f.module({"body": body}, lambda m, x: f.concat([x, m.body(x)]))

    layers, channels = [nn.Conv2d(3, 24, 3, padding=1, bias=False)], 24
    for block in range(3):
        for _ in range(8):
            layers.append(layer(channels))
            channels += growth
        if block < 2:
            layers += [*before(channels, channels // 2, 1), nn.AvgPool2d(2)]
            channels //= 2
    return nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU(), f.head(channels, 10))


def vgg(f: Framework) -> Any:
    """Return a VGG (Simonyan 2015) of ten layers, without batch norm and dropout."""
    nn = f.nn
    layers, channels = [], 3
    for width in (64, 128, 256, 512):
        for _ in range(2):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    dense = [nn.Linear(2048, 512), nn.ReLU(), nn.Linear(512, 10)]
    return nn.Sequential(*layers, nn.Flatten(), *dense)


def convnext(f: Framework) -> Any:
    """Return two stages of a ConvNeXt (Liu 2022), normalised over the whole image."""
    nn = f.nn

    def block(channels: int) -> Any:
        body = nn.Sequential(
            nn.Conv2d(channels, channels, 7, padding=3, groups=channels),
            nn.GroupNorm(1, channels),
            nn.Conv2d(channels, 4 * channels, 1), nn.GELU(), nn.Conv2d(4 * channels, channels, 1),
        )  # fmt: skip
        return f.module({"body": body}, lambda m, x: x + m.body(x))

    return nn.Sequential(
        nn.Conv2d(3, 48, 4, stride=4), block(48), block(48),
        nn.Conv2d(48, 96, 2, stride=2), block(96), block(96), block(96), f.head(96, 10),
    )  # fmt: skip


@dataclass(frozen=True)
class Network:
    """A network, the side of its pictures (of 3 channels), its batch, and what it labels."""

    build: Callable[[Framework], Any]
    side: int
    batch: int
    classes: int = 10
    pixels: bool = False  # a label a pixel


NETWORKS = {
    "resnet18": Network(lambda f: resnet(f, (64, 128, 256, 512), 2), 32, 32),
    "resnet20": Network(lambda f: resnet(f, (16, 32, 64), 3), 32, 128),
    "mobilenet_v2": Network(mobilenet_v2, 128, 16),
    "unet": Network(unet, 96, 8, classes=5, pixels=True),
    "densenet": Network(densenet, 32, 64),
    "vgg": Network(vgg, 32, 64),
    "convnext": Network(convnext, 96, 16),
}
