"""Trains the small network of ``mnist_minimum.prop``, ``mnist_mlp.keras``, on 4,000 digits in half a minute.

Two hidden layers of 16 ReLUs: few enough that integer programs find the least perturbation of a digit in seconds.
Digits are moved by a pixel and made noisy while it learns, so that what it learns does not hang on single pixels.

    python examples/train_mnist_mlp.py --out examples/mnist_mlp.keras
"""

from __future__ import annotations

import argparse

import keras
import numpy as np
import tensorflow as tf

from tfcert.datasets import mnist5k

EPOCHS, BATCH = 60, 100
SHIFT, NOISE = 1, 0.15
"""Pixels that a digit is moved by at most, and the standard deviation of the noise on values in [0, 1]."""


def build(width: int = 16) -> keras.Sequential:
    """784-16-16-10, logits out: 13,002 parameters."""
    layers = [
        keras.Input((28, 28, 1)),
        keras.layers.Flatten(name="flatten"),
        keras.layers.Dense(width, activation="relu", name="hidden1"),
        keras.layers.Dense(width, activation="relu", name="hidden2"),
        keras.layers.Dense(10, name="logits"),
    ]
    return keras.Sequential(layers, name="mnist_mlp")


def varied(x: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The digits ``[batch, 28, 28, 1]``, each moved a little and noisy, in [0, 1]."""
    moved = [np.roll(image, random.integers(-SHIFT, SHIFT + 1, 2), axis=(0, 1)) for image in x]
    return np.clip(np.stack(moved) + random.normal(0, NOISE, x.shape), 0, 1).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="mnist_mlp.keras", help="where the model goes")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    keras.utils.set_random_seed(arguments.seed)
    tf.config.experimental.enable_op_determinism()
    random = np.random.default_rng(arguments.seed)
    train, test = mnist5k(split="train"), mnist5k(split="test")
    model = build()
    rate = keras.optimizers.schedules.CosineDecay(3e-3, EPOCHS * len(train.x) // BATCH)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    for epoch in range(EPOCHS):
        done = model.fit(varied(train.x / 255, random), train.y, batch_size=BATCH, verbose=0)
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1}: loss {done.history['loss'][0]:.3f}")
    accuracy = model.evaluate((test.x / 255).astype(np.float32), test.y, verbose=0)[1]
    print(f"accuracy {accuracy:.3f}")
    bare = build()  # without the optimizer's state, which is twice as large as the network
    bare.set_weights(model.get_weights())
    bare.save(arguments.out)


if __name__ == "__main__":
    main()
