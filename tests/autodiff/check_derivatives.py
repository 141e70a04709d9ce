"""Derivative rules against central differences along curves of the manifold."""

import geomstats.backend as gs
import numpy as np
import pytest
from autograd import grad

from dln_manifolds import (
    BalancedManifold,
    ConjugatePointsError,
    DLNObservableManifold,
    InvalidPointError,
)
from dln_manifolds.geometry.alignment import aligned_pullback
from dln_manifolds.geometry.balancing import rebalance

ON_TORCH = gs.__name__.endswith("pytorch")
if ON_TORCH:
    import torch

# Central differences of order 8: their own error is far below 1e-7.
OFFSETS = np.array([1, 2, 3, 4])
WEIGHTS = np.array([4 / 5, -1 / 5, 4 / 105, -1 / 280])
STEP = 0.005
TOLERANCE = 1e-7


def gradients(function, *arguments):
    """Gradients of a scalar function by all arguments, as NumPy arrays, by the backend."""
    if ON_TORCH:
        tensors = [torch.tensor(x, requires_grad=True) for x in arguments]
        return [x.numpy() for x in torch.autograd.grad(function(*tensors), tensors)]
    return list(grad(function, tuple(range(len(arguments))))(*arguments))


def second_derivative(function, point):
    """Gradient of the sum of a gradient."""
    if ON_TORCH:
        x = torch.tensor(point, requires_grad=True)
        (first,) = torch.autograd.grad(function(x), x, create_graph=True)
        return torch.autograd.grad(gs.sum(first), x)
    return grad(lambda x: gs.sum(grad(function)(x)))(point)


def slope(function):
    """Derivative at zero of a function of many numbers at once."""
    values = np.asarray(function(STEP * np.concatenate([OFFSETS, -OFFSETS])))
    return np.dot(np.concatenate([WEIGHTS, -WEIGHTS]), values) / STEP


class Observable:
    """Points and curves of end-to-end matrices."""

    def __init__(self, n=None, depth=None, **arguments):
        self.space = DLNObservableManifold(n, depth, **arguments)
        self.rng = np.random.default_rng(1)

    def random(self, *batch):
        return self.rng.normal(size=(*batch, *self.space.shape))

    def point(self, *batch):
        return self.space.projection(np.eye(*self.space.shape) + 0.2 * self.random(*batch))

    def repeated(self, *batch):
        """Return points with singular values that agree, in one pair to 1e-9 only."""
        point = np.eye(*self.space.shape)
        for k in range(min(point.shape)):
            point[k, k] = 1.5 if k == 0 else float(k < self.space.rank)
        point[self.space.rank - 1] *= 1 + 1e-9
        return np.broadcast_to(point, (*batch, *self.space.shape)).copy()

    def moved(self, point, direction, t):
        return self.space.projection(point + t * direction)

    def vector(self, vector, point):
        return self.space.to_tangent(vector, point)

    def velocity(self, direction, point):
        return self.space.to_tangent(direction, point)


class Balanced(Observable):
    """Points and curves of balanced layers."""

    def __init__(self, n=None, depth=None, **arguments):
        self.space = BalancedManifold(n, depth, **arguments)
        self.below = Observable(**self.space.arguments)
        self.rng = np.random.default_rng(1)

    def balanced(self, layers):
        return rebalance(layers, self.space.stratum.chain, self.space.rank)

    def point(self, *batch):
        m, n = self.below.space.shape
        identity = np.diag((np.arange(max(m, n)) < self.space.rank) * 1.0)[:m, :n]
        return self.balanced(self.space.factor(identity) + 0.2 * self.random(*batch))

    def repeated(self, *batch):
        return self.space.factor(self.below.repeated(*batch))

    def moved(self, point, direction, t):
        return self.balanced(point + t * direction)


def one_by_one(function):
    """Return a function of stacked arguments that is called for one member at a time."""
    return lambda *arguments: np.stack(
        [np.asarray(function(*members)) for members in zip(*arguments, strict=True)]
    )


