"""End-to-end matrices as a system: the geodesic flow of the polar chart, any rank and depth."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dln_manifolds.geodesics.flat_system import FlatSystem
from dln_manifolds.geodesics.polar_paths import PolarPaths
from dln_manifolds.geodesics.root_paths import SHALLOW, RootChart, RootPaths
from dln_manifolds.geodesics.system import (
    TIP,
    Chart,
    Flow,
    FlowResult,
    Guess,
    PathFamily,
    Points,
    Unit,
)
from dln_manifolds.geometry.bounds import Bounds, lower_bound, upper_bound
from dln_manifolds.geometry.closed_flows import closed_flow
from dln_manifolds.geometry.closed_forms import (
    StraightFactors,
    closed_form_velocity,
    straight_factors,
)
from dln_manifolds.geometry.facing import Earlier, is_steep
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.metric import CometricDerivative
from dln_manifolds.geometry.polar_flow import Layout, polar_rates, speed_squared
from dln_manifolds.geometry.polar_frame import PolarFrame, gauged
from dln_manifolds.geometry.polar_transport import parallel_polar_rates
from dln_manifolds.geometry.polar_variation import linearized_polar_rates
from dln_manifolds.geometry.rank import weingarten
from dln_manifolds.geometry.scaling import PolarCone, rescaled
from dln_manifolds.geometry.stretch import per_layer
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import divided, nearest_orthogonal, transpose, weigh

# Tolerance of the flow at which residuals of 1e-11 can be verified, and the share of them that is
# kept back for the rounding by which another solution of the same flow differs.
_FULL, _SHARE = 1e-13, 0.98
# Entries of matrices whose upper bounds are sought at a time: each asks for hundreds of numbers.
_BLOCK = 2**14
# The error of the initial momentum is about a tenth of the square of the last coefficients.
_DECAYED = 5e-6
# Least root, relative to the others, from which paths are sought in the polar chart first.
_BORDER_FULL, _BORDER = 0.05, 0.2
# Depths above which they are: square matrices of full rank turn little until then.
_DEEP_FULL, _DEEP = 4, 2
# Depth from which there are polar paths alone: roots turn in valleys that narrow like 1/N.
_DEEPEST = 1000
# Families of paths.
_POLAR, _ROOT = 0, 1


@dataclass(frozen=True)
class ObservableSystem:
    """Geodesics of m x n matrices of rank r at depth N, by the polar chart.

    States are positions ``[D; E_L; E_R]`` with momenta in the metric ``N g_N``, and scales the
    logarithms mu of what matrices were divided by; see :mod:`dln_manifolds.geometry.polar_flow`.
    """

    depth: float
    shape: tuple[int, int]
    rank: int
    reach = 0.0
    core_rank = None

    @cached_property
    def layout(self) -> Layout:
        """Where the parts of states stand."""
        rows, columns = self.shape
        return Layout((rows, columns), self.rank, self.depth)

    @property
    def infinite(self) -> bool:
        """Whether this is the limit of infinite depth."""
        return self.depth == np.inf

    @property
    def straight(self) -> bool:
        """At N = 1 and full rank the metric is flat: no rounding of a decomposition in exp, log."""
        return self.depth == 1 and self.rank == min(self.shape)

    @property
    def tip(self) -> float:
        """On straight lines nothing happens near zero."""
        return 0.0 if self.straight else TIP

    @property
    def cautious(self) -> bool:
        """Near singular matrices the end of a collocation step is hardly better than its nodes."""
        return self.depth < SHALLOW

    def goal(self, tolerance: float = _FULL) -> float:
        """Return the relative residual at which log counts as solved.

        It is 1e-11, or 100 times a looser tolerance of the flow that has to verify it.
        """
        return _SHARE * 100 * max(tolerance, _FULL)

    # --- points and velocities

    def unit(self, points: Points) -> Unit:
        """Scale matrices to mean square one of their roots; at infinity to ``|det X| = 1``."""
        frame, scale = PolarFrame.of_matrices(points.frame, self.layout)
        return Unit(frame.position, scale, frame)

    def at(self, position: Array, scale: Array) -> Unit:
        """Decompose positions."""
        return Unit(position, scale, PolarFrame.of_positions(position, self.layout))

    def point(self, unit: Unit) -> Array:
        """Return matrices X."""
        return _frame(unit).points(unit.scale)

    def flat(self, unit: Unit, velocity: Array) -> Array:
        """Return the momenta of velocities at X."""
        frame = _frame(unit)
        return frame.lowered(frame.body(divided(velocity, unit.scale)))

    def sharp(self, unit: Unit, rate: Array, scale: Array) -> Array:
        """Return velocities at X of momenta at ``X / e^scale``."""
        frame = _frame(unit)
        return divided(frame.velocity(frame.raised(rate)), -scale)

    def speed(self, unit: Unit, rate: Array) -> Array:
        """Return the lengths of momenta in ``N g_N`` at size one."""
        # Free of squares that underflow.
        size = np.abs(rate).max(axis=(-2, -1))
        unit_rate = weigh(1 / np.where(size == 0, 1.0, size), rate)
        return size * np.sqrt(speed_squared(unit.position, unit_rate, self.layout))

    def length(self, scale: Array, speed: Array) -> Array:
        """Return lengths of unit curves at scales: ``e^(mu/N) / sqrt(N)`` times, or the same."""
        return speed if self.infinite else np.exp(scale / self.depth) / np.sqrt(self.depth) * speed

    def cone(self, first: Unit, last: Unit) -> PolarCone:
        """Return the cone law between points of these scales."""
        growth = _frame(first).growth_to(_frame(last))
        growth = last.scale - first.scale if growth is None else growth
        return PolarCone(first.scale, growth, self.layout)

    def gap(self, position: Array, other: Array) -> Array:
        """Return ``position - other``, the other in the gauge that is nearest to it."""
        (_, *frames), (core, *turned) = map(self.layout.split, (position, other))
        overlap = sum(transpose(e) @ f for e, f in zip(turned, frames, strict=True))
        gauge = nearest_orthogonal(np.asarray(overlap))
        moved = self.layout.stacked(transpose(gauge) @ core @ gauge, *(e @ gauge for e in turned))
        return position - moved

    def lower_bound(self, first: Unit, last: Unit) -> Array:
        """Return the bound of :mod:`dln_manifolds.geometry.bounds`."""
        return lower_bound(*(_scaled(unit) for unit in (first, last)))

    def bounds(self, first: Points, last: Points) -> Bounds:
        """Return both bounds of :mod:`dln_manifolds.geometry.bounds`."""
        n_batch, rank = first.frame.values.shape
        upper, step = np.empty(n_batch), max(1, _BLOCK // rank**2)
        for begin in range(0, n_batch, step):
            rows = np.arange(begin, min(begin + step, n_batch))
            upper[rows] = upper_bound(first.frame.take(rows), last.frame.take(rows))
        return Bounds(lower_bound(first.frame, last.frame), upper)

    def verified(self, start: Points, end: Points) -> StraightFactors | None:
        """Return geodesics between matrices with equal polar factors at N = 2."""
        if self.depth != 2 or not self.layout.full or 0 in (start.value.size, end.value.size):
            return None
        return straight_factors(start.frame, end.frame, start.value, end.value)

    def closed_form(self, first: Unit, last: Unit) -> tuple[Array, Array]:
        """Return the momenta of geodesics that are known in closed form."""
        frame = _frame(first)
        frames = map(_frame, (first, last))
        ends = (frame.rounded if self.depth == 2 else frame.frame for frame in frames)
        blocks, known = closed_form_velocity(*ends)
        if not known.any():
            return np.zeros_like(first.position), known
        return frame.lowered(frame.body_of(blocks)), known

    def families(self, first: Unit, last: Unit) -> list[Array]:
        """Return the polar chart first where networks are deep and roots not too far apart."""
        least = [_frame(unit).roots[:, -1] / _frame(unit).roots[:, 0] for unit in (first, last)]
        full = self.layout.full
        near = np.minimum(*least) >= (_BORDER_FULL if full else _BORDER)
        deep = self.depth > (_DEEP_FULL if full else _DEEP)
        choice = np.where(near & deep, _POLAR, _ROOT)
        return [choice, 1 - choice] if self.depth < _DEEPEST else [np.full_like(choice, _POLAR)]

    def steep(self, first: Unit, last: Unit) -> Array:
        """Whether both ends are nearly singular, and polar factors far apart."""
        return is_steep(_frame(first).frame, _frame(last).frame, self.layout)

    def paths(self, family: int, first: Unit, last: Unit, tolerance: float) -> PathFamily:
        """Return a family of paths."""
        decayed = _DECAYED * max(1.0, tolerance / _FULL) ** 0.5
        kind: type[PolarPaths] | type[RootPaths] = PolarPaths if family == _POLAR else RootPaths
        return kind(
            first.position,
            last.position,
            shape=self.layout.shape,
            depth=self.depth,
            decayed=decayed,
        )

    def resumed(self, paths: PathFamily, old: Earlier, rows: Array) -> tuple[Array, Guess] | None:
        """Return those of square matrices of full rank."""
        assert isinstance(paths, PolarPaths | RootPaths)
        return paths.resumed(old, rows) if self.layout.full and rows.size else None

    # --- the flow

    @property
    def charts(self) -> tuple[Chart, ...]:
        """Return the root chart beside the own one, for square matrices of full rank.

        Where two roots are both small, singular vectors turn fast, and the polar chart with them.
        """
        if self.infinite or not self.layout.full:
            return (self,)
        root = RootChart(self.layout)
        return (root, self) if self.depth < SHALLOW else (self, root)

    def entered(self, state: Array) -> Array:
        """Return the states."""
        return state

    def left(self, result: FlowResult) -> FlowResult:
        """Return the result."""
        return result

    def rates(self, state: Array) -> tuple[Array, Array]:
        """Return the geodesic flow."""
        rates, smallest = polar_rates(state[:, :, 0], self.layout)
        return rates[:, :, None], smallest

    def core(self, position: Array) -> Array:
        """Return ``H = 1 + D/N``."""
        stretch = self.layout.split(position)[0]
        return np.eye(self.rank) + per_layer(stretch, self.depth)

    def narrowed(
        self, start: Points, *, vectors: Array | None = None, end: Points | None = None
    ) -> None:
        """Return None: the size of positions is that of frames, and paths reduce themselves."""

    def project(self, state: Array) -> Array:
        """Orthonormalize frames, and take off what momenta have along them."""
        return self.layout.project(state)

    def chart(self, state: Array, rate: Array) -> tuple[Array, Array] | None:
        """Return H with zeros, and the velocity of ``E_L H E_R^T`` beside it; None at infinity.

        Geodesics along which these are parallel are rays of the cone.
        """
        if self.infinite:
            return None
        (stretch, *frames), (growth, *moved) = map(
            self.layout.split, (state[:, 0, 0], rate[:, 0, 0])
        )
        core = np.eye(self.rank) + stretch / self.depth
        turn, *beside = transpose(frames[0]) @ moved[0], *moved
        beside = [de - e @ (transpose(e) @ de) for e, de in zip(frames, moved, strict=True)]
        velocity = growth / self.depth + turn @ core + core @ turn
        zeros = np.zeros_like(beside[0]), np.zeros_like(beside[1])
        return (
            self.layout.stacked(core, *zeros),
            self.layout.stacked(velocity, *(y @ core for y in beside)),
        )

    def grown(self, position: Array, growth: Array) -> Array:
        """Return positions along rays, ``H -> growth H``."""
        moved = position.copy()
        stretch = self.layout.split(moved)[0]
        identity = np.eye(self.rank)
        stretch *= growth[:, None, None]
        stretch += self.depth * (growth - 1)[:, None, None] * identity
        return moved

    def lines(self, state: Array, span: Array) -> tuple[Array, Array, Array] | None:
        """Return those of :mod:`dln_manifolds.geometry.closed_flows`."""
        found = closed_flow(state[:, :, 0], span, self.layout)
        return None if found is None else (found[0], found[1][:, :, None], found[2])

    def radial(self, unit: Unit, pace: Array) -> Array:
        """Return the rates of moving by ``X' = pace X``."""
        rate = np.zeros_like(unit.position)
        core = self.layout.split(rate)[0]
        core[...] = pace[:, None, None] * self.core(unit.position)
        return rate

    @property
    def linearized(self) -> Flow:
        """Geodesics with variations."""
        return _Linearized(self.depth, self.shape, self.rank)

    @property
    def parallel(self) -> Flow:
        """Geodesics with momenta of parallel vectors."""
        return _Parallel(self.depth, self.shape, self.rank)

    # --- derivatives

    def rescaled(self, state: Array, before: Array, after: Array) -> Array:
        """Return states of points that were divided by ``e^before``, divided by ``e^after``."""
        return rescaled(state, before - after, self.layout)

    def length_factor(self, scale: Array) -> Array:
        """Return what squared lengths by points are of those by points of size one."""
        if self.infinite:
            return np.exp(-scale)
        return np.exp((2 / self.depth - 1) * scale) / self.depth

    def covector(self, unit: Unit, gradient: Array) -> Array:
        """Return gradients by X as covectors of the chart."""
        return _frame(unit).covector(gradient)

    def gradient(self, unit: Unit, covector: Array) -> Array:
        """Return covectors of the chart as Euclidean gradients by X, tangent ones."""
        return _frame(unit).gradient(covector)

    def covector_basis(self, unit: Unit) -> Array:
        """Return a basis."""
        return _frame(unit).covector_basis()

    def vector(self, unit: Unit, covector: Array) -> Array:
        """Return the body vectors of momenta."""
        return _frame(unit).raised(covector)

    def momentum(self, unit: Unit, vector: Array) -> Array:
        """Return the momenta of body vectors."""
        return _frame(unit).lowered(vector)

    def gauged(self, state: Array, field: Array, change: Array) -> tuple[Array, Array]:
        """Return variations of states as body vectors and changes of momenta beside them."""
        return gauged(self.layout, state, field, change)

    def covariant(self, unit: Unit, rate: Array, field: Array, change: Array) -> Array:
        """Return the change of the momentum in the chart of X, as a covector of this one."""
        return _frame(unit).pulled(rate, field, change)

    def held(self, unit: Unit, rate: Array, field: Array) -> Array:
        """Return the gradient by X of ``<J, A_X^-1 V>``, both kept as they are."""
        frame = _frame(unit)
        inside = frame.frame
        q, p = (
            inside.blocks(frame.velocity(body)) / inside.weights
            for body in (field, frame.raised(rate))
        )
        by_point = CometricDerivative(inside).gradient_in_frame(q, p)
        factor = 1.0 if self.infinite else self.depth
        return -factor * inside.assemble(by_point)

    def curved(self, unit: Unit, rate: Array, gradient: Array) -> Array:
        """Return the gradient due to velocities leaving the tangent space: ``II(., V)``."""
        frame = _frame(unit)
        velocity = frame.velocity(frame.raised(rate))
        return weingarten(frame.frame, velocity, gradient)


