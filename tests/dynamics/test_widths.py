"""Flows of networks of unequal widths, and of matrices of any shape and rank."""

import itertools

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad

from dln_manifolds import dynamics
from dln_manifolds.dynamics import balancing_flow, flow_of_layers, flow_of_point
from dln_manifolds.dynamics.gradient_flow import layer_gradient
from dln_manifolds.errors import InvalidPointError
from dln_manifolds.geometry.alignment import nearest_balanced
from dln_manifolds.geometry.balancing import relative_imbalance
from dln_manifolds.geometry.chain import chain_of
from dln_manifolds.geometry.layer_stratum import LayerStratum

NETWORKS = [((4, 3, 5), 2), ((3, 5, 3), 3), ((5, 2, 4), 2), ((4, 3, 5, 4), 3), ((4, 3, 5, 4), 1)]
each = pytest.mark.parametrize(("widths", "rank"), NETWORKS, ids=str)
TIMES = np.linspace(0, 2, 5)


def normal(*shape, seed=0):
    return np.random.default_rng([*shape, seed]).standard_normal(shape)


def start_of(widths, rank):
    """Layers, a list, whose product has a rank; the layers themselves have more."""
    matrices = [0.8 * normal(*shape, seed=7) for shape in zip(widths[1:], widths, strict=False)]
    u = np.linalg.svd(np.linalg.multi_dot(matrices[::-1]))[0][:, :rank]
    return [*matrices[:-1], u @ u.T @ matrices[-1]]


def balanced_start(widths, rank):
    rng = np.random.default_rng([*widths, rank])
    stratum = LayerStratum((widths[-1], widths[0]), rank, len(widths) - 1, widths)
    point = stratum.draw(1, 0.5, rng.random, lambda shape: rng.normal(size=shape))[0]
    return stratum.chain.layers(point)


def products(layers):
    """End-to-end matrices at all times, by plain products."""
    result = layers[0]
    for layer in layers[1:]:
        result = layer @ result
    return result


def imbalances(layers):
    return [w.swapaxes(-1, -2) @ w - v @ v.swapaxes(-1, -2) for v, w in itertools.pairwise(layers)]


def completion(shape):
    target, seen = normal(*shape, seed=1), normal(*shape, seed=3) > -0.5

    def loss(X):
        return 0.5 * anp.sum((seen * (X - target)) ** 2)

    return loss, lambda X: seen * (X - target)


@each
def test_gradient_flow_conserves_imbalances(widths, rank):
    loss, gradient = completion((widths[-1], widths[0]))
    start = start_of(widths, rank)
    flow = flow_of_layers(start, gradient, TIMES, energy=loss)
    shapes = zip(widths[1:], widths, strict=False)
    assert [x.shape for x in flow.layers] == [(len(TIMES), *shape) for shape in shapes]
    np.testing.assert_allclose(flow.points, products(flow.layers), atol=1e-13)
    for got, wanted in zip(flow.imbalances, imbalances(flow.layers), strict=True):
        np.testing.assert_array_equal(got, wanted)
        assert np.abs(wanted - wanted[0]).max() <= 1e-10
    assert np.abs(flow.imbalances[0][0]).max() > 0.1
    assert flow.drift.max() <= 1e-10
    assert (np.diff(flow.energy) < 0).all()
    assert np.abs(flow.points[-1] - flow.points[0]).max() > 0.1


@each
def test_upstairs_and_downstairs_agree(widths, rank):
    loss, gradient = completion((widths[-1], widths[0]))
    start = balanced_start(widths, rank)
    up = flow_of_layers(start, gradient, TIMES, energy=loss)
    X = products(start)
    down = flow_of_point(X, len(start), gradient, TIMES, rank=rank, energy=loss)
    assert np.abs(up.points - down.points).max() <= 1e-9 * np.abs(down.points).max()
    assert np.abs(down.points[-1] - X).max() > 0.1
    assert down.drift.max() <= 1e-10
    assert (np.linalg.matrix_rank(down.points, tol=1e-12) == rank).all()
    assert (
        relative_imbalance(
            chain_of(widths).gathered([layer[-1] for layer in up.layers]), chain_of(widths)
        )
        <= 1e-10
    )


@each
def test_layer_gradient_against_autograd(widths, rank):
    loss, gradient = completion((widths[-1], widths[0]))
    chain = chain_of(widths)
    W = chain.gathered(start_of(widths, rank))

    def of_layers(flat):
        X, begin = np.eye(widths[0]), 0
        for rows, columns in chain.shapes:
            matrix = anp.reshape(flat[begin : begin + rows * columns], (rows, columns))
            X, begin = anp.dot(matrix, X), begin + rows * columns
        return loss(X)

    expected = grad(of_layers)(W)
    np.testing.assert_allclose(layer_gradient(W, gradient, chain), expected, rtol=1e-12, atol=1e-12)


def test_what_rounding_adds_to_lower_ranks_grows_unless_the_rank_is_given():
    """Steep enough, a singular value of the size of rounding comes up."""
    X, target = np.outer(normal(4), normal(3)), 10 * normal(4, 3, seed=5)
    times = np.array([0.0, 4.0])
    kept = flow_of_point(X, 2, lambda Z: Z - target, times, rank=1).points[-1]
    free = flow_of_point(X, 2, lambda Z: Z - target, times).points[-1]
    assert np.linalg.matrix_rank(kept, 1e-12) == 1
    assert np.linalg.matrix_rank(free, 1e-3) > 1


