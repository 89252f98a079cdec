"""Charts on given axes: histograms, shares, times, pieces of regions, curves of training.

Colours are of Okabe and Ito's palette, which colour-blind readers tell apart; lines differ in their dashes and markers
and areas in their hatches too, so that grey prints are read as well.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from tfcert.catalog import DISTANCES
from tfcert.report.curves import Curves
from tfcert.report.records import Cells
from tfcert.report.summary import MeasureSummary

BLUE, ORANGE, GREEN, GREY = "#0072b2", "#e69f00", "#009e73", "#7a7f87"
MOST_STEPS = 2000
"""Steps of a curve of samples: of more samples each step stands for several."""
_DASHES, _COLORS = ("-", "--", ":", "-."), (BLUE, ORANGE, GREEN, GREY)
STYLES = tuple((_DASHES[i % 4], _COLORS[(i + i // 4) % 4]) for i in range(16))
"""Dashes and colours of several lines, one after another: any four in a row differ in both."""


def labelled(axes: Any, title: str, x: str, y: str, columns: int = 2, below: float = 0.16) -> None:
    """Names a chart and its axes, and puts the legend so far below it that it hides nothing."""
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -below), ncols=columns, fontsize=9)


def in_units(quantity: str, unit: str) -> str:
    """A quantity with its unit, if that is known."""
    return f"{quantity} ({unit})" if unit else quantity


def plot_histogram(axes: Any, summary: MeasureSummary, bins: int = 20, what: str = "samples") -> None:
    """What is proven, and what is known to be refuted, as one histogram; ``what`` names the samples.

    Of distances to another class, only what their way finds: an estimate is drawn as one.
    """
    way = DISTANCES.get(summary.distance)
    proven = np.nan_to_num(summary.proven, nan=0.0, posinf=np.inf) if way is None or way.proves else np.zeros(0)
    estimated = np.zeros(0) if summary.estimated is None else summary.estimated
    proven, refuted, estimated = (values[np.isfinite(values)] for values in (proven, summary.refuted, estimated))
    top = max([1e-12, *proven, *refuted, *estimated])
    edges = np.linspace(0.0, top, bins + 1)
    lower, upper = ("proven", "smallest refuted")
    if summary.existential or way is not None:
        lower, upper = ("proven lower bound", "witness at")
    for values, label, color in ((proven, lower, BLUE), (estimated, "an estimate, not a guarantee", GREY)):
        if values.size:
            axes.hist(values, edges, color=color, alpha=0.85, label=f"{label} (median {np.median(values):.4g})")
    if refuted.size:
        label = f"{upper} ({refuted.size} of {summary.total} {what})"
        axes.hist(refuted, edges, histtype="step", linewidth=1.8, color=ORANGE, label=label)
    kind = "smallest" if summary.existential else "certified"
    of = f"{kind} radii" if way is None else f"{way.title}s"
    axes.set_xlim(0.0, top)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.margins(y=0.08)
    quantity = in_units("radius" if way is None else "distance", summary.unit)
    labelled(axes, f"{summary.name}: {of} of {summary.total} {what}", quantity, "samples")


def plot_at_least(axes: Any, summary: MeasureSummary) -> None:
    """For how many samples a measure is at least so large: surely, and at most.

    The true curve lies between the two. A sample without a proven value counts as nothing, one without a refuted value
    as beyond all others.
    """
    way = DISTANCES.get(summary.distance)
    parts = [("surely", summary.proven, -np.inf, BLUE, "-"), ("at most", summary.refuted, np.inf, ORANGE, "--")]
    if way is not None and way.estimates and summary.estimated is not None:
        parts = [("an estimate, not a guarantee", summary.estimated, -np.inf, GREY, "-")]
    known = np.concatenate([values[np.isfinite(values)] for _, values, *_ in parts])
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    for label, values, unknown, color, line in parts:
        ordered = np.sort(np.where(np.isfinite(values), values, unknown))
        at = np.unique([low, *ordered[np.isfinite(ordered)], high])
        share = [(ordered >= value).mean() for value in at]
        ends = [*at, high + 0.02 * (high - low or 1.0)], [*share, (ordered > high).mean()]
        axes.step(*ends, line, where="pre", color=color, label=label)
    axes.set_ylim(0.0, 1.02)
    title = f"{summary.name}: shares of {summary.total} samples"
    labelled(axes, title, in_units("at least", summary.unit), "share of the samples")


def plot_effort(axes: Any, seconds: Mapping[str, Sequence[float]], totals: Mapping[str, int]) -> None:
    """How many samples of each property are decided within which time (a cactus plot).

    Args:
        axes: to draw on.
        seconds: the times of the decided samples, by the property's name.
        totals: how many samples there are of each.
    """
    for (name, times), (line, color) in zip(seconds.items(), itertools.cycle(STYLES), strict=False):
        if len(times):
            ordered = np.maximum(np.sort(times), 1e-3)  # the axis has no 0
            label = f"{name} ({len(times)} of {totals[name]} decided)"
            counts = np.unique(np.linspace(1, len(times), min(len(times), MOST_STEPS)).astype(int))
            axes.step(ordered[counts - 1], counts, line, where="post", color=color, label=label)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.yaxis.get_major_locator().set_params(integer=True)
    labelled(axes, "samples decided within a time", "time of a sample (seconds)", "samples")


def plot_cells(axes: Any, title: str, axes_names: tuple[str, str], found: Cells) -> None:
    """The pieces of a region with two sides: where the formula is proven, where refuted, and what is open."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Patch, Rectangle

    shown = []
    for known, label, color, hatch in (
        (1, "proven", GREEN, ""), (-1, "refuted", ORANGE, "////"), (0, "open", "#d5d8dc", "...")
    ):  # fmt: skip
        chosen = np.flatnonzero(found.known == known)
        width = found.high[chosen] - found.low[chosen]
        boxes = [Rectangle(tuple(low), *size) for low, size in zip(found.low[chosen], width, strict=True)]
        style: dict[str, Any] = {"facecolor": color, "edgecolor": "white", "linewidth": 0.2, "hatch": hatch}
        axes.add_collection(PatchCollection(boxes, **style))
        shown.append(Patch(label=label, **style))
    ends = [(float(found.low[:, i].min()), float(found.high[:, i].max())) for i in range(2)]
    axes.set_xlim(*ends[0])
    axes.set_ylim(*ends[1])
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(axes_names[0])
    axes.set_ylabel(axes_names[1])
    axes.legend(handles=shown, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3)


