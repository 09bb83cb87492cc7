"""Trains an activity classifier on a smart watch's sensors and draws what it sees.

The data are BasicMotions, embedded in mpsnn: 10 s of accelerometer and gyroscope, four activities,
40 recordings to learn from and 40 to be tested on. Each window of samples gets a prediction; that
of a recording is the class of the largest mean log-probability. With ``--recording walk.csv`` (six
columns: accelerometer x y z, gyroscope x y z, at 10 Hz, with or without a header) the timeline is
drawn of your recording instead of four test recordings one after another.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import mpsnn
import numpy as np
from mpsnn import nn, optim
from mpsnn.datasets import MOTIONS
from tqdm import tqdm


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities over the last axis."""
    shifted = logits - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def classify(logits: np.ndarray) -> np.ndarray:
    """The class of each recording, from the logits of its windows."""
    return np.asarray(log_softmax(logits).mean(1).argmax(-1))


def read_recording(path: Path) -> np.ndarray:
    """Samples `(T, 6)` of a CSV; a first line that is no numbers is a header."""
    lines = path.read_text().splitlines()
    try:
        [float(v) for v in lines[0].split(",")]
    except ValueError:
        lines = lines[1:]
    except IndexError:
        raise ValueError(f"{path}: the file is empty") from None
    try:
        samples = np.array([[float(v) for v in line.split(",")] for line in lines if line.strip()])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if samples.ndim != 2 or samples.shape[1] != 6:
        raise ValueError(f"{path}: expected six columns, got an array {samples.shape}")
    if not np.isfinite(samples).all():
        raise ValueError(f"{path}: a value is not finite")
    return samples.astype(np.float32)


