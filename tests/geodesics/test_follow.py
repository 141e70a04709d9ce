"""Geodesics followed from a first guess: what the guess may change, and what it may not."""

import numpy as np
import pytest

from dln_manifolds import BalancedManifold, DLNObservableManifold
from dln_manifolds.geodesics import Status, multilevel
from dln_manifolds.geodesics.collocation import flow_of, follow, nodes_needed
from dln_manifolds.geodesics.integrate import flow, flow_in_charts
from dln_manifolds.numerics.matrices import norms, rotation, rotations
from dln_manifolds.numerics.polynomials import gauss, nodal_basis

TOLERANCE = 1e-13


@pytest.fixture
def asked(pairs, monkeypatch):
    """Return a function that solves logs and gives what `follow` was asked, with its answers."""

    def solve(n, depth, n_pairs, call="solve_log", spread=None, **options):
        calls = []

        def recorded(*arguments, **keywords):
            calls.append((arguments, follow(*arguments, **keywords)))
            return calls[-1][1]

        with monkeypatch.context() as patch:
            patch.setattr(multilevel, "follow", recorded)
            space = DLNObservableManifold(n, depth)
            space.equip_with_metric(**options)
            starts, ends = pairs(n, n_pairs, seed=n)
            if spread is not None:
                rng = np.random.default_rng(n)
                starts, ends = (
                    u @ (np.exp(rng.uniform(-spread, spread, (n_pairs, n, 1))) * vt)
                    for u, _, vt in (np.linalg.svd(points) for points in (starts, ends))
                )
            solution = getattr(space.metric, call)(ends, starts)
        # Near N = 1 geodesics may need more nodes than a step has.
        assert calls or depth < 1.5
        return solution, calls

    return solve


def independent_ends(arguments):
    """End states by the flow from the initial states alone, in steps of its own frames."""
    field, state = arguments[:2]
    return flow(field, state, np.ones(len(state)), tolerance=1e-14)


def distances(field, state, followed, reference):
    """Relative distances of end states, of those that were followed."""
    result = flow_of(field, state, followed, record=False)
    apart = norms(result.state - reference.state[followed.solved])
    return (apart / norms(state[followed.solved])).max(axis=-1)


@pytest.mark.parametrize("call", ["solve_log", "log"])
@pytest.mark.parametrize("tolerance", [1e-5, 1e-9, TOLERANCE])
@pytest.mark.parametrize("depth", [1.05, 1.5, 2, 4, 30])
@pytest.mark.parametrize("n", [2, 3, 6])
def test_agrees_with_the_flow(n, depth, tolerance, call, asked):
    """Geodesics that are called solved end where the flow ends that was given no guess."""
    answers = asked(n, depth, 20, call, tolerance=tolerance, on_failure="nan")[1]
    n_solved = 0
    for arguments, followed in answers:
        field, state = arguments[:2]
        reference = independent_ends(arguments)
        assert (reference.status == Status.CONVERGED)[followed.solved].all()
        apart = distances(field, state, followed, reference)
        assert apart.max(initial=0.0) <= 3 * tolerance * max(1, depth / 8)
        n_solved += followed.solved.sum()
    assert n_solved >= 15 or not 2 <= depth <= 8


@pytest.mark.parametrize("depth", [1.05, 1.5, 2, 3])
@pytest.mark.parametrize("spread", [2, 5])
def test_agrees_with_the_flow_near_singular_matrices(spread, depth, asked):
    """Also where the linearized flow decays more slowly at the nodes than the geodesic itself."""
    options = {"spread": spread * depth**0.5, "tolerance": 1e-8, "on_failure": "nan"}
    for arguments, followed in asked(2, depth, 200, "log", **options)[1]:
        field, state = arguments[:2]
        reference = independent_ends(arguments)
        assert (reference.status == Status.CONVERGED)[followed.solved].all()
        apart = distances(field, state, followed, reference)
        assert apart.max(initial=0.0) <= 10 * 1e-8


@pytest.mark.parametrize("share", [1e-6, 1e-2, 0.5])
@pytest.mark.parametrize("smooth", [False, True])
def test_a_wrong_guess_changes_no_answer(share, smooth, asked):
    """From guesses off by a share of themselves it ends at the same points, or gives up.

    Noise at the nodes, or a geodesic with another initial momentum.
    """
    rng = np.random.default_rng(0)
    n_solved = 0
    for arguments, _ in asked(3, 3, 30, tolerance=1e-5)[1]:
        field, state, rates, n_nodes, tolerance = arguments
        if smooth:
            noise = rng.standard_normal(state[:, 1].shape) * share * np.abs(state[:, 1]).mean()
            state = np.stack([state[:, 0], state[:, 1] + noise], axis=1)
        else:
            rates = rates + rng.standard_normal(rates.shape) * share * np.abs(rates).mean()
        followed = follow(field, state, rates, n_nodes, tolerance, inside=True)
        reference = independent_ends((field, state))
        apart = distances(field, state, followed, reference)
        assert apart.max(initial=0.0) <= 3 * tolerance
        n_solved += followed.solved.sum()
    assert n_solved > 0


