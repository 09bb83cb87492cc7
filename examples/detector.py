"""Trains a small YOLO to find digits scattered on a canvas, and draws what it finds.

Canvases are made on the fly from the 8x8 digits that mpsnn embeds: those for training from its
training set, those for the test from its test set, enlarged to different sizes. The network is made
of tiny YOLO v2's blocks. The last line is the mean average precision on test canvases, by the rule
of the VOC challenge since 2010: the area below the curve of precision, made monotonic, over recall,
where a box is right if it has the class and overlaps a box not yet found by at least 0.5.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import mpsnn
import numpy as np
from mpsnn import nn, ops, optim
from mpsnn.models.yolo import Block
from tqdm import tqdm

SIDE, STRIDE = 128, 8  # pixels of a canvas and of a cell
CELLS = SIDE // STRIDE
SIZES = (18, 44)  # of a digit's picture on the canvas, in pixels
ANCHORS = np.array([[1.7, 2.4], [2.6, 3.6], [3.4, 4.8]])  # widths and heights, in cells
CLASSES = 10
CHANNELS = (16, 32, 64, 128, 128)  # the first three are followed by a pooling
ERRORS = (ArithmeticError, MemoryError, OSError, RuntimeError, ValueError)

# A box is (left, top, right, bottom) in pixels; boxes of a canvas are (B, 4).


class Detector(nn.Module):
    """Blocks of tiny YOLO v2 down to one cell every 8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        inside = 1
        for i, outside in enumerate(CHANNELS):
            setattr(self, f"block{i}", Block(inside, outside))
            inside = outside
        self.head = nn.Conv2d(inside, len(ANCHORS) * (5 + CLASSES), 1)

    def forward(self, x: Any) -> Any:
        """Canvases `(N, H, W, 1)` to `(N, H / 8, W / 8, anchors * (5 + classes))`."""
        for i in range(len(CHANNELS)):
            x = getattr(self, f"block{i}")(x)
            if i < 3:
                x = ops.max_pool2d(x, 2)
        return self.head(x)


def enlarge(digit: np.ndarray, side: int) -> np.ndarray:
    """Scale an 8x8 picture to a square of `side` pixels, bilinearly."""
    at = np.clip((np.arange(side) + 0.5) * len(digit) / side - 0.5, 0, len(digit) - 1)
    low = np.minimum(at.astype(int), len(digit) - 2)
    part = at - low
    matrix = np.zeros((side, len(digit)))
    matrix[np.arange(side), low] = 1 - part
    matrix[np.arange(side), low + 1] = part
    scaled: np.ndarray = matrix @ digit @ matrix.T
    return scaled


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersections over unions `(A, B)` of boxes `(A, 4)` and `(B, 4)`."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    common: np.ndarray = np.clip(high - low, 0, None).prod(-1)
    area_a, area_b = (a[:, 2:] - a[:, :2]).prod(-1), (b[:, 2:] - b[:, :2]).prod(-1)
    union: np.ndarray = area_a[:, None] + area_b[None] - common
    shares: np.ndarray = common / union
    return shares


