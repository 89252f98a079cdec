"""The bench of a specification's run: what is bound, and one question's stages at a time, answering shards."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tfcert.clauses import is_right
from tfcert.driver import artifacts
from tfcert.driver.bracket import BracketRun
from tfcert.driver.budget import Clock
from tfcert.driver.certificates import Certificates
from tfcert.driver.distance_task import distances
from tfcert.driver.executor.base import Shard, ShardAnswer, Spent
from tfcert.driver.executor.pool import HARD_SHARD, SHARD
from tfcert.driver.keeper import lost_verdict
from tfcert.driver.measure import MeasureAnswer, MeasureRun
from tfcert.driver.piecewise import PiecewiseRun
from tfcert.driver.piecewise_measure import measured_pieces
from tfcert.driver.premises import measured_with_inputs, needs_input, with_inputs
from tfcert.driver.progress import Watch
from tfcert.driver.property import PropertyRun
from tfcert.driver.share import ShareRun
from tfcert.driver.since import Earlier
from tfcert.driver.stages.opened import OpenStages, Preparing
from tfcert.driver.task import Task
from tfcert.driver.verdicts import recorded
from tfcert.language import DistanceTemplate, MeasureTemplate, PropertyTemplate, ShareTemplate, ValueTemplate
from tfcert.language.spec.regions import balls_of
from tfcert.options import options_of
from tfcert.report import Asked, Measured, Record
from tfcert.report.records import Json
from tfcert.verdict import Verdict


class SpecBench:
    """Answers shards of a bound specification's tasks, and writes the files that records name into a folder.

    ``certificates`` writes those of proofs; ``earlier`` is a run whose proofs are tried first; ``watch`` is told how
    far a solver is, and ``preparing`` shows that a stage is prepared; ``pass_mb`` is the memory of one pass of bounds.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        folder: Path,
        certificates: Certificates | None = None,
        earlier: Earlier | None = None,
        watch: Watch = lambda standing: None,
        preparing: Preparing = lambda name: contextlib.nullcontext(),
        pass_mb: int | None = None,
    ):
        self._tasks, self._folder = {task.name: task for task in tasks}, folder
        self._certificates, self._earlier = certificates, earlier
        self._watch, self._preparing, self._pass_mb = watch, preparing, pass_mb
        self._stack, self._stages, self._question = contextlib.ExitStack(), OpenStages(Clock(), options_of(None)), ""
        self._told: dict[str, float] = {}  # seconds of preparation that were said of the question's stages
        self._spent = Spent(0.0)

    def __enter__(self) -> SpecBench:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def answers(self, shard: Shard) -> Iterator[ShardAnswer]:
        """As :meth:`tfcert.driver.executor.base.Bench.answers`: the strategy's clock begins where the shard says."""
        task = self._tasks[shard.question]
        strategy = task.template.strategy
        clock = Clock(strategy.seconds_per_sample, strategy.seconds_total, shard.used)
        stages = self._opened(task, clock)
        part = task.take(np.array(shard.places, int))
        for place, verdict, measured in _decide(part, stages, self._watch, self._earlier):
            yield ShardAnswer(shard.places[place], self._record(part, place, verdict, measured))
        prepared = {name: seconds - self._told.get(name, 0.0) for name, seconds in stages.seconds.items()}
        self._told = dict(stages.seconds)
        self._spent = Spent(clock.used() - shard.used, {name: s for name, s in prepared.items() if s > 0})

    def spent(self) -> Spent:
        """The seconds of the last shard."""
        return self._spent

    def _opened(self, task: Task, clock: Clock) -> OpenStages:
        """The stages of a question, on a clock; those of the last one are closed before."""
        if task.name != self._question:
            self._stack.close()
            options = options_of(task.template.strategy.rounding)
            options = options if self._pass_mb is None else replace(options, memory_mb=self._pass_mb)
            self._stages, self._told = OpenStages(clock, options, self._preparing), {}
            self._stack.enter_context(self._stages)
            self._question = task.name
            if self._earlier is not None:
                with clock.paused():
                    self._earlier.prepare(task)
        self._stages.clock = clock
        return self._stages

    def _record(self, task: Task, place: int, verdict: Verdict, measured: Measured | None) -> Record:
        witness = verdict.witness
        path = None if witness is None else artifacts.save_witness(self._folder, task, place, witness)
        if measured is not None and measured.cells is not None:
            artifacts.save_cells(self._folder, task, place, measured.cells)
        said = (None, "") if self._certificates is None else self._certificates.write(task, place, verdict, measured)
        kept = replace(recorded(task, place, verdict, measured), found=None)
        record = _record_of(task, place, kept, measured)
        return replace(record, witness=path, certificate=said[0], no_certificate=said[1])


def _record_of(task: Task, place: int, verdict: Verdict, measured: Measured | None) -> Record:
    """A verdict with what is known of the sample without it."""
    outputs = None if task.outputs is None else task.outputs[place]
    predicted = outputs is not None and outputs.size > 1 and task.placed is None and bool(np.isfinite(outputs).all())
    label = task.labels[place]
    return Record(
        property=task.name,
        sample=int(task.samples[place]),
        verdict=verdict,
        asked=region_asked(task),
        measured=measured,
        label=label,
        prediction=int(outputs.argmax()) if predicted and outputs is not None else None,
        correct=None if outputs is None or label is None else is_right(outputs, label),
    )


def lost_record(task: Task, place: int, why: str) -> Record:
    """The record of a sample that takes whoever answers down: nothing is known of it, for the reason ``why``."""
    measured = None if isinstance(task.template, PropertyTemplate) else Measured(math.nan)
    return _record_of(task, place, lost_verdict(why), measured)


def batch_of(task: Task, auto: int) -> int:
    """Samples that are worked on together, where the strategy leaves it open ``auto``."""
    template = task.template
    return template.info.batch if isinstance(template, DistanceTemplate) else template.strategy.batch or auto


def shard_of(task: Task) -> int:
    """Samples of one shard."""
    template = task.template
    hard = not isinstance(template, DistanceTemplate) and any(spec.solves for spec in template.strategy.stages)
    return min(batch_of(task, HARD_SHARD if hard else SHARD), SHARD)


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


def region_asked(task: Task) -> Asked:
    """The region that a task's records are about."""
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
