"""
Merging networks that never met
===============================

Ten networks learn the same task from samples of their own and from random layers of their own.
Averaging their weights gives nothing useful: the same map can be written with completely different
weights. In this geometry networks are compared by how far their balanced layers must travel once
they are turned to each other, and the Fréchet mean is the network that all of them reach by the
least travel. It is a good merged network, an edit by its geodesics is the smallest one, and its
paths keep the spectrum. If the aim is only the loss of the average, average the maps: the loss is
convex in them, and the Euclidean mean is a little better.
"""

# %%
# The lower half of a handwritten digit is predicted from its upper half, eight principal components
# each. Every network has three layers, sees sixty images, and starts from small orthogonal layers.

import matplotlib.pyplot as plt
import numpy as np
from geomstats.learning.frechet_mean import FrechetMean
from scipy.linalg import expm, logm
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from dln_manifolds import BalancedManifold, DLNObservableManifold
from dln_manifolds.plotting import COLORS, DASHES
from dln_manifolds.spd import bures_wasserstein_geodesic

N, WIDTH, N_NETWORKS, N_IMAGES, N_SETS, RATE = 3, 8, 10, 60, 3, 0.01
space, total = DLNObservableManifold(WIDTH, N), BalancedManifold(WIDTH, N)
bundle = total.fiber_bundle


def data(rng):
    """Return inputs and targets, of the images to train on and of others."""
    images = rng.permutation(load_digits().images)
    half = len(images) // 2
    parts = []
    for pixels in (images[:, :4].reshape(-1, 32), images[:, 4:].reshape(-1, 32)):
        fit = PCA(WIDTH, whiten=True, svd_solver="full").fit(pixels[:half])
        parts.append((fit.transform(pixels[:half]), fit.transform(pixels[half:])))
    (inputs, other_inputs), (targets, other_targets) = parts
    sign = np.sign(np.linalg.det(np.linalg.lstsq(inputs, targets, rcond=None)[0]))
    targets[:, -1] *= sign  # principal components have no sign, and training keeps that of det X
    other_targets[:, -1] *= sign
    return inputs, targets, other_inputs, other_targets


def trained(inputs, targets, rng, n_steps=1000):
    """Train one network on each of several samples; return balanced layers, (k, N, n, n)."""
    layers = np.linalg.qr(rng.normal(size=(len(inputs), N, WIDTH, WIDTH)))[0] * 0.01 ** (1 / N)
    layers[:, 0, :, 0] *= np.sign(np.prod(np.linalg.det(layers), axis=1))[:, None]
    xx = inputs.swapaxes(1, 2) @ inputs / inputs.shape[1]
    yx = targets.swapaxes(1, 2) @ inputs / inputs.shape[1]
    for _ in range(n_steps):
        before = [np.broadcast_to(np.eye(WIDTH), layers[:, 0].shape)]
        for p in range(N):
            before.append(layers[:, p] @ before[-1])
        back = before[-1] @ xx - yx
        for p in reversed(range(N)):
            further = layers[:, p].swapaxes(1, 2) @ back
            layers[:, p] -= RATE * back @ before[p].swapaxes(1, 2)
            back = further
    return total.projection(layers)


def loss(X, inputs, targets):
    """Return the squared error relative to that of no answer."""
    return np.sum((inputs @ X.T - targets) ** 2) / np.sum(targets**2)


def aligned_mean(networks, n_turns=6):
    """Average weights, each network turned to the average before."""
    mean = networks[0]
    for _ in range(n_turns):
        mean = total.projection(np.mean([bundle.align(W, mean) for W in networks], axis=0))
    return mean


# %%
# The ways to merge, by the loss on images that no network has seen; and the size of the edit that
# gives a network the map of another, beside the distance of the maps.

ways = ("raw weights", "one network", "aligned weights", "Fréchet mean", "Euclidean mean")
edits = ("geodesic", "aligned layers", "last layer only")
losses, sizes, kept = [], [], None
for seed in range(N_SETS):
    rng = np.random.default_rng(seed)
    inputs, targets, other_inputs, other_targets = data(rng)
    samples = np.stack(
        [rng.choice(len(inputs), N_IMAGES, replace=False) for _ in range(N_NETWORKS)]
    )
    layers = trained(inputs[samples], targets[samples], rng)
    X = total.end_to_end(layers)
    estimator = FrechetMean(space).set(epsilon=1e-10, max_iter=64, init_step_size=1.0)
    frechet = estimator.fit(X).estimate_
    aligned = total.end_to_end(aligned_mean(layers))
    merged = (total.end_to_end(layers.mean(axis=0)), X[0], aligned, frechet, X.mean(axis=0))
    losses.append([loss(map_, other_inputs, other_targets) for map_ in merged])

    start, goal = layers[0], X[1]
    lift = bundle.horizontal_lift(space.metric.log(goal, X[0]), fiber_point=start)
    last_only = start.copy()
    last_only[-1] = goal @ np.linalg.inv(start[1] @ start[0])
    new = (total.metric.exp(lift, start), bundle.align(total.factor(goal), start), last_only)
    assert all(np.allclose(total.end_to_end(W), goal) for W in new)
    distance = space.metric.dist(goal, X[0])
    sizes.append([np.linalg.norm(W - start) / distance for W in new])
    kept = kept or (X, layers, other_inputs, other_targets, aligned, frechet)

