"""The append-only log of a run: JSON lines, a header and then one line a finished (property, sample).

Each line is written by one system call and synced to the disk before the next sample is touched, so a run that is
killed loses at most the samples in flight. A last line that was cut short is dropped when the run is resumed.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from tfcert.errors import JournalError
from tfcert.report.records import Json, Record

FILE_NAME = "journal.jsonl"
FINISHED = "finished"
IDENTITY = ("tfcert", "spec_sha256", "weights_sha256", "data_sha256", "params")
"""Keys of the header that must agree before a run may go on from another one's results."""

_WORDS = {
    "tfcert": "tfcert's version",
    "spec_sha256": "the specification",
    "weights_sha256": "the weights of a model",
    "data_sha256": "a data set",
    "params": "a parameter",
}


class Journal:
    """Writes records; a context manager that closes the file."""

    def __init__(self, path: Path, descriptor: int):
        self.path, self._descriptor = path, descriptor

    @classmethod
    def start(cls, folder: Path, header: Json) -> tuple[Journal, list[Record]]:
        """A new journal in ``folder``, without records; an earlier one is overwritten (see ``set_aside``)."""
        path = folder / FILE_NAME
        descriptor = _open_alone(path)
        os.ftruncate(descriptor, 0)
        journal = cls(path, descriptor)
        journal._write({"header": header})
        return journal, []

    @classmethod
    def resume(cls, folder: Path, header: Json) -> tuple[Journal, list[Record]]:
        """Goes on with the journal in ``folder``.

        Returns:
            The journal, open at its end, and the records it holds.

        Raises:
            JournalError: there is none, it is damaged, or it was written for another specification, other weights,
                other data, other parameters or by another version.
        """
        path = folder / FILE_NAME
        if not path.is_file():
            raise JournalError(f"{folder} has no {FILE_NAME}: nothing to resume")
        descriptor = _open_alone(path)
        try:
            lines, length = _complete_lines(path)
            if not lines or "header" not in lines[0]:
                raise JournalError(f"{path} does not begin with a header: it is no journal of tfcert")
            _require_same(path, lines[0]["header"], header)
            records = _records(path, lines[1:])
        except JournalError:
            os.close(descriptor)
            raise
        os.ftruncate(descriptor, length)
        return cls(path, descriptor), records

    def append(self, record: Record) -> None:
        """Adds one record and waits until it is on the disk."""
        self._write({"record": record.as_json()})

    def finish(self) -> None:
        """Says that nothing is left to do: the next run in this folder may start over."""
        self._write({FINISHED: True})

    def _write(self, line: Json) -> None:
        data = json.dumps(line, allow_nan=False).encode() + b"\n"
        while data:
            data = data[os.write(self._descriptor, data) :]
        os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def set_aside(folder: Path) -> str | None:
    """Moves what an interrupted run left in ``folder`` out of the way of a new one, into a folder of its own in there.

    Returns:
        A sentence that says where to, and how to go on with it; None where there was nothing unfinished.

    Raises:
        JournalError: another run is writing there.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return None
    lines = path.read_bytes().splitlines()
    verdicts = sum(line.startswith(b'{"record"') for line in lines)
    if not verdicts or lines[-1].startswith(f'{{"{FINISHED}"'.encode()):
        return None
    descriptor = _open_alone(path)
    try:
        place = move_aside(folder, (FILE_NAME, "result.json", "witnesses", "figures"))
    finally:
        os.close(descriptor)
    return f"the {verdicts} verdicts of an interrupted run were moved to {place}; --resume {place} goes on with them"


def move_aside(folder: Path, names: Iterable[str]) -> Path:
    """Moves what there is of ``names`` from a run's folder to a new one in it, and returns that."""
    place = next(p for n in itertools.count(1) if not (p := folder / f"interrupted-{n}").exists())
    place.mkdir()
    for name in names:
        if (folder / name).exists():
            (folder / name).rename(place / name)
    return place


def _open_alone(path: Path) -> int:
    """Opens a journal for appending, and keeps other runs from writing to it until it is closed."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise JournalError(f"another run is writing to {path}: wait for it, or choose another folder") from None
    return descriptor


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


def _require_same(path: Path, then: Json, now: Json) -> None:
    changed = [_WORDS[key] for key in IDENTITY if then.get(key) != now.get(key)]
    if changed:
        raise JournalError(
            f"{path} was written by another run: {' and '.join(changed)} changed since. Run without --resume to "
            "start over, or resume with what it was started with."
        )
