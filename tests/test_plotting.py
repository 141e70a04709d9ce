"""Figures show the numbers that they are made from."""

import builtins
import itertools

import matplotlib
import numpy as np
import pytest

from dln_manifolds import BalancedManifold, DLNObservableManifold, InvalidPointError, plotting

matplotlib.use("Agg")
from matplotlib.figure import Figure

START = np.array([[2.0, 0.3], [0.0, 0.5]])
END = np.array([[0.2, -1.2], [0.4, 0.1]])


@pytest.fixture
def ax():
    return Figure().subplots()


@pytest.fixture(scope="module")
def geodesic():
    return DLNObservableManifold(2, 3).metric.solve_log(END, START)


def straight(t):
    return START + t[:, None, None] * (END - START)


def xy(line):
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata())


def test_new_axes_are_made_and_returned(geodesic):
    from matplotlib import pyplot

    ax = plotting.plot_geodesic(geodesic)
    assert ax.lines
    assert ax is not plotting.plot_geodesic(geodesic)
    pyplot.close("all")


def test_ellipses_are_images_of_the_unit_circle(ax, geodesic):
    assert plotting.plot_geodesic(geodesic, ax, n_ellipses=3) is ax
    outlines = [line for line in ax.lines if len(line.get_xdata()) > 2]
    centres = ax.get_xticks()
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "0.5", "1"]
    for point, line, centre in zip(geodesic([0, 0.5, 1]), outlines, centres, strict=True):
        x, y = xy(line)
        before = np.linalg.solve(point, np.stack([x - centre, y]))
        np.testing.assert_allclose(np.sum(before**2, axis=0), 1, rtol=1e-12)
    tips = [line for line in ax.lines if len(line.get_xdata()) == 1]
    for point, line, centre in zip(geodesic([0, 0.5, 1]), tips, centres, strict=True):
        np.testing.assert_allclose(np.ravel(xy(line)) - [centre, 0], point[:, 0], atol=1e-12)


def test_neighbours_do_not_overlap(ax, geodesic):
    plotting.plot_geodesic(geodesic, ax, n_ellipses=5)
    outlines = [xy(line)[0] for line in ax.lines if len(line.get_xdata()) > 2]
    for left, right in itertools.pairwise(outlines):
        assert left.max() < right.min()


def test_plane_of_a_wider_matrix(ax):
    X = np.diag([1.0, 2.0, 3.0])
    plotting.plot_geodesic(lambda t: np.tile(X, (len(t), 1, 1)), ax, n_ellipses=2, plane=(0, 2))
    first = next(line for line in ax.lines if len(line.get_xdata()) > 2)
    assert [np.abs(axis).max() for axis in xy(first)] == pytest.approx([1, 3])


def test_layers_are_multiplied(ax):
    space = BalancedManifold(2, 3)
    W = space.factor(START)
    curve = space.metric.geodesic(W, initial_tangent_vec=np.zeros_like(W))
    plotting.plot_singular_values(curve, ax, n_times=2)
    drawn = [line.get_ydata()[0] for line in ax.lines]
    np.testing.assert_allclose(drawn, np.linalg.svd(START, compute_uv=False), rtol=1e-12)


def test_singular_values_and_legend(ax, geodesic):
    plotting.plot_singular_values(geodesic, ax, n_times=5, label="geodesic")
    plotting.plot_singular_values(straight, ax, n_times=5, label="line", style=1)
    values = np.linalg.svd(geodesic(np.linspace(0, 1, 5)), compute_uv=False)
    drawn = np.stack([line.get_ydata() for line in ax.lines[:2]], axis=-1)
    np.testing.assert_allclose(drawn, values, rtol=1e-12)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["geodesic", "line"]
    assert ax.lines[0].get_color() != ax.lines[2].get_color()
    assert ax.lines[0].get_linestyle() != ax.lines[2].get_linestyle()
    assert ax.get_yscale() == "log"


@pytest.mark.parametrize(
    "space", [DLNObservableManifold(2, 3), BalancedManifold(2, 3), DLNObservableManifold(2, 1)]
)
def test_landscape(ax, space):
    assert plotting.plot_entropy_landscape(space, ax, resolution=9) is ax
    assert ax.get_xlim() == ax.get_ylim() == (0.1, 10)


