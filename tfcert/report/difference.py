"""Two results of the same questions, before and after a model changed: which verdicts are others now, and how."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from tfcert.errors import UsageError
from tfcert.report.changes import DIRECTIONS, MOST_CHANGES, Change, QuestionChange, changes_table, questions_table
from tfcert.report.records import Json, Record
from tfcert.report.stored import StoredResult, read_result
from tfcert.report.table import as_html, render
from tfcert.showing import counted
from tfcert.verdict import PROOFS, Outcome

TOLERANCE = 0.01
"""A certified radius, or a proven share, that fell by no more than this part of itself did not get worse."""
_SAME = {
    "spec_sha256": "the specification is another one",
    "objective": "the objective is another one",
    "params": "the parameter {} was {} and is now {}",
    "data_sha256": "the samples of {} are others (values, labels or order)",
    "masks_sha256": "the mask {} is another one",
    "preprocessing": "{} has another preprocessing",
    "abstractions": "{} is about another abstraction",
}
"""Keys of headers that make up the questions, and what is said where they differ."""
_TOLD = {
    "weights_sha256": "another model: {}",
    "tfcert": "another version of tfcert",
    "rounding": "another rounding is taken into account",
}
"""Keys that may differ, and what a reader is told."""
_RANKS = {Outcome.VERIFIED: 2, Outcome.UNKNOWN: 1, Outcome.TIMEOUT: 1, Outcome.FALSIFIED: 0}
_JUDGEMENTS = ("fail", "inconclusive", "pass")


class DiffCode(IntEnum):
    """What ``tfcert diff`` exits with."""

    NOTHING_WORSE = 0
    WORSE = 1
    NOT_COMPARABLE = 2


@dataclass(frozen=True)
class RunDifference:
    """What changed between two results of the same questions.

    Attributes:
        old, new: the files.
        changes: one for each answer that changed, the worse ones first.
        questions: one for each property and measure.
        judged: assertions whose judgement changed: text, old and new.
        notes: sentences on what else differs (the model, versions).
    """

    old: Path
    new: Path
    changes: tuple[Change, ...]
    questions: tuple[QuestionChange, ...]
    judged: tuple[tuple[str, str, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def worse(self) -> bool:
        """Tells whether an answer got worse or is gone, or an assertion is judged worse."""
        judged = any(_JUDGEMENTS.index(new) < _JUDGEMENTS.index(old) for _, old, new in self.judged)
        return judged or any(change.direction in ("worse", "gone") for change in self.changes)

    @property
    def exit_code(self) -> DiffCode:
        return DiffCode.WORSE if self.worse else DiffCode.NOTHING_WORSE

    def as_json(self) -> Json:
        """As ``tfcert diff --json`` writes it."""
        return {
            "old": str(self.old),
            "new": str(self.new),
            "exit_code": int(self.exit_code),
            "questions": [question.as_json() for question in self.questions],
            "judged": [{"text": text, "old": old, "new": new} for text, old, new in self.judged],
            "changes": [change.as_json() for change in self.changes],
            "notes": list(self.notes),
        }

    def parts(self, most: int = MOST_CHANGES) -> list[RenderableType]:
        """The parts that a terminal shows: questions, at ``most`` so many changes, assertions, notes."""
        parts: list[RenderableType] = [questions_table(self.questions)]
        if self.changes and most:
            parts.append(changes_table(self.changes[:most]))
        left = len(self.changes) - min(most, len(self.changes))
        if left:
            parts.append(Text(f"and {left} more: --all shows them", "dim"))
        parts += [Text(f"{text}: {old} -> {new}", "bold") for text, old, new in self.judged]
        return [*parts, *(Text(f"note: {note}", "dim") for note in self.notes)]

    def last_line(self) -> str:
        """The conclusion in one sentence."""
        compared = counted(sum(q.compared for q in self.questions), "answer")
        word = "something got worse" if self.worse else "nothing got worse"
        said = self._counts() or "no answer changed"
        return f"{word} (exit code {int(self.exit_code)}): {said}; {compared} compared"

    def _counts(self) -> str:
        counts = {d: n for d in DIRECTIONS if (n := sum(c.direction == d for c in self.changes))}
        return ", ".join(f"{n} {d}" for d, n in counts.items())

    def __repr__(self) -> str:
        """One line; ``print`` shows the tables."""
        return f"{type(self).__name__}: {self._counts() or 'nothing changed'}"

    def __str__(self) -> str:
        return "\n".join(filter(None, [render(self.parts()), self.last_line()]))

    def _repr_html_(self) -> str:
        """What notebooks show: the tables that ``print`` shows, in colour."""
        return as_html([*self.parts(), Text(self.last_line())])


def diff(old: str | Path, new: str | Path, *, tolerance: float = TOLERANCE) -> RunDifference:
    """Compares two results of the same questions: before and after retraining, pruning, or a new version.

    Args:
        old, new: folders of runs, or their ``result.json``.
        tolerance: a certified radius, or a proven share of volume, that fell by no more than this part of itself did
            not get worse.

    Returns:
        What changed. An answer is worse if less is known to hold than before: ``verified`` is above ``unknown`` and
        ``timeout``, these above ``falsified``; a weaker guarantee is worse, and so is an answer that is gone. Margins
        are told and not judged, values of formulas and smallest radii as well.

    Raises:
        UsageError: one cannot be read, or they are about other questions; says what differs.
    """
    if not 0 <= tolerance < 1:
        raise UsageError(f"the tolerance is a part of what was proven, at least 0 and below 1, not {tolerance!r}")
    before, after = read_result(old), read_result(new)
    _require_same_questions(before, after)
    first, second = before.by_question(), after.by_question()
    keys = list(dict.fromkeys([*second, *first]))
    changes = [change for key in keys for change in _changes(first.get(key), second.get(key), tolerance)]
    names = list(dict.fromkeys(name for name, _ in keys))
    questions = tuple(_question(name, first, second, [c for c in changes if c.property == name]) for name in names)
    changes.sort(key=lambda c: DIRECTIONS.index(c.direction))
    judged, notes = _judged(before, after), _notes(before, after)
    return RunDifference(before.path, after.path, tuple(changes), questions, judged, notes)


def _require_same_questions(old: StoredResult, new: StoredResult) -> None:
    """Raises a UsageError where two results are about other questions."""
    said = [sentence for key in _SAME for sentence in _differences(key, old.header.get(key), new.header.get(key))]
    if "properties" in old.header and "properties" in new.header:
        before, after = old.header["properties"], new.header["properties"]
        said += [f"{name} asks something else" for name in before if name in after and before[name] != after[name]]
        for these, others, word in ((before, after, "is gone"), (after, before, "is new")):
            said += [f"{name} {word}" for name in these if name not in others]
    if ("spec_sha256" in old.header) != ("spec_sha256" in new.header):
        said = ["one is of a specification, and the other one is not"]
    if said:
        told = "; ".join(said)
        raise UsageError(f"{old.path} and {new.path} cannot be compared, since they answer other questions: {told}")


def _differences(key: str, old: Any, new: Any) -> Iterator[str]:
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys([*old, *new]):
            if old.get(name) != new.get(name):
                yield _SAME[key].format(name, old.get(name, "not given"), new.get(name, "not given"))
    else:
        yield _SAME[key].format("something", old, new)


def _changes(old: Record | None, new: Record | None, tolerance: float) -> Iterator[Change]:
    """What changed of one question about one sample: nothing or one thing."""
    some = new or old
    assert some is not None
    key = some.property, some.sample
    if old is None or new is None:
        direction = "new" if old is None else "gone"
        yield Change(*key, direction, "outcome", _said(old), _said(new))
    elif old.outcome != new.outcome:
        better = _RANKS[new.outcome] - _RANKS[old.outcome]
        yield Change(*key, _direction(better), "outcome", str(old.outcome), str(new.outcome))
    elif old.measured is not None and new.measured is not None and (change := _measured(old, new, tolerance)):
        yield Change(*key, *change)
    elif old.verdict.guarantee in PROOFS and new.verdict.guarantee in PROOFS:
        levels = [PROOFS.index(record.verdict.guarantee) for record in (old, new)]  # type: ignore[arg-type]
        if levels[0] != levels[1]:
            said = str(old.verdict.guarantee), str(new.verdict.guarantee)
            yield Change(*key, _direction(levels[0] - levels[1]), "guarantee", *said)


def _direction(better: float) -> str:
    return "better" if better > 0 else "worse" if better < 0 else "changed"


def _said(record: Record | None) -> str:
    return "" if record is None else str(record.outcome)


def _measured(old: Record, new: Record, tolerance: float) -> tuple[str, str, str, str] | None:
    """The change of a measure's answer: of a radius or share by what is proven, of others that it is another one."""
    assert old.measured is not None and new.measured is not None
    asked = new.asked
    if asked.measures == "value" or asked.existential or not math.isnan(new.measured.estimate):
        before, after = (_ends(record) for record in (old, new))
        what = "value" if asked.measures == "value" else "estimate" if asked.distance else "radius"
        return None if before == after else ("changed", what, before, after)
    proven = [0.0 if math.isnan(r.measured.lower) else r.measured.lower for r in (old, new) if r.measured]
    if abs(proven[1] - proven[0]) <= tolerance * abs(proven[0]):
        return None
    what = "share" if asked.measures == "share" else "radius"
    return _direction(proven[1] - proven[0]), what, *(f"{value:.6g}" for value in proven)  # type: ignore[return-value]


