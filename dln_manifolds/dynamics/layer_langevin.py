r"""The Langevin equation on the balanced layers, with noise along and across the fibres.

.. math:: dW = -\nabla_W E dt + \sqrt{2/b} \, P_{ver} dB + \sqrt{2k/b} \, P_{hor} dB,

B Brownian motion on the balanced manifold (Menon, arXiv 2411.09004, second-hand). Its end-to-end
matrix obeys the Riemannian Langevin equation: the entropy comes in through the vertical noise, by
the mean curvature of the fibres, so a step must follow geodesics to second order. Noise applied by
the group of the fibre would leave X where it is, without any entropy. At k = 0, X moves along
``-grad F_b`` and nothing of the noise is left but what the length of steps leaves.
"""

from typing import NamedTuple

import numpy as np

from dln_manifolds.geometry import sectors
from dln_manifolds.geometry.balancing import end_to_end_pullback, rebalance
from dln_manifolds.geometry.chain import Chain
from dln_manifolds.geometry.frame import Frame, orientation_of
from dln_manifolds.geometry.second_fundamental_form import bent_blocks
from dln_manifolds.numerics.arrays import Array


class LayerPoint(NamedTuple):
    """Balanced layers with their frame and the signs of their components."""

    layers: Array
    frame: Frame
    orientation: Array


def layer_point(layers: Array, chain: Chain, rank: int) -> LayerPoint:
    """Decompose balanced layers."""
    frame = Frame.of_layers(layers, chain, rank)
    return LayerPoint(layers, frame, orientation_of(frame.bases, chain))


def tangent_step(
    at: LayerPoint, step: float, variances: tuple[float, float], gradient: Array, normal: Array
) -> Array:
    """Return drift and noise of a step, a tangent vector, from standard normal layers.

    By the Euclidean gradient at X and the variances of vertical and of horizontal noise in a step.
    """
    parts = sectors.split(at.frame, normal)
    pulled = end_to_end_pullback(at.layers, gradient, at.frame.layout)
    vertical, horizontal = np.sqrt(variances)
    return vertical * parts.vertical + horizontal * parts.horizontal - step * pulled


def geodesic_polynomial(frame: Frame, tangent_vec: Array) -> Array:
    """Return ``V + II(V, V) / 2``, without what maps from complement to complement.

    Where roots are small the polynomial holds for short steps only: a correction longer than the
    roots it belongs to is cut, shorter ones change by a term of fourth order.
    """
    blocks, roots = frame.blocks(tangent_vec), frame.roots[..., None, :]
    bent = bent_blocks(frame, blocks, blocks)
    scale = np.maximum(roots, roots.swapaxes(-1, -2))
    if any(frame.sides):
        beside = np.broadcast_to(roots, (*roots.shape[:-2], sum(frame.sides), roots.shape[-1]))
        scale = np.concatenate([scale, beside], axis=-2)
    bent /= np.hypot(1.0, bent / scale[..., None, :, :])
    return tangent_vec + 0.5 * frame.assemble(bent)


def settled(at: LayerPoint, layers: Array, reflect: bool) -> tuple[LayerPoint, Array]:
    """Return balanced layers near the given ones, and which end-to-end matrices crossed det = 0.

    All layers of invertible matrices become singular together, and there 2^N components meet. What
    crosses goes on in one where det(X) has the other sign, by the sign of the last layer; what is
    reflected, and what is not square of full rank, stays in its component.
    """
    chain, rank = at.frame.layout, at.frame.roots.shape[-1]
    crossed = np.zeros(len(layers), dtype=bool)
    orientation = at.orientation
    if chain.is_uniform and rank == chain.width:
        crossed = np.linalg.slogdet(layers[:, 0])[0] != orientation[:, 0]
        if not reflect:
            orientation = orientation.copy()
            orientation[:, -1] *= np.where(crossed, -1.0, 1.0)
    found = rebalance(layers, chain, rank, orientation=orientation)
    frame = Frame.of_layers(found, chain, rank)
    return LayerPoint(found, frame, orientation), crossed
