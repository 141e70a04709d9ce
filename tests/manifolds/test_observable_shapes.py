"""End-to-end matrices of every shape, rank and depth: what is a point, and all but geodesics."""

import math

import numpy as np
import pytest
from bad_input import ARRANGEMENTS, Cases, from_table, places, repeatable, several
from numpy.testing import assert_allclose, assert_array_equal
from pymanopt.optimizers import (
    ConjugateGradient,
    NelderMead,
    ParticleSwarm,
    SteepestDescent,
    TrustRegions,
)

from dln_manifolds import (
    DLNObservableManifold,
    DLNQuotientMetric,
    InvalidPointError,
    costs,
    pymanopt_problem,
    storage,
)
from dln_manifolds.autodiff import kinds
from dln_manifolds.checks import check_connected

SPACES = [
    DLNObservableManifold(n=3, rank=1, depth=3),
    DLNObservableManifold(n=3, rank=2, depth=1.5),
    DLNObservableManifold(shape=(5, 4), rank=2, depth=3),
    DLNObservableManifold(shape=(4, 5), rank=3, depth=1),
    DLNObservableManifold(widths=(5, 4, 3, 3)),
    DLNObservableManifold(shape=(6, 3), rank=3, depth=300),
    DLNObservableManifold(n=1, depth=1),
    DLNObservableManifold(shape=(1, 4), depth=2),
    DLNObservableManifold(n=3, depth=math.inf),
]
each = pytest.mark.parametrize("space", SPACES, ids=repr)
RNG = np.random.default_rng(0)


# --- the call


@pytest.mark.parametrize(
    ("arguments", "text", "shape", "rank", "depth", "widths"),
    [
        ({"n": 3, "depth": 4}, "n=3, depth=4", (3, 3), 3, 4, (3,) * 5),
        ({"n": 3, "depth": 2.5}, "n=3, depth=2.5", (3, 3), 3, 2.5, None),
        ({"n": 3, "depth": math.inf}, "n=3, depth=math.inf", (3, 3), 3, math.inf, None),
        (
            {"shape": (5, 4), "rank": 2, "depth": 3},
            "shape=(5, 4), rank=2, depth=3",
            (5, 4),
            2,
            3,
            (4, 2, 2, 5),
        ),
        ({"shape": [5, 4], "depth": 1}, "shape=(5, 4), depth=1", (5, 4), 4, 1, (4, 5)),
        ({"widths": (4, 3, 5)}, "widths=(4, 3, 5)", (5, 4), 3, 2, (4, 3, 5)),
        (
            {"widths": (4, 3, 5), "rank": 1, "depth": 2},
            "widths=(4, 3, 5), rank=1",
            (5, 4),
            1,
            2,
            (4, 3, 5),
        ),
        ({"widths": (3, 3, 3)}, "n=3, depth=2", (3, 3), 3, 2, (3, 3, 3)),
        ({"widths": (3, 3), "rank": 3}, "n=3, depth=1", (3, 3), 3, 1, (3, 3)),
        ({"shape": (3, 3), "depth": 2}, "n=3, depth=2", (3, 3), 3, 2, (3, 3, 3)),
        ({"n": 3, "rank": 2, "depth": 2.0}, "n=3, rank=2, depth=2", (3, 3), 2, 2, (3, 2, 3)),
        ({"widths": (3, 7, 3)}, "widths=(3, 7, 3)", (3, 3), 3, 2, (3, 7, 3)),
        ({"n": 1, "depth": 1, "rank": 1}, "n=1, depth=1", (1, 1), 1, 1, (1, 1)),
    ],
    ids=str,
)
def test_the_call(arguments, text, shape, rank, depth, widths):
    space = DLNObservableManifold(**arguments)
    assert repr(space) == f"DLNObservableManifold({text})"
    assert (space.shape, space.rank, space.depth, space.widths) == (shape, rank, depth, widths)
    assert space.dim == (sum(shape) - rank) * rank
    names = {"DLNObservableManifold": DLNObservableManifold, "math": math}
    for copy in (eval(repr(space), names), space.new()):
        assert copy.stratum == space.stratum
    assert text.split(",")[0] in str(space)


