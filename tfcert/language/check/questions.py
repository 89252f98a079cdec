"""Properties and measures: from statements to templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from tfcert.language.check.abstractions import check_abstracted
from tfcert.language.check.asked import Mentions, Settled
from tfcert.language.check.classes import merge_classes
from tfcert.language.check.elaborate import Elaborator
from tfcert.language.check.lengths import is_tiny, read_interval, read_length, report_tiny, share_of_range
from tfcert.language.check.provable import Unloaded, check_conditions, check_provable
from tfcert.language.check.quantified import (
    Binding,
    PointConditions,
    Surroundings,
    bindings,
    quantified_names,
    read_conditions,
    read_points,
    resolved,
    settled_conditions,
)
from tfcert.language.check.resources import resolve_resource
from tfcert.language.check.samples import NO_SAMPLES, AskedSamples, label_hints, read_asked_samples
from tfcert.language.check.scope import Definition, Scope
from tfcert.language.check.setting import Setting
from tfcert.language.check.values import Meaning, Numeric
from tfcert.language.spec.cells import Abstraction
from tfcert.language.spec.declarations import DEFAULT_STRATEGY, ModelDeclaration, Strategy
from tfcert.language.spec.formula import Formula, Not, Or, Radius, negation, variable_term
from tfcert.language.spec.named import applications, sample_features
from tfcert.language.spec.points import AtPoint
from tfcert.language.spec.questions import MeasureTemplate, Point, PropertyTemplate
from tfcert.language.spec.regions import RegionSpec, balls_of
from tfcert.language.text import syntax as s
from tfcert.language.text.diagnostics import AbortError
from tfcert.language.text.printer import print_statement

QuestionStatement = s.PropertyStatement | s.MeasureStatement


def check_question(definition: Definition) -> PropertyTemplate | MeasureTemplate | None:
    """The template of a property or a measure; None if there are problems, which are then reported."""
    scope, node, asked = definition.scope, definition.node, Mentions()
    samples = read_asked_samples(scope, node.samples, asked) if node.samples else NO_SAMPLES
    strategy = _strategy(scope, node.strategy)
    quantified = _quantified(scope, node)
    if quantified is None:
        return None
    bound = bindings(quantified)
    body = _body(scope, quantified, quantified_names(scope, bound, samples.local), _hints(node, samples), asked)
    around = dict(samples.local)
    if isinstance(node, s.MeasureStatement):
        _radius(scope, node, {*around, *(b.name.text for b in bound)})
        around[node.radius.text] = Numeric(variable_term(Radius()))
    with suppress(AbortError):
        models = resolved(asked)
        radius = node.radius.text if isinstance(node, s.MeasureStatement) else ""
        _clashes(scope, (*(node.samples.names if node.samples else ()), *(b.name for b in bound)), models)
        points = read_points(scope, node.name, bound, Surroundings(asked, models, samples, around, radius))
        if points is not None:
            _regions(scope, node, bound, points, strategy)
        abstraction, complete = _abstraction(scope, node.abstraction, points, models, samples)
        if body is None or points is None or strategy is None or not (complete and samples.complete):
            return None
        _sample_matters(scope, bound, points, samples, body)
        common = {
            "name": definition.full_name,
            "strategy": strategy,
            "abstraction": abstraction,
            "text": print_statement(node),
            "span": node.name.span,
            **_about(samples, body),
            **_asked(scope, quantified, body, points, models),
        }
        if isinstance(node, s.PropertyStatement):
            return PropertyTemplate(**common, expect_fail=node.expect_fail)
        setting = Setting(samples.dataset, models[common["model"]], True)
        return _measure(scope, node, setting, points[0].region, common)
    return None


def _about(samples: AskedSamples, body: Body) -> dict[str, Any]:
    """The parts of a template that say which samples are asked about."""
    return {
        "dataset": samples.dataset.name if samples.dataset else None,
        "sample": samples.sample,
        "label": samples.label,
        "where": None if samples.where is None else body.settled.formula(samples.where),
        "choice": samples.choice,
    }


def _asked(
    scope: Scope, node: s.Quantified, body: Body, points: Sequence[Point], models: Mapping[str, ModelDeclaration]
) -> dict[str, Any]:
    """The parts of a template that say what is asked of points; reports what cannot be decided of them."""
    existential = node.quantifier == "exists"
    formula = negation(body.formula) if existential else body.formula
    given, applied = body.condition.given, body.settled.applications
    whole = formula if given is None else Or((Not(given), formula))
    unloaded = Unloaded(formula, whole, applied, [models[a.model] for a in applied], points)
    check_provable(scope, node, unloaded)
    if given is not None and node.where is not None:
        check_conditions(scope, node.where, given, unloaded)
    first, *others = points
    return {
        "model": applied[0].model,
        "region": first.region,
        "transform": first.transform,
        "formula": whole,
        "existential": existential,
        "width": first.width,
        "variable": first.name,
        "names": first.names,
        "others": tuple(others),
        "applied": applied,
        "given": given,
        "agreements": body.condition.agreements,
    }


# Strategy


def _strategy(scope: Scope, ref: s.Ref | None) -> Strategy | None:
    if ref is None:
        return DEFAULT_STRATEGY
    with suppress(AbortError):
        found: Strategy = resolve_resource(scope.find(ref, ("strategy",)))
        return found
    return None


# The quantifier


def _quantified(scope: Scope, node: QuestionStatement) -> s.Quantified | None:
    """The one quantifier, or None with the reason reported."""
    formula = node.formula
    if not isinstance(formula, s.Quantified):
        scope.report("E206", "a formula begins with `forall ... in ...:` or `exists ... in ...:`", formula)
        return None
    if isinstance(node, s.MeasureStatement):
        _extremum(scope, node, formula)
    return formula


def _extremum(scope: Scope, node: s.MeasureStatement, formula: s.Quantified) -> None:
    """Report measures whose answer is an end of the interval, because larger balls hold what smaller ones do."""
    name = node.radius.text
    if (node.extremum, formula.quantifier) == ("largest", "exists"):
        message = f"the larger `{name}`, the more inputs there are: the largest is the interval's high end"
        scope.report("E228", message, node.radius, "write `smallest`, or `forall`")
    if (node.extremum, formula.quantifier) == ("smallest", "forall"):
        message = f"the smaller `{name}`, the fewer inputs there are: the smallest is the interval's low end"
        scope.report("E228", message, node.radius, "write `largest`, or `exists`")


# The formula


def _hints(node: QuestionStatement, samples: AskedSamples) -> dict[str, str]:
    """Advice about names that may be expected in the formula of a question."""
    hints = {} if samples.label is not None or node.samples is None else label_hints(node.samples)
    if isinstance(node, s.MeasureStatement):
        hints[node.radius.text] = "the measure's variable is the radius of its ball, not a part of the condition"
    return hints


@dataclass(frozen=True)
class Body:
    """What a question asks of its points: a formula, the conditions on them, and what both speak of."""

    formula: Formula
    condition: PointConditions
    settled: Settled


def _body(
    scope: Scope, node: s.Quantified, local: Mapping[str, Meaning], hints: Mapping[str, str], asked: Mentions
) -> Body | None:
    """The formula and the conditions; None where problems were reported."""
    e = Elaborator(scope, local, asked, hints)
    formula, read = None, None
    with suppress(AbortError):
        formula = merge_classes(e.formula(node.body, "what follows `:`"))
    with suppress(AbortError):
        read = read_conditions(e, node.where)
    if formula is None or read is None:
        return None
    with suppress(AbortError):
        settled = asked.settled()
        whole = settled.formula(formula)
        if all(settled.applications[n].fixed for n in applications(whole)):
            fix = "apply a model to the input"
            raise scope.problem("E206", "this formula names no network's outputs", node.body, fix)
        for number, name in enumerate(binding.name for binding in bindings(node)):
            alone = sum(binding.name.text == name.text for binding in bindings(node)) == 1
            if alone and not any(AtPoint(number) in a.arguments for a in settled.applications):
                raise scope.problem("E206", f"no network is applied to `{name.text}`", name, "leave it out")
        condition = settled_conditions(scope, read, settled)
        return Body(condition.of_shared(whole), condition, settled)
    return None


# The regions


def _radius(scope: Scope, node: s.MeasureStatement, taken: set[str]) -> None:
    """Report a name that a measure's radius cannot have."""
    scope.refuse_word(node.radius)
    scope.refuse_clash(node.radius.text, node.radius)
    if node.radius.text in taken:
        message = f"`{node.radius.text}` is already the sample or the variable"
        scope.report("E202", message, node.radius, "choose another name")


