"""Metric and cometric of end-to-end matrices, and the derivative of the cometric."""

import mpmath as mp
import numpy as np
import pytest
import scipy.linalg
import spectral_reference as ref
from spectral_matrices import matrices, rotation
from spectral_reference import DEPTHS, EPS, check

from dln_manifolds.geometry import metric as observable
from dln_manifolds.geometry.frame import Frame

DENSE = ["random", "identity", "pairs", "nearly pairs", "ill", "quite ill", "very ill", "ill pairs"]
REPEATED = ["identity", "scaled orthogonal", "pairs", "triple"]
NEARLY = ["gap 1e-15", "gap 1e-9", "gap 1e-3", "ladder", "midway"]


def normal(shape, seed=0):
    return np.random.default_rng([*shape, seed]).standard_normal(shape)


def dense_errors(x, z, cometric, metric, depth):
    """Relative errors of everything that is read off a frame, given A_X(Z) and A_X^{-1}(Z)."""
    frame = Frame.of_point(x, depth)
    exact = ref.matrix(z)
    coproduct, product = ref.inner(exact, cometric), ref.inner(exact, metric)
    return {
        "apply_cometric": ref.matrix_error(observable.apply_cometric(frame, z), cometric),
        "apply_metric": ref.matrix_error(observable.apply_metric(frame, z), metric),
        "inner_coproduct": abs(observable.inner_coproduct(frame, z, z) / float(coproduct) - 1),
        "inner_product": abs(observable.inner_product(frame, z, z) / float(product) - 1),
    }


