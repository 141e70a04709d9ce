r"""Curvature of balanced layers of any widths and rank, by the Gauss equation.

They are a submanifold of Euclidean space; with geomstats' sign,

.. math:: \langle R(x, y) z, w \rangle = \langle II(x, w), II(y, z) \rangle
          - \langle II(x, z), II(y, w) \rangle.
"""

import math
from collections.abc import Iterator
from functools import cached_property

import numpy as np

from dln_manifolds.geometry import sectors
from dln_manifolds.geometry.curvature import Curvature, orthonormal_plane
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.second_fundamental_form import second_fundamental_form, weingarten
from dln_manifolds.numerics.arrays import Array

# Doubles in the second fundamental form of a part of all pairs.
_BLOCK = 2**20


class LayerCurvature(Curvature):
    """The curvature of balanced layers at a batch of points; vectors are layers too."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.shape = frame.layout.array_shape
        self.size = math.prod(self.shape)
        self._axes = tuple(range(-len(self.shape), 0))

    def _flat(self, layers: Array) -> Array:
        """Join the axes of points."""
        return layers.reshape(*layers.shape[: layers.ndim - len(self.shape)], self.size)

    def tensor(self, x: Array, y: Array, z: Array) -> Array:
        """Return ``R(x, y) z`` of tangent layers, by Weingarten maps of the normal II."""
        frame = self.frame
        bent = weingarten(frame, x, second_fundamental_form(frame, y, z))
        return bent - weingarten(frame, y, second_fundamental_form(frame, x, z))

    def sectional(self, x: Array, y: Array) -> Array:
        """Return ``<II(x, x), II(y, y)> - |II(x, y)|^2`` of orthonormal x, y of planes."""
        (x, y), plane = orthonormal_plane(np.stack(np.broadcast_arrays(x, y)), len(self._axes))
        bend = second_fundamental_form
        value = np.sum(bend(self.frame, x, x) * bend(self.frame, y, y), axis=self._axes)
        value = value - np.sum(bend(self.frame, x, y) ** 2, axis=self._axes)
        return np.where(plane, value, np.nan)

    def _bends(self, vectors: Array, others: Array) -> Array:
        """Return ``II(v_a, v_b)`` of two lists of tangent vectors, ``(..., d, d', size)``."""
        place = vectors.ndim - len(self.shape)
        pairs = np.expand_dims(vectors, place), np.expand_dims(others, place - 1)
        return self._flat(second_fundamental_form(self.frame.beside().beside(), *pairs))

    def riemann(self) -> Array:
        """Return the tensor on the entries of layers, normal parts dropped."""
        d = self.size
        units = np.eye(d).reshape(d, *self.shape)
        tangent = sectors.tangent_part(self.frame.beside(), units)
        bends = self._bends(tangent, tangent)
        flat = bends.reshape(*bends.shape[:-3], d * d, d)
        gram = flat @ flat.swapaxes(-1, -2)
        gram = gram.reshape(*gram.shape[:-2], d, d, d, d)
        # <II(j, l), II(k, i)> - <II(j, i), II(k, l)>
        return np.einsum("...jlki->...ijkl", gram) - np.einsum("...jikl->...ijkl", gram)

    @cached_property
    def _basis(self) -> Array:
        """Orthonormal basis of the tangent space."""
        basis = sectors.jacobi_basis(self.frame)
        axis = self.frame.values.ndim - 1
        return np.concatenate([basis.horizontal, basis.vertical], axis=axis)

    def _parts(self) -> Iterator[tuple[slice, Array]]:
        """Yield ``II(e_a, e_c)`` of a basis, ``(..., d, part, size)``, for some c after others.

        All of them at once are gigabytes for thirty layers of width five.
        """
        axis = self._basis.ndim - len(self.shape) - 1
        d = self._basis.shape[axis]
        width = max(1, _BLOCK // max(1, self._basis.size))
        for low in range(0, d, width):
            some = slice(low, min(low + width, d))
            part = np.take(self._basis, range(*some.indices(d)), axis=axis)
            yield some, self._bends(self._basis, part)

    @cached_property
    def _trace(self) -> Array:
        """The sum of ``II(e, e)`` over a basis, ``(..., size)``."""
        basis = self._basis
        return self._flat(second_fundamental_form(self.frame.beside(), basis, basis)).sum(axis=-2)

    def ricci(self) -> Array:
        """Return the Ricci tensor on the entries of layers, normal parts dropped."""
        basis = self._flat(self._basis)
        found = np.zeros((*basis.shape[:-1], basis.shape[-2]))
        for some, bends in self._parts():
            found[..., some] += (bends @ self._trace[..., None, :, None])[..., 0]
            rows = bends.reshape(*bends.shape[:-2], bends.shape[-2] * bends.shape[-1])
            found -= rows @ rows.swapaxes(-1, -2)
        return basis.swapaxes(-1, -2) @ found @ basis

    def scalar(self) -> Array:
        """Return the scalar curvature, shape ``(...)``: |sum II(e, e)|^2 - sum |II(e, e')|^2."""
        bent = sum(np.einsum("...ack,...ack->...", bends, bends) for _, bends in self._parts())
        return np.sum(self._trace**2, axis=-1) - bent
