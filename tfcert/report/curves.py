"""The log of a training as curves: what is held out, after each epoch."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

COLUMNS = {"nominal": "val_nominal_accuracy", "attack": "val_attack_accuracy", "verified": "val_verified_accuracy"}
"""The columns of a log that hold what is known of the held-out samples."""


@dataclass(frozen=True)
class Curves:
    """Values after each of ``epochs`` (from 1): NaN where nothing was measured.

    Attributes:
        nominal, attack, verified: accuracies of the held-out samples.
        eps: the radius of training in the epoch's last step, in the space of training.
        constant: 1 where every batch got one class for all of its samples, though labels differ.
    """

    epochs: tuple[int, ...]
    nominal: tuple[float, ...]
    attack: tuple[float, ...]
    verified: tuple[float, ...]
    eps: tuple[float, ...]
    constant: tuple[float, ...] = ()

    def __getitem__(self, name: str) -> tuple[float, ...]:
        """A curve by its name."""
        values: tuple[float, ...] = getattr(self, name)
        return values

    def last(self, name: str) -> float:
        """The last known value of a curve; NaN if there is none."""
        return next((value for value in reversed(self[name]) if not math.isnan(value)), math.nan)


def read_curves(path: Path) -> Curves:
    """Reads the log that Keras's ``CSVLogger`` wrote.

    Of an epoch that stands in it twice, because a run was killed and went on, the last row counts.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = {int(row["epoch"]) + 1: row for row in csv.DictReader(file) if _complete(row)}
    epochs = tuple(sorted(rows))

    def column(key: str) -> tuple[float, ...]:
        return tuple(_number(rows[e].get(key)) for e in epochs)

    curves = {name: column(key) for name, key in COLUMNS.items()}
    return Curves(epochs=epochs, eps=column("eps"), constant=column("constant"), **curves)


def _complete(row: dict[str, str | None]) -> bool:
    """Tells whether a row was written to its end, and is no header that a later run wrote again."""
    return None not in row.values() and str(row["epoch"]).isdigit()


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan
