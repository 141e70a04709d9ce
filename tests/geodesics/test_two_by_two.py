"""2 x 2 matrices at depth 2 are a cone over (hemisphere of radius 1/2) x circle: a closed distance.

With ``tr = s_1 + s_2``, polar angles whose difference is Theta in (-pi, pi], and m the sum of the
angles of the left and right singular vectors, ``d^2 = 2 (tr + tr' - 2 sqrt(tr tr') cos theta)``,
``theta = sqrt(ang^2 + Theta^2) / 2``, ang between the unit vectors
``((s_1 - s_2) cos m, (s_1 - s_2) sin m, 2 sqrt(s_1 s_2)) / tr``; at ``theta >= pi`` through zero.
No solver and no formula of the package is in it.
"""

import numpy as np
from numpy.testing import assert_allclose

from dln_manifolds import DLNObservableManifold


def coordinates(x):
    """Return singular values and angles of ``X = R(a) diag(s) R(b)^T``, det X > 0."""
    left, s, right_t = np.linalg.svd(x)
    flip = np.where(np.linalg.det(left) < 0, -1.0, 1.0)
    left[..., 1] *= flip[:, None]
    right_t[:, 1] *= flip[:, None]
    a = np.arctan2(left[:, 1, 0], left[:, 0, 0])
    return s, a, np.arctan2(right_t[:, 0, 1], right_t[:, 0, 0])


def closed_distance(x, y):
    """Return the squared distance."""
    (s, a, b), (t, c, d) = coordinates(x), coordinates(y)
    difference = (a - b) - (c - d)
    turn = (difference + np.pi) % (2 * np.pi) - np.pi
    # The sum of angles follows where the difference was wrapped.
    wrapped = np.round((difference - turn) / (2 * np.pi))

    def unit(s, m):
        ring, total = s[:, 0] - s[:, 1], s.sum(axis=1)
        height = 2 * np.sqrt(s[:, 0] * s[:, 1])
        return np.stack([ring * np.cos(m), ring * np.sin(m), height]) / total

    p, q = unit(s, a + b), unit(t, c + d + 2 * np.pi * wrapped)
    angle = 2 * np.arctan2(np.linalg.norm(p - q, axis=0), np.linalg.norm(p + q, axis=0))
    link = 0.5 * np.hypot(angle, turn)
    sums = s.sum(axis=1), t.sum(axis=1)
    product = np.sqrt(sums[0] * sums[1]) * np.cos(np.minimum(link, np.pi))
    return 2 * (sums[0] + sums[1] - 2 * product)


def pairs(count):
    """Draw Gaussian pairs with det > 0."""
    both = np.random.default_rng(0).normal(size=(2, count, 2, 2))
    both[..., 0, :] *= np.sign(np.linalg.det(both))[..., None]
    return both


def test_logs_and_distances_of_a_thousand_pairs():
    x, y = pairs(1000)
    metric = DLNObservableManifold(n=2, depth=2).metric
    wanted = np.sqrt(closed_distance(x, y))
    assert_allclose(metric.dist(x, y), wanted, rtol=1e-11)
    # A geodesic of that length which ends in Y.
    velocity = metric.log(y, x)
    assert_allclose(metric.norm(velocity, x), wanted, rtol=1e-11)
    assert_allclose(metric.exp(velocity, x), y, rtol=0, atol=1e-11 * np.abs(y).max())
    # The other component is a reflection away.
    mirror = np.diag([1.0, -1.0])
    assert_allclose(metric.dist(mirror @ x[:50], mirror @ y[:50]), wanted[:50], rtol=1e-11)
