"""Second derivatives of the Lagrangian of the root chart."""

import mpmath as mp
import numpy as np
import pytest
import spectral_reference as ref
from spectral_matrices import matrices
from spectral_reference import DEPTHS, EPS, check

from dln_manifolds.geometry.hamiltonian import SecondVariation, nodal_state

SEPARATE = ["random", "separate", "gap 0.03", "midway"]
# Closer than a relative 1e-4 in X: there the derivative is taken nearby, on purpose.
CROWDED = ["identity", "scaled orthogonal", "pairs", "nearly pairs", "gap 1e-9"]


def normal(shape, seed=0):
    return np.random.default_rng([*shape, seed]).standard_normal(shape)


def bilinear(variation, first, second):
    """Second derivative of L along two directions of (T, v)."""
    momentum_dir, force_dir = variation.apply(*first)
    return np.sum(momentum_dir * second[1] + force_dir * second[0], axis=(-2, -1))


def reference_table(root, velocity, directions, depth):
    """Second derivatives of L along all pairs of directions, by difference quotients in mpmath."""
    with mp.workdps(120):
        t, v, last = ref.matrix(root), ref.matrix(velocity), mp.mpf(depth)
        moves = [(ref.matrix(d), ref.matrix(w)) for d, w in directions]
        step = mp.mpf("1e-30")

        def lagrangian(*chosen):
            moved_t, moved_v = t, v
            for d, w in chosen:
                moved_t, moved_v = moved_t + step * d, moved_v + step * w
            return ref.root_quadratic(moved_t, moved_v, last, 1) / 2

        base, single = lagrangian(), [lagrangian(move) for move in moves]
        return np.array(
            [
                [
                    float((lagrangian(a, b) - single[i] - single[j] + base) / step**2)
                    for j, b in enumerate(moves)
                ]
                for i, a in enumerate(moves)
            ]
        )


def table_error(kind, depth):
    """Largest error over pairs of directions, relative to the largest entry."""
    root, velocity = matrices(kind, 3)[0], normal((3, 3))
    directions = normal((4, 2, 3, 3), 1)
    directions[0, 1] = 0
    directions[1, 0] = 0
    wanted = reference_table(root, velocity, directions, depth)
    variation = SecondVariation(nodal_state(root, depth, velocity=velocity), depth)
    got = np.array([[bilinear(variation, a, b) for b in directions] for a in directions])
    return np.abs(got - wanted).max() / np.abs(wanted).max()


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("kind", SEPARATE)
def test_second_derivatives(kind, depth):
    check(table_error(kind, depth), 1e-11)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("kind", CROWDED)
def test_second_derivatives_at_crowded_singular_values(kind, depth):
    check(table_error(kind, depth), 1e-3)


@pytest.mark.parametrize("depth", [1, 1.5, 2, 3, 8])
@pytest.mark.parametrize("kind", SEPARATE)
def test_derivative_of_momentum_and_force(kind, depth):
    root, velocity = matrices(kind, 4)[0], normal((4, 4))
    root_dir, velocity_dir = normal((2, 4, 4), 1)
    root_dir *= np.linalg.svd(root, compute_uv=False)[-1] / np.linalg.norm(root_dir)

    def momentum_and_force(step):
        state = nodal_state(root + step * root_dir, depth, velocity=velocity + step * velocity_dir)
        return np.stack([state.leave(state.momentum), -state.leave(state.gradient)])

    h = 0.01 / depth
    f = [momentum_and_force(k * h) - momentum_and_force(-k * h) for k in (1, 2, 3)]
    wanted = (45 * f[0] - 9 * f[1] + f[2]) / (60 * h)
    state = nodal_state(root, depth, velocity=velocity)
    got = SecondVariation(state, depth).apply(root_dir, velocity_dir)
    for name, x, y in zip(("momentum", "force"), got, wanted, strict=True):
        size = max(np.linalg.norm(y), np.linalg.norm(wanted[0]))
        check(np.linalg.norm(x - y) / size, 1e-10, lambda _, name=name: name)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("kind", [*SEPARATE, *CROWDED, "ill"])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_second_derivatives_are_symmetric(kind, n, depth):
    root, velocity = matrices(kind, n, 3), normal((3, n, n))
    variation = SecondVariation(nodal_state(root, depth, velocity=velocity), depth)
    first, second = normal((2, 3, n, n), 1), normal((2, 3, n, n), 2)
    there, back = bilinear(variation, first, second), bilinear(variation, second, first)
    sizes = [np.abs(bilinear(variation, x, x)) for x in (first, second)]
    applied = variation.apply(*first)
    size = np.sqrt(np.sum(np.square(applied), axis=(0, -2, -1)) * np.sum(second**2, (0, -2, -1)))
    # quotients of differences of singular values lose the gap twice
    gap = 1e-4 / depth if kind in CROWDED else 1e-2
    check(abs(there - back), 100 * EPS / gap**2 * (size + sum(sizes)))


@pytest.mark.parametrize("depth", [1.5, 3])
def test_apply_is_linear(depth):
    root, velocity = matrices("random", 4)[0], normal((4, 4))
    variation = SecondVariation(nodal_state(root, depth, velocity=velocity), depth)
    first, second = normal((2, 4, 4), 1), normal((2, 4, 4), 2)
    combined = np.array(variation.apply(*(3 * first - second)))
    separate = 3 * np.array(variation.apply(*first)) - np.array(variation.apply(*second))
    check(np.linalg.norm(combined - separate), 1e-12 * np.linalg.norm(combined))


@pytest.mark.parametrize("depth", [1, 1.5, 3])
@pytest.mark.parametrize("kind", ["random", "gap 0.03"])
def test_velocity_directions_are_weighed_by_the_metric(kind, depth):
    root, velocity = matrices(kind, 4)[0], normal((4, 4))
    state = nodal_state(root, depth, velocity=velocity)
    direction = normal((4, 4), 1)
    got, _ = SecondVariation(state, depth).apply(np.zeros((4, 4)), direction)
    moved = nodal_state(root, depth, velocity=direction)
    wanted = moved.leave(moved.momentum)
    check(np.linalg.norm(got - wanted), 100 * EPS * np.linalg.norm(wanted))
