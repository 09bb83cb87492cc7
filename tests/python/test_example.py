"""examples/digits.py as a program: its last line, its files, and what it says of wrong input."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "digits.py"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), "--out", str(folder / "out"), *arguments],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip


def test_it_trains_and_ends_with_the_accuracy_of_the_file(tmp_path: Path) -> None:
    result = run(tmp_path, "--epochs", "2", "--train", "500")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert "500 training and 360 test pictures" in lines[0]
    epochs = [float(v) for v in re.findall(r"^epoch .* accuracy ([\d.]+) %", result.stdout, re.M)]
    assert len(epochs) == 2
    assert lines[-1] == f"test accuracy {max(epochs):.2f} %"
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"digits.safetensors", "history.png", "predictions.png"}


def test_it_stops_at_the_target(tmp_path: Path) -> None:
    result = run(tmp_path, "--epochs", "9", "--target", "30")
    assert result.returncode == 0, result.stderr
    epochs = [float(v) for v in re.findall(r"^epoch .* accuracy ([\d.]+) %", result.stdout, re.M)]
    assert len(epochs) < 9
    assert all(accuracy < 30 for accuracy in epochs[:-1])
    assert epochs[-1] >= 30


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--data", "absent.npz"], "there is no file absent.npz"),
        (["--data", "text.npz"], "text.npz: not an .npz file"),
        (["--data", "other.npz"], "other.npz: no arrays ['x_train', 'y_train', "),
        (["--data", "large.npz"], "expects 3136 input features, input has 4096"),
        (["--epochs", "0"], "--epochs must be at least 1, not 0"),
        (["--dropout", "1.5"], "[Dropout] p must be in [0, 1), got 1.5"),
        (["--lr", "nan"], "[Adam] lr must be in"),
        (["--lr", "1e30"], "not finite"),
        (["--target", "nan"], "--target must be a number, not nan"),
        (["--device", "abacus"], "there is no device 'abacus' here"),
        (["--seed", "-1"], "a seed of at least 0, got -1"),
        (["--seed", str(2**70)], "seed must be at most 9223372036854775807"),
        (["--out", "text.npz"], "text.npz"),
    ],
)
def test_wrong_input_is_told_in_one_line(tmp_path: Path, arguments: list[str], text: str) -> None:
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    x, y = np.zeros((9, 32, 32), np.uint8), np.zeros(9, np.uint8)
    np.savez(tmp_path / "large.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    result = run(tmp_path, *arguments)
    assert result.returncode in (1, 2)
    assert "Traceback" not in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("digits.py: error: ")
    assert text in last
