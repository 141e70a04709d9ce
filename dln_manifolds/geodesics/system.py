"""What the solvers of geodesics must know of one geometry, and how a geodesic may end.

A *system* describes one geometry to the solvers, which never ask which one it is; a *family of
paths* describes curves between two of its points with few unknowns. States of a flow have one
layout, ``(n_batch, 2, 1 + k, *shape)``: positions and rates, those of the geodesic first, then
those of k variations or k pairs of vectors that are carried along.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple, Protocol, Self

import numpy as np

from dln_manifolds.geometry.frame import Frame
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.newton import Path

# Distance from the tip of a cone, relative to the start, at which nothing is resolved any more.
TIP = 1e-11


def never(n_batch: int) -> Array:
    """Return the times of what never happens."""
    return np.full(n_batch, np.inf)


class Status(IntEnum):
    """How a geodesic has ended, what messages say of it, and what to do after exp and after log."""

    message: str
    after_exp: str
    after_log: str

    CONVERGED = 0, "is solved", "", ""
    CROSSED = 1, "meets a singular matrix", "Take a shorter step", "Go through a point between them"
    STALLED = (
        2,
        "did not converge",
        "Take a shorter step",
        "Points far apart are hard: go through a point between them",
    )
    DISCONNECTED = 3, "lie in different components", "", ""

    def __new__(cls, value: int, message: str, after_exp: str, after_log: str) -> Status:
        """Make a member with its texts."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.message, member.after_exp, member.after_log = message, after_exp, after_log
        return member


class Points(NamedTuple):
    """Validated points of shape ``(n_batch, *point_shape)`` with their frames."""

    value: Array
    frame: Frame


class Bounds(NamedTuple):
    """What distances are at least and at most."""

    lower: Array
    upper: Array


@dataclass(frozen=True, eq=False)
class Unit:
    """Points as the solvers see them: positions of size one, and what they were divided by.

    ``frame`` is that of the positions up to a factor and ``top`` the factor of its points, for
    systems that need them.
    """

    position: Array
    scale: Array
    frame: Frame | None = None
    top: Array | None = None

    def take(self, members: Array) -> Unit:
        """Return some members."""
        frame = None if self.frame is None else self.frame.take(members)
        top = None if self.top is None else self.top[members]
        return Unit(self.position[members], self.scale[members], frame, top)


class MovingFrame(Protocol):
    """A frame that moves with a batch of geodesics by isometries, for the time of one step."""

    def seen(self, state: Array, rate: Array) -> Array:
        """Return a rate as seen from the frame."""

    def leave(self, time: Array, *states: Array) -> list[Array]:
        """Return what was seen from the frame, at a time since its start, as it is at rest."""

    def take(self, members: Array) -> MovingFrame:
        """Return the frame of some members."""


class Rest:
    """The frame that does not move."""

    def seen(self, state: Array, rate: Array) -> Array:
        """Return the rate."""
        return rate

    def leave(self, time: Array, *states: Array) -> list[Array]:
        """Return the states."""
        return list(states)

    def take(self, members: Array) -> Rest:
        """Return itself."""
        return self


class Flow(Protocol):
    """What the integrator follows: geodesics, alone or with variations or vectors attached."""

    @property
    def reach(self) -> float:
        """Distance from a singular matrix within which the flow is not trusted."""

    @property
    def tip(self) -> float:
        """Distance from the tip of the cone, relative to the start, that counts as none."""

    def rates(self, state: Array) -> tuple[Array, Array]:
        """Return time derivatives of states, and how far their cores are from singular ones."""

    def moving_frame(self, state: Array, rate: Array) -> MovingFrame:
        """Return a frame from which these states hardly move."""

    def core(self, position: Array) -> Array:
        """Return matrices, linear in positions of geodesics, that are singular where these end."""

    def project(self, state: Array) -> Array:
        """Remove what round-off and the integrator have moved off the manifold."""


@dataclass
class Trajectory:
    """Accepted steps of a batch of geodesics.

    ``times`` lists arrays of shape ``(n_batch,)``, non-decreasing; a member that has ended repeats
    its last. ``states`` lists the states at these times, ``(n_batch, 2, 1 + k, *shape)``.
    """

    times: list[Array] = field(default_factory=list)
    states: list[Array] = field(default_factory=list)


@dataclass
class FlowResult:
    """End of the flow of each member.

    ``state`` is that at the end of the span or of the last step before a singular matrix, ``time``
    the end of the span, the time t* of the first singular matrix, or where the flow stalled.
    ``n_steps`` counts steps tried, ``n_evaluations`` evaluations of the flow; ``trajectory`` is
    filled if it was asked for.
    """

    state: Array
    time: Array
    status: Array
    n_steps: Array
    n_evaluations: Array
    trajectory: Trajectory