def system_of_matrices(
    depth: float, shape: tuple[int, int], rank: int
) -> ObservableSystem | FlatSystem:
    """Return the system of end-to-end matrices; square ones of full rank are flat at N = 1."""
    if depth == 1 and shape == (rank, rank):
        return FlatSystem()
    return ObservableSystem(depth, shape, rank)


class _Linearized(ObservableSystem):
    """The flow with its linearization; all share the norm that bounds errors."""

    def rates(self, state: Array) -> tuple[Array, Array]:
        """Return the flow and its derivative along the variations."""
        return linearized_polar_rates(state, self.layout)


class _Parallel(ObservableSystem):
    """The flow with momenta in both rows, of vectors that are transported parallel."""

    def rates(self, state: Array) -> tuple[Array, Array]:
        """Return the flow and the rates of the momenta."""
        return parallel_polar_rates(state, self.layout)


def _frame(unit: Unit) -> PolarFrame:
    """Return the frame of a unit that this system has made."""
    assert isinstance(unit.frame, PolarFrame)
    return unit.frame


def _scaled(unit: Unit) -> Frame:
    """Return the frame of X itself."""
    frame = _frame(unit).frame
    values = frame.values * np.exp(unit.scale)[:, None]
    return Frame(frame.left, values, frame.right_t, frame.depth, 1.0)
