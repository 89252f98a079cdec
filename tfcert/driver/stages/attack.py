"""Stages that look for witnesses: gradient steps on the original model, in the time that there is."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from tfcert.attacks import Attacks, falsify
from tfcert.attacks.conditions import limits
from tfcert.attacks.gradient import Left, endless
from tfcert.attacks.search import trace_attack
from tfcert.driver.batch import Batch, broken, make_batch
from tfcert.driver.budget import StageBudget
from tfcert.driver.stages.base import Finding, Tell
from tfcert.driver.task import Task
from tfcert.language import StageSpec
from tfcert.language.spec.declarations import Value
from tfcert.options import BoundOptions
from tfcert.verdict import NO_REASON, Outcome, Reason, Work

_AT_ONCE = 0.25
"""Where the time is limited, so many samples are attacked together that a gradient of all takes so many seconds."""
_TIMED = 8
"""Samples at most by which the speed is measured."""


@dataclass(frozen=True)
class AttackStage:
    """A stage such as ``pgd``; it claims witnesses and proves nothing."""

    spec: StageSpec

    def refuses(self, task: Task) -> str:
        """Nothing: whatever can be loaded can be attacked."""
        return ""

    @contextlib.contextmanager
    def open(self, task: Task, options: BoundOptions) -> Iterator[RunningAttack]:
        """Traces the steps, for any number of samples, and measures how long one takes."""
        running = RunningAttack(self.spec)
        running.prepare(make_batch(task.take(np.arange(min(len(task.samples), _TIMED)))))
        yield running


class RunningAttack:
    """Attacks batches: at once or, where the time is limited, as many samples together as suits the clock."""

    def __init__(self, spec: StageSpec):
        self._spec = spec
        self._options: dict[str, Any] = {name: _plain(value) for name, value in spec.options}
        self._seconds = 0.0  # of one gradient of one sample

    def prepare(self, batch: Batch) -> None:
        """Takes one step on some samples, and another one by the clock once all is traced."""
        if batch.regions.witness is None:
            return
        loaded = batch.task.model
        trace_attack(loaded.model, batch.regions.witness, loaded.network if loaded.peeled else None)
        for _ in range(2):
            began = time.monotonic()
            attacks = self._falsify(batch, endless, steps=1, restarts=1, points=1)
            self._seconds = (time.monotonic() - began) / max(1, int(attacks.gradients.sum()))

    def decide(self, batch: Batch, budget: StageBudget, tell: Tell) -> Iterator[Finding]:
        """Witnesses that the attack claims; whoever asked replays them."""
        if batch.regions.witness is None:  # no input of the model's type lies in the region
            yield from (Finding(place) for place in range(len(batch)))
            return
        size = max(1, int(_AT_ONCE / max(self._seconds, 1e-9))) if budget.limited else len(batch)
        for first in range(0, len(batch), size):
            places = np.arange(first, min(first + size, len(batch)))
            yield from self._some(batch.take(places), places, (budget.begin(places), budget.used))

    def _some(self, part: Batch, places: np.ndarray, clock: tuple[Left, Callable[[], float]]) -> Iterator[Finding]:
        left, used = clock
        if self._seconds * len(places) >= left():
            said = f"{self._spec.name} was not begun: the time that was left does not suffice for a step"
            reason = Reason.TIME_LIMIT.because(said=said)
            yield from (Finding(place, Outcome.TIMEOUT, reason) for place in places.tolist())
            return
        began = used()
        attacks = self._falsify(part, left)
        seconds = (used() - began) / len(places)
        outcome, reason = Outcome.UNKNOWN, NO_REASON
        if attacks.late:
            said = f"{self._spec.name} found no witness in the time that was left"
            outcome, reason = Outcome.TIMEOUT, Reason.TIME_LIMIT.because(said=said)
        for i, place in enumerate(places.tolist()):
            work = Work(gradients=int(attacks.gradients[i]))
            if attacks.success[i]:
                yield Finding(place, Outcome.FALSIFIED, witness=attacks.witness[i], seconds=seconds, work=work)
            else:
                yield Finding(place, outcome, reason, seconds=seconds, work=work)

    def _falsify(self, batch: Batch, left: Left, **options: Any) -> Attacks:
        loaded, region = batch.task.model, batch.regions.witness
        assert region is not None
        return falsify(
            loaded.model,
            region,
            batch.clauses,
            network=loaded.network if loaded.peeled else None,
            holds=lambda outputs, places: ~broken(batch.take(places), outputs.reshape(len(outputs), -1)),
            left=left,
            conditions=limits(loaded.network, batch.clauses) or (),
            method=self._spec.method,
            **self._options | options,
        )


def _plain(value: Value) -> bool | int | float | str:
    return float(value) if isinstance(value, Fraction) else value
