"""The clock of training: bounds hold for balanced runs, and unbalanced runs are found out."""

import numpy as np
import pytest
from scipy.linalg import solve_continuous_lyapunov, sqrtm

from dln_manifolds import InvalidPointError
from dln_manifolds.dynamics import (
    Verdict,
    flow_of_layers,
    flow_of_point,
    training_clock,
)

SIZE, RATE, EVERY, N_STEPS = 4, 0.005, 100, 1000


def transpose(matrices):
    return np.swapaxes(matrices, -1, -2)


def end_to_end(layers):
    product = layers[:, 0]
    for layer in range(1, layers.shape[1]):
        product = layers[:, layer] @ product
    return product


class Regression:
    """``E(X) = tr((X - B) S (X - B)^T) / 2``, of one covariance and one best map for each run."""

    def __init__(self, n_runs, rng):
        mixing = rng.normal(size=(n_runs, SIZE, SIZE)) / np.sqrt(SIZE)
        self.covariance = mixing @ transpose(mixing) + 0.2 * np.eye(SIZE)
        self.best = rng.normal(size=(n_runs, SIZE, SIZE))
        self.best[:, 0] *= np.sign(np.linalg.det(self.best))[:, None]

    def gradient(self, X):
        return (X - self.best) @ self.covariance

    def energy(self, X):
        return 0.5 * np.sum((X - self.best) * self.gradient(X), axis=(-2, -1))


def train(layers, loss):
    """Run plain gradient descent; return X and losses of checkpoints, of all runs."""
    layers, points, losses = layers.copy(), [], []
    depth = layers.shape[1]
    for step in range(N_STEPS + 1):
        X = end_to_end(layers)
        if step % EVERY == 0:
            points.append(X)
            losses.append(loss.energy(X))
        gradients = np.empty_like(layers)
        before = [np.broadcast_to(np.eye(SIZE), X.shape)]
        for layer in range(depth):
            before.append(layers[:, layer] @ before[-1])
        back = loss.gradient(X)
        for layer in reversed(range(depth)):
            gradients[:, layer] = back @ transpose(before[layer])
            back = transpose(layers[:, layer]) @ back
        layers -= RATE * gradients
    return np.stack(points, axis=1), np.stack(losses, axis=1)


def starts(n_runs, depth, scale, rng, balanced):
    normal = rng.normal(size=(n_runs, depth, SIZE, SIZE))
    layers = np.linalg.qr(normal)[0] if balanced else normal / np.sqrt(SIZE)
    sign = np.sign(np.prod(np.linalg.det(layers), axis=1))
    layers[:, 0, :, 0] *= sign[:, None]
    return scale ** (1 / depth) * layers


@pytest.mark.parametrize("depth", [2, 3])
def test_verdicts_on_twenty_runs_of_both_kinds(depth):
    times = RATE * np.arange(0, N_STEPS + 1, EVERY)
    n_runs, n_wrong, broken = 10, 0, 0
    for balanced in (True, False):
        rng = np.random.default_rng(depth)
        loss = Regression(n_runs, rng)
        scale = 0.05 if balanced else 1.0  # 1: layers as PyTorch and others draw them, about
        points, losses = train(starts(n_runs, depth, scale, rng, balanced), loss)
        for X, E in zip(points, losses, strict=True):
            clock = training_clock(X, E, times, depth=depth)
            n_wrong += (clock.verdict is Verdict.CONSISTENT) != balanced
            if balanced:
                broken += np.count_nonzero(clock.ratios > 1.0005)
                assert np.nanmedian(clock.ratios) > 0.5
    assert n_wrong == 0
    assert broken == 0  # of 100 segments, up to the finite steps


