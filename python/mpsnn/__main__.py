"""`python -m mpsnn`: versions, devices, what each supports and a quick self-test."""

from __future__ import annotations

import platform
import sys
from importlib import metadata

import mpsnn
from mpsnn import _core
from mpsnn.support import support_table


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def main() -> int:
    """Print what a bug report needs; 1 if a device fails its self-test."""
    packages = ("numpy", "onednn-cpu-gomp", "torch")
    print(f"mpsnn {mpsnn.__version__}, Python {platform.python_version()}, {platform.platform()}")
    print(", ".join(f"{p} {_version(p)}" for p in packages))
    print(f"{mpsnn.num_threads()} threads")
    failed = 0
    for device in mpsnn.devices():
        wrong = _core.self_test(device.id)
        failed += bool(wrong)
        print(f"\n{device.id}: {device.name}, {device.memory / 2**30:.1f} GiB; "
              f"{', '.join(device.dtypes)}")  # fmt: skip
        if device.notes:
            print(f"  {device.notes}")
        print(f"  self-test: {wrong or 'passed'}")
    print()
    print(support_table())
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
