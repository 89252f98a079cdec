"""Branch and bound over inputs, against dense grids: tiny networks with one to three inputs."""

import itertools
import time
from fractions import Fraction

import keras
import numpy as np
import pytest
import tensorflow as tf

from complete.questions import mlp, question
from tfcert.clauses import Clause, Clauses
from tfcert.complete.search import boxes
from tfcert.complete.search.decide import cuts, decide
from tfcert.complete.search.halving import Batches, signs_of, with_pairs
from tfcert.complete.search.query import Solvers
from tfcert.complete.solver.process import SolverProcess
from tfcert.propagation import preactivation
from tfcert.sets.balls import Box, LpBall
from tfcert.verdict import Outcome, Reason

pytestmark = pytest.mark.usefixtures("eager")
ONE_EACH = {"relu": (1, 6, 5, 2), "sigmoid": (2, 6, 2), "sin": (2, 6, 2), "tanh": (3, 5, 2)}


def made(name):
    return mlp(*ONE_EACH[name], activation=keras.ops.sin if name == "sin" else name, seed=3)


def box_of(size, half=0.7):
    return Box(np.full((1, size), -half, np.float32), np.full((1, size), half, np.float32))


def grid(region, each=None):
    size = region.lower.shape[1]
    each = each or {1: 4001, 2: 121, 3: 31}[size]
    return np.array(list(itertools.product(*np.linspace(region.lower[0], region.upper[0], each).T)), np.float32)


def asked(model, region, kind, above):
    """Clauses of which the worst margin on a grid is about ``above``."""
    outputs = np.asarray(model(grid(region)))
    rows = {
        "one": [np.array([[1.0, -1.0]])],
        "several": [np.array([[1.0, -1.0]]), np.array([[0.0, 1.0]])],
        "either": [np.array([[1.0, -1.0], [0.5, 1.0]])],
    }[kind]
    return Clauses.stack([[Clause(r, np.full(len(r), above - (outputs @ r.T).max(axis=1).min())) for r in rows]])


@pytest.fixture
def whole():
    """A solver that is never started: none is asked."""
    return Solvers(SolverProcess())


@pytest.mark.parametrize("kind", ["one", "several", "either"])
@pytest.mark.parametrize("name", ONE_EACH)
def test_boxes_decide_as_a_grid_does(name, kind, whole):
    model = made(name)
    region = box_of(ONE_EACH[name][0])
    true = decide(question(model, region, asked(model, region, kind, 0.05)), whole, ways=("inputs",))
    assert true.outcome is Outcome.VERIFIED and 0 < true.margin <= 0.05 + 1e-5
    false = decide(question(model, region, asked(model, region, kind, -0.01)), whole, ways=("inputs",))
    assert false.outcome is Outcome.FALSIFIED and region.contains(false.witness[None]).all()
    worst = asked(model, region, kind, -0.01).margin(np.asarray(model(false.witness[None])))[0]
    assert worst < 0 and false.margin == pytest.approx(worst, abs=1e-6)


def test_bounds_on_parts_never_fall_and_a_search_is_the_same_again(whole):
    model, region = made("sin"), box_of(2)
    query, told = question(model, region, asked(model, region, "one", 0.01)), []
    found = boxes.by_halves(query, [0], whole, lambda _, bound: told.append(bound))
    again = boxes.by_halves(query, [0], whole)
    assert told == sorted(told) and found.proven == (0,) and found.pieces > 4
    assert (again.bounds, again.pieces, again.depth) == (found.bounds, found.pieces, found.depth)


@pytest.mark.parametrize("name", ["relu", "sigmoid", "sin"])
def test_planes_are_below_their_rows(name, rng):
    model = made(name)
    size = ONE_EACH[name][0]
    query = question(model, box_of(size, 1.0), asked(model, box_of(size), "either", 0.1), rounded=False)
    low = rng.uniform(-1, 0, (5, size))
    high = low + rng.uniform(0, 1, (5, size))
    batches = Batches(query)
    rows, layers = batches.bounds(low, high)
    which = np.zeros(5, int), np.array([0, 1, 0, 1, 1])
    planes = batches.planes(low, high, which, layers)
    clause = query.about_clause(0)
    for i, row in enumerate(which[1]):
        points = low[i] + rng.uniform(size=(400, size)) * (high[i] - low[i])
        values = clause.values(query.about(points).numpy())[:, row]
        away = np.where(planes.slopes[i] > 0, points - low[i], high[i] - points)
        assert (values >= planes.least[i] + away @ np.abs(planes.slopes[i]) - 1e-9).all()
        assert np.abs(planes.slopes[i]).max() > 1e-3
        assert planes.least[i] == pytest.approx(rows[i, 0, row], abs=1e-6) or planes.least[i] < rows[i, 0, row]


