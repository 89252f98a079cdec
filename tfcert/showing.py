"""Printing of results: a line of summary, and a short table of the first samples; never whole arrays."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

MOST_ROWS = 10
"""Samples that a table shows."""


def spread(values: Any) -> str:
    """The finite ones of some numbers: their median, and from where to where they go."""
    finite = np.asarray(values, np.float64)
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        return "-"
    low, high = finite.min(), finite.max()
    return f"{low:.4g}" if low == high else f"median {np.median(finite):.4g}, {low:.4g} to {high:.4g}"


def several(numbers: Any) -> str:
    """A number with six figures, or the first of several in brackets."""
    found = np.ravel(np.asarray(numbers, np.float64))
    shown = ", ".join(f"{number:.6g}" for number in found[:MOST_ROWS])
    return shown if not np.ndim(numbers) else f"[{shown}{', ...' if len(found) > MOST_ROWS else ''}]"


class ShownResult:
    """A result that is summed up in a line, its ``repr``; ``print`` and notebooks show a few samples below it.

    Rows are ``_numbered`` as what they are about, "" for no numbers; ``_most`` of them are shown.
    """

    _numbered: ClassVar[str] = "sample"
    _most: ClassVar[int] = MOST_ROWS

    def _columns(self) -> Mapping[str, Any]:
        """Columns of one value a sample; none where the line says it all."""
        return {}

    def __str__(self) -> str:
        columns = self._columns()
        return f"{self!r}\n{table(columns, self._numbered, self._most)}" if columns else repr(self)

    def _repr_html_(self) -> str:
        """What notebooks show."""
        columns = self._columns()
        rows = html_table(columns, self._numbered, self._most) if columns else ""
        return f"<p>{html.escape(repr(self))}</p>{rows}"


def table(columns: Mapping[str, Any], numbered: str = "sample", most: int = MOST_ROWS) -> str:
    """Columns of one value a sample as text, with the sample's number: the first rows, and how many are left.

    A column whose text is on the left is one of words.
    """
    cells, left = _first_rows(columns, numbered, most)
    widths = {name: max(map(len, [name, *found])) for name, found in cells.items()}
    words = _words(columns)

    def line(row: Mapping[str, str]) -> str:
        texts = (text.ljust(widths[n]) if n in words else text.rjust(widths[n]) for n, text in row.items())
        return "  ".join(texts).rstrip()

    lines = [line({name: name for name in cells})]
    lines += [line({name: found[i] for name, found in cells.items()}) for i in range(_height(cells))]
    return "\n".join([*lines, *([left] if left else [])])


def html_table(columns: Mapping[str, Any], numbered: str = "sample", most: int = MOST_ROWS) -> str:
    """The same as HTML."""
    (cells, left), words = _first_rows(columns, numbered, most), _words(columns)

    def line(row: Mapping[str, str], tag: str) -> str:
        sides = {name: "left" if name in words else "right" for name in row}
        return "".join(f'<{tag} style="text-align: {sides[n]}">{html.escape(text)}</{tag}>' for n, text in row.items())

    rows = [line({n: found[i] for n, found in cells.items()}, "td") for i in range(_height(cells))]
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    more = f"<p>{left}</p>" if left else ""
    return f"<table><thead><tr>{line({n: n for n in cells}, 'th')}</tr></thead><tbody>{body}</tbody></table>{more}"


def _height(cells: Mapping[str, list[str]]) -> int:
    return len(next(iter(cells.values())))


def _first_rows(columns: Mapping[str, Any], numbered: str, most: int) -> tuple[dict[str, list[str]], str]:
    """The cells of the rows that are shown, and how many are left, in words."""
    count = len(next(iter(columns.values())))
    shown = min(count, most)
    cells = {numbered: [str(i) for i in range(shown)]} if numbered else {}
    cells |= {name: [cell(value) for value in list(values)[:shown]] for name, values in columns.items()}
    return cells, f"... and {count - shown} more" if count > shown else ""


def _words(columns: Mapping[str, Any]) -> set[str]:
    """The columns of words."""
    return {name for name, values in columns.items() if any(isinstance(v, str) for v in list(values)[:MOST_ROWS])}


def cell(value: Any) -> str:
    """A number with four figures, a dash where there is none; truth values as yes and no."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        return "-" if math.isnan(value) else f"{value:.4g}"
    return str(value)


def counted(number: int, thing: str, things: str = "") -> str:
    """``1 sample``, ``2 samples``, and ``2 properties`` where the plural is given."""
    return f"{number} {thing if number == 1 else things or thing + 's'}"
