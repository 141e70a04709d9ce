"""The linearized geodesic flow; derivatives of exp and log themselves: ``tests/autodiff``."""

import numpy as np
import pytest

from dln_manifolds.errors import ConjugatePointsError
from dln_manifolds.geodesics import LayerSystem, ObservableSystem
from dln_manifolds.geodesics.adjoint import solve_variations
from dln_manifolds.geodesics.integrate import flow
from dln_manifolds.geometry.balancing import rebalance, relative_imbalance
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.second_fundamental_form import second_fundamental_form
from dln_manifolds.geometry.sectors import tangent_part


def phase_space(n, *shape):
    rng = np.random.default_rng(0)
    root = np.eye(n) + 0.2 * rng.normal(size=(*shape, n, n))
    return rng, root, rng.normal(size=root.shape)


def test_linearization_is_symplectic():
    """Along a geodesic ``<dT, mu> - <xi, dP>`` of two variations stays what it is."""
    rng, root, momentum = phase_space(3, 2)
    # Singular values cross on the way, so that both forms of the linearization take part.
    root[1] = np.eye(3)
    state = np.empty((2, 2, 3, 3, 3))
    state[:, 0, 0], state[:, 1, 0] = root, 0.5 * momentum
    state[:, :, 1:] = rng.normal(size=(2, 2, 2, 3, 3))

    def form(state):
        (_, a, b), (_, p, q) = np.moveaxis(state, 0, 2)
        return np.sum(a * q - b * p, axis=(-2, -1))

    result = flow(ObservableSystem(3.5).linearized, state, np.ones(2), tolerance=1e-13)
    assert (result.status == 0).all()
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
    state[:, 1, 1:] = rates + second_fundamental_form(frame, layers, velocity, fields)

    def wronskian(state):
        frame = Frame.of_layers(state[:, 0, :1])
        covariant = tangent_part(frame, state[:, 1, 1:])
        (a, b), (p, q) = np.moveaxis(state[:, 0, 1:], 1, 0), np.moveaxis(covariant, 1, 0)
        return np.sum(a * q - b * p, axis=(-3, -2, -1))

    result = flow(LayerSystem(4).linearized, state, np.ones(2), tolerance=1e-13)
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
