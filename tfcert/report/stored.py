"""Results of earlier runs, read back from where they were written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfcert.errors import UsageError
from tfcert.report.json import read_lines
from tfcert.report.records import Json, Record

RESULT = "result.json"
"""The file of a run's folder that its results are in."""


@dataclass(frozen=True)
class StoredResult:
    """A run's results as they were written.

    Attributes:
        path: of the file.
        header: versions, hashes, parameters, what was judged.
        records: one a question and sample.
    """

    path: Path
    header: Json
    records: tuple[Record, ...]

    @property
    def complete(self) -> bool:
        """Tells whether the run ended by itself; results of an interrupted one lack some samples."""
        return bool(self.header.get("complete", True))

    def by_question(self) -> dict[tuple[str, int], Record]:
        """The records by question and sample."""
        return {(r.property, r.sample): r for r in self.records}


def read_result(path: str | Path) -> StoredResult:
    """Reads a result.

    Args:
        path: a run's folder, or a ``result.json``.

    Raises:
        UsageError: there is none, or it is no result of one run.
    """
    found, content = read_json(path)
    return result_of(found, content)


def read_json(path: str | Path) -> tuple[Path, Any]:
    """The file of a result, and what it holds; ``path`` and errors are those of :func:`read_result`.

    Records that runs have written come one by one, as they are asked for: there may be millions.
    """
    found = Path(path)
    if found.is_dir():
        if not (found / RESULT).is_file():
            begun = (found / "journal.jsonl").is_file()
            what = f"a run was begun there and did not end: --resume {found} goes on with it"
            raise UsageError(f"{found} has no {RESULT}" + (f"; {what}" if begun else ": it is no folder of a run"))
        found = found / RESULT
    try:
        lines = read_lines(found)
        if lines is not None:
            return found, {"header": lines[0], "records": lines[1]}
        return found, json.loads(found.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"there is no result {found}") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UsageError(f"{found} cannot be read as JSON: {error}") from None


def result_of(found: Path, content: Any) -> StoredResult:
    """The result that a file holds.

    Raises:
        UsageError: it is no result of one run.
    """
    if isinstance(content, dict) and "runs" in content:
        raise UsageError(f"{found} holds the results of several specifications: name the folder of one of them")
    header, records = (content.get(key) if isinstance(content, dict) else None for key in ("header", "records"))
    if not isinstance(header, dict) or not isinstance(records, list | Iterator):
        raise UsageError(f"{found} is no result of a run: it lacks a header and records")
    try:
        return StoredResult(found, header, tuple(map(Record.from_json, records)))
    except json.JSONDecodeError as error:
        raise UsageError(f"{found} cannot be read as JSON: {error}") from None
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"{found} holds a record that cannot be read ({error!r})") from None
