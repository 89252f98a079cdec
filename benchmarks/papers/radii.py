"""Certified radii, comparators and passes as the lines of CNN-Cert and DeepCert read them.

A relaxation is named as in ``benchmarks.radius``; ``alpha-crown`` is the method of this name. Networks are those of
``benchmarks.common.architectures``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.papers.records import NotStored, found, joined, load, note, span, stored
from benchmarks.radius.searches import NORMS, SIZES, Search
from benchmarks.radius.tables import Found, Results, printed

RADII, COMPARED, GROWN, DENSE, MODELS = (
    "radius/radius",
    "radius/comparators",
    "peers/growth",
    "peers/densify",
    "radius/models",
)
AUTHORS = "radius/authors"


def run(*networks: str, options: str = "") -> tuple[str, ...]:
    """The commands that train networks and search their radii."""
    names = " ".join(networks)
    return f"benchmarks.radius.models {names}".strip(), f"benchmarks.radius.run {names} {options}".strip()


def compare(*networks: str) -> tuple[str, ...]:
    """The commands that train networks and put estimates and attacks beside their radii."""
    names = " ".join(networks)
    return f"benchmarks.radius.models {names}".strip(), f"benchmarks.radius.comparators {names}".strip()


def search(network: str, norm: str, relaxation: str, images: int = SIZES[0]) -> Found:
    """One search's result.

    Raises:
        NotStored: it was not run.
    """
    method, name = ("alpha-crown", "adaptive") if relaxation == "alpha-crown" else ("crown", relaxation)
    asked = Search(network, norm, name, images, method)
    result = Results(load(RADII)).of(asked)
    if result is None:
        raise NotStored(asked.key)
    note(RADII, asked.key)
    return result


def entry(network: str, norm: str, relaxation: str, images: int = SIZES[0]) -> dict[str, Any]:
    """The same as it is stored: evaluations, seconds, processor seconds."""
    search(network, norm, relaxation, images)
    return load(RADII)["searches"][Search(network, norm, relaxation, images).key]


def together(network: str, norm: str, *relaxations: str) -> list[Found]:
    """Searches with several relaxations, of the largest batch that all have.

    Raises:
        NotStored: there is none.
    """
    for images in reversed(SIZES):
        if stored(lambda images=images: [search(network, norm, name, images) for name in relaxations]):
            return [search(network, norm, name, images) for name in relaxations]
    raise NotStored(f"{network} {norm} {relaxations}")


def gain(better: str, base: str, network: str, norm: str) -> float:
    """How much more a relaxation certifies than another on average, in percent."""
    first, second = together(network, norm, better, base)
    return 100 * (first.mean / second.mean - 1)


def gains(better: str, base: str, *networks: str, norms: Sequence[str] = NORMS, form: str = "{:+.1f}") -> str:
    """The gains of one network in every norm (L-inf, L2, L1), or the span of those of several."""
    some = found(lambda n=network, m=norm: gain(better, base, n, m) for network in networks for norm in norms)
    return joined(some, form, "%") if len(networks) == 1 and len(some) <= len(NORMS) else span(some, form, "%")


def ratio(norm: str, first: tuple[str, str], second: tuple[str, str]) -> float:
    """The mean radius of one (network, relaxation) over that of another."""
    return search(first[0], norm, first[1]).mean / search(second[0], norm, second[1]).mean


def means(network: str, relaxation: str, form: str = "{:.4f}") -> str:
    """Mean radii in L-inf, L2 and L1."""
    return joined(found(lambda n=norm: search(network, n, relaxation).mean for norm in NORMS), form)


def all_done(networks: Sequence[str], relaxations: Sequence[str], images: int = SIZES[0]) -> bool:
    """Whether every search of these in every norm is stored."""
    asked = [(n, norm, name) for n in networks for norm in NORMS for name in relaxations]
    return stored(lambda: [search(*one, images) for one in asked])


def every(relaxation: str | None = None) -> list[tuple[str, str, str]]:
    """Every stored search of ten images: network, norm, relaxation."""
    keys = [key.split() for key in load(RADII)["searches"]]
    some = [(n, norm, name) for n, norm, method, name, size in keys
            if method == "crown" and size == str(SIZES[0]) and relaxation in (None, name)]  # fmt: skip
    return [one for one in some if stored(lambda one=one: search(*one))]


def cpu(network: str, norm: str, relaxation: str) -> float:
    """Processor seconds of a search of ten images, the least of its runs.

    Raises:
        NotStored: it was not run, or for its radii alone.
    """
    seconds = entry(network, norm, relaxation)["cpu_seconds"]
    if not seconds:
        raise NotStored(f"seconds of {network} {norm} {relaxation}")
    return min(seconds)


def each_pair(better: str, base: str) -> list[tuple[str, str]]:
    """Networks and norms that both relaxations were searched on."""
    return [(n, norm) for n, norm, _ in every(better) if stored(lambda n=n, m=norm: search(n, m, base))]


def compared(network: str, norm: str) -> dict[str, Any]:
    """What comparators found: ``radii`` and ``seconds`` by comparator.

    Raises:
        NotStored: it was not measured.
    """
    key = f"{network} {norm}"
    cases = load(COMPARED)["cases"]
    if key not in cases:
        raise NotStored(key)
    note(COMPARED, key)
    return cases[key]


def compared_mean(network: str, norm: str, side: str) -> float:
    """A comparator's mean radius over the images that it found one for."""
    return float(np.mean([r for r in compared(network, norm)["radii"][side] if r is not None] or np.nan))


def share(networks: Sequence[str], norms: Sequence[str], side: str, form: str = "{:.1f}") -> str:
    """A comparator's mean over that of the certified radii, in percent, over networks and norms."""
    some = found(
        lambda n=n, m=m: 100 * compared_mean(n, m, side) / compared_mean(n, m, "certified")
        for n in networks
        for m in norms
    )
    return span(some, form, "%")


def times(networks: Sequence[str], norms: Sequence[str], side: str, form: str = "{:.1f}") -> str:
    """A comparator's mean as a multiple of that of the certified radii, over networks and norms."""
    return span(
        found(
            lambda n=n, m=m: compared_mean(n, m, side) / compared_mean(n, m, "certified")
            for n in networks
            for m in norms
        ),
        form,
    )


def compared_cases() -> list[tuple[str, str]]:
    """Networks and norms that comparators were measured on."""
    return [tuple(key.split()) for key in load(COMPARED)["cases"]]


def printed_gains(better: str, base: str, *networks: str) -> str:
    """The gains that CNN-Cert or DeepCert prints for ReLU networks, or for S-shaped ones over another: least and most.

    From the radii of ``benchmarks/radius/papers.json``; DeepCert's own column where it prints one.
    """
    some = []
    for table in ("deepcert_1", "deepcert_2", "cnncert_3_to_8"):
        for network in networks:
            row = printed()[table].get(network, {})
            if (better, base) == ("deepcert", "cnncert") and "improvement" in row:
                some += row["improvement"].values()
            elif {better, base} <= set(row) and "improvement" not in row:
                some += [100 * (row[better][norm] / row[base][norm] - 1) for norm in NORMS]
    return span(some, "{:+.0f}", "%")
