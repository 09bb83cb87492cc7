"""InferenceGraph: predictions, and evaluation on a test set."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpsnn import _check, _core
from mpsnn._core import Program, ShapeError, UnsupportedError
from mpsnn._device import on_device
from mpsnn._trace import Symbol, Tracer, flatten, rebuild
from mpsnn.graph.objective import is_soft
from mpsnn.graph.program import ProgramGraph
from mpsnn.graph.sequence import Sequences
from mpsnn.graph.step import as_tensor, fresh
from mpsnn.graph.training import DTYPES, in_order, input_shapes
from mpsnn.nn.losses import Loss
from mpsnn.nn.module import Module

METRICS = ("accuracy", "top5", "confusion")


@dataclass
class _Variant:
    """The program of a form: whether runs have lengths, and states."""

    program: Program
    structure: Any  # of the outputs
    shapes: list[tuple[int, ...]]
    sequence: Sequences


class InferenceGraph(ProgramGraph):
    """A model compiled for inference: dropout is absent, normalisation uses running statistics.

    It shares the model's parameters: what a training graph has updated is seen by the next call.

    Args:
        model, input_shape, device, dtype: as `TrainingGraph`.
        batch_size: images a run; any N is split, the last piece padded.
        accumulator: "float16" permits half accumulation in a float16 graph.

    Raises:
        ShapeError, DTypeError, UnsupportedError, DeviceError, ValueError, TypeError.
    """

    def __init__(
        self, model: Module, input_shape: Any, batch_size: int, device: Any = "auto",
        dtype: str = "float32", *, accumulator: str = "float32",
    ) -> None:  # fmt: skip
        me = "InferenceGraph"
        if not isinstance(model, Module):
            raise TypeError(f"[{me}] model must be a Module, got {model!r}")
        self.model = model
        self.dtype = _check.one_of(me, "dtype", dtype, DTYPES)
        self.batch_size = _check.integer(me, "batch_size", batch_size)
        half = _check.one_of(me, "accumulator", accumulator, ("float16", "float32")) == "float16"
        self._shapes = input_shapes(model, input_shape)
        self._names = [name for name, _ in self._shapes]
        self._half = half
        self._variants: dict[tuple[bool, bool], _Variant] = {}

        def build(where: str) -> Program:
            self._variants[False, False] = self._build(where, False, False)
            return self._variants[False, False].program

        self._program, self.device, self._reason = on_device(device, build)

    def _build(self, where: str, lengths: bool, states: bool) -> _Variant:
        tracer = Tracer(self.dtype, self.model, training=False)
        sequence = Sequences(tracer, self._shapes[0][1], lengths, states, False)
        tracer.sequence = sequence
        symbols = [tracer.symbol(name, (self.batch_size, *shape)) for name, shape in self._shapes]
        structure = tracer.call(self.model, tuple(symbols), {})
        leaves = flatten(structure)
        if not all(isinstance(leaf, Symbol) for leaf in leaves):
            raise TypeError("[InferenceGraph] forward must return values of the graph")
        results = [(f"y{i}", y.id, False) for i, y in enumerate(leaves + sequence.results())]
        program = Program.compile(
            tracer.graph, device=where, half_accumulator=self._half, results=results
        )
        return _Variant(program, structure, [leaf.shape for leaf in leaves], sequence)

    def __call__(self, inputs: Any, *, lengths: Any = None, states: Any = None) -> Any:
        """What `forward` returns for inputs `(N, ...)`, any N; numpy in, numpy out.

        Args:
            inputs: floating arrays.
            lengths: valid steps of each sequence, `(N,)` integers.
            states: initial states of the recurrent layers by path, {} for zeros; the result is then
                (outputs, final states), whose states the next call may take.
        """
        given = in_order(inputs, self._names, "inputs")
        found = [
            as_tensor(_check.numbers(f"input {name}", "the images", a))
            for name, a in zip(self._names, given, strict=True)
        ]
        tensors = any(isinstance(a, _core.Tensor) for a in found)
        sizes = {int(a.shape[0]) if a.shape else -1 for a in found}
        if len(sizes) != 1 or -1 in sizes:
            raise ShapeError(f"[InferenceGraph] inputs need one batch size, got {sorted(sizes)}")
        (count,) = sizes
        for array, (name, shape) in zip(found, self._shapes, strict=True):
            if tuple(array.shape[1:]) != shape:
                raise ShapeError(
                    f"[input {name}] expected (N, {', '.join(map(str, shape))}), "
                    f"got {tuple(array.shape)}"
                )
        kind = np.float64 if self.dtype == "float64" else np.float32
        form = (lengths is not None, states is not None)
        if form not in self._variants:
            self._variants[form] = self._build(self.device, *form)
        variant = self._variants[form]
        results = [np.empty((count, *shape[1:]), kind) for shape in variant.shapes]
        finals = [np.empty((count, *s.shape[1:]), kind) for s in variant.sequence.results()]
        extra = variant.sequence.arrays(count, lengths, states)
        found += [as_tensor(a) for a in extra]
        flying: deque[tuple[int, int, Any]] = deque()

        def collect() -> None:
            start, size, step = flying.popleft()
            step.wait()
            for i, result in enumerate(results + finals):
                result[start : start + size] = fresh(step.result(i))[:size]

        for start in range(0, count, self.batch_size):
            size = min(self.batch_size, count - start)
            piece = tuple(self._piece(a, start, size) for a in found)
            flying.append((start, size, variant.program.encode(piece, ())))
            if len(flying) == 2:
                collect()
        while flying:
            collect()
        leaves = [_core.Tensor(r, device=self.device) for r in results] if tensors else results
        outputs = rebuild(variant.structure, list(leaves))
        return outputs if states is None else (outputs, variant.sequence.gather(finals))

    def _piece(self, array: Any, start: int, size: int) -> Any:
        piece = array[start : start + size]
        if size == self.batch_size:
            return piece
        values = np.asarray(piece)
        padded = np.zeros((self.batch_size, *values.shape[1:]), values.dtype)
        padded[:size] = values
        return padded

    def evaluate(
        self, x: Any, y: Any = None, *, loss: Any = None, metrics: Sequence[str] = ("accuracy",),
        lengths: Any = None, states: Any = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Loss and metrics on a test set.

        Args:
            x, y: inputs and class indices; or `x` alone, an iterable of `(inputs, targets)`.
            loss: a loss of `mpsnn.nn`, added as "loss".
            lengths, states: as for a call, of `x` and `y`; labels past the lengths do not count.
            metrics: of "accuracy", "top5" (fractions of the valid elements) and "confusion"
                (counts `(C, C)`, rows are the truth).

        Raises:
            ValueError: an unknown metric, or nothing to evaluate.
            ShapeError: targets do not fit the outputs.
        """
        if not isinstance(metrics, (list, tuple)):
            raise TypeError(f"[evaluate] metrics must be a list of names, got {metrics!r}")
        for metric in metrics:
            _check.one_of("evaluate", "metrics", metric, METRICS)
        if loss is not None and not isinstance(loss, Loss):
            raise TypeError(f"[evaluate] loss must be a loss of mpsnn.nn, got {loss!r}")
        pairs: Iterable[Any] = x if y is None else [(x, y)]
        if not isinstance(pairs, Iterable):
            raise TypeError(f"[evaluate] expected arrays or (inputs, targets) pairs, got {x!r}")
        outputs, targets = [], []
        for pair in pairs:
            if not isinstance(pair, (list, tuple)) or len(pair) != 2:
                raise TypeError("[evaluate] expected x and y, or an iterable of (inputs, targets)")
            inputs, labels = pair
            predicted = self(inputs, lengths=lengths, states=states)
            if states is not None:
                predicted = predicted[0]
            if not isinstance(predicted, (np.ndarray, _core.Tensor)):
                raise UnsupportedError("[evaluate] models of one output are supported")
            outputs.append(np.asarray(predicted))
            targets.append(np.asarray(_check.numbers("evaluate", "targets", labels)))
        if not outputs or sum(len(o) for o in outputs) == 0:
            raise ValueError("[evaluate] there is nothing to evaluate")
        logits, truth = np.concatenate(outputs), np.concatenate(targets)
        ignore = getattr(loss, "attrs", {}).get("ignore_index", -100)
        found: dict[str, Any] = {}
        counts = None
        if lengths is not None and logits.ndim > 2:
            sequence = self._variants[True, states is not None].sequence
            counts = sequence.valid(lengths, len(logits), logits.shape)
        if loss is not None:
            values, weights = truth, None
            if counts is not None:
                values, weights = loss.masked(truth, None, counts, is_soft(truth))
            found["loss"] = loss(logits, values, weights)[0]
        if metrics:
            found.update(classify(logits, truth, metrics, ignore, counts))
        return found


