"""Radial velocities; the other closed forms against geodesics: ``tests/geodesics/test_log.py``."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from spectral_matrices import matrices

from dln_manifolds.geometry.balancing import factor
from dln_manifolds.geometry.closed_forms import radial_rate
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.metric import pull_from_root, root_of

RATES = np.array([-7.0, -1 / 3, 0.0, 1e-5, 2.0])


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (4, 2, 2), (5,)])
def test_multiples_of_the_point_are_radial(shape, scale):
    x = np.random.default_rng(len(shape)).normal(size=(len(RATES), *shape))
    v = np.reshape(RATES, (-1, *(1,) * len(shape))) * x
    rate, radial = radial_rate(scale * x, scale * v)
    assert radial.all()
    assert_allclose(rate, RATES, rtol=1e-14, atol=0)


@pytest.mark.parametrize("shape", [(3, 3), (4, 2, 2)])
def test_others_are_not_radial(shape):
    x, other = np.random.default_rng(0).normal(size=(2, 20, *shape))
    size = np.abs(x).reshape(20, -1).max(axis=1).reshape(-1, *(1,) * len(shape))
    _, radial = radial_rate(x, x + 1e-13 * size * np.sign(other))
    assert not radial.any()
    assert not radial_rate(x, other)[1].any()


@pytest.mark.parametrize("depth", [1.5, 4])
def test_velocities_c_x_have_the_rate_c_over_n_in_the_root_chart(depth):
    X = matrices("random", 3, 4)
    frame = Frame.of_point(X, depth)
    rate, radial = radial_rate(X, pull_from_root(frame, root_of(frame)))
    # to first order (1 + t / N)^N X of (1 + t / N) T
    assert_allclose(rate, depth, rtol=1e-12)
    assert radial_rate(X, -2 * X)[1].all()
    W = factor(frame, 3)
    assert radial_rate(W, -W / 3)[1].all()
    assert radial.shape == (4,)
