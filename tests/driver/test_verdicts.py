"""What a batch comes to on its way down the stages."""

from __future__ import annotations

import functools
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from faked import BOUNDS, of_clauses

from tfcert.attacks import Attacks
from tfcert.driver.budget import Clock
from tfcert.errors import ContradictionError
from tfcert.language import MeasureTemplate, PropertyTemplate
from tfcert.verdict import Guarantee, Outcome

MEASURED = """\
measure radius(x, y in test) = largest r in [0, 1] tol 1% such that
  forall z in ball(x, linf, r) within [0, 1] in net: argmax(clf(z)) == y
  using plan
"""


def outcomes(report, name="robust"):
    return {r.sample: r.outcome for r in report.records if r.property == name}


@pytest.mark.parametrize(
    ("blocks", "level"),
    [("batch: 4", Guarantee.FLOAT32_ANY_ORDER), ("batch: 4 rounding: ignore", Guarantee.NUMERIC)],
)
def test_a_small_ball_is_verified_for_the_model_as_it_runs_unless_rounding_is_left_out(run, wrong, blocks, level):
    report = run("pgd -> ibp -> crown_ibp -> crown", blocks=blocks)
    found = {r.sample: r for r in report.records}
    assert len(found) == 8
    for sample, record in found.items():
        if sample != wrong:
            assert record.outcome is Outcome.VERIFIED
            assert record.verdict.guarantee is level
            assert record.verdict.margin > 0


def test_a_misclassified_sample_is_falsified_with_itself_as_witness(run, folder, samples, wrong):
    record = next(r for r in run().records if r.sample == wrong)
    assert record.outcome is Outcome.FALSIFIED
    assert record.verdict.stage == "clean"
    assert record.verdict.guarantee is Guarantee.REPLAYED
    with np.load(folder / "out" / record.witness) as saved:
        assert (saved["witness"] == samples[0][wrong]).all()
        assert int(saved["label"]) == samples[1][wrong]


def test_every_witness_lies_in_the_region_and_is_misclassified_by_the_original_model(run, folder, classifier, samples):
    report = run("pgd", params={"eps": "1/2"})
    falsified = [r for r in report.records if r.outcome is Outcome.FALSIFIED]
    assert len(falsified) > 2
    for record in falsified:
        with np.load(folder / "out" / record.witness) as saved:
            witness = saved["witness"]
        x = samples[0][record.sample].astype(np.float64)
        assert np.abs(witness.astype(np.float64) - x).max() <= 0.5
        assert witness.min() >= 0 and witness.max() <= 1
        assert np.asarray(classifier(witness[None])).argmax() != record.label


@pytest.mark.parametrize("margin", [math.nan, math.inf, -math.inf, 0.0, -1e-30])
def test_only_a_finite_positive_margin_verifies(run, margins, margin, wrong):
    margins(margin)
    found = outcomes(run("crown"))
    assert all(o is Outcome.UNKNOWN for sample, o in found.items() if sample != wrong)


def test_bounds_that_are_not_finite_are_the_reason_of_an_unknown(run, margins):
    margins(math.nan)
    reasons = {r.verdict.reason for r in run("crown").records if r.outcome is Outcome.UNKNOWN}
    assert reasons == {"the bounds are not finite"}


def test_survivors_only_reach_the_next_stage(run, monkeypatch):
    asked = []

    def bounds(network, perturbation, coefficients, offsets, *, method, **_):
        asked.append((method, len(perturbation)))
        proven = np.arange(len(offsets)) % 2 if method == "ibp" else np.ones(len(offsets))
        return np.broadcast_to(proven[:, None] - 0.5, offsets.shape)

    monkeypatch.setattr(BOUNDS, of_clauses(bounds))
    report = run("ibp -> crown", blocks="batch: 8")
    assert asked == [("ibp", 7)] * 2 + [("crown", 4)] * 2  # once to prepare
    assert sum(r.verdict.method == "ibp" for r in report.records) == 3


