"""Explanations of a specification: what it asks, of what, in which stages and at what cost; from its text alone."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from tfcert.catalog import METHODS, RELAXATIONS, ROUNDINGS, SOURCES
from tfcert.driver.abstracted import best_figure, classifier
from tfcert.driver.region_text import region_text, share_text, valid_text
from tfcert.language import (
    AnyTemplate,
    BallSpec,
    CosineRate,
    Dataset,
    DistanceTemplate,
    MeasureTemplate,
    Named,
    ObjectiveTemplate,
    PropertyTemplate,
    RampSpec,
    Rate,
    Scheduled,
    ShareTemplate,
    Spec,
    StageKind,
    StageSpec,
    Strategy,
    ValueTemplate,
)
from tfcert.language.spec.choice import at_most
from tfcert.language.spec.declarations import ModelDeclaration
from tfcert.language.spec.formula import And
from tfcert.language.spec.points import AppliedTo, AtAnswer, AtPoint, AtSample
from tfcert.language.spec.regions import balls_of, neighbour_of
from tfcert.options import BoundOptions, options_of
from tfcert.showing import counted

_ROLES = {
    StageKind.ATTACK: "finds witnesses",
    StageKind.BOUND: "proves",
    StageKind.SOLVER: "finds witnesses and proves",
}
SEARCH_EVALUATIONS = 15
"""About so many bounds a sample does the search of a measure take."""
ROUNDS, DECISIONS = 30, 40
"""So many bounds of a sample at most, and decisions of a solver, does the search of a value of a formula take."""
_STEPS = {
    "ibp": "about two and a half steps of plain training",
    "constrained_ibp": "about two and a half steps of plain training",
    "crown_ibp": "about two and a half steps of plain training, and a backward pass of bounds for the outputs",
    "dual_lp": "about two and a half steps of plain training, and a backward pass of bounds for every neuron",
    "mtl_ibp": "about two and a half steps of plain training, and an attack",
    "loss_landscape_matters": "about two and a half steps of plain training, and three backward passes of bounds",
    "adv_ibp": "about three and a half steps of plain training, and an attack",
}
_STARTS = {
    "keep": "from the weights that it has",
    "fresh": "from weights drawn afresh by its layers' initialisers",
    "ibp": "from weights drawn afresh as suits interval bounds",
}


def explain(spec: Spec) -> str:
    """The queries, stages and costs of every property and measure, and what objectives would train, as text."""
    told = explanation(spec)
    lines = [f"specification {told['specification']} (sha256 {told['sha256'][:12]})"]
    lines += [f"  param {p.name} = {p.shown}{' (set by you)' if p.overridden else ''}" for p in spec.params.values()]
    for about in (*told["questions"].values(), *told["objectives"].values()):
        lines += ["", *about]
    if spec.assertions:
        lines += ["", *(f"assert {text}" for text in told["assertions"])]
    return "\n".join(lines)


def explanation(spec: Spec) -> dict[str, Any]:
    """The same by name: lines of text about each question and objective, values of parameters, and assertions."""
    templates: list[AnyTemplate] = [*spec.properties.values(), *spec.measures.values()]
    return {
        "specification": str(spec.filename),
        "sha256": spec.source_hash,
        "parameters": {p.name: p.shown for p in spec.params.values()},
        "questions": {template.name: list(_template(template, spec)) for template in templates},
        "objectives": {name: list(_objective(objective, spec)) for name, objective in spec.objectives.items()},
        "assertions": [a.text for a in spec.assertions],
    }


def contents(spec: Spec) -> list[str]:
    """How much there is in a specification without mistakes, and which questions are about an abstraction."""
    counts = [
        counted(len(spec.properties), "property", "properties"),
        counted(len(spec.measures), "measure"),
        counted(len(spec.assertions), "assertion"),
        *([counted(len(spec.objectives), "objective")] if spec.objectives else []),
    ]
    templates = [t for t in [*spec.properties.values(), *spec.measures.values()] if t.abstraction is not None]
    about = [f"{t.name} is about {classifier(t.abstraction)}" for t in templates if t.abstraction is not None]
    return [f"no mistakes found in {', '.join(counts)}", *about]


def plan_text(template: AnyTemplate) -> str:
    """The way that a question is decided: a strategy's stages, or the call that measures distances."""
    if not isinstance(template, DistanceTemplate):
        return strategy_text(template.strategy)
    given = ", ".join(f"{name}={value}" for name, value in template.options)
    return f"{template.way}({template.model}, {template.region.norm}{', ' + given if given else ''})"


