"""AbsCert's Algorithm 3 as a curve: the granularity against the abstraction error and the sound certified error.

python benchmarks/tune_granularity.py                    an MLP on MNIST, d = 1.0, 0.9, ... 0.2 for eps 0.1 in [-1, 1]
python benchmarks/tune_granularity.py --network dm_small --epochs 5
python benchmarks/tune_granularity.py --training reachable      trained on the cells that the ball reaches

Each granularity is trained from scratch. Errors are of the last tenth of the training images, held out; the test set
selects nothing. The curve goes on where the algorithm's condition on gradients would stop it, and says where.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from typing import Any

import tensorflow as tf
from matplotlib.figure import Figure
from parts import abstraction, certified, machine, reference
from parts.abstraction import Run

import tfcert

RESULTS = reference.HERE / "results" / "tune_granularity.json"
TRAINING = {"abstrain": "AbsCert", "reachable": "IBP on reachable cells"}


def read() -> list[dict[str, Any]]:
    """The stored curves."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else []


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


def draw(results: list[dict[str, Any]]) -> None:
    """Both errors against d, one panel a search."""
    drawing = Figure(figsize=(5 * len(results), 4), layout="constrained")
    for axis, r in zip(drawing.subplots(1, len(results), squeeze=False)[0], results, strict=True):
        widths = [t["granularity"] for t in r["curve"]]
        axis.plot(widths, [t["abstraction_error"] for t in r["curve"]], "o-", label="abstraction error (no guarantee)")
        axis.plot(widths, [t["certified_error"] for t in r["curve"]], "s-", label="certified error (sound)")
        if r["gradient_stops_at"] is not None:
            axis.axvline(r["gradient_stops_at"], color="grey", linestyle=":", label="gradients stop here")
        run = r["run"]
        axis.set(
            xlabel="granularity d", ylabel="error", yscale="log", ylim=(0.005, 1.2),
            title=f"{run['network']}, eps {run['eps']:g}, {TRAINING[run['training']]}",
        )  # fmt: skip
        axis.invert_xaxis()
        axis.legend()
    drawing.savefig(reference.HERE / "results" / "tune_granularity.svg", metadata={"Date": None})


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
    return reference.markdown(rows)


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
        reference.write("tune_granularity", [*(r for r in read() if r["run"] != found["run"]), found])
    draw(read())
    parts = [reference.machine_line(read()[-1]["machine"]), "![granularity](results/tune_granularity.svg)"]
    reference.write_table("tune-granularity", "\n\n".join([*parts, table(read())]))


if __name__ == "__main__":
    main()
