"""Tracing: `forward` runs once on Symbols, and every layer appends nodes to a core Graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpsnn import _core

if TYPE_CHECKING:
    from mpsnn.nn.module import Module


class Symbol:
    """A value of a graph under construction: what `forward` sees when it is compiled."""

    __slots__ = ("id", "tracer")

    def __init__(self, tracer: Tracer, value: int) -> None:
        self.tracer = tracer
        self.id = value

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, batch axis included."""
        return self.tracer.graph.shape(self.id)

    @property
    def dtype(self) -> str:
        """The element type."""
        return self.tracer.graph.value_dtype(self.id)

    def __add__(self, other: Any) -> Symbol:
        from mpsnn import ops

        result = ops.add(self, other)
        assert isinstance(result, Symbol)
        return result

    __radd__ = __add__

    def __bool__(self) -> bool:
        raise TypeError("a value of a graph has no truth value while the graph is traced")

    def __repr__(self) -> str:
        return f"Symbol(shape={self.shape}, dtype={self.dtype})"


class Tracer:
    """One trace: the graph, the names of its values, and the stack of modules being called."""

    def __init__(self, dtype: str, root: Module | None = None, eager: bool = False) -> None:
        self.graph = _core.Graph(dtype)
        self.eager = eager  # layers read their own `training` only here
        self.names: dict[str, int] = {}
        self.parameters: dict[int, str] = {}
        self._root = root
        self._paths: dict[int, str] = {}
        self._stack: list[Module] = []
        self._calls: dict[str, int] = {}
        self._kept: list[Any] = []
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
        """The module's own mode in an eager call; None in a graph, which sets its own."""
        return module.training if self.eager else None

    def add(self, op: str, operands: list[Any], attrs: dict[str, Any]) -> list[Symbol]:
        """Append a node. Operands are Symbols, Parameters or None."""
        ids = [self._operand(op, o) for o in operands]
        while ids and ids[-1] == -1:
            ids.pop()
        return [Symbol(self, v) for v in self.graph.add(op, ids, attrs, self._layer(op))]

    def symbol(self, name: str, shape: Any, dtype: str | None = None, **spec: Any) -> Symbol:
        """A new input."""
        value = self.graph.input(name, tuple(shape), dtype, **spec)
        self.names.setdefault(name, value)
        return Symbol(self, value)

    def _operand(self, op: str, operand: Any) -> int:
        from mpsnn.nn.module import Parameter

        if operand is None:
            return -1
        if isinstance(operand, Symbol):
            if operand.tracer is not self:
                raise ValueError(f"[{op}] an operand belongs to another graph")
            return operand.id
        if isinstance(operand, Parameter):
            name = self._parameter_names.get(id(operand), f"p{len(self.parameters)}")
            value = self.graph.parameter(name, operand.core)
            self.parameters[value] = name
            self.names[name] = value
            return value
        raise TypeError(
            f"[{op}] takes values of the graph and Parameters, got {type(operand).__name__}"
        )

    def _layer(self, op: str) -> str:
        if not self._stack:
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
