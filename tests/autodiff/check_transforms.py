"""torch.func, vmap, torch.compile and half precision: the same as one by one, in double."""

import geomstats.backend as gs
import numpy as np
import pytest

from dln_manifolds import BalancedManifold, DLNObservableManifold, InvalidPointError

if not gs.__name__.endswith("pytorch"):
    pytest.skip("PyTorch alone has these", allow_module_level=True)

import torch
from torch.func import functional_call, grad, jacrev, vmap

SPACES = [
    DLNObservableManifold(2, 2.5),
    DLNObservableManifold(shape=(3, 2), rank=1, depth=3),
    BalancedManifold(2, 3),
    BalancedManifold(widths=(3, 2, 3), rank=1),
]
every_space = pytest.mark.parametrize("space", SPACES, ids=str)


def near(space, count, seed=0):
    """Return a point, and several near it."""
    rng = np.random.default_rng(seed)
    base = space.projection(torch.as_tensor(rng.normal(size=space.shape)))
    vectors = space.to_tangent(torch.as_tensor(0.1 * rng.normal(size=(count, *space.shape))), base)
    return base, space.metric.exp(vectors, base)


def by_backward(function, value):
    """Gradient by the usual way."""
    leaf = value.clone().requires_grad_()
    return torch.autograd.grad(function(leaf).sum(), leaf)[0]


def close(found, wanted):
    assert found.dtype == wanted.dtype
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)


@every_space
def test_grad_of_a_distance(space):
    base, others = near(space, 3)

    def cost(point):
        return space.metric.squared_dist(point, base)

    close(grad(cost)(others[0]), by_backward(cost, others[0]))
    for found in (vmap(grad(cost))(others), grad(lambda x: vmap(cost)(x).sum())(others)):
        close(found, by_backward(cost, others))
    close(vmap(grad(cost))(others[:1]), by_backward(cost, others[:1]))  # a batch of one


@every_space
def test_jacobians_of_log_and_exp(space):
    base, others = near(space, 2)
    for function in (
        lambda point: space.metric.log(point, base),
        lambda point: space.metric.exp(0.3 * space.to_tangent(base, point), point),
    ):
        wanted = torch.autograd.functional.jacobian
        close(jacrev(function)(others[0]), wanted(function, others[0]))
        each = torch.stack([wanted(function, other) for other in others])
        close(vmap(jacrev(function))(others), each)


@every_space
def test_vmap_is_a_loop(space):
    base, others = near(space, 3)
    vectors = space.metric.log(others, base)
    metric, times = space.metric, torch.tensor([0.2, 0.7], dtype=torch.double)
    for function, given in (
        (lambda x: metric.dist(x, base), (others,)),
        (metric.exp, (vectors, base)),
        (metric.norm, (vectors, base)),
        (space.to_tangent, (others, base)),
        (lambda x: metric.dist(x, others), (others,)),  # a batch inside of each
        (lambda x: metric.geodesic(base, end_point=x)(times), (others,)),
        (lambda x: space.dist(base, x), (others,)),  # pymanopt's, one point at a time
        (lambda x: metric.dist_pairwise(torch.stack([x, base])), (others,)),
        (lambda x: metric.bounds(x, base), (others,)),
        (space.belongs, (others,)),
        (space.entropy, (others,)),
    ):
        in_dims = tuple(0 if x.shape != base.shape else None for x in given)
        found = vmap(function, in_dims)(*given)
        each = [function(*(x if x is base else x[k] for x in given)) for k in range(3)]
        if isinstance(found, tuple):
            assert type(found) is type(each[0])
            found, each = found.upper, [one.upper for one in each]
        close(found, torch.stack(each))


def test_axes_anywhere_and_two_of_them():
    space = SPACES[0]
    base, others = near(space, 3)
    metric = space.metric
    table = vmap(vmap(metric.dist, (None, 0)), (0, None))(others, others)
    torch.testing.assert_close(table, metric.dist_pairwise(others), rtol=1e-9, atol=1e-12)
    found = vmap(lambda x: metric.log(x, base), in_dims=2, out_dims=1)(others.movedim(0, 2))
    close(found.movedim(1, 0), metric.log(others, base))


