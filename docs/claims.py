"""Compute what the page "What the computations say" claims.

    python docs/claims.py             every claim
    python docs/claims.py bounds      one of them

Each function checks one claim on a sample: it returns what was found, as text, and whether that
agrees with the claim.
"""

import math
import sys

import numpy as np

from dln_manifolds import BalancedManifold, DLNObservableManifold, costs
from dln_manifolds.geometry.second_fundamental_form import second_fundamental_form
from dln_manifolds.geometry.straight_lines import straight_line

INF = math.inf


def metric(depth, n=3):
    """Return the metric of n x n matrices at a depth."""
    return DLNObservableManifold(n=n, depth=depth).metric


def normal(*shape, seed=0):
    """Draw Gaussian numbers."""
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def smallest(points, depth):
    """Return the sum of the two smallest ``x_i = s_i^(2/N)``, two at infinite depth."""
    return np.sum(np.linalg.svd(points, compute_uv=False)[..., -2:] ** (2 / depth), axis=-1)


def limits(depth):
    """Return the conjectured bounds of ``K (x_(n-1) + x_n)``."""
    high = (depth**2 - 1) / depth if math.isfinite(depth) else 1.0
    return -high / 3, high


def both_signs():
    """Sectional curvature at random planes, and two planes at the identity."""
    shares, good = [], True
    for depth in (1.5, 2, 3, 8, INF):
        K = metric(depth).sectional_curvature(*normal(2, 2000, 3, 3), normal(2000, 3, 3))
        shares.append(np.mean(K < 0))
        first, rotation, stretch = np.zeros((3, 3, 3))
        first[0, 0], first[1, 1], rotation[0, 1], rotation[1, 0] = 1, -1, -1, 1
        stretch[0, 1] = stretch[1, 0] = 1
        values = metric(depth).sectional_curvature(first, np.stack([rotation, stretch]), np.eye(3))
        wanted = limits(depth)[0] / 2
        good &= np.allclose(values, [wanted, -3 * wanted], rtol=1e-12) and 0.2 < shares[-1] < 0.6
    return f"{100 * min(shares):.0f} to {100 * max(shares):.0f} % of planes are negative", good


def flat_planes():
    """Planes with the radial direction, and planes of diagonal directions, are flat."""
    worst = 0.0
    for depth in (1.5, 3, INF):
        X, Z = normal(2, 50, 3, 3)
        s, a, b = normal(3, 50, 3)
        wide = [v[..., None] * np.eye(3) for v in (np.exp(s), a, b)]
        # X' of the cone: all roots grow alike.
        for found in (
            metric(depth).sectional_curvature(X, Z, X),
            metric(depth).sectional_curvature(*wide[1:], wide[0]),
        ):
            worst = max(worst, np.abs(found).max())
    return f"largest curvature {worst:.0e}", worst < 1e-9


def bounds():
    """Climb from random planes towards either extreme, of n = 2 and 3, N = 2, 3, 8, infinity."""
    rng, shares = np.random.default_rng(0), []
    for n in (2, 3):
        for depth in (2, 3, 8, INF):
            for bound in limits(depth):
                state, best, size = rng.normal(size=(3, 150, n, n)), np.full(150, -np.inf), 0.0
                for _ in range(40):
                    x, a, b = trial = state + size * rng.normal(size=state.shape)
                    share = metric(depth, n).sectional_curvature(a, b, x) * smallest(x, depth)
                    better = share / bound > best
                    state[:, better], best[better] = trial[:, better], share[better] / bound
                    size = rng.choice([0.3, 0.1, 0.03])
                shares.append(best.max())
    return f"reached {min(shares):.3f} to {max(shares):.3f} of the bounds", max(shares) < 1 + 1e-9


