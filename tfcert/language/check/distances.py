"""Measures of how far samples are from another class: ``clever(clf, l2)``, from statements to templates."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction

from tfcert.catalog import DISTANCES, DistanceInfo
from tfcert.language.check.asked import Mentions
from tfcert.language.check.balls import read_valid
from tfcert.language.check.elaborate import Elaborator
from tfcert.language.check.lengths import read_interval, read_length, read_space
from tfcert.language.check.reading import as_ref, named_arguments, read_option
from tfcert.language.check.resources import resolve_resource
from tfcert.language.check.samples import NO_SAMPLES, read_asked_samples, refuse_two_normalisations
from tfcert.language.check.scope import Definition, Scope, did_you_mean
from tfcert.language.check.setting import Setting
from tfcert.language.check.values import Norm, describe
from tfcert.language.spec.declarations import ModelDeclaration, Strategy, Value
from tfcert.language.spec.formula import ArgIs, Label, SingleOutputError, variable_term
from tfcert.language.spec.points import AtPoint
from tfcert.language.spec.questions import DistanceTemplate
from tfcert.language.spec.regions import BallSpec
from tfcert.language.text import syntax as s
from tfcert.language.text.diagnostics import AbortError
from tfcert.language.text.printer import print_statement


def check_distance(definition: Definition) -> DistanceTemplate | None:
    """The template of a measure of distances; None if there are problems, which are then reported."""
    scope, node = definition.scope, definition.node
    asked = Mentions()
    samples = read_asked_samples(scope, node.samples, asked) if node.samples else NO_SAMPLES
    with suppress(AbortError):
        call = node.distance.base
        info = _way(scope, call)
        if samples.dataset is None or samples.label is None:
            if not samples.complete:
                return None
            fix = "write `(x, y in data)` after the measure's name"
            message = f"`{call.function.name}` measures how far a sample is from another class than its label's"
            raise scope.problem("E205", message, node.name if node.samples is None else node.samples, fix)
        e = Elaborator(scope)
        network, norm = _model(scope, call), _norm(e, call, info)
        model: ModelDeclaration = resolve_resource(network)
        asked.apply(scope, network, (AtPoint(0),), call)
        settled = asked.settled()
        setting = Setting(samples.dataset, model)
        refuse_two_normalisations(scope, node.name, setting)
        space = read_space(e, node.distance, setting)
        region = BallSpec(norm, Fraction(0), Fraction(1), space=space, **read_valid(e, node.distance, setting, space))
        options = _options(e, call, info, (setting, space))
        if info.clips and "upper" in info.options and region.within is None and "upper" not in dict(options):
            message = "how far to look is not bounded"
            raise scope.problem("E208", message, node.distance, "write `within [low, high]`, or give `upper`")
        return DistanceTemplate(
            name=definition.full_name,
            model=model.name,
            dataset=samples.dataset.name,
            sample=samples.sample,
            label=samples.label,
            where=None if samples.where is None else settled.formula(samples.where),
            choice=samples.choice,
            region=region,
            transform=setting.transform,
            strategy=Strategy(definition.full_name, ()),
            formula=ArgIs("argmax", variable_term(Label())),
            width=setting.width(space),
            text=print_statement(node),
            span=node.name.span,
            way=info.word,
            options=options,
            applied=settled.applications,
        ) if samples.complete else None  # fmt: skip
    return None


def _way(scope: Scope, call: s.Call) -> DistanceInfo:
    ways = DISTANCES.words()
    info = ways.get(call.function.name)
    if info is None:
        listed = ", ".join(f"`{word}`" for word in ways)
        hint = did_you_mean(call.function.name, ways) or f"write `largest` or `smallest`, or one of {listed}"
        raise scope.problem("E201", f"there is no distance `{call.function.name}`", call.function, hint)
    return info


def _positional(scope: Scope, call: s.Call, place: int, what: str) -> s.Expr:
    given = [a.value for a in call.arguments if a.name is None]
    name = call.function.name
    if len(given) != 2 or any(isinstance(value, s.IntervalNode) for value in given):
        raise scope.problem("E205", f"`{name}` is of a model in a norm", call, f"write `{name}(model, norm)`, {what}")
    value = given[place]
    assert not isinstance(value, s.IntervalNode)
    return value


def _model(scope: Scope, call: s.Call) -> Definition:
    value = as_ref(_positional(scope, call, 0, "options after these"))
    if not isinstance(value, s.Ref):
        fix = "write its name alone: the samples are those of the measure"
        raise scope.problem("E206", f"`{call.function.name}` is of a model that has a name", value, fix)
    found = scope.find(value, ("model",))
    model: ModelDeclaration = resolve_resource(found)
    if len(model.output_names) == 1:
        error = SingleOutputError()
        raise scope.problem("E232", error.problem, value, error.fix)
    return found


def _norm(e: Elaborator, call: s.Call, info: DistanceInfo) -> str:
    node = _positional(e.scope, call, 1, "options after these")
    norm = e.value(node)
    if not isinstance(norm, Norm):
        message = f"the second argument of `{call.function.name}` is a norm; this is {describe(norm)}"
        raise e.scope.problem("E206", message, node, f"use {' or '.join(f'`{name}`' for name in info.norms)}")
    if norm.name not in info.norms:
        others = [w for w, o in DISTANCES.words().items() if norm.name in o.norms and o.promise == info.promise]
        message = f"`{call.function.name}` measures {' and '.join(info.norms)} distances, not {norm.name}"
        fix = f"{' or '.join(f'`{word}`' for word in others)} measures these" if others else ""
        raise e.scope.problem("E213", message, node, fix)
    return norm.name


def _options(
    e: Elaborator, call: s.Call, info: DistanceInfo, where: tuple[Setting, str]
) -> tuple[tuple[str, Value], ...]:
    """The named options, lengths in the measure's space; problems are reported and the option left out."""
    named = [argument for argument in call.arguments if argument.name is not None]
    found: dict[str, Value] = {}
    for name, node in named_arguments(e, named, info.options, call.function.name).items():
        with suppress(AbortError):
            if info.options[name].kind != "length":
                found[name] = read_option(e, node, info.options[name], f"`{name}`")
                continue
            length, _ = read_interval(e, node, node, *where, read_length)
            if length <= 0:
                raise e.scope.problem("E220", f"`{name}` must be positive", node)
            found[name] = length
    return tuple(found.items())
