"""The README's tables of networks behind an abstraction, beside what AbsCert prints."""

from __future__ import annotations

from typing import Any

from benchmarks.cells.abstraction import Run
from benchmarks.cells.experiments import EPS, of
from benchmarks.common import store

STORE = store.Store(__file__)
_MNIST_PUBLISHED = {
    ("dm_small", "relu"): [0.89, 0.94, 1.01, 1.22],
    ("dm_medium", "relu"): [0.69, 0.70, 0.77, 0.93],
    ("dm_large", "relu"): [0.52, 0.61, 0.64, 0.77],
    ("fc3", "sigmoid"): [4.23, 4.23, 4.23, 5.09],
    ("fc5", "sigmoid"): [5.73, 5.87, 5.87, 6.23],
    ("dm_small", "sigmoid"): [2.28, 2.66, 2.84, 3.12],
    ("fc3", "tanh"): [7.95, 8.06, 8.29, 9.39],
    ("fc5", "tanh"): [10.50, 10.50, 10.50, 13.16],
    ("dm_small", "tanh"): [1.56, 1.65, 1.75, 1.97],
    ("dm_medium", "tanh"): [1.04, 1.14, 1.14, 1.24],
}
"""At eps 0.1, 0.2, 0.3 and 0.4 (tables 1 and 4)."""
_NARROW = [2 / 255, 4 / 255, 6 / 255, 8 / 255, 16 / 255]
_WIDE = [2 / 255, 16 / 255, 32 / 255, 64 / 255]
_CIFAR_PUBLISHED = {
    ("dm_small", "relu"): (_NARROW, [25.52, 25.52, 25.52, 25.52, 26.61]),
    ("dm_medium", "relu"): (_NARROW, [16.40, 16.40, 16.70, 16.93, 17.16]),
    ("dm_large", "relu"): (_NARROW, [13.81, 13.81, 13.88, 13.88, 14.12]),
    ("fc3", "sigmoid"): (_WIDE, [53.49, 53.49, 54.41, 57.65]),
    ("fc5", "sigmoid"): (_WIDE, [58.95, 58.95, 60.05, 62.77]),
    ("dm_small", "sigmoid"): (_WIDE, [36.22, 39.59, 41.39, 43.09]),
    ("fc3", "tanh"): (_WIDE, [56.62, 56.62, 57.17, 60.99]),
    ("fc5", "tanh"): (_WIDE, [60.07, 61.30, 61.72, 65.73]),
    ("dm_small", "tanh"): (_WIDE, [46.69, 48.14, 49.05, 51.22]),
    ("dm_medium", "tanh"): (_WIDE, [30.02, 31.02, 32.18, 35.62]),
}
"""The radii that the paper prints for a network (tables 1 and 4), and its figures."""
PUBLISHED = {
    "mnist": {name: dict(zip(EPS, row, strict=True)) for name, row in _MNIST_PUBLISHED.items()},
    "cifar": {name: dict(zip(*row, strict=True)) for name, row in _CIFAR_PUBLISHED.items()},
}
"""The paper's verified error in percent, by data, network and eps. Its accuracy (table 2) is 100% less that."""


_COMPETITORS = {
    ("llm", "dm_small"): [3.02, 6.04, 12.48, 20.51],
    ("lbp", "dm_small"): [4.09, 5.54, 8.11, 13.03],
    ("adv_ibp", "dm_small"): [3.34, 5.96, 12.16, 20.69],
    ("llm", "dm_medium"): [2.67, 5.10, 11.75, 19.04],
    ("lbp", "dm_medium"): [3.47, 4.73, 7.02, 11.59],
    ("adv_ibp", "dm_medium"): [3.62, 6.05, 9.61, 17.33],
    ("llm", "dm_large"): [2.29, 4.38, 10.38, 15.71],
    ("lbp", "dm_large"): [2.93, 3.96, 6.14, 10.48],
    ("adv_ibp", "dm_large"): [3.66, 5.89, 8.76, 17.68],
}
"""The verified errors that table 1 prints of the competitors on MNIST, at eps 0.1, 0.2, 0.3 and 0.4 in [0, 1]."""
_TRAINING = {
    "abstrain": "AbsCert",
    "reachable": "IBP on reachable cells",
    "llm": "LLM",
    "lbp": "LBP & Ramp",
    "adv_ibp": "AdvIBP",
}
_PUBLISHED_SECONDS = {"dm_small": "2.18; 0.54", "dm_medium": "2.32; 0.56", "dm_large": "4.28; 0.56"}


