"""The benchmarks' networks in mpsnn, PyTorch and JAX; run as a program, it is a worker.

A trainer repeats one step on one batch that lies in the framework's own memory (mpsnn's `encode`
takes a numpy array, and copies it). `step()` queues a step, `finish(handle)` waits for it.

* `digits`: the talk's network on 28x28 pictures, dropout 0.5, Adam 1e-3.
* `mlp`: 64-64-10 with a ReLU, SGD 0.1 with momentum 0.9.
* `inception`: Inception V3 without auxiliary head, 299x299 pictures, 1000 classes, SGD 0.001 with
  momentum 0.9; `inference` runs the same network forward, in evaluation mode;
* `yolo`: tiny YOLO v2, 416x416 pictures, 5 anchors, 20 classes, its loss, SGD 1e-4 and momentum;
* those of `networks.py`: SGD 0.01 with momentum 0.9.
"""

from __future__ import annotations

import importlib
import io
import json
import math
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from common import Growth, Variant, limit_cpus, private_stdout
from networks import NETWORKS, Framework


class Trainer(Protocol):
    """One workload in one framework, ready to run."""

    def step(self) -> Any:
        """Queue a training step; return what `finish` waits for."""

    def finish(self, handle: Any) -> float:
        """Wait for a step; return its loss."""


def make_batch(workload: str, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw seeded pictures (N, H, W, C) or rows (N, 64), and labels (N,) or YOLO's targets."""
    random = np.random.default_rng(0)
    if workload == "yolo":
        return random.random((batch, 416, 416, 3), np.float32), yolo_targets(random, batch)
    if workload in NETWORKS:
        n = NETWORKS[workload]
        pictures = random.random((batch, n.side, n.side, 3), np.float32)
        labels = (batch, n.side, n.side) if n.pixels else (batch,)
        return pictures, random.integers(0, n.classes, labels)
    shape = {"digits": (28, 28, 1), "mlp": (64,)}.get(workload, (299, 299, 3))
    classes = 10 if workload in ("digits", "mlp") else 1000
    return random.random((batch, *shape), np.float32), random.integers(0, classes, batch)


ANCHORS = [[1.08, 1.19], [3.42, 4.41], [6.63, 11.38], [9.42, 5.11], [16.62, 10.52]]


def yolo_targets(random: np.random.Generator, batch: int) -> np.ndarray:
    """Draw eight boxes a picture, of 20 classes, on a grid of 13 x 13 cells."""
    targets = np.zeros((batch, 13, 13, len(ANCHORS), 25), np.float32)
    for image in targets:
        for place in random.choice(169, 8, replace=False):
            cell = image[divmod(int(place), 13)]
            cell[:, :2] = random.random(2)
            cell[:, 2:4] = 0.7 + 8 * random.random(2)
            cell[:, 4] = 1
            cell[:, 5 + random.integers(20)] = 1
    return targets.reshape(batch, 13, 13, -1)


def mpsnn_network(workload: str) -> Any:
    """Build the workload's network in mpsnn."""
    nn: Any = importlib.import_module("mpsnn.nn")
    if workload in NETWORKS:
        return NETWORKS[workload].build(Framework("mpsnn"))
    if workload in ("inception", "inference"):
        return importlib.import_module("mpsnn.models").inception_v3(aux_logits=False)
    if workload == "yolo":
        return importlib.import_module("mpsnn.models").tiny_yolo_v2(20, len(ANCHORS))
    if workload == "mlp":
        return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding="same"), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding="same"), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(7 * 7 * 64, 1024), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(1024, 10),
    )  # fmt: skip


SGD_RATES = {"mlp": 0.1, "inception": 0.001, "yolo": 1e-4, **dict.fromkeys(NETWORKS, 0.01)}


