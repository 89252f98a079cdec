"""``tfcert estimate`` and ``tfcert minimum``: how far each sample of a file is from another class, by one of the
ways of the catalog, journalled as it falls.

The start of a run is checked without TensorFlow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tfcert.catalog import DISTANCES, DistanceInfo
from tfcert.driver.direct.ask import DirectQuestion, asked_exit_code, remarks
from tfcert.driver.direct.request import Loaded, Request
from tfcert.driver.distances import measured_distances, unperturbed
from tfcert.driver.executor.pool import Pool
from tfcert.driver.header import rounding_header, run_header
from tfcert.driver.journal import JournalFolder
from tfcert.driver.progress import Narrator
from tfcert.errors import JournalError, UsageError
from tfcert.report import Asked, Measured, MeasureSummary, Record, figures
from tfcert.report.distances import DistanceReport, conclusion, summarize_distances
from tfcert.report.records import Json
from tfcert.verdict import Guarantee, Outcome, Reason, Verdict

DEFAULTS: Json = {"clip": None, "limit": 100}
"""What holds where nothing else is said, beside the usual norm and options of a way."""


@dataclass(frozen=True)
class DistanceStart:
    """A run that is checked: samples, the way with its options, its header as far as it is known, and its folder."""

    info: DistanceInfo
    request: Request
    options: Mapping[str, Any]
    header: Json
    folder: JournalFolder


def begin_distances(name: str, model: str, data: str, given: Mapping[str, Any], folder: JournalFolder) -> DistanceStart:
    """Starts a run, checked without TensorFlow.

    Args:
        name: of the way to measure.
        model, data: files.
        given: norm, clip, limit and the way's options by name, None for those that are not given: they are those of
            the run that is resumed, or the usual ones.
        folder: of the run.

    Raises:
        UsageError: files or samples that do not fit, or a norm that the way does not measure in.
        JournalError: something is not what the resumed run had; old and new are told.
    """
    info = DISTANCES.find(name)
    given = {option: value for option, value in given.items() if value is not None}
    then = {} if folder.then is None else folder.then["params"]
    rounding = given.pop("rounding", None) or (folder.then or {}).get("rounding")
    now: Json = {"distance": name} | given
    folder.require_same(
        run_header() | rounding_header(rounding) | {"params": then | now}, "tfcert", "params", "rounding"
    )
    asked = DEFAULTS | {"norm": info.norms[0]} | then | now | rounding_header(rounding)
    require_norm(info, asked["norm"])
    options = info.settled(asked)
    if info.clips and asked["clip"] is None and "upper" in info.options and "upper" not in options:
        raise UsageError("how far to look is not bounded: give --upper, or the valid range of an input, --clip")
    clip = asked["clip"]
    request = Request(model, data, asked["norm"], None if clip is None else (clip[0], clip[1]), asked["limit"])
    said = {option: value for option, value in options.items() if option != "rounding"}
    header = request.header({"distance": name} | said) | rounding_header(rounding)
    folder.require_same(header, "tfcert", "params", "data_sha256")
    folder.settle(Path("out") / f"{name}-{Path(model).stem}-{request.norm}")
    return DistanceStart(info, request, options, header, folder)


def require_norm(info: DistanceInfo, norm: str) -> None:
    """Raises a UsageError for a norm that a way does not measure in; names those that do."""
    if norm not in info.norms:
        others = [other.name for other in DISTANCES.values() if norm in other.norms and other.promise == info.promise]
        fix = f": {' or '.join(others)} measures these" if others else ""
        raise UsageError(f"{info.name} measures {' and '.join(info.norms)} distances, not {norm}{fix}")


def run_distances(start: DistanceStart, pool: Pool | None = None) -> DistanceReport:
    """Goes on from what :func:`begin_distances` checked; after Ctrl-C, with the samples until then.

    Raises:
        UsageError: the model does not fit the samples, or cannot be asked in this way.
    """
    info, request, folder = start.info, start.request, start.folder
    loaded = request.load()
    header = start.header | loaded.header() | {"asked": {info.name: len(loaded.x)}}
    targets = str(start.options["targets"]).replace("_", "-")
    asked = Asked(request.norm, math.nan, "net", targets, width=request.width, distance=info.name)
    decide = partial(_distances, info.name, request.norm, request.clip, dict(start.options))
    question = DirectQuestion(info.name, asked, info.batch, decide, request.model, folder.path)
    with folder.open(header, Narrator().say) as journal:
        try:
            records, complete = question.run(loaded, journal, pool)
        except JournalError:
            raise
        except ValueError as error:
            raise UsageError(f"{request.model}: {error}") from error
        if complete:
            journal.finish()
    drawn = _draw(folder.path, loaded.model.name, records)
    notes = (*loaded.model.network.notes, *remarks(request, loaded, records), *drawn)
    summary = summarize_distances(records).as_json() if records else {}
    code = asked_exit_code(records, complete)
    header |= {"complete": complete, "notes": list(notes), "summary": summary, "exit_code": int(code)}
    report = DistanceReport(
        header=header,
        records=records,
        exit_code=code,
        measures=(info.name,),
        notes=notes,
        folder=folder.path,
        asked={info.name: len(loaded.x)},
        conclusion=conclusion(records),
    )
    report.save_json(folder.path / "result.json")
    return report


def _distances(
    name: str,
    norm: str,
    clip: tuple[float, float] | None,
    options: Mapping[str, Any],
    part: Loaded,
    right: np.ndarray,
) -> Iterator[tuple[Verdict, Measured]]:
    """A verdict and the distances of each sample of one batch; those that are misclassified are not asked about."""
    from tfcert.estimates.question import DistanceQuestion

    kept = part.take(np.flatnonzero(right))
    question = DistanceQuestion(name, part.model.model, kept.x, kept.y, kept.places.tolist(), norm, clip, options)
    found = measured_distances(question, part.model.network) if len(kept.x) else iter(())
    for correct in right.tolist():
        yield next(found) if correct else (_misclassified(), unperturbed(name))


def _misclassified() -> Verdict:
    return Verdict(Outcome.FALSIFIED, Reason.MISCLASSIFIED.because(), "clean", guarantee=Guarantee.REPLAYED)


def _draw(folder: Path, model: str, records: tuple[Record, ...]) -> list[str]:
    """Draws the distances of the correctly classified samples; says what was drawn, or what is missing."""
    summary = summarize_distances(records) if records else None
    if summary is None or not summary.known:
        return []
    if not figures.available():
        return [figures.MISSING]
    mine = [r.measured for r, correct in zip(records, summary.correct, strict=True) if correct and r.measured]
    ends = {end: np.array([getattr(m, end) for m in mine], float) for end in ("lower", "upper", "estimate")}
    info, unit = summary.info, f"{records[0].asked.norm}, {records[0].asked.space} space"
    shown = MeasureSummary(
        f"{model}, {info.name}", ends["lower"], ends["upper"], (), 0.0, unit, distance=info.name,
        estimated=ends["estimate"],
    )  # fmt: skip
    path = folder / "figures" / f"{info.name}-histogram.png"
    figures.draw_histogram(path, shown, what="samples" if summary.correct.all() else "correctly classified samples")
    return [f"drawn: {path}"]
