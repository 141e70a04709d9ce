"""The law of root singular values under the Gibbs measure of a spectral loss, by quadrature.

Literal: ``prod |l_i^2 - l_j^2| a_ij^(1/2k) prod l_i^p exp(-b E / k) dl``, ``p = m + n - 2r``, with
the ``a_ij`` of integer depths as sums of powers.
"""

import numpy as np

TARGET = 1.5


def energy(X):
    """Half the squared distance of singular values to the target: the squared distance to O(n)."""
    values = np.linalg.svd(X, compute_uv=False)
    return 0.5 * np.sum((values - TARGET) ** 2, axis=-1)


def gradient(X):
    u, s, vt = np.linalg.svd(X, full_matrices=False)
    return (u * (s - TARGET)[..., None, :]) @ vt


class RadialLaw:
    """Of rank 1 or 2; ``roots``, shape ``(n_nodes, r)``, descending, have the ``weights``."""

    def __init__(self, rank, depth, beta, anisotropy=1.0, surplus=0):
        scale = beta / anisotropy
        top = (TARGET + 9 / np.sqrt(scale)) ** (1 / depth)
        self.largest = (np.arange(1500) + 0.5) / 1500 * top
        x, w = np.polynomial.legendre.leggauss(60)
        ratios, shares = ((x + 1) / 2, w / 2) if rank == 2 else (np.ones(1), np.ones(1))
        first, ratio = (v.ravel() for v in np.meshgrid(self.largest, ratios, indexing="ij"))
        self.roots = np.stack([first, first * ratio][:rank], axis=-1)
        loss = 0.5 * np.sum((self.roots**depth - TARGET) ** 2, axis=-1)
        density = np.tile(shares, 1500) * np.exp(-scale * loss)
        density *= np.prod(self.roots, axis=-1) ** surplus
        if rank == 2:
            second = first * ratio
            a = sum(first ** (2 * (depth - 1 - m)) * second ** (2 * m) for m in range(depth))
            density *= first * (first**2 - second**2) * a ** (0.5 / anisotropy)
        self.weights = density / density.sum()

    def mean(self, function):
        return self.weights @ function(self.roots)

    def draw(self, count, shape, depth, rng):
        """Draw matrices: roots among the nodes, uniform bases; none that double precision loses."""
        roots = self.roots[rng.choice(len(self.roots), count, p=self.weights)]
        roots = np.maximum(roots, 1e-13 ** (1 / depth) * roots[:, :1])
        left, right = (
            np.linalg.qr(rng.normal(size=(count, size, roots.shape[-1])))[0] for size in shape
        )
        return (left * roots[:, None, :] ** depth) @ right.swapaxes(-1, -2)

    def quantiles(self, count):
        """Return quantiles of the largest root that cut its law into equal parts."""
        marginal = self.weights.reshape(1500, -1).sum(axis=1)
        ends = self.largest + self.largest[0]
        return np.interp(np.arange(1, count) / count, np.cumsum(marginal), ends)


def observables(roots, depth):
    """Energy, mean root, gap of the outer roots, a low moment of X; shape ``(..., 4)``."""
    values = roots**depth
    loss = 0.5 * np.sum((values - TARGET) ** 2, axis=-1)
    gap = roots[..., 0] - roots[..., -1]
    return np.stack([loss, roots.mean(axis=-1), gap, values.sum(axis=-1)], axis=-1)
