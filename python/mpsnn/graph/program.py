"""What every compiled graph tells of itself."""

from __future__ import annotations

from typing import Any

from mpsnn._core import Program
from mpsnn.graph.profile import Profile
from mpsnn.graph.summary import Summary


class ProgramGraph:
    """Base of the graphs that run a program."""

    device: str
    dtype: str
    _program: Program
    _reason: str

    @property
    def planned_bytes(self) -> int:
        """Memory of a step: arena and staging, after aliasing."""
        return self._program.planned_bytes()

    @property
    def naive_bytes(self) -> int:
        """The same with every value and state of the unfused graph in memory of its own."""
        return self._program.naive_bytes()

    @property
    def packed_bytes(self) -> int:
        """Weights that the device keeps between steps in a form of its own, beside those.

        Graphs that do not train have them on `cpu`; 0 where the device does not tell.
        """
        return self._program.packed_bytes()

    def summary(self) -> Summary:
        """The nodes, kernels and memory of a step; prints as a table."""
        return Summary(self._program, self.device, self._reason, self.dtype)

    def profile(self) -> Profile:
        """Record what is encoded in a `with` block, node by node: a table, and a Chrome trace.

        Raises:
            UnsupportedError: on entering the block, where the device does not tell times.
        """
        return Profile(self._recorded(), self.device)

    def _recorded(self) -> list[Program]:
        return [self._program]

    def to_dot(self) -> str:
        """The compiled step in Graphviz's language."""
        return self._program.to_dot()

    def __getstate__(self) -> Any:
        raise TypeError("graphs do not pickle or copy: the model does, and save_state")


__all__ = ["ProgramGraph"]
