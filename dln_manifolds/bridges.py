"""Networks of other libraries as points of the manifolds, and back.

A deep linear network is a list of layers without bias, the first of which acts first:
``X = W_N ... W_1`` (Chen, arXiv 2510.07324, equation (1.1)). Here such lists, of NumPy arrays or in
a model of PyTorch or its ``state_dict``, become layers W, balanced if that is asked for, and
return. Layers of one width n are arrays of shape ``(N, n, n)``, layers of unequal widths vectors:
one layer after the other, row by row, as points of
``BalancedManifold(widths=bridges.widths_of(network))``. PyTorch is imported when one of its models
is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from dln_manifolds.checks import as_array, as_matrices
from dln_manifolds.errors import InvalidPointError
from dln_manifolds.geometry.chain import chain_of
from dln_manifolds.manifolds.balanced import BalancedManifold
from dln_manifolds.numerics.arguments import whole_sizes
from dln_manifolds.numerics.arrays import Array, ArrayLike

if TYPE_CHECKING:
    import torch

__all__ = ["from_layers", "from_torch", "to_layers", "to_torch", "widths_of"]

# A model of PyTorch, or its ``state_dict``.
Network: TypeAlias = "torch.nn.Module | Mapping[str, torch.Tensor]"

# Weights that a layer computes are those that were written up to so many roundings.
_ROUNDINGS = 16


def widths_of(network: Network | Iterable[ArrayLike]) -> tuple[int, ...]:
    r"""Return the widths ``d_0, ..., d_N`` of a PyTorch model, its state, or a list of layers.

    Layer p is ``d_p x d_{p-1}``: ``DLNObservableManifold(widths=...)`` is the manifold of the
    end-to-end matrices ``W_N ... W_1``, ``BalancedManifold(widths=...)`` that of balanced layers.
    Raises as `from_torch` and `from_layers`.

    Examples
    --------
    >>> import numpy as np
    >>> from dln_manifolds import bridges
    >>> bridges.widths_of([np.ones((32, 64)), np.ones((10, 32))])
    (64, 32, 10)
    """
    if isinstance(network, Mapping):
        return _widths([tuple(weight.shape) for weight in _weights(network).values()])
    if hasattr(network, "named_parameters"):
        return _widths(_shapes(_linear_layers(network)))
    return _widths([matrix.shape for matrix in _matrices(network)])


def from_layers(layers: Iterable[ArrayLike], balance: bool = True) -> Array:
    r"""Return the layers of a network as one array, balanced by default.

    Of shape ``(N, n, n)`` if all widths are n, otherwise a vector of ``sum_p d_p d_{p-1}`` entries:
    a point of ``BalancedManifold(widths=widths_of(layers))``. Balancing, by its ``projection``,
    keeps the end-to-end matrix ``X = W_N ... W_1`` and replaces the layers by some of least norm,
    ``sum |W_p|^2 = N sum s^(2/N)`` (Lindsey and Menon, arXiv 2511.01137). Without it they stay as
    they are.

    The ``layers`` are matrices, tensors and parameters among them, of which the first acts first,
    on column vectors. Raises `InvalidPointError` if one has not as many columns as that before has
    rows, or if X has a rank below the least width and layers are to be balanced.
    """
    matrices = _matrices(layers)
    widths = _widths([matrix.shape for matrix in matrices])
    chain = chain_of(widths)
    joined, dtype = as_matrices(chain.gathered(matrices), chain.array_shape, "layers")
    joined = joined.astype(dtype)
    if not balance:
        return joined
    return np.asarray(BalancedManifold(widths=widths, equip=False).projection(joined))


def to_layers(point: ArrayLike, widths: Sequence[int] | None = None) -> list[Array]:
    """Return layers W as a list of copies, ``W_1`` first, which acts first.

    Of shape ``(N, n, n)``, or a vector of layers of the given ``widths``. Raises
    `InvalidPointError` if the shape is not that of a single point.
    """
    array = as_array(point, "point")
    if widths is None:
        if array.ndim != 3 or array.shape[-1] != array.shape[-2] or not array.size:
            raise InvalidPointError(
                f"point has shape {array.shape}; the layers of one network, (N, n, n), are needed. "
                f"Of layers of unequal widths, in one vector, give the widths=(d_0, ..., d_N)."
            )
        widths = (array.shape[-1],) * (len(array) + 1)
    chain = chain_of(whole_sizes("widths", widths, 2))
    if array.shape != chain.array_shape:
        raise InvalidPointError(
            f"point has shape {array.shape}; the layers of one network of widths {chain.widths} "
            f"have shape {chain.array_shape}."
        )
    array, dtype = as_matrices(array, array.shape, "point")
    return [layer.astype(dtype) for layer in chain.layers(array)]


def from_torch(model: Network, balance: bool = True) -> Array:
    r"""Return the layers of a PyTorch model or its state, balanced by default as by `from_layers`.

    ``torch.nn.Linear`` computes ``x W^T`` on rows, which is W on columns: its ``weight`` is the
    layer. The result, ``(N, n, n)`` or a vector as `from_layers` says, is a copy in the precision
    of the model, float32 or float64; half precision is taken as float32, which NumPy has. Weights
    that a layer computes from other parameters (a weight norm, pruning) are read as it uses them.

    The ``model`` is a ``Linear`` without bias, a ``Sequential`` (nested or not) of such, or any
    module that has such parts and applies them in their order, which is tried out; ``Identity``
    counts as nothing. Or it is a ``state_dict``, whose weights act in its order. Raises `TypeError`
    if it holds or does anything else, and `InvalidPointError` if a layer has a bias or does not fit
    the layer before it, or if the end-to-end matrix has a rank below the least width and layers are
    to be balanced.
    """
    if isinstance(model, Mapping):
        return from_layers(list(_weights(model).values()), balance)
    return from_layers([_weight(layer) for _, layer in _linear_layers(model)], balance)


def to_torch(
    point: ArrayLike,
    model: Network | None = None,
    widths: Sequence[int] | None = None,
) -> Network:
    """Return a PyTorch model, or its state, with the given layers.

    Of the layers W the first acts first; ``total.factor(X)`` gives those of a matrix X. A vector
    of layers of unequal widths needs the ``widths`` where there is no model. The weights of a
    ``model`` of N linear layers are overwritten in place, in its precision and on its device, and
    it is returned; without one, a new ``torch.nn.Sequential``. For a ``state_dict`` there is a new
    one, of the same names, for ``model.load_state_dict``.

    Weights under ``torch.nn.utils.parametrize`` are assigned, so that the parameters behind them
    are set. All weights are read again: raises `TypeError` that names the layer, and leaves the
    model as it was, if one cannot have the weight: it is computed in a way that allows no such
    weight, is pruned, or is shared by two layers. Raises `TypeError` also if the model holds
    anything else than linear layers, and `InvalidPointError` if the layers do not fit it.
    """
    torch = _torch()
    if model is not None and widths is None and np.ndim(point) == 1:
        widths = widths_of(model)
    tensors = [torch.from_numpy(layer) for layer in to_layers(point, widths)]
    given = [tuple(t.shape) for t in tensors]
    if model is None:
        linear = [
            torch.nn.Linear(columns, rows, bias=False, dtype=tensors[0].dtype)
            for rows, columns in given
        ]
        model = torch.nn.Sequential(*linear)
    state = _weights(model) if isinstance(model, Mapping) else None
    targets = [] if isinstance(model, Mapping) else list(_linear_layers(model))
    shapes = _shapes(targets) if state is None else [tuple(x.shape) for x in state.values()]
    if shapes != given:
        raise InvalidPointError(
            f"point has {len(given)} layers of shapes {given}, and the model has layers of shapes "
            f"{shapes}."
        )
    if state is not None:
        both = zip(state.items(), tensors, strict=True)
        return {name: tensor.to(weight) for (name, weight), tensor in both}
    _write(targets, tensors)
    return model


def _matrices(layers: Iterable[ArrayLike]) -> list[Array]:
    """Return layers as arrays; tensors that NumPy has no numbers for, as float32."""
    if not getattr(layers, "ndim", hasattr(layers, "__iter__")):
        raise InvalidPointError(f"A list of layers, matrices, is needed, not {layers!r}.")
    return [as_array(_detached(layer), f"Layer {p}") for p, layer in enumerate(layers)]


def _detached(layer: Any) -> Any:
    """Return a tensor without its history, of half precision as float32; all else as it is."""
    if not hasattr(layer, "element_size"):
        return layer
    layer = layer.detach().cpu()
    return layer.float() if layer.element_size() == 2 else layer


def _widths(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the widths of layers; raise `InvalidPointError` if they are those of no network."""
    if not shapes:
        raise InvalidPointError("There are no layers: the list is empty.")
    for p, shape in enumerate(shapes):
        if len(shape) != 2 or 0 in shape:
            raise InvalidPointError(
                f"Layer {p} has shape {shape}; matrices are needed, one for each layer. A single "
                f"matrix is a list of one: [matrix]."
            )
    for p, (before, after) in enumerate(pairwise(shapes), 1):
        if after[1] != before[0]:
            raise InvalidPointError(
                f"Layer {p} has shape {after}, and the layer before it {before}: it must have "
                f"{before[0]} columns. The first layer acts first."
            )
    return (shapes[0][1], *[rows for rows, _ in shapes])


