"""Compute every figure of the page that reproduces the papers, and write the page.

    python docs/reproduce.py                       all figures
    python docs/reproduce.py metric submersion     some of them
    python docs/reproduce.py docs/reproduce.md     all of them, and the page

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
from scipy.linalg import expm, solve_continuous_lyapunov, solve_sylvester, sqrtm

from dln_manifolds import BalancedManifold, DLNObservableManifold, spd
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


def normal(*shape):
    """Draw Gaussian numbers, always the same of a shape."""
    return np.random.default_rng([1, *shape]).normal(size=shape)


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


def loewner(x, exponent):
    """Return the first divided differences of a power."""
    one = np.eye(len(x))
    divided = np.subtract.outer(x**exponent, x**exponent) / (np.subtract.outer(x, x) + one)
    return divided + one * exponent * x ** (exponent - 1)


def differential(matrix, change, exponent):
    """Return the derivative of a power of a symmetric matrix, (3.29)-(3.31)."""
    values, vectors = np.linalg.eigh(matrix)
    inside = loewner(values, exponent) * (vectors.T @ change @ vectors)
    return vectors @ inside @ vectors.T


def symmetric_pair(X, P):
    """Return the two symmetric matrices of P', (2.3) and (2.4)."""
    left, right = X @ X.T, X.T @ X
    outer, inner = np.zeros((2, n, n))
    for p in range(1, N + 1):
        up, down = (N - p) / N, (p - 1) / N
        outer += differential(left, P @ power(right, down) @ P.T, up)
        inner += differential(right, P.T @ power(left, up) @ P, down)
    return outer, inner


def slope(function, step):
    """Return the derivative at zero by differences."""
    a, b, c, d = (np.asarray(function(k * step)) for k in (-2, -1, 1, 2))
    return (a - 8 * b + 8 * c - d) / (12 * step)


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
    start = W + 0.1 * normal(*W.shape)
    flow = flow_of_layers(start, lambda X: X - Y, np.linspace(0, 2, 5))
    balance = [[w[p + 1].T @ w[p + 1] - w[p] @ w[p].T for p in range(N - 1)] for w in flow.layers]
    return error(balance, np.broadcast_to(balance[0], np.shape(balance)))


def factors():
    """(1.5), (1.6) of Chen: the balanced factors

    $W_p = Q_p \\Sigma^{1/N} Q_{p-1}^T$ with $Q_0 = V$, $Q_N = U$, and the bijection: such layers
    are balanced and multiply to $U \\Sigma V^T$; the balanced layers of another point of the fibre
    give orthogonal $Q_p = W_p Q_{p-1} \\Sigma^{-1/N}$, the last of which is U. All layers have the
    singular values $s_i^{1/N}$, and $|\\mathbf W|^2 = N \\sum_i s_i^{2/N}$.
    """
    left, s, right = np.linalg.svd(X)
    frames = [right.T, *np.linalg.qr(normal(N - 1, n, n))[0], left]
    layers = np.stack([(frames[p + 1] * s ** (1 / N)) @ frames[p].T for p in range(N)])
    assert total.belongs(layers)
    found = [right.T]
    for layer in W:
        found.append(layer @ found[-1] / s ** (1 / N))
    values = np.linalg.svd(W, compute_uv=False)
    return max(
        error(total.end_to_end(layers), X),
        error([q.T @ q for q in found], np.stack([np.eye(n)] * (N + 1))),
        error(found[-1], left),
        error(values, np.broadcast_to(s ** (1 / N), values.shape)),
        error(np.sum(W**2), N * np.sum(s ** (2 / N))),
    )


