"""The quantified points of a question: their regions, the conditions on them, and the numbers that they share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import Any

from tfcert.language.check.asked import Mentions, Settled
from tfcert.language.check.classes import merge_classes
from tfcert.language.check.elaborate import Elaborator
from tfcert.language.check.regions import read_region
from tfcert.language.check.resources import resolve_resource
from tfcert.language.check.samples import AskedSamples, refuse_two_normalisations
from tfcert.language.check.scope import Scope
from tfcert.language.check.setting import Setting
from tfcert.language.check.values import Agreed, Inputs, Meaning
from tfcert.language.spec.declarations import ModelDeclaration
from tfcert.language.spec.formula import And, Atom, Feature, Formula, SampleFeature, Term, Variable
from tfcert.language.spec.named import applications, rewritten
from tfcert.language.spec.pieces import is_single
from tfcert.language.spec.points import Agreement, AtAnswer, AtPoint
from tfcert.language.spec.questions import Point
from tfcert.language.spec.regions import (
    BothSpec,
    RegionSpec,
    balls_of,
    neighbour_of,
    parts_of_union,
)
from tfcert.language.text import syntax as s
from tfcert.language.text.diagnostics import AbortError


@dataclass(frozen=True)
class Binding:
    """A quantified variable as it is written, with its region."""

    name: s.Name
    region: s.RegionNode


def bindings(node: s.Quantified) -> list[Binding]:
    """The variables of a quantifier, in order."""
    return [Binding(name, binder.region) for binder in node.binders for name in binder.names]


def quantified_names(scope: Scope, bound: Sequence[Binding], samples: Mapping[str, Meaning]) -> dict[str, Meaning]:
    """What the names of the variables and of the sample stand for; names that clash are reported."""
    local = dict(samples)
    for number, binding in enumerate(bound):
        name = binding.name
        scope.refuse_word(name)
        scope.refuse_clash(name.text, name)
        if name.text in local:
            what = "the sample" if name.text in samples else "a variable"
            scope.report("E202", f"`{name.text}` is already {what}", name, "choose another name")
        local[name.text] = Inputs(name.text, number)
    return local


# Regions


@dataclass(frozen=True)
class Surroundings:
    """What the regions of a question's points depend on.

    Attributes:
        around: what may stand in a region: the sample, its label, a measure's radius.
        radius: the variable of a measure, or "".
    """

    asked: Mentions
    models: Mapping[str, ModelDeclaration]
    samples: AskedSamples
    around: Mapping[str, Meaning]
    radius: str = ""


def read_points(
    scope: Scope, question: s.Name, bound: Sequence[Binding], where: Surroundings
) -> tuple[Point, ...] | None:
    """The points with their regions; None where problems were reported."""
    if where.samples.dataset is None and not where.samples.complete:
        return None
    points: list[Point | None] = []
    _one_normalisation(scope, question, where)
    for number, binding in enumerate(bound):
        with suppress(AbortError):
            points.append(_point(scope, number, binding, (where, bound, points)))
            continue
        points.append(None)
    found = tuple(point for point in points if point is not None)
    if len(found) < len(points):
        return None
    return found if _one_radius(scope, bound, found) else None


def _point(
    scope: Scope,
    number: int,
    binding: Binding,
    around: tuple[Surroundings, Sequence[Binding], Sequence[Point | None]],
) -> Point:
    where, bound, before = around
    setting = _setting(number, binding, where)
    centre = f"a ball is around the sample: write `ball({where.samples.sample or 'x'}, ...)`"
    hints = {later.name.text: centre for later in bound[number:]}
    earlier = {b.name.text: Inputs(b.name.text, i) for i, b in enumerate(bound[:number])}
    e = Elaborator(scope, {**earlier, **where.around}, hints=hints)
    region = read_region(e, binding.region, setting, binding.name.text)
    _require_tied(scope, binding, region, before)
    names = where.asked.names(number)
    return Point(binding.name.text, region, setting.transform, names, setting.width(region.space))


def _require_tied(scope: Scope, binding: Binding, region: RegionSpec, before: Sequence[Point | None]) -> None:
    """Requires of a ball around an earlier point that it stands alone or within boxes, and that point in one set."""
    parts = parts_of_union(region)
    tied = [part for part in parts if neighbour_of(part) is not None]
    if not tied:
        return
    if len(parts) > 1 or (isinstance(region, BothSpec) and (len(region.balls) > 1 or not region.is_real)):
        message = "a ball around a variable stands alone, or within boxes of intervals"
        raise scope.problem("E252", message, binding.region, "ask about the parts one by one")
    ball = neighbour_of(region)
    assert ball is not None and ball.around is not None
    other = before[ball.around]
    if other is not None and grows(other):
        message = f"`{other.name}`, which this ball is around, lies in a ball that grows with the measure"
        raise scope.problem("E252", message, binding.region, "tie the two points by conditions after `where`")
    if other is not None and not is_single(other.region):
        message = f"`{other.name}`, which this ball is around, lies in a region of several pieces"
        raise scope.problem("E252", message, binding.region, "tie the two points by conditions after `where`")


def _setting(number: int, binding: Binding, where: Surroundings) -> Setting:
    """Data set and model that a point's region depends on; a network with several inputs says nothing of its one."""
    applied = [met for met in where.asked.applied.values() if AtPoint(number) in met.arguments]
    named = [met for met in applied if met.single and where.models[met.model.full_name].input_names] or applied
    model = where.models[named[0].model.full_name] if named else None
    if model is not None and named[0].single is None:
        model = replace(model, input_names=())
    varies = bool(where.radius) and (number == 0 or _names(binding.region, where.radius))
    return Setting(where.samples.dataset, model, varies)


