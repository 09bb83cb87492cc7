"""Trains the talk's handwritten-digits network and shows what it learned.

Without ``--data`` it takes the 8x8 digits that mpsnn embeds and a network of their size; with
``--data mnist.npz`` the full network of the talk on MNIST. Training stops after the first epoch
whose test accuracy reaches ``--target``. The weights kept are those of the best epoch by the test
set, so the last line is the accuracy of the file that was saved, loaded back; the line before it
gives the last epoch's figure, which no choice has flattered.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import mpsnn
import numpy as np
from mpsnn import nn, optim
from tqdm import tqdm


def small_network(dropout: float) -> nn.Sequential:
    """Build the network for 8x8 pictures: two 3x3 convolutions, dense 128, dense 10."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * 2 * 64, 128), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(128, 10),
    )  # fmt: skip


def full_network(dropout: float) -> nn.Sequential:
    """Build the talk's network for 28x28 pictures: two 5x5 convolutions, dense 1024, dense 10."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding="same"), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding="same"), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(7 * 7 * 64, 1024), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(1024, 10),
    )  # fmt: skip


class Progress:
    """A bar that counts finished steps; it never waits for the queue, and redraws at 10 Hz."""

    def __init__(self, images: int) -> None:
        self.bar = tqdm(
            total=images, unit=" images", unit_scale=True, mininterval=0.1,
            dynamic_ncols=True, leave=False, disable=None,
        )  # fmt: skip
        self.queued: deque[tuple[Any, int]] = deque()
        self.losses: list[float] = []

    def add(self, step: Any, images: int) -> None:
        """Take a step just encoded."""
        self.queued.append((step, images))
        self.collect()

    def collect(self) -> None:
        """Count the steps that have finished since; the loss of those is there to be read."""
        while self.queued and self.queued[0][0].done():
            step, images = self.queued.popleft()
            self.losses.append(float(step.loss))
            self.bar.set_postfix_str(f"loss {self.losses[-1]:.4f}", refresh=False)
            self.bar.update(images)

    def end_epoch(self) -> float:
        """Return the mean loss of the epoch's steps, all finished by now."""
        self.collect()
        mean = float(np.mean(self.losses))
        self.losses.clear()
        return mean


