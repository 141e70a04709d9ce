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
            ([np.ones((3, 0))], r"Layer 0 has shape \(3, 0\)"),
            ([np.eye(3), np.eye(2)], r"Layer 1 has shape \(2, 2\).*must have 3 columns"),
            ([np.ones((2, 3)), np.ones((3, 4))], r"Layer 1.*\(3, 4\).*\(2, 3\).*acts first"),
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


class TestUnequalWidths:
    WIDTHS = (6, 4, 5, 3)

    @pytest.fixture
    def layers(self):
        return [np.random.normal(size=shape) for shape in ((4, 6), (5, 4), (3, 5))]

    def test_one_vector_there_and_back(self, layers):
        assert bridges.widths_of(layers) == self.WIDTHS
        W = bridges.from_layers([layer.tolist() for layer in layers], balance=False)
        np.testing.assert_array_equal(W, np.concatenate([layer.ravel() for layer in layers]))
        back = bridges.to_layers(W, self.WIDTHS)
        for found, wanted in zip(back, layers, strict=True):
            np.testing.assert_array_equal(found, wanted)
            assert not np.shares_memory(found, W)

    def test_balanced_with_the_same_product(self, layers):
        space = BalancedManifold(widths=self.WIDTHS)
        W = bridges.from_layers(layers)
        assert space.belongs(W)
        X = layers[2] @ layers[1] @ layers[0]
        np.testing.assert_allclose(space.end_to_end(W), X, rtol=0, atol=1e-13)
        # The least norm.
        values = np.linalg.svd(X, compute_uv=False)
        assert np.sum(W**2) == pytest.approx(3 * np.sum(values ** (2 / 3)), rel=1e-12)

    def test_of_less_than_the_least_width(self, layers):
        layers[1][:] = np.outer(layers[1][:, 0], layers[1][0])
        with pytest.raises(InvalidPointError, match="singular"):
            bridges.from_layers(layers)

    def test_single_precision_stays(self, layers):
        layers = [layer.astype(np.float32) for layer in layers]
        W = bridges.from_layers(layers, balance=False)
        assert W.dtype == bridges.to_layers(W, self.WIDTHS)[1].dtype == np.float32
        assert bridges.from_layers(layers).dtype == np.float32

    def test_equal_widths_may_be_named(self, layers):
        W = np.random.normal(size=(2, 3, 3))
        np.testing.assert_array_equal(bridges.to_layers(W, (3, 3, 3)), W)
        assert bridges.widths_of(W) == (3, 3, 3)

    @pytest.mark.parametrize(
        ("shape", "widths", "message"),
        [
            ((59,), None, r"shape \(59,\).*give the widths="),
            ((58,), WIDTHS, r"shape \(58,\).*\(6, 4, 5, 3\).*\(59,\)"),
            ((2, 59), WIDTHS, r"shape \(2, 59\).*one network"),
            ((2, 3, 3), (3, 3), r"\(2, 3, 3\).*\(1, 3, 3\)"),
        ],
    )
    def test_what_is_no_point(self, shape, widths, message):
        with pytest.raises(InvalidPointError, match=message):
            bridges.to_layers(np.ones(shape), widths)

    def test_widths_of_no_network(self):
        with pytest.raises(InvalidPointError, match="Layer 1"):
            bridges.widths_of([np.ones((2, 3)), np.ones((3, 2)).T])


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
        with pytest.raises(InvalidPointError, match=r"Layer 1 has shape \(4, 4\).*\(2, 4\)"):
            bridges.from_torch(nn.Sequential(nn.Linear(4, 2, bias=False), model[0]))
        with pytest.raises(TypeError, match=r"model\[0\] is a LazyLinear"):
            bridges.from_torch(nn.Sequential(nn.LazyLinear(4, bias=False)))
        with pytest.raises(InvalidPointError, match="2 layers"):
            bridges.to_torch(np.ones((2, 4, 4)), model)


