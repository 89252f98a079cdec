"""Units and ranges against loaded samples: what they contradict, where witnesses lie, what is told as a share."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tfcert.driver.doubts import doubts, one_class
from tfcert.driver.verify import verify
from tfcert.errors import UsageError
from tfcert.language import Dataset, load

TEXT = """prop 1
model clf = keras("clf.keras")
dataset test = npz("test.npz") { OPTIONS }
strategy s = pgd(steps=5, restarts=1) -> crown
property p(x, y in test) using s { forall z in BALL: argmax(clf(z)) == y }
MORE
"""


def spec(options: str, ball: str, more: str = "") -> str:
    return TEXT.replace("OPTIONS", options).replace("BALL", ball).replace("MORE", more)


def test_taking_the_first_of_a_sorted_file_is_doubted():
    template = load(spec("", "ball(x, linf, 0.1)").replace("x, y in test", "x, y in test take 10")).properties["p"]
    (doubt,) = one_class(template, Dataset("test", "npz", "", False), [3] * 10)
    assert doubt.startswith("p: all 10 samples that `take` leaves of test have the label 3")
    assert not one_class(template, Dataset("test", "npz", "", False), [3] * 9 + [4])
    assert not one_class(replace(template, choice=()), Dataset("test", "npz", "", False), [3] * 10)


@pytest.fixture
def ask(classifier, samples, tmp_path):
    """Runs a specification on the samples, times a factor, that the model itself divides by it."""
    import keras

    def run(text: str, factor: float = 255.0):
        inputs = keras.Input((4,))
        model = keras.Model(inputs, classifier(keras.layers.Rescaling(1 / factor)(inputs)))
        bindings = {"clf": model, "test": (samples[0] * factor, samples[1])}
        return verify(text, bindings=bindings, out=tmp_path / "out", verbose=0)

    return run


def test_pixels_behind_a_rescaling_are_not_taken_for_values_in_0_to_1(ask):
    with pytest.raises(UsageError, match="`in unit` is for values in \\[0, 1\\], but those of test go from"):
        ask(spec("", "ball(x, linf, 80/255) in unit"))
    meant = ask(spec("range: [0, 255]", "ball(x, linf, 80px)"))
    assert [r.asked.eps for r in meant.records] == [80.0] * 8
    assert sum(r.outcome == "verified" for r in meant.records) < 8
    close = ask(spec("", "ball(x, linf, 8/255)"))
    (doubt,) = (note for note in close.notes if "is its unit meant?" in note)
    assert doubt.startswith("p: the radius is 0.01")


def test_a_range_far_wider_than_the_samples_is_doubted(ask):
    report = ask(spec("range: [0, 255]", "ball(x, linf, 1)"), factor=1.0)
    assert any(note.startswith("test: its values go from") and "[0, 255]" in note for note in report.notes)


SCALED = "range: [0, 255] scale: 1/255"


def test_witnesses_lie_in_the_declared_range_unless_anything_is_allowed(classifier, samples, tmp_path):
    def extremes(ball: str, more: str) -> tuple[float, float, object]:
        bindings = {"clf": classifier, "test": (samples[0] * 255, samples[1])}
        report = verify(spec(SCALED, ball, more), bindings=bindings, out=tmp_path / "out", verbose=0)
        found = [np.load(tmp_path / "out" / r.witness)["witness"] for r in report.records if r.witness]
        assert {r.property for r in report.records if r.witness} == {"p", "m"}
        return float(np.min(found)), float(np.max(found)), report

    measure = "measure m(x, y in test) = largest r in [0, 100%] such that forall z in {}: argmax(clf(z)) == y using s"
    low, high, report = extremes("ball(x, linf, 60%) in unit", measure.format("ball(x, linf, r) in unit"))
    assert low >= -1e-6 and high <= 1 + 1e-6
    wide = "within anything in unit"
    low, high, _ = extremes(f"ball(x, linf, 60%) {wide}", measure.format(f"ball(x, linf, r) {wide}"))
    assert low < -0.1 or high > 1.1
    flat = json.loads((tmp_path / "out" / "result.json").read_text())["records"]
    assert all(r["range_width"] == 1 and r["eps_share"] == 0.6 for r in flat if r["property"] == "p")
    assert all(r["lower_share"] == r["lower"] for r in flat if r["property"] == "m" and r["lower"] is not None)
    median = np.median(np.nan_to_num(report.summary("m").proven))
    assert "% of" in str(report) and f"{100 * median:.1f}%" in str(report)


def test_a_mean_radius_is_told_as_a_share_of_the_range(ask):
    more = "measure m(x, y in test) = largest r in [0, 9px] such that forall z in ball(x, linf, r): argmax(clf(z)) == y"
    report = ask(spec("range: [0, 255]", "ball(x, linf, 1px)", f"{more} using s\nreport median(m)"))
    (note,) = (note for note in report.notes if note.startswith("median(m)"))
    low = float(np.median(np.nan_to_num(report.summary("m").proven)))
    assert f"({100 * low / 255:.1f}% of the range)" in note


def test_columns_of_a_table_have_spreads_of_their_own():
    template = load(spec("", "ball(x, linf, 1)")).properties["p"]
    rng, data = np.random.default_rng(0), Dataset("test", "csv", "", False)
    ages, incomes = rng.uniform(20, 90, (50, 2)), rng.uniform(0, 1e6, (50, 1))
    assert not doubts(template, data, np.concatenate([ages, incomes], axis=1)), "one year is no tiny share"
    assert doubts(template, data, incomes) and not doubts(template, data, ages[:1])
