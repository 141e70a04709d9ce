"""Progress of long work: told to whoever asks for it, to nobody by default."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

__all__ = ["Progress", "told"]

#: False for silence, True for a bar, or a function of (done, total); no total if it is not known.
Progress = bool | Callable[[int, int | None], object]
Advance = Callable[[int], None]

# Seconds between two lines where there is no bar.
_PAUSE = 1.0


def told(
    progress: Progress, total: int | None, what: str = "steps"
) -> AbstractContextManager[Advance]:
    """Return a context whose value is a function, to be called with the number just done.

    With ``progress=True`` a bar of tqdm on standard error, or lines where tqdm is not installed. A
    function is called as ``progress(done, total)`` in the process of the caller, first with 0; what
    it raises ends the work. Raises `TypeError` for anything else::

        with told(progress, n_steps, "steps") as advance:
            for step in range(n_steps):
                ...
                advance(1)
    """
    if callable(progress):
        return _counted(progress, total)
    if not isinstance(progress, bool):
        raise TypeError(
            f"progress must be False, True or a function of (done, total), not {progress!r}."
        )
    return _shown(total, what) if progress else _silent()


@contextmanager
def _silent() -> Iterator[Advance]:
    yield lambda count: None


@contextmanager
def _counted(report: Callable[[int, int | None], object], total: int | None) -> Iterator[Advance]:
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        report(done, total)

    advance(0)
    yield advance


@contextmanager
def _shown(total: int | None, what: str) -> Iterator[Advance]:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        with _counted(_Lines(what), total) as advance:
            yield advance
        return
    with tqdm(total=total, desc=what) as bar:
        yield bar.update


class _Lines:
    """Lines on standard error: seldom, and one for the end."""

    def __init__(self, what: str) -> None:
        self._what, self._start = what, time.monotonic()
        self._last = self._start

    def __call__(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        if now - self._last < _PAUSE and (done != total or not done):
            return
        self._last = now
        of = "" if total is None else f" of {total}"
        print(f"{done}{of} {self._what}, {now - self._start:.0f} s", file=sys.stderr, flush=True)
