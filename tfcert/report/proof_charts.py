"""Charts of proofs and witnesses: bounds by layer, where a proof loses, what a witness changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from tfcert.report.charts import BLUE, GREEN, GREY, ORANGE, labelled

MOST_MARKS = 64 * 64
"""Pixels of an image up to which those that got smaller are marked."""


class Layers(Protocol):
    """Bounds by layer, see :class:`tfcert.LayerWidths`."""

    @property
    def layers(self) -> tuple[str, ...]: ...
    @property
    def kinds(self) -> tuple[str, ...]: ...
    @property
    def neurons(self) -> np.ndarray: ...
    @property
    def unstable(self) -> np.ndarray: ...
    @property
    def width(self) -> np.ndarray: ...


class Losses(Layers, Protocol):
    """Losses by layer, see :class:`tfcert.ProofLosses`."""

    @property
    def loss(self) -> np.ndarray: ...
    @property
    def bound(self) -> float: ...
    @property
    def reached(self) -> float: ...
    @property
    def over(self) -> float: ...
    @property
    def about(self) -> str: ...


def plot_layers(axes: Any, found: Mapping[str, Layers]) -> None:
    """Widths of bounds by layer as bars, on a logarithmic axis, and shares of unstable neurons as lines.

    ``found`` has the same layers under each name, of a method, say.
    """
    first = next(iter(found.values()))
    places = np.arange(len(first.layers))
    share = axes.twinx()
    colors, hatches, lines = (BLUE, GREEN, GREY), ("", "//", ".."), ("-", "--", ":")
    wide = 0.8 / len(found)
    for number, (name, bounds) in enumerate(found.items()):
        about = f"{name}: " if len(found) > 1 else ""
        at = places + (number - (len(found) - 1) / 2) * wide
        look = {"color": colors[number % 3], "hatch": hatches[number % 3], "edgecolor": "white"}
        axes.bar(at, np.maximum(bounds.width, 1e-12), 0.92 * wide, label=f"{about}mean width", **look)
        percent = 100 * bounds.unstable / np.maximum(bounds.neurons, 1)
        share.plot(
            places, percent, lines[number % 3], color=ORANGE, marker="osv"[number % 3], markeredgecolor="black",
            markeredgewidth=0.5, label=f"{about}unstable",
        )  # fmt: skip
    axes.set_yscale("log")
    share.set_ylim(0, 105)
    share.set_ylabel("unstable neurons (%)")
    share.spines["top"].set_visible(False)
    names = [f"{name}\n({kind}, {n})" for name, kind, n in zip(first.layers, first.kinds, first.neurons, strict=True)]
    turned = 0 if len(names) <= 4 else 30
    axes.set_xticks(places, names, fontsize=8, rotation=turned, ha="right" if turned else "center")
    labelled(axes, "bounds of what enters each layer", "layer (what it applies, neurons)", "mean width, upper - lower")
    axes.spines["right"].set_visible(True)
    handles, labels = (a + b for a, b in zip(*(x.get_legend_handles_labels() for x in (axes, share)), strict=True))
    below = -0.26 if not turned else -0.45
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, below), "ncols": 2 * len(found)}
    axes.legend(handles, labels, frameon=False, fontsize=9, **place)


def plot_losses(axes: Any, found: Losses) -> None:
    """The way from the network's margin at the point where the bound is least to the bound, layer by layer."""
    names = [f"{name} ({kind})" for name, kind in zip(found.layers, found.kinds, strict=True)]
    lost = [*found.loss[::-1]]  # the backward pass meets the last layer first
    rows = ["the network, at this point", *names[::-1]]
    if found.over > 1e-9 * max(1.0, abs(found.bound)):
        rows, lost = [*rows, "the region's edge"], [*lost, found.over]
    left = found.reached - np.cumsum([0.0, *lost])
    axes.barh(0, found.reached, 0.6, color=GREY)
    axes.barh(np.arange(1, len(rows)), -np.array(lost), 0.6, left[:-1], color=ORANGE, hatch="//", edgecolor="white")
    axes.barh(len(rows), found.bound, 0.6, color=GREEN if found.bound > 0 else BLUE)
    right = [max(found.reached, 0.0), *left[:-1]]
    for place, (value, end) in enumerate(zip([found.reached, *(-loss for loss in lost)], right, strict=True)):
        axes.annotate(f"{value:+.4g}", (end, place), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.annotate(f"{found.bound:+.4g}", (max(found.bound, 0), len(rows)), (4, 0), textcoords="offset points",
                  va="center", fontsize=8)  # fmt: skip
    axes.axvline(0.0, color="black", linewidth=1.0)
    axes.set_yticks(range(len(rows) + 1), [*rows, "the bound"], fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.14)
    word = "proven" if found.bound > 0 else "not proven"
    labelled(axes, f"where the proof loses: {found.about} ({word} without rounding)", "margin (above 0: proven)", "")


def plot_change(axes: Any, original: np.ndarray, witness: np.ndarray, unit: str = "") -> None:
    """What a witness changed of an image, as a map: white for nothing, red for more and blue, with a dot, for less.

    Of colours the change of largest size of each pixel is shown.
    """
    difference = np.asarray(witness, np.float64) - np.asarray(original, np.float64)
    changed = int((difference != 0).sum())
    if difference.ndim == 3:
        most = np.abs(difference).argmax(axis=2)
        shown = np.take_along_axis(difference, most[..., None], axis=2)[..., 0]
    else:
        shown = difference
    scale = float(np.abs(shown).max()) or 1.0
    image = axes.imshow(shown, cmap="RdBu_r", vmin=-scale, vmax=scale)
    if shown.size <= MOST_MARKS:
        row, column = np.nonzero(shown < -0.05 * scale)
        axes.plot(column, row, "w.", markersize=2.0)  # grey prints do not tell blue from red
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.8)
    bar.set_label(f"witness - original{f' ({unit})' if unit else ''}; a dot: less", fontsize=8)
    axes.set_title(
        f"{changed} of {difference.size} numbers changed, by at most {scale if changed else 0:.4g}", fontsize=9
    )
    axes.set_xticks([])
    axes.set_yticks([])
