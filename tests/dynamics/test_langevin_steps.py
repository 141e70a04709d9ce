"""One step of the Langevin equation against its generator, by a cubature of the noise.

On functions of roots the generator is ``(1/N) sum_i (k/b) f_ii + ((k/b) d_i log J + d_i S / b
- d_i E) f_i`` with the Jacobian ``J = prod |l_i^2 - l_j^2| prod l_i^p``, ``p = m + n - 2r``. The
entropy is literal: ``a_ij`` as a sum of powers.
"""

import math
from types import SimpleNamespace

import autograd.numpy as anp
import mpmath
import numpy as np
import pytest
from autograd import grad
from scipy.stats import multivariate_normal

from dln_manifolds import BalancedManifold
from dln_manifolds.dynamics import GibbsMeasure, layer_langevin, root_langevin
from dln_manifolds.dynamics.gibbs import root_frame
from dln_manifolds.dynamics.root_langevin import RootLangevin, laplacian_rates
from dln_manifolds.geometry.balancing import factor, relative_imbalance
from dln_manifolds.geometry.chain import chain_of
from dln_manifolds.geometry.coefficients import kappa
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.stratum import MatrixStratum
from dln_manifolds.numerics.matrices import parity_combine

TARGET, BETA = 0.8, 2.0
VALUES = np.array([2.0, 0.8, 0.4])


def cubature(dim):
    """Nodes and weights of Stroud's rule of degree 5 for standard normal vectors."""
    i, j = np.triu_indices(dim, 1)
    unit, far, near = np.eye(dim), np.sqrt(dim + 2), np.sqrt((dim + 2) / 2)
    pairs = [a * unit[i] + b * unit[j] for a in (1, -1) for b in (1, -1)]
    nodes = np.concatenate([0 * unit[:1], far * unit, -far * unit, *(near * p for p in pairs)])
    weights = np.full(len(nodes), 1 / (dim + 2) ** 2)
    weights[0], weights[1 : 2 * dim + 1] = 2 / (dim + 2), (4 - dim) / (2 * (dim + 2) ** 2)
    return nodes, weights


def observables(roots):
    """Three functions of roots, shape ``(3, ...)``; the last one is odd in no way."""
    first, last = roots[..., 0], roots[..., -1]
    return anp.stack([anp.sum(roots**2, axis=-1), anp.log(first), first * last**2])


def generator(roots, stratum, anisotropy):
    n, surplus = stratum.depth, sum(stratum.shape) - 2 * stratum.rank
    spare = sum(width - stratum.rank for width in stratum.hidden_widths or ())
    i, j = np.triu_indices(len(roots), 1)

    def jacobian(x):
        return anp.sum(anp.log(anp.abs(x[i] ** 2 - x[j] ** 2))) + surplus * anp.sum(anp.log(x))

    def entropy(x):
        powers = [x[i] ** (2 * (n - 1 - m)) * x[j] ** (2 * m) for m in range(int(n))]
        return 0.5 * anp.sum(anp.log(sum(powers))) + spare * anp.sum(anp.log(x))

    def energy(x):
        return 0.5 * anp.sum((x**n - TARGET) ** 2)

    pull = (anisotropy * grad(jacobian)(roots) + grad(entropy)(roots)) / BETA - grad(energy)(roots)
    result = []
    for k in range(3):
        slope = grad(lambda x, k=k: observables(x)[k])
        second = np.array([grad(lambda x, m=m: slope(x)[m])(roots)[m] for m in range(len(roots))])  # noqa: B023
        result.append(np.sum(anisotropy / BETA * second + pull * slope(roots)) / n)
    return np.array(result)


def energy(X):
    values = np.linalg.svd(X, compute_uv=False)
    return 0.5 * np.sum((values > 1e-9) * (values - TARGET) ** 2, axis=-1)


def gradient(X):
    u, s, vt = np.linalg.svd(X, full_matrices=False)
    kept = s > 1e-9
    return (u * (kept * (s - TARGET))[..., None, :]) @ vt


