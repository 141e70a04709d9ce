"""Docstrings of public methods: the shapes of their class, and sections from the table of kinds."""

import inspect
import re

# What letters of kinds stand for: a name for results, the last axes, and what it is.
_MEANINGS = {
    "p": ("point", "P", "Point of the manifold."),
    "q": ("point", "P", "Square matrix, invertible or not; not zero."),
    "v": ("tangent_vec", "P", "Tangent vector at the point."),
    "c": ("cotangent_vec", "P", "Covector at the point, a Euclidean gradient."),
    "w": ("coordinates", "P", "Coordinates in an orthonormal frame at the point."),
    "a": ("array", "P", "Finite numbers, of the shape of points."),
    "x": ("matrix", "m, n", "End-to-end matrix X."),
    "z": ("tangent_vec", "m, n", "Tangent vector at the end-to-end matrix."),
    "g": (
        "group_elem",
        "N - 1, n, n",
        "Orthogonal matrices ``h_1 .. h_{N-1}``; a vector at unequal widths.",
    ),
    "s": ("value", "", "One number for each point or pair of points."),
    "b": ("answer", "", "Whether it is so, for each member of the batch."),
    "m": ("matrix", "M, M", "A matrix on row-major entries."),
}
_ENTRIES = {"m, n": "m n", "*point_shape": "size"}
_OTHERS = {
    "cost": ("Cost", "A smooth function of end-to-end matrices: one of `dln_manifolds.costs`."),
    "n_samples": ("int", "How many to draw; more than one give a first axis."),
    "n_vectors": ("int", "How many to draw; more than one give a first axis."),
    "bound": ("float", "Half the width of the interval of ``log s``."),
    "atol": ("float", "Relative tolerance."),
    "deep": ("bool", "Whether to list the parameters of a space within, too."),
    "params": ("object", "New values by name."),
    "rng": ("numpy.random.Generator or int", "Source of random numbers."),
    "n_jobs": ("int", "Number of workers; -1 for all processors."),
    "progress": ("bool or callable", "Whether to tell how much is done."),
    "joblib_kwargs": ("dict", "Further arguments of ``joblib.Parallel``."),
    "equip": ("bool", "Whether to equip the space with its metric."),
    "through_singular": ("bool", "Whether to go on where a singular matrix is met."),
    "conjugate_points": ("bool", "Whether to seek conjugate points along the geodesics."),
    "search": ("str", '"default", or "thorough": many starts, the shortest geodesic of all.'),
    "warm_start": ("GeodesicSolution", "A solution of earlier pairs, one for each, near these."),
    "orthonormal": ("bool", "Whether vectors are coordinates in an orthonormal frame."),
}
_HEADING = re.compile(r"^(\w+)\n-+\n", re.MULTILINE)


def _array(letter: str, points: str, batch: str) -> tuple[str, str]:
    """Return type and meaning of an array."""
    _, axes, meaning = _MEANINGS[letter]
    axes = axes.replace("P", points).replace("M", _ENTRIES.get(points, points))
    kind = "array-like of bool" if letter == "b" else "array-like"
    shape = f"{batch}{axes}".rstrip()
    return f"{kind}, shape=[{shape}]" if shape else "float", meaning


def _parameters(signature: inspect.Signature, given: str, points: str, batch: str) -> str:
    """Describe the arguments, those without a letter by their names; nothing if one is unknown."""
    lines = []
    for place, parameter in enumerate(list(signature.parameters.values())[1:]):
        if place < len(given) and given[place] != "f":
            kind, meaning = _array(given[place], points, batch)
        elif parameter.name in _OTHERS:
            kind, meaning = _OTHERS[parameter.name]
        else:
            return ""
        if parameter.default is None:
            kind += ", optional"
        elif parameter.default is not parameter.empty:
            kind += f", default {parameter.default}"
        stars = "**" if parameter.kind is parameter.VAR_KEYWORD else ""
        lines += [f"{stars}{parameter.name} : {kind}", f"    {meaning}"]
    return "\n".join(lines)


def complete(docstring: str, signature: inspect.Signature, kind: str, points: str) -> str:
    """Return the docstring of a method with sections for its arguments and its result.

    Those that it has stay. ``kind`` is its row of a table, with a star in front for one point at a
    time, or empty; ``points`` are the axes of points, which replace ``*point_shape``.
    """
    text = inspect.cleandoc(docstring).replace("*point_shape", points)
    head, *parts = _HEADING.split(text)
    sections = dict(zip(parts[::2], parts[1::2], strict=True))
    batch = "" if kind.startswith("*") else "..., "
    given, _, result = kind.removeprefix("*").partition(":")
    made = {"Parameters": _parameters(signature, given, points, batch)}
    if result:
        of_result, meaning = _array(result, points, batch)
        made["Returns"] = f"{_MEANINGS[result][0]} : {of_result}\n    {meaning}"
    else:
        returned = signature.return_annotation
        made["Returns"] = getattr(returned, "__name__", str(returned))
    sections = {title: body for title, body in made.items() if body} | sections
    return "\n\n".join(
        [head.strip()]
        + [f"{name}\n{'-' * len(name)}\n{body.strip()}" for name, body in sections.items()]
    )
