r"""Alignment: the point of a fibre that is nearest to given layers, and its derivatives.

The fibre over X is that of all balanced layers ``Q_p diag(l) Q_{p-1}^T`` with one ``Q_0 = V`` and
``Q_N = U``, and any orthonormal columns ``Q_1, ..., Q_{N-1}`` in between; that of W is
``{h . W}``, ``(h . W)_p = h_p W_p h_{p-1}^T`` with orthogonal ``h_1 .. h_{N-1}`` and
``h_0 = h_N = I``, which turn ``Q_p`` to ``h_p Q_p``. Nearest to layers R are the ``Q_p`` that
maximize ``sum_p <R_p, Q_p K_p Q_{p-1}^T>``, ``K_p = diag(l)``: Procrustes problems in a chain. The
derivative by ``Q_p`` is

.. math:: M_p = R_p Q_{p-1} K_p^T + R_{p+1}^T Q_{p+1} K_{p+1},

and the best ``Q_p`` for given neighbours is the polar factor of ``M_p``. So all odd p are solved at
once, then all even p; Newton's method finishes. Layers of equal widths and full rank are
``Q_p K_p Q_{p-1}^T`` with square ``Q_p`` and some ``K_p`` also where they are not balanced.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from dln_manifolds.errors import ConjugatePointsError, ConvergenceError
from dln_manifolds.geometry.balancing import end_to_end
from dln_manifolds.geometry.chain import Chain, uniform
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.sectors import horizontal_blocks
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import nearest_orthogonal, transpose
from dln_manifolds.numerics.newton import minimize

# Gradient relative to |W| |R| at which an alignment counts as solved.
_TOLERANCE = 1e-13
# Sweeps for every start, and for the best of them before Newton steps, and rounds of both.
_FIRST_SWEEPS, _SWEEPS, _NEWTON_STEPS, _ROUNDS = 8, 20, 60, 8
# Second derivatives of the distance along the fibre, relative to the largest, that count as zero.
_FLAT = 1e-12
# A sweep that gains less than this share of |W| |R| finds nothing that Newton's method missed.
_GAIN = 1e-12


@dataclass(frozen=True, eq=False)
class Alignment:
    """Nearest point of the fibre of W: its ``layers``, and the frames of W and of them.

    ``frame`` and ``turned`` differ in the hidden ``Q_p`` only.
    """

    layers: Array
    frame: Frame
    turned: Frame

    def __iter__(self) -> Iterator[Array]:
        """Unpack as ``group, layers``."""
        return iter((self.group, self.layers))

    @cached_property
    def group(self) -> Array:
        """The h with ``layers = h . W`` nearest to the identity, of ``chain.group_shape``."""
        chain = self.frame.layout
        before, after = (x.bases[..., 1:-1, :, :] for x in (self.frame, self.turned))
        group = np.zeros((*before.shape[:-2], chain.width, chain.width))
        for width, places in _places(chain.widths[1:-1]):
            old, new = before[..., places, :width, :], after[..., places, :width, :]
            turn = new @ transpose(old)
            if width > old.shape[-1]:
                old, new = _complement(old), _complement(new)
                turn = turn + new @ nearest_orthogonal(transpose(new) @ old) @ transpose(old)
            group[..., places, :width, :width] = turn
        return chain.unpadded_group(group)

    def turned_back(self, vector: Array) -> Array:
        """Return the horizontal part of a vector at ``layers`` as a vector at W."""
        return self.frame.assemble(horizontal_blocks(self.turned, self.turned.blocks(vector)))


def align(
    layers: Array,
    reference: Array,
    chain: Chain | None = None,
    rank: int | None = None,
    *,
    keep_component: bool = False,
) -> Alignment:
    """Find the ``h . W`` nearest to reference layers R in Frobenius norm, ``h_p`` in ``O(d_p)``.

    For N = 2 this is the nearest point: one singular value decomposition. For N >= 3 it is a local
    minimum of the distance, the best of a few starts, and there may be a nearer point: the distance
    ``|h . W - R|`` then bounds that of R from the fibre, from above only.

    W and R, shape ``(..., N, n, n)`` or that of the chain, broadcast. R are any layers, W balanced
    ones of the rank, or if all widths are the rank any. With ``keep_component``, ``h_p`` keeps the
    sign of ``det Q_p`` for all p with ``d_p = r``, so that no determinant of a square layer of full
    rank changes its sign. Raises `ConvergenceError` if the gradient is not brought to 1e-13
    relative to ``|W| |R|``.
    """
    layers, reference = np.broadcast_arrays(layers, reference)
    chain = uniform(layers) if chain is None else chain
    frame = Frame.of_layers(layers, chain, rank)
    if chain.count == 1 or layers.size == 0:
        return Alignment(layers.copy(), frame, frame)
    bases, shape = frame.bases, frame.bases.shape[-3:]
    cores = frame.enter(layers)
    fibre = _Fibre(chain, cores.reshape(-1, *cores.shape[-3:]), _flat(reference, chain))
    found = _aligned(fibre, bases.reshape(-1, *shape), keep_component)
    turned = Frame.of_bases(found.reshape(bases.shape), frame.values, chain)
    return Alignment(fibre.layers(found).reshape(layers.shape), frame, turned)


def nearest_balanced(
    layers: Array,
    chain: Chain | None = None,
    rank: int | None = None,
    *,
    keep_component: bool = False,
) -> Array:
    """Return balanced layers with the same end-to-end matrix X, nearest to the given ones.

    If X is not of the rank but of a higher one, with its nearest matrix of that rank. This is the
    point that `nearest_factorization` finds, with the words of caution that stand there; that which
    the balancing flow leads to is another one, farther away. ``keep_component`` looks only among
    those with the signs of the given layers, if that is of ``det(W_p ... W_1 V)`` with ``d_p = r``.
    """
    chain = uniform(layers) if chain is None else chain
    rank = min(chain.widths) if rank is None else rank
    frame = Frame.of_point(end_to_end(layers, chain), chain.count, rank)
    return nearest_factorization(frame, layers, chain, keep_component=keep_component)


def nearest_factorization(
    frame: Frame, reference: Array, chain: Chain, *, keep_component: bool = False
) -> Array:
    """Return the balanced factorization of X nearest to any layers R of the chain's widths.

    By the frame of X, of any depth, whose batch and that of R broadcast. For N = 2 it is exact:
    ``Q_1`` is the polar factor of ``(R_1 V + R_2^T U) diag(l)``. For N >= 3 it is a local minimum
    of the distance, the best of a few starts. Signs that ``keep_component`` keeps are those of
    ``det(R_p ... R_1 V)`` where ``d_p = r``.
    """
    rank, depth = frame.values.shape[-1], chain.count
    batch = np.broadcast_shapes(
        frame.values.shape[:-1], reference.shape[: reference.ndim - len(chain.array_shape)]
    )
    bases = np.zeros((*batch, depth + 1, chain.width, rank))
    bases[..., 0, : chain.widths[0], :] = transpose(frame.right_t)
    bases[..., -1, : chain.widths[-1], :] = frame.left
    roots = np.broadcast_to(frame.singular_values ** (1 / depth), (*batch, rank)).reshape(-1, rank)
    cores = np.broadcast_to(
        (roots[:, None] * np.eye(rank))[:, None], (len(roots), depth, rank, rank)
    )
    reference = np.broadcast_to(reference, (*batch, *chain.array_shape))
    fibre = _Fibre(chain, cores, _flat(reference, chain))
    found = bases.reshape(-1, *bases.shape[-3:])
    if found.size:
        # The positive factors of the polar decompositions leave the signs to R.
        found = _aligned(fibre, fibre.carried(found), keep_component)
    return fibre.layers(found).reshape(*batch, *chain.array_shape)


def _flat(layers: Array, chain: Chain) -> Array:
    """Return layers with a single batch axis."""
    return layers.reshape(-1, *chain.array_shape)


def _places(widths: Sequence[int]) -> list[tuple[int, list[int]]]:
    """Return the different widths, each with the places where it stands."""
    return [(w, [k for k, size in enumerate(widths) if size == w]) for w in sorted(set(widths))]


def _complement(columns: Array) -> Array:
    """Return orthonormal bases of the complements of orthonormal columns."""
    return np.asarray(np.linalg.qr(columns, mode="complete")[0][..., columns.shape[-1] :])


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
    for width, places in _places(widths):
        rows = np.s_[..., places, :width, :]
        result[rows] = _polar(matrices[rows], None if like is None else like[rows])
    return result


@dataclass(frozen=True, eq=False)
class _Fibre:
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
            coupling = self.coupling(bases)[..., parity - 1 :: 2, :, :]
            signs = None if like is None else like[here]
            bases[here] = _nearest(coupling, widths[parity:-1:2], signs)
        return bases


def _aligned(fibre: _Fibre, bases: Array, keep_component: bool) -> Array:
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

    scale = np.sqrt(np.prod(fibre.squares(), axis=0))
    left = np.arange(len(bases))
    for _ in range(_ROUNDS):
        part, size = fibre.take(left), scale[left]
        signs = None if like is None else like[left]
        path = _Turned(part, bases[left])
        found = np.empty_like(path.unknowns)

        def finished(rows: Array, path: _Turned, done: Array, found: Array = found) -> None:
            found[rows] = path.unknowns[done]

        minimize(path, tolerance=1e-15, max_iterations=_NEWTON_STEPS, finished=finished)
        slope = np.linalg.norm(_Turned(part, found).gradient.reshape(len(left), -1), axis=1)
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


class _Turned:
    """Layers of some bases, as a problem for `minimize`; steps are tangent to hidden ``Q_p``.

    The energy is ``|W|^2 + |R|^2 - <W, R>``: half the squared distance, plus a constant that keeps
    it away from zero, so that slopes relative to the energy are relative to W and R.
    """

    n_nodes = 1

    def __init__(self, fibre: _Fibre, bases: Array) -> None:
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
        bases = self.unknowns.copy()
        bases[:, 1:-1] = _nearest(self._hidden + step, self._fibre.chain.widths[1:-1])
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
        image = direction @ self._symmetric - self._fibre.coupling(_at_hidden(direction))
        return self._tangent(image)


def _at_hidden(steps: Array) -> Array:
    """Return steps of all bases from those of hidden ones: ``Q_0`` and ``Q_N`` stay."""
    padding = [(0, 0)] * (steps.ndim - 3) + [(1, 1), (0, 0), (0, 0)]
    return np.pad(steps, padding)


def _tangent_basis(hidden: Array, widths: Sequence[int]) -> Array:
    """Return orthonormal bases of all steps of hidden ``Q_p``, shape ``(..., k, N - 1, D, r)``."""
    (*batch, _, size, rank), parts = hidden.shape, []
    i, j = np.triu_indices(rank, 1)
    skew = np.zeros((len(i), rank, rank))
    skew[np.arange(len(i)), i, j] = np.sqrt(0.5)
    skew -= transpose(skew)
    for place, width in enumerate(widths):
        columns = hidden[..., place, :width, :]
        steps = [columns[..., None, :, :] @ skew]
        if width > rank:
            beside = _complement(columns)
            units = (
                np.eye(rank)[:, None, None, :] * np.swapaxes(beside, -1, -2)[..., None, :, :, None]
            )
            steps.append(units.reshape(*batch, rank * (width - rank), width, rank))
        count = sum(part.shape[-3] for part in steps)
        part = np.zeros((*batch, count, len(widths), size, rank))
        part[..., place, :width, :] = np.concatenate(steps, axis=-3)
        parts.append(part)
    return np.concatenate(parts, axis=-4)


def aligned_pullback(
    aligned: Array,
    reference: Array,
    cotangent: Array,
    chain: Chain | None = None,
    rank: int | None = None,
) -> tuple[Array, Array]:
    """Return gradients by R and by the fibre of Y, nearest to R: both of the shape of layers.

    Y is where ``<R, K_T(Y)> = 0`` for all vertical ``K_T(Y)_p = A_p Y_p - Y_p A_{p-1}``, with the
    skew ``A_p`` of least norm that turns ``Q_p`` by a step ``T_p = A_p Q_p``. As R and the fibre
    move, the vertical part ``K_T(Y)`` of the motion of Y follows from
    ``G T = (gradient by T of <R', K_T(Y)> + <R, K_T(Y')>)``, Y' the rest of the motion and G half
    the second derivative of the squared distance: a dense matrix with ``d_p r - r (r + 1) / 2``
    rows for every hidden p. Raises `ConjugatePointsError` at focal points of the fibre, where the
    nearest Y is not isolated.
    """
    chain = uniform(aligned) if chain is None else chain
    aligned, reference, cotangent = np.broadcast_arrays(aligned, reference, cotangent)
    frame = Frame.of_layers(aligned, chain, rank)
    bases, cores = frame.bases, frame.enter(aligned)
    basis = _tangent_basis(bases[..., 1:-1, :, :], chain.widths[1:-1]) if chain.count > 1 else None
    if basis is None or basis.size == 0:
        return np.zeros_like(cotangent), cotangent.copy()
    one_more = cores.ndim - 3
    problem = _Turned(
        _Fibre(chain, *(np.expand_dims(x, one_more) for x in (cores, reference))),
        np.expand_dims(bases, one_more),
    )
    rows = basis.reshape(*basis.shape[:-3], -1)
    second = rows @ transpose(problem.product(basis).reshape(rows.shape))
    values, vectors = np.linalg.eigh(0.5 * (second + transpose(second)))
    flat = (np.abs(values) <= _FLAT * np.abs(values).max(axis=-1, keepdims=True)).any(axis=-1)
    if flat.any():
        member = f" (batch member {np.argwhere(flat)[0].tolist()})" if flat.ndim else ""
        raise ConjugatePointsError(
            f"The nearest point of the fibre is not isolated{member}, so it has no derivative. "
            f"Move the layers a little, or detach them."
        )
    moved = _Fibre(chain, cores, cotangent).coupling(bases)
    inside = transpose(vectors) @ (rows @ moved.reshape(*moved.shape[:-3], -1, 1))
    coordinates = vectors @ (inside / values[..., None])
    step = _at_hidden((transpose(rows) @ coordinates)[..., 0].reshape(moved.shape))
    by_reference = _Fibre(chain, cores, reference).derivative(bases, step)
    # A = H Q^T - Q H^T, and the transpose of K is -K.
    half = step - 0.5 * bases @ (transpose(bases) @ step)
    left, right = (np.concatenate(x, axis=-1) for x in ((half, -bases), (bases, half)))
    after, before = np.s_[..., 1:, :, :], np.s_[..., :-1, :, :]
    turned = chain.outer(left[after], transpose(chain.transposed_times(reference, right[after])))
    turned = turned - chain.outer(chain.times(reference, left[before]), transpose(right[before]))
    return by_reference, cotangent - turned
