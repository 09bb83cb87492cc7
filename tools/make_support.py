"""Writes what devices support into docs/support.md and the README; --check compares instead.

Run it with the Python that mpsnn is installed in. A device that this build does not have, or that
has a dtype fewer on this machine, keeps its section as it is: run the tool with each build.
"""

from __future__ import annotations

import argparse
import difflib
import re
from pathlib import Path

from mpsnn import _core
from mpsnn.support import device_table, support_table

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- written by tools/make_support.py -->", "<!-- end -->"
HEAD = f"""# What each device supports

{BEGIN}

Op by op, in each dtype, forward and by the gradient of a small example with default attributes, as
`supports()` answers. A graph that a device cannot run is refused, with the layer and the reason,
when it is compiled. `cpu` has bfloat16 where the processor multiplies it (AVX512-BF16).
"""


def devices() -> list[str]:
    """The kinds of this build's devices, each by its first."""
    return sorted({row["id"].split(":")[0] for row in _core.devices()})


def columns(section: str) -> list[str]:
    """The dtypes of a device's table."""
    return [c.strip() for c in section.partition("\n")[0].split("|")[2:-1]]


def support_page(old: str) -> str:
    """docs/support.md with the sections of this build's devices anew."""
    sections = dict(re.findall(r"^## `(\w+)`\n\n(.*?)\n(?=\n## |\Z)", old, re.M | re.S))
    for device in devices():
        new = device_table(device)
        if set(columns(sections.get(device, ""))) <= set(columns(new)):
            sections[device] = new
    parts = [f"## `{device}`\n\n{text}\n" for device, text in sorted(sections.items())]
    return "\n".join([HEAD, *parts])


def grouped(table: str) -> str:
    """A table of ops in which those that devices say the same of share a line."""
    head, rule, *lines = table.splitlines()
    ops: dict[str, list[str]] = {}
    for line in lines:
        op, said = line.removeprefix("| ").split(" | ", 1)
        ops.setdefault(said, []).append(op)
    return "\n".join([head, rule, *(f"| {', '.join(some)} | {said}" for said, some in ops.items())])


def readme(old: str) -> str:
    """The README with a table of `cpu` and `reference`; unchanged without one of them."""
    if not {"cpu", "reference"} <= set(devices()):
        return old
    table = grouped(support_table(["cpu", "reference"]))
    return re.sub(f"({BEGIN}\n\n).*?(\n\n{END})", lambda m: m[1] + table + m[2], old, flags=re.S)


def main() -> int:
    """Write or check; 1 if a checked file differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with what is committed")
    check = parser.parse_args().check
    wrong = 0
    for path, make in ((ROOT / "docs" / "support.md", support_page), (ROOT / "README.md", readme)):
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        new = make(old)
        if not check:
            path.write_text(new, encoding="utf-8")
        elif new != old:
            wrong = 1
            print(
                f"{path.relative_to(ROOT)} is not what the devices say: run tools/make_support.py"
            )
            lines = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0)
            print("\n".join(lines))
    return wrong


if __name__ == "__main__":
    raise SystemExit(main())