class MpsnnTrainer:
    """mpsnn as it is shipped: finite guard on, number of threads given for `digits` only."""

    def __init__(self, workload: str, batch: int, variant: Variant) -> None:
        mpsnn: Any = importlib.import_module("mpsnn")
        if workload != "mlp":
            mpsnn.set_num_threads(variant.threads)
        mpsnn.manual_seed(0)
        self.x, self.y = make_batch(workload, batch)
        optimizer = (
            mpsnn.optim.Adam(1e-3)
            if workload == "digits"
            else mpsnn.optim.SGD(SGD_RATES[workload], momentum=0.9)
        )
        self.model = mpsnn_network(workload)
        self.graph = mpsnn.TrainingGraph(
            self.model, optimizer=optimizer, input_shape=self.x.shape[1:], batch_size=batch,
            loss=mpsnn.nn.YOLO(ANCHORS) if workload == "yolo" else mpsnn.nn.SoftmaxCrossEntropy(),
            device="cpu", dtype=variant.dtype, seed=0, recompute=variant.mode == "recompute",
        )  # fmt: skip

    def step(self) -> Any:
        return self.graph.encode(self.x, self.y)

    def finish(self, handle: Any) -> float:
        return float(handle.loss)


class MpsnnPredictor:
    """mpsnn's forward pass; `finish` returns the first logit."""

    def __init__(self, workload: str, batch: int, variant: Variant) -> None:
        mpsnn: Any = importlib.import_module("mpsnn")
        mpsnn.set_num_threads(variant.threads)
        mpsnn.manual_seed(0)
        self.x, _ = make_batch(workload, batch)
        self.graph = mpsnn.InferenceGraph(
            mpsnn_network(workload), self.x.shape[1:], batch, device="cpu"
        )

    def step(self) -> Any:
        return self.graph(self.x)

    def finish(self, handle: Any) -> float:
        return float(handle[0, 0])


def torch_network(workload: str) -> Any:
    """Build the workload's network in PyTorch."""
    nn: Any = importlib.import_module("torch.nn")
    if workload in NETWORKS:
        return NETWORKS[workload].build(Framework("torch"))
    if workload in ("inception", "inference"):
        return importlib.import_module("inception_torch").Inception(1000, False)
    if workload == "yolo":
        return importlib.import_module("yolo_torch").TinyYOLO(20)
    if workload == "mlp":
        return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 7 * 7, 1024), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(1024, 10),
    )  # fmt: skip


class TorchTrainer:
    """PyTorch as its tutorials write it: eager, channels-last, or the forward and loss compiled.

    In halves, forward and loss are under `torch.autocast`.
    """

    def __init__(self, workload: str, batch: int, variant: Variant) -> None:
        torch: Any = importlib.import_module("torch")
        torch.set_num_threads(variant.threads)
        torch.manual_seed(0)
        self.channels_last = variant.mode == "channels-last"
        self.torch = torch
        self.model = torch_network(workload)
        if self.channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)
        x, y = make_batch(workload, batch)
        self.x, self.y = self.images(x), torch.from_numpy(y)
        criterion = (
            importlib.import_module("yolo_torch").Loss()
            if workload == "yolo"
            else torch.nn.CrossEntropyLoss()
        )

        def loss(x: Any, y: Any) -> Any:
            if variant.dtype == "float32":
                return criterion(self.model(x), y)
            with torch.autocast("cpu", getattr(torch, variant.dtype)):
                return criterion(self.model(x), y)

        self.loss: Any = loss
        if variant.mode == "compile":
            self.loss = torch.compile(self.loss)
        fused = {"fused": True} if variant.fused else {}
        self.optimizer = (
            torch.optim.Adam(self.model.parameters(), 1e-3, **fused)
            if workload == "digits"
            else torch.optim.SGD(
                self.model.parameters(), SGD_RATES[workload], momentum=0.9, **fused
            )
        )

    def images(self, x: np.ndarray) -> Any:
        """Turn pictures (N, H, W, C) or rows into a tensor in the variant's layout."""
        tensor = self.torch.from_numpy(x)
        if x.ndim < 4:
            return tensor
        order = self.torch.channels_last if self.channels_last else self.torch.contiguous_format
        return tensor.permute(0, 3, 1, 2).contiguous(memory_format=order)

    def train(self, x: Any, y: Any) -> Any:
        """Run one step on tensors; return the loss tensor."""
        self.optimizer.zero_grad()
        loss = self.loss(x, y)
        loss.backward()
        self.optimizer.step()
        return loss

    def step(self) -> Any:
        return self.train(self.x, self.y)

    def finish(self, handle: Any) -> float:
        return float(handle.item())


