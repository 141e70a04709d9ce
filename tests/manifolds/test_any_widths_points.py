"""Layers of unequal widths and group elements, in lists and in vectors."""

import numpy as np
import pytest
from dense_layers import NETWORKS, case, name_of
from numpy.testing import assert_allclose, assert_array_equal

from dln_manifolds import BalancedManifold, InvalidPointError


@pytest.mark.parametrize("network", NETWORKS, ids=name_of)
def test_balanced_layers_belong(network):
    space, layers = BalancedManifold(widths=network[0], rank=network[1]), case(network)
    assert space.belongs(space.point(layers))
    assert space.belongs(space.balance([layer + 0.01 for layer in layers]))


def test_balance_takes_lists_of_layers_and_of_numbers():
    space = BalancedManifold(widths=(3, 2, 4))
    layers = [np.random.normal(size=shape) for shape in ((2, 3), (4, 2))]
    expected = space.balance(space.point(layers))
    for given in (
        layers,
        tuple(layers),
        [layer.tolist() for layer in layers],
        [list(layer) for layer in layers],
        space.point(layers).tolist(),
    ):
        assert_array_equal(space.balance(given), expected)
    batch = space.point(layers)[None].tolist()
    assert_array_equal(space.balance(batch), expected[None])
    with pytest.raises(InvalidPointError, match=r"layers\[1\] has shape"):
        space.balance(layers[:1] * 2)
    with pytest.raises(InvalidPointError, match="layers"):
        space.balance([[[1.0, 2.0], [3.0]], [[4.0]]])
    with pytest.raises(InvalidPointError, match="layers has shape"):
        space.balance([])


class TestPoint:
    space = BalancedManifold(widths=(4, 3, 5))
    layers = (np.ones((3, 4)), np.ones((5, 3)))

    @pytest.mark.parametrize("count", [0, 1, 3])
    def test_wrong_number_of_layers(self, count):
        given = [self.layers[0]] * count
        match = rf"layers has {count} matrices; 2 are needed, of shapes \(3, 4\), \(5, 3\)"
        with pytest.raises(InvalidPointError, match=match):
            self.space.point(given)

    @pytest.mark.parametrize("shape", [(3, 5), (5, 4), (3,), (), (3, 3)], ids=str)
    @pytest.mark.parametrize("place", [0, 1])
    def test_layer_of_wrong_shape_is_named(self, place, shape):
        given = list(self.layers)
        given[place] = np.ones(shape)
        with pytest.raises(InvalidPointError, match=rf"layers\[{place}\] has shape"):
            self.space.point(given)

    def test_unlike_batches(self):
        given = [np.ones((2, 3, 4)), np.ones((3, 5, 3))]
        with pytest.raises(InvalidPointError, match=r"broadcast: layers\[0\] \(2,\) and layers"):
            self.space.point(given)
        assert self.space.point([given[0], self.layers[1]]).shape == (2, 27)
        assert self.space.point([given[0][:, None], given[1]]).shape == (2, 3, 27)
        assert self.space.point([given[0][:0], self.layers[1]]).shape == (0, 27)

    @pytest.mark.parametrize("value", [np.nan, np.inf, 1j], ids=str)
    def test_entries_that_are_no_real_numbers(self, value):
        bad = np.ones((5, 3), dtype=type(value))
        bad[1, 2] = value
        with pytest.raises(InvalidPointError, match=r"layers\[1\] (is not finite|has dtype)"):
            self.space.point([self.layers[0], bad])

    @pytest.mark.parametrize("value", [None, 3, "ab", [None, None], [abs, abs]], ids=str)
    def test_what_is_no_list_of_layers(self, value):
        with pytest.raises(InvalidPointError, match="layers"):
            self.space.point(value)

    def test_other_containers_and_types(self):
        expected = self.space.point(self.layers)
        for given in (
            list(self.layers),
            (layer for layer in self.layers),
            [layer.tolist() for layer in self.layers],
            [layer.view(np.matrix) for layer in self.layers],
            [np.ma.array(layer) for layer in self.layers],
            [layer.astype(int) for layer in self.layers],
        ):
            result = self.space.point(given)
            assert type(result) is np.ndarray
            assert result.dtype == np.float64
            assert_array_equal(result, expected)
        single = [layer.astype(np.float32) for layer in self.layers]
        assert self.space.point(single).dtype == np.float32
        assert self.space.point([single[0], self.layers[1]]).dtype == np.float64
        assert {x.dtype for x in self.space.layers(self.space.point(single))} == {
            np.dtype(np.float32)
        }
        with pytest.raises(InvalidPointError, match=r"layers\[0\] has masked entries"):
            self.space.point([np.ma.masked_less(np.eye(3, 4), 0.5), self.layers[1]])

    def test_shares_no_memory(self):
        point = self.space.point(self.layers)
        assert not any(np.shares_memory(point, layer) for layer in self.layers)
        assert not any(np.shares_memory(point, layer) for layer in self.space.layers(point))
        single = BalancedManifold(widths=(4, 3))
        layer = np.ones((3, 4))
        assert not np.shares_memory(single.point([layer]), layer)


class TestGroup:
    space = BalancedManifold(widths=(2, 3, 4, 2), rank=1)

    def turns(self):
        return [np.linalg.qr(np.random.normal(size=(d, d)))[0] for d in (3, 4)]

    def test_wrong_shapes(self):
        W = self.space.random_point()
        with pytest.raises(InvalidPointError, match=r"group_elem\[1\] has shape \(3, 3\)"):
            self.space.act([np.eye(3), np.eye(3)], W)
        with pytest.raises(InvalidPointError, match="group_elem has 1 matrices; 2 are needed"):
            self.space.act([np.eye(3)], W)
        with pytest.raises(InvalidPointError, match=r"must be \(25\)"):
            self.space.act(np.ones(24), W)

    def test_not_orthogonal(self):
        W, turns = self.space.random_point(), self.turns()
        turns[1][0, 0] += 0.1
        with pytest.raises(InvalidPointError, match="group_elem is not orthogonal") as caught:
            self.space.act(turns, W)
        assert "U @ Vt" in str(caught.value)
        with pytest.raises(InvalidPointError, match="is not finite"):
            self.space.act([np.full((3, 3), np.nan), turns[0]], W)

    def test_lists_and_vectors_are_the_same(self):
        W, turns = self.space.random_point(), self.turns()
        vector = np.concatenate([turn.ravel() for turn in turns])
        acted = self.space.act(turns, W)
        assert_array_equal(acted, self.space.act(vector, W))
        assert_array_equal(acted, self.space.act(tuple(turns), W))
        first, *_ = self.space.layers(acted)
        assert_allclose(first, turns[0] @ self.space.layers(W)[0], rtol=0, atol=1e-14)

    def test_single_layer_has_no_group(self):
        space = BalancedManifold(widths=(4, 3))
        W = space.random_point()
        assert_array_equal(space.act([], W), W)
