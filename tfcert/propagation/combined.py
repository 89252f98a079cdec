"""Clauses proven by several rows together: bounds of their best combination, which no row has to hold alone.

A clause ``r_1 > 0 or r_2 > 0 or ...`` holds where ``sum m_i r_i > 0`` for some multipliers ``m_i >= 0``. With linear
bounds of the rows over the input the best multipliers maximise a concave function (the Lagrange dual of the least of
the best row, or of one row where others are at most 0), so conditions on inputs, which are rows that must not hold, act
on the bounds of the others. Any multipliers give a sound bound; these are found by golden sections, one row after the
other, and by supergradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import tensorflow as tf

from tfcert.network.graph import Network
from tfcert.propagation.adam import adam
from tfcert.propagation.backward import Relaxed, linear_lower_bounds
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.concretize import least_change
from tfcert.propagation.errors import Errors, share_of_sum
from tfcert.propagation.ranges import errors_of
from tfcert.sets.region import Region

_GOLDEN = (math.sqrt(5) - 1) / 2
_SECTIONS = 16
"""How often an interval of multipliers is narrowed to a golden section of it."""
_IN_TURN = 12
"""Rows of a clause up to which each multiplier is searched in turn; of more, supergradients find as much by far
sooner."""
_ROUNDS, _STEPS = 3, 33
"""Rounds of supergradient steps; each begins with the best weights so far, and with shorter steps than the last."""
_RATE, _SHORTER, _DECAY = 0.1, 0.2, 0.93
"""The length of the first step, what a round leaves of it, and what a step does."""
_ADAM = (0.8, 0.95, 1e-30)
"""Shares that a step keeps of the mean gradient and of the mean square."""
_LEAST = 1e-6
"""The least weight of the rows that are no conditions, together."""


@dataclass(frozen=True)
class Together:
    """The clauses that rows make up: so many consecutive ones each.

    Attributes:
        rows: of each clause.
        offsets: of the rows, ``[samples, clauses * rows]``.
        counts: 1 for a row of its clause, 0 for padding, alike.
        weighs: 1 for a row among whose weights 1 is shared out, 0 for a condition, whose multiplier has no limit:
            bounds are then those of the other rows where no condition row holds. Each clause has one that weighs.
    """

    rows: int
    offsets: tf.Tensor
    counts: tf.Tensor
    weighs: tf.Tensor

    @property
    def clauses(self) -> int:
        return int(self.offsets.shape[1]) // self.rows

    def part(self, first: int, last: int) -> Together:
        """The clauses from one number to before another."""
        some = slice(first * self.rows, last * self.rows)
        return Together(self.rows, self.offsets[:, some], self.counts[:, some], self.weighs[:, some])

    def twice(self) -> Together:
        """The clauses, and once more after them."""
        return Together(self.rows, *(tf.concat([p, p], axis=1) for p in (self.offsets, self.counts, self.weighs)))

    def each(self, x: tf.Tensor) -> tf.Tensor:
        """Data of rows ``[samples or 1, clauses * rows, ...]`` by clause: ``[samples or 1, clauses, rows, ...]``."""
        return tf.reshape(x, [-1 if x.shape[0] is None else x.shape[0], self.clauses, self.rows, *x.shape[2:]])


def combined_rows(
    network: Network, region: Region, rows: Coefficients, together: Together, relaxed: Relaxed
) -> tf.Tensor:
    """Lower bounds ``[samples, clauses]`` of each clause's best combination of rows.

    Args:
        network, region: as for :func:`~tfcert.propagation.backward.linear_lower_bounds`.
        rows: over the output, without offsets: ``[samples, 1, clauses * rows, outputs]``.
        together: which of them make a clause.
        relaxed: the nodes before.

    Returns:
        -inf where nothing is known. Of a rounded network what rounding takes from the combination is charged, and only
        its own pass counts. Each is a lower bound of ``sum m_i r_i`` over the region, for multipliers of at
        least 0 whose sum over the rows that weigh is 1.
    """
    return best_combination(network, region, rows, together, relaxed)[0]


def best_combination(
    network: Network, region: Region, rows: Coefficients, together: Together, relaxed: Relaxed
) -> tuple[tf.Tensor, WeightedRows]:
    """The same, and the weights of the combinations."""
    bound, weighted = best_weights(network, region, rows, together, relaxed)
    mixed, offsets = weighted.mixture(rows)
    errors = relaxed.errors or errors_of(network, region, relaxed.bounds)
    again = linear_lower_bounds(network, network.output, mixed, replace(relaxed, errors=errors), region) + offsets
    best = tf.maximum(bound, known(again)) if errors is None else known(weighted.charged(again, rows, errors))
    return best, weighted


@dataclass(frozen=True)
class WeightedRows:
    """Weights of rows ``[samples, clauses, rows]``, in a scale in which the rows vary alike."""

    together: Together
    scale: tf.Tensor
    weights: tf.Tensor

    def multipliers(self) -> tf.Tensor:
        """At least 0, none of padding, with a sum of 1 over the rows that weigh: ``[samples, clauses, rows]``."""
        weighs, counts = (self.together.each(part) for part in (self.together.weighs, self.together.counts))
        found = tf.nn.relu(self.weights) * self.scale * counts
        total = tf.reduce_sum(found * weighs, axis=2, keepdims=True)
        found = tf.where(total > 0, found, found + weighs)  # some row has to weigh, whatever is asked for
        return found / tf.reduce_sum(found * weighs, axis=2, keepdims=True)

    def mixture(self, rows: Coefficients) -> tuple[Coefficients, tf.Tensor]:
        """Each clause's combination of rows, of which rows ``[samples, 1, clauses * rows, ...]`` are given, as one
        row; and its offset ``[samples, clauses]``."""
        multipliers = self.multipliers()
        each = self.together.each(rows.values[:, 0])
        mixed = replace(rows, values=tf.einsum("skr,skrn->skn", multipliers, each)[:, None])
        return mixed, self.mixed(self.together.offsets, multipliers)

    def charged(self, bound: tf.Tensor, rows: Coefficients, errors: Errors) -> tf.Tensor:
        """What a bound of the combinations, offsets included, proves of a rounded network."""
        return bound - self.lost(rows, errors) - 4.0 * errors.rounding.own * tf.abs(bound)

    def lost(self, rows: Coefficients, errors: Errors) -> tf.Tensor:
        """What rounding may take from the combinations of rows over the output, and from their offsets.

        ``[samples, clauses]``: sums of so many products are off by a share of the sum of their sizes, and those of the
        offsets once more where they are added to a bound.
        """
        multipliers, share = self.multipliers(), share_of_sum(self.together.rows, errors.rounding)
        sizes = tf.einsum("skr,skrn->skn", multipliers, tf.abs(self.together.each(rows.values[:, 0])))
        reach = tf.reshape(errors.sizes[errors.network.output], [-1, 1, rows.values.shape[3]])
        every = share_of_sum(rows.values.shape[3], errors.rounding)
        values = (1.0 + every) * tf.reduce_sum(tf.math.multiply_no_nan(reach, sizes), axis=2)
        return 2.0 * share * (values + self.mixed(tf.abs(self.together.offsets), multipliers))

    def mixed(self, values: tf.Tensor, multipliers: tf.Tensor | None = None) -> tf.Tensor:
        """The combinations ``[samples, clauses]`` of numbers by row, ``[samples or 1, clauses * rows]``."""
        multipliers = self.multipliers() if multipliers is None else multipliers
        return tf.reduce_sum(multipliers * self.together.each(values), axis=2)


def best_weights(
    network: Network, region: Region, rows: Coefficients, together: Together, relaxed: Relaxed
) -> tuple[tf.Tensor, WeightedRows]:
    """The best bound ``[samples, clauses]`` of a combination of the rows' linear bounds over the input, and its
    weights."""
    lines, constants = _over_input(network, region, rows, relaxed)
    constants += together.offsets
    alone = tf.zeros_like(constants) if lines is None else least_change(lines, region)[:, 0]
    scale = together.each(_scale(alone, constants))

    def value(weights: tf.Tensor) -> tf.Tensor:
        weighted = WeightedRows(together, scale, weights)
        bound = weighted.mixed(constants)
        return known(bound if lines is None else bound + least_change(weighted.mixture(lines)[0], region)[:, 0])

    weighs, counts = (together.each(part) for part in (together.weighs, together.counts))
    found = together.each(constants + alone)
    single = tf.where(weighs > 0, found, tf.fill(tf.shape(found), tf.constant(-math.inf, found.dtype)))
    best = tf.one_hot(tf.argmax(single, axis=2), together.rows, dtype=found.dtype)
    if together.rows > _IN_TURN:
        best = 0.5 * best + 0.5 * counts / tf.reduce_sum(counts, axis=2, keepdims=True)
    else:
        best = _in_turn(value, best, counts)
    best = _climbed(value, best, counts)
    return value(best), WeightedRows(together, scale, best)


def _over_input(
    network: Network, region: Region, rows: Coefficients, relaxed: Relaxed
) -> tuple[Coefficients | None, tf.Tensor]:
    """Rows over the input, from the region's middle, that bound the rows from below, and their constants.

    None where they are constants.
    """
    reached: list[Coefficients] = []

    def stop(here: Coefficients) -> tuple[None, tf.Tensor]:
        reached.append(here.dense())
        return None, tf.zeros([1, 1, 1], here.values.dtype)

    stopped = replace(relaxed, stops={**relaxed.stops, 0: stop})
    constants = linear_lower_bounds(network, network.output, rows, stopped, region)
    samples, count = tf.shape(region.center)[0], rows.values.shape[2]
    constants = tf.broadcast_to(constants, [samples, count])
    if not reached:
        return None, constants
    values = reached[0].values
    return replace(reached[0], values=tf.broadcast_to(values, [samples, 1, count, values.shape[3]])), constants


def _scale(alone: tf.Tensor, constants: tf.Tensor) -> tf.Tensor:
    """What rows are multiplied with to be alike in size: the inverse of how much they vary."""
    size = tf.abs(alone)
    size = tf.where(tf.math.is_finite(size) & (size > 0), size, tf.abs(constants))
    return tf.where(tf.math.is_finite(size) & (size > 0), 1 / size, tf.ones_like(size))


def known(bound: tf.Tensor) -> tf.Tensor:
    """Bounds, -inf where they are not finite."""
    return tf.where(tf.math.is_finite(bound), bound, tf.constant(-math.inf, bound.dtype))


def _in_turn(value: Callable[[tf.Tensor], tf.Tensor], weights: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
    """Moves the weights towards each row in turn, as far as the bound rises: it rises, then falls."""
    rows = weights.shape[2]

    def along(share: tf.Tensor, weights: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
        return (1 - share)[..., None] * weights + share[..., None] * row

    def search(turn: tf.Tensor, weights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        row = tf.one_hot(turn % rows, rows, dtype=weights.dtype) * counts

        def narrow(count, low, high, best, most):  # type: ignore[no-untyped-def]
            left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
            below, above = (value(along(share, weights, row)) for share in (left, right))
            for share, found in ((left, below), (right, above)):
                best, most = tf.where(found > most, share, best), tf.maximum(most, found)
            falls = below > above
            return count + 1, tf.where(falls, low, left), tf.where(falls, right, high), best, most

        most = value(weights)
        zero = tf.zeros_like(most)
        start = (tf.constant(0), zero, tf.ones_like(most), zero, most)
        *_, best, _ = tf.while_loop(lambda count, *_: count < _SECTIONS, narrow, start, parallel_iterations=1)
        return turn + 1, along(best, weights, row)

    _, found = tf.while_loop(lambda turn, _: turn < rows, search, (tf.constant(0), weights), parallel_iterations=1)
    return found


def _climbed(value: Callable[[tf.Tensor], tf.Tensor], weights: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
    """The best weights that supergradient steps see."""

    def step(count, weights, best, most, mean, square):  # type: ignore[no-untyped-def]
        begins = count % _STEPS == 0
        weights = tf.where(begins, best, weights)
        mean, square = (tf.where(begins, tf.zeros_like(part), part) for part in (mean, square))
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)
            found = value(weights)
            total = tf.reduce_sum(tf.where(tf.math.is_finite(found), found, tf.zeros_like(found)))
        better = found > most
        best, most = tf.where(better[..., None], weights, best), tf.maximum(most, found)
        gradient = tape.gradient(total, weights, unconnected_gradients="zero")
        time = tf.cast(count % _STEPS + 1, weights.dtype)
        rate = _RATE * _SHORTER ** tf.cast(count // _STEPS, weights.dtype) * _DECAY**time
        (move,), (mean,), (square,) = adam([gradient * counts], [mean], [square], time, _ADAM)
        moved = (tf.nn.relu(weights + rate * move) + _LEAST) * counts
        moved /= tf.reduce_sum(moved, axis=2, keepdims=True)
        return count + 1, moved, best, most, mean, square

    zero = tf.zeros_like(weights)
    start = (tf.constant(0), weights, weights, value(weights), zero, zero)
    loop = tf.while_loop(lambda count, *_: count < _ROUNDS * _STEPS, step, start, parallel_iterations=1)
    return loop[2]
