"""The arrays of autograd: boxes around NumPy's that record what is done with them."""

from collections.abc import Callable, Sequence

import autograd.numpy as anp
from autograd.extend import defvjp_argnums, primitive
from autograd.tracer import getval, isbox

from dln_manifolds.autodiff.dispatch import Evaluation
from dln_manifolds.numerics.arrays import Array


def gathered(value: object) -> object:
    """Return one array of a list of boxes of one shape, anything else as it is."""
    if isinstance(value, (list, tuple)):
        try:
            return anp.array(value)
        except ValueError:
            return value  # to be refused by its shape
    return value


def is_transformed(values: Sequence[object]) -> bool:
    """Boxes hold numbers: none stands for others."""
    return False


def is_traced(value: object) -> bool:
    """Whether a value is being differentiated."""
    return bool(isbox(value))


def to_numpy(value: object) -> object:
    """Return what is inside of all boxes."""
    while isbox(value):
        value = getval(value)
    return value


def from_numpy(array: Array, values: Sequence[object]) -> object:
    """Return the array: unboxed ones are constants."""
    return array[()]


def attach(evaluation: Evaluation, boxes: Sequence[object]) -> object:
    """Return the value of an evaluation as a box that knows its derivative by the given ones."""
    return _value(evaluation, *boxes)


def _evaluated(evaluation: Evaluation, *arguments: object) -> Array:
    return evaluation.value


def _pulled_back(evaluation: Evaluation, cotangent: Array, *arguments: object) -> list[Array]:
    return evaluation.gradients(cotangent)


_value = primitive(_evaluated)
# Without a derivative of its own, so that autograd refuses to differentiate twice.
_gradients = primitive(_pulled_back)


def _pullback(
    argnums: Sequence[int], answer: object, arguments: Sequence[object], options: object
) -> Callable[[Array], list[object]]:
    evaluation, boxes = arguments[0], arguments[1:]

    def pull(cotangent: Array) -> list[object]:
        gradients = _gradients(evaluation, cotangent, *boxes)
        return [gradients[argnum - 1] for argnum in argnums]

    return pull


defvjp_argnums(_value, _pullback)
