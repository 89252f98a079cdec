"""By how much the radii of ``adaptive`` exceed those of ``deepcert``, for three ways to choose its slopes.

python -m benchmarks.radius.slopes                 measures what is missing, then writes the README's table
python -m benchmarks.radius.slopes NAME:NORM ...   these networks and norms only
python -m benchmarks.radius.slopes --minutes 20    begins none after that time; the next run goes on from there
python -m benchmarks.radius.slopes --table         writes the table from the stored results

At the stored radius r of ``deepcert`` the margin of each rule is compared with its own, and the difference divided by
how fast the margin falls there (from 0.98 r to r): by so much, in first order, the rule's radius is larger.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import tensorflow as tf

import tfcert
from benchmarks.common import machine, networks, store
from benchmarks.common.unrounded import UNROUNDED
from benchmarks.radius.run import read
from tfcert.activations import s_shaped

STORE = store.Store(__file__)
IMAGES = 5
NORMS = ("linf", "l1")
FAMILIES = ("mnist_cnn_4layer_5_3", "cifar_cnn_5layer_5_3", "mnist_lenet", "mnist_cnn_8layer_5_3")
_STEP = 0.02


def _parallel(interval: Any) -> tf.Tensor:
    """The chord's slope on both sides, wherever both can have it; else the line of least area, as ``adaptive`` has."""
    left, right, chord = interval.curve.derivative(interval.lower), interval.last, interval.chord
    return tf.where((left > chord) & (right < chord), chord, _ADAPTIVE(interval))


def _around_zero(interval: Any) -> tf.Tensor:
    """The same on intervals around zero alone."""
    return tf.where(interval.lower < 0, _parallel(interval), _ADAPTIVE(interval))


_ADAPTIVE = s_shaped._adaptive
RULES: dict[str, Callable[[Any], tf.Tensor]] = {
    "adaptive": _ADAPTIVE,
    "parallel around zero": _around_zero,
    "parallel wherever possible": _parallel,
}


def measure(name: str, norm: str, stored: dict[str, Any]) -> dict[str, Any]:
    """The gain of each rule over ``deepcert``, as shares of its radius, by image."""
    batch, radius = stored["batches"][f"{name} 10"], stored["searches"][f"{name} {norm} crown deepcert 10"]["radius"]
    numbers, eps = batch["images"][:IMAGES], np.array(radius[:IMAGES])
    images, targets = networks.test_images(name), np.array(batch["targets"][:IMAGES])

    def margins(scale: float, relaxation: str) -> np.ndarray:
        model = tfcert.from_keras(networks.load(name))  # anew: its activations are made with the rule of now
        found = tfcert.certify(
            model, images.x[numbers], images.y[numbers],
            eps=scale * eps, norm=norm, relaxation=relaxation, targets=targets, options=replace(UNROUNDED, jit=False),
        )  # fmt: skip
        return found.margin.astype(float)

    here = margins(1, "deepcert")
    fall = (margins(1 - _STEP, "deepcert") - here) / _STEP
    gains = {}
    for rule, choose in RULES.items():
        with patch.object(s_shaped, "_adaptive", choose):
            gains[rule] = ((margins(1, "adaptive") - here) / fall).round(5).tolist()
    return {"images": numbers, "gains": gains}


def table(results: dict[str, Any]) -> str:
    """The mean gain of each rule (and the least), a network and norm in a row."""
    rows = [
        {"network": key.split(":")[0], "norm": key.split(":")[1], "images": str(len(row["images"]))}
        | {rule: f"{100 * np.mean(gain):+.2f}% ({100 * min(gain):+.2f})" for rule, gain in row["gains"].items()}
        for key, row in results["searches"].items()
    ]
    return store.markdown(rows)


def main() -> None:
    """Measures, or writes the table."""
    parser = argparse.ArgumentParser(description="Slopes of S-shaped activations: adaptive beside deepcert.")
    parser.add_argument("names", nargs="*", metavar="NAME:NORM", help="networks and norms (default: all)")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin none after this time")
    parser.add_argument("--table", action="store_true", help="only write the README's table from the stored results")
    arguments = parser.parse_args()
    results = STORE.read("slopes", {"machine": {}, "searches": {}})
    if not arguments.table:
        machine.limit_threads()
        end, stored = time.monotonic() + 60 * arguments.minutes, read()
        each = [
            f"{family}_{act}:{norm}" for family in FAMILIES for act in ("tanh", "sigmoid", "arctan") for norm in NORMS
        ]
        for key in arguments.names or each:
            name, _, norm = key.partition(":")
            known = f"{name} {norm} crown deepcert 10" in stored["searches"] and networks.path(name).exists()
            if key in results["searches"] or not known or time.monotonic() > end:
                continue
            results["searches"][key] = measure(name, norm, stored)
            results["machine"] = machine.describe()
            STORE.write("slopes", results)
            print(
                key,
                {rule: f"{100 * np.mean(g):+.2f}%" for rule, g in results["searches"][key]["gains"].items()},
                flush=True,
            )
    STORE.write_table("radius-slopes", table(results))


if __name__ == "__main__":
    main()
