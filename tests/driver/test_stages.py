"""A stage that asks a solver: one sample at a time, in its time, and never on its word alone."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from fractions import Fraction

import numpy as np
import pytest

from tfcert.driver.property import Clock
from tfcert.driver.stages.complete import SOLVERS
from tfcert.verdict import Guarantee, Outcome

MEASURE = """\
strategy search = {stages}
measure radius(x, y in test) = {extremum} r in [0, 1] tol {tol} such that
  {quantifier} z in ball(x, {norm}, r) within [0, 1] in net: argmax(clf(z)) {operator} y
  using search
"""


def measure(stages, norm="linf", smallest=False, tol="1%"):
    extremum, quantifier, operator = ("smallest", "exists", "!=") if smallest else ("largest", "forall", "==")
    return MEASURE.format(
        stages=stages, norm=norm, tol=tol, extremum=extremum, quantifier=quantifier, operator=operator
    )


@dataclasses.dataclass(frozen=True)
class Said:
    """What a stub answers."""

    outcome: Outcome = Outcome.UNKNOWN
    reason: str = "undecided"
    margin: float = math.nan
    witness: np.ndarray | None = None
    guarantee: Guarantee = Guarantee.SOLVER
    lower: float = 0.0
    rounding: float = 0.0


class Stub:
    """A solver that says what it is told to, and remembers what it was asked."""

    def __init__(self, say):
        self.say, self.asked, self.seconds, self.closed = say, [], [], 0

    @contextlib.contextmanager
    def opened(self, task, stage, _):
        self.stage = stage
        try:
            yield self
        finally:
            self.closed += 1

    def _answer(self, sample, seconds, *known):
        assert len(sample) == 1
        self.asked.append(int(sample.task.samples[0]))
        self.seconds.append(seconds)
        return self.say(sample, *known) if callable(self.say) else self.say

    def decide(self, sample, seconds, tell):
        return self._answer(sample, seconds)

    def nearest(self, sample, start, seconds):
        return self._answer(sample, seconds, start.witness, start.proven)


@pytest.fixture
def solver(monkeypatch):
    """Makes ``milp`` a stage that asks a stub."""

    def install(say) -> Stub:
        stub = Stub(say)
        monkeypatch.setattr("tfcert.driver.bind.require_names", lambda *_: None)
        monkeypatch.setitem(SOLVERS, "milp", stub.opened)
        return stub

    return install


@pytest.fixture
def misclassified(classifier):
    """A point of a sample's region that gets another class."""

    def find(sample):
        points = sample.regions.witness.sample(20_000)[:, 0]
        wrong = np.asarray(classifier(points)).argmax(axis=1) != sample.task.labels[0]
        return points[wrong][0]

    return find


def found(report, name="robust"):
    return {r.sample: r for r in report.records if r.property == name and r.verdict.stage != "clean"}


PROOF = Said(Outcome.VERIFIED, "", 0.5)


def test_a_solver_s_proof_is_recorded_as_its_word(run, margins, solver):
    margins(-0.25)
    stub = solver(PROOF)
    records = found(run("crown -> milp(gap=1%)"))
    assert len(records) == 7 and stub.closed == 2  # two batches
    for record in records.values():
        assert record.outcome is Outcome.VERIFIED and record.verdict.guarantee is Guarantee.SOLVER
        assert (record.verdict.stage, record.verdict.method, record.verdict.margin) == ("milp", "milp", 0.5)
    assert stub.stage.option("gap") == Fraction(1, 100)


def test_a_relaxation_s_proof_inside_a_solver_stays_numeric(run, margins, solver):
    margins(-0.25)
    solver(dataclasses.replace(PROOF, guarantee=Guarantee.NUMERIC))
    assert {r.verdict.guarantee for r in found(run("crown -> milp")).values()} == {Guarantee.NUMERIC}


@pytest.mark.parametrize(
    "said",
    [
        dataclasses.replace(PROOF, margin=math.nan),
        dataclasses.replace(PROOF, margin=math.inf),
        dataclasses.replace(PROOF, margin=0.0),
        dataclasses.replace(PROOF, margin=-1.0),
        dataclasses.replace(PROOF, guarantee=Guarantee.ESTIMATE),
        dataclasses.replace(PROOF, guarantee=Guarantee.REAL),
        Said(Outcome.FALSIFIED, ""),
        Said(Outcome.UNKNOWN, "", 3.0),
    ],
)
def test_an_answer_that_proves_nothing_is_unknown(run, margins, solver, said):
    margins(-0.25)
    solver(said)
    for record in found(run("crown -> milp")).values():
        assert record.outcome is Outcome.UNKNOWN and record.verdict.guarantee is Guarantee.ESTIMATE
        assert record.verdict.reason == "the solver's answer proves nothing" and record.verdict.margin == -0.25


