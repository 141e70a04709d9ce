"""Input that is wrong or unusual, and the checks that both manifolds have in common.

A table of functions has the form ``{name: (function, kinds)}``, with a letter for each argument as
in `dln_manifolds.autodiff.kinds`: ``p`` for points, others for vectors or any arrays of their
shape. ``draw(kinds, batch)`` makes the arguments.
"""

from contextlib import nullcontext

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from dln_manifolds import GeodesicWarning, InvalidPointError


class Stubborn:
    """Something that does not want to become an array, as a tensor that requires gradients."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("no")


def rubbish(shape):
    """Return what is no point or vector of a shape, by name."""
    n = shape[-1]
    good = np.broadcast_to(np.eye(n), shape).copy()
    return {
        "None": None,
        "string": "abc",
        "number": 1.0,
        "nan": float("nan"),
        "empty list": [],
        "ragged list": [[1, 2, 3], [4, 5]],
        "list of matrices of two sizes": [np.eye(n), np.eye(n + 1)],
        "strings": np.full(shape, "a").tolist(),
        "list of None": np.full(shape, None).tolist(),
        "dictionary": {"a": 1},
        "function": abs,
        "class": int,
        "wrong size": np.broadcast_to(np.eye(n + 1), (*shape[:-2], n + 1, n + 1)).copy(),
        "not square": np.ones((*shape[:-1], n + 1)),
        "vector": np.ones(n),
        "an axis less": good[0],
        "complex": good + 0j,
        "objects": good.astype(object),
        "dates": np.zeros(shape, dtype="datetime64[D]"),
        "nan array": np.full(shape, np.nan),
        "inf array": np.full(shape, np.inf),
        "huge integers": np.full(shape, 10**400, dtype=object).tolist(),
        "no conversion": Stubborn(),
    }


class Multiplying(np.ndarray):
    """Arrays that multiply as matrices do, and that wrap whatever is made of them."""

    def __mul__(self, other):
        return self @ other

    __rmul__ = __mul__


# What is no array of numbers, where the rest of the table above has messages of its own.
NO_NUMBERS = ("string", "strings", "ragged list", "list of None")


def strided(array):
    """Return an equal array whose memory is not contiguous in any order."""
    wide = np.zeros(tuple(2 * n for n in array.shape))
    view = wide[tuple(slice(None, None, 2) for _ in array.shape)]
    view[...] = array
    return view


ARRANGEMENTS = {
    "strided": strided,
    "Fortran": np.asfortranarray,
    "broadcast": lambda a: np.broadcast_to(a, (2, *a.shape))[1],
}


def from_table(owner, table, prefix="", without=frozenset()):
    """Return the functions of a table of `dln_manifolds.autodiff.kinds`, with what they take."""
    return {
        prefix + name: (getattr(owner, name), kinds.split(":")[0])
        for name, kinds in table.items()
        if name not in without
    }


def places(kinds, functions, unless=frozenset()):
    """List all (name, index of an argument of one of the kinds), but for names or pairs."""
    return [
        (name, k)
        for name, (_, found) in functions.items()
        for k, kind in enumerate(found)
        if kind in kinds and name not in unless and (name, k) not in unless
    ]


def several(functions, unless=frozenset()):
    """List the functions of two arguments or more."""
    return [name for name, (_, kinds) in functions.items() if len(kinds) > 1 and name not in unless]


def repeatable(function, arguments):
    """Call a function from the same random state every time; of a basis, take one part."""
    np.random.seed(1)
    result = function(*arguments)
    return result.horizontal if hasattr(result, "horizontal") else result


class Cases:
    """Functions, with what draws their arguments, and the checks that hold for all of them."""

    def __init__(self, functions, draw):
        self.functions, self.draw = functions, draw

    def refuses(self, name, k, change, match=None, batch=()):
        """Fail unless the function refuses its k-th argument after a change; return the message."""
        function, kinds = self.functions[name]
        arguments = self.draw(kinds, batch)
        arguments[k] = change(arguments[k].copy())
        with pytest.raises(InvalidPointError, match=match) as caught:
            function(*arguments)
        return str(caught.value)

    def refuses_entry(self, name, k, value, where, batch=()):
        """Fail unless an entry is refused, and named together with its member of the batch."""

        def change(argument):
            argument[where] = value
            return argument

        message = self.refuses(name, k, change, "not finite", batch)
        assert f"not finite: {value} at {list(where)}" in message
        if batch:
            assert f"(batch member {list(where[: len(batch)])})" in message

    def refuses_batches_that_do_not_broadcast(self, name):
        """Fail unless two of them beside three of them are refused."""
        function, kinds = self.functions[name]
        arguments = self.draw(kinds, (3,))
        arguments[0] = arguments[0][:2]
        with pytest.raises(InvalidPointError, match="broadcast"):
            function(*arguments)

    def takes_integers_as_floats(self, name, values):
        """Compare the results for integers, by kind, with those for floats."""
        function, kinds = self.functions[name]
        arguments = [values[kind] for kind in kinds]
        assert {a.dtype.kind for a in arguments} == {"i"}
        result = repeatable(function, arguments)
        expected = repeatable(function, [a.astype(float) for a in arguments])
        assert_array_equal(result, expected)
        assert np.asarray(result).dtype == np.float64

    def takes_nested_lists(self, name):
        """Compare the results for lists with those for arrays."""
        function, kinds = self.functions[name]
        arguments = self.draw(kinds)
        expected = repeatable(function, arguments)
        assert_array_equal(repeatable(function, [a.tolist() for a in arguments]), expected)

    def takes_any_memory_layout(self, name, arrange, atol):
        """Compare the results; another memory layout may be another order of summation."""
        function, kinds = self.functions[name]
        arguments = self.draw(kinds)
        expected = np.asarray(repeatable(function, arguments))
        result = repeatable(function, [ARRANGEMENTS[arrange](a) for a in arguments])
        assert_allclose(result, expected, rtol=0, atol=atol * np.abs(expected).max())

    def takes_subclasses(self, name, kind):
        """Compare the results for a subclass of ndarray with those for arrays."""
        function, kinds = self.functions[name]
        arguments = self.draw(kinds)
        expected = repeatable(function, arguments)
        result = repeatable(function, [a.view(kind) for a in arguments])
        assert type(result) is type(expected)
        assert_array_equal(result, expected)

    def keeps_single_precision_of_any_byte_order(self, name):
        """Compare the results for the other order of bytes with those for the usual one."""
        function, kinds = self.functions[name]
        arguments = [a.astype(np.float32) for a in self.draw(kinds)]
        expected = repeatable(function, arguments)
        result = repeatable(function, [a.astype(a.dtype.newbyteorder()) for a in arguments])
        assert np.asarray(result).dtype == np.float32
        assert_array_equal(result, expected)

    def takes_an_empty_batch(self, name, shape):
        """Fail unless nothing gives nothing, alone and beside single points."""
        function, kinds = self.functions[name]
        result = function(*self.draw(kinds, (0,)))
        assert result.shape == (0, *shape)
        assert result.dtype == np.float64
        if len(kinds) > 1:
            arguments = self.draw(kinds)
            arguments[0] = np.empty((0, *arguments[0].shape))
            assert function(*arguments).shape == (0, *shape)

    def mutates_nothing(self, name, batch):
        """Fail unless read-only arrays are taken, and are as before."""
        function, kinds = self.functions[name]
        arguments = self.draw(kinds, batch)
        copies = [a.copy() for a in arguments]
        for a in arguments:
            a.flags.writeable = False
        repeatable(function, arguments)
        for a, copy in zip(arguments, copies, strict=True):
            assert_array_equal(a, copy)

    def shares_no_memory(self, name):
        """Fail if a result is a view of an argument."""
        function, kinds = self.functions[name]
        arguments = self.draw(kinds)
        result = np.asarray(repeatable(function, arguments))
        assert not any(np.shares_memory(result, a) for a in arguments)


def disconnected_pairs_do_not_spoil_a_batch(space, starts, ends, on_failure):
    """They alone are NaN, and the status says why. Three pairs; the second one is torn apart."""
    expected = space.metric.log(ends, starts)
    ends[1, 0] *= -1
    space.equip_with_metric(on_failure=on_failure)
    said = pytest.warns(GeodesicWarning) if on_failure == "warn" else nullcontext()
    with said:
        vectors, distances = space.metric.log(ends, starts), space.metric.dist(starts, ends)
        middle = space.metric.geodesic(starts, end_point=ends)(0.5)
        assert np.isnan(space.metric.dist(starts[1], ends[1]))
    assert np.array_equal(np.isnan(distances), [False, True, False])
    for value in (vectors, middle):
        assert np.isnan(value[1]).all()
        assert np.isfinite(value[[0, 2]]).all()
    assert np.allclose(vectors[[0, 2]], expected[[0, 2]], rtol=1e-12, atol=1e-12)
    solution = space.metric.solve_log(ends, starts)
    assert solution.status.tolist() == [0, 3, 0]
    assert np.isnan(solution(0.3)[1]).all()
