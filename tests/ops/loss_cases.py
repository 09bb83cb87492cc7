"""The op case table's losses, added to the rows of cases.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from cases import CASES, T, case

__all__ = ["CASES"]


def reduced(losses: T, w: T, by_class: T | float, reduction: str) -> T:
    """Losses with their class weights in them; w: image times unit weights."""
    total = losses * w
    if reduction == "none":
        return total
    return total.sum() if reduction == "sum" else total.sum() / (w * by_class).sum()


def unit_weights(losses: T, image: T | None, unit: T | None) -> T:
    """Of the losses' shape; `unit` has it or lacks the last axis."""
    w = torch.ones_like(losses)
    if image is not None:
        w = w * image.reshape(-1, *[1] * (losses.ndim - 1))
    if unit is not None:
        w = w * (unit.reshape(losses.shape) if unit.numel() == losses.numel() else unit[..., None])
    return w


def ce_oracle(attrs: dict[str, Any], classes: int) -> Callable[..., T]:
    smoothing = attrs.get("label_smoothing", 0.0)
    ignore = attrs.get("ignore_index", -100)

    def compute(x: T, target: T, image: T | None = None, unit: T | None = None) -> T:
        weight = torch.tensor(attrs["weight"], dtype=x.dtype) if attrs.get("weight") else None
        n = x.shape[0]
        z = x.reshape(n, -1, classes).transpose(1, 2)
        by_class: T | float = 1.0
        if target.is_floating_point():
            t = target.reshape(n, -1, classes).transpose(1, 2)
        else:
            t = target.reshape(n, -1)
            by_class = (t != ignore).to(x.dtype)
            if weight is not None:
                by_class = by_class * weight[t.clamp(min=0)]
        # cross_entropy puts the class weight into each loss; the others are ours.
        losses = F.cross_entropy(
            z,
            t,
            weight=weight,
            label_smoothing=smoothing,
            ignore_index=ignore,
            reduction="none",
        )
        y = reduced(losses, unit_weights(losses, image, unit), by_class,
                    attrs.get("reduction", "mean"))  # fmt: skip
        return y.reshape(squeezed(x.shape)) if attrs.get("reduction") == "none" else y

    return compute


def squeezed(shape: Any) -> tuple[int, ...]:
    """Positions of images (N, ..., C), axes of one left out."""
    return (shape[0], *[s for s in shape[1:-1] if s != 1])


# Name, shape, soft labels, weights of images ("w"), of positions ("u").
for name, shape, soft, weighted, attrs in (
    ("rows", (8, 10), False, "", {}),
    ("one-class-row", (3, 2), False, "w", {}),
    ("images", (2, 3, 4, 6), False, "", {}),
    ("singleton", (4, 1, 1, 5), False, "w", {}),
    ("sum", (6, 10), False, "w", {"reduction": "sum"}),
    ("smooth", (8, 10), False, "", {"label_smoothing": 0.1}),
    ("class-weights", (8, 4), False, "w", {"weight": [0.5, 1.0, 2.0, 0.25]}),
    ("smooth-weights", (8, 4), False, "w", {"label_smoothing": 0.2, "weight": [0.5, 1.0, 2.0,
    0.2]}),
    ("ignore", (8, 10), False, "w", {"ignore_index": 3}),
    ("ignore-all-options", (2, 6, 4), False, "w",
     {"ignore_index": 1, "weight": [1.0, 2.0, 3.0, 0.5], "label_smoothing": 0.1}),
    ("soft", (8, 10), True, "w", {}),
    ("soft-smooth-weights", (8, 4), True, "w",
     {"label_smoothing": 0.1, "weight": [0.5, 1.0, 2.0, 0.2]}),
    ("soft-sum", (2, 5, 4), True, "", {"reduction": "sum"}),
    ("positions", (3, 4, 5, 6), False, "u", {}),
    ("positions-images", (3, 7, 4), False, "wu",
     {"ignore_index": 1, "weight": [1.0, 2.0, 3.0, 0.5]}),
    ("soft-positions", (3, 4, 5, 6), True, "wu", {"reduction": "sum"}),
    ("none", (3, 4, 5, 6), False, "wu", {"reduction": "none", "label_smoothing": 0.1}),
    ("none-ignore", (7, 4), False, "w", {"reduction": "none", "ignore_index": 2}),
    ("none-soft", (5, 1, 6), True, "", {"reduction": "none"}),
):  # fmt: skip
    classes = shape[-1]
    positions = squeezed(shape)
    ops: list[Any] = [("x", shape), ("t", shape) if soft else ("i", positions)]
    ops += [("w", (shape[0],) if kind == "w" else positions) for kind in weighted]
    if weighted == "u":
        ops.insert(2, None)
    case(
        f"softmax_cross_entropy-{name}",
        "softmax_cross_entropy",
        ops,
        ce_oracle(attrs, classes),
        attrs=attrs,
        classes=classes,
    )


