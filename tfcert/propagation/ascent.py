"""Projected gradient ascent on choices in [0, 1], and its options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from tfcert.propagation import kernels
from tfcert.propagation.adam import adam

CURVED = 0.1
"""Steps of an activation that is no hinge, relative to those of one: its lines turn as the slopes move (measured on
sigmoids: a tenth ends 6% higher after 20 steps, on ReLU it ends lower)."""
_DECAY = 0.98
_ADAM = (0.9, 0.999, 1e-8)
"""Shares kept of the mean and of the mean square, and what is added to its root."""
Evaluate = Callable[[list[tf.Tensor]], tf.Tensor]
"""Bounds of rows ``[samples, rows]`` by choices."""


@dataclass(frozen=True)
class Ascent:
    """Options of the ascent to better relaxations; each is sound, and the best bound of each row is kept.

    Attributes:
        iterations: gradient steps, a number or a scalar tensor.
        learning_rate: of Adam, in units of each choice's range; a tenth of it for activations that are no hinges.
        shared: one pair of lines a neuron, for all rows of all passes (FROWN).
    """

    iterations: int | tf.Tensor = 20
    learning_rate: float = 0.5
    shared: bool = False


@dataclass(frozen=True)
class Choosing:
    """What climbs: choices, and what they are worth.

    Attributes:
        evaluate: the rows' bounds by choices.
        first: the choices to begin with.
        paces: for each, how long its steps are.
        claim: bounds by choices that count, where those of ``evaluate`` are only to be searched; None: they count.
        owners: marks ``[samples, rows]`` of rows, shaped as they are to be for each of the choices: see :func:`owned`.
        together: whether all rows of a sample share some choices, so that those of one step are kept for all of them.
    """

    evaluate: Evaluate
    first: list[tf.Tensor]
    paces: list[float]
    claim: Evaluate | None = None
    owners: Callable[[tf.Tensor], list[tf.Tensor]] = lambda mark: []
    together: bool = False

    def worth(self, found: tf.Tensor) -> tf.Tensor:
        """By what the choices of rows are kept: their bounds, or where choices are shared the sum of them."""
        finite = tf.where(tf.math.is_finite(found), found, tf.constant(-1e30, found.dtype))
        return finite + tf.zeros_like(found) if not self.together else _total(finite)


def _total(found: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(found, axis=1, keepdims=True) + tf.zeros_like(found)


def best_choices(climb: Choosing, best: tf.Tensor, ascent: Ascent) -> tf.Tensor:
    """The best bound of each row while all choices climb, and no lower than ``best``.

    Where a claim is another thing than what is searched, it is made once: of the choices that were best for each row.
    """
    keeps = climb.claim is not None

    def kept_by(found: tf.Tensor, flat: list[tf.Tensor], kept: list[tf.Tensor], worth: tf.Tensor):  # type: ignore[no-untyped-def]
        if not keeps:
            return kept, worth
        new = climb.worth(found)
        marks = climb.owners(new > worth)
        kept = [
            tf.ensure_shape(tf.where(mark, fresh, old), old.shape)
            for mark, fresh, old in zip(marks, flat, kept, strict=True)
        ]
        return kept, tf.maximum(new, worth)

    def step(count, best, flat, mean, square, kept, worth):  # type: ignore[no-untyped-def]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(flat)
            found = climb.evaluate(flat)
            total = tf.reduce_sum(tf.where(tf.math.is_finite(found), found, tf.zeros_like(found)))
        slopes = tape.gradient(total, flat, unconnected_gradients="zero")
        kept, worth = kept_by(found, flat, kept, worth)
        time = tf.cast(count + 1, best.dtype)
        rate = ascent.learning_rate * _DECAY ** (time - 1)
        moved = [_moved(*parts, rate, time) for parts in zip(flat, slopes, mean, square, climb.paces, strict=True)]
        best = best if keeps else tf.maximum(best, found)
        return count + 1, best, *([part[k] for part in moved] for k in range(3)), kept, worth

    flat, zeros = climb.first, [tf.zeros_like(choice) for choice in climb.first]
    lowest = tf.zeros_like(best) - float("inf")
    state = (tf.constant(0), best, flat, zeros, zeros, flat if keeps else [], lowest)
    _, best, flat, _, _, kept, worth = tf.while_loop(
        lambda count, *_: count < ascent.iterations,
        step,
        state,
        maximum_iterations=ascent.iterations,
        parallel_iterations=1,
    )
    found = climb.evaluate(flat)
    if climb.claim is not None:
        found = climb.claim(kept_by(found, flat, kept, worth)[0])
    return tf.maximum(best, found)


def owned(mark: tf.Tensor, choice: tf.Tensor, axes: int) -> tf.Tensor:
    """Marks of rows, shaped for choices whose first axes are those of the rows; or, of 1 axis, of samples alone."""
    lead = tf.shape(choice)[:axes]
    shape = tf.concat([lead, tf.ones([tf.rank(choice) - axes], tf.int32)], axis=0)
    return tf.reshape(mark[:, 0] if axes == 1 else mark, shape)


@kernels.kernel(passes=4)
def _moved(
    choice: tf.Tensor,
    gradient: tf.Tensor,
    mean: tf.Tensor,
    square: tf.Tensor,
    pace: float,
    rate: tf.Tensor,
    time: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """A choice after a step of Adam, with its moments."""
    (move,), (mean,), (square,) = adam([gradient], [mean], [square], time, _ADAM)
    return tf.clip_by_value(choice + pace * rate * move, 0, 1), mean, square
