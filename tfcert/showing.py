"""Printing of results: a line of summary, and a short table of the first samples; never whole arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

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


def table(columns: Mapping[str, Any]) -> str:
    """Columns of one value a sample as text, with the sample's number: the first ``MOST_ROWS``, and how many are left.

    A column whose text is on the left is one of words.
    """
    count = len(next(iter(columns.values())))
    shown = min(count, MOST_ROWS)
    cells = {"sample": [str(i) for i in range(shown)]}
    cells |= {name: [cell(value) for value in list(values)[:shown]] for name, values in columns.items()}
    widths = {name: max(map(len, [name, *found])) for name, found in cells.items()}
    words = {name for name, values in columns.items() if any(isinstance(v, str) for v in list(values)[:shown])}

    def line(row: Mapping[str, str]) -> str:
        texts = (text.ljust(widths[n]) if n in words else text.rjust(widths[n]) for n, text in row.items())
        return "  ".join(texts).rstrip()

    lines = [line({name: name for name in cells})]
    lines += [line({name: found[i] for name, found in cells.items()}) for i in range(shown)]
    return "\n".join([*lines, *([f"... and {count - shown} more"] if count > shown else [])])


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
