"""
Noisy training in the landscape of the free energy
==================================================

Balanced layers of a network of depth 3 are trained with noise towards a matrix with the singular
values 2 and 0.2. Their product X follows the Riemannian Langevin equation of the free energy
``F_b = E - S / b``: noise along the fibres pushes X to where the entropy S is large, noise across
them makes X diffuse.
"""

# %%
# Trajectories of the singular values at three temperatures, above the free energy at equal singular
# vectors. The cross is where F is least. At low temperature training ends there; at high
# temperature it wanders, and the small singular value knows nothing any more of its target.

import matplotlib.pyplot as plt
import numpy as np

from dln_manifolds import DLNObservableManifold, costs
from dln_manifolds.dynamics import GibbsMeasure, langevin
from dln_manifolds.plotting import COLORS, DASHES

depth, wanted = 3, np.array([2.0, 0.2])
Y = np.diag(wanted)
space, loss = DLNObservableManifold(2, depth), costs.MatrixCompletion(Y, np.ones((2, 2)))
entropy = costs.Entropy(depth)
temperatures = (0.005, 0.05, 0.5)
side = np.linspace(0.01, 3.2, 161)
plane = np.zeros((side.size, side.size, 2, 2))
plane[..., 0, 0], plane[..., 1, 1] = side[None, :], side[:, None]
start = np.stack([0.3 * np.eye(2)] * 100)

figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained", sharey=True)
runs, least = {}, {}
for ax, temperature in zip(axes, temperatures, strict=True):
    measure = GibbsMeasure(space, loss, loss.euclidean_gradient, 1 / temperature)
    runs[temperature] = langevin(measure, start, 0.02, 400, scheme="layers", thin=2, rng=0)
    free = loss(plane) - temperature * entropy(plane)
    free[side[:, None] > side[None, :]] = np.nan
    place = np.unravel_index(np.nanargmin(free), free.shape)
    least[temperature] = side[place[1]], side[place[0]]
    ax.contourf(side, side, free - np.nanmin(free), np.linspace(0, 3, 25), cmap="cividis")
    values = runs[temperature].singular_values
    for k in range(3):
        ax.plot(*values[:, k].T, color=("w", COLORS[5], COLORS[4])[k], linewidth=0.7)
    ax.plot(*least[temperature], "kX", markersize=9, markeredgecolor="w")
    ax.set(title=f"temperature {temperature:g}", xlabel="$s_1$", xlim=(0, 3.2), ylim=(0, 3.2))
axes[0].set_ylabel("$s_2$")
plt.show()

# %%
# Means over 100 chains. Soon the loss is what the temperature costs, about half of it for each of
# the four entries of X. The entropy rises while X grows, and stays. At high temperature it wanders
# far: to matrices with one small singular value, whose fibres are small.

figure, (loss_ax, entropy_ax) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
ends = {}
for k, temperature in enumerate(temperatures):
    run, look = runs[temperature], {"color": COLORS[k], "linestyle": DASHES[k]}
    for ax, value in ((loss_ax, loss(run.points)), (entropy_ax, entropy(run.points))):
        mean, spread = value.mean(axis=1), value.std(axis=1)
        ax.plot(run.times, mean, label=f"temperature {temperature:g}", **look)
        ax.fill_between(run.times, mean - spread, mean + spread, color=COLORS[k], alpha=0.2)
        ends.setdefault(temperature, []).append(mean[len(mean) // 2 :].mean())
loss_ax.set(xlabel="time", yscale="log", ylim=(1e-3, 10), title="loss E")
entropy_ax.set(xlabel="time", title="entropy S")
loss_ax.legend()
plt.show()

for temperature, (energy, volume) in ends.items():
    print(f"temperature {temperature:5g}: mean loss {energy:.4f}, mean entropy {volume:.3f}")
