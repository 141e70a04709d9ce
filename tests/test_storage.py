"""What is saved comes back bit by bit, and a file can run nothing."""

import dataclasses
import errno
import io
import json
import math
import os
import pickle
import signal
import subprocess
import sys
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
    "conjugate points": lambda: DLNObservableManifold(2, 3).metric.solve_log(
        np.stack([np.eye(2), np.diag([2.0, 1.0])]), np.eye(2), conjugate_points=True
    ),
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


def test_a_suffix_is_given_where_there_is_none(tmp_path):
    assert save(tmp_path / "run", X=np.eye(2)) == tmp_path / "run.npz"
    assert [path.name for path in tmp_path.iterdir()] == ["run.npz"]
    np.testing.assert_array_equal(load(tmp_path / "run")["X"], np.eye(2))
    (tmp_path / "run.npz").rename(tmp_path / "old")  # as earlier versions wrote it
    np.testing.assert_array_equal(load(tmp_path / "old")["X"], np.eye(2))
    save(tmp_path / "old", X=np.ones(3))
    np.testing.assert_array_equal(load(tmp_path / "old")["X"], np.ones(3))
    with pytest.raises(FileNotFoundError, match="other"):
        load(tmp_path / "other")


NAMES = (
    *("contents", "/contents", "file", "self", "items", "", " ", ".", "..", "../a", "a", "a.npy"),
    *(
        "a.npy.npy",
        "a/b",
        "a%2Fb",
        "g",
        "g/length",
        "g%2Flength",
        "x\\y",
        "x\ny",
        "\0",
        "a\0b",
        "é",
    ),
    *("É", "\ud800", "n" * 90_000, "n" * 90_001, "%0%", "arr_0", "__class__"),
)


def test_any_names(file):
    items = {name: np.full(2, float(k)) for k, name in enumerate(NAMES)}
    items["g"] = SOLUTIONS["one"]()
    save(file, **items)
    back = load(file)
    assert list(back) == list(items)
    for name in NAMES:
        if name != "g":
            np.testing.assert_array_equal(back[name], items[name])
    np.testing.assert_array_equal(back["g"].length, items["g"].length)


VALUES = (
    *(
        np.int64(-3),
        np.float32(0.1),
        np.float64(0.1),
        np.bool_(True),
        np.complex64(1j),
        np.uint8(7),
    ),
    *(np.float16(2), 0.1, float("inf"), -0.0, 1 + 2j, True, None, 10**300, "", "a\0", "\ud800"),
    *(b"", b"a\0", bytes(range(256)), np.str_("b\0")),
)


@pytest.mark.parametrize("value", VALUES, ids=lambda x: f"{type(x).__name__} {str(x)[:9]!a}")
def test_single_values_come_back_as_they_are(file, value):
    back = round_trip(file, value)
    assert back == value
    assert isinstance(value, np.str_) or type(back) is type(value)
    assert isinstance(value, str) or str(back) == str(value)  # the sign of zero


@pytest.mark.parametrize(
    "array",
    [
        np.arange(3, dtype=">f4"),
        np.full((2, 0, 3), 1j),
        np.array([b"a\0", b"b"]),
        np.array(["a", "bc"], dtype=">U2"),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array(True),
        np.array([np.nan, -0.0, np.inf, 5e-324]),
        np.arange(4, dtype=np.float16)[::-1],
    ],
    ids=lambda x: f"{x.dtype.str} {x.shape}",
)
def test_arrays_come_back_bit_by_bit(file, array):
    back = round_trip(file, array)
    assert (type(back), back.dtype, back.shape) == (np.ndarray, array.dtype, array.shape)
    assert back.tobytes() == array.tobytes()


def test_lists_come_back_as_arrays_or_are_refused(file):
    for item in ([1, 2], [[1.5], [2]], ["a", "bc"], (True, False), [np.nan, 1], []):
        back = round_trip(file, item)
        assert isinstance(back, np.ndarray)
        np.testing.assert_array_equal(back, np.asarray(item))
    for item in ([1, "a"], [2**60 + 1, 0.5], ["a\0"], [None, 1.0], [True, "x"]):
        with pytest.raises(TypeError, match="item is a list"):
            save(file, item=item)
    masked = np.ma.masked_array([1.0, 2.0], [False, True])
    with pytest.raises(TypeError, match="item has masked entries"):
        save(file, item=masked)


EVERY_SPACE = [
    DLNObservableManifold(3, math.inf),
    DLNObservableManifold(shape=(4, 3), rank=2, depth=2.5),
    DLNObservableManifold(widths=(4, 3, 5)),
    DLNObservableManifold(widths=(4, 3, 5), rank=1),
    DLNObservableManifold(n=np.int64(1), depth=np.float64(1)),
    BalancedManifold(widths=(4, 3, 5)),
    BalancedManifold(widths=(2, 2, 3), rank=1),
    BalancedManifold(1, 1),
]


