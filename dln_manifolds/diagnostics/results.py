"""What a check returns, and how it judges slopes and residuals."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from dln_manifolds.numerics.arguments import Seed, generator, real, times_of
from dln_manifolds.numerics.arrays import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Steps at which errors are measured, as multiples of the tangent vector.
STEPS: Array = np.logspace(-9, -1, 49)
# Errors this far above round-off are used, this many neighbouring ones at a time: over a decade.
_CLEAR = 30.0
_WINDOW = 7
# Steps up to this one show nothing but round-off where the expected slope is 2 or more.
_QUIET = 1e-8
_SLOPE_MARGIN = 0.1

Check = TypeVar("Check", bound=Callable[..., object])

_COMMON = """

Points and vectors are random ones of the manifold where none are given, by ``rng``, a generator of
NumPy or a seed, or else by numpy's global state, as pymanopt's manifolds draw. The result, a
`CheckResult` that is true if the check passed, allows relative residuals up to the ``tolerance``.
"""


def explained(check: Check) -> Check:
    """Append to a check's docstring what all have in common, and let it draw by its ``rng``."""

    @wraps(check)
    def drawing(*given: object, rng: Seed = None, **named: object) -> object:
        if rng is None:
            return check(*given, **named)
        # Manifolds draw from numpy's global state, which is lent a seed.
        state = np.random.get_state()
        np.random.seed(generator(rng).integers(2**32))
        try:
            return check(*given, **named)
        finally:
            np.random.set_state(state)

    drawing.__doc__ = inspect.cleandoc(check.__doc__ or "") + _COMMON
    return drawing  # type: ignore[return-value]


@dataclass(frozen=True)
class CheckResult:
    """Outcome of a check; true if it passed.

    It holds what was checked (``name``), whether the slope is steep enough and every residual small
    enough (``ok``), and what was found and what to do about it (``message``). The slope of
    log(error) over log(step) is infinite where the errors are round-off, and ``expected_slope`` is
    the smallest that theory allows; both are NaN, and ``steps`` and ``errors``, shape
    ``(n_steps,)``, empty, for checks without one. ``residuals`` are relative ones, of exact
    identities. Of a transport, ``isometric`` says whether it preserved norms, up to the tolerance;
    ``residuals["isometric"]`` is the relative change.
    """

    name: str
    ok: bool
    message: str
    slope: float = float("nan")
    expected_slope: float = float("nan")
    residuals: dict[str, float] = field(default_factory=dict)
    steps: Array = field(default_factory=lambda: np.empty(0), repr=False)
    errors: Array = field(default_factory=lambda: np.empty(0), repr=False)
    isometric: bool | None = None

    def __bool__(self) -> bool:
        """Whether the check passed."""
        return self.ok

    def plot(self, ax: Axes) -> Axes:
        """Draw errors over steps into matplotlib axes, beside the expected slope; return them."""
        visible = self.errors > 0
        ax.loglog(self.steps[visible], self.errors[visible], ".-", label="error")
        if visible.any():
            last_step, last_error = self.steps[visible][-1], self.errors[visible][-1]
            ideal = last_error * (self.steps / last_step) ** self.expected_slope
            shown = ideal >= 0.1 * self.errors[visible].min()
            label = f"slope {self.expected_slope:g}"
            ax.loglog(self.steps[shown], ideal[shown], "--", color="0.5", label=label)
            ax.legend()
        measured = "round-off only" if np.isinf(self.slope) else f"slope {self.slope:.2f}"
        ax.set(title=f"{self.name}: {measured}", xlabel="step", ylabel="error")
        return ax


def fit_slope(steps: Array, errors: Array, rounding: float = 0.0) -> float:
    """Slope of log(error) over log(step) at the smallest steps where round-off does not count.

    Takes increasing steps and the errors there, ``shape=[n_steps,]``, and the least size of
    round-off; what the errors at the very smallest steps show counts too. Infinite if no errors
    stand clear of round-off, NaN if an error is NaN.
    """
    steps, errors = times_of(steps, "steps"), np.asarray(errors, dtype=float)
    if errors.shape != steps.shape or not steps.ndim:
        raise ValueError(f"errors has shape {errors.shape}; one for each of steps is needed.")
    if not np.isfinite(errors).all():
        return float("nan")
    floor = _CLEAR * max(rounding, np.max(errors[steps <= _QUIET], initial=0.0))
    clear = errors > max(floor, np.finfo(float).tiny)
    for first in range(len(steps) - _WINDOW + 1):
        part = slice(first, first + _WINDOW)
        if clear[part].all():
            return float(np.polyfit(np.log(steps[part]), np.log(errors[part]), 1)[0])
    return float("inf")


def conclude(
    name: str,
    expected: float,
    errors: Array,
    size: float,
    residuals: dict[str, float],
    tolerance: float,
    advice: str,
) -> CheckResult:
    """Judge residuals and a slope, of errors of values of some size; NaN if none is expected."""
    tolerance = real("tolerance", tolerance, "finite and not negative")
    residuals = {key: float(value) for key, value in residuals.items()}
    # NaN is no success.
    failed = [key for key, value in residuals.items() if not value <= tolerance]
    slope, reading, steps = float("nan"), "", np.empty(0)
    if not np.isnan(expected):
        slope, steps = fit_slope(STEPS, errors, np.finfo(float).eps * size), STEPS
        if not slope >= expected - _SLOPE_MARGIN:
            failed.insert(0, "the slope")
        reading = "errors are round-off" if np.isinf(slope) else f"slope {slope:.3f}"
        reading += f", at least {expected:g} expected. "
    listed = ", ".join(f"{key}: {value:.1e}" for key, value in residuals.items())
    verdict = "Passed." if not failed else f"FAILED ({'; '.join(failed)}): {advice}."
    message = f"{name}: {reading}{'Residuals ' + listed + '. ' if listed else ''}{verdict}"
    return CheckResult(name, not failed, message, slope, expected, residuals, steps, errors)
