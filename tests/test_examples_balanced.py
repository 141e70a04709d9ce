"""The examples, run small: what they print is what they claim."""

import numpy as np
import pytest


def test_straight_lines(load, tmp_path, capsys):
    output = tmp_path / "figure.png"
    results = load("plot_straight_lines").run(n=2, seed=1, output=output, n_angles=3)
    assert output.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    for c in results["commuting"]:
        assert c.roots.is_geodesic
        assert c.aligned.is_geodesic
        assert c.roots.length == pytest.approx(c.distance, rel=1e-9)
    for c in results["general"]:
        assert c.roots.balanced
        assert not c.roots.horizontal
        assert c.aligned.horizontal
        assert c.aligned.is_geodesic == (c.depth == 2)
        assert c.aligned.length <= c.distance * (1 + 1e-10) < c.roots.length
    for c in results["by angle"]:
        # at 90 degrees the matrices commute
        assert c.roots.is_geodesic.tolist() == [False, False, True]
    text = capsys.readouterr().out
    assert f"{results['general'][1].distance:9.6f}" in text
    assert text.count("yes") == 2 * len(results["commuting"]) + 1


def test_gradient_flow(load, tmp_path, capsys):
    output = tmp_path / "figure.png"
    example = load("plot_gradient_flow")
    runs = example.run(n=4, seed=0, output=output, depths=(2, 3), end=5.0)
    assert output.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    for run in runs:
        largest = np.linalg.norm(run.downstairs.points, axis=(-2, -1)).max()
        apart = np.linalg.norm(run.upstairs.points - run.downstairs.points, axis=(-2, -1)).max()
        assert apart <= 1e-8 * largest
        assert run.upstairs.energy[-1] < 0.1 * run.upstairs.energy[0]
        assert run.unbalanced.drift.max() <= 1e-8
        assert run.apart(run.unbalanced).max() > 1e-3
    assert f"{runs[0].disagreement.max():.1e}" in capsys.readouterr().out
