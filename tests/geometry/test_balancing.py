"""Factorization, alignment, nearest balanced layers and the balancing flow."""

import itertools

import numpy as np
import pytest
import scipy.linalg
from scipy.spatial.transform import Rotation

from dln_manifolds.dynamics.balancing_flow import balancing_flow
from dln_manifolds.errors import ConvergenceError
from dln_manifolds.geometry import procrustes
from dln_manifolds.geometry.alignment import align, nearest_balanced
from dln_manifolds.geometry.balancing import act, factor
from dln_manifolds.geometry.chain import chain_of
from dln_manifolds.geometry.frame import Frame


def normal(*shape, seed=0):
    array = np.random.default_rng([*shape, seed]).standard_normal(shape)
    array.flags.writeable = False
    return array


def orthogonal(*shape, seed=0):
    return np.linalg.qr(normal(*shape, seed=seed))[0]


def product(layers):
    """End-to-end matrix, layer by layer."""
    result = np.eye(layers.shape[-1])
    for layer in np.moveaxis(layers, -3, 0):
        result = layer @ result
    return result


def worst_imbalance(layers):
    """Largest imbalance of single layers relative to the largest Gram matrix."""
    size = max(np.linalg.norm(w @ w.T) for w in layers)
    pairs = itertools.pairwise(layers)
    return max((np.linalg.norm(v.T @ v - w @ w.T) for w, v in pairs), default=0.0) / size


def least_norm(X, depth):
    return depth * np.sum(np.linalg.svd(X, compute_uv=False) ** (2 / depth))


def distance(first, last):
    return np.sqrt(np.sum((first - last) ** 2, axis=(-3, -2, -1)))


def signs(layers):
    return np.sign(np.linalg.det(layers))


@pytest.mark.parametrize("depth", [1, 2, 3, 7])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_factor(n, depth):
    X = normal(6, n, n)
    frame = Frame.of_point(X, 2.5)  # its depth does not matter
    layers = factor(frame, chain_of((n,) * (depth + 1)))
    assert layers.shape == (6, depth, n, n)
    for x, w in zip(X, layers, strict=True):
        np.testing.assert_allclose(product(w), x, atol=1e-13 * np.linalg.norm(x))
        assert worst_imbalance(w) < 1e-13
        assert np.sum(w**2) == pytest.approx(least_norm(x, depth), rel=1e-13)
    if depth > 1:
        np.testing.assert_array_equal(signs(layers[:, 1:-1]), 1)
        np.testing.assert_array_equal(signs(layers[:, 0]), signs(frame.right_t))
        np.testing.assert_array_equal(signs(layers[:, -1]), signs(frame.left))


def test_act_is_the_literal_action():
    W, h = normal(2, 4, 3, 3), orthogonal(2, 3, 3, 3)
    turned = act(h, W)
    for w, g, got in zip(W, h, turned, strict=True):
        full = [np.eye(3), *g, np.eye(3)]
        for p in range(4):
            np.testing.assert_allclose(got[p], full[p + 1] @ w[p] @ full[p].T, atol=1e-14)
    np.testing.assert_allclose(product(turned), product(W), atol=1e-13)
    # one group element on many networks
    np.testing.assert_allclose(act(h[0], W)[0], turned[0], atol=1e-15)


def test_alignment_of_two_layers_is_procrustes():
    W, R = normal(2, 5, 5), normal(2, 5, 5, seed=1)
    # |h W_1 - R_1|^2 + |W_2 h^T - R_2|^2: the columns of (W_1, W_2^T) turned together
    moved, target = np.hstack([W[0], W[1].T]), np.hstack([R[0], R[1].T])
    turn, _ = scipy.linalg.orthogonal_procrustes(moved.T, target.T)
    np.testing.assert_allclose(align(W, R).group[0], turn.T, atol=1e-13)


@pytest.mark.parametrize("reflected", [False, True])
def test_alignment_of_three_layers_against_a_grid(reflected):
    """All of O(2)^2 on a grid: nothing on it is nearer than what is found."""
    W, R = normal(3, 2, 2), normal(3, 2, 2, seed=2).copy()
    if reflected:
        R[0, 0] *= -1
    angles = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    cos, sin = np.cos(angles), np.sin(angles)
    turns = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    turns = np.concatenate([turns, turns * [1.0, -1.0]])
    grid = np.stack(np.broadcast_arrays(turns[:, None], turns[None]), axis=2)
    nearest = distance(act(grid, W), R).min()
    found = distance(align(W, R).layers, R)
    # The grid is 0.03 from every point, which costs about 0.03^2 |W| |R|.
    assert nearest - 1e-2 < found <= nearest


