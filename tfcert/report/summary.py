"""Records added up: counts and rates of a property, radii of a measure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tfcert.report.records import Record
from tfcert.verdict import NO_WORK, Guarantee, Outcome, Work


@dataclass(frozen=True)
class PropertySummary:
    """Counts of one property's records.

    ``correct`` counts samples whose unperturbed input satisfies the formula; ``guarantees`` is every level that a
    decided verdict rests on, strongest first; ``existential`` says that the question is about some input;
    ``abstraction`` names what the classifier stands behind; ``labelled`` says that the formula is about the samples'
    labels, so that shares are accuracies; ``asked`` is how many samples there are, 0 for those with a record; ``work``
    is that of all stages on all samples.
    """

    name: str
    total: int
    correct: int
    outcomes: dict[Outcome, int]
    guarantees: tuple[str, ...]
    seconds: float
    existential: bool = False
    abstraction: str = ""
    labelled: bool = True
    asked: int = 0
    work: Work = NO_WORK

    def rate(self, count: int) -> float:
        """A share of the samples; NaN without any."""
        return count / self.total if self.total else float("nan")

    @property
    def nominal_accuracy(self) -> float:
        return self.rate(self.correct)

    @property
    def verified_accuracy(self) -> float:
        """The share of samples with a proof or, where the question is about some input, with a witness."""
        return self.rate(self.outcomes[Outcome.VERIFIED])

    @property
    def attack_accuracy(self) -> float:
        """The share of samples that no witness refutes: an upper end of the true robust accuracy.

        NaN where the question is about some input, which no witness refutes.
        """
        return float("nan") if self.existential else self.rate(self.total - self.outcomes[Outcome.FALSIFIED])


@dataclass(frozen=True)
class MeasureSummary:
    """Results of a measure: the proven values and, where a witness exists, the refuted ones.

    Of a smallest radius these are a lower bound and the distance of a witness. ``width`` is that of the values' range
    in the same space, NaN where it is not known; ``work`` is that of all stages on all samples. Of distances to another
    class, ``distance`` is the way that they are measured (``tfcert.catalog.DISTANCES``) and ``estimated`` numbers that
    bound nothing; NaN where there are none. ``measures``, ``extremum`` and ``proof`` are as for ``Asked``.
    """

    name: str
    proven: np.ndarray
    refuted: np.ndarray
    guarantees: tuple[str, ...]
    seconds: float
    unit: str = ""
    existential: bool = False
    abstraction: str = ""
    asked: int = 0
    width: float = float("nan")
    work: Work = NO_WORK
    distance: str = ""
    estimated: np.ndarray | None = None
    measures: str = ""
    extremum: str = ""
    proof: str = "lower"

    @property
    def total(self) -> int:
        return len(self.proven)


def by_question(records: Iterable[Record]) -> dict[str, list[Record]]:
    """The records of each property and measure, by its name."""
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record.property, []).append(record)
    return found


def summarize_property(name: str, records: Iterable[Record]) -> PropertySummary:
    """Adds up the records of one property."""
    mine = [r for r in records if r.property == name]
    return PropertySummary(
        name=name,
        total=len(mine),
        correct=sum(clean_holds(r) for r in mine),
        outcomes={outcome: sum(r.outcome == outcome for r in mine) for outcome in Outcome},
        guarantees=_guarantees(mine),
        seconds=sum(r.verdict.seconds for r in mine),
        existential=any(r.asked.existential for r in mine),
        abstraction=_abstraction(mine),
        labelled=all(r.asked.labelled for r in mine),
        work=sum((r.verdict.work for r in mine), NO_WORK),
    )


def summarize_measure(name: str, records: Iterable[Record]) -> MeasureSummary:
    """Adds up the records of one measure; NaN where nothing is proven or no witness is known."""
    mine = [r for r in records if r.property == name and r.measured is not None]
    asked = {f"{r.asked.norm}, {r.asked.space} space" for r in mine if r.asked.norm}
    return MeasureSummary(
        name=name,
        proven=np.array([r.measured.lower for r in mine if r.measured], dtype=float),
        refuted=np.array([r.measured.upper for r in mine if r.measured], dtype=float),
        guarantees=_guarantees(mine),
        seconds=sum(r.verdict.seconds for r in mine),
        unit=asked.pop() if len(asked) == 1 else "",
        existential=any(r.asked.existential for r in mine),
        abstraction=_abstraction(mine),
        width=next((r.asked.width for r in mine), float("nan")),
        work=sum((r.verdict.work for r in mine), NO_WORK),
        distance=next((r.asked.distance for r in mine), ""),
        estimated=np.array([r.measured.estimate for r in mine if r.measured], dtype=float),
        measures=next((r.asked.measures for r in mine), ""),
        extremum=next((r.asked.extremum for r in mine), ""),
        proof=next((r.asked.proof for r in mine), "lower"),
    )


def clean_holds(record: Record) -> bool:
    """Tells whether the unperturbed input satisfies the formula."""
    return own_witness(record) == record.asked.existential


def own_witness(record: Record) -> bool:
    """Tells whether the unperturbed input breaks what is asked of all, or satisfies what is asked of some.

    Such witnesses are found by no stage but "clean".
    """
    return record.verdict.stage == "clean"


def _abstraction(records: list[Record]) -> str:
    """The abstraction that the classifier of a question stands behind."""
    return next((r.asked.abstraction for r in records), "")


def _guarantees(records: list[Record]) -> tuple[str, ...]:
    """The levels that decided verdicts rest on, strongest first; an open question rests on nothing."""
    levels = {r.verdict.guarantee for r in records}
    return tuple(str(level) for level in Guarantee if level in levels and level is not Guarantee.ESTIMATE)
