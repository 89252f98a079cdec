"""The reverse Weibull distribution, fitted to maxima: where is the end that they approach?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

LARGEST_SHAPE = 20.0
_STARTS = (1.5, 3.0, 7.0, 15.0)
_CONSTANT = 1e-6
"""Maxima whose spread is below this, relative to them, differ by rounding alone."""
_ITERATIONS = 200


class ReverseWeibull(NamedTuple):
    """``F(s) = exp(-((location - s) / scale) ** shape)`` for ``s <= location``; ``[...]`` float64 each.

    ``log_likelihood`` is the mean over the maxima, infinite where they are all equal.
    """

    location: np.ndarray
    scale: np.ndarray
    shape: np.ndarray
    log_likelihood: np.ndarray


def fit_reverse_weibull(maxima: np.ndarray) -> ReverseWeibull:
    """The maximum-likelihood fit to maxima ``[..., count]``, with a shape between 1 and ``LARGEST_SHAPE``.

    Below shape 1 the likelihood is infinite at ``location = max``. As the shape grows the distribution becomes a Gumbel
    distribution, which has no end: some hundred maxima do not tell shapes above 20 from it, and a location fitted there
    is arbitrary. Between the two the fit is well conditioned: maxima are measured from the largest in standard
    deviations, so ``location - max`` is a positive number near 1; the scale follows from the other two in closed form;
    and L-BFGS runs from several shapes at once, for all rows together, and keeps the likeliest.

    Maxima that are all equal (a network that is linear in the ball) put the location at their value.
    """
    values = np.asarray(maxima, np.float64)
    top, spread = values.max(axis=-1), values.std(axis=-1)
    constant = spread <= _CONSTANT * np.abs(top)
    unit = np.where(constant, 1.0, spread)
    gaps = (top[..., None] - values) / unit[..., None]
    fitted = _fit(tf.constant(gaps.reshape(-1, gaps.shape[-1])))
    gap, scale, shape, likelihood = (part.numpy().reshape(top.shape) for part in fitted)
    return ReverseWeibull(
        np.where(constant, top, top + unit * gap),
        np.where(constant, 0.0, unit * scale),
        shape,
        np.where(constant, np.inf, likelihood - np.log(unit)),
    )


@tf.function(autograph=False, input_signature=[tf.TensorSpec([None, None], tf.float64)])
def _fit(gaps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """The fit to gaps ``[rows, count]`` below the largest: the gap above it, scale, shape, log-likelihood."""

    def negative(free: tf.Tensor) -> tf.Tensor:
        gap, shape = _constrained(free)
        return -tf.reduce_mean(_weibull(gap, shape, gaps).log_prob(gap[..., None] + gaps), axis=-1)

    starts = tf.constant(_STARTS, gaps.dtype)
    free = tf.stack([tf.math.log(starts / 2), _logit(starts)], axis=-1)
    free = tf.tile(free[:, None], [1, tf.shape(gaps)[0], 1])
    fit = tfp.optimizer.lbfgs_minimize(
        lambda point: tfp.math.value_and_gradient(negative, point), free, max_iterations=_ITERATIONS, tolerance=1e-9
    )
    best = tf.argmin(tf.where(tf.math.is_finite(fit.objective_value), fit.objective_value, np.inf), axis=0)
    chosen = tf.one_hot(best, len(_STARTS), axis=0, on_value=True, off_value=False)
    gap, shape = _constrained(tf.reduce_sum(tf.where(chosen[..., None], fit.position, 0.0), axis=0))
    scale = tf.squeeze(_weibull(gap, shape, gaps).scale, -1)
    return gap, scale, shape, -tf.reduce_sum(tf.where(chosen, fit.objective_value, 0.0), axis=0)


def _constrained(free: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A positive gap and a shape between 1 and the largest, from two numbers without constraints."""
    return tf.exp(free[..., 0]), 1 + (LARGEST_SHAPE - 1) * tf.sigmoid(free[..., 1])


def _logit(shape: tf.Tensor) -> tf.Tensor:
    share = (shape - 1) / (LARGEST_SHAPE - 1)
    return tf.math.log(share / (1 - share))


def _weibull(gap: tf.Tensor, shape: tf.Tensor, gaps: tf.Tensor) -> tfp.distributions.Weibull:
    """The likeliest Weibull distribution of ``gap + gaps`` with the given shape: ``scale^shape = mean (.)^shape``."""
    logs = tf.math.log(gap[..., None] + gaps) * shape[..., None]
    count = tf.cast(tf.shape(gaps)[-1], gaps.dtype)
    scale = tf.exp((tf.reduce_logsumexp(logs, axis=-1) - tf.math.log(count)) / shape)
    return tfp.distributions.Weibull(concentration=shape[..., None], scale=scale[..., None])
