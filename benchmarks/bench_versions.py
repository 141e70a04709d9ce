"""Two checkouts of this package against each other: what a change costs or saves.

    python benchmarks/bench_versions.py OLD NEW [--rows log,exp] [--full]

OLD and NEW are folders that hold a `dln_manifolds`, for instance made by `git worktree add`. Each
is imported by a process of its own, and the two are fed the same calls in turns, old new old new
... The ratio is the median of new / old over the turns. Rows above 1.05 are measured once more, by
new processes in the other order, and are flagged only if all turns together still say so: two
processes with the same code differ by a few percent. Beside the times stands the accuracy that each
reached, and how far the results are apart.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import _timing as timing  # before numpy: pins the threads
import numpy as np
from _timing import Array, Call

BAR = 1.05
# Seconds of one turn at least, of one row about, and turns: many where they are cheap.
TURN, ROW, MOST, FEWEST = 0.02, 3.0, 25, 5
# Members of a batch, so that it takes about a second.
MEMBERS = {3: 100, 10: 10, 30: 3}
MATRIX_SIZES, MATRIX_DEPTHS = (3, 10, 30), (2, 4, 30)
LAYER_SIZES, LAYER_DEPTHS = (3, 10), (2, 4, 8)
HEADER = ("row", "old [ms]", "new [ms]", "new / old (range)", "turns", "accuracy old, new", "apart")


@dataclass
class Job:
    """A call to be timed, and how accurate its result is."""

    call: Call
    accuracy: Callable[[Any], float]


# ---------------------------------------------------------------- what is measured
def tempered(rng: np.random.Generator, n_points: int, n: int) -> Array:
    """Matrices whose singular values lie between 1 / e and e, of positive determinant."""
    left, right = np.linalg.qr(rng.normal(size=(2, n_points, n, n)))[0]
    values = np.exp(rng.uniform(-1, 1, size=(n_points, 1, n)))
    points = (left * values) @ np.swapaxes(right, -1, -2)
    points[np.linalg.det(points) < 0, 0] *= -1
    return points


def nearby_layers(rng: np.random.Generator, layers: Array, angle: float) -> Array:
    """Balanced layers of the same component, all frames turned and all values changed a bit."""
    n = layers.shape[-1]
    values = np.linalg.svd(layers[0], compute_uv=False) * np.exp(angle * rng.normal(size=n))
    frames = [np.linalg.svd(layers[0])[2].T]
    for layer in layers:
        left, _, right_t = np.linalg.svd(layer)
        frames.append(left @ right_t @ frames[-1])
    skew = angle * rng.normal(size=(len(frames), n, n))
    skew = skew - np.swapaxes(skew, -1, -2)
    turned = frames @ np.linalg.solve(np.eye(n) + skew / 2, np.eye(n) - skew / 2)
    return np.array([(b * values) @ a.T for a, b in itertools.pairwise(turned)])


def length_of(points: Array, depth: int) -> Array:
    """Frobenius norm of balanced layers over matrices."""
    roots = np.linalg.svd(points, compute_uv=False) ** (1 / depth)
    return np.sqrt(depth * np.sum(roots**2, axis=-1))


def draw(up: bool, n: int, depth: int, count: int) -> tuple[Any, Any, Array, Array, Array]:
    """Return a space, a metric that raises nothing, points, vectors there, and end points."""
    import dln_manifolds as dln

    rng = np.random.default_rng([up, n, depth])
    if up:
        space = dln.BalancedManifold(n, depth)
        metric = dln.BalancedMetric(space, on_failure="nan")
        matrices = tempered(rng, count, n)
        points = np.array([timing.balanced_layers(rng, x, depth) for x in matrices])
        ends = np.array([nearby_layers(rng, layers, 0.4 / np.sqrt(n)) for layers in points])
        vectors = space.to_tangent(rng.normal(size=points.shape), points)
        size = np.sqrt(np.sum(points**2, axis=(-3, -2, -1)))
    else:
        space = dln.DLNObservableManifold(n, depth)
        metric = dln.DLNObservableMetric(space, on_failure="nan")
        points = tempered(rng, count, n)
        ends = points + 0.3 * rng.normal(size=points.shape) / np.sqrt(n)
        vectors = rng.normal(size=points.shape)
        size = length_of(points, depth)
    length = np.asarray(metric.norm(vectors, points))
    vectors = vectors * (0.3 * size / length).reshape(-1, *(1,) * (points.ndim - 1))
    return space, metric, points, vectors, ends


def missed(metric: Any, velocity: Array, start: Array, end: Array) -> float:
    """Largest relative distance from the target of where velocities lead; of the solved ones."""
    solved = np.isfinite(velocity).all(axis=tuple(range(1, velocity.ndim)))
    reached = metric.solve_exp(velocity[solved], start[solved]).end_point
    axes = tuple(range(1, end.ndim))
    gap = np.sum((reached - end[solved]) ** 2, axis=axes) / np.sum(end[solved] ** 2, axis=axes)
    return float(np.sqrt(np.nanmax(gap, initial=0.0)))


def log_job(up: bool, n: int, depth: int, count: int, **_: Any) -> Job:
    """The log of one pair, or of a batch of them."""
    _, metric, start, _, end = draw(up, n, depth, max(count, 1))
    if not up and n <= 10:  # larger Gaussian pairs take seconds
        start, end = timing.gaussian_pairs(np.random.default_rng([n, depth]), len(start), n)
    if count:
        return Job(lambda: metric.log(end, start), lambda v: missed(metric, v, start, end))
    call = partial(metric.log, end[0], start[0])
    return Job(call, lambda v: missed(metric, v[None], start[:1], end[:1]))


def exp_job(up: bool, n: int, depth: int, count: int, **_: Any) -> Job:
    """The exp of one vector, or of a batch of them: the accuracy is the drift of the energy."""
    _, metric, start, vectors, _ = draw(up, n, depth, max(count, 1))
    x, v = (start, vectors) if count else (start[0], vectors[0])

    def drift(_: Any) -> float:
        residual = metric.solve_exp(v, x).residual
        return float(np.max(residual[np.isfinite(residual)], initial=0.0))

    return Job(lambda: metric.exp(v, x), drift)


def dist_derivative(up: bool, n: int, depth: int, **_: Any) -> Job:
    """The gradient of dist by its first point, by autograd; exact is -1 along the unit log."""
    import autograd

    _, metric, start, _, end = draw(up, n, depth, 1)
    call = partial(autograd.grad(lambda x: metric.dist(x, end[0])), start[0])

    def error(gradient: Array) -> float:
        unit = metric.log(end[0], start[0]) / metric.dist(start[0], end[0])
        return float(abs(np.sum(gradient * unit) + 1))

    return Job(call, error)


def log_derivative(up: bool, n: int, depth: int, **_: Any) -> Job:
    """The gradient of a linear function of the log, by both points; checked for matrices."""
    import autograd

    _, metric, start, _, end = draw(up, n, depth, 1)
    weights = np.random.default_rng(1).normal(size=start[0].shape)

    def value(pair: Array) -> Any:
        return (weights * metric.log(pair[1], pair[0])).sum()

    pair = np.stack([start[0], end[0]])
    step = 1e-5 * np.random.default_rng(2).normal(size=pair.shape)
    if up:
        return Job(partial(autograd.grad(value), pair), lambda _: np.nan)

    def error(gradient: Array) -> float:
        """Against a central difference, whose own error is about 1e-9."""
        difference = (value(pair + step) - value(pair - step)) / 2
        return float(abs(np.sum(gradient * step) - difference) / np.linalg.norm(gradient) / 1e-5)

    return Job(partial(autograd.grad(value), pair), error)


def retraction_job(up: bool, n: int, depth: int, **_: Any) -> Job:
    """Retractions at 20 points, each decomposed anew; the accuracy is by the third power."""
    space, metric, start, vectors, _ = draw(up, n, depth, 20)

    def error(_: Any) -> float:
        """Distance from exp of a step of a hundredth, which is a term of third order."""
        near = space.retraction(start[0], 0.01 * vectors[0])
        return float(np.linalg.norm(near - metric.exp(0.01 * vectors[0], start[0])))

    pairs = list(zip(start, vectors, strict=True))
    return Job(lambda: np.stack([space.retraction(x, v) for x, v in pairs]), error)


def hessian_job(up: bool, n: int, depth: int, **_: Any) -> Job:
    """Twenty Hessian products at one point, as a trust region takes them; accuracy: symmetry."""
    space, metric, start, _, _ = draw(up, n, depth, 1)
    x = start[0]
    rng = np.random.default_rng(3)
    many = np.stack([np.asarray(space.to_tangent(rng.normal(size=x.shape), x)) for _ in range(20)])
    target = rng.normal(size=(n, n))
    if up:
        from dln_manifolds import costs, pymanopt_problem

        loss = costs.OfLayers(costs.MatrixCompletion(target, rng.uniform(size=(n, n)) < 0.7))
        product = partial(pymanopt_problem(space, loss).riemannian_hessian, x)
    else:

        def product(v: Array) -> Array:
            return space.euclidean_to_riemannian_hessian(x, x - target, v, v)

    def asymmetry(products: Array) -> float:
        one, other = (
            float(metric.inner_product(products[a], many[b], x)) for a, b in ((0, 1), (1, 0))
        )
        return abs(one - other) / max(abs(one), abs(other), 1e-300)

    return Job(lambda: np.stack([product(v) for v in many]), asymmetry)


def gradient_job(up: bool, n: int, depth: int, **_: Any) -> Job:
    """Cost and Riemannian gradient at 20 new points, as a line search asks for them."""
    from dln_manifolds import costs, pymanopt_problem

    space, _, start, _, _ = draw(up, n, depth, 20)
    rng = np.random.default_rng(3)
    loss: Any = costs.MatrixCompletion(rng.normal(size=(n, n)), rng.uniform(size=(n, n)) < 0.7)
    problem = pymanopt_problem(space, costs.OfLayers(loss) if up else loss)

    def call() -> Array:
        return np.stack([problem.cost(x) * problem.riemannian_gradient(x) for x in start])

    return Job(call, lambda _: np.nan)


def pointwise_job(up: bool, n: int, depth: int, count: int, what: str, **_: Any) -> Job:
    """A function of points alone, or of points and vectors."""
    space, metric, start, vectors, _ = draw(up, n, depth, max(count, 1))
    x, v = (start, vectors) if count else (start[0], vectors[0])
    calls: dict[str, Call] = {
        "inner": lambda: metric.inner_product(v, v, x),
        "entropy": lambda: space.entropy(x),
        "tangent": lambda: space.to_tangent(v, x),
        "belongs": lambda: space.belongs(x),
    }

    def error(result: Any) -> float:
        if what == "inner":
            asked = 0.3 * length_of(_end(up, x), depth)
            return float(np.max(np.abs(np.sqrt(result) / asked - 1)))
        if what == "tangent":
            return float(np.max(np.abs(result - v)) / np.max(np.abs(v)))
        return np.nan

    return Job(calls[what], error)


def _end(up: bool, points: Array) -> Array:
    """End-to-end matrices of layers, without the package."""
    if not up:
        return points
    product = points[..., 0, :, :]
    for p in range(1, points.shape[-3]):
        product = points[..., p, :, :] @ product
    return product


def transport_job(up: bool, n: int, depth: int, **_: Any) -> Job:
    """Parallel transport along one geodesic; accuracy: lengths are kept."""
    _, metric, start, vectors, _ = draw(up, n, depth, 1)
    call = partial(metric.parallel_transport, 0.1 * vectors[0], start[0], direction=vectors[0])

    def error(result: Array) -> float:
        end = metric.exp(vectors[0], start[0])
        before = metric.norm(0.1 * vectors[0], start[0])
        return float(abs(metric.norm(result, end) / before - 1))

    return Job(call, error)


def pairwise_job(up: bool, n: int, depth: int, **_: Any) -> Job:
    """All distances of six points; accuracy: symmetry is exact, so none."""
    _, metric, _, _, end = draw(up, n, depth, 6)
    return Job(lambda: metric.dist_pairwise(end), lambda _: np.nan)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    family: str
    make: Callable[..., Job]
    up: bool
    n: int
    depth: int
    count: int = 0
    what: str = ""

    @property
    def name(self) -> str:
        """What the table calls it."""
        words = [self.family, self.what, "layers" if self.up else "matrices"]
        words += [f"n={self.n}", f"N={self.depth}", f"x{self.count}" if self.count else ""]
        return " ".join(word for word in words if word)

    def job(self) -> Job:
        """Make its inputs, by this process's version of the package."""
        return self.make(up=self.up, n=self.n, depth=self.depth, count=self.count, what=self.what)


