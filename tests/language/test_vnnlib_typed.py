"""VNN-LIB 2 becomes networks, tensors and formulas, and these the specification that asks the same; no TensorFlow."""

from fractions import Fraction

import numpy as np
import pytest

pytest.importorskip("vnnlib", reason="VNN-LIB 2 is read by the package vnnlib")

from tfcert.language import load
from tfcert.language.vnnlib.expressions import VnnlibError
from tfcert.language.vnnlib.prop_text import Interface, TypedTranslation, specification, untyped_questions
from tfcert.language.vnnlib.reader import parse_vnnlib
from tfcert.language.vnnlib.typed import Element, parse_typed, satisfied, version_of
from tfcert.language.vnnlib.writer import WrittenInput, WrittenNetwork, WrittenQuery, written_typed, written_untyped

HEAD = "(vnnlib-version <2.0>)\n"
NET = HEAD + "(declare-network f (declare-input X {0} [1,2]) (declare-output Y {0} [3]))\n"
BOX = "".join(f"(assert (>= X[0,{i}] 0.0)) (assert (<= X[0,{i}] 1.0))" for i in (0, 1))
TWO = (
    HEAD + "(declare-network f (declare-input X real [2]) (declare-output Y real [3]))\n"
    "(declare-network g ({} f) (declare-input U real [2]) (declare-output V real [3]))\n"
)
FACE = Interface("f.onnx", "float32", (("x", 2),), (("y", 3),))


def asked(text, **interfaces):
    return TypedTranslation(parse_typed(text), interfaces or {"f": FACE}).questions()


@pytest.mark.parametrize(
    ("asserted", "python"),
    [
        ("(<= Y[0] Y[1])", "y[0] <= y[1]"),
        ("(or (and (< Y[0] Y[1]) (>= Y[2] 1.0)) (> Y[0] 0.5))", "(y[0] < y[1] and y[2] >= 1) or y[0] > 0.5"),
        ("(<= (+ Y[0] (* -2.0 Y[1]) 1.0) (- Y[2] Y[0]))", "y[0] - 2 * y[1] + 1 <= y[2] - y[0]"),
        ("(== (- Y[0]) (- Y[1] Y[2] 1.0))", "-y[0] == y[1] - y[2] - 1"),
        ("(!= Y[0] Y[1])", "y[0] != y[1]"),
        ("(and (<= 1.0 2.0) (> Y[2] 0.0))", "y[2] > 0"),
    ],
)
def test_formulas_are_exact(asserted, python):
    formula = parse_typed(f"{NET.format('real')}(assert {asserted})").formula
    for place in np.ndindex(3, 3, 3):
        y = [Fraction(i - 1) for i in place]
        assert satisfied(formula, {Element("Y", i): v for i, v in enumerate(y)}) == eval(python, {}, {"y": y})


def test_numbers_of_a_floating_point_type_are_those_that_it_has():
    """0.1 of type float32 is the float32, which is larger; of real numbers it is 0.1."""
    for kind, expected in (("real", Fraction("0.1")), ("float32", Fraction(float(np.float32(0.1))))):
        bounds = f"{BOX}(assert (<= X[0,0] 0.1)) (assert (>= X[0,1] 0.1)) (assert (> Y[0] 0.1))"
        (question,) = asked(NET.format(kind) + bounds)
        assert question.points[0].boxes == (((Fraction(0), expected), (expected, Fraction(1))),)


def test_a_strict_end_of_a_floating_point_input_is_the_next_number():
    text = f"{BOX}(assert (< X[0,0] 0.5)) (assert (> X[0,1] 0.25)) (assert (> Y[0] 0.0))"
    (question,) = asked(NET.format("float32") + text)
    below, above = np.nextafter(np.float32(0.5), np.float32(0)), np.nextafter(np.float32(0.25), np.float32(1))
    assert question.points[0].boxes == (((0, Fraction(float(below))), (Fraction(float(above)), 1)),)
    (question,) = asked(NET.format("real") + text)
    assert question.where == "0.5 > z_f[0] and z_f[1] > 0.25" and question.points[0].boxes[0][0] == (0, Fraction(1, 2))


