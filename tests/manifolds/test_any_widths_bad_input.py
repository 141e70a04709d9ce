"""What layers of any widths and rank do with input that is wrong, unusual or empty."""

import numpy as np
import pytest
from bad_input import Cases, Multiplying, Stubborn, from_table, places, repeatable, several
from numpy.testing import assert_allclose, assert_array_equal

from dln_manifolds import (
    BalancedManifold,
    DisconnectedPointsError,
    InvalidPointError,
)
from dln_manifolds.autodiff import kinds

# Layers of unequal widths lie in vectors; one space of full and one of lower rank.
SPACES = {
    "3-2-4": BalancedManifold(widths=(3, 2, 4)),
    "2-3-3-2 r1": BalancedManifold(widths=(2, 3, 3, 2), rank=1),
}
LENGTHS = ("inner_product", "squared_norm", "norm", "normalize", "normal_basis")
OTHER = {name for name, found in kinds.FIBRE.items() if not set(found.split(":")[0]) <= {*"pa"}}
SKIPPED = {"dist_pairwise", "closest_neighbor_index", "metric_matrix"}


def functions_of(space):
    """Return functions of points, vectors and any layers, with what they take."""
    return {
        **from_table(space.metric, kinds.METRIC | kinds.COORDINATES, without=SKIPPED),
        **from_table(space, kinds.SPACE | kinds.FIBRE, without=OTHER),
        **from_table(space.fiber_bundle, kinds.BUNDLE, prefix="bundle.", without={"lift"}),
        "balance": (space.balance, "a"),
        "entropy_hessian": (space.entropy_hessian, "vp"),
        "transport": (
            lambda v, u, p: space.metric.parallel_transport(v, p, direction=u),
            "vvp",
        ),
    }


def drawing(space):
    """Return a function that draws points near each other, and vectors at the last of them."""
    np.random.seed(3)
    centre = space.random_point(bound=0.2)
    near = space.projection(centre + 0.05 * np.random.normal(size=(12, *space.shape)))

    def draw(kinds, batch=()):
        points = [near[np.random.choice(12, batch)] for _ in kinds]
        base = [x for x, kind in zip(points, kinds, strict=True) if kind == "p"][-1:]
        arguments = []
        for kind, point in zip(kinds, points, strict=True):
            noise = 0.1 * np.random.normal(size=(*batch, *space.shape))
            if kind in "vw":
                noise = space.to_tangent(noise, base[0])
            arguments.append({"p": point, "a": centre + noise}.get(kind, noise))
        return arguments

    return draw


CASES = {name: Cases(functions_of(space), drawing(space)) for name, space in SPACES.items()}
UNCHECKED = {
    (name, len(found) - 1)
    for name, (_, found) in CASES["3-2-4"].functions.items()
    if name in LENGTHS
}


def each(letters):
    """Parametrize by spaces and by all arguments of some kinds."""
    found = places(letters, CASES["3-2-4"].functions, UNCHECKED)
    return pytest.mark.parametrize(
        ("cases", "name", "k"),
        [(cases, *place) for cases in CASES.values() for place in found],
        ids=[f"{kind}-{name}-{k}" for kind in CASES for name, k in found],
    )


def each_function(unless=()):
    """Parametrize by spaces and functions."""
    return pytest.mark.parametrize(
        ("cases", "name"),
        [(cases, x) for cases in CASES.values() for x in cases.functions if x not in unless],
        ids=[f"{kind}-{x}" for kind, c in CASES.items() for x in c.functions if x not in unless],
    )


class TestEveryFunction:
    @each("pvwac")
    def test_refuses_vectors_of_another_length(self, cases, name, k):
        message = cases.refuses(name, k, lambda a: a[..., 1:], r"shape .* the last axes must be")
        assert "space.point(layers)" in message

    @each("p")
    def test_refuses_unbalanced_layers_and_says_by_how_much(self, cases, name, k):
        def change(point):
            point[:6] *= 1.2
            return point

        message = cases.refuses(name, k, change, r"not balanced: its relative imbalance is 0\.\d")
        assert "space.balance(" in message

    @each("pvwac")
    def test_refuses_what_is_not_finite(self, cases, name, k):
        cases.refuses_entry(name, k, np.nan, (3,))
        cases.refuses_entry(name, k, np.inf, (1, 5), (2,))

    @each("pvwac")
    def test_refuses_complex_missing_and_masked_numbers(self, cases, name, k):
        cases.refuses(name, k, lambda a: a + 0j, r"complex.*\.real")
        cases.refuses(name, k, lambda a: np.ma.masked_greater(a, a.mean()), "masked entries")
        cases.refuses(name, k, lambda a: np.full(a.shape, "x"), "real numbers")
        if (name, k) != ("transport", 1):
            cases.refuses(name, k, lambda _: None, "is None")

    @each_function()
    def test_keeps_single_precision(self, cases, name):
        function, letters = cases.functions[name]
        arguments = cases.draw(letters)
        result = repeatable(function, [a.astype(np.float32) for a in arguments])
        expected = repeatable(function, arguments)
        assert np.asarray(result).dtype == np.float32
        assert np.asarray(expected).dtype == np.float64
        assert_allclose(result, expected, rtol=1e-4, atol=3e-5 * np.abs(expected).max())

    @each_function()
    def test_takes_lists_and_subclasses_as_arrays(self, cases, name):
        cases.takes_nested_lists(name)
        cases.takes_subclasses(name, Multiplying)

    @each_function()
    def test_mutates_nothing_and_shares_no_memory(self, cases, name):
        for batch in ((), (2,)):
            cases.mutates_nothing(name, batch)
        cases.shares_no_memory(name)

    @each_function()
    def test_takes_an_empty_batch(self, cases, name):
        function, letters = cases.functions[name]
        result = function(*cases.draw(letters, (0,)))
        single = np.asarray(repeatable(function, cases.draw(letters)))
        assert result.shape == (0, *single.shape)

    @pytest.mark.parametrize("name", several(CASES["3-2-4"].functions))
    @pytest.mark.parametrize("cases", CASES.values(), ids=CASES)
    def test_refuses_batches_that_do_not_broadcast(self, cases, name):
        cases.refuses_batches_that_do_not_broadcast(name)


