r"""Procrustes problems in a chain: layers of given cores that come nearest to other layers.

Of all layers ``Q_p K_p Q_{p-1}^T`` with given ``Q_0``, ``Q_N`` and r x r cores ``K_p``, and any
orthonormal columns ``Q_1, ..., Q_{N-1}`` in between, those nearest to R maximize
``sum_p <R_p, Q_p K_p Q_{p-1}^T>``. The derivative by ``Q_p`` is

.. math:: M_p = R_p Q_{p-1} K_p^T + R_{p+1}^T Q_{p+1} K_{p+1},

and the best ``Q_p`` for given neighbours is the polar factor of ``M_p``. So all odd p are solved at
once, then all even p; Newton's method finishes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from dln_manifolds.errors import ConvergenceError
from dln_manifolds.geometry.chain import Chain
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import size_of, transpose
from dln_manifolds.numerics.newton import minimize

# Gradient relative to |W| |R| at which an alignment counts as solved.
_TOLERANCE = 1e-13
# Sweeps for every start, and for the best of them before Newton steps, and rounds of both.
_FIRST_SWEEPS, _SWEEPS, _NEWTON_STEPS, _ROUNDS = 8, 20, 60, 8
# A sweep that gains less than this share of |W| |R| finds nothing that Newton's method missed.
_GAIN = 1e-12


def places_of(widths: Sequence[int]) -> list[tuple[int, list[int]]]:
    """Return the different widths, each with the places where it stands."""
    return [(w, [k for k, size in enumerate(widths) if size == w]) for w in sorted(set(widths))]


def _polar(matrices: Array, like: Array | None = None) -> Array:
    """Return the nearest matrices with orthonormal columns; square ones of the sign of ``like``."""
    u, _, vt = np.linalg.svd(matrices, full_matrices=False)
    if like is not None and matrices.shape[-2] == matrices.shape[-1]:
        signs = np.linalg.slogdet(u)[0] * np.linalg.slogdet(vt)[0] * np.linalg.slogdet(like)[0]
        u[..., -1] *= np.where(signs < 0, -1.0, 1.0)[..., None]
    return np.asarray(u @ vt)


def _nearest(matrices: Array, widths: Sequence[int], like: Array | None = None) -> Array:
    """Apply `_polar` to padded matrices ``(..., k, D, r)`` of k different widths."""
    result = np.zeros(matrices.shape)
    for width, places in places_of(widths):
        rows = np.s_[..., places, :width, :]
        result[rows] = _polar(matrices[rows], None if like is None else like[rows])
    return result


@dataclass(frozen=True, eq=False)
class Fibre:
    """Layers ``Q_p K_p Q_{p-1}^T`` with given K, and layers R to which they shall be near.

    Shapes ``(..., N, r, r)`` of K and ``(..., *chain.array_shape)`` of R; those of all
    ``Q_0, ..., Q_N`` are ``(..., N + 1, D, r)``, with zeros beyond their widths.
    """

    chain: Chain
    cores: Array
    reference: Array

    def take(self, members: Array) -> Self:
        """Return some members."""
        return type(self)(self.chain, self.cores[members], self.reference[members])

    def layers(self, bases: Array) -> Array:
        """Return the layers."""
        after, before = bases[..., 1:, :, :], bases[..., :-1, :, :]
        return self.chain.outer(after @ self.cores, transpose(before))

    def derivative(self, bases: Array, step: Array) -> Array:
        """Return the derivative of the layers along a step of all bases."""
        turned = self.chain.outer(
            step[..., 1:, :, :] @ self.cores, transpose(bases[..., :-1, :, :])
        )
        moved = self.chain.outer(bases[..., 1:, :, :] @ self.cores, transpose(step[..., :-1, :, :]))
        return np.asarray(turned + moved)

    def ahead(self, bases: Array) -> Array:
        """Return ``R_p Q_{p-1} K_p^T``, p = 1 .. N; their products with ``Q_p`` sum to <R, W>."""
        return self.chain.times(self.reference, bases[..., :-1, :, :] @ transpose(self.cores))

    def behind(self, bases: Array) -> Array:
        """Return ``R_p^T Q_p K_p``, p = 1 .. N."""
        return self.chain.transposed_times(self.reference, bases[..., 1:, :, :] @ self.cores)

    def coupling(self, bases: Array) -> Array:
        """Return ``M_p``, the derivative by ``Q_p`` of <R, W>, p = 1 .. N-1."""
        return self.ahead(bases)[..., :-1, :, :] + self.behind(bases)[..., 1:, :, :]

    def _every_second(self, bases: Array, first: int) -> Array:
        """Return every second ``M_p``, from the first of them on."""
        if not self.chain.is_uniform:
            return self.coupling(bases)[..., first - 1 :: 2, :, :]
        depth = self.chain.count
        before, here, after = (np.s_[..., first + k : depth + k : 2, :, :] for k in (-1, 0, 1))
        ahead = self.reference[before] @ (bases[before] @ transpose(self.cores[before]))
        return ahead + transpose(self.reference[here]) @ (bases[after] @ self.cores[here])

    def overlap(self, bases: Array) -> Array:
        """Return ``<R, W>``."""
        return np.asarray(np.sum(bases[..., 1:, :, :] * self.ahead(bases), axis=(-3, -2, -1)))

    def squares(self) -> tuple[Array, Array]:
        """Return ``|W|^2`` and ``|R|^2``."""
        axes = tuple(range(-len(self.chain.array_shape), 0))
        return np.sum(self.cores**2, axis=(-3, -2, -1)), np.sum(self.reference**2, axis=axes)

    def carried(
        self, bases: Array, backward: bool = False, closed: bool = False, like: Array | None = None
    ) -> Array:
        """Turn layer after layer into place, from the input on, or back from the output.

        If ``closed`` the last one for the layers on both of its sides.
        """
        bases, widths, layers = bases.copy(), self.chain.widths, self.chain.layers(self.reference)
        for p in range(1, len(layers))[:: -1 if backward else 1]:
            before, after = (
                bases[..., p - 1, : widths[p - 1], :],
                bases[..., p + 1, : widths[p + 1], :],
            )
            both = closed and p == (1 if backward else len(layers) - 1)
            coupling = np.zeros(bases[..., p, : widths[p], :].shape)
            if both or not backward:
                coupling += layers[p - 1] @ before @ transpose(self.cores[..., p - 1, :, :])
            if both or backward:
                coupling += transpose(layers[p]) @ after @ self.cores[..., p, :, :]
            sign = None if like is None else like[..., p, : widths[p], :]
            bases[..., p, : widths[p], :] = _polar(coupling, sign)
        return bases

    def swept(self, bases: Array, like: Array | None) -> Array:
        """Choose every second ``Q_p`` at its best, then the others; never loses anything."""
        bases, widths = bases.copy(), self.chain.widths
        for parity in (1, 2):
            here = np.s_[..., parity:-1:2, :, :]
            coupling = self._every_second(bases, parity)
            signs = None if like is None else like[here]
            bases[here] = _nearest(coupling, widths[parity:-1:2], signs)
        return bases


def nearest_bases(fibre: Fibre, bases: Array, keep_component: bool) -> Array:
    """Align a flat batch; return all bases, shape ``(n_batch, N + 1, D, r)``."""
    like, hidden = bases if keep_component else None, fibre.chain.widths[1:-1]
    # Only one unknown: the first start has solved it already.
    if len(hidden) < 2:
        return fibre.carried(bases, closed=True, like=like)
    starts = [bases]
    # Also without reflections: the better component is not always the one that the layers, taken
    # one by one, fall into.
    for sign in (None, bases) if like is None and bases.shape[-1] in hidden else (like,):
        starts += [fibre.carried(bases, back, True, sign) for back in (False, True)]
    most = np.full(len(bases), -np.inf)
    for start in starts:
        for _ in range(_FIRST_SWEEPS):
            start = fibre.swept(start, like)
        value = fibre.overlap(start)
        bases = np.where((value > most)[:, None, None, None], start, bases)
        most = np.maximum(value, most)
    for _ in range(_SWEEPS):
        bases = fibre.swept(bases, like)

    scale = np.prod(np.sqrt(fibre.squares()), axis=0)
    left = np.arange(len(bases))
    for _ in range(_ROUNDS):
        part, size = fibre.take(left), scale[left]
        signs = None if like is None else like[left]
        path = Turned(part, bases[left])
        found = np.empty_like(path.unknowns)

        def finished(rows: Array, path: Turned, done: Array, found: Array = found) -> None:
            found[rows] = path.unknowns[done]
            found[rows, 1:-1] = _nearest(found[rows, 1:-1], hidden)

        minimize(path, tolerance=1e-15, max_iterations=_NEWTON_STEPS, finished=finished)
        slope = size_of(Turned(part, found).gradient)
        # Newton's method may also end at a saddle. Sweeps lead away from most of them.
        swept = part.swept(found, signs)
        gain = part.overlap(swept) - part.overlap(found)
        solved = (slope <= _TOLERANCE * size) & (gain <= _GAIN * size)
        again = np.flatnonzero(~solved)
        if again.size:
            part, signs = part.take(again), None if signs is None else signs[again]
            for _ in range(_SWEEPS):
                swept[again] = part.swept(swept[again], signs)
        bases[left] = np.where(solved[:, None, None, None], found, swept)
        left = left[again]
        if left.size == 0:
            return bases
    raise ConvergenceError(
        f"The alignment of {left.size} of {len(bases)} members did not converge, first of the one "
        f"at flat batch index {left[0]}. Its nearest point is not isolated, or nearly so: align it "
        f"with another reference."
    )


class Turned:
    """Layers of some bases, as a problem for `minimize`; steps are tangent to hidden ``Q_p``.

    The energy is ``|W|^2 + |R|^2 - <W, R>``: half the squared distance, plus a constant that keeps
    it away from zero, so that slopes relative to the energy are relative to W and R.
    """

    n_nodes = 1

    def __init__(self, fibre: Fibre, bases: Array) -> None:
        self.unknowns, self._fibre = bases, fibre
        self._hidden = bases[..., 1:-1, :, :]
        coupling = fibre.coupling(bases)
        self.energy = sum(fibre.squares()) - fibre.overlap(bases)
        inside = transpose(self._hidden) @ coupling
        self._symmetric = 0.5 * (inside + transpose(inside))
        self.gradient = -self._tangent(coupling)

    def take(self, members: Array) -> Self:
        """Return some members."""
        return type(self)(self._fibre.take(members), self.unknowns[members])

    def moved(self, step: Array) -> Self:
        """Take the nearest orthonormal columns: to second order a geodesic."""
        # Polar factors of Q + T, (Q + T)^T (Q + T) = I + T^T T.
        values, basis = np.linalg.eigh(transpose(step) @ step)
        root = basis / np.sqrt(1 + np.maximum(values, 0.0))[..., None, :]
        bases = self.unknowns.copy()
        bases[:, 1:-1] = (self._hidden + step) @ (root @ transpose(basis))
        return type(self)(self._fibre, bases)

    def _split(self, matrix: Array) -> tuple[Array, Array | None]:
        """Return A and B of the tangent part ``Q_p A_p + B_p``, A skew; no B if all are square."""
        inside = transpose(self._hidden) @ matrix
        square = matrix.shape[-2] == matrix.shape[-1]
        beside = None if square else matrix - self._hidden @ inside
        return 0.5 * (inside - transpose(inside)), beside

    def _tangent(self, matrix: Array) -> Array:
        inside, beside = self._split(matrix)
        within = self._hidden @ inside
        return within if beside is None else within + beside

    @cached_property
    def _eigen(self) -> tuple[Array, Array, Array]:
        values, basis = np.linalg.eigh(self._symmetric)
        sums = 0.5 * (values[..., :, None] + values[..., None, :])
        # Positive also away from a maximum, where the Hessian need not be.
        largest = np.max(np.abs(values), axis=(1, 2))[:, None, None, None]
        floor = np.where(largest == 0, 1.0, 1e-3 * largest)
        single = np.maximum(np.abs(values[..., None, :]), floor)
        return np.maximum(np.abs(sums), floor), single, basis

    def precondition(self, residual: Array) -> Array:
        """Solve the Newton equations without the coupling of neighbours."""
        sums, single, basis = self._eigen
        inside, beside = self._split(residual)
        solved = self._hidden @ (basis @ ((transpose(basis) @ inside @ basis) / sums))
        if beside is not None:
            solved = solved + (beside @ basis) / single
        return np.asarray(solved @ transpose(basis))

    def quadratic_model(self) -> Self:
        """Return itself: the Hessian needs nothing more."""
        return self

    def product(self, direction: Array) -> Array:
        """Apply the Hessian of the energy to tangent vectors of hidden ``Q_p``."""
        image = direction @ self._symmetric - self._fibre.coupling(at_hidden(direction))
        return self._tangent(image)


def at_hidden(steps: Array) -> Array:
    """Return steps of all bases from those of hidden ones: ``Q_0`` and ``Q_N`` stay."""
    padding = [(0, 0)] * (steps.ndim - 3) + [(1, 1), (0, 0), (0, 0)]
    return np.pad(steps, padding)
