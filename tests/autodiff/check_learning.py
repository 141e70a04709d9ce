"""geomstats' regression on matrices of lower rank and of infinite depth: it needs derivatives."""

import sys
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from dln_manifolds import DLNObservableManifold

sys.path.insert(0, str(Path(__file__).parents[1] / "learning"))
from cases import EXACT, Case, check_regression

SPACES = {
    "rank 2": lambda: DLNObservableManifold(shape=(4, 3), rank=2, depth=3),
    "infinite depth": lambda: DLNObservableManifold(n=2, depth=np.inf),
}
METHODS = {
    "riemannian": {"method": "riemannian"},
    "extrinsic": {"method": "extrinsic", "optimizer": EXACT},
}


def selected():
    """Yield all, of which two are quick."""
    quick = ("rank 2", "extrinsic", "frechet"), ("infinite depth", "riemannian", "frechet")
    for case in product(SPACES, METHODS, ("frechet", "data", "warm_start")):
        yield pytest.param(*case, marks=[] if case in quick else [pytest.mark.slow])


@pytest.mark.parametrize(("kind", "method", "start"), list(selected()))
def test_regression(kind, method, start):
    check = partial(check_regression, start=start, **METHODS[method])
    Case("regression", check).run_on(SPACES[kind]())
