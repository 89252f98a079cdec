"""What stands in a dossier in words: levels of guarantee, kinds of stages, criteria."""

from __future__ import annotations

import math
import re

from tfcert.catalog import STAGES
from tfcert.report.records import Asked
from tfcert.verdict import Outcome

OUTCOMES = {
    Outcome.VERIFIED: "what is asked holds, by a proof (of some input: by a witness)",
    Outcome.FALSIFIED: "what is asked does not hold, by a witness (of some input: by a proof)",
    Outcome.UNKNOWN: "neither a proof nor a witness was found; says nothing about the model",
    Outcome.TIMEOUT: "the time was up before either was found; says nothing about the model",
}
KINDS = {
    "attack": "looks for inputs that break the property; incomplete: where it finds none, nothing is proven",
    "bound": "computes bounds that hold for every input of the region; sound and incomplete: what it does not prove "
    "stays open",
    "solver": "branch and bound, or integer programs; complete of piecewise linear networks in exact arithmetic, given "
    "enough time; cut off by its limits, and by rounding",
}
"""What stages of a kind can and cannot do."""
DISCLAIMER = (
    "The headings follow topics of ISO/IEC 24029-2:2023 and of Annex IV of Regulation (EU) 2024/1689, so that "
    "statements can be traced. Nothing here claims conformity with either, or that the properties are the right ones, "
    "or that the samples stand for inputs in use."
)


def stages_of(strategy: str) -> list[tuple[str, str]]:
    """The stages that a strategy's text names, in order, each with what it can and cannot do."""
    known = STAGES.words()
    names = [word for word in re.findall(r"[A-Za-z_0-9]+", strategy) if word in known]
    return [(name, KINDS[str(known[name].kind)]) for name in dict.fromkeys(names)]


def criterion(asked: Asked, measured: bool) -> tuple[str, str]:
    """The topic of a question (stability, reachability, ...) and its criterion in a sentence."""
    around = f"in the norm {asked.norm}, in {asked.space} space" if asked.norm else f"in {asked.space or 'its'} space"
    if asked.distance:
        return "stability", f"how far each sample is from another class ({around}), by {asked.distance}"
    if asked.measures == "value":
        return "reachability", f"the {asked.extremum} value of the formula over each sample's region ({around})"
    if asked.measures == "share":
        return "stability", f"the share of the region's volume in which the formula holds ({around})"
    if measured and asked.existential:
        return "sensitivity", f"the smallest radius at which some input satisfies the formula ({around})"
    if measured:
        return "stability", f"the largest radius up to which every input satisfies the formula ({around})"
    which = "some input" if asked.existential else "every input"
    region = f"within {asked.eps:g} of the sample" if math.isfinite(asked.eps) else "of the region"
    topic = "stability" if asked.labelled and not asked.existential else "reachability"
    return topic, f"{which} {region} ({around}) has to satisfy the formula"
