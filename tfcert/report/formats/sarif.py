"""Findings at lines of files in SARIF 2.1.0, which code hosts show beside the lines of a pull request."""

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
"""The rules of findings about runs."""


@dataclass(frozen=True)
class Finding:
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


def sarif_document(findings: Sequence[Finding], rules: Mapping[str, str], version: str) -> str:
    """A log of one run of tfcert. ``rules`` says what each rule that a finding may name is about."""
    used = [rule for rule in rules if any(finding.rule == rule for finding in findings)]
    driver = {
        "name": "tfcert",
        "semanticVersion": version,
        "rules": [{"id": rule, "shortDescription": {"text": rules[rule]}} for rule in used],
    }
    results = [_result(finding, used) for finding in findings]
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}
    return json.dumps(log, indent=1) + "\n"


def _result(finding: Finding, rules: Sequence[str]) -> Json:
    place: Json = {"artifactLocation": {"uri": Path(finding.path).as_posix()}}
    if finding.line:
        region = {
            "startLine": finding.line,
            "startColumn": finding.column,
            "endLine": finding.end_line,
            "endColumn": finding.end_column,
        }
        place["region"] = {name: number for name, number in region.items() if number}
    return {
        "ruleId": finding.rule,
        "ruleIndex": rules.index(finding.rule),
        "level": finding.level,
        "message": {"text": finding.message},
        "locations": [{"physicalLocation": place}],
    }


def sarif_text(runs: Sequence[SpecRun]) -> str:
    """Whatever does not pass, an error or a warning at its line; a note of its answers at each property's."""
    version = next((str(run.report.header["tfcert"]) for run in runs if run.report is not None), "")
    return sarif_document([finding for run in runs for finding in _findings(run)], JUDGED, version)


def _findings(run: SpecRun) -> list[Finding]:
    path = str(run.path)
    if run.report is None:
        return [Finding("error", "not-run", run.error, path)]
    found = [
        Finding("error", "fails", f"fails: {judged.text}", path, judged.line)
        if judged.judgement == "fail"
        else Finding("warning", "open", f"{judged.judgement}: {judged.text}", path, judged.line)
        for judged in run.judged
        if judged.judgement != "pass"
    ]
    if not run.report.header.get("complete", True):
        found.append(Finding("warning", "not-run", "the run was interrupted: not all samples have an answer", path))
    lines = run.report.header.get("lines", {})
    for name in run.report.properties:
        summary = summarize_property(name, run.report.records)
        told = [f"{summary.outcomes[outcome]} {outcome}" for outcome in Outcome if summary.outcomes[outcome]]
        levels = f" ({', '.join(summary.guarantees)})" if summary.guarantees else ""
        message = f"{name}: of {counted(summary.total, 'sample')} {', '.join(told) or 'none asked about'}{levels}"
        found.append(Finding("note", "answers", message, path, lines.get(name, 0)))
    return found
