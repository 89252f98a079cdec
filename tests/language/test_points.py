"""Several points, several networks, inputs in formulas: what is written against what is evaluated and lowered."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from language_specs import codes, spec
from test_lowering import coefficients, constants, margin, pairs

from tfcert.language import PropertyTemplate, load
from tfcert.language.spec.alternatives import TooManyAlternativesError, alternatives
from tfcert.language.spec.formula import (
    And,
    ArgIn,
    ArgIs,
    Atom,
    Extreme,
    Feature,
    Formula,
    Label,
    Not,
    Or,
    Output,
    SameClass,
    SampleFeature,
    SampleOutput,
    SampleProduct,
    SingleOutputError,
    Term,
    TruthConstant,
    evaluate,
    negation,
    variable_term,
)
from tfcert.language.spec.layout import Concrete, Layout, SampleFacts, Shown
from tfcert.language.spec.lowering import lower
from tfcert.language.spec.named import rewritten
from tfcert.language.spec.normal_form import TooManyClausesError, normalise
from tfcert.language.spec.points import Agreement, Application, AtAnswer, AtPoint, AtSample

# Three applications: of 3 outputs at a point, of 2 at another one, and of 3 at the sample alone.
LAYOUT = Layout(
    (3, 2, 3), frozenset({2}), (Shown(0, 1, Fraction(3), Fraction(-1, 2)), Shown(1, 0, Fraction(1, 3), Fraction(2)))
)

outputs = st.one_of(
    st.builds(Output, st.integers(0, 2), st.just(0)),
    st.builds(Output, st.integers(0, 1), st.just(1)),
    st.just(Output(None, 0)),
    st.just(Output(None, 1)),
)
facts = st.one_of(
    st.builds(SampleOutput, st.integers(0, 2), st.just(2)),
    st.just(SampleOutput(None, 2)),
    st.builds(SampleFeature, st.integers(0, 1)),
    st.just(Label()),
)
plain = st.one_of(outputs, outputs, st.sampled_from([Feature(1, 0), Feature(0, 1)]), facts)


def linear(variables: st.SearchStrategy) -> st.SearchStrategy[Term]:
    """Small linear combinations."""
    parts = st.dictionaries(variables, coefficients, min_size=1, max_size=3)
    return st.builds(lambda d, c: Term(tuple(d.items()), c), parts, constants)


factors = linear(st.one_of(facts, st.builds(SampleProduct, linear(facts), facts)))
scaled = st.builds(SampleProduct, factors, plain)
simple = st.one_of(plain, plain, plain, scaled)
extremes = st.builds(
    lambda kind, arguments, of: Extreme(kind, arguments, of if arguments is None else 0),
    st.sampled_from(["min", "max"]),
    st.one_of(st.none(), st.lists(linear(simple), min_size=1, max_size=2).map(tuple)),
    st.integers(0, 2),
)
extremes = st.one_of(extremes, extremes, st.builds(SampleProduct, factors, extremes))
kinds = st.sampled_from(["argmax", "argmin"])
places = st.integers(0, 2)
targets = st.one_of(
    st.just(variable_term(Label())), st.integers(0, 2).map(lambda i: Term((), Fraction(i))), linear(facts)
)
leaves = st.one_of(
    st.builds(Atom, linear(st.one_of(simple, simple, extremes)), st.booleans()),
    st.builds(ArgIs, kinds, targets, places),
    st.builds(ArgIn, kinds, st.lists(targets, min_size=1, max_size=3).map(tuple), places),
    st.builds(SameClass, st.tuples(kinds, kinds), st.tuples(places, places)),
)
formulas = st.recursive(
    leaves,
    lambda inner: st.one_of(st.builds(Not, inner), st.builds(And, pairs(inner)), st.builds(Or, pairs(inner))),
    max_leaves=4,
)
halves = st.integers(-2, 2).map(lambda n: Fraction(n, 2))


def vector(size: int) -> st.SearchStrategy[tuple[Fraction, ...]]:
    """Small numbers, so that ties are common."""
    return st.lists(halves, min_size=size, max_size=size).map(tuple)


samples = st.builds(
    lambda label, features, answers: SampleFacts(label, features, ((), (), answers)),
    st.integers(0, 1),
    vector(2),
    vector(3),
)


@settings(max_examples=800, deadline=None)
@given(formulas, vector(LAYOUT.width), samples)
def test_proven_clauses_imply_the_formula(formula: Formula, columns: tuple[Fraction, ...], sample: SampleFacts) -> None:
    try:
        reached = margin(lower(formula, LAYOUT, sample), list(columns))
        against = margin(lower(negation(formula), LAYOUT, sample), list(columns))
    except TooManyClausesError:
        return
    holds = evaluate(formula, LAYOUT.values(columns), sample)
    assert holds if reached > 0 else not (against > 0 and holds)
    # Offsets are rounded by less than 1e-14 here: beyond that, what breaks the clauses breaks the formula.
    assert not holds if reached < -Fraction(1, 10**12) else True
    assert holds or against >= -Fraction(1, 10**12)


named_inputs = st.sampled_from([Feature(1, 0), Feature(0, 1)])
about_inputs = st.one_of(named_inputs, named_inputs, facts, st.builds(SampleProduct, linear(facts), named_inputs))
at_the_sample = st.builds(
    lambda kind, arguments: Extreme(kind, arguments, 0 if arguments else 2),
    st.sampled_from(["min", "max"]),
    st.one_of(st.none(), st.lists(linear(about_inputs), min_size=1, max_size=2).map(tuple)),
)
scaled_there = st.builds(
    SampleProduct, factors, st.one_of(at_the_sample, st.builds(SampleProduct, linear(facts), at_the_sample))
)
conditions = st.recursive(
    st.one_of(
        st.builds(Atom, linear(st.one_of(about_inputs, at_the_sample, scaled_there)), st.booleans()),
        st.builds(ArgIs, kinds, targets, st.just(2)),
    ),
    lambda inner: st.one_of(st.builds(Not, inner), st.builds(And, pairs(inner)), st.builds(Or, pairs(inner))),
    max_leaves=5,
)


@settings(max_examples=500, deadline=None)
@given(conditions, vector(LAYOUT.width), samples)
def test_conditions_are_the_union_of_their_alternatives(
    condition: Formula, columns: tuple[Fraction, ...], sample: SampleFacts
) -> None:
    """Each alternative is conditions that all hold: nothing that is left in one chooses between inputs."""
    try:
        found = alternatives(condition)
    except TooManyAlternativesError:
        return
    at = LAYOUT.values(columns)
    assert any(evaluate(one, at, sample) for one in found) == evaluate(condition, at, sample)
    for one in found:
        normal = normalise(one, LAYOUT, sample)
        parts = normal.parts if isinstance(normal, And) else (normal,)
        assert all(isinstance(part, Atom | TruthConstant) for part in parts)


def test_too_many_alternatives_are_refused() -> None:
    either = Or((Atom(variable_term(Feature(0, 0)), True), Atom(variable_term(Feature(1, 0)), True)))
    assert len(alternatives(either)) == 2
    apart = [Or((Atom(variable_term(Feature(i, 0)), True), Atom(variable_term(Feature(i, 1)), True))) for i in range(9)]
    with pytest.raises(TooManyAlternativesError, match="512 alternatives"):
        alternatives(And(tuple(apart)))


@settings(max_examples=300, deadline=None)
@given(st.tuples(kinds, kinds), vector(3), vector(2))
def test_the_same_class_is_one_that_wins_strictly_in_both(
    which: tuple[str, str], one: tuple[Fraction, ...], other: tuple[Fraction, ...]
) -> None:
    """Against its definition, class by class."""
    layout, values = Layout((3, 2)), Concrete((one, other))
    formula = SameClass(which, (0, 1))
    wins = any(
        evaluate(And(tuple(ArgIs(k, Term((), Fraction(j)), of) for of, k in enumerate(which))), values)
        for j in range(2)
    )
    assert evaluate(formula, values) == wins
    assert (margin(lower(formula, layout), [*one, *other]) > 0) == wins


def test_the_same_class_takes_a_clause_for_two_different_classes() -> None:
    clauses = lower(SameClass(("argmax", "argmax"), (0, 1)), Layout((10, 10)))
    assert len(clauses) == 90 and all(clause.coefficients.shape == (18, 20) for clause in clauses)
    clauses = lower(Not(SameClass(("argmax", "argmax"), (0, 1))), Layout((10, 10)))
    assert len(clauses) == 10 and all(clause.coefficients.shape == (18, 20) for clause in clauses)
    with pytest.raises(SingleOutputError):
        lower(SameClass(("argmax", "argmax"), (0, 1)), Layout((10, 1)))


def test_a_class_that_ties_at_the_sample_is_none() -> None:
    tied = SampleFacts(None, (), ((), (), (Fraction(1), Fraction(1), Fraction(0))))
    formula = SameClass(("argmax", "argmax"), (0, 2))
    assert margin(lower(formula, LAYOUT, tied), [Fraction(n) for n in (3, 1, 0, 0, 0, 0, 0)]) < 0
    assert not evaluate(formula, Concrete(((3, 1, 0), ())), tied)
    assert evaluate(Not(formula), Concrete(((3, 1, 0), ())), tied)


def test_features_are_columns_by_what_networks_receive() -> None:
    """A stored number is 3 times the column, less a half: ``feature >= 1`` is ``3 column - 3/2 >= 0``."""
    (clause,) = lower(Atom(variable_term(Feature(1, 0)).plus(Term((), Fraction(-1))), False), LAYOUT)
    np.testing.assert_array_equal(clause.coefficients, [[0, 0, 0, 0, 0, 3, 0]])
    np.testing.assert_array_equal(clause.offsets, [-1.5])


def test_outputs_are_columns_side_by_side_without_those_at_the_sample() -> None:
    layout = Layout((3, 4, 2, 2), frozenset({1}), LAYOUT.shown)
    assert [layout.start(of) for of in (0, 2, 3)] == [0, 3, 5] and (layout.outputs, layout.width) == (7, 9)
    (clause,) = lower(Atom(variable_term(Output(1, 3)), True), layout)
    np.testing.assert_array_equal(clause.coefficients, np.eye(9)[[6]])
    values = layout.values([Fraction(n) for n in range(9)])
    assert values.outputs == ((0, 1, 2), (), (3, 4), (5, 6)) and values.features == {
        (0, 1): 3 * 7 - Fraction(1, 2), (1, 0): Fraction(8, 3) + 2}  # fmt: skip


def test_columns_that_are_not_shown_are_an_error() -> None:
    with pytest.raises(IndexError, match="not among those shown"):
        lower(Atom(variable_term(Feature(0, 0)), True), LAYOUT)
    with pytest.raises(ValueError, match="expected 7 numbers, got 6"):
        LAYOUT.values([Fraction(0)] * 6)


@settings(max_examples=200, deadline=None)
@given(formulas, vector(LAYOUT.width), samples)
def test_rewriting_with_what_is_there_changes_nothing(
    formula: Formula, columns: tuple[Fraction, ...], sample: SampleFacts
) -> None:
    same = rewritten(formula, lambda v: v, lambda n: n)
    assert evaluate(same, LAYOUT.values(columns), sample) == evaluate(formula, LAYOUT.values(columns), sample)


# From texts

HEAD = """prop 1
model credit = keras("c.keras") { inputs: [age, sex, income] outputs: [deny, grant] }
model other = keras("o.keras")
model encode = keras("e.keras")
model decode = keras("d.keras")
dataset people = npz("p.npz") { scale: 1/10 normalize: { mean: [1, 2, 3] std: [1/2, 2, 3] } }
domain adult = box(age in [17, 90], sex in [0, 1], income in [0, 100])
"""
Case = Callable[..., bool]
CASES: dict[str, tuple[str, Case]] = {
    # Each function takes the stored numbers of a and b and of the sample, and the networks.
    "forall a in {ball}: credit(a)[grant] - a[income]/50 >= a[0] - 2*a[sex]": (
        "a", lambda a, x, f, g: f(a)[1] - a[2] / 50 >= a[0] - 2 * a[1]),
    "forall a in {ball} where a[income] >= 0.5*a[sex]: credit(a)[grant] > 1/3": (
        "a", lambda a, x, f, g: not a[2] >= a[1] / 2 or f(a)[1] > Fraction(1, 3)),
    "forall a in {ball} where a[income] > a[age] and a[sex] <= 1: credit(a)[grant] > 1/3": (
        "a", lambda a, x, f, g: not (a[2] > a[0] and a[1] <= 1) or f(a)[1] > Fraction(1, 3)),
    "forall a in {ball} where a[sex] == 2*a[age] and abs(a[0]) <= 1: credit(a)[grant] > credit(a)[deny]": (
        "a", lambda a, x, f, g: not (a[1] == 2 * a[0] and abs(a[0]) <= 1) or f(a)[1] > f(a)[0]),
    "exists a in {ball} where a[income] > x[income]: credit(a)[grant] > 1": (
        "a", lambda a, x, f, g: not (a[2] > x[2] and f(a)[1] > 1)),
    "forall a in {ball}: abs(credit(a)[0] - credit(x)[0]) <= 1/2": (
        "a", lambda a, x, f, g: abs(f(a)[0] - f(x)[0]) <= Fraction(1, 2)),
    "forall a in {ball}: argmax(credit(a)) == argmax(credit(x))": (
        "a", lambda a, x, f, g: wins(f(a)) is not None and wins(f(a)) == wins(f(x))),
    "forall a in {ball}: argmax(credit(a)) == argmax(other(a)) or other(a)[2] > 1": (
        "a", lambda a, x, f, g: (wins(f(a)) is not None and wins(f(a)) == wins(g(a))) or g(a)[2] > 1),
    "forall a in {ball}: max(other(a)) >= max(credit(x)) + x[sex] - a[1]": (
        "a", lambda a, x, f, g: max(g(a)) >= max(f(x)) + x[1] - a[1]),
    "forall a, b in {ball} where b[income] >= a[income]: credit(b)[grant] >= credit(a)[grant]": (
        "ab", lambda a, b, x, f, g: not b[2] >= a[2] or f(b)[1] >= f(a)[1]),
    "forall a in {ball}, b in adult in raw where not (a[1] < b[1] or b[0] >= a[0]): credit(b)[0] + other(a)[1] < 1": (
        "ab", lambda a, b, x, f, g: (a[1] < b[1] or b[0] >= a[0]) or f(b)[0] + g(a)[1] < 1),
}  # fmt: skip


def wins(values: tuple[Fraction, ...]) -> int | None:
    """The largest, where it is one alone."""
    return values.index(max(values)) if values.count(max(values)) == 1 else None


def network(rows: list[list[int]]) -> Callable[..., tuple[Fraction, ...]]:
    """A network of one linear layer and a hinge, exact."""

    def answer(x: tuple[Fraction, ...]) -> tuple[Fraction, ...]:
        return tuple(max(Fraction(0), sum((w * v for w, v in zip(row, x, strict=True)), Fraction(0))) for row in rows)

    return answer  # fmt: skip


NETWORKS = {"credit": network([[1, -1, 0], [0, 1, 1]]), "other": network([[1, 1, -1], [-1, 2, 0], [0, 0, 1]])}


def asked(body: str) -> PropertyTemplate:
    """The template of a property's body, around samples."""
    text = body.format(ball="ball(x, linf, 1) in raw")
    return load(f"{HEAD}property p(x in people) {{ {text} }}").properties["p"]