def compare(data, function, kinds, arguments, record, name, *, stacked=None):
    """Compare gradients with differences, one argument at a time.

    ``kinds`` tells what an argument is: a ``point``, a ``tangent`` vector at the last point among
    the arguments, an ``ambient`` array, or a matrix ``below`` layers. ``stacked`` is the function
    on a further leading axis.
    """
    points = [i for i, kind in enumerate(kinds) if kind == "point"]
    stacked = stacked or function

    def complete(*free):
        """Make vectors tangent where their point is."""
        base = free[points[-1]] if points else None
        return [
            data.vector(x, base) if kind == "tangent" else x
            for x, kind in zip(free, kinds, strict=True)
        ]

    arguments = [np.asarray(x) for x in complete(*arguments)]
    weights = data.rng.normal(size=np.shape(function(*arguments)))
    constant = gs.array(weights) if ON_TORCH else weights
    found = gradients(lambda *given: gs.sum(constant * function(*given)), *arguments)
    # All arguments get the batch axes of the longest, and one more for the offsets.
    ndims = [2 if kind == "below" else len(data.space.shape) for kind in kinds]
    batch_ndims = [max(0, x.ndim - k) for x, k in zip(arguments, ndims, strict=True)]
    long = [
        x.reshape(1, *(1,) * (max(batch_ndims) - ndim), *x.shape)
        for x, ndim in zip(arguments, batch_ndims, strict=True)
    ]
    for i, kind in enumerate(kinds):
        assert found[i].shape == arguments[i].shape, name
        direction = data.rng.normal(size=arguments[i].shape)
        if kind == "point":
            direction = data.velocity(direction, arguments[i])
        elif kind == "tangent":
            direction = data.vector(direction, arguments[points[-1]])
        direction = direction / np.linalg.norm(direction)

        def along(t, i=i, kind=kind, direction=direction):
            free = list(long)
            times = t.reshape(-1, *(1,) * (free[i].ndim - 1))
            if kind == "point":
                free[i] = data.moved(free[i], direction, times)
            else:
                free[i] = free[i] + times * direction
            free = [np.broadcast_to(x, (len(t), *x.shape[1:])).copy() for x in free]
            values = np.asarray(stacked(*complete(*free)))
            return (weights * values).reshape(len(t), -1).sum(axis=1)

        expected, got = slope(along), np.sum(found[i] * direction)
        assert abs(got - expected) <= TOLERANCE * max(1.0, abs(expected)), (name, i, got, expected)
        record(f"{name} by argument {i}", found[i])


OBSERVABLES = [Observable(2, 2), Observable(3, 3.5)]
OTHER_RANKS = [
    Observable(shape=(4, 3), rank=2, depth=2.5),
    Observable(shape=(3, 4), depth=3),
    Observable(n=3, rank=1, depth=4),
    Observable(widths=(3, 4, 3, 5), rank=2),
    Observable(n=3, depth=np.inf),
]
BALANCED = [Balanced(2, 1), Balanced(3, 3)]
OTHER_WIDTHS = [
    Balanced(widths=(3, 2, 3)),
    Balanced(widths=(3, 4, 2), rank=1),
    Balanced(widths=(2, 3, 3, 2), rank=2),
    Balanced(widths=(3, 4), rank=2),
    Balanced(n=3, depth=2, rank=2),
]
BOTH = [*OBSERVABLES, *BALANCED]
each = pytest.mark.parametrize("data", BOTH, ids=lambda data: str(data.space))
EVERY = [*BOTH, *OTHER_RANKS, *OTHER_WIDTHS]
each_space = pytest.mark.parametrize("data", EVERY, ids=lambda data: str(data.space))
# Where geodesics are solved for.
each_solved = pytest.mark.parametrize("data", EVERY[:-3], ids=lambda data: str(data.space))
each_matrix = pytest.mark.parametrize(
    "data", [*OBSERVABLES, *OTHER_RANKS], ids=lambda data: str(data.space)
)
each_observable = pytest.mark.parametrize("data", OBSERVABLES, ids=lambda data: str(data.space))
each_layers = pytest.mark.parametrize(
    "data", [*BALANCED, *OTHER_WIDTHS], ids=lambda data: str(data.space)
)


def places(data):
    """Points to differentiate at, by name."""
    return {"generic": data.point(), "repeated singular values": data.repeated()}.items()


@each_space
def test_scalars_of_a_point(data, record):
    for name, point in places(data):
        for method in (data.space.entropy, data.space.volume_density):
            compare(data, method, ["point"], [point], record, f"{method.__name__}, {name}")


