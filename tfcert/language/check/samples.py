"""The samples of a question: which of a data set, and what their names stand for."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from tfcert.language.check.asked import Mentions
from tfcert.language.check.classes import merge_classes
from tfcert.language.check.elaborate import LABEL_TERM, Elaborator
from tfcert.language.check.resources import read_choice, resolve_resource
from tfcert.language.check.scope import Scope
from tfcert.language.check.setting import Setting
from tfcert.language.check.values import Inputs, Meaning, Numeric
from tfcert.language.spec.choice import Choice
from tfcert.language.spec.declarations import Dataset
from tfcert.language.spec.formula import Formula
from tfcert.language.text import syntax as s
from tfcert.language.text.diagnostics import AbortError


@dataclass(frozen=True)
class AskedSamples:
    """The samples of a question: their data set, names and choice, and what the names mean."""

    dataset: Dataset | None
    sample: str | None
    label: str | None
    where: Formula | None
    choice: Choice
    local: Mapping[str, Meaning]
    complete: bool


NO_SAMPLES = AskedSamples(None, None, None, None, (), {}, True)


def read_asked_samples(scope: Scope, node: s.SamplesNode, asked: Mentions) -> AskedSamples:
    """The samples that are asked about; problems are reported, and what is left is then not complete.

    What ``where`` says of networks and of the sample's numbers is met in ``asked``, and settled with it.
    """
    dataset: Dataset | None = None
    with suppress(AbortError):
        dataset = resolve_resource(scope.find(node.dataset, ("dataset",)))
    complete = dataset is not None
    for name in node.names:
        scope.refuse_word(name)
    names = [n.text for n in node.names]
    if len(names) > 2:
        scope.report("E205", "a sample has an input and at most a label", node, "write `(x, y in data)`")
    for name in node.names:
        scope.refuse_clash(name.text, name)
    if len(set(names)) < len(names):
        scope.report("E202", f"`{names[0]}` is named twice", node.names[1])
    local: dict[str, Meaning] = {names[0]: Inputs(names[0])}
    if len(names) > 1 and names[1] != names[0]:
        local[names[1]] = Numeric(LABEL_TERM)
    e = Elaborator(scope, local, asked, hints={} if len(names) > 1 else label_hints(node))
    where: Formula | None = None
    choice: Choice = ()
    try:
        where = merge_classes(e.formula(node.where, "what follows `where`")) if node.where is not None else None
        choice = read_choice(Elaborator(scope), node.choice)
    except AbortError:
        complete = False
    return AskedSamples(dataset, names[0], names[1] if len(names) > 1 else None, where, choice, local, complete)


def label_hints(node: s.SamplesNode) -> dict[str, str]:
    """Advice about names that may be meant for the label."""
    fix = f"name the label: `({node.names[0].text}, y in {node.dataset.name})`"
    return dict.fromkeys(("y", "label", "target", "cls", "t", "l", "c"), fix)


def refuse_two_normalisations(scope: Scope, name: s.Name, setting: Setting) -> None:
    """Reports a data set and a model that both normalise."""
    model, dataset = setting.model, setting.dataset
    if model and dataset and setting.normalises_twice:
        message = f"both `{dataset.name}` and `{model.name}` normalise"
        scope.report("E226", message, name, "keep `normalize` in one of them")
