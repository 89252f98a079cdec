"""Proofs and witnesses of an earlier run, tried on this run's models before anything is searched for.

Most of a proof's cost is the search for it. What was found (a method that sufficed, slopes, a tree, multipliers) is a
choice, and any choice is sound: bounds are computed anew, on the new weights, for the region and the rows that this run
asks about. An earlier result is never believed, so one of another model, or of another region, can only cost time.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from tfcert.catalog import METHODS, STAGES
from tfcert.certification.certificates import CHOICES, Beforehand, CertificateWriter
from tfcert.certification.trees import Limits
from tfcert.driver.batch import Batch
from tfcert.driver.budget import StageBudget
from tfcert.driver.stages.base import Finding, Running, Tell, stage_of
from tfcert.driver.task import Task
from tfcert.driver.writers import CertificateWriters, certified
from tfcert.language import StageKind, StageSpec
from tfcert.options import options_of
from tfcert.proof.check import read_claim
from tfcert.proof.errors import ProofError
from tfcert.proof.files import arrays_of
from tfcert.report.records import Json, Measured, Record
from tfcert.report.stored import StoredResult
from tfcert.rigour.radius import CertifyingMethod
from tfcert.showing import counted
from tfcert.verdict import PROOFS, Outcome, Verdict, Work

RULES = tuple(
    word
    for word, stage in STAGES.words().items()
    if stage.kind is StageKind.BOUND
    and not METHODS.find(stage.name).asks_solver
    and not METHODS.find(stage.name).optimises
)
"""Stages whose proofs are one pass by a rule: that they sufficed is all there is to know of them."""
_TRIES, _SHARE = 20, 0.1
"""After so many samples of a question nothing is tried any more where a smaller share was settled."""
_FEWEST_CUTS, _MENDING = 10, 3.0
"""How far a proof is mended: half as many cuts as its tree has nodes, at least so many; and seconds at most."""


@dataclass(frozen=True)
class Attempt:
    """Something to be tried on some samples.

    Attributes:
        spec: the stage that verdicts name, by which the earlier proof was found.
        places: of the samples in the batch.
        running: what decides them; None for the stage itself.
        known: those of the places that the earlier run had settled; None for all.
        mended: those of the places whose proof had to be searched for from the earlier one on.
    """

    spec: StageSpec
    places: np.ndarray
    running: Running | None = None
    known: frozenset[int] | None = None
    mended: set[int] = field(default_factory=set)

    def transfers(self, place: int) -> bool:
        """Tells whether an answer about a sample is one that the earlier run had, too, by the same choices."""
        return (self.known is None or place in self.known) and place not in self.mended


@dataclass
class Tried:
    """How a question fared: samples that the earlier run had settled, those that were tried, those that it took, those
    of them whose proof was mended."""

    known: int = 0
    tried: int = 0
    settled: int = 0
    mended: int = 0
    seconds: float = 0.0

    @property
    def hopeless(self) -> bool:
        """Tells whether nearly nothing transfers."""
        return self.tried >= _TRIES and self.settled < _SHARE * self.tried

    def as_json(self) -> Json:
        """As the header of a result has it."""
        counts = {"known": self.known, "tried": self.tried, "transferred": self.settled - self.mended}
        counts |= {"mended": self.mended} if self.mended else {}
        return counts | {"seconds": round(self.seconds, 3)}


@dataclass
class Earlier:
    """An earlier run, and how its proofs and witnesses fare in this one.

    Attributes:
        result: of the earlier run.
        tried: by question.
        writers: of this run's models; they get what choices that transfer prove.
    """

    result: StoredResult
    writers: CertificateWriters = field(default_factory=CertificateWriters)
    tried: dict[str, Tried] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._records = self.result.by_question()
        self._points: dict[int, np.ndarray] = {}  # by sample, of the question that was prepared
        self._choices: dict[int, Mapping[str, np.ndarray]] = {}
        self._rules: dict[int, str] = {}
        self._writer: CertificateWriter | None = None

    @property
    def folder(self) -> Path:
        """The earlier run's folder."""
        return self.result.path.parent

    def prepare(self, task: Task) -> None:
        """Reads what is to be tried of one question, and the model as the checker reads it."""
        self._points, self._choices, self._rules = {}, {}, {}
        for sample in map(int, task.samples):
            record = self._records.get((task.name, sample))
            if record is None or record.measured is not None or record.verdict.stage not in STAGES.words():
                continue
            if record.witness is not None and (point := _witness(self.folder / record.witness)) is not None:
                self._points[sample] = point
            elif record.verdict.guarantee in PROOFS:
                choices = None if record.certificate is None else _choices(self.folder / record.certificate)
                if choices:
                    self._choices[sample] = choices
                else:
                    self._rules[sample] = _rule(record)
        writer = self.writers.of(task) if self._choices else ""
        self._writer = writer if isinstance(writer, CertificateWriter) else None

    def again(self, task: Task, place: int, verdict: Verdict, measured: Measured) -> Verdict:
        """The verdict of a measure, marked where what was proven earlier of the sample is proven again."""
        tried, was = self.tried.setdefault(task.name, Tried()), float(self.radii(task)[place])
        if not was > 0:
            return verdict
        proven = verdict.guarantee in PROOFS and measured.lower >= was
        tried.known, tried.tried, tried.settled = tried.known + 1, tried.tried + 1, tried.settled + proven
        tried.seconds += verdict.seconds
        return replace(verdict, transferred=proven)

    def radii(self, task: Task) -> np.ndarray:
        """What was proven of a measure for each sample ``[n]``; NaN where nothing was."""
        records = (self._records.get((task.name, int(sample))) for sample in task.samples)
        return np.array([math.nan if r is None or r.measured is None else r.measured.lower for r in records])

    def attempts(self, task: Task, opened: Callable[[], np.ndarray]) -> Iterator[Attempt]:
        """What is to be tried on a batch of the question that was prepared, one after the other.

        Args:
            opened: the samples that are open now.
        """
        tried = self.tried.setdefault(task.name, Tried())
        numbers = {int(task.samples[p]): p for p in opened().tolist()}
        tried.known += sum(n in numbers for n in (*self._points, *self._choices, *self._rules))
        for stage, places in self._by_stage(task, self._points, numbers):
            points = [self._points[int(task.samples[p])] for p in places.tolist()]
            yield Attempt(StageSpec(stage), places, _Points(points))
        for rule in RULES:
            spec, ruled = _as_written(task, rule), [p for n, p in numbers.items() if self._rules.get(n) == rule]
            if ruled and not tried.hopeless and not stage_of(spec).refuses(task):
                # A strategy that begins with this stage runs it on all samples: in one pass, so that no time is lost.
                begins = spec == task.template.strategy.stages[0]
                yield Attempt(spec, opened() if begins else np.array(ruled), known=frozenset(ruled))
        for stage, places in self._by_stage(task, self._choices, numbers):
            if self._writer is not None and not tried.hopeless:
                choices = [self._choices[int(task.samples[p])] for p in places.tolist()]
                spec, mended = _as_written(task, stage), set[int]()
                running = _ByChoices(self.writers, self._writer, spec, choices, places, mended)
                yield Attempt(spec, places, running, mended=mended)

    def _by_stage(
        self, task: Task, some: Mapping[int, object], numbers: Mapping[int, int]
    ) -> Iterator[tuple[str, np.ndarray]]:
        """The open samples among some, by the stage that settled them earlier."""
        stages = {p: self._records[task.name, n].verdict.stage for n, p in numbers.items() if n in some}
        for stage in dict.fromkeys(stages.values()):
            yield stage, np.array([p for p in stages if stages[p] == stage])

    def as_json(self) -> Json:
        """As the header of a result has it: which run it was, and how much of it transferred."""
        digest = hashlib.sha256(self.result.path.read_bytes()).hexdigest()
        tried = {name: found.as_json() for name, found in self.tried.items()}
        return {"folder": str(self.folder), "result_sha256": digest, "questions": tried}

    def summary(self) -> list[str]:
        """What transferred, in a sentence each question."""
        return [
            f"since {self.folder}: {name}: {_told(tried)}" for name, tried in self.tried.items() if tried.known
        ] or [f"since {self.folder}: nothing that was settled there is asked about here"]


