"""Guarantees, outcomes and verdicts: plain frozen data, no TensorFlow.

Everything that crosses a layer of the house (a specification, a verdict, a record of the journal) is one of the
classes below, so that any layer can be read, tested and replaced on its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np


class Guarantee(StrEnum):
    """Levels of guarantee, strongest first."""

    FLOAT32_ANY_ORDER = "float32-any-order"
    """Holds for the network as executed in float32 (or float64), in any order of its sums."""
    REAL = "real"
    """Holds for the exact-arithmetic network; bounds computed with rigorous rounding."""
    NUMERIC = "numeric"
    """Bounds computed in floating point; rounding is estimated (a margin within it proves nothing), not bounded."""
    SOLVER = "solver"
    """Rests on a MILP solver's word."""
    REPLAYED = "replayed"
    """A falsification: the witness was run on the original model."""
    ESTIMATE = "estimate"
    """No guarantee."""


PROMISES = {
    Guarantee.FLOAT32_ANY_ORDER: "No input of the region breaks the property when the model file is run in float32 (or "
    "float64, where the model is float64), whatever the order of its sums, with fused multiply-add or without, at any "
    "batch size",
    Guarantee.REAL: "No input of the region breaks the property of the network in exact arithmetic",
    Guarantee.NUMERIC: "Bounds, computed in floating point, prove the property; rounding is estimated (a margin within "
    "twice its estimated standard deviation proves nothing), and not bounded",
    Guarantee.SOLVER: "The least margin, which an integer program has, is above zero by a solver's word",
    Guarantee.REPLAYED: "The point in the record lies in the region, exactly, and the original model breaks the "
    "property there",
    Guarantee.ESTIMATE: "Nothing",
}
"""The promise of each level, as docs/guarantees.md states it."""


class Outcome(StrEnum):
    """The four possible answers to one property on one sample. An error is never an outcome."""

    VERIFIED = "verified"
    FALSIFIED = "falsified"
    UNKNOWN = "unknown"
    TIMEOUT = "timeout"


