"""The staircase of an interval abstraction: every number becomes the middle of its cell.

A staircase is monotone and constant between edges, so its range over an interval is found exactly from the interval's
ends, and no line that follows it is better over a box than that range: its lines are constants.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfcert.activations.accuracy import Accuracy
from tfcert.activations.registry import Activation, Ranges, Slopes
from tfcert.catalog import RELAXATIONS


def cell_index(x: tf.Tensor, edges: tf.Tensor) -> tf.Tensor:
    """The cell of each number, int32, shaped like ``x``: the last whose lower edge is not above the number.

    Numbers below the first edge belong to the first cell, and numbers from the last edge on to the last cell.

    Args:
        x: numbers; ``[..., *shape]`` where edges differ.
        edges: ``[cells + 1]``, ascending, in the type of ``x``; infinite at the end where there are fewer cells. Or
            ``[*shape, cells + 1]``, the edges of each number.
    """
    flat, rows = _by_row(x, edges)
    found = tf.searchsorted(rows[:, 1:-1], flat, side="right", out_type=tf.int32)
    last = tf.reduce_sum(tf.cast(tf.math.is_finite(rows), tf.int32), axis=1, keepdims=True) - 2
    return _back(tf.minimum(found, last), x)


def _by_row(x: tf.Tensor, edges: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Numbers ``[rows, n]`` and the edges ``[rows, cells + 1]`` that each row of them has."""
    rows = tf.reshape(edges, [-1, tf.shape(edges)[-1]])
    return tf.transpose(tf.reshape(x, [-1, tf.shape(rows)[0]])), rows


def _back(rows: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    return tf.reshape(tf.transpose(rows), tf.shape(x))


def cell_ends(x: tf.Tensor, edges: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The lower and the upper end of each number's cell, NaN of NaN; the gradient of both is the number's own.

    The true gradient is zero, which tells an attack nothing ("straight-through", Bengio et al. 2013, section 2.2).
    """

    @tf.custom_gradient
    def ends(x: tf.Tensor) -> tuple[tuple[tf.Tensor, tf.Tensor], Callable[..., tf.Tensor]]:
        index, rows = _by_row(cell_index(x, edges), edges)
        found = [_back(tf.gather(rows, index + k, axis=1, batch_dims=1), x) for k in (0, 1)]
        lower, upper = (tf.where(tf.math.is_nan(x), x, end) for end in found)
        return (lower, upper), lambda lower, upper: lower + upper

    lower, upper = ends(x)
    return lower, upper


def cells(edges: Callable[[], tf.Tensor]) -> Activation:
    """The activation that takes a number to the middle of its cell; ``edges`` reads what :func:`cell_index` takes."""

    def function(x: tf.Tensor) -> tf.Tensor:
        lower, upper = cell_ends(x, tf.cast(edges(), x.dtype))
        return 0.5 * lower + 0.5 * upper

    def flat(lower: tf.Tensor, upper: tf.Tensor) -> Slopes:
        return tf.zeros_like(lower), tf.zeros_like(upper)

    def nothing(*_: Any) -> Ranges:
        return None, None

    return Activation(
        name="cells",
        function=function,
        critical_points=lambda slope, lower, upper: (),
        relaxations={name: flat for name, rule in RELAXATIONS.items() if not rule.where},
        ranges=nothing,
        increasing=True,
        accuracy=Accuracy(2.0, sharp=True),
        edges=edges,
    )
