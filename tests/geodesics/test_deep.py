"""Logs at great depth of what is not square of full rank: spaces turn along Grassmannians."""

import math

import numpy as np
import pytest
from scipy.linalg import subspace_angles

from dln_manifolds import DLNObservableManifold
from dln_manifolds.geometry.principal import principal_facings

KINDS = [((6, 4), 3), ((3, 5), 3), ((5, 5), 2), ((4, 3), 3), ((5, 5), 4)]


def gaussian(shape, rank, count, *key):
    """Gaussian matrices of given rank."""
    rng, (m, n) = np.random.default_rng([*shape, rank, *key]), shape
    if rank == min(m, n):
        return rng.standard_normal((count, m, n))
    left, right = rng.standard_normal((count, m, rank)), rng.standard_normal((count, rank, n))
    return left @ right


def spaces(x, rank):
    """Orthonormal bases of column and row spaces."""
    u, _, vt = np.linalg.svd(x)
    return u[:, :rank], vt[:rank].T


def grassmann_ways(x, y, rank):
    """The square of the way from spaces to spaces, by scipy's angles.

    Cores that are carried along differ in sign where the product of the overlaps is negative.
    """
    way, back, sign = 0.0, [], 1.0
    for here, there in zip(spaces(x, rank), spaces(y, rank), strict=True):
        angles = subspace_angles(here, there)
        way += (angles**2).sum()
        sign *= np.linalg.slogdet(here.T @ there)[0]
        if len(here) > rank:
            back.append(math.pi * (math.pi - 2 * angles.max()))
    return way if sign > 0 else way + min(back)


@pytest.mark.parametrize("depth", [1e4, 2e5, 7e5])
@pytest.mark.parametrize(("shape", "rank"), KINDS)
def test_gaussian_pairs_are_solved(shape, rank, depth):
    """All of them, in a few evaluations: none goes to and fro in a valley."""
    metric = DLNObservableManifold(shape=shape, rank=rank, depth=depth).metric
    x, y = (gaussian(shape, rank, 12, 41, k) for k in range(2))
    solution = metric.solve_log(y, x)
    assert solution.success.all(), solution.residual
    assert solution.residual.max() < 5e-12
    assert solution.n_evaluations.max() <= 5000, solution.n_evaluations


@pytest.mark.parametrize(("shape", "rank"), KINDS)
def test_distances_tend_to_those_of_grassmannians(shape, rank):
    """The square of d in g_N does so with 1 / N, whatever the sizes: by scipy's angles."""
    x, y = (gaussian(shape, rank, 6, 42, k) for k in range(2))
    limit = np.array([grassmann_ways(*pair, rank) for pair in zip(x, y, strict=True)])
    gaps = []
    for depth in (1e5, 4e5):
        metric = DLNObservableManifold(shape=shape, rank=rank, depth=depth).metric
        gaps.append(metric.dist(y, x) ** 2 - limit)
    assert np.abs(gaps[0]).max() < 5e-3
    # the term with 1 / N^2 is some hundred times smaller yet
    assert np.allclose(gaps[0], 4 * gaps[1], rtol=1e-2, atol=1e-7)


@pytest.mark.parametrize(("rows", "columns", "rank"), [(4, 3, 2), (3, 5, 3), (6, 6, 3)])
def test_principal_turns_lead_to_the_other_spaces(rows, columns, rank):
    """Both ways round, without turning the cores, which are carried to ones of the same sign."""
    rng = np.random.default_rng(43)
    ends = [np.linalg.qr(rng.standard_normal((9, k, rank)))[0] for k in (rows, columns)]
    (first, shortest), (some, other) = principal_facings(*ends, thorough=True)
    assert first.size == 9
    # the other way on both sides, or on the other side, needs room on both
    assert some.size == (9 if min(rows, columns) > rank else 0)
    for members, facing in (first, shortest), (some, other):
        signs = []
        for end, velocity, turn in zip(ends, facing[:2], facing[2:], strict=True):
            assert not velocity[:, :rank, :rank].any()
            overlap = np.swapaxes(end[members], -1, -2) @ turn[:, :, :rank]
            assert np.allclose(np.linalg.svd(overlap, compute_uv=False), 1, atol=1e-13)
            signs.append(np.linalg.slogdet(overlap)[0])
        assert (signs[0] == signs[1]).all()
    ways = [np.sum(x**2, axis=(1, 2)) + np.sum(y**2, axis=(1, 2)) for x, y, *_ in (shortest, other)]
    assert (ways[1] > ways[0][some]).all()


def test_equal_spaces_with_cores_of_other_signs():
    """Where no angle is wide, the last direction turns by pi, out of a space that has room."""
    same = np.eye(4)[None, :, :2] * [1.0, -1.0]
    everyone, facing = principal_facings(same, np.eye(2)[None])[0]
    assert everyone.size == 1
    assert not facing.right.any()
    assert np.allclose(facing.left_turn[0, :, :2], same[0], atol=1e-15)
    assert math.isclose(np.sum(facing.left**2), 2 * math.pi**2)