def _distance(template: DistanceTemplate, spec: Spec) -> list[str]:
    """What a measure of distances asks, what that promises, and what it costs."""
    queries, most = _queries(template, spec)
    info, options = template.info, template.settled()
    valid = valid_text(template.region) if info.clips else "over all inputs, valid or not"
    limit = options.get("time_limit")
    kept = f"at most {limit:g} s a sample" + (f" ({limit * most:g} s)" if most else "") if limit else "no limit"
    return [
        f"measure {template.name}",
        f"  queries: {queries} of model {template.model} ({_source(template, spec)})",
        f"  asked: {template.region.norm} distance to another class in {template.region.space} space, {valid}",
        f"  by: {plan_text(template)}, {info.title}: {info.promise}",
        f"  cost: {info.cost.format(**options)}",
        f"  budget: {kept}",
    ]


def _template(template: AnyTemplate, spec: Spec) -> list[str]:
    if isinstance(template, DistanceTemplate):
        return _distance(template, spec)
    kind = "property" if isinstance(template, PropertyTemplate) else "measure"
    queries, most = _queries(template, spec)
    lines = [
        f"{kind} {template.name}",
        *_queried(template, spec, queries),
        *([] if template.abstraction is None else [f"  about: {classifier(template.abstraction)}"]),
        *_points(template),
        f"  asked: {_asked(template)}",
    ]
    stages = list(enumerate(template.strategy.stages, start=1))
    if isinstance(template, ShareTemplate):
        lines.append(f"  strategy {template.strategy.name}, of which the bounding stages decide pieces of the region:")
        lines += [f"    {i}. {_dividing(stage)}" for i, stage in stages]
        tolerance = f"{template.tolerance}{' of what is proven' if template.relative else ''}"
        lines.append(f"  search: pieces are halved until at most {tolerance} of the volume is open")
    elif isinstance(template, MeasureTemplate | ValueTemplate):
        lines.append(f"  strategy {template.strategy.name}, of which a search takes one stage of each kind:")
        lines += [f"    {i}. {_searching(stage, i, template.strategy)}" for i, stage in stages]
        lines.append(f"  search: {_search(template)}")
    else:
        lines.append(f"  strategy {template.strategy.name}, survivors only to the next stage:")
        lines += [f"    {i}. {_stage(stage)}" for i, stage in stages]
    lines += [*_rounding(template.strategy), *_certificates(template)]
    return [*lines, f"  budget: {_budget(template.strategy, most)}"]


def uncertifiable(template: AnyTemplate) -> str:
    """The reason why proofs of a question have no certificates, whatever its model, in a sentence; "" if they may."""
    if not isinstance(template, PropertyTemplate | MeasureTemplate | ValueTemplate):
        return "shares of volume and distances have none"
    if isinstance(template, PropertyTemplate) and template.existential:
        return "a question about some input is answered by a witness"
    if not template.is_single:
        return "questions about several points or networks have none"
    if template.abstraction is not None:
        return "the checker does not know abstractions"
    return ""


def _certificates(template: AnyTemplate) -> list[str]:
    """Which proofs `--certificates` writes; nothing where no stage proves."""
    if all(stage.attacks for stage in template.strategy.stages):
        return []
    refusal = uncertifiable(template)
    if refusal:
        return [f"  certificates: none; {refusal}"]
    return ["  certificates: of proofs that the checker can repeat, of layers that it knows (--certificates)"]


def _rounding(strategy: Strategy) -> list[str]:
    """What proofs are about; nothing where no stage proves."""
    if all(stage.attacks for stage in strategy.stages):
        return []
    chosen = ROUNDINGS[options_of(strategy.rounding).rounding]
    return [f"  rounding: {chosen.name}; proofs are about {chosen.about} ({chosen.guarantee}, or less)"]


def _queried(template: AnyTemplate, spec: Spec, queries: str) -> list[str]:
    """The number of questions, and of which networks; of several with what they are applied to."""
    if template.is_single and len(template.applications) == 1:
        return [f"  queries: {queries} of model {template.model} ({_source(template, spec)})"]
    names = dict.fromkeys(application.model for application in template.applications)
    models = [f"{name} ({_model_source(spec.models[name])})" for name in names]
    live = [n for n, application in enumerate(template.applications) if not application.fixed]
    fixed = [_applied(template, n) for n, application in enumerate(template.applications) if application.fixed]
    lines = [f"  queries: {queries} of {', '.join(models)}"]
    if len(live) > 1 or len(template.points) > 1:
        each = ", ".join(_applied(template, n) for n in live)
        lines.append(f"  network: {each}, as one of one input vector; a bound costs what it costs of each together")
    if fixed:
        lines.append(f"  constants of each sample: {', '.join(fixed)}")
    return lines


