"""The bundle of layers over end-to-end matrices: lifts, alignment, O'Neill's tensor, the group."""

import numpy as np
import pytest
from balanced_reference import ROOTS, layers_of, product, relative_imbalance, size
from geomstats.geometry.fiber_bundle import FiberBundle
from geomstats.geometry.quotient_metric import QuotientMetric
from numpy.testing import assert_allclose, assert_array_equal

from dln_manifolds import (
    BalancedManifold,
    DLNBundle,
    DLNObservableManifold,
    DLNQuotientMetric,
    InvalidPointError,
)

SIZES = [(1, 3), (2, 1), (2, 2), (3, 3), (3, 4), (5, 3), (2, 16)]


@pytest.fixture(params=SIZES, ids=lambda value: f"n={value[0]}-N={value[1]}")
def total(request):
    return BalancedManifold(*request.param)


def orthogonal(shape):
    return np.linalg.qr(np.random.normal(size=shape))[0]


def group_elem(total, batch=()):
    return orthogonal((*batch, total.depth - 1, total.n, total.n))


def observable(total):
    return DLNObservableManifold(total.n, total.depth)


def test_bundle_is_one_of_geomstats(total):
    assert isinstance(total.fiber_bundle, FiberBundle)
    assert isinstance(total.fiber_bundle, DLNBundle)


class TestSubmersion:
    def test_is_the_product(self, total):
        W = total.random_point(3)
        X = total.fiber_bundle.riemannian_submersion(W)
        assert_array_equal(X, total.end_to_end(W))
        expected = np.stack([product(w, total.n) for w in W])
        assert_allclose(X, expected, rtol=0, atol=1e-13 * np.abs(expected).max())

    def test_end_to_end_of_layers_that_are_not_balanced(self, total):
        W = np.random.normal(size=total.shape)
        expected = product(W, total.n)
        assert_allclose(total.end_to_end(W), expected, rtol=0, atol=1e-12 * np.abs(expected).max())

    @pytest.mark.parametrize("negative", [False, True])
    def test_of_a_lift_is_the_identity(self, total, negative):
        X = observable(total).random_point(4)
        if negative:
            X[:, 0] *= -1
        W = total.fiber_bundle.lift(X)
        assert np.all(total.belongs(W, atol=1e-13))
        assert_allclose(total.fiber_bundle.riemannian_submersion(W), X, rtol=0, atol=1e-13)
        assert_array_equal(W, total.factor(X))
        # of least norm
        squares = np.sum(W**2, axis=(1, 2, 3))
        roots = np.linalg.svd(X, compute_uv=False) ** (1 / total.depth)
        assert_allclose(squares, total.depth * np.sum(roots**2, axis=1), rtol=1e-13)

    def test_differential_of_a_horizontal_lift_is_the_identity(self, total):
        W = total.random_point(4)
        X, bundle = total.end_to_end(W), total.fiber_bundle
        Z = np.random.normal(size=X.shape)
        V = bundle.horizontal_lift(Z, fiber_point=W)
        assert_allclose(bundle.tangent_riemannian_submersion(V, W), Z, rtol=0, atol=1e-11)
        assert np.all(bundle.is_horizontal(V, W))
        assert np.all(total.is_tangent(V, W))

    def test_horizontal_lift_is_an_isometry(self, total):
        base = observable(total)
        W = total.random_point(4)
        X = total.end_to_end(W)
        Y, Z = np.random.normal(size=(2, *X.shape))
        lifts = [total.fiber_bundle.horizontal_lift(A, fiber_point=W) for A in (Y, Z)]
        upstairs = total.metric.inner_product(*lifts, W)
        scale = base.metric.norm(Y, X) * base.metric.norm(Z, X)
        assert np.all(np.abs(upstairs - base.metric.inner_product(Y, Z, X)) <= 1e-12 * scale)

    def test_horizontal_lift_against_its_formula(self, total):
        # A_X(P) = Z and V_p = (W_N ... W_{p+1})^T P (W_{p-1} ... W_1)^T
        W = total.random_point()
        P, n = np.random.normal(size=(total.n, total.n)), total.n
        V = np.stack(
            [product(W[p + 1 :], n).T @ P @ product(W[:p], n).T for p in range(total.depth)]
        )
        moved = [product([*W[:p], V[p], *W[p + 1 :]], n) for p in range(total.depth)]
        lift = total.horizontal_lift(sum(moved), W)
        assert_allclose(lift, V, rtol=0, atol=1e-11 * size(V))

    def test_differential_against_finite_differences(self, total):
        W, V = total.random_point(), np.random.normal(size=total.shape)
        h = 1e-5
        numerical = (total.end_to_end(W + h * V) - total.end_to_end(W - h * V)) / (2 * h)
        # a matrix that is horizontal over the numerical one has the same image
        V = total.to_tangent(V, W)
        numerical = (total.end_to_end(W + h * V) - total.end_to_end(W - h * V)) / (2 * h)
        assert_allclose(total.push_forward(V, W), numerical, rtol=0, atol=1e-8 * size(V) * size(W))

    def test_horizontal_lift_without_a_fiber_point_goes_to_the_lift(self, total):
        base, bundle = observable(total), total.fiber_bundle
        X = base.random_point()
        Z = base.random_tangent_vec(X)
        assert_array_equal(
            bundle.horizontal_lift(Z, base_point=X),
            bundle.horizontal_lift(Z, fiber_point=bundle.lift(X)),
        )
        with pytest.raises(ValueError, match="base_point or fiber_point"):
            bundle.horizontal_lift(Z)


