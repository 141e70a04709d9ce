"""Networks of other libraries as points of the manifolds, and back.

A deep linear network is a list of square layers without bias, the first of which acts first:
``X = W_N ... W_1`` (Chen, arXiv 2510.07324, equation (1.1)). Here such lists, of NumPy arrays or in
a ``torch.nn.Sequential``, become layers W of shape ``(N, n, n)``, balanced if that is asked for,
and return. PyTorch is imported when one of its models is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from dln_manifolds.checks import as_array, as_matrices
from dln_manifolds.errors import InvalidPointError
from dln_manifolds.manifolds.balanced import BalancedManifold
from dln_manifolds.numerics.arrays import Array, ArrayLike

if TYPE_CHECKING:
    import torch

__all__ = ["from_layers", "from_torch", "to_layers", "to_torch"]


def from_layers(layers: Iterable[ArrayLike], balance: bool = True) -> Array:
    r"""Return the layers of a network as one array, ``shape=[N, n, n]``, balanced by default.

    Balancing, by `BalancedManifold.projection`, keeps the end-to-end matrix ``X = W_N ... W_1`` and
    replaces the layers by some of least norm, ``sum |W_p|^2 = N sum s^(2/N)`` (Lindsey and Menon,
    arXiv 2511.01137): a point of ``BalancedManifold(n, N)``. Without it they stay as they are.

    The ``layers`` are matrices, each of shape (n, n), of which the first acts first, on column
    vectors. Raises `InvalidPointError` if one is not square, or differs in shape from the others,
    or is singular and is to be balanced.
    """
    matrices = [as_array(layer, f"Layer {p}") for p, layer in enumerate(layers)]
    if not matrices:
        raise InvalidPointError("There are no layers: the list is empty.")
    n = len(matrices[0]) if matrices[0].ndim else 0
    for p, matrix in enumerate(matrices):
        if matrix.shape != (n, n):
            raise InvalidPointError(
                f"Layer {p} has shape {matrix.shape}; square matrices of one width are needed, one "
                f"for each layer. A single matrix is a list of one: [matrix]. The product of other "
                f"layers is a point of DLNObservableManifold(widths=...)."
            )
    space = BalancedManifold(n, len(matrices), equip=False)
    stacked, dtype = as_matrices(np.stack(matrices), space.shape, "layers")
    stacked = stacked.astype(dtype)
    return np.asarray(space.projection(stacked)) if balance else stacked


def to_layers(point: ArrayLike) -> list[Array]:
    """Return layers W, ``shape=[N, n, n]``, as a list of copies, ``W_1`` first, which acts first.

    Raises `InvalidPointError` if the shape is not that of a single point.
    """
    array = as_array(point, "point")
    if array.ndim != 3 or array.shape[-1] != array.shape[-2] or not array.size:
        raise InvalidPointError(
            f"point has shape {array.shape}; the layers of one network, (N, n, n), are needed."
        )
    array, dtype = as_matrices(array, array.shape, "point")
    return list(array.astype(dtype))


def from_torch(model: torch.nn.Module, balance: bool = True) -> Array:
    r"""Return the layers of a PyTorch model, balanced by default as by `from_layers`.

    ``torch.nn.Linear`` computes ``x W^T`` on rows, which is W on columns: its ``weight`` is the
    layer. The result, ``shape=[N, n, n]``, is a copy in the precision of the model, float32 or
    float64.

    The ``model`` is a ``Linear`` without bias, or a ``Sequential`` (nested or not) of such;
    ``Identity`` counts as nothing. Raises `TypeError` if it holds anything else, and
    `InvalidPointError` if a layer has a bias, is not square, or is singular and is to be balanced.
    """
    weights = [linear.weight.detach().cpu() for linear in _linear_layers(model)]
    # NumPy has no bfloat16; what is coarser than float32 is taken as float32.
    return from_layers(
        [(w if w.element_size() > 2 else w.float()).numpy() for w in weights], balance
    )


def to_torch(point: ArrayLike, model: torch.nn.Module | None = None) -> torch.nn.Module:
    """Return a PyTorch model with the given layers.

    Of the layers W, ``shape=[N, n, n]``, ``point[0]`` acts first; ``total.factor(X)`` gives those
    of a matrix X. The weights of a ``model`` of N linear layers are overwritten in place, in its
    precision and on its device, and it is returned; without one, a new ``torch.nn.Sequential``.
    Raises `TypeError` if the model holds anything else than linear layers, and `InvalidPointError`
    if the layers do not fit it.
    """
    torch = _torch()
    tensors = [torch.from_numpy(layer) for layer in to_layers(point)]
    if model is None:
        linear = [torch.nn.Linear(*t.shape, bias=False, dtype=t.dtype) for t in tensors]
        model = torch.nn.Sequential(*linear)
    targets = list(_linear_layers(model))
    shapes = [tuple(target.weight.shape) for target in targets]
    if shapes != [tuple(t.shape) for t in tensors]:
        raise InvalidPointError(
            f"point has {len(tensors)} layers of shape {tuple(tensors[0].shape)}, and the model "
            f"has layers of shapes {shapes}."
        )
    with torch.no_grad():
        for target, tensor in zip(targets, tensors, strict=True):
            target.weight.copy_(tensor)
    return model


def _torch() -> ModuleType:
    try:
        import torch
    except ImportError as error:
        raise ImportError("PyTorch is not installed: see https://pytorch.org.") from error
    return torch


def _linear_layers(model: torch.nn.Module, name: str = "model") -> Iterator[torch.nn.Linear]:
    """Yield the linear layers of a model in the order in which they act."""
    nn = _torch().nn
    if isinstance(model, nn.Sequential):
        for k, child in enumerate(model):
            yield from _linear_layers(child, f"{name}[{k}]")
    elif isinstance(model, nn.Linear):
        if model.bias is not None:
            raise InvalidPointError(
                f"{name} has a bias, and a deep linear network has none. Make the layer with "
                f"bias=False."
            )
        yield model
    elif not isinstance(model, nn.Identity):
        raise TypeError(
            f"{name} is a {type(model).__name__}; a deep linear network is a Sequential of Linear "
            f"layers without bias."
        )
