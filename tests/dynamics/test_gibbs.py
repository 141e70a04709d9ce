"""The Gibbs measure: its density in both charts, against literal formulas and differences."""

import mpmath as mp
import numpy as np
import pytest

from dln_manifolds import BalancedManifold, DLNObservableManifold, costs
from dln_manifolds.dynamics import GibbsMeasure

CASES = [
    ((3, 3), 3, 3.0, 1.0),
    ((2, 2), 2, 2.5, 0.25),
    ((4, 2), 2, 3.0, 4.0),
    ((3, 4), 2, 2.0, 0.5),
]
each = pytest.mark.parametrize(("shape", "rank", "depth", "anisotropy"), CASES, ids=str)
BETA = 2.0


def measure_of(shape, rank, depth, anisotropy=1.0):
    target = np.random.default_rng(0).normal(size=shape)
    loss = costs.MatrixCompletion(target, np.ones(shape))
    space = DLNObservableManifold(shape=shape, rank=rank, depth=depth)
    return GibbsMeasure(space, loss, beta=BETA, anisotropy=anisotropy)


def point_of(shape, rank, seed=1):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(shape[0], rank)) @ rng.normal(size=(rank, shape[1]))


def tangent_part(point, rank, v):
    u, _, vt = np.linalg.svd(point)
    return v - u[:, rank:] @ u[:, rank:].T @ v @ vt[rank:].T @ vt[rank:]


def truncated(matrix, rank):
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ vt[:rank]


@each
def test_gradients_by_differences(shape, rank, depth, anisotropy):
    measure, h = measure_of(shape, rank, depth, anisotropy), 1e-5
    X, normal = point_of(shape, rank), np.random.default_rng(2).normal(size=shape)
    for place, density, slope in (
        (X, measure.log_density, measure.log_density_gradient),
        (measure.to_root(X), measure.root_log_density, measure.root_log_density_gradient),
    ):
        vector, gradient = tangent_part(place, rank, normal), slope(place)
        ends = [density(truncated(place + sign * h * vector, rank)) for sign in (1, -1)]
        assert np.sum(gradient * vector) == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-6)
        # Tangent below full rank.
        np.testing.assert_allclose(tangent_part(place, rank, gradient), gradient, atol=1e-12)


@each
def test_densities_differ_by_the_jacobian_of_the_chart(shape, rank, depth, anisotropy):
    """Numerically, in orthonormal bases of the tangent spaces below full rank."""
    measure, h, found = measure_of(shape, rank, depth, anisotropy), 1e-6, []
    for seed in (3, 4):
        X = point_of(shape, rank, seed)
        T = measure.to_root(X)
        np.testing.assert_allclose(measure.from_root(T), X, atol=1e-12)
        units = np.eye(X.size).reshape(-1, *shape)
        dim = rank * (sum(shape) - rank)
        bases = [
            np.linalg.svd([tangent_part(place, rank, e).ravel() for e in units])[2][:dim]
            for place in (X, T)
        ]
        moved = [
            measure.to_root(truncated(X + h * e.reshape(shape), rank))
            - measure.to_root(truncated(X - h * e.reshape(shape), rank))
            for e in bases[0]
        ]
        jacobian = bases[1] @ np.array(moved).reshape(dim, -1).T / (2 * h)
        change = np.linalg.slogdet(jacobian)[1]
        found.append(measure.log_density(X) - measure.root_log_density(T) - change)
    assert found[0] == pytest.approx(found[1], abs=1e-6)


@pytest.mark.parametrize("anisotropy", [0.25, 1.0, 4.0])
def test_density_of_the_root_chart_is_literal(anisotropy):
    measure, n = measure_of((3, 3), 3, 4, anisotropy), 4
    T = np.random.default_rng(5).normal(size=(7, 3, 3))
    u, roots, vt = np.linalg.svd(T)
    i, j = np.triu_indices(3, 1)
    a = sum(roots[:, i] ** (2 * (n - 1 - m)) * roots[:, j] ** (2 * m) for m in range(n))
    energy = measure.energy((u * roots[:, None, :] ** n) @ vt)
    wanted = -BETA / anisotropy * energy + np.log(a).sum(axis=1) / (2 * anisotropy)
    found = measure.root_log_density(T)
    np.testing.assert_allclose(found - found[0], wanted - wanted[0], rtol=1e-10)
    assert measure.depth == 4
    assert measure.shape == (3, 3)
    assert measure.rank == 3


@pytest.mark.parametrize("depth", [30, 300, 1000])
def test_density_where_powers_of_roots_underflow(depth):
    """0.05^1000 is no double; the density is as flat there as close to zero."""
    space = DLNObservableManifold(2, depth)
    measure = GibbsMeasure(space, lambda X: np.sum(X**2, axis=(-2, -1)), lambda X: 2 * X)
    small = ["0.9", "0.5", "0.2", "0.05", "1e-3", "0"]
    density = measure.root_log_density(np.stack([np.diag([1, float(x)]) for x in small]))
    with mp.workdps(50):
        roots = [mp.mpf(x) for x in small]
        wanted = [
            -(1 + x ** (2 * depth)) + mp.log((1 - x ** (2 * depth)) / (1 - x**2)) / 2 for x in roots
        ]
    wanted = np.array([float(x - wanted[0]) for x in wanted])
    np.testing.assert_allclose(density - density[0], wanted, atol=1e-13)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"beta": 0}, ValueError, "beta must be positive"),
        ({"beta": -1.0}, ValueError, r"beta must be finite and not negative, not -1\.0"),
        ({"beta": np.inf}, ValueError, "beta must be finite"),
        ({"beta": "1"}, TypeError, "beta must be a real number"),
        ({"anisotropy": -1}, ValueError, "anisotropy must be finite and not negative, not -1"),
        ({"anisotropy": True}, TypeError, "anisotropy must be a real number"),
        ({"gradient": None}, TypeError, "gradient must be a function of X, not None"),
        ({"space": DLNObservableManifold(2, np.inf)}, ValueError, "finite depth"),
    ],
    ids=str,
)
def test_bad_input(change, error, message):
    arguments = {
        "space": DLNObservableManifold(2, 2),
        "energy": lambda X: np.sum(X**2, axis=(-2, -1)),
        "gradient": lambda X: 2 * X,
        "beta": 1.0,
    }
    with pytest.raises(error, match=message):
        GibbsMeasure(**arguments | change)


def test_what_is_no_measure():
    layers = BalancedManifold(n=2, depth=2)
    with pytest.raises(TypeError, match="space must be one of end-to-end matrices"):
        GibbsMeasure(layers, lambda X: X[..., 0, 0], lambda X: X)
    with pytest.raises(TypeError, match="energy must be a function"):
        GibbsMeasure(DLNObservableManifold(2, 2), np.eye(2), lambda X: X)


def test_energies_that_do_not_fit():
    space, X = DLNObservableManifold(2, 2), np.stack([np.eye(2)] * 3)
    for energy, message in (
        (np.sum, "has shape"),
        (lambda X: X[..., 0, 0] * np.nan, "is nan at 3"),
    ):
        with pytest.raises(ValueError, match=message):
            GibbsMeasure(space, energy, lambda X: X).log_density(X)
    with pytest.raises(ValueError, match=r"The gradient has shape \(\) where \(2, 2\) is needed"):
        GibbsMeasure(space, np.sum, lambda X: X[..., 0, 0]).log_density_gradient(X)
    still = GibbsMeasure(space, lambda X: X[..., 0, 0], lambda X: X, 1.0, 0.0)
    with pytest.raises(ValueError, match="At anisotropy 0 there is no density"):
        still.log_density(X)
