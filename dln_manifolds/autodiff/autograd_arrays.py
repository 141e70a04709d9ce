"""The arrays of autograd: boxes around NumPy's that record what is done with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import autograd.numpy as anp
from autograd.extend import defvjp_argnums, primitive
from autograd.tracer import getval, isbox

from dln_manifolds.autodiff.dispatch import Evaluation
from dln_manifolds.numerics.arrays import Array


def gathered(value: Any) -> Any:
    """Return one array of a list of boxes, anything else as it is."""
    return anp.array(value) if isinstance(value, (list, tuple)) else value


def is_traced(value: Any) -> bool:
    """Whether a value is being differentiated."""
    return bool(isbox(value))


def to_numpy(value: Any) -> Any:
    """Return what is inside of all boxes."""
    while isbox(value):
        value = getval(value)
    return value


def from_numpy(array: Array, values: Sequence[Any]) -> Any:
    """Return the array: unboxed ones are constants."""
    return array[()]


def attach(evaluation: Evaluation, boxes: Sequence[Any]) -> Any:
    """Return the value of an evaluation as a box that knows its derivative by the given ones."""
    return _value(evaluation, *boxes)


def _evaluated(evaluation: Evaluation, *arguments: Any) -> Array:
    return evaluation.value


def _pulled_back(evaluation: Evaluation, cotangent: Array, *arguments: Any) -> list[Array]:
    return evaluation.gradients(cotangent)


_value = primitive(_evaluated)
# Without a derivative of its own, so that autograd refuses to differentiate twice.
_gradients = primitive(_pulled_back)


def _pullback(argnums: Sequence[int], answer: Any, arguments: Sequence[Any], options: Any) -> Any:
    evaluation, boxes = arguments[0], arguments[1:]

    def pull(cotangent: Any) -> list[Any]:
        gradients = _gradients(evaluation, cotangent, *boxes)
        return [gradients[argnum - 1] for argnum in argnums]

    return pull


defvjp_argnums(_value, _pullback)
