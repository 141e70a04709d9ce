"""The singular frame, and what all functions of it do with shapes and memory."""

import numpy as np
import pytest
import root_chart as chart
from spectral_matrices import matrices, rotation
from spectral_reference import DEPTHS, EPS, check

from dln_manifolds.geometry import coefficients
from dln_manifolds.geometry import entropy as volume
from dln_manifolds.geometry import metric as observable
from dln_manifolds.geometry import metric as root_chart
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.hamiltonian import SecondVariation, nodal_state
from dln_manifolds.geometry.metric import CometricDerivative
from dln_manifolds.geometry.retraction import acceleration_in_frame, retract
from dln_manifolds.numerics.matrices import transpose

DEPTH = 2.5


def normal(shape, seed=0):
    return np.random.default_rng([*shape, seed]).standard_normal(shape)


def of_point(function):
    return lambda x, z: function(Frame.of_point(x, DEPTH), z)


def of_derivative(function):
    return lambda x, z: function(CometricDerivative(Frame.of_point(x, DEPTH)), z)


def state_fields(state):
    """What does not depend on the signs of singular vectors."""
    return [state.roots, state.cosh, state.sinh, state.energy, *map(state.leave, state[-3:])]


def frame_fields(frame):
    return [frame.singular_values, frame.roots, frame.half_log_ratio, frame.a, *frame.chart_factors]


# Every function of a point and a vector: its values do not depend on the choice of the frame.
FUNCTIONS = {
    "frame of X": of_point(lambda f, z: frame_fields(f)),
    "frame of T": lambda x, z: frame_fields(Frame.of_root(x, DEPTH)),
    "log_a": of_point(lambda f, z: coefficients.log_a(f.singular_values, DEPTH)),
    "entropy": of_point(lambda f, z: volume.entropy(f.singular_values, DEPTH)),
    "density": of_point(lambda f, z: volume.log_riemannian_density(f.singular_values, DEPTH)),
    "entropy_gradient": of_point(lambda f, z: volume.entropy_gradient(f)),
    "apply_metric": of_point(observable.apply_metric),
    "apply_cometric": of_point(observable.apply_cometric),
    "inner_product": of_point(lambda f, z: observable.inner_product(f, z, z + 1)),
    "inner_coproduct": of_point(lambda f, z: observable.inner_coproduct(f, z, z + 1)),
    "metric_matrix": of_point(lambda f, z: observable.operator_matrix(f, 1 / f.a)),
    "root_of": of_point(lambda f, z: root_chart.root_of(f)),
    "point_of": of_point(lambda f, z: chart.point_of(f)),
    "push": of_point(chart.push_to_root),
    "pull": of_point(chart.pull_from_root),
    "lower": of_point(chart.lower),
    "raise": of_point(chart.raise_),
    "along": of_derivative(lambda d, z: d.along(z, z + 1)),
    "gradient": of_derivative(lambda d, z: d.gradient(z, z + 1)),
    "acceleration": of_derivative(
        lambda d, z: d.frame.leave(acceleration_in_frame(d, d.frame.enter(z)))
    ),
    "retract": of_derivative(retract),
    "state of P": lambda x, z: state_fields(nodal_state(x, DEPTH, momentum=z)),
    "state of v": lambda x, z: state_fields(nodal_state(x, DEPTH, velocity=z)),
    "raised": lambda x, z: nodal_state(x, DEPTH, momentum=z).raise_(z),
    "second variation": lambda x, z: list(
        SecondVariation(nodal_state(x, DEPTH, velocity=z), DEPTH).apply(z + 1, z - 1)
    ),
}


def results(name, x, z):
    found = FUNCTIONS[name](x, z)
    return found if isinstance(found, list) else [found]


def same(got, wanted):
    """Compare lists of arrays, each relative to its largest entry."""
    for x, y in zip(got, wanted, strict=True):
        assert np.shape(x) == np.shape(y)
        check(np.abs(x - y), 1e-11 * np.abs(y).max())


