"""pymanopt's solvers on both manifolds: no run ends in an error of ours, whatever its start."""

import warnings

import numpy as np
import pymanopt
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pymanopt.manifolds import Euclidean, Product
from pymanopt.optimizers import (
    ConjugateGradient,
    NelderMead,
    ParticleSwarm,
    SteepestDescent,
    TrustRegions,
)

from dln_manifolds import (
    BalancedManifold,
    DisconnectedPointsError,
    DLNObservableManifold,
    GeodesicWarning,
    InvalidPointError,
    costs,
    pymanopt_problem,
)

TARGET = np.array([[1.0, -0.7], [0.4, 1.6]])
LOSS = costs.MatrixCompletion(TARGET, np.ones((2, 2)))
SPACES = {
    f"{kind} {n}, {depth}": make(n, depth)
    for kind, make in (("matrices", DLNObservableManifold), ("layers", BalancedManifold))
    for n, depth in ((2, 1), (2, 2), (2, 4), (1, 3), (3, 3))
}
of_every_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)


def is_layered(space):
    return isinstance(space, BalancedManifold)


def reflected(point):
    """Return the point with the sign of a column changed, of the first layer."""
    other = point.copy()
    other[..., 0] *= -1 if point.ndim == 2 else np.eye(len(point), 1) * -2 + 1
    return other


def singular(space, k):
    """Return a point with a condition number of 1e14."""
    values = np.ones(space.n)
    values[-1] = 1e-14 * (k + 1)
    left, right = np.linalg.qr(np.random.normal(size=(2, space.n, space.n)))[0]
    matrix = left * values @ right
    return space.factor(matrix) if is_layered(space) else matrix


STARTS = {
    "none": None,
    "of one component": lambda space, k: space.random_point(),
    "of several components": lambda space, k: [reflected, np.copy][k % 2](space.random_point()),
    "nearly singular": singular,
    "far apart": lambda space, k: space.random_point(bound=12.0),
    "tiny": lambda space, k: 1e-12 * space.random_point(),
}
SOLVERS = {
    "steepest descent": SteepestDescent(verbosity=0, max_iterations=30),
    "conjugate gradient": ConjugateGradient(verbosity=0, max_iterations=30),
    "trust regions": TrustRegions(verbosity=0, max_iterations=15),
    "Nelder-Mead": NelderMead(verbosity=0, max_iterations=3),
    "particle swarm": ParticleSwarm(verbosity=0, max_iterations=5, population_size=5),
}


def initial_point(solver, space, start):
    if start is None:
        return None
    # pymanopt 2.2.1 takes a simplex for Nelder-Mead only if it has a wrong number of vertices.
    count = {NelderMead: space.dim + 2, ParticleSwarm: 5}.get(type(solver))
    return start(space, 0) if count is None else [start(space, k) for k in range(count)]


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("make", [DLNObservableManifold, BalancedManifold])
def test_runs_end_without_an_error(make, depth, solver, start):
    space = make(2, depth)
    loss = costs.free_energy(LOSS, 10.0, depth)
    problem = pymanopt_problem(space, costs.OfLayers(loss) if is_layered(space) else loss)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pymanopt's divisions by zero, and of chords
        result = solver.run(problem, initial_point=initial_point(solver, space, start))
    assert space.belongs(result.point)
    assert result.cost == problem.cost(result.point)
    assert np.isfinite(result.cost)


@pytest.mark.parametrize(
    ("space", "target"),
    [
        (DLNObservableManifold(2, 1), np.diag([3.0, 2.0])),
        (BalancedManifold(2, 1), np.diag([3.0, 2.0])),
        (DLNObservableManifold(2, 3), np.diag([2.0, 1.0])),
        (Euclidean(2, 2), np.diag([3.0, 2.0])),
    ],
    ids=str,
)
def test_a_model_that_is_solved_exactly_does_not_end_trust_regions(space, target):
    # The next inner step is 0 / 0.
    loss = costs.MatrixCompletion(target, np.ones((2, 2)))
    layered = is_layered(space)
    problem = pymanopt_problem(space, costs.OfLayers(loss) if layered else loss)
    start = np.eye(2)[None] if layered else np.eye(2)
    with np.errstate(all="ignore"):
        result = TrustRegions(verbosity=0).run(problem, initial_point=start)
    assert_allclose(result.point.reshape(2, 2), target, atol=1e-6)


@of_every_space
def test_steepest_descent_started_at_the_solution_stays_there(space):
    # Its first step is of the length 1 / 0; line searches take a NaN cost for an improvement.
    start = space.random_point()

    @pymanopt.function.autograd(space)
    def cost(point):
        return ((point - start) ** 2).sum()

    with np.errstate(all="ignore"):
        result = SteepestDescent(verbosity=0).run(
            pymanopt.Problem(space, cost), initial_point=start
        )
    assert_array_equal(result.point, start)
    assert result.cost == 0


# Steps without a finite entry


