"""The flow of the polar chart and its linearization against the formulas at 60 digits."""

import mpmath as mp
import numpy as np
import pytest

from dln_manifolds.geometry.hamiltonian import nodal_state
from dln_manifolds.geometry.polar_flow import Layout, polar_rates, speed_squared
from dln_manifolds.geometry.polar_variation import linearized_polar_rates
from dln_manifolds.geometry.stretch import (
    first_differences,
    log_values_of,
    pair_weights,
    second_differences,
    stretch_of,
)

DEPTHS = [1, 1.5, 2, 3, 12, 300, 1e6, np.inf]
GAPS = [0.0, 1e-16, 1e-9, 1e-4, 4e-3, 6e-3, 0.09, 0.11, 0.5]
SHAPES = [(3, 3, 3), (4, 3, 3), (3, 5, 3), (4, 5, 3), (4, 4, 2), (3, 2, 1)]
STEP = mp.mpf("1e-25")


@pytest.fixture(autouse=True)
def digits():
    with mp.workdps(60):
        yield


def stretch(rank, gap, depth):
    """Eigenvalues, two of them with this gap."""
    values = np.array([0.7, -0.4 + gap, -0.4])[-rank:]
    if gap == 1e-16 and rank > 1:
        values[-2] = np.nextafter(values[-1], 9)
    return stretch_of(values, depth) if depth > 1 else values


def sample(shape, rank, depth, gap, seed=0):
    """A layout with a state of it."""
    rng = np.random.default_rng(seed)
    layout = Layout(shape, rank, depth)
    axes = np.linalg.qr(rng.normal(size=(rank, rank)))[0]
    core = (axes * stretch(rank, gap, depth)) @ axes.T
    frames = [np.linalg.qr(rng.normal(size=(size, rank)))[0] for size in shape]
    sides = [e * 0 + rng.normal(size=e.shape) * 0.3 for e in frames]
    sides = [p - e @ (e.T @ p) for e, p in zip(frames, sides, strict=True)]
    momentum = layout.stacked(rng.normal(size=(rank, rank)) * 0.4, *sides)
    return layout, np.stack([layout.stacked(0.5 * (core + core.T), *frames), momentum])


def literal_rates(state, layout):
    """The equations of motion at 60 digits, as the docstring of the module has them."""
    r, m, depth = layout.rank, layout.shape[0], layout.depth
    inverse = mp.mpf(0) if depth == np.inf else 1 / mp.mpf(depth)
    position, momentum = state
    core, left, right = position[:r, :], position[r : r + m, :], position[r + m :, :]
    inside, *sides = momentum[:r, :], momentum[r : r + m, :], momentum[r + m :, :]
    # Equal eigenvalues would ask for limits.
    nudge = mp.diag([k * mp.mpf("1e-40") for k in range(r)])
    d, v = mp.eigsy((core + core.T) / 2 + nudge)
    c = v.T * inside * v
    a, b = (c + c.T) / 2, (c - c.T) / 4
    root = [1 + x * inverse for x in d]
    pairs = [(i, j) for i in range(r) for j in range(r)]

    def alpha(x, y):
        if x == y:
            return mp.mpf(1)
        h = (x - y) / 2
        if inverse == 0:
            return mp.tanh(h) / h
        u = mp.log((1 + x * inverse) / (1 + y * inverse)) / 2
        return mp.tanh(u / inverse) / mp.tanh(u) * inverse

    def beta(x, y):
        return (1 + (x + y) * inverse / 2) ** 2 / alpha(x, y)

    s, w, g, y_mean = (mp.zeros(r) for _ in range(4))
    for i, j in pairs:
        s[i, j] = a[i, j] / alpha(d[i], d[j])
        w[i, j] = b[i, j] / beta(d[i], d[j]) if i != j else mp.mpf(0)
    y = [p * v for p in sides]
    if inverse:
        y = [x * mp.diag([inverse / x**2 for x in root]) for x in y]
    square = [x.T * x for x in y]
    quotient = a * s - s * a - b * w + w * b
    for i, j in pairs:
        if i != j:
            g[i, j] = quotient[i, j] / (d[i] - d[j])
    h = mp.mpf("1e-20")
    for i in range(r):
        total = mp.mpf(0)
        for j in range(r):
            if i != j:
                total += s[i, j] ** 2 * (alpha(d[i] + h, d[j]) - alpha(d[i] - h, d[j])) / (2 * h)
                total += w[i, j] ** 2 * (beta(d[i] + h, d[j]) - beta(d[i] - h, d[j])) / (2 * h)
        g[i, i] = total
    dm = mp.diag(list(d))
    commutator = a * dm - dm * a
    for i, j in pairs:
        y_mean[i, j] = (root[i] + root[j]) / 2 * (square[0] + square[1])[i, j]
    om = mp.diag([x**2 / inverse for x in root]) if inverse else mp.eye(r)
    apart = square[0] - square[1]
    db = (commutator * w - w * commutator) / 4 + (apart * om - om * apart) / 4
    first = [v * s * v.T]
    second = [v * (g + y_mean + 2 * db) * v.T]
    for k, (e, sign) in enumerate(((left, 1), (right, -1))):
        p = sides[k] * v
        first.append((sign * e * v * w / 2 + y[k]) * v.T)
        moved = sign * p * w / 2 - y[k] * (commutator + 2 * sign * b) - e * v * (y[k].T * p)
        second.append(moved * v.T)
    return [np.vstack([np.array(x.tolist()) for x in part]) for part in (first, second)]


