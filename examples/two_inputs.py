"""Trains a model of two inputs, an image and a row of numbers, to be robust to changes of both, and certifies it.

The samples are generated: an image of 8 x 8 pixels with noise and a bright square of 2 or 5 pixels, and three numbers
in [-1, 1]. The class is 0 for a small square, 1 for a large one where the mean of the numbers is below zero, else 2.
Pixels may change by 0.2 each while the numbers change by 0.1; the script prints what is certified at these radii, with
either input held fixed, and with the radii of a ball in L2.

    python examples/two_inputs.py                # trains in seconds and writes two_inputs.keras and two_inputs.npz
    tfcert verify examples/two_inputs.prop       # the same questions as a specification
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

import tfcert
from tfcert.objectives import IBP
from tfcert.schedules import Ramp

HERE = Path(__file__).parent
EPS = {"image": 0.2, "numbers": 0.1}
CLIP = {"image": (0.0, 1.0), "numbers": (-1.0, 1.0)}


def samples(count: int, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Images ``[count, 8, 8, 1]`` and numbers ``[count, 3]`` by name, and their classes."""
    rng = np.random.default_rng(seed)
    image = 0.1 * rng.random((count, 8, 8, 1))
    numbers = rng.uniform(-1, 1, (count, 3))
    large, high = rng.random(count) < 0.6, rng.random(count) < 0.5
    shift = np.where(high, 0.4, -0.4) - numbers.mean(axis=1)
    numbers = np.clip(numbers + shift[:, None], -1, 1)
    for picture, size in zip(image, np.where(large, 5, 2), strict=True):
        top, left = rng.integers(0, 9 - size, 2)
        picture[top : top + size, left : left + size] += 0.8
    y = np.where(large, np.where(numbers.mean(axis=1) < 0, 1, 2), 0)
    return {"image": image.astype(np.float32), "numbers": numbers.astype(np.float32)}, y


def network() -> keras.Model:
    """A small convolutional network of the image and a dense layer of the numbers, joined; it returns logits."""
    image, numbers = keras.Input((8, 8, 1), name="image"), keras.Input((3,), name="numbers")
    layers = keras.layers
    seen = layers.Conv2D(8, 3, strides=2, activation="relu")(image)
    joined = layers.Concatenate()([layers.Flatten()(seen), layers.Dense(8, activation="relu")(numbers)])
    return keras.Model([image, numbers], layers.Dense(3)(layers.Dense(16, activation="relu")(joined)))


def train(epochs: int = 15, seed: int = 0) -> keras.Model:
    """A network that is trained by intervals; radii are multiples of one eps."""
    keras.utils.set_random_seed(seed)
    x, y = samples(2000, seed)
    scale = {name: radius / EPS["image"] for name, radius in EPS.items()}
    ramp = {"first": 2, "last": epochs - 5} if epochs > 8 else {"first": 0, "last": 1}
    objective = IBP(
        Ramp(0.0, EPS["image"], ramp["first"], ramp["last"]),
        kappa=Ramp(1.0, 0.5, ramp["first"], ramp["last"]),
        clip=CLIP,
        scale=scale,
    )
    certified = tfcert.CertifiedModel(network(), objective)
    certified.compile(keras.optimizers.Adam(5e-3))
    certified.fit(x, y, batch_size=100, epochs=epochs, verbose=0)
    return certified.model


def main() -> None:
    model = train()
    x, y = samples(100, seed=1)
    model.save(HERE / "two_inputs.keras")
    np.savez_compressed(HERE / "two_inputs.npz", **x, y=y)
    print(f"right: {(model.predict(x, verbose=0).argmax(axis=1) == y).mean():.0%} of {len(y)} samples")
    for said, question in {
        "both change": {"eps": EPS},
        "the image alone": {"eps": EPS, "free": "image"},
        "the numbers alone": {"eps": EPS, "free": "numbers"},
        "both, in L2": {"eps": {"image": 1.0, "numbers": 0.3}, "norm": "l2"},
    }.items():
        verified = tfcert.certify(model, x, y, clip=CLIP, **question).verified
        print(f"certified where {said}: {verified.mean():.0%}")
    radii = tfcert.certified_radius(model, x, y, scale={"image": 1.0, "numbers": 0.5}, clip=CLIP).radius
    print(f"certified radius of pixels, numbers by half of it: median {np.median(radii):.3f}")


if __name__ == "__main__":
    main()
