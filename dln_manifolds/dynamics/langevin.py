r"""The Riemannian Langevin equation: chains in the root chart, or of balanced layers.

.. math:: dX = -\mathrm{grad}_g F_b dt + \sqrt{2k/b} \, dB^g, \qquad F_b = E - S/b,

with the inverse temperature b, the Boltzmann entropy S, and the anisotropy k, by which horizontal
noise of the layers exceeds vertical noise (Menon, arXiv 2411.09004, second-hand).
"""

import warnings
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np

from dln_manifolds.checks import checked_point
from dln_manifolds.dynamics.gibbs import GibbsMeasure, checked_measure
from dln_manifolds.dynamics.kernels import LOST, AdjustedLangevin, beyond, crossed
from dln_manifolds.dynamics.layer_langevin import (
    geodesic_polynomial,
    layer_point,
    settled,
    tangent_step,
)
from dln_manifolds.dynamics.root_langevin import RootLangevin
from dln_manifolds.errors import InvalidPointError, SamplingWarning
from dln_manifolds.geometry.balancing import factor
from dln_manifolds.geometry.chain import chain_of
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.metric import root_of
from dln_manifolds.numerics.arguments import choice, generator, real, whole
from dln_manifolds.numerics.arrays import Array, ArrayLike
from dln_manifolds.numerics.progress import Progress, told


@dataclass(frozen=True)
class LangevinPaths:
    """Chains of the Langevin equation, at the times that were kept.

    Attributes
    ----------
    times : ndarray, shape=[n_kept]
        Times of every ``thin``-th step, without the start.
    points : ndarray, shape=[n_kept, n_chains, m, n]
        Matrices X; NaN from where a chain blew up.
    crossings : ndarray of int, shape=[n_chains]
        How often det(X) changed its sign, or was kept from it by reflection.
    blow_ups : ndarray of int, shape=[n_chains]
        Step in which a chain left all bounds, 0 for those that never did.
    acceptance : ndarray, shape=[n_chains], or None
        Share of accepted steps of adjusted chains.
    interrupted : bool
        Whether the run was stopped from outside; then the points are those until then.
    """

    times: Array
    points: Array
    crossings: Array
    blow_ups: Array
    acceptance: Array | None
    interrupted: bool

    @property
    def singular_values(self) -> Array:
        """Singular values of the points, shape ``(n_kept, n_chains, min(m, n))``."""
        good = np.isfinite(self.points).all(axis=(-2, -1))
        values = np.full((*good.shape, min(self.points.shape[-2:])), np.nan)
        values[good] = np.linalg.svd(self.points[good], compute_uv=False)
        return values


class _Events(NamedTuple):
    """What happened to each chain in a step, shape ``(n_chains,)``."""

    crossed: Array
    lost: Array
    accepted: Array


class _Chains(Protocol):
    """Chains of a scheme, which know where they are."""

    def advance(self, rng: np.random.Generator) -> _Events:
        """Take a step."""

    def points(self) -> Array:
        """Return the matrices X, shape ``(n_chains, m, n)``."""


class _RootChains:
    """Chains in the root chart, with Euler steps."""

    def __init__(self, measure: GibbsMeasure, start: Frame, step: float, reflect: bool) -> None:
        self.measure, self.step, self.reflect = measure, np.asarray(step), reflect
        self.equation = RootLangevin(measure)
        self.now = self.equation.at(root_of(start))

    def advance(self, rng: np.random.Generator) -> _Events:
        before = self.now.root
        end = self.equation.step(self.now, self.step, rng.standard_normal(before.shape))
        lost = beyond(end, LOST ** (1 / self.measure.depth))
        end[lost] = before[lost]
        passed = crossed(self.measure, before, end)
        self.now = self.equation.at(end, passed if self.reflect else None)
        return _Events(passed, lost, ~lost)

    def points(self) -> Array:
        frame = self.now.frame
        return frame.compose(frame.singular_values)


class _AdjustedChains:
    """Chains in the root chart, whose steps are accepted or rejected."""

    def __init__(self, kernel: AdjustedLangevin, start: Frame) -> None:
        self.kernel, self.state = kernel, kernel.init(root_of(start))

    def advance(self, rng: np.random.Generator) -> _Events:
        before = self.state.root
        self.state, info = self.kernel.step(rng, self.state)
        passed = crossed(self.kernel.measure, before, self.state.root)
        return _Events(passed, np.zeros(len(before), dtype=bool), info.accepted)

    def points(self) -> Array:
        frame = self.kernel.at(self.state).frame
        return frame.compose(frame.singular_values)


class _LayerChains:
    """Chains of balanced layers, with steps along geodesics to second order."""

    def __init__(self, measure: GibbsMeasure, start: Frame, step: float, reflect: bool) -> None:
        stratum = measure.stratum
        widths = stratum.every_width
        if widths is None:
            raise ValueError(
                f"scheme='layers' needs a depth that is an integer, not {stratum.depth}; "
                f"scheme='root' takes every depth."
            )
        self.measure, self.step, self.reflect = measure, step, reflect
        self.bound = LOST ** (1 / stratum.depth)
        chain = chain_of(widths)
        self.now = layer_point(factor(start, chain), chain, stratum.rank)
        vertical = 2 * step / measure.beta
        self.variances = vertical, measure.anisotropy * vertical

    def advance(self, rng: np.random.Generator) -> _Events:
        now = self.now
        normal = rng.standard_normal(now.layers.shape)
        gradient = self.measure.energy_gradient(self.points())
        vector = tangent_step(now, self.step, self.variances, gradient, normal)
        end = now.layers + geodesic_polynomial(now.frame, vector)
        lost = beyond(end, self.bound)
        end[lost] = now.layers[lost]
        self.now, crossed = settled(now, end, self.reflect)
        return _Events(crossed, lost, ~lost)

    def points(self) -> Array:
        ends = self.now.frame.ends
        return ends.compose(ends.singular_values)


