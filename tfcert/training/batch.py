"""A batch in the middle of a step: its bounds, in the forms that losses are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import tensorflow as tf

from tfcert.activations import activation, lines
from tfcert.network.graph import Network
from tfcert.propagation.backward import Relaxed, linear_lower_bounds
from tfcert.propagation.bounds import relaxed_by_lines
from tfcert.propagation.centered import Sweep
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.enclosures import TensorInterval
from tfcert.propagation.methods.dual_lp import dual_network
from tfcert.propagation.preactivation import relaxed_by_intervals
from tfcert.sets.region import Region

_ROUNDING = 1e-4
"""What a value may lie outside the valid range, as a share of that."""


@dataclass
class BoundedBatch:
    """A step as an objective and its regularizers see it.

    Attributes:
        network: the network, with live weights.
        region: the boxes around the samples, ``[batch, *input]``.
        sweep: the ranges of every node over them.
        labels: one-hot, ``[batch, classes]``.
        classify: the classification loss of logits ``[batch, classes]``: a scalar, samples weighted.
        is_crossentropy: whether that loss is the cross-entropy of logits.
        by_lines: whether a bound by lines may have a weight in this step.
        weights: sample weights ``[batch]``, or None.
        eps: the radius of the boxes, a scalar, and ``final_eps`` what its schedule ends with.
        step: steps that the optimizer has taken.
    """

    network: Network
    region: Region
    sweep: Sweep
    labels: tf.Tensor
    classify: Callable[[tf.Tensor], tf.Tensor]
    weights: tf.Tensor | None
    eps: tf.Tensor
    final_eps: float
    is_crossentropy: bool = False
    by_lines: bool = True
    step: tf.Tensor = field(default_factory=lambda: tf.constant(0, tf.int64))

    @property
    def ranges(self) -> list[TensorInterval]:
        """The range of each node, ``[batch, *shape]`` pairs."""
        return self.sweep.ranges

    @cached_property
    def interval_margins(self) -> tf.Tensor:
        """Lower bounds of ``f_y - f_j`` by intervals, rows multiplied into the last layers: ``[batch, classes]``.

        The label's own column is 0.
        """
        return self._least(self._differences(), relaxed_by_intervals(self.network, self.ranges))

    def line_margins(self, relaxed: Relaxed | None = None) -> tf.Tensor:
        """Lower bounds of ``f_y - f_j`` by CROWN-IBP, ``[batch, classes]``; the label's own column is 0.

        ``relaxed`` are other lines than CROWN's to bound by.
        """
        return self._least(self._differences(), relaxed or relaxed_by_lines(self.network, self.ranges))

    def dual_margins(self) -> tf.Tensor:
        """Lower bounds of ``f_y - f_j`` by the dual network, ``[batch, classes]``; the label's own column is 0.

        Neither these nor the layers' bounds that they rest on are met with intervals.
        """
        return dual_network(self.network, self.region, self._first(self._differences())).lower

    def fused_logits(self) -> tf.Tensor:
        """Logits ``[batch, classes]`` whose cross-entropy is at least that of every point of the boxes.

        A cross-entropy is ``log(1 + sum_j exp(f_j - f_y))``. Each exponential lies below its chord between the interval
        bounds of ``f_j - f_y``, so the sum lies below a linear function of the logits, which CROWN-IBP bounds as a
        single row (loss fusion, Xu et al. 2020, "Automatic perturbation analysis for scalable certified robustness and
        beyond", section 3.3). The label has 0, and the other classes share the bound of the sum equally.
        """
        others, rows = 1.0 - self.labels, self._differences()
        upper = -self.interval_margins
        # The intervals' middles go through what rows go through, so both ends are as far from the difference there.
        middle = 0.5 * (self.ranges[-1][0] + self.ranges[-1][1])
        lower = -2.0 * tf.linalg.matvec(rows, middle) - upper
        # Everything is divided by the largest exponential, which float32 may not hold.
        top = tf.stop_gradient(tf.reduce_max(upper - self.labels * upper.dtype.max, axis=1, keepdims=True))
        exp, ends = activation("exp"), (others * (lower - top), others * (upper - top))
        chord = lines(exp, exp.slopes(None, *ends), *ends)
        slope = others * chord.upper_slope
        constant = tf.reduce_sum(others * chord.upper_intercept - slope * top, axis=1, keepdims=True)
        row = tf.matmul(slope[:, None], rows)  # minus the linear function
        total = constant - self._least(row, relaxed_by_lines(self.network, self.ranges))
        share = top + tf.math.log(total / (others.shape[1] - 1))
        return others * share

    def _differences(self) -> tf.Tensor:
        """The rows ``f_y - f_j``, ``[batch, classes, classes]``."""
        return self.labels[:, None, :] - tf.eye(self.labels.shape[-1], dtype=self.labels.dtype)

    def _least(self, rows: tf.Tensor, relaxed: Relaxed) -> tf.Tensor:
        """Lower bounds of linear functions of the logits, ``[batch, rows, classes]``: ``[batch, rows]``."""
        return linear_lower_bounds(self.network, self.network.output, self._first(rows), relaxed, self.region)

    def _first(self, rows: tf.Tensor) -> Coefficients:
        return Coefficients(rows[:, None], self.network.output_shape)

    def worst_logits(self) -> tf.Tensor:
        """The label's lower and the other classes' upper bounds, ``[batch, classes]`` (Gowal et al. 2018, eq. 9)."""
        lower, upper = self.ranges[-1]
        return self.labels * lower + (1.0 - self.labels) * upper

    def least_margin(self) -> tf.Tensor:
        """The interval bound of the margin, ``[batch]``; NaN where a range was lost, or the label is no class."""
        others = tf.where(self.labels > 0, self.labels.dtype.max, self.interval_margins)
        least = tf.reduce_min(others, axis=1)
        # A NaN that a minimum dropped must not verify, nor a label out of range, whose one-hot row is all zeros.
        sound = self.sweep.known & tf.reduce_all(tf.math.is_finite(self.interval_margins), axis=1)
        sound &= tf.reduce_any(self.labels > 0, axis=1)
        return tf.where(sound, least, tf.constant(float("nan"), least.dtype))

    def mean(self, values: tf.Tensor) -> tf.Tensor:
        """The mean of one number a sample, weighted as Keras weighs losses: weights multiply, the count divides."""
        return tf.reduce_mean(values if self.weights is None else values * self.weights)


def strays(x: tf.Tensor, clip: tuple[Any, Any]) -> tf.Tensor:
    """The number of samples with a value that is no number, or outside ``clip`` by more than rounding explains."""
    low, high = (tf.constant(end, x.dtype) for end in clip)
    slack = _ROUNDING * (high - low)
    inside = (x >= low - slack) & (x <= high + slack)
    return tf.math.count_nonzero(~tf.reduce_all(inside, axis=list(range(1, len(x.shape)))))


def boxes(x: tf.Tensor, eps: tf.Tensor, clip: tuple[Any, Any] | None, scale: Any = None) -> Region:
    """The boxes of radius ``eps`` around ``x`` within ``clip``, which ``x`` itself never leaves.

    ``scale`` ``[*input]`` multiplies the radius where it is uneven.
    """
    reach = eps if scale is None else eps * tf.constant(scale, x.dtype)
    lower, upper = x - reach, x + reach
    if clip is not None:
        low, high = (tf.constant(end, x.dtype) for end in clip)
        lower, upper = tf.minimum(tf.maximum(lower, low), x), tf.maximum(tf.minimum(upper, high), x)
    radii = tf.fill([tf.shape(x)[0]], tf.cast(eps, x.dtype))
    return Region("linf", clip is not None, x, lower, upper, radii)
