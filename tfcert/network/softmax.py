"""The log odds of a softmax: what remains of it once a sigmoid is taken out."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import tensorflow as tf

from tfcert.activations import Activation, activation
from tfcert.activations.accuracy import ACCURACIES, Accuracy
from tfcert.network.graph import Multivariate


@functools.cache
def softmax_accuracy(entries: int) -> Accuracy:
    """What the sigmoid of the log odds errs by as the softmax of a program, relative to its value.

    ``exp`` of ``x_j - m`` errs by twice what is stated of the function (a softmax is a kernel of its own), once of the
    number and once of the sum; the sum of n terms by n - 1 roundings, and by the mean of what the differences err by
    themselves, at most ``log n``; a division, or a multiplication with the inverse, by a few. What ``x_j - m`` of the
    number itself errs by is charged to its log odds (:mod:`tfcert.propagation.log_odds`).
    """
    exp = ACCURACIES["exp"]
    single, double = (
        0.5 * (8.0 * exp.within(unit) + entries + math.log(entries) + 9.0) for unit in (2.0**-24, 2.0**-53)
    )
    return Accuracy(single, double=double)


def size_of_log_sum(entries: int, dtype: tf.DType) -> float:
    """What a program's ``log(sum of exp(x_i - m)) + m`` errs by, as a size that a node which scales by 1 is charged.

    Statement. With m the largest of n numbers, u the unit roundoff, e and l what is stated of ``exp`` and ``log``, the
    program is off by at most ``12 u (|value| + size)``; such a node is charged ``gamma_12`` of that.

    ``x_i - m`` is off by u of itself, so ``exp`` of it by ``1.01 u |x_i - m|``, relatively, and by twice what is stated
    of ``exp``, ``4 e u``, as in a softmax. The sum, in any order, errs by ``(n - 1) u``, relatively, and by the mean of
    what its terms do, weighted by their shares p: of ``|x_i - m|`` that is the entropy of p less ``log s``, at most
    ``log n``. The logarithm makes an absolute error of this relative one, as the sum s is at least 1; it lies between 0
    and ``log n`` and errs by ``2 l u`` of itself. Adding m errs by u of the value. A program that adds ``x_i - m``
    instead of taking the logarithm from ``x_i`` (a log-softmax) errs by u more of ``|x_i - m|``, which the node that
    subtracts is charged, but for ``log n`` of the difference between m and the value. What is flushed to zero is at
    most n of the smallest normal numbers: the node is charged for more, u of 1.
    """
    unit = 2.0**-24 if dtype == tf.float32 else 2.0**-53
    exp, log = (ACCURACIES[name].within(unit) for name in ("exp", "log"))
    return 1.1 * (entries + 4.0 * exp + (4.0 + 2.0 * log) * math.log(entries)) / 12.0


@functools.cache
def softmax_sigmoid(entries: int) -> Activation:
    """The sigmoid that stands for a softmax of so many entries."""
    return replace(activation("sigmoid"), accuracy=softmax_accuracy(entries))


@dataclass(frozen=True, eq=False, kw_only=True)
class LogOdds(Multivariate):
    """``x_j - log(sum over i != j of exp(x_i))`` along the last axis, which has at least two entries.

    These are ``log(p_j / (1 - p_j))`` of the softmax p: p is their sigmoid, and log p their log-sigmoid.
    """

    def evaluate(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        return inputs[0] - log_sum_of_others(inputs[0])

    def deviation(self, inputs: Sequence[tf.Tensor], value: tf.Tensor) -> tf.Tensor:
        largest = tf.reduce_max(tf.abs(inputs[0]), axis=-1, keepdims=True)
        return tf.abs(value) + 2 * largest + float(self.shape[-1])

    def carried(self, inputs: Sequence[tf.Tensor], variances: Sequence[tf.Tensor]) -> tf.Tensor:
        return variances[0] + tf.linalg.matvec(tf.square(weights_of_others(inputs[0])), variances[0])

    def lipschitz(self, norm: str) -> float:
        """Rows of the Jacobian are a 1 and minus weights that sum to 1, a column's entries are at most 1 each."""
        entries = float(self.shape[-1])
        return {"linf": 2.0, "l2": 1 + (entries - 1) ** 0.5, "l1": entries}[norm]


def log_sum_of_others(x: tf.Tensor) -> tf.Tensor:
    """``log(sum over i != j of exp(x_i))`` along the last axis for each j, without cancellation; x is finite."""
    first = tf.one_hot(tf.argmax(x, axis=-1), x.shape[-1], on_value=True, off_value=False)
    least = tf.constant(x.dtype.min, x.dtype)
    of_first = tf.reduce_logsumexp(tf.where(first, least, x), axis=-1, keepdims=True)
    # Of the others each is at most half of the whole sum, which has the first in it.
    largest = tf.stop_gradient(tf.reduce_max(x, axis=-1, keepdims=True))
    sizes = tf.exp(x - largest)
    rest = tf.reduce_sum(sizes, axis=-1, keepdims=True) - tf.where(first, tf.zeros_like(sizes), sizes)
    return tf.where(first, of_first, largest + tf.math.log(rest))


def weights_of_others(x: tf.Tensor) -> tf.Tensor:
    """``exp(x_i) / (sum over i != j of exp(x_i))`` as ``[..., j, i]``, zero where i is j."""
    nowhere = tf.constant(x.dtype.min / 2, x.dtype)
    others = tf.linalg.set_diag(tf.repeat(x[..., None, :], x.shape[-1], axis=-2), tf.zeros_like(x) + nowhere)
    return tf.nn.softmax(others)
