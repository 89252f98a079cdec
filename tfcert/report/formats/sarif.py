"""Annotations at lines of files in SARIF 2.1.0, which code hosts show beside the lines of a pull request."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tfcert.report.records import Json
from tfcert.report.runs import SpecRun
from tfcert.report.summary import summarize_property
from tfcert.showing import counted
from tfcert.verdict import Outcome

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
JUDGED = {
    "fails": "An assertion or a property that a witness refutes.",
    "open": "An assertion or a property that is neither proven nor refuted.",
    "not-run": "A specification that could not be run, or was interrupted.",
    "answers": "What is known of a property.",
}
"""The rules of annotations about runs."""


@dataclass(frozen=True)
class Annotation:
    """Something to say about a place in a file. ``line`` is 0 where it is about the whole file.

    ``end_column`` is one past the last character; columns are 0 where the whole line is meant.
    """

    level: Literal["error", "warning", "note"]
    rule: str
    message: str
    path: str
    line: int = 0
    column: int = 0
    end_line: int = 0
    end_column: int = 0


def sarif_document(found: Sequence[Annotation], rules: Mapping[str, str], version: str) -> str:
    """A log of one run of tfcert. ``rules`` says what each rule that an annotation may name is about."""
    used = [rule for rule in rules if any(annotation.rule == rule for annotation in found)]
    driver = {
        "name": "tfcert",
        "semanticVersion": version,
        "rules": [{"id": rule, "shortDescription": {"text": rules[rule]}} for rule in used],
    }
    results = [_result(annotation, used) for annotation in found]
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}
    return json.dumps(log, indent=1) + "\n"


def _result(annotation: Annotation, rules: Sequence[str]) -> Json:
    place: Json = {"artifactLocation": {"uri": Path(annotation.path).as_posix()}}
    if annotation.line:
        region = {
            "startLine": annotation.line,
            "startColumn": annotation.column,
            "endLine": annotation.end_line,
            "endColumn": annotation.end_column,
        }
        place["region"] = {name: number for name, number in region.items() if number}
    return {
        "ruleId": annotation.rule,
        "ruleIndex": rules.index(annotation.rule),
        "level": annotation.level,
        "message": {"text": annotation.message},
        "locations": [{"physicalLocation": place}],
    }


def sarif_text(runs: Sequence[SpecRun]) -> str:
    """Whatever does not pass, an error or a warning at its line; a note of its answers at each property's."""
    version = next((str(run.report.header["tfcert"]) for run in runs if run.report is not None), "")
    return sarif_document([annotation for run in runs for annotation in annotations_of(run)], JUDGED, version)


def annotations_of(run: SpecRun) -> list[Annotation]:
    """What there is to say about the lines of a run's specification."""
    path = str(run.path)
    if run.report is None:
        return [Annotation("error", "not-run", run.error, path)]
    found = [
        Annotation("error", "fails", f"fails: {judged.text}", path, judged.line)
        if judged.judgement == "fail"
        else Annotation("warning", "open", f"{judged.judgement}: {judged.text}", path, judged.line)
        for judged in run.judged
        if judged.judgement != "pass"
    ]
    if not run.report.header.get("complete", True):
        found.append(Annotation("warning", "not-run", "the run was interrupted: not all samples have an answer", path))
    lines = run.report.header.get("lines", {})
    for name in run.report.properties:
        summary = summarize_property(name, run.report.records)
        told = [f"{summary.outcomes[outcome]} {outcome}" for outcome in Outcome if summary.outcomes[outcome]]
        levels = f" ({', '.join(summary.guarantees)})" if summary.guarantees else ""
        message = f"{name}: of {counted(summary.total, 'sample')} {', '.join(told) or 'none asked about'}{levels}"
        found.append(Annotation("note", "answers", message, path, lines.get(name, 0)))
    return found
