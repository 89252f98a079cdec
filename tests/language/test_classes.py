"""Sets of classes: what they mean on ties, and which formulas are read as such."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from language_specs import HEAD, codes, spec

from tfcert.language import load
from tfcert.language.check.classes import merge_classes
from tfcert.language.spec.formula import And, ArgIn, ArgIs, Formula, Not, Or, Term, evaluate, negation

OUTPUTS = 4
CAT = 'prop 1\nmodel clf = keras("c.keras") { outputs: [cat, dog, cow, hen] }\n'


def holds(condition: str, outputs: list[float], label: int = 1) -> bool:
    """Whether a condition holds of named outputs."""
    text = CAT + 'dataset test = npz("t.npz")\nproperty p(x, y in test) { forall z in ball(x, linf, 0.1): '
    return load(f"{text}{condition} }}").properties["p"].holds(outputs, label)


@pytest.mark.parametrize(
    ("outputs", "inside", "outside"),
    [
        ([3, 2, 1, 0], True, False),
        ([2, 2, 1, 0], True, False),  # a tie within
        ([2, 1, 2, 0], False, True),  # a tie with another class
        ([2, 2, 2, 0], False, True),
        ([0, 1, 0, 2], False, True),
    ],
)
@pytest.mark.parametrize("members", ["{cat, dog}", "{0, 1}", "{y, 0}", "{y - 1, dog, y}"])
def test_a_set_holds_where_every_largest_output_is_a_member(
    members: str, outputs: list[float], inside: bool, outside: bool
) -> None:
    assert holds(f"argmax(clf(z)) in {members}", outputs) is inside
    assert holds(f"argmax(clf(z)) not in {members}", outputs) is outside
    assert holds(f"not argmax(clf(z)) in {members}", outputs) is outside
    assert holds(f"argmin(clf(z)) in {members}", [-v for v in outputs]) is inside


@pytest.mark.parametrize(
    ("condition", "read_as"),
    [
        ("argmax(clf(z)) == cat or argmax(clf(z)) == dog", "argmax(clf(z)) in {cat, dog}"),
        ("argmax(clf(z)) != cat and dog != argmax(clf(z))", "argmax(clf(z)) not in {cat, dog}"),
        ("not (argmax(clf(z)) == 0 or argmax(clf(z)) == 1)", "argmax(clf(z)) not in {0, 1}"),
        ("not (argmax(clf(z)) != 0 and not argmax(clf(z)) == 1)", "argmax(clf(z)) in {0, 1}"),
        ("argmax(clf(z)) != 0 => argmax(clf(z)) == 1", "argmax(clf(z)) in {0, 1}"),
        ("argmax(clf(z)) != 0 => argmax(clf(z)) != 1 => argmax(clf(z)) == 2", "argmax(clf(z)) in {0, 1, 2}"),
        ("argmax(clf(z)) in {0, y} or argmax(clf(z)) == 2", "argmax(clf(z)) in {0, y, 2}"),
        ("argmax(clf(z)) == 0 or clf(z)[0] > 1 or argmax(clf(z)) == 1",
         "argmax(clf(z)) in {0, 1} or clf(z)[0] > 1"),
        ("clf(z)[0] > 1 => argmax(clf(z)) == 0 or argmax(clf(z)) == 1",
         "clf(z)[0] > 1 => argmax(clf(z)) in {0, 1}"),
        ("argmax(clf(z)) == y or argmax(clf(z)) == y", "argmax(clf(z)) == y"),
        ("argmax(clf(z)) == 0 or argmin(clf(z)) == 1 or argmin(clf(z)) == 2",
         "argmax(clf(z)) == 0 or argmin(clf(z)) in {1, 2}"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("quantifier", ["forall", "exists"])
def test_alternatives_of_classes_are_read_as_a_set(condition: str, read_as: str, quantifier: str) -> None:
    text = CAT + 'dataset test = npz("t.npz")\nproperty p(x, y in test) { %s z in ball(x, linf, 0.1): %s }'
    found, expected = (load(text % (quantifier, each)).properties["p"] for each in (condition, read_as))
    assert found.formula == expected.formula
    assert condition in found.text, "what was written is shown as it was written"


def test_two_negations_of_different_classes_are_left_alone() -> None:
    both = "argmax(clf(z)) != 0 or argmax(clf(z)) != 1"
    assert holds(both, [1, 0, 0, 0]) and holds(both, [1, 1, 0, 0])
    assert not holds("argmax(clf(z)) == 0 and argmax(clf(z)) == 1", [1, 1, 0, 0])


leaves = st.one_of(
    st.builds(ArgIs, st.just("argmax"), st.integers(0, OUTPUTS - 1).map(lambda i: Term((), Fraction(i)))),
    st.builds(ArgIs, st.just("argmin"), st.integers(0, 1).map(lambda i: Term((), Fraction(i)))),
)
formulas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Not, inner), *(st.builds(j, st.lists(inner, min_size=2, max_size=3).map(tuple)) for j in (And, Or))
    ),
    max_leaves=8,
)


@settings(max_examples=400, deadline=None)
@given(formulas, st.permutations(range(OUTPUTS)), st.lists(st.integers(0, 2), min_size=OUTPUTS, max_size=OUTPUTS))
def test_joining_changes_nothing_but_ties_and_negates_exactly(
    formula: Formula, distinct: list[int], tied: list[int]
) -> None:
    merged, outputs = merge_classes(formula), [Fraction(v) for v in distinct]
    assert evaluate(merged, outputs, None) == evaluate(formula, outputs, None)
    for values in (outputs, [Fraction(v) for v in tied]):
        assert evaluate(merge_classes(negation(formula)), values, None) != evaluate(merged, values, None)


def test_a_set_of_classes_costs_as_many_clauses_as_there_are_others() -> None:
    members = tuple(Term((), Fraction(i)) for i in range(20))
    listed = ", ".join(map(str, range(20)))
    text = "property p(x in test) {{ forall z in ball(x, linf, 0.1) in unit: argmax(clf(z)) {} {{{}}} }}"
    p = spec(text.format("in", listed)).properties["p"]
    assert p.formula == ArgIn("argmax", members)
    assert [c.coefficients.shape for c in p.clauses(100)] == [(20, 100)] * 80
    n = spec(text.format("not in", listed)).properties["p"]
    assert [c.coefficients.shape for c in n.clauses(100)] == [(80, 100)] * 20


def test_labels_are_selected_by_a_set() -> None:
    ball = "forall z in ball(x, linf, 0.1) in unit"
    p = spec(f"property p(x, y in test where y in {{3, 5}}) {{ {ball}: argmax(clf(z)) in {{3, 5}} }}").properties["p"]
    assert [label for label in range(10) if p.sample_selected(label)] == [3, 5]


def test_members_that_are_no_classes_are_refused() -> None:
    text = "property p(x, y in test) {{ forall z in ball(x, linf, 0.1) in unit: {} }}"
    assert codes(HEAD + text.format("argmax(clf(z)) in {0.5, 1}")) == ["E224"]
    assert codes(HEAD + text.format("argmax(clf(z)) in {clf(z)[0]}")) == ["E206"]
    assert codes(HEAD + text.format("clf(z) in {0, 1}")) == ["E206"]
    assert codes(CAT + "property p { forall z in box([0, 1]): argmax(clf(z)) in {0, 4} }") == ["E224"]