def test_alternatives_of_inputs_are_questions_of_their_own_and_conditions_stay_beside_the_box():
    text = f"""{NET.format("real")}{BOX}
    (assert (or (and (<= X[0,0] 0.25) (> Y[0] 0.0)) (and (>= X[0,0] 0.75) (<= (+ X[0,0] X[0,1]) 1.0) (> Y[1] 0.0))
                (and (>= X[0,0] 2.0) (> Y[2] 0.0))))"""
    first, second = asked(text)
    assert first.points[0].boxes[0][0] == (0, Fraction(1, 4)) and first.formula == "net_f(z_f)[0] > 0"
    assert second.points[0].boxes[0][0] == (Fraction(3, 4), 1) and second.where == "1 >= z_f[0] + z_f[1]"
    said = specification({"net_f": "f.onnx"}, [first, second], "a remark")
    assert list(load(said, bound=("net_f",)).properties) == ["case_0", "case_1"]


@pytest.mark.parametrize(("word", "models"), [("equal-to", {"net_f"}), ("isomorphic-to", {"net_f", "net_g"})])
def test_two_networks_have_points_of_their_own_that_may_share_numbers(word, models):
    bounds = "".join(f"(assert (>= {t}[{i}] 0.0)) (assert (<= {t}[{i}] 1.0))" for t in "XU" for i in (0, 1))
    text = f"{TWO.format(word)}{bounds}(assert (== X[0] U[0])) (assert (>= (- Y[0] V[0]) 0.5))"
    faces = {name[4:]: Interface(f"{name}.onnx", "float32", (("x", 2),), (("y", 3),)) for name in models}
    translated = TypedTranslation(parse_typed(text), faces)
    (question,) = translated.questions()
    assert set(translated.models) == models and question.where == "z_f[0] == z_g[0]"
    (template,) = load(specification(translated.models, [question], ""), bound=tuple(models)).properties.values()
    assert [a.features for a in template.agreements] == [(0,)] and len(template.points) == 2


