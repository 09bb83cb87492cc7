"""Trains Inception V3 and prints images per second, as the demo of WWDC 2018, talk 609, did.

Pictures are drawn at random, or come from ``--images FOLDER`` with a folder of its own for each
class (this needs Pillow). They are scaled to 299x299 and to -1..1.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import mpsnn
import numpy as np
from mpsnn import models, nn, optim

SIDE = 299
ERRORS = (mpsnn.DeviceError, mpsnn.UnsupportedError, mpsnn.NonFiniteError, mpsnn.OutOfMemoryError)
Batch = tuple[np.ndarray, np.ndarray]


def synthetic(batch: int, classes: int) -> Iterator[Batch]:
    """Give one batch of noise again and again."""
    random = np.random.default_rng(0)
    images = random.random((batch, SIDE, SIDE, 3), np.float32) * 2 - 1
    labels = random.integers(0, classes, batch)
    while True:
        yield images, labels


def find_pictures(folder: Path) -> tuple[list[tuple[Path, int]], list[str]]:
    """List the pictures below the folder with their class, and the classes' names."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    kinds = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
    found = [
        (path, label)
        for label, name in enumerate(names)
        for path in sorted((folder / name).iterdir())
        if path.suffix.lower() in kinds
    ]
    return found, names


def from_folder(pictures: list[tuple[Path, int]], batch: int, seed: int) -> Iterator[Batch]:
    """Read batches in a new random order every pass."""
    from PIL import Image

    random = np.random.default_rng(seed)
    order: list[int] = []
    while True:
        while len(order) < batch:
            order += random.permutation(len(pictures)).tolist()
        taken, order = order[:batch], order[batch:]
        images = np.empty((batch, SIDE, SIDE, 3), np.float32)
        for i, index in enumerate(taken):
            with Image.open(pictures[index][0]) as picture:
                scaled = picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            images[i] = np.asarray(scaled, np.float32) / 127.5 - 1
        yield images, np.array([pictures[index][1] for index in taken])


def train(args: argparse.Namespace, batches: Iterator[Batch], classes: int) -> None:
    """Run the steps and print a line each `--every`."""
    mpsnn.manual_seed(args.seed)
    model = models.inception_v3(classes, aux_logits=args.aux)
    loss: object = nn.SoftmaxCrossEntropy()
    graph = mpsnn.TrainingGraph(
        model, loss=(loss, loss) if args.aux else loss,
        loss_weights=(1, 0.4) if args.aux else None,
        optimizer=optim.SGD(args.rate, momentum=0.9), input_shape=(SIDE, SIDE, 3),
        batch_size=args.batch, device=args.device, dtype=args.dtype, seed=args.seed,
    )  # fmt: skip
    print(f"Inception V3, {classes} classes, batches of {args.batch}, on {graph.device}")
    print(
        f"memory of a step: {graph.planned_bytes / 2**20:.0f} MiB, "
        f"{graph.naive_bytes / 2**20:.0f} MiB without sharing"
    )
    start, counted = time.perf_counter(), 0
    for number in range(1, args.steps + 1):
        images, labels = next(batches)
        step = graph.encode(images, (labels, labels) if args.aux else labels)
        counted += len(images)
        if number % args.every == 0 or number == args.steps:
            value = step.loss  # waits
            seconds = time.perf_counter() - start
            print(f"step {number}: loss {value:.4f}, {counted / seconds:.1f} images/s")
            start, counted = time.perf_counter(), 0
    if args.save is not None:
        model.save(args.save)
        print(f"saved {args.save}")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    add = parser.add_argument
    add("--images", type=Path, metavar="FOLDER", help="a folder of pictures for each class")
    add("--classes", type=int, default=1000, help="of random pictures")
    add("--batch", type=int, default=8)
    add("--steps", type=int, default=20)
    add("--every", type=int, default=5, help="steps between two lines")
    add("--rate", type=float, default=0.01, help="learning rate")
    add("--aux", action="store_true", help="with the auxiliary head")
    add("--device", default="auto")
    add("--dtype", choices=("float32", "float16", "bfloat16"), default="float32")
    add("--seed", type=int, default=0)
    add("--save", type=Path, metavar="FILE", help="write the weights at the end")
    args = parser.parse_args()
    if min(args.batch, args.steps, args.every, args.classes) < 1:
        parser.error("--batch, --steps, --every and --classes must be at least 1")
    try:
        if args.images is None:
            train(args, synthetic(args.batch, args.classes), args.classes)
            return
        if not args.images.is_dir():
            parser.error(f"--images: there is no folder {args.images}")
        pictures, names = find_pictures(args.images)
        if not pictures:
            parser.error(f"{args.images}: no folder in it holds pictures")
        if importlib.util.find_spec("PIL") is None:
            parser.error("reading pictures needs Pillow: pip install pillow")
        train(args, from_folder(pictures, args.batch, args.seed), len(names))
    except (OSError, ValueError, TypeError, *ERRORS) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
