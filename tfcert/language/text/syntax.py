"""The syntax tree: what was written, with its place in the text. Equality ignores places."""

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

# Values in blocks


@dataclass(frozen=True)
class ScheduleNode(SyntaxNode):
    """``ramp(start -> end, unit first..last, shape)``; the shape may be missing."""

    start: Expr
    end: Expr
    unit: str
    first: Expr
    last: Expr
    shape: Name | None = None


@dataclass(frozen=True)
class Budget(SyntaxNode):
    """``each per unit, total total``; either part may be missing."""

    each: Expr | None
    unit: str | None
    total: Expr | None


@dataclass(frozen=True)
class EntryNode(SyntaxNode):
    """``name: value``."""

    name: Name
    value: BlockValue


@dataclass(frozen=True)
class Block(SyntaxNode):
    """``{ entries }``."""

    entries: tuple[EntryNode, ...]


BlockValue = ScheduleNode | Budget | Block | Expr

# Statements


@dataclass(frozen=True)
class Import(SyntaxNode):
    """``import "path" as name(arguments)``; the arguments are values of its parameters."""

    path: Text
    name: Name
    arguments: tuple[Argument, ...] = ()


@dataclass(frozen=True)
class ParamStatement(SyntaxNode):
    """``param name: type in interval = value``."""

    name: Name
    type: str
    interval: IntervalNode | None
    value: Expr | None


@dataclass(frozen=True)
class StepNode(SyntaxNode):
    """A step of a choice of samples: ``take 10 per class``, ``skip 5``, ``shuffle(1)``, ``indices [3, 5]``."""

    kind: str
    value: Expr


@dataclass(frozen=True)
class Resource(SyntaxNode):
    """``model``, ``dataset`` or ``abstraction``: name, source, choice (of data sets) and options."""

    kind: str
    name: Name
    source: Call
    choice: tuple[StepNode, ...]
    block: Block | None


@dataclass(frozen=True)
class StageCall(SyntaxNode):
    """One stage of a strategy."""

    name: Name
    arguments: tuple[Argument, ...]


@dataclass(frozen=True)
class StrategyStatement(SyntaxNode):
    """``strategy name = stages { options }``; a name among the stages stands for those of a strategy."""

    name: Name
    stages: tuple[StageCall | Ref, ...]
    block: Block | None


@dataclass(frozen=True)
class DomainStatement(SyntaxNode):
    """``domain name = box(...)``, or several boxes joined by ``or`` and ``and``."""

    name: Name
    region: RegionBase


@dataclass(frozen=True)
class Let(SyntaxNode):
    """``let name(parameters) = expression``."""

    name: Name
    parameters: tuple[Name, ...]
    value: Expr


@dataclass(frozen=True)
class SamplesNode(SyntaxNode):
    """``(x, y in data where condition take number)``; ``choice`` is what follows the condition."""

    names: tuple[Name, ...]
    dataset: Ref
    where: Expr | None
    choice: tuple[StepNode, ...]


@dataclass(frozen=True)
class Formal(SyntaxNode):
    """``name: kind in interval = default``: what a template is asked with."""

    name: Name
    kind: str
    interval: IntervalNode | None
    default: Expr | None


@dataclass(frozen=True)
class PropertyStatement(SyntaxNode):
    """``property name(formals)(samples) using strategy abstracted by abstraction { formula }``.

    ``expect_fail`` if ``expected fail`` stands before it.
    """

    name: Name
    samples: SamplesNode | None
    strategy: Ref | None
    abstraction: Ref | None
    formula: Expr
    formals: tuple[Formal, ...] = ()
    expect_fail: bool = False


@dataclass(frozen=True)
class Tolerance(SyntaxNode):
    """``tol value relation``: ``relative``, ``absolute``, or "" where neither is written."""

    value: Expr
    relation: str = ""


@dataclass(frozen=True)
class MeasureStatement(SyntaxNode):
    """``measure name(formals)(samples) = largest r in interval tol tolerance such that formula using strategy``.

    An ``abstracted by abstraction`` may follow. Without a ``radius`` it is that of an expression: ``largest expression
    over binders``, whose ``formula`` is ``exists binders: expression``, though an expression is no formula.
    """

    name: Name
    samples: SamplesNode | None
    extremum: str
    radius: Name | None
    interval: IntervalNode | None
    tolerance: Tolerance | None
    formula: Expr
    strategy: Ref | None
    abstraction: Ref | None
    formals: tuple[Formal, ...] = ()


@dataclass(frozen=True)
class ShareStatement(SyntaxNode):
    """``measure name = share of binder where condition tol tolerance such that formula using strategy``.

    ``formula`` is ``forall binder where condition: formula``. The binder has no names where none are written: in
    ``share of domain such that f(z) >= 0`` it is whatever name the formula applies networks to.
    """

    name: Name
    samples: SamplesNode | None
    tolerance: Tolerance | None
    formula: Quantified
    strategy: Ref | None
    abstraction: Ref | None
    formals: tuple[Formal, ...] = ()


@dataclass(frozen=True)
class DistanceStatement(SyntaxNode):
    """``measure name(formals)(samples) = way(model, norm, options) within interval in space``."""

    name: Name
    samples: SamplesNode | None
    distance: RegionNode
    formals: tuple[Formal, ...] = ()


@dataclass(frozen=True)
class ObjectiveStatement(SyntaxNode):
    """``objective name for property { options }``; a template is asked with arguments."""

    name: Name
    target: Ref | Call
    block: Block


@dataclass(frozen=True)
class Check(SyntaxNode):
    """``check names``: imported questions, whole imports, or templates with arguments, to be asked."""

    targets: tuple[Ref | Call, ...]


@dataclass(frozen=True)
class AssertStatement(SyntaxNode):
    """``assert condition``, or ``assert per class name: condition``; ``expect_fail`` after ``expected fail``."""

    condition: Expr
    per_class: Name | None = None
    expect_fail: bool = False


@dataclass(frozen=True)
class ReportStatement(SyntaxNode):
    """``report items``, or ``report per class name: items``."""

    items: tuple[Expr, ...]
    per_class: Name | None = None


@dataclass(frozen=True)
class For(SyntaxNode):
    """``for name in values { statements }``."""

    name: Name
    values: Expr
    body: tuple[Statement, ...]


Statement = (
    Import
    | ParamStatement
    | Resource
    | StrategyStatement
    | DomainStatement
    | Let
    | PropertyStatement
    | MeasureStatement
    | ShareStatement
    | DistanceStatement
    | ObjectiveStatement
    | Check
    | AssertStatement
    | ReportStatement
    | For
)
Question = PropertyStatement | MeasureStatement | ShareStatement | DistanceStatement


@dataclass(frozen=True)
class Module(SyntaxNode):
    """A whole text: the language's version, that of tfcert which it needs, and the statements."""

    version: int
    statements: tuple[Statement, ...]
    needs: Text | None = None
    version_span: Span = field(default=Span(), compare=False, repr=False)
