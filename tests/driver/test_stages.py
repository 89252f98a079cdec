"""A stage that asks a solver: one sample at a time, in its time, and never on its word alone."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import sys
from fractions import Fraction

import numpy as np
import pytest
from faked import BOUNDS, of_clauses

from tfcert.catalog import STAGES, Option, StageKind, StageSchema
from tfcert.driver.budget import Clock
from tfcert.driver.stages.base import Finding, Nearest
from tfcert.errors import UsageError
from tfcert.report import ExitCode
from tfcert.verdict import NO_WORK, Guarantee, Outcome, Work

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
    """What the oracle answers."""

    outcome: Outcome = Outcome.UNKNOWN
    reason: str = "undecided"
    margin: float = math.nan
    witness: np.ndarray | None = None
    guarantee: Guarantee = Guarantee.SOLVER
    lower: float = 0.0
    rounding: float = 0.0
    work: Work = NO_WORK


class Oracle:
    """A stage that decides as it is told to, one sample at a time, and remembers what it was asked.

    ``clock`` is the time that the test's strategy goes by, ``takes`` what each answer takes of it.
    """

    def __init__(self, say, takes: float = 0.0, refusal: str = ""):
        self.say, self.takes, self.refusal = say, takes, refusal
        self.asked: list[int] = []
        self.seconds: list[float] = []
        self.opened, self.closed, self.now = 0, 0, 0.0

    def __call__(self, spec):
        self.spec = spec
        return self

    def clock(self) -> float:
        return self.now

    def refuses(self, task) -> str:
        return self.refusal

    @contextlib.contextmanager
    def open(self, task, options):
        self.opened += 1
        self.now += 1000.0  # on nobody's time
        try:
            yield self
        finally:
            self.closed += 1

    def _answer(self, sample, seconds, *known) -> Said:
        assert len(sample) == 1
        self.asked.append(int(sample.task.samples[0]))
        self.seconds.append(seconds)
        self.now += self.takes
        return self.say(sample, *known) if callable(self.say) else self.say

    def decide(self, batch, budget, tell):
        for place in range(len(batch)):
            began, left = budget.used(), budget.begin(np.array([place]))()
            if left <= 0:
                yield Finding(place, Outcome.TIMEOUT)
                continue
            said = self._answer(batch.take(np.array([place])), left)
            yield Finding(
                place, said.outcome, said.reason, said.margin, said.rounding, said.witness, said.guarantee,
                budget.used() - began, said.work,
            )  # fmt: skip

    def nearest(self, sample, start, budget) -> Nearest:
        said = self._answer(sample, budget.begin(np.array([0]))(), start.witness, start.proven)
        return Nearest(said.lower, said.witness, said.guarantee, said.reason, said.work)


ORACLE: Oracle | None = None
"""What the catalog's entry of the stage ``oracle`` leads to."""


@pytest.fixture
def solver(monkeypatch):
    """Adds the stage ``oracle`` through the catalog's door, and lets strategies go by its clock."""
    options = {"gap": Option("share"), "time_limit": Option("time")}
    schema = StageSchema(
        "oracle", f"{__name__}:ORACLE", kind=StageKind.SOLVER, norms=("linf", "l2", "l1"), options=options
    )

    def install(say, **how) -> Oracle:
        oracle = Oracle(say, **how)
        monkeypatch.setattr(sys.modules[__name__], "ORACLE", oracle)
        if oracle.takes:
            monkeypatch.setattr("tfcert.driver.bench.Clock", functools.partial(Clock, now=oracle.clock))
        return oracle

    with STAGES.added(schema):
        yield install


@pytest.fixture
def misclassified(classifier):
    """A point of a sample's region that gets another class."""

    def find(sample):
        for seed in range(200):
            points = sample.regions.witness.sample(100, seed)[:, 0]
            wrong = np.asarray(classifier(points)).argmax(axis=1) != sample.task.labels[0]
            if wrong.any():
                return points[wrong][0]
        raise AssertionError("no point of the region gets another class")

    return find


def found(report, name="robust"):
    return {r.sample: r for r in report.records if r.property == name and r.verdict.stage != "clean"}


