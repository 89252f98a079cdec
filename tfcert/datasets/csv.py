"""Tables of numbers in text files."""

from __future__ import annotations

import csv as csv_files
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tfcert.datasets.base import DatasetError, Samples, checked_samples


def csv(
    path: str | Path, *, x: str | int | Iterable[str | int] | None = None, label: str | int | None = None
) -> Samples:
    """Numbers separated by commas, one sample a line; a first line that is not numeric names the columns.

    Args:
        path: the file.
        x: the input columns, by name or number from 0; None for all but ``label``.
        label: the column of labels; None for none.

    Raises:
        DatasetError: a line that is not numbers, lines of different lengths, or an unknown column.
    """
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv_files.reader(file) if row]
    names = _header(rows[0]) if rows else []
    first = 1 if names else 0
    if len(rows) <= first:
        raise DatasetError(f"{path} has no samples")
    for row in rows[first:]:
        if len(row) != len(rows[0]) or not all(map(_is_number, row)):
            raise DatasetError(f"{path}: this line is not {len(rows[0])} numbers: {','.join(row)[:80]}")
    table = np.array([[float(cell) for cell in row] for row in rows[first:]])
    answer = None if label is None else _column(label, names, table.shape[1], path)
    inputs = [i for i in range(table.shape[1]) if i != answer]
    if x is not None:
        columns = (x,) if isinstance(x, str | int) else x
        inputs = [_column(column, names, table.shape[1], path) for column in columns]
    return checked_samples(table[:, inputs], None if answer is None else table[:, answer], str(path))


def csv_columns(path: str | Path, label: str | int | None = None) -> tuple[str, ...]:
    """The names of the input columns of a csv file, all but ``label``; none where its first line is numbers."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        names = _header(next((row for row in csv_files.reader(file) if row), []))
    if label is not None and names:
        del names[_column(label, names, len(names), path)]
    return tuple(names)


def _header(row: list[str]) -> list[str]:
    return [] if all(map(_is_number, row)) else [name.strip() for name in row]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _column(column: str | int, names: list[str], count: int, path: str | Path) -> int:
    if isinstance(column, str):
        if column not in names:
            raise DatasetError(f"{path} has no column {column!r}; it has {', '.join(names) or 'no names of columns'}")
        return names.index(column)
    if not 0 <= column < count:
        raise DatasetError(f"{path} has columns 0 to {count - 1}, not {column}")
    return int(column)
