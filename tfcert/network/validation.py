"""The last gate of the frontend: the network must agree with its model on probe inputs.

The tolerance is the rounding error that two evaluations in different orders can differ by, computed for this
network and these inputs, not a constant. With unit roundoff ``u``, a node of the network computed from inputs of
error ``e`` has at most the error

* linear: ``|W| e + (n + 8) u (|W| |x| + |b|)`` for dot products of length ``n`` (the 8 covers weights that are
  themselves computed, as batch normalisation's scale);
* activation: the change of the function over ``x - e .. x + e`` at its ends, plus ``8 u (|f(x)| + |x|)``;
* maximum: the largest error in the window; sum: the errors' sum and ``k u`` times the sum of magnitudes.

Both evaluations may err, so the tolerance is twice the error of the output.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfcert.network.errors import FrontendMismatchError
from tfcert.network.graph import Add, Concatenate, Elementwise, Input, Linear, MaxPool, Network, Node, evaluate

PROBE_SCALE = 255.0
"""The largest magnitude of a corner probe: pixels that were never rescaled."""


def validate(network: Network, model: keras.Model, *, softmax: bool = False, x: Any = None) -> None:
    """Compares a network with its model, ``model(x, training=False)``, on the inputs of :func:`probes`.

    Args:
        network: what was built.
        model: what it was built from.
        softmax: the model applies a softmax to the network's output.
        x: inputs of the user's; a few of them join the probes.

    Raises:
        FrontendMismatchError: an output differs by more than :func:`tolerance`, or is not finite.
    """
    with tf.device("/CPU:0"):  # The error model does not cover the 10-bit products of some accelerators.
        inputs = tf.constant(probes(network, x))
        values = network.values(inputs)
        allowed = 2.0 * rounding_errors(network, values, inputs)[-1]
        computed = values[-1]
        if softmax:
            # softmax(z + e) lies within a factor exp(2 max|e|) of softmax(z).
            computed = tf.nn.softmax(computed)
            spread = tf.math.expm1(2.0 * tf.reduce_max(allowed, axis=-1, keepdims=True))
            allowed = computed * spread + 16.0 * unit_roundoff(network) * tf.ones_like(computed)
        expected = keras.tree.flatten(model(inputs, training=False))[0]
    difference = np.abs(expected.numpy() - computed.numpy())
    agrees = difference <= allowed.numpy()  # False where anything is NaN
    if not agrees.all():
        worst = np.unravel_index(np.argmax(np.where(agrees, 0.0, np.nan_to_num(difference, nan=np.inf))), agrees.shape)
        raise FrontendMismatchError(
            f"the network built from model {model.name!r} differs from it on {int((~agrees).sum())} of {agrees.size} "
            f"probe outputs: {float(computed.numpy()[worst])} instead of {float(expected.numpy()[worst])} at "
            f"{tuple(int(i) for i in worst)}, rounding explains {float(allowed.numpy()[worst]):.3g}; "
            "a layer computes something else than its class says, or tfcert misreads one of its options"
        )


def probes(network: Network, x: Any = None) -> np.ndarray:
    """Zeros, ones, large corners of both signs, checkered corners, uniform and normal noise, and up to two of ``x``."""
    generator = np.random.default_rng(0)
    shape = network.input_shape
    signs = generator.choice([-1.0, 1.0], shape)
    corners = [np.zeros(shape), np.ones(shape), -np.ones(shape), PROBE_SCALE * np.ones(shape)]
    corners += [PROBE_SCALE * signs, (signs > 0).astype(float)]
    noise = [generator.uniform(size=shape), generator.normal(size=shape), 4.0 * generator.normal(size=shape)]
    given = [] if x is None else [np.asarray(sample) for sample in x[:2]]
    return np.stack([*corners, *noise, *given]).astype(network.dtype.as_numpy_dtype)


def unit_roundoff(network: Network) -> float:
    """Half the distance from 1 to the next number of the network's type."""
    return float(np.finfo(network.dtype.as_numpy_dtype).eps) / 2


def rounding_errors(network: Network, values: list[tf.Tensor], x: tf.Tensor) -> list[tf.Tensor]:
    """The rounding error of every node's value, as in the module's docstring."""
    errors: list[tf.Tensor] = []
    for node in network.nodes:
        inputs = [(values[i], errors[i]) for i in node.inputs]
        errors.append(_node_error(node, inputs, x, unit_roundoff(network)))
    return errors


def _node_error(node: Node, inputs: list[tuple[tf.Tensor, tf.Tensor]], x: tf.Tensor, u: float) -> tf.Tensor:
    match node:
        case Input():
            return tf.zeros_like(x)
        case Linear():
            value, error = inputs[0]
            size = node.map.abs_apply(tf.abs(value))
            if node.bias is not None:
                size = size + tf.abs(node.bias())
            return node.map.abs_apply(error) + (node.map.terms() + 8) * u * size
        case Elementwise():
            value, error = inputs[0]
            function = node.activation.function
            centre = function(value)
            change = tf.maximum(tf.abs(function(value + error) - centre), tf.abs(function(value - error) - centre))
            return change + 8 * u * (tf.abs(centre) + tf.abs(value))
        case MaxPool():
            return evaluate(node, [inputs[0][1]], x)
        case Add():
            size = tf.add_n([tf.abs(value) for value, _ in inputs])
            return tf.add_n([error for _, error in inputs]) + len(inputs) * u * size
        case Concatenate():
            return evaluate(node, [error for _, error in inputs], x)
    raise TypeError(f"no rounding rule for a {type(node).__name__} node")
