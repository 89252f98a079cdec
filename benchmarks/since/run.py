"""What transfers when a model is trained further or pruned: verdicts from nothing, and since the run before.

python -m benchmarks.since.run                      every case that has no result yet
python -m benchmarks.since.run --images 20          of fewer images
python -m benchmarks.since.run --minutes 10         begins no case after ten minutes; the next run goes on from there
python -m benchmarks.since.run --again              measures anew what has a result
python -m benchmarks.since.run --write              the table of the README, from what is stored

A network is verified with certificates; then it is trained for one more epoch, or 10% of its weights are pruned, and it
is verified from nothing and with ``since``, in turn. Seconds are of the processor and without preparation (tracing).
"""

from __future__ import annotations

import argparse
import functools
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

import tfcert
from benchmarks.common import data, machine, store
from benchmarks.common.robust import SPEC
from tfcert.driver import verify as driver
from tfcert.driver.budget import Clock
from tfcert.verdict import PROOFS

STORE = store.Store(__file__)
NETWORKS = {
    "FNN4": ("reference/agrify/mnist_784_500_10_sdp.keras", "15/255"),
    "mnist_small": (data.REPOSITORY / "examples" / "mnist_small.keras", "8/255"),
}
STRATEGIES = {
    "crown": "crown",
    "alpha_crown": "alpha_crown",
    "split": "split(time_limit=20s)",
    "demo": "pgd(steps=40, restarts=3) -> ibp -> crown_ibp -> crown",
}
CHANGES = ("one more epoch", "10% pruned")
IMAGES, TRAINED = 100, 5000


def images(split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first images of MNIST, between 0 and 1, and their labels."""
    x, y = data.pixels("mnist", split)
    return x[:count].astype(np.float32) / np.float32(255), y[:count]


def changed(model: keras.Model, change: str) -> None:
    """Trains a model for one more epoch, or prunes its weights: those of each kernel that are smallest."""
    if change == CHANGES[0]:
        keras.utils.set_random_seed(0)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(1e-4), loss)
        model.fit(*images("train", TRAINED), batch_size=128, epochs=1, verbose=0)
        return
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            kernel = np.asarray(layer.kernel)
            layer.kernel.assign(np.where(np.abs(kernel) < np.quantile(np.abs(kernel), 0.1), 0, kernel))


def verified(folder: Path, out: str, **how: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """One run: by sample its outcome, processor seconds, whether it rests on a proof, and whether that transferred; and
    what its header says of transferring."""
    original = driver.Clock
    driver.Clock = functools.partial(Clock, now=time.process_time)  # type: ignore[misc, assignment]
    try:
        report = tfcert.verify(folder / "s.prop", out=folder / out, verbose=0, **how)
    finally:
        driver.Clock = original  # type: ignore[misc]
    records = {
        str(r.sample): {
            "outcome": str(r.outcome),
            "seconds": round(r.verdict.seconds, 6),
            "proof": r.verdict.guarantee in PROOFS,
            "transferred": r.verdict.transferred,
        }
        for r in report.records
    }
    return records, report.header.get("since", {}).get("questions", {}).get("robust", {})


def measured(network: str, strategy: str, count: int) -> dict[str, Any]:
    """A case: the run before, and for each change the runs from nothing and since."""
    path, eps = NETWORKS[network]
    source = data.find(path) if isinstance(path, str) else path
    found: dict[str, Any] = {"network": network, "strategy": strategy, "eps": eps, "images": count}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        x, y = images("test", count)
        np.savez(folder / "test.npz", x=x.reshape(len(x), 28, 28, 1), y=y)
        (folder / "s.prop").write_text(SPEC.format(stages=STRATEGIES[strategy], eps=eps))
        shutil.copy(source, folder / "clf.keras")
        found["before"], _ = verified(folder, "before", certificates=True)
        for change in CHANGES:
            model = tfcert.load_model(source)
            changed(model, change)
            model.save(folder / "clf.keras")
            nothing, since = folder / f"{change} nothing", folder / f"{change} since"
            alone, _ = verified(folder, nothing.name)
            later, counts = verified(folder, since.name, since=folder / "before")
            found[change] = {"nothing": alone, "since": later, "mended": counts.get("mended", 0)}
    return found


def table(results: dict[str, Any]) -> str:
    """A line for each case and change."""
    rows = []
    for case in results["cases"]:
        for change in CHANGES:
            nothing, since = case[change]["nothing"], case[change]["since"]
            proven = [n for n, r in case["before"].items() if r["proof"] and since[n]["proof"]]
            moved = [n for n in proven if since[n]["transferred"]]
            both = [n for n in moved if nothing[n]["seconds"] > 0 and since[n]["seconds"] > 0]
            ratios = [nothing[n]["seconds"] / since[n]["seconds"] for n in both]
            total = [sum(r["seconds"] for r in run.values()) for run in (nothing, since)]
            share = 100 * len(moved) / max(1, len(proven))
            other = sum(nothing[n]["outcome"] != since[n]["outcome"] for n in nothing)
            rows.append({
                "network": case["network"], "strategy": f"`{STRATEGIES[case['strategy']]}`", "change": change,
                "images": str(case["images"]), "proofs before": str(sum(r["proof"] for r in case["before"].values())),
                "proofs now": str(len(proven)), "transferred": f"{len(moved)} ({share:.0f}%)",
                "mended": str(case[change].get("mended", 0)),
                "median times as fast": f"{statistics.median(ratios):.1f}" if ratios else "-",
                "all samples, s from nothing": f"{total[0]:.2f}", "s since": f"{total[1]:.2f}",
                "other verdicts": str(other),
            })  # fmt: skip
    return store.markdown(rows)


def main() -> None:
    """Measures the cases that have no result yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no case after so long")
    parser.add_argument("--again", action="store_true", help="measure anew what has a result")
    parser.add_argument("--write", action="store_true", help="write the table of the README and end")
    options = parser.parse_args()
    results = {"machine": machine.describe(), "cases": []}
    results = results if options.again and not options.write else STORE.read("since", results)
    began = time.monotonic()
    for network in NETWORKS if not options.write else ():
        for strategy in STRATEGIES:
            done = any((c["network"], c["strategy"]) == (network, strategy) for c in results["cases"])
            if not done and time.monotonic() - began < 60 * options.minutes:
                results["cases"].append(measured(network, strategy, options.images))
                STORE.write("since", results)
                print(network, strategy, flush=True)
    if results["cases"]:
        STORE.write_table("since", table(results))


if __name__ == "__main__":
    main()
