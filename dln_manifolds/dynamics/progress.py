"""Steps that are counted, and told to whoever wants to know."""

from collections.abc import Callable, Iterator

# True for a bar of tqdm, or a function of the number of steps done and of all.
Progress = bool | Callable[[int, int], object] | None


def counted(n_steps: int, progress: Progress) -> Iterator[int]:
    """Yield 1, ..., n_steps, and report each when it is done."""
    if callable(progress):
        for number in range(1, n_steps + 1):
            yield number
            progress(number, n_steps)
        return
    steps = range(1, n_steps + 1)
    if not progress:
        yield from steps
        return
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError(
            "progress=True draws a bar by tqdm, which is missing: pip install "
            "'dln-manifolds[progress]'. A function of the steps done and of all does without."
        ) from error
    yield from tqdm(steps)
