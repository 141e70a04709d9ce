"""The conformance suite: passed by our manifolds and by pymanopt's own, failed by mutants."""

import conformance
import numpy as np
import pytest
from pymanopt.manifolds import Product, Sphere, Stiefel, SymmetricPositiveDefinite

from dln_manifolds import BalancedManifold, DLNObservableManifold


class PolarStiefel(Stiefel):
    """With the retraction of second order."""

    def __init__(self, n, p):
        super().__init__(n, p, retraction="polar")


# manifold and the order of its retraction
OURS = {
    "balanced 3, 1": lambda: (BalancedManifold(3, 1), 2),
    "balanced 1, 3": lambda: (BalancedManifold(1, 3), 2),
    "balanced 3, 2": lambda: (BalancedManifold(3, 2), 2),
    "balanced 2, 5": lambda: (BalancedManifold(2, 5), 2),
    "balanced 4, 3, 5": lambda: (BalancedManifold(widths=(4, 3, 5)), 2),
    "balanced 4, 3, 5, rank 2": lambda: (BalancedManifold(widths=(4, 3, 5), rank=2), 2),
    "balanced 3, 5, 3": lambda: (BalancedManifold(widths=(3, 5, 3)), 2),
    "balanced 4, 2, 3, 4": lambda: (BalancedManifold(widths=(4, 2, 3, 4)), 2),
    "balanced 3, 4, rank 1": lambda: (BalancedManifold(widths=(3, 4), rank=1), 2),
    "balanced 3, 2, rank 2": lambda: (BalancedManifold(n=3, depth=2, rank=2), 2),
    "observable 3, 1": lambda: (DLNObservableManifold(3, 1), 2),
    "observable 1, 4": lambda: (DLNObservableManifold(1, 4), 2),
    "observable 3, 2.5": lambda: (DLNObservableManifold(3, 2.5), 2),
    "observable 2, 8": lambda: (DLNObservableManifold(2, 8), 2),
    "rank 1 of 3, 3": lambda: (DLNObservableManifold(n=3, rank=1, depth=3), 2),
    "rank 2 of 4, 3": lambda: (DLNObservableManifold(shape=(4, 3), rank=2, depth=2.5), 2),
    "rank 2 of 3, 4, depth 1": lambda: (DLNObservableManifold(shape=(3, 4), rank=2, depth=1), 2),
    "observable 3, 5": lambda: (DLNObservableManifold(widths=(5, 4, 3)), 2),
    "observable 3, infinity": lambda: (DLNObservableManifold(3, np.inf), 2),
    "product": lambda: (Product([BalancedManifold(2, 2), DLNObservableManifold(2, 3)]), 2),
    "product with a sphere": lambda: (Product([Sphere(3), BalancedManifold(2, 3)]), 2),
}
THEIRS = {
    "Stiefel": lambda: (Stiefel(5, 3), 1),
    "Stiefel, polar": lambda: (PolarStiefel(5, 3), 2),
    "Sphere": lambda: (Sphere(6), 2),
    "SPD": lambda: (SymmetricPositiveDefinite(3), 2),
    "product": lambda: (Product([Sphere(4), Stiefel(4, 2)]), 1),
}


