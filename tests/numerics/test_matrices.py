"""Turning frames of the root chart: against least squares, and exponentials against scipy."""

import numpy as np
import pytest
from scipy.linalg import expm, lstsq

from dln_manifolds.numerics.matrices import angular_velocities, rotation


def skew_basis(n):
    """Basis of the skew-symmetric matrices, shape ``(n (n-1) / 2, n, n)``, each of norm sqrt(2)."""
    rows, columns = np.triu_indices(n, 1)
    basis = np.zeros((rows.size, n, n))
    basis[np.arange(rows.size), rows, columns] = 1
    return basis - np.swapaxes(basis, 1, 2)


@pytest.mark.parametrize("depth", [1.5, 2, 8, 64])
@pytest.mark.parametrize("singular_values", [[3, 2, 1, 0.1], [2, 1, 1, 1e-9], [1, 1, 1, 1]])
def test_angular_velocities_solve_the_least_squares_problem(singular_values, depth):
    """Against a dense solver, also at equal and at tiny singular values."""
    rng = np.random.default_rng(0)
    n = 4
    left, right = np.linalg.qr(rng.standard_normal((2, n, n)))[0]
    root = left @ np.diag(np.array(singular_values, dtype=float)) @ right
    velocity = rng.standard_normal((n, n))
    damping = np.sum(root**2) / n / (depth - 1) ** 1.5
    basis = skew_basis(n)
    moves = [e @ root for e in basis] + [-root @ e for e in basis]
    matrix = np.stack([move.ravel() for move in moves], axis=1)
    # half the damping, and the elements of the basis have norm sqrt(2)
    penalty = np.sqrt(damping) * np.eye(len(moves))
    target = np.concatenate([velocity.ravel(), np.zeros(len(moves))])
    solution = lstsq(np.concatenate([matrix, penalty]), target)[0]
    expected = np.einsum("sk,kij->sij", solution.reshape(2, -1), basis)
    got = angular_velocities(root, velocity, depth)
    assert np.abs(got - expected).max() <= 1e-12 * np.abs(expected).max()


def test_frame_follows_a_rotation_at_large_depth():
    """A rotating multiple of an orthogonal matrix is at rest in the frame, up to the damping."""
    rng = np.random.default_rng(1)
    skew = rng.standard_normal((2, 5, 5))
    left, right = skew - np.swapaxes(skew, 1, 2)
    root = 3 * np.linalg.qr(rng.standard_normal((5, 5)))[0]
    velocity = left @ root - root @ right
    omega_left, omega_right = angular_velocities(root, velocity, 1e8)
    rest = velocity - omega_left @ root + root @ omega_right
    assert np.abs(rest).max() <= 1e-11 * np.abs(velocity).max()


@pytest.mark.parametrize("size", [0, 1e-9, 0.1, 0.25, 3, 100])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_rotation_is_the_exponential(n, size):
    """Against scipy; orthogonal, also after many halvings."""
    skew = np.random.default_rng(2).standard_normal((3, 2, n, n))
    skew -= np.swapaxes(skew, -1, -2)
    norm = np.linalg.norm(skew, axis=(-2, -1), keepdims=True)
    skew *= size / np.where(norm == 0, 1, norm) * np.array([1, 0.3, 0.01])[:, None, None, None]
    turn = rotation(skew)
    tolerance = 4e-16 * max(1, 4 * size)
    assert np.abs(turn - expm(skew)).max() <= 10 * tolerance
    assert np.abs(turn @ np.swapaxes(turn, -1, -2) - np.eye(n)).max() <= 10 * tolerance