def plot_history(path: Path, losses: list[float], accuracies: list[float], target: float) -> None:
    """Draw training loss and test accuracy (%) over the epochs."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    epochs = range(1, len(losses) + 1)
    figure = Figure(figsize=(9, 3.6), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(epochs, losses, color="tab:blue", marker=".")
    left.set(title="training loss", yscale="log")
    right.plot(epochs, accuracies, color="tab:green", marker=".")
    right.axhline(target, color="gray", linestyle="--", linewidth=1, label=f"target {target:g} %")
    lowest = min(*accuracies, target)
    right.set(title="test accuracy, %", ylim=(lowest - 0.05 * (101 - lowest), 100.5))
    right.legend(loc="lower right")
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
    figure.savefig(path)


def plot_predictions(path: Path, images: np.ndarray, labels: np.ndarray, guess: np.ndarray) -> None:
    """Draw 60 test pictures with their predictions: the wrong ones first, framed in red."""
    from matplotlib.figure import Figure

    wrong = np.flatnonzero(guess != labels)
    chosen = np.concatenate([wrong, np.flatnonzero(guess == labels)])[:60]
    figure = Figure(figsize=(9, 6.4), dpi=120, layout="constrained")
    figure.suptitle(f"{len(wrong)} of {len(labels)} test digits wrong (framed, first)")
    for axes in figure.subplots(6, 10).flat:
        axes.axis("off")
    for axes, i in zip(figure.axes, chosen, strict=False):
        axes.imshow(images[i, :, :, 0], cmap="gray_r", vmin=0, vmax=1)
        if guess[i] == labels[i]:
            axes.set_title(str(guess[i]), fontsize=9)
        else:
            axes.set_title(f"{guess[i]}, not {labels[i]}", fontsize=9, color="tab:red")
            axes.axis("on")
            axes.set(xticks=[], yticks=[])
            for spine in axes.spines.values():
                spine.set(color="tab:red", linewidth=2)
    figure.savefig(path)


def parse_arguments() -> argparse.Namespace:
    """Read the command line; wrong values end the program with one line."""
    summary = (__doc__ or "").split("\n", 1)[0]
    parser = argparse.ArgumentParser(description=summary)
    add = parser.add_argument
    add("--data", type=Path, metavar="mnist.npz", help="MNIST as Keras keeps it; full network")
    add("--train", type=int, metavar="N", help="only the first N training pictures")
    add("--epochs", type=int, default=60)
    add("--target", type=float, default=98.8, help="test accuracy in %% that ends the training")
    add("--seed", type=int, default=0)
    add("--device", default="auto", help="auto, cpu, cuda, mps or reference")
    add("--dropout", type=float, default=0.5)
    add("--batch", type=int, default=64)
    add("--lr", type=float, default=1e-3, help="Adam's learning rate")
    add("--out", type=Path, default=Path("output"), metavar="DIR", help="for weights, pictures")
    args = parser.parse_args()
    for name in ("train", "epochs", "batch"):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f"--{name} must be at least 1, not {value}")
    if not math.isfinite(args.target):
        parser.error(f"--target must be a number, not {args.target}")
    if args.data and not args.data.is_file():
        parser.error(f"--data: there is no file {args.data}")
    return args


def train(args: argparse.Namespace) -> None:
    """Train, evaluate after each epoch, save; the last line is `test accuracy 98.89 %`."""
    mpsnn.manual_seed(args.seed)
    if args.data:
        (x, y), (xt, yt) = mpsnn.datasets.mnist(args.data)
        model = full_network(args.dropout)
    else:
        (x, y), (xt, yt) = mpsnn.datasets.digits()
        model = small_network(args.dropout)
    x, y = x[: args.train], y[: args.train]

    graph = mpsnn.TrainingGraph(
        model, loss=nn.SoftmaxCrossEntropy(), optimizer=optim.Adam(args.lr),
        input_shape=x.shape[1:], batch_size=args.batch, device=args.device, seed=args.seed,
    )  # fmt: skip
    predict = mpsnn.InferenceGraph(
        model, input_shape=x.shape[1:], batch_size=256, device=args.device
    )
    batches = mpsnn.data.batches(x, y, args.batch, shuffle=True, seed=args.seed)
    print(f"{len(x)} training and {len(xt)} test pictures, on {graph.device}")

    args.out.mkdir(parents=True, exist_ok=True)
    weights = args.out / "digits.safetensors"
    losses: list[float] = []
    accuracies: list[float] = []
    progress = Progress(args.epochs * len(x))
    with progress.bar:
        for epoch in range(1, args.epochs + 1):
            progress.bar.set_description(f"epoch {epoch}/{args.epochs}", refresh=False)
            start = time.perf_counter()
            for images, labels in batches:
                progress.add(graph.encode(images, labels), len(images))
            # The inference graph shares the weights, so this waits for the epoch's last steps.
            accuracy = 100 * predict.evaluate(xt, yt, metrics=("accuracy",))["accuracy"]
            seconds = time.perf_counter() - start
            losses.append(progress.end_epoch())
            progress.bar.write(
                f"epoch {epoch:3}   loss {losses[-1]:.4f}   "
                f"test accuracy {accuracy:.2f} %   {seconds:.2f} s"
            )
            if accuracy > max(accuracies, default=-1.0):
                model.save(weights)
            accuracies.append(accuracy)
            if round(accuracy, 6) >= args.target:
                break

    model.load(weights)
    guess = predict(xt).argmax(axis=1)
    try:
        plot_history(args.out / "history.png", losses, accuracies, args.target)
        plot_predictions(args.out / "predictions.png", xt, yt, guess)
        print(f"saved {weights} and the pictures history.png and predictions.png beside it")
    except ImportError as error:
        print(f"saved {weights}; no pictures: {error}")
    best = int(np.argmax(accuracies)) + 1
    print(f"weights of epoch {best}; the last epoch, {len(losses)}, has {accuracies[-1]:.2f} %")
    print(f"test accuracy {100 * np.mean(guess == yt):.2f} %")


def main() -> None:
    """Run the command line; what an option or a file got wrong is told in one line."""
    args = parse_arguments()
    try:
        train(args)
    except (ArithmeticError, MemoryError, OSError, RuntimeError, ValueError) as error:
        sys.exit(f"{Path(sys.argv[0]).name}: error: {error}")


if __name__ == "__main__":
    main()
