"""The dense layer."""

from __future__ import annotations

import math
from typing import Any

from mpsnn import _check, ops
from mpsnn.nn.module import Module, weight_and_bias


class Linear(Module):
    """y = x W^T + b over the last axis (MPSCNNFullyConnected, ONNX Gemm).

    Weight `(out_features, in_features)`, bias `(out_features)`, drawn as in PyTorch: uniform in
    +-1/sqrt(in_features).

    Args:
        in_features, out_features: sizes of the last axis, before and after.
        bias: whether there is one.
        weights: an array, `f(shape, generator)` or a `DataSource`, instead of the default
            distribution.
        accumulator: "float32"; "float16" permits half accumulation in a float16 graph.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
        ShapeError: `weights` has another shape.
    """

    is_layer = True

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        weights: Any = None,
        accumulator: str | None = None,
    ) -> None:
        super().__init__()
        me = "Linear"
        shape = (
            _check.integer(me, "out_features", out_features),
            _check.integer(me, "in_features", in_features),
        )
        self.attrs: dict[str, Any] = {}
        if accumulator is not None:
            self.attrs["accumulator"] = _check.one_of(
                me, "accumulator", accumulator, ("float16", "float32")
            )
        bound = 1 / math.sqrt(shape[1])
        self.weight, self.bias = weight_and_bias(
            self, me, shape, weights, _check.flag(me, "bias", bias), bound
        )

    def forward(self, x: Any) -> Any:
        """`(..., in_features)` to `(..., out_features)`."""
        return ops.apply("linear", [x, self.weight, self.bias], self.attrs)[0]
