"""Loops: the statements inside are read once for each turn, with the loop's variable beside the names of the text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import islice

from tfcert.language.check.elaborate import Elaborator
from tfcert.language.check.lists import range_of
from tfcert.language.check.naming import define_all, defined_kind
from tfcert.language.check.reading import as_ref
from tfcert.language.check.scope import KINDS, Scope
from tfcert.language.check.templates import (
    MAX_EXPANDED,
    NAMED,
    QUESTIONS,
    Bound,
    asked_question,
    count_expansion,
    formals_of,
    keep_name,
    refuse_output,
    value_bound,
)
from tfcert.language.check.values import Items, describe
from tfcert.language.text import syntax as s
from tfcert.language.text.diagnostics import AbortError

IN_LOOPS = ("property", "measure", "let", "strategy", "domain")
"""What a loop defines, anew for each turn; assertions, reports, checks and loops may stand in it, too."""
_OUTSIDE = {"import": "imports", "param": "parameters", "model": "models", "dataset": "data sets",
            "abstraction": "abstractions", "objective": "objectives"}  # fmt: skip


def expand_loops(scope: Scope) -> None:
    """Makes a scope for each turn of each loop of a text, those inside of each other included."""
    for statement in scope.statements:
        if isinstance(statement, s.For):
            with suppress(AbortError):
                scope.turns[id(statement)] = _turns(scope, statement)


def _turns(scope: Scope, node: s.For) -> tuple[Scope, ...]:
    scope.refuse_word(node.name)
    scope.refuse_clash(node.name.text, node.name, KINDS)
    refuse_output(scope, node.name)
    _require_body(scope, node)
    if scope.session.expanded > MAX_EXPANDED:
        raise AbortError("E006")
    values = list(islice(_loop_values(scope, node), MAX_EXPANDED + 1))
    seen: set[str] = set()
    for bound in values:
        if bound.shown in seen:
            raise scope.problem("E202", f"`{bound.shown}` is listed twice", node.values, "list it once")
        seen.add(bound.shown)
    return tuple(_turn(scope, node, bound) for bound in values)


def _turn(scope: Scope, node: s.For, bound: Bound) -> Scope:
    count_expansion(scope, node)
    turn = scope.inside({node.name.text: (bound.definition, bound.shown)})
    turn.note = f"where {turn.bound}"
    define_all(turn, node.body)
    for definition in turn.own.values():
        if definition.kind in (*QUESTIONS, "strategy", "domain") and not formals_of(definition):
            definition.name = f"{definition.name}({turn.bound})"
            head = replace(definition.node.name, text=definition.name, quoted=False)
            definition.node = replace(definition.node, name=head)
            if definition.kind in QUESTIONS:
                keep_name(definition)
    expand_loops(turn)
    return turn


def _require_body(scope: Scope, node: s.For) -> None:
    for statement in node.body:
        kind = defined_kind(statement)
        if kind is not None and kind not in IN_LOOPS:
            message = f"{_OUTSIDE[kind]} cannot stand inside a loop"
            scope.report("E262", message, statement.name, "write it before the loop")  # type: ignore[union-attr]
    if any(kind not in (None, *IN_LOOPS) for kind in map(defined_kind, node.body)):
        raise AbortError("E262")


def _loop_values(scope: Scope, node: s.For) -> Iterator[Bound]:
    """What the variable of a loop stands for in each turn."""
    home, listed = _listed(scope, node.values)
    if not isinstance(listed, s.ListExpr):
        value = Elaborator(home).value(listed)
        if not isinstance(value, Items):
            message = f"`for` goes through a list; this is {describe(value)}"
            raise scope.problem("E261", message, node.values, "write `[a, b, c]` or `[1 .. 9]`")
        yield from (value_bound(scope, node.name, node, v, node.values) for v in value.values)
        return
    for item in listed.items:
        if isinstance(item, s.RangeNode):
            for number in range_of(Elaborator(home), item):
                yield value_bound(scope, node.name, node, number, item)
        else:
            yield _loop_value(home, node, item)


def _loop_value(scope: Scope, node: s.For, item: s.Expr) -> Bound:
    """One item of the list of a loop: a name of something, a template with arguments, or a value."""
    given = as_ref(item)
    ref = given.function if isinstance(given, s.Call) else given
    found = scope.look_up(ref) if isinstance(ref, s.Ref) else None
    if found is not None and found.kind in QUESTIONS and isinstance(given, s.Ref | s.Call):
        question = asked_question(scope, given)
        return Bound(question, question.full_name)
    if found is None and isinstance(item, s.Ref) and item.name in scope.session.bound:
        found = scope.find(item, ("model", "dataset"))
    if found is not None and found.kind in NAMED and isinstance(given, s.Ref):
        return Bound(found, found.full_name)
    return value_bound(scope, node.name, node, Elaborator(scope).value(item), item)


def _listed(scope: Scope, node: s.Expr) -> tuple[Scope, s.Expr]:
    """A list, or that which a name stands for, with the scope that it is written in."""
    seen: set[int] = set()
    while isinstance(node, s.Ref) and id(node) not in seen:
        seen.add(id(node))
        found = scope.look_up(node)
        if found is None or found.kind != "let" or found.node.parameters:
            break
        scope, node = found.scope, found.node.value
    return scope, node
