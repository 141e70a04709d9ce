"""How layers of any widths and rank bend: second fundamental form, O'Neill's tensor."""

import numpy as np
import pytest
from dense_layers import (
    NETWORKS,
    acceleration,
    bases_from,
    case,
    curve_through,
    dense_bases,
    name_of,
    vector,
    velocity,
)
from numpy.testing import assert_allclose

from dln_manifolds import BalancedManifold
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.second_fundamental_form import (
    bending_derivative,
    second_fundamental_form,
    weingarten,
)

networks = pytest.mark.parametrize("network", NETWORKS, ids=name_of)
kinds = pytest.mark.parametrize("kind", ["generic", "1e-9 apart", "all equal"])
H = 1e-3


@pytest.fixture(params=NETWORKS, ids=name_of)
def setting(request, kind):
    """Return a space, a point as a list of layers, and the same as an array."""
    widths, rank = request.param
    space = BalancedManifold(widths=widths, rank=rank)
    layers = case(request.param, kind)
    return space, layers, space.point(layers)


def frame_of(space, W):
    return Frame.of_layers(W, space.stratum.chain, space.rank)


def bending(space, a, b, W):
    """Return the second fundamental form."""
    return second_fundamental_form(frame_of(space, W), a, b)


def derivative(function):
    """Differentiate a function of a number at zero, with an error of fourth order."""
    near, far = ((function(k * H) - function(-k * H)) / k for k in (1, 2))
    return (4 * near - far) / (6 * H)


def inner(a, b):
    return np.sum(a * b)


@kinds
def test_second_fundamental_form_against_second_derivatives_of_curves(setting):
    space, layers, W = setting
    U, V = space.random_tangent_vec(W, 2)
    bases, (_, _, normal) = bases_from(layers)[0], dense_bases(layers)

    def expected(vec):
        motion = curve_through(layers, vec.ravel())
        assert_allclose(vector(velocity(layers, bases, *motion)), vec.ravel(), rtol=0, atol=1e-12)
        return normal @ (normal.T @ vector(acceleration(layers, bases, *motion)))

    found = [bending(space, vec, vec, W).ravel() for vec in (U, V)]
    for image, vec in zip(found, (U, V), strict=True):
        assert_allclose(image, expected(vec), rtol=0, atol=1e-11)
    mixed = (expected(U + V) - expected(U - V)) / 4
    assert_allclose(bending(space, U, V, W).ravel(), mixed, rtol=0, atol=1e-11)


@kinds
def test_second_fundamental_form_is_symmetric_and_normal(setting):
    space, _, W = setting
    U, V = space.random_tangent_vec(W, 2)
    image = bending(space, U, V, W)
    assert_allclose(image, bending(space, V, U, W), rtol=0, atol=1e-13)
    assert_allclose(space.normal_projection(image, W), image, rtol=0, atol=1e-13)
    # the manifold is a cone: rays through the tip are straight
    assert_allclose(bending(space, W, V, W), 0, rtol=0, atol=1e-13)


@kinds
def test_weingarten_map_is_the_transpose(setting):
    space, _, W = setting
    normal = space.normal_projection(np.random.normal(size=W.shape), W)
    basis = space.jacobi_basis(W)
    tangent = np.concatenate([basis.horizontal, basis.vertical])
    frame = frame_of(space, W).beside()
    images = weingarten(frame, tangent, normal)
    assert_allclose(space.to_tangent(images, W), images, rtol=0, atol=1e-12)
    bent = second_fundamental_form(frame_of(space, W).beside().beside(), tangent[:, None], tangent)
    flat = [x.reshape(*x.shape[: x.ndim - W.ndim], -1) for x in (images, tangent, bent)]
    matrix = flat[0] @ flat[1].T
    assert_allclose(matrix, flat[2] @ normal.ravel(), rtol=0, atol=1e-12)
    assert_allclose(matrix, matrix.T, rtol=0, atol=1e-12)
    # pymanopt's, of one vector; tangent parts of the last argument do not count
    single = space.weingarten(W, tangent[0], normal + tangent[-1])
    assert_allclose(single, images[0], rtol=0, atol=1e-12)


