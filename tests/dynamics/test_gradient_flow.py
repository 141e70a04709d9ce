"""Gradient flow of the layers and of their product."""

import autograd.numpy as anp
import numpy as np
import pytest
import scipy.linalg
from autograd import grad

from dln_manifolds.dynamics.balancing_flow import balancing_flow
from dln_manifolds.dynamics.gradient_flow import flow_of_layers, flow_of_point, layer_gradient
from dln_manifolds.errors import ConvergenceError, InvalidPointError
from dln_manifolds.geometry.balancing import act, factor
from dln_manifolds.geometry.chain import chain_of
from dln_manifolds.geometry.frame import Frame

TIMES = np.linspace(0, 3, 13)


def normal(*shape, seed=0):
    array = np.random.default_rng([*shape, seed]).standard_normal(shape)
    array.flags.writeable = False
    return array


def completion(n):
    """Loss of a matrix completion and its gradient."""
    target, seen = normal(n, 2, seed=1) @ normal(2, n, seed=2), normal(n, n, seed=3) > -0.5

    def loss(X):
        return 0.5 * anp.sum((seen * (X - target)) ** 2)

    return loss, lambda X: seen * (X - target)


def balanced_layers(X, depth, seed=0):
    """A balanced factorization that is not the one of `factor`."""
    turns = np.linalg.qr(normal(depth - 1, *X.shape, seed=seed))[0]
    return act(turns, factor(Frame.of_point(X, depth), chain_of((len(X),) * (depth + 1))))


def largest(difference):
    return np.linalg.norm(difference, axis=(-2, -1)).max()