@pytest.mark.parametrize("n", [1, 2, 4, 7])
@pytest.mark.parametrize("depth", [3, 5, 16])
def test_alignment_is_a_local_minimum(n, depth):
    W, R = normal(depth, n, n), normal(depth, n, n, seed=3)
    h, aligned = align(W, R)
    identity = np.broadcast_to(np.eye(n), h.shape)
    np.testing.assert_allclose(h @ np.swapaxes(h, -1, -2), identity, atol=1e-13)
    np.testing.assert_allclose(act(h, W), aligned, atol=1e-13)
    best = distance(aligned, R)
    for seed in range(20):
        skew = normal(depth - 1, n, n, seed=seed)
        skew = skew - np.swapaxes(skew, -1, -2)
        slope = []
        for size in (1e-3, -1e-3, 0.03):
            other = act(scipy.linalg.expm(size * skew), aligned)
            assert distance(other, R) >= best * (1 - 1e-14)
            slope.append(distance(other, R) ** 2)
        # symmetric to second order: the central difference of a critical point is of third order
        assert abs(slope[0] - slope[1]) <= 1e-6 * best**2 * depth * n


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("depth", [2, 3, 9, 33])
def test_alignment_finds_a_planted_turn(depth, keep):
    n = 4
    W = factor(Frame.of_point(normal(n, n), depth), chain_of((n,) * (depth + 1)))
    h = orthogonal(depth - 1, n, n)
    if keep:
        h[..., 0] *= signs(h)[:, None]
    noise = 1e-3 * normal(depth, n, n, seed=5)
    found, aligned = align(W, act(h, W) + noise, keep_component=keep)
    assert distance(aligned, act(h, W) + noise) <= distance(0, noise)
    np.testing.assert_allclose(found, h, atol=0.1)
    np.testing.assert_allclose(align(W, act(h, W), keep_component=keep).group, h, atol=1e-9)


def test_kept_component():
    W, R = normal(400, 4, 3, 3), normal(400, 4, 3, 3, seed=1)
    free, kept = align(W, R), align(W, R, keep_component=True)
    np.testing.assert_allclose(np.linalg.det(kept.group), 1, atol=1e-12)
    np.testing.assert_array_equal(signs(kept.layers), signs(W))
    assert (signs(free.group) < 0).any()
    # Two local minima. The starts without reflections are tried for both.
    nearer = distance(free.layers, R) <= distance(kept.layers, R) * (1 + 1e-9)
    assert nearer.mean() > 0.97


def test_kept_component_of_two_layers_is_the_best_rotation():
    """Kabsch's problem in three dimensions, where proper and improper best turns differ."""
    for seed in range(10):
        W, R = normal(2, 3, 3), normal(2, 3, 3, seed=seed + 1)
        moved, target = np.hstack([W[0], W[1].T]), np.hstack([R[0], R[1].T])
        rotation, _ = Rotation.align_vectors(target.T, moved.T)
        got = align(W, R, keep_component=True).group[0]
        np.testing.assert_allclose(got, rotation.as_matrix(), atol=1e-9)


def test_alignment_of_a_batch_is_that_of_its_members():
    W, R = normal(2, 3, 4, 3, 3), normal(3, 4, 3, 3, seed=1)
    h, aligned = align(W, R)
    assert h.shape == (2, 3, 3, 3, 3)
    for i, j in np.ndindex(2, 3):
        alone = align(W[i, j], R[j])
        np.testing.assert_allclose(aligned[i, j], alone.layers, atol=1e-10)


def test_alignment_of_one_layer():
    h, aligned = align(normal(5, 1, 3, 3), normal(5, 1, 3, 3, seed=1))
    assert h.shape == (5, 0, 3, 3)
    np.testing.assert_array_equal(aligned, normal(5, 1, 3, 3))


@pytest.mark.parametrize("scale", [1e-80, 1.0, 1e80])
def test_alignment_has_no_scale(scale):
    W, R = normal(4, 3, 3), normal(4, 3, 3, seed=1)
    h, plain = align(scale * W, R / scale).group, align(W, R).group
    np.testing.assert_allclose(h, plain, atol=1e-9)


def test_alignment_with_nothing_to_align_with():
    W = normal(3, 3, 3)
    assert distance(align(W, np.zeros_like(W)).layers, 0) == pytest.approx(distance(W, 0))


def test_alignment_that_does_not_converge_is_loud(monkeypatch):
    for name in ("_SWEEPS", "_NEWTON_STEPS", "_ROUNDS"):
        monkeypatch.setattr(procrustes, name, 1)
    with pytest.raises(ConvergenceError, match="2 of 2 members did not converge"):
        align(normal(2, 8, 5, 5), normal(2, 8, 5, 5, seed=1))


