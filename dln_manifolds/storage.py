"""Spaces, geodesics and arrays in one file, without pickle.

The file is NumPy's ``.npz``, readable without this package: arrays stand under ``/name`` or
``/name/field``, all else as JSON under ``contents``, with a digest of everything. In these names a
slash, and what is no plain letter, is written as in addresses of the web. Loading never executes
what a file holds: it is read with ``allow_pickle=False``, and only the classes of this package are
made.
"""

import dataclasses
import errno
import hashlib
import inspect
import io
import json
import os
import uuid
import zipfile
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

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

_FORMAT, _CONTENTS, _SUFFIX = 3, "contents", ".npz"
# Longer names of arrays are cut and numbered.
_LONG_NAME = 100
_PLAIN_NAME = " !#$&'()*+,:;<=>?@[]^`{|}"


def save(file: str | PathLike[str], /, *unnamed: object, **items: Any) -> Path:
    """Save named spaces, geodesics and arrays; `load` returns them bit by bit as they were.

    ``save("run.npz", space=space, X=X, geodesic=solution)`` writes a file and returns its path,
    which has ``.npz`` at the end if no suffix is given. What is there already is replaced when the
    new file is complete: a save that fails, or is interrupted, leaves it as it was. Names may be
    any text.

    Spaces keep the arguments of their metrics, and a flattened view its space. Arrays may hold
    numbers or strings; lists of them come back as arrays. Single numbers, of NumPy too, strings,
    bytes, booleans and None come back as they are. Raises `TypeError` if an item is of none of
    these kinds or has no name, a list that is no rectangular array of one kind, or an array with
    masked entries; nothing is written then.
    """
    if unnamed:
        kinds = ", ".join(type(item).__name__ for item in unnamed)
        raise TypeError(f"Items need names, as in save(file, X=X); {kinds} has none.")
    arrays: dict[str, Array] = {}
    contents = {
        name: _describe(name, _key(name, place), item, arrays)
        for place, (name, item) in enumerate(items.items())
    }
    # Names of arguments of savez_compressed could clash with names of items: hence the slash.
    stored: dict[str, Any] = {f"/{key}": array for key, array in arrays.items()}
    described = {"format": _FORMAT, "digest": _digest(contents, arrays), "items": contents}
    stored[_CONTENTS] = np.array(json.dumps(described))
    path = _path_of(file)
    path = path if path.suffix else path.with_name(f"{path.name}{_SUFFIX}")
    _write(path, stored)
    return path


def load(file: str | PathLike[str]) -> dict[str, Any]:
    """Return what `save` wrote, by name: spaces with their metrics, callable geodesics, arrays.

    ``file`` is what `save` was given or returned. Raises `InvalidFileError` if the file is damaged,
    was not written by `save`, or by a newer version of this package.
    """
    path = _path_of(file)
    suffixed = path.with_name(f"{path.name}{_SUFFIX}")
    path = suffixed if not path.suffix and suffixed.exists() else path
    with path.open("rb") as stream:
        try:
            return _read(stream)
        except InvalidFileError as error:
            raise InvalidFileError(f"{path} {error}") from error
        # Readers of archives, arrays and JSON raise errors of many kinds for bytes without sense.
        except Exception as error:
            raise InvalidFileError(
                f"{path} is damaged, or was not written by dln_manifolds.storage.save "
                f"({type(error).__name__}: {error}). Save it again, or take a copy that is whole."
            ) from error


def _path_of(file: object) -> Path:
    """Return the path of a file, or refuse what names none."""
    if not isinstance(file, str | PathLike):
        raise TypeError(f"file must be a name or a path, not {file!r}.")
    path = Path(file)
    if path.name in ("", "..") or path.is_dir():
        raise ValueError(f"file must name a file, not {str(file)!r}.")
    return path


def _write(path: Path, stored: dict[str, Any]) -> None:
    """Write an archive beside a file and put it in its place when it is complete."""
    target = path.resolve()
    if target.exists() and not target.is_file():  # a device, or a folder, which cannot be opened
        with target.open("wb") as stream:
            np.savez_compressed(stream, **stored)
        return
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(target.parent))
    beside = target.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with beside.open("xb") as stream:
            np.savez_compressed(stream, **stored)
            stream.flush()
            os.fsync(stream.fileno())
        if target.exists():
            beside.chmod(target.stat().st_mode & 0o777)
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _key(name: str, place: int) -> str:
    """Return under which name the array of an item stands: no slash, and none for two items."""
    key = quote(name, safe=_PLAIN_NAME, errors="surrogatepass")
    key = key.replace("..", "%2E%2E").replace(".npy", "%2Enpy")
    return key if len(key) <= _LONG_NAME else f"{key[:_LONG_NAME]}%{place}%"


