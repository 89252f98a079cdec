"""Accuracy over the radius, from what runs found: a share that is surely reached, and one that is not exceeded."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tfcert.catalog import DISTANCES
from tfcert.report.charts import BLUE, GREEN, GREY, ORANGE, in_units, labelled
from tfcert.report.records import Record
from tfcert.report.summary import clean_holds
from tfcert.verdict import Outcome

MOST_POINTS = 400
"""Points of a curve, and of a strip, that are drawn."""


@dataclass(frozen=True, eq=False)
class AccuracyCurve:
    """Shares of samples by radius; the robust accuracy lies between the two.

    Attributes:
        name: of what it was found with.
        eps: ``[points]``, rising.
        certified: the share that is proven at that radius.
        attacked: the share that no witness refutes there.
        unit: norm and space of the radii, "" if not known.
        samples: how many there are.
        stepped: whether it is known between radii as well: what is proven at a radius is proven at smaller ones, what
            is refuted is refuted at larger ones. Not of runs on different samples.
        marked: whether the radii are those that were asked about, a few.
    """

    name: str
    eps: np.ndarray
    certified: np.ndarray
    attacked: np.ndarray
    unit: str = ""
    samples: int = 0
    stepped: bool = True
    marked: bool = False

    def thinned(self, most: int = MOST_POINTS) -> AccuracyCurve:
        """The same of fewer radii: of steps that are left out the lower end and the higher end are kept."""
        if not self.stepped or len(self.eps) <= most:
            return self
        kept = np.unique(np.linspace(0, len(self.eps) - 1, most).astype(int))
        parts = {name: getattr(self, name)[kept] for name in ("eps", "certified", "attacked")}
        return replace(self, **parts)


def curve_of_radii(name: str, lower: Any, upper: Any, unit: str = "") -> AccuracyCurve:
    """The curve of radii: each sample is proven up to ``lower`` and refuted from ``upper`` on.

    Args:
        name: of the curve.
        lower: ``[samples]``; minus infinity for one that is wrong as it is, NaN for nothing that is proven.
        upper: ``[samples]``, NaN or infinite where no witness is known.
        unit: norm and space.
    """
    proven = np.where(np.isnan(lower), 0.0, np.asarray(lower, float))
    refuted = np.where(np.isnan(upper), np.inf, np.asarray(upper, float))
    ends = np.concatenate([proven, refuted])
    ends = ends[np.isfinite(ends) & (ends >= 0)]
    eps = np.unique([0.0, *ends])
    eps = np.append(eps, 1.03 * eps[-1] or 1.0)  # what is beyond the last of them
    # Of n sorted numbers so many are below a radius, or no larger: the others are at least as large, or larger.
    certified = 1 - np.searchsorted(np.sort(proven), eps, "left") / max(1, len(proven))
    attacked = 1 - np.searchsorted(np.sort(refuted), eps, "right") / max(1, len(refuted))
    return AccuracyCurve(name, eps, certified, attacked, unit, len(proven))


def curves_of_records(records: Iterable[Record]) -> list[AccuracyCurve]:
    """The curves that records amount to: one of each measure of radii, one of each family of properties.

    They are to be of one model. Properties are a family if they differ in their radius, by one parameter or by none
    that their names show: ``robust(eps=1/255)`` and ``robust(eps=2/255)``. What is not about labels, and what asks for
    some input, has no accuracy.
    """
    measures: dict[str, list[Record]] = {}
    asked: dict[tuple[str, str], dict[tuple[str, float], dict[int, Record]]] = {}
    for record in records:
        about = record.asked
        if about.existential or not about.labelled or not about.norm:
            continue
        if record.measured is not None:
            if not about.measures and (not about.distance or DISTANCES.find(about.distance).proves):
                measures.setdefault(record.property, []).append(record)
        elif math.isfinite(about.eps):
            questions = asked.setdefault((about.norm, about.space), {})
            questions.setdefault((record.property, about.eps), {})[record.sample] = record
    curves = [_of_measure(mine) for mine in measures.values()]
    for questions in asked.values():
        for name, mine in _families(list(questions)):
            curves.append(_of_family(name, {eps: questions[which, eps] for which, eps in mine}))
    return curves


def _families(questions: Sequence[tuple[str, float]]) -> list[tuple[str, list[tuple[str, float]]]]:
    """Properties, by name and radius, that differ in one parameter and with it in their radius; each with a name."""
    by_base: dict[str, list[tuple[str, float]]] = {}
    for name, eps in questions:
        by_base.setdefault(name.partition("(")[0], []).append((name, eps))
    found = []
    for base, mine in by_base.items():
        for parameter in ["", *_arguments(mine[0][0])]:
            groups: dict[str, list[tuple[str, float]]] = {}
            for name, eps in mine:
                others = [f"{n}={value}" for n, value in _arguments(name).items() if n != parameter]
                groups.setdefault(f"{base}({', '.join(others)})" if others else base, []).append((name, eps))
            families = list(groups.items())
            distinct = all(len({eps for _, eps in group}) == len(group) for group in groups.values())
            if distinct and len(families) < len(mine):
                break
        else:
            families = [(name, [(name, eps)]) for name, eps in mine]
        found += families
    return found


def _arguments(name: str) -> dict[str, str]:
    """The parameters in a property's name: ``p(eps=1/255, k=2)``."""
    inside = name.partition("(")[2].removesuffix(")")
    parts = (part.partition("=") for part in re.split(r", *(?=\w+=)", inside) if part)
    return {key: value for key, _, value in parts}


