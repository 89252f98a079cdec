"""From nothing to four figures of a classifier that sees its inputs as cells only; two ways to train it, side by side.

AbsCert (Zhang et al., "Boosting verified training for robust image classifications via abstraction", 2023) replaces
each pixel by the ends of its cell and trains a network on those. What the paper calls verified is the abstraction error
here: it judges the cell of each unperturbed pixel alone. A ball around a pixel may reach the next cell, so next to it
stand an attack through the cells, and the share of images not proven over all cells that their balls reach. A network
that is trained on all reachable cells (interval bound propagation) is proven, the paper's is not.
``abstraction.prop`` says the same as a specification.

    python examples/abstraction.py --out cells.keras --figure cells.png
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import keras
import numpy as np

import tfcert
from tfcert.datasets import mnist5k
from tfcert.layers import IntervalAbstraction
from tfcert.objectives import IBP
from tfcert.report import figures
from tfcert.schedules import Ramp

EPS, WIDTH = 0.1, 0.4
"""The radius and the width of a cell, in the unit of the network's inputs (pixels / 255)."""
EPOCHS, BATCH, HELD_OUT = 40, 100, 500


def build() -> keras.Sequential:
    """Cells, and a network of 40 and 32 neurons behind them; logits out."""
    layers = [
        keras.Input((28, 28, 1)),
        IntervalAbstraction(WIDTH, (0, 1)),
        keras.layers.Flatten(),
        keras.layers.Dense(40, activation="relu"),
        keras.layers.Dense(32, activation="relu"),
        keras.layers.Dense(10),
    ]
    return keras.Sequential(layers, name="cells")


def as_in_the_paper(x: np.ndarray, y: np.ndarray, epochs: int, seed: int) -> keras.Model:
    """ABSTRAIN: plain training, to which the cells are a part of the network."""
    keras.utils.set_random_seed(seed)
    model = build()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss)
    model.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=0)
    return model


def on_reachable_cells(x: np.ndarray, y: np.ndarray, epochs: int, seed: int) -> keras.Model:
    """Interval bound propagation over all cells that the ball around each image reaches."""
    keras.utils.set_random_seed(seed)
    model = build()
    tfcert.ibp_initialize(model, seed=seed)
    begin, end = epochs / 20, epochs / 2
    objective = IBP(eps=Ramp(0, EPS, begin, end), kappa=Ramp(1, 0.25, begin, end), clip=(0, 1))
    certified = tfcert.CertifiedModel(model, objective)
    certified.compile(keras.optimizers.Adam(1e-3))
    certified.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=0)
    return certified.model


def figures_of(model: keras.Model, x: np.ndarray, y: np.ndarray) -> tuple[tuple[float, ...], np.ndarray]:
    """Accuracy, abstraction error, attack error and certified error; and witnesses, NaN where there is none."""
    right = model.predict(x, verbose=0).argmax(axis=1) == y
    claimed = tfcert.abstraction_error(model, x, y, eps=EPS)
    attacked = tfcert.attack(model, x, y, eps=EPS, clip=(0, 1), steps=20, restarts=2)
    proven = tfcert.certify(model, x, y, eps=EPS, clip=(0, 1), method="crown-ibp")
    found = right & attacked.success
    witnesses = np.where(found[:, None, None, None], attacked.witness, np.nan)
    return (right.mean(), claimed.error, 1 - (right & ~attacked.success).mean(), 1 - proven.verified.mean()), witnesses


def draw(path: Path, model: keras.Model, x: np.ndarray, y: np.ndarray, witnesses: np.ndarray) -> None:
    """What the network sees of some images and of their witnesses: the middles of cells."""
    chosen = np.flatnonzero(np.isfinite(witnesses).all(axis=(1, 2, 3)))[:6]
    pictures = []
    for i in chosen:
        pair = np.stack([x[i], witnesses[i]])
        seen = np.asarray(model.layers[0](pair)).mean(axis=-1, keepdims=True)
        first, second = np.asarray(model(pair)).argmax(axis=1)
        pictures.append(
            figures.Picture(
                original=seen[0],
                witness=seen[1],
                difference=pair[1] - pair[0],
                original_caption=f"label {y[i]}, predicted {first}",
                witness_caption=f"predicted {second}",
                difference_caption=f"no pixel by more than {EPS}",
            )
        )
    if pictures:
        figures.draw_witnesses(path, f"Cells of width {WIDTH}, as the paper's network sees them", "net", pictures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="cells.keras", help="where the model goes that was trained on reachable cells")
    parser.add_argument("--figure", default="cells.png", help="where witnesses against the other one are drawn")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    train, test = mnist5k(split="train"), mnist5k(split="test")
    x, held_out = ((samples.x / 255).astype(np.float32) for samples in (train, test))
    held_out, labels = held_out[:HELD_OUT], test.y[:HELD_OUT]

    print(f"cells of width {WIDTH}, eps {EPS}, {HELD_OUT} held-out digits")
    print(f"{'':24}{'accuracy':>10}{'abstraction':>13}{'attack':>9}{'certified':>11}{'seconds':>9}")
    print(f"{'trained':24}{'':10}{'error (*)':>13}{'error':>9}{'error':>11}{'':>9}")
    for name, training in (("as in the paper", as_in_the_paper), ("on reachable cells", on_reachable_cells)):
        start = time.perf_counter()
        model = training(x, train.y, arguments.epochs, arguments.seed)
        seconds = time.perf_counter() - start
        (accuracy, claimed, attacked, certified), witnesses = figures_of(model, held_out, labels)
        print(f"{name:24}{accuracy:10.1%}{claimed:13.1%}{attacked:9.1%}{certified:11.1%}{seconds:9.0f}")
        if training is as_in_the_paper:
            draw(Path(arguments.figure), model, held_out, labels, witnesses)
    print("(*) the figure that AbsCert calls verified; no guarantee for the classifier that is deployed")
    model.save(arguments.out)
    print(f"written: {arguments.out}, {arguments.figure}")


if __name__ == "__main__":
    main()
