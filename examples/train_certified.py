"""From nothing to a verified-accuracy curve in a minute: a small network learns 4,000 digits and to be provable.

Interval bound propagation (Gowal et al., "On the effectiveness of interval bound propagation", 2018) in plain
``compile`` and ``fit``: the objective is the loss, and callbacks verify and attack 500 held-out digits as training goes
on. ``train_certified.prop`` says the same as a specification.

    python examples/train_certified.py --out certified.keras --figure certified.png
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import keras
import numpy as np

from tfcert import CertifiedModel, ibp_initialize
from tfcert.callbacks import CertifiedEvaluation
from tfcert.datasets import mnist5k
from tfcert.objectives import IBP
from tfcert.report import figures
from tfcert.report.curves import read_curves
from tfcert.schedules import Ramp

EPS = 0.1
"""The radius, in the unit of the network's inputs (pixels / 255)."""
EPOCHS, BATCH, EVERY = 30, 100, 2


def build() -> keras.Sequential:
    """Two strided convolutions and a hidden layer, logits out."""
    layers = [
        keras.Input((28, 28, 1)),
        keras.layers.Conv2D(16, 4, strides=2, activation="relu"),
        keras.layers.Conv2D(32, 4, strides=2, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(100, activation="relu"),
        keras.layers.Dense(10),
    ]
    return keras.Sequential(layers, name="certified")


def digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Digits in [0, 1] and their labels."""
    samples = mnist5k(split=split)
    return (samples.x / 255).astype(np.float32), samples.y


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="certified.keras", help="where the model goes")
    parser.add_argument("--figure", default="certified.png", help="where its curves are drawn")
    parser.add_argument("--log", default="certified.csv", help="where its log goes")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    keras.utils.set_random_seed(arguments.seed)
    (x, y), (test_x, test_y) = digits("train"), digits("test")

    model = build()
    ibp_initialize(model, seed=arguments.seed)
    begin, end = arguments.epochs / 15, arguments.epochs / 1.5
    objective = IBP(
        eps=Ramp(0.0, EPS, begin, end, shape="smooth"),
        kappa=Ramp(1.0, 0.5, begin, end, shape="smooth"),
        clip=(0.0, 1.0),
    )
    certified = CertifiedModel(model, objective)
    settled = int(0.8 * arguments.epochs * len(x) / BATCH)
    rate = keras.optimizers.schedules.PiecewiseConstantDecay([settled], [2e-3, 4e-4])
    certified.compile(keras.optimizers.Adam(rate), metrics=["accuracy"])
    held_out = test_x[:500], test_y[:500]
    start = time.perf_counter()
    certified.fit(
        x, y, batch_size=BATCH, epochs=arguments.epochs, verbose=2,
        callbacks=[
            CertifiedEvaluation(held_out, eps=EPS, method="ibp", attack="pgd", every=EVERY),
            keras.callbacks.CSVLogger(arguments.log),
        ],
    )  # fmt: skip
    print(f"trained in {time.perf_counter() - start:.0f} s")
    certified.model.save(arguments.out)

    curves = read_curves(Path(arguments.log))
    print(
        f"of {len(held_out[0])} held-out digits at eps {EPS}: nominal {curves.last('nominal'):.1%}, "
        f"attack {curves.last('attack'):.1%}, verified {curves.last('verified'):.1%} by intervals"
    )
    figures.draw_training(Path(arguments.figure), f"IBP, eps {EPS}", curves)
    print(f"written: {arguments.out}, {arguments.figure}")


if __name__ == "__main__":
    main()
