"""Norms, relaxations, methods, attacks, stages, solvers, sources of samples and formats of models: the choices.

Each kind is a table from names to entries. An entry says what its part can do, takes and costs, and where the object is
that does the work, as "module:object", which is imported when it is first asked for. The language, the command line,
``explain``, error messages and the tables of the docs read these tables; no list of names stands anywhere else.
"""

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
            excluded), ``time``, ``choice``, ``text``, ``flag``, ``column`` (a text or a whole number).
        choices: of a ``choice``, or a function that reads them from a table.
        least: of a ``whole``.
        default: what holds where the option is not given, as far as that is worth saying.
    """

    kind: str
    choices: tuple[str, ...] | Callable[[], tuple[str, ...]] = ()
    least: int = 0
    default: int | float | str | bool | None = None

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
        options: of a stage that uses it, beside the relaxation.
    """

    cost: str = "not estimated"
    guarantee: Guarantee = Guarantee.NUMERIC
    relaxes: bool = True
    optimises: bool = False
    asks_solver: bool = False
    options: Options = field(default_factory=dict)


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


@dataclass(frozen=True)
class StageSchema(Entry):
    """A stage of a strategy.

    ``where`` names the class that runs it: a ``driver.stages.base.Stage``.

    Attributes:
        kind: what it can do.
        options: what it takes, by name.
        norms: the balls that it can handle; empty for all.
        cost: in words. Options stand in braces, ``{most}`` for its time, ``{second}`` and ``{before}`` for what
            ``confirm`` and ``tighten`` add.
    """

    kind: StageKind = StageKind.BOUND
    options: Options = field(default_factory=dict)
    norms: tuple[str, ...] = ()
    cost: str = "not estimated"

    @property
    def allows(self) -> tuple[str, ...]:
        """The norms that it can handle."""
        return self.norms or tuple(NORMS)


@dataclass(frozen=True)
class SolverInfo(Entry):
    """A solver of linear and integer programs.

    ``where`` names a ``complete.solver.backends.SolverBackend``, loaded in the solver's process, without TensorFlow.

    Attributes:
        confirms_only: whether a specification may have it confirm what another one says, and no more: CBC with its own
            cuts and preprocessing was seen to lose the optimum.
    """

    confirms_only: bool = False


@dataclass(frozen=True)
class SourceInfo(Entry):
    """A source of samples or models.

    ``where`` names a function of the first argument, if there is one, and the options; "" where it does not work yet.

    Attributes:
        positional: what the first argument is: ``path``, ``choice`` or "" for none.
        choices: of the first argument.
        options: the named arguments.
        range: of the stored values, if known.
        sizes: how many samples the training part has, by the first argument; none where that is not known.
        suffix: of the files that are read by it where only a path is given.
        columns: ``"module:object"``, a function of the path and the option ``label`` that names the columns of a table;
            the source then takes ``x``, the columns in the order in which a model's inputs are named.
    """

    positional: str = ""
    choices: tuple[str, ...] = ()
    options: Options = field(default_factory=dict)
    range: tuple[Fraction, Fraction] | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    suffix: str = ""
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

    def __getitem__(self, name: str) -> E:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

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
        return {entry.word: entry for entry in self.values()}

    def add(self, entry: E) -> None:
        """Adds a part.

        Raises:
            ValueError: the name is taken.
        """
        if entry.name in self or entry.word in self.words():
            raise ValueError(f"there is a {self.kind} {entry.name!r} already")
        self._entries[entry.name] = entry

    @contextlib.contextmanager
    def added(self, entry: E) -> Iterator[None]:
        """Adds a part for as long as the context lasts."""
        self.add(entry)
        try:
            yield
        finally:
            del self._entries[entry.name]


class _Stages(Table[StageSchema]):
    """The stages: one for each attack and each method, and those that are entered, which may be a method's name."""

    def _all(self) -> dict[str, StageSchema]:
        attacks = {name: _attack_stage(attack) for name, attack in ATTACKS.items()}
        bounds = {name: _bound_stage(method) for name, method in METHODS.items()}
        entries = sorted((attacks | bounds | self._entries).values(), key=lambda schema: _ORDER.index(schema.kind))
        return {schema.name: schema for schema in entries}

    def __getitem__(self, name: str) -> StageSchema:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


