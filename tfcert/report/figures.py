"""Pictures: radii as histograms, samples beside witnesses, curves of training. matplotlib: ``tfcert[report]``."""

from __future__ import annotations

import importlib.util
import itertools
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from tfcert.catalog import DISTANCES
from tfcert.report.curves import Curves
from tfcert.report.records import Cells
from tfcert.report.summary import MeasureSummary

MISSING = "pictures were skipped, because matplotlib is not installed: pip install 'tfcert[report]' draws them"
_BLUE, _ORANGE, _GREEN, _GREY = "#2b6cb0", "#dd8a33", "#2f8f5b", "#8a8f98"


@dataclass(frozen=True, eq=False)
class Picture:
    """A sample and its witness as images in unit space, ``[height, width]`` or ``[height, width, 1 or 3]``.

    ``difference`` is witness - original in the space that was asked about; captions say what each one shows.
    """

    original: np.ndarray
    witness: np.ndarray
    difference: np.ndarray
    original_caption: str
    witness_caption: str
    difference_caption: str

    @property
    def largest_change(self) -> float:
        """Of any one value; what the difference is magnified by."""
        return float(np.abs(self.difference).max())


def available() -> bool:
    """Tells whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def is_image(shape: Sequence[int]) -> bool:
    """Tells whether inputs of this shape can be drawn."""
    return (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))) and min(shape[:2]) > 1


def draw_histogram(path: Path, summary: MeasureSummary, bins: int = 20, what: str = "samples") -> None:
    """Draws what is proven, and what is known to be refuted, as one histogram; ``what`` names the samples.

    Of distances to another class, only what their way finds: an estimate is drawn as one.
    """
    figure = _figure(7.0, 4.2)
    axes = figure.subplots()
    way = DISTANCES.get(summary.distance)
    proven = np.nan_to_num(summary.proven, nan=0.0, posinf=np.inf) if way is None or way.proves else np.zeros(0)
    estimated = np.zeros(0) if summary.estimated is None else summary.estimated
    proven, refuted, estimated = (values[np.isfinite(values)] for values in (proven, summary.refuted, estimated))
    top = max([1e-12, *proven, *refuted, *estimated])
    edges = np.linspace(0.0, top, bins + 1)
    lower, upper = ("proven", "smallest refuted")
    if summary.existential or way is not None:
        lower, upper = ("proven lower bound", "witness at")
    for values, label, color in ((proven, lower, _BLUE), (estimated, "an estimate, not a guarantee", _GREY)):
        if values.size:
            axes.hist(values, edges, color=color, alpha=0.85, label=f"{label} (median {np.median(values):.4g})")
    if refuted.size:
        label = f"{upper} ({refuted.size} of {summary.total} {what})"
        axes.hist(refuted, edges, histtype="step", linewidth=1.8, color=_ORANGE, label=label)
    kind = "smallest" if summary.existential else "certified"
    of = f"{kind} radii" if way is None else f"{way.title}s"
    axes.set_title(f"{summary.name}: {of} of {summary.total} {what}")
    quantity = "radius" if way is None else "distance"
    axes.set_xlabel(f"{quantity} ({summary.unit})" if summary.unit else quantity)
    axes.set_ylabel("samples")
    axes.set_xlim(0.0, top)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(y=0.08)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    _save(figure, path)


def draw_curve(path: Path, summary: MeasureSummary) -> None:
    """Draws for how many samples a measure is at least so large: surely, and at most.

    The true curve lies between the two. A sample without a proven value counts as nothing, one without a refuted value
    as beyond all others.
    """
    figure = _figure(7.0, 4.2)
    axes = figure.subplots()
    way = DISTANCES.get(summary.distance)
    parts = [("surely", summary.proven, -np.inf, _BLUE), ("at most", summary.refuted, np.inf, _ORANGE)]
    if way is not None and way.estimates and summary.estimated is not None:
        parts = [("an estimate, not a guarantee", summary.estimated, -np.inf, _GREY)]
    known = np.concatenate([values[np.isfinite(values)] for _, values, _, _ in parts])
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    for label, values, unknown, color in parts:
        ordered = np.sort(np.where(np.isfinite(values), values, unknown))
        at = np.unique([low, *ordered[np.isfinite(ordered)], high])
        share = [(ordered >= value).mean() for value in at]
        axes.step(
            [*at, high + 0.02 * (high - low or 1.0)],
            [*share, (ordered > high).mean()],
            where="pre",
            color=color,
            label=label,
        )
    axes.set_title(f"{summary.name}: shares of {summary.total} samples")
    axes.set_xlabel(f"at least ({summary.unit})" if summary.unit else "at least")
    axes.set_ylabel("share of the samples")
    axes.set_ylim(0.0, 1.02)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    _save(figure, path)


def draw_effort(path: Path, seconds: Mapping[str, Sequence[float]], totals: Mapping[str, int]) -> None:
    """Draws how many samples of each property are decided within which time (a cactus plot).

    Args:
        path: of the picture.
        seconds: the times of the decided samples, by the property's name.
        totals: how many samples there are of each.
    """
    figure = _figure(7.0, 4.2)
    axes = figure.subplots()
    styles = itertools.cycle(itertools.product(("-", "--", ":"), (_BLUE, _ORANGE, _GREEN, _GREY)))
    for (name, times), (line, color) in zip(seconds.items(), styles, strict=False):
        if times:
            ordered = np.maximum(np.sort(times), 1e-3)  # the axis has no 0
            label = f"{name} ({len(times)} of {totals[name]} decided)"
            axes.step(ordered, np.arange(1, len(times) + 1), line, where="post", color=color, label=label)
    axes.set_xscale("log")
    axes.set_title("samples decided within a time")
    axes.set_xlabel("seconds a sample")
    axes.set_ylabel("samples")
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    _save(figure, path)


def draw_cells(path: Path, title: str, axes_names: tuple[str, str], cells: Cells) -> None:
    """Draws the pieces of a region with two sides: where the formula is proven, where refuted, and what is open."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    figure = _figure(6.0, 5.2)
    axes = figure.subplots()
    kinds = ((1, "proven", _GREEN), (-1, "refuted", _ORANGE), (0, "open", _GREY))
    for known, label, color in kinds:
        chosen = np.flatnonzero(cells.known == known)
        width = cells.high[chosen] - cells.low[chosen]
        boxes = [Rectangle(tuple(low), *size) for low, size in zip(cells.low[chosen], width, strict=True)]
        axes.add_collection(PatchCollection(boxes, facecolor=color, edgecolor="white", linewidth=0.2))
        axes.plot([], [], "s", color=color, label=label)
    ends = [(float(cells.low[:, i].min()), float(cells.high[:, i].max())) for i in range(2)]
    axes.set_xlim(*ends[0])
    axes.set_ylim(*ends[1])
    axes.set_title(title)
    axes.set_xlabel(axes_names[0])
    axes.set_ylabel(axes_names[1])
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3)
    _save(figure, path)