def rows(full: bool) -> Iterator[Row]:
    """All rows; with full, 100 members in every batch."""
    for family, make in (("log", log_job), ("exp", exp_job)):
        for up, sizes, depths in (
            (False, MATRIX_SIZES, MATRIX_DEPTHS),
            (True, LAYER_SIZES, LAYER_DEPTHS),
        ):
            for n in sizes:
                for depth in depths:
                    yield Row(family, make, up, n, depth)
                    count = 100 if full else MEMBERS[n]
                    yield Row(family, make, up, n, depth, count)
    cases = [(False, 3, 2), (False, 3, 4), (False, 10, 4), (True, 3, 4), (True, 10, 4)]
    for family, make in (
        ("dist derivative", dist_derivative),
        ("log derivative", log_derivative),
        ("retraction", retraction_job),
        ("Hessian", hessian_job),
        ("gradient", gradient_job),
        ("transport", transport_job),
        ("pairwise", pairwise_job),
    ):
        slow = family in ("log derivative", "pairwise")
        yield from (Row(family, make, *case) for case in cases if not (slow and case[1] > 3))
    for what in ("inner", "entropy", "tangent", "belongs"):
        for up, n, depth in (*cases, (False, 30, 4)):
            for count in (0, 1000):
                yield Row("pointwise", pointwise_job, up, n, depth, count, what)


