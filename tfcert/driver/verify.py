"""From a specification to a report: parse, check, load, run each property down its stages, judge, write."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tfcert.clauses import is_right
from tfcert.driver import artifacts
from tfcert.driver.abstracted import classifier
from tfcert.driver.bind import BoundSpec, bind
from tfcert.driver.bracket import BracketRun
from tfcert.driver.budget import Clock
from tfcert.driver.certificates import Certificates
from tfcert.driver.distance_task import distances
from tfcert.driver.explain import plan_text
from tfcert.driver.interrupts import Interrupts
from tfcert.driver.journal import Journal
from tfcert.driver.judge import exit_code, gather_results, judge, reported
from tfcert.driver.measure import MeasureAnswer, MeasureRun
from tfcert.driver.piecewise import PiecewiseRun
from tfcert.driver.piecewise_measure import measured_pieces
from tfcert.driver.premises import measured_with_inputs, needs_input, with_inputs
from tfcert.driver.progress import Narrator, Standing, Verbosity, Watch
from tfcert.driver.property import PropertyRun
from tfcert.driver.share import ShareRun
from tfcert.driver.since import Earlier
from tfcert.driver.stages.opened import OpenStages
from tfcert.driver.start import RunStart, begin
from tfcert.driver.task import Task
from tfcert.driver.verdicts import advice, reconciled, recorded
from tfcert.driver.writers import CertificateWriters
from tfcert.language import (
    AnyTemplate,
    DistanceTemplate,
    MeasureTemplate,
    PropertyTemplate,
    ShareTemplate,
    Transform,
    ValueTemplate,
)
from tfcert.language.spec.regions import balls_of
from tfcert.options import options_of
from tfcert.report import Asked, ExitCode, Judged, Measured, Record, Report, figures
from tfcert.report.records import Json
from tfcert.showing import counted
from tfcert.verdict import Verdict

BATCH = 100
"""Samples at a time where the strategy says ``batch: auto``."""
ABSTRACTION_ERROR = (
    "AbsCert's own figure (tfcert.abstraction_error) judges the cell of each unperturbed input alone: it is not what "
    "is verified here, and no guarantee"
)


def verify(
    spec: str | Path,
    *,
    params: Mapping[str, Any] | None = None,
    bindings: Mapping[str, Any] | None = None,
    resume: str | Path | None = None,
    out: str | Path | None = None,
    root: str | Path | None = None,
    certificates: bool = False,
    since: str | Path | None = None,
    verbose: Verbosity = "auto",
) -> Report:
    """Checks every property, measure and assertion of a specification.

    Args:
        spec: the path of a ``.prop`` file, or its text.
        params: values for its parameters, ``{"eps": "2/255"}``; texts are exact.
        bindings: models, arrays or paths for names of the specification: ``{"clf": model, "test": (x, y)}``.
        resume: the folder of an interrupted run to go on with. Parameters and bindings are taken from there unless
            they are given again; specification, parameters, models and data must be the same as then.
        out: where journal, JSON, witnesses and pictures go; ``out/<name of the specification>`` by default.
        root: a folder around the specification's own, which its paths may not leave; with ``..`` they may lead to
            other folders in there. None for the specification's own folder.
        certificates: whether each proof is to be written to ``out/certificates``, for ``python -m tfcert.proof``.
        since: the folder of an earlier run on the same samples, of the model before it was retrained, say. What its
            proofs rest on (``certificates``), and its witnesses, are tried on this run's models first, and only what
            they do not settle is searched for. Nothing of it is believed.
        verbose: "auto" shows progress on standard error; 0 is silent, 2 adds a line a sample and for whatever a solver
            finds on the way.

    Returns:
        The report. After Ctrl-C it holds what was found until then, with exit code 2: once stops after what is in
        flight, twice at once.

    Raises:
        SpecError: the specification cannot be used; says everything that is wrong with it.
        ValueError: what it names does not fit together, or cannot be loaded.
        ContradictionError: a witness refutes a proof that claimed to hold whatever is rounded: a bug in tfcert. Against
            any other proof a witness is the sample's verdict, and the report counts it.
    """
    start = begin(spec, params=params, bindings=bindings, resume=resume, since=since, out=out, root=root)
    return run_verification(start, verbose, certificates)


def run_verification(start: RunStart, verbose: Verbosity = "auto", certificates: bool = False) -> Report:
    """Goes on from what :func:`tfcert.driver.start.begin` checked; returns and raises as :func:`verify` does."""
    with Narrator(verbose) as narrator:
        for warning in start.spec.warnings:
            narrator.say(warning.render())
        bound = bind(start.spec, start.bindings, start.data)
        for doubt in bound.doubts:
            narrator.say(f"warning: {doubt}")
        doing = _Run(bound, start.folder.path, narrator, start.header | header(bound))
        doing.certificates = Certificates(doing.folder) if certificates else None
        if start.earlier is not None:
            writers = CertificateWriters() if doing.certificates is None else doing.certificates.writers
            doing.earlier = Earlier(start.earlier, writers)
        with start.folder.open(doing.header, narrator.say) as journal:
            narrator.follow(journal.tally)
            with doing.interrupts.heard():
                complete = doing.all(journal)
            if complete:
                journal.finish()
            return doing.finish(complete)


def header(bound: BoundSpec) -> Json:
    """The part of a header that needs the models: their hashes, strategies, preprocessing, abstractions."""
    spec = bound.spec
    templates: list[AnyTemplate] = [*spec.properties.values(), *spec.measures.values()]
    return {
        "weights_sha256": {name: model.sha256 for name, model in bound.models.items()},
        "strategies": {t.name: plan_text(t) for t in templates},
        "properties": {t.name: t.text for t in templates},
        "lines": {t.name: t.line for t in templates},
        "asked": {task.name: len(task.samples) for task in bound.tasks},
        "preprocessing": {t.name: _preprocessing(t.transform) for t in templates},
        "abstractions": {task.name: _abstraction(task) for task in bound.tasks if task.template.abstraction},
    }


def _preprocessing(transform: Transform) -> Json:
    mean, std = ([str(value) for value in values] for values in (transform.mean, transform.std))
    return {"scale": str(transform.scale), "mean": mean, "std": std}


def _abstraction(task: Task) -> Json:
    """The abstraction that a claim's classifier stands behind, with the granularity that it has."""
    abstraction = task.template.abstraction
    assert abstraction is not None
    return {
        "model": task.template.model,
        "abstraction": abstraction.name,
        "granularity": np.asarray(task.model.granularity).tolist(),
        "range": [float(abstraction.low), float(abstraction.high)],
    }


