"""What a checked specification says: plain frozen data with exact numbers, ready to be bound to networks and data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from tfcert.language.check.options import STAGES, StageKind
from tfcert.language.spec.assertions import Assertion, ReportItem
from tfcert.language.spec.formula import (
    ArgIs,
    Constant,
    Formula,
    Label,
    evaluate,
    output_indices,
    uses_label,
    variable_term,
)
from tfcert.language.spec.lowering import lower, normalise, only_orders
from tfcert.language.spec.spaces import IDENTITY, Transform
from tfcert.language.text.diagnostics import Diagnostic, Span
from tfcert.verdict import Clause

if TYPE_CHECKING:
    from tfcert.language.spec.cells import Abstraction
    from tfcert.language.spec.objective import ObjectiveTemplate

Value = bool | int | Fraction | str
"""The value of a parameter or an option."""


@dataclass(frozen=True)
class Param:
    """A parameter with the value it ended up with (``--set`` wins over the text); its unit is "", px, % or deg."""

    name: str
    type: str
    value: Value
    unit: str = ""
    overridden: bool = False

    @property
    def shown(self) -> str:
        """The value with its unit, which is a part of what it means: 8% of a range are not 8/100."""
        if self.unit == "%":
            return f"{100 * Fraction(self.value)}%"
        units = {"": "", "px": "px", "deg": " radians"}
        return f"{self.value}{units.get(self.unit, ' of a percentage')}"


@dataclass(frozen=True)
class Model:
    """Where a network comes from and how its ends are named.

    Attributes:
        source: ``keras``, or ``bound`` for a name that only the caller knows.
        path: as written, relative to the folder of the specification; "" if only bound.
        bound: the caller binds this name; the path is not to be used.
        outputs: ``logits`` or ``probabilities``, or "" where the text does not say.
        output_names, input_names: in order; empty if not given.
        folder: the folder to which the path is relative ("" if the text came from no file).
    """

    name: str
    source: str
    path: str
    bound: bool
    outputs: str = ""
    output_names: tuple[str, ...] = ()
    input_names: tuple[str, ...] = ()
    mean: tuple[Fraction, ...] = ()
    std: tuple[Fraction, ...] = ()
    folder: str = ""
    span: Span = field(default=Span(), compare=False)


@dataclass(frozen=True)
class Dataset:
    """Where samples come from and in which spaces they are written.

    Attributes:
        source: ``npz``, ``csv``, ``digits``, ``mnist5k``, ``keras``, or ``bound``.
        path: the file of ``npz`` and ``csv``, the name of ``keras``; "" otherwise.
        bound: the caller binds this name; source and path are not to be used.
        options: the other arguments of the source, e.g. ``x``, ``y``, ``split``.
        take: at most so many samples, from the start; None for all.
        range: the valid interval of stored values, or None.
        transform: from stored values to network inputs, without the model's own normalisation.
    """

    name: str
    source: str
    path: str
    bound: bool
    options: tuple[tuple[str, Value], ...] = ()
    take: int | None = None
    range: tuple[Fraction, Fraction] | None = None
    transform: Transform = IDENTITY
    folder: str = ""
    span: Span = field(default=Span(), compare=False)


@dataclass(frozen=True)
class Stage:
    """One stage of a strategy: its name in the language (``crown_ibp``) and its options."""

    name: str
    options: tuple[tuple[str, Value], ...] = ()

    @property
    def method(self) -> str:
        """The name in Python: ``crown-ibp``, ``forward+backward``."""
        return "forward+backward" if self.name == "forward_backward" else self.name.replace("_", "-")

    @property
    def kind(self) -> StageKind:
        """What the stage can do."""
        return STAGES[self.name].kind

    @property
    def attacks(self) -> bool:
        """Whether the stage only looks for witnesses."""
        return self.kind is StageKind.ATTACK

    @property
    def solves(self) -> bool:
        """Whether the stage asks a solver, one sample at a time."""
        return self.kind is StageKind.SOLVER

    @property
    def relaxes(self) -> bool:
        """Whether the stage can be told a relaxation."""
        return "relaxation" in STAGES[self.name].options

    def option(self, name: str, default: Any = None) -> Any:
        """An option as it was given, or ``default``."""
        return dict(self.options).get(name, default)


@dataclass(frozen=True)
class Strategy:
    """Stages in order, and how much time and memory they may take.

    Attributes:
        seconds_per_sample, seconds_total: exact, or None for no limit.
        batch: samples at a time, or None to choose.
        dtype: ``float32`` or ``float64``.
    """

    name: str
    stages: tuple[Stage, ...]
    seconds_per_sample: Fraction | None = None
    seconds_total: Fraction | None = None
    batch: int | None = None
    dtype: str = "float32"


DEFAULT_STRATEGY = Strategy("default", (Stage("pgd"), Stage("ibp"), Stage("crown_ibp"), Stage("crown")))


@dataclass(frozen=True)
class Ball:
    """All inputs within ``eps`` of the sample in a norm, and ``within`` an interval if one is given.

    Attributes:
        norm: ``linf``, ``l2`` or ``l1``.
        eps: the radius; of a measure, its constant part (then the radius is ``eps + slope * r``).
        slope: 0 for a property; positive for a measure.
        within: valid interval of every input value, or None.
        space: ``raw``, ``unit`` or ``net``.
        within_space: the space of ``within``, where that is not the ball's own: ``raw`` where nothing was written
            and the data set declares a range.
    """

    norm: str
    eps: Fraction
    slope: Fraction
    within: tuple[Fraction, Fraction] | None
    space: str
    within_space: str | None = None

    @property
    def valid_space(self) -> str:
        """The space of ``within``."""
        return self.within_space or self.space

    def radius(self, r: Fraction | int | float = 0) -> Fraction:
        """The radius in the ball's own space, exact."""
        return self.eps + self.slope * Fraction(r)

    def net_eps(self, transform: Transform, r: Fraction | int | float = 0) -> tuple[Fraction, ...]:
        """The radius in network space: one number, or one for each channel (linf only)."""
        return transform.net_eps(self.space, self.radius(r))


