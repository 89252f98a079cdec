"""What a batch comes to on its way down the stages."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from tfcert.attacks import Attacks
from tfcert.driver.property import PropertyRun
from tfcert.errors import ContradictionError
from tfcert.verdict import Guarantee, Outcome

MEASURED = """\
measure radius(x, y in test) = largest r in [0, 1] tol 1% such that
  forall z in ball(x, linf, r) within [0, 1] in net: argmax(clf(z)) == y
  using plan
"""


def outcomes(report, name="robust"):
    return {r.sample: r.outcome for r in report.records if r.property == name}


def test_a_small_ball_is_verified_with_a_numeric_guarantee(run, wrong):
    report = run("pgd -> ibp -> crown_ibp -> crown")
    found = {r.sample: r for r in report.records}
    assert len(found) == 8
    for sample, record in found.items():
        if sample != wrong:
            assert record.outcome is Outcome.VERIFIED
            assert record.verdict.guarantee is Guarantee.NUMERIC
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

    monkeypatch.setattr("tfcert.driver.batch.lower_bounds", bounds)
    report = run("ibp -> crown", blocks="batch: 8")
    assert asked == [("ibp", 7), ("crown", 4)]
    assert sum(r.verdict.method == "ibp" for r in report.records) == 3


def test_a_witness_against_a_numeric_proof_is_that_sample_s_verdict(run, margins, folder, wrong):
    """The run goes on, and the report counts and names what happened."""
    margins(1.0)
    report = run("ibp -> pgd", params={"eps": "1/2"}, blocks="batch: 1")
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


def test_a_witness_against_a_proof_that_allows_for_rounding_stops_the_run(run, margins, monkeypatch):
    margins(1.0)
    proven = PropertyRun._proven
    monkeypatch.setattr(PropertyRun, "_proven", lambda self, *how: proven(self, *how[:-1], Guarantee.REAL))
    with pytest.raises(ContradictionError, match=r"by guarantee `real`.*bug in tfcert"):
        run("ibp -> pgd", params={"eps": "1/2"})


def test_a_margin_within_the_model_s_own_rounding_proves_nothing_and_says_so(run, margins, wrong):
    """About 1e-7 of outputs of size 1, sums of nine terms: as much as two evaluations of the model may differ."""
    margins(1e-8)
    report = run("crown", MEASURED)
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
        return Attacks(perturbation.center + np.float32(shift), np.ones(count, bool), np.zeros(count), np.zeros(count))

    monkeypatch.setattr("tfcert.driver.batch.falsify", falsify)
    report = run("pgd")
    found = [r for r in report.records if r.sample != wrong]
    assert all(r.outcome is Outcome.UNKNOWN and "spurious witness" in r.verdict.reason for r in found)


def test_a_sample_whose_budget_is_used_up_times_out_with_its_best_margin(run, monkeypatch, wrong):
    import time

    def bounds(network, perturbation, coefficients, offsets, **_):
        time.sleep(0.05)
        return np.full(offsets.shape, -0.25)

    monkeypatch.setattr("tfcert.driver.batch.lower_bounds", bounds)
    report = run("ibp -> crown", blocks="budget: 0.01s per sample batch: 1")
    late = [r for r in report.records if r.sample != wrong]
    assert all(r.outcome is Outcome.TIMEOUT for r in late)
    assert all("0.01 s a sample" in r.verdict.reason and "crown" in r.verdict.reason for r in late)
    assert all(r.verdict.margin == -0.25 for r in late)


def test_the_total_budget_leaves_the_rest_timed_out(run, monkeypatch, wrong):
    import time

    def bounds(network, perturbation, coefficients, offsets, **_):
        time.sleep(0.2)
        return np.full(offsets.shape, 1.0)

    monkeypatch.setattr("tfcert.driver.batch.lower_bounds", bounds)
    report = run("crown", blocks="budget: 0.3s total batch: 1")
    found = [r.outcome for r in report.records if r.sample != wrong]
    assert found[0] is Outcome.VERIFIED
    assert found[-1] is Outcome.TIMEOUT
    assert len(found) == 7


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

    monkeypatch.setattr("tfcert.driver.batch.lower_bounds", bounds)
    run("alpha_crown(iterations=7, learning_rate=1/8, relaxation=fastlin) -> alpha_crown", blocks="batch: 8")
    assert seen == [("alpha-crown", "fastlin", 7, 0.125), ("alpha-crown", None, 20, 0.5)]


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
