"""What the space and its metric do with input that is wrong, unusual or empty."""

import numpy as np
import pytest
import scipy.sparse
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
from numpy.testing import assert_allclose, assert_array_equal

from dln_manifolds import (
    BalancedManifold,
    ConvergenceError,
    DisconnectedPointsError,
    DLNError,
    DLNObservableManifold,
    GeodesicWarning,
    IncompleteGeodesicError,
    InvalidPointError,
)
from dln_manifolds.autodiff import kinds

SPACE = DLNObservableManifold(3, 4)
METRIC = SPACE.metric

# Every function of the metric and the space that takes points (p) or vectors (others), batched.
MANY_POINTS = {"dist_pairwise", "closest_neighbor_index"}
BATCHED = {
    **from_table(METRIC, kinds.METRIC | kinds.COORDINATES | kinds.DENSITIES, without=MANY_POINTS),
    **from_table(METRIC, kinds.CURVATURE | kinds.VARIATIONS),
    "geodesic to a point": (lambda a, b: METRIC.geodesic(a, end_point=b)([0.0, 0.5]), "pp"),
    "geodesic with a velocity": (
        lambda v, a: METRIC.geodesic(a, initial_tangent_vec=v)([0.0, 0.5]),
        "vp",
    ),
    "parallel_transport along": (lambda v, a, d: METRIC.parallel_transport(v, a, d), "vpv"),
    "parallel_transport to": (
        lambda v, a, b: METRIC.parallel_transport(v, a, end_point=b),
        "vpp",
    ),
    **from_table(SPACE, kinds.SPACE, prefix="space."),
    "space.projection of a vector": (lambda v, a: SPACE.projection(a, v), "vp"),
}
# One point at a time.
SINGLE = from_table(SPACE, kinds.POINT_FIRST, prefix="space.", without={"weingarten"})
FUNCTIONS = BATCHED | SINGLE

# These take points as they are: all that is asked of them is a shape.
UNCHECKED_POINTS = {
    "space.projection of a vector",
    "space.to_tangent",
    "space.transport",
    "space.to_tangent_space",
}


# These may be left out, and others are asked for then.
OPTIONAL = {("geodesic to a point", 1), ("parallel_transport to", 2), ("space.pair_mean", 1)}


def draw(kinds, batch=()):
    """Return points near the identity and short vectors."""
    return [
        (np.eye(3) if kind == "p" else 0) + 0.15 * np.random.normal(size=(*batch, 3, 3))
        for kind in kinds
    ]


CASES = Cases(FUNCTIONS, draw)
RUBBISH = rubbish((3, 3))
POINTS = places("p", FUNCTIONS, UNCHECKED_POINTS)
VECTORS = places("vcaw", FUNCTIONS)
REQUIRED = [place for place in POINTS if place not in OPTIONAL]


@pytest.mark.parametrize(("name", "k"), POINTS)
def test_singular_point(name, k):
    CASES.refuses(name, k, np.ones_like, "singular")


@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize(("name", "k"), POINTS + VECTORS)
def test_entry_that_is_not_finite(name, k, value):
    CASES.refuses_entry(name, k, value, (0, 1))


@pytest.mark.parametrize("shape", [(), (3,), (2, 2), (3, 3, 2)], ids=str)
@pytest.mark.parametrize(("name", "k"), POINTS + VECTORS)
def test_wrong_shape(name, k, shape):
    CASES.refuses(name, k, lambda _: np.ones(shape), r"shape .* must be \(3, 3\)")


@pytest.mark.parametrize(("name", "k"), POINTS + VECTORS)
def test_complex_numbers_are_refused(name, k):
    CASES.refuses(name, k, lambda a: a + 0j, "complex")


@pytest.mark.parametrize(("name", "k"), REQUIRED)
def test_missing_input_is_called_so(name, k):
    CASES.refuses(name, k, lambda _: None, "is None")


@pytest.mark.parametrize(("name", "k"), places("p", BATCHED, UNCHECKED_POINTS))
def test_masked_entries_are_not_taken_as_numbers(name, k):
    CASES.refuses(name, k, lambda a: np.ma.masked_greater(a, a.mean()), "masked entries")


@pytest.mark.parametrize(("name", "k"), places("vcaw", BATCHED))
def test_masked_entries_of_vectors_are_not_taken_as_numbers(name, k):
    CASES.refuses(name, k, lambda a: np.ma.masked_greater(a, a.mean()), "masked entries")