stored = vector(3)


@pytest.mark.parametrize("body", CASES)
@settings(max_examples=60, deadline=None)
@given(a=stored, b=stored, x=stored)
def test_templates_mean_what_is_written(
    body: str, a: tuple[Fraction, ...], b: tuple[Fraction, ...], x: tuple[Fraction, ...]
) -> None:
    """The evaluator and the clauses against the sentence in Python, at points with many ties."""
    template, (names, meant) = asked(body), CASES[body]
    points = [a, b][: len(names)]
    expected = meant(*points, x, NETWORKS["credit"], NETWORKS["other"])

    def answers(application: Application) -> tuple[Fraction, ...]:
        (argument,) = application.arguments
        return NETWORKS[application.model](x if argument == AtSample() else points[argument.number])

    each = [answers(application) for application in template.applications]
    layout = template.layout([len(answer) for answer in each])
    sample = SampleFacts(None, x, tuple(e if p.fixed else () for e, p in zip(each, template.applications, strict=True)))
    columns = [y for e, p in zip(each, template.applications, strict=True) if not p.fixed for y in e]
    # What the network receives: (stored / 10 - mean) / std.
    net = [
        (points[f.of][f.index] / 10 - (1, 2, 3)[f.index]) / (Fraction(1, 2), 2, 3)[f.index] for f in template.features
    ]
    values = layout.values([*columns, *net])
    assert evaluate(template.formula, values, sample) == expected
    reached = margin(template.clauses(layout, sample), [*columns, *net])
    assert expected if reached > 0 else True
    assert not expected if reached < -Fraction(1, 10**12) else True


