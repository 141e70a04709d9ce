"""Chains draw from the Gibbs measure: against quadrature, exact scaling, and mutants."""

import itertools
import sys
import types

import numpy as np
import pytest
from radial_law import RadialLaw, energy, gradient, observables
from scipy.stats import chisquare

from dln_manifolds import DLNObservableManifold, costs
from dln_manifolds.dynamics import GibbsMeasure, Sample, sample
from dln_manifolds.dynamics.kernels import AdjustedLangevin, Hamiltonian
from dln_manifolds.dynamics.mixing import effective_draws, r_hat
from dln_manifolds.errors import InvalidPointError, SamplingWarning


def measure_of(shape, depth, beta, anisotropy=1.0, rank=None):
    space = DLNObservableManifold(shape=shape, depth=depth, rank=rank)
    return GibbsMeasure(space, energy, gradient, beta, anisotropy)


def deviations(draws, depth, law):
    """Return how far means are from quadrature, in standard errors of independent chains."""
    found = observables(draws.singular_values ** (1 / depth), depth).mean(axis=1)
    error = found.std(axis=0) / np.sqrt(len(found))
    wanted = law.mean(lambda roots: observables(roots, depth))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(error > 0, (found.mean(axis=0) - wanted) / error, 0.0)


def spread_of_bins(draws, depth, law):
    """Return the p value of the last draws of all chains in 20 bins of the largest root."""
    last = draws.singular_values[:, -1, 0] ** (1 / depth)
    counts = np.bincount(np.searchsorted(law.quantiles(20), last), minlength=20)
    return chisquare(counts).pvalue


def check_law(shape, depth, anisotropy, kernel, rank=None, n_chains=128, beta=8.0, **how):
    rank = min(shape) if rank is None else rank
    law = RadialLaw(rank, depth, beta, anisotropy, sum(shape) - 2 * rank)
    measure = measure_of(shape, depth, beta, anisotropy, rank)
    start = law.draw(n_chains, shape, depth, np.random.default_rng(1))
    options = {"n_warmup": 60, "n_draws": 40, "thin": 2} | how
    draws = sample(measure, n_chains, kernel=kernel, start=start, rng=2, **options)
    assert np.abs(deviations(draws, depth, law)).max() <= 3
    assert spread_of_bins(draws, depth, law) > 0.001
    return draws


@pytest.mark.filterwarnings("ignore::dln_manifolds.errors.SamplingWarning")
@pytest.mark.parametrize("kernel", ["hmc", "rle"])
@pytest.mark.parametrize(("n", "depth", "anisotropy"), [(1, 2, 4.0), (2, 3, 1.0), (2, 10, 1.0)])
def test_law(kernel, n, depth, anisotropy):
    draws = check_law((n, n), depth, anisotropy, kernel)
    assert draws.acceptance.min() > 0.2
    assert draws.step_size.shape == draws.divergences.shape == (128,)


@pytest.mark.filterwarnings("ignore::dln_manifolds.errors.SamplingWarning")
@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["hmc", "rle"])
@pytest.mark.parametrize("anisotropy", [0.25, 1.0, 4.0])
@pytest.mark.parametrize(("n", "depth"), list(itertools.product((1, 2), (1, 2, 3, 10))))
def test_every_law(kernel, n, depth, anisotropy):
    if (kernel, n, depth, anisotropy) == ("rle", 2, 10, 4.0):
        # Local steps hardly change between the phases of this hot measure, and R-hat says so.
        with pytest.warns(SamplingWarning, match="have not mixed"):
            sample(measure_of((2, 2), 10, 8.0, 4.0), 100, 60, 60, "rle", rng=0)
        return
    # Steps that adapt leave a trace, which slow chains take long to lose.
    slow = {"n_warmup": 400, "thin": 40} if (kernel, depth) == ("rle", 10) else {}
    check_law((n, n), depth, anisotropy, kernel, n_chains=1000, **slow)


