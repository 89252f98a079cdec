"""Parsing and printing are inverse, and limits hold."""

from __future__ import annotations

import random
import time
from fractions import Fraction
from pathlib import Path

import pytest

from tfcert.language import SpecError, load
from tfcert.language.text import syntax as s
from tfcert.language.text.diagnostics import Diagnostics, SourceText
from tfcert.language.text.parser import MAX_NESTING, parse_expression, parse_module
from tfcert.language.text.printer import print_expression, print_module

EVERYTHING = (Path(__file__).parent / "everything.prop").read_text("utf-8")


def parsed(text: str) -> s.Module:
    diagnostics = Diagnostics()
    module = parse_module(SourceText("t.prop", text), diagnostics)
    assert module is not None, diagnostics.errors().render()
    return module


def test_whole_language_parses_and_round_trips() -> None:
    module = parsed(EVERYTHING)
    kinds = {type(statement) for statement in module.statements}
    assert kinds == {
        s.Import,
        s.Check,
        s.ParamStatement,
        s.Resource,
        s.StrategyStatement,
        s.DomainStatement,
        s.Let,
        s.PropertyStatement,
        s.MeasureStatement,
        s.ShareStatement,
        s.DistanceStatement,
        s.ObjectiveStatement,
        s.AssertStatement,
        s.ReportStatement,
        s.For,
    }
    assert parsed(print_module(module)) == module


WORDS = ["a", "eps", "clf", "inx", "stepsize", "forall_", "net1"]
CHAINS = [["+", "-"], ["*", "/"], ["<", "<=", "==", "!=", ">", ">="], ["and"], ["or"], ["=>"]]


def random_formula(r: random.Random, size: int) -> s.Expr:
    """Any expression the grammar has, with about ``size`` leaves."""
    if size <= 1:
        return r.choice(
            [
                s.Ref(tuple(r.choices(WORDS, k=r.randint(1, 2)))),
                s.Number("2.5E3", Fraction(2500)),
                s.Number("3px", Fraction(3), "px"),
                s.Number("5%", Fraction(5), "%"),
                s.Boolean(r.random() < 0.5),
                s.Text("a b"),
            ]
        )
    parts = [random_formula(r, size // 3) for _ in range(3)]
    name = r.choice(WORDS)
    operators = r.choice(CHAINS)
    arguments = (
        s.Argument(None, parts[0]),
        s.Argument(name, parts[1]),
        s.Argument(r.choice([name, "hours per week"]), s.IntervalNode(parts[1], parts[2])),
        s.Argument("eps", s.Shares((s.Share(s.Name(name), parts[0]), s.Share(s.Name("two words", True), parts[1])))),
    )
    quoted = r.choice([s.Ref(("8px-net",), True), s.Ref(("max",), True), s.Ref((name, "net"), True)])
    call = s.Call(r.choice([s.Ref((name,)), quoted]), tuple(r.sample(arguments, r.randint(0, 4))))
    region = s.RegionNode(
        r.choice([s.IntervalNode(parts[0], parts[1]), call, s.Ref((name, name)), quoted]),
        r.choice([None, s.IntervalNode(parts[1], parts[0])]),
        r.choice([None, "raw", "unit", "net"]),
    )
    binder = s.Binder(tuple(s.Name(n) for n in r.sample(WORDS, 2)), region)
    condition = r.choice([None, parts[1]])
    return r.choice(
        [
            s.Chain(tuple(parts), tuple(r.choices(operators, k=2))),
            s.Chain(tuple(parts[:2]), (r.choice(operators),)),
            s.Unary(r.choice(["-", "not"]), parts[0]),
            s.Index(parts[0], parts[1]),
            s.OfCorrect(call),
            s.Member(parts[0], r.random() < 0.5, tuple(parts[1 : r.randint(2, 3)])),
            s.ListExpr(tuple(parts[: r.randint(0, 3)])),
            call,
            s.Quantified(r.choice(["forall", "exists"]), (binder,) * r.randint(1, 2), condition, parts[2]),
        ]
    )


def test_printed_formulas_parse_to_the_same_tree() -> None:
    r = random.Random(0)
    for _ in range(1500):
        formula = random_formula(r, r.randint(1, 40))
        text = print_expression(formula)
        assert parse_expression(SourceText("f", text), Diagnostics()) == formula, text


def test_words_run_together_are_one_name() -> None:
    for text in ("prop1", "prop 1 param a: realx = 1", "prop 1 assert a andb"):
        assert parse_module(SourceText("t", text), Diagnostics()) is None


def test_numbers_are_exact() -> None:
    diagnostics = Diagnostics()
    tree = parse_expression(SourceText("f", "0.1"), diagnostics)
    assert isinstance(tree, s.Number) and tree.value == Fraction(1, 10)
    tree = parse_expression(SourceText("f", "1e-400"), diagnostics)
    assert isinstance(tree, s.Number) and tree.value == Fraction(1, 10**400)


def test_spans_point_at_what_was_written() -> None:
    module = parsed("prop 1\nparam eps: real in [0, 1] =\n  8/255\n")
    (statement,) = module.statements
    assert isinstance(statement, s.ParamStatement) and statement.value is not None
    span = statement.value.span
    assert (span.line, span.column, span.end_line, span.end_column) == (3, 3, 3, 8)


def codes(text: str, **options: object) -> set[str]:
    with pytest.raises(SpecError) as caught:
        load(text, **options)  # type: ignore[arg-type]
    return {d.code for d in caught.value.diagnostics}


BOX = 'prop 1 model f = keras("a") property p { forall z in box([0, 1]): '


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("prop 1 assert " + "(" * 50_000, "E003"),
        ("prop 1 assert " + "-" * 45_000 + "1 > 0", "E003"),
        ("prop 1 assert " + "a[" * (MAX_NESTING + 1), "E003"),
        ("prop 1 assert a" + "[0]" * 15_000, "E003"),
        ("prop 1 param a: real = 1" + "0" * 5000, "E004"),
        ("prop 1 param a: real = 1e" + "9" * 5000, "E004"),
        ("prop 1 param a: real = 1" + " * 1e399" * 20_000, "E004"),
        ("prop 1 param a: real = 1" + "".join(f" + 1/{k}" for k in range(2, 12_000)), "E004"),
        ("prop 1 " + "assert " * 90_000, "E101"),
        ("prop " + "9" * 100_000, "E102"),
        ("prop 1\n" + "".join(f"param a{i}: real = a{i + 1}\n" for i in range(2000)) + "param a2000: real = 1", "E006"),
        ("prop 1\nlet f(a) = a\nparam p: real = " + "f(" * 60 + "1" + ")" * 60 + "+" + "f(" * 60 + "1", "E101"),
        ("prop 1\n" + "".join(f"param a{i}: real = b{i}\n" for i in range(6000)), "E201"),
        ("prop 1\nlet a(q) = " + " + ".join(f"b{i}" for i in range(24_000)), "E201"),
        ("prop 1\nmodel f = keras(\"a\") { " + " ".join(f"opt{i}: 1" for i in range(15_000)) + "}", "E219"),
        (BOX + "abs(1 + " * 18 + "f(z)[0]" + ")" * 18 + " > 0 }", "E214"),
        (BOX + " + ".join(f"abs(f(z)[{i}])" for i in range(3000)) + " > 0 }", "E214"),
        (BOX + " + ".join(f"max(f(z)[{2 * i}], f(z)[{2 * i + 1}])" for i in range(2000)) + " > 0 }", "E214"),
        ("prop 1\nlet x0(a) = a + 0\n" + "".join(f"let x{i}(a) = x{i - 1}(x{i - 1}(a))\n" for i in range(1, 40))
         + "param p: real = x39(1)", "E006"),
    ],
)  # fmt: skip
def test_hostile_texts_end_quickly_in_a_diagnostic(text: str, code: str) -> None:
    start = time.process_time()
    assert code in codes(text)
    assert time.process_time() - start < 10