@each_space
def test_inner_products(data, record):
    metric = data.space.metric
    for name, point in places(data):
        pair = ["tangent", "tangent", "point"], [data.random(), data.random(), point]
        compare(data, metric.inner_product, *pair, record, f"inner product, {name}")
        single = ["tangent", "point"], [data.random(), point]
        compare(data, metric.squared_norm, *single, record, f"squared norm, {name}")
        compare(data, metric.norm, *single, record, f"norm, {name}")


@each_space
def test_gradients_of_the_entropy(data, record):
    space = data.space
    for name, point in places(data):
        compare(data, space.entropy_gradient, ["point"], [point], record, f"gradient, {name}")
    points = np.stack([data.point(), data.repeated()])
    compare(data, space.entropy_gradient, ["point"], [points], record, "a batch of gradients")


@each_space
def test_cometric_and_matrices(data, record):
    metric = data.space.metric
    for name, point in places(data):
        pair = ["ambient", "ambient", "point"], [data.random(), data.random(), point]
        compare(data, metric.inner_coproduct, *pair, record, f"coproduct, {name}")
        for method in (metric.metric_matrix, metric.cometric_matrix):
            compare(data, method, ["point"], [point], record, f"{method.__name__}, {name}")


@each_matrix
def test_densities(data, record):
    metric = data.space.metric
    for name, point in places(data):
        for method in (metric.log_volume_density, metric.volume_density):
            compare(data, method, ["point"], [point], record, f"{method.__name__}, {name}")


@each_solved
@pytest.mark.parametrize("size", [0.0, 0.3])
def test_exp(data, size, record):
    for name, point in places(data):
        vector = size * data.random()
        exp = data.space.metric.exp
        compare(data, exp, ["tangent", "point"], [vector, point], record, f"exp, {name}")


@each_solved
@pytest.mark.parametrize("size", [0.0, 0.3])
def test_log_and_distances(data, size, record):
    metric = data.space.metric
    for name, point in places(data):
        other = metric.exp(data.vector(size * data.random(), point), point)
        two = ["point", "point"], [other, point]
        compare(data, metric.log, *two, record, f"log, {name}")
        compare(data, metric.squared_dist, *two, record, f"squared distance, {name}")
        if size:
            compare(data, metric.dist, *two, record, f"distance, {name}")


@each_solved
def test_geodesic(data, record):
    metric, times = data.space.metric, np.array([0.3, 1.1])
    point = data.point()
    other = metric.exp(data.vector(0.2 * data.random(), point), point)

    def between(end, start, t):
        return metric.geodesic(start, end_point=end)(t)

    three = ["point", "point", "ambient"], [other, point, times]
    compare(data, between, *three, record, "geodesic", stacked=one_by_one(between))


@each_space
def test_projections(data, record):
    space = data.space
    for name, point in places(data):
        two = ["ambient", "point"], [data.random(), point]
        compare(data, space.to_tangent, *two, record, f"tangent part, {name}")
        compare(data, lambda v, x: space.projection(x, v), *two, record, f"projection, {name}")


@each_space
def test_orthonormal_coordinates(data, record):
    metric = data.space.metric
    for name, point in places(data):
        pair = ["ambient", "point"], [data.random(), point]
        for method in (metric.orthonormal_coordinates, metric.from_orthonormal_coordinates):
            compare(data, method, *pair, record, f"{method.__name__}, {name}")


@each_solved
def test_flattened_view(data, record):
    """Vectors of the view are differentiated as those of the space."""
    view = data.space.flattened(orthonormal=True)
    point = data.point()
    vector = data.vector(0.3 * data.random(), point)

    def there_and_back(vector, point):
        flat = view.flatten(point)
        coordinates = data.space.metric.orthonormal_coordinates(vector, point)
        end = view.metric.exp(view.flatten(coordinates), flat)
        return view.metric.squared_dist(end, flat) + (view.metric.log(end, flat) ** 2).sum()

    two = ["tangent", "point"], [vector, point]
    compare(data, there_and_back, *two, record, "there", stacked=one_by_one(there_and_back))


