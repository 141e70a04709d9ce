"""Paths of the log in the polar chart: any shape, rank and depth."""

import math

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from dln_manifolds.geodesics.polar_paths import PolarPaths
from dln_manifolds.geodesics.root_paths import RootPaths
from dln_manifolds.geodesics.system import Guess
from dln_manifolds.geometry.facing import Facing
from dln_manifolds.geometry.polar_flow import polar_rates
from dln_manifolds.geometry.polar_hessian import SecondVariation
from dln_manifolds.geometry.stretch import log_values_of
from dln_manifolds.numerics.newton import minimize
from dln_manifolds.numerics.polynomials import combine

SHAPES = [(3, 3, 3), (4, 4, 2), (5, 3, 2), (6, 3, 3), (3, 5, 3), (3, 4, 1), (1, 1, 1)]
DEPTHS = [1.0, 1.5, 2.0, 4.0, 30.0, 1e6, math.inf]
CASES = [
    (*shape, depth)
    for shape in SHAPES
    for depth in DEPTHS
    if math.isfinite(depth) or len(set(shape)) == 1
]


def pairs(m, n, r, count, seed=5):
    """Gaussian matrices of given rank, of one component."""
    rng = np.random.default_rng([m, n, r, seed])
    first, last = (
        rng.standard_normal((count, m, r)) @ rng.standard_normal((count, r, n)) for _ in range(2)
    )
    if m == n == r:
        last[np.linalg.det(first) * np.linalg.det(last) < 0, 0] *= -1
    return first, last


def position(x, r, depth):
    """Positions of size one of matrices, and the logarithms of their sizes."""
    u, s, vt = np.linalg.svd(x)
    u, log_s, vt = u[..., :r], np.log(s[..., :r]), vt[..., :r, :]
    middle = log_s.mean(axis=-1, keepdims=True)
    d, size = log_s - middle, middle
    if math.isfinite(depth):
        size = middle / depth
        size = size + 0.5 * np.log1p(np.expm1(2 * d / depth).mean(axis=-1, keepdims=True))
        d = depth * np.expm1(log_s / depth - size)
    stretch = d[..., None] * np.eye(r)
    return np.concatenate([stretch, u, np.swapaxes(vt, -1, -2)], axis=-2), size[..., 0]


def squared_distance(energy, sizes, r, depth):
    """The cone law."""
    if math.isinf(depth):
        return r * (sizes[1] - sizes[0]) ** 2 + 2 * energy
    radial = depth * (np.exp(sizes[1]) - np.exp(sizes[0]))
    return r * radial**2 + np.exp(sizes[0] + sizes[1]) * 2 * energy


def matrix(position, layout):
    """The matrix of one position."""
    stretch, left, right = layout.split(position)
    d, axes = np.linalg.eigh(0.5 * (stretch + stretch.T))
    return (left @ axes * np.exp(log_values_of(d, layout.depth))) @ (right @ axes).T


def family(first, last, r, depth):
    """Return the family of paths between matrices, the end positions and the sizes."""
    (start, size_0), (end, size_1) = position(first, r, depth), position(last, r, depth)
    paths = PolarPaths(start, end, shape=first.shape[1:], depth=depth, decayed=5e-6)
    return paths, end, (size_0, size_1)


def solved(paths, end, guess=None):
    """Minimize on all levels, one member at a time; return paths, slopes and levels."""
    found, slopes, levels = [], [], []
    guess = paths.initial() if guess is None else guess
    for row in range(len(end)):
        some, rows = guess.take(np.array([row])), np.array([row])
        for level in range(paths.n_levels):
            if level:
                some = paths.extend(some, rows, level)
            got = []
            result = minimize(
                paths.path(some, rows, end[rows], level),
                tolerance=1e-3 if level == 0 else 3e-12,
                max_iterations=60,
                finished=lambda part, path, done: got.append(path),  # noqa: B023
            )
            some = got[0].guess(np.array([True]))
            if level and paths.has_decayed(some, rows, level)[0]:
                break
        found.append(got[0])
        slopes.append(result.slope[0])
        levels.append(level)
    return found, np.array(slopes), np.array(levels)


