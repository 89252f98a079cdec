"""Declarations of a specification: parameters, models, data sets, strategies; frozen data with exact numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from tfcert.catalog import STAGES, StageKind, StageSchema, with_fallback
from tfcert.language.spec.choice import Choice
from tfcert.language.spec.spaces import IDENTITY, Transform
from tfcert.language.text.diagnostics import Span

Value = bool | int | Fraction | str
"""The value of a parameter or an option."""
Columns = tuple[str | int, ...]
"""Columns of a table, by name or number."""


@dataclass(frozen=True)
class GivenValue:
    """A value for a parameter, and where it was given: for error messages."""

    value: Value | float
    origin: str

    def __str__(self) -> str:
        return ("true" if self.value else "false") if isinstance(self.value, bool) else str(self.value)


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
        units = {"": "", "px": "px", "deg": " radians", "s": " s", "m": " m", "kt": " m/s"}
        return f"{self.value}{units.get(self.unit, ' of a percentage')}"


@dataclass(frozen=True)
class ModelDeclaration:
    """A network's source, and the names of its ends.

    Attributes:
        source: ``keras``, or ``bound`` for a name that only the caller knows.
        path: as written, relative to the folder of the specification; "" if only bound.
        bound: the caller binds this name; the path is not to be used.
        outputs: ``logits`` or ``probabilities``, or "" where the text does not say.
        output_names, input_names: in order; empty if not given.
        output: which of several outputs is asked about, ``all`` for all as one vector; "" where that is not said.
        folder: the folder to which the path is relative ("" if the text came from no file).
        base: of a part of a model the name of that model; else "".
        layer: the layer whose values are asked about; "" for the outputs.
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
    output: str = ""
    base: str = ""
    layer: str = ""

    @property
    def whole(self) -> str:
        """The name of the model that it is, or is a part of."""
        return self.base or self.name


@dataclass(frozen=True)
class Dataset:
    """A source of samples, and the spaces in which they are written.

    Attributes:
        source: a name of ``catalog.SOURCES``, ``joined``, or ``bound``.
        path: the file of ``npz`` and ``csv``, the name of ``keras``; "" otherwise.
        bound: the caller binds this name; source and path are not to be used.
        parts: the data sets that are joined, in order.
        options: the other arguments of the source, e.g. ``x``, ``y``, ``split``.
        choice: which of the source's samples it holds.
        range: the valid interval of stored values, or None.
        transform: from stored values to network inputs, without the model's own normalisation.
    """

    name: str
    source: str
    path: str
    bound: bool
    options: tuple[tuple[str, Value | Columns], ...] = ()
    choice: Choice = ()
    range: tuple[Fraction, Fraction] | None = None
    transform: Transform = IDENTITY
    folder: str = ""
    span: Span = field(default=Span(), compare=False)
    parts: tuple[Dataset, ...] = ()


@dataclass(frozen=True)
class StageSpec:
    """One stage of a strategy: its name in the language (``crown_ibp``) and its options."""

    name: str
    options: tuple[tuple[str, Value], ...] = ()

    @property
    def method(self) -> str:
        """The name in Python: ``crown-ibp``, ``forward+backward``."""
        return self.schema.name

    @property
    def schema(self) -> StageSchema:
        """The catalog's entry of the stage."""
        return STAGES.words()[self.name]

    @property
    def kind(self) -> StageKind:
        """The kind of the stage."""
        return self.schema.kind

    @property
    def attacks(self) -> bool:
        """Tells whether the stage only looks for witnesses."""
        return self.kind is StageKind.ATTACK

    @property
    def solves(self) -> bool:
        """Tells whether the stage asks a solver, one sample at a time."""
        return self.kind is StageKind.SOLVER

    @property
    def relaxes(self) -> bool:
        """Tells whether the stage can be told a relaxation."""
        return "relaxation" in self.schema.options

    @property
    def relaxation(self) -> str | None:
        """The relaxation with its fallback, as passes are told; None where none is written.

        Raises:
            ValueError: a fallback without a relaxation, or of one that needs none.
        """
        return with_fallback(self.option("relaxation"), self.option("fallback"))

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
        rounding: what proofs are about (``tfcert.catalog.ROUNDINGS``), or None for the default.
    """

    name: str
    stages: tuple[StageSpec, ...]
    seconds_per_sample: Fraction | None = None
    seconds_total: Fraction | None = None
    batch: int | None = None
    dtype: str = "float32"
    rounding: str | None = None


DEFAULT_STRATEGY = Strategy("default", (StageSpec("pgd"), StageSpec("ibp"), StageSpec("crown_ibp"), StageSpec("crown")))
