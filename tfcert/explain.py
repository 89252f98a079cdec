"""What a specification will ask, of what, in which stages and at what cost; from its text alone."""

from __future__ import annotations

from tfcert.language import Ball, MeasureTemplate, PropertyTemplate, Spec, Stage, Strategy
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
        f"  strategy {template.strategy.name}, survivors only to the next stage:",
    ]
    lines += [f"    {i}. {_stage(stage)}" for i, stage in enumerate(template.strategy.stages, start=1)]
    if isinstance(template, MeasureTemplate):
        lines.append(
            f"  search: in [{template.lower}, {template.upper}] to {template.tolerance}"
            f"{' relative' if template.relative else ''}, about {SEARCH_EVALUATIONS} bounds a sample with the last "
            "bounding stage"
        )
    return [*lines, f"  budget: {_budget(template.strategy, most)}"]


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
        return f"{label}: refutes; at most {restarts} x {steps} gradients a sample"
    cost = _COSTS.get(stage.name, "not estimated")
    if stage.name == "alpha_crown" or given.get("relaxation") == "frown":
        iterations = given.get("iterations", BoundOptions().iterations)
        cost = f"{iterations} gradient steps, each about {ITERATION_PASSES} times a pass of crown"
    return f"{label}: {'refutes' if stage.attacks else 'proves'}; {cost}"


def _budget(strategy: Strategy, most: int | None) -> str:
    parts = []
    if strategy.seconds_per_sample is not None:
        each = float(strategy.seconds_per_sample)
        parts.append(f"{each:g} s a sample" + (f" (at most {each * most:g} s)" if most else ""))
    if strategy.seconds_total is not None:
        parts.append(f"{float(strategy.seconds_total):g} s in all")
    return ", ".join(parts) or "no limit"
