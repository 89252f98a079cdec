"""Entries of the catalog: the name of a part, what it can do, takes and costs, and where it is."""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Any, Generic, TypeVar

from tfcert.verdict import Guarantee


@dataclass(frozen=True)
class Option:
    """The type of one option.

    Attributes:
        kind: ``whole`` (at least ``least``), ``positive``, ``amount`` (at least 0), ``share`` (between 0 and 1, both
            excluded), ``time``, ``length`` (a distance between inputs, above 0), ``choice``, ``text``, ``flag``,
            ``column`` (a text or a whole number), ``columns`` (one or a list of them).
        choices: of a ``choice``, or a function that reads them from a table.
        least: of a ``whole``.
        default: what holds where the option is not given, as far as that is worth saying.
        about: what it is, as the command line's help says it.
    """

    kind: str
    choices: tuple[str, ...] | Callable[[], tuple[str, ...]] = ()
    least: int = 0
    default: int | float | str | bool | None = None
    about: str = ""

    @property
    def allowed(self) -> tuple[str, ...]:
        """The choices that there are now."""
        return self.choices() if callable(self.choices) else self.choices


Options = Mapping[str, Option]


def _object(where: str) -> Any:
    """The object that ``"module:object"`` names."""
    module, _, name = where.partition(":")
    return getattr(importlib.import_module(module), name)


class StageKind(StrEnum):
    """The kinds of stages: what a strategy can do with the samples that are still open."""

    ATTACK = "attack"
    """Looks for witnesses; proves nothing."""
    BOUND = "bound"
    """Proves that there is no witness; finds none. A batch at a time."""
    SOLVER = "solver"
    """Finds a witness or proves that there is none. One sample at a time, as long as its time lasts."""


@dataclass(frozen=True)
class Entry:
    """A part that can be chosen by its name.

    Attributes:
        name: as Python and the command line write it: ``crown-ibp``.
        where: ``"module:object"``, the object that does the work; "" where nothing is loaded.
    """

    name: str
    where: str = ""

    @property
    def supported(self) -> bool:
        """Tells whether it works yet: a name that does not is kept for what will be called so."""
        return True

    @property
    def word(self) -> str:
        """The name as a specification writes it: ``crown_ibp``."""
        return re.sub(r"[-+]", "_", self.name)

    def load(self) -> Any:
        """The object that does the work."""
        return _object(self.where)


@dataclass(frozen=True)
class RelaxationInfo(Entry):
    """A rule by which the lines around an activation are chosen.

    Attributes:
        methods: the methods that it goes with; empty for every one that relaxes.
        cost: of a stage with it, where that is not the stage's own; see :class:`StageSchema`.

    ``where`` is set where the rule is no choice of slopes that activations define but a method of its own, which then
    stands in for the one it is asked of.
    """

    methods: tuple[str, ...] = ()
    cost: str = ""


@dataclass(frozen=True)
class ReportInfo(Entry):
    """A text in which runs are told to other programs or readers.

    Attributes:
        about: what it is, as the end of a sentence that begins with "write".

    ``where`` names ``text(runs) -> str`` of a sequence of ``tfcert.report.runs.SpecRun``.
    """

    about: str = ""


@dataclass(frozen=True)
class RoundingInfo(Entry):
    """What proofs are about, as far as rounding goes.

    Attributes:
        guarantee: of a proof, where all that the network is made of is covered.
        about: what it is about, as a phrase.
    """

    guarantee: Guarantee = Guarantee.NUMERIC
    about: str = ""


