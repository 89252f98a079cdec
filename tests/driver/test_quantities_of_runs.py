"""What a run says of classes, of the correctly classified alone, and of measures of which nothing is asserted."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from tfcert.errors import UsageError
from tfcert.report import ExitCode

RADIUS = """\
strategy other = pgd(steps=5, restarts=1) -> crown
measure radius(x, y in test) = largest r in [0, 1] tol 1% such that
  forall z in ball(x, linf, r) within [0, 1] in net: argmax(clf(z)) == y
  using other
"""


def test_of_correct_leaves_the_misclassified_sample_out(run, margins):
    margins(0.5)
    report = run("crown", "assert verified_accuracy(robust) of correct >= 1\nassert verified_accuracy(robust) <= 7/8")
    assert report.exit_code is ExitCode.PASS
    assert "verified_accuracy(robust) of correct = 1" in report.notes
    assert [r.correct for r in sorted(report.records, key=lambda r: r.sample)].count(False) == 1


def test_per_class_one_class_fails_the_assertion_and_is_named(run, margins, samples, wrong):
    margins(0.5)
    label = int(samples[1][wrong])
    report = run(
        "crown", "assert per class y: verified_accuracy(robust) >= 0.99\nreport per class y: accuracy(clf, test)"
    )
    (judged,) = report.judged
    assert judged.judgement == "fail" and judged.text.endswith(f"(fails in class {label})")
    told = [note for note in report.notes if note.startswith(f"class {label}: accuracy(clf, test)")]
    share = 1 - 1 / int((samples[1] == label).sum())
    assert told == [f"class {label}: accuracy(clf, test) = {share:.4g}"]
    only = run("crown", "assert per class y: verified_accuracy(robust) of correct >= 0.99")
    nobody = share == 0  # nobody of that class is classified right, which is no pass
    assert only.exit_code is (ExitCode.INCONCLUSIVE if nobody else ExitCode.PASS)
    assert not nobody or only.judged[0].text.endswith(f"(is open in class {label})")


def test_a_tie_is_not_correct(run, folder, samples):
    import keras

    flat = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, kernel_initializer="zeros")])
    more = "assert verified_accuracy(robust) of correct >= 0.5"
    report = run("crown", more, bindings={"clf": flat})
    assert not any(r.correct for r in report.records) and report.exit_code is ExitCode.INCONCLUSIVE


def test_of_correct_of_a_single_output_is_refused(run):
    import keras

    one = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    text = (
        'prop 1\nmodel one = keras("one.keras")\ndataset test = npz("test.npz", x="x", y="y") { range: [0, 1] }\n'
        "strategy plan = crown\n"
        "property low(x, y in test) using plan { forall z in ball(x, linf, 0.1) in net: y == 0 => one(z)[0] <= 1 }\n"
        "assert verified_accuracy(low) of correct >= 0\n"
    )
    with pytest.raises(UsageError, match="classified right"):
        run(text=text, bindings={"one": one})


def test_tables_and_curves_are_written(run, folder):
    report = run("crown", RADIUS + "report table(radius), curve(radius), median(radius), share(radius >= 0.01)")
    with (folder / "out" / "tables" / "radius.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["sample"]) for row in rows] == sorted(int(row["sample"]) for row in rows) and len(rows) == 8
    by_sample = {r.sample: r.measured.lower for r in report.records if r.property == "radius"}
    assert all(
        float(row["lower"] or "nan") == pytest.approx(by_sample[int(row["sample"])], nan_ok=True) for row in rows
    )
    assert (folder / "out" / "figures" / "radius-curve.png").stat().st_size > 1000
    share = np.mean([value >= 0.01 for value in by_sample.values()])
    assert any(note.startswith("share(radius >= 0.01)") and f"{share:.4g}" in note for note in report.notes)
    assert any("1 sample misclassified as they are included (`median(radius) of correct`" in n for n in report.notes)
    saved = json.loads((folder / "out" / "result.json").read_text())["records"]
    assert {flat["correct"] for flat in saved} == {True, False}


def test_a_run_of_measures_alone_does_not_read_like_a_pass(run):
    head = 'prop 1\nmodel clf = keras("clf.keras")\ndataset test = npz("test.npz", x="x", y="y") { range: [0, 1] }\n'
    report = run(text=head + RADIUS)
    assert report.exit_code is ExitCode.PASS and report.judged == ()
    assert report.last_line().startswith("8 values measured, and nothing asserted of them")
