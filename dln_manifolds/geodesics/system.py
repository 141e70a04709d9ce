"""What the solvers of geodesics must know of one geometry, and how a geodesic may end.

A *system* describes one geometry to the solvers, which never ask which one it is; a *family of
paths* describes curves between two of its points with few unknowns. States of a flow have one
layout, ``(n_batch, 2, 1 + k, *shape)``: positions and rates, those of the geodesic first, then of k
variations or pairs of vectors that are carried along.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple, Protocol, Self

import numpy as np

from dln_manifolds.geometry.bounds import Bounds
from dln_manifolds.geometry.closed_forms import StraightFactors
from dln_manifolds.geometry.facing import Earlier
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.polar_frame import PolarFrame
from dln_manifolds.geometry.reduction import Reduction
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.newton import Path

# Distance from the tip of a cone, relative to the start, at which nothing is resolved any more.
TIP = 1e-11
_FAR = "Points far apart are hard: go through a point between them"


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
    STALLED = 2, "did not converge", "Take a shorter step", _FAR
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

    def take(self, members: Array) -> Points:
        """Return some members, perhaps one as many."""
        return Points(self.value[members], self.frame.take(members))


@dataclass(frozen=True, eq=False)
class Unit:
    """Points as the solvers see them: positions of size one, and what they were divided by.

    ``scale`` is what the system makes of sizes, a factor or its logarithm, and ``frame`` that of
    the positions, for systems that need one.
    """

    position: Array
    scale: Array
    frame: PolarFrame | None = None

    def take(self, members: Array) -> Unit:
        """Return some members."""
        frame = None if self.frame is None else self.frame.take(members)
        return Unit(self.position[members], self.scale[members], frame)


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

    @property
    def core_rank(self) -> int | None:
        """Rank of cores until geodesics end; None of square ones that are invertible."""

    def core(self, position: Array) -> Array:
        """Return matrices, linear in positions of geodesics, that lose rank where these end."""

    def project(self, state: Array) -> Array:
        """Remove what round-off and the integrator have moved off the manifold."""

    def chart(self, state: Array, rate: Array) -> tuple[Array, Array] | None:
        """Return positions in which rays of the cone are straight lines to zero, and velocities.

        Of geodesics alone, ``(n_batch, *)``; None where there is no tip.
        """

    def grown(self, position: Array, growth: Array) -> Array:
        """Return positions that have moved along their rays by a factor."""

    def lines(self, state: Array, span: Array) -> tuple[Array, Array, Array] | None:
        """Return geodesics known in closed form: which, their states after a time, and when to end.

        Of geodesics alone; None where none is known. Times of singular matrices are infinite where
        these are not met.
        """
        return None


class Chart(Flow, Protocol):
    """A chart in which geodesics of a system are followed."""

    def entered(self, state: Array) -> Array:
        """Return states of the system in this chart."""

    def left(self, result: FlowResult) -> FlowResult:
        """Return a result in this chart as one of the system."""


@dataclass
class Trajectory:
    """Accepted steps of a batch of geodesics.

    ``times`` lists arrays of shape ``(n_batch,)``, non-decreasing; a member that has ended repeats
    its last. ``states`` lists the states at these times, ``(n_batch, 2, 1 + k, *shape)``, and
    ``scales`` what their points were divided by, ``(n_batch,)``; the flow itself leaves it empty.
    """

    times: list[Array] = field(default_factory=list)
    states: list[Array] = field(default_factory=list)
    scales: list[Array] = field(default_factory=list)


class ConeLaw(Protocol):
    """Geodesics between points of any sizes from those between points of size one."""

    @property
    def scale(self) -> Array:
        """What initial rates are divided by."""

    def initial_rate(self, position: Array, rate: Array) -> Array:
        """Return the initial rate from that of the unit geodesic."""

    def length(self, unit_length: Array) -> Array:
        """Return lengths from those of unit geodesics."""

    def time(self, unit_time: Array) -> Array:
        """Return times of those of unit geodesics; infinity stays."""

    def states(self, unit_time: Array, state: Array) -> tuple[Array, Array, Array]:
        """Return times, states and scales of those of unit geodesics."""


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


class System(Chart, Protocol):
    """One geometry. As a flow it is that of its geodesics alone."""

    @property
    def depth(self) -> float:
        """Depth of the network, one where there is none."""

    @property
    def straight(self) -> bool:
        """Whether points move on straight lines, so that exp and log are sum and difference."""

    @property
    def charts(self) -> tuple[Chart, ...]:
        """Charts for steps, the own one first."""

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

    def narrowed(
        self, start: Points, *, vectors: Array | None = None, end: Points | None = None
    ) -> tuple[System, Reduction] | None:
        """Return a narrower system to solve in, if all takes place in there.

        All that vectors, ``(n_batch, k, *point_shape)``, or end points determine.
        """

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
        """Return lengths of rates at positions of size one, shape ``(n_batch,)``."""

    def length(self, scale: Array, speed: Array) -> Array:
        """Return the lengths of curves at scales, from those at size one."""

    def radial(self, unit: Unit, pace: Array) -> Array:
        """Return the rates at positions of ``X' = pace X``."""

    def cone(self, first: Unit, last: Unit) -> ConeLaw:
        """Return the cone law between points of their scales."""

    def gap(self, position: Array, other: Array) -> Array:
        """Return what has to be added to the other position, or an equal one, to get the first."""

    def lower_bound(self, first: Unit, last: Unit) -> Array:
        """Return a rigorous lower bound on distances, shape ``(n_batch,)``."""

    def bounds(self, first: Points, last: Points) -> Bounds:
        """Return bounds of distances, all that is known without solving, shape ``(n_batch,)``."""

    def verified(self, start: Points, end: Points) -> StraightFactors | None:
        """Return geodesics whose residuals need no flow, if a member has one. Batches broadcast."""
        return None

    def closed_form(self, first: Unit, last: Unit) -> tuple[Array, Array]:
        """Return initial rates that are known in closed form, and for which members."""

    def families(self, first: Unit, last: Unit) -> list[Array]:
        """Return families of paths by number, best first, one array for each attempt."""

    def steep(self, first: Unit, last: Unit) -> Array:
        """Whether energies of rough paths may not tell which geodesic is shorter."""
        return np.zeros(len(first.position), dtype=bool)

    def paths(self, family: int, first: Unit, last: Unit, tolerance: float) -> PathFamily:
        """Return a family of paths in which logs are sought."""

    def resumed(self, paths: PathFamily, old: Earlier, rows: Array) -> tuple[Array, Guess] | None:
        """Return paths of the second level of some rows that bend as earlier ones; of which."""
        return None

    def rescaled(self, state: Array, before: Array, after: Array) -> Array:
        """Return states whose points were divided by one scale, divided by another one."""

    def length_factor(self, scale: Array) -> Array:
        """Return the factor of gradients by points of squared lengths, for those of size one."""

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

    def gauged(self, state: Array, field: Array, change: Array) -> tuple[Array, Array]:
        """Return variations, ``(n_batch, k, *shape)``, as vectors and changes of covectors."""

    def covariant(self, unit: Unit, rate: Array, field: Array, change: Array) -> Array:
        """Return the covariant derivative, a covector, of a field along geodesics.

        ``field`` and ``change`` are variations as `gauged` returns them, ``(n_batch, *shape)``.
        """

    def held(self, unit: Unit, rate: Array, field: Array) -> Array:
        """Return the gradient by the point that is due to vectors being kept as arrays there."""

    def curved(self, unit: Unit, rate: Array, gradient: Array) -> Array:
        """Return the gradient by the point due to the normal part of a gradient by a vector."""


