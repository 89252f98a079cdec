"""Powers of constants, and products and powers of what a sample gives."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from language_specs import codes

from tfcert.language import load
from tfcert.language.spec.formula import Atom
from tfcert.language.spec.layout import SampleFacts
from tfcert.language.text.diagnostics import Diagnostics, SourceText
from tfcert.language.text.parser import parse_expression
from tfcert.language.text.printer import print_expression

HEAD = """prop 1
model f = keras("f.keras") { inputs: [a, b] }
dataset d = npz("d.npz")
"""


def constant(written: str) -> Fraction:
    """A constant as it is worked out."""
    template = load(f"{HEAD}property p {{ forall z in box([0, 1]): f(z)[0] > {written} }}\n").properties["p"]
    assert isinstance(template.formula, Atom)
    return -template.formula.term.constant


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("2^-8", Fraction(1, 256)),
        ("-2^2", -4),
        ("(-2)^3", -8),
        ("2^3^2", 512),
        ("3*2^2", 12),
        ("(4/9)^(1/2)", Fraction(2, 3)),
        ("8^(-2/3)", Fraction(1, 4)),
        ("(-8)^0", 1),
        ("50%^2", Fraction(1, 4)),
    ],
)
def test_powers_of_constants_are_exact(written, value):
    assert constant(written) == value


@pytest.mark.parametrize("written", ["2^0.5", "(-4)^(1/2)", "2^401", "2^(1/401)", "(1/3)^400^400"])
def test_what_cannot_be_kept_exact_is_refused(written):
    assert codes(f"{HEAD}property p {{ forall z in box([0, 1]): f(z)[0] > {written} }}\n") == ["E004"]


@pytest.mark.parametrize("written", ["2^-8", "-2^2", "(-2)^3", "2^3^2", "(2^3)^2", "2^(a + 1)", "f(z)[0]^2", "a[0]^-b"])
def test_powers_are_printed_as_they_are_read(written):
    tree = parse_expression(SourceText("t", written), Diagnostics())
    assert tree is not None and print_expression(tree) == written


def test_numbers_of_the_sample_scale_maxima_whatever_their_sign():
    """``y * max(...)`` is a maximum or a minimum, as y is positive or negative: that is known of each sample."""
    body = "(y - 1) * max(f(z)) - x[a] * abs(z[b] - f(z)[1]) >= y * min(f(z)[0], 2)"
    template = load(f"{HEAD}property p(x, y in d) {{ forall z in ball(x, linf, 1): {body} }}\n").properties["p"]
    layout = template.layout([2])
    for y, a, f, zb in itertools.product((0, 1, 3), (-2, 0, 1), ((1, 2), (3, -1)), (0, 3)):
        facts = SampleFacts(Fraction(y), (Fraction(a), Fraction(0)))
        value = (y - 1) * max(f) - a * abs(zb - f[1]) - y * min(f[0], 2)
        assert template.holds([*f, zb], facts, layout) == (value >= 0)
        clauses = template.clauses(layout, facts)
        reached = min((clause.coefficients @ [*f, zb] + clause.offsets).max() for clause in clauses)
        assert (reached > 0) == (value > 0)


@pytest.mark.parametrize("body", ["y * v", "y * max(v, f(z)[1])"])
def test_a_sign_that_the_sample_gives_turns_no_measure(body):
    text = f"{HEAD}measure m(x, y in d) = largest v such that forall z in ball(x, linf, 1): f(z)[0] >= {body}\n"
    assert codes(text) == ["E210"]


def test_numbers_of_the_sample_scale_outputs_and_inputs():
    """``y * f(z)[0]`` and its like, evaluated and lowered alike: the sample's numbers are constants of it."""
    body = "y * f(z)[0] + x[a]^2 * (z[b] - f(z)[1]) >= x[a] * f(x)[1] - y*2*x[b]"
    text = f"{HEAD}property p(x, y in d) {{ forall z in ball(x, linf, 1): {body} }}\n"
    template = load(text).properties["p"]
    layout = template.layout([2] * len(template.applications))
    for y, x, fx, f, zb in ((1, (2, 3), (5, 7), (1, 2), 4), (-2, (1, 5), (0, 3), (-1, 6), 5)):
        facts = SampleFacts(Fraction(y), tuple(map(Fraction, x)), ((), tuple(map(Fraction, fx))))
        value = y * f[0] + x[0] ** 2 * (zb - f[1]) - (x[0] * fx[1] - y * 2 * x[1])
        assert template.holds([*f, zb], facts, layout) == (value >= 0)
        (clause,) = template.clauses(layout, facts)
        row = clause.coefficients[0] @ [*f, zb] + clause.offsets[0]
        assert (row > 0) == (value > 0) and value != 0


@pytest.mark.parametrize(
    "body", ["f(z)[0] * f(z)[1] > 0", "f(z)[0]^2 > 0", "max(f(z)) * abs(f(z)[0]) > 0", "f(z)[0] / y > 0"]
)
def test_products_of_what_varies_are_refused(body):
    assert codes(f"{HEAD}property p(x, y in d) {{ forall z in ball(x, linf, 1): {body} }}\n") == ["E210"]
