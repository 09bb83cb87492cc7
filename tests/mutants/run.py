"""Puts faults into the mps backend, one at a time, and runs the tests that should notice.

    python tests/mutants/run.py [TEXT]      only faults whose file or text has TEXT in it

Works on a copy below build/mutants, against the stand-in for Apple's frameworks. A fault that no
test notices shows what the tests, or the stand-in, let through. Ends with 1 if fewer than 95 % are
noticed, or if the table does not fit the sources.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from mps import MUTANTS, TESTS, Mutant

ROOT = Path(__file__).resolve().parent.parent.parent
WORK = ROOT / "build" / "mutants"
TREE, BUILD, SITE = WORK / "tree", WORK / "build", WORK / "site"
COPIED = (
    "LICENSES",
    "benchmarks",
    "cmake",
    "docs",
    "examples",
    "include",
    "python",
    "src",
    "tests",
)
FILES = ("CMakeLists.txt", "LICENSE", "README.md", "pyproject.toml")
LEAST = 0.95


def quietly(*command: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Exit code and output of a command."""
    done = subprocess.run(
        command, cwd=TREE, env={**os.environ, **(env or {})}, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=900,
    )  # fmt: skip
    return done.returncode, done.stdout


def copy_tree() -> None:
    """The sources as they are; files that are the same keep their times, and are not compiled."""
    for name in (*COPIED, *FILES):
        paths = [ROOT / name] if name in FILES else sorted((ROOT / name).rglob("*"))
        for path in paths:
            to = TREE / path.relative_to(ROOT)
            if not path.is_file() or path.suffix == ".pyc":
                continue
            if not to.exists() or to.read_bytes() != path.read_bytes():
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, to)


def install() -> None:
    """Build the copy, and install it into a folder of its own."""
    code, output = quietly(
        sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps", "--upgrade",
        "--target", str(SITE), "--config-settings", f"build-dir={BUILD}",
        "--config-settings", "cmake.define.MPSNN_APPLE_SIM=ON", str(TREE),
    )  # fmt: skip
    if code != 0:
        sys.exit(output)


def build() -> tuple[int, str]:
    """Compile what has changed into the installed package."""
    code, output = quietly("cmake", "--build", str(BUILD), "--target", "_core")
    if code == 0:
        for module in (BUILD / "python").glob("_core.*"):
            shutil.copy(module, SITE / "mpsnn" / module.name)
    return code, output


def test(arguments: tuple[str, ...]) -> tuple[int, str]:
    """Run tests on the mps device until one fails."""
    env = {"APPLE_SIM_DEVICES": "discrete", "MPSNN_TEST_DEVICE": "mps", "PYTHONPATH": str(SITE)}
    try:
        return quietly(
            sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *arguments,
            env=env,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return 1, "the tests do not end"


def tests_of(mutant: Mutant) -> tuple[str, ...]:
    return mutant.tests or TESTS[mutant.file]


def check_table(mutants: list[Mutant]) -> None:
    """Every fault's text must stand in its file once."""
    wrong = [
        f"{m.file}: {m.old!r} occurs {n} times"
        for m in mutants
        if (n := (TREE / "src/backend/mps" / m.file).read_text().count(m.old)) != 1
    ]
    if wrong:
        sys.exit("\n".join(wrong))


def main() -> int:
    text = sys.argv[1] if len(sys.argv) > 1 else ""
    mutants = [m for m in MUTANTS if text in m.file or text in m.old]
    began = time.perf_counter()
    copy_tree()
    check_table(mutants)
    install()
    code, output = build()
    if code != 0:
        sys.exit(output)
    for arguments in sorted({tests_of(m) for m in mutants}):
        code, output = test(arguments)
        if code != 0:
            sys.exit(f"{' '.join(arguments)}: fails without a fault\n{output}")
    caught, survivors = 0, []
    for number, mutant in enumerate(mutants, 1):
        path = TREE / "src/backend/mps" / mutant.file
        whole = path.read_text()
        path.write_text(whole.replace(mutant.old, mutant.new))
        try:
            code, output = build()
            if code != 0:
                sys.exit(f"{mutant.file}: {mutant.new!r} does not compile\n{output[-2000:]}")
            code, output = test(tests_of(mutant))
        finally:
            path.write_text(whole)
        caught += code != 0
        if code == 0:
            survivors.append(mutant)
        what = "caught  " if code != 0 else "SURVIVED"
        line = " ".join((mutant.new or f"without {mutant.old}").split())
        print(f"{number:3} {what} {mutant.file}: {line[:100]}", flush=True)
    build()
    share = caught / len(mutants) if mutants else 0
    minutes = (time.perf_counter() - began) / 60
    print(f"{caught} of {len(mutants)} faults noticed, {share:.1%}, in {minutes:.0f} minutes")
    return 0 if share >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
