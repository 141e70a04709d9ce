"""What the balanced manifold does with input that is wrong, unusual or empty."""

import numpy as np
import pytest
from bad_input import (
    ARRANGEMENTS,
    NO_NUMBERS,
    Cases,
    Multiplying,
    disconnected_pairs_do_not_spoil_a_batch,
    from_table,
    places,
    repeatable,
    rubbish,
    several,
)
from balanced_reference import imbalance, size
from numpy.testing import assert_allclose, assert_array_equal

from dln_manifolds import (
    BalancedManifold,
    BalancedMetric,
    ConvergenceError,
    DisconnectedPointsError,
    DLNError,
    GeodesicWarning,
    IncompleteGeodesicError,
    InvalidPointError,
)
from dln_manifolds.autodiff import kinds

SPACE = BalancedManifold(2, 3)
METRIC = SPACE.metric
BUNDLE = SPACE.fiber_bundle
SHAPE = (3, 2, 2)

# Functions of balanced layers (p), tangent vectors at the last of them (v), any layers (others).
# Lengths do not depend on the point: it may be left out, and need not be balanced.
LENGTHS = ("inner_product", "squared_norm", "norm", "normalize", "normal_basis")
# End-to-end matrices and group elements have tests of their own.
OTHER = {name for name, found in kinds.FIBRE.items() if not set(found.split(":")[0]) <= {*"pa"}}
BATCHED = {
    **from_table(
        METRIC,
        kinds.METRIC | kinds.COORDINATES | kinds.CURVATURE | kinds.VARIATIONS,
        without={"dist_pairwise", "closest_neighbor_index", "metric_matrix"},
    ),
    "inner_product without a point": (lambda a, b: METRIC.inner_product(a, b), "aa"),
    "norm without a point": (lambda a: METRIC.norm(a), "a"),
    "geodesic to a point": (lambda a, b: METRIC.geodesic(b, end_point=a)([0.0, 0.5]), "pp"),
    "geodesic with a velocity": (
        lambda v, p: METRIC.geodesic(p, initial_tangent_vec=v)([0.0, 0.5]),
        "vp",
    ),
    "parallel_transport along": (lambda v, u, p: METRIC.parallel_transport(v, p, u), "vvp"),
    **from_table(SPACE, kinds.SPACE | kinds.FIBRE, without=OTHER),
    "projection of a vector": (lambda a, p: SPACE.projection(p, a), "ap"),
    **from_table(BUNDLE, kinds.BUNDLE, prefix="bundle.", without={"lift"}),
}
# One point at a time.
SINGLE = {
    **from_table(SPACE, kinds.POINT_FIRST, prefix="space.", without={"inner_product", "norm"}),
    "jacobi_basis": (SPACE.jacobi_basis, "p"),
}
FUNCTIONS = BATCHED | SINGLE
# pymanopt's transport starts from a point that does not matter
UNCHECKED = {("space.transport", 0)} | {(name, len(BATCHED[name][1]) - 1) for name in LENGTHS}
# These may be left out, and others are asked for then.
OPTIONAL = {("geodesic to a point", 0), ("space.pair_mean", 1)}


def draw(kinds, batch=()):
    """Return points near each other, and short vectors that are tangent at the last of them."""
    count = max(int(np.prod(batch)), 1)
    centre = SPACE.factor(np.array([[1.1, 0.2], [-0.1, 0.9]]))
    points = []
    for _ in kinds:
        noise = SPACE.to_tangent(0.1 * np.random.normal(size=(count, *SHAPE)), centre)
        points.append(METRIC.exp(noise, centre)[: int(np.prod(batch))].reshape(*batch, *SHAPE))
    base = next((x for x, kind in zip(points[::-1], kinds[::-1], strict=True) if kind == "p"), None)
    arguments = []
    for kind, point in zip(kinds, points, strict=True):
        noise = 0.1 * np.random.normal(size=(*batch, *SHAPE))
        arguments.append(point if kind == "p" else np.eye(2) + noise)
        if kind in "vw":
            arguments[-1] = SPACE.to_tangent(noise, base)
    return arguments


