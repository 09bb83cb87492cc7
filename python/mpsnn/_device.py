"""Devices: what there is, and which one "auto" takes."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import platformdirs

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
    """Why a device is not to be trusted; empty if its self-test passes.

    A GPU's pass is remembered, in the user's cache folder, for this build of the package, release
    of the system and device: Metal compiles what the test runs, which takes a while.
    """
    row = next((row for row in _core.devices() if row["id"] == device), None)
    if row is None or row["kind"] in ("cpu", "reference"):
        return _core.self_test(device)
    build = Path(_core.__file__).stat().st_mtime_ns
    key = f"{build} {platform.platform()} {platform.version()} {row['registry_id']} {row['name']}"
    path = Path(platformdirs.user_cache_dir("mpsnn")) / "self_tests.json"
    try:
        passed = json.loads(path.read_text())
        if key in passed:
            return ""
    except (OSError, ValueError, TypeError):
        passed = []
    wrong = _core.self_test(device)
    if not wrong:
        with contextlib.suppress(OSError):  # it is only tested again
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(f".{os.getpid()}")
            part.write_text(json.dumps([*passed[-99:], key]))
            part.replace(path)
    return wrong


def _trusted(device: str) -> str:
    """The device's name, if it is a GPU whose self-test passes; MPSNN_SELF_TEST=0 skips the test.

    Raises:
        DeviceError: the GPU, or the system's release, computes wrongly.
    """
    kind = device.partition(":")[0]
    if kind in ("cpu", "reference") or os.environ.get("MPSNN_SELF_TEST") == "0":
        return device
    if device in (row["id"] for row in _core.devices()) and (wrong := _self_test(device)):
        raise _core.DeviceError(
            f"[{device}] this GPU, or this release of {platform.system()} "
            f"({platform.platform()}), computes wrongly: {wrong}. MPSNN_SELF_TEST=0 uses it anyway"
        )
    return device


def on_device(device: Any, build: Callable[[str], T]) -> tuple[T, str, str]:
    """Call `build(device id)` on the device asked for; return its result, the id and the reason.

    "auto" takes the first device that passes its self-test and supports the whole graph. A device
    that is named never falls back; a GPU that fails its self-test raises DeviceError.
    """
    if isinstance(device, Device):
        return build(_trusted(device.id)), device.id, "given"
    if not isinstance(device, str):
        raise TypeError(f"device must be a name or a Device, got {device!r}")
    _check.text("device", "the name", device)
    if device != "auto":
        return build(_trusted(device)), device, "given"
    override = os.environ.get("MPSNN_DEVICE")
    if override:
        return build(_trusted(override)), override, "MPSNN_DEVICE"
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
