"""Linear programs and exact distances as CNN-Cert's lines read them: the columns Dual-LP and Reluplex."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.papers import radii
from benchmarks.papers.records import NotStored, load, note, span
from benchmarks.radius.searches import NORMS

RECORD = "radius/solvers"
IMAGES = 10


def solve(*networks: str, options: str = "") -> tuple[str, ...]:
    """The commands that train networks and ask solvers about them."""
    names = " ".join(networks)
    return radii.run(*networks)[0], f"benchmarks.radius.solvers {names} {options}".strip()


def _pairs(network: str, norm: str, sides: Sequence[str]) -> list[list[dict[str, Any]]]:
    """What is stored of every image that each of two sides has."""
    known = load(RECORD)["radii"]
    keys = [f"{network} {norm} {side}" for side in sides]
    common = set.intersection(*(set(known.get(key, {})) for key in keys))
    if not common:
        raise NotStored(" ".join(keys))
    for key in keys:
        note(RECORD, key)
    return [[known[key][image] for key in keys] for image in sorted(common, key=int)]


def ratio(network: str, norm: str, sides: Sequence[str], what: str = "radius") -> float:
    """The mean of one side over that of another, over the images that both have."""
    first, second = np.mean([[one[what] for one in pair] for pair in _pairs(network, norm, sides)], axis=0)
    return float(first / second)


def is_done(networks: Sequence[str], sides: Sequence[str], norms: Sequence[str] = NORMS) -> bool:
    """Whether every image of some networks is stored."""
    try:
        return all(len(_pairs(name, norm, sides)) >= IMAGES for name in networks for norm in norms)
    except NotStored:
        return False


def against(network: str, sides: Sequence[str]) -> str:
    """By norm, one side over another and over how many images: ``-1.3% in L-inf (10 images)``."""
    parts = []
    for norm, title in zip(NORMS, ("L-inf", "L2", "L1"), strict=True):
        try:
            count, share = len(_pairs(network, norm, sides)), 100 * (ratio(network, norm, sides) - 1)
        except NotStored:
            continue
        parts.append(f"{share:+.1f}% in {title} ({count} image{'s' * (count > 1)})")
    if not parts:
        raise NotStored(f"{network} {sides}")
    return ", ".join(parts)


def shares(network: str, sides: Sequence[str]) -> str:
    """By norm, the share that one side is of another: ``89% in L-inf (10 images)``."""
    parts = []
    for norm, title in zip(NORMS, ("L-inf", "L2", "L1"), strict=True):
        try:
            count, share = len(_pairs(network, norm, sides)), 100 * ratio(network, norm, sides)
        except NotStored:
            continue
        parts.append(f"{share:.0f}% in {title} ({count} image{'s' * (count > 1)})")
    if not parts:
        raise NotStored(f"{network} {sides}")
    return ", ".join(parts)


def beyond(network: str) -> str:
    """What linear programs say at multiples of the radius that CNN-Cert-Ada certifies, by norm and multiple."""
    parts = []
    for key, images in sorted(load(RECORD)["margins"].items()):
        name, norm, factor = key.split()
        if name != network or not images:
            continue
        note(RECORD, key)
        verified = sum(one["verified"][1] for one in images.values())
        ours, theirs = (span([one[side] for one in images.values()], "{:.2f}") for side in ("adaptive", "lp"))
        parts.append(
            f"{norm}, {float(factor):g} times the radius: {verified} of {len(images)} verified by `lp`, margins "
            f"{theirs} against {ours}"
        )
    if not parts:
        raise NotStored(network)
    return "; ".join(parts)


def margins_done(network: str) -> bool:
    """Whether every image is asked about at a multiple of its radius, in every norm."""
    try:
        known = load(RECORD)["margins"]
    except NotStored:
        return False
    asked = {norm: [len(some) for key, some in known.items() if key.split()[:2] == [network, norm]] for norm in NORMS}
    return all(max(counts, default=0) >= IMAGES for counts in asked.values())
