"""InferenceGraph: predictions, and evaluation on a test set."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mpsnn import _check, _core
from mpsnn._core import Program, ShapeError, UnsupportedError
from mpsnn._device import on_device
from mpsnn._trace import Symbol, Tracer, flatten, rebuild
from mpsnn.graph.profile import Profile
from mpsnn.graph.step import as_tensor, fresh
from mpsnn.graph.summary import Summary
from mpsnn.graph.training import DTYPES, in_order, input_shapes
from mpsnn.nn.losses import Loss
from mpsnn.nn.module import Module

METRICS = ("accuracy", "top5", "confusion")


class InferenceGraph:
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
        self._structure: Any = None
        self._output_shapes: list[tuple[int, ...]] = []

        def build(where: str) -> Program:
            tracer = Tracer(self.dtype, model, training=False)
            symbols = [
                tracer.symbol(name, (self.batch_size, *shape)) for name, shape in self._shapes
            ]
            self._structure = tracer.call(model, tuple(symbols), {})
            leaves = flatten(self._structure)
            if not all(isinstance(leaf, Symbol) for leaf in leaves):
                raise TypeError("[InferenceGraph] forward must return values of the graph")
            self._output_shapes = [leaf.shape for leaf in leaves]
            results = [(f"y{i}", y.id, False) for i, y in enumerate(leaves)]
            return Program.compile(
                tracer.graph, device=where, half_accumulator=half, results=results
            )

        self._program, self.device, self._reason = on_device(device, build)

    def __call__(self, inputs: Any) -> Any:
        """What `forward` returns for inputs `(N, ...)`, any N; numpy in, numpy out."""
        arrays = [as_tensor(a) for a in in_order(inputs, self._names, "inputs")]
        tensors = any(isinstance(a, _core.Tensor) for a in arrays)
        found = [np.asarray(a) if not hasattr(a, "shape") else a for a in arrays]
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
        results = [np.empty((count, *shape[1:]), kind) for shape in self._output_shapes]
        flying: deque[tuple[int, int, Any]] = deque()

        def collect() -> None:
            start, size, step = flying.popleft()
            step.wait()
            for i, result in enumerate(results):
                result[start : start + size] = fresh(step.result(i))[:size]

        for start in range(0, count, self.batch_size):
            size = min(self.batch_size, count - start)
            piece = tuple(self._piece(a, start, size) for a in found)
            flying.append((start, size, self._program.encode(piece, ())))
            if len(flying) == 2:
                collect()
        while flying:
            collect()
        if tensors:
            return rebuild(self._structure, [_core.Tensor(r, device=self.device) for r in results])
        return rebuild(self._structure, list(results))

    def _piece(self, array: Any, start: int, size: int) -> Any:
        piece = array[start : start + size]
        if size == self.batch_size:
            return piece
        values = np.asarray(piece)
        padded = np.zeros((self.batch_size, *values.shape[1:]), values.dtype)
        padded[:size] = values
        return padded

    def evaluate(
        self, x: Any, y: Any = None, *, loss: Any = None, metrics: Sequence[str] = ("accuracy",)
    ) -> dict[str, Any]:
        """Loss and metrics on a test set.

        Args:
            x, y: inputs and class indices; or `x` alone, an iterable of `(inputs, targets)`.
            loss: a loss of `mpsnn.nn`, added as "loss".
            metrics: of "accuracy", "top5" (fractions of the valid elements) and "confusion"
                (counts `(C, C)`, rows are the truth).

        Raises:
            ValueError: an unknown metric, or nothing to evaluate.
            ShapeError: targets do not fit the outputs.
        """
        for metric in metrics:
            _check.one_of("evaluate", "metrics", metric, METRICS)
        if loss is not None and not isinstance(loss, Loss):
            raise TypeError(f"[evaluate] loss must be a loss of mpsnn.nn, got {loss!r}")
        pairs: Iterable[Any] = x if y is None else [(x, y)]
        outputs, targets = [], []
        for inputs, labels in pairs:
            predicted = self(inputs)
            if not isinstance(predicted, (np.ndarray, _core.Tensor)):
                raise UnsupportedError("[evaluate] models of one output are supported")
            outputs.append(np.asarray(predicted))
            targets.append(np.asarray(labels))
        if not outputs or sum(len(o) for o in outputs) == 0:
            raise ValueError("[evaluate] there is nothing to evaluate")
        logits, truth = np.concatenate(outputs), np.concatenate(targets)
        found: dict[str, Any] = {}
        if loss is not None:
            found["loss"] = loss(logits, truth)[0]
        if metrics:
            ignore = getattr(loss, "attrs", {}).get("ignore_index", -100)
            found.update(classify(logits, truth, metrics, ignore))
        return found

    @property
    def planned_bytes(self) -> int:
        """Memory of a run, after aliasing."""
        return self._program.planned_bytes()

    @property
    def naive_bytes(self) -> int:
        """The same with nothing shared or fused."""
        return self._program.naive_bytes()

    def summary(self) -> Summary:
        """The nodes, kernels and memory of a run; prints as a table."""
        return Summary(self._program, self.device, self._reason, self.dtype)

    def profile(self) -> Profile:
        """Record what is encoded in a `with` block, node by node: a table, and a Chrome trace.

        Raises:
            UnsupportedError: on entering the block, where the device does not tell times.
        """
        return Profile([self._program], self.device)

    def to_dot(self) -> str:
        """The compiled graph in Graphviz's language."""
        return self._program.to_dot()

    def __getstate__(self) -> Any:
        raise TypeError("graphs do not pickle or copy: the model does")


def classify(
    logits: np.ndarray, truth: np.ndarray, metrics: Sequence[str], ignore: int
) -> dict[str, Any]:
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
