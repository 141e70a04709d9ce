"""Numerical checks of pymanopt manifolds and problems, returned as numbers.

For any pymanopt manifold, not only those of this package. Each check returns a `CheckResult`:
whether it passed, the slope that was measured, residuals, and a message that says what to do.
Points and vectors may be arrays, or lists and tuples of arrays as on a product. Random points and
vectors come from the manifold, hence from numpy's global state: seed that one to repeat a check.

A slope is fitted to the smallest steps at which errors still stand clear of round-off: a wrong
derivative shows there even if it is wrong by little.
"""

from dln_manifolds.diagnostics.checks import (
    check_dimension,
    check_exponential,
    check_gradient,
    check_hessian,
    check_manifold,
    check_projection,
    check_retraction,
    check_transport,
)
from dln_manifolds.diagnostics.results import STEPS, CheckResult, fit_slope

__all__ = [
    "STEPS",
    "CheckResult",
    "check_dimension",
    "check_exponential",
    "check_gradient",
    "check_hessian",
    "check_manifold",
    "check_projection",
    "check_retraction",
    "check_transport",
    "fit_slope",
]