@pytest.mark.parametrize("demand", conformance.DEMANDS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("make", OURS.values(), ids=OURS)
def test_ours(make, demand):
    demand(*make())


@pytest.mark.parametrize("demand", conformance.DEMANDS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("make", THEIRS.values(), ids=THEIRS)
def test_theirs(make, demand):
    demand(*make())


def bent_too_much(base):
    """Scale the Weingarten map by 1.1."""

    class Mutant(base):
        def euclidean_to_riemannian_hessian(self, x, gradient, hessian, v):
            exact = super().euclidean_to_riemannian_hessian(x, gradient, hessian, v)
            normal = gradient - self.to_tangent_space(x, gradient)
            return exact + 0.1 * self.weingarten(x, v, normal)

    return Mutant


def half_projected(base):
    """Leave a hundredth of the normal part."""

    class Mutant(base):
        def projection(self, point, vector=None):
            image = super().projection(point, vector)
            return image + 0.01 * (vector - image)

        def to_tangent_space(self, point, vector):
            image = super().to_tangent_space(point, vector)
            return image + 0.01 * (vector - image)

    return Mutant


def skewed_projection(base):
    """Project along something other than the normal space."""

    class Mutant(base):
        def projection(self, point, vector=None):
            image = super().projection(point, vector)
            return image + 0.01 * super().projection(point, (vector - image)[..., ::-1])

    return Mutant


def one_more_dimension(base):
    class Mutant(base):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self._dimension += 1

    return Mutant


def too_far(base):
    """Scale the step of the retraction by 1.01."""

    class Mutant(base):
        def retraction(self, point, tangent_vector):
            return super().retraction(point, 1.01 * tangent_vector)

    return Mutant


def torsion(base):
    """Add a twist to the second derivative of the retraction."""

    class Mutant(base):
        def retraction(self, point, tangent_vector):
            size = self.norm(point, tangent_vector)
            twist = self.to_tangent_space(point, tangent_vector[..., ::-1])
            return super().retraction(point, tangent_vector + 0.05 * size * twist)

    return Mutant


def wrong_gradient(base):
    class Mutant(base):
        def euclidean_to_riemannian_gradient(self, point, euclidean_gradient):
            return 1.001 * super().euclidean_to_riemannian_gradient(point, euclidean_gradient)

    return Mutant


def asymmetric_hessian(base):
    class Mutant(base):
        def euclidean_to_riemannian_hessian(self, x, gradient, hessian, v):
            exact = super().euclidean_to_riemannian_hessian(x, gradient, hessian, v)
            other = self.to_tangent_space(x, v[..., ::-1])
            along = self.inner_product(x, other, v) / self.norm(x, v) ** 2
            return exact + 0.01 * (other - along * v)

    return Mutant


def forgetful_transport(base):
    """Do not project to the tangent space of the second point."""

    class Mutant(base):
        def transport(self, point_a, point_b, tangent_vector_a):
            return 1.0 * tangent_vector_a

    return Mutant


def stale(base):
    """Keep the projection of the first point seen at an address."""

    class Mutant(base):
        known = None

        def retraction(self, point, tangent_vector):
            return super().retraction(self._first(point), tangent_vector)

        def to_tangent_space(self, point, vector):
            return super().to_tangent_space(self._first(point), vector)

        def _first(self, point):
            if self.known is None or self.known[0] is not point:
                self.known = (point, point.copy())
            return self.known[1]

    return Mutant


EMBEDDED = [(BalancedManifold, (3, 2)), (PolarStiefel, (5, 3)), (Sphere, (6,))]
OPEN = [(DLNObservableManifold, (3, 2.5)), (SymmetricPositiveDefinite, (3,))]
MUTANTS = [
    (bent_too_much, "hessian", EMBEDDED),
    (half_projected, "projection", EMBEDDED),
    (skewed_projection, "projection", EMBEDDED),
    (one_more_dimension, "dimension", EMBEDDED + OPEN),
    (too_far, "retraction", EMBEDDED + OPEN),
    (torsion, "retraction", EMBEDDED[:1] + OPEN[:1]),
    (wrong_gradient, "gradient", EMBEDDED + OPEN),
    (asymmetric_hessian, "hessian", EMBEDDED[:1] + OPEN[:1]),
    (forgetful_transport, "transport", EMBEDDED),
    (stale, "points_may_be_changed", EMBEDDED[:1] + OPEN[:1]),
]


@pytest.mark.parametrize(
    ("mutate", "name", "base", "arguments"),
    [(mutate, name, *case) for mutate, name, cases in MUTANTS for case in cases],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_mutant_is_caught(mutate, name, base, arguments):
    demand = next(f for f in conformance.DEMANDS if f.__name__ == name)
    order = 2
    demand(base(*arguments), order)
    with pytest.raises(AssertionError):
        demand(mutate(base)(*arguments), order)