def _of_measure(mine: Sequence[Record]) -> AccuracyCurve:
    asked = mine[0].asked
    ends = [(r.measured.lower, r.measured.upper) if clean_holds(r) else (-math.inf, 0.0) for r in mine if r.measured]
    lower, upper = np.array(ends, float).T
    return curve_of_radii(mine[0].property, lower, upper, f"{asked.norm}, {asked.space} space")


def _of_family(name: str, by_eps: dict[float, dict[int, Record]]) -> AccuracyCurve:
    eps = sorted(by_eps)
    shares = [
        [sum(r.outcome is wanted for r in by_eps[e].values()) / len(by_eps[e]) for e in eps]
        for wanted in (Outcome.VERIFIED, Outcome.FALSIFIED)
    ]
    certified, refuted = map(np.array, shares)
    alike = len({frozenset(samples) for samples in by_eps.values()}) == 1
    most = max(map(len, by_eps.values()))
    asked = next(iter(by_eps[eps[0]].values())).asked
    unit = f"{asked.norm}, {asked.space} space"
    return AccuracyCurve(name, np.array(eps), certified, 1 - refuted, unit, most, alike, marked=True)


def plot_accuracy(axes: Any, curves: Sequence[AccuracyCurve]) -> None:
    """Certified and attacked accuracy over the radius, and between them what is open, of one curve or several.

    Certified accuracy is drawn as what follows from the next larger radius, attacked accuracy from the next smaller.
    """
    colors, markers = (BLUE, GREEN, ORANGE, GREY), "osv^"
    for number, curve in enumerate(whole.thinned() for whole in curves):
        color, marker = colors[number % 4], markers[number % 4]
        about = f"{curve.name}: " if len(curves) > 1 else ""
        eps, certified, attacked = curve.eps, curve.certified, curve.attacked
        looks = {"color": color, "marker": marker if curve.marked else "", "markersize": 5}
        solid, dashed = ("-", "--") if curve.stepped else ("none", "none")
        below = looks | {"drawstyle": "steps-pre", "linestyle": solid, "linewidth": 1.8}
        above = looks | {"drawstyle": "steps-post", "linestyle": dashed, "linewidth": 1.4, "fillstyle": "none"}
        axes.plot(eps, certified, label=f"{about}certified", **below)
        axes.plot(eps, attacked, label=f"{about}not refuted", **above)
        if not curve.stepped:
            axes.vlines(eps, certified, attacked, color=color, linewidth=4, alpha=0.25, label=f"{about}open")
            continue
        at, between = np.repeat(eps, 2)[1:-1], (np.repeat(certified[1:], 2), np.repeat(attacked[:-1], 2))
        axes.fill_between(at, *between, color=color, alpha=0.15, linewidth=0)
        look = {"facecolor": "none", "edgecolor": color, "linewidth": 0.0}  # vectors know no faint hatch
        hatch = ("////", "\\\\\\\\", "....", "||||")[number % 4]
        axes.fill_between(at, *between, hatch=hatch, alpha=0.6, label=f"{about}open", **look)
    axes.set_ylim(0.0, 1.02)
    axes.set_xlim(left=0.0)
    units = {curve.unit for curve in curves}
    counts = sorted({curve.samples for curve in curves})
    of = f" of {counts[0]} samples" if len(counts) == 1 else ""
    names = ", ".join(dict.fromkeys(curve.name for curve in curves)) if len(curves) < 3 else "robust accuracy"
    x = in_units("radius eps", units.pop() if len(units) == 1 else "")
    labelled(axes, f"{names}: accuracy{of} over the radius", x, "share of the samples", 3)


