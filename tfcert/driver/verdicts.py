"""Verdicts: on the question as it was asked, of unperturbed samples, and where a proof meets a witness."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from tfcert.catalog import METHODS
from tfcert.driver.batch import replayed
from tfcert.driver.task import Task
from tfcert.errors import ContradictionError
from tfcert.language import AnyTemplate, ValueTemplate
from tfcert.options import options_of
from tfcert.report import Measured, Record
from tfcert.showing import counted
from tfcert.verdict import Because, Guarantee, Outcome, Reason, Verdict, reason_of

CLEAN = "clean"
"""The stage that runs the model on the unperturbed samples."""
_OPPOSITE = {Outcome.VERIFIED: Outcome.FALSIFIED, Outcome.FALSIFIED: Outcome.VERIFIED}


def as_asked(template: AnyTemplate, verdict: Verdict) -> Verdict:
    """The verdict on what was written, from that on the formula that was to be proven for all inputs.

    Where the question is about some input, a witness verifies it, a proof that there is none falsifies it, and the
    margin is that of the formula as written.
    """
    if not template.existential:
        return verdict
    margin = 0.0 - verdict.margin  # never a negative zero
    return replace(verdict, outcome=_OPPOSITE.get(verdict.outcome, verdict.outcome), margin=margin)


def clean_verdict(task: Task, place: int, margin: float) -> Verdict:
    """An unperturbed sample that already breaks the formula is its own witness."""
    assert task.centers is not None
    does = "satisfies the formula" if task.template.existential else "breaks the property"
    return Verdict(
        Outcome.FALSIFIED,
        Reason.CLEAN.because(does=does),
        stage=CLEAN,
        guarantee=Guarantee.REPLAYED,
        margin=margin,
        witness=task.centers[place],
    )


def recorded(task: Task, place: int, verdict: Verdict, measured: Measured | None = None) -> Verdict:
    """The verdict as it is recorded: with the runs on its witness, and why its level is less than what was asked for.

    Args:
        measured: of a measure, the ends of its answer, one of which the witness is about.
    """
    if verdict.witness is not None:
        one = task.take(np.array([place]))
        if isinstance(task.template, ValueTemplate) and measured is not None:
            one = one.at([Fraction(measured.lower if task.template.proof_above else measured.upper)])
        runs = replayed(one, verdict.witness)
        verdict = replace(verdict, replayed=runs)
        if not runs.agree:
            verdict = _more(verdict, Reason.ORDER.because(runs=runs))
    return marked_down(task.model.network, task.template.strategy.rounding, verdict)


def marked_down(network: Any, rounding: str | None, verdict: Verdict) -> Verdict:
    """The verdict with the reason why a proof is `numeric` although rounding was to be bounded, where that is so.

    Args:
        network: that the proof is about, a ``tfcert.Network``.
        rounding: what was asked for, as for :func:`~tfcert.options.options_of`.
    """
    from tfcert.propagation.supported import not_charged, not_supported

    options = options_of(rounding)
    if verdict.guarantee is not Guarantee.NUMERIC or options.rounding == "ignore":
        return verdict
    if verdict.method in METHODS:
        what = not_charged(network, verdict.method, verdict.relaxation or None, options)
    else:
        what = not_supported(network)
    what = what or f"{verdict.stage} does not bound the rounding of this question"
    return _more(verdict, Reason.MARKED_DOWN.because(level=verdict.guarantee, what=what))


def _more(verdict: Verdict, said: Because) -> Verdict:
    """The verdict with one reason more; the first one keeps its name."""
    if not verdict.reason:
        return replace(verdict, reason=said)
    more = getattr(verdict.reason, "more", None)
    return verdict if more is None else replace(verdict, reason=more(f"; {said}"))


def refuted(task: Task, place: int, proof: str, guarantee: Guarantee | None, refutation: Verdict) -> Verdict:
    """The verdict where a proof meets a witness that replays: the witness's, and whose word was wrong.

    Args:
        proof: what was proven and by whom, as the beginning of a sentence.
        guarantee: of the proof.

    Raises:
        ContradictionError: the proof claimed that rounding cannot undo it.
    """
    if guarantee not in _MAY_ERR:
        raise ContradictionError(
            f"{task.name}, sample {task.samples[place]}: {proof}, by guarantee `{guarantee}`, yet a witness replays on "
            f"the original model. This is a bug in tfcert: no verdict of this run can be relied on. Please report it."
        )
    reason = Reason.REFUTED.because(proof=proof, meaning=_MAY_ERR[guarantee])
    return replace(refutation, reason=reason, contradicted=guarantee)


_MAY_ERR = {
    Guarantee.REAL: "the proof's guarantee is `real`, which is about exact arithmetic, and the model rounds",
    Guarantee.NUMERIC: "the proof's guarantee is `numeric`, which estimates rounding and does not bound it",
    Guarantee.SOLVER: "the solver's word was wrong",
}


def reconciled(records: Sequence[Record]) -> tuple[tuple[Record, ...], list[str]]:
    """The records of a run without what a solver proved whose word was wrong about another sample; and what to say of
    proofs that witnesses refuted."""
    against = [r for r in records if r.verdict.contradicted is not None]
    lied = [r for r in against if r.verdict.contradicted is Guarantee.SOLVER]
    notes = [
        f"{'proof' if len(some) == 1 else 'proofs'} refuted by a witness: {len(some)} ({_places(some)}); {meaning}"
        for some, meaning in (
            ([r for r in against if r not in lied], f"{_MAY_ERR[Guarantee.NUMERIC]}. Margins larger than rounding can "
             "explain would be a bug in tfcert: please report them"),
            (lied, "the solver's word was wrong, so whatever else rests on it is unknown. Have another solver confirm "
             "it: `milp(confirm=...)`"),
        )
        if some
    ]  # fmt: skip
    if not lied:
        return tuple(records), notes
    reason = Reason.RETRACTED.because(places=_places(lied))
    return tuple(_open(r, reason) if r.verdict.guarantee is Guarantee.SOLVER else r for r in records), notes


def advice(records: Iterable[Record]) -> list[str]:
    """Sentences that say what to do about verdicts that stay open: one for each reason, the most frequent first."""
    reasons = Counter(reason_of(r.verdict.reason) for r in records if r.outcome in (Outcome.UNKNOWN, Outcome.TIMEOUT))
    return [
        f"{counted(count, 'verdict')} open for the reason `{reason}`: {reason.advice}"
        for reason, count in reasons.most_common()
        if reason is not None and reason.advice
    ]


def _places(records: Sequence[Record]) -> str:
    return ", ".join(f"{r.property}[{r.sample}]" for r in records)


def _open(record: Record, reason: str) -> Record:
    """A record that proves nothing any more."""
    verdict = replace(record.verdict, outcome=Outcome.UNKNOWN, reason=reason, guarantee=Guarantee.ESTIMATE)
    measured = None if record.measured is None else replace(record.measured, lower=math.nan)
    return replace(record, verdict=replace(verdict, margin=math.nan), measured=measured)