PROOF = Said(Outcome.VERIFIED, "", 0.5)
SECOND = """\
property again(x, y in test where y >= 0) using late {
  forall z in ball(x, linf, eps) within [0, 1] in net: argmax(clf(z)) == y
}
"""


class Stopped:
    """A stage during whose preparation Ctrl-C is pressed."""

    def __init__(self, spec):
        pass

    def refuses(self, task) -> str:
        return ""

    @contextlib.contextmanager
    def open(self, task, options):
        raise KeyboardInterrupt
        yield


def test_a_solver_s_proof_is_recorded_as_its_word(run, margins, solver):
    margins(-0.25)
    stub = solver(PROOF)
    records = found(run("crown -> oracle(gap=1%)"))
    assert len(records) == 7 and stub.opened == stub.closed == 1  # for two batches
    for record in records.values():
        assert record.outcome is Outcome.VERIFIED and record.verdict.guarantee is Guarantee.SOLVER
        assert (record.verdict.stage, record.verdict.method, record.verdict.margin) == ("oracle", "oracle", 0.5)
    assert stub.spec.option("gap") == Fraction(1, 100)


def test_a_relaxation_s_proof_inside_a_solver_stays_numeric(run, margins, solver):
    margins(-0.25)
    solver(dataclasses.replace(PROOF, guarantee=Guarantee.NUMERIC))
    assert {r.verdict.guarantee for r in found(run("crown -> oracle")).values()} == {Guarantee.NUMERIC}


@pytest.mark.parametrize(
    "said",
    [
        dataclasses.replace(PROOF, margin=math.nan),
        dataclasses.replace(PROOF, margin=math.inf),
        dataclasses.replace(PROOF, margin=0.0),
        dataclasses.replace(PROOF, margin=-1.0),
        dataclasses.replace(PROOF, guarantee=Guarantee.ESTIMATE),
        dataclasses.replace(PROOF, guarantee=Guarantee.REPLAYED),
        Said(Outcome.FALSIFIED, ""),
        Said(Outcome.UNKNOWN, "", 3.0),
    ],
)
def test_an_answer_that_proves_nothing_is_unknown(run, margins, solver, said):
    margins(-0.25)
    solver(said)
    for record in found(run("crown -> oracle")).values():
        assert record.outcome is Outcome.UNKNOWN and record.verdict.guarantee is Guarantee.ESTIMATE
        assert record.verdict.reason == "the stage's answer proves nothing" and record.verdict.margin == -0.25


@pytest.mark.parametrize("outcome", [Outcome.UNKNOWN, Outcome.TIMEOUT])
def test_why_a_solver_failed_is_the_reason_of_the_verdict(run, margins, solver, outcome):
    margins(-0.25)
    solver(Said(outcome, "the solver's process ended with code 9"))
    for record in found(run("crown -> oracle")).values():
        assert (record.outcome, record.verdict.stage) == (outcome, "oracle")
        assert record.verdict.reason == "the solver's process ended with code 9"


def test_a_solver_s_witness_counts_once_it_replays(run, folder, margins, solver, misclassified, classifier):
    margins(-0.25)
    solver(lambda sample: Said(Outcome.FALSIFIED, "", -1.0, misclassified(sample)))
    report = run("crown -> oracle", params={"eps": "1/2"})
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
    for record in found(run("crown -> oracle")).values():
        assert record.outcome is Outcome.UNKNOWN and "spurious witness" in record.verdict.reason


class Told:
    """A stage that bounds: the margins of the samples are those that the test says, in the order of the samples."""

    def __init__(self, spec):
        self.name = spec.name

    def refuses(self, task) -> str:
        return ""

    @contextlib.contextmanager
    def open(self, task, options):
        self.margins = dict(zip(task.samples.tolist(), [-0.3, 1.0, -0.1, -0.2, math.nan, 2.0, -0.4], strict=True))
        yield self

    def decide(self, batch, budget, tell):
        for place, sample in enumerate(batch.task.samples.tolist()):
            margin = self.margins[sample]
            outcome = Outcome.VERIFIED if margin > 0 else Outcome.UNKNOWN
            yield Finding(place, outcome, margin=margin, guarantee=Guarantee.NUMERIC)


