"""Progress: what is told, to whom, and that nothing is by default."""

import sys

import pytest

from dln_manifolds.numerics import progress as module
from dln_manifolds.numerics.progress import told


def work(progress, total=5):
    """Do five steps in three parts."""
    with told(progress, total, "pairs") as advance:
        for count in (2, 2, 1):
            advance(count)


def test_nothing_is_told_by_default(capsys):
    work(False)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("total", [5, None])
def test_a_function_is_told_what_is_done(total, capsys):
    calls = []
    work(lambda *given: calls.append(given), total)
    assert calls == [(0, total), (2, total), (4, total), (5, total)]
    assert capsys.readouterr() == ("", "")


def test_what_the_function_raises_ends_the_work():
    def stop(done, total):
        if done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work(stop)


def test_lines_where_there_is_no_bar(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    work(True)
    assert capsys.readouterr() == ("", "5 of 5 pairs, 0 s\n")
    monkeypatch.setattr(module, "_PAUSE", 0.0)
    work(True, None)
    assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == [
        "0 pairs",
        "2 pairs",
        "4 pairs",
        "5 pairs",
    ]


def test_a_bar(capsys):
    pytest.importorskip("tqdm")
    work(True)
    shown = capsys.readouterr().err
    assert "pairs: 100%" in shown
    assert "5/5" in shown


@pytest.mark.parametrize("wrong", [None, 1, "yes", 2.5])
def test_anything_else_is_refused(wrong):
    with pytest.raises(TypeError, match="progress must be"):
        work(wrong)
