"""The retraction: second order, finite and invertible for every finite step."""

import tracemalloc

import mpmath as mp
import numpy as np
import pytest
import spectral_reference as ref
from root_chart import push_to_root
from spectral_matrices import matrices, rotation
from spectral_reference import DEPTHS, EPS, check

from dln_manifolds import DLNObservableManifold
from dln_manifolds.geometry import retraction
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.metric import CometricDerivative
from dln_manifolds.geometry.rank import has_rank
from dln_manifolds.geometry.retraction import acceleration_in_frame, retract

KINDS = ["random", "separate", "identity", "scaled orthogonal", "pairs", "nearly pairs", "gap 1e-3"]


def normal(shape, seed=0):
    return np.random.default_rng([*shape, seed]).standard_normal(shape)


def derivative_at(x, depth):
    return CometricDerivative(Frame.of_point(x, depth))


def step_of(x, depth, length):
    """A tangent vector that moves T by about ``length`` times its smallest singular value."""
    frame = Frame.of_point(x, depth)
    z = normal(x.shape)
    return z * length * frame.roots[-1] / np.linalg.norm(push_to_root(frame, z))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_geodesics_to_second_order(kind, n, depth):
    x = matrices(kind, n)[0]
    z = step_of(x, depth, 1.0)
    steps = np.geomspace(0.1, 0.01, 6) / np.sqrt(depth)
    vectors = steps[:, None, None] * z
    exp = DLNObservableManifold(n, depth).metric.exp
    errors = np.linalg.norm(
        retract(derivative_at(x, depth), vectors) - exp(vectors, x), axis=(1, 2)
    )
    slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope >= 2.9, f"slope {slope:.3f} of errors {errors}"


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("kind", ["random", "scaled orthogonal", "gap 1e-9", "gap 1e-3", "ill"])
def test_acceleration_of_geodesics(kind, depth):
    # Hamilton's equations X' = A_X(P), P' = -d<P, A_X P>/dX / 2, differentiated by mpmath
    x = matrices(kind, 3)[0]
    z = step_of(x, depth, 1.0)
    with mp.workdps(120):
        point, last = ref.matrix(x), mp.mpf(depth)
        p = ref.metric(point, ref.matrix(z), last)
        force = ref.gradient(lambda y: -ref.inner(p, ref.cometric(y, p, last)) / 2, point)
        drift = ref.derivative(lambda y: ref.cometric(y, p, last), point, ref.matrix(z))
        turn = ref.cometric(point, force, last)
        wanted = drift + turn
        # It vanishes at N = 1: there relative to the velocity.
        size = float(ref.norm(wanted)) if depth > 1 else np.linalg.norm(z)
    derivative = derivative_at(x, depth)
    frame = derivative.frame
    got = frame.leave(acceleration_in_frame(derivative, frame.enter(z)))
    with mp.workdps(120):
        error = float(ref.norm(ref.matrix(got) - wanted))
    check(error / size, 100 * EPS * (np.linalg.cond(x) + depth))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("x", [2.0, -0.5])
def test_width_one_is_a_power_of_a_straight_line(x, depth):
    # the root moves on a straight line: exact while it grows
    point, steps = np.array([[x]]), np.linspace(0, 3, 7)[:, None, None] * x
    root = 1 + steps / (depth * x)
    got = retract(derivative_at(point, depth), steps)
    check(abs(got / (x * root**depth) - 1), 16 * EPS * depth)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_zero_step_stays(kind, depth):
    x = matrices(kind, 4)[0]
    got = retract(derivative_at(x, depth), np.zeros((4, 4)))
    check(np.linalg.norm(got - x), 100 * EPS * depth * np.linalg.norm(x))


STEPS = [1e-300, 1e-100, 1e-12, 1e-6, 1e-3, 1.0, 1e3, 1e10, 1e29, 1e31, 1e100, 1e150]


def check_component(x, points):
    """Fail unless points are finite, numerically invertible and of the det sign of x."""
    assert np.isfinite(points).all()
    values = np.linalg.svd(points, compute_uv=False)
    assert has_rank(values, values.shape[-1], values.shape[-1], points.dtype).all()
    assert (np.linalg.slogdet(points)[0] == np.linalg.slogdet(x)[0]).all()


@pytest.mark.parametrize("depth", [*DEPTHS, 1000])
@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("kind", ["random", "identity", "pairs", "nearly pairs", "ill", "very ill"])
def test_long_and_short_steps_stay_in_the_component(kind, n, depth):
    x = matrices(kind, n)[0]
    vectors = np.array(STEPS)[:, None, None, None] * normal((5, n, n))
    check_component(x, retract(derivative_at(x, depth), vectors))