RUBBISH = {
    "None": None,
    "string": "abc",
    "number": 1.0,
    "empty list": [],
    "ragged list": [[1, 2, 3], [4, 5]],
    "list of layers": [np.ones((2, 3)), np.ones((4, 2))],
    "strings": ["a"] * 14,
    "dictionary": {"a": 1},
    "function": abs,
    "too short": np.ones(13),
    "too long": np.ones(15),
    "matrix": np.ones((3, 3)),
    "stacked": np.ones((2, 2, 3)),
    "complex": np.ones(14) + 0j,
    "objects": np.ones(14).astype(object),
    "dates": np.zeros(14, dtype="datetime64[D]"),
    "nan": np.full(14, np.nan),
    "inf": np.full(14, np.inf),
    "zero": np.zeros(14),
    "huge integers": [10**400] * 14,
    "no conversion": Stubborn(),
}


@pytest.mark.parametrize("value", RUBBISH.values(), ids=RUBBISH)
def test_belongs_and_is_tangent_never_raise(value):
    space = SPACES["3-2-4"]
    W = space.random_point()
    assert not np.any(space.belongs(value))
    assert not np.any(space.is_tangent(space.random_tangent_vec(W), value))
    # zero is tangent, and belongs to no rank
    assert np.all(space.is_tangent(value, W)) == (value is RUBBISH["zero"])


def test_belongs_and_is_tangent_of_batches():
    space = BalancedManifold(widths=(4, 3, 5), rank=2)
    good = space.random_point(2)
    higher = BalancedManifold(widths=(4, 3, 5)).random_point()
    lower = BalancedManifold(widths=(4, 3, 5), rank=1).random_point()
    off = good[0] + 1e-6 * np.random.normal(size=space.shape)
    batch = np.stack([*good, higher, lower, off, np.zeros(27), np.full(27, np.nan)])
    assert_array_equal(space.belongs(batch), [True, True, *[False] * 5])
    assert_array_equal(space.belongs(batch[None]), [[True, True, *[False] * 5]])
    assert not space.belongs(good[0][:-1])
    assert space.belongs(good[0].astype(np.float32))
    V = space.random_tangent_vec(good)
    assert_array_equal(space.is_tangent(V, good), [True, True])
    assert_array_equal(space.is_tangent(np.stack([V[0], off]), good[0]), [True, False])
    assert not np.any(space.is_tangent(V[0], np.stack([higher, lower, off])))
    assert not np.any(space.is_tangent(V, batch[:3]))
    assert not space.is_tangent(V[0])


@pytest.mark.parametrize("scale", [1e-150, 1e-40, 1e40, 1e150])
def test_belongs_is_free_of_scale(scale):
    space = SPACES["2-3-3-2 r1"]
    W = space.random_point()
    assert space.belongs(scale * W)
    assert space.is_tangent(scale * space.random_tangent_vec(W), W)
    assert not space.belongs(scale * np.random.normal(size=space.shape))


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"widths": (3, 0, 2)}, ValueError, r"widths\[1\] must be at least 1, not 0"),
        ({"widths": (3, -1)}, ValueError, r"widths\[1\] must be at least 1, not -1"),
        ({"widths": (3, 2.0, 2)}, TypeError, r"widths\[1\] must be an integer, not 2.0"),
        ({"widths": (3, True, 2)}, TypeError, r"widths\[1\] must be an integer, not True"),
        ({"widths": (3, None)}, TypeError, r"widths\[1\] must be an integer, not None"),
        ({"widths": (3, "2")}, TypeError, r"widths\[1\] must be an integer, not '2'"),
        ({"widths": "32"}, TypeError, "widths must be integers in a tuple"),
        ({"widths": 3}, TypeError, "widths must be integers in a tuple, not 3"),
        ({"widths": (3,)}, ValueError, "widths needs at least 2 integers"),
        ({"widths": ()}, ValueError, "widths needs at least 2 integers"),
        ({"widths": (4, 3, 5), "rank": 4}, ValueError, "rank=4 is above the least width"),
        ({"n": 3, "depth": 2, "rank": 4}, ValueError, "rank=4 is above the least width"),
        ({"widths": (4, 3, 5), "rank": 0}, ValueError, "rank must be at least 1, not 0"),
        ({"widths": (4, 3, 5), "rank": 1.0}, TypeError, "rank must be an integer"),
        ({"widths": (4, 3, 5), "depth": 3}, ValueError, "depth=3 contradicts widths"),
        ({"widths": (4, 3, 5), "depth": 2.5}, TypeError, "depth must be an integer"),
        ({"widths": (4, 3, 5), "n": 3}, TypeError, "Give one of n, shape and widths"),
        ({"n": (4, 3, 5)}, TypeError, "n must be an integer"),
        ({}, TypeError, "n must be an integer"),
        ({"depth": 2}, TypeError, "n must be an integer"),
        ({"rank": 2}, TypeError, "n must be an integer"),
    ],
    ids=str,
)
def test_wrong_constructor_arguments(arguments, error, match):
    with pytest.raises(error, match=match):
        BalancedManifold(**arguments)