def _applied(template: AnyTemplate, number: int) -> str:
    """An application as it is written."""
    application = template.applications[number]
    return f"{application.model}({', '.join(_argument(template, a) for a in application.arguments)})"


def _argument(template: AnyTemplate, argument: AppliedTo) -> str:
    match argument:
        case AtPoint(number):
            return template.points[number].name
        case AtSample():
            return template.sample or "the sample"
        case AtAnswer(number):
            return _applied(template, number)


def _points(template: AnyTemplate) -> list[str]:
    """The region of each point, and what is said of the points together."""
    points = template.points
    lines = []
    for point in points:
        whose = "" if len(points) == 1 else f" of {point.name}"
        tied = neighbour_of(point.region)
        around = "" if tied is None or tied.around is None else f" around {points[tied.around].name}"
        lines.append(f"  region{whose}: {region_text(point.region, point.transform, point.width)}{around}")
    if template.given is not None:
        each = template.alternatives
        parts = each[0].parts if isinstance(each[0], And) else each[:1]
        told = counted(len(parts), "condition") if len(each) == 1 else f"{len(each)} alternative conditions"
        apart = "" if len(each) == 1 else ", one piece of the question each"
        lines.append(f"  where: {told} on the inputs{apart}; proofs use them, witnesses keep them")
    if template.premise is not None:
        shown = "" if template.existential else "; a proof counts once the same stages find an input that meets it"
        lines.append(f"  where: a premise about what networks answer{shown}")
    for agreement in template.agreements:
        other = template.sample or "the sample" if agreement.other is None else points[agreement.other].name
        which = "all numbers but" if agreement.others else "of their numbers"
        names = points[agreement.one].names
        told = ", ".join(names[i] if i < len(names) else str(i) for i in agreement.features)
        which = f"{which} {told}" if told else "all numbers"
        lines.append(f"  shared: {points[agreement.one].name} and {other} agree in {which}: one number for both")
    if template.features:
        lines.append(f"  rows: over the outputs and {counted(len(template.features), 'input')} beside them")
    return lines


def _asked(template: AnyTemplate) -> str:
    """The outcome that settles the question: proofs and witnesses change places where it is about some input."""
    if isinstance(template, ShareTemplate):
        return "the share of the region's volume with the formula: of inputs that are uniformly distributed in it"
    if isinstance(template, ValueTemplate):
        how = "some input" if template.existential else "all inputs"
        ends = ("above", "below") if template.proof_above else ("below", "above")
        return (
            f"the {template.extremum} value with the formula for {how}: proofs bound it from {ends[0]}, witnesses "
            f"from {ends[1]}"
        )
    match isinstance(template, MeasureTemplate), template.existential:
        case True, False:
            return (
                "the largest radius with the formula for all inputs: proofs bound it from below, witnesses from above"
            )
        case True, True:
            return (
                "the smallest radius with the formula for some input: proofs bound it from below, witnesses from above"
            )
        case False, False:
            return "the formula for all inputs: a proof verifies, a witness against it falsifies"
        case _:
            return "the formula for some input: a witness verifies, a proof that there is none falsifies"


def _dividing(stage: StageSpec) -> str:
    """The part of a stage in counting a volume."""
    if stage.kind is StageKind.BOUND and not METHODS.find(stage.method).asks_solver:
        return _stage(stage)
    return f"{_stage_text(stage)}: not used, pieces are decided by bounds"


def _search(template: MeasureTemplate | ValueTemplate) -> str:
    """The search for a measure's value."""
    if isinstance(template, ValueTemplate):
        return _value_search(template)
    tolerance = f"{template.tolerance}{' relative' if template.relative else ''}"
    text = f"in [{template.lower}, {template.upper}] to {tolerance}"
    if any(stage.kind is StageKind.BOUND for stage in template.strategy.stages):
        text += f", about {SEARCH_EVALUATIONS} bounds a sample with the last bounding stage"
    if any(stage.solves for stage in template.strategy.stages):
        each = "one minimisation" if len(template.points) == 1 else f"up to {DECISIONS} decisions"
        text += f", then {each} a sample with the last solving stage"
    ball = balls_of(template.region)[0]
    share = share_text(ball.radius(template.upper), template.width) if ball.is_even else ""
    return f"{text}; radii up to{share}" if share else text


