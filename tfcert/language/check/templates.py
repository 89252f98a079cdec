"""Templates: questions with parameters, and their instances, each with a scope of its own and a name one can read.

An instance ``robust(eps=2px)`` is a question in a scope of its text, with the template's names beside those of the
text. Nothing is substituted: a value is worked out once, where it is written, and means the same wherever it goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import Any

from tfcert.language.check.declared import output_names
from tfcert.language.check.elaborate import Elaborator
from tfcert.language.check.naming import as_written
from tfcert.language.check.params import of_type, require_in_interval
from tfcert.language.check.reading import as_ref
from tfcert.language.check.scope import KINDS, MAX_STEPS, Definition, Scope, did_you_mean
from tfcert.language.check.values import Meaning, describe
from tfcert.language.text import syntax as s
from tfcert.language.text.diagnostics import AbortError

MAX_EXPANDED = 1000
"""Turns of loops and instances of templates in one specification."""
NAMED = ("model", "dataset", "strategy", "abstraction", "domain")
"""What templates and loops take by name, beside values; loops take questions, too."""
QUESTIONS = ("property", "measure")


@dataclass(frozen=True)
class Bound:
    """What a name of a loop or a template stands for, and how one reads it."""

    definition: Definition
    shown: str

    @property
    def key(self) -> object:
        """Equal for two that stand for the same."""
        return self.definition.result if self.definition.kind == "param" else id(self.definition)


def value_bound(scope: Scope, name: s.Name, node: s.SyntaxNode, value: Meaning, place: s.SyntaxNode) -> Bound:
    """A name for a constant; reports and leaves where the value is none."""
    text = as_written(value)
    if text is None:
        raise scope.problem("E261", f"`{name.text}` must stand for a constant; this is {describe(value)}", place)
    return Bound(Definition("param", name.text, scope, node, value, "done"), text)


def formals_of(definition: Definition) -> tuple[s.Formal, ...]:
    """What a question must be asked with; empty for one that is asked as it is."""
    return getattr(definition.node, "formals", ())


def asked_question(scope: Scope, node: s.Ref | s.Call, kinds: Iterable[str] = QUESTIONS) -> Definition:
    """The question that ``robust`` or ``robust(8px)`` names: of a template the instance with these arguments.

    Reports and leaves where there is none.
    """
    ref = node.function if isinstance(node, s.Call) else node
    found = scope.find(ref, kinds)
    if found.kind not in QUESTIONS:
        return found
    formals = formals_of(found)
    if not formals:
        if isinstance(node, s.Call):
            raise scope.problem("E260", f"`{ref.name}` takes no arguments", node, f"write `{ref.name}`")
        return found
    arguments = node.arguments if isinstance(node, s.Call) else ()
    bound = {formal.name.text: _argument(scope, found, formal, arguments, node) for formal in formals}
    _require_known(scope, found, arguments)
    key = tuple(b.key for b in bound.values())
    if key not in found.instances:
        found.instances[key] = _instance(scope, found, bound, node)
    return found.instances[key]


def _require_known(scope: Scope, template: Definition, arguments: tuple[s.Argument, ...]) -> None:
    names = [formal.name.text for formal in formals_of(template)]
    positional = [a for a in arguments if a.name is None]
    if len(positional) > len(names):
        message = f"`{template.name}` takes {len(names)} argument{'s' * (len(names) > 1)}, not {len(arguments)}"
        raise scope.problem("E260", message, positional[len(names)], f"it takes {_takes(template)}")
    for argument in arguments:
        if argument.name is not None and argument.name not in names:
            fix = did_you_mean(argument.name, names) or f"it takes {_takes(template)}"
            raise scope.problem("E260", f"`{template.name}` takes no `{argument.name}`", argument, fix)
        if argument.name is not None and argument.name in names[: len(positional)]:
            raise scope.problem("E260", f"`{argument.name}` is given twice", argument, "leave one out")
    given = [a.name for a in arguments if a.name is not None]
    if len(set(given)) < len(given):
        raise scope.problem("E260", "an argument is given twice", arguments[-1], "leave one out")


def _names(template: Definition) -> str:
    return ", ".join(formal.name.text for formal in formals_of(template))


def _takes(template: Definition) -> str:
    return ", ".join(f"`{formal.name.text}: {formal.kind}`" for formal in formals_of(template))


def _argument(
    scope: Scope, template: Definition, formal: s.Formal, arguments: tuple[s.Argument, ...], place: s.SyntaxNode
) -> Bound:
    """What one name of a template stands for: as it is asked with, or by default."""
    positional = [a for a in arguments if a.name is None]
    order = [f.name.text for f in formals_of(template)].index(formal.name.text)
    given = next((a for a in arguments if a.name == formal.name.text), None)
    given = positional[order] if given is None and order < len(positional) else given
    if given is not None:
        if isinstance(given.value, s.IntervalNode | s.Shares):
            raise scope.problem("E260", f"`{formal.name.text}` takes {_wanted(formal)}", given)
        return _bound(scope, template, formal, given.value)
    if formal.default is None:
        fix = f"write `{template.name}({_names(template)})` with values"
        raise scope.problem("E260", f"`{template.name}` needs `{formal.name.text}`, {_wanted(formal)}", place, fix)
    return _bound(template.scope, template, formal, formal.default)


def _wanted(formal: s.Formal) -> str:
    return KINDS[formal.kind] if formal.kind in NAMED else f"a value of type `{formal.kind}`"


def _bound(scope: Scope, template: Definition, formal: s.Formal, expression: s.Expr) -> Bound:
    given = as_ref(expression)
    if formal.kind in NAMED:
        if not isinstance(given, s.Ref):
            raise scope.problem("E260", f"`{formal.name.text}` takes the name of {KINDS[formal.kind]}", expression)
        found = scope.find(given, (formal.kind,))
        return Bound(found, found.full_name)
    value = of_type(Elaborator(scope).value(expression), formal.kind, scope, expression)
    if formal.interval is not None:
        require_in_interval(Elaborator(template.scope), value, formal.interval, (scope, expression))
    return value_bound(scope, formal.name, formal, value, expression)


def _instance(scope: Scope, template: Definition, bound: dict[str, Bound], node: s.SyntaxNode) -> Definition:
    _check_formals(template)
    if template.state == "failed":
        raise AbortError("E202")
    count_expansion(scope, node, sum(1 for _ in s.walk(template.node)))
    inner = template.scope.inside({name: (b.definition, b.shown) for name, b in bound.items()})
    name = f"{template.name}({inner.bound})"
    line = f"{scope.source.filename}:{node.span.line}:{node.span.column}"
    inner.note = f"in `{template.scope.prefix}{name}`, asked at {line}" + (f", {scope.note}" if scope.note else "")
    head = replace(template.node.name, text=name, quoted=False)
    made = Definition(template.kind, name, inner, replace(template.node, name=head, formals=()))
    keep_name(made)
    return made


def keep_name(made: Definition) -> None:
    """Keeps the name of a question that is made; two of one name would be taken for each other."""
    session = made.scope.session
    first = session.questions.setdefault(made.full_name, made)
    if first is not made:
        message = f"there is a second `{made.full_name}`: another one was made in line {first.node.name.span.line}"
        raise made.scope.problem("E202", message, made.node.name, "choose another name")


def _check_formals(template: Definition) -> None:
    """Reports names that a template gives twice, or that something else has; once for each template."""
    if template.state != "new":
        return
    scope, node = template.scope, template.node
    variables = {n.text for q in s.walk(node) if isinstance(q, s.Binder) for n in q.names}
    variables |= {n.text for n in node.samples.names} if node.samples else set()
    variables |= {node.radius.text} if isinstance(node, s.MeasureStatement) and node.radius else set()
    seen: set[str] = set()
    reported = scope.session.diagnostics.reported
    for formal in formals_of(template):
        name = formal.name.text
        scope.refuse_word(formal.name)
        scope.refuse_clash(name, formal.name, KINDS)
        refuse_output(scope, formal.name)
        if name in seen or name in variables:
            what = "another parameter" if name in seen else "a variable"
            scope.report("E202", f"`{name}` is already {what} of `{template.name}`", formal.name, "choose another name")
        seen.add(name)
    template.state = "checked" if scope.session.diagnostics.reported == reported else "failed"


def refuse_output(scope: Scope, name: s.Name) -> None:
    """Reports a name of a loop or a template that some model's output has, too: one would hide the other."""
    outputs = {n for d in scope.definitions.values() if d.kind == "model" for n in output_names(d)}
    if name.text in outputs:
        scope.report("E202", f"`{name.text}` is already an output of a model", name, "choose another name")


