"""Stages that prove: certified lower bounds of the margin, in passes that fit into the time that there is."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from tfcert.catalog import METHODS, optimises
from tfcert.complete.prepare import Setup, prepared
from tfcert.complete.solver.process import SolverSettings
from tfcert.driver.batch import Batch, make_batch
from tfcert.driver.budget import StageBudget
from tfcert.driver.stages.base import Finding, Running, Tell
from tfcert.driver.stages.solved import RunningSolved
from tfcert.driver.task import LoadedModel, Task
from tfcert.language import MeasureTemplate, StageSpec
from tfcert.options import BoundOptions
from tfcert.propagation.bounds import check_names
from tfcert.propagation.engine import prepared_bounds
from tfcert.rigour.radius import CertifyingMethod, margins_of
from tfcert.tracing import expecting, timed
from tfcert.verdict import NO_REASON, Outcome, Reason, Work, is_proof

_RADII = 20
"""Radii at which a search bounds each sample, about."""
_SHARE = 5
"""Where the time is limited, a pass takes as many samples as suits the machine, or one in so many of that."""


def refusal(model: LoadedModel, method: str, relaxation: str | None) -> str:
    """The reason why a method cannot bound a model, in a sentence; "" if it can."""
    try:
        check_names(model.network, method, relaxation)
    except ValueError as error:
        return f"model {model.name}: {error}"
    return ""


@dataclass(frozen=True)
class BoundStage:
    """A stage such as ``crown``, one for each method that bounds; it proves and finds no witness."""

    spec: StageSpec

    def refuses(self, task: Task) -> str:
        """A method that does not take the relaxation, or an activation of the model that does not define it."""
        try:
            relaxation = self.spec.relaxation
        except ValueError as error:
            return str(error)
        return refusal(task.model, self.spec.method, relaxation)

    @contextlib.contextmanager
    def open(self, task: Task, options: BoundOptions) -> Iterator[Running]:
        """Traces a pass and compiles it for the numbers of samples that passes will take, or starts a solver."""
        if METHODS.find(self.spec.method).asks_solver:
            example, loaded = make_batch(task), task.model
            settings = SolverSettings(
                str(self.spec.option("solver", SolverSettings.solver)), threads=int(self.spec.option("threads", 1))
            )
            setup = Setup((), options=options, settings=settings)
            with prepared(loaded.network, loaded.model, example.regions.proof, example.clauses, setup) as ready:
                yield RunningSolved(self.spec, ready)
            return
        running = RunningBound(self.spec, bound_options(self.spec, options))
        running.prepare(make_batch(task), limited=task.limited(self.spec))
        yield running


def bound_options(spec: StageSpec, options: BoundOptions) -> BoundOptions:
    """The options with what the stage says of iterations and learning rate."""
    return replace(
        options,
        iterations=int(spec.option("iterations", options.iterations)),
        learning_rate=float(spec.option("learning_rate", options.learning_rate)),
    )


class RunningBound:
    """Bounds batches: at once or, where the time is limited, as many samples together as have the time for a pass."""

    def __init__(self, spec: StageSpec, options: BoundOptions):
        self._spec, self._options = spec, options
        searches = optimises(spec.method, spec.relaxation)
        self._iterations = options.iterations if searches else 1
        self._pass: dict[int, float] = {}  # seconds of a pass, with one iteration, by the number of its samples
        self._step: dict[int, float] = {}  # seconds of each iteration more

    def prepare(self, batch: Batch, *, limited: bool) -> None:
        """Runs a pass, and where passes must fit into a time one of few samples, too, and each again by the clock."""
        coefficients, offsets = batch.clauses.take(np.arange(1)).rows()
        first = prepared_bounds(
            batch.task.model.network, batch.regions.proof.take(np.arange(1)), coefficients, offsets,
            method=self._spec.method, relaxation=self._spec.relaxation, options=self._options,
        )  # fmt: skip
        usual = min(len(batch), first.usual)
        for size in {usual, -(-usual // _SHARE)} if limited else {usual}:
            part = batch.take(np.arange(size))
            searched = _RADII if isinstance(batch.task.template, MeasureTemplate) else 1
            with expecting(searched * len(batch) // size):
                self._margins(part, 1)
            if limited:
                began = time.monotonic()
                self._margins(part, 1)
                self._pass[size] = self._step[size] = time.monotonic() - began

    def decide(self, batch: Batch, budget: StageBudget, tell: Tell) -> Iterator[Finding]:
        """The margins of all samples for which there is time."""
        todo = np.arange(len(batch))
        if not budget.limited:
            yield from self._some(batch, todo, self._iterations, budget.used)
            return
        while len(todo):
            size, iterations = self._affordable(todo, budget)
            places, todo = todo[:size], todo[size:]
            if iterations:
                filled = np.concatenate([places, np.repeat(places[-1:], size - len(places))])
                yield from self._some(batch.take(filled), places, iterations, budget.used)
            else:
                takes = f"a pass takes about {self._pass[size]:.2g} s, which is more than was left"
                reason = Reason.TIME_LIMIT.because(said=f"{self._spec.name} was not begun: {takes}")
                yield from (Finding(place, Outcome.TIMEOUT, reason) for place in places.tolist())

    def _affordable(self, todo: np.ndarray, budget: StageBudget) -> tuple[int, int]:
        """The number of samples in the next pass, and of iterations there is the time for; 0 for not even one."""
        sizes = sorted(self._pass)
        largest = next((size for size in sizes if size >= len(todo)), sizes[-1])
        for size in reversed([size for size in sizes if size <= largest]):
            left = budget.begin(todo[:size])()
            if self._pass[size] < left:
                more = (left - self._pass[size]) / max(self._step[size], 1e-9)
                return size, min(self._iterations, 1 + int(min(more, self._iterations)))
        return sizes[0], 0

    def _some(self, batch: Batch, places: np.ndarray, iterations: int, used: Callable[[], float]) -> Iterator[Finding]:
        """Bounds a batch, whose first samples are those at ``places``; the others fill it up."""
        began = used()
        with timed():
            margins, lost = self._margins(batch, iterations)
        seconds = used() - began
        self._learn(len(batch), iterations, seconds)
        late = iterations < self._iterations
        taken = f"{self._spec.name} took {iterations} of its {self._iterations} steps in the time that was left"
        reason = Reason.TIME_LIMIT.because(said=taken) if late else NO_REASON
        guarantee = self._how(iterations).guarantee(batch.task.model.network, batch.clauses)
        work = Work(evaluations=1)
        for i, place in enumerate(places.tolist()):
            proven = bool(is_proof(margins[i], lost[i]))
            outcome = Outcome.VERIFIED if proven else Outcome.TIMEOUT if late else Outcome.UNKNOWN
            said = "" if proven else reason
            numbers = float(margins[i]), float(lost[i])
            yield Finding(place, outcome, said, *numbers, None, guarantee, seconds / len(places), work)

    def _learn(self, size: int, iterations: int, seconds: float) -> None:
        """Takes in how long a pass took, if passes of its size are taken by the clock."""
        if size in self._pass and iterations == 1:
            self._pass[size] = seconds
        elif size in self._pass:
            self._step[size] = max(0.0, seconds - self._pass[size]) / (iterations - 1)

    def _margins(self, batch: Batch, iterations: int) -> tuple[np.ndarray, np.ndarray]:
        """Lower bounds of the margins ``[batch]``, NaN where nothing is known, and what rounding may take from each."""
        return margins_of(batch.task.model.network, batch.regions.proof, batch.clauses, self._how(iterations))

    def _how(self, iterations: int) -> CertifyingMethod:
        options = replace(self._options, iterations=iterations)
        return CertifyingMethod(self._spec.method, self._spec.relaxation, options)
