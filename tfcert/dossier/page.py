"""The dossier as one page that loads nothing: what the JSON says, in words, with pictures of witnesses."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tfcert.dossier.content import text_of
from tfcert.dossier.pictures import data_url, is_picture
from tfcert.proof.files import arrays_of
from tfcert.report.formats.template import template
from tfcert.report.records import Json

MOST_PICTURES = 12
"""Witnesses of a question that are shown; all are in the JSON."""
MOST_SAMPLES = 40
"""Samples that a list of open answers names."""


def page_of(dossier: Json, folder: str | Path) -> str:
    """The page of a dossier, with the witnesses in a run's folder."""
    content = dossier["content"]
    return template("tfcert.dossier").render(
        content=content,
        occasion=dossier["occasion"],
        seal=content["chain"][-1]["sha256"],
        witnesses=_shown(content["witnesses"], Path(folder)),
        most=MOST_SAMPLES,
        answers=text_of(content["records"]).replace("</", "<\\/"),
    )


def _shown(witnesses: list[Json], folder: Path) -> list[Json]:
    """The first witnesses of each question, with pictures where they are images."""
    found: list[Json] = []
    for witness in witnesses:
        if sum(other["property"] == witness["property"] for other in found) < MOST_PICTURES:
            found.append(witness | {"pictures": _pictures(folder / witness["file"]) if "inputs" in witness else []})
    return found


def _pictures(path: Path) -> list[Json]:
    saved = arrays_of(path)
    original, point = saved["original"], saved["witness"]
    if not is_picture(point.shape):
        return []
    low, high = (float(f(np.stack([original, point]))) for f in (np.min, np.max))
    change = point.astype(np.float64) - original.astype(np.float64)
    most = float(np.abs(change).max()) or 1.0
    return [
        {"said": "original", "data": data_url(original, low, high)},
        {"said": "witness", "data": data_url(point, low, high)},
        {"said": f"difference (grey is 0, white +{most:.4g})", "data": data_url(change, -most, most)},
    ]
