"""End-to-end matrices as a system: Hamiltonian flow of the root chart, states (T, P)."""

from dataclasses import dataclass

import numpy as np

from dln_manifolds.geodesics.root_paths import RootPaths, Turning
from dln_manifolds.geodesics.system import TIP, Bounds, Flow, MovingFrame, Points, Rest, Unit
from dln_manifolds.geometry.bounds import lower_bound, upper_bound
from dln_manifolds.geometry.closed_forms import closed_form_velocity
from dln_manifolds.geometry.connection import linearized_rates, point_connection, root_connection
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.hamiltonian import nodal_state
from dln_manifolds.geometry.metric import (
    lower,
    point_of,
    pull_from_root,
    push_to_root,
    raise_,
    raised,
    root_of,
)
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import angular_velocities, frobenius

# Depth below which turning frames save fewer steps than they cost, and below which geodesics come
# near singular matrices with little sign of it before.
_SHALLOW = 2
# Tolerance of the flow at which residuals of 1e-11 can be verified, and the share of them that is
# kept back for the rounding by which another solution of the same flow differs.
_FULL, _SHARE = 1e-13, 0.98
# Entries of matrices whose upper bounds are sought at a time: each asks for hundreds of numbers.
_BLOCK = 2**14
# The error of the initial momentum is about a tenth of the square of the last coefficients.
_DECAYED = 5e-6


