"""Units and valid ranges: what a pixel, a percentage and an angle are, and where inputs may lie."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tfcert.language import BallSpec, SpecError, load, net_within

HEAD = """prop 1
model clf = keras("clf.keras")
dataset test = npz("test.npz") {{ {options} }}
"""
BYTES = "range: [0, 255] scale: 1/255"
CHANNELS = BYTES + " normalize: { mean: [0.5, 0.25] std: [0.5, 0.25] }"


def ball(options: str, region: str, more: str = "") -> tuple[BallSpec, object]:
    text = f"{HEAD.format(options=options)}{more}\n"
    text += f"property p(x, y in test) {{ forall z in {region}: argmax(clf(z)) == y }}"
    template = load(text).properties["p"]
    assert isinstance(template.region, BallSpec)
    return template.region, template


@pytest.mark.parametrize(
    ("eps", "more", "space", "raw"),
    [("10%", "", "unit", "25.5"), ("10%", "", "raw", "25.5"), ("e", "let e = 10%", "raw", "25.5"),
     ("e", "param e: real in [0, 1] = 10%", "raw", "25.5"), ("2px", "", "raw", "2"), ("10% + 1%", "", "raw", "28.05"),
     ("50% * 2px", "", "raw", "1"), ("1/10", "", "unit", "25.5")],
)  # fmt: skip
def test_a_percentage_as_a_radius_is_a_share_of_the_range_in_every_space(eps, more, space, raw):
    region, template = ball(BYTES, f"ball(x, linf, {eps}) in {space}", more)
    assert region.net_eps(template.transform) == (Fraction(raw) / 255,)


@pytest.mark.parametrize("space", ["raw", "unit", "net"])
def test_a_ball_stays_within_the_declared_range_unless_anything_is_written(space):
    eps = {"raw": "3", "unit": "3/255", "net": "0.03"}[space]
    region, template = ball(CHANNELS, f"ball(x, linf, {eps}) in {space}")
    assert net_within(region, template.transform) == ((-1, -1), (1, 3))
    region, template = ball(CHANNELS, f"ball(x, linf, {eps}) within anything in {space}")
    assert region.within is None and net_within(region, template.transform) is None
    region, template = ball("scale: 1/255", f"ball(x, linf, {eps}) in {space}")
    assert region.within is None, "no range is declared"


def test_what_is_written_goes_before_the_declared_range():
    region, template = ball(CHANNELS, "ball(x, linf, 0.01) within [0.5, 0.75] in unit")
    assert net_within(region, template.transform) == ((0, 1), (Fraction(1, 2), 2))


@pytest.mark.parametrize(("tolerance", "relative"), [("50%", True), ("t", True), ("1e-2", False), ("1px", False)])
def test_a_tolerance_is_relative_where_it_is_a_percentage_by_whatever_name(tolerance, relative):
    m = load(
        f"{HEAD.format(options=BYTES)}let t = 50%\nmeasure m(x, y in test) = largest r in [0, 25%] tol {tolerance} "
        "such that forall z in ball(x, linf, r) in raw: argmax(clf(z)) == y"
    ).measures["m"]
    assert m.relative is relative and m.upper == Fraction(255, 4) and m.width == 255
    assert m.tolerance == {"1e-2": Fraction(1, 100), "1px": 1}.get(tolerance, Fraction(1, 2))


def test_percentages_and_angles_are_plain_numbers_in_conditions_and_boxes():
    p = load(
        'prop 1 model clf = keras("clf.keras") '
        "property p { forall z in box([-30deg, 30deg]): clf(z)[0] + 10% >= 50% and abs(clf(z)[1]) <= 5deg + 0.1 }"
    ).properties["p"]
    assert p.holds([0.4, 0.18]) and not p.holds([0.39, 0]) and not p.holds([0.4, 0.19])
    assert round(float(p.region.bounds[0][1]), 4) == 0.5236


@pytest.mark.parametrize(
    ("written", "number"),
    [("500m/1ft", Fraction(5_000_000, 3048)), ("1nmi/1km", Fraction(1852, 1000)), ("36kt/1kt", 36), ("2km/50cm", 4000),
     ("1mi/1ft", 5280), ("(300mm + 70cm)/1m", 1), ("180deg/1rad", Fraction("3.14159265358979323846")),
     ("1h/30min", 2), ("18months/1year", Fraction(3, 2)), ("2weeks/1day", 14), ("(1year + 1month)/1month", 13)],
)  # fmt: skip
def test_lengths_speeds_angles_and_times_convert_exactly(written, number):
    text = (
        f'prop 1\nmodel f = keras("f.keras")\nlet v = {written}\nproperty p {{ forall z in box([0, v]): f(z)[0] > v }}'
    )
    template = load(text).properties["p"]
    ((_, high),) = template.region.bounds
    assert high == pytest.approx(number, rel=1e-15) and (high == number or "deg" in written)


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("forall z in ball(x, linf, 5ft): f(z)[0] > 0", "distance between inputs, not a length"),
        ("forall z in ball(x, linf, 1rad): f(z)[0] > 0", "distance between inputs, not an angle"),
        ("forall z in box([0, 300kt]): f(z)[0] > 0", "plain number or pixels, not a speed"),
        ("forall z in ball(x, linf, 6months): f(z)[0] > 0", "distance between inputs, not a number of years or months"),
        ("forall z in box([0, 1]): f(z)[0] > 1year/30days", "a number of years or months cannot be divided by a time"),
        ("forall z in box([0, 1]): f(z)[0] > 3m", "a plain number and a length cannot be compared"),
        ("forall z in box([0, 1]): f(z)[0] > 3m/1kt", "a length cannot be divided by a speed"),
        ("forall z in box([0, 1]): f(z)[0] + 3m > 1", "a plain number and a length cannot be added"),
        ("forall z in box([0, 1]): z[0] <= 3m => f(z)[0] > 1", "a plain number and a length cannot be compared"),
    ],
)
def test_a_measured_quantity_is_no_number_by_itself(question, said):
    text = f'prop 1\nmodel f = keras("f.keras")\ndataset d = npz("d.npz")\nproperty p(x in d) {{ {question} }}'
    with pytest.raises(SpecError, match="E207") as caught:
        load(text)
    assert said in str(caught.value)
