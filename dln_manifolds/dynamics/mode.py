"""Where chains start: about the mode of a Gibbs measure in the root chart."""

import numpy as np
from scipy.optimize import minimize

from dln_manifolds.checks import checked_point
from dln_manifolds.dynamics.gibbs import GibbsMeasure, root_frame
from dln_manifolds.dynamics.kernels import LOST, beyond
from dln_manifolds.geometry.metric import root_of
from dln_manifolds.numerics.arrays import Array, ArrayLike

# Draws of starts of the search for the mode, of which the best counts.
_N_STARTS = 4


def starts(
    measure: GibbsMeasure, n_chains: int, start: ArrayLike | None, rng: np.random.Generator
) -> Array:
    """Return T to start from, ``(n_chains, m, n)``."""
    stratum = measure.stratum
    if start is not None:
        points, frame, _ = checked_point(stratum, start, "start")
        if points.shape[:-2] not in ((), (n_chains,)):
            raise ValueError(
                f"start has shape {points.shape}; {n_chains} chains start at "
                f"{(n_chains, *stratum.shape)}, or at one matrix."
            )
        return np.broadcast_to(root_of(frame), (n_chains, *stratum.shape)).copy()
    frame = root_frame(mode(measure, rng), measure.depth, measure.rank)
    shares = rng.uniform(0.1, 1.0, (n_chains, measure.rank))
    if stratum.is_square:
        # Both signs of the determinant belong to the space.
        shares[::2, -1] *= -1
    return (frame.left * (frame.roots * shares)[:, None, :]) @ frame.right_t


def mode(measure: GibbsMeasure, rng: np.random.Generator) -> Array:
    """Return T of largest density, ``(m, n)``, of those found from some random starts.

    In factors, ``T = A B^T``, which keep the rank.
    """
    (m, n), r = measure.shape, measure.rank
    bound = LOST ** (1 / measure.depth)

    def negative(flat: Array) -> tuple[float, Array]:
        a, b = flat[: m * r].reshape(m, r), flat[m * r :].reshape(n, r)
        root = a @ b.T
        frame = root_frame(np.where(beyond(root[None], bound), 0.0, root), measure.depth, r)
        if not np.all(frame.roots > 0):
            return np.inf, np.zeros_like(flat)
        slope = measure.slope_at(frame)
        both = np.concatenate([(slope @ b).ravel(), (slope.T @ a).ravel()])
        return -float(measure.log_density_at(frame)), -both

    best, value = None, np.inf
    for _ in range(_N_STARTS):
        a, b = rng.standard_normal((m, r)), rng.standard_normal((n, r))
        # With one for the largest root: powers of others may leave the range.
        begin = np.concatenate([a.ravel(), b.ravel()]) / np.sqrt(np.linalg.norm(a @ b.T, 2))
        found = minimize(negative, begin, jac=True, method="L-BFGS-B")
        if found.fun < value:
            best, value = found.x, found.fun
    if best is None:
        raise ValueError("The density is nowhere finite where it was tried. Give a start.")
    return best[: m * r].reshape(m, r) @ best[m * r :].reshape(n, r).T
