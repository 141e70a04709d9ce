"""Tasks shared out: on every backend, a few points at a time, and where workers die."""

import os
import pickle
import signal
import threading

import joblib
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from dln_manifolds import DLNObservableManifold
from dln_manifolds.errors import WorkerError
from dln_manifolds.statistics import pairwise
from dln_manifolds.statistics.workers import shared_out

SPACE = DLNObservableManifold(3, 3)


def sample(count):
    return np.eye(3) + 0.1 * np.random.default_rng(count).normal(size=(count, 3, 3))


@pytest.fixture
def small_tiles(monkeypatch):
    """Make tiles of three points by three."""
    monkeypatch.setattr(pairwise, "_BLOCK", 81)


def doubled(value):
    return 2 * value


def given(member):
    return (member,)


@pytest.mark.parametrize("options", [{}, {"backend": "threading"}, {"backend": "multiprocessing"}])
def test_every_task_is_done_once(options):
    found = list(shared_out(doubled, given, range(0, 70, 7), 2, options))
    assert sorted(found) == [(k, 2 * k) for k in range(0, 70, 7)]
    assert list(shared_out(doubled, given, [], 2, options)) == []


def test_arguments_are_made_when_they_are_needed():
    made, released = [], threading.Event()

    def arguments(member):
        made.append(member)
        return (member,)

    def held(member):
        # All but the first wait, so that it does not matter how fast the threads are.
        assert member == 0 or released.wait(60)
        return member

    results = shared_out(held, arguments, range(1000), 2, {"backend": "threading"})
    try:
        next(results)
        assert len(made) < 50
    finally:
        released.set()
    assert len(list(results)) == 999


@pytest.mark.parametrize("options", [{"backend": "threading"}, {"backend": "multiprocessing"}])
def test_results_do_not_depend_on_who_solves(small_tiles, options):
    points, calls = sample(10), []
    table = SPACE.metric.dist_pairwise(points)
    told = {"progress": lambda *x: calls.append(x)}
    assert_array_equal(SPACE.metric.dist_pairwise(points, n_jobs=2, **told, **options), table)
    assert calls[-1] == (45, 45)
    assert_array_equal(SPACE.metric.dist_pairwise(points, n_jobs=None), table)
    found = SPACE.metric.closest_neighbor_index(points[:4], points[4:], n_jobs=2, **options)
    assert_array_equal(found, table[:4, 4:].argmin(axis=1))


@pytest.mark.parametrize("shape", [(1, 50), (50, 1), (7, 50), (50, 7)])
def test_few_points_and_many_neighbors_make_full_tiles(monkeypatch, shape):
    monkeypatch.setattr(pairwise, "_BLOCK", 9 * 36)
    seen, share = [], pairwise.shared_out

    def count(task, arguments, members, *others):
        seen.extend(len(arguments(k)[0].pairs()[0]) for k in members)
        return share(task, arguments, members, *others)

    monkeypatch.setattr(pairwise, "shared_out", count)
    points = sample(51)
    SPACE.metric.closest_neighbor_index(points[: shape[0]], points[-shape[1] :])
    assert sum(seen) == shape[0] * shape[1]
    assert max(seen) <= 36
    assert len(seen) <= 2 * np.ceil(sum(seen) / 36)


def test_a_task_carries_its_own_points_only(small_tiles, monkeypatch):
    sizes = []

    def weigh(task, arguments, members, *_):
        sizes.append(max(len(pickle.dumps((task, arguments(k)))) for k in members))
        yield from ()

    monkeypatch.setattr(pairwise, "shared_out", weigh)
    for count in (6, 60):
        SPACE.metric.dist_pairwise(sample(count))
    assert sizes[1] < 1.1 * sizes[0]
    # Three points of two groups: 9 numbers, their frames with 21 more, and what they are.
    assert sizes[1] < 6 * 8 * 30 + 2000


