"""Properties and measures: from statements to templates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import fields
from fractions import Fraction
from typing import Any

from tfcert.language.check.abstractions import check_abstracted
from tfcert.language.check.classes import merge_classes
from tfcert.language.check.elaborate import Elaborator
from tfcert.language.check.regions import is_tiny, read_interval, read_length, read_region, report_tiny, share_of_range
from tfcert.language.check.resources import resolve_resource
from tfcert.language.check.samples import (
    NO_SAMPLES,
    AskedSamples,
    label_hints,
    read_asked_samples,
    refuse_two_normalisations,
)
from tfcert.language.check.scope import Definition, Scope
from tfcert.language.check.setting import Setting
from tfcert.language.check.values import Inputs, Meaning, Numeric
from tfcert.language.spec.cells import Abstraction
from tfcert.language.spec.declarations import DEFAULT_STRATEGY, ModelDeclaration, Strategy
from tfcert.language.spec.formula import (
    And,
    Atom,
    Formula,
    Not,
    Or,
    Output,
    Radius,
    SingleOutputError,
    Term,
    TruthConstant,
    negation,
    variable_term,
)
from tfcert.language.spec.lowering import InexactRowError, check_lowering, leaves
from tfcert.language.spec.named import output_indices, uses_label
from tfcert.language.spec.normal_form import MAX_PIECES, TooManyClausesError, normalise
from tfcert.language.spec.questions import BallSpec, BoxSpec, MeasureTemplate, PropertyTemplate, RegionSpec
from tfcert.language.text import syntax as s
from tfcert.language.text.diagnostics import AbortError
from tfcert.language.text.printer import print_statement

MAX_LEAVES = 30_000
"""Once so many atoms of formulas were looked at, those of further formulas are left to when the network is loaded."""

QuestionStatement = s.PropertyStatement | s.MeasureStatement


def check_question(definition: Definition) -> PropertyTemplate | MeasureTemplate | None:
    """The template of a property or a measure; None if there are problems, which are then reported."""
    scope, node = definition.scope, definition.node
    samples = read_asked_samples(scope, node.samples) if node.samples else NO_SAMPLES
    strategy = _strategy(scope, node.strategy)
    quantified = _quantified(scope, node)
    if quantified is None:
        return None
    local = dict(samples.local)
    variable = quantified.binders[0].names[0]
    scope.refuse_word(variable)
    scope.refuse_clash(variable.text, variable)
    if variable.text in local:
        scope.report("E202", f"`{variable.text}` is already the sample", variable, "choose another name")
    around = dict(samples.local)
    local[variable.text] = Inputs(variable.text, True)
    formula, model = _body(scope, quantified, local, _hints(node, samples))
    if isinstance(node, s.MeasureStatement):
        scope.refuse_word(node.radius)
        scope.refuse_clash(node.radius.text, node.radius)
        if node.radius.text in local:
            message = f"`{node.radius.text}` is already the sample or the variable"
            scope.report("E202", message, node.radius, "choose another name")
        around[node.radius.text] = Numeric(variable_term(Radius()))
    setting = Setting(samples.dataset, model, isinstance(node, s.MeasureStatement))
    refuse_two_normalisations(scope, node.name, setting)
    _clashes(scope, (*(node.samples.names if node.samples else ()), variable), model)
    centre = f"a ball is around the sample: write `ball({samples.sample or 'x'}, ...)`"
    region = _region(Elaborator(scope, around, hints={variable.text: centre}), quantified, setting, samples)
    abstraction, complete = _abstraction(scope, node.abstraction, region, setting)
    if samples.dataset is not None and isinstance(region, BoxSpec):
        message = (
            f"this region is the same for every sample of `{samples.dataset.name}`, and is asked about once for each"
        )
        place = quantified.binders[0].region
        scope.report("W013", message, place, "leave out the samples, and it is asked about once")
    if strategy is not None and isinstance(region, BallSpec):
        _norms(scope, node, strategy, region)
    complete &= samples.complete
    if formula is None or model is None or region is None or strategy is None or not complete:
        return None
    existential = quantified.quantifier == "exists"
    formula = negation(formula) if existential else formula
    _lowers(scope, quantified, formula, model)
    common: dict[str, Any] = {
        "name": definition.full_name,
        "model": model.name,
        "dataset": samples.dataset.name if samples.dataset else None,
        "sample": samples.sample,
        "label": samples.label,
        "where": samples.where,
        "choice": samples.choice,
        "region": region,
        "transform": setting.transform,
        "strategy": strategy,
        "formula": formula,
        "existential": existential,
        "width": setting.width(region.space),
        "abstraction": abstraction,
        "text": print_statement(node),
        "span": node.name.span,
    }
    if isinstance(node, s.PropertyStatement):
        return PropertyTemplate(**common)
    return _measure(scope, node, setting, region, common)


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
    """The one quantifier over one variable, or None with the reason reported."""
    formula = node.formula
    if not isinstance(formula, s.Quantified):
        scope.report("E206", "a formula begins with `forall ... in ...:` or `exists ... in ...:`", formula)
        return None
    if isinstance(node, s.MeasureStatement):
        _extremum(scope, node, formula)
    variables = [n.text for b in formula.binders for n in b.names]
    scalar = [b for b in formula.binders if isinstance(b.region.base, s.IntervalNode)]
    if scalar:
        scope.report("E907", "perturbing single numbers is not supported yet", scalar[0], "use `ball` or `box`")
    elif len(variables) > 1:
        scope.report("E906", "quantifying over several inputs is not supported yet", formula.binders[0])
    elif formula.where is not None:
        scope.report("E906", "conditions on the quantified input are not supported yet", formula.where)
    else:
        return formula
    _products(scope, formula, set(variables))
    return None


def _extremum(scope: Scope, node: s.MeasureStatement, formula: s.Quantified) -> None:
    """Report measures whose answer is an end of the interval, because larger balls hold what smaller ones do."""
    name = node.radius.text
    if (node.extremum, formula.quantifier) == ("largest", "exists"):
        message = f"the larger `{name}`, the more inputs there are: the largest is the interval's high end"
        scope.report("E228", message, node.radius, "write `smallest`, or `forall`")
    if (node.extremum, formula.quantifier) == ("smallest", "forall"):
        message = f"the smaller `{name}`, the fewer inputs there are: the smallest is the interval's low end"
        scope.report("E228", message, node.radius, "write `largest`, or `exists`")


def _products(scope: Scope, formula: s.Quantified, variables: set[str]) -> None:
    """Report products of quantified variables in a formula that cannot be understood further."""
    for node in _nodes(formula.body):
        if isinstance(node, s.Chain) and node.operators[0] in "*/":
            varying = [o for o in node.operands if any(isinstance(n, s.Ref) and n.name in variables for n in _nodes(o))]
            if len(varying) > 1:
                scope.report("E210", "this multiplies two quantified variables", node, "a factor must be a constant")


def _nodes(root: Any) -> Iterator[s.SyntaxNode]:
    """A node and everything in it, without recursion."""
    pending: list[Any] = [root]
    while pending:
        item = pending.pop()
        if isinstance(item, tuple):
            pending.extend(item)
        elif isinstance(item, s.SyntaxNode):
            yield item
            pending.extend(getattr(item, f.name) for f in fields(item) if f.name != "span")


# The formula


def _hints(node: QuestionStatement, samples: AskedSamples) -> dict[str, str]:
    """Advice about names that may be expected in the formula of a question."""
    hints = {} if samples.label is not None or node.samples is None else label_hints(node.samples)
    if isinstance(node, s.MeasureStatement):
        hints[node.radius.text] = "the measure's variable is the radius of its ball, not a part of the condition"
    return hints


def _body(
    scope: Scope, node: s.Quantified, local: Mapping[str, Meaning], hints: Mapping[str, str]
) -> tuple[Formula | None, ModelDeclaration | None]:
    """The formula that must hold, and the one model that it is about."""
    e = Elaborator(scope, local, hints=hints)
    formula, model = None, None
    with suppress(AbortError):
        formula = merge_classes(e.formula(node.body, "what follows `:`"))
    if len(e.models) > 1:
        _, place = list(e.models.values())[1]
        scope.report("E911", "formulas over several networks are not supported yet", place)
        return None, None
    if not e.models:
        if formula is not None:
            scope.report("E206", "this formula names no network's outputs", node.body, "apply a model to the input")
        return None, None
    with suppress(AbortError):
        model = resolve_resource(next(iter(e.models.values()))[0])
    return formula, model


def _lowers(scope: Scope, quantified: s.Quantified, formula: Formula, model: ModelDeclaration) -> None:
    """Report formulas that cannot become clauses, as far as that is known before the network is loaded."""
    node, session = quantified.body, scope.session
    num_outputs = len(model.output_names) or max(2, *(i + 1 for i in output_indices(formula)), 0)
    try:
        # With fewer outputs than the network has, the count is a lower bound; the rest is found when it is loaded.
        if session.leaves <= MAX_LEAVES:
            session.leaves += num_outputs
            normal = check_lowering(formula, min(num_outputs, MAX_PIECES), 0)
            session.leaves += sum(1 for _ in leaves(normal))
            if isinstance(normal, TruthConstant):
                _decided(scope, quantified, formula, model)
    except TooManyClausesError as error:
        scope.report("E214", str(error), node, "use fewer alternatives")
    except InexactRowError as error:
        scope.report("E227", str(error), node)
    except SingleOutputError as error:
        scope.report("E232", error.problem, node, error.fix)
    except (IndexError, ValueError) as error:
        scope.report("E224", str(error), node)
    if _demands_equality(formula) and quantified.quantifier == "forall":
        scope.report("W001", "an equality between outputs can be refuted but never proven", node, "use `<=` or `>=`")
    elif _demands_equality(formula):
        message = "that outputs differ somewhere can be verified but never refuted: an equality is never proven"
        scope.report("W001", message, node, "use `<` or `>`")


def _decided(scope: Scope, quantified: s.Quantified, formula: Formula, model: ModelDeclaration) -> None:
    """Report a formula that is true or false whatever the network and the label, as far as that is known here."""
    indices = output_indices(formula)
    # Where the number of outputs is not known, there may be one that the formula does not name.
    num_outputs = len(model.output_names) or max(2, *(i + 2 for i in indices), 0)
    if uses_label(formula) or num_outputs > MAX_PIECES:
        return
    normal = normalise(formula, num_outputs, None)
    if isinstance(normal, TruthConstant):
        holds = normal.value != (quantified.quantifier == "exists")
        says = "always true" if holds else "never true"
        message = f"this is {says}, whatever the network computes"
        scope.report("E233", message, quantified.body, "say something about the outputs that may fail")


def _demands_equality(formula: Formula) -> bool:
    """Tells whether proving the formula takes proving that outputs are equal."""
    pending = [(formula, True)]
    while pending:
        part, positive = pending.pop()
        match part:
            case Not(inner):
                pending.append((inner, not positive))
            case And((Atom(a, False), Atom(b, False))) if positive and _opposite(a, b):
                return True
            case Or((Atom(a, True), Atom(b, True))) if not positive and _opposite(a, b):
                return True
            case And(parts) | Or(parts):
                pending.extend((p, positive) for p in parts)
    return False


def _opposite(a: Term, b: Term) -> bool:
    """Tells whether the two are one combination of outputs and its negative."""
    return a == b.times(Fraction(-1)) and any(isinstance(v, Output) for v, _ in a.coefficients)


# The region


def _clashes(scope: Scope, names: tuple[s.Name, ...], model: ModelDeclaration | None) -> None:
    """Report names of samples and variables that are outputs too: where both could stand, one would hide the other."""
    for name in names:
        if model is not None and name.text in model.output_names:
            message = f"`{name.text}` is already an output of `{model.name}`"
            scope.report("E202", message, name, "choose another name")


def _region(e: Elaborator, node: s.Quantified, setting: Setting, samples: AskedSamples) -> RegionSpec | None:
    if samples.dataset is None and not samples.complete:
        return None
    with suppress(AbortError):
        return read_region(e, node.binders[0].region, setting)
    return None


def _norms(scope: Scope, node: QuestionStatement, strategy: Strategy, ball: BallSpec) -> None:
    for stage in strategy.stages:
        norms = stage.schema.norms
        if ball.norm not in norms:
            fix = f"it handles {', '.join(norms)}"
            place = node.strategy or node.name
            scope.report("E213", f"the stage `{stage.name}` cannot handle {ball.norm} balls", place, fix)


def _abstraction(
    scope: Scope, ref: s.Ref | None, region: RegionSpec | None, setting: Setting
) -> tuple[Abstraction | None, bool]:
    """The abstraction that the model stands behind, if any; and whether it could be understood."""
    if ref is None:
        return None, True
    with suppress(AbortError):
        found: Abstraction = resolve_resource(scope.find(ref, ("abstraction",)))
        check_abstracted(scope, ref, found, region, setting)
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
        if isinstance(region, BallSpec) and is_tiny(region.radius(high), setting, region.space):
            share = share_of_range(region.radius(high), setting, region.space)
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
