"""Figures of geodesics, entropies and means, on matplotlib axes.

matplotlib is imported when something is drawn, not before; ``pip install 'dln-manifolds[plot]'``
brings it. Every function draws on an ``Axes``, ``ax``, a new one if none is given, and returns it.
Where there is a ``label``, it names the curve in the legend. Called again with the same axes, to
compare, a function takes the next ``style`` 0, 1, 2, ... of colour and dashes. Colours are those of
Okabe and Ito, *Color universal design* (2008), and of the map *cividis*: all can be told apart by
colour-blind readers, and dashes survive a black-and-white printer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from dln_manifolds.checks import as_array, as_matrices
from dln_manifolds.errors import InvalidPointError
from dln_manifolds.geodesics import GeodesicSolution, LayerSystem
from dln_manifolds.geometry import rank
from dln_manifolds.geometry.balancing import end_to_end, relative_imbalance
from dln_manifolds.geometry.chain import chain_of
from dln_manifolds.geometry.entropy import entropy as entropy_of
from dln_manifolds.geometry.layer_stratum import LayerStratum
from dln_manifolds.numerics.arguments import function, times_of, whole, whole_sizes
from dln_manifolds.numerics.arrays import Array, ArrayLike

if TYPE_CHECKING:
    from geomstats.geometry.manifold import Manifold
    from matplotlib.axes import Axes

    from dln_manifolds.manifolds.balanced import BalancedManifold
    from dln_manifolds.manifolds.observable import DLNObservableManifold

Curve = Callable[[Array], Array]
Drawing = TypeVar("Drawing", bound=Callable[..., "Axes"])

__all__ = [
    "plot_entropy_landscape",
    "plot_geodesic",
    "plot_mean",
    "plot_singular_values",
    "plot_training",
]

# In an order of falling contrast on white paper.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("D", "s", "^", "v", "P", "X")
COLOR_MAP = "cividis"
_GREY = "#6e6e6e"
_ANGLE = np.linspace(0, 2 * np.pi, 181)
_CIRCLE = np.stack([np.cos(_ANGLE), np.sin(_ANGLE)])


def _pyplot() -> ModuleType:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            "Plots need matplotlib, which is not installed: pip install 'dln-manifolds[plot]'."
        ) from error
    return pyplot


def _axes(ax: Axes | None) -> Axes:
    if ax is None:
        return _pyplot().subplots(layout="constrained")[1]
    if not hasattr(ax, "plot"):
        raise TypeError(f"ax must be axes of matplotlib, not {ax!r}.")
    return ax


def _of_one_curve(draw: Drawing) -> Drawing:
    """Let a function of a curve say what it needs where it is given points."""

    @wraps(draw)
    def checked(geodesic: Curve, ax: Axes | None = None, *more: object, **options: Any) -> Axes:
        if more or not callable(geodesic):
            raise TypeError(
                f"{draw.__name__} draws one curve, a function of time, on axes: between points X "
                f"and Y give space.metric.geodesic(X, end_point=Y)."
            )
        return draw(geodesic, ax, **options)

    return checked  # type: ignore[return-value]


def _look(style: int) -> dict[str, object]:
    whole("style", style, least=0)
    return {"color": COLORS[style % len(COLORS)], "linestyle": DASHES[style % len(DASHES)]}


def _points(geodesic: Curve, number: int, name: str) -> tuple[Array, Array]:
    """Return times and end-to-end matrices of one geodesic, shape (n_times, m, n)."""
    times = np.linspace(0, 1, whole(name, number, least=2))
    points = np.asarray(geodesic(times), dtype=np.float64)
    batched = isinstance(geodesic, GeodesicSolution) and geodesic.length.ndim > 0
    if isinstance(geodesic, GeodesicSolution) and not batched:
        system = geodesic.system
        if isinstance(system, LayerSystem):
            return times, end_to_end(points, system.chain)
    if batched or points.ndim not in (3, 4) or len(points) != number:
        raise InvalidPointError(
            f"A single geodesic can be drawn, and this one gives points of shape {points.shape} at "
            f"{number} times. Draw the members of a batch one by one, and layers of unequal widths "
            f"as lambda t: total.end_to_end(path(t))."
        )
    return times, end_to_end(points) if points.ndim == 4 else points


@_of_one_curve
def plot_geodesic(
    geodesic: Curve,
    ax: Axes | None = None,
    *,
    n_ellipses: int = 9,
    plane: tuple[int, int] = (0, 1),
    color: str | None = None,
) -> Axes:
    r"""Draw the images of the unit ball under the matrices X(t) of a geodesic, side by side.

    The image of the unit ball under X, seen in a plane of two coordinates, is the ellipse
    ``{E X u : |u| <= 1}`` with E two rows of the identity. A dot marks the image of the first unit
    vector, which tells X from X Q. For geodesics see Chen, arXiv 2510.07324.

    With times t of shape ``(n_t,)``, ``geodesic(t)`` is points, shape ``(n_t, m, n)``, or layers,
    ``(n_t, N, n, n)``: a `GeodesicSolution`, what ``metric.geodesic`` returns, or any curve. Times
    are evenly spaced from 0 to 1, ``n_ellipses`` of them, at least 2, and read off the horizontal
    axis. The two coordinates in ``plane`` are shown, if m > 2; m and n are at least 2. The colour
    says the time unless one ``color`` for all is given. Scales are equal.
    """
    shown = [whole(f"plane[{k}]", axis, least=0) for k, axis in enumerate(plane)]
    times, points = _points(geodesic, n_ellipses, "n_ellipses")
    ax = _axes(ax)
    from matplotlib import colormaps

    if min(points.shape[1:]) < 2:
        raise InvalidPointError(
            f"Ellipses need at least two rows and columns; these matrices are {points.shape[1:]}."
        )
    rows = points[:, shown, :]
    left, values, _ = np.linalg.svd(rows, full_matrices=False)
    outlines = (left * values[:, None, :]) @ _CIRCLE
    # Neighbours touch at most, so that every ellipse can be read.
    spacing = 2.15 * float(np.abs(outlines[:, 0]).max())
    # The bright end of the map is too faint for lines on white.
    colors = colormaps[COLOR_MAP](0.85 * times) if color is None else [color] * n_ellipses
    for k, outline in enumerate(outlines):
        centre = k * spacing
        ax.fill(centre + outline[0], outline[1], color=colors[k], alpha=0.25, linewidth=0)
        ax.plot(centre + outline[0], outline[1], color=colors[k], linewidth=1.5)
        tip = centre + rows[k, 0, 0], rows[k, 1, 0]
        ax.plot([centre, tip[0]], [0, tip[1]], color=colors[k], linewidth=1)
        ax.plot(*tip, "o", color=colors[k], markersize=4)
    ax.set(aspect="equal", xlabel="time t")
    ax.set_xticks(spacing * np.arange(n_ellipses), [f"{t:.3g}" for t in times])
    ax.locator_params(axis="y", nbins=3)
    return ax


@_of_one_curve
def plot_singular_values(
    geodesic: Curve,
    ax: Axes | None = None,
    *,
    n_times: int = 101,
    label: str | None = None,
    style: int = 0,
) -> Axes:
    r"""Draw the singular values of X(t) along a geodesic, on a logarithmic axis.

    Where singular vectors agree, ``s_i(t)^(1/N)`` is linear in t: Chen, arXiv 2510.07324. Those
    that are zero in double precision all the way, of matrices of lower rank, are left out. The
    ``geodesic`` is one as for `plot_geodesic`, the product of layers is taken, and ``n_times``, at
    least 2, is the number of times, evenly spaced from 0 to 1.
    """
    times, points = _points(geodesic, n_times, "n_times")
    look, ax = _look(style), _axes(ax)
    values = np.linalg.svd(points, compute_uv=False)
    zero = values <= rank.resolution(max(points.shape[1:]), values.dtype) * values[:, :1]
    lines = ax.semilogy(times, values[:, ~zero.all(axis=0)], **look)
    if label is not None:
        lines[0].set_label(label)
        ax.legend()
    ax.set(xlabel="time t", ylabel="singular values of X(t)", xlim=(0, 1))
    return ax


def plot_training(
    layers: Array,
    cost: Callable[[Array], Array],
    axes: Array | None = None,
    *,
    label: str | None = None,
    style: int = 0,
    widths: tuple[int, ...] | None = None,
) -> Array:
    """Draw loss, imbalance, singular values and entropy along a training run.

    The imbalance says how far the layers are from ``W_{p+1}^T W_{p+1} = W_p W_p^T`` (Chen, arXiv
    2510.07324, equation (1.4)); the entropy is that of Menon and Yu, arXiv 2509.09088.

    Takes ``layers`` after every step, ``shape=[n_steps, N, n, n]``, as `PointRecorder` notes them,
    and a ``cost`` of such, of shape ``(n_steps,)``. Of unequal ``widths`` ``d_0, ..., d_N``, which
    then are needed, ``shape=[n_steps, sum_p d_p d_{p-1}]``. Draws on four ``axes``, those of a new
    figure if none are given, and returns them.
    """
    layers = as_array(layers, "layers")
    function("cost", cost, "layers")
    wanted = "(n_steps, N, n, n)"
    if widths is None and layers.ndim == 4:
        widths = (layers.shape[-1],) * (layers.shape[-3] + 1)
    elif widths is not None:
        widths = whole_sizes("widths", widths, 2)
        wanted = f"(n_steps, {', '.join(map(str, chain_of(widths).array_shape))})"
    chain = None if widths is None else chain_of(tuple(widths))
    if chain is None or layers.shape[1:] != chain.array_shape:
        raise InvalidPointError(
            f"layers has shape {layers.shape}; those of every step, {wanted}, are needed. Give "
            f"widths of layers of unequal ones."
        )
    if axes is None:
        axes = _pyplot().subplots(2, 2, figsize=(10, 7), layout="constrained")[1]
    axes = np.array([_axes(ax) for ax in np.asarray(axes).ravel()])
    if len(axes) != 4:
        raise ValueError(f"Four axes are needed, not {len(axes)}.")
    values = np.linalg.svd(end_to_end(layers, chain), compute_uv=False)[:, : min(chain.widths)]
    # Exact zeros stay on the logarithmic axis.
    imbalances = np.maximum(relative_imbalance(layers, chain), 0.1 * np.finfo(float).eps)
    steps, look = np.arange(len(layers)), _look(style)
    axes[0].plot(steps, cost(layers), label=label, **look)
    axes[1].semilogy(steps, imbalances, **look)
    axes[2].semilogy(steps, values, linewidth=1.0, **look)
    axes[3].plot(steps, entropy_of(values, chain.count, chain.widths[1:-1]), **look)
    names = "cost", "relative imbalance", "singular values of X", "entropy"
    for ax, name in zip(axes, names, strict=True):
        ax.set(xlabel="iteration", title=name)
    if label is not None:
        axes[0].legend()
    return axes


def plot_entropy_landscape(
    space: DLNObservableManifold | BalancedManifold,
    ax: Axes | None = None,
    *,
    limits: tuple[float, float] = (0.1, 10.0),
    resolution: int = 121,
    levels: int = 12,
    colorbar: bool = True,
) -> Axes:
    r"""Draw the entropy S of matrices of rank 2 over the plane of their singular values.

    ``S = (N-1) log c_2 + (1/2) log((s_1^2 - s_2^2) / (s_1^(2/N) - s_2^(2/N)))``, of wider hidden
    layers with more terms, depends on the singular values alone (Menon and Yu, arXiv 2509.09088).
    It is symmetric in them and smooth across the diagonal, where they agree.

    The ``space`` has rank 2. The logarithmic axes reach from the smallest to the largest
    singular value in ``limits``, both positive; the grid has ``resolution`` points along each, at
    least 2. There are about as many contour lines as ``levels``, explained by a ``colorbar`` beside
    the axes or else by numbers on the lines.
    """
    if getattr(space, "rank", None) != 2:
        raise ValueError(f"The landscape is a plane for rank 2, and this is {space!r}.")
    ends = times_of(limits, "limits")
    if ends.shape != (2,) or not 0 < ends[0] < ends[1]:
        raise ValueError(f"limits must satisfy 0 < low < high, not {limits}.")
    (low, high), levels = ends, whole("levels", levels)
    resolution = whole("resolution", resolution, least=2)
    ax = _axes(ax)
    values = np.geomspace(low, high, resolution)
    matrices = np.zeros((resolution, resolution, *space.stratum.shape))
    matrices[..., 0, 0], matrices[..., 1, 1] = values, values[:, None]
    layered = isinstance(space.stratum, LayerStratum)
    entropy = np.asarray(space.entropy(space.factor(matrices) if layered else matrices))
    if np.ptp(entropy) < 1e-12:  # depth 1: fibres are points
        ax.pcolormesh(values, values, entropy, cmap=COLOR_MAP, shading="nearest")
    else:
        filled = ax.contourf(values, values, entropy, levels, cmap=COLOR_MAP)
        lines = ax.contour(values, values, entropy, levels, colors="white", linewidths=0.5)
        if colorbar:
            # An inset is as high as the axes, which their aspect may have made smaller.
            beside = ax.inset_axes((1.04, 0, 0.05, 1))
            ax.figure.colorbar(filled, cax=beside, label="entropy S")
        else:
            ax.clabel(lines, fontsize="x-small", fmt="%.3g")
    ax.plot(values, values, ":", color="white", linewidth=1)
    ax.set(xscale="log", yscale="log", aspect="equal", xlim=limits, ylim=limits)
    ax.set(xlabel="singular value $s_1$", ylabel="singular value $s_2$")
    _plain_ticks(ax, np.log10(high / low))
    return ax


def _plain_ticks(ax: Axes, decades: float) -> None:
    """Label logarithmic axes with plain numbers, few enough to be read."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    steps = (1.0, 3.0) if decades > 1 else (1.0, 2.0, 5.0)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_formatter(NullFormatter())
        if decades < 2.5:  # else the powers of ten are enough
            axis.set_major_locator(MaxNLocator(4) if decades < 0.7 else LogLocator(subs=steps))
            axis.set_major_formatter("{x:g}")


