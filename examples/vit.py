"""A small vision transformer on digits, certified in L-infinity: trained on 4,000 images in a minute.

Sixteen patches of 7x7 pixels become tokens of 16 numbers; two blocks of layer normalisation, attention with two heads
and a GELU layer follow; the mean of the tokens decides. Images are moved by a pixel and made noisy while it learns.
The vectors that tell positions apart come from a layer of this file, which ``tfcert.register_layer`` is taught.

    python examples/vit.py
"""

from __future__ import annotations

import argparse
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tfcert
from tfcert.datasets import mnist5k

EPOCHS, BATCH = 30, 100
SHIFT, NOISE = 1, 0.1
"""Pixels that a digit is moved by at most, and the standard deviation of the noise on values in [0, 1]."""
RADII = (0.001, 0.002, 0.004)


@keras.saving.register_keras_serializable("examples")
class Positions(keras.layers.Layer):
    """Adds a vector of its own to every position."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.places = self.add_weight(shape=shape[1:], initializer="random_normal", name="places")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return x + self.places


def convert_positions(layer: Positions, builder: Any, inputs: list[Any]) -> Any:
    """What ``Positions`` computes: ``1 * x + places``."""
    return builder.scale(inputs[0], builder.constant(1.0), builder.constant(layer.places))


tfcert.register_layer(Positions, convert_positions)


def build(size: int = 16, heads: int = 2, blocks: int = 2) -> keras.Model:
    """Patches, blocks of attention, the mean of the tokens, logits out."""
    image = keras.Input((28, 28, 1), name="image")
    x = keras.layers.Conv2D(size, 7, strides=7, name="patches")(image)
    x = Positions(name="positions")(keras.layers.Reshape((16, size))(x))
    for i in range(blocks):
        y = keras.layers.LayerNormalization(name=f"norm{i}a")(x)
        x = keras.layers.Add()([x, keras.layers.MultiHeadAttention(heads, size // heads, name=f"attention{i}")(y, y)])
        y = keras.layers.LayerNormalization(name=f"norm{i}b")(x)
        y = keras.layers.Dense(2 * size, activation="gelu", name=f"wide{i}")(y)
        x = keras.layers.Add()([x, keras.layers.Dense(size, name=f"narrow{i}")(y)])
    x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(image, keras.layers.Dense(10, name="logits")(x), name="vit")


def varied(x: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The digits ``[batch, 28, 28, 1]``, each moved a little and noisy, in [0, 1]."""
    moved = [np.roll(image, random.integers(-SHIFT, SHIFT + 1, 2), axis=(0, 1)) for image in x]
    return np.clip(np.stack(moved) + random.normal(0, NOISE, x.shape), 0, 1).astype(np.float32)


def train(model: keras.Model, x: np.ndarray, y: np.ndarray, epochs: int) -> None:
    """Trains on images in [0, 1]."""
    random = np.random.default_rng(0)
    rate = keras.optimizers.schedules.CosineDecay(5e-3, max(1, epochs * len(x) // BATCH))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(rate, weight_decay=0.01), loss)
    for _ in range(epochs):
        model.fit(varied(x, random), y, batch_size=BATCH, verbose=0)


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Trains, certifies and prints; returns the shares of images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--images", type=int, default=4000, help="to train on")
    parser.add_argument("--certify", type=int, default=50, metavar="N", help="images to certify")
    parser.add_argument("--method", default="crown")
    given = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)
    images, test = mnist5k(split="train"), mnist5k(split="test")
    model = build()
    train(model, (images.x[: given.images] / 255).astype(np.float32), images.y[: given.images], given.epochs)
    every = model.predict((test.x / 255).astype(np.float32), verbose=0).argmax(axis=1)
    found = {"accuracy": float((every == test.y).mean())}
    x, y = (test.x[: given.certify] / 255).astype(np.float32), test.y[: given.certify]
    for eps in RADII:
        certified = tfcert.certify(model, x, y, eps=eps, clip=(0, 1), method=given.method)
        found[f"certified accuracy, eps {eps}"] = float(certified.verified.mean())
    for name, share in found.items():
        print(f"{name}: {share:.2f}")
    return found


if __name__ == "__main__":
    main()