@each_layers
def test_projection_of_unbalanced_layers(data, record):
    """By the implicit function theorem: the fibre moves, and the nearest point along it."""
    space = data.space
    for name, point in places(data):
        for kind, layers in {
            "unbalanced": point + 0.2 * data.random(),
            "balanced": point,
            "a batch": point + 0.2 * data.random(2),
        }.items():
            compare(data, space.projection, ["ambient"], [layers], record, f"{kind}, {name}")
            compare(data, space.balance, ["ambient"], [layers], record, f"balance, {kind}, {name}")
        # At balanced layers it is the tangent projection, which is its own transpose.
        weight = data.random()
        (found,) = gradients(lambda w, c=weight: gs.sum(gs.array(c) * space.projection(w)), point)
        assert np.abs(found - space.to_tangent(weight, point)).max() <= 1e-12


@each_matrix
def test_projection_of_matrices(data, record):
    space = data.space
    compare(data, space.projection, ["ambient"], [data.random(2)], record, "projection")
    compare(data, space.projection, ["point"], [data.point()], record, "at a point")
    singular = np.stack([data.point(), np.zeros(space.shape)])
    with pytest.raises(InvalidPointError, match=r"lower rank than \d \(batch member \[1\]\)"):
        gradients(lambda x: gs.sum(space.projection(x)), singular)


@each_layers
def test_nearest_point_of_a_fibre(data, record):
    bundle, point = data.space.fiber_bundle, data.point()
    reference = data.point() + 0.1 * data.random()

    def aligned(reference, point):
        return bundle.align(point, reference)

    pair = ["ambient", "point"], [reference, point]
    compare(data, aligned, *pair, record, "aligned")


def test_nearest_point_that_is_not_isolated():
    data = Balanced(2, 2)
    # Every turn of both layers is as near.
    layers = np.stack([np.eye(2), np.zeros((2, 2))])
    with pytest.raises(ConjugatePointsError, match="not isolated"):
        aligned_pullback(layers, np.zeros((2, 2, 2)), data.random())


def check_transport(data, record):
    metric, point = data.space.metric, data.point()
    vectors = data.vector(data.random(2), point)
    along = data.vector(0.3 * data.random(), point)
    end = metric.exp(along, point)

    def ahead(vector):
        return metric.parallel_transport(vector, point, direction=along)

    def between(vector):
        return metric.parallel_transport(vector, point, end_point=end)

    for name, transport in (("direction", ahead), ("end point", between)):
        weight = data.random(2)
        constant = gs.array(weight)
        (found,) = gradients(lambda v, f=transport: gs.sum(constant * f(v)), vectors)  # noqa: B023
        step = data.vector(data.random(2), point)
        # It is linear in the vector.
        expected = np.sum(weight * np.asarray(transport(step)))
        assert abs(np.sum(found * step) - expected) <= 1e-10 * max(1.0, abs(expected))
        record(name, found)
        # What is being differentiated has the same value.
        seen = []
        gradients(lambda v, f=transport, seen=seen: seen.append(f(v)) or gs.sum(seen[0]), vectors)
        traced = np.asarray(seen[0].detach() if ON_TORCH else seen[0]._value)
        assert np.abs(traced - np.asarray(transport(vectors))).max() <= 1e-13


@each_matrix
def test_transport_of_matrices(data, record):
    check_transport(data, record)


@pytest.mark.parametrize("data", [*BALANCED, *OTHER_WIDTHS[:2]], ids=lambda data: str(data.space))
def test_transport_of_layers(data, record):
    check_transport(data, record)


@pytest.mark.parametrize(
    "data",
    [
        *(OTHER_RANKS[0], BALANCED[1]),
        *(
            pytest.param(data, marks=pytest.mark.slow)
            for data in (*OBSERVABLES, *OTHER_RANKS[1:], BALANCED[0], *OTHER_WIDTHS[:3])
        ),
    ],
    ids=lambda data: str(data.space),
)
def test_transport_by_its_geodesic(data, record):
    metric, point = data.space.metric, data.point()
    vectors = data.vector(data.random(2), point)
    along = data.vector(0.3 * data.random(), point)
    end = metric.exp(along, point)
    compare(data, lambda v, d, x: metric.parallel_transport(v, x, direction=d),
            ["tangent", "tangent", "point"], [vectors, along, point], record, "along")  # fmt: skip
    compare(data, lambda v, y, x: metric.parallel_transport(v, x, end_point=y),
            ["tangent", "point", "point"], [vectors[0], end, point], record, "to")  # fmt: skip


