"""Parsing and printing are inverse, and limits hold."""

from __future__ import annotations

import time
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfcert.language import SpecError, load
from tfcert.language import syntax as s
from tfcert.language.diagnostics import Diagnostics, SourceText
from tfcert.language.parser import MAX_NESTING, parse_expression, parse_module
from tfcert.language.printer import print_expression, print_module

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
        s.ParamStatement,
        s.Resource,
        s.StrategyStatement,
        s.Domain,
        s.Let,
        s.PropertyStatement,
        s.MeasureStatement,
        s.Objective,
        s.AssertStatement,
        s.Report,
    }
    assert parsed(print_module(module)) == module


names = st.sampled_from(["a", "eps", "clf", "inx", "stepsize", "forall_", "net1"])
refs = st.lists(names, min_size=1, max_size=2).map(lambda p: s.Ref(tuple(p)))
numbers = st.sampled_from(["0", "8", "0.5", "1e-4", "2.5E3"]).map(lambda t: s.Number(t, Fraction(t)))
quantities = st.sampled_from(["px", "deg", "ms", "min", "%"]).map(lambda u: s.Number("3" + u, Fraction(3), u))
leaves = st.one_of(refs, numbers, quantities, st.builds(s.Boolean, st.booleans()), st.just(s.Text("a b")))


def grown(inner: st.SearchStrategy[s.Expr]) -> st.SearchStrategy[s.Expr]:
    def chain(operators: list[str]) -> st.SearchStrategy[s.Chain]:
        several = st.lists(st.tuples(st.sampled_from(operators), inner), min_size=1, max_size=3)
        return st.builds(
            lambda first, rest: s.Chain((first, *(o for _, o in rest)), tuple(op for op, _ in rest)), inner, several
        )

    interval = st.builds(s.Interval, inner, inner)
    argument = st.one_of(
        st.builds(s.Argument, st.none(), inner),
        st.builds(s.Argument, names, inner),
        st.builds(s.Argument, names, interval),
    )
    call = st.builds(s.Call, refs, st.lists(argument, max_size=3).map(tuple))
    region = st.builds(
        s.Region,
        st.one_of(interval, call, refs),
        st.one_of(st.none(), interval),
        st.sampled_from([None, "raw", "unit", "net"]),
    )
    binder = st.builds(s.Binder, st.lists(names.map(s.Name), min_size=1, max_size=2).map(tuple), region)
    quantified = st.builds(
        s.Quantified,
        st.sampled_from(["forall", "exists"]),
        st.lists(binder, min_size=1, max_size=2).map(tuple),
        st.one_of(st.none(), inner),
        inner,
    )
    return st.one_of(
        chain(["+", "-"]),
        chain(["*", "/"]),
        chain(["<", "<=", "==", "!=", ">", ">="]),
        chain(["and"]),
        chain(["or"]),
        chain(["=>"]),
        st.builds(s.Unary, st.sampled_from(["-", "not"]), inner),
        st.builds(s.Index, inner, inner),
        st.builds(s.ListExpr, st.lists(inner, max_size=3).map(tuple)),
        call,
        quantified,
    )


@settings(max_examples=400, deadline=None)
@given(st.recursive(leaves, grown, max_leaves=12))
def test_printed_formulas_parse_to_the_same_tree(formula: s.Expr) -> None:
    text = print_expression(formula)
    diagnostics = Diagnostics()
    assert parse_expression(SourceText("f", text), diagnostics) == formula, text


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


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("prop 1 assert " + "(" * 50_000, "E003"),
        ("prop 1 assert " + "-" * 90_000 + "1 > 0", "E003"),
        ("prop 1 assert " + "a[" * (MAX_NESTING + 1), "E003"),
        ("prop 1 assert a" + "[0]" * 30_000, "E003"),
        ("prop 1 param a: real = 1" + "0" * 5000, "E004"),
        ("prop 1 param a: real = 1e" + "9" * 5000, "E004"),
        ("prop 1 param a: real = 1" + " * 1e399" * 20_000, "E004"),
        ("prop 1 param a: real = 1" + " + 1/3e200" * 20_000 + " + 1/7e399 + 1e399", "E004"),
        ("prop 1 " + "assert " * 90_000, "E101"),
        ("prop " + "9" * 100_000, "E102"),
        ("prop 1\n" + "".join(f"param a{i}: real = a{i + 1}\n" for i in range(2000)) + "param a2000: real = 1", "E006"),
        ("prop 1\nlet f(a) = a\nparam p: real = " + "f(" * 60 + "1" + ")" * 60 + "+" + "f(" * 60 + "1", "E101"),
        ("prop 1\nlet x0(a) = a + a\n" + "".join(f"let x{i}(a) = x{i - 1}(x{i - 1}(a))\n" for i in range(1, 40))
         + "param p: real = x39(1)", "E006"),
    ],
)  # fmt: skip
def test_hostile_texts_end_quickly_in_a_diagnostic(text: str, code: str) -> None:
    start = time.process_time()
    assert code in codes(text)
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
