"""The README's tables of radii: beside the authors' programs, and in the columns of the papers' tables."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from benchmarks.common import architectures, store
from benchmarks.radius import records
from benchmarks.radius.searches import NORMS, POOLED, SIZES, Search

STORE = store.Store(__file__)
PAPERS = STORE.folder / "papers.json"
"""Mean radii and seconds as the papers print them."""


class Results:
    """The stored searches, and the largest batch that there is of each."""

    def __init__(self, stored: dict[str, Any]):
        self.batches, self.searches = stored["batches"], stored["searches"]

    def largest(self, network: str, norm: str, relaxation: str, size: int = SIZES[-1]) -> Found | None:
        """The search of most images, of at most ``size``; None if there was none."""
        for number in reversed([s for s in SIZES if s <= size]):
            if found := self.of(Search(network, norm, relaxation, number)):
                return found
        return None

    def together(self, network: str, norm: str, names: tuple[str, ...]) -> dict[str, Found] | None:
        """Searches with several relaxations of the same images, as many as there are of all; None if there are none."""
        for size in reversed(SIZES):
            found = {name: self.of(Search(network, norm, name, size)) for name in names}
            if all(found.values()):
                return {name: entry for name, entry in found.items() if entry}
        return None

    def of(self, search: Search) -> Found | None:
        """One search's result, if there is one with the relaxation's rule of now."""
        entry = self.searches.get(search.key)
        older = entry is not None and entry.get("revision", 0) != search.revision
        return (
            None
            if older or entry is None
            else Found(entry, self.batches[f"{search.network} {search.images}"]["images"])
        )


class Found:
    """One search's result: radii by image, and seconds an image."""

    def __init__(self, entry: dict[str, Any], images: list[int]):
        self.radii = dict(zip(images, entry["radius"], strict=True))
        self.count = len(images)
        self.seconds = min(entry["seconds"], default=math.nan) / len(images)
        self.first_seconds = entry["first_seconds"] / len(images)
        self.evaluations = entry["evaluations"]
        self.mean, self.deviation = float(np.mean(entry["radius"])), float(np.std(entry["radius"]))

    def timed(self) -> str:
        """Seconds an image; nothing where radii alone were searched."""
        return "" if math.isnan(self.seconds) else f"{self.seconds:.4f}"

    def shown(self) -> str:
        """Mean and standard deviation, as in the papers."""
        return f"{self.mean:.4f} ({self.deviation:.4f})"


def write_all(stored: dict[str, Any]) -> None:
    """Writes every table into the README."""
    results, papers = Results(stored), printed()
    machine = stored["machine"]
    head = f"{store.machine_line(machine)}\n\n" if machine else ""
    if beside := peers(results):  # without the records of others the table stays as it is
        STORE.write("authors", beside)
        STORE.write_table("radius-peers", head + _table(beside))
    STORE.write_table("radius-cnncert", _table(cnncert(results, papers["cnncert_3_to_8"])))
    STORE.write_table("radius-activations", _table(activations(results, papers["cnncert_7"])))
    STORE.write_table("radius-deepcert", _table(deepcert(results, papers["deepcert_1"])))
    STORE.write_table("radius-relaxations", _table(relaxations(results)))
    STORE.write_table("radius-frown", _table(frown(results, papers["deepcert_2"])))
    STORE.write_table("radius-all", _table(everything(results)))


def _ratio(first: float, second: float, digits: int | None = None) -> str:
    """One time over another; nothing where one is not known."""
    if math.isnan(first / second):
        return ""
    return f"{first / second:.{(0 if first >= second else 1) if digits is None else digits}f}"


def printed() -> dict[str, Any]:
    """Mean radii and seconds as the papers print them, by table."""
    return json.loads(PAPERS.read_text())


def _table(rows: list[dict[str, str]]) -> str:
    return store.markdown(rows) if rows else "(not measured yet)"


def peers(results: Results) -> list[dict[str, str]]:
    """Every program of the records beside the same relaxation here: seconds, and radii on the same images."""
    rows = []
    for network in architectures.NAMES:
        for norm in NORMS:
            for relaxation in ("fastlin", "cnncert", "deepcert", "adaptive"):
                ours = results.largest(network, norm, relaxation) or _same_bounds(results, network, norm, relaxation)
                for peer in records.recorded(network, norm, relaxation):
                    if ours is not None:
                        rows.append(_beside(ours, peer, {"network": network, "norm": norm}))
    return rows


def _same_bounds(results: Results, network: str, norm: str, relaxation: str) -> Found | None:
    """``adaptive`` is ``cnncert`` on ReLU networks without max pooling, and searched once."""
    return results.largest(network, norm, "cnncert") if relaxation == "adaptive" else None


def _beside(ours: Found, peer: records.Recorded, row: dict[str, str]) -> dict[str, str]:
    ratios = [ours.radii[image] / radius for image, radius in peer.radii.items() if radius and image in ours.radii]
    return row | {
        "program": peer.method,
        "timing": peer.timing,
        "theirs, s an image": f"{peer.seconds:.3f}",
        "ours, s an image": ours.timed(),
        "t/t'": _ratio(peer.seconds, ours.seconds),
        "batch": str(ours.count),
        "images in common": str(len(ratios)),
        "our radius / theirs, mean": f"{np.mean(ratios):.4f}" if ratios else "",
        "least": f"{min(ratios):.4f}" if ratios else "",
    }


