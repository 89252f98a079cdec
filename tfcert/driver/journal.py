"""The append-only log of a run: JSON lines, a header and then one line a finished (property, sample).

Each line is written by one system call and synced to the disk before the next sample is touched, so a run that is
killed loses at most the samples in flight. A last line that was cut short is dropped when the run is resumed.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tfcert.driver.fingerprint import SCHEME
from tfcert.errors import JournalError
from tfcert.report.records import Json, Record
from tfcert.showing import counted

FILE_NAME = "journal.jsonl"
FINISHED = "finished"
IDENTITY = ("tfcert", "spec_sha256", "params", "weights_sha256", "data_sha256", "preprocessing", "abstractions")
"""Keys of the header that must agree before a run may go on from another one's results."""
SAYS_VALUES = ("tfcert", "params")
"""Those of them whose values tell a reader more than that they differ."""

_WORDS = {
    "tfcert": "tfcert's version",
    "spec_sha256": "the specification",
    "objective": "the objective",
    "params": "the parameter {}",
    "weights_sha256": "what {} computes (its graph, options or weights)",
    "data_sha256": "the samples of {} (values, labels or order)",
    "preprocessing": "the preprocessing of {} (scale or normalize)",
    "abstractions": "the abstraction of {}",
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
            JournalError: there is none, it is damaged, or it was written for another question (see ``require_same``).
        """
        path = _journal_of(folder)
        descriptor = _open_alone(path)
        try:
            lines, length = _complete_lines(path)
            require_same(path, _header(path, lines), header)
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
    return f"{counted(verdicts, 'verdict')} of an interrupted run moved to {place}; --resume {place} goes on with that"


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


def read_header(folder: Path) -> Json:
    """What the run in ``folder`` was started with.

    Raises:
        JournalError: there is no journal, or it is damaged.
    """
    path = _journal_of(folder)
    return _header(path, _complete_lines(path)[0])


def _journal_of(folder: Path) -> Path:
    if not (folder / FILE_NAME).is_file():
        what = f"{folder} has no {FILE_NAME}" if folder.is_dir() else f"there is no folder {folder}"
        raise JournalError(f"{what}: nothing to resume")
    return folder / FILE_NAME


def _header(path: Path, lines: list[dict[str, Any]]) -> Json:
    if not lines or not isinstance(lines[0].get("header"), dict):
        raise JournalError(f"{path} does not begin with a header: it is no journal of tfcert")
    found: Json = lines[0]["header"]
    return found


def require_same(path: Path, then: Json, now: Json, identity: Sequence[str] = IDENTITY) -> None:
    """That a run which is resumed asks what the one that wrote ``path`` asked, by the keys of both headers.

    Raises:
        JournalError: it does not; says what differs, old and new.
    """
    if then.get("hashes") != SCHEME:
        raise JournalError(
            f"{path} was written by another version of tfcert, whose hashes of models say something else than this "
            "one's: whether its results are about the same models cannot be told. Run without --resume to start over."
        )
    changed = [difference for key in identity for difference in _differences(key, then.get(key), now.get(key))]
    if changed:
        raise JournalError(
            f"{path} was written by another run: {'; '.join(changed)}. Run without --resume to start over, or resume "
            "with what it was started with."
        )


def _differences(key: str, then: Any, now: Any) -> list[str]:
    """What differs in one key of the headers, a phrase each: by name where there are several."""
    if then == now:
        return []
    pairs = {"the model": (then, now)}
    if isinstance(then, dict) and isinstance(now, dict):
        pairs = {n: (then.get(n), now.get(n)) for n in dict.fromkeys([*then, *now]) if then.get(n) != now.get(n)}
    return [
        _WORDS[key].format(name)
        + (f" was {_said(old)} and is now {_said(new)}" if key in SAYS_VALUES else " changed since")
        for name, (old, new) in pairs.items()
    ]


def _said(value: Any) -> str:
    return "not given" if value is None else str(value)
