"""Probabilities of softmax heads, decided by their ratios.

A row ``sum_j c_j p_j + d`` over the probabilities of one softmax is ``sum_j e_j p_j`` with ``e_j = c_j + d``, for they
add up to 1. Divided by one of them, ``p_r``, it is ``e_r + sum_j e_j exp(x_j - x_r)`` over the logits: a row over
exponentials of differences, which has the same sign and is never looser than one over log-sum-exp bounds of the
softmax, whose tangents it does without. Of two classes it is linear in the logits: exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import tensorflow as tf

from tfcert.activations.accuracy import ACCURACIES
from tfcert.clauses import Clauses
from tfcert.network.builder import Builder
from tfcert.network.composed import Tensor
from tfcert.network.graph import Input, Network
from tfcert.network.linear import DenseMap
from tfcert.roundoff import unit_roundoff
from tfcert.tracing import kept

_MOST_RATIOS = 4096
"""So many ratios of probabilities are computed at most; beyond, the probabilities themselves."""

_FLUSHED = 8
"""Exponentials and quotients below so many least normal numbers may be computed as 0."""
_TANGENT = 14.0
"""The L at which the tangent of the entropy's terms is taken, for thresholds near 1."""


@dataclass(frozen=True)
class Softmax:
    """The places of one softmax's values among the outputs: ``size`` from ``start`` on."""

    start: int
    size: int

    @property
    def places(self) -> np.ndarray:
        return np.arange(self.start, self.start + self.size)