def plot_mean(
    space: Manifold,
    points: ArrayLike,
    mean: ArrayLike,
    ax: Axes | None = None,
    *,
    others: Mapping[str, ArrayLike] | None = None,
    label: str = "Fréchet mean",
) -> Axes:
    r"""Draw points around their mean, in the plane in which they vary most.

    Principal geodesic analysis (Fletcher, Lu, Pizer and Joshi 2004), orthonormal in the metric at
    the mean: the coordinates of ``v = log_mean(x_k)`` are ``c_i = <v, e_i>``, i = 1 and 2, with
    ``e_1, e_2`` the first two eigenvectors of the covariance. A point in this plane is as far from
    the centre as from the mean, along the geodesic; others look nearer than they are, so the legend
    says how far the further points really are. Scales are equal, in units of the distance.

    The ``space`` is one of geomstats, equipped. At least three ``points`` are needed, shape
    ``(n_points, *point_shape)``. The tangent space at the ``mean`` is drawn; ``label`` names it.
    Further points to mark are in ``others``, as ``{"Euclidean mean": points.mean(axis=0)}``.
    """
    if not hasattr(space, "metric"):
        raise TypeError(f"space must be one of geomstats with a metric, not {space!r}.")
    points = as_matrices(points, space.shape, "points")[0]
    if points.ndim != len(space.shape) + 1 or len(points) < 3:
        raise InvalidPointError(f"At least three points are needed, not shape {points.shape}.")
    others, n_points, metric, ax = dict(others or {}), len(points), space.metric, _axes(ax)
    ends = np.concatenate([points, *(np.asarray(p, dtype=float)[None] for p in others.values())])
    vectors = np.asarray(metric.log(ends, mean))
    gram = np.asarray(metric.inner_product(vectors[:n_points, None], vectors[None], mean))
    centred = gram[:, :n_points] - gram[:, :n_points].mean(axis=0)
    centred -= centred.mean(axis=1, keepdims=True)
    weights, basis = np.linalg.eigh(centred)
    share = weights[::-1] / max(float(weights.sum()), np.finfo(float).tiny)
    plane = basis[:, :-3:-1] / np.sqrt(np.maximum(weights[:-3:-1], np.finfo(float).tiny))
    coordinates = (plane - plane.mean(axis=0)).T @ gram
    ax.plot(*coordinates[:, :n_points], "o", color=_GREY, alpha=0.6, label="points")
    ax.plot(0, 0, "*", color=COLORS[0], markersize=15, markeredgecolor="white", label=label)
    lengths = np.asarray(metric.norm(vectors[n_points:], mean))
    for k, name in enumerate(others):
        ax.plot(
            *coordinates[:, n_points + k],
            MARKERS[k % len(MARKERS)],
            color=COLORS[(k + 1) % len(COLORS)],
            markersize=9,
            markeredgecolor="white",
            label=f"{name}, at {lengths[k]:.2g}",
        )
    reach = float(np.hypot(*coordinates).max())
    for radius in (reach / 3, 2 * reach / 3, reach):
        ax.plot(*(radius * _CIRCLE), color=_GREY, linewidth=0.5)
        number = ax.annotate(f"{radius:.2g}", (0, radius), ha="center", va="center")
        number.set(color=_GREY, fontsize="x-small")
        number.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})
    first = f"first principal direction ({100 * share[0]:.0f} % of the variance)"
    second = f"second principal direction ({100 * share[1]:.0f} %)"
    ax.set(aspect="equal", xlabel=first, ylabel=second)
    ax.legend()
    return ax
