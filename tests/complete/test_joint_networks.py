"""Questions about two networks, or one at two points, decided as one: equal to brute force on each by itself."""

import itertools

import numpy as np
import pytest

from complete.brute_force import least_margin
from complete.questions import mlp, question
from tfcert.clauses import Clause, Clauses
from tfcert.complete.search.decide import decide
from tfcert.complete.search.query import Solvers
from tfcert.network.cache import network_of
from tfcert.network.joint import Applied, joint
from tfcert.sets.balls import Box
from tfcert.verdict import Outcome

pytestmark = pytest.mark.usefixtures("eager")


def single(row: list[float], offset: float) -> Clauses:
    return Clauses.stack([[Clause(np.array([row]), np.array([offset]))]])


@pytest.mark.parametrize(("ways", "same"), itertools.product([("milp",), ("split",)], [True, False]))
def test_a_difference_at_two_points_is_decided_as_the_two_ends_say(ways, same, cbc, rng):
    one = mlp(2, 3, 1, seed=3)
    other = one if same else mlp(2, 3, 1, seed=5)
    whole = joint([Applied(network_of(one), np.array([0, 1])), Applied(network_of(other), np.array([2, 3]))], 4, [0])
    center = rng.normal(size=(1, 4)).astype(np.float32)
    box = Box(center - 0.6, center + 0.6)
    halves = [Box(box.lower[:, part], box.upper[:, part]) for part in (slice(0, 2), slice(2, 4))]
    worst = least_margin(one, halves[0], single([1.0], 0.0)) + least_margin(other, halves[1], single([-1.0], 0.0))
    for above in (0.05, -0.05):
        clauses = single([1.0, -1.0, 0.0], above - worst)
        decision = decide(question(whole, box, clauses, bounds="crown"), Solvers(cbc), ways=ways)
        assert decision.outcome is (Outcome.VERIFIED if above > 0 else Outcome.FALSIFIED)


@pytest.mark.parametrize("ways", [("milp",), ("split",)])
def test_a_row_over_an_input_and_an_output_is_decided_as_all_patterns_say(ways, cbc, rng):
    """``2 f(z) - 3 z[0] + z[1]``: the shown inputs add to what a linear layer beside the network would compute."""
    model = mlp(2, 3, 1, seed=8)
    whole = joint([Applied(network_of(model), np.arange(2))], 2, [0, 1])
    box = Box(np.full((1, 2), -0.7, np.float32), np.full((1, 2), 0.9, np.float32))
    grid = np.stack(np.meshgrid(*[np.linspace(-0.7, 0.9, 201)] * 2), axis=-1).reshape(-1, 2).astype(np.float32)
    worst = float((2 * np.asarray(model(grid))[:, 0] - 3 * grid[:, 0] + grid[:, 1]).min())
    for above in (0.05, -0.05):  # the grid is finer than the least value is known
        decision = decide(question(whole, box, single([2.0, -3.0, 1.0], above - worst)), Solvers(cbc), ways=ways)
        assert decision.outcome is (Outcome.VERIFIED if above > 0 else Outcome.FALSIFIED)