def small_singular_values():
    """How curvature grows as one, or two, of three singular values fall from 1e-4 to 1e-8."""
    growth = {}
    for depth in (1.5, 2, 3):
        for count in (1, 2):
            largest = []
            for size in (1e-4, 1e-8):
                X = np.diag([1, 0.5, 0.8 * size] if count == 1 else [1, size, 0.8 * size])
                np.random.seed(0)
                planes = metric(depth).random_unit_tangent_vec(X, 400).reshape(2, 200, 3, 3)
                largest.append(np.abs(metric(depth).sectional_curvature(*planes, X)).max())
            growth[depth, count] = largest[1] / largest[0]
    bounded = [growth[2, 1], growth[3, 1]]
    without = [growth[1.5, 1], *(growth[depth, 2] for depth in (1.5, 2, 3))]
    found = f"factors: N = 2, 3, one: {max(bounded):.2f}; N = 1.5, one: {growth[1.5, 1]:.0f}; "
    return f"{found}two: {min(without[1:]):.0f} and more", max(bounded) < 1.1 < 5 < min(without)


def scalar_and_ricci():
    """Signs of the scalar curvature and of eigenvalues of the Ricci tensor."""
    least, mixed = np.inf, 0
    for n in (2, 3, 4):
        units = np.eye(n * n).reshape(-1, 1, n, n)
        for depth in (1.5, 2, 3, 8, INF):
            m, X = metric(depth, n), normal(100, n, n)
            least = min(least, m.scalar_curvature(X).min())
            basis = m.from_orthonormal_coordinates(units, X).reshape(n * n, 100, n * n)
            forms = np.einsum("aki,kij,bkj->kab", basis, m.ricci_tensor(X), basis)
            values = np.linalg.eigvalsh(forms)
            mixed += np.count_nonzero((values[:, 0] < -1e-9) & (values[:, -1] > 1e-9))
    found = f"least scalar curvature {least:.3f}; Ricci has both signs at {mixed} of 1500 matrices"
    return found, least > 0 and mixed > 0


def aimed(depth, size=2.0):
    """Return a 2 x 2 matrix and a unit vector from it nearly towards equal singular values."""
    X = np.diag(np.exp([size, -size]))
    roots = np.diag(X) ** (1 / depth)
    inward = np.diag(np.diag(X) / roots * np.array([-roots[1], roots[0]]))
    m = metric(depth, 2)
    across = m.normalize(np.array([[0.0, 1.0], [1.0, 0.0]]), X)
    return X, m.normalize(m.normalize(inward, X) + 0.02 * across, X)


def conjugate_points():
    """First conjugate times of aimed 2 x 2 geodesics, and of random ones at N <= 2."""
    times = {}
    for depth in (1.5, 2, 2.3, 2.5, 3, 8):
        X, Z = aimed(depth, 4.0)
        times[depth] = float(metric(depth, 2).conjugate_time(Z, X, t_max=80.0))
    none = []
    for depth in (1.5, 2):
        m, X = metric(depth, 2), normal(8, 2, 2)
        none.append(m.conjugate_time(m.normalize(normal(8, 2, 2, seed=1), X), X, t_max=5.0))
    listed = ", ".join(f"{depth}: {time:.2f}" for depth, time in times.items())
    seen = [depth for depth, time in times.items() if math.isfinite(time)]
    return f"first conjugate time by depth {listed}", seen == [2.3, 2.5, 3, 8] and np.isinf(
        none
    ).all()


def infinite_depth_conjugate():
    """Shortest conjugate time at infinite depth over starts and directions, by pi sqrt(2)."""
    found = []
    for size in (0.5, 1.0, 2.0):
        X, Z = aimed(INF, size)
        found.append(float(metric(INF, 2).conjugate_time(Z, X, t_max=12.0)))
    least = min(found) / (math.pi * math.sqrt(2))
    return f"shortest: {least:.3f} times pi sqrt(2)", 1 <= least < 2


