"""The last gate of the frontend: the network must agree with its model on probe inputs.

The tolerance is what rounding can explain for this network and these inputs, not a constant. Worst-case error terms
grow with every layer until they would excuse anything, so rounding is imitated instead: the network is evaluated
``RUNS`` times with random errors at every node, and the tolerance of an output is ``SAFETY`` times the root mean
square of its deviations. With unit roundoff ``u``, the standard deviation of the error is

* linear: ``sqrt(n + 8) u (|W| |x| + |b|)`` for dot products of length ``n`` (what a plain loop over summands of one
  sign makes; the 8 covers weights that are themselves computed, as batch normalisation's scale);
* activation: ``4 u (|f(x)| + |x|)``; sum: ``u`` times the sum of magnitudes; maximum and concatenation: none.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfcert.network.errors import FrontendMismatchError
from tfcert.network.graph import Add, Elementwise, Linear, Network, Node, evaluate

PROBE_SCALE = 255.0
"""The largest magnitude of a corner probe: pixels that were never rescaled."""

RUNS = 8
SAFETY = 4.0


def validate(network: Network, model: keras.Model, *, softmax: bool = False, x: Any = None) -> None:
    """Compares a network with its model, ``model(x, training=False)``, on the inputs of :func:`probes`.

    Args:
        network: what was built.
        model: what it was built from.
        softmax: the model applies a softmax to the network's output.
        x: inputs of the user's; a few of them join the probes.

    Raises:
        FrontendMismatchError: an output differs by more than :func:`tolerance`, or is NaN.
    """
    with tf.device("/CPU:0"):  # The error model does not cover the 10-bit products of some accelerators.
        inputs = tf.constant(probes(network, x))
        computed = network(inputs)
        allowed = tolerance(network, computed, inputs)
        if softmax:
            # softmax(z + e) lies within a factor exp(2 max|e|) of softmax(z).
            computed = tf.nn.softmax(computed)
            error = tf.minimum(tf.reduce_max(allowed, axis=-1, keepdims=True), 20.0)
            allowed = computed * tf.math.expm1(2.0 * error) + 16.0 * unit_roundoff(network) * tf.ones_like(computed)
        expected = _outputs(model, inputs)
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


def _outputs(model: keras.Model, inputs: tf.Tensor) -> tf.Tensor:
    """The model's only output, whatever structure (a list, a dictionary) its input and output are wrapped in."""
    structure = getattr(model, "_inputs_struct", None)
    if structure is not None:
        inputs = keras.tree.pack_sequence_as(structure, [inputs])
    return keras.tree.flatten(model(inputs, training=False))[0]


def probes(network: Network, x: Any = None) -> np.ndarray:
    """Zeros, ones, large corners of both signs, checkered corners, uniform and normal noise, and up to two of ``x``."""
    generator = np.random.default_rng(0)
    shape = network.input_shape
    signs = generator.choice([-1.0, 1.0], shape)
    corners = [np.zeros(shape), np.ones(shape), -np.ones(shape), PROBE_SCALE * np.ones(shape)]
    corners += [PROBE_SCALE * signs, (signs > 0).astype(float)]
    noise = [generator.uniform(size=shape), generator.normal(size=shape), 4.0 * generator.normal(size=shape)]
    given = [] if x is None else [np.asarray(sample) for sample in x[:2] if np.isfinite(sample).all()]
    return np.stack([*corners, *noise, *given]).astype(network.dtype.as_numpy_dtype)


def unit_roundoff(network: Network) -> float:
    """Half the distance from 1 to the next number of the network's type."""
    return float(np.finfo(network.dtype.as_numpy_dtype).eps) / 2


def tolerance(network: Network, clean: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """How far rounding may move the outputs ``clean`` ``[batch, *output]``, as in the module's docstring."""
    generator = tf.random.Generator.from_seed(0)
    runs = tf.repeat(x, RUNS, axis=0)
    found: list[tf.Tensor] = []
    for node in network.nodes:
        inputs = [found[i] for i in node.inputs]
        value = evaluate(node, inputs, runs)
        spread = unit_roundoff(network) * _error_scale(node, inputs, value)
        found.append(value + spread * generator.normal(tf.shape(value), dtype=network.dtype))
    deviation = tf.reshape(found[-1], [-1, RUNS, *network.output_shape]) - clean[:, None]
    return SAFETY * tf.sqrt(tf.reduce_mean(tf.square(deviation), axis=1))


def _error_scale(node: Node, inputs: list[tf.Tensor], value: tf.Tensor) -> tf.Tensor:
    """The standard deviation of a node's own rounding error, in units of the roundoff."""
    match node:
        case Linear():
            size = node.map.abs_apply(tf.abs(inputs[0]))
            if node.bias is not None:
                size = size + tf.abs(node.bias())
            return float(np.sqrt(node.map.terms() + 8)) * size
        case Elementwise():
            return 4.0 * (tf.abs(value) + tf.abs(inputs[0]))
        case Add():
            return tf.add_n([tf.abs(term) for term in inputs])
    return tf.zeros([], value.dtype)
