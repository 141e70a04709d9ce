"""
Three kinds of noise in training
================================

A small real problem: the first two principal components of the lower half of a handwritten digit
are predicted from those of its upper half, by a deep linear network of depth 3 and width 2. Inputs
have unit covariance, so the loss is ``E = |X - Y|^2 / 2`` up to a constant, Y the least squares
map. Three ways to train it with noise, and the laws of the singular values to which they come:

- the **Riemannian Langevin equation** of balanced layers, at the inverse temperature b;
- **free layers** with weight decay mu and independent noise in all weights, of density
  ``exp(-b (E + mu sum |W_p|^2 / 2))``;
- **stochastic gradient descent with label noise**, whose noise comes through the gradient.
"""

# %%
# The data.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from dln_manifolds import BalancedManifold, DLNObservableManifold
from dln_manifolds.dynamics import GibbsMeasure, langevin
from dln_manifolds.geometry.balancing import end_to_end, end_to_end_pullback, relative_imbalance
from dln_manifolds.plotting import COLORS

depth, decay = 3, 0.25
space, total = DLNObservableManifold(2, depth), BalancedManifold(2, depth)
images = load_digits().images
upper, lower = images[:, :4].reshape(-1, 32), images[:, 4:].reshape(-1, 32)
inputs = PCA(2, whiten=True, svd_solver="full").fit_transform(upper)
targets = PCA(2, svd_solver="full").fit_transform(lower) / 5
Y = (np.linalg.pinv(inputs) @ targets).T
print("singular values of the least squares map:", np.linalg.svd(Y, compute_uv=False).round(3))


def loss(X):
    return 0.5 * np.sum((X - Y) ** 2, axis=(-2, -1))


# %%
# **What agrees.** Where weight decay is stiff beside the noise, ``b mu s^(2/N) >> 1``, free layers
# stay close to balanced ones, on which ``sum |W_p|^2 = N sum s^(2/N)``. What the noise does beside
# them is the same at every X, so the law of X is that of the Langevin equation with the energy
# ``E_eff = E + (mu/2) N sum s^(2/N)``. So it is measured at low temperature. Where the condition
# fails, means change little; what differs is the part of the law near ``s_2 = 0``, where fewer free
# layers are found. The layers themselves are never balanced. Without decay free layers have no
# equilibrium.


def effective(X):
    s = np.linalg.svd(X, compute_uv=False)
    return loss(X) + 0.5 * decay * depth * np.sum(s ** (2 / depth), axis=-1)


def effective_gradient(X):
    u, s, vt = np.linalg.svd(X)
    s = np.maximum(s, 1e-15)
    return X - Y + decay * (u * s[..., None, :] ** (2 / depth - 1)) @ vt


def train_freely(beta, n_chains=400, step=0.01, n_steps=2500):
    """Follow ``dW = -(dE/dW + mu W) dt + sqrt(2/b) dB``; return layers at later times."""
    rng = np.random.default_rng(int(beta))
    W, kept = np.stack([total.factor(Y)] * n_chains), []
    for k in range(n_steps):
        force = end_to_end_pullback(W, end_to_end(W) - Y) + decay * W
        W = W - step * force + np.sqrt(2 * step / beta) * rng.standard_normal(W.shape)
        if k >= n_steps // 4 and k % 20 == 0:
            kept.append(W)
    return np.stack(kept)


betas, laws, table = (64.0, 16.0, 4.0), {}, {}
for beta in betas:
    measure = GibbsMeasure(space, effective, effective_gradient, beta)
    start = np.stack([Y] * 200)
    riemannian = langevin(measure, start, 0.05, 500, adjust=True, thin=10, rng=0).points[10:]
    free = train_freely(beta)
    laws[beta] = riemannian, end_to_end(free)
    for X in laws[beta]:
        s = np.linalg.svd(X, compute_uv=False)
        per_chain = np.stack([loss(X), s[..., 0] - s[..., 1], s[..., 1] < 0.05]).mean(axis=1)
        error = per_chain.std(axis=1) / np.sqrt(per_chain.shape[1])
        table.setdefault(beta, []).append((per_chain.mean(axis=1), error))
    imbalance = relative_imbalance(free).mean()
    print(f"b = {beta:g}, free layers with an imbalance of {imbalance:.2f} on average:")
    for name, (mean, error) in zip(("Langevin", "free layers"), table[beta], strict=True):
        values = "   ".join(f"{m:.4f} +- {e:.4f}" for m, e in zip(mean, error, strict=True))
        print(f"    {name:12s} loss, gap s_1 - s_2, share of s_2 < 0.05: {values}")

figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
for ax, beta in zip(axes, betas, strict=True):
    for k, (X, label) in enumerate(zip(laws[beta], ("Langevin", "free layers"), strict=True)):
        s = np.linalg.svd(X, compute_uv=False).reshape(-1, 2)
        bins = np.linspace(0, 3, 61)
        for j in (0, 1):
            ax.hist(
                s[:, j],
                bins,
                density=True,
                histtype="step",
                color=COLORS[k],
                label=label if j else None,
            )
    ax.set(title=f"b = {beta:g}", xlabel="$s_2$ and $s_1$")
axes[0].legend()
plt.show()

# %%
# **What does not agree.** The gradient of one batch with noisy labels, of variance sigma^2, errs by
# a matrix P with independent entries. X moves by ``A_X(P)``, so its noise has the covariance of A^2
# and not, as in the Langevin equation, that of A: near Y the entries of X in the frame of Y spread
# by ``eta sigma^2 a_ij / 2``, eta the learning rate, where the equation has 1/b for all of them. No
# choice of b makes them equal. It does balance the layers.

eta, sigma, n_chains = 0.02, 0.35, 1000
rng = np.random.default_rng(1)
W, kept = np.stack([total.factor(Y)] * n_chains), []
for k in range(1500):
    P = end_to_end(W) - Y + sigma * rng.standard_normal((n_chains, 2, 2))
    W = W - eta * end_to_end_pullback(W, P)
    if k >= 500 and k % 50 == 0:
        kept.append(W)
kept = np.stack(kept)
u, s, vt = np.linalg.svd(Y)
inside = u.T @ end_to_end(kept) @ vt.T
measured = inside.reshape(-1, 2, 2).var(axis=0)
roots = s ** (1 / depth)
a = sum(np.outer(roots ** (2 * (depth - p)), roots ** (2 * p - 2)) for p in range(1, depth + 1))
predicted = eta * sigma**2 * a / 2

measure = GibbsMeasure(space, loss, lambda X: X - Y, 1 / predicted[0, 0])
cold = langevin(measure, np.stack([Y] * 200), 0.04, 400, adjust=True, thin=10, rng=1).points[10:]
equal = (u.T @ cold @ vt.T).reshape(-1, 2, 2).var(axis=0)

figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
names = ["$X_{11}$", "$X_{12}$", "$X_{21}$", "$X_{22}$"]
for k, (values, label) in enumerate(
    [(measured, "label noise"), (predicted, r"$\eta\sigma^2 a_{ij}/2$"), (equal, "Langevin")]
):
    ax.plot(names, values.ravel(), "os^"[k], color=COLORS[k], label=label)
ax.set(ylim=(0, None), xlabel="entry of X in the frame of Y", ylabel="variance")
ax.legend()
plt.show()

print(
    "label noise, variance of X over eta sigma^2 a_ij / 2:", (measured / predicted).round(3).ravel()
)
print("Langevin, variance of X times b:", (equal / predicted[0, 0]).round(3).ravel())
print(f"largest imbalance under label noise: {relative_imbalance(kept[-1]).max():.4f}")
