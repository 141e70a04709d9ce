"""Arguments of a silly type end in an error of ours that names them, wherever they are given."""

import linecache
import traceback

import matplotlib
import numpy as np
import pandas as pd
import pytest

from dln_manifolds import (
    BalancedManifold,
    BalancedMetric,
    DLNObservableManifold,
    DLNObservableMetric,
    InvalidPointError,
    bridges,
    costs,
    diagnostics,
    dynamics,
    plotting,
    pymanopt_problem,
    spd,
    storage,
)
from dln_manifolds.numerics.arguments import choice, generator, real, times_of, whole
from dln_manifolds.recording import TrainingRecorder

matplotlib.use("Agg")

SPACE, TOTAL = DLNObservableManifold(2, 3), BalancedManifold(2, 3)
X, Y = np.array([[2.0, 0.3], [0.1, 1.0]]), np.array([[1.0, -0.2], [0.0, 1.5]])
V, W = np.array([[0.1, 0.2], [0.0, -0.1]]), TOTAL.factor(X)
FLAT = SPACE.flattened()
SOLUTION, PATH = SPACE.metric.solve_log(Y, X), SPACE.metric.geodesic(X, end_point=Y)
COMPLETED = SPACE.metric.solve_completed(Y, X)
LAYERS = [np.eye(2), np.eye(2)]
COST = costs.LinearRegression(np.eye(2), np.eye(2))
PROBLEM = pymanopt_problem(SPACE, COST)


def energy(X):
    return 0.5 * np.sum(X**2, axis=(-2, -1))


def slope(X):
    return X


MEASURE = dynamics.GibbsMeasure(SPACE, energy, slope)


def clock(**options):
    return dynamics.training_clock([X, 0.9 * X], [2.0, 1.0], [0.0, 1.0], **{"depth": 3, **options})


