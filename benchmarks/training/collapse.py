"""What the width term does in the first steps of a ramp: the loss beside the term of each layer, and what is left.

python -m benchmarks.training.collapse                        what is missing of the four methods
python -m benchmarks.training.collapse --objectives sum mean  those

The recipe is ``mnist-short`` of ``run.py``, up to the step that is looked at last. After each of some steps the first
500 training images are bounded at the eps of that step: the nominal and the worst-case cross-entropy, the mean squared
width of each layer (a *layer* is the output of an affine map or of an activation), what the formula adds of it (the
sum), the deviation of the logits between images, and the share of the neurons of hidden layers that are zero for every
image.
"""

from __future__ import annotations

import argparse
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tfcert
from benchmarks.common import machine, store
from benchmarks.common.unrounded import UNROUNDED
from benchmarks.training import certified
from benchmarks.training.run import EXPERIMENTS
from benchmarks.training.tables import METHODS
from tfcert.callbacks import IntervalWidths

STORE = store.Store(__file__)
_LOOKED = 500
AT = (200, 201, 205, 210, 220, 240, 300)
"""Steps; the ramp begins after 200."""


class Looks(IntervalWidths):
    """Measures after some steps."""

    def __init__(self, x: np.ndarray, y: np.ndarray):
        super().__init__(x, limit=len(x))
        self.y, self.found = y, list[dict[str, Any]]()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        pass

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        step = self.model.steps_taken
        if step in AT:
            self.found.append({"step": step} | self._measured(step))
        if step >= max(AT):
            self.model.stop_training = True

    def _measured(self, step: int) -> dict[str, Any]:
        network, logits = self.model.network, self.model.predict(self.x, verbose=0)
        self.eps = float(self.model.objective.at(step)[0])
        widths = self.widths()
        ball = tfcert.LpBall(self.x, self.eps, clip=(0, 1))
        margins = tfcert.margins(self.model.model, ball, self.y, method="ibp", options=UNROUNDED)
        others = np.where(np.arange(margins.shape[1]) == self.y[:, None], -np.inf, -margins.astype(float))
        hidden = [layer for layer in self.model.model.layers if getattr(layer, "activation", None) is not None][:-1]
        outputs = keras.Model(self.model.model.inputs, [layer.output for layer in hidden]).predict(self.x, verbose=0)
        return {
            "eps": self.eps,
            "loss": _crossentropy(logits, self.y),
            "worst_loss": float(np.logaddexp(0, np.logaddexp.reduce(others, axis=1)).mean()),
            "mean_squares": {network.nodes[i].name: float(np.square(w).mean()) for i, w in widths.items()},
            "sums": {network.nodes[i].name: float(np.square(w).sum() / len(w)) for i, w in widths.items()},
            "deviation": float(logits.std(axis=0).mean()),
            "dead": [float((v.reshape(len(v), -1).max(axis=0) <= 0).mean()) for v in outputs],
        }


def _crossentropy(logits: np.ndarray, y: np.ndarray) -> float:
    return float(keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True).numpy().mean())


def measured(method: str, seed: int) -> dict[str, Any]:
    """One training, stopped after the last step of ``AT``."""
    experiment = EXPERIMENTS["mnist-short"]
    images = certified.data(experiment.data, experiment.images)
    run = experiment.run(method, seed, None, len(images.x))
    keras.utils.set_random_seed(seed)
    model = certified.compiled(run, images, certified.steps(run, images))
    looks = Looks(images.x[:_LOOKED], images.y[:_LOOKED])
    model.fit(certified.batches(run, images), epochs=run.epochs, shuffle=False, verbose=0, callbacks=[looks])
    return {"method": method, "seed": seed, "steps": looks.found, "machine": machine.describe()}


def table(results: list[dict[str, Any]]) -> str:
    """One row a step."""
    rows = []
    for r in results:
        for s in r["steps"]:
            rows.append(
                {
                    "method": METHODS[r["method"]].title,
                    "step": str(s["step"]),
                    "eps": f"{s['eps']:.4f}",
                    "cross-entropy": f"{s['loss']:.2f}",
                    "of the worst case": f"{s['worst_loss']:.2f}",
                    "means added": f"{sum(s['mean_squares'].values()):.3g}",
                    "of it the logits": f"{100 * _share(s['mean_squares']):.0f}%",
                    "sums added": f"{sum(s['sums'].values()):.3g}",
                    "of it the logits ": f"{100 * _share(s['sums']):.0f}%",
                    "deviation of logits": f"{s['deviation']:.2g}",
                    "zero for all images, by layer": ", ".join(f"{100 * d:.0f}%" for d in s["dead"]),
                }
            )
    return store.markdown(rows)


def _share(terms: dict[str, float]) -> float:
    """Of the last layer, the logits."""
    return list(terms.values())[-1] / max(sum(terms.values()), 1e-30)


def main() -> None:
    """Trains what is missing, and writes the table."""
    parser = argparse.ArgumentParser(description="The first steps of a ramp with a width term.")
    parser.add_argument("--objectives", nargs="+", choices=list(METHODS), default=["ibp", "mean", "sum", "log"])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    machine.limit_threads()
    tf.config.experimental.enable_op_determinism()
    for method in arguments.objectives:
        known = STORE.read("collapse", [])
        if (method, arguments.seed) not in [(r["method"], r["seed"]) for r in known]:
            STORE.write("collapse", [*known, measured(method, arguments.seed)])
    results = STORE.read("collapse")
    STORE.write_table("collapse", table(results))
    print(table(results))


if __name__ == "__main__":
    main()