def loewner_matrix():
    """(2.1) of Chen: the Loewner matrix

    First divided differences of a power of the squared singular values. That of the power 1/N,
    $(s_i^{2/N} - s_j^{2/N}) / (s_i^2 - s_j^2)$ and $s_i^{2/N - 2} / N$ on the diagonal, consists of
    the eigenvalues $1 / a_{ij}$ of the metric: $U^T \\mathcal A_X(P) V$ is $U^T P V$ divided by it,
    entry by entry.
    """
    left, s, right = np.linalg.svd(X)
    weights = loewner(s**2, 1 / N)
    return max(
        error(1 / coefficients.a(s, N), weights),
        error((left.T @ Z @ right.T) / weights, left.T @ A(X, Z) @ right.T),
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
    """Theorem 3.2 of Chen: Hamilton's equations

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


def force():
    """(2.3), (2.4) and (3.39)-(3.48) of Chen: the two symmetric matrices in P'

    $-\\partial H / \\partial X = -(G X + X G')$ for the Hamiltonian
    $H = \\frac12 \\operatorname{tr} P^T \\mathcal A_X(P)$, with G the sum over p of the derivative
    of the power $(N-p)/N$ at $X X^T$, in the direction $P (X^T X)^{(p-1)/N} P^T$, and $G'$ alike:
    against differences of the package's `inner_coproduct`.
    """
    outer, inner = symmetric_pair(X, Z)
    directions = np.eye(n * n).reshape(-1, n, n)

    def energy(step):
        moved = X + step * directions
        return 0.5 * space.metric.inner_coproduct(np.broadcast_to(Z, moved.shape), Z, moved)

    return error(slope(energy, 1e-3).reshape(n, n), outer @ X + X @ inner)


def dirichlet_problem():
    """Theorem 2.1 of Chen, (2.2): geodesics between two points

    X is a geodesic between two points if and only if it solves the Dirichlet problem of
    $\\dot X = \\mathcal A_X(P)$, $\\dot P = -(G X + X G')$. `log` gives the initial P; the system,
    integrated literally, goes through the points of `geodesic` and ends at the other point.
    """
    end = Y if np.linalg.det(Y) > 0 else -Y
    P = np.linalg.solve(matrix_of_A(X), space.metric.log(end, X).ravel())

    def rate(_, state):
        x, p = state.reshape(2, n, n)
        outer, inner = symmetric_pair(x, p)
        return np.concatenate([A(x, p).ravel(), -(outer @ x + x @ inner).ravel()])

    times = np.linspace(0, 1, 5)
    start = np.concatenate([X.ravel(), P])
    flow = solve_ivp(rate, (0, 1), start, method="DOP853", t_eval=times, rtol=1e-11, atol=1e-12)
    path = flow.y[: n * n].T.reshape(-1, n, n)
    return max(error(path[-1], end), error(space.metric.geodesic(X, end_point=end)(times), path))


def action():
    """Theorem 3.2 of Chen, (3.1)-(3.6): geodesics as extrema of the action

    Along a geodesic the first variation of $\\frac12 \\int_0^1 g(\\dot X, \\dot X)\\, dt$ vanishes,
    here for variations $\\sin(k \\pi t) E$, by Gauss quadrature and relative to their own action;
    and $H = \\langle P, \\dot X \\rangle - L$, the Legendre transform, with
    $P = \\partial L / \\partial \\dot X = \\mathcal A_X^{-1}(\\dot X)$.
    """
    solution = space.metric.solve_exp(0.3 * Z, X)
    nodes, weights = np.polynomial.legendre.leggauss(14)
    t, weights = (nodes + 1) / 2, weights / 2
    points, velocities = solution(t), slope(lambda step: solution(t + step), 1e-3)

    def lagrangians(x, v):
        inverses = [np.linalg.inv(matrix_of_A(point)) for point in x]
        return [0.5 * w.ravel() @ g @ w.ravel() for g, w in zip(inverses, v, strict=True)]

    def variation(k, E):
        bump = np.sin(k * pi * t)[:, None, None] * E
        rate = k * pi * np.cos(k * pi * t)[:, None, None] * E

        def varied(e):
            return weights @ lagrangians(points + e * bump, velocities + e * rate)

        return abs(slope(varied, 1e-3)) / (weights @ lagrangians(points, rate))

    worst = max(variation(k + 1, E) for k, E in enumerate(normal(3, n, n)))
    pairs = zip(points, velocities, strict=True)
    P = np.stack([np.linalg.solve(matrix_of_A(x), v.ravel()).reshape(n, n) for x, v in pairs])
    H = 0.5 * space.metric.inner_coproduct(P, P, points)
    legendre = np.sum(P * velocities, axis=(1, 2)) - lagrangians(points, velocities)
    return max(worst, error(H, legendre))


def derivatives_of_powers():
    """(3.29)-(3.31) and Lemma 3.6 of Chen, (3.32), (3.33): derivatives of powers

    The derivative of $(X X^T)^q$ in the direction Z is
    $U (\\mathcal L \\circ U^T (Z X^T + X Z^T) U) U^T$, with the Loewner matrix $\\mathcal L$ of the
    power q at the squared singular values, and that of $(X^T X)^q$ alike with V. Put together
    they are the derivative of $\\mathcal A_X$, against differences of `cometric_matrix`.
    """
    left, right = X @ X.T, X.T @ X
    turned = Z @ X.T + X @ Z.T, Z.T @ X + X.T @ Z

    def change(P):
        return sum(
            differential(left, turned[0], (N - p) / N) @ P @ power(right, (p - 1) / N)
            + power(left, (N - p) / N) @ P @ differential(right, turned[1], (p - 1) / N)
            for p in range(1, N + 1)
        )

    literal = np.stack([change(e.reshape(n, n)).ravel() for e in np.eye(n * n)], axis=1)
    return error(slope(lambda step: space.metric.cometric_matrix(X + step * Z), 1e-3), literal)


def trace_identity():
    """Lemma 3.7 of Chen, (3.36): traces of Hadamard products

    $\\operatorname{tr} A (B \\circ (C D + D C^T)) = 2 \\operatorname{tr} (A \\circ B) C D$ for
    symmetric A and B, diagonal D, any C: with $B = \\mathcal L$, $D = \\Sigma$ and
    $C = U^T Z V$ it turns the derivatives of powers into the two symmetric matrices of P'.
    """
    first, second, C = normal(3, n, n)
    first, second, D = first + first.T, second + second.T, np.diag(normal(n))
    return error(
        np.trace(first @ (second * (C @ D + D @ C.T))), 2 * np.trace((first * second) @ C @ D)
    )


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
    """Theorem 3.10 of Chen, (3.49): horizontal geodesics lie over geodesics

    $\\phi(\\exp_W(\\text{lift of } Z)) = \\exp_X(Z)$: upstairs $W_p'' = W_p S_{p-1} - S_p W_p$,
    downstairs the root chart. The velocity upstairs stays horizontal, and the lengths are equal.
    """
    above = total.metric.solve_exp(0.3 * total.horizontal_lift(Z, W), W)
    below = space.metric.solve_exp(0.3 * Z, X)
    velocity = slope(lambda step: above(0.9 + step), 1e-3)
    vertical = total.vertical_projection(velocity, above(0.9))
    return max(
        error(chain(above(1.0)), below(1.0)),
        error(above.length, below.length),
        np.linalg.norm(vertical) / np.linalg.norm(velocity),
    )


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


def lemma_2_2():
    """Lemma 2.2 of Chen, (2.5)-(2.7)

    End points $W_p = U_p L U_{p-1}^T$ and $W'_p = U'_p L' U_{p-1}'^T$ with $O_p = U_p^T U'_p$.
    (1) The line between them is balanced if and only if every $S_p = L (O_{p+1} - O_{p-1}) L'
    O_p^T$ is skew, as the imbalance of $\\mathbf W' - \\mathbf W$ is $-U_p (S_p + S_p^T) U_p^T$.
    (2) It is enough that all $O_p$ are the same, and then no layer on the way is singular. Here:
    rotations that have nothing in common, that alternate and that are all the same.
    """
    frames, turns = np.linalg.qr(normal(2, N + 1, n, n))[0]
    turns[..., 0] *= np.linalg.det(turns)[:, None]
    roots = np.exp(0.5 * normal(2, n))
    worst = 0.0
    for kind, chosen in enumerate((turns, turns[[0, 1, 0, 1, 0]], turns[[0] * (N + 1)])):
        ends = [
            (q[1:] * root) @ q[:-1].swapaxes(1, 2)
            for q, root in zip((frames, frames @ chosen), roots, strict=True)
        ]
        D = ends[1] - ends[0]
        imbalance = [D[p + 1].T @ D[p + 1] - D[p] @ D[p].T for p in range(N - 1)]
        S = [
            (roots[0][:, None] * (chosen[p + 1] - chosen[p - 1]) * roots[1]) @ chosen[p].T
            for p in range(1, N)
        ]
        literal = [-frames[p + 1] @ (s + s.T) @ frames[p + 1].T for p, s in enumerate(S)]
        line = straight_line(*ends)
        assert line.balanced == (np.abs(literal).max() < 1e-12) == (kind > 0)
        assert kind < 2 or np.isinf(line.singular_time)
        worst = max(worst, np.abs(np.subtract(imbalance, literal)).max() / np.sum(D**2))
    return float(worst)


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
    statement about this reading; (2.8) itself we could not see. The figure is of the vertical part,
    against the projection on the directions of the fibre.
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
    turns = np.linalg.qr(normal(N - 1, n, n))[0]
    frames = [right.T, *turns, left]
    layers = np.stack([(frames[p + 1] * root) @ frames[p].T for p in range(N)])
    V = np.stack([
        frames[p + 1] @ (root ** (N - 1 - p) * (Z * root**p).T).T @ frames[p].T for p in range(N)
    ])  # fmt: skip
    image = sum(chain([*layers[:p], V[p], *layers[p + 1 :]]) for p in range(N))
    return error(total.horizontal_lift(image, layers), V)


def lyapunov():
    """(3.7), (3.8) of Chen: the Bures-Wasserstein metric by the Lyapunov operator

    At positive definite S and symmetric Z, the L with $S L + L S = Z$; the metric of depth 2 is
    $\\operatorname{tr} Z L$, twice that of Bures and Wasserstein.
    """
    S, change = X @ X.T, Z + Z.T
    L = solve_continuous_lyapunov(S, change)
    shallow = DLNObservableManifold(n, 2)
    return max(
        error(spd.lyapunov(S, change), L),
        error(shallow.metric.squared_norm(change, S), np.sum(change * L)),
    )


def geometric_mean():
    """Definition 3.3 and Lemma 3.4 of Chen, (3.9), (3.10): the geometric mean

    $A \\# B = A^{1/2} (A^{-1/2} B A^{-1/2})^{1/2} A^{1/2}$ solves $G A^{-1} G = B$, is the same as
    $B \\# A$, and its inverse is $A^{-1} \\# B^{-1}$; $M = A^{-1} \\# B$ solves $M A M = B$.
    """
    first, second = X @ X.T + 0.1 * np.eye(n), Z @ Z.T + 0.1 * np.eye(n)
    root, inverse = power(first, 0.5), power(first, -0.5)
    literal = root @ power(inverse @ second @ inverse, 0.5) @ root
    found, M = spd.geometric_mean(first, second), spd.riccati(first, second)
    inverses = spd.geometric_mean(np.linalg.inv(first), np.linalg.inv(second))
    return max(
        error(found, literal),
        error(found @ np.linalg.solve(first, found), second),
        error(spd.geometric_mean(second, first), literal),
        error(inverses @ literal, np.eye(n)),
        error(M @ first @ M, second),
        error(spd.geometric_mean(np.linalg.inv(first), second), M),
    )


def lax_momentum():
    """(3.13)-(3.28) of Chen: the momentum along a Bures-Wasserstein geodesic

    $P(t) = (M - I) ((1-t) I + t M)^{-1}$, for which $\\dot P = -P^2$, against the package's
    velocity at time t by $X P + P X = \\dot X$.
    """
    shallow = DLNObservableManifold(n, 2)
    start, end = X @ X.T + 0.1 * np.eye(n), Z @ Z.T + 0.1 * np.eye(n)
    root, inverse = power(start, 0.5), power(start, -0.5)
    shift = inverse @ power(root @ end @ root, 0.5) @ inverse - np.eye(n)
    solution = shallow.metric.solve_log(end, start)
    t = np.linspace(0.1, 0.9, 5)
    velocities = slope(lambda step: solution(t + step), 1e-3)
    found = [solve_continuous_lyapunov(*pair) for pair in zip(solution(t), velocities, strict=True)]
    return error(found, [shift @ np.linalg.inv(np.eye(n) + time * shift) for time in t])


def orbits():
    """The overparametrization by group actions (Menon and Yu)

    $W_p \\mapsto h_p W_p h_{p-1}^T$ with orthogonal $h_p$, those of both ends being the identity:
    the layers stay balanced and keep their product, and the orbit is the whole fibre: the frames
    of the layers give the group element that leads to other layers of the same X.
    """
    _, s, right = np.linalg.svd(X)
    points = W, total.factor(X)
    frames = []
    for point in points:
        found = [right.T]
        for layer in point:
            found.append(layer @ found[-1] / s ** (1 / N))
        frames.append(found)
    h = [frames[0][p] @ frames[1][p].T for p in range(N + 1)]
    moved = [h[p + 1] @ points[1][p] @ h[p].T for p in range(N)]
    return max(
        error(total.act(np.stack(h[1:N]), points[1]), W),
        error(moved, W),
        error(chain(W), chain(points[1])),
        float(np.abs(total.balance(np.stack(moved)) - W).max()),
    )


def two_layers():
    """Two layers (asked by a referee of Menon and Yu)

    At N = 2 the metric solves the Sylvester equation $(X X^T)^{1/2} P + P (X^T X)^{1/2} = Z$,
    $g(Z, Z) = \\operatorname{tr} P^T Z$, the Vandermonde determinants leave
    $S = \\log c_n + \\frac12 \\sum_{i<j} \\log(s_i + s_j)$, and with $Y = (W_2; W_1^T)$ the
    manifold lies isometrically in the Bures-Wasserstein geometry of the $K = Y Y^T$ of rank n:
    $g = \\sum_{ij} (u_i^T \\dot K u_j)^2 / (2 \\lambda_i + 2 \\lambda_j)$ in eigenvectors of K.
    """
    shallow, layers = DLNObservableManifold(n, 2), BalancedManifold(n, 2)
    P = solve_sylvester(power(X @ X.T, 0.5), power(X.T @ X, 0.5), Z)
    c = 2 ** (n * (n - 1) / 4) * np.prod([2 * pi ** (k / 2) / gamma(k / 2) for k in (1, 2, 3)])
    s = np.linalg.svd(X, compute_uv=False)
    entropy = np.log(c) + 0.5 * sum(np.log(a + b) for a, b in combinations(s, 2))
    point = layers.factor(X)
    tall, moving = (
        np.concatenate([v[1], v[0].T]) for v in (point, layers.horizontal_lift(Z, point))
    )
    values, vectors = np.linalg.eigh(tall @ tall.T)
    change = vectors.T @ (moving @ tall.T + tall @ moving.T) @ vectors
    seen = values > 1e-10 * values.max()
    sums = np.add.outer(values * seen, values * seen)
    squares = np.where(sums > 0, change**2, 0) / np.where(sums > 0, 2 * sums, 1)
    found = shallow.metric.squared_norm(Z, X)
    return max(
        error(found, np.sum(P * Z)), error(found, squares.sum()), error(shallow.entropy(X), entropy)
    )


def unequal_widths():
    """Unequal widths: 4-3-5 and 4-3-5-4 (asked by a referee of Menon and Yu)

    The horizontal lift of a tangent vector of X maps onto it, has its length, and is orthogonal to
    the directions $A_p W_p - W_p A_{p-1}$ of the fibre, A skew; the sectors of the Jacobi basis are
    orthonormal and fill the ambient space.
    """
    worst = 0.0
    for widths in ((4, 3, 5), (4, 3, 5, 4)):
        network, below = BalancedManifold(widths=widths), DLNObservableManifold(widths=widths)
        point = normal(widths[-1], 3) @ normal(3, widths[0])
        vector = below.to_tangent(normal(*point.shape), point)
        flat = network.factor(point)
        lift = network.horizontal_lift(vector, flat)
        layers, moving = network.layers(flat), network.layers(lift)
        count = len(layers)
        pushed = sum(
            np.linalg.multi_dot([
                np.eye(widths[-1]),
                *[moving[q] if q == p else layers[q] for q in range(count)][::-1],
            ])
            for p in range(count)
        )  # fmt: skip
        vertical = []
        for p in range(1, count):
            for i, j in combinations(range(widths[p]), 2):
                skew = np.zeros((widths[p], widths[p]))
                skew[i, j], skew[j, i] = 1, -1
                vertical.append(np.sum((skew @ layers[p - 1]) * moving[p - 1]))
                vertical[-1] -= np.sum((layers[p] @ skew) * moving[p])
        rows = np.concatenate(network.jacobi_basis(flat))
        worst = max(
            worst,
            error(pushed, vector),
            error(below.metric.squared_norm(vector, point), np.sum(lift**2)),
            float(np.abs(vertical).max() / np.linalg.norm(lift)),
            error(rows @ rows.T, np.eye(flat.size)),
        )
    return worst


def entropy_of_widths():
    """Entropy at widths 3-4-5-3 (asked by a referee of Menon and Yu)

    The fibre consists of the $W_p = Q_p \\Lambda Q_{p-1}^T$ with hidden frames $Q_p$ of r columns
    in $d_p$ dimensions. Its volume is that of the frames,
    $2^{r(r-1)/4} \\prod_{k=d_p-r+1}^{d_p} 2 \\pi^{k/2} / \\Gamma(k/2)$ each, times the root of the
    Gram determinant of the layers' velocities as the frames move along orthonormal directions.
    """
    widths = (n, 4, 5, n)
    network = BalancedManifold(widths=widths)
    left, s, right = np.linalg.svd(X)
    frames = [right.T]
    for layer in network.layers(network.factor(X))[:-1]:
        frames.append(layer @ frames[-1] / s ** (1 / 3))
    frames.append(left)
    columns, log_volume = [], 0.0
    for p in (1, 2):
        beside = np.linalg.svd(frames[p])[0][:, n:]
        spins = []
        for i, j in combinations(range(n), 2):
            spin = np.zeros((n, n))
            spin[i, j], spin[j, i] = np.sqrt(0.5), -np.sqrt(0.5)
            spins.append(frames[p] @ spin)
        spins += [np.outer(b, e) for b in beside.T for e in np.eye(n)]
        for spin in spins:
            change = [np.zeros((widths[q + 1], widths[q])) for q in range(3)]
            change[p - 1] = (spin * s ** (1 / 3)) @ frames[p - 1].T
            change[p] = (frames[p + 1] * s ** (1 / 3)) @ spin.T
            columns.append(np.concatenate([c.ravel() for c in change]))
        k = np.arange(widths[p] - n + 1, widths[p] + 1)
        log_volume += n * (n - 1) / 4 * np.log(2) + sum(
            np.log(2 * pi ** (i / 2) / gamma(i / 2)) for i in k
        )
    gram = np.array(columns) @ np.transpose(columns)
    literal = log_volume + 0.5 * np.linalg.slogdet(gram)[1]
    return error(DLNObservableManifold(widths=widths).entropy(X), literal)


def boundary_values():
    """Section 4 of Chen, what it leaves open: any end points, and rank r

    `log`, then `exp`, which steps along knowing the velocity only: how far from the target it ends.
    Square matrices of one component, and 5 x 4 matrices of rank 2.
    """
    pairs = normal(2, 20, n, n)
    pairs[:, :, 0] *= np.sign(np.linalg.det(pairs))[..., None]
    low = DLNObservableManifold(shape=(5, 4), rank=2, depth=N)
    thin = normal(2, 20, 5, 2) @ normal(2, 20, 2, 4)
    worst = 0.0
    for metric, (start, end) in ((space.metric, pairs), (low.metric, thin)):
        reached = metric.exp(metric.log(end, start), start)
        distance = np.linalg.norm(reached - end, axis=(1, 2))
        worst = max(worst, (distance / np.linalg.norm(end, axis=(1, 2))).max())
    return float(worst)


SECTIONS = {
    "Chen, section 1: the deep linear network": (
        product_map,
        gradient_of_layers,
        conservation,
        factors,
        metric,
        flow_downstairs,
        submersion,
    ),
    "Chen, section 2: geodesics and straight lines": (
        loewner_matrix,
        dirichlet_problem,
        singular_coordinates,
        lemma_2_2,
        straight_lines,
        balanced_lines,
        equal_polar_factors,
        closed_form,
        infinite_depth,
    ),
    "Chen, section 3: action, Bures-Wasserstein, proofs": (
        action,
        hamilton,
        invariants,
        lyapunov,
        geometric_mean,
        bures_wasserstein,
        lax_momentum,
        derivatives_of_powers,
        trace_identity,
        force,
        lifted_geodesics,
        horizontal_lift,
        horizontal_frames,
    ),
    "Chen, section 4: open": (boundary_values,),
    "Menon and Yu": (
        orbits,
        jacobi_matrices,
        jacobi_basis,
        volume_of_fibre,
        entropy_formula,
        mean_curvature,
        two_layers,
        unequal_widths,
        entropy_of_widths,
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
    ("Theorem 1.1", (submersion,), "from Menon and Yu, and Menon's survey"),
    ("(2.1)", (loewner_matrix,), f"{RECONSTRUCTED}: which power"),
    ("Theorem 2.1, (2.2)", (dirichlet_problem, singular_coordinates), RECONSTRUCTED),
    ("(2.3), (2.4)", (force,), RECONSTRUCTED),
    ("Lemma 2.2, (2.5)-(2.7)", (lemma_2_2, straight_lines, balanced_lines), RECONSTRUCTED),
    ("Theorem 2.3, (2.8)", (equal_polar_factors,), "one reading, which fails: below"),
    ("Remarks 2.4, 2.5, (2.9), (2.10)", (closed_form, infinite_depth), ""),
    ("Definition 3.1, Theorem 3.2, (3.1)-(3.6)", (action, hamilton, invariants), ""),
    ("(3.7), (3.8)", (lyapunov,), ""),
    ("Definition 3.3, Lemma 3.4, (3.9), (3.10)", (geometric_mean,), "but for uniqueness"),
    ("Theorem 3.5, (3.11), (3.12)", (bures_wasserstein,), ""),
    ("(3.13)-(3.28)", (lax_momentum,), "a proof; its momentum, reconstructed"),
    ("(3.29)-(3.31), Lemma 3.6, (3.32), (3.33)", (derivatives_of_powers,), RECONSTRUCTED),
    ("Lemma 3.7, (3.36)", (trace_identity,), f"{RECONSTRUCTED}; the package does not use it"),
    ("(3.39)-(3.48)", (force,), "what the computation arrives at"),
    ("Definitions 3.8, 3.9, (3.49)", (submersion, lifted_geodesics), ""),
    ("Theorem 3.10", (lifted_geodesics,), ""),
    ("Lemma 3.11, (3.61)-(3.63)", (horizontal_lift, horizontal_frames), ""),
    ("Section 4", (boundary_values,), "solved numerically, not in closed form"),
    ("Menon and Yu: group action, fibres", (orbits,), ""),
    ("Menon and Yu: submersion", (submersion, horizontal_lift), ""),
    ("Menon and Yu: Jacobi basis", (jacobi_matrices, jacobi_basis), ""),
    (
        "Menon and Yu: entropy formula",
        (volume_of_fibre, entropy_formula, mean_curvature),
        "one review prints the power 2N for 2/N",
    ),
    (
        "Menon and Yu, as a referee asks: two layers, N = 3, widths 4-3-5",
        (two_layers, unequal_widths, entropy_of_widths),
        "ours",
    ),
)

# Each item that no computation can show, and why.
UNSHOWN = (
    (
        "Theorems 2.1, 3.2 and 3.10, Lemma 2.2 for all end points and curves",
        "statements about all of them; checked on examples",
    ),
    ("Lemma 3.4, uniqueness", "a statement about all positive definite matrices"),
    ("(3.13)-(3.28), (3.39)-(3.48), the steps", "proofs; what they arrive at is above"),
    ("(2.8)", "we know its subject, not its formula"),
    ("(3.34), (3.35), (3.37), (3.38), (3.50)-(3.60)", "their content is not known to us"),
    (
        "Menon and Yu: the fibres foliate the balanced manifold",
        "a statement about the whole of it; that orbits are fibres is above",
    ),
    (
        "Section 4: link to the training dynamics",
        "a question; [the training clock](how_to/training_clock) is one answer",
    ),
)

HEADER = r"""# The papers, reproduced

*Written by `docs/reproduce.py`, which computes every figure:
`python docs/reproduce.py docs/reproduce.md`.*

Every statement below is computed twice: by the package, and by the code that is shown, which
transcribes the formula. The figure is the largest relative difference, at n = 3 and N = 4 unless
the code says otherwise; it is larger where the literal side takes finite differences or
integrates. `python docs/reproduce.py NAME` computes one figure, of the name in the second column.

**How to read the numbers.** Numbers without a name are those of Chen, *Geodesics in the Deep Linear
Network*, arXiv 2510.07324, second version; Menon and Yu is *An entropy formula for the Deep Linear
Network*, arXiv 2509.09088, whose statements are named by subject. Our copies of both had the words,
and not the displayed formulas. Where the words do not fix the exact form of a formula, the table
says that it is reconstructed.

| item | name | figure | remark |
|---|---|---|---|
{items}

**What software cannot show:**

| item | why |
|---|---|
{unshown}

**Theorem 2.3, in plain words.** Suppose that one rotation turns both the left and the right
singular vectors of one end point into those of the other. Then, says the theorem, the geodesic
between them is the product of layers that move along straight lines. A line of layers lies over a
geodesic if it is balanced *and* horizontal, that is, orthogonal to the fibres. Read as its proof
says, with the same rotation at every layer, the line is balanced, by Lemma 2.2. But unless the end
points commute it is not horizontal: part of its velocity only turns the layers against each other,
and the line is longer than the distance. This is so at N = 2 too, where another line, with the
hidden frame turned, is the geodesic of Theorem 3.5. The reading fails; we do not say that the paper
is wrong, as (2.8) itself is not known to us. Measured between two positive definite matrices that
do not commute ([the code](#equal-polar-factors); [more of it](gallery/plot_lemma_2_2),
`python docs/claims.py theorem_2_3`):

| N | vertical share of the velocity | length of the line | distance | excess |
|---|---|---|---|---|
{defects}

"""


def title_of(check):
    """Return the title of a check and its statement."""
    title, _, statement = inspect.getdoc(check).partition("\n\n")
    return title, statement


def anchor_of(check):
    """Return the place of a check on the page."""
    return check.__name__.replace("_", "-")


def items(figures):
    """Return the rows of the table of numbered items, one for each check."""
    for name, checks, remark in ITEMS:
        for row, check in enumerate(checks):
            link = f"[`{check.__name__}`](#{anchor_of(check)})"
            first = (name, remark) if row == 0 else ("", "")
            yield f"| {first[0]} | {link} | {figures[check]:.0e} | {first[1]} |"


def page(figures):
    """Return the text of the page."""
    header = HEADER.format(
        items="\n".join(items(figures)),
        unshown="\n".join(f"| {name} | {why} |" for name, why in UNSHOWN),
        defects="\n".join(
            f"| {depth} | {share:.3f} | {length:.5f} | {distance:.5f} "
            f"| {100 * (length / distance - 1):.2f} % |"
            for depth, share, length, distance in defects_of_the_line()
        ),
    )
    parts = [header.rstrip() + "\n"]
    for section, checks in SECTIONS.items():
        parts.append(f"## {section}\n")
        for check in checks:
            title, statement = title_of(check)
            command = f"`python docs/reproduce.py {check.__name__}`"
            parts.append(
                f"({anchor_of(check)})=\n### {title}\n\n{statement}\n\n"
                f"{command} prints {figures[check]:.0e}.\n"
            )
            parts.append(f"```py\n{body_of(check)}\n```\n")
    shared = "\n\n\n".join(inspect.getsource(helper).strip() for helper in SHARED)
    parts.append(f"## What the checks share\n\n```py\n{shared}\n```\n")
    return "\n".join(parts)


SHARED = (
    normal,
    error,
    chain,
    power,
    A,
    matrix_of_A,
    loewner,
    differential,
    symmetric_pair,
    slope,
    generators,
    generator_vector,
    defects_of_the_line,
)


def body_of(check):
    """Return the code of a check without its docstring."""
    source = inspect.getsource(check)
    opening = source.index('"""')
    closing = source.index('"""', opening + 3) + 3
    return source[:opening].rstrip() + source[closing:].rstrip()


def compute(names=()):
    """Return the figure of every check, or of those of these names."""
    checks = {check.__name__: check for section in SECTIONS.values() for check in section}
    return {checks[name]: checks[name]() for name in names or checks}


if __name__ == "__main__":
    names = [name for name in sys.argv[1:] if not name.endswith(".md")]
    figures = compute(names)
    for check, figure in figures.items():
        print(f"{figure:8.1e}  {check.__name__}: {title_of(check)[0]}")
    for name in sys.argv[1:]:
        if name.endswith(".md"):
            Path(name).write_text(page(figures), encoding="utf-8")
