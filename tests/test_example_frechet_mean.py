"""The example with few networks: its claims are computed again, by other means."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from dln_manifolds import DLNObservableManifold

SCRIPT = Path(__file__).parents[1] / "examples" / "frechet_mean.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("frechet_mean_example", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return tmp_path_factory.mktemp("example") / "figure.png"


@pytest.fixture(scope="module")
def results(example, output):
    return example.run(n_networks=12, seed=0, output=output, progress=False)


def literal_entropy(X, depth):
    """Menon and Yu's formula with plain differences: these singular values are all distinct."""
    n = X.shape[-1]
    s = np.linalg.svd(X, compute_uv=False)
    log_vol_orthogonal = n * (n - 1) / 4 * np.log(2) + sum(
        np.log(2 * np.pi ** (k / 2))
        - np.sum(np.log(np.arange(k / 2 - 1, 0, -1)))
        # Gamma(k/2) as a product down to Gamma(1) = 1 or Gamma(1/2) = sqrt(pi).
        - (0 if k % 2 == 0 else np.log(np.sqrt(np.pi)))
        for k in range(1, n + 1)
    )
    i, j = np.triu_indices(n, 1)
    ratio = (s[i] ** 2 - s[j] ** 2) / (s[i] ** (2 / depth) - s[j] ** (2 / depth))
    return (depth - 1) * log_vol_orthogonal + 0.5 * np.sum(np.log(ratio))


def test_figure_is_a_png(results, output):
    assert output.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert output.stat().st_size > 20_000


def test_networks_are_real_and_share_a_component(results):
    assert results.matrices.shape == (12, 8, 8)
    assert results.n_dropped == 0
    assert (np.linalg.det(results.matrices) > 0).all()
    assert results.imbalance < 2e-3
    # They have learned something, and not all the same.
    assert (results.networks.loss < 1).all()
    assert results.networks.loss.std() > 0.01


def test_frechet_mean_is_stationary(results):
    space = DLNObservableManifold(8, 3)
    mean = results.frechet.matrix
    gradient = space.metric.log(results.matrices, mean).mean(axis=0)
    assert space.metric.norm(gradient, mean) <= 1e-8
    assert results.frechet.gradient_norm <= 1e-8
    np.testing.assert_allclose(results.gradient_norms[-1], results.frechet.gradient_norm, rtol=1e-2)


def test_each_mean_minimizes_its_own_dispersion(results):
    space = DLNObservableManifold(8, 3)
    frechet, euclidean = (
        np.sum(space.metric.squared_dist(results.matrices, mean.matrix))
        for mean in (results.frechet, results.euclidean)
    )
    assert frechet <= euclidean
    np.testing.assert_allclose(frechet / 12, results.frechet.dispersion, rtol=1e-9)
    np.testing.assert_allclose(euclidean / 12, results.euclidean.dispersion, rtol=1e-9)
    np.testing.assert_allclose(results.euclidean.matrix, results.matrices.mean(axis=0))
    assert results.euclidean.frobenius_dispersion <= results.frechet.frobenius_dispersion


@pytest.mark.parametrize("name", ["euclidean", "frechet"])
def test_reported_numbers_of_a_mean(results, name):
    mean = getattr(results, name)
    X = mean.matrix
    np.testing.assert_allclose(mean.entropy, literal_entropy(X, 3), rtol=1e-10)
    np.testing.assert_allclose(np.exp(mean.log_abs_det), abs(np.linalg.det(X)), rtol=1e-9)
    # Via the eigenvalues of X^T X, accurate to about sqrt(eps) of the largest.
    squares = np.linalg.eigvalsh(X.T @ X)[::-1]
    np.testing.assert_allclose(mean.singular_values**2, squares, atol=1e-14)


def test_reported_numbers_of_the_networks(results):
    entropies = [literal_entropy(X, 3) for X in results.matrices]
    np.testing.assert_allclose(results.networks.entropy, entropies, rtol=1e-10)
    np.testing.assert_allclose(
        np.exp(results.networks.log_abs_det), np.linalg.det(results.matrices), rtol=1e-7
    )


def test_loss_is_relative_to_the_average_image(example):
    data = example.load_data(8, np.random.default_rng(1))
    assert np.mean(example.image_errors(np.zeros((8, 8)), data)) == pytest.approx(1)
    best = np.linalg.lstsq(data.train_inputs, data.train_targets, rcond=None)[0].T
    assert np.linalg.det(best) > 0
    assert np.mean(example.image_errors(best, data)) < 0.8


