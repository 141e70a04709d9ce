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


def layers_between(bases, roots, chain):
    """Layers ``Q_p diag(l) Q_{p-1}^T``; negative roots are signs of some of the bases."""
    pairs = itertools.pairwise(bases)
    return chain.gathered([(after * roots) @ before.T for before, after in pairs])


@pytest.mark.parametrize("widths", [(4, 3, 5), (3, 5, 3), (4, 3, 5, 4), (3, 3, 3), (2, 4, 2)])
def test_lines_of_roots_at_any_widths(widths):
    """With common bases the line is a geodesic; at a root that changes its sign it is singular."""
    chain = chain_of(widths)
    bases = [orthogonal(w, 2, seed=k) for k, w in enumerate(widths)]
    first = layers_between(bases, np.array([2.0, 0.5]), chain)
    last = layers_between(bases, np.array([0.3, 0.8]), chain)
    line = straight_line(first, last, chain, 2)
    assert line.is_geodesic
    assert line.length == pytest.approx(np.sqrt(chain.count * (1.7**2 + 0.3**2)))
    other = layers_between(bases, np.array([0.3, -0.8]), chain)
    line = straight_line(first, other, chain, 2)
    assert line.balanced
    assert line.singular_time == pytest.approx(0.5 / 1.3)
    assert not line.is_geodesic


@pytest.mark.parametrize("widths", [(4, 3, 5), (3, 5, 3), (4, 3, 5, 4)])
def test_lines_between_other_bases(widths):
    """Aligned they are horizontal, but leave the balanced layers, or those of the rank."""
    chain, roots = chain_of(widths), np.array([2.0, 0.5])
    first, last = (
        layers_between([orthogonal(w, 2, seed=s + k) for k, w in enumerate(widths)], roots, chain)
        for s in (0, 10)
    )
    line = straight_line(first, align(last, first, chain, 2).layers, chain, 2)
    assert line.horizontal
    assert not line.balanced
    assert line.singular_time == np.inf
    assert not straight_line(first, last, chain, 2).horizontal


def test_lines_of_one_layer_leave_its_rank():
    """Without a second layer all is balanced, but the sum of two matrices of rank 1 is not."""
    chain = chain_of((4, 3))
    first, last = (np.outer(normal(3, seed=k), normal(4, seed=k)).ravel() for k in (1, 2))
    line = straight_line(first, last, chain, 1)
    assert line.balance_defect == 0
    assert not line.balanced
    assert straight_line(first, 3 * first, chain, 1).is_geodesic
    assert straight_line(first, -first, chain, 1).singular_time == pytest.approx(0.5)
