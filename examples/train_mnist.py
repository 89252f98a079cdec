"""Trains the network of the demo, ``mnist_small.keras``, on 4,000 digits in about a minute.

The second half of the training replaces part of the loss by the loss at a worst case that interval arithmetic
computes (Gowal et al., "On the effectiveness of interval bound propagation", 2018), written out below for this one
network. The result is robust enough that a proof is possible and not so robust that it always is.

    python examples/train_mnist.py --out examples/mnist_small.keras
"""

from __future__ import annotations

import argparse
import time

import keras
import numpy as np
import tensorflow as tf

from tfcert.datasets import mnist5k

EPOCHS, BATCH = 40, 100
EPS = 10 / 255
"""The radius trained for, in the unit of the network's inputs (pixels / 255)."""
SHARE = 0.03
"""How much of the loss is the worst case's at the end."""


def build() -> keras.Sequential:
    """Two strided convolutions and a hidden layer: 3,000 neurons, logits out."""
    layers = [
        keras.Input((28, 28, 1)),
        keras.layers.Conv2D(12, 4, strides=2, padding="same", activation="relu", name="conv1"),
        keras.layers.Conv2D(16, 4, strides=2, padding="same", activation="relu", name="conv2"),
        keras.layers.Flatten(name="flatten"),
        keras.layers.Dense(64, activation="relu", name="hidden"),
        keras.layers.Dense(10, name="logits"),
    ]
    return keras.Sequential(layers, name="mnist_small")


def worst_logits(model: keras.Sequential, x: tf.Tensor, y: tf.Tensor, eps: tf.Tensor) -> tf.Tensor:
    """Logits ``[batch, 10]`` no better for ``y`` than those of any input within ``eps`` of ``x`` (L-inf, in [0, 1])."""
    lower, upper = tf.maximum(x - eps, 0.0), tf.minimum(x + eps, 1.0)
    for layer in model.layers[:-1]:
        if isinstance(layer, keras.layers.Flatten):
            lower, upper = layer(lower), layer(upper)
            continue
        center, radius = (lower + upper) / 2, (upper - lower) / 2
        kernel = tf.convert_to_tensor(layer.kernel)
        if isinstance(layer, keras.layers.Conv2D):
            center = tf.nn.conv2d(center, kernel, layer.strides, "SAME")
            radius = tf.nn.conv2d(radius, tf.abs(kernel), layer.strides, "SAME")
        else:
            center, radius = center @ kernel, radius @ tf.abs(kernel)
        center += layer.bias
        lower, upper = tf.nn.relu(center - radius), tf.nn.relu(center + radius)
    # The last layer's rows are differences against the true class: z_j - z_y at its greatest.
    kernel, bias = (tf.convert_to_tensor(w) for w in (model.layers[-1].kernel, model.layers[-1].bias))
    difference = tf.transpose(kernel)[None] - tf.gather(tf.transpose(kernel), y)[:, None]
    center = tf.einsum("bji,bi->bj", difference, (lower + upper) / 2)
    radius = tf.einsum("bji,bi->bj", tf.abs(difference), (upper - lower) / 2)
    return center + radius + bias[None] - tf.gather(bias, y)[:, None]


def train(model: keras.Sequential, x: np.ndarray, y: np.ndarray, seed: int) -> None:
    """Fits the model; the radius and the worst case's share grow from epoch 5 to epoch 25."""
    rate = keras.optimizers.schedules.CosineDecay(2e-3, EPOCHS * len(x) // BATCH)
    optimizer = keras.optimizers.Adam(rate)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(inputs: tf.Tensor, labels: tf.Tensor, ramp: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits
            clean = cross_entropy(labels, model(inputs, training=True))
            worst = cross_entropy(labels, worst_logits(model, inputs, labels, ramp * EPS))
            loss = tf.reduce_mean((1 - ramp * SHARE) * clean + ramp * SHARE * worst)
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    order = np.random.default_rng(seed)
    for epoch in range(EPOCHS):
        ramp = tf.constant(np.clip((epoch - 5) / 20, 0, 1), tf.float32)
        shuffled = order.permutation(len(x))
        losses = [step(x[i], y[i], ramp) for i in np.split(shuffled, len(x) // BATCH)]
        if epoch % 5 == 4:
            print(f"epoch {epoch + 1}: loss {np.mean(losses):.3f}")


def rates(model: keras.Sequential, x: np.ndarray, y: np.ndarray, eps: float) -> tuple[float, float]:
    """The accuracy, and the share that interval arithmetic alone proves robust at ``eps``."""
    worst = worst_logits(model, tf.constant(x), tf.constant(y), tf.constant(eps, tf.float32)).numpy()
    worst[np.arange(len(y)), y] = -np.inf
    return float(np.mean(np.argmax(model(x), axis=1) == y)), float(np.mean(worst.max(axis=1) < 0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="mnist_small.keras", help="where the model goes")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    keras.utils.set_random_seed(arguments.seed)
    tf.config.experimental.enable_op_determinism()
    train_data, test_data = mnist5k(split="train"), mnist5k(split="test")
    model = build()
    start = time.perf_counter()
    train(model, (train_data.x / 255).astype(np.float32), train_data.y, arguments.seed)
    print(f"trained in {time.perf_counter() - start:.0f} s")
    x, y = (test_data.x / 255).astype(np.float32), test_data.y
    for eps in (0.0, 2 / 255, 8 / 255):
        accuracy, proven = rates(model, x, y, eps)
        print(f"eps {eps:.4f}: accuracy {accuracy:.3f}, proven by intervals {proven:.3f}")
    model.save(arguments.out)


if __name__ == "__main__":
    main()