_ORDER = list(StageKind)


def _attack_stage(attack: AttackInfo) -> StageSchema:
    """The stage that attacks in a way."""
    where = "tfcert.driver.stages.attack:AttackStage"
    return StageSchema(
        attack.name, where, kind=StageKind.ATTACK, options=attack.options, norms=attack.norms, cost=attack.cost
    )


def _bound_stage(method: MethodInfo) -> StageSchema:
    """The stage that proves by a method."""
    names = relaxations_of(method)
    relaxation = {"relaxation": Option("choice", names)} if names else {}
    where = "tfcert.driver.stages.bound:BoundStage"
    return StageSchema(method.name, where, options={**relaxation, **method.options}, cost=method.cost)


def relaxations_of(method: MethodInfo) -> tuple[str, ...]:
    """The relaxations that a method can be told."""
    found = (r.name for r in RELAXATIONS.values() if not r.methods or method.name in r.methods)
    return tuple(found) if method.relaxes else ()


S = TypeVar("S", bound=SourceInfo)


def suffixes(table: Table[S]) -> dict[str, S]:
    """The readers of files, by suffix."""
    return {source.suffix: source for source in table.values() if source.suffix and source.supported}


def of_file(table: Table[S], path: str) -> S | None:
    """The reader of a file, by its suffix; None where nothing is known of that."""
    return next((source for suffix, source in suffixes(table).items() if path.endswith(suffix)), None)


def propagated() -> tuple[str, ...]:
    """The methods that propagate bounds: all but those that ask a solver."""
    return tuple(method.name for method in METHODS.values() if not method.asks_solver)


def method_name(name: str) -> str:
    """A method's name as it is written here: ``crown_ibp``, as specifications write it, is ``crown-ibp``."""
    entry = METHODS.words().get(name)
    return name if entry is None else entry.name


def check_method(method: str, relaxation: str | None) -> None:
    """Checks that there is such a method, and that it takes the relaxation; whether activations define it is not known.

    Raises:
        ValueError: not so.
    """
    info = METHODS.find(method)
    if relaxation is None:
        return
    if info.asks_solver:
        raise ValueError(f"the method {method} takes no relaxation: it has the tightest of single neurons")
    methods = RELAXATIONS.find(relaxation).methods
    if methods and method not in methods:
        raise ValueError(f"the relaxation {relaxation} goes with {' and '.join(methods)}, not with {method}")


NORMS = Table("norm", Entry("linf"), Entry("l2"), Entry("l1"))

_ASCENT = "{iterations} gradient steps, each about 3 times a pass of crown"
RELAXATIONS = Table(
    "relaxation",
    RelaxationInfo("fastlin"),
    RelaxationInfo("crown"),
    RelaxationInfo("cnncert"),
    RelaxationInfo("deepcert"),
    RelaxationInfo("frown", "tfcert.propagation.methods.frown:FROWN", methods=("crown", "alpha-crown"), cost=_ASCENT),
    RelaxationInfo("adaptive"),
)

SOLVERS = Table(
    "solver",
    SolverInfo("cbc", "tfcert.complete.solver.backends:CBC"),
    SolverInfo("highs", "tfcert.complete.solver.backends:HIGHS"),
    SolverInfo("cbc-default", "tfcert.complete.solver.backends:CBC_DEFAULT", confirms_only=True),
)


def _solver_words() -> tuple[str, ...]:
    return tuple(word for word, solver in SOLVERS.words().items() if not solver.confirms_only)


_LINEAR: Options = {
    "time_limit": Option("time"),
    "solver": Option("choice", _solver_words, default="cbc"),
    "threads": Option("whole", least=1),
}
_OPTIMISER: Options = {"iterations": Option("whole", least=1), "learning_rate": Option("positive")}

