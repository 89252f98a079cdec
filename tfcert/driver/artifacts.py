"""The files of a run beside its journal: one npz a witness, and pictures of some of them."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np

from tfcert.driver.arrivals import to_unit
from tfcert.driver.task import Task
from tfcert.language import ShareTemplate
from tfcert.report import figures
from tfcert.report.records import Cells, Record
from tfcert.report.summary import own_witness, summarize_measure
from tfcert.sets.balls import ORDER

TABLE = (
    "sample",
    "label",
    "prediction",
    "correct",
    "outcome",
    "lower",
    "upper",
    "estimate",
    "guarantee",
    "reason_name",
)
"""The columns of a measure's table, fields of its records."""
_RESERVED = ("witness", "original", "label")
MOST_PICTURES = 10
"""Classes that one figure shows."""


def save_witness(folder: Path, task: Task, place: int, witness: np.ndarray) -> str:
    """Writes a witness beside the sample that it refutes; returns the path relative to ``folder``.

    Arrays: ``witness`` in network space and, where there is a sample, ``original`` and ``label``. Where the question is
    about several points or networks, ``witness`` is the vector of all points' numbers, and each point stands by itself
    under its name (``point_witness`` and so on, where that is taken); ``original`` is as the first point's.
    """
    arrays = {"witness": witness}
    if task.placed is not None:
        for name, point in task.placed.vector.split(witness).items():
            arrays[f"point_{name}" if name in _RESERVED else name] = point
        if task.placed.around is not None:
            known = [part[place] for part in task.placed.around if np.isfinite(part[place]).all()]
            arrays |= {"original": known[0]} if known else {}
    elif task.centers is not None:
        arrays["original"] = task.centers[place]
    if task.labels[place] is not None:
        arrays["label"] = np.array(task.labels[place])
    relative = Path("witnesses") / f"{file_name(task.name)}-{task.samples[place]}.npz"
    (folder / relative).parent.mkdir(parents=True, exist_ok=True)
    np.savez(folder / relative, allow_pickle=False, **arrays)
    return relative.as_posix()


def save_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes files that a worker made, by their paths within the folder; each is whole or not there."""
    for name, data in files.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"a worker's file lies outside of the run's folder: {name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{path.name}.part")
        unfinished.write_bytes(data)
        unfinished.replace(path)


def save_cells(folder: Path, task: Task, place: int, cells: Cells) -> None:
    """Writes the pieces of a region beside the run's witnesses, for a picture: see ``Cells``."""
    path = _cells(folder, task, int(task.samples[place]))
    path.parent.mkdir(parents=True, exist_ok=True)
    known = {"low": cells.low, "high": cells.high, "known": cells.known, "sides": cells.sides}
    np.savez(path, allow_pickle=False, **known)


def _cells(folder: Path, task: Task, sample: int) -> Path:
    return folder / "cells" / f"{file_name(task.name)}-{sample}.npz"


def _draw_cells(folder: Path, task: Task, records: Sequence[Record]) -> list[Path]:
    """Draws the pieces of the first samples' regions, as far as there are files of them."""
    drawn: list[Path] = []
    mine = [r for r in records if r.property == task.name and _cells(folder, task, r.sample).is_file()]
    for record in mine[:MOST_PICTURES]:
        with np.load(_cells(folder, task, record.sample), allow_pickle=False) as saved:
            cells = Cells(saved["low"], saved["high"], saved["known"], saved["sides"])
        names = task.template.names or tuple(f"input {i}" for i in range(int(cells.sides.max()) + 1))
        axes = [f"{names[int(side)]} (network space)" for side in cells.sides]
        path = folder / "figures" / f"{file_name(task.name)}-{record.sample}-cells.png"
        figures.draw_cells(path, f"{task.name}: pieces of the region", (axes[0], axes[1]), cells)
        drawn.append(path)
    return drawn


def write_table(folder: Path, name: str, records: Sequence[Record]) -> Path:
    """Writes a measure's answers as CSV, a line a sample; nothing stands where nothing is known."""
    path = folder / "tables" / f"{file_name(name)}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(TABLE)
        for record in records:
            if record.property == name:
                flat = record.as_json()
                writer.writerow(["" if flat.get(column) is None else flat[column] for column in TABLE])
    return path


