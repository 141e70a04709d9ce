"""The arrays of PyTorch. Imported with the first tensor, never before.

Derivatives are recorded by functions of ``torch.autograd`` whose bodies see plain tensors only.
Those of ``torch.func`` (grad, vmap, jacrev) arrive without numbers: there the method itself is
called inside of such a function, where PyTorch has taken its layers off.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.autograd.function import FunctionCtx as Context

from dln_manifolds.autodiff.dispatch import Evaluate, Evaluation, Pullback
from dln_manifolds.numerics.arrays import Array
from dln_manifolds.numerics.precision import coarse

# Which axis of each argument is that of a batch.
Axes = Sequence[int | None]

# NumPy has no such numbers: they are computed as single precision that is known to be coarser.
_BRAIN = torch.bfloat16
_MARKED = coarse(torch.finfo(_BRAIN).eps)


def opaque(call: Callable[..., object], *arguments: object) -> object:
    """Call a function that PyTorch's compiler, where it is in use, does not look into."""
    # Whoever compiles has imported this, which takes long.
    if "torch._dynamo" in sys.modules:
        call = torch.compiler.disable(call)
    return call(*arguments)


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


def _is_empty(value: object) -> bool:
    """Whether a value is a tensor of ``torch.func``, which stands for others."""
    return isinstance(value, torch.Tensor) and torch._C._functorch.is_functorch_wrapped_tensor(
        value
    )


def _is_differentiated(value: object) -> bool:
    """Whether a tensor, or one that it stands for, is being differentiated."""
    while _is_empty(value):
        if torch._C._functorch.is_gradtrackingtensor(value):
            return True
        value = torch._C._functorch.get_unwrapped(value)
    return isinstance(value, torch.Tensor) and value.requires_grad


def is_transformed(values: Sequence[object]) -> bool:
    """Whether a value is a tensor of ``torch.func``, which stands for others."""
    return any(map(_is_empty, values))


def to_numpy(value: object) -> object:
    """Return a tensor as an array if NumPy has its layout, anything else as it is."""
    if not isinstance(value, torch.Tensor):
        return value
    if _is_empty(value):
        raise NotImplementedError(
            "Tensors inside of torch.func and vmap have no numbers to look at, and this asks for "
            "some. Methods of spaces and metrics that return arrays work there; call others "
            "outside, or use batch axes in the place of vmap."
        )
    plain = value.detach().cpu()
    if plain.dtype == _BRAIN and plain.layout == torch.strided:
        return plain.float().numpy().astype(_MARKED)
    try:
        return plain.numpy()
    except TypeError:
        return plain


def from_numpy(array: Array, values: Sequence[object]) -> torch.Tensor:
    """Return an array as a tensor on the device of the first tensor among the values."""
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    found = torch.as_tensor(
        np.ascontiguousarray(array).reshape(array.shape).astype(array.dtype.newbyteorder("=")),
        device=tensors[0].device if tensors else None,
    )
    of_arrays = [value for value in values if isinstance(value, np.ndarray)]
    brain = tensors and not of_arrays and all(value.dtype == _BRAIN for value in tensors)
    return found.to(_BRAIN) if brain and found.dtype == torch.float32 else found


def attach(evaluation: Evaluation, tensors: Sequence[object]) -> object:
    """Return the value of an evaluation as a tensor that knows its derivative by the given ones."""
    return _Value.apply(_Known(evaluation), *tensors)[0]


def transform(evaluate: Evaluate, values: Sequence[object], joins: bool) -> object:
    """Return the result for values some of which stand for others.

    With ``joins``, batch axes in front of all tensors come out in front of the result.
    """
    places = [k for k, value in enumerate(values) if isinstance(value, torch.Tensor)]
    fixed = [None if k in places else value for k, value in enumerate(values)]
    wanted = torch.is_grad_enabled() and any(map(_is_differentiated, values))
    task = _Task(evaluate, fixed, places, joins, wanted)
    return task.arranged(_Value.apply(task, *(values[k] for k in places)))


