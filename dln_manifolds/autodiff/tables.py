"""Tables of derivative rules, by method: of both manifolds, their metrics, and the bundle.

Gradients by layers, and by matrices of lower than full rank, are along the manifold. Where a
tangent vector is an argument beside its point, the point moves with the vector taken along
parallel, which is the same as the vector staying what it is in the ambient space and being
projected.
"""

from collections.abc import Callable

import numpy as np
from geomstats.geometry.fiber_bundle import FiberBundle
from geomstats.geometry.manifold import Manifold

from dln_manifolds.autodiff import kinds
from dln_manifolds.autodiff.dispatch import Composite, Host, Listed, Refusal, Result
from dln_manifolds.autodiff.rules import (
    METRIC,
    SPACE,
    Table,
    exponential,
    lengths,
    rules_at_points,
    turned,
)
from dln_manifolds.autodiff.transport import transport
from dln_manifolds.checks import At, cast, gathered
from dln_manifolds.errors import InvalidPointError
from dln_manifolds.geometry import balancing, sectors
from dln_manifolds.geometry import entropy as volume
from dln_manifolds.geometry import second_fundamental_form as layers
from dln_manifolds.geometry.alignment import align, aligned_pullback
from dln_manifolds.geometry.balancing import end_to_end, end_to_end_pullback
from dln_manifolds.geometry.metric import CometricDerivative, apply_cometric, apply_metric
from dln_manifolds.geometry.rank import is_raised, truncation_pullback, weingarten
from dln_manifolds.numerics.arrays import Array, is_list_of_matrices
from dln_manifolds.numerics.precision import DOUBLE

# --- end-to-end matrices


def _curved(at: At, *pairs: tuple[Array, Array]) -> Array:
    """Gradient by X of ``<c, F_X(v)>`` from the turns of the tangent space alone.

    Of functions F of tangent parts with tangent values: the Weingarten map of ``F(v)`` along c, and
    of ``F(c)`` along v, given as pairs. Zero at full rank.
    """
    return np.add(*(weingarten(at.frame, inside, beside) for inside, beside in pairs))


def _matrix_inner(at: At, a: Array, b: Array) -> tuple[Array, Array, Array]:
    frame, derivative = at.frame, CometricDerivative(at.frame)
    # Momenta are as badly scaled as the metric: they stay in the frame.
    p, q = (frame.blocks(vector) / frame.weights for vector in (a, b))
    by_point = -frame.assemble(derivative.gradient_in_frame(p, q))
    return frame.assemble(q), frame.assemble(p), by_point


def _matrix_coinner(at: At, a: Array, b: Array) -> tuple[Array, ...]:
    by_point = CometricDerivative(at.frame).gradient(a, b)
    return apply_cometric(at.frame, b), apply_cometric(at.frame, a), by_point


def _operator(at: At, cotangent: Array, inverse: bool) -> tuple[Array, ...]:
    """Gradient by X of ``<C, matrix of A_X or of its inverse>``: one direction per row of C."""
    frame, (m, n) = at.frame.beside(), at.stratum.point_shape
    rows, units = cotangent.reshape(*cotangent.shape[:-1], m, n), np.eye(m * n)
    units, derivative = units.reshape(m * n, m, n), CometricDerivative(frame)
    if not inverse:
        return (np.sum(derivative.gradient(units, rows), axis=-3),)
    p, q = (frame.blocks(matrix) / frame.weights for matrix in (units, rows))
    gradient = -frame.assemble(derivative.gradient_in_frame(p, q))
    for inside, beside in ((p, rows), (q, units)):
        gradient = gradient + weingarten(frame, frame.assemble(inside), beside)
    return (np.sum(gradient, axis=-3),)


def _scaled(at: At, vector: Array, cotangent: Array, inverse: bool) -> tuple[Array, ...]:
    """Gradients of ``A_X^{1/2}`` or of its inverse, applied to a vector."""
    frame, derivative = at.frame, CometricDerivative(at.frame)
    if not inverse:
        by_vector = frame.assemble(frame.root_weights * frame.blocks(cotangent))
        return by_vector, derivative.root_gradient(cotangent, vector)
    inside, entered = (frame.blocks(x) / frame.root_weights for x in (vector, cotangent))
    by_point = -frame.assemble(derivative.root_gradient_in_frame(entered, inside))
    by_vector, scaled = frame.assemble(entered), frame.assemble(inside)
    return by_vector, by_point + _curved(at, (scaled, cotangent), (by_vector, vector))


