"""Draws from a Gibbs measure by Markov chains that keep it exactly."""

import warnings
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from dln_manifolds.dynamics.gibbs import GibbsMeasure, checked_measure, root_frame
from dln_manifolds.dynamics.kernels import AdjustedLangevin, Hamiltonian, Info, Kernel, Mass
from dln_manifolds.dynamics.mixing import effective_draws, r_hat
from dln_manifolds.dynamics.mode import starts
from dln_manifolds.errors import SamplingWarning
from dln_manifolds.numerics.arguments import choice, generator, whole
from dln_manifolds.numerics.arrays import Array, ArrayLike
from dln_manifolds.numerics.progress import Progress, told

# R-hat above which chains have not mixed.
_MIXED = 1.05
# Share of steps of a chain that may diverge without a word: they are rejected as they should be.
_FEW = 0.01
# Leapfrog steps of the warm-up's first half, and the most.
_LEAPS, _MOST_LEAPS = 8, 24
# Decades over which steps of the Langevin equation are spread.
_DECADES = 2.0
# By how much the averaging of steps leans to long ones.
_EAGER = 5.0
# Matrices with more entries have their trajectories as long as the warm-up's first half.
_MOST_ENTRIES = 400


@dataclass(frozen=True)
class Sample:
    """Draws from a Gibbs measure, and what to know of them.

    Attributes
    ----------
    points : ndarray, shape=[n_chains, n_draws, m, n]
        Matrices X.
    singular_values : ndarray, shape=[n_chains, n_draws, r]
        Theirs, descending.
    energies : ndarray, shape=[n_chains, n_draws]
        E(X).
    acceptance : ndarray, shape=[n_chains]
        Mean probability of acceptance.
    step_size : ndarray, shape=[n_chains]
        As adapted in the warm-up.
    divergences : ndarray of int, shape=[n_chains]
        Steps after the warm-up that left all bounds or lost the energy.
    interrupted : bool
        Whether the run was stopped from outside; then the draws are those until then.
    """

    points: Array
    singular_values: Array
    energies: Array
    acceptance: Array
    step_size: Array
    divergences: Array
    interrupted: bool = False

    def __repr__(self) -> str:
        """Return a line."""
        n_chains, n_draws = self.energies.shape
        return (
            f"<Sample of {n_chains} chains and {n_draws} draws, R-hat up to "
            f"{np.max(self.r_hat):.3f}, {self.divergences.sum()} divergences>"
        )

    @property
    def r_hat(self) -> Array:
        """Rank-normalized split R-hat of the energy and the singular values, ``(1 + r,)``.

        About one where chains have mixed (Vehtari et al., Bayesian Analysis 16, 2021); NaN of few
        draws.
        """
        return r_hat(self._quantities)

    @property
    def ess(self) -> Array:
        """Effective numbers of draws, of all chains together, of the same, shape ``(1 + r,)``."""
        return effective_draws(self._quantities)

    @property
    def _quantities(self) -> Array:
        return np.concatenate([self.energies[..., None], self.singular_values], axis=-1)

    def to_arviz(self) -> object:
        """Return the draws as ArviZ has them, of its versions 0.x and 1.x (the extra ``arviz``)."""
        try:
            import arviz
        except ImportError as error:
            raise ImportError(
                "ArviZ is not installed: pip install 'dln-manifolds[arviz]'."
            ) from error
        posterior = {"X": self.points, "singular_values": self.singular_values}
        groups = {"posterior": posterior, "sample_stats": {"energy": self.energies}}
        if int(arviz.__version__.split(".")[0]) < 1:
            return arviz.from_dict(**groups)
        return arviz.from_dict(groups)