def _one_normalisation(scope: Scope, question: s.Name, where: Surroundings) -> None:
    """Reports networks that take the same points normalised in different ways, and twofold normalisation."""
    first: tuple[str, Setting] | None = None
    for met in where.asked.applied.values():
        model = where.models[met.model.full_name]
        if any(isinstance(a, AtAnswer) for a in met.arguments):
            if model.mean or model.std:
                message = f"`{model.name}` normalises, and takes here what another network answers"
                scope.report("E226", message, met.node, "leave `normalize` out of the model")
            continue
        setting = Setting(where.samples.dataset, model)
        refuse_two_normalisations(scope, question, setting)
        first = first or (model.name, setting)
        if first[1].transform != setting.transform:
            message = f"`{first[0]}` and `{model.name}` normalise their inputs in different ways"
            scope.report("E226", message, met.node, "give both the same `normalize`, or write it to the data set")


def _one_radius(scope: Scope, bound: Sequence[Binding], points: Sequence[Point]) -> bool:
    """Tells whether the balls of a measure have their radius in one space; reports where not."""
    spaces = {p.region.space: b for p, b in zip(points, bound, strict=True) if grows(p)}
    if len(spaces) < 2:
        return True
    place = list(spaces.values())[1].region
    scope.report("E206", f"the radius is in {' and in '.join(spaces)} space", place, "write these balls in one space")
    return False


def grows(point: Point) -> bool:
    """Tells whether a measure's variable is in the radius of a ball of a point."""
    return any(ball.slope > 0 for ball in balls_of(point.region))


def _names(root: Any, name: str) -> bool:
    """Tells whether a name stands anywhere in a piece of syntax."""
    return any(isinstance(node, s.Ref) and node.name == name for node in nodes(root))


def nodes(root: Any) -> Iterator[s.SyntaxNode]:
    """A node and everything in it, without recursion."""
    pending: list[Any] = [root]
    while pending:
        item = pending.pop()
        if isinstance(item, tuple):
            pending.extend(item)
        elif isinstance(item, s.SyntaxNode):
            yield item
            pending.extend(getattr(item, f.name) for f in fields(item) if f.name != "span")


# ReadConditions


@dataclass(frozen=True)
class ReadConditions:
    """What follows ``where``, as far as it is read: formulas, and agreements."""

    formulas: tuple[Formula, ...] = ()
    agreed: tuple[Agreed, ...] = ()


