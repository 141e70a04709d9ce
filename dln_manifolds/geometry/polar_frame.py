r"""Between the matrix X and the polar chart: points, velocities and covectors.

With ``X = e^mu U diag(f) V^T``, ``f = f(d)`` in the singular frame, a *body* vector of the chart is
``[h + k; y_L; y_R]``: D changes by h, the frames turn by ``E_L k`` and ``-E_R k``, and move by
``y_L`` and ``y_R`` beside themselves. Of this X changes by

.. math:: h_{ij} \frac{f_i - f_j}{d_i - d_j} + k_{ij} (f_i + f_j), \qquad y_L f, \qquad y_R f

in its core and in the blocks beside, and covectors are taken to the chart by the same numbers. The
metric ``N g_N`` weighs h by alpha, k by ``4 mean^2 / alpha`` and y by ``N l^2``. (Ours.)
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.polar_flow import Layout
from dln_manifolds.geometry.stretch import (
    first_differences,
    log_values_of,
    pair_weights,
    roots_of,
    second_differences,
    stretch_of,
)
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.functions import log_quotient
from dln_manifolds.numerics.matrices import parity_combine, transpose

# Least root of what is decomposed: less is rounding of a stretch.
_LEAST = float(np.finfo(float).eps)


@dataclass(frozen=True, eq=False)
class PolarFrame:
    """Points of the polar chart with the singular frames of ``X / e^mu``, one batch axis.

    ``stretch`` are the eigenvalues d, descending, and ``axes`` Q with ``U = E_L Q``, ``V = E_R Q``.
    ``largest`` are the largest singular values of X, where matrices were decomposed: quotients have
    digits that differences of mu have not.
    """

    frame: Frame
    stretch: Array
    axes: Array
    layout: Layout
    largest: Array | None = None

    @classmethod
    def of_matrices(cls, frame: Frame, layout: Layout) -> tuple["PolarFrame", Array]:
        """Return matrices in the gauge of their singular frames, of size one, and mu."""
        depth, s = layout.depth, frame.singular_values
        logs = np.log(s / s[:, :1])
        if np.isfinite(depth):
            # The mean square of the roots becomes one.
            shift = 0.5 * depth * np.log1p(np.expm1(2 * logs / depth).mean(axis=-1))
        else:
            shift = logs.mean(axis=-1)
        logs = logs - shift[:, None]
        unit = Frame(frame.left, np.exp(logs), frame.right_t, depth, 1.0)
        axes = np.broadcast_to(np.eye(layout.rank), (len(s), layout.rank, layout.rank))
        made = cls(unit, stretch_of(logs, depth), axes, layout, s[:, 0])
        return made, np.log(s[:, 0]) + shift

    @classmethod
    def of_positions(cls, position: Array, layout: Layout) -> "PolarFrame":
        """Decompose positions."""
        core, left, right = layout.split(position)
        d, axes = np.linalg.eigh(core)
        d, axes = d[:, ::-1], axes[:, :, ::-1]
        if np.isfinite(layout.depth):
            d = np.maximum(d, layout.depth * (_LEAST - 1))
        values = np.exp(log_values_of(d, layout.depth))
        frame = Frame(left @ axes, values, transpose(right @ axes), layout.depth, 1.0)
        return cls(frame, d, axes, layout)

    def take(self, members: Array) -> "PolarFrame":
        """Return some members."""
        largest = None if self.largest is None else self.largest[members]
        parts = self.frame.take(members), self.stretch[members], self.axes[members]
        return PolarFrame(*parts, self.layout, largest)

    def growth_to(self, other: "PolarFrame") -> Array | None:
        """Return the difference of both mu, exact to its own digits, where both were matrices."""
        if self.largest is None or other.largest is None:
            return None
        depth = self.layout.depth
        # f(d_1) is the largest singular value of the unit matrix.
        within = [log_values_of(x.stretch[:, 0], depth) for x in (self, other)]
        return log_quotient(other.largest, self.largest) + within[0] - within[1]

    @property
    def position(self) -> Array:
        """Positions in the gauge of the axes."""
        core = (self.axes * self.stretch[:, None, :]) @ transpose(self.axes)
        back = transpose(self.axes)
        right = transpose(self.frame.right_t)
        return self.layout.stacked(core, self.frame.left @ back, right @ back)

    def points(self, scale: Array) -> Array:
        """Return X, with mu as the scale."""
        logs = log_values_of(self.stretch, self.layout.depth) + scale[:, None]
        return self.frame.compose(np.exp(logs))

    @property
    def rounded(self) -> Frame:
        """The frame with the singular values of the stretch, which loses digits of small ones."""
        values = np.exp(log_values_of(self.stretch, self.layout.depth))
        return replace(self.frame, values=values)

    @cached_property
    def _values(self) -> Array:
        return self.frame.values

    @cached_property
    def _chart_weights(self) -> tuple[Array, Array, Array]:
        """Even and odd part of the core, and sides, of the differential of the chart."""
        sums = self._values[:, :, None] + self._values[:, None, :]
        even = first_differences(self.stretch, self.layout.depth)
        return even, sums, self._values[:, None, :]

    @cached_property
    def _metric_weights(self) -> tuple[Array, Array, Array]:
        """The same of the metric on body vectors."""
        roots = roots_of(self.stretch, self.layout.depth)
        mean = 0.5 * (roots[:, :, None] + roots[:, None, :])
        alpha = pair_weights(self.stretch, self.layout.depth).alpha
        inertia = (roots**2)[:, None, :]
        if np.isfinite(self.layout.depth):
            inertia = self.layout.depth * inertia
        return alpha, 4 * mean * mean / alpha, inertia

    def _weighed(self, weights: tuple[Array, Array, Array], stacked: Array, power: int) -> Array:
        """Multiply what is given in the singular gauge by weights, or divide by them."""
        core, left, right = self.layout.split(stacked)
        even, odd, beside = (w**power for w in weights)
        return self.layout.stacked(parity_combine(even, odd, core), left * beside, right * beside)

    def _entered(self, stacked: Array) -> Array:
        """Go to the singular gauge."""
        turned = stacked @ self.axes
        turned[:, : self.layout.rank] = transpose(self.axes) @ turned[:, : self.layout.rank]
        return turned

    def _left(self, stacked: Array) -> Array:
        """Return from the singular gauge."""
        turned = stacked @ transpose(self.axes)
        turned[:, : self.layout.rank] = self.axes @ turned[:, : self.layout.rank]
        return turned

    def _rows(self, blocks: Array) -> Array:
        """Return blocks with all rows, those of nothing zero."""
        rank = self.layout.rank
        rows = np.zeros((len(blocks), self.layout.rows, rank))
        core, left, right = self.layout.split(rows)
        n_left, n_right = self.frame.sides
        core[...] = blocks[:, :rank]
        if n_left:
            left[...] = blocks[:, rank : rank + n_left]
        if n_right:
            right[...] = blocks[:, rank + n_left :]
        return rows

    def _matrix(self, rows: Array) -> Array:
        """Return matrices of blocks with all rows."""
        core, left, right = self.layout.split(rows)
        n_left, n_right = self.frame.sides
        parts = [core, *([left] if n_left else []), *([right] if n_right else [])]
        return self.frame.assemble(np.concatenate(parts, axis=1) if len(parts) > 1 else core)

    @property
    def roots(self) -> Array:
        """Roots l, descending."""
        return roots_of(self.stretch, self.layout.depth)

    def body(self, velocity: Array) -> Array:
        """Return body vectors of velocities of ``X / e^mu``."""
        return self.body_of(self.frame.blocks(velocity))

    def body_of(self, blocks: Array) -> Array:
        """Return body vectors of velocities of ``X / e^mu``, given as blocks in its frame."""
        return self._left(self._weighed(self._chart_weights, self._rows(blocks), -1))

    def velocity(self, body: Array) -> Array:
        """Return velocities of ``X / e^mu`` of body vectors."""
        return self._matrix(self._weighed(self._chart_weights, self._entered(body), 1))

    def covector(self, gradient: Array) -> Array:
        """Return covectors of the chart of Euclidean gradients by ``X / e^mu``."""
        return self._left(
            self._weighed(self._chart_weights, self._rows(self.frame.blocks(gradient)), 1)
        )

    def gradient(self, covector: Array) -> Array:
        """Return Euclidean gradients by ``X / e^mu``, tangent ones, of covectors of the chart."""
        return self._matrix(self._weighed(self._chart_weights, self._entered(covector), -1))

    def lowered(self, body: Array) -> Array:
        """Return the momenta of body vectors."""
        return self._left(self._weighed(self._metric_weights, self._entered(body), 1))

    def raised(self, momentum: Array) -> Array:
        """Return the body vectors of momenta."""
        return self._left(self._weighed(self._metric_weights, self._entered(momentum), -1))

    def covector_basis(self) -> Array:
        """Return a basis of the covectors, shape ``(n_batch, dim, rows, r)``."""
        r, layout = self.layout.rank, self.layout
        n_batch = len(self.stretch)
        parts = [np.zeros((n_batch, r * r, layout.rows, r))]
        parts[0][:, :, :r] = np.eye(r * r).reshape(r * r, r, r)
        bases = self.frame.left, transpose(self.frame.right_t)
        for k, basis in enumerate(bases):
            size = basis.shape[1] - r
            if size == 0:
                continue
            beside = np.linalg.svd(basis)[0][:, :, r:]
            part = np.zeros((n_batch, size * r, layout.rows, r))
            # One column of the complement in one column of the block.
            units = beside[:, :, :, None, None] * np.eye(r)
            units = np.moveaxis(units, 1, 3).reshape(n_batch, size * r, basis.shape[1], r)
            layout.split(part)[k + 1][...] = units
            parts.append(part)
        return np.concatenate(parts, axis=1)

    def pulled(self, momentum: Array, body: Array, change: Array) -> Array:
        r"""Return the covector that pairs with ``dX`` like ``dP`` along a variation of a geodesic.

        ``body`` is the variation of the point and ``change`` that of the momentum p in the chart.
        In the matrices the momentum is P, ``<P, dX> = <p, body>``, and its change differs from that
        of p by ``<P, d^2 X>``. As a covector of the chart.
        """
        layout, weights = self.layout, self._chart_weights
        x, p = self._entered(body), self._entered(momentum)
        core, left, right = layout.split(self._weighed(weights, p, -1))
        moved, y_l, y_r = layout.split(x)
        h, k = 0.5 * (moved + transpose(moved)), 0.5 * (moved - transpose(moved))
        even = 0.5 * (core + transpose(core))
        table = second_differences(self.stretch, layout.depth)
        bent = np.einsum("bikj,bik,bij->bkj", table, h, even)
        stretched = weights[0] * h
        turned = core @ stretched + stretched @ core
        own = layout.stacked(
            bent + transpose(bent) + 0.5 * (turned - transpose(turned)),
            left @ stretched,
            right @ stretched,
        )
        crossed = transpose(y_l) @ left + transpose(transpose(y_r) @ right)
        chart = layout.stacked(
            crossed - k @ core - core @ k,
            -y_l @ core - left @ k,
            -y_r @ transpose(core) + right @ k,
        )
        total = own + self._weighed(weights, chart, 1)
        return change - self._left(total)


def gauged(layout: Layout, state: Array, field: Array, change: Array) -> tuple[Array, Array]:
    """Return body vectors, and changes of momenta beside them, of variations of states.

    ``state`` is that of geodesics, ``(n_batch, 2, rows, r)``; ``field`` and ``change`` have one
    more axis after the first. A common turn of both frames, which D and the momenta take along, is
    no motion and is taken off.
    """
    position, momentum = state[:, 0, None], state[:, 1, None]
    stretch, *frames = layout.split(position)
    varied, *moved = layout.split(field)
    turns = [transpose(e) @ de for e, de in zip(frames, moved, strict=True)]
    turns = [0.5 * (turn - transpose(turn)) for turn in turns]
    common, opposite = 0.5 * (turns[0] + turns[1]), 0.5 * (turns[0] - turns[1])
    beside = [de - e @ (transpose(e) @ de) for e, de in zip(frames, moved, strict=True)]
    h = varied - stretch @ common + common @ stretch
    body = layout.stacked(0.5 * (h + transpose(h)) + opposite, *beside)
    core, *momenta = layout.split(momentum)
    changed, *sides = layout.split(change)
    sides = [
        dp - p @ common - e @ (transpose(e) @ (dp - p @ common))
        for dp, p, e in zip(sides, momenta, frames, strict=True)
    ]
    return body, layout.stacked(changed - core @ common + common @ core, *sides)
