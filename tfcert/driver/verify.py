"""From a specification to a report: parse, check, load, run each property down its stages, judge, write."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tfcert.driver import artifacts
from tfcert.driver.abstracted import classifier
from tfcert.driver.bench import SpecBench, batch_of, lost_record, region_asked, shard_of
from tfcert.driver.bind import BoundSpec, bind
from tfcert.driver.certificates import Certificates
from tfcert.driver.executor.base import Executor, InProcess, Shard, Spent
from tfcert.driver.executor.pool import Pool, pool_of
from tfcert.driver.explain import plan_text
from tfcert.driver.interrupts import Interrupts
from tfcert.driver.journal import Journal
from tfcert.driver.judge import exit_code, gather_results, judge, reported
from tfcert.driver.keeper import Keeper, parts
from tfcert.driver.progress import Narrator, Standing, Verbosity
from tfcert.driver.since import Earlier
from tfcert.driver.spec_job import spec_job
from tfcert.driver.start import RunStart, begin
from tfcert.driver.task import Task
from tfcert.driver.verdicts import advice, reconciled
from tfcert.driver.writers import CertificateWriters
from tfcert.errors import ExecutorGoneError, UsageError
from tfcert.language import (
    AnyTemplate,
    MeasureTemplate,
    ShareTemplate,
    Transform,
    ValueTemplate,
)
from tfcert.report import ExitCode, Judged, Record, Report, figures
from tfcert.report.records import Json
from tfcert.showing import counted

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
    workers: Any = None,
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
        workers: who answers: None for this process; a number of processes on this machine, each with one thread;
            ``tfcert.LocalWorkers``, which say more of them; or a dask cluster, by the address of its scheduler or a
            ``distributed.Client``. What is answered does not depend on the number of workers.

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
    return run_verification(start, verbose, certificates, workers)


def run_verification(
    start: RunStart, verbose: Verbosity = "auto", certificates: bool = False, workers: Any = None
) -> Report:
    """Goes on from what :func:`tfcert.driver.start.begin` checked; returns and raises as :func:`verify` does."""
    pool = pool_of(workers)
    if pool is not None and start.earlier is not None:
        raise UsageError("what an earlier run proved is tried in one process: leave out either since or workers")
    with Narrator(verbose) as narrator:
        for warning in start.spec.warnings:
            narrator.say(warning.render())
        bound = bind(start.spec, start.bindings, start.data)
        for doubt in bound.doubts:
            narrator.say(f"warning: {doubt}")
        doing = _Run(start, bound, narrator, pool)
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


class _Run(Keeper):
    """One run in progress: what is bound, the records so far, and the seconds spent by each strategy's name.

    ``setup`` are the seconds that stages took to prepare, by question and stage; ``pool`` is who answers, None for this
    process.
    """

    def __init__(self, start: RunStart, bound: BoundSpec, narrator: Narrator, pool: Pool | None):
        super().__init__(narrator, start.folder.path)
        self.folder: Path = start.folder.path
        self.bound, self.bindings, self.pool = bound, start.bindings, pool
        self.header = start.header | header(bound)
        self.began, self.interrupts = time.monotonic(), Interrupts(narrator.say)
        self.spent: dict[str, float] = {}
        self._tasks = {task.name: task for task in bound.tasks}
        self.setup: dict[str, dict[str, float]] = {name: {} for name in self._tasks}
        self.certificates: Certificates | None = None
        self.earlier: Earlier | None = None

    def all(self, journal: Journal) -> bool:
        """Runs every task; False if it was interrupted."""
        self.journal, self.records = journal, {(r.property, r.sample): r for r in journal.known}
        for record in journal.known:
            name = self._tasks[record.property].template.strategy.name if record.property in self._tasks else ""
            self.spent[name] = self.spent.get(name, 0.0) + record.verdict.seconds
        try:
            with contextlib.ExitStack() as stack:
                self._executor(stack).run(self._shards(), self)
            if len(self._ordered()) < sum(len(task.samples) for task in self.bound.tasks):
                self.interrupts.between()
        except KeyboardInterrupt:
            self.narrator.say("interrupted: what was found is kept")
            return False
        except ExecutorGoneError as error:
            self.narrator.say(f"{error}; what was found is kept, and --resume {self.folder} goes on")
            return False
        return True

    def _executor(self, stack: contextlib.ExitStack) -> Executor:
        """Whoever answers, in a context of the stack."""
        if self.pool is not None:
            job, contents = spec_job(self.bound, self.bindings, self.certificates is not None)
            return stack.enter_context(self.pool.open(job, contents))
        preparing = self.narrator.preparing
        bench = SpecBench(self.bound.tasks, self.folder, self.certificates, self.earlier, self._watch, preparing)
        return InProcess(stack.enter_context(bench))

    def _watch(self, standing: Standing) -> None:
        self.interrupts.begins(standing)
        self.narrator.watch(standing)

    def _shards(self) -> Iterator[Shard]:
        """What is left to do of each question, in their order, until the run is to stop; progress tells of each when it
        is begun."""
        for task in self.bound.tasks:
            todo = [i for i, sample in enumerate(task.samples) if (task.name, int(sample)) not in self.records]
            self.narrator.begin(task.name, len(task.samples), len(task.samples) - len(todo), _narrowed(task))
            strategy = task.template.strategy.name
            size = batch_of(task, BATCH) if self.pool is None else shard_of(task)
            for places in parts(len(task.samples), todo, size, grid=self.pool is not None):
                if self.interrupts.asked:
                    return
                # The total is that of all questions with this strategy, a resumed run's included.
                yield Shard(task.name, places, self.spent.get(strategy, 0.0))

    def lost_record(self, shard: Shard, place: int, why: str) -> Record:
        """As :meth:`Keeper.lost_record`."""
        return lost_record(self._tasks[shard.question], place, why)

    def done(self, shard: Shard, spent: Spent) -> None:
        """Counts a shard's seconds towards its strategy's total, and those of its stages' preparation."""
        name = self._tasks[shard.question].template.strategy.name
        self.spent[name] = self.spent.get(name, 0.0) + spent.seconds
        setup = self.setup[shard.question]
        for stage, seconds in spent.setup.items():
            setup[stage] = setup.get(stage, 0.0) + seconds

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


def _narrowed(task: Task) -> str:
    """Names what a solver narrows, and in which space, for the reader."""
    asked = region_asked(task)
    if isinstance(task.template, ValueTemplate):
        return f"the {task.template.extremum} value"
    if isinstance(task.template, ShareTemplate):
        return "the share of the volume"
    if not isinstance(task.template, MeasureTemplate):
        return "the margin"
    return f"the {'smallest' if asked.existential else 'largest'} radius ({asked.norm}, {asked.space} space)"