def test_training_descends_the_loss_it_is_said_to(example):
    """Against a finite difference of the literal mean squared error, for every layer."""
    setup = example.Setup(width=3, depth=4)
    rng = np.random.default_rng(0)
    inputs, targets = rng.standard_normal((2, 20, 3))
    layers, direction = rng.standard_normal((2, 1, 4, 3, 3))

    def loss(layers):
        matrix = np.linalg.multi_dot(layers[0][::-1])
        return 0.5 * np.mean(np.sum((inputs @ matrix.T - targets) ** 2, axis=-1))

    gradient = example.loss_gradient(layers, inputs.T @ inputs / 20, targets.T @ inputs / 20)
    step = 1e-5
    slope = (loss(layers + step * direction) - loss(layers - step * direction)) / (2 * step)
    assert np.sum(gradient * direction) == pytest.approx(slope, rel=1e-7)
    start = example.random_layers(5, setup, rng)
    assert example.imbalance(start) < 1e-15
    np.testing.assert_allclose(np.linalg.det(example.end_to_end(start)), setup.initial_scale**3)


def test_same_seed_same_networks(example, results):
    rng = np.random.default_rng(0)
    setup = example.Setup()
    layers = example.train(12, setup, example.load_data(setup.width, rng), rng)
    np.testing.assert_allclose(example.end_to_end(layers), results.matrices, rtol=1e-8)


def test_report_says_what_the_numbers_say(example, results):
    text = example.summary(results)
    assert "12 networks of depth 3" in text
    assert f"{results.frechet.dispersion:.4f}" in text
    words = " ".join(text.split())
    better = "Fréchet" if results.loss_gap > 0 else "Euclidean"
    if abs(results.loss_gap) > 2 * results.loss_gap_error:
        assert f"Loss: the {better} mean predicts better" in words
    # What the geometry is for comes first, and what it does not do is said.
    places = [words.index(f"* {name}:") for name in ("Merging", "Spectrum", "Determinant", "Loss")]
    assert places == sorted(places)
    assert ("average the maps" in words) == (results.loss_gap <= 0)
    assert np.sign(results.loss_gap) == np.sign(results.euclidean.loss - results.frechet.loss)


def test_average_of_weights(example, results):
    """Of networks that never met it answers nothing; of copies of one network it is that one."""
    assert 0.9 < results.weights_loss < 1.1
    assert results.frechet.loss < results.networks.loss.mean() < results.weights_loss
    data = example.load_data(3, np.random.default_rng(1))
    layers = np.random.default_rng(2).standard_normal((1, 3, 3, 3))
    alone = np.mean(example.image_errors(np.linalg.multi_dot(layers[0][::-1]), data))
    assert example.weights_loss(np.repeat(layers, 4, axis=0), data) == pytest.approx(alone)


def test_euclidean_mean_in_the_other_component(example):
    """Two matrices with det > 0 whose entrywise mean has det < 0: no distance, and no crash."""
    networks = np.array([[[1.0, 2.0], [0.1, 1.0]], [[1.0, 0.1], [2.0, 1.0]]])
    setup = example.Setup(width=2)
    space = DLNObservableManifold(2, setup.depth)
    data = example.load_data(2, np.random.default_rng(0))
    euclidean = example.describe_mean(space, networks.mean(axis=0), networks, data)
    assert np.isinf(euclidean.dispersion)
    start = example.nearest_in_component(networks.mean(axis=0))
    assert np.linalg.det(start) == pytest.approx(-np.linalg.det(networks.mean(axis=0)))
    np.testing.assert_allclose(example.nearest_in_component(start), start, rtol=1e-14)
    norms = []
    mean = example.frechet_mean(setup, networks, norms.append)
    frechet = example.describe_mean(space, mean, networks, data)
    assert frechet.gradient_norm <= setup.tolerance
    results = example.Results(
        setup=setup,
        matrices=networks,
        networks=example.describe(space, networks, data),
        euclidean=euclidean,
        frechet=frechet,
        n_dropped=0,
        imbalance=0.0,
        gradient_norms=norms,
        between_means=example.describe_geodesic(space, euclidean, frechet, data),
        weights_loss=1.0,
        loss_gap=0.0,
        loss_gap_error=1.0,
        training_seconds=0.0,
        frechet_seconds=0.0,
    )
    assert results.between_means is None
    assert "No path of invertible matrices" in " ".join(example.summary(results).split())
    example.draw(results)


def test_too_few_networks(example, tmp_path):
    with pytest.raises(ValueError, match="at least 2"):
        example.run(n_networks=1, output=tmp_path / "figure.png")
