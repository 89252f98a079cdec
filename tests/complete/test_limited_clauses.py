"""Clauses of several rows and conditions on inputs, decided: beside the exact least margin, by every way."""

import itertools
from dataclasses import replace

import keras
import numpy as np
import pytest
from conditional import around, clause, row, showing
from scipy.optimize import linprog

from complete.brute_force import cells
from complete.questions import question
from tfcert.clauses import Clauses
from tfcert.complete.bounds import row_bounds
from tfcert.complete.encoding.piecewise import flatten
from tfcert.complete.search.branch import branch
from tfcert.complete.search.builder import QueryBuilder
from tfcert.complete.search.decide import decide
from tfcert.complete.search.query import Solvers
from tfcert.network.cache import network_of
from tfcert.sets.balls import Perturbation
from tfcert.verdict import Outcome

pytestmark = pytest.mark.usefixtures("eager")


def plain(model: keras.Model) -> keras.Model:
    """The layers of a model that shows its inputs, without what it shows."""
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    copies = [keras.layers.Dense(layer.units, activation=layer.activation) for layer in dense]
    alone = keras.Sequential([keras.Input((model.input_shape[1],)), *copies])
    alone.set_weights([weight for layer in dense for weight in layer.get_weights()])
    return alone


def least(model: keras.Model, region: Perturbation, asked: Clauses, conditions: np.ndarray) -> float:
    """The least that the best other row of the one clause is where no condition row is positive; by a linear program
    for each piece of the network, in a box or an L1 ball."""
    low, high = (end[0].astype(np.float64) for end in region.interval())
    size, best = len(low), np.inf
    outer, right = np.zeros((0, size)), np.zeros(0)
    if region.norm == "l1":
        outer = np.array(list(itertools.product((-1.0, 1.0), repeat=size)))
        right = outer @ region.center[0].astype(np.float64) + region.eps[0]
    rows, offsets = asked.coefficients[0, 0], asked.offsets[0, 0]
    for cell in cells(plain(model)):
        matrix, offset = np.concatenate([cell.matrix, np.eye(size)]), np.append(cell.offset, np.zeros(size))
        part = np.pad(np.concatenate([cell.rows, outer]), ((0, 0), (0, 1)))
        aims = np.concatenate([rows @ matrix, np.where(conditions, 0.0, -1.0)[:, None]], axis=1)
        limits = np.concatenate([cell.right, right, -(rows @ offset + offsets)])
        ends = [*zip(low, high, strict=True), (None, None)]
        found = linprog(np.append(np.zeros(size), 1.0), np.concatenate([part, aims]), limits, bounds=ends)
        best = min(best, found.fun) if found.status == 0 else best
    return float(best)


def asked_of(x: np.ndarray, rng: np.random.Generator, kind: str) -> tuple[Clauses, np.ndarray]:
    cut = rng.normal(size=2)
    through = -float(cut @ x[0]) + 0.2
    rows = [row(2, 2, {0: 1.0, 1: -1.0, 2: 0.3}), row(2, 2, {2: cut[0], 3: cut[1]}, through)]
    if kind == "two":
        rows.append(row(2, 2, {0: -0.5, 1: 1.0}))
    if kind == "equation":  # one that float32 can solve
        cut, through = np.array([1.0, -2.0]), round(float(2 * x[0, 1] - x[0, 0]), 2) // 0.125 * 0.125
        rows[1] = row(2, 2, {2: 1.0, 3: -2.0}, through)
        rows.append(row(2, 2, {2: -cut[0], 3: -cut[1]}, -through))
    marks = np.array([False, True, kind == "equation"][: len(rows)])
    return Clauses.stack([[clause(*rows)]]), marks


