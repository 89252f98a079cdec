"""Assertions are judged on intervals and say inconclusive where these do not decide."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from tfcert.language import Judgement, MeasureValues, PropertyCounts, Results, Spec, SpecError, load

HEAD = """prop 1
model clf = keras("clf.keras")
dataset test = mnist5k() { scale: 1/255 }
property robust(x, y in test) { forall z in ball(x, linf, 0.1) in unit: argmax(clf(z)) == y }
measure radius(x, y in test) = largest r in [0, 0.5] such that
  forall z in ball(x, linf, r) in unit: argmax(clf(z)) == y
measure stored(x, y in test) = largest r in [0, 128] such that forall z in ball(x, linf, r) in raw: argmax(clf(z)) == y
"""


def spec(text: str) -> Spec:
    return load(HEAD + text)


def judge(condition: str, results: Results) -> str:
    (assertion,) = spec("assert " + condition).assertions
    return assertion.judge(results).value


COUNTS = Results(
    properties={"robust": PropertyCounts(total=100, correct=97, verified=90, falsified=6)},
    accuracies={("clf", "test"): (97, 100)},
)
RADII = Results(
    measures={
        "radius": MeasureValues(np.array([0.1, 0.2, np.nan]), np.array([0.2, np.nan, 0.05])),
        "stored": MeasureValues([5, 10, 15], [20, 30, 15]),
    }
)


@pytest.mark.parametrize(
    ("condition", "verdict"),
    [
        ("verified_accuracy(robust) >= 0.90", "pass"),
        ("verified_accuracy(robust) > 0.90", "inconclusive"),
        ("verified_accuracy(robust) >= 0.94", "inconclusive"),
        ("verified_accuracy(robust) > 0.94", "fail"),
        ("verified_accuracy(robust) < 0.90", "fail"),
        ("verified_accuracy(robust) <= 0.94", "pass"),
        ("verified_accuracy(robust) == 0.94", "inconclusive"),
        ("verified_accuracy(robust) != 0.95", "pass"),
        ("verified_share(robust) >= 90%", "pass"),
        ("verified_share(robust) > 0.94", "fail"),
        ("attack_accuracy(robust) == 94%", "pass"),
        ("nominal_accuracy(robust) == 0.97", "pass"),
        ("accuracy(clf, test) == 97/100", "pass"),
        ("0.9 <= verified_accuracy(robust) <= 0.94", "pass"),
        ("not verified_accuracy(robust) >= 0.95", "pass"),
        ("verified_accuracy(robust) >= 0.92 or true", "pass"),
        ("verified_accuracy(robust) >= 0.92 and false", "fail"),
        ("verified_accuracy(robust) >= 0.92 or verified_accuracy(robust) >= 0.99", "inconclusive"),
        ("accuracy(clf, test) > 0.9 => verified_accuracy(robust) >= 0.9", "pass"),
        ("accuracy(clf, test) - verified_accuracy(robust) <= 7%", "pass"),
        ("2 * verified_accuracy(robust) / 4 - 0.1 >= 0.35", "pass"),
    ],
)  # fmt: skip
def test_counts_are_judged(condition: str, verdict: str) -> None:
    assert judge(condition, COUNTS) == verdict


@pytest.mark.parametrize(
    ("condition", "verdict"),
    [
        ("mean(radius) >= 0.11", "inconclusive"),  # between (0.1 + 0.2 + 0)/3 and (0.2 + 0.5 + 0.05)/3
        ("mean(radius) >= 25px", "pass"),
        ("mean(stored) >= 0.05", "pass"),  # between 10 and 21.7 of 255
        ("mean(stored) >= 5%", "inconclusive"),
        ("mean(stored) >= 3%", "pass"),
        ("mean(stored) >= 2 * 1.5% and mean(stored) > 5px + 1%", "pass"),
        ("50% * mean(stored) >= 3%", "inconclusive"),
        ("mean(radius) > 0.2500001", "fail"),
        ("min(radius) > 0.05000001", "fail"),
        ("max(radius) >= 0.2", "pass"),
        ("median(radius) >= 0.1", "pass"),
        ("percentile(radius, 100) <= 0.5", "pass"),
        ("percentile(radius, 25) >= 0.05", "pass"),
        ("percentile(radius, 25) > 0.13", "fail"),
    ],
)
def test_measures_are_judged(condition: str, verdict: str) -> None:
    assert judge(condition, RADII) == verdict


def test_a_smallest_radius_counts_as_the_ends_of_its_interval_where_it_is_not_known() -> None:
    text = (
        "measure least(x, y in test) = smallest r in [0.1, 0.4] such that\n"
        "  exists z in ball(x, linf, r) in unit: argmax(clf(z)) != y\nassert "
    )
    results = Results(measures={"least": MeasureValues([0.2, math.nan], [0.3, math.nan])})

    def says(condition: str) -> str:
        (assertion,) = spec(text + condition).assertions
        return assertion.judge(results).value

    # The first lies in [0.2, 0.3], the second in [0.1, 0.4].
    assert says("mean(least) >= 0.15 and mean(least) <= 0.35 and min(least) >= 0.1 and max(least) <= 0.4") == "pass"
    assert says("mean(least) > 0.15001") == says("mean(least) < 0.3499") == "inconclusive"
    assert says("mean(least) > 0.35001") == says("min(least) < 0.1") == "fail"


def test_percentile_agrees_with_numpy() -> None:
    (item,) = spec("report percentile(radius, 37)").reports
    values = np.random.default_rng(0).uniform(0, 0.5, 50)
    assert item.quantity is not None
    interval = item.quantity.interval(Results(measures={"radius": MeasureValues(values, values)}))
    assert interval is not None and interval[0] == interval[1]
    assert float(interval[0]) == pytest.approx(np.percentile(values, 37), rel=1e-12)


def test_no_samples_are_inconclusive() -> None:
    empty = Results({"robust": PropertyCounts(0, 0, 0, 0)}, {"radius": MeasureValues([], [])})
    assert judge("verified_accuracy(robust) >= 0 and mean(radius) >= 0", empty) == "inconclusive"


def test_missing_results_are_a_key_error() -> None:
    with pytest.raises(KeyError):
        judge("verified_accuracy(robust) >= 0", Results())


def test_names_of_an_assertion_are_recorded() -> None:
    loaded = spec("assert verified_accuracy(robust) + mean(radius) >= accuracy(clf, test)\nassert true")
    first, second = loaded.assertions
    assert first.properties == {"robust"} and first.measures == {"radius"}
    assert first.accuracies == {("clf", "test")}
    assert second.judge(Results()) is Judgement.PASS
    assert loaded.judged_by_assertions == {"robust"}


@pytest.mark.parametrize(
    ("condition", "judged"),
    [
        ("verified_accuracy(robust) >= 0 and accuracy(clf, test) >= 0.5", set()),
        ("0 <= verified_accuracy(robust) <= 0.9", {"robust"}),
        ("0 * attack_accuracy(robust) + accuracy(clf, test) >= 0.5", set()),
        ("verified_accuracy(robust) >= 2 or accuracy(clf, test) >= 0.5", set()),
        ("accuracy(clf, test) >= 0.5 => verified_accuracy(robust) >= 0.5", {"robust"}),
    ],
)
def test_a_part_that_holds_or_fails_anyway_takes_no_judgement_over(condition: str, judged: set[str]) -> None:
    assert spec(f"assert {condition}").judged_by_assertions == judged


def test_a_box_has_no_nominal_accuracy_and_an_accuracy_is_not_normalised_twice() -> None:
    box = "property flat { forall z in box([0, 1]) in unit: clf(z)[0] >= 0 }\n"
    with pytest.raises(SpecError, match=r"E206.*`flat` is about a box, which is around no unperturbed input"):
        spec(box + "assert nominal_accuracy(flat) >= 0.5")
    twice = 'model own = keras("own.keras") { normalize: { std: 2 } }\n'
    twice += "dataset norm = mnist5k() { normalize: { mean: 1 } }\n"
    with pytest.raises(SpecError, match="E226"):
        spec(twice + "report accuracy(own, norm)")


def test_reports_list_what_to_show() -> None:
    histogram, accuracy = spec("report histogram(radius, bins=20), accuracy(clf, test)").reports
    assert (histogram.kind, histogram.names, histogram.options) == ("histogram", ("radius",), (("bins", 20),))
    assert accuracy.quantity is not None and accuracy.quantity.interval(COUNTS) == (Fraction(97, 100),) * 2
