"""Stored results of everything but radii: passes, programs, trainings, cells.

Every function raises ``NotStored`` where nothing is stored of what it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.papers.records import NotStored, load, note, span

AGRIFY, CONSTRAINED, STEPS = "complete/agrify", "training/train_constrained", "training/train_steps"
CELLS, TUNED, LANDSCAPE = "cells/train_abstraction", "cells/tune_granularity", "cells/loss_landscape"
DENSE, GROWN, COUNTED, LARGE = "peers/densify", "peers/growth", "peers/counted", "peers/large"
MODELS, AUTHORS = "radius/models", "radius/authors"
_SWEEPS = {
    "batch": "batch",
    "depth": "depth",
    "width": "filters",
    "classes": "classes",
    "image": "size",
    "kernel": "kernel",
}
"""What a sweep of growth varies."""


def hidden_nodes(*networks: str) -> list[float]:
    """Hidden nodes of the papers' networks, as counted when they were trained."""
    known = load(MODELS)
    for name in networks:
        if name not in known:
            raise NotStored(name)
        note(MODELS, name)
    return [known[name]["hidden_nodes"] for name in networks]


def densify(norm: str, slow: str = "dense maps", fast: str = "patches") -> float:
    """How many times longer a pass of one form of the network takes than one of another."""
    cases = [case for case in load(DENSE)["cases"] if case["norm"] == norm and {slow, fast} <= set(case["passes"])]
    if not cases:
        raise NotStored(f"{norm} {slow}")
    note(DENSE, norm)
    return cases[0]["passes"][slow]["seconds"] / cases[0]["passes"][fast]["seconds"]


def _points(sweep: str, *, counted: bool = False) -> list[dict[str, Any]]:
    name = COUNTED if counted else GROWN
    points = [p for p in load(name)["points"] if p["sweep"] == sweep and p["memory_mb"] == 1024]
    if len(points) < 2:
        raise NotStored(sweep)
    note(name, sweep)
    return points


def exponent(sweep: str, *, counted: bool = False) -> float:
    """The exponent of a pass's seconds, or of its counted multiplications, against what a sweep varies."""
    from benchmarks.peers.growth import exponent as slope

    points = _points(sweep, counted=counted)
    values = [p["gflop_useful"] if counted else p["passes"]["tfcert"]["seconds"] for p in points]
    return slope([float(p[_SWEEPS[sweep]]) for p in points], values)


def sizes(sweep: str, *, counted: bool = False) -> str:
    """The least and the most of what a sweep varies."""
    return span([p[_SWEEPS[sweep]] for p in _points(sweep, counted=counted)], "{:.0f}")


def authors(network: str, program: str) -> list[dict[str, str]]:
    """Rows of the authors' programs beside ours whose network and program begin so."""
    rows = [r for r in load(AUTHORS) if r["network"].startswith(network) and r["program"].startswith(program)]
    if not rows:
        raise NotStored(f"{network} {program}")
    for row in rows:
        note(AUTHORS, f"{row['network']} {row['norm']} {row['program']}")
    return rows


def faster(network: str, program: str, timing: str = "quiet") -> str:
    """How many times faster than the authors' program, over its rows whose seconds are quiet (or nearly)."""
    rows = [row for row in authors(network, program) if row["timing"].endswith(timing)]
    if not rows:
        raise NotStored(f"{network} {program} {timing}")
    return span([float(row["t/t'"]) for row in rows if row["t/t'"]], "{:.0f}")


def row(key: str) -> dict[str, dict[str, Any]]:
    """The answers of a row of Agrify's tables, by image, misclassified ones included."""
    rows = load(AGRIFY)["rows"]
    if not rows.get(key):
        raise NotStored(key)
    note(AGRIFY, f"rows/{key}")
    return rows[key]


def counts(key: str) -> dict[str, float]:
    """The paper's columns of a row: ``n_s``, ``t_all``, ``adversarial``, ``robust``, ``unknown``."""
    from benchmarks.complete.tables import counts as counted

    return counted(row(key))


def verdicts(key: str) -> str:
    """The same in words."""
    some = counts(key)
    if not some["n_s"]:
        raise NotStored(key)
    return (
        f"{some['n_s']} asked: {some['adversarial']} adversarial, {some['robust']} robust, {some['unknown']} unknown, "
        "in "
        f"{some['t_all']:.0f} s by `{key.split()[2]}`, at most {limit(key):.0f} s each"
    )


def limit(key: str) -> float:
    """The longest time that an image of a row was given, in seconds."""
    return max(answer["limit"] for answer in row(key).values())


def peers(network: str) -> dict[str, dict[str, Any]]:
    """Answers of Marabou and of ours to the same questions, by image."""
    found = load(AGRIFY)["peers"].get(network)
    if not found:
        raise NotStored(network)
    note(AGRIFY, f"peers/{network}")
    return found


