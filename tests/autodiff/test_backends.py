"""Runs the checks of this directory on every backend of geomstats, each in a process of its own.

The backend is chosen when geomstats is first imported, hence the processes. What the checks record
must agree between backends.
"""

import importlib.util
import json
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
# geomstats' test cases of bundle and quotient are shared with the numpy backend, at one size here.
CHECKS = [*sorted(HERE.glob("check_*.py")), HERE.parent / "manifolds/test_bundle_conformance.py"]
SELECTION = "check_ or 2-3"
needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed"
)
BACKENDS = ["autograd", pytest.param("pytorch", marks=needs_torch)]


@lru_cache
def run(backend, folder, speed="not slow"):
    """Run all checks on a backend: the process and the values that they recorded."""
    target = folder / f"{backend} {speed}.json"
    process = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "-rf"),
            *("-k", SELECTION, "-m", speed),
            # geomstats asks for a sparse tensor by an old name.
            *("-W", "ignore:torch.sparse.SparseTensor:UserWarning"),
            *map(str, CHECKS),
        ],
        env={**os.environ, "GEOMSTATS_BACKEND": backend, "DLN_RECORDED": str(target)},
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        timeout=600,
    )
    values = json.loads(target.read_text(encoding="utf-8")) if target.exists() else {}
    return process, values


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("backends")


@pytest.mark.parametrize("backend", BACKENDS)
def test_checks_pass(backend, folder):
    process, values = run(backend, folder)
    assert process.returncode == 0, process.stdout + process.stderr
    assert values


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_slow_checks_pass(backend, folder):
    process, _ = run(backend, folder, "slow")
    assert process.returncode == 0, process.stdout + process.stderr


@needs_torch
def test_backends_agree(folder):
    (_, first), (_, second) = (run(backend, folder) for backend in ("autograd", "pytorch"))
    assert first.keys() == second.keys()
    for name, value in first.items():
        a, b = np.array(value), np.array(second[name])
        assert a.shape == b.shape, name
        assert np.abs(a - b).max(initial=0) <= 1e-10 * max(1.0, np.abs(a).max(initial=0)), name


def test_torch_is_imported_only_where_it_is_used():
    # pymanopt imports it where it finds it; whether we do is seen by the module that does.
    code = (
        "import sys, dln_manifolds; sys.exit('dln_manifolds.autodiff.torch_arrays' in sys.modules)"
    )
    env = {**os.environ, "GEOMSTATS_BACKEND": "numpy"}
    assert subprocess.run([sys.executable, "-c", code], env=env).returncode == 0
