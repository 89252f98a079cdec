"""Exit codes, assertions, and the result file."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tfcert.report import ExitCode

MEASURE = """\
strategy other = pgd -> crown
measure radius(x, y in test) = largest r in [0, 1] tol 1% such that
  forall z in ball(x, linf, r) within [0, 1] in net: argmax(clf(z)) == y
  using other
"""
FIELDS = {
    "property", "sample", "outcome", "reason", "reason_name", "stage", "method", "relaxation", "guarantee", "norm",
    "eps", "radius", "margin", "label", "prediction", "seconds", "witness",
}  # fmt: skip
MEASURE_FIELDS = {"lower", "upper", "space", "targets"}


def smallest_misclassified(classifier, x: np.ndarray, label: int) -> float:
    """The L-inf distance of the nearest of many random points of the unit cube that get another class."""
    points = np.random.default_rng(0).random((20_000, 4)).astype(np.float32)
    others = points[np.asarray(classifier(points)).argmax(axis=1) != label]
    return float(np.abs(others - x).max(axis=1).min())


@pytest.mark.parametrize(
    ("margin", "more", "expected"),
    [
        (0.5, "assert verified_accuracy(robust) >= 0.8", ExitCode.PASS),
        (0.5, "assert verified_accuracy(robust) >= 0.9", ExitCode.FAIL),
        (-0.5, "assert verified_accuracy(robust) >= 0.8", ExitCode.INCONCLUSIVE),
        (0.5, "", ExitCode.FAIL),
        (0.5, "assert accuracy(clf, test) >= 0.8 and verified_accuracy(robust) >= 0.8", ExitCode.PASS),
        (0.5, "assert accuracy(clf, test) >= 0.9", ExitCode.FAIL),
    ],
)
def test_a_named_property_is_judged_by_its_assertions_and_another_by_its_outcomes(run, margins, margin, more, expected):
    margins(margin)
    assert run("crown", more).exit_code is expected


@pytest.mark.parametrize(("margin", "expected"), [(0.5, ExitCode.PASS), (-0.5, ExitCode.INCONCLUSIVE)])
def test_a_property_without_falsified_samples_passes_or_is_inconclusive(run, margins, samples, wrong, margin, expected):
    margins(margin)
    x, y = samples
    right = [i for i in range(len(x)) if i != wrong]
    assert run("crown", bindings={"test": (x[right], y[right])}).exit_code is expected


def test_a_selection_that_selects_nothing_is_nothing_to_check(run, write_spec):
    text = write_spec().read_text().replace("x, y in test)", "x, y in test where y == 7)")
    assert run(text=text).exit_code is ExitCode.NOTHING_TO_CHECK


def test_the_result_file_has_a_header_and_flat_records_without_nan(run, folder, margins):
    margins(float("nan"))
    run("crown")
    text = (folder / "out" / "result.json").read_text()
    assert "NaN" not in text and "Infinity" not in text
    result = json.loads(text)
    assert set(result) == {"header", "records"}
    assert set(result["records"][0]) >= FIELDS
    assert {r["outcome"] for r in result["records"]} == {"unknown", "falsified"}
    assert all(r["margin"] is None for r in result["records"] if r["outcome"] == "unknown")
    header = result["header"]
    assert header["params"] == {"eps": "1/100"}
    assert len(header["spec_sha256"]) == len(header["weights_sha256"]["clf"]) == 64
    assert header["versions"]["tensorflow"]


def test_a_measure_brackets_the_true_radius(run, folder, classifier, samples, wrong):
    report = run("ibp", MEASURE)
    flat = [r.as_json() for r in report.records if r.property == "radius"]
    assert len(flat) == 8
    for entry in flat:
        assert set(entry) >= FIELDS | MEASURE_FIELDS
        if entry["sample"] == wrong:
            assert (entry["lower"], entry["upper"], entry["outcome"]) == (0.0, 0.0, "falsified")
            continue
        assert entry["lower"] > 0 and entry["outcome"] == "verified" and entry["space"] == "net"
        x = samples[0][entry["sample"]]
        assert entry["lower"] < smallest_misclassified(classifier, x, entry["label"])
        if entry["upper"] is not None:
            assert entry["lower"] < entry["upper"] <= 1


def test_assertions_on_a_measure_decide_the_exit_code(run):
    more = MEASURE + "assert min(radius) >= 0\nassert verified_accuracy(robust) >= 0.5\n"
    assert run("ibp", more).exit_code is ExitCode.PASS


def test_a_measured_radius_above_a_witness_is_not_proven(run, margins):
    margins(1.0)
    report = run("crown", MEASURE.replace("pgd -> crown", "pgd -> crown { rounding: ignore }"))
    against = [r for r in report.records if r.verdict.contradicted is not None]
    assert against and all(np.isnan(r.measured.lower) and r.measured.upper < 1 for r in against)
    assert all("certified up to 1, yet a witness replays" in r.verdict.reason for r in against)
    assert report.header["contradictions"] == len(against)


OTHER = """\
property other(x, y in test where y == 7) using plan { forall z in ball(x, linf, eps) in net: argmax(clf(z)) == y }
"""
DISARMED = [
    "nominal_accuracy(robust) >= 0.5",
    "verified_accuracy(robust) >= 0",
    "verified_accuracy(robust) >= 0 or true",
    "verified_accuracy(robust) >= 0 and accuracy(clf, test) >= 0.5",
    "0 * verified_accuracy(robust) + accuracy(clf, test) >= 0.5",
]


@pytest.mark.parametrize("condition", DISARMED)
def test_a_falsified_property_is_not_made_green_by_an_assertion_about_something_else(run, margins, condition):
    margins(0.5)
    report = run("crown", f"assert {condition}")
    assert report.exit_code is ExitCode.FAIL
    assert [j.judgement for j in report.judged] == ["pass", "fail"]


def test_a_question_about_no_sample_keeps_others_from_a_pass(run, margins):
    margins(0.5)
    report = run("crown", f"{OTHER}assert verified_accuracy(robust) >= 0.5")
    assert report.exit_code is ExitCode.INCONCLUSIVE
    assert report.judged[-1].text == "property other: no sample is selected"
    named = run("crown", f"{OTHER}assert verified_accuracy(robust) >= 0.5 or verified_accuracy(other) >= 0.5")
    assert named.exit_code is ExitCode.INCONCLUSIVE
    assert named.judged[0].text.endswith("(no sample of other is proven or refuted)")


def test_an_attack_that_finds_nothing_is_no_pass(run, samples, wrong):
    x, y = (np.delete(part, wrong, axis=0) for part in samples)
    report = run("pgd(steps=2)", "assert attack_accuracy(robust) >= 0.9", bindings={"test": (x, y)})
    assert report.exit_code is ExitCode.INCONCLUSIVE


@pytest.mark.parametrize(
    ("check", "judged"),
    [
        ("", 1),
        ("check common.robust", 2),
        ("check common", 2),
        ("check common\nassert nominal_accuracy(common.robust) <= 1/2", 3),
    ],
)
def test_what_is_imported_is_asked_where_check_says_so(run, write_spec, folder, margins, check, judged):
    margins(0.5)
    held = write_spec("crown", "assert verified_accuracy(robust) >= 0.99").read_text()
    (folder / "common.prop").write_text(held if check != "check common.robust" else held.split("assert")[0])
    text = f'prop 1\nimport "common.prop" as common\n{check}\nassert accuracy(common.clf, common.test) >= 0.5\n'
    report = run(text=text)
    assert len(report.judged) == judged
    assert report.exit_code is (ExitCode.FAIL if check else ExitCode.PASS)
    assert {r.property for r in report.records} == ({"common.robust"} if check else set())
