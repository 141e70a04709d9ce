"""Examples of docstrings do what they say, without a warning."""

import doctest
import importlib
from pathlib import Path

import pytest

import dln_manifolds

PACKAGE = Path(dln_manifolds.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


def test_there_are_examples():
    assert "dln_manifolds.statistics.frechet_mean" in MODULES


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    if "import torch" in Path(PACKAGE.parent, *name.split(".")).with_suffix(".py").read_text():
        pytest.importorskip("torch")
    found = doctest.testmod(importlib.import_module(name.removesuffix(".__init__")))
    assert found.attempted
    assert not found.failed