def as_matrices(state):
    return [mp.matrix(part.tolist()) for part in state]


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("gap", GAPS)
def test_rates_of_square_matrices(depth, gap):
    layout, state = sample((3, 3), 3, depth, gap)
    state[1, 3:] = 0.0
    wanted = np.array(literal_rates(as_matrices(state), layout), dtype=float)
    got, smallest = polar_rates(state[None], layout)
    assert np.abs(got[0] - wanted).max() <= 2e-13 * np.abs(wanted).max()
    assert 0 < smallest[0] <= 1


@pytest.mark.parametrize(("m", "n", "rank"), SHAPES[1:])
@pytest.mark.parametrize("depth", [1.5, 2, 30, 1e4])
def test_rates_of_every_shape(m, n, rank, depth):
    layout, state = sample((m, n), rank, depth, 0.0)
    wanted = np.array(literal_rates(as_matrices(state), layout), dtype=float)
    got = polar_rates(state[None], layout)[0][0]
    assert np.abs(got - wanted).max() <= 1e-12 * np.abs(wanted).max()


@pytest.mark.parametrize("depth", [1, 1.5, 3, 12])
def test_rates_are_those_of_the_root_chart(depth):
    layout, state = sample((3, 3), 3, depth, 0.3)
    state[1, 3:] = 0.0
    core, left, right = layout.split(state[0])
    change, left_rate, right_rate = layout.split(polar_rates(state[None], layout)[0][0, 0])
    root, rate = np.eye(3) + core / depth, change / depth
    velocity = left_rate @ root @ right.T + left @ rate @ right.T + left @ root @ right_rate.T
    nodal = nodal_state(left @ root @ right.T, depth, velocity=velocity)
    assert 2 * depth * nodal.energy == pytest.approx(
        speed_squared(state[0], state[1], layout), rel=1e-13
    )


@pytest.mark.parametrize("depth", DEPTHS[1:])
@pytest.mark.parametrize("gap", GAPS)
def test_linearization_of_square_matrices(depth, gap):
    compare_linearization((3, 3), 3, depth, gap, 1e-11)


@pytest.mark.parametrize(("m", "n", "rank"), SHAPES[1:])
@pytest.mark.parametrize("depth", [1.5, 30])
@pytest.mark.parametrize("gap", [0.0, 0.5])
def test_linearization_of_every_shape(m, n, rank, depth, gap):
    compare_linearization((m, n), rank, depth, gap, 1e-11)


