"""One step of the explicit Runge-Kutta pair of order 8 of Dormand and Prince, batched.

DOP853 of Hairer, Norsett and Wanner, *Solving Ordinary Differential Equations I*, section II.10,
with the coefficients that scipy ships.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.integrate import DOP853

from dln_manifolds.geodesics.system import Flow, never
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import frobenius, norms
from dln_manifolds.numerics.singular import comes_near, passes_near

_A, _B, _E3, _E5 = DOP853.A, DOP853.B, DOP853.E3, DOP853.E5
N_STAGES: int = DOP853.n_stages
_SAFETY, _SHRINK, _GROW = 0.9, 0.2, 10.0
# In how many parts a step that meets a singular matrix is divided, again and again, until pieces
# are shorter than the last number, relative to the matrix at the start.
_PARTS, _ROUNDS, _FINEST = 16, 14, 1e-14
# Pieces of one geodesic that come near a singular matrix, above which none is told from meeting it.
_MOST_PIECES = 500


class Now(NamedTuple):
    """States, their rates, and their distances from singular matrices."""

    state: Array
    rate: Array
    smallest: Array


class Attempt(NamedTuple):
    """Steps that were tried, one for each member of a batch.

    ``end`` and ``rate`` are the state at the end of the step and its rate, ``smallest`` the
    distance from singular matrices there. The step is good if ``error``, relative to the acceptable
    one, is below 1; ``growth`` is the factor by which the next step, or the next try, may be
    longer; ``near`` tells whether the step may have met a singular matrix.
    """

    end: Array
    rate: Array
    smallest: Array
    error: Array
    growth: Array
    n_evaluations: Array
    near: Array


def _combine(weights: Array, stages: Array) -> Array:
    used = len(weights)
    flat = stages[:used].reshape(used, math.prod(stages.shape[1:]))
    return (weights @ flat).reshape(stages.shape[1:])


def step(system: Flow, state: Array, rate: Array, size: Array) -> tuple[Array, Array]:
    """Take one step of the given size for every member.

    Returns the solution of order 8 at the end and the rates at the stages,
    ``(N_STAGES, *state.shape)``.
    """
    stages = np.empty((N_STAGES, *state.shape))
    stages[0] = rate
    h = size.reshape(-1, *(1,) * (state.ndim - 1))
    for k in range(1, N_STAGES):
        stages[k] = system.rates(state + h * _combine(_A[k, :k], stages))[0]
    return state + h * _combine(_B, stages), stages


def error_norm(stages: Array, last: Array, size: Array, scale: Array) -> Array:
    """Estimated error of a step divided by ``scale``, the acceptable one, shape ``(n_batch,)``."""
    fifth, third = (
        np.sum((norms(_combine(e[:N_STAGES], stages) + e[N_STAGES] * last) / scale) ** 2, axis=-1)
        for e in (_E5, _E3)
    )
    denominator = np.sqrt(2 * (fifth + 0.01 * third))
    return size * fifth / np.where(denominator == 0, 1.0, denominator)


def attempt(system: Flow, now: Now, size: Array, tolerance: float) -> Attempt:
    """Try a step of the given size for every member.

    ``tolerance`` bounds the error of positions and rates, each relative to its norm. Raises
    `LinAlgError` if a step was so long that it overflowed.
    """
    state, rate, smallest = now
    new, stages = step(system, state, rate, size)
    new_rate, new_smallest = system.rates(new)
    scale = tolerance * np.maximum(norms(state), norms(new))
    error = error_norm(stages, new_rate, size, np.where(scale == 0, 1.0, scale))
    error[~np.isfinite(error)] = np.inf
    factor = _SAFETY * np.maximum(error, 1e-12) ** -0.125
    growth = np.clip(factor, _SHRINK, np.where(error < 1, _GROW, 1.0))
    cores = np.stack([system.core(x[:, 0, 0]) for x in (state, new)], axis=1)
    near = passes_near(cores, np.column_stack([smallest, new_smallest]), system.core_rank)
    n_evaluations = np.full(len(state), N_STAGES)
    return Attempt(new, new_rate, new_smallest, error, growth, n_evaluations, near)


def first_singular(system: Flow, state: Array, size: Array) -> Array:
    """Time from the start of a step to its first singular matrix, infinite where there is none.

    The step is divided by 16 again and again, every time by single steps of the integrator from its
    start. A piece is kept if its chord, from A to B, comes near a singular matrix: it meets one
    where ``A^{-1} B`` has a real eigenvalue below zero. That holds for geodesics that run along the
    singular matrices, where a bound by lengths would need very many pieces, and for singular values
    that vanish in pairs, as on rays of the cone, where the determinant keeps its sign.
    """
    rate, _ = system.rates(state)
    scale = frobenius(system.core(state[:, 0, 0]))
    crossing = never(size.size)
    member, low, width = np.arange(size.size), np.zeros_like(size), size.copy()
    fractions = np.arange(_PARTS + 1) / _PARTS
    for _ in range(_ROUNDS):
        if member.size == 0 or np.bincount(member).max() > _MOST_PIECES:
            break
        times = low[:, None] + fractions * width[:, None]
        each = np.repeat(member, _PARTS + 1)
        ends, _ = step(system, state[each], rate[each], times.ravel())
        path = system.core(ends[:, 0, 0])
        path = path.reshape(*times.shape, *path.shape[1:])
        values = np.linalg.svd(path, compute_uv=False)[..., : system.core_rank]
        smallest = values[..., -1]
        suspect = comes_near(path, smallest, values[..., 0], system.core_rank)
        chord = frobenius(np.diff(path, axis=1))
        final = chord <= _FINEST * scale[member, None]
        row, part = np.nonzero(suspect & final)
        before, after = smallest[row, part], smallest[row, part + 1]
        share = before / np.maximum(before + after, np.finfo(float).tiny)
        hit = times[row, part] + share * (times[row, part + 1] - times[row, part])
        np.minimum.at(crossing, member[row], hit)
        earlier = times[:, :-1] < crossing[member][:, None]
        row, part = np.nonzero(suspect & ~final & earlier)
        member, low, width = member[row], times[row, part], width[row] / _PARTS
    # What is left is as narrow as numbers allow.
    np.minimum.at(crossing, member, low)
    return crossing
