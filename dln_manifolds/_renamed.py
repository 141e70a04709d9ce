"""Modules under names that they had before: imported with a warning, to go in a later version."""

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_PACKAGE = __name__.partition(".")[0]
# By the old name; no successor for a package of which only modules are known.
SUCCESSORS = {
    "geodesics.alignment": "geometry.alignment",
    "geodesics.balancing_flow": "dynamics.balancing_flow",
    "geodesics.gradient_flow": "dynamics.gradient_flow",
    "geodesics.straight_lines": "geometry.straight_lines",
    "spectral": None,
    "spectral.coefficients": "geometry.coefficients",
    "spectral.jacobi": "geometry.sectors",
    "spectral.volume": "geometry.entropy",
}


class _Renamed(MetaPathFinder, Loader):
    """Finds modules by their old names."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        if package != _PACKAGE or name not in SUCCESSORS:
            return None
        return ModuleSpec(fullname, self, is_package=SUCCESSORS[name] is None)

    def exec_module(self, module: ModuleType) -> None:
        # The successor stands in the place of the module that is being imported.
        name = module.__name__
        if successor := SUCCESSORS[name.partition(".")[2]]:
            successor = f"{_PACKAGE}.{successor}"
            text = f"{name} is now {successor}: import that."
            warnings.warn(text, DeprecationWarning, stacklevel=2)
            sys.modules[name] = import_module(successor)


def install() -> None:
    """Let old names be found, after all that exist."""
    sys.meta_path.append(_Renamed())