def published(data: str, run: Run) -> float | None:
    """The paper's verified error of a run, in percent; None where it prints none."""
    if (run.training, run.network) in _COMPETITORS:
        return dict(zip(EPS, _COMPETITORS[run.training, run.network], strict=True)).get(run.eps / 2)
    if run.training != "abstrain" or (data == "mnist" and run.granularity != 2 * run.eps):
        return None
    return PUBLISHED[data].get((run.network, run.activation), {}).get(run.eps)


def _radius(data: str, run: Run) -> str:
    return f"{run.eps:g}" if data == "mnist" else f"{round(255 * run.eps)}/255"


def table(results: list[dict[str, Any]]) -> str:
    """One row a run: the paper's verified error, ours in its sense, and what is sound."""
    rows = []
    for r in results:
        run, data = Run(**r["run"]), r["data"]
        theirs = published(data, run)
        clean = r.get("abstraction_error", r["test_error"])
        rows.append(
            {
                "network": f"{run.network} {run.activation}" + ("" if data == "mnist" else f" ({data})"),
                "eps": _radius(data, run),
                "d": f"{run.granularity:.3g}" if run.granularity else "",
                "training": _TRAINING[run.training],
                "epochs": str(run.epochs),
                "paper": "" if theirs is None else f"{theirs:.2f}%",
                "all images: abstraction error, which is the test error": f"{100 * clean:.2f}%",
                "certified error, intervals": f"{100 * r['ibp_error']:.2f}%",
                f"first {r['count']:,}: attack error": f"{100 * r['attack_error']:.1f}%",
                "certified error, CROWN": f"{100 * r['crown_error']:.1f}%",
            }
        )
    return store.markdown(rows)


def timed(result: dict[str, Any]) -> bool:
    """Whether a result has the seconds of table 3: those that were measured on a crowded machine were left out."""
    return "abstraction_seconds" in result and "seconds_per_epoch" in result


def times(results: list[dict[str, Any]]) -> str:
    """Seconds for each network (AbsCert's table 3), of the MNIST runs: the median over its runs."""
    rows, results = [], [r for r in results if timed(r)]
    for name in dict.fromkeys((r["run"]["network"], r["run"]["activation"], r["run"]["training"]) for r in results):
        some = [r for r in results if (r["run"]["network"], r["run"]["activation"], r["run"]["training"]) == name]

        def median(key: str, scale: float, some: list[dict[str, Any]] = some) -> str:
            return f"{scale * sorted(r[key] for r in some)[len(some) // 2]:.3g}"

        theirs = _PUBLISHED_SECONDS.get(name[0], "") if name[1:] == ("relu", "abstrain") else ""
        rows.append(
            {
                "network": f"{name[0]} {name[1]}",
                "training": name[2],
                "seconds an epoch": median("seconds_per_epoch", 1.0),
                "abstraction error, ms an image": median("abstraction_seconds", 0.1),
                "intervals, ms an image": median("ibp_seconds", 0.1),
                "CROWN, ms an image": median("crown_seconds", 1000 / some[0]["count"]),
                "paper, one GPU: seconds an epoch; seconds to verify the test set": theirs,
            }
        )
    return store.markdown(rows)


def report(results: list[dict[str, Any]]) -> None:
    """Writes the tables into the README."""
    line = store.machine_line(results[-1]["machine"])
    counter = of(["counter"], results)
    tables = of(["mnist", "cifar"], results)
    parts = [line]
    if counter:
        parts += ["eps 0.1 in [0, 1], which is 0.2 here:", table(counter)]
    others = of(["competitors"], results)
    if tables:
        parts += ["The paper's tables 1, 2 and 4:", table(tables)]
    if others:
        parts += [
            "The competitors of table 1, by the same name here, at the eps in [0, 1] that it prints:",
            table(others),
        ]
    parts += ["Seconds (table 3):", times([r for r in results if r["data"] == "mnist"])]
    STORE.write_table("train-abstraction", "\n\n".join(parts))
    print("\n\n".join(parts))
