"""Arguments that are no points: numbers, counts, times, seeds, functions. Each is told by its name.

`TypeError` where a value is of another kind, `ValueError` where it is out of range.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable
from typing import TypeAlias, TypeVar

import numpy as np

from dln_manifolds.errors import InvalidPointError
from dln_manifolds.numerics.arrays import Array

__all__ = [
    "Seed",
    "choice",
    "function",
    "generator",
    "one_of",
    "real",
    "times_of",
    "whole",
    "whole_sizes",
]

#: A generator of NumPy, what makes one, or None for that of the host.
Seed: TypeAlias = np.random.Generator | int | None

Function = TypeVar("Function", bound=Callable[..., object])

_RANGES: dict[str, Callable[[float], bool]] = {
    "a real number": lambda value: True,
    "positive": lambda value: value > 0,
    "positive and finite": lambda value: 0 < value < math.inf,
    "finite and not negative": lambda value: 0 <= value < math.inf,
}


def whole(name: str, value: object, least: int = 1, most: float = math.inf) -> int:
    """Return an integer, at least 1 unless said otherwise."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an integer, not {value!r}.")
    number = int(value)
    if number < least:
        raise ValueError(f"{name} must be at least {least}, not {value}.")
    if number > most:
        raise ValueError(f"{name} must be at most {most:.0f}, not {value}.")
    return number


def whole_sizes(name: str, value: object, least: int) -> tuple[int, ...]:
    """Return a tuple of positive integers, at least so many."""
    single = isinstance(value, np.ndarray) and not value.ndim
    if isinstance(value, str | bytes) or not isinstance(value, Iterable) or single:
        raise TypeError(f"{name} must be integers in a tuple, not {value!r}.")
    sizes = tuple(whole(f"{name}[{k}]", size) for k, size in enumerate(value))
    if len(sizes) < least:
        raise ValueError(f"{name} needs at least {least} integers, not {value!r}.")
    return sizes


def real(name: str, value: object, wanted: str = "a real number") -> float:
    """Return a real number that is as wanted, one of `_RANGES`; arrays and tensors may hold it."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a real number, not {value!r}.")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf if value > 0 else -math.inf  # type: ignore[operator]
    if not _RANGES[wanted](number):
        raise ValueError(f"{name} must be {wanted}, not {value}.")
    return number


def times_of(value: object, name: str = "t", least: int = 1) -> Array:
    """Return times, one or a list of ``least`` or more, as a float64 array of no or one axis."""
    try:
        times = np.asarray(value)
        times = times.astype(np.float64) if times.dtype.kind in "iufO" else np.empty((0, 0))
    except (TypeError, ValueError, RuntimeError):
        times = np.empty((0, 0))
    if times.ndim > 1 or times.size < least:
        raise InvalidPointError(f"{name} must be a finite number or a list of such, not {value!r}.")
    if not np.isfinite(times).all():
        raise InvalidPointError(
            f"{name} must be a finite number or a list of such, not {times.tolist()}."
        )
    return times


def generator(rng: object) -> np.random.Generator:
    """Return the generator that NumPy makes of a seed."""
    try:
        return np.random.default_rng(rng)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"rng must be a generator of NumPy, a seed (an integer >= 0) or None, not {rng!r}."
        ) from error


def function(name: str, value: Function, of: str = "X") -> Function:
    """Return a function, or refuse what cannot be called."""
    if not callable(value):
        raise TypeError(f"{name} must be a function of {of}, not {value!r}.")
    return value


def choice(name: str, value: object, choices: tuple[str, ...]) -> str:
    """Return one of several words."""
    if not isinstance(value, str) or value not in choices:
        said = ", ".join(map(repr, choices[:-1])) + f" or {choices[-1]!r}"
        raise ValueError(f"{name} must be {said}, not {value!r}.")
    return value


def one_of(**alternatives: object) -> None:
    """Raise `ValueError` unless exactly one of several arguments is given."""
    if sum(value is not None for value in alternatives.values()) != 1:
        raise ValueError(f"Give either {' or '.join(alternatives)}, and not both.")
