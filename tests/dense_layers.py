"""Balanced layers of any widths and rank as lists of matrices, and dense linear algebra of them.

Nothing here knows of frames: tangent spaces are ranges of differentials, written out.
"""

import itertools

import numpy as np
from scipy.linalg import null_space

# Widths and rank.
NETWORKS = [
    ((4, 3, 5), 3),
    ((4, 3, 5), 2),
    ((4, 3, 5), 1),
    ((3, 5, 3), 3),
    ((3, 5, 3), 2),
    ((3, 5, 4, 3), 3),
    ((3, 5, 4, 3), 2),
    ((5, 2, 4), 2),
    ((5, 2, 4), 1),
    ((4, 2, 3, 4), 2),
    ((3, 3, 3, 3), 2),
    ((2, 2, 2, 2), 2),
    ((3, 4), 3),
    ((4, 3), 2),
    ((3, 3, 5), 3),
    ((1, 3, 1), 1),
    ((2, 3, 2, 3, 2), 2),
]

ROOTS = {
    "generic": [1.7, 1.1, 0.6],
    "1e-9 apart": [1.0 + 1e-9, 1.0, 1.0 - 1e-9],
    "1e-16 apart": [1.0 + 2.3e-16, 1.0, 1.0 - 1.2e-16],
    "all equal": [1.3, 1.3, 1.3],
}


def name_of(network):
    """Return a name for ids of tests."""
    widths, rank = network
    return f"{'-'.join(map(str, widths))} r{rank}"


def bases_of(widths, rank):
    """Return random ``Q_0, ..., Q_N``."""
    return [np.linalg.qr(np.random.normal(size=(width, rank)))[0] for width in widths]


def layers_of(widths, roots):
    """Return balanced layers ``Q_p diag(roots) Q_{p-1}^T`` with random bases, in a list."""
    roots = np.asarray(roots)
    bases = bases_of(widths, len(roots))
    return [(after * roots) @ before.T for before, after in itertools.pairwise(bases)]


def case(network, kind="generic"):
    """Return random balanced layers of a network."""
    widths, rank = network
    return layers_of(widths, ROOTS[kind][:rank])


def vector(layers):
    """Return the entries of layers, row by row: coordinates that need no common shape."""
    return np.concatenate([np.ravel(layer) for layer in layers])


def like(layers, entries):
    """Return matrices of the shapes of layers from entries."""
    ends = np.cumsum([layer.size for layer in layers])[:-1]
    parts = np.split(np.asarray(entries), ends)
    return [part.reshape(layer.shape) for part, layer in zip(parts, layers, strict=True)]


def units(layers):
    """Return all layers with a single entry one, as lists of matrices."""
    return [like(layers, row) for row in np.eye(sum(layer.size for layer in layers))]


def product(matrices):
    """Return the product of matrices of which the first acts first."""
    result = matrices[0]
    for matrix in matrices[1:]:
        result = matrix @ result
    return result


def product_differential(layers, moved):
    """Return ``sum_p W_N .. V_p .. W_1``."""
    return sum(product([*layers[:p], moved[p], *layers[p + 1 :]]) for p in range(len(layers)))


def product_matrix(layers):
    """Return the matrix of the differential of the product, on entries."""
    return np.array([product_differential(layers, unit).ravel() for unit in units(layers)]).T


def constraint_matrix(layers):
    """Return the matrix of the differentials of balance and, by its own SVD, of every rank."""
    width = max(max(layer.shape) for layer in layers)
    rank = np.linalg.matrix_rank(layers[0], tol=1e-6)
    corners = [(null_space(w.T, rcond=1e-6), null_space(w, rcond=1e-6)) for w in layers]
    columns = []
    for unit in units(layers):
        rows = [np.zeros(0)]
        for (w, v), (w_next, v_next) in itertools.pairwise(zip(layers, unit, strict=True)):
            moved = v_next.T @ w_next - v @ w.T
            rows.append((moved + moved.T).ravel())
        if rank < width:
            rows += [
                (left.T @ v @ right).ravel() for v, (left, right) in zip(unit, corners, strict=True)
            ]
        columns.append(np.concatenate(rows))
    return np.array(columns).T