def unbalanced():
    return np.eye(2) + 0.3 * np.random.normal(size=SHAPE)


CASES = Cases(FUNCTIONS, draw)
RUBBISH = rubbish(SHAPE) | {"too few layers": np.ones((2, 2, 2))}
POINTS, VECTORS, ANY = (places(letters, FUNCTIONS, UNCHECKED) for letters in ("p", "vw", "pvwac"))
REQUIRED = [place for place in POINTS if place not in OPTIONAL]


@pytest.mark.parametrize(("name", "k"), POINTS)
def test_unbalanced_layers(name, k):
    W = unbalanced()
    grams = [size(w @ w.T) for w in W]
    measured = max(size(c) for c in imbalance(W)) / max(grams)
    message = CASES.refuses(name, k, lambda _: W, "not balanced")
    assert f"{measured:.3g}" in message
    assert "space.balance(" in message


def test_the_repair_that_the_message_names_works():
    W = SPACE.projection(unbalanced())
    assert METRIC.exp(np.zeros(SHAPE), W).shape == SHAPE


@pytest.mark.parametrize(("name", "k"), places("p", BATCHED, UNCHECKED))
def test_unbalanced_member_of_a_batch_is_named(name, k):
    def change(argument):
        argument[2] = unbalanced()
        return argument

    CASES.refuses(name, k, change, r"not balanced \(batch member \[2\]\)", (4,))


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("roots", [[1.0, 0.0], [1.0, 1e-17], [0.0, 0.0]], ids=str)
def test_singular_layers(roots, depth):
    space = BalancedManifold(2, depth)
    W = np.broadcast_to(np.diag(roots), (depth, 2, 2))
    V = np.zeros(W.shape)
    assert not space.belongs(W)
    for call in (
        lambda: space.metric.exp(V, W),
        lambda: space.metric.log(W, W),
        lambda: space.horizontal_projection(V, W),
        lambda: space.jacobi_basis(W),
        lambda: space.retraction(W, V),
        lambda: space.entropy(W),
        lambda: space.projection(W),
        lambda: space.factor(W[0]),
    ):
        with pytest.raises(InvalidPointError, match="singular"):
            call()


def test_singular_member_of_a_batch_is_named():
    points = SPACE.random_point(3)
    points[1] = np.diag([1.0, 0.0])
    with pytest.raises(InvalidPointError, match=r"singular layers \(batch member \[1\]\)"):
        METRIC.exp(np.zeros(SHAPE), points)


@pytest.mark.parametrize("name", ["exp", "geodesic with a velocity", "space.exp"])
def test_vectors_that_are_not_tangent(name):
    function, order = FUNCTIONS[name]
    V, W = draw("vp")

    def call(V):
        return function(*({"v": V, "p": W}[kind] for kind in order))

    normal = SPACE.normal_projection(np.random.normal(size=SHAPE), W)
    mixed = V / size(V) + normal / size(normal)
    with pytest.raises(InvalidPointError, match="not tangent") as caught:
        call(mixed)
    # half of the square of its length
    assert f"{np.sqrt(0.5):.3g}" in str(caught.value)
    assert "space.to_tangent(" in str(caught.value)
    call(SPACE.to_tangent(0.1 * mixed, W))


@pytest.mark.parametrize("k", [0, 1])
def test_vectors_that_are_not_tangent_are_not_transported(k):
    function, kinds = BATCHED["parallel_transport along"]
    arguments = draw(kinds)
    arguments[k] = np.random.normal(size=SHAPE)
    with pytest.raises(InvalidPointError, match="not tangent"):
        function(*arguments)


def test_vector_of_a_batch_that_is_not_tangent_is_named():
    V, W = draw("vp", (4,))
    V[3] = np.random.normal(size=SHAPE)
    with pytest.raises(InvalidPointError, match=r"not tangent \(batch member \[3\]\)"):
        METRIC.exp(V, W)


