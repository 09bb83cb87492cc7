"""Losses: the mean over a batch and one value an image (MPSCNNLoss)."""

from __future__ import annotations

from typing import Any

import numpy as np

from mpsnn import _check, ops
from mpsnn._core import ShapeError
from mpsnn._trace import Symbol, Tracer


class Loss:
    """Base of losses. Called on arrays: `loss(outputs, targets, weights=None)`."""

    op = ""
    has_classes = False
    attrs: dict[str, Any]

    def __init__(self, reduction: str) -> None:
        me = type(self).__name__
        self.attrs = {"reduction": _check.one_of(me, "reduction", reduction, ("mean", "sum"))}

    def target_symbol(self, tracer: Tracer, output: Symbol, name: str, soft: bool) -> Symbol:
        """The input that the targets of `output` are staged in."""
        shape = output.shape
        master = "float64" if tracer.graph.dtype == "float64" else "float32"
        if not self.has_classes or soft:
            return tracer.symbol(name, shape, master)
        if len(shape) < 2:
            raise ShapeError(f"[{type(self).__name__}] outputs need a class axis, got {shape}")
        positions = [shape[0], *[s for s in shape[1:-1] if s != 1]]
        ignore = self.attrs.get("ignore_index", -100)
        return tracer.symbol(name, positions, "int32", classes=shape[-1], ignore_index=ignore)

    def weight_symbol(self, tracer: Tracer, output: Symbol, name: str) -> Symbol:
        """The input of image weights `(N,)`; ones when absent."""
        master = "float64" if tracer.graph.dtype == "float64" else "float32"
        return tracer.symbol(name, output.shape[:1], master, optional=True)

    def apply(self, output: Any, target: Any, weight: Any = None) -> list[Any]:
        """[loss (1,), losses (N,)] as graph values."""
        return ops.apply(self.op, [output, target, weight], self.attrs)

    def __call__(self, outputs: Any, targets: Any, weights: Any = None) -> Any:
        """The loss, and one loss an image, of arrays."""
        return ops.eager_loss(self, outputs, targets, weights)


class FunctionLoss(Loss):
    """A loss made of `ops`: `f(outputs, targets)` gives one value an image, `(N,)`.

    Targets have the outputs' shape. `reduction="mean"` weighs the values by image.
    """

    op = "given_loss"

    def __init__(self, function: Any) -> None:
        super().__init__("mean")
        self.function = function

    def apply(self, output: Any, target: Any, weight: Any = None) -> list[Any]:
        """[loss (1,), losses (N,)] as graph values."""
        values = self.function(output, target)
        name = getattr(self.function, "__name__", "loss")
        if not isinstance(values, Symbol):
            raise TypeError(f"[{name}] a loss returns a value of the graph, got {values!r}")
        if len(values.shape) != 1:
            raise ShapeError(f"[{name}] a loss returns one value an image, got {values.shape}")
        return ops.apply(self.op, [values, weight], self.attrs)


class SoftmaxCrossEntropy(Loss):
    """Cross-entropy of softmax(outputs) (MPSCNNLossTypeSoftMaxCrossEntropy, as PyTorch's).

    Targets: class indices of the outputs' rank minus one, or soft labels of the outputs' shape.
    Singleton spatial axes of the outputs are dropped first.

    Args:
        reduction: "mean" is sum(w l) / sum(w), "sum" is sum(w l); w is image weight times class
            weight, 0 where the index is ignored.
        weight: one weight a class.
        label_smoothing: in 0..1.
        ignore_index: positions with this index do not count.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
    """

    op = "softmax_cross_entropy"
    has_classes = True

    def __init__(
        self,
        reduction: str = "mean",
        weight: Any = None,
        label_smoothing: float = 0.0,
        ignore_index: int = -100,
    ) -> None:
        super().__init__(reduction)
        me = "SoftmaxCrossEntropy"
        self.attrs["label_smoothing"] = _check.number(me, "label_smoothing", label_smoothing, 0, 1)
        self.attrs["ignore_index"] = _check.integer(
            me, "ignore_index", ignore_index, -(2**31), 2**31 - 1
        )
        if weight is not None:
            values = np.asarray(weight)
            if values.dtype.kind not in "fiu":
                raise TypeError(f"[{me}] weight must be one number a class, got {weight!r}")
            if values.ndim != 1 or not (np.isfinite(values) & (values >= 0)).all():
                raise ValueError(f"[{me}] weight must be one non-negative number a class")
            values = values.astype(np.float64)
            self.attrs["weight"] = values.tolist()


class MSE(Loss):
    """Mean squared error (MPSCNNLossTypeMeanSquaredError). Targets match the outputs' shape.

    Args:
        reduction: "mean" over elements, weighted by image, or "sum".
    """

    op = "mse"

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction)
