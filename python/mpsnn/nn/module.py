"""Module and Parameter: registration by attribute, state, files.

A Module's `forward` is ordinary Python. On Symbols it appends to a graph; on arrays it runs at
once,
by tracing itself into a small cached program.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from threading import RLock
from typing import Any

import numpy as np

from mpsnn import _check, _core
from mpsnn._trace import find_symbol

FORMAT = "1"
_filling = RLock()  # one data source is loaded at a time


class Parameter:
    """A trained array of a model, or a buffer such as a running mean.

    Args:
        value: float array in the canonical layout (see `docs/layers.md`).
        buffer: True for what is saved but not trained.
    """

    def __init__(self, value: Any, buffer: bool = False) -> None:
        array = np.asarray(_check.numbers("Parameter", "value", value))
        self._core: Any = _core.Parameter(
            array.astype(np.float32), _check.flag("Parameter", "buffer", buffer)
        )
        self._shape: tuple[int, ...] = self._core.shape
        self._fill: Callable[[], None] | None = None
        self.buffer = buffer
        self.trainable = True

    @classmethod
    def lazy(cls, shape: tuple[int, ...], fill: Callable[[], None]) -> Parameter:
        """One without contents until they are needed: `fill` then sets them with `assign`."""
        new = cls.__new__(cls)
        new._core, new._shape, new._fill = None, shape, fill
        new.buffer, new.trainable = False, True
        return new

    @property
    def core(self) -> Any:
        """The array that graphs share."""
        if self._core is None:
            with _filling:
                if self._core is None and self._fill is not None:
                    self._fill()
                    self._fill = None
        return self._core

    @property
    def shape(self) -> tuple[int, ...]:
        """The canonical shape."""
        return self._shape

    def numpy(self) -> np.ndarray:
        """A fresh copy; waits for the queued steps that write it."""
        value: np.ndarray = self.core.read()
        return value

    def assign(self, value: Any) -> None:
        """Replace the contents (ShapeError when the shape differs)."""
        if self._core is None:
            array = np.asarray(value)
            if array.shape != self._shape:
                raise _core.ShapeError(f"expected {self._shape}, got {array.shape}")
            if array.dtype.kind != "f":
                raise _core.DTypeError(f"weights are floating, got {array.dtype}")
            self._core = _core.Parameter(array.astype(np.float32), self.buffer)
        else:
            self._core.write(value)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.numpy(), dtype)

    def __getstate__(self) -> dict[str, Any]:
        return {"value": self.numpy(), "buffer": self.buffer, "trainable": self.trainable}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._core = _core.Parameter(state["value"], state["buffer"])
        self._shape, self._fill = self._core.shape, None
        self.buffer = state["buffer"]
        self.trainable = state["trainable"]

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        new = Parameter.__new__(Parameter)
        new.__setstate__(self.__getstate__())
        memo[id(self)] = new
        return new

    def __repr__(self) -> str:
        return f"Parameter(shape={self.shape})"


class Module:
    """Base of layers and models: subclass it, assign layers to attributes, define `forward`."""

    is_layer = False  # a leaf that messages name by its class

    def __init__(self) -> None:
        self._trainable = True
        self.training = False

    # Registration: attributes that are Modules or Parameters, in order of assignment.
    def _children(self) -> Iterator[tuple[str, Module]]:
        for name, value in list(self.__dict__.items()):  # threads may call the module
            if isinstance(value, Module):
                yield name, value

    def _own(self) -> Iterator[tuple[str, Parameter]]:
        for name, value in list(self.__dict__.items()):  # threads may call the module
            if isinstance(value, Parameter):
                yield name, value

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; subclasses define it."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        symbol = find_symbol(args, kwargs)
        if symbol is not None:
            return symbol.tracer.call(self, args, kwargs)
        from mpsnn.autodiff import run_eagerly

        return run_eagerly(self, args, kwargs)

    @property
    def trainable(self) -> bool:
        """False freezes the module: no gradient, no optimizer state, inference statistics."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        if not isinstance(value, bool):
            raise TypeError(f"[{type(self).__name__}] trainable must be True or False")
        for _, module in self.named_modules():
            module._trainable = value

    def train(self, mode: bool = True) -> Module:
        """Set the mode of eager calls and `vjp`; graphs set their own."""
        _check.flag(type(self).__name__, "mode", mode)
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """`train(False)`."""
        return self.train(False)

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module (path "") and all below it, each once."""
        seen: set[int] = set()

        def walk(path: str, module: Module) -> Iterator[tuple[str, Module]]:
            if id(module) in seen:
                return
            seen.add(id(module))
            yield path, module
            for name, child in module._children():
                yield from walk(f"{path}.{name}" if path else name, child)

        yield from walk(prefix, self)

    def _all_arrays(self) -> Iterator[tuple[str, Parameter]]:
        seen: set[int] = set()
        for path, module in self.named_modules():
            for name, parameter in module._own():
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield (f"{path}.{name}" if path else name), parameter

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Trained arrays by attribute path; tied ones once."""
        return ((n, p) for n, p in self._all_arrays() if not p.buffer)

    def parameters(self) -> Iterator[Parameter]:
        """Trained arrays."""
        return (p for _, p in self.named_parameters())

    def _frozen(self) -> list[Parameter]:
        """Parameters of frozen modules, or frozen themselves."""
        return [
            p
            for _, module in self.named_modules()
            for _, p in module._own()
            if not (module._trainable and p.trainable)
        ]

    def state_dict(self) -> dict[str, np.ndarray]:
        """A snapshot of parameters and buffers, by attribute path, in canonical layouts."""
        return {name: p.numpy() for name, p in self._all_arrays()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Replace parameters and buffers: all of them or, on an error, none.

        Raises:
            ValueError: names are missing or unexpected (with `strict`).
            ShapeError: a shape differs.
        """
        me = type(self).__name__
        if not isinstance(state, Mapping):
            raise TypeError(f"[{me}] expected a dict of arrays by name, got {state!r}")
        _check.flag(me, "strict", strict)
        mine = dict(self._all_arrays())
        missing, unexpected = sorted(mine.keys() - state), sorted(map(str, state.keys() - mine))
        if strict and (missing or unexpected):
            raise ValueError(f"missing names {missing}, unexpected names {unexpected}")
        staged = []
        for name, parameter in mine.items():
            if name not in state:
                continue
            value = np.asarray(_check.numbers(name, "the value", state[name]))
            if value.shape != parameter.shape:
                raise _core.ShapeError(
                    f"[{name}] expected shape {parameter.shape}, got {value.shape}"
                )
            if value.dtype.kind != "f":
                raise _core.DTypeError(f"[{name}] expected floating values, got {value.dtype}")
            staged.append((parameter, value))
        for parameter, value in staged:
            parameter.assign(value)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state dict as safetensors, atomically."""
        _core.write_safetensors(
            _check.path("save", path), self.state_dict(), {"mpsnn_format": FORMAT}
        )

    def load(self, path: str | os.PathLike[str], strict: bool = True) -> None:
        """Read a file written by `save`.

        Raises:
            FormatError: the file is damaged, or not mpsnn's.
            ValueError, ShapeError: as `load_state_dict`.
        """
        name = _check.path("load", path)
        tensors, metadata = _core.read_safetensors(name)
        if metadata.get("mpsnn_format") != FORMAT:
            raise _core.FormatError(
                f"{name}: not a file of mpsnn's format {FORMAT} (found "
                f"{metadata.get('mpsnn_format')!r}); weights of PyTorch are read by "
                "load_torch_state_dict"
            )
        self.load_state_dict(tensors, strict)

    def torch_state_dict(self, input_shape: Any) -> dict[str, np.ndarray]:
        """The state dict of the same network in PyTorch: the inverse of `load_torch_state_dict`.

        Args:
            input_shape: of one image, as a graph takes it; Flatten layers are found by tracing.
        """
        from mpsnn.export.torch_weights import to_torch

        return to_torch(self, input_shape)

    def load_torch_state_dict(self, source: Any, input_shape: Any, strict: bool = True) -> None:
        """Load the weights of the same network in PyTorch; all of them or, on an error, none.

        Convolutions become channels last, and dense layers behind a Flatten take their inputs in
        the order H, W, C.

        Args:
            source: a state dict (PyTorch tensors or arrays), or the path of a safetensors file or
                of one that `torch.save` wrote.
            input_shape: of one image, as a graph takes it.
            strict: names must be the same.

        Raises:
            ValueError, ShapeError, DTypeError: as `load_state_dict`.
            FormatError: the file is damaged.
            UnsupportedError: PyTorch is missing, or the order of an array is not defined.
        """
        from mpsnn.export.torch_weights import from_torch

        self.load_state_dict(from_torch(self, source, input_shape), strict)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_programs"}

    def _eager_programs(self) -> OrderedDict[Any, Any]:
        programs: OrderedDict[Any, Any] = self.__dict__.setdefault("_programs", OrderedDict())
        return programs

    def __repr__(self) -> str:
        lines = [f"  ({name}): {child!r}".replace("\n", "\n  ") for name, child in self._children()]
        inside = "\n".join(lines)
        return f"{type(self).__name__}(\n{inside}\n)" if lines else f"{type(self).__name__}()"


class Identity(Module):
    """Returns its input."""

    def forward(self, x: Any) -> Any:
        """Return x."""
        return x


def initial(
    owner: str, name: str, shape: tuple[int, ...], weights: Any, bound: float
) -> np.ndarray:
    """Initial values: `weights` (an array or `f(shape, generator)`), else uniform in +-bound."""
    from mpsnn._random import generator, uniform

    if weights is None:
        try:
            return uniform(bound, shape)
        except (ValueError, MemoryError):
            raise _core.OutOfMemoryError(f"[{owner}] no memory for {name} of {shape}") from None
    value = np.asarray(weights(shape, generator()) if callable(weights) else weights)
    if value.shape != shape:
        raise _core.ShapeError(f"[{owner}] {name} must be {shape}, got {value.shape}")
    if value.dtype.kind != "f":
        raise _core.DTypeError(f"[{owner}] {name} must be floating, got {value.dtype}")
    return value.astype(np.float32)


def weight_and_bias(
    layer: Module, owner: str, shape: tuple[int, ...], weights: Any, bias: bool, bound: float
) -> tuple[Parameter, Parameter | None]:
    """The two arrays of a layer: drawn, given, or of a data source that is loaded when needed."""
    from mpsnn.data.source import DataSource

    if not isinstance(weights, DataSource):
        made = Parameter(initial(owner, "weights", shape, weights, bound))
        return made, Parameter(initial(owner, "bias", shape[:1], None, bound)) if bias else None
    layer.__dict__["source"] = weights
    arrays: list[Parameter] = []

    def fill() -> None:
        weights.load()
        try:
            found = [("weights", weights.weights()), ("bias", weights.bias())]
            for parameter, (name, value) in zip(arrays, found, strict=False):
                if value is None and name == "bias":
                    value = np.zeros(parameter.shape, np.float32)
                if parameter._core is None:
                    parameter.assign(initial(owner, name, parameter.shape, np.asarray(value), 0))
        finally:
            weights.purge()

    arrays.append(Parameter.lazy(shape, fill))
    if bias:
        arrays.append(Parameter.lazy(shape[:1], fill))
    return arrays[0], arrays[1] if bias else None
