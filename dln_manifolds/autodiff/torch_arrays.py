"""The arrays of PyTorch. Imported with the first tensor, never before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from dln_manifolds.autodiff.dispatch import Evaluation
from dln_manifolds.numerics.arrays import Array


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


class _Value(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, evaluation: Evaluation, *tensors: Any) -> Any:
        context.evaluation = evaluation
        context.save_for_backward(*tensors)
        return from_numpy(evaluation.value, tensors)

    @staticmethod
    def backward(context: Any, *cotangents: Any) -> Any:
        # The tensors go along, so that a second derivative by them is noticed and refused.
        return None, *_Gradients.apply(context.evaluation, cotangents[0], *context.saved_tensors)


class _Gradients(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, evaluation: Evaluation, cotangent: Any, *tensors: Any) -> Any:
        gradients = evaluation.gradients(to_numpy(cotangent))
        return tuple(
            torch.as_tensor(gradient, device=tensor.device)
            for gradient, tensor in zip(gradients, tensors, strict=True)
        )

    @staticmethod
    def backward(context: Any, *cotangents: Any) -> Any:
        raise NotImplementedError("Derivative rules can be used once, not differentiated again.")
