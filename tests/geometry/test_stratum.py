"""Strata: dimensions, draws, components, and what is refused."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from dln_manifolds.errors import InvalidPointError
from dln_manifolds.geometry.sectors import jacobi_basis
from dln_manifolds.geometry.stratum import LayerStratum, MatrixStratum, component

RNG = np.random.default_rng(0)
STRATA = [MatrixStratum.square(3, 2.5), LayerStratum.square(3, 4), LayerStratum.square(2, 1)]
each = pytest.mark.parametrize("stratum", STRATA, ids=repr)
DOUBLE, SINGLE = np.dtype(float), np.dtype(np.float32)


def draw(stratum, count=5, bound=1.0):
    return stratum.draw(count, bound, lambda shape: RNG.random(shape), lambda s: RNG.normal(size=s))


@each
def test_drawn_points_are_points_of_one_component(stratum):
    points = draw(stratum)
    assert points.shape == (5, *stratum.point_shape)
    assert stratum.contains(points, DOUBLE).all()
    assert (component(stratum.frame(points)) == 1).all()
    ends = stratum.ends(stratum.frame(points))
    assert np.abs(np.log(ends.singular_values)).max() <= 1 + 1e-12


@each
def test_dimension_is_that_of_the_tangent_space(stratum):
    frame = stratum.frame(draw(stratum, 1)[0])
    size = int(np.prod(stratum.point_shape))
    units = np.eye(size).reshape(size, *stratum.point_shape)
    projection = stratum.tangent_part(frame.beside(), units).reshape(size, size)
    assert_allclose(np.trace(projection), stratum.dimension, atol=1e-12)
    assert stratum.is_open == (stratum.dimension == size and len(stratum.point_shape) == 2)


def test_layers_split_into_sectors_of_the_right_size():
    stratum = LayerStratum.square(3, 4)
    basis = jacobi_basis(stratum.frame(draw(stratum, 1)[0]))
    assert len(basis.horizontal) + len(basis.vertical) == stratum.dimension


@each
def test_projection_leaves_points_as_they_are(stratum):
    points = draw(stratum)
    assert_allclose(stratum.project(points, DOUBLE), points, atol=1e-13)
    noisy = points + 0.1 * RNG.normal(size=points.shape)
    assert stratum.contains(stratum.project(noisy, DOUBLE), DOUBLE).all()


def test_precision_decides_what_is_a_point():
    matrix = np.diag([1.0, 1.0, 1e-8])
    stratum = MatrixStratum.square(3, 2)
    assert stratum.contains(matrix, DOUBLE)
    assert not stratum.contains(matrix, SINGLE)
    assert stratum.contains(stratum.project(matrix, SINGLE), SINGLE)


def test_components():
    matrices = np.stack([np.eye(2), np.diag([1.0, -1e-12])])
    assert_array_equal(component(MatrixStratum.square(2, 3).frame(matrices)), [1, -1])
    layers = np.stack([np.eye(2), np.diag([1.0, -1.0]), np.eye(2)])
    assert_array_equal(component(LayerStratum.square(2, 3).frame(layers)), [1, -1, 1])


def test_singular_layers_cannot_be_balanced():
    with pytest.raises(InvalidPointError, match="singular"):
        LayerStratum.square(2, 2).project(np.zeros((2, 2, 2)), DOUBLE)


def test_widths_are_those_of_the_square():
    assert LayerStratum((3, 3), 3, 2, (3, 3, 3)).dimension == LayerStratum.square(3, 2).dimension
    assert MatrixStratum((3, 3), 3, 2.5, (3, 3)).point_shape == (3, 3)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (((3, 4), 3, 2), NotImplementedError),
        (((3, 3), 2, 2), NotImplementedError),
        (((3, 3), 3, 2, (3, 5, 3)), NotImplementedError),
        (((3, 3), 4, 2), ValueError),
        (((3, 3), 0, 2), ValueError),
        (((3, 3), 3, 2, (3, 2, 3)), ValueError),
        (((3, 3), 3, 2, (3, 3, 3, 3)), ValueError),
        (((3, 3), 3, 2, (4, 3, 3)), ValueError),
        (((3, 3), 3, 0.5), ValueError),
        (((3, 3), 3, "2"), TypeError),
    ],
    ids=str,
)
def test_what_is_not_there_is_refused(arguments, error):
    with pytest.raises(error):
        MatrixStratum(*arguments)


def test_layers_need_whole_depths():
    with pytest.raises(TypeError, match="depth must be an integer"):
        LayerStratum((2, 2), 2, 2.5)
