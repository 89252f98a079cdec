"""Properties and measures: from statements to templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tfcert.language.check.abstractions import check_abstracted
from tfcert.language.check.asked import Mentions, Settled
from tfcert.language.check.classes import merge_classes
from tfcert.language.check.elaborate import Elaborator
from tfcert.language.check.measures import (
    VARIABLE,
    asked_formula,
    check_variable,
    local_variable,
    mentions,
    named,
    read_measure,
    read_share,
    variable_of,
)
from tfcert.language.check.provable import Unloaded, check_conditions, check_provable, warn_of_equality
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
from tfcert.language.check.values import Meaning
from tfcert.language.spec.cells import Abstraction
from tfcert.language.spec.declarations import DEFAULT_STRATEGY, ModelDeclaration, Strategy
from tfcert.language.spec.formula import Formula, Not, Or, negation
from tfcert.language.spec.named import applications, sample_features
from tfcert.language.spec.points import AtAnswer, AtPoint, AtSample
from tfcert.language.spec.questions import AnyTemplate, Point, PropertyTemplate
from tfcert.language.spec.regions import balls_of
from tfcert.language.text import syntax as s
from tfcert.language.text.diagnostics import AbortError
from tfcert.language.text.printer import print_statement

QuestionStatement = s.PropertyStatement | s.MeasureStatement | s.ShareStatement


def check_question(definition: Definition) -> AnyTemplate | None:
    """The template of a property or a measure; None if there are problems, which are then reported."""
    with suppress(AbortError):
        return _question(definition)
    return None


def _question(definition: Definition) -> AnyTemplate | None:
    scope, node, asked = definition.scope, definition.node, Mentions()
    written, node = node, named(node, scope) if isinstance(node, s.ShareStatement) else node
    samples = read_asked_samples(scope, node.samples, asked) if node.samples else NO_SAMPLES
    strategy = _strategy(scope, node.strategy)
    quantified = _quantified(scope, node)
    if quantified is None:
        return None
    bound = bindings(quantified)
    local = quantified_names(scope, bound, samples.local)
    check_variable(scope, node, local)
    body = _body(scope, node, local | local_variable(node), _hints(node, samples), asked)
    around = dict(samples.local) | local_variable(node)
    with suppress(AbortError):
        models = resolved(asked)
        # A variable that stands in the formula may stand in no region, and otherwise must in the first.
        radius = "" if mentions(quantified.body, variable_of(node)) else variable_of(node)
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
            "text": print_statement(written),
            "span": node.name.span,
            **_about(samples, body),
            **_asked(scope, quantified, body, points, models),
        }
        if isinstance(node, s.PropertyStatement):
            return PropertyTemplate(**common, expect_fail=node.expect_fail)
        if isinstance(node, s.ShareStatement):
            return read_share(scope, node, points, common)
        setting = Setting(samples.dataset, models[common["model"]], True)
        return read_measure(scope, node, setting, points, (body.formula, common))
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
    given, premise, applied = body.condition.given, body.condition.premise, body.settled.applications
    claim = formula if premise is None else Or((Not(premise), formula))
    whole = claim if given is None else Or((Not(given), claim))
    unloaded = Unloaded(claim, whole, applied, [models[a.model] for a in applied], points)
    check_provable(scope, node, unloaded)
    warn_of_equality(scope, node, formula)
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
        "premise": premise,
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
    return formula


# The formula


def _hints(node: QuestionStatement, samples: AskedSamples) -> dict[str, str]:
    """Advice about names that may be expected in the formula of a question."""
    return {} if samples.label is not None or node.samples is None else label_hints(node.samples)


@dataclass(frozen=True)
class Body:
    """What a question asks of its points: a formula, the conditions on them, and what both speak of."""

    formula: Formula
    condition: PointConditions
    settled: Settled


def _body(
    scope: Scope, question: QuestionStatement, local: Mapping[str, Meaning], hints: Mapping[str, str], asked: Mentions
) -> Body | None:
    """The formula and the conditions; None where problems were reported."""
    node = question.formula
    assert isinstance(node, s.Quantified)
    e = Elaborator(scope, local, asked, hints)
    formula, read = None, None
    with suppress(AbortError):
        formula = merge_classes(asked_formula(e, question, node.body))
    with suppress(AbortError):
        without = {name: meaning for name, meaning in local.items() if meaning is not VARIABLE}
        told = {name: "a measure's variable stands in the formula or in a radius" for name in local_variable(question)}
        read = read_conditions(Elaborator(scope, without, asked, {**hints, **told}), node.where)
    if formula is None or read is None:
        return None
    with suppress(AbortError):
        settled = asked.settled()
        whole = settled.formula(formula)
        condition = settled_conditions(read, settled)
        asked_of = [*applications(whole), *applications(condition.premise or whole)]
        if all(settled.applications[n].fixed for n in asked_of):
            fix = "apply a model to the input"
            raise scope.problem("E206", "this formula names no network's outputs", node.body, fix)
        for number, name in enumerate(binding.name for binding in bindings(node)):
            alone = sum(binding.name.text == name.text for binding in bindings(node)) == 1
            if alone and not any(AtPoint(number) in a.arguments for a in settled.applications):
                raise scope.problem("E206", f"no network is applied to `{name.text}`", name, "leave it out")
        return Body(condition.of_shared(whole), condition, settled)
    return None


# The regions


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
    claims = [f for f in (body.formula, body.condition.premise, body.condition.given) if f is not None]
    asked, todo = set[int](), [number for formula in claims for number in applications(formula)]
    while todo:
        asked.add(number := todo.pop())
        todo += [a.number for a in body.settled.applications[number].arguments if isinstance(a, AtAnswer)]
    fixed = any(AtSample() in body.settled.applications[number].arguments for number in asked)
    shared = any(a.other is None for a in body.condition.agreements)
    named = any(sample_features(formula) for formula in claims)
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
