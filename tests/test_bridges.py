"""Networks of other libraries become points, and points become networks again."""

import sys

import numpy as np
import pytest

from dln_manifolds import BalancedManifold, InvalidPointError, bridges


@pytest.fixture
def layers():
    return np.random.default_rng(0).normal(size=(3, 4, 4))


class TestLists:
    def test_balanced_with_the_same_product(self, layers):
        space = BalancedManifold(4, 3)
        W = bridges.from_layers(list(layers))
        assert space.belongs(W)
        assert not space.belongs(layers)
        np.testing.assert_allclose(space.end_to_end(W), layers[2] @ layers[1] @ layers[0])

    def test_without_balancing(self, layers):
        W = bridges.from_layers(layers.tolist(), balance=False)
        np.testing.assert_array_equal(W, layers)
        assert not np.shares_memory(bridges.from_layers(layers, balance=False), layers)

    def test_round_trip(self, layers):
        back = bridges.to_layers(bridges.from_layers(layers, balance=False))
        assert [layer.shape for layer in back] == [(4, 4)] * 3
        np.testing.assert_array_equal(back, layers)

    def test_single_precision_stays(self, layers):
        assert bridges.from_layers(layers.astype(np.float32)).dtype == np.float32
        assert bridges.to_layers(layers.astype(np.float32))[0].dtype == np.float32

    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            ([], "no layers"),
            ([np.ones((3, 2))], r"Layer 0 has shape \(3, 2\)"),
            ([np.eye(3), np.eye(2)], r"Layer 1 has shape \(2, 2\)"),
            ([np.eye(2), [[1.0, 2.0], [3.0]]], "Layer 1 is not a rectangular array"),
            ([np.float64(2.0)], r"Layer 0 has shape \(\).*one for each"),
            (np.eye(3), r"Layer 0 has shape \(3,\).*list of one"),
            ([np.full((2, 2), np.nan)], "not finite"),
            ([1j * np.eye(2)], "complex"),
            ([np.zeros((2, 2))], "singular"),
        ],
    )
    def test_what_is_no_network(self, bad, message):
        with pytest.raises(InvalidPointError, match=message):
            bridges.from_layers(bad)

    @pytest.mark.parametrize("shape", [(2, 2), (1, 2, 3), (5, 2, 2, 2), (0, 2, 2)])
    def test_what_is_no_point(self, shape):
        with pytest.raises(InvalidPointError, match="shape"):
            bridges.to_layers(np.ones(shape))

    def test_ragged_list_is_no_point(self):
        with pytest.raises(InvalidPointError, match="point is not a rectangular array"):
            bridges.to_layers([[[1.0, 2.0], [3.0]]])


class TestTorch:
    @pytest.fixture
    def torch(self):
        return pytest.importorskip("torch")

    @pytest.fixture
    def model(self, torch):
        torch.manual_seed(0)
        return torch.nn.Sequential(
            *(torch.nn.Linear(4, 4, bias=False, dtype=torch.float64) for _ in range(3))
        )

    def test_the_model_and_the_matrix_agree(self, torch, model):
        W = bridges.from_torch(model)
        space = BalancedManifold(4, 3)
        assert space.belongs(W)
        x = torch.randn(5, 4, dtype=torch.float64)
        np.testing.assert_allclose(
            x.numpy() @ space.end_to_end(W).T, model(x).detach().numpy(), atol=1e-12
        )

    def test_new_model_computes_the_same(self, torch, model):
        x = torch.randn(5, 4, dtype=torch.float64)
        other = bridges.to_torch(bridges.from_torch(model))
        assert other is not model
        np.testing.assert_allclose(other(x).detach(), model(x).detach(), atol=1e-12)

    def test_round_trip_is_exact(self, model):
        W = bridges.from_torch(model, balance=False)
        np.testing.assert_array_equal(bridges.from_torch(bridges.to_torch(W), balance=False), W)

    def test_weights_are_overwritten_in_place(self, torch, model):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        before = bridges.from_torch(model, balance=False)
        W = bridges.from_torch(model)
        assert bridges.to_torch(W, model) is model
        np.testing.assert_array_equal(bridges.from_torch(model, balance=False), W)
        assert optimizer.param_groups[0]["params"][0] is model[0].weight
        assert not np.array_equal(before, W)

    @pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
    def test_low_precision(self, torch, model, name):
        W = bridges.from_torch(model.to(getattr(torch, name)))
        assert W.dtype == np.float32

    def test_nested_and_single(self, torch, model):
        nested = torch.nn.Sequential(model[:2], torch.nn.Identity(), model[2])
        np.testing.assert_array_equal(bridges.from_torch(nested), bridges.from_torch(model))
        assert bridges.from_torch(model[0]).shape == (1, 4, 4)

    def test_layers_balanced_stay_so_along_gradient_descent(self, torch, model):
        """Why one balances: the imbalance is conserved by the gradient flow."""
        bridges.to_torch(bridges.from_torch(model), model)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        target = torch.eye(4, dtype=torch.float64)
        for _ in range(20):
            optimizer.zero_grad()
            ((model(torch.eye(4, dtype=torch.float64)) - target) ** 2).sum().backward()
            optimizer.step()
        a, b, _ = bridges.from_torch(model, balance=False)
        assert np.abs(b.T @ b - a @ a.T).max() < 1e-3

    def test_what_is_no_deep_linear_network(self, torch, model):
        nn = torch.nn
        with pytest.raises(InvalidPointError, match=r"model\[1\] has a bias.*bias=False"):
            bridges.from_torch(nn.Sequential(model[0], nn.Linear(4, 4)))
        with pytest.raises(TypeError, match=r"model\[1\] is a ReLU"):
            bridges.from_torch(nn.Sequential(model[0], nn.ReLU()))
        with pytest.raises(InvalidPointError, match=r"Layer 0 has shape \(2, 3\)"):
            bridges.from_torch(nn.Linear(3, 2, bias=False))
        with pytest.raises(InvalidPointError, match="2 layers"):
            bridges.to_torch(np.ones((2, 4, 4)), model)


def test_message_without_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match="PyTorch is not installed"):
        bridges.to_torch(np.ones((2, 4, 4)))
