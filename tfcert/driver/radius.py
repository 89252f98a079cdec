"""``tfcert radius``: the largest certified radius around each sample of an npz file, journalled as it falls."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from tfcert.certification import certified_radius
from tfcert.driver import artifacts
from tfcert.driver.bind import require_names
from tfcert.driver.direct import Direct, Found, Loaded, Question, exit_code, remarks
from tfcert.driver.journal import Journal, set_aside
from tfcert.driver.progress import Narrator
from tfcert.driver.radius_setup import Bounding, RadiiStart, begin_radii
from tfcert.report import Asked, Measured, Record, figures
from tfcert.report.radii import RadiusReport, summarize_radii
from tfcert.report.summary import MeasureSummary
from tfcert.verdict import Guarantee, Outcome, Verdict


def measure_radii(
    data: Direct, bounding: Bounding, *, out: str | None = None, resume: str | None = None
) -> RadiusReport:
    """The largest certified radius around each sample, in network space; after Ctrl-C, of the samples until then.

    Args:
        out: where journal, JSON and histogram go; ``out/radius-<model>-<norm>`` by default.
        resume: the folder of an interrupted run with the same model, data and parameters.

    Raises:
        UsageError: files, samples, a method or a relaxation that do not fit the model; nothing to resume.
    """
    return run(begin_radii(data, bounding, out=out, resume=resume))


def run(start: RadiiStart) -> RadiusReport:
    """Goes on from what ``begin_radii`` checked; returns and raises as :func:`measure_radii` does."""
    data, bounding, folder = start.data, start.bounding, start.folder
    options, loaded = bounding.options(), data.load()
    require_names(loaded.model, bounding.method, bounding.relaxation)

    def decide(part: Loaded, right: np.ndarray) -> Found:
        radii = certified_radius(
            part.model.network, part.x, part.y,
            norm=data.norm, clip=data.clip, method=bounding.method, relaxation=bounding.relaxation,
            targets=bounding.targets, options=options,
        )  # fmt: skip
        how = "" if bounding.method == "ibp" else radii.relaxation
        return [
            (_verdict(ok, radius, margin, (bounding.method, how)), _measured(ok, radius, radii.evaluations))
            for ok, radius, margin in zip(right.tolist(), radii.radius, radii.margin, strict=True)
        ]

    header = start.header | loaded.header()
    asked = Asked(data.norm, math.nan, "net", bounding.targets, width=data.width)
    question = Question("radius", asked, bounding.batch, decide)
    folder.mkdir(parents=True, exist_ok=True)
    aside = None if start.resumed else set_aside(folder)
    if aside is not None:
        Narrator().say(aside)
    journal, known = (Journal.resume if start.resumed else Journal.start)(folder, header)
    with journal:
        if not start.resumed:
            artifacts.clear(folder)
        records, complete = question.run(loaded, journal, known)
        if complete:
            journal.finish()
    summary = summarize_radii(records)
    drawn = _draw(folder, f"{loaded.model.name}, {bounding.method}", records)
    notes = (*loaded.model.network.notes, *remarks(data, loaded, records), *drawn)
    header |= {"complete": complete, "notes": list(notes), "summary": summary.as_json()}
    code = exit_code(records, complete)
    found = f"{summary.certified} of {len(records)} samples have a certified radius"
    report = RadiusReport(
        header=header | {"exit_code": int(code)},
        records=records,
        exit_code=code,
        measures=("radius",),
        notes=notes,
        folder=folder,
        asked={"radius": len(loaded.x)},
        conclusion=found,
    )
    report.save_json(folder / "result.json")
    return report


def _verdict(right: bool, radius: float, margin: float, how: tuple[str, str]) -> Verdict:
    method, relaxation = how
    if not right:
        reason = "the unperturbed input is misclassified"
        return Verdict(Outcome.FALSIFIED, reason, "clean", guarantee=Guarantee.REPLAYED)
    if not (math.isfinite(radius) and radius > 0):
        reason = "no radius could be proven"
        return Verdict(Outcome.UNKNOWN, reason, method, method, relaxation, Guarantee.ESTIMATE)
    return Verdict(Outcome.VERIFIED, "", method, method, relaxation, Guarantee.NUMERIC, float(margin))


def _measured(right: bool, radius: float, evaluations: int) -> Measured:
    return Measured(float(radius), math.nan, evaluations) if right else Measured(0.0, 0.0)


def _draw(folder: Path, title: str, records: tuple[Record, ...]) -> list[str]:
    """Draws the radii of the correctly classified samples; says what was drawn, or what is missing."""
    summary = summarize_radii(records)
    radii = summary.radii[summary.correct]
    if not len(radii):
        return []
    if not figures.available():
        return [figures.MISSING]
    unit = f"{records[0].asked.norm}, {records[0].asked.space} space"
    shown = MeasureSummary(title, radii, np.full(len(radii), np.nan), (), 0.0, unit)
    path = folder / "figures" / "radius-histogram.png"
    figures.draw_histogram(path, shown, what="samples" if summary.correct.all() else "correctly classified samples")
    return [f"drawn: {path}"]
