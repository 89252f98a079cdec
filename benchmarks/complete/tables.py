"""The Agrify benchmark's tables and its figure, from the stored results."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, median
from typing import Any

from matplotlib.figure import Figure

from benchmarks.common import store
from benchmarks.complete.networks import EPS, NETWORKS, missing
from benchmarks.complete.networks import images as images_of
from benchmarks.complete.peer import PEERS
from benchmarks.complete.tasks import ADVERSARIAL, ROBUST, SKIPPED, UNKNOWN

PAPER = {
    "FNN1": {"Agrify": (99, 202.769, 96, 3, 0), "MIPVerify": (99, 1451.656, 96, 3, 0)},
    "FNN2": {"Agrify": (99, 565.763, 87, 12, 0), "MIPVerify": (99, 2261.611, 87, 12, 0)},
    "FNN3": {"Agrify": (99, 24731.163, 83, 15, 1), "MIPVerify": (99, 69054.317, 83, 15, 1)},
    "FNN4": {"Agrify": (98, 1027.622, 4, 94, 0), "MIPVerify": (98, 36494.919, 4, 94, 0)},
    "FNN5": {"Agrify": (87, 350.75, 85, 2, 0), "MIPVerify": (87, 1548.15, 85, 2, 0)},
    "FNN6": {"Agrify": (87, 1041.99, 86, 0, 0), "MIPVerify": (87, 3302.66, 86, 0, 0)},
}
"""Tables I and IV as printed: n_s, t_all, n_a, n_n, n_u (32 cores, Gurobi). Weights of FNN2, 3, 5, 6 are not these."""
FIGURE = Path("agrify_distances.svg")
_TOLERANCE = 1e-6
"""By how much (relative) a solver's lower bound may exceed a witness's distance: its own tolerances."""
_COUNTS = ("n_s", "t_all, s", "n_a", "n_n", "n_u")
_MORE = ("minimum proven", "mean minimum", "limit, s", "solver")

Images = dict[str, dict[str, Any]]


def counts(images: Images) -> dict[str, float]:
    """The paper's columns for one row's images, misclassified ones left out."""
    asked = [r for r in images.values() if r["outcome"] != SKIPPED]
    some = {name: sum(r["outcome"] == name for r in asked) for name in (ADVERSARIAL, ROBUST, UNKNOWN)}
    seconds = sum(r["seconds"] for r in asked)
    return {"n_s": len(asked), "t_all": seconds, **some}


def results_table(results: dict[str, Any]) -> str:
    """Table I: every row that has results, below what the paper prints for the network."""
    rows = []
    for fnn in NETWORKS:
        for tool, (n_s, t_all, *rest) in PAPER[fnn.name].items():
            numbers = dict(zip(_COUNTS, map(str, (n_s, f"{t_all:.0f}", *rest)), strict=True))
            printed = {"network": fnn.name, "row": f"{tool}, printed", "images": "100"}
            rows.append(printed | numbers | dict.fromkeys(_MORE, "") | {"solver": "gurobi"})
        found = [_row(key, images) for key, images in results["rows"].items() if key.split()[0] == fnn.name]
        trained = results["networks"].get(fnn.name, {})
        empty = dict.fromkeys(("images", *_COUNTS, *_MORE), "")
        if not found:
            there = trained or fnn.data == "mnist" or images_of(fnn.data, "test") is not None
            why = "not asked yet" if there else missing(fnn.data)
            found = [{"network": fnn.name, "row": why, **empty}]
        rows += found
    return store.markdown(rows)


def accuracies(results: dict[str, Any]) -> str:
    """The networks that were asked about, in a sentence."""
    known = results["networks"].items()
    trained = {name: f", trained here in {n['epochs']} epochs" if "epochs" in n else "" for name, n in known}
    return "Test accuracy: " + "; ".join(f"{name} {100 * n['accuracy']:.1f}%{trained[name]}" for name, n in known) + "."


def _row(key: str, images: Images) -> dict[str, str]:
    network, *name, solver = key.split()
    found = counts(images)
    numbers = (found["n_s"], found["t_all"], found[ADVERSARIAL], found[ROBUST], found[UNKNOWN])
    known = [r for r in images.values() if "upper" in r and r["outcome"] == ADVERSARIAL]
    proven = [r for r in known if r["optimal"]]
    limits = sorted({r["limit"] for r in images.values() if "limit" in r})
    return {
        "network": network,
        "row": " ".join(name),
        "images": str(len(images)),
        **dict(zip(_COUNTS, (f"{n:.0f}" for n in numbers), strict=True)),
        "minimum proven": str(len(proven)) if known else "",
        "mean minimum": f"{fmean(r['upper'] for r in known):.5f}" if known else "",
        "limit, s": ", ".join(f"{limit:g}" for limit in limits),
        "solver": solver,
    }


def finished(stored: dict[str, Any]) -> bool:
    """Whether an answer needs no more time."""
    return stored["outcome"] in (ROBUST, SKIPPED) or bool(stored.get("optimal", stored["outcome"] == ADVERSARIAL))


def speedups(results: dict[str, Any]) -> str:
    """Branch and bound, and guided programs, against each plain row, image by image, same runs only."""
    rows = []
    for key, plain in results["rows"].items():
        network, task, *how = key.split()
        if task != "minimum" or how[0] != "plain":
            continue
        for name in ("split crown", *(f"guided {bounds}" for bounds in sorted({how[1], "crown"}))):
            guided = results["rows"].get(f"{network} minimum {name} {how[2]}", {})
            rows += _speedup(network, (name, guided), (f"plain {how[1]}", plain), how[2])
    return store.markdown(rows) if rows else "No pairs yet."


def _speedup(network: str, first: tuple[str, Images], second: tuple[str, Images], solver: str) -> list[dict[str, str]]:
    (name, guided), (other, plain) = first, second
    pairs = [
        (guided[i], plain[i])
        for i in plain
        if i in guided and plain[i]["outcome"] != SKIPPED and plain[i]["run"] == guided[i]["run"]
    ]
    both = [(g["seconds"], p["seconds"]) for g, p in pairs if finished(g) and finished(p)]
    if not pairs:
        return []
    row = {"network": network, "guided": name, "plain": other, "solver": solver, "images": str(len(pairs))}
    row["finished by guided, by plain"] = f"{sum(finished(g) for g, _ in pairs)}, {sum(finished(p) for _, p in pairs)}"
    row["both"] = str(len(both))
    row["guided, s"] = f"{sum(g for g, _ in both):.1f}" if both else ""
    row["plain, s"] = f"{sum(p for _, p in both):.1f}" if both else ""
    row["times faster, total"] = f"{sum(p for _, p in both) / sum(g for g, _ in both):.1f}" if both else ""
    alone = [(g["seconds"], p["seconds"]) for g, p in pairs if finished(g)]
    row["at least, total"] = f"{sum(p for _, p in alone) / sum(g for g, _ in alone):.1f}" if alone else ""
    row["median image"] = f"{median(p / g for g, p in both):.1f}" if both else ""
    return [row]


def peers_table(results: dict[str, Any]) -> str:
    """The peers beside tfcert on the same images."""
    rows = []
    for key, images in results["peers"].items():
        for side in sides(images):
            answers = {i: r[side] for i, r in images.items() if side in r and r[side]["outcome"] != SKIPPED}
            found = counts(answers)
            numbers = (found["n_s"], found["t_all"], found[ADVERSARIAL], found[ROBUST], found[UNKNOWN])
            rows.append(
                {
                    "network": key,
                    "side": PEERS[side].title if side in PEERS else side,
                    **dict(zip(_COUNTS, (f"{numbers[0]}", f"{numbers[1]:.1f}", *map(str, numbers[2:])), strict=True)),
                    "witnesses that replay": str(sum("distance" in a and "refused" not in a for a in answers.values())),
                    "refused": str(sum("refused" in a for a in answers.values())),
                    "ties in float64": str(sum(a.get("only_float32", False) for a in answers.values())),
                    "limit, s": f"{next(iter(images.values()))['limit']:g}",
                }
            )
    return store.markdown(rows) if rows else "Not asked yet."


def problems(results: dict[str, Any]) -> list[str]:
    """What cannot be right: witnesses refused, lower bounds (the radius, if robust) that another's witness refutes."""
    found: list[str] = []
    lower: dict[tuple[str, str], tuple[float, str]] = {}
    nearest: dict[tuple[str, str], tuple[float, str]] = {}
    for network, image, who, stored in _answers(results):
        where = (network, image)
        if "refused" in stored and who not in PEERS:  # theirs are counted in their table
            found.append(f"{network}, image {image}, {who}: {stored['refused']}")
        bound = math.inf if stored["outcome"] == ROBUST else stored.get("lower", 0.0)
        lower[where] = max(lower.get(where, (0.0, "")), (bound, who))
        if stored["outcome"] == ADVERSARIAL:
            nearest[where] = min(nearest.get(where, (math.inf, "")), (stored["distance"], who))
    for where, (distance, witness) in nearest.items():
        bound, who = lower[where]
        if bound > distance * (1 + _TOLERANCE):
            claim = "robust" if math.isinf(bound) else f"nothing nearer than {bound:.9g}"
            found.append(f"{where[0]}, image {where[1]}: {who} says {claim}, {witness} has a witness at {distance:.9g}")
    return found


