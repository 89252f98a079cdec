"""Runs that were written, as reports again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tfcert.errors import ExitCode, UsageError
from tfcert.report.records import Json, Record
from tfcert.report.result import Judged, Report
from tfcert.report.runs import SpecRun
from tfcert.report.stored import RESULT, read_json, result_of


def read_runs(path: str | Path) -> list[SpecRun]:
    """Reads what ``tfcert verify`` and the other verbs wrote.

    Args:
        path: a run's folder, a ``result.json``, or what ``--json`` wrote of several specifications.

    Raises:
        UsageError: there is no such file, or it is no result.
    """
    found, content = read_json(path)
    if isinstance(content, dict) and isinstance(content.get("runs"), list):
        return [_one_of_several(found, entry) for entry in content["runs"]]
    stored = result_of(found, content)
    folder = found.parent if (found.parent / RESULT).is_file() else None
    return [run_of(stored.header, stored.records, folder)]


def _one_of_several(path: Path, entry: Json) -> SpecRun:
    try:
        if "error" in entry:
            return SpecRun(Path(entry["spec"]), None, str(entry["error"]))
        records = tuple(map(Record.from_json, entry["records"]))
        return SpecRun(Path(entry["spec"]), report_of(entry["header"], records, None))
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} holds a run that cannot be read ({error!r})") from None


def run_of(header: Json, records: Sequence[Record], folder: Path | None) -> SpecRun:
    """A run under the name of what it asked: its specification, or its model."""
    name = header.get("spec") or header.get("model") or folder or "run"
    return SpecRun(Path(str(name)), report_of(header, records, folder))


def report_of(header: Json, records: Sequence[Record], folder: Path | None) -> Report:
    """The report of a run from its header and records; one that has not ended counts as interrupted."""
    texts: dict[str, str] = header.get("properties") or {}
    names = list(texts) or list(dict.fromkeys(r.property for r in records))
    measured = {r.property for r in records if r.measured is not None}
    measures = tuple(n for n in names if n in measured or texts.get(n, "").startswith("measure "))
    return Report(
        header=header,
        records=tuple(records),
        exit_code=ExitCode(header.get("exit_code", ExitCode.INTERRUPTED)),
        properties=tuple(name for name in names if name not in measures),
        measures=measures,
        judged=tuple(Judged(**judged) for judged in header.get("judged", [])),
        notes=tuple(header.get("notes", [])),
        folder=folder,
        asked=header.get("asked") or {},
    )
