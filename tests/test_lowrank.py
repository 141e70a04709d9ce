"""Factors of large low-rank matrices and their common core: the geometry is that of full size."""

import tracemalloc

import numpy as np
import pytest
from geomstats.learning.frechet_mean import FrechetMean
from geomstats.learning.kmeans import RiemannianKMeans
from numpy.testing import assert_allclose

from dln_manifolds import DLNObservableManifold, InvalidPointError, lowrank
from dln_manifolds.lowrank import common_core

DEPTHS = [1.5, 2, 3, 4]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def draw(rng, k, m, n, rank):
    """Gaussian factors, all B and all A."""
    return rng.normal(size=(k, m, rank)), rng.normal(size=(k, rank, n))


def lifted(core, points):
    return core.left @ points @ core.right.T


def full_size(core, depth):
    return DLNObservableManifold(shape=core.shape, rank=core.rank, depth=depth)


def check_same_geometry(factors, depth):
    """Fail unless the small pair has the distance and the log of the large one."""
    B, A = factors
    X, core = B @ A, common_core(factors)
    assert_allclose(lifted(core, core.points), X, atol=1e-13 * np.abs(X).max())
    small, large = core.space(depth).metric, full_size(core, depth).metric
    vector = small.log(core.points[1], core.points[0])
    expected = large.log(X[1], X[0])
    scale = np.abs(expected).max()
    assert_allclose(lifted(core, vector), expected, atol=1e-10 * scale)
    assert_allclose(np.matmul(*core.expand_vector(vector)), expected, atol=1e-10 * scale)
    assert_allclose(small.dist(*core.points), large.dist(X[0], X[1]), rtol=1e-10)


class TestTheSameGeometry:
    @pytest.mark.parametrize("depth", DEPTHS)
    def test_of_a_pair(self, rng, depth):
        check_same_geometry(draw(rng, 2, 12, 10, 2), depth)

    # Filled up to fewer columns than 2r, or not at all.
    @pytest.mark.parametrize("shape", [(3, 12), (12, 3), (2, 9), (9, 2), (3, 3), (2, 3)])
    def test_of_narrow_matrices(self, rng, shape):
        check_same_geometry(draw(rng, 2, *shape, 2), 3)

    @pytest.mark.parametrize("depth", DEPTHS)
    def test_rank_one_is_as_the_closed_form_says(self, rng, depth):
        (b, a), sizes = draw(rng, 2, 3000, 2000, 1), np.array([1.0, 2.5])
        b, a = (x / np.linalg.norm(x, axis=(-2, -1), keepdims=True) for x in (b, a))
        b[1], a[1] = 0.8 * b[0] + 0.6 * b[1], 0.3 * a[0] + 0.9 * a[1]
        b, a = (x / np.linalg.norm(x, axis=(-2, -1), keepdims=True) for x in (b, a))
        core = common_core((sizes[:, None, None] * b, a))
        angles = np.arccos([b[0, :, 0] @ b[1, :, 0], a[0, 0] @ a[1, 0]])
        turn = np.cos(np.hypot(*angles) / np.sqrt(depth))
        roots = sizes ** (1 / depth)
        expected = depth * (roots @ roots - 2 * roots.prod() * turn)
        assert_allclose(core.space(depth).metric.squared_dist(*core.points), expected, rtol=1e-10)

    @pytest.mark.parametrize("depth", [2, 3])
    def test_of_matrices_that_span_less(self, rng, depth):
        """X and -X, of one column space and one row space: the core is filled up."""
        B, A = draw(rng, 1, 9, 8, 2)
        factors = np.concatenate([B, -B]), np.concatenate([A, A])
        core = common_core(factors)
        assert core.points.shape == (2, 4, 4)
        for basis in (core.left, core.right):
            assert_allclose(basis.T @ basis, np.eye(4), atol=1e-14)
        large = full_size(core, depth).metric
        X = B @ A
        # Of many shortest geodesics, either may be found: their lengths are equal.
        assert_allclose(
            core.space(depth).metric.dist(*core.points), large.dist(X, -X)[0], rtol=1e-8
        )

    def test_of_common_columns(self, rng):
        B, A = draw(rng, 2, 9, 8, 2)
        check_same_geometry((np.stack([B[0], B[0]]), A), 3)

    def test_small_beside_large(self, rng):
        """Every member is known to its own precision."""
        B, A = draw(rng, 2, 200, 100, 2)
        B[1] *= 1e-12
        core = common_core((B, A))
        assert_allclose(lifted(core, core.points)[1], B[1] @ A[1], atol=1e-13 * np.abs(B[1]).max())

    def test_mean_of_ten(self, rng):
        B, A = draw(rng, 10, 30, 25, 2)
        # Around one matrix, so that there is one mean.
        B, A = B[0] + 0.4 * B, A[0] + 0.4 * A
        core = common_core((B, A))
        assert core.points.shape == (10, 20, 20)
        means = [
            FrechetMean(space).set(epsilon=1e-22, max_iter=60).fit(points).estimate_
            for space, points in ((core.space(2), core.points), (full_size(core, 2), B @ A))
        ]
        assert_allclose(np.matmul(*core.expand(means[0])), means[1], atol=1e-9)

    def test_clusters(self, rng):
        centres_B, centres_A = draw(rng, 2, 40, 30, 2)
        labels = np.array([0, 1, 1, 0, 1, 0])
        noise_B, noise_A = draw(rng, 6, 40, 30, 2)
        factors = centres_B[labels] + 0.1 * noise_B, centres_A[labels] + 0.1 * noise_A
        core = common_core(factors)
        found = RiemannianKMeans(core.space(2), n_clusters=2).fit(core.points).labels_
        assert len({*zip(labels, found, strict=True)}) == 2
        table = core.space(2).metric.dist_pairwise(core.points)
        same = labels[:, None] == labels
        assert table[same].max() < table[~same].min()
        X = np.matmul(*factors)
        assert_allclose(table[0, 1:], full_size(core, 2).metric.dist(X[0], X[1:]), rtol=1e-10)