OUTPUTS = ", ".join(f"out{i}" for i in range(7000))


@pytest.mark.parametrize(
    "text",
    [
        BOX + "(" + " + ".join(f"f(z)[{i}]" for i in range(1500)) + ")" + " * 1" * 5000 + " > 0 }",
        f'prop 1 model f = keras("a") {{ outputs: [{OUTPUTS}] }}\nproperty p {{ forall z in box([0, 1]): '
        + " + ".join(f"f(z)[out{i}]" for i in range(3000)) + " > 0 }",
        BOX + "argmax(f(z)) in {" + ", ".join(map(str, range(20_000))) + "} }",
        BOX.replace("property", "model g = keras(\"b\") property")
        + "max(f(z)) > f(z)[9000] }" + "".join(f" property p{i} {{ forall z in box([0, 1]): max(g(z)) > g(z)[9000] }}"
                                              for i in range(1000)),
    ],
    ids=["products", "names", "classes", "maxima"],
)  # fmt: skip
def test_long_texts_take_about_a_second(text: str) -> None:
    start = time.process_time()
    load(text)
    assert time.process_time() - start < 10


def test_long_chains_are_not_nesting() -> None:
    load("prop 1\nparam a: real = 0" + " + 1" * 5000 + "\nassert a == 5000" + " and a > 1" * 5000)


def test_check_is_fast_and_needs_no_tensorflow() -> None:
    import subprocess
    import sys

    code = (
        "import sys, time; t = time.process_time(); from tfcert.language import load; "
        "load('prop 1\\nparam eps: real = 8/255\\n'); "
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules; "
        "print(time.process_time() - t)"
    )
    seconds = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert seconds < 1
