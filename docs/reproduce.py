"""Compute every figure of the page that reproduces the papers, and write the page.

    python docs/reproduce.py docs/reproduce.md

Each function below checks one statement: what the package computes against the literal formula,
or one of its consequences. It returns the largest relative error. Nothing but NumPy and SciPy
stands on the literal side.
"""

import inspect
import sys
from itertools import combinations
from math import gamma, pi
from pathlib import Path

import numpy as np
from scipy.integrate import solve_ivp
from scipy.linalg import expm, solve_sylvester, sqrtm

from dln_manifolds import BalancedManifold, DLNObservableManifold
from dln_manifolds.dynamics.gradient_flow import flow_of_layers, flow_of_point, layer_gradient
from dln_manifolds.geometry import coefficients
from dln_manifolds.geometry.straight_lines import straight_line

n, N = 3, 4
space, total = DLNObservableManifold(n, N), BalancedManifold(n, N)
rng = np.random.default_rng(0)
X = rng.normal(size=(n, n))
X[0] *= np.sign(np.linalg.det(X))
Z = rng.normal(size=(n, n))
W = total.act(np.linalg.qr(rng.normal(size=(N - 1, n, n)))[0], total.factor(X))
Y = rng.normal(size=(n, n))  # the loss of these checks is E = |X - Y|^2 / 2


def error(found, wanted):
    """Return the largest difference relative to the largest entry."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def chain(layers):
    """Multiply layers, the first acting first."""
    return np.linalg.multi_dot([np.eye(n), *layers[::-1], np.eye(n)])


def power(matrix, exponent):
    """Return a power of a symmetric positive definite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * values**exponent) @ vectors.T


def A(X, P, N=N):
    """Return A_X(P) as the sum over the layers, (1.8)."""
    return sum(
        power(X @ X.T, (N - p) / N) @ P @ power(X.T @ X, (p - 1) / N) for p in range(1, N + 1)
    )


def matrix_of_A(X):
    """Return the matrix of A_X on row-major entries."""
    return np.stack([A(X, e.reshape(n, n)).ravel() for e in np.eye(n * n)], axis=1)


def product_map():
    """(1.1) of Chen: the product map

    $X = W_N W_{N-1} \\cdots W_1$.
    """
    return error(total.end_to_end(W), chain(W))


def gradient_of_layers():
    """(1.2), (1.3) of Chen: gradient flow of the layers by the chain rule

    $\\dot W_p = -(W_N \\cdots W_{p+1})^T\\, dE(X)\\, (W_{p-1} \\cdots W_1)^T$, against
    differences of E.
    """

    def energy(layers):
        return 0.5 * np.sum((chain(layers) - Y) ** 2)

    differences = np.empty(W.shape)
    for index in np.ndindex(W.shape):
        step = np.zeros(W.shape)
        step[index] = 1e-3
        values = [energy(W + k * step) for k in (-2, -1, 1, 2)]
        differences[index] = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / 12e-3
    return error(layer_gradient(W, lambda X: X - Y), differences)


def conservation():
    """(1.4) of Chen, and its invariance: balance is conserved by gradient flow

    $W_{p+1}^T W_{p+1} - W_p W_p^T$ is constant, from layers that are not balanced.
    """
    start = W + 0.1 * rng.normal(size=W.shape)
    flow = flow_of_layers(start, lambda X: X - Y, np.linspace(0, 2, 5))
    balance = [[w[p + 1].T @ w[p + 1] - w[p] @ w[p].T for p in range(N - 1)] for w in flow.layers]
    return error(balance, np.broadcast_to(balance[0], np.shape(balance)))


def factors():
    """(1.5), (1.6) of Chen: the balanced factors

    $W_p = Q_p \\Sigma^{1/N} Q_{p-1}^T$ with $Q_0 = V$, $Q_N = U$: all layers have the singular
    values $s_i^{1/N}$, and $|\\mathbf W|^2 = N \\sum_i s_i^{2/N}$.
    """
    s = np.linalg.svd(X, compute_uv=False)
    values = np.linalg.svd(W, compute_uv=False)
    return max(
        error(values, np.broadcast_to(s ** (1 / N), values.shape)),
        error(np.sum(W**2), N * np.sum(s ** (2 / N))),
    )


def metric():
    """(1.7), (1.8) of Chen: the metric of end-to-end matrices

    $g^N(Z, Z) = \\operatorname{tr} Z^T \\mathcal A_X^{-1} Z$, with $\\mathcal A_X(P) = \\sum_p
    (XX^T)^{(N-p)/N} P (X^TX)^{(p-1)/N}$ inverted as a matrix of $n^2 \\times n^2$ entries.
    """
    inverse = np.linalg.inv(matrix_of_A(X))
    return max(
        error(space.metric.squared_norm(Z, X), Z.ravel() @ inverse @ Z.ravel()),
        error(space.metric.metric_matrix(X), inverse),
    )