def test_landscape_has_the_values_of_the_entropy(ax):
    space = DLNObservableManifold(2, 3)
    plotting.plot_entropy_landscape(space, ax, resolution=9)
    contours = ax.collections[0]
    values = np.geomspace(0.1, 10, 9)
    entropy = [space.entropy(np.diag([a, b])) for a in values for b in values]
    assert contours.zmin == pytest.approx(min(entropy))
    assert contours.zmax == pytest.approx(max(entropy))


def test_mean_shows_distances_and_principal_directions(ax):
    """All vectors in one plane: then nothing is lost by the projection."""
    space = DLNObservableManifold(3, 2)
    base = np.diag([3.0, 2.0, 1.0])
    first, second = np.zeros((2, 3, 3))
    first[0, 1], second[2, 0] = 0.3, 0.2
    weights = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
    points = space.metric.exp(np.einsum("kd,dij->kij", weights, np.stack([first, second])), base)
    other = space.metric.exp(0.5 * first, base)
    assert plotting.plot_mean(space, points, base, ax, others={"other": other}) is ax
    distances = space.metric.dist(points, base)
    x, y = xy(ax.lines[0])
    np.testing.assert_allclose(np.hypot(x, y), distances, rtol=1e-6)
    np.testing.assert_allclose(np.hypot(*xy(ax.lines[2])), space.metric.dist(other, base))
    squares = np.sort(distances**2)
    share = 100 * squares[2:].sum() / squares.sum()
    assert f"({share:.0f} % of" in ax.get_xlabel()
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["points", "Fréchet mean", f"other, at {space.metric.dist(other, base):.2g}"]


def test_inputs_are_not_changed(ax):
    space = DLNObservableManifold(2, 2)
    points = np.stack([np.eye(2), 2 * np.eye(2), START])
    given = points.copy()
    plotting.plot_mean(space, points, np.eye(2), ax)
    np.testing.assert_array_equal(points, given)


def test_matrices_of_lower_rank_have_as_many_curves_as_their_rank(ax):
    space = DLNObservableManifold(shape=(4, 3), rank=2, depth=2)
    start, end = space.random_point(2)

    def path(t):
        return space.projection((1 - t[:, None, None]) * start + t[:, None, None] * end)

    plotting.plot_singular_values(path, ax, n_times=5)
    assert len(ax.lines) == 2
    expected = np.linalg.svd(path(np.linspace(0, 1, 5)), compute_uv=False)
    for k, line in enumerate(ax.lines):
        np.testing.assert_allclose(xy(line)[1], expected[:, k], rtol=1e-12)
    plotting.plot_geodesic(path, Figure().subplots(), plane=(1, 3))


@pytest.mark.parametrize(
    "space",
    [
        DLNObservableManifold(shape=(4, 3), rank=2, depth=2),
        DLNObservableManifold(widths=(2, 5, 3)),
        DLNObservableManifold(n=2, depth=np.inf),
    ],
    ids=repr,
)
def test_landscapes_of_every_shape_of_rank_two(ax, space):
    plotting.plot_entropy_landscape(space, ax, resolution=11, colorbar=False)
    assert ax.collections


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda ax: plotting.plot_geodesic(straight, ax, n_ellipses=1), ValueError, "at least 2"),
        (lambda ax: plotting.plot_singular_values(straight, ax, n_times=1), ValueError, "least 2"),
        (lambda ax: plotting.plot_geodesic(lambda t: t, ax), InvalidPointError, "single geodesic"),
        (
            lambda ax: plotting.plot_geodesic(lambda t: np.ones((len(t), 1, 1)), ax),
            InvalidPointError,
            "two rows and columns",
        ),
        (
            lambda ax: plotting.plot_entropy_landscape(DLNObservableManifold(3, 2), ax),
            ValueError,
            "rank 2, and this is .*n=3",
        ),
        (
            lambda ax: plotting.plot_entropy_landscape(
                DLNObservableManifold(2, 2), ax, limits=(0, 1)
            ),
            ValueError,
            "limits",
        ),
        (
            lambda ax: plotting.plot_mean(DLNObservableManifold(2, 2), [START, END], START, ax),
            InvalidPointError,
            "three points",
        ),
    ],
)
def test_errors_say_what_is_wrong(ax, call, error, message):
    with pytest.raises(error, match=message):
        call(ax)