def _torch() -> ModuleType:
    try:
        import torch
    except ImportError as error:
        raise ImportError("PyTorch is not installed: see https://pytorch.org.") from error
    return torch


def _weights(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights of a state in their order, by name; raise if it holds anything else."""
    for name, value in state.items():
        if name.rpartition(".")[2] == "bias":
            raise InvalidPointError(
                f"{name!r} is a bias, and a deep linear network has none. Make the layer with "
                f"bias=False."
            )
        if name.rpartition(".")[2] != "weight" or not hasattr(value, "element_size"):
            raise TypeError(
                f"{name!r} is no weight of a linear layer; the state of a deep linear network has "
                f"these alone. Give the model itself if it computes its weights."
            )
    return dict(state)


# A linear layer with its name in the model.
_Named = tuple[str, "torch.nn.Linear"]


def _linear_layers(model: torch.nn.Module, name: str = "model") -> Iterator[_Named]:
    """Yield the linear layers of a model in the order in which they act, by name."""
    nn = _torch().nn
    if isinstance(model, nn.Sequential) and type(model).forward is nn.Sequential.forward:
        for k, child in enumerate(model):
            yield from _linear_layers(child, f"{name}[{k}]")
    elif _is_of_parts(model):
        layers = [pair for key, x in model.named_children() for pair in _linear_layers(x, key)]
        _try_out(model, name, layers)
        yield from layers
    elif isinstance(model, nn.Linear) and not isinstance(model, nn.LazyLinear):
        if model.bias is not None:
            raise InvalidPointError(
                f"{name} has a bias, and a deep linear network has none. Make the layer with "
                f"bias=False."
            )
        yield name, model
    elif not isinstance(model, nn.Identity):
        raise TypeError(
            f"{name} is a {type(model).__name__}; a deep linear network is a Sequential of Linear "
            f"layers without bias."
        )


def _is_of_parts(model: torch.nn.Module) -> bool:
    """Whether a module is one of the user's own, which has parts and no parameters beside them."""
    ours = not type(model).__module__.startswith("torch.nn.")
    own = [*model.parameters(recurse=False), *model.buffers(recurse=False)]
    return ours and any(True for _ in model.children()) and not own


def _try_out(model: torch.nn.Module, name: str, layers: Sequence[_Named]) -> None:
    """Raise `TypeError` unless a module applies its layers one after the other."""
    torch = _torch()
    if not layers:
        raise TypeError(f"{name} is a {type(model).__name__} without linear layers.")
    first, modes = layers[0][1], {part: part.training for part in model.modules()}
    some = next(first.parameters())
    given = torch.linspace(-1.0, 2.0, 3 * first.in_features, dtype=torch.float64).cos()
    given = given.reshape(3, -1).to(some)
    given[1] = -given[0]  # which few functions but linear ones map so
    model.eval()
    try:
        with torch.no_grad():
            found, wanted = model(given), given
            for _, layer in layers:
                wanted = layer(wanted)
        bound = _ROUNDINGS * torch.finfo(wanted.dtype).eps * wanted.abs().max()
        same = found.shape == wanted.shape and bool(((found - wanted).abs() <= bound).all())
    except (AttributeError, RuntimeError, TypeError, ValueError):
        same = False
    finally:
        for part, mode in modes.items():
            part.training = mode
    if not same:
        raise TypeError(
            f"{name} is a {type(model).__name__} whose forward does something else than to apply "
            f"its linear layers {', '.join(key for key, _ in layers)} in this order. Give these as "
            f"a list: from_layers([layer.weight for layer in ...])."
        )


def _shapes(layers: Iterable[_Named]) -> list[tuple[int, int]]:
    return [(layer.out_features, layer.in_features) for _, layer in layers]


def _is_parameter(layer: torch.nn.Linear) -> bool:
    """Whether the weight of a layer is its own, not computed from other parameters."""
    return "weight" in dict(layer.named_parameters(recurse=False))


def _weight(layer: torch.nn.Linear) -> torch.Tensor:
    """Return a copy of what a layer multiplies by."""
    torch = _torch()
    if _is_parameter(layer):
        return layer.weight.detach().cpu()
    # Asked for in training, a spectral norm would go on with its iterations.
    mode = layer.training
    layer.eval()
    with torch.no_grad():
        if torch.nn.utils.parametrize.is_parametrized(layer, "weight"):
            weight = layer.weight
        else:
            # Hooks compute weights just before they are used.
            some = next(layer.parameters())
            weight = layer(torch.eye(layer.in_features, dtype=some.dtype, device=some.device)).T
    layer.train(mode)
    return weight.cpu()


def _write(layers: Sequence[_Named], tensors: Sequence[torch.Tensor]) -> None:
    """Overwrite the weights of layers, all of them or, raising `TypeError`, none."""
    torch = _torch()
    kept = [{k: v.clone() for k, v in layer.state_dict().items()} for _, layer in layers]
    try:
        for (name, layer), tensor in zip(layers, tensors, strict=True):
            _assign(name, layer, tensor)
        for (name, layer), tensor in zip(layers, tensors, strict=True):
            found = _weight(layer)
            allowed = _ROUNDINGS * torch.finfo(found.dtype).eps * tensor.abs().max()
            if not (found - tensor).abs().max() <= allowed:
                raise _refusal(name, layer, layers)
    except TypeError:
        for (_, layer), state in zip(layers, kept, strict=True):
            layer.load_state_dict(state)
        raise


def _assign(name: str, layer: torch.nn.Linear, tensor: torch.Tensor) -> None:
    torch = _torch()
    with torch.no_grad():
        if _is_parameter(layer):
            layer.weight.copy_(tensor)
        elif torch.nn.utils.parametrize.is_parametrized(layer, "weight"):
            try:
                layer.weight = tensor.to(layer.weight)
            except (NotImplementedError, RuntimeError, ValueError) as error:
                raise _refusal(name, layer, []) from error
        else:
            raise _refusal(name, layer, [])


def _refusal(name: str, layer: torch.nn.Linear, layers: Sequence[_Named]) -> TypeError:
    """Return the error of a layer that cannot have the weight that it is to have."""
    if not _is_parameter(layer):
        return TypeError(
            f"{name} cannot have this weight: it computes its weight from other parameters. Take "
            f"that off first, by torch.nn.utils.parametrize.remove_parametrizations(layer, "
            f"'weight') or torch.nn.utils.prune.remove(layer, 'weight')."
        )
    others = [other for other, same in layers if other != name and same.weight is layer.weight]
    if others:
        return TypeError(
            f"{name} shares its weight with {' and '.join(others)}, and their layers differ. Make "
            f"it a layer with a weight of its own: copy.deepcopy(layer)."
        )
    return TypeError(f"{name} cannot have this weight: it is out of the range of its precision.")