def draw_training(path: Path, title: str, curves: Curves) -> None:
    """Accuracies of the held-out samples after the epochs that have them; the eps of training on an axis of its own."""
    figure = _figure(7.0, 4.4)
    axes = figure.subplots()
    growing = axes.twinx()
    growing.plot(curves.epochs, curves.eps, color=_GREY, linewidth=1.2, linestyle=":", label="eps in training")
    growing.set_ylabel("eps in training")
    growing.set_ylim(0.0, 1.05 * max([*curves.eps, 1e-12]))
    growing.spines["top"].set_visible(False)
    for name, color in (("nominal", _BLUE), ("attack", _ORANGE), ("verified", _GREEN)):
        known = [(epoch, value) for epoch, value in zip(curves.epochs, curves[name], strict=True) if value == value]
        if known:
            epochs, values = zip(*known, strict=True)
            label = f"{name} accuracy ({values[-1]:.1%} at the end)"
            axes.plot(epochs, values, color=color, marker="o", markersize=3, label=label)
    axes.set_title(title)
    axes.set_xlabel("epochs")
    axes.set_ylabel("share of the held-out samples")
    axes.set_ylim(0.0, 1.02)
    axes.set_xlim(0.0, max(curves.epochs))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.spines["top"].set_visible(False)
    handles, labels = (a + b for a, b in zip(*(x.get_legend_handles_labels() for x in (axes, growing)), strict=True))
    figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=2)
    _save(figure, path)