class TorchPredictor:
    """PyTorch's forward pass under `inference_mode`."""

    def __init__(self, workload: str, batch: int, variant: Variant) -> None:
        torch: Any = importlib.import_module("torch")
        torch.set_num_threads(variant.threads)
        torch.manual_seed(0)
        self.torch = torch
        last = variant.mode == "channels-last"
        order = torch.channels_last if last else torch.contiguous_format
        self.model = torch_network(workload).eval().to(memory_format=order)
        x, _ = make_batch(workload, batch)
        self.x = torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(memory_format=order)
        if variant.mode == "compile":
            self.model = torch.compile(self.model)

    def step(self) -> Any:
        with self.torch.inference_mode():
            return self.model(self.x)

    def finish(self, handle: Any) -> float:
        return float(handle[0, 0])


class OnnxPredictor:
    """onnxruntime on what PyTorch exports."""

    def __init__(self, workload: str, batch: int, variant: Variant) -> None:
        torch: Any = importlib.import_module("torch")
        ort: Any = importlib.import_module("onnxruntime")
        x, _ = make_batch(workload, batch)
        self.x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
        file = io.BytesIO()
        torch.onnx.export(
            torch_network(workload).eval(), (torch.from_numpy(self.x),), file, dynamo=False,
            input_names=["x"],
        )  # fmt: skip
        options = ort.SessionOptions()
        options.intra_op_num_threads = variant.threads
        self.session = ort.InferenceSession(
            file.getvalue(), options, providers=["CPUExecutionProvider"]
        )

    def step(self) -> Any:
        return self.session.run(None, {"x": self.x})[0]

    def finish(self, handle: Any) -> float:
        return float(handle[0, 0])


