"""Cuts of inputs of random tiny networks against exact answers, for every form that a question may have."""

import numpy as np
import pytest

from complete.brute_force import least_margin
from complete.questions import mlp
from tfcert.clauses import Clause, Clauses
from tfcert.complete.encoding.piecewise import flatten
from tfcert.complete.search.builder import QueryBuilder
from tfcert.complete.search.decide import decide
from tfcert.complete.search.query import Solvers
from tfcert.complete.search.witness import Judge
from tfcert.complete.solver.process import SolverProcess
from tfcert.network.cache import network_of
from tfcert.sets.balls import Box
from tfcert.verdict import Outcome

FORMS = {"one": [1], "several": [1, 1, 1], "either": [3], "both": [2, 1, 3]}
"""Rows of each clause."""


def drawn(rng, form, fixed):
    """A network, all of one structure, a box in which the first inputs are fixed, and clauses of random rows."""
    model = mlp(2, 4, 3, 2, seed=int(rng.integers(1 << 30)))
    low = rng.uniform(-1, 0.2, 2).astype(np.float32)
    high = np.where(np.arange(2) < fixed, low, low + rng.uniform(0.2, 1.5, 2)).astype(np.float32)
    rows = [rng.normal(size=(count, 2)) for count in FORMS[form]]
    return model, Box(low[None], high[None]), rows


def moved(rows, by):
    return Clauses.stack([[Clause(part, np.full(len(part), by)) for part in rows]])


@pytest.mark.parametrize("fixed", [0, 1])
@pytest.mark.parametrize("form", FORMS)
def test_answers_are_the_exact_ones_on_either_side_of_the_least_margin(form, fixed):
    """Catches a clause, a row or a part of the box that is left out, weights of the network before, and sides of no
    width that are cut."""
    rng = np.random.default_rng([fixed, *FORMS[form]])
    for _ in range(2):
        model, region, rows = drawn(rng, form, fixed)
        least = least_margin(model, region, moved(rows, 0.0))
        for above, expected in ((0.02, Outcome.VERIFIED), (-0.02, Outcome.FALSIFIED)):
            builder = QueryBuilder(flatten(network_of(model)), model, combine=False)
            asked = builder.untightened(region.astype(np.float64), Judge(model, region, moved(rows, above - least)))
            found = decide(asked, Solvers(SolverProcess()), ways=("inputs",))
            assert found.outcome is expected
            assert found.outcome is Outcome.FALSIFIED or 0 < found.margin <= above + 1e-5
            if found.witness is not None:
                assert region.contains(found.witness[None]).all()
