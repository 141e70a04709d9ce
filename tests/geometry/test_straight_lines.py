"""Straight lines between balanced points: balanced, horizontal, geodesic."""

import itertools

import numpy as np
import pytest

from dln_manifolds import DLNObservableManifold
from dln_manifolds.geometry.alignment import align
from dln_manifolds.geometry.balancing import act, factor
from dln_manifolds.geometry.chain import chain_of
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.straight_lines import straight_line


def normal(*shape, seed=0):
    return np.random.default_rng([*shape, seed]).standard_normal(shape)


def orthogonal(*shape, seed=0):
    return np.linalg.qr(normal(*shape, seed=seed))[0]


def positive(n, seed):
    basis = orthogonal(n, n, seed=seed)
    return (basis * np.geomspace(0.3, 3, n)) @ basis.T


def layers_of(X, depth, seed=None):
    W = factor(Frame.of_point(X, depth), chain_of((X.shape[-1],) * (depth + 1)))
    return W if seed is None else act(orthogonal(depth - 1, *X.shape, seed=seed), W)


def root_layers(S, depth):
    values, basis = np.linalg.eigh(S)
    return np.repeat(((basis * values ** (1 / depth)) @ basis.T)[None], depth, axis=0)


def imbalances(W):
    return np.array([v.T @ v - w @ w.T for w, v in itertools.pairwise(W)])


def vertical_share(W, D):
    """Norm of D's projection to the orbit of O(n)^(N-1) through W relative to |D|, densely."""
    depth, n = W.shape[:2]
    columns = []
    for p, (i, j) in itertools.product(range(depth - 1), itertools.combinations(range(n), 2)):
        skew = np.zeros((n, n))
        skew[i, j], skew[j, i] = 1, -1
        vector = np.zeros_like(W)
        vector[p], vector[p + 1] = skew @ W[p], -W[p + 1] @ skew
        columns.append(vector.ravel())
    basis = np.array(columns).T
    part = basis @ np.linalg.lstsq(basis, D.ravel(), rcond=None)[0]
    return np.linalg.norm(part) / np.linalg.norm(D)


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_imbalance_along_the_line(depth):
    """``B(W(t)) = t (t - 1) B(D)``, and the share that is reported."""
    first, last = layers_of(normal(3, 3), depth), layers_of(normal(3, 3, seed=1), depth, seed=2)
    D = last - first
    for t in (0.3, 0.5, 2.0):
        got = imbalances(first + t * D)
        np.testing.assert_allclose(got, t * (t - 1) * imbalances(D), atol=1e-13)
    line = straight_line(first, last)
    size = max(np.linalg.norm(d @ d.T) for d in D)
    defect = np.linalg.norm(imbalances(D), axis=(1, 2)).max() / size
    assert line.balance_defect == pytest.approx(defect, rel=1e-12)
    assert not line.balanced
    assert line.length == pytest.approx(np.sqrt(np.sum(D**2)))


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_vertical_part_against_a_dense_projector(depth):
    first, last = layers_of(normal(3, 3), depth), layers_of(normal(3, 3, seed=1), depth, seed=2)
    line = straight_line(first, last)
    assert line.vertical_defect == pytest.approx(vertical_share(first, last - first), rel=1e-10)
    assert not line.horizontal


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_aligned_line_is_horizontal_everywhere(depth):
    first = layers_of(normal(3, 3), depth)
    last = align(layers_of(normal(3, 3, seed=1), depth), first).layers
    line = straight_line(first, last)
    assert line.horizontal
    assert not line.balanced
    for t in (0.0, 0.4, 1.0):
        assert vertical_share((1 - t) * first + t * last, last - first) < 1e-9


@pytest.mark.parametrize("depth", [2, 3, 8])
def test_equal_singular_vectors_give_a_geodesic(depth):
    U, V = orthogonal(4, 4), orthogonal(4, 4, seed=1)
    X, Y = (U * [1.0, 2, 3, 4]) @ V.T, (U * [2.0, 0.5, 0.3, 5]) @ V.T
    first = layers_of(X, depth, seed=3)
    line = straight_line(first, align(layers_of(Y, depth), first).layers)
    assert line.is_geodesic
    distance = DLNObservableManifold(4, depth).metric.dist(X, Y)
    assert line.length == pytest.approx(distance, rel=1e-10)


def test_equal_polar_factors_give_a_geodesic_for_two_layers():
    """Bures and Wasserstein: d^2 = 2 (tr A + tr B - 2 tr (A^1/2 B A^1/2)^1/2)."""
    A, B, turn = positive(4, 1), positive(4, 2), orthogonal(4, 4)
    first = layers_of(A @ turn, 2)
    line = straight_line(first, align(layers_of(B @ turn, 2, seed=5), first).layers)
    assert line.is_geodesic
    cross = np.sum(np.sqrt(np.linalg.eigvals(A @ B).real))
    assert line.length**2 == pytest.approx(2 * (np.trace(A + B) - 2 * cross), rel=1e-12)


@pytest.mark.parametrize("depth", [3, 4, 8])
def test_equal_polar_factors_for_more_layers(depth):
    """The line of roots is balanced but longer than the geodesic; the aligned line is no path."""
    A, B = positive(3, 1), positive(3, 2)
    first, last = root_layers(A, depth), root_layers(B, depth)
    roots, aligned = straight_line(first, last), straight_line(first, align(last, first).layers)
    distance = DLNObservableManifold(3, depth).metric.dist(A, B)
    assert roots.balanced
    assert not roots.horizontal
    assert roots.length > 1.001 * distance
    assert aligned.horizontal
    assert not aligned.balanced
    assert aligned.length < distance * (1 - 1e-5)
    assert not roots.is_geodesic
    assert not aligned.is_geodesic


def test_singular_layers_on_the_line():
    """From l to -3 l in one direction the line meets a singular layer at t = 1/4."""
    first = np.repeat(np.diag([1.0, 2.0])[None], 2, axis=0)
    last = first * np.diag([-3.0, 1.0])
    line = straight_line(first, last)
    assert line.singular_time == pytest.approx(0.25)
    assert line.balanced
    assert line.horizontal
    assert not line.is_geodesic
    assert np.isinf(straight_line(first, 2 * first).singular_time)


@pytest.mark.parametrize("step", [1e-2, 1e-5, 1e-8])
def test_close_points(step):
    """Defects are relative to D, so that close points are judged as far ones are."""
    A = positive(3, 1)
    change = normal(3, 3)
    B = A + step * (change + change.T)
    first, last = root_layers(A, 3), root_layers(B, 3)
    line = straight_line(first, last)
    assert line.balanced
    assert not line.horizontal
    assert straight_line(first, align(last, first).layers).horizontal
    trivial = straight_line(first, first)
    assert trivial.is_geodesic
    assert trivial.length == 0


def test_batch():
    first = np.stack([layers_of(normal(2, 2, seed=k), 3) for k in range(3)])
    last = layers_of(normal(2, 2, seed=7), 3)
    line = straight_line(first[:, None], np.stack([last, 2 * last]))
    for i, j in np.ndindex(3, 2):
        alone = straight_line(first[i], (1 + j) * last)
        for name in ("balance_defect", "vertical_defect", "length", "singular_time"):
            got, wanted = getattr(line, name)[i, j], getattr(alone, name)
            np.testing.assert_allclose(got, wanted, rtol=1e-12)
