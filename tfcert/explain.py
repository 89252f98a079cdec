"""What a specification will ask, of what, in which stages and at what cost; from its text alone."""

from __future__ import annotations

from tfcert.language import Ball, MeasureTemplate, PropertyTemplate, Spec, Stage, StageKind, Strategy
from tfcert.options import BoundOptions

AnyTemplate = PropertyTemplate | MeasureTemplate

_COSTS = {
    "ibp": "about two runs of the network",
    "crown_ibp": "two runs, and one backward pass for the outputs",
    "crown": "one backward pass for every neuron that may switch, and for the outputs",
    "forward": "one run that carries a plane over the inputs for every neuron",
    "forward_backward": "one forward run with planes, and one backward pass for the outputs",
    "fgsm": "one gradient",
}
_ROLES = {
    StageKind.ATTACK: "finds witnesses",
    StageKind.BOUND: "proves",
    StageKind.SOLVER: "finds witnesses and, by the solver's word, proves",
}
SEARCH_EVALUATIONS = 15
"""About so many bounds a sample does the search of a measure take."""
ITERATION_PASSES = 3
"""A gradient step takes about so many times as long as the backward passes that it differentiates."""


def explain(spec: Spec) -> str:
    """The queries, stages and costs of every property and measure, as text."""
    lines = [f"specification {spec.filename} (sha256 {spec.source_hash[:12]})"]
    lines += [f"  param {p.name} = {p.value}{' (set by you)' if p.overridden else ''}" for p in spec.params.values()]
    templates: list[AnyTemplate] = [*spec.properties.values(), *spec.measures.values()]
    for template in templates:
        lines += ["", *_template(template, spec)]
    if spec.assertions:
        lines += ["", *(f"assert {a.text}" for a in spec.assertions)]
    return "\n".join(lines)


def _template(template: AnyTemplate, spec: Spec) -> list[str]:
    kind = "measure" if isinstance(template, MeasureTemplate) else "property"
    queries, most = _queries(template, spec)
    lines = [
        f"{kind} {template.name}",
        f"  queries: {queries} of model {template.model} ({_source(template, spec)})",
        f"  region: {_region(template)}",
        f"  asked: {_asked(template)}",
        f"  strategy {template.strategy.name}, survivors only to the next stage:",
    ]
    lines += [f"    {i}. {_stage(stage)}" for i, stage in enumerate(template.strategy.stages, start=1)]
    if isinstance(template, MeasureTemplate):
        lines.append(f"  search: {_search(template)}")
    return [*lines, f"  budget: {_budget(template.strategy, most)}"]


def _asked(template: AnyTemplate) -> str:
    """What settles the question: proofs and witnesses change places where it is about some input."""
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


def _search(template: MeasureTemplate) -> str:
    """How a measure's value is looked for."""
    tolerance = f"{template.tolerance}{' relative' if template.relative else ''}"
    text = f"in [{template.lower}, {template.upper}] to {tolerance}"
    if any(stage.kind is StageKind.BOUND for stage in template.strategy.stages):
        text += f", about {SEARCH_EVALUATIONS} bounds a sample with the last bounding stage"
    if any(stage.solves for stage in template.strategy.stages):
        text += ", then one minimisation a sample with the last solving stage"
    return text


def _queries(template: AnyTemplate, spec: Spec) -> tuple[str, int | None]:
    """The number of queries in words, and the most there can be (None: the data set decides)."""
    if template.dataset is None:
        return "1", 1
    limits = [n for n in (template.take, spec.datasets[template.dataset].take) if n is not None]
    chosen = " whose label is selected" if template.where is not None else ""
    if not limits:
        return f"one for each sample of {template.dataset}{chosen}", None
    return f"at most {min(limits)}, one for each sample of {template.dataset}{chosen}", min(limits)


def _source(template: AnyTemplate, spec: Spec) -> str:
    model = spec.models[template.model]
    return "bound by the caller" if model.bound else model.path


def _region(template: AnyTemplate) -> str:
    region = template.region
    if not isinstance(region, Ball):
        return f"a box of {len(region.bounds)} interval{'s' * (len(region.bounds) != 1)} in {region.space} space"
    radius = f"{region.eps}" if not region.slope else "r"
    within = "" if region.within is None else f" within [{region.within[0]}, {region.within[1]}]"
    text = f"{region.norm} ball of radius {radius}{within} in {region.space} space"
    if region.slope or region.space == "net":
        return text
    sizes = sorted({float(e) for e in region.net_eps(template.transform)})
    return f"{text} ({', '.join(f'{s:.6g}' for s in sizes)} as the network sees it)"


def strategy_text(strategy: Strategy) -> str:
    """The stages with their options, as a specification writes them."""
    return " -> ".join(_stage_text(stage) for stage in strategy.stages)


def _stage_text(stage: Stage) -> str:
    options = ", ".join(f"{name}={value}" for name, value in stage.options)
    return f"{stage.name}({options})" if options else stage.name


def _stage(stage: Stage) -> str:
    label, given = _stage_text(stage), dict(stage.options)
    if stage.name == "pgd":
        steps, restarts = given.get("steps", 40), given.get("restarts", 3)
        return f"{label}: {_ROLES[stage.kind]}; at most {restarts} x {steps} gradients a sample"
    cost = _COSTS.get(stage.name, "not estimated")
    if stage.name == "alpha_crown" or given.get("relaxation") == "frown":
        iterations = given.get("iterations", BoundOptions().iterations)
        cost = f"{iterations} gradient steps, each about {ITERATION_PASSES} times a pass of crown"
    elif stage.name in ("lp", "milp"):
        cost = _programs(stage)
    return f"{label}: {_ROLES[stage.kind]}; {cost}"


def _programs(stage: Stage) -> str:
    """The cost of a stage that asks a solver; what it will be nobody knows, what it may be is said."""
    solver, limit = stage.option("solver", "cbc"), stage.option("time_limit")
    most = "as long as the budget lasts" if limit is None else f"at most {float(limit):g} s a sample"
    if not stage.solves:
        return f"a linear program over all neurons for each open clause, by {solver}, {most}"
    second = stage.option("confirm")
    twice = f", and again by {second}" if second else ""
    before = {"lp": "a linear", "progressive": "a linear and an integer"}.get(stage.option("tighten", "none"))
    first = f"; before that {before} program for each neuron that may switch" if before else ""
    return (
        f"an integer program for each open clause, by {solver}{twice}, {most}; its time may double with every neuron "
        f"that may switch{first}"
    )


def _budget(strategy: Strategy, most: int | None) -> str:
    parts = []
    if strategy.seconds_per_sample is not None:
        each = float(strategy.seconds_per_sample)
        parts.append(f"{each:g} s a sample" + (f" (at most {each * most:g} s)" if most else ""))
    if strategy.seconds_total is not None:
        parts.append(f"{float(strategy.seconds_total):g} s in all")
    return ", ".join(parts) or "no limit"