def test_flow_takes_at_least_the_time_of_the_bound_and_depth_is_read_off():
    rng = np.random.default_rng(0)
    target = np.diag([3.0, 2.0, 1.0]) + 0.1 * rng.normal(size=(3, 3))

    def energy(X):
        return 0.5 * np.sum((X - target) ** 2)

    start = 0.05 * np.linalg.qr(rng.normal(size=(3, 3)))[0]
    start[0] *= np.sign(np.linalg.det(start))
    for depth in (2, 3.5):
        times = np.linspace(0.5, 3.0, 12)
        flow = flow_of_point(start, depth, lambda X: X - target, times, energy=energy)
        candidates = (1.5, 2, 2.5, 3, 3.5, 4, 5)
        clock = training_clock(flow.points, flow.energy, times, depth=depth, depths=candidates)
        assert np.all(clock.ratios <= 1)
        assert clock.fitted_depth == depth
        # Of times in other units the same depth, and no ratios.
        other = training_clock(
            flow.points, flow.energy, 7 * times, depth=depth, depths=candidates, known_unit=False
        )
        assert other.fitted_depth == depth
        assert np.isnan(other.ratios).all()
        np.testing.assert_array_equal(other.lower_bounds, clock.lower_bounds)
        assert clock.least_time == pytest.approx(clock.lower_bounds.sum())


def test_depth_two_of_symmetric_matrices_is_bures_wasserstein():
    # sqrt(2) times the Bures-Wasserstein distance of X, by its trace formula.
    def squared(first, last):
        root = sqrtm(first)
        return 2 * np.trace(first + last - 2 * np.real(sqrtm(root @ last @ root)))

    rng = np.random.default_rng(1)
    factors = rng.normal(size=(3, 3, 3))
    points = factors @ transpose(factors) + 0.1 * np.eye(3)
    losses = [5.0, 3.0, 2.5]
    clock = training_clock(points, losses, depth=2)
    expected = [squared(points[0], points[1]) / 2.0, squared(points[1], points[2]) / 0.5]
    np.testing.assert_allclose(clock.lower_bounds, expected, rtol=1e-9)
    size = np.sqrt(2 * np.trace(points[0]))
    assert clock.moved == pytest.approx(np.sqrt(squared(points[0], points[2])) / size, rel=1e-9)
    # The infinitesimal form agrees with the Lyapunov equation of the metric.
    step = 1e-5 * (factors[0] + factors[0].T)
    near = training_clock([points[0], points[0] + step], [1.0, 0.0], depth=2)
    half = solve_continuous_lyapunov(points[0], step)
    assert near.lower_bounds[0] == pytest.approx(np.sum(half * step), rel=1e-4)


def test_rectangular_layers_that_move_along_a_gradient_flow():
    rng = np.random.default_rng(2)
    target = rng.normal(size=(3, 5))

    def energy(X):
        return 0.5 * np.sum((X - target) ** 2)

    orthonormal = [np.linalg.qr(rng.normal(size=(5, 3)))[0] for _ in range(2)]
    layers = [0.3 * orthonormal[0].T, 0.3 * np.eye(3)]
    times = np.linspace(0, 2, 6)
    flow = flow_of_layers(layers, lambda X: X - target, times, energy=energy)
    clock = training_clock(flow.points, flow.energy, times, depth=2)
    assert clock.verdict is Verdict.CONSISTENT
    way = np.sqrt(sum(np.sum((w[-1] - w[0]) ** 2) for w in flow.layers))
    start = np.sqrt(sum(np.sum(w[0] ** 2) for w in flow.layers))
    # The chord of the layers is a lower bound of no distance, but close to it here.
    assert clock.moved == pytest.approx(way / start, rel=0.1)


def test_objections_name_their_segment():
    flip = np.diag([1.0, -1.0])
    points = np.stack([np.eye(2), 1.1 * np.eye(2), 1.2 * flip])
    clock = training_clock(points, [3.0, 2.0, 1.0], [0, 1, 2], depth=3)
    assert (clock.verdict, clock.segment) == (Verdict.CHANGED_SIGN, 1)
    assert clock.lower_bounds[1] == np.inf
    assert "checkpoint 1" in str(clock)
    points = np.stack([np.eye(2), 1.1 * np.eye(2), 1.2 * np.eye(2)])
    assert training_clock(points, [3.0, 3.1, 1.0], depth=2).verdict is Verdict.CLIMBED
    fast = training_clock(points, [3.0, 2.0, 1.0], [0, 1.0, 1.00001], depth=2)
    assert (fast.verdict, fast.segment) == (Verdict.TOO_FAST, 1)
    # At one layer straight lines may pass singular matrices.
    points = np.stack([np.eye(2), 0.5 * flip])
    one = training_clock(points, [3.0, 1.0], [0, 2], depth=1)
    assert one.verdict is Verdict.CONSISTENT
    assert one.lower_bounds[0] == pytest.approx((0.25 + 1.5**2) / 2)


