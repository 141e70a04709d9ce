r"""Whether a Gibbs measure has a finite mass, where that can be seen from its energy.

In X the measure has the density ``exp(-b E / k) prod_{i<j} a_ij^(1/2k) sqrt(det g)``. A quadratic
energy with no growth along the directions D of a subspace of dimension f, of generic rank rho, has
there singular values that grow like t = |D|, and the density decays like ``t^e`` with

.. math::
    e = -\rho (1 + p) \frac{N-1}{N}
        - \Big( \binom{\rho}{2} + \rho (r - \rho) \Big) \frac{2N - 2}{N} \Big( 1 - \frac{1}{2k}
        \Big) + \frac{\rho}{Nk} \sum_p (d_p - r), \qquad p = m + n - 2r,

so that the integral over that part of the space alone diverges where ``f + e >= 0`` (ours).
"""

from collections.abc import Callable

import numpy as np

from dln_manifolds.geometry.stratum import MatrixStratum
from dln_manifolds.numerics.arrays import Array

Function = Callable[[Array], Array]

# Entries of X up to which a Hessian is looked at: its eigenvalues cost their cube.
_MOST_ENTRIES = 400
_FLAT = 1e-9
# Sizes between which an energy that confines X must grow, and by how much at least.
_NEAR, _FAR, _GROWTH = 1e3, 1e4, 1.5

_ADVICE = "Add decay, such as costs of the squared norm, or give more observations"


def check_mass(
    stratum: MatrixStratum, energy: Function, gradient: Function, anisotropy: float
) -> str:
    """Return what is doubtful about the measure, in a sentence, or nothing.

    Raises ValueError if it is known that the measure cannot be normalized.
    """
    if stratum.is_open and np.prod(stratum.shape) <= _MOST_ENTRIES:
        hessian = _constant_hessian(stratum.shape, gradient)
        if hessian is not None:
            return _of_quadratic(stratum, hessian, gradient, anisotropy)
    slow = _slow_direction(stratum, energy)
    if slow is None:
        return ""
    return (
        f"The energy hardly grows along {slow}: whether exp(-beta E) times the volumes can be "
        f"normalized depends on the depth and the shape. Check that the integral is finite. "
        f"{_ADVICE}."
    )


def _constant_hessian(shape: tuple[int, int], gradient: Function) -> Array | None:
    """Return the Hessian of a quadratic energy, ``(m n, m n)``; None of others."""
    zero, rng = np.zeros(shape), np.random.default_rng(0)
    one, other = rng.standard_normal((2, *shape))
    at_zero, slopes = gradient(zero), [gradient(x) for x in (one, other, one + other)]
    if not all(np.isfinite(slope).all() for slope in (at_zero, *slopes)):
        return None
    bend = slopes[2] - slopes[0] - slopes[1] + at_zero
    if np.abs(bend).max() > _FLAT * max(np.abs(slope).max() for slope in slopes):
        return None
    units = np.eye(zero.size).reshape(-1, *shape)
    columns = (gradient(units) - at_zero).reshape(zero.size, zero.size)
    return 0.5 * (columns + columns.T)


def _of_quadratic(
    stratum: MatrixStratum, hessian: Array, gradient: Function, anisotropy: float
) -> str:
    values, vectors = np.linalg.eigh(hessian)
    level = _FLAT * max(np.abs(values).max(), np.finfo(float).tiny)
    flat = vectors[:, np.abs(values) <= level]
    slope = gradient(np.zeros(stratum.shape)).ravel() @ flat
    if values[0] < -level or np.abs(slope).max(initial=0.0) > _FLAT * (1 + np.abs(values).max()):
        raise ValueError(
            "The energy has no lower bound, so that the measure cannot be normalized. Its sign may "
            "be wrong."
        )
    count = flat.shape[1]
    if not count:
        return ""
    generic = np.random.default_rng(0).standard_normal(count) @ flat.T
    rank = int(np.linalg.matrix_rank(generic.reshape(stratum.shape)))
    r, decay = stratum.rank, 1 - 1 / stratum.depth
    pairs = rank * (rank - 1) / 2 + rank * (r - rank)
    surplus = sum(stratum.shape) - 2 * r
    exponent = -decay * (rank * (1 + surplus) + 2 * pairs * (1 - 0.5 / anisotropy))
    exponent += rank * sum(d - r for d in stratum.hidden_widths or ()) / stratum.depth / anisotropy
    about = f"The energy does not grow along {count} of {len(values)} directions"
    if count + exponent >= 0:
        raise ValueError(
            f"{about}, and the density decays there like t^{exponent:.3g} only: the measure cannot "
            f"be normalized. {_ADVICE}."
        )
    return (
        f"{about}. The density decays along generic ones fast enough, like t^{exponent:.3g}, but "
        f"may not along others, and the free energy has no minimum. {_ADVICE}."
    )


def _slow_direction(stratum: MatrixStratum, energy: Function) -> str | None:
    """Return a ray along which the energy does not grow, in words, of those that are tried."""
    (m, n), rng = stratum.shape, np.random.default_rng(0)
    entries = np.eye(m * n)[: 4 * _MOST_ENTRIES].reshape(-1, m, n)
    left, right = (
        rng.standard_normal((8, m, stratum.rank)),
        rng.standard_normal((8, stratum.rank, n)),
    )
    thin = left[:, :, :1] @ right[:, :1]
    for name, rays in (("entry {}", entries), ("a matrix of rank 1", thin), ("X", left @ right)):
        with np.errstate(over="ignore", invalid="ignore"):
            near, far = energy(_NEAR * rays), energy(_FAR * rays)
        slow = ~(far > np.maximum(_GROWTH * near, near + 1))
        if slow.any():
            where = divmod(int(np.argmax(slow)), n)
            return name.format([*where])
    return None