def test_tensors_go_by_place_or_by_the_model_s_names():
    """Catches inputs in the order of the query where the model has another one, and heads that are mixed up."""
    text = f"""{HEAD}(declare-network f ; (declare-input B real [9] "a")
    (declare-input B real [1,3] "b") (declare-input A real [] "a") (declare-hidden H real [1,4] "h/out;put")
    (declare-output S real [1] "small") (declare-output G real [3] "big"))
    (assert (== A 0.5)) {"".join(f"(assert (== B[0,{i}] {i}.0))" for i in range(3))}
    (assert (or (>= S[0] G[2]) (<= H[0,1] A)))"""
    face = Interface("f.onnx", "float32", (("a", 1), ("b", 3)), (("big", 3), ("small", 1)))
    (question,) = asked(text, f=face)
    assert question.points[0].boxes[0] == tuple((v, v) for v in (Fraction(1, 2), Fraction(0), Fraction(1), Fraction(2)))
    heads = 'net_f.head("small")(z_f)[0] >= net_f.head("big")(z_f)[2]'
    assert question.formula == f'{heads} or z_f[0] >= net_f.layer("h/out;put")(z_f)[1]'
    with pytest.raises(VnnlibError, match="names one output of its model twice"):
        asked(text.replace('"big"', '"small"'), f=face)
    with pytest.raises(VnnlibError, match="one of several inputs"):  # the language takes such an input as a whole
        asked(text.replace("H[0,1] A", "H[0,1] B[0,1]"), f=face)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (NET.format("real") + BOX + "(assert (<= Y[3] 0.0))", "is no number of|line"),
        (NET.format("real") + "(assert (<= X[0,0] 0.5))", "no lower end"),
        (NET.format("real") + BOX, "asks nothing of what networks compute"),
        (NET.format("float32") + BOX + "(assert (<= (+ Y[0] Y[1]) 0.0))", "declare them `real`"),
        (NET.format("float16") + BOX + "(assert (<= Y[0] 0.0))", "type float16"),
        (NET.format("float64") + BOX + "(assert (<= Y[0] 0.0))", "declared float64, and f.onnx computes in float32"),
        (NET.format("real") + BOX + "(assert (<= (* Y[0] Y[1]) 1.0))", "no linear term"),
        (NET.format("real") + BOX + "(assert (<= Z[0] 1.0))", "line 3: Undeclared"),
        (NET.format("real").replace("[3]", "[4]") + BOX + "(assert (<= Y[0] 1.0))", "declared with 4 numbers"),
        (HEAD + "(" * 100, "deep"),
        (HEAD + "(declare-network", "syntax error"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_sentence(text, said):
    with pytest.raises(VnnlibError, match=said):
        asked(text)


def test_models_are_given_for_every_network_with_its_own():
    text = f"{TWO.format('isomorphic-to')}(assert (> Y[0] 0.0))"
    for given in ({"f": FACE}, {"f": FACE, "g": FACE, "h": FACE}):
        with pytest.raises(VnnlibError, match="the query's networks are f, g"):
            TypedTranslation(parse_typed(text), given)


def test_the_version_stands_first():
    assert version_of("; a remark\n (vnnlib-version <2.1>)") == (2, 1) and version_of("(declare-const X_0 Real)") == (
        1,
        0,
    )


def test_boxes_of_version_1_are_what_programs_read():
    """0.1 is no float32: the specification has the float32, which is the only input that the program can be given."""
    declared = "".join(f"(declare-const {name} Real)" for name in ("X_0", "Y_0", "Y_1"))
    text = f"{declared}(assert (= X_0 0.1)) (assert (<= (/ Y_0 3) Y_1))"
    (question,) = untyped_questions(parse_vnnlib(text), "float32")
    tenth = Fraction(float(np.float32(0.1)))
    assert question.points[0].boxes == (((tenth, tenth),),) and question.formula == "clf(z)[1] >= 1/3 * clf(z)[0]"
    assert "case_0" in load(specification({"clf": "f.onnx"}, [question], ""), bound=("clf",)).properties


def test_what_is_written_is_read_back():
    """A formula with a third, an equation and a strict row, over one box and over two, in both versions."""
    from tfcert.language.spec.formula import And, Atom, Or, Term

    def row(strict, constant, **factors):
        terms = tuple((Element(name[0], int(name[1:])), Fraction(f)) for name, f in factors.items())
        return Atom(Term(terms, Fraction(constant)), strict)

    formula = And((
        Or((row(True, "1/4", Y0=1, Y1="-1/3"), row(False, 0, Y0=1, Y2=-1))),
        row(False, 0, Y1=1, Y2=-1), row(False, 0, Y2=1, Y1=-1),
    ))  # fmt: skip
    network = WrittenNetwork("f", (WrittenInput("X", (1, 2)),), "Y", 3)
    boxes = [tuple((Fraction(low), Fraction(low) + Fraction(1, 8)) for low in case) for case in ((0, 1), (2, 3))]
    points = [{Element("Y", i): Fraction(v - 1, 2) for i, v in enumerate(place)} for place in np.ndindex(3, 3, 3)]
    for cases in (boxes[:1], boxes):
        query = WrittenQuery((network,), tuple(cases), formula, "one line\nand another")
        untyped = parse_vnnlib(written_untyped(query))
        assert [case.bounds for case in untyped.cases] == cases
        questions = asked(written_typed(query, "float32"))
        assert [q.points[0].boxes[0] for q in questions] == cases
        typed = parse_typed(written_typed(query, "float32"))
        corner = {Element("X", i): low for i, (low, _) in enumerate(cases[0])}
        assert all(satisfied(typed.formula, corner | y) == satisfied(formula, y) for y in points)
        from tfcert.language.spec.formula import evaluate

        found = [evaluate(untyped.cases[0].formula, list(y.values())) for y in points]
        assert found == [satisfied(formula, y) for y in points] and any(found) and not all(found)
    assert "float32" in written_typed(WrittenQuery((network,), (boxes[0],), row(False, "-1/4", Y0=1), ""), "float32")