def test_square_matrices_of_lower_rank_have_one_component():
    """The null vectors of X have no sign: of ends as of segments."""
    rng = np.random.default_rng(3)
    for _ in range(10):
        left, right = (np.linalg.qr(rng.normal(size=(4, 2)))[0] for _ in range(2))
        points = np.stack([left @ np.diag([a, 0.5]) @ right.T for a in (1.0, 1.5, 2.0)])
        clock = training_clock(points, [3.0, 2.0, 1.0], depth=2, rank=2)
        # Along the same singular vectors: roots alone move.
        step = np.sqrt(2) * np.diff(np.sqrt([1.0, 1.5, 2.0]))
        np.testing.assert_allclose(clock.lengths, step, rtol=1e-9)
        assert clock.moved == pytest.approx(step.sum() / np.sqrt(2 * 1.5), rel=1e-9)


def test_layers_of_infinite_depth_have_no_norm():
    clock = training_clock([np.eye(2), 2 * np.eye(2)], [2.0, 1.0], depth=np.inf)
    assert np.isnan(clock.moved)
    assert "moved" not in str(clock)


def test_training_that_has_converged_is_no_objection():
    points = np.broadcast_to(np.diag([2.0, 1.0]), (3, 2, 2)).astype(np.float32)
    losses = np.array([1e-3, 1e-3, 1e-3 * (1 + 1e-7)], dtype=np.float32)
    clock = training_clock(points, losses, [0, 1, 2], depth=4)
    assert clock.verdict is Verdict.CONSISTENT
    np.testing.assert_array_equal(clock.lower_bounds, 0.0)
    assert clock.moved == 0.0


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (dict(points=np.eye(2)), InvalidPointError, "two or more end-to-end matrices"),
        (dict(points=[np.eye(2)], losses=[1.0]), InvalidPointError, "two or more"),
        (dict(points=[np.eye(2), np.zeros((2, 2))]), InvalidPointError, "points is singular"),
        (dict(losses=[1.0]), ValueError, "losses has shape"),
        (dict(losses=[1.0, np.nan]), InvalidPointError, "losses"),
        (dict(times=[0.0]), ValueError, "times has shape"),
        (dict(times=[1.0, 1.0]), ValueError, "must increase"),
        (dict(depth=0.5), ValueError, "depth must be at least 1"),
        (dict(rank=3), ValueError, "rank"),
        (dict(slack=np.nan), ValueError, "slack must be finite"),
        (dict(slack="a"), TypeError, "slack must be a real number, not 'a'"),
        (dict(depths="a"), TypeError, "depth must be a real number, not 'a'"),
        (dict(depths=[2, 0]), ValueError, "depth must be at least 1"),
    ],
)
def test_bad_input(arguments, error, words):
    good = dict(points=[np.eye(2), 2 * np.eye(2)], losses=[2.0, 1.0], times=[0.0, 1.0], depth=3)
    with pytest.raises(error, match=words):
        training_clock(**{**good, **arguments})


def test_a_single_depth_is_a_list_of_one():
    arguments = [np.eye(2), 1.1 * np.eye(2)], [2.0, 1.0], [0.0, 1.0]
    one = training_clock(*arguments, depth=3, depths=2)
    assert one.depth_misfits == training_clock(*arguments, depth=3, depths=[2]).depth_misfits
    assert one.fitted_depth == 2


def test_says_what_a_verdict_without_times_rests_on():
    points, losses = [np.eye(2), 1.1 * np.eye(2)], [2.0, 1.0]
    known = str(training_clock(points, losses, [0.0, 1.0], depth=3))
    for options in (dict(), dict(times=[0.0, 1.0], known_unit=False)):
        said = str(training_clock(points, losses, depth=3, **options))
        assert "as far as losses and signs of det X tell" in said
    assert "as far as" not in known