@pytest.mark.parametrize(("depth", "n"), [(1, 3), (2, 4), (3, 1), (5, 20), (12, 3)])
def test_nearest_balanced_layers(depth, n):
    W = normal(3, depth, n, n)
    balanced = nearest_balanced(W)
    for w, b in zip(W, balanced, strict=True):
        x = product(w)
        assert np.linalg.norm(product(b) - x) <= 1e-12 * np.linalg.norm(x)
        assert worst_imbalance(b) <= 1e-12
        assert np.sum(b**2) == pytest.approx(least_norm(x, depth), rel=1e-9)
        turns = orthogonal(50, depth - 1, n, n) if depth > 1 else np.zeros((1, 0, n, n))
        assert (distance(act(turns, b), w) >= distance(b, w) - 1e-12).all()
    np.testing.assert_allclose(nearest_balanced(balanced), balanced, atol=1e-11)


@pytest.mark.parametrize("pattern", list(itertools.product([1, -1], repeat=3)))
def test_nearest_balanced_layers_with_the_same_signs(pattern):
    W = normal(3, 4, 4).copy()
    W[:, 0] *= (signs(W) * pattern)[:, None]
    balanced = nearest_balanced(W, keep_component=True)
    np.testing.assert_array_equal(signs(balanced), pattern)
    np.testing.assert_allclose(product(balanced), product(W), atol=1e-12)
    assert worst_imbalance(balanced) <= 1e-12
    assert distance(nearest_balanced(W), W) <= distance(balanced, W) + 1e-12


@pytest.mark.parametrize(("depth", "n"), [(2, 2), (3, 3), (4, 4)])
def test_balancing_flow(depth, n):
    W = normal(depth, n, n)
    X = product(W)
    times = np.array([0.0, 0.3, 1.0, 2.0])
    layers = balancing_flow(W, times).layers
    np.testing.assert_allclose(layers[0], W, atol=1e-15)
    start = [v.T @ v - w @ w.T for w, v in itertools.pairwise(W)]
    for t, now in zip(times, layers, strict=True):
        assert np.linalg.norm(product(now) - X) <= 1e-12 * np.linalg.norm(X)
        for b, (w, v) in zip(start, itertools.pairwise(now), strict=True):
            np.testing.assert_allclose(v.T @ v - w @ w.T, np.exp(-2 * t) * b, atol=1e-9)
    assert (np.diff(np.sum(layers**2, axis=(1, 2, 3))) < 0).all()

    end = balancing_flow(W).layers[-1]
    assert worst_imbalance(end) <= 1e-12
    assert np.linalg.norm(product(end) - X) <= 1e-12 * np.linalg.norm(X)
    assert np.sum(end**2) == pytest.approx(least_norm(X, depth), rel=1e-12)
    # The flow and the algorithm end in the same fibre, and the latter nearer to W.
    np.testing.assert_array_equal(signs(end), signs(W))
    np.testing.assert_allclose(align(end, W).layers, nearest_balanced(W), atol=1e-8)
    assert distance(nearest_balanced(W), W) <= distance(end, W) + 1e-12


def test_balancing_flow_is_steepest_descent_in_the_fibre():
    """Its rate is minus the part of W that is tangent to the fibre of X, found by least squares."""
    W, step = normal(3, 2, 2), 1e-4
    before, after = balancing_flow(W, np.array([0, step, 2 * step]), tolerance=1e-13).layers[1:]
    rate = (4 * before - after - 3 * W) / (2 * step)
    tangent = []
    for p, i, j in np.ndindex(2, 2, 2):
        unit = np.zeros((2, 2))
        unit[i, j] = 1
        vector = np.zeros((3, 2, 2))
        vector[p], vector[p + 1] = unit @ W[p], -W[p + 1] @ unit
        tangent.append(vector.ravel())
    basis = np.array(tangent).T
    part = basis @ np.linalg.lstsq(basis, W.ravel(), rcond=None)[0]
    np.testing.assert_allclose(rate.ravel(), -part, atol=1e-6)


def test_balancing_flow_at_its_end():
    W = factor(Frame.of_point(normal(3, 3), 3), chain_of((3,) * 4))
    np.testing.assert_allclose(balancing_flow(W).layers[-1], W, atol=1e-13)
    np.testing.assert_array_equal(balancing_flow(W[:1]).layers[-1], W[:1])


def test_balancing_flow_of_singular_layers():
    """The product has rank 2; the layers that have more lose it as exp(-t)."""
    W = normal(3, 3, 3).copy()
    W[1, 0] = 0
    flow = balancing_flow(W, np.array([0.0, 5.0, 9.0]))
    for t, now, imbalance in zip(flow.times, flow.layers, flow.imbalances[0], strict=True):
        assert np.linalg.norm(product(now) - product(W)) <= 1e-9
        expected = np.exp(-2 * t) * flow.imbalances[0][0]
        np.testing.assert_allclose(imbalance, expected, atol=1e-9)
    least = np.linalg.svd(flow.layers[:, 0], compute_uv=False)[:, -1]
    assert least[2] == pytest.approx(np.exp(-4) * least[1], rel=1e-2)
