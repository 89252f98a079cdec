"""Figures of results, for notebooks and papers: what ``tfcert report --html`` and ``tfcert verify`` draw, and more.

Each function takes results (a :class:`~tfcert.Report`, :class:`~tfcert.Radii`, ...) or the path of a run: its folder or
its ``result.json``. It draws on ``ax``, a matplotlib ``Axes``, or else on a new figure, and returns the axes:

    ax = tfcert.plots.accuracy("out/mnist_robust")
    tfcert.plots.save(ax, "accuracy.pdf")

Colours are told apart by colour-blind readers and, with dashes and hatches, in grey; axes have their units.
matplotlib comes with ``pip install 'tfcert[report]'``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tfcert.errors import UsageError
from tfcert.report import charts, figures, proof_charts, robustness
from tfcert.report.curves import read_curves
from tfcert.report.gallery import decided_seconds
from tfcert.report.reading import read_runs
from tfcert.report.result import Report
from tfcert.report.robustness import AccuracyCurve, RadiiByClass
from tfcert.report.summary import MeasureSummary, summarize_measure

__all__ = [
    "accuracy", "cactus", "change", "histogram", "layers", "losses", "radii_by_class", "save", "shares", "training",
    "witnesses",
]  # fmt: skip


def accuracy(*found: Any, ax: Any = None, name: str = "robust accuracy") -> Any:
    """Certified and attacked accuracy over the radius, and the band between them that is open.

    Args:
        found: one or several of:

            - a report, or a run's path: a curve of each measure of radii, and of each property that was asked at
              several radii (by its parameter, or in several runs that are given together), for each model;
            - :class:`~tfcert.Radii`, :class:`~tfcert.MinimumPerturbations`, :class:`~tfcert.Attacks` or what
              :func:`~tfcert.attack_distance` returns, of the same samples: one curve of all of them, since what one
              proves and another refutes is known of each sample.
        ax: axes to draw on.
        name: of the curve, where results do not say it.

    Raises:
        UsageError: there are no radii among them, or they are of other numbers of samples.
    """
    reports = [_report(one) for one in found if isinstance(one, Report | str | Path)]
    results = [one for one in found if not isinstance(one, Report | str | Path)]
    curves = _curves_by_model(reports)
    if results:
        curves.append(_curve(results, name))
    if not curves:
        raise UsageError("there is no accuracy over a radius: give a measure of radii, or properties with a radius")
    axes = _axes(ax)
    robustness.plot_accuracy(axes, curves)
    return axes


def histogram(found: Any, measure: str | None = None, *, bins: int = 20, ax: Any = None) -> Any:
    """Radii (or distances) as a histogram: what is proven, and where it is refuted.

    Args:
        found: a report, a run's path, or what :func:`tfcert.certified_radius` and its like return.
        measure: of a report, which one; None for the only one.
        bins: how many bars.
        ax: axes to draw on.
    """
    axes = _axes(ax)
    charts.plot_histogram(axes, _summary(found, measure), bins)
    return axes


def shares(found: Any, measure: str | None = None, *, ax: Any = None) -> Any:
    """For how many samples a measure is at least so large: surely, and at most. Arguments as for :func:`histogram`."""
    axes = _axes(ax)
    charts.plot_at_least(axes, _summary(found, measure))
    return axes


def radii_by_class(found: Any, y: Any = None, measure: str | None = None, *, ax: Any = None) -> Any:
    """Certified radii by the class of their samples: a box each, and every sample as a point where they are few.

    Args:
        found: as for :func:`histogram`.
        y: the classes ``[samples]``, where results do not know them.
        measure: of a report, which one; None for the only one.
        ax: axes to draw on.
    """
    if isinstance(found, Report | str | Path):
        report = _report(found)
        by_class = robustness.radii_of_records(_measure(report, measure), report.records)
        if by_class is None:
            raise UsageError("these are no certified radii of samples with classes")
    else:
        if y is None:
            raise UsageError("radii_by_class needs the classes: radii_by_class(radii, y)")
        lower, _ = _ends(found)
        by_class = RadiiByClass(type(found).__name__, lower, np.asarray(y).ravel(), str(getattr(found, "norm", "")))
        _same_length([lower, by_class.label])
    axes = _axes(ax)
    robustness.plot_radii_by_class(axes, by_class)
    return axes


def cactus(*found: Report | str | Path, ax: Any = None) -> Any:
    """How many samples are decided within which time, of each property of each run."""
    seconds: dict[str, list[float]] = {}
    totals: dict[str, int] = {}
    for one in found:
        report = _report(one)
        about = f"{Path(str(report.folder or report.header.get('spec', ''))).name}: " if len(found) > 1 else ""
        times, counts = decided_seconds(report)
        seconds |= {f"{about}{name}": times[name] for name in times}
        totals |= {f"{about}{name}": counts[name] for name in counts}
    if not any(seconds.values()):
        raise UsageError("no property has an answer: there are no times to draw")
    axes = _axes(ax)
    charts.plot_effort(axes, seconds, totals)
    return axes


def layers(found: Any, *, ax: Any = None) -> Any:
    """Bounds by layer: mean widths as bars, shares of unstable neurons as lines.

    Args:
        found: what :func:`tfcert.layer_widths` returns; or several of such by a name, ``{"ibp": ..., "crown": ...}``.
        ax: axes to draw on.
    """
    by_name: Mapping[str, Any] = found if isinstance(found, Mapping) else {"": found}
    if len({one.layers for one in by_name.values()}) != 1:
        raise UsageError("bounds of the same layers can be drawn together")
    axes = _axes(ax, 0.9 * len(next(iter(by_name.values())).layers) + 4.5)
    proof_charts.plot_layers(axes, by_name)
    return axes


def losses(found: Any, *, ax: Any = None) -> Any:
    """Where a proof loses, layer by layer: the way from the network's own margin to the bound.

    ``found`` is what :func:`tfcert.proof_losses` returns; ``tfcert explain SPEC --sample 7`` draws the same.
    """
    axes = _axes(ax)
    proof_charts.plot_losses(axes, found)
    return axes


def change(original: Any, witness: Any, *, unit: str = "", ax: Any = None) -> Any:
    """What a witness changed of an image ``[height, width]`` or ``[height, width, channels]``, as a map around white.

    Red is more and blue, with a dot, is less. ``unit`` names the unit of the numbers.
    """
    original, witness = np.asarray(original), np.asarray(witness)
    if original.shape != witness.shape or not figures.is_image(original.shape):
        raise UsageError(f"a change is drawn of two images of one shape, not {original.shape} and {witness.shape}")
    if original.ndim == 3 and original.shape[2] == 1:
        original, witness = original[..., 0], witness[..., 0]
    axes = _axes(ax, 5.0)
    proof_charts.plot_change(axes, original, witness, unit)
    return axes


def witnesses(found: Any, x: Any = None, *, most: int = 6, question: str | None = None, figure: Any = None) -> Any:
    """Samples, their witnesses, and the differences, a column each; returns the figure.

    Args:
        found: a report with a folder, or a run's path; or what :func:`tfcert.attack`, :func:`tfcert.attack_distance`
            and :func:`tfcert.minimum_perturbation` return.
        x: of the latter, the samples.
        most: how many are shown, from the first on.
        question: of a report, the property or measure; None for all of them.
        figure: a matplotlib ``Figure`` to draw on.

    Raises:
        UsageError: there is no witness that is an image.
    """
    if isinstance(found, Report | str | Path):
        pairs = _stored_pairs(_report(found), question)
    else:
        if x is None:
            raise UsageError("witnesses needs the samples: witnesses(found, x)")
        pairs = _pairs(found, np.asarray(x))
    pictures = [_picture(*pair) for pair in pairs[:most]]
    if not pictures:
        raise UsageError("there is no witness that can be drawn as an image")
    figure = _figure(max(3.6, 1.5 * len(pictures) + 1.2), 6.2, "compressed") if figure is None else figure
    figures.witness_grid(figure, "samples and their witnesses", "the network's", pictures)
    return figure


def training(log: str | Path, *, ax: Any = None) -> Any:
    """Accuracies of held-out samples over the epochs, from the log that ``tfcert train`` or a ``CSVLogger`` wrote."""
    curves = read_curves(Path(log))
    if not curves.epochs:
        raise UsageError(f"{log} has no finished epoch")
    axes = _axes(ax)
    charts.plot_training(axes, Path(log).parent.name or "training", curves)
    return axes


def save(drawn: Any, path: str | Path) -> None:
    """Writes axes' figure, or a figure: svg and pdf as vectors with their text as text, or png.

    The same figure makes the same file. Folders are made.
    """
    figures.write_figure(getattr(drawn, "figure", drawn), Path(path))


def _axes(ax: Any, width: float = figures.SIZE[0]) -> Any:
    return _figure(width, figures.SIZE[1], "constrained").subplots() if ax is None else ax


def _figure(width: float, height: float, layout: str) -> Any:
    """A figure that notebooks show and ``pyplot.show`` knows."""
    figures.require_matplotlib()
    from matplotlib import pyplot

    return pyplot.figure(figsize=(width, height), layout=layout)


def _report(found: Report | str | Path) -> Report:
    if isinstance(found, Report):
        return found
    runs = read_runs(found)
    reports = [run.report for run in runs if run.report is not None]
    if len(reports) != 1:
        raise UsageError(f"{found} holds {len(reports)} results: name the folder of one of them")
    return reports[0]


def _measure(report: Report, measure: str | None) -> str:
    """The measure of that name, or the only one."""
    if measure is None and len(report.measures) == 1:
        return report.measures[0]
    if measure not in report.measures:
        which = "say which measure" if measure is None else f"there is no measure {measure!r}"
        raise UsageError(f"{which}; there are {', '.join(report.measures) or 'none'}")
    return measure


def _summary(found: Any, measure: str | None) -> MeasureSummary:
    if isinstance(found, Report | str | Path):
        report = _report(found)
        return summarize_measure(_measure(report, measure), report.records)
    lower, upper = _ends(found)
    return MeasureSummary(type(found).__name__, lower, upper, (), 0.0, str(getattr(found, "norm", "")))


def _ends(found: Any) -> tuple[np.ndarray, np.ndarray]:
    """What is proven and what is refuted of each sample's radius; NaN where nothing is."""
    if hasattr(found, "optimal"):
        lower, upper = found.lower, found.upper
    elif hasattr(found, "radius"):
        lower, upper = found.radius, np.full(len(found.radius), math.nan)
    elif hasattr(found, "distance"):
        lower, upper = np.full(len(found.distance), math.nan), found.distance
    else:
        raise UsageError(f"{type(found).__name__} has no radii or distances of samples")
    return np.asarray(lower, float), np.where(np.isfinite(upper), upper, math.nan)