class TestSplitting:
    def test_horizontal_and_vertical_make_a_tangent_vector(self, total):
        W = total.random_point(3)
        V = total.random_tangent_vec(W)
        bundle = total.fiber_bundle
        horizontal, vertical = bundle.horizontal_projection(V, W), bundle.vertical_projection(V, W)
        assert_allclose(horizontal + vertical, V, rtol=0, atol=1e-13)
        assert np.all(np.abs(total.metric.inner_product(horizontal, vertical, W)) <= 1e-12)
        assert np.all(bundle.is_horizontal(horizontal, W))
        assert_allclose(bundle.tangent_riemannian_submersion(vertical, W), 0, rtol=0, atol=1e-12)
        pushed = bundle.tangent_riemannian_submersion(V, W)
        assert_allclose(bundle.horizontal_lift(pushed, fiber_point=W), horizontal, atol=1e-11)

    def test_is_horizontal_and_is_vertical(self):
        total = BalancedManifold(3, 4)
        W, bundle = total.random_point(4), total.fiber_bundle
        V = total.random_tangent_vec(W)
        horizontal, vertical = bundle.horizontal_projection(V, W), bundle.vertical_projection(V, W)
        mixed = np.stack([horizontal[0], vertical[1], V[2], 1e-14 * V[3] + horizontal[3]])
        assert_array_equal(bundle.is_horizontal(mixed, W), [True, False, False, True])
        assert_array_equal(bundle.is_vertical(mixed, W), [False, True, False, False])
        # relative to their length
        assert_array_equal(bundle.is_horizontal(1e-20 * mixed, W), [True, False, False, True])
        assert bundle.is_horizontal(V[0], W[0], atol=1.0)
        assert bundle.is_vertical(np.zeros_like(V[0]), W[0])
        assert np.shape(bundle.is_horizontal(V[0], W[0])) == ()


