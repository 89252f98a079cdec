"""One question about every sample, asked in batches and recorded; without a specification."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tfcert.clauses import strictly_right
from tfcert.driver.direct.request import Loaded, Request
from tfcert.driver.interrupts import Interrupts
from tfcert.driver.journal import Journal
from tfcert.driver.progress import Narrator
from tfcert.misfit import misfit, tiny_radius
from tfcert.report import Asked, ExitCode, Measured, Record
from tfcert.verdict import Verdict

Answers = list[tuple[Verdict, Measured | None]]
Decide = Callable[[Loaded, np.ndarray], Answers | Iterable[tuple[Verdict, Measured | None]]]
"""``(samples, which are classified right) -> a verdict and a measured value a sample``: a list where the batch is asked
as a whole, whose time is then shared out evenly; else each as it falls, with its own seconds."""


@dataclass(frozen=True)
class DirectQuestion:
    """A question that is asked of every sample, ``batch`` of them at a time."""

    name: str
    asked: Asked
    batch: int
    decide: Decide
    out: Path | None = None

    def run(self, loaded: Loaded, journal: Journal | None = None) -> tuple[tuple[Record, ...], bool]:
        """Records in the order of the samples, and whether they are all there: Ctrl-C keeps those that are.

        Args:
            journal: takes each record as it falls, and holds those of an earlier run, whose samples are left out.
        """
        records = {} if journal is None else {r.sample: r for r in journal.known}
        todo = np.array([i for i, place in enumerate(loaded.places.tolist()) if place not in records], int)
        with Narrator() as narrator:
            if journal is not None:
                narrator.follow(journal.tally)
            narrator.begin(self.name, len(loaded.x), len(records))
            interrupts = Interrupts(narrator.say)
            try:
                with interrupts.heard():
                    for first in range(0, len(todo), self.batch):
                        interrupts.between()
                        for record in self._decide(loaded, todo[first : first + self.batch]):
                            records[record.sample] = record
                            if journal is not None:
                                journal.append(record)
                            narrator.advance(record)
            except KeyboardInterrupt:
                narrator.say("interrupted: what was found is kept")
        return tuple(records[i] for i in sorted(records)), len(records) == len(loaded.x)

    def _decide(self, loaded: Loaded, places: np.ndarray) -> Iterator[Record]:
        """Records of one batch."""
        began, part = time.monotonic(), loaded.take(places)
        outputs = loaded.model.outputs(part.x)
        found, predictions = self.decide(part, strictly_right(outputs, part.y)), outputs.argmax(axis=1)
        even = (time.monotonic() - began) / len(places) if isinstance(found, list) else None
        for i, (verdict, measured) in enumerate(found):
            timed = verdict if even is None else replace(verdict, seconds=even)
            label, place = int(part.y[i]), int(part.places[i])
            witness = self._save(f"{self.name}-{place}", verdict.witness, part.x[i], label)
            yield Record(self.name, place, timed, self.asked, measured, label, int(predictions[i]), witness)

    def _save(self, name: str, witness: np.ndarray | None, original: np.ndarray, label: int) -> str | None:
        """Writes a witness, as the model receives it, beside its original; returns the path within ``out``."""
        if self.out is None or witness is None:
            return None
        relative = Path("witnesses") / f"{name}.npz"
        (self.out / relative).parent.mkdir(parents=True, exist_ok=True)
        np.savez(self.out / relative, allow_pickle=False, witness=witness, original=original, label=label)
        return relative.as_posix()


def remarks(data: Request, loaded: Loaded, records: Sequence[Record]) -> list[str]:
    """Remarks on the samples for the reader: how many there are, and what makes them look out of place."""
    said = []
    if data.correct:
        passed = int(loaded.places[-1]) + 1 - len(loaded.x) if len(loaded.x) else data.total
        said.append(
            f"the first {len(loaded.x)} samples of {data.data} that the model classifies correctly ({passed} before "
            "them are not); --limit takes more"
        )
    elif len(loaded.x) < data.total:
        said.append(f"the first {len(loaded.x)} of {data.total} samples of {data.data}; --limit takes more")
    right = np.array([record.prediction == record.label for record in records], bool)
    doubts = [misfit(right, loaded.model.num_outputs, loaded.x)]
    doubts += [tiny_radius(records[0].asked.eps, loaded.x)] if records else []
    found = [record.verdict.witness for record in records if record.verdict.witness is not None]
    if data.clip is None and found:
        low, high = float(loaded.x.min()), float(loaded.x.max())
        outside = sum(bool(w.min() < low or w.max() > high) for w in found)
        if outside:
            said.append(
                f"{outside} of {len(found)} witnesses leave the range of the samples, {low:g} to {high:g}: give the "
                f"valid range of an input to keep to it, --clip {low:g} {high:g}, say"
            )
    return [*(f"warning: {doubt}" for doubt in doubts if doubt is not None), *said]


def asked_exit_code(records: Sequence[Record], complete: bool) -> ExitCode:
    """Neither radii nor attacks judge: they are done, were interrupted, or had nothing to do."""
    if not complete:
        return ExitCode.INTERRUPTED
    return ExitCode.PASS if records else ExitCode.NOTHING_TO_CHECK
