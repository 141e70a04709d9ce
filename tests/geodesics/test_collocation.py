"""The long steps of single geodesics: quadrature, agreement with Runge-Kutta, errors, counts."""

import numpy as np
import pytest

from dln_manifolds import DLNObservableManifold
from dln_manifolds.geodesics import integrate as flow
from dln_manifolds.geodesics.observable_system import ObservableSystem
from dln_manifolds.numerics.polynomials import integrals


@pytest.mark.parametrize(("n_from", "n_to"), [(1, 4), (4, 5), (9, 9), (16, 16)])
def test_integrals_are_exact_for_polynomials(n_from, n_to):
    """Monomials up to the degree ``n_from - 1``, up to every node and up to 1."""
    sources, ends = ((np.polynomial.legendre.leggauss(n)[0] + 1) / 2 for n in (n_from, n_to))
    ends = np.append(ends, 1.0)
    powers = np.arange(n_from)
    got = integrals(n_from, n_to) @ sources[:, None] ** powers
    assert np.abs(got - ends[:, None] ** (powers + 1) / (powers + 1)).max() <= 1e-14


def both_ways(monkeypatch, solve):
    """Return what a function gives by Runge-Kutta steps only, and by collocation steps."""
    results = []
    for few in (0, 10**9):
        monkeypatch.setattr(flow, "_FEW", few)
        results.append(solve())
    return results


@pytest.mark.parametrize("depth", [1.2, 2, 4, 30])
@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_agrees_with_runge_kutta(n, depth, pairs, monkeypatch):
    """End points, energies and times t* of both integrators agree; they share only the field."""
    space = DLNObservableManifold(n, depth)
    starts, ends = pairs(n, 8, seed=n)
    space.equip_with_metric(on_failure="nan")
    vectors = space.metric.log(ends, starts)
    # Twice as far, some geodesics meet a singular matrix.
    vectors = np.concatenate([vectors, 2 * vectors])
    starts = np.concatenate([starts, starts])
    usable = np.isfinite(vectors).all(axis=(1, 2))
    short, long = both_ways(
        monkeypatch, lambda: space.metric.solve_exp(vectors[usable], starts[usable])
    )
    assert np.array_equal(short.status, long.status)
    good = short.success
    distance = np.linalg.norm(short.end_point - long.end_point, axis=(1, 2))[good]
    size = np.linalg.norm(short.end_point, axis=(1, 2))[good]
    assert np.max(distance / size) <= 1e-12 * max(1, depth / 3)
    assert np.max(long.residual[good]) <= 1e-12
    assert np.allclose(short.crossing_time[~good], long.crossing_time[~good], rtol=1e-9, atol=0)


@pytest.mark.parametrize("tolerance", [1e-6, 1e-10, 1e-13])
def test_error_near_a_singular_matrix(tolerance, monkeypatch):
    """Where the solution is smooth and its linearization is not, the error is not underestimated.

    The smallest root is some thousandths of the largest there. An estimate by the square of the
    tail, which holds elsewhere, misses the error by a factor of some thousand.
    """
    space = DLNObservableManifold(2, 1.5)
    start = np.diag([1.8, 7e-4])
    turn = np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    end = turn @ np.diag([1.4, 0.6]) @ turn
    vector = space.metric.log(end, start)
    space.equip_with_metric(tolerance=1e-14)
    monkeypatch.setattr(flow, "_FEW", 0)
    reference = space.metric.exp(vector, start)
    monkeypatch.setattr(flow, "_FEW", 10**9)
    space.equip_with_metric(tolerance=tolerance)
    error = np.linalg.norm(space.metric.exp(vector, start) - reference)
    assert error <= 10 * tolerance * np.linalg.norm(reference)


def test_members_do_not_depend_on_each_other(pairs, monkeypatch):
    """A batch gives what single calls give, and every member the evaluations of its own."""
    metric = DLNObservableManifold(3, 3).metric
    starts, ends = pairs(3, 5, seed=2)
    vectors = metric.log(ends, starts) * np.array([1e-3, 0.1, 1.0, 0.5, 1.0])[:, None, None]
    monkeypatch.setattr(flow, "_FEW", 10**9)
    together = metric.solve_exp(vectors, starts)
    for k in range(5):
        alone = metric.solve_exp(vectors[k], starts[k])
        assert alone.n_evaluations == together.n_evaluations[k]
        distance = np.linalg.norm(alone.end_point - together.end_point[k])
        assert distance <= 1e-14 * np.linalg.norm(alone.end_point)


def test_single_geodesics_take_few_calls(pairs, monkeypatch):
    """Single calls cost by the call of the field: a quarter of those of Runge-Kutta at most."""
    calls = []
    rates = ObservableSystem.rates

    def counted(field, state):
        calls.append(len(state))
        return rates(field, state)

    metric = DLNObservableManifold(3, 4).metric
    starts, ends = pairs(3, 6, seed=5)
    vectors = metric.log(ends, starts)
    monkeypatch.setattr(ObservableSystem, "rates", counted)

    def count():
        calls.clear()
        for vector, start in zip(vectors, starts, strict=True):
            metric.exp(vector, start)
        return len(calls)

    short, long = both_ways(monkeypatch, count)
    assert long <= short / 4