COUNTS = {
    "n_samples": lambda n: SPACE.random_point(n),
    "n_samples of vectors": lambda n: SPACE.random_tangent_vec(X, n),
    "n_samples of layers": lambda n: TOTAL.random_point(n),
    "n_vectors": lambda n: SPACE.metric.random_unit_tangent_vec(X, n),
    "n_steps": lambda n: dynamics.langevin(MEASURE, X, 0.01, n),
    "n_draws": lambda n: dynamics.sample(MEASURE, 1, n),
    "n_ellipses": lambda n: plotting.plot_geodesic(PATH, n_ellipses=n),
    "n_times": lambda n: plotting.plot_singular_values(PATH, n_times=n),
    "style": lambda n: plotting.plot_singular_values(PATH, style=n),
    "plane": lambda n: plotting.plot_geodesic(PATH, plane=(0, n)),
    "resolution": lambda n: plotting.plot_entropy_landscape(SPACE, resolution=n),
    "levels": lambda n: plotting.plot_entropy_landscape(SPACE, levels=n),
    "n_nodes": lambda n: dynamics.thermodynamic_integration(abs, 1.0, 2.0, n),
    "order": lambda n: diagnostics.check_retraction(SPACE, X, V, order=n),
}
REALS = {
    "bound": lambda x: SPACE.random_point(bound=x),
    "depth": lambda x: dynamics.flow_of_point(X, x, slope, [0.0, 1.0]),
    "depth of a clock": lambda x: clock(depths=[x]),
    "slack": lambda x: clock(slack=x),
    "tolerance": lambda x: dynamics.flow_of_layers(LAYERS, slope, [0.0, 1.0], tolerance=x),
    "tolerance of balancing": lambda x: dynamics.balancing_flow(LAYERS, [0.0, 1.0], tolerance=x),
    "tolerance of a check": lambda x: diagnostics.check_gradient(PROBLEM, X, V, tolerance=x),
    "step": lambda x: dynamics.langevin(MEASURE, X, x, 1),
    "beta": lambda x: dynamics.GibbsMeasure(SPACE, energy, slope, beta=x),
    "beta of a cost": lambda x: costs.free_energy(COST, x, 3),
    "anisotropy": lambda x: dynamics.SpectralThermodynamics(energy, 2, 3, x),
    "start": lambda x: dynamics.thermodynamic_integration(abs, x, 2.0),
    "t_max": lambda x: SPACE.metric.conjugate_time(V, X, x),
}
TIMES = {
    "solution": lambda t: SOLUTION(t),
    "completed": lambda t: COMPLETED(t),
    "curve": lambda t: PATH(t),
    "jacobi": lambda t: SPACE.metric.jacobi_field(V, V, X, t=t),
    "Bures-Wasserstein": lambda t: spd.bures_wasserstein_geodesic(np.eye(2), 2 * np.eye(2), t),
}
SEEDS = {
    "random_point": lambda rng: SPACE.random_point(rng=rng),
    "random_tangent_vec": lambda rng: SPACE.random_tangent_vec(X, rng=rng),
    "random_tangent_vector": lambda rng: SPACE.random_tangent_vector(X, rng=rng),
    "random_tangent_vector of layers": lambda rng: TOTAL.random_tangent_vector(W, rng=rng),
    "random_unit_tangent_vec": lambda rng: SPACE.metric.random_unit_tangent_vec(X, rng=rng),
    "flattened": lambda rng: FLAT.random_tangent_vec(X.ravel(), rng=rng),
    "check": lambda rng: diagnostics.check_dimension(SPACE, rng=rng).residuals["rank"],
    "langevin": lambda rng: dynamics.langevin(MEASURE, X, 0.01, 2, rng=rng).points,
}
FUNCTIONS = {
    "gradient": lambda f: dynamics.flow_of_layers(LAYERS, f, [0.0, 1.0]),
    "gradient of X": lambda f: dynamics.flow_of_point(X, 3, f, [0.0, 1.0]),
    "energy": lambda f: dynamics.flow_of_point(X, 3, slope, [0.0, 1.0], energy=f),
    "mean_energy": lambda f: dynamics.thermodynamic_integration(f, 1.0, 2.0),
    "cost": lambda f: plotting.plot_training(W[None], f),
    "curve": lambda f: plotting.plot_geodesic(f),
}
OTHERS = {
    "measure": lambda x: dynamics.langevin(x, X, 0.1, 1),
    "measure to draw from": lambda x: dynamics.sample(x),
    "boundary": lambda x: dynamics.langevin(MEASURE, X, 0.1, 1, boundary=x),
    "scheme": lambda x: dynamics.langevin(MEASURE, X, 0.1, 1, scheme=x),
    "mass": lambda x: dynamics.sample(MEASURE, 1, 1, mass=x),
    "kernel": lambda x: dynamics.sample(MEASURE, 1, 1, 1, x, rng=0),
    "metric of a space": lambda x: DLNObservableMetric(x),
    "metric of layers": lambda x: BalancedMetric(x),
    "network": lambda x: TrainingRecorder(x),
    "layers": lambda x: bridges.from_layers(x),
    "file": lambda x: storage.save(x),
    "file to load": lambda x: storage.load(x),
    "ax": lambda x: plotting.plot_geodesic(PATH, x),
    "limits": lambda x: plotting.plot_entropy_landscape(SPACE, limits=x),
    "space": lambda x: plotting.plot_mean(x, [X, Y, X], X),
    "space of rank 2": lambda x: plotting.plot_entropy_landscape(x),
    "manifold": lambda x: diagnostics.check_manifold(x),
    "problem": lambda x: diagnostics.check_gradient(x),
    "energy as a cost": lambda x: costs.free_energy(x, 1.0, 3),
}


def refused(call, value):
    """Fail unless a call ends in an error that the package raises; return what it says."""
    with pytest.raises((TypeError, ValueError)) as caught:
        call(value)
    where = traceback.extract_tb(caught.value.__traceback__)[-1]
    line = linecache.getline(where.filename, where.lineno)
    assert "dln_manifolds" in where.filename, caught.value
    assert "raise" in line, caught.value
    return str(caught.value)


@pytest.mark.parametrize("value", ["a", None, np.ones((2, 2)), -3, 2.5, True])
@pytest.mark.parametrize("name", COUNTS)
def test_counts(name, value):
    said = refused(COUNTS[name], value)
    assert "must be an integer" in said or "must be at least" in said
    assert name.split()[0] in said


@pytest.mark.parametrize("value", ["a", np.ones((2, 2)), 1j, np.nan])
@pytest.mark.parametrize("name", REALS)
def test_real_numbers(name, value):
    assert name.split()[0] in refused(REALS[name], value)