class TestAlignment:
    def pair(self, total, batch=5):
        return total.random_point(2 * batch).reshape(2, batch, *total.shape)

    def test_stays_in_the_fibre_and_comes_nearer(self, total):
        W, R = self.pair(total)
        aligned = total.fiber_bundle.align(W, R)
        assert np.all(total.belongs(aligned, atol=1e-12))
        X = total.end_to_end(W)
        assert_allclose(total.end_to_end(aligned), X, rtol=0, atol=1e-12)
        norm = total.metric.norm
        before = norm(W - R)
        assert np.all(norm(aligned - R) <= before * (1 + 1e-14))
        # nor is any of many others of the fibre much nearer to it than to the end
        turned = np.stack([total.act(group_elem(total, (5,)), W) for _ in range(20)])
        if total.depth <= 2:
            assert np.all(norm(aligned - R) <= norm(turned - R).min(axis=0) + 1e-12)

    def test_chord_has_no_vertical_part(self, total):
        W, R = self.pair(total)
        aligned = total.fiber_bundle.align(W, R)
        vertical = total.vertical_projection(R - aligned, aligned)
        assert np.all(total.metric.norm(vertical) <= 1e-12 * total.metric.norm(W))

    def test_recovers_a_small_turn_exactly(self, total):
        R = total.random_point()
        A = 0.05 * np.random.normal(size=(total.depth - 1, total.n, total.n))
        A -= np.swapaxes(A, 1, 2)
        identity = np.eye(total.n)
        cayley = np.linalg.solve(identity - A, identity + A)
        aligned = total.fiber_bundle.align(total.act(cayley, R), R)
        assert_allclose(aligned, R, rtol=0, atol=1e-11)

    def test_is_exact_for_two_layers_of_width_two(self):
        total = BalancedManifold(2, 2)
        W, R = self.pair(total, 6)
        angles = np.linspace(0, 2 * np.pi, 20001)
        c, s = np.cos(angles), np.sin(angles)
        rotations = np.stack([np.stack([c, -s], -1), np.stack([s, c], -1)], -2)
        group = np.concatenate([rotations, rotations @ np.diag([1.0, -1.0])])[:, None]
        for k in range(6):
            nearest = np.min(total.metric.norm(total.act(group, W[k]) - R[k]))
            aligned = total.fiber_bundle.align(W[k], R[k])
            distance = size(aligned - R[k])
            assert distance <= nearest * (1 + 1e-12)
            assert abs(distance / nearest - 1) <= 1e-6

    def test_two_layers_are_a_lower_bound_of_the_distance_below(self):
        total, base = BalancedManifold(3, 2), DLNObservableManifold(3, 2)
        W, R = self.pair(total, 20)
        aligned = total.fiber_bundle.align(W, R)
        distance = base.metric.dist(total.end_to_end(W), total.end_to_end(R))
        assert np.all(total.metric.norm(aligned - R) <= distance * (1 + 1e-10))


class TestONeill:
    @pytest.fixture(params=["generic", "two equal", "all equal"])
    def setting(self, request):
        total = BalancedManifold(3, 3)
        W = layers_of(ROOTS[request.param], 3)
        return total, W, *total.random_tangent_vec(W, 3)

    def test_is_half_the_vertical_part_of_the_bracket(self, setting):
        total, W, E, F, _ = setting
        X, Y = total.horizontal_projection(np.stack([E, F]), W)
        h = 1e-5

        def derivative(direction, vector):
            # of the field of horizontal parts
            ends = [total.metric.exp(t * direction, W) for t in (h, -h)]
            fields = [total.horizontal_projection(vector, end) for end in ends]
            return (fields[0] - fields[1]) / (2 * h)

        bracket = derivative(X, Y) - derivative(Y, X)
        expected = total.vertical_projection(bracket, W) / 2
        tensor = total.fiber_bundle.integrability_tensor(X, Y, W)
        assert size(tensor - expected) <= 1e-7 * size(X) * size(Y)
        assert size(tensor) > 1e-2

    def test_against_its_definition(self, setting):
        total, W, E, F, _ = setting
        along, h = total.horizontal_projection(E, W), 1e-5
        ends = [total.metric.exp(t * along, W) for t in (h, -h)]
        parts = {}
        for name in ("horizontal", "vertical"):
            project = getattr(total, f"{name}_projection")
            parts[name] = (project(F, ends[0]) - project(F, ends[1])) / (2 * h)
        expected = total.vertical_projection(parts["horizontal"], W)
        expected = expected + total.horizontal_projection(parts["vertical"], W)
        tensor = total.fiber_bundle.integrability_tensor(E, F, W)
        assert size(tensor - expected) <= 1e-7 * size(E) * size(F)

    def test_is_skew_in_horizontal_arguments(self, setting):
        total, W, E, F, _ = setting
        X, Y = total.horizontal_projection(np.stack([E, F]), W)
        tensor = total.fiber_bundle.integrability_tensor
        assert_allclose(tensor(X, Y, W), -tensor(Y, X, W), rtol=0, atol=1e-12)
        assert_allclose(tensor(X, X, W), 0, rtol=0, atol=1e-12)

    def test_is_a_skew_operator(self, setting):
        total, W, E, F, G = setting
        tensor = total.fiber_bundle.integrability_tensor
        left, right = np.sum(tensor(E, F, W) * G), np.sum(F * tensor(E, G, W))
        assert abs(left + right) <= 1e-11 * abs(left)
        assert abs(np.sum(tensor(E, F, W) * F)) <= 1e-11 * size(E) * size(F) ** 2

    def test_swaps_horizontal_and_vertical(self, setting):
        total, W, E, F, _ = setting
        bundle = total.fiber_bundle
        horizontal, vertical = bundle.horizontal_projection(F, W), bundle.vertical_projection(F, W)
        assert bundle.is_vertical(bundle.integrability_tensor(E, horizontal, W), W)
        assert bundle.is_horizontal(bundle.integrability_tensor(E, vertical, W), W)
        # only the horizontal part of the first argument counts
        up = bundle.vertical_projection(E, W)
        assert_allclose(bundle.integrability_tensor(up, F, W), 0, rtol=0, atol=1e-12)

    def test_vanishes_for_single_layers_and_numbers(self):
        for n, depth in ((3, 1), (1, 4)):
            total = BalancedManifold(n, depth)
            W = total.random_point()
            E, F = total.random_tangent_vec(W, 2)
            tensor = total.fiber_bundle.integrability_tensor(E, F, W)
            assert_allclose(tensor, np.zeros(total.shape), rtol=0, atol=1e-14)


