"""What the authors' own programs and auto_LiRPA computed for the reference networks (``reference/`` of the data)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from statistics import fmean

from benchmarks.common import data

_NORMS = {"inf": "linf", "2": "l2", "1": "l1"}
_RELAXATIONS = {
    "Fast-Lin": "fastlin",
    "CNN-Cert-relu": "fastlin",
    "CNN-Cert-ada": "cnncert",
    "CNN-Cert-sigmoid": "cnncert",
    "CNN-Cert-tanh": "cnncert",
    "CNN-Cert-arctan": "cnncert",
    "DeepCert-sigmoid": "deepcert",
    "DeepCert-tanh": "deepcert",
    "DeepCert-arctan": "deepcert",
    "CROWN-radius": "adaptive",
}
"""The relaxation that each method of the records is."""
_TIMINGS = ("quiet", "near-quiet", "contended")
"""How busy the machine was that a record's seconds were taken on, best first."""


@dataclass(frozen=True)
class Recorded:
    """One program's radii for one network and norm.

    Attributes:
        radii: by image number.
        seconds: for one image's whole search: the mean of the records with the quietest ``timing``.
        timing: quiet, near-quiet or contended.
    """

    method: str
    radii: dict[int, float]
    seconds: float
    timing: str


@cache
def _all() -> list[dict]:
    """Every record; none where the data has no records."""
    names = [f"reference/{name}.json" for name in ("radii", "margins")]
    if not all(map(data.has, names)):
        return []
    radii, margins = (json.loads(data.find(name).read_text()) for name in names)
    searched = [record | {"timing": "not recorded"} for record in margins if record["method"] == "CROWN-radius"]
    return radii + searched


def recorded(network: str, norm: str, relaxation: str) -> list[Recorded]:
    """Every program's radii for a network and norm with the same relaxation (one a program)."""
    found: dict[str, list[dict]] = {}
    for record in _all():
        if (record["model"], _NORMS[record["norm"]], _RELAXATIONS[record["method"]]) == (network, norm, relaxation):
            found.setdefault(record["method"], []).append(record)
    return [_summary(method, records) for method, records in found.items()]


def targets(network: str) -> dict[int, int]:
    """The target class of each image that the records have for a network (the same for all programs and norms)."""
    return {record["image"]: record["target"] for record in _all() if record["model"] == network}


def _summary(method: str, records: list[dict]) -> Recorded:
    quietest = min((record["timing"].partition(" ")[0] for record in records), key=_quietness)
    seconds = fmean(record["seconds"] for record in records if record["timing"].partition(" ")[0] == quietest)
    timing = quietest if quietest in _TIMINGS else "not recorded"
    return Recorded(method, {record["image"]: record["value"] for record in records}, seconds, timing)


def _quietness(timing: str) -> int:
    return _TIMINGS.index(timing) if timing in _TIMINGS else len(_TIMINGS)