@pytest.mark.parametrize("outcome", [Outcome.UNKNOWN, Outcome.TIMEOUT])
def test_why_a_solver_failed_is_the_reason_of_the_verdict(run, margins, solver, outcome):
    margins(-0.25)
    solver(Said(outcome, "the solver's process ended with code 9"))
    for record in found(run("crown -> milp")).values():
        assert (record.outcome, record.verdict.stage) == (outcome, "milp")
        assert record.verdict.reason == "the solver's process ended with code 9"


def test_a_solver_s_witness_counts_once_it_replays(run, folder, margins, solver, misclassified, classifier):
    margins(-0.25)
    solver(lambda sample: Said(Outcome.FALSIFIED, "", -1.0, misclassified(sample)))
    report = run("crown -> milp", params={"eps": "1/2"})
    for record in found(report).values():
        assert record.outcome is Outcome.FALSIFIED and record.verdict.guarantee is Guarantee.REPLAYED
        with np.load(folder / "out" / record.witness) as saved:
            outputs = np.asarray(classifier(saved["witness"][None]))[0].astype(float)
        assert outputs.argmax() != record.label
        others = np.delete(outputs, int(record.label))
        assert record.verdict.margin == pytest.approx(outputs[int(record.label)] - others.max(), abs=1e-6)


@pytest.mark.parametrize("shift", [0.0, 5.0, np.nan])
@pytest.mark.parametrize("outcome", [Outcome.VERIFIED, Outcome.FALSIFIED])
def test_a_solver_s_witness_that_does_not_replay_is_spurious_whatever_it_says(run, margins, solver, shift, outcome):
    margins(-0.25)
    solver(lambda sample: Said(outcome, "", 1.0, sample.regions.witness.center[0] + np.float32(shift)))
    for record in found(run("crown -> milp")).values():
        assert record.outcome is Outcome.UNKNOWN and "spurious witness" in record.verdict.reason


def test_a_solver_is_asked_about_survivors_only_nearest_to_a_proof_first(run, monkeypatch, solver):
    margins = iter([-0.3, 1.0, -0.1, -0.2, math.nan, 2.0, -0.4])

    def bounds(network, perturbation, coefficients, offsets, **_):
        return np.full(offsets.shape, 1.0) * np.array([next(margins) for _ in offsets])[:, None]

    monkeypatch.setattr("tfcert.driver.batch.lower_bounds", bounds)
    stub = solver(PROOF)
    records = found(run("crown -> milp", blocks="batch: 8"))
    left = [s for s, r in records.items() if r.verdict.stage == "milp"]
    order = sorted(records)
    assert stub.asked == [order[i] for i in (2, 3, 0, 6, 4)] and sorted(stub.asked) == sorted(left)


def test_a_witness_against_a_solver_s_proof_blames_the_solver(run, margins, solver):
    margins(-0.25)
    solver(PROOF)
    report = run("milp -> pgd", measure("crown"), params={"eps": "3/20"})
    records = found(report)
    against = [r for r in records.values() if r.verdict.contradicted is Guarantee.SOLVER]
    assert against and all(r.outcome is Outcome.FALSIFIED and r.verdict.stage == "pgd" for r in against)
    assert all(r.verdict.reason.startswith("milp proved with margin 0.5") for r in against)
    assert all(r.verdict.reason.endswith("the solver's word was wrong") for r in against)
    # Whatever else rests on its word is open again, and the rest of the run stands.
    others = [r for r in records.values() if r not in against]
    assert others and {r.outcome for r in others} == {Outcome.UNKNOWN}
    assert all(r.verdict.reason.startswith("rests on a solver's word, which was wrong about robust[") for r in others)
    assert any("confirm" in note and f"witness: {len(against)} (" in note for note in report.notes)


def test_a_solver_s_proof_falsifies_what_some_input_should_do(run, margins, solver):
    margins(-0.25)
    solver(PROOF)
    text = "property some(x, y in test) using plan { exists z in ball(x, linf, eps) in net: argmax(clf(z)) != y }"
    records = found(run("crown -> milp", text), "some")
    assert {(r.outcome, r.verdict.guarantee, r.verdict.margin) for r in records.values()} == {
        (Outcome.FALSIFIED, Guarantee.SOLVER, -0.5)
    }


