"""The example with few networks: labels are recovered, and its numbers are those of its tables."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.linalg import eigh

from dln_manifolds import DLNObservableManifold

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def example():
    # As a script that is run finds the one beside it.
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        yield importlib.import_module("classify_networks")
        for name in ("classify_networks", "frechet_mean"):
            patch.delitem(sys.modules, name)


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return tmp_path_factory.mktemp("example") / "figure.png"


@pytest.fixture(scope="module")
def results(example, output):
    return example.run(n_networks=3, seed=0, output=output, progress=False)


def test_labels_are_recovered(results):
    ours = results.outcomes[0]
    assert ours.accuracy == 1
    assert ours.rand_index == 1


def test_networks_are_trained(results):
    assert results.matrices.shape == (12, 5, 5)
    assert (np.linalg.det(results.matrices) > 0).all()
    assert np.linalg.norm(results.matrices, axis=(1, 2)).min() > 0.5


def test_distances_are_what_they_are_called(results):
    X, Y = results.matrices[[1, 7]]
    ours, frobenius, affine = (one.distances[1, 7] for one in results.outcomes)
    assert_allclose(ours, DLNObservableManifold(5, 3).metric.dist(X, Y), rtol=1e-9)
    assert_allclose(frobenius, np.sqrt(np.sum((X - Y) ** 2)), rtol=1e-12)
    logs = np.log(eigh(X.T @ X, Y.T @ Y, eigvals_only=True))
    assert_allclose(affine, np.linalg.norm(logs), rtol=1e-6)


def test_accuracy_and_separation_are_those_of_the_table(results):
    labels = results.labels
    for one in results.outcomes:
        hits, within, between = 0, [], []
        for i in range(len(labels)):
            others = [j for j in range(len(labels)) if j != i]
            hits += labels[min(others, key=lambda j: one.distances[i, j])] == labels[i]
            for j in others:
                (within if labels[i] == labels[j] else between).append(one.distances[i, j])
        assert_allclose(one.accuracy, hits / len(labels))
        assert_allclose(one.separation, np.mean(between) / np.mean(within), rtol=1e-12)


def test_text_and_figure(example, results, output):
    assert output.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    text = example.summary(results)
    for one in results.outcomes:
        assert f"{one.rand_index:.3f}" in text
        assert one.name in text


def test_one_network_is_too_few(example):
    with pytest.raises(ValueError, match="at least 2"):
        example.run(n_networks=1)
