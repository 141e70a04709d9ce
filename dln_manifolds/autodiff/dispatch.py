"""Arrays of the hosts: methods written for NumPy take and give those of autograd and PyTorch.

Method bodies know NumPy only. A class decorator puts one layer around the public methods of a
class: it turns the arrays of a host into NumPy's and the results back, and it attaches derivative
rules where the arguments are being differentiated. A rule is a function with the arguments of its
method that returns the result and a *pullback*, the map from a gradient by the result to gradients
by the arguments; no solver is ever differentiated step by step.

Results follow the arguments: tensors in, tensors out. Only where no argument is an array does the
backend of geomstats decide; solvers of pymanopt get NumPy's arrays on every backend.
"""

import functools
import importlib
import inspect
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol, TypeVar, cast

import geomstats.backend as gs
import numpy as np
from autograd.tracer import isbox

from dln_manifolds.autodiff.docstrings import complete
from dln_manifolds.numerics.arrays import Array

C = TypeVar("C", bound=type)
Method = Callable[..., Any]

_PACKAGE = __name__.partition(".")[0]
# Modules that know the arrays of one host; PyTorch is imported with the first of its tensors.
_AUTOGRAD = f"{_PACKAGE}.autodiff.autograd_arrays"
_TORCH = f"{_PACKAGE}.autodiff.torch_arrays"
_DEFAULT = _TORCH if gs.__name__.endswith("pytorch") else None


@dataclass(frozen=True)
class Composite:
    """A rule by the rules of others: a function of the host's module and the method's arguments."""

    function: Method


@dataclass(frozen=True)
class Refusal:
    """Why a method has no derivative; in a pullback, why it has none by one of its arguments."""

    reason: str


# What costs much is returned as a function, called if it is asked for.
Gradient = Array | Refusal | Callable[[], Array] | None
Pullback = Callable[[Array], Sequence[Gradient]]
Result = tuple[Array, Pullback]
Rule = Callable[..., Result]


@dataclass(frozen=True)
class Listed:
    """The rule of a method whose first argument may be a list of arrays of several shapes.

    Whether it is one, its owner may have a say in. Gradients by its members come first.
    """

    rule: Rule
    is_list: Callable[[Any, object], bool]


AnyRule = Rule | Composite | Refusal | Listed


@dataclass(frozen=True)
class Evaluation:
    """A result with its derivative, before a host records it.

    The pullback leads from the gradient by the result to gradients by all arguments, broadcast
    batch axes and all. ``arguments`` are those being differentiated, ``positions`` their places.
    """

    value: Array
    pullback: Pullback
    arguments: list[Array]
    positions: list[int]

    def gradients(self, cotangent: Array, wanted: Sequence[int] | None = None) -> list[Array]:
        """Return the gradients by ``arguments``, or some of them, each of its shape and dtype."""
        everything = self.pullback(np.asarray(cotangent, dtype=np.float64))
        both = list(zip(self.positions, self.arguments, strict=True))
        return [
            unbroadcast(everything[place] if place < len(everything) else None, argument)
            for place, argument in (both if wanted is None else [both[k] for k in wanted])
        ]


# From plain arguments, and whether they are differentiated, to result and pullback.
Evaluate = Callable[[Sequence[object], bool], tuple[object, Pullback | None]]


class Host(Protocol):
    """A module that knows the arrays of a host."""

    def gathered(self, value: object) -> object:
        """Return one array of a list of arrays, anything else as it is."""

    def is_traced(self, value: object) -> bool:
        """Whether a value is being differentiated."""

    def to_numpy(self, value: object) -> object:
        """Return what is inside of an array, anything else as it is."""

    def from_numpy(self, array: Array, values: Sequence[object]) -> object:
        """Return an array as one of the host's, beside the given values."""

    def attach(self, evaluation: Evaluation, arrays: Sequence[object]) -> object:
        """Return a value that knows its derivative by the given arrays."""

    def is_transformed(self, values: Sequence[object]) -> bool:
        """Whether a value stands for others, with no numbers of its own."""

    def transform(self, evaluate: Evaluate, values: Sequence[object], joins: bool) -> object:
        """Return the result for such values; ``joins`` if batches in front come out in front."""


Derivative = tuple[Pullback, list[object], list[int]]