def trained(
    experiment: str, objective: str, seed: int = 0, keep: Callable[[dict[str, Any]], bool] = bool
) -> dict[str, Any]:
    """The longest stored training of an experiment of ``benchmarks.training.run``."""
    some = trainings(experiment, objective, keep)
    some = [r for r in some if r["run"]["seed"] == seed]
    if not some:
        raise NotStored(f"{experiment} {objective} seed {seed}")
    best = max(some, key=lambda r: r["run"]["epochs"])
    note(CONSTRAINED, f"{experiment} {objective} seed {seed} epochs {best['run']['epochs']}")
    return best


def trainings(experiment: str, objective: str, keep: Callable[[dict[str, Any]], bool] = bool) -> list[dict[str, Any]]:
    """Every stored training of an experiment by a method of ``benchmarks.training.tables``; ``keep`` chooses."""
    from benchmarks.training.tables import method_of

    return [
        r for r in load(CONSTRAINED)
        if r["experiment"] == experiment and method_of(r["run"]) == objective and keep(r["run"])
    ]  # fmt: skip


def seeds(experiment: str, objective: str) -> list[dict[str, Any]]:
    """The longest training of every seed."""
    each = sorted({r["run"]["seed"] for r in trainings(experiment, objective)})
    if not each:
        raise NotStored(f"{experiment} {objective}")
    return [trained(experiment, objective, seed) for seed in each]


def errors(results: list[dict[str, Any]], key: str = "verified") -> list[float]:
    """Errors in percent at the end of trainings: ``accuracy`` (test), ``verified`` or ``attacked``."""
    return [100 * (1 - r[key]) for r in results]


def curve(result: dict[str, Any], key: str = "val_verified_accuracy") -> list[float]:
    """Errors in percent of the first test images, epoch by epoch."""
    return [100 * (1 - value) for value in result["history"][key]]


def step(batch: int, name: str, *, jit: bool) -> float:
    """What a step of training by an objective costs, in plain steps of the same network."""
    for some in load(STEPS)["steps"]:
        if (some["batch"], some["jit_compile"]) == (batch, jit):
            note(STEPS, f"batch {batch}, {'XLA' if jit else 'no XLA'}, {name}")
            return some["milliseconds"][name] / some["milliseconds"]["plain"]
    raise NotStored(f"batch {batch}")


def cells(network: str, activation: str = "relu", **options: Any) -> list[dict[str, Any]]:
    """Stored trainings behind cells, in the order of eps; the longest of each.

    Args:
        options: attributes of ``benchmarks.cells.abstraction.Run`` (``training="reachable"``, ``eps=0.2``), and
            ``data`` (``mnist`` unless it is given).
    """
    wanted = {"training": "abstrain", "network": network, "activation": activation} | options
    data = wanted.pop("data", "mnist")
    found = [r for r in load(CELLS) if r["data"] == data and wanted.items() <= r["run"].items()]
    longest: dict[tuple[float, float], dict[str, Any]] = {}
    for r in sorted(found, key=lambda r: r["run"]["epochs"]):
        longest[r["run"]["eps"], r["run"]["granularity"]] = r
    if not longest:
        raise NotStored(f"{data} {wanted}")
    for eps, granularity in sorted(longest):
        epochs = longest[eps, granularity]["run"]["epochs"]
        note(
            CELLS,
            f"{data} {network} {activation} {wanted['training']} eps {eps:.3g} d {granularity:.3g} epochs {epochs}",
        )
    return [longest[key] for key in sorted(longest)]


def table_cells(network: str, activation: str = "relu") -> list[dict[str, Any]]:
    """Those of tables 1 and 4 on MNIST, where d is 2 eps."""
    some = [r for r in cells(network, activation) if abs(r["run"]["granularity"] - 2 * r["run"]["eps"]) < 1e-6]
    if not some:
        raise NotStored(f"{network} {activation}")
    return some


def tuned() -> dict[str, Any]:
    """The stored search of granularities of the MLP."""
    for found in load(TUNED):
        if found["run"]["network"] == "mlp" and found["run"]["training"] == "abstrain":
            note(TUNED, "mlp abstrain")
            return found
    raise NotStored("mlp abstrain")


def landscape(variant: str) -> list[dict[str, Any]]:
    """Loss landscapes of a variant, one a seed."""
    found = [r for r in load(LANDSCAPE) if r["variant"] == variant]
    if not found:
        raise NotStored(variant)
    note(LANDSCAPE, variant)
    return found


def large(network: str) -> str:
    """The methods that bounded a large network, with the peak of the process's memory, beside reading the model."""
    rows = [row for row in load(LARGE) if row["network"] == network]
    if not rows:
        raise NotStored(network)
    parts = []
    for row in rows:
        note(LARGE, f"{network} {row['method']}")
        parts.append(f"`{row['method']}` {row['pass_mib'] / 1024:.1f} GiB in {row['pass_seconds']:.0f} s")
    read = max(row["model_mib"] for row in rows) / 1024
    return f"one image in {', '.join(parts)}; the model alone {read:.1f} GiB (peaks of the process)"
