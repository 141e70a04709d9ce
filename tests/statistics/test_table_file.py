"""Distances into files and arrays: the same bits, taken up again, never of other points."""

import resource
import signal
import subprocess
import sys

import autograd
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from dln_manifolds import DLNObservableManifold
from dln_manifolds.errors import DiskFullError, IncompleteGeodesicError, InvalidFileError
from dln_manifolds.statistics import pairwise

SPACE = DLNObservableManifold(2, 3)
POINTS = np.eye(2) + 0.1 * np.random.default_rng(0).normal(size=(6, 2, 2))


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Make tiles of two points by two."""
    monkeypatch.setattr(pairwise, "_BLOCK", 16)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "table.npy"


def dist(points=POINTS, space=SPACE, **options):
    return space.metric.dist_pairwise(points, **options)


def stop_after(count, error=KeyboardInterrupt):
    def told(done, total):
        if done >= count:
            raise error

    return told


class Calls(list):
    """What is told of progress."""

    def __call__(self, *numbers):
        self.append(numbers)


def test_a_file_holds_the_table(path, tmp_path):
    expected = dist()
    found = dist(out=path)
    assert isinstance(found, np.memmap)
    assert not found.flags.writeable
    assert_array_equal(found, expected)
    assert_array_equal(np.load(path), expected)
    assert_array_equal(dist(out=str(tmp_path / "named")), expected)
    names = {"table.npy", "table.npy.digest", "named.npy", "named.npy.digest"}
    assert {file.name for file in tmp_path.iterdir()} == names


def test_an_interrupted_run_goes_on(path):
    with pytest.raises(KeyboardInterrupt):
        dist(out=path, progress=stop_after(8))
    table = np.load(path)
    assert_array_equal(table, table.T)
    solved = int(np.isfinite(np.triu(table, 1)[np.triu_indices(6, 1)]).sum())
    assert 8 <= solved < 15
    assert np.isneginf(table).sum() == 2 * (15 - solved)
    calls = Calls()
    assert_array_equal(dist(out=path, progress=calls), dist())
    assert calls[:2] == [(0, 15), (solved, 15)]
    assert calls[-1] == (15, 15)
    again = Calls()
    dist(out=path, progress=again)
    assert again == [(0, 15), (15, 15)]


@pytest.mark.slow
def test_a_killed_run_goes_on(path):
    code = """
import os, signal, sys
import numpy as np
from dln_manifolds import DLNObservableManifold
from dln_manifolds.statistics import pairwise
pairwise._BLOCK = 16
def told(done, total):
    if done >= 8:
        os.kill(os.getpid(), signal.SIGKILL)
