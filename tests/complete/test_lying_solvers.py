"""Solvers that lie: no lie becomes a verdict or a bound that is wrong."""

import functools
from pathlib import Path

import keras
import numpy as np
import pytest
from sweeps import sweep_but

from complete.brute_force import least_distance, least_margin
from complete.questions import keeps_class, mlp, question, search_around
from complete.stubs import liar
from tfcert import minimum_perturbation
from tfcert.clauses import Clauses
from tfcert.complete.search.decide import Decision, decide
from tfcert.complete.search.minimum import Minimum, NearestSearch, minimum, plain_minimum
from tfcert.complete.search.query import Query, Solvers
from tfcert.complete.solver.process import SolverProcess
from tfcert.sets.balls import LpBall
from tfcert.verdict import Guarantee, Outcome

pytestmark = pytest.mark.usefixtures("eager")

X = np.array([[0.3, -0.2]], np.float32)
BROKEN, WHOLE = 1.0, 0.75
"""Radii at which the model below is not robust, and at which it is but only an integer program shows it."""

LIES = {
    "calls what is feasible infeasible": "found |= {'status': 'infeasible', 'bound': None, 'objective': None}\n"
    "for name in ('v0', 'prices0'): arrays.pop(name, None)",
    "finds an optimum without a point": "found |= {'status': 'optimal', 'bound': 1.0, 'objective': 1.0}\n"
    "for name in ('v0', 'prices0'): arrays.pop(name, None)",
    "claims more than its point has": "found |= {'status': 'optimal', 'bound': 0.5, 'objective': 0.5}",
    "claims a huge optimum": "found |= {'status': 'optimal', 'bound': 1e9, 'objective': 1e9}",
    "claims a bound above its solution": "found |= {'status': 'optimal', 'bound': (found['objective'] or 0) + 0.5}",
    "gives a point outside": "arrays['v0'] = program.upper + 1.0",
    "gives the corner as point": "arrays['v0'] = program.upper.copy()\nfound |= {'status': 'optimal', 'bound': 0.5, "
    "'objective': 0.5}",
    "gives zeros as point": "arrays['v0'] = np.zeros(len(program.lower))\nfound |= {'status': 'optimal', "
    "'bound': 0.5, 'objective': 0.5}",
    "gives up with a bound that the centre refutes": "found |= {'status': 'limit', 'bound': 1e6, 'objective': None}\n"
    "arrays.pop('v0', None)",
    "inflates its prices": "arrays['prices0'] = -1e18 * np.ones(len(program.right) + len(arrays['tangents']))",
    "invents prices": "arrays['prices0'] = np.random.default_rng(0).normal(size=len(program.right))",
}


@functools.cache
def model() -> keras.Model:
    return mlp(2, 3, 3, 3, seed=22)


def asked(eps: float) -> Query:
    return question(model(), LpBall(X, eps), keeps_class(model(), X), bounds="interval")


def decided(
    process: SolverProcess, eps: float, others: tuple[SolverProcess, ...] = (), ways: tuple[str, ...] = ("milp",)
) -> Decision:
    return decide(asked(eps), Solvers(process, others), ways=ways)


@functools.cache
def true_distance() -> float:
    return least_distance(model(), X[0], keeps_class(model(), X), "linf")


def test_the_two_radii_are_what_they_are_said_to_be(cbc):
    net = model()
    clauses: Clauses = keeps_class(net, X)
    assert least_margin(net, LpBall(X, BROKEN), clauses) < 0 < least_margin(net, LpBall(X, WHOLE), clauses)
    assert WHOLE < true_distance() < BROKEN
    assert decided(cbc, BROKEN).outcome is Outcome.FALSIFIED
    proof = decided(cbc, WHOLE)
    assert proof.outcome is Outcome.VERIFIED and proof.guarantee is Guarantee.SOLVER


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_no_lie_decides_wrongly(lie, tmp_path):
    """Where there is a witness nothing is proven, where there is none nothing is refuted."""
    with liar(tmp_path, lie) as process:
        broken, whole = decided(process, BROKEN), decided(process, WHOLE)
    assert broken.outcome is not Outcome.VERIFIED
    assert whole.outcome is not Outcome.FALSIFIED
    assert broken.outcome is Outcome.FALSIFIED or broken.reason
    if broken.witness is not None:
        assert asked(BROKEN).judge.margin(broken.witness) < 0


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_branch_and_bound_believes_no_solver(lie, tmp_path):
    """What it asks a solver for are prices and points, and these are checked: a liar cannot give it a proof."""
    with liar(tmp_path, lie) as process:
        broken, whole = decided(process, BROKEN, ways=("split",)), decided(process, WHOLE, ways=("split",))
    assert broken.outcome is not Outcome.VERIFIED and whole.outcome is not Outcome.FALSIFIED
    assert whole.outcome is not Outcome.VERIFIED or whole.guarantee is Guarantee.NUMERIC
    assert broken.witness is None or asked(BROKEN).judge.margin(broken.witness) < 0