class Reason(StrEnum):
    """Reasons why a question stays open, or why a verdict wants a word, by the names that results hold.

    Attributes:
        message: the sentence, with places for what it is about.
        advice: what to do about it; "" where nothing has to be done.
    """

    message: str
    advice: str

    def __new__(cls, name: str, message: str = "", advice: str = "") -> Reason:
        """A reason with its sentence."""
        member = str.__new__(cls, name)
        member._value_, member.message, member.advice = name, message, advice
        return member

    def because(self, **facts: object) -> Because:
        """The sentence about some facts."""
        return Because(self.message.format(**facts), self)

    # What the samples and the model's answers say.
    CLEAN = "clean", "the unperturbed input already {does}"
    MISCLASSIFIED = "misclassified", "the unperturbed input is misclassified"
    # Proofs and witnesses that do not fit together.
    REFUTED = "proof-refuted", "{proof}, yet a witness replays on the original model: {meaning}"
    ORDER = (
        "answer-undefined",
        "{runs}: the network's answer there is not defined by the model file, but by the order of the runtime's sums",
        "a model of float64 rounds far less; a deployment that needs this answer has to fix the runtime and batch size",
    )
    MARKED_DOWN = (
        "marked-down",
        "marked down to `{level}`: {what}",
        "remove what is not covered, or ask with `rounding: ignore` where `numeric` is enough",
    )
    RETRACTED = (
        "proof-retracted",
        "rests on a solver's word, which was wrong about {places}",
        "have a second solver confirm: `milp(confirm=highs)`",
    )
    SPURIOUS = (
        "spurious-witness",
        "spurious witness: what was found does not replay on the original model",
        "the margin there is lost in rounding: ask about a slightly smaller region for a proof, or a larger one for a "
        "witness",
    )
    # What a distance promises.
    UPPER_BOUND = "upper-bound-alone", "an attack's distance is an upper bound: nothing nearer is excluded"
    NOT_FOUND = (
        "none-found",
        "the attack found no input of another class, which proves nothing",
        "a longer attack (`steps`, `searches`) may find one",
    )
    ESTIMATED = "estimate-alone", "an estimate: it bounds nothing"
    AT_CAP = (
        "score-at-cap",
        "an estimate that is cut at {radius:g}, the radius of the ball sampled",
        "sample a larger ball: the option `radius` of `clever`",
    )
    # Time.
    TOTAL_BUDGET = (
        "total-budget",
        "the total budget of {seconds:g} s is used up",
        "raise the strategy's `total`, or take fewer samples",
    )
    SAMPLE_BUDGET = (
        "sample-budget",
        "the budget of {seconds:g} s a sample is used up",
        "raise the strategy's budget `per sample`, or ask about a smaller region",
    )
    TIME_LIMIT = (
        "time-limit",
        "{said}",
        "raise `time_limit` (or the budget), or ask about a smaller region",
    )
    # What bounds leave open.
    ATTACKS_ALONE = "attacks-alone", "{said}", "add a stage that proves: `-> crown`"
    LOOSE = (
        "loose-bounds",
        "the margin is only known to be {known}",
        "a stronger stage (`-> alpha_crown`, `-> split`), a longer attack (`pgd(steps=200, restarts=20)`) or a smaller "
        "region may decide it",
    )
    NOT_MET = (
        "condition-not-met",
        "{said}",
        "a longer attack (`pgd(steps=200, restarts=20)`) may find an input that meets what `where` says of a network's "
        "answer; else ask about a larger region, or leave out samples without such inputs",
    )
    OPEN_VOLUME = (
        "open-volume",
        "{said}",
        "a larger `tol`, tighter bounds (`-> alpha_crown`) or a region of fewer inputs leaves less of it open",
    )
    ROUNDING = (
        "within-rounding",
        "within rounding: {said}",
        "a model of float64 (`dtype: float64`) rounds far less; a slightly smaller or larger region is clearer, too",
    )
    NOT_FINITE = (
        "bounds-not-finite",
        "{said}",
        "a smaller region may help; look at the model for exponentials, and for weights that are very large",
    )
    NOTHING_PROVEN = (
        "nothing-proven",
        "{said}",
        "begin the interval at a smaller radius, or use a stronger stage: `-> alpha_crown`, `-> split`",
    )
    # What branch and bound, and solvers, leave open.
    NOTHING_TO_SPLIT = (
        "nothing-to-split",
        "{said}",
        "add `-> milp`, or use a smaller region",
    )
    TOO_MANY_PIECES = (
        "too-many-pieces",
        "too many pieces are open",
        "add `-> milp`, or use a smaller region",
    )
    SOLVER_FAILED = (
        "solver-failed",
        "{said}",
        "try the other solver: `milp(solver=highs)`",
    )
    SOLVER_ALONE = (
        "solver-alone",
        "rests on the solver's word, which branch and bound did not prove again: {said}",
        "give it more time, or ask `split` first",
    )
    STAGE_SILENT = "stage-silent", "the stage's answer proves nothing"
    SOLVERS_DISAGREE = (
        "solvers-disagree",
        "the solvers disagree: {said}",
        "a smaller `gap`, or a slightly different region, may tell which of them is right",
    )
    ONE_CLASS = (
        "one-class",
        "asked about one class alone: {said}",
        "leave out `targets=runner_up`: all classes are asked about then",
    )
    WORKER_LOST = (
        "worker-lost",
        "{said}",
        "a larger `--worker-memory`, or fewer samples together (`batch: 1`), may suffice; without `--workers` it shows "
        "how the process ends",
    )
    SEARCH_STOPPED = "search-stopped", "the search stopped after many nearer witnesses"
    INPUTS_ROUNDED = "inputs-rounded", "nearer witnesses are lost in the rounding of the model's inputs"


class Because(str):
    """A reason's sentence. ``reason`` says which one it is (None: unknown), and with it what to do."""

    reason: Reason | None

    def __new__(cls, sentence: str, reason: Reason | None) -> Because:
        """The sentence of a reason."""
        because = str.__new__(cls, sentence)
        because.reason = reason
        return because

    def __reduce__(self) -> tuple[type[Because], tuple[str, Reason | None]]:
        """Copies, and what other processes get, know the reason as well."""
        return Because, (str(self), self.reason)

    def more(self, said: str) -> Because:
        """The same reason, with more of the sentence."""
        return Because(self + said, self.reason)


