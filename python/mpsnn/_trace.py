"""Tracing: `forward` runs once on Symbols, and every layer appends nodes to a core Graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mpsnn import _check, _core

if TYPE_CHECKING:
    from mpsnn.graph.sequence import Sequences
    from mpsnn.nn.module import Module


class Symbol:
    """A value of a graph under construction: what `forward` sees when it is compiled."""

    __slots__ = ("_labels", "id", "tracer")

    def __init__(self, tracer: Tracer, value: int) -> None:
        self.tracer = tracer
        self.id = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Symbol) and (other.tracer, other.id) == (self.tracer, self.id)

    def __hash__(self) -> int:
        return hash((id(self.tracer), self.id))

    def gradient(self, source: Symbol | None = None, states: Any = None) -> Any:
        """Append the gradient node of the node that makes this value.

        Args:
            source: the gradient by this value; None for a loss, whose gradient by itself is one.
            states: this value's own `states`; they flow to the gradient node by themselves.

        Returns:
            The gradient by the node's input, a tuple if there are several.
        """
        if states is not None and states != self.states:
            raise ValueError("[gradient] these states belong to another node")
        return self.tracer.gradient(self, source)

    @property
    def states(self) -> Any:
        """The StateBatch that the node of this value leaves for its gradient; None without one."""
        from mpsnn.graph.values import StateBatch

        found = self.tracer.graph.states(self.id)
        return StateBatch(*found) if found is not None else None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, batch axis included."""
        return self.tracer.graph.shape(self.id)

    @property
    def dtype(self) -> str:
        """The element type."""
        return self.tracer.graph.value_dtype(self.id)

    def __add__(self, other: Any) -> Symbol:
        return self._binary("add", self, other)

    def __radd__(self, other: Any) -> Symbol:
        return self._binary("add", other, self)

    def __sub__(self, other: Any) -> Symbol:
        return self._binary("subtract", self, other)

    def __rsub__(self, other: Any) -> Symbol:
        return self._binary("subtract", other, self)

    def __mul__(self, other: Any) -> Symbol:
        return self._binary("multiply", self, other)

    def __rmul__(self, other: Any) -> Symbol:
        return self._binary("multiply", other, self)

    def __truediv__(self, other: Any) -> Symbol:
        return self._binary("divide", self, other)

    def __rtruediv__(self, other: Any) -> Symbol:
        return self._binary("divide", other, self)

    def __getitem__(self, key: Any) -> Any:
        """A part of each item of the batch, as numpy's basic indexing: `x[:, 1:5, ..., 0]`."""
        from mpsnn.ops.shape import index

        return index(self, key)

    def __neg__(self) -> Symbol:
        return self._neuron("linear", a=-1.0, b=0.0)

    def __pow__(self, exponent: float) -> Symbol:
        """Each element to a power; NaN where it is negative and the exponent no integer."""
        power = _check.number("power", "exponent", exponent)
        return self._neuron("power", a=1.0, b=0.0, c=power)

    def _binary(self, op: str, a: Any, b: Any) -> Symbol:
        """Of two values of a graph, or of one and a number."""
        first = a is self
        other = b if first else a
        if not isinstance(other, (int, float, np.number)):
            return self.tracer.add(op, [a, b], {})[0]
        number = _check.number(op, "operand", other)
        if op == "divide":
            if not first:
                return self**-1.0 * number
            if number == 0:
                raise ValueError("[divide] a value of the graph is divided by the number 0")
            return self._neuron("linear", a=1.0 / number, b=0.0)
        if op == "multiply":
            return self._neuron("linear", a=number, b=0.0)
        if op == "add":
            return self._neuron("linear", a=1.0, b=number)
        if first:
            return self._neuron("linear", a=1.0, b=-number)
        return self._neuron("linear", a=-1.0, b=number)

    def _neuron(self, kind: str, **attrs: float) -> Symbol:
        return self.tracer.add("neuron", [self], {"kind": kind, **attrs})[0]

    def __bool__(self) -> bool:
        raise TypeError("a value of a graph has no truth value while the graph is traced")

    def __repr__(self) -> str:
        return f"Symbol(shape={self.shape}, dtype={self.dtype})"