def _answers(results: dict[str, Any]) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Every answer: network, image, whose it is, and what it says."""
    for key, images in results["rows"].items():
        network, _, name = key.partition(" ")
        yield from ((network, image, name, stored) for image, stored in images.items())
    for network, images in results["peers"].items():
        for image, answers in images.items():
            yield from ((network, image, side, answers[side]) for side in sides({image: answers}))


def sides(images: Images) -> list[str]:
    """Who was asked about some of the images: peers, then tfcert."""
    return [side for side in (*PEERS, "tfcert") if any(side in answers for answers in images.values())]


def figure(results: dict[str, Any], path: Path) -> bool:
    """The paper's Figure 3: each image's distance on FNN1, guided and plain; False where there is nothing to draw."""
    shown = {
        key.removeprefix("FNN1 minimum "): images
        for key, images in results["rows"].items()
        if key.startswith("FNN1 minimum ")
    }
    if not shown:
        return False
    drawing = Figure(figsize=(10, 1 + 1.7 * len(shown)), layout="constrained")
    axes = drawing.subplots(len(shown), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axis, (name, images) in zip(axes, shown.items(), strict=True):
        known = sorted((int(i), r["upper"]) for i, r in images.items() if "upper" in r)
        robust = [int(i) for i, r in images.items() if r["outcome"] == ROBUST]
        axis.bar([i for i, _ in known], [d for _, d in known], width=0.8, color="tab:blue")
        axis.plot(robust, [EPS] * len(robust), "^", color="tab:green", label="robust")
        axis.axhline(EPS, color="grey", linewidth=0.8, linestyle=":")
        axis.set_title(f"tfcert, {name}", fontsize=9, loc="left")
        axis.set_ylabel("L-inf distance")
    axes[-1].set_xlabel("image")
    drawing.savefig(path, metadata={"Date": None})
    return True
