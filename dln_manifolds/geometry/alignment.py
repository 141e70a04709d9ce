r"""Alignment: the point of a fibre that is nearest to given layers, and its derivatives.

The fibre of W is ``{h . W}``, ``(h . W)_p = h_p W_p h_{p-1}^T`` with orthogonal
``h_1 .. h_{N-1}`` and ``h_0 = h_N = I``. Nearest to layers R is the h that maximizes
``sum_p <R_p, h_p W_p h_{p-1}^T>``: Procrustes problems in a chain. The derivative by ``h_p``, once
W stands for ``h . W``, is the skew part of

.. math:: C_p = W_p R_p^T + W_{p+1}^T R_{p+1},

and the best ``h_p`` for given neighbours is the orthogonal polar factor of ``C_p^T``. So all odd p
are solved at once, then all even p; Newton's method finishes.
"""

from functools import cached_property
from typing import NamedTuple, Self

import numpy as np

from dln_manifolds.errors import ConjugatePointsError, ConvergenceError
from dln_manifolds.geometry.balancing import act, end_to_end, factor, moment
from dln_manifolds.geometry.chain import uniform
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.sectors import vertical_vector
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


class Alignment(NamedTuple):
    """Nearest point of a fibre: ``layers = group . W``, the group of shape ``(..., N-1, n, n)``."""

    group: Array
    layers: Array


def align(layers: Array, reference: Array, *, keep_component: bool = False) -> Alignment:
    """Find the ``h . W`` nearest to reference layers R in Frobenius norm, h in ``O(n)^(N-1)``.

    For N = 2 this is the nearest point: one singular value decomposition. For N >= 3 it is a local
    minimum of the distance, the best of a few starts, and there may be a nearer point: the distance
    ``|h . W - R|`` then bounds that of R from the fibre, from above only.

    W and R, shape ``(..., N, n, n)`` up to broadcasting, need not be balanced. With
    ``keep_component``, ``det h_p = 1`` for all p, so that no layer's determinant changes its sign.
    Raises `ConvergenceError` if the gradient is not brought to 1e-13 relative to ``|W| |R|``.
    """
    layers, reference = np.broadcast_arrays(layers, reference)
    *batch, depth, n, _ = shape = layers.shape
    if depth == 1 or layers.size == 0:
        identity = np.broadcast_to(np.eye(n), (*batch, depth - 1, n, n)).copy()
        return Alignment(identity, layers.copy())
    w, r = layers.reshape(-1, *shape[-3:]), reference.reshape(-1, *shape[-3:])
    group = _aligned(w, r, keep_component).reshape(*batch, depth - 1, n, n)
    return Alignment(group, act(group, layers))


def nearest_balanced(layers: Array, *, keep_component: bool = False) -> Array:
    """Return balanced layers with the same end-to-end matrix, nearest to the given ones.

    This is the point of the fibre over X that `align` finds, with the words of caution that stand
    there. ``keep_component`` looks only among those with the signs of the given determinants.
    """
    depth, n = layers.shape[-3:-1]
    balanced = factor(Frame.of_point(end_to_end(layers), depth), uniform(layers))
    if keep_component:
        differ = np.linalg.slogdet(balanced)[0] != np.linalg.slogdet(layers)[0]
        # det h_p det h_{p-1} = -1 exactly where the signs differ; det h_N = 1 since X is the same.
        odd = np.cumsum(differ, axis=-1)[..., :-1] % 2 == 1
        group = np.broadcast_to(np.eye(n), (*odd.shape, n, n)).copy()
        group[..., 0, 0] = np.where(odd, -1.0, 1.0)
        balanced = act(group, balanced)
    return align(balanced, layers, keep_component=keep_component).layers


