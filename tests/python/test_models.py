"""The models against twins in PyTorch with copied weights: names, logits, one step's gradients."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import mpsnn
import numpy as np
import pytest
import torch
from mpsnn import models, nn
from torch import nn as tnn
from torch.nn import functional as tf

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from inception_torch import Inception
from networks import NETWORKS, Framework


class Block(tnn.Module):
    def __init__(self, i: int, o: int, stride: int) -> None:
        super().__init__()
        self.conv1 = tnn.Conv2d(i, o, 3, stride, 1, bias=False)
        self.bn1 = tnn.BatchNorm2d(o)
        self.conv2 = tnn.Conv2d(o, o, 3, 1, 1, bias=False)
        self.bn2 = tnn.BatchNorm2d(o)
        self.downsample: Any = None
        if stride != 1 or i != o:
            self.downsample = tnn.Sequential(
                tnn.Conv2d(i, o, 1, stride, bias=False), tnn.BatchNorm2d(o)
            )

    def forward(self, x: Any) -> Any:
        y = self.bn2(self.conv2(tf.relu(self.bn1(self.conv1(x)))))
        return tf.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet18(tnn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = tnn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = tnn.BatchNorm2d(64)
        sizes = [(64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)]
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            tnn.Sequential(Block(i, o, s), Block(o, o, 1)) for i, o, s in sizes
        )
        self.fc = tnn.Linear(512, classes)

    def forward(self, x: Any) -> Any:
        x = tf.max_pool2d(tf.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


def digits(side: int) -> tnn.Sequential:
    return tnn.Sequential(
        tnn.Conv2d(1, 32, 5, padding=2), tnn.ReLU(), tnn.MaxPool2d(2),
        tnn.Conv2d(32, 64, 5, padding=2), tnn.ReLU(), tnn.MaxPool2d(2),
        tnn.Flatten(), tnn.Linear((side // 4) ** 2 * 64, 1024), tnn.ReLU(), tnn.Dropout(0.0),
        tnn.Linear(1024, 10),
    )  # fmt: skip


def conv_bn(i: int, o: int, k: int, stride: int = 1, groups: int = 1) -> list[tnn.Module]:
    return [tnn.Conv2d(i, o, k, stride, k // 2, groups=groups, bias=False), tnn.BatchNorm2d(o)]


class Residual(tnn.Module):
    def __init__(self, i: int, o: int, stride: int, wider: int) -> None:
        super().__init__()
        wide, self.adds = i * wider, stride == 1 and i == o
        first = [tnn.Sequential(*conv_bn(i, wide, 1), tnn.ReLU6())] if wider > 1 else []
        depthwise = tnn.Sequential(*conv_bn(wide, wide, 3, stride, wide), tnn.ReLU6())
        self.conv = tnn.Sequential(*first, depthwise, *conv_bn(wide, o, 1))

    def forward(self, x: Any) -> Any:
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNet(tnn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        parts: list[tnn.Module] = [tnn.Sequential(*conv_bn(3, 32, 3, 2), tnn.ReLU6())]
        i = 32
        for wider, o, count, stride in (
            (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
            (6, 160, 3, 2), (6, 320, 1, 1),
        ):  # fmt: skip
            for k in range(count):
                parts.append(Residual(i, o, stride if k == 0 else 1, wider))
                i = o
        parts.append(tnn.Sequential(*conv_bn(320, 1280, 1), tnn.ReLU6()))
        self.features = tnn.Sequential(*parts)
        self.classifier = tnn.Sequential(tnn.Dropout(0.0), tnn.Linear(1280, classes))

    def forward(self, x: Any) -> Any:
        return self.classifier(self.features(x).mean((2, 3)))


class Yolo(tnn.Module):
    def __init__(self, classes: int, anchors: int) -> None:
        super().__init__()
        channels = (3, 16, 32, 64, 128, 256, 512, 1024, 1024)
        for i in range(8):
            block = tnn.Module()
            block.conv = tnn.Conv2d(channels[i], channels[i + 1], 3, 1, 1, bias=False)
            block.bn = tnn.BatchNorm2d(channels[i + 1])
            setattr(self, f"block{i}", block)
        self.head = tnn.Conv2d(1024, anchors * (5 + classes), 1)

    def forward(self, x: Any) -> Any:
        for i in range(8):
            block = getattr(self, f"block{i}")
            x = tf.leaky_relu(block.bn(block.conv(x)), 0.1)
            if i < 5:
                x = tf.max_pool2d(x, 2)
            elif i == 5:
                x = tf.max_pool2d(tf.pad(x, (0, 1, 0, 1), value=-torch.inf), 2, 1)
        return self.head(x)


Make = tuple[Callable[[], Any], Callable[[], Any], tuple[int, int, int], int]


def benchmark(name: str) -> Make:
    side = {"mobilenet_v2": 64, "unet": 48, "convnext": 64}.get(name, 32)
    ours, theirs = (partial(NETWORKS[name].build, Framework(f)) for f in ("mpsnn", "torch"))
    return ours, theirs, (side, side, 3), 4


# Ours, the twin, shape of an image, batch. Sizes leave several values a channel everywhere.
MODELS: dict[str, Make] = {
    "digits": (lambda: models.digits(dropout=0.0), lambda: digits(28), (28, 28, 1), 8),
    "resnet18": (lambda: models.resnet18(10), lambda: ResNet18(10), (64, 64, 3), 8),
    "mobilenet_v2": (lambda: models.mobilenet_v2(10, dropout=0.0), lambda: MobileNet(10),
                     (64, 64, 3), 8),
    "inception_v3": (lambda: models.inception_v3(10, aux_logits=False, dropout=0.0),
                     lambda: Inception(10, False), (139, 139, 3), 4),
    "inception_v3 aux": (lambda: models.inception_v3(10, dropout=0.0),
                         lambda: Inception(10, True), (299, 299, 3), 4),
    "tiny_yolo_v2": (lambda: models.tiny_yolo_v2(3, 2), lambda: Yolo(3, 2), (64, 96, 3), 4),
    **{f"benchmark {name}": benchmark(name) for name in NETWORKS},
}  # fmt: skip


@pytest.fixture(scope="module", params=MODELS)
def pair(request: Any) -> tuple[Any, Any, Any, Any]:
    """A model, its twin with the same weights, images, targets."""
    make, make_twin, shape, batch = MODELS[request.param]
    mpsnn.manual_seed(5)
    model, twin = make(), make_twin()
    rng = np.random.default_rng(5)
    for name, norm in model.named_modules():
        if not isinstance(norm, nn.BatchNorm2d):
            continue
        size = norm.bias.shape
        # Inputs of ReLUs on both sides, none so near to 0 that rounding decides; sums are above.
        sign = 1 if name.endswith(("bn2", "downsample.1")) else rng.choice([-1, 1], size)
        norm.weight.assign(rng.uniform(0.1, 0.3, size).astype(np.float32))
        norm.bias.assign((sign * rng.uniform(2.5, 3.5, size)).astype(np.float32))
        norm.running_mean.assign(rng.uniform(-0.2, 0.2, size).astype(np.float32))
        norm.running_var.assign(rng.uniform(0.5, 1.5, size).astype(np.float32))
    state = model.torch_state_dict(shape)
    assert state.keys() == twin.state_dict().keys()
    twin.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in state.items()})
    x = rng.standard_normal((batch, *shape)).astype(np.float32)
    return model, twin, x, rng


def nchw(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


def test_logits(pair: Any) -> None:
    model, twin, x, _ = pair
    with torch.no_grad():
        expected = twin.eval()(nchw(x)).numpy()
    if expected.ndim == 4:
        expected = np.moveaxis(expected, 1, -1)
    found = mpsnn.InferenceGraph(model, x.shape[1:], len(x), device="cpu")(x)
    assert relative(found, expected) < 1e-4


def test_gradients_of_a_training_step(pair: Any) -> None:
    model, twin, x, rng = pair
    losses: Any = nn.SoftmaxCrossEntropy()
    targets: Any = rng.integers(0, 10, len(x))
    weights = None
    if "head.weight" in dict(model.named_parameters()):  # a map of numbers
        losses = nn.MSE()
        shape = mpsnn.InferenceGraph(model, x.shape[1:], len(x), device="cpu")(x).shape
        targets = rng.standard_normal(shape).astype(np.float32)
    elif "up0.weight" in dict(model.named_parameters()):  # a label a pixel
        targets = rng.integers(0, 5, x.shape[:3])
    elif getattr(model, "AuxLogits", None) is not None:
        losses, targets, weights = (losses, losses), (targets, targets), (1, 0.4)

    def gradients_of_twin(dtype: torch.dtype, noise: float = 0) -> dict[str, np.ndarray]:
        network = copy.deepcopy(twin).train().to(dtype)
        out = network(
            nchw(x * (1 + noise * rng.choice([-1, 1], x.shape)).astype(x.dtype)).to(dtype)
        )
        if isinstance(losses, nn.MSE):
            total = tf.mse_loss(out, nchw(targets).to(dtype))
        elif isinstance(targets, tuple):
            first, second = (tf.cross_entropy(o, torch.from_numpy(targets[0])) for o in out)
            total = first + 0.4 * second
        else:
            total = tf.cross_entropy(out, torch.from_numpy(targets))
        total.backward()
        return {n: p.grad.double().numpy() for n, p in network.named_parameters()}

    gradients = gradients_of_twin(torch.float64)
    singles = [gradients_of_twin(torch.float32, noise) for noise in (0, 1e-7, 1e-7, 1e-7)]
    names = [name for name, _ in model.named_parameters()]
    graph = mpsnn.TrainingGraph(
        model, losses, None, x.shape[1:], len(x), device="cpu", seed=0, loss_weights=weights,
        outputs=[f"{name}:grad" for name in names],
    )  # fmt: skip
    found = graph.encode(x, targets).outputs
    # As the twin's arrays: by copies of the model whose weights are the gradients.
    kept = model.state_dict()
    model.load_state_dict({n: found[f"{n}:grad"] for n in names}, strict=False)
    ours = model.torch_state_dict(x.shape[1:])
    model.load_state_dict(kept)
    # Where rounding decides a near-tie of a max-pooling, terms go elsewhere, and PyTorch's own
    # float32 errs by more than the limit as well, if not always at the same place.
    norm = np.linalg.norm
    largest = max(norm(g) for g in gradients.values())
    for name, expected in gradients.items():
        # At 299x299 there are many near-ties; the trunk is the smaller network's to check.
        if weights is not None and not name.startswith(("AuxLogits", "Mixed_7", "fc")):
            continue
        scale = max(norm(expected), 1e-4 * largest)
        limit = max(1e-3 * scale, 10 * max(norm(s[name] - expected) for s in singles))
        assert norm(ours[name] - expected) < limit, name


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="classes"):
        models.resnet18(0)
    with pytest.raises(ValueError, match="classes"):
        models.mobilenet_v2(0)
    with pytest.raises(TypeError, match="aux_logits"):
        models.inception_v3(aux_logits=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="side"):
        models.digits(30)
    with pytest.raises(ValueError, match="anchors"):
        models.tiny_yolo_v2(anchors=0)
