"""Pictures: a histogram of a measure's radii, samples beside their witnesses. Needs matplotlib (``tfcert[report]``)."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfcert.report.summary import MeasureSummary

MISSING = "pictures were skipped, because matplotlib is not installed: pip install 'tfcert[report]' draws them"
_BLUE, _ORANGE = "#2b6cb0", "#dd8a33"


@dataclass(frozen=True, eq=False)
class Picture:
    """A sample and its witness as images in unit space, ``[height, width]`` or ``[height, width, 1 or 3]``.

    ``difference`` is witness - original in the space that was asked about, which ``space`` names.
    """

    title: str
    original: np.ndarray
    witness: np.ndarray
    difference: np.ndarray
    space: str
    original_caption: str
    witness_caption: str
    difference_caption: str


def available() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def is_image(shape: Sequence[int]) -> bool:
    """Whether inputs of this shape can be drawn."""
    return (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))) and min(shape[:2]) > 1


def draw_histogram(path: Path, summary: MeasureSummary, bins: int = 20, what: str = "samples") -> None:
    """What is proven, and where known what is refuted, as one histogram; ``what`` names the samples in its title."""
    figure = _figure(7.0, 4.2)
    axes = figure.subplots()
    proven = np.nan_to_num(summary.proven, nan=0.0)
    refuted = summary.refuted[~np.isnan(summary.refuted)]
    top = max([1e-12, *proven, *refuted])
    edges = np.linspace(0.0, top, bins + 1)
    lower, upper = ("proven lower bound", "witness at") if summary.existential else ("proven", "smallest refuted")
    axes.hist(proven, edges, color=_BLUE, alpha=0.85, label=f"{lower} (median {np.median(proven):.4g})")
    if refuted.size:
        label = f"{upper} (of {refuted.size} of {summary.total})"
        axes.hist(refuted, edges, histtype="step", linewidth=1.8, color=_ORANGE, label=label)
    kind = "smallest" if summary.existential else "certified"
    axes.set_title(f"{summary.name}: {kind} radii of {summary.total} {what}")
    axes.set_xlabel(f"radius ({summary.unit})" if summary.unit else "radius")
    axes.set_ylabel("samples")
    axes.set_xlim(0.0, top)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(y=0.08)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    _save(figure, path)


def draw_witnesses(path: Path, pictures: Sequence[Picture]) -> None:
    """A row for each sample: the original, the witness, and their difference on a scale of its own."""
    figure = _figure(9.0, 2.75 * len(pictures) + 0.3)
    grid = figure.subplots(len(pictures), 3, squeeze=False)
    for row, picture in zip(grid, pictures, strict=True):
        original, witness = _squeezed(picture.original), _squeezed(picture.witness)
        for axes, image in zip(row, (original, witness), strict=False):
            axes.imshow(np.clip(image, 0, 1), cmap="gray", vmin=0, vmax=1)
        difference = _squeezed(picture.difference)
        signed = difference if difference.ndim == 2 else difference.sum(axis=2)
        limit = max(float(np.abs(signed).max()), 1e-12)
        shown = row[2].imshow(signed, cmap="RdBu_r", vmin=-limit, vmax=limit)
        bar = figure.colorbar(shown, ax=row[2], fraction=0.046, pad=0.04)
        bar.set_label(f"change of the value ({picture.space} space)", fontsize=8)
        captions = (picture.original_caption, picture.witness_caption, picture.difference_caption)
        for axes, caption in zip(row, captions, strict=True):
            axes.set_title(caption, fontsize=9)
            axes.set_xticks([])
            axes.set_yticks([])
        row[0].set_ylabel(picture.title, fontsize=9)
    _save(figure, path)


def _squeezed(image: np.ndarray) -> np.ndarray:
    return image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
