"""Spaces, geodesics and arrays in one file, without pickle.

The file is NumPy's ``.npz``, readable without this package: arrays stand under ``name`` or
``name/field``, all else as JSON under ``contents``. Loading never executes what a file holds: it is
read with ``allow_pickle=False``, and only the classes of this package are made.
"""

import dataclasses
import inspect
import json
import zipfile
import zlib
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import IO, Any

import numpy as np
from geomstats.geometry.manifold import Manifold

import dln_manifolds
from dln_manifolds.errors import InvalidFileError
from dln_manifolds.geodesics import (
    FlatSystem,
    GeodesicSolution,
    LayerSystem,
    ObservableSystem,
    RootChart,
    System,
    Trajectory,
    system_of_matrices,
)
from dln_manifolds.manifolds.space import NetworkSpace
from dln_manifolds.numerics.arrays import Array

__all__ = ["load", "save"]

_FORMAT, _CONTENTS = 2, "contents"


def save(file: str | PathLike[str], /, **items: Any) -> None:
    """Save named spaces, geodesics and arrays; `load` returns them bit by bit as they were.

    ``save("run.npz", space=space, X=X, geodesic=solution)`` writes a file whose name by custom ends
    in ``.npz``; an existing one is replaced. Spaces keep the arguments of their metrics, and a
    flattened view its space. Arrays may hold numbers or strings; single ones, booleans and None are
    kept as they are. Raises `TypeError` if an item is of none of these kinds, or a list that is no
    rectangular array; nothing is written then.
    """
    arrays: dict[str, Array] = {}
    contents = {name: _describe(name, item, arrays) for name, item in items.items()}
    # Names of arguments of savez_compressed could clash with names of items: hence the slash.
    stored: dict[str, Any] = {f"/{name}": array for name, array in arrays.items()}
    stored[_CONTENTS] = np.array(json.dumps({"format": _FORMAT, "items": contents}))
    with Path(file).open("wb") as stream:
        np.savez_compressed(stream, **stored)


def load(file: str | PathLike[str]) -> dict[str, Any]:
    """Return what `save` wrote, by name: spaces with their metrics, callable geodesics, arrays.

    Raises `InvalidFileError` if the file is damaged, was not written by `save`, or by a newer
    version of this package.
    """
    with Path(file).open("rb") as stream:
        try:
            return _read(stream)
        except InvalidFileError as error:
            raise InvalidFileError(f"{file} {error}") from error
        except (*_OF_BYTES, *_OF_ITEMS) as error:
            raise InvalidFileError(
                f"{file} is damaged, or was not written by dln_manifolds.storage.save "
                f"({type(error).__name__}: {error}). Save it again, or take a copy that is whole."
            ) from error


# What readers of archives and arrays, and what follows on JSON, raise for bytes without sense.
_OF_BYTES = (EOFError, NotImplementedError, OSError, SyntaxError, zipfile.BadZipFile, zlib.error)
_OF_ITEMS = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


def _read(stream: IO[bytes]) -> dict[str, Any]:
    archive = np.load(stream, allow_pickle=False)
    # What is no archive comes back as an array.
    if isinstance(archive, np.ndarray) or _CONTENTS not in archive:
        raise InvalidFileError("was not written by dln_manifolds.storage.save.")
    arrays = {name.removeprefix("/"): archive[name] for name in archive}
    contents = json.loads(str(arrays.pop(_CONTENTS)))
    if contents["format"] > _FORMAT:
        raise InvalidFileError("was written by a newer version of dln_manifolds: update it.")
    return {name: _restore(name, item, arrays) for name, item in contents["items"].items()}


def _describe(name: str, item: Any, arrays: dict[str, Array]) -> dict[str, Any]:
    """Return what JSON can hold of an item, and put the rest among the arrays."""
    if isinstance(item, GeodesicSolution):
        return {"kind": "geodesic", **_describe_solution(name, item, arrays)}
    if _is_space(item):
        return _describe_space(item)
    if item is None or isinstance(item, str | bool | int | float):
        # np.float64 is a float, and comes back as one.
        return {"kind": "value", "value": item}
    try:
        array = np.asarray(item)
    except (ValueError, RuntimeError, TypeError) as error:
        raise TypeError(
            f"{name} is a {type(item).__name__} that is no rectangular array of numbers or strings "
            f"({error}). Save its parts under names of their own."
        ) from error
    if array.dtype.kind not in "fiubcSU":
        raise TypeError(
            f"{name} is a {type(item).__name__}; spaces of this package, GeodesicSolution, arrays "
            f"of numbers or strings, and plain values can be saved."
        )
    arrays[name] = array
    return {"kind": "array"}


def _is_space(item: Any) -> bool:
    return isinstance(item, Manifold) and type(item).__name__ in dln_manifolds.__all__


def _describe_space(space: Any) -> dict[str, Any]:
    metric = getattr(space, "metric", None)
    described = None if metric is None else _arguments(metric, {"space"})
    if isinstance(space, NetworkSpace):
        made = {"class": type(space).__name__, "arguments": space.arguments}
    else:
        made = _arguments(space, {"equip"})
    return {"kind": "space", **made, "metric": described}


def _arguments(thing: Any, without: set[str]) -> dict[str, Any]:
    """Return the class of a space or metric, and the arguments that make it again."""
    names = [name for name in inspect.signature(type(thing)).parameters if name not in without]
    arguments = {name: getattr(thing, name, thing) for name in names}
    for name, value in arguments.items():
        if isinstance(thing, Manifold) and _is_space(value):  # a view, and what it looks at
            arguments[name] = _describe_space(value)
            continue
        parts = value if isinstance(value, tuple) else (value,)
        if not all(part is None or isinstance(part, str | bool | int | float) for part in parts):
            raise TypeError(
                f"A {type(thing).__name__} cannot be saved: its argument {name} is neither a "
                f"number nor a string."
            )
    return {"class": type(thing).__name__, "arguments": arguments}


