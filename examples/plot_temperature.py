"""
Gradient flow and minimizers at several temperatures
====================================================

Noise in the layers moves them along the fibres too, and a matrix with a larger fibre is found more
often. At the inverse temperature beta, training minimizes the free energy

.. math:: F_\\beta(X) = E(X) - S(X) / \\beta

of the loss E and the Boltzmann entropy S (Menon, arXiv 2411.09004; Chen, Kotwal and Menon, arXiv
2512.06137): at low temperature the loss decides, at high temperature the size of the fibre. Here
X is followed alone; ``plot_free_energy.py`` trains the layers.
"""

# %%
# The loss is half the squared distance to a matrix Y of width 4 with singular values 3, 1, 0.3
# and 0.03. From small balanced layers, gradient flow finds them one after the other; with
# temperature, it stops where the pull of the loss and the push of the entropy are equal.

import matplotlib.pyplot as plt
import numpy as np
import pymanopt

from dln_manifolds import DLNObservableManifold, costs, pymanopt_problem
from dln_manifolds.dynamics.gradient_flow import flow_of_point
from dln_manifolds.plotting import COLORS, DASHES

depth = 4
wanted = np.array([3.0, 1.0, 0.3, 0.03])
rng = np.random.default_rng(0)
left, right = np.linalg.qr(rng.normal(size=(2, 4, 4)))[0]
Y = (left * wanted) @ right.T
loss = costs.MatrixCompletion(Y, np.ones((4, 4)))
start = 0.02 * left @ right.T
times = np.linspace(0, 12, 121)

figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained", sharey=True)
for ax, temperature in zip(axes, (0.0, 0.02, 0.2), strict=True):
    beta = np.inf if temperature == 0 else 1 / temperature
    cost = costs.free_energy(loss, beta, depth)
    flow = flow_of_point(start, depth, cost.euclidean_gradient, times, energy=cost)
    spectra = np.linalg.svd(flow.points, compute_uv=False)
    for k in range(4):
        ax.plot(times, spectra[:, k], color=COLORS[k], linestyle=DASHES[k], label=f"$s_{k + 1}$")
        ax.axhline(wanted[k], color=COLORS[k], linewidth=0.8)
    ax.set(title=f"temperature {temperature:g}", xlabel="time", yscale="log", xlim=(0, 12))
axes[0].set_ylabel("singular values of X(t)")
axes[0].set_title("temperature 0 (thin: singular values of Y)")
axes[0].set_ylim(bottom=4e-3)
axes[2].legend(loc="lower right", ncols=2)
plt.show()

# %%
# The minimizers themselves, by pymanopt's trust regions with exact Hessians. Temperature hardly
# touches the large singular values, and raises the small ones: below some size they carry no
# information about Y. Minimizers at rising temperatures, each started at the last one.

space = DLNObservableManifold(4, depth)
temperatures = np.concatenate([[0.0], np.geomspace(1e-4, 1, 21)])
minimizers, residuals = [Y], []  # at zero temperature the loss alone counts
for temperature in temperatures[1:]:
    cost = costs.free_energy(loss, 1 / temperature, depth)
    solver = pymanopt.optimizers.TrustRegions(verbosity=0, min_gradient_norm=1e-9)
    point = solver.run(pymanopt_problem(space, cost), initial_point=minimizers[-1]).point
    gradient = space.euclidean_to_riemannian_gradient(point, cost.euclidean_gradient(point))
    minimizers.append(point)
    residuals.append(space.norm(point, gradient))
minimizers = np.stack(minimizers)
spectra = np.linalg.svd(minimizers, compute_uv=False)

figure, (spectrum_ax, energy_ax) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for k in range(4):
    look = {"color": COLORS[k], "linestyle": DASHES[k], "label": f"$s_{k + 1}$"}
    spectrum_ax.loglog(temperatures[1:], spectra[1:, k], **look)
    spectrum_ax.axhline(wanted[k], color=COLORS[k], linewidth=0.8)
spectrum_ax.set(
    xlabel="temperature 1 / beta",
    ylabel="singular values",
    title="Minimizers of the free energy (thin: those of Y)",
)
spectrum_ax.set_ylim(bottom=0.01)
spectrum_ax.legend(ncols=4, loc="lower center")
energies, entropies = loss(minimizers), space.entropy(minimizers)
energy_ax.loglog(temperatures[1:], energies[1:], color=COLORS[0], label="loss E")
gain = entropies - entropies[0]
energy_ax.loglog(temperatures[1:], gain[1:], "--", color=COLORS[1], label="gain of entropy")
energy_ax.set(xlabel="temperature 1 / beta", title="What is paid and what is won")
energy_ax.legend()
plt.show()

# %%
# The minimizer keeps the singular vectors of Y, and its singular values solve ``s_i - y_i =
# (dS/ds_i) / beta``. Moreover ``dE = dS / beta`` along the family of minimizers, as in
# thermodynamics.

k = 15
derivative = np.diag(left.T @ costs.Entropy(depth).euclidean_gradient(minimizers[k]) @ right)
balance = np.abs(spectra[k] - wanted - temperatures[k] * derivative).max()
slope = np.gradient(energies, entropies)[k]
print(f"largest gradient norm at a minimizer: {max(residuals):.1e}")
print(f"at temperature {temperatures[k]:.4f}: equation of the singular values to {balance:.1e}")
print(f"dE/dS = {slope:.4f} by differences")
