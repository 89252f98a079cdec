"""Trains the small network of Gowal et al. 2018 on MNIST by interval bounds, in a given time, and verifies it.

python -m benchmarks.training.mnist --eps 0.1 --minutes 4 --out m.keras            as many epochs as fit; prints them
python -m benchmarks.training.mnist --eps 0.1 --epochs 12 --seed 0 --out m.keras   that run again, to the last bit

Pixels are x / 255 in [0, 1]. The plain inner model is saved. Minutes include everything: reading the data, compiling,
measuring a step, training, and the verdicts on all 10,000 test images. Runs with ``--minutes`` are kept in
``results/train_mnist.json`` and shown in the README.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import tensorflow as tf

from benchmarks.common import machine, store
from benchmarks.training import certified

STORE = store.Store(__file__)
_SPARE = 0.93
"""The share of the time that is planned for: a machine is not always equally fast."""
_MANY = 40
_VERDICTS = 8.0
"""Seconds that the verdicts take, about."""


def planned(eps: float, epochs: int, seed: int) -> certified.Run:
    """The run for so many epochs: a third of them ramp, and no epoch is plain.

    With many epochs and a small eps the network would verify all training images and fewer of the test set, so it is
    trained for a larger radius than is verified.
    """
    factor = 1.5 if eps <= 0.2 and epochs >= _MANY else 1.0
    kappa = 0.0 if eps > 0.2 else 0.25
    return certified.Run("small", eps, epochs, seed, ramp=max(1.0, epochs / 3), kappa=kappa, eps_factor=factor)


def chosen_epochs(eps: float, seconds: float, images: certified.Data) -> int:
    """How many epochs fit into what is left."""
    begun, run = time.perf_counter(), planned(eps, 1, 0)
    each = certified.seconds_per_step(run, images) * certified.steps(run, images)
    left = _SPARE * (seconds - (time.perf_counter() - begun)) - _VERDICTS
    epochs = max(1, int(left / each))
    print(f"{each:.1f} s an epoch: {epochs} epochs (--epochs {epochs} repeats this run)", flush=True)
    return epochs


def table(results: list[dict[str, Any]]) -> str:
    """One row a run."""
    rows = []
    for r in results:
        rows.append(
            {
                "eps": f"{r['run']['eps']:g}",
                "minutes given": f"{r['minutes']:g}",
                "minutes taken": f"{r['total_seconds'] / 60:.1f}",
                "epochs": str(r["run"]["epochs"]),
                "seed": str(r["run"]["seed"]),
                "test accuracy": f"{100 * r['accuracy']:.2f}%",
                "verified accuracy": f"{100 * r['verified']:.2f}%",
                "load average": str(r["machine"]["load_average"]),
            }
        )
    return store.markdown(rows)


def main() -> None:
    """Trains once."""
    began = time.perf_counter()
    parser = argparse.ArgumentParser(description="IBP on MNIST in a given time.")
    parser.add_argument("--eps", type=float, required=True, help="the radius to train for and to verify, in [0, 1]")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float, help="how long everything may take")
    length.add_argument("--epochs", type=int, help="as many epochs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="where the plain model goes, FILE.keras")
    arguments = parser.parse_args()
    machine.limit_threads()
    tf.config.experimental.enable_op_determinism()
    images = certified.data("mnist")
    left = 60 * (arguments.minutes or 0) - (time.perf_counter() - began)
    epochs = arguments.epochs or chosen_epochs(arguments.eps, left, images)
    model, result = certified.fitted(planned(arguments.eps, epochs, arguments.seed), images)
    result |= certified.judged(model.model, images, arguments.eps)
    model.model.save(arguments.out)
    result |= {"total_seconds": round(time.perf_counter() - began, 1), "machine": machine.describe()}
    accuracies = f"test accuracy {100 * result['accuracy']:.2f}%, verified accuracy {100 * result['verified']:.2f}%"
    print(f"eps {arguments.eps:g}, seed {arguments.seed}: {accuracies} by intervals, all 10,000 test images")
    print(f"{result['total_seconds']:.0f} s in all")
    if arguments.minutes:
        known = STORE.read("train_mnist", [])
        known.append(result | {"minutes": arguments.minutes})
        STORE.write("train_mnist", known)
        STORE.write_table("train-mnist", table(known))


if __name__ == "__main__":
    main()