@pytest.mark.parametrize(
    ("stage", "budget", "most"),
    [
        ("milp", "", None),
        ("milp(time_limit=5s)", "", 5.0),
        ("milp(time_limit=5s)", "budget: 2s per sample", 2.0),
        ("milp", "budget: 2s per sample", 2.0),
        ("milp(time_limit=1s)", "budget: 1h per sample, 2h total", 1.0),
        ("milp", "budget: 1h total", 3600.0),
    ],
)
def test_a_solver_is_told_how_long_it_may_take(run, solver, stage, budget, most):
    stub = solver(PROOF)
    run(stage, blocks=f"batch: 8 {budget}")
    assert len(stub.seconds) == 7
    assert all(s is None for s in stub.seconds) if most is None else max(stub.seconds) <= most
    assert most is None or min(stub.seconds) > most - 1


def test_samples_that_a_solver_has_no_time_left_for_time_out(run, margins, solver):
    margins(-0.25)

    def slow(sample):
        time.sleep(0.2)
        return PROOF

    stub = solver(slow)
    records = found(run("crown -> milp", blocks="batch: 8 budget: 0.3s total"))
    late = [r for r in records.values() if r.outcome is Outcome.TIMEOUT]
    assert len(stub.asked) + len(late) == 7 and len(late) >= 4
    assert all("0.3 s is used up before stage milp" in r.verdict.reason for r in late)
    assert all(r.verdict.margin == -0.25 for r in late)


def test_a_solver_is_closed_when_it_fails(run, solver):
    def fail(sample):
        raise RuntimeError("a bug")

    stub = solver(fail)
    with pytest.raises(RuntimeError, match="a bug"):
        run("milp")
    assert stub.closed == 1


def test_what_remains_is_the_least_of_both_budgets_and_never_negative():
    assert Clock().remaining(3.0) is None
    assert Clock(Fraction(2)).remaining(0.5) == 1.5
    assert Clock(Fraction(2)).remaining(3.0) == 0.0
    assert Clock(Fraction(2), Fraction(1)).remaining(0.5) == pytest.approx(1.0, abs=0.1)
    assert Clock(None, Fraction(1), time.monotonic() - 5).remaining(0.0) == 0.0


# Measures


def test_a_solver_of_a_measure_begins_with_what_bounds_and_attacks_know(run, solver, classifier, samples):
    told = {}

    def remember(sample, witness, proven):
        told[int(sample.task.samples[0])] = (sample.regions.proof.eps[0], witness, proven)
        return Said(reason="")

    solver(remember)
    text = 'prop 1\nmodel clf = keras("clf.keras")\ndataset test = npz("test.npz") { scale: 1/2 }\n'
    text += measure("pgd -> crown -> milp").replace("[0, 1]", "[0, 2]").replace("in net", "in raw")
    records = found(run(text=text, bindings={"test": (2 * samples[0], samples[1])}), "radius")
    assert told.keys() == records.keys() and len(told) == 7
    for sample, (eps, witness, proven) in told.items():
        measured = records[sample].measured
        assert eps == pytest.approx(measured.upper / 2, rel=1e-12)  # a radius of 2 in raw space is 1 for the network
        assert proven == measured.lower / 2 > 0
        assert np.asarray(classifier(witness[None])).argmax() != records[sample].label


@pytest.mark.parametrize("smallest", [False, True])
def test_a_solver_s_distance_raises_what_is_proven_up_to_it(run, solver, smallest):
    stub = solver(lambda sample, witness, proven: Said(lower=0.001))
    before = found(run("ibp", measure("crown", smallest=smallest)), "radius")
    weak = found(run("ibp", measure("ibp -> milp", smallest=smallest)), "radius")
    assert len(stub.asked) == 7 and before.keys() == weak.keys()
    raised = [s for s, r in weak.items() if r.verdict.guarantee is Guarantee.SOLVER]
    for record in weak.values():
        assert record.measured.lower >= math.nextafter(0.001, 0)
        if record.sample in raised:
            assert record.measured.lower < 0.001 + 1e-12 and record.verdict.stage == "milp"
        else:
            assert record.verdict.guarantee is Guarantee.NUMERIC and record.verdict.stage == "ibp"


def test_a_solver_that_finds_nothing_up_to_the_end_proves_all_of_it(run, margins, solver):
    margins(-0.25)
    solver(lambda sample, witness, proven: Said(lower=float(sample.regions.proof.eps[0])))
    records = found(run("ibp", measure("crown -> milp")), "radius")
    assert {(r.measured.lower, r.verdict.guarantee) for r in records.values()} == {(1.0, Guarantee.SOLVER)}
    assert {r.verdict.reason for r in records.values()} == {""}  # why the solver stopped is of no interest


