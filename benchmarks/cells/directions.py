"""The loss of a trained model around its weights, along random directions (Li et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

_BATCH = 1000
"""Samples in one pass."""
_FILTERED = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
"""Layers whose kernel's last axis numbers its filters."""

Direction = list[np.ndarray]
"""One array for each of a model's trainable weights."""


def direction(model: keras.Model, rng: np.random.Generator) -> Direction:
    """A random direction whose filters are as long as the model's own (Li et al. 2018, section 4).

    A filter is what makes one channel of a convolution or one neuron of a dense layer. Biases and the weights of batch
    normalisation do not move.

    Raises:
        ValueError: another layer has a trainable weight of two or more axes.
    """
    layers = model._flatten_layers(include_self=False)
    kernels = {id(layer.kernel) for layer in layers if isinstance(layer, _FILTERED)}
    found = []
    for weight in model.trainable_variables:
        value = weight.numpy()
        if id(weight) in kernels:
            drawn = rng.standard_normal(value.shape)
            found.append((drawn * _lengths(value) / _lengths(drawn)).astype(value.dtype))
        elif value.ndim > 1:
            raise ValueError(
                f"{weight.path} is no kernel of a dense or convolutional layer, so it has no known filters"
            )
        else:
            found.append(np.zeros_like(value))
    return found


def _lengths(kernel: np.ndarray) -> np.ndarray:
    """The norm of each filter."""
    return np.sqrt(np.square(kernel, dtype=np.float64).sum(tuple(range(kernel.ndim - 1))))


def losses(
    model: keras.Model, x: np.ndarray, y: np.ndarray, directions: Sequence[Direction], points: np.ndarray
) -> np.ndarray:
    """The mean cross-entropy at weights moved by ``points`` ``[n, k]`` times k directions: ``[n]``.

    The model ends in logits and computes as at inference. Its own weights stay as they are, and all points go through
    one compiled function.
    """
    bundle = [tf.stack(moves) for moves in zip(*directions, strict=True)]
    weights, state = list(map(tf.convert_to_tensor, model.trainable_variables)), model.non_trainable_variables

    @tf.function(jit_compile=False, reduce_retracing=True)
    def total(point: tf.Tensor, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        moved = [w + tf.tensordot(point, move, 1) for w, move in zip(weights, bundle, strict=True)]
        logits, _ = model.stateless_call(moved, state, images, training=False)
        return tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))

    batches = [
        (tf.constant(x[i : i + _BATCH]), tf.constant(y[i : i + _BATCH], tf.int64)) for i in range(0, len(x), _BATCH)
    ]
    moves = tf.constant(points, weights[0].dtype)
    return np.array([sum(float(total(move, *batch)) for batch in batches) for move in moves]) / len(x)


def grid(count: int, reach: float) -> np.ndarray:
    """The points of a square grid around 0, row by row: ``[count * count, 2]``."""
    line = np.linspace(-reach, reach, count)
    return np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)


def along(distances: Sequence[float], count: int) -> np.ndarray:
    """Points on both sides of 0 on each of ``count`` directions: ``[distances, count, 2, count]``."""
    ends = np.stack([np.eye(count), -np.eye(count)], axis=1)
    return np.multiply.outer(np.asarray(distances), ends)


def curved_down(surface: np.ndarray) -> float:
    """The share of a surface's inner points where it curves down in some direction, by second differences.

    0 for a convex surface. Li et al. (2018, section 6) colour a surface by the ratio of the same two eigenvalues.
    """
    middle = surface[1:-1, 1:-1]
    down = surface[2:, 1:-1] + surface[:-2, 1:-1] - 2 * middle
    right = surface[1:-1, 2:] + surface[1:-1, :-2] - 2 * middle
    cross = (surface[2:, 2:] + surface[:-2, :-2] - surface[2:, :-2] - surface[:-2, 2:]) / 4
    hessians = np.stack([down, cross, cross, right], -1).reshape(*middle.shape, 2, 2)
    return float((np.linalg.eigvalsh(hessians)[..., 0] < 0).mean())