def element_formula(kind: str, a: float) -> Callable[[T, T], T]:
    return {
        "mae": lambda y, t: (y - t).abs(),
        "mse": lambda y, t: (y - t) ** 2,
        "sigmoid_cross_entropy": lambda y, t: F.binary_cross_entropy_with_logits(
            y, t, reduction="none"
        ),
        "categorical_cross_entropy": lambda y, t: -t * torch.log(y),
        "hinge": lambda y, t: (1 - (2 * t - 1) * y).clamp(min=0),
        "huber": lambda y, t: F.huber_loss(y, t, reduction="none", delta=a),
        "log": lambda y, t: -t * torch.log(y + a) - (1 - t) * torch.log(1 - y + a),
        "kl_divergence": lambda y, t: F.kl_div(y, t, reduction="none"),
    }[kind]


def element_oracle(attrs: dict[str, Any], classes: int) -> Callable[..., T]:
    formula = element_formula(attrs["kind"], attrs.get("a", 0.0))
    smoothing = attrs.get("label_smoothing", 0.0)

    def compute(x: T, target: T, image: T | None = None, unit: T | None = None) -> T:
        by_class = torch.ones_like(x)
        if attrs.get("weight"):
            by_class = by_class * torch.tensor(attrs["weight"], dtype=x.dtype)
        if not target.is_floating_point():
            indices = target.reshape(x.shape[:-1])
            by_class = by_class * (indices != attrs.get("ignore_index", -100))[..., None]
            target = F.one_hot(indices, classes).to(x.dtype)
        target = target * (1 - smoothing) + 0.5 * smoothing
        losses = formula(x, target) * by_class
        return reduced(losses, unit_weights(losses, image, unit), by_class,
                       attrs.get("reduction", "mean"))  # fmt: skip

    return compute


