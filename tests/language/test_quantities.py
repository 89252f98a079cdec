"""Quantities of results: quotients, shares of samples, the correctly classified, and classes, all by intervals."""

from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction

import numpy as np
import pytest

from tfcert.language import Judgement, MeasureValues, PropertyCounts, Results, Spec, SpecError, load
from tfcert.language.spec.quantities import Combination, Quantity, Quotient

HEAD = """prop 1
model clf = keras("clf.keras")
dataset test = mnist5k() { scale: 1/255 }
property robust(x, y in test) { forall z in ball(x, linf, 0.1) in unit: argmax(clf(z)) == y }
property calm(x in test) { forall z in ball(x, linf, 0.1) in unit: clf(z)[0] <= 1 }
measure radius(x, y in test) = largest r in [0, 0.5] such that
  forall z in ball(x, linf, r) in unit: argmax(clf(z)) == y
measure near(x, y in test) = smallest r in [0, 0.5] such that
  exists z in ball(x, linf, r) in unit: argmax(clf(z)) != y
measure stored(x, y in test) = largest r in [0, 128] such that forall z in ball(x, linf, r) in raw: argmax(clf(z)) == y
"""


def spec(text: str) -> Spec:
    return load(HEAD + text)


def judge(condition: str, results: Results) -> str:
    (assertion,) = spec("assert " + condition).assertions
    return assertion.judge(results).value


def problem(text: str) -> str:
    with pytest.raises(SpecError) as caught:
        spec(text)
    return caught.value.render()


SOME = Results({"robust": PropertyCounts(100, 80, 60, 30)}, {"radius": MeasureValues([0.1, 0.2], [0.2, 0.4])})
ALL = Results(
    {"robust": PropertyCounts(100, 80, 60, 30)},
    {
        "radius": MeasureValues([0.125, 0.25, math.nan, 0.375], [0.25, math.nan, 0.0625, 0.375]),
        "near": MeasureValues([0.1, 0.2, 0.3, 0.4], [0.2, 0.3, math.nan, 0.4]),
    },
    correct=SOME,
    classes={
        0.0: Results({"robust": PropertyCounts(10, 10, 9, 0)}, {}),
        1.0: Results({"robust": PropertyCounts(10, 8, 4, 4)}, {}),
        2.0: Results({"robust": PropertyCounts(0, 0, 0, 0)}, {}),
    },
)


@pytest.mark.parametrize(
    ("condition", "verdict"),
    [
        ("verified_accuracy(robust) / nominal_accuracy(robust) >= 0.75", "pass"),
        ("verified_accuracy(robust) / nominal_accuracy(robust) > 0.75", "inconclusive"),
        ("verified_accuracy(robust) / nominal_accuracy(robust) >= 0.876", "fail"),
        ("2 * verified_accuracy(robust) / nominal_accuracy(robust) / 2 - 0.75 >= 0", "pass"),
        # Not cancelled: an interval over itself.
        ("verified_accuracy(robust) / verified_accuracy(robust) >= 1", "inconclusive"),
        ("1 / nominal_accuracy(robust) == 1.25", "pass"),
        ("mean(radius) / mean(near) >= 0.1", "pass"),
        ("mean(near) - mean(radius) >= 0.5", "fail"),
    ],
)
def test_quotients_and_differences_are_intervals(condition: str, verdict: str) -> None:
    assert judge(condition, ALL) == verdict


def test_a_quotient_without_a_number_decides_nothing() -> None:
    none_right = Results({"robust": PropertyCounts(10, 0, 0, 10)})
    assert judge("verified_accuracy(robust) / nominal_accuracy(robust) >= 0.5", none_right) == "inconclusive"
    assert judge("verified_accuracy(robust) / nominal_accuracy(robust) < 0.5", none_right) == "inconclusive"


ENDS = [Fraction(-2), Fraction(-1, 3), Fraction(0), Fraction(1, 2), Fraction(3), math.inf, -math.inf]


@pytest.mark.parametrize("seed", range(20))
def test_a_quotient_holds_every_quotient_of_two_numbers_of_its_parts(seed: int) -> None:
    r = random.Random(seed)
    top, below = (tuple(sorted(r.sample(ENDS, 2))) for _ in range(2))
    parts = [Quantity("value", (name,)) for name in "ab"]
    both = Quotient(*(Combination(((part, Fraction(1)),)) for part in parts))
    found = both.interval(dict(zip(parts, (top, below), strict=True)).__getitem__)

    def inside(interval):
        low, high = (min(max(end, -50), 50) for end in interval)
        return [low + (high - low) * Fraction(i, 12) for i in range(13)]

    assert found is not None
    quotients = [Fraction(a) / Fraction(b) for a, b in itertools.product(inside(top), inside(below)) if b]
    assert all(found[0] <= q <= found[1] for q in quotients)
    # No looser than it must be: where both ends are finite and nothing divides by 0, they are reached.
    if not any(map(math.isinf, (*top, *below))) and (below[0] > 0 or below[1] < 0):
        assert (min(quotients), max(quotients)) == found


