"""The files of a run beside its journal: one npz a witness, and pictures of some of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfcert.binding import Task
from tfcert.query import Outcome
from tfcert.regions import to_unit
from tfcert.report import figures
from tfcert.report.records import Record
from tfcert.report.summary import clean_holds

MOST_PICTURES = 3


def clear(folder: Path) -> None:
    """Removes the witnesses and pictures of an earlier run, which would pass for this one's."""
    for old in [*folder.glob("witnesses/*.npz"), *folder.glob("figures/*.png")]:
        old.unlink()


def save_witness(folder: Path, task: Task, place: int, witness: np.ndarray) -> str:
    """Writes a witness beside the sample that it refutes; returns the path relative to ``folder``.

    Arrays: ``witness`` in network space and, where there is a sample, ``original`` and ``label``.
    """
    arrays = {"witness": witness}
    if task.centers is not None:
        arrays["original"] = task.centers[place]
    if task.labels[place] is not None:
        arrays["label"] = np.array(task.labels[place])
    relative = Path("witnesses") / f"{_file_name(task.name)}-{task.samples[place]}.npz"
    (folder / relative).parent.mkdir(parents=True, exist_ok=True)
    np.savez(folder / relative, allow_pickle=False, **arrays)
    return relative.as_posix()


def draw_pictures(
    folder: Path, tasks: Sequence[Task], records: Sequence[Record], histograms: Sequence[tuple[str, int]]
) -> list[Path]:
    """Draws the histograms that the specification asks for (measure, bins) and up to three witnesses."""
    from tfcert.report.summary import summarize_measure

    drawn = []
    for name, bins in histograms:
        summary = summarize_measure(name, records)
        if summary.total:
            drawn.append(folder / "figures" / f"{_file_name(name)}-histogram.png")
            figures.draw_histogram(drawn[-1], summary, bins)
    pictures = _pictures(folder, tasks, records)
    if pictures:
        drawn.append(folder / "figures" / "witnesses.png")
        figures.draw_witnesses(drawn[-1], pictures)
    return drawn


def _pictures(folder: Path, tasks: Sequence[Task], records: Sequence[Record]) -> list[figures.Picture]:
    """Witnesses that had to be looked for, those of properties before those of measures, one a sample."""
    by_name = {task.name: task for task in tasks}
    found: dict[int, figures.Picture] = {}
    for record in sorted(records, key=lambda r: r.measured is not None):
        task = by_name[record.property]
        wanted = record.witness is not None and clean_holds(record) and record.sample not in found
        if not wanted or task.centers is None or not figures.is_image(task.model.network.input_shape):
            continue
        path = folder / str(record.witness)
        if path.is_file():
            found[record.sample] = _picture(path, task, record)
        if len(found) == MOST_PICTURES:
            break
    return list(found.values())


def _picture(path: Path, task: Task, record: Record) -> figures.Picture:
    with np.load(path, allow_pickle=False) as saved:
        pair = np.stack([saved["original"], saved["witness"]])
    transform, space = task.template.transform, record.asked.space
    images, answers = to_unit(transform, pair), task.model.outputs(pair).argmax(axis=1)
    shown = {"net": pair.astype(np.float64), "unit": images, "raw": images / float(transform.scale)}[space]
    label = "" if record.label is None else f"label {record.label:g}, "
    size = record.asked.eps if record.outcome is Outcome.FALSIFIED else float("nan")
    if record.measured is not None:
        size = record.measured.upper
    return figures.Picture(
        title=f"{record.property}, sample {record.sample}",
        original=images[0],
        witness=images[1],
        difference=shown[1] - shown[0],
        space=space,
        original_caption=f"original: {label}predicted {answers[0]}",
        witness_caption=f"witness: predicted {answers[1]}",
        difference_caption=f"difference, {record.asked.norm} {size:.4g} ({record.asked.space} space)",
    )


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)
