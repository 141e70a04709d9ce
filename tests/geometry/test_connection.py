"""The connection of the root chart and the linearized geodesic flow, at any gap of the roots."""

import mpmath as mp
import numpy as np
import pytest
import spectral_reference as ref
from spectral_matrices import matrices, rotation
from spectral_reference import check

from dln_manifolds.geometry import connection
from dln_manifolds.geometry.connection import linearized_rates, root_connection
from dln_manifolds.geometry.frame import Frame

DEPTHS = [1.5, 2, 3, 12, 30, 100]
GAPS = [0.0, 1e-16, 1e-8, 1e-4, 6.9e-3, 7.1e-3, 1e-2, 0.04, 0.3]
CROWDED = ["identity", "triple", "ladder", "pairs", "gap 1e-9", "midway"]
STEP = mp.mpf("1e-30")


def normal(shape, seed=0):
    return np.random.default_rng([*shape, seed]).standard_normal(shape)


def at_gap(gap, depth):
    """A root of 3 x 3 matrices with this gap of two singular values of X."""
    values = np.exp(np.array([1 + gap, 1.0, 0.0]) / depth)
    if gap == 1e-16:
        values[0] = np.nextafter(values[1], 9)
    return (rotation(3, 1) * values) @ rotation(3, 2)


def rates(root, momentum, root_dir, momentum_dir, depth):
    """The two rates of a single point along a single direction."""
    given = root[None], momentum[None], root_dir[None, None], momentum_dir[None, None]
    return np.stack(linearized_rates(*given, depth)[1:])[:, 0, 0]


def reference_rates(root, momentum, root_dir, momentum_dir, depth):
    """``(dH/dP, -dH/dT)`` differentiated: second differences of H in mpmath, about 30 digits."""
    n = len(root)
    found = np.empty((2, n, n))
    with mp.workdps(120):
        t, p, d, q = (ref.matrix(value) for value in (root, momentum, root_dir, momentum_dir))

        def energy(t, p):
            return ref.root_quadratic(t, p, mp.mpf(depth), -1) / 2

        t_moved, p_moved = t + STEP * d, p + STEP * q
        base, moved = energy(t, p), energy(t_moved, p_moved)
        for i in range(n):
            for j in range(n):
                unit = mp.zeros(n)
                unit[i, j] = STEP
                by_p = energy(t_moved, p_moved + unit) - moved - energy(t, p + unit) + base
                by_t = energy(t_moved + unit, p_moved) - moved - energy(t + unit, p) + base
                found[:, i, j] = float(by_p / STEP**2), -float(by_t / STEP**2)
    return found


def relative_error(got, wanted):
    return np.abs(got - wanted).max() / np.abs(wanted).max()


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("depth", DEPTHS)
def test_linearized_rates_at_any_gap(depth, gap):
    given = at_gap(gap, depth), *normal((3, 3, 3))
    check(relative_error(rates(*given, depth), reference_rates(*given, depth)), 1e-12)


@pytest.mark.parametrize("depth", [1, 2, 12])
@pytest.mark.parametrize("kind", CROWDED)
def test_linearized_rates_at_several_close_roots(kind, depth):
    given = matrices(kind, 4)[0], *normal((3, 4, 4))
    check(relative_error(rates(*given, depth), reference_rates(*given, depth)), 1e-12)


@pytest.mark.parametrize("gap", [7e-3, 1e-2, 0.3])
@pytest.mark.parametrize("depth", [1.0, 2.5, 3.0, 12.0, 100.0])
def test_closed_form_and_circle_agree(gap, depth, monkeypatch):
    """At the gap where one takes over from the other, and where all is well separated."""
    rng = np.random.default_rng(0)
    values = np.exp(np.array([1.0, 1.0, 1.0, 0.0]) + gap * np.array([2, 1, 0, 0])) ** (1 / depth)
    left, right = (np.linalg.qr(rng.normal(size=(2, 4, 4)))[0] for _ in range(2))
    root, momentum = (left * values) @ right, rng.normal(size=(2, 4, 4))
    directions = rng.normal(size=(2, 2, 3, 4, 4))
    monkeypatch.setattr(connection, "_SPREAD", 0.4)
    results = []
    for crowded in (0.0, np.inf):
        monkeypatch.setattr(connection, "_CROWDED", crowded)
        results.append(np.stack(linearized_rates(root, momentum, *directions, depth)[1:]))
    check(relative_error(*results), 1e-12)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_batches_mix_crowded_and_separate_members(n):
    root = np.stack([np.eye(n), matrices("separate", n)[0], 2 * np.eye(n)])
    momentum, directions = normal((3, n, n)), normal((2, 3, 4, n, n), 1)
    together = linearized_rates(root, momentum, *directions, 3.0)[1:]
    for b in range(3):
        for k in range(4):
            alone = rates(root[b], momentum[b], *directions[:, b, k], 3.0)
            check(relative_error(np.stack([part[b, k] for part in together]), alone), 1e-12)


@pytest.mark.parametrize("depth", [1.5, 2, 12])
@pytest.mark.parametrize("gap", GAPS)
def test_root_connection(gap, depth):
    """``<Gamma(w, xi), v>`` is Koszul's combination of derivatives of the metric."""
    root, (v, xi) = at_gap(gap, depth), normal((2, 3, 3))
    with mp.workdps(80):
        t, v_exact, xi_exact = ref.matrix(root), ref.matrix(v), ref.matrix(xi)

        def metric(t, a, b):
            squares = (ref.root_quadratic(t, a + sign * b, mp.mpf(depth), 1) for sign in (1, -1))
            return (next(squares) - next(squares)) / 4

        def along(direction, a, b):
            return (metric(t + STEP * direction, a, b) - metric(t, a, b)) / STEP

        wanted = np.empty((3, 3))
        for i in range(3):
            for j in range(3):
                w = mp.zeros(3)
                w[i, j] = 1
                total = along(xi_exact, v_exact, w) + along(w, v_exact, xi_exact)
                wanted[i, j] = float((total - along(v_exact, xi_exact, w)) / 2)
    got = root_connection(Frame.of_root(root[None], depth), v[None], xi[None])[0]
    check(relative_error(got, wanted), 1e-12)