@pytest.mark.parametrize(
    ("condition", "agreements"),
    [
        ("agree(a, b)", [Agreement(0, 1, (), True)]),
        ("agree(b, a, except=[income, 0])", [Agreement(0, 1, (0, 2), True)]),
        ("b[sex] == a[sex] and a[0] == x[age]", [Agreement(0, 1, (1,)), Agreement(0, None, (0,))]),
        ("agree(x, b, except=[age])", [Agreement(1, None, (0,), True)]),
        ("2*b[sex] == 2*a[sex]", [Agreement(0, 1, (1,))]),
        ("b[sex] == a[income]", []),
        ("b[sex] == 2*a[sex]", []),
        ("b[sex] == a[sex] + 1", []),
        ("not (b[sex] != a[sex])", []),
    ],
)
def test_numbers_that_are_equal_are_shared(condition: str, agreements: list[Agreement]) -> None:
    template = asked(f"forall a, b in {{ball}} where {condition}: credit(a)[0] >= credit(b)[0]")
    assert list(template.agreements) == agreements and (template.given is None) == bool(agreements)
    assert not template.is_single


def test_a_shared_number_has_one_name() -> None:
    body = (
        "forall a, b in {ball} where agree(a, b, except=[sex]) and b[age] >= b[sex]: credit(a)[0] >= b[income] - b[1]"
    )
    assert asked(body.replace("credit(a)[0]", "credit(a)[0] + credit(b)[0]")).features == (
        Feature(0, 0), Feature(1, 1), Feature(2, 0))  # fmt: skip
    held = asked("forall a in {ball} where agree(a, x, except=[sex]): credit(a)[0] >= a[income] - a[sex]")
    assert held.features == (Feature(1, 0),) and held.sample_features == (2,)
    assert Agreement(0, 1, (1,), True).shared(3) == (0, 2) and Agreement(0, 1, (1,)).shared(3) == (1,)