class System(Flow, Protocol):
    """One geometry. As a flow it is that of its geodesics alone."""

    @property
    def depth(self) -> float:
        """Depth of the network, one where there is none."""

    @property
    def radial(self) -> float:
        """The rate of moving away from the tip of the cone by the position itself."""

    @property
    def degree(self) -> float:
        """Points are a homogeneous function of positions, of this degree."""

    @property
    def straight(self) -> bool:
        """Whether points move on straight lines, so that exp and log are sum and difference."""

    @property
    def cautious(self) -> bool:
        """Whether a path must be resolved at all nodes before its end is trusted."""

    @property
    def linearized(self) -> Flow:
        """Geodesics with variations attached."""

    @property
    def parallel(self) -> Flow:
        """Geodesics with vectors attached that are transported parallel."""

    def goal(self, tolerance: float) -> float:
        """Return the relative residual at which a log counts as solved."""

    def unit(self, points: Points) -> Unit:
        """Scale points to size one."""

    def at(self, position: Array, scale: Array) -> Unit:
        """Return positions that a solver has reached, with what they were divided by."""

    def point(self, unit: Unit) -> Array:
        """Return the points of the manifold."""

    def flat(self, unit: Unit, velocity: Array) -> Array:
        """Return the rates of velocities at points, divided by their scales."""

    def sharp(self, unit: Unit, rate: Array, scale: Array) -> Array:
        """Return the velocities at points of rates that were divided by ``scale``."""

    def speed(self, unit: Unit, rate: Array) -> Array:
        """Return lengths of rates, shape ``(n_batch,)``."""

    def lower_bound(self, first: Unit, last: Unit) -> Array:
        """Return a rigorous lower bound on distances, shape ``(n_batch,)``."""

    def bounds(self, first: Points, last: Points) -> Bounds:
        """Return bounds of distances, all that is known without solving, shape ``(n_batch,)``."""

    def closed_form(self, first: Unit, last: Unit) -> tuple[Array, Array]:
        """Return initial rates that are known in closed form, and for which members."""

    def paths(self, first: Unit, last: Unit, tolerance: float) -> PathFamily:
        """Return the family of paths in which logs are sought."""

    def covector(self, unit: Unit, gradient: Array) -> Array:
        """Return Euclidean gradients by points as covectors at positions, ``(n_batch, *shape)``."""

    def gradient(self, unit: Unit, covector: Array) -> Array:
        """Return covectors at positions as Euclidean gradients by points."""

    def covector_basis(self, unit: Unit) -> Array:
        """Return a basis of covectors at positions, shape ``(n_batch, dim, *shape)``."""

    def vector(self, unit: Unit, covector: Array) -> Array:
        """Return the vectors at positions of covectors."""

    def momentum(self, unit: Unit, vector: Array) -> Array:
        """Return the covectors at positions of vectors."""

    def covariant(self, unit: Unit, rate: Array, field: Array, change: Array) -> Array:
        """Return the covariant derivative, a covector, of a field along geodesics.

        ``field`` and ``change`` are the variations of position and rate, ``(n_batch, *shape)``.
        """

    def held(self, unit: Unit, rate: Array, field: Array) -> Array:
        """Return the gradient by the point that is due to vectors being kept as arrays there.

        A velocity whose entries stay is not parallel while the point moves: ``<Gamma(., J), V>``.
        """

    def curved(self, unit: Unit, rate: Array, gradient: Array) -> Array:
        """Return the gradient by the point due to the normal part of a gradient by a vector."""


@dataclass
class Guess:
    """Paths of a batch as their family describes them: what is varied, and in which frames."""

    unknowns: Array
    frames: Array

    def take(self, members: Array | slice) -> Guess:
        """Return some members: views, if they are a slice."""
        return Guess(self.unknowns[members], self.frames[members])

    def put(self, members: Array, other: Guess) -> None:
        """Replace some members."""
        self.unknowns[members], self.frames[members] = other.unknowns, other.frames


class MovingPath(Path, Protocol):
    """Paths that end at given positions, with what makes them initial-value problems."""

    @property
    def frame(self) -> MovingFrame:
        """Where the paths are seen from."""

    def rate_at_start(self) -> Array:
        """Return the initial rate: minus the derivative of the energy by the start."""

    def rates(self) -> Array:
        """Return rates at Gauss nodes as the frame sees them, ``(n_batch, n_gauss, *state)``."""

    def take(self, members: Array) -> Self:
        """Return some members."""


class PathFamily(Protocol):
    """Paths of increasing resolution between positions of size one."""

    @property
    def n_levels(self) -> int:
        """Number of resolutions."""

    def initial(self, start: Array, end: Array) -> tuple[Guess, Array, Guess | None]:
        """Return first guesses, and for some members, by their indices, rivals of these."""

    def extend(self, guess: Guess, start: Array, end: Array, level: int) -> Guess:
        """Return the paths of the level before with the unknowns of this one."""

    def path(self, guess: Guess, start: Array, end: Array, level: int) -> MovingPath:
        """Return paths with their energy."""

    def has_decayed(self, guess: Guess, start: Array, end: Array, level: int) -> Array:
        """Whether more unknowns would change nothing that matters, shape ``(n_batch,)``."""

    def singular_time(self, guess: Guess, level: int) -> Array:
        """Time at which paths of least energy run into a singular matrix, infinite if not."""

    def shift(self, aim: Array, defect: Array) -> Array:
        """Return aims moved by defects."""