def flow_downstairs():
    """Gradient flow of the layers lies over the Riemannian gradient flow of X

    $\\dot X = -\\mathcal A_X(dE(X)) = -\\operatorname{grad}_g E$, integrated apart from each other.
    """
    times = np.linspace(0, 2, 5)
    upstairs = flow_of_layers(W, lambda X: X - Y, times).points
    return error(flow_of_point(X, N, lambda X: X - Y, times).points, upstairs)


def submersion():
    """Theorem 1.1 of Chen: Riemannian submersion (Menon and Yu)

    The differential of $\\phi$ maps horizontal vectors onto tangent vectors and keeps their
    lengths; vertical vectors it maps to zero, and both are orthogonal.
    """
    basis = total.jacobi_basis(W)

    def differential(V):
        return sum(chain([*W[:p], V[p], *W[p + 1 :]]) for p in range(N))

    images = np.stack([differential(V) for V in basis.horizontal])
    gram = np.stack([space.metric.inner_product(image, images, X) for image in images])
    vertical = np.abs([differential(V) for V in basis.vertical]).max()
    mixed = np.abs(np.tensordot(basis.horizontal, basis.vertical, axes=([1, 2, 3], [1, 2, 3])))
    return max(error(gram, np.eye(n * n)), vertical, mixed.max())


def horizontal_lift():
    """Lemma 3.11 of Chen, without frames: the horizontal lift

    $V_p = (W_N \\cdots W_{p+1})^T \\mathcal A_X^{-1}(Z) (W_{p-1} \\cdots W_1)^T$.
    """
    P = np.linalg.solve(matrix_of_A(X), Z.ravel()).reshape(n, n)
    literal = [chain(W[p + 1 :]).T @ P @ chain(W[:p]).T for p in range(N)]
    return error(total.horizontal_lift(Z, W), literal)


def jacobi_matrices():
    """Jacobi matrices (Menon and Yu)

    The tridiagonal Toeplitz matrix with diagonal $l_i^2 + l_j^2$ and off-diagonal $-l_i l_j$ has
    eigenvalues $l_i^2 + l_j^2 - 2 l_i l_j \\cos(\\pi k / N)$ and determinant $a_{ij}$.
    """
    s = np.linalg.svd(X, compute_uv=False)
    roots, spectrum = s ** (1 / N), coefficients.a(s, N)
    k = np.arange(1, N)
    worst = 0.0
    for i, j in combinations(range(n), 2):
        off = -roots[i] * roots[j] * np.eye(N - 1, k=1)
        toeplitz = (roots[i] ** 2 + roots[j] ** 2) * np.eye(N - 1) + off + off.T
        values = roots[i] ** 2 + roots[j] ** 2 - 2 * roots[i] * roots[j] * np.cos(pi * k / N)
        worst = max(
            worst,
            error(np.linalg.eigvalsh(toeplitz), np.sort(values)),
            error(spectrum[i, j], np.linalg.det(toeplitz)),
        )
    return worst


def jacobi_basis():
    """Jacobi basis (Menon and Yu)

    The three sectors are orthonormal and fill the ambient space; normal vectors are orthogonal to
    curves of balanced layers, through $W_p = Q_p \\Lambda Q_{p-1}^T$ with all factors moving.
    """
    basis = total.jacobi_basis(W)
    rows = np.concatenate([part.reshape(len(part), -1) for part in basis])

    def curve(t, turns, change):
        frames = [expm(t * (turn - turn.T)) for turn in turns]
        roots = power(W[0].T @ W[0], 0.5)  # W_1 = Q root, and all else follows from Q
        first = W[0] @ np.linalg.inv(roots)
        middle = expm(t * (change + change.T)) @ roots
        lowest = frames[1] @ first @ (middle + middle.T) / 2 @ frames[0].T
        layers = [lowest]
        for p in range(1, N):
            polar = W[p] @ np.linalg.inv(power(W[p].T @ W[p], 0.5))
            turn = frames[p + 1] @ polar @ frames[p].T
            layers.append(turn @ power(layers[-1] @ layers[-1].T, 0.5))
        return np.stack(layers)

    local = np.random.default_rng(1)
    turns, change = local.normal(size=(N + 1, n, n)), local.normal(size=(n, n))
    values = [curve(t, turns, change) for t in (-2e-3, -1e-3, 1e-3, 2e-3)]
    velocity = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / 12e-3
    outward = np.abs(np.tensordot(basis.normal, velocity, axes=3)).max()
    return max(error(rows @ rows.T, np.eye(len(rows))), outward / np.linalg.norm(velocity))


