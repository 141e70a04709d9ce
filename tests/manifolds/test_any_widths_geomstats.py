"""geomstats' half of layers of any widths and rank: geodesics, bundle, means, views, storage."""

from dataclasses import replace

import numpy as np
import pytest
from dense_layers import case, like, name_of, product
from geomstats.geometry.nfold_manifold import NFoldManifold
from geomstats.geometry.product_manifold import ProductManifold
from geomstats.learning.frechet_mean import FrechetMean
from numpy.testing import assert_allclose, assert_array_equal

from dln_manifolds import BalancedManifold, DLNObservableManifold
from dln_manifolds.storage import load, save

NETWORKS = [((4, 3, 5), 3), ((4, 3, 5), 2), ((3, 5, 3), 3), ((4, 2, 3, 4), 2)]
networks = pytest.mark.parametrize("network", NETWORKS, ids=name_of)


@pytest.fixture
def setting(network):
    """Return layers, the matrices below, and points near each other."""
    widths, rank = network
    total = BalancedManifold(widths=widths, rank=rank)
    base = DLNObservableManifold(widths=widths, rank=rank)
    W = total.random_point(bound=0.3)
    points = total.metric.exp(0.4 * total.metric.random_unit_tangent_vec(W, 3), W)
    return total, base, W, points


def turns(total):
    """Return random elements of the group of the fibre, near the identity."""
    found = []
    for d in total.widths[1:-1]:
        q, r = np.linalg.qr(np.eye(d) + 0.2 * np.random.normal(size=(d, d)))
        found.append(q * np.sign(np.diag(r)))
    return found


@networks
class TestGeodesics:
    def test_exp_and_log_are_inverse(self, network, setting):
        total, _, W, points = setting
        velocities = total.metric.log(points, W)
        assert_allclose(total.metric.exp(velocities, W), points, rtol=0, atol=1e-9)
        assert_allclose(total.metric.norm(velocities, W), 0.4, rtol=1e-9)
        assert_allclose(total.metric.dist(W, points), 0.4, rtol=1e-9)
        assert_allclose(total.metric.dist(points, W), 0.4, rtol=1e-9)

    def test_logs_of_random_pairs(self, network, setting):
        total, base, _, _ = setting
        first, last = total.random_point(4), total.random_point(4)
        solution = total.metric.solve_log(last, first)
        assert solution.success.all()
        assert_allclose(total.metric.exp(solution.initial_velocity, first), last, rtol=0, atol=1e-8)
        # not shorter than the chord, nor than what lies below; not longer than the bound
        bounds = total.metric.bounds(last, first)
        assert np.all(bounds.lower <= solution.length * (1 + 1e-12))
        assert np.all(solution.length <= bounds.upper * (1 + 1e-12))
        below = base.metric.dist(total.end_to_end(first), total.end_to_end(last))
        assert np.all(below <= solution.length * (1 + 1e-9))

    def test_geodesics_stay_balanced_at_constant_speed(self, network, setting):
        total, _, W, points = setting
        path = total.metric.geodesic(W, end_point=points[0])
        times = np.linspace(0, 1, 9)
        along = path(times).reshape(9, *total.shape)
        assert total.belongs(along, atol=1e-12).all()
        steps = total.metric.dist(along[:-1], along[1:])
        assert_allclose(steps, 0.05, rtol=1e-8)

    def test_horizontal_geodesics_lie_over_geodesics(self, network, setting):
        total, base, W, _ = setting
        X = total.end_to_end(W)
        Z = 0.5 * base.metric.random_unit_tangent_vec(X, 3)
        ends = total.metric.exp(total.horizontal_lift(Z, W), W)
        assert_allclose(total.end_to_end(ends), base.metric.exp(Z, X), rtol=0, atol=1e-10)

    def test_transport_is_an_isometry_along_geodesics(self, network, setting):
        total, _, W, points = setting
        U, V = (total.random_tangent_vec(W) for _ in range(2))
        metric, end = total.metric, points[0]
        moved = [metric.parallel_transport(x, W, end_point=end) for x in (U, V)]
        assert total.is_tangent(np.stack(moved), end, atol=1e-9).all()
        assert_allclose(np.sum(moved[0] * moved[1]), np.sum(U * V), rtol=0, atol=1e-9)
        velocity = metric.log(end, W)
        carried = metric.parallel_transport(velocity, W, direction=velocity)
        assert_allclose(carried, -metric.log(W, end), rtol=0, atol=1e-8)
        back = metric.parallel_transport(moved[0], end, end_point=W)
        assert_allclose(back, U, rtol=0, atol=1e-8)

    def test_the_group_acts_by_isometries(self, network, setting):
        total, _, W, _ = setting
        group, V = turns(total), total.random_tangent_vec(W)
        other = total.act(group, W)
        assert total.belongs(other, atol=1e-13)
        assert_allclose(total.end_to_end(other), total.end_to_end(W), rtol=0, atol=1e-13)
        turned = total.act(group, V)
        assert total.is_tangent(turned, other, atol=1e-12)
        end = total.metric.exp(0.3 * V, W)
        expected = total.act(group, end)
        assert_allclose(total.metric.exp(0.3 * turned, other), expected, rtol=0, atol=1e-10)
        assert_allclose(total.metric.dist(other, expected), total.metric.dist(W, end), rtol=1e-9)
        for part in ("horizontal", "vertical", "normal"):
            projection = getattr(total, f"{part}_projection")
            ambient = np.random.normal(size=total.shape)
            image = projection(total.act(group, ambient), other)
            assert_allclose(image, total.act(group, projection(ambient, W)), rtol=0, atol=1e-12)