@dataclass
class _Known:
    """A value and its derivative that are known before they are recorded."""

    evaluation: Evaluation

    def values(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return [from_numpy(self.evaluation.value, tensors)]

    def gradients(self, cotangent: Array, wanted: Sequence[int]) -> list[Array]:
        return self.evaluation.gradients(cotangent, wanted)


@dataclass
class _Task:
    """A call of a method whose tensors come later, plain ones or one for each of a batch.

    What was found is kept for the way back: the evaluation; of a batch, the task that was done in
    the place of this one, or one for each member.
    """

    evaluate: Evaluate
    fixed: Sequence[object]
    places: Sequence[int]
    joins: bool
    wanted: bool
    evaluation: Evaluation | None = None
    make: Callable[..., object] | None = None
    parts: list[_Task] = field(default_factory=list)
    joined: bool = False

    def again(self) -> _Task:
        """Return the same call, to be made with other tensors."""
        return _Task(self.evaluate, self.fixed, self.places, self.joins, self.wanted)

    def values(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Call the method; keep what its derivative needs."""
        plain, filled = list(self.fixed), list(self.fixed)
        for place, tensor in zip(self.places, tensors, strict=True):
            plain[place], filled[place] = to_numpy(tensor), tensor
        result, pullback = self.evaluate(plain, self.wanted)
        parts = result if isinstance(result, tuple) else (result,)
        if not all(isinstance(part, np.ndarray | np.generic) for part in parts):
            raise NotImplementedError(
                f"A {type(parts[0]).__name__} cannot be returned inside of torch.func or vmap. "
                f"Call the method outside, or ask for exp, log, dist or geodesic."
            )
        if isinstance(result, tuple):
            kind: Any = type(result)
            self.make = kind._make if hasattr(kind, "_make") else kind
        self._keep(np.asarray(parts[0]), pullback, plain)
        return [from_numpy(np.asarray(part), filled) for part in parts]

    def _keep(self, value: Array, pullback: Pullback | None, plain: Sequence[object]) -> None:
        if pullback is not None:
            arguments = [np.asarray(plain[place]) for place in self.places]
            self.evaluation = Evaluation(value, pullback, arguments, list(self.places))

    def gradients(self, cotangent: Array, wanted: Sequence[int]) -> list[Array]:
        """Return the gradients by some of the tensors."""
        assert self.evaluation is not None
        return self.evaluation.gradients(cotangent, wanted)

    def arranged(self, found: tuple[torch.Tensor, ...]) -> object:
        """Return the result of the method, which may be a tuple."""
        make = self.make
        task = self
        while make is None and task.parts:
            task = task.parts[0]
            make = task.make
        return found[0] if make is None else make(found)


class _Value(torch.autograd.Function):
    """Values of a task for tensors, which know their derivative by these."""

    @staticmethod
    def forward(task: _Known | _Task, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(task.values(tensors))

    @staticmethod
    def setup_context(context: Context, inputs: tuple[Any, ...], output: Any) -> None:
        context.task = inputs[0]
        context.save_for_backward(*inputs[1:])
        context.mark_non_differentiable(*(x for x in output if not x.is_floating_point()))

    @staticmethod
    def backward(context: Context, *cotangents: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        # The tensors go along, so that a second derivative by them is noticed and refused.
        given = context.task, context.needs_input_grad[1:], cotangents[0], *context.saved_tensors
        return None, *_Gradients.apply(*given)

    @staticmethod
    def vmap(info: Any, in_dims: Axes, task: _Task, *tensors: torch.Tensor) -> Any:
        moved = _in_front(tensors, in_dims[1:])
        n_axes = {x.ndim - (dim is not None) for x, dim in zip(moved, in_dims[1:], strict=True)}
        if task.joins and len(n_axes) == 1:
            task.parts, task.joined = [task.again()], True
            found = _Value.apply(task.parts[0], *moved)
            return found, (0,) * len(found)
        task.parts = [task.again() for _ in range(info.batch_size)]
        each = [
            _Value.apply(part, *_member(moved, in_dims[1:], k)) for k, part in enumerate(task.parts)
        ]
        found = tuple(torch.stack(parts) for parts in zip(*each, strict=True))
        return found, (0,) * len(found)


class _Gradients(torch.autograd.Function):
    """Gradients of a task by its tensors."""

    @staticmethod
    def forward(
        task: _Known | _Task,
        needed: Sequence[bool],
        cotangent: torch.Tensor,
        *tensors: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        wanted = [k for k, need in enumerate(needed) if need]
        gradients = task.gradients(cotangent.detach().cpu().double().numpy(), wanted)
        found = [torch.zeros_like(tensor) for tensor in tensors]
        for k, gradient in zip(wanted, gradients, strict=True):
            found[k] = torch.as_tensor(gradient).to(tensors[k])
        return tuple(found)

    @staticmethod
    def setup_context(context: Context, inputs: tuple[Any, ...], output: Any) -> None:
        pass

    @staticmethod
    def backward(context: Context, *cotangents: torch.Tensor) -> tuple[None, ...]:
        raise NotImplementedError("Derivative rules can be used once, not differentiated again.")

    @staticmethod
    def vmap(
        info: Any,
        in_dims: Axes,
        task: _Known | _Task,
        needed: Sequence[bool],
        cotangent: torch.Tensor,
        *tensors: torch.Tensor,
    ) -> Any:
        size, dims = info.batch_size, in_dims[2:]
        moved = _in_front((cotangent, *tensors), dims)
        # Of one value with several cotangents, as for Jacobians, or of several values.
        alone = all(dim is None for dim in dims[1:])
        parts: list[Any] = [task] * size if alone else task.parts  # type: ignore[union-attr]
        if not alone and task.joined:  # type: ignore[union-attr]
            given = [
                x if dim is not None else x.expand(size, *x.shape)
                for x, dim in zip(moved, dims, strict=True)
            ]
            found = _Gradients.apply(parts[0], needed, *given)
        else:
            each = [
                _Gradients.apply(part, needed, *_member(moved, dims, k))
                for k, part in enumerate(parts)
            ]
            found = tuple(torch.stack(gradients) for gradients in zip(*each, strict=True))
        return found, (0,) * len(found)


def _in_front(tensors: Sequence[torch.Tensor], dims: Axes) -> list[torch.Tensor]:
    """Return tensors with the axis of their batch, if they have one, in front."""
    return [x if dim is None else x.movedim(dim, 0) for x, dim in zip(tensors, dims, strict=True)]


def _member(tensors: Sequence[torch.Tensor], dims: Axes, k: int) -> list[torch.Tensor]:
    return [x if dim is None else x[k] for x, dim in zip(tensors, dims, strict=True)]
