"""A claim of a paper and what answers it, a part of it that is open, and a paper as a list of them."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.papers import NAMES
from benchmarks.papers.records import NotStored, reading


@dataclass(frozen=True)
class Open:
    """What of a claim is not measured yet, and how it would be.

    Attributes:
        what: in words.
        command: one or several, as of a line.
        seconds: that it would take on two cores; None where nothing can say (data or a program that is not there).
        largest: the largest size that ran; a sentence that says why where none did.
        until: whether it is measured by now.
    """

    what: str
    command: str | Sequence[str]
    seconds: float | None
    largest: str | Callable[[], str]
    until: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class Line:
    """One claim.

    Attributes:
        where: in the paper: table, figure, section, text.
        claim: in our words.
        printed: the paper's figures.
        measured: what is found here: a function that computes each figure from the stored records, or a sentence
            without figures of ours where a test or the paper's own pages answer it, or "" where all of it is open.
        command: what measures it, without ``python -m``; several where one needs another's networks. "" where the
            paper's own pages answer it.
        note: what has to be known of it; holds no measured figure.
        open: what is not measured.
    """

    where: str
    claim: str
    printed: str = ""
    measured: Callable[[], str] | str = ""
    command: str | Sequence[str] = ""
    note: str = ""
    open: Sequence[Open] = ()

    @property
    def commands(self) -> tuple[str, ...]:
        return commands(self.command)

    @property
    def left(self) -> list[Open]:
        """What is open still."""
        return [part for part in self.open if not part.until()]

    def answered(self) -> tuple[str, dict[str, list[str]]]:
        """What is measured, "" where nothing is, and the records that it was read from, by file."""
        if isinstance(self.measured, str):
            return self.measured, {}
        with reading() as read:
            try:
                return self.measured(), read
            except NotStored:
                return "", {}

    @property
    def tables(self) -> set[str]:
        """The tables of the paper that the line is about, such as ``3`` or ``IV``."""
        named = re.findall(r"\btables? ((?:\w+, )*\w+)", self.where)
        return {word for part in named for word in part.split(", ") if re.fullmatch(r"\d+|[IVX]+", word)}

    def of_table(self, table: str) -> bool:
        """Whether the line is about a table."""
        return table in self.tables


@dataclass(frozen=True)
class Paper:
    """A paper, as a module of this folder gives it.

    Attributes:
        title: the heading of its section.
        source: who, where, when.
        holds: sentences that hold for every line.
        lines: its claims.
        after: what stands below the lines.
        tables: what is printed beside what is measured, cell by cell, as Markdown, by the table's number.
    """

    title: str
    source: str
    holds: str
    lines: Sequence[Line]
    after: Callable[[], str] = lambda: ""
    tables: dict[str, Callable[[], str]] = field(default_factory=dict)


def commands(some: str | Sequence[str]) -> tuple[str, ...]:
    """One command or several, as several."""
    return ((some,) if some else ()) if isinstance(some, str) else tuple(some)


def paper(name: str) -> Paper:
    """A paper by the name of its module; hyphens and underscores may be left out."""
    (module,) = (known for known in NAMES if known.replace("_", "") == re.sub("[-_]", "", name))
    return importlib.import_module(f"benchmarks.papers.{module}").PAPER


def papers() -> dict[str, Paper]:
    """Every paper by its module's name, in the order of the page."""
    return {name: paper(name) for name in NAMES}
