"""Import time beyond numpy, and the size of mpsnn's own compiled files.

Every import is a fresh interpreter that has imported numpy already; the frameworks take turns.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import common

TIMED = """
import time, numpy
start = time.perf_counter()
import {}
print(time.perf_counter() - start)
"""
COMPILED = {".so", ".dylib", ".pyd"}


def compiled_files() -> dict[str, int]:
    """Return the sizes in bytes of mpsnn's own compiled files, stripped where there is `strip`.

    oneDNN, which comes with its own wheel or lies beside them, is not counted.
    """
    where = common.run_python(
        "import mpsnn, mpsnn._core; print(mpsnn.__file__); print(mpsnn._core.__file__)"
    )
    folders = {Path(line).parent for line in where.splitlines()}
    strip = shutil.which("strip")
    sizes = {}
    with tempfile.TemporaryDirectory() as scratch:
        for path in sorted(path for folder in folders for path in folder.rglob("*")):
            if path.suffix not in COMPILED or "dnnl" in path.name:
                continue
            copy = Path(shutil.copy(path, Path(scratch, path.name)))
            if strip:
                flags = ["-x"] if sys.platform == "darwin" else []
                subprocess.run([strip, *flags, str(copy)], check=True)
            sizes[path.name] = copy.stat().st_size
    return sizes


def main() -> None:
    """Run the command line."""
    summary = (__doc__ or "").split("\n", 1)[0]
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    common.require("mpsnn")
    frameworks = ["mpsnn", *(name for name in ("torch", "jax") if common.installed(name))]
    facts = common.machine(frameworks)
    seconds: dict[str, list[float]] = {name: [] for name in frameworks}
    for number in range(args.rounds + 1):
        for name in frameworks:
            value = float(common.run_python(TIMED.format(name)))
            if number > 0:  # the first round fills the page cache
                seconds[name].append(value)
    sizes = compiled_files()
    if args.json:
        print(json.dumps({**facts, "import_seconds": seconds, "compiled_bytes": sizes}, indent=1))
        return
    common.print_machine(facts)
    print("\nimport beyond numpy: seconds")
    rows = [[name, *common.format_spread(common.spread(seconds[name]))] for name in frameworks]
    common.print_table(["package", "median", "min", "max"], rows)
    print("\nown compiled files, stripped: MB" if shutil.which("strip") else "\nnot stripped: MB")
    rows = [[name, f"{size / 1e6:.2f}"] for name, size in sizes.items()]
    common.print_table(["file", "size"], [*rows, ["all", f"{sum(sizes.values()) / 1e6:.2f}"]])


if __name__ == "__main__":
    main()
