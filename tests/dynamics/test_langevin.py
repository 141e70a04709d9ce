"""Chains of the Langevin equation: their law, what becomes of them, what is refused."""

import itertools

import numpy as np
import pytest
from radial_law import RadialLaw, energy, gradient, observables
from scipy.stats import chisquare

from dln_manifolds import DLNObservableManifold, costs
from dln_manifolds.dynamics import GibbsMeasure, flow_of_point, langevin, root_langevin
from dln_manifolds.errors import InvalidPointError, SamplingWarning


def measure_of(shape, depth, beta, anisotropy=1.0, rank=None, functions=(energy, gradient)):
    space = DLNObservableManifold(shape=shape, depth=depth, rank=rank)
    return GibbsMeasure(space, *functions, beta, anisotropy)


def deviations(shape, depth, anisotropy, beta=8.0, rank=None, time=1.0, step=None, n=1000, **how):
    """Start in equilibrium and go on; return deviations in standard errors, and the paths."""
    rank = min(shape) if rank is None else rank
    law = RadialLaw(rank, depth, beta, anisotropy, sum(shape) - 2 * rank)
    rng = np.random.default_rng([1, sum(shape), depth, int(4 * anisotropy)])
    start = law.draw(n, shape, depth, rng)
    # Much vertical noise beside little horizontal noise needs short steps.
    size = 0.02 * min(1, 2 * anisotropy) / depth**2 if step is None else step
    measure = measure_of(shape, depth, beta, anisotropy, rank)
    steps = round(time / size / depth)
    run = langevin(measure, start, size, steps, thin=max(1, steps // 10), rng=rng, **how)
    roots = run.singular_values[..., :rank] ** (1 / depth)
    # Each chain counts once. The start is no draw of the scheme.
    found = observables(roots, depth).mean(axis=0)
    error = found.std(axis=0) / np.sqrt(n)
    wanted = law.mean(lambda x: observables(x, depth))
    with np.errstate(invalid="ignore", divide="ignore"):
        away = np.where(error > 0, (found.mean(axis=0) - wanted) / error, 0.0)
    counts = np.bincount(np.searchsorted(law.quantiles(20), roots[-1, :, 0]), minlength=20)
    return away, chisquare(counts).pvalue, run


SCHEMES = [{}, {"adjust": True}, {"scheme": "layers"}]
schemes = pytest.mark.parametrize("how", SCHEMES, ids=str)


@schemes
@pytest.mark.parametrize(("n", "depth", "anisotropy"), [(2, 3, 0.25), (1, 2, 4.0), (2, 10, 1.0)])
def test_law_of_chains(n, depth, anisotropy, how):
    away, p, run = deviations((n, n), depth, anisotropy, n=200, time=0.4, **how)
    assert np.abs(away).max() <= 3
    assert p > 0.001
    assert not run.blow_ups.any()


@pytest.mark.slow
@schemes
@pytest.mark.parametrize("anisotropy", [0.25, 1.0, 4.0])
@pytest.mark.parametrize(("n", "depth"), list(itertools.product((1, 2), (1, 2, 3, 10))))
def test_law_of_many_chains(n, depth, anisotropy, how):
    away, p, _ = deviations((n, n), depth, anisotropy, n=1500, **how)
    assert np.abs(away).max() <= 3
    assert p > 0.001


@schemes
@pytest.mark.parametrize("shape", [(3, 3), (3, 2)])
def test_law_of_rank_2(shape, how):
    """Roots repel zero by ``p = m + n - 2r``."""
    away, p, run = deviations(shape, 3, 1.0, rank=2, n=300, time=0.5, **how)
    assert np.abs(away).max() <= 3
    assert p > 0.001
    assert (np.linalg.matrix_rank(run.points[-1], tol=1e-12) == 2).all()
    assert not run.crossings.any()


def test_entropy_left_out_is_detected(monkeypatch):
    monkeypatch.setattr(root_langevin, "entropy_rates", lambda frame, _: 0 * frame.roots)
    away, _, _ = deviations((2, 2), 3, 0.25, beta=4.0, n=500, time=3.0, step=4e-3)
    assert np.abs(away).max() > 6


@pytest.mark.parametrize("how", [*SCHEMES, {"scheme": "layers", "boundary": "reflect"}], ids=str)
def test_chains_cross_where_roots_vanish(how):
    """At high temperature, and with much horizontal noise, det = 0 is met often."""
    away, p, run = deviations((2, 2), 3, 4.0, beta=4.0, n=400, step=2e-3, **how)
    assert np.abs(away).max() <= 3
    assert p > 0.001
    assert run.crossings.mean() > 0.2
    signs = np.linalg.slogdet(run.points)[0]
    if how.get("boundary") == "reflect":
        assert (signs == signs[0]).all()
    else:
        # Every chain has the sign of its number of crossings; what starts is known by the first.
        flips = (np.diff(signs, axis=0) != 0).sum(axis=0)
        assert flips.max() > 0
        assert (flips <= run.crossings).all()
        assert ((run.crossings - flips) % 2 == 0).mean() > 0.8


@pytest.mark.parametrize("scheme", ["root", "layers"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_signs_follow_crossings(scheme, depth):
    """Also at even depth, where all layers change their signs at once."""
    measure, start = measure_of((2, 2), depth, 1.0), np.stack([0.3 * np.eye(2)] * 200)
    for boundary in ("cross", "reflect"):
        run = langevin(measure, start, 0.01, 40, scheme=scheme, boundary=boundary, rng=0)
        signs = np.linalg.slogdet(np.concatenate([start[None], run.points]))[0]
        assert run.crossings.sum() > 20
        flips = (np.diff(signs, axis=0) != 0).sum(axis=0)
        np.testing.assert_array_equal(flips, run.crossings if boundary == "cross" else 0)


def test_adjusted_chains_that_are_reflected_keep_their_component():
    measure, start = measure_of((2, 2), 2, 1.0), np.stack([0.3 * np.eye(2)] * 200)
    run = langevin(measure, start, 0.02, 40, adjust=True, boundary="reflect", rng=0)
    assert (np.linalg.slogdet(run.points)[0] > 0).all()
    assert not run.crossings.any()
    assert 0.5 < run.acceptance.mean() < 1


def test_without_horizontal_noise_layers_follow_the_gradient_flow():
    """Of the free energy; what the vertical noise leaves goes like the root of the step."""
    depth, beta, time = 3, 2.0, 0.2
    free = costs.free_energy(costs.MatrixCompletion(np.eye(2), np.ones((2, 2))), beta, depth)
    loss = costs.MatrixCompletion(np.eye(2), np.ones((2, 2)))
    start = np.array([[1.6, 0.3], [-0.2, 0.5]])
    flow = flow_of_point(start, depth, free.euclidean_gradient, [0.0, time])
    functions = loss, loss.euclidean_gradient
    measure = measure_of((2, 2), depth, beta, 0.0, functions=functions)
    spreads = []
    for n_steps in (25, 100, 400):
        how = {"thin": n_steps, "rng": n_steps}
        run = langevin(
            measure, np.stack([start] * 200), time / n_steps, n_steps, scheme="layers", **how
        )
        end = run.points[-1]
        spread = end.std(axis=0)
        assert (
            np.abs(end.mean(axis=0) - flow.points[-1]) <= 4 * spread / 200**0.5 + 0.3 / n_steps
        ).all()
        spreads.append(np.linalg.norm(spread))
    slopes = np.log(np.divide(spreads[:-1], spreads[1:])) / np.log(4)
    assert np.abs(slopes - 0.5).max() < 0.1
    # In the root chart nothing is left to chance.
    run = langevin(measure, start, time / 400, 400, rng=0)
    np.testing.assert_allclose(run.points[-1, 0], flow.points[-1], atol=2e-3)
    with pytest.raises(ValueError, match="adjust=True needs noise"):
        langevin(measure, start, 0.1, 1, adjust=True)


@pytest.mark.parametrize(("scheme", "step"), [("root", 0.03), ("layers", 0.06)])
def test_chains_that_blow_up_are_counted_and_told_of(scheme, step):
    """The drift grows like l^(2N-1)."""
    measure, start = measure_of((2, 2), 6, 1.0), np.stack([1.5 * np.eye(2)] * 300)
    with pytest.warns(
        SamplingWarning, match=rf"of 300 chains left all bounds.*shorter than {step}"
    ):
        run = langevin(measure, start, step, 80, scheme=scheme, rng=0)
    lost = run.blow_ups > 0
    assert 0.01 < lost.mean() < 0.8
    bad = ~np.isfinite(run.points).all(axis=(-2, -1))
    np.testing.assert_array_equal(bad, lost & (np.arange(1, 81)[:, None] >= run.blow_ups))
    assert np.isnan(run.singular_values[-1][lost]).all()
    assert np.isfinite(run.singular_values[-1][~lost]).all()


def test_adjusted_chains_do_not_blow_up():
    measure, start = measure_of((2, 2), 6, 1.0), np.stack([1.5 * np.eye(2)] * 300)
    run = langevin(measure, start, 0.03, 80, adjust=True, rng=0)
    assert np.isfinite(run.points).all()
    assert not run.blow_ups.any()
    assert run.acceptance.min() < 0.9


@pytest.mark.parametrize(
    ("how", "n_matrices"), [({}, 1), ({"adjust": True}, 1), ({"scheme": "layers"}, 6)]
)
def test_steps_take_few_decompositions(monkeypatch, how, n_matrices):
    """Of T one, and of each of three layers two; not any for the gradient of this energy."""
    loss = costs.MatrixCompletion(np.eye(3), np.ones((3, 3)))
    measure = measure_of((3, 3), 3, 20.0, functions=(loss, loss.euclidean_gradient))
    counts, svd = [], np.linalg.svd

    def counted(matrices, *options, **named):
        counts.append(matrices.size / 9 / 5)
        return svd(matrices, *options, **named)

    start = np.stack([np.diag([2.0, 1.0, 0.3])] * 5)
    monkeypatch.setattr(np.linalg, "svd", counted)
    langevin(measure, start, 1e-3, 1, rng=0, **how)
    before = sum(counts)
    langevin(measure, start, 1e-3, 11, rng=0, **how)
    assert sum(counts) - 2 * before == pytest.approx(10 * n_matrices)


def test_what_is_kept():
    measure, start = measure_of((3, 2), 2, 4.0), np.ones((1, 3, 2)) + np.eye(3, 2)
    every = langevin(measure, start, 0.01, 7, rng=5)
    some = langevin(measure, start[0], 0.01, 7, thin=3, rng=np.random.default_rng(5))
    np.testing.assert_array_equal(some.points, every.points[[2, 5]])
    np.testing.assert_allclose(some.times, [0.03, 0.06])
    assert some.points.shape == (2, 1, 3, 2)
    assert some.acceptance is None
    assert some.singular_values.shape == (2, 1, 2)
    assert langevin(measure, start.astype(np.float32), 0.01, 2).points.dtype == np.float32


def test_progress_and_interruption():
    measure, start, seen = measure_of((2, 2), 2, 4.0), np.eye(2), []
    whole = langevin(measure, start, 0.01, 10, rng=0, progress=lambda *done: seen.append(done))
    assert seen == [(k, 10) for k in range(11)]
    assert not whole.interrupted

    def stop(done, _):
        if done == 6:
            raise KeyboardInterrupt

    run = langevin(measure, start, 0.01, 10, thin=2, rng=0, adjust=True, progress=stop)
    assert run.interrupted
    assert run.points.shape == (3, 1, 2, 2)
    assert run.acceptance.max() <= 1


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"step": 0.0}, ValueError, "step must be positive and finite, not 0.0"),
        ({"step": -0.1}, ValueError, "step must be positive"),
        ({"step": np.nan}, ValueError, "step must be positive"),
        ({"step": "0.1"}, TypeError, "step must be a real number"),
        ({"n_steps": 0}, ValueError, "n_steps must be"),
        ({"thin": 0}, ValueError, "thin must be"),
        ({"thin": 1.5}, TypeError, "thin must be"),
        ({"scheme": "euler"}, ValueError, "scheme must be 'root' or 'layers', not 'euler'"),
        ({"boundary": "stop"}, ValueError, "boundary must be 'cross' or 'reflect', not 'stop'"),
        ({"scheme": "layers", "adjust": True}, ValueError, "adjust=True is for scheme='root'"),
        ({"start": np.ones((2, 2))}, InvalidPointError, "start is singular"),
        ({"start": np.ones((3, 2))}, InvalidPointError, r"start has shape \(3, 2\)"),
        ({"start": np.ones((1, 1, 2, 2)) + np.eye(2)}, InvalidPointError, r"\(n_chains, m, n\)"),
        ({"start": np.full((2, 2), np.nan)}, InvalidPointError, "start is not finite"),
    ],
    ids=str,
)
def test_bad_input(change, error, message):
    arguments = {"start": np.eye(2), "step": 0.1, "n_steps": 2} | change
    with pytest.raises(error, match=message):
        langevin(measure_of((2, 2), 2, 4.0), **arguments)


def test_depths_that_are_no_integers_have_no_layers():
    measure = measure_of((2, 2), 2.5, 4.0)
    with pytest.raises(ValueError, match=r"needs a depth that is an integer, not 2\.5"):
        langevin(measure, np.eye(2), 0.1, 1, scheme="layers")
    assert np.isfinite(langevin(measure, np.eye(2), 0.01, 3, rng=0).points).all()


@schemes
def test_energies_that_are_not_numbers(how):
    """Told at once, however far a run has come."""
    is_broken = False

    def broken(X):
        return np.full_like(X, np.nan) if is_broken else X

    measure, is_broken = measure_of((2, 2), 2, 4.0, functions=(energy, broken)), True
    with pytest.raises(ValueError, match="nan"):
        langevin(measure, np.eye(2), 0.01, 10, rng=0, **how)
