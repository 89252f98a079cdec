"""AbsCert's experiments: the data and the runs of each, and which results are whose."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks.cells.abstraction import COMPETITORS, Run

EPS = (0.1, 0.2, 0.3, 0.4)
_CIFAR = {2 / 255: 16 / 255, 4 / 255: 16 / 255, 6 / 255: 16 / 255, 8 / 255: 16 / 255, 16 / 255: 32 / 255,
          32 / 255: 64 / 255, 64 / 255: 128 / 255}  # fmt: skip
"""d for each eps of the paper."""
_CURVED = [(n, a) for n in ("fc3", "fc5", "dm_small") for a in ("sigmoid", "tanh")]
_SIZES = [(f"dm_{size}", "relu") for size in ("small", "medium", "large")]
EXPERIMENTS: dict[str, tuple[str, list[Run]]] = {
    "counter": (
        "mnist",
        [
            Run(net, d, 0.2, training)
            for net in ("mlp", "dm_small")
            for d in (0.4, 1.0)
            for training in ("abstrain", "reachable")
        ],
    ),
    "mnist": (
        "mnist",
        [Run(n, 2 * eps, eps, activation=a) for n, a in [*_SIZES, *_CURVED, ("dm_medium", "tanh")] for eps in EPS],
    ),
    "cifar": (
        "cifar",
        [
            Run(n, d, eps, activation=a)
            for n, a in [*_SIZES, *_CURVED, ("dm_medium", "tanh")]
            for eps, d in _CIFAR.items()
        ],
    ),
    "competitors": (
        "mnist",
        [Run(n, 0.0, 2 * eps, training) for n, _ in _SIZES for training in COMPETITORS for eps in EPS],
    ),
}  # fmt: skip
"""The data and the runs of each: ``counter`` is where the paper's verification proves nothing; the rest are tables.

What table 1 prints of the competitors is of images in [0, 1], as their papers have them: their eps is twice as large
here, and twice that of AbsCert's columns beside them."""


def of(names: list[str], results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The results of experiments, in the order of their runs."""
    found = []
    for name in names:
        data, runs = EXPERIMENTS[name]
        for run in runs:
            found += [r for r in results if r["data"] == data and same(run, Run(**r["run"]))]
    return found


def same(run: Run, other: Run) -> bool:
    """Whether two runs differ by epochs and seed at most."""
    return run == replace(other, epochs=run.epochs, seed=run.seed)
