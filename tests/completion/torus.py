"""An oracle at n = 2, N = 2 across det = 0, that solves no path.

Points of size one are a hemisphere of radius 1/2 times a circle, on either side of det = 0, with
the sum m and the difference Theta of the rotations of both singular frames exchanged; where they
meet, at det = 0, is a flat torus. The crossing point on it minimizes a sum of two explicit angles.
"""

import numpy as np
from scipy.optimize import minimize


def _wrapped(angle):
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _coordinates(matrix):
    """Singular values, m, Theta and the sign of det."""
    u, s, vt = np.linalg.svd(matrix)
    v, sign = vt.T.copy(), 1
    for basis in (u, v):
        if np.linalg.det(basis) < 0:
            basis[:, 1] *= -1
            sign = -sign
    a, b = (np.arctan2(basis[1, 0], basis[0, 0]) for basis in (u, v))
    return s, a + b, a - b, sign


def _to_equator(s, angle, where):
    """Angle from a point of the hemisphere to one of the equator."""
    point = np.array([(s[0] - s[1]) * np.cos(angle), (s[0] - s[1]) * np.sin(angle), 0]) / s.sum()
    point[2] = 2 * np.sqrt(s[0] * s[1]) / s.sum()
    edge = np.array([np.cos(where), np.sin(where), 0])
    return 2 * np.arctan2(np.linalg.norm(point - edge), np.linalg.norm(point + edge))


def distance(first, last, n_grid=8):
    """Distance in the completion at n = 2, N = 2 of matrices with different signs of det."""
    (s, m, theta, sign), (q, n, phi, other) = map(_coordinates, (first, last))
    assert sign * other < 0
    if sign < 0:
        (s, m, theta), (q, n, phi) = (q, n, phi), (s, m, theta)

    def angle(at):
        before = np.hypot(_to_equator(s, m, at[0]), _wrapped(at[1] - theta))
        return 0.5 * (before + np.hypot(_to_equator(q, phi, at[1]), _wrapped(at[0] - n)))

    grid = np.linspace(-np.pi, np.pi, n_grid, endpoint=False)
    starts = sorted(((a, b) for a in grid for b in grid), key=angle)[:6]
    options = {"xatol": 1e-9, "fatol": 1e-15, "maxiter": 600}
    best = min(minimize(angle, x, method="Nelder-Mead", options=options).fun for x in starts)
    a, b = s.sum(), q.sum()
    return np.sqrt(2 * (a + b - 2 * np.sqrt(a * b) * np.cos(min(best, np.pi))))
