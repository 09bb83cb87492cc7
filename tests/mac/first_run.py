"""What to run on a Mac first: questions to its GPU, its self-test, all tests of the mps device.

    python tests/mac/first_run.py [--probes]      --probes: the questions alone

Everything is printed and kept in build/first_run.txt; see first_run.md. Ends with the number of
answers that are not as assumed, or 100 if a test failed.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parent.parent.parent
REPORT = ROOT / "build" / "first_run.txt"


def say(report: TextIO, text: str) -> None:
    print(text, flush=True)
    report.write(text + "\n")


def ask(program: Path, *arguments: str) -> str:
    """What a probe prints, or how it ended."""
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        return f"ended with {done.returncode} {last}".strip()
    return done.stdout.rstrip("\n")


def probes(program: Path, report: TextIO) -> int:
    """Ask every question; how many answers are not the assumed ones."""
    different = 0
    for line in ask(program).splitlines():
        number, place, assumed, question = line.split("\t")
        answer = ask(program, number)
        same = answer == assumed or (assumed == "ended" and answer.startswith("ended with"))
        different += not same
        say(report, f"{number:>3} {'as assumed' if same else 'DIFFERENT '}  {question}")
        say(report, f"               {answer}{'' if same else f', not {assumed}: see {place}'}")
    return different


def run(report: TextIO, environment: dict[str, str], *command: str) -> int:
    """Run a command, and keep what it says."""
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **environment}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        for line in process.stdout or ():
            say(report, line.rstrip("\n"))
    return process.returncode


def main() -> int:
    REPORT.parent.mkdir(exist_ok=True)
    program = ROOT / "build" / "package" / "tests" / "mac" / "mac_probes"
    with REPORT.open("w", encoding="utf-8") as report:
        say(report, f"{platform.platform()}, {platform.machine()}, Python {sys.version.split()[0]}")
        only = "--probes" in sys.argv[1:]
        if not only and run(report, {}, "tests/run", "--build") != 0:
            return 100
        different = probes(program, report)
        say(report, f"{different} answers are not as assumed")
        if only:
            return different
        python = str(ROOT / "build" / "venv" / "bin" / "python")
        run(report, {}, python, "-m", "mpsnn")
        failed = run(report, {"MPSNN_TEST_DEVICE": "mps"}, python, "-m", "pytest", "tests")
        return 100 if failed else different


if __name__ == "__main__":
    sys.exit(main())
