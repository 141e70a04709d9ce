"""Geodesics of balanced layers of any widths and rank by dense linear algebra, and their tests.

Independent of the package. Layers are lists of matrices ``Q_p H Q_{p-1}^T`` with orthonormal
columns ``Q_0 .. Q_N`` and a symmetric H, kept as one flat vector, first layer first.
"""

import itertools

import numpy as np
from layer_flow import split
from scipy.integrate import solve_ivp

#: Widths and rank.
CHAINS = [
    ((4, 3, 5), 1),
    ((4, 3, 5), 2),
    ((4, 3, 5), 3),
    ((3, 5, 3), 2),
    ((3, 5, 3), 3),
    ((5, 2, 4), 1),
    ((5, 2, 4), 2),
    ((4, 3, 5, 4), 2),
    ((4, 3, 5, 4), 3),
    ((3, 3, 3, 3), 2),
    ((4, 5), 2),
    ((3, 3), 2),
    ((2, 5, 2), 2),
    ((3, 3, 3), 1),
]


def flat(layers):
    return np.concatenate([layer.ravel() for layer in layers])


def decomposed(layers, rank):
    """Return ``Q_0 .. Q_N`` and H of layers that are balanced up to rounding."""
    u, s, vt = np.linalg.svd(layers[0])
    bases, H = [vt[:rank].T, u[:, :rank]], np.diag(s[:rank])
    for layer in layers[1:]:
        bases.append(layer @ bases[-1] @ np.linalg.inv(H))
    return bases, H


def unpacked(vector, bases, rank):
    """Return changes of all Q and of H from the entries that they have freely."""
    sizes = np.cumsum([0, *(basis.size for basis in bases)])
    turns = [
        vector[a:b].reshape(basis.shape)
        for (a, b), basis in zip(itertools.pairwise(sizes), bases, strict=True)
    ]
    H = np.zeros((rank, rank))
    H[np.triu_indices(rank)] = vector[sizes[-1] :]
    return turns, H + H.T


def differential(bases, H, turns, change):
    return flat(
        [
            dQ @ H @ P.T + Q @ change @ P.T + Q @ H @ dP.T
            for (P, Q), (dP, dQ) in zip(
                itertools.pairwise(bases), itertools.pairwise(turns), strict=True
            )
        ]
    )


def tangent_map(layers, rank):
    """Return the matrix from changes of Q, H along Stiefel manifolds to tangent vectors.

    With a matrix of such changes as columns, and Q, H.
    """
    bases, H = decomposed(layers, rank)
    size = sum(basis.size for basis in bases) + rank * (rank + 1) // 2
    units, rows = np.eye(size), []
    for unit in units:
        turns, _ = unpacked(unit, bases, rank)
        products = [Q.T @ dQ for Q, dQ in zip(bases, turns, strict=True)]
        rows.append(np.concatenate([(x + x.T)[np.triu_indices(rank)] for x in products]))
    _, s, vt = np.linalg.svd(np.array(rows).T)
    free = vt[np.sum(s > 1e-9) :].T
    columns = [differential(bases, H, *unpacked(change, bases, rank)) for change in free.T]
    return np.array(columns).T, free, bases, H


def tangent_projector(layers, rank):
    """Return the orthogonal projector to the tangent space as a matrix."""
    u, s, _ = np.linalg.svd(tangent_map(layers, rank)[0], full_matrices=False)
    basis = u[:, s > 1e-4 * s[0]]
    return basis @ basis.T


def acceleration(layers, velocity, rank):
    """Return ``W''`` of a geodesic: the normal part of that of any curve with its velocity."""
    matrix, free, bases, H = tangent_map(layers, rank)
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    kept = s > 1e-4 * s[0]
    u, s, vt = u[:, kept], s[kept], vt[kept]
    turns, change = unpacked(free @ (vt.T @ ((u.T @ velocity) / s)), bases, rank)
    # Q'' = -Q Q'^T Q' stays on the Stiefel manifold, H'' = 0.
    bends = [-Q @ dQ.T @ dQ for Q, dQ in zip(bases, turns, strict=True)]
    curve = differential(bases, H, bends, np.zeros_like(H)) + 2 * flat(
        [
            dQ @ change @ P.T + Q @ change @ dP.T + dQ @ H @ dP.T
            for (P, Q), (dP, dQ) in zip(
                itertools.pairwise(bases), itertools.pairwise(turns), strict=True
            )
        ]
    )
    return curve - u @ (u.T @ curve)


def exp(W, V, widths, rank, tolerance=1e-12):
    """Return W and V at t = 1 of a geodesic, both flat."""
    size = W.size

    def rates(_, state):
        layers = split(state[:size], widths)
        return np.concatenate([state[size:], acceleration(layers, state[size:], rank)])

    solution = solve_ivp(
        rates, (0, 1), np.concatenate([W, V]), method="DOP853", rtol=tolerance, atol=tolerance / 10
    )
    return solution.y[:size, -1], solution.y[size:, -1]
