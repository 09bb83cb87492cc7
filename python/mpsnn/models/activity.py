"""The activity classifier: a convolution over each window of sensor samples, then an LSTM."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from mpsnn import _check, nn
from mpsnn._core import ShapeError


class ActivityClassifier(nn.Module):
    """Turi Create's network: one prediction for each window of a recording.

    Standardisation (kept in the model), convolution 64 of kernel and stride `window`, ReLU,
    dropout, LSTM 200, dense 128 with batch normalisation, ReLU, dropout, dense. The state is zero
    where a chunk starts, in training and in prediction alike, unless `states=` carry it on.

    Made by `activity_classifier`.
    """

    def __init__(
        self, window: int, features: int, classes: int, filters: int, hidden: int, dense: int,
        dropout: tuple[float, float],
    ) -> None:  # fmt: skip
        super().__init__()
        self.window, self.features = window, features
        self.standard = nn.BatchNorm2d(features)
        self.standard.trainable = False
        self.conv = nn.Conv2d(features, filters, (1, window), stride=(1, window))
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(dropout[0])
        self.lstm = nn.LSTM(filters, hidden)
        self.head = nn.Sequential(
            nn.Linear(hidden, dense),
            nn.BatchNorm1d(dense),
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

    def chunks(
        self, recordings: Iterable[Any], labels: Iterable[Any] | None = None, steps: int = 20
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """Cut recordings into chunks of `steps` windows each, to train on or to predict.

        Args:
            recordings: arrays `(T, features)`, of any lengths.
            labels: of each recording its class, or those of its samples `(T,)`.
            steps: windows a chunk.

        Returns:
            Chunks `(K, 1, steps * window, features)`, a recording's last one filled up with zeros;
            the classes of their windows `(K, steps)`, each the most frequent one of its samples, or
            None without labels; and the samples in each chunk, `(K,)`: a graph's `lengths`, with
            which what fills a chunk counts nowhere.

        Raises:
            ShapeError: a recording or its labels have another shape.
        """
        size = _check.integer("chunks", "steps", steps) * self.window
        x: list[np.ndarray] = []
        y: list[np.ndarray] = []
        lengths: list[int] = []
        given = [np.asarray(r, np.float32) for r in recordings]
        classes = [None] * len(given) if labels is None else [np.asarray(c) for c in labels]
        if len(classes) != len(given):
            raise ShapeError(f"[chunks] {len(given)} recordings and {len(classes)} labels")
        for samples, own in zip(given, classes, strict=True):
            if samples.ndim != 2 or samples.shape[1] != self.features:
                raise ShapeError(f"[chunks] expected (T, {self.features}), got {samples.shape}")
            if own is not None and own.shape not in ((), samples.shape[:1]):
                raise ShapeError(
                    f"[chunks] expected a class or {samples.shape[:1]}, got {own.shape}"
                )
            for start in range(0, len(samples), size):
                part = samples[start : start + size]
                lengths.append(len(part))
                x.append(np.zeros((1, size, self.features), np.float32))
                x[-1][0, : len(part)] = part
                if own is not None:
                    every = np.broadcast_to(own, len(samples))[start : start + size]
                    y.append(np.zeros(steps, np.int64))
                    for i in range(-(-len(part) // self.window)):
                        window = every[i * self.window : (i + 1) * self.window]
                        y[-1][i] = np.bincount(window).argmax()
        shape = (0, 1, size, self.features)
        return (
            np.stack(x) if x else np.zeros(shape, np.float32),
            None if labels is None else np.array(y, np.int64).reshape(-1, steps),
            np.array(lengths, np.int64),
        )

    def forward(self, x: Any) -> Any:
        """Recordings `(N, 1, steps * window, features)` to logits `(N, steps, classes)`."""
        windows = self.dropout(self.relu(self.conv(self.standard(x))))
        return self.head(self.lstm(windows))


def activity_classifier(
    window: int, features: int, classes: int, *, filters: int = 64, hidden: int = 200,
    dense: int = 128, dropout: tuple[float, float] = (0.2, 0.5),
) -> ActivityClassifier:  # fmt: skip
    """Build an untrained activity classifier.

    Args:
        window: samples a prediction.
        features: channels of the sensors.
        classes: activities.
        filters, hidden, dense: sizes of the convolution, the LSTM and the dense layer.
        dropout: rates behind the convolution and behind the dense layer.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
    """

    def size(name: str, value: int) -> int:
        return _check.integer("activity_classifier", name, value)

    return ActivityClassifier(
        size("window", window), size("features", features), size("classes", classes),
        size("filters", filters), size("hidden", hidden), size("dense", dense), dropout,
    )  # fmt: skip


__all__ = ["ActivityClassifier", "activity_classifier"]
