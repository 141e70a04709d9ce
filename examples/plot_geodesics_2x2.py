"""
A geodesic of 2 x 2 matrices, and the straight line
===================================================

The straight line from X to Y is the shortest way in the entries of the matrix. For the network
``X = W_N ... W_1`` it is not: it may pass through singular matrices, where a layer loses rank. The
geodesic of the deep linear network turns the singular vectors instead, and keeps clear of them.
"""

# %%
# Two matrices with det > 0. The first stretches the first unit vector most, the second the other
# one: on the way the image of the first unit vector, the dot in the figure, has to turn and
# shrink.

import matplotlib.pyplot as plt
import numpy as np

from dln_manifolds import DLNObservableManifold
from dln_manifolds.plotting import plot_geodesic, plot_singular_values

X = np.array([[2.0, 0.3], [0.0, 0.5]])
Y = np.array([[-0.12, -1.27], [0.27, -0.58]])

space = DLNObservableManifold(n=2, depth=4)
geodesic = space.metric.solve_log(Y, X)


def straight(t):
    """Return points of the straight line."""
    t = np.asarray(t)[..., None, None]
    return (1 - t) * X + t * Y


# %%
# Each ellipse is the image of the unit circle under X(t). On the straight line the ellipse
# collapses to a segment twice, where det X(t) = 0, and between these times it is turned inside
# out.

figure, axes = plt.subplots(2, 1, figsize=(10, 2.6), layout="constrained", sharex=True)
plot_geodesic(geodesic, axes[0], n_ellipses=7)
plot_geodesic(straight, axes[1], n_ellipses=7)
axes[0].set(title="Geodesic at depth 4", xlabel="")
axes[1].set(title="Straight line")
for ax in axes:
    ax.set_yticks([-0.5, 0.5])
    ax.spines[["right", "top"]].set_visible(False)
plt.show()

# %%
# The singular values show how close each path comes to a singular matrix: along these geodesics
# the smaller one hardly falls below its end values, and the less so the deeper the network.

figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for style, depth in enumerate((2, 4, 16)):
    path = DLNObservableManifold(2, depth).metric.geodesic(X, end_point=Y)
    plot_singular_values(path, ax, label=f"geodesic, N = {depth}", style=style)
plot_singular_values(straight, ax, n_times=1001, label="straight line", style=3)
ax.set(ylim=(1e-3, 4), title="Singular values along the paths")
plt.show()

# %%
# The solution knows its length, a rigorous lower bound on the distance, and its residual: how far
# from Y the geodesic equation leads, solved from X and the velocity.

times = np.linspace(0, 1, 2001)
smallest = {
    "geodesic": np.linalg.svd(geodesic(times), compute_uv=False)[:, 1].min(),
    "straight": np.linalg.svd(straight(times), compute_uv=False)[:, 1].min(),
}
speed = np.gradient(geodesic(times), times, axis=0)[1:-1]
speeds = space.metric.norm(speed, geodesic(times)[1:-1])
spread = float(np.ptp(speeds) / geodesic.length)
print(f"length {geodesic.length:.6f}, at least {geodesic.lower_bound:.6f}")
print(f"residual {geodesic.residual:.1e}, relative change of the speed {spread:.1e}")
print(f"det on the straight line falls to {np.linalg.det(straight(times)).min():.4f}")
print(f"smallest singular value: {smallest['geodesic']:.4f} along the geodesic")
