"""
From depth 1 to infinity
========================

At depth 1 geodesics are straight lines. As N grows, ``N`` times the metric has a limit, which is
``DLNObservableManifold(n=3, depth=math.inf)``: a change of X of entries ``Z_ij`` in the singular
frame has there the squared length

.. math:: \\sum_{ij} \\frac{Z_{ij}^2}{a_{ij}}, \\qquad
          a_{ij} = \\frac{s_i^2 - s_j^2}{2 \\log (s_i / s_j)}, \\qquad a_{ii} = s_i^2.

Only square matrices of full rank have this limit: beside the core, lengths grow without bound.
"""

# %%
# One pair of 3 x 3 matrices at four depths. The deeper the network, the more evenly the logarithms
# of the singular values move. Their sum, ``log |det X(t)|``, is a straight line at infinite depth;
# at the others it bends.

import math

import matplotlib.pyplot as plt
import numpy as np

from dln_manifolds import DLNObservableManifold
from dln_manifolds.plotting import COLORS, DASHES, plot_singular_values

X = np.array([[1.6, 0.4, 0.0], [-0.2, 0.9, 0.3], [0.1, 0.0, 0.4]])
Y = np.array([[0.5, -0.9, 0.2], [1.2, 0.8, -0.1], [0.3, 0.1, 1.1]])


def metric(depth):
    """Return the metric of 3 x 3 matrices at a depth."""
    return DLNObservableManifold(n=3, depth=depth).metric


times = np.linspace(0, 1, 101)
off_line = {}
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
for style, depth in enumerate((1, 2, 8, math.inf)):
    geodesic = metric(depth).geodesic(X, end_point=Y)
    plot_singular_values(geodesic, left, label=f"N = {depth}", style=style)
    log_det = np.linalg.slogdet(geodesic(times))[1]
    off_line[depth] = log_det - ((1 - times) * log_det[0] + times * log_det[-1])
    look = {"color": COLORS[style], "linestyle": DASHES[style]}
    right.plot(times, off_line[depth], label=f"N = {depth}", **look)
left.set_title("Singular values along geodesics")
right.set(xlabel="time t", title="log |det X(t)| less the straight line")
right.legend()
plt.show()

# %%
# Distances are those of the layers, and with the factor of the metric they are comparable:
# ``sqrt(N) d_N`` tends to the distance at infinity, and the difference falls like 1/N. It changes
# its sign with ``X -> X^{-1}``, which is an isometry at infinity alone: the mean of the distances
# of two matrices and of their inverses comes near like 1/N^2.

inverses = np.linalg.inv(X), np.linalg.inv(Y)
depths = 2 ** np.arange(11)
limit = metric(math.inf).dist(X, Y)
scaled = np.array([math.sqrt(N) * metric(N).dist(X, Y) for N in depths])
inverted = np.array([math.sqrt(N) * metric(N).dist(*inverses) for N in depths])
differences = {
    "X and Y": np.abs(scaled / limit - 1),
    "mean with that of the inverses": np.abs((scaled + inverted) / (2 * limit) - 1),
}

# %%
# The way from X to Y is found in coordinates in which nothing grows with the depth: the orthogonal
# frames of X, and ``N (s_i^(1/N) - 1)``, which tends to ``log s_i``. Counted are evaluations of the
# metric at a point, for forty pairs of random matrices.

rng = np.random.default_rng(1)
starts, ends = rng.normal(size=(2, 40, 3, 3))
ends[:, 0] *= np.sign(np.linalg.det(starts @ ends))[:, None]
tried = (2, 4, 10, 100, 1000, 10_000, 1_000_000, math.inf)
solutions = {N: metric(N).solve_log(ends, starts) for N in tried}
counts = {N: int(solution.n_evaluations.sum()) for N, solution in solutions.items()}

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
for k, (name, difference) in enumerate(differences.items()):
    left.loglog(depths, difference, marker="os"[k], color=COLORS[k], label=name)
left.set(xlabel="depth N", title="Relative difference from the distance at infinity")
left.legend()
right.bar(range(len(tried)), counts.values(), color=COLORS[0])
right.set_xticks(range(len(tried)), [f"{N:g}" for N in tried])
right.set(xlabel="depth N", title="Evaluations for forty logarithms")
plt.show()

# %%
# In numbers: the ratios by which doubling the depth divides the differences, how straight
# ``log |det X(t)|`` is, two isometries at infinite depth that no finite one has, and the counts.

for N in (1, 2, 8, 64, 1024):
    print(f"N = {N}: sqrt(N) d_N = {scaled[depths == N][0]:.6f}")
print(f"N = inf: d = {limit:.6f}")
ratios = {name: float(value[-2] / value[-1]) for name, value in differences.items()}
for name, ratio in ratios.items():
    print(f"from N = 512 to 1024 the difference falls by the factor {ratio:.2f}: {name}")
for depth, difference in off_line.items():
    print(f"N = {depth}: log|det X(t)| leaves the line by {np.abs(difference).max():.1e}")
moved = {
    "inverses": metric(math.inf).dist(*inverses),
    "5 X and 5 Y": metric(math.inf).dist(5 * X, 5 * Y),
}
for name, distance in moved.items():
    print(f"N = inf, {name}: relative change of the distance {abs(distance / limit - 1):.1e}")
for N, solution in solutions.items():
    print(
        f"N = {N}: {solution.success.sum()} of {solution.success.size} solved, "
        f"{counts[N]} evaluations"
    )
