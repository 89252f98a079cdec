"""Cells in integer programs: a binary for each edge that an input may pass, and the optimum of all combinations."""

import functools
import itertools

import keras
import numpy as np
import pytest

import tfcert
from complete.questions import keeps_class, question, search_around
from complete.test_encoding import assert_holds_everything, wide_bounds
from tfcert.complete.encoding.encode import EncodingOptions, encode
from tfcert.complete.encoding.piecewise import Steps, flatten
from tfcert.complete.search.decide import decide
from tfcert.complete.search.minimum import minimum, plain_minimum
from tfcert.complete.search.query import Solvers, distance_program, margin_program
from tfcert.layers import IntervalAbstraction
from tfcert.network import from_keras
from tfcert.sets.balls import LpBall
from tfcert.verdict import Outcome

pytestmark = pytest.mark.usefixtures("eager")

L = keras.layers
WIDTH, CELLS = 0.25, 4
X = np.random.default_rng(0).random((6, 3)).astype(np.float32)


def chained(shape: tuple[int, ...], dtype: str, *stack: L.Layer) -> keras.Model:
    inputs = keras.Input(shape, dtype=dtype)
    return keras.Model(inputs, functools.reduce(lambda x, layer: layer(x), stack, inputs))


@functools.cache
def model(kind: str, dtype: str = "float32") -> keras.Model:
    """Three numbers in four cells each, read by a linear layer, by one with ReLU, or by a padded convolution."""
    keras.utils.set_random_seed(5)
    stack = {
        "linear": [],
        "relu": [L.Dense(5, activation="relu", dtype=dtype)],
        "conv": [
            L.Reshape((1, 3, 2), dtype=dtype),
            L.Conv2D(3, 2, padding="same", activation="relu", dtype=dtype),
            L.Flatten(dtype=dtype),
        ],
    }[kind]
    shape = (3, 1) if kind == "conv" else (3,)
    cells = IntervalAbstraction(WIDTH, (0, 1), dtype=dtype)
    built = chained(shape, dtype, cells, *stack, L.Dense(3, dtype=dtype))
    rng = np.random.default_rng(3)
    for weight in built.trainable_weights:
        weight.assign(rng.normal(size=weight.shape))
    return built


def samples(kind: str, dtype: str = "float32") -> np.ndarray:
    return X.reshape(6, *model(kind).input_shape[1:]).astype(dtype)


def ranges(low: np.ndarray, high: np.ndarray) -> list[range]:
    """The cells that numbers between two ends reach."""
    first, last = (np.minimum(np.floor(end / WIDTH), CELLS - 1).astype(int).ravel() for end in (low, high))
    return [range(a, b + 1) for a, b in zip(first, last, strict=True)]


