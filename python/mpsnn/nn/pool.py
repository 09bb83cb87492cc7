"""Pooling over images."""

from __future__ import annotations

from typing import Any

from mpsnn import _check, ops
from mpsnn.nn.module import Module


class _Pool2d(Module):
    is_layer = True
    op = ""

    def __init__(self, kernel_size: Any, stride: Any, padding: Any) -> None:
        super().__init__()
        me = type(self).__name__
        kernel = _check.pair(me, "kernel_size", kernel_size)
        self.attrs: dict[str, Any] = {
            "kernel": kernel,
            "stride": kernel if stride is None else _check.pair(me, "stride", stride),
            **_check.padding(me, padding),
        }
        pads = self.attrs.get("pads", (0, 0, 0, 0))
        if any(2 * p > k for p, k in zip(pads, kernel * 2, strict=True)):
            raise ValueError(f"[{me}] padding must be at most half of the kernel, got {pads}")

    def forward(self, x: Any) -> Any:
        """`(N, H, W, C)` to `(N, H', W', C)`."""
        return ops.apply(self.op, [x], self.attrs)[0]


class MaxPool2d(_Pool2d):
    """Maximum over windows (MPSCNNPoolingMax, ONNX MaxPool). Padding never wins; NaN does.

    Args:
        kernel_size: pixels, an int or (height, width).
        stride: `kernel_size` by default.
        padding: "valid", "same", or pixels on each side, at most half of the kernel.
        dilation: distance between the taps of a window.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
    """

    op = "max_pool2d"

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1
    ) -> None:
        super().__init__(kernel_size, stride, padding)
        self.attrs["dilation"] = _check.pair("MaxPool2d", "dilation", dilation)


class AvgPool2d(_Pool2d):
    """Mean over windows (MPSCNNPoolingAverage, ONNX AveragePool).

    Args:
        kernel_size: pixels, an int or (height, width).
        stride: `kernel_size` by default.
        padding: "valid", "same", or pixels on each side, at most half of the kernel.
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
        count_include_pad: bool | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding)
        if count_include_pad is None:
            count_include_pad = padding != "same"
        self.attrs["count_include_pad"] = _check.flag(
            "AvgPool2d", "count_include_pad", count_include_pad
        )