NO_REASON = Because("", None)


def reason_of(sentence: str) -> Reason | None:
    """The reason that a sentence is about; None where it is about none."""
    return sentence.reason if isinstance(sentence, Because) else None


@dataclass(frozen=True, slots=True)
class Work:
    """The effort that a verdict took, as counts that do not depend on the machine, and a solver's seconds.

    Attributes:
        pieces: sub-domains that branch and bound bounded.
        binaries: integer variables of the largest program that a solver was given.
        evaluations: bounds that were computed; one for each pass that the sample took part in.
        gradients: gradient steps of attacks.
        solver_seconds: wall time that a solver's process took.
    """

    pieces: int = 0
    binaries: int = 0
    evaluations: int = 0
    gradients: int = 0
    solver_seconds: float = 0.0

    def __add__(self, other: Work) -> Work:
        """The work of both; of the two programs' binaries the larger number."""
        return Work(
            self.pieces + other.pieces,
            max(self.binaries, other.binaries),
            self.evaluations + other.evaluations,
            self.gradients + other.gradients,
            self.solver_seconds + other.solver_seconds,
        )


NO_WORK = Work()


class ModelRun(NamedTuple):
    """A run of the original model on copies of a witness.

    Attributes:
        runtime: how it was run: ``eager``, called as TensorFlow runs it without a graph, ``predict``, by the function
            that Keras compiles for its ``predict``, or ``xla``, by XLA's program of the model.
        batch: the number of copies.
        breaks: whether its answer makes the formula false.
    """

    runtime: str
    batch: int
    breaks: bool


@dataclass(frozen=True, slots=True)
class Replayed:
    """The runs of the original model on a witness, the eager ones first."""

    runs: tuple[ModelRun, ...]

    @property
    def agree(self) -> bool:
        """Tells whether every run says that it is a witness."""
        return all(run.breaks for run in self.runs)

    def __str__(self) -> str:
        ends = (
            f"{'breaks' if r.breaks else 'keeps'} the property {r.runtime} in a batch of {r.batch}" for r in self.runs
        )
        return f"the witness {', '.join(ends)}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer for one property on one sample, and how it was obtained.

    ``margin`` is the certified lower bound of the property's margin when verified, the margin reached by the
    witness when falsified, and the best lower bound known otherwise; NaN where there is none. ``reason`` is a
    :class:`Reason`'s sentence, or "". ``contradicted`` is the level of a proof that a replayed witness refuted.
    ``work`` is that of all stages that looked at the sample. ``replayed`` says how a witness was run. ``transferred``
    says that the choices of an earlier run's proof, or its witness, sufficed: nothing was searched for. ``found`` is
    what a proof rests on, until its certificate is written.
    """

    outcome: Outcome
    reason: str = ""
    stage: str = ""
    method: str = ""
    relaxation: str = ""
    guarantee: Guarantee | None = None
    margin: float = float("nan")
    seconds: float = 0.0
    witness: np.ndarray | None = field(default=None, compare=False, repr=False)
    contradicted: Guarantee | None = None
    work: Work = NO_WORK
    replayed: Replayed | None = None
    transferred: bool = False
    found: Any = field(default=None, compare=False, repr=False)


PROOFS = (Guarantee.FLOAT32_ANY_ORDER, Guarantee.REAL, Guarantee.NUMERIC, Guarantee.SOLVER)
"""What a proof may promise, strongest first."""


def weakest(guarantees: Iterable[Guarantee | None]) -> Guarantee | None:
    """What rests on several verdicts promises: the least of what they do; None where one promises nothing."""
    levels = list(guarantees)
    order = list(Guarantee)
    return None if None in levels or not levels else max((g for g in levels if g is not None), key=order.index)


def is_proof(margin: Any, rounding: Any = 0.0) -> Any:
    """Marks the certified margins that are proofs: finite, and above what rounding may take from them.

    The one rule of the package. Numbers, arrays or tensors. NaN proves nothing, on either side.
    """
    return (abs(margin) < math.inf) & (margin > rounding)


TINY = Fraction(1, 1000)
"""A radius that is a smaller share of what values span is hardly meant in their unit."""