@pytest.mark.parametrize("depth", [1, 3, 100])
@pytest.mark.parametrize("kind", ["random", "identity"])
def test_steps_up_to_the_largest_double_stay_in_the_component(kind, depth):
    x = matrices(kind, 3)[0]
    vectors = normal((5, 3, 3))
    vectors /= np.abs(vectors).max()
    largest = np.finfo(float).max
    vectors = np.concatenate([1e160 * vectors, 1e300 * vectors, [np.full((3, 3), largest)]])
    check_component(x, retract(derivative_at(x, depth), vectors))


@pytest.mark.parametrize("depth", [1, 3, 100])
@pytest.mark.parametrize("n", [1, 3, 4])
def test_shrinking_in_all_directions_stays_in_the_component(n, depth):
    x = rotation(n, 0)
    vectors = -np.array(STEPS)[:, None, None] * x
    check_component(x, retract(derivative_at(x, depth), vectors))


@pytest.mark.parametrize("depth", [1, 3, 100])
@pytest.mark.parametrize("scale", [1e-100, 1e100])
def test_points_of_any_scale(scale, depth):
    x = scale * matrices("random", 4)[0]
    vectors = np.array([1e-12, 1e-2, 1.0, 1e10, 1e40])[:, None, None] * scale * normal((5, 4, 4))
    check_component(x, retract(derivative_at(x, depth), vectors))


@pytest.mark.parametrize("depth", [1.5, 3])
def test_retraction_scales_with_the_point(depth):
    x, z = matrices("separate", 3)[0], normal((3, 3))
    plain, scaled = (retract(derivative_at(c * x, depth), c * z) for c in (1.0, 1e50))
    check(np.linalg.norm(scaled / 1e50 - plain) / np.linalg.norm(plain), 100 * EPS)


@pytest.mark.parametrize("depth", [1, 1.5, 3, 100])
def test_batches_equal_loops(depth):
    x = np.concatenate([matrices(kind, 3) for kind in KINDS])
    z = normal(x.shape) * np.geomspace(1e-12, 1e20, len(x))[:, None, None]
    got = retract(derivative_at(x, depth), z)
    for k in range(len(x)):
        single = retract(derivative_at(x[k], depth), z[k])
        check(np.linalg.norm(got[k] - single), 1e-12 * np.linalg.norm(single))


@pytest.mark.parametrize("depth", [1, 1.5, 3, 30])
@pytest.mark.parametrize("kind", [*KINDS, "gap 1e-15", "gap 1e-9", "gap 0.03", "ladder", "ill"])
def test_differences_along_the_flow_take_the_place_of_tables(kind, depth, monkeypatch):
    """The same second derivatives, however close singular values are."""
    x = matrices(kind, 4)[0]
    lengths = np.array([0.0, 1e-6, 1e-3, 0.1])
    vectors = step_of(x, depth, 1.0) * lengths[:, None, None]
    tables = retract(derivative_at(x, depth), vectors)
    monkeypatch.setattr(retraction, "_WIDE", 1)
    got = retract(derivative_at(x, depth), vectors)
    moved = np.linalg.norm(vectors, axis=(1, 2)) / np.linalg.norm(x)
    errors = np.linalg.norm(got - tables, axis=(1, 2)) / np.linalg.norm(x)
    # of the term of second order, by the least root so many times that of first order; rounding
    check(errors, 1e-9 * moved * lengths + 100 * EPS)


def test_steps_too_long_for_differences_take_the_tables(monkeypatch):
    x = matrices("random", 4)[0]
    vectors = np.array([1e-300, 1.0, 1e10, 1e100])[:, None, None] * normal((4, 4))
    tables = retract(derivative_at(x, 3), vectors)
    monkeypatch.setattr(retraction, "_WIDE", 1)
    check(np.linalg.norm(retract(derivative_at(x, 3), vectors) - tables), 0.0)


def test_wide_matrices_need_no_table_of_triples():
    n, depth = 128, 4
    x = normal((n, n))
    vector = 0.01 * step_of(x, depth, 1.0)
    derivative = derivative_at(x, depth)
    tracemalloc.start()
    got = retract(derivative, vector)
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert memory <= 100 * x.nbytes
    # both ways, the term of second order is that of the geodesic equation
    back = retract(derivative, -vector)
    root = np.abs(vector).max() / np.abs(x).max()
    check(np.linalg.norm(got - back - 2 * vector), root * np.linalg.norm(vector))
