"""Alignment and nearest balanced layers of any widths and rank, against brute force."""

import itertools

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize

from dln_manifolds.errors import ConjugatePointsError, InvalidPointError
from dln_manifolds.geometry.alignment import (
    align,
    aligned_pullback,
    nearest_balanced,
    nearest_factorization,
)
from dln_manifolds.geometry.balancing import act, end_to_end, factor, relative_imbalance
from dln_manifolds.geometry.chain import chain_of
from dln_manifolds.geometry.frame import Frame, full_nodes
from dln_manifolds.geometry.layer_stratum import LayerStratum
from dln_manifolds.geometry.sectors import split

NETWORKS = [
    ((4, 3, 5), 3),
    ((4, 3, 5), 2),
    ((3, 5, 3), 3),
    ((5, 2, 4), 2),
    ((4, 4, 4), 2),
    ((4, 3, 5, 4), 3),
    ((4, 3, 5, 4), 2),
    ((3, 2, 4, 2, 3), 2),
    ((2, 3, 3, 3, 4), 1),
    ((3, 3, 3, 3), 3),
]
each = pytest.mark.parametrize(("widths", "rank"), NETWORKS, ids=str)


def normal(*shape, seed=0):
    return np.random.default_rng([*shape, seed]).standard_normal(shape)


def any_layers(chain, *batch, seed=0):
    return normal(*batch, *chain.array_shape, seed=seed)


def points(widths, rank, count, seed=0):
    """Balanced layers of a rank."""
    rng = np.random.default_rng([*widths, rank, seed])
    stratum = LayerStratum((widths[-1], widths[0]), rank, len(widths) - 1, widths)
    return stratum.draw(count, 1.0, rng.random, lambda shape: rng.normal(size=shape))


def norm(layers):
    return np.linalg.norm(np.ravel(layers))


