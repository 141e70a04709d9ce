"""What every pymanopt manifold has to do: reusable, one function for each demand.

A manifold passes if no function of `DEMANDS` raises an `AssertionError`. Points may be arrays, or
lists of arrays as on a product. `order` is that of the manifold's retraction.
"""

import itertools

import numpy as np
import pymanopt
from pymanopt.optimizers import ConjugateGradient, SteepestDescent, TrustRegions

from dln_manifolds import diagnostics


def leaves(value):
    return list(value) if isinstance(value, list | tuple) else [value]


def frozen(value):
    """Return a copy of a point or vector that cannot be written to."""
    copies = [np.array(leaf) for leaf in leaves(value)]
    for copy in copies:
        copy.flags.writeable = False
    return type(value)(copies) if isinstance(value, list) else copies[0]


def make_problem(manifold, centre=None):
    """Return a cost of all entries, neither quadratic nor invariant, with a minimum near a point.

    ``sum w (1 - cos(x - c)) + (sum (x - c)^2)^2 / 20 + sum b x``; the last term gives the gradient
    at the minimum a normal part.
    """
    centre = leaves(manifold.random_point() if centre is None else centre)
    rng = np.random.default_rng(5)
    weights = [rng.uniform(0.5, 2.0, leaf.shape) for leaf in centre]
    tilts = [rng.uniform(-0.1, 0.1, leaf.shape) for leaf in centre]
    several = isinstance(manifold.point_layout, tuple | list)

    def zipped(*lists):
        return zip(weights, tilts, *lists, strict=True)

    def away(x):
        differences = [a - c for a, c in zip(x, centre, strict=True)]
        return differences, sum(np.sum(d**2) for d in differences)

    def answer(parts):
        return parts if several else parts[0]

    @pymanopt.function.numpy(manifold)
    def cost(*x):
        differences, total = away(x)
        waves = sum(np.sum(w * (1 - np.cos(d))) for w, _, d in zipped(differences))
        return waves + total**2 / 20 + sum(np.sum(b * a) for _, b, a in zipped(x))

    @pymanopt.function.numpy(manifold)
    def gradient(*x):
        differences, total = away(x)
        return answer([w * np.sin(d) + total * d / 5 + b for w, b, d in zipped(differences)])

    @pymanopt.function.numpy(manifold)
    def hessian(*arguments):
        x, v = arguments[: len(centre)], arguments[len(centre) :]
        differences, total = away(x)
        change = 2 * sum(np.sum(d * u) for _, _, d, u in zipped(differences, v))
        return answer(
            [
                w * np.cos(d) * u + (total * u + change * d) / 5
                for w, _, d, u in zipped(differences, v)
            ]
        )

    return pymanopt.Problem(manifold, cost, euclidean_gradient=gradient, euclidean_hessian=hessian)


def passes(result):
    assert result, result.message


def dimension(manifold, order):
    passes(diagnostics.check_dimension(manifold))


def projection(manifold, order):
    passes(diagnostics.check_projection(manifold))


def retraction(manifold, order):
    passes(diagnostics.check_retraction(manifold, order=order))


def transport(manifold, order):
    passes(diagnostics.check_transport(manifold))


def exponential(manifold, order):
    try:
        passes(diagnostics.check_exponential(manifold))
    except NotImplementedError:
        return


def gradient(manifold, order):
    passes(diagnostics.check_gradient(make_problem(manifold)))


def hessian(manifold, order):
    result = diagnostics.check_hessian(make_problem(manifold))
    passes(result)
    assert abs(result.slope - 3) <= 0.1, result.message


def inner_product(manifold, order):
    x = manifold.random_point()
    u, v, w = (manifold.random_tangent_vector(x) for _ in range(3))
    inner, norm = manifold.inner_product, manifold.norm
    bound = 1e-12 * norm(x, v) * (norm(x, u) + norm(x, w))
    assert abs(inner(x, u, v) - inner(x, v, u)) <= bound
    mixed = inner(x, 2 * u - 3 * w, v) - (2 * inner(x, u, v) - 3 * inner(x, w, v))
    assert abs(mixed) <= 10 * bound
    assert abs(norm(x, v) ** 2 - inner(x, v, v)) <= 1e-12 * norm(x, v) ** 2
    assert inner(x, v, v) > 0
    assert norm(x, manifold.zero_vector(x)) == 0
    # conjugate gradients divide by a norm that may be zero
    assert type(norm(x, v)) is not float
    assert type(inner(x, u, v)) is not float


def inputs_are_left_alone(manifold, order):
    """No method writes to its arguments: they are read-only here."""
    x = frozen(manifold.random_point())
    v, w = (0.1 * manifold.random_tangent_vector(x) for _ in range(2))
    if not isinstance(v, list):
        v, w = frozen(v), frozen(w)
    y = frozen(manifold.retraction(x, v))
    manifold.inner_product(x, v, w)
    manifold.norm(x, v)
    manifold.to_tangent_space(x, w)
    manifold.transport(x, y, v)
    manifold.euclidean_to_riemannian_gradient(x, v)
    manifold.euclidean_to_riemannian_hessian(x, v, w, v)


def points_may_be_changed(manifold, order):
    """A caller who overwrites a point gets the answers of the new one."""
    first, second = manifold.random_point(), manifold.random_point()
    v = manifold.random_tangent_vector(second)
    wanted = [leaf.copy() for leaf in leaves(manifold.retraction(second, 0.1 * v))]
    manifold.to_tangent_space(first, v)
    for leaf, other in zip(leaves(first), leaves(second), strict=True):
        leaf[...] = other
    found = leaves(manifold.retraction(first, 0.1 * v))
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a, b)


def solvers_descend(manifold, order):
    problem = make_problem(manifold)
    start = manifold.random_point()
    for optimizer in (
        SteepestDescent(verbosity=0, max_iterations=20),
        ConjugateGradient(verbosity=0, max_iterations=20),
        TrustRegions(verbosity=0, max_iterations=20),
    ):
        result = optimizer.run(problem, initial_point=start)
        assert np.isfinite(result.cost)
        assert result.cost < problem.cost(start)


def trust_regions_are_quadratic(manifold, order):
    """The gradient norms of the last iterations fall like squares."""
    if order < 2:
        return
    centre = manifold.random_point()
    problem = make_problem(manifold, centre)
    start = manifold.retraction(centre, 0.1 * manifold.random_tangent_vector(centre))
    point = (
        TrustRegions(verbosity=0, min_gradient_norm=1e-2).run(problem, initial_point=start).point
    )
    norms = []
    for _ in range(8):
        size = float(manifold.norm(point, problem.riemannian_gradient(point)))
        norms.append(size)
        if size <= 1e-11:
            break
        step = TrustRegions(verbosity=0, max_iterations=1, min_gradient_norm=0)
        with np.errstate(invalid="ignore"):  # pymanopt's SPD matrices lose their symmetry
            point = step.run(problem, initial_point=point, Delta0=1.0, Delta_bar=1.0).point
    assert norms[-1] <= 1e-11, norms
    for before, after in itertools.pairwise(norms):
        assert after <= max(50 * before**1.9, 1e-11), norms


DEMANDS = [
    dimension,
    projection,
    retraction,
    transport,
    exponential,
    gradient,
    hessian,
    inner_product,
    inputs_are_left_alone,
    points_may_be_changed,
    solvers_descend,
    trust_regions_are_quadratic,
]
