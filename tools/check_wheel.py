"""Wheels hold nothing of the software stand-in for Apple's frameworks (tests/apple_sim).

usage: check_wheel.py WHEEL...

Looks for its names in every library of a wheel, symbols and strings alike, so that a stripped one
does not hide them; elsewhere than on macOS also for names of Apple's classes, which only the
stand-in would define there.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

STAND_IN = (b"apple_sim", b"APPLE_SIM")
APPLE = (b"MPSCNN", b"_OBJC_CLASS_", b"objc_msgSend")


def found_in(library: bytes, apple: bool) -> list[str]:
    """The names of the stand-in that a library holds."""
    return [n.decode() for n in (STAND_IN if apple else STAND_IN + APPLE) if n in library]


def check(wheel: Path) -> list[str]:
    """What is wrong with a wheel."""
    apple = "-macosx_" in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        libraries = [n for n in archive.namelist() if ".so" in n or n.endswith(".dylib")]
        wrong = [f"{wheel.name}: {library} holds {name}"
                 for library in libraries
                 for name in found_in(archive.read(library), apple)]  # fmt: skip
    return wrong or ([] if libraries else [f"{wheel.name}: no library in it"])


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    problems = [problem for wheel in sys.argv[1:] for problem in check(Path(wheel))]
    print("\n".join(problems) or f"{len(sys.argv) - 1} wheels: nothing of the stand-in")
    sys.exit(bool(problems))
