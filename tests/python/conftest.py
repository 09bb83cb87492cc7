"""Fixtures shared by the Python tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from devices import DEVICES
from mpsnn import nn


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    """Each device of this build in turn."""
    return str(request.param)


@pytest.fixture
def digits_model() -> Callable[..., nn.Module]:
    """A small convolutional network over (8, 8, 1)."""

    def make(dropout: float = 0.0) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 12, 3, padding="same"), nn.BatchNorm2d(12), nn.LeakyReLU(0.1),
            nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4 * 12, 24), nn.Tanh(), nn.Dropout(dropout),
            nn.Linear(24, 10))  # fmt: skip

    return make


@pytest.fixture
def batch() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.random((16, 8, 8, 1), np.float32), rng.integers(0, 10, 16)
