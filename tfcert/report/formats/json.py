"""The results themselves, as one text in JSON: what runs write with ``--json``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tfcert.report.runs import SpecRun, worst


def json_text(runs: Sequence[SpecRun]) -> str:
    """The result of a run, or those of several together."""
    (first, *others) = runs
    return json_of_all(runs) if others or first.report is None else first.report.json_text()


def json_of_all(runs: Sequence[SpecRun]) -> str:
    """Of all runs ``{"exit_code": ..., "runs": [{"spec": ..., "exit_code": ..., "header": ..., "records": ...}]}``."""
    told = []
    for run in runs:
        entry: dict[str, Any] = {"spec": str(run.path), "exit_code": int(run.exit_code)}
        if run.report is None:
            entry["error"] = run.error
        else:
            entry |= {"header": run.report.header, "records": [r.as_json() for r in run.report.records]}
        told.append(entry)
    code = worst([run.exit_code for run in runs])
    return json.dumps({"exit_code": int(code), "runs": told}, indent=1, allow_nan=False) + "\n"