@pytest.mark.parametrize("space", EVERY_SPACE, ids=repr)
def test_spaces_of_every_kind(file, space):
    space.equip_with_metric(on_failure="warn", tolerance=1e-12)
    start, end = space.random_point(2, bound=0.2)
    end = space.metric.exp(0.1 * space.metric.log(end, start), start)
    save(file, space=space, log=space.metric.solve_log(end, start), view=space.flattened())
    back = load(file)
    assert repr(back["space"]) == repr(space)
    assert (back["space"].rank, back["space"].widths) == (space.rank, space.widths)
    assert (back["space"].metric.on_failure, back["space"].metric.tolerance) == ("warn", 1e-12)
    np.testing.assert_array_equal(
        back["space"].metric.log(end, start), space.metric.log(end, start)
    )
    np.testing.assert_allclose(back["log"](1.0), end, rtol=0, atol=1e-9)
    assert repr(back["view"]) == repr(space.flattened())


class TestFailedSaves:
    """Whatever stops a save, the file that was there stays, and nothing is left beside it."""

    @pytest.fixture
    def old(self, file):
        save(file, X=np.eye(2))
        return file.read_bytes()

    def check(self, file, old):
        assert file.read_bytes() == old
        assert list(file.parent.iterdir()) == [file]

    @pytest.mark.parametrize("room", [0, 1, 100, 1000, 5000])
    def test_full_disk(self, file, old, monkeypatch, room):
        class Full(io.FileIO):
            written = 0

            def write(self, data):
                Full.written += len(bytes(data))
                if Full.written > room:
                    raise OSError(errno.ENOSPC, "No space left on device")
                return super().write(data)

        monkeypatch.setattr(Path, "open", lambda path, mode="r": Full(path, mode.replace("b", "")))
        with pytest.raises(OSError, match="No space left"):
            save(file, X=np.random.default_rng(0).normal(size=(40, 40)))
        monkeypatch.undo()
        self.check(file, old)

    def test_interruption(self, file, old, monkeypatch):
        def interrupted(stream, **stored):
            stream.write(b"half of it")
            raise KeyboardInterrupt

        monkeypatch.setattr(np, "savez_compressed", interrupted)
        with pytest.raises(KeyboardInterrupt):
            save(file, X=np.ones(3))
        monkeypatch.undo()
        self.check(file, old)

    def test_unsuitable_items(self, file, old):
        for item in (object(), np.array([None]), [1, "a"], 10**5000):
            with pytest.raises((TypeError, ValueError)):
                save(file, X=np.eye(3), item=item)
            self.check(file, old)

    def test_killed_in_the_middle(self, file, old):
        code = (
            "import os, signal, sys\n"
            "import numpy as np\n"
            "from dln_manifolds import storage\n"
            "def killed(stream, **stored):\n"
            "    stream.write(b'half of it'); stream.flush()\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n"
            "np.savez_compressed = killed\n"
            "storage.save(sys.argv[1], X=np.ones(3))\n"
        )
        done = subprocess.run([sys.executable, "-c", code, str(file)], check=False)
        assert done.returncode == -signal.SIGKILL
        assert file.read_bytes() == old
        np.testing.assert_array_equal(load(file)["X"], np.eye(2))

    def test_places_where_nothing_can_be(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="missing"):
            save(tmp_path / "missing" / "run.npz", X=np.eye(2))
        (tmp_path / "folder.npz").mkdir()
        with pytest.raises(IsADirectoryError, match="folder"):
            save(tmp_path / "folder", X=np.eye(2))

    @pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links")
    def test_links_and_permissions_stay(self, file, old):
        file.chmod(0o640)
        link = file.with_name("link.npz")
        link.symlink_to(file)
        save(link, X=np.ones(3))
        assert link.is_symlink()
        np.testing.assert_array_equal(load(file)["X"], np.ones(3))
        assert file.stat().st_mode & 0o777 == 0o640


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


def test_items_have_names(file):
    with pytest.raises(TypeError, match=r"names, as in save\(file, X=X\); ndarray, int has"):
        save(file, np.eye(2), 3, X=np.eye(2))
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
        with pytest.raises(InvalidFileError, match="was not written by"):
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

    @pytest.mark.parametrize("trials", [300, pytest.param(10_000, marks=pytest.mark.slow)], ids=str)
    def test_bits_flipped_and_ends_cut_at_random(self, file, trials):
        rng = np.random.default_rng(trials)
        items = {"X": np.arange(4.0).reshape(2, 2), "space": BalancedManifold(2, 3)}
        save(file, **items, name="a", log=SOLUTIONS["one"]())
        whole, refused = file.read_bytes(), 0
        for _ in range(trials):
            changed = bytearray(whole)
            for place in rng.integers(8 * len(whole), size=rng.integers(0, 4)):
                changed[place // 8] ^= 1 << place % 8
            if rng.random() < 0.3:
                changed = changed[: rng.integers(len(whole))]
            elif rng.random() < 0.1:
                low, high = np.sort(rng.integers(len(whole), size=2))
                changed[low:high] = rng.bytes(high - low)
            refused += self.check(file, bytes(changed))
        assert 0.5 * trials < refused < trials

    @pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04" + bytes(40)])
    def test_something_else(self, file, content):
        assert self.check(file, content)

    def test_no_file(self, file):
        with pytest.raises(FileNotFoundError):
            load(file)