def _matrix_entropy(at: At) -> tuple[Array]:
    return (volume.entropy_differential(at.frame, at.stratum.hidden_widths),)


def _matrix_entropy_gradient(at: At, cotangent: Array) -> tuple[Array, ...]:
    # The gradient by X of <C, A_X(dS)>: A_X moves, and dS does.
    frame, widths = at.frame, at.stratum.hidden_widths
    slope = volume.entropy_differential(frame, widths)
    bent = volume.EntropyHessian(frame, widths).apply(apply_cometric(frame, cotangent))
    return (CometricDerivative(frame).gradient(cotangent, slope) + bent,)


def _log_density(at: At) -> tuple[Array, ...]:
    return (volume.log_riemannian_density_differential(at.frame),)


def _matrix_tangent(space: Manifold, vector: Array, base_point: Array | None) -> Result:
    value, stratum = space.to_tangent(vector, base_point), space.stratum
    if stratum.is_open:
        return value, lambda cotangent: (cotangent, None)
    at, array = At(stratum, base_point), np.asarray(vector, dtype=float)

    def pull(cotangent: Array) -> tuple[Array, Array]:
        inside = [stratum.tangent_part(at.frame, x) for x in (cotangent, array)]
        return inside[0], _curved(at, (inside[0], array), (inside[1], cotangent))

    return value, pull


def _matrix_projection(space: Manifold, point: Array, vector: Array | None) -> Result:
    if vector is not None:
        value, pull_back = _matrix_tangent(space, vector, point)
        return value, lambda cotangent: tuple(pull_back(cotangent))[::-1]
    value, array, rank = space.projection(point), np.asarray(point, dtype=float), space.rank
    raised = np.argwhere(is_raised(array, rank, np.asarray(point).dtype))

    def pull(cotangent: Array) -> tuple[Array]:
        # Where singular values were raised there are kinks.
        if len(raised):
            member = f" (batch member {raised[0].tolist()})" if raised.size else ""
            raise InvalidPointError(
                f"point is numerically of lower rank than {rank}{member}: its projection has no "
                f"derivative."
            )
        return (truncation_pullback(array, rank, cotangent),)

    return value, pull


OBSERVABLE_METRIC: Table = {
    **METRIC,
    **lengths(_matrix_inner),
    **rules_at_points(
        kinds.METRIC | kinds.COORDINATES | kinds.DENSITIES,
        inner_coproduct=_matrix_coinner,
        metric_matrix=lambda at, c: _operator(at, c, inverse=True),
        cometric_matrix=lambda at, c: _operator(at, c, inverse=False),
        orthonormal_coordinates=lambda at, vector, c: _scaled(at, vector, c, inverse=True),
        from_orthonormal_coordinates=lambda at, vector, c: _scaled(at, vector, c, inverse=False),
        log_volume_density=_log_density,
    ),
    **exponential("volume_density", _log_density),
    "parallel_transport": transport,
}

OBSERVABLE_SPACE: Table = {
    **SPACE,
    **rules_at_points(
        kinds.SPACE, entropy=_matrix_entropy, entropy_gradient=_matrix_entropy_gradient
    ),
    **exponential("volume_density", _matrix_entropy),
    "to_tangent": _matrix_tangent,
    "projection": _matrix_projection,
}

# --- balanced layers


def _layer_coinner(at: At, a: Array, b: Array) -> tuple[Array, ...]:
    first, second = sectors.tangent_part(at.frame, a), sectors.tangent_part(at.frame, b)
    return second, first, layers.tangent_part_gradient(at.frame, a, b)


