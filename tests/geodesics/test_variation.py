"""The linearized geodesic flow; derivatives of exp and log themselves: ``tests/autodiff``."""

import numpy as np
import pytest

from dln_manifolds.errors import ConjugatePointsError
from dln_manifolds.geodesics import LayerSystem, ObservableSystem, Points
from dln_manifolds.geodesics.adjoint import solve_variations
from dln_manifolds.geodesics.integrate import flow
from dln_manifolds.geometry.balancing import rebalance, relative_imbalance
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.second_fundamental_form import second_fundamental_form
from dln_manifolds.geometry.sectors import tangent_part
from dln_manifolds.numerics.matrices import transpose


def variations_of(rng, system, state, k):
    """Return random variations that keep frames orthonormal and momenta beside them."""
    layout, shape = system.layout, (len(state), k)
    _, *frames = layout.split(state[:, 0])
    _, *momenta = layout.split(state[:, 1])
    r, field, change = layout.rank, [], []
    stretch, core = rng.normal(size=(2, *shape, r, r))
    for e, p in zip(frames, momenta, strict=True):
        turn = rng.normal(size=(*shape, r, r))
        moved, changed = rng.normal(size=(2, *shape, *e.shape[-2:]))
        beside = [x - e @ (transpose(e) @ x) for x in (moved, changed)]
        field.append(e @ (turn - transpose(turn)) + beside[0])
        change.append(beside[1] - e @ (transpose(field[-1]) @ p))
    field = layout.stacked(stretch + transpose(stretch), *field)
    return np.stack([field, layout.stacked(core, *change)], axis=1)


@pytest.mark.parametrize(
    ("shape", "rank", "depth"),
    [((3, 3), 3, 3.5), ((4, 3), 2, 3.5), ((3, 5), 3, 2), ((3, 3), 1, 8), ((3, 3), 3, np.inf)],
)
def test_linearization_is_symplectic(shape, rank, depth):
    """Along a geodesic ``<d_1 X, d_2 P> - <d_2 X, d_1 P>`` of two variations stays what it is."""
    rng, system = np.random.default_rng(0), ObservableSystem(depth, shape, rank)
    points = np.eye(*shape) + 0.2 * rng.normal(size=(2, *shape))
    # Singular values cross on the way, so that both forms of the linearization take part.
    points[1] = np.eye(*shape)
    frame = Frame.of_point(points, depth, rank)
    unit = system.unit(Points(points, frame))
    rate = 0.5 * system.flat(unit, rng.normal(size=points.shape))
    state = np.stack([unit.position, rate], axis=1)[:, :, None]
    state = np.concatenate([state, variations_of(rng, system, state, 2)], axis=2)

    def form(state):
        unit = system.at(state[:, 0, 0], np.zeros(2))
        fields, changes = system.gauged(state[:, :, 0], state[:, 0, 1:], state[:, 1, 1:])
        dx, dp = [], []
        for k in range(2):
            covector = system.covariant(unit, state[:, 1, 0], fields[:, k], changes[:, k])
            dp.append(system.gradient(unit, covector))
            dx.append(unit.frame.velocity(fields[:, k]))
        return np.sum(dx[0] * dp[1] - dx[1] * dp[0], axis=(-2, -1))

    result = flow(system.linearized, state, np.ones(2), tolerance=1e-13)
    assert (result.status == 0).all()
    assert np.abs(form(state)).min() > 0.1
    assert np.allclose(form(result.state), form(state), rtol=0, atol=1e-10)


def test_jacobi_fields_stay_tangent():
    """Variations of balanced layers stay tangent, and their Wronskian is constant."""
    rng = np.random.default_rng(0)
    layers = rebalance(np.eye(3) + 0.2 * rng.normal(size=(2, 1, 4, 3, 3)))
    frame = Frame.of_layers(layers)
    velocity, one, two, *rest = (
        tangent_part(frame, rng.normal(size=layers.shape)) for _ in range(5)
    )
    velocity = 0.3 * velocity
    fields, rates = np.concatenate([one, two], axis=1), np.concatenate(rest, axis=1)
    state = np.empty((2, 2, 3, 4, 3, 3))
    state[:, 0, :1], state[:, 1, :1] = layers, velocity
    state[:, 0, 1:] = fields
    state[:, 1, 1:] = rates + second_fundamental_form(frame, velocity, fields)

    def wronskian(state):
        frame = Frame.of_layers(state[:, 0, :1])
        covariant = tangent_part(frame, state[:, 1, 1:])
        (a, b), (p, q) = np.moveaxis(state[:, 0, 1:], 1, 0), np.moveaxis(covariant, 1, 0)
        return np.sum(a * q - b * p, axis=(-3, -2, -1))

    result = flow(LayerSystem((3,) * 5, 3).linearized, state, np.ones(2), tolerance=1e-13)
    assert (result.status == 0).all()
    end = result.state
    assert relative_imbalance(end[:, 0, 0]).max() < 1e-14
    last = Frame.of_layers(end[:, 0, :1])
    normal = end[:, 0, 1:] - tangent_part(last, end[:, 0, 1:])
    assert np.abs(normal).max() < 1e-12
    assert np.allclose(wronskian(end), wronskian(state), rtol=0, atol=1e-10)


def test_dependent_variations_are_conjugate_points():
    variations = np.eye(4).reshape(1, 4, 2, 2).repeat(2, axis=0)
    target = np.arange(8.0).reshape(2, 2, 2)
    assert np.allclose(solve_variations(variations, target), target.reshape(2, 4))
    variations[1, 3] = variations[1, 2]
    with pytest.raises(ConjugatePointsError, match="Batch member 1"):
        solve_variations(variations, target)
