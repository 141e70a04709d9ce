"""Every figure of the page that reproduces the papers is reached, and the page is up to date."""

import re
import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"

# Looser where the literal side takes finite differences or integrates.
BOUNDS = {
    "gradient_of_layers": 1e-10,
    "conservation": 1e-11,
    "flow_downstairs": 1e-9,
    "jacobi_basis": 1e-9,
    "hamilton": 1e-8,
    "dirichlet_problem": 1e-9,
    "action": 1e-8,
    "force": 1e-9,
    "derivatives_of_powers": 1e-9,
    "lax_momentum": 1e-10,
    "lifted_geodesics": 1e-10,
    "singular_coordinates": 1e-8,
    "infinite_depth": 1e-7,  # terms of the order 1/N^2 at N = 10,000
    "invariants": 1e-9,
    "boundary_values": 1e-10,
}


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(DOCS / "reproduce.py"))


@pytest.fixture(scope="module")
def figures(script):
    return script["compute"]()


def test_figures(figures):
    assert len(figures) == 39
    for check, figure in figures.items():
        assert figure < BOUNDS.get(check.__name__, 1e-12), check.__name__


def test_every_check_stands_beside_an_item(script):
    """And no check is in the table of items that is not on the page."""
    listed = {check for _, checks, _ in script["ITEMS"] for check in checks}
    assert listed == {check for checks in script["SECTIONS"].values() for check in checks}


def test_defects_of_theorem_2_3(script):
    """Read with one rotation, the line has a vertical part and is longer than the geodesic."""
    rows = list(script["defects_of_the_line"]())
    assert [row[0] for row in rows] == [2, 3, 4]
    assert all(share > 0.01 and length > 1.0003 * distance for _, share, length, distance in rows)


def test_a_name_computes_one_figure(script):
    (check,) = script["compute"](["metric"])
    assert check.__name__ == "metric"
    assert "`python docs/reproduce.py metric` prints" in (DOCS / "reproduce.md").read_text("utf-8")


def test_page_is_the_script_s(script):
    """But for the figures, which differ between machines in the last digits."""
    number = re.compile(r"\b\d+e-\d+\b(?= \||\.)")
    page = (DOCS / "reproduce.md").read_text(encoding="utf-8")
    written = script["page"](
        {check: 1e-16 for checks in script["SECTIONS"].values() for check in checks}
    )
    assert number.sub("*", page) == number.sub("*", written)