def test_means_of_two_rows_are_those_of_exact_arithmetic(rng):
    """Catches a mean that is easier to prove than its rows: of coefficients that are rounded, of offsets rounded up, of
    padding."""
    rows, offsets = rng.integers(-4, 5, (40, 3, 2)) / 4, rng.normal(size=(40, 3))
    rows[:20] += np.where(rng.random((20, 3, 2)) < 0.2, 0.1, 0.0)
    real = np.ones((40, 3), bool)
    real[-1, 2] = False
    found, levels, usable = with_pairs(rows[:20], offsets[:20], real[:20])
    for k, (i, j) in enumerate([(0, 1), (0, 2), (1, 2)], 3):
        for clause in range(20):
            terms = [[Fraction(float(v)) for v in rows[clause, r]] for r in (i, j)]
            exact = [(a + b) / 2 for a, b in zip(*terms, strict=True)]
            assert usable[clause, k] == ([Fraction(float(v)) for v in exact] == exact)
            level = (Fraction(float(offsets[clause, i])) + Fraction(float(offsets[clause, j]))) / 2
            if usable[clause, k]:
                assert [Fraction(float(v)) for v in found[clause, k]] == exact
                assert level - Fraction(1, 2**50) <= Fraction(float(levels[clause, k])) <= level
    assert 0 < usable[:, 3:].sum() < 60
    *_, usable = with_pairs(rows[-1:], offsets[-1:], real[-1:])
    assert usable.tolist() == [[True, True, False, True, False, False]]


def test_a_mean_of_two_rows_proves_what_none_of_them_does(whole):
    """One of ``x / 2`` and ``-x / 2`` plus a little is positive: no part around zero shows which. What is found is the
    least of the better one, not twice that."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, activation="relu"), keras.layers.Dense(2)])
    model.set_weights([np.array([[1.0, -1.0]]), np.zeros(2), np.array([[1.5, 0.5], [0.5, 1.5]]) - 1, np.zeros(2)])
    clauses = Clauses.stack([[Clause(np.eye(2), np.full(2, 1e-4))]])
    found = boxes.by_halves(question(model, box_of(1), clauses), [0], whole)
    assert found.proven == (0,) and found.pieces == 1
    assert 0.99e-4 < found.bounds[0] <= 1e-4


@pytest.mark.parametrize("inputs", [1, 3, 9, 13])
def test_places_of_a_box_are_its_corners_and_middles(inputs):
    """Catches an input that is fixed and moved, and a corner left out; of many inputs the middle remains."""
    low, high = np.zeros(inputs), np.where(np.arange(inputs) == 1, 0.0, 1.0)
    found = boxes._places(low, high)
    free = inputs - (inputs > 1)
    assert len(found) == len(np.unique(found, axis=0)) == {1: 3, 2: 9, 8: 256, 12: 4096}[free]
    assert ((low <= found) & (found <= high)).all() and (found == high).all(axis=1).any()
    assert len(boxes._places(np.zeros(20), np.ones(20))) == 1


def test_parts_keep_the_signs_that_the_whole_shows(rng, monkeypatch):
    """Catches passes for neurons whose sign is known, and signs that a neuron does not keep."""
    model, region = mlp(2, 12, 12, 12, 2, seed=3), box_of(2, 1.0)
    batches, wanted = Batches(question(model, region, asked(model, region, "one", 0.1), rounded=False)), []
    low, matters = rng.uniform(-1, 0, (6, 2)), preactivation.matters
    high, nodes = low + 0.4, batches._network.bounded()

    def counted(*arguments):
        found = matters(*arguments)
        wanted[-1] += int(tf.math.count_nonzero(found))
        return found

    monkeypatch.setattr(preactivation, "matters", counted)
    parts, found = (low, np.stack([0.5 * (low + high)[:, 0], high[:, 1]], axis=1)), []
    wanted.append(0)
    signs = signs_of(len(low), batches.bounds(low, high)[1])
    for known in (None, signs):
        wanted.append(0)
        found.append(batches.bounds(*parts, known))
    assert wanted[2] < 0.8 * wanted[1] and {-1, 0, 1} == set(signs.ravel().tolist())
    assert (found[1][0] >= found[0][0] - 1e-9).all()
    points = parts[0] + rng.uniform(size=(300, 6, 2)) * (parts[1] - parts[0])
    values = batches._network.values(tf.constant(points.reshape(-1, 2)))
    for node, ends in zip(nodes, zip(found[1][1][::2], found[1][1][1::2], strict=True), strict=True):
        seen = values[node].numpy().reshape(300, 6, -1)
        assert (seen >= ends[0] - 1e-9).all() and (seen <= ends[1] + 1e-9).all()


def test_what_is_cut_off_breaks_nothing(rng):
    model, region = made("sigmoid"), box_of(2, 1.0)
    query = question(model, region, asked(model, region, "one", -0.3), rounded=False)
    tree = boxes._Tree(query, [0])
    low = rng.uniform(-1, 0.5, (20, 2))
    high = low + rng.uniform(0.2, 0.5, (20, 2))
    rows, layers = tree.batches.bounds(low, high)
    none = np.zeros(20, int)
    some = boxes._Open(low, high, rows.max(axis=2), high - low, none, tree.nothing(len(low)))
    planes = tree.batches.planes(low, high, (none, none), layers)
    less = tree._shrunk(some, planes, none)
    assert (less.lower >= low).all() and (less.upper <= high).all()
    assert ((less.upper - less.lower).prod(axis=1) < 0.9 * (high - low).prod(axis=1)).any()
    for i in np.flatnonzero(~(rows.max(axis=(1, 2)) > 0)):
        points = low[i] + rng.uniform(size=(400, 2)) * (high[i] - low[i])
        broken = query.about_clause(0).values(query.about(points).numpy())[:, 0] <= 0
        kept = ((less.lower[i] <= points) & (points <= less.upper[i])).all(axis=1)
        assert kept[broken].all()


def test_a_margin_of_zero_is_neither_proven_nor_broken(whole):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, activation="relu"), keras.layers.Dense(1)])
    model.set_weights([np.array([[1.0, -1.0]]), np.zeros(2), np.ones((2, 1)), np.zeros(1)])
    query = question(model, Box([[-1.0]], [[0.7]]), Clauses.all_of(np.ones((1, 1, 1))), rounded=False)
    found = decide(query, whole, ways=("inputs",))
    assert found.outcome is Outcome.UNKNOWN and found.work.pieces < 2000


def test_time_that_is_up_is_a_timeout_that_says_how_far_it_came():
    model, region = made("sin"), box_of(2)
    query = question(model, region, asked(model, region, "one", 1e-4))
    found = decide(query, Solvers(SolverProcess(), until=time.monotonic() - 1), ways=("inputs",))
    assert found.outcome is Outcome.TIMEOUT and "inputs were cut" in found.reason and found.work.pieces == 0


def test_inputs_are_cut_where_few_of_a_box_may_move(monkeypatch):
    def kind(size, ball=False, ways=("split",), moving=None):
        model = mlp(size, 4, 4, 2)
        half = np.zeros((1, size), np.float32)
        half[:, :moving] = 0.2
        region = LpBall(half, 0.1, "l2") if ball else Box(-half, half)
        return cuts(question(model, region, Clauses.all_of(np.array([[[1.0, -1.0]]]))), ways)

    assert kind(2) == "inputs" and kind(2, ball=True) == "neurons" and kind(9, moving=2) == "inputs"
    assert kind(4) == "neurons" and kind(4, ways=("inputs",)) == "inputs" and kind(2, ways=("neurons",)) == "neurons"
    assert not kind(2, ways=("milp",))
    monkeypatch.setattr(boxes, "_NEURONS", 3)
    assert kind(4) == "inputs" and kind(13) == "neurons"


def test_inputs_of_a_ball_are_not_cut(whole):
    model = mlp(2, 4, 2)
    region = LpBall(np.zeros((1, 2), np.float32), 1.0, "l2")
    query = question(model, region, asked(model, box_of(2), "one", 1e-4))
    found = decide(query, whole, ways=("inputs",))
    assert found.outcome is Outcome.UNKNOWN and found.reason.reason is Reason.NOTHING_TO_SPLIT


@pytest.mark.parametrize("kind", ["one", "several"])
def test_parts_cover_what_is_not_cut_off_and_what_is_cut_off_holds(kind):
    """Catches a side that shrinks at the wrong end or too far, and halves with a gap between them."""
    model = made("relu")
    region = box_of(1)
    clauses = asked(model, region, kind, -0.05)
    query = question(model, region, clauses)
    tree, (low, high) = boxes._Tree(query, range(clauses.offsets.shape[1])), boxes._ends(query)
    some = boxes._Open(low, high, tree.first(), high - low, np.zeros(1, int), tree.nothing(1))
    points = grid(region)
    outputs = np.asarray(model(points), np.float64)
    values = np.einsum("cro,po->pcr", clauses.coefficients[0], outputs) + clauses.offsets[0]
    margins = values.max(axis=2).min(axis=1)
    for _ in range(6):
        left, _ = tree.bounded(some)
        some = boxes._cut(left, 1, 64)
        size = (some.upper - some.lower).prod(axis=1).sum()
        assert size == pytest.approx((left.upper - left.lower).prod(axis=1).sum(), rel=1e-12)
        inside = ((some.lower[:, None] <= points) & (points <= some.upper[:, None])).all(axis=2).any(axis=0)
        assert inside[margins <= 0].all() and (margins[~inside] > 0).all()
    assert not inside.all(), "something was proven or cut off"