@dataclass(frozen=True)
class ObservableSystem:
    """Geodesics of end-to-end matrices of depth N, by the root chart: states are (T, P)."""

    depth: float
    reach = 0.0

    @property
    def radial(self) -> float:
        """The momentum of moving by ``T' = T`` is ``N T``, and X is of degree N in T."""
        return self.depth

    degree = radial

    @property
    def tip(self) -> float:
        """On straight lines nothing happens near zero."""
        return 0.0 if self.straight else TIP

    @property
    def straight(self) -> bool:
        """At N = 1 the metric is flat: no rounding of any decomposition in exp and log."""
        return self.depth == 1

    @property
    def cautious(self) -> bool:
        """Near singular matrices the end of a collocation step is hardly better than its nodes."""
        return self.depth < _SHALLOW

    def goal(self, tolerance: float = _FULL) -> float:
        """Return the relative residual at which log counts as solved.

        It is 1e-11, or 100 times a looser tolerance of the flow that has to verify it, and more for
        very deep networks: the end-to-end matrix is the N-th power of what is computed with, which
        multiplies relative errors by N; the square leaves room for the worst seen up to N = 200.
        """
        return _SHARE * 100 * max(tolerance, _FULL) * max(1.0, (self.depth / 8) ** 2)

    def unit(self, points: Points) -> Unit:
        """Scale T to Frobenius norm one, the frame to a largest singular value of one."""
        top = points.frame.singular_values[:, 0]
        frame = points.frame.scaled(1 / top)
        size = np.sqrt((frame.roots**2).sum(axis=-1))
        position = root_of(frame) / size[:, None, None]
        return Unit(position, top ** (1 / self.depth) * size, frame, top)

    def at(self, position: Array, scale: Array) -> Unit:
        """Decompose points T."""
        return Unit(position, scale, Frame.of_root(position, self.depth))

    def point(self, unit: Unit) -> Array:
        """Return end-to-end matrices X of what `at` has decomposed."""
        return point_of(_frame(unit).scaled(unit.scale))

    def flat(self, unit: Unit, velocity: Array) -> Array:
        """Return the momenta of velocities at X, by the frames that `unit` has scaled."""
        frame = _frame(unit)
        size = np.sqrt((frame.roots**2).sum(axis=-1)) * _top(unit)
        return lower(frame, push_to_root(frame, velocity / size[:, None, None]))

    def sharp(self, unit: Unit, rate: Array, scale: Array) -> Array:
        """Return velocities at X of momenta that were divided by ``scale``."""
        frame, factor = _frame(unit), scale * _top(unit) ** (1 - 1 / self.depth)
        return pull_from_root(frame, raise_(frame, rate)) * factor[:, None, None]

    def speed(self, unit: Unit, rate: Array) -> Array:
        """Return the lengths of momenta."""
        # Free of squares that underflow.
        size = np.abs(rate).max(axis=(-2, -1), keepdims=True)
        rate = _frame(unit).enter(rate / np.where(size == 0, 1.0, size))
        square = np.sum(raised(*_frame(unit).kappa_factors, rate) * rate, axis=(-2, -1))
        return size[:, 0, 0] * np.sqrt(square)

    def lower_bound(self, first: Unit, last: Unit) -> Array:
        """Return the bound of :mod:`dln_manifolds.geometry.bounds`, at a common scale."""
        common = np.maximum(first.scale, last.scale)
        return common * lower_bound(
            *(
                _of_size(_frame(unit), frobenius(unit.position) * unit.scale / common)
                for unit in (first, last)
            )
        )

    def bounds(self, first: Points, last: Points) -> Bounds:
        """Return both bounds of :mod:`dln_manifolds.geometry.bounds`."""
        n_batch, rank = first.frame.values.shape
        upper, step = np.empty(n_batch), max(1, _BLOCK // rank**2)
        for begin in range(0, n_batch, step):
            rows = np.arange(begin, min(begin + step, n_batch))
            upper[rows] = upper_bound(first.frame.take(rows), last.frame.take(rows))
        return Bounds(lower_bound(first.frame, last.frame), upper)

    def closed_form(self, first: Unit, last: Unit) -> tuple[Array, Array]:
        """Return the momenta of geodesics that are known in closed form."""
        frames = _frame(first), _frame(last)
        blocks, known = closed_form_velocity(*frames)
        if not known.any():
            return blocks, known
        velocity = push_to_root(frames[0], frames[0].assemble(blocks))
        sizes = [np.sqrt((frame.roots**2).sum(axis=-1))[:, None, None] for frame in frames]
        # From ends with a largest singular value of one to ends of size one, by the cone law.
        velocity = (velocity - (sizes[1] - sizes[0]) * first.position) / sizes[1]
        return lower(frames[0], velocity), known

    def paths(self, first: Unit, last: Unit, tolerance: float) -> RootPaths:
        """Return paths in frames that turn from one polar factor to the other."""
        decayed = _DECAYED * max(1.0, tolerance / _FULL) ** 0.5
        return RootPaths(self.depth, decayed, _frame(first).polar, _frame(last).polar)

    def rates(self, state: Array) -> tuple[Array, Array]:
        """Return ``(dH/dP, -dH/dT)``."""
        nodal = nodal_state(state[:, 0, 0], self.depth, momentum=state[:, 1, 0])
        rate = np.empty((len(state), 2, *state.shape[3:]))
        rate[:, 0] = nodal.velocity
        np.negative(nodal.gradient, out=rate[:, 1])
        rate = nodal.left[:, None] @ rate @ nodal.right_t[:, None]
        return rate[:, :, None], nodal.roots[:, -1]

    def moving_frame(self, state: Array, rate: Array) -> MovingFrame:
        """Return a frame that turns with T; the one at rest where the chart is nearly flat."""
        if self.depth < _SHALLOW:
            return Rest()
        return Turning(angular_velocities(state[:, 0, 0], rate[:, 0, 0], self.depth))

    def core(self, position: Array) -> Array:
        """Return T itself."""
        return position

    def project(self, state: Array) -> Array:
        """Return the state: the chart is open."""
        return state

    @property
    def linearized(self) -> Flow:
        """Geodesics with variations (dT, dP)."""
        return _Linearized(self.depth)

    @property
    def parallel(self) -> Flow:
        """Not known yet: the metric transports by a ladder of exps and logs."""
        raise NotImplementedError("End-to-end matrices have no flow of parallel vectors.")

    def covector(self, unit: Unit, gradient: Array) -> Array:
        """Return gradients by X as covectors at T: the chart is symmetric in its frame."""
        return pull_from_root(_frame(unit), gradient)

    def gradient(self, unit: Unit, covector: Array) -> Array:
        """Return covectors at T as Euclidean gradients by X."""
        return push_to_root(_frame(unit), covector)

    def covector_basis(self, unit: Unit) -> Array:
        """Return the matrix units."""
        n_batch, n = unit.position.shape[:2]
        return np.broadcast_to(np.eye(n * n).reshape(n * n, n, n), (n_batch, n * n, n, n))

    def vector(self, unit: Unit, covector: Array) -> Array:
        """Return the velocities of momenta."""
        return raise_(_frame(unit), covector)

    def momentum(self, unit: Unit, vector: Array) -> Array:
        """Return the momenta of velocities."""
        return lower(_frame(unit), vector)

    def covariant(self, unit: Unit, rate: Array, field: Array, change: Array) -> Array:
        """Return ``dP - <Gamma(., dT), T'>``."""
        frame = _of_size(_frame(unit), frobenius(unit.position))
        return change - root_connection(frame, raise_(frame, rate), field)

    def held(self, unit: Unit, rate: Array, field: Array) -> Array:
        """Return ``<Gamma(., J), V>`` of the chart of X."""
        frame = _frame(unit)
        field, velocity = (pull_from_root(frame, v) for v in (field, raise_(frame, rate)))
        return point_connection(frame, field, velocity)

    def curved(self, unit: Unit, rate: Array, gradient: Array) -> Array:
        """Return zero: the manifold is open in the matrices."""
        return np.zeros_like(gradient)


class _Linearized(ObservableSystem):
    """The Hamiltonian flow with its linearization; all share the norm that bounds errors."""

    def rates(self, state: Array) -> tuple[Array, Array]:
        """Return the Hamiltonian field and its derivative along the variations."""
        rate = np.empty_like(state)
        nodal, rate[:, 0, 1:], rate[:, 1, 1:] = linearized_rates(
            state[:, 0, 0], state[:, 1, 0], state[:, 0, 1:], state[:, 1, 1:], self.depth
        )
        rate[:, 0, 0] = nodal.leave(nodal.velocity)
        rate[:, 1, 0] = -nodal.leave(nodal.gradient)
        return rate, nodal.roots[:, -1]


def _frame(unit: Unit) -> Frame:
    """Return the frame of a unit that this system has made."""
    assert unit.frame is not None
    return unit.frame


def _top(unit: Unit) -> Array:
    """Return what the frame of a point was divided by."""
    assert unit.top is not None
    return unit.top


def _of_size(frame: Frame, size: Array) -> Frame:
    """Return the frame of root singular values of the given norm."""
    roots = frame.roots
    factor = size / np.sqrt((roots**2).sum(axis=-1))
    return Frame(frame.left, roots * factor[:, None], frame.right_t, frame.depth, frame.depth)
