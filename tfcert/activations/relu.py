"""ReLU and LeakyReLU: ``max(x, alpha x)`` with ``0 <= alpha < 1``."""

from __future__ import annotations

import tensorflow as tf

from tfcert.activations.registry import Activation, Slopes, register_activation


def _chord(lower: tf.Tensor, upper: tf.Tensor, alpha: float) -> tf.Tensor:
    """Slope of the chord where the kink is inside the interval, of the function's own piece elsewhere."""
    unstable = (lower < 0) & (upper > 0)
    width = tf.where(unstable, upper - lower, tf.ones_like(upper))
    chord = (upper - alpha * lower) / width
    piece = tf.where(lower >= 0, tf.ones_like(lower), alpha * tf.ones_like(lower))
    return tf.where(unstable, chord, piece)


def leaky_relu(negative_slope: float = 0.0) -> Activation:
    """``max(x, negative_slope * x)``.

    Relaxations: ``fastlin`` takes the chord's slope for both lines (Fast-Lin, Weng et al. 2018); ``crown`` keeps the
    chord above and below takes the piece of the longer side (CROWN, Zhang et al. 2018, section 3.4): slope 1 where
    ``u > -l``, ``negative_slope`` elsewhere. ``adaptive`` is ``crown``, and so is CNN-Cert's adaptive rule.

    Raises:
        ValueError: the slope is outside [0, 1).
    """
    alpha = float(negative_slope)
    if not 0.0 <= alpha < 1.0:
        raise ValueError(f"negative_slope must lie in [0, 1), not {alpha}")

    def function(x: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu(x) if alpha == 0.0 else tf.maximum(x, alpha * x)

    def fastlin(lower: tf.Tensor, upper: tf.Tensor) -> Slopes:
        chord = _chord(lower, upper, alpha)
        return chord, chord

    def crown(lower: tf.Tensor, upper: tf.Tensor) -> Slopes:
        steep = tf.where(upper > -lower, tf.ones_like(lower), alpha * tf.ones_like(lower))
        stable = (lower >= 0) | (upper <= 0)
        chord = _chord(lower, upper, alpha)
        return tf.where(stable, chord, steep), chord

    return Activation(
        name="relu" if alpha == 0.0 else "leaky_relu",
        function=function,
        critical_points=lambda slope: (tf.zeros_like(slope),),
        relaxations={
            "fastlin": fastlin,
            "crown": crown,
            "cnncert": crown,
            "deepcert": crown,
            "adaptive": crown,
        },
        piecewise_linear=True,
    )


register_activation("relu", leaky_relu)
register_activation("leaky_relu", leaky_relu)