def test_a_solver_is_asked_about_survivors_only_nearest_to_a_proof_first(run, solver):
    stub = solver(PROOF)
    with STAGES.added(StageSchema("told", f"{__name__}:Told", kind=StageKind.BOUND, norms=("linf",))):
        records = found(run("told -> oracle", blocks="batch: 8"))
    left = [s for s, r in records.items() if r.verdict.stage == "oracle"]
    order = sorted(records)
    assert stub.asked == [order[i] for i in (2, 3, 0, 6, 4)] and sorted(stub.asked) == sorted(left)
    assert {r.verdict.margin for s, r in records.items() if s not in left} == {1.0, 2.0}


def test_a_stage_that_refuses_is_said_before_anything_runs(run, folder, solver):
    stub = solver(PROOF, refusal="model clf: the oracle does not know such networks")
    with pytest.raises(UsageError, match="the oracle does not know such networks"):
        run("crown -> oracle")
    assert not stub.opened and not (folder / "out").exists()


def test_a_witness_against_a_solver_s_proof_blames_the_solver(run, margins, solver):
    margins(-0.25)
    solver(PROOF)
    report = run("oracle -> pgd", measure("crown"), params={"eps": "3/20"})
    records = found(report)
    against = [r for r in records.values() if r.verdict.contradicted is Guarantee.SOLVER]
    assert against and all(r.outcome is Outcome.FALSIFIED and r.verdict.stage == "pgd" for r in against)
    assert all(r.verdict.reason.startswith("oracle proved with margin 0.5") for r in against)
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
    records = found(run("crown -> oracle", text), "some")
    assert {(r.outcome, r.verdict.guarantee, r.verdict.margin) for r in records.values()} == {
        (Outcome.FALSIFIED, Guarantee.SOLVER, -0.5)
    }


@pytest.mark.parametrize(
    ("stage", "budget", "most"),
    [
        ("oracle", "", math.inf),
        ("oracle(time_limit=5s)", "", 5.0),
        ("oracle(time_limit=5s)", "budget: 2s per sample", 2.0),
        ("oracle", "budget: 2s per sample", 2.0),
        ("oracle(time_limit=1s)", "budget: 1h per sample, 2h total", 1.0),
        ("oracle", "budget: 1h total", 3600.0),
    ],
)
def test_a_solver_is_told_how_long_it_may_take(run, solver, stage, budget, most):
    stub = solver(PROOF)
    run(stage, blocks=f"batch: 8 {budget}")
    assert len(stub.seconds) == 7 and max(stub.seconds) <= most and (min(stub.seconds) > most - 1 or most == math.inf)


@pytest.mark.parametrize("batch", [1, 8])
def test_samples_that_a_solver_has_no_time_left_for_time_out(run, margins, solver, batch):
    """Its preparation, a thousand seconds, is on nobody's time; its answers take 0.2 s of a total of 0.3 s."""
    margins(-0.25)
    stub = solver(PROOF, takes=0.2)
    report = run("crown -> oracle", blocks=f"batch: {batch} budget: 0.3s total")
    records = found(report)
    late = [r for r in records.values() if r.outcome is Outcome.TIMEOUT]
    assert len(stub.asked) == 2 and len(late) == 5
    assert all("0.3 s is used up before stage" in r.verdict.reason for r in late)
    assert sum(r.verdict.seconds for r in records.values()) == pytest.approx(0.4)
    assert report.header["setup_seconds"]["robust"].keys() == {"crown", "oracle"}


def test_ctrl_c_while_a_stage_is_prepared_keeps_what_was_found_and_leaves_nothing_open(run, margins, solver):
    margins(-0.25)
    stub = solver(PROOF)
    with STAGES.added(StageSchema("stopped", f"{__name__}:Stopped", kind=StageKind.SOLVER, norms=("linf",))):
        report = run("oracle", "strategy late = stopped\n" + SECOND)
    assert report.exit_code is ExitCode.INTERRUPTED and stub.closed == 1
    assert len([r for r in report.records if r.property == "robust"]) == 8
    assert not found(report, "again")  # but what is wrong as it is
    assert report.header["setup_seconds"].keys() == {"robust", "again"}


