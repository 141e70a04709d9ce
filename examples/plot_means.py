"""
Fréchet mean against Euclidean mean
===================================

The Fréchet mean minimizes the mean of the squared distances of the deep linear network, the
Euclidean mean that of the entries. Matrices whose singular vectors differ cancel each other in the
sum of their entries: the Euclidean mean is flatter than all of them. The Fréchet mean keeps their
size.
"""

# %%
# Two dozen 2 x 2 matrices: elongated, with random singular vectors around one direction.

import matplotlib.pyplot as plt
import numpy as np
from geomstats.learning.frechet_mean import FrechetMean

from dln_manifolds import DLNObservableManifold
from dln_manifolds.plotting import COLORS, plot_mean

rng = np.random.default_rng(3)
space = DLNObservableManifold(n=2, depth=3)


def rotation(angle):
    """Return rotations of the plane, shape (..., 2, 2)."""
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([np.stack([c, -s], -1), np.stack([s, c], -1)], -2)


left, right = rng.normal(scale=0.8, size=(2, 24))
values = np.exp(rng.normal([0.4, -0.7], 0.25, size=(24, 2)))
points = (rotation(left) * values[:, None, :]) @ rotation(right)

estimator = FrechetMean(space).set(epsilon=1e-24, max_iter=100)
frechet = estimator.fit(points).estimate_
euclidean = points.mean(axis=0)

# %%
# Left: the images of the unit circle under each matrix. Right: the matrices in the tangent space
# at the Fréchet mean, in the two directions in which they vary most. The Euclidean mean differs
# from the Fréchet mean in another direction, its size; its distance stands in the legend.

circle = np.stack([np.cos(t := np.linspace(0, 2 * np.pi, 201)), np.sin(t)])
figure, (left_ax, right_ax) = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
for k, point in enumerate(points):
    label = None if k else "the matrices"
    left_ax.plot(*(point @ circle), color="#8a8a8a", linewidth=0.7, label=label)
for mean, name, color, dashes in (
    (frechet, "Fréchet mean", COLORS[0], "-"),
    (euclidean, "Euclidean mean", COLORS[1], "--"),
):
    left_ax.plot(*(mean @ circle), dashes, color=color, linewidth=3, label=name)
left_ax.set(aspect="equal", title="Images of the unit circle", ylim=(None, 2.6))
left_ax.legend(loc="upper left")
plot_mean(space, points, frechet, right_ax, others={"Euclidean mean": euclidean})
right_ax.set_title("Principal directions at the Fréchet mean")
plt.show()

# %%
# In numbers: the gradient of the variance at the Fréchet mean, both variances at both means, and
# the determinants beside their geometric average, which shows how much volume each mean keeps.

gradient = float(space.metric.norm(space.metric.log(points, frechet).mean(axis=0), frechet))
variances = {
    "Fréchet mean": space.metric.squared_dist(points, frechet).mean(),
    "Euclidean mean": space.metric.squared_dist(points, euclidean).mean(),
}
typical = float(np.exp(np.log(np.linalg.det(points)).mean()))
print(f"norm of the gradient at the Fréchet mean: {gradient:.1e}")
for mean, name in ((frechet, "Fréchet mean"), (euclidean, "Euclidean mean")):
    print(f"{name}: variance {variances[name]:.4f}, det {np.linalg.det(mean):.4f}")
print(f"geometric average of the determinants: {typical:.4f}")