def volume_of_fibre():
    """Volume of the fibre (Menon and Yu)

    $c_n^{N-1}$ times the density of the orbit map, from the Gram matrix of the vectors
    $A_p W_p - W_p A_{p-1}$ at W, against the closed form;
    $c_n = 2^{n(n-1)/4} \\prod_k 2 \\pi^{k/2} / \\Gamma(k/2)$.
    """
    c = 2 ** (n * (n - 1) / 4) * np.prod([2 * pi ** (k / 2) / gamma(k / 2) for k in (1, 2, 3)])
    vectors = np.stack([generator_vector(g) for g in generators()])
    gram = np.tensordot(vectors, vectors, axes=([1, 2, 3], [1, 2, 3]))
    return error(space.volume_density(X), c ** (N - 1) * np.sqrt(np.linalg.det(gram)))


def generators():
    """Return an orthonormal basis of so(n)^(N-1), with the zeros of both ends."""
    found = []
    for p in range(1, N):
        for i, j in combinations(range(n), 2):
            skew = np.zeros((N + 1, n, n))
            skew[p, i, j], skew[p, j, i] = np.sqrt(0.5), -np.sqrt(0.5)
            found.append(skew)
    return found


def generator_vector(skew):
    """Return the velocity of the orbit along a generator."""
    return np.stack([skew[p + 1] @ W[p] - W[p] @ skew[p] for p in range(N)])


def entropy_formula():
    """Entropy formula (Menon and Yu)

    $S = (N-1) \\log c_n + \\frac12 \\log\\bigl(\\operatorname{van}(\\Sigma^2) /
    \\operatorname{van}(\\Sigma^{2/N})\\bigr)$ with Vandermonde determinants.
    """
    c = 2 ** (n * (n - 1) / 4) * np.prod([2 * pi ** (k / 2) / gamma(k / 2) for k in (1, 2, 3)])
    s = np.linalg.svd(X, compute_uv=False)
    upper, lower = (abs(np.linalg.det(np.vander(s**e))) for e in (2, 2 / N))
    return error(space.entropy(X), (N - 1) * np.log(c) + 0.5 * np.log(upper / lower))


def mean_curvature():
    """Mean curvature (Menon and Yu)

    $\\operatorname{grad} S = -d\\phi(H)$, with H the trace of the second fundamental form of the
    orbit: horizontal parts of the accelerations of one-parameter groups.
    """
    basis = generators()
    vectors = np.stack([generator_vector(g) for g in basis])
    gram = np.tensordot(vectors, vectors, axes=([1, 2, 3], [1, 2, 3]))
    inverse = np.linalg.inv(gram)
    horizontal = total.jacobi_basis(W).horizontal.reshape(n * n, -1)
    H = np.zeros(W.size)
    for k, first in enumerate(basis):
        for m, second in enumerate(basis):
            acceleration = np.stack([
                (first[p + 1] @ second[p + 1] + second[p + 1] @ first[p + 1]) @ W[p] / 2
                - first[p + 1] @ W[p] @ second[p]
                - second[p + 1] @ W[p] @ first[p]
                + W[p] @ (first[p] @ second[p] + second[p] @ first[p]) / 2
                for p in range(N)
            ])  # fmt: skip
            H += inverse[k, m] * horizontal.T @ (horizontal @ acceleration.ravel())
    image = total.push_forward(H.reshape(W.shape), W)
    return error(space.entropy_gradient(X), -image)


def hamilton():
    """Theorem 2.1 of Chen: Hamilton's equations

    $\\dot X = \\mathcal A_X(P)$, $\\dot P = -\\partial_X \\frac12 \\operatorname{tr} P^T
    \\mathcal A_X(P)$, integrated literally, the force by differences; against `exp`.
    """

    def energy(x, p):
        return 0.5 * np.sum(p * A(x, p))

    def rate(_, state):
        x, p = state.reshape(2, n, n)
        force = np.empty((n, n))
        for index in np.ndindex(n, n):
            step = np.zeros((n, n))
            step[index] = 2e-3
            values = [energy(x + k * step, p) for k in (-2, -1, 1, 2)]
            force[index] = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / 24e-3
        return np.concatenate([A(x, p).ravel(), -force.ravel()])

    P = np.linalg.solve(matrix_of_A(X), 0.1 * Z.ravel())
    start = np.concatenate([X.ravel(), P])
    end = solve_ivp(rate, (0, 1), start, method="DOP853", rtol=1e-9, atol=1e-10).y[: n * n, -1]
    return error(space.metric.exp(0.1 * Z, X), end.reshape(n, n))


