r"""Alignment: the point of a fibre that is nearest to given layers, and its derivatives.

The fibre over X is that of all balanced layers ``Q_p diag(l) Q_{p-1}^T`` with one ``Q_0 = V`` and
``Q_N = U``, and any orthonormal columns ``Q_1, ..., Q_{N-1}`` in between; that of W is
``{h . W}``, ``(h . W)_p = h_p W_p h_{p-1}^T`` with orthogonal ``h_1 .. h_{N-1}`` and
``h_0 = h_N = I``, which turn ``Q_p`` to ``h_p Q_p``. The nearest to given layers are Procrustes
problems in a chain. Layers of equal widths and full rank are ``Q_p K_p Q_{p-1}^T`` with square
``Q_p`` and some ``K_p`` also where they are not balanced.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dln_manifolds.errors import ConjugatePointsError
from dln_manifolds.geometry.balancing import frame_of_product
from dln_manifolds.geometry.chain import Chain, uniform
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.procrustes import Fibre, Turned, at_hidden, nearest_bases, places_of
from dln_manifolds.geometry.sectors import horizontal_blocks
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.matrices import nearest_orthogonal, transpose

# Second derivatives of the distance along the fibre, relative to the largest, that count as zero.
_FLAT = 1e-12


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
        for width, places in places_of(chain.widths[1:-1]):
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
    fibre = Fibre(chain, cores.reshape(-1, *cores.shape[-3:]), _flat(reference, chain))
    found = nearest_bases(fibre, bases.reshape(-1, *shape), keep_component)
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
    frame = frame_of_product(layers, chain, rank)
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
    cores = np.repeat((roots[:, None] * np.eye(rank))[:, None], depth, axis=1)
    reference = np.broadcast_to(reference, (*batch, *chain.array_shape))
    fibre = Fibre(chain, cores, _flat(reference, chain))
    found = bases.reshape(-1, *bases.shape[-3:])
    if found.size:
        # The positive factors of the polar decompositions leave the signs to R.
        found = nearest_bases(fibre, fibre.carried(found), keep_component)
    return fibre.layers(found).reshape(*batch, *chain.array_shape)


def _flat(layers: Array, chain: Chain) -> Array:
    """Return layers with a single batch axis."""
    return layers.reshape(-1, *chain.array_shape)


def _complement(columns: Array) -> Array:
    """Return orthonormal bases of the complements of orthonormal columns."""
    return np.asarray(np.linalg.qr(columns, mode="complete")[0][..., columns.shape[-1] :])


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
            units = np.eye(rank)[:, None, None] * transpose(beside)[..., None, :, :, None]
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
    problem = Turned(
        Fibre(chain, *(np.expand_dims(x, one_more) for x in (cores, reference))),
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
    moved = Fibre(chain, cores, cotangent).coupling(bases)
    inside = transpose(vectors) @ (rows @ moved.reshape(*moved.shape[:-3], -1, 1))
    coordinates = vectors @ (inside / values[..., None])
    step = at_hidden((transpose(rows) @ coordinates)[..., 0].reshape(moved.shape))
    by_reference = Fibre(chain, cores, reference).derivative(bases, step)
    # A = H Q^T - Q H^T, and the transpose of K is -K.
    half = step - 0.5 * bases @ (transpose(bases) @ step)
    left, right = (np.concatenate(x, axis=-1) for x in ((half, -bases), (bases, half)))
    after, before = np.s_[..., 1:, :, :], np.s_[..., :-1, :, :]
    turned = chain.outer(left[after], transpose(chain.transposed_times(reference, right[after])))
    turned = turned - chain.outer(chain.times(reference, left[before]), transpose(right[before]))
    return by_reference, cotangent - turned