class TestGroup:
    def test_action_keeps_the_end_to_end_matrix_and_balance(self, total):
        W, h = total.random_point(3), group_elem(total, (3,))
        turned = total.act(h, W)
        assert np.all(total.belongs(turned, atol=1e-13))
        assert_allclose(total.end_to_end(turned), total.end_to_end(W), rtol=0, atol=1e-12)
        padded = np.broadcast_to(np.eye(total.n), (3, total.depth + 1, total.n, total.n)).copy()
        padded[:, 1:-1] = h
        expected = padded[:, 1:] @ W @ np.swapaxes(padded[:, :-1], -1, -2)
        assert_allclose(turned, expected, rtol=0, atol=1e-14)

    def test_action_is_isometric_and_maps_sectors_to_sectors(self, total):
        W, h = total.random_point(), group_elem(total)
        V = total.random_tangent_vec(W)
        assert abs(size(total.act(h, V)) - size(V)) <= 1e-13 * size(V)
        for part in ("horizontal", "vertical", "normal"):
            project = getattr(total, f"{part}_projection")
            Z = np.random.normal(size=total.shape)
            turned = project(total.act(h, Z), total.act(h, W))
            assert_allclose(turned, total.act(h, project(Z, W)), rtol=0, atol=1e-12)

    def test_action_maps_geodesics_to_geodesics(self, total):
        W, h = total.random_point(), group_elem(total)
        V = total.random_tangent_vec(W)
        V *= 0.2 * size(W) / size(V)
        turned = total.metric.exp(total.act(h, V), total.act(h, W))
        assert_allclose(turned, total.act(h, total.metric.exp(V, W)), rtol=0, atol=1e-11)

    def test_entropy_and_volume_are_constant_on_fibres(self, total):
        W, base = total.random_point(3), observable(total)
        turned = total.act(group_elem(total, (3,)), W)
        assert_allclose(total.entropy(turned), total.entropy(W), rtol=1e-12)
        assert_allclose(total.volume_density(turned), total.volume_density(W), rtol=1e-11)
        assert_allclose(total.entropy(W), base.entropy(total.end_to_end(W)), rtol=1e-12)
        gradient = total.push_forward(total.entropy_gradient(W), W)
        expected = base.entropy_gradient(total.end_to_end(W))
        assert_allclose(gradient, expected, rtol=0, atol=1e-11 * (1 + np.abs(expected).max()))

    def test_group_elements_must_be_orthogonal(self):
        total = BalancedManifold(2, 3)
        with pytest.raises(InvalidPointError, match="not orthogonal"):
            total.act(np.ones((2, 2, 2)), total.random_point())


