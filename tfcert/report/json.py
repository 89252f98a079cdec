"""The JSON result: ``{"header": {...}, "records": [...]}``."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from tfcert.report.records import Json, Record

RECORDS = '"records": ['
"""The line between the header and the records, each of which has a line of its own."""


def result_text(header: Json, records: Iterable[Record]) -> str:
    """A result as JSON."""
    return "".join(_pieces(header, records))


def _pieces(header: Json, records: Iterable[Record]) -> Iterator[str]:
    """A result as JSON, piece by piece: a run may have millions of records."""
    yield f'{{"header": {json.dumps(header, indent=1, allow_nan=False)},\n{RECORDS}'
    for number, record in enumerate(records):
        yield f"{',' if number else ''}\n{json.dumps(record.as_json(), allow_nan=False)}"
    yield "\n]}\n"


def write_result(path: str | Path, header: Json, records: Iterable[Record]) -> None:
    """Writes a result, as :func:`write_text` does."""
    write_pieces(path, _pieces(header, records))


def read_lines(path: Path) -> tuple[Json, Iterator[Json]] | None:
    """A result's header, and its records one by one; None for a file that was not written by :func:`write_result`.

    Raises:
        json.JSONDecodeError: the file is no JSON; from the iterator, too.
    """
    with path.open(encoding="utf-8") as file:
        if file.read(11) != '{"header": ':
            return None
        head = list(itertools.takewhile(lambda line: line != f"{RECORDS}\n", file))
        if not head or not head[-1].endswith(",\n"):
            return None
        return json.loads("".join(head).rstrip().rstrip(",")), _records(path)


def _records(path: Path) -> Iterator[Json]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line == f"{RECORDS}\n":
                break
        for line in file:
            if line == "]}\n":
                return
            yield json.loads(line.rstrip().removesuffix(","))
    raise json.JSONDecodeError("the file ends within its records", "", 0)


def write_text(path: str | Path, text: str) -> None:
    """Writes a file in one step: a reader sees the old one or the new one. Makes the folders that it is in."""
    write_pieces(path, (text,))


def write_pieces(path: str | Path, pieces: Iterable[str]) -> None:
    """Writes a text that comes in pieces as :func:`write_text` does."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".part")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.writelines(pieces)
        os.replace(partial, target)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
