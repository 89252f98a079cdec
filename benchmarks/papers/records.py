"""Stored results as the papers' lines read them: every reading is noted, so that a figure names its record.

Figures are written by ``span``, ``joined`` and ``percent``. ``radii`` and ``runs`` read the single experiments.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.common import data

_READ: ContextVar[dict[str, list[str]] | None] = ContextVar("read", default=None)


class NotStored(LookupError):  # noqa: N818 - an answer rather than an error: the line is open
    """A result that is asked for is not stored."""


def path(name: str) -> Path:
    """The file of a record such as ``radius/radius``: ``radius/results/radius.json`` in the folder of results."""
    experiment, _, file = name.partition("/")
    return data.results() / experiment / "results" / f"{file}.json"


def load(name: str) -> Any:
    """A record as it is stored, without noting it.

    Raises:
        NotStored: there is no such file.
    """
    file = path(name)
    if not file.exists():
        raise NotStored(name)
    return _parsed(file, file.stat().st_mtime_ns)


@cache
def _parsed(file: Path, _: int) -> Any:
    return json.loads(file.read_text())


def note(name: str, key: str) -> None:
    """Notes that a part of a record was read."""
    read = _READ.get()
    if read is not None and key not in read.setdefault(name, []):
        read[name].append(key)


@contextmanager
def reading() -> Iterator[dict[str, list[str]]]:
    """Collects what is noted meanwhile: keys by record."""
    read: dict[str, list[str]] = {}
    token = _READ.set(read)
    try:
        yield read
    finally:
        _READ.reset(token)


def stored(some: Callable[[], object]) -> bool:
    """Whether a reading finds everything that it asks for; nothing is noted."""
    with reading():
        try:
            some()
        except NotStored:
            return False
    return True


def found(some: Iterable[Callable[[], Any]]) -> list[Any]:
    """The values of those readings that find what they ask for.

    Raises:
        NotStored: none does.
    """
    values = []
    for each in some:
        try:
            values.append(each())
        except NotStored:
            continue
    if not values:
        raise NotStored("nothing of it is stored")
    return values


def at(values: Sequence[Any], index: int) -> Any:
    """A value of a curve, such as after an epoch.

    Raises:
        NotStored: the curve ends before it.
    """
    if not -len(values) <= index < len(values):
        raise NotStored(f"{index} of {len(values)}")
    return values[index]


def span(values: Iterable[float], form: str = "{:.1f}", unit: str = "") -> str:
    """The least and the most: ``+1.6 to +3.3%``; one figure where they are written alike."""
    some = list(values)
    if not some:
        raise NotStored("nothing of it is stored")
    least, most = form.format(min(some)), form.format(max(some))
    return f"{least}{unit}" if least == most else f"{least} to {most}{unit}"


def joined(values: Sequence[float], form: str = "{:.1f}", unit: str = "") -> str:
    """Every value: ``+20, +24 and +23%``."""
    *most, last = (form.format(value) for value in values)
    return f"{', '.join(most)} and {last}{unit}" if most else f"{last}{unit}"


def percent(share: float, digits: int = 1) -> str:
    """A share as a percentage: ``25.2%``."""
    return f"{100 * share:.{digits}f}%"