def singular_coordinates():
    """The system in singular values and vectors (our derivation)

    $H = \\frac12 \\sum_i a_{ii} p_i^2 + \\frac12 \\sum_{i \\ne j} a_{ij} P_{ij}^2$ with
    $P_{ij} = (s_i \\nu_{ij} + s_j \\mu_{ij}) / (s_i^2 - s_j^2)$, where
    $\\mu = U^T (X P^T - P X^T) U$ and $\\nu = V^T (X^T P - P^T X) V$ are the conserved momenta seen
    from the frames: $\\dot s_i = a_{ii} p_i$, $\\dot p_i = -\\partial H / \\partial s_i$,
    $\\dot U = U \\Omega$, $\\dot V = V \\Omega'$ with
    $\\Omega_{ij} s_j - s_i \\Omega'_{ij} = a_{ij} P_{ij}$. Against `exp`.
    """
    P = np.linalg.solve(matrix_of_A(X), 0.1 * Z.ravel()).reshape(n, n)
    momenta = X @ P.T - P @ X.T, X.T @ P - P.T @ X
    off = 1 - np.eye(n)

    def spectrum(s):
        roots = s ** (1 / N)
        return sum(
            np.multiply.outer(roots ** (2 * N - 2 * p), roots ** (2 * p - 2))
            for p in range(1, N + 1)
        )

    def covector(s, p, mu, nu):
        gaps = np.subtract.outer(s**2, s**2) + np.eye(n)
        return (s[:, None] * nu + s * mu) / gaps * off + np.diag(p)

    def rate(_, state):
        s, p, left, right = np.split(state, [n, 2 * n, 2 * n + n * n])
        left, right = left.reshape(n, n), right.reshape(n, n)
        mu, nu = left.T @ momenta[0] @ left, right.T @ momenta[1] @ right

        def energy(values):
            return 0.5 * np.sum(spectrum(values) * covector(values, p, mu, nu) ** 2)

        force = np.empty(n)
        for i in range(n):
            h = 1e-3 * s[i] * np.eye(n)[i]
            values = [energy(s + k * h) for k in (-2, -1, 1, 2)]
            force[i] = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h[i])
        velocity = spectrum(s) * covector(s, p, mu, nu)
        gaps = np.subtract.outer(s**2, s**2) + np.eye(n)
        # from the equations of the entries ij and ji, both turns being antisymmetric
        turn = -(velocity * s + s[:, None] * velocity.T) / gaps * off
        turn_right = -(velocity * s[:, None] + s * velocity.T) / gaps * off
        parts = np.diag(velocity), -force, left @ turn, right @ turn_right
        return np.concatenate([part.ravel() for part in parts])

    left, s, right_t = np.linalg.svd(X)
    start = np.concatenate([s, np.diag(left.T @ P @ right_t.T), left.ravel(), right_t.T.ravel()])
    end = solve_ivp(rate, (0, 1), start, method="DOP853", rtol=1e-10, atol=1e-11).y[:, -1]
    s, _, left, right = np.split(end, [n, 2 * n, 2 * n + n * n])
    point = (left.reshape(n, n) * s) @ right.reshape(n, n).T
    return error(space.metric.exp(0.1 * Z, X), point)


def invariants():
    """Conserved quantities of the Hamiltonian flow

    $\\operatorname{tr} P^T \\mathcal A_X(P)$, $X P^T - P X^T$ and $X^T P - P^T X$ along a geodesic.
    """
    solution = space.metric.solve_exp(0.3 * Z, X)
    t, step = np.linspace(0, 0.9, 4), 1e-3
    around = [solution(t + k * step) for k in (-2, -1, 1, 2)]
    velocities = (around[0] - 8 * around[1] + 8 * around[2] - around[3]) / (12 * step)
    kept = []
    for x, v in zip(solution(t), velocities, strict=True):
        P = np.linalg.solve(matrix_of_A(x), v.ravel()).reshape(n, n)
        kept.append(np.stack([x @ P.T - P @ x.T, x.T @ P - P.T @ x, np.sum(v * P) * np.eye(n)]))
    return error(kept, np.broadcast_to(kept[0], np.shape(kept)))