@dataclass
class _Run:
    """One run in progress: what is bound, the records so far, and the seconds spent by each strategy's name.

    ``setup`` are the seconds that stages took to prepare, by question and stage.
    """

    bound: BoundSpec
    folder: Path
    narrator: Narrator
    header: Json
    records: dict[tuple[str, int], Record] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    spent: dict[str, float] = field(default_factory=dict)
    setup: dict[str, dict[str, float]] = field(default_factory=dict)
    certificates: Certificates | None = None
    earlier: Earlier | None = None
    interrupts: Interrupts = field(init=False)

    def __post_init__(self) -> None:
        self.interrupts = Interrupts(self.narrator.say)

    def all(self, journal: Journal) -> bool:
        """Runs every task; False if it was interrupted."""
        self.records = {(r.property, r.sample): r for r in journal.known}
        strategies = {task.name: task.template.strategy.name for task in self.bound.tasks}
        for record in journal.known:
            name = strategies.get(record.property, "")
            self.spent[name] = self.spent.get(name, 0.0) + record.verdict.seconds
        try:
            for task in self.bound.tasks:
                self.interrupts.between()
                self._task(task, journal)
        except KeyboardInterrupt:
            self.narrator.say("interrupted: what was found is kept")
            return False
        return True

    def _task(self, task: Task, journal: Journal) -> None:
        todo = [i for i, sample in enumerate(task.samples) if (task.name, int(sample)) not in self.records]
        self.narrator.begin(task.name, len(task.samples), len(task.samples) - len(todo), _narrowed(task))
        strategy = task.template.strategy
        # The total is that of all questions with this strategy, a resumed run's included.
        clock = Clock(strategy.seconds_per_sample, strategy.seconds_total, self.spent.get(strategy.name, 0.0))
        size = task.template.info.batch if isinstance(task.template, DistanceTemplate) else strategy.batch or BATCH
        with OpenStages(clock, options_of(strategy.rounding), self.narrator.preparing) as stages:
            self.setup[task.name] = stages.seconds
            if self.earlier is not None and todo:
                with clock.paused():
                    self.earlier.prepare(task)
            for first in range(0, len(todo), size):
                self.interrupts.between()
                part = task.take(np.array(todo[first : first + size], int))
                for place, verdict, measured in _decide(part, stages, self._watch, self.earlier):
                    record = self._record(part, place, verdict, measured)
                    self.records[record.property, record.sample] = record
                    journal.append(record)
                    self.narrator.advance(record)
        self.spent[strategy.name] = clock.used()

    def _watch(self, standing: Standing) -> None:
        self.interrupts.begins(standing)
        self.narrator.watch(standing)

    def _record(self, task: Task, place: int, verdict: Verdict, measured: Measured | None) -> Record:
        witness = verdict.witness
        path = None if witness is None else artifacts.save_witness(self.folder, task, place, witness)
        if measured is not None and measured.cells is not None:
            artifacts.save_cells(self.folder, task, place, measured.cells)
        outputs = None if task.outputs is None else task.outputs[place]
        predicted = (
            outputs is not None and outputs.size > 1 and task.placed is None and bool(np.isfinite(outputs).all())
        )
        label = task.labels[place]
        said = (None, "") if self.certificates is None else self.certificates.write(task, place, verdict, measured)
        return Record(
            property=task.name,
            sample=int(task.samples[place]),
            verdict=replace(recorded(task, place, verdict, measured), found=None),
            asked=_asked(task),
            measured=measured,
            label=label,
            prediction=int(outputs.argmax()) if predicted and outputs is not None else None,
            witness=path,
            correct=None if outputs is None or label is None else is_right(outputs, label),
            certificate=said[0],
            no_certificate=said[1],
        )

    def finish(self, complete: bool) -> Report:
        """Judges, draws and writes."""
        spec, (records, contradictions) = self.bound.spec, reconciled(self._ordered())
        notes = [f"{name}: {note}" for name, model in self.bound.models.items() for note in model.network.notes]
        notes += [*contradictions, *_claims(self.bound.tasks), *self.bound.doubts]
        judged: tuple[Judged, ...] = ()
        code = ExitCode.INTERRUPTED
        if complete:
            results = gather_results(spec, records, self.bound.right)
            judged, code = judge(spec, results), exit_code(spec, records, results)
            notes += reported(spec, results)
        notes += advice(records)
        if self.earlier is not None:
            notes += self.earlier.summary()
            self.header["since"] = self.earlier.as_json()
        notes += self._draw(records)
        self.header |= {
            "complete": complete,
            "exit_code": int(code),
            "judged": [asdict(j) for j in judged],
            "notes": notes,
            "contradictions": sum(r.verdict.contradicted is not None for r in records),
            "seconds": round(time.monotonic() - self.began, 3),
            "setup_seconds": {
                name: {stage: round(seconds, 3) for stage, seconds in stages.items()}
                for name, stages in self.setup.items()
            },
        }
        report = Report(
            header=self.header,
            records=records,
            exit_code=code,
            properties=tuple(spec.properties),
            measures=tuple(spec.measures),
            judged=judged,
            notes=tuple(notes),
            folder=self.folder,
            asked={task.name: len(task.samples) for task in self.bound.tasks},
            conclusion="" if judged else f"{counted(len(records), 'value')} measured, and nothing asserted of them",
        )
        report.save_json(self.folder / "result.json")
        return report

    def _ordered(self) -> tuple[Record, ...]:
        keys = [(task.name, int(sample)) for task in self.bound.tasks for sample in task.samples]
        return tuple(self.records[key] for key in keys if key in self.records)

    def _draw(self, records: tuple[Record, ...]) -> list[str]:
        """Writes the tables and draws the pictures that are asked for, and witnesses; says where they are."""
        reports, measures = self.bound.spec.reports, self.bound.spec.measures
        wanted = [item for item in reports if item.quantity is None and item.names[0] in measures]
        tables = [item.names[0] for item in wanted if item.kind == "table"]
        notes = [f"written: {artifacts.write_table(self.folder, name, records)}" for name in tables]
        if not figures.available():
            return [*notes, figures.MISSING]
        pictures = [
            (item.kind, item.names[0], int(dict(item.options).get("bins", 20)))
            for item in wanted
            if item.kind != "table"
        ]
        drawn = artifacts.draw_pictures(self.folder, self.bound.tasks, records, pictures)
        return [*notes, *(f"drawn: {path}" for path in drawn)]