@each
def test_balancing_flow_law(widths, rank):
    start = start_of(widths, rank)
    flow = balancing_flow(start, TIMES)
    X = products(start)
    assert np.abs(products(flow.layers) - X).max() <= 1e-9
    decay = np.exp(-2 * TIMES)[:, None, None]
    for got, wanted in zip(flow.imbalances, imbalances(flow.layers), strict=True):
        np.testing.assert_array_equal(got, wanted)
        np.testing.assert_allclose(wanted, decay * wanted[0], atol=2e-9)
    norms = sum(np.sum(layer**2, axis=(1, 2)) for layer in flow.layers)
    assert (np.diff(norms) < 0).all()


@each
def test_limit_of_the_balancing_flow(widths, rank):
    chain, start = chain_of(widths), start_of(widths, rank)
    end = chain.gathered([layer[-1] for layer in balancing_flow(start).layers])
    W, X = chain.gathered(start), products(start)
    assert relative_imbalance(end, chain) <= 1e-12
    assert np.abs(products(chain.layers(end)) - X).max() <= 1e-9
    roots = np.linalg.svd(X, compute_uv=False)[:rank] ** (1 / chain.count)
    for layer in chain.layers(end):
        values = np.linalg.svd(layer, compute_uv=False)
        np.testing.assert_allclose(values[:rank], roots, atol=1e-6)
        # Surplus ranks go as exp(-t), which is the root of what is left of the imbalance.
        assert (values[rank:] <= 1e-5).all()
    near = nearest_balanced(W, chain, rank)
    assert np.linalg.norm(near - W) < np.linalg.norm(end - W) - 1e-8
    assert np.linalg.norm(near - end) > 1e-4


def test_balancing_flow_is_steepest_descent_in_the_fibre():
    """Its rate is minus the projection of W to all V that leave X as it is."""
    widths, step = (4, 3, 5), 1e-4
    chain, start = chain_of(widths), start_of((4, 3, 5), 3)
    W = chain.gathered(start)
    flow = balancing_flow(start, [0, step, 2 * step], tolerance=1e-13)
    now, before, after = (chain.gathered([x[k] for x in flow.layers]) for k in range(3))
    np.testing.assert_allclose(now, W, atol=1e-14)
    rate = (4 * before - after - 3 * W) / (2 * step)
    (first, second), rows = chain.layers(W), []
    for unit in np.eye(chain.array_shape[0]):
        v, w = chain.layers(unit)
        rows.append((w @ first + second @ v).ravel())
    across = np.linalg.lstsq(np.array(rows).T, np.array(rows).T @ W, rcond=None)[0]
    np.testing.assert_allclose(rate, across - W, atol=1e-6)


def test_one_wide_layer_and_single_precision():
    start = [normal(3, 5).astype(np.float32)]
    (layer,) = balancing_flow(start, [0.0, 1.0]).layers
    np.testing.assert_array_equal(layer, np.stack([start[0]] * 2))
    _, gradient = completion((3, 5))
    flow = flow_of_layers(start, gradient, [0.0, 1.0])
    assert {flow.points.dtype, flow.layers[0].dtype} == {np.dtype(np.float32)}
    assert flow.imbalances == ()
    mixed = flow_of_layers([normal(2, 5).astype(np.float32), normal(3, 2)], gradient, [0.0])
    assert mixed.points.dtype == float


@pytest.mark.parametrize("follow", [balancing_flow, flow_of_layers], ids=lambda f: f.__name__)
def test_layers_that_do_not_fit_are_named(follow):
    rest = () if follow is balancing_flow else (lambda X: X,)
    for layers, message in (
        ([np.ones((3, 4)), np.ones((5, 2))], r"layers\[1\] has shape \(5, 2\).*3 columns"),
        ([np.ones((3, 4)), np.ones((5, 3)) * np.nan], r"layers\[1\] is not finite"),
        ([np.ones((3, 4)), np.ones(3)], r"layers\[1\] has shape \(3,\)"),
        ([], "layers has no matrices"),
        (np.ones(27), r"layers has shape \(27,\).*space.layers\(W\)"),
    ):
        with pytest.raises(InvalidPointError, match=message):
            follow(layers, *rest, [0.0, 1.0])


@pytest.mark.parametrize("rank", [1, 3, 4])
def test_another_rank_than_that_of_the_point_is_refused(rank):
    X = normal(4, 2) @ normal(2, 3)
    with pytest.raises(InvalidPointError, match=f"has not rank {rank}"):
        flow_of_point(X, 2, lambda X: X, [0.0, 1.0], rank=rank)


def test_public_names():
    assert sorted(dynamics.__all__) == dynamics.__all__
    for name in dynamics.__all__:
        assert getattr(dynamics, name).__module__.startswith("dln_manifolds.dynamics.")


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_gradients_that_are_not_finite_at_the_start(wrong):
    layers = [np.ones((3, 4)), np.ones((5, 3))]
    with pytest.raises(ValueError, match=f"not finite where the flow starts: {wrong}"):
        flow_of_layers(layers, lambda X: np.full_like(X, wrong), [0.0, 1.0])
    with pytest.raises(ValueError, match="not finite where the flow starts"):
        flow_of_point(np.ones((5, 4)), 2, lambda X: np.full_like(X, wrong), [0.0, 1.0], rank=1)
