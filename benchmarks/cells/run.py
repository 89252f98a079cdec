"""AbsCert (Zhang et al. 2023): its tables 1 to 4, and beside its verified error an attack and a sound certified error.

python -m benchmarks.cells.run --list                    the experiments
python -m benchmarks.cells.run counter mnist             what of them has no result yet; then the tables
python -m benchmarks.cells.run mnist --epochs 10         fewer epochs than the paper's 30
python -m benchmarks.cells.run mnist --networks dm_small --activations relu --eps 0.1 0.4
python -m benchmarks.cells.run mnist --minutes 60        begins no training after an hour; the next run goes on
python -m benchmarks.cells.run --table                   only writes tables

Images, eps and d are in [-1, 1], the paper's convention: its eps of 0.1 is 0.05 for pixels in [0, 1]. The paper does
not print d. Its Algorithm 1 allows d = 2 eps at least, and so it is here on MNIST; on CIFAR-10, where its figures do
not move from 2/255 to 8/255, d = 16/255 serves them all. Training as in its section 5.1: Adam, batch 128, warm-up,
then cosine.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import tensorflow as tf

from benchmarks.cells import abstraction
from benchmarks.cells.abstraction import Run
from benchmarks.cells.experiments import EXPERIMENTS
from benchmarks.cells.tables import report
from benchmarks.common import machine, store
from benchmarks.common.clock import Clock, add_minutes

STORE = store.Store(__file__)


def read() -> list[dict[str, Any]]:
    """The stored results."""
    return STORE.read("train_abstraction", [])


def main() -> None:
    """Trains what is missing."""
    parser = argparse.ArgumentParser(description="AbsCert's tables, with an attack and a sound certified error.")
    parser.add_argument("experiments", nargs="*", metavar="EXPERIMENT")
    parser.add_argument("--epochs", type=int, default=30, help="of each run (default: the paper's 30)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--networks", nargs="+", help="only these")
    parser.add_argument("--activations", nargs="+", help="only these")
    parser.add_argument("--eps", nargs="+", type=float, help="only these")
    parser.add_argument("--count", type=int, default=1000, help="images that are attacked, and bounded by CROWN")
    add_minutes(parser)
    parser.add_argument("--list", action="store_true", help="only print the experiments")
    parser.add_argument("--table", action="store_true", help="only write the tables")
    arguments = parser.parse_args()
    if arguments.list:
        for name, (data, runs) in EXPERIMENTS.items():
            print("\n".join([f"{name} ({data}):", *(f"  {run}" for run in runs)]))
        return
    unknown = set(arguments.experiments) - set(EXPERIMENTS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; --list shows the experiments")
    if not arguments.table:
        machine.limit_threads()
        tf.config.experimental.enable_op_determinism()
        clock = Clock(arguments.minutes)
        for name in arguments.experiments:
            _train(name, arguments, clock)
    if not read():
        parser.error("there are no results yet")
    report(read())


def _train(name: str, arguments: argparse.Namespace, clock: Clock) -> None:
    data, runs = EXPERIMENTS[name]
    images = abstraction.data(data)
    for run in runs:
        if arguments.networks and run.network not in arguments.networks:
            continue
        if arguments.activations and run.activation not in arguments.activations:
            continue
        if arguments.eps and not any(abs(run.eps - eps) < 1e-3 for eps in arguments.eps):
            continue
        run = replace(run, epochs=arguments.epochs, seed=arguments.seed)
        if clock.over or any(r["data"] == data and Run(**r["run"]) == run for r in read()):
            continue
        model, result = abstraction.fitted(run, images)
        result |= {"data": data} | abstraction.judged(model, run, images, arguments.count)
        result["machine"] = machine.describe()
        STORE.write("train_abstraction", [*read(), result])
        print(run, {k: v for k, v in result.items() if k.endswith(("error", "epoch"))}, flush=True)


if __name__ == "__main__":
    main()
