"""Questions about some input: a witness verifies, a proof that there is none falsifies."""

from __future__ import annotations

import numpy as np
import pytest

from tfcert.report import ExitCode
from tfcert.report.table import record_line
from tfcert.verdict import Guarantee, Outcome

OPPOSITE = {
    Outcome.VERIFIED: Outcome.FALSIFIED,
    Outcome.FALSIFIED: Outcome.VERIFIED,
    Outcome.UNKNOWN: Outcome.UNKNOWN,
}
ADVERSARIAL = """\
property adversarial(x, y in test) using plan {
  exists z in ball(x, linf, eps) within [0, 1] in net: argmax(clf(z)) != y
}
"""
MEASURES = """\
measure {name}(x, y in test) = {extremum} r in [0, 1] tol 1% such that
  {quantifier} z in ball(x, linf, r) within [0, 1] in net: argmax(clf(z)) {operator} y
  using plan
"""
LEAST = MEASURES.format(name="least", extremum="smallest", quantifier="exists", operator="!=")
MOST = MEASURES.format(name="most", extremum="largest", quantifier="forall", operator="==")


def verdicts(report, name):
    return {r.sample: r.verdict for r in report.records if r.property == name}


def test_some_input_is_misclassified_exactly_where_robustness_is_refuted(run, folder, classifier, samples):
    report = run("pgd -> crown", ADVERSARIAL, params={"eps": "1/10"})
    robust, adversarial = verdicts(report, "robust"), verdicts(report, "adversarial")
    assert {v.outcome for v in robust.values()} == {Outcome.VERIFIED, Outcome.FALSIFIED}
    for sample, verdict in adversarial.items():
        against = robust[sample]
        assert verdict.outcome is OPPOSITE[against.outcome]
        assert (verdict.stage, verdict.method, verdict.guarantee) == (against.stage, against.method, against.guarantee)
        assert verdict.margin == -against.margin
        assert (verdict.margin > 0) == (verdict.outcome is Outcome.VERIFIED)
    for record in report.records:
        if record.property == "adversarial" and record.outcome is Outcome.VERIFIED:
            assert record.verdict.guarantee is Guarantee.REPLAYED
            with np.load(folder / "out" / record.witness) as saved:
                assert np.abs(saved["witness"] - samples[0][record.sample]).max() <= np.float32(0.1)
                assert np.asarray(classifier(saved["witness"][None])).argmax() != samples[1][record.sample]


def test_an_unperturbed_input_that_satisfies_the_formula_is_its_witness(run, wrong):
    report = run("crown", ADVERSARIAL)
    verdict = verdicts(report, "adversarial")[wrong]
    assert (verdict.outcome, verdict.stage, verdict.guarantee) == (Outcome.VERIFIED, "clean", Guarantee.REPLAYED)
    assert verdict.reason == "the unperturbed input already satisfies the formula" and verdict.margin > 0
    robust, adversarial = report.summary("robust"), report.summary("adversarial")
    assert (robust.correct, adversarial.correct) == (7, 1)
    assert adversarial.nominal_accuracy == adversarial.verified_accuracy == 1 / 8


def test_what_is_not_settled_says_what_the_margin_is_at_most(run, margins, wrong):
    margins(-0.25)
    found = verdicts(run("crown", ADVERSARIAL), "adversarial")
    for sample, verdict in found.items():
        if sample != wrong:
            assert verdict.outcome is Outcome.UNKNOWN and verdict.margin == 0.25
            assert verdict.reason == "the margin is only known to be at most 0.25"


@pytest.mark.parametrize(("margin", "more", "expected"), [
    (0.5, "", ExitCode.FAIL),
    (-0.5, "", ExitCode.FAIL),  # the other property has a misclassified sample
    (-0.5, "assert attack_accuracy(robust) > 0", ExitCode.INCONCLUSIVE),
    (0.5, "assert verified_accuracy(adversarial) == 1/8 and attack_accuracy(robust) == 7/8", ExitCode.PASS),
    (-0.5, "assert verified_accuracy(adversarial) >= 1/8 and attack_accuracy(robust) == 7/8", ExitCode.PASS),
    (-0.5, "assert verified_accuracy(adversarial) > 1/8 and attack_accuracy(robust) == 7/8", ExitCode.INCONCLUSIVE),
])  # fmt: skip
def test_a_property_of_some_input_is_judged_by_its_witnesses_and_proofs(run, margins, margin, more, expected):
    margins(margin)
    assert run("crown", ADVERSARIAL + more).exit_code is expected


