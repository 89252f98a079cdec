"""A model and a VNN-LIB file: is there such an input? Answers as the verification competition has them.

Models stay loaded, with all that was traced of them, so that a process that answers many questions pays for a model
once.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
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
from tfcert.driver.typed import AssignedTensor, TypedTasks, interface_of
from tfcert.errors import UsageError
from tfcert.language import Strategy
from tfcert.language.spec.regions import parts_of_union
from tfcert.language.vnnlib.expressions import VnnlibError
from tfcert.language.vnnlib.numbers import decimal_within
from tfcert.language.vnnlib.prop_text import TypedTranslation, specification, untyped_questions
from tfcert.language.vnnlib.questions import MODEL, VNNLIB_STRATEGY, few_inputs, vnnlib_spec
from tfcert.language.vnnlib.reader import VnnlibQuestion, parse_vnnlib, read_text
from tfcert.language.vnnlib.typed import TypedQuery, parse_typed, version_of
from tfcert.loading import load_model
from tfcert.network import Network
from tfcert.network.cache import network_of
from tfcert.options import BoundOptions
from tfcert.sets.balls import Box
from tfcert.verdict import Guarantee, Outcome, Verdict

_Paths = str | Path | Mapping[str, str] | Mapping[str, Path]


@dataclass(frozen=True)
class VnnlibAnswer:
    """The answer to a VNN-LIB file.

    Attributes:
        result: ``sat`` where a witness replays on the deployed program, ``unsat`` where it is proven that there is
            none, ``timeout`` or ``unknown``.
        inputs, outputs: of the witness, as decimal numbers; empty without one. The inputs lie in the box as exact
            numbers, and the program rounds them to those that it was run on.
        tensors: of a query of version 2, in the place of these.
        verdicts: those of the file's cases that were looked at, with stage, guarantee, margin and reason.
        note: what else is to be said, in a sentence.
        seconds: that it took, loading and tracing included; ``loading``: those until the model and its network stood.
    """

    result: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    tensors: tuple[AssignedTensor, ...] = ()
    verdicts: tuple[Verdict, ...] = field(default=(), repr=False)
    note: str = ""
    seconds: float = 0.0
    loading: float = 0.0

    def text(self) -> str:
        """The result, and after ``sat`` the assignment: in the competition's format, or of version 2 the standard's."""
        if self.result != "sat":
            return self.result
        if self.tensors:
            return "\n".join(["sat", *(tensor.text() for tensor in self.tensors)])
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

    def answer(self, models: _Paths, query: str | Path, timeout: float | None = None) -> VnnlibAnswer:
        """The answer to one file.

        Args:
            models: the path of a model, of any format that :func:`tfcert.load_model` reads; or of a model for each
                network of a query of version 2, by name.
            query: the path of a ``.vnnlib`` or ``.vnnlib.gz`` file.
            timeout: seconds for everything from here on, loading included; None for no limit. No piece of work is begun
                that is expected to take longer than what is left; one that is at work is not broken off.

        Raises:
            UsageError: the file cannot be read, or speaks of other inputs or outputs than the model has.
            ModelLoadError, UnsupportedLayerError: the model cannot be used.
        """
        began = time.monotonic()
        try:
            asked = self._asked(models, Path(query), None if timeout is None else Fraction(timeout))
        except VnnlibError as error:
            raise UsageError(str(error)) from error
        loaded = time.monotonic() - began
        verdicts: list[Verdict] = []
        for task in asked.tasks:
            clock = _WallClock(None, task.template.strategy.seconds_total, time.monotonic() - began)
            with OpenStages(clock, BoundOptions()) as stages:
                run = (PiecewiseRun if task.pieces else PropertyRun)(task, stages)
                ((_, verdict),) = run.run()
            verdicts.append(verdict)
            if verdict.outcome is Outcome.VERIFIED:
                found = _sat(asked, task, verdict)
                return replace(found, verdicts=tuple(verdicts), seconds=time.monotonic() - began, loading=loaded)
        result, note = _result(verdicts), ""
        weak = [v.guarantee for v in verdicts if v.guarantee is not Guarantee.FLOAT32_ANY_ORDER]
        if result == "unsat" and asked.floats and weak:
            result = "unknown"
            note = (
                f"proven at the level `{weak[0]}`, which is no proof about {asked.floats}; of `real` numbers it is one"
            )
        return VnnlibAnswer(result, (), (), (), tuple(verdicts), note, time.monotonic() - began, loaded)

    def _asked(self, models: _Paths, query: Path, seconds: Fraction | None) -> UntypedTasks | TypedTasks:
        """The tasks of a file, by the version that it says."""
        text = read_text(query)
        try:
            if version_of(text) < (2, 0):
                if isinstance(models, Mapping):
                    raise VnnlibError("a file of version 1.0 is about one model without a name")
                question, model = parse_vnnlib(text), self._model(models)
                strategy = self._strategy or _suited(question, network_of(model), seconds)
                return UntypedTasks(question, (str(query), model), replace(strategy, seconds_total=seconds))
            typed = parse_typed(text)
            paths = models_of_query(typed, models)
            loaded = {name: (str(path), self._model(path)) for name, path in paths.items()}
            return TypedTasks(typed, loaded, replace(self._strategy or VNNLIB_STRATEGY, seconds_total=seconds))
        except VnnlibError as error:
            raise VnnlibError(f"{query}: {error}") from error

    def _model(self, path: str | Path) -> Any:
        known = Path(path).resolve()
        if known not in self._models:
            self._models[known] = load_model(path)
        return self._models[known]


def prop_of(models: str | Mapping[str, str], query: Path, named: Mapping[str, str]) -> str:
    """The text of a specification that asks what a file asks.

    Args:
        models: as :meth:`VnnlibVerifier.answer` takes them.
        named: what the specification calls the model of each path.

    Raises:
        UsageError: as for :meth:`VnnlibVerifier.answer`.
    """
    try:
        text = read_text(query)
        about = (
            f"what {query.name} asks: a property is verified where the answer is sat, and falsified where it is unsat"
        )
        if version_of(text) < (2, 0):
            if not isinstance(models, str):
                raise VnnlibError(f"{query}: a file of version 1.0 is about one model without a name")
            interface = interface_of(models, load_model(models))
            question = parse_vnnlib(text)
            require_sizes(
                question, sum(n for _, n in interface.inputs), sum(n for _, n in interface.outputs), str(query)
            )
            return specification({"clf": named[models]}, untyped_questions(question, interface.element), about)
        typed = parse_typed(text)
        paths = models_of_query(typed, models)
        interfaces = {
            name: replace(interface_of(str(path), load_model(path)), path=named[str(path)])
            for name, path in paths.items()
        }
        translated = TypedTranslation(typed, interfaces)
        return specification(translated.models, translated.questions(), about)
    except VnnlibError as error:
        raise UsageError(str(error)) from error


def models_of_query(query: TypedQuery, models: _Paths) -> dict[str, str | Path]:
    """The model of each network that has its own; a single model is that of the only one."""
    if isinstance(models, Mapping):
        return dict(models)
    own = [network.name for network in query.networks if not network.same]
    if len(own) > 1:
        raise VnnlibError(f"say which model is which of its networks {', '.join(own)}: --network NAME=FILE")
    return {own[0]: models}


class UntypedTasks:
    """What a file of version 1.0 asks of a model.

    Attributes:
        tasks: one for each group of boxes.
        floats: the type of numbers that a proof must be about; "" for any.

    Raises:
        UsageError: it speaks of other inputs or outputs than the model has.
    """

    floats = ""

    def __init__(self, question: VnnlibQuestion, named: tuple[str, Any], strategy: Strategy):
        name, model = named
        self.tasks = bind(vnnlib_spec(question, strategy, name), {MODEL: model}, {}).tasks
        for task in self.tasks:
            _require_sizes(question, task.model, name)


def _sat(asked: UntypedTasks | TypedTasks, task: Task, verdict: Verdict) -> VnnlibAnswer:
    """The answer that a witness is."""
    if isinstance(asked, TypedTasks):
        return VnnlibAnswer("sat", tensors=asked.assignment(task, verdict))
    inputs, outputs = _assignment(task, verdict)
    return VnnlibAnswer("sat", inputs, outputs)


def _suited(question: VnnlibQuestion, network: Network, timeout: Fraction | None) -> Strategy:
    """The strategy for a question."""
    if question.inputs != int(np.prod(network.input_shape)) or not question.cases:  # refused later, or settled
        return VNNLIB_STRATEGY
    ends = np.array([[[float(end) for end in pair] for pair in case.bounds] for case in question.cases])
    boxes = Box(*(ends[:, :, k].reshape(-1, *network.input_shape) for k in (0, 1)))
    if not may_divide(network, boxes):
        return VNNLIB_STRATEGY
    return few_inputs(None if timeout is None or are_divided(network, boxes) else Fraction(timeout) / 2)


def _require_sizes(question: VnnlibQuestion, model: LoadedModel, name: str) -> None:
    require_sizes(question, int(np.prod(model.network.input_shape)), model.num_outputs, name)
    if model.peeled:
        raise UsageError(
            f"{name}: the model ends in a softmax, whose bounds are those of its logits; a file about probabilities is "
            "not supported yet"
        )


def require_sizes(question: VnnlibQuestion, inputs: int, outputs: int, name: str) -> None:
    """Requires that a question is about as many inputs and outputs as a model has.

    Raises:
        UsageError: it is not.
    """
    for kind, declared, has in (("inputs", question.inputs, inputs), ("outputs", question.outputs, outputs)):
        if declared != has:
            raise UsageError(f"{name} speaks of {declared} {kind}, and the model has {has}")


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
