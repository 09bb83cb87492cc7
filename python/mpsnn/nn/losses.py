"""Losses: one number for a batch, one for each image, or each element's (MPSCNNLoss)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mpsnn import _check, ops
from mpsnn._core import ShapeError, UnsupportedError
from mpsnn._trace import Symbol, Tracer

REDUCTIONS = ("mean", "sum", "none")


class Loss:
    """Base of losses. Called on arrays or graph values: `loss(outputs, targets, weights=None)`.

    With l the loss of an element (of a position, for losses over channels) and w its weight, image
    times element times class weight and 0 where it is ignored, "mean" is sum(w l) / sum(w), 0 where
    all w are, "sum" is sum(w l), and "none" is every w l, which a TrainingGraph does not take: it
    wants one number. An l whose w is 0 does not count, even if it is not finite.

    Returns (of a call):
        The loss, a number or an array, and one loss an image, `(N,)`: the same formula over each,
        sums if the reduction is "none".
    """

    op = ""
    has_classes = False
    over_channels = False
    attrs: dict[str, Any]

    def __init__(self, reduction: str) -> None:
        me = type(self).__name__
        self.attrs = {"reduction": _check.one_of(me, "reduction", reduction, REDUCTIONS)}

    def target_symbol(self, tracer: Tracer, output: Symbol, name: str, soft: bool) -> Symbol:
        """The input that the targets of `output` are staged in."""
        shape = output.shape
        if not self.has_classes or soft:
            return tracer.symbol(name, shape, _master(tracer))
        ignore = self.attrs.get("ignore_index", -100)
        return tracer.symbol(
            name, self._positions(shape), "int32", classes=shape[-1], ignore_index=ignore
        )

    def weight_symbol(self, tracer: Tracer, output: Symbol, name: str) -> Symbol:
        """The input of image weights `(N,)`; ones when absent."""
        return tracer.symbol(name, output.shape[:1], _master(tracer), optional=True)

    def element_weight_symbol(
        self, tracer: Tracer, output: Symbol, name: str, shape: tuple[int, ...]
    ) -> Symbol:
        """The input of element or position weights `(N, *shape)`."""
        return tracer.symbol(name, (output.shape[0], *shape), _master(tracer))

    def _positions(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) < 2:
            raise ShapeError(f"[{type(self).__name__}] outputs need a class axis, got {shape}")
        return shape[0], *[s for s in shape[1:-1] if s != 1]

    def masked(self, targets: Any, weights: Any, counts: np.ndarray, soft: bool) -> tuple[Any, Any]:
        """Targets and element weights by which no other positions count.

        Args:
            targets: class indices or, where `soft` or of a loss without classes, values.
            weights: of elements or positions, or None.
            counts: which positions count, `(N, ..., steps)`; the others are past the lengths.
            soft: whether targets are labels of the outputs' shape.

        Raises:
            UnsupportedError: the loss is no sum over positions.
        """
        if self.op in ("given_loss", "yolo_loss"):
            raise UnsupportedError(f"[{self._name()}] lengths do not mask a loss of whole items; "
                                   "give it targets that do")  # fmt: skip
        if self.has_classes and not soft:
            given = np.asarray(targets)
            if given.size == counts.size:  # else it is refused where shapes are checked
                ignore = self.attrs.get("ignore_index", -100)
                targets = np.where(counts.reshape(given.shape), given, ignore)
            return targets, weights
        if weights is None:
            positions = [s for s in counts.shape[1:] if s != 1]
            return targets, counts.reshape(len(counts), *positions).astype(np.float32)
        given = np.asarray(weights)
        shape = given.shape if given.size == counts.size else (*given.shape[:-1], 1)
        if math.prod(shape) == counts.size:
            given = np.where(counts.reshape(shape), given, 0)
        return targets, given

    def _name(self) -> str:
        return type(self).__name__

    def apply(
        self, output: Any, target: Any, weight: Any = None, element_weight: Any = None
    ) -> list[Any]:
        """[loss, losses (N,)] as graph values."""
        return ops.apply(self.op, [output, target, weight, element_weight], self.attrs)

    def __call__(self, outputs: Any, targets: Any, weights: Any = None) -> Any:
        """The loss, and one loss an image. Weights are `(N,)`, or of elements or positions."""
        return ops.eager_loss(self, outputs, targets, weights)

    def gradient(self, outputs: Any, targets: Any, weights: Any = None, gy: Any = None) -> Any:
        """The gradient of the loss by arrays of outputs.

        Args:
            outputs, targets, weights: as in a call.
            gy: the gradient by the loss; ones by default.
        """
        return ops.loss_gradient(self, outputs, targets, weights, gy)


def _master(tracer: Tracer) -> str:
    return "float64" if tracer.graph.dtype == "float64" else "float32"


class FunctionLoss(Loss):
    """A loss made of `ops` and losses: `f(outputs, targets)` gives one value an image, `(N,)`.

    Targets have the outputs' shape. `reduction="mean"` weighs the values by image.
    """

    op = "given_loss"

    def __init__(self, function: Any) -> None:
        super().__init__("mean")
        self.function = function

    def _name(self) -> str:
        return getattr(self.function, "__name__", "loss")

    def apply(
        self, output: Any, target: Any, weight: Any = None, element_weight: Any = None
    ) -> list[Any]:
        """[loss (1,), losses (N,)] as graph values."""
        values = self.function(output, target)
        name = self._name()
        if element_weight is not None:
            raise ShapeError(f"[{name}] weights of a function's values are one an image, (N,)")
        if not isinstance(values, Symbol):
            raise TypeError(f"[{name}] a loss returns a value of the graph, got {values!r}")
        if len(values.shape) != 1:
            raise ShapeError(f"[{name}] a loss returns one value an image, got {values.shape}")
        return ops.apply(self.op, [values, weight], self.attrs)


def _class_weights(owner: str, weight: Any) -> dict[str, Any]:
    if weight is None:
        return {}
    values = np.asarray(weight)
    if values.dtype.kind not in "fiu":
        raise TypeError(f"[{owner}] weight must be one number a class, got {weight!r}")
    if values.ndim != 1 or not (np.isfinite(values) & (values >= 0)).all():
        raise ValueError(f"[{owner}] weight must be one non-negative number a class")
    return {"weight": values.astype(np.float64).tolist()}


def _ignored(owner: str, index: Any) -> dict[str, Any]:
    return {"ignore_index": _check.integer(owner, "ignore_index", index, -(2**31), 2**31 - 1)}


def _smoothing(owner: str, value: Any) -> dict[str, Any]:
    return {"label_smoothing": _check.number(owner, "label_smoothing", value, 0, 1)}


class SoftmaxCrossEntropy(Loss):
    """Cross-entropy of softmax(outputs) (MPSCNNLossTypeSoftMaxCrossEntropy, as PyTorch's).

    Targets: class indices of the outputs' rank minus one, or soft labels of the outputs' shape.
    Singleton spatial axes of the outputs are dropped first.

    Args:
        reduction: "mean", "sum" or "none", over positions: `Loss` has the formulas.
        weight: one weight a class.
        label_smoothing: s in 0..1, labels are (1 - s) t + s / C.
        ignore_index: positions with this index do not count.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
    """

    op = "softmax_cross_entropy"
    has_classes = True
    over_channels = True

    def __init__(
        self,
        reduction: str = "mean",
        weight: Any = None,
        label_smoothing: float = 0.0,
        ignore_index: int = -100,
    ) -> None:
        super().__init__(reduction)
        me = "SoftmaxCrossEntropy"
        self.attrs |= _smoothing(me, label_smoothing) | _ignored(me, ignore_index)
        self.attrs |= _class_weights(me, weight)


class _ElementLoss(Loss):
    op = "element_loss"
    kind = ""

    def __init__(self, reduction: str, weight: Any, **attrs: Any) -> None:
        super().__init__(reduction)
        self.attrs |= {"kind": self.kind, **attrs, **_class_weights(type(self).__name__, weight)}


class MAE(_ElementLoss):
    """|y - t| (MPSCNNLossTypeMeanAbsoluteError). Targets match the outputs' shape.

    The gradient at y = t is 0.

    Args:
        reduction: "mean", "sum" or "none", over elements: `Loss` has the formulas.
        weight: one weight a channel.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
    """

    kind = "mae"

    def __init__(self, reduction: str = "mean", weight: Any = None) -> None:
        super().__init__(reduction, weight)


class MSE(_ElementLoss):
    """(y - t)^2 (MPSCNNLossTypeMeanSquaredError). Targets match the outputs' shape.

    Args:
        reduction: "mean", "sum" or "none", over elements: `Loss` has the formulas.
        weight: one weight a channel.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
    """

    kind = "mse"

    def __init__(self, reduction: str = "mean", weight: Any = None) -> None:
        super().__init__(reduction, weight)


class Huber(_ElementLoss):
    """d^2 / 2 up to |d| = delta, from there delta (|d| - delta / 2), with d = y - t.

    (MPSCNNLossTypeHuber; Huber 1964.) Targets match the outputs' shape.

    Args:
        reduction: "mean", "sum" or "none", over elements: `Loss` has the formulas.
        delta: above 0.
        weight: one weight a channel.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
    """

    kind = "huber"

    def __init__(self, reduction: str = "mean", delta: float = 1.0, weight: Any = None) -> None:
        delta = _check.number("Huber", "delta", delta, 0, open_low=True)
        super().__init__(reduction, weight, a=delta)


class KLDivergence(_ElementLoss):
    """t (log t - y), where y are log-probabilities (MPSCNNLossTypeKullbackLeiblerDivergence).

    Targets are probabilities of the outputs' shape. "mean" is over elements, as in PyTorch.

    Args:
        reduction: "mean", "sum" or "none": `Loss` has the formulas.
        weight: one weight a channel.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
    """

    kind = "kl_divergence"

    def __init__(self, reduction: str = "mean", weight: Any = None) -> None:
        super().__init__(reduction, weight)


class SigmoidCrossEntropy(_ElementLoss):
    """-t log s - (1 - t) log(1 - s) with s = sigmoid(y), of each class by itself.

    (MPSCNNLossTypeSigmoidCrossEntropy; PyTorch's BCEWithLogitsLoss.) Targets: class indices of the
    outputs' rank minus one, or labels of the outputs' shape, any number of classes being true.

    Args:
        reduction: "mean", "sum" or "none", over elements: `Loss` has the formulas.
        weight: one weight a class.
        label_smoothing: s in 0..1, labels are (1 - s) t + s / 2.
        ignore_index: positions with this index do not count.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
    """

    kind = "sigmoid_cross_entropy"
    has_classes = True

    def __init__(
        self,
        reduction: str = "mean",
        weight: Any = None,
        label_smoothing: float = 0.0,
        ignore_index: int = -100,
    ) -> None:
        me = "SigmoidCrossEntropy"
        super().__init__(
            reduction, weight, **_smoothing(me, label_smoothing), **_ignored(me, ignore_index)
        )


class CategoricalCrossEntropy(_ElementLoss):
    """-t log y, where y are probabilities (MPSCNNLossTypeCategoricalCrossEntropy).

    Targets: class indices of the outputs' rank minus one, or soft labels of the outputs' shape. As
    in MPS, "mean" is over elements, not positions: a C-th of SoftmaxCrossEntropy's.

    Args:
        reduction: "mean", "sum" or "none": `Loss` has the formulas.
        weight: one weight a class.
        ignore_index: positions with this index do not count.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
    """

    kind = "categorical_cross_entropy"
    has_classes = True

    def __init__(
        self, reduction: str = "mean", weight: Any = None, ignore_index: int = -100
    ) -> None:
        super().__init__(reduction, weight, **_ignored("CategoricalCrossEntropy", ignore_index))


class Hinge(_ElementLoss):
    """max(1 - (2 t - 1) y, 0) with t 0 or 1 (MPSCNNLossTypeHinge).

    Targets: class indices of the outputs' rank minus one, or labels of the outputs' shape.

    Args:
        reduction: "mean", "sum" or "none", over elements: `Loss` has the formulas.
        weight: one weight a class.
        ignore_index: positions with this index do not count.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
    """

    kind = "hinge"
    has_classes = True

    def __init__(
        self, reduction: str = "mean", weight: Any = None, ignore_index: int = -100
    ) -> None:
        super().__init__(reduction, weight, **_ignored("Hinge", ignore_index))


class LogLoss(_ElementLoss):
    """-t log(y + epsilon) - (1 - t) log(1 - y + epsilon), y in 0..1 (MPSCNNLossTypeLog).

    Targets: class indices of the outputs' rank minus one, or labels of the outputs' shape.

    Args:
        reduction: "mean", "sum" or "none", over elements: `Loss` has the formulas.
        epsilon: above 0.
        weight: one weight a class.
        ignore_index: positions with this index do not count.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
    """

    kind = "log"
    has_classes = True

    def __init__(
        self,
        reduction: str = "mean",
        epsilon: float = 1e-7,
        weight: Any = None,
        ignore_index: int = -100,
    ) -> None:
        epsilon = _check.number("LogLoss", "epsilon", epsilon, 0, open_low=True)
        super().__init__(reduction, weight, a=epsilon, **_ignored("LogLoss", ignore_index))


class CosineDistance(Loss):
    """1 - sum(y t) over the channels of each position (MPSCNNLossTypeCosineDistance).

    Neither is normalised: give vectors of length 1. Targets match the outputs' shape. MPS knows the
    sum alone, and subtracts the sum over an image's positions from a single 1.

    Args:
        reduction: "mean", "sum" or "none", over positions: `Loss` has the formulas.

    Raises:
        ValueError: another reduction.
    """

    op = "cosine_distance"
    over_channels = True

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction)


class YOLO(Loss):
    """The loss of YOLO's second version (MPSCNNYOLOLoss; Redmon, Farhadi 2016), one an image.

    Outputs and targets are `(N, H, W, A * (5 + C))`, for each of A anchors x, y, w, h, confidence
    and C classes. In targets x and y are offsets in the cell, w and h counts of cells, and the
    confidence is 1 for every anchor of a cell that holds a box's centre, else 0.

    An anchor is an object if its target's confidence is 1 and its box and the target's, both
    centred, overlap most of the cell's anchors, or by more than
    `min_iou_for_object_presence`. It is background if it is none, and they overlap by less than
    `max_iou_for_object_absence`. With s = sigmoid and H Huber's loss, an image's loss is

        scale_xy * sum((s(x) - t)^2) / objects + scale_wh * sum(H(w - log(t / anchor + 1e-5))) /
        objects + scale_class * sum(softmax cross-entropy) / objects, of objects, and
        sum(scale_object * sigmoid cross-entropy of objects, scale_no_object * of background) /
        (H * W).

    An object's wanted confidence is the overlap of the predicted box (s(x), s(y), exp(w) anchor,
    exp(h) anchor) with the target's, a constant for the gradient, or 1 without `rescore`.

    Args:
        anchors: width and height of each, in cells, `(A, 2)`.
        reduction: "mean" is sum(w l) / sum(w) of images, "sum" is sum(w l), "none" every w l.
        rescore: whether an object's wanted confidence is the overlap.
        scale_xy, scale_wh, scale_no_object, scale_object, scale_class: MPS's own by default.
        min_iou_for_object_presence, max_iou_for_object_absence: in 0..1.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong type.
        ShapeError: the outputs have no 5 channels or more for each anchor.
    """

    op = "yolo_loss"

    def __init__(
        self,
        anchors: Any,
        reduction: str = "mean",
        *,
        rescore: bool = True,
        scale_xy: float = 10.0,
        scale_wh: float = 10.0,
        scale_no_object: float = 5.0,
        scale_object: float = 100.0,
        scale_class: float = 2.0,
        min_iou_for_object_presence: float = 0.7,
        max_iou_for_object_absence: float = 0.3,
    ) -> None:
        super().__init__(reduction)
        try:
            sizes = np.asarray(anchors, np.float64)
        except (TypeError, ValueError):
            raise TypeError(f"[YOLO] anchors must be numbers, got {anchors!r}") from None
        if sizes.ndim != 2 or sizes.shape[1] != 2 or not len(sizes):
            raise ValueError(f"[YOLO] anchors must be pairs (A, 2), got {sizes.shape}")
        if not (np.isfinite(sizes) & (sizes > 0)).all():
            raise ValueError("[YOLO] anchors must have positive sizes")
        scales = {"scale_xy": scale_xy, "scale_wh": scale_wh, "scale_no_object": scale_no_object,
                  "scale_object": scale_object, "scale_class": scale_class}  # fmt: skip
        self.attrs |= {
            "anchors": sizes.reshape(-1).tolist(),
            "rescore": _check.flag("YOLO", "rescore", rescore),
            **{name: _check.number("YOLO", name, value, 0) for name, value in scales.items()},
            "presence": _check.number(
                "YOLO", "min_iou_for_object_presence", min_iou_for_object_presence, 0, 1
            ),
            "absence": _check.number(
                "YOLO", "max_iou_for_object_absence", max_iou_for_object_absence, 0, 1
            ),
        }

    def apply(
        self, output: Any, target: Any, weight: Any = None, element_weight: Any = None
    ) -> list[Any]:
        """[loss, losses (N,)] as graph values."""
        if element_weight is not None:
            raise ShapeError("[YOLO] weights are one an image, (N,)")
        return ops.apply(self.op, [output, target, weight], self.attrs)
