"""Second derivatives of the entropy: against mpmath, also at equal singular values."""

import mpmath as mp
import numpy as np
import pytest
import spectral_reference as ref
from spectral_matrices import matrices
from spectral_reference import EPS, check

from dln_manifolds.geometry import coefficients
from dln_manifolds.geometry import entropy as volume
from dln_manifolds.geometry.frame import Frame

KINDS = [
    "random",
    "identity",
    "pairs",
    "triple",
    "nearly pairs",
    "gap 1e-6",
    "gap 1e-3",
    "midway",
    "ill",
    "quite ill",
]


@pytest.mark.parametrize("depth", [1, 1.5, 2, 10, 100])
def test_second_derivative_of_the_coefficient(depth):
    tau = np.concatenate([[0.0], np.geomspace(1e-12, 300, 60)])
    tau = np.concatenate([-tau, tau])

    def exact(t, depth):
        if t == 0:
            return (1 - 1 / depth**2) / 3
        return 1 / (depth * mp.sinh(t / depth)) ** 2 - 1 / mp.sinh(t) ** 2

    wanted = ref.table(exact, tau, depth=depth)
    # up to 1/N^2 the two terms cancel where N is close to 1
    scale = wanted if depth > 1 else np.ones_like(tau)
    ref.check_table(coefficients.log_a_second_derivative(tau, depth), wanted, 100 * EPS, scale)


def differential(depth):
    """Return the map ``X -> U diag(dS/ds_i) V^T`` of matrices of mpmath numbers."""

    def value(x):
        left, s, right_t = ref.svd(x)
        slopes = [
            sum(ref.log_a_derivative(s_i, s_j, depth) for j, s_j in enumerate(s) if j != i)
            / (2 * s_i)
            for i, s_i in enumerate(s)
        ]
        return left * mp.diag(slopes) * right_t

    return value


@pytest.mark.parametrize("depth", [1.5, 2, 10])
@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_derivatives_of_dense_matrices(kind, n, depth):
    x = matrices(kind, n)[0]
    z = np.random.default_rng(7).standard_normal((n, n)) * np.linalg.svd(x)[1][-1]
    frame = Frame.of_point(x, depth)
    with mp.workdps(120):
        function = differential(mp.mpf(depth))
        first = function(ref.matrix(x))
        second = ref.derivative(function, ref.matrix(x), ref.matrix(z))
    bound = 200 * EPS * np.linalg.cond(x)
    check(ref.matrix_error(volume.entropy_differential(frame), first), bound)
    check(ref.matrix_error(volume.EntropyHessian(frame).apply(z), second), bound)


def test_hessian_is_symmetric_and_batched():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 5, 5))
    x[1] = np.eye(5)
    y, z = rng.standard_normal((2, 3, 5, 5))
    hessian = volume.EntropyHessian(Frame.of_point(x, 3))
    a = np.sum(hessian.apply(y) * z, axis=(-2, -1))
    b = np.sum(y * hessian.apply(z), axis=(-2, -1))
    np.testing.assert_allclose(a, b, rtol=1e-12)
    for k in range(3):
        one = volume.EntropyHessian(Frame.of_point(x[k], 3)).apply(y[k])
        np.testing.assert_allclose(hessian.apply(y)[k], one, rtol=0, atol=1e-12 * abs(one).max())


@pytest.mark.parametrize("depth", [1, 2, 7.5])
def test_euler_identities(depth):
    # S(c X) = S(X) + (1 - 1/N) n (n-1)/2 log c, so dS[X] is constant and D^2 S[X] = -dS
    x = np.random.default_rng(1).standard_normal((4, 4))
    frame = Frame.of_point(x, depth)
    slope = volume.entropy_differential(frame)
    assert np.sum(slope * x) == pytest.approx((1 - 1 / depth) * 6, abs=1e-12)
    image = volume.EntropyHessian(frame).apply(x)
    np.testing.assert_allclose(image, -slope, rtol=0, atol=1e-12 * (1 + abs(slope).max()))
