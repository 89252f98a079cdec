"""Sets side by side in solvers and attacks: programs hold the members alone, and answers are those of brute force."""

from typing import Any

import numpy as np
import pytest

from complete.questions import mlp, question
from tfcert.attacks import falsify
from tfcert.clauses import Clause, Clauses
from tfcert.complete.encoding.encode import EncodingOptions
from tfcert.complete.encoding.sets import encode_set
from tfcert.complete.search.decide import decide
from tfcert.complete.search.query import Solvers
from tfcert.network.cache import network_of
from tfcert.network.joint import Applied, joint
from tfcert.sets.balls import LpBall
from tfcert.sets.side_by_side import SideBySide
from tfcert.verdict import Outcome


def ball(norm: str, size: int, rng: np.random.Generator) -> LpBall:
    return LpBall(rng.uniform(0, 1, (1, size)).astype("float32"), 0.5, norm)


@pytest.mark.parametrize(("one", "other"), [("l2", "l1"), ("l1", "linf"), ("l2", "linf")])
def test_a_program_holds_the_members_and_nothing_else(one, other, rng):
    sets = SideBySide([(ball(one, 2, rng), np.array([0, 1])), (ball(other, 2, rng), np.array([2, 3]))])
    encoding = encode_set(sets.astype("float64"), EncodingOptions(), False)
    program = encoding.builder.program((encoding.inputs[:0], np.zeros(0)))
    for point in sets.sample(30):
        assert program.violation(encoding.point(point[0].astype("float64"), program)) < 1e-6
    far = np.array(sets.center[0], "float64")
    far[1] += 0.49
    far[0] += 0.49 if one != "linf" else 0.0
    assert program.violation(encoding.point(far, program)) > 1e-2
    with pytest.raises(ValueError, match="no centre"):
        encode_set(sets, EncodingOptions(), True)


@pytest.mark.parametrize(("one", "other"), [("l2", "linf"), ("l1", "l2")])
def test_attacks_and_solvers_find_the_worst_pair_and_prove_that_there_is_none(one, other, cbc, rng, eager):
    model = mlp(2, 3, 1, seed=3)
    network = network_of(model)
    whole = joint([Applied(network, np.array([0, 1])), Applied(network, np.array([2, 3]))], 4)
    sets = SideBySide([(ball(one, 2, rng), np.array([0, 1])), (ball(other, 2, rng), np.array([2, 3]))])
    grids = [_members(side.sets) for side in sets.sides]
    values = [np.asarray(model(grid))[:, 0] for grid in grids]
    worst = float(values[0].min() - values[1].max())
    for above in (0.05, -0.05):
        clauses = Clauses.stack([[Clause(np.array([[1.0, -1.0]]), np.array([above - worst]))]])
        holds = decide(question(whole, sets, clauses), Solvers(cbc), ways=("split",))
        assert holds.outcome is (Outcome.VERIFIED if above > 0 else Outcome.FALSIFIED)
        attacked = falsify(whole, sets, clauses, holds=lambda o, _, c=clauses: ~(c.margin(o) < 0))
        assert bool(attacked.success[0]) is (above < 0)


def _members(sets: Any) -> np.ndarray:
    """Many members of a set of the plane, its border included."""
    ends = [np.linspace(sets.lower[0, i], sets.upper[0, i], 161) for i in (0, 1)]
    grid = np.stack(np.meshgrid(*ends), axis=-1).reshape(-1, 1, 2).astype("float32")
    return np.concatenate([sets.project(p) for p in grid])
