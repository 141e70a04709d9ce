"""Newton's method: what its solves find of the Hessian serves the next ones."""

import numpy as np
import pytest

from dln_manifolds.numerics import newton
from dln_manifolds.numerics.newton import minimize

SIZE = 5000
# A dozen small eigenvalues of the preconditioned Hessian, the others between 1 and 4.
SPECTRUM = np.concatenate([np.geomspace(0.01, 0.2, 12), np.linspace(1, 4, SIZE - 12)])


@pytest.fixture
def rng():
    return np.random.default_rng(0)


class Quartic:
    """``f(x) = |x - c|^2_A / 2 + bend |x - c|^4 / 4 + 1``, with the identity as preconditioner."""

    n_nodes, products = 1, 0

    def __init__(self, x, center, spectrum=SPECTRUM, bend=0.05):
        self.unknowns, self.center, self.spectrum, self.bend = x, center, spectrum, bend
        away = x - center
        square = (away**2).sum(axis=1)
        self.energy = 1 + 0.5 * (spectrum * away**2).sum(axis=1) + 0.25 * self.bend * square**2
        self.gradient = spectrum * away + self.bend * square[:, None] * away

    def take(self, members):
        return Quartic(self.unknowns[members], self.center[members], self.spectrum, self.bend)

    def moved(self, step):
        return Quartic(self.unknowns + step, self.center, self.spectrum, self.bend)

    def precondition(self, residual):
        return residual.copy()

    def quadratic_model(self):
        return self

    def product(self, direction):
        Quartic.products += 1
        away = self.unknowns - self.center
        along = (away * direction).sum(axis=1, keepdims=True)
        square = (away**2).sum(axis=1, keepdims=True)
        bent = square * direction + 2 * along * away
        return self.spectrum * direction + self.bend * bent


def solved(rng, count=1):
    center = rng.normal(size=(count, SIZE)) / SPECTRUM**0.5
    Quartic.products = 0
    ends = []

    def finished(rows, path, done):
        ends.append(np.abs(path.unknowns - path.center)[done].max())

    start = Quartic(center + 1e-3 * rng.normal(size=center.shape), center)
    result = minimize(start, tolerance=1e-11, max_iterations=20, finished=finished)
    return result, max(ends), Quartic.products


def test_directions_are_recycled(rng, monkeypatch):
    result, error, products = solved(rng)
    monkeypatch.setattr(newton, "_MANY", np.inf)
    other, other_error, more = solved(rng)
    assert max(result.slope[0], other.slope[0]) <= 1e-11
    assert max(error, other_error) <= 1e-9
    assert products <= 0.85 * more


def test_several_paths_need_none(rng):
    result, error, _ = solved(rng, 3)
    assert (result.slope <= 1e-11).all()
    assert error <= 1e-9


@pytest.mark.parametrize(("goal", "least"), [(1e-2, 0.01), (1e-4, 0.01), (1e-9, 0.9)])
def test_what_is_known_improves_the_preconditioner(rng, goal, least):
    """Small eigenvalues that were found move to one; none rises above the largest plus one."""
    n = 60
    spectrum = np.concatenate([np.geomspace(0.01, 0.2, 8), np.linspace(1, 4, n - 8)])
    path = Quartic(rng.normal(size=(1, n)), np.zeros((1, n)), spectrum, bend=0.0)
    flat = newton._Flat(n)
    newton._newton_direction(path, path.gradient, np.array([goal]), flat)
    flat.learn()
    known = flat.vectors.astype(float)
    assert len(known)
    assert np.abs(known @ known.T - np.eye(len(known))).max() <= 1e-4
    root = np.sqrt(spectrum)
    values = np.linalg.eigvalsh(
        root[:, None] * (np.eye(n) + (known.T * flat.factors) @ known) * root
    )
    assert values[0] >= least * (1 - 1e-6)
    assert values[-1] <= spectrum[-1] + 1 + 1e-3


def test_work_is_counted_and_bounded(rng):
    """Products, times nodes, are counted beside evaluations; what is used up ends the search."""
    result, _, products = solved(rng)
    assert result.n_products[0] == products * Quartic.n_nodes
    center = rng.normal(size=(3, SIZE))
    budget = np.array([np.inf, 40.0, -1.0])
    found = minimize(Quartic(center + 0.1, center), tolerance=1e-11, most=budget)
    assert found.slope[0] <= 1e-11 < found.slope[1]
    assert found.n_iterations[0] > found.n_iterations[1] > found.n_iterations[2] == 0
    # the step in which it runs out is the last
    assert found.n_products[1] <= 40 + 200 * Quartic.n_nodes


def test_infinite_energies_are_given_up(rng):
    center = rng.normal(size=(2, SIZE))
    start = Quartic(center + 0.1, center)
    start.energy[1] = np.inf
    found = minimize(start, tolerance=1e-11)
    assert found.slope[0] <= 1e-11
    assert found.n_iterations[1] == 0
    assert found.energy[1] == np.inf