def plot_confusion(path: Path, counts: np.ndarray) -> None:
    """Draw the confusion matrix: rows are the truth."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8, 4.2), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.imshow(counts, cmap="Blues")
    ticks = range(len(MOTIONS))
    axes.set_xticks(ticks, MOTIONS, rotation=30)
    axes.set_yticks(ticks, MOTIONS)
    axes.set(xlabel="predicted", ylabel="true", title="test recordings")
    for i in ticks:
        for j in ticks:
            dark = counts[i, j] > counts.max() / 2
            axes.text(j, i, str(counts[i, j]), ha="center", va="center",
                      color="white" if dark else "black")  # fmt: skip
    figure.savefig(path)


def plot_timeline(path: Path, samples: np.ndarray, probabilities: np.ndarray, window: int) -> None:
    """Draw a recording `(T, 6)` above the probabilities of its windows `(steps, classes)`."""
    from matplotlib.figure import Figure

    seconds = np.arange(len(samples)) / 10
    edges = np.minimum(np.arange(len(probabilities) + 1) * window, len(samples)) / 10
    figure = Figure(figsize=(10, 5.4), dpi=120, layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, sharex=True)
    top.plot(seconds, samples[:, :3], linewidth=0.8, label=["x", "y", "z"])
    top.set_ylabel("acceleration")
    middle.plot(seconds, samples[:, 3:], linewidth=0.8, label=["x", "y", "z"])
    middle.set_ylabel("rotation")
    top.legend(loc="upper right", ncols=3)
    base = np.zeros(len(probabilities))
    for i, name in enumerate(MOTIONS):
        bottom.bar(edges[:-1], probabilities[:, i], np.diff(edges), base, align="edge", label=name)
        base = base + probabilities[:, i]
    bottom.set(xlabel="s", ylabel="probability", ylim=(0, 1), xlim=(0, edges[-1]))
    bottom.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(MOTIONS))
    figure.savefig(path)


def parse_arguments() -> argparse.Namespace:
    """Read the command line; wrong values end the program with one line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    add = parser.add_argument
    add("--recording", type=Path, metavar="FILE.csv", help="draw the timeline of this recording")
    add("--window", type=int, default=10, help="samples a prediction; divides 100")
    add("--epochs", type=int, default=60)
    add("--batch", type=int, default=8)
    add("--seed", type=int, default=0)
    add("--lr", type=float, default=1e-3, help="Adam's learning rate")
    add("--device", default="auto", help="auto, cpu, cuda, mps or reference")
    add("--out", type=Path, default=Path("output"), metavar="DIR", help="for weights, pictures")
    args = parser.parse_args()
    for name in ("epochs", "batch"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1, not {getattr(args, name)}")
    if args.window < 1 or 100 % args.window:
        parser.error(f"--window must divide the 100 samples of a recording, not {args.window}")
    if args.recording and not args.recording.is_file():
        parser.error(f"--recording: there is no file {args.recording}")
    return args


def train(args: argparse.Namespace) -> None:
    """Train, test after each epoch, save, draw; the last line is `test accuracy 100.0 %`."""
    recording = read_recording(args.recording) if args.recording else None
    mpsnn.manual_seed(args.seed)
    (x, y), (xt, yt) = mpsnn.datasets.basic_motions()
    model = mpsnn.models.activity_classifier(args.window, 6, len(MOTIONS), dropout=(0.2, 0.2))
    model.standardize(x)
    steps = x.shape[1] // args.window
    x, labels, _ = model.chunks(x, y, steps)  # one chunk a recording, all of them full
    xt = xt[:, None]  # images of height 1
    shape = x.shape[1:]
    graph = mpsnn.TrainingGraph(
        model, nn.SoftmaxCrossEntropy(), optim.Adam(args.lr), shape, args.batch, args.device,
        seed=args.seed,
    )  # fmt: skip
    predict = mpsnn.InferenceGraph(model, shape, len(xt), args.device)
    batches = mpsnn.data.batches(x, labels, args.batch, shuffle=True, seed=args.seed)
    print(f"{len(x)} training and {len(xt)} test recordings, {steps} windows each, on "
          f"{graph.device}")  # fmt: skip

    start = time.perf_counter()
    accuracy = 0.0
    with tqdm(total=args.epochs * len(x), unit=" recordings", mininterval=0.1, leave=False,
              dynamic_ncols=True, disable=None) as bar:  # fmt: skip
        for epoch in range(1, args.epochs + 1):
            losses = []
            for recordings, targets in batches:
                losses.append(graph.encode(recordings, targets))
                bar.update(len(recordings))
            accuracy = 100 * float(np.mean(classify(predict(xt)) == yt))
            bar.write(f"epoch {epoch:3}   loss {np.mean([s.loss for s in losses]):.4f}   "
                      f"test accuracy {accuracy:.1f} %")  # fmt: skip
    seconds = time.perf_counter() - start

    args.out.mkdir(parents=True, exist_ok=True)
    weights = args.out / "activity.safetensors"
    model.save(weights)
    counts = np.zeros((len(MOTIONS), len(MOTIONS)), np.int64)
    np.add.at(counts, (yt, classify(predict(xt))), 1)
    if recording is None:
        chosen = [int(np.flatnonzero(yt == c)[0]) for c in range(len(MOTIONS))]
        recording = xt[chosen, 0].reshape(-1, 6)
    # Chunks as long as those of training: the state starts anew where it did there.
    chunks, _, lengths = model.chunks([recording], steps=steps)
    logits = np.concatenate(predict(chunks, lengths=lengths))
    logits = logits[: -(-len(recording) // args.window)]  # without what fills the last chunk
    try:
        plot_confusion(args.out / "confusion.png", counts)
        plot_timeline(args.out / "timeline.png", recording, np.exp(log_softmax(logits)),
                      args.window)  # fmt: skip
        print(f"saved {weights} and the pictures confusion.png and timeline.png beside it")
    except ImportError as error:
        print(f"saved {weights}; no pictures: {error}")
    seen = [MOTIONS[i] for i in logits.argmax(-1)]
    changes = [i for i in range(len(seen)) if i == 0 or seen[i] != seen[i - 1]]
    print("timeline: " + ", ".join(f"{seen[i]} from {i * args.window / 10:g} s" for i in changes))
    print(f"trained in {seconds:.1f} s")
    print(f"test accuracy {accuracy:.1f} %")


def main() -> None:
    """Run the command line; what an option or a file got wrong is told in one line."""
    args = parse_arguments()
    try:
        train(args)
    except (ArithmeticError, MemoryError, OSError, RuntimeError, ValueError) as error:
        sys.exit(f"{Path(sys.argv[0]).name}: error: {error}")


if __name__ == "__main__":
    main()
