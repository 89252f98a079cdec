"""Nodes of expressions, formulas and regions, and what every node has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from fractions import Fraction
from typing import Any

from tfcert.language.text.diagnostics import Span


@dataclass(frozen=True, kw_only=True)
class SyntaxNode:
    """Anything that stands somewhere in the text."""

    span: Span = field(default=Span(), compare=False, repr=False)


@dataclass(frozen=True)
class Name(SyntaxNode):
    """A name where it is defined; ``quoted`` if it is a name only in quotes."""

    text: str
    quoted: bool = False


def walk(root: Any) -> Iterator[SyntaxNode]:
    """A node, or a tuple of nodes, and everything in it, without recursion."""
    pending: list[Any] = [root]
    while pending:
        item = pending.pop()
        if isinstance(item, tuple):
            pending.extend(item)
        elif isinstance(item, SyntaxNode):
            yield item
            pending.extend(getattr(item, f.name) for f in fields(item) if f.name != "span")


# Expressions


@dataclass(frozen=True)
class Number(SyntaxNode):
    """A literal as written, its exact value, and its unit ("" for none)."""

    text: str
    value: Fraction
    unit: str = ""


@dataclass(frozen=True)
class Text(SyntaxNode):
    """A text in quotes."""

    value: str


@dataclass(frozen=True)
class Boolean(SyntaxNode):
    """``true`` or ``false``."""

    value: bool


@dataclass(frozen=True)
class Ref(SyntaxNode):
    """A name where it is used, with the import it comes from: ``common.eps``.

    ``quoted`` if it is a name only in quotes.
    """

    parts: tuple[str, ...]
    quoted: bool = False

    @property
    def name(self) -> str:
        """The name as written."""
        return ".".join(self.parts)


@dataclass(frozen=True)
class IntervalNode(SyntaxNode):
    """``[low, high]`` where the grammar asks for an interval."""

    low: Expr
    high: Expr


@dataclass(frozen=True)
class WholeNode(IntervalNode):
    """``integers [low, high]`` where an input has whole numbers alone."""


@dataclass(frozen=True)
class Argument(SyntaxNode):
    """One argument of a call: ``value``, ``name=value``, ``name in [low, high]`` or ``name in integers [low, high]``.

    A call ``box(sex in {0, 1})`` has a :class:`Member` for its value.
    """

    name: str | None
    value: Expr | IntervalNode


@dataclass(frozen=True)
class Call(SyntaxNode):
    """``function(arguments)``."""

    function: Ref
    arguments: tuple[Argument, ...]


@dataclass(frozen=True)
class Index(SyntaxNode):
    """``base[index]``."""

    base: Expr
    index: Expr


@dataclass(frozen=True)
class CalledPart(SyntaxNode):
    """``function(arguments)`` of what is a call itself: ``clf.layer("dense")(z)``."""

    function: Call
    arguments: tuple[Argument, ...]


@dataclass(frozen=True)
class OutputPart(SyntaxNode):
    """``base.name``: one of the outputs of a network that has several, ``clf(z).steer``."""

    base: Call
    name: Name


@dataclass(frozen=True)
class OfCorrect(SyntaxNode):
    """``base of correct``: a quantity of the samples that are classified right alone."""

    base: Call


@dataclass(frozen=True)
class Unary(SyntaxNode):
    """``-operand`` or ``not operand``."""

    operator: str
    operand: Expr


@dataclass(frozen=True)
class Chain(SyntaxNode):
    """Operands joined by operators of one level: ``+ -``, ``* /``, comparisons, ``and``, ``or``, ``=>``."""

    operands: tuple[Expr, ...]
    operators: tuple[str, ...]


@dataclass(frozen=True)
class Member(SyntaxNode):
    """``operand in {members}``, or ``operand not in {members}`` if ``negated``."""

    operand: Expr
    negated: bool
    members: tuple[Expr, ...]


@dataclass(frozen=True)
class RangeNode(SyntaxNode):
    """``low .. high by step`` in a list: both ends belong to it; the step may be missing."""

    low: Expr
    high: Expr
    step: Expr | None


@dataclass(frozen=True)
class Among(SyntaxNode):
    """``operand in group``, or ``operand not in group`` if ``negated``, where the group is a name or ``top(...)``."""

    operand: Expr
    negated: bool
    group: Expr


@dataclass(frozen=True)
class SetExpr(SyntaxNode):
    """``{members}``."""

    members: tuple[Expr, ...]


@dataclass(frozen=True)
class ListExpr(SyntaxNode):
    """``[items]``."""

    items: tuple[Expr, ...]


@dataclass(frozen=True)
class ForClause(SyntaxNode):
    """``for name in values``."""

    name: Name
    values: Expr


@dataclass(frozen=True)
class Comprehension(SyntaxNode):
    """``[item for name in values ... where condition]``."""

    item: Expr
    clauses: tuple[ForClause, ...]
    where: Expr | None


@dataclass(frozen=True)
class Share(SyntaxNode):
    """``name: value``: what one input has of something."""

    name: Name
    value: Expr


@dataclass(frozen=True)
class Shares(SyntaxNode):
    """``[name: value, ...]`` where an argument has a name: what each input has of something."""

    items: tuple[Share, ...]


@dataclass(frozen=True)
class Anything(SyntaxNode):
    """``anything`` after ``within``."""


@dataclass(frozen=True)
class RegionChain(SyntaxNode):
    """Regions joined by ``or`` (a union) or by ``and`` (an intersection)."""

    operator: str
    operands: tuple[RegionBase, ...]


@dataclass(frozen=True)
class RegionNode(SyntaxNode):
    """``base within [low, high] in space``, ``within anything`` or ``within domain``; in brackets a base itself."""

    base: RegionBase
    within: IntervalNode | Anything | Ref | None
    space: str | None


RegionBase = IntervalNode | Call | Ref | RegionChain | RegionNode


@dataclass(frozen=True)
class Binder(SyntaxNode):
    """``names in region``."""

    names: tuple[Name, ...]
    region: RegionNode


@dataclass(frozen=True)
class Quantified(SyntaxNode):
    """``forall`` or ``exists`` binders ``where`` condition ``:`` body."""

    quantifier: str
    binders: tuple[Binder, ...]
    where: Expr | None
    body: Expr


Listing = ListExpr | RangeNode | Comprehension
Expr = (
    Number | Text | Boolean | Ref | Call | CalledPart | OutputPart | Index | OfCorrect | Unary | Chain | Member | Among
    | SetExpr | Listing | Shares | Quantified
)  # fmt: skip
