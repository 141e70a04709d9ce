"""log of end-to-end matrices of every shape, rank and depth."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from dln_manifolds import ConvergenceError, DLNObservableManifold, IncompleteGeodesicError

LOWER = [
    (3, 3, 1),
    (3, 3, 2),
    (4, 4, 2),
    (6, 6, 2),
    (6, 6, 3),
    (10, 10, 3),
    (20, 20, 5),
    (8, 5, 3),
    (6, 3, 3),
    (5, 3, 2),
    (4, 5, 3),
    (30, 10, 10),
]
FULL = [(n, n, n) for n in (2, 3, 5, 8, 10, 20)]
DEPTHS = [1.5, 2, 3, 4, 8, 30, 300]
each_shape = pytest.mark.parametrize(("m", "n", "rank"), LOWER + FULL)


def space_of(m, n, rank, depth):
    return DLNObservableManifold(shape=(m, n), rank=rank, depth=depth)


def gaussian_pairs(rng, n_pairs, m, n, rank):
    """Return Gaussian matrices, products of Gaussian factors if of lower rank."""
    if rank == min(m, n):
        first, last = rng.normal(size=(2, n_pairs, m, n))
    else:
        left, right = rng.normal(size=(2, n_pairs, m, rank)), rng.normal(size=(2, n_pairs, rank, n))
        first, last = left @ right
    if m == n == rank:
        apart = np.linalg.slogdet(first)[0] != np.linalg.slogdet(last)[0]
        last[apart, 0] *= -1
    return first, last


def solve_both_ways(space, X, Y):
    """Check what solutions say of Gaussian pairs; return which were solved."""
    metric = space.metric
    there, back = metric.solve_log(Y, X), metric.solve_log(X, Y)
    good = there.success & back.success
    assert there.residual[good].max(initial=0) <= 1e-11
    for solution, start, end in ((there, X, Y), (back, Y, X)):
        reached = metric.exp(solution.initial_velocity[good], start[good])
        error = np.linalg.norm(reached - end[good], axis=(1, 2))
        assert (error <= 1e-10 * np.linalg.norm(end[good], axis=(1, 2))).all()
        norms = metric.norm(solution.initial_velocity[good], start[good])
        assert_allclose(norms, solution.length[good], rtol=1e-11)
        assert space.is_tangent(solution.initial_velocity[good], start[good], atol=1e-9).all()
    assert_allclose(there.length[good], back.length[good], rtol=1e-9)
    lower, upper = metric.bounds(Y, X)
    assert (lower[good] <= there.length[good] * (1 + 1e-12)).all()
    assert (there.length[good] <= upper[good] * (1 + 1e-12)).all()
    # What is not solved says so.
    assert set(there.status[~good]) | set(back.status[~good]) <= {0, 1, 2}
    return good


@each_shape
def test_gaussian_pairs(m, n, rank):
    rng = np.random.default_rng(100 * m + 10 * n + rank)
    for depth in DEPTHS:
        assert solve_both_ways(
            space_of(m, n, rank, depth), *gaussian_pairs(rng, 1, m, n, rank)
        ).all()


@pytest.mark.slow
@each_shape
def test_many_gaussian_pairs(m, n, rank):
    rng, solved = np.random.default_rng(1), []
    for depth in DEPTHS:
        pairs = gaussian_pairs(rng, 12, m, n, rank)
        solved.append(solve_both_ways(space_of(m, n, rank, depth), *pairs))
    solved = np.array(solved)
    assert solved.all() if m == n == rank else np.count_nonzero(~solved) <= 1


@pytest.mark.parametrize("depth", [1.25, *DEPTHS])
@pytest.mark.parametrize("shape", [(3, 3), (6, 4), (1, 4), (5, 1)])
def test_rank_one(shape, depth):
    """``N (l_0^2 + l_1^2 - 2 l_0 l_1 cos sqrt((tu^2 + tv^2) / N))``, of the nearer sign."""
    rng, space = np.random.default_rng(2), space_of(*shape, 1, depth)
    u, v = (rng.normal(size=(2, 20, k)) for k in shape)
    u[1, :2], v[1, :2] = u[0, :2], v[0, :2]
    v[1, 1] *= -1  # the same spaces and the other sign
    X, Y = u[..., :, None] * v[..., None, :]
    expected = np.inf
    for sign in (1, -1):
        angles = []
        for a, b in (u, v):
            a, b = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (a, sign * b))
            # As exact at small angles and near pi as elsewhere.
            gap, total = np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1)
            angles.append(2 * np.arctan2(gap, total))
        sizes = [np.linalg.norm(x, axis=(1, 2)) ** (1 / depth) for x in (X, Y)]
        cosine = np.cos(np.hypot(*angles) / np.sqrt(depth))
        squared = depth * (sizes[0] ** 2 + sizes[1] ** 2 - 2 * sizes[0] * sizes[1] * cosine)
        expected = np.minimum(expected, np.sqrt(squared))
    found = space.metric.dist(X, Y)
    assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("depth", [1.5, 2, 4, 30])
@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_embedding_keeps_distances(rank, depth):
    """4 x 4 matrices in 60 x 50; of rank 4 near ones, as the larger space has no sign of det."""
    rng = np.random.default_rng(rank)
    small, large = space_of(4, 4, rank, depth), space_of(60, 50, rank, depth)
    X = small.random_point(6, bound=0.3)
    Y = small.random_point(6) if rank < 4 else X + 0.1 * rng.normal(size=X.shape)
    u, v = (np.linalg.qr(rng.normal(size=(k, 4)))[0] for k in (60, 50))
    expected = small.metric.solve_log(Y, X)
    found = large.metric.solve_log(u @ Y @ v.T, u @ X @ v.T)
    assert expected.success.all()
    assert found.success.all()
    assert_allclose(found.length, expected.length, rtol=1e-10)
    velocity = u.T @ found.initial_velocity @ v
    assert_allclose(velocity, expected.initial_velocity, atol=1e-7 * np.abs(velocity).max())


@pytest.mark.parametrize("depth", [2, 3, 8, 30])
@pytest.mark.parametrize(("m", "n", "rank"), [(3, 3, 2), (5, 4, 2), (5, 3, 3), (4, 4, 4)])
def test_equal_singular_values_and_the_identity(m, n, rank, depth):
    """Both ends with equal singular values, nearly equal ones, and the identity itself."""
    rng, space = np.random.default_rng(3), space_of(m, n, rank, depth)
    identity = np.eye(m, n) * (np.arange(n) < rank)
    near = identity + 1e-9 * np.diag(rng.normal(size=max(m, n)))[:m, :n] * (identity > 0)
    u, v = (np.linalg.qr(rng.normal(size=(6, k, k)))[0] for k in (m, n))
    if m == n == rank:
        u[np.linalg.det(u @ v) < 0, :, 0] *= -1
    ends = u @ identity @ v
    X = np.stack([identity, near, *ends[:3]])
    Y = np.stack([ends[3], ends[4], ends[5], *ends[4:6]])
    assert solve_both_ways(space, X, Y).all()
    there = space.metric.log(identity, identity)
    assert np.abs(there).max() <= 1e-14
    assert_allclose(space.metric.dist(identity, 3 * identity), np.sqrt(depth * rank) * abs(
        3 ** (1 / depth) - 1
    ), rtol=1e-12)  # fmt: skip


# Bad input: what is not solved ends soon, and says why


@pytest.mark.parametrize(
    ("m", "n", "rank", "depth", "condition"),
    [(5, 3, 3, 1.5, 1e6), (3, 3, 2, 1.5, 1e9), (4, 4, 2, 2, 1e12)],
)
def test_condition_numbers_beyond_what_is_solved(m, n, rank, depth, condition):
    rng, space = np.random.default_rng(4), space_of(m, n, rank, depth)
    u, v = (np.linalg.qr(rng.normal(size=(2, 1, k, k)))[0][..., :rank] for k in (m, n))
    values = np.ones((2, 1, rank))
    values[..., -1] = 1 / condition
    X, Y = (u * values[..., None, :]) @ np.swapaxes(v, -1, -2)
    if m == n == rank:
        apart = np.linalg.slogdet(X)[0] != np.linalg.slogdet(Y)[0]
        Y[apart, 0] *= -1
    with pytest.raises((ConvergenceError, IncompleteGeodesicError)) as caught:
        space.metric.log(Y, X)
    solution = caught.value.solution
    assert set(solution.status.tolist()) <= {1, 2}
    assert solution.n_evaluations.max() <= 200_000
    space.equip_with_metric(on_failure="nan")
    assert np.isnan(space.metric.dist(X, Y)).all()
