"""Certificates of a run: one file a proof, which ``python -m tfcert.proof`` checks without us."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from tfcert.certification.certificates import Beforehand
from tfcert.driver.batch import Batch, make_batch
from tfcert.driver.piecewise import holds
from tfcert.driver.task import Task
from tfcert.driver.writers import CertificateWriters, certified
from tfcert.language import PropertyTemplate, ValueTemplate
from tfcert.report.records import Measured
from tfcert.verdict import Outcome, Verdict

FOLDER = "certificates"


@dataclass
class Certificates:
    """Writes certificates into a run's folder, and each model that they are about beside them."""

    folder: Path
    writers: CertificateWriters = field(default_factory=CertificateWriters)

    def write(
        self, task: Task, place: int, verdict: Verdict, measured: Measured | None = None
    ) -> tuple[str | None, str]:
        """A certificate of a sample's proof: its path relative to the run's folder, or None and the reason why not.

        Of a measure it says that the formula holds at the value that is proven. Of a region in several pieces there is
        one file a piece, and the path is a pattern that they all match. Neither where there is no proof.
        """
        template = task.template
        existential = isinstance(template, PropertyTemplate) and template.existential
        if verdict.outcome is not Outcome.VERIFIED or existential:
            return None, ""
        writer = self.writers.of(task)
        if isinstance(writer, str):
            return None, writer
        ready = self.writers.ready.get((task.name, int(task.samples[place])))
        files = [] if ready is None else [ready]
        for batch in _asked(task.take(np.array([place])), measured) if ready is None else ():
            known = Beforehand(parts=verdict.found) if verdict.found is not None and not task.pieces else None
            found = certified(writer, batch, verdict.method, known)
            if isinstance(found, str):
                return None, found
            files.append(found)
        if not files:
            return None, "no piece of its region holds an input"
        kept = re.sub(r"[^0-9A-Za-z_.-]", "_", task.name)
        stem = (Path(FOLDER) / f"{kept}-{task.samples[place]}").as_posix()
        writer.save_model(self.folder / FOLDER)
        ends = [""] if len(files) == 1 else [f".{number}" for number in range(len(files))]
        for end, file in zip(ends, files, strict=True):
            file.save(self.folder / f"{stem}{end}.npz")
        return f"{stem}{'' if len(files) == 1 else '.*'}.npz", ""


def _asked(task: Task, measured: Measured | None) -> Iterator[Batch]:
    """What a proof about a task's one sample claims: of each piece that holds something its region and clauses."""
    for piece in task.pieces or (task.template,):
        if task.pieces and not holds(task, piece)[0]:
            continue
        part = replace(task, template=piece, pieces=(), lowered=task.lowered.about(piece)) if task.pieces else task
        value = None
        if measured is not None:
            above = isinstance(piece, ValueTemplate) and piece.proof_above
            value = [Fraction(measured.upper if above else measured.lower)]
        yield make_batch(part, value)
