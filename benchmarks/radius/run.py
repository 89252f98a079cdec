"""Seconds an image for a full radius search: every network, norm and relaxation of CNN-Cert and DeepCert.

python -m benchmarks.radius.run                    runs every search that has no result yet, then writes the tables
python -m benchmarks.radius.run NAME ...           the searches of these networks only
python -m benchmarks.radius.run --again            measures anew what has a result
python -m benchmarks.radius.run --minutes 60       begins no search after an hour; the next run goes on from there
python -m benchmarks.radius.run --once             radii alone; a later run without it measures seconds, too
python -m benchmarks.radius.run --table            writes the README's tables from the stored results

A search: the largest eps certified against one target class, to a relative 1e-4. A hundred images are searched only
where ten foretell that it takes less than ``--patience`` seconds. Results are stored after each search. A row that was
measured before its relaxation's rule was changed for such networks (``Search.revision``) is measured anew.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from typing import Any

import keras
import numpy as np

import tfcert
from benchmarks.common import architectures, machine, networks, store
from benchmarks.common.unrounded import UNROUNDED
from benchmarks.radius import tables
from benchmarks.radius.searches import NORMS, SIZES, Batch, Search, batch, searches

STORE = store.Store(__file__)
_TOLERANCE = 1e-4
_RUNS, _ENOUGH = 3, 15.0
"""A search is repeated this often after the first, unless the repetitions take this many seconds together."""


def measure(model: keras.Model, question: Batch, search: Search, once: bool = False) -> dict[str, Any]:
    """Runs one search several times, or for its radii alone ``once``.

    Returns:
        For the whole batch: ``first_seconds`` (with tracing and compilation), ``seconds`` of each later run, and its
        ``cpu_seconds`` (of all threads, so they hardly depend on what else the machine does); ``radius`` of each
        image; ``evaluations`` an image; the machine's load average.
    """

    def run() -> tuple[tfcert.Radii, float, float]:
        start, used = time.perf_counter(), time.process_time()
        options = {"norm": search.norm, "method": search.method, "relaxation": search.relaxation}
        targets, tolerance = question.targets, _TOLERANCE
        found = tfcert.certified_radius(
            model, question.x, question.labels, targets=targets, tolerance=tolerance, options=UNROUNDED, **options
        )
        return found, time.perf_counter() - start, time.process_time() - used

    found, first, _ = run()
    seconds: list[float] = []
    cpu_seconds: list[float] = []
    while not once and len(seconds) < _RUNS and (not seconds or sum(seconds) < _ENOUGH):
        _, wall, used = run()
        seconds.append(wall)
        cpu_seconds.append(used)
    return ({"revision": search.revision} if search.revision else {}) | {
        "radius": [float(f"{r:.5g}") for r in found.radius],
        "evaluations": found.evaluations,
        "first_seconds": round(first, 3),
        "seconds": [round(s, 4) for s in seconds],
        "cpu_seconds": [round(s, 4) for s in cpu_seconds],
        "load": round(os.getloadavg()[0], 1),
    }


class Runner:
    """Runs searches one after the other and keeps the last network and its logits."""

    def __init__(self, patience: float, once: bool = False):
        self.patience, self.once = patience, once
        self.results = read()
        self._name = ""

    def run(self, search: Search) -> str:
        """Measures one search and stores it; returns what to say about it."""
        if too_long := self._too_long(search):
            return f"left out: ten images foretell {too_long:.0f} s"
        self._load(search.network)
        count = min(search.images, int(np.sum(self._logits.argmax(axis=1) == self._images.y)))
        question = batch(search.network, self._logits, self._images, count)
        found = measure(self._model, question, search, self.once)
        numbers, targets = question.numbers.tolist(), question.targets.tolist()
        self.results["batches"][f"{search.network} {search.images}"] = {"images": numbers, "targets": targets}
        self.results["searches"][search.key] = found
        self.results["machine"] = machine.describe()
        write(self.results)
        each = min(found["seconds"] or [found["first_seconds"]]) / count
        return f"{np.mean(found['radius']):.5f}, {1000 * each:.0f} ms an image, {found['evaluations']} evaluations"

    def _too_long(self, search: Search) -> float | None:
        """The seconds to expect of a large batch, where they are more than the patience."""
        if search.images == SIZES[0]:
            return None
        small = Search(search.network, search.norm, search.relaxation, SIZES[0], search.method)
        found = self.results["searches"][small.key]
        seconds = min(found["seconds"] or [found["first_seconds"]]) * search.images / SIZES[0]
        return seconds if seconds > self.patience else None

    def _load(self, name: str) -> None:
        if name == self._name:
            return
        self._name, self._model = name, networks.load(name)
        count = tfcert.from_keras(self._model).neurons()
        assert count == architectures.hidden_nodes(self._model) + 10, f"{name}: tfcert counts {count} neurons"
        # Logits of the first images only: 400 hold a hundred that are right even at the CIFAR networks' accuracies.
        images = networks.test_images(name)
        self._images = networks.Images(images.x[:400], images.y[:400])
        self._logits = self._model(self._images.x).numpy()


def read() -> dict[str, Any]:
    """The stored results, empty where there are none."""
    empty: dict[str, Any] = {"machine": {}, "batches": {}, "searches": {}}
    return STORE.read("radius", empty)


def write(results: dict[str, Any]) -> None:
    """Stores the results, one search a line, and never half of them."""
    parts = [f'"machine": {json.dumps(results["machine"])}']
    for part in ("batches", "searches"):
        lines = ",\n  ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in sorted(results[part].items()))
        parts.append(f'"{part}": {{\n  {lines}\n }}')
    STORE.replace("radius.json", "{\n " + ",\n ".join(parts) + "\n}\n")


def main() -> None:
    """Measures, or writes the tables."""
    parser = argparse.ArgumentParser(description="Radius searches on the papers' networks.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks (default: all that are trained)")
    parser.add_argument("--method", choices=("crown", "alpha-crown"), help="searches with this method only")
    parser.add_argument("--norm", choices=NORMS, help="searches in this norm only")
    parser.add_argument("--relaxation", help="searches with this relaxation only")
    parser.add_argument("--once", action="store_true", help="radii alone: no search is repeated for its seconds")
    parser.add_argument("--again", action="store_true", help="measure anew what has a result")
    parser.add_argument("--patience", type=float, default=60, help="seconds a large batch may take (default: 60)")
    parser.add_argument("--minutes", type=float, default=np.inf, help="begin no search after this time")
    parser.add_argument("--table", action="store_true", help="only write the README's tables from the stored results")
    arguments = parser.parse_args()
    if not arguments.table:
        machine.limit_threads()
        runner = Runner(arguments.patience, arguments.once)
        trained = [name for name in architectures.NAMES if networks.path(name).exists()]
        chosen = [s for s in searches() if s.network in (arguments.names or trained)]
        chosen = [s for s in chosen if arguments.method in (None, s.method) and arguments.norm in (None, s.norm)]
        chosen = [s for s in chosen if arguments.relaxation in (None, s.relaxation)]
        rows = runner.results["searches"]
        left = [s for s in chosen if arguments.again or not s.is_measured(rows, arguments.once)]
        _run_all(left, runner, time.monotonic() + 60 * arguments.minutes)
    tables.write_all(read())


def _run_all(left: list[Search], runner: Runner, end: float) -> None:
    for number, search in enumerate(left, start=1):
        if time.monotonic() > end:
            print(f"{len(left) - number + 1} searches are left for another run")
            return
        print(f"[{number}/{len(left)}] {search.key}: ", end="", flush=True)
        print(runner.run(search), flush=True)


if __name__ == "__main__":
    main()