def lifted_geodesics():
    """Theorem 3.10 of Chen: horizontal geodesics lie over geodesics

    $\\phi(\\exp_W(\\text{lift of } Z)) = \\exp_X(Z)$: upstairs $W_p'' = W_p S_{p-1} - S_p W_p$,
    downstairs the root chart.
    """
    end = total.metric.exp(0.3 * total.horizontal_lift(Z, W), W)
    return error(chain(end), space.metric.exp(0.3 * Z, X))


def straight_lines():
    """Lemma 2.2 of Chen: straight lines of layers

    A line from W to W' is balanced if and only if $W' - W$ is, and horizontal if and only if
    $W'_p W_p^T + W_{p+1}'^T W_{p+1}$ is symmetric for all p; then it is a geodesic. Here: equal
    singular vectors, where it is both.
    """
    left, _, right = np.linalg.svd(X)
    other = total.factor(left @ np.diag([2.0, 0.7, 0.1]) @ right)
    first = total.factor(X)
    other *= np.sign(np.sum(first * other, axis=-1, keepdims=True))
    line = straight_line(first, other)
    middle = chain((first + other) / 2)
    geodesic = space.metric.geodesic(chain(first), end_point=chain(other))(0.5)[0]
    assert line.is_geodesic
    symmetric = [other[p] @ first[p].T + other[p + 1].T @ first[p + 1] for p in range(N - 1)]
    return max(error(geodesic, middle), error(symmetric, np.swapaxes(symmetric, -1, -2)))


def balanced_lines():
    """The other direction of Lemma 2.2: the imbalance of a line in general

    Between balanced W and W' it is $B_p(\\mathbf W(t)) = -t (1 - t) B_p(\\mathbf W' - \\mathbf W)$
    with $B_p(\\mathbf W) = W_{p+1}^T W_{p+1} - W_p W_p^T$, which vanishes on the way if and only if
    $\\mathbf W' - \\mathbf W$ is balanced; and the vertical part of the velocity has the inner
    products $\\operatorname{tr} A_p^T (W'_p W_p^T + W_{p+1}'^T W_{p+1})$ with the fibre at W.
    """
    end = total.factor(Y if np.linalg.det(Y) > 0 else -Y)
    step, t = end - W, 0.3

    def imbalance(layers):
        return np.stack([
            layers[p + 1].T @ layers[p + 1] - layers[p] @ layers[p].T for p in range(N - 1)
        ])  # fmt: skip

    line = straight_line(W, end)
    assert not line.balanced
    assert not line.horizontal
    moments = [
        np.sum(total.vertical_projection(step, W) * generator_vector(g)) for g in generators()
    ]
    cross = [end[p] @ W[p].T + end[p + 1].T @ W[p + 1] for p in range(N - 1)]
    literal = [sum(np.sum(g[p + 1] * cross[p]) for p in range(N - 1)) for g in generators()]
    return max(
        error(imbalance(W + t * step), -t * (1 - t) * imbalance(step)),
        error(moments, literal),
    )


def closed_form():
    """(2.9) of Chen, Remark 2.4: equal singular vectors

    $X(t) = U ((1-t) \\Sigma_0^{1/N} + t \\Sigma_1^{1/N})^N V^T$, against the flow of `exp`.
    """
    left, s, right = np.linalg.svd(X)
    s_1 = np.array([2.0, 0.7, 0.1])
    root_0, root_1 = s ** (1 / N), s_1 ** (1 / N)
    velocity = left @ np.diag(N * root_0 ** (N - 1) * (root_1 - root_0)) @ right
    solution = space.metric.solve_exp(velocity, X)
    t = np.linspace(0, 1, 5)[:, None]
    literal = (left * (((1 - t) * root_0 + t * root_1) ** N)[:, None, :]) @ right
    return error(solution(t[:, 0]), literal)


def infinite_depth():
    """(2.10) of Chen, Remark 2.5: the limit as N grows

    $X(t) \\to U \\Sigma_0^{1-t} \\Sigma_1^t V^T$; with the next term,
    $s_i(t) = s_{0i}^{1-t} s_{1i}^t \\exp\\bigl(t (1-t) \\log^2(s_{1i} / s_{0i}) / (2N)\\bigr)
    (1 + O(N^{-2}))$. At N = 10000, against `log`.
    """
    depth, t = 1e4, 0.3
    left, s_0, right = np.linalg.svd(X)
    s_1 = np.array([2.0, 0.7, 0.1])
    deep = DLNObservableManifold(n, depth)
    middle = deep.metric.geodesic(X, end_point=(left * s_1) @ right)(t)[0]
    first_order = np.exp(t * (1 - t) * np.log(s_1 / s_0) ** 2 / (2 * depth))
    return error(middle, (left * (s_0 ** (1 - t) * s_1**t * first_order)) @ right)


