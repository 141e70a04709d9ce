"""What objects say of themselves: repr, dir, signatures, parameters by name, seeds."""

import inspect
import logging

import numpy as np
import pytest
from geomstats.learning.frechet_mean import FrechetMean
from geomstats.learning.knn import KNearestNeighborsClassifier
from geomstats.learning.mdm import RiemannianMinimumDistanceToMean
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from dln_manifolds import (
    BalancedManifold,
    DLNObservableManifold,
    DLNQuotientMetric,
    InvalidPointError,
    costs,
    pymanopt_problem,
)

SPACES = [
    DLNObservableManifold(2, 3),
    DLNObservableManifold(shape=(3, 2), rank=1, depth=2.5),
    BalancedManifold(2, 3),
    BalancedManifold(widths=(3, 2, 4)),
]
VIEWS = [SPACES[0].flattened(), SPACES[1].flattened(orthonormal=True), SPACES[2].flattened()]
every_space = pytest.mark.parametrize("space", [*SPACES, *VIEWS], ids=repr)


def quotient():
    space = DLNObservableManifold(2, 2, equip=False)
    space.equip_with_metric(DLNQuotientMetric)
    return space.metric


class TestReprs:
    @every_space
    def test_metrics(self, space):
        said = repr(space.metric)
        assert said.startswith(f"{type(space.metric).__name__}({space!r}")
        assert "\n" not in said

    def test_arguments_of_metrics_and_what_belongs_to_a_space(self):
        space = DLNObservableManifold(2, 3)
        space.equip_with_metric(tolerance=1e-10, on_failure="nan")
        assert repr(space.metric) == (
            "DLNObservableMetric(DLNObservableManifold(n=2, depth=3), tolerance=1e-10, "
            "on_failure='nan')"
        )
        assert repr(SPACES[2].fiber_bundle) == "DLNBundle(BalancedManifold(n=2, depth=3))"
        assert repr(quotient()) == "DLNQuotientMetric(DLNObservableManifold(n=2, depth=2))"

    def test_costs(self):
        points = np.stack([np.eye(2), np.diag([1.0, 2.0])])
        variance = costs.FrechetVariance(points, 2.5)
        assert repr(variance) == (
            "<FrechetVariance to 2 points of end-to-end matrices 2 x 2, depth 2.5, rank 2>"
        )
        loss = costs.MatrixCompletion(np.ones((3, 2)), np.ones((3, 2)))
        assert repr(loss) == "<MatrixCompletion of end-to-end matrices 3 x 2>"
        assert repr(2 * loss - loss) == f"(1 * (2 * {loss!r}) + -1 * {loss!r})"
        of_layers = costs.OfLayers(loss, widths=(2, 4, 3))
        assert repr(of_layers) == "<OfLayers of layers 3 x 2, depth 2, hidden widths (4,)>"

        class Own(costs.Cost):
            def __call__(self, point):
                return 0.0

            def euclidean_gradient(self, point):
                return point

            def euclidean_hessian(self, point, vector):
                return vector

        assert repr(Own()) == "<Own of points>"

    def test_solutions(self):
        metric = SPACES[0].metric
        ends = np.stack([np.eye(2), np.diag([4.0, 1.0])])
        one, two = (metric.solve_log(end, np.eye(2)) for end in (ends[1], ends))
        assert repr(one).startswith(
            "<GeodesicSolution: depth 3, points (2, 2), 1 of 1 solved, length 1.02, residual "
        )
        assert "batch (2,), 2 of 2 solved, length 0 to 1.02, residual " in repr(two)
        across = metric.solve_completed(np.diag([1.0, -1.0]), np.eye(2))
        assert repr(across).startswith(
            "<CompletedSolution: points (2, 2), 1 across det = 0, 1 of 1 solved, length "
        )
        for solution in (one, two, across, metric.solve_log(ends[:0], ends[:0])):
            assert "\n" not in repr(solution)
            assert len(repr(solution)) < 200