def _claims(tasks: Sequence[Task]) -> list[str]:
    """Says which classifier is meant where questions are about one behind an abstraction, in sentences."""
    said: dict[str, list[str]] = {}
    for task in tasks:
        if task.template.abstraction is not None:
            said.setdefault(classifier(task.template.abstraction, task.model.granularity), []).append(task.name)
    notes = [
        f"of {which}: {', '.join(names)}; bounds are over all cells that a region reaches"
        for which, names in said.items()
    ]
    return [*notes, ABSTRACTION_ERROR] if notes else []


def _decide(
    task: Task, stages: OpenStages, watch: Watch, earlier: Earlier | None
) -> Iterator[tuple[int, Verdict, Measured | None]]:
    if isinstance(task.template, DistanceTemplate):
        yield from distances(task)
    elif not isinstance(task.template, PropertyTemplate):
        answers = _measuring(task, stages, watch, earlier)
        for answer in measured_with_inputs(task, stages, answers) if needs_input(task.template) else answers:
            yield answer.place, answer.verdict, answer.measured
    else:
        run = PiecewiseRun(task, stages, watch) if task.pieces else PropertyRun(task, stages, watch, earlier=earlier)
        found = run.run()
        for place, verdict in with_inputs(task, stages, found) if needs_input(task.template) else found:
            yield place, verdict, None