def bures_wasserstein():
    """Theorem 3.5 of Chen, (3.11): Bures-Wasserstein, depth 2 and equal polar factors

    End points $A O$ and $B O$ with A, B positive definite and O orthogonal. The Bures-Wasserstein
    geodesic $X(t) = ((1-t) I + t M)\\, A\\, ((1-t) I + t M)\\, O$ with $M = A^{-1/2} (A^{1/2} B
    A^{1/2})^{1/2} A^{-1/2}$, and $d^2 = 2 (\\operatorname{tr} A + \\operatorname{tr} B - 2
    \\operatorname{tr} (A^{1/2} B A^{1/2})^{1/2})$, against the flow of `exp`.
    """
    shallow = DLNObservableManifold(n, 2)
    start, end = X @ X.T + 0.1 * np.eye(n), Z @ Z.T + 0.1 * np.eye(n)
    turn = np.linalg.qr(Y)[0]
    root = np.real(sqrtm(start))
    cross = np.real(sqrtm(root @ end @ root))
    M = np.linalg.inv(root) @ cross @ np.linalg.inv(root)
    velocity = shallow.metric.log(end @ turn, start @ turn)
    solution = shallow.metric.solve_exp(velocity, start @ turn)
    literal = [
        ((1 - t) * np.eye(n) + t * M) @ start @ ((1 - t) * np.eye(n) + t * M) @ turn
        for t in (0.0, 0.3, 0.7, 1.0)
    ]
    squared = 2 * (np.trace(start) + np.trace(end) - 2 * np.trace(cross))
    return max(error(solution([0.0, 0.3, 0.7, 1.0]), literal), error(solution.length**2, squared))


def equal_polar_factors():
    """Theorem 2.3 of Chen, read with one rotation for all layers

    If one orthogonal Q relates the left and the right singular vectors of the end points, the
    theorem gives a geodesic as the product of a straight line of layers. Read as its proof says,
    with the same rotation at every layer, the line between $X_0^{1/N}$ and $X_1^{1/N}$ (positive
    definite end points) is balanced, but its velocity has a vertical part if the end points do
    not commute, at N = 2 too, and the line is longer than the geodesic: table above. That is a
    statement about this reading; (2.8) itself we could not see. Against the fibre: the vertical
    part by the inner products with its generators.
    """
    start, end = X @ X.T + 0.1 * np.eye(n), Z @ Z.T + 0.1 * np.eye(n)
    layers = [np.stack([power(matrix, 1 / N)] * N) for matrix in (start, end)]
    line = straight_line(*layers)
    assert line.balanced
    assert not line.horizontal
    assert line.length > 1.001 * space.metric.dist(start, end)
    step = layers[1] - layers[0]
    vertical = total.vertical_projection(step, layers[0])
    moves = [
        np.stack([g[p + 1] @ layers[0][p] - layers[0][p] @ g[p] for p in range(N)])
        for g in generators()
    ]
    fibre = np.stack([move.ravel() for move in moves], axis=1)
    literal = fibre @ np.linalg.lstsq(fibre, step.ravel(), rcond=None)[0]
    return error(vertical.ravel(), literal)


def defects_of_the_line():
    """Return rows (N, vertical part of the velocity, length of the line, distance)."""
    start, end = X @ X.T + 0.1 * np.eye(n), Z @ Z.T + 0.1 * np.eye(n)
    for depth in (2, 3, 4):
        layers = [np.stack([power(matrix, 1 / depth)] * depth) for matrix in (start, end)]
        step = layers[1] - layers[0]
        part = BalancedManifold(n, depth).vertical_projection(step, layers[0])
        distance = DLNObservableManifold(n, depth).metric.dist(start, end)
        share = np.linalg.norm(part) / np.linalg.norm(step)
        yield depth, share, straight_line(*layers).length, float(distance)


def horizontal_frames():
    """Lemma 3.11 of Chen, (3.61): horizontal vectors by a coefficient matrix

    $V_p = Q_p \\Lambda^{N-p} C \\Lambda^{p-1} Q_{p-1}^T$, where $\\Lambda = \\Sigma^{1/N}$; the
    lift of the image of such a V is V.
    """
    left, s, right = np.linalg.svd(X)
    root = s ** (1 / N)
    turns = np.linalg.qr(rng.normal(size=(N - 1, n, n)))[0]
    frames = [right.T, *turns, left]
    layers = np.stack([(frames[p + 1] * root) @ frames[p].T for p in range(N)])
    V = np.stack([
        frames[p + 1] @ (root ** (N - 1 - p) * (Z * root**p).T).T @ frames[p].T for p in range(N)
    ])  # fmt: skip
    image = sum(chain([*layers[:p], V[p], *layers[p + 1 :]]) for p in range(N))
    return error(total.horizontal_lift(image, layers), V)


