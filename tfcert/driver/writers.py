"""The writers of certificates that a run has, one a model, for what is proven in it and what is tried again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tfcert.driver.batch import Batch
from tfcert.driver.explain import uncertifiable
from tfcert.driver.task import Task

if TYPE_CHECKING:
    from tfcert.certification.certificates import Beforehand, Certificate, CertificateWriter


@dataclass
class CertificateWriters:
    """The writers of a run's models, each of which the checker reads once.

    Attributes:
        ready: certificates that are known before they are asked for, by question and sample.
    """

    ready: dict[tuple[str, int], Certificate] = field(default_factory=dict)
    _known: dict[str, CertificateWriter] = field(default_factory=dict)

    def of(self, task: Task) -> CertificateWriter | str:
        """The writer of a task's model, or the reason why its proofs have no certificates, in a sentence."""
        refusal = uncertifiable(task.template)
        if not refusal and task.model.heads is not None:
            refusal = "questions about probabilities have none"
        if refusal:
            return refusal
        from tfcert.certification.certificates import CertificateWriter

        name = task.model.name
        if name not in self._known:
            self._known[name] = CertificateWriter(task.model.model, name)
        return self._known[name]


def certified(
    writer: CertificateWriter, sample: Batch, method: str, known: Beforehand | None = None
) -> Certificate | str:
    """A certificate about the one sample of a batch; as :meth:`CertificateWriter.certificate` has it."""
    claim = {"property": sample.task.name, "sample": int(sample.task.samples[0])}
    more = () if known is None else (known,)
    return writer.certificate(sample.regions.proof, sample.clauses, method, claim, *more)