@dataclass(frozen=True)
class Box:
    """All inputs between bounds.

    Attributes:
        bounds: one interval for every input, or a single one that holds for each of them.
            A ``within`` is already intersected with them.
        names: the inputs' names if the bounds were given by name, in the order of the bounds.
        space: ``raw``, ``unit`` or ``net``.
    """

    bounds: tuple[tuple[Fraction, Fraction], ...]
    names: tuple[str, ...]
    space: str

    def net_bounds(self, transform: Transform) -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]]:
        """Lower and upper bounds in network space: one for each input, or for each channel, or one for all."""
        lower = transform.net_values(self.space, tuple(low for low, _ in self.bounds))
        upper = transform.net_values(self.space, tuple(high for _, high in self.bounds))
        return lower, upper


Region = Ball | Box


def net_within(region: Region, transform: Transform) -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]] | None:
    """The valid interval of a ball in network space: (lows, highs), one number or one for each channel; or None."""
    if isinstance(region, Box) or region.within is None:
        return None
    low, high = region.within
    return transform.net_values(region.valid_space, (low,)), transform.net_values(region.valid_space, (high,))


@dataclass(frozen=True, kw_only=True)
class Template:
    """What properties and measures share: on all inputs of a region, a formula is to be proven of the outputs.

    Whether some input satisfies a formula is asked as whether all inputs satisfy its negation, with the answers
    exchanged: a witness against the negation says yes, a proof of it says no.

    Attributes:
        model, dataset: names in ``Spec.models`` and ``Spec.datasets``; no data set for a property without samples.
        sample, label: the variables of the samples, or None.
        where: which samples are asked about, a formula over the label, or None for all.
        take: at most so many of the selected samples, or None for all.
        region: the region, around the sample for a ball.
        transform: from stored values to network inputs.
        strategy: how to decide.
        formula: what is to be proven of the outputs (logits or named outputs) at every input of the region.
        existential: whether the question is about some input; then ``formula`` is the negation of what was written.
        text: the statement, pretty-printed.
        width: the width of the data set's declared range in the region's space, to tell radii as shares of; or None.
        abstraction: what the model stands behind: then the question is about the classifier made of both.
    """

    name: str
    model: str
    dataset: str | None
    sample: str | None
    label: str | None
    where: Formula | None
    take: int | None
    region: Region
    transform: Transform
    strategy: Strategy
    formula: Formula
    text: str
    existential: bool = False
    width: Fraction | None = None
    abstraction: Abstraction | None = None
    span: Span = field(default=Span(), compare=False)

    def clauses(self, num_outputs: int, label: int | float | None = None) -> tuple[Clause, ...]:
        """The formula as a conjunction of clauses; proving each of them everywhere proves the formula.

        A row's coefficients are exact; they may be a positive multiple of what is written where that is needed to
        make them so. Offsets are rounded down (see ``lowering``).

        Raises:
            TooManyClausesError, InexactRowError: the formula cannot be lowered for this number of outputs.
            IndexError: a named output or the label does not exist among ``num_outputs``.
            ValueError: the label is needed and is missing or no whole number.
        """
        return lower(self.formula, num_outputs, _exact_label(label))

    def holds(self, outputs: np.ndarray | Iterable[float], label: int | float | None = None) -> bool:
        """Whether the formula holds at concrete outputs (one vector), in exact arithmetic.

        Raises:
            ValueError: an output is NaN or infinite, or the label is missing.
            IndexError: as for ``clauses``.
        """
        return evaluate(self.formula, _exact_outputs(outputs), _exact_label(label))

    def sample_selected(self, label: int | float | None) -> bool:
        """Whether ``where`` selects a sample with this label."""
        return self.where is None or evaluate(self.where, (), _exact_label(label))

    @property
    def named_outputs(self) -> frozenset[int]:
        """Fixed output indices the formula names, to be checked against the loaded network."""
        return output_indices(self.formula)

    @property
    def needs_label(self) -> bool:
        """Whether the formula or ``where`` names the label."""
        return uses_label(self.formula) or (self.where is not None and uses_label(self.where))

    def only_orders(self, num_outputs: int, label: int | float | None = None) -> bool:
        """Whether the formula only says which output is larger: then it may be decided before a softmax.

        Raises:
            As for ``clauses``.
        """
        return only_orders(self.formula, num_outputs, _exact_label(label))

    def is_settled(self, num_outputs: int, label: int | float | None = None) -> bool:
        """Whether the formula is true, or false, whatever the outputs are: ``argmax(f) in {0, 1}`` of two outputs.

        Raises:
            As for ``clauses``.
        """
        return isinstance(normalise(self.formula, num_outputs, _exact_label(label)), Constant)

    @property
    def is_robustness(self) -> bool:
        """Whether the question is just ``argmax(f) == y`` for all inputs, or ``argmax(f) != y`` for some."""
        return self.formula == ArgIs("argmax", variable_term(Label()))


