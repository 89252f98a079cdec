"""Outlines of runs: which questions and assertions of a text and of its imports are asked."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

from tfcert.language.check.scope import Definition, Scope
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
    asked.questions |= {d.full_name: d for d in scope.definitions.values() if d.kind in ("property", "measure")}
    named: set[str] = set()
    for statement in scope.statements:
        if isinstance(statement, s.AssertStatement | s.ReportStatement):
            asked.judged.append((scope, statement))
        for ref in statement.targets if isinstance(statement, s.Check) else ():
            named.add(ref.parts[0])
            with suppress(AbortError):
                _checked(scope, ref, asked, seen)
    for statement in scope.statements:
        if isinstance(statement, s.Import) and statement.name.text not in named:
            _report_silent(scope, statement)


def _checked(scope: Scope, ref: s.Ref, asked: RunOutline, seen: set[str]) -> None:
    """Adds what one name after ``check`` stands for."""
    found = scope.find(ref, ("import", "property", "measure"))
    if found.kind != "import":
        if found.scope is scope:
            raise scope.problem(
                "E204", f"`{ref.name}` is asked without `check`, which is for imports", ref, "remove it"
            )
        asked.questions[found.full_name] = found
    elif found.name not in found.scope.imports:
        raise AbortError("E007")
    else:
        _whole(found.scope.imports[found.name], asked, seen)


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
    found = Counter(d.kind for d in scope.definitions.values() if d.kind in ("property", "measure"))
    found.update("assertion" for statement in scope.statements if isinstance(statement, s.AssertStatement))
    for inner in scope.imports.values():
        found.update(_count(inner))
    return found
