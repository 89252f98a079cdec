"""``tfcert radius``: the largest certified radius around each sample of an npz file, journalled as it falls.

The start of a run is checked without TensorFlow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tfcert.catalog import METHODS, RELAXATIONS, check_method, optimises, with_fallback
from tfcert.clauses import require_random
from tfcert.driver.direct.ask import Answers, DirectQuestion, asked_exit_code, remarks
from tfcert.driver.direct.request import Loaded, Request
from tfcert.driver.executor.pool import Pool
from tfcert.driver.header import rounding_header, run_header
from tfcert.driver.journal import JournalFolder
from tfcert.driver.progress import Narrator
from tfcert.errors import UsageError
from tfcert.options import BoundOptions
from tfcert.report import Asked, Measured, Record, figures
from tfcert.report.radii import RadiusReport, summarize_radii
from tfcert.report.records import Json
from tfcert.report.summary import MeasureSummary
from tfcert.verdict import Guarantee, Outcome, Reason, Verdict

DEFAULTS: Json = {
    "norm": "linf", "clip": None, "limit": 100, "correct": False, "method": "crown", "relaxation": None,
    "fallback": None, "targets": "all", "tolerance": 1e-4, "absolute_tolerance": 0.0, "start": None,
}  # fmt: skip
"""Radii are measured by these where nothing else is said."""
_HOW = ("method", "relaxation", "fallback", "targets", "tolerance", "absolute_tolerance", "start")
"""What radii depend on, beside what they are radii of and the options of optimising methods."""


@dataclass(frozen=True)
class Bounding:
    """A way to bound, as ``certified_radius`` takes it; None stands for the defaults."""

    method: str = "crown"
    relaxation: str | None = None
    fallback: str | None = None
    targets: str = "all"
    tolerance: float = 1e-4
    absolute_tolerance: float = 0.0
    start: float | None = None
    iterations: int | None = None
    learning_rate: float | None = None
    rounding: str = BoundOptions().rounding
    batch: int = 50

    @property
    def rule(self) -> str | None:
        """The relaxation with its fallback; ValueError for a fallback of none."""
        return with_fallback(self.relaxation, self.fallback)

    def options(self) -> BoundOptions:
        """Raises a UsageError for names that do not exist, or options of the optimising methods given to another."""
        try:
            check_method(self.method, self.rule)
        except ValueError as error:
            raise UsageError(str(error)) from error
        if not self.tolerance + self.absolute_tolerance > 0:
            raise UsageError("one of --tolerance and --absolute-tolerance must be above 0: a search has to end")
        given = {k: v for k in ("iterations", "learning_rate") if (v := getattr(self, k)) is not None}
        if given and not optimises(self.method, self.rule):
            methods = " or ".join(name for name, method in METHODS.items() if method.optimises)
            relaxations = " or ".join(name for name, relaxation in RELAXATIONS.items() if relaxation.where)
            raise UsageError(
                f"--iterations and --learning-rate are for the method {methods} and the relaxation {relaxations}, "
                f"which optimise their bounds; {self.method} does not"
            )
        return BoundOptions(rounding=self.rounding, **given)

    def params(self) -> dict[str, object]:
        """Parameters that the radii depend on: everything but the size of a batch."""
        options = self.options()
        used = (
            {"iterations": options.iterations, "learning_rate": options.learning_rate}
            if optimises(self.method, self.rule)
            else {}
        )
        return {k: v for k, v in asdict(self).items() if k in _HOW} | {name: getattr(options, name) for name in used}


@dataclass(frozen=True)
class RadiiStart:
    """A run that is checked: samples, how to bound, its header as far as it is known without the model, its folder."""

    request: Request
    bounding: Bounding
    header: Json
    folder: JournalFolder


def radius_request(
    model: str, data: str, given: Mapping[str, Any], batch: int, folder: JournalFolder
) -> tuple[Request, Bounding]:
    """The question about radii, and the way to bound, that the command line asks for.

    Args:
        model, data: files.
        given: the options by name, None for those that are not given: they are those of the run that is resumed (one
            from before runs said so left rounding out of account), or ``DEFAULTS``.
        batch: samples at a time.
        folder: of the run.

    Raises:
        JournalError: something given is not what the resumed run had; old and new are told.
    """
    given = {name: value for name, value in given.items() if value is not None}
    then = {} if folder.then is None else folder.then["params"]
    rounding = given.pop("rounding", None) or (folder.then or {}).get("rounding")
    now = run_header() | rounding_header(rounding) | {"params": then | given}
    folder.require_same(now, "tfcert", "params", "rounding")
    asked = DEFAULTS | then | given
    clip = asked["clip"]
    ends = None if clip is None else (clip[0], clip[1])
    request = Request(model, data, asked["norm"], ends, asked["limit"], correct=bool(asked["correct"]))
    how: dict[str, Any] = {name: asked.get(name) for name in (*_HOW, "iterations", "learning_rate")}
    return request, Bounding(**how, rounding=now["rounding"], batch=batch)


def begin_radii(request: Request, bounding: Bounding, folder: JournalFolder) -> RadiiStart:
    """Starts a run, checked without TensorFlow. Errors as for :func:`measure_radii`."""
    bounding.options()
    header = request.header(bounding.params()) | rounding_header(bounding.rounding) | {"batch": bounding.batch}
    folder.require_same(header, "tfcert", "params", "rounding", "data_sha256")
    folder.settle(Path("out") / f"radius-{Path(request.model).stem}-{request.norm}")
    return RadiiStart(request, bounding, header, folder)


def measure_radii(
    request: Request, bounding: Bounding, *, out: str | None = None, resume: str | None = None
) -> RadiusReport:
    """The largest certified radius around each sample, in network space; after Ctrl-C, of the samples until then.

    Args:
        out: where journal, JSON and histogram go; ``out/radius-<model>-<norm>`` by default.
        resume: the folder of an interrupted run with the same model, data and parameters.

    Raises:
        UsageError: files, samples, a method or a relaxation that do not fit the model; nothing to resume.
    """
    return run_radii(begin_radii(request, bounding, JournalFolder(out=out, resume=resume)))


def run_radii(start: RadiiStart, pool: Pool | None = None) -> RadiusReport:
    """Goes on from what :func:`begin_radii` checked; returns and raises as :func:`measure_radii` does."""
    request, bounding, folder = start.request, start.bounding, start.folder
    loaded = request.load()
    from tfcert.driver.stages.bound import refusal

    refused = refusal(loaded.model, bounding.method, bounding.rule)
    if refused:
        raise UsageError(refused)
    if bounding.targets == "random":
        try:
            require_random(loaded.model.num_outputs)
        except ValueError as error:
            raise UsageError(f"{request.model}: {error}") from error
    header = start.header | loaded.header() | {"asked": {"radius": len(loaded.x)}}
    asked = Asked(request.norm, math.nan, "net", bounding.targets, width=request.width)
    question = DirectQuestion(
        "radius", asked, bounding.batch, partial(_radii, request.norm, request.clip, bounding), request.model
    )
    with folder.open(header, Narrator().say) as journal:
        records, complete = question.run(loaded, journal, pool)
        if complete:
            journal.finish()
    summary = summarize_radii(records)
    drawn = _draw(folder.path, f"{loaded.model.name}, {bounding.method}", records)
    notes = (*loaded.model.network.notes, *remarks(request, loaded, records), *drawn)
    header |= {"complete": complete, "notes": list(notes), "summary": summary.as_json()}
    code = asked_exit_code(records, complete)
    report = RadiusReport(
        header=header | {"exit_code": int(code)},
        records=records,
        exit_code=code,
        measures=("radius",),
        notes=notes,
        folder=folder.path,
        asked={"radius": len(loaded.x)},
        conclusion=f"{summary.certified} of {len(records)} samples have a certified radius",
    )
    report.save_json(folder.path / "result.json")
    return report


def _radii(norm: str, clip: tuple[float, float] | None, bounding: Bounding, part: Loaded, right: np.ndarray) -> Answers:
    """A verdict and the radius of each sample of one batch."""
    from tfcert.certification import certified_radius
    from tfcert.driver.verdicts import marked_down
    from tfcert.propagation.question import choose_targets

    targets: str | np.ndarray = bounding.targets
    if targets == "random":
        targets = choose_targets(part.model.network, part.x, part.y, numbers=part.places)
    radii = certified_radius(
        part.model.network, part.x, part.y,
        norm=norm, clip=clip, method=bounding.method, relaxation=bounding.relaxation,
        fallback=bounding.fallback, targets=targets, tolerance=bounding.tolerance,
        absolute_tolerance=bounding.absolute_tolerance,
        start=bounding.start, options=bounding.options(),
    )  # fmt: skip
    how = radii.relaxation if METHODS.find(bounding.method).relaxes else ""
    found = Verdict(Outcome.VERIFIED, "", bounding.method, bounding.method, how, radii.guarantee)
    found = marked_down(part.model.network, bounding.rounding, found)
    return [
        (_verdict(ok, radius, margin, found), _measured(ok, radius, radii.evaluations))
        for ok, radius, margin in zip(right.tolist(), radii.radius, radii.margin, strict=True)
    ]


def _verdict(right: bool, radius: float, margin: float, found: Verdict) -> Verdict:
    """The verdict of one sample; ``found`` is what is said of every radius above 0."""
    if not right:
        reason = Reason.MISCLASSIFIED.because()
        return Verdict(Outcome.FALSIFIED, reason, "clean", guarantee=Guarantee.REPLAYED)
    if not (math.isfinite(radius) and radius > 0):
        reason = Reason.NOTHING_PROVEN.because(said="no radius could be proven")
        return replace(found, outcome=Outcome.UNKNOWN, reason=reason, guarantee=Guarantee.ESTIMATE)
    return replace(found, margin=float(margin))


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
