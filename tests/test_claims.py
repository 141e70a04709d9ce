"""What the page "What the computations say" claims, and that it says so in the agreed words."""

import re
import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
SCRIPT = runpy.run_path(str(DOCS / "claims.py"))
CLAIMS = {claim.__name__: claim for claim in SCRIPT["CLAIMS"]}


@pytest.mark.parametrize("name", CLAIMS)
def test_computations_agree(name):
    found, good = CLAIMS[name]()
    assert good, found
    assert CLAIMS[name].__doc__


def test_every_claim_has_its_word_and_its_command():
    page = (DOCS / "what_the_computations_say.md").read_text(encoding="utf-8")
    _, *sections = re.split(r"^## ", page, flags=re.MULTILINE)
    items = re.findall(
        r"^- (.*?)(?=^- |^\n(?! )|\Z)", "\n".join(sections), re.MULTILINE | re.DOTALL
    )
    words = [re.match(r"\*\*(proven|checked|open)\*\*", item)[1] for item in items]
    named = [re.search(r"`python docs/claims\.py (\w+)`", item)[1] for item in items]
    assert set(words) == {"proven", "checked", "open"}
    assert sorted(named) == sorted(CLAIMS)


def test_the_command_prints_what_was_found(capsys):
    SCRIPT["main"](["flat_planes"])
    assert re.fullmatch(r"flat_planes: .*: agrees\n", capsys.readouterr().out)