def unbroadcast(gradient: Gradient, argument: Array) -> Array:
    """Sum over the batch axes along which an argument was repeated."""
    if isinstance(gradient, Refusal):
        raise NotImplementedError(gradient.reason)
    if gradient is None:
        return np.zeros_like(argument)
    gradient = gradient() if callable(gradient) else gradient
    total = np.sum(gradient, axis=tuple(range(gradient.ndim - argument.ndim)))
    repeated = tuple(
        axis
        for axis, (size, whole) in enumerate(zip(argument.shape, total.shape, strict=True))
        if size == 1 and whole != 1
    )
    return np.sum(total, axis=repeated, keepdims=True).astype(argument.dtype, copy=False)


def every_backend(
    rules: Mapping[str, AnyRule], kinds: Mapping[str, str], points: str
) -> Callable[[C], C]:
    """Return a class decorator: public methods take and give the arrays of every backend.

    With derivative rules by method name; the derivative of a method without a rule is refused. The
    docstrings are completed by the kinds of arguments and the axes of points of the class.
    """

    def decorate(cls: C) -> C:
        if "Parameters\n" not in (cls.__doc__ or ""):
            # A class that is made as its base is: all but the first line is said there.
            inherited = (inspect.getdoc(cls.__bases__[0]) or "").partition("\n")[2]
            cls.__doc__ = f"{inspect.cleandoc(cls.__doc__ or '')}\n{inherited}\n"
        for name in dir(cls):
            method = inspect.getattr_static(cls, name)
            own = inspect.isfunction(method) and method.__module__.startswith(_PACKAGE)
            if own and not name.startswith("_"):
                # A method inherited from a decorated class is decorated anew, with these rules.
                plain = getattr(method, "numpy_method", method)
                signature = inspect.signature(plain)
                kind = kinds.get(name, "")
                call = _on_every_backend(plain, signature, rules.get(name), kind)
                call.__doc__ = complete(plain.__doc__ or "", signature, kind, points)
                setattr(cls, name, call)
        return cls

    return decorate


def _on_every_backend(
    method: Method, signature: inspect.Signature, given: AnyRule | None, kind: str
) -> Method:
    plan = _Plan(method, signature, given, kind)

    @functools.wraps(method)
    def call(self: object, *args: object, **kwargs: object) -> object:
        library = _library_of((*args, *kwargs.values()) if kwargs else args)
        if library is None:
            return method(self, *args, **kwargs)
        host = cast(Host, importlib.import_module(library))
        if library == _TORCH:
            return host.opaque(_called, plan, host, self, args, kwargs)  # type: ignore[attr-defined]
        return _called(plan, host, self, args, kwargs)

    call.numpy_method = method  # type: ignore[attr-defined]
    # What PyTorch's compiler looks for: it leaves such functions alone.
    call._torchdynamo_disable = True  # type: ignore[attr-defined]
    return call


@dataclass(frozen=True)
class _Plan:
    """A method for NumPy's arrays with its signature, its rule and what its arguments are."""

    method: Method
    signature: inspect.Signature
    given: AnyRule | None
    kind: str

    @property
    def rule(self) -> Rule | Composite | Refusal | None:
        return self.given.rule if isinstance(self.given, Listed) else self.given

    @property
    def joins_batches(self) -> bool:
        """Whether batches that are put in front of all arguments come out in front."""
        one_by_one = self.method.__name__ in ("dist_pairwise", "closest_neighbor_index")
        return bool(self.kind) and not one_by_one and set(self.kind.split(":")[0]) <= set("pvcaw")

    def evaluate(
        self, owner: object, plain: Sequence[object], traced: bool
    ) -> tuple[object, Pullback | None]:
        """Return the result for NumPy's arrays, and the pullback if there is to be one."""
        rule = self.rule
        if traced and rule is not None and not isinstance(rule, (Composite, Refusal)):
            return rule(
                owner, *(np.asarray(x) if isinstance(x, list | tuple) else x for x in plain)
            )
        bound = inspect.BoundArguments(self.signature, OrderedDict())
        names = list(self.signature.parameters)
        bound.arguments.update(zip(names, [owner, *plain], strict=True))
        result = self.method(*bound.args, **bound.kwargs)
        return result, _refusing(self.method, rule) if traced else None