@networks
class TestFibres:
    def test_lifts_and_factors(self, network, setting):
        total, base, _, _ = setting
        X = base.random_point(3)
        lifts = total.fiber_bundle.lift(X)
        assert total.belongs(lifts, atol=1e-13).all()
        assert_allclose(total.end_to_end(lifts), X, rtol=0, atol=1e-13)
        near = total.random_point()
        found = total.factor(X, near)
        assert total.belongs(found, atol=1e-12).all()
        assert_allclose(total.end_to_end(found), X, rtol=0, atol=1e-12)
        sizes = [np.linalg.norm(x - near, axis=-1) for x in (found, lifts)]
        assert np.all(sizes[0] <= sizes[1] + 1e-12)

    def test_align_stays_in_the_fibre_and_comes_nearer(self, network, setting):
        total, _, W, points = setting
        bundle, target = total.fiber_bundle, points[0]
        away = total.act(turns(total), W)
        aligned = bundle.align(away, target)
        assert_allclose(total.end_to_end(aligned), total.end_to_end(W), rtol=0, atol=1e-12)
        for other in (away, W, *(total.act(turns(total), aligned) for _ in range(5))):
            assert np.linalg.norm(aligned - target) <= np.linalg.norm(other - target) + 1e-12
        # no part of the chord leads along the fibre
        chord = total.vertical_projection(target - aligned, aligned)
        assert_allclose(chord, 0, rtol=0, atol=1e-8)
        assert_allclose(bundle.align(away, W), W, rtol=0, atol=1e-9)

    def test_balance_and_projection(self, network, setting):
        (_, rank), (total, _, W, _) = network, setting
        ambient = W + 0.1 * np.random.normal(size=W.shape)
        U, s, Vt = np.linalg.svd(product(like(case(network), ambient)))
        X = (U[:, :rank] * s[:rank]) @ Vt[:rank]
        for near in (total.balance(ambient), total.projection(ambient)):
            assert total.belongs(near, atol=1e-12)
            assert_allclose(total.end_to_end(near), X, rtol=0, atol=1e-12)
            for _ in range(10):
                other = total.act(turns(total), near)
                assert np.linalg.norm(near - ambient) <= np.linalg.norm(other - ambient)
        assert_array_equal(total.projection(W), W)
        assert_allclose(total.balance(total.layers(W)), W, rtol=0, atol=1e-12)

    def test_sectors_of_the_bundle(self, network, setting):
        total, _, W, _ = setting
        bundle, V = total.fiber_bundle, total.random_tangent_vec(W)
        horizontal = bundle.horizontal_projection(V, W)
        vertical = bundle.vertical_projection(V, W)
        assert_allclose(horizontal + vertical, V, rtol=0, atol=1e-13)
        assert bundle.is_horizontal(horizontal, W)
        assert bundle.is_vertical(vertical, W)
        assert not bundle.is_horizontal(V, W)
        Z = bundle.tangent_riemannian_submersion(V, W)
        lift = bundle.horizontal_lift(Z, fiber_point=W)
        assert_allclose(lift, horizontal, rtol=0, atol=1e-12)