@dataclass(frozen=True, kw_only=True)
class PropertyTemplate(Template):
    """A ``property``."""


@dataclass(frozen=True, kw_only=True)
class MeasureTemplate(Template):
    """A ``measure``: the largest r in [lower, upper] such that the formula holds on the region of radius r.

    Where the question is about some input, the smallest r at which there is one. Both are one search: a value with a
    proof bounds either from below, a value with a witness from above.

    Attributes:
        lower, upper: in the region's space.
        tolerance: how exactly to find it; relative to the value if ``relative`` (written with ``%``, or not written).
    """

    lower: Fraction
    upper: Fraction
    tolerance: Fraction = Fraction(1, 10_000)
    relative: bool = True

    @property
    def extremum(self) -> str:
        """``largest`` or ``smallest``: what was asked for."""
        return "smallest" if self.existential else "largest"


def _exact_label(label: int | float | None) -> Fraction | None:
    if label is None:
        return None
    number = float(label)
    if not np.isfinite(number):
        raise ValueError(f"the label {label} is not a finite number")
    return Fraction(number)


def _exact_outputs(outputs: np.ndarray | Iterable[float]) -> list[Fraction]:
    values = np.asarray(outputs, dtype=np.float64).reshape(-1)
    if not np.isfinite(values).all():
        raise ValueError("an output is NaN or infinite: no formula can be evaluated on it")
    return [Fraction(float(v)) for v in values]


@dataclass(frozen=True)
class Spec:
    """A checked specification.

    Names of an imported specification carry its prefix: ``common.test``.

    Attributes:
        filename: under which it is reported.
        source_hash: SHA-256 of the text and of all imported texts.
        params, models, datasets, strategies, abstractions: by name, with those imported.
        properties, measures: by name, in the order of the text, with those imported that `check` names.
        objectives: likewise.
        assertions, reports: in the order of the text.
        warnings: findings that do not prevent use; ``.render()`` each.
        root: the folder to which paths are confined ("" if the text came from no file).
    """

    filename: str
    source_hash: str
    params: Mapping[str, Param]
    models: Mapping[str, Model]
    datasets: Mapping[str, Dataset]
    strategies: Mapping[str, Strategy]
    abstractions: Mapping[str, Abstraction]
    properties: Mapping[str, PropertyTemplate]
    measures: Mapping[str, MeasureTemplate]
    objectives: Mapping[str, ObjectiveTemplate]
    assertions: tuple[Assertion, ...]
    reports: tuple[ReportItem, ...]
    warnings: tuple[Diagnostic, ...]
    root: str = ""

    @property
    def judged_by_assertions(self) -> frozenset[str]:
        """Properties of whose verified or attack accuracy an assertion speaks: these are judged by it alone."""
        return frozenset(name for a in self.assertions for name in a.judged)