def _ends(record: Record) -> str:
    measured = record.measured
    assert measured is not None
    if not math.isnan(measured.estimate):
        return f"{measured.estimate:.6g}"
    return " to ".join("?" if math.isnan(end) else f"{end:.6g}" for end in (measured.lower, measured.upper))


def _question(
    name: str,
    old: Mapping[tuple[str, int], Record],
    new: Mapping[tuple[str, int], Record],
    changes: Sequence[Change],
) -> QuestionChange:
    both = [(old[key], new[key]) for key in old if key in new and key[0] == name]
    outcomes: dict[str, int] = {}
    for before, after in both:
        if before.outcome != after.outcome:
            said = f"{before.outcome} -> {after.outcome}"
            outcomes[said] = outcomes.get(said, 0) + 1
    counts = {d: sum(c.direction == d for c in changes) for d in DIRECTIONS}
    proven = np.array([(a.verdict.margin, b.verdict.margin) for a, b in both if _has_margin(a) and _has_margin(b)])
    margins = (float(np.median(proven[:, 0])), float(np.median(proven[:, 1]))) if len(proven) else None
    lowest = max(0.0, float((proven[:, 0] - proven[:, 1]).max())) if len(proven) else 0.0
    lower = np.array([(a.measured.lower, b.measured.lower) for a, b in both if a.measured and b.measured])
    lower = np.nan_to_num(lower, nan=0.0)
    radii = (float(np.median(lower[:, 0])), float(np.median(lower[:, 1]))) if len(lower) else None
    return QuestionChange(name, len(both), counts, outcomes, margins, lowest, radii)


def _has_margin(record: Record) -> bool:
    """Tells whether a record has a proof's margin; one of a measure's search is of no region that both were asked."""
    return record.verdict.guarantee in PROOFS and math.isfinite(record.verdict.margin) and record.measured is None


def _judged(old: StoredResult, new: StoredResult) -> tuple[tuple[str, str, str], ...]:
    """The assertions that are judged otherwise now."""
    before, after = ({j["text"]: j["judgement"] for j in run.header.get("judged", [])} for run in (old, new))
    return tuple((text, before[text], word) for text, word in after.items() if before.get(text, word) != word)


def _notes(old: StoredResult, new: StoredResult) -> tuple[str, ...]:
    notes = [f"{run.path} is of an interrupted run" for run in (old, new) if not run.complete]
    for key, said in _TOLD.items():
        before, after = old.header.get(key), new.header.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            each = [name for name in {**before, **after} if before.get(name) != after.get(name)]
            notes += [said.format(", ".join(each))] if each else []
        elif before != after:
            notes.append(f"{said.format('?')}: {before} and {after}")
    if old.header.get("weights_sha256") == new.header.get("weights_sha256"):
        notes.append("the model is the same in both")
    return tuple(notes)