def test_a_witness_against_a_numeric_proof_is_that_sample_s_verdict(run, margins, folder, wrong):
    """The run goes on, and the report counts and names what happened."""
    margins(1.0)
    report = run("ibp -> pgd", params={"eps": "1/2"}, blocks="batch: 1 rounding: ignore")
    assert len(report.records) == 8
    against = [r for r in report.records if r.verdict.contradicted is Guarantee.NUMERIC]
    assert against and all(r.outcome is Outcome.FALSIFIED and r.witness is not None for r in against)
    assert all(r.verdict.reason.startswith("ibp proved with margin 1 that") and r.verdict.margin < 0 for r in against)
    (note,) = [note for note in report.notes if "refuted by a witness" in note]
    assert f"{len(against)} (robust[" in note and "report" in note and note in str(report).replace("\n", " ")
    header = json.loads((folder / "out" / "result.json").read_text())["header"]
    assert header["contradictions"] == len(against) and note in header["notes"]
    journal = [json.loads(line).get("record") for line in (folder / "out" / "journal.jsonl").read_text().splitlines()]
    assert sum(r["contradicted"] == "numeric" for r in journal if r) == len(against)


def test_a_witness_against_a_proof_that_allows_for_rounding_stops_the_run(run, margins):
    margins(1.0)
    with pytest.raises(ContradictionError, match=r"by guarantee `float32-any-order`.*bug in tfcert"):
        run("ibp -> pgd", params={"eps": "1/2"})


def test_a_margin_within_the_model_s_own_rounding_proves_nothing_and_says_so(run, margins, wrong):
    """About 1e-7 of outputs of size 1, sums of nine terms: as much as two evaluations of the model may differ."""
    margins(1e-8)
    report = run("crown", MEASURED, blocks="rounding: ignore")
    for record in report.records:
        if record.sample == wrong:
            continue
        assert record.outcome is Outcome.UNKNOWN
        if record.property == "robust":
            assert record.verdict.reason.startswith("within rounding: the margin is at least 1e-08, of which")
        else:
            assert math.isnan(record.measured.lower)


def test_proofs_that_survive_a_later_attack_are_recorded_once(run):
    report = run("ibp -> crown -> pgd")
    assert len(report.records) == 8
    assert sum(r.outcome is Outcome.VERIFIED for r in report.records) == 7


@pytest.mark.parametrize("where", ["inside but right", "outside"])
def test_a_witness_that_does_not_hold_up_becomes_an_unknown(run, monkeypatch, where, wrong):
    def falsify(model, perturbation, clauses, **_):
        shift = 0.0 if where == "inside but right" else 5.0
        count = len(perturbation)
        return Attacks(
            perturbation.center + np.float32(shift), np.ones(count, bool), *np.zeros((2, count)), np.zeros(count, int)
        )

    monkeypatch.setattr("tfcert.driver.stages.attack.falsify", falsify)
    report = run("pgd")
    found = [r for r in report.records if r.sample != wrong]
    assert all(r.outcome is Outcome.UNKNOWN and "spurious witness" in r.verdict.reason for r in found)


@pytest.fixture
def timed(monkeypatch):
    """Replaces bounds by one number, each sample of which takes so many seconds of a clock that nobody waits for.

    Returns the sizes of the passes that are made.
    """

    def replace(seconds: float, margin: float) -> list[tuple[int, int]]:
        now, passes = [0.0], []

        def bounds(network, perturbation, coefficients, offsets, *, options, **_):
            passes.append((len(offsets), options.iterations))
            now[0] += seconds * len(offsets) * options.iterations
            return np.full(offsets.shape, margin)

        monkeypatch.setattr(BOUNDS, of_clauses(bounds))
        monkeypatch.setattr("tfcert.driver.stages.bound.time", SimpleNamespace(monotonic=lambda: now[0]))
        monkeypatch.setattr("tfcert.driver.bench.Clock", functools.partial(Clock, now=lambda: now[0]))
        return passes

    return replace


PREPARED = [(7, 1), (7, 1), (2, 1), (2, 1)]
"""Passes that prepare a stage for seven samples in limited time: of two sizes, each first traced and then timed."""


