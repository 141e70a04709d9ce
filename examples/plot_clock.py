"""
The distance is a clock
=======================

Two networks with the same end-to-end matrix can have completely different weights, so comparing
weights says little about what training did. The distance of this geometry says how far balanced
layers must travel, and that takes time: gradient descent from X_0 to X_1 needs at least
``d(X_0, X_1)^2 / (E_0 - E_1)`` of learning rate times steps, E being the loss. On real data the
bound is never broken, and on the first plateau it is nearly reached. No other distance here does
either.
"""

# %%
# Four problems from data that come with scikit-learn: the lower half of a digit from its upper
# half, the worst cell nuclei from the mean ones, three sets of chemical or medical measurements
# from three others. Networks of depth 2 to 6 are trained by plain gradient descent from small
# balanced layers, four for each problem and depth, in one batch.

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import spearmanr
from sklearn import datasets
from sklearn.decomposition import PCA

from dln_manifolds import DLNObservableManifold
from dln_manifolds.dynamics import training_clock
from dln_manifolds.plotting import COLORS

RATE, N_STEPS, EVERY, N_SEEDS, DEPTHS = 0.01, 5000, 2, 4, (2, 3, 4, 5, 6)


def problem(name, seed):
    """Return second moments of inputs, and of targets with inputs: X should be their quotient."""
    rng = np.random.default_rng(seed)
    if name == "digits":
        images = rng.permutation(datasets.load_digits().images)
        train = len(images) // 2
        halves = images[:, :4].reshape(-1, 32), images[:, 4:].reshape(-1, 32)
        inputs, targets = (
            PCA(8, whiten=True, svd_solver="full").fit(half[:train]).transform(half[:train])
            for half in halves
        )
    else:
        load, first, second = {
            "cancer": (datasets.load_breast_cancer, slice(0, 8), slice(20, 28)),
            "wine": (datasets.load_wine, slice(0, 6), slice(6, 12)),
            "diabetes": (datasets.load_diabetes, slice(0, 5), slice(5, 10)),
        }[name]
        table = rng.permutation(load().data)[: len(load().data) // 2]
        table = np.log1p(table) if name == "cancer" else table
        table = (table - table.mean(axis=0)) / table.std(axis=0)
        inputs, targets = table[:, first], table[:, second]
    best = np.linalg.lstsq(inputs, targets, rcond=None)[0]
    targets[:, -1] *= np.sign(np.linalg.det(best))  # as det X > 0 at the start, and stays so
    count = len(inputs)
    return inputs.T @ inputs / count, targets.T @ inputs / count, np.sum(targets**2) / count


class Loss:
    """Half the mean squared error, of a batch of problems."""

    def __init__(self, name):
        seeds = [problem(name, seed) for seed in range(N_SEEDS)]
        self.inputs, self.crossed, self.targets = map(np.array, zip(*seeds, strict=True))
        self.n = self.inputs.shape[-1]

    def gradient(self, X):
        return X @ self.inputs - self.crossed

    def __call__(self, X):
        return 0.5 * (np.sum(X * (self.gradient(X) - self.crossed), axis=(-2, -1)) + self.targets)

    @property
    def least(self):
        return self(self.crossed @ np.linalg.inv(self.inputs))


def trained(loss, depth, rng):
    """Return X at every other step, shape (seeds, steps, n, n)."""
    layers = np.linalg.qr(rng.normal(size=(depth, N_SEEDS, loss.n, loss.n)))[0]
    layers *= rng.uniform(0.1, 0.5, size=(N_SEEDS, 1, 1)) ** (3 / depth)
    layers[0, :, 0] *= np.sign(np.prod(np.linalg.det(layers), axis=0))[:, None]
    path = []
    for step in range(N_STEPS + 1):
        before = [np.broadcast_to(np.eye(loss.n), layers[0].shape)]
        for layer in layers:
            before.append(layer @ before[-1])
        X = before.pop()
        if step % EVERY == 0:
            path.append(X)
        back = loss.gradient(X)
        for layer, inputs in zip(layers[::-1], before[::-1], strict=True):
            further = layer.swapaxes(-1, -2) @ back
            layer -= RATE * back @ inputs.swapaxes(-1, -2)
            back = further
    return np.stack(path, axis=1)


# %%
# Each run is cut where the loss has done 10, 50 and 90 % of its decrease. Beside the distance of
# this geometry stand three others that are in use for such matrices.


def polar(X):
    """Return the orthogonal polar factor and the logarithm of the positive one."""
    left, values, right_t = np.linalg.svd(X)
    logarithm = (right_t.swapaxes(-1, -2) * np.log(values)[..., None, :]) @ right_t
    return left @ right_t, logarithm


def squared(difference):
    return np.sum(difference**2, axis=(-2, -1))


def bures_wasserstein(X, Y):
    """Return the squared Bures-Wasserstein distance of X^T X and Y^T Y."""
    nuclear = np.linalg.svd(X @ Y.swapaxes(-1, -2), compute_uv=False).sum(axis=-1)
    return squared(X) + squared(Y) - 2 * nuclear


names = ("DLN", "Frobenius", "log-Euclidean (polar)", "Bures-Wasserstein")
parts = ("start to 10 %", "10 to 50 %", "50 to 90 %")
rows, deep = [], []
for name in ("digits", "cancer", "wine", "diabetes"):
    loss = Loss(name)
    for depth in DEPTHS:
        path = trained(loss, depth, np.random.default_rng(depth))
        energies = loss(path.swapaxes(0, 1)).T
        space = DLNObservableManifold(loss.n, depth)
        done = (energies[:, :1] - energies) / (energies[:, :1] - loss.least[:, None])
        cuts = np.stack([np.argmax(done >= share, axis=1) for share in (0, 0.1, 0.5, 0.9)], axis=1)
        seeds = np.arange(N_SEEDS)[:, None]
        X, E, times = path[seeds, cuts], energies[seeds, cuts], EVERY * RATE * cuts
        polars = polar(X)
        squares = (
            space.metric.squared_dist(X[:, :-1], X[:, 1:]),
            squared(np.diff(X, axis=1)),
            sum(squared(np.diff(part, axis=1)) for part in polars),
            bures_wasserstein(X[:, :-1], X[:, 1:]),
        )
        long_enough = np.diff(cuts, axis=1) > 2
        for seed, part in np.argwhere(long_enough):
            time, lost = np.diff(times[seed])[part], -np.diff(E[seed])[part]
            rows.append((part, time, *(square[seed, part] / lost for square in squares)))
        checkpoints = np.unique(np.linspace(*cuts[0, [1, 2]], 9).astype(int))
        clock = training_clock(
            path[0, checkpoints],
            energies[0, checkpoints],
            EVERY * RATE * checkpoints,
            depth=depth,
            depths=(1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 8),
        )
        deep.append((depth, clock.fitted_depth))

part, time, *bounds = np.array(rows).T
ratios = np.array(bounds) / time
plateau = part == 0
print(f"{len(time)} segments; bound over time taken, medians; rank correlation on the plateau")
for name, bound, ratio in zip(names, bounds, ratios, strict=True):
    medians = "  ".join(f"{np.median(ratio[part == k]):.2f}" for k in range(3))
    correlation = spearmanr(bound[plateau], time[plateau])[0]
    print(f"{name:24}{medians}   above 1: {np.sum(ratio > 1):3}   {correlation:.3f}")

# %%
# On the diagonal, training is as fast as it can be; nothing is below it. In Frobenius norm the
# plateau is a vertical cloud: a small step of X takes any time.

figure, axes = plt.subplots(1, 3, figsize=(11, 3.8), layout="constrained", sharey=True)
for ax, name, bound in zip(axes, names, bounds, strict=False):
    for k, label in enumerate(parts):
        ax.loglog(bound[part == k], time[part == k], "o^s"[k], ms=4, color=COLORS[k], label=label)
    ends = np.array([time.min() / 3, time.max()])
    ax.plot(ends, ends, color="black", lw=1)
    ax.set(title=name, xlabel="squared distance / loss decrease")
axes[0].set_ylabel("learning rate x steps")
axes[0].legend()
plt.show()

# %%
# The depth of the network can be read off the end-to-end matrices alone: nine checkpoints of each
# first run, ten candidates.

right = sum(depth == fitted for depth, fitted in deep)
print(f"depth found: {right} of {len(deep)} runs")
