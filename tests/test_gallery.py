"""The pages of the gallery run, and the numbers at their ends are what their texts say."""

import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from scipy.stats import spearmanr

from dln_manifolds import DLNObservableManifold

EXAMPLES = Path(__file__).parents[1] / "examples"
CELL = re.compile(r"(?:\A|^# %%$).*?(?=^# %%$|\Z)", flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def run(monkeypatch):
    """Run a page; return its variables. ``plt.show`` must leave figures that can be drawn."""
    matplotlib.use("Agg", force=True)
    # Other tests of this process may have left figures open.
    pyplot.close("all")
    drawn = []

    def show():
        for number in pyplot.get_fignums():
            figure = pyplot.figure(number)
            assert all(ax.has_data() for ax in figure.axes), "an empty panel"
            figure.draw_without_rendering()
            drawn.append(number)
        pyplot.close("all")

    def run_page(name, n_figures):
        """Cell by cell, as the gallery does: it keeps the figures of a cell and closes them."""
        monkeypatch.setattr(pyplot, "show", show)
        path = EXAMPLES / f"plot_{name}.py"
        variables = {"__name__": "__main__", "__file__": str(path)}
        text = path.read_text(encoding="utf-8")
        for cell in CELL.finditer(text):
            before = "\n" * text.count("\n", 0, cell.start())
            exec(compile(before + cell[0], path, "exec"), variables)
            assert not pyplot.get_fignums(), "a cell that draws must end with plt.show()"
        assert len(drawn) == n_figures
        return variables

    yield run_page
    pyplot.close("all")


def test_geodesics(run):
    page = run("geodesics_2x2", 2)
    geodesic, X, Y = page["geodesic"], page["X"], page["Y"]
    assert geodesic.residual < 1e-11
    assert geodesic.lower_bound < geodesic.length
    assert page["spread"] < 1e-6
    np.testing.assert_allclose(geodesic(1.0), Y, atol=1e-11)
    # Twice singular, and in between turned inside out.
    assert np.linalg.det(X) > 0 < np.linalg.det(Y)
    signs = np.sign(np.linalg.det(page["straight"](page["times"])))
    assert np.count_nonzero(np.diff(signs)) == 2
    assert page["smallest"]["geodesic"] > 0.99 * np.linalg.svd(Y, compute_uv=False)[1]


def test_entropy(run):
    page = run("entropy", 2)
    assert page["measured"] == pytest.approx(page["volume"], rel=1e-6)
    # two circles, of length 2 pi |W_p turned|
    assert page["volume"] == pytest.approx(4 * np.pi * np.sqrt(2) * np.sqrt(3.5), rel=1e-12)
    for depth in page["ends"]:
        limit = 0.5 * np.log(depth) + (0.5 - 0.5 / depth) * np.log(0.5)
        even = DLNObservableManifold(2, depth).entropy(page["even"])
        near = DLNObservableManifold(2, depth).entropy(np.diag([1.0, 1e-14]))
        tail = 1e-14 ** (2 / depth)  # how slowly the limit is reached
        assert even - near == pytest.approx(limit + 0.5 * np.log1p(-tail), abs=1e-12)


def test_fibres(run):
    report = run("fibres", 2)["report"]
    assert max(report[name] for name in ("end-to-end", "orthonormal", "vertical moves X")) < 1e-13
    assert report["measured"] == pytest.approx(report["volume"], rel=2e-3)


def test_means(run):
    page = run("means", 1)
    assert page["gradient"] < 1e-11
    variances = page["variances"]
    assert variances["Fréchet mean"] < variances["Euclidean mean"]
    assert np.linalg.det(page["euclidean"]) < 0.3 * np.linalg.det(page["frechet"])
    assert np.linalg.det(page["frechet"]) < page["typical"]
    smallest = np.linalg.svd(page["points"], compute_uv=False)[:, 1].min()
    assert np.linalg.svd(page["euclidean"], compute_uv=False)[1] < smallest


def test_rank(run):
    page = run("rank", 3)
    assert page["segments"].residual < 1e-11 > page["flat"].residual
    for depth, closed in page["closed"].items():
        assert page["limits"][1, depth] == pytest.approx(closed, rel=1e-12)
    for key, order in page["orders"].items():
        assert order == pytest.approx(2, abs=0.05)
        assert abs(page["extrapolated"][key]) < 1e-5
    for eps, least in page["smallest"].items():
        assert least == pytest.approx(eps, rel=1e-6)
    assert 0.03 < page["saved"] < 0.1


def test_depth(run):
    page = run("depth", 2)
    plain, mean = page["ratios"].values()
    assert plain == pytest.approx(2, abs=0.01)
    assert mean == pytest.approx(4, abs=0.01)
    bends = [np.abs(page["off_line"][depth]).max() for depth in (1, 2, 8, np.inf)]
    assert bends == sorted(bends, reverse=True)
    assert bends[2] > 0.01 > 1e-12 > bends[3]
    for distance in page["moved"].values():
        assert distance == pytest.approx(page["limit"], rel=1e-12)
    assert all(solution.success.all() for solution in page["solutions"].values())
    counts = page["counts"]
    assert max(counts[depth] for depth in counts if depth > 10) < 1.1 * counts[10]


def test_temperature(run):
    page = run("temperature", 2)
    assert max(page["residuals"]) < 1e-9
    assert page["balance"] < 1e-8
    assert page["slope"] == pytest.approx(page["temperatures"][page["k"]], rel=0.05)
    # Small singular values rise most, large ones hardly.
    rise = page["spectra"][page["k"]] / page["wanted"]
    assert (np.diff(rise) > 0).all()
    assert (np.diff(page["entropies"]) > 0).all()
    assert (np.diff(page["energies"]) > 0).all()


def test_mixed_signs(run):
    page = run("mixed_signs", 2)
    table, averages = page["table"], page["averages"]
    assert 5 < np.sum(page["signs"] > 0) < len(table) - 5
    assert np.isfinite(table).all()
    # The other task is farther than the other sign, and clusters are tasks.
    assert averages["one task", "one sign"] < averages["one task", "two signs"]
    assert averages["one task", "two signs"] < 0.7 * averages["two tasks", "one sign"]
    assert page["purity"] > 0.9
    assert page["shown"] > 0.5
    path = page["path"]
    assert path.success.all()
    assert ((path.crossing_time > 0) & (path.crossing_time < 1)).all()
    assert page["smallest"].min() < 1e-3 * page["smallest"].max()


def test_adapters(run):
    page = run("adapters", 2)
    wins, n_splits = page["wins"], page["n_splits"]
    for kind, columns in page["results"].items():
        assert wins[kind, "factors"] == n_splits
        assert 0 < wins[kind, "truncated"] < n_splits
        assert wins[kind, "Euclidean"] == 0
        medians = {name: np.median(values) for name, values in columns.items()}
        assert medians["all images"] < medians["Fréchet"] < medians["factors"] < 1
        assert medians["Fréchet"] == pytest.approx(medians["truncated"], rel=0.03)
        alone = medians["single"]
        assert alone > 1 if kind == "one digit each" else alone < medians["factors"]
    # What depends on factors, and what does not.
    for changes in (page["spreads"], page["returned"]):
        assert changes.pop("factors") > 0.3
        assert max(changes.values()) < 1e-9


def test_any_network(run):
    page = run("any_network", 2)
    runs, loss = page["runs"], page["loss"]
    balanced, free = runs["balanced"], runs["free"]
    # The same least squares map, of the normal equations.
    gram = loss.euclidean_hessian(np.zeros((10, 64)), np.eye(64))
    fit = -np.linalg.solve(gram, loss.euclidean_gradient(np.zeros((10, 64))).T).T
    for name, run_ in runs.items():
        assert run_.gradient <= 1e-5
        assert run_.loss[-1] == pytest.approx(loss(fit), abs=1e-10)
        assert page["accuracy"](page["ends"][name]) == page["accuracy"](fit)
        assert run_.path.shape[1:] == (32 * 64 + 10 * 32,)
    assert 0.5 * len(free.path) < len(balanced.path) < 1.5 * len(free.path)
    assert page["imbalance"]["balanced"].max() <= 1e-13
    assert page["imbalance"]["free"].max() >= 0.1
    # 22 hidden units more than the rank: (22 / 2) sum log s, and a constant.
    wide, narrow = page["entropies"]["free"]
    values = np.linalg.svd(page["total"].end_to_end(free.path), compute_uv=False)
    counted = 11 * np.log(values).sum(axis=-1)
    np.testing.assert_allclose(np.diff(wide - narrow), np.diff(counted), atol=1e-8)
    assert page["alike"].max() < page["unlike"].min()
    assert page["gradient"] <= 1e-4
    assert page["shapes"] == [(32, 64), (10, 32)]
    # Distances that the plane can hold are not longer there.
    flat = np.linalg.norm(page["places"][:, None] - page["places"], axis=-1)
    assert (flat <= page["every"] + 1e-9).all()
    assert flat[:4, 4:8].min() > flat[:4, :4].max()
    frechet, plain = page["means"].values()
    assert abs(frechet - plain) <= 0.01
    assert page["scores"][:4].min() > frechet > page["scores"][4:].max()


def test_curvature(run):
    page = run("curvature", 2)
    for depth, values in page["curvatures"].items():
        unit = depth if np.isfinite(depth) else 1.0
        bound = (depth**2 - 1) / (3 * depth) if np.isfinite(depth) else 1 / 3
        # Diagonal and stretch, diagonal and turn, stretch and turn, at equal singular values.
        np.testing.assert_allclose(values[:, -1], [3 * bound, -bound, -bound], rtol=1e-12)
        # One small singular value is no singularity, but for N < 2.
        assert (np.abs(values[:, 0]).max() < unit) == (depth >= 2)
        if depth >= 2:
            assert values.min() >= -bound * (1 + 1e-12)
            assert values.max() <= 3 * bound * (1 + 1e-12)
    assert page["report"].keys() == {2, 3, 8, np.inf}
    for row in page["report"].values():
        assert 0.2 < row["negative"] < 0.5
        assert 0.4 < row["least"] <= 1
        assert 0.4 < row["largest"] <= 1


def test_lemma_2_2(run):
    page = run("lemma_2_2", 1)
    lemma = page["lemma"]
    assert lemma.pop("nothing in common")["imbalance"] > 0.1
    for name, row in lemma.items():
        assert row["imbalance"] < 1e-14
        assert row["identity"] < 1e-14
        assert row["vertical"] > 0.1
        assert name == "alternating" or row["singular"] == np.inf
    for depth, reading in page["readings"].items():
        line = reading["line"]
        assert line.balanced.all()
        # Horizontal where the matrices commute, at both ends of the angles, and nowhere else.
        assert line.vertical_defect[[0, -1]].max() < 1e-12 < 0.01 < line.vertical_defect[1:-1].min()
        assert reading["excess"][:-1].min() > 1e-4
        aligned = page["aligned"][depth]
        assert aligned.vertical_defect.max() < 1e-7
        assert (aligned.balance_defect.max() < 1e-12) == (depth == 2)
    gap = page["gap"]
    assert gap[2] < 1e-11 < 1e-3 < min(gap[3], gap[4])


def test_conjugate_points(run):
    page = run("conjugate_points", 3)
    for measured, closed in page["circumferences"].values():
        assert measured == pytest.approx(closed, rel=1e-10)
    first = {depth: times.min() for depth, times in page["conjugate"].items()}
    assert first.pop(2) == np.inf
    # Sooner at larger depths, and later at larger angles.
    assert list(first.values()) == sorted(first.values(), reverse=True)
    assert first[np.inf] > np.pi * np.sqrt(2)
    for times in page["conjugate"].values():
        seen = times[np.isfinite(times)]
        assert (np.diff(seen) > 0).all()
        assert np.isfinite(times[: seen.size]).all()


def test_noise_and_training(run):
    page = run("noise_and_training", 2)
    # Loss, gap, and how often s_2 < 0.05: of the Langevin equation and of free layers.
    for beta, ((mean, error), (free, free_error)) in page["table"].items():
        away = np.abs(mean - free) / np.hypot(error, free_error)
        assert away[:2].max() < 4
        assert away[2] < 4 if beta == 64 else away[2] > 5
        assert beta == 64 or free[2] < mean[2]
    assert page["imbalance"] > 0.5
    np.testing.assert_allclose(page["measured"] / page["predicted"], 1, atol=0.12)
    np.testing.assert_allclose(page["equal"] / page["predicted"][0, 0], 1, atol=0.15)
    assert page["predicted"][0, 0] > 4 * page["predicted"][1, 1]


def test_depth_melts_rank(run):
    page = run("depth_melts_rank", 1)
    known = {1: 0.010, 2: 0.049, 3: 0.097, 5: 0.193, 10: 0.399, 30: 0.767}
    assert page["exact"] == pytest.approx(known, abs=6e-4)
    for depth, (share, error) in page["sampled"].items():
        assert abs(share - known[depth]) < 4 * error
    # Melted where it is deep and hot.
    assert (np.diff(page["picture"], axis=1) > -1e-9).all()
    assert (np.diff(page["picture"], axis=0) < 1e-9).all()


def test_noisy_training(run):
    page = run("noisy_training", 2)
    for temperature, (energy, _) in page["ends"].items():
        assert energy == pytest.approx(2 * temperature, rel=0.15)
        assert not page["runs"][temperature].blow_ups.any()
    first, *_, last = page["least"].values()
    np.testing.assert_allclose(first, page["wanted"], atol=0.05)
    assert last[1] > first[1]


def test_clock(run):
    page = run("clock", 1)
    names, ratios, part = (
        page["names"],
        dict(zip(page["names"], page["ratios"], strict=True)),
        page["part"],
    )
    assert len(page["time"]) >= 200
    assert np.all(ratios["DLN"] <= 1)
    assert all(np.any(ratios[name] > 1) for name in names[1:3])
    medians = [np.median(ratios["DLN"][part == k]) for k in range(3)]
    np.testing.assert_allclose(medians, [0.90, 0.956, 0.54], atol=0.05)
    plateau = part == 0
    correlation = {
        name: spearmanr(bound[plateau], page["time"][plateau])[0]
        for name, bound in zip(names, page["bounds"], strict=True)
    }
    assert correlation["DLN"] > 0.97
    assert max(correlation[name] for name in names[1:]) < 0.9
    assert page["right"] == len(page["deep"])


def test_merging(run):
    page = run("merging", 2)
    losses = dict(zip(page["ways"], page["losses"], strict=True))
    assert losses["Euclidean mean"] < losses["Fréchet mean"] < losses["Euclidean mean"] + 0.03
    assert losses["Fréchet mean"] < losses["one network"] < losses["raw weights"]
    assert losses["aligned weights"] == pytest.approx(losses["Fréchet mean"], abs=5e-3)
    *_, aligned, frechet = page["kept"]
    np.testing.assert_allclose(aligned, frechet, atol=0.02 * np.linalg.norm(frechet))
    sizes = dict(zip(page["edits"], page["sizes"], strict=True))
    # A chord is no longer than its arc, and the nearest factorization is nearest.
    assert sizes["aligned layers"] <= sizes["geodesic"] + 1e-9 <= 1
    assert sizes["last layer only"] > 5
    for path, ends in (
        (paths[0], (page["X"][1], page["X"][0])) for paths in page["curves"].values()
    ):
        np.testing.assert_allclose(path[[0, -1]], ends, atol=1e-9)
    crossing, swelling = page["crossing"], page["swelling"]
    ranks, half_way = page["ranks"], page["half_way"]
    for name in ("geodesic", "log-Euclidean", "Bures-Wasserstein"):
        assert crossing[name] == 0
    assert crossing["straight line"] > 0.5
    assert swelling["log-Euclidean"] == 0  # log |det| is linear there
    assert swelling["geodesic"] <= 0.3 < 0.6 < swelling["Bures-Wasserstein"]
    assert abs(ranks["geodesic"]) < 0.15 < ranks["straight line"]
    # What a geodesic loses, and against whom it wins.
    assert half_way["straight line"] < half_way["geodesic"] < half_way["log-Euclidean"]
    assert half_way["geodesic"] < half_way["Bures-Wasserstein"] < half_way["raw layers"]


def test_every_page_has_a_test():
    """Of this file, or of one that names the script."""
    here = Path(__file__)
    others = [p for p in here.parent.rglob("test_*.py") if p != here]
    text = "".join(path.read_text(encoding="utf-8") for path in others)
    for page in EXAMPLES.glob("plot_*.py"):
        name = page.stem.removeprefix("plot_")
        assert f'run("{name}"' in here.read_text(encoding="utf-8") or page.stem in text, page.name