def test_round_off_of_a_vector_is_forgiven():
    V, W = draw("vp")
    noisy = V + 1e-11 * np.random.normal(size=SHAPE)
    assert_allclose(METRIC.exp(noisy, W), METRIC.exp(V, W), rtol=0, atol=1e-10)


@pytest.mark.parametrize("level", [1e-9, 1e-10, 1e-12])
def test_round_off_of_a_point_is_forgiven(level):
    W, target = draw("pp")
    noisy = W + level * np.random.normal(size=SHAPE)
    assert SPACE.belongs(noisy)
    bound = 100 * level
    assert_allclose(METRIC.log(target, noisy), METRIC.log(target, W), rtol=0, atol=bound)
    assert_allclose(METRIC.log(noisy, target), METRIC.log(W, target), rtol=0, atol=bound)


@pytest.mark.parametrize("layers", [2, 4], ids=["too few", "too many"])
@pytest.mark.parametrize(("name", "k"), ANY)
def test_wrong_number_of_layers(name, k, layers):
    other = np.broadcast_to(np.eye(2), (layers, 2, 2))
    CASES.refuses(name, k, lambda _: other, r"shape .* must be \(3, 2, 2\)")


@pytest.mark.parametrize("shape", [(), (3,), (2, 2), (3, 3, 3), (3, 2, 3)], ids=str)
@pytest.mark.parametrize(("name", "k"), ANY)
def test_wrong_shape(name, k, shape):
    CASES.refuses(name, k, lambda _: np.ones(shape), r"shape .* must be \(3, 2, 2\)")


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(("name", "k"), ANY)
def test_entry_that_is_not_finite(name, k, value):
    CASES.refuses_entry(name, k, value, (2, 0, 1))


@pytest.mark.parametrize(("name", "k"), places("pvawc", BATCHED, UNCHECKED))
def test_member_of_a_batch_that_is_not_finite_is_named(name, k):
    CASES.refuses_entry(name, k, np.nan, (1, 2, 0, 0, 1), (2, 3))


@pytest.mark.parametrize(("name", "k"), ANY)
def test_complex_numbers_are_refused(name, k):
    CASES.refuses(name, k, lambda a: a + 0j, "complex")


@pytest.mark.parametrize(("name", "k"), REQUIRED)
def test_missing_input_is_called_so(name, k):
    CASES.refuses(name, k, lambda _: None, "is None")


@pytest.mark.parametrize(("name", "k"), places("p", BATCHED, UNCHECKED))
def test_masked_entries_are_not_taken_as_numbers(name, k):
    CASES.refuses(name, k, lambda a: np.ma.masked_greater(a, a.mean()), "masked entries")


@pytest.mark.parametrize(("name", "k"), places("vawc", BATCHED))
def test_masked_entries_of_vectors_are_not_taken_as_numbers(name, k):
    CASES.refuses(name, k, lambda a: np.ma.masked_greater(a, a.mean()), "masked entries")


@pytest.mark.parametrize("name", BATCHED)
def test_subclasses_of_arrays_are_taken_as_arrays(name):
    CASES.takes_subclasses(name, Multiplying)


@pytest.mark.parametrize("name", BATCHED)
def test_single_precision_of_any_byte_order(name):
    CASES.keeps_single_precision_of_any_byte_order(name)


@pytest.mark.parametrize("what", NO_NUMBERS)
@pytest.mark.parametrize(("name", "k"), POINTS + VECTORS)
def test_input_that_is_no_array_of_numbers(name, k, what):
    CASES.refuses(name, k, lambda _: RUBBISH[what])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_integers_are_taken_as_floats(name):
    turn = np.array([[0, -1], [1, 0]])
    values = {
        "p": np.stack([100 * turn, 100 * np.eye(2, dtype=int), 100 * turn]),
        **dict.fromkeys("vw", np.stack([3 * turn, 3 * np.eye(2, dtype=int), 3 * turn])),
        **dict.fromkeys("ac", np.arange(12).reshape(SHAPE) + 1 + 9 * np.eye(2, dtype=int)),
    }
    CASES.takes_integers_as_floats(name, values)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nested_lists_are_taken_as_arrays(name):
    CASES.takes_nested_lists(name)


