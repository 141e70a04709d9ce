"""What the README tells a reader to do works."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8") if README.exists() else ""
BLOCKS = list(re.finditer(r"^```python\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL))


def line_of(block):
    """Return the number of the line on which the code of a block begins."""
    return TEXT.count("\n", 0, block.start(1)) + 1


def test_has_python_blocks():
    assert BLOCKS


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"line{line_of(block)}")
def test_python_block_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")  # a block that draws must not open a window
    # Blank lines before the code make tracebacks show the README's own line numbers.
    source = "\n" * (line_of(block) - 1) + block[1]
    exec(compile(source, README, "exec"), {"__name__": "__main__"})


def test_each_host_has_a_quickstart_of_at_most_fifteen_lines():
    for block in BLOCKS:
        assert len([line for line in block[1].splitlines() if line.strip()]) <= 15
    for host in ("geomstats", "pymanopt"):
        assert any(f"import {host}" in b[1] or f"from {host}" in b[1] for b in BLOCKS)


def test_links_and_figures_exist():
    links = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    assert {"docs/images/clock.png", "docs/images/overview.png"} <= set(links)
    for link in links:
        assert (README.parent / link).exists(), link


@pytest.mark.parametrize(
    "command",
    [
        "python3 -m venv .venv && .venv/bin/python -m pip install -q -e . "
        "&& .venv/bin/python examples/frechet_mean.py",
        'python3 -m venv .venv && .venv/bin/python -m pip install -q -e ".[test]" '
        "&& .venv/bin/python -m pytest",
    ],
    ids=["example", "tests"],
)
def test_set_up_command_stands_verbatim(command):
    assert command in [line.strip() for line in TEXT.splitlines()]
