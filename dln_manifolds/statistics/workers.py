"""Tasks shared out by joblib: on each of its backends, and once more where a worker has died."""

import inspect
import itertools
import numbers
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import nullcontext
from functools import partial
from typing import Any, TypeVar

import joblib
from joblib.parallel import get_active_backend

from dln_manifolds.errors import WorkerError

R = TypeVar("R")
Arguments = tuple[object, ...]

# How often a pool of processes is made anew after one of them has died.
_MOST_LOSSES = 3
# What dask and ray raise, known by name as they may not be there. Dask has tried again by then.
_DEAD = {"KilledWorker", "RayActorError", "WorkerCrashedError"}
# Tasks of a worker in one round, on backends that give all results of a round at once.
_ROUND = 8


def check_workers(n_jobs: object) -> None:
    """Raise `TypeError` or `ValueError` for what is no number of workers."""
    if n_jobs is None:
        return
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, numbers.Integral):
        raise TypeError(f"n_jobs must be an integer or None, not {n_jobs!r}.")
    if n_jobs == 0:
        raise ValueError("n_jobs is 0; give the number of workers, or -1 for all processors.")


def check_options(options: Mapping[str, object]) -> None:
    """Raise `TypeError` for what ``joblib.Parallel`` would hand to a backend that is not named."""
    unknown = options.keys() - inspect.signature(joblib.Parallel).parameters.keys()
    if unknown and "backend" not in options:
        raise TypeError(
            f"Neither this method nor joblib.Parallel has an argument {sorted(unknown)[0]!r}. "
            f"Arguments of a backend need its name, backend=..., beside them."
        )


def shared_out(
    task: Callable[..., R],
    arguments: Callable[[int], Arguments],
    members: Sequence[int],
    n_jobs: int | None,
    options: Mapping[str, object],
) -> Generator[tuple[int, R]]:
    """Yield members and what the task makes of their arguments, in the order of completion.

    The arguments are made when a worker is about to need them; ``options`` are those of
    ``joblib.Parallel``. What the workers of a pool had in hand when one of them died is given out
    again, with a warning. Raises `WorkerError` if that happens too often.
    """
    check_workers(n_jobs)
    pending = dict.fromkeys(members)
    for losses in range(_MOST_LOSSES + 1):
        try:
            for member, result in _results(task, arguments, list(pending), n_jobs, options):
                del pending[member]
                yield member, result
            return
        except BrokenExecutor as error:
            if losses == _MOST_LOSSES:
                raise _lost(len(pending), f"Pools of processes broke {losses + 1} times") from error
            warnings.warn(
                "A worker died; what the workers had in hand is given out again.",
                RuntimeWarning,
                stacklevel=5,  # of who has called the method
            )
        except Exception as error:
            if _DEAD.isdisjoint(kind.__name__ for kind in type(error).__mro__):
                raise
            raise _lost(len(pending), "Workers died, and others with the same task") from error


def _lost(n_tasks: int, what: str) -> WorkerError:
    return WorkerError(
        f"{what}; {n_tasks} tasks are left. Workers are most often ended for want of memory: take "
        f"fewer of them, or less at a time. What is solved is kept where results go to a file "
        f"(out=...), and the same call goes on from there."
    )


def _results(
    task: Callable[..., R],
    arguments: Callable[[int], Arguments],
    members: Sequence[int],
    n_jobs: int | None,
    options: Mapping[str, object],
) -> Iterator[tuple[int, R]]:
    """Yield members and results of one set of workers."""
    given = {"pre_dispatch": "4 * n_jobs", **options}  # so that no worker waits for the next
    # By its name joblib.Parallel finds no backend that it has to import first: dask is one.
    name = given.pop("backend") if isinstance(given.get("backend"), str) else None
    size = max(1, len(members))
    with joblib.parallel_config(backend=name) if name else nullcontext():
        client = getattr(given.get("backend", get_active_backend()[0]), "client", None)
        try:
            parallel = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered", **given)
        except ValueError:  # processes of multiprocessing, and those of ray
            parallel = joblib.Parallel(n_jobs=n_jobs, **given)
            size = _ROUND * joblib.effective_n_jobs(n_jobs)

    def call(member: int) -> tuple[Callable[..., tuple[int, R]], Arguments]:
        return _numbered, (member, task, arguments(member))

    if client is not None:
        yield from _of_dask(client, call, members)
        return
    for low in range(0, len(members), size):
        calls = map(call, members[low : low + size])
        yield from parallel((function, given, {}) for function, given in calls)


def _of_dask(
    client: Any, call: Callable[[int], tuple[Callable[..., R], Arguments]], members: Sequence[int]
) -> Iterator[R]:
    """Yield the results of the workers of dask.

    By its own client: joblib would wait without end for what dask has given up.
    """
    from distributed import as_completed

    waiting = iter(members)
    running = as_completed(with_results=True, raise_errors=False)
    futures = set()

    def send(count: int) -> None:
        for member in itertools.islice(waiting, count):
            function, given = call(member)
            future = client.submit(partial(function, *given), pure=False)
            futures.add(future)
            running.add(future)

    try:
        send(_ROUND * max(1, sum(client.ncores().values())))
        for future, result in running:
            futures.remove(future)
            if future.status != "finished":
                raise result[1] if isinstance(result, tuple) else result
            send(1)
            yield result
    finally:
        client.cancel(list(futures))


def _numbered(member: int, task: Callable[..., R], arguments: Arguments) -> tuple[int, R]:
    """Do one task; of module level, so that a worker can import it."""
    return member, task(*arguments)
