"""Batch normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np

from mpsnn import _check, ops
from mpsnn._core import ShapeError, UnsupportedError
from mpsnn.nn.module import Module, Parameter


class _BatchNorm(Module):
    is_layer = True
    ranks: tuple[int, ...] = ()

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        me = type(self).__name__
        shape = (_check.integer(me, "num_features", num_features),)
        self.attrs = {
            "epsilon": _check.number(me, "eps", eps, 0, open_low=True),
            "momentum": _check.number(me, "momentum", momentum, 0, 1),
        }
        self.weight = Parameter(np.ones(shape))
        self.bias = Parameter(np.zeros(shape))
        self.running_mean = Parameter(np.zeros(shape), buffer=True)
        self.running_var = Parameter(np.ones(shape), buffer=True)

    def forward(self, x: Any) -> Any:
        """Normalise over all axes but the last."""
        if len(x.shape) not in self.ranks:
            expected = "(N, H, W, C)" if self.ranks == (4,) else "(N, C) or (N, T, C)"
            layer = f"{type(self).__name__} {x.tracer.path(self)}".rstrip()
            raise ShapeError(f"[{layer}] expected {expected}, got {x.shape}")
        frozen = not self.trainable or x.tracer.training(self) is False
        if not frozen and x.tracer.sequence is not None and x.tracer.sequence.padded:
            raise UnsupportedError(
                f"[{type(self).__name__} {x.tracer.path(self)}] lengths: padding would enter the "
                "statistics of the batch"
            )
        arrays = [x, self.weight, self.bias, self.running_mean, self.running_var]
        return ops.apply("batch_norm", arrays, {**self.attrs, "frozen": frozen})[0]


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of images `(N, H, W, C)` (MPSCNNBatchNormalization; Ioffe, Szegedy 2015).

    Biased variance normalises, the unbiased one enters the running average. A frozen layer
    (`trainable = False`) uses its running statistics.

    Args:
        num_features: channels.
        eps: added to the variance.
        momentum: weight of the batch in the running averages.

    Raises:
        ShapeError: training with one value a channel.
    """

    ranks = (4,)


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of rows `(N, C)` or sequences `(N, T, C)`; as BatchNorm2d."""

    ranks = (2, 3)