class TestTorchUnequalWidths:
    @pytest.fixture
    def torch(self):
        return pytest.importorskip("torch")

    @pytest.fixture
    def model(self, torch):
        torch.manual_seed(0)
        first = torch.nn.Linear(6, 4, bias=False, dtype=torch.float64)
        second = torch.nn.Linear(4, 5, bias=False, dtype=torch.float64)
        last = torch.nn.Linear(5, 3, bias=False, dtype=torch.float64)
        return torch.nn.Sequential(
            torch.nn.Identity(), torch.nn.Sequential(first, torch.nn.Sequential(second)), last
        )

    def test_there_and_back(self, torch, model):
        assert bridges.widths_of(model) == (6, 4, 5, 3)
        W = bridges.from_torch(model, balance=False)
        assert W.shape == (59,)
        one, two, three = bridges.to_layers(W, (6, 4, 5, 3))
        x = torch.randn(7, 6, dtype=torch.float64)
        np.testing.assert_allclose(
            x.numpy() @ (three @ two @ one).T, model(x).detach(), rtol=0, atol=1e-14
        )
        other = bridges.to_torch(W, widths=bridges.widths_of(model))
        np.testing.assert_allclose(other(x).detach(), model(x).detach(), rtol=0, atol=1e-14)
        np.testing.assert_array_equal(bridges.from_torch(other, balance=False), W)

    def test_weights_are_overwritten_in_place(self, torch, model):
        W = np.random.normal(size=59)
        weight = model[1][0].weight
        assert bridges.to_torch(W, model) is model
        assert model[1][0].weight is weight
        np.testing.assert_array_equal(bridges.from_torch(model, balance=False), W)

    def test_balanced_layers_compute_the_same(self, torch, model):
        W = bridges.from_torch(model)
        assert BalancedManifold(widths=bridges.widths_of(model)).belongs(W)
        x = torch.randn(7, 6, dtype=torch.float64)
        before = model(x).detach()
        np.testing.assert_allclose(
            bridges.to_torch(W, model)(x).detach(), before, rtol=0, atol=1e-13
        )

    def test_one_layer(self, torch):
        W = bridges.from_torch(torch.nn.Linear(2, 3, bias=False), balance=False)
        assert W.shape == (6,)
        assert W.dtype == np.float32

    @pytest.mark.parametrize(
        ("shape", "widths", "message"),
        [
            ((58,), None, r"shape \(58,\).*\(6, 4, 5, 3\)"),
            ((62,), (6, 5, 4, 3), r"3 layers.*\(5, 6\).*\(4, 6\)"),
            ((62,), (6, 4, 5, 3), r"\(62,\).*\(59,\)"),
            ((2, 4, 4), None, r"2 layers.*\(4, 4\).*\(4, 6\)"),
            ((54,), (6, 4, 3, 6), r"3 layers.*\(3, 4\).*\(5, 4\)"),
        ],
    )
    def test_what_does_not_fit_the_model(self, model, shape, widths, message):
        before = bridges.from_torch(model, balance=False)
        with pytest.raises(InvalidPointError, match=message):
            bridges.to_torch(np.ones(shape), model, widths)
        np.testing.assert_array_equal(bridges.from_torch(model, balance=False), before)