@of_every_space
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_steps_that_are_not_finite_are_refused(space, value):
    X = space.random_point()
    kept, step = X.copy(), np.full(space.shape, value)
    other = space.random_tangent_vector(X)
    assert_array_equal(space.retraction(X, step), X)
    assert not np.shares_memory(space.retraction(X, step), X)
    assert np.isnan(space.inner_product(X, step, other))
    assert np.isnan(space.norm(X, step))
    for image in (
        space.to_tangent_space(X, step),
        space.transport(X, X, step),
        space.euclidean_to_riemannian_hessian(X, other, np.full(space.shape, np.nan), step),
    ):
        assert np.isnan(image).all()
    assert_array_equal(X, kept)
    single = space.retraction(X.astype(np.float32), step.astype(np.float32))
    assert single.dtype == np.float32


@pytest.mark.parametrize("make", [DLNObservableManifold, BalancedManifold])
def test_problems_refuse_such_steps_and_points(make):
    space = make(2, 2)
    cost = costs.free_energy(LOSS, 10.0, 2)
    problem = pymanopt_problem(space, costs.OfLayers(cost) if is_layered(space) else cost)
    X = space.random_point()
    assert np.isnan(problem.riemannian_hessian(X, np.full(space.shape, np.nan))).all()
    assert problem.cost(np.full(space.shape, np.nan)) == np.inf
    # on a manifold of pymanopt too
    flat = pymanopt_problem(Euclidean(2, 2), cost)
    assert flat.cost(np.full((2, 2), np.nan)) == np.inf


@of_every_space
def test_derivatives_that_are_nan_at_a_good_point_are_told(space):
    X = space.random_point()
    V, bad = space.random_tangent_vector(X), np.full(space.shape, np.nan)
    with pytest.raises(
        InvalidPointError, match=r"euclidean_gradient is not finite.*check_gradient"
    ):
        space.euclidean_to_riemannian_gradient(X, bad)
    with pytest.raises(InvalidPointError, match=r"euclidean_hessian is not finite"):
        space.euclidean_to_riemannian_hessian(X, V, bad, V)


@pytest.mark.parametrize("make", [DLNObservableManifold, BalancedManifold])
def test_costs_that_are_nan_at_a_good_point_are_told(make):
    class Logarithm(costs.Cost):
        def __call__(self, point):
            with np.errstate(invalid="ignore"):
                return np.sum(np.log(point[..., 0, 0]))

        def euclidean_gradient(self, point):
            return np.full(point.shape, np.nan)

        def euclidean_hessian(self, point, vector):
            return vector

    space = make(2, 2)
    problem = pymanopt_problem(space, Logarithm())
    start = space.random_point()
    with pytest.raises(InvalidPointError, match="not smooth at this point"):
        SteepestDescent(verbosity=0).run(problem, initial_point=np.sign(start.flat[0]) * start)
    with pytest.raises(InvalidPointError, match="NaN at a finite point"):
        problem.cost(-np.sign(start.flat[0]) * start)


def test_trials_beyond_the_geodesics_of_a_cost_are_refused():
    variance = costs.FrechetVariance(np.eye(2)[None], 1)
    problem = pymanopt_problem(DLNObservableManifold(2, 1), variance)
    assert problem.cost(-np.eye(2)) == problem.cost(np.diag([1.0, -1.0])) == np.inf
    # but not as a start
    with pytest.raises(DisconnectedPointsError):
        SteepestDescent(verbosity=0).run(problem, initial_point=np.diag([1.0, -1.0]))


@pytest.mark.parametrize("depth", [1, 1.5, 4])
@pytest.mark.parametrize("scale", [1e-290, 1e-200, 1e-70, 1e70, 1e200, 1e290])
def test_retraction_of_matrices_at_every_scale(scale, depth):
    space = DLNObservableManifold(2, depth)
    X, Z = space.random_point(), np.random.normal(size=(2, 2))
    for step in (scale * Z, -3 * scale * X, 1e300 * Z, 1e-300 * Z):
        end = space.retraction(scale * X, step)
        assert space.belongs(end)
        assert np.linalg.det(X) * np.linalg.slogdet(end)[0] > 0
    if 1e-201 < scale < 1e101:  # beyond, results are cut
        expected = scale * space.retraction(X, Z)
        assert_allclose(space.retraction(scale * X, scale * Z), expected, rtol=1e-10)


# Chords


def chord(name, space, *points):
    """Return what a method of a manifold answers when a solver of pymanopt asks."""
    solver = {"__name__": "pymanopt.optimizers.of_this_test"}
    exec("def ask(method, points):\n    return method(*points)", solver)
    return solver["ask"](getattr(space, name), points)


@of_every_space
def test_chords_are_of_second_order(space):
    X = space.random_point()
    V = 0.5 * space.random_tangent_vector(X)
    errors = []
    for t in (0.1, 0.05):
        Y = space.exp(X, t * V)
        log, dist = chord("log", space, X, Y), chord("dist", space, X, Y)
        errors.append([space.norm(X, log - t * V), abs(dist - 0.5 * t)])
    # halving divides errors by eight
    assert (np.array(errors[1]) <= np.array(errors[0]) / 7 + 1e-13).all(), errors