def classify(
    logits: np.ndarray, truth: np.ndarray, metrics: Sequence[str], ignore: int,
    counts: np.ndarray | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Classification metrics of outputs `(N, ..., C)` against indices or one-hot labels."""
    classes = logits.shape[-1]
    scores = logits.reshape(-1, classes)
    if truth.dtype.kind == "f":
        if truth.size != logits.size:
            raise ShapeError(f"[evaluate] soft labels must be {logits.shape}, got {truth.shape}")
        truth = truth.reshape(-1, classes).argmax(-1)
    if truth.size != len(scores):
        raise ShapeError(f"[evaluate] class indices must be {logits.shape[:-1]}, got {truth.shape}")
    indices = truth.reshape(-1).astype(np.int64)
    valid = indices != ignore
    if counts is not None:
        valid &= counts.reshape(-1)
    wrong = indices[valid & ((indices < 0) | (indices >= classes))]
    if wrong.size:
        raise ValueError(f"[evaluate] class index {wrong[0]} is outside 0..{classes - 1}")
    scores, indices = scores[valid], indices[valid]
    guess = scores.argmax(-1)
    found: dict[str, Any] = {}
    for metric in metrics:
        if metric == "accuracy":
            found[metric] = float((guess == indices).mean()) if len(indices) else 0.0
        elif metric == "top5":
            best = np.argpartition(-scores, min(4, classes - 1), axis=-1)[:, :5]
            hit = (best == indices[:, None]).any(-1)
            found[metric] = float(hit.mean()) if len(indices) else 0.0
        else:
            counts = np.zeros((classes, classes), np.int64)
            np.add.at(counts, (indices, guess), 1)
            found[metric] = counts
    return found