METHODS = Table(
    "method",
    MethodInfo("ibp", "tfcert.propagation.methods.ibp:IBP", cost="about two runs of the network", relaxes=False),
    MethodInfo(
        "forward",
        "tfcert.propagation.methods.forward:FORWARD",
        cost="one run that carries a plane over the inputs for every neuron",
    ),
    MethodInfo(
        "forward+backward",
        "tfcert.propagation.methods.forward_backward:FORWARD_BACKWARD",
        cost="one forward run with planes, and one backward pass for the outputs",
    ),
    MethodInfo(
        "crown-ibp",
        "tfcert.propagation.methods.crown_ibp:CROWN_IBP",
        cost="two runs, and one backward pass for the outputs",
    ),
    MethodInfo(
        "crown",
        "tfcert.propagation.methods.crown:CROWN",
        cost="one backward pass for every neuron that may switch, and for the outputs",
    ),
    MethodInfo(
        "alpha-crown",
        "tfcert.propagation.methods.alpha_crown:ALPHA_CROWN",
        cost=_ASCENT,
        optimises=True,
        options=_OPTIMISER,
    ),
    MethodInfo(
        "lp",
        "tfcert.complete.bounds:LP",
        cost="a linear program over all neurons for each open clause, by {solver}, {most}",
        relaxes=False,
        asks_solver=True,
        options=_LINEAR,
    ),
    MethodInfo(
        "milp",
        "tfcert.complete.bounds:MILP",
        guarantee=Guarantee.SOLVER,
        relaxes=False,
        asks_solver=True,
        options=_LINEAR,
    ),
)

ATTACKS = Table(
    "attack",
    AttackInfo(
        "pgd",
        "tfcert.attacks.gradient:pgd",
        options={
            "steps": Option("whole", least=1, default=40),
            "restarts": Option("whole", least=1, default=3),
            "step_size": Option("positive"),
            "seed": Option("whole"),
        },
        cost="at most {restarts} x {steps} gradients a sample",
    ),
    AttackInfo("fgsm", "tfcert.attacks.gradient:fgsm", restarts=False, norms=("linf",), cost="one gradient"),
)

STAGES = _Stages(
    "stage",
    StageSchema(
        "milp",
        "tfcert.driver.stages.complete:CompleteStage",
        kind=StageKind.SOLVER,
        options={
            **_LINEAR,
            "gap": Option("share"),
            "confirm": Option("choice", lambda: tuple(SOLVERS.words())),
            "tighten": Option("choice", ("none", "lp", "progressive"), default="none"),
            "guided": Option("flag", default=True),
        },
        cost="an integer program for each open clause, on the word of {solver}{second}, {most}; its time may double "
        "with every neuron that may switch{before}",
    ),
    StageSchema(
        "split",
        "tfcert.driver.stages.complete:CompleteStage",
        kind=StageKind.SOLVER,
        options=_LINEAR,
        cost="branch and bound by the signs of neurons, {most}, with a linear program by {solver} where a piece needs "
        "it; its time may double with every neuron that may switch",
    ),
)

_SPLIT: Options = {"split": Option("choice", ("train", "test"), default="test")}
_BYTES = (Fraction(0), Fraction(255))
SOURCES = Table(
    "data source",
    SourceInfo(
        "npz",
        "tfcert.datasets.npz:npz",
        positional="path",
        options={"x": Option("text"), "y": Option("text")},
        suffix=".npz",
    ),
    SourceInfo(
        "csv",
        "tfcert.datasets.csv:csv",
        positional="path",
        options={"label": Option("column")},
        suffix=".csv",
        columns="tfcert.datasets.csv:csv_columns",
    ),
    SourceInfo(
        "digits",
        "tfcert.datasets.digits:digits",
        options=_SPLIT,
        range=(Fraction(0), Fraction(16)),
        sizes={"": 1438},
    ),
    SourceInfo("mnist5k", "tfcert.datasets.mnist5k:mnist5k", options=_SPLIT, range=_BYTES, sizes={"": 4000}),
    SourceInfo(
        "keras",
        "tfcert.datasets.keras:keras",
        positional="choice",
        choices=("mnist", "fashion_mnist", "cifar10"),
        options=_SPLIT,
        range=_BYTES,
        sizes={"mnist": 60_000, "fashion_mnist": 60_000, "cifar10": 50_000},
    ),
    SourceInfo("idx"),
    SourceInfo("images"),
    SourceInfo("tfds"),
)
FORMATS = Table(
    "model format",
    FormatInfo(
        "keras",
        "tfcert.network.keras.frontend:KERAS",
        positional="path",
        suffix=".keras",
        title="a Keras model",
        check="tfcert.model_files:keras_complaint",
    ),
    FormatInfo("onnx", positional="path", suffix=".onnx", title="an ONNX model"),
)