def _curves_by_model(reports: Sequence[Report]) -> list[AccuracyCurve]:
    """The curves of reports; those of one model together, under its name where there are several."""
    by_model: dict[str, list[Report]] = {}
    for report in reports:
        by_model.setdefault(json.dumps(report.header.get("weights_sha256"), sort_keys=True), []).append(report)
    curves = []
    for mine in by_model.values():
        found = robustness.curves_of_records(record for report in mine for record in report.records)
        where = mine[0].folder or Path(str(mine[0].header.get("spec", "run")))
        curves += [replace(c, name=f"{where.name}, {c.name}") for c in found] if len(by_model) > 1 else found
    return curves


def _curve(results: Sequence[Any], name: str) -> AccuracyCurve:
    """One curve of what several results know of the same samples; a radius of 0 says nothing."""
    ends = [_ends(one) for one in results]
    _same_length([lower for lower, _ in ends])
    lower = np.fmax.reduce([one for one, _ in ends])
    upper = np.fmin.reduce([other for _, other in ends])
    lower = np.where(lower > 0, lower, -math.inf)
    norms = {str(one.norm) for one in results if getattr(one, "norm", "")}
    return robustness.curve_of_radii(name, lower, upper, norms.pop() if len(norms) == 1 else "")


def _same_length(arrays: Sequence[np.ndarray]) -> None:
    if len({len(array) for array in arrays}) > 1:
        raise UsageError(f"results of {', '.join(str(len(array)) for array in arrays)} samples: they must be the same")