def test_applications_are_numbered_with_those_at_the_sample_last() -> None:
    template = asked("forall a, b in {ball}: other(x)[0] <= decode(encode(b))[0] + other(a)[1] - encode(b)[0]")
    assert template.applications == (
        Application("encode", (AtPoint(1),)),
        Application("decode", (AtAnswer(0),)),
        Application("other", (AtPoint(0),)),
        Application("other", (AtSample(),), True),
    )
    assert template.model == "encode" and template.fixed_applications == (3,)
    assert [p.name for p in template.points] == ["a", "b"] and template.points[1].region == template.region
    assert template.with_points(template.points) == template
    nested = asked("forall a in {ball}: decode(encode(a))[0] <= decode(encode(x))[0]").applications
    assert nested[2:] == (Application("encode", (AtSample(),), True), Application("decode", (AtAnswer(2),), True))


def test_a_network_with_several_inputs_takes_a_point_for_each() -> None:
    head = HEAD + 'model pair = keras("pair.keras") { inputs: [left, right] }\n'
    template = load(head + "property p { forall a in box([0, 1]), b in box([2, 3]): pair(b, a)[0] > 0 }").properties[
        "p"
    ]
    assert template.applications == (Application("pair", (AtPoint(1), AtPoint(0))),) and not template.is_single
    text = "property p(x in people) { forall a in box([0, 1]) in raw: pair(x, a)[0] > pair(x, x)[0] }"
    both = (Application("pair", (AtSample(), AtPoint(0))), Application("pair", (AtSample(), AtSample()), True))
    assert load(head + text).properties["p"].applications == both