def test_the_width_belongs_to_square_matrices_of_full_rank():
    assert DLNObservableManifold(3, 4).n == 3
    for space in SPACES[:6]:
        with pytest.raises(AttributeError, match=r"square matrices of full rank.*shape, rank"):
            _ = space.n


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, TypeError, "n must be an integer, or shape or widths"),
        ({"n": 3, "shape": (3, 3), "depth": 2}, TypeError, "one of n, shape and widths, not n and"),
        ({"shape": (3, 3), "widths": (3, 3)}, TypeError, "not shape and widths"),
        ({"n": 3}, TypeError, "depth must be a real number, not None"),
        ({"n": (5, 4), "depth": 2}, TypeError, r"not \(5, 4\): give .* shape=\(5, 4\)"),
        ({"shape": (5, 4), "depth": math.nan}, ValueError, "depth must be at least 1.*nan"),
        ({"shape": (5, 4), "depth": "3"}, TypeError, "depth must be a real number, not '3'"),
        ({"shape": (5, 4), "depth": 0.9}, ValueError, "depth must be at least 1.*0.9"),
        ({"shape": (5, 4, 3), "depth": 2}, ValueError, r"two integers \(m, n\), not \(5, 4, 3\)"),
        ({"shape": (5,), "depth": 2}, ValueError, "shape needs at least 2"),
        ({"shape": 5, "depth": 2}, TypeError, "shape must be integers in a tuple, not 5"),
        ({"shape": "54", "depth": 2}, TypeError, "shape must be integers in a tuple"),
        ({"shape": (5, 4.0), "depth": 2}, TypeError, r"shape\[1\] must be an integer, not 4.0"),
        ({"shape": (5, 0), "depth": 2}, ValueError, r"shape\[1\] must be at least 1, not 0"),
        ({"shape": (5, 4), "rank": 0, "depth": 2}, ValueError, "rank must be at least 1, not 0"),
        ({"shape": (5, 4), "rank": -1, "depth": 2}, ValueError, "rank must be at least 1"),
        ({"shape": (5, 4), "rank": 5, "depth": 2}, ValueError, "rank=5 is above.* up to 4"),
        ({"shape": (5, 4), "rank": 2.0, "depth": 2}, TypeError, "rank must be an integer"),
        ({"shape": (5, 4), "rank": True, "depth": 2}, TypeError, "rank must be an integer"),
        ({"widths": (4, 3, 5), "rank": 4}, ValueError, "rank=4 is above the least width.* up to 3"),
        ({"widths": (4, 3, 5), "depth": 3}, ValueError, "depth=3 contradicts .*, of depth 2"),
        ({"widths": (4, 3, 5), "depth": math.inf}, ValueError, "depth=inf contradicts widths"),
        ({"widths": (4,)}, ValueError, "widths needs at least 2 integers"),
        ({"widths": (4, 0, 5)}, ValueError, r"widths\[1\] must be at least 1"),
        ({"widths": 4}, TypeError, "widths must be integers in a tuple, not 4"),
        ({"n": 3, "rank": 2, "depth": math.inf}, ValueError, "depth=inf needs.*diverge"),
        ({"shape": (5, 4), "depth": math.inf}, ValueError, "depth=inf needs.*finite depth"),
    ],
    ids=str,
)
def test_what_cannot_be_made_is_named(arguments, error, message):
    with pytest.raises(error, match=message):
        DLNObservableManifold(**arguments)


@pytest.mark.parametrize("hidden", [{}, {"widths": (4, 3, 6, 5)}], ids=str)
def test_layers_agree_as_a_second_witness(hidden):
    given = hidden or {"shape": (5, 4), "depth": 3}
    plain, quotient = (DLNObservableManifold(**given, rank=2, equip=False) for _ in range(2))
    plain.equip_with_metric()
    quotient.equip_with_metric(DLNQuotientMetric)
    point = plain.random_point()
    one, two = plain.random_tangent_vec(point, 2)
    products = (space.metric.inner_product(one, two, point) for space in (plain, quotient))
    assert_allclose(*products, rtol=1e-11)
    ends = (space.metric.exp(0.1 * one, point) for space in (plain, quotient))
    assert_allclose(*ends, rtol=0, atol=1e-10)