@dataclass(frozen=True, eq=False)
class RadiiByClass:
    """Radii with the classes of their samples: ``radius`` and ``label`` ``[samples]``, NaN where nothing is proven."""

    name: str
    radius: np.ndarray
    label: np.ndarray
    unit: str = ""


def plot_radii_by_class(axes: Any, found: RadiiByClass) -> None:
    """A box for each class (quartiles, and whiskers to the farthest radii), with the samples as points in it.

    Of many samples there are boxes alone. A sample without a proof has radius 0. Points are moved sideways by their
    order, so that none hides another.
    """
    radius = np.nan_to_num(np.asarray(found.radius, float), nan=0.0)
    labels = np.asarray(found.label, float)
    classes = np.unique(labels[~np.isnan(labels)])
    groups = [radius[labels == one] for one in classes]
    look = {"color": GREY, "linewidth": 1.0}
    axes.boxplot(
        groups, positions=range(len(groups)), widths=0.6, whis=(0, 100), showfliers=False, manage_ticks=False,
        boxprops=look, whiskerprops=look, capprops=look, medianprops={"color": ORANGE, "linewidth": 2.2},
    )  # fmt: skip
    pointed = len(radius) <= MOST_POINTS
    for place, group in enumerate(groups if pointed else []):
        spread = (np.arange(len(group)) * 0.618034 % 1 - 0.5) * 0.4  # even, and the same each time
        axes.plot(place + spread, group, "o", markersize=3, color=BLUE, alpha=0.6, markeredgewidth=0)
    axes.set_xticks(range(len(groups)), [f"{one:g}\n(n={len(g)})" for one, g in zip(classes, groups, strict=True)])
    axes.set_ylim(bottom=0.0)
    axes.plot([], [], color=ORANGE, linewidth=2.2, label="median")
    if pointed:
        axes.plot([], [], "o", markersize=3, color=BLUE, label="a sample")
    labelled(axes, f"{found.name}: certified radii by class", "class", in_units("radius", found.unit), below=0.22)


def radii_of_records(name: str, records: Iterable[Record]) -> RadiiByClass | None:
    """The radii of a measure by the labels of its samples; None where there are no labels or no radii."""
    mine = [r for r in records if r.property == name and r.measured is not None and not r.asked.measures]
    labels = np.array([math.nan if r.label is None else r.label for r in mine], float)
    classes = np.unique(labels[~np.isnan(labels)])
    if not len(classes) or any(r.asked.existential for r in mine) or (classes != np.rint(classes)).any():
        return None
    asked = mine[0].asked
    if asked.distance and not DISTANCES.find(asked.distance).proves:
        return None
    unit = f"{asked.norm}, {asked.space} space" if asked.norm else ""
    return RadiiByClass(name, np.array([r.measured.lower for r in mine if r.measured], float), labels, unit)