def test_the_total_of_a_resumed_run_counts_what_was_used_before(run, folder, solver):
    stub = solver(PROOF, takes=0.2)
    run("oracle", blocks="batch: 8 budget: 0.5s total")
    assert len(stub.asked) == 3
    path = folder / "out" / "journal.jsonl"
    lines = [line for line in path.read_text().splitlines(keepends=True) if "is used up" not in line]
    path.write_text("".join(lines[:-1]))
    again = solver(PROOF, takes=0.2)
    records = found(run("oracle", blocks="batch: 8 budget: 0.5s total", resume=folder / "out"))
    assert len(again.asked) == 0 and sum(r.outcome is Outcome.TIMEOUT for r in records.values()) == 4


def test_what_stages_did_reaches_the_record_and_adds_up(run, margins, solver):
    margins(-0.25)
    solver(dataclasses.replace(PROOF, work=Work(pieces=31, binaries=5)))
    report = run("pgd(steps=4, restarts=2) -> crown -> oracle -> pgd(steps=1, restarts=1)")
    for record in found(report).values():
        work = record.verdict.work
        assert (work.pieces, work.binaries, work.evaluations) == (31, 5, 1) and work.gradients == 2 * 6 + 3
        assert record.as_json()["work"] == {"pieces": 31, "binaries": 5, "evaluations": 1, "gradients": 15}
    assert "217 pieces" in str(report)


def test_a_solver_is_closed_when_it_fails(run, solver):
    def fail(sample):
        raise RuntimeError("a bug")

    stub = solver(fail)
    with pytest.raises(RuntimeError, match="a bug"):
        run("oracle")
    assert stub.closed == 1


def test_what_remains_is_the_least_of_all_budgets_and_the_clock_stands_still_while_it_is_paused():
    now = [0.0]

    def clock(each=None, total=None, used=0.0) -> Clock:
        limits = (None if limit is None else Fraction(limit) for limit in (each, total))
        return Clock(*limits, used, lambda: now[0])

    one, spent = np.zeros(1, int), np.array([0.5])
    assert not clock().budget(spent).limited and clock().budget(spent).begin(one)() == math.inf
    assert clock(2).budget(spent).begin(one)() == 1.5 and clock(2).budget(spent, 0.25).begin(one)() == 0.25
    assert clock(2).budget(np.array([3.0])).begin(one)() == 0.0
    assert clock(2, 1).budget(spent).begin(one)() == 1.0 and clock(None, 1, used=5.0).budget(spent).begin(one)() == -4.0
    both = clock(2).budget(np.array([0.5, 1.0])).begin(np.arange(2))  # a batch may use what its samples have together
    now[0] += 1.0
    assert both() == 1.5
    total = clock(None, 1)
    with total.paused():
        now[0] += 7.0
        assert total.used() == 0.0
    now[0] += 0.25
    assert total.used() == 0.25 and total.left() == 0.75 and total.reason(9.0) == ""
    assert clock(None, 1, used=1.0).reason(0.0) == "the total budget of 1 s is used up"


# Measures


def test_a_solver_of_a_measure_begins_with_what_bounds_and_attacks_know(run, solver, classifier, samples):
    told = {}

    def remember(sample, witness, proven):
        told[int(sample.task.samples[0])] = (sample.regions.proof.eps[0], witness, proven)
        return Said(reason="")

    solver(remember)
    text = 'prop 1\nmodel clf = keras("clf.keras")\ndataset test = npz("test.npz") { scale: 1/2 }\n'
    text += measure("pgd -> crown -> oracle").replace("[0, 1]", "[0, 2]").replace("in net", "in raw")
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
    weak = found(run("ibp", measure("ibp -> oracle { rounding: ignore }", smallest=smallest)), "radius")
    assert len(stub.asked) == 7 and before.keys() == weak.keys()
    raised = [s for s, r in weak.items() if r.verdict.guarantee is Guarantee.SOLVER]
    for record in weak.values():
        assert record.measured.lower >= math.nextafter(0.001, 0)
        if record.sample in raised:
            assert record.measured.lower < 0.001 + 1e-12 and record.verdict.stage == "oracle"
        else:
            assert record.verdict.guarantee is Guarantee.NUMERIC and record.verdict.stage == "ibp"