def test_layers_are_of_whole_depth():
    with pytest.raises(ValueError, match="depth must be an integer to have layers, not inf"):
        DLNObservableManifold(3, math.inf, equip=False).equip_with_metric(DLNQuotientMetric)


# --- points


@each
def test_points_and_vectors(space):
    points = space.random_point(4)
    assert points.shape == (4, *space.shape)
    assert space.random_point().shape == space.shape
    assert space.belongs(points).all()
    assert space.belongs(points.astype(np.float32)).all()
    assert space.belongs(1e100 * points).all()
    assert not space.belongs(np.zeros(space.shape))
    assert not np.any(space.belongs(np.zeros((*space.shape, 2))))
    assert not space.belongs(np.ones((space.shape[0] + 1, space.shape[1])))
    projected = space.projection(RNG.normal(size=(4, *space.shape)))
    assert space.belongs(projected).all()
    assert_array_equal(space.projection(projected), projected)
    single = space.projection(np.ones(space.shape, dtype=np.float32))
    assert single.dtype == np.float32
    assert space.belongs(single)
    vectors = space.random_tangent_vec(points)
    assert space.is_tangent(vectors, points).all()
    assert space.is_tangent(vectors.astype(np.float32), points).all()
    ambient = RNG.normal(size=(4, *space.shape))
    open_set = space.dim == math.prod(space.shape)
    assert (space.is_tangent(ambient, points) == open_set).all()
    assert_allclose(space.to_tangent(vectors, points), vectors, atol=1e-12)
    assert space.is_tangent(space.to_tangent(ambient, points), points).all()
    assert space.typical_dist == math.sqrt(space.dim)


@each
def test_points_of_another_rank(space):
    m, n = space.shape
    for rank in {1, 2, 3} & set(range(1, min(m, n) + 1)) - {space.rank}:
        other = DLNObservableManifold(shape=(m, n), rank=rank, depth=2).random_point()
        assert not space.belongs(other)
        vector = np.ones((m, n))
        with pytest.raises(InvalidPointError) as caught:
            space.metric.norm(vector, np.stack([space.random_point(), other]))
        message = str(caught.value)
        assert "batch member [1]" in message
        assert f"rank={rank} makes" in message
        assert "space.projection(point)" in message
        decisive = np.linalg.svd(other, compute_uv=False)[space.rank - (rank < space.rank)]
        assert f"{decisive:.3g}" in message
        assert f"{4 * max(m, n) * 2.0**-52 * np.linalg.norm(other, 2):.3g}" in message
        if rank > space.rank:
            assert f"has rank {rank}, more than {space.rank}" in message
        assert space.belongs(space.projection(other))


def test_a_point_of_single_precision_becomes_exact():
    space = DLNObservableManifold(shape=(5, 4), rank=2, depth=3)
    point = space.random_point().astype(np.float32)
    values = np.linalg.svd(point.astype(float), compute_uv=False)
    assert values[2] > 1e-10
    exact = space.projection(point.astype(float))
    vector = space.to_tangent(RNG.normal(size=(5, 4)), exact)
    assert not space.belongs(point.astype(float))
    assert_allclose(space.metric.norm(vector, point), space.metric.norm(vector, exact), rtol=1e-12)


def test_components_are_those_of_square_matrices_of_full_rank():
    for space in SPACES:
        first, last = space.random_point(), space.random_point()
        last[0] *= -1
        frames = space.stratum.frame(first), space.stratum.frame(last)
        apart = space.dim == space.shape[0] ** 2 == space.shape[1] ** 2
        assert check_connected(*frames, tolerate=True) == apart