def margins(kind: str, choices: list[range], label: int, dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
    """All combinations of cells and their margins."""
    cells = np.array(list(itertools.product(*choices)))
    middles = ((cells + 0.5) * WIDTH).reshape(-1, *model(kind).input_shape[1:]).astype(dtype)
    outputs = model(kind, dtype)(middles).numpy().astype(np.float64)
    others = np.delete(outputs, label, axis=1)
    return cells, outputs[:, label] - others.max(axis=1)


def labels(kind: str) -> np.ndarray:
    return model(kind)(samples(kind)).numpy().argmax(axis=1)


@pytest.mark.parametrize(
    ("kind", "dtype", "eps"),
    [("linear", "float32", 0.3), ("relu", "float32", 0.08), ("relu", "float64", 0.3), ("conv", "float32", 0.3)],
)
def test_margins_by_integer_programs_are_those_of_all_combinations_of_cells(kind, dtype, eps):
    x, y = samples(kind, dtype)[:4], labels(kind)[:4]
    found = tfcert.certify(model(kind, dtype), x, y, eps=eps, clip=(0, 1), method="milp").margin
    region = LpBall(x, eps, "linf", (0.0, 1.0))
    several = 0
    for i in range(len(x)):
        choices = ranges(*(end[i].astype(np.float64) for end in region.interval()))
        _, exact = margins(kind, choices, y[i], dtype)
        several += len(exact) > 1
        assert found[i] == pytest.approx(exact.min(), abs=2e-5)
    assert several >= 3


@pytest.mark.parametrize(
    ("low", "high", "binaries"),
    [
        ((0.3, 0.3, 0.3), (0.4, 0.4, 0.4), 0),
        ((0.3, 0.3, 0.2), (0.4, 0.6, 0.3), 2),
        ((0.3, 0.25, 0.1), (0.5, 0.3, 0.9), 1 + 0 + 3),  # the upper end is an edge, the lower end is one
        ((-9.0, 0.8, 0.0), (0.1, 9.0, 1.0), 3),
    ],
)
def test_an_edge_that_an_input_may_pass_has_a_binary_and_no_other(low, high, binaries, cbc):
    region = tfcert.Box(np.float32([low]), np.float32([high]))
    query = question(model("linear"), region, keeps_class(model("linear"), X[:1]))
    assert margin_program(query, [0]).program.binaries == binaries
    assert margin_program(query, [0], relax=True).program.binaries == 0


@pytest.mark.parametrize("kind", ["relu", "conv"])
def test_points_of_the_set_satisfy_the_program(kind):
    network = from_keras(model(kind, "float64"))
    assert_holds_everything(network, [LpBall(samples(kind, "float64")[:1], 0.3, norm) for norm in ("linf", "l1", "l2")])


def test_a_number_that_is_at_an_edge_or_just_below_it_has_the_binary_of_its_side():
    network = from_keras(model("linear"))
    net = flatten(network)
    (steps,) = [layer.kind for layer in net.layers if isinstance(layer.kind, Steps)]
    assert steps.edges.tolist() == [[0.0, 0.25, 0.5, 0.75, 1.0]]
    (below,) = steps.below
    assert (below[1:].astype(np.float32) == np.nextafter(np.float32([0.25, 0.5, 0.75, 1.0]), np.float32(0))).all()
    region = LpBall(np.float32([[0.5, 0.5, 0.5]]), 0.1).astype(np.float64)
    bounds = wide_bounds(net, region)
    encoding = encode(net, region, bounds.layers, bounds.output, EncodingOptions())
    program = encoding.builder.program((encoding.inputs[:0], np.zeros(0)))
    v = encoding.point(np.array([0.5, below[2], 0.55]), program)
    assert sorted(v[program.integer]) == [0.0, 1.0, 1.0] and program.violation(v) <= 1e-9
    # A solver that says so of inputs that are a little off is taken at its word, and only there.
    for off, kept in ((1e-9, False), (1e-3, True)):
        told = v.copy()
        told[encoding.inputs[0]], told[encoding.inputs[1]] = 0.5 - off, 0.5 + off
        settled = encoding.settled(told)
        assert (settled[:2] == (told[encoding.inputs[:2]] if kept else [0.5, below[2]])).all()


@pytest.mark.parametrize("ways", [("milp",), ("split",)])
@pytest.mark.parametrize("kind", ["linear", "relu"])
def test_decisions_are_those_of_all_combinations_of_cells(kind, ways, cbc):
    y, seen = labels(kind), set()
    for i, eps in ((0, 0.08), (0, 0.4), (1, 0.2)):
        region = LpBall(samples(kind)[i : i + 1], eps, "linf", (0.0, 1.0))
        _, exact = margins(kind, ranges(*(end[0].astype(np.float64) for end in region.interval())), y[i])
        found = decide(question(model(kind), region, keeps_class(model(kind), region.x)), Solvers(cbc), ways=ways)
        expected = Outcome.VERIFIED if exact.min() > 0 else Outcome.FALSIFIED
        if "milp" in ways:
            assert found.outcome is expected
        else:  # splitting by sign of neurons does not tell cells apart
            assert found.outcome in (expected, Outcome.UNKNOWN)
        if found.outcome is Outcome.FALSIFIED:
            assert region.contains(found.witness[None])[0]
            assert (
                np.delete(model(kind)(found.witness[None])[0], y[i]).max() > model(kind)(found.witness[None])[0][y[i]]
            )
        seen.add(expected)
    assert len(seen) == 2


def least_distance(kind: str, x: np.ndarray, label: int) -> float:
    """To the nearest combination of cells that is misclassified."""
    cells, exact = margins(kind, [range(CELLS)] * 3, label)
    low, high = cells * WIDTH, (cells + 1) * WIDTH
    apart = np.maximum(np.maximum(low - x, x - high), 0.0).max(axis=1)
    return float(apart[exact < 0].min())


@pytest.mark.parametrize(("kind", "how"), [("relu", minimum), ("relu", plain_minimum), ("linear", plain_minimum)])
def test_the_least_distance_is_that_to_the_nearest_cells_that_are_misclassified(kind, how, cbc):
    for i in range(2):
        x, exact = samples(kind)[i : i + 1], least_distance(kind, samples(kind)[i].astype(np.float64), labels(kind)[i])
        assert 0.01 < exact < 0.85
        found = how(search_around(model(kind), LpBall(x, 0.9, "linf", (0.0, 1.0)), known=True), Solvers(cbc))
        assert found.lower == pytest.approx(exact, abs=1e-5) and found.upper == pytest.approx(exact, abs=1e-5)
        assert found.lower <= exact + 1e-7 and found.reason == ""


@pytest.mark.parametrize("dtype", ["float32"])
def test_a_witness_just_below_the_edge_at_zero_is_one(dtype, cbc):
    """The counter-example: 0.05 is 0.05 away from the cell below zero, which holds no point that is nearest."""
    cells = IntervalAbstraction(0.2, (-1, 1), dtype=dtype)
    net = chained((1,), dtype, cells, L.Dense(2, use_bias=False, dtype=dtype))
    net.layers[-1].kernel.assign([[1.0, 0.0], [1.0, 0.0]])
    x = np.array([[0.05]], dtype)
    found = plain_minimum(search_around(net, LpBall(x, 0.3), known=True), Solvers(cbc))
    assert found.optimal(1e-5) and found.upper == pytest.approx(0.05, abs=1e-7)
    assert -1e-6 < found.witness[0] < 0 and net(found.witness[None])[0, 0] < 0
    for eps, outcome in ((0.049, Outcome.VERIFIED), (0.0501, Outcome.FALSIFIED)):
        region = LpBall(x, eps)
        assert decide(question(net, region, keeps_class(net, x)), Solvers(cbc)).outcome is outcome
    query = question(net, LpBall(x, 0.3), keeps_class(net, x))
    answer = cbc.solve(distance_program(query, way_out=False).program, 30)
    assert answer.objective == pytest.approx(0.05, abs=1e-7)
