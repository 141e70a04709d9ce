"""Effective draws a second from a Gibbs measure: our kernels, geodesic HMC, NUTS of blackjax.

The energy is ``|X - A|^2 / 2`` at n = 3, N = 3, b = 20, the singular values of A are 2, 1 and 0.3.
Effective draws are the fewest of the energy and of the singular values, by the same rule for all;
the mean energy says whether they agree. Geodesic HMC, kicks by the gradient of the density and
geodesics of `metric.exp`, is untuned. blackjax, where it is installed, draws in the root chart with
its window adaptation, compiled; the time of compilation is left out.
"""

from __future__ import annotations

import time
import warnings

import _timing as timing  # before numpy: pins the threads
import numpy as np

from dln_manifolds import DLNObservableManifold
from dln_manifolds.dynamics import GibbsMeasure, sample
from dln_manifolds.dynamics.mixing import effective_draws, r_hat
from dln_manifolds.geometry.metric import apply_cometric

HEADER = ("sampler", "energy", "R-hat", "effective draws", "time [s]", "a second")
DEPTH, BETA = 3, 20.0
_RNG = np.random.default_rng(3)
_LEFT, _RIGHT = (np.linalg.qr(_RNG.normal(size=(3, 3)))[0] for _ in range(2))
TARGET = _LEFT @ np.diag([2.0, 1.0, 0.3]) @ _RIGHT.T
SPACE = DLNObservableManifold(3, DEPTH, equip=False)
SPACE.equip_with_metric(on_failure="nan")


def energy(X: np.ndarray) -> np.ndarray:
    """Half the squared distance."""
    return 0.5 * np.sum((X - TARGET) ** 2, axis=(-2, -1))


def geodesic_hmc(n_chains: int, n_draws: int, rng: np.random.Generator) -> np.ndarray:
    """Draw X by leapfrog steps whose drift is a geodesic, (n_chains, n_draws, 3, 3)."""
    metric = SPACE.metric
    measure = GibbsMeasure(SPACE, energy, lambda X: X - TARGET, BETA)
    X = np.stack([TARGET] * n_chains)
    step, kept = 0.05, []

    def kick(points: np.ndarray) -> np.ndarray:
        # The gradient of -(b E - S): the Riemannian volume belongs to geodesics.
        euclidean = -BETA * (points - TARGET)
        ascent = apply_cometric(SPACE.stratum.frame(points), euclidean)
        return ascent + SPACE.entropy_gradient(points)

    def height(points: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        potential = BETA * measure.energy(points) - SPACE.entropy(points)
        return potential + 0.5 * metric.squared_norm(velocity, points)

    for _ in range(n_draws):
        V = SPACE.random_tangent_vec(X, rng=rng)
        before, Y, lost = height(X, V), X, np.zeros(n_chains, dtype=bool)
        for _ in range(4):
            V = V + 0.5 * step * kick(Y)
            ends = metric.exp(step * V, Y)
            moved = metric.parallel_transport(V, Y, direction=step * V)
            lost |= np.isnan(ends).any(axis=(-2, -1))  # through det = 0
            Y = np.where(lost[:, None, None], Y, ends)
            V = np.where(lost[:, None, None], V, moved)
            V = V + 0.5 * step * kick(Y)
        accepted = ~lost & (np.log(rng.random(n_chains)) < before - height(Y, V))
        X = np.where(accepted[:, None, None], Y, X)
        kept.append(X)
    return np.stack(kept, axis=1)


def nuts(n_chains: int, n_draws: int, n_warmup: int) -> tuple[np.ndarray, float] | None:
    """Draw X by blackjax; return draws and seconds without compilation, None without blackjax."""
    try:
        import blackjax
        import jax
        import jax.numpy as jnp
    except ImportError:
        return None
    jax.config.update("jax_enable_x64", True)
    target = jnp.asarray(TARGET)

    def logdensity(T):
        u, root, vt = jnp.linalg.svd(T)
        X = (u * root**DEPTH) @ vt
        square = root[:, None] ** 2, root[None, :] ** 2
        a = sum(square[0] ** (DEPTH - 1 - m) * square[1] ** m for m in range(DEPTH))
        pairs = jnp.triu_indices(3, 1)
        return -BETA * 0.5 * jnp.sum((X - target) ** 2) + 0.5 * jnp.sum(jnp.log(a[pairs]))

    left, values, right_t = np.linalg.svd(TARGET)
    start = jnp.asarray((left * values ** (1 / DEPTH)) @ right_t)

    def chain(key):
        warm, draw = jax.random.split(key)
        adaptation = blackjax.window_adaptation(blackjax.nuts, logdensity)
        (state, parameters), _ = adaptation.run(warm, start, n_warmup)
        kernel = blackjax.nuts(logdensity, **parameters).step

        def one(state, key):
            state, _ = kernel(key, state)
            return state, state.position

        return jax.lax.scan(one, state, jax.random.split(draw, n_draws))[1]

    run = jax.jit(jax.vmap(chain))
    run(jax.random.split(jax.random.key(0), n_chains)).block_until_ready()
    begin = time.perf_counter()
    roots = np.asarray(run(jax.random.split(jax.random.key(1), n_chains)))
    seconds = time.perf_counter() - begin
    left, values, right_t = np.linalg.svd(roots)
    return (left * values[..., None, :] ** DEPTH) @ right_t, seconds


def row(name: str, points: np.ndarray, seconds: float) -> tuple[list[object], float]:
    """Return a row of the table, and effective draws a second."""
    values = np.linalg.svd(points, compute_uv=False)
    quantities = np.concatenate([energy(points)[..., None], values], axis=-1)
    fewest = float(effective_draws(quantities).min())
    return [
        name,
        f"{energy(points).mean():.4f}",
        f"{r_hat(quantities).max():.3f}",
        f"{fewest:,.0f}",
        f"{seconds:.2f}",
        f"{fewest / seconds:,.0f}",
    ], fewest / seconds


def main() -> None:
    options = timing.arguments(__doc__)
    n_chains, n_draws = (8, 50) if options.quick else (48, 1000)
    measure = GibbsMeasure(SPACE, energy, lambda X: X - TARGET, BETA)
    rows, rates = [], {}
    for kernel, mass in (("hmc", "identity"), ("hmc", "metric"), ("rle", "identity")):
        begin = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # R-hat is in the table
            draws = sample(measure, n_chains, n_draws, 200, kernel, mass=mass, rng=options.seed)
        name = f"ours, {kernel}" + (", mass of the metric" if mass == "metric" else "")
        cells, rates[name] = row(name, draws.points, time.perf_counter() - begin)
        rows.append(cells)
    begin = time.perf_counter()
    points = geodesic_hmc(n_chains, n_draws // 20, np.random.default_rng(options.seed))
    cells, rates["geodesic HMC"] = row("geodesic HMC", points, time.perf_counter() - begin)
    rows.append(cells)
    peer = nuts(n_chains, n_draws, 200)
    if peer is not None:
        cells, rates["NUTS"] = row("blackjax, NUTS", *peer)
        rows.append(cells)
    timing.print_table("Draws from a Gibbs measure, warm-up included", HEADER, rows)
    best = max(rates["ours, hmc"], rates["ours, hmc, mass of the metric"])
    for name, bar in (("geodesic HMC", 2.0), ("NUTS", 1 / 3)):
        if name in rates:
            print(f"HMC over {name}: {best / rates[name]:.2f} (at least {bar:.2f})")


if __name__ == "__main__":
    main()
