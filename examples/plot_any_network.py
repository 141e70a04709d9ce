"""
Networks of unequal widths on real data
=======================================

Deep linear networks with 64 inputs, a hidden layer and 10 outputs recognize handwritten digits
(scikit-learn's data). Their layers are matrices of unequal shapes: 64-32-10 has layers of 32 x 64
and 10 x 32 numbers, a point of ``BalancedManifold(widths=(64, 32, 10))`` if they are balanced. What
it computes is one 10 x 64 matrix X of rank 10, a point of
``DLNObservableManifold(widths=(64, 32, 10))``, where networks have distances and means, whatever
their hidden widths.
"""

# %%
# Every network learns from 800 of 1000 images, with noise in all pixels: the images as they are, or
# blurred by one pixel to the side. The loss is quadratic, with one output for each digit.

import time
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from geomstats.learning.frechet_mean import FrechetMean
from pymanopt.manifolds import Euclidean
from pymanopt.optimizers import TrustRegions
from sklearn.datasets import load_digits

from dln_manifolds import (
    BalancedManifold,
    DLNObservableManifold,
    PointRecorder,
    costs,
    pymanopt_problem,
)
from dln_manifolds.geometry.balancing import relative_imbalance
from dln_manifolds.plotting import COLORS, DASHES

rng = np.random.default_rng(0)
images, labels = load_digits(return_X_y=True)
order = rng.permutation(len(images))
images, labels = images[order] / 16, labels[order]
pool, test = slice(1000), slice(1000, None)


def task(kind):
    """Return the loss on images of the pool, sharp or blurred."""
    chosen = rng.choice(1000, 800, replace=False)
    inputs = images[pool][chosen]
    if kind == "blurred":
        inputs = (inputs + np.roll(inputs.reshape(-1, 8, 8), 1, axis=2).reshape(-1, 64)) / 2
    inputs = inputs + 0.3 * rng.normal(size=inputs.shape)
    return costs.LinearRegression(inputs, np.eye(10)[labels[pool][chosen]])


def accuracy(X):
    """Return the part of the other images that a matrix recognizes."""
    return np.mean((images[test] @ X.T).argmax(axis=1) == labels[test])


# %%
# Training by trust regions, on balanced layers and on all layers, which pymanopt's ``Euclidean``
# holds in the same vector of 2368 numbers. Both begin with the same small balanced layers and end
# at the same least squares map, with the same accuracy on other images, after about as many steps;
# those of balanced layers cost more. What training on the manifold gains here is the balance alone.


@dataclass
class Run:
    """Layers along training, and how long it took."""

    path: np.ndarray
    loss: np.ndarray
    seconds: float
    gradient: float


def train(loss, widths, balanced=True):
    """Train from small balanced layers."""
    total, recorder = BalancedManifold(widths=widths), PointRecorder()
    start = total.factor(0.01 * np.linalg.qr(rng.normal(size=(64, 10)))[0].T)
    manifold = total if balanced else Euclidean(len(start))
    cost = costs.OfLayers(loss, widths)
    problem = pymanopt_problem(manifold, cost, preconditioner=recorder)
    began = time.perf_counter()
    # Radii are those of the manifold unless they are given.
    solver = TrustRegions(verbosity=0, min_gradient_norm=1e-5)
    result = solver.run(problem, initial_point=start, Delta_bar=4.0)
    seconds = time.perf_counter() - began
    path = recorder.path(result)
    return Run(path, cost(path), seconds, result.gradient_norm)


widths = (64, 32, 10)
total, below = BalancedManifold(widths=widths), DLNObservableManifold(widths=widths)
loss = task("sharp")
runs = {}
for name in ("balanced", "free"):
    rng = np.random.default_rng(1)
    runs[name] = train(loss, widths, name == "balanced")
ends = {name: total.end_to_end(run.path[-1]) for name, run in runs.items()}
imbalance = {name: relative_imbalance(run.path, total.stratum.chain) for name, run in runs.items()}
for name, run in runs.items():
    print(
        f"{name:8s}: {len(run.path) - 1:3d} steps, {run.seconds:.1f} s, loss {run.loss[-1]:.6f}, "
        f"accuracy {100 * accuracy(ends[name]):.1f} %, imbalance {imbalance[name].max():.0e}"
    )

