"""Questions about models of several inputs: a radius each, and what is held fixed."""

from __future__ import annotations

from fractions import Fraction

import pytest
from language.language_specs import codes

from tfcert.language import load
from tfcert.language.text.diagnostics import Diagnostics, SourceText
from tfcert.language.text.parser import parse_module
from tfcert.language.text.printer import print_module

HEAD = """prop 1
model clf = keras("clf.keras") { inputs: [image, "blood pressure", sex] }
dataset test = npz("test.npz") { range: [0, 2] }
"""


def region(text, head=HEAD):
    return load(head + f"property p(x, y in test) {{ forall z in {text}: argmax(clf(z)) == y }}").properties["p"].region


def test_radii_are_in_the_order_of_the_inputs_and_in_their_units():
    """`5%` is a share of the declared range; the radius of the ball is 1, and what is not named is an error."""
    found = region('ball(x, l2, eps=[sex: 0, "blood pressure": 5%, image: 8/255])')
    assert found.shares == (Fraction(8, 255), Fraction(1, 10), Fraction(0))
    assert (found.eps, found.slope, found.norm, found.within) == (1, 0, "l2", (0, 2))
    assert found.largest == Fraction(1, 10)
    assert region("ball(x, linf, eps=0.1)") == region("ball(x, linf, 0.1)")


def test_radii_of_a_measure_are_multiples_of_its_variable():
    text = (
        HEAD + "measure m(x, y in test) = largest r in [0, 1] such that forall z in ball(x, l1, eps=[image: r, "
        '"blood pressure": r/2, sex: 0]): argmax(clf(z)) == y'
    )
    found = load(text).measures["m"].region
    assert (found.eps, found.slope, found.shares) == (0, 1, (1, Fraction(1, 2), 0))


def test_what_is_written_by_name_prints_and_parses_back():
    text = 'prop 1\nproperty p(x in t) { forall z in ball(x, l2, eps=[a: 8/255, "b c": 2 * e]): f(z)[0] > 0 }\n'
    parsed = parse_module(SourceText("t", text), Diagnostics())
    assert parse_module(SourceText("t", print_module(parsed)), Diagnostics()) == parsed


@pytest.mark.parametrize(
    ("ball", "code"),
    [
        ("ball(x, linf, eps=[image: 0.1, sex: 0])", "E208"),
        ('ball(x, linf, eps=[image: 0.1, sex: 0, "blood pressure": 0, age: 1])', "E201"),
        ('ball(x, linf, eps=[image: 0.1, sex: 0, sex: 0, "blood pressure": 1])', "E202"),
        ('ball(x, linf, eps=[image: -1, sex: 0, "blood pressure": 1])', "E209"),
        ('ball(x, linf, eps=[image: 0, sex: 0, "blood pressure": 0])', "E209"),
        ('ball(x, linf, eps=[image: 5s, sex: 0, "blood pressure": 0])', "E207"),
        ("ball(x, linf, radius=0.1)", "E205"),
    ],
)
def test_radii_that_are_wrong_have_codes(ball, code):
    assert codes(HEAD + f"property p(x, y in test) {{ forall z in {ball}: argmax(clf(z)) == y }}") == [code]


def test_training_takes_one_radius_and_an_abstraction_the_largest():
    asked = (
        HEAD
        + """property p(x, y in test) {
      forall z in ball(x, linf, eps=[image: 0.1, "blood pressure": 0, sex: 0]): argmax(clf(z)) == y }
    """
    )
    assert codes(asked + "objective o for p { bound: ibp }") == ["E229"]
    behind = asked.replace("property p(x, y in test)", "property p(x, y in test) abstracted by g")
    assert load(behind + "abstraction g = intervals(range=[0, 2], granularity=0.5)").warnings == ()
    assert codes(behind + "abstraction g = intervals(range=[0, 2], granularity=0.1)") == ["E212"]
