"""Markov kernels that keep a Gibbs measure exactly, in the root chart, many chains at once.

A kernel has ``init(root) -> state`` and ``step(rng, state) -> state, info``; ``with_step`` returns
one with other steps, a number for each chain. The root chart makes them simple: its volume is that
of Lebesgue, so that no determinant appears.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Protocol, Self

import numpy as np

from dln_manifolds.checks import spread
from dln_manifolds.dynamics.gibbs import GibbsMeasure, root_frame
from dln_manifolds.dynamics.root_langevin import RootLangevin, RootPoint, chosen, weighed
from dln_manifolds.geometry.coefficients import kappa
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.numerics.arrays import Array

# An error of the energy that no step of a sensible size makes.
_DIVERGENT = 1000.0
# Singular values of X beyond which a chain counts as lost: what comes then overflows.
LOST = 1e50


class Info(NamedTuple):
    """What became of a step, ``(n_chains,)``: whether accepted and how likely, or diverged."""

    accepted: Array
    acceptance: Array
    divergent: Array


class State(NamedTuple):
    """Where chains are: T, its log density, and there the gradient, or all that Langevin needs."""

    root: Array
    density: Array
    there: Array | RootPoint


class Kernel(Protocol):
    """A Markov kernel, and the mean acceptance that its steps should have."""

    @property
    def target(self) -> float:
        """Mean acceptance to adapt steps to."""

    def with_step(self, step: Array) -> Self:
        """Return the kernel with other steps, ``(n_chains,)``."""

    def init(self, root: Array) -> State:
        """Return the state of chains at T, ``(n_chains, m, n)``."""

    def step(self, rng: np.random.Generator, state: State) -> tuple[State, Info]:
        """Return the next state, and what became of the step."""


@dataclass(frozen=True)
class Mass:
    """A constant mass of momenta: the metric at one point T, or one without a frame."""

    frame: Frame | None = None

    @cached_property
    def _root(self) -> Array:
        """Square root of the mass of symmetric parts."""
        assert self.frame is not None
        return np.sqrt(kappa(self.frame.half_log_ratio, self.frame.depth))

    def scaled(self, matrices: Array, halves: int) -> Array:
        """Apply a power of the mass in halves, 1 to normal draws, -2 to momenta."""
        if self.frame is None:
            return matrices
        return self.frame.assemble(weighed(self.frame.blocks(matrices), self._root**halves))


@dataclass(frozen=True)
class Hamiltonian:
    """Hamiltonian Monte Carlo in T, for matrices of full rank: ``n_leaps`` leapfrog steps.

    All chains take as many; each has a step of its own, jittered by a fifth. One decomposition a
    leap.
    """

    measure: GibbsMeasure
    size: Array
    n_leaps: int = 8
    mass: Mass = Mass()
    target: float = 0.65

    def with_step(self, step: Array) -> Self:
        """Return the kernel with other steps, ``(n_chains,)``."""
        return replace(self, size=step)

    def init(self, root: Array) -> State:
        """Return the state of chains at T, ``(n_chains, m, n)``."""
        frame = self._frame(root)
        return State(root, self.measure.log_density_at(frame), self.measure.slope_at(frame))

    def _frame(self, root: Array) -> Frame:
        return root_frame(root, self.measure.depth, self.measure.rank)

    def step(self, rng: np.random.Generator, state: State) -> tuple[State, Info]:
        """Draw a momentum, follow Hamilton's equations, accept or reject."""
        slope = state.there
        assert isinstance(slope, np.ndarray)
        normal = rng.standard_normal(state.root.shape)
        momentum = self.mass.scaled(normal, 1)
        h = (self.size * rng.uniform(0.8, 1.2, len(normal)))[:, None, None]
        before = state.density - 0.5 * np.sum(normal**2, axis=(-2, -1))
        lost, root = np.zeros(len(normal), dtype=bool), state.root
        momentum = momentum + 0.5 * h * slope
        for leap in range(1, self.n_leaps + 1):
            root = root + h * self.mass.scaled(momentum, -2)
            lost |= beyond(root, LOST ** (1 / self.measure.depth))
            root[lost] = state.root[lost]
            frame = self._frame(root)
            ahead = self.measure.slope_at(frame)
            momentum = momentum + (1.0 if leap < self.n_leaps else 0.5) * h * ahead
        kinetic = 0.5 * np.sum(self.mass.scaled(momentum, -1) ** 2, axis=(-2, -1))
        after = self.measure.log_density_at(frame)
        gain = after - kinetic - before
        gain[lost | np.isnan(gain)] = -np.inf
        accepted = np.log(rng.random(len(gain))) < gain
        here = spread(accepted, 2)
        root, slope = np.where(here, root, state.root), np.where(here, ahead, slope)
        density = np.where(accepted, after, state.density)
        acceptance = np.exp(np.minimum(gain, 0.0))
        return State(root, density, slope), Info(accepted, acceptance, lost | (gain < -_DIVERGENT))


@dataclass(frozen=True)
class AdjustedLangevin:
    """Euler steps of the Riemannian Langevin equation, accepted or rejected; of every rank.

    With ``reflect`` no step passes det(X) = 0. Each step is drawn anew, shorter than ``size`` by up
    to so many ``decades``: where the drift is steep, short steps alone lead on.
    """

    measure: GibbsMeasure
    size: Array
    reflect: bool = False
    decades: float = 0.0
    target: float = 0.574

    @property
    def equation(self) -> RootLangevin:
        """The equation that proposes."""
        return RootLangevin(self.measure)

    def with_step(self, step: Array) -> Self:
        """Return the kernel with other steps, ``(n_chains,)``."""
        return replace(self, size=step)

    def init(self, root: Array) -> State:
        """Return the state of chains at T, ``(n_chains, m, n)``."""
        at = self.equation.at(root)
        return State(root, self.measure.log_density_at(at.frame), at)

    def at(self, state: State) -> RootPoint:
        """Return what the equation knows where chains are."""
        assert isinstance(state.there, RootPoint)
        return state.there

    def step(self, rng: np.random.Generator, state: State) -> tuple[State, Info]:
        """Propose an Euler step, accept or reject."""
        now, equation = self.at(state), self.equation
        size = self.size
        if self.decades:
            size = size * 10 ** (-self.decades * rng.random(len(now.root)))
        end = equation.step(now, size, rng.standard_normal(now.root.shape))
        lost = beyond(end, LOST ** (1 / self.measure.depth))
        end[lost] = now.root[lost]
        fresh = self.init(end)
        there = self.at(fresh)
        gain = fresh.density - state.density
        gain += equation.log_proposal(there, now.root, size)
        gain -= equation.log_proposal(now, end, size)
        gain[lost | np.isnan(gain)] = -np.inf
        if self.reflect:
            gain[crossed(self.measure, now.root, end)] = -np.inf
        accepted = np.log(rng.random(len(gain))) < gain
        there = chosen(accepted, there, now)
        density = np.where(accepted, fresh.density, state.density)
        info = Info(accepted, np.exp(np.minimum(gain, 0.0)), lost)
        return State(there.root, density, there), info


def beyond(points: Array, bound: float) -> Array:
    """Return which chains left all bounds."""
    largest = np.abs(points).reshape(len(points), -1).max(axis=-1)
    return np.asarray(~(largest <= bound))


def crossed(measure: GibbsMeasure, before: Array, after: Array) -> Array:
    """Return which chains have changed the sign of the determinant, where there is one."""
    if not measure.stratum.is_square:
        return np.zeros(len(before), dtype=bool)
    return np.asarray(np.linalg.slogdet(before)[0] != np.linalg.slogdet(after)[0])
