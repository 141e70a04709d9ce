"""Batches: numpy broadcasting of the batch axes, equal to looping over the members."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from dln_manifolds import DLNObservableManifold

SPACE = DLNObservableManifold(3, 4)
METRIC = SPACE.metric
TIMES = np.array([0.0, 0.4, 1.0])

# Functions of arguments of the given kinds: points, short or other vectors.
FUNCTIONS = {
    "inner_product": (METRIC.inner_product, "vvp"),
    "inner_coproduct": (METRIC.inner_coproduct, "vvp"),
    "squared_norm": (METRIC.squared_norm, "vp"),
    "norm": (METRIC.norm, "vp"),
    "normalize": (METRIC.normalize, "vp"),
    "exp": (METRIC.exp, "vp"),
    "log": (METRIC.log, "pp"),
    "dist": (METRIC.dist, "pp"),
    "squared_dist": (METRIC.squared_dist, "pp"),
    "geodesic between points": (lambda a, b: METRIC.geodesic(a, end_point=b)(TIMES), "pp"),
    "geodesic with a velocity": (
        lambda v, a: METRIC.geodesic(a, initial_tangent_vec=v)(TIMES),
        "vp",
    ),
    "solve_exp": (lambda v, a: METRIC.solve_exp(v, a).end_point, "vp"),
    "solve_log": (lambda b, a: METRIC.solve_log(b, a).initial_velocity, "pp"),
    "solution of exp": (lambda v, a: METRIC.solve_exp(v, a)(TIMES), "vp"),
    "solution of log": (lambda b, a: METRIC.solve_log(b, a)(TIMES), "pp"),
    "jacobi_field": (METRIC.jacobi_field, "vvp"),
    "exp_inverse": (METRIC.exp_inverse, "vvp"),
    "conjugate_time": (lambda v, a: 1 / METRIC.conjugate_time(v, a), "vp"),
    "metric_matrix": (METRIC.metric_matrix, "p"),
    "cometric_matrix": (METRIC.cometric_matrix, "p"),
    "log_volume_density": (METRIC.log_volume_density, "p"),
    "volume_density": (METRIC.volume_density, "p"),
    "injectivity_radius": (METRIC.injectivity_radius, "p"),
    "space.entropy": (SPACE.entropy, "p"),
    "space.entropy_gradient": (SPACE.entropy_gradient, "p"),
    "space.volume_density": (SPACE.volume_density, "p"),
    "space.regularize": (SPACE.regularize, "p"),
    "space.projection onto the manifold": (SPACE.projection, "v"),
    "space.projection onto the tangent space": (lambda v, a: SPACE.projection(a, v), "vp"),
    "space.to_tangent": (SPACE.to_tangent, "vp"),
    "space.belongs": (SPACE.belongs, "p"),
    "space.is_tangent": (SPACE.is_tangent, "vp"),
}
# Ladders of several exps and logs, tried in fewer patterns.
TRANSPORTS = {
    "along a direction": (lambda v, a, d: METRIC.parallel_transport(v, a, direction=d), "vpv"),
    "to a point": (lambda v, a, b: METRIC.parallel_transport(v, a, end_point=b), "vpp"),
}
SINGLE = [name for name, (_, kinds) in FUNCTIONS.items() if len(kinds) == 1]
SEVERAL = [name for name in FUNCTIONS if name not in SINGLE]

# Batch shapes of the first and the other arguments.
PATTERNS = {
    "one-one": ((), ()),
    "n-one": ((2,), ()),
    "one-n": ((), (2,)),
    "n-n": ((2,), (2,)),
    "n-(1,)": ((2,), (1,)),
    "(1,)-n": ((1,), (2,)),
    "(1,)-one": ((1,), ()),
    "one-(1,)": ((), (1,)),
    "two axes": ((2, 1), (2,)),
    "two axes-one": ((2, 2), ()),
    "one-two axes": ((), (2, 2)),
}


def draw(kind, batch):
    """Return points near the identity, or vectors, of a batch shape."""
    if kind == "v":
        return 0.1 * np.random.normal(size=(*batch, 3, 3))
    return np.eye(3) + 0.15 * np.random.normal(size=(*batch, 3, 3))


def loop(function, arguments):
    """Apply a function to every member on its own."""
    batch = np.broadcast_shapes(*(argument.shape[:-2] for argument in arguments))
    whole = [np.broadcast_to(argument, (*batch, 3, 3)) for argument in arguments]
    results = [function(*(a[index] for a in whole)) for index in np.ndindex(*batch)]
    return np.reshape(results, (*batch, *np.shape(results[0])))


def check(function, arguments):
    actual, expected = function(*arguments), loop(function, arguments)
    assert np.shape(actual) == expected.shape
    if expected.dtype == bool:
        assert_array_equal(actual, expected)
    else:
        assert_allclose(actual, expected, rtol=0, atol=1e-11 * np.abs(expected).max())


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("name", SEVERAL)
def test_batch_equals_loop(name, pattern):
    function, kinds = FUNCTIONS[name]
    first, others = PATTERNS[pattern]
    arguments = [draw(kinds[0], first), *(draw(kind, others) for kind in kinds[1:])]
    check(function, arguments)


@pytest.mark.parametrize("pattern", ["n-one", "one-n", "n-(1,)", "two axes"])
@pytest.mark.parametrize("name", TRANSPORTS)
def test_batch_of_parallel_transports_equals_loop(name, pattern):
    function, kinds = TRANSPORTS[name]
    first, others = PATTERNS[pattern]
    arguments = [draw(kinds[0], first), *(draw(kind, others) for kind in kinds[1:])]
    check(function, arguments)


@pytest.mark.parametrize("batch", [(), (1,), (3,), (2, 1), (2, 2)], ids=str)
@pytest.mark.parametrize("name", SINGLE)
def test_batch_of_a_single_argument_equals_loop(name, batch):
    function, kinds = FUNCTIONS[name]
    check(function, [draw(kinds, batch)])


@pytest.mark.parametrize("name", ["inner_product", "inner_coproduct"])
def test_batch_of_the_second_vector_only(name):
    function = FUNCTIONS[name][0]
    check(function, [draw("v", ()), draw("v", (3,)), draw("p", ())])


@pytest.mark.parametrize("batch", [(), (1,), (3,), (2, 2)], ids=str)
@pytest.mark.parametrize("name", ["random_tangent_vec", "random_unit_tangent_vec"])
def test_random_vectors_take_the_batch_of_their_base_points(name, batch):
    owner = METRIC if "unit" in name else SPACE
    assert getattr(owner, name)(draw("p", batch)).shape == (*batch, 3, 3)


def test_random_tangent_vec_gives_every_base_point_its_own():
    vectors = SPACE.random_tangent_vec(np.stack([np.eye(3)] * 2))
    assert np.abs(vectors[0] - vectors[1]).max() > 0.1


def test_random_tangent_vec_of_several_samples_at_one_point():
    assert SPACE.random_tangent_vec(SPACE.random_point(), 4).shape == (4, 3, 3)


def test_random_tangent_vec_of_as_many_samples_as_base_points():
    assert SPACE.random_tangent_vec(SPACE.random_point(4), 4).shape == (4, 3, 3)


def test_random_tangent_vec_refuses_numbers_that_differ():
    with pytest.raises(ValueError, match="3 vectors"):
        SPACE.random_tangent_vec(SPACE.random_point(4), 3)


def test_random_unit_tangent_vec_refuses_several_vectors_at_several_points():
    with pytest.raises(ValueError, match="single base point"):
        METRIC.random_unit_tangent_vec(SPACE.random_point(4), 4)


@pytest.mark.parametrize("name", ["exp", "log"])
def test_members_of_a_batch_do_not_depend_on_each_other(name):
    # An easy geodesic beside a hard one: each keeps its own steps.
    function, kinds = FUNCTIONS[name]
    arguments = [draw(kind, (3,)) for kind in kinds]
    alone = function(*(a[:1] for a in arguments))
    hard = [a.copy() for a in arguments]
    hard[0][1:] *= 30 if kinds[0] == "p" else -5
    assert_allclose(function(*hard)[0], alone[0], rtol=0, atol=1e-12 * np.abs(alone).max())


def test_hundred_logs_in_one_call():
    X, Y = SPACE.random_point(200).reshape(2, 100, 3, 3)
    ends = METRIC.exp(METRIC.log(Y, X), X)
    error = np.linalg.norm(ends - Y, axis=(-2, -1)) / np.linalg.norm(Y, axis=(-2, -1))
    assert error.max() <= 1e-10


def test_random_point_of_one_sample_is_not_batched():
    assert SPACE.random_point(1).shape == (3, 3)
