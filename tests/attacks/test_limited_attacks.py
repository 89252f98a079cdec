"""Attacks under conditions on inputs: witnesses meet them, and are found where hardly a point of the region does."""

import keras
import numpy as np
import pytest
from conditional import KINDS, around, clause, row, showing

from tfcert.attacks import falsify
from tfcert.attacks.conditions import condition_rows, different, limits, within_limits
from tfcert.clauses import Clauses
from tfcert.network.cache import network_of
from tfcert.sets.balls import Box


def thin(inputs: int = 6) -> tuple[keras.Model, Clauses, np.ndarray]:
    """A question that only a thin slice of the unit box answers: ``y0 > 0`` where the first numbers are within 1e-3 of
    each other and the others add up to nearly their most; with the rows of the conditions."""
    model = showing(inputs=inputs, outputs=1, hidden=4, seed=5)
    same = {inputs - inputs - k: v for k, v in ((inputs, 1.0), (inputs - 1, -1.0))}
    high = {-k: -1.0 for k in range(1, inputs - 1)}
    rows = [
        row(1, inputs, {0: 1.0}),
        row(1, inputs, same, -1e-3),
        row(1, inputs, {k: -v for k, v in same.items()}, -1e-3),
        row(1, inputs, high, 0.9 * (inputs - 2)),
    ]
    return model, Clauses.stack([[clause(*rows)]]), np.array([False, True, True, True])


def test_a_witness_is_found_in_a_slice_that_random_points_miss():
    """Of 20,000 random points none lies in the slice. The first row is broken everywhere: any point of it will do."""
    model, asked, conditions = thin()
    region = Box(np.full((1, 6), -1.0, np.float32), np.full((1, 6), 1.0, np.float32))
    points = region.sample(20_000)[:, 0]
    values = asked.take([0] * len(points)).values(np.asarray(model(points)))[:, 0]
    assert not (values[:, conditions] <= 0).all(axis=1).any()
    (every,) = different(limits(network_of(model, region.lower), asked))
    shifted = Clauses(asked.coefficients, asked.offsets - np.array([5.0, 0, 0, 0]))
    found = falsify(model, region, shifted, conditions=[every], steps=20, restarts=2)
    assert found.success[0] and every.holds(found.witness).all() and region.contains(found.witness).all()
    assert found.margin[0] <= 0


@pytest.mark.parametrize("kind", KINDS)
def test_witnesses_lie_in_the_region_and_meet_the_conditions(kind, rng):
    """Random questions whose first row is broken everywhere: what is left is to meet the conditions."""
    model = showing(inputs=4, outputs=2, seed=2)
    x = rng.normal(size=(6, 4)).astype(np.float32)
    region = around(kind, x, 0.5)
    asked = []
    for center in x:
        cut = rng.normal(size=(2, 4))
        near = center + 0.1 * rng.normal(size=4)
        limits_ = [row(2, 4, dict(enumerate(-c, start=2)), float(c @ near) - 0.02) for c in cut]
        asked.append([clause(row(2, 4, {0: 1.0}, -50.0), *limits_)])
    stacked = Clauses.stack(asked)
    (every,) = different(limits(network_of(model, x), stacked))
    found = falsify(model, region, stacked, conditions=[every], steps=5, restarts=1, points=4)
    assert found.success.all() and every.holds(found.witness).all() and region.contains(found.witness).all()


def test_conditions_are_rows_over_shown_inputs_in_clauses_with_others():
    model = showing(inputs=2, outputs=2)
    network = network_of(model, np.zeros((1, 2), np.float32))
    asked = Clauses.stack(
        [
            [
                clause(row(2, 2, {0: 1.0}), row(2, 2, {2: 1.0}, 3.0), row(2, 2, {0: 1.0, 3: 1.0})),
                clause(row(2, 2, {2: 1.0}), row(2, 2, {3: 1.0})),
            ],
            [clause(row(2, 2, {1: 1.0}))],
        ]
    )
    marks = condition_rows(network, asked)
    assert marks.sum() == 1 and marks[0, 0, 1]
    first, second = limits(network, asked)
    np.testing.assert_array_equal(first.rows[0, 1], [-1.0, 0.0])
    assert first.offsets[0, 1] == -3.0 and not second.rows.any()
    assert len(different([first, first, second])) == 1


def test_boxes_are_narrowed_to_what_any_clause_is_about():
    """``z0 >= 0.5`` in one clause and ``z0 >= 0.25`` in the other: everything below 0.25 is left out, and where one
    clause has no condition nothing is."""
    network = network_of(showing(), np.zeros((1, 2), np.float32))
    region = Box(np.zeros((2, 2), np.float32), np.ones((2, 2), np.float32))
    limited = [clause(row(2, 2, {0: 1.0}), row(2, 2, {2: -1.0}, end)) for end in (0.5, 0.25)]
    asked = Clauses.stack([limited, [limited[0], clause(row(2, 2, {1: 1.0}))]])
    narrower = within_limits(network, region, asked)
    np.testing.assert_allclose(narrower.lower, [[0.25, 0.0], [0.0, 0.0]], atol=1e-6)
    assert narrower.lower[0, 0] <= 0.25
    np.testing.assert_array_equal(narrower.upper, region.upper)
    np.testing.assert_array_equal(region.lower, np.zeros((2, 2)))