def _digest(contents: dict[str, Any], arrays: dict[str, Array]) -> str:
    """Return a hash of all that a file says."""
    found = hashlib.sha256(json.dumps(contents).encode())
    for key in sorted(arrays):
        array = arrays[key]
        found.update(f"{key} {array.dtype.str} {array.shape}".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def _read(stream: IO[bytes]) -> dict[str, Any]:
    if stream.read(6) == b"\x93NUMPY":
        raise InvalidFileError("was not written by dln_manifolds.storage.save.")
    stored: dict[str, Array] = {}
    with zipfile.ZipFile(stream) as archive:
        for member in archive.infolist():
            # All of it first, which compares the checksum.
            content = io.BytesIO(archive.read(member))
            name = member.filename.removesuffix(".npy")
            array = np.lib.format.read_array(content, allow_pickle=False)  # type: ignore[no-untyped-call]
            stored[name] = array
    if _CONTENTS not in stored:
        raise InvalidFileError("was not written by dln_manifolds.storage.save.")
    contents = json.loads(str(stored.pop(_CONTENTS)))
    arrays = {name.removeprefix("/"): array for name, array in stored.items()}
    if contents["format"] > _FORMAT:
        raise InvalidFileError("was written by a newer version of dln_manifolds: update it.")
    items = contents["items"]
    if contents["format"] < 3:
        return {name: _restore(name, item, arrays) for name, item in items.items()}
    if contents["digest"] != _digest(items, arrays):
        raise InvalidFileError("is damaged: its digest is another one. Take a copy that is whole.")
    return {
        name: _restore(_key(name, place), item, arrays)
        for place, (name, item) in enumerate(items.items())
    }


def _describe(name: str, key: str, item: Any, arrays: dict[str, Array]) -> dict[str, Any]:
    """Return what JSON can hold of an item, and put the rest among the arrays."""
    if isinstance(item, GeodesicSolution):
        return {"kind": "geodesic", **_describe_solution(key, item, arrays)}
    if _is_space(item):
        return _describe_space(item)
    if item is None or isinstance(item, str | bool | int):
        return {"kind": "value", "value": item}
    if isinstance(item, bytes):
        arrays[key] = np.frombuffer(item, dtype=np.uint8)
        return {"kind": "bytes"}
    arrays[key] = _array(name, item)
    # Of numbers, NumPy's and others, those kinds come back that went.
    single = isinstance(item, np.generic | float | complex)
    python = isinstance(item, float | complex) and not isinstance(item, np.generic)
    return {"kind": "python number" if python else "number" if single else "array"}


def _array(name: str, item: Any) -> Array:
    """Return an item as an array that can be saved; raise `TypeError` if it is none."""
    if isinstance(item, np.ma.MaskedArray) and np.ma.is_masked(item):
        raise TypeError(f"{name} has masked entries. Save item.filled(value), or data and mask.")
    try:
        array = np.asarray(item)
    except (ValueError, RuntimeError, TypeError) as error:
        raise TypeError(
            f"{name} is a {type(item).__name__} that is no rectangular array of numbers or strings "
            f"({error}). Save its parts under names of their own."
        ) from error
    if array.dtype.kind not in "fiubcSU" or hasattr(item, "_fields"):  # tuples with names
        raise TypeError(
            f"{name} is a {type(item).__name__}; spaces of this package, GeodesicSolution, arrays "
            f"of numbers or strings, and plain values can be saved; of other curves their points, "
            f"curve(times), and of results their arrays."
        )
    if isinstance(item, list | tuple):
        given = np.empty(array.shape, dtype=object)
        given[...] = item
        kept = array.astype(object)
        if not ((kept == given) | ((kept != kept) & (given != given))).all():
            raise TypeError(
                f"{name} is a {type(item).__name__} of several kinds, which would not come back as "
                f"they are from one array. Save its parts under names of their own."
            )
    return array


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
_LATER = "upper_bound", "conjugate_time", "competing_lengths", "rival_length", "is_close_contest"


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
    if item["kind"] == "bytes":
        return arrays[name].tobytes()
    if item["kind"] in ("number", "python number"):
        return arrays[name].item() if item["kind"] == "python number" else arrays[name][()]
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