def theorem_2_3():
    """One rotation for all layers: balance, vertical part and length of the line, N = 2, 3, 4."""
    basis = np.linalg.qr(normal(3, 3))[0]
    first, last = np.diag([2.0, 1.0, 0.4]), (basis * [1.5, 0.8, 0.3]) @ basis.T
    parts, good = [], True
    for depth in (2, 3, 4):
        roots = [
            (v * w ** (1 / depth)) @ v.T for w, v in (np.linalg.eigh(x) for x in (first, last))
        ]
        line = straight_line(*(np.stack([root] * depth) for root in roots))
        excess = line.length / metric(depth).dist(first, last) - 1
        good &= bool(line.balanced) and line.vertical_defect > 1e-2 and excess > 1e-5
        parts.append(f"N = {depth}: vertical {line.vertical_defect:.2f}, +{100 * excess:.2f} %")
    return "; ".join(parts), good


def completeness():
    """A geodesic that ends at finite length, and ``|log s - log s'| <= d`` at infinite depth."""
    depth, X = 3, np.eye(3)
    solution = metric(depth).solve_exp(-2 * depth * X, X)
    X, Y = normal(2, 100, 3, 3)
    Y[:, 0] *= np.sign(np.linalg.det(X) * np.linalg.det(Y))[:, None]
    logs = [np.log(np.linalg.svd(x, compute_uv=False)) for x in (X, Y)]
    share = np.linalg.norm(logs[0] - logs[1], axis=-1) / metric(INF).dist(X, Y)
    return f"largest |log s - log s'| / d: {share.max():.6f}", bool(
        not solution.success and share.max() <= 1 + 1e-12
    )


def convergence():
    """Ratios by which doubling N divides the differences from the distance at infinite depth."""
    X, Y = np.eye(3) + 0.3 * normal(2, 3, 3)
    turned = np.linalg.inv(X), np.linalg.inv(Y)
    limit, differences = metric(INF).dist(X, Y), []
    for depth in (256, 512):
        both = [math.sqrt(depth) * metric(depth).dist(*pair) for pair in ((X, Y), turned)]
        differences.append([both[0] - limit, sum(both) / 2 - limit])
    plain, mean = np.divide(*differences)
    return f"{plain:.3f} and {mean:.3f}", abs(plain - 2) < 0.05 and abs(mean - 4) < 0.05


def minimal():
    """Mean curvature of the balanced layers in Euclidean space, N = 2 and 3."""
    sizes = {}
    for depth in (2, 3):
        total = BalancedManifold(n=3, depth=depth)
        W = total.factor(np.eye(3) + 0.3 * normal(3, 3))
        basis = total.jacobi_basis(W)
        vectors = np.concatenate([basis.horizontal, basis.vertical])
        bent = second_fundamental_form(total.stratum.frame(W), vectors, vectors).sum(axis=0)
        sizes[depth] = np.linalg.norm(bent)
    return f"N = 2: {sizes[2]:.0e}, N = 3: {sizes[3]:.2f}", sizes[2] < 1e-12 < 1e-2 < sizes[3]


def laplacian():
    """Laplacian of ``N sum s^(2/N)``, the squared distance from zero: twice the dimension."""
    worst = 0.0
    for depth in (1.5, 2, 3, 8):
        q = 2 / depth
        cost = costs.SpectralFunction(
            lambda s, q=q: 2 / q * np.sum(s**q, axis=-1),
            lambda s, q=q: 2 * s ** (q - 1),
            lambda s, q=q: 2 * (q - 1) * s[..., None] ** (q - 2) * np.eye(s.shape[-1]),
        )
        found = metric(depth).laplacian(cost, normal(50, 3, 3))
        worst = max(worst, np.abs(found / 18 - 1).max())
    return f"relative error {worst:.0e}", worst < 1e-10


CLAIMS = (
    both_signs,
    flat_planes,
    bounds,
    small_singular_values,
    scalar_and_ricci,
    conjugate_points,
    infinite_depth_conjugate,
    theorem_2_3,
    completeness,
    convergence,
    minimal,
    laplacian,
)


def main(names):
    """Print what was found for the claims of these names, or for all."""
    for claim in CLAIMS:
        if not names or claim.__name__ in names:
            found, good = claim()
            print(f"{claim.__name__}: {found}: {'agrees' if good else 'DOES NOT AGREE'}")


if __name__ == "__main__":
    main(sys.argv[1:])
