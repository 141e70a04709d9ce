"""The house: imports go down the floors only, modules stay short, public names are documented."""

import ast
import sys
from graphlib import CycleError, TopologicalSorter
from importlib.resources import files
from pathlib import Path

import pytest

import dln_manifolds
from dln_manifolds import BalancedManifold, DLNObservableManifold

PACKAGE = "dln_manifolds"
ROOT = Path(dln_manifolds.__file__).parent
MAX_LINES = 400

# The floors from below; beside them stand errors and checks, and what is not listed (plotting, the
# package itself) stands on top of the house.
NUMERICS = {"numerics", "errors"}
GEOMETRY = NUMERICS | {"geometry", "checks"}
SOLVERS = GEOMETRY | {"geodesics"}
USERS = SOLVERS | {"dynamics", "costs", "statistics"}

# What each part may import of the package besides itself.
BELOW = {
    "_version": set(),
    "errors": set(),
    "numerics": {"errors"},
    "geometry": NUMERICS,
    "checks": NUMERICS | {"geometry"},
    "geodesics": GEOMETRY - {"checks"},
    "dynamics": SOLVERS,
    "costs": SOLVERS,
    "statistics": SOLVERS,
    "autodiff": USERS,
    "manifolds": USERS | {"autodiff", "_version"},
}

# What the parts that know no host may import from outside the standard library.
FOREIGN = {
    "_version": set(),
    "errors": {"numpy"},
    "numerics": {"numpy"},
    "geometry": {"numpy", "scipy"},
    "geodesics": {"numpy", "scipy"},
    "dynamics": {"numpy", "scipy"},
    "checks": {"numpy"},
    "costs": {"numpy"},
    "statistics": {"numpy", "joblib"},
}


def module_name(path):
    """Return the dotted name of a source file."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in SOURCES.items()}


def part(name):
    """Return the floor, or the module beside the floors, that a module of the package is in."""
    return name.split(".")[1] if "." in name else PACKAGE


def imports(name):
    """Return the dotted names of all modules that a module imports, wherever it does so."""
    is_package = SOURCES[name].name == "__init__.py"
    found = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = name.split(".")
                parents = parents[: len(parents) - node.level + is_package]
                base = ".".join([*parents, base] if base else parents)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                found.add(full if full in SOURCES else base)
    return found


def inner_imports(name):
    """Return the modules of the package among the imports of a module."""
    return {target for target in imports(name) if target.split(".")[0] == PACKAGE}


def undocumented(body, prefix=""):
    """Yield the public functions and classes of a module or class that have no docstring."""
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if node.name.startswith("_"):
            continue
        decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
        # A setter or deleter is documented by its getter, overloads by the implementation.
        if decorators & {f"{node.name}.setter", f"{node.name}.deleter", "overload"}:
            continue
        if not ast.get_docstring(node):
            yield prefix + node.name
        if isinstance(node, ast.ClassDef):
            yield from undocumented(node.body, f"{prefix}{node.name}.")


def check_acyclic(graph):
    """Fail, naming the cycle, if a graph of imports has one."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


def test_the_floors_are_there():
    assert {part(name) for name in SOURCES} >= BELOW.keys()


@pytest.mark.parametrize("name", [name for name in SOURCES if part(name) in BELOW])
def test_imports_go_down_only(name):
    allowed = BELOW[part(name)] | {part(name)}
    upward = {target for target in inner_imports(name) if part(target) not in allowed}
    assert not upward


@pytest.mark.parametrize("name", [name for name in SOURCES if part(name) in FOREIGN])
def test_lower_floors_know_no_host(name):
    foreign = {target.split(".")[0] for target in imports(name)} - sys.stdlib_module_names
    assert foreign <= FOREIGN[part(name)] | {PACKAGE}


def test_no_cycle_between_floors():
    graph = {part(name): set() for name in SOURCES}
    for name in SOURCES:
        graph[part(name)] |= {part(target) for target in inner_imports(name)} - {part(name)}
    check_acyclic(graph)


def test_no_cycle_between_modules():
    check_acyclic({name: inner_imports(name) - {name} for name in SOURCES})


@pytest.mark.parametrize("name", SOURCES)
def test_module_is_short(name):
    assert len(SOURCES[name].read_text(encoding="utf-8").splitlines()) <= MAX_LINES


@pytest.mark.parametrize("name", SOURCES)
def test_public_names_are_documented(name):
    assert not list(undocumented(TREES[name].body))


@pytest.mark.parametrize("kind", [DLNObservableManifold, BalancedManifold])
def test_a_log_visits_few_rooms_above_the_solvers(kind):
    """The layer around methods, the metric and the checks: what a newcomer has to read."""
    space = kind(3, 4)
    X = space.random_point()
    Y = space.metric.exp(0.1 * space.random_tangent_vec(X), X)
    seen = set()

    def visit(frame, event, argument):
        seen.add(frame.f_globals.get("__name__", ""))

    sys.setprofile(visit)
    try:
        space.metric.log(Y, X)
    finally:
        sys.setprofile(None)
    below = NUMERICS | {"geometry", "geodesics"}
    above = {name for name in seen if name.split(".")[0] == PACKAGE and part(name) not in below}
    assert above <= {
        f"{PACKAGE}.{room}" for room in ("autodiff.dispatch", "manifolds.metric", "checks")
    }


def test_type_marker_is_shipped():
    assert files(PACKAGE).joinpath("py.typed").is_file()