def _stored_pairs(report: Report, question: str | None) -> list[tuple[np.ndarray, np.ndarray, str]]:
    """Samples and witnesses of a run's files, with what is said of them."""
    if report.folder is None:
        raise UsageError("the report has no folder, so its witnesses are in no file")
    found = []
    for record in report.records:
        path = None if record.witness is None else report.folder / record.witness
        if path is None or (question is not None and record.property != question) or not path.is_file():
            continue
        with np.load(path, allow_pickle=False) as saved:
            if {"witness", "original"} <= set(saved) and saved["witness"].shape == saved["original"].shape:
                label = "" if record.label is None else f", label {record.label:g}"
                found.append((saved["original"], saved["witness"], f"sample {record.sample}{label}"))
    return [pair for pair in found if figures.is_image(pair[0].shape) and (pair[0] != pair[1]).any()]


def _pairs(found: Any, x: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, str]]:
    """The same of results that hold witnesses, NaN where there is none."""
    points = np.asarray(found.witness)
    if points.shape != x.shape:
        raise UsageError(f"witnesses of shape {points.shape} are none of samples of shape {x.shape}")
    there = [i for i, (one, point) in enumerate(zip(x, points, strict=True)) if np.isfinite(point).all()]
    found_pairs = [(x[i], points[i], f"sample {i}") for i in there if (x[i] != points[i]).any()]
    return [pair for pair in found_pairs if figures.is_image(pair[0].shape)]


def _picture(original: np.ndarray, witness: np.ndarray, said: str) -> figures.Picture:
    """A picture in the range that the two images span."""
    low, high = (float(f(np.stack([original, witness]))) for f in (np.min, np.max))
    difference = witness.astype(np.float64) - original
    wide = high - low if high > low else 1.0
    before, after = ((image.astype(np.float64) - low) / wide for image in (original, witness))
    more, less = int((difference > 0).sum()), int((difference < 0).sum())
    return figures.Picture(before, after, difference, said, "", f"{more} more, {less} less")