def test_layers_and_matrices():
    total = SPACES[2]
    layers = near(total, 3)[1]
    vectors = torch.as_tensor(np.random.default_rng(1).normal(size=(3, 2, 2)))
    close(vmap(total.horizontal_lift)(vectors, layers), total.horizontal_lift(vectors, layers))
    found = vmap(total.horizontal_lift, (None, 0))(vectors, layers)  # three over each of three
    close(found[1], total.horizontal_lift(vectors, layers[1]))
    close(
        jacrev(total.end_to_end)(layers[0])[0, 1],
        by_backward(lambda W: total.end_to_end(W)[0, 1], layers[0]),
    )
    for found, wanted in zip(vmap(total.layers)(layers), total.layers(layers), strict=True):
        close(found, wanted)


def test_gradients_of_a_model():
    space = DLNObservableManifold(3, 2)
    model = torch.nn.Sequential(
        *(torch.nn.Linear(3, 3, bias=False, dtype=torch.double) for _ in range(2))
    )
    with torch.no_grad():
        for layer in model:
            layer.weight.add_(torch.eye(3))

    def cost(parameters):
        product = functional_call(model, parameters, torch.eye(3, dtype=torch.double)).T
        return space.metric.squared_dist(product, torch.eye(3, dtype=torch.double))

    found = grad(cost)(dict(model.named_parameters()))
    cost(dict(model.named_parameters())).backward()
    for name, parameter in model.named_parameters():
        close(found[name], parameter.grad)


def test_what_has_no_derivative_says_so():
    space = SPACES[0]
    base, others = near(space, 2)
    with pytest.raises(NotImplementedError, match="has no derivative rule"):
        grad(space.metric.scalar_curvature)(base)
    with pytest.raises(NotImplementedError, match="not differentiated again"):
        jacrev(jacrev(lambda x: space.metric.dist(x, base)))(others[0])
    with pytest.raises(NotImplementedError, match=r"GeodesicSolution.*torch\.func or vmap"):
        vmap(lambda x: space.metric.solve_log(x, base))(others)
    with pytest.raises(InvalidPointError, match="not finite"):
        vmap(lambda x: space.metric.dist(x, base))(others * torch.nan)


# What PyTorch says of itself where it stops.
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")
def test_the_compiler_does_not_look_inside():
    space = SPACES[0]
    base, others = near(space, 1)
    graphs = []

    def backend(module, _):
        graphs.append([node.name for node in module.graph.nodes])
        return module.forward

    def cost(point):
        return 2 * space.metric.squared_dist(point + 0.0, base)

    leaf = others[0].clone().requires_grad_()
    value = torch.compile(cost, backend=backend)(leaf)
    close(value, cost(leaf))
    close(torch.autograd.grad(value, leaf)[0], by_backward(cost, others[0]))
    assert sum(map(len, graphs)) < 10, graphs


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@every_space
def test_half_precision_in_and_out(space, dtype):
    base, others = near(space, 2)
    eps, metric = torch.finfo(dtype).eps, space.metric
    a, b = base.to(dtype), others.to(dtype)
    assert space.belongs(b).all()
    vector = metric.log(b, a)
    assert space.is_tangent(vector, a).all()
    for found, wanted, size in (
        (vector, metric.log(others, base), 1),
        (metric.exp(vector, a), others, 1),
        (metric.dist(a, b), metric.dist(base, others), metric.norm(base, base)),
        (space.projection(b), others, 1),
        (space.entropy(b), space.entropy(others), 1),
    ):
        assert found.dtype == dtype
        error = (found.double() - wanted).abs().max()
        assert error < 64 * eps * size * (1 + wanted.abs().max())
    # Computed in double precision: rounded once, not at every step.
    exact = metric.dist(space.projection(a.double()), space.projection(b.double()))
    assert (metric.dist(a, b).double() - exact).abs().max() <= eps * exact.max()
    leaf = a.clone().requires_grad_()
    metric.squared_dist(leaf, b).sum().backward()
    assert leaf.grad.dtype == dtype
    assert grad(lambda x: metric.squared_dist(x, b[0]))(a).dtype == dtype
    # Beside others the finest precision counts.
    assert metric.dist(a, others.float()).dtype == torch.float32
    assert metric.dist(a, others).dtype == torch.double


def test_half_precision_keeps_its_range():
    space = DLNObservableManifold(2, 1)
    large = 1e20 * torch.eye(2, dtype=torch.bfloat16)
    found = space.metric.dist(large, 2 * large)
    assert found.dtype == torch.bfloat16
    assert abs(found.item() / (2**0.5 * 1e20) - 1) < 0.01