def equation_of(stratum, anisotropy):
    space = SimpleNamespace(stratum=stratum)
    return RootLangevin(GibbsMeasure(space, energy, gradient, BETA, anisotropy))


def start_of(stratum):
    rng, (m, n) = np.random.default_rng(0), stratum.shape
    u, v = (np.linalg.qr(rng.normal(size=(d, stratum.rank)))[0] for d in (m, n))
    return Frame(u, VALUES[: stratum.rank], v.T, stratum.depth, 1.0)


def errors(roots_after, dim, stratum, anisotropy):
    """Rates of means in one step of decreasing length, less the generator: (n_steps, 3)."""
    nodes, weights = cubature(dim)
    roots = VALUES[: stratum.rank] ** (1 / stratum.depth)
    start, result = observables(roots), []
    for step in 4e-3 / stratum.depth**2 * 0.5 ** np.arange(4):
        result.append((observables(roots_after(nodes, step)) - start[:, None]) @ weights / step)
    return np.array(result) - generator(roots, stratum, anisotropy)


def check_order(found):
    """The error of rates goes like the step: what one step errs goes like its square."""
    slopes = np.log2(np.abs(found[:-1] / found[1:]))
    assert np.abs(slopes[-1] - 1).max() <= 0.15
    assert np.abs(2 * found[-1] - found[-2]).max() <= 5e-3 * np.abs(found[0]).max() + 1e-5


CASES = [((2, 2), 2, 3, 1.0), ((3, 3), 3, 2.0, 0.25), ((3, 3), 3, 10.0, 1.0), ((3, 2), 2, 3.0, 4.0)]
CASES += [((2, 4), 2, 1.0, 1.0), ((3, 3), 2, 3.0, 1.0), ((4, 3), 1, 2.0, 0.25), ((3, 3), 3, 3, 0.0)]
CASES += [((1, 1), 1, 3.0, 1.0)]


def root_errors(shape, rank, depth, anisotropy, widths=None):
    stratum = MatrixStratum(shape, rank, depth, widths)
    equation = equation_of(stratum, anisotropy)
    start = start_of(stratum)
    at = equation.at(start.compose(start.roots))

    def roots_after(nodes, step):
        moved = equation.step(at, np.asarray(step), nodes.reshape(-1, *shape))
        values = np.linalg.svd(moved, compute_uv=False)
        assert values[:, rank:].max(initial=0.0) <= 1e-14
        return values[:, :rank]

    return errors(roots_after, shape[0] * shape[1], stratum, anisotropy)


@pytest.mark.parametrize(("shape", "rank", "depth", "anisotropy"), CASES, ids=str)
def test_weak_order_in_the_root_chart(shape, rank, depth, anisotropy):
    check_order(root_errors(shape, rank, depth, anisotropy))


def test_wide_hidden_layers_in_the_root_chart():
    check_order(root_errors((3, 2), 2, 2, 0.5, (2, 5, 3)))


def test_entropy_left_out_is_detected(monkeypatch):
    monkeypatch.setattr(root_langevin, "entropy_rates", lambda frame, _: 0 * frame.roots)
    found = root_errors((2, 2), 2, 3, 1.0)
    assert np.abs(found[-1]).min() > 0.05


NETWORKS = [((2, 2, 2), 2, 1.0), ((2, 2, 2, 2), 2, 4.0), ((3, 3, 3), 3, 0.25), ((2,) * 11, 2, 1.0)]
NETWORKS += [((3, 3), 3, 1.0), ((1, 1, 1, 1), 1, 1.0), ((3, 2, 4), 2, 0.25), ((3, 4, 2), 2, 1.0)]
NETWORKS += [((3, 3, 3), 1, 4.0), ((3, 3, 3), 2, 0.0), ((2, 2, 2, 2), 2, 0.0)]