def langevin(
    measure: GibbsMeasure,
    start: ArrayLike,
    step: float,
    n_steps: int,
    *,
    scheme: Literal["root", "layers"] = "root",
    adjust: bool = False,
    boundary: Literal["cross", "reflect"] = "cross",
    thin: int = 1,
    rng: np.random.Generator | int | None = None,
    progress: Progress = False,
) -> LangevinPaths:
    r"""Follow the Riemannian Langevin equation of a Gibbs measure, one chain from each start.

    Where chains settle, X has the density of the measure, up to an error that goes like the step.

    Parameters
    ----------
    measure : GibbsMeasure
        Energy, inverse temperature b and anisotropy k, on a space of end-to-end matrices. At k = 0
        noise acts along the fibres alone, and X moves along ``-grad_g F_b``: without noise in the
        root chart, as the mean motion upstairs.
    start : array-like, shape=[n_chains, m, n] or [m, n]
        Matrices X of the space.
    step : float
        Length h of time steps. The drift grows like ``l^(2N-1)``: deep networks need short ones.
    n_steps : int
        Number of steps.
    scheme : {"root", "layers"}
        Euler steps in ``T = U diag(s^(1/N)) V^T``, of weak order one, or steps of balanced layers
        with vertical noise ``sqrt(2/b)`` and horizontal noise ``sqrt(2k/b)``, which need N to be an
        integer. Both follow the same equation.
    adjust : bool
        Whether steps in the root chart are accepted or rejected by Metropolis and Hastings, so that
        the measure is kept exactly.
    boundary : {"cross", "reflect"}
        What happens where det(X) = 0, which square matrices of full rank alone reach: chains go
        through, as is natural in T, or keep the sign of the determinant.
    thin : int
        Every so many steps the points are kept.
    rng : numpy.random.Generator or int, optional
        Source of random numbers, or its seed.
    progress : bool or callable
        True for a bar, or a function of the steps done and of all.

    Returns
    -------
    LangevinPaths
        With ``points``, shape ``(n_kept, n_chains, m, n)``. Interrupted from the keyboard, what
        there is.

    Raises
    ------
    InvalidPointError
        If the start is not in the space.
    ValueError
        If a step, a number or a name is none of those above.

    Warns
    -----
    SamplingWarning
        If chains left all bounds: their points are NaN from there on, not left out.
    """
    total, every = whole("n_steps", n_steps), whole("thin", thin)
    if every > total:
        raise ValueError(f"thin={every} keeps none of n_steps={total} steps.")
    points, frame, dtype = checked_point(checked_measure(measure).stratum, start, "start")
    if points.ndim > 3:
        raise InvalidPointError(
            f"start has shape {points.shape}; chains start at (n_chains, m, n), or one at (m, n)."
        )
    if points.ndim == 2:
        frame = frame.mapped(lambda array: array[None])
    source = generator(rng)
    chains = _chains(measure, frame, step, scheme, adjust, boundary)
    n_chains, done, interrupted = len(frame.values), 0, False
    kept = np.empty((total // every, n_chains, *points.shape[-2:]), dtype)
    crossings, blow_ups, n_accepted = np.zeros((3, n_chains), dtype=int)
    try:
        with told(progress, total) as advance:
            for number in range(1, total + 1):
                with np.errstate(over="ignore", invalid="ignore"):
                    passed, lost, accepted = chains.advance(source)
                blow_ups[lost & (blow_ups == 0)] = number
                crossings += passed & (blow_ups == 0)
                n_accepted += accepted
                if number % every == 0:
                    kept[number // every - 1] = chains.points()
                    kept[number // every - 1, blow_ups > 0] = np.nan
                done = number
                advance(1)
    except KeyboardInterrupt:
        interrupted = True
    _warn(blow_ups, step, scheme)
    times = step * every * np.arange(1, done // every + 1)
    acceptance = n_accepted / max(done, 1) if adjust else None
    return LangevinPaths(times, kept[: times.size], crossings, blow_ups, acceptance, interrupted)


def _chains(
    measure: GibbsMeasure, start: Frame, step: float, scheme: str, adjust: bool, boundary: str
) -> _Chains:
    """Check what a run is to be, and return its chains."""
    step = real("step", step, "positive and finite")
    reflect = choice("boundary", boundary, ("cross", "reflect")) == "reflect"
    if choice("scheme", scheme, ("root", "layers")) == "root":
        if adjust and not measure.anisotropy:
            raise ValueError(
                "adjust=True needs noise to propose points by: at anisotropy 0 there is none in "
                "the root chart, and no density."
            )
        if adjust:
            return _AdjustedChains(AdjustedLangevin(measure, np.asarray(step), reflect), start)
        return _RootChains(measure, start, step, reflect)
    if adjust:
        raise ValueError("adjust=True is for scheme='root': steps of layers have no density here.")
    return _LayerChains(measure, start, step, reflect)


def _warn(blow_ups: Array, step: float, scheme: str) -> None:
    """Tell of chains that were lost."""
    n_lost = int(np.count_nonzero(blow_ups))
    if n_lost:
        advice = "" if scheme == "layers" else " adjust=True rejects such steps."
        warnings.warn(
            f"{n_lost} of {len(blow_ups)} chains left all bounds, the first in step "
            f"{blow_ups[blow_ups > 0].min()}; their points are NaN from there on. Averages over "
            f"the others are biased: take a step shorter than {step:g}.{advice}",
            SamplingWarning,
            stacklevel=3,
        )
