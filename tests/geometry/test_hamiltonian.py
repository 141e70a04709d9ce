"""The Hamiltonian system of the root chart: energy, duality, and its gradient."""

import mpmath as mp
import numpy as np
import pytest
import root_chart as chart
import spectral_reference as ref
from spectral_matrices import matrices, rotation
from spectral_reference import DEPTHS, EPS, check

from dln_manifolds.geometry import hamiltonian
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.hamiltonian import nodal_state

EQUAL = ["identity", "scaled orthogonal", "triple"]
CLOSE = ["gap 1e-15", "gap 1e-9", "gap 1e-6", "gap 1e-3", "gap 0.03", "ladder", "midway"]


def normal(shape, seed=0):
    return np.random.default_rng([*shape, seed]).standard_normal(shape)


def reference_gradient(root, momentum, depth):
    """``dH/dT`` by mpmath: a difference quotient of the energy, accurate to about 30 digits."""
    with mp.workdps(100):
        exact = ref.matrix(momentum)
        return ref.gradient(
            lambda t: ref.root_quadratic(t, exact, mp.mpf(depth), -1) / 2, ref.matrix(root)
        )


def gradient_error(root, momentum, depth, wanted):
    """Error of ``dH/dT`` relative to its norm."""
    state = nodal_state(root, depth, momentum=momentum)
    with mp.workdps(100):
        error = ref.norm(ref.matrix(state.leave(state.gradient)) - wanted)
        # At N = 1 the gradient vanishes, and rounding shows at the scale of its terms.
        size = ref.norm(wanted) if depth > 1 else np.sum(momentum**2) / state.roots[..., -1]
        return float(error / size)


def bound(root, depth):
    """Relative error that the gradient may have.

    Rounding of T changes the gradient by cond(T) eps, and near coinciding singular values, where
    kappa varies on the scale 1 / N, by N^2 eps. The quotient of differences loses one digit where
    it takes over from the sum for close pairs.
    """
    return 1000 * EPS * np.linalg.cond(root) + 4 * EPS * depth**2


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("kind", ["random", "separate", *EQUAL, *CLOSE, "ill"])
def test_gradient(kind, depth):
    root, momentum = matrices(kind, 3)[0], normal((3, 3))
    wanted = reference_gradient(root, momentum, depth)
    check(gradient_error(root, momentum, depth, wanted), bound(root, depth))


def special(kind, n):
    return np.diag([1.0, 1.0, 2.0, 2.0]) if kind == "diag(1,1,2,2)" else matrices(kind, n)[0]


@pytest.mark.parametrize("depth", [1.5, 3])
@pytest.mark.parametrize("kind", ["diag(1,1,2,2)", "pairs", "nearly pairs", "midway"])
def test_gradient_at_two_pairs(kind, depth):
    root, momentum = special(kind, 4), normal((4, 4))
    wanted = reference_gradient(root, momentum, depth)
    check(gradient_error(root, momentum, depth, wanted), bound(root, depth))


@pytest.mark.parametrize("gap", np.geomspace(1e-16, 0.5, 12))
@pytest.mark.parametrize("third", ["apart", "between"])
def test_gradient_at_all_gaps(third, gap):
    values = {"apart": [1 + gap, 1, 0.4], "between": [1 + gap, 1 + gap / 3, 1]}[third]
    root, momentum = rotation(3, 0) * values @ rotation(3, 1), normal((3, 3))
    wanted = reference_gradient(root, momentum, 3)
    check(gradient_error(root, momentum, 3, wanted), bound(root, 3))


@pytest.mark.parametrize("depth", [1.5, 4])
@pytest.mark.parametrize("n", [12, 60])
def test_quotients_of_many_pairs_lose_no_more_than_those_of_few(n, depth, monkeypatch):
    """Against the sum of all pairs, however far: just above the bound, and at all gaps."""
    close = hamiltonian._CLOSE * hamiltonian._FEW / n
    ladder = np.exp(-1.01 * close / depth * np.arange(n))
    random = np.linalg.svd(normal((n, n)), compute_uv=False) ** (1 / depth)
    roots = np.stack([ladder, random, np.exp(-np.geomspace(1e-16, 0.5, n)[::-1])])
    points = rotation(n, 0) * roots[:, None, :] @ rotation(n, 1)
    momentum = normal((3, n, n))
    got = nodal_state(points, depth, momentum=momentum)
    monkeypatch.setattr(hamiltonian, "_CLOSE", 10.0 * n)
    wanted = nodal_state(points, depth, momentum=momentum)
    assert not np.array_equal(got.gradient, wanted.gradient)
    errors = np.linalg.norm(got.gradient - wanted.gradient, axis=(1, 2))
    check(errors / np.linalg.norm(wanted.gradient, axis=(1, 2)), 1000 * EPS)