def _value_search(template: ValueTemplate) -> str:
    """The search for a value of the formula."""
    ends = ["-infinity" if template.lower is None else f"{template.lower}"]
    ends.append("infinity" if template.upper is None else f"{template.upper}")
    text = f"in [{', '.join(ends)}] to {template.tolerance}{' relative' if template.relative else ''}"
    if any(stage.kind is StageKind.BOUND for stage in template.strategy.stages):
        text += f", a few bounds a sample with the last bounding stage (at most {ROUNDS})"
    if any(stage.solves for stage in template.strategy.stages):
        text += f", then up to {DECISIONS} decisions a sample by the last solving stage"
    return text


def _queries(template: AnyTemplate, spec: Spec) -> tuple[str, int | None]:
    """The number of queries in words, and the most there can be (None: the data set decides)."""
    if template.dataset is None:
        return "1", 1
    most = at_most(template.choice, at_most(spec.datasets[template.dataset].choice, None))
    chosen = " whose label is selected" if template.where is not None else ""
    if most is None:
        return f"one for each sample of {template.dataset}{chosen}", None
    return f"at most {most}, one for each sample of {template.dataset}{chosen}", most


def _source(template: AnyTemplate, spec: Spec) -> str:
    return _model_source(spec.models[template.model])


def _model_source(model: ModelDeclaration) -> str:
    part = f"layer {model.layer} of " if model.layer else f"output {model.output} of " if model.base else ""
    return part + (
        "what the caller binds" if part and model.bound else "bound by the caller" if model.bound else model.path
    )


def strategy_text(strategy: Strategy) -> str:
    """The stages with their options, as a specification writes them."""
    return " -> ".join(_stage_text(stage) for stage in strategy.stages)


def _stage_text(stage: StageSpec) -> str:
    options = ", ".join(f"{name}={value}" for name, value in stage.options)
    return f"{stage.name}({options})" if options else stage.name


def _stage(stage: StageSpec) -> str:
    """A stage, what it does and what it costs."""
    relaxation = RELAXATIONS.get(str(stage.option("relaxation", "")))
    cost = relaxation.cost if relaxation is not None and relaxation.cost else stage.schema.cost
    usual = {name: option.default for name, option in stage.schema.options.items() if option.default is not None}
    values = {"iterations": BoundOptions().iterations, **usual, **dict(stage.options), **_beside(stage)}
    return f"{_stage_text(stage)}: {_ROLES[stage.kind]}; {cost.format(**values)}"


def _beside(stage: StageSpec) -> dict[str, str]:
    """The additions to a stage's cost: time limit, second solver, tightening and second proof."""
    limit, second = stage.option("time_limit"), stage.option("confirm")
    before = {"lp": "a linear", "progressive": "a linear and an integer"}.get(
        stage.option("bounds", stage.option("tighten", "none"))
    )
    return {
        "most": "as long as the budget lasts" if limit is None else f"at most {float(limit):g} s a sample",
        "second": f", and again by {second}" if second else "",
        "again": "; then again by branch and bound, which rests on no solver's word" if stage.option("prove") else "",
        "before": f"; before that {before} program for each neuron that may switch" if before else "",
    }


def _searching(stage: StageSpec, number: int, strategy: Strategy) -> str:
    """The part of a stage in a measure's search: the first attack, the last bounding and the last solving stage."""
    alike = [i for i, other in enumerate(strategy.stages, start=1) if other.kind is stage.kind]
    chosen = alike[0] if stage.kind is StageKind.ATTACK else alike[-1]
    return _stage(stage) if number == chosen else f"{_stage_text(stage)}: not used, stage {chosen} is the one"


def _budget(strategy: Strategy, most: int | None) -> str:
    parts = []
    if strategy.seconds_per_sample is not None:
        each = float(strategy.seconds_per_sample)
        parts.append(f"{each:g} s a sample" + (f" (at most {each * most:g} s)" if most else ""))
    if strategy.seconds_total is not None:
        parts.append(f"{float(strategy.seconds_total):g} s in all, for every question with this strategy together")
    return ", ".join(parts) or "no limit"


