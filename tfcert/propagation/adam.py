"""Adam's steps (Kingma and Ba 2015), of the searches for better bounds."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


def adam(
    gradients: Sequence[tf.Tensor],
    mean: Sequence[tf.Tensor],
    square: Sequence[tf.Tensor],
    time: tf.Tensor,
    how: tuple[float, float, float],
) -> tuple[list[tf.Tensor], list[tf.Tensor], list[tf.Tensor]]:
    """Adam's moves for a rate of 1, and the new moments; gradients that are not finite count as 0.

    Args:
        time: how many steps were taken, this one included.
        how: shares kept of the mean and of the mean square, and what is added to its root.
    """
    keep, keep2, tiny = how
    known = [tf.where(tf.math.is_finite(g), g, tf.zeros_like(g)) for g in gradients]
    mean = [keep * m + (1 - keep) * g for m, g in zip(mean, known, strict=True)]
    square = [keep2 * v + (1 - keep2) * g * g for v, g in zip(square, known, strict=True)]
    bias = tf.sqrt(1 - keep2**time) / (1 - keep**time)
    return [bias * m / (tf.sqrt(v) + tiny) for m, v in zip(mean, square, strict=True)], mean, square