@pytest.mark.filterwarnings("ignore::dln_manifolds.errors.SamplingWarning")
@pytest.mark.parametrize(("shape", "kernel"), [((3, 2), "hmc"), ((3, 2), "rle"), ((3, 3), "rle")])
def test_law_of_rank_two(shape, kernel):
    """With l^p, p = m + n - 2r; the law without it is another."""
    draws = check_law(shape, 2, 1.0, kernel, rank=2)
    without = RadialLaw(2, 2, 8.0)
    assert np.abs(deviations(draws, 2, without)).max() > 6


@pytest.mark.filterwarnings("ignore::dln_manifolds.errors.SamplingWarning")
def test_entropy_that_is_left_out_is_noticed(monkeypatch):
    def none(self, frame):
        return -self.beta * self.energy(frame.compose(frame.singular_values))

    monkeypatch.setattr(GibbsMeasure, "log_density_at", none)
    law = RadialLaw(2, 3, 8.0)
    start = law.draw(64, (2, 2), 3, np.random.default_rng(1))
    draws = sample(measure_of((2, 2), 3, 8.0), 64, 40, 60, "hmc", start=start, thin=2, rng=2)
    assert np.abs(deviations(draws, 3, law)).max() > 4.5


def test_homogeneous_energy():
    """U = D / (q N b) and C = D / (q N) of E = |X|^2/2, from the mode and without a start."""
    space = DLNObservableManifold(3, 2)
    loss = costs.LinearRegression(np.eye(3), np.zeros((3, 3)))
    scale = 0.5 / float(loss(np.eye(3)) / 3)
    measure = GibbsMeasure(space, scale * loss, beta=5.0)
    draws = sample(measure, 64, 200, 200, thin=2, rng=0)
    expected = (3 + 3 * 2 * 3 / 2) / (2 * 2)
    means = draws.energies.mean(axis=1) * 5.0
    assert abs(means.mean() - expected) < 3 * means.std() / 8
    assert 25 * draws.energies.var() == pytest.approx(expected, rel=0.1)
    assert draws.r_hat.max() < 1.05
    assert draws.ess.min() > 1000
    # Both components are drawn from.
    assert 0.2 < np.mean(np.linalg.det(draws.points) > 0) < 0.8


@pytest.mark.filterwarnings("ignore::dln_manifolds.errors.SamplingWarning")
def test_singular_values_of_deep_networks():
    """As small as they are beside large ones: in X the smaller are rounding of the larger."""
    loss = (lambda X: 0.5 * np.sum(X**2, axis=(-2, -1)), lambda X: X)
    draws = sample(GibbsMeasure(DLNObservableManifold(2, 100), *loss, 2.0), 40, 50, 100, rng=0)
    roots = draws.singular_values ** (1 / 100)
    # q = l_2 / l_1 has the density sqrt(1 - q^2), nearly: 0.59 of it is here, of rounding nothing.
    ratio = roots[..., 1] / roots[..., 0]
    assert 0.35 < np.mean((ratio > 0.1) & (ratio < 0.6)) < 0.8
    assert 0 < draws.singular_values.min() < 1e-50
    # At N = 1000 there is a start too, and numbers that are not finite are left.
    deep = GibbsMeasure(DLNObservableManifold(2, 1000), *loss, 2.0)
    assert np.isfinite(sample(deep, 4, 20, 50, rng=0).energies).all()


def test_two_phases_are_told():
    """At n = 4, N = 12, beta = 20 a melted and a cold phase coexist, and no chain changes."""
    target = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0] @ np.diag(
        [1.5, 1.2, 1.0, 0.8]
    )
    space = DLNObservableManifold(4, 12)
    measure = GibbsMeasure(
        space,
        lambda X: 0.5 * np.sum((X - target) ** 2, axis=(-2, -1)),
        lambda X: X - target,
        beta=20.0,
    )
    with pytest.warns(SamplingWarning, match="have not mixed: R-hat is"):
        draws = sample(measure, 8, 100, 100, rng=0)
    assert draws.r_hat.max() > 1.1