def arguments(space, method):
    """Return arguments for a method of a metric, by the names of its parameters."""
    point = space.random_point(bound=0.2)
    vector = 0.1 * space.to_tangent(space.random_tangent_vec(point), point)
    other, found = space.metric.exp(vector, point), {}
    for name, parameter in inspect.signature(method).parameters.items():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        if name in ("base_point", "initial_point", "point_a"):
            found[name] = point
        elif name in ("point", "point_b", "end_point"):
            found[name] = other
        elif name in ("points", "neighbors"):
            found[name] = np.stack([point, other])
        elif "vec" in name or name in ("basis", "coordinates", "direction"):
            found[name] = vector
        elif parameter.default is parameter.empty:
            found[name] = other
    if "end_point" in found:  # or a direction
        for name in {"direction", "initial_tangent_vec"} & found.keys():
            del found[name]
    return {name: x for name, x in found.items() if not name.startswith("n_vec")}


@pytest.mark.parametrize(
    "metric", [*(space.metric for space in [*SPACES, *VIEWS]), quotient()], ids=repr
)
def test_names_that_are_listed_do_something(metric):
    np.random.seed(0)
    space, tried = metric._space, 0
    for name in dir(metric):
        method = getattr(metric, name)
        if name.startswith("_") or not inspect.ismethod(method):
            continue
        try:
            method(**arguments(space, method))
            tried += 1
        except NotImplementedError as error:
            pytest.fail(f"{name}: {error}")
        except (ValueError, TypeError):
            continue  # arguments of another kind
    assert tried > 15
    assert {"exp", "log", "dist", "inner_product"} <= set(dir(metric))
    # What is not listed is there, and says why it cannot.
    with pytest.raises(NotImplementedError):
        metric.curvature_derivative(*[space.random_point()] * 5)


def test_signatures_are_readable():
    metric = SPACES[0].metric
    expected = "(point: ArrayLike, base_point: ArrayLike, *, search: str = 'default') -> Array"
    assert str(inspect.signature(metric.log)) == expected
    assert "base_point: ArrayLike | None = None" in str(inspect.signature(metric.norm))
    for owner in (*SPACES, metric, SPACES[2].metric, SPACES[2].fiber_bundle):
        for name in dir(owner):
            method = getattr(owner, name, None)
            if not name.startswith("_") and inspect.ismethod(method):
                assert "numpy._typing" not in str(inspect.signature(method)), name


@every_space
def test_draws_from_a_generator_or_a_seed(space):
    np.random.seed(0)
    state = np.random.get_state()[1].copy()
    for count in (1, 3):
        points = space.random_point(count, 0.5, rng=7)
        np.testing.assert_array_equal(points, space.random_point(count, 0.5, rng=7))
        assert space.belongs(points).all()
    rng = np.random.default_rng(7)
    first, second = space.random_point(rng=rng), space.random_point(rng=rng)
    np.testing.assert_array_equal(first, space.random_point(rng=7))
    assert not np.array_equal(first, second)
    assert np.array_equal(np.random.get_state()[1], state)  # the global one is left alone
    if space in SPACES:
        for draw in (space.random_tangent_vec, space.metric.random_unit_tangent_vec):
            np.testing.assert_array_equal(draw(first, 2, rng=1), draw(first, 2, rng=1))
            assert not np.array_equal(draw(first, rng=1), draw(first, rng=2))
        assert np.array_equal(np.random.get_state()[1], state)


@pytest.mark.parametrize("time", [np.nan, np.inf, -np.inf])
def test_times_are_finite(time):
    metric = SPACES[0].metric
    for path in (
        metric.geodesic(np.eye(2), initial_tangent_vec=np.eye(2)),
        metric.geodesic(np.eye(2), end_point=2 * np.eye(2)),
        metric.solve_exp(np.eye(2), np.eye(2)),
    ):
        with pytest.raises(InvalidPointError, match="t must be a finite number"):
            path([0.5, time])
    with pytest.raises(ValueError, match="tolerance must be finite"):
        costs.FrechetVariance([np.eye(2)], 2, tolerance=time)


def test_lists_of_layers_are_refused_by_name():
    space = SPACES[3]
    layers = list(space.layers(space.random_point()))
    cost = costs.OfLayers(costs.LinearRegression(np.eye(3), np.ones((3, 4))), widths=(3, 2, 4))
    problem = pymanopt_problem(space, cost)
    with pytest.raises(InvalidPointError, match=r"point is not a rectangular.*space.point"):
        problem.cost(layers)
    with pytest.raises(InvalidPointError, match="base_point is not a rectangular"):
        space.metric.dist(layers, layers)


