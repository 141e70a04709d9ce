"""
Geodesic balls and conjugate points
===================================

Where curvature is positive geodesics that leave one point come together again. The first time at
which infinitely near ones meet is the *conjugate time*: from there on a geodesic is no shortest
curve. Deep networks have such points, networks of two layers seem to have none (at invertible
matrices).

Here all of that is seen in a surface: positive definite 2 x 2 matrices with ``det X = 1``, drawn
by the two coordinates of ``log X = [[p, q], [q, -p]]``. The multiple of the identity is the middle.
At infinite depth this surface contains the geodesics that start along it; at finite depth sizes
change, and geodesics are drawn without theirs.
"""

# %%
# Balls around a matrix in the surface. Lengths are those of the metric ``N g_N``, comparable over
# the depth. At N = 2 the larger balls are not complete: singular matrices, where geodesics end, are
# within reach. At infinite depth none is.

import math

import matplotlib.pyplot as plt
import numpy as np

from dln_manifolds import DLNObservableManifold
from dln_manifolds.plotting import COLORS, DASHES


def unit_vectors(metric, X, angles):
    """Return vectors of length one in ``N g_N``: at angle 0 towards the middle, up to the sign."""
    N = metric.space.depth
    s = np.diag(X)
    roots = s ** (1 / N)
    inward = np.diag(s / roots * np.array([-roots[1], roots[0]]))
    across = np.array([[0.0, 1.0], [1.0, 0.0]])
    unit = math.sqrt(N) if math.isfinite(N) else 1.0
    inward, across = (metric.normalize(v, X) / unit for v in (inward, across))
    return np.cos(angles)[:, None, None] * inward + np.sin(angles)[:, None, None] * across


def coordinates(points):
    """Return p and q of positive definite matrices, without their size."""
    values, vectors = np.linalg.eigh((points + np.swapaxes(points, -1, -2)) / 2)
    logs = (vectors * np.log(values)[..., None, :]) @ np.swapaxes(vectors, -1, -2)
    return (logs[..., 0, 0] - logs[..., 1, 1]) / 2, logs[..., 0, 1]


metrics = {N: DLNObservableManifold(n=2, depth=N).metric for N in (2, 4, 8, 30, math.inf)}
X = np.diag(np.exp([1.0, -1.0]))
circle = np.linspace(0, 2 * np.pi, 65)
radii = (0.5, 1.0, 1.5, 2.0)
figure, axes = plt.subplots(1, 3, figsize=(12, 4), layout="constrained", sharey=True)
for ax, N in zip(axes, (2, 8, math.inf), strict=True):
    Z = unit_vectors(metrics[N], X, circle)
    # A finite depth has singular matrices at a finite distance: what is left of a ball is drawn.
    found = metrics[N].solve_exp(np.multiply.outer(radii, Z), X)
    ends = np.where(found.success[..., None, None], found.end_point, np.eye(2))
    p, q = np.where(found.success, coordinates(ends), np.nan)
    for k in range(len(radii)):
        ax.plot(p[k], q[k], color=COLORS[0], linewidth=1 + 0.3 * k)
    ax.plot(0, 0, "+", color="black")
    ax.plot(*coordinates(X), "o", color="black", markersize=4)
    ax.set(title=f"N = {N}", xlabel="p", aspect="equal")
axes[0].set_ylabel("q")
plt.show()

# %%
# The geodesics that start towards the middle, at infinite depth and at N = 2. At infinite depth
# those on both sides of the straight one cross it, the sooner the nearer they are to it, and touch
# a curve of conjugate points, the dots. At N = 2 they only spread.

fan = np.radians(np.linspace(-40, 40, 17))
times = np.linspace(0, 1, 121)
figure, axes = plt.subplots(1, 2, figsize=(12, 4), layout="constrained")
for ax, (N, far) in zip(axes, ((math.inf, 12.0), (2, 7.0)), strict=True):
    Z = unit_vectors(metrics[N], X, fan)
    path = metrics[N].geodesic(X, initial_tangent_vec=far * Z)
    p, q = coordinates(path(times))
    ax.plot(p.T, q.T, color=COLORS[0], linewidth=0.7)
    T = metrics[N].conjugate_time(Z, X, t_max=far)
    seen = np.isfinite(T)
    if seen.any():
        where = metrics[N].exp(T[seen, None, None] * Z[seen], X)
        ax.plot(*coordinates(where), "o", color=COLORS[1], markersize=4, label="conjugate")
        ax.legend()
    ax.plot(0, 0, "+", color="black")
    ax.set(title=f"N = {N}", xlabel="p", ylabel="q")
plt.show()

# %%
# First conjugate times by the angle from the straight line through the middle. They come sooner
# the deeper the network is; from a certain angle on there is none. No conjugate time at infinite
# depth was ever seen below pi sqrt(2): that is the one of constant curvature 1/2, which is the
# largest curvature that was seen.

angles = np.radians(np.linspace(0, 60, 13))
conjugate = {N: m.conjugate_time(unit_vectors(m, X, angles), X, 20.0) for N, m in metrics.items()}
figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for style, (N, T) in enumerate(conjugate.items()):
    label = f"N = {N}" if np.isfinite(T).any() else f"N = {N}: none"
    look = {"color": COLORS[style], "linestyle": DASHES[style % len(DASHES)], "label": label}
    ax.plot(np.degrees(angles), np.where(np.isfinite(T), T, np.nan), **look)
ax.axhline(math.pi * math.sqrt(2), color="black", linewidth=0.8)
ax.set(xlabel="angle (degrees)", ylabel="first conjugate time", ylim=(0, 20))
ax.legend()
plt.show()

# %%
# In numbers. Around the identity, at infinite depth, circles of radius r have in closed form the
# circumference ``2 pi r sqrt(tanh(r / sqrt 2) sqrt(2) / r)``: less than Euclid's.

circumferences = {}
for r in radii:
    metric, steps = metrics[math.inf], circle[:-1]
    points = metric.exp(r * unit_vectors(metric, np.eye(2), steps), np.eye(2))
    # Derivative by the angle, of a periodic function.
    waves = 1j * np.fft.fftfreq(steps.size, 1 / steps.size)[:, None, None]
    speed = np.fft.ifft(waves * np.fft.fft(points, axis=0), axis=0).real
    length = 2 * np.pi * metric.norm(speed, points).mean()
    closed = 2 * np.pi * r * math.sqrt(math.sqrt(2) / r * math.tanh(r / math.sqrt(2)))
    circumferences[r] = length, closed
    print(f"r = {r}: circumference {length:.6f}, {length / (2 * np.pi * r):.4f} of Euclid's")
for N, T in conjugate.items():
    print(f"N = {N}: first conjugate time {T.min():.4f}, on {np.isfinite(T).sum()} of {T.size}")
