"""The weights of two objectives, from moving averages of their gradients (Fan & Li 2021)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tfcert")
class GradientBalance(keras.layers.Layer):
    """Finds by how much two losses count in a step, so that the step lowers both.

    Averages of the gradients m1 and m2 and of their norms n1 and n2 are kept over the steps (``decay`` of what was,
    divided by 1 minus its power, as in Adam): the direction that two gradients of one batch agree on is biased, that of
    their averages less so. Then

    - where ``m1 . m2 > 0``: ``c1 = c / n1`` and ``c2 = c / n2``, the direction b = m1 / n1 + m2 / n2 between both, as
      long as their projections on it on average: ``c = (n1 + n2 + m1 . m2 (1 / n1 + 1 / n2)) / (2 b . b)``;
    - else ``c1 = 1`` and ``c2 = - m1 . m2 / n2^2``: the first gradient without what would raise the second loss.

    It is a layer so that its state is saved with the model's weights, and a training that goes on has it.

    Args:
        size: how many numbers are trained.
        decay: of the averages, in [0, 1).
    """

    def __init__(self, size: int, decay: float = 0.9, **kwargs: Any):
        super().__init__(trainable=False, **kwargs)
        self.size, self.decay = int(size), float(decay)
        fixed: dict[str, Any] = {"initializer": "zeros", "trainable": False, "dtype": "float32"}
        self.moments = self.add_weight(shape=(2, size), name="moments", **fixed)
        self.norms = self.add_weight(shape=(2,), name="norms", **fixed)
        self.seen = self.add_weight(shape=(), name="seen", **fixed)
        self.built = True

    def coefficients(self, first: Sequence[Any], second: Sequence[Any]) -> tuple[tf.Tensor, tf.Tensor]:
        """c1 and c2 for a step with these gradients, which the averages take in: float32 scalars."""
        gradients = tf.stack([_flat(first), _flat(second)])
        lengths = tf.norm(gradients, axis=1)
        for variable, new in ((self.moments, gradients), (self.norms, lengths)):
            variable.assign(self.decay * variable + (1.0 - self.decay) * new)
        self.seen.assign_add(1.0)
        share = 1.0 - tf.pow(self.decay, tf.convert_to_tensor(self.seen))
        one, two = tf.unstack(tf.convert_to_tensor(self.moments) / share)
        n1, n2 = tf.unstack(tf.convert_to_tensor(self.norms) / share)
        return balanced(tf.tensordot(one, two, 1), (tf.norm(one), tf.norm(two)), (n1, n2))

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"size": self.size, "decay": self.decay}


def balanced(
    dot: tf.Tensor, lengths: tuple[tf.Tensor, tf.Tensor], norms: tuple[tf.Tensor, tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor]:
    """c1 and c2 of :class:`GradientBalance` from ``m1 . m2``, the lengths of m1 and m2, and n1 and n2.

    A loss without a gradient has no say, and no weight of its own either.
    """
    (l1, l2), (n1, n2) = lengths, norms
    inverse1, inverse2 = tf.math.divide_no_nan(1.0, n1), tf.math.divide_no_nan(1.0, n2)
    square = tf.square(l1 * inverse1) + tf.square(l2 * inverse2) + 2.0 * dot * inverse1 * inverse2
    common = tf.math.divide_no_nan(n1 + n2 + dot * (inverse1 + inverse2), 2.0 * square)
    agree = dot > 0
    return (
        tf.where(agree, common * inverse1, tf.ones_like(common)),
        tf.where(agree, common * inverse2, -dot * tf.square(inverse2)),
    )


def trained_size(model: keras.Model) -> int:
    """How many numbers of a model are trained."""
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)


def filled(gradients: Sequence[Any], weights: Sequence[Any]) -> list[tf.Tensor]:
    """Gradients, zero where a weight has no part in the loss."""
    return [
        tf.zeros(weight.shape, weight.dtype) if gradient is None else tf.convert_to_tensor(gradient)
        for gradient, weight in zip(gradients, weights, strict=True)
    ]


def _flat(gradients: Sequence[Any]) -> tf.Tensor:
    return tf.concat([tf.reshape(tf.cast(gradient, tf.float32), [-1]) for gradient in gradients], axis=0)
