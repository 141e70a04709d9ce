r"""The Riemannian Langevin equation in the root chart: drift, Euler step, density of the proposal.

In ``T = U diag(l) V^T``, ``l = s^(1/N)``, the metric has the blocks ``kappa_ij`` on symmetric parts
of ``U^T v V``, ``1/kappa_ij`` on antisymmetric ones, and 1 beside the core. Its determinant by
Lebesgue measure, by Hausdorff measure below full rank, is constant. The Ito equation is

.. math::
    dT = -G(\nabla_T E) dt + U diag(\tfrac1b \tfrac{1}{l_i} \frac{dS}{d \log s_i}
         + \tfrac kb \Delta_i) V^T dt + \sqrt{2k/b} \, G^{1/2} dB,

    \Delta_i = \sum_{j \neq i} \frac{2}{l_i + l_j} \Big[ \frac{l_i}{l_i + l_j}
    \Big( \frac{L(u_{ij})}{N} - L(N u_{ij}) \Big) + \frac{1/\kappa_{ij} - \kappa_{ij}}{2} \Big]
    - (m + n - 2r) \frac{1 - 1/N}{l_i},

with ``u_ij = log(l_i / l_j) / 2`` and the Langevin function ``L(u) = coth(u) - 1/u``: all is finite
where roots meet (ours; Menon, arXiv 2411.09004, states the equation in X). Below full rank both
ways a step ends with the orthographic retraction ``T + v + E C^{-1} F^T``. Its inverse is the
tangent part of the difference, whose determinant is the same from either end, so that ratios of
proposal densities are those of tangent vectors everywhere.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dln_manifolds.checks import spread
from dln_manifolds.dynamics.gibbs import GibbsMeasure, power_quotients, root_frame
from dln_manifolds.geometry.coefficients import kappa
from dln_manifolds.geometry.entropy import entropy_rates
from dln_manifolds.geometry.frame import Frame
from dln_manifolds.geometry.metric import root_of
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.functions import coth_minus_reciprocal
from dln_manifolds.numerics.matrices import diagonal, parity_combine, transpose


class RootPoint(NamedTuple):
    """Points T of the root chart with their frame, ``sqrt(kappa)``, and the drift in blocks."""

    root: Array
    frame: Frame
    root_kappa: Array
    drift: Array


def laplacian_rates(frame: Frame) -> Array:
    """Return the ``Delta_i`` of ``Lap_g T = U diag(Delta) V^T``, shape ``(..., r)``.

    Below full rank its tangent part: the normal one comes from the curvature of the matrices of
    that rank.
    """
    n, roots, u = frame.depth, frame.roots, frame.half_log_ratio
    total = roots[..., :, None] + roots[..., None, :]
    share = roots[..., :, None] / total
    value = kappa(u, n)
    # (1/N - 1/kappa) / tanh(u) without the pole
    bend = coth_minus_reciprocal(u) / n - coth_minus_reciprocal(n * u)
    pairs = (2 * share * bend + 1 / value - value) / total
    diagonal(pairs)[...] = 0.0
    return pairs.sum(axis=-1) - frame.surplus * (1 - 1 / n) / roots


def velocity_of_covector(frame: Frame, covector: Array) -> Array:
    """Return blocks of ``A_X(P)``, P the Euclidean gradient at X, as a velocity of T."""
    sums, differences, power = power_quotients(frame)
    blocks, r = frame.blocks(covector), power.shape[-1]
    core = parity_combine(sums, differences, blocks[..., :r, :])
    return np.concatenate([core, power[..., None, :] * blocks[..., r:, :]], axis=-2)


@dataclass(frozen=True)
class RootLangevin:
    """The equation of a measure in the root chart, and its Euler steps.

    Steps may be one number or one for each chain.
    """

    measure: GibbsMeasure

    def at(self, root: Array, mirrored: Array | None = None) -> RootPoint:
        """Decompose T, shape ``(..., m, n)``; where ``mirrored``, with its least root negated."""
        measure, stratum = self.measure, self.measure.stratum
        frame = root_frame(root, stratum.depth, stratum.rank)
        if mirrored is not None and mirrored.any():
            frame.left[..., -1] *= np.where(mirrored, -1.0, 1.0)[..., None]
            root = root_of(frame)
        drift = -velocity_of_covector(
            frame, measure.energy_gradient(frame.compose(frame.singular_values))
        )
        rates = entropy_rates(frame, stratum.hidden_widths) / frame.roots
        if measure.anisotropy:
            rates = rates + measure.anisotropy * laplacian_rates(frame)
        diagonal(drift[..., : stratum.rank, :])[...] += rates / measure.beta
        root_kappa = np.sqrt(kappa(frame.half_log_ratio, frame.depth))
        return RootPoint(root, frame, root_kappa, drift)

    def step(self, at: RootPoint, step: Array, normal: Array) -> Array:
        """Return T after an Euler step, from standard normal matrices ``(..., m, n)``."""
        noise = weighed(self.measure.stratum.normal_blocks(at.frame, normal), 1 / at.root_kappa)
        h = step[..., None, None]
        return moved(at, h * at.drift + np.sqrt(self._variance(h)) * noise)

    def log_proposal(self, at: RootPoint, other: Array, step: Array) -> Array:
        """Return the logarithm of the density with which `step` proposes other T, ``(...)``.

        Up to what is the same for the step back.
        """
        blocks = at.frame.blocks(other - at.root) - step[..., None, None] * at.drift
        noise = weighed(blocks, at.root_kappa)
        return -np.sum(noise * noise, axis=(-2, -1)) / (2 * self._variance(step))

    def _variance(self, step: Array) -> Array:
        """Return the variance ``2 k h / b`` of the noise in a step."""
        return 2 * self.measure.anisotropy / self.measure.beta * step


def weighed(blocks: Array, even: Array) -> Array:
    """Weigh symmetric parts of the core, and antisymmetric ones by the inverse."""
    r = even.shape[-1]
    core = parity_combine(even, 1 / even, blocks[..., :r, :])
    return np.concatenate([core, blocks[..., r:, :]], axis=-2)


def moved(at: RootPoint, velocity: Array) -> Array:
    """Return ``T + v``, below full rank both ways with what keeps the rank."""
    frame, end = at.frame, at.root + at.frame.assemble(velocity)
    if not all(frame.sides):
        return end
    core, left, right = frame.split(velocity)
    core = core + frame.roots[..., None] * np.eye(core.shape[-1])
    return end + left @ np.linalg.solve(core, transpose(right))


def chosen(first: Array, new: RootPoint, old: RootPoint) -> RootPoint:
    """Return new points where ``first``, shape ``(n_chains,)``, and old ones elsewhere."""

    def pick(a: Array, b: Array) -> Array:
        return np.where(spread(first, a.ndim - 1), a, b)

    pairs = zip(_arrays(new.frame), _arrays(old.frame), strict=True)
    left, values, right_t = (pick(*pair) for pair in pairs)
    frame = Frame(left, values, right_t, new.frame.depth, new.frame.power)
    kappas, drift = pick(new.root_kappa, old.root_kappa), pick(new.drift, old.drift)
    return RootPoint(pick(new.root, old.root), frame, kappas, drift)


def _arrays(frame: Frame) -> tuple[Array, Array, Array]:
    return frame.left, frame.values, frame.right_t
