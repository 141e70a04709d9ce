"""Layers in lists: apart, together, and group elements of several sizes, with derivatives."""

import geomstats.backend as gs
import numpy as np
import pytest
from check_derivatives import ON_TORCH, TOLERANCE, gradients, slope

from dln_manifolds import BalancedManifold, InvalidPointError

SPACES = [
    BalancedManifold(widths=(3, 2, 3)),
    BalancedManifold(widths=(2, 4, 3, 2), rank=1),
    BalancedManifold(widths=(3, 4)),
    BalancedManifold(2, 3),
]
each = pytest.mark.parametrize("space", SPACES, ids=str)


def numbers(*shape):
    return np.random.default_rng([*shape]).normal(size=shape)


def constant(array):
    return gs.array(array) if ON_TORCH else array


def differences(function, arguments, directions):
    """Derivative along directions of all arguments at once."""
    return slope(
        lambda t: [
            float(function(*(x + s * d for x, d in zip(arguments, directions, strict=True))))
            for s in t
        ]
    )


def compare(function, *arguments):
    """Compare gradients with differences."""
    found = gradients(function, *arguments)
    directions = [numbers(*x.shape, 7)[..., 0] for x in arguments]
    got = sum(np.sum(x * d) for x, d in zip(found, directions, strict=True))
    expected = differences(
        lambda *given: np.asarray(function(*map(constant, given))), arguments, directions
    )
    assert abs(got - expected) <= TOLERANCE * max(1.0, abs(expected))
    return found


@each
def test_apart(space, record):
    weights = [numbers(*w.shape) for w in space.layers(np.zeros(space.shape))]

    def value(point):
        parts = space.layers(point)
        return sum(gs.sum(constant(c) * w**2) for c, w in zip(weights, parts, strict=True))

    for batch in ((), (2,)):
        (found,) = compare(value, numbers(*batch, *space.shape))
        record(f"apart, batch {batch}", found)


@each
def test_together(space, record):
    weights, shapes = numbers(3, *space.shape), space.stratum.chain.shapes

    def value(*layers):
        return gs.sum(constant(weights) * space.point(list(layers)) ** 2)

    # one layer of all, many of others
    layers = [numbers(*([3] if k else []), *shape) for k, shape in enumerate(shapes)]
    for k, gradient in enumerate(compare(value, *layers)):
        record(f"layer {k}", gradient)

    def last(layer):
        frozen = [np.asarray(x) for x in layers[:-1]]
        return gs.sum(constant(weights) * space.point([*frozen, layer]) ** 2)

    compare(last, layers[-1])


@each
def test_there_and_back(space, array_type):
    point = space.random_point(2)
    layers = space.layers(point)
    assert all(isinstance(layer, array_type) for layer in layers)
    back = space.point(list(layers))
    assert np.array_equal(np.asarray(back), np.asarray(point))


@pytest.mark.parametrize("widths", [(3, 2, 3), (2, 4, 3, 2), (1, 2, 2, 3)], ids=str)
def test_group_elements_in_a_list(widths, record):
    space = BalancedManifold(widths=widths, rank=1)
    point, weight = numbers(*space.shape), numbers(*space.shape, 2)[..., 0]
    turns = [np.linalg.qr(numbers(d, d))[0] for d in widths[1:-1]]
    skews = [numbers(d, d, 3)[..., 0] for d in widths[1:-1]]
    skews = [a - a.T for a in skews]

    def value(*arguments):
        return gs.sum(constant(weight) * space.act(list(arguments[:-1]), arguments[-1]))

    found = gradients(value, *turns, point)

    # along the group, by Cayley's map: its error is of third order and odd
    def moved(t):
        half = [0.5 * t * a for a in skews]
        return [
            np.linalg.solve(np.eye(len(a)) - a, np.eye(len(a)) + a) @ h
            for a, h in zip(half, turns, strict=True)
        ]

    expected = slope(lambda times: [np.sum(weight * space.act(moved(t), point)) for t in times])
    got = sum(np.sum(x * (a @ h)) for x, a, h in zip(found[:-1], skews, turns, strict=True))
    assert abs(got - expected) <= TOLERANCE * max(1.0, abs(expected))
    direction = numbers(*space.shape, 5)[..., 0]
    expected = np.sum(weight * space.act(turns, direction))
    assert abs(np.sum(found[-1] * direction) - expected) <= TOLERANCE
    # the same in one vector
    vector = np.concatenate([h.ravel() for h in turns])
    by_vector, by_point = gradients(
        lambda h, w: gs.sum(constant(weight) * space.act(h, w)), vector, point
    )
    whole = np.concatenate([x.ravel() for x in found[:-1]])
    assert np.abs(by_vector - whole).max() <= 1e-13
    assert np.abs(by_point - found[-1]).max() <= 1e-13
    record("by the group", by_vector)


@each
def test_balance_of_a_list(space):
    layers = [numbers(*shape) for shape in space.stratum.chain.shapes]
    weight = constant(numbers(*space.shape, 3)[..., 0])
    found = gradients(lambda *given: gs.sum(weight * space.balance(list(given))), *layers)
    (expected,) = gradients(
        lambda w: gs.sum(weight * space.balance(w)), np.asarray(space.point(layers))
    )
    for one, other in zip(found, space.layers(expected), strict=True):
        assert np.abs(one - np.asarray(other)).max() <= 1e-11


def test_lists_of_wrong_shapes_are_refused():
    space = BalancedManifold(widths=(3, 2, 3))
    with pytest.raises(InvalidPointError, match=r"layers\[1\] has shape"):
        gradients(lambda w: gs.sum(space.point([w, w])), numbers(2, 3))
    with pytest.raises(InvalidPointError, match="1 matrices"):
        gradients(lambda w: gs.sum(space.point([w])), numbers(2, 3))
    with pytest.raises(InvalidPointError, match="last axes must be"):
        gradients(lambda w: gs.sum(space.layers(w)[0]), numbers(3, 4))