@pytest.mark.parametrize(
    ("n_jobs", "kind"), [(0, ValueError), (True, TypeError), (1.5, TypeError), ("2", TypeError)]
)
def test_wrong_numbers_of_workers(n_jobs, kind):
    points = sample(3)
    with pytest.raises(kind, match="n_jobs"):
        SPACE.metric.dist_pairwise(points, n_jobs=n_jobs)
    with pytest.raises(kind, match="n_jobs"):
        SPACE.metric.closest_neighbor_index(points, points, n_jobs=n_jobs)


def test_unknown_backends_are_refused():
    with pytest.raises(ValueError, match="Invalid backend"):
        SPACE.metric.dist_pairwise(sample(3), n_jobs=2, backend="nobody")


def dies(flag, times):
    """End the process of a worker, so often."""
    if len(os.listdir(flag)) < times:
        (flag / str(os.getpid())).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return times


@pytest.mark.slow
def test_what_a_dead_worker_had_in_hand_is_done_again(tmp_path):
    with pytest.warns(RuntimeWarning, match="A worker died") as caught:
        found = list(shared_out(dies, lambda k: (tmp_path, 2), range(5), 2, {"backend": "loky"}))
    assert sorted(found) == [(k, 2) for k in range(5)]
    assert 1 <= len([w for w in caught if w.category is RuntimeWarning]) <= 2


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_workers_that_always_die_are_an_error(tmp_path):
    with pytest.raises(WorkerError, match="5 tasks are left"):
        list(shared_out(dies, lambda k: (tmp_path, 99), range(5), 2, {"backend": "loky"}))


class KilledWorker(Exception):  # noqa: N818
    """The name that dask gives it."""


def test_what_dask_gives_up_is_an_error_of_ours():
    def dead(member):
        raise KilledWorker

    with pytest.raises(WorkerError, match=r"3 tasks are left.*want of memory") as caught:
        list(shared_out(dead, given, range(3), 1, {}))
    assert isinstance(caught.value.__cause__, KilledWorker)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_errors_of_tasks_pass():
    with pytest.raises(TypeError):
        list(shared_out(doubled, lambda k: (k, k), range(3), 1, {}))


@pytest.fixture(scope="module")
def cluster():
    """Two processes on this machine."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    from distributed import Client

    with Client(cluster) as client:
        client.wait_for_workers(2)  # joblib does what a single one could do by itself
        yield client


class TestDask:
    def test_results_are_those_of_one_process_and_outlive_a_worker(self, client, small_tiles):
        points, killed = sample(18), []

        def kill(done, total):
            if done > total / 3 and not killed:
                killed.append(next(iter(client.run(os.getpid).values())))
                os.kill(killed[0], signal.SIGKILL)

        table = SPACE.metric.dist_pairwise(points)
        found = SPACE.metric.dist_pairwise(points, backend="dask", progress=kill)
        assert killed
        assert_array_equal(found, table)
        with joblib.parallel_config(backend="dask"):
            assert_array_equal(SPACE.metric.dist_pairwise(points), table)

    @pytest.mark.slow
    def test_a_task_that_ends_its_workers_is_an_error(self, client, tmp_path):
        client.cluster.scheduler.allowed_failures = 0
        with pytest.raises(WorkerError, match="tasks are left") as caught:
            list(shared_out(dies, lambda k: (tmp_path, 99), range(3), 2, {"backend": "dask"}))
        assert type(caught.value.__cause__).__name__ == "KilledWorker"

    def test_without_a_client_the_remedy_is_said(self):
        pytest.importorskip("distributed")
        with pytest.raises(ValueError, match="first create a Dask Client"):
            SPACE.metric.dist_pairwise(sample(3), backend="dask")


def test_ray():
    joblib_of_ray = pytest.importorskip("ray.util.joblib")
    joblib_of_ray.register_ray()
    points = sample(12)
    table = SPACE.metric.dist_pairwise(points, n_jobs=2, backend="ray")
    assert_array_equal(table, SPACE.metric.dist_pairwise(points))


def test_arguments_that_nobody_has_are_refused():
    with pytest.raises(TypeError, match="'njobs'"):
        SPACE.metric.dist_pairwise(sample(3), njobs=2)