# Kind, shape, kind of the prediction and of the target ("i": indices), weights, attributes.
ELEMENT_LOSSES: list[tuple[str, str, tuple[int, ...], str, str, str, dict[str, Any]]] = [
    ("mae", "rows", (6, 3), "x", "t", "", {}),
    ("mae", "images", (2, 4, 5, 3), "x", "t", "w", {"reduction": "sum"}),
    ("mse", "rows", (6, 3), "x", "t", "", {}),
    ("mse", "images", (2, 4, 5, 3), "x", "t", "w", {}),
    ("mse", "sum", (5, 7), "x", "t", "w", {"reduction": "sum"}),
    ("mse", "elements", (2, 4, 5, 3), "x", "t", "we", {}),
    ("mse", "positions", (2, 4, 5, 3), "x", "t", "p", {"weight": [1.0, 0.0, 2.0]}),
    ("mse", "none", (2, 4, 5, 3), "x", "t", "wp", {"reduction": "none"}),
    ("mse", "large", (2, 40, 41, 13), "x", "t", "w", {}),
    ("mse", "numbers", (9,), "x", "t", "w", {}),
    ("sigmoid_cross_entropy", "rows", (6, 3), "x", "z", "", {}),
    ("sigmoid_cross_entropy", "smooth", (6, 3), "x", "z", "w", {"label_smoothing": 0.2}),
    ("sigmoid_cross_entropy", "indices", (2, 4, 5, 3), "x", "i", "w",
     {"ignore_index": 1, "weight": [1.0, 2.0, 0.5]}),
    ("sigmoid_cross_entropy", "indices-smooth", (7, 4), "x", "i", "",
     {"label_smoothing": 0.1, "reduction": "sum"}),
    ("sigmoid_cross_entropy", "none", (7, 4), "x", "z", "e", {"reduction": "none"}),
    ("sigmoid_cross_entropy", "large", (3, 30, 31, 9), "x", "z", "p", {}),
    ("categorical_cross_entropy", "soft", (6, 4), "u", "z", "", {}),
    ("categorical_cross_entropy", "indices", (6, 1, 1, 4), "u", "i", "w", {"ignore_index": 2}),
    ("categorical_cross_entropy", "none", (2, 5, 4), "u", "i", "", {"reduction": "none"}),
    ("hinge", "rows", (6, 5), "x", "b", "", {}),
    ("hinge", "indices", (2, 3, 5), "x", "i", "p", {"weight": [1.0, 2.0, 0.5, 1.0, 3.0]}),
    ("huber", "rows", (6, 5), "x", "t", "", {"a": 1.0}),
    ("huber", "images", (2, 3, 4, 5), "x", "t", "we", {"a": 0.3, "reduction": "sum"}),
    ("huber", "none", (6, 5), "x", "t", "", {"a": 2.0, "reduction": "none"}),
    ("log", "rows", (6, 5), "u", "z", "", {"a": 1e-7}),
    ("log", "rows", (6, 5), "u", "z", "", {"a": 0.02}),
    ("log", "indices", (6, 5), "u", "i", "w", {"a": 0.01, "ignore_index": 0}),
    ("kl_divergence", "rows", (6, 5), "x", "z", "", {}),
    ("kl_divergence", "sum", (2, 3, 5), "x", "z", "wp", {"reduction": "sum"}),
]  # fmt: skip
for kind, name, shape, x_kind, t_kind, weighted, attrs in ELEMENT_LOSSES:
    shapes = {"w": shape[:1], "e": shape, "p": shape[:-1]}
    target_shape = squeezed(shape) if t_kind == "i" else shape
    ops = [(x_kind, shape), (t_kind, target_shape), *[("w", shapes[k]) for k in weighted]]
    if weighted in ("e", "p"):
        ops.insert(2, None)
    case(
        f"{kind}-{name}",
        "element_loss",
        ops,
        element_oracle({"kind": kind, **attrs}, shape[-1]),
        attrs={"kind": kind, **attrs},
        classes=shape[-1],
        long_sum=name == "large",
    )


def cosine_oracle(reduction: str) -> Callable[..., T]:
    def compute(x: T, target: T, image: T | None = None, unit: T | None = None) -> T:
        losses = 1 - (x * target).sum(-1).reshape(squeezed(x.shape))
        return reduced(losses, unit_weights(losses, image, unit), 1.0, reduction)

    return compute


for name, shape, weighted, reduction in (
    ("rows", (6, 5), "", "mean"),
    ("images", (2, 3, 4, 5), "wu", "mean"),
    ("sum", (4, 1, 1, 5), "w", "sum"),
    ("none", (3, 4, 5), "wu", "none"),
    ("many", (2, 5, 7, 37), "wu", "mean"),
):
    ops = [("x", shape), ("t", shape)]
    ops += [("w", (shape[0],) if kind == "w" else squeezed(shape)) for kind in weighted]
    case(
        f"cosine_distance-{name}",
        "cosine_distance",
        ops,
        cosine_oracle(reduction),
        attrs={"reduction": reduction},
    )


