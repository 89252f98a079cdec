"""Judgements, from the specification's text and the journal's records."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfcert.driver.judge import gather_results, judge
from tfcert.errors import UsageError
from tfcert.language import SpecError, load
from tfcert.report.records import Json, Record
from tfcert.verdict import Guarantee


class _MoreIsNeededError(Exception):
    """A judgement rests on more than the journal holds."""


def judgements(header: Json, records: Sequence[Record]) -> list[Json] | None:
    """What assertions and questions come to; None where the journal does not say all that this takes.

    That is so where an assertion asks which samples a model classifies right, a specification imports others, or a
    solver's word was retracted.
    """
    given = header.get("given", {})
    if any(r.verdict.contradicted is Guarantee.SOLVER for r in records):
        return None
    try:
        spec = load(header["spec_text"], params=given.get("params"), bound=tuple(given.get("bindings") or ()))
        found = judge(spec, gather_results(spec, records, _unknown))
    except (SpecError, UsageError, _MoreIsNeededError):
        return None
    return [{"text": judged.text, "judgement": judged.judgement} for judged in found]


def _unknown(model: str, dataset: str) -> tuple[np.ndarray, np.ndarray]:
    raise _MoreIsNeededError(f"{model} on {dataset}")
