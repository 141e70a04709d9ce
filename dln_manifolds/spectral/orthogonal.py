"""Orthogonal matrices: polar factors, and rotations from Gaussian matrices."""

from __future__ import annotations

import numpy as np

from dln_manifolds.spectral.elementary import Array


def nearest_orthogonal(matrix: Array) -> Array:
    """Return the orthogonal polar factor of square matrices: the nearest orthogonal ones."""
    u, _, vt = np.linalg.svd(matrix)
    return u @ vt


def rotations(normal: Array) -> Array:
    """Turn Gaussian matrices, shape ``(..., n, n)``, into rotations uniform in SO(n)."""
    q, r = np.linalg.qr(normal)
    q = q * np.expand_dims(np.sign(np.diagonal(r, axis1=-2, axis2=-1)), -2)
    sign, _ = np.linalg.slogdet(q)
    q[..., 0] *= np.expand_dims(sign, -1)
    return q