@pytest.mark.parametrize(("kind", "depth"), [("generic", 2), ("two equal", 3), ("all equal", 4)])
def test_mean_curvature_against_finite_differences(kind, depth):
    total = BalancedManifold(3, depth)
    W = layers_of(ROOTS[kind], depth)
    curvature, gradient = total.mean_curvature(W), total.entropy_gradient(W)
    assert_array_equal(curvature, -gradient)
    assert total.fiber_bundle.is_horizontal(curvature, W)
    h = 1e-4
    for vector in total.jacobi_basis(W).horizontal:
        change = total.entropy(total.metric.exp(h * vector, W))
        change -= total.entropy(total.metric.exp(-h * vector, W))
        assert abs(change / (2 * h) - np.sum(gradient * vector)) <= 1e-7


@pytest.mark.parametrize(("kind", "depth"), [("generic", 2), ("two equal", 3)])
def test_mean_curvature_is_the_trace_of_the_second_fundamental_form_of_the_orbit(kind, depth):
    # Curves exp(t A) . W through the fibre, for an orthonormal basis of its tangent space.
    total = BalancedManifold(3, depth)
    W = layers_of(ROOTS[kind], depth)
    units = np.zeros((3, 3, 3))
    for k, (i, j) in enumerate(((0, 1), (0, 2), (1, 2))):
        units[k, i, j], units[k, j, i] = 1, -1
    generators = [
        np.stack([u * (p == q) for q in range(depth - 1)]) for p in range(depth - 1) for u in units
    ]

    def apply(A, V):
        padded = np.concatenate([np.zeros((1, 3, 3)), A, np.zeros((1, 3, 3))])
        return padded[1:] @ V - V @ padded[:-1]

    velocities = np.stack([apply(A, W).ravel() for A in generators])
    weights = np.linalg.inv(velocities @ velocities.T)
    # the second derivative of the curve, and of mixed ones by symmetry
    second = np.array([[apply(A, apply(B, W)) for B in generators] for A in generators])
    trace = np.einsum("ab,ab...->...", weights, second)
    expected = total.horizontal_projection(trace, W)
    assert_allclose(total.mean_curvature(W), expected, rtol=0, atol=1e-11)


class TestQuotient:
    @pytest.fixture(params=[(2, 2), (3, 3), (3, 4)], ids=str)
    def spaces(self, request):
        quotient = DLNObservableManifold(*request.param, equip=False)
        quotient.equip_with_metric(DLNQuotientMetric)
        return quotient, DLNObservableManifold(*request.param)

    def test_is_a_quotient_metric(self, spaces):
        assert isinstance(spaces[0].metric, QuotientMetric)
        assert isinstance(spaces[0].metric, DLNQuotientMetric)

    @pytest.mark.parametrize("batch", [1, 3])
    def test_inner_products_and_norms_agree(self, spaces, batch):
        quotient, base = spaces
        X = base.random_point(batch)
        Y, Z = np.random.normal(size=(2, *X.shape))
        expected = base.metric.inner_product(Y, Z, X)
        scale = base.metric.norm(Y, X) * base.metric.norm(Z, X)
        assert np.all(np.abs(quotient.metric.inner_product(Y, Z, X) - expected) <= 1e-12 * scale)
        assert_allclose(quotient.metric.norm(Z, X), base.metric.norm(Z, X), rtol=1e-12)

    @pytest.mark.parametrize("batch", [1, 3])
    def test_exponentials_agree(self, spaces, batch):
        quotient, base = spaces
        X = base.random_point(batch)
        Z = 0.3 * base.random_tangent_vec(X)
        assert_allclose(quotient.metric.exp(Z, X), base.metric.exp(Z, X), rtol=0, atol=1e-10)

    @pytest.mark.parametrize("batch", [1, 3])
    def test_logarithms_and_distances_agree(self, spaces, batch):
        quotient, base = spaces
        X, Y = base.random_point(2 * batch).reshape(2, batch, *base.shape)
        if batch == 1:
            X, Y = X[0], Y[0]
        distance = base.metric.dist(X, Y)
        assert_allclose(quotient.metric.dist(X, Y), distance, rtol=1e-9)
        assert_allclose(quotient.metric.squared_dist(X, Y), distance**2, rtol=1e-9)
        assert_allclose(quotient.metric.log(Y, X), base.metric.log(Y, X), rtol=0, atol=1e-8)

    def test_geodesics_agree(self, spaces):
        quotient, base = spaces
        X = base.random_point()
        Z = 0.3 * base.random_tangent_vec(X)
        path = quotient.metric.geodesic(X, initial_tangent_vec=Z)(np.array([0.0, 0.5, 1.0]))
        expected = base.metric.geodesic(X, initial_tangent_vec=Z)(np.array([0.0, 0.5, 1.0]))
        assert_allclose(path, expected, rtol=0, atol=1e-10)

    def test_depth_must_be_an_integer(self):
        space = DLNObservableManifold(3, 2.5, equip=False)
        with pytest.raises(ValueError, match="integer"):
            space.equip_with_metric(DLNQuotientMetric)

    def test_registered_with_geomstats(self):
        total = BalancedManifold(3, 3)
        total.equip_with_quotient()
        assert isinstance(total.fiber_bundle, DLNBundle)
        W = total.random_point()
        assert_array_equal(total.fiber_bundle.riemannian_submersion(W), total.end_to_end(W))