def layer_errors(widths, rank, anisotropy):
    stratum = MatrixStratum((widths[-1], widths[0]), rank, len(widths) - 1, widths)
    chain, start = chain_of(widths), start_of(stratum)
    copies = len(cubature(math.prod(chain.array_shape))[0])
    layers = np.stack([factor(start, chain)] * copies)
    at = layer_langevin.layer_point(layers, chain, rank)

    def roots_after(nodes, step):
        vertical = 2 * step / BETA
        normal = nodes.reshape(-1, *chain.array_shape)
        vector = layer_langevin.tangent_step(
            at,
            step,
            (vertical, anisotropy * vertical),
            gradient(start.compose(start.values)),
            normal,
        )
        moved = layers + layer_langevin.geodesic_polynomial(at.frame, vector)
        end, crossed = layer_langevin.settled(at, moved, False)
        assert not crossed.any()
        assert relative_imbalance(end.layers, chain).max() <= 1e-14
        return end.frame.roots

    return errors(roots_after, layers[0].size, stratum, anisotropy)


@pytest.mark.parametrize(("widths", "rank", "anisotropy"), NETWORKS, ids=str)
def test_weak_order_of_layers(widths, rank, anisotropy):
    check_order(layer_errors(widths, rank, anisotropy))


def test_vertical_noise_is_what_brings_the_entropy(monkeypatch):
    """As where it is applied by the group of the fibre, which leaves X where it is."""
    step = layer_langevin.tangent_step
    monkeypatch.setattr(
        layer_langevin, "tangent_step", lambda at, h, both, *rest: step(at, h, (0, both[1]), *rest)
    )
    found = layer_errors((2, 2, 2, 2), 2, 1.0)
    assert np.abs(found[-1]).min() > 0.05


@pytest.mark.parametrize(("widths", "rank"), [((3, 3, 3), 3), ((2,) * 5, 2), ((3, 4, 2), 2)])
def test_steps_of_layers_follow_geodesics_to_second_order(widths, rank):
    total = BalancedManifold(widths=widths, rank=rank)
    chain = total.stratum.chain
    start = factor(start_of(MatrixStratum((widths[-1], widths[0]), rank, len(widths) - 1)), chain)
    rng = np.random.default_rng(4)
    vector = total.to_tangent(rng.normal(size=chain.array_shape), start)
    times = 0.02 * 0.5 ** np.arange(3)
    at = layer_langevin.layer_point(np.stack([start] * 3), chain, rank)
    vectors = times.reshape(3, *(1,) * vector.ndim) * vector
    exact = total.metric.exp(vectors, start)
    plain = at.layers + vectors
    bent = at.layers + layer_langevin.geodesic_polynomial(at.frame, vectors)
    for polynomial, order in ((bent, 3), (plain, 2)):
        end, _ = layer_langevin.settled(at, polynomial, False)
        away = np.linalg.norm((end.layers - exact).reshape(3, -1), axis=1)
        assert np.log2(away[1] / away[2]) == pytest.approx(order, abs=0.15)


def cometric(root, depth, vector):
    frame = root_frame(root, depth, min(root.shape))
    value, blocks = kappa(frame.half_log_ratio, depth), frame.blocks(vector)
    core = parity_combine(1 / value, value, blocks[: len(value)])
    return frame.assemble(np.concatenate([core, blocks[len(value) :]]))


@pytest.mark.parametrize(("shape", "depth"), [((3, 3), 3), ((4, 2), 2.5), ((2, 3), 10)], ids=str)
def test_laplacian_of_the_chart_is_the_divergence_of_the_cometric(shape, depth):
    """The volume of the chart is constant."""
    root, h = np.random.default_rng(1).normal(size=shape), 1e-5
    units = np.eye(root.size).reshape(-1, *shape)
    divergence = sum(
        cometric(root + h * e, depth, e) - cometric(root - h * e, depth, e) for e in units
    ) / (2 * h)
    frame = root_frame(root, depth, min(shape))
    np.testing.assert_allclose(frame.compose(laplacian_rates(frame)), divergence, atol=1e-8)