def test_steps_of_a_thousand_chains_take_few_decompositions(monkeypatch):
    measure = measure_of((3, 3), 3, 20.0)
    smooth = GibbsMeasure(
        measure.space, lambda X: 0.5 * np.sum(X**2, axis=(-2, -1)), lambda X: X, 20.0
    )
    counts, svd = [], np.linalg.svd

    def counted(matrices, *options, **named):
        counts.append(matrices.size / 9 / 1000)
        return svd(matrices, *options, **named)

    roots = np.random.default_rng(0).normal(size=(1000, 3, 3))
    for kernel in (
        Hamiltonian(smooth, np.full(1000, 0.1), n_leaps=24),
        AdjustedLangevin(smooth, np.full(1000, 0.01)),
    ):
        state = kernel.init(roots)
        monkeypatch.setattr(np.linalg, "svd", counted)
        counts.clear()
        with np.errstate(all="ignore"):
            kernel.step(np.random.default_rng(0), state)
        assert 1 <= sum(counts) <= 50
        monkeypatch.undo()


def test_r_hat_and_effective_draws_of_known_chains():
    rng = np.random.default_rng(0)
    independent = rng.normal(size=(4, 1000, 1))
    assert r_hat(independent) == pytest.approx(1.0, abs=0.01)
    assert effective_draws(independent) == pytest.approx(4000, rel=0.15)
    # An autoregression of 0.9 has (1 - 0.9) / (1 + 0.9) effective draws each.
    chains = np.zeros((4, 20000, 1))
    for k in range(1, 20000):
        chains[:, k] = 0.9 * chains[:, k - 1] + rng.normal(size=(4, 1))
    assert effective_draws(chains) == pytest.approx(80000 * 0.1 / 1.9, rel=0.15)
    apart = independent + np.array([0, 0, 0, 3.0])[:, None, None]
    assert r_hat(apart) > 1.4
    wide = independent * np.array([1, 1, 1, 8.0])[:, None, None]  # only folding sees that
    assert r_hat(wide) > 1.1
    assert np.isnan(r_hat(independent[:, :3])).all()
    assert np.isnan(effective_draws(independent[:, :3])).all()


@pytest.mark.filterwarnings("ignore::dln_manifolds.errors.SamplingWarning")
def test_interruption_keeps_what_there_is():
    measure = measure_of((2, 2), 2, 4.0)

    def stop(done, total):
        assert total == 60
        if done == 30:
            raise KeyboardInterrupt

    draws = sample(measure, 3, 40, 20, rng=0, progress=stop)
    assert draws.interrupted
    assert draws.points.shape == (3, 10, 2, 2)
    assert draws.energies.shape == (3, 10)
    early = sample(measure, 3, 40, 20, rng=0, progress=lambda done, _: done < 5 or stop(30, 60))
    assert early.interrupted
    assert early.points.shape == (3, 0, 2, 2)
    same = [sample(measure, 2, 10, 20, rng=seed).points for seed in (7, 7, 8)]
    np.testing.assert_array_equal(same[0], same[1])
    assert np.abs(same[0] - same[2]).max() > 1e-3


