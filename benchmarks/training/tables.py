"""The README's table and the paper's figures of IBP beside constrained IBP."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.common import store

STORE = store.Store(__file__)
Result = dict[str, Any]


@dataclass(frozen=True)
class Method:
    """A way to train: how it is called, drawn, and written as options of a run."""

    title: str
    colour: str
    options: dict[str, Any] = field(default_factory=dict)


METHODS = {
    "nominal": Method("nominal", "tab:grey", {"objective": "nominal"}),
    "ibp": Method("IBP", "tab:red", {"objective": "ibp"}),
    "unelided": Method("IBP without elision", "tab:orange", {"objective": "unelided"}),
    "log": Method("constrained IBP", "tab:blue", {"objective": "constrained", "reduction": "log"}),
    "mean": Method("constrained IBP, means", "tab:cyan", {"objective": "constrained", "reduction": "mean"}),
    "sum": Method("constrained IBP, sums (formula)", "tab:purple", {"objective": "constrained", "reduction": "sum"}),
}


@dataclass(frozen=True)
class Drawn:
    """A figure of the paper: the experiments that it is of, and the curves that it shows."""

    title: str
    experiments: tuple[str, ...]
    panels: tuple[str, ...]


_ERRORS = ("verified error", "test error", "mean of both")
_WIDTHS = "squared widths of hidden layers"
FIGURES = {
    3: Drawn("CIFAR-10 and SVHN at eps 8/255", ("cifar-small", "svhn-small"), _ERRORS),
    4: Drawn("CIFAR-10, large network, eps 4/255: is IBP stuck?", ("cifar-large-4",), _ERRORS[:2]),
    5: Drawn("MNIST, eps growing 2.5 times faster", ("mnist-fast-ramp",), _ERRORS[:2]),
    6: Drawn("widths on CIFAR-10 and SVHN", ("cifar-small", "svhn-small"), (_WIDTHS,)),
    7: Drawn("widths on MNIST with the fast ramp", ("mnist-fast-ramp",), (_WIDTHS,)),
}


def method_of(run: dict[str, Any]) -> str:
    """The method of a stored run; the first ones were means and do not say so."""
    return run.get("reduction", "mean") if run["objective"] == "constrained" else str(run["objective"])


def curve(result: Result, panel: str) -> list[float] | None:
    """What a panel shows of a run, a number an epoch; None where it was not measured."""
    history = result["history"]
    if panel == _WIDTHS:
        return history.get("interval_width")
    verified, test = ([1 - v for v in history[k]] for k in ("val_verified_accuracy", "val_accuracy"))
    if panel == "mean of both":
        return [(a + b) / 2 for a, b in zip(verified, test, strict=True)]
    return verified if panel == "verified error" else test


def table(results: Sequence[Result]) -> str:
    """One row a run, in the paper's columns (errors)."""
    rows = []
    order = list(METHODS)
    for r in sorted(results, key=lambda r: (r["experiment"], order.index(method_of(r["run"])), r["run"]["seed"])):
        run, verified = r["run"], r["history"]["val_verified_accuracy"]
        halfway = next((str(i + 1) for i, v in enumerate(verified) if v > 0.5), "never")
        constant = r["history"].get("constant", [])
        rows.append(
            {
                "experiment": r["experiment"],
                "method": METHODS[method_of(run)].title,
                "weight": f"{run['weight']:g}" if run["objective"] == "constrained" else "",
                "seed": str(run["seed"]),
                "epochs": str(run["epochs"]),
                "test error": f"{100 * (1 - r['accuracy']):.2f}%",
                "PGD error": f"{100 * (1 - r['attacked']):.1f}% of {r['attacked_images']}" if "attacked" in r else "",
                "verified error": f"{100 * (1 - r['verified']):.2f}%",
                "least verified error of an epoch": f"{100 * (1 - max(verified)):.1f}%",
                "first epoch above 50% verified": halfway,
                "epochs as a constant": str(sum(v == 1 for v in constant)) if constant else "not recorded",
                "seconds": f"{r['seconds']:.0f}",
            }
        )
    return store.markdown(rows)


def draw(name: str, title: str, panels: Sequence[str], rows: dict[str, list[Result]]) -> Path:
    """One row of panels an experiment, curves against epochs, one line a run."""
    drawing = Figure(figsize=(5 * len(panels), 4 * len(rows)), layout="constrained")
    grid = drawing.subplots(len(rows), len(panels), squeeze=False)
    for axes, (experiment, results) in zip(grid, rows.items(), strict=True):
        run = results[0]["run"]
        for axis, panel in zip(axes, panels, strict=True):
            seen = set[str]()
            for r in results:
                values, method = curve(r, panel), method_of(r["run"])
                if values is None:
                    continue
                label = None if method in seen else METHODS[method].title
                seen.add(method)
                axis.plot(range(1, len(values) + 1), values, color=METHODS[method].colour, label=label)
            axis.axvspan(run["warm_up"], run["warm_up"] + run["ramp"], color="grey", alpha=0.12, label="eps grows")
            axis.set(xlabel="epoch", title=panel if panel == _WIDTHS else f"{panel}, first 1,000 test images")
            if panel == _WIDTHS:
                axis.set(yscale="log")
            else:
                axis.set(ylim=(0, 1.02))
        axes[0].legend()
        axes[0].set_ylabel(f"{experiment}, {run['epochs']} epochs")
    drawing.suptitle(f"{title}: one line a seed")
    path = STORE.path(f"{name}.svg")
    path.parent.mkdir(parents=True, exist_ok=True)
    drawing.savefig(path, metadata={"Date": None})
    return path


def report(results: list[Result], experiments: Iterable[str]) -> None:
    """Writes the table, a figure for each experiment and the paper's figures into the README."""
    drawn = []
    usual = [r for r in results if r["run"]["objective"] != "nominal" and _usual_weight(r["run"])]

    def of(names: Iterable[str], panels: Sequence[str]) -> dict[str, list[Result]]:
        found = {n: [r for r in usual if r["experiment"] == n and any(curve(r, p) for p in panels)] for n in names}
        return {name: _same_schedule(some) for name, some in found.items() if some}

    wanted = {f"train_{n.replace('-', '_')}": (n, (*_ERRORS, _WIDTHS), (n,)) for n in experiments}
    wanted |= {f"figure_{n}": (f"Figure {n}, {f.title}", f.panels, f.experiments) for n, f in FIGURES.items()}
    for file, (title, panels, names) in wanted.items():
        rows = of(names, panels)
        if rows:
            drawn.append(f"![{title}](results/{draw(file, title, panels, rows).name})")
    line = store.machine_line(results[-1]["machine"])
    STORE.write_table("train-constrained", "\n\n".join([line, *drawn, table(results)]))
    print(table(results))


def _usual_weight(run: dict[str, Any]) -> bool:
    return run["objective"] != "constrained" or run["weight"] == 1.0


def _same_schedule(results: list[Result]) -> list[Result]:
    """Those of the longest schedule, which one picture can show."""
    longest = max(r["run"]["epochs"] for r in results)
    return [r for r in results if r["run"]["epochs"] == longest]