@dataclass(frozen=True)
class Heads:
    """The outputs of a network whose softmaxes were peeled off, as rows over its models' answers need them.

    The outputs are those of the peeled network, ``size`` of them, then the ratios ``p_j / p_r``, then the probabilities
    of some softmaxes.

    Attributes:
        softmaxes: which of the peeled network's outputs are logits of a softmax.
        size: the number of those outputs.
        ratios: pairs (j, r) of their places.
        whole: the softmaxes whose probabilities are outputs too.
        roundoff: of the model's type.
        tiny: the least normal number of that type.
    """

    softmaxes: tuple[Softmax, ...]
    size: int
    ratios: tuple[tuple[int, int], ...] = ()
    whole: tuple[Softmax, ...] = ()
    roundoff: float = 2.0**-24
    tiny: float = float(np.finfo(np.float32).tiny)

    @classmethod
    def of(cls, network: Network, softmaxes: Iterable[Softmax]) -> Heads:
        """The heads of a peeled network of which nothing but the order of outputs is asked."""
        kind = network.dtype.as_numpy_dtype
        size = math.prod(network.output_shape)
        return cls(tuple(softmaxes), size, roundoff=unit_roundoff(kind), tiny=float(np.finfo(kind).tiny))

    @property
    def outputs(self) -> int:
        """The number of all outputs."""
        return self.size + len(self.ratios) + sum(softmax.size for softmax in self.whole)

    def keeps(self, rows: np.ndarray) -> np.ndarray:
        """Marks the rows ``[n, size + 1]`` over answers that may be read over the peeled network's outputs as they are.

        Such a row says which of two values of one softmax is larger, or speaks of none.
        """
        named = rows[:, :-1] != 0
        inside = [named[:, softmax.places] for softmax in self.softmaxes]
        touched = np.any([part.any(axis=1) for part in inside], axis=0)
        both = np.any([part.sum(axis=1) == 2 for part in inside], axis=0)
        compares = (named.sum(axis=1) == 2) & both & (rows[:, :-1].sum(axis=1) == 0) & (rows[:, -1] == 0)
        return np.asarray(~touched | compares)

    def fitted(self, rows: Iterable[np.ndarray]) -> Heads:
        """The heads with the outputs that rows ``[..., size + 1]`` over answers, their offsets last, need."""
        ratios: dict[tuple[int, int], None] = {}
        whole: dict[Softmax, None] = {}
        for row in rows:
            softmax = self._asked(row)
            if softmax is None:
                whole |= dict.fromkeys(s for s in self.softmaxes if row[s.places].any())
            elif softmax.size > 2 and not _compares(row):
                reference = _reference(row, softmax)
                ratios |= dict.fromkeys((int(j), reference) for j in softmax.places if j != reference)
        if len(ratios) > _MOST_RATIOS:
            whole |= dict.fromkeys(s for s in self.softmaxes if any(s.start <= r < s.start + s.size for _, r in ratios))
            ratios = {}
        return replace(self, ratios=tuple(ratios), whole=tuple(whole))

    def network(self, peeled: Network) -> Network:
        """The network with all these outputs; the peeled one where there are no others."""
        if not self.ratios and not self.whole:
            return peeled
        return kept(peeled, ("heads", self), lambda: _exposed(self, peeled))

    def clauses(self, asked: Clauses) -> Clauses:
        """Clauses over the models' answers as clauses over :attr:`outputs`.

        Raises:
            ValueError: the heads were not fitted to such rows.

        Proving a row proves what it was made of, also for probabilities that the model computes with rounding: that of
        the softmax itself is taken from the row. Its value is the row's divided by the probability ``p_r``; where two
        outputs are compared with each other, a difference of logits. That two probabilities are in order as deployed
        does not follow from their logits (both may be 0), unless there are no others: clauses with such rows are not
        marked as charged.
        """
        count, clauses, rows, _ = asked.coefficients.shape
        coefficients = np.zeros((count, clauses, rows, self.outputs))
        offsets = asked.offsets.copy()
        known: dict[bytes, tuple[np.ndarray, float]] = {}
        charged = True
        for place in np.ndindex(count, clauses, rows):
            row = np.append(asked.coefficients[place], offsets[place])
            if not np.isfinite(row[-1]):
                continue
            key = row.tobytes()
            if key not in known:
                known[key] = self._row(row)
                charged &= not self._ordered(row)
            coefficients[place], offsets[place] = known[key]
        return Clauses(coefficients, offsets, self.scores, charged)

    def scores(self, answers: np.ndarray) -> np.ndarray:
        """The outputs ``[..., outputs]`` that belong to the models' answers ``[..., size]``, in float64.

        Logits are logarithms of probabilities here, which differ from them by one number a softmax; probabilities of 0
        count as the smallest number above.
        """
        least = np.finfo(answers.dtype).smallest_subnormal
        found = answers.astype(np.float64)
        for softmax in self.softmaxes:
            found[..., softmax.places] = np.log(np.maximum(answers[..., softmax.places], least).astype(np.float64))
        above, below = (np.array([pair[side] for pair in self.ratios], int) for side in (0, 1))
        with np.errstate(over="ignore"):
            ratios = np.exp(found[..., above] - found[..., below])
        probabilities = [answers[..., softmax.places].astype(np.float64) for softmax in self.whole]
        return np.concatenate([found, ratios, *probabilities], axis=-1)

    # Rows

    def _asked(self, row: np.ndarray) -> Softmax | None:
        """The softmax of which alone a row speaks; None if it speaks of anything else, too."""
        (named,) = np.nonzero(row[:-1])
        for softmax in self.softmaxes:
            if len(named) and softmax.start <= named[0] and named[-1] < softmax.start + softmax.size:
                return softmax
        return None

    def _row(self, row: np.ndarray) -> tuple[np.ndarray, float]:
        """A row over answers, its offset last, as one over the outputs, and that one's offset."""
        found, softmax = np.zeros(self.outputs), self._asked(row)
        if softmax is None:
            return self._mixed(row), row[-1]
        if _orders(row):
            found[: self.size] = row[:-1]
            return found, 0.0
        if self._ordered(row):
            first, second = map(int, np.flatnonzero(row[:-1]))
            above, below = (first, second) if row[first] > 0 else (second, first)
            return self._compared(above, below, row[above], -row[below])
        weights = self._weights(row, softmax)
        if (weights > 0).all() or (weights <= 0).all():
            return found, float(weights.min() if weights.min() > 0 else weights.max())
        if softmax.size == 2:
            more = int(weights.argmax())
            places = softmax.start + more, softmax.start + 1 - more
            return self._compared(*places, float(weights[more]), -float(weights[1 - more]))
        reference = _reference(row, softmax)
        columns = [self._ratio(int(j), reference) for j in softmax.places]
        if None in columns:
            return self._mixed(row), row[-1]
        for column, weight in zip(columns, weights, strict=True):
            if column != -1:
                found[column] = weight
        return found, float(weights[reference - softmax.start])

    def _ordered(self, row: np.ndarray) -> bool:
        """Tells whether a row is decided by the difference of two logits, without what rounding may take."""
        softmax = self._asked(row)
        return softmax is not None and (_orders(row) or (softmax.size > 2 and _compares(row)))

    def _ratio(self, j: int, reference: int) -> int | None:
        """The output that is a ratio; -1 for that of a probability with itself, None where there is none."""
        return -1 if j == reference else self._columns.get((j, reference))

    @cached_property
    def _columns(self) -> dict[tuple[int, int], int]:
        return {pair: self.size + number for number, pair in enumerate(self.ratios)}

    def _weights(self, row: np.ndarray, softmax: Softmax) -> np.ndarray:
        """The numbers e, lowered by what the rounding of a softmax may take from the row, ``|c_j|`` of each p_j.

        The program computes ``exp`` of ``x_j - m``, m the largest logit, which errs by ``u |x_j - m|`` for the
        difference and by E u for itself, relative to the value (E: twice what is stated of the function, for a softmax
        is a kernel of its own); sums n of them (``(n - 1) u``), and divides, or multiplies with the inverse (a few u).
        Because ``|x_j - m| <= -log p_j``, and ``-p log p <= p (L - 1) + exp(-L)`` for every L (a tangent of a concave
        function), p_j errs by ``u`` times, to first order,

        * ``p_j (L - 1 + E) + exp(-L)`` for its own exponential;
        * ``p_j (log n + E + n)`` for the sum, whose terms err by the mean of ``-log p_i``, at most log n;

        and what is below the least normal number may be computed as 0: so differences beyond its logarithm do not
        count, and terms of higher order are below one u. L is such that ``exp(-L)`` is small beside the offset.
        """
        given, offset = row[softmax.places], row[-1]
        size, n, exponential = np.abs(given), softmax.size, 4.0 * ACCURACIES["exp"].within(self.roundoff)
        tangent = min(-math.log(self.tiny), _TANGENT - math.log(min(abs(offset), 1.0) or self.tiny))
        unit = (tangent + 2.0 * exponential + n + math.log(n) + 8.0) * self.roundoff
        least = 1.01 * math.exp(-tangent) * self.roundoff + _FLUSHED * self.tiny
        exact = 4 * np.finfo(np.float64).eps * (size + abs(offset))
        return np.asarray(given + offset - unit * size - least * size.sum() - exact)

    def _compared(self, above: int, below: int, more: float, less: float) -> tuple[np.ndarray, float]:
        """``more p_above > less p_below`` as a difference of logits; both factors are positive."""
        found = np.zeros(self.outputs)
        found[above], found[below] = 1.0, -1.0
        needed = math.log(less) - math.log(more)
        return found, -(needed + 8 * np.finfo(np.float64).eps * (abs(math.log(less)) + abs(math.log(more)) + 1))

    def _mixed(self, row: np.ndarray) -> np.ndarray:
        """The coefficients of a row over the probabilities themselves.

        Raises:
            ValueError: the heads were not fitted to such a row. Its logits must not be taken for probabilities.
        """
        missing = [s for s in self.softmaxes if row[s.places].any() and s not in self.whole]
        if missing:
            raise ValueError(f"the outputs lack the probabilities from {missing[0].start} on that a row names")
        found = np.zeros(self.outputs)
        found[: self.size] = row[:-1]
        place = self.size + len(self.ratios)
        for softmax in self.whole:
            found[softmax.places], found[place : place + softmax.size] = 0.0, row[softmax.places]
            place += softmax.size
        return found


