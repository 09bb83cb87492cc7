"""Random graphs, by fixed numbers: see tests/fuzz/graphs.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "fuzz" / "graphs.py"


def fuzz(count: int, first: int) -> str:
    done = subprocess.run([sys.executable, str(SCRIPT), str(count), str(first)],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr  # a crash is a negative code
    return done.stdout


def test_random_graphs() -> None:
    count = 500 if "MPSNN_SANITIZED" in os.environ else 8000  # half a minute
    assert " 0 mismatches" in fuzz(count, 0)


@pytest.mark.soak
def test_more_random_graphs() -> None:
    assert " 0 mismatches" in fuzz(20000, 8000)