@pytest.mark.parametrize("depth", [2, 3, 10])
@pytest.mark.parametrize("n", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("kind", DENSE)
def test_dense_matrices_against_the_literal_sum(kind, n, depth):
    x, z = matrices(kind, n)[0], normal((n, n))
    with mp.workdps(80):
        operator = ref.literal_cometric(ref.matrix(x), depth)
        exact = ref.vector(ref.matrix(z))
        cometric = ref.unvector(operator * exact, n)
        metric = ref.unvector(mp.lu_solve(operator, exact), n)
    for name, error in dense_errors(x, z, cometric, metric, depth).items():
        check(error, 100 * EPS * np.linalg.cond(x), lambda _, name=name: name)


@pytest.mark.parametrize("depth", [1, 1.5, 2.5, 100])
@pytest.mark.parametrize("n", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("kind", DENSE)
def test_dense_matrices_at_real_depths(kind, n, depth):
    x, z = matrices(kind, n)[0], normal((n, n))
    with mp.workdps(120):
        arguments = ref.matrix(x), ref.matrix(z), mp.mpf(depth)
        cometric, metric = ref.cometric(*arguments), ref.metric(*arguments)
    for name, error in dense_errors(x, z, cometric, metric, depth).items():
        check(error, 100 * EPS * np.linalg.cond(x), lambda _, name=name: name)


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_cometric_is_the_sum_over_layers(n, depth):
    x, p = matrices("separate", n)[0], normal((n, n))
    wanted = np.zeros((n, n))
    for layer in range(1, depth + 1):
        left = scipy.linalg.fractional_matrix_power(x @ x.T, (depth - layer) / depth)
        right = scipy.linalg.fractional_matrix_power(x.T @ x, (layer - 1) / depth)
        wanted += left @ p @ right
    got = observable.apply_cometric(Frame.of_point(x, depth), p)
    check(np.linalg.norm(got - wanted) / np.linalg.norm(wanted), 1e-13)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("kind", DENSE)
def test_metric_and_cometric_are_inverse(kind, depth):
    x, z = matrices(kind, 4)[0], normal((4, 4))
    frame = Frame.of_point(x, depth)
    back = observable.apply_cometric(frame, observable.apply_metric(frame, z))
    # in the frame, entry by entry, so conditioning does not enter before the frame is left
    loss = frame.a.max() / frame.a.min()
    check(np.linalg.norm(back - z) / np.linalg.norm(z), 16 * EPS * loss)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("n", [1, 2, 5])
def test_matrices_of_the_metric(n, depth):
    x = matrices("separate", n)[0]
    z, y = normal((2, n, n))
    frame = Frame.of_point(x, depth)
    metric = observable.operator_matrix(frame, 1 / frame.a)
    cometric = observable.operator_matrix(frame, frame.a)
    check(abs(cometric - cometric.T), 8 * EPS * abs(cometric).max())
    scale = np.linalg.norm(metric) * np.linalg.norm(cometric)
    check(np.linalg.norm(metric @ cometric - np.eye(n * n)), 16 * EPS * scale)
    product = observable.inner_product(frame, z, y)
    check(abs(z.ravel() @ metric @ y.ravel() - product), 100 * EPS * np.linalg.norm(metric))
    coproduct = observable.inner_coproduct(frame, z, y)
    check(abs(z.ravel() @ cometric @ y.ravel() - coproduct), 100 * EPS * np.linalg.norm(cometric))


def squared_norm(x, z, depth):
    return observable.inner_product(Frame.of_point(x, depth), z, z)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("kind", ["random", "pairs", "nearly pairs", "ill"])
def test_metric_is_invariant_under_rotations_and_transposition(kind, depth):
    x, z = matrices(kind, 4)[0], normal((4, 4))
    left, right = rotation(4, 10), rotation(4, 11)
    wanted = squared_norm(x, z, depth)
    for name, got in {
        "rotated": squared_norm(left @ x @ right, left @ z @ right, depth),
        "transposed": squared_norm(x.T, z.T, depth),
    }.items():
        check(abs(got / wanted - 1), 100 * EPS * np.linalg.cond(x), lambda _, name=name: name)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("factor", [1e-100, 1e-3, 1e100])
def test_metric_is_homogeneous(factor, depth):
    # W -> c W multiplies lengths by c and X by c^N
    x, z = matrices("random", 4)[0], normal((4, 4))
    got = squared_norm(factor * x, factor * z, depth) / squared_norm(x, z, depth)
    check(abs(got / factor ** (2 / depth) - 1), 100 * EPS * np.linalg.cond(x))


@pytest.mark.parametrize("depth", DEPTHS)
def test_inner_products_are_symmetric_and_bilinear(depth):
    frame = Frame.of_point(matrices("random", 4)[0], depth)
    x, y, z = normal((3, 4, 4))
    for product in (observable.inner_product, observable.inner_coproduct):
        size = np.sqrt(product(frame, 2 * x + y, 2 * x + y) * product(frame, z, z))
        combined = 2 * product(frame, x, z) + product(frame, y, z)
        check(abs(product(frame, 2 * x + y, z) - combined), 100 * EPS * size)
        assert product(frame, x, z) == product(frame, z, x)
        check(abs(product(frame, x, x) - product(frame, x, x.copy())), 4 * EPS * size)


# The derivative of the cometric


@pytest.mark.parametrize("depth", [1, 1.5, 2, 3, 10, 100])
@pytest.mark.parametrize("kind", ["random", "separate", *REPEATED, *NEARLY, "ill"])
def test_derivative_of_the_cometric(kind, depth):
    x = matrices(kind, 3)[0]
    z, p = normal((2, 3, 3))
    with mp.workdps(120):
        covector, last = ref.matrix(p), mp.mpf(depth)
        wanted = ref.derivative(
            lambda y: ref.cometric(y, covector, last), ref.matrix(x), ref.matrix(z)
        )
        size = float(ref.norm(wanted)) if depth > 1 else np.linalg.norm(z) * np.linalg.norm(p)
    got = observable.CometricDerivative(Frame.of_point(x, depth)).along(z, p)
    with mp.workdps(120):
        error = float(ref.norm(ref.matrix(got) - wanted))
    check(error / size, 100 * EPS * (np.linalg.cond(x) + depth))


@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("kind", ["random", "identity", "pairs", "gap 1e-9"])
def test_derivative_of_the_literal_sum(kind, depth):
    x = matrices(kind, 3)[0]
    z, p = normal((2, 3, 3))
    with mp.workdps(120):
        derivative = ref.derivative(
            lambda y: ref.literal_cometric(y, depth), ref.matrix(x), ref.matrix(z)
        )
        wanted = ref.unvector(derivative * ref.vector(ref.matrix(p)), 3)
    got = observable.CometricDerivative(Frame.of_point(x, depth)).along(z, p)
    check(ref.matrix_error(got, wanted), 100 * EPS * np.linalg.cond(x))


@pytest.mark.parametrize("depth", [1.5, 2, 3, 10, 100])
@pytest.mark.parametrize("kind", ["random", *REPEATED, *NEARLY, "ill"])
@pytest.mark.parametrize("n", [2, 5])
def test_gradient_is_the_adjoint_of_along(kind, n, depth):
    x = matrices(kind, n)[0]
    derivative = observable.CometricDerivative(Frame.of_point(x, depth))
    directions, (p, q) = normal((20, n, n)), normal((2, n, n), 1)
    gradient = derivative.gradient(p, q)
    got = np.sum(gradient * directions, axis=(-2, -1))
    wanted = np.sum(p * derivative.along(directions, q), axis=(-2, -1))
    size = np.linalg.norm(gradient) * np.linalg.norm(directions, axis=(-2, -1))
    check(abs(got - wanted), 100 * EPS * (np.linalg.cond(x) + depth) * size)


@pytest.mark.parametrize("depth", [1.5, 3, 10])
@pytest.mark.parametrize("kind", ["random", "pairs", "nearly pairs", "ill"])
def test_gradient_is_symmetric_in_its_covectors(kind, depth):
    derivative = observable.CometricDerivative(Frame.of_point(matrices(kind, 4)[0], depth))
    p, q = normal((2, 4, 4))
    first, second = derivative.gradient(p, q), derivative.gradient(q, p)
    check(np.linalg.norm(first - second), 100 * EPS * np.linalg.norm(first))


@pytest.mark.parametrize("n", [1, 2, 4])
def test_places_of_index_triples(n):
    triples, place = observable.index_triples(n)
    assert len(triples) == n * (n + 1) * (n + 2) // 6
    wanted = np.sort(np.stack(np.indices((n, n, n)), axis=-1), axis=-1)
    assert np.array_equal(triples[place], wanted)