@dataclass
class Guess:
    """Paths of a batch as their family describes them: what is varied, and in which frames."""

    unknowns: Array
    frames: tuple[Array, ...] = ()

    @classmethod
    def joined(cls, guesses: list[Guess]) -> Guess:
        """Return the members of all, one after the other."""
        frames = zip(*(guess.frames for guess in guesses), strict=True)
        return cls(
            np.concatenate([x.unknowns for x in guesses]), tuple(map(np.concatenate, frames))
        )

    def take(self, members: Array | slice) -> Guess:
        """Return some members: views, if they are a slice."""
        return Guess(self.unknowns[members], tuple(frame[members] for frame in self.frames))

    def put(self, members: Array | slice, other: Guess) -> None:
        """Replace some members."""
        self.unknowns[members] = other.unknowns
        for mine, frame in zip(self.frames, other.frames, strict=True):
            mine[members] = frame


class MovingPath(Path, Protocol):
    """Paths that end at given positions, with what makes them initial-value problems."""

    def take(self, members: Array) -> Self:
        """Return some members."""

    def guess(self, members: Array) -> Guess:
        """Return some members as their family describes them."""

    def rate_at_start(self) -> Array:
        """Return the initial rate: minus the derivative of the energy by the start."""

    def rates(self) -> Array:
        """Return rates of the flow at Gauss nodes, ``(n_batch, n_gauss, 2, 1, *shape)``."""


class PathFamily(Protocol):
    """Paths of increasing resolution between given pairs of positions of size one."""

    @property
    def chart(self) -> Chart | None:
        """Chart in which paths give their rates; None for the system's own."""

    @property
    def slope_share(self) -> float:
        """Final slopes relative to usual ones: small where most of a length is of one part."""

    @property
    def n_levels(self) -> int:
        """Number of resolutions."""

    def initial(self) -> Guess:
        """Return first guesses."""

    def rivals(self, thorough: bool = False) -> list[tuple[Array, Guess]]:
        """Return other first guesses, which may be shorter, of some members by their indices.

        All that there are, likely or not, if it is to be ``thorough``.
        """

    def extend(self, guess: Guess, rows: Array, level: int) -> Guess:
        """Return paths of some members, of the level before, with the unknowns of this one."""

    def path(self, guess: Guess, rows: Array, aim: Array, level: int) -> MovingPath:
        """Return paths of some members with their energy, ending at ``aim``."""

    def has_decayed(self, guess: Guess, rows: Array, level: int) -> Array:
        """Whether more unknowns would change nothing that matters, shape ``(n_rows,)``."""

    def singular_time(self, guess: Guess, level: int) -> Array:
        """Time at which paths of least energy run into a singular matrix, infinite if not."""

    def shift(self, aim: Array, defect: Array) -> Array:
        """Return aims moved by defects."""