def truncated(layers, chain, rank):
    """End-to-end matrix, its best approximation of a rank, by plain products."""
    X = np.linalg.multi_dot(chain.layers(layers)[::-1])
    u, s, vt = np.linalg.svd(X, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ vt[:rank], s[:rank], u[:, :rank], vt[:rank]


def brute_force(layers, chain, rank, starts=6):
    """The least distance of balanced layers over the same X, by BFGS from many starts."""
    _, s, u, vt = truncated(layers, chain, rank)
    root, matrices, hidden = s ** (1 / chain.count), chain.layers(layers), chain.widths[1:-1]
    sizes = np.cumsum([0, *[width * rank for width in hidden]])

    def squared(flat):
        bases = [vt.T]
        for k, width in enumerate(hidden):
            # Any matrix of full rank stands for its polar factor.
            a, _, b = np.linalg.svd(flat[sizes[k] : sizes[k + 1]].reshape(width, rank), False)
            bases.append(a @ b)
        bases.append(u)
        pairs = zip(matrices, itertools.pairwise(bases), strict=True)
        return sum(np.sum((r - (q * root) @ p.T) ** 2) for r, (p, q) in pairs)

    found = [
        scipy.optimize.minimize(squared, normal(sizes[-1], seed=k), tol=1e-9).fun
        for k in range(starts)
    ]
    return np.sqrt(min(found))


@each
def test_nearest_balanced_layers_against_brute_force(widths, rank):
    chain = chain_of(widths)
    layers = any_layers(chain)
    balanced = nearest_balanced(layers, chain, rank)
    X = truncated(layers, chain, rank)[0]
    assert norm(end_to_end(balanced, chain) - X) <= 1e-13 * norm(X)
    assert relative_imbalance(balanced, chain) <= 1e-13
    for matrix in chain.layers(balanced):
        assert np.linalg.matrix_rank(matrix, 1e-10) == rank
    least = brute_force(layers, chain, rank)
    # Exact for two layers. Deeper it may be a local minimum only; here none is nearer.
    assert norm(balanced - layers) <= least * (1 + 1e-9)


def test_two_layers_in_closed_form():
    """Q_1 is the polar factor of W_1 V L + W_2^T U L, also where it is not of full rank."""
    chain = chain_of((4, 6, 5))
    layers = any_layers(chain)
    first, second = chain.layers(layers)
    for rank in (1, 2, 4):
        _, s, u, vt = truncated(layers, chain, rank)
        a, _, b = np.linalg.svd((first @ vt.T + second.T @ u) * np.sqrt(s), full_matrices=False)
        expected = chain.gathered([(a @ b * np.sqrt(s)) @ vt, (u * np.sqrt(s)) @ (a @ b).T])
        np.testing.assert_allclose(nearest_balanced(layers, chain, rank), expected, atol=1e-13)


@each
def test_first_and_second_order(widths, rank):
    """What is left of the distance is not vertical, and it is least along curves in the fibre."""
    chain = chain_of(widths)
    layers = any_layers(chain, 6)
    balanced = nearest_balanced(layers, chain, rank)
    frame, rest = Frame.of_layers(balanced, chain, rank), layers - balanced
    vertical = split(frame, rest).vertical
    assert np.abs(vertical).max() <= 1e-12 * norm(rest)
    for seed in range(8):
        step = [0.03 * normal(w, w, seed=seed) for w in widths[1:-1]]
        turns = chain.group.gathered([scipy.linalg.expm(x - x.T) for x in step])
        other = act(turns, balanced, chain)
        for k in range(6):
            assert norm(other[k] - layers[k]) >= norm(rest[k]) - 1e-13


@each
def test_points_stay_and_batches_are_members(widths, rank):
    chain = chain_of(widths)
    at = points(widths, rank, 4)
    np.testing.assert_allclose(nearest_balanced(at, chain, rank), at, atol=1e-12)
    layers = any_layers(chain, 2, 2)
    balanced = nearest_balanced(layers, chain, rank)
    for index in np.ndindex(2, 2):
        alone = nearest_balanced(layers[index], chain, rank)
        np.testing.assert_allclose(balanced[index], alone, atol=1e-10)
    kept = nearest_balanced(layers, chain, rank, keep_component=True)
    assert (np.sum((kept - layers) ** 2) >= np.sum((balanced - layers) ** 2) - 1e-12).all()
    # The signs of the products from the input up to each square Q_p.
    first = Frame.of_point(end_to_end(layers, chain), 1, rank).right_t.swapaxes(-1, -2)
    for found in (kept, layers):
        behind, signs = first, []
        for place, matrix in enumerate(chain.layers(found)[:-1], 1):
            behind = matrix @ behind
            if widths[place] == rank:
                signs.append(np.linalg.slogdet(behind)[0])
        if found is kept:
            got = signs
    np.testing.assert_array_equal(got, signs)


@each
def test_align_against_a_planted_turn_and_its_group(widths, rank):
    chain = chain_of(widths)
    at = points(widths, rank, 3)
    turns = np.concatenate(
        [np.linalg.qr(normal(3, w, w, seed=w))[0].reshape(3, -1) for w in widths[1:-1]], axis=-1
    ).reshape(3, *chain.group_shape)
    planted = act(turns, at, chain)
    found = align(at, planted, chain, rank)
    np.testing.assert_allclose(found.layers, planted, atol=1e-9)
    group, layers = found
    np.testing.assert_allclose(act(group, at, chain), layers, atol=1e-13)
    for h in chain.group.layers(group):
        identity = np.broadcast_to(np.eye(h.shape[-1]), h.shape)
        np.testing.assert_allclose(h @ h.swapaxes(-1, -2), identity, atol=1e-13)
    near = align(at, planted + 1e-3 * any_layers(chain, 3), chain, rank)
    assert norm(near.layers - planted) <= 3e-3 * norm(any_layers(chain, 3))
    np.testing.assert_allclose(act(near.group, at, chain), near.layers, atol=1e-13)


@each
def test_group_elements_are_nearest_to_the_identity(widths, rank):
    """Another h_p with the same h_p Q_p is at least as far from the identity."""
    chain = chain_of(widths)
    at = points(widths, rank, 1)[0]
    found = align(at, any_layers(chain), chain, rank)
    for place, h in enumerate(chain.group.layers(found.group), 1):
        q = found.frame.bases[place, : widths[place]]
        beside = scipy.linalg.null_space(q.T)
        for seed in range(10):
            k = beside.shape[1]
            turn = np.linalg.qr(normal(k, k, seed=seed))[0] if k else np.zeros((0, 0))
            other = h @ (q @ q.T + beside @ turn @ beside.T)
            assert np.trace(other) <= np.trace(h) + 1e-12


@each
def test_kept_components(widths, rank):
    chain = chain_of(widths)
    at, reference = points(widths, rank, 20), any_layers(chain, 20)
    kept = align(at, reference, chain, rank, keep_component=True)
    free = align(at, reference, chain, rank)
    hidden = [place for place in full_nodes(chain, rank) if 0 < place < chain.count]
    before, after, other = (
        np.linalg.slogdet(x.bases[:, hidden, :rank])[0]
        for x in (kept.frame, kept.turned, free.turned)
    )
    np.testing.assert_array_equal(before, after)
    if hidden:
        assert (other != before).any()
    far, near = (np.sum((x.layers - reference).reshape(20, -1) ** 2, axis=1) for x in (kept, free))
    # Two local minima.
    assert (near <= far * (1 + 1e-9)).mean() >= 0.9


@each
def test_factorization_near_given_layers(widths, rank):
    chain = chain_of(widths)
    layers = any_layers(chain, 3)
    X = truncated(any_layers(chain, seed=1), chain, rank)[0]
    frame = Frame.of_point(X, 2.5, rank)
    near = nearest_factorization(frame, layers, chain)
    assert near.shape == layers.shape
    fibre = factor(frame, chain)
    for k in range(3):
        np.testing.assert_allclose(end_to_end(near[k], chain), X, atol=1e-12)
        assert relative_imbalance(near[k], chain) <= 1e-13
        expected = align(fibre, layers[k], chain, rank).layers
        # Two searches with other starts.
        assert norm(near[k] - layers[k]) <= norm(expected - layers[k]) + 1e-9


@each
def test_pullback_against_differences(widths, rank):
    """The nearest point as the reference and the fibre move along curves."""
    chain = chain_of(widths)
    at, reference = points(widths, rank, 1)[0], any_layers(chain, seed=2)
    found = align(at, reference, chain, rank)
    cotangent, moving = any_layers(chain, seed=3), any_layers(chain, seed=4)
    velocity = split(found.frame, any_layers(chain, seed=5)).horizontal
    by_reference, by_motion = aligned_pullback(found.layers, reference, cotangent, chain, rank)

    def slope(curve, step=2e-4):
        values = [np.sum(cotangent * curve(step * k)) for k in (1, -1, 2, -2)]
        return (8 * (values[0] - values[1]) - (values[2] - values[3])) / (12 * step)

    got = slope(lambda t: align(found.layers, reference + t * moving, chain, rank).layers)
    assert got == pytest.approx(np.sum(by_reference * moving), rel=1e-7, abs=1e-8)

    def fibres(t):
        # A curve of balanced layers: all bases move, and the roots.
        moved = nearest_balanced(at + t * velocity, chain, rank)
        return align(moved, reference, chain, rank).layers

    # Not to another local minimum, for all that fits.
    assert norm(fibres(0.0) - found.layers) <= 1e-9
    expected = np.sum(found.turned_back(by_motion) * velocity)
    assert slope(fibres) == pytest.approx(expected, rel=1e-6, abs=1e-7)
    # It does not matter how W moves along its fibre.
    vertical = split(Frame.of_layers(found.layers, chain, rank), by_motion).vertical
    assert norm(vertical) <= 1e-10 * norm(by_motion)


def test_pullback_where_the_nearest_point_is_not_isolated():
    chain = chain_of((3, 4, 2))
    at = points((3, 4, 2), 2, 1)
    with pytest.raises(ConjugatePointsError, match=r"not isolated \(batch member \[0\]\)"):
        aligned_pullback(at, np.zeros_like(at), at, chain, 2)


@pytest.mark.parametrize("widths", [(3000, 2, 3000), (2, 500, 3)])
def test_wide_layers_need_no_square_of_the_width(widths):
    chain = chain_of(widths)
    layers = any_layers(chain) / 50
    balanced = nearest_balanced(layers, chain)
    assert relative_imbalance(balanced, chain) <= 1e-13
    probe = normal(widths[0])
    (first, second), (near, far) = chain.layers(layers), chain.layers(balanced)
    np.testing.assert_allclose(far @ (near @ probe), second @ (first @ probe), atol=1e-11)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_projection_refuses_lower_ranks_by_their_singular_values(dtype):
    stratum = LayerStratum((5, 4), 2, 2, (4, 3, 5))
    low = points((4, 3, 5), 1, 2).astype(dtype)
    high = points((4, 3, 5), 2, 2).astype(dtype)
    stratum.project(high.astype(float), np.dtype(dtype))
    with pytest.raises(
        InvalidPointError, match=r"batch member \[1\].*value 2 is .* counts as zero"
    ):
        stratum.project(np.stack([high[0], low[0]]).astype(float), np.dtype(dtype))


def test_projection_decides_the_rank_on_the_product():
    """Layers of full rank with a product of rank 1, and layers of rank 2 that hide in noise."""
    chain, stratum = chain_of((4, 3, 5)), LayerStratum((5, 4), 1, 2, (4, 3, 5))
    first, second = np.eye(3, 4), np.eye(5, 3)
    first[2], second[:, 2] = 0.0, 0.0
    first[2, 3], second[1] = 1.0, [0.0, 0.0, 1.0]
    layers = chain.gathered([first, second])
    assert np.linalg.matrix_rank(second @ first) == 2
    second[1, 2] = 0.0
    second[4, 2] = 1e-3
    for matrix in (first, second):
        assert np.linalg.matrix_rank(matrix) >= 2
    layers = chain.gathered([first, second])
    projected = stratum.project(layers, np.dtype(float))
    X = end_to_end(projected, chain)
    np.testing.assert_allclose(X, truncated(layers, chain, 1)[0], atol=1e-14)


def test_projection_leaves_exact_points_whatever_their_product_loses():
    """Roots over 9 orders of magnitude: the product of two layers does not know the least."""
    stratum = LayerStratum((3, 4), 3, 2, (4, 3, 3))
    eyes = np.eye(3, 4), np.eye(3)
    roots = np.array([1.0, 1e-4, 1e-9])
    layers = stratum.chain.gathered([roots[:, None] * eyes[0], roots * eyes[1]])
    np.testing.assert_array_equal(stratum.project(layers, np.dtype(float)), layers)