def _layer_comatrix(at: At, cotangent: Array) -> tuple[Array, ...]:
    shape = at.stratum.point_shape
    units = np.eye(cotangent.shape[-1]).reshape(-1, *shape)
    rows = cotangent.reshape(*cotangent.shape[:-1], *shape)
    gradients = layers.tangent_part_gradient(at.frame.beside(), units, rows)
    return (gradients.sum(axis=-1 - len(shape)),)


def _tangent(at: At, vector: Array, cotangent: Array) -> tuple[Array, Array]:
    by_point = layers.tangent_part_gradient(at.frame, vector, cotangent)
    return sectors.tangent_part(at.frame, cotangent), by_point


def _horizontal(at: At, vector: Array, cotangent: Array) -> tuple[Array, Array]:
    by_point = layers.horizontal_part_gradient(at.frame, at.point, vector, cotangent)
    return sectors.horizontal_part(at.frame, cotangent), by_point


def _vertical(at: At, vector: Array, cotangent: Array) -> tuple[Array, Array]:
    # What is tangent and not horizontal.
    whole, part = _tangent(at, vector, cotangent), _horizontal(at, vector, cotangent)
    return whole[0] - part[0], whole[1] - part[1]


def _normal(at: At, vector: Array, cotangent: Array) -> tuple[Array, Array]:
    by_vector, by_point = _tangent(at, vector, cotangent)
    return cotangent - by_vector, -by_point


def _layer_projection(space: Manifold, point: Array, vector: Array | None) -> Result:
    if vector is not None:
        at, ambient = At(space.stratum, point), np.asarray(vector, dtype=float)
        return space.to_tangent(vector, point), lambda c: _tangent(at, ambient, c)[::-1]
    return _layer_balance(space, point, space.projection)


def _layer_balance(space: Manifold, point: Array, balance: Callable[[Array], Array]) -> Result:
    value, array = balance(point), np.asarray(point, dtype=float)
    balanced = value if value.dtype == DOUBLE else balance(array)
    frame, chain, rank = space.stratum.frame(balanced), space.stratum.chain, space.stratum.rank

    def pull(cotangent: Array) -> tuple[Array]:
        # Layers move along their fibre, and across it as their end-to-end matrix does.
        by_layers, by_motion = aligned_pullback(balanced, array, cotangent, chain, rank)
        covector = apply_metric(frame.ends, sectors.push_forward(frame, by_motion))
        if rank < min(space.stratum.shape):
            covector = truncation_pullback(end_to_end(array, chain), rank, covector)
        return (by_layers + end_to_end_pullback(array, covector, chain),)

    return value, pull


def _layer_entropy(at: At) -> tuple[Array, ...]:
    gradient = volume.entropy_gradient(at.frame.ends, at.stratum.hidden_widths)
    return (sectors.horizontal_lift(at.frame, gradient),)


def _layer_entropy_gradient(at: At, cotangent: Array) -> tuple[Array]:
    widths = at.stratum.hidden_widths
    return (layers.lifted_entropy_hessian(at.frame, at.point, cotangent, widths),)


def _balance(space: Manifold, given: Array | list[Array]) -> Result:
    if not isinstance(given, list):
        return _layer_balance(space, given, space.balance)
    chain = space.stratum.chain
    array = cast(*gathered(given, chain.shapes, chain, "layers"))
    value, pull_back = _layer_balance(space, array, space.balance)
    return value, lambda cotangent: chain.layers(np.asarray(pull_back(cotangent)[0]))


def _of_several_shapes(space: Manifold, value: object) -> bool:
    """Where all widths are the same, nested lists are arrays."""
    return space.stratum.chain.flat and is_list_of_matrices(value)


def _layers(host: Host, space: Manifold, point: Array) -> tuple[Array, ...]:
    """Take the array of the host apart."""
    if not host.is_transformed([point]):
        space.layers(host.to_numpy(point))
    return tuple(space.stratum.chain.layers(point))


def _point(space: Manifold, given: Array | list[Array]) -> Result:
    chain, several = space.stratum.chain, isinstance(given, list)
    value = cast(*gathered(given, chain.shapes, chain, "layers"))
    return value, lambda c: chain.layers(c) if several else [np.stack(chain.layers(c))]