def _witness(path: Path) -> np.ndarray | None:
    """A witness as it was stored; None where it cannot be read."""
    try:
        return arrays_of(path).get("witness")
    except ProofError:
        return None


def _choices(path: Path) -> Mapping[str, np.ndarray] | None:
    """What a certificate chooses beside the rule; None where that is nothing, or it cannot be read."""
    try:
        arrays = read_claim(path).arrays
    except (ProofError, OSError):
        return None
    return {name: array for name, array in arrays.items() if name.split("/")[0] in CHOICES} or None


def _told(tried: Tried) -> str:
    of = f"{tried.settled - tried.mended} of {counted(tried.known, 'answer')} transferred"
    of += f", {tried.mended} were mended" if tried.mended else ""
    of += f", in {tried.seconds:.2f} s"
    if tried.hopeless:
        return f"{of}; nearly nothing did, so that no more than {tried.tried} were tried"
    return of


def _rule(record: Record) -> str:
    """The stage whose one pass is tried: that of the proof itself, or the tightest rule."""
    stage = record.verdict.stage
    return stage if stage in RULES else "crown"


def _as_written(task: Task, name: str) -> StageSpec:
    """The stage as the strategy calls it, or by its name alone."""
    return next((spec for spec in task.template.strategy.stages if spec.name == name), StageSpec(name))


