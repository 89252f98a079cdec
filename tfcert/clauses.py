"""Clauses over a network's outputs: for each sample a conjunction of clauses, each a disjunction of rows.

A row ``C y + d`` holds where it is positive, a clause where its best row does, and the margin is the least of the
clauses. Everything that asks about outputs (bounds, attacks, solvers, estimates) asks in this form. What is no number
is settled here, once:

- Padding: a row that is only padding is ``(0, -inf)``, which never holds, and a clause that is only padding is made of
  rows ``(0, +inf)``, which always do. Neither moves the margin.
- Outputs with a NaN or an infinity settle nothing: their margin is NaN, which is neither positive nor negative.
- A bound of a row that is not finite says nothing of that row; the clause's other rows still count. Where nothing is
  known of the margin, it is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

SINGLE_OUTPUT = (
    "the model has a single output, so there is no other class to tell a label from; give a binary classifier two: "
    "p = model.output; keras.Model(model.input, keras.ops.concatenate([1 - p, p], axis=-1)), with -p for 1 - p where p "
    "is a logit; or ask for a threshold, `f(z)[0] < 50%` in a specification, or tfcert.bounds"
)


@dataclass(frozen=True)
class Clause:
    """A disjunction of rows ``C y + d > 0`` over the outputs ``y`` of one network.

    Attributes:
        coefficients: C, ``[rows, outputs]`` float64.
        offsets: d, ``[rows]`` float64.

    One row proven everywhere proves the clause, and so does a combination of rows with multipliers of at least 0; a
    query is proven when all its clauses are.
    """

    coefficients: np.ndarray
    offsets: np.ndarray

    def values(self, outputs: np.ndarray) -> np.ndarray:
        """The rows' values ``[..., rows]`` at outputs ``[..., outputs]``."""
        values: np.ndarray = outputs @ self.coefficients.T + self.offsets
        return values

    def margin(self, outputs: np.ndarray) -> np.ndarray:
        """The best row's value ``[...]`` at outputs ``[..., outputs]``."""
        return np.asarray(self.values(outputs).max(axis=-1))


