"""Argument checks that name the layer and the argument."""

from __future__ import annotations

import math
import operator
import os
from typing import Any

import numpy as np

from mpsnn._core import DTypeError


def integer(owner: str, name: str, value: Any, least: int = 1, most: int = 2**63 - 1) -> int:
    """`value` as an int in `least..most`."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"[{owner}] {name} must be an integer, got {value!r}") from None
    if number < least:
        raise ValueError(f"[{owner}] {name} must be at least {least}, got {number}")
    if number > most:
        raise ValueError(f"[{owner}] {name} must be at most {most}, got {number}")
    return number


def sizes(owner: str, name: str, value: Any, axes: int, least: int = 1) -> tuple[int, ...]:
    """One integer for each of `axes`: an integer for all, or so many of them."""
    if isinstance(value, (tuple, list)):
        if len(value) != axes:
            raise ValueError(f"[{owner}] {name} must be {_one_or_each(axes)}, got {value!r}")
        return tuple(integer(owner, name, v, least) for v in value)
    return (integer(owner, name, value, least),) * axes


def integers(owner: str, name: str, value: Any) -> tuple[int, ...]:
    """An integer, or a sequence of them, of any sign."""
    values = value if isinstance(value, (tuple, list)) else (value,)
    return tuple(integer(owner, name, v, -(2**62), 2**62) for v in values)


def rank(owner: str, what: str, value: Any, axes: int) -> None:
    """`value`, an array or a value of a graph, must have so many axes."""
    from mpsnn._core import ShapeError

    shape = tuple(getattr(value, "shape", ()))
    if len(shape) != axes:
        raise ShapeError(f"[{owner}] {what} must have {axes} axes, got {shape}")


def pair(owner: str, name: str, value: Any, least: int = 1) -> tuple[int, int]:
    """An integer, or a pair of them, as a (height, width) pair."""
    height, width = sizes(owner, name, value, 2, least)
    return height, width


def _one_or_each(axes: int) -> str:
    return "an integer or a pair" if axes == 2 else "an integer"


def number(
    owner: str,
    name: str,
    value: Any,
    least: float = -math.inf,
    most: float = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> float:
    """`value` as a finite float in a range."""
    if isinstance(value, (bool, str)):
        raise TypeError(f"[{owner}] {name} must be a number, got {value!r}")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    except (TypeError, ValueError):
        raise TypeError(f"[{owner}] {name} must be a number, got {value!r}") from None
    low = found > least if open_low else found >= least
    high = found < most if open_high else found <= most
    if not (low and high and math.isfinite(found)):
        left, right = "(" if open_low else "[", ")" if open_high else "]"
        raise ValueError(f"[{owner}] {name} must be in {left}{least}, {most}{right}, got {found}")
    return found


def one_of(owner: str, name: str, value: Any, choices: tuple[str, ...]) -> str:
    """`value`, which must be one of the texts."""
    if not isinstance(value, str) or value not in choices:
        listed = ", ".join(map(repr, choices))
        raise ValueError(f"[{owner}] {name} must be one of {listed}, got {value!r}")
    return str(value)


def flag(owner: str, name: str, value: Any) -> bool:
    """`value`, which must be True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"[{owner}] {name} must be True or False, got {value!r}")
    return value


def sides(owner: str, name: str, value: Any, axes: int, least: int = 0) -> tuple[int, ...]:
    """(top, left, bottom, right) of an integer, or one an axis, each an integer or (before, after).

    Sequences have no top and bottom.
    """
    if not isinstance(value, (tuple, list)):
        value = (value,) * axes
    if len(value) != axes:
        raise ValueError(f"[{owner}] {name} must be {_one_or_each(axes)}, got {value!r}")
    each = [(0, 0)] * (2 - axes) + [pair(owner, name, v, least) for v in value]
    return (*(before for before, _ in each), *(after for _, after in each))


