"""Geodesics followed from a first guess: what the guess may change, and what it may not."""

import numpy as np
import pytest

from dln_manifolds import DLNObservableManifold
from dln_manifolds.geodesics import members
from dln_manifolds.geodesics.collocation import gauss_nodes
from dln_manifolds.geodesics.confirmation import follow, nodes_needed
from dln_manifolds.geodesics.fields import Rest, RootField
from dln_manifolds.geodesics.flow import flow
from dln_manifolds.geodesics.runge_kutta import norms

TOLERANCE = 1e-13


@pytest.fixture
def asked(pairs, monkeypatch):
    """Return a function that solves logs and gives what `follow` was asked, with its answers."""

    def solve(n, depth, n_pairs, **options):
        calls = []

        def recorded(*arguments, **options):
            calls.append((arguments, follow(*arguments, **options)))
            return calls[-1][1]

        with monkeypatch.context() as patch:
            patch.setattr(members, "follow", recorded)
            space = DLNObservableManifold(n, depth)
            space.equip_with_metric(**options)
            starts, ends = pairs(n, n_pairs, seed=n)
            solution = space.metric.solve_log(ends, starts)
        assert calls
        return solution, calls

    return solve


def independent_ends(arguments):
    """End states by the flow from the initial states alone, in steps of its own frames."""
    field, state = arguments[0], arguments[2]
    return flow(field, state, np.ones(len(state)), tolerance=1e-14)


def distances(field, frame, state, followed, reference):
    """Relative distances of end states, of those that both have solved."""
    result = followed.result(field, frame, state, record=False)
    apart = norms(result.state - reference.state[followed.solved])
    return (apart / norms(state[followed.solved])).max(axis=-1)


@pytest.mark.parametrize("tolerance", [1e-5, 1e-9, TOLERANCE])
@pytest.mark.parametrize("depth", [1.5, 2, 4, 30])
@pytest.mark.parametrize("n", [2, 3, 6])
def test_agrees_with_the_flow(n, depth, tolerance, asked):
    """Geodesics that are called solved end where the flow ends that was given no guess."""
    for arguments, followed in asked(n, depth, 20, tolerance=tolerance)[1]:
        field, frame, state = arguments[:3]
        reference = independent_ends(arguments)
        assert (reference.status == 0)[followed.solved].all()
        apart = distances(field, frame, state, followed, reference)
        assert apart.max(initial=0.0) <= 3 * tolerance * max(1, depth / 8)


@pytest.mark.parametrize("share", [1e-6, 1e-2, 0.5, 5.0])
def test_a_wrong_guess_changes_no_answer(share, asked):
    """From rates that are off by a share of themselves it ends at the same points, or gives up."""
    rng = np.random.default_rng(0)
    n_solved = 0
    for arguments, _ in asked(3, 3, 30, tolerance=1e-5)[1]:
        field, frame, state, rates, n_nodes, tolerance = arguments
        noise = rng.standard_normal(rates.shape) * share * np.abs(rates).mean()
        with np.errstate(all="ignore"):
            followed = follow(field, frame, state, rates + noise, n_nodes, tolerance, inside=True)
        reference = independent_ends(arguments)
        apart = distances(field, frame, state, followed, reference)
        assert apart.max(initial=0.0) <= 3 * tolerance
        n_solved += followed.solved.sum()
    assert n_solved > 0 or share > 1


def test_too_few_nodes_are_not_called_a_solution(asked):
    """Where the nodes do not resolve a geodesic, agreement of iterates means nothing."""
    for arguments, _ in asked(3, 2, 30)[1]:
        field, frame, state, rates = arguments[:4]
        nodes = gauss_nodes(rates.shape[1])
        few = gauss_nodes(6)
        # Interpolated at six nodes.
        lagrange = np.array(
            [
                np.polynomial.polynomial.Polynomial.fit(nodes, row, len(nodes) - 1)(few)
                for row in np.eye(len(nodes))
            ]
        ).T
        coarse = np.einsum("fq,bq...->bf...", lagrange, rates)
        followed = follow(field, frame, state, coarse, 6, TOLERANCE, inside=False)
        apart = distances(field, frame, state, followed, independent_ends(arguments))
        assert apart.max(initial=0.0) <= 10 * TOLERANCE
        assert followed.solved.mean() < 0.2


@pytest.mark.parametrize("end", [0.5, 1e-3, 0.0, -1e-3, -0.5])
def test_a_line_through_a_singular_matrix_is_not_solved(end):
    """For n = 1 the chart is flat and every guess exact; only those that stay positive count."""
    depth = 3
    state = np.array([[[[1.0]], [[depth * (end - 1)]]]])
    rates = np.broadcast_to(np.array([end - 1, 0.0])[:, None, None], (1, 6, 2, 1, 1))
    followed = follow(RootField(depth), Rest(), state, rates, 8, TOLERANCE, inside=True)
    assert followed.solved == (end == 0.5)


@pytest.mark.parametrize(("depth", "most"), [(2, 380), (3, 275), (4, 255), (8, 290)])
def test_most_logs_end_without_stepping(depth, most, asked):
    """Nearly all Gaussian geodesics are followed in one step, and a log takes few evaluations."""
    solution, calls = asked(3, depth, 60)
    n_solved = sum(followed.solved.sum() for _, followed in calls)
    assert solution.success.all()
    assert n_solved >= 54
    assert solution.n_evaluations.mean() <= most


@pytest.mark.parametrize("inside", [False, True])
def test_nodes_needed_are_needed_and_suffice(inside, asked):
    """Predicted numbers of nodes resolve the geodesics; two thirds of them do not."""
    enough = []
    for arguments, _ in asked(3, 2, 30)[1]:
        field, frame, state, rates = arguments[:4]
        needed = nodes_needed(state, rates, TOLERANCE, inside=inside)
        for factor in (1.1, 0.67):
            for k, number in enumerate(np.ceil(factor * needed).astype(int)):
                one = slice(k, k + 1)
                followed = follow(
                    field, frame.take([k]), state[one], rates[one], number, TOLERANCE, inside=inside
                )
                enough.append((factor, bool(followed.solved[0])))
    assert np.mean([solved for factor, solved in enough if factor > 1]) > 0.9
    assert np.mean([solved for factor, solved in enough if factor < 1]) < 0.2


@pytest.mark.parametrize("depth", [2, 8])
def test_recorded_states_lie_on_the_geodesic(depth, pairs):
    """Points of a solved geodesic agree with exp of fractions of its velocity."""
    metric = DLNObservableManifold(3, depth).metric
    starts, ends = pairs(3, 6, seed=4)
    solution = metric.solve_log(ends, starts)
    times = np.array([0.0, 1e-4, 0.21, 0.5, 0.77, 0.9999, 1.0])
    points = solution(times)
    for k, t in enumerate(times):
        expected = metric.exp(t * solution.initial_velocity, starts)
        apart = np.linalg.norm(points[:, k] - expected, axis=(-2, -1))
        assert (apart <= 2e-12 * depth * np.linalg.norm(expected, axis=(-2, -1))).all()
