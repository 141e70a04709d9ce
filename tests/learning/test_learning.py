"""geomstats' learning algorithms run unchanged, and their answers are right."""

import subprocess
import sys
from pathlib import Path

import pytest

# The cases live beside this file and are shared with the table in the documentation.
sys.path.insert(0, str(Path(__file__).parent))
from cases import CASES, FLAT, MATRIX, WIDER

from dln_manifolds import DLNObservableManifold

# Beside the square matrices of full rank of the table.
OTHERS = {
    "rank 2": lambda: DLNObservableManifold(shape=(4, 3), rank=2, depth=3),
    "rank 1": lambda: DLNObservableManifold(n=3, rank=1, depth=1.5),
    "infinite depth": lambda: DLNObservableManifold(n=2, depth=float("inf")),
}
OTHERS["rank 2, flattened"] = lambda: OTHERS["rank 2"]().flattened(orthonormal=True)
# geomstats reshapes what it has flattened to square matrices.
SQUARE = ("TangentPCA, transform and inverse", "ToTangentSpace")
SCRIPT = Path(__file__).parents[2] / "docs" / "make_algorithm_table.py"


def selected():
    """Yield every case on every kind of space; what repeats another kind's work is slow."""
    for case in CASES:
        for space in case.spaces:
            repeats = space in FLAT and not case.limits and set(case.spaces) != set(FLAT)
            repeats |= space in WIDER
            marks = [pytest.mark.slow] if repeats or case.slow else []
            yield pytest.param(case, space, marks=marks, id=f"{case.name}-{space}")


@pytest.mark.parametrize(("case", "space"), list(selected()))
def test_case(case, space):
    if not case.limit(space, "numpy"):
        case.run(space)
        return
    # A limit that is gone should be taken from the table.
    with pytest.raises(Exception, match=r".") as caught:
        case.run(space)
    assert not isinstance(caught.value, AssertionError)


def of_matrices():
    """Yield every case on matrices of every kind, or on their flattened view."""
    for case in CASES:
        if case.limit(FLAT[0], "numpy") or not {MATRIX, FLAT[0]} & set(case.spaces):
            continue
        flat = MATRIX not in case.spaces or bool(case.limit(MATRIX, "numpy"))
        for kind in OTHERS:
            square = kind == "rank 1" or case.name not in SQUARE
            if (kind == "rank 2, flattened") == (flat or not square):
                marks = [pytest.mark.slow] if case.slow or "rank 2" not in kind else []
                yield pytest.param(case, kind, marks=marks, id=f"{case.name}-{kind}")


@pytest.mark.parametrize(("case", "kind"), list(of_matrices()))
def test_case_of_matrices_of_every_kind(case, kind):
    case.run_on(OTHERS[kind]())


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["autograd", "pytorch"])
def test_backends(backend):
    if backend == "pytorch":
        pytest.importorskip("torch")
    process = subprocess.run(
        [sys.executable, str(SCRIPT), "--backend", backend], capture_output=True, text=True
    )
    assert process.returncode == 0, process.stdout + process.stderr