def _compares(row: np.ndarray) -> bool:
    """Tells whether a row compares two numbers, each times a factor, and nothing is added."""
    (named,) = np.nonzero(row[:-1])
    return bool(row[-1] == 0 and len(named) == 2 and row[named[0]] * row[named[1]] < 0)


def _orders(row: np.ndarray) -> bool:
    """Tells whether a row says which of two numbers is larger."""
    return _compares(row) and row[:-1].sum() == 0


def _reference(row: np.ndarray, softmax: Softmax) -> int:
    """The probability that a row is divided by: one that it names, whatever its offset is."""
    return softmax.start + int(np.abs(row[softmax.places]).argmax())


def _exposed(heads: Heads, peeled: Network) -> Network:
    with tf.init_scope():
        builder = Builder(peeled.dtype)
        builder.layer, builder.kind = "softmax", "Softmax"
        values: list[Tensor] = []
        for node in peeled.nodes:
            inputs = [values[i] for i in node.inputs]
            values.append(
                builder.input(node.shape, node.name) if isinstance(node, Input) else builder.adopt(node, inputs)
            )
        logits = builder.reshape(values[peeled.output], (heads.size,))
        parts = [logits]
        if heads.ratios:
            parts.append(builder.activation(_differences(builder, logits, heads.ratios), "exp", part="ratios"))
        for softmax in heads.whole:
            block = builder.take(logits, slice(softmax.start, softmax.start + softmax.size), 0, part="logits")
            parts.append(builder.written_softmax(block))
        network, _ = builder.network(builder.concatenate(parts, 0, part="outputs"))
    weights = dict.fromkeys([*peeled.weights, *network.weights])
    notes = (*peeled.notes, _NOTE) if _NOTE not in peeled.notes else peeled.notes
    computed = peeled.precomputed or network.precomputed
    return replace(network, weights=tuple(weights), notes=notes, peeled=True, parts=peeled.parts, precomputed=computed)


_NOTE = (
    "probabilities are decided by their ratios: the margin of a threshold is what it is kept by, divided by the "
    "probability that it names"
)


def _differences(builder: Builder, logits: Tensor, ratios: Sequence[tuple[int, int]]) -> Tensor:
    """``x_j - x_r`` of each ratio."""
    matrix = np.zeros((logits.shape[0], len(ratios)))
    for column, (j, reference) in enumerate(ratios):
        matrix[j, column], matrix[reference, column] = 1.0, -1.0
    return builder.linear(logits, DenseMap(builder.constant(matrix), logits.shape, len(ratios)), part="differences")
