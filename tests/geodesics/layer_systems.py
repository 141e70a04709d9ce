"""Systems of balanced layers with points, vectors and the like, as their tests need them."""

import numpy as np
from layer_flow import split

from dln_manifolds.geodesics import LayerSystem, Points
from dln_manifolds.geometry.chain import chain_of
from dln_manifolds.geometry.frame import Frame


def system_of(widths, rank):
    return LayerSystem(widths, rank)


def points(system, layers):
    return Points(layers, system.frame(layers))


def shaped(layers, widths):
    """Return the layers of one point as a list."""
    return split(layers.ravel(), widths)


def sizes(array):
    """Return Frobenius norms, shape ``(n_batch,)``."""
    return np.linalg.norm(array.reshape(len(array), -1), axis=1)


def bases_of(widths, rank, count, rng):
    """Return random ``Q_0 .. Q_N``, padded, with determinants one where they are square."""
    bases = np.zeros((count, len(widths), max(widths), rank))
    for place, width in enumerate(widths):
        basis = np.linalg.qr(rng.normal(size=(count, width, rank)))[0]
        if width == rank:
            basis[..., 0] *= np.linalg.slogdet(basis)[0][:, None]
        bases[:, place, :width] = basis
    return bases


def draw(widths, rank, count, seed=0, equal=False):
    """Return a system and random points of one component."""
    rng, chain = np.random.default_rng(seed), chain_of(widths)
    roots = np.exp(rng.uniform(-1, 1, size=(count, rank)) / chain.count)
    if equal:
        roots[:] = 1.3
    frame = Frame.of_bases(bases_of(widths, rank, count, rng), roots, chain)
    return system_of(widths, rank), frame.compose(roots)


def draw_vectors(system, layers, length, seed=1):
    """Return tangent vectors of so many times the size of the layers."""
    vectors = np.random.default_rng(seed).normal(size=layers.shape)
    vectors = system.tangent_part(system.frame(layers), vectors)
    factor = length * sizes(layers) / sizes(vectors)
    return factor.reshape(-1, *(1,) * (layers.ndim - 1)) * vectors
