"""What cannot be solved fails after a bounded number of evaluations, at every depth and shape."""

import math
import re

import numpy as np
import pytest

from dln_manifolds import DLNObservableManifold
from dln_manifolds.errors import ConvergenceError, DLNError
from dln_manifolds.geodesics.solution import failure

# Most of a failing log of matrices up to 5 x 5: two families of paths, and the steps in which the
# last of their work is used up.
MOST = 200_000


def spread_pair(rng, m, n, r, condition):
    """Two matrices of rank r with logarithmically spread singular values, of one sign of det."""
    pair = []
    for _ in range(2):
        left, right = (np.linalg.qr(rng.standard_normal((k, k)))[0][:, :r] for k in (m, n))
        values = np.geomspace(1, 1 / condition, r)
        pair.append((left * values) @ right.T)
    if m == n == r and np.linalg.slogdet(pair[0])[0] != np.linalg.slogdet(pair[1])[0]:
        pair[1][0] *= -1
    return pair


@pytest.mark.parametrize("condition", [pytest.param(1e5, marks=pytest.mark.slow), 1e11])
@pytest.mark.parametrize("depth", [1.3, 2, 5, 5e5, math.inf])
@pytest.mark.parametrize(("m", "n", "r"), [(3, 3, 3), (4, 4, 3), (5, 4, 4), (4, 5, 2)])
def test_hard_pairs_are_solved_or_fail_soon(m, n, r, depth, condition):
    if math.isinf(depth) and not m == n == r:
        pytest.skip("infinite depth is for square matrices of full rank")
    x, y = spread_pair(np.random.default_rng([m, n, r, 61]), m, n, r, condition)
    metric = DLNObservableManifold(shape=(m, n), rank=r, depth=depth).metric
    solution = metric.solve_log(y, x)
    assert solution.n_evaluations <= MOST
    if not solution.success:
        error = failure(solution)
        assert isinstance(error, DLNError)
        assert re.search("did not converge|meets a singular matrix", str(error))


@pytest.mark.parametrize("seed", [62, 63, 64])
def test_equal_spaces_with_cores_of_other_signs(seed):
    """At great depth any direction may turn by pi: not always solved, but soon."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((4, 3)) @ rng.standard_normal((3, 4))
    metric = DLNObservableManifold(shape=(4, 4), rank=3, depth=1e6).metric
    solution = metric.solve_log(-x, x)
    assert solution.n_evaluations <= MOST
    if solution.success:
        assert math.isclose(solution.length, math.pi, rel_tol=1e-4)
    else:
        with pytest.raises(ConvergenceError, match="did not converge"):
            metric.dist(-x, x)