@each_layers
def test_maps_of_layers(data, record):
    space = data.space
    shape = data.below.space.shape
    for name, point in places(data):
        two = ["ambient", "point"], [data.random(), point]
        bundle = space.fiber_bundle
        for method in (
            space.horizontal_projection,
            space.vertical_projection,
            space.normal_projection,
            space.push_forward,
            bundle.horizontal_projection,
            bundle.vertical_projection,
            bundle.tangent_riemannian_submersion,
        ):
            compare(data, method, *two, record, f"{method.__qualname__}, {name}")
        lift = ["below", "point"], [data.rng.normal(size=shape), point]
        compare(data, space.horizontal_lift, *lift, record, f"horizontal lift, {name}")
        for method in (space.end_to_end, bundle.riemannian_submersion):
            compare(data, method, ["ambient"], [point], record, f"{method.__qualname__}, {name}")


def test_action_of_the_group(record):
    data = Balanced(2, 3)
    turn = np.array([[np.cos(1), -np.sin(1)], [np.sin(1), np.cos(1)]])
    group, point = np.stack([turn, turn.T]), data.point()
    # Along the group: rotations of the plane.
    weights, angle = data.random(), np.array([1.0, -2.0])
    skew = np.array([[0.0, -1.0], [1.0, 0.0]])

    def turned(t):
        turns = (t[:, None] * angle)[..., None, None]
        return (np.cos(turns) * np.eye(2) + np.sin(turns) * skew) @ group

    weight = gs.array(weights) if ON_TORCH else weights
    by_group, by_point = gradients(lambda h, w: gs.sum(weight * data.space.act(h, w)), group, point)
    expected = slope(lambda t: np.sum(weights * data.space.act(turned(t), point), axis=(1, 2, 3)))
    assert abs(np.sum(by_group * (angle[:, None, None] * skew @ group)) - expected) < TOLERANCE
    direction = data.random()
    expected = np.sum(weights * data.space.act(group, direction))
    assert abs(np.sum(by_point * direction) - expected) < TOLERANCE
    record("by the group", by_group)


@each_solved
def test_batches_are_summed_over(data, record):
    """Gradients by an argument that was repeated are sums; others have their own."""
    metric = data.space.metric
    point = data.point()
    vectors = data.vector(0.2 * data.random(3), point)
    compare(data, metric.exp, ["tangent", "point"], [vectors, point], record, "one base point")
    ends = metric.exp(vectors, point)
    compare(data, metric.log, ["point", "point"], [ends, point[None]], record, "one of one")
    compare(data, metric.squared_dist, ["point", "point"], [point, ends], record, "one to many")
    compare(data, metric.inner_product, ["tangent"] * 2 + ["point"], [vectors[0], vectors, point],
            record, "one vector")  # fmt: skip
    points = np.stack([point, data.point()])[:, None]
    grid = ["tangent", "point"], [vectors, points]
    compare(data, metric.norm, *grid, record, "a grid of norms")


@each_solved
def test_unit_vectors_and_pairwise_distances(data, record):
    metric, point = data.space.metric, data.point()
    pair = ["ambient", "point"], [data.vector(data.random(), point), point]
    compare(data, metric.normalize, *pair, record, "unit vector")
    compare(data, metric.normal_basis, *pair, record, "basis of unit vectors")
    ends = metric.exp(data.vector(0.2 * data.random(3), point), point)
    (found,) = gradients(lambda x: gs.sum(metric.dist_pairwise(x) ** 2), ends)
    # The matrix holds each pair twice.
    (expected,) = gradients(lambda x: 2 * gs.sum(metric.squared_dist(x, x[[1, 2, 0]])), ends)
    assert np.abs(found - expected).max() <= 1e-9 * np.abs(expected).max()