class Tracer:
    """One trace: the graph, the names of its values, and the stack of modules being called."""

    def __init__(
        self,
        dtype: str,
        root: Module | None = None,
        eager: bool = False,
        training: bool | None = None,
    ) -> None:
        self.graph = _core.Graph(dtype)
        self.eager = eager  # layers read their own `training` only here
        self._training = training
        self.names: dict[str, int] = {}
        self.parameters: dict[int, str] = {}
        self._root = root
        self._paths: dict[int, str] = {}
        self._stack: list[Module] = []
        self.sequence: Sequences | None = None  # where steps come with lengths or states
        self.layer: str | None = None  # what messages call the nodes appended now
        self._calls: dict[str, int] = {}
        self._kept: list[Any] = []
        self.objects: dict[int, tuple[Any, Module | None]] = {}  # value -> Parameter, its layer
        if root is not None:
            for path, module in root.named_modules():
                self._paths[id(module)] = path
            self._parameter_names = {id(p): n for n, p in root._all_arrays()}
        else:
            self._parameter_names = {}

    def path(self, module: Module) -> str:
        """The attribute path of a registered module."""
        if id(module) not in self._paths:
            if self._root is not None:
                raise ValueError(
                    f"[{type(module).__name__}] is used in forward but not registered: assign "
                    "it to "
                    "an attribute of its parent, or put it in a ModuleList or ModuleDict"
                )
            self._paths[id(module)] = f"m{len(self._paths)}"
            self._kept.append(module)  # so that its id stays its own
        return self._paths[id(module)]

    def call(self, module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run `module.forward` as part of this trace."""
        path = self.path(module)
        self._stack.append(module)
        try:
            result = module.forward(*args, **kwargs)
        finally:
            self._stack.pop()
        if isinstance(result, Symbol) and path:
            self.names[path] = result.id
        return result

    def training(self, module: Module) -> bool | None:
        """The module's own mode in an eager call, else the graph's; None if it has none."""
        return module.training if self.eager else self._training

    def add(self, op: str, operands: list[Any], attrs: dict[str, Any]) -> list[Symbol]:
        """Append a node. Operands are Symbols, Parameters or None."""
        ids = [self._operand(op, o) for o in operands]
        while ids and ids[-1] == -1:
            ids.pop()
        return [Symbol(self, v) for v in self.graph.add(op, ids, attrs, self._layer(op))]

    def gradient(self, y: Symbol, source: Symbol | None) -> Any:
        """Append the gradient node of y's node; the gradients by its data, parameters left out."""
        if source is not None and (not isinstance(source, Symbol) or source.tracer is not self):
            raise ValueError("[gradient] the source gradient is not a value of this graph")
        for _, is_gradient, operands, outputs in self.graph.nodes():
            if y.id in outputs and not is_gradient:
                given = [-1 if source is None or o != y.id else source.id for o in outputs]
                by = self.graph.gradient(y.id, given)
                found = [
                    Symbol(self, g)
                    for x, g in zip(operands, by, strict=True)
                    if g >= 0 and not self.graph.is_parameter(x)
                ]
                return found[0] if len(found) == 1 else tuple(found)
        raise ValueError("[gradient] only the output of a layer or loss has a gradient")

    def _own_name(self, parameter: Any) -> str:
        """The name of a parameter of a module that has no parent in this trace."""
        if self._stack:
            for name, own in self._stack[-1]._own():
                if own is parameter:
                    return f"{self.path(self._stack[-1])}.{name}"
        return f"p{len(self.parameters)}"

    def symbol(self, name: str, shape: Any, dtype: str | None = None, **spec: Any) -> Symbol:
        """A new input."""
        value = self.graph.input(name, tuple(shape), dtype, **spec)
        self.names.setdefault(name, value)
        return Symbol(self, value)

    def indices(self, x: Symbol, classes: int) -> Symbol:
        """An input of the graph, as integers in 0..classes-1."""
        self.graph.make_indices(x.id, classes)
        return x

    def _operand(self, op: str, operand: Any) -> int:
        from mpsnn.nn.module import Parameter

        if operand is None:
            return -1
        if isinstance(operand, Symbol):
            if operand.tracer is not self:
                raise ValueError(f"[{op}] an operand belongs to another graph")
            return operand.id
        if isinstance(operand, Parameter):
            name = self._parameter_names.get(id(operand)) or self._own_name(operand)
            value = self.graph.parameter(name, operand.core)
            self.parameters[value] = name
            self.objects.setdefault(value, (operand, self._stack[-1] if self._stack else None))
            self.names[name] = value
            return value
        raise TypeError(
            f"[{op}] takes values of the graph and Parameters, got {type(operand).__name__}"
        )

    def _layer(self, op: str) -> str:
        if self.layer is not None:
            layer = self.layer
        elif not self._stack:
            layer = op
        else:
            module = self._stack[-1]
            kind = type(module).__name__ if module.is_layer else op
            layer = f"{kind} {self.path(module)}".rstrip()
        calls = self._calls.get(layer, 0)
        self._calls[layer] = calls + 1
        return layer if calls == 0 else f"{layer}#{calls}"


def find_symbol(*values: Any) -> Symbol | None:
    """The first Symbol among (nested) arguments."""
    for value in values:
        if isinstance(value, Symbol):
            return value
        if isinstance(value, (list, tuple)):
            found = find_symbol(*value)
            if found is not None:
                return found
        elif isinstance(value, dict):
            found = find_symbol(*value.values())
            if found is not None:
                return found
    return None


def flatten(structure: Any) -> list[Any]:
    """The leaves of nested tuples, lists and dicts, in order."""
    if isinstance(structure, (list, tuple)):
        return [leaf for part in structure for leaf in flatten(part)]
    if isinstance(structure, dict):
        return [leaf for part in structure.values() for leaf in flatten(part)]
    return [structure]


def rebuild(structure: Any, leaves: list[Any]) -> Any:
    """The same structure with other leaves (consumed from the front)."""
    if isinstance(structure, (list, tuple)):
        return type(structure)([rebuild(part, leaves) for part in structure])
    if isinstance(structure, dict):
        return {k: rebuild(v, leaves) for k, v in structure.items()}
    return leaves.pop(0)


__all__ = ["Symbol", "Tracer", "find_symbol", "flatten", "rebuild"]
