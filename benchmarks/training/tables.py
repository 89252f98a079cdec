"""The README's table and figures of IBP beside constrained IBP."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.common import store

STORE = store.Store(__file__)
NAMES = {
    "nominal": "nominal",
    "ibp": "IBP",
    "unelided": "IBP without elision",
    "constrained": "constrained IBP",
}
_COLOURS = {"nominal": "tab:grey", "ibp": "tab:red", "unelided": "tab:orange", "constrained": "tab:blue"}


def table(results: list[dict[str, Any]]) -> str:
    """One row a run, in the paper's columns (errors)."""
    rows = []
    for r in sorted(results, key=lambda r: (r["experiment"], r["run"]["seed"], r["run"]["objective"])):
        curve = r["history"]["val_verified_accuracy"]
        halfway = next((str(i + 1) for i, v in enumerate(curve) if v > 0.5), "never")
        rows.append(
            {
                "experiment": r["experiment"],
                "method": NAMES[r["run"]["objective"]],
                "seed": str(r["run"]["seed"]),
                "epochs": str(r["run"]["epochs"]),
                "test error": f"{100 * (1 - r['accuracy']):.2f}%",
                "PGD error": f"{100 * (1 - r['attacked']):.1f}% of {r['attacked_images']}",
                "verified error": f"{100 * (1 - r['verified']):.2f}%",
                "least verified error of an epoch": f"{100 * (1 - max(curve)):.1f}%",
                "first epoch above 50% verified": halfway,
                "seconds": f"{r['seconds']:.0f}",
            }
        )
    return store.markdown(rows)


def draw(name: str, results: list[dict[str, Any]]) -> Path:
    """Verified and test error against epochs, and the widths of hidden layers where stored; one line a seed."""
    measured = [r for r in results if "interval_width" in r["history"]]
    drawing = Figure(figsize=(15 if measured else 10, 4), layout="constrained")
    panels = drawing.subplots(1, 3 if measured else 2)
    both, seen = panels[:2], set[str]()
    if measured:
        panels[2].set(xlabel="epoch", title="squared widths of hidden layers", yscale="log")
    for r in measured:
        curve = r["history"]["interval_width"]
        panels[2].plot(range(1, len(curve) + 1), curve, color=_COLOURS[r["run"]["objective"]])
    for r in results:
        objective = r["run"]["objective"]
        label = None if objective in seen else NAMES[objective]
        seen.add(objective)
        for axis, key in zip(both, ("val_verified_accuracy", "val_accuracy"), strict=True):
            curve = r["history"][key]
            axis.plot(range(1, len(curve) + 1), [1 - v for v in curve], color=_COLOURS[objective], label=label)
    first = results[0]["run"]
    for axis, title in zip(both, ("verified error", "test error"), strict=True):
        axis.axvspan(first["warm_up"], first["warm_up"] + first["ramp"], color="grey", alpha=0.12, label="eps grows")
        axis.set(xlabel="epoch", title=f"{title}, first 1,000 test images", ylim=(0, 1.02))
    both[0].legend()
    drawing.suptitle(f"{name}: eps {first['eps']:.3g}, one line a seed")
    path = STORE.path(f"train_{name.replace('-', '_')}.svg")
    drawing.savefig(path, metadata={"Date": None})
    return path


def report(results: list[dict[str, Any]], experiments: Iterable[str]) -> None:
    """Writes the table and a figure for each experiment into the README."""
    figures = []
    for name in experiments:
        some = [r for r in results if r["experiment"] == name and r["run"]["objective"] != "nominal"]
        if some:
            figures.append(f"![{name}](results/{draw(name, some).name})")
    line = store.machine_line(results[-1]["machine"])
    STORE.write_table("train-constrained", "\n\n".join([line, *figures, table(results)]))
    print(table(results))
