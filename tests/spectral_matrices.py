"""Singular values and dense matrices for the tests."""

import numpy as np


def rotation(n, seed):
    """Orthogonal matrix, uniform in O(n)."""
    q, r = np.linalg.qr(np.random.default_rng([n, seed]).standard_normal((n, n)))
    return q * np.sign(np.diagonal(r))


def _pairs(n, gap):
    # two, two and so on equal singular values, or nearly so: 1, 1 + gap, 2, 2 + 2 gap, ...
    return (1 + np.arange(n) // 2) * (1 + gap * (np.arange(n) % 2))


_SINGULAR_VALUES = {
    "separate": lambda n: 1 + np.arange(n) ** 1.5,
    "identity": np.ones,
    "scaled orthogonal": lambda n: np.full(n, 3.7),
    "pairs": lambda n: _pairs(n, 0.0),
    "triple": lambda n: np.where(np.arange(n) < 3, 2.0, 0.5),
    "nearly pairs": lambda n: _pairs(n, 1e-12),
    "gap 1e-15": lambda n: _pairs(n, 1e-15),
    "gap 1e-9": lambda n: _pairs(n, 1e-9),
    "gap 1e-6": lambda n: _pairs(n, 1e-6),
    "gap 1e-3": lambda n: _pairs(n, 1e-3),
    "gap 0.03": lambda n: _pairs(n, 0.03),
    "ladder": lambda n: 1 + 1e-5 * np.arange(n),
    "midway": lambda n: 1.02 ** np.arange(n),
    "ill": lambda n: np.geomspace(1, 1e-4, n),
    "quite ill": lambda n: np.geomspace(1, 1e-8, n),
    "very ill": lambda n: np.geomspace(1, 1e-12, n),
    "ill pairs": lambda n: np.where(np.arange(n) < n // 2, 1.0, 1e-7),
}


def singular_values(kind, n):
    """Singular values of a kind of matrix, in no particular order."""
    return _SINGULAR_VALUES[kind](n)


def matrices(kind, n, count=1):
    """Matrices of a kind, shape ``(count, n, n)``: Gaussian, or by their singular values."""
    if kind == "random":
        return np.random.default_rng(n).standard_normal((count, n, n))
    if kind == "identity":
        return np.broadcast_to(np.eye(n), (count, n, n)).copy()
    s = singular_values(kind, n)
    return np.stack(
        [(rotation(n, 2 * k) * s) @ rotation(n, 2 * k + 1).T for k in range(1, count + 1)]
    )


def singular_value_triples():
    """Triples in descending order: the third value between, midway, equal, above and below."""
    one_up, one_down = np.nextafter(1.0, 2.0), np.nextafter(1.0, 0.0)
    gaps = [0, 1e-15, 1e-12, 1e-9, 1e-6, 1e-4, 1e-3, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 1]
    tops = [one_up, *(1.0 + gap for gap in gaps)]
    plain = []
    for top in tops:
        plain += [
            (top, 1 + (top - 1) / 3, 1),
            (top, np.sqrt(top), 1),
            (top, (top + 1) / 2, 1),
            (top, top, 1),
            (top, 1, 1),
            (top, 1, 1 / 7),
            (30, top, 1),
        ]
    for ratio in (4, 10, 40, 1e3, 1e6, 1e12):
        plain += [
            (ratio, np.sqrt(ratio), 1),
            (ratio, ratio, 1),
            (ratio, ratio / 1.02, 1),
            (ratio, 1.02, 1),
            (ratio, 1, 1),
        ]
    plain += [(1, one_down, 1e-12), (one_up, 1, one_down), (1e12, one_up, one_down)]
    rng = np.random.default_rng(1)
    exponents = rng.uniform(-16, 12, (80, 2))
    first = 1 + 10 ** exponents.min(axis=1)
    plain += list(zip(first + 10 ** exponents.max(axis=1), first, np.ones(80), strict=True))
    plain = np.array(plain)
    few = np.array([(1, 1, 1), (one_up, 1, 1), (1.001, 1.0005, 1), (2, 1.5, 1), (1e12, 3, 1)])
    scaled = [few * scale for scale in (1e-100, 1e-50, 1e-12, 1e-3, 7.0, 1e6, 1e50, 1e88)]
    values = np.concatenate([plain, *scaled, few * 1e-112 * 1e12, few[:4] * 1e100])
    values = np.unique(-np.sort(-values, axis=-1), axis=0)
    values.flags.writeable = False
    return values
