"""geomstats' learning algorithms run unchanged, and their answers are right."""

import subprocess
import sys
from pathlib import Path

import pytest

# The cases live beside this file and are shared with the table in the documentation.
sys.path.insert(0, str(Path(__file__).parent))
from cases import CASES, FLAT, WIDER

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


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["autograd", "pytorch"])
def test_backends(backend):
    if backend == "pytorch":
        pytest.importorskip("torch")
    process = subprocess.run(
        [sys.executable, str(SCRIPT), "--backend", backend], capture_output=True, text=True
    )
    assert process.returncode == 0, process.stdout + process.stderr