def draw_pictures(
    folder: Path, tasks: Sequence[Task], records: Sequence[Record], wanted: Sequence[tuple[str, str, int]]
) -> list[Path]:
    """Draws what the specification asks for (kind, measure, bins), and witnesses of each property and measure.

    Of witnesses that had to be looked for, those of one sample a class are drawn, if the inputs are images.
    """
    drawn = []
    for kind, name, bins in wanted:
        summary = summarize_measure(name, records)
        if summary.total:
            drawn.append(folder / "figures" / f"{file_name(name)}-{kind}.png")
            if kind == "curve":
                figures.draw_curve(drawn[-1], summary)
            else:
                figures.draw_histogram(drawn[-1], summary, bins)
    for task in tasks:
        if isinstance(task.template, ShareTemplate):
            drawn += _draw_cells(folder, task, records)
            continue
        if task.centers is None or not figures.is_image(_pictured(task)):
            continue
        chosen = _one_a_class(folder, [r for r in records if r.property == task.name])
        if chosen:
            drawn.append(folder / "figures" / f"{file_name(task.name)}-witnesses.png")
            pictures = [_picture(folder, task, record) for record in chosen]
            figures.draw_witnesses(drawn[-1], _title(chosen[0]), chosen[0].asked.space, pictures)
    return drawn


def _pictured(task: Task) -> tuple[int, ...]:
    """The shape of what a picture of a witness shows: the only point; of several points none is drawn."""
    if task.placed is None:
        return tuple(task.model.network.input_shape)
    return task.placed.vector.shapes[0] if task.placed.vector.points == 1 else ()


def _one_a_class(folder: Path, records: Sequence[Record]) -> list[Record]:
    """The first record of each class that has a witness other than the sample itself, in the order of the classes."""
    first: dict[float, Record] = {}
    for record in records:
        label = record.prediction if record.label is None else record.label
        if record.witness and not own_witness(record) and (folder / record.witness).is_file():
            first.setdefault(-1.0 if label is None else label, record)
    return [first[label] for label in sorted(first)][:MOST_PICTURES]


def _title(record: Record) -> str:
    asked = record.asked
    if record.measured is not None:
        return f"{record.property}: the nearest witnesses found ({asked.norm}, {asked.space} space)"
    within = f"{asked.norm} {asked.eps:.4g} of the sample" if math.isfinite(asked.eps) else "the region"
    return f"{record.property}: witnesses within {within} ({asked.space} space)"


def _picture(folder: Path, task: Task, record: Record) -> figures.Picture:
    with np.load(folder / str(record.witness), allow_pickle=False) as saved:
        shown = "witness" if task.placed is None else next(iter(task.placed.vector.split(saved["witness"])))
        pair = np.stack([saved["original"], saved[f"point_{shown}" if f"point_{shown}" in saved else shown]])
    transform, asked = task.template.transform, record.asked
    images = to_unit(transform, pair)
    # One at a time, since rounding depends on the batch and a nearest witness is wrong by hardly more than that.
    before, after = (_answers(task, _outputs_at(task, one, pair[0])) for one in pair)
    drawn = {"net": pair.astype(np.float64), "unit": images, "raw": images / float(transform.scale)}[asked.space]
    difference = drawn[1] - drawn[0]
    norm = asked.norm or "linf"
    label = "" if record.label is None else f"label {record.label:g}, "
    return figures.Picture(
        original=images[0],
        witness=images[1],
        difference=difference,
        original_caption=f"sample {record.sample}\n{label}{before}",
        witness_caption=after,
        difference_caption=f"{norm} {np.linalg.norm(difference.ravel(), ORDER[norm]):.4g}",
    )


def _outputs_at(task: Task, point: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """The outputs at a point, which the network takes with the numbers of the sample where it reads these, too."""
    if task.placed is not None:
        point = task.placed.vector.whole([point, sample][: len(task.placed.vector.places)])
    return np.asarray(task.model.outputs(point[None])[0])


def _answers(task: Task, outputs: np.ndarray) -> str:
    """What the networks of a question say, one after the other."""
    layout = task.lowered.layout
    live = [n for n in range(len(layout.sizes)) if n not in layout.fixed]
    each = [outputs[layout.start(n) : layout.start(n) + layout.sizes[n]] for n in live]
    return ", ".join(map(_answer, each))


def _answer(outputs: np.ndarray) -> str:
    return f"predicted {outputs.argmax()}" if outputs.size > 1 else f"output {outputs.item():.4g}"


def file_name(name: str) -> str:
    """A question's name as that of a file: no two questions have one file. ``p(eps=8/255)`` is ``p(eps=8%2F255)``."""
    return quote(name.replace(", ", ","), safe="()=,")