@pytest.mark.parametrize("name", BATCHED)
def test_single_precision_is_computed_in_double_and_returned_in_single(name):
    function, kinds = BATCHED[name]
    arguments = draw(kinds)
    result = repeatable(function, [a.astype(np.float32) for a in arguments])
    expected = repeatable(function, arguments)
    assert np.asarray(result).dtype == np.float32
    assert_allclose(result, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_single_precision_belongs():
    V, W = draw("vp", (5,))
    W32, V32 = W.astype(np.float32), V.astype(np.float32)
    assert SPACE.belongs(W32).all()
    assert SPACE.is_tangent(V32, W32).all()
    # what is exact for other layers is tangent to the rounding of these
    assert SPACE.is_tangent(V, W32).all()
    assert SPACE.is_tangent(V32, W).all()
    METRIC.exp(V, W32)
    METRIC.exp(V32, W)
    # but not anything
    assert not SPACE.belongs(unbalanced().astype(np.float32))
    assert not SPACE.is_tangent(np.random.normal(size=SHAPE).astype(np.float32), W32).any()


SHAPES = {
    **{k: () for k, found in (kinds.METRIC | kinds.CURVATURE).items() if found.endswith(":s")},
    "conjugate_time": (),
    "inner_product without a point": (),
    "norm without a point": (),
    "cometric_matrix": (12, 12),
    "ricci_tensor": (12, 12),
    "entropy": (),
    "volume_density": (),
    "geodesic to a point": (2, *SHAPE),
    "geodesic with a velocity": (2, *SHAPE),
    "push_forward": (2, 2),
    "end_to_end": (2, 2),
    "bundle.riemannian_submersion": (2, 2),
    "bundle.tangent_riemannian_submersion": (2, 2),
}


@pytest.mark.parametrize("name", BATCHED)
def test_empty_batch(name):
    CASES.takes_an_empty_batch(name, SHAPES.get(name, SHAPE))


def test_empty_batches_elsewhere():
    assert SPACE.random_point(0).shape == (0, *SHAPE)
    assert SPACE.belongs(np.empty((0, *SHAPE))).shape == (0,)
    assert SPACE.factor(np.empty((0, 2, 2))).shape == (0, *SHAPE)
    assert SPACE.act(np.empty((0, 2, 2, 2)), SPACE.random_point()).shape == (0, *SHAPE)
    solution = METRIC.solve_log(*draw("pp", (0,)))
    assert solution.length.shape == (0,)
    assert solution([0.0, 1.0]).shape == (0, 2, *SHAPE)


@pytest.mark.parametrize("name", several(BATCHED))
def test_batches_that_do_not_broadcast(name):
    CASES.refuses_batches_that_do_not_broadcast(name)


@pytest.mark.parametrize("arrange", ARRANGEMENTS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_arrays_that_are_not_contiguous(name, arrange):
    CASES.takes_any_memory_layout(name, arrange, atol=1e-9)


@pytest.mark.parametrize("batch", [(), (2,)], ids=["single", "batch"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_read_only_arrays_are_taken_and_nothing_is_mutated(name, batch):
    CASES.mutates_nothing(name, batch if name in BATCHED else ())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_results_share_no_memory_with_the_input(name):
    CASES.shares_no_memory(name)


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("name", ["log", "dist", "geodesic to a point", "space.pair_mean"])
def test_points_of_different_components(name, layer):
    W, target = draw("pp")
    target = target.copy()
    # a reflection of what goes into the first layer, between two layers, or of what comes out
    mirror = np.diag([1.0, -1.0])
    if layer == 0:
        target[0] = target[0] @ mirror
    else:
        target[layer] = mirror @ target[layer]
    if layer == 1:
        target[2] = target[2] @ mirror
    assert SPACE.belongs(target)
    with pytest.raises(DisconnectedPointsError, match=f"Layer {layer} has det") as caught:
        FUNCTIONS[name][0](target, W)
    assert isinstance(caught.value, DLNError)
    assert isinstance(caught.value, ValueError)


def test_points_of_different_components_with_the_same_end_to_end_matrix():
    W = SPACE.random_point()
    mirrors = np.stack([np.diag([1.0, -1.0]), np.diag([1.0, -1.0])])
    other = SPACE.act(mirrors, W)
    assert_allclose(SPACE.end_to_end(other), SPACE.end_to_end(W), rtol=0, atol=1e-14)
    with pytest.raises(DisconnectedPointsError, match="Layer 0"):
        METRIC.dist(W, other)


def test_member_of_a_batch_in_another_component_is_named():
    W = SPACE.random_point(3)
    target = W.copy()
    target[1, 2, 0] *= -1
    with pytest.raises(DisconnectedPointsError, match=r"Layer 2 .*\(batch member \[1\]\)"):
        METRIC.log(target, W)


@pytest.mark.parametrize("value", RUBBISH.values(), ids=RUBBISH)
def test_belongs_and_is_tangent_never_raise(value):
    W = SPACE.random_point()
    assert not np.any(SPACE.belongs(value))
    assert not np.any(SPACE.is_tangent(value, W))
    assert not np.any(SPACE.is_tangent(SPACE.random_tangent_vec(W), value))


def test_belongs():
    good = SPACE.random_point(3)
    batch = np.stack([*good, unbalanced(), np.zeros(SHAPE), np.full(SHAPE, np.nan)])
    assert_array_equal(SPACE.belongs(batch), [True, True, True, False, False, False])
    assert SPACE.belongs(good[0]).dtype == bool
    assert np.shape(SPACE.belongs(good[0])) == ()
    off = good[0] + 1e-6 * np.random.normal(size=SHAPE)
    assert not SPACE.belongs(off)
    assert SPACE.belongs(off, atol=1e-4)


def test_is_tangent():
    W = SPACE.random_point(3)
    V = SPACE.random_tangent_vec(W)
    assert_array_equal(SPACE.is_tangent(V, W), [True] * 3)
    assert not SPACE.is_tangent(V, np.roll(W, 1, axis=0)).any()
    assert_array_equal(SPACE.is_tangent(np.zeros(SHAPE), W), [True] * 3)
    assert not SPACE.is_tangent(V[0])
    assert not np.any(SPACE.is_tangent(V, W[:2]))
    off = V[0] + 1e-6 * np.random.normal(size=SHAPE)
    assert not SPACE.is_tangent(off, W[0])
    assert SPACE.is_tangent(off, W[0], atol=1e-4)


@pytest.mark.parametrize("scale", [1e-150, 1e-90, 1e-40, 1e40, 1e90, 1e150])
def test_belongs_and_is_tangent_are_free_of_scale(scale):
    W = SPACE.random_point()
    V = SPACE.random_tangent_vec(W)
    assert SPACE.belongs(scale * W)
    assert not SPACE.belongs(scale * unbalanced())
    assert SPACE.is_tangent(V, scale * W)
    assert SPACE.is_tangent(scale * V, W)
    assert not SPACE.is_tangent(scale * np.random.normal(size=SHAPE), W)
    assert not SPACE.is_tangent(np.random.normal(size=SHAPE), scale * W)


@pytest.mark.parametrize("scale", [1e-60, 1e60])
def test_geodesics_at_extreme_scales(scale):
    W, target = draw("pp")
    V = METRIC.log(target, W)
    assert_allclose(METRIC.exp(scale * V, scale * W), scale * target, rtol=0, atol=1e-8 * scale)
    assert_allclose(METRIC.log(scale * target, scale * W), scale * V, rtol=0, atol=1e-8 * scale)


class TestFailures:
    W = np.broadcast_to(np.diag([1.0, 2.0]), (1, 2, 2)).copy()
    space = BalancedManifold(2, 1)

    def test_exp_that_meets_singular_layers(self):
        with pytest.raises(IncompleteGeodesicError, match="singular") as caught:
            self.space.metric.exp(-2 * self.W, self.W)
        assert abs(caught.value.time - 0.5) <= 1e-6

    def test_on_failure_nan_and_warn(self):
        V = np.stack([-2 * self.W, 0.5 * self.W])
        quiet = BalancedMetric(self.space, on_failure="nan").exp(V, self.W)
        assert_array_equal(np.isnan(quiet).all(axis=(1, 2, 3)), [True, False])
        loud = BalancedMetric(self.space, on_failure="warn")
        with pytest.warns(GeodesicWarning):
            ends = loud.exp(V, self.W)
        assert_allclose(ends[1], 1.5 * self.W, rtol=1e-13)

    def test_transport_that_meets_singular_layers(self):
        with pytest.raises(IncompleteGeodesicError):
            self.space.metric.parallel_transport(self.W, self.W, direction=-2 * self.W)

    def test_errors_have_their_bases(self):
        assert issubclass(IncompleteGeodesicError, ArithmeticError)
        assert issubclass(ConvergenceError, RuntimeError)
        assert issubclass(InvalidPointError, ValueError)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((0, 2), ValueError),
        ((2, 0), ValueError),
        ((-1, 2), ValueError),
        ((2, 2.5), TypeError),
        ((2.0, 2), TypeError),
        ((True, 2), TypeError),
        ((2, True), TypeError),
        (("2", 2), TypeError),
        ((2, None), TypeError),
        ((2, float("nan")), TypeError),
    ],
    ids=str,
)
def test_wrong_constructor_arguments(arguments, error):
    with pytest.raises(error, match=r"n must|depth must"):
        BalancedManifold(*arguments)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"tolerance": 0.0}, "tolerance"),
        ({"tolerance": 1.0}, "tolerance"),
        ({"tolerance": float("nan")}, "tolerance"),
        ({"on_failure": "ignore"}, "on_failure"),
    ],
    ids=str,
)
def test_wrong_arguments_of_the_metric(arguments, match):
    with pytest.raises(ValueError, match=match):
        BalancedMetric(SPACE, **arguments)