def plot_training(axes: Any, title: str, curves: Curves) -> None:
    """Accuracies of the held-out samples after the epochs that have them; the eps of training on an axis of its own."""
    growing = axes.twinx()
    growing.plot(curves.epochs, curves.eps, color=GREY, linewidth=1.2, linestyle=":", label="eps in training")
    growing.set_ylabel("eps in training")
    growing.set_ylim(0.0, 1.05 * max([*curves.eps, 1e-12]))
    growing.spines["top"].set_visible(False)
    for name, color, marker in (("nominal", BLUE, "o"), ("attack", ORANGE, "^"), ("verified", GREEN, "s")):
        known = [(epoch, value) for epoch, value in zip(curves.epochs, curves[name], strict=True) if value == value]
        if known:
            epochs, values = zip(*known, strict=True)
            label = f"{name} accuracy ({values[-1]:.1%} at the end)"
            axes.plot(epochs, values, color=color, marker=marker, markersize=3.5, label=label)
    axes.set_ylim(0.0, 1.02)
    axes.set_xlim(0.0, max(curves.epochs))
    axes.xaxis.get_major_locator().set_params(integer=True)
    labelled(axes, title, "epochs", "share of the held-out samples")
    axes.spines["right"].set_visible(True)
    handles, labels = (a + b for a, b in zip(*(x.get_legend_handles_labels() for x in (axes, growing)), strict=True))
    axes.legend(handles, labels, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize=9)


class GranularityPoint(Protocol):
    """A granularity that was tried; see :func:`tfcert.tune_granularity`. NaN where something is not known."""

    @property
    def granularity(self) -> float: ...
    @property
    def abstraction_error(self) -> float: ...
    @property
    def certified_error(self) -> float: ...


def plot_granularities(axes: Any, title: str, curve: Sequence[GranularityPoint], samples: str = "held-out") -> None:
    """Both errors of the ``samples`` against the granularity; the abstraction error is no guarantee, and says so."""
    widths = [point.granularity for point in curve]
    certified = [point.certified_error for point in curve]
    estimated = [point.abstraction_error for point in curve]
    if not np.isnan(certified).all():
        axes.plot(widths, certified, color=GREEN, marker="s", markersize=3.5, label="certified error (sound)")
    label = "abstraction error (AbsCert's; no guarantee)"
    axes.plot(widths, estimated, "--", color=ORANGE, marker="^", markersize=3.5, label=label)
    axes.set_ylim(bottom=0.0)
    axes.invert_xaxis()  # as the search goes
    labelled(axes, title, "granularity d", f"share of the {samples} samples")
