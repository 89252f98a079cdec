"""The JSON result: ``{"header": {...}, "records": [...]}``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from tfcert.report.records import Json, Record


def result_text(header: Json, records: Iterable[Record]) -> str:
    """A result as JSON."""
    return json.dumps({"header": header, "records": [r.as_json() for r in records]}, indent=1, allow_nan=False) + "\n"


def write_result(path: str | Path, header: Json, records: Iterable[Record]) -> None:
    """Writes a result, as :func:`write_text` does."""
    write_text(path, result_text(header, records))


def write_text(path: str | Path, text: str) -> None:
    """Writes a file in one step: a reader sees the old one or the new one. Makes the folders that it is in."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".part")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, target)
