"""examples/inception.py as a program: a folder of pictures, wrong input in one line."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import mpsnn
import numpy as np
import pytest
from PIL import Image

SCRIPT = Path(__file__).parents[2] / "examples" / "inception.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), "--device", "cpu", *arguments], capture_output=True, text=True
    )


def test_it_trains_on_a_folder_and_saves(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name, side in (("cats", 40), ("dogs", 300)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(2):
            pixels = random.integers(0, 255, (side, side + 9, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{i}.png")
    file = tmp_path / "weights.safetensors"
    result = run("--images", str(tmp_path / "pictures"), "--batch", "2", "--steps", "2", "--every",
                 "1", "--save", str(file))  # fmt: skip
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert "2 classes, batches of 2" in lines[0]
    steps = re.findall(r"^step (\d): loss [\d.]+, [\d.]+ images/s$", result.stdout, re.M)
    assert steps == ["1", "2"]
    mpsnn.models.inception_v3(2, aux_logits=False).load(file)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--images", "absent"], "--images: there is no folder"),
        (["--images", "."], "no folder in it holds pictures"),
        (["--batch", "0"], "must be at least 1"),
        (["--device", "abacus"], "there is no device 'abacus' here"),
        (["--rate", "nan"], "[SGD] lr"),
    ],
)
def test_wrong_input_is_told_in_one_line(tmp_path: Path, arguments: list[str], text: str) -> None:
    if arguments[0] == "--images":
        arguments = ["--images", str(tmp_path / arguments[1])]
    result = run(*arguments)
    assert result.returncode in (1, 2)
    assert "Traceback" not in result.stderr
    assert text in result.stderr.splitlines()[-1]