def searched(process: SolverProcess, search: str, known: bool) -> tuple[Minimum, float]:
    """A minimum by one of the searches, with a witness to begin with or without; and the true one."""
    how = {"guided": minimum, "plain": plain_minimum}[search]
    return how(the_search(known), Solvers(process)), true_distance()


def the_search(known: bool) -> NearestSearch:
    return search_around(model(), LpBall(X, BROKEN), known=known, bounds="interval")


@pytest.mark.parametrize("search", ["guided", "plain"])
@pytest.mark.parametrize("lie", [None, *LIES.values()], ids=["honest", *LIES])
def test_no_lie_lifts_a_minimum_above_the_truth(lie, search, tmp_path):
    """With a witness to begin with, and without."""
    with SolverProcess() if lie is None else liar(tmp_path, lie) as process:
        for known in (True, False):
            found, truth = searched(process, search, known)
            assert_within(found, truth, lie is None, known)


def assert_within(found: Minimum, truth: float, honest: bool, known: bool) -> None:
    assert found.lower <= truth * (1 + 1e-6)
    assert found.upper >= truth * (1 - 1e-6)
    assert found.witness is None or asked(BROKEN).judge.margin(found.witness) < 0
    assert found.optimal(1e-5) or found.reason
    if honest:
        assert found.optimal(1e-5)
    if known:
        assert found.witness is not None


CONSISTENT = """
if not relax and found["status"] == "optimal":
    # Fixed at the centre, which is a point of the program: solved again, it is the "optimum".
    import dataclasses
    x = np.array({center})
    lower, upper = program.lower.copy(), program.upper.copy()
    lower[:2] = upper[:2] = x
    again = dataclasses.replace(program, lower=lower, upper=upper)
    inner, data = answer(header, again.to_bytes())
    reply, arrays = inner, unpack(data)
"""
"""A worse point of the program with its own value, called optimal: as default CBC was seen to do."""


def consistent(folder: Path) -> SolverProcess:
    return liar(folder, CONSISTENT.format(center=X[0].astype(float).tolist()))


def test_a_consistent_liar_is_believed_alone_but_not_against_a_second_solver(tmp_path, cbc):
    """Nothing in one answer betrays a worse point that is called optimal: that is what ``confirm`` is for."""
    with consistent(tmp_path) as process:
        alone = decided(process, BROKEN)
        confirmed = decided(process, BROKEN, (cbc,))
    assert alone.outcome is not Outcome.VERIFIED or alone.guarantee is Guarantee.SOLVER
    assert confirmed.outcome is Outcome.FALSIFIED


@pytest.mark.parametrize("search", ["guided", "plain"])
def test_a_witness_betrays_a_consistent_liar(search, tmp_path):
    """A distance at which it swears that nothing is broken, with a witness nearer than that."""
    lie = """
    if not relax and found["objective"] is not None:
        v = arrays["v0"]
        found |= {"status": "optimal", "bound": float(program.objective @ program.upper + program.constant)}
        found["objective"] = found["bound"]
    """
    with liar(tmp_path, lie) as process:
        found, truth = searched(process, search, known=True)
    assert found.lower <= truth * (1 + 1e-6) and found.reason


def test_solvers_that_disagree_leave_a_plain_minimum_open(tmp_path, cbc):
    search = the_search(known=False)
    # Twice the distance, consistently: every distance is confined to at least 0.9 of the ball.
    lie = """
    import dataclasses
    if not relax and found["status"] == "optimal" and program.objective[2] == 1:
        lower = program.lower.copy()
        lower[2] = 0.9
        inner, data = answer(header, dataclasses.replace(program, lower=lower).to_bytes())
        reply, arrays = inner, unpack(data)
    """
    with liar(tmp_path, lie) as process:
        alone = plain_minimum(search, Solvers(process))
        confirmed = plain_minimum(search, Solvers(process, (cbc,)))
    truth = true_distance()
    assert alone.guarantee is Guarantee.SOLVER or alone.lower <= truth
    assert confirmed.lower <= truth * (1 + 1e-6) and confirmed.reason
    assert confirmed.witness is None or asked(BROKEN).judge.margin(confirmed.witness) < 0


@pytest.mark.parametrize("search", sweep_but(["milp"], ["split", "milp"]))
def test_the_whole_search_for_minima_survives_a_liar(search, tmp_path, monkeypatch):
    """From the public function, with its attack: the witness stands, and nothing is claimed below it."""
    net = model()
    y = np.asarray(net(X)).argmax(axis=-1)
    with liar(tmp_path, LIES["calls what is feasible infeasible"]) as process:
        monkeypatch.setattr("tfcert.complete.solver.process.COMMAND", process._command)
        # Branch and bound goes on without the solver until its time is up.
        limit = 8 if search == "split" else None
        found = minimum_perturbation(net, X, y, upper=BROKEN, search=search, time_limit=limit)
    truth = true_distance()
    assert found.lower[0] <= truth <= found.upper[0] < np.inf
    assert search == "split" or (not found.optimal[0] and "known solution" in found.reason[0])