# ---------------------------------------------------------------- a process for each checkout
def begin(row: Row) -> tuple[Job, dict[str, Any]]:
    """Make a row, call it once, and say how accurate that was."""
    job = row.job()
    result = job.call()
    accuracy = job.accuracy(result)
    sample = np.asarray(result, dtype=float).ravel()[:2000].tolist()
    return job, {"seconds": timing.seconds(job.call), "accuracy": accuracy, "sample": sample}


def work() -> None:
    """Answer requests on the standard input: one line of JSON each way."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what else is printed is no answer
    import dln_manifolds

    every = {row.name: row for full in (False, True) for row in rows(full)}
    print(json.dumps(str(Path(dln_manifolds.__file__).parents[1])), file=answers, flush=True)
    job: Job | None = None
    for line in sys.stdin:
        request = json.loads(line)
        if "row" in request:
            try:
                job, answer = begin(every[request["row"]])
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
        else:
            assert job is not None
            answer = {"seconds": timing.seconds(job.call, request["loops"])}
        print(json.dumps(answer), file=answers, flush=True)


class Worker:
    """A process that runs one checkout."""

    def __init__(self, checkout: Path) -> None:
        environment = os.environ | {"PYTHONPATH": str(checkout)}
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), "--worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=checkout,
            env=environment,
            text=True,
        )
        found = Path(self._answer())
        if found != checkout:
            raise RuntimeError(f"{checkout} holds no dln_manifolds: {found} was imported.")

    def _answer(self) -> Any:
        line = self.process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            raise RuntimeError("A process has ended; its error stands above.")
        return json.loads(line)

    def ask(self, **request: Any) -> Any:
        """Send a request and wait for the answer."""
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


@dataclass
class Measured:
    """Turns of one row, in seconds, and what each side answered."""

    pairs: list[tuple[float, float]]
    answers: tuple[Any, Any]

    @property
    def ratio(self) -> float:
        """Median of new / old."""
        return float(np.median([new / old for old, new in self.pairs]))

    @property
    def apart(self) -> float:
        """Largest difference of the results, relative to the largest entry."""
        old, new = (np.array(answer["sample"]) for answer in self.answers)
        if old.shape != new.shape:
            return np.inf
        size = np.nanmax(np.abs(old), initial=0.0)
        same = (old == new) | (np.isnan(old) & np.isnan(new))
        return float(np.max(np.abs(np.where(same, 0.0, old - new)), initial=0.0) / (size or 1.0))

    def cells(self, name: str) -> list[str]:
        """The line of the table."""
        old, new = np.median(self.pairs, axis=0)
        ratios = [b / a for a, b in self.pairs]
        accuracy = ", ".join(f"{answer['accuracy']:.0e}" for answer in self.answers)
        flag = " SLOWER" if self.ratio > BAR else ""
        return [
            name,
            timing.number(1e3 * old),
            timing.number(1e3 * new),
            f"{self.ratio:.3f} ({min(ratios):.2f} to {max(ratios):.2f}){flag}",
            str(len(ratios)),
            "" if "nan" in accuracy else accuracy,
            f"{self.apart:.0e}",
        ]


def measure(workers: tuple[Worker, Worker], row: Row, budget: float) -> Measured:
    """Time one row in turns, old new old new ..."""
    answers = tuple(worker.ask(row=row.name) for worker in workers)
    for side, answer in zip(("old", "new"), answers, strict=True):
        if "error" in answer:
            raise RuntimeError(f"{row.name}, {side}: {answer['error']}")
    each = max(answer["seconds"] for answer in answers)
    loops = max(1, int(np.ceil(TURN / max(each, 1e-7))))
    turns = int(np.clip(budget / (2 * loops * each), FEWEST, MOST))
    pairs = []
    for _ in range(turns):
        old, new = (worker.ask(loops=loops)["seconds"] for worker in workers)
        pairs.append((old, new))
    return Measured(pairs, (answers[0], answers[1]))


def again(checkouts: tuple[Path, Path], row: Row, first: Measured, budget: float) -> Measured:
    """Measure a row by new processes, the new code first, and join all turns."""
    new, old = Worker(checkouts[1]), Worker(checkouts[0])
    swapped = measure((new, old), row, budget)
    new.close()
    old.close()
    return Measured(first.pairs + [(b, a) for a, b in swapped.pairs], first.answers)


def main() -> None:
    if sys.argv[1:] == ["--worker"]:
        work()
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("old", type=Path, help="checkout to compare with")
    parser.add_argument("new", type=Path, help="checkout that must not be slower")
    parser.add_argument("--rows", default="", help="parts of their names: log,exp matrices n=3")
    parser.add_argument("--full", action="store_true", help="100 members in every batch: an hour")
    options = timing.arguments(__doc__, parser)
    checkouts = (options.old.resolve(), options.new.resolve())
    wanted = [part.strip() for part in options.rows.split(",") if part.strip()]
    chosen = [
        row
        for row in rows(options.full)
        if not wanted or any(f" {part} " in f" {row.name} " for part in wanted)
    ]
    budget = ROW / 4 if options.quick else ROW
    start = time.monotonic()
    workers = (Worker(checkouts[0]), Worker(checkouts[1]))
    table, ratios = [], []
    for row in chosen:
        measured = measure(workers, row, budget)
        if measured.ratio > BAR:
            measured = again(checkouts, row, measured, budget)
        table.append(measured.cells(row.name))
        ratios.append(measured.ratio)
        print(*table[-1], sep="  ", file=sys.stderr, flush=True)
    for worker in workers:
        worker.close()
    timing.print_table(f"{checkouts[1]} against {checkouts[0]}", HEADER, table)
    slower = sum(ratio > BAR for ratio in ratios)
    print(
        f"{slower} of {len(ratios)} rows above {BAR:g}; the median of all ratios is "
        f"{np.median(ratios):.3f}. {time.monotonic() - start:.0f} s."
    )
    sys.exit(slower > 0)


if __name__ == "__main__":
    main()
