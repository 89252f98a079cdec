"""Combinations of a clause's rows: never above what the clause is somewhere, and mostly above its best row."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conditional import KINDS, around, clause, least_margins, row, showing
from scipy.optimize import linprog

from tfcert.clauses import Clause, Clauses
from tfcert.network.cache import network_of
from tfcert.network.joint import Applied, joint
from tfcert.network.shown import shown_inputs
from tfcert.propagation import combined as combining
from tfcert.propagation.disjunctions import clause_bounds
from tfcert.propagation.engine import lower_bounds
from tfcert.rigour.radius import CertifyingMethod, margins_of
from tfcert.sets.balls import Box
from tfcert.verdict import is_proof

pytestmark = pytest.mark.usefixtures("thorough")
STEPS = {name: getattr(combining, name) for name in ("_SECTIONS", "_ROUNDS", "_STEPS")}


@pytest.fixture
def thorough(eager: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many steps as users have."""
    for name, value in STEPS.items():
        monkeypatch.setattr(combining, name, value)


def questions(x: np.ndarray, rng: np.random.Generator) -> tuple[Clauses, np.ndarray]:
    """Clauses of two outputs and two inputs: a condition, a disjunction, an equation, one that cannot hold, one row."""
    cut = rng.normal(size=2)
    through = -float(cut @ x[0]) + 0.3 * rng.normal()
    asked = [
        clause(row(2, 2, {0: 1.0, 1: -1.0}), row(2, 2, {2: cut[0], 3: cut[1]}, through)),
        clause(row(2, 2, {0: 1.0}, 0.1), row(2, 2, {1: 1.0})),
        clause(
            row(2, 2, {0: 1.0}),
            row(2, 2, {2: cut[0], 3: cut[1]}, through),
            row(2, 2, {2: -cut[0], 3: -cut[1]}, -through),
        ),
        clause(row(2, 2, {0: 1.0, 2: 0.5}), row(2, 2, {2: 1.0}, 5.0 - float(x[0, 0]))),
        clause(row(2, 2, {1: 1.0, 3: 0.5})),
    ]
    stacked = Clauses.stack([asked])
    return stacked, stacked.over(np.array([False, False, True, True]))[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["ibp", "crown", "alpha-crown"])
def test_bounds_of_combinations_are_below_what_clauses_are_where_conditions_are_met(method, kind, rng):
    model = showing(seed=3)
    x = rng.normal(size=(1, 2)).astype(np.float32)
    region = around(kind, x, 0.8)
    asked, conditions = questions(x, rng)
    rows, combined = clause_bounds(network_of(model, x), region, asked, method=method)
    least = least_margins(model, region, asked, conditions)
    each = asked.settled(rows)[0]
    assert (combined[0] <= least + 1e-5 * (1 + np.abs(np.where(np.isfinite(least), least, 0.0)))).all()
    assert np.isinf(least[3]) and max(combined[0, 3], each[3].max()) > 0
    if method == "alpha-crown":  # it begins with a row alone, whose lines it searches as it does without the others
        assert combined[0, 0] >= each[0, 0] - 1e-3 and combined[0, 1] >= each[1].max() - 1e-3


def linear(inputs: int, outputs: int, rng: np.random.Generator) -> tuple[keras.Model, np.ndarray]:
    """A model of one layer whose outputs are followed by its inputs, and its matrix."""
    x = keras.Input((inputs,))
    dense = keras.layers.Dense(outputs, use_bias=False)
    model = keras.Model(x, keras.layers.Concatenate()([dense(x), x]))
    kernel = rng.normal(size=(inputs, outputs)).astype(np.float32)
    dense.set_weights([kernel])
    return model, kernel.astype(np.float64)


@pytest.mark.parametrize(("outputs", "limits"), [(1, 1), (1, 3), (3, 0), (3, 3), (14, 0)])
def test_on_a_linear_model_combinations_reach_the_linear_program_s_optimum(outputs, limits, rng):
    """The least of the best row where conditions are met, by a program of its own: the share of what is gained over the
    best row is above 0.8 of each of 20 samples, and 0.97 on average."""
    inputs, samples = 6, 20
    model, kernel = linear(inputs, outputs, rng)
    region = Box(np.full((samples, inputs), -1.0, np.float32), np.full((samples, inputs), 1.0, np.float32))
    asked, programs = [], []
    for _ in range(samples):
        own = np.concatenate([np.eye(outputs), np.zeros((outputs, inputs))], axis=1)
        cut = np.concatenate([np.zeros((limits, outputs)), rng.normal(size=(limits, inputs))], axis=1)
        offsets = rng.normal(size=outputs + limits)
        asked.append([Clause(np.concatenate([own, cut]), offsets)])
        rows = np.concatenate([kernel.T, cut[:, outputs:]])
        aims = np.concatenate([rows, np.repeat([[-1.0], [0.0]], [outputs, limits], axis=0)], axis=1)
        bounds = [(-1, 1)] * inputs + [(None, None)]
        programs.append(linprog(np.append(np.zeros(inputs), 1.0), aims, -offsets, bounds=bounds))
    stacked = Clauses.stack(asked)
    rows, combined = clause_bounds(network_of(model, region.lower), region, stacked, method="crown")
    alone, shares = stacked.settled(rows)[:, 0, :outputs].max(axis=1), []
    for sample, program in enumerate(programs):
        if program.status == 2:  # nothing meets the conditions
            assert combined[sample, 0] > 0
        else:
            assert combined[sample, 0] <= program.fun + 1e-4
            if program.fun > alone[sample] + 0.05:
                shares.append((combined[sample, 0] - alone[sample]) / (program.fun - alone[sample]))
    assert len(shares) >= 5 and min(shares) > 0.8 and np.mean(shares) > 0.97