def _aligned(layers: Array, reference: Array, keep_component: bool) -> Array:
    """Align a flat batch; return the group elements, shape ``(n_batch, N - 1, n, n)``."""
    # Only one group element: the first start has solved it already.
    if layers.shape[1] == 2:
        return _chain(layers, reference, keep_component)
    starts = [np.broadcast_to(np.eye(layers.shape[-1]), layers[:, 1:].shape)]
    # From the output back: the transposed layers in reverse order have the same h in reverse order.
    back = transpose(layers[:, ::-1]), transpose(reference[:, ::-1])
    # Also without reflections: the better component is not always the one that the layers, taken
    # one by one, fall into.
    for keep in (True,) if keep_component else (False, True):
        starts += [_chain(layers, reference, keep), _chain(*back, keep)[:, ::-1]]
    group, most = starts[0], np.full(len(layers), -np.inf)
    for start in starts:
        for _ in range(_FIRST_SWEEPS):
            start = _sweep(start, layers, reference, keep_component)
        value = _product(start, layers, reference)
        group = np.where((value > most)[:, None, None, None], start, group)
        most = np.maximum(value, most)
    for _ in range(_SWEEPS):
        group = _sweep(group, layers, reference, keep_component)

    scale = np.sqrt(np.sum(layers**2, axis=(1, 2, 3)) * np.sum(reference**2, axis=(1, 2, 3)))
    left = np.arange(len(layers))
    for _ in range(_ROUNDS):
        w, r, size = layers[left], reference[left], scale[left]
        path = _Turned(group[left], w, r)
        found = np.empty_like(path.unknowns)

        def finished(rows: Array, path: _Turned, done: Array, found: Array = found) -> None:
            found[rows] = nearest_orthogonal(path.unknowns[done])

        minimize(path, tolerance=1e-15, max_iterations=_NEWTON_STEPS, finished=finished)
        slope = np.linalg.norm(_Turned(found, w, r).gradient.reshape(len(left), -1), axis=1)
        # Newton's method may also end at a saddle. Sweeps lead away from most of them.
        swept = _sweep(found, w, r, keep_component)
        gain = _product(swept, w, r) - _product(found, w, r)
        solved = (slope <= _TOLERANCE * size) & (gain <= _GAIN * size)
        for _ in range(_SWEEPS):
            swept[~solved] = _sweep(swept[~solved], w[~solved], r[~solved], keep_component)
        group[left] = np.where(solved[:, None, None, None], found, swept)
        left = left[~solved]
        if left.size == 0:
            return group
    raise ConvergenceError(
        f"The alignment of {left.size} of {len(layers)} members did not converge, first of the one "
        f"at flat batch index {left[0]}. Its nearest point is not isolated, or nearly so: align it "
        f"with another reference."
    )


def _best_turn(coupling: Array, keep_component: bool) -> Array:
    """Return the h in O(n), or in SO(n), that maximizes ``tr(h C)``."""
    u, _, vt = np.linalg.svd(coupling)
    v, ut = transpose(vt).copy(), transpose(u)
    if keep_component:
        v[..., -1] *= np.sign(np.linalg.det(v) * np.linalg.det(ut))[..., None]
    return v @ ut


def _chain(layers: Array, reference: Array, keep_component: bool) -> Array:
    """Turn layer after layer into place, from the input on."""
    n_batch, depth, n = layers.shape[:3]
    group = np.empty((n_batch, depth - 1, n, n))
    turn = np.broadcast_to(np.eye(n), (n_batch, n, n))
    for p in range(depth - 1):
        coupling = layers[:, p] @ transpose(reference[:, p] @ turn)
        if p == depth - 2:
            coupling = coupling + transpose(layers[:, p + 1]) @ reference[:, p + 1]
        turn = group[:, p] = _best_turn(coupling, keep_component)
    return group


def _sweep(group: Array, layers: Array, reference: Array, keep_component: bool) -> Array:
    """Choose every second ``h_p`` at its best, then the others; never loses anything."""
    n_batch, depth, n = layers.shape[:3]
    padded = np.empty((n_batch, depth + 1, n, n))
    padded[:, [0, -1]] = np.eye(n)
    padded[:, 1:-1] = group
    for parity in (1, 2):
        before, here, after = (slice(parity + k, depth + k, 2) for k in (-1, 0, 1))
        coupling = layers[:, before] @ transpose(reference[:, before] @ padded[:, before])
        coupling += transpose(padded[:, after] @ layers[:, here]) @ reference[:, here]
        padded[:, here] = _best_turn(coupling, keep_component)
    return padded[:, 1:-1].copy()


def _product(group: Array, layers: Array, reference: Array) -> Array:
    """Return ``<h . W, R>``, shape ``(n_batch,)``."""
    return np.sum(act(group, layers) * reference, axis=(1, 2, 3))


