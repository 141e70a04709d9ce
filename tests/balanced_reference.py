"""Balanced layers with chosen roots, and the three sectors by dense linear algebra."""

from __future__ import annotations

import itertools

import mpmath
import numpy as np
from scipy.linalg import null_space

ROOTS = {
    "generic": [1.7, 1.1, 0.6],
    "all equal": [1.3, 1.3, 1.3],
    "two equal": [2.0, 0.7, 0.7],
    "nearly equal": [1.0 + 1e-9, 1.0, 1.0 - 1e-7],
    "far apart": [1.0, 1e-4, 1e-8],
}


def layers_of(roots, depth):
    """Return ``Q_p diag(roots) Q_{p-1}^T`` with random orthogonal ``Q_p``."""
    n = len(roots)
    q = np.linalg.qr(np.random.normal(size=(depth + 1, n, n)))[0]
    return (q[1:] * np.asarray(roots)) @ np.swapaxes(q[:-1], 1, 2)


def exact_layers(roots, depth):
    """Return layers with these roots that are balanced without any rounding."""
    n = len(roots)
    q = np.array([np.eye(n)[np.random.permutation(n)] for _ in range(depth + 1)])
    q *= np.random.choice([-1.0, 1.0], size=(depth + 1, 1, n))
    return (q[1:] * np.asarray(roots)) @ np.swapaxes(q[:-1], 1, 2)


def size(array):
    """Return the Frobenius norm of everything."""
    return np.sqrt(np.sum(np.square(array)))


def imbalance(W):
    """Return ``W_{p+1}^T W_{p+1} - W_p W_p^T`` for all p."""
    return np.array([b.T @ b - a @ a.T for a, b in itertools.pairwise(W)])


def relative_imbalance(W):
    return max((size(c) for c in imbalance(W)), default=0.0) / size(W[0] @ W[0].T)


def product(matrices, n):
    """Return the product of matrices of which the first acts first."""
    result = np.eye(n)
    for matrix in matrices:
        result = matrix @ result
    return result


def constraint_matrix(W):
    """Differential of the imbalance, upper triangles only: ``(N-1) n (n+1) / 2`` rows."""
    n = W.shape[-1]
    upper = np.triu_indices(n)
    columns = []
    for V in np.eye(W.size).reshape(-1, *W.shape):
        moved = [
            V[p + 1].T @ W[p + 1] + W[p + 1].T @ V[p + 1] - V[p] @ W[p].T - W[p] @ V[p].T
            for p in range(len(W) - 1)
        ]
        columns.append(np.concatenate([m[upper] for m in moved]) if moved else np.zeros(0))
    return np.array(columns).T


def submersion_matrix(W):
    """Differential of the end-to-end matrix, ``n^2`` rows."""
    n = W.shape[-1]
    blocks = []
    for p in range(len(W)):
        after, before = product(W[p + 1 :], n), product(W[:p], n)
        blocks.append(np.kron(after, before.T))
    return np.hstack(blocks)


def dense_projectors(W):
    """Return the projectors onto (normal, vertical, horizontal) from numerical null spaces."""
    constraint, submersion = constraint_matrix(W), submersion_matrix(W)
    if len(W) == 1:
        zero = np.zeros((W.size, W.size))
        return zero, zero, np.eye(W.size)
    tangent = null_space(constraint)
    inside = tangent @ null_space(submersion @ tangent)
    tangent, vertical = tangent @ tangent.T, inside @ inside.T
    return np.eye(W.size) - tangent, vertical, tangent - vertical


def precise_projectors(W, digits=60):
    """Return the same projectors in multiple precision, for layers that are exactly balanced."""
    with mpmath.workdps(digits):

        def onto_rows(matrix):
            return matrix.T * mpmath.inverse(matrix * matrix.T) * matrix

        constraint = mpmath.matrix(constraint_matrix(W).tolist())
        # powers of the roots must not be rounded either
        rows = []
        n = W.shape[-1]
        layers = [mpmath.matrix(layer.tolist()) for layer in W]
        for i in range(n):
            for j in range(n):
                row = []
                for p in range(len(W)):
                    after, before = mpmath.eye(n), mpmath.eye(n)
                    for layer in layers[p + 1 :]:
                        after = layer * after
                    for layer in layers[:p]:
                        before = layer * before
                    row += [after[i, k] * before[m, j] for k in range(n) for m in range(n)]
                rows.append(row)
        normal = onto_rows(constraint)
        horizontal = onto_rows(mpmath.matrix(rows))
        normal, horizontal = (
            np.array(p.tolist(), dtype=float).reshape(W.size, W.size) for p in (normal, horizontal)
        )
    return normal, np.eye(W.size) - normal - horizontal, horizontal


def lifted(roots, depth, root_vec):
    """Return a vector of the root chart at ``diag(roots)`` as a covector, and its horizontal lift.

    The lift stands at the layers ``diag(roots)``. Entry by entry, so that nothing is lost however
    small a root is.
    """
    root = np.asarray(roots)
    row, column = root[:, None], root
    powers = row**depth, column**depth
    mean = (powers[0] + powers[1]) / (row + column)
    same = row == column
    difference = np.where(
        same, depth * row ** (depth - 1), (powers[0] - powers[1]) / np.where(same, 1, row - column)
    )
    symmetric, skew = (root_vec + root_vec.T) / 2, (root_vec - root_vec.T) / 2
    p = np.arange(1, depth + 1)[:, None, None]
    lift = row ** (depth - p) * column ** (p - 1) * (symmetric / mean + skew / difference)
    # kappa = difference / mean
    return difference / mean * symmetric + skew * mean / difference, lift
