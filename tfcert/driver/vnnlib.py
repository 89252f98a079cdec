"""A model and a VNN-LIB file: is there such an input? Answers as the verification competition has them.

Models stay loaded, with all that was traced of them, so that a process that answers many questions pays for a model
once.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from tfcert.complete.search.boxes import are_divided, may_divide
from tfcert.driver.bind import bind
from tfcert.driver.budget import Clock
from tfcert.driver.piecewise import PiecewiseRun
from tfcert.driver.property import PropertyRun
from tfcert.driver.stages.opened import OpenStages
from tfcert.driver.task import LoadedModel, Task
from tfcert.errors import UsageError
from tfcert.language import Strategy
from tfcert.language.spec.regions import parts_of_union
from tfcert.language.vnnlib.expressions import VnnlibError
from tfcert.language.vnnlib.questions import MODEL, VNNLIB_STRATEGY, decimal_within, few_inputs, vnnlib_spec
from tfcert.language.vnnlib.reader import VnnlibQuestion, read_vnnlib
from tfcert.loading import load_model
from tfcert.network import Network
from tfcert.network.cache import network_of
from tfcert.options import BoundOptions
from tfcert.sets.balls import Box
from tfcert.verdict import Outcome, Verdict


@dataclass(frozen=True)
class VnnlibAnswer:
    """The answer to a VNN-LIB file.

    Attributes:
        result: ``sat`` where a witness replays on the deployed program, ``unsat`` where it is proven that there is
            none, ``timeout`` or ``unknown``.
        inputs, outputs: of the witness, as decimal numbers; empty without one. The inputs lie in the box as exact
            numbers, and the program rounds them to those that it was run on.
        verdicts: those of the file's cases that were looked at, with stage, guarantee, margin and reason.
        seconds: that it took, loading and tracing included; ``loading``: those until the model and its network stood.
    """

    result: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    verdicts: tuple[Verdict, ...] = field(default=(), repr=False)
    seconds: float = 0.0
    loading: float = 0.0

    def text(self) -> str:
        """The answer in the competition's format: the result, and after ``sat`` an assignment of every variable."""
        if self.result != "sat":
            return self.result
        values = [(f"X_{i}", v) for i, v in enumerate(self.inputs)] + [
            (f"Y_{i}", v) for i, v in enumerate(self.outputs)
        ]
        lines = [f"({name} {value})" for name, value in values]
        return "sat\n(" + "\n ".join(lines) + ")"


class _WallClock(Clock):
    """A clock that does not stand still while stages are prepared: a time limit of a file is one of everything."""

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        yield


class VnnlibVerifier:
    """Answers VNN-LIB files, one after the other; models stay loaded.

    Args:
        strategy: the stages by which to decide; by default ``pgd -> crown -> split``, of boxes with few inputs
            ``split`` alone, which looks for witnesses itself.
    """

    def __init__(self, strategy: Strategy | None = None):
        self._strategy = strategy
        self._models: dict[Path, Any] = {}

    def answer(self, model: str | Path, query: str | Path, timeout: float | None = None) -> VnnlibAnswer:
        """The answer to one file.

        Args:
            model: the path of a model, of any format that :func:`tfcert.load_model` reads.
            query: the path of a ``.vnnlib`` or ``.vnnlib.gz`` file.
            timeout: seconds for everything from here on, loading included; None for no limit. No piece of work is begun
                that is expected to take longer than what is left; one that is at work is not broken off.

        Raises:
            UsageError: the file cannot be read, or speaks of other inputs or outputs than the model has.
            ModelLoadError, UnsupportedLayerError: the model cannot be used.
        """
        began = time.monotonic()
        try:
            question = read_vnnlib(Path(query))
        except VnnlibError as error:
            raise UsageError(str(error)) from error
        tasks = self._tasks(model, question, str(query), timeout)
        loaded = time.monotonic() - began
        verdicts: list[Verdict] = []
        for task in tasks:
            clock = _WallClock(None, task.template.strategy.seconds_total, time.monotonic() - began)
            with OpenStages(clock, BoundOptions()) as stages:
                run = (PiecewiseRun if task.pieces else PropertyRun)(task, stages)
                ((_, verdict),) = run.run()
            verdicts.append(verdict)
            if verdict.outcome is Outcome.VERIFIED:
                inputs, outputs = _assignment(task, verdict)
                return VnnlibAnswer("sat", inputs, outputs, tuple(verdicts), time.monotonic() - began, loaded)
        return VnnlibAnswer(_result(verdicts), (), (), tuple(verdicts), time.monotonic() - began, loaded)

    def _tasks(self, path: str | Path, question: VnnlibQuestion, name: str, timeout: float | None) -> tuple[Task, ...]:
        """What is asked of each group of boxes."""
        seconds = None if timeout is None else Fraction(timeout)
        known = Path(path).resolve()
        if known not in self._models:
            self._models[known] = load_model(path)
        strategy = self._strategy or _suited(question, network_of(self._models[known]), timeout)
        strategy = replace(strategy, seconds_total=seconds)
        bound = bind(vnnlib_spec(question, strategy, name), {MODEL: self._models[known]}, {})
        for task in bound.tasks:
            _require_sizes(question, task.model, name)
        return bound.tasks


def _suited(question: VnnlibQuestion, network: Network, timeout: float | None) -> Strategy:
    """The strategy for a question."""
    if question.inputs != int(np.prod(network.input_shape)) or not question.cases:  # refused later, or settled
        return VNNLIB_STRATEGY
    ends = np.array([[[float(end) for end in pair] for pair in case.bounds] for case in question.cases])
    boxes = Box(*(ends[:, :, k].reshape(-1, *network.input_shape) for k in (0, 1)))
    if not may_divide(network, boxes):
        return VNNLIB_STRATEGY
    return few_inputs(None if timeout is None or are_divided(network, boxes) else Fraction(timeout) / 2)


def _require_sizes(question: VnnlibQuestion, model: LoadedModel, name: str) -> None:
    for kind, declared, has in (
        ("inputs", question.inputs, int(np.prod(model.network.input_shape))),
        ("outputs", question.outputs, model.num_outputs),
    ):
        if declared != has:
            raise UsageError(f"{name} speaks of {declared} {kind}, and the model has {has}")
    if model.peeled:
        raise UsageError(
            f"{name}: the model ends in a softmax, whose bounds are those of its logits; a file about probabilities is "
            "not supported yet"
        )


def _result(verdicts: list[Verdict]) -> str:
    """The answer where no witness was found."""
    outcomes = {verdict.outcome for verdict in verdicts}
    if outcomes <= {Outcome.FALSIFIED}:
        return "unsat"
    return "timeout" if Outcome.TIMEOUT in outcomes else "unknown"


def _assignment(task: Task, verdict: Verdict) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A witness's inputs, as decimal numbers of its box that the program reads as the floats it was run on, and the
    program's outputs there."""
    assert verdict.witness is not None
    point = verdict.witness.ravel()
    outputs = task.model.outputs(verdict.witness[None])[0]
    for part in parts_of_union(task.template.region):
        ends = part.bounds  # type: ignore[union-attr]
        written = tuple(decimal_within(float(x), low, high) for x, (low, high) in zip(point, ends, strict=True))
        if (np.array([float(text) for text in written]).astype(point.dtype) == point).all():
            return written, tuple(repr(float(y)) for y in outputs)
    raise AssertionError("a witness lies in none of the boxes that it was found in")