class TestMeans:
    def test_of_two_layers_is_the_middle(self):
        space = BalancedManifold(widths=(4, 3, 5), rank=2)
        W = space.random_point(bound=0.3)
        points = np.stack([W, space.metric.exp(0.5 * space.random_tangent_vector(W), W)])
        estimator = FrechetMean(space)
        estimator.optimizer.epsilon = 1e-12
        mean = estimator.fit(points).estimate_
        assert space.metric.dist(mean, space.pair_mean(*points)) <= 1e-5

    @pytest.mark.parametrize(
        "space",
        [
            BalancedManifold(widths=(4, 3, 5)),
            BalancedManifold(widths=(4, 2, 3, 4)),
            DLNObservableManifold(widths=(4, 3, 5)),
            DLNObservableManifold(widths=(4, 3, 5), rank=2),
        ],
        ids=repr,
    )
    def test_logs_at_the_mean_cancel(self, space):
        W = space.random_point(bound=0.3)
        points = space.metric.exp(0.4 * space.metric.random_unit_tangent_vec(W, 5), W)
        estimator = FrechetMean(space)
        estimator.optimizer.epsilon = 1e-10
        mean = estimator.fit(points).estimate_
        assert space.belongs(mean)
        total = np.mean(space.metric.log(points, mean), axis=0)
        assert space.metric.norm(total, mean) <= 1e-4

    def test_distances_of_all_pairs(self):
        space = BalancedManifold(widths=(4, 3, 5))
        W = space.random_point(bound=0.3)
        points = space.metric.exp(0.3 * space.metric.random_unit_tangent_vec(W, 4), W)
        matrix = space.metric.dist_pairwise(points)
        assert_allclose(matrix, matrix.T, rtol=0, atol=0)
        expected = [[space.metric.dist(a, b) for b in points] for a in points]
        assert_allclose(matrix, expected, rtol=0, atol=1e-9)


