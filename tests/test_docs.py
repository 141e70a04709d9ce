"""The code of the documentation runs, and the errors that it lists are those that are raised."""

import re
from fnmatch import fnmatch
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import dln_manifolds

DOCS = Path(__file__).parents[1] / "docs"
BUILT = {"_build", "gallery"}
PAGES = sorted(page for page in DOCS.rglob("*.md") if not BUILT & set(page.parts))
BLOCK = re.compile(r"^```python *(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
# What blocks are marked with that need more than this package brings.
OPTIONAL = {"torch": "torch", "dask": "distributed"}
RUNNABLE = [page for page in PAGES if BLOCK.search(page.read_text(encoding="utf-8"))]


def name_of(page):
    return str(page.relative_to(DOCS))


def compiled(page, text, block):
    """Compile a block such that tracebacks show the page's own line numbers."""
    return compile("\n" * text.count("\n", 0, block.start(2)) + block[2], page, "exec")


@pytest.mark.parametrize("page", RUNNABLE, ids=name_of)
def test_code_of_a_page_runs(page):
    """All blocks of a page, one after the other; those that raise have a test of their own."""
    text = page.read_text(encoding="utf-8")
    variables = {"__name__": "__main__"}
    blocks = [block for block in BLOCK.finditer(text) if block[1] != "raises"]
    missing = {name for name, module in OPTIONAL.items() if not find_spec(module)}
    runnable = [block for block in blocks if block[1] not in missing]
    for block in runnable:
        exec(compiled(page, text, block), variables)
    if runnable != blocks:
        absent = " or ".join(sorted(missing))
        pytest.skip(f"{len(runnable)} of {len(blocks)} blocks ran: no {absent} is installed")


def test_ten_errors_say_what_the_page_says():
    page = DOCS / "errors.md"
    text = page.read_text(encoding="utf-8")
    variables, count = {}, 0
    for block in BLOCK.finditer(text):
        code = compiled(page, text, block)
        if block[1] != "raises":
            exec(code, variables)
            continue
        with pytest.raises((ValueError, ArithmeticError)) as caught:
            exec(code, variables)
        listed = re.match(r"\s*```text\n(.*?)```", text[block.end() :], flags=re.DOTALL)
        assert " ".join(listed[1].split()) == f"{caught.type.__name__}: {caught.value}"
        count += 1
    assert count == 10


def test_every_page_is_in_the_table_of_contents():
    index = "".join((DOCS / f"{name}.md").read_text(encoding="utf-8") for name in ("index", "api"))
    linked = set(re.findall(r"^[\w/]+[*]?$", index, flags=re.MULTILINE)) - {"gallery/index"}
    names = {str(page.relative_to(DOCS).with_suffix("")) for page in PAGES} - {"index"}
    assert all(any(fnmatch(name, pattern) for pattern in linked) for name in names)
    assert {pattern for pattern in linked if "*" not in pattern} <= names


def test_every_public_name_is_in_the_reference():
    """By itself, or in a module of which all is listed."""
    page = "".join(path.read_text(encoding="utf-8") for path in (DOCS / "api").glob("*.md"))
    listed = set(re.findall(r"auto(?:class|function):: (?:dln_manifolds\.)?(\w+)", page))
    modules = re.findall(r"automodule:: (dln_manifolds\.\S+)", page)
    listed |= {name for module in modules for name in vars(import_module(module))}
    listed |= {module.removeprefix("dln_manifolds.") for module in modules}
    assert {name for name in dln_manifolds.__all__ if name[0] != "_"} <= listed


def test_names_in_the_text_exist():
    """What a page calls ``space.x``, ``metric.x`` or ``plotting.x`` is there."""
    total = dln_manifolds.BalancedManifold(2, 2)
    space = dln_manifolds.DLNObservableManifold(2, 2)
    owners = {
        "space": (space, total),
        "total": (total,),
        "metric": (space.metric, total.metric),
        "solution": (dln_manifolds.GeodesicSolution,),
        "costs": (dln_manifolds.costs,),
        "diagnostics": (dln_manifolds.diagnostics,),
        **{
            name: (import_module(f"dln_manifolds.{name}"),)
            for name in ("bridges", "lowrank", "storage")
        },
    }
    fields = dln_manifolds.GeodesicSolution.__dataclass_fields__
    count = 0
    for page in (*PAGES, DOCS.parent / "README.md"):
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for owner, name in re.findall(r"`(\w+)\.(\w+)", text):
            if owner in owners and name not in ("py", *fields):
                assert any(hasattr(thing, name) for thing in owners[owner]), (page, owner, name)
                count += 1
    assert count > 20


def test_architecture_page_names_every_room():
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \|", page, flags=re.MULTILINE)
    listed = {name.split("/")[-1] for row in rows for name in re.findall(r"`([\w/]+)`", row)}
    package = Path(dln_manifolds.__file__).parent
    rooms = {
        path.stem
        for floor in ("numerics", "geometry", "geodesics", "completion", "autodiff", "manifolds")
        for path in (package / floor).glob("[!_]*.py")
    }
    beside = {"dynamics", "costs", "statistics", "checks", "errors"}
    assert listed - {""} - beside == rooms


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            file = (page.parent / target).with_suffix(".md")
            if file.parent.name == "gallery":
                assert (DOCS.parent / "examples" / f"{file.stem}.py").exists(), target
            else:
                assert file.exists(), (page, target)


def test_overview_figure_is_the_script_s(tmp_path):
    import runpy

    draw = runpy.run_path(str(DOCS / "overview_figure.py"))["draw"]
    assert len(draw().subfigs) == 2
    assert np.all((DOCS / "images" / "overview.png").stat().st_size < 300_000)