def test_a_batch_of_geodesics_is_refused(ax):
    space = DLNObservableManifold(2, 2)
    batch = space.metric.solve_log(np.stack([START, 2 * START]), np.eye(2))
    with pytest.raises(InvalidPointError, match="one by one"):
        plotting.plot_geodesic(batch, ax)


def test_training_run():
    def size(layers):
        return np.sum(layers**2, axis=(1, 2, 3))

    total = BalancedManifold(2, 3)
    layers = total.factor(np.stack([np.diag([1.0 + k, 0.5]) for k in range(4)]))
    axes = plotting.plot_training(layers, size, label="run")
    cost, imbalance, values, entropy = (ax.lines for ax in axes)
    np.testing.assert_array_equal(cost[0].get_xdata(), np.arange(4))
    np.testing.assert_allclose(cost[0].get_ydata(), size(layers))
    assert 0 < imbalance[0].get_ydata().max() < 1e-14
    np.testing.assert_allclose(values[0].get_ydata(), 1.0 + np.arange(4))
    np.testing.assert_allclose(values[1].get_ydata(), 0.5)
    np.testing.assert_allclose(entropy[0].get_ydata(), total.entropy(layers))
    # a second run on the same axes
    plotting.plot_training(layers, lambda W: W[:, 0, 0, 0], axes, label="other", style=1)
    assert len(cost) == 2
    assert {text.get_text() for text in axes[0].get_legend().get_texts()} == {"run", "other"}


def test_message_without_matplotlib(monkeypatch):
    original = builtins.__import__

    def absent(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ImportError, match=r"dln-manifolds\[plot\]"):
        plotting.plot_geodesic(straight)


@pytest.mark.parametrize(
    "limits", [(0.1, 4), (0.1, 10), (0.5, 3), (0.8, 1.3), (1e-4, 1e3)], ids=str
)
def test_numbers_at_the_landscape_can_be_read(limits):
    """They do not overlap, and there are at least two on each axis."""
    figure = Figure(figsize=(3, 3), layout="constrained")
    ax = plotting.plot_entropy_landscape(
        DLNObservableManifold(2, 3), figure.subplots(), limits=limits
    )
    figure.canvas.draw()
    for axis in (ax.xaxis, ax.yaxis):
        labels = [*axis.get_ticklabels(), *axis.get_ticklabels(minor=True)]
        low, high = limits
        seen = [
            label
            for label in labels
            if label.get_text() and low <= max(label.get_position()) <= high
        ]
        assert len(seen) >= 2
        boxes = [label.get_window_extent() for label in seen]
        for one, other in itertools.combinations(boxes, 2):
            assert not one.overlaps(other)


@pytest.mark.parametrize("draw", [plotting.plot_geodesic, plotting.plot_singular_values])
def test_a_matrix_is_no_curve(ax, draw):
    with pytest.raises(TypeError, match=r"draws one curve.*metric.geodesic\(X, end_point=Y\)"):
        draw(START, ax)


def test_layers_of_one_step_are_no_run():
    with pytest.raises(InvalidPointError, match=r"shape \(3, 2, 2\).*every step"):
        plotting.plot_training(np.ones((3, 2, 2)), np.sum)


def test_training_of_unequal_widths():
    total = BalancedManifold(widths=(4, 3, 5))
    layers = total.random_point(6)
    axes = plotting.plot_training(layers, lambda W: W[:, 0], widths=(4, 3, 5))
    drawn = axes[3].lines[0].get_ydata()
    np.testing.assert_allclose(drawn, total.entropy(layers), rtol=1e-12)
    assert len(axes[2].lines) == 3
    assert axes[1].lines[0].get_ydata().max() < 1e-14
    with pytest.raises(InvalidPointError, match=r"\(6, 27\).*Give widths"):
        plotting.plot_training(layers, lambda W: W[:, 0])
    with pytest.raises(InvalidPointError, match=r"\(n_steps, 28\)"):
        plotting.plot_training(layers, lambda W: W[:, 0], widths=(4, 4, 3))