points = np.load(sys.argv[1])
DLNObservableManifold(2, 3).metric.dist_pairwise(points, out=sys.argv[2], progress=told)
"""
    np.save(path.with_name("points.npy"), POINTS)
    command = [sys.executable, "-W", "ignore", "-c", code, path.with_name("points.npy"), path]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    calls = Calls()
    assert_array_equal(dist(out=path, progress=calls), dist())
    assert 8 <= calls[1][0] < 15


def test_half_written_tiles_are_solved_again(path):
    expected = dist(out=path)
    table = np.load(path, mmap_mode="r+")
    table[0, 3] = table[5, 2] = -np.inf
    table.flush()
    calls = Calls()
    assert_array_equal(dist(out=path, progress=calls), expected)
    assert calls[1] == (7, 15)


@pytest.mark.parametrize(
    "other",
    [
        {"points": POINTS[::-1]},
        {"points": POINTS[:5]},
        {"points": POINTS.astype(np.float32)},
        {"space": DLNObservableManifold(2, 4)},
        {"completed": True},
    ],
)
def test_a_file_of_something_else_is_refused(path, other):
    dist(out=path)
    before = path.read_bytes()
    with pytest.raises(InvalidFileError, match="other points, or in another metric"):
        dist(out=path, **other)
    assert path.read_bytes() == before


def test_another_tolerance_is_another_table(path):
    dist(out=path)
    space = SPACE.new(equip=False)
    space.equip_with_metric(SPACE.default_metric(), tolerance=1e-8)
    with pytest.raises(InvalidFileError, match="another metric"):
        dist(out=path, space=space)


@pytest.mark.parametrize("damage", ["cut", "no table", "archive", "no digest"])
def test_damaged_files_are_refused(path, damage):
    dist(out=path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-8])
    elif damage == "no table":
        path.write_bytes(b"no table")
    elif damage == "archive":
        np.savez(path.with_suffix(".npz"), table=np.eye(6))
        path.with_suffix(".npz").replace(path)
    else:
        path.with_name("table.npy.digest").unlink()
    with pytest.raises(InvalidFileError, match=r"[Rr]emove it"):
        dist(out=path)


def test_a_full_disk_is_an_error_and_leaves_nothing(path):
    points = np.tile(POINTS, (30, 1, 1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(DiskFullError, match=r"180 x 180 .* take 0 MiB. Give a path"):
            dist(points, out=path, progress=stop_after(0, AssertionError))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(path.parent.iterdir()) == []


def test_no_folder_is_an_error_of_the_system(path):
    with pytest.raises(FileNotFoundError):
        dist(out=path.parent / "none" / "table.npy")


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_arrays_are_filled_from_the_start(dtype):
    array = np.full((6, 6), 7.0, dtype)
    assert dist(out=array) is array
    assert_array_equal(array, dist().astype(dtype))


def test_wrong_destinations():
    fixed = np.zeros((6, 6))
    fixed.flags.writeable = False
    for array in (np.zeros((6, 5)), np.zeros((6, 6), int), fixed):
        with pytest.raises(ValueError, match=r"writeable one of shape \(6, 6\)"):
            dist(out=array)
    with pytest.raises(TypeError, match="out must be a path or an array, not 3"):
        dist(out=3)


def test_single_precision_takes_half(path):
    points = POINTS.astype(np.float32)
    found = dist(points, out=path)
    assert found.dtype == np.float32
    assert_array_equal(found, dist(points))


@pytest.mark.parametrize("count", [0, 1])
def test_few_points(path, count):
    assert_array_equal(dist(POINTS[:count], out=path), np.zeros((count, count)))
    assert_array_equal(dist(POINTS[:count], out=path), np.zeros((count, count)))


def test_the_view_of_vectors_has_files_too(path):
    view = SPACE.flattened()
    assert_array_equal(dist(view.flatten(POINTS), view, out=path), dist())
    assert_array_equal(dist(out=path), dist())


def test_across_det_zero(path):
    points = POINTS.copy()
    points[:2, 0] *= -1
    with pytest.raises(KeyboardInterrupt):
        dist(points, completed=True, out=path, progress=stop_after(4))
    assert np.isneginf(np.load(path)).any()
    expected = dist(points, completed=True)
    assert_array_equal(dist(points, completed=True, out=path), expected)


def test_what_was_not_found_is_not_sought_again(path):
    """At N = 1 some straight lines meet det = 0."""
    space = DLNObservableManifold(2, 1)
    points = np.stack([np.diag([x, np.sign(x)]) for x in (1.0, 2.0, 4.0, -1.0, -3.0, -5.0)])
    kind = type(space.metric)
    table = kind(space, on_failure="nan").dist_pairwise(points, out=path)
    assert np.isnan(table).sum() == 18
    calls = Calls()
    again = kind(space, on_failure="nan").dist_pairwise(points, out=path, progress=calls)
    assert_array_equal(again, table)
    assert calls == [(0, 15), (15, 15)]
    with pytest.raises(IncompleteGeodesicError):
        kind(space, on_failure="raise").dist_pairwise(points, out=path)
    assert_array_equal(np.load(path), table)


def test_files_have_no_derivative(path):
    with pytest.raises(NotImplementedError, match="out= have no derivative"):
        autograd.grad(lambda x: dist(x, out=path)[0, 1])(POINTS)
