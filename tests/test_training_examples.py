"""The training examples, run small: the same numbers again, and what their texts say."""

import numpy as np

from dln_manifolds.geometry.balancing import relative_imbalance


def test_matrix_completion(load, tmp_path, capsys):
    output = tmp_path / "figure.png"
    example = load("plot_matrix_completion")
    runs = example.run(n=10, rank=1, output=output, depths=(2, 3))
    assert output.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    for run in runs:
        assert run.gradient_norm <= 1e-6
        worst = relative_imbalance(run.path).max()
        assert worst <= 1e-13 if run.balanced else worst >= 0.1
    errors = {run.label: run.errors[-1] for run in runs}
    # with equal radii equally well, and at N = 3 better than at N = 2
    assert max(errors["N = 3, balanced"], errors["N = 3, free"]) <= 0.05
    assert min(errors["N = 2, balanced"], errors["N = 2, free"]) >= 0.1
    # the rank shows
    spectrum = next(run.spectrum for run in runs if run.label == "N = 3, balanced")
    assert spectrum[0] > 10 * spectrum[1]
    again = example.train(example.make_problem(10, 1, 0), 3, balanced=True)
    kept = next(run for run in runs if run.label == "N = 3, balanced")
    np.testing.assert_array_equal(again.path, kept.path)
    assert f"{errors['N = 3, free']:.3f}" in capsys.readouterr().out


def test_free_energy(load, tmp_path, capsys):
    output = tmp_path / "figure.png"
    example = load("plot_free_energy")
    runs = example.run(n=4, output=output)
    assert output.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    for run in runs:
        assert run.gradient_norm <= 1e-9
        assert relative_imbalance(run.path).max() <= 1e-13
    assert (np.diff([run.entropy for run in runs]) > 0).all()
    assert (np.diff([run.loss for run in runs]) > 0).all()
    again = example.train(4, 0.01, example.make_losses(4, 0))
    np.testing.assert_array_equal(again.path, runs[2].path)
    assert f"{runs[1].loss:.4f}" in capsys.readouterr().out


def test_training(load, tmp_path, capsys):
    output = tmp_path / "figure.png"
    example = load("plot_training")
    runs = example.run(output=output, max_iterations=60)
    assert output.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    data = example.load_data(40, 0)
    floor = data.train(data.least_squares)
    for run in runs:
        assert relative_imbalance(run.path).max() <= 1e-13
        assert (run.train_errors >= floor - 1e-12).all()
        assert run.test_errors[run.best] < data.test(data.least_squares)
        assert run.test_errors[run.best] < run.test_errors[-1]
    again = example.train(data, 2, 10)
    np.testing.assert_array_equal(again.path, runs[1].path[: len(again.path)])
    assert f"{runs[2].test_errors[-1]:.4f}" in capsys.readouterr().out