def test_a_solver_that_finds_nothing_up_to_the_end_proves_all_of_it(run, margins, solver):
    margins(-0.25)
    solver(lambda sample, witness, proven: Said(lower=float(sample.regions.proof.eps[0])))
    records = found(run("ibp", measure("crown -> oracle")), "radius")
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
    for sample, record in found(run("ibp", measure("crown -> oracle", "l2")), "radius").items():
        distance = np.linalg.norm(points[sample].astype(float) - samples[0][sample].astype(float))
        assert record.measured.upper == pytest.approx(distance, rel=1e-6) and record.measured.upper >= distance
        assert record.outcome is Outcome.UNKNOWN and record.witness is not None
        assert record.verdict.reason == "undecided"


def test_a_solver_s_distance_beyond_a_witness_is_not_believed(run, margins, solver):
    margins(-0.25)
    solver(lambda sample, witness, proven: Said(lower=0.99))
    records = found(run("ibp", measure("pgd -> crown -> oracle")), "radius")
    refuted = [r for r in records.values() if r.measured.upper < 0.99]
    assert refuted
    for record in refuted:
        assert math.isnan(record.measured.lower) and record.outcome is Outcome.UNKNOWN
        assert record.verdict.contradicted is Guarantee.SOLVER and record.witness is not None
        assert (
            record.verdict.reason.startswith("oracle certified up to 0.9") and "word was wrong" in record.verdict.reason
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
    for record in found(run("ibp", measure("crown -> oracle")), "radius").values():
        assert record.outcome is Outcome.UNKNOWN and record.verdict.reason == "undecided"
        assert math.isnan(record.measured.lower) and math.isnan(record.measured.upper)


def test_a_solver_s_witness_below_a_certified_value_is_what_counts(run, solver, monkeypatch, misclassified):
    monkeypatch.setattr(BOUNDS, of_clauses(lambda n, p, c, d, **_: np.full(d.shape, 0.95 - p.eps[0])))
    solver(lambda sample, witness, proven: Said(witness=misclassified(sample)))
    records = found(run("pgd", measure("crown -> oracle { rounding: ignore }"), blocks="batch: 1"), "radius").values()
    against = [r for r in records if r.verdict.contradicted is Guarantee.NUMERIC]
    assert against and not any(r.measured.upper < r.measured.lower for r in records)
    for record in against:
        assert math.isnan(record.measured.lower) and record.measured.upper < 0.95
        assert record.verdict.reason.startswith("crown certified up to 0.") and record.outcome is Outcome.UNKNOWN


def test_a_bracket_that_is_closed_is_not_put_to_the_solver(run, solver):
    stub = solver(Said())
    run("ibp", measure("pgd -> crown -> oracle", tol="2"))
    assert not stub.asked


# The stages lp and milp themselves


def test_the_linear_relaxation_proves_no_less_than_crown_and_says_whose_word_it_takes(run):
    def margins(stage):
        verdicts = {s: r.verdict for s, r in found(run(stage, params={"eps": "1/20"})).items()}
        return verdicts, {s: v.margin for s, v in verdicts.items()}

    _, crown = margins("crown")
    verdicts, lp = margins("lp(threads=1)")
    assert all(lp[s] >= crown[s] - 1e-5 for s in crown) and any(lp[s] > crown[s] + 1e-4 for s in crown)
    assert {v.guarantee for v in verdicts.values() if v.outcome is Outcome.VERIFIED} == {Guarantee.FLOAT32_ANY_ORDER}
    assert all(v.work.solver_seconds > 0 for v in verdicts.values())


@pytest.mark.parametrize("stages", ["lp", "split", "milp", "pgd -> split -> milp", "milp -> ibp"])
def test_a_tiny_limit_is_a_timeout_and_no_error(run, wrong, stages):
    records = found(run(stages, blocks="budget: 0.0001s per sample batch: 3", params={"eps": "1/5"}))
    assert records and {r.outcome for r in records.values()} == {Outcome.TIMEOUT}


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