def _act(space: Manifold, group_elem: Array | list[Array], point: Array) -> Result:
    value, chain = space.act(group_elem, point), space.stratum.chain
    layers, group = np.asarray(point, dtype=float), group_elem
    several = isinstance(group, list)
    if several:
        group, _ = gathered(group, chain.group.shapes, chain.group, "group_elem")
    array = np.asarray(group, dtype=float)

    def pull(cotangent: Array) -> tuple[Array, ...]:
        by_group, by_layers = balancing.act_pullback(array, layers, cotangent, chain)
        return (*(chain.group.layers(by_group) if several else [by_group]), by_layers)

    return value, pull


def _align(bundle: FiberBundle, point: Array, base_point: Array) -> Result:
    at, reference = At(bundle.stratum, point, "point"), np.asarray(base_point, dtype=float)
    chain, rank = bundle.stratum.chain, bundle.stratum.rank
    found = align(at.point, reference, chain, rank)

    def pull(cotangent: Array) -> tuple[Array, Array]:
        by_reference, by_motion = aligned_pullback(found.layers, reference, cotangent, chain, rank)
        return found.turned_back(by_motion), by_reference

    return at.cast(found.layers), pull


def _bundle_lift(
    host: Host,
    bundle: FiberBundle,
    tangent_vec: Array,
    base_point: Array | None,
    fiber_point: Array | None,
) -> Array:
    if fiber_point is None:
        fiber_point = bundle.lift(base_point)
    return bundle.total_space.horizontal_lift(tangent_vec, fiber_point)


# Singular vectors may change their signs, and turn where singular values meet.
_NO_FACTOR = Refusal(
    "The factorization follows singular vectors, which are no smooth function of X. Differentiate "
    "functions of X itself, or move fixed layers with horizontal_lift and metric.exp."
)

LAYER_METRIC: Table = {
    **METRIC,
    **lengths(lambda at, a, b: (b, a, None), anywhere=True),
    **rules_at_points(
        kinds.METRIC, inner_coproduct=_layer_coinner, cometric_matrix=_layer_comatrix
    ),
    # The identity everywhere.
    **rules_at_points(kinds.METRIC, anywhere=True, metric_matrix=lambda at, c: (None,)),
    **{name: turned("space.to_tangent", 0, 1) for name in kinds.COORDINATES},
    "parallel_transport": transport,
}

LAYER_SPACE: Table = {
    **SPACE,
    **rules_at_points(
        kinds.SPACE | kinds.FIBRE,
        to_tangent=_tangent,
        horizontal_projection=_horizontal,
        vertical_projection=_vertical,
        normal_projection=_normal,
        horizontal_lift=lambda at, v, c: layers.horizontal_lift_pullback(at.frame, at.point, v, c),
        push_forward=lambda at, v, c: layers.push_forward_pullback(at.frame, at.point, v, c),
        entropy=_layer_entropy,
        entropy_gradient=_layer_entropy_gradient,
        mean_curvature=lambda at, c: _layer_entropy_gradient(at, -c),
    ),
    **rules_at_points(
        kinds.FIBRE,
        anywhere=True,
        # Any layers will do, so that these gradients are not restricted to the manifold.
        end_to_end=lambda at, c: (end_to_end_pullback(at.point, c, at.stratum.chain),),
    ),
    "act": Listed(_act, _of_several_shapes),
    "point": Listed(_point, lambda space, value: isinstance(value, list | tuple)),
    "layers": Composite(_layers),
    **exponential("volume_density", _layer_entropy),
    "projection": _layer_projection,
    "balance": Listed(_balance, _of_several_shapes),
    "factor": _NO_FACTOR,
}

BUNDLE: Table = {
    "riemannian_submersion": turned("total_space.end_to_end", 0),
    "tangent_riemannian_submersion": turned("total_space.push_forward", 0, 1),
    "horizontal_projection": turned("total_space.horizontal_projection", 0, 1),
    "vertical_projection": turned("total_space.vertical_projection", 0, 1),
    "horizontal_lift": Composite(_bundle_lift),
    "lift": _NO_FACTOR,
    "align": _align,
}