def _objective(objective: ObjectiveTemplate, spec: Spec) -> list[str]:
    asked = spec.properties[objective.property]
    assert isinstance(asked.region, BallSpec)
    size = None if objective.train is None else _training_size(objective.train)
    factor = "" if objective.eps_factor == 1 else f"{float(objective.eps_factor):g} times "
    return [
        f"objective {objective.name} for {objective.property}",
        f"  trains: model {objective.model} ({_source(asked, spec)}), {_STARTS[objective.initialize]}",
        *_behind(objective, asked),
        f"  on: {_training(objective, size)}",
        f"  loss: bounds by {_call(objective.bound)}",
        f"  eps: {factor}{_scheduled(objective.eps)}, linf, in {asked.region.space} space",
        f"  natural weight: {_scheduled(objective.natural_weight)}",
        *([] if objective.mixture is None else [f"  mixture: {_scheduled(objective.mixture)}"]),
        *(f"  regulariser: {_call(regularizer)}" for regularizer in objective.regularizers),
        *(f"  images changed at random: {_call(change)}" for change in objective.augment),
        f"  optimizer: {_call(objective.optimizer)}, learning rate {_rate(objective.learning_rate)}, "
        f"seed {objective.seed}",
        f"  held out: {_held_out(objective, asked, spec)}",
        f"  cost: a step takes {_STEPS[objective.bound.name]}",
    ]


def _rate(rate: Rate) -> str:
    if isinstance(rate, CosineRate):
        rises = f"from 0 to {float(rate.peak):g} in {float(rate.warmup):g} epochs, " if rate.warmup else ""
        return f"{rises}a cosine from {float(rate.peak):g} to {float(rate.final):g}"
    falls = f", times {float(rate.factor):g} after {_listed(rate.at)} {rate.unit}" if rate.at else ""
    return f"{float(rate.initial):g}{falls}"


def _behind(objective: ObjectiveTemplate, asked: PropertyTemplate) -> list[str]:
    """The abstraction that the model is trained behind, and how its granularity falls."""
    if asked.abstraction is None:
        return []
    lines, tuning = [f"  as: {classifier(asked.abstraction)}"], asked.abstraction.tuning
    if tuning is None:
        return lines
    until = " or until gradients ask for wider cells" if tuning.stop_on_gradient else ""
    down = f"down to {float(tuning.floor):g}{until}"
    if tuning.name == "search":
        figure = "certified" if objective.trains_bounds else "abstraction"
        samples = "samples of the property" if tuning.selection == "test" else "last tenth of the samples to train on"
        lines.append(
            f"  granularity: {float(tuning.step):g} less in each training, all from scratch (AbsCert's Algorithm 3), "
            f"{down}; that with the least {figure} error on the {samples} is kept"
        )
    else:
        often = "epoch" if objective.verify_every == 1 else f"{objective.verify_every} epochs"
        lines.append(
            f"  granularity: {float(tuning.step):g} less after every {often}, {down}; that with "
            f"{best_figure(objective)} on the held-out samples is kept"
        )
    return lines


def _training(objective: ObjectiveTemplate, size: int | None) -> str:
    name = "samples that the caller binds" if objective.train is None else objective.train.name
    rounds = f"batches of {objective.batch}, {counted(objective.epochs, 'epoch')}"
    if size is None:
        return f"{name}, {rounds}"
    steps = max(1, size // objective.batch)
    total = counted(steps * objective.epochs, "step")
    return f"{name} ({counted(size, 'sample')}), {rounds} of {counted(steps, 'step')}: {total}"


def _training_size(data: Dataset) -> int | None:
    """The number of samples to train on, where that is known without reading them."""
    whole = dict(data.options).get("split", "test") == "train" and not data.bound
    source = SOURCES.get(data.source)
    size = source.sizes.get(data.path) if whole and source is not None else None
    return size if size is None else at_most(data.choice, size)


def _held_out(objective: ObjectiveTemplate, asked: PropertyTemplate, spec: Spec) -> str:
    how = f"verified by {_stage_text(objective.verify)}"
    if objective.attack is not None:
        how = f"attacked by {_stage_text(objective.attack)}, {how}"
    often = "epoch" if objective.verify_every == 1 else f"{objective.verify_every} epochs"
    return f"the samples of {asked.name} ({_queries(asked, spec)[0]}), {how} after every {often}"


def _scheduled(value: Scheduled) -> str:
    if not isinstance(value, RampSpec):
        return str(value)
    shape = "" if value.shape == "linear" else f", {value.shape}"
    return f"{value.start} -> {value.stop} from {value.unit} {float(value.begin):g} to {float(value.end):g}{shape}"


def _call(named: Named) -> str:
    options = ", ".join(f"{name}={_short(value)}" for name, value in named.options)
    return f"{named.name}({options})" if options else named.name


def _short(value: object) -> str:
    return f"{float(value):g}" if isinstance(value, Fraction) else str(value)


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))
