"""Decisions about a set: equal to brute force for any clauses and sets."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from sweeps import sweep_but

from complete.brute_force import least_margin
from complete.questions import REGIONS, around, keeps_class, mlp, points, question
from tfcert.clauses import Clause, Clauses, keeps_label, misses_target
from tfcert.complete.search.decide import decide
from tfcert.complete.search.query import Solvers
from tfcert.network.cache import network_of
from tfcert.sets.balls import Box, LpBall
from tfcert.verdict import Guarantee, Outcome

pytestmark = pytest.mark.usefixtures("eager")

HOW = {
    "milp": {"ways": ("milp",)},
    "split": {"ways": ("split",)},
    "both": {"ways": ("split", "milp")},
}


def random_clauses(rng: np.random.Generator, shape: tuple[int, int], level: float) -> Clauses:
    return Clauses(rng.normal(size=(1, *shape, 3)), level + 0.3 * rng.normal(size=(1, *shape)))


SHAPES = [(1, 1), (3, 1), (2, 2), (1, 3)]
"""Clauses, and rows of each."""
USUAL = [*(("linf", shape) for shape in SHAPES), ("l1", (2, 2)), ("box", (3, 1))]


@pytest.mark.parametrize(("kind", "shape"), sweep_but(USUAL, itertools.product(["linf", "l1", "box"], SHAPES)))
def test_decisions_are_those_of_all_activation_patterns(kind, shape, cbc, rng):
    model, seen = mlp(2, 3, 3, 3, seed=4), set()
    x = rng.normal(size=(1, 2)).astype(np.float32)
    region = around(kind, x, 0.7)
    base = random_clauses(rng, shape, 0.0)
    worst = least_margin(model, region, base)
    for above in (0.05, 0.5, -0.05, -0.5):  # clauses moved so that the worst margin is known
        clauses = base.less(worst - above)
        for how in (HOW["milp"], HOW["split"]):
            query = question(model, region, clauses, bounds="interval")
            decision = decide(query, Solvers(cbc), **how)
            assert decision.outcome is (Outcome.VERIFIED if above > 0 else Outcome.FALSIFIED)
            if above > 0:
                assert decision.guarantee is Guarantee.NUMERIC or "milp" in how["ways"]
                assert decision.margin <= above + 1e-6 and decision.witness is None
                assert set(decision.proven) == set(range(shape[0]))
            else:
                assert region.contains(decision.witness[None])[0]
                assert decision.margin < 0 and decision.guarantee is Guarantee.REPLAYED
                assert clauses.margin(np.asarray(model(decision.witness[None])))[0] == decision.margin
            seen.add(decision.outcome)
    assert len(seen) == 2


@pytest.mark.parametrize("how", ["milp", "split"])
def test_a_margin_of_zero_is_neither_proven_nor_refuted(how, cbc):
    """Two equal outputs tie everywhere."""
    model = mlp(2, 3, 2, seed=1)
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([np.repeat(kernel[:, :1], 2, axis=1), np.repeat(bias[:1], 2)])
    x = np.zeros((1, 2), np.float32)
    decision = decide(question(model, LpBall(x, 0.5), keeps_class(model, x)), Solvers(cbc), **HOW[how])
    assert decision.outcome is Outcome.UNKNOWN and "within rounding" in decision.reason


@pytest.mark.parametrize("how", ["milp", "split"])
def test_a_margin_within_the_rounding_of_the_deployed_model_is_not_proven(how, cbc):
    """Margins that float64 is sure of, of models with outputs of about 1: in float32, a unit is 6e-8."""
    region, clauses, decisions = LpBall(np.zeros((1, 2), np.float32), 0.5), keeps_label(np.array([0]), 2), {}
    for wide, above in ((False, 2.0**-23), (True, 2.0**-17), (False, 2.0**-10)):
        model = mlp(2, 3, 2, seed=1)
        kernel = np.repeat(model.layers[-1].get_weights()[0][:, :1], 2, axis=1)
        model.layers[-1].set_weights([kernel, np.array([1.0 + above, 1.0])])
        network = network_of(model).astype(tf.float64 if wide else tf.float32)
        decisions[above] = decide(question(network, region, clauses), Solvers(cbc), **HOW[how])
    small, exact, large = decisions.values()
    assert small.outcome is Outcome.UNKNOWN and "within rounding" in small.reason
    assert exact.outcome is large.outcome is Outcome.VERIFIED
    assert exact.margin == pytest.approx(2.0**-17, rel=1e-4 if how == "split" else 1)
    assert 0 < exact.rounding < 1e-13 < 1e-8 < large.rounding < 1e-5


@pytest.mark.parametrize("kind", sweep_but(["linf", "l2"], REGIONS))
@pytest.mark.parametrize("how", ["milp", "split"])
def test_what_is_proven_no_sample_refutes(kind, how, cbc, rng):
    outcomes = set()
    for seed in range(4):
        model, x = mlp(3, 4, 4, 3, seed=seed), rng.normal(size=(1, 3)).astype(np.float32)
        for eps in (0.2, 3.0):
            region, clauses = around(kind, x, eps), keeps_class(model, x)
            decision = decide(question(model, region, clauses), Solvers(cbc), **HOW[how])
            outcomes.add(decision.outcome)
            if decision.outcome is Outcome.VERIFIED:
                xs = points(region, 300)
                margins = clauses.take([0] * len(xs)).margin(np.asarray(model(xs)))
                assert margins.min() >= decision.margin - 1e-4 and margins.min() > 0
    assert outcomes == {Outcome.VERIFIED, Outcome.FALSIFIED}


def test_curved_networks_are_never_decided_wrongly(cbc, rng):
    outcomes = []
    for seed in range(3):
        model, x = mlp(2, 3, 3, seed=seed, activation="tanh"), rng.normal(size=(1, 2)).astype(np.float32)
        for eps in (0.1, 0.6, 1.5):
            region, clauses = LpBall(x, eps), keeps_class(model, x)
            decision = decide(question(model, region, clauses), Solvers(cbc))
            xs = points(region, 500)
            sampled = clauses.take([0] * len(xs)).margin(np.asarray(model(xs))).min()
            assert decision.outcome is not Outcome.VERIFIED or sampled > 0
            assert decision.outcome is not Outcome.FALSIFIED or decision.margin < 0
            outcomes.append(decision.outcome)
    assert {Outcome.VERIFIED, Outcome.FALSIFIED} <= set(outcomes)


@pytest.mark.parametrize("how", ["milp", "split"])
def test_a_disjunction_holds_where_no_row_alone_does(how, cbc):
    """``argmax != target`` on a set where the two other classes take turns."""
    model = mlp(1, 2, 3, seed=0)
    hidden, outputs = np.array([[1.0, -1.0]]), np.array([[1.0, 0, 0], [0, 1.0, 0]])
    model.set_weights([hidden, np.zeros(2), outputs, np.array([0, 0, -0.1])])
    region, clauses = Box(np.full((1, 1), -1.0), np.full((1, 1), 1.0)), misses_target(np.array([2]), 3)
    whole = decide(question(model, region, clauses), Solvers(cbc), **HOW[how])
    assert whole.outcome is Outcome.VERIFIED and whole.margin <= 0.1 + 1e-6
    for row in range(2):
        alone = Clauses(clauses.coefficients[:, :, [row]], clauses.offsets[:, :, [row]] - 0.2)
        assert decide(question(model, region, alone), Solvers(cbc), **HOW[how]).outcome is Outcome.FALSIFIED


@pytest.mark.parametrize("how", ["milp", "split"])
def test_padded_clauses_are_decided_as_if_there_were_no_padding(how, cbc, rng):
    model, x = mlp(2, 3, 3, seed=3), rng.normal(size=(1, 2)).astype(np.float32)
    one = Clause(rng.normal(size=(1, 3)), np.array([3.0]))
    two = Clause(rng.normal(size=(2, 3)), np.array([2.0, 1.0]))
    padded = Clauses.stack([[one, two], [two]])
    region = LpBall(x, 0.5)
    for sample, kept in ((0, [one, two]), (1, [two])):
        alone = [Clauses.stack([[clause]]) for clause in kept]
        expected = min(least_margin(model, region, clauses) for clauses in alone)
        decision = decide(question(model, region, padded.take([sample]), bounds="interval"), Solvers(cbc), **HOW[how])
        assert (decision.outcome is Outcome.VERIFIED) == (expected > 0)


@pytest.mark.parametrize("how", ["milp", "split"])
def test_no_time_is_a_timeout_with_its_reason(how, cbc, rng):
    model, x = mlp(2, 3, 3, 3, seed=22), np.array([[0.3, -0.2]], np.float32)
    query = question(model, LpBall(x, 0.75), keeps_class(model, x), bounds="interval")
    decision = decide(query, Solvers(cbc, until=0.0), **HOW[how])
    assert decision.outcome is Outcome.TIMEOUT and "budget" in decision.reason


def test_what_is_said_of_a_search_that_ran_out_of_time_is_about_all_clauses(cbc, monkeypatch):
    """Its pieces are those of every clause, and the margin that of the worst, although the last was not looked at."""
    model, x = mlp(2, 3, 3, 3, seed=22), np.array([[0.3, -0.2]], np.float32)
    hard = keeps_class(model, x)
    twice = Clauses(hard.coefficients[:, [1, 1]], hard.offsets[:, [1, 1]])
    query = question(model, LpBall(x, 0.75), twice, bounds="interval")
    assert len(query.open) == 2
    now = iter([0.0] * 5 + [100.0] * 1000)
    solvers = Solvers(cbc, until=50.0)
    monkeypatch.setattr(type(solvers), "left", lambda _: 50.0 - next(now))
    decision = decide(query, solvers, ways=("neurons",))
    assert decision.outcome is Outcome.TIMEOUT and decision.work.pieces > 0
    assert f"pieces bounded: {decision.work.pieces}" in decision.reason
    told = float(decision.reason.split("at least ")[1].rstrip(")"))
    worst = min(float(query.lower[k].max()) for k in query.open)
    assert worst - 0.01 * abs(worst) <= told < 0
    assert all(decision.left.lower[k].max() >= query.lower[k].max() for k in query.open)
