"""Geodesics of balanced layers of any widths, by dense linear algebra: no code of the package.

Horizontal geodesics upstairs lie over those of end-to-end matrices. Layers have shapes
``(d_p, d_(p-1))``; they are kept as one flat vector.
"""

import itertools
from functools import reduce

import numpy as np
from scipy.integrate import solve_ivp


def split(flat, widths):
    """Return the layers of flat vectors ``(..., n)``."""
    shapes = [(after, before) for before, after in itertools.pairwise(widths)]
    ends = np.cumsum([m * n for m, n in shapes])[:-1]
    parts = np.split(flat, ends, axis=-1)
    return [part.reshape(*part.shape[:-1], *s) for part, s in zip(parts, shapes, strict=True)]


def flat(layers):
    """Return layers as one vector."""
    return np.concatenate([layer.ravel() for layer in layers])


def end_to_end(layers):
    """Return ``W_N ... W_1``."""
    return reduce(lambda product, layer: layer @ product, layers)


def factors(X, rank, widths):
    """Return balanced layers ``Q_p diag(s)^(1/N) Q_(p-1)^T`` of a matrix, hidden Q_p random."""
    u, s, vt = np.linalg.svd(X)
    depth = len(widths) - 1
    hidden = [np.linalg.qr(np.random.normal(size=(d, rank)))[0] for d in widths[1:-1]]
    frames = [vt[:rank].T, *hidden, u[:, :rank]]
    root = s[:rank] ** (1 / depth)
    return [(after * root) @ before.T for before, after in itertools.pairwise(frames)]


def horizontal_lift(Z, layers):
    """Return the vector orthogonal to the fibre that the product maps to a tangent vector.

    It is the transpose of the differential applied to some covector, found by least squares.
    """
    n, m = layers[0].shape[1], layers[-1].shape[0]
    basis = np.eye(m * n).reshape(m * n, m, n)
    lifted, pushed = [], np.zeros((m * n, m, n))
    for p in range(len(layers)):
        before = end_to_end([np.eye(n), *layers[:p]])
        after = end_to_end([*layers[p + 1 :], np.eye(m)]) if layers[p + 1 :] else np.eye(m)
        lifted.append(after.T @ basis @ before.T)
        pushed += after @ lifted[-1] @ before
    covector = np.linalg.lstsq(pushed.reshape(m * n, -1).T, Z.ravel(), rcond=1e-10)[0]
    return [np.tensordot(covector, part, 1) for part in lifted]


def imbalance(first, second):
    """Return the upper triangles of the polarized ``W_(p+1)^T V_(p+1) - W_p V_p^T``, stacked."""
    rows = []
    for p in range(len(first) - 1):
        table = np.swapaxes(first[p + 1], -1, -2) @ second[p + 1]
        table = table - first[p] @ np.swapaxes(second[p], -1, -2)
        table = table + np.swapaxes(table, -1, -2)
        upper = np.triu_indices(table.shape[-1])
        rows.append(table[(..., *upper)])
    return np.concatenate(rows, axis=-1)


def follow(layers, velocity, widths, tolerance=1e-12):
    """Return layers and velocity at t = 1 of the geodesic in the balanced layers.

    ``W''`` is normal to the constraint that keeps layers balanced: of the solutions of its second
    derivative, the one of least norm.
    """
    size = flat(layers).size
    every = split(np.eye(size), widths)

    def rates(_, state):
        W, V = split(state[:size], widths), split(state[size:], widths)
        constraint = imbalance(W, every).T
        bend = np.linalg.lstsq(constraint, -imbalance(V, V), rcond=1e-7)[0]
        return np.concatenate([state[size:], bend])

    start = np.concatenate([flat(layers), flat(velocity)])
    solution = solve_ivp(rates, (0, 1), start, method="DOP853", rtol=tolerance, atol=tolerance / 10)
    end = solution.y[:, -1]
    return split(end[:size], widths), split(end[size:], widths)


def exp(Z, X, rank, widths):
    """Return the end point of the geodesic of end-to-end matrices with a velocity."""
    layers = factors(X, rank, widths)
    return end_to_end(follow(layers, horizontal_lift(Z, layers), widths)[0])