@dataclass(frozen=True)
class MethodInfo(Entry):
    """A way to bound linear functions of a network's outputs from below.

    ``where`` names a ``propagation.methods.base.Method``, or, of a method that asks a solver, a
    ``propagation.methods.base.SolvedMethod``.

    Attributes:
        cost: of a stage that uses it; see :class:`StageSchema`.
        guarantee: of its bounds.
        relaxes: whether it can be told a relaxation.
        optimises: whether ``iterations`` and ``learning_rate`` are for it.
        asks_solver: whether it is a solver that bounds, not propagation.
        activations: those that it is defined for, where it is for networks without any other nonlinearity; else empty.
        options: of a stage that uses it, beside the relaxation.
        charges_rounding: whether it bounds rounded networks, each row by itself.
        charges_combined: and combinations of rows.
    """

    cost: str = "not estimated"
    guarantee: Guarantee = Guarantee.NUMERIC
    relaxes: bool = True
    optimises: bool = False
    asks_solver: bool = False
    activations: tuple[str, ...] = ()
    options: Options = field(default_factory=dict)
    charges_rounding: bool = False
    charges_combined: bool = False


@dataclass(frozen=True)
class NeuronBoundsInfo(Entry):
    """A way to bound the neurons of a program.

    Attributes:
        method: that propagates them.
        solver: what asks a solver for those that stay open after it: nothing, ``lp`` (linear programs) or
            ``progressive`` (integer programs after these).
    """

    method: str = ""
    solver: str = ""


@dataclass(frozen=True)
class AttackInfo(Entry):
    """A way to look for witnesses.

    ``where`` names a function with the arguments and results of ``attacks.gradient.pgd``: it proposes points.

    Attributes:
        cost: of a stage that uses it; see :class:`StageSchema`.
        restarts: whether more than one start may find more.
        norms: the balls that a stage may use it for; empty for all.
        options: of a stage that uses it.
    """

    cost: str = "not estimated"
    restarts: bool = True
    norms: tuple[str, ...] = ()
    options: Options = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StageSchema(Entry):
    """A stage of a strategy.

    ``where`` names the class that runs it: a ``driver.stages.base.Stage``.

    Attributes:
        kind: what it can do.
        norms: the balls that it can handle.
        options: what it takes, by name.
        cost: in words. Options stand in braces, ``{most}`` for its time, ``{second}``, ``{before}`` and
            ``{again}`` for what ``confirm``, ``bounds`` and ``prove`` add.
    """

    kind: StageKind
    norms: tuple[str, ...]
    options: Options = field(default_factory=dict)
    cost: str = "not estimated"


