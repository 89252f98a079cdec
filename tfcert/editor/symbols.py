"""The names of one text: where each is defined, and where it stands for that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tfcert.language.text import syntax as s
from tfcert.language.text.diagnostics import Diagnostics, SourceText, Span
from tfcert.language.text.parser import parse_module

KINDS: dict[type[s.SyntaxNode], str] = {
    s.Import: "import",
    s.ParamStatement: "parameter",
    s.StrategyStatement: "strategy",
    s.DomainStatement: "domain",
    s.Let: "definition",
    s.PropertyStatement: "property",
    s.MeasureStatement: "measure",
    s.ShareStatement: "measure",
    s.DistanceStatement: "measure",
    s.ObjectiveStatement: "objective",
}
"""What the statements that have names define; a resource says itself what it is."""


@dataclass(frozen=True)
class Symbol:
    """A name that a text defines.

    Attributes:
        name: as it is defined.
        kind: what it is, in a word or two.
        span: the name's own place.
        node: the statement that it is the name of; of a name inside of a statement, that statement.
        within: the statement that it is known in; None for a name of the whole text.
    """

    name: str
    kind: str
    span: Span
    node: s.SyntaxNode
    within: s.SyntaxNode | None = None


class Symbols:
    """The names of a text that parses.

    Attributes:
        module: its syntax tree.
        symbols: its names, in the order of the text.
    """

    def __init__(self, module: s.Module):
        self.module = module
        self.symbols = sorted(self._defined(), key=lambda symbol: _start(symbol.span))
        self._own = {(symbol.name, symbol.span) for symbol in self.symbols}

    @classmethod
    def of(cls, text: str) -> Symbols | None:
        """The names of a text; None for one that does not parse."""
        module = parse_module(SourceText("<text>", text), Diagnostics())
        return None if module is None else cls(module)

    def _defined(self) -> Iterator[Symbol]:
        for statement in self.module.statements:
            yield from self._of_statement(statement)

    def _of_statement(self, statement: s.Statement) -> Iterator[Symbol]:
        name = getattr(statement, "name", None)
        if isinstance(statement, s.For):
            yield Symbol(statement.name.text, "name of a loop", statement.name.span, statement, statement)
            for inner in statement.body:
                yield from self._of_statement(inner)
            return
        if isinstance(name, s.Name):
            kind = statement.kind if isinstance(statement, s.Resource) else KINDS.get(type(statement), "name")
            yield Symbol(name.text, kind, name.span, statement)
        for node in s.walk(statement):
            for local, kind in _locals(node):
                yield Symbol(local.text, kind, local.span, statement, statement)

    def at(self, line: int, column: int) -> tuple[Symbol, Span] | None:
        """What the name at a place stands for, and where the name is there; None if there is no name of this text.

        Args:
            line, column: from 1.
        """
        for node, name, span in self._uses():
            if _start(span) <= (line, column) <= (span.end_line, span.end_column):
                found = self.meant(name, node)
                return None if found is None else (found, span)
        return None

    def meant(self, name: str, node: s.SyntaxNode) -> Symbol | None:
        """What a name stands for where a node is: one of its statement's own, or one of the text."""
        known = [symbol for symbol in self.symbols if symbol.name == name]
        near = [symbol for symbol in known if symbol.within is not None and _holds(symbol.within.span, node.span)]
        return min(near, key=_size) if near else next((symbol for symbol in known if symbol.within is None), None)

    def places(self, symbol: Symbol) -> list[Span]:
        """All places where a name stands for this, its definition among them."""
        spans = [span for node, name, span in self._uses() if name == symbol.name and self.meant(name, node) == symbol]
        return sorted(dict.fromkeys(spans), key=_start)

    def _uses(self) -> Iterator[tuple[s.SyntaxNode, str, Span]]:
        for node in s.walk(self.module):
            if isinstance(node, s.Ref):
                extra = 2 * node.quoted
                first = Span(
                    node.span.line, node.span.column, node.span.line, node.span.column + len(node.parts[0]) + extra
                )
                yield node, node.parts[0], first
            elif isinstance(node, s.Name) and (node.text, node.span) in self._own:
                yield node, node.text, node.span


def _locals(node: s.SyntaxNode) -> Iterator[tuple[s.Name, str]]:
    """The names that a part of a statement defines for it."""
    match node:
        case s.SamplesNode():
            yield from ((name, "sample, or what goes with it") for name in node.names)
        case s.Binder():
            yield from ((name, "point of a region") for name in node.names)
        case s.Let():
            yield from ((name, "parameter of a definition") for name in node.parameters)
        case s.Formal():
            yield node.name, "parameter of a question"
        case s.ForClause():
            yield node.name, "name of a loop"
        case s.MeasureStatement() if node.radius is not None:
            yield node.radius, "variable of a measure"
        case s.AssertStatement() | s.ReportStatement() if node.per_class is not None:
            yield node.per_class, "class"


def _start(span: Span) -> tuple[int, int]:
    return span.line, span.column


def _holds(outer: Span, inner: Span) -> bool:
    return _start(outer) <= _start(inner) and (inner.end_line, inner.end_column) <= (outer.end_line, outer.end_column)


def _size(symbol: Symbol) -> tuple[int, int]:
    assert symbol.within is not None
    span = symbol.within.span
    return span.end_line - span.line, span.end_column - span.column