def test_widths_in_other_forms_are_taken():
    wanted = BalancedManifold(widths=(4, 3, 5), rank=2)
    for widths in ([4, 3, 5], np.array([4, 3, 5]), range(4, 6)):
        space = BalancedManifold(widths=widths, rank=np.int64(2))
        assert all(type(width) is int for width in space.widths)
        assert type(space.rank) is int
        if len(widths) == 3:
            assert repr(space) == repr(wanted)
    assert BalancedManifold(widths=(4, 3, 5), depth=2).shape == wanted.shape
    assert repr(BalancedManifold(widths=(3, 3, 3))) == "BalancedManifold(n=3, depth=2)"


class TestRank:
    space = BalancedManifold(widths=(4, 3, 5), rank=2)

    def point_of_rank(self, rank):
        return BalancedManifold(widths=(4, 3, 5), rank=rank).random_point()

    def test_lower_than_asked(self):
        W = self.point_of_rank(1)
        V = np.zeros(27)
        for call in (
            lambda: self.space.metric.exp(V, W),
            lambda: self.space.entropy(W),
            lambda: self.space.to_tangent(V, W),
            lambda: self.space.retraction(W, V),
            lambda: self.space.jacobi_basis(W),
        ):
            with pytest.raises(InvalidPointError, match=r"singular layers.*rank 2 is needed"):
                call()
        for call in (self.space.projection, self.space.balance):
            with pytest.raises(InvalidPointError, match="rank"):
                call(W)
        with pytest.raises(InvalidPointError, match="rank 1, less than 2"):
            self.space.factor(self.space.end_to_end(W))

    def test_higher_than_asked(self):
        W = self.point_of_rank(3)
        smallest = np.linalg.svd(self.space.layers(W)[0])[1][2]
        for call in (
            lambda: self.space.metric.exp(np.zeros(27), W),
            lambda: self.space.entropy(W),
            lambda: self.space.weingarten(W, np.zeros(27), np.zeros(27)),
        ):
            with pytest.raises(InvalidPointError, match="rank above 2") as caught:
                call()
            assert f"a singular value beyond is {smallest:.3g}" in str(caught.value)
            assert "space.projection(W) cuts at the rank" in str(caught.value)
        # as the message says
        assert self.space.belongs(self.space.projection(W))

    def test_of_a_member_of_a_batch(self):
        W = np.stack([self.point_of_rank(2), self.point_of_rank(2), self.point_of_rank(3)])
        with pytest.raises(InvalidPointError, match=r"rank above 2 \(batch member \[2\]\)"):
            self.space.entropy(W)
        W[1] = self.point_of_rank(1)
        with pytest.raises(InvalidPointError, match=r"\(batch member \[\d\]\)"):
            self.space.entropy(W)

    def test_of_square_layers(self):
        space = BalancedManifold(n=3, depth=2, rank=2)
        W = BalancedManifold(n=3, depth=2).random_point()
        with pytest.raises(InvalidPointError, match="rank above 2"):
            space.entropy(W)
        with pytest.raises(InvalidPointError, match="singular layers"):
            BalancedManifold(n=3, depth=2).entropy(space.random_point())

    def test_rounding_beyond_the_rank_is_forgiven(self):
        W = self.space.random_point()
        noisy = W + 1e-15 * np.random.normal(size=27)
        assert_allclose(self.space.entropy(noisy), self.space.entropy(W), rtol=0, atol=1e-11)
        single = W.astype(np.float32)
        assert_allclose(self.space.entropy(single), self.space.entropy(W), rtol=1e-4)


def test_points_of_different_components():
    # d_0 = d_2 = r: two components; in one of three layers the middle one is free
    space = BalancedManifold(widths=(2, 3, 2))
    W = space.random_point()
    first, last = space.layers(W)
    other = space.point([first, np.diag([1.0, -1.0]) @ last])
    with pytest.raises(DisconnectedPointsError):
        space.metric.log(other, W)
    space.equip_with_metric(type(space.metric), on_failure="nan")
    assert np.isnan(space.metric.dist(W, other))
