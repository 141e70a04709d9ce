"""What a user gets: the citation, one version, names that say what they mean, quick imports."""

import inspect
import re
import subprocess
import sys
import types
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

import dln_manifolds
from dln_manifolds import bridges, costs, plotting, storage

ROOT = Path(__file__).parents[1]
FORMULA = re.compile(r"\.\. math::|``[^`]*(=|<=|->|\^|_)[^`]*``")
SOURCE = re.compile(r"arXiv|\b(19|20)\d\d\b")


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


class TestVersion:
    def test_one_place(self):
        assert version("dln-manifolds") == dln_manifolds.__version__
        written = [
            path.relative_to(ROOT).as_posix()
            for path in (*ROOT.glob("*.toml"), *ROOT.glob("*.cff"), *ROOT.glob("dln_*/**/*.py"))
            if f'"{dln_manifolds.__version__}"' in path.read_text(encoding="utf-8")
        ]
        assert written == ["dln_manifolds/_version.py"]

    def test_changelog_knows_it(self):
        assert f"## [{dln_manifolds.__version__}]" in read("CHANGELOG.md")


class TestCitation:
    @pytest.fixture
    def fields(self):
        return yaml.safe_load(read("CITATION.cff"))

    def test_required_fields(self, fields):
        """Those of the Citation File Format 1.2.0."""
        assert fields["cff-version"] == "1.2.0"
        assert fields["type"] == "software"
        assert fields["license"] == "MIT"
        for name in ("message", "title", "authors"):
            assert fields[name]
        # A version here would be a second place for it.
        assert "version" not in fields

    def test_references_are_complete(self, fields):
        assert len(fields["references"]) >= 7
        for reference in fields["references"]:
            assert reference["type"] == "article"
            assert reference["title"]
            assert 1980 < reference["year"] < 2100
            for author in reference["authors"]:
                assert author["family-names"]
                assert author["given-names"]
            (identifier,) = reference["identifiers"]
            assert re.fullmatch(r"arXiv:\d{4}\.\d{4,5}", identifier["value"])

    def test_papers_of_the_docstrings_are_cited(self, fields):
        """What this package computes, it cites."""
        cited = " ".join(i["value"] for r in fields["references"] for i in r["identifiers"])
        for number in ("2510.07324", "2509.09088", "2411.09004", "1910.05505", "2511.01137"):
            assert number in cited


class TestDocstrings:
    """Formula, shapes and source for every public name that computes."""

    GEOMETRY = (
        *(getattr(dln_manifolds, n) for n in dln_manifolds.__all__ if "Manifold" in n),
        *(getattr(dln_manifolds, n) for n in dln_manifolds.__all__ if "Metric" in n),
        dln_manifolds.DLNBundle,
    )
    FIGURES = tuple(getattr(plotting, name) for name in plotting.__all__)
    OTHERS = (
        dln_manifolds.GeodesicSolution,
        *(getattr(module, n) for module in (bridges, storage, costs) for n in module.__all__),
    )

    @pytest.mark.parametrize(
        "thing", [*GEOMETRY, *FIGURES, costs.Entropy], ids=lambda t: t.__name__
    )
    def test_formula_and_source(self, thing):
        text = inspect.getdoc(thing)
        assert FORMULA.search(text)
        # A view of another space has no source of its own.
        assert SOURCE.search(text) or thing is dln_manifolds.FlattenedManifold

    @pytest.mark.parametrize("thing", GEOMETRY, ids=lambda t: t.__name__)
    def test_shape_of_points(self, thing):
        assert "shape" in inspect.getdoc(thing)

    @pytest.mark.parametrize("thing", [*GEOMETRY, *FIGURES, *OTHERS], ids=lambda t: t.__name__)
    def test_shapes_of_arrays(self, thing):
        """Every array among the parameters and results of a numpydoc section has its shape."""
        members = [thing]
        if isinstance(thing, type):
            public = [m for name, m in inspect.getmembers(thing) if not name.startswith("_")]
            members += [inspect.unwrap(m) for m in public if isinstance(m, types.FunctionType)]
        for member in members:
            if not (member.__module__ or "").startswith("dln_manifolds"):
                continue
            for line in (inspect.getdoc(member) or "").splitlines():
                if re.match(r"\w+(, \w+)* : .*(array|ndarray)", line):
                    assert "shape" in line, (member.__qualname__, line)


def test_import_brings_nothing_optional():
    """Beyond what the hosts import themselves: no matplotlib, PyTorch or scikit-learn of ours."""
    code = """
import sys
import geomstats.geometry.fiber_bundle, geomstats.geometry.quotient_metric
import geomstats.geometry.riemannian_metric, pymanopt
before = set(sys.modules)
import dln_manifolds, dln_manifolds.bridges, dln_manifolds.plotting, dln_manifolds.storage
new = {name.split(".")[0] for name in set(sys.modules) - before}
print(*sorted(new & {"matplotlib", "torch", "sklearn", "pandas", "jax", "pyriemann", "sphinx"}))
print(len([name for name in set(sys.modules) - before if not name.startswith("dln_manifolds")]))
"""
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.splitlines()
    assert answer[0] == ""
    # Modules of others that only we bring: a count, as times say nothing on a busy machine.
    assert int(answer[1]) < 120
