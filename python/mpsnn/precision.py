"""precision_report: what half images and half accumulators change in a model's outputs.

The numbers are computed by `reference`, which rounds every stored value once and, for a half
accumulator, every sum: they hold for any device that keeps the same promises, and need none.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mpsnn import _check, _core
from mpsnn._core import Program
from mpsnn._trace import Symbol, Tracer, flatten
from mpsnn.graph.step import as_tensor
from mpsnn.graph.training import in_order, input_shapes
from mpsnn.nn.module import Module

HALVES = ("float16", "bfloat16")


class _Difference:
    """Largest error so far, and the largest value it is relative to."""

    def __init__(self) -> None:
        self.largest = self.scale = 0.0
        self.same = self.count = 0

    def add(self, got: np.ndarray, exact: np.ndarray, classes: bool) -> None:
        finite = np.isfinite(exact)
        error = np.abs(got - exact)[finite]
        # What overflows, or is NaN where float32 is not, is off without bound.
        error = np.where(np.isnan(error), np.inf, error)
        self.largest = max(self.largest, float(error.max(initial=0.0)))
        self.scale = max(self.scale, float(np.abs(exact[finite]).max(initial=0.0)))
        if classes:
            agree = got.argmax(-1) == exact.argmax(-1)
            self.same += int(agree.sum())
            self.count += agree.size

    def row(self) -> dict[str, Any]:
        relative = self.largest / self.scale if self.scale else self.largest
        found: dict[str, Any] = {"max": self.largest, "relative": relative}
        if self.count:
            found["top1"] = self.same / self.count
        return found


class PrecisionReport:
    """Prints as a table: a row a layer, in the order of the model, then the outputs.

    Attributes:
        dtype: of the half images.
        layers, outputs: dicts with name, shape (of one item) and, under "images" and, in float16,
            "accumulators", what half images change alone and with half accumulators: "max", the
            largest error of any element, "relative", that over the largest value of the layer, and
            for outputs "top1", the fraction of rows whose largest element stays the same one.
        count: the items that were compared.
    """

    def __init__(
        self, dtype: str, layers: list[dict[str, Any]], outputs: list[dict[str, Any]], count: int
    ) -> None:
        self.dtype, self.layers, self.outputs, self.count = dtype, layers, outputs, count

    def __str__(self) -> str:
        modes = [m for m in ("images", "accumulators") if m in (self.layers + self.outputs)[0]]
        head = ["", "shape", *(f"half {m}: {what}" for m in modes
                               for what in ("max", "relative", "top-1"))]  # fmt: skip
        table = [head]
        for row in self.layers + self.outputs:
            line = [row["name"], "x".join(map(str, row["shape"]))]
            for mode in modes:
                found = row[mode]
                line += [f"{found['max']:.3g}", f"{found['relative']:.2e}"]
                line.append(f"{found['top1']:.2%}" if "top1" in found else "")
            table.append(line)
        widths = [max(len(line[i]) for line in table) for i in range(len(head))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip()
                 for line in table]  # fmt: skip
        lines.insert(1, "  ".join("-" * w for w in widths))
        lines.append(f"{self.count} items in {self.dtype} against float32, on reference")
        return "\n".join(lines)

    __repr__ = __str__


def precision_report(
    model: Module, data: Any, *, dtype: str = "float16", batch_size: int = 32
) -> PrecisionReport:
    """What half images, and half accumulators, change in a model's inference, layer by layer.

    The model runs on `reference` three times: in float32, with half images, and with half images
    and accumulators. Every layer is compared as it stands in the network, so that errors of those
    before it are in its numbers, and the outputs end to end.

    Args:
        model: it is not changed; normalisation uses its running statistics.
        data: inputs `(N, ...)`, floating; a tuple in `forward`'s order or a dict by name for
            several.
        dtype: "float16" or "bfloat16". Half accumulators exist in float16 only.
        batch_size: items at a time.

    Returns:
        A PrecisionReport, which prints as a table. An error is infinite where half overflows.

    Raises:
        ShapeError, DTypeError: the data do not fit the model.
        ValueError, TypeError: there are no data, or an argument is wrong.
    """
    me = "precision_report"
    if not isinstance(model, Module):
        raise TypeError(f"[{me}] model must be a Module, got {model!r}")
    _check.one_of(me, "dtype", dtype, HALVES)
    most = _check.integer(me, "batch_size", batch_size)
    arrays = _arrays(model, data)
    count = arrays[0].shape[0]
    shapes = [tuple(a.shape[1:]) for a in arrays]
    batch = min(most, count)
    exact, names = _compile(model, shapes, batch, "float32", False)
    modes = {"images": _compile(model, shapes, batch, dtype, False)[0]}
    if dtype == "float16":
        modes["accumulators"] = _compile(model, shapes, batch, dtype, True)[0]
    found = [{mode: _Difference() for mode in modes} for _ in names]
    item_shapes: list[tuple[int, ...]] = [()] * len(names)
    for start in range(0, count, batch):
        piece = tuple(a[start : start + batch] for a in arrays)
        expected = _run(exact, piece, len(names))
        for mode, program in modes.items():
            for i, got in enumerate(_run(program, piece, len(names))):
                is_output = names[i][1]
                classes = is_output and got.ndim > 1 and got.shape[-1] > 1
                found[i][mode].add(got, expected[i], classes)
        item_shapes = [value.shape[1:] for value in expected]
    rows: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    for (name, is_output), shape, differences in zip(names, item_shapes, found, strict=True):
        row = {"name": name, "shape": shape, **{m: d.row() for m, d in differences.items()}}
        rows[is_output].append(row)
    return PrecisionReport(dtype, *rows, count)


def _arrays(model: Module, data: Any) -> list[Any]:
    values = data if isinstance(data, (tuple, dict)) else (data,)
    any_shapes = dict.fromkeys(values, (1,)) if isinstance(values, dict) else ((1,),) * len(values)
    names = [name for name, _ in input_shapes(model, any_shapes)]
    arrays = [as_tensor(a) for a in in_order(values, names, "inputs")]
    arrays = [np.asarray(a) if not hasattr(a, "shape") else a for a in arrays]
    sizes = {tuple(a.shape)[:1] for a in arrays}
    if len(sizes) != 1 or sizes == {()}:
        raise _core.ShapeError(
            f"[precision_report] inputs need one batch axis, got {[tuple(a.shape) for a in arrays]}"
        )
    if sizes == {(0,)}:
        raise ValueError("[precision_report] there are no data")
    return arrays


def _compile(
    model: Module, shapes: list[tuple[int, ...]], batch: int, dtype: str, half_accumulator: bool
) -> tuple[Program, list[tuple[str, bool]]]:
    """The program, and (name, is it an output) of each of its results."""
    tracer = Tracer(dtype, model)
    inputs = input_shapes(model, tuple(shapes))
    symbols = [tracer.symbol(name, (batch, *shape)) for name, shape in inputs]
    leaves = flatten(tracer.call(model, tuple(symbols), {}))
    if not all(isinstance(leaf, Symbol) for leaf in leaves):
        raise TypeError("[precision_report] forward must return values of the graph")
    modules = {path for path, module in model.named_modules() if path and module.is_layer}
    names = [(name, False) for name in tracer.names if name in modules]
    results = [(name, tracer.names[name], False) for name, _ in names]
    for i, leaf in enumerate(leaves):
        names.append(("output" if len(leaves) == 1 else f"output {i}", True))
        results.append((names[-1][0], leaf.id, False))
    program = Program.compile(
        tracer.graph, device="reference", results=results, half_accumulator=half_accumulator
    )
    return program, names


def _run(program: Program, inputs: tuple[Any, ...], count: int) -> list[np.ndarray]:
    step = program.encode(inputs, ())
    step.wait()
    return [np.array(step.result(i).numpy(), np.float64) for i in range(count)]
