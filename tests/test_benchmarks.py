"""The benchmarks: every script can be loaded, and their measuring is right on tiny sizes."""

import importlib
import itertools
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dln_manifolds import DLNObservableManifold

FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("bench_*.py"))


@pytest.fixture
def load(monkeypatch):
    """Import scripts as they see each other when they are run, and forget them afterwards."""
    known = set(sys.modules)
    monkeypatch.syspath_prepend(str(FOLDER))
    # They pin threads and choose geomstats' backend: for their own process only.
    monkeypatch.setattr(os, "environ", os.environ.copy())
    yield importlib.import_module
    for name in set(sys.modules) - known:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == FOLDER:
            del sys.modules[name]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_can_be_imported_and_is_described(load, name):
    module = load(name)
    assert callable(module.main)
    assert module.__doc__


@pytest.mark.parametrize("name", SCRIPTS)
def test_readme_names_every_script(name):
    assert f"{name}.py" in (FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SCRIPTS if name != "bench_versions"])
def test_script_runs_in_small(load, tmp_path, name):
    outcome = load("run").run(name.removeprefix("bench_"), tmp_path, quick=True, limit=1200)
    assert outcome.good, outcome.output
    assert outcome.output


def test_one_command_runs_all_and_writes_one_report(load, monkeypatch, tmp_path):
    run = load("run")
    scripts = {
        "growth": "import sys; print('| a | b |'); open(sys.argv[-1], 'w')",
        "broken": "raise ValueError('no data')",
        "endless": "import time; print('begun', flush=True); time.sleep(60)",
        "versions": "raise SystemExit(9)",
        "other": "import sys; print(sys.argv[1:])",
    }
    for name, code in scripts.items():
        (tmp_path / f"bench_{name}.py").write_text(code)
    monkeypatch.setattr(run, "FOLDER", tmp_path)
    into = tmp_path / "report"
    assert run.main(["--quick", "--limit", "3", "--into", str(into)]) == 2
    text = (into / "report.md").read_text()
    for part in (
        "![growth](growth.png)",
        "failed with status 1",
        "ValueError: no data",
        "stopped after 3 s",
        "begun",
        "['--quick']",
        "| processor |",
        "| threads | 1 |",
        f"| numpy | {np.__version__} |",
    ):
        assert part in text
    assert "versions.py" not in text
    assert (into / "growth.png").exists()
    assert run.main(["--only", "other,growth", "--without", "growth", "--into", str(into)]) == 0
    assert "## growth" not in (into / "report.md").read_text()
    with pytest.raises(SystemExit, match="No such benchmarks: none"):
        run.main(["--only", "none"])


def test_feasible_rows_and_page(load, rng, tmp_path):
    feasible = load("bench_feasible")
    rows = [feasible.measured(row) for row in itertools.islice(feasible.geodesics(rng, True), 4)]
    assert {len(row) for row in rows} == {len(feasible.HEADER)}
    assert all(float(row[-1].removeprefix("residual ")) < 1e-10 for row in rows)
    assert feasible.spoken(2e-4) == "200 us"
    assert feasible.spoken(2.5) == "2.5 s"
    template = (FOLDER.parent / "docs" / "feasible.md").read_text(encoding="utf-8")
    page = feasible.MARKED.sub(lambda _: feasible.page(rows), template)
    assert page.count("<!-- measured -->") == page.count("<!-- end -->") == 1
    assert all(f"| {' | '.join(row)} |" in page for row in rows)
    assert feasible.MARKED.sub(lambda _: feasible.page(rows), page) == page


def test_growth_is_fitted(load, rng):
    growth = load("bench_growth")
    assert growth.power(np.array([10, 20, 80.0]), np.array([1, 8, 512.0])) == pytest.approx(3)
    names = {series.by for series in growth.every(rng, True)}
    assert names == {"n", "N", "r", "m + n", "samples", "pairs"}
    series = next(series for series in growth.every(rng, True) if series.by == "m + n")
    assert len(growth.row(series, *growth.measured(series, 1))) == len(growth.HEADER)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_peers_solve_the_same(load, rng, depth):
    """Chen's equations by collocation give the log of the package."""
    peers = load("bench_peers")
    X = np.eye(2) + 0.2 * rng.normal(size=(2, 2))
    Y = X + 0.1 * rng.normal(size=(2, 2))
    metric = DLNObservableManifold(2, depth).metric
    found = peers.collocated(X, Y, depth, 1e-9)
    np.testing.assert_allclose(found, metric.log(Y, X), rtol=1e-7, atol=1e-9)


def test_rows_of_peers(load, rng):
    peers = load("bench_peers")
    table = peers.positive(rng, 2, 4, repeats=1)
    assert {len(row) for row in table} == {len(peers.HEADER)}
    assert all(float(row[-1]) < 1e-8 for row in table)
    assert [row[3] for row in table if row[1] == "ours"] == ["1"] * 3


def test_paired_ratios(load):
    timing = load("_timing")

    def busy(duration):
        end = time.process_time() + duration
        while time.process_time() < end:
            pass

    ratio = timing.interleaved(lambda: busy(0.02), lambda: busy(0.005), repeats=3, at_least=0)
    assert ratio.median == pytest.approx(4, rel=0.3)
    assert ratio.low <= ratio.median <= ratio.high
    assert ratio.per(4, 1).median == pytest.approx(1, rel=0.3)
    assert ratio.cells(at_most=2)[-1] == "<= 2 MISSED"
    assert ratio.cells(at_least=2)[-1] == ">= 2"


def test_gaussian_pairs_share_their_component(load, rng):
    first, last = load("_timing").gaussian_pairs(rng, 50, 3)
    assert np.all(np.linalg.det(first) * np.linalg.det(last) > 0)