@networks
def test_weingarten_map_against_differences_of_normal_fields(network):
    space = BalancedManifold(widths=network[0], rank=network[1])
    W = space.random_point()
    V, ambient = space.random_tangent_vector(W), np.random.normal(size=W.shape)
    normal = space.normal_projection(ambient, W)
    turned = derivative(lambda t: space.normal_projection(normal, space.retraction(W, t * V)))
    expected = -space.to_tangent(turned, W)
    assert_allclose(space.weingarten(W, V, normal), expected, rtol=0, atol=1e-8)


@networks
def test_derivative_of_the_second_fundamental_form(network):
    space = BalancedManifold(widths=network[0], rank=network[1])
    W = space.random_point()
    direction = space.random_tangent_vector(W)
    first, second = np.random.normal(size=(2, *W.shape))

    def point(t):
        return space.retraction(W, t * direction)

    def field(t):
        return space.to_tangent(first + t * second, point(t))

    expected = derivative(lambda t: bending(space, field(t), field(t), point(t)))
    found = bending_derivative(frame_of(space, W), field(0.0), direction, derivative(field))
    assert_allclose(found, expected, rtol=0, atol=1e-8)


@kinds
def test_integrability_tensor_against_its_definition(setting):
    space, _, W = setting
    E, f = space.random_tangent_vec(W), np.random.normal(size=W.shape)
    X = space.horizontal_projection(E, W)
    X /= np.linalg.norm(X)
    hor, ver = space.horizontal_projection, space.vertical_projection

    def along(part):
        return derivative(lambda t: part(f, space.retraction(W, t * X)))

    expected = ver(along(hor), W) + hor(along(ver), W)
    # the vertical part of the first argument does not count
    first = X + ver(E, W)
    found = space.fiber_bundle.integrability_tensor(first, space.to_tangent(f, W), W)
    assert_allclose(found, expected, rtol=0, atol=1e-8)


@networks
def test_integrability_tensor_is_half_the_vertical_part_of_brackets(network):
    space = BalancedManifold(widths=network[0], rank=network[1])
    W = space.random_point()
    Z = np.random.normal(size=(2, *space.stratum.shape)) / 4
    fields = [lambda point, z=z: space.horizontal_lift(z, point) for z in Z]
    X, Y = (field(W) for field in fields)

    def along(field, direction):
        return derivative(lambda t: field(space.retraction(W, t * direction)))

    bracket = along(fields[1], X) - along(fields[0], Y)
    expected = space.vertical_projection(bracket, W) / 2
    found = space.fiber_bundle.integrability_tensor(X, Y, W)
    assert_allclose(found, expected, rtol=0, atol=1e-8)


@kinds
def test_integrability_tensor_is_skew_and_swaps_the_sectors(setting):
    space, _, W = setting
    E, F, G = space.random_tangent_vec(W, 3)
    tensor = space.fiber_bundle.integrability_tensor
    assert abs(inner(tensor(E, F, W), G) + inner(F, tensor(E, G, W))) <= 1e-12
    X, Y = (space.horizontal_projection(vec, W) for vec in (E, F))
    assert_allclose(tensor(X, Y, W), -tensor(Y, X, W), rtol=0, atol=1e-12)
    K = space.vertical_projection(F, W)
    for image, part in ((tensor(X, Y, W), "vertical"), (tensor(X, K, W), "horizontal")):
        kept = getattr(space, f"{part}_projection")(image, W)
        assert_allclose(kept, image, rtol=0, atol=1e-12)
    assert_allclose(tensor(K, F, W), 0, rtol=0, atol=1e-13)


@networks
def test_bends_of_a_batch_are_those_of_its_members(network):
    space = BalancedManifold(widths=network[0], rank=network[1])
    W = space.random_point(3)
    U, V = (space.random_tangent_vec(W) for _ in range(2))
    batch = bending(space, U, V, W), space.fiber_bundle.integrability_tensor(U, V, W)
    for k in range(3):
        alone = (
            bending(space, U[k], V[k], W[k]),
            space.fiber_bundle.integrability_tensor(U[k], V[k], W[k]),
        )
        for whole, single in zip(batch, alone, strict=True):
            assert_allclose(whole[k], single, rtol=0, atol=1e-12)