class GranularityPoint(Protocol):
    """A granularity that was tried; see :func:`tfcert.tune_granularity`. NaN where something is not known."""

    @property
    def granularity(self) -> float: ...
    @property
    def abstraction_error(self) -> float: ...
    @property
    def certified_error(self) -> float: ...


def draw_granularities(path: Path, title: str, curve: Sequence[GranularityPoint], samples: str = "held-out") -> None:
    """Both errors of the ``samples`` against the granularity; the abstraction error is no guarantee, and says so."""
    figure = _figure(7.0, 4.4)
    axes = figure.subplots()
    widths = [point.granularity for point in curve]
    certified = [point.certified_error for point in curve]
    estimated = [point.abstraction_error for point in curve]
    if not np.isnan(certified).all():
        axes.plot(widths, certified, color=_GREEN, marker="o", markersize=3, label="certified error (sound)")
    label = "abstraction error (AbsCert's; no guarantee)"
    axes.plot(widths, estimated, color=_ORANGE, marker="o", markersize=3, label=label)
    axes.set_title(title)
    axes.set_xlabel("granularity d")
    axes.set_ylabel(f"share of the {samples} samples")
    axes.set_ylim(bottom=0.0)
    axes.invert_xaxis()  # as the search goes
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, loc="outside lower center", ncols=2)
    _save(figure, path)


def draw_witnesses(path: Path, title: str, space: str, pictures: Sequence[Picture]) -> None:
    """A column for each sample: the original, the witness, and their difference magnified to a scale of its own.

    ``space`` names that of the differences. Grey differences are red where the witness has the larger value and blue
    where it has the smaller one; those of colours are shown around grey.
    """
    width = max(3.6, 1.5 * len(pictures) + 1.2)
    figure = _figure(width, 6.2, layout="compressed")  # keeps columns of a fixed shape in the middle, be there only one
    grid = figure.subplots(3, len(pictures), squeeze=False)
    for column, picture in zip(grid.T, pictures, strict=True):
        _draw_column(column, picture)
    coloured = _squeezed(pictures[0].difference).ndim == 3
    last = f"difference,\n{space} space" + (", around grey" if coloured else "")
    for axes, name in zip(grid[:, 0], ("original", "witness", last), strict=True):
        axes.set_ylabel(name, fontsize=10)
    if not coloured:
        bar = figure.colorbar(grid[2, 0].images[0], ax=grid, ticks=[-1, 0, 1], shrink=0.27, anchor=(0, 0), pad=0.01)
        bar.ax.set_yticklabels(["\u2212scale", "0", "+scale"], fontsize=8)
    figure.suptitle(textwrap.fill(title, int(11 * width)), fontsize=11)
    _save(figure, path)


def _draw_column(column: Sequence[Any], picture: Picture) -> None:
    for axes, image in zip(column, (picture.original, picture.witness), strict=False):
        axes.imshow(np.clip(_squeezed(image), 0, 1), cmap="gray", vmin=0, vmax=1)
    share = _squeezed(picture.difference) / max(picture.largest_change, 1e-300)
    column[2].imshow((share + 1) / 2 if share.ndim == 3 else share, cmap="RdBu_r", vmin=-1, vmax=1)
    scale = f"{picture.difference_caption}\nscale \u00b1{picture.largest_change:.4g}"
    for axes, caption in zip(column, (picture.original_caption, picture.witness_caption, scale), strict=True):
        axes.set_title(caption, fontsize=8)
        axes.set_xticks([])
        axes.set_yticks([])


def _squeezed(image: np.ndarray) -> np.ndarray:
    return image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image


def _figure(width: float, height: float, layout: Literal["constrained", "compressed"] = "constrained") -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout=layout)


def _save(figure: Any, path: Path) -> None:
    import matplotlib

    path.parent.mkdir(parents=True, exist_ok=True)
    # Vector files have their text as text, and are the same however often they are drawn.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": path.name}):
        figure.savefig(path, dpi=120, metadata={"Date": None} if path.suffix == ".svg" else None)
