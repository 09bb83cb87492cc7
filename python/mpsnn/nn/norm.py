"""Normalisation: of batches, groups of channels, rows and windows."""

from __future__ import annotations

from typing import Any

import numpy as np

from mpsnn import _check, ops
from mpsnn._core import ShapeError
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

    def forward(self, x: Any, lengths: Any = None) -> Any:
        """Normalise over all axes but the last.

        Args:
            x: rows, sequences or images.
            lengths: `(N,)` integers: steps past them, along the last axis but the channels', give
                zero and are not in the statistics; those of the graph's step if None.
        """
        if len(x.shape) not in self.ranks:
            expected = "(N, H, W, C)" if self.ranks == (4,) else "(N, C) or (N, T, C)"
            layer = f"{type(self).__name__} {x.tracer.path(self)}".rstrip()
            raise ShapeError(f"[{layer}] expected {expected}, got {x.shape}")
        frozen = not self.trainable or x.tracer.training(self) is False
        if lengths is None and x.tracer.sequence is not None and len(x.shape) > 2:
            lengths = x.tracer.sequence.lengths(x, statistics=not frozen)
        arrays = [x, self.weight, self.bias, self.running_mean, self.running_var, lengths]
        attrs = {**self.attrs, "frozen": frozen}
        return ops.apply("batch_norm", arrays, attrs, indices={5: x.shape[-2] + 1})[0]


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


class _GroupNorm(Module):
    is_layer = True
    weight: Parameter | None = None
    bias: Parameter | None = None

    def _affine(self, channels: int, affine: bool) -> None:
        if affine:
            self.weight = Parameter(np.ones((channels,)))
            self.bias = Parameter(np.zeros((channels,)))

    def _normalize(self, x: Any, groups: int, eps: float) -> Any:
        attrs = {"groups": groups, "epsilon": eps}
        return ops.apply("group_norm", [x, self.weight, self.bias], attrs)[0]


class InstanceNorm2d(_GroupNorm):
    """Each channel of each image normalised by itself (MPSCNNInstanceNormalization).

    (Ulyanov et al. 2016.) Biased variance; no running statistics: training and inference are the
    same.

    Args:
        num_features: channels.
        eps: added to the variance.
        affine: whether to learn a weight and a bias a channel.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
        ShapeError: the input is no image, or has another number of channels.
    """

    def __init__(self, num_features: int, eps: float = 1e-5, affine: bool = False) -> None:
        super().__init__()
        me = "InstanceNorm2d"
        self.num_features = _check.integer(me, "num_features", num_features)
        self.eps = _check.number(me, "eps", eps, 0, open_low=True)
        self._affine(self.num_features, _check.flag(me, "affine", affine))

    def forward(self, x: Any) -> Any:
        """`(N, H, W, C)` to the same."""
        if len(x.shape) != 4 or x.shape[-1] != self.num_features:
            layer = f"InstanceNorm2d {x.tracer.path(self)}".rstrip()
            raise ShapeError(f"[{layer}] expected (N, H, W, {self.num_features}), got {x.shape}")
        return self._normalize(x, self.num_features, self.eps)


class GroupNorm(_GroupNorm):
    """Groups of channels of each image normalised by themselves (MPSCNNGroupNormalization).

    (Wu, He 2018.) Biased variance, over a group's channels and all positions.

    Args:
        num_groups: must divide `num_channels`.
        num_channels: channels.
        eps: added to the variance.
        affine: whether to learn a weight and a bias a channel.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
        ShapeError: the input has another number of channels.
    """

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True
    ) -> None:
        super().__init__()
        me = "GroupNorm"
        self.num_groups = _check.integer(me, "num_groups", num_groups)
        self.num_channels = _check.integer(me, "num_channels", num_channels)
        if self.num_channels % self.num_groups:
            raise ValueError(
                f"[{me}] num_groups must divide the {num_channels} channels, got {num_groups}"
            )
        self.eps = _check.number(me, "eps", eps, 0, open_low=True)
        self._affine(self.num_channels, _check.flag(me, "affine", affine))

    def forward(self, x: Any) -> Any:
        """`(N, ..., C)` to the same."""
        if len(x.shape) < 2 or x.shape[-1] != self.num_channels:
            layer = f"GroupNorm {x.tracer.path(self)}".rstrip()
            raise ShapeError(f"[{layer}] expected (N, ..., {self.num_channels}), got {x.shape}")
        return self._normalize(x, self.num_groups, self.eps)