def _measuring(task: Task, stages: OpenStages, watch: Watch, earlier: Earlier | None) -> Iterator[MeasureAnswer]:
    """The answers of a measure: a radius, a value of the formula, or a share of volume."""
    if isinstance(task.template, ShareTemplate):
        return ShareRun(task, stages, watch).run()
    if task.pieces:
        return measured_pieces(task, stages, watch)
    if isinstance(task.template, ValueTemplate):
        return BracketRun(task, stages, watch).run()
    answers = MeasureRun(task, stages, watch, earlier=None if earlier is None else earlier.radii(task)).run()
    if earlier is None:
        return answers
    return (replace(a, verdict=earlier.again(task, a.place, a.verdict, a.measured)) for a in answers)


def _narrowed(task: Task) -> str:
    """Names what a solver narrows, and in which space, for the reader."""
    asked = _asked(task)
    if isinstance(task.template, ValueTemplate):
        return f"the {task.template.extremum} value"
    if isinstance(task.template, ShareTemplate):
        return "the share of the volume"
    if not isinstance(task.template, MeasureTemplate):
        return "the margin"
    return f"the {'smallest' if asked.existential else 'largest'} radius ({asked.norm}, {asked.space} space)"


def _asked(task: Task) -> Asked:
    region, targets = task.template.region, "all" if task.template.is_robustness else ""
    quantifier = "exists" if task.template.existential else "forall"
    abstraction = "" if task.template.abstraction is None else task.template.abstraction.name
    width = float("nan") if task.template.width is None else float(task.template.width)
    kind: Json = {}
    if isinstance(task.template, ValueTemplate):
        proof = "upper" if task.template.proof_above else "lower"
        kind = {"measures": "value", "extremum": task.template.extremum, "proof": proof}
    elif isinstance(task.template, ShareTemplate):
        kind = {"measures": "share"}
    regions = [point.region for point in task.template.points]
    balls = [ball for one in regions for ball in balls_of(one)]
    if not balls:
        # A box is about no sample's own input, so shares of samples are no accuracies.
        return Asked("", float("nan"), region.space, targets, quantifier, abstraction, labelled=False, **kind)
    norms, one = {"" if ball.free else ball.norm for ball in balls}, set(regions) == {balls[0]}
    asks_one = one and not isinstance(task.template, MeasureTemplate | DistanceTemplate) and not balls[0].free
    eps, way = float(balls[0].largest) if asks_one else float("nan"), ""
    if isinstance(task.template, DistanceTemplate):
        way, targets = task.template.info.name, str(task.template.settled()["targets"]).replace("_", "-")
    return Asked(
        norms.pop() if len(norms) == 1 else "",
        eps, region.space, targets, quantifier, abstraction, width, task.template.needs_label, way, **kind,
    )  # fmt: skip
