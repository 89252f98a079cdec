"""Nodes of statements, and of the values in their blocks."""

from __future__ import annotations

from dataclasses import dataclass, field

from tfcert.language.text.diagnostics import Span
from tfcert.language.text.syntax.expressions import (
    Argument,
    Call,
    Expr,
    IntervalNode,
    Name,
    Quantified,
    Ref,
    RegionBase,
    RegionNode,
    SyntaxNode,
    Text,
)

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