@pytest.mark.parametrize(("name", "k"), places("pvcaw", BATCHED))
def test_sparse_matrices_are_told_how_to_become_dense(name, k):
    CASES.refuses(name, k, scipy.sparse.csr_array, r"sparse.*\.toarray\(\)")


@pytest.mark.parametrize("kind", [np.matrix, Multiplying])
@pytest.mark.parametrize("name", BATCHED)
def test_subclasses_of_arrays_are_taken_as_arrays(name, kind):
    CASES.takes_subclasses(name, kind)


@pytest.mark.parametrize("name", BATCHED)
def test_single_precision_of_any_byte_order(name):
    CASES.keeps_single_precision_of_any_byte_order(name)


def test_many_masked_sparse_or_special_points():
    points = SPACE.random_point(3, bound=0.1)
    table = METRIC.dist_pairwise(points)
    assert_array_equal(METRIC.dist_pairwise(points.view(Multiplying)), table)
    index = METRIC.closest_neighbor_index(points[1], points[[2, 1, 0]])
    assert METRIC.closest_neighbor_index(points[1].view(np.matrix), points[[2, 1, 0]]) == index == 1
    masked = np.ma.masked_greater(points, points.mean())
    view = SPACE.flattened()
    for call in (
        lambda: METRIC.dist_pairwise(masked),
        lambda: METRIC.dist_pairwise(list(masked)),
        lambda: METRIC.closest_neighbor_index(masked[0], points),
        lambda: METRIC.closest_neighbor_index(points[0], masked),
        lambda: view.metric.dist(masked.reshape(3, 9), view.flatten(points)),
    ):
        with pytest.raises(InvalidPointError, match="masked entries"):
            call()
    with pytest.raises(InvalidPointError, match=r"\.toarray\(\)"):
        METRIC.dist_pairwise([scipy.sparse.csr_array(point) for point in points])


def test_belongs_and_is_tangent_see_through_masks_and_subclasses():
    points = SPACE.random_point(2)
    masked = np.ma.array(points, mask=np.zeros(points.shape, dtype=bool))
    assert SPACE.belongs(masked).all()
    masked[1, 0, 0] = np.ma.masked
    assert_array_equal(SPACE.belongs(masked), [True, False])
    assert_array_equal(SPACE.is_tangent(masked), [True, False])
    assert SPACE.belongs(points[0].view(np.matrix))
    assert type(SPACE.belongs(points.view(Multiplying))) is np.ndarray


@pytest.mark.parametrize("name", RUBBISH)
def test_flattened_views_answer_false_to_rubbish(name):
    view = SPACE.flattened()
    assert not np.any(view.belongs(RUBBISH[name]))
    assert not np.any(view.is_tangent(RUBBISH[name]))
    assert not np.any(view.belongs(scipy.sparse.csr_array(np.eye(9))))


@pytest.mark.parametrize("what", NO_NUMBERS)
@pytest.mark.parametrize(("name", "k"), POINTS + VECTORS)
def test_input_that_is_no_array_of_numbers(name, k, what):
    CASES.refuses(name, k, lambda _: RUBBISH[what])


@pytest.mark.parametrize(("name", "k"), places("p", BATCHED, UNCHECKED_POINTS))
def test_singular_member_of_a_batch_is_named(name, k):
    def change(argument):
        argument[2] = 1
        return argument

    CASES.refuses(name, k, change, r"singular \(batch member \[2\]\)", (4,))


@pytest.mark.parametrize(
    ("name", "k"), places("p", BATCHED, UNCHECKED_POINTS) + places("vcaw", BATCHED)
)
def test_member_of_a_batch_that_is_not_finite_is_named(name, k):
    CASES.refuses_entry(name, k, np.nan, (1, 2, 0, 1), (2, 3))


def test_message_names_the_singular_values():
    with pytest.raises(InvalidPointError, match=r"from 3 to 1e-20"):
        METRIC.metric_matrix(np.diag([3.0, 2.0, 1e-20]))


@pytest.mark.parametrize("name", ["log", "dist", "squared_dist", "geodesic to a point"])
def test_points_of_different_components(name):
    function = BATCHED[name][0]
    with pytest.raises(DisconnectedPointsError, match="different components"):
        function(np.eye(3), np.diag([1.0, 1.0, -1.0]))


@pytest.mark.parametrize("name", ["space.log", "space.dist", "space.pair_mean"])
def test_points_of_different_components_on_the_space(name):
    function = SINGLE[name][0]
    with pytest.raises(DisconnectedPointsError, match="different components"):
        function(np.eye(3), np.diag([1.0, 1.0, -1.0]))