@each
def test_entries_of_a_point_decide_the_entropy_and_the_density(space):
    """Both depend on singular values alone."""
    point = space.random_point()
    left, right = (np.linalg.qr(RNG.normal(size=(k, k)))[0] for k in space.shape)
    for method in (space.entropy, space.metric.log_volume_density):
        assert_allclose(method(left @ point @ right), method(point), rtol=1e-12, atol=1e-12)
    if space.depth != 300:  # it overflows
        assert_allclose(space.volume_density(point), np.exp(space.entropy(point)))


def test_hidden_widths_enter_the_entropy_alone():
    wide, narrow = (DLNObservableManifold(widths=(4, k, 5), rank=2) for k in (6, 2))
    point, vector = narrow.random_point(), RNG.normal(size=(5, 4))
    values = np.linalg.svd(point, compute_uv=False)[:2]
    # vol St(6, 2) / vol St(2, 2) = (vol S^5 vol S^4) / (vol S^1 vol S^0), and D = 4: columns q that
    # leave the span of the narrow layer by dq move both layers by l dq.
    spheres = math.pi**3 * (8 * math.pi**2 / 3) / (2 * math.pi * 2)
    expected = math.log(spheres) + 4 * np.sum(np.log(math.sqrt(2) * np.sqrt(values)))
    assert_allclose(wide.entropy(point) - narrow.entropy(point), expected, rtol=1e-12)
    assert_array_equal(wide.metric.norm(vector, point), narrow.metric.norm(vector, point))


# --- the metric


@each
def test_matrices_of_metric_and_cometric(space):
    points, metric = space.random_point(3), space.metric
    size = math.prod(space.shape)
    a, b = RNG.normal(size=(2, 3, *space.shape))
    matrix, inverse = metric.metric_matrix(points), metric.cometric_matrix(points)
    assert matrix.shape == (3, size, size)
    flat = [x.reshape(3, size, 1) for x in (a, b)]
    for found, product in ((matrix, metric.inner_product), (inverse, metric.inner_coproduct)):
        expected = flat[0].swapaxes(-1, -2) @ found @ flat[1]
        assert_allclose(product(a, b, points), expected[:, 0, 0], rtol=1e-9, atol=1e-9)
    projection = space.to_tangent(np.eye(size).reshape(size, *space.shape), points[:, None])
    assert_allclose(matrix @ inverse, projection.reshape(3, size, size), atol=1e-9)
    spectrum = np.linalg.eigvalsh(inverse)
    assert_allclose(spectrum[:, : size - space.dim], 0, atol=1e-10 * spectrum.max())
    assert (spectrum[:, size - space.dim :] > 0).all()


@each
def test_orthonormal_coordinates(space):
    points, metric = space.random_point(3), space.metric
    vectors = space.random_tangent_vec(points)
    coordinates = metric.orthonormal_coordinates(vectors, points)
    assert coordinates.shape == vectors.shape
    assert space.is_tangent(coordinates, points).all()
    lengths = np.linalg.norm(coordinates, axis=(-2, -1))
    assert_allclose(lengths, metric.norm(vectors, points), rtol=1e-12)
    back = metric.from_orthonormal_coordinates(coordinates, points)
    assert_allclose(back, vectors, atol=1e-11 * np.abs(vectors).max())


@each
def test_metric_is_that_of_the_layers(space):
    """Of the definition: ``A_X(P)`` is a sum over layers, at integer depths."""
    if not (float(space.depth).is_integer() and space.depth < 10):
        return
    n, point = int(space.depth), space.random_point()
    covector = RNG.normal(size=space.shape)
    u, s, vt = np.linalg.svd(point, full_matrices=True)
    values = [np.zeros(k) for k in space.shape]
    for side in values:
        side[: space.rank] = s[: space.rank]

    def power(basis, side, exponent):
        # Zero to the power of zero is the identity: whole layers.
        return (basis * side ** (2 * exponent)) @ basis.T

    expected = sum(
        power(u, values[0], (n - p) / n) @ covector @ power(vt.T, values[1], (p - 1) / n)
        for p in range(1, n + 1)
    )
    # Only tangent vectors are meant: at N = 1 nothing else projects.
    expected = space.to_tangent(expected, point)
    inner = space.metric.inner_coproduct(covector, covector, point)
    assert_allclose(inner, np.sum(space.to_tangent(covector, point) * expected), rtol=1e-10)


