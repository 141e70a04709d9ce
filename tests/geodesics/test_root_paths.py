"""Paths in the root chart: derivatives, convergence, and what the flow makes of them."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from dln_manifolds.geodesics.root_paths import RootPaths
from dln_manifolds.geometry.polar_flow import polar_rates, speed_squared
from dln_manifolds.numerics.matrices import rotations, transpose
from dln_manifolds.numerics.newton import minimize
from dln_manifolds.numerics.polynomials import gauss

SHAPES = [(3, 3, 3), (3, 3, 1), (4, 4, 2), (5, 3, 2), (4, 5, 3), (6, 3, 3), (3, 5, 3)]
DEPTHS = [1, 1.5, 2, 4]


def position(points, depth, rank, turn=None):
    """``[D; E_L; E_R]`` of size one of matrices, in frames turned at will."""
    u, s, vt = np.linalg.svd(points)
    u, roots, v = u[..., :rank], s[..., :rank] ** (1 / depth), transpose(vt)[..., :rank]
    roots *= np.sqrt(rank / np.sum(roots**2, axis=-1, keepdims=True))
    stretch = depth * (roots[..., None] * np.eye(rank) - np.eye(rank))
    if turn is not None:
        stretch, u, v = transpose(turn) @ stretch @ turn, u @ turn, v @ turn
    return np.concatenate([stretch, u, v], axis=-2)


def family(shape, depth, n_pairs=3, seed=0, equal=False):
    """Paths between Gaussian matrices, or from one with equal roots, and both positions."""
    m, n, r = shape
    rng = np.random.default_rng([m, n, r, seed])
    first, last = rng.standard_normal((2, n_pairs, m, r)) @ rng.standard_normal((2, n_pairs, r, n))
    if m == n == r:
        last[np.linalg.det(first) * np.linalg.det(last) < 0, 0] *= -1
    turns = rotations(rng.standard_normal((2, n_pairs, r, r)))
    start, end = (
        position(points, depth, r, turn) for points, turn in zip((first, last), turns, strict=True)
    )
    if equal:
        start[:, :r] = 0
    return RootPaths(start, end, shape=(m, n), depth=depth, decayed=5e-6), start, end


def root(at, rank, shape, depth):
    """T of positions."""
    stretch, left, right = np.split(at, [rank, rank + shape[0]], axis=-2)
    return left @ (np.eye(rank) + stretch / depth) @ transpose(right)


def inside(family, coefficients):
    """Return coefficients without those of corners that are not varied."""
    r = family.layout.rank
    if min(coefficients.shape[-2:]) > r:
        coefficients[..., r:, r:] = 0
    return coefficients


def solved(family, end, guess=None):
    """Minimize level by level until the modes have decayed; the paths of least energy."""
    guess, rows = guess or family.initial(), np.arange(len(end))
    for level in range(family.n_levels):
        if level:
            guess = family.extend(guess, rows, level)
        result = minimize(
            family.path(guess, rows, end, level),
            tolerance=1e-3 if level == 0 else 3e-12,
            max_iterations=60,
            finished=lambda part, path, done, some=guess: some.put(part, path.guess(done)),
        )
        if level and family.has_decayed(guess, rows, level).all():
            break
    return family.path(guess, rows, end, level), result


def flowed(family, start, rate, times=(1.0,)):
    """States at some times by scipy, ``(n_times, 2, rows, r)``."""
    shape = (1, 2, *start.shape)

    def rates(_, state):
        return polar_rates(state.reshape(shape), family.layout)[0].ravel()

    state = np.stack([start, rate]).ravel()
    ends = solve_ivp(
        rates, (0, 1), state, method="DOP853", rtol=1e-12, atol=1e-12, t_eval=np.array(times)
    )
    return ends.y.T.reshape(-1, *shape[1:])


STENCIL = [(k, w) for k, w in zip((-3, -2, -1, 1, 2, 3), (-1, 9, -45, 45, -9, 1), strict=True)]


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("equal", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_and_hessian(shape, equal, depth):
    paths, _, end = family(shape, depth, equal=equal)
    guess, rng = paths.initial(), np.random.default_rng(0)
    guess.unknowns += inside(paths, 0.03 * rng.standard_normal(guess.unknowns.shape))
    step = inside(paths, rng.standard_normal(guess.unknowns.shape))
    path = paths.path(guess, np.arange(len(end)), end, 0)
    moved = [(path.moved(1e-3 * k * step), w / 6e-2) for k, w in STENCIL]
    slope = sum(w * other.energy for other, w in moved)
    got = np.sum(path.gradient * step, axis=(1, 2, 3))
    np.testing.assert_allclose(got, slope, rtol=1e-8, atol=1e-8 * path.energy.max())
    wanted = sum(w * other.gradient for other, w in moved)
    error = np.linalg.norm(path.quadratic_model().product(step) - wanted)
    assert error < 1e-9 * np.linalg.norm(wanted)


@pytest.mark.parametrize("depth", [1.5, 2, 4])
@pytest.mark.parametrize("equal", [False, True])
@pytest.mark.parametrize("shape", [*SHAPES, (9, 8, 2), (1, 4, 1)])
def test_least_energy_is_that_of_a_geodesic(shape, equal, depth):
    m, n, r = shape
    paths, start, end = family(shape, depth, seed=7, equal=equal)
    path, result = solved(paths, end)
    assert (result.slope < 1e-10).all()
    rates, states = path.rate_at_start(), path.states()
    length = speed_squared(start, rates, paths.layout)
    np.testing.assert_allclose(length, 2 * path.energy, rtol=1e-9)
    times = gauss(states.shape[1]).nodes
    for k in range(len(start)):
        flow = flowed(paths, start[k], rates[k], [*times, 1.0])
        reached, target = (root(x, r, (m, n), depth) for x in (flow[-1, 0], end[k]))
        assert np.linalg.norm(reached - target) < 3e-9 * np.linalg.norm(target)
        # in the frames of the flow, as far as the nodes resolve the path
        assert np.abs(states[k, :, :, 0] - flow[:-1]).max() < 1e-4


@pytest.mark.parametrize("depth", [1.25, 2, 3, 8])
@pytest.mark.parametrize("shape", [(3, 3), (5, 2), (1, 4), (2, 2)])
def test_rank_one_has_a_closed_form(shape, depth):
    # d^2 = N (l_0^2 + l_1^2 - 2 l_0 l_1 cos sqrt((tu^2 + tv^2) / N)), least over the joint sign
    paths, start, end = family((*shape, 1), depth, n_pairs=8)
    cosines = [
        np.sum(first * last, axis=(1, 2))
        for first, last in zip(
            paths.layout.split(start)[1:], paths.layout.split(end)[1:], strict=True
        )
    ]
    # (1, n) has no other sign: its path may not leave through zero
    signs = (1, -1) if min(shape) > 1 else (np.sign(cosines[int(shape[0] > 1)]),)
    angles = [np.hypot(*(np.arccos(np.clip(sign * c, -1, 1)) for c in cosines)) for sign in signs]
    wanted = 2 * depth * (1 - np.cos(np.min(angles, axis=0) / np.sqrt(depth)))
    energies = solved(paths, end)[0].energy
    for rows, guess in paths.rivals():
        others = RootPaths(start[rows], end[rows], shape=shape, depth=depth, decayed=5e-6)
        energies[rows] = np.fmin(energies[rows], solved(others, end[rows], guess)[0].energy)
    near = np.min(angles, axis=0) < 0.8 * np.pi * np.sqrt(depth)
    assert near.sum() >= 5
    # metric N g_N
    np.testing.assert_allclose(2 * energies[near] / depth, wanted[near], rtol=1e-9)


@pytest.mark.parametrize("shape", [(3, 3, 3), (5, 4, 2), (5, 3, 3)])
def test_frames_do_not_matter(shape):
    paths, start, end = family(shape, 3)
    turns = rotations(np.random.default_rng(5).standard_normal((len(start), shape[2], shape[2])))
    r = shape[2]
    other = start @ turns
    other[:, :r] = transpose(turns) @ other[:, :r]
    again = RootPaths(other, end, shape=shape[:2], depth=3, decayed=5e-6)
    first, second = solved(paths, end)[0], solved(again, end)[0]
    np.testing.assert_allclose(first.energy, second.energy, rtol=1e-10)
    wanted = first.rate_at_start() @ turns
    wanted[:, :r] = transpose(turns) @ wanted[:, :r]
    np.testing.assert_allclose(second.rate_at_start(), wanted, atol=1e-7)


def test_aims_may_be_shifted():
    shape, depth = (5, 4, 2), 3
    paths, start, end = family(shape, depth)
    path, _ = solved(paths, end)
    rows = np.array([2])
    goal = end[rows].copy()
    goal[:, 2:] += 1e-4 * np.random.default_rng(0).standard_normal(goal[:, 2:].shape)
    goal[:, 2:] = np.concatenate(
        [
            common[rows] @ transpose(common[rows]) @ side
            for common, side in zip(
                paths.pairs.bases, np.split(goal[:, 2:], [5], axis=1), strict=True
            )
        ],
        axis=1,
    )
    near = paths.path(paths.extend(path.guess(rows), rows, 3), rows, goal, 3)
    kept = []
    minimize(
        near,
        tolerance=3e-12,
        max_iterations=20,
        finished=lambda part, path, done: kept.append(path.take(done)),
    )
    reached = flowed(paths, start[2], kept[0].rate_at_start()[0])[-1, 0]
    target = root(goal[0], 2, shape[:2], depth)
    assert np.linalg.norm(root(reached, 2, shape[:2], depth) - target) < 1e-9


@pytest.mark.parametrize("shape", [(3, 3, 3), (4, 4, 2), (5, 3, 2), (6, 3, 3), (8, 8, 3)])
def test_rivals_join_the_same_ends_another_way(shape):
    m, n, r = shape
    paths, start, end = family(shape, 4, n_pairs=30)
    first = solved(paths, end)[0]
    ((rows, guess),) = paths.rivals()
    ends = paths.path(guess, rows, end[rows], 0).ends
    left, right = (basis[rows] for basis in paths.pairs.bases)
    left, right = left @ ends.frame.left_turn, right @ ends.frame.right_turn
    # the chart leaves out corners of 1e-6, to which logarithms of rotations are known
    wanted = root(end[rows], r, (m, n), 4)
    assert np.abs(left @ ends.end @ transpose(right) - wanted).max() < 1e-5
    rivals = RootPaths(start[rows], end[rows], shape=(m, n), depth=4, decayed=5e-6)
    second = solved(rivals, end[rows], guess)[0]
    energies = second.energy
    assert (np.abs(energies / first.energy[rows] - 1) > 1e-4).any()
    shorter = np.nonzero(energies < 0.999 * first.energy[rows])[0]
    if min(m, n) > r:
        assert shorter.size > 0
    for k in shorter[:3]:
        reached = flowed(paths, start[rows[k]], second.rate_at_start()[k])[-1, 0]
        target = root(end[rows[k]], r, (m, n), 4)
        assert np.linalg.norm(root(reached, r, (m, n), 4) - target) < 1e-8