def _clashes(scope: Scope, names: tuple[s.Name, ...], models: Mapping[str, ModelDeclaration]) -> None:
    """Report names of samples and variables that are outputs too: where both could stand, one would hide the other."""
    for name in names:
        for model in models.values():
            if name.text in model.output_names:
                message = f"`{name.text}` is already an output of `{model.name}`"
                scope.report("E202", message, name, "choose another name")


def _regions(
    scope: Scope, node: QuestionStatement, bound: Sequence[Binding], points: Sequence[Point], strategy: Strategy | None
) -> None:
    """Report regions that a stage cannot take."""
    for point in points:
        for norm in dict.fromkeys(ball.norm for ball in balls_of(point.region)):
            if strategy is not None:
                _norms(scope, node, strategy, norm)


def _sample_matters(
    scope: Scope, bound: Sequence[Binding], points: Sequence[Point], samples: AskedSamples, body: Body
) -> None:
    """Warn of a question about samples that says the same of each."""
    fixed = any(body.settled.applications[n].fixed for n in applications(body.formula))
    shared = any(a.other is None for a in body.condition.agreements)
    named = [f for f in (body.formula, body.condition.given) if f is not None and sample_features(f)]
    boxes = not any(balls_of(point.region) for point in points)
    if samples.dataset is not None and boxes and not (fixed or shared or named):
        message = (
            f"this region is the same for every sample of `{samples.dataset.name}`, and is asked about once for each"
        )
        scope.report("W013", message, bound[0].region, "leave out the samples, and it is asked about once")


