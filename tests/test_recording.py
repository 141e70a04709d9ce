"""Training is recorded: lists of layers, models of PyTorch, and checkpoints that were saved."""

import numpy as np
import pytest

from dln_manifolds import InvalidPointError
from dln_manifolds.dynamics import Verdict, training_clock
from dln_manifolds.recording import TrainingRecorder

RATE = 0.02


def trained(layers, target, every=25, n_steps=300):
    recorder, saved = TrainingRecorder(layers), []
    for step in range(n_steps + 1):
        first, last = layers
        error = last @ first - target
        loss = 0.5 * np.sum(error**2)
        if step % every == 0:
            recorder(loss, RATE * step)
            saved.append((loss, RATE * step, [layer.copy() for layer in layers]))
        slopes = last.T @ error, error @ first.T
        for layer, slope in zip(layers, slopes, strict=True):
            layer -= RATE * slope
    return recorder, saved


def test_layers_of_unequal_widths():
    rng = np.random.default_rng(0)
    target = rng.normal(size=(2, 3))
    u, _, vt = np.linalg.svd(rng.normal(size=(2, 3)), full_matrices=False)
    recorder, saved = trained([0.4 * vt, 0.4 * u], target)
    clock = recorder.clock()
    assert clock.verdict is Verdict.CONSISTENT
    expected = training_clock(recorder.points, recorder.losses, recorder.times, depth=2)
    np.testing.assert_array_equal(clock.ratios, expected.ratios)
    again = TrainingRecorder()
    for loss, time, layers in saved:
        again(loss, time, layers)
    np.testing.assert_array_equal(again.points, recorder.points)
    assert "13 checkpoints" in repr(again)


def test_a_bottleneck_lowers_the_rank():
    recorder = TrainingRecorder()
    for k in (1.0, 1.1):
        recorder(2 - k, k, [k * np.eye(2, 5), np.eye(4, 2)])
    expected = training_clock(recorder.points, [1, 0.9], [1, 1.1], depth=2, rank=2)
    np.testing.assert_allclose(recorder.clock().lower_bounds, expected.lower_bounds)


def test_runs_that_are_not_balanced_are_found_out():
    rng = np.random.default_rng(1)
    verdicts = []
    for _ in range(5):
        recorder, _ = trained(list(rng.normal(size=(2, 3, 3)) / np.sqrt(3)), np.diag([3.0, 2, 1]))
        verdicts.append(recorder.clock().verdict)
    assert Verdict.CONSISTENT not in verdicts


def test_bad_input():
    recorder = TrainingRecorder([np.eye(2), np.eye(2)])
    with pytest.raises(InvalidPointError, match="two or more"):
        recorder.clock()
    recorder(1.0, 0.0)
    with pytest.raises(InvalidPointError, match="has 1 layers and end-to-end shape"):
        recorder(1.0, 1.0, [np.eye(2)])
    with pytest.raises(ValueError, match="There is no network"):
        TrainingRecorder()(1.0, 0.0)
    with pytest.raises(TypeError, match="network must be a PyTorch model, its state or a list"):
        TrainingRecorder(3)
    with pytest.raises(InvalidPointError, match="matrices are needed"):
        TrainingRecorder(np.eye(2))
    for arguments, name in (((None, 0.0), "loss"), (("a", 0.0), "loss"), ((1.0, "a"), "time")):
        with pytest.raises(TypeError, match=f"{name} must be a real number"):
            recorder(*arguments)
    assert recorder.points.shape == (1, 2, 2)


def test_ten_lines_of_torch():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layers = [torch.nn.Linear(3, 3, bias=False) for _ in range(3)]
    model = torch.nn.Sequential(*layers)
    for layer in layers:
        torch.nn.init.orthogonal_(layer.weight, gain=0.5)
    inputs, target = torch.eye(3), torch.diag(torch.tensor([3.0, 2.0, 1.0]))
    # As training keeps the sign of det X.
    target = target * torch.sign(torch.linalg.det(model(inputs).detach()))
    optimizer, recorder = torch.optim.SGD(model.parameters(), lr=RATE), TrainingRecorder(model)
    for step in range(301):
        loss = 0.5 * ((model(inputs) - target) ** 2).sum()
        if step % 30 == 0:
            recorder(loss, RATE * step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    clock = recorder.clock()
    print(clock)
    assert recorder.points.shape == (11, 3, 3)
    np.testing.assert_allclose(recorder.points[-1].T, model(inputs).detach(), atol=0.1)
    again = TrainingRecorder()
    again(loss, RATE * 301, model.state_dict())
    assert again.points.shape == (1, 3, 3)
    assert clock.verdict is Verdict.CONSISTENT
