"""Tasks of a run: models that are loaded, and questions with the samples they ask about."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from tfcert.clauses import Clauses
from tfcert.datasets.lazy import LazyInputs
from tfcert.driver.points import Placed
from tfcert.language import AnyTemplate, StageSpec
from tfcert.language.spec.formula import Formula
from tfcert.language.spec.layout import Layout, SampleFacts
from tfcert.language.spec.questions import exact_facts

if TYPE_CHECKING:
    from tfcert.network import Network
    from tfcert.network.probabilities import Heads

CHUNK = 256
SampleGives = SampleFacts | float | None
"""What a sample gives to a formula: all that this names, or its label alone."""


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

    def predicted(self, z: np.ndarray) -> np.ndarray | None:
        """The same of few inputs by the function that Keras compiles for ``predict``; None where there is none."""
        from tfcert.attacks.witness import predicted_outputs

        found = predicted_outputs(self.model, z)
        return None if found is None else found.reshape(len(z), -1)

    def compiled(self, z: np.ndarray) -> np.ndarray | None:
        """The same of one input by XLA; None where it is not asked."""
        from tfcert.attacks.witness import compiled_outputs

        found = compiled_outputs(self.model, z) if len(z) == 1 else None
        return None if found is None else found.reshape(1, -1)

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
    """The clauses that a question's formula amounts to, lowered once for each label, or for what else a sample gives.

    With ``heads`` they are clauses over the outputs that these say. The last labels are kept, as many as a batch has by
    default: of a thousand outputs each takes eight megabytes. All are padded to the largest that was met, so that
    batches are alike once each label has been.
    """

    def __init__(self, template: AnyTemplate, layout: Layout | int, heads: Heads | None = None):
        self._template, self.layout, self._heads = template, Layout.of(layout), heads
        self._size: tuple[int, ...] = (1, 1)  # the most clauses of a label, and rows of a clause
        self._lower = functools.lru_cache(maxsize=100)(self._lowered)
        self._about: dict[Formula | None, Lowered] = {}  # of pieces under other conditions

    def about(self, piece: AnyTemplate) -> Lowered:
        """The clauses of a piece of the question, over the same columns."""
        if piece.given == self._template.given:
            return self
        found = self._about.get(piece.given)
        if found is None:
            found = self._about[piece.given] = self.of(piece)
        return found

    def of(self, other: AnyTemplate) -> Lowered:
        """The clauses of another question over the same columns and heads."""
        return Lowered(other, self.layout, self._heads)

    def stacked(self, given: Iterable[SampleGives]) -> Clauses:
        """The clauses of samples that give this.

        Raises:
            ValueError, IndexError: as for :meth:`~tfcert.language.spec.questions.Template.clauses`.
        """
        each = list(given)
        known = {facts: self._lower(facts) for facts in dict.fromkeys(each)}
        padded = {facts: clauses.padded(*self._size) for facts, clauses in known.items()}
        return Clauses.joined([padded[facts] for facts in each])

    def _lowered(self, given: SampleGives) -> Clauses:
        clauses = Clauses.stack([self._template.clauses(self.layout, given)])
        clauses = clauses if self._heads is None else self._heads.clauses(clauses)
        self._size = tuple(map(max, self._size, clauses.offsets.shape[1:]))
        return clauses


@dataclass(frozen=True, eq=False)
class Task:
    """A property or measure with the samples it asks about.

    Attributes:
        samples: ``[n]``, their indices in the data set (0 for a property without one).
        centers: ``[n, *input]`` in network space; None for a property without samples. Of several points their
            vectors, which are known without samples, too.
        labels: ``[n]``, None where there is none.
        outputs: ``[n, outputs]``, the model's answer to the centres; None without them.
        lowered: the formula's clauses.
        pieces: the question about each piece of its region, where there are several.
        rows: ``[n]``, where samples are of pieces: of which, by its number; else None.
        facts: ``[n]``, what each sample gives to the formula, where that is more than its label; else none.
        placed: several points of one vector; None of a single one.
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
    facts: tuple[SampleFacts, ...] = field(default=(), repr=False)
    placed: Placed | None = field(default=None, repr=False)

    @property
    def given(self) -> Sequence[SampleGives]:
        """What each sample gives to the formula."""
        return self.facts or self.labels

    def holds(self, place: int, outputs: np.ndarray) -> bool:
        """Tells whether the formula holds of one sample at its network's outputs, in exact arithmetic."""
        return self.template.holds(outputs, self.given[place], self.lowered.layout)

    def at(self, values: Sequence[Fraction]) -> Task:
        """The same task at values of its measure's variable, one a sample."""
        given = zip(map(exact_facts, self.given), values, strict=True)
        return replace(self, facts=tuple(replace(facts, value=value) for facts, value in given))

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
        facts = tuple(self.facts[i] for i in places) if self.facts else ()
        placed = None if self.placed is None else self.placed.take(places)
        return replace(
            self,
            samples=self.samples[places],
            centers=centers,
            labels=labels,
            outputs=outputs,
            rows=rows,
            facts=facts,
            placed=placed,
        )
