"""Outlines of runs: which questions and assertions of a text and of its imports are asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from tfcert.language.check.scope import Definition, Scope
from tfcert.language.check.templates import QUESTIONS, asked_question, formals_of, mentioned
from tfcert.language.text import syntax as s
from tfcert.language.text.diagnostics import AbortError

_PLURALS = {"property": "properties", "measure": "measures", "assertion": "assertions"}


@dataclass
class RunOutline:
    """Subjects of a run, in the order in which they are written.

    Attributes:
        questions: properties and measures by their full names.
        judged: assertions and reports, each with the text that it stands in.
    """

    questions: dict[str, Definition] = field(default_factory=dict)
    judged: list[tuple[Scope, s.AssertStatement | s.ReportStatement]] = field(default_factory=list)


def what_is_asked(scope: Scope) -> RunOutline:
    """Outlines what a text asks. Warns of imports that hold questions of which none is asked."""
    asked = RunOutline()
    _whole(scope, asked, set())
    return asked


def _whole(scope: Scope, asked: RunOutline, seen: set[str]) -> None:
    """Adds all that one text asks."""
    if scope.prefix in seen:
        return
    seen.add(scope.prefix)
    named: set[str] = set()
    _statements(scope, asked, seen, named)
    for statement in scope.statements:
        if isinstance(statement, s.Import) and statement.name.text not in named:
            _report_silent(scope, statement)


def _statements(scope: Scope, asked: RunOutline, seen: set[str], named: set[str]) -> None:
    """Adds what the statements of a text, or of a turn of a loop, ask; ``named`` are the imports that they ask of."""
    for statement in scope.statements:
        instances: Iterator[tuple[s.Ref, Definition]] = iter(())
        match statement:
            case s.PropertyStatement() | s.MeasureStatement() | s.ShareStatement() | s.DistanceStatement():
                found = scope.own.get(statement.name.text)
                if found is not None and found.kind in QUESTIONS and not formals_of(found):
                    asked.questions[found.full_name] = found
            case s.AssertStatement(condition):
                asked.judged.append((scope, statement))
                instances = mentioned(scope, condition)
            case s.ReportStatement(items):
                asked.judged.append((scope, statement))
                instances = mentioned(scope, *items)
            case s.ObjectiveStatement(target=target):
                instances = mentioned(scope, target)
            case s.Check(targets):
                for node in targets:
                    named.add((node.function if isinstance(node, s.Call) else node).parts[0])
                    with suppress(AbortError):
                        _checked(scope, node, asked, seen)
            case s.For(values=values):
                instances = mentioned(scope, values)
        for ref, instance in instances:
            named.add(ref.parts[0])
            asked.questions[instance.full_name] = instance
        for turn in scope.turns.get(id(statement), ()):
            _statements(turn, asked, seen, named)


def _checked(scope: Scope, node: s.Ref | s.Call, asked: RunOutline, seen: set[str]) -> None:
    """Adds what one name after ``check`` stands for."""
    ref = node.function if isinstance(node, s.Call) else node
    found = scope.find(ref, ("import", *QUESTIONS))
    if found.kind != "import":
        if found.scope.prefix == scope.prefix and not formals_of(found):
            message = f"`{ref.name}` is asked without `check`, which is for imports and templates"
            raise scope.problem("E204", message, node, "remove it")
        question = asked_question(scope, node)
        asked.questions[question.full_name] = question
    elif isinstance(node, s.Call):
        raise scope.problem("E260", f"`{ref.name}` takes no arguments", node, f"write `check {ref.name}`")
    elif found.name not in found.scope.imports:
        raise AbortError("E007")
    else:
        _whole(found.scope.imports[found.name], asked, seen)


def _questions(scope: Scope) -> list[Definition]:
    return [d for d in scope.own.values() if d.kind in QUESTIONS]


def _report_silent(scope: Scope, node: s.Import) -> None:
    """Warns of an import that asks something, though nothing of it is asked here."""
    inner = scope.imports.get(node.name.text)
    found = Counter[str]() if inner is None else _count(inner)
    if not found:
        return
    held = " and ".join(f"{n} {kind if n == 1 else _PLURALS[kind]}" for kind, n in found.items())
    fix = f"write `check {node.name.text}` to ask them all, or `check {node.name.text}.NAME`"
    scope.report("W011", f"`{node.name.text}` holds {held} that nothing here asks", node, fix)


def _count(scope: Scope) -> Counter[str]:
    """The number of questions and assertions in a text and its imports."""
    found = Counter[str]()
    for each in scope.with_turns():
        found.update(d.kind for d in _questions(each) if not formals_of(d))
        found.update("assertion" for statement in each.statements if isinstance(statement, s.AssertStatement))
    for inner in scope.imports.values():
        found.update(_count(inner))
    return found