def yolo_oracle(attrs: dict[str, Any]) -> Callable[..., T]:
    """Written from the formula of nn.YOLO, anchor by anchor of a whole batch at once."""
    anchors = torch.tensor(attrs["anchors"], dtype=torch.float64).reshape(-1, 2)

    def iou(a: T, b: T, apart: T | None = None) -> T:
        """Of boxes of sizes a and b whose centres lie `apart`."""
        off = torch.zeros_like(a) if apart is None else apart
        low, high = torch.maximum(-a / 2, off - b / 2), torch.minimum(a / 2, off + b / 2)
        both = (high - low).clamp(min=0).prod(-1)
        return both / (a.prod(-1) + b.prod(-1) - both)

    def compute(x: T, target: T, image: T | None = None) -> T:
        n, h, w, _ = x.shape
        y, t = x.reshape(n, h, w, len(anchors), -1), target.reshape(n, h, w, len(anchors), -1)
        fit = iou(anchors.expand(t[..., 2:4].shape), t[..., 2:4])
        most = fit == fit.max(-1, keepdim=True).values
        objects = (t[..., 4] > 0.5) & (most | (fit > attrs.get("presence", 0.7)))
        background = ~objects & (fit < attrs.get("absence", 0.3))
        centre = torch.sigmoid(y[..., :2])
        wanted = iou(torch.exp(y[..., 2:4]) * anchors, t[..., 2:4], t[..., :2] - centre).detach()
        wanted = objects * (wanted if attrs.get("rescore", True) else torch.ones_like(wanted))
        size = torch.log(t[..., 2:4] / anchors + 1e-5)
        place = attrs.get("scale_xy", 10.0) * ((centre - t[..., :2]) ** 2).sum(-1)
        place = place + attrs.get("scale_wh", 10.0) * F.huber_loss(
            y[..., 2:4], size, reduction="none"
        ).sum(-1)
        named = (-t[..., 5:] * torch.log_softmax(y[..., 5:], -1)).sum(-1)
        place = place + attrs.get("scale_class", 2.0) * named
        belief = F.binary_cross_entropy_with_logits(y[..., 4], wanted, reduction="none")
        scale = objects * attrs.get("scale_object", 100.0) + background * attrs.get(
            "scale_no_object", 5.0
        )
        count = objects.sum((1, 2, 3)).clamp(min=1)
        losses = (place * objects).sum((1, 2, 3)) / count + (belief * scale).sum((1, 2, 3)) / (
            h * w
        )
        return reduced(losses, unit_weights(losses, image, None), 1.0,
                       attrs.get("reduction", "mean"))  # fmt: skip

    return compute


YOLO_ANCHORS = [1.0, 2.0, 1.5, 1.0, 3.0, 3.5]
for name, shape, weighted, attrs in (
    ("mean", (3, 4, 5, 24), False, {"anchors": YOLO_ANCHORS}),
    ("sum", (3, 4, 5, 24), True, {"anchors": YOLO_ANCHORS, "reduction": "sum", "rescore": False}),
    ("none", (2, 3, 3, 7), True, {"anchors": [1.0, 2.0], "reduction": "none"}),
    ("scales", (2, 5, 4, 15), True,
     {"anchors": YOLO_ANCHORS, "scale_xy": 1.0, "scale_wh": 2.0, "scale_no_object": 0.5,
      "scale_object": 3.0, "scale_class": 1.5, "presence": 0.5, "absence": 0.2}),
):  # fmt: skip
    ops = [("x", shape), ("yolo", shape)]
    if weighted:
        ops.append(("w", shape[:1]))
    case(f"yolo_loss-{name}", "yolo_loss", ops, yolo_oracle(attrs), attrs=attrs,
         differences=not attrs.get("rescore", True))  # fmt: skip

for reduction in ("mean", "sum"):
    case(
        f"given_loss-{reduction}",
        "given_loss",
        [("x", (6,)), ("w", (6,))],
        (lambda mean: lambda x, w: (x * w).sum() / (w.sum() if mean else 1))(reduction == "mean"),
        attrs={"reduction": reduction},
    )
case(
    "total_loss",
    "total_loss",
    [("w", (1,)), ("w", (1,))],
    lambda a, b: (2 * a + 0.25 * b).sum(),
    attrs={"weights": [2.0, 0.25]},
)
