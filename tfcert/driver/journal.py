"""The append-only log of a run: JSON lines, a header and then one line a finished (property, sample).

Each line is written by one system call and synced to the disk before the next sample is touched, so a run that is
killed loses at most the samples in flight. A last line that was cut short is dropped when the run is resumed. The lines
beside the records say who writes (process and machine), how many workers there are, and that the run has ended.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from tfcert.driver.folder import RunFolder
from tfcert.driver.tally import Tally
from tfcert.errors import JournalError
from tfcert.report.records import Json, Record
from tfcert.showing import counted

FILE_NAME = "journal.jsonl"
FINISHED, RESUMED, WRITER, WORKERS = "finished", "resumed", "writer", "workers"
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""What keeps any file from being written, and none in particular."""

Key = tuple[str, int]
"""A question's name and a sample's number."""


class JournalFolder(RunFolder):
    """The folder of a run that keeps a journal of its verdicts, as ``verify`` and ``radius`` do."""

    header_file = FILE_NAME
    kept_together = (FILE_NAME, "result.json", "witnesses", "certificates", "figures")
    stale = ("witnesses/*.npz", "certificates/*", "figures/*.png")

    def _header_in(self, path: Path) -> Json:
        # Before runs wrote it down, rounding was left out of account where nothing was said.
        return {"rounding": "ignore"} | JournalTail(path).header

    def _unfinished(self) -> str:
        verdicts, line = 0, b""
        for line in _complete(self.header_path):
            verdicts += line.startswith(b'{"record"')
        if not verdicts or line.startswith(f'{{"{FINISHED}"'.encode()):
            return ""
        return f"{counted(verdicts, 'verdict')} of an interrupted run"

    def _holder(self) -> str:
        writer = None
        with contextlib.suppress(JournalError, OSError):
            for line in JournalTail(self.header_path).more():
                writer = line.get(WRITER) or line.get(RESUMED) or writer
        if not isinstance(writer, dict):
            return ""
        since = datetime.fromtimestamp(writer["at"], UTC).isoformat(" ", "seconds")
        return f"process {writer['pid']} on {writer['host']}, since {since}"

    @contextlib.contextmanager
    def open(self, header: Json, say: Callable[[str], None]) -> Iterator[Journal]:
        """The journal, at its end: a new one with its header, or that of the run that is resumed.

        Raises:
            JournalError: as for :meth:`RunFolder.held`; the journal is damaged; or, within the context, no file can be
                written, for want of room, say.
        """
        with self.held(header, say) as descriptor, self._told():
            journal = Journal(descriptor, self.header_path)
            if self.resumed:
                journal.take_up()
            else:
                journal.write({"header": header, WRITER: _writer()})
            yield journal

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Says what to do where no file can be written."""
        try:
            yield
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            where = error.filename or self.path
            raise JournalError(
                f"{where} cannot be written: {error.strerror}. Answers that are in {self.header_path} are kept; when "
                f"there is room, --resume {self.path} goes on with them"
            ) from error


def read_journal(path: Path) -> tuple[Json, tuple[Record, ...]]:
    """The header and the records of a run that may be going on.

    Raises:
        JournalError: the file is no journal, or damaged.
    """
    tail = JournalTail(path)
    return tail.header, tuple(record for record, _ in tail.records() if record is not None)


class Journal:
    """Writes records into an open file: of each question and sample exactly one.

    Args:
        descriptor: of the file, open for appending.
        path: of the same file, to read what an earlier run wrote.

    Attributes:
        known: the records of the run that is resumed.
        tally: what all lines add up to so far.
    """

    def __init__(self, descriptor: int, path: Path):
        self._descriptor, self._path = descriptor, path
        self.known: tuple[Record, ...] = ()
        self.tally = Tally()
        self._keys: set[Key] = set()

    def take_up(self) -> None:
        """Reads what an earlier run wrote, drops a last line that was cut short, and says who goes on.

        Raises:
            JournalError: the journal is damaged.
        """
        tail, known = JournalTail(self._path), []
        for record, line in tail.records():
            self.tally.take(line)
            if record is not None:
                known.append(record)
        self.known, self._keys = tuple(known), {(r.property, r.sample) for r in known}
        os.ftruncate(self._descriptor, tail.offset)
        self.write({RESUMED: _writer()})

    def append(self, record: Record, worker: str = "") -> bool:
        """Adds one record, as :meth:`extend` does; False where its question and sample have one."""
        return bool(self.extend([record], worker))

    def extend(self, records: Iterable[Record], worker: str = "") -> list[Record]:
        """Adds records and waits until they are on the disk, once for all of them.

        A question and sample that has a record keeps it: another one, of work that was done twice, is left out.

        Args:
            worker: the name of who found them, where there are several.

        Returns:
            The records that were added.

        Raises:
            JournalError: they cannot be written; none of them is in the journal then.
        """
        added: dict[Key, Record] = {}
        for record in records:
            if (key := (record.property, record.sample)) not in self._keys:
                added.setdefault(key, record)
        more = {"at": _now()} | ({"worker": worker} if worker else {})
        self.write(*({"record": record.as_json()} | more for record in added.values()))
        self._keys |= added.keys()
        return list(added.values())

    def workers(self, alive: int) -> None:
        """Notes how many workers there are from now on."""
        self.write({WORKERS: alive, "at": _now()})

    def finish(self) -> None:
        """Says that nothing is left to do: the next run in this folder may start over."""
        self.write({FINISHED: True, "at": _now()})

    def write(self, *lines: Json) -> None:
        """Adds lines and waits until they are on the disk.

        Raises:
            JournalError: that fails; nothing of them is left in the file.
        """
        data = b"".join(json.dumps(line, allow_nan=False).encode() + b"\n" for line in lines)
        if not data:
            return
        before = os.fstat(self._descriptor).st_size
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
            os.fsync(self._descriptor)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, before)
            raise JournalError(
                f"{self._path} cannot be written: {error.strerror}. The {counted(len(self._keys), 'answer')} in it are "
                f"kept; when that is put right, --resume {self._path.parent} goes on with them"
            ) from error
        for line in lines:
            self.tally.take(line)


class JournalTail:
    """Reads a journal line by line, and later what has been added since.

    Attributes:
        header: of the run.
        offset: the bytes that have been read: whole lines alone.

    Raises:
        JournalError: the file is no journal, or damaged; from each method, too.
    """

    def __init__(self, path: Path):
        self._path, self.offset, self._number = path, 0, 0
        self._keys: set[Key] = set()
        first = next(_complete(path), b"")
        if not first and path.stat().st_size:
            raise JournalError(f"{path} was cut short within its first line: that run answered nothing; start it anew")
        found = self._parsed(first, 1).get("header") if first else None
        if not isinstance(found, dict):
            raise JournalError(f"{path} does not begin with a header: it is no journal of tfcert")
        self.header: Json = found

    def more(self) -> Iterator[Json]:
        """The lines that were completed since the last call: at first all, the header's among them."""
        for line in _complete(self._path, self.offset):
            found = self._parsed(line, self._number + 1)
            self.offset += len(line)
            self._number += 1
            yield found

    def records(self) -> Iterator[tuple[Record | None, Json]]:
        """The lines since the last call, with the records that they hold."""
        for line in self.more():
            record = None
            if "record" in line:
                record = self._record(line["record"])
                if (key := (record.property, record.sample)) in self._keys:
                    raise self._damaged(f"a second answer to {key[0]}, sample {key[1]}")
                self._keys.add(key)
            elif not line.keys() & {"header", RESUMED, WORKERS, FINISHED}:
                raise self._damaged("no record")
            yield record, line

    def _record(self, flat: Json) -> Record:
        try:
            return Record.from_json(flat)
        except (KeyError, ValueError, TypeError) as error:
            raise self._damaged(f"no record ({error!r})") from None

    def _parsed(self, line: bytes, number: int) -> Json:
        try:
            value = json.loads(line)
        except ValueError:
            raise JournalError(f"{self._path}, line {number}: this is no JSON; the journal is damaged") from None
        if not isinstance(value, dict):
            raise JournalError(f"{self._path}, line {number}: an object was expected; the journal is damaged")
        return value

    def _damaged(self, what: str) -> JournalError:
        return JournalError(f"{self._path}, line {self._number}: this is {what}; the journal is damaged")


def _complete(path: Path, offset: int = 0) -> Iterator[bytes]:
    """The lines from a place on that end in a newline."""
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if line.endswith(b"\n"):
                yield line


def _now() -> float:
    return round(time.time(), 3)


def _writer() -> Json:
    """Names this process, for readers on other machines too."""
    return {"pid": os.getpid(), "host": socket.gethostname(), "at": _now()}