@pytest.mark.parametrize(
    ("budget", "sizes", "proven"),
    [
        ("2s per sample", [7], 7),
        ("1.01s per sample", [7], 7),
        ("0.9s per sample", [], 0),  # no pass fits
        ("6.5s total", [2, 2, 2], 6),  # the last sample would take a second, and the pass two
        ("100s per sample, 0.01s total", [], 0),
    ],
)
def test_no_pass_is_begun_that_takes_longer_than_what_is_left(run, timed, budget, sizes, proven, wrong):
    passes = timed(1.0, 1.0)
    report = run("crown", blocks=f"batch: 8 budget: {budget}")
    assert sorted(passes[:4]) == sorted(PREPARED) and [size for size, _ in passes[4:]] == sizes
    records = [r for r in report.records if r.sample != wrong]
    assert sum(r.outcome is Outcome.VERIFIED for r in records) == proven
    late = [r for r in records if r.outcome is Outcome.TIMEOUT]
    assert len(late) == 7 - proven
    assert {r.verdict.reason for r in late} <= {
        "crown was not begun: a pass takes about 2 s, which is more than was left"
    }
    assert sum(r.verdict.seconds for r in records) == pytest.approx(sum(sizes))


def test_an_optimising_stage_takes_as_many_steps_as_there_is_time_for(run, timed, wrong):
    passes = timed(1.0, -0.25)
    report = run("alpha_crown(iterations=20)", blocks="batch: 8 budget: 5.5s per sample")
    assert passes[4:] == [(7, 5)]
    for record in report.records:
        if record.sample != wrong:
            assert record.outcome is Outcome.TIMEOUT and record.verdict.margin == -0.25
            assert record.verdict.reason == "alpha_crown took 5 of its 20 steps in the time that was left"


def test_a_sample_whose_budget_is_used_up_times_out_with_its_best_margin(run, timed, wrong):
    timed(1.0, -0.25)
    report = run("ibp -> crown", blocks="budget: 1.5s per sample batch: 1")
    late = [r for r in report.records if r.sample != wrong]
    assert len(late) == 7 and {r.outcome for r in late} == {Outcome.TIMEOUT}
    assert all(r.verdict.reason.startswith("crown was not begun") and r.verdict.margin == -0.25 for r in late)


def test_the_total_budget_is_that_of_all_questions_with_the_strategy(run, timed, wrong):
    passes = timed(1.0, 1.0)
    more = "property again(x, y in test) using plan { forall z in ball(x, linf, eps) in net: argmax(clf(z)) == y }"
    report = run("crown", more, blocks="batch: 1 budget: 9.5s total")
    first = [r.outcome for r in report.records if r.property == "robust" and r.sample != wrong]
    second = [r.outcome for r in report.records if r.property == "again" and r.sample != wrong]
    assert set(first) == {Outcome.VERIFIED} and [o is Outcome.VERIFIED for o in second] == [True] * 2 + [False] * 5
    assert len(passes) == 2 + 7 + 2 + 2  # each question's stage is prepared


def test_nothing_is_traced_or_lowered_once_a_stage_is_prepared(run, monkeypatch):
    """Not for a batch of another size either, nor at another radius."""
    from tfcert.driver.stages.attack import RunningAttack
    from tfcert.driver.stages.bound import RunningBound
    from tfcert.propagation import kernels

    traced, lowered = [], []
    tf_function, clauses = kernels.tf.function, PropertyTemplate.clauses

    def function(f, **options):
        if getattr(f, "__module__", "").startswith("keras"):  # ``predict``, by which the first witness is run
            return tf_function(f, **options)

        def traces(*arguments):
            traced.append(f)
            return f(*arguments)

        return tf_function(traces, **options)

    def watched(decide):
        def run_watched(self, *arguments):
            before = len(traced)
            yield from decide(self, *arguments)
            assert len(traced) == before

        return run_watched

    for cls in (RunningAttack, RunningBound):
        monkeypatch.setattr(cls, "decide", watched(cls.decide))
    monkeypatch.setattr(kernels.tf, "function", function)
    for template in (PropertyTemplate, MeasureTemplate):
        monkeypatch.setattr(
            template, "clauses", lambda self, n, y: lowered.append((self.name, y)) or clauses(self, n, y)
        )
    report = run("pgd -> ibp -> crown -> alpha_crown(iterations=2)", MEASURED, params={"eps": "1/8"}, blocks="batch: 3")
    assert len(report.records) == 16 and traced
    assert len(lowered) == len(set(lowered)) == 6  # three labels of two questions