@each_solved
def test_loss_of_a_geodesic_regression(data, record):
    """What geomstats' GeodesicRegression differentiates, where it starts: at coefficient zero."""
    metric, point = data.space.metric, data.point()
    data_points = metric.exp(data.vector(0.3 * data.random(3), point), point)
    times = np.array([-0.5, 0.1, 0.5]).reshape(-1, *(1,) * point.ndim)

    def loss(coefficient, intercept):
        plain = not ON_TORCH or isinstance(coefficient, np.ndarray)
        t, ends = (x if plain else torch.tensor(x) for x in (times, data_points))
        return metric.squared_dist(metric.exp(t * coefficient, intercept), ends)

    two = ["tangent", "point"], [0 * point, point]
    compare(data, loss, *two, record, "loss", stacked=one_by_one(loss))


@each_solved
def test_zero_lengths(data):
    """Norm and distance have no derivative at zero; zero is taken."""
    metric, point = data.space.metric, data.point()
    for found in (
        gradients(lambda v, x: metric.norm(v, x), 0 * point, point),
        gradients(lambda x, y: metric.dist(x, y), point, point.copy()),
        gradients(lambda x, y: metric.squared_dist(x, y), point, point.copy()),
    ):
        assert all(np.abs(gradient).max() == 0 for gradient in found)


@each_space
def test_no_rule_no_derivative(data):
    """What has no rule, and every second derivative, is refused instead of counting as zero."""
    point = data.point()
    radius = data.space.metric.injectivity_radius
    with pytest.raises(NotImplementedError, match="no derivative rule"):
        gradients(lambda x: gs.sum(radius(x)), point)
    # What a solution holds would count as constant.
    with pytest.raises(NotImplementedError, match="GeodesicSolution holds NumPy arrays"):
        gradients(lambda x: gs.sum(x) * data.space.metric.solve_log(x, x).length, point)
    with pytest.raises(NotImplementedError):
        second_derivative(data.space.entropy, point)


@each_layers
def test_factors_have_no_derivative(data):
    """They follow singular vectors, which may jump."""
    matrix = data.below.point()
    for method in (data.space.factor, data.space.fiber_bundle.lift):
        with pytest.raises(NotImplementedError, match="singular vectors"):
            gradients(lambda x, f=method: gs.sum(f(x)), matrix)


@each_solved
def test_pymanopt_names(data):
    """The methods of the space, one point at a time and base point first, have the same rules."""
    space, point, vector = data.space, data.point(), 0.2 * data.random()
    other = space.metric.exp(data.vector(vector, point), point)
    vector = data.vector(vector, point)
    metric = space.metric
    for ours, theirs, arguments in (
        (space.dist, metric.dist, (point, other)),
        (space.exp, lambda x, v: metric.exp(v, x), (point, vector)),
        (space.log, lambda x, y: metric.log(y, x), (point, other)),
        (space.norm, lambda x, v: metric.norm(v, x), (point, vector)),
        (space.pair_mean, lambda x, y: metric.exp(0.5 * metric.log(y, x), x), (point, other)),
    ):
        found = gradients(lambda *given, f=ours: gs.sum(f(*given) ** 2), *arguments)
        expected = gradients(lambda *given, f=theirs: gs.sum(f(*given) ** 2), *arguments)
        for a, b in zip(found, expected, strict=True):
            assert np.abs(a - b).max() <= 1e-11 * max(1.0, np.abs(b).max())


@each
def test_failed_members_have_no_gradient(data):
    """Gradients of members that could not be solved are NaN, those of the others are right."""
    space = data.space.new(equip=False)
    space.equip_with_metric(type(data.space.metric), on_failure="nan")
    point = np.stack([data.point(), np.broadcast_to(np.eye(space.n), space.shape)])
    inward = np.stack([0 * point[0], -5.0 * point[1]])
    by_vector, by_point = gradients(lambda v, x: gs.sum(space.metric.exp(v, x)), inward, point)
    for gradient in (by_vector, by_point):
        assert np.isfinite(gradient[0]).all()
        assert np.isnan(gradient[1]).all()


@pytest.mark.skipif(not ON_TORCH, reason="tensors only")
@each_space
def test_single_precision(data):
    point = torch.tensor(data.space.projection(data.point()), dtype=torch.float32)
    point = data.space.projection(point).requires_grad_()
    (single,) = torch.autograd.grad(data.space.entropy(point), point)
    assert single.dtype == torch.float32
    double = point.detach().double()
    double = data.space.projection(double).requires_grad_()
    (expected,) = torch.autograd.grad(data.space.entropy(double), double)
    assert torch.allclose(single.double(), expected, atol=1e-5)
