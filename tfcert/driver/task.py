"""Tasks of a run: models that are loaded, and questions with the samples they ask about."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tfcert.clauses import Clauses
from tfcert.datasets.lazy import LazyInputs
from tfcert.language import AnyTemplate, StageSpec

if TYPE_CHECKING:
    from tfcert.network import Network
    from tfcert.network.probabilities import Heads

CHUNK = 256


@dataclass(frozen=True)
class LoadedModel:
    """A model, the network built from it, and the hash of what it computes.

    ``granularity`` is the width of its cells (a number, or an array) where it stands behind an abstraction of the
    specification. ``heads`` says what the network's outputs are to a question about probabilities; None where they are
    the model's, or the logits of a softmax that was peeled off.
    """

    name: str
    model: Any
    network: Network
    sha256: str
    granularity: Any = None
    heads: Heads | None = None

    def outputs(self, z: np.ndarray) -> np.ndarray:
        """The deployed program's answers ``[batch, outputs]`` to ``z`` ``[batch, *input]``."""
        from tfcert.attacks.witness import model_outputs

        step = z.part if isinstance(z, LazyInputs) else CHUNK
        parts = [model_outputs(self.model, z[i : i + step]) for i in range(0, len(z), step)]
        return np.concatenate([p.reshape(len(p), -1) for p in parts]) if parts else np.zeros((0, self.num_outputs))

    @property
    def peeled(self) -> bool:
        """Tells whether the network leaves out a softmax that the model ends in."""
        return self.network.peeled

    def scores(self, outputs: np.ndarray) -> np.ndarray:
        """The model's answers ``[batch, outputs]`` in float64, and in the unit that the network's bounds have.

        Where a softmax was peeled off these are logarithms, which differ from the logits by one number a sample. They
        are ordered as the outputs are, and those that are 0 count as the smallest number above.
        """
        if self.heads is not None:
            return self.heads.scores(outputs)
        if not self.peeled:
            return outputs.astype(np.float64)
        least = np.finfo(outputs.dtype).smallest_subnormal
        return np.log(np.maximum(outputs, least).astype(np.float64))

    @property
    def num_outputs(self) -> int:
        """The number of the model's answers."""
        return int(np.prod(self.network.output_shape)) if self.heads is None else self.heads.size


class Lowered:
    """The clauses that a question's formula amounts to, lowered once for each label.

    With ``heads`` they are clauses over the outputs that these say. The last labels are kept, as many as a batch has by
    default: of a thousand outputs each takes eight megabytes. All are padded to the largest that was met, so that
    batches are alike once each label has been.
    """

    def __init__(self, template: AnyTemplate, num_outputs: int, heads: Heads | None = None):
        self._template, self._outputs, self._heads = template, num_outputs, heads
        self._size: tuple[int, ...] = (1, 1)  # the most clauses of a label, and rows of a clause
        self._lower = functools.lru_cache(maxsize=100)(self._lowered)

    def stacked(self, labels: Iterable[float | None]) -> Clauses:
        """The clauses of samples with these labels.

        Raises:
            ValueError, IndexError: as for :meth:`~tfcert.language.spec.questions.Template.clauses`.
        """
        given = list(labels)
        known = {label: self._lower(label) for label in dict.fromkeys(given)}
        padded = {label: clauses.padded(*self._size) for label, clauses in known.items()}
        return Clauses.joined([padded[label] for label in given])

    def _lowered(self, label: float | None) -> Clauses:
        clauses = Clauses.stack([self._template.clauses(self._outputs, label)])
        clauses = clauses if self._heads is None else self._heads.clauses(clauses)
        self._size = tuple(map(max, self._size, clauses.offsets.shape[1:]))
        return clauses


@dataclass(frozen=True, eq=False)
class Task:
    """A property or measure with the samples it asks about.

    Attributes:
        samples: ``[n]``, their indices in the data set (0 for a property without one).
        centers: ``[n, *input]`` in network space; None for a property without samples.
        labels: ``[n]``, None where there is none.
        outputs: ``[n, outputs]``, the model's answer to the centres; None without them.
        lowered: the formula's clauses.
        pieces: the question about each piece of its region, where there are several.
        rows: ``[n]``, where samples are of pieces: of which, by its number; else None.
    """

    template: AnyTemplate
    model: LoadedModel
    samples: np.ndarray
    centers: np.ndarray | None = field(repr=False)
    labels: tuple[float | None, ...] = field(repr=False)
    outputs: np.ndarray | None = field(repr=False)
    lowered: Lowered = field(repr=False)
    pieces: tuple[AnyTemplate, ...] = field(default=(), repr=False)
    rows: np.ndarray | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        return self.template.name

    def limited(self, stage: StageSpec) -> bool:
        """Tells whether the time of a stage of the strategy is limited."""
        strategy = self.template.strategy
        limits = (strategy.seconds_per_sample, strategy.seconds_total, stage.option("time_limit"))
        return any(limit is not None for limit in limits)

    def take(self, places: np.ndarray) -> Task:
        """The same task on some of its samples."""
        part = None if self.centers is None or self.outputs is None else (self.centers[places], self.outputs[places])
        labels = tuple(self.labels[i] for i in places)
        centers, outputs = part if part is not None else (None, None)
        rows = None if self.rows is None else self.rows[places]
        return replace(self, samples=self.samples[places], centers=centers, labels=labels, outputs=outputs, rows=rows)