def test_normalizability():
    two, four = DLNObservableManifold(2, 2), DLNObservableManifold(2, 5)
    seen = costs.MatrixCompletion(np.eye(2), np.eye(2))
    with pytest.raises(ValueError, match=r"does not grow along 2 of 4 .* cannot be normalized"):
        GibbsMeasure(two, seen, beta=1.0)
    # Volumes win at larger depth along generic directions; whether along all is not known here.
    with pytest.warns(SamplingWarning, match="may not along others"):
        GibbsMeasure(four, seen, beta=1.0)
    linear = (lambda X: X[..., 0, 0], lambda X: np.broadcast_to(np.diag([1.0, 0.0]), X.shape))
    with pytest.raises(ValueError, match="no lower bound"):
        GibbsMeasure(two, *linear, beta=1.0)
    with pytest.raises(ValueError, match="no lower bound"):
        GibbsMeasure(two, lambda X: -np.sum(X**2, axis=(-2, -1)), lambda X: -2 * X, beta=1.0)
    flat = (lambda X: np.tanh(X).sum(axis=(-2, -1)), lambda X: 1 / np.cosh(X) ** 2)
    with pytest.warns(SamplingWarning, match=r"hardly grows along entry \[0, 0\]"):
        GibbsMeasure(two, *flat, beta=1.0)
    # With decay there is nothing to say.
    decay = costs.LinearRegression(np.eye(2), np.zeros((2, 2)))
    GibbsMeasure(two, seen + 0.1 * decay, beta=1.0)
    GibbsMeasure(two, energy, gradient, beta=1.0)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"n_draws": 0}, ValueError, "n_draws must be at least 1"),
        ({"n_chains": 2.5}, TypeError, "n_chains must be an integer"),
        ({"thin": 0}, ValueError, "thin must be at least 1"),
        ({"kernel": "gibbs"}, ValueError, "kernel must be 'hmc', 'rle' or a kernel"),
        ({"mass": "unit"}, ValueError, "mass must be"),
        ({"start": np.zeros((2, 2))}, InvalidPointError, "start is singular"),
        ({"start": np.eye(3)}, InvalidPointError, "start has shape"),
        ({"start": np.stack([np.eye(2)] * 3)}, ValueError, "2 chains start at"),
        ({"progress": 3}, TypeError, "progress must be"),
    ],
)
def test_bad_input(change, error, message):
    arguments = {"n_chains": 2, "n_draws": 5, "n_warmup": 5} | change
    with pytest.raises(error, match=message):
        sample(measure_of((2, 2), 2, 4.0), **arguments)


def test_bad_measures():
    space = DLNObservableManifold(2, 2)
    for beta in (0.0, -1.0, np.inf):
        with pytest.raises(ValueError, match="beta must be"):
            GibbsMeasure(space, energy, gradient, beta)
    with pytest.raises(ValueError, match="anisotropy must be"):
        GibbsMeasure(space, energy, gradient, 1.0, -0.5)
    with pytest.raises(TypeError, match="gradient must be a function"):
        GibbsMeasure(space, energy)
    with pytest.raises(ValueError, match="The gradient has shape"):
        GibbsMeasure(space, energy, lambda X: X[..., 0], 1.0)
    with pytest.raises(ValueError, match="needs a finite depth"):
        GibbsMeasure(DLNObservableManifold(2, np.inf), energy, gradient, 1.0)
    with pytest.raises(ValueError, match="no density"):
        sample(GibbsMeasure(space, energy, gradient, 1.0, 0.0))
    low = DLNObservableManifold(shape=(3, 3), rank=2, depth=2)
    with pytest.raises(ValueError, match="kernel='hmc' needs matrices of full rank"):
        sample(GibbsMeasure(low, energy, gradient, 4.0), kernel="hmc")


@pytest.mark.parametrize("version", ["0.22.0", "1.0.0"])
def test_to_arviz(monkeypatch, version):
    """Of both ways to be called; a stand-in, and ArviZ itself where it is installed."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(2, 6, 2, 2))
    values = np.linalg.svd(points, compute_uv=False)
    draws = Sample(points, values, rng.normal(size=(2, 6)), *np.ones((3, 2)))
    seen = {}

    def from_dict(groups=None, **named):
        assert (groups is None) == version.startswith("0")
        seen.update(groups or named)
        return seen

    module = types.ModuleType("arviz")
    module.__version__, module.from_dict = version, from_dict
    monkeypatch.setitem(sys.modules, "arviz", module)
    assert draws.to_arviz()["posterior"]["X"] is points
    assert seen["sample_stats"]["energy"].shape == (2, 6)
    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(ImportError, match=r"dln-manifolds\[arviz\]"):
        draws.to_arviz()


def test_arviz_itself():
    arviz = pytest.importorskip("arviz")
    draws = sample(measure_of((2, 2), 2, 8.0), 4, 200, 100, rng=0)
    summary = arviz.summary(draws.to_arviz(), var_names=["singular_values"])
    np.testing.assert_allclose(summary["r_hat"].astype(float), draws.r_hat[1:], atol=0.02)