def cnncert(results: Results, papers: dict[str, Any]) -> list[dict[str, str]]:
    """CNN-Cert's Tables 3 to 8 for ReLU networks: parallel against adaptive slopes."""
    rows = []
    for network, paper in papers.items():
        # With max pooling, the default, whose planes are fastlin's: so only slopes differ.
        name = "adaptive" if architectures.split(network)[0] in POOLED else "cnncert"
        for norm in NORMS:
            if (found := results.together(network, norm, ("fastlin", name))) is None:
                continue
            plain, adaptive = found["fastlin"], found[name]
            rows.append(
                {
                    "table": paper["table"],
                    "network": network,
                    "norm": norm,
                    "images": str(adaptive.count),
                    "CNN-Cert-Relu": plain.shown(),
                    "CNN-Cert-Ada": adaptive.shown(),
                    "improvement": _percent(adaptive.mean, plain.mean),
                    "paper's": _percent(paper["cnncert"][norm], paper["fastlin"][norm]),
                    "s an image": adaptive.timed(),
                    "paper's s": str(paper.get("seconds", {}).get(norm, "")),
                }
            )
    return rows


def activations(results: Results, papers: dict[str, Any]) -> list[dict[str, str]]:
    """CNN-Cert's Table 7, S-shaped networks: radii with its relaxation."""
    rows = []
    for network, paper in papers.items():
        for norm in NORMS:
            if (found := results.largest(network, norm, "cnncert")) is None:
                continue
            rows.append(
                {
                    "network": network,
                    "norm": norm,
                    "images": str(found.count),
                    "CNN-Cert": found.shown(),
                    "paper's radius": f"{paper['cnncert'][norm]:.4f}",
                    "s an image": found.timed(),
                }
            )
    return rows


def deepcert(results: Results, papers: dict[str, Any]) -> list[dict[str, str]]:
    """DeepCert's Table 1: its relaxation against CNN-Cert's."""
    rows = []
    for network, paper in papers.items():
        for norm in NORMS:
            if (found := results.together(network, norm, ("cnncert", "deepcert"))) is None:
                continue
            old, new = found["cnncert"], found["deepcert"]
            rows.append(
                {
                    "network": network,
                    "norm": norm,
                    "images": str(new.count),
                    "CNN-Cert": old.shown(),
                    "DeepCert": new.shown(),
                    "improvement": _percent(new.mean, old.mean),
                    "paper's": f"{paper['improvement'][norm]:+.1f}%",
                    "CNN-Cert, s an image": old.timed(),
                    "DeepCert, s an image": new.timed(),
                    "t/t'": _ratio(old.seconds, new.seconds, 2),
                    "paper's s": str(paper["seconds"][norm]),
                }
            )
    return rows


def relaxations(results: Results) -> list[dict[str, str]]:
    """Every closed form on the S-shaped networks, on the same ten images."""
    rows = []
    for network in architectures.NAMES:
        for norm in NORMS:
            names = ("crown", "cnncert", "deepcert", "adaptive")
            found = {name: results.of(Search(network, norm, name, SIZES[0])) for name in names}
            if not all(found.values()):
                continue
            means = {name: entry.mean for name, entry in found.items() if entry}
            rows.append(
                {
                    "network": network,
                    "norm": norm,
                    **{name: f"{mean:.4f}" for name, mean in means.items()},
                    "cnncert over crown": _percent(means["cnncert"], means["crown"]),
                    "deepcert over cnncert": _percent(means["deepcert"], means["cnncert"]),
                    "adaptive over deepcert": _percent(means["adaptive"], means["deepcert"]),
                }
            )
    return rows


def frown(results: Results, papers: dict[str, Any]) -> list[dict[str, str]]:
    """DeepCert's Table 2, on ten images: closed forms against optimised ones, one line each."""
    rows = []
    for network, paper in papers.items():
        for norm in NORMS:
            methods = {name: ("crown", name) for name in ("crown", "cnncert", "deepcert", "adaptive", "frown")}
            methods["alpha-crown"] = ("alpha-crown", "adaptive")
            for name, (method, relaxation) in methods.items():
                found = results.of(Search(network, norm, relaxation, SIZES[0], method))
                base = results.of(Search(network, norm, "crown", SIZES[0]))
                if found is None or base is None:
                    continue
                printed = paper.get(name)
                rows.append(
                    {
                        "network": network,
                        "norm": norm,
                        "relaxation": name,
                        "radius": found.shown(),
                        "over crown": "" if name == "crown" else _percent(found.mean, base.mean),
                        "paper's": _percent(printed[norm], paper["crown"][norm]) if printed else "",
                        "s an image": found.timed(),
                    }
                )
    return rows


def everything(results: Results) -> list[dict[str, str]]:
    """Seconds an image of every search's largest batch: a line for a network and relaxation, all norms in it."""
    lines: dict[tuple[str, str, str], dict[str, Found]] = {}
    for key in results.searches:
        network, norm, method, relaxation, size = key.split()
        found, line = results.of(Search(network, norm, relaxation, int(size), method)), (network, method, relaxation)
        if found and found.count > getattr(lines.get(line, {}).get(norm), "count", 0):
            lines.setdefault(line, {})[norm] = found
    order = {name: number for number, name in enumerate(architectures.NAMES)}
    return [
        {
            "network": network,
            "relaxation": relaxation if method == "crown" else f"{relaxation}, {method}",
            "batch": " ".join(str(found[n].count) for n in NORMS if n in found),
            **{f"{n}, s an image": found[n].timed() if n in found else "" for n in NORMS},
            "first run": " ".join(f"{found[n].first_seconds:.3f}" for n in NORMS if n in found),
            "evaluations": " ".join(str(found[n].evaluations) for n in NORMS if n in found),
        }
        for (network, method, relaxation), found in sorted(
            lines.items(), key=lambda item: (order[item[0][0]], item[0][1:])
        )
    ]


def _percent(better: float, base: float) -> str:
    return f"{100 * (better / base - 1):+.1f}%" if base else ""