def test_a_box_without_samples_is_one_query(run):
    text = (
        'prop 1\nmodel clf = keras("clf.keras") { outputs: logits }\n'
        "property low { forall z in box([0, 1]) in net: clf(z)[0] <= 1000 }\n"
        "property high { forall z in box([0, 1]) in net: clf(z)[0] >= 1000 }\n"
    )
    report = run(text=text)
    assert [(r.property, r.sample, r.outcome) for r in report.records] == [
        ("low", 0, Outcome.VERIFIED),
        ("high", 0, Outcome.FALSIFIED),
    ]
    assert report.records[0].label is None


def test_alpha_crown_proves_at_least_what_crown_does_and_says_so(run, wrong):
    def margins(stages):
        report = run(f"pgd(steps=1, restarts=1) -> {stages}", params={"eps": "1/20"})
        found = {r.sample: r.verdict for r in report.records if r.outcome is not Outcome.FALSIFIED}
        return report, {sample: v.margin for sample, v in found.items()}, found

    _, crown, _ = margins("crown")
    report, alpha, verdicts = margins("alpha_crown(iterations=5, learning_rate=0.25)")
    assert crown.keys() == alpha.keys() and wrong not in alpha
    assert all(alpha[s] >= crown[s] - 1e-6 for s in crown)
    assert any(alpha[s] > crown[s] + 1e-6 for s in crown)
    assert {v.method for v in verdicts.values()} == {"alpha-crown"}
    assert "alpha_crown(iterations=5, learning_rate=1/4)" in report.header["strategies"]["robust"]


def test_options_of_a_stage_reach_the_bounds(run, monkeypatch):
    seen = []

    def bounds(network, perturbation, coefficients, offsets, *, method, relaxation, options):
        seen.append((method, relaxation, options.iterations, options.learning_rate))
        return np.full(offsets.shape, -1.0)

    monkeypatch.setattr(BOUNDS, of_clauses(bounds))
    run("alpha_crown(iterations=7, learning_rate=1/8, relaxation=fastlin) -> alpha_crown", blocks="batch: 8")
    first, second = ("alpha-crown", "fastlin", 7, 0.125), ("alpha-crown", None, 20, 0.5)
    assert [asked for asked in seen if asked[2] > 1] == [first, second]  # one step prepares


@pytest.mark.parametrize(("space", "size"), [("raw", 25.5), ("unit", 0.1), ("net", 0.2)])
def test_pictures_show_the_difference_in_the_space_that_was_asked_about(tmp_path, rng, monkeypatch, space, size):
    """A ball in raw space has differences of stored values, not of what they are scaled to."""
    import keras

    from tfcert.driver.verify import verify
    from tfcert.report import figures

    model = keras.Sequential([keras.Input((3, 3, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    model.set_weights([np.stack([np.ones(9), -np.ones(9)], axis=1), np.zeros(2)])
    text = (
        'prop 1\nmodel clf = keras("clf.keras")\n'
        'dataset test = npz("test.npz") { scale: 1/255 normalize: { mean: 0.5 std: 0.5 } }\nstrategy look = pgd\n'
        "property p(x, y in test) using look "
        f"{{ forall z in ball(x, linf, {size}) in {space}: argmax(clf(z)) == y }}\n"
    )
    drawn = []
    monkeypatch.setattr(figures, "available", lambda: True)
    monkeypatch.setattr(figures, "draw_witnesses", lambda *drawing: drawn.append(drawing))
    x = np.full((1, 3, 3, 1), 130.0)
    verify(text, bindings={"clf": model, "test": (x, np.array([0]))}, out=tmp_path / "out", verbose=0)
    ((path, title, shown, (picture,)),) = drawn
    assert path.name == "p-witnesses.png" and shown == space
    assert title == f"p: witnesses within linf {size:g} of the sample ({space} space)"
    assert picture.largest_change == pytest.approx(size, rel=1e-4)
    assert picture.difference_caption == f"linf {picture.largest_change:.4g}"