@each
def test_entropy_gradient_and_hessian(space):
    point = space.random_point()
    vector = space.random_tangent_vec(point)
    slope = space.metric.inner_product(space.entropy_gradient(point), vector, point)
    steps = 1e-4 * np.array([-1.0, 1.0])
    moved = space.projection(point + steps[:, None, None] * vector)
    values = space.entropy(moved)
    assert_allclose(slope, (values[1] - values[0]) / 2e-4, rtol=1e-5, atol=1e-6)
    other = space.random_tangent_vec(point)
    images = [space.entropy_hessian(v, point) for v in (vector, other)]
    assert space.is_tangent(images[0], point) or not np.any(images[0])
    products = [
        space.metric.inner_product(image, v, point)
        for image, v in zip(images, (other, vector), strict=True)
    ]
    assert_allclose(*products, rtol=1e-9, atol=1e-9 * min(space.depth, 1e3))


# --- pymanopt's names, one point at a time


@each
def test_pymanopt_vectors_are_tangent(space):
    x, y = space.random_point(2)
    v = space.random_tangent_vector(x)
    assert_allclose(space.norm(x, v), 1, rtol=1e-12)
    assert space.is_tangent(v, x)
    moved = space.transport(x, y, v)
    assert space.is_tangent(moved, y)
    assert_allclose(moved, space.to_tangent(v, y), atol=1e-13)
    assert_allclose(space.to_tangent_space(x, v), v, atol=1e-13)
    assert space.is_tangent(space.euclidean_to_riemannian_gradient(x, RNG.normal(size=x.shape)), x)
    normal = RNG.normal(size=x.shape)
    w = space.random_tangent_vector(x)
    first, second = space.weingarten(x, v, normal), space.weingarten(x, w, normal)
    assert space.is_tangent(first, x) or not first.any()
    assert_allclose(np.sum(first * w), np.sum(second * v), rtol=1e-9, atol=1e-10)
    if space.dim == x.size:
        assert not first.any()


@each
def test_hessian_is_the_second_derivative_along_the_retraction(space):
    x = space.random_point()
    target, tilt = RNG.normal(size=(2, *space.shape))
    v = space.random_tangent_vector(x)

    def cost(y):
        return np.sum(np.cos(y - target) + tilt * y, axis=(-2, -1))

    gradient, second = -np.sin(x - target) + tilt, -np.cos(x - target) * v
    hessian = space.euclidean_to_riemannian_hessian(x, gradient, second, v)
    assert space.is_tangent(hessian, x)
    # The third derivative of the retraction may jump: differences are of first order.
    step = 1e-4
    values = cost(np.stack([space.retraction(x, t * v) for t in (-step, 0.0, step)]))
    expected = (values[0] - 2 * values[1] + values[2]) / step**2
    assert_allclose(space.inner_product(x, hessian, v), expected, rtol=2e-3, atol=2e-3)


@each
def test_retraction_stays_at_a_step_without_an_entry(space):
    x = space.random_point()
    assert_array_equal(space.retraction(x, np.full(space.shape, np.nan)), x)
    far = space.retraction(x, 1e10 * space.random_tangent_vector(x))
    assert space.belongs(far)


# --- whatever is given


LOW = DLNObservableManifold(shape=(4, 3), rank=2, depth=3)
SOLVED = {"exp", "log", "dist", "squared_dist", "dist_pairwise", "closest_neighbor_index"}
SOLVED |= {"pair_mean"}
TABLE = kinds.METRIC | kinds.COORDINATES | kinds.DENSITIES | kinds.CURVATURE
BATCHED = {
    **from_table(LOW.metric, TABLE, without=SOLVED),
    **from_table(LOW, kinds.SPACE | {"entropy_hessian": "vp:v"}, prefix="space."),
}
SINGLE = from_table(LOW, kinds.POINT_FIRST, prefix="space.", without=SOLVED)


