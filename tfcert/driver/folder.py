"""A run on disk: the folder that a new run begins in, and that an interrupted one goes on in.

The same for every kind of run: one run at a time writes into a folder; a run goes on only from what asked the same;
what an interrupted run left is moved out of the way of a new one, and what a finished one left is cleared away.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

from tfcert.driver.files import require_file_writable, require_writable
from tfcert.driver.header import IDENTITY, require_same
from tfcert.errors import JournalError, UsageError
from tfcert.report.records import Json

LOCK_TRIES, LOCK_SECONDS = 3, 0.05
"""How often a lock is asked for, and how long to wait in between."""


class RunFolder(ABC):
    """The folder of one run, and what an earlier run that it goes on from says of itself.

    Args:
        out: where a new run writes; None for the place that :meth:`settle` is given.
        resume: the folder of an interrupted run to go on with; None for a new run.

    Attributes:
        then: the header of the run that is resumed; None for a new one.

    Raises:
        UsageError: both are given.
        JournalError: there is nothing to resume.
    """

    header_file: ClassVar[str]
    """The file that the header is in. A run locks it."""
    kept_together: ClassVar[tuple[str, ...]]
    """The files and folders that an interrupted run needs to go on."""
    stale: ClassVar[tuple[str, ...]]
    """Patterns of what an earlier run left that would pass for a new one's."""

    def __init__(self, *, out: str | Path | None = None, resume: str | Path | None = None):
        if resume is not None and out is not None:
            raise UsageError("a resumed run writes where it was begun: give either resume or out")
        self._path = Path(resume or out or "") if resume or out else None
        self.then = None if resume is None else self._read_header()

    @abstractmethod
    def _header_in(self, path: Path) -> Json:
        """The header in a file that is there; raises a JournalError for one that cannot be resumed."""

    @abstractmethod
    def _unfinished(self) -> str:
        """Names what an interrupted run left in the folder, in words; "" where there is nothing to go on with."""

    @property
    def path(self) -> Path:
        """The folder, once it is known."""
        assert self._path is not None
        return self._path

    @property
    def header_path(self) -> Path:
        """The file that the header is in."""
        return self.path / self.header_file

    @property
    def resumed(self) -> bool:
        """True for a run that goes on with what is in the folder."""
        return self.then is not None

    def _read_header(self) -> Json:
        if not self.header_path.is_file():
            there = self.path.is_dir()
            what = f"{self.path} has no {self.header_file}" if there else f"there is no folder {self.path}"
            raise JournalError(f"{what}: nothing to resume")
        return self._header_in(self.header_path)

    def require_same(self, now: Json, *keys: str) -> None:
        """Checks that a resumed run asks what the earlier one did, by some keys of their headers.

        Raises:
            JournalError: it does not; says what differs, old and new.
        """
        if self.then is not None:
            require_same(self.header_path, self.then, now, keys)

    def settle(self, default: Path) -> None:
        """Takes a folder where none was given.

        Raises:
            UsageError: files cannot be written into it.
        """
        self._path = self._path or default
        require_writable(self.path)
        if self.header_path.exists():
            require_file_writable(self.header_path)

    @contextlib.contextmanager
    def held(self, header: Json, say: Callable[[str], None]) -> Iterator[int]:
        """The folder for this run alone, with room for a new run, or with what a resumed one goes on from.

        Args:
            header: of this run, complete.
            say: takes a sentence on where an interrupted run's results were moved.

        Yields:
            The descriptor of the header's file, open for appending.

        Raises:
            JournalError: another run is writing there, or the run that is resumed asked something else.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if not self.resumed:
            while self._set_aside(say):
                pass
        with self._alone() as descriptor:
            if self.resumed:
                require_same(self.header_path, self._read_header(), header, IDENTITY)
            else:
                if os.fstat(descriptor).st_size and self._unfinished():
                    raise JournalError(f"another run has just written to {self.path}: choose another folder")
                os.ftruncate(descriptor, 0)
                for old in itertools.chain.from_iterable(map(self.path.glob, self.stale)):
                    old.unlink()
            yield descriptor

    def _set_aside(self, say: Callable[[str], None]) -> bool:
        """Moves what an interrupted run left into a folder of its own in there, and says how to go on with it."""
        if not self.header_path.is_file():
            return False
        with self._alone():
            left = self._unfinished()
            if not left:
                return False
            place = next(p for n in itertools.count(1) if not (p := self.path / f"interrupted-{n}").exists())
            place.mkdir()
            for name in self.kept_together:
                if (self.path / name).exists():
                    (self.path / name).rename(place / name)
        say(f"{left} moved to {place}; --resume {place} goes on with it")
        return True

    @contextlib.contextmanager
    def _alone(self) -> Iterator[int]:
        """The header's file open for appending, which keeps other runs from it until it is closed.

        Raises:
            JournalError: another run has it, or it cannot be locked.
        """
        path = self.header_path
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            if not _locked(path, descriptor):
                by = self._holder()
                raise JournalError(
                    f"another run is writing to {path}{f' ({by})' if by else ''}: wait for it, or choose another folder"
                )
            yield descriptor
        finally:
            os.close(descriptor)

    def _holder(self) -> str:
        """Names who writes into the folder, in words; "" where nothing says so."""
        return ""


def _locked(path: Path, descriptor: int) -> bool:
    """Takes the lock of an open file, and tells whether it is still the one at ``path``.

    A reader that asks whether a run is going on holds the lock for a moment: that is waited for.
    """
    for attempt in range(LOCK_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOCK_SECONDS if attempt + 1 < LOCK_TRIES else 0)
        except OSError as error:
            raise JournalError(
                f"{path} cannot be locked ({error.strerror}), so another run could write to it: choose a folder on a "
                "file system with locks"
            ) from error
        else:
            return path.exists() and os.path.samestat(os.fstat(descriptor), path.stat())
    return False


def being_written(path: Path) -> bool:
    """Tells whether a run holds a file: whether it is going on."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # a file system without locks, on which no run could begin
            return False
    return False