def inner(a, b):
    return np.sum(a * b, axis=(1, 2, 3))


def directions(path, count, seed=0):
    """Random directions, zero in rows that only pad the smaller side."""
    rng, r = np.random.default_rng(seed), path.ends.layout.rank
    p = (path.gradient.shape[2] - r) // 2
    chosen = rng.standard_normal((count, *path.gradient.shape))
    for side, basis in enumerate(path.ends.bases):
        low = r + side * p
        chosen[..., low + basis.shape[-1] - r : low + p, :] = 0
    return chosen


@pytest.mark.parametrize("depth", [1.5, 4.0, 300.0])
def test_single_precision_is_enough_for_steps(depth):
    """Products agree to single precision, and paths become as stationary as others."""
    first, last = pairs(10, 10, 10, 3)
    paths, end, _ = family(first, last, 10, depth)
    found, slopes, _ = solved(paths, end)
    assert (slopes <= 3e-12).all()
    path = found[0]
    exact = SecondVariation(path.nodal, depth)
    direction = np.random.default_rng(0).standard_normal(path.gradient.shape)
    model, basis = path.quadratic_model(), path.basis
    expected = combine(
        basis.weighted_interleaved.T, exact.apply(combine(basis.interleaved, direction))
    )
    error = np.linalg.norm(model.product(direction) - expected) / np.linalg.norm(expected)
    assert 1e-9 < error < 1e-4


@pytest.mark.parametrize("kind", ["generic", "equal", "close"])
@pytest.mark.parametrize(("m", "n", "r", "depth"), CASES)
def test_gradient_and_hessian_are_derivatives(m, n, r, depth, kind):
    first, last = pairs(m, n, r, 2)
    if kind != "generic":
        gap = 1e-9 if kind == "close" else 0.0
        values = 1 + gap * np.arange(r)
        first, last = (
            (u[..., :r] * values) @ vt[..., :r, :] for u, _, vt in map(np.linalg.svd, (first, last))
        )
    paths, end, _ = family(first, last, r, depth)
    path = paths.path(paths.initial(), np.arange(2), end, 0)
    if kind == "generic":
        path = path.moved(0.02 * directions(path, 1)[0])
    x, y = directions(path, 2, 1)

    def energy(step):
        return path.moved(step).energy

    t = 2e-3
    slope = 8 * (energy(t * x) - energy(-t * x)) - (energy(2 * t * x) - energy(-2 * t * x))
    scale = np.sqrt(inner(path.gradient, path.gradient) * inner(x, x)) + path.energy + inner(x, x)
    assert np.all(np.abs(slope / (12 * t) - inner(path.gradient, x)) < 1e-8 * scale)

    def second(step):
        t = 6e-3
        sides = energy(t * step) + energy(-t * step)
        far = energy(2 * t * step) + energy(-2 * t * step)
        return (16 * sides - far - 30 * energy(0 * step)) / (12 * t * t)

    model = path.quadratic_model()
    hx, hy = model.product(x), model.product(y)
    size = np.sqrt(np.abs(inner(hx, x) * inner(hy, y)))
    # eigenvalues that are close are spread, on purpose
    bound = 1e-7 if kind == "generic" else 1e-3
    assert np.all(np.abs(second(x) - inner(hx, x)) < bound * size)
    assert np.all(np.abs((second(x + y) - second(x - y)) / 4 - inner(hx, y)) < bound * size)
    assert np.all(np.abs(inner(hx, y) - inner(hy, x)) < 1e-9 * size)