class LayerNorm(Module):
    """The last axes normalised together, each row by itself (Ba et al. 2016). Biased variance.

    Args:
        normalized_shape: the size of the last axis, or the shape of the last axes.
        eps: added to the variance.
        elementwise_affine: whether to learn a weight, of `normalized_shape`.
        bias: whether to learn a bias, too.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
        ShapeError: the input's last axes are others.
    """

    is_layer = True
    weight: Parameter | None = None
    bias: Parameter | None = None

    def __init__(
        self,
        normalized_shape: Any,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        me = "LayerNorm"
        sizes = normalized_shape
        if not isinstance(normalized_shape, (tuple, list)):
            sizes = (normalized_shape,)
        if not sizes:
            raise ValueError(f"[{me}] normalized_shape must have an axis, got {normalized_shape!r}")
        self.shape = tuple(_check.integer(me, "normalized_shape", s) for s in sizes)
        self.eps = _check.number(me, "eps", eps, 0, open_low=True)
        affine = _check.flag(me, "elementwise_affine", elementwise_affine)
        if _check.flag(me, "bias", bias) and affine:
            self.bias = Parameter(np.zeros(self.shape))
        if affine:
            self.weight = Parameter(np.ones(self.shape))

    def forward(self, x: Any) -> Any:
        """`(N, ..., *normalized_shape)` to the same."""
        if tuple(x.shape[-len(self.shape) :]) != self.shape:
            layer = f"LayerNorm {x.tracer.path(self)}".rstrip()
            raise ShapeError(f"[{layer}] expected last axes {self.shape}, got {x.shape}")
        attrs = {"axes": len(self.shape), "epsilon": self.eps}
        return ops.apply("layer_norm", [x, self.weight, self.bias], attrs)[0]


class LocalResponseNorm(Module):
    """x / (k + alpha * m)^beta, m the mean of squares in a window (Krizhevsky et al. 2012).

    The window reaches size // 2 to the front and (size - 1) // 2 to the back; beyond the image are
    zeros, and the divisor stays. Over channels it is MPSCNNCrossChannelNormalization and PyTorch's
    layer, over space MPSCNNSpatialNormalization.

    Args:
        size: of the window, a side if it is over space.
        alpha, beta, k: PyTorch's by default; MPS has 1, 5 and 1.
        across: "channels" or "space".

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
        ShapeError: the input has no channels, or is no image.
    """

    is_layer = True

    def __init__(
        self,
        size: int,
        alpha: float = 1e-4,
        beta: float = 0.75,
        k: float = 1.0,
        across: str = "channels",
    ) -> None:
        super().__init__()
        me = "LocalResponseNorm"
        self.attrs = {
            "size": _check.integer(me, "size", size, 1, 2**20),
            "alpha": _check.number(me, "alpha", alpha, 0),
            "beta": _check.number(me, "beta", beta),
            "k": _check.number(me, "k", k, 0),
            "across": _check.one_of(me, "across", across, ("channels", "space")),
        }

    def forward(self, x: Any) -> Any:
        """`(N, ..., C)`, over space `(N, H, W, C)`, to the same."""
        return ops.apply("local_response_norm", [x], self.attrs)[0]


class LocalContrastNorm(Module):
    """pm + ps (x - p0 m) / (delta + alpha v)^beta, m and v a spatial window's mean and variance.

    (MPSCNNLocalContrastNormalization; Jarrett et al. 2009.) The window is LocalResponseNorm's.

    Args:
        size: of a side of the window.
        alpha, beta, delta, p0, pm, ps: of the formula; MPS's by default.

    Raises:
        ValueError, TypeError: an argument is out of range or no number.
        ShapeError: the input is no image.
    """

    is_layer = True

    def __init__(
        self,
        size: int,
        alpha: float = 1.0,
        beta: float = 0.5,
        delta: float = 1 / 1024,
        p0: float = 1.0,
        pm: float = 0.0,
        ps: float = 1.0,
    ) -> None:
        super().__init__()
        me = "LocalContrastNorm"
        self.attrs = {
            "size": _check.integer(me, "size", size, 1, 2**20),
            "alpha": _check.number(me, "alpha", alpha, 0),
            "beta": _check.number(me, "beta", beta),
            "delta": _check.number(me, "delta", delta, 0, open_low=True),
            "p0": _check.number(me, "p0", p0),
            "pm": _check.number(me, "pm", pm),
            "ps": _check.number(me, "ps", ps),
        }

    def forward(self, x: Any) -> Any:
        """`(N, H, W, C)` to the same."""
        return ops.apply("local_contrast_norm", [x], self.attrs)[0]