def draw(kinds, batch=()):
    """Return points, and vectors that are tangent at the last of them."""
    points = {k: LOW.projection(RNG.normal(size=(*batch, 4, 3))) for k in range(len(kinds))}
    base = [points[k] for k, kind in enumerate(kinds) if kind == "p"]
    vectors = [RNG.normal(size=(*batch, 4, 3)) for _ in kinds]
    if base:
        vectors = [LOW.to_tangent(v, base[-1]) for v in vectors]
    return [points[k] if kind == "p" else vectors[k] for k, kind in enumerate(kinds)]


CASES = Cases(BATCHED | SINGLE, draw)
POINTS = places("p", BATCHED | SINGLE, {("space.transport", 0)})


@pytest.mark.parametrize(("name", "k"), POINTS)
def test_points_of_other_ranks_are_refused(name, k):
    if name == "space.projection":
        return
    CASES.refuses(name, k, np.ones_like, "has rank 1, less than 2")
    CASES.refuses(name, k, lambda a: a + np.eye(4, 3), "has rank 3, more than 2")


@pytest.mark.parametrize(("name", "k"), places("pvca", BATCHED | SINGLE, {("space.transport", 0)}))
def test_transposed_arrays_are_refused(name, k):
    CASES.refuses(name, k, lambda a: np.ones((3, 4)), r"shape .* must be \(4, 3\)")


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)], ids=str)
@pytest.mark.parametrize("name", BATCHED)
def test_batches_are_loops(name, batch):
    function, kinds = BATCHED[name]
    if name in ("random_unit_tangent_vec", "space.random_tangent_vec") and batch:
        return
    arguments = draw(kinds, batch)
    together = np.asarray(repeatable(function, arguments))
    for place in np.ndindex(*batch):
        alone = repeatable(function, [a[place] for a in arguments])
        assert_allclose(together[place], alone, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", several(BATCHED))
def test_batches_that_do_not_broadcast(name):
    CASES.refuses_batches_that_do_not_broadcast(name)


@pytest.mark.parametrize("name", BATCHED)
def test_empty_batches(name):
    function, kinds = BATCHED[name]
    result = function(*draw(kinds, (0,)))
    assert result.shape[0] == 0
    assert result.dtype == np.float64


@pytest.mark.parametrize("name", BATCHED | SINGLE)
def test_single_precision_is_kept(name):
    function, kinds = (BATCHED | SINGLE)[name]
    arguments = [a.astype(np.float32) for a in draw(kinds)]
    result = np.asarray(repeatable(function, arguments))
    assert result.dtype == np.float32
    if "random" not in name:
        exact = repeatable(function, [a.astype(float) for a in draw(kinds)])
        assert np.shape(result) == np.shape(exact)


@pytest.mark.parametrize("arrange", ARRANGEMENTS)
@pytest.mark.parametrize("name", BATCHED)
def test_any_memory_layout(name, arrange):
    CASES.takes_any_memory_layout(name, arrange, atol=1e-11)


@pytest.mark.parametrize("name", BATCHED)
def test_nothing_is_mutated_or_shared(name):
    CASES.mutates_nothing(name, ())
    CASES.shares_no_memory(name)


# --- views and files


@each
@pytest.mark.parametrize("orthonormal", [False, True])
def test_flattened_view(space, orthonormal):
    view = space.flattened(orthonormal=orthonormal)
    points = view.random_point(3)
    assert points.shape == (3, math.prod(space.shape))
    assert view.dim == space.dim
    assert view.belongs(points).all()
    assert view.belongs(view.projection(RNG.normal(size=points.shape))).all()
    vectors = view.random_tangent_vec(points)
    lengths = view.metric.norm(vectors, points)
    matrix = view.metric.metric_matrix(points)
    expected = (vectors[:, None] @ matrix @ vectors[..., None])[:, 0, 0]
    assert_allclose(lengths**2, expected, rtol=1e-9)
    if orthonormal:
        assert_allclose(lengths, np.linalg.norm(vectors, axis=-1), rtol=1e-9)
        assert_allclose(matrix @ matrix, matrix, atol=1e-12)
        assert_allclose(view.metric.cometric_matrix(points), matrix, atol=1e-12)


@each
def test_saved_spaces_come_back(space, tmp_path):
    space = space.new()
    space.equip_with_metric(on_failure="nan", tolerance=1e-11)
    storage.save(tmp_path / "space.npz", space=space, view=space.flattened(orthonormal=True))
    back = storage.load(tmp_path / "space.npz")
    assert repr(back["space"]) == repr(space)
    assert back["space"].stratum == space.stratum
    assert back["space"].metric.tolerance == 1e-11
    assert repr(back["view"]) == repr(space.flattened(orthonormal=True))


# --- depth


def test_large_depths_approach_the_limit():
    """``N g_N`` tends to the metric of infinite depth, its vectors like 1/N^2 (symmetrized)."""
    limit = DLNObservableManifold(n=3, depth=math.inf)
    point = limit.random_point()
    vector = RNG.normal(size=(3, 3))
    errors = []
    for depth in (1e2, 1e3, 1e4):
        metric = DLNObservableManifold(n=3, depth=depth).metric
        errors.append(depth * metric.squared_norm(vector, point))
    wanted = limit.metric.squared_norm(vector, point)
    errors = np.abs(np.array(errors) - wanted)
    assert_allclose(errors[:-1] / errors[1:], 10, rtol=0.1)


def test_inversion_and_scaling_are_isometries_at_infinite_depth():
    space = DLNObservableManifold(n=4, depth=math.inf)
    points, vectors = space.random_point(5), RNG.normal(size=(5, 4, 4))
    lengths = space.metric.norm(vectors, points)
    assert_allclose(space.metric.norm(7 * vectors, 7 * points), lengths, rtol=1e-12)
    inverse = np.linalg.inv(points)
    assert_allclose(space.metric.norm(-inverse @ vectors @ inverse, inverse), lengths, rtol=1e-11)
    assert np.isinf(space.metric.injectivity_radius(points)).all()


# --- costs


def test_costs_of_matrices_of_lower_rank():
    """A loss and the entropy, minimized by pymanopt on the matrices of a rank."""
    space = DLNObservableManifold(shape=(5, 4), rank=2, depth=3)
    # Of its own draws: without a minimum for some.
    rng = np.random.default_rng(4)
    target, seen = rng.normal(size=(5, 4)), rng.uniform(size=(5, 4)) < 0.8
    cost = costs.MatrixCompletion(target, seen) - costs.Entropy(3, rank=2) / 4
    problem = pymanopt_problem(space, cost)
    solver = TrustRegions(verbosity=0, min_gradient_norm=1e-9)
    start = rng.normal(size=(5, 2)) @ rng.normal(size=(2, 4))
    point = solver.run(problem, initial_point=start).point
    assert space.belongs(point)
    assert space.norm(point, problem.riemannian_gradient(point)) <= 1e-8
    assert_allclose(costs.Entropy(3, rank=2)(point), space.entropy(point), rtol=1e-12)


@pytest.mark.parametrize(
    "solver", [SteepestDescent, ConjugateGradient, TrustRegions, NelderMead, ParticleSwarm]
)
@each
def test_all_solvers_run(space, solver):
    target = space.random_point()
    problem = pymanopt_problem(space, costs.MatrixCompletion(target, np.ones(space.shape)))
    options = {"population_size": 5} if solver is ParticleSwarm else {}
    free = solver in (NelderMead, ParticleSwarm)  # of derivatives: they draw points themselves
    start = None if free else space.random_point()
    result = solver(verbosity=0, max_iterations=3, **options).run(problem, initial_point=start)
    assert space.belongs(result.point)
    assert np.isfinite(result.cost)
    assert free or result.cost < problem.cost(start)