def test_a_witness_against_the_proof_that_there_is_none_answers_the_question(run, margins):
    margins(1.0)
    more = ADVERSARIAL + "assert attack_accuracy(robust) > 0"
    report = run("ibp -> pgd", more, blocks="rounding: ignore", params={"eps": "1/2"})
    found = [v for v in verdicts(report, "adversarial").values() if v.contradicted is Guarantee.NUMERIC]
    assert found and all(v.outcome is Outcome.VERIFIED and v.guarantee is Guarantee.REPLAYED for v in found)
    assert all("that there is no witness, yet" in v.reason for v in found)


def test_a_box_holds_what_it_holds(run):
    text = (
        'prop 1\nmodel clf = keras("clf.keras") { outputs: logits }\n'
        "property some { exists z in box([0, 1]) in net: clf(z)[0] <= 1000 }\n"
        "property none { exists z in box([0, 1]) in net: clf(z)[0] >= 1000 }\n"
        "property first { exists z in box([0, 1]) in net: argmax(clf(z)) == 0 }\n"
    )
    found = {r.property: r.verdict for r in run(text=text).records}
    assert (found["some"].outcome, found["some"].stage) == (Outcome.VERIFIED, "pgd")
    assert (found["none"].outcome, found["none"].guarantee) == (Outcome.FALSIFIED, Guarantee.FLOAT32_ANY_ORDER)
    assert found["none"].margin < 0 < found["some"].margin
    assert found["first"].outcome is Outcome.VERIFIED


def test_an_unperturbed_input_outside_of_a_box_says_nothing_about_it(run):
    import keras

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.layers[0].set_weights([np.ones((1, 1)), np.zeros(1)])
    text = (
        'prop 1\nmodel f = keras("f.keras")\ndataset test = npz("t.npz")\nstrategy plan = crown\n'
        "property some(x in test) using plan { exists z in box([0, 1]): f(z)[0] >= 3 }\n"
        "property all(x in test) using plan { forall z in box([0, 1]): f(z)[0] <= 0.5 }\n"
    )
    report = run(text=text, bindings={"f": model, "test": np.array([[5], [0.75]], np.float32)})
    outcomes = {(r.property, r.sample): str(r.outcome) for r in report.records}
    # The first sample lies outside of the box, the second in it.
    assert outcomes["some", 0] == outcomes["some", 1] == outcomes["all", 1] == "falsified"
    assert outcomes["all", 0] == "unknown"


def test_the_least_radius_with_a_witness_is_bracketed_like_the_largest_without_one(run, wrong):
    report = run("pgd -> crown", LEAST + MOST)
    least, most = ({r.sample: r for r in report.records if r.property == n} for n in ("least", "most"))
    for sample, record in least.items():
        assert record.asked.quantifier == "exists" and record.outcome is Outcome.VERIFIED
        if sample != wrong:
            assert record.measured == most[sample].measured and 0 < record.measured.lower <= record.measured.upper
            assert record.verdict.margin == most[sample].verdict.margin > 0
    assert (least[wrong].measured.lower, least[wrong].measured.upper) == (0.0, 0.0)
    assert (least[wrong].verdict.stage, least[wrong].verdict.guarantee) == ("clean", Guarantee.REPLAYED)
    assert most[wrong].outcome is Outcome.FALSIFIED
    assert all(f"[{r.sample}] verified" in record_line(r) for r in least.values())


def test_no_bound_below_the_least_radius_is_unknown_and_says_so(run, margins, wrong):
    margins(-0.25)
    found = {r.sample: r for r in run("crown", LEAST).records if r.property == "least"}
    for sample, record in found.items():
        if sample != wrong:
            assert record.outcome is Outcome.UNKNOWN and np.isnan(record.measured.lower)
            assert record.verdict.reason == "no value of the interval could be proven a lower bound"


def test_assertions_on_a_least_radius_hold_where_its_ends_do(run):
    more = LEAST + "assert max(least) > 0 and min(least) == 0 and verified_accuracy(robust) >= 0.5\n"
    assert run("pgd -> crown", more).exit_code is ExitCode.PASS


def test_the_json_says_what_was_asked_about(run, folder):
    import json

    run("crown", ADVERSARIAL + LEAST + MOST)
    records = json.loads((folder / "out" / "result.json").read_text())["records"]
    asked = {r["property"]: r["quantifier"] for r in records}
    assert asked == {"robust": "forall", "adversarial": "exists", "least": "exists", "most": "forall"}
