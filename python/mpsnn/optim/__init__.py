"""Optimizers and learning-rate schedules. A recipe: the state lives in the graph."""

from __future__ import annotations

from mpsnn.optim.optimizers import SGD, Adam, AdamW, Optimizer, RMSProp
from mpsnn.optim.schedules import (
    CosineDecay,
    ExponentialDecay,
    LinearWarmup,
    StepDecay,
)

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "CosineDecay",
    "ExponentialDecay",
    "LinearWarmup",
    "Optimizer",
    "RMSProp",
    "StepDecay",
]
