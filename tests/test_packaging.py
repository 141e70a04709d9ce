"""What a user gets: the citation, one version, names that say what they mean, quick imports."""

import inspect
import re
import subprocess
import sys
import types
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

import dln_manifolds
from dln_manifolds import bridges, costs, diagnostics, errors, lowrank, plotting, spd, storage
from dln_manifolds.geometry import coefficients, straight_lines
from dln_manifolds.geometry import entropy as volume
from dln_manifolds.geometry import sectors as jacobi

ROOT = Path(__file__).parents[1]
FORMULA = re.compile(r"\.\. math::|``[^`]*( = | / |<=|->|\^)[^`]*``")
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

    def test_papers_of_the_package_and_its_pages_are_cited(self, fields):
        """What this package computes, it cites."""
        cited = {i["value"] for r in fields["references"] for i in r["identifiers"]}
        files = [
            f
            for folder in ("dln_manifolds", "docs", "examples")
            for f in ROOT.glob(f"{folder}/**/*")
        ]
        named = {
            f"arXiv:{number}"
            for path in files
            if path.suffix in (".py", ".md") and "gallery" not in path.parts
            for number in re.findall(r"arXiv\s+(\d{4}\.\d{5})", path.read_text(encoding="utf-8"))
        }
        assert len(named) >= 7
        assert named <= cited


MODULES = (
    dln_manifolds,
    bridges,
    costs,
    diagnostics,
    errors,
    lowrank,
    plotting,
    spd,
    storage,
    import_module("dln_manifolds.dynamics.balancing_flow"),
    import_module("dln_manifolds.dynamics.gradient_flow"),
    straight_lines,
    coefficients,
    jacobi,
    volume,
)


def public(module):
    """Return the public classes and functions of a module by name."""
    names = getattr(module, "__all__", None)
    if names is None:
        found = vars(module).items()
        names = [n for n, thing in found if getattr(thing, "__module__", "") == module.__name__]
    return {n: getattr(module, n) for n in names if n[0] != "_" and callable(getattr(module, n))}


PUBLIC = {name: thing for module in MODULES for name, thing in public(module).items()}

# What computes nothing of this geometry has no formula and no source; each with the reason.
WITHOUT_FORMULA = {
    **dict.fromkeys(public(errors), "an error or warning"),
    "Cost": "what a cost must offer",
    "Domain": "what a cost is a function of",
    "BalancingFlow": "a record",
    "CheckResult": "a record",
    "PointRecorder": "a record",
    "check_dimension": "compares two numbers",
    "check_manifold": "runs the other checks",
    "check_projection": "says its properties in words",
    "fit_slope": "least squares",
    "load": "reads a file",
    "save": "writes a file",
    "pymanopt_problem": "hands a cost to pymanopt",
}
WITHOUT_SOURCE = WITHOUT_FORMULA | {
    "FlattenedManifold": "a view of another space",
    "GeodesicSolution": "a record",
    "FrechetVariance": "a definition",
    "LinearRegression": "a standard loss",
    "MatrixCompletion": "a standard loss",
    "MatrixSensing": "a standard loss",
    "OfLayers": "the chain rule",
    **{name: "a check by definition" for name in public(diagnostics) if name.startswith("check_")},
}


# Functions of numbers, which take arrays of any shape.
ELEMENTWISE = (coefficients.cometric_slopes,)


class TestDocstrings:
    """Every public name has formula, shapes and source, its own or those of its module."""

    GEOMETRY = (
        *(getattr(dln_manifolds, n) for n in dln_manifolds.__all__ if "Manifold" in n),
        *(getattr(dln_manifolds, n) for n in dln_manifolds.__all__ if "Metric" in n),
        dln_manifolds.DLNBundle,
    )

    @staticmethod
    def has(pattern, thing):
        """Whether a docstring, or for a function of several that of its module, has something."""
        texts = inspect.getdoc(thing), inspect.getdoc(inspect.getmodule(thing))
        return any(pattern.search(text or "") for text in texts)

    @pytest.mark.parametrize("name", PUBLIC)
    def test_formula(self, name):
        assert self.has(FORMULA, PUBLIC[name]) or name in WITHOUT_FORMULA

    @pytest.mark.parametrize("name", PUBLIC)
    def test_source(self, name):
        assert self.has(SOURCE, PUBLIC[name]) or name in WITHOUT_SOURCE

    def test_exceptions_are_needed(self):
        """A name that has its source is no exception, and no name has gone."""
        assert PUBLIC.keys() >= WITHOUT_SOURCE.keys()
        sourced = [name for name in WITHOUT_SOURCE if self.has(SOURCE, PUBLIC[name])]
        assert sourced == ["BalancingFlow"]  # its module has a source, and it no formula

    @pytest.mark.parametrize("thing", GEOMETRY, ids=lambda t: t.__name__)
    def test_classes_by_themselves(self, thing):
        """Those that users hold lean on no module."""
        text = inspect.getdoc(thing)
        assert FORMULA.search(text)
        assert SOURCE.search(text) or thing is dln_manifolds.FlattenedManifold
        assert "shape" in text

    @pytest.mark.parametrize("name", PUBLIC)
    def test_shapes_of_arrays(self, name):
        """Every array among the parameters and results of a numpydoc section has its shape."""
        thing = PUBLIC[name]
        members = [thing]
        if isinstance(thing, type):
            found = [m for n, m in inspect.getmembers(thing) if not n.startswith("_")]
            members += [inspect.unwrap(m) for m in found if isinstance(m, types.FunctionType)]
        for member in members:
            if not (member.__module__ or "").startswith("dln_manifolds"):
                continue
            text = inspect.getdoc(member) or ""
            if "each of shape" in text or member in ELEMENTWISE:
                continue
            for line in text.splitlines():
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