@pytest.mark.parametrize("ratio", ["1", "1e-13", "1e-9", "1e-4", "0.3", "5", "300"])
def test_laplacian_at_50_digits(ratio):
    """Roots that are close to each other, and far apart, in the formula with differences."""
    with mpmath.workdps(50):
        n, second = mpmath.mpf(3), mpmath.mpf(1)
        first = mpmath.mpf(float(second * (1 + mpmath.mpf(ratio))))
        u = mpmath.log(first / second) / 2
        value = mpmath.tanh(n * u) / mpmath.tanh(u)
        wanted = [
            2 * (a * (1 / n - 1 / value) / (a * a - b * b) + (1 / value - value) / 2 / (a + b))
            for a, b in ((first, second), (second, first))
        ]
    frame = root_frame(np.diag([float(first), float(second)]), 3.0, 2)
    np.testing.assert_allclose(laplacian_rates(frame), np.array(wanted, float), rtol=1e-12)


def test_density_of_the_proposal():
    """A normal density with the mean of a step without noise, and the covariance of its noise."""
    rng, shape, step = np.random.default_rng(2), (3, 2), np.asarray(0.01)
    equation = equation_of(MatrixStratum(shape, 2, 4.0), 0.5)
    at = equation.at(rng.normal(size=shape))
    mean = equation.step(at, step, np.zeros(shape)).ravel()
    units = np.eye(6).reshape(6, *shape)
    columns = equation.step(at, step, units).reshape(6, 6) - mean
    others = mean + 0.1 * rng.normal(size=(5, 6))
    wanted = multivariate_normal(mean, columns.T @ columns).logpdf(others)
    found = np.array([equation.log_proposal(at, x.reshape(shape), step) for x in others])
    np.testing.assert_allclose(found - found[0], wanted - wanted[0], rtol=1e-10)
    # The covariance has the same determinant everywhere.
    there = equation.at(rng.normal(size=shape))
    other = equation.step(there, step, units) - equation.step(there, step, 0 * units)
    dets = [np.linalg.det(x.reshape(6, 6)) for x in (columns, other)]
    np.testing.assert_allclose(np.abs(dets[1] / dets[0]), 1.0, rtol=1e-10)


def test_the_step_of_lower_rank_is_undone_by_the_tangent_part():
    """And that has the same determinant from either end."""
    rng, rank = np.random.default_rng(3), 2
    equation = equation_of(MatrixStratum((4, 3), rank, 3.0), 1.0)
    at = equation.at(rng.normal(size=(4, rank)) @ rng.normal(size=(rank, 3)))
    end = equation.step(at, np.asarray(0.05), rng.normal(size=(4, 3)))
    vector = at.frame.assemble(at.frame.blocks(end - at.root))
    there = root_frame(end, 3.0, rank)
    assert np.linalg.norm(end - at.root - vector) > 1e-3
    again = root_langevin.moved(at, at.frame.blocks(vector))
    np.testing.assert_allclose(again, end, atol=1e-13)
    units = np.eye(12).reshape(12, 4, 3)
    tangent = [
        np.array([frame.assemble(frame.blocks(e)).ravel() for e in units])
        for frame in (at.frame, there)
    ]
    bases = [np.linalg.svd(projection)[0][:, :10] for projection in tangent]
    # Of the projection from there to here in bases, and of that back.
    here, back = (np.linalg.det(x) for x in (bases[0].T @ bases[1], bases[1].T @ bases[0]))
    assert here == pytest.approx(back, rel=1e-12)
    # The derivative of the inverse step is that projection.
    h = 1e-6
    ahead = [
        root_langevin.moved(at, at.frame.blocks(vector + h * e.reshape(4, 3))) for e in bases[0].T
    ]
    slopes = np.array([(x - end).ravel() / h for x in ahead])
    np.testing.assert_allclose(slopes @ tangent[0], bases[0].T, atol=1e-5)
