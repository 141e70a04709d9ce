"""The logarithm: residuals, bounds, symmetry, closed forms, failures."""

import numpy as np
import pytest
from root_chart import lower

from dln_manifolds import ConvergenceError, DLNObservableManifold, IncompleteGeodesicError
from dln_manifolds.geodesics import multilevel, polar_paths, root_paths
from dln_manifolds.geometry.closed_forms import closed_form_velocity
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.metric import root_of
from dln_manifolds.numerics.matrices import transpose


def relative_residual(space, vectors, starts, ends, tolerance):
    """Distance of exp(log) from the end point, flowed with another tolerance than the solver's."""
    space.equip_with_metric(tolerance=tolerance)
    reached = space.metric.exp(vectors, starts)
    space.equip_with_metric()
    return np.linalg.norm(reached - ends, axis=(-2, -1)) / np.linalg.norm(ends, axis=(-2, -1))


def polar_length(space, starts, ends):
    """Length of the polar path ``((1-t) S_0 + t S_1) O_0 exp(t log(O_0^T O_1))``, by quadrature."""
    depth = space.depth
    nodes, weights = np.polynomial.legendre.leggauss(120)
    t = (nodes[:, None] + 1) / 2
    frames = [Frame.of_point(points, depth) for points in (starts, ends)]
    turns = [frame.left @ frame.right_t for frame in frames]
    positive = [root_of(frame) @ transpose(turn) for frame, turn in zip(frames, turns, strict=True)]
    values, vectors = np.linalg.eig(transpose(turns[0]) @ turns[1])
    angles = np.angle(values)[:, None]
    left, right = (turns[0] @ vectors)[:, None], np.linalg.inv(vectors)[:, None]
    phases = np.exp(1j * t * angles)
    turn = ((left * phases[..., None, :]) @ right).real
    turning = ((left * (1j * angles * phases)[..., None, :]) @ right).real
    start, chord = positive[0][:, None], (positive[1] - positive[0])[:, None]
    now = start + t[..., None] * chord
    frame = Frame.of_root(now @ turn, depth)
    velocity = chord @ turn + now @ turning
    speed = np.sqrt(np.sum(lower(frame, velocity) * velocity, axis=(-2, -1)))
    return speed @ weights / 2


