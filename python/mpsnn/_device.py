"""Devices: what there is, and which one "auto" takes."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from mpsnn import _check, _core
from mpsnn._log import logger

T = TypeVar("T")


@dataclass(frozen=True)
class Device:
    """A device of this machine.

    `memory` is in bytes; `dtypes` are the storage types it takes, `dtype_notes` what each of them
    costs or gains.
    """

    kind: str
    index: int
    name: str
    memory: int
    removable: bool
    low_power: bool
    headless: bool
    unified_memory: bool
    registry_id: int
    dtypes: tuple[str, ...]
    dtype_notes: tuple[str, ...]
    notes: str

    @property
    def id(self) -> str:
        """The name that `device=` takes: "cpu", "mps:1"."""
        return self.kind if self.index == 0 else f"{self.kind}:{self.index}"


def devices() -> list[Device]:
    """The devices of this machine, in the order that `device="auto"` tries them."""
    found = []
    for row in _core.devices():
        fields = {k: v for k, v in row.items() if k != "id"}
        lists = {k: tuple(fields[k]) for k in ("dtypes", "dtype_notes")}
        found.append(Device(**{**fields, **lists}))
    return found


def set_num_threads(count: int) -> None:
    """Set the threads of the `cpu` and `reference` devices, for graphs compiled from now on.

    Raises:
        TypeError: `count` is not an integer.
        ValueError: it is below 1, or more than the devices can start.
    """
    _core.set_num_threads(_check.integer("set_num_threads", "count", count, 1, 2**31 - 1))


@functools.lru_cache
def _self_test(device: str) -> str:
    return _core.self_test(device)


def on_device(device: Any, build: Callable[[str], T]) -> tuple[T, str, str]:
    """Call `build(device id)` on the device asked for; return its result, the id and the reason.

    "auto" takes the first device that passes its self-test and supports the whole graph. A device
    that is named never falls back.
    """
    if isinstance(device, Device):
        return build(device.id), device.id, "given"
    if not isinstance(device, str):
        raise TypeError(f"device must be a name or a Device, got {device!r}")
    _check.text("device", "the name", device)
    if device != "auto":
        return build(device), device, "given"
    override = os.environ.get("MPSNN_DEVICE")
    if override:
        return build(override), override, "MPSNN_DEVICE"
    refused = []
    for candidate in devices():
        if candidate.kind == "reference":
            continue
        wrong = _self_test(candidate.id)
        logger.debug("device %s: self-test %s", candidate.id, wrong or "passed")
        if wrong:
            refused.append(f"{candidate.id} failed its self-test: {wrong}")
            continue
        try:
            built = build(candidate.id)
        except _core.UnsupportedError as error:
            refused.append(str(error))
            logger.debug("device %s refused: %s", candidate.id, error)
            continue
        logger.debug("device %s is taken", candidate.id)
        return built, candidate.id, "; ".join(["first that supports the graph", *refused])
    raise _core.UnsupportedError(
        "no device supports this graph: "
        + ("; ".join(refused) or "there is only `reference`, which is taken by name alone")
    )
