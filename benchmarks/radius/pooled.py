"""What CNN-Cert's own program certifies on networks with max pooling, and what the same planes certify here.

python -m benchmarks.radius.pooled            searches the radii, stores them, and writes the README's table
python -m benchmarks.radius.pooled --table    writes the table from the stored radii

Each radius is searched three times: with the upper plane of ``cnncert`` over the default lower line; with both of its
planes; and with both where no neuron's bounds are met with intervals, which their program does not do.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import tensorflow as tf

import tfcert
from benchmarks.common import machine, networks, store
from benchmarks.common.unrounded import UNROUNDED
from benchmarks.radius import records
from tfcert.propagation import pooling, preactivation

STORE = store.Store(__file__)
NETWORKS = ("mnist_lenet_relu", "mnist_cnn_7layer_small_relu")
NORMS = ("linf", "l2")
PROGRAM = "CNN-Cert-ada"
_TOLERANCE = 1e-3


@contextmanager
def _upper_plane_only() -> Iterator[None]:
    both: Callable[[Any], pooling.PoolLines] = pooling._cnncert_lines

    def upper(windows: Any) -> pooling.PoolLines:
        found = both(windows)
        weights = pooling._lower_weights(windows)
        return found._replace(lower_weights=weights, lower_intercept=tf.zeros_like(found.lower_intercept))

    with patch.object(pooling, "_cnncert_lines", upper):
        yield


@contextmanager
def _without_intervals() -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(patch.object(preactivation, "tighter", lambda bounds, *_: bounds))
        stack.enter_context(patch.object(preactivation, "matters", lambda *given: tf.ones_like(given[2][0], tf.bool)))
        yield


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


VARIANTS = {"upper plane only": _upper_plane_only, "both planes": _as_it_is, "no intervals": _without_intervals}


def measure(name: str, norm: str) -> dict[str, Any]:
    """Radii of the recorded images by their program and by each variant."""
    (found,) = (r for r in records.recorded(name, norm, "cnncert") if r.method == PROGRAM)
    numbers, known = list(found.radii), records.targets(name)
    model, images = networks.load(name), networks.test_images(name)
    radii = {}
    for variant, changed in VARIANTS.items():
        with changed():
            radii[variant] = tfcert.certified_radius(
                tfcert.from_keras(model),  # anew: what was traced for one variant is not for another
                images.x[numbers], images.y[numbers],
                norm=norm, relaxation="cnncert", targets=np.array([known[n] for n in numbers]), tolerance=_TOLERANCE,
                options=UNROUNDED,
            ).radius.tolist()  # fmt: skip
    return {"images": numbers, "theirs": list(found.radii.values()), **radii}


def table(results: dict[str, Any]) -> str:
    """Each variant's radii over theirs, a network and norm in a row: the mean, and the greatest."""

    def over(row: dict[str, Any], variant: str) -> str:
        ratio = np.array(row[variant]) / row["theirs"]
        return f"{ratio.mean():.3f} ({ratio.max():.3f})"

    rows = [
        {"network": name, "norm": norm, "images": str(len(row["images"]))} | {v: over(row, v) for v in VARIANTS}
        for name, row, norm in ((key.split()[0], row, key.split()[1]) for key, row in results["radii"].items())
    ]
    return store.markdown(rows)


def main() -> None:
    """Measures, or writes the table."""
    parser = argparse.ArgumentParser(description="The planes of max pooling beside CNN-Cert's own program.")
    parser.add_argument("--table", action="store_true", help="only write the README's table from the stored radii")
    if not parser.parse_args().table:
        machine.limit_threads()
        results = {"machine": machine.describe(), "radii": {f"{n} {p}": measure(n, p) for n in NETWORKS for p in NORMS}}
        STORE.write("pooled", results)
    STORE.write_table("radius-pooled", table(STORE.read("pooled")))


if __name__ == "__main__":
    main()