@pytest.mark.parametrize("batch", [(), (1,), (3,), (2, 3)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_batches_equal_loops(name, batch):
    x, z = matrices("random", 3, 6)[: int(np.prod(batch))].reshape(*batch, 3, 3), None
    x[(0,) * len(batch)] = 2 * rotation(3, 7)  # one member with coinciding singular values
    z = normal((*batch, 3, 3))
    got = results(name, x, z)
    singles = [results(name, x[index], z[index]) for index in np.ndindex(batch)]
    for value, *parts in zip(got, *singles, strict=True):
        wanted = np.reshape(parts, (*batch, *np.shape(parts[0])))
        same([value], [wanted])


@pytest.mark.parametrize("batch", [(0,), (2, 0)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_empty_batches(name, batch):
    tail = [np.shape(value) for value in results(name, np.eye(3), normal((3, 3)))]
    got = results(name, np.empty((*batch, 3, 3)), np.empty((*batch, 3, 3)))
    assert [np.shape(value) for value in got] == [(*batch, *shape) for shape in tail]


@pytest.mark.parametrize("kind", ["separate", "pairs"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_point_serves_many_vectors(name, kind):
    x, z = matrices(kind, 4)[0], normal((5, 4, 4))
    got = results(name, x, z)
    for k in range(5):
        single = results(name, x, z[k])
        same([g[k] if g.ndim > s.ndim else g for g, s in zip(got, single, strict=True)], single)


@pytest.mark.parametrize("kind", ["separate", "pairs"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_vector_serves_many_points(name, kind):
    x, z = matrices(kind, 4, 5), normal((4, 4))
    got = results(name, x, z)
    for k in range(5):
        same([g[k] for g in got], results(name, x[k], z))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_memory_layout_does_not_matter(name):
    x, z = matrices("random", 3, 4), normal((4, 3, 3))
    wanted = results(name, x, z)
    strided = [np.zeros((8, 3, 6)) for _ in range(2)]
    for array, value in zip(strided, (x, z), strict=True):
        array[::2, :, ::2] = value
    same(results(name, *(array[::2, :, ::2] for array in strided)), wanted)
    same(results(name, np.asfortranarray(x), np.asfortranarray(z)), wanted)


@pytest.mark.parametrize("kind", ["random", "pairs", "gap 1e-9"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_input_is_not_written_to(name, kind):
    x, z = matrices(kind, 4, 2), normal((2, 4, 4))
    kept = x.copy(), z.copy()
    results(name, x, z)
    assert np.array_equal(x, kept[0])
    assert np.array_equal(z, kept[1])
    x.flags.writeable = z.flags.writeable = False
    results(name, x, z)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_width_one(name):
    for value in results(name, np.array([[[2.0]], [[-3.0]]]), normal((2, 1, 1))):
        assert np.isfinite(value).all()
        assert value.shape[0] == 2


def test_singular_values_are_not_written_to():
    s = np.array([[3.0, 1.0, 1.0], [2.0, 1.0, 0.5]])
    kept = s.copy()
    s.flags.writeable = False
    triples = np.array([[0, 1, 2], [1, 1, 2]])
    coefficients.a(s, DEPTH)
    coefficients.log_a(s, DEPTH)
    coefficients.a_second_difference(s, DEPTH, triples)
    volume.entropy(s, DEPTH)
    volume.log_riemannian_density(s, DEPTH)
    assert np.array_equal(s, kept)


# The frame itself


@pytest.mark.parametrize("shape", [(3, 3), (5, 3), (3, 5), (2, 5, 3)])
def test_frames_are_thin(shape):
    x = normal(shape)
    frame = Frame.of_point(x, DEPTH)
    rank = min(shape[-2:])
    assert frame.left.shape == (*shape[:-1], rank)
    assert frame.values.shape == (*shape[:-2], rank)
    assert frame.right_t.shape == (*shape[:-2], rank, shape[-1])
    assert (np.diff(frame.values, axis=-1) <= 0).all()
    check(abs(frame.compose(frame.values) - x), 100 * EPS)
    check(abs(chart.point_of(frame) - x), 100 * EPS)
    check(abs(transpose(frame.left) @ frame.left - np.eye(rank)), 16 * EPS)
    check(abs(frame.right_t @ transpose(frame.right_t) - np.eye(rank)), 16 * EPS)
    middle = normal((*shape[:-2], rank, rank), 1)
    check(abs(frame.enter(frame.leave(middle)) - middle), 100 * EPS)


@pytest.mark.parametrize("depth", DEPTHS)
def test_frames_of_a_point_and_of_its_root_agree(depth):
    s = np.array([5.0, 2.0, 2.0, 0.1])
    point = Frame.of_point(rotation(4, 0) * s @ rotation(4, 1), depth)
    root = Frame.of_root(root_chart.root_of(point), depth)
    # rounding of a root to a relative eps is N eps in its power
    for name in ("singular_values", "roots", "half_log_ratio", "a"):
        got, wanted = getattr(root, name), getattr(point, name)
        check(abs(got - wanted), 100 * EPS * depth * (1 + abs(wanted)))


@pytest.mark.parametrize("gap", [0.0, EPS, 1e-12, 1e-6])
def test_close_singular_values_lose_no_digits(gap):
    # 1 + gap and its root: u = log(1 + gap) / (2N) from X, and log(1 + gap) / 2 from T
    x = np.diag([1 + gap, 1.0])
    for frame, factor in (
        (Frame.of_point(x, 1000.0), 1e-3),
        (Frame.of_root(x, 1000.0), 1.0),
    ):
        wanted = 0.5 * factor * np.log1p((1 + gap) - 1)
        check(abs(frame.half_log_ratio[0, 1] - wanted), 4 * EPS * wanted)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("kind", ["random", "pairs", "gap 1e-9"])
def test_factors_of_the_chart(kind, depth):
    frame = Frame.of_point(matrices(kind, 4)[0], depth)
    s, roots = frame.singular_values, frame.roots
    even, odd = frame.chart_factors
    check(abs(odd * (s[:, None] + s) / (roots[:, None] + roots) - 1), 16 * EPS)
    # (l_i - l_j) / (s_i - s_j) times the same with plus signs is 1 / a_ij
    check(abs(even * odd * frame.a - 1), 32 * EPS)


@pytest.mark.parametrize("power", [1.0, DEPTH])
def test_scaled(power):
    x, factor = matrices("random", 3, 2), np.array([2.0, 1e-50])
    make = Frame.of_point if power == 1 else Frame.of_root
    got = make(x, DEPTH).scaled(factor)
    wanted = make(factor[:, None, None] * x, DEPTH)
    assert (got.depth, got.power) == (wanted.depth, wanted.power)
    check(abs(got.values / wanted.values - 1), 100 * EPS * np.linalg.cond(x)[:, None])