@pytest.mark.parametrize("depth", [1.5, 2, 3, 4, 8, 30])
@pytest.mark.parametrize(("n", "n_pairs"), [(2, 200), (3, 100), (5, 30), (8, 12)])
def test_gaussian_pairs(pairs, n, n_pairs, depth):
    """Every Gaussian pair is solved, and the bounds on its length hold."""
    space = DLNObservableManifold(n, depth)
    starts, ends = pairs(n, n_pairs if depth < 30 else n_pairs // 4, seed=n)
    solution = space.metric.solve_log(ends, starts)
    if depth < 2:
        # A geodesic may truly meet a singular matrix there; it is then said so.
        assert np.isin(solution.status, [0, 1]).all()
        assert np.mean(solution.success) >= 0.95
    else:
        assert solution.success.all(), solution.message
    good = solution.success
    bound = 1e-9 if depth == 30 else 1e-11
    assert np.max(solution.residual[good]) <= bound
    vectors, starts, ends = solution.initial_velocity[good], starts[good], ends[good]
    again = relative_residual(space, vectors, starts, ends, tolerance=3e-14)
    assert np.max(again) <= 3 * bound, np.max(again)
    assert np.all(solution.lower_bound[good] <= solution.length[good])
    assert np.all(solution.length[good] <= polar_length(space, starts, ends) * (1 + 1e-12))
    norm = space.metric.norm(vectors, starts)
    np.testing.assert_allclose(norm, solution.length[good], rtol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [1.5, 2, 3, 4, 8, 30])
@pytest.mark.parametrize(
    ("n", "n_pairs"), [(2, 400), (3, 400), (5, 200), (8, 200), (10, 20), (20, 6)]
)
def test_many_gaussian_pairs(pairs, n, n_pairs, depth):
    """The same at the full number of pairs, up to n = 20."""
    test_gaussian_pairs(pairs, n, n_pairs, depth)


@pytest.mark.parametrize(("n", "depth"), [(10, 3), (20, 2)])
def test_larger_matrices(pairs, n, depth):
    """One pair each of larger matrices."""
    space = DLNObservableManifold(n, depth)
    starts, ends = pairs(n, 1, seed=1)
    solution = space.metric.solve_log(ends, starts)
    assert solution.success.all()
    assert np.max(solution.residual) <= 1e-11
    assert np.max(solution.n_evaluations) <= 1500


@pytest.mark.parametrize("depth", [1.5, 2, 3, 8])
def test_distance_is_a_metric(pairs, depth):
    """Symmetric, and the triangle inequality holds."""
    space = DLNObservableManifold(3, depth)
    a, b = pairs(3, 40, seed=5)
    c = pairs(3, 40, seed=6)[0]
    differ = np.linalg.det(a) * np.linalg.det(c) < 0
    c[differ, 0] *= -1
    space.equip_with_metric(on_failure="nan")
    ab, ba = space.metric.dist(a, b), space.metric.dist(b, a)
    solved = np.isfinite(ab) & np.isfinite(ba)
    assert solved.mean() > 0.9
    np.testing.assert_allclose(ab[solved], ba[solved], rtol=1e-10)
    ac, cb = space.metric.dist(a, c), space.metric.dist(c, b)
    slack = ac + cb - ab
    assert np.all(slack[np.isfinite(slack)] >= -1e-10)
    assert space.metric.dist(a[0], a[0]) == 0


@pytest.mark.parametrize("depth", [1.5, 2, 3, 4, 8, 30])
@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_log_inverts_exp(n, depth):
    """``log(exp(v)) = v`` to 1e-9 for vectors up to 0.3 |W|."""
    space = DLNObservableManifold(n, depth)
    np.random.seed(n)
    points = space.random_point(12, bound=0.4)
    vectors = space.random_tangent_vec(points)
    s = np.linalg.svd(points, compute_uv=False)
    layers = np.sqrt(depth * np.sum(s ** (2 / depth), axis=-1))
    lengths = np.linspace(0.01, 0.3, 12) * layers
    vectors *= (lengths / space.metric.norm(vectors, points))[:, None, None]
    # Vectors whose geodesic meets a singular matrix have no end point.
    reached = space.metric.solve_exp(vectors, points)
    good = reached.success
    # At N = 30 such lengths leave the range of well-conditioned X: the smallest singular values
    # of the end point are below the round-off of the largest.
    s_end = np.linalg.svd(reached.end_point[good], compute_uv=False)
    good[good] = s_end[:, 0] / s_end[:, -1] < 1e5
    assert good.sum() >= 4
    vectors, points = vectors[good], points[good]
    solution = space.metric.solve_log(reached.end_point[good], points)
    back = solution.initial_velocity
    length = space.metric.norm(vectors, points)
    error = space.metric.norm(back - vectors, points) / length
    # Deep networks turn cheaply: I and -I are 1.15 apart at N = 30 where |W| is 11. Vectors beyond
    # the cut locus have a shorter geodesic to their end point, and log finds that one.
    beyond = solution.length < length * (1 - 1e-6)
    assert not beyond.any() or depth == 30
    assert (~beyond).sum() >= 4
    assert np.max(error[~beyond]) <= 1e-9, np.max(error[~beyond])


def test_linear_algebra_cost_is_bounded(pairs):
    """Evaluations per pair stay near those of the flow that verifies."""
    space = DLNObservableManifold(3, 3)
    starts, ends = pairs(3, 100, seed=8)
    solution = space.metric.solve_log(ends, starts)
    flow_alone = space.metric.solve_exp(solution.initial_velocity, starts)
    assert np.mean(solution.n_evaluations) <= 2 * np.mean(flow_alone.n_evaluations)
    assert np.max(solution.n_iterations) <= 40


@pytest.mark.parametrize("depth", [2, 8])
def test_a_looser_tolerance_buys_a_cheaper_log(pairs, depth):
    space = DLNObservableManifold(3, depth)
    starts, ends = pairs(3, 40, seed=5)
    evaluations = []
    for tolerance in (1e-13, 1e-9, 1e-6):
        space.equip_with_metric(tolerance=tolerance)
        solution = space.metric.solve_log(ends, starts)
        assert solution.success.all(), solution.message
        vectors = solution.initial_velocity
        assert relative_residual(space, vectors, starts, ends, 1e-13).max() <= 200 * tolerance
        evaluations.append(solution.n_evaluations.sum())
    # How much cheaper varies: followed from a path, a geodesic may be found to a tolerance by one
    # iteration or by five.
    assert evaluations[0] > evaluations[1] > evaluations[2]
    assert evaluations[0] > 1.5 * evaluations[2]


class TestClosedForms:
    """Where a closed form holds it is taken, and agrees with the numerical path."""

    @staticmethod
    def frames(depth):
        rng = np.random.default_rng(3)
        left, right = np.linalg.qr(rng.standard_normal((2, 4, 4)))[0]
        s, t = np.exp(rng.uniform(-1, 1, (2, 4)))
        return left @ np.diag(s) @ right, left @ np.diag(t) @ right, s, t

    @staticmethod
    def perturbed(space, start, end):
        """Distance by the path method: perturbed end points leave the closed form."""
        rng = np.random.default_rng(4)
        move = 1e-4 * rng.standard_normal(end.shape)
        pair = space.metric.solve_log(np.stack([end + move, end - move]), start)
        assert (pair.n_iterations > 0).all()
        fine = space.metric.solve_log(np.stack([end + 2 * move, end - 2 * move]), start)
        return (4 * pair.length.mean() - fine.length.mean()) / 3

    @pytest.mark.parametrize("depth", [1.5, 2, 3, 10])
    def test_same_singular_vectors(self, depth):
        space = DLNObservableManifold(4, depth)
        start, end, s, t = self.frames(depth)
        solution = space.metric.solve_log(end, start)
        assert solution.n_iterations == 0
        expected = np.sqrt(depth) * np.linalg.norm(s ** (1 / depth) - t ** (1 / depth))
        assert abs(solution.length - expected) <= 1e-13 * expected
        # The bound with sorted roots, at least; at N = 2 the fibre is aligned exactly.
        sorted_roots = np.sort(s) ** (1 / depth), np.sort(t) ** (1 / depth)
        bound = np.sqrt(depth) * np.linalg.norm(sorted_roots[0] - sorted_roots[1])
        bound = expected if depth == 2 else bound
        assert (1 - 1e-12) * bound <= solution.lower_bound <= expected
        roots = 0.7 * s ** (1 / depth) + 0.3 * t ** (1 / depth)
        got = np.sort(np.linalg.svd(solution(0.3), compute_uv=False))
        np.testing.assert_allclose(got, np.sort(roots**depth), rtol=1e-12)
        assert abs(self.perturbed(space, start, end) / expected - 1) <= 1e-9

    def test_depth_one_is_euclidean(self):
        space = DLNObservableManifold(3, 1)
        np.random.seed(0)
        start = space.random_point(bound=0.1)
        end = start + 0.1 * np.random.normal(size=(3, 3))
        assert np.array_equal(space.metric.log(end, start), end - start)
        assert abs(space.metric.dist(start, end) - np.linalg.norm(end - start)) <= 1e-14

    @pytest.mark.parametrize("rotated", [False, True])
    def test_bures_wasserstein(self, rotated):
        """N = 2 and equal polar factors: ``d^2 = 2 d_BW^2``."""
        space = DLNObservableManifold(4, 2)
        rng = np.random.default_rng(5)
        a, b = rng.standard_normal((2, 4, 4))
        a, b = a @ a.T + 0.1 * np.eye(4), b @ b.T + 0.1 * np.eye(4)
        polar = np.linalg.qr(rng.standard_normal((4, 4)))[0] if rotated else np.eye(4)
        values, vectors = np.linalg.eigh(a)
        root = (vectors * np.sqrt(values)) @ vectors.T
        cross = np.sum(np.sqrt(np.linalg.eigvalsh(root @ b @ root)))
        expected = np.sqrt(2 * (np.trace(a) + np.trace(b) - 2 * cross))
        solution = space.metric.solve_log(b @ polar, a @ polar)
        assert solution.n_iterations == 0
        assert abs(solution.length / expected - 1) <= 1e-12
        # At N = 2 the fibre is aligned by one SVD, and the bound is attained.
        assert abs(solution.lower_bound / expected - 1) <= 1e-12
        assert abs(self.perturbed(space, a @ polar, b @ polar) / expected - 1) <= 1e-9

    def test_same_polar_factor_is_no_closed_form_beyond_two_layers(self):
        """The straight line of lifts of Chen's Theorem 2.3 is longer than the geodesic at N = 3."""
        depth = 3
        space = DLNObservableManifold(3, depth)
        rng = np.random.default_rng(6)
        a, b = rng.standard_normal((2, 3, 3))
        a, b = a @ a.T + 0.05 * np.eye(3), b @ b.T + 0.05 * np.eye(3)
        first, last = Frame.of_point(a[None], depth), Frame.of_point(b[None], depth)
        assert not closed_form_velocity(first, last)[1].any()
        # Straight lines from W_p = A^(1/3) to Q_p B^(1/3) Q_p^T with Q = I: balanced at both ends.
        line = np.sqrt(depth) * np.linalg.norm(root_of(first) - root_of(last))
        assert space.metric.dist(a, b) < line


class TestFailures:
    """What cannot be solved says so, with the right error and its data."""

    def test_straight_line_through_a_singular_matrix(self):
        space = DLNObservableManifold(2, 1)
        with pytest.raises(IncompleteGeodesicError, match=r"0\.25") as caught:
            space.metric.log(np.diag([-3.0, -3.0]), np.diag([1.0, 3.0]))
        assert abs(caught.value.time - 0.25) <= 1e-9
        assert caught.value.solution.status == 1

    def test_unconverged_solver_raises_and_carries_the_solution(self, monkeypatch):

        for family in (root_paths.RootPaths, polar_paths.PolarPaths):
            monkeypatch.setattr(family, "levels", ((2, 3), (2, 4)))
        monkeypatch.setattr(multilevel, "_MAX_CORRECTIONS", 0)
        space = DLNObservableManifold(3, 3)
        np.random.seed(0)
        start, end = space.random_point(2)
        with pytest.raises(ConvergenceError, match="residual") as caught:
            space.metric.log(end, start)
        assert caught.value.solution.residual > 1e-11
        assert caught.value.solution.status == 2
        space.equip_with_metric(on_failure="nan")
        assert np.isnan(space.metric.log(end, start)).all()
        assert np.isnan(space.metric.dist(end, start))

    def test_more_modes_and_corrections_are_needed_and_taken(self, monkeypatch):
        """A hard pair is not solved by the second level alone, and is by the whole ladder."""

        depth = 3
        space = DLNObservableManifold(4, depth)
        rng = np.random.default_rng(9)
        left, right = np.linalg.qr(rng.standard_normal((2, 4, 4)))[0]
        if np.linalg.det(left @ right) < 0:
            left[:, 0] *= -1
        start, end = left @ np.diag(np.geomspace(1, 1e-6, 4)) @ right, np.eye(4)
        assert space.metric.solve_log(end, start).status == 0
        for family in (root_paths.RootPaths, polar_paths.PolarPaths):
            monkeypatch.setattr(family, "levels", family.levels[:2])
        monkeypatch.setattr(multilevel, "_MAX_CORRECTIONS", 0)
        assert space.metric.solve_log(end, start).status == 2


def test_hardly_anything_shorter_is_found_from_random_starts(pairs, monkeypatch):
    """The other way round is taken where it is shorter; one pair of sixty has a third, shorter."""
    n = 5
    metric = DLNObservableManifold(n, 4).metric
    starts, ends = pairs(n, 60, seed=21)
    lengths = metric.dist(starts, ends)
    families = (root_paths.RootPaths, polar_paths.PolarPaths)
    with monkeypatch.context() as patch:
        for family in families:
            patch.setattr(family, "rivals", lambda family: [])
        one_way = metric.dist(starts, ends)
    assert (lengths <= one_way * (1 + 1e-10)).all()
    assert 1 <= np.sum(lengths < one_way * (1 - 1e-4)) <= 10
    rng = np.random.default_rng(0)
    for family in families:
        straight = family.initial

        def random_start(family, straight=straight):
            guess = straight(family)
            shape = (len(guess.unknowns), 3, *guess.unknowns.shape[2:])
            sizes = np.array([1.6, 0.8, 0.5]).reshape(3, *(1,) * (len(shape) - 2))
            guess.unknowns[:, :3] += rng.standard_normal(shape) / n * sizes
            return guess

        monkeypatch.setattr(family, "initial", random_start)
    other = metric.dist(starts, ends)
    assert np.sum(other < lengths * (1 - 1e-8)) <= 1
    assert np.min(other / lengths) >= 0.99


@pytest.mark.parametrize("depth", [2, 3, 8])
def test_rotation_by_pi(depth):
    """I and -I are joined although the plane of rotation is not determined; X and -X too."""
    space = DLNObservableManifold(4, depth)
    np.random.seed(1)
    point = space.random_point()
    for start in (np.eye(4), point):
        solution = space.metric.solve_log(-start, start)
        assert solution.status == 0
    # By symmetry the geodesic from I to -I turns every plane by pi inside a cone of dimension two
    # with opening angle: its length follows from the cone law alone once the angle is known.
    solution = space.metric.solve_log(-np.eye(4), np.eye(4))
    assert solution.length <= 2 * np.sqrt(depth * 4) * (1 + 1e-12)


def test_solution_of_a_batch_is_callable(pairs):
    """Points of every member at every time, with recorded steps of different numbers."""
    space = DLNObservableManifold(3, 4)
    starts, ends = pairs(3, 6, seed=11)
    ends[0] = starts[0] + 1e-3
    solution = space.metric.solve_log(ends.reshape(2, 3, 3, 3), starts.reshape(2, 3, 3, 3))
    times = np.array([0.0, 0.35, 1.0])
    points = solution(times)
    assert points.shape == (2, 3, 3, 3, 3)
    assert np.abs(points[..., 0, :, :].reshape(6, 3, 3) - starts).max() <= 1e-12
    assert np.abs(points[..., 2, :, :].reshape(6, 3, 3) - ends).max() <= 1e-10
    middle = space.metric.exp(0.35 * solution.initial_velocity, starts.reshape(2, 3, 3, 3))
    assert np.abs(points[..., 1, :, :] - middle).max() <= 1e-10
    assert solution(0.35).shape == (2, 3, 3, 3)