def test_a_condition_proves_what_no_row_proves_alone(rng):
    """``y0 = z0 + z1`` is positive where ``z0 >= 0.5`` and ``z1 >= z0 - 0.8`` in the unit box around 0, by more than
    rounding takes: the margin is that of ``y0`` there."""
    x = keras.Input((2,))
    dense = keras.layers.Dense(1, use_bias=False)
    model = keras.Model(x, keras.layers.Concatenate()([dense(x), x]))
    dense.set_weights([np.ones((2, 1), np.float32)])
    region = Box(np.full((1, 2), -1.0, np.float32), np.full((1, 2), 1.0, np.float32))
    rows = row(1, 2, {0: 1.0}), row(1, 2, {1: -1.0}, 0.5), row(1, 2, {1: 1.0, 2: -1.0}, -0.8)
    network = network_of(model, region.lower)
    for method in ("ibp", "crown"):
        for count, least in ((1, -2.0), (2, -0.5), (3, 0.2)):
            asked = Clauses.stack([[clause(*rows[:count])]])
            (margin,), (lost,) = margins_of(network, region, asked, CertifyingMethod(method))
            assert margin == pytest.approx(least, abs=0.01)
            assert is_proof(margin, lost) == (least > 0)


def test_equal_rows_and_padding_add_nothing_and_take_nothing(rng):
    """A row three times, beside a sample of other clauses, is bounded as it is alone; what is padded stays out."""
    model = showing(seed=1)
    x = rng.normal(size=(2, 2)).astype(np.float32)
    network, region = network_of(model, x), around("box", x, 0.3)
    one = row(2, 2, {0: 1.0, 1: -1.0}, 0.2)
    asked = Clauses.stack([[clause(one, one, one)], [clause(row(2, 2, {0: 1.0})), clause(one)]])
    alone = Clauses.stack([[clause(one)], [clause(row(2, 2, {0: 1.0})), clause(one)]])
    together, lost = margins_of(network, region, asked, CertifyingMethod("crown"))
    separate, own = margins_of(network, region, alone, CertifyingMethod("crown"))
    np.testing.assert_allclose(together, separate, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(lost, own, rtol=1e-3, atol=1e-9)


def test_clauses_of_one_row_are_bounded_as_rows(rng):
    """Nothing is combined, and no pass is made for that."""
    model = showing(seed=2)
    x = rng.normal(size=(2, 2)).astype(np.float32)
    rows = np.concatenate([np.eye(2), np.zeros((2, 2))], axis=1)
    asked = Clauses.all_of(np.stack([rows, -rows]))
    network, region = network_of(model, x), around("linf", x, 0.2)
    found, combined = clause_bounds(network, region, asked)
    assert combined is None
    np.testing.assert_array_equal(found, lower_bounds(network, region, *asked.rows()))


def test_inputs_are_found_among_outputs_wherever_they_are_shown():
    x = keras.Input((2, 2, 1))
    flat = keras.layers.Flatten()(x)
    model = keras.Model(x, keras.layers.Concatenate()([keras.layers.Dense(2)(flat), flat]))
    network = network_of(model, np.zeros((1, 2, 2, 1), np.float32))
    np.testing.assert_array_equal(shown_inputs(network), [-1, -1, 0, 1, 2, 3])
    single = joint([Applied(network_of(showing(), np.zeros((1, 2), np.float32)), np.array([2, 0]))], 3, [1, 1])
    np.testing.assert_array_equal(shown_inputs(single), [-1, -1, 2, 0, 1, 1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_in_a_graph_bounds_are_those_found_step_by_step(dtype, rng):
    """Two samples with one clause of two rows, in the types of bounds and of branch and bound."""
    model = showing(seed=4)
    x = rng.normal(size=(2, 2)).astype(dtype)
    network, region = network_of(model, x.astype(np.float32)).astype(tf.as_dtype(dtype)), around("box", x, 0.4)
    asked = Clauses.stack([[clause(row(2, 2, {0: 1.0, 1: -1.0}), row(2, 2, {2: 1.0, 3: -0.5}, 0.1))]] * 2)
    found = [clause_bounds(network, region, asked, method="crown")]
    tf.config.run_functions_eagerly(False)
    found.append(clause_bounds(network, region, asked, method="crown"))
    for eager, graph in zip(*found, strict=True):
        np.testing.assert_allclose(eager, graph, rtol=1e-3, atol=1e-3)