@networks
class TestViews:
    def test_dimension_repr_and_new(self, network):
        widths, rank = network
        space = BalancedManifold(widths=widths, rank=rank)
        assert space.dim == sum(d * rank - rank * (rank + 1) // 2 for d in widths) + rank
        assert (space.widths, space.rank, space.depth) == (widths, rank, len(widths) - 1)
        other = eval(repr(space), {"BalancedManifold": BalancedManifold})
        for new in (other, space.new(equip=False)):
            assert (new.widths, new.rank, new.shape) == (widths, rank, space.shape)
        assert not hasattr(space.new(equip=False), "metric")
        assert space.point_ndim == 1
        with pytest.raises(AttributeError, match="see shape, rank and widths"):
            _ = BalancedManifold(widths=(4, 3, 5)).n

    def test_random_points_and_vectors(self, network):
        space = BalancedManifold(widths=network[0], rank=network[1])
        points = space.random_point(50)
        assert points.shape == (50, *space.shape)
        assert space.belongs(points, atol=1e-13).all()
        assert space.random_point(0).shape == (0, *space.shape)
        logs = np.log(np.linalg.svd(space.end_to_end(points))[1][:, : network[1]])
        assert np.abs(logs).max() <= 1
        assert np.abs(logs).max() >= 0.9
        W = points[0]
        vectors = space.random_tangent_vec(W, 400)
        assert space.is_tangent(vectors, W, atol=1e-12).all()
        assert_allclose(np.mean(np.sum(vectors**2, axis=-1)), space.dim, rtol=0.1)
        units = space.metric.random_unit_tangent_vec(points)
        assert_allclose(space.metric.norm(units, points), 1, rtol=1e-14)

    @pytest.mark.parametrize("orthonormal", [False, True])
    def test_flattened(self, network, orthonormal):
        space = BalancedManifold(widths=network[0], rank=network[1])
        view = space.flattened(orthonormal)
        W = space.random_point(bound=0.3)
        V = 0.3 * space.random_tangent_vector(W)
        assert (view.shape, view.dim) == (space.shape, space.dim)
        assert_array_equal(view.flatten(W), W)
        assert_array_equal(view.unflatten(W), W)
        assert view.belongs(W)
        assert view.is_tangent(V, W)
        end = view.metric.exp(V, W)
        assert_allclose(end, space.metric.exp(V, W), rtol=0, atol=1e-13)
        assert_allclose(view.metric.log(end, W), V, rtol=0, atol=1e-9)
        assert_allclose(view.metric.dist(W, end), 0.3, rtol=1e-9)
        assert_allclose(view.metric.inner_product(V, V, W), 0.09, rtol=1e-12)
        assert view.new().space is view.space

    def test_matrices_of_the_metric(self, network):
        space = BalancedManifold(widths=network[0], rank=network[1])
        W = space.random_point(2)
        size = W.shape[-1]
        assert_array_equal(space.metric.metric_matrix(W), np.stack([np.eye(size)] * 2))
        matrix = space.metric.cometric_matrix(W)
        assert_allclose(matrix @ matrix, matrix, rtol=0, atol=1e-13)
        assert_allclose(np.trace(matrix, axis1=1, axis2=2), space.dim, rtol=1e-13)
        a, b = np.random.normal(size=(2, size))
        expected = np.einsum("i,bij,j->b", a, matrix, b)
        assert_allclose(space.metric.inner_coproduct(a, b, W), expected, rtol=0, atol=1e-12)

    def test_storage_there_and_back(self, network, tmp_path):
        space = BalancedManifold(widths=network[0], rank=network[1])
        space.equip_with_metric(type(space.metric), tolerance=1e-12, on_failure="nan")
        W = space.random_point(bound=0.3)
        end = space.metric.exp(0.3 * space.random_tangent_vector(W), W)
        solution = space.metric.solve_log(end, W)
        save(tmp_path / "run.npz", space=space, W=W, geodesic=solution, view=space.flattened())
        found = load(tmp_path / "run.npz")
        assert repr(found["space"]) == repr(space)
        assert found["space"].metric.tolerance == 1e-12
        assert found["space"].metric.on_failure == "nan"
        assert_array_equal(found["W"], W)
        assert_array_equal(found["geodesic"]([0.0, 0.3]), solution([0.0, 0.3]))
        assert_array_equal(found["space"].metric.log(end, W), solution.initial_velocity)
        assert found["view"].shape == space.shape

    def test_copies(self, network):
        space = BalancedManifold(widths=network[0], rank=network[1])
        copies = NFoldManifold(space, 3)
        a = copies.random_point()
        V = 0.2 * np.stack([space.random_tangent_vector(W) for W in a])
        b = copies.metric.exp(V, a)
        assert np.all(copies.belongs(np.stack([a, b])))
        assert_allclose(copies.metric.log(b, a), V, rtol=0, atol=1e-8)


def test_product_of_two_networks_of_the_same_widths():
    factors = [BalancedManifold(widths=(3, 2, 3)), BalancedManifold(widths=(3, 2, 3), rank=1)]
    both = ProductManifold(factors)
    a = both.random_point()
    parts = both.project_from_product(a)
    assert all(space.belongs(part) for space, part in zip(factors, parts, strict=True))
    ends = [space.exp(W, 0.3 * space.random_tangent_vector(W)) for space, W in zip(
        factors, parts, strict=True)]  # fmt: skip
    b = both.embed_to_product(ends)
    assert_allclose(both.metric.squared_dist(a, b), 2 * 0.09, rtol=1e-8)
    assert_allclose(both.metric.exp(both.metric.log(b, a), a), b, rtol=0, atol=1e-8)


def test_solutions_that_were_never_followed_have_no_points(tmp_path):
    space = BalancedManifold(widths=(3, 2, 3))
    W = space.random_point(2, bound=0.3)
    solution = space.metric.solve_log(*W)
    unsolved = replace(solution, trajectory=type(solution.trajectory)([], [], []))
    save(tmp_path / "run.npz", unsolved=unsolved)
    for found in (unsolved, load(tmp_path / "run.npz")["unsolved"]):
        assert np.isnan(found([0.0, 0.5])).all()
        assert found([0.0, 0.5]).shape == solution([0.0, 0.5]).shape


def test_equal_widths_of_lower_rank_have_three_axes():
    space = BalancedManifold(n=3, depth=2, rank=2)
    assert space.shape == (2, 3, 3)
    W = space.random_point(bound=0.3)
    V = 0.4 * space.random_tangent_vector(W)
    end = space.metric.exp(V, W)
    assert space.belongs(end, atol=1e-12)
    assert_allclose(space.metric.log(end, W), V, rtol=0, atol=1e-9)
    assert [layer.shape for layer in space.layers(end)] == [(3, 3), (3, 3)]
    # of all ranks it is the same network
    flat = BalancedManifold(widths=(3, 3, 3), rank=2)
    assert repr(flat) == repr(space)