losses, sizes = np.mean(losses, axis=0), np.mean(sizes, axis=0)
for way, value in zip(ways, losses, strict=True):
    print(f"{way:16}{value:.3f}")
for edit, size in zip(edits, sizes, strict=True):
    print(f"edit by {edit:16}{size:6.2f} times the distance")

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
left.barh(ways[::-1], losses[::-1], color=COLORS[0])
left.set(xlabel="loss on other images", title="ten networks merged")
right.barh(edits[::-1], sizes[::-1], color=COLORS[2])
right.set(xlabel="|W' - W| / distance of the maps", title="the map of another network")
plt.show()

# %%
# Five ways from one network to another. The straight line of maps crosses det = 0 in most pairs and
# swells the effective rank. To rotate the polar factor, while the other one moves in the
# log-Euclidean or the Bures-Wasserstein geometry, keeps det > 0; in the latter the determinant
# swells in most pairs. Along geodesics of this geometry the effective rank is kept, and the
# determinant swells in few pairs. Raw layers lose the map. The loss is what the straight line does
# best: it is convex in the map.

times = np.linspace(0, 1, 41)
t = times[:, None, None]
X, layers, other_inputs, other_targets, *_ = kept


def spectral(function, P):
    """Apply a function to the eigenvalues of positive definite matrices."""
    values, basis = np.linalg.eigh(P)
    return (basis * function(values)[..., None, :]) @ np.swapaxes(basis, -1, -2)


def polar_ways(first, last):
    """Rotate one polar factor into the other, and move the rest in two geometries."""
    left, values, right = np.linalg.svd(np.stack([first, last]))
    turns, parts = (
        left @ right,
        spectral(np.asarray, (right.swapaxes(1, 2) * values[:, None]) @ right),
    )
    rotation = turns[0] @ expm(t * np.real(logm(turns[0].T @ turns[1])))
    logs = spectral(np.log, parts)
    moved = bures_wasserstein_geodesic(parts[0] @ parts[0], parts[1] @ parts[1], times)
    log_euclidean = spectral(np.exp, (1 - t) * logs[0] + t * logs[1])
    return rotation @ log_euclidean, rotation @ spectral(np.sqrt, moved)


def effective_rank(path):
    """Return the exponential of the entropy of the normalized singular values."""
    values = np.linalg.svd(path, compute_uv=False)
    share = values / values.sum(axis=-1, keepdims=True)
    return np.exp(-np.sum(share * np.log(np.maximum(share, 1e-300)), axis=-1))


pairs = [(i, j) for i in range(N_NETWORKS) for j in range(i)][:20]
curves = {
    name: []
    for name in ("straight line", "geodesic", "log-Euclidean", "Bures-Wasserstein", "raw layers")
}
for i, j in pairs:
    raw = total.end_to_end((1 - t[..., None]) * layers[i] + t[..., None] * layers[j])
    ways_here = (X[i] + t * (X[j] - X[i]), space.metric.geodesic(X[i], end_point=X[j])(times))
    for name, path in zip(curves, (*ways_here, *polar_ways(X[i], X[j]), raw), strict=True):
        curves[name].append(path)

crossing, swelling, ranks, half_way = {}, {}, {}, {}
print(f"{'':18}crosses det = 0  swells |det|  rank half way  loss half way / ends")
for name, paths in curves.items():
    signs, sizes_of = np.linalg.slogdet(paths)
    crossing[name] = np.mean(signs.min(axis=1) < 0)
    ends = np.maximum(sizes_of[:, 0], sizes_of[:, -1])
    swelling[name] = np.mean(sizes_of.max(axis=1) > ends + 1e-6)
    rank = effective_rank(paths)
    ranks[name] = np.mean(rank[:, 20] - 0.5 * (rank[:, 0] + rank[:, -1]))
    found = [[loss(path[k], other_inputs, other_targets) for k in (0, 20, 40)] for path in paths]
    half_way[name] = np.mean([2 * middle / (one + other) for one, middle, other in found])
    print(
        f"{name:18}{crossing[name]:15.0%}{swelling[name]:14.0%}{ranks[name]:+15.2f}"
        f"{half_way[name]:22.3f}"
    )

figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained", sharex=True)
for k, (name, paths) in enumerate(curves.items()):
    style = {"color": COLORS[k], "ls": DASHES[k], "label": name}
    axes[0].plot(times, np.abs(np.linalg.det(paths[0])), **style)
    axes[1].plot(times, effective_rank(paths[0]), **style)
    axes[2].plot(times, [loss(x, other_inputs, other_targets) for x in paths[0]], **style)
for ax, title in zip(axes, ("|det X|", "effective rank", "loss on other images"), strict=True):
    ax.set(xlabel="t", title=title)
axes[0].set_yscale("log")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
plt.show()