def padding(owner: str, value: Any, axes: int = 2) -> dict[str, Any]:
    """The node attributes of "same", "valid", or what `sides` takes."""
    if isinstance(value, str):
        return {"padding": one_of(owner, "padding", value, ("same", "valid"))}
    return {"pads": sides(owner, "padding", value, axes)}


def output_padding(owner: str, value: Any, stride: tuple[int, ...], padding: Any) -> dict[str, Any]:
    """The node attribute of a transposed convolution, smaller than its stride."""
    more = sizes(owner, "output_padding", value, len(stride), 0)
    if any(m >= s for m, s in zip(more, stride, strict=True)):
        raise ValueError(
            f"[{owner}] output_padding must be smaller than stride {stride}, got {more}"
        )
    if padding == "same" and any(more):
        raise ValueError(f'[{owner}] padding "same" decides output_padding, got {more}')
    return {"output_padding": more}


def window(
    owner: str, kernel_size: Any, stride: Any, padding_: Any, ceil_mode: Any, axes: int = 2
) -> dict[str, Any]:
    """The node attributes of a pooling."""
    kernel = sizes(owner, "kernel_size", kernel_size, axes)
    attrs = {
        "kernel": kernel,
        "stride": kernel if stride is None else sizes(owner, "stride", stride, axes),
        "ceil_mode": flag(owner, "ceil_mode", ceil_mode),
        **padding(owner, padding_, axes),
    }
    pads = attrs.get("pads", (0, 0, 0, 0))
    if any(2 * p > k for p, k in zip(pads, ((1,) * (2 - axes) + kernel) * 2, strict=True)):
        raise ValueError(f"[{owner}] padding must be at most half of the kernel, got {padding_!r}")
    return attrs


def resampling(owner: str, mode: Any, align_corners: Any) -> dict[str, Any]:
    """The node attributes of a resize besides its size."""
    chosen = one_of(owner, "mode", mode, ("nearest", "bilinear"))
    if flag(owner, "align_corners", align_corners) and chosen == "nearest":
        raise ValueError(f'[{owner}] align_corners is of mode "bilinear"')
    return {"mode": chosen, "align_corners": align_corners}


def edges(owner: str, padding_: Any, mode: Any, value: Any, axes: int = 2) -> dict[str, Any]:
    """The node attributes of padding around an image; negative amounts crop."""
    chosen = one_of(owner, "mode", mode, ("zero", "constant", "reflect", "edge"))
    fill = number(owner, "value", value)
    if fill != 0 and chosen != "constant":
        raise ValueError(f'[{owner}] value is of mode "constant", got {fill} with {chosen!r}')
    most = 2**30
    amounts = sides(owner, "padding", padding_, axes, -most)
    return {
        "sides": tuple(integer(owner, "padding", a, -most, most) for a in amounts),
        "mode": "constant" if chosen == "zero" else chosen,
        "value": fill,
    }


def text(owner: str, name: str, value: Any) -> str:
    """`value`, which must be a str that UTF-8 can say."""
    if not isinstance(value, str):
        raise TypeError(f"[{owner}] {name} must be a text, got {value!r}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"[{owner}] {name} is no text in UTF-8: {value!r}") from None
    return value


def path(owner: str, value: Any) -> str:
    """`value` as the path of a file."""
    try:
        found = os.fsdecode(value)
    except TypeError:
        raise TypeError(f"[{owner}] expected the path of a file, got {value!r}") from None
    return text(owner, "the path", found)


def numbers(owner: str, name: str, value: Any) -> Any:
    """`value` as an array of real numbers; a Tensor or what else has DLPack stays as it is."""
    if hasattr(value, "__dlpack__") and not isinstance(value, np.ndarray):
        return value
    try:
        array = np.asarray(value)
    except ValueError:
        raise DTypeError(f"[{owner}] {name} must be an array of numbers, got {value!r}") from None
    if array.dtype.kind not in "fiub":
        raise DTypeError(f"[{owner}] {name} must be an array of numbers, got dtype {array.dtype}")
    return array
