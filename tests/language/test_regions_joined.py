"""Unions, intersections, patches and values of regions: what is read, what it means, and its pieces."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from language.language_specs import codes

from tfcert.language import BallSpec, BoxSpec, SpecError, load
from tfcert.language.spec.membership import lies_in
from tfcert.language.spec.pieces import MAX_PIECES, TooManyPiecesError, count_pieces, pieces
from tfcert.language.spec.places import AnyFew, AnyPatch, Movable, NoPlaceError
from tfcert.language.spec.regions import INTEGERS, BothSpec, SomewhereSpec, UnionSpec
from tfcert.language.spec.spaces import IDENTITY
from tfcert.language.text.diagnostics import Diagnostics, SourceText
from tfcert.language.text.parser import parse_module
from tfcert.language.text.printer import print_module

HEAD = """prop 1
model f = keras("f.keras") { inputs: [age, income, sex] }
dataset d = npz("d.npz") { range: [0, 6] }
domain adult = box(age in integers [1, 5], income in [0, 4], sex in {0, 1})
domain young = box(age in [0, 1], income in [0, 4], sex in [0, 1])
domain either = young or box(age in [3, 4], income in [0, 4], sex in [0, 1])
"""
FORALL = "property p(x, y in d) {{ forall z in {region}: argmax(f(z)) == y }}\n"


def region(text: str, head: str = HEAD):
    return load(head + FORALL.format(region=text)).properties["p"].region


@pytest.mark.parametrize(
    "text",
    [
        "(ball(x, linf, 1) or adult) and box(age in [0, 1]) within [0, 1] in unit",
        "(ball(x, linf, 1) in raw) and adult or box([0, 1]) in net",
        'box(age in integers [0, 5], "b c" in {0, 1}, one_hot(a, "b d"))',
        'ball(x, linf, eps=[age: 2], fixed=[sex], mask="m.npz") within adult in raw',
        "patch(x, 5, 5, stride=2)",
        "[0, 1]",
    ],
)
def test_what_is_written_prints_and_parses_back(text):
    parsed = parse_module(
        SourceText("t", f"prop 1\nproperty p(x in d) {{ forall z in {text}: f(z)[0] > 0 }}"), Diagnostics()
    )
    assert parsed is not None
    assert parse_module(SourceText("t", print_module(parsed)), Diagnostics()) == parsed


def test_radii_by_input_are_lists_and_shares_of_the_domain():
    assert region("ball(x, linf, eps=[2, 5, 0])").shares == (2, 5, 0)
    assert region("ball(x, l2, 0.5, fixed=[sex])").shares == (1, 1, 0)
    assert region("ball(x, l2, eps=[2, 5, 1], free=[income, sex])").shares == (0, 5, 1)
    within = region("ball(x, linf, eps=[age: 50%, income: 10%, sex: 0]) within adult")
    assert within.balls[0].shares == (2, Fraction(4, 10), 0) and within.centred
    assert region("ball(x, linf, 50%) within adult").balls[0].shares == (4, 4, 1)
    assert region("ball(x, linf, eps=[age: 50%, income: 1, sex: 0])").shares == (3, 1, 0)  # of the declared range


def test_intersections_are_distributed_over_unions():
    found = region("(ball(x, linf, 1) or either) and adult")
    assert isinstance(found, UnionSpec) and len(found.parts) == 3
    assert [len(part.balls) for part in found.parts] == [1, 0, 0]
    assert [len(part.limits) for part in found.parts] == [1, 2, 2]


def test_within_cuts_balls_and_boxes_of_a_union():
    found = region("(ball(x, linf, 1) or box([0, 5])) within [1, 2]")
    assert found.parts[0].within == (1, 2) and found.parts[1].bounds == ((1, 2),)


def test_an_interval_is_the_only_input_of_a_network():
    one = 'prop 1\nmodel f = keras("f.keras")\nproperty p {{ forall v in {}: f(v)[0] > 0 }}'
    assert load(one.format("[0.8, 1.2]")).properties["p"].region == BoxSpec(
        ((Fraction(4, 5), Fraction(6, 5)),), ("v",), "raw"
    )
    assert codes(HEAD + FORALL.format(region="[0, 1]")) == ["E205"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("ball(x, linf, eps=[2, 5])", "E205"),
        ("ball(x, linf, 1, fixed=[age], free=[sex])", "E205"),
        ("ball(x, linf, 1, fixed=[height])", "E201"),
        ("ball(x, linf, 1, fixed=[age, income, sex])", "E209"),
        ("ball(x, linf, 1, rows=[3, 1])", "E209"),
        ("ball(x, linf, 1, rows=3)", "E206"),
        ("ball(x, linf, 1, stride=2)", "E205"),
        ('ball(x, linf, 1, mask="../m.npz")', "E221"),
        ("ball(x, l0, 0.5)", "E206"),
        ("patch(x, 2)", "E205"),
        ("patch(z, 2, 2)", "E201"),
        ("ball(x, l0, 2) within anything", "E208"),
        ("patch(x, 2, 2) and ball(x, linf, 1)", "E252"),
        ("ball(x, l2, 1) and ball(x, l1, 1)", "E252"),
        ("ball(x, l1, 1) and box(age in integers [1, 500])", "E252"),
        ("ball(x, linf, 1) within either", "E252"),
        ("box(age in [0, 1]) and box(income in [0, 1])", "E208"),
        ("box(age in [0, 1], sex in {0, 1})", "E208"),
        ("box(age in integers [0.2, 0.8]) and adult", "E209"),
        ("box(sex not in {0, 1}) and adult", "E206"),
        ("box(one_hot(age), sex in {0, 1}) and adult", "E205"),
        ("box(age in [0, 1], age in integers [0, 1]) and adult", "E202"),
        ("box(sex in {0, y}) and adult", "E206"),
        ("nowhere or adult", "E201"),
        ("bal(x, linf, 1) or adult", "E201"),
    ],
)
def test_regions_that_are_wrong_have_codes(text, code):
    assert codes(HEAD + FORALL.format(region=text)) == [code]


def test_domains_that_name_each_other_end():
    assert codes(
        'prop 1\nmodel f = keras("f.keras")\ndomain a = b\ndomain b = a\nproperty p { forall z in a: f(z)[0] > 0 }'
    ) == ["E006"]


def test_the_regions_of_measures_grow():
    measure = "measure m(x, y in d) = largest r in [0, 1] such that forall z in {}: argmax(f(z)) == y\n"
    for text in (
        "ball(x, linf, r) or ball(x, l2, r/2)",
        "ball(x, l2, r) and box(age in [0, 5])",
        "ball(x, linf, r, rows=[0, 1])",
    ):
        assert load(HEAD + measure.format(text)).measures
    for text in ("ball(x, linf, r) or either", "ball(x, linf, r) and adult", "ball(x, l0, 2)", "patch(x, 2, 2)"):
        assert codes(HEAD + measure.format(text)) in (["E206"], ["E252"])


# Pieces


@pytest.mark.parametrize(("size", "stride"), [((2, 2), 1), ((2, 3), 2), ((3, 3), 3), ((4, 5), 2)])
def test_patches_touch_both_edges(size, stride):
    """Each patch lies in the image whole, the first and the last row and column belong to some."""
    shape, way = (4, 5, 2), AnyPatch(*size, stride)
    masks = [places.on(shape) for places in way.places(None, shape)]
    assert len(masks) == way.count(shape) == len({mask.tobytes() for mask in masks})
    assert all(mask.sum() == size[0] * size[1] * 2 for mask in masks)
    covered = np.any(masks, axis=0)
    assert covered[0].any() and covered[-1].any() and covered[:, 0].any() and covered[:, -1].any()
    with pytest.raises(NoPlaceError, match="images at least as large"):
        list(AnyPatch(5, 5).places(None, shape))


def test_a_few_numbers_are_chosen_of_those_that_may_change():
    chosen = [places.numbers for places in AnyFew(2).places(Movable(numbers=(0, 2, 3)), (4,))]
    assert chosen == [(0, 2), (0, 3), (2, 3)]
    assert len(list(AnyFew(9).places(None, (4,)))) == 1


PIECED = [
    "adult",
    "adult or either",
    "ball(x, linf, 2) and adult",
    "ball(x, l0, 1) within adult",
    "ball(x, l0, 2, free=[age, sex])",
    "box(one_hot(age, sex), income in {0, 2, 4})",
    "(ball(x, l1, 1) or ball(x, linf, 0.5)) and box(income in [0, 2])",
]


@pytest.mark.parametrize("text", PIECED)
def test_pieces_are_the_region(text):
    """A point lies in a region if and only if it lies in a piece, on a lattice around several samples."""
    found = region(text)
    parts = pieces(found, (3,))
    assert len(parts) == (count_pieces(found) or len(parts))
    values = [Fraction(v, 2) for v in range(-1, 12)]
    held = 0
    for sample in ((2, 1, 0), (3, 4, 1)):
        for point in itertools.product(values, values[1::2], [Fraction(v, 2) for v in range(-1, 4)]):
            inside = lies_in(found, IDENTITY, (3,), point, sample)
            assert inside == any(lies_in(part, IDENTITY, (3,), point, sample) for part in parts)
            held += inside
    assert held, "the lattice says nothing of this region"


def test_whole_numbers_are_listed_as_long_as_they_are_few():
    few, many = (region(f"box(age in integers [1, {n}], income in [0, 1], sex in {{0, 1}})") for n in (64, 65))
    assert len(pieces(few, (3,))) == 128
    assert len(pieces(many, (3,))) == 2
    assert all(part.limits[0].kinds[0] == INTEGERS for part in pieces(many, (3,)))


def test_regions_of_too_many_pieces_are_refused():
    somewhere = region("ball(x, l0, 2)")
    assert isinstance(somewhere, SomewhereSpec) and count_pieces(somewhere) is None
    with pytest.raises(TooManyPiecesError, match=rf"7260 pieces, more than {MAX_PIECES}"):
        pieces(somewhere, (121,))
    assert isinstance(region("ball(x, linf, 1) and box(age in [0, 1])"), BothSpec)
    assert isinstance(region("ball(x, linf, 1)"), BallSpec)


def test_a_region_with_its_own_limits_stands_in_brackets():
    """`within` and a space end a region: what could follow them would read as theirs, or not."""
    with pytest.raises(SpecError, match="stand in brackets") as caught:
        load(HEAD + FORALL.format(region="ball(x, linf, 1) within [0, 1] or adult"))
    assert [problem.code for problem in caught.value.diagnostics] == ["E101"]
    assert isinstance(region("(ball(x, linf, 1) within [0, 6]) or adult"), UnionSpec)
