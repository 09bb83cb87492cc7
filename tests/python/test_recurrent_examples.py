"""examples/activity.py and examples/text.py as programs: last lines, files, wrong input."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import mpsnn
import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name), "--out", str(folder / "out"), *arguments],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip


def test_activity_learns_and_reads_a_recording(tmp_path: Path) -> None:
    (x, y), _ = mpsnn.datasets.basic_motions()
    samples = np.concatenate([x[y == 2][0], x[y == 1][0], x[y == 2][1]])
    csv = "\n".join(["ax,ay,az,gx,gy,gz", *(",".join(map(str, row)) for row in samples)])
    (tmp_path / "watch.csv").write_text(csv)
    result = run("activity.py", tmp_path, "--epochs", "25", "--recording", "watch.csv")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    accuracies = re.findall(r"^epoch .* test accuracy ([\d.]+) %", result.stdout, re.M)
    assert len(accuracies) == 25
    assert lines[-1] == f"test accuracy {accuracies[-1]} %"
    assert float(accuracies[-1]) >= 90
    timeline = next(line for line in lines if line.startswith("timeline: "))
    assert timeline.startswith("timeline: standing from 0 s")
    assert "running from 1" in timeline
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"activity.safetensors", "confusion.png", "timeline.png"}


def test_text_perplexity_falls(tmp_path: Path) -> None:
    result = run("text.py", tmp_path, "--epochs", "4", "--hidden", "64", "--length", "20")
    assert result.returncode == 0, result.stderr
    found = [float(v) for v in re.findall(r"held-out perplexity ([\d.]+)", result.stdout)]
    assert len(found) == 5
    assert found[0] > 40
    assert found[-1] < found[0] / 2
    assert result.stdout.splitlines()[-1] == f"perplexity {found[-1]:.2f}"
    assert (tmp_path / "out" / "text.safetensors").is_file()


@pytest.mark.parametrize(
    ("name", "arguments", "text"),
    [
        ("activity.py", ["--recording", "absent.csv"], "there is no file absent.csv"),
        ("activity.py", ["--recording", "words.csv"], "words.csv: could not convert"),
        ("activity.py", ["--recording", "empty.csv"], "empty.csv: the file is empty"),
        ("activity.py", ["--window", "7"], "--window must divide"),
        ("activity.py", ["--epochs", "0"], "--epochs must be at least 1"),
        ("text.py", ["--data", "absent.txt"], "there is no file absent.txt"),
        ("text.py", ["--data", "empty.csv"], "0 characters are too few"),
        ("text.py", ["--warmth", "0"], "--warmth must be above 0"),
    ],
)
def test_wrong_input_is_told_in_one_line(
    name: str, arguments: list[str], text: str, tmp_path: Path
) -> None:
    (tmp_path / "words.csv").write_text("a,b,c,d,e,f\nwalk,1,2,3,4,5\n")
    (tmp_path / "empty.csv").write_text("")
    result = run(name, tmp_path, *arguments)
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    assert text in result.stderr.splitlines()[-1]