def sample(
    measure: GibbsMeasure,
    n_chains: int = 4,
    n_draws: int = 1000,
    n_warmup: int = 500,
    kernel: Literal["hmc", "rle"] | Kernel | None = None,
    *,
    start: ArrayLike | None = None,
    mass: Literal["identity", "metric"] = "identity",
    thin: int = 1,
    rng: np.random.Generator | int | None = None,
    progress: Progress = False,
) -> Sample:
    """Draw matrices X from a Gibbs measure by several chains, whose steps adapt in a warm-up.

    Chains start where the density of T is largest, with singular values shrunk at random, so that
    those that do not mix disagree: then R-hat is above one, and a warning says so.

    Parameters
    ----------
    measure : GibbsMeasure
        What to draw from, k > 0.
    n_chains, n_draws, n_warmup : int
        Numbers of chains, of draws of each that are kept, and of steps before that.
    kernel : {"hmc", "rle"}, optional
        Hamiltonian Monte Carlo in the root chart, the default at full rank; or Metropolis-adjusted
        steps of the Riemannian Langevin equation, for every rank, better where beta and the depth
        are both large. Or a kernel of your own, see `dln_manifolds.dynamics.kernels`.
    start : array-like, shape=[n_chains, m, n] or [m, n], optional
        Matrices X to start from instead.
    mass : {"identity", "metric"}
        Of the momenta of "hmc": the same for all, or the metric at the start of the first chain.
    thin : int
        Every so many steps a draw is kept.
    rng : numpy.random.Generator or int, optional
        Source of random numbers, or its seed.
    progress : bool or callable
        True for a bar, or a function of the steps done and of all.

    Returns
    -------
    Sample
        Interrupted from the keyboard, what there is.

    Raises
    ------
    InvalidPointError
        If the start is not in the space.
    ValueError, TypeError
        If a number or a name is none of those above.

    Warns
    -----
    SamplingWarning
        If R-hat is above 1.05, or more than 1 % of the steps diverged.

    Examples
    --------
    >>> import numpy as np
    >>> from dln_manifolds import DLNObservableManifold
    >>> from dln_manifolds.dynamics import GibbsMeasure, sample
    >>> space = DLNObservableManifold(n=2, depth=3)
    >>> def energy(X):
    ...     return 0.5 * np.sum(X**2, axis=(-2, -1))
    >>> measure = GibbsMeasure(space, energy, lambda X: X, beta=2)
    >>> draws = sample(measure, n_draws=500, kernel="rle", rng=0)
    >>> draws.points.shape
    (4, 500, 2, 2)
    >>> exact = 6 / (2 * 3 * 2)  # D / (q N beta), see `SpectralThermodynamics`
    >>> bool(abs(draws.energies.mean() - exact) < 0.1)
    True
    """
    n_chains, n_draws = whole("n_chains", n_chains), whole("n_draws", n_draws)
    n_warmup, thin = whole("n_warmup", n_warmup), whole("thin", thin)
    if not checked_measure(measure).anisotropy:
        raise ValueError("At anisotropy 0 there is no density to draw from: see langevin.")
    choice("mass", mass, ("identity", "metric"))
    source = generator(rng)
    # Far out, and where roots vanish, numbers need not be finite: such points are left.
    with np.errstate(all="ignore"):
        roots = starts(measure, n_chains, start, source)
        chains = _kernel(measure, kernel, mass, roots)
        warm = _Warmup(measure, chains, roots, n_warmup)
        found = _drawn(measure, warm, n_draws, thin, source, progress)
    _warn(found, isinstance(chains, Hamiltonian))
    return found


def _drawn(
    measure: GibbsMeasure,
    warm: "_Warmup",
    n_draws: int,
    thin: int,
    rng: np.random.Generator,
    progress: Progress,
) -> Sample:
    """Warm chains up and take their draws, as many as there is time for."""
    n_chains = len(warm.state.root)
    points = np.empty((n_chains, n_draws, *measure.shape))
    values = np.empty((n_chains, n_draws, measure.rank))
    acceptance, divergences = np.zeros(n_chains), np.zeros(n_chains, dtype=int)
    kept, interrupted = 0, False
    try:
        with told(progress, warm.n_steps + n_draws * thin) as advance:
            for _ in range(warm.n_steps):
                warm.step(rng)
                advance(1)
            chains, state = warm.kernel, warm.state
            for number in range(1, n_draws * thin + 1):
                state, info = chains.step(rng, state)
                acceptance += info.acceptance
                divergences += info.divergent
                if number % thin == 0:
                    # From T: in X small singular values are lost beside large ones.
                    frame = root_frame(state.root, measure.depth, measure.rank)
                    values[:, kept] = frame.singular_values
                    points[:, kept] = frame.compose(frame.singular_values)
                    kept += 1
                advance(1)
    except KeyboardInterrupt:
        interrupted = True
    points, values = points[:, :kept], values[:, :kept]
    share = acceptance / max(kept * thin, 1)
    energies = measure.energy(points)
    return Sample(points, values, energies, share, warm.final, divergences, interrupted)