def test_layers_and_formula_agree(load, rng):
    X = rng.normal(size=(3, 3))
    point, vector, exact = load("_timing").horizontal_image(rng, X, 3)
    np.testing.assert_allclose(point, X, atol=1e-13)
    literal = load("bench_pointwise").literal_metric(point, vector, vector, 3)
    assert literal == pytest.approx(exact, rel=1e-11)


def test_pointwise_errors_are_rounding(load, rng):
    for row in load("bench_pointwise").small(rng, n_points=3, repeats=1, n_checked=1):
        assert float(row[-1]) < 1e-13


def test_polar_path_of_a_rotation(load):
    # N = 1, X = I, Y a rotation by an angle: the path turns at the constant speed sqrt(2) angle.
    turn = np.array([[np.cos(1.0), -np.sin(1.0)], [np.sin(1.0), np.cos(1.0)]])
    length = load("bench_success").polar_length(np.eye(2), turn, 1.0)
    assert length == pytest.approx(np.sqrt(2), rel=1e-13)


def test_success_row(load, rng):
    row = load("bench_success").success_row(rng, n=2, depth=3, n_pairs=2)
    assert row[2] == "2 of 2"
    assert row[8] == "2 of 2"


@pytest.mark.parametrize("case", [(3, 3, 3), (4, 3, 2), (3, 4, 3)])
def test_sweep_of_observables(load, rng, case):
    observables = load("bench_observables")
    tally = observables.Tally()
    row = observables.sweep_row(rng, case, 3, 2, tally)
    assert len(row) == len(observables.HEADER)
    assert (tally.pairs, tally.solved, tally.kept) == (2, 2, 2)
    assert tally.worst <= 1e-10


def test_growth_and_depths_of_observables(load, rng):
    observables = load("bench_observables")
    row = observables.growth_row(rng, 12, 11, 2, repeats=1)
    assert len(row) == len(observables.GROWTH_HEADER)
    pairs = load("_timing").gaussian_pairs(rng, 2, 2)
    rows = observables.depth_rows(*pairs, n_single=1, repeats=1)
    assert {len(row) for row in rows} == {len(observables.DEPTHS_HEADER)}


def test_variations_of_observables(load, rng):
    observables = load("bench_observables")
    row = observables.variations_row(rng, 2, 3, repeats=1)
    assert len(row) == len(observables.VARIATIONS_HEADER)
    assert float(row[-1]) < 1e-11


def test_layers_rows(load):
    layers = load("bench_layers")
    row = layers.sweep_row((4, 3, 5), 2, 2)
    assert len(row) == len(layers.HEADER)
    assert row[2] == row[4] == row[7] == "2 of 2"
    assert len(layers.growth_row(5, 2, repeats=1)) == len(layers.GROWTH_HEADER)


def test_lowrank_rows(load, rng):
    lowrank = load("bench_lowrank")
    row = lowrank.growth_row(rng, 60, 30, k=2, rank=2, repeats=1)
    assert len(row) == len(lowrank.GROWTH_HEADER)
    assert float(row[-1]) < 1e-13
    sizes = {"size": 50, "rank": 2, "n_pairs": 1, "repeats": 1}
    row = lowrank.log_row(rng, lowrank.gaussian_factors, "Gaussian", depth=3, **sizes)
    assert len(row) == len(lowrank.LOG_HEADER)
    assert max(map(float, row[-2:])) < 1e-10
    for dense in (True, False):
        row = lowrank.mean_row(rng, 25, 2, 2, 1, dense)
        assert len(row) == len(lowrank.MEAN_HEADER)
        assert row[2] == "20 x 20"
        assert not dense or float(row[-1]) < 1e-8


def test_curvature_rows(load, rng):
    curvature = load("bench_curvature")
    for n, batch in ((5, ()), (2, (4,))):
        row = curvature.sectional_row(rng, n, batch, 3, 1e9, repeats=1)
        assert len(row) == len(curvature.HEADER)
        assert float(row[-1]) < 1e-12
    row = curvature.growth_row(rng, 3, (2, 4), repeats=1)
    assert len(row) == len(curvature.GROWTH_HEADER)


def test_two_checkouts_in_turns(load):
    versions = load("bench_versions")
    row = next(row for row in versions.rows(full=False) if row.name == "exp layers n=3 N=2")
    workers = versions.Worker(FOLDER.parent), versions.Worker(FOLDER.parent)
    measured = versions.measure(workers, row, budget=0.0)
    for worker in workers:
        worker.close()
    assert len(measured.pairs) == versions.FEWEST
    assert measured.apart == 0
    assert measured.answers[0]["accuracy"] < 1e-12
    assert len(measured.cells(row.name)) == len(versions.HEADER)


def test_versions_compare_results(load):
    versions = load("bench_versions")
    answers = ({"sample": [1.0, 2.0, np.nan]}, {"sample": [1.0, 2.5, np.nan]})
    measured = versions.Measured([(1.0, 1.2), (1.0, 1.0), (2.0, 2.2)], answers)
    assert measured.apart == 0.25
    assert measured.ratio == pytest.approx(1.1)


def test_rows_have_names_of_their_own(load):
    names = [row.name for row in load("bench_versions").rows(full=False)]
    assert len(set(names)) == len(names)


def test_generic_metric_is_ours(load, rng):
    # With geomstats' numpy backend here: its matrix can be formed, though not differentiated.
    X = rng.normal(size=(3, 3))
    generic = load("bench_generic").generic_metric(3, 4, tolerance=1e-6)
    ours = DLNObservableManifold(3, 4).metric.metric_matrix(X)
    np.testing.assert_allclose(generic.metric_matrix(X.ravel()), ours, rtol=1e-9, atol=1e-12)
