"""Pooling over images and sequences."""

from __future__ import annotations

from typing import Any

from mpsnn import _check, ops
from mpsnn._core import ShapeError
from mpsnn.nn.module import Module


class _Pool(Module):
    is_layer = True
    op = ""
    axes = 2

    def __init__(
        self, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool, **attrs: Any
    ) -> None:
        super().__init__()
        self.attrs = _check.window(
            type(self).__name__, kernel_size, stride, padding, ceil_mode, self.axes
        )
        self.attrs.update(attrs)

    def forward(self, x: Any) -> Any:
        """Images `(N, H, W, C)` or sequences `(N, T, C)` to smaller ones."""
        return ops.apply(self.op, [x], self.attrs)[0]


class MaxPool2d(_Pool):
    """Maximum over windows (MPSCNNPoolingMax, MPSCNNDilatedPoolingMax, ONNX MaxPool).

    `(N, H, W, C)` to `(N, H', W', C)`, sizes as of Conv2d. Padding never wins; NaN does.

    Args:
        kernel_size: pixels, an int or (height, width).
        stride: `kernel_size` by default.
        padding: "valid", "same", or pixels on each side, as of Conv2d, at most half of the kernel.
        dilation: distance between the taps of a window.
        ceil_mode: whether a last window may reach beyond the padding, if it begins in the image or
            in front of it.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
    """

    op = "max_pool2d"

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        *,
        ceil_mode: bool = False,
    ) -> None:
        spread = _check.sizes(type(self).__name__, "dilation", dilation, self.axes)
        super().__init__(kernel_size, stride, padding, ceil_mode, dilation=spread)


class MaxPool1d(MaxPool2d):
    """Maximum over windows of sequences, `(N, T, C)` to `(N, T', C)`.

    Args:
        kernel_size, stride, padding, dilation, ceil_mode: as of MaxPool2d, in steps.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
    """

    axes = 1


class AvgPool2d(_Pool):
    """Mean over windows (MPSCNNPoolingAverage, ONNX AveragePool).

    `(N, H, W, C)` to `(N, H', W', C)`, sizes as of Conv2d.

    Args:
        kernel_size: pixels, an int or (height, width).
        stride: `kernel_size` by default.
        padding: "valid", "same", or pixels on each side, as of Conv2d, at most half of the kernel.
        ceil_mode: as of MaxPool2d; what lies beyond the padding never counts.
        count_include_pad: whether padding counts in the mean; by default it does, but not under
            "same".

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
    """

    op = "avg_pool2d"

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool | None = None,
    ) -> None:
        if count_include_pad is None:
            count_include_pad = padding != "same"
        include = _check.flag(type(self).__name__, "count_include_pad", count_include_pad)
        super().__init__(kernel_size, stride, padding, ceil_mode, count_include_pad=include)


class AvgPool1d(AvgPool2d):
    """Mean over windows of sequences, `(N, T, C)` to `(N, T', C)`.

    Args:
        kernel_size, stride, padding, ceil_mode, count_include_pad: as of AvgPool2d, in steps.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
    """

    axes = 1


class L2Pool2d(_Pool):
    """Square root of the sum of squares over windows (MPSCNNPoolingL2Norm, ONNX LpPool).

    `(N, H, W, C)` to `(N, H', W', C)`, sizes as of Conv2d. The gradient of a window of zeros is 0.

    Args:
        kernel_size: pixels, an int or (height, width).
        stride: `kernel_size` by default.
        padding: "valid", "same", or zeros on each side, as of Conv2d, at most half of the kernel.
        ceil_mode: as of MaxPool2d.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
    """

    op = "l2_pool2d"

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, *, ceil_mode: bool = False
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)


class L2Pool1d(L2Pool2d):
    """Square root of the sum of squares over windows of sequences, `(N, T, C)` to `(N, T', C)`.

    Args:
        kernel_size, stride, padding, ceil_mode: as of L2Pool2d, in steps.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
    """

    axes = 1


class _GlobalPool2d(Module):
    is_layer = True
    op = ""

    def forward(self, x: Any) -> Any:
        """`(N, H, W, C)` to `(N, 1, 1, C)`."""
        if len(x.shape) != 4:
            layer = f"{type(self).__name__} {x.tracer.path(self)}".rstrip()
            raise ShapeError(f"[{layer}] expected (N, H, W, C), got {x.shape}")
        return ops.apply(self.op, [x], {"kernel": x.shape[1:3]})[0]


class GlobalAvgPool2d(_GlobalPool2d):
    """Mean of each channel, `(N, H, W, C)` to `(N, 1, 1, C)` (ONNX GlobalAveragePool).

    Raises:
        ShapeError: the input has not four axes.
    """

    op = "avg_pool2d"


class GlobalMaxPool2d(_GlobalPool2d):
    """Maximum of each channel, `(N, H, W, C)` to `(N, 1, 1, C)` (ONNX GlobalMaxPool).

    Raises:
        ShapeError: the input has not four axes.
    """

    op = "max_pool2d"
