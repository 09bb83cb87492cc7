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
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(f"[{owner}] {name} must be an integer or a pair, got {value!r}")
        return integer(owner, name, value[0], least), integer(owner, name, value[1], least)
    number = integer(owner, name, value, least)
    return number, number


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


def padding(owner: str, value: Any) -> dict[str, Any]:
    """The node attributes of "same", "valid", an integer or a pair."""
    if isinstance(value, str):
        return {"padding": one_of(owner, "padding", value, ("same", "valid"))}
    return {"pads": pair(owner, "padding", value, 0)}


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
