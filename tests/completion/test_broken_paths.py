"""Broken modes and paths, and the starts of paths through det = 0."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from dln_manifolds.completion.broken_paths import BrokenPaths, broken_basis, broken_modes
from dln_manifolds.completion.solve import completed_bounds, cut_frame
from dln_manifolds.completion.starts import opposite_starts, same_starts
from dln_manifolds.geodesics.root_paths import Ends, PathState
from dln_manifolds.geometry.facing import Facing
from dln_manifolds.geometry.polar_flow import Layout
from dln_manifolds.numerics.polynomials import modal_basis

BREAKS = np.array([0.3, 0.55])


@pytest.fixture
def paths():
    """Random paths from positive to negative determinants in frames that turn."""
    rng, n = np.random.default_rng(0), 3
    skew = rng.normal(size=(2, 2, n, n))
    frame = Facing.of_velocities(*(0.3 * (skew - skew.swapaxes(-1, -2))))
    start = np.tile(np.diag([1.0, 0.7, 0.4]), (2, 1, 1))
    end = np.diag([0.9, 0.6, -0.5]) + 0.1 * rng.normal(size=(2, n, n))
    identity = np.tile(np.eye(n), (2, 1, 1))
    ends = Ends(Layout((n, n), n, 2.5), start, end, frame, (identity, identity))
    unknowns = 0.02 * rng.normal(size=(2, 9, n, n))
    return BrokenPaths(ends, BREAKS, unknowns, 12, np.zeros((2, 2), dtype=bool))


def test_derivatives_are_orthonormal():
    basis = broken_basis(BREAKS, 5, 9)
    gram = np.swapaxes(basis.slopes, 1, 2) @ basis.weighted_slopes
    assert_allclose(gram, np.tile(np.eye(11), (2, 1, 1)), atol=1e-12)
    assert_allclose(basis.weights.sum(axis=1), 1)


def test_modes_are_the_integrals_of_their_slopes():
    times, step = np.tile(np.linspace(0.02, 0.98, 24), (2, 1)), 1e-6
    moved = [broken_modes(BREAKS, times + shift, 4)[0] for shift in (-step, step)]
    slopes = broken_modes(BREAKS, times, 4)[1]
    assert_allclose((moved[1] - moved[0]) / (2 * step), slopes, atol=1e-7)
    for time in (0.0, 1.0):
        assert_allclose(broken_modes(BREAKS, np.full((2, 1), time), 4)[0], 0, atol=1e-13)
    sides = [broken_modes(BREAKS, BREAKS[:, None] + shift, 4)[0] for shift in (-1e-13, 1e-13)]
    assert_allclose(*sides, atol=1e-10)


def test_gradient_by_differences(paths):
    state, step = paths.state(), 1e-6
    direction = np.random.default_rng(1).normal(size=paths.unknowns.shape)
    energy = [state.moved(sign * step * direction).energy for sign in (-1, 1)]
    expected = (energy[1] - energy[0]) / (2 * step)
    assert_allclose(np.sum(state.gradient * direction, axis=(1, 2, 3)), expected, rtol=1e-6)
    model = state.quadratic_model()
    slopes = [state.moved(sign * step * direction).gradient for sign in (-1, 1)]
    assert_allclose(model.product(direction), (slopes[1] - slopes[0]) / (2 * step), atol=1e-4)
    part = state.take(np.array([1]))
    assert_allclose(part.precondition(part.gradient), state.precondition(state.gradient)[1:])


def test_other_breaks_and_smooth_modes(paths):
    finer = paths.rebroken(BREAKS, 7, 14)
    times = np.tile(np.linspace(0, 1, 17), (2, 1))
    assert_allclose(finer.at(times), paths.at(times), atol=1e-13)
    smooth = 0.1 * np.random.default_rng(2).normal(size=(2, 5, 3, 3))
    broken = BrokenPaths.of_modes(paths.ends, smooth, 9, paths.blind)
    # the same polynomial on either side, so the same energy but for quadrature
    expected = PathState(paths.ends, smooth, modal_basis(5, 60)).energy
    fine = broken.rebroken(broken.breaks, 5, 40).state().energy
    assert_allclose(fine, expected, rtol=1e-4)


def test_crossings(paths):
    times, crosses = paths.crossing()
    assert crosses.all()
    eps = 1e-9
    before, after = (np.linalg.det(paths.at(times[:, None] + x)[:, 0]) for x in (-eps, eps))
    assert (before > 0).all()
    assert (after < 0).all()


@pytest.mark.parametrize("n", [2, 3, 5])
def test_starts_turn_by_rotations(n):
    for starts, sign in ((opposite_starts(4, n), -1), (same_starts(4, n), 1)):
        assert len(starts) == (4 if sign < 0 else 3) + (2 if sign < 0 else 3) * (n > 2)
        for start in starts:
            assert (start.first.prod(axis=1) * start.last.prod(axis=1) == sign).all()


def test_bounds_are_those_of_the_flipped_point():
    rng = np.random.default_rng(5)
    X, Y = rng.normal(size=(2, 50, 3, 3))
    for depth in (1.5, 3):
        frames = [cut_frame(points, depth, np.dtype(float)) for points in (X, Y)]
        bounds = completed_bounds(*frames, np.dtype(float))
        assert (bounds.lower <= bounds.upper).all()
        assert np.isfinite(bounds.upper).all()
        roots = [frame.roots for frame in frames]
        least = np.sqrt(depth) * np.linalg.norm(roots[0] - roots[1], axis=-1)
        assert (bounds.lower >= least * (1 - 1e-12)).all()
