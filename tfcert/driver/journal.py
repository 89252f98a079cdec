"""The append-only log of a run: JSON lines, a header and then one line a finished (property, sample).

Each line is written by one system call and synced to the disk before the next sample is touched, so a run that is
killed loses at most the samples in flight. A last line that was cut short is dropped when the run is resumed.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tfcert.driver.folder import RunFolder
from tfcert.errors import JournalError
from tfcert.report.records import Json, Record
from tfcert.showing import counted

FILE_NAME = "journal.jsonl"
FINISHED = "finished"


class JournalFolder(RunFolder):
    """The folder of a run that keeps a journal of its verdicts, as ``verify`` and ``radius`` do."""

    header_file = FILE_NAME
    kept_together = (FILE_NAME, "result.json", "witnesses", "certificates", "figures")
    stale = ("witnesses/*.npz", "certificates/*", "figures/*.png")

    def _header_in(self, path: Path) -> Json:
        # Before runs wrote it down, rounding was left out of account where nothing was said.
        return {"rounding": "ignore"} | _header(path, _complete_lines(path)[0])

    def _unfinished(self) -> str:
        lines = self.header_path.read_bytes().splitlines()
        verdicts = sum(line.startswith(b'{"record"') for line in lines)
        if not verdicts or lines[-1].startswith(f'{{"{FINISHED}"'.encode()):
            return ""
        return f"{counted(verdicts, 'verdict')} of an interrupted run"

    @contextlib.contextmanager
    def open(self, header: Json, say: Callable[[str], None]) -> Iterator[Journal]:
        """The journal, at its end: a new one with its header, or that of the run that is resumed.

        Raises:
            JournalError: as for :meth:`RunFolder.held`, or the journal is damaged.
        """
        with self.held(header, say) as descriptor:
            if self.resumed:
                lines, length = _complete_lines(self.header_path)
                known = _records(self.header_path, lines[1:])
                os.ftruncate(descriptor, length)
                yield Journal(descriptor, known)
            else:
                journal = Journal(descriptor, ())
                journal.write({"header": header})
                yield journal


def read_journal(path: Path) -> tuple[Json, tuple[Record, ...]]:
    """The header and the records of a run that may be going on.

    Raises:
        JournalError: the file is no journal, or damaged.
    """
    lines, _ = _complete_lines(path)
    return _header(path, lines), tuple(_records(path, lines[1:]))


class Journal:
    """Writes records into an open file.

    Attributes:
        known: the records of the run that is resumed.
    """

    def __init__(self, descriptor: int, known: Sequence[Record]):
        self._descriptor, self.known = descriptor, tuple(known)

    def append(self, record: Record) -> None:
        """Adds one record and waits until it is on the disk."""
        self.write({"record": record.as_json()})

    def finish(self) -> None:
        """Says that nothing is left to do: the next run in this folder may start over."""
        self.write({FINISHED: True})

    def write(self, line: Json) -> None:
        """Adds a line and waits until it is on the disk."""
        data = json.dumps(line, allow_nan=False).encode() + b"\n"
        while data:
            data = data[os.write(self._descriptor, data) :]
        os.fsync(self._descriptor)


def _complete_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The lines that end in a newline, and how many bytes they take."""
    data = path.read_bytes()
    length = data.rfind(b"\n") + 1
    found = []
    for number, line in enumerate(data[:length].splitlines(), start=1):
        try:
            value = json.loads(line)
        except ValueError:
            raise JournalError(f"{path}, line {number}: this is no JSON; the journal is damaged") from None
        if not isinstance(value, dict):
            raise JournalError(f"{path}, line {number}: an object was expected; the journal is damaged")
        found.append(value)
    return found, length


def _records(path: Path, lines: list[dict[str, Any]]) -> list[Record]:
    """The records of the lines; a later line for the same property and sample replaces an earlier one."""
    found: dict[tuple[str, int], Record] = {}
    for number, line in enumerate(lines, start=2):
        if FINISHED in line:
            continue
        try:
            record = Record.from_json(line["record"])
        except (KeyError, ValueError, TypeError) as error:
            raise JournalError(
                f"{path}, line {number}: this is no record ({error!r}); the journal is damaged"
            ) from None
        found[record.property, record.sample] = record
    return list(found.values())


def _header(path: Path, lines: list[dict[str, Any]]) -> Json:
    if not lines or not isinstance(lines[0].get("header"), dict):
        raise JournalError(f"{path} does not begin with a header: it is no journal of tfcert")
    found: Json = lines[0]["header"]
    return found
