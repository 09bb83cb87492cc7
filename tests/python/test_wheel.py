"""A wheel of the plain build carries nothing that only tests need."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from apple import SIMULATED
from mpsnn import _core

ROOT = Path(__file__).resolve().parent.parent.parent


def check(wheel: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "tools" / "check_wheel.py"), str(wheel)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.soak
def test_a_wheel_by_default_holds_nothing_of_the_stand_in(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps",
         "--config-settings=build-dir=build/wheel", "--wheel-dir", str(tmp_path), str(ROOT)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    done = check(wheel)
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(not SIMULATED, reason="asks the stand-in for Apple's frameworks")
def test_a_stand_in_would_be_found(tmp_path: Path) -> None:
    wheel = tmp_path / "mpsnn-0-cp310-cp310-linux_x86_64.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(_core.__file__, "mpsnn/_core.so")
    done = check(wheel)
    assert done.returncode == 1
    assert "apple_sim" in done.stdout
    assert "MPSCNN" in done.stdout