@of_every_space
def test_half_the_squared_chord_has_minus_its_log_as_gradient(space):
    X = space.random_point(bound=0.3)
    Y = space.retraction(X, space.random_tangent_vector(X))
    log, h = chord("log", space, X, Y), 1e-5
    for _ in range(3):
        V = space.random_tangent_vector(X)
        ends = [chord("dist", space, space.retraction(X, s * h * V), Y) for s in (1, -1)]
        slope = (ends[0] ** 2 - ends[1] ** 2) / (4 * h)
        assert slope == pytest.approx(-space.inner_product(X, log, V), rel=1e-3, abs=1e-6)


def test_chords_of_matrices_are_exact_where_paths_are_straight():
    flat = DLNObservableManifold(3, 1)
    X, Y = np.eye(3), np.eye(3) + 0.2 * np.random.normal(size=(3, 3))
    assert_allclose(chord("log", flat, X, Y), Y - X, atol=1e-14)
    deep = DLNObservableManifold(3, 5)
    X, Y = np.diag([3.0, 2.0, 1.0]), np.diag([0.5, 2.0, 4.0])
    assert_allclose(chord("log", deep, X, Y), deep.log(X, Y), atol=1e-12)
    assert chord("dist", deep, X, Y) == pytest.approx(deep.dist(X, Y), rel=1e-12)


@of_every_space
def test_chords_exist_for_every_pair_and_lead_towards_its_end(space):
    ends = [space.random_point(), 1e-9 * space.random_point(), 1e9 * space.random_point()]
    ends += [-ends[0], reflected(ends[0]), reflected(space.random_point()), singular(space, 0)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GeodesicWarning)
        for X in ends:
            for Y in ends:
                log, dist = chord("log", space, X, Y), chord("dist", space, X, Y)
                middle = chord("pair_mean", space, X, Y)
                assert space.is_tangent(log, X)
                assert space.belongs(middle)
                assert_array_equal(np.linalg.slogdet(middle)[0], np.linalg.slogdet(X)[0])
                assert dist == pytest.approx(chord("dist", space, Y, X), rel=1e-10)
                assert (dist == 0) == np.array_equal(X, Y)
    X = space.random_point(bound=0.3)
    Y = space.retraction(X, 0.5 * space.random_tangent_vector(X))
    before = space.dist(X, Y)
    assert space.dist(space.retraction(X, chord("log", space, X, Y)), Y) <= 0.1 * before
    middle = chord("pair_mean", space, X, Y)
    assert max(space.dist(X, middle), space.dist(middle, Y)) <= 0.6 * before


@of_every_space
def test_everybody_else_gets_geodesics(space):
    X, Y = space.random_point(2, bound=0.3)
    assert_array_equal(space.log(X, Y), space.metric.log(Y, X))
    assert space.dist(X, Y) == space.metric.dist(X, Y)
    count = space.chord_count
    seen = []

    @pymanopt.function.numpy(space)
    def cost(point):
        seen.append(space.dist(point, Y))
        return seen[-1]

    swarm = ParticleSwarm(verbosity=0, max_iterations=1, population_size=2)
    swarm.run(pymanopt.Problem(space, cost), initial_point=[X, Y])
    assert seen == [space.metric.dist(X, Y), 0.0]
    assert space.chord_count == count


def test_products_ask_on_behalf_of_a_solver():
    layers, matrix = BalancedManifold(2, 2), DLNObservableManifold(2, 3)
    space = Product([layers, matrix])
    x, y = space.random_point(), space.random_point()
    parts = [chord("dist", s, a, b) for s, a, b in zip((layers, matrix), x, y, strict=True)]
    assert chord("dist", space, x, y) == pytest.approx(np.hypot(*parts), rel=1e-12)
    exact = [s.metric.dist(a, b) for s, a, b in zip((layers, matrix), x, y, strict=True)]
    assert space.dist(x, y) == pytest.approx(np.hypot(*exact), rel=1e-12)


def test_a_geodesic_that_is_not_found_is_told_once_and_counted():
    space, X = DLNObservableManifold(2, 1), np.eye(2)
    with pytest.warns(GeodesicWarning, match=r"singular matrix .* A chord stands") as caught:
        assert space.dist(X, -X) == pytest.approx(2 * np.sqrt(2))
    assert caught[0].filename == __file__
    assert space.chord_count == 1
    assert_allclose(space.log(X, -X), -2 * X, atol=1e-14)
    assert space.belongs(space.pair_mean(X, -X))
    assert space.chord_count == 3


@pytest.mark.parametrize("make", [DLNObservableManifold, BalancedManifold])
def test_pairs_of_different_components_are_told_once_and_counted(make):
    space = make(2, 3)
    points = [space.random_point(), reflected(space.random_point())]
    problem = pymanopt_problem(space, costs.OfLayers(LOSS) if is_layered(space) else LOSS)
    with pytest.warns(GeodesicWarning, match="different components") as caught:
        ParticleSwarm(verbosity=0, max_iterations=3).run(problem, initial_point=points)
    assert len(caught) == 1
    assert space.chord_count >= 8
    with pytest.raises(DisconnectedPointsError):
        space.dist(*points)