class TestComputedWeights:
    """Layers whose weight is not a parameter of their own."""

    @pytest.fixture
    def torch(self):
        return pytest.importorskip("torch")

    @staticmethod
    def pair(torch, wrap, dtype="float64"):
        torch.manual_seed(0)
        make = torch.nn.Linear
        first = make(3, 3, bias=False, dtype=getattr(torch, dtype))
        return torch.nn.Sequential(wrap(first), make(3, 3, bias=False, dtype=first.weight.dtype))

    @pytest.mark.parametrize("training", [True, False])
    def test_a_weight_norm_is_written_through(self, torch, training):
        model = self.pair(torch, torch.nn.utils.parametrizations.weight_norm).train(training)
        parameters = list(model.parameters())
        x = torch.randn(5, 3, dtype=torch.float64)
        before = model(x).detach()
        W = bridges.from_torch(model)
        assert bridges.to_torch(W, model) is model
        np.testing.assert_allclose(model(x).detach(), before, rtol=0, atol=1e-14)
        np.testing.assert_allclose(model[0].weight.detach(), W[0], rtol=0, atol=1e-15)
        assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
        assert model.training is model[0].training is training

    @staticmethod
    def pruned(layer):
        from torch.nn.utils import prune

        return prune.l1_unstructured(layer, "weight", amount=2)

    @staticmethod
    def old_norm(layer):
        import torch

        # The older kind, by hooks, is marked for removal.
        with pytest.warns((FutureWarning, UserWarning), match="weight_norm"):
            return torch.nn.utils.weight_norm(layer)

    @pytest.mark.parametrize("name", ["orthogonal", "spectral_norm", "pruned", "old_norm"])
    @pytest.mark.parametrize("training", [True, False])
    def test_what_cannot_be_written_is_refused_and_left_as_it_was(self, torch, name, training):
        wrap = getattr(self, name, None) or getattr(torch.nn.utils.parametrizations, name)
        model = self.pair(torch, wrap).train(training)
        before = {key: value.clone() for key, value in model.state_dict().items()}
        W = bridges.from_torch(model, balance=False)
        for point in (np.ones((2, 3, 3)), 2 * W):
            with pytest.raises(TypeError, match=r"model\[0\] cannot have.*remove"):
                bridges.to_torch(point, model)
            for key, value in model.state_dict().items():
                assert torch.equal(value, before[key]), key

    @pytest.mark.parametrize("name", ["orthogonal", "spectral_norm", "pruned", "old_norm"])
    def test_weights_are_read_as_they_are_used(self, torch, name):
        wrap = getattr(self, name, None) or getattr(torch.nn.utils.parametrizations, name)
        model = self.pair(torch, wrap).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter *= 1.5  # hooks have not noticed yet
        W = bridges.from_torch(model, balance=False)
        x = torch.randn(5, 3, dtype=torch.float64)
        np.testing.assert_allclose(x.numpy() @ (W[1] @ W[0]).T, model(x).detach(), atol=1e-14)

    def test_shared_weights(self, torch):
        model = self.pair(torch, lambda layer: layer)
        model[1].weight = model[0].weight
        W = bridges.from_torch(model, balance=False)
        np.testing.assert_array_equal(W[0], W[1])
        for tied in (model, torch.nn.Sequential(model[0], torch.nn.Identity(), model[0])):
            bridges.to_torch(2 * W, tied)
            with pytest.raises(TypeError, match=r"model\[0\] shares.*model\[[12]\].*deepcopy"):
                bridges.to_torch(np.stack([W[0], 3 * W[0]]), tied)
            np.testing.assert_array_equal(bridges.from_torch(tied, balance=False), 2 * W)
            W = 2 * W

    def test_numbers_out_of_range(self, torch):
        model = self.pair(torch, lambda layer: layer, "float16")
        before = bridges.from_torch(model, balance=False)
        with pytest.raises(TypeError, match=r"model\[0\].*out of the range"):
            bridges.to_torch(np.full((2, 3, 3), 1e6), model)
        np.testing.assert_array_equal(bridges.from_torch(model, balance=False), before)

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    def test_half_precision_models_stay_so(self, torch, dtype):
        model = self.pair(torch, lambda layer: layer, dtype)
        before = (model[1].weight @ model[0].weight).double()
        W = bridges.from_torch(model)
        assert W.dtype == np.float32
        assert bridges.to_torch(W, model)[0].weight.dtype == getattr(torch, dtype)
        after = (model[1].weight @ model[0].weight).double()
        eps = torch.finfo(getattr(torch, dtype)).eps
        assert (after - before).abs().max() <= 4 * eps * before.abs().max()
        tensors = [layer.weight.detach() for layer in model]
        np.testing.assert_allclose(bridges.from_layers(tensors, False), W, rtol=eps, atol=eps)