class Canvases:
    """Draws canvases with one to six digits, of random sizes and strengths, on noise."""

    def __init__(self, digits: np.ndarray, labels: np.ndarray, seed: int) -> None:
        self.digits, self.labels = digits[..., 0], labels
        self.random = np.random.default_rng(seed)

    def draw(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return a canvas `(H, W, 1)` in 0..1, its boxes and their classes."""
        random = self.random
        canvas = random.uniform(0, 0.25) * random.random((SIDE, SIDE))
        boxes: list[np.ndarray] = []
        classes: list[int] = []
        wanted = random.integers(1, 7)
        for _ in range(50):
            if len(boxes) == wanted:
                break
            index = random.integers(len(self.digits))
            side = int(random.integers(SIZES[0], SIZES[1] + 1))
            x, y = random.integers(0, SIDE - side + 1, 2)
            ink = enlarge(self.digits[index], side)
            columns, rows = (np.flatnonzero(ink.max(axis) > 0.25) for axis in (0, 1))
            box = np.array([x + columns[0], y + rows[0], x + columns[-1] + 1, y + rows[-1] + 1])
            if boxes and overlap(box[None], np.array(boxes)).max() > 0.02:
                continue
            place = canvas[y : y + side, x : x + side]
            np.maximum(place, random.uniform(0.6, 1) * ink, out=place)
            boxes.append(box)
            classes.append(int(self.labels[index]))
        return canvas[..., None].astype(np.float32), np.array(boxes, float), np.array(classes)

    def batch(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return canvases and the loss's targets."""
        drawn = [self.draw() for _ in range(size)]
        images = np.stack([canvas for canvas, _, _ in drawn])
        return images, np.stack([target(boxes, classes) for _, boxes, classes in drawn])


def target(boxes: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return what `nn.YOLO` takes of a canvas: every anchor of a centre's cell tells of the box."""
    cells = np.zeros((CELLS, CELLS, len(ANCHORS), 5 + CLASSES), np.float32)
    for box, label in zip(boxes / STRIDE, classes, strict=True):
        centre = (box[:2] + box[2:]) / 2
        column, row = centre.astype(int)
        cells[row, column] = 0  # of two in one cell the second counts
        cells[row, column, :, :5] = [*(centre - [column, row]), *(box[2:] - box[:2]), 1]
        cells[row, column, :, 5 + label] = 1
    return cells.reshape(CELLS, CELLS, -1)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def found_boxes(
    output: np.ndarray, least: float, same: float = 0.45
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return boxes, classes and scores of a canvas, best first.

    Args:
        output: of the network, `(H, W, anchors * (5 + classes))`.
        least: score, which is the confidence times the class's probability.
        same: two boxes of a class that overlap by more are one, that of the higher score.
    """
    cells = output.reshape(CELLS, CELLS, len(ANCHORS), 5 + CLASSES).astype(np.float64)
    corner = np.stack(np.meshgrid(np.arange(CELLS), np.arange(CELLS)), -1)[:, :, None]
    centre = (corner + sigmoid(cells[..., :2])) * STRIDE
    half = np.exp(np.clip(cells[..., 2:4], -8, 8)) * ANCHORS * STRIDE / 2
    logits = cells[..., 5:] - cells[..., 5:].max(-1, keepdims=True)
    likely = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    scores = (sigmoid(cells[..., 4:5]) * likely).reshape(-1, CLASSES)
    boxes = np.clip(np.concatenate([centre - half, centre + half], -1), 0, SIDE).reshape(-1, 4)
    kept: list[tuple[float, int, int]] = []
    for label in range(CLASSES):
        order = np.flatnonzero(scores[:, label] >= least)
        order = order[np.argsort(-scores[order, label], kind="stable")]
        while len(order):
            best, order = order[0], order[1:]
            kept.append((scores[best, label], label, best))
            order = order[overlap(boxes[best][None], boxes[order])[0] <= same]
    kept.sort(reverse=True)
    which = [index for _, _, index in kept]
    labels, values = [label for _, label, _ in kept], [score for score, _, _ in kept]
    return boxes[which], np.array(labels, int), np.array(values)


def average_precision(right: np.ndarray, scores: np.ndarray, objects: int) -> float:
    """Return the area below precision over recall; `right`: whether each box is."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(right[order])
    recall = np.concatenate([[0.0], hits / objects])
    precision = hits / np.arange(1, len(hits) + 1)
    highest = np.maximum.accumulate(precision[::-1])[::-1]  # at this recall or above
    return float((np.diff(recall) * highest).sum())


def mean_average_precision(
    truth: list[tuple[np.ndarray, np.ndarray]],
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
    least: float = 0.5,
) -> float:
    """Return the mean over classes of their average precision at an overlap of `least`."""
    precisions = []
    for label in range(CLASSES):
        right: list[np.ndarray] = []
        scores: list[np.ndarray] = []
        objects = 0
        for (boxes, classes), (places, labels, values) in zip(truth, found, strict=True):
            here, mine = boxes[classes == label], places[labels == label]
            objects += len(here)
            hits, taken = np.zeros(len(mine), bool), np.zeros(len(here), bool)
            overlaps = overlap(mine, here)
            for i in range(len(mine) if len(here) else 0):  # best first
                best = int(overlaps[i].argmax())
                hits[i] = overlaps[i, best] >= least and not taken[best]
                taken[best] |= hits[i]
            right.append(hits)
            scores.append(values[labels == label])
        if objects:
            precisions.append(
                average_precision(np.concatenate(right), np.concatenate(scores), objects)
            )
    return float(np.mean(precisions))


def plot_detections(
    path: Path,
    canvases: np.ndarray,
    truth: list[tuple[np.ndarray, np.ndarray]],
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> None:
    """Draw twelve canvases with the boxes found and their classes; objects missed are dashed."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    def frame(axes: Any, box: np.ndarray, color: str, style: str) -> None:
        left, top, right, bottom = box - 0.5  # a pixel's middle is where it is drawn
        axes.add_patch(
            Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=color,
                      linestyle=style, linewidth=1.5)
        )  # fmt: skip

    figure = Figure(figsize=(12, 9.4), dpi=110, layout="constrained")
    figure.suptitle("Digits found on test canvases: class and score; wrong in red, missed dashed")
    for axes, canvas, (boxes, classes), (places, labels, scores) in zip(
        figure.subplots(3, 4).flat, canvases, truth, found, strict=False
    ):
        axes.axis("off")
        axes.imshow(canvas[:, :, 0], cmap="gray_r", vmin=0, vmax=1)
        missed = np.ones(len(boxes), bool)
        for place, label, score in zip(places, labels, scores, strict=True):
            hit = missed & (classes == label) & (overlap(place[None], boxes)[0] >= 0.5)
            missed[np.flatnonzero(hit)[:1]] = False
            color = "tab:green" if hit.any() else "tab:red"
            frame(axes, place, color, "-")
            axes.text(place[0], max(place[1] - 2, 5), f"{label}  {score:.2f}", color=color,
                      fontsize=9, weight="bold")  # fmt: skip
        for box, label in zip(boxes[missed], classes[missed], strict=True):
            frame(axes, box, "tab:red", "--")
            axes.text(box[2], box[3] - 2, str(label), color="tab:red", fontsize=9)
    figure.savefig(path)


def parse_arguments() -> argparse.Namespace:
    """Read the command line; wrong values end the program with one line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    add = parser.add_argument
    add("--steps", type=int, default=1200)
    add("--batch", type=int, default=16)
    add("--lr", type=float, default=2e-3, help="Adam's learning rate at first; it falls to 0")
    add("--test", type=int, default=400, metavar="N", help="canvases for the test")
    add("--seed", type=int, default=0)
    add("--device", default="auto", help="auto, cpu, cuda, mps or reference")
    add("--out", type=Path, default=Path("output"), metavar="DIR", help="for weights, picture")
    args = parser.parse_args()
    for name in ("steps", "batch", "test"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1, not {getattr(args, name)}")
    return args


def train(args: argparse.Namespace) -> None:
    """Train, test, draw; the last line is `mAP@0.5 0.95 ...`."""
    start = time.perf_counter()
    mpsnn.manual_seed(args.seed)
    (x, y), (xt, yt) = mpsnn.datasets.digits()
    model = Detector()
    graph = mpsnn.TrainingGraph(
        model, loss=nn.YOLO(ANCHORS),
        optimizer=optim.Adam(lambda update: args.lr * (1 - update / args.steps)),
        input_shape=(SIDE, SIDE, 1), batch_size=args.batch, device=args.device, seed=args.seed,
    )  # fmt: skip
    print(f"digits on canvases of {SIDE}x{SIDE}, batches of {args.batch}, on {graph.device}")

    canvases = Canvases(x, y, args.seed)
    losses: list[float] = []
    waiting: list[Any] = []
    every = max(1, args.steps // 10)
    with tqdm(total=args.steps, unit=" steps", leave=False, disable=None) as bar:
        for number in range(1, args.steps + 1):
            waiting.append(graph.encode(*canvases.batch(args.batch)))  # drawn while others run
            while len(waiting) > 2 or (waiting and number == args.steps):
                losses.append(float(waiting.pop(0).loss))
            bar.update()
            if number % every == 0:
                bar.write(f"step {number:5}   loss {np.mean(losses[-every:]):.3f}")

    test = Canvases(xt, yt, args.seed + 1)
    drawn = [test.draw() for _ in range(args.test)]
    images = np.stack([canvas for canvas, _, _ in drawn])
    truth = [(boxes, classes) for _, boxes, classes in drawn]
    predict = mpsnn.InferenceGraph(model, (SIDE, SIDE, 1), 32, device=args.device)
    outputs = predict(images)
    precision = mean_average_precision(truth, [found_boxes(o, 0.005) for o in outputs])

    args.out.mkdir(parents=True, exist_ok=True)
    model.save(args.out / "detector.safetensors")
    try:
        plot_detections(
            args.out / "detections.png", images, truth, [found_boxes(o, 0.4) for o in outputs[:12]]
        )
        print(f"saved detector.safetensors and the picture detections.png in {args.out}")
    except ImportError as error:
        print(f"saved detector.safetensors in {args.out}; no picture: {error}")
    objects = sum(len(classes) for _, classes in truth)
    print(f"{objects} digits on {len(truth)} test canvases, {time.perf_counter() - start:.0f} s")
    print(f"mAP@0.5 {precision:.3f}")


def main() -> None:
    """Run the command line; what an option or a file got wrong is told in one line."""
    args = parse_arguments()
    try:
        train(args)
    except ERRORS as error:
        sys.exit(f"{Path(sys.argv[0]).name}: error: {error}")


if __name__ == "__main__":
    main()