class TestFactors:
    @pytest.mark.parametrize("depth", [2, 3])
    def test_gauge(self, rng, depth):
        B, A = draw(rng, 3, 30, 20, 3)
        G = rng.normal(size=(3, 3, 3))
        distances = [
            core.space(depth).metric.dist(core.points[0], core.points[1:])
            for core in map(common_core, [(B, A), (B @ G, np.linalg.inv(G) @ A)])
        ]
        assert_allclose(distances[1], distances[0], rtol=1e-10)

    def test_gauge_of_very_unequal_columns(self, rng):
        """They cost no digits, and no rank appears that is not there."""
        B, A = draw(rng, 2, 30, 20, 2)
        scale = np.array([1e9, 1e-9])
        core = common_core((B * scale, A / scale[:, None]))
        assert_allclose(lifted(core, core.points), B @ A, atol=1e-13)
        assert core.space(2).belongs(core.points).all()

    def test_factors_that_nearly_cancel(self, rng):
        B, A = draw(rng, 2, 30, 20, 2)
        G = np.array([[1.0, 1.0], [1.0, 1.0 + 1e-6]])
        core = common_core((B @ G, np.linalg.solve(G, A)))
        assert core.space(2).belongs(core.points).all()
        assert_allclose(lifted(core, core.points), B @ A, atol=1e-7)

    def test_lists_stacks_and_longer_tuples(self, rng):
        B, A = draw(rng, 3, 9, 8, 2)
        expected = common_core((B, A))
        listed = common_core([(b.tolist(), a.tolist()) for b, a in zip(B, A, strict=True)])
        zipped = common_core(zip(B, A, strict=True))
        for core in (listed, zipped):
            assert_allclose(core.points, expected.points, rtol=0)
        # X = W_3 W_2 W_1, with the narrowest width first or last, and as three stacks.
        wide = rng.normal(size=(3, 9, 4)), rng.normal(size=(3, 4, 2))
        narrow = rng.normal(size=(3, 2, 5)), rng.normal(size=(3, 5, 8))
        for factors in ((*wide, A), (B, *narrow), [*wide, *narrow]):
            X = factors[0]
            for factor in factors[1:]:
                X = X @ factor
            core = common_core(factors)
            assert core.rank == 2
            assert_allclose(lifted(core, core.points), X, atol=1e-12)
            unstacked = common_core(list(zip(*factors, strict=True)))
            assert_allclose(unstacked.points, core.points, rtol=0)

    def test_a_single_matrix(self, rng):
        B, A = draw(rng, 1, 9, 8, 2)
        core = common_core([(B[0], A[0])])
        assert core.points.shape == (1, 2, 2)
        assert_allclose(np.matmul(*core.expand(core.points)), B @ A, atol=1e-13)

    def test_expanded_factors_are_balanced(self, rng):
        factors = draw(rng, 3, 30, 20, 2)
        core = common_core(factors)
        B, A = core.expand(core.points)
        assert (B.shape, A.shape) == ((3, 30, 2), (3, 2, 20))
        assert_allclose(B @ A, np.matmul(*factors), atol=1e-12)
        assert_allclose(B.swapaxes(1, 2) @ B, A @ A.swapaxes(1, 2), atol=1e-12)
        mean = core.space(3).metric.geodesic(core.points[0], core.points[1])(0.5)[0]
        B, A = core.expand(mean)
        assert (B.shape, A.shape) == ((30, 2), (2, 20))
        assert_allclose(B @ A, lifted(core, mean), atol=1e-12)

    def test_inputs_stay_as_they_are(self, rng):
        factors = draw(rng, 2, 9, 8, 2)
        copies = [factor.copy() for factor in factors]
        for factor in factors:
            factor.flags.writeable = False
        common_core(factors)
        for factor, copy in zip(factors, copies, strict=True):
            assert_allclose(factor, copy, rtol=0)

    def test_single_precision(self, rng):
        B, A = draw(rng, 2, 30, 20, 2)
        single = common_core((B.astype(np.float32), A.astype(np.float32)))
        outputs = single.points, single.left, single.right, *single.expand(single.points)
        assert {array.dtype for array in outputs} == {np.dtype(np.float32)}
        assert_allclose(np.matmul(*single.expand(single.points)), B @ A, atol=1e-5)
        small = single.space(2).metric.dist(*single.points)
        assert_allclose(small, full_size(single, 2).metric.dist(*(B @ A)), rtol=1e-5)
        mixed = common_core((B.astype(np.float32), A))
        assert mixed.points.dtype == np.float64

    def test_small_singular_values_of_large_matrices(self, rng):
        """Factors say a rank far below what rounding of an m x n array would leave."""
        (B,), (A,) = draw(rng, 1, 6000, 5000, 2)
        for dtype in (np.float64, np.float32):
            unit = np.finfo(dtype).eps
            small = (B * [1, 100 * unit]).astype(dtype), A.astype(dtype)
            core = common_core([small])
            values = np.linalg.svd(core.points[0].astype(float), compute_uv=False)
            left, right = (np.linalg.qr(x.astype(float))[1] for x in (small[0], small[1].T))
            expected = np.linalg.svd(left @ right.T, compute_uv=False)
            assert_allclose(values, expected, rtol=0.03)
            assert core.space(2).belongs(core.points[0])
            B[:, 1] = B[:, 0]
            with pytest.raises(InvalidPointError, match=r"factors\[0\].*rank 1, less than 2"):
                common_core([(B.astype(dtype), A.astype(dtype))])
            B[:, 1] = rng.normal(size=len(B))

    def test_tensors(self, rng):
        torch = pytest.importorskip("torch")
        factors = draw(rng, 2, 9, 8, 2)
        core = common_core(tuple(map(torch.from_numpy, factors)))
        assert_allclose(core.points, common_core(factors).points, rtol=0)
        adapter = torch.nn.Linear(3, 4, bias=False).weight
        with pytest.raises(InvalidPointError, match=r"factors\[0\]\[0\].*detach"):
            common_core([(adapter, torch.ones(3, 5))])


