"""What the stand-in for Apple's frameworks saw: contract violations, live objects, encodes, faults.

Only there in a test build on Linux with APPLE_SIM_DEVICES set; on a Mac the same tests run on the
real frameworks, without these questions.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

from mpsnn import _core

SIMULATED = bool(os.environ.get("APPLE_SIM_DEVICES"))


def _load() -> Any:
    library = ctypes.CDLL(_core.__file__)
    for name in ("violations", "live", "live_buffers", "live_bytes", "live_heaps",
                 "missing_pools", "encodes", "blits", "synchronizations", "host_waits",
                 "commits"):  # fmt: skip
        getattr(library, f"apple_sim_{name}").restype = ctypes.c_long
    library.apple_sim_violation.restype = ctypes.c_char_p
    library.apple_sim_violation.argtypes = [ctypes.c_long]
    library.apple_sim_fail_command_buffer.argtypes = [
        ctypes.c_long, ctypes.c_char_p, ctypes.c_long]  # fmt: skip
    library.apple_sim_fail_allocation.argtypes = [ctypes.c_long]
    library.apple_sim_corrupt_convolutions.argtypes = [ctypes.c_float]
    library.apple_sim_remove_device.argtypes = [ctypes.c_ulong]
    return library


sim: Any = _load() if SIMULATED else None


def count(name: str, *arguments: Any) -> int:
    """A counter of the stand-in: "encodes", "host_waits", "live_buffers"..."""
    return int(getattr(sim, f"apple_sim_{name}")(*arguments))


def violations() -> list[str]:
    """Contract violations since the last call."""
    if sim is None:
        return []
    found = [sim.apple_sim_violation(i).decode() for i in range(count("violations"))]
    sim.apple_sim_clear_violations()
    return found


def each(what: str) -> dict[str, int]:
    """Counts by class: "live" objects, or "encode"s by kernel."""
    found: dict[str, int] = {}
    visit_type = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_long)

    def visit(_: Any, name: bytes, number: int) -> None:
        found[name.decode()] = number

    getattr(sim, f"apple_sim_each_{what}")(visit_type(visit), None)
    return found