@dataclass(frozen=True)
class _Points:
    """Answers with the witnesses of earlier runs, which whoever asks replays."""

    points: list[np.ndarray]

    def decide(self, batch: Batch, budget: StageBudget, tell: Tell) -> Iterator[Finding]:
        shape = tuple(batch.task.model.network.input_shape)
        for place, point in enumerate(self.points):
            fits = batch.task.placed is None and point.shape == shape and bool(np.isfinite(point).all())
            yield Finding(place, Outcome.FALSIFIED, witness=point) if fits else Finding(place)


@dataclass(frozen=True)
class _ByChoices:
    """Bounds by the choices of earlier certificates, computed by the checker on this run's model, one by one.

    Where they do not suffice they are mended: the leaves of their trees are the first pieces of a search, and their
    slopes and multipliers its start.

    Attributes:
        choices: of each sample.
        places: of the samples in the whole batch; ``mended`` takes up those whose proof was mended.
    """

    writers: CertificateWriters
    writer: CertificateWriter
    spec: StageSpec
    choices: list[Mapping[str, np.ndarray]]
    places: np.ndarray
    mended: set[int]

    def decide(self, batch: Batch, budget: StageBudget, tell: Tell) -> Iterator[Finding]:
        network, options = batch.task.model.network, options_of(batch.task.template.strategy.rounding)
        for place, choices in enumerate(self.choices):
            began, left = budget.used(), budget.begin(np.array([place]))()
            if left <= 0:
                yield Finding(place, Outcome.TIMEOUT)
                continue
            one = batch.take(np.array([place]))
            cuts = max(_FEWEST_CUTS, len(choices.get("tree/place", ())) // 2)
            known = Beforehand(choices, Limits(cuts, min(left, _MENDING)))
            found = certified(self.writer, one, self.spec.method, known)
            seconds, work = budget.used() - began, Work(evaluations=1)
            if isinstance(found, str):
                yield Finding(place, seconds=seconds, work=work)
                continue
            if any(found.arrays.get(name) is not array for name, array in choices.items()):
                self.mended.add(int(self.places[place]))
            # The checker's bounds are charged for all rounding; what it does not see of this process marks them down.
            level = CertifyingMethod("crown", None, options).guarantee(network, one.clauses)
            self.writers.ready[one.task.name, int(one.task.samples[0])] = found
            yield Finding(place, Outcome.VERIFIED, "", found.margin, 0.0, None, level, seconds, work)
