"""The devices under test: all of this build, or MPSNN_TEST_DEVICE alone."""

from __future__ import annotations

import os

from mpsnn import _core

DTYPES: dict[str, list[str]] = {d["id"]: d["dtypes"] for d in _core.devices()}
CHOSEN = os.environ.get("MPSNN_TEST_DEVICE")
DEVICES = [CHOSEN] if CHOSEN else list(DTYPES)


def with_dtypes(*dtypes: str) -> list[tuple[str, str]]:
    """Each device under test with each of these dtypes that it has."""
    return [(device, dtype) for device in DEVICES for dtype in dtypes if dtype in DTYPES[device]]
