"""Layers that only move elements."""

from __future__ import annotations

from typing import Any

from mpsnn import ops
from mpsnn.nn.module import Module


class Flatten(Module):
    """`(N, H, W, C)` to `(N, H * W * C)`, in that order. No copy."""

    is_layer = True

    def forward(self, x: Any) -> Any:
        """Merge all axes but the first."""
        return ops.apply("flatten", [x], {})[0]
