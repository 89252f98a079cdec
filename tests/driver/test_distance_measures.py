"""Measures of distances to another class: their space, what they promise, what is asserted of them, resuming."""

from __future__ import annotations

import json

import numpy as np
import pytest

import tfcert
from tfcert.catalog import DISTANCES, DistanceInfo
from tfcert.driver.explain import explain
from tfcert.estimates.question import DistanceAnswer
from tfcert.language import load
from tfcert.report import ExitCode
from tfcert.verdict import Guarantee, Outcome

HEAD = """\
prop 1
model clf = keras("clf.keras") { outputs: logits }
dataset test = npz("test.npz", x="x", y="y") { range: [0, 1] scale: 1/2 normalize: { mean: [0.1] std: [0.25] } }
"""
UNIT = 0.5 / 0.25
"""The size of one unit of raw space as the network receives it."""


def received(samples) -> np.ndarray:
    return ((samples[0].astype(np.float64) / 2 - 0.1) / 0.25).astype(np.float32)


def labelled(classifier, samples):
    """The samples with the labels that the classifier gives to what it receives; the third has another one."""
    y = np.asarray(classifier(received(samples))).argmax(axis=1)
    y[2] = (y[2] + 1) % 3
    return y


@pytest.fixture
def ask(run, folder, classifier, samples):
    """Runs a specification with these measures about samples that are scaled and normalised."""
    np.savez(folder / "test.npz", x=samples[0], y=labelled(classifier, samples))

    def asked(text: str, **options):
        return run(text=HEAD + text, **options)

    return asked


def test_each_number_is_that_of_python_in_the_measure_s_space(ask, classifier, samples):
    report = ask(
        "measure loose(x, y in test) = global_lipschitz(clf, l1) in raw\n"
        "measure score(x, y in test) = clever(clf, linf, batches=10, samples=8, radius=2, targets=runner_up) in raw\n"
        "measure least(x, y in test take 3) = minimum(clf, linf) in raw\n"
    )
    x, y = received(samples), labelled(classifier, samples)
    loose, score, least = ([r for r in report.records if r.property == name] for name in ("loose", "score", "least"))
    radii = tfcert.global_lipschitz_radius(classifier, x, y, norm="l1").radius / UNIT
    np.testing.assert_allclose([r.measured.lower for r in sorted(loose, key=lambda r: r.sample)], radii, rtol=1e-9)
    how = {"norm": "linf", "batches": 10, "samples": 8, "radius": 2 * UNIT, "targets": "runner-up"}
    scores = tfcert.clever_score(classifier, x, y, **how).score / UNIT
    found = [r.measured.estimate for r in sorted(score, key=lambda r: r.sample) if r.sample != 2]
    np.testing.assert_allclose(found, np.delete(scores, 2), rtol=1e-6)
    valid = (-0.1 / 0.25, 0.4 / 0.25)
    exact = tfcert.minimum_perturbation(classifier, x[:2], y[:2], clip=valid)
    np.testing.assert_allclose([r.measured.upper for r in least if r.sample != 2], exact.upper / UNIT, rtol=1e-4)
    assert {r.outcome for r in score if r.sample != 2} == {Outcome.UNKNOWN}
    assert {r.verdict.guarantee for r in score if r.sample != 2} == {Guarantee.ESTIMATE}
    assert all((r.outcome, r.measured.lower, r.measured.upper) == (Outcome.FALSIFIED, 0, 0)
               for r in report.records if r.sample == 2)  # fmt: skip
    saved = {
        (r["property"], r["sample"]): r for r in json.loads((report.folder / "result.json").read_text())["records"]
    }
    assert saved["score", 0].items() >= {"lower": None, "upper": None, "space": "raw", "distance": "clever"}.items()
    assert (saved["least", 0]["optimal"], saved["least", 0]["guarantee"]) == (exact.optimal[0], exact.guarantee[0])
    assert report.exit_code == ExitCode.PASS and "CLEVER score: an estimate" in str(report)


def bounding(question):
    for place in question.places:
        yield DistanceAnswer(1.0 + place, 2.0 + place, guarantee=Guarantee.NUMERIC, optimal=False, seconds=0.0)


def attacking(question):
    for place in question.places:
        yield DistanceAnswer(upper=2.0, guarantee=Guarantee.REPLAYED) if place != 1 else DistanceAnswer()


def estimating(question):
    for place in question.places:
        yield DistanceAnswer(estimate=float(place))


def proving(question):
    for _ in question.places:
        yield DistanceAnswer(1.0, guarantee=Guarantee.NUMERIC)


KINDS = {"bounding": (True, True), "attacking": (False, True), "estimating": (False, False), "proving": (True, False)}


