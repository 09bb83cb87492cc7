"""Data sets: digits and basic_motions are part of the package, MNIST is downloaded once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from mpsnn._core import FormatError

Split = tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def digits() -> Split:
    """Handwritten digits, embedded: ((x, y), (x_test, y_test)).

    x is float32 `(N, 8, 8, 1)` in 0..1, y int64 `(N,)`; 1,437 training and 360 test pictures, the
    test part being every fifth. From "Optical Recognition of Handwritten Digits", E. Alpaydin and
    C. Kaynak, 1998, UCI Machine Learning Repository, doi 10.24432/C50P49, CC BY 4.0.
    """
    return _load(Path(__file__).with_name("digits.npz"), 16.0)


MOTIONS = ("badminton", "running", "standing", "walking")


def basic_motions() -> Split:
    """Recordings of a smart watch, embedded: ((x, y), (x_test, y_test)).

    x is float32 `(N, 100, 6)`: 10 s at 10 Hz of the accelerometer's x, y, z and the gyroscope's;
    y is int64 `(N,)`, an index into `MOTIONS`; 40 training and 40 test recordings. BasicMotions of
    the UEA archive (Bagnall et al. 2018, arXiv 1811.00075), redistributed by aeon (BSD-3-Clause).
    """
    with np.load(Path(__file__).with_name("basic_motions.npz"), allow_pickle=False) as file:
        return tuple(  # type: ignore[return-value]
            (file[f"x_{part}"], file[f"y_{part}"].astype(np.int64)) for part in ("train", "test")
        )


def mnist(path: str | os.PathLike[str] | None = None) -> Split:
    """MNIST (LeCun, Cortes, Burges; CC BY-SA 3.0): ((x, y), (x_test, y_test)).

    x is float32 `(N, 28, 28, 1)` in 0..1, y int64 `(N,)`; 60,000 training and 10,000 test pictures.

    Args:
        path: an `mnist.npz` in Keras's layout; without it the cache folder is used, and the file
            downloaded into it first (11.5 MB, resumable, checked, atomic).

    Raises:
        FormatError: the file does not hold MNIST's layout.
        OSError: it cannot be read or downloaded.
    """
    if path is None:
        from mpsnn.datasets.download import mnist_file

        path = mnist_file()
    return _load(Path(path), 255.0)


def _load(path: Path, scale: float) -> Split:
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            names = ("x_train", "y_train", "x_test", "y_test")
            missing = [n for n in names if n not in file]
            if missing:
                raise FormatError(f"{path}: no arrays {missing} in it")
            arrays = [file[n] for n in names]
    except OSError:
        raise
    except FormatError:
        raise
    except Exception as error:
        raise FormatError(f"{path}: not an .npz file of arrays ({error})") from None
    parts: list[Any] = []
    for x, y in (arrays[:2], arrays[2:]):
        if x.ndim != 3 or y.shape != x.shape[:1] or x.dtype != np.uint8:
            raise FormatError(
                f"{path}: expected pictures (N, H, W) uint8 and labels (N,), got "
                f"{x.shape} {x.dtype} "
                f"and {y.shape}"
            )
        parts.append(((x[..., None] / np.float32(scale)).astype(np.float32), y.astype(np.int64)))
    return parts[0], parts[1]


__all__ = ["MOTIONS", "basic_motions", "digits", "mnist"]