def layered_energy(t, momentum, layers):
    """Energy without a decomposition: ``X = T (T^T T)^((N-1)/2)`` is a polynomial for odd N.

    With D its differential, the cometric of the chart is ``D^-1 A D^-T`` and
    ``A(P) = sum_p (TT^T)^(N-p) P (T^T T)^(p-1)``.
    """
    n = t.rows
    factors = [t if k % 2 == 0 else t.T for k in range(layers)]
    differential = mp.zeros(n * n)
    for column in range(n * n):
        v = mp.zeros(n)
        v[column // n, column % n] = 1
        total = mp.zeros(n)
        for k in range(layers):
            term = mp.eye(n)
            for m, factor in enumerate(factors):
                term = term * ((v if k % 2 == 0 else v.T) if m == k else factor)
            total += term
        differential[:, column] = ref.vector(total)
    pulled = ref.unvector(mp.lu_solve(differential.T, ref.vector(momentum)), n)
    applied = mp.zeros(n)
    for p in range(1, layers + 1):
        applied += (t * t.T) ** (layers - p) * pulled * (t.T * t) ** (p - 1)
    return ref.inner(pulled, applied) / 2


@pytest.mark.parametrize("kind", ["random", "triple", "nearly pairs"])
def test_gradient_against_layers(kind):
    root, momentum = matrices(kind, 3)[0], normal((3, 3))
    with mp.workdps(60):
        exact = ref.matrix(momentum)
        wanted = ref.gradient(lambda t: layered_energy(t, exact, 3), ref.matrix(root))
    check(gradient_error(root, momentum, 3, wanted), bound(root, 3))


@pytest.mark.parametrize(
    ("kind", "loss"),
    [
        ("diag(1,1,2,2)", 0.1),
        ("pairs", 0.1),
        ("scaled orthogonal", 0.1),
        ("gap 1e-15", 0.01),
        ("gap 1e-9", 1e-8),
        ("gap 1e-6", 1e-11),
    ],
)
def test_close_pairs_need_their_own_sum(kind, loss, monkeypatch):
    root, momentum = special(kind, 4), normal((4, 4))
    wanted = reference_gradient(root, momentum, 3)
    check(gradient_error(root, momentum, 3, wanted), bound(root, 3))
    monkeypatch.setattr(hamiltonian, "_close_pairs", lambda *args: None)
    assert gradient_error(root, momentum, 3, wanted) > max(loss, 10 * bound(root, 3))


@pytest.mark.parametrize("depth", [1.5, 2, 3, 10])
@pytest.mark.parametrize("kind", ["random", "pairs", "scaled orthogonal", "gap 1e-3", "midway"])
def test_gradient_by_finite_differences_of_the_energy(kind, depth):
    n = 5
    root, momentum = matrices(kind, n)[0], normal((n, n))
    smallest = np.linalg.svd(root, compute_uv=False)[-1]
    basis = np.eye(n * n).reshape(n * n, n, n)

    def energy(step):
        return nodal_state(root + step * basis, depth, momentum=momentum).energy

    # sixth order; the energy varies with N log l
    h = 0.02 * smallest / depth
    wanted = (
        45 * (energy(h) - energy(-h))
        - 9 * (energy(2 * h) - energy(-2 * h))
        + (energy(3 * h) - energy(-3 * h))
    ) / (60 * h)
    state = nodal_state(root, depth, momentum=momentum)
    got = state.leave(state.gradient).ravel()
    check(np.linalg.norm(got - wanted) / np.linalg.norm(wanted), 1e-9)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("kind", ["random", "identity", "pairs", "nearly pairs", "ill", "very ill"])
def test_velocity_and_momentum_are_dual(kind, depth):
    root, velocity = matrices(kind, 4, 3), normal((3, 4, 4))
    first = nodal_state(root, depth, velocity=velocity)
    second = nodal_state(root, depth, momentum=first.leave(first.momentum))
    frame = Frame.of_root(root, depth)
    size = np.linalg.norm(velocity)
    check(np.linalg.norm(second.leave(second.velocity) - velocity), 64 * EPS * depth**2 * size)
    momentum = chart.lower(frame, velocity)
    check(
        np.linalg.norm(first.leave(first.momentum) - momentum),
        100 * EPS * np.linalg.norm(momentum),
    )
    raised = first.raise_(momentum)
    check(np.linalg.norm(raised - velocity), 64 * EPS * depth**2 * size)
    energy = np.sum(velocity * momentum, axis=(-2, -1)) / 2
    check(abs(first.energy / energy - 1), 100 * EPS)
    check(abs(second.energy / energy - 1), 100 * EPS * depth)


@pytest.mark.parametrize("depth", [1.5, 3])
@pytest.mark.parametrize("kind", ["random", "triple", "nearly pairs", "ill"])
def test_energy(kind, depth):
    root, momentum = matrices(kind, 3)[0], normal((3, 3))
    with mp.workdps(60):
        wanted = ref.root_quadratic(ref.matrix(root), ref.matrix(momentum), mp.mpf(depth), -1) / 2
    got = nodal_state(root, depth, momentum=momentum).energy
    check(abs(got / float(wanted) - 1), 100 * EPS * np.linalg.cond(root))


@pytest.mark.parametrize("kind", ["random", "pairs", "scaled orthogonal"])
def test_energy_is_the_squared_norm_at_depth_one(kind):
    root, momentum = matrices(kind, 4)[0], normal((4, 4))
    state = nodal_state(root, 1, momentum=momentum)
    check(abs(state.energy / (np.sum(momentum**2) / 2) - 1), 100 * EPS)
    check(np.linalg.norm(state.gradient), 100 * EPS * np.sum(momentum**2) / state.roots[-1])


@pytest.mark.parametrize("depth", [1.5, 3, 100])
@pytest.mark.parametrize(
    "kind", ["random", "identity", "gap 1e-15", "gap 1e-9", "ladder", "midway"]
)
@pytest.mark.parametrize("factor", [1e-100, 1e-8, 1e100])
def test_gradient_is_homogeneous(kind, depth, factor):
    # H depends on ratios of singular values only, so dH/dT is homogeneous of degree -1.
    root, momentum = matrices(kind, 3)[0], normal((3, 3))
    plain = nodal_state(root, depth, momentum=momentum)
    wanted = plain.leave(plain.gradient)
    scaled = nodal_state(factor * root, depth, momentum=momentum)
    got = scaled.leave(scaled.gradient) * factor
    error = np.linalg.norm(got - wanted) / np.linalg.norm(wanted)
    check(error, 2 * bound(root, depth))


@pytest.mark.parametrize("depth", [1.5, 3])
@pytest.mark.parametrize("kind", ["random", "pairs", "gap 1e-9"])
def test_gradient_turns_with_the_point(kind, depth):
    # H is invariant under (T, P) -> (R T R', R P R'), so <dH/dT, A T> = -<dH/dP, A P> for skew A
    root, momentum = matrices(kind, 4)[0], normal((4, 4))
    state = nodal_state(root, depth, momentum=momentum)
    force, velocity = state.leave(state.gradient), state.leave(state.velocity)
    left = force @ root.T + velocity @ momentum.T
    right = root.T @ force + momentum.T @ velocity
    size = np.linalg.norm(velocity) * np.linalg.norm(momentum)
    check(np.linalg.norm(left - left.T), bound(root, depth) * size)
    check(np.linalg.norm(right - right.T), bound(root, depth) * size)


@pytest.mark.parametrize("depth", [1, 2.5, 3])
def test_a_singular_root_has_a_finite_state(depth):
    root = np.diag([2.0, 1.0, 0.0])
    state = nodal_state(root, depth, momentum=normal((3, 3)))
    for value in (state.velocity, state.momentum, state.energy):
        assert np.isfinite(value).all()
