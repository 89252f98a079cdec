"""Records as rows of a table: numbers and words alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tfcert.errors import UsageError
from tfcert.report.records import Json, Record


def flat_records(records: Iterable[Record]) -> list[Json]:
    """Records as rows, as :func:`flat_record` makes them."""
    return [flat_record(record) for record in records]


def flat_record(record: Record) -> Json:
    """A record as ``result.json`` holds it, of numbers and words alone.

    What stages did has a column for each kind of work; of a witness's runs there is whether all of them agree.
    """
    flat = record.as_json()
    flat |= {f"work_{kind}": amount for kind, amount in flat.pop("work").items()}
    replayed = flat.pop("replayed")
    return flat | {"replays_agree": None if replayed is None else replayed["agree"]}


def data_frame(records: Iterable[Record]) -> Any:
    """A ``pandas.DataFrame`` with a row for each record.

    Raises:
        UsageError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise UsageError("data frames need pandas: pip install pandas") from None
    return pandas.DataFrame(flat_records(records))