@pytest.mark.parametrize("kind", ["one", "two", "equation"])
@pytest.mark.parametrize("norm", ["box", "l1"])
def test_decisions_are_right_on_either_side_of_the_exact_margin(kind, norm, cbc):
    """The first row is moved so that the least margin, where conditions are met, is a little above or below zero."""
    rng = np.random.default_rng(1)
    model, x = showing(hidden=4, seed=1), rng.normal(size=(1, 2)).astype(np.float32)
    region = around(norm, x, 0.8)
    asked, conditions = asked_of(x, rng, kind)
    exact = least(model, region, asked, conditions)
    assert np.isfinite(exact)
    for above in (0.05, -0.05):
        moved = Clauses(asked.coefficients, asked.offsets + np.where(conditions, 0.0, above - exact))
        query = question(model, region, moved, solver=cbc)
        # As questions of specifications are judged: on its edge a condition is met.
        judge = replace(query.judge, broken=lambda outputs, moved=moved: moved.margin(outputs) <= 0)
        query = replace(query, judge=judge)
        for way in ("split", "milp"):
            decision = decide(query, Solvers(cbc), ways=(way,))
            outcome = Outcome.VERIFIED if above > 0 else Outcome.FALSIFIED
            assert decision.outcome is outcome, (way, above, decision.reason)
            if above > 0:
                assert decision.margin <= above + 1e-4
            else:
                assert query.judge.confirm(decision.witness[None]) is not None


def test_branch_and_bound_proves_what_no_row_proves_alone_in_any_piece(cbc):
    """``|z0| - 0.2`` and ``0.3 - |z0|``: one is at least 0.05 everywhere, each below 0 on either side of the kink,
    where no piece is cut any more."""
    x = keras.Input((1,))
    size = keras.layers.Dense(2, activation="relu")
    last = keras.layers.Dense(2)
    model = keras.Model(x, last(size(x)))
    size.set_weights([np.array([[1.0, -1.0]]), np.zeros(2)])
    last.set_weights([np.array([[1.0, -1.0], [1.0, -1.0]]), np.array([-0.2, 0.3])])
    region = around("box", np.zeros((1, 1), np.float32), 1.0)
    asked = Clauses.stack([[clause((np.array([1.0, 0.0]), 0.0), (np.array([0.0, 1.0]), 0.0))]])
    found = branch(question(model, region, asked, solver=cbc), 0, Solvers(cbc))
    assert 0 < found.bound <= 0.05 + 1e-6 and not found.reason
    for alone in (0, 1):
        one = Clauses(asked.coefficients[:, :, [alone]], asked.offsets[:, :, [alone]])
        assert not branch(question(model, region, one, solver=cbc), 0, Solvers(cbc)).bound > 0


def test_a_condition_that_nothing_meets_proves_the_clause(cbc):
    model, x = showing(hidden=3, seed=2), np.zeros((1, 2), np.float32)
    rows = row(2, 2, {0: 1.0}, -50.0), row(2, 2, {2: 1.0, 3: 1.0}, 2.5)
    for ways in (("split",), ("milp",)):
        query = question(model, around("box", x, 1.0), Clauses.stack([[clause(*rows)]]), solver=cbc)
        assert decide(query, Solvers(cbc), ways=ways).outcome is Outcome.VERIFIED


def test_the_linear_program_is_asked_about_clauses(cbc):
    """Of a clause of two rows, and one condition, the relaxation bounds the best row: above each of them, and no more
    than the clause is."""
    rng = np.random.default_rng(4)
    model, x = showing(hidden=4, seed=4), rng.normal(size=(1, 2)).astype(np.float32)
    region = around("box", x, 0.8)
    asked, conditions = asked_of(x, rng, "two")
    builder = QueryBuilder(flatten(network_of(model, x)), model, rounded=False)
    rows, clauses = row_bounds(builder, region, asked, Solvers(cbc), (60.0, False))
    each = Clauses.all_of(*asked.rows())
    alone, none = row_bounds(builder, region, each, Solvers(cbc), (60.0, False))
    assert none is None and len(rows) == len(alone) == 3 and len(clauses) == 1
    exact = least(model, region, asked, conditions)
    assert max(alone[~conditions]) - 1e-7 <= clauses[0] <= exact + 1e-7
    (margin,), _ = asked.certified(rows[None], 0.0, clauses[None])
    assert margin == clauses[0]


def test_how_large_a_condition_is_written_says_nothing_of_the_margin(cbc):
    """What is close is relative to the size of the rows that are asked of, so that a factor of a condition is none."""
    model, x = showing(hidden=4, seed=1), np.zeros((1, 2), np.float32)
    scales = []
    for factor in (1.0, 1e6):
        rows = row(2, 2, {0: 1.0, 1: -1.0}), row(2, 2, {2: factor, 3: factor}, -0.1 * factor)
        scales.append(question(model, around("box", x, 0.8), Clauses.stack([[clause(*rows)]]), solver=cbc).scale)
    assert scales[0] == pytest.approx(scales[1], rel=1e-3) and scales[0] < 100