def test_solve_log_of_points_of_different_components():
    with pytest.raises(DisconnectedPointsError):
        METRIC.solve_log(np.eye(3), np.diag([1.0, 1.0, -1.0]))


def test_parallel_transport_to_another_component():
    with pytest.raises(DisconnectedPointsError):
        METRIC.parallel_transport(np.ones((3, 3)), np.eye(3), end_point=-np.eye(3))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_components_matter_at_every_depth(depth):
    with pytest.raises(DisconnectedPointsError):
        DLNObservableManifold(1, depth).metric.dist(np.array([[1.0]]), np.array([[-1.0]]))


def test_member_of_a_batch_in_another_component_is_named():
    ends = np.stack([np.eye(3), 2 * np.eye(3), np.diag([1.0, 1.0, -1.0])])
    with pytest.raises(DisconnectedPointsError, match=r"\(batch member \[2\]\)"):
        METRIC.log(ends, np.eye(3))


@pytest.mark.parametrize("name", several(BATCHED))
def test_batches_that_do_not_broadcast(name):
    CASES.refuses_batches_that_do_not_broadcast(name)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_integers_are_taken_as_floats(name):
    # a short way from the identity in lengths of the layers
    point = np.array([[100, 1, 2], [0, 110, 3], [1, 0, 90]])
    CASES.takes_integers_as_floats(
        name, {"p": point} | dict.fromkeys("vcaw", np.arange(9).reshape(3, 3))
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nested_lists_are_taken_as_arrays(name):
    CASES.takes_nested_lists(name)


@pytest.mark.parametrize("name", BATCHED)
def test_single_precision_is_computed_in_double_and_returned_in_single(name):
    function, kinds = BATCHED[name]
    arguments = [a.astype(np.float32) for a in draw(kinds)]
    result = repeatable(function, arguments)
    expected = repeatable(function, [a.astype(np.float64) for a in arguments])
    assert result.dtype == np.float32
    # a single rounding, or two where squares or roots are taken of the rounded result
    assert_allclose(result, expected, rtol=3e-7, atol=1e-7 * np.abs(expected).max())


@pytest.mark.parametrize("name", several(BATCHED, UNCHECKED_POINTS))
def test_single_beside_double_precision_gives_double(name):
    function, kinds = BATCHED[name]
    arguments = draw(kinds)
    arguments[0] = arguments[0].astype(np.float32)
    assert function(*arguments).dtype == np.float64


def test_points_that_are_singular_in_single_precision():
    point = np.diag([1.0, 1.0, 1e-8])
    assert SPACE.belongs(point)
    assert not SPACE.belongs(point.astype(np.float32))
    with pytest.raises(InvalidPointError, match="singular"):
        METRIC.metric_matrix(point.astype(np.float32))


# Shapes of results that are no matrices.
EMPTY = {
    "inner_product": (),
    "conjugate_time": (),
    "inner_coproduct": (),
    "squared_norm": (),
    "norm": (),
    "dist": (),
    "squared_dist": (),
    "geodesic to a point": (2, 3, 3),
    "geodesic with a velocity": (2, 3, 3),
    "metric_matrix": (9, 9),
    "cometric_matrix": (9, 9),
    "ricci_tensor": (9, 9),
    "sectional_curvature": (),
    "scalar_curvature": (),
    "log_volume_density": (),
    "volume_density": (),
    "injectivity_radius": (),
    "space.entropy": (),
    "space.volume_density": (),
}


@pytest.mark.parametrize("name", BATCHED)
def test_empty_batch(name):
    CASES.takes_an_empty_batch(name, EMPTY.get(name, (3, 3)))


@pytest.mark.parametrize("kind", ["solve_exp", "solve_log"])
def test_solution_of_an_empty_batch(kind):
    solution = getattr(METRIC, kind)(*draw("pp", (0,)))
    assert solution.length.shape == (0,)
    assert solution(0.5).shape == (0, 3, 3)
    assert solution([0.5, 1.0]).shape == (0, 2, 3, 3)


@pytest.mark.parametrize("name", ["belongs", "is_tangent"])
def test_empty_batch_of_tests(name):
    result = getattr(SPACE, name)(np.empty((0, 3, 3)))
    assert result.shape == (0,)
    assert result.dtype == bool


@pytest.mark.parametrize("arrange", ARRANGEMENTS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_arrays_that_are_not_contiguous(name, arrange):
    CASES.takes_any_memory_layout(name, arrange, atol=1e-12)


@pytest.mark.parametrize("batch", [(), (2,)], ids=["single", "batch"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_read_only_arrays_are_taken_and_nothing_is_mutated(name, batch):
    CASES.mutates_nothing(name, batch if name in BATCHED else ())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_results_share_no_memory_with_the_input(name):
    CASES.shares_no_memory(name)


def test_solutions_share_no_memory_with_the_input():
    X, v = np.eye(3), 0.1 * np.ones((3, 3))
    solution = METRIC.solve_exp(v, X)
    v[:] = 7
    assert_array_equal(solution.initial_velocity, 0.1 * np.ones((3, 3)))


@pytest.mark.parametrize("form", [scipy.sparse.csr_array, scipy.sparse.csr_matrix])
def test_sparse_matrices_do_not_belong(form):
    assert SPACE.belongs(form(np.eye(3))) == np.False_
    assert not np.any(SPACE.belongs([form(np.eye(3))] * 2))
    assert SPACE.is_tangent(form(np.eye(3)), np.eye(3)) == np.False_


@pytest.mark.parametrize("name", RUBBISH)
def test_belongs_answers_false_to_rubbish(name):
    assert not np.any(SPACE.belongs(RUBBISH[name]))


@pytest.mark.parametrize("name", RUBBISH)
def test_belongs_with_a_tolerance_answers_false_to_rubbish(name):
    assert not np.any(SPACE.belongs(RUBBISH[name], atol=1e-6))


@pytest.mark.parametrize("name", RUBBISH)
def test_is_tangent_answers_false_to_rubbish(name):
    assert not np.any(SPACE.is_tangent(RUBBISH[name]))


@pytest.mark.parametrize("name", RUBBISH)
def test_is_tangent_at_a_point_answers_false_to_rubbish(name):
    assert not np.any(SPACE.is_tangent(RUBBISH[name], np.eye(3)))


@pytest.mark.parametrize("name", [name for name in RUBBISH if name != "None"])
def test_is_tangent_does_not_raise_at_a_base_point_that_is_rubbish(name):
    assert SPACE.is_tangent(np.eye(3), RUBBISH[name]).dtype == bool


@pytest.mark.parametrize("base", ["wrong size", "not square", "vector", "string", "number"])
def test_is_tangent_answers_false_at_a_base_point_of_a_wrong_shape(base):
    assert not np.any(SPACE.is_tangent(np.eye(3), RUBBISH[base]))


def test_is_tangent_answers_false_to_batches_that_do_not_broadcast():
    assert not np.any(SPACE.is_tangent(np.ones((2, 3, 3)), np.ones((3, 3, 3))))


@pytest.mark.parametrize(
    "batch", [(), (2,), (2, 3)], ids=["single", "one batch axis", "two batch axes"]
)
def test_wrong_shape_gets_an_answer_for_every_member(batch):
    points = np.ones((*batch, 4, 4))
    assert_array_equal(SPACE.belongs(points), np.zeros(batch, dtype=bool))
    assert_array_equal(SPACE.is_tangent(points), np.zeros(batch, dtype=bool))


def test_belongs_tells_members_apart():
    points = np.stack([np.eye(3), np.ones((3, 3)), -np.eye(3), np.full((3, 3), np.nan)])
    assert_array_equal(SPACE.belongs(points), [True, False, True, False])


def test_is_tangent_tells_members_apart():
    vectors = np.stack([np.zeros((3, 3)), np.full((3, 3), np.inf)])
    assert_array_equal(SPACE.is_tangent(vectors, np.eye(3)), [True, False])


def test_is_tangent_takes_the_batch_of_the_base_points():
    assert_array_equal(SPACE.is_tangent(np.eye(3), np.stack([np.eye(3)] * 2)), [True, True])


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_belongs_does_not_depend_on_the_scale(scale):
    assert SPACE.belongs(scale * np.diag([1.0, 1e-3, 1e-12]))
    assert not SPACE.belongs(scale * np.diag([1.0, 1e-3, 1e-17]))


def test_belongs_with_a_tolerance_asks_for_larger_singular_values():
    point = np.diag([1.0, 1.0, 1e-3])
    assert SPACE.belongs(point, atol=1e-4)
    assert not SPACE.belongs(point, atol=1e-2)


@pytest.mark.parametrize("depth", [0, 0.5, 1 - 1e-12, -3, np.nan, -np.inf])
def test_depth_that_is_not_allowed(depth):
    with pytest.raises(ValueError, match="depth must be at least 1"):
        DLNObservableManifold(3, depth)


@pytest.mark.parametrize("depth", [None, "4", 4 + 0j, [4], np.array([4.0]), True])
def test_depth_of_a_wrong_type(depth):
    with pytest.raises(TypeError, match="depth must be a real number"):
        DLNObservableManifold(3, depth)


@pytest.mark.parametrize("n", [0, -1])
def test_width_that_is_not_allowed(n):
    with pytest.raises(ValueError, match="n must be at least 1"):
        DLNObservableManifold(n, 4)


@pytest.mark.parametrize("n", [None, "3", 3.0, np.nan, [3], True])
def test_width_of_a_wrong_type(n):
    with pytest.raises(TypeError, match="n must be an integer"):
        DLNObservableManifold(n, 4)


def equip(**options):
    """Return a metric made with the options."""
    space = DLNObservableManifold(3, 4, equip=False)
    space.equip_with_metric(**options)
    return space.metric


@pytest.mark.parametrize("tolerance", [0, -1e-8, 1e-15, 0.01, 1, np.inf, np.nan])
def test_tolerance_that_is_not_allowed(tolerance):
    with pytest.raises(ValueError, match="tolerance must lie between"):
        equip(tolerance=tolerance)


@pytest.mark.parametrize("tolerance", [None, "small", 1e-8 + 0j, [1e-8]])
def test_tolerance_of_a_wrong_type(tolerance):
    with pytest.raises((TypeError, ValueError), match="tolerance"):
        equip(tolerance=tolerance)


@pytest.mark.parametrize("tolerance", [1e-14, 1e-3, np.float32(1e-6)])
def test_tolerance_that_is_allowed(tolerance):
    assert equip(tolerance=tolerance).tolerance == float(tolerance)


@pytest.mark.parametrize("on_failure", [None, "", "ignore", "Raise", 0, ["raise"]])
def test_reaction_to_failures_that_is_not_known(on_failure):
    with pytest.raises(ValueError, match="on_failure must be one of"):
        equip(on_failure=on_failure)


@pytest.mark.parametrize("n_samples", [-1, -5])
def test_negative_number_of_samples(n_samples):
    with pytest.raises(ValueError, match="n_samples"):
        SPACE.random_point(n_samples)


@pytest.mark.parametrize("n", [1, 2, 5, 20])
@pytest.mark.parametrize("share", [0.5, 0.999])
def test_wide_random_points_are_points(n, share):
    for space, widest in (
        (DLNObservableManifold(n, 3), 700 if n == 1 else -np.log(8 * n * 2.0**-52) / 2),
        (BalancedManifold(n, 3), 700 if n == 1 else -3 * np.log(8 * n * 2.0**-52) / 2),
    ):
        assert space.belongs(space.random_point(20, bound=share * widest)).all()
        with pytest.raises(ValueError, match="bound must be at most"):
            space.random_point(2, bound=1.001 * widest)


@pytest.mark.parametrize("bound", [np.inf, np.nan, -1e3])
def test_bounds_that_give_no_points_are_refused(bound):
    with pytest.raises(ValueError, match="bound must be at most"):
        SPACE.random_point(bound=bound)


@pytest.mark.parametrize("name", ["random_tangent_vec", "random_unit_tangent_vec"])
def test_no_vectors_at_all(name):
    owner = METRIC if "unit" in name else SPACE
    assert getattr(owner, name)(np.eye(3), 0).shape == (0, 3, 3)


@pytest.mark.parametrize(
    "arguments", [{}, {"direction": np.eye(3), "end_point": np.eye(3)}], ids=["none", "both"]
)
def test_parallel_transport_needs_one_of_two_arguments(arguments):
    with pytest.raises(ValueError, match=r"direction.*end_point"):
        METRIC.parallel_transport(np.eye(3), np.eye(3), **arguments)


@pytest.mark.parametrize(
    ("error", "base"),
    [
        (InvalidPointError, ValueError),
        (DisconnectedPointsError, ValueError),
        (IncompleteGeodesicError, ArithmeticError),
        (ConvergenceError, RuntimeError),
    ],
)
def test_error_classes(error, base):
    assert issubclass(error, DLNError)
    assert issubclass(error, base)


def test_warning_class():
    assert issubclass(GeodesicWarning, UserWarning)


@pytest.mark.parametrize("on_failure", ["nan", "warn"])
def test_pairs_in_different_components_do_not_spoil_a_batch(on_failure):
    space = DLNObservableManifold(3, 4)
    np.random.seed(5)
    starts, ends = space.random_point(3), space.random_point(3)
    disconnected_pairs_do_not_spoil_a_batch(space, starts, ends, on_failure)