def compare_linearization(shape, rank, depth, gap, bound):
    layout, state = sample(shape, rank, depth, gap)
    field = np.random.default_rng(1).normal(size=state.shape)
    field[0, :rank] += field[0, :rank].T.copy()
    if layout.full:
        state[1, rank:] = field[1, rank:] = 0.0
    base, change = as_matrices(state), as_matrices(field)
    ends = [
        literal_rates([x + sign * STEP * dx for x, dx in zip(base, change, strict=True)], layout)
        for sign in (1, -1)
    ]
    wanted = np.array((np.array(ends[0]) - np.array(ends[1])) / (2 * STEP), dtype=float)
    both = np.stack([state, field], axis=1)[None]
    got, _ = linearized_polar_rates(both, layout)
    assert np.abs(got[0, :, 1] - wanted).max() <= bound * np.abs(wanted).max()
    assert np.array_equal(got[0, :, 0], polar_rates(state[None], layout)[0][0])


def log_alpha(x, y, depth):
    h = (x - y) / 2
    if depth == np.inf:
        return mp.log(mp.tanh(h) / h)
    u = mp.log((1 + x / depth) / (1 + y / depth)) / 2
    return mp.log(mp.tanh(depth * u) / mp.tanh(u) / depth)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("gap", [1e-9, 1e-3, 0.1, 0.5, 2.0])
def test_weights_of_pairs(depth, gap):
    d = np.array([0.1, 0.1 + gap, -0.3]) * min(1, depth / 3)
    weights = pair_weights(d, depth, second=True)
    n = mp.inf if depth == np.inf else mp.mpf(depth)
    for i in range(3):
        for j in set(range(3)) - {i}:
            x, y = mp.mpf(float(d[i])), mp.mpf(float(d[j]))
            assert weights.alpha[i, j] == pytest.approx(
                float(mp.exp(log_alpha(x, y, n))), rel=1e-14
            )
            slope = mp.diff(lambda x, y=y: log_alpha(x, y, n), x)
            bend = mp.diff(lambda x, y=y: log_alpha(x, y, n), x, 2)
            mixed = mp.diff(lambda x, y: log_alpha(x, y, n), (x, y), (1, 1))
            for got, wanted in (
                (weights.slope, slope),
                (weights.bend, bend),
                (weights.mixed, mixed),
            ):
                assert got[i, j] == pytest.approx(float(wanted), abs=1e-14)


@pytest.mark.parametrize("depth", DEPTHS[1:])
@pytest.mark.parametrize("gap", [1e-9, 1e-4, 1.0])
def test_divided_differences(depth, gap):
    d = np.array([0.5, 0.5 - 0.3 * gap, 0.5 - gap]) * min(1, depth / 4)
    n, (x, y, z) = mp.mpf(depth) if depth < np.inf else mp.inf, [mp.mpf(float(v)) for v in d]

    def value(x):
        return mp.exp(x) if n == mp.inf else (1 + x / n) ** n

    first = (value(x) - value(y)) / (x - y), (value(y) - value(z)) / (y - z)
    assert first_differences(d, depth)[0, 1] == pytest.approx(float(first[0]), rel=1e-13)
    wanted = float((first[0] - first[1]) / (x - z))
    assert second_differences(d, depth)[0, 1, 2] == pytest.approx(wanted, rel=1e-13)


@pytest.mark.parametrize("depth", DEPTHS)
def test_stretch_and_logarithm(depth):
    logs = np.linspace(-5, 0.9, 7)
    assert log_values_of(stretch_of(logs, depth), depth) == pytest.approx(logs, rel=1e-9)


@pytest.mark.parametrize("depth", [1.5, 2, 5])
def test_weights_where_a_root_is_negative(depth):
    # analytic in l_j / l_i
    d = depth * (np.array([-0.3, 0.0, 0.8]) - 1) + depth * 0.5
    weights = pair_weights(d, depth)
    q = (1 + mp.mpf(float(d[0])) / depth) / (1 + mp.mpf(float(d[2])) / depth)
    if q < 0:
        deep = -((-q) ** depth)
        wanted = (1 + q) * (1 - deep) / ((1 - q) * (1 + deep)) / depth
        assert weights.alpha[0, 2] == pytest.approx(float(wanted), rel=1e-13)
