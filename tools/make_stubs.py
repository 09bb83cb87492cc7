"""Writes python/mpsnn/_core.pyi from the installed module; --check compares instead.

Run it with the Python that mpsnn, pybind11-stubgen and ruff (tools/requirements.txt) are installed
in.
"""

from __future__ import annotations

import argparse
import difflib
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STUB = ROOT / "python" / "mpsnn" / "_core.pyi"


def generate() -> str:
    """Stub text of the installed `mpsnn._core`, formatted."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "pybind11_stubgen", "mpsnn._core", "--output-dir", folder,
             "--numpy-array-use-type-var", "--exit-code"],
            check=True,
            cwd=folder,
        )  # fmt: skip
        text = (Path(folder) / "mpsnn" / "_core.pyi").read_text(encoding="utf-8")
    text = text.replace("    step = None\n", "    step: int | None\n")  # of DeviceError
    formatted = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(STUB), "-"],
        input=text,
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return formatted.stdout


def main() -> int:
    """Write the stub, or 1 with a diff if the committed one is out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    new = generate()
    if not check:
        STUB.write_text(new, encoding="utf-8")
        return 0
    old = STUB.read_text(encoding="utf-8") if STUB.exists() else ""
    if new == old:
        return 0
    sys.stdout.writelines(
        difflib.unified_diff(
            old.splitlines(keepends=True), new.splitlines(keepends=True), str(STUB), "generated"
        )
    )
    print("the stubs are out of date: run tools/make_stubs.py")
    return 1


if __name__ == "__main__":
    sys.exit(main())