# %%
# The entropy of a network, the logarithm of the volume of all balanced layers with the same X,
# along that training. It depends on the hidden width: with 32 hidden units the singular values of X
# count 22 more times than with 10, the fewest that leave the rank alone.

narrow = DLNObservableManifold(widths=(64, 10, 10))
figure, (loss_ax, entropy_ax) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
entropies = {}
for style, (name, run) in enumerate(runs.items()):
    look = {"color": COLORS[style], "linestyle": DASHES[style], "label": name}
    X = total.end_to_end(run.path)
    entropies[name] = below.entropy(X), narrow.entropy(X)
    loss_ax.plot(run.loss, **look)
    entropy_ax.plot(entropies[name][0], **{**look, "label": f"{name}, 64-32-10"})
    entropy_ax.plot(entropies[name][1], **{**look, "label": f"{name}, as 64-10-10"}, alpha=0.4)
loss_ax.set(xlabel="step", title="Loss")
entropy_ax.set(xlabel="step", title="Entropy")
loss_ax.legend()
entropy_ax.legend()
plt.show()

# %%
# Eight networks, of two hidden widths, and their distances. These depend on X alone, not on how
# hidden units are turned or how many there are. Classical scaling puts networks into the plane at
# about their distances: sharp and blurred images are told apart, hidden widths are not.

networks, kinds = [], []
for kind in ("sharp", "blurred"):
    for hidden in (32, 32, 16, 16):
        run = train(task(kind), (64, hidden, 10))
        networks.append(BalancedManifold(widths=(64, hidden, 10)).end_to_end(run.path[-1]))
        kinds.append((kind, hidden))
networks = np.stack(networks)
distances = below.metric.dist_pairwise(networks)
mean = FrechetMean(below).set(epsilon=1e-12).fit(networks).estimate_

every = np.pad(distances, (0, 1))
every[-1, :-1] = every[:-1, -1] = below.metric.dist(networks, mean)
centre = np.eye(9) - 1 / 9
values, vectors = np.linalg.eigh(-0.5 * centre @ every**2 @ centre)
places = vectors[:, :-3:-1] * np.sqrt(values[:-3:-1])

figure, ax = plt.subplots(figsize=(6.5, 4.5), layout="constrained")
for style, kind in enumerate(("sharp", "blurred")):
    for hidden, marker in ((32, "o"), (16, "s")):
        members = [k for k, found in enumerate(kinds) if found == (kind, hidden)]
        look = {"color": COLORS[style], "marker": marker, "label": f"{kind}, 64-{hidden}-10"}
        ax.plot(*places[members].T, linestyle="none", markersize=9, **look)
ax.plot(*places[-1], "k*", markersize=14, label="Fréchet mean")
ax.set(aspect="equal", title="Eight networks at their distances, about")
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()

# %%
# The mean is a network again: ``total.factor(mean)`` returns balanced layers of it. It recognizes
# about as many of the other images, which are sharp, as the mean of the matrices does.

sharp = np.array([kind == "sharp" for kind, _ in kinds])
same = sharp[:, None] == sharp
alike, unlike = distances[same & ~np.eye(8, dtype=bool)], distances[~same]
gradient = float(below.metric.norm(below.metric.log(networks, mean).mean(axis=0), mean))
shapes = [layer.shape for layer in total.layers(total.factor(mean))]
print(f"distances: up to {alike.max():.2f} of one kind, from {unlike.min():.2f} between the two")
print(f"norm of the gradient of the variance at the mean: {gradient:.0e}; its layers: {shapes}")
scores = np.array([accuracy(X) for X in networks])
means = {"Fréchet mean": accuracy(mean), "mean of the matrices": accuracy(networks.mean(axis=0))}
for name, kind in (("sharp", sharp), ("blurred", ~sharp)):
    low, high = 100 * scores[kind].min(), 100 * scores[kind].max()
    print(f"accuracy of networks of {name} images: {low:.1f} to {high:.1f} %")
for name, score in means.items():
    print(f"accuracy of the {name}: {100 * score:.1f} %")