def _called(
    plan: _Plan, host: Host, owner: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> object:
    """Call a method with the arrays of a host."""
    if host.__name__ == _TORCH and not kwargs and asked_by("pymanopt"):  # type: ignore[attr-defined]
        return plan.method(owner, *(host.to_numpy(host.gathered(value)) for value in args))
    bound = plan.signature.bind(owner, *args, **kwargs)
    bound.apply_defaults()
    values = list(bound.arguments.values())[1:]
    if isinstance(plan.given, Listed) and plan.given.is_list(owner, values[0]):
        return _of_list(plan.given.rule, host, owner, *values)
    values = [host.gathered(value) for value in values]
    traced = [place for place, value in enumerate(values) if host.is_traced(value)]
    transformed = host.is_transformed(values)
    if (traced or transformed) and isinstance(plan.rule, Composite):
        return plan.rule.function(host, owner, *values)
    if transformed:
        return host.transform(functools.partial(plan.evaluate, owner), values, plan.joins_batches)
    plain = [host.to_numpy(value) for value in values]
    result, pullback = plan.evaluate(owner, plain, bool(traced))
    derivative = None if pullback is None else (pullback, plain, traced)
    return _give(result, host, values, derivative)


def _of_list(rule: Rule, host: Host, owner: object, members: Any, *others: object) -> object:
    """Return what a method makes of a list of arrays, each of them an argument of its own."""
    values = [*members, *map(host.gathered, others)]
    plain, count = [host.to_numpy(value) for value in values], len(members)
    traced = [place for place, value in enumerate(values) if host.is_traced(value)]
    result, pullback = rule(owner, plain[:count], *plain[count:])
    return _give(result, host, values, (pullback, plain, traced) if traced else None)


def asked_by(package: str, beyond: str = f"{_PACKAGE}.") -> bool:
    """Whether the nearest caller outside this package, and another one, belongs to a package."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        # What keeps PyTorch's compiler away stands between.
        if not name.startswith((f"{_PACKAGE}.", "torch._dynamo", beyond)):
            return bool(name.startswith(package))
        frame = frame.f_back
    return False


def _library_of(values: Sequence[object], found: str | None = _DEFAULT) -> str | None:
    """Return the module for the arrays among the values, None for NumPy's."""
    torch = sys.modules.get("torch")
    for value in values:
        kind = type(value)
        if kind is np.ndarray:
            found = None
        elif isbox(value):
            return _AUTOGRAD
        elif torch is not None and isinstance(value, torch.Tensor):
            return _TORCH
        elif isinstance(value, np.ndarray):
            found = None
        elif isinstance(value, (list, tuple)) and value:
            # Of nested lists the first number tells, of lists of arrays each of them may.
            inner = _library_of(value if isinstance(value[0], np.ndarray) else value[:1], None)
            if inner is not None:
                return inner
    return found


def _give(
    result: object, host: Host, values: Sequence[object], derivative: Derivative | None = None
) -> object:
    """Return a result as the host's arrays, with its derivative if there is one."""
    if isinstance(result, tuple):
        parts = [_give(part, host, values, derivative) for part in result]
        # Of a named tuple: its class takes the parts one by one.
        make: Method = type(result)
        return make(*parts) if hasattr(result, "_fields") else tuple(parts)
    if isinstance(result, (np.ndarray, np.generic)):
        array = np.asarray(result)
        if derivative is None or array.dtype.kind != "f":
            return host.from_numpy(array, values)
        pullback, plain, traced = derivative
        arguments = [np.asarray(plain[place]) for place in traced]
        evaluation = Evaluation(array, pullback, arguments, traced)
        return host.attach(evaluation, [values[place] for place in traced])
    if inspect.isfunction(result):
        return _curve(result, host, values, derivative)
    if derivative is not None and not isinstance(result, (bool, int, str)):
        raise NotImplementedError(
            f"A {type(result).__name__} holds NumPy arrays, which would count as constant. Detach "
            f"the arguments, or ask for exp, log, dist or geodesic, which have derivative rules."
        )
    return result


def _curve(
    path: Method, host: Host, values: Sequence[object], derivative: Derivative | None
) -> Method:
    """Return a path, a function of time, that takes and gives the host's arrays."""

    def points(t: object) -> object:
        times = host.to_numpy(host.gathered(t))
        traced = host.is_traced(t)
        found = (_refusing(path), [times], [0]) if traced else derivative
        return _give(path(times), host, [t] if traced else values, found)

    return points


def _refusing(method: Method, rule: AnyRule | None = None) -> Pullback:
    """Return a pullback that raises: what has no derivative must not count as constant."""
    why = (
        rule.reason if isinstance(rule, Refusal) else "Detach its arguments if they are constants."
    )

    def refuse(cotangent: Array) -> Sequence[Gradient]:
        raise NotImplementedError(f"{method.__qualname__} has no derivative rule. {why}")

    return refuse