def test_too_few_nodes_are_not_called_a_solution(asked):
    """Where the nodes do not resolve a geodesic, agreement of iterates means nothing."""
    for arguments, _ in asked(3, 2, 30)[1]:
        field, state, rates = arguments[:3]
        nodes, few = gauss(rates.shape[1]).nodes, gauss(6).nodes
        legendre = np.polynomial.legendre.legvander(2 * nodes - 1, len(nodes) - 1)
        interpolation = np.polynomial.legendre.legvander(2 * few - 1, len(nodes) - 1)
        interpolation = interpolation @ np.linalg.inv(legendre)
        coarse = np.einsum("fq,bq...->bf...", interpolation, rates)
        followed = follow(field, state, coarse, 6, TOLERANCE, inside=False)
        apart = distances(field, state, followed, independent_ends(arguments))
        assert apart.max(initial=0.0) <= 10 * TOLERANCE
        assert followed.solved.mean() < 0.2


@pytest.mark.parametrize("end", [0.5, 1e-3, 0.0, -1e-3, -0.5])
def test_a_line_at_or_past_a_singular_matrix_is_not_followed(end, states):
    """For n = 1 the chart is flat and every guess exact; what comes near zero is left to steps."""
    depth = 3
    system, state = states(np.ones((1, 1, 1)), np.full((1, 1, 1), depth * (end - 1)), depth)
    rates = np.repeat(system.rates(state)[0][:, None], 6, axis=1)
    followed = follow(system, state, rates, 8, TOLERANCE, inside=True)
    assert followed.solved == (end == 0.5)


@pytest.mark.parametrize("n", [2, 3])
def test_what_meets_a_singular_matrix_is_not_followed(n, states):
    """Geodesics on which steps find a singular matrix, guessed as straight lines."""
    rng = np.random.default_rng(n)
    field, state = states(*rng.standard_normal((2, 200, n, n)), 1.5)
    crossed = flow(field, state, np.ones(200), tolerance=1e-8).status == Status.CROSSED
    assert crossed.sum() > 20
    state = state[crossed]
    rates = np.repeat(field.rates(state)[0][:, None], 8, axis=1)
    assert not follow(field, state, rates, 40, 1e-3, inside=True).solved.any()


def test_members_that_go_astray_are_left_to_steps(asked):
    """No error, whatever the guess is; and the other members as if they were alone."""
    arguments, _ = asked(3, 3, 8)[1][0]
    field, state, rates, n_nodes, tolerance = arguments
    wild = rates.copy()
    wild[0] *= 1e200
    followed = follow(field, state, wild, n_nodes, tolerance, inside=True)
    alone = follow(field, state, rates, n_nodes, tolerance, inside=True)
    assert not followed.solved[0]
    assert alone.solved[1:].any()
    assert np.array_equal(followed.solved[1:], alone.solved[1:])
    wild[0] = np.nan
    assert not follow(field, state, wild, n_nodes, tolerance, inside=True).solved[0]


@pytest.mark.parametrize(("depth", "most"), [(2, 380), (3, 275), (4, 255), (8, 290)])
def test_most_logs_end_without_stepping(depth, most, asked, monkeypatch):
    """Nine in ten Gaussian geodesics are followed in one step, and a log takes few evaluations."""
    stepped = []

    def counted(system, state, *arguments):
        stepped.append(len(state))
        return flow_in_charts(system, state, *arguments)

    monkeypatch.setattr(multilevel, "flow_in_charts", counted)
    solution, _ = asked(3, depth, 60)
    assert solution.success.all()
    assert sum(stepped) <= 6
    assert solution.n_evaluations.mean() <= most


@pytest.mark.parametrize("inside", [False, True])
def test_nodes_needed_are_needed_and_suffice(inside, asked):
    """Predicted numbers of nodes resolve the geodesics; two thirds of them do not."""
    enough = {1.1: [], 0.67: []}
    for arguments, _ in asked(3, 2, 30)[1]:
        field, state, rates = arguments[:3]
        needed = nodes_needed(state, rates, TOLERANCE, inside=inside)
        for factor, found in enough.items():
            for k in np.nonzero(np.isfinite(needed))[0]:
                one, number = slice(k, k + 1), int(np.ceil(factor * needed[k]))
                followed = follow(field, state[one], rates[one], number, TOLERANCE, inside=inside)
                found.append(followed.solved[0])
    assert np.mean(enough[1.1]) > 0.9
    assert np.mean(enough[0.67]) < 0.2


