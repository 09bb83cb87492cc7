"""Graph: nodes by hand, forward and gradient, in the words of WWDC 2018, talk 609."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mpsnn import _check, _core, ops
from mpsnn._core import Program
from mpsnn._device import on_device
from mpsnn._trace import Symbol, Tracer
from mpsnn.graph.program import ProgramGraph
from mpsnn.graph.step import Step, as_tensor, fresh
from mpsnn.graph.training import DTYPES, update_options
from mpsnn.graph.values import LossLabels
from mpsnn.nn.losses import FunctionLoss, Loss
from mpsnn.nn.module import Module
from mpsnn.optim import Optimizer
from mpsnn.optim.host import HostUpdate


class Graph:
    """A graph of explicit nodes. Values are `Symbol`s; their batch axis reads 1 until compiled.

    A layer node is made by its method here or by calling the layer on a value. `y.gradient(gy)`
    appends the gradient node of the node that made `y`.

    Args:
        dtype: storage of images, as `TrainingGraph`.
    """

    def __init__(self, dtype: str = "float32") -> None:
        self.dtype = _check.one_of("Graph", "dtype", dtype, DTYPES)
        self._tracer = Tracer(self.dtype)
        self._inputs: list[Symbol] = []
        self._weights: dict[int, Symbol] = {}  # labels -> their image weights
        self._losses: dict[int, Symbol] = {}  # loss -> its images' losses

    def _input(self, shape: tuple[Any, ...], kind: str, dtype: str | None = None,
               **spec: Any) -> Symbol:  # fmt: skip
        sizes = [_check.integer(f"Graph.{kind}", "a size", s) for s in shape]
        name = f"{kind}{len(self._inputs)}"
        made = self._tracer.symbol(name, (1, *sizes), dtype, **spec)
        self._inputs.append(made)
        return made

    def _labels(self, shape: tuple[Any, ...], dtype: str, **spec: Any) -> Symbol:
        made = self._input(shape, "labels", dtype, **spec)
        self._weights[made.id] = self._input((), "weights", self._master, optional=True)
        return made

    @property
    def _master(self) -> str:
        return "float64" if self.dtype == "float64" else "float32"

    def image(self, *shape: int) -> Symbol:
        """An input of images `(H, W, C)`, sequences `(T, C)` or rows `(C,)`."""
        return self._input(shape, "image")

    def labels(self, classes: int, *positions: int, ignore_index: int = -100) -> Symbol:
        """An input of class indices, `(N,)` or `(N, *positions)`."""
        count = _check.integer("Graph.labels", "classes", classes)
        ignored = _check.integer("Graph.labels", "ignore_index", ignore_index, -(2**31), 2**31 - 1)
        return self._labels(positions, "int32", classes=count, ignore_index=ignored)

    def targets(self, *shape: int) -> Symbol:
        """An input of soft labels or of values to regress to, `(N, *shape)`."""
        return self._labels(shape, self._master)

    def node(self, x: Any, layer: Any) -> Any:
        """What `layer` makes of x."""
        if not isinstance(layer, Module):
            raise TypeError(f"[Graph] a node takes a layer of mpsnn.nn, got {layer!r}")
        self._own(x)
        return layer(x)

    convolution = fully_connected = pooling = neuron = normalization = dropout = softmax = node

    def concatenation(self, parts: Sequence[Symbol]) -> Any:
        """The parts joined along channels."""
        return ops.concat([self._own(p) for p in _sequence("concatenation", "parts", parts)])

    def addition(self, a: Symbol, b: Symbol) -> Any:
        """A + b."""
        return ops.add(self._own(a), self._own(b))

    def _own(self, x: Any) -> Symbol:
        if not isinstance(x, Symbol) or x.tracer is not self._tracer:
            raise TypeError(f"[Graph] expected a value of this graph, got {x!r}")
        return x

    def loss(self, y: Symbol, labels: Symbol, loss: Any, weights: Symbol | None = None) -> Symbol:
        """The scalar loss of y; `loss` is one of `nn` or a function `f(y, labels) -> (N,)`.

        `weights` are an input (`targets`) of weights of elements or positions.
        """
        if not isinstance(loss, Loss):
            if not callable(loss):
                raise TypeError(f"[Graph] expected a loss, got {loss!r}")
            loss = FunctionLoss(loss)
        if loss.attrs["reduction"] == "none":
            raise ValueError("[Graph] the loss of a graph is one number: reduction must be 'mean' "
                             "or 'sum'")  # fmt: skip
        self._tracer.layer = type(loss).__name__
        try:
            total, losses = loss.apply(
                self._own(y),
                self._own(labels),
                self._weights.get(labels.id),
                None if weights is None else self._own(weights),
            )
        finally:
            self._tracer.layer = None
        self._losses[total.id] = losses
        found: Symbol = total
        return found

    def total(self, losses: Sequence[Symbol], weights: Sequence[float] | None = None) -> Symbol:
        """The weighted sum of losses, a loss again."""
        parts = [self._own(one) for one in _sequence("total", "losses", losses)]
        given = [1.0] * len(parts) if weights is None else _sequence("total", "weights", weights)
        factors = [_check.number("Graph.total", "weights", w, 0) for w in given]
        if not parts or any(p.id not in self._losses for p in parts):
            raise ValueError("[Graph.total] expected losses of this graph")
        made = self._tracer.add("total_loss", parts, {"weights": factors})[0]
        self._losses[made.id] = self._losses[parts[0].id]
        return made

    def training_graph(self, loss: Symbol) -> tuple[Symbol, ...]:
        """Append every gradient node that leads from a loss back to the parameters and images.

        Returns:
            The gradients by the images that the loss depends on.
        """
        self._own(loss)
        if loss.id not in self._losses:
            raise ValueError("[Graph] training_graph starts from a loss")
        graph = self._tracer.graph
        gradients: dict[int, int] = {}
        for _, is_gradient, operands, outputs in reversed(graph.nodes()):
            start = loss.id in outputs
            given = [gradients.get(o, -1) for o in outputs]
            if is_gradient or not (start or any(g >= 0 for g in given)):
                continue
            for x, by in zip(operands, graph.gradient(outputs[0], given), strict=True):
                if by < 0 or graph.is_parameter(x):
                    continue
                if x in gradients:
                    by = graph.add("add", [gradients[x], by], {}, "gradient")[0]
                gradients[x] = by
        return tuple(
            Symbol(self._tracer, gradients[x.id])
            for x in self._inputs
            if x.id in gradients and x.id not in self._weights
        )

    def compile(
        self, results: Sequence[Symbol], optimizer: Optimizer | None = None, batch_size: int = 1,
        device: Any = "auto", *, seed: int | None = None, **options: Any,
    ) -> CompiledGraph:  # fmt: skip
        """Compile what the results need.

        With an optimizer, every parameter that a gradient node of the graph is by is updated in
        each encode. More nodes may be added later; they belong to the next `compile`.

        Args:
            results: values to find in `step.outputs`; the first loss among them is `step.loss`.
            optimizer: a recipe, or None to update nothing.
            batch_size: of a full batch.
            device: as `TrainingGraph`.
            seed: of dropout.
            options: `accumulate`, `clip_value`, `clip_norm`, `loss_scale`, `ema`, `check_finite`
                and `accumulator`, as `TrainingGraph`.

        Raises:
            ValueError: there is nothing to train, or no result.
        """
        if optimizer is not None and not isinstance(optimizer, Optimizer):
            raise TypeError(f"[Graph] optimizer must be one of mpsnn.optim, got {optimizer!r}")
        values = [self._own(r) for r in _sequence("compile", "results", results)]
        if not values:
            raise ValueError("[Graph] compile needs at least one result")
        batch = _check.integer("Graph.compile", "batch_size", batch_size)
        return CompiledGraph(self, values, optimizer, batch, device, seed, options)


def _sequence(method: str, name: str, value: Any) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"[Graph.{method}] {name} must be a list, got {value!r}")
    return list(value)


class CompiledGraph(ProgramGraph):
    """An explicit graph compiled for a device; made by `Graph.compile`."""

    def __init__(
        self, graph: Graph, results: list[Symbol], optimizer: Optimizer | None, batch_size: int,
        device: Any, seed: int | None, options: dict[str, Any],
    ) -> None:  # fmt: skip
        tracer = graph._tracer
        core = tracer.graph.with_batch(batch_size)
        training = any(is_gradient for _, is_gradient, _, _ in core.nodes())
        if optimizer is not None and not training:
            raise ValueError("[Graph] an optimizer needs gradient nodes: y.gradient(...) or "
                             "training_graph(loss)")  # fmt: skip
        settings = update_options("Graph.compile", graph.dtype, **options)
        if seed is None:
            seed = int.from_bytes(os.urandom(7), "little")
        seed = _check.integer("Graph.compile", "seed", seed, 0)
        self.batch_size, self.dtype, self.optimizer = batch_size, graph.dtype, optimizer
        self._inputs = list(graph._inputs)
        self._weights = dict(graph._weights)
        self._results = tuple(results)
        losses = [r for r in results if r.id in graph._losses]
        kept = [*losses[:1], *(graph._losses[r.id] for r in losses[:1]), *results]
        self._lossy = bool(losses)
        named = [(f"r{i}", r.id, False) for i, r in enumerate(kept)]
        spec, self._rates = None, ()
        trained = [
            (tracer.parameters[v], p) for v, (p, layer) in tracer.objects.items()
            if not p.buffer and p.trainable and (layer is None or layer.trainable)
        ]  # fmt: skip
        if optimizer is not None:
            host = HostUpdate(optimizer, None)
            spec = optimizer.spec(trained, host if host.needed else None)

        def build(where: str) -> Program:
            return Program.compile(
                core, device=where, training=training, seed=seed, results=named, optimizer=spec,
                **settings,
            )  # fmt: skip

        self._program, self.device, self._reason = on_device(device, build)

    def encode(self, values: Mapping[Symbol, Any]) -> Step:
        """Queue one step and return at once.

        Args:
            values: an array for each input; `LossLabels` where labels have image weights.

        Raises:
            ValueError: a key is no input of the graph. TypeError: an input is missing.
            ShapeError, DTypeError: an array does not fit.
        """
        if not isinstance(values, Mapping):
            raise TypeError(f"[Graph] encode takes a dict of arrays by input, got {values!r}")
        given: dict[int, Any] = {}
        known = {x.id for x in self._inputs}
        for symbol, array in values.items():
            if not isinstance(symbol, Symbol) or symbol.id not in known:
                raise ValueError(f"[Graph] {symbol!r} is no input of this graph")
            if isinstance(array, LossLabels):
                if symbol.id not in self._weights:
                    raise TypeError("[Graph] LossLabels are for labels and targets")
                given[self._weights[symbol.id].id] = array.weights
                array = array.targets
            given[symbol.id] = as_tensor(array)
        rates: tuple[float, ...] = ()
        if self.optimizer is not None:
            update = self._program.encoded_updates()
            rates = tuple(float(r(update)) if callable(r) else r for r in self.optimizer.rates())
        core = self._program.encode(tuple(given.get(x.id) for x in self._inputs), rates)
        tensors = any(isinstance(a, _core.Tensor) for a in given.values())
        return GraphStep(core, self._results, tensors, (1.0,) if self._lossy else ())

    def wait(self) -> None:
        """Wait for all queued steps and raise what they left."""
        self._program.wait()


class GraphStep(Step):
    """A step of an explicit graph: `outputs` by value; `loss` only if a loss is a result."""

    __slots__ = ()

    def _check_loss(self) -> None:
        if not self._parts:
            raise ValueError("no loss is among the results")

    @property
    def loss(self) -> float:
        """The first loss among the results. Waits."""
        self._check_loss()
        return float(Step.loss.__get__(self))

    @property
    def losses(self) -> np.ndarray:
        """The same formula over each image, `(N,)`. Waits."""
        self._check_loss()
        return np.asarray(Step.losses.__get__(self))

    @property
    def outputs(self) -> dict[Any, Any]:
        """The results, by value. Waits."""
        self._core.wait()
        skip = 2 if self._parts else 0
        found = {}
        for i, name in enumerate(self._names):
            value = self._core.result(skip + i)
            found[name] = value if self._tensors else fresh(value)
        return found


__all__ = ["CompiledGraph", "Graph"]
