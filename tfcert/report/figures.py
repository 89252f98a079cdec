"""Pictures as files: charts, and samples beside witnesses. matplotlib: ``tfcert[report]``."""

from __future__ import annotations

import importlib.util
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tfcert.errors import UsageError
from tfcert.report import charts
from tfcert.report.charts import GranularityPoint
from tfcert.report.curves import Curves
from tfcert.report.records import Cells
from tfcert.report.summary import MeasureSummary

MISSING = "pictures were skipped, because matplotlib is not installed: pip install 'tfcert[report]' draws them"
SIZE = (7.0, 4.2)
"""Inches of a chart."""


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


def require_matplotlib() -> None:
    """Raises a UsageError where matplotlib is not installed."""
    if not available():
        raise UsageError("figures need matplotlib: pip install 'tfcert[report]'")


def is_image(shape: Sequence[int]) -> bool:
    """Tells whether inputs of this shape can be drawn."""
    return (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))) and min(shape[:2]) > 1


def draw(path: Path, chart: Callable[..., None], *given: Any, size: tuple[float, float] = SIZE) -> None:
    """Writes a chart, which is drawn on the axes and what is given; the ending of the path says the format."""
    figure = new_figure(*size)
    chart(figure.subplots(), *given)
    write_figure(figure, path)


def draw_histogram(path: Path, summary: MeasureSummary, bins: int = 20, what: str = "samples") -> None:
    """Writes :func:`~tfcert.report.charts.plot_histogram`."""
    draw(path, charts.plot_histogram, summary, bins, what)


def draw_curve(path: Path, summary: MeasureSummary) -> None:
    """Writes :func:`~tfcert.report.charts.plot_at_least`."""
    draw(path, charts.plot_at_least, summary)


def draw_effort(path: Path, seconds: Mapping[str, Sequence[float]], totals: Mapping[str, int]) -> None:
    """Writes :func:`~tfcert.report.charts.plot_effort`."""
    draw(path, charts.plot_effort, seconds, totals)


def draw_cells(path: Path, title: str, axes_names: tuple[str, str], found: Cells) -> None:
    """Writes :func:`~tfcert.report.charts.plot_cells`."""
    draw(path, charts.plot_cells, title, axes_names, found, size=(6.0, 5.2))


def draw_training(path: Path, title: str, curves: Curves) -> None:
    """Writes :func:`~tfcert.report.charts.plot_training`."""
    draw(path, charts.plot_training, title, curves, size=(7.0, 4.4))


def draw_granularities(path: Path, title: str, curve: Sequence[GranularityPoint], samples: str = "held-out") -> None:
    """Writes :func:`~tfcert.report.charts.plot_granularities`."""
    draw(path, charts.plot_granularities, title, curve, samples, size=(7.0, 4.4))


def draw_witnesses(path: Path, title: str, space: str, pictures: Sequence[Picture]) -> None:
    """Writes :func:`witness_grid`."""
    width = max(3.6, 1.5 * len(pictures) + 1.2)
    figure = new_figure(width, 6.2, layout="compressed")  # keeps columns of a fixed shape in the middle
    witness_grid(figure, title, space, pictures)
    write_figure(figure, path)


def witness_grid(figure: Any, title: str, space: str, pictures: Sequence[Picture]) -> None:
    """A column for each sample: the original, the witness, and their difference magnified to a scale of its own.

    ``space`` names that of the differences. Grey differences are red where the witness has the larger value and blue
    where it has the smaller one, and white where nothing changed; those of colours are shown around grey.
    """
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
    figure.suptitle(textwrap.fill(title, int(11 * figure.get_figwidth())), fontsize=11)


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


def new_figure(width: float, height: float, layout: Literal["constrained", "compressed"] = "constrained") -> Any:
    """A figure of so many inches that no window and no notebook knows of."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout=layout)


def write_figure(figure: Any, path: Path) -> None:
    """Writes a figure, in the format that the path ends in; folders are made."""
    import matplotlib

    path.parent.mkdir(parents=True, exist_ok=True)
    # Vector files have their text as text, and are the same however often they are drawn.
    dateless = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": path.name, "pdf.fonttype": 42}):
        figure.savefig(path, dpi=120, metadata=dateless.get(path.suffix))