def test_arguments_that_exclude_each_other():
    V, W = draw("vp")
    for call in (
        lambda: METRIC.parallel_transport(V, W),
        lambda: METRIC.parallel_transport(V, W, direction=V, end_point=W),
        lambda: METRIC.geodesic(W),
        lambda: METRIC.geodesic(W, W, V),
    ):
        with pytest.raises(ValueError, match="either"):
            call()
    with pytest.raises(ValueError, match="n_samples must be at least 0"):
        SPACE.random_point(-1)
    with pytest.raises(ValueError, match="2 vectors"):
        SPACE.random_tangent_vec(SPACE.random_point(3), 2)
    with pytest.raises(InvalidPointError, match="single point"):
        SPACE.jacobi_basis(SPACE.random_point(2))


def test_group_elements_of_wrong_shape():
    with pytest.raises(InvalidPointError, match=r"must be \(2, 2, 2\)"):
        SPACE.act(np.stack([np.eye(2)] * 3), SPACE.random_point())


def test_group_elements_of_single_precision():
    turns = np.linalg.qr(np.random.normal(size=(2, 2, 2)))[0].astype(np.float32)
    W = SPACE.random_point()
    assert SPACE.act(turns, W.astype(np.float32)).dtype == np.float32
    with pytest.raises(InvalidPointError, match=r"as float32; U @ Vt of U, s, Vt") as caught:
        SPACE.act(turns.astype(float), W)
    assert "not orthogonal" in str(caught.value)
    # what the message says
    U, _, Vt = np.linalg.svd(turns.astype(float))
    assert SPACE.act(U @ Vt, W).dtype == np.float64


@pytest.mark.parametrize("on_failure", ["nan", "warn"])
def test_pairs_in_different_components_do_not_spoil_a_batch(on_failure):
    space = BalancedManifold(3, 2)
    np.random.seed(5)
    starts = space.random_point(3)
    ends = space.metric.exp(0.3 * space.random_tangent_vec(starts), starts)
    disconnected_pairs_do_not_spoil_a_batch(space, starts, ends, on_failure)
