"""
The entropy of a matrix, at several depths
==========================================

A matrix X has many balanced factorizations ``W_N ... W_1 = X``: an orbit of ``O(n)^(N-1)``. The
logarithm of its volume is the Boltzmann entropy of X,

.. math:: S(X) = (N-1) \\log c_n
          + \\tfrac12 \\sum_{i<j} \\log \\frac{s_i^2 - s_j^2}{s_i^{2/N} - s_j^{2/N}}

(Menon and Yu, arXiv 2509.09088), with ``c_n`` the volume of O(n). It depends on the singular values
alone.
"""

# %%
# Over the plane of the two singular values of a 2 x 2 matrix. The formula is a quotient of
# differences, yet nothing happens on the diagonal, where the singular values agree: the quotient
# has a limit there, and it is computed without cancellation. At depth 1 the entropy is constant,
# since X is its own only factorization.

import matplotlib.pyplot as plt
import numpy as np

from dln_manifolds import BalancedManifold, DLNObservableManifold
from dln_manifolds.plotting import COLORS, DASHES, plot_entropy_landscape

depths = (2, 3, 10)
figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
for ax, depth in zip(axes, depths, strict=True):
    plot_entropy_landscape(DLNObservableManifold(2, depth), ax)
    ax.set_title(f"N = {depth}")
    ax.label_outer()
plt.show()

# %%
# Now along a circle of matrices with the same Frobenius norm, ``(s_1, s_2) = (cos theta, sin
# theta)``. At 45 degrees stand the multiples of orthogonal matrices: they have the largest fibre,
# and the more so the deeper the network. At 0 and 90 degrees X is singular. The entropy has a
# finite limit there, below that at 45 degrees by ``(1/2) log N + (1/2 - 1/(2N)) log(1/2)``; deep
# networks come near to it very close to the singular matrices only.

theta = np.radians(np.linspace(0.01, 89.99, 400))
circle = np.zeros((len(theta), 2, 2))
circle[:, 0, 0], circle[:, 1, 1] = np.cos(theta), np.sin(theta)
even = np.eye(2) / np.sqrt(2)

figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
ends = {}
for k, depth in enumerate((2, 3, 4, 10, 100)):
    space = DLNObservableManifold(2, depth)
    relative = space.entropy(circle) - space.entropy(even)
    ax.plot(np.degrees(theta), relative, color=COLORS[k], linestyle=DASHES[k], label=f"N = {depth}")
    ends[depth] = relative[0]
ax.set(
    xlabel=r"angle $\theta$ of $(s_1, s_2)$, in degrees",
    ylabel="S(X) - S(equal singular values)",
    xticks=[0, 15, 30, 45, 60, 75, 90],
    xlim=(0, 90),
)
ax.legend()
plt.show()

# %%
# At N = 2 and n = 2 the fibre is two circles, whose length can be measured with a ruler: turn one
# factorization by the rotations h and by a reflection, and add up the distances. It agrees with
# the formula.

space, total = DLNObservableManifold(2, 2), BalancedManifold(2, 2)
X = np.diag([3.0, 0.5])
angle = np.linspace(0, 2 * np.pi, 10_001)
turn = np.moveaxis([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], -1, 0)
measured = 0.0
for h in (turn, turn @ np.diag([1.0, -1.0])):
    circle = total.act(h[:, None], total.factor(X))
    measured += np.sqrt((np.diff(circle, axis=0) ** 2).sum(axis=(1, 2, 3))).sum()
volume = space.volume_density(X)
print(f"volume of the fibre over diag(3, 1/2): {volume:.6f}, measured {measured:.6f}")
for depth, value in ends.items():
    print(f"N = {depth:3d}: S(nearly singular) - S(equal singular values) = {value:+.4f}")
