"""The arrays of PyTorch. Imported with the first tensor, never before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from dln_manifolds.hosts.arrays import Evaluation
from dln_manifolds.spectral.elementary import Array


def gathered(value: Any) -> Any:
    """Return one tensor of a list of tensors, anything else as it is."""
    if isinstance(value, (list, tuple)) and any(torch.is_tensor(part) for part in value):
        return torch.stack([torch.as_tensor(part) for part in value])
    return value


def is_traced(value: Any) -> bool:
    """Whether a value is being differentiated."""
    return torch.is_tensor(value) and value.requires_grad and torch.is_grad_enabled()


def to_numpy(value: Any) -> Any:
    """Return a tensor as an array, anything else as it is."""
    return value.detach().cpu().numpy() if torch.is_tensor(value) else value


def from_numpy(array: Array, values: Sequence[Any]) -> Any:
    """Return an array as a tensor on the device of the first tensor among the values."""
    tensors = (value for value in values if torch.is_tensor(value))
    first = next(tensors, None)
    return torch.as_tensor(
        np.ascontiguousarray(array).reshape(array.shape),
        device=None if first is None else first.device,
    )


def attach(evaluation: Evaluation, tensors: Sequence[Any]) -> Any:
    """Return the value of an evaluation as a tensor that knows its derivative by the given ones."""
    return _Value.apply(evaluation, *tensors)


def _gradients(context: Any, cotangent: Any) -> Any:
    gradients = context.evaluation.gradients(to_numpy(cotangent))
    return None, *(
        torch.as_tensor(gradient, device=device)
        for gradient, device in zip(gradients, context.devices, strict=True)
    )


# Differentiating twice is refused.
_backward = once_differentiable(_gradients)


class _Value(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, evaluation: Evaluation, *tensors: Any) -> Any:
        context.evaluation = evaluation
        context.set_materialize_grads(True)
        context.devices = [tensor.device for tensor in tensors]
        return from_numpy(evaluation.value, tensors)

    @staticmethod
    def backward(context: Any, *cotangents: Any) -> Any:
        return _backward(context, *cotangents)
