"""VNN-LIB 1.0 becomes the boxes and formulas that it says; what it does not say is refused with the line."""

import gzip
import itertools
from fractions import Fraction

import pytest

from tfcert.language.spec.formula import evaluate
from tfcert.language.vnnlib.expressions import VnnlibError
from tfcert.language.vnnlib.numbers import decimal_within, exact_decimal
from tfcert.language.vnnlib.questions import vnnlib_spec
from tfcert.language.vnnlib.reader import parse_vnnlib, read_vnnlib

DECLARED = "".join(f"(declare-const {name} Real)\n" for name in ("X_0", "X_1", "Y_0", "Y_1", "Y_2"))
BOX = "(assert (<= X_0 1.0)) (assert (>= X_0 -1e-1)) (assert (>= 0.5 X_1))\n(assert (<= 0.25 X_1)) ; a remark (\n"
GRID = [tuple(map(Fraction, point)) for point in itertools.product((-1, 0, 1), repeat=3)]


def agree(asserted, python):
    """Tells whether the formula of the only case is ``python`` of the outputs on a grid."""
    (case,) = parse_vnnlib(f"{DECLARED}{BOX}{asserted}").cases
    return all(evaluate(case.formula, y) == eval(python, {}, {"y": y}) for y in GRID)


def test_bounds_are_exact_whichever_side_they_stand_on():
    question = parse_vnnlib(f"{DECLARED}{BOX}(assert (<= Y_0 Y_1))")
    assert (question.inputs, question.outputs) == (2, 3)
    bounds = ((Fraction(-1, 10), Fraction(1)), (Fraction(1, 4), Fraction(1, 2)))
    assert [case.bounds for case in question.cases] == [bounds]


@pytest.mark.parametrize(
    ("asserted", "python"),
    [
        ("(assert (<= Y_0 Y_1))", "y[0] <= y[1]"),
        ("(assert (< Y_0 Y_1)) (assert (>= Y_2 0))", "y[0] < y[1] and y[2] >= 0"),
        ("(assert (or (and (<= Y_0 Y_1) (>= Y_2 1)) (> Y_0 0.5)))", "(y[0] <= y[1] and y[2] >= 1) or y[0] > 0.5"),
        ("(assert (<= (+ Y_0 (* -2 Y_1) 1) (- Y_2 Y_0)))", "y[0] - 2 * y[1] + 1 <= y[2] - y[0]"),
        ("(assert (>= (/ Y_0 2) (- Y_1)))", "y[0] / 2 >= -y[1]"),
        ("(assert (= Y_0 Y_1))", "y[0] == y[1]"),
        ("(assert (and (or (<= Y_0 0)) (<= 1 2)))", "y[0] <= 0"),
    ],
)
def test_formulas_of_outputs(asserted, python):
    assert agree(asserted, python)


def test_disjunctions_of_boxes_are_written_out_with_what_is_asked_in_each():
    """Boxes that are asked the same are one region; others are questions of their own; empty ones are none."""
    text = f"""{DECLARED}(assert (>= X_1 0)) (assert (<= X_1 1))
    (assert (or (and (>= X_0 0) (<= X_0 1) (<= Y_0 Y_1))
                (and (>= X_0 2) (<= X_0 3) (<= Y_0 Y_1))
                (and (>= X_0 5) (<= X_0 4) (<= Y_0 Y_1))
                (and (>= X_0 4) (<= X_0 5) (or (<= Y_0 Y_2) (<= Y_1 Y_2)))))"""
    question = parse_vnnlib(text)
    assert [tuple(map(float, case.bounds[0])) for case in question.cases] == [(0, 1), (2, 3), (4, 5)]
    spec = vnnlib_spec(question)
    assert [len(getattr(p.region, "parts", "1")) for p in spec.properties.values()] == [2, 1]
    for p in spec.properties.values():
        assert p.existential
    first = spec.properties["case_0"]  # its formula is what is to be proven: the negation of what is sought
    assert first.holds([1.0, 0.0, 0.0]) and not first.holds([0.0, 0.0, 0.0])
    assert [len(clause.offsets) for clause in spec.properties["case_1"].clauses(3)] == [1, 1]


def test_two_disjunctions_multiply():
    either = "(assert (or (and (>= X_{0} 0) (<= X_{0} 1)) (and (>= X_{0} 2) (<= X_{0} 3))))"
    question = parse_vnnlib(f"{DECLARED}{either.format(0)}{either.format(1)}(assert (<= Y_0 0))")
    assert len(question.cases) == 4


def test_a_compressed_file_is_the_same(tmp_path):
    text = f"{DECLARED}{BOX}(assert (<= Y_0 Y_1))"
    (tmp_path / "a.vnnlib").write_text(text)
    (tmp_path / "a.vnnlib.gz").write_bytes(gzip.compress(text.encode()))
    assert read_vnnlib(tmp_path / "a.vnnlib") == read_vnnlib(tmp_path / "a.vnnlib.gz") == parse_vnnlib(text)
    (tmp_path / "b.vnnlib.gz").write_bytes(b"not compressed")
    with pytest.raises(VnnlibError, match=r"b\.vnnlib\.gz cannot be read"):
        read_vnnlib(tmp_path / "b.vnnlib.gz")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{DECLARED}(assert (<= X_0 1)", "line 6: this bracket is never closed"),
        (f"{DECLARED}{BOX})", "line 8: this bracket was never opened"),
        (f"{DECLARED}{BOX}(assert (<= Y_7 1))", "line 8: Y_7 is not declared"),
        (f"{DECLARED}{BOX}(assert (<= Y_0 wide))", "line 8: wide is not declared"),
        (f"{DECLARED}{BOX}(assert (=> Y_0 1))", "not understood"),
        (f"{DECLARED}{BOX}(assert (<= X_0 Y_0))", "compares an input with more than a number"),
        (f"{DECLARED}{BOX}(assert (< X_0 0.5))", "strict bound"),
        (f"{DECLARED}{BOX}(assert (<= (* Y_0 Y_1) 1))", "no linear term"),
        (f"{DECLARED}{BOX}(assert (<= Y_0 1e999999999))", "beyond the range"),
        (f"{DECLARED}(assert (<= X_0 1)) (assert (>= X_0 0)) (assert (<= X_1 1))", "X_1 has no lower end"),
        ("(declare-const X_1 Real)(declare-const Y_0 Real)", "not all declared"),
        ("(declare-const X_0 Int)", "of type Int"),
        (f"{DECLARED}(declare-const X_0 Real)", "declared twice"),
        ("(vnnlib-version <2.0>)", "not read yet"),
        ("(set-logic LRA)", "not understood"),
        ("(" * 100, "deep"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text, said):
    with pytest.raises(VnnlibError, match=said):
        parse_vnnlib(text)


def test_numbers_that_a_program_rounds_are_written_within_their_box():
    """0.1 is no float32: a witness there is written as a number of the box that is read as the float32."""
    import numpy as np

    tenth = float(np.float32(0.1))
    assert decimal_within(tenth, Fraction("0.1"), Fraction("0.1")) == "0.1"
    assert decimal_within(0.5, Fraction(0), Fraction(1)) == "0.5"
    assert decimal_within(tenth, Fraction(0), Fraction("0.1")) == "0.1"
    for value in (Fraction("0.1"), Fraction(-7, 8), Fraction(3), Fraction(-1, 1000)):
        assert Fraction(exact_decimal(value)) == value
