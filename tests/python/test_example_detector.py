"""examples/detector.py: the parts that judge it, worked by hand, and its command line."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parent.parent.parent / "examples" / "detector.py"


@pytest.fixture(scope="module")
def detector() -> ModuleType:
    spec = importlib.util.spec_from_file_location("detector", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_overlap(detector: ModuleType) -> None:
    """Two squares of 4 that share 2: 2 / 6; one inside another: 4 / 16; apart: 0."""
    a = np.array([[0.0, 0, 2, 2], [0, 0, 4, 4]])
    b = np.array([[1.0, 0, 3, 2], [1, 1, 3, 3], [5, 5, 6, 6]])
    np.testing.assert_allclose(
        detector.overlap(a, b), [[1 / 3, 1 / 7, 0], [4 / 16, 4 / 16, 0]], rtol=1e-6
    )


def test_average_precision(detector: ModuleType) -> None:
    """Right, wrong, right of three objects: precision 1, 1/2, 2/3 at recall 1/3, 1/3, 2/3."""
    made = detector.average_precision(
        np.array([True, True, False]), np.array([0.9, 0.5, 0.7]), objects=3
    )
    assert made == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 3)


def test_a_second_box_of_an_object_is_wrong(detector: ModuleType) -> None:
    box = np.array([[10.0, 10, 30, 30]])
    truth = [(box, np.array([4]))]
    once = [(box, np.array([4]), np.array([0.9]))]
    twice = [(np.repeat(box, 2, 0), np.array([4, 4]), np.array([0.9, 0.8]))]
    other = [(box, np.array([5]), np.array([0.9]))]
    far = [(box + 15, np.array([4]), np.array([0.9]))]
    assert detector.mean_average_precision(truth, once) == 1
    assert detector.mean_average_precision(truth, twice) == 1  # behind the right one
    assert detector.mean_average_precision(truth, other) == 0
    assert detector.mean_average_precision(truth, far) == 0


def test_boxes_come_back_from_what_they_were_written_to(detector: ModuleType) -> None:
    """The target's inverse: logits of the same offsets and sizes give the same boxes."""
    boxes = np.array([[16.0, 24, 40, 60], [80, 72, 100, 104]])
    classes = np.array([3, 7])
    cells = detector.target(boxes, classes).reshape(16, 16, 3, 15)
    output = np.full_like(cells, -12.0)
    full = cells[..., 4] == 1
    inside = np.clip(cells[full][:, :2], 1e-6, 1 - 1e-6)
    output[full, :2] = np.log(inside / (1 - inside))
    anchor = np.where(full)[2]
    output[full, 2:4] = np.log(cells[full][:, 2:4] / detector.ANCHORS[anchor])
    output[full, 4] = 12
    output[full, 5:] = cells[full][:, 5:] * 24 - 12
    found, labels, scores = detector.found_boxes(output.reshape(16, 16, -1), 0.5)
    order = np.argsort(labels)
    np.testing.assert_allclose(found[order], boxes, atol=1e-3)
    assert list(labels[order]) == [3, 7]
    assert (scores > 0.99).all()


def test_canvases(detector: ModuleType) -> None:
    rng = np.random.default_rng(0)
    canvases = detector.Canvases(rng.random((20, 8, 8, 1)), np.arange(20) % 10, seed=1)
    for _ in range(20):
        canvas, boxes, classes = canvases.draw()
        assert canvas.shape == (128, 128, 1)
        assert canvas.min() >= 0
        assert canvas.max() <= 1
        assert 1 <= len(boxes) == len(classes) <= 6
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] <= 128).all()


def test_it_trains_draws_and_judges(tmp_path: Path) -> None:
    """A few steps: nothing is found yet, all is written."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--steps", "3", "--test", "12", "--batch", "4",
         "--device", "cpu", "--out", str(tmp_path)], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("mAP@0.5 0.")
    assert (tmp_path / "detector.safetensors").stat().st_size > 100_000
    if importlib.util.find_spec("matplotlib"):
        assert (tmp_path / "detections.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["--steps", "0"], "--steps must be at least 1"), (["--device", "gpu"], "no device 'gpu'"),
     (["--batch", "x"], "invalid int value")],
)  # fmt: skip
def test_wrong_arguments(arguments: list[str], told: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--out", str(tmp_path), *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert told in done.stderr
    assert "Traceback" not in done.stderr