@pytest.mark.parametrize(("m", "n", "r"), SHAPES[:-1])
@pytest.mark.parametrize("depth", [1.5, 3.0, 30.0, 300.0, math.inf])
def test_initial_rates_lead_to_the_end(m, n, r, depth):
    if math.isinf(depth) and not m == n == r:
        pytest.skip("no infinite depth beside the core")
    first, last = pairs(m, n, r, 3)
    paths, end, _ = family(first, last, r, depth)
    found, slopes, _ = solved(paths, end)
    assert slopes.max() < 1e-11
    for row, path in enumerate(found):
        start = np.stack([paths.layout.position(*paths.layout.split(paths._start[row]))] * 2)
        start[1] = path.rate_at_start()[0]

        def flow(_, y, shape=start.shape):
            return polar_rates(y.reshape(1, *shape), paths.layout)[0].ravel()

        times = np.append(path.basis.nodes, 1.0)
        ends = solve_ivp(
            flow,
            (0, 1),
            start.ravel(),
            "DOP853",
            times,
            rtol=1e-12,
            atol=1e-12 * depth**0.5 if math.isfinite(depth) else 1e-12,
        )
        states = ends.y.T.reshape(-1, *start.shape)
        wanted = matrix(end[row], paths.layout)
        got = matrix(states[-1, 0], paths.layout)
        # near singular matrices more modes would be needed, or a correction of the aim
        bound = 1e-9 if depth < 2 else 2e-11
        assert np.linalg.norm(got - wanted) < bound * np.linalg.norm(wanted)
        # the path itself is known to the size of its last modes
        assert np.abs(path.states()[0, :, 0, 0] - states[:-1, 0]).max() < 1e-5
        assert np.abs(path.states()[0, :, 1, 0] - states[:-1, 1]).max() < 1e-3 * np.sqrt(
            1 + 2 * path.energy[0]
        )


@pytest.mark.parametrize("depth", [1.5, 2.0, 4.0, 30.0, 1000.0])
def test_rank_one_is_known(depth):
    first, last = pairs(4, 3, 1, 5)
    paths, end, sizes = family(first, last, 1, depth)
    u, v = (np.sum(a[..., 0] * b[..., 0], axis=-1) for a, b in paths_frames(first, last))
    energies = [np.array([path.energy[0] for path in solved(paths, end)[0]])]
    closed = []
    for sign in (1.0, -1.0):
        angle = np.sqrt((np.arccos(sign * u) ** 2 + np.arccos(sign * v) ** 2) / depth)
        l_0, l_1 = np.exp(sizes[0]), np.exp(sizes[1])
        closed.append(depth**2 * (l_0**2 + l_1**2 - 2 * l_0 * l_1 * np.cos(angle)))
    got = squared_distance(energies[0], sizes, 1, depth)
    assert np.allclose(got, np.minimum(*closed), rtol=1e-9)


def paths_frames(first, last):
    """Left and right singular vectors of matrices of rank one, in pairs."""
    (u_0, _, v_0), (u_1, _, v_1) = np.linalg.svd(first), np.linalg.svd(last)
    left = u_0[..., :1], u_1[..., :1]
    return left, (np.swapaxes(v_0, -1, -2)[..., :1], np.swapaxes(v_1, -1, -2)[..., :1])


@pytest.mark.parametrize(("m", "n", "r"), [(3, 3, 3), (4, 4, 2), (5, 3, 2)])
@pytest.mark.parametrize("depth", [2.0, 30.0])
def test_isometries_keep_the_energy(m, n, r, depth):
    rng = np.random.default_rng(3)
    first, last = pairs(m, n, r, 2)
    left, right = (np.linalg.qr(rng.standard_normal((k, k)))[0] for k in (m, n))
    reference = [path.energy[0] for path in solved(*family(first, last, r, depth)[:2])[0]]
    turned = family(left @ first @ right, left @ last @ right, r, depth)
    swapped = family(last, first, r, depth)
    flipped = family(first.swapaxes(1, 2), last.swapaxes(1, 2), r, depth)
    for paths, end, _ in (turned, swapped, flipped):
        energies = [path.energy[0] for path in solved(paths, end)[0]]
        assert np.allclose(energies, reference, rtol=1e-9)


@pytest.mark.parametrize(("m", "n", "r"), [(3, 3, 3), (4, 4, 2)])
def test_the_root_chart_has_the_same_geodesics(m, n, r):
    first, last = pairs(m, n, r, 5)
    paths, end, _ = family(first, last, r, 3.0)
    roots = RootPaths(paths._start, end, shape=(m, n), depth=3.0, decayed=5e-6)
    for ours, theirs in zip(solved(paths, end)[0], solved(roots, end)[0], strict=True):
        assert np.isclose(ours.energy[0], theirs.energy[0], rtol=1e-9)
        momenta = ours.rate_at_start()[0], theirs.rate_at_start()[0]
        assert np.allclose(*momenta, atol=1e-8 * np.linalg.norm(momenta[0]))


