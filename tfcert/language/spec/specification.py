"""A checked specification as a whole, ready to be bound to networks and data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tfcert.language.spec.assertions import Assertion, ReportItem
from tfcert.language.spec.cells import Abstraction
from tfcert.language.spec.declarations import Dataset, ModelDeclaration, Param, Strategy
from tfcert.language.spec.objective import ObjectiveTemplate
from tfcert.language.spec.questions import (
    DistanceTemplate,
    MeasureTemplate,
    PropertyTemplate,
    ShareTemplate,
    ValueTemplate,
)
from tfcert.language.text.diagnostics import Diagnostic


@dataclass(frozen=True)
class Spec:
    """A checked specification.

    Names of an imported specification carry its prefix: ``common.test``.

    Attributes:
        filename: under which it is reported.
        source_hash: SHA-256 of the text and of all imported texts.
        params, models, datasets, strategies, abstractions: by name, with those imported.
        properties, measures: by name, in the order of the text, with those imported that `check` names.
        objectives: likewise.
        assertions, reports: in the order of the text.
        warnings: findings that do not prevent use; ``.render()`` each.
        root: the folder to which paths are confined ("" if the text came from no file).
        text: as it was given, without what it imports.
    """

    filename: str
    source_hash: str
    params: Mapping[str, Param]
    models: Mapping[str, ModelDeclaration]
    datasets: Mapping[str, Dataset]
    strategies: Mapping[str, Strategy]
    abstractions: Mapping[str, Abstraction]
    properties: Mapping[str, PropertyTemplate]
    measures: Mapping[str, MeasureTemplate | ValueTemplate | DistanceTemplate | ShareTemplate]
    objectives: Mapping[str, ObjectiveTemplate]
    assertions: tuple[Assertion, ...]
    reports: tuple[ReportItem, ...]
    warnings: tuple[Diagnostic, ...]
    root: str = ""
    text: str = field(default="", repr=False)

    @property
    def judged_by_assertions(self) -> frozenset[str]:
        """Properties of whose verified or attack accuracy an assertion speaks: these are judged by it alone."""
        return frozenset(name for a in self.assertions for name in a.judged)
