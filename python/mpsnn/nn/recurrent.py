"""Recurrent layers: LSTM, GRU, RNN and the minimally gated unit, batch first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mpsnn import _check, ops
from mpsnn._core import ShapeError
from mpsnn._random import uniform
from mpsnn.data.source import DataSource
from mpsnn.nn.module import Module, Parameter, initial
from mpsnn.ops.recurrent import NEURONS, recurrent


def _checked(me: str, shapes: dict[str, tuple[int, ...]], given: Any) -> dict[str, np.ndarray]:
    """Given arrays by name, as float32; biases that are missing are zeros."""
    if not isinstance(given, Mapping):
        raise TypeError(f"[{me}] weights must be a dict of arrays by name, got {given!r}")
    if unknown := [name for name in given if name not in shapes]:
        raise ValueError(f"[{me}] there are no arrays {unknown}; there are {list(shapes)}")
    made = {}
    for name, shape in shapes.items():
        if name not in given and not name.startswith("bias"):
            raise ValueError(f"[{me}] weights have no array {name!r}")
        value = given.get(name, np.zeros(shape, np.float32))
        made[name] = initial(me, name, shape, _check.numbers(me, name, value), 0)
    return made


class Recurrent(Module):
    """Base of the recurrent layers: stacked, one or both directions.

    Arrays of layer k: `weight_ih_l{k}` `(G H, in)`, `weight_hh_l{k}` `(G H, H)`, `bias_l{k}`
    `(G H)` and what the cell has besides; those of the second direction end in `_reverse`. Drawn as
    in PyTorch, whose two biases are one here: their sum.

    `weights=` gives them instead: a dict of arrays by name, `f(shape, generator)` for the weights
    alone, or a `DataSource` whose `weights()` is such a dict, in which biases may be left out.
    """

    is_layer = True
    cell = ""
    gates = 1
    fields: tuple[str, ...] = ("h",)  # of its state

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, *,
        dropout: float = 0.0, bidirectional: bool = False, merge: str = "concat",
        return_sequences: bool = True, return_state: bool = False, weights: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        me = type(self).__name__
        self.input_size = _check.integer(me, "input_size", input_size)
        self.hidden_size = _check.integer(me, "hidden_size", hidden_size)
        self.num_layers = _check.integer(me, "num_layers", num_layers)
        self.has_bias = _check.flag(me, "bias", bias)
        self.dropout = _check.number(me, "dropout", dropout, 0, 1, open_high=True)
        self.bidirectional = _check.flag(me, "bidirectional", bidirectional)
        self.merge = _check.one_of(me, "merge", merge, ("concat", "sum"))
        self.return_sequences = _check.flag(me, "return_sequences", return_sequences)
        self.return_state = _check.flag(me, "return_state", return_state)
        size = self.input_size
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in range(self.num_layers):
            for suffix in self._suffixes(layer):
                shapes |= {f"{name}_{suffix}": shape for name, shape in self._shapes(size).items()}
            size = self.output_size
        for name, parameter in self._make(me, shapes, weights).items():
            setattr(self, name, parameter)

    @property
    def output_size(self) -> int:
        """Features of the output: twice `hidden_size` where two directions are joined."""
        return self.hidden_size * (2 if self.bidirectional and self.merge == "concat" else 1)

    def _suffixes(self, layer: int) -> list[str]:
        return [f"l{layer}", f"l{layer}_reverse"][: 2 if self.bidirectional else 1]

    def _all_suffixes(self) -> list[str]:
        return [s for layer in range(self.num_layers) for s in self._suffixes(layer)]

    def _shapes(self, size: int) -> dict[str, tuple[int, ...]]:
        """The arrays of one layer and direction with `size` input features."""
        rows = self.gates * self.hidden_size
        found: dict[str, tuple[int, ...]] = {
            "weight_ih": (rows, size), "weight_hh": (rows, self.hidden_size),
        }  # fmt: skip
        if self.has_bias:
            found["bias"] = (rows,)
        return found

    def _draw(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        bound = 1 / math.sqrt(self.hidden_size)
        drawn = uniform(bound, shape)
        return drawn + uniform(bound, shape) if name == "bias" else drawn

    def _make(
        self, me: str, shapes: dict[str, tuple[int, ...]], weights: Any
    ) -> dict[str, Parameter]:
        """The arrays: drawn, given, or of a data source that is loaded when they are needed."""
        if isinstance(weights, DataSource):
            self.__dict__["source"] = weights
            lazy: dict[str, Parameter] = {}

            def fill() -> None:
                weights.load()
                try:
                    for name, value in _checked(me, shapes, weights.weights()).items():
                        if lazy[name]._core is None:
                            lazy[name].assign(value)
                finally:
                    weights.purge()

            lazy |= {name: Parameter.lazy(shape, fill) for name, shape in shapes.items()}
            return lazy
        given = _checked(me, shapes, weights) if isinstance(weights, Mapping) else {}
        if weights is not None and not given and not callable(weights):
            raise TypeError(f"[{me}] weights must be a dict of arrays by name, a function or a "
                            f"DataSource, got {weights!r}")  # fmt: skip
        made = {}
        for name, shape in shapes.items():
            kind = name[: name.rindex("_l")]
            if callable(weights) and kind.startswith("weight"):
                made[name] = Parameter(initial(me, name, shape, weights, 0))
            else:
                made[name] = Parameter(given[name] if given else self._draw(kind, shape))
        return made

    def _array(self, name: str, suffix: str) -> Parameter | None:
        return getattr(self, f"{name}_{suffix}", None)

    def _neuron(self) -> str:
        return "tanh"

    def forward(self, x: Any, state: Any = None, lengths: Any = None) -> Any:
        """`(N, T, C)`, or images `(N, 1, T, C)`, to `(N, T, D H)`.

        Args:
            x: the sequences.
            state: h, or (h, c) of an LSTM, each `(layers * D, N, H)`; zeros if None.
            lengths: `(N,)` integers: steps past them give zero and leave the state; T if None.

        Returns:
            The outputs `(N, T, D H)`, D being 2 where two directions are joined; or both
            directions' final outputs `(N, D H)` with `return_sequences=False`. With
            `return_state=True` also the final state, in the form of `state`.
        """
        tracer = x.tracer
        sequence, path = tracer.sequence, tracer.path(self)
        if len(x.shape) not in (3, 4) or x.shape[-1] != self.input_size:
            raise ShapeError(
                f"[{type(self).__name__} {path}] expected (N, T, {self.input_size}), got {x.shape}"
            )
        if lengths is None and sequence is not None:
            lengths = sequence.lengths(x)
        suffixes = self._all_suffixes()
        initial = self._initial(x, state, path, len(suffixes))
        final: list[list[Any]] = [[] for _ in self.fields]
        last: list[Any] = []
        for layer in range(self.num_layers):
            if layer > 0 and self.dropout > 0 and tracer.training(self) is not False:
                x = ops.apply("dropout", [x], {"rate": self.dropout})[0]
            made = []
            last = []
            for direction, suffix in enumerate(self._suffixes(layer)):
                slot = len(final[0])
                h0, c0 = initial[0][slot], initial[1][slot] if len(initial) > 1 else None
                w, u, bias, bias_hn, peephole = (
                    self._array(name, suffix)
                    for name in ("weight_ih", "weight_hh", "bias", "bias_hn", "peephole")
                )
                y, *states = recurrent(
                    self.cell, x, w, u, bias, bias_hn, peephole, h0, c0, lengths,
                    reverse=direction == 1, neuron=self._neuron(),
                )  # fmt: skip
                made.append(y)
                last.append(states[0])
                for values, value in zip(final, states, strict=True):
                    values.append(value)
            x = self._merged(made)
        if sequence is not None:
            sequence.final(path, self.fields, final)
        output = x if self.return_sequences else self._merged(last)
        if not self.return_state:
            return output
        stacked = tuple(ops.stack(values) for values in final)
        return output, stacked if len(stacked) > 1 else stacked[0]

    def _merged(self, parts: list[Any]) -> Any:
        if len(parts) == 1:
            return parts[0]
        return ops.concat(parts) if self.merge == "concat" else ops.add(*parts)

    def _initial(self, x: Any, state: Any, path: str, slots: int) -> list[list[Any]]:
        """The initial state of each layer and direction, for each field."""
        shape = (x.shape[0], self.hidden_size)
        if state is None:
            sequence = x.tracer.sequence
            made = sequence.initial(path, self.fields, slots, shape) if sequence else None
            return made or [[None] * slots for _ in self.fields]
        given = state if isinstance(state, (tuple, list)) else (state,)
        if len(given) != len(self.fields):
            raise ValueError(f"[{type(self).__name__} {path}] state must be {self.fields}")
        for name, value in zip(self.fields, given, strict=True):
            if value.shape != (slots, *shape):
                raise ShapeError(
                    f"[{type(self).__name__} {path}] state {name} must be {(slots, *shape)}, got "
                    f"{value.shape}"
                )
        return [ops.unstack(value) for value in given]


class LSTM(Recurrent):
    """Long short-term memory (MPSLSTMDescriptor; Hochreiter, Schmidhuber 1997), as PyTorch's.

    i, f, o = sigmoid, g = tanh of W x + U h + b; c' = f c + i g; h' = o tanh(c').

    Args:
        input_size, hidden_size, num_layers, bias, dropout, bidirectional: as PyTorch's; `dropout`
            is between layers.
        merge: "concat" joins the two directions along the features, "sum" adds them.
        return_sequences: False gives the final outputs `(N, D H)` alone.
        return_state: also return the final state.
        peepholes: i, f and o see the cell through weights `peephole_l{k}` `(3, H)`.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
    """

    cell = "lstm"
    gates = 4
    fields = ("h", "c")

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, *,
        peepholes: bool = False, **options: Any,
    ) -> None:  # fmt: skip
        self.peepholes = _check.flag("LSTM", "peepholes", peepholes)
        super().__init__(input_size, hidden_size, num_layers, bias, **options)

    def _shapes(self, size: int) -> dict[str, tuple[int, ...]]:
        found = super()._shapes(size)
        if self.peepholes:
            found["peephole"] = (3, self.hidden_size)
        return found

    @classmethod
    def from_torch(cls, layer: Any) -> LSTM:
        """The same layer as a `torch.nn.LSTM` or, in the other classes, `GRU` and `RNN`."""
        from mpsnn.export.recurrent import from_torch

        return from_torch(cls, layer)

    @classmethod
    def from_keras(cls, weights: Any, **options: Any) -> LSTM:
        """A layer from `keras_layer.get_weights()`; two directions give twice the arrays."""
        from mpsnn.export.recurrent import from_keras

        return from_keras(cls, weights, **options)

    @classmethod
    def from_onnx(cls, w: Any, r: Any, b: Any = None, p: Any = None, **options: Any) -> LSTM:
        """A layer from the inputs W, R, B and P of an ONNX LSTM node."""
        from mpsnn.export.recurrent import from_onnx

        return from_onnx(cls, w, r, b, p, **options)


class GRU(Recurrent):
    """Gated recurrent unit (MPSGRUDescriptor; Cho et al. 2014), as PyTorch's.

    r, z = sigmoid of W x + U h + b; h' = (1 - z) n + z h.

    Args:
        input_size, hidden_size, num_layers, bias: as LSTM, and its keywords but `peepholes`.
        reset_after: True, n = tanh(W x + b + r (U h + b_hn)): PyTorch, cuDNN, ONNX with
            linear_before_reset, Keras 2. False, n = tanh(W x + b + U (r h)): MPS, Keras 1.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
    """

    gates = 3

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, *,
        reset_after: bool = True, **options: Any,
    ) -> None:  # fmt: skip
        self.reset_after = _check.flag("GRU", "reset_after", reset_after)
        self.cell = "gru" if reset_after else "gru_reset_before"
        super().__init__(input_size, hidden_size, num_layers, bias, **options)

    def _shapes(self, size: int) -> dict[str, tuple[int, ...]]:
        found = super()._shapes(size)
        if self.has_bias and self.reset_after:
            found["bias_hn"] = (self.hidden_size,)
        return found

    def _draw(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        drawn = super()._draw(name, shape)
        if name == "bias" and self.reset_after:  # the n part's second bias is bias_hn
            rest = 2 * self.hidden_size
            drawn[rest:] = uniform(1 / math.sqrt(self.hidden_size), drawn[rest:].shape)
        return drawn

    @classmethod
    def from_torch(cls, layer: Any) -> GRU:
        """The same layer as a `torch.nn.GRU`."""
        from mpsnn.export.recurrent import from_torch

        return from_torch(cls, layer)

    @classmethod
    def from_keras(cls, weights: Any, **options: Any) -> GRU:
        """A layer from `keras_layer.get_weights()`; two directions give twice the arrays.

        A bias of two rows is that of `reset_after=True`.
        """
        from mpsnn.export.recurrent import from_keras

        return from_keras(cls, weights, **options)

    @classmethod
    def from_onnx(
        cls, w: Any, r: Any, b: Any = None, *, linear_before_reset: int = 0, **options: Any
    ) -> GRU:
        """A layer from the inputs W, R and B of an ONNX GRU node."""
        from mpsnn.export.recurrent import from_onnx

        return from_onnx(cls, w, r, b, reset_after=bool(linear_before_reset), **options)


class RNN(Recurrent):
    """One gate (MPSRNNSingleGateDescriptor; Elman 1990): h' = f(W x + U h + b).

    Args:
        input_size, hidden_size, num_layers: as LSTM, and its keywords but `peepholes`.
        nonlinearity: f: "tanh", "relu", "sigmoid" or "linear".
        bias: whether there is one.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
    """

    cell = "rnn"

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh",
        bias: bool = True, **options: Any,
    ) -> None:  # fmt: skip
        self.nonlinearity = _check.one_of("RNN", "nonlinearity", nonlinearity, tuple(NEURONS))
        super().__init__(input_size, hidden_size, num_layers, bias, **options)

    def _neuron(self) -> str:
        return NEURONS[self.nonlinearity]

    @classmethod
    def from_torch(cls, layer: Any) -> RNN:
        """The same layer as a `torch.nn.RNN`."""
        from mpsnn.export.recurrent import from_torch

        return from_torch(cls, layer)

    @classmethod
    def from_keras(cls, weights: Any, **options: Any) -> RNN:
        """A layer from `keras_layer.get_weights()` of a SimpleRNN."""
        from mpsnn.export.recurrent import from_keras

        return from_keras(cls, weights, **options)

    @classmethod
    def from_onnx(cls, w: Any, r: Any, b: Any = None, **options: Any) -> RNN:
        """A layer from the inputs W, R and B of an ONNX RNN node."""
        from mpsnn.export.recurrent import from_onnx

        return from_onnx(cls, w, r, b, **options)


class MGU(Recurrent):
    """Minimally gated unit (MPSGRUDescriptor without a recurrent gate; Zhou et al. 2016).

    f = sigmoid of W x + U h + b; n = tanh(W x + U (f h) + b); h' = (1 - f) h + f n. The gates'
    order is f, n.

    Args:
        input_size, hidden_size, num_layers, bias: as LSTM, and its keywords but `peepholes`.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
    """

    cell = "mgu"
    gates = 2
