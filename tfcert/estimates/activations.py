"""Global Lipschitz constants of activations, from above."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from tfcert.activations import Activation
from tfcert.network.linear import Shape

_STEEPEST = {
    "arctan": 1.0,
    "celu": 1.0,
    "gelu": 1.13,  # 1.129 near x = sqrt(2), in both forms
    "hard_sigmoid": 0.16667,
    "hard_silu": 1.5,
    "hard_tanh": 1.0,
    "log_sigmoid": 1.0,
    "mish": 1.0886,
    "relu6": 1.0,
    "selu": 1.7581,  # left of zero
    "sigmoid": 0.25,
    "silu": 1.0999,  # near x = 2.3994
    "soft_shrink": 1.0,
    "softplus": 1.0,
    "softsign": 1.0,
    "sparse_plus": 1.0,
    "param_ramp": 1.0,
    "sparse_sigmoid": 0.5,
    "squareplus": 1.0,
    "tanh": 1.0,
}
"""The largest absolute slopes of functions that have no parameter which changes it, by their names, rounded up."""
_CHECKED = np.concatenate([-np.geomspace(1e-3, 1e3, 4000)[::-1], [0.0], np.geomspace(1e-3, 1e3, 4000)])


def activation_constant(activation: Activation, shape: Shape, dtype: tf.DType) -> float:
    """The largest absolute slope of an activation anywhere, for values ``[batch, *shape]``.

    Raises:
        ValueError: there is none (``exp``), or none that is known.
    """
    one = tf.ones([1, *shape], dtype)
    if activation.piecewise_linear:  # on either side of zero
        ends = [activation.function(sign * one) - activation.function(0 * one) for sign in (1, -1)]
        return max(float(np.abs(end.numpy().astype(np.float64)).max(initial=0.0)) for end in ends)
    constant = _STEEPEST.get(activation.name, math.inf)
    if activation.name == "elu":  # 1 right of zero; left of it alpha, which is the limit of its values
        constant = max(1.0, -float(activation.function(tf.constant(-1e3, tf.float64))))
    if not _steepest_seen(activation, shape) <= constant < math.inf:
        raise ValueError(
            f"no global Lipschitz constant is known for the activation {activation.name!r}, so no radius follows from "
            "one; tfcert.certified_radius bounds it over the ball alone"
        )
    return constant


def _steepest_seen(activation: Activation, shape: Shape) -> float:
    """The steepest chord between close points: a function that merely has a known name is found out."""
    points = _CHECKED.reshape(-1, *[1] * len(shape))  # neurons may differ
    values = activation.function(tf.constant(points)).numpy()
    with np.errstate(over="ignore", invalid="ignore"):
        steepest = np.abs(np.diff(values, axis=0) / np.diff(points, axis=0))
    return float(np.max(steepest)) * (1 - 1e-9)