@dataclass(frozen=True, eq=False)
class Clauses:
    """The clauses of a batch of samples, stacked; see the module for padding.

    Attributes:
        coefficients: C, ``[batch, clauses, rows, outputs]`` float64.
        offsets: d, ``[batch, clauses, rows]`` float64.
        reads: the outputs ``[..., outputs]`` that belong to answers ``[..., answers]`` of the original model, where
            rows are over something else than these answers (the ratios of probabilities, say). It is applied to what
            :meth:`values`, :meth:`margin` and :meth:`margins` are given.
        charged: whether offsets have in them all that the rounding of a softmax may take from rows over its
            probabilities, where rows are over the logits of a softmax that the model computes.
    """

    coefficients: np.ndarray
    offsets: np.ndarray
    reads: Callable[[np.ndarray], np.ndarray] | None = None
    charged: bool = False

    @classmethod
    def stack(cls, samples: Sequence[Sequence[Clause]]) -> Clauses:
        """Stacks one list of clauses a sample, padded to the longest.

        Raises:
            ValueError: a sample has no clause, a clause no row, or the outputs differ in number.
        """
        if not all(samples) or not all(len(clause.offsets) for sample in samples for clause in sample):
            raise ValueError("every sample needs at least one clause, and every clause at least one row")
        every = [clause for sample in samples for clause in sample]
        outputs = {np.shape(clause.coefficients)[1] for clause in every}
        if len(outputs) != 1:
            raise ValueError(f"clauses over {sorted(outputs)} outputs cannot be asked about together")
        shape = (len(samples), max(map(len, samples)), max(len(clause.offsets) for clause in every))
        coefficients = np.zeros((*shape, outputs.pop()))
        offsets = np.full(shape, -np.inf)
        for i, sample in enumerate(samples):
            for j, clause in enumerate(sample):
                coefficients[i, j, : len(clause.offsets)] = clause.coefficients
                offsets[i, j, : len(clause.offsets)] = clause.offsets
            offsets[i, len(sample) :] = np.inf
        return cls(coefficients, offsets)

    @classmethod
    def all_of(cls, coefficients: np.ndarray, offsets: np.ndarray | None = None) -> Clauses:
        """The conjunction of rows ``[batch, rows, outputs]``, each a clause of its own; no ``offsets``: zeros."""
        offsets = np.zeros(np.shape(coefficients)[:2]) if offsets is None else offsets
        return cls(coefficients[:, :, None, :], offsets[:, :, None])

    @classmethod
    def joined(cls, parts: Sequence[Clauses]) -> Clauses:
        """One batch after the other, padded alike and read alike."""
        offsets = np.concatenate([p.offsets for p in parts])
        charged = all(p.charged for p in parts)
        return cls(np.concatenate([p.coefficients for p in parts]), offsets, parts[0].reads, charged)

    def __len__(self) -> int:
        return len(self.offsets)

    def take(self, index: Any) -> Clauses:
        """The clauses of some samples."""
        return replace(self, coefficients=self.coefficients[index], offsets=self.offsets[index])

    def padded(self, clauses: int, rows: int) -> Clauses:
        """The same with so many clauses and rows, no fewer than there are."""
        count, own_clauses, own_rows = self.offsets.shape
        if (own_clauses, own_rows) == (clauses, rows):
            return self
        coefficients = np.zeros((count, clauses, rows, self.coefficients.shape[-1]))
        offsets = np.full((count, clauses, rows), -np.inf)
        offsets[:, own_clauses:] = np.inf
        coefficients[:, :own_clauses, :own_rows] = self.coefficients
        offsets[:, :own_clauses, :own_rows] = self.offsets
        return replace(self, coefficients=coefficients, offsets=offsets)

    def less(self, lost: np.ndarray) -> Clauses:
        """The clauses with something taken from each row, ``[batch, clauses, rows]``."""
        return replace(self, offsets=self.offsets - lost)

    @property
    def counts(self) -> np.ndarray:
        """Marks rows that are no padding, in clauses that can be broken: bool ``[batch, clauses, rows]``."""
        always = np.isposinf(self.offsets).any(axis=2, keepdims=True)
        return np.asarray(np.isfinite(self.offsets) & ~always)

    def over(self, outputs: np.ndarray) -> np.ndarray:
        """Marks rows that :attr:`counts` marks and that depend on ``outputs`` (bool ``[outputs]``) alone, on one at
        least: bool ``[batch, clauses, rows]``."""
        depends = self.coefficients != 0
        inside = depends[..., outputs].any(axis=-1) & ~depends[..., ~outputs].any(axis=-1)
        return np.asarray(self.counts & inside)

    @property
    def disjunctive(self) -> bool:
        """Tells whether some clause has several rows, so that a combination of them may prove it."""
        return bool((self.counts.sum(axis=2) > 1).any())

    @property
    def ranks_first(self) -> np.ndarray:
        """Marks the samples ``[batch]`` of which one output is said to be above every other, and nothing else."""
        real = np.isfinite(self.offsets)
        up, down = self.coefficients > 0, self.coefficients < 0
        single = (real.sum(axis=2) <= 1).all(axis=1)
        plain = (up.sum(axis=3) == 1) & (down.sum(axis=3) == 1) & (self.coefficients.sum(axis=3) == 0)
        plain &= self.offsets == 0
        first, others = (np.any(part & real[..., None], axis=(1, 2)) for part in (up, down))
        alone = (first.sum(axis=1) == 1) & np.all(first ^ others, axis=1)
        return np.asarray(single & (plain | ~real).all(axis=(1, 2)) & alone)

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """C and d of all rows side by side, ``[batch, clauses * rows, outputs]`` and ``[batch, clauses * rows]``.

        For computing bounds: d is finite, so a padding row is ``(0, 0)`` here. :meth:`certified` and :meth:`settled`
        take its bounds for what it is.
        """
        count, clauses, rows, outputs = self.coefficients.shape
        offsets = np.where(np.isfinite(self.offsets), self.offsets, 0.0)
        return self.coefficients.reshape(count, clauses * rows, outputs), offsets.reshape(count, clauses * rows)

    def values(self, outputs: np.ndarray) -> np.ndarray:
        """The rows' values ``[batch, clauses, rows]`` at outputs ``[batch, ...]``, in float64.

        NaN where an output of the sample is not finite.
        """
        outputs = np.asarray(outputs)
        return self._values(outputs.reshape(1, len(self), math.prod(outputs.shape[1:])))[0]

    def margin(self, outputs: np.ndarray) -> np.ndarray:
        """The margin ``[batch]`` at outputs ``[batch, ...]``, in float64: the formula holds where it is positive.

        NaN where an output of the sample is not finite: it settles nothing.
        """
        return _worst(self.values(outputs))

    def margins(self, outputs: np.ndarray) -> np.ndarray:
        """The margins ``[points, batch]`` at several outputs ``[points, batch, outputs]`` a sample; NaN as above."""
        return _worst(self._values(outputs))

    def _values(self, outputs: np.ndarray) -> np.ndarray:
        """``[points, batch, clauses, rows]`` at outputs ``[points, batch, outputs]``."""
        wide = np.asarray(outputs if self.reads is None else self.reads(np.asarray(outputs)), np.float64)
        finite = np.asarray(np.isfinite(wide).all(axis=2))
        points = np.where(finite[..., None], wide, 0.0).transpose(1, 2, 0)
        count, clauses, rows, size = self.coefficients.shape
        products = self.coefficients.reshape(count, clauses * rows, size) @ points
        values = products.transpose(2, 0, 1).reshape(-1, count, clauses, rows) + self.offsets
        return np.where(finite[..., None, None], values, np.nan)

    def settled(self, bounds: np.ndarray, unknown: float = -np.inf) -> np.ndarray:
        """Bounds of :meth:`rows` in float64, ``[batch, clauses, rows]``: padding has its own value, and a bound that is
        not finite is ``unknown`` (``-inf`` for a lower one, ``+inf`` for an upper one)."""
        each = np.asarray(bounds, np.float64).reshape(self.offsets.shape)
        return np.where(self.counts, np.where(np.isfinite(each), each, unknown), self.offsets)

    def certified(
        self, lower: np.ndarray, rounding: np.ndarray | float = 0.0, combined: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The certified margins ``[batch]``, NaN where nothing is known, and what rounding may take from them.

        Args:
            lower: lower bounds of :meth:`rows`.
            rounding: what rounding may take from each of these rows, in the same shape or a number.
            combined: lower bounds ``[batch, clauses]`` of a combination of each clause's rows; None for none. Its
                multipliers are at least 0 and add up to 1, but for those of rows from which rounding takes nothing,
                which may be any: so it takes no more from the combination than from one of the rows.

        Returns:
            Margin and rounding. :func:`tfcert.verdict.is_proof` of the two is true exactly where every clause has a
            row, or a combination of rows, whose bound is above what rounding may take from it.
        """
        each = np.asarray(lower, np.float64).reshape(self.offsets.shape)
        lost = np.broadcast_to(np.asarray(rounding, np.float64), np.shape(rounding) or each.shape).reshape(each.shape)
        with np.errstate(invalid="ignore"):
            best, left = (self.settled(part) for part in (each, each - lost))
            if combined is not None:
                known = self.counts.any(axis=2) & np.isfinite(combined)
                most = np.where(self.counts, lost, 0.0).max(axis=2)
                some = [np.where(known, part, -np.inf) for part in (combined, combined - most)]
                best, left = (
                    np.concatenate([a, b[..., None]], axis=2) for a, b in zip((best, left), some, strict=True)
                )
            margin, surplus = _worst(best), _worst(left)
            margin = np.where(np.isfinite(margin), margin, np.nan)
            return margin, np.maximum(margin - surplus, 0.0)


def _worst(rows: np.ndarray) -> np.ndarray:
    """The margin ``[...]`` of rows ``[..., clauses, rows]``: of each clause the best row, of these the least."""
    return np.asarray(rows.max(axis=-1).min(axis=-1))


def keeps_label(y: np.ndarray, outputs: int) -> Clauses:
    """``argmax == y``: for every other class j a clause ``f_y - f_j > 0``."""
    return Clauses.all_of(differences(y, other_classes(y, outputs), outputs))


def misses_target(targets: np.ndarray, outputs: int) -> Clauses:
    """``argmax != target``: one clause, whose rows are ``f_j - f_target > 0`` for every other class j."""
    coefficients = -differences(targets, other_classes(targets, outputs), outputs)
    return Clauses(coefficients[:, None], np.zeros((len(coefficients), 1, coefficients.shape[1])))


def other_classes(y: np.ndarray, outputs: int) -> np.ndarray:
    """The classes other than each sample's, in order: ``[batch, outputs - 1]``.

    Raises:
        ValueError: a single output, or a label that is no class.
    """
    require_classes(outputs)
    if (y < 0).any() or (y >= outputs).any():
        raise ValueError(f"labels must be class indices from 0 to {outputs - 1}; found {y.min()} to {y.max()}")
    shifted = np.arange(outputs - 1)[None, :]
    return np.asarray(shifted + (shifted >= y[:, None]))


def differences(y: np.ndarray, others: np.ndarray, outputs: int) -> np.ndarray:
    """The rows ``f_y - f_j`` for some classes j of each sample, ``[batch, j]``: ``[batch, j, outputs]``."""
    unit = np.eye(outputs)
    return np.asarray(unit[y][:, None] - unit[others])


def require_classes(outputs: int) -> None:
    """Raises a ValueError where there are no two outputs, of which one could be larger."""
    if outputs < 2:
        raise ValueError(SINGLE_OUTPUT)


TARGETS = ("all", "runner-up", "least", "random")
"""Which classes a sample must not reach, by name: all others, or one that :func:`target_classes` chooses."""


def require_random(classes: int) -> None:
    """Raises a ValueError where there are too few classes to draw a random target from."""
    if classes < 4:
        raise ValueError(
            "random targets are drawn from the classes that are neither the label nor the most or least likely other: "
            f"that takes at least four classes, and the model has {classes}"
        )


def target_classes(
    outputs: np.ndarray, labels: np.ndarray, rule: str, numbers: np.ndarray | None = None, seed: int = 0
) -> np.ndarray:
    """One class for each sample, other than its label: ``[batch]``.

    Args:
        outputs: of the network at the samples, ``[batch, classes]``.
        labels: ``[batch]`` classes.
        rule: of the classes other than the label, ``runner-up`` is the one with the largest output, ``least`` the one
            with the least, and ``random`` any but these two, each as likely (the rule of CNN-Cert's and DeepCert's
            evaluations, where labels are what is predicted).
        numbers: ``[batch]`` numbers of the samples, their places by default. With ``seed`` and the sample's outputs
            they decide what is drawn, whichever samples it is asked with.
        seed: a whole number, at least 0.

    Raises:
        ValueError: an unknown rule, or ``random`` of fewer than four classes, which leave nothing to draw from.
    """
    if rule not in TARGETS[1:]:
        raise ValueError(f"targets must be {', '.join(map(repr, TARGETS))} or integers, not {rule!r}")
    classes = outputs.shape[1]
    if rule == "random":
        require_random(classes)
    found = np.empty(len(labels), int)
    for place, (row, label) in enumerate(zip(outputs, labels, strict=True)):
        others = np.delete(np.arange(classes), label)
        order = others[np.argsort(row[others], kind="stable")]
        if rule == "random":
            number = place if numbers is None else int(numbers[place])
            found[place] = np.random.default_rng([number, seed]).choice(np.sort(order[1:-1]))
        else:
            found[place] = order[-1] if rule == "runner-up" else order[0]
    return found


def is_right(outputs: np.ndarray, label: float) -> bool | None:
    """Tells whether a label's output is above every other of ``[classes]``; None where the label is no class of them.

    An output that is no number is above none, and none is above it.
    """
    if outputs.size < 2 or label != int(label) or not 0 <= label < outputs.size:
        return None
    return bool(strictly_right(outputs[None], np.array([int(label)]))[0])


def strictly_right(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Marks samples whose label's output is above every other, of ``[samples, classes]``: no tie is right, no NaN.

    Raises:
        ValueError: outputs that are no row of at least two classes a sample, or a label that is none of them.
    """
    if outputs.ndim == 2:
        require_classes(outputs.shape[1])
    if outputs.ndim != 2 or not ((labels >= 0) & (labels < outputs.shape[1])).all():
        raise ValueError(
            f"expected one row of outputs a sample and labels among them, got outputs of shape {outputs.shape} and "
            f"labels from {labels.min()} to {labels.max()}"
        )
    others = outputs.copy()
    np.put_along_axis(others, labels[:, None], -np.inf, axis=1)
    own = np.take_along_axis(outputs, labels[:, None], axis=1)
    # Each comparison on its own: a maximum may drop a NaN.
    return np.asarray((own > others).all(axis=1))