class TestAnyModule:
    """Modules of the user's own, their states, and lists of parameters."""

    WIDTHS = (4, 3, 3, 5)

    @pytest.fixture
    def torch(self):
        return pytest.importorskip("torch")

    @pytest.fixture
    def network(self, torch):
        """Return a class of modules that apply layers in a way that is given."""
        widths = self.WIDTHS

        class Network(torch.nn.Module):
            def __init__(self, way):
                super().__init__()
                self.way = way
                self.inner = torch.nn.Linear(widths[0], widths[1], bias=False)
                self.rest = torch.nn.Sequential(
                    torch.nn.Linear(widths[1], widths[2], bias=False),
                    torch.nn.Identity(),
                    torch.nn.Linear(widths[2], widths[3], bias=False),
                )

            def forward(self, x):
                return self.way(self.inner, self.rest, x)

        torch.manual_seed(0)
        return Network

    def test_of_parts_applied_in_their_order(self, torch, network):
        model = network(lambda inner, rest, x: rest(inner(x)))
        model.rest.eval()
        W = bridges.from_torch(model, balance=False)
        assert bridges.widths_of(model) == self.WIDTHS
        assert model.training
        assert not model.rest.training
        x = np.random.normal(size=(2, 4)).astype(np.float32)
        space = BalancedManifold(widths=self.WIDTHS)
        found = model(torch.as_tensor(x)).detach().numpy()
        np.testing.assert_allclose(found, x @ space.end_to_end(W).T, atol=1e-6)
        bridges.to_torch(2 * W, model)
        np.testing.assert_allclose(model(torch.as_tensor(x)).detach(), 8 * found, rtol=1e-5)

    @pytest.mark.parametrize(
        "way",
        [
            lambda inner, rest, x: rest(inner(x).relu()),
            lambda inner, rest, x: rest(inner(x)) + 1,
            lambda inner, rest, x: 2 * rest(inner(x)),
            lambda inner, rest, x: rest[2](inner(x)),
            lambda inner, rest, x: rest[2](rest[0](rest[0](inner(x)))),
            lambda inner, rest, x: inner(rest(x)),
            lambda inner, rest, x: None,
        ],
    )
    def test_what_does_something_else_is_refused(self, network, way):
        with pytest.raises(TypeError, match=r"something else.*inner, rest\[0\], rest\[2\].*order"):
            bridges.from_torch(network(way))

    def test_states(self, torch, network):
        model = network(lambda inner, rest, x: rest(inner(x)))
        state = model.state_dict()
        W = bridges.from_torch(state, balance=False)
        np.testing.assert_array_equal(W, bridges.from_torch(model, balance=False))
        assert bridges.widths_of(state) == self.WIDTHS
        twice = bridges.to_torch(2 * W, state)
        assert list(twice) == list(state)
        model.load_state_dict(twice)
        np.testing.assert_array_equal(bridges.from_torch(model, balance=False), 2 * W)
        half = {name: weight.bfloat16() for name, weight in state.items()}
        assert {x.dtype for x in bridges.to_torch(W, half).values()} == {torch.bfloat16}
        np.testing.assert_allclose(bridges.from_torch(half, balance=False), 2 * W, rtol=1e-2)

    def test_what_is_no_state_of_layers(self, torch):
        with pytest.raises(InvalidPointError, match=r"'0\.bias' is a bias"):
            bridges.from_torch(torch.nn.Sequential(torch.nn.Linear(2, 2)).state_dict())
        normal = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(2, 2, bias=False))
        with pytest.raises(TypeError, match=r"'parametrizations\.weight\.original0' is no weight"):
            bridges.from_torch(normal.state_dict())
        with pytest.raises(InvalidPointError, match="no layers"):
            bridges.from_torch({})
        with pytest.raises(InvalidPointError, match="Layer 1"):
            bridges.from_torch({"a.weight": torch.ones(2, 3), "b.weight": torch.ones(2, 3)})
        with pytest.raises(InvalidPointError, match="the model has layers of shapes"):
            bridges.to_torch(np.ones((1, 2, 2)), {"weight": torch.ones(3, 3)})
        with pytest.raises(TypeError, match="is no weight"):
            bridges.from_torch({"weight": [[1.0]]})

    @pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
    def test_lists_of_parameters(self, torch, network, dtype):
        model = network(lambda inner, rest, x: rest(inner(x))).to(getattr(torch, dtype))
        W = bridges.from_layers(model.parameters(), balance=False)
        np.testing.assert_array_equal(W, bridges.from_torch(model, balance=False))
        assert bridges.widths_of(list(model.parameters())) == self.WIDTHS
        assert BalancedManifold(widths=self.WIDTHS).belongs(bridges.from_layers(model.parameters()))


def test_message_without_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match="PyTorch is not installed"):
        bridges.to_torch(np.ones((2, 4, 4)))
