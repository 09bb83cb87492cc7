"""Sequential, ModuleList, ModuleDict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mpsnn.nn.module import Module


def _module(owner: str, value: Any) -> Module:
    if not isinstance(value, Module):
        raise TypeError(f"[{owner}] takes Modules, got {value!r}")
    return value


class Sequential(Module):
    """Layers one after another; their paths are "0", "1", ..."""

    def __init__(self, *layers: Module) -> None:
        super().__init__()
        for i, layer in enumerate(layers):
            setattr(self, str(i), _module("Sequential", layer))

    def forward(self, x: Any) -> Any:
        """Apply every layer in order."""
        for layer in self:
            x = layer(x)
        return x

    def __len__(self) -> int:
        return sum(1 for _ in self._children())

    def __iter__(self) -> Iterator[Module]:
        return (child for _, child in self._children())

    def __getitem__(self, index: int) -> Module:
        return list(self)[index]


class ModuleList(Module):
    """A list of modules that registers them."""

    def __init__(self, modules: Any = ()) -> None:
        super().__init__()
        if not isinstance(modules, Iterable):
            raise TypeError(f"[ModuleList] takes Modules, got {modules!r}")
        for module in modules:
            self.append(module)

    def append(self, module: Module) -> None:
        """Add a module to the end."""
        setattr(self, str(len(self)), _module("ModuleList", module))

    def __len__(self) -> int:
        return sum(1 for _ in self._children())

    def __iter__(self) -> Iterator[Module]:
        return (child for _, child in self._children())

    def __getitem__(self, index: int) -> Module:
        return list(self)[index]


class ModuleDict(Module):
    """A dictionary of modules that registers them."""

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        super().__init__()
        if not isinstance(modules, (Mapping, ModuleDict, type(None))):
            raise TypeError(f"[ModuleDict] takes a dict of Modules, got {modules!r}")
        for name, module in (modules or {}).items():
            self[name] = module

    def __setitem__(self, name: str, module: Module) -> None:
        if not isinstance(name, str) or "." in name or hasattr(Module, name):
            raise ValueError(f"[ModuleDict] {name!r} cannot be a module's name")
        setattr(self, name, _module("ModuleDict", module))

    def __getitem__(self, name: str) -> Module:
        return dict(self._children())[name]

    def __len__(self) -> int:
        return sum(1 for _ in self._children())

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._children())

    def items(self) -> Iterator[tuple[str, Module]]:
        """(name, module) pairs."""
        return self._children()