@pytest.fixture
def ways():
    """A way of each kind, with numbers that are known."""
    options = dict(DISTANCES["global-lipschitz"].options)
    entries = [
        DistanceInfo(name, f"{__name__}:{name}", title=name, promise="so", proves=proves, refutes=refutes,
                     norms=("l1",), options=options, batch=2)
        for name, (proves, refutes) in KINDS.items()
    ]  # fmt: skip
    with (
        DISTANCES.added(entries[0]),
        DISTANCES.added(entries[1]),
        DISTANCES.added(entries[2]),
        DISTANCES.added(entries[3]),
    ):
        yield


@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize(
    ("way", "condition", "judgement"),
    [
        ("bounding", "min(m) >= 0", "pass"),
        ("bounding", "max(m) <= 3.9", "fail"),  # the last one is from 4 to 4.5
        ("bounding", "max(m) <= 4.2", "inconclusive"),
        ("bounding", "m_is", "pass"),
        ("attacking", "median(m) <= 1", "pass"),
        ("attacking", "max(m) <= 100", "inconclusive"),  # of one sample no witness is known
        ("attacking", "median(m) >= 0.1", "inconclusive"),
        ("attacking", "median(m) >= 1.1", "fail"),
        ("attacking", "max(m) - max(m) <= 1", "pass"),
        ("proving", "median(m) >= 0.5", "pass"),
        ("proving", "median(m) >= 0.6", "inconclusive"),
        ("proving", "mean(m) <= 1e9", "inconclusive"),
    ],
)
def test_an_assertion_says_no_more_than_the_way_found(ask, way, condition, judgement):
    condition = "min(m) <= 0 and percentile(m, 50) >= 2" if condition == "m_is" else condition
    report = ask(f"measure m(x, y in test) = {way}(clf, l1) in raw\nassert {condition}\n")
    assert [j.judgement for j in report.judged if j.text.startswith("assert")] == [judgement]


@pytest.mark.usefixtures("ways")
def test_estimates_are_reported_and_judge_nothing(ask):
    text = "measure m(x, y in test) = estimating(clf, l1) in net\n"
    alone = ask(text + "report median(m), percentile(m, 100), histogram(m)\n")
    assert alone.exit_code == ExitCode.INCONCLUSIVE and "pass" not in str(alone)
    assert "median(m) = 3.5" in str(alone) and "estimating: so" in str(alone)
    assert (alone.folder / "figures" / "m-histogram.png").is_file()
    beside = ask(text + "measure n(x, y in test) = proving(clf, l1) in net\nassert min(n) >= 0\n")
    assert beside.exit_code == ExitCode.PASS and not any("m:" in j.text for j in beside.judged)
    with pytest.raises(tfcert.SpecError, match=r"E215.*`m` is a estimating, so: it decides no assertion"):
        ask(text + "assert median(m) >= 0\n")


ASKED: list[int] = []


def stopping(question):
    for place in question.places:
        ASKED.append(place)
        if len(ASKED) == 4:
            raise KeyboardInterrupt
        yield DistanceAnswer(1.0, guarantee=Guarantee.NUMERIC, seconds=0.5)


def test_ctrl_c_keeps_what_was_measured_and_resume_goes_on(ask, folder):
    ASKED.clear()
    options = dict(DISTANCES["global-lipschitz"].options)
    info = DistanceInfo(
        "stopping", f"{__name__}:stopping", title="t", promise="so", proves=True, norms=("l1",), options=options,
        batch=100,
    )  # fmt: skip
    text = "measure m(x, y in test) = stopping(clf, l1) in net\nassert min(m) >= 0\n"
    with DISTANCES.added(info):
        first = ask(text)
        assert first.exit_code == ExitCode.INTERRUPTED and len(first.records) == 4
        second = ask(text, resume=first.folder)
    assert second.exit_code == ExitCode.PASS and len(second.records) == 8
    assert ASKED == [0, 1, 3, 4, 4, 5, 6, 7]  # the third is misclassified, and the fifth was cut short
    assert sum(r.verdict.seconds for r in second.records) == pytest.approx(3.5, abs=0.2)


def test_explain_says_what_is_asked_and_what_it_promises(folder):
    text = "measure m(x, y in test take 5) = minimum(clf, l2, time_limit=2min) in raw\n"
    said = explain(load(HEAD + text, root=folder))
    assert "by: minimum(clf, l2, time_limit=120), minimum perturbation: between a proven lower bound" in said
    assert (
        "at most 120 s a sample (600 s)" in said and "l2 distance to another class in raw space, within [0, 1]" in said
    )


def test_a_single_output_is_refused_when_the_model_loads(ask, folder):
    import keras

    keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)]).save(folder / "clf.keras")
    with pytest.raises(ValueError, match="single output"):
        ask("measure m(x, y in test) = clever(clf, l2) in net\n")