@pytest.mark.parametrize("depth", [1, 2, 3, 6])
def test_layer_gradient_against_autograd(depth):
    loss, gradient = completion(4)

    def of_layers(W):
        X = W[0]
        for p in range(1, depth):
            X = anp.dot(W[p], X)
        return loss(X)

    W = normal(depth, 4, 4)
    expected = grad(of_layers)(W)
    np.testing.assert_allclose(layer_gradient(W, gradient), expected, rtol=1e-12, atol=1e-12)
    batch = np.stack([W, 2 * W])
    got = layer_gradient(batch, gradient)
    np.testing.assert_allclose(got[0], expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(got[1], grad(of_layers)(2 * W), rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize(("depth", "n"), [(1, 3), (2, 3), (3, 3), (3, 5), (5, 3)])
def test_upstairs_and_downstairs_agree(depth, n):
    loss, gradient = completion(n)
    X = 0.3 * normal(n, n)
    up = flow_of_layers(balanced_layers(X, depth), gradient, TIMES, energy=loss)
    down = flow_of_point(X, depth, gradient, TIMES, energy=loss)
    size = largest(down.points)
    assert largest(up.points - down.points) <= 1e-8 * size
    assert largest(down.points[-1] - X) > 0.1 * size  # something has happened
    np.testing.assert_allclose(up.energy, [loss(x) for x in up.points], rtol=1e-14)
    assert (np.diff(up.energy) < 0).all()
    assert up.drift.max() <= 1e-10
    # dE/dt = -|X'|_g^2
    assert down.drift.max() <= 1e-10


@pytest.mark.parametrize("depth", [1, 1.5, 2, 3, 100])
@pytest.mark.parametrize("start", [np.zeros((3, 3)), np.diag([1.0, 0.0, 0.0])], ids=["zero", "one"])
def test_zeros_stay_where_the_metric_has_none(start, depth):
    # Warnings are errors: nothing is divided by a singular value that is zero.
    target = np.diag([2.0, 1.0, -1.0])
    found = flow_of_point(start, depth, lambda X: X - target, [0.0, 1.0]).points[-1]
    if depth == 1:
        expected = target + np.exp(-1) * (start - target)
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)
    else:
        assert np.linalg.matrix_rank(found) == np.linalg.matrix_rank(start)
        np.testing.assert_array_equal(found, np.diag(np.diag(found)))
    if depth in (2, 3):
        up = flow_of_layers(balanced_layers(start, depth), lambda X: X - target, [0.0, 1.0])
        np.testing.assert_allclose(found, up.points[-1], rtol=1e-9, atol=1e-12)


def test_flows_that_overflow_or_have_no_metric_say_so():
    far = 1e200 * np.eye(2)
    for depth in (1, 2, np.inf):
        with pytest.raises(ConvergenceError):
            flow_of_point(far, depth, lambda X: X, [0.0, 1.0])
    with pytest.raises(ValueError, match="depth=inf needs square matrices of full rank"):
        flow_of_point(np.diag([1.0, 0.0]), np.inf, lambda X: X, [0.0, 1.0])


def test_downstairs_at_any_depth_against_the_definition():
    """The first instant of the flow, with fractional powers of matrices."""
    X, depth, step = normal(3, 3), 3, 1e-5
    _, gradient = completion(3)
    before, after = flow_of_point(X, depth, gradient, [0, step, 2 * step]).points[1:]
    rate = (4 * before - after - 3 * X) / (2 * step)
    power = scipy.linalg.fractional_matrix_power
    expected = -sum(
        power(X @ X.T, (depth - p) / depth) @ gradient(X) @ power(X.T @ X, (p - 1) / depth)
        for p in range(1, depth + 1)
    )
    np.testing.assert_allclose(rate, expected, atol=1e-5)


def test_real_depth_against_the_scalar_equation():
    """N = 2.5, n = 1, E = -X: x' = N x^(2 - 2/N), solved by separation."""
    times = TIMES[:8]  # infinite at t = 2.3
    flow = flow_of_point(np.array([[0.5]]), 2.5, lambda X: -np.ones_like(X), times)
    # y = x^(2/N - 1) has y' = N (2/N - 1) = 2 - N
    expected = (0.5 ** (2 / 2.5 - 1) + (2 - 2.5) * times) ** (1 / (2 / 2.5 - 1))
    np.testing.assert_allclose(flow.points[:, 0, 0], expected, rtol=1e-9)
    assert np.isnan(flow.drift).all()
    assert flow.energy is None


@pytest.mark.parametrize("depth", [2, 4])
def test_unbalanced_start(depth):
    """Imbalances are conserved, and X goes another way."""
    _, gradient = completion(3)
    W = 0.7 * normal(depth, 3, 3)
    flow = flow_of_layers(W, gradient, TIMES)
    above = [w[1:].swapaxes(-1, -2) @ w[1:] for w in flow.layers]
    below = [w[:-1] @ w[:-1].swapaxes(-1, -2) for w in flow.layers]
    imbalances = np.array(above) - np.array(below)
    assert largest(imbalances[0]) > 0.1
    assert largest(imbalances - imbalances[0]) <= 1e-8 * largest(np.array(below))
    assert flow.drift.max() <= 1e-8
    down = flow_of_point(flow.points[0], depth, gradient, TIMES)
    assert largest(flow.points - down.points) > 1e-2


def test_drift_sees_a_wrong_gradient():
    """A field that is no gradient of the given energy does not pass for one."""
    loss, gradient = completion(3)
    flow = flow_of_point(normal(3, 3), 3, lambda X: 1.01 * gradient(X), TIMES, energy=loss)
    assert flow.drift.max() > 1e-4


def follow(kind, start, times):
    """Follow one of the three flows."""
    _, gradient = completion(3)
    if kind == "balancing":
        return balancing_flow(start, times)
    if kind == "layers":
        return flow_of_layers(start, gradient, times)
    return flow_of_point(start, 2, gradient, times)


def start_of(kind):
    return normal(3, 3) if kind == "point" else normal(2, 3, 3)


KINDS = ["point", "layers", "balancing"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([0.0, 0.0, 1.0], r"times\[1\] = 0 follows 0.*remove repeated"),
        ([0.0, 0.5, 0.3], r"times\[2\] = 0.3 follows 0.5.*Sort"),
        ([1.0, 0.0], "must increase"),
        ([0.0, np.nan], "times is not finite"),
        ([0.0, np.inf], "times is not finite"),
        (1.0, r"times has shape \(\)"),
        ([], r"times has shape \(0,\)"),
        ([[0.0, 1.0]], r"times has shape \(1, 2\)"),
        ([0.0, 1j], "complex"),
        (["a"], "real numbers"),
    ],
)
def test_times_that_do_not_increase(kind, times, message):
    with pytest.raises(ValueError, match=message) as caught:
        follow(kind, start_of(kind), times)
    assert "t_eval" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_starts_of_a_wrong_shape(kind):
    start = start_of(kind)
    batch, wide = np.stack([start, start]), start[..., :2]
    # Matrices may be of any shape.
    wrong_too = () if kind == "point" else (wide, [start[0], wide[1], start[0]], [start[0], 1.0])
    for wrong in (batch, *wrong_too, start[0] if kind != "point" else start[0, :], 2.0):
        with pytest.raises(InvalidPointError, match=r"has shape.*a flow starts at"):
            follow(kind, wrong, [0.0, 1.0])
    for wrong in (start[..., :0, :0], start[..., :0]):
        with pytest.raises(InvalidPointError, match=r"has shape.*a flow starts at"):
            follow(kind, wrong, [0.0, 1.0])
    for wrong, message in ((start + 1j, "complex"), (start * np.nan, "not finite"), (None, "None")):
        with pytest.raises(InvalidPointError, match=message):
            follow(kind, wrong, [0.0, 1.0])


@pytest.mark.parametrize("kind", KINDS)
def test_single_precision_is_kept(kind):
    start = start_of(kind).astype(np.float32)
    single, double = (follow(kind, x, [0.0, 0.1]) for x in (start, start.astype(float)))
    for name in ("points", "layers"):
        got, wanted = getattr(single, name, None), getattr(double, name, None)
        if wanted is not None:
            assert (got.dtype, wanted.dtype) == (np.float32, np.float64)
            np.testing.assert_array_equal(got, wanted.astype(np.float32))
    np.testing.assert_array_equal(start, start_of(kind).astype(np.float32))


def test_inputs():
    _, gradient = completion(3)
    single = flow_of_layers(normal(2, 3, 3), gradient, np.array([0.0]))
    np.testing.assert_array_equal(single.layers[0], normal(2, 3, 3))
    with pytest.raises(ValueError, match="shape"):
        flow_of_point(normal(3, 3), 2, lambda X: np.sum(X), TIMES)
    with pytest.raises(ConvergenceError):
        # X' = 3 x^(4/3) x^4: infinite in finite time
        flow_of_point(np.eye(1), 3, lambda X: -(X**4), TIMES)
