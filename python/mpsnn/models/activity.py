"""The activity classifier: a convolution over each window of sensor samples, then an LSTM."""

from __future__ import annotations

from typing import Any

import numpy as np

from mpsnn import _check, nn
from mpsnn._core import ShapeError


class ActivityClassifier(nn.Module):
    """Turi Create's network: one prediction for each window of a recording.

    Standardisation (kept in the model), convolution 64 of kernel and stride `window`, ReLU,
    dropout, LSTM 200, dense 128 with batch normalisation, ReLU, dropout, dense. The state is zero
    where a recording starts, in training and in prediction alike, unless `states=` carry it on.

    Made by `activity_classifier`.
    """

    def __init__(
        self, window: int, features: int, classes: int, filters: int, hidden: int, dense: int,
        dropout: tuple[float, float], batch_norm: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.features = features
        self.standard = nn.BatchNorm2d(features)
        self.standard.trainable = False
        self.conv = nn.Conv2d(features, filters, (1, window), stride=(1, window))
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(dropout[0])
        self.lstm = nn.LSTM(filters, hidden)
        self.head = nn.Sequential(
            nn.Linear(hidden, dense),
            nn.BatchNorm1d(dense) if batch_norm else nn.Identity(),
            nn.ReLU(),
            nn.Dropout(dropout[1]),
            nn.Linear(dense, classes),
        )

    def standardize(self, x: Any) -> None:
        """Take each feature's mean and deviation from recordings `(..., features)`."""
        values = np.asarray(x, np.float64)
        if values.shape[-1:] != (self.features,):
            raise ShapeError(f"[standardize] expected (..., {self.features}), got {values.shape}")
        rows = values.reshape(-1, self.features)
        self.standard.running_mean.assign(rows.mean(0).astype(np.float32))
        self.standard.running_var.assign(rows.var(0).astype(np.float32))

    def forward(self, x: Any) -> Any:
        """Recordings `(N, 1, steps * window, features)` to logits `(N, steps, classes)`."""
        windows = self.dropout(self.relu(self.conv(self.standard(x))))
        return self.head(self.lstm(windows))


def activity_classifier(
    window: int, features: int, classes: int, *, filters: int = 64, hidden: int = 200,
    dense: int = 128, dropout: tuple[float, float] = (0.2, 0.5), batch_norm: bool = True,
) -> ActivityClassifier:  # fmt: skip
    """Build an untrained activity classifier.

    Args:
        window: samples a prediction.
        features: channels of the sensors.
        classes: activities.
        filters, hidden, dense: sizes of the convolution, the LSTM and the dense layer.
        dropout: rates behind the convolution and behind the dense layer.
        batch_norm: False for training with `lengths`, where padding must not enter statistics.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
    """

    def size(name: str, value: int) -> int:
        return _check.integer("activity_classifier", name, value)

    return ActivityClassifier(
        size("window", window), size("features", features), size("classes", classes),
        size("filters", filters), size("hidden", hidden), size("dense", dense), dropout,
        _check.flag("activity_classifier", "batch_norm", batch_norm),
    )  # fmt: skip


__all__ = ["ActivityClassifier", "activity_classifier"]
