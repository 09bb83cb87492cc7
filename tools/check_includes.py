"""Checks the rules of the house over the tree: who may include whom, and how long a file may be.

Run without arguments; it prints one line a violation and fails if there is one.

1. core <- ir <- runtime <- compile <- train; io beside train; a backend sees runtime, ir, core and
   no other backend; the bindings see include/mpsnn only.
2. dnnl.hpp only in backend/cpu, CUDA's headers only in backend/cuda, Apple's only in .mm files of
   backend/mps; the public headers include the standard library and themselves only.
3. src/ and python/ never mention tests/, and no .mm asks whether it is simulated.
4. No source file is longer than 600 lines.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_LINES = 600
SOURCES = {".h", ".cpp", ".mm", ".cu", ".cuh", ".metal", ".def"}
INCLUDE = re.compile(r'^\s*#\s*(?:include|import)\s*([<"])([^">]+)[">]', re.MULTILINE)

# The folders of src/ whose headers each folder may include; backends are treated apart.
LAYERS = {
    "core": {"core"},
    "ir": {"ir", "core"},
    "runtime": {"runtime", "ir", "core"},
    "compile": {"compile", "runtime", "ir", "core"},
    "train": {"train", "io", "compile", "runtime", "ir", "core"},
    "io": {"io", "core"},
}
BACKEND_LAYERS = {"runtime", "ir", "core"}
# Third-party headers and the one folder of src/ that may include them.
THIRD_PARTY = {
    "backend/cpu": re.compile(r"^(oneapi/dnnl/|dnnl)"),
    "backend/cuda": re.compile(r"^(cuda|cudnn|cublas|curand|nvrtc|nvtx|cub/|thrust/)"),
    "backend/mps": re.compile(r"^(Foundation|Metal|MetalPerformanceShaders\w*|CoreGraphics)/"),
}


def folder_of(path: Path) -> str:
    """Folder below src/ that the rules speak of: "ir", "backend/cpu", "backend"."""
    parts = path.relative_to(ROOT / "src").parts[:-1]
    return "/".join(parts[:2]) if parts and parts[0] == "backend" else parts[0]


def check_own(folder: str, target: str) -> str | None:
    """Why a file of `folder` may not include our header `target`, if so."""
    top = target.split("/")[0]
    if top == "mpsnn":
        return None
    if folder == "backend":  # register.cpp
        return None
    if folder.startswith("backend/"):
        if top == "backend":
            allowed = target.startswith(folder + "/") or target == "backend/register.h"
            return None if allowed else "one backend includes another"
        return None if top in BACKEND_LAYERS else f"a backend includes {top}/"
    allowed_tops = LAYERS.get(folder)
    if allowed_tops is None:
        return f"src/{folder} is no folder of the design"
    return None if top in allowed_tops else f"{folder}/ includes {top}/"


def check_source(path: Path, text: str) -> Iterator[str]:
    """Violations in one file of src/."""
    folder = folder_of(path)
    below = path.relative_to(ROOT / "src").parent.as_posix()
    for quote, target in INCLUDE.findall(text):
        own = (ROOT / "src" / target).exists() or (ROOT / "include" / target).exists()
        if quote == '"' and own:
            problem = check_own(folder, target)
            if problem:
                yield f'{problem}: "{target}"'
            continue
        if quote == '"' and not (path.parent / target).exists():
            yield f'"{target}" is not in src/ or include/'
        for home, pattern in THIRD_PARTY.items():
            at_home = below == home or below.startswith(home + "/")
            if pattern.match(target) and not at_home:
                yield f"<{target}> outside of src/{home}"
            if home == "backend/mps" and pattern.match(target) and path.suffix == ".h":
                yield f"<{target}> in a header: those of backend/mps are plain C++"
    if path.suffix == ".mm" and re.search(r"^\s*#\s*if.*SIM", text, re.MULTILINE):
        yield "asks whether it is simulated"


def check_public(text: str) -> Iterator[str]:
    """Violations in one file of include/mpsnn."""
    for quote, target in INCLUDE.findall(text):
        if quote == '"' and not target.startswith("mpsnn/"):
            yield f'public header includes "{target}"'
        if quote == "<" and ("/" in target or target.endswith(".h")):
            yield f"public header includes <{target}>"


def check_binding(path: Path, text: str) -> Iterator[str]:
    """Violations in one file of python/bindings."""
    for quote, target in INCLUDE.findall(text):
        if quote == '"' and not target.startswith("mpsnn/") and not (path.parent / target).exists():
            yield f'the bindings see include/mpsnn only: "{target}"'


def check_file(path: Path) -> Iterator[str]:
    """Violations in one file."""
    text = path.read_text(encoding="utf-8")
    top = path.relative_to(ROOT).parts[0]
    lines = text.count("\n")
    if lines > MAX_LINES:
        yield f"{lines} lines; {MAX_LINES} at most"
    if top in ("src", "python", "include") and re.search(r"\btests/", text):
        yield "mentions tests/"
    if path.suffix not in SOURCES:
        return
    if top == "src":
        yield from check_source(path, text)
    elif top == "include":
        yield from check_public(text)
    elif top == "python":
        yield from check_binding(path, text)


def main() -> int:
    """Check every file; 1 if any rule is broken."""
    count = 0
    for top in ("include", "src", "python", "tests", "tools", "examples", "benchmarks"):
        for path in sorted((ROOT / top).rglob("*")):
            if path.suffix not in SOURCES | {".py", ".txt"} or path.name == "requirements.txt":
                continue
            for problem in check_file(path):
                print(f"{path.relative_to(ROOT)}: {problem}")
                count += 1
    if count:
        print(f"{count} violations")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