def test_a_solver_s_nearer_witness_lowers_what_is_refuted(run, margins, solver, misclassified, samples):
    margins(-0.25)
    points = {}

    def near(sample, witness, proven):
        assert witness is None and proven == 0.0
        points[int(sample.task.samples[0])] = misclassified(sample)
        return Said(witness=points[int(sample.task.samples[0])])

    solver(near)
    for sample, record in found(run("ibp", measure("crown -> milp", "l2")), "radius").items():
        distance = np.linalg.norm(points[sample].astype(float) - samples[0][sample].astype(float))
        assert record.measured.upper == pytest.approx(distance, rel=1e-6) and record.measured.upper >= distance
        assert record.outcome is Outcome.UNKNOWN and record.witness is not None
        assert record.verdict.reason == "undecided"


def test_a_solver_s_distance_beyond_a_witness_is_not_believed(run, margins, solver):
    margins(-0.25)
    solver(lambda sample, witness, proven: Said(lower=0.99))
    records = found(run("ibp", measure("pgd -> crown -> milp")), "radius")
    refuted = [r for r in records.values() if r.measured.upper < 0.99]
    assert refuted
    for record in refuted:
        assert math.isnan(record.measured.lower) and record.outcome is Outcome.UNKNOWN
        assert record.verdict.contradicted is Guarantee.SOLVER and record.witness is not None
        assert (
            record.verdict.reason.startswith("milp certified up to 0.9") and "word was wrong" in record.verdict.reason
        )
    # Nor is it believed of the others.
    assert all(math.isnan(r.measured.lower) for r in records.values())


@pytest.mark.parametrize(
    "said",
    [
        Said(lower=math.nan),
        Said(lower=math.inf),
        Said(lower=-1.0),
        Said(lower=0.5, guarantee=Guarantee.ESTIMATE),
        Said(witness=np.full(4, np.nan, np.float32)),
        Said(witness=np.full(4, 7.0, np.float32)),
    ],
)
def test_a_distance_that_makes_no_sense_changes_nothing(run, margins, solver, said):
    margins(-0.25)
    solver(lambda sample, witness, proven: said)
    for record in found(run("ibp", measure("crown -> milp")), "radius").values():
        assert record.outcome is Outcome.UNKNOWN and record.verdict.reason == "undecided"
        assert math.isnan(record.measured.lower) and math.isnan(record.measured.upper)


def test_a_solver_s_witness_below_a_certified_value_is_what_counts(run, solver, monkeypatch, misclassified):
    monkeypatch.setattr("tfcert.driver.batch.lower_bounds", lambda n, p, c, d, **_: np.full(d.shape, 0.95 - p.eps[0]))
    solver(lambda sample, witness, proven: Said(witness=misclassified(sample)))
    records = found(run("pgd", measure("crown -> milp"), blocks="batch: 1"), "radius").values()
    against = [r for r in records if r.verdict.contradicted is Guarantee.NUMERIC]
    assert against and not any(r.measured.upper < r.measured.lower for r in records)
    for record in against:
        assert math.isnan(record.measured.lower) and record.measured.upper < 0.95
        assert record.verdict.reason.startswith("crown certified up to 0.") and record.outcome is Outcome.UNKNOWN


def test_a_bracket_that_is_closed_is_not_put_to_the_solver(run, solver):
    stub = solver(Said())
    run("ibp", measure("pgd -> crown -> milp", tol="2"))
    assert not stub.asked


# The stage milp itself


def test_integer_programs_decide_what_attacks_and_bounds_leave_open(run, classifier, samples, wrong):
    """A dense grid of the ball cannot tell otherwise."""
    records = found(run("ibp -> milp", params={"eps": "1/10"}))
    assert {r.outcome for r in records.values()} == {Outcome.VERIFIED, Outcome.FALSIFIED}
    steps = np.stack(np.meshgrid(*[np.linspace(-0.1, 0.1, 9)] * 4), axis=-1).reshape(-1, 4)
    for sample, record in records.items():
        points = np.clip(samples[0][sample] + steps, 0, 1).astype(np.float32)
        kept = (np.asarray(classifier(points)).argmax(axis=1) == samples[1][sample]).all()
        assert kept or record.outcome is Outcome.FALSIFIED
    assert "milp" in {r.verdict.stage for r in records.values()}