def bases_from(layers):
    """Return bases ``Q_0, ..., Q_N`` with ``W_p = Q_p H Q_{p-1}^T``, H positive, and their H.

    Read off from left to right, without singular vectors of H.
    """
    rank = np.linalg.matrix_rank(layers[0], tol=1e-6)
    right_t = np.linalg.svd(layers[0])[2][:rank]
    values, turn = np.linalg.eigh(right_t @ layers[0].T @ layers[0] @ right_t.T)
    positive = (turn * np.sqrt(values)) @ turn.T
    bases = [right_t.T]
    for layer in layers:
        bases.append(layer @ bases[-1] @ np.linalg.inv(positive))
    return bases, positive


def motions(layers):
    """List all velocities ``(A_0, ..., A_N, S)`` of ``exp(A_p) Q_p`` and of H, entry by entry."""
    bases, positive = bases_from(layers)
    zero = [np.zeros((len(basis), len(basis))) for basis in bases], np.zeros_like(positive)
    found = []
    for p, basis in enumerate(bases):
        for skew in skew_basis(len(basis)):
            found.append(([*zero[0][:p], skew, *zero[0][p + 1 :]], zero[1]))
    for i, j in itertools.combinations_with_replacement(range(len(positive)), 2):
        change = np.zeros_like(positive)
        change[i, j] = change[j, i] = 1.0
        found.append((zero[0], change))
    return found


def velocity(layers, bases, skews, change):
    """Return the first derivative of ``exp(t A_p) Q_p (H + t S) Q_{p-1}^T exp(-t A_{p-1})``."""
    moved = []
    for p, layer in enumerate(layers):
        core = bases[p + 1] @ change @ bases[p].T
        moved.append(skews[p + 1] @ layer - layer @ skews[p] + core)
    return moved


def acceleration(layers, bases, skews, change):
    """Return the second derivative of the same curve."""
    moved = []
    for p, layer in enumerate(layers):
        core, after, before = bases[p + 1] @ change @ bases[p].T, skews[p + 1], skews[p]
        turned = after @ after @ layer + layer @ before @ before - 2 * after @ layer @ before
        moved.append(turned + 2 * (after @ core - core @ before))
    return moved


def motion_matrix(layers):
    """Return the matrix of the differential of the parametrization: its range is tangent."""
    bases, _ = bases_from(layers)
    return np.array([vector(velocity(layers, bases, *motion)) for motion in motions(layers)]).T


def curve_through(layers, entries):
    """Return skews and a change of H that move layers with a given velocity."""
    shares = np.linalg.lstsq(motion_matrix(layers), entries, rcond=1e-10)[0]
    found = motions(layers)
    skews = [
        sum(x * m[0][p] for x, m in zip(shares, found, strict=True)) for p in range(len(layers) + 1)
    ]
    return skews, sum(x * m[1] for x, m in zip(shares, found, strict=True))


def range_of(matrix):
    """Return an orthonormal basis of the range, in columns; fail unless the rank is plain."""
    left, values, _ = np.linalg.svd(matrix, full_matrices=False)
    rank = int(np.sum(values > 1e-6 * values[:1].sum()))
    assert rank == len(values) or values[rank] <= 1e-11 * values[0]
    return left[:, :rank]


def dense_bases(layers):
    """Return orthonormal bases of the horizontal, the vertical and the normal space, in columns."""
    tangent = range_of(motion_matrix(layers))
    moved = product_matrix(layers) @ tangent
    _, values, right_t = np.linalg.svd(moved)
    rank = int(np.sum(values > 1e-6 * values[0]))
    assert rank == len(values) or values[rank] <= 1e-11 * values[0]
    normal = null_space(tangent.T) if tangent.shape[0] > tangent.shape[1] else tangent[:, :0]
    return tangent @ right_t[:rank].T, tangent @ right_t[rank:].T, normal


def skew_basis(n):
    """Return an orthonormal basis of the skew matrices in the Frobenius metric."""
    rows, columns = np.triu_indices(n, 1)
    basis = np.zeros((len(rows), n, n))
    index = np.arange(len(rows))
    basis[index, rows, columns], basis[index, columns, rows] = np.sqrt(0.5), -np.sqrt(0.5)
    return basis


def orbit_velocities(layers):
    """Return the velocities of the action along an orthonormal basis of the Lie algebra, in rows.

    With the place p and the skew matrix of each.
    """
    rows, generators = [], []
    for p in range(len(layers) - 1):
        for skew in skew_basis(len(layers[p])):
            moved = [np.zeros_like(layer) for layer in layers]
            moved[p], moved[p + 1] = skew @ layers[p], -layers[p + 1] @ skew
            rows.append(vector(moved))
            generators.append((p, skew))
    return np.reshape(rows, (len(rows), sum(layer.size for layer in layers))), generators
