"""A step of 1,000 chains of the Langevin equation against batched SVDs of their matrices.

The energy is the squared distance to a matrix; the error is that of its mean over chains that
start in it and take 200 steps, beside that of adjusted chains.
"""

from __future__ import annotations

from functools import partial

import _timing as timing  # before numpy: pins the threads
import numpy as np

from dln_manifolds import DLNObservableManifold
from dln_manifolds.dynamics import GibbsMeasure, langevin

HEADER = ("steps", "of", "time [ms]", "SVD [ms]", "ratio (range)", "bar", "energy, adjusted")
TARGET = np.diag([2.0, 1.0, 0.3])
SCHEMES = ({}, {"adjust": True}, {"scheme": "layers"})
_STEPS = 20


def measure_of(depth: int) -> GibbsMeasure:
    """Make the measure of the squared distance at b = 20."""
    return GibbsMeasure(
        DLNObservableManifold(3, depth),
        lambda X: 0.5 * np.sum((X - TARGET) ** 2, axis=(-2, -1)),
        lambda X: X - TARGET,
        20.0,
    )


def mean_energy(depth: int, n_chains: int, seed: int, **how: object) -> str:
    """Mean energy of chains at the end, with its standard error."""
    measure, start = measure_of(depth), np.stack([TARGET] * n_chains)
    run = langevin(measure, start, 0.01 / depth, 200, thin=200, rng=seed, **how)
    energies = measure.energy(run.points[-1])
    return f"{energies.mean():.4f} +- {energies.std() / n_chains**0.5:.4f}"


def main() -> None:
    options = timing.arguments(__doc__)
    n_chains = 100 if options.quick else 1000
    start, rows = np.stack([TARGET] * n_chains), []
    matrices = np.random.default_rng(options.seed).normal(size=start.shape)
    for depth in (2, 3, 10):
        measure = measure_of(depth)
        exact = mean_energy(depth, n_chains, options.seed, adjust=True)
        for how in SCHEMES:
            call = partial(langevin, measure, start, 1e-3, _STEPS, thin=_STEPS, rng=0, **how)
            ratio = timing.interleaved(
                call, partial(np.linalg.svd, matrices), repeats=5 if options.quick else 15
            ).per(_STEPS, 1)
            name = ", ".join(str(value) for value in how.values()).replace("True", "adjusted")
            found = f"{mean_energy(depth, n_chains, options.seed, **how)}, {exact}"
            where = f"{n_chains:,} chains, n = 3, N = {depth}"
            rows.append([name or "root", where, *ratio.cells(at_most=50), found])
    timing.print_table("Steps of the Langevin equation", HEADER, rows)


if __name__ == "__main__":
    main()