def two_layers():
    """Two layers (asked by a referee of Menon and Yu)

    At N = 2 the metric solves the Sylvester equation $(X X^T)^{1/2} P + P (X^T X)^{1/2} = Z$,
    $g(Z, Z) = \\operatorname{tr} P^T Z$.
    """
    P = solve_sylvester(power(X @ X.T, 0.5), power(X.T @ X, 0.5), Z)
    return error(DLNObservableManifold(n, 2).metric.squared_norm(Z, X), np.sum(P * Z))


def unequal_widths():
    """Widths 4-3-5 (asked by a referee of Menon and Yu)

    Balanced layers $W_1$ (3 x 4) and $W_2$ (5 x 3): the horizontal lift of a tangent vector of
    $X = W_2 W_1$ maps onto it, has its length, and is orthogonal to the direction of the fibre
    that each generator of O(3) gives.
    """
    network, below = BalancedManifold(widths=(4, 3, 5)), DLNObservableManifold(widths=(4, 3, 5))
    point = rng.normal(size=(5, 3)) @ rng.normal(size=(3, 4))
    vector = below.to_tangent(rng.normal(size=(5, 4)), point)
    fibre_point = network.factor(point)
    W_1, W_2 = network.layers(fibre_point)
    V_1, V_2 = network.layers(network.horizontal_lift(vector, fibre_point))
    squared = np.sum(V_1**2) + np.sum(V_2**2)
    skew = [np.eye(3)[[i]].T @ np.eye(3)[[j]] for i, j in combinations(range(3), 2)]
    skew = [g - g.T for g in skew]
    vertical = [np.sum((g @ W_1) * V_1) - np.sum((W_2 @ g) * V_2) for g in skew]
    return max(
        error(W_1 @ W_1.T, W_2.T @ W_2),
        error(V_2 @ W_1 + W_2 @ V_1, vector),
        error(below.metric.squared_norm(vector, point), squared),
        float(np.abs(vertical).max() / np.sqrt(squared)),
    )


def boundary_values():
    """Geodesics between any two matrices of one component, solved numerically

    `log`, then `exp`, which steps along knowing the velocity only: how far from the target it ends.
    """
    pairs = rng.normal(size=(2, 20, n, n))
    pairs[:, :, 0] *= np.sign(np.linalg.det(pairs))[..., None]
    reached = space.metric.exp(space.metric.log(pairs[1], pairs[0]), pairs[0])
    distance = np.linalg.norm(reached - pairs[1], axis=(1, 2))
    return float((distance / np.linalg.norm(pairs[1], axis=(1, 2))).max())


SECTIONS = {
    "Chen, section 1: the deep linear network": (
        product_map,
        gradient_of_layers,
        conservation,
        factors,
        metric,
        flow_downstairs,
    ),
    "Menon and Yu: submersion, Jacobi basis, entropy": (
        submersion,
        horizontal_lift,
        horizontal_frames,
        jacobi_matrices,
        jacobi_basis,
        volume_of_fibre,
        entropy_formula,
        mean_curvature,
        two_layers,
        unequal_widths,
    ),
    "Chen: horizontal straight lines, explicit geodesics": (
        lifted_geodesics,
        straight_lines,
        balanced_lines,
        closed_form,
        infinite_depth,
        bures_wasserstein,
        equal_polar_factors,
    ),
    "Chen: the geodesic equations": (
        hamilton,
        singular_coordinates,
        invariants,
        boundary_values,
    ),
}