_SYSTEMS = {system.__name__: system for system in (FlatSystem, LayerSystem, ObservableSystem)}
# What the first files call flows of layers, and parts of solutions.
_FIRST_LAYERS = "BalancedField"
_FIRST_NAMES = {"trajectory": "_trajectory", "between": "_between", "system": "_field"}
# Fields of solutions that older files do not have.
_LATER = "upper_bound", "conjugate_time"


def _describe_solution(
    name: str, solution: GeodesicSolution, arrays: dict[str, Array]
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for part in dataclasses.fields(solution):
        value, key = getattr(solution, part.name), part.name
        if isinstance(value, np.ndarray | np.generic):
            arrays[f"{name}/{key}"] = np.asarray(value)
        elif isinstance(value, Trajectory):
            for kind in ("times", "states", "scales"):
                arrays[f"{name}/{key}/{kind}"] = np.array(getattr(value, kind))
        elif part.name == "system":
            values[key] = {"class": type(value).__name__, "arguments": dataclasses.asdict(value)}
        else:
            values[key] = value
    return {"values": values}


def _restore(name: str, item: dict[str, Any], arrays: dict[str, Array]) -> Any:
    if item["kind"] == "value":
        return item["value"]
    if item["kind"] == "array":
        return arrays[name]
    if item["kind"] == "geodesic":
        return _restore_solution(name, item["values"], arrays)
    return _restore_space(item)


def _restore_space(item: dict[str, Any]) -> Any:
    space = _public(item["class"], Manifold)(**_plain(item["arguments"]), equip=False)
    metric = item["metric"]
    if metric is not None:
        default = space.default_metric()
        # The metric of a view is not public by itself.
        known = metric["class"] == default.__name__
        kind = default if known else _public(metric["class"], object)
        space.equip_with_metric(kind, **_plain(metric["arguments"]))
    return space


def _plain(arguments: dict[str, Any]) -> dict[str, Any]:
    """Make spaces again, and tuples of lists, as JSON knows no tuples."""
    make: dict[type, Callable[[Any], object]] = {dict: _restore_space, list: tuple}
    return {name: make[type(x)](x) if type(x) in make else x for name, x in arguments.items()}


def _public(name: str, base: type) -> Any:
    """Return a public class of this package; a file can name no other."""
    found = getattr(dln_manifolds, name, None) if name in dln_manifolds.__all__ else None
    if not (isinstance(found, type) and issubclass(found, base)):
        raise InvalidFileError(f"needs a class {name}, which this version does not have.")
    return found


def _restore_solution(
    name: str, values: dict[str, Any], arrays: dict[str, Array]
) -> GeodesicSolution:
    first = _FIRST_NAMES["system"] in values
    shape = arrays[f"{name}/initial_velocity"].shape
    system = _first_system(values, shape) if first else _system(values["system"], shape)
    parts: dict[str, Any] = {"system": system}
    for part in dataclasses.fields(GeodesicSolution):
        stored = _FIRST_NAMES.get(part.name, part.name) if first else part.name
        key = f"{name}/{stored}"
        if key in arrays:
            parts[part.name] = arrays[key]
        elif f"{key}/times" in arrays:
            kinds = ("times", "states") if first else ("times", "states", "scales")
            recorded = (list(arrays[f"{key}/{kind}"]) for kind in kinds)
            parts[part.name] = Trajectory(*recorded)
        elif part.name not in parts and part.name not in _LATER:
            parts[part.name] = values[stored]
    if first:
        # Upper bounds were not known then; the length is one.
        parts["upper_bound"] = parts["length"].copy()
        parts["trajectory"] = _first_trajectory(parts, arrays[f"{name}/_scale"])
    return GeodesicSolution(**parts)


def _system(described: dict[str, Any], shape: tuple[int, ...]) -> System:
    if described["class"] not in _SYSTEMS:
        raise InvalidFileError(f"needs a system {described['class']}, which is unknown.")
    if described["class"] == LayerSystem.__name__ and "depth" in described["arguments"]:
        return _square_layers(shape)
    return _SYSTEMS[described["class"]](**_plain(described["arguments"]))


def _square_layers(shape: tuple[int, ...]) -> LayerSystem:
    """Return the system of layers in files that kept the depth alone: all widths were equal."""
    depth, n = shape[-3:-1]
    return LayerSystem((n,) * (depth + 1), n)


def _first_system(values: dict[str, Any], shape: tuple[int, ...]) -> System:
    """Return the system of a geodesic of the first format: that kept the depth alone."""
    flow = values[_FIRST_NAMES["system"]]
    # Of layers beside their flow only.
    depth = flow["arguments"].get("depth", values.get("depth"))
    if flow["class"] == _FIRST_LAYERS:
        return _square_layers(shape)
    n = shape[-1]
    return system_of_matrices(depth, (n, n), n)


def _first_trajectory(parts: dict[str, Any], scale: Array) -> Trajectory:
    """Return what the first format recorded, as today's systems record it."""
    system, recorded = parts["system"], parts["trajectory"]
    states = [state[:, :, None] for state in recorded.states]
    scales = [scale] * len(states)
    if isinstance(system, ObservableSystem) and states:
        chart = RootChart(system.layout)
        both = [chart.unit_states(state) for state in states]
        states, scales = ([pair[k] for pair in both] for k in range(2))
        scales = [mu + system.depth * np.log(scale) for mu in scales]
    return Trajectory(recorded.times, states, scales)
