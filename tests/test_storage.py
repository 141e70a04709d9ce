"""What is saved comes back bit by bit, and a file can run nothing."""

import dataclasses
import io
import json
import pickle

import numpy as np
import pytest

from dln_manifolds import BalancedManifold, DLNObservableManifold, DLNQuotientMetric
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
        if not part.name.startswith("_"):
            value, other = getattr(solution, part.name), getattr(back, part.name)
            assert type(other) is type(value)
            np.testing.assert_array_equal(other, value)
    times = np.array([-0.01, 0, 0.03, 0.5, 1])
    for first, second in zip(solution.evaluate(times), back.evaluate(times), strict=True):
        np.testing.assert_array_equal(first, second)


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
        with pytest.raises(ValueError, match=r"pickle|allow_pickle"):
            load(file)

    def test_other_archive(self, file):
        np.savez(file, X=np.eye(2))
        with pytest.raises(ValueError, match="not written by"):
            load(file)

    def test_plain_array(self, file):
        stream = io.BytesIO()
        np.save(stream, np.eye(2))
        file.write_bytes(stream.getvalue())
        with pytest.raises(ValueError, match="not written by"):
            load(file)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"format": 99}, "newer"),
            ({"items": {"s": {"kind": "space", "class": "exec", "arguments": {}}}}, "no class"),
            ({"items": {"s": {"kind": "space", "class": "load", "arguments": {}}}}, "no class"),
        ],
    )
    def test_other_contents(self, file, change, message):
        np.savez(file, contents=np.array(json.dumps({"format": 1, "items": {}, **change})))
        with pytest.raises(ValueError, match=message):
            load(file)
