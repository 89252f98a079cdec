"""A GRU tells motions apart, and is certified: any change of every step within eps, or of one step alone.

A point moves in the plane for some steps, with noise: around a circle, to and fro, or drifting. The GRU learns which in
seconds, with plain ``compile`` and ``fit``; CROWN then bounds its margins through all steps.

    python examples/train_sequences.py --out sequences.keras
"""

from __future__ import annotations

import argparse

import keras
import numpy as np

import tfcert

STEPS, CLASSES = 8, 3
EPS = 0.03
"""How far each coordinate may move, in the unit of the plane (circles have radius 1)."""
SAMPLES, EPOCHS, ASKED = 1500, 12, 20


def motions(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Noisy motions ``[count, STEPS, 2]`` and their labels: 0 around a circle, 1 to and fro, 2 drifting."""
    labels = rng.integers(0, CLASSES, count)
    phase, direction = rng.uniform(0, 2 * np.pi, (2, count, 1))
    angle = phase + np.arange(STEPS) * 2 * np.pi / STEPS
    around = np.stack([np.cos(angle), np.sin(angle)], axis=2)
    along = np.stack([np.cos(direction), np.sin(direction)], axis=2)
    fro = np.cos(angle)[..., None] * along
    drift = (np.arange(STEPS) / STEPS - 0.5)[None, :, None] * 2 * along
    choice = np.stack([around, fro, drift])[labels, np.arange(count)]
    return (choice + rng.normal(0, 0.05, choice.shape)).astype(np.float32), labels


def build(units: int = 12) -> keras.Sequential:
    """A GRU over the steps, and a logit for each motion."""
    return keras.Sequential(
        [keras.Input((STEPS, 2)), keras.layers.GRU(units), keras.layers.Dense(CLASSES)], name="sequences"
    )


def one_step(x: np.ndarray, step: int, eps: float) -> tfcert.Box:
    """All sequences that differ from x at one step alone, there by at most eps in each coordinate."""
    change = np.zeros_like(x)
    change[:, step] = eps
    return tfcert.Box(x - change, x + change)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="sequences.keras", help="where the model goes")
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--asked", type=int, default=ASKED, help="how many motions are certified")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    keras.utils.set_random_seed(arguments.seed)
    rng = np.random.default_rng(arguments.seed)

    model = build()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    model.optimizer.learning_rate = 0.01
    x, y = motions(arguments.samples, rng)
    model.fit(x, y, batch_size=50, epochs=arguments.epochs, verbose=2)
    model.save(arguments.out)

    x, y = motions(arguments.asked, rng)
    right = model.predict(x, verbose=0).argmax(axis=1) == y
    every = tfcert.certify(model, x, y, eps=EPS)
    print(f"of {len(x)} new motions: {right.sum()} are told right, {every.verified.sum()} whatever every step does")
    for step in (0, STEPS - 1):
        least = tfcert.margins(model, one_step(x, step, 5 * EPS), y).min(axis=1)
        print(f"within {5 * EPS:g} at step {step} alone: {(least > 0).sum()} have bounds above 0")


if __name__ == "__main__":
    main()
