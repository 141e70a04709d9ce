"""Strata: dimensions, draws, components, and what is refused."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from dln_manifolds.errors import InvalidPointError
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.layer_stratum import LayerStratum
from dln_manifolds.geometry.sectors import jacobi_basis
from dln_manifolds.geometry.stratum import MatrixStratum, component

RNG = np.random.default_rng(0)
STRATA = [
    MatrixStratum.square(3, 2.5),
    MatrixStratum.square(3, np.inf),
    MatrixStratum((3, 3), 1, 300),
    MatrixStratum((3, 3), 2, 1.5),
    MatrixStratum((5, 4), 2, 1),
    MatrixStratum((4, 5), 3, 3),
    MatrixStratum((3, 5), 3, 3, (5, 4, 3, 3)),
    MatrixStratum((6, 3), 3, 2),
    MatrixStratum.square(1, 1),
    MatrixStratum((1, 4), 1, 3),
    LayerStratum.square(3, 4),
    LayerStratum.square(2, 1),
    LayerStratum((5, 4), 3, 2, (4, 3, 5)),
    LayerStratum((5, 4), 2, 2, (4, 3, 5)),
    LayerStratum((3, 3), 3, 2, (3, 5, 3)),
    LayerStratum((3, 3), 2, 3, (3, 3, 3, 3)),
    LayerStratum((4, 5), 2, 3, (5, 4, 3, 4)),
    LayerStratum((4, 5), 3, 1, (5, 4)),
]
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


@each
def test_tangent_parts_are_projections(stratum):
    frame = stratum.frame(draw(stratum))
    vectors, others = (RNG.normal(size=(5, *stratum.point_shape)) for _ in range(2))
    part = stratum.tangent_part(frame, vectors)
    assert_allclose(stratum.tangent_part(frame, part), part, atol=1e-13)
    axes = tuple(range(1, part.ndim))
    rest = others - stratum.tangent_part(frame, others)
    assert_allclose(np.sum(part * rest, axis=axes), 0, atol=1e-12)


@each
def test_empty_batches(stratum):
    none = draw(stratum, 0)
    assert none.shape == (0, *stratum.point_shape)
    assert stratum.contains(none, DOUBLE).shape == (0,)
    assert stratum.project(none, DOUBLE).shape == none.shape
    assert stratum.tangent_part(stratum.frame(none), none).shape == none.shape
    assert component(stratum.frame(none)).shape[0] == 0


@pytest.mark.parametrize("stratum", [s for s in STRATA if isinstance(s, MatrixStratum)], ids=repr)
def test_isotropic_vectors_have_as_many_coordinates_as_dimensions(stratum):
    frame = stratum.frame(draw(stratum, 1)[0])
    normal = RNG.normal(size=(4000, *stratum.point_shape))
    vectors = stratum.isotropic(frame.beside(), normal)
    coordinates = (frame.blocks(vectors) / frame.root_weights).reshape(4000, -1)
    spectrum = np.linalg.eigvalsh(coordinates.T @ coordinates / 4000)
    assert_allclose(spectrum[: -stratum.dimension], 0, atol=1e-12)
    assert_allclose(spectrum[-stratum.dimension :], 1, atol=0.2)


def test_bases_are_uniform():
    """The mean of ``U U^T`` is that of any basis, and U has no preferred sign."""
    points = draw(MatrixStratum((5, 4), 2, 3), 4000)
    frame = Frame.of_point(points, 3, 2)
    projections = frame.left @ frame.left.swapaxes(-1, -2)
    assert_allclose(projections.mean(axis=0), 2 / 5 * np.eye(5), atol=0.03)
    assert_allclose(points.mean(axis=0), 0, atol=0.05)


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
    assert MatrixStratum((3, 3), 3, 1, (3, 3)).point_shape == (3, 3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (((3, 3), 4, 2), ValueError, "rank=4 is above the least width.* ranks up to 3"),
        (((3, 4), 4, 2), ValueError, "rank=4 is above the least width"),
        (((3, 3), 0, 2), ValueError, "rank must be at least 1, not 0"),
        (((3, 3), 3, 2, (3, 2, 3)), ValueError, "rank=3 is above the least width"),
        (((3, 3), 3, 2, (3, 3, 3, 3)), ValueError, r"Widths .* are not those of shape \(3, 3\)"),
        (((3, 3), 3, 2.5, (3, 3)), ValueError, "Widths .* and depth 2.5"),
        (((3, 3), 3, 2, (4, 3, 3)), ValueError, "Widths"),
        (((3, 3), 3, 0.5), ValueError, "depth must be at least 1, or math.inf, not 0.5"),
        (((3, 3), 2, np.inf), ValueError, "depth=inf needs square.*rank 2.*diverge"),
        (((3, 4), 3, np.inf), ValueError, r"depth=inf needs square.*shape \(3, 4\)"),
        (((3, 3), 3, "2"), TypeError, "depth must be a real number"),
    ],
    ids=str,
)
def test_what_does_not_belong_together_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        MatrixStratum(*arguments)


def test_layers_need_whole_depths():
    with pytest.raises(TypeError, match="depth must be an integer"):
        LayerStratum((2, 2), 2, 2.5)