@pytest.mark.parametrize(
    ("condition", "verdict"),
    [
        # The four lie in [0.125, 0.25], [0.25, 0.5], [0, 0.0625] and [0.375, 0.375].
        ("share(radius >= 0.1) >= 75%", "pass"),
        ("share(radius > 0.25) == 0.5", "inconclusive"),
        ("share(radius > 0.25) >= 25%", "pass"),
        ("share(radius > 0.25) > 50%", "fail"),
        ("share(0.0625 >= radius) == 0.25", "pass"),
        ("share(not_here >= 1) >= 0", None),
        ("share(0.375 <= radius <= 0.375) >= 25%", "pass"),
        ("share(radius >= 51px and radius < 0.375) <= 50%", "pass"),
        ("share(radius >= 51px and radius < 0.375) <= 49%", "inconclusive"),
    ],
)
def test_shares_of_samples_are_counted_by_what_is_known_of_each(condition: str, verdict: str | None) -> None:
    if verdict is None:
        assert "E2" in problem(f"assert {condition}")
    else:
        assert judge(condition, ALL) == verdict


def test_a_share_agrees_with_counting() -> None:
    (item,) = spec("report share(radius >= 0.1 and radius < 0.3)").reports
    values = np.random.default_rng(0).uniform(0, 0.5, 200)
    assert item.quantity is not None
    counted = Fraction(int(((values >= 0.1) & (values < 0.3)).sum()), 200)
    assert item.quantity.interval(Results(measures={"radius": MeasureValues(values, values)})) == (counted, counted)


def test_of_correct_is_judged_on_the_correctly_classified_alone() -> None:
    assert judge("mean(radius) of correct >= 0.15", ALL) == "pass"
    assert judge("mean(radius) >= 0.19", ALL) == "inconclusive"
    assert judge("percentile(radius, 50%) of correct > 0.31", ALL) == "fail"
    (assertion,) = spec("assert verified_accuracy(robust) of correct >= 0.5").assertions
    assert assertion.judged == {"robust"}, "it takes over, as one about all samples does"
    nobody = Results({"robust": PropertyCounts(2, 0, 0, 2)}, correct=Results({"robust": PropertyCounts(0, 0, 0, 0)}))
    assert judge("verified_accuracy(robust) of correct >= 0", nobody) == "inconclusive"


def test_per_class_it_must_hold_in_every_class_that_has_samples() -> None:
    assert judge("per class y: verified_accuracy(robust) >= 0.4", ALL) == "pass"
    assert judge("per class y: verified_accuracy(robust) >= 0.5", ALL) == "inconclusive"
    assert judge("per class y: verified_accuracy(robust) >= 0.61", ALL) == "fail"
    (assertion,) = spec("assert per class y: verified_accuracy(robust) >= 0.61").assertions
    assert assertion.by_class(ALL) == {0.0: Judgement.PASS, 1.0: Judgement.FAIL}
    assert judge("per class y: verified_accuracy(robust) >= 0", Results()) == "inconclusive", "no class, no pass"


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("assert verified_accuracy(calm) of correct >= 0.1", "E206", "have no label"),
        ("assert per class y: verified_accuracy(calm) >= 0.1", "E206", "have no label"),
        ("assert accuracy(clf, test) of correct >= 0.1", "E206", "correctly classified is 1"),
        ("assert mean(radius) * mean(near) >= 0.1", "E210", "divided by each other"),
        ("assert mean(radius) / mean(stored) >= 1", "E207", "same space"),
        ("assert share(radius == 0.1) >= 1", "E206", "in a range"),
        ("assert share(radius >= near) >= 0.5", "E206", "with numbers"),
        ("assert share(0.1 >= 0.2) >= 0.5", "E206", "with numbers"),
        ("assert radius >= 0.1", "E206", "median(radius)"),
        ("report per class y: histogram(radius)", "E206", "all samples"),
        ("report mean(radius) - mean(near)", "E206", "a report lists"),
        ("property p(x, y in test) { forall z in ball(x, linf, 1) in unit: clf(z) of correct >= 1 }", "E206", "where"),
    ],
)
def test_what_cannot_be_told_is_refused_with_what_to_write(text: str, code: str, says: str) -> None:
    rendered = problem(text)
    assert f"[{code}]" in rendered and says in rendered


def test_minimum_and_maximum_are_the_ends() -> None:
    assert judge("minimum(radius) <= 0.0625 and maximum(near) >= 0.4", ALL) == "pass"
