"""The direct evaluator is the oracle for the clauses."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfcert.clauses import Clause
from tfcert.language.spec.formula import (
    And,
    ArgIn,
    ArgIs,
    Atom,
    Extreme,
    Formula,
    InTop,
    Label,
    Not,
    Or,
    Output,
    SingleOutputError,
    Term,
    TruthConstant,
    evaluate,
    negation,
    variable_term,
)
from tfcert.language.spec.lowering import MAX_CLAUSES, InexactRowError, exact_row, lower
from tfcert.language.spec.named import output_indices
from tfcert.language.spec.normal_form import TooManyClausesError

OUTPUTS = 4

coefficients = st.sampled_from([Fraction(1), Fraction(-1), Fraction(2), Fraction(1, 3), Fraction(-7, 10)])
constants = st.sampled_from([Fraction(0), Fraction(1), Fraction(-1, 2), Fraction(1, 10)])


def linear(variables: st.SearchStrategy) -> st.SearchStrategy[Term]:
    """Small linear combinations."""
    parts = st.dictionaries(variables, coefficients, min_size=1, max_size=3)
    return st.builds(lambda d, c: Term(tuple(d.items()), c), parts, constants)


simple = st.one_of(st.builds(Output, st.integers(0, OUTPUTS - 1)), st.just(Output(None)), st.just(Label()))
extremes = st.builds(
    Extreme,
    st.sampled_from(["min", "max"]),
    st.one_of(st.none(), st.lists(linear(simple), min_size=1, max_size=3).map(tuple)),
)
extremes = st.one_of(extremes, st.just(Extreme("sum", None)))
terms = linear(st.one_of(simple, simple, extremes))
targets = st.one_of(
    st.just(variable_term(Label())),
    st.integers(-1, OUTPUTS).map(lambda i: Term((), Fraction(i))),
    st.just(Term((), Fraction(1, 2))),
)
leaves = st.one_of(
    st.builds(TruthConstant, st.booleans()),
    st.builds(Atom, terms, st.booleans()),
    st.builds(ArgIs, st.sampled_from(["argmax", "argmin"]), targets),
    st.builds(ArgIn, st.sampled_from(["argmax", "argmin"]), st.lists(targets, min_size=1, max_size=4).map(tuple)),
    st.builds(
        InTop,
        st.lists(targets, min_size=1, max_size=3).map(tuple),
        st.integers(1, OUTPUTS + 1),
        st.just(0),
        st.booleans(),
    ),
)


def pairs(children: st.SearchStrategy[Formula]) -> st.SearchStrategy[tuple[Formula, ...]]:
    """Two or three parts."""
    return st.lists(children, min_size=2, max_size=3).map(tuple)


formulas = st.recursive(
    leaves,
    lambda inner: st.one_of(st.builds(Not, inner), st.builds(And, pairs(inner)), st.builds(Or, pairs(inner))),
    max_leaves=6,
)
points = st.lists(st.integers(-3, 3).map(lambda n: Fraction(n, 2)), min_size=OUTPUTS, max_size=OUTPUTS)


def margin(clauses: tuple[Clause, ...], outputs: list[Fraction]) -> Fraction:
    """The smallest over the clauses of the largest row, in exact arithmetic on the float64 matrices."""
    worst = None
    for clause in clauses:
        rows = [
            sum((Fraction(float(c)) * y for c, y in zip(row, outputs, strict=True)), Fraction(float(d)))
            for row, d in zip(clause.coefficients, clause.offsets, strict=True)
        ]
        worst = max(rows) if worst is None else min(worst, max(rows))
    assert worst is not None
    return worst


@settings(max_examples=800, deadline=None)
@given(formulas, points, st.integers(0, OUTPUTS - 1))
def test_proven_clauses_imply_the_formula(formula: Formula, outputs: list[Fraction], label: int) -> None:
    try:
        clauses = lower(formula, OUTPUTS, label)
    except TooManyClausesError:
        return
    reached = margin(clauses, outputs)
    holds = evaluate(formula, outputs, label)
    if reached > 0:
        assert holds
    # Offsets are rounded by less than 1e-15 here: beyond that, a failed clause refutes the formula.
    if reached < -Fraction(1, 10**12):
        assert not holds


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("label", range(OUTPUTS))
def test_the_largest_outputs_are_those_that_few_others_reach(count: int, label: int) -> None:
    """By sorting, over all orders and ties of four outputs: the one at the label is above all but ``count - 1``."""
    asked = InTop((variable_term(Label()),), count)
    for values in product(range(3), repeat=OUTPUTS):
        outputs = [Fraction(v) for v in values]
        others = sorted(outputs[:label] + outputs[label + 1 :], reverse=True)
        holds = count >= OUTPUTS or outputs[label] > others[count - 1]
        assert evaluate(asked, outputs, label) is holds
        assert (margin(lower(asked, OUTPUTS, label), outputs) > 0) == holds
        assert (margin(lower(Not(asked), OUTPUTS, label), outputs) >= 0) == (not holds) or count > OUTPUTS
    members = tuple(Term((), Fraction(i)) for i in range(label + 1))
    whole = InTop(members, count, exactly=True)
    for values in product(range(3), repeat=OUTPUTS):
        inside, outside = values[: label + 1], values[label + 1 :]
        assert evaluate(whole, [Fraction(v) for v in values], 0) is (
            count == label + 1 and all(i > o for i in inside for o in outside)
        )


@settings(max_examples=300, deadline=None)
@given(formulas, points, st.integers(0, OUTPUTS - 1))
def test_negation_is_exact(formula: Formula, outputs: list[Fraction], label: int) -> None:
    opposite = negation(formula)
    holds = evaluate(formula, outputs, label)
    assert evaluate(opposite, outputs, label) != holds and evaluate(negation(opposite), outputs, label) == holds
    try:
        clauses, against = lower(formula, OUTPUTS, label), lower(opposite, OUTPUTS, label)
    except TooManyClausesError:
        return
    assert not (margin(clauses, outputs) > 0 and margin(against, outputs) > 0)
    # Offsets are rounded by less than 1e-15 here: beyond that, what breaks the one proves the other.
    assert holds or margin(against, outputs) >= -Fraction(1, 10**12)
    assert not holds or margin(clauses, outputs) >= -Fraction(1, 10**12)


@pytest.mark.parametrize(
    "formula",
    [ArgIs("argmin", Term()), ArgIn("argmax", (Term(),)), Atom(variable_term(Output(None)), True)],
)
def test_a_single_output_has_no_classes(formula: Formula) -> None:
    for part in (formula, And((TruthConstant(False), Not(formula)))):
        with pytest.raises(SingleOutputError, match="no classes"):
            lower(part, 1, 0)
    with pytest.raises(SingleOutputError, match="no classes"):
        evaluate(formula, [Fraction(1)], 0)


def test_argmax_is_one_clause_for_every_other_class() -> None:
    clauses = lower(ArgIs("argmax", variable_term(Label())), 10, 3)
    assert len(clauses) == 9
    for clause, other in zip(clauses, [j for j in range(10) if j != 3], strict=True):
        expected = np.zeros((1, 10))
        expected[0, 3], expected[0, other] = 1, -1
        np.testing.assert_array_equal(clause.coefficients, expected)
        np.testing.assert_array_equal(clause.offsets, [0.0])


def test_negated_argmin_is_one_clause_with_a_row_for_every_other_class() -> None:
    (clause,) = lower(Not(ArgIs("argmin", Term())), 5, None)
    assert clause.coefficients.shape == (4, 5)
    assert (clause.coefficients[:, 0] == 1).all() and clause.coefficients.sum() == 0


def test_ties_are_not_argmax_and_not_proven() -> None:
    formula = ArgIs("argmax", Term())
    tied = [Fraction(1), Fraction(1)]
    assert not evaluate(formula, tied, None) and evaluate(Not(formula), tied, None)
    assert margin(lower(formula, 2, None), tied) == 0


def test_true_and_false_formulas_have_clauses_that_say_so() -> None:
    assert margin(lower(TruthConstant(True), 3, None), [Fraction(0)] * 3) > 0
    assert margin(lower(TruthConstant(False), 3, None), [Fraction(0)] * 3) < 0


def test_label_that_names_no_output_is_an_error() -> None:
    formula = Atom(variable_term(Output(None)), True)
    with pytest.raises(IndexError, match="label 7"):
        lower(formula, 3, 7)
    with pytest.raises(ValueError, match="no class"):
        lower(formula, 3, Fraction(1, 2))
    with pytest.raises(ValueError, match="sample has none"):
        lower(formula, 3, None)


def test_output_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(IndexError, match="index 5"):
        lower(Atom(variable_term(Output(5)), True), 3, None)


def test_clause_limit_is_exact() -> None:
    def disjunction(n: int) -> Formula:
        two = [And((Atom(variable_term(Output(i)), True), Atom(variable_term(Output(i + 1)), True))) for i in range(n)]
        return Or(tuple(two))

    assert len(lower(disjunction(12), 13, None)) <= MAX_CLAUSES
    with pytest.raises(TooManyClausesError):
        lower(disjunction(13), 14, None)


def test_hostile_sums_of_maxima_stop_early() -> None:
    absolute = [
        (Extreme("max", (variable_term(Output(i)), variable_term(Output(i)).times(Fraction(-1)))), Fraction(1))
        for i in range(40)
    ]
    with pytest.raises(TooManyClausesError):
        lower(Atom(Term(tuple(absolute)), True), 40, None)


def test_coefficients_are_scaled_until_they_are_exact() -> None:
    term = Term(((Output(0), Fraction(1, 10)), (Output(1), Fraction(-1, 3))), Fraction(1, 7))
    row = exact_row(term)
    factor = row.coefficients[0][1] / Fraction(1, 10)
    assert Fraction(1, 2) <= factor <= 2
    assert all(Fraction(float(c)) == c for _, c in row.coefficients)
    assert row.coefficients[1][1] == -factor / 3 and row.constant == factor / 7


def test_coefficients_that_are_exact_are_left_alone() -> None:
    term = Term(((Output(0), Fraction(3, 4)), (Output(1), Fraction(-5))), Fraction(1, 10))
    assert exact_row(term) == term


def test_coefficients_beyond_float64_are_refused() -> None:
    digits = Fraction(314159265358979323846264338327950288419716939937510, 10**50)
    with pytest.raises(InexactRowError):
        exact_row(Term(((Output(0), digits), (Output(1), Fraction(1)))))
    with pytest.raises(InexactRowError):
        exact_row(Term(((Output(0), Fraction(1)),), -(Fraction(10) ** 400)))


def test_named_outputs_are_found_inside_maxima() -> None:
    inner = Extreme("max", (variable_term(Output(3)), variable_term(Output(None))))
    formula = Not(And((Atom(variable_term(inner), True), ArgIs("argmax", Term((), Fraction(2))))))
    assert output_indices(formula) == {2, 3}