def test_nothing_of_the_large_size_is_formed(rng):
    """An array of shape (m, n) would have 160 GB."""
    m, n, rank = 200_000, 100_000, 2
    factors = draw(rng, 2, m, n, rank)
    tracemalloc.start()
    core = common_core(factors)
    middle = core.space(2).metric.geodesic(core.points[0], core.points[1])(0.5)[0]
    B, A = core.expand(middle)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * 8 * (m + n) * 2 * rank
    assert (B.shape, A.shape) == ((m, rank), (rank, n))
    assert_allclose(B.T @ B, A @ A.T, rtol=1e-11, atol=1e-8)
    # Some rows of the large matrices, by themselves and through the core.
    rows = [0, 123_456]
    some = core.left[rows] @ core.points @ core.right.T
    assert_allclose(some, factors[0][:, rows] @ factors[1], atol=1e-10)


GOOD = (np.arange(8.0).reshape(4, 2), np.eye(2, 3))
WIDER = (np.ones((4, 3)) + np.eye(4, 3), np.eye(3))
LESS = (np.ones((4, 2)), np.eye(2, 3))
NAN, INFINITE = np.full((2, 3), np.nan), np.full((4, 2), np.inf)
THREE, TWO = np.ones((3, 4, 1)), np.ones((2, 1, 3))
PART = np.arange(1.0, 9).reshape(4, 2)
# Of rank 1: the others of the columns of B and the rows of A cancel but for rounding.
CANCELLING = (
    np.column_stack([PART / 3, PART.sum(axis=1) / 3]),
    np.array([[1 / 7, 0, 0.3], [1 / 7, 0, 0.3], [-1 / 7, 0.5, -0.3]]),
)


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        (None, "factors are of type NoneType"),
        (3.0, "factors are of type float"),
        ([], "factors are empty"),
        ({}, "factors are empty"),
        ("BA", r"factors\[0\] is of type str"),
        (np.ones((2, 2, 3, 3)), r"factors are of type ndarray and shape \(2, 2, 3, 3\)"),
        (GOOD, r"factors\[0\] is of type ndarray and shape \(4, 2\); a pair"),
        ([GOOD, GOOD[:1]], r"factors\[1\] is of type tuple and length 1"),
        ([GOOD, (GOOD[0], "A")], r"factors\[1\]\[1\] has shape \(\)"),
        ([GOOD, (GOOD[0], None)], r"factors\[1\]\[1\] is None"),
        ([GOOD, (GOOD[0], [[1.0], [2.0, 3.0]])], r"factors\[1\]\[1\] is not a rectangular"),
        ([GOOD, (GOOD[0], NAN)], r"factors\[1\]\[1\] is not finite: nan at \[0, 0\]"),
        ([GOOD, (INFINITE, GOOD[1])], r"factors\[1\]\[0\] is not finite: inf"),
        ([GOOD, (1j * GOOD[0], GOOD[1])], r"factors\[1\]\[0\] has dtype complex128"),
        ([(np.ones((4, 0)), np.ones((0, 3)))], r"factors\[0\]\[0\] has shape \(4, 0\)"),
        ([GOOD, GOOD[::-1]], r"factors\[1\].*\(2, 3\) and \(4, 2\), which have no product"),
        ([GOOD, GOOD, (GOOD[0], np.eye(2, 5))], r"factors\[2\] makes.*\(4, 5\) and rank 2"),
        ([GOOD, GOOD, WIDER], r"factors\[2\] makes.*\(4, 3\) and rank 3, and factors\[0\]"),
        ([(np.ones((2, 3)), np.eye(3))], r"factors\[0\].*no rank 3.*order written"),
        ([GOOD, LESS], r"factors\[1\]: its product has rank 1.*value 2 is .* not above .*width 1"),
        ([GOOD, (0 * GOOD[0], GOOD[1])], r"factors\[1\]: its product has rank 0.*leave it out"),
        ([(np.ones((4, 3)) + np.eye(4, 3), np.eye(3)), CANCELLING], r"factors\[1\].*rank 1"),
        ((THREE, TWO), r"stacks of shapes \(3, 4, 1\) and \(2, 1, 3\)"),
        ((THREE * np.nan, THREE.swapaxes(1, 2)), r"factors\[0\] is not finite.*member \[0\]"),
        ((THREE, np.zeros((3, 1, 3))), r"factors\[:\]\[0\]: its product has rank 0"),
        ((np.ones((0, 4, 1)), np.ones((0, 1, 3))), "factors are empty"),
    ],
)
def test_what_are_no_factors(factors, message):
    with pytest.raises(InvalidPointError, match=message):
        common_core(factors)


def test_what_is_no_small_matrix(rng):
    core = common_core(draw(rng, 2, 9, 8, 2))
    with pytest.raises(InvalidPointError, match=r"point has shape \(3, 3\).*\(4, 4\)"):
        core.expand(np.eye(3))
    with pytest.raises(InvalidPointError, match="point has rank 4, more than 2"):
        core.expand(np.eye(4))
    with pytest.raises(InvalidPointError, match="vector is not finite"):
        core.expand_vector(np.full((4, 4), np.nan))


def test_public_names():
    assert lowrank.__all__ == ["CommonCore", "common_core"]
    assert repr(common_core([GOOD]).space(3)) == repr(DLNObservableManifold(n=2, depth=3))
