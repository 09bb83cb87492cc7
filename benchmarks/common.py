"""What the benchmarks share: workers that live in processes of their own, statistics, tables.

A timing here is a ratio of windows that alternate A B A B between live processes, because a
machine's speed drifts more over minutes than the differences that are measured.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PACKAGES = {
    "mpsnn": ("mpsnn",),
    "torch": ("torch",),
    "jax": ("jax", "jaxlib"),
    "onnxruntime": ("onnxruntime",),
}

# glibc told to keep what it was given: without it PyTorch pays page faults in every step.
TUNED = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "1073741824",
}


def resident(field: str) -> int:
    """Return VmRSS or VmHWM of this process in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {field}")


class Growth:
    """How far the peak of resident memory has come from where it was here (Linux; 0 elsewhere)."""

    def __init__(self) -> None:
        self.there = Path("/proc/self/clear_refs").exists()
        if not self.there:
            return
        self.before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here

    def bytes(self) -> int:
        """Return the growth so far."""
        return resident("VmHWM") - self.before if self.there else 0


@dataclass(frozen=True)
class Variant:
    """One way to run a workload. `group` names the variants of which the fastest is quoted."""

    label: str
    group: str
    framework: str
    threads: int = 2
    mode: str = ""  # torch: "eager", "channels-last" or "compile"; mpsnn: "recompute"
    fused: bool = False  # torch: the optimizer's fused kernel
    dtype: str = "float32"
    env: dict[str, str] = field(default_factory=dict)


class Worker:
    """A process that answers JSON lines on its standard input with JSON lines.

    It runs `program` with the variant and `job` as its one argument, in the variant's environment.
    """

    def __init__(self, program: str, variant: Variant, job: dict[str, Any]) -> None:
        self.variant = variant
        environment = {k: v for k, v in os.environ.items() if k not in TUNED} | variant.env
        argument = json.dumps({"variant": asdict(variant), **job})
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / program), argument],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True,
        )  # fmt: skip

    def ask(self, question: dict[str, Any]) -> Any:
        """Send a question and wait for its answer; end the benchmark if the worker died."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        return self.answer()

    def answer(self) -> Any:
        """Wait for the next line of the worker."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"worker {self.variant.label!r} ended with code {self.process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        """End the process by the end of its input, and wait for it."""
        self.process.communicate()


def limit_cpus(count: int) -> None:
    """Confine this process to the first `count` of the processors it may use (where it can)."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def private_stdout() -> Any:
    """Return the standard output, kept for answers: what libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return answers


def installed(framework: str) -> bool:
    """Tell whether the framework's packages can be imported here."""
    return all(importlib.util.find_spec(name) is not None for name in PACKAGES[framework])


def require(framework: str) -> None:
    """End the program with one clear line when the framework is missing."""
    if not installed(framework):
        names = " ".join(PACKAGES[framework])
        sys.exit(f"{framework} is not installed for {sys.executable}: pip install {names}")


def run_python(code: str) -> str:
    """Return what a fresh interpreter prints."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if result.returncode:
        sys.exit(result.stderr.strip())
    return result.stdout.strip()


def machine(frameworks: Sequence[str]) -> dict[str, Any]:
    """Return date, machine and versions, for the head of a report."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = {"python": platform.python_version()}
    for package in ["numpy", *(name for f in frameworks for name in PACKAGES[f])]:
        if package == "mpsnn":  # may be a build folder on PYTHONPATH; its device names oneDNN
            code = "import mpsnn; print(mpsnn.__version__, [d.notes for d in mpsnn.devices()])"
            versions[package] = run_python(code)
        else:
            versions[package] = importlib.metadata.version(package)
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": f"{model}, {cpus} processors, {platform.platform()}",
        "versions": versions,
    }


def print_machine(facts: dict[str, Any]) -> None:
    """Print what `machine` found."""
    print(facts["date"], facts["machine"], sep="\n")
    print(", ".join(f"{name} {version}" for name, version in facts["versions"].items()))


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, least and greatest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def format_spread(values: dict[str, float], digits: int = 3) -> list[str]:
    """Return the three figures of `spread` as text."""
    return [f"{values[key]:.{digits}f}" for key in ("median", "min", "max")]


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        cells = [
            row[0].ljust(widths[0]),
            *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)),
        ]
        print("  ".join(cells).rstrip())
