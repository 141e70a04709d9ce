"""What objects say of themselves: a line for ``repr``, names for ``dir``, parameters by name."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, NoReturn, Self

# What geomstats' base classes offer and cannot do where points are matrices or layers.
_OF_VECTORS = {
    "curvature_derivative",
    "directional_curvature_derivative",
    "geodesic_equation",
    "hamiltonian",
    "inner_product_derivative_matrix",
}


class DescribedMetric:
    """A metric whose ``repr`` says its space and arguments, and whose ``dir`` what it can do."""

    def __repr__(self) -> str:
        """Return the space and the arguments of the metric."""
        space: Any = self._space  # type: ignore[attr-defined]
        given = [repr(space), *(f"{name}={value!r}" for name, value in metric_arguments(self))]
        return f"{type(self).__name__}({', '.join(given)})"

    def __dir__(self) -> Iterable[str]:
        """List the names of what does not only raise an error."""
        return [name for name in super().__dir__() if not self._only_raises(name)]

    def _impossible(self) -> frozenset[str]:
        """Return further names that only raise here: symbols need coordinates."""
        stratum = getattr(self, "stratum", None)
        return frozenset() if stratum is None or stratum.is_open else frozenset(["christoffels"])

    def _only_raises(self, name: str) -> bool:
        method = inspect.getattr_static(type(self), name, None)
        returned = getattr(method, "__annotations__", {}).get("return")
        return returned in (NoReturn, "NoReturn") or name in _OF_VECTORS | self._impossible()


def metric_arguments(metric: object) -> list[tuple[str, Any]]:
    """Return the plain arguments that a metric was made with, by name."""
    names = [name for name in inspect.signature(type(metric)).parameters if name != "space"]
    found = [(name, getattr(metric, name, None)) for name in names]
    return [(name, value) for name, value in found if isinstance(value, str | int | float)]


class Adjustable:
    """A space with parameters by name, as estimators of scikit-learn have them.

    So that ``GridSearchCV`` varies the ``space__depth`` of an estimator that has such a space.
    """

    @property
    def _given(self) -> dict[str, Any]:
        """The arguments that make this space, without ``equip``."""
        return dict(self.arguments)  # type: ignore[attr-defined]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the arguments of the space, and the plain ones of its metric, by name.

        With ``deep`` also those of a space within, as ``space__depth``.
        """
        found = dict(self._given)
        metric = getattr(self, "metric", None)
        if metric is not None:
            found |= metric_arguments(metric)
        for name, value in list(found.items()):
            if deep and isinstance(value, Adjustable):
                found |= {f"{name}__{key}": inner for key, inner in value.get_params().items()}
        return found

    def set_params(self, **params: Any) -> Self:
        """Change arguments of the space or of its metric, in place, and return the space.

        The metric is made anew. Raises `ValueError` for unknown names, and what the class raises
        for arguments that do not fit together; the space stays as it was then.
        """
        metric, given = getattr(self, "metric", None), dict(self._given)
        of_metric = dict(metric_arguments(metric)) if metric is not None else {}
        of_space = set(inspect.signature(type(self)).parameters) - {"equip"}
        within: dict[str, dict[str, Any]] = {}
        for name, value in params.items():
            outer, _, inner = name.partition("__")
            if inner and isinstance(given.get(outer), Adjustable):
                within.setdefault(outer, {})[inner] = value
            elif name in of_metric:
                of_metric[name] = value
            elif name in of_space:
                given[name] = value
            else:
                known = ", ".join(sorted(of_space | of_metric.keys()))
                raise ValueError(f"{self!r} has no parameter {name!r}; there are {known}.")
        for name, changes in within.items():
            given[name] = given[name].__sklearn_clone__().set_params(**changes)
        # Made elsewhere first: arguments may be refused.
        kind: Any = type(self)
        tried = kind(**given, equip=False)
        if metric is not None:
            tried.equip_with_metric(type(metric), **of_metric)
        self.__dict__.clear()
        self.__init__(**given, equip=False)  # type: ignore[misc]
        if metric is not None:
            self.equip_with_metric(type(metric), **of_metric)  # type: ignore[attr-defined]
        return self

    def __sklearn_clone__(self) -> Self:
        """Return a new space with the same arguments and a metric like this one's."""
        kind: Any = type(self)
        clone = kind(**self._given, equip=False)
        metric = getattr(self, "metric", None)
        if metric is not None:
            clone.equip_with_metric(type(metric), **dict(metric_arguments(metric)))
        return clone