# Each numbered item: what checks it, and what remains to say.
RECONSTRUCTED = "form reconstructed"
ITEMS = (
    ("(1.1)", (product_map,), ""),
    ("(1.2), (1.3)", (gradient_of_layers, flow_downstairs), ""),
    ("(1.4)", (conservation,), ""),
    ("(1.5), (1.6)", (factors,), ""),
    ("(1.7), (1.8)", (metric,), ""),
    ("Theorem 1.1", (submersion,), "from Menon and Yu"),
    ("Theorem 2.1, (2.2)-(2.4)", (hamilton, singular_coordinates), RECONSTRUCTED),
    ("Lemma 2.2, (2.5)-(2.7)", (straight_lines, balanced_lines), RECONSTRUCTED),
    ("Theorem 2.3, (2.8)", (equal_polar_factors,), "one reading, which fails: below"),
    ("Remarks 2.4, 2.5, (2.9), (2.10)", (closed_form, infinite_depth), ""),
    ("Theorem 3.2, (3.1)-(3.6)", (hamilton, invariants), "the flow of the Hamiltonian"),
    ("(3.7), (3.8)", (two_layers,), "the Lyapunov equation is that of positive definite X"),
    ("Lemma 3.4, Theorem 3.5, (3.9)-(3.12)", (bures_wasserstein,), ""),
    ("Theorem 3.10, (3.49)", (lifted_geodesics,), ""),
    ("Lemma 3.11, (3.61)-(3.63)", (horizontal_lift, horizontal_frames), ""),
    ("section 4, (1): open", (boundary_values,), "solved numerically, not in closed form"),
    ("Menon and Yu: submersion", (submersion, horizontal_lift), ""),
    ("Menon and Yu: Jacobi basis", (jacobi_matrices, jacobi_basis), ""),
    (
        "Menon and Yu: entropy formula",
        (volume_of_fibre, entropy_formula, mean_curvature),
        "one review prints the power 2N for 2/N",
    ),
    ("Menon and Yu: two layers, widths 4-3-5", (two_layers, unequal_widths), "asked by a referee"),
)

HEADER = """# The papers, reproduced

*Written by `docs/reproduce.py`, which computes every figure:
`python docs/reproduce.py docs/reproduce.md`.*

Every statement below is computed twice: by the package, and by the code that is shown, which
transcribes the formula. The figure is the largest relative difference, at n = 3 and N = 4 unless
the code says otherwise; it is larger where the literal side takes finite differences or
integrates.

**How to read the numbers.** Numbers without a name are those of Chen, *Geodesics in the Deep Linear
Network*, arXiv 2510.07324, second version; Menon and Yu is *An entropy formula for the Deep Linear
Network*, arXiv 2509.09088. We had the statements and the wording of the papers, but not every
displayed formula: where the exact form is reconstructed, the table says so. Not listed is what
has nothing to compute (definitions) and what serves a proof alone ((2.1), (3.13)-(3.48)).

| item | sections of this page | remark |
|---|---|---|
{items}

**Theorem 2.3.** The straight line of layers with one rotation for all layers, between two positive
definite matrices that do not commute ([below](#equal-polar-factors)):

| N | vertical share of the velocity | length of the line | distance |
|---|---|---|---|
{defects}

| statement | figure |
|---|---|
"""


def title_of(check):
    """Return the title of a check and its statement."""
    title, _, statement = inspect.getdoc(check).partition("\n\n")
    return title, statement


def anchor_of(check):
    """Return the place of a check on the page."""
    return check.__name__.replace("_", "-")


def items():
    """Return the rows of the table of numbered items."""
    for name, checks, remark in ITEMS:
        links = ", ".join(f"[`{check.__name__}`](#{anchor_of(check)})" for check in checks)
        yield f"| {name} | {links} | {remark} |"


def page(figures):
    """Return the text of the page."""
    header = HEADER.format(
        items="\n".join(items()),
        defects="\n".join(
            f"| {depth} | {share:.2f} | {length:.4f} | {distance:.4f} |"
            for depth, share, length, distance in defects_of_the_line()
        ),
    )
    rows = [f"| {title_of(check)[0]} | {figures[check]:.0e} |" for check in figures]
    parts = [header + "\n".join(rows) + "\n"]
    for section, checks in SECTIONS.items():
        parts.append(f"## {section}\n")
        for check in checks:
            title, statement = title_of(check)
            anchor = check.__name__.replace("_", "-")
            parts.append(
                f"({anchor})=\n### {title}\n\n{statement}\n\nFigure: {figures[check]:.0e}.\n"
            )
            parts.append(f"```py\n{body_of(check)}\n```\n")
    shared = "\n\n\n".join(
        inspect.getsource(f).strip()
        for f in (error, chain, power, A, matrix_of_A, generators, generator_vector)
    )
    parts.append(f"## What the checks share\n\n```py\n{shared}\n```\n")
    return "\n".join(parts)


def body_of(check):
    """Return the code of a check without its docstring."""
    source = inspect.getsource(check)
    opening = source.index('"""')
    closing = source.index('"""', opening + 3) + 3
    return source[:opening].rstrip() + source[closing:].rstrip()


def compute():
    """Return the figure of every check."""
    return {check: check() for checks in SECTIONS.values() for check in checks}


if __name__ == "__main__":
    figures = compute()
    for check, figure in figures.items():
        print(f"{figure:8.1e}  {title_of(check)[0]}")
    Path(sys.argv[1]).write_text(page(figures), encoding="utf-8")