class _Warmup:
    """The warm-up: dual averaging of steps, and from its middle on the length of trajectories.

    Hoffman and Gelman, *The No-U-Turn Sampler*, Journal of Machine Learning Research 15 (2014),
    section 3.2, for each chain by itself.
    """

    def __init__(self, measure: GibbsMeasure, kernel: Kernel, roots: Array, n_steps: int) -> None:
        self.kernel, self.state = kernel, kernel.init(roots)
        self.n_steps, self.number = n_steps, 0
        first = np.log(_first_step(measure, roots))
        # Noise goes like the root of the step.
        self._restart(2 * first if isinstance(kernel, AdjustedLangevin) else first)
        self.seen: list[Array] = []

    def _restart(self, logarithm: Array) -> None:
        # Too long steps are noticed sooner than too short ones.
        self.centre = logarithm + np.log(_EAGER)
        self.error, self.average = np.zeros_like(logarithm), logarithm
        self.count = 0
        self.kernel = self.kernel.with_step(np.exp(logarithm))

    @property
    def final(self) -> Array:
        """The averaged steps."""
        return np.exp(self.average)

    def step(self, rng: np.random.Generator) -> None:
        """Take a step of the warm-up; the last one leaves the kernel as it is to be used."""
        self.state, info = self.kernel.step(rng, self.state)
        self.number += 1
        self._learn(info)
        self.kernel = self.kernel.with_step(np.exp(self.logarithm))
        half = self.n_steps // 2
        if isinstance(self.kernel, Hamiltonian):
            if half // 2 < self.number <= half:
                self.seen.append(self.kernel.mass.scaled(self.state.root, 1))
            if self.number == half and self.seen:
                self.kernel = replace(self.kernel, n_leaps=self._leaps())
                self._restart(self.average)
        if self.number == self.n_steps:
            self.kernel = self.kernel.with_step(self.final)

    def _learn(self, info: Info) -> None:
        self.count += 1
        weight = 1 / (self.count + 10)
        self.error = (1 - weight) * self.error + weight * (self.kernel.target - info.acceptance)
        self.logarithm = self.centre - np.sqrt(self.count) / 0.05 * self.error
        share = self.count**-0.75
        self.average = share * self.logarithm + (1 - share) * self.average

    def _leaps(self) -> int:
        """Return leaps of a quarter of the slowest oscillation, by the spread of all chains."""
        draws = np.concatenate(self.seen).reshape(-1, self.state.root[0].size)
        if draws.shape[1] > _MOST_ENTRIES or len(draws) < 2:
            return _LEAPS
        widest = np.linalg.eigvalsh(np.cov(draws.T).reshape(draws.shape[1], -1))[-1]
        length = 0.5 * np.pi * np.sqrt(max(widest, 0.0))
        return int(np.clip(np.ceil(length / np.median(self.final)), 1, _MOST_LEAPS))


def _first_step(measure: GibbsMeasure, roots: Array) -> Array:
    """Return steps that suit the curvature of the density at T: the inverse of its root."""
    rng = np.random.default_rng(0)
    vector = rng.standard_normal(roots.shape)
    size = 1e-4 * np.linalg.norm(roots, axis=(-2, -1), keepdims=True)
    bend = np.ones((len(roots), 1, 1))
    for _ in range(4):
        vector = vector / np.linalg.norm(vector, axis=(-2, -1), keepdims=True)
        ends = (measure.root_log_density_gradient(roots + sign * size * vector) for sign in (1, -1))
        vector = np.subtract(*ends) / (2 * size)
        bend = np.linalg.norm(vector, axis=(-2, -1), keepdims=True)
    return np.asarray(1 / np.sqrt(np.maximum(bend, 1e-10)))[:, 0, 0]


def _kernel(measure: GibbsMeasure, kernel: str | Kernel | None, mass: str, roots: Array) -> Kernel:
    """Return the kernel of a name."""
    is_full = measure.stratum.is_open
    if kernel is None:
        kernel = "hmc" if is_full else "rle"
    if not isinstance(kernel, str) and hasattr(kernel, "init"):
        return kernel
    sizes = np.ones(len(roots))
    if kernel == "rle":
        return AdjustedLangevin(measure, sizes, decades=_DECADES)
    if kernel != "hmc":
        raise ValueError(f"kernel must be 'hmc', 'rle' or a kernel, not {kernel!r}.")
    if not is_full:
        raise ValueError(
            f"kernel='hmc' needs matrices of full rank, not of rank {measure.rank}: below, T is a "
            f"curved space. kernel='rle' takes every rank."
        )
    where = root_frame(roots[0], measure.depth, measure.rank) if mass == "metric" else None
    return Hamiltonian(measure, sizes, _LEAPS, Mass(where))


def _warn(found: Sample, hamiltonian: bool) -> None:
    """Tell of chains that have not mixed, and of steps that were lost."""
    worst = np.max(found.r_hat, initial=0.0)
    if worst > _MIXED:
        warnings.warn(
            f"The chains have not mixed: R-hat is {worst:.2f}, above {_MIXED}. Averages over these "
            f"draws are not those of the measure. Take more draws and a longer warm-up, the other "
            f"kernel, or another temperature: deep networks can have two phases that coexist.",
            SamplingWarning,
            stacklevel=3,
        )
    n_draws = max(found.energies.shape[1], 1)
    if found.divergences.mean() > _FEW * n_draws:
        # A longer warm-up of Hamiltonian chains has not helped where this was seen.
        remedy = "kernel='rle', whose steps are shorter" if hamiltonian else "a longer warm-up"
        warnings.warn(
            f"{found.divergences.sum()} steps diverged, up to {found.divergences.max()} in a chain "
            f"with {n_draws} draws: where the density is steep the chains hardly go. Take "
            f"{remedy}.",
            SamplingWarning,
            stacklevel=3,
        )
