"""What is saved comes back bit by bit, and a file can run nothing."""

import dataclasses
import io
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from dln_manifolds import BalancedManifold, DLNObservableManifold, DLNQuotientMetric
from dln_manifolds.errors import InvalidFileError
from dln_manifolds.storage import load, save


@pytest.fixture
def file(tmp_path):
    return tmp_path / "saved.npz"


def round_trip(file, item):
    save(file, item=item)
    return load(file)["item"]


@pytest.mark.parametrize(
    "space", [DLNObservableManifold(3, np.pi), BalancedManifold(2, 4), DLNObservableManifold(2, 3)]
)
def test_space(file, space):
    space.equip_with_metric(on_failure="nan", tolerance=1e-11)
    back = round_trip(file, space)
    assert type(back) is type(space)
    assert (back.n, back.depth, back.shape) == (space.n, space.depth, space.shape)
    assert type(back.metric) is type(space.metric)
    assert back.metric.tolerance == 1e-11
    assert back.metric.on_failure == "nan"
    points = space.random_point(2)
    np.testing.assert_array_equal(back.metric.dist(*points), space.metric.dist(*points))


def test_space_without_metric(file):
    assert not hasattr(round_trip(file, DLNObservableManifold(2, 3, equip=False)), "metric")


@pytest.mark.parametrize(
    ("space", "orthonormal"),
    [
        (DLNObservableManifold(2, 2.5), False),
        (DLNObservableManifold(2, 2.5), True),
        (BalancedManifold(2, 3), False),
    ],
    ids=str,
)
def test_flattened_space(file, space, orthonormal):
    space.equip_with_metric(on_failure="nan", tolerance=1e-11)
    view = space.flattened(orthonormal=orthonormal)
    back = round_trip(file, view)
    assert repr(back) == repr(view)
    assert back.space.metric.tolerance == 1e-11
    assert back.space.metric.on_failure == "nan"
    points = view.random_point(2)
    np.testing.assert_array_equal(back.metric.log(*points), view.metric.log(*points))
    view = type(view)(space, equip=False)
    assert not hasattr(round_trip(file, view), "metric")


SOLUTIONS = {
    "one": lambda: DLNObservableManifold(3, 2.5).metric.solve_log(2 * np.eye(3), np.eye(3)),
    "batch": lambda: DLNObservableManifold(2, 3).metric.solve_log(
        np.array([[[1.0, 2.0], [-1.0, 0.5]], [[0.1, 0.0], [3.0, 4.0]]]), np.diag([1.0, 2.0])
    ),
    "crossing": lambda: DLNObservableManifold(2, 3).metric.solve_exp(
        -10 * np.eye(2), np.diag([1.0, 2.0])
    ),
    "layers": lambda: BalancedManifold(2, 3).metric.solve_exp(
        np.full((3, 2, 2), 0.1) * np.eye(2), np.broadcast_to(np.eye(2), (3, 2, 2))
    ),
}


@pytest.mark.parametrize("name", SOLUTIONS)
def test_solution(file, name):
    solution = SOLUTIONS[name]()
    back = round_trip(file, solution)
    for part in dataclasses.fields(solution):
        value, other = getattr(solution, part.name), getattr(back, part.name)
        assert type(other) is type(value)
        pairs = [(value, other)]
        if part.name == "trajectory":
            pairs = [(value.times, other.times), (value.states, other.states)]
        for first, second in pairs:
            np.testing.assert_array_equal(second, first)
    times = np.array([-0.01, 0, 0.03, 0.5, 1])
    for first, second in zip(solution.evaluate(times), back.evaluate(times), strict=True):
        np.testing.assert_array_equal(first, second)


def test_files_of_the_first_format():
    """A file that version 0.1 wrote before its solvers were joined."""
    back = load(Path(__file__).parent / "data" / "format_1.npz")
    metric = back["space"].metric
    end = np.diag([2.0, 1.0]) + 0.1
    np.testing.assert_allclose(back["log"](1.0), end, rtol=0, atol=1e-11)
    middle = metric.geodesic(np.diag([1.0, 2.0]), end_point=end)(0.4)[0]
    np.testing.assert_allclose(back["log"](0.4), middle, rtol=0, atol=1e-11)
    layers = np.broadcast_to(np.eye(2), (3, 2, 2))
    np.testing.assert_allclose(back["exp"](0.5), 1.05 * layers, rtol=0, atol=1e-12)