@pytest.mark.parametrize("depth", [2, 8])
def test_recorded_states_lie_on_the_geodesic(depth, pairs):
    """Points of a solved geodesic agree with exp of multiples of its velocity.

    In a batch with a closed form, equal points, and points that are far apart.
    """
    metric = DLNObservableManifold(3, depth).metric
    starts, ends = pairs(3, 6, seed=4)
    starts = np.concatenate([starts, [np.eye(3), np.eye(3), np.diag([1.0, 1e-3, 1e3])]])
    ends = np.concatenate([ends, [2 * np.eye(3), np.eye(3), np.eye(3)[[1, 2, 0]]]])
    solution = metric.solve_log(ends, starts)
    assert solution.success.all()
    knots = np.stack(solution.trajectory.times)
    assert len(knots) > 15
    times = np.concatenate([[0.0, 1e-4, 0.21, 0.5, 0.77, 0.9999, 1.0, 1.01], knots[2:9:3, 0]])
    points = solution(times)
    for k, t in enumerate(times):
        expected = metric.exp(t * solution.initial_velocity, starts)
        apart = np.linalg.norm(points[:, k] - expected, axis=(-2, -1))
        assert (apart <= 3e-12 * depth * np.linalg.norm(expected, axis=(-2, -1))).all()


@pytest.mark.parametrize("gap", [0.0, 1e-12, 1e-10, 1e-8])
@pytest.mark.parametrize("depth", [2, 3, 8])
def test_frames_whose_rotation_has_no_clear_eigenvectors(depth, gap):
    """At angles whose sum is 2 their planes are mixed up; logs and what verifies them are not."""
    rng = np.random.default_rng(1)
    axis = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    turn = rotations(rng.standard_normal((3, 3)))
    # The small rotation that splits the eigenvalue -1 moves the angle a little.
    for shift in (0.0, 1.627575438867268e-7):
        rotated = turn @ rotation((2 + shift + gap) * axis) @ turn.T
        factors = rng.standard_normal((2, 3, 3))
        first, last = factors @ factors.swapaxes(1, 2) + np.eye(3)
        metric = DLNObservableManifold(3, depth).metric
        reached = metric.exp(metric.log(last @ rotated, first), first)
        assert np.linalg.norm(reached - last @ rotated) <= 1e-11 * np.linalg.norm(last)


@pytest.mark.parametrize("n_nodes", [8, 14, 24])
def test_derivatives_at_gauss_nodes_are_exact_for_polynomials(n_nodes):
    """First and second derivatives of Chebyshev polynomials of every degree.

    Differentiating twice multiplies rounding by the fourth power of the number of nodes.
    """
    basis = nodal_basis(n_nodes)
    for degree in range(n_nodes):
        series = np.polynomial.Chebyshev.basis(degree, domain=[0, 1])
        for matrix, order in ((basis.slopes, 1), (basis.bends, 2)):
            exact = series.deriv(order)(gauss(n_nodes).nodes)
            error = np.abs(matrix @ series(basis.nodes) - exact).max()
            assert error <= 1e-15 * n_nodes**4 * max(1.0, np.abs(exact).max())


@pytest.mark.parametrize("tolerance", [1e-6, TOLERANCE])
def test_layers(tolerance, monkeypatch):
    """Geodesics of balanced layers are followed likewise, and points of them are balanced."""
    answers = []

    def recorded(*arguments, **options):
        answers.append((arguments, follow(*arguments, **options)))
        return answers[-1][1]

    monkeypatch.setattr(multilevel, "follow", recorded)
    space = BalancedManifold(3, 3)
    space.equip_with_metric(tolerance=tolerance)
    starts = space.random_point(10)
    vectors = 0.2 * space.to_tangent(np.random.standard_normal(starts.shape), starts)
    solution = space.metric.solve_log(space.metric.exp(vectors, starts), starts)
    n_solved = 0
    for arguments, followed in answers:
        apart = distances(*arguments[:2], followed, independent_ends(arguments))
        assert apart.max(initial=0.0) <= 3 * tolerance
        n_solved += followed.solved.sum()
    assert n_solved >= 8
    knots = np.stack(solution.trajectory.times)
    assert space.belongs(solution(knots[:, 0])).all()
    assert space.belongs(solution([0.1, 0.5, 0.93])).all()
