"""Certificates of a run: one file a proof, which ``python -m tfcert.proof`` checks without us."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfcert.driver.task import Task
from tfcert.language import AnyTemplate, PropertyTemplate
from tfcert.verdict import Outcome, Verdict

if TYPE_CHECKING:
    from tfcert.certification.certificates import CertificateWriter

FOLDER = "certificates"


def uncertifiable(template: AnyTemplate) -> str:
    """The reason why proofs of a question have no certificates, whatever its model, in a sentence; "" if they may."""
    if not isinstance(template, PropertyTemplate):
        return "measures have none"
    if template.existential:
        return "a question about some input is answered by a witness"
    if not template.is_single:
        return "questions about several points or networks have none"
    if template.abstraction is not None:
        return "the checker does not know abstractions"
    return ""


@dataclass
class Certificates:
    """Writes certificates into a run's folder, and each model that they are about beside them."""

    folder: Path
    _writers: dict[str, CertificateWriter] = field(default_factory=dict)

    def write(self, task: Task, place: int, verdict: Verdict) -> tuple[str | None, str]:
        """A certificate of a sample's proof: its path relative to the run's folder, or None and the reason why not.

        Neither where there is no proof.
        """
        if verdict.outcome is not Outcome.VERIFIED or task.template.existential:
            return None, ""
        refusal = uncertifiable(task.template)
        if not refusal and (task.pieces or task.model.heads is not None):
            refusal = "questions of regions in pieces, or about probabilities, have none"
        if refusal:
            return None, refusal
        from tfcert.certification.certificates import CertificateWriter
        from tfcert.driver.batch import make_batch

        name = task.model.name
        if name not in self._writers:
            self._writers[name] = CertificateWriter(task.model.model, name)
        writer, one = self._writers[name], make_batch(task.take(np.array([place])))
        claim = {"property": task.name, "sample": int(task.samples[place])}
        found = writer.certificate(one.regions.proof, one.clauses, verdict.method, claim)
        if isinstance(found, str):
            return None, found
        path = Path(FOLDER) / f"{re.sub(r'[^0-9A-Za-z_.-]', '_', task.name)}-{task.samples[place]}.npz"
        writer.save_model(self.folder / FOLDER)
        found.save(self.folder / path)
        return path.as_posix(), ""
