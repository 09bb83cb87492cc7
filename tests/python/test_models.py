"""The models against twins in PyTorch with copied weights: names, logits, one step's gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import mpsnn
import numpy as np
import pytest
import torch
from mpsnn import models, nn
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


# Ours, the twin, shape of an image, batch. Sizes leave several values a channel everywhere.
Make = tuple[Callable[[], Any], Callable[[], Any], tuple[int, int, int], int]
MODELS: dict[str, Make] = {
    "digits": (lambda: models.digits(dropout=0.0), lambda: digits(28), (28, 28, 1), 8),
    "resnet18": (lambda: models.resnet18(10), lambda: ResNet18(10), (64, 64, 3), 8),
    "inception_v3": (lambda: models.inception_v3(10, aux_logits=False, dropout=0.0),
                     lambda: Inception(10, False), (139, 139, 3), 4),
    "inception_v3 aux": (lambda: models.inception_v3(10, dropout=0.0),
                         lambda: Inception(10, True), (299, 299, 3), 4),
    "tiny_yolo_v2": (lambda: models.tiny_yolo_v2(3, 2), lambda: Yolo(3, 2), (64, 96, 3), 4),
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
    elif getattr(model, "AuxLogits", None) is not None:
        losses, targets, weights = (losses, losses), (targets, targets), (1, 0.4)

    def gradients_of_twin(dtype: torch.dtype) -> dict[str, np.ndarray]:
        network = copy.deepcopy(twin).train().to(dtype)
        out = network(nchw(x).to(dtype))
        if isinstance(losses, nn.MSE):
            total = tf.mse_loss(out, nchw(targets).to(dtype))
        elif isinstance(targets, tuple):
            first, second = (tf.cross_entropy(o, torch.from_numpy(targets[0])) for o in out)
            total = first + 0.4 * second
        else:
            total = tf.cross_entropy(out, torch.from_numpy(targets))
        total.backward()
        return {n: p.grad.double().numpy() for n, p in network.named_parameters()}

    gradients, single = gradients_of_twin(torch.float64), gradients_of_twin(torch.float32)
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
    # float32 errs by more than the limit as well.
    norm = np.linalg.norm
    largest = max(norm(g) for g in gradients.values())
    for name, expected in gradients.items():
        scale = max(norm(expected), 1e-4 * largest)
        limit = max(1e-3 * scale, 10 * norm(single[name] - expected))
        assert norm(ours[name] - expected) < limit, name


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="classes"):
        models.resnet18(0)
    with pytest.raises(TypeError, match="aux_logits"):
        models.inception_v3(aux_logits=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="side"):
        models.digits(30)
    with pytest.raises(ValueError, match="anchors"):
        models.tiny_yolo_v2(anchors=0)