class JaxTrainer:
    """JAX: forward, gradient and update in one jitted function that donates its state."""

    def __init__(self, workload: str, batch: int, variant: Variant) -> None:
        jax: Any = importlib.import_module("jax")
        jnp: Any = importlib.import_module("jax.numpy")
        lax: Any = jax.lax
        x, y = make_batch(workload, batch)
        self.x, self.y = jnp.asarray(x), jnp.asarray(y, jnp.int32)
        shapes: list[tuple[int, ...]] = [(64, 64), (64, 10)]
        if workload == "digits":
            shapes = [(5, 5, 1, 32), (5, 5, 32, 64), (7 * 7 * 64, 1024), (1024, 10)]
        random = np.random.default_rng(0)

        def draw(fan_in: int, shape: tuple[int, ...]) -> Any:
            bound = 1 / math.sqrt(fan_in)
            return jnp.asarray(random.uniform(-bound, bound, shape), jnp.float32)

        weights = [(draw(math.prod(s[:-1]), s), draw(math.prod(s[:-1]), s[-1:])) for s in shapes]

        def convolve(x: Any, layer: Any) -> Any:
            x = lax.conv_general_dilated(
                x, layer[0], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            window = (1, 2, 2, 1)
            x = jax.nn.relu(x + layer[1])
            return lax.reduce_window(x, -jnp.inf, lax.max, window, window, "VALID")

        def loss_of(weights: Any, key: Any, x: Any, y: Any) -> Any:
            if workload == "digits":
                x = convolve(convolve(x, weights[0]), weights[1]).reshape(len(x), -1)
            hidden, last = weights[-2:]
            x = jax.nn.relu(x @ hidden[0] + hidden[1])
            if workload == "digits":
                x = jnp.where(jax.random.bernoulli(key, 0.5, x.shape), 2 * x, 0)
            scores = jax.nn.log_softmax(x @ last[0] + last[1])
            return -scores[jnp.arange(len(y)), y].mean()

        tree: Any = jax.tree_util
        zeros = tree.tree_map(jnp.zeros_like, weights)

        def adam(state: Any, x: Any, y: Any) -> Any:
            weights, first, second, count, key = state
            key, use = jax.random.split(key)
            loss, grads = jax.value_and_grad(loss_of)(weights, use, x, y)
            count = count + 1
            first = tree.tree_map(lambda m, g: 0.9 * m + 0.1 * g, first, grads)
            second = tree.tree_map(lambda v, g: 0.999 * v + 0.001 * g * g, second, grads)
            rate, root = 1e-3 / (1 - 0.9**count), jnp.sqrt(1 - 0.999**count)
            weights = tree.tree_map(
                lambda w, m, v: w - rate * m / (jnp.sqrt(v) / root + 1e-8), weights, first, second
            )
            return (weights, first, second, count, key), loss

        def sgd(state: Any, x: Any, y: Any) -> Any:
            weights, velocity = state
            loss, grads = jax.value_and_grad(loss_of)(weights, None, x, y)
            velocity = tree.tree_map(lambda v, g: 0.9 * v + g, velocity, grads)
            return (tree.tree_map(lambda w, v: w - 0.1 * v, weights, velocity), velocity), loss

        if workload == "digits":
            second = tree.tree_map(jnp.zeros_like, weights)
            self.state: Any = (weights, zeros, second, jnp.float32(0), jax.random.key(0))
        else:
            self.state = (weights, zeros)
        self.update = jax.jit(adam if workload == "digits" else sgd, donate_argnums=0)

    def step(self) -> Any:
        self.state, loss = self.update(self.state, self.x, self.y)
        return loss

    def finish(self, handle: Any) -> float:
        return float(handle)


TRAINERS: dict[str, Callable[[str, int, Variant], Trainer]] = {
    "mpsnn": MpsnnTrainer,
    "torch": TorchTrainer,
    "jax": JaxTrainer,
}


PREDICTORS: dict[str, Callable[[str, int, Variant], Trainer]] = {
    "mpsnn": MpsnnPredictor,
    "torch": TorchPredictor,
    "onnxruntime": OnnxPredictor,
}


def run_window(trainer: Trainer, steps: int, wait: bool) -> tuple[float, float]:
    """Return seconds a step and the last loss; `wait`: each step is waited for alone."""
    loss = math.nan
    start = time.perf_counter()
    for _ in range(steps):
        handle = trainer.step()
        if wait:
            loss = trainer.finish(handle)
    if not wait:
        loss = trainer.finish(handle)
    return (time.perf_counter() - start) / steps, loss


def main(trainers: dict[str, Callable[[str, int, Variant], Trainer]] = TRAINERS) -> None:
    """Be a worker: warm up, say so, and run the windows asked for."""
    answers = private_stdout()
    job = json.loads(sys.argv[1])
    variant = Variant(**job["variant"])
    limit_cpus(job["cpus"])
    makers = PREDICTORS if job["workload"] == "inference" else trainers
    importlib.import_module(variant.framework)
    growth = Growth()
    trainer = makers[variant.framework](job["workload"], job["batch"], variant)
    run_window(trainer, job.get("warm", 10), False)
    print(json.dumps({"ready": True}), file=answers)
    for line in sys.stdin:
        question = json.loads(line)
        run_window(trainer, question.get("warm", 3), False)  # caches and clock back, after others
        seconds, loss = run_window(trainer, question["steps"], question["wait"])
        answer = {"seconds": seconds, "loss": loss, "growth": growth.bytes()}
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
