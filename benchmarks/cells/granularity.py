"""AbsCert's Algorithm 3 as a curve: the granularity against the abstraction error and the sound certified error.

python -m benchmarks.cells.granularity                    an MLP on MNIST, d = 1.0, 0.9, ... 0.2 for eps 0.1 in [-1, 1]
python -m benchmarks.cells.granularity --network dm_small --epochs 5
python -m benchmarks.cells.granularity --training reachable      trained on the cells that the ball reaches

Each granularity is trained from scratch. Errors are of the last tenth of the training images, held out; the test set
selects nothing. The curve goes on where the algorithm's condition on gradients would stop it, and says where.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any

import tensorflow as tf

import tfcert
from benchmarks.cells import abstraction
from benchmarks.cells.abstraction import Run
from benchmarks.common import machine, store
from benchmarks.training import certified
from tfcert.report.figures import draw_granularities

STORE = store.Store(__file__)
TRAINING = {"abstrain": "AbsCert", "reachable": "IBP on reachable cells"}


def read() -> list[dict[str, Any]]:
    """The stored curves."""
    return STORE.read("tune_granularity", [])


def curve(run: Run, start: float, step: float) -> dict[str, Any]:
    """One search, from ``start`` down to ``2 * eps``."""
    images = abstraction.data("mnist")
    kept = len(images.x) - len(images.x) // 10
    part = certified.Data(images.x[:kept], images.y[:kept], images.x_test, images.y_test)
    found = tfcert.tune_granularity(
        lambda d: abstraction.compiled(replace(run, granularity=d), part, d), images.x, images.y,
        eps=run.eps, start=start, step=step, stop_on_gradient=False, validation_split=0.1,
        fit={"epochs": run.epochs, "batch_size": run.batch},
    )  # fmt: skip
    print(found)
    stops = next((t.granularity for t in found.curve if t.gradients.ask_for_wider_cells), None)
    rows = [asdict(trial) for trial in found.curve]
    return {"run": asdict(run), "curve": rows, "best": found.granularity, "gradient_stops_at": stops}


def draw(result: dict[str, Any]) -> str:
    """The figure of one search; returns its name."""
    run = result["run"]
    name = f"tune_granularity_{run['network']}_{run['training']}.svg"
    title = f"{run['network']} trained by {TRAINING[run['training']]}, eps {run['eps']:g}"
    trials = [SimpleNamespace(**trial) for trial in result["curve"]]
    draw_granularities(STORE.path(name), title, trials)
    return name


def table(results: list[dict[str, Any]]) -> str:
    """One row a granularity."""
    rows = []
    for r in results:
        for trial in r["curve"]:
            gradients = trial["gradients"]
            rows.append(
                {
                    "network": f"{r['run']['network']}, {TRAINING[r['run']['training']]}",
                    "d": f"{trial['granularity']:g}" + (" (best)" if trial["granularity"] == r["best"] else ""),
                    "loss": f"{trial['loss']:.3g}",
                    "abstraction error": f"{100 * trial['abstraction_error']:.2f}%",
                    "certified error": f"{100 * trial['certified_error']:.2f}%",
                    "mean gradient, lower end": f"{gradients['lower']:.1e}",
                    "upper end": f"{gradients['upper']:.1e}",
                    "seconds": f"{trial['seconds']:.0f}",
                }
            )
    return store.markdown(rows)


def main() -> None:
    """Searches, then writes figure and table."""
    parser = argparse.ArgumentParser(description="AbsCert's granularity tuning as a curve.")
    parser.add_argument("--network", default="mlp", choices=["mlp", "fc3", "fc5", "dm_small"])
    parser.add_argument("--training", default="abstrain", choices=list(TRAINING))
    parser.add_argument("--eps", type=float, default=0.1, help="in [-1, 1]")
    parser.add_argument("--start", type=float, default=1.0)
    parser.add_argument("--step", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--table", action="store_true", help="only write figure and table")
    arguments = parser.parse_args()
    if not arguments.table:
        machine.limit_threads()
        tf.config.experimental.enable_op_determinism()
        run = Run(arguments.network, arguments.start, arguments.eps, arguments.training, epochs=arguments.epochs)
        found = curve(run, arguments.start, arguments.step) | {"machine": machine.describe()}
        STORE.write("tune_granularity", [*(r for r in read() if r["run"] != found["run"]), found])
    figures = [f"![granularity](results/{draw(result)})" for result in read()]
    line = store.machine_line(read()[-1]["machine"])
    STORE.write_table("tune-granularity", "\n\n".join([line, *figures, table(read())]))


if __name__ == "__main__":
    main()
