"""
Lemma 2.2 and Theorem 2.3, examined
===================================

Chen (arXiv 2510.07324) looks for geodesics that are straight lines of layers. Two sets of balanced
layers ``W_p = U_p L U_{p-1}^T`` and ``W'_p = U'_p L' U'_{p-1}^T``, L and L' the diagonal matrices
of roots, differ by the rotations ``O_p = U_p^T U'_p``. Lemma 2.2, as its wording can be read:

1. the line between them is balanced at all times if and only if every
   ``S_p = L (O_{p+1} - O_{p-1}) L' O_p^T``, p = 1, ..., N - 1, is skew;
2. that all O_p are the same is enough, and then no layer of the line becomes singular.

Theorem 2.3 gives an explicit geodesic between end points whose left and right singular vectors
are related by one orthogonal matrix Q. We know its subject, not its formula (2.8): what follows
examines one reading of it, no more.
"""

# %%
# **Lemma 2.2 holds.** The direction D of a line has the imbalance ``-2 U_p sym(S_p) U_p^T``,
# so the first part is an identity: both sides agree to rounding, for rotations that have nothing in
# common, that are all the same, and that alternate. The last ones make a balanced line, too: the
# second part is sufficient, and not necessary. That will matter.

import matplotlib.pyplot as plt
import numpy as np

from dln_manifolds import DLNObservableManifold
from dln_manifolds.geometry.alignment import align
from dln_manifolds.geometry.straight_lines import straight_line
from dln_manifolds.plotting import COLORS, DASHES

rng = np.random.default_rng(3)
n = 3


def rotations(count):
    """Draw orthogonal matrices with det = 1, shape (count, n, n)."""
    q = np.linalg.qr(rng.normal(size=(count, n, n)))[0]
    q[..., 0] *= np.linalg.det(q)[:, None]
    return q


def layers(frames, roots):
    """Return the layers with bases U_0, ..., U_N and roots."""
    return (frames[1:] * roots) @ frames[:-1].swapaxes(-1, -2)


N = 4
U, (first, last) = rotations(N + 1), rotations(2)
l0, l1 = np.exp(rng.uniform(-0.5, 0.5, (2, n)))
kinds = {
    "nothing in common": rotations(N + 1),
    "all the same": np.stack([first] * (N + 1)),
    "alternating": np.stack([(first, last)[p % 2] for p in range(N + 1)]),
}
lemma = {}
for name, turns in kinds.items():
    start, end = layers(U, l0), layers(U @ turns, l1)
    D = end - start
    imbalance = D[1:].swapaxes(-1, -2) @ D[1:] - D[:-1] @ D[:-1].swapaxes(-1, -2)
    S = l0[:, None] * (turns[2:] - turns[:-2]) * l1 @ turns[1:-1].swapaxes(-1, -2)
    predicted = -U[1:-1] @ (S + S.swapaxes(-1, -2)) @ U[1:-1].swapaxes(-1, -2)
    line = straight_line(start, end)
    lemma[name] = {
        "imbalance": np.abs(imbalance).max(),
        "identity": np.abs(imbalance - predicted).max(),
        "singular": line.singular_time,
        "vertical": line.vertical_defect,
    }
    print(
        f"rotations {name}: imbalance of D {lemma[name]['imbalance']:.1e}, that of S_p to "
        f"{lemma[name]['identity']:.0e}; vertical part {lemma[name]['vertical']:.3f}"
    )

# %%
# **Theorem 2.3, read as its proof says**: one rotation Q for all layers. Here X_0 is diagonal with
# the singular values 4 and 1/4, and X_1 has the same ones with singular vectors turned by an angle.
# The line is balanced, by the lemma. But a geodesic of end-to-end matrices lies below a line that
# is *horizontal*, too. This one is not, unless the matrices commute, at an angle of zero or ninety
# degrees. So it is longer than the distance.

angles = np.radians(np.linspace(0, 90, 31))
c, s = np.cos(angles), np.sin(angles)
Q = np.stack([np.stack([c, -s], -1), np.stack([s, c], -1)], -2)
values = np.array([4.0, 0.25])
X0, X1 = np.diag(values), (Q * values) @ Q.swapaxes(-1, -2)

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
readings, aligned = {}, {}
for style, depth in enumerate((2, 3, 4)):
    metric = DLNObservableManifold(2, depth).metric
    distance = np.where(angles == 0, 0.0, metric.dist(X0, X1))
    root = np.diag(values ** (1 / depth))
    start = np.stack([root] * depth)
    end = np.stack([Q @ root @ Q.swapaxes(-1, -2)] * depth, axis=-3)
    line = straight_line(start, end)
    excess = line.length[1:] / distance[1:] - 1
    readings[depth] = {"line": line, "excess": excess}
    # The same fibre, but the point nearest to the start: horizontal by construction.
    aligned[depth] = straight_line(start, align(end, start).layers)
    look = {"color": COLORS[style], "linestyle": DASHES[style], "label": f"N = {depth}"}
    left.plot(np.degrees(angles), line.vertical_defect, **look)
    right.plot(np.degrees(angles[1:]), 100 * excess, **look)
left.set(xlabel="angle (degrees)", title="Vertical part of the line, of its length")
right.set(xlabel="angle (degrees)", title="How much longer than the geodesic (%)")
left.legend()
plt.show()

# %%
# **At N = 2 another line is the geodesic.** Turning the hidden frame so that the layers are nearest
# to each other makes rotations that alternate, ``O_0 = O_2`` and another O_1: the line stays
# balanced by the first part of the lemma, though the second part does not see it, and becomes
# horizontal. Its length is the distance, that of Bures and Wasserstein. From N = 3 on, layers that
# are aligned have no balanced line between them, and the geodesic is not known in closed form.

gap = {}
for depth, line in aligned.items():
    metric = DLNObservableManifold(2, depth).metric
    gap[depth] = np.abs(line.length[1:-1] / metric.dist(X0, X1[1:-1]) - 1).max()
    print(
        f"N = {depth}: one rotation for all layers leaves a vertical part of up to "
        f"{readings[depth]['line'].vertical_defect.max():.2f} and is up to "
        f"{100 * readings[depth]['excess'].max():.2f} % longer; aligned layers: imbalance up to "
        f"{line.balance_defect.max():.0e}, length off by {gap[depth]:.0e}"
    )