def test_several_items_and_plain_values(file):
    items = {
        "X": np.eye(3, dtype=np.float32),
        "file": "a name that NumPy's own arguments have",
        "nothing": None,
        "seed": 3,
        "loss": 0.1 + 0.2,
        "labels": np.array(["a", "b"]),
    }
    save(file, **items)
    back = load(file)
    assert list(back) == list(items)
    np.testing.assert_array_equal(back["X"], items["X"])
    assert back["X"].dtype == np.float32
    assert back["labels"].tolist() == ["a", "b"]
    assert all(back[name] == items[name] for name in ("file", "nothing", "seed", "loss"))


def test_name_is_kept_as_given(tmp_path):
    save(tmp_path / "run.dln", X=np.eye(2))
    assert [path.name for path in tmp_path.iterdir()] == ["run.dln"]


def test_arrays_are_readable_without_the_package(file):
    save(file, X=np.eye(2))
    with np.load(file, allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["/X"], np.eye(2))
        assert json.loads(str(archive["contents"]))["items"]["X"] == {"kind": "array"}


@pytest.mark.parametrize("item", [object(), np.array([None]), {"a": 1}, lambda t: t])
def test_what_cannot_be_saved(file, item):
    with pytest.raises(TypeError, match=r"item is a .*can be saved"):
        save(file, item=item)
    assert not file.exists()


@pytest.mark.parametrize(
    "item", [[[1, 2, 3], [4, 5]], [np.eye(3), np.eye(2)]], ids=["numbers", "matrices"]
)
def test_ragged_list_is_not_saved(file, item):
    save(file, X=np.eye(2))
    with pytest.raises(TypeError, match=r"layers is a list that is no rectangular.*own"):
        save(file, layers=item)
    # what was there is not lost
    assert list(load(file)) == ["X"]


def test_metric_with_other_arguments_is_refused(file):
    space = DLNObservableManifold(2, 2, equip=False)
    space.equip_with_metric(DLNQuotientMetric, total_space=BalancedManifold(2, 2))
    with pytest.raises(TypeError, match="total_space"):
        save(file, space=space)


class TestForeignFiles:
    def test_pickle_is_not_loaded(self, file):
        class Bomb:
            def __reduce__(self):
                return (pytest.fail, ("executed",))

        file.write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(InvalidFileError, match=r"was not written by .*pickle"):
            load(file)

    def test_other_archive(self, file):
        np.savez(file, X=np.eye(2))
        with pytest.raises(InvalidFileError, match="not written by"):
            load(file)

    def test_plain_array(self, file):
        stream = io.BytesIO()
        np.save(stream, np.eye(2))
        file.write_bytes(stream.getvalue())
        with pytest.raises(InvalidFileError, match="not written by"):
            load(file)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"format": 99}, "newer"),
            ({"items": {"s": {"kind": "space", "class": "exec", "arguments": {}}}}, "class exec"),
            ({"items": {"s": {"kind": "space", "class": "load", "arguments": {}}}}, "class load"),
            ({"items": {"s": {"kind": "array"}}}, "damaged"),
            ({"items": {"s": {}}}, "damaged"),
            ({"items": {"s": {"kind": "geodesic", "values": {}}}}, "damaged"),
            ({"items": 3}, "damaged"),
        ],
    )
    def test_other_contents(self, file, change, message):
        np.savez(file, contents=np.array(json.dumps({"format": 1, "items": {}, **change})))
        with pytest.raises(InvalidFileError, match=message) as caught:
            load(file)
        assert str(caught.value).startswith(str(file))


class TestDamagedFiles:
    """Whatever happened to a file, it gives what was saved or an error that names it."""

    @pytest.fixture
    def whole(self, file):
        save(file, X=np.arange(4.0).reshape(2, 2), space=BalancedManifold(2, 3))
        return file.read_bytes()

    def check(self, file, content):
        """Return whether the file was refused."""
        file.write_bytes(content)
        refused = None
        try:
            back = load(file)
        except InvalidFileError as error:
            refused = str(error)
        if refused is not None:
            assert refused.startswith(str(file))
            return True
        np.testing.assert_array_equal(back["X"], np.arange(4.0).reshape(2, 2))
        assert repr(back["space"]) == repr(BalancedManifold(2, 3))
        return False

    def test_cut_short(self, file, whole):
        assert all(self.check(file, whole[:length]) for length in range(0, len(whole), 11))

    def test_one_byte_changed(self, file, whole):
        refused = 0
        for position in range(0, len(whole), 3):
            changed = bytearray(whole)
            changed[position] ^= 0x5A
            refused += self.check(file, bytes(changed))
        # dates and other attributes of the archive do not matter
        assert refused > len(whole) / 3 / 2

    @pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04" + bytes(40)])
    def test_something_else(self, file, content):
        assert self.check(file, content)

    def test_no_file(self, file):
        with pytest.raises(FileNotFoundError):
            load(file)
