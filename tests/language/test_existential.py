"""Questions about some input: lowered as the exact negation of questions about all."""

from __future__ import annotations

import numpy as np
import pytest
from language_specs import HEAD, spec

from tfcert.language import load


@pytest.mark.parametrize(
    ("condition", "outputs", "satisfied"),
    [
        ("argmax(clf(z)) != y", [2, 1, 0], True),
        ("argmax(clf(z)) != y", [0, 1, 1], True),  # a tie is no argmax
        ("argmax(clf(z)) != y", [0, 2, 1], False),
        ("argmax(clf(z)) == y", [0, 2, 1], True),
        ("argmax(clf(z)) == y", [0, 1, 1], False),
        ("argmin(clf(z)) == 2", [1, 2, 0], True),
        ("argmin(clf(z)) == 2", [0, 2, 0], False),
        ("clf(z)[0] >= 1", [1, 0, 0], True),
        ("clf(z)[0] > 1", [1, 0, 0], False),
        ("clf(z)[0] == clf(z)[2]", [1, 0, 1], True),
        ("clf(z)[0] != clf(z)[2]", [1, 0, 1], False),
        ("max(clf(z)) <= 1 or abs(clf(z)[0]) < 2", [-2, 1, 0], True),
        ("max(clf(z)) < 1 or abs(clf(z)[0]) < 2", [-2, 1, 0], False),
        ("clf(z)[y] > 1 => clf(z)[0] > 1", [0, 1, 0], True),
        ("clf(z)[y] > 1 => clf(z)[0] > 1", [0, 2, 0], False),
    ],
)
def test_what_some_input_satisfies_is_exactly_what_breaks_its_clauses(
    condition: str, outputs: list[int], satisfied: bool
) -> None:
    p = spec(f"property p(x, y in test) {{ exists z in ball(x, linf, 0.1) in unit: {condition} }}").properties["p"]
    assert p.existential and p.holds(outputs, 1) is not satisfied
    margins = [max(c.coefficients @ np.array(outputs) + c.offsets) for c in p.clauses(3, 1)]
    assert not (satisfied and min(margins) > 0) and not (not satisfied and min(margins) < 0)


def test_another_class_for_some_input_is_asked_with_the_clauses_of_robustness() -> None:
    text = "property p(x, y in test) {{ {} z in ball(x, linf, 0.1) in unit: argmax(clf(z)) {} y }}"
    robust, adversarial, reachable = (
        spec(text.format(*how)).properties["p"] for how in (("forall", "=="), ("exists", "!="), ("exists", "=="))
    )
    assert robust.is_robustness and adversarial.is_robustness and not reachable.is_robustness
    assert not robust.existential and adversarial.existential
    for a, b in zip(robust.clauses(10, 3), adversarial.clauses(10, 3), strict=True):
        np.testing.assert_array_equal(a.coefficients, b.coefficients)
    (clause,) = reachable.clauses(10, 3)
    assert clause.coefficients.shape == (9, 10) and (clause.coefficients[:, 3] == -1).all()


def test_a_smallest_measure_is_the_largest_of_the_negation() -> None:
    text = (
        "measure m(x, y in test) = {} r in [1px, 64px] tol 1% such that "
        "{} z in ball(x, l2, r) in unit: argmax(clf(z)) {} y"
    )
    least, most = (
        spec(text.format(*how)).measures["m"] for how in (("smallest", "exists", "!="), ("largest", "forall", "=="))
    )
    assert (least.extremum, most.extremum) == ("smallest", "largest")
    assert least.region == most.region and (least.lower, least.upper) == (most.lower, most.upper)
    assert least.is_robustness and least.text.count("smallest r in") == least.text.count("exists z in") == 1
    assert load(HEAD + least.text).measures["m"] == least