def test_pymanopts_methods_take_keywords():
    for space in SPACES:
        point = space.random_point()
        vector = space.random_tangent_vector(point=point)
        single = {"point": point.astype(np.float32), "tangent_vector": vector.astype(np.float32)}
        assert space.norm(point=point, tangent_vector=vector) == space.norm(point, vector)
        assert space.norm(**single).dtype == np.float32


class TestParameters:
    def test_by_name(self):
        space = DLNObservableManifold(2, 3)
        assert space.get_params() == {
            "n": 2,
            "depth": 3,
            "tolerance": 1e-13,
            "on_failure": "raise",
        }
        assert space.set_params(depth=2.5, on_failure="nan") is space
        assert (space.depth, space.metric.on_failure, space.metric.space) == (2.5, "nan", space)
        assert space.metric.stratum.depth == 2.5
        point = space.random_point()
        assert np.isnan(space.metric.dist(point, point * [[1], [-1]]))

    @every_space
    def test_clones(self, space):
        copy = clone(space)
        assert copy is not space
        assert repr(copy) == repr(space)
        assert repr(copy.metric) == repr(space.metric)
        unequipped = space.new(equip=False)
        assert not hasattr(clone(unequipped), "metric")
        assert unequipped.set_params(**unequipped.get_params(deep=False)) is unequipped

    def test_layers_keep_their_bundle(self):
        space = BalancedManifold(2, 3).set_params(depth=4)
        assert space.shape == (4, 2, 2)
        assert space.fiber_bundle.total_space is space
        assert space.belongs(space.random_point())
        wide = BalancedManifold(widths=(3, 2, 4)).set_params(rank=1)
        assert (wide.rank, wide.widths) == (1, (3, 2, 4))

    def test_what_does_not_fit_changes_nothing(self):
        space = DLNObservableManifold(2, 3)
        for wrong in ({"depth": 0.5}, {"shape": (2, 3)}, {"on_failure": "maybe"}, {"width": 3}):
            with pytest.raises((TypeError, ValueError)):
                space.set_params(**wrong)
            assert repr(space) == "DLNObservableManifold(n=2, depth=3)"
            assert space.metric.on_failure == "raise"
        with pytest.raises(ValueError, match=r"no parameter 'width'; there are depth, n, on_fail"):
            space.set_params(width=3)

    def test_views_reach_what_they_look_at(self):
        view = DLNObservableManifold(2, 3).flattened()
        assert view.get_params()["space__depth"] == 3
        view.set_params(space__depth=5, orthonormal=True)
        assert repr(view) == "DLNObservableManifold(n=2, depth=5).flattened(orthonormal=True)"

    def test_estimators(self):
        estimator = FrechetMean(DLNObservableManifold(2, 3))
        assert estimator.get_params()["space__depth"] == 3
        other = clone(estimator).set_params(space__depth=2)
        assert (other.space.depth, estimator.space.depth) == (2, 3)

    @pytest.mark.parametrize("kind", ["nearest mean", "neighbors"])
    def test_grid_search_over_the_depth(self, kind):
        logging.getLogger().setLevel(logging.ERROR)
        rng, space = np.random.default_rng(0), DLNObservableManifold(2, 3)
        points = np.stack([np.eye(2), np.diag([3.0, 0.5])] * 8)
        points = points + 0.2 * rng.normal(size=points.shape)
        labels = np.arange(16) % 2
        estimator = RiemannianMinimumDistanceToMean(space)
        depths, name = [1, 2, 4.5], "space__depth"
        if kind == "neighbors":
            view = space.flattened()
            points, name = view.flatten(points), "space__space__depth"
            estimator = KNearestNeighborsClassifier(view, n_neighbors=1)
        search = GridSearchCV(estimator, {name: depths}, cv=2, error_score="raise")
        search.fit(points, labels)
        assert list(search.cv_results_[f"param_{name}"]) == depths
        assert search.best_score_ > 0.8
        assert search.best_params_[name] in depths
        assert space.depth == 3
