"""Common points of sets and conditions: found and checked, or proven not to be; anything else is said."""

import numpy as np
import pytest

from complete.questions import REGIONS, around
from tfcert.complete.search.feasible import common_points, require_common_points
from tfcert.errors import UsageError
from tfcert.sets.balls import Box
from tfcert.sets.conditions import Conditions


@pytest.mark.parametrize("kind", REGIONS)
def test_either_a_point_or_a_proof_beside_the_edge(kind, cbc, rng):
    """A condition that the set's farthest point along a direction meets by a hair has a point; one that it misses by a
    hair is proven to have none."""
    x = rng.normal(size=(1, 4)).astype(np.float32)
    sets = around(kind, x, 0.5)
    for _ in range(3):
        row = rng.normal(size=4)
        norm = {"box": 1, "linf": 1, "l2": 2, "l1": np.inf}[kind]
        farthest = 0.5 * np.linalg.norm(row, norm)
        for beside in (0.99, 1.01):
            conditions = Conditions(row[None, None], -(x @ row)[None] - beside * farthest)
            (found,) = common_points(sets, conditions, cbc)
            assert found.empty == (beside > 1) and (found.point is None) == (beside > 1)
            if found.point is not None:
                assert sets.contains(found.point[None]).all() and conditions.holds(found.point[None]).all()


def test_conditions_that_only_together_leave_nothing(cbc):
    """Each of three conditions cuts the unit square's middle, and any two have a common point."""
    sets = Box(np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32))
    rows = np.array([[1.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    offsets = np.array([-1.2, 0.5, 0.5])
    for pair in ([0, 1], [0, 2], [1, 2]):
        (found,) = common_points(sets, Conditions(rows[None, pair], offsets[None, pair]), cbc)
        assert found.point is not None
    (found,) = common_points(sets, Conditions(rows[None], offsets[None]), cbc)
    assert found.empty and found.point is None


def test_equations_are_solved_and_strict_ones_need_room(cbc):
    sets = Box(np.zeros((1, 3), np.float32), np.ones((1, 3), np.float32))
    rows = np.array([[[1.0, -3.0, 0.0], [-1.0, 3.0, 0.0]]])
    (found,) = common_points(sets, Conditions(rows, np.zeros((1, 2))), cbc)
    assert found.point is not None and Conditions(rows, np.zeros((1, 2))).holds(found.point[None]).all()
    both = np.ones((1, 2), bool)
    (found,) = common_points(sets, Conditions(rows, np.zeros((1, 2)), both), cbc)
    assert found.point is None and not found.empty and found.reason


def test_an_equation_that_only_exact_numbers_solve_has_a_point(cbc):
    """0.1 is no float: ``z0 == 0.1 z1`` with ``z1 >= 0.5`` has solutions, none of them in float32."""
    sets = Box(np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32))
    rows = np.array([[[1.0, -0.1], [-1.0, 0.1], [0.0, 1.0]]])
    conditions = Conditions(rows, np.array([[0.0, 0.0, -0.5]]))
    (found,) = common_points(sets, conditions, cbc)
    assert found.point is not None and not found.exact and not found.empty
    np.testing.assert_allclose(found.point[0], 0.1 * found.point[1], rtol=1e-6)


def test_an_equation_that_leaves_the_set_in_a_corner_is_solved_within_it(cbc):
    """``z1 == z0 - 1.1`` of normalised numbers: the least breach is met in a corner, where rounding leaves the set."""
    sets = Box(np.array([[-0.1, -0.8]], np.float32), np.array([[0.7, 0.8]], np.float32))
    rows = np.array([[[-1.0, 1.0], [1.0, -1.0]]])
    (found,) = common_points(sets, Conditions(rows, np.array([[1.1, -1.1]])), cbc)
    assert found.point is not None and sets.contains(found.point[None]).all()
    np.testing.assert_allclose(found.point[0] - 1.1, found.point[1], rtol=1e-6)
    (found,) = common_points(sets, Conditions(rows, np.array([[1.6, -1.6]])), cbc)
    assert found.empty


def test_fixed_numbers_decide_a_condition(cbc):
    sets = Box(np.array([[0.25, 0.0]], np.float32), np.array([[0.25, 1.0]], np.float32))
    for offset, empty in ((-0.25, False), (-0.2501, True)):
        (found,) = common_points(sets, Conditions(np.array([[[1.0, 0.0]]]), np.array([[offset]])), cbc)
        assert found.empty == empty and (found.point is None) == empty


def test_nothing_is_claimed_of_an_empty_region():
    sets = Box(np.zeros((2, 2), np.float32), np.ones((2, 2), np.float32))
    rows = np.tile(np.array([[[1.0, 1.0]]]), (2, 1, 1))
    good = Conditions(rows, np.array([[-1.0], [-1.9]]))
    points = require_common_points(sets, good, "older")
    assert points.shape == (2, 2) and good.holds(points).all()
    with pytest.raises(UsageError, match="older: no input of the region of sample 7 meets"):
        require_common_points(sets, Conditions(rows, np.array([[-1.0], [-2.1]])), "older", [3, 7])
    edge = Conditions(rows, np.array([[-1.0], [-2.0]]), np.ones((2, 1), bool))
    with pytest.raises(UsageError, match="nor is it proven that there is none"):
        require_common_points(sets, edge, "older")


def test_a_condition_that_always_holds_restricts_nothing(cbc):
    sets = Box(np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32))
    (found,) = common_points(sets, Conditions(np.zeros((1, 1, 2)), np.ones((1, 1))), cbc)
    np.testing.assert_array_equal(found.point, [0.5, 0.5])
