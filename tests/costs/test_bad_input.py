"""What costs do with data and points that are wrong or unusual."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from dln_manifolds import DisconnectedPointsError, InvalidPointError, costs

EYE = np.eye(2)
POINTS = np.array([np.diag([1.0, 4.0]), np.diag([9.0, 1.0]), np.diag([2.0, 2.0])])

# By the argument: a function that makes a cost of it, and a good value.
DATA = {
    "target": (lambda x: costs.MatrixCompletion(x, np.ones((2, 2))), EYE),
    "seen": (lambda x: costs.MatrixCompletion(EYE, x), EYE),
    "operators": (lambda x: costs.MatrixSensing(x, [1.0, 2.0, 3.0]), POINTS),
    "measurements": (lambda x: costs.MatrixSensing(POINTS, x), np.arange(3.0)),
    "inputs": (lambda x: costs.LinearRegression(x, EYE), EYE),
    "targets": (lambda x: costs.LinearRegression(EYE, x), EYE),
    "points": (lambda x: costs.FrechetVariance(x, 2), POINTS),
    "weights": (lambda x: costs.FrechetVariance(POINTS, 2, x), np.arange(3.0)),
}
of_all_data = pytest.mark.parametrize("name", DATA)
COSTS = {
    "completion": costs.MatrixCompletion(POINTS[0], EYE + 0.5),
    "sensing": costs.MatrixSensing(POINTS, [1.0, 2.0, 3.0]),
    "regression": costs.LinearRegression(POINTS[0] + 0.3, EYE),
    "entropy": costs.Entropy(3),
    "sum": costs.free_energy(costs.MatrixCompletion(EYE, EYE), 2.0, 3) - 2 * costs.Entropy(3),
    "variance": costs.FrechetVariance(POINTS, 2),
}
METHODS = ("__call__", "euclidean_gradient", "euclidean_hessian")
of_all_methods = pytest.mark.parametrize("method", METHODS)


@of_all_data
def test_complex_data_are_refused(name):
    make, good = DATA[name]
    make(good)
    with pytest.raises(InvalidPointError, match=f"{name} has dtype complex128.*real"):
        make(good + 0j)


@of_all_data
def test_masked_data_are_refused(name):
    make, good = DATA[name]
    with pytest.raises(InvalidPointError, match=f"{name} has masked entries"):
        make(np.ma.masked_less(good, 0.5))
    make(np.ma.masked_array(good))  # nothing is masked


@of_all_data
@pytest.mark.parametrize("bad", [None, "abc", [[1.0], [2.0, 3.0]], {"a": 1}], ids=str)
def test_data_that_are_no_numbers_are_refused(name, bad):
    if name == "weights" and bad is None:  # these may be left out
        return
    with pytest.raises((TypeError, ValueError), match=r"\w"):
        DATA[name][0](bad)


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("name", COSTS)
@of_all_methods
def test_points_of_other_kinds_are_converted(name, method):
    ask = getattr(COSTS[name], method)
    point, vector = np.array([[2.0, 1.0], [0.0, 3.0]]), np.array([[1.0, 2.0], [3.0, 5.0]])
    count = 1 + (method == "euclidean_hessian")
    expected = ask(*(point, vector)[:count])
    for kind in (np.matrix, np.ma.masked_array, np.ndarray.tolist, lambda x: x.astype(int)):
        found = ask(*map(kind, (point, vector)[:count]))
        assert_array_equal(found, expected)
        assert type(found) is type(expected)


@pytest.mark.parametrize("name", COSTS)
@of_all_methods
def test_points_that_are_no_real_numbers_are_refused(name, method):
    ask = getattr(COSTS[name], method)
    count = 1 + (method == "euclidean_hessian")
    for bad, message in ((EYE + 0j, "complex128"), (np.ma.masked_less(EYE, 0.5), "masked")):
        for k in range(count):
            arguments = [EYE] * count
            arguments[k] = bad
            with pytest.raises(InvalidPointError, match=message):
                ask(*arguments)


def test_layers_of_integers_have_gradients_that_are_not_rounded():
    cost = costs.OfLayers(costs.MatrixCompletion(0.5 * EYE, np.ones((2, 2))))
    layers = np.array([[[1, 2], [0, 1]], [[2, 0], [1, 1]]])
    for method in METHODS:
        arguments = [layers] * (1 + (method == "euclidean_hessian"))
        expected = getattr(cost, method)(*(a.astype(float) for a in arguments))
        assert_array_equal(getattr(cost, method)(*arguments), expected)
    assert_array_equal(cost.euclidean_gradient(point=layers), cost.euclidean_gradient(layers))


@pytest.mark.parametrize(
    "make",
    [
        costs.Entropy,
        lambda depth: costs.free_energy(COSTS["sensing"], 2.0, depth),
        lambda depth: costs.FrechetVariance(POINTS, depth),
    ],
)
def test_depths_that_are_none(make):
    for bad in (None, "3", True, 2j, [2], np.ones(2)):
        with pytest.raises(TypeError, match="depth must be a real number"):
            make(bad)
    for bad in (0, 0.999, -2, np.nan, np.inf):
        with pytest.raises(ValueError, match=r"depth must be finite and at least 1, not"):
            make(bad)
    for good in (1, 2.5, np.int64(3), np.float32(2.0)):
        make(good)


def test_factors_and_temperatures_that_are_none():
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match="finite numbers"):
            COSTS["entropy"] * bad
    with pytest.raises(TypeError):
        COSTS["entropy"] * 2j
    for bad, kind in ((None, TypeError), (1j, TypeError), (0.0, ValueError), (np.nan, ValueError)):
        with pytest.raises(kind, match="beta"):
            costs.free_energy(COSTS["sensing"], bad, 2)


def test_data_of_weight_zero_are_left_out():
    X = np.array([[1.5, 0.2], [-0.1, 0.8]])
    some = costs.FrechetVariance(POINTS[[0, 2]], 2, [1, 3])
    other = np.diag([1.0, -1.0])  # of the other component
    for points in (POINTS, np.array([POINTS[0], other, POINTS[2]])):
        cost = costs.FrechetVariance(points, 2, [1, 0, 3])
        assert cost(X) == some(X)
        assert_array_equal(cost.euclidean_gradient(X), some.euclidean_gradient(X))
        assert_array_equal(cost.euclidean_hessian(X, EYE), some.euclidean_hessian(X, EYE))
    with pytest.raises(DisconnectedPointsError):
        costs.FrechetVariance(points, 2, [1, 1e-300, 3])(X)


@pytest.mark.parametrize(
    "weights",
    [[1, -1, 1], [0, 0, 0], [1, np.nan, 1], [1, np.inf, 1], [1, 1], [[1, 1, 1]], 1.0, "abc"],
    ids=str,
)
def test_weights_that_are_none(weights):
    with pytest.raises(ValueError, match="weights"):
        costs.FrechetVariance(POINTS, 2, weights)