def read_conditions(e: Elaborator, node: s.Expr | None) -> ReadConditions:
    """The conditions on quantified points, joined by ``and``."""
    found: list[Formula] = []
    agreed: list[Agreed] = []
    for part in _conjuncts(node):
        value = e.value(part)
        if isinstance(value, Agreed):
            agreed.append(value)
        else:
            found.append(merge_classes(e.formula(part, "what follows `where`")))
    return ReadConditions(tuple(found), tuple(agreed))


def _conjuncts(node: s.Expr | None) -> Iterator[s.Expr]:
    pending = [] if node is None else [node]
    while pending:
        part = pending.pop()
        if isinstance(part, s.Chain) and part.operators[0] == "and":
            pending.extend(reversed(part.operands))
        else:
            yield part


@dataclass(frozen=True)
class PointConditions:
    """The conditions on the points of a question: rows, and numbers that are shared instead of compared.

    Attributes:
        premise: those on what networks answer to the points.
    """

    given: Formula | None
    agreements: tuple[Agreement, ...]
    premise: Formula | None = None

    def of_shared(self, formula: Formula) -> Formula:
        """The formula with each shared number called by the first point that has it, or by the sample."""

        def first(variable: Variable) -> Variable:
            while isinstance(variable, Feature):
                other = next((a for a in self.agreements if _owner(a, variable) is not None), None)
                if other is None:
                    return variable
                owner = _owner(other, variable)
                variable = SampleFeature(variable.index) if owner == -1 else Feature(variable.index, owner or 0)
            return variable

        return rewritten(formula, first, lambda number: number) if self.agreements else formula


def _owner(agreement: Agreement, feature: Feature) -> int | None:
    """The point that a number is called by, of two that share it; -1 for the sample. None if there is no other."""
    if (feature.index in agreement.features) == agreement.others:
        return None
    if agreement.other is None:
        return -1 if feature.of == agreement.one else None
    return agreement.one if feature.of == agreement.other else None


def settled_conditions(read: ReadConditions, settled: Settled) -> PointConditions:
    """The conditions with their numbers: on inputs, and those on what networks answer to them."""
    agreements: list[Agreement] = []
    for agreed in read.agreed:
        features = tuple(sorted({settled.places[place] for place in agreed.excepted}))
        agreements.append(_agreement(agreed.one.point, agreed.other.point, features, True))
    rows: list[Formula] = []
    answered: list[Formula] = []
    for formula in read.formulas:
        whole = settled.formula(formula)
        shared = _shared(whole)
        if any(not settled.applications[n].fixed for n in applications(whole)):
            answered.append(whole)
        elif shared is not None:
            agreements.append(shared)
        else:
            rows.append(whole)
    condition = PointConditions(None, tuple(dict.fromkeys(agreements)))
    given, premise = (condition.of_shared(_all(parts)) if parts else None for parts in (rows, answered))
    return replace(condition, given=given, premise=premise)


def _all(parts: Sequence[Formula]) -> Formula:
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def _agreement(one: int | None, other: int | None, features: tuple[int, ...], others: bool) -> Agreement:
    first, second = sorted((one, other), key=lambda p: (p is None, p))
    assert first is not None
    return Agreement(first, second, features, others)


def _shared(formula: Formula) -> Agreement | None:
    """The agreement that ``b[age] == a[age]`` is, or None."""
    match formula:
        case And((Atom(Term(((Feature() | SampleFeature() as one, a), (other, b)), constant), False), second)):
            equal = constant == 0 and a == -b and second == Atom(Term(((one, -a), (other, -b))), False)
            if not equal or not isinstance(other, Feature | SampleFeature) or one.index != other.index:
                return None
            first, last = (v.of if isinstance(v, Feature) else None for v in (one, other))
            return None if first == last else _agreement(first, last, (one.index,), False)
    return None


def resolved(asked: Mentions) -> dict[str, ModelDeclaration]:
    """The declarations of the models that a question applies, by name; leaves where one cannot be used."""
    return {met.model.full_name: resolve_resource(met.model) for met in asked.applied.values()}
