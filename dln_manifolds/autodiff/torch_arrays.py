"""The arrays of PyTorch. Imported with the first tensor, never before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.autograd.function import FunctionCtx as Context

from dln_manifolds.autodiff.dispatch import Evaluation
from dln_manifolds.numerics.arrays import Array


def gathered(value: object) -> object:
    """Return one tensor of a list of tensors of one shape, anything else as it is."""
    if isinstance(value, (list, tuple)) and any(torch.is_tensor(part) for part in value):
        try:
            return torch.stack([torch.as_tensor(part) for part in value])
        except (RuntimeError, TypeError, ValueError):
            return [to_numpy(part) for part in value]  # to be refused by its shape
    return value


def is_traced(value: object) -> bool:
    """Whether a value is being differentiated."""
    return isinstance(value, torch.Tensor) and value.requires_grad and torch.is_grad_enabled()


def to_numpy(value: object) -> object:
    """Return a tensor as an array if NumPy has its dtype and layout, anything else as it is."""
    if not isinstance(value, torch.Tensor):
        return value
    plain = value.detach().cpu()
    try:
        return plain.numpy()
    except TypeError:
        return plain


def from_numpy(array: Array, values: Sequence[object]) -> torch.Tensor:
    """Return an array as a tensor on the device of the first tensor among the values."""
    tensors = (value for value in values if isinstance(value, torch.Tensor))
    first = next(tensors, None)
    return torch.as_tensor(
        np.ascontiguousarray(array).reshape(array.shape),
        device=None if first is None else first.device,
    )


def attach(evaluation: Evaluation, tensors: Sequence[object]) -> object:
    """Return the value of an evaluation as a tensor that knows its derivative by the given ones."""
    return _Value.apply(evaluation, *tensors)


class _Value(torch.autograd.Function):
    @staticmethod
    def forward(context: Context, evaluation: Evaluation, *tensors: torch.Tensor) -> torch.Tensor:
        context.evaluation = evaluation
        context.save_for_backward(*tensors)
        return from_numpy(evaluation.value, tensors)

    @staticmethod
    def backward(context: Context, *cotangents: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        # The tensors go along, so that a second derivative by them is noticed and refused.
        return None, *_Gradients.apply(context.evaluation, cotangents[0], *context.saved_tensors)


class _Gradients(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Context, evaluation: Evaluation, cotangent: torch.Tensor, *tensors: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        gradients = evaluation.gradients(cotangent.detach().cpu().numpy())
        return tuple(
            torch.as_tensor(gradient, device=tensor.device)
            for gradient, tensor in zip(gradients, tensors, strict=True)
        )

    @staticmethod
    def backward(context: Context, *cotangents: torch.Tensor) -> tuple[None, ...]:
        raise NotImplementedError("Derivative rules can be used once, not differentiated again.")