@dataclass(frozen=True, kw_only=True)
class DistanceInfo(Entry):
    """A way to tell how far each sample is from another class.

    ``where`` names a function of an ``estimates.question.DistanceQuestion`` that yields one ``DistanceAnswer`` a
    sample, in their order, each as soon as it is known.

    Attributes:
        title: what one of its numbers is called.
        promise: what such a number promises, as every output says it.
        proves: whether it finds distances within which no input is of another class.
        refutes: whether it finds inputs of another class. What does neither is an estimate.
        norms: in which it measures; the first is the usual one.
        clips: whether the valid range of an input matters to it.
        options: what it takes.
        cost: in words; options stand in braces.
        batch: how many samples it is asked about at once.
    """

    title: str
    promise: str
    proves: bool = False
    refutes: bool = False
    norms: tuple[str, ...]
    clips: bool = False
    options: Options = field(default_factory=dict)
    cost: str = "not estimated"
    batch: int = 1

    @property
    def estimates(self) -> bool:
        """Tells whether its numbers bound nothing."""
        return not (self.proves or self.refutes)

    def settled(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options by name: those given, and the defaults of the others that have one."""
        usual = {name: option.default for name, option in self.options.items() if option.default is not None}
        return usual | {name: given[name] for name in self.options if given.get(name) is not None}


@dataclass(frozen=True)
class SolverInfo(Entry):
    """A solver of linear and integer programs.

    ``where`` names a ``complete.solver.backends.SolverBackend``, loaded in the solver's process, without TensorFlow.

    Attributes:
        confirms_only: whether a specification may have it confirm what another one says, and no more: CBC with its own
            cuts and preprocessing was seen to lose the optimum.
        check: ``"module:object"``, a function that says in a sentence why it cannot be used on this machine, or ""
            where it can; for what no package of the dependencies brings.
    """

    confirms_only: bool = False
    check: str = ""

    def complaint(self) -> str:
        """A sentence that says why it cannot be used on this machine; "" if it can."""
        return str(_object(self.check)()) if self.check else ""


@dataclass(frozen=True)
class SourceInfo(Entry):
    """A source of samples or models.

    ``where`` names a function of the first argument, if there is one, and the options; "" where it does not work yet.

    Attributes:
        positional: what the first argument is: ``path`` of a file, ``folder``, ``choice``, ``text`` or "" for none.
        choices: of the first argument.
        options: the named arguments.
        range: of the stored values, if known.
        sizes: how many samples the training part has, by the first argument; none where that is not known.
        images: height and width of the samples that are images, by the first argument; none where that is not known.
        suffix: of the files that are read by it where only a path is given.
        gzipped: whether these may be gzipped, with ``.gz`` behind the suffix.
        columns: ``"module:object"``, a function of the path and the option ``label`` that names the columns of a table;
            the source then takes ``x``, the columns in the order in which a model's inputs are named.
    """

    positional: str = ""
    choices: tuple[str, ...] = ()
    options: Options = field(default_factory=dict)
    range: tuple[Fraction, Fraction] | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    images: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    suffix: str = ""
    gzipped: bool = False
    columns: str = ""

    def names_of(self, path: Any, label: Any) -> tuple[str, ...]:
        """The names of a table's columns but its label; none of a source without columns."""
        names: tuple[str, ...] = _object(self.columns)(path, label) if self.columns else ()
        return names

    @property
    def supported(self) -> bool:
        """Tells whether it works yet."""
        return bool(self.where)


@dataclass(frozen=True)
class FormatInfo(SourceInfo):
    """A format of models.

    ``where`` names its frontend: a ``network.frontend.Frontend``.

    Attributes:
        title: what one of its models is called, with its article.
        check: ``"module:object"``, a function of an existing file's path that says why it cannot be one of the format,
            or None; it needs no TensorFlow.
    """

    title: str = ""
    check: str = ""

    def complaint(self, path: Path) -> str | None:
        """A sentence that says why an existing file cannot be a model of the format; None if it may be one."""
        complaint: str | None = _object(self.check)(path) if self.check else None
        return complaint


E = TypeVar("E", bound=Entry)


class Table(Mapping[str, E], Generic[E]):
    """The entries of one kind by name, in the order in which they are told to users."""

    def __init__(self, kind: str, *entries: E):
        self.kind = kind
        self._entries = {entry.name: entry for entry in entries}
        self.changes = 0
        """How often parts were added and taken away, by which those that derive from a table see that it changed."""

    def _all(self) -> dict[str, E]:
        """The entries by name, with those that derive from other tables."""
        return self._entries

    def __getitem__(self, name: str) -> E:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def find(self, name: str) -> E:
        """The entry of a name.

        Raises:
            ValueError: there is none that works; says what there is.
        """
        entry = self.get(name)
        if entry is None or not entry.supported:
            known = ", ".join(other.name for other in self.values() if other.supported)
            raise ValueError(f"unknown {self.kind} {name!r}: one of {known}")
        return entry

    def load(self, name: str) -> Any:
        """The object behind a name; ValueError as :meth:`find`."""
        return self.find(name).load()

    def words(self) -> dict[str, E]:
        """The entries by the names that a specification uses."""
        return {entry.word: entry for entry in self._all().values()}

    def add(self, entry: E) -> None:
        """Adds a part.

        Raises:
            ValueError: the name is taken.
        """
        if entry.name in self or entry.word in self.words():
            raise ValueError(f"there is a {self.kind} {entry.name!r} already")
        self._entries[entry.name] = entry
        self.changes += 1

    @contextlib.contextmanager
    def added(self, entry: E) -> Iterator[None]:
        """Adds a part for as long as the context lasts."""
        self.add(entry)
        try:
            yield
        finally:
            del self._entries[entry.name]
            self.changes += 1