def test_the_gauge_is_free():
    first, last = pairs(5, 4, 3, 2)
    paths, end, _ = family(first, last, 3, 4.0)
    gauge = np.linalg.qr(np.random.default_rng(0).standard_normal((2, 3, 3)))[0]
    start, turned = paths._start @ gauge, end @ gauge
    start[:, :3], turned[:, :3] = (np.swapaxes(gauge, 1, 2) @ x[:, :3] for x in (start, turned))
    other = PolarPaths(start, turned, shape=(5, 4), depth=4.0, decayed=5e-6)
    for ours, theirs in zip(solved(paths, end)[0], solved(other, turned)[0], strict=True):
        assert np.isclose(ours.energy[0], theirs.energy[0], rtol=1e-10)


@pytest.mark.parametrize("depth", [4.0, 300.0, math.inf])
def test_few_steps_at_every_depth(depth):
    first, last = pairs(3, 3, 3, 20)
    paths, end, _ = family(first, last, 3, depth)
    result = minimize(
        paths.path(paths.initial(), np.arange(20), end, 0), tolerance=1e-9, max_iterations=60
    )
    assert result.slope.max() < 1e-9
    assert result.n_iterations.max() <= 8


def test_aims_may_move_and_paths_start_again():
    first, last = pairs(5, 4, 2, 3)
    paths, end, _ = family(first, last, 2, 4.0)
    found = solved(paths, end)[0]
    rng = np.random.default_rng(1)
    for row, path in enumerate(found):
        aim = end[[row]] + 1e-6 * rng.standard_normal(end[[row]].shape)
        guess, rows = path.guess(np.array([True])), np.array([row])
        level = next(k for k in range(5) if guess.unknowns.shape[1] <= (6, 14, 24, 40, 64)[k])
        again = paths.path(guess, rows, aim, level)
        assert np.isclose(again.energy[0], path.energy[0], rtol=1e-4)
        last_frames = again.ends.rotations(np.array([1.0]))[0, 0]
        for side, basis in enumerate(paths.pairs.bases):
            reached = basis[row] @ last_frames[side, : basis.shape[-1], :2]
            wanted = paths.layout.split(aim[0])[1 + side]
            overlap = np.linalg.svd(reached.T @ wanted, compute_uv=False)
            assert np.allclose(overlap, 1, atol=1e-5)


def test_equal_points_and_small_roots():
    first, _ = pairs(4, 4, 2, 2)
    paths, end, _ = family(first, first, 2, 3.0)
    path = paths.path(paths.initial(), np.arange(2), end, 0)
    assert np.all(path.energy < 1e-20)
    step = np.zeros_like(path.gradient)
    step[0, 0, 0, 0] = 1e3
    moved = path.moved(step)
    assert np.isinf(moved.energy[0])
    assert np.isfinite(moved.energy[1])
    assert np.isinf(path.moved(np.nan * step).energy[0])


def test_rivals_join_the_same_ends():
    first, last = pairs(4, 4, 2, 40)
    paths, end, _ = family(first, last, 2, 4.0)
    rivals = paths.rivals()
    assert rivals
    for rows, guess in rivals:
        assert isinstance(guess, Guess)
        path = paths.path(guess, rows, end[rows], 0)
        assert np.isfinite(path.energy).all()
        stretch = paths.layout.split(end[rows])[0]
        assert np.allclose(np.linalg.eigvalsh(path.ends.last), np.linalg.eigvalsh(stretch))


def test_facing_is_padded_by_rest():
    first, last = pairs(6, 3, 3, 2)
    paths, _, _ = family(first, last, 3, 4.0)
    velocities, at_one = paths.initial().frames
    assert isinstance(paths.pairs.facing(), Facing)
    assert np.all(velocities[:, 1, 3:] == 0)
    assert np.allclose(at_one @ np.swapaxes(at_one, -1, -2), np.eye(6))