def test_batches_of_the_bundle_equal_loops():
    total = BalancedManifold(2, 3)
    bundle = total.fiber_bundle
    W, R, V, U = (
        total.random_point(4).reshape(2, 2, *total.shape),
        total.random_point(2),
        np.random.normal(size=(2, 2, *total.shape)),
        np.random.normal(size=total.shape),
    )
    Z, h = np.random.normal(size=(2, 2, 2)), group_elem(total, (2,))
    calls = [
        (bundle.riemannian_submersion, [W]),
        (bundle.lift, [total.end_to_end(W)]),
        (bundle.tangent_riemannian_submersion, [U, W]),
        (bundle.horizontal_projection, [V, R]),
        (bundle.vertical_projection, [V, R[0]]),
        (total.normal_projection, [U, W]),
        (total.horizontal_lift, [Z, W]),
        (bundle.align, [W, R]),
        (bundle.align, [R, W[0, 0]]),
        (bundle.integrability_tensor, [V, U, R]),
        (total.act, [h, W]),
        (total.entropy, [W]),
        (total.entropy_gradient, [W]),
        (total.projection, [V]),
        (total.to_tangent, [U, W]),
        (bundle.is_horizontal, [V, W]),
        (total.belongs, [W]),
        (total.is_tangent, [U, W]),
    ]
    for function, arguments in calls:
        trailing = [2 if a is Z or function is bundle.lift else 3 for a in arguments]
        batch = np.broadcast_shapes(
            *(a.shape[: a.ndim - k] for a, k in zip(arguments, trailing, strict=True))
        )
        whole = [
            np.broadcast_to(a, (*batch, *a.shape[a.ndim - k :]))
            for a, k in zip(arguments, trailing, strict=True)
        ]
        results = [function(*(a[index] for a in whole)) for index in np.ndindex(*batch)]
        expected = np.reshape(results, (*batch, *np.shape(results[0])))
        actual = function(*arguments)
        assert np.shape(actual) == expected.shape
        assert_allclose(np.float64(actual), np.float64(expected), rtol=0, atol=1e-11)


def test_projection_balances_within_the_fibre():
    total = BalancedManifold(3, 4)
    Y = np.random.normal(size=(3, *total.shape))
    W = total.projection(Y)
    assert all(relative_imbalance(w) <= 1e-12 for w in W)
    X = total.end_to_end(Y)
    assert_allclose(total.end_to_end(W), X, rtol=0, atol=1e-12 * np.abs(X).max())
    assert_array_equal(np.sign(np.linalg.det(W)), np.sign(np.linalg.det(Y)))
    assert_allclose(total.projection(W), W, rtol=0, atol=1e-11 * np.abs(W).max())