def test_samples_are_chosen_by_what_they_are_and_what_networks_say() -> None:
    text = "property p(x, y in test where {}) {{ forall z in ball(x, linf, 1px) in unit: argmax(clf(z)) == y }}"
    template = spec(text.format("argmax(clf(x)) == y and x[3] + clf(x)[y] > 1 or y == 3")).properties["p"]
    assert template.is_robustness and template.is_single and template.applications[1].fixed
    answers = ((), (Fraction(2), Fraction(0), Fraction(1)))
    numbers = (Fraction(0),) * 3 + (Fraction(-1, 2),)
    chosen = {y: template.sample_selected(SampleFacts(y, numbers, answers)) for y in (0, 1, 2)}
    assert chosen == {0: True, 1: False, 2: False}
    assert not template.sample_selected(SampleFacts(0, (*numbers[:3], Fraction(-1)), answers))
    assert template.sample_selected(SampleFacts(3, numbers, (*answers, (Fraction(0),) * 4)))
    measure = spec("measure m(x, y in test where argmax(clf(x)) == y) = fmn(clf, linf) in unit").measures["m"]
    assert measure.is_single and measure.sample_selected(SampleFacts(0, (), answers))
    assert not measure.sample_selected(SampleFacts(1, (), answers))


def test_conditions_on_answers_are_a_premise() -> None:
    """``where C: F`` says ``C => F``; those on inputs stand before it, and whether both are met is a question."""
    body = (
        "{quantifier} a in {{ball}} where argmax(credit(a)) == 1 and a[age] >= 2 and other(a)[0] > 0: credit(a)[0] >= 3"
    )
    for quantifier in ("forall", "exists"):
        template = asked(body.format(quantifier=quantifier))
        given = Atom(Term(((Feature(0, 0), Fraction(1)),), Fraction(-2)), False)
        assert template.given == given and not template.is_single
        layout = Layout((2, 2), frozenset(), (Shown(0, 0, Fraction(1), Fraction(0)),))
        for columns in itertools.product((0, 1), (1, 3), (0, 1), (0,), (1, 2)):
            numbers = [*map(Fraction, columns)]
            first, second, other, _, age = numbers
            met, holds = age >= 2 and second > first and other > 0, first >= 3
            claim = not (met and holds) if quantifier == "exists" else not met or holds
            assert template.holds(numbers, None, layout) == claim
            assert template.met.holds(numbers, None, layout) == (not met)
        assert template.met.existential and template.met.premise is None and template.met.given == given
    clear = asked("forall a in {ball} where argmax(credit(a)) == 1: a[age] >= 2")
    assert clear.premise is not None and clear.given is None


def test_questions_of_today_stay_what_they_are() -> None:
    template = spec("property p(x, y in test) { forall z in ball(x, linf, 1px) in unit: argmax(clf(z)) == y }")
    question = template.properties["p"]
    assert question.is_single and question.is_robustness and question.given is None and not question.agreements
    assert question.formula == ArgIs("argmax", variable_term(Label()))


def test_what_trains_towards_one_ball_refuses_several_points() -> None:
    text = """prop 1
model clf = keras("clf.keras")
dataset test = mnist5k(split="test") { scale: 1/255 }
property p(x, y in test) { forall z in ball(x, linf, 1px) in unit where z[3] >= x[3]: argmax(clf(z)) == y }
property q(x, y in test) { forall z in ball(x, linf, 1px) in unit: argmax(clf(z)) == argmax(clf(x)) }
objective train_p for p { bound: ibp }
objective train_q for q { bound: ibp }
"""
    assert codes(text) == ["E229", "E229"]
