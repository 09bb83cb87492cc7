"""Trains a character language model on a text file and writes some text of its own.

An embedding and a stacked LSTM read the text in parallel streams, chunk by chunk; each chunk starts
with the state that the one before has left, and gradients stop between them (truncated
back-propagation). Without ``--data`` the text is mpsnn's licence. The last tenth of it is held out;
its perplexity, the number of characters the model wavers between, falls from the alphabet's size.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import mpsnn
import numpy as np
from mpsnn import nn, optim
from tqdm import tqdm

LICENCE = Path(__file__).resolve().parents[1] / "LICENSE"


def streams(indices: np.ndarray, count: int, steps: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Chunks (inputs, next characters), each `(count, steps)`, of `count` parallel streams."""
    length = (len(indices) - 1) // count // steps * steps
    x = indices[: count * length].reshape(count, length)
    y = indices[1 : count * length + 1].reshape(count, length)
    return [(x[:, i : i + steps], y[:, i : i + steps]) for i in range(0, length, steps)]


def perplexity(predict: Any, indices: np.ndarray, steps: int) -> float:
    """Return exp of the mean negative log-probability of each character of the held-out text."""
    states: Any = {}
    total, count = 0.0, 0
    for x, y in streams(indices, 1, steps):
        logits, states = predict(x, states=states)
        scores = logits.astype(np.float64)
        scores -= scores.max(-1, keepdims=True)
        log_sum = np.log(np.exp(scores).sum(-1))
        total += float((log_sum - np.take_along_axis(scores, y[..., None], -1)[..., 0]).sum())
        count += y.size
    return math.exp(total / count)


def sample(model: nn.Module, alphabet: str, start: str, length: int, warmth: float, seed: int,
           device: str) -> str:  # fmt: skip
    """`start` and `length` characters more, one run of the graph each."""
    predict = mpsnn.InferenceGraph(model, (1,), 1, device)
    rng = np.random.default_rng(seed)
    states: Any = {}
    text = start
    for i in range(len(start) + length - 1):
        x = np.array([[alphabet.index(text[i])]])
        logits, states = predict(x, states=states)
        if i + 1 < len(text):
            continue
        scores = logits[0, 0].astype(np.float64) / warmth
        weights = np.exp(scores - scores.max())
        text += alphabet[rng.choice(len(alphabet), p=weights / weights.sum())]
    return text


def parse_arguments() -> argparse.Namespace:
    """Read the command line; wrong values end the program with one line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    add = parser.add_argument
    add("--data", type=Path, default=LICENCE, metavar="FILE", help="a text file, UTF-8")
    add("--epochs", type=int, default=40)
    add("--hidden", type=int, default=128)
    add("--layers", type=int, default=2)
    add("--steps", type=int, default=50, help="characters a chunk")
    add("--batch", type=int, default=8, help="parallel streams")
    add("--lr", type=float, default=3e-3, help="Adam's learning rate")
    add("--dropout", type=float, default=0.2)
    add("--length", type=int, default=300, help="characters to write at the end")
    add("--warmth", type=float, default=0.7, help="1 samples as the model thinks, less is safer")
    add("--seed", type=int, default=0)
    add("--device", default="auto", help="auto, cpu, cuda, mps or reference")
    add("--out", type=Path, default=Path("output"), metavar="DIR", help="for weights")
    args = parser.parse_args()
    for name in ("epochs", "hidden", "layers", "steps", "batch", "length"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1, not {getattr(args, name)}")
    if not (math.isfinite(args.warmth) and args.warmth > 0):
        parser.error(f"--warmth must be above 0, not {args.warmth}")
    if not args.data.is_file():
        parser.error(f"--data: there is no file {args.data}")
    return args


def train(args: argparse.Namespace) -> None:
    """Train, print perplexities, save, sample; the last line is `perplexity 4.32`."""
    text = args.data.read_text(encoding="utf-8")
    alphabet = "".join(sorted(set(text)))
    indices = np.array([alphabet.index(c) for c in text])
    cut = len(indices) * 9 // 10
    chunks = streams(indices[:cut], args.batch, args.steps)
    if not chunks or not streams(indices[cut:], 1, args.steps):
        raise ValueError(f"{args.data}: {len(text)} characters are too few for {args.batch} "
                         f"streams of {args.steps}")  # fmt: skip
    mpsnn.manual_seed(args.seed)
    model = nn.Sequential(
        nn.Embedding(len(alphabet), 32),
        nn.LSTM(32, args.hidden, args.layers, dropout=args.dropout),
        nn.Linear(args.hidden, len(alphabet)),
    )
    graph = mpsnn.TrainingGraph(
        model, nn.SoftmaxCrossEntropy(), optim.Adam(args.lr), (args.steps,), args.batch,
        args.device, seed=args.seed, clip_norm=1.0,
    )  # fmt: skip
    predict = mpsnn.InferenceGraph(model, (args.steps,), 1, args.device)
    print(f"{len(text)} characters of {len(alphabet)} kinds, on {graph.device}")
    found = perplexity(predict, indices[cut:], args.steps)
    print(f"epoch   0   held-out perplexity {found:.2f}")
    with tqdm(total=args.epochs * len(chunks), unit=" chunks", mininterval=0.1, leave=False,
              dynamic_ncols=True, disable=None) as bar:  # fmt: skip
        for epoch in range(1, args.epochs + 1):
            states: Any = {}
            losses = []
            for x, y in chunks:
                step = graph.encode(x, y, states=states)
                states = step.states
                losses.append(step.loss)
                bar.update()
            found = perplexity(predict, indices[cut:], args.steps)
            bar.write(f"epoch {epoch:3}   training perplexity {math.exp(np.mean(losses)):.2f}   "
                      f"held-out perplexity {found:.2f}")  # fmt: skip
    args.out.mkdir(parents=True, exist_ok=True)
    model.save(args.out / "text.safetensors")
    print(f"saved {args.out / 'text.safetensors'}")
    print(sample(model, alphabet, text[cut : cut + 20], args.length, args.warmth, args.seed,
                 args.device))  # fmt: skip
    print(f"perplexity {found:.2f}")


def main() -> None:
    """Run the command line; what an option or a file got wrong is told in one line."""
    args = parse_arguments()
    try:
        train(args)
    except (ArithmeticError, MemoryError, OSError, RuntimeError, ValueError) as error:
        sys.exit(f"{Path(sys.argv[0]).name}: error: {error}")


if __name__ == "__main__":
    main()