def _norms(scope: Scope, node: QuestionStatement, strategy: Strategy, norm: str) -> None:
    for stage in strategy.stages:
        norms = stage.schema.norms
        if norm not in norms:
            fix = f"it handles {', '.join(norms)}"
            place = node.strategy or node.name
            scope.report("E213", f"the stage `{stage.name}` cannot handle {norm} balls", place, fix)


def _abstraction(
    scope: Scope,
    ref: s.Ref | None,
    points: Sequence[Point] | None,
    models: Mapping[str, ModelDeclaration],
    samples: AskedSamples,
) -> tuple[Abstraction | None, bool]:
    """The abstraction that the model stands behind, if any; and whether it could be understood."""
    if ref is None:
        return None, True
    with suppress(AbortError):
        found: Abstraction = resolve_resource(scope.find(ref, ("abstraction",)))
        if len(models) > 1:
            message = f"`abstracted by` is about one network, and these are {' and '.join(f'`{m}`' for m in models)}"
            raise scope.problem("E206", message, ref, "ask about each by itself, or without `abstracted by`")
        for model in models.values():
            for point in points or ():
                check_abstracted(scope, ref, found, point.region, Setting(samples.dataset, model))
        return found, True
    return None, False


# Measures


def _measure(
    scope: Scope, node: s.MeasureStatement, setting: Setting, region: RegionSpec, common: dict[str, Any]
) -> MeasureTemplate | None:
    e = Elaborator(scope)
    with suppress(AbortError):
        low, high = read_interval(e, node.interval.low, node.interval.high, setting, region.space, read_length)
        if low < 0 or low == high:
            raise scope.problem("E209", "a measure needs an interval `[a, b]` with 0 <= a < b", node.interval)
        tolerance, relative = Fraction(1, 10_000), True
        if node.tolerance is not None:
            tolerance, relative = _tolerance(e, node.tolerance, setting, region.space)
        even = next((ball for ball in balls_of(region) if ball.is_even), None)
        if even is not None and is_tiny(even.radius(high), setting, region.space):
            share = share_of_range(even.radius(high), setting, region.space)
            report_tiny(e, node.interval, share, "the largest radius of this interval")
        return MeasureTemplate(**common, lower=low, upper=high, tolerance=tolerance, relative=relative)
    return None


def _tolerance(e: Elaborator, node: s.Expr, setting: Setting, space: str) -> tuple[Fraction, bool]:
    """The tolerance, and whether it is relative: a percentage is one of the answer, anything else a distance."""
    relative = e.numeric(node, "a tolerance").unit == "%"
    if relative:
        tolerance = e.number(node, "a tolerance")
    else:
        # An interval from the tolerance to itself: the same units as the ends of the measure's interval.
        tolerance, _ = read_interval(e, node, node, setting, space, read_length)
    if tolerance <= 0:
        raise e.scope.problem("E220", "a tolerance must be positive", node)
    return tolerance, relative