def mentioned(scope: Scope, *roots: s.Expr) -> Iterator[tuple[s.Ref, Definition]]:
    """The instances of templates that some expressions name, each with its name there; problems are reported."""
    pending: list[Any] = list(reversed(roots))
    while pending:
        node = pending.pop()
        given = as_ref(node) if isinstance(node, s.Text) else node
        ref = given.function if isinstance(given, s.Call) else given
        found = scope.look_up(ref) if isinstance(ref, s.Ref) else None
        if found is not None and found.kind in QUESTIONS and formals_of(found):
            assert isinstance(given, s.Ref | s.Call) and isinstance(ref, s.Ref)
            with suppress(AbortError):
                yield ref, asked_question(scope, given)
        elif isinstance(node, tuple):
            pending.extend(reversed(node))
        elif isinstance(node, s.Call):
            pending.extend(reversed([a.value for a in node.arguments]))
        elif isinstance(node, s.SyntaxNode):
            pending.extend(reversed([getattr(node, f.name) for f in fields(node) if f.name != "span"]))


def report_unasked(scope: Scope) -> None:
    """Warns of templates of a text that nothing asks: of these nothing is checked at all."""
    if scope.session.diagnostics.failed:
        return  # What asks them may be what could not be understood.
    for each in scope.with_turns():
        for definition in each.own.values():
            if definition.kind in QUESTIONS and formals_of(definition) and not definition.instances:
                with suppress(AbortError):
                    _check_formals(definition)
                name = definition.node.name
                fix = f"write `check {name.text}({_names(definition)})` with values"
                each.report("W020", f"nothing asks `{name.text}`, so nothing of it is checked", name, fix)


def count_expansion(scope: Scope, node: s.SyntaxNode, size: int = 1) -> None:
    """Counts a turn or an instance, of so many parts; reports and leaves beyond the limits."""
    session = scope.session
    session.expanded += 1
    session.steps += size
    if session.expanded > MAX_EXPANDED or session.steps > MAX_STEPS:
        what = f"more than {MAX_EXPANDED} questions and turns"
        what = what if session.expanded > MAX_EXPANDED else "too large a specification"
        fix = "split it into several specifications"
        raise scope.problem("E006", f"loops and templates make {what}", node, fix)