@pytest.mark.parametrize(
    "value", ["a", None, {1: 2}, [[1], [2, 3]], 1j, b"x", np.ones((2, 2)), abs]
)
@pytest.mark.parametrize("name", TIMES)
def test_times(name, value):
    assert "t must be a finite number or a list of such" in refused(TIMES[name], value)


@pytest.mark.parametrize("value", ["a", -1, 2.5, np.ones(2)])
@pytest.mark.parametrize("name", SEEDS)
def test_seeds(name, value):
    assert "rng must be a generator of NumPy" in refused(SEEDS[name], value)


@pytest.mark.parametrize("name", SEEDS)
def test_a_seed_is_its_generator(name):
    first, same = SEEDS[name](7), SEEDS[name](np.random.default_rng(7))
    np.testing.assert_array_equal(first, same)


@pytest.mark.parametrize("value", ["a", None, np.eye(2)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name, value):
    if name == "energy" and value is None:
        return
    refused(FUNCTIONS[name], value)


@pytest.mark.parametrize("value", [3, 1j])
@pytest.mark.parametrize("name", OTHERS)
def test_others(name, value):
    refused(OTHERS[name], value)


def test_numbers_of_other_kinds_are_taken():
    assert real("x", np.float32(0.5)) == real("x", np.array(0.5)) == 0.5
    assert real("x", 10**400) == np.inf
    assert real("x", -(10**400)) == -np.inf
    assert whole("n", np.int8(3)) == 3
    assert times_of(range(3)).tolist() == [0, 1, 2]
    assert choice("word", "a", ("a", "b")) == "a"
    drawing = np.random.default_rng(0)
    assert generator(drawing) is drawing


def test_checks_leave_the_global_state_alone():
    np.random.seed(5)
    expected = np.random.normal(size=3)
    np.random.seed(5)
    first = diagnostics.check_gradient(PROBLEM, rng=1)
    np.testing.assert_array_equal(np.random.normal(size=3), expected)
    np.testing.assert_array_equal(first.errors, diagnostics.check_gradient(PROBLEM, rng=1).errors)
    assert (first.errors != diagnostics.check_gradient(PROBLEM, rng=2).errors).any()


def test_random_vectors_keep_single_precision_with_a_seed():
    for space, point in ((SPACE, X), (TOTAL, W)):
        vector = space.random_tangent_vector(point.astype(np.float32), rng=3)
        assert vector.dtype == np.float32
        assert abs(space.norm(point, vector.astype(float)) - 1) < 1e-6


@pytest.mark.parametrize("name", ["a.npz", ""])
def test_a_file_has_a_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name:
        assert storage.load(storage.save(name, x=1)) == {"x": 1}
        return
    for call in (storage.save, storage.load):
        with pytest.raises(ValueError, match="file must name a file, not ''"):
            call(name)


def test_a_completed_geodesic_is_saved_by_its_points(tmp_path):
    with pytest.raises(TypeError, match=r"solution is a CompletedSolution.*points, curve\(times\)"):
        storage.save(tmp_path / "a.npz", solution=COMPLETED)
    points = COMPLETED(np.linspace(0, 1, 3))
    np.testing.assert_array_equal(
        storage.load(storage.save(tmp_path / "a.npz", points=points))["points"], points
    )


@pytest.mark.parametrize(
    ("point", "advice"),
    [
        (np.arange(1.0, 10), ".reshape(3, 3)"),
        (np.ones((5, 9)), ".reshape(-1, 3, 3)"),
        (pd.DataFrame(np.ones((5, 9))), ".to_numpy().reshape(-1, 3, 3)"),
    ],
)
def test_vectors_of_entries_are_told_how_to_be_matrices(point, advice):
    with pytest.raises(InvalidPointError) as caught:
        DLNObservableManifold(3, 2).entropy(point)
    assert advice in str(caught.value)


def test_two_points_are_no_curve():
    for call in (plotting.plot_geodesic, plotting.plot_singular_values):
        with pytest.raises(TypeError, match=r"give space\.metric\.geodesic\(X, end_point=Y\)"):
            call(SPACE, X, Y)