class _Turned:
    """Layers turned by h, as a problem for `minimize`; steps are skew, ``h_p -> exp(S_p) h_p``.

    The energy is ``|W|^2 + |R|^2 - <h . W, R>``: half the squared distance, plus a constant that
    keeps it away from zero, so that slopes relative to the energy are relative to W and R.
    """

    n_nodes = 1

    def __init__(self, group: Array, layers: Array, reference: Array) -> None:
        self.unknowns, self._layers, self._reference = group, layers, reference
        self._turned = act(group, layers)
        squares = layers**2 + reference**2 - self._turned * reference
        self.energy = np.sum(squares, axis=(1, 2, 3))
        coupling = self._turned[:, :-1] @ transpose(reference[:, :-1])
        coupling += transpose(self._turned[:, 1:]) @ reference[:, 1:]
        self.gradient = 0.5 * (coupling - transpose(coupling))
        self._symmetric = 0.5 * (coupling + transpose(coupling))

    def take(self, members: Array) -> Self:
        """Return some members."""
        return type(self)(self.unknowns[members], self._layers[members], self._reference[members])

    def moved(self, step: Array) -> Self:
        """Turn by the Cayley transform of skew matrices, exp to second order."""
        half, identity = 0.5 * step, np.eye(step.shape[-1])
        turn = np.linalg.solve(identity - half, identity + half)
        return type(self)(turn @ self.unknowns, self._layers, self._reference)

    @cached_property
    def _eigen(self) -> tuple[Array, Array]:
        values, basis = np.linalg.eigh(self._symmetric)
        sums = 0.5 * (values[..., :, None] + values[..., None, :])
        # Positive also away from a maximum, where the Hessian need not be.
        largest = np.max(np.abs(values), axis=(1, 2))[:, None, None, None]
        floor = np.where(largest == 0, 1.0, 1e-3 * largest)
        return np.maximum(np.abs(sums), floor), basis

    def precondition(self, residual: Array) -> Array:
        """Solve the Newton equations without the coupling of neighbours."""
        sums, basis = self._eigen
        return np.asarray(basis @ ((transpose(basis) @ residual @ basis) / sums) @ transpose(basis))

    def quadratic_model(self) -> Self:
        """Return itself: the Hessian needs nothing more."""
        return self

    def product(self, direction: Array) -> Array:
        """Apply the Hessian of the energy to skew matrices."""
        # (S_p C_p + C_p S_p)/2 - skew(R_p S_{p-1} W_p^T + W_{p+1}^T S_{p+1} R_{p+1}) with the
        # symmetric part C of the coupling
        image = direction @ self._symmetric + self._symmetric @ direction
        inner, reference = self._turned[:, 1:-1], self._reference[:, 1:-1]
        mixed = np.zeros_like(image)
        mixed[:, 1:] = reference @ direction[:, :-1] @ transpose(inner)
        mixed[:, :-1] += transpose(inner) @ direction[:, 1:] @ reference
        return np.asarray(0.5 * (image - mixed + transpose(mixed)))


def aligned_pullback(aligned: Array, reference: Array, cotangent: Array) -> tuple[Array, Array]:
    """Return gradients by R and by the fibre of Y, nearest to R: both of shape ``(..., N, n, n)``.

    Y is where ``<R, K_A(Y)> = 0`` for all vertical ``K_A(Y)_p = A_p Y_p - Y_p A_{p-1}``, A skew. As
    R and the fibre move, the vertical part ``K_A(Y)`` of the motion of Y follows from
    ``G A = (gradient by A of <R', K_A(Y)> + <R, K_A(Y')>)``, Y' the rest of the motion and
    ``<A', G A> = -<R, K_{A'}(K_A(Y))>`` half the second derivative of the squared distance, which
    is symmetric there: a dense matrix with ``(N-1) n (n-1) / 2`` rows. Raises
    `ConjugatePointsError` at focal points of the fibre, where the nearest Y is not isolated.
    """
    depth, n = aligned.shape[-3:-1]
    upper = np.triu_indices(n, 1)
    size = (depth - 1) * len(upper[0])
    if size == 0:
        return np.zeros_like(cotangent), cotangent.copy()

    def gradient(covector: Array, vector: Array) -> Array:
        """Return the gradient by the entries of a skew A of ``<C, K_A(V)>``."""
        product = moment(covector, vector)
        skew = 0.5 * (product - transpose(product))
        return skew[..., upper[0], upper[1]].reshape(*skew.shape[:-3], size)

    def skew_matrices(coordinates: Array) -> Array:
        skew = np.zeros((*coordinates.shape[:-1], depth - 1, n, n))
        skew[..., upper[0], upper[1]] = coordinates.reshape(*skew.shape[:-2], len(upper[0]))
        return skew - transpose(skew)

    images = vertical_vector(aligned[..., None, :, :, :], skew_matrices(np.eye(size)))
    second = -gradient(reference[..., None, :, :, :], images)
    values, vectors = np.linalg.eigh(0.5 * (second + transpose(second)))
    flat = (np.abs(values) <= _FLAT * np.abs(values).max(axis=-1, keepdims=True)).any(axis=-1)
    if flat.any():
        member = f" (batch member {np.argwhere(flat)[0].tolist()})" if flat.ndim else ""
        raise ConjugatePointsError(
            f"The nearest point of the fibre is not isolated{member}, so it has no derivative. "
            f"Move the layers a little, or detach them."
        )
    inside = transpose(vectors) @ gradient(cotangent, aligned)[..., None]
    multiplier = skew_matrices((vectors @ (inside / values[..., None]))[..., 0])
    # The transpose of K_A is -K_A.
    return vertical_vector(aligned, multiplier), cotangent - vertical_vector(reference, multiplier)
