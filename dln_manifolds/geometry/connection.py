r"""The Levi-Civita connection in the entries of points, ``nabla_V Y = D Y[V] + Gamma(V, Y)``.

Of end-to-end matrices, with the covectors ``p = A_X^{-1}(V)`` and ``q = A_X^{-1}(Y)``, by Koszul's
formula (ours),

.. math::
    \Gamma(V, Y) = \tfrac12 (A_X \partial_X \langle p, A_X q \rangle - D A_X[V] q - D A_X[Y] p).

O(r^3), exact at equal singular values. Y is any field that is tangent along the manifold: of lower
rank ``Gamma(V, Y)`` has a normal part, minus the second fundamental form of the matrices of that
rank. Of layers it is minus their second fundamental form, and nothing else.
"""

import numpy as np

from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.metric import CometricDerivative
from dln_manifolds.geometry.rank import weingarten
from dln_manifolds.geometry.second_fundamental_form import second_fundamental_form
from dln_manifolds.geometry.second_fundamental_form import weingarten as layer_weingarten
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import transpose


def christoffel(frame: Frame, vec_a: Array, vec_b: Array) -> Array:
    """Return ``Gamma(V, Y)`` of tangent vectors, of end-to-end matrices or of layers."""
    if frame.layered:
        return -second_fundamental_form(frame, vec_a, vec_b)
    derivative, first = CometricDerivative(frame), frame.blocks(vec_a)
    second = first if vec_b is vec_a else frame.blocks(vec_b)
    p, q = first / frame.weights, second / frame.weights
    inside = frame.weights * derivative.gradient_in_frame(p, q)
    inside = inside - derivative.along_in_frame(first, q) - derivative.along_in_frame(second, p)
    result = frame.assemble(0.5 * inside)
    return result - _normal_part(frame, first, second) if all(frame.sides) else result


def christoffel_gradient(frame: Frame, covector: Array, vector: Array) -> Array:
    """Return the Euclidean gradient by V, a tangent one, of ``<covector, Gamma(V, vector)>``."""
    if frame.layered:
        return -layer_weingarten(frame, vector, covector)
    derivative, weights = CometricDerivative(frame), frame.weights
    q, y = frame.blocks(covector), frame.blocks(vector)
    p = y / weights
    turned = derivative.along_in_frame(weights * q, p) - derivative.along_in_frame(y, q)
    inside = turned / weights - derivative.gradient_in_frame(q, p)
    return frame.assemble(0.5 * inside) - weingarten(frame, vector, covector)


def _normal_part(frame: Frame, first: Array, second: Array) -> Array:
    """Return the second fundamental form of matrices of constant rank in all matrices."""
    (_, left_a, right_a), (_, left_b, right_b) = map(frame.split, (first, second))
    s = frame.singular_values[..., None, :]
    return (left_a / s) @ transpose(right_b) + (left_b / s) @ transpose(right_a)


def christoffel_symbols(frame: Frame) -> Array:
    r"""Return ``Gamma^k_ij`` of row-major entries, shape ``(..., mn, mn, mn)``, k first."""
    m, n = frame.left.shape[-2], frame.right_t.shape[-1]
    units = np.eye(m * n).reshape(m * n, m, n)
    found = christoffel(frame.beside().beside(), units[:, None], units)
    return np.moveaxis(found.reshape(*found.shape[:-2], m * n), -1, -3)
