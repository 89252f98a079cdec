"""Norms, relaxations, methods, attacks, stages, solvers, sources of samples and formats of models: the choices.

Each kind is a table from names to entries. An entry says what its part can do, takes and costs, and where the object is
that does the work, as "module:object", which is imported when it is first asked for. The language, the command line,
``explain``, error messages and the tables of the docs read these tables; no list of names stands anywhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, TypeVar

from tfcert.entries import (
    AttackInfo,
    DistanceInfo,
    Entry,
    FormatInfo,
    MethodInfo,
    NeuronBoundsInfo,
    Option,
    Options,
    RelaxationInfo,
    ReportInfo,
    RoundingInfo,
    SolverInfo,
    SourceInfo,
    StageKind,
    StageSchema,
    Table,
)
from tfcert.verdict import Guarantee


class _Stages(Table[StageSchema]):
    """The stages: one for each attack and each method, and those that are entered, which may be a method's name."""

    _made: dict[str, StageSchema] | None = None
    _made_at: tuple[int, ...] = ()

    def _all(self) -> dict[str, StageSchema]:
        changes = tuple(table.changes for table in (self, ATTACKS, METHODS, RELAXATIONS, NORMS))
        if self._made is None or self._made_at != changes:
            self._made, self._made_at = self._derived(), changes
        return self._made

    def _derived(self) -> dict[str, StageSchema]:
        attacks = {name: _attack_stage(attack) for name, attack in ATTACKS.items()}
        bounds = {name: _bound_stage(method) for name, method in METHODS.items()}
        entries = sorted((attacks | bounds | self._entries).values(), key=lambda schema: _ORDER.index(schema.kind))
        return {schema.name: schema for schema in entries}


_ORDER = list(StageKind)


def _attack_stage(attack: AttackInfo) -> StageSchema:
    """The stage that attacks in a way."""
    where = "tfcert.driver.stages.attack:AttackStage"
    norms = attack.norms or tuple(NORMS)
    return StageSchema(attack.name, where, kind=StageKind.ATTACK, norms=norms, options=attack.options, cost=attack.cost)


def _bound_stage(method: MethodInfo) -> StageSchema:
    """The stage that proves by a method."""
    names = relaxations_of(method)
    relaxation = {"relaxation": Option("choice", names), "fallback": Option("choice", FALLBACKS)} if names else {}
    where = "tfcert.driver.stages.bound:BoundStage"
    options = {**relaxation, **method.options}
    return StageSchema(method.name, where, kind=StageKind.BOUND, norms=tuple(NORMS), options=options, cost=method.cost)


def relaxations_of(method: MethodInfo) -> tuple[str, ...]:
    """The relaxations that a method can be told."""
    found = (r.name for r in RELAXATIONS.values() if not r.methods or method.name in r.methods)
    return tuple(found) if method.relaxes else ()


S = TypeVar("S", bound=SourceInfo)


def suffixes(table: Table[S]) -> dict[str, S]:
    """The readers of files, by suffix."""
    known = [source for source in table.values() if source.suffix and source.supported]
    return {f"{source.suffix}{end}": source for source in known for end in (("", ".gz") if source.gzipped else ("",))}


def of_file(table: Table[S], path: str) -> S | None:
    """The reader of a file, by its suffix; None where nothing is known of that."""
    return next((source for suffix, source in suffixes(table).items() if path.endswith(suffix)), None)


def propagated() -> tuple[str, ...]:
    """The methods that propagate bounds: all but those that ask a solver."""
    return tuple(method.name for method in METHODS.values() if not method.asks_solver)


def distance_attacks() -> tuple[str, ...]:
    """The attacks that look for the nearest input of another class."""
    return tuple(info.name for info in DISTANCES.values() if info.refutes and not info.proves)


def optimises(method: str, relaxation: str | None = None) -> bool:
    """Tells whether bounds are looked for by gradient, with so many ``iterations`` and a ``learning_rate``."""
    searched = relaxation is not None and bool(relaxation_info(relaxation).where)
    return METHODS.find(method).optimises or searched


def method_name(name: str) -> str:
    """A method's name as it is written here: ``crown_ibp``, as specifications write it, is ``crown-ibp``."""
    entry = METHODS.words().get(name)
    return name if entry is None else entry.name


def with_fallback(relaxation: str | None, fallback: str | None) -> str | None:
    """A relaxation's name with its fallback: ``deepcert+adaptive``, by which passes are told and results call it.

    Raises:
        ValueError: there is no relaxation that could lack a rule, or no such fallback.
    """
    if fallback is None:
        return relaxation
    if relaxation is None:
        raise ValueError("a fallback is for activations that lack a rule of a relaxation: name that relaxation, too")
    relaxation_info(f"{relaxation}+{fallback}")
    return f"{relaxation}+{fallback}"


def relaxation_info(relaxation: str) -> RelaxationInfo:
    """The entry of a relaxation, with a fallback in its name or without.

    Raises:
        ValueError: there is no such relaxation or fallback, or it needs none.
    """
    named, plus, fallback = relaxation.partition("+")
    info = RELAXATIONS.find(named)
    if plus and fallback not in FALLBACKS:
        raise ValueError(f"unknown fallback {fallback!r}: one of {', '.join(FALLBACKS)}")
    if plus and (info.where or named in FALLBACKS):
        raise ValueError(f"the relaxation {named} takes no fallback: every activation has it")
    return info


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
    if info.activations:
        raise ValueError(f"the method {method} takes no relaxation: its lines are those of its paper")
    methods = relaxation_info(relaxation).methods
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

ROUNDINGS = Table(
    "rounding",
    RoundingInfo("deployed", guarantee=Guarantee.FLOAT32_ANY_ORDER, about="the network as its floating point runs it"),
    RoundingInfo("real", guarantee=Guarantee.REAL, about="the network in exact arithmetic"),
    RoundingInfo("ignore", guarantee=Guarantee.NUMERIC, about="the network, with rounding estimated and not bounded"),
)
"""What proofs are about: the names of ``tfcert.BoundOptions``'s ``rounding``."""


def roundings_told() -> str:
    """What proofs are about under each name, as the command line's help says it."""
    return "; ".join(f"{name}: {each.about}" for name, each in ROUNDINGS.items())


FALLBACKS = ("adaptive",)
"""What may stand in where an activation lacks the rule of a relaxation: its default."""

SOLVERS = Table(
    "solver",
    SolverInfo("cbc", "tfcert.complete.solver.backends:CBC"),
    SolverInfo("highs", "tfcert.complete.solver.backends:HIGHS"),
    SolverInfo(
        "gurobi", "tfcert.complete.solver.backends:GUROBI", check="tfcert.complete.solver.backends:gurobi_complaint"
    ),
    SolverInfo("cbc-default", "tfcert.complete.solver.backends:CBC_DEFAULT", confirms_only=True),
)


def _solver_words() -> tuple[str, ...]:
    return tuple(word for word, solver in SOLVERS.words().items() if not solver.confirms_only)


_LINEAR: Options = {
    "time_limit": Option("time", about="seconds a sample"),
    "solver": Option("choice", _solver_words, default="cbc", about="of linear and integer programs"),
    "threads": Option("whole", least=1, about="of the solver"),
}
_OPTIMISER: Options = {"iterations": Option("whole", least=1), "learning_rate": Option("positive")}

METHODS = Table(
    "method",
    MethodInfo(
        "ibp",
        "tfcert.propagation.methods.ibp:IBP",
        cost="about two runs of the network",
        relaxes=False,
        charges_rounding=True,
        charges_combined=True,
    ),
    MethodInfo(
        "forward",
        "tfcert.propagation.methods.forward:FORWARD",
        cost="one run that carries a plane over the inputs for every neuron",
        charges_rounding=True,
    ),
    MethodInfo(
        "forward+backward",
        "tfcert.propagation.methods.forward_backward:FORWARD_BACKWARD",
        cost="one forward run with planes, and one backward pass for the outputs",
        charges_rounding=True,
    ),
    MethodInfo(
        "crown-ibp",
        "tfcert.propagation.methods.crown_ibp:CROWN_IBP",
        cost="two runs, and one backward pass for the outputs",
        charges_rounding=True,
        charges_combined=True,
    ),
    MethodInfo(
        "crown",
        "tfcert.propagation.methods.crown:CROWN",
        cost="one backward pass for every neuron that may switch, and for the outputs",
        charges_rounding=True,
        charges_combined=True,
    ),
    MethodInfo(
        "dual-lp",
        "tfcert.propagation.methods.dual_lp:DUAL_LP",
        cost="one pass through the dual network for every neuron, and for the outputs",
        relaxes=False,
        activations=("relu",),
        charges_rounding=True,
        charges_combined=True,
    ),
    MethodInfo(
        "alpha-crown",
        "tfcert.propagation.methods.alpha_crown:ALPHA_CROWN",
        cost=_ASCENT,
        optimises=True,
        options=_OPTIMISER,
        charges_rounding=True,
        charges_combined=True,
    ),
    MethodInfo(
        "symbolic",
        "tfcert.propagation.methods.symbolic:SYMBOLIC",
        cost="one run that carries two equations of the inputs for every neuron",
        relaxes=False,
        activations=("relu",),
        charges_rounding=True,
    ),
    MethodInfo(
        "lp",
        "tfcert.complete.bounds:LP",
        cost="a linear program over all neurons for each open clause, by {solver}, {most}",
        relaxes=False,
        asks_solver=True,
        options=_LINEAR,
        charges_rounding=True,
        charges_combined=True,
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

BOUNDS = Table(
    "bounds",
    NeuronBoundsInfo("interval", method="crown-ibp"),
    NeuronBoundsInfo("symbolic", method="symbolic"),
    NeuronBoundsInfo("forward", method="forward+backward"),
    NeuronBoundsInfo("crown", method="crown"),
    NeuronBoundsInfo("lp", method="crown", solver="lp"),
    NeuronBoundsInfo("progressive", method="crown-ibp", solver="progressive"),
)
"""The methods are those whose bounds of neurons are meant: ``crown-ibp`` has intervals."""

ATTACKS = Table(
    "attack",
    AttackInfo(
        "pgd",
        "tfcert.attacks.gradient:pgd",
        options={
            "steps": Option("whole", least=1, default=40),
            "restarts": Option("whole", least=1, default=3),
            "step_size": Option("positive"),
            "loss": Option("choice", ("margin", "cross_entropy"), default="margin"),
            "seed": Option("whole"),
        },
        cost="at most {restarts} x {steps} gradients a sample",
    ),
    AttackInfo("fgsm", "tfcert.attacks.gradient:fgsm", restarts=False, norms=("linf",), cost="one gradient"),
)

GUIDES = Table(
    "guide",
    Entry("pgd", "tfcert.complete.search.witness:PGD"),
    Entry("pgd_cross_entropy", "tfcert.complete.search.witness:PGD_CROSS_ENTROPY"),
    Entry("cw", "tfcert.attacks.minimal:CW"),
    Entry("ead", "tfcert.attacks.minimal:EAD"),
    Entry("fmn", "tfcert.attacks.minimal:FMN"),
)
"""Attacks whose witness confines a search for a least perturbation: functions with the arguments and results of
``complete.search.witness.nearest_witnesses``."""

_GUIDE: Options = {
    "guide": Option("choice", lambda: tuple(GUIDES.words())),
    "targets": Option("choice", ("all", "runner_up"), default="all"),
}

STAGES = _Stages(
    "stage",
    StageSchema(
        "milp",
        "tfcert.driver.stages.complete:CompleteStage",
        kind=StageKind.SOLVER,
        norms=tuple(NORMS),
        options={
            **_LINEAR,
            "gap": Option("share"),
            "confirm": Option("choice", lambda: tuple(SOLVERS.words())),
            "prove": Option("flag", default=False),
            "bounds": Option("choice", lambda: tuple(BOUNDS.words()), default="crown"),
            "tighten": Option("choice", ("none", "lp", "progressive"), default="none"),
            "guided": Option("flag", default=True),
            **_GUIDE,
        },
        cost="an integer program for each open clause, on the word of {solver}{second}, {most}; its time may double "
        "with every neuron that may switch{before}{again}",
    ),
    StageSchema(
        "split",
        "tfcert.driver.stages.complete:CompleteStage",
        kind=StageKind.SOLVER,
        norms=tuple(NORMS),
        options={**_LINEAR, "cut": Option("choice", ("auto", "inputs", "neurons"), default="auto"), **_GUIDE},
        cost="branch and bound by the signs of neurons, {most}, or by inputs where few of a box may move, with a "
        "linear program by {solver} where a piece needs it; its time may double with every neuron that may switch",
    ),
)

_TARGETS: Options = {
    "targets": Option(
        "choice",
        ("all", "runner_up", "least", "random"),
        default="all",
        about="which classes count: all others, or only the likeliest, the least likely, or a random one of the rest",
    )
}
_STEPS: Options = {"steps": Option("whole", least=1, default=150, about="gradient steps of each search")}
_SEARCHES: Options = {
    "searches": Option("whole", least=1, default=6, about="searches, for a constant that weighs distance and margin")
}
_NEAREST: Mapping[str, Any] = {
    "promise": "an upper bound by witness",
    "refutes": True,
    "clips": True,
    "batch": 100,
}
DISTANCES = Table(
    "distance",
    DistanceInfo(
        "clever",
        "tfcert.estimates.clever:clever_answers",
        title="CLEVER score",
        promise="an estimate, not a guarantee",
        norms=("l2", "linf", "l1"),
        options={
            "radius": Option("length", about="of the ball sampled, which no score exceeds (5; of l1 40)"),
            "batches": Option("whole", least=10, default=100, about="maxima that the fit is made to; papers take 500"),
            "samples": Option("whole", least=1, default=256, about="points to a maximum; papers take 1024"),
            "seed": Option("whole", default=0, about="of the points"),
            **_TARGETS,
        },
        cost="{batches} x {samples} gradients for each class",
        batch=10,
    ),
    DistanceInfo(
        "cw",
        "tfcert.estimates.distances:attack_answers",
        title="Carlini-Wagner attack distance",
        norms=("l2",),
        options={**_STEPS, **_SEARCHES, **_TARGETS},
        cost="{searches} x {steps} gradients for 100 samples at once, each step run op by op",
        **_NEAREST,
    ),
    DistanceInfo(
        "ead",
        "tfcert.estimates.distances:attack_answers",
        title="elastic-net attack distance",
        norms=("l1",),
        options={**_STEPS, **_SEARCHES, **_TARGETS},
        cost="{searches} x {steps} gradients for 100 samples at once, each step run op by op",
        **_NEAREST,
    ),
    DistanceInfo(
        "fmn",
        "tfcert.estimates.distances:attack_answers",
        title="fast-minimum-norm attack distance",
        norms=("linf", "l2", "l1"),
        options={**_STEPS, **_TARGETS},
        cost="{steps} gradients for 100 samples at once, each step run op by op",
        **_NEAREST,
    ),
    DistanceInfo(
        "global-lipschitz",
        "tfcert.estimates.lipschitz:lipschitz_answers",
        title="certified radius by a global Lipschitz constant",
        promise="a guarantee, and a loose one",
        proves=True,
        norms=("linf", "l2", "l1"),
        options=_TARGETS,
        cost="one run of the network, and the norms of its layers",
        batch=100,
    ),
    DistanceInfo(
        "minimum",
        "tfcert.estimates.minimum:minimum_answers",
        title="minimum perturbation",
        promise="between a proven lower bound and the distance of a witness",
        proves=True,
        refutes=True,
        norms=("linf", "l2", "l1"),
        clips=True,
        options={
            "upper": Option("length", about="how far to look, where the valid range does not say"),
            **_LINEAR,
            "search": Option(
                "choice",
                ("split", "milp", "plain"),
                default="split",
                about="how to decide: branch and bound, integer programs, or one such program without an attack",
            ),
            "bounds": Option(
                "choice",
                lambda: tuple(BOUNDS.words()),
                default="crown",
                about="of the neurons, before the search",
            ),
            "guide": Option(
                "choice", lambda: tuple(GUIDES.words()), default="pgd", about="the attack that confines the search"
            ),
            "rounding": Option(
                "choice",
                tuple(ROUNDINGS),
                default="deployed",
                about=f"what lower bounds are about: {roundings_told()}",
            ),
            **_TARGETS,
        },
        cost="an attack, and {search} for each sample; its time may double with every neuron that may switch",
        batch=100,
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
        options={"x": Option("columns"), "y": Option("text")},
        suffix=".npz",
    ),
    SourceInfo(
        "csv",
        "tfcert.datasets.csv:csv",
        positional="path",
        options={"x": Option("columns"), "label": Option("column")},
        suffix=".csv",
        columns="tfcert.datasets.csv:csv_columns",
    ),
    SourceInfo(
        "digits",
        "tfcert.datasets.digits:digits",
        options=_SPLIT,
        range=(Fraction(0), Fraction(16)),
        sizes={"": 1438},
        images={"": (8, 8)},
    ),
    SourceInfo(
        "mnist5k",
        "tfcert.datasets.mnist5k:mnist5k",
        options=_SPLIT,
        range=_BYTES,
        sizes={"": 4000},
        images={"": (28, 28)},
    ),
    SourceInfo(
        "keras",
        "tfcert.datasets.keras:keras",
        positional="choice",
        choices=("mnist", "fashion_mnist", "cifar10"),
        options=_SPLIT,
        range=_BYTES,
        sizes={"mnist": 60_000, "fashion_mnist": 60_000, "cifar10": 50_000},
        images={"mnist": (28, 28), "fashion_mnist": (28, 28), "cifar10": (32, 32)},
    ),
    SourceInfo(
        "svhn",
        "tfcert.datasets.public:svhn",
        options={"split": Option("choice", ("train", "test", "extra"), default="test")},
        range=_BYTES,
        sizes={"": 73_257},
    ),
    SourceInfo(
        "mat",
        "tfcert.datasets.mat:mat",
        positional="path",
        options={"x": Option("text"), "y": Option("text"), "zero": Option("whole")},
        suffix=".mat",
    ),
    SourceInfo("idx", "tfcert.datasets.idx:idx", positional="path", suffix="-ubyte", gzipped=True),
    SourceInfo(
        "images",
        "tfcert.datasets.images:images",
        positional="folder",
        options={
            "height": Option("whole", least=1),
            "width": Option("whole", least=1),
            "resize": Option("choice", ("refuse", "stretch", "crop"), default="refuse"),
            "channels": Option("whole", least=1),
        },
        range=_BYTES,
    ),
    SourceInfo(
        "tfds",
        "tfcert.datasets.tfds:tfds",
        positional="text",
        options={"split": Option("text", default="test"), "folder": Option("text")},
    ),
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
    FormatInfo(
        "onnx",
        "tfcert.network.onnx.frontend:ONNX",
        positional="path",
        suffix=".onnx",
        title="an ONNX model",
        check="tfcert.model_files:onnx_complaint",
    ),
    FormatInfo("tflite", positional="path", suffix=".tflite", title="a TensorFlow Lite model"),
)
REPORTS = Table(
    "report format",
    ReportInfo(
        "html", "tfcert.report.formats.page:page_text", about="a page for readers, in one file that needs no network"
    ),
    ReportInfo("junit", "tfcert.report.formats.junit:junit_text", about="what is judged, as a JUnit test report"),
    ReportInfo(
        "sarif",
        "tfcert.report.formats.sarif:sarif_text",
        about="what is judged, as SARIF, which annotates the lines of a pull request",
    ),
    ReportInfo("github", "tfcert.report.formats.github:github_text", about="the same as lines that GitHub reads"),
    ReportInfo("json", "tfcert.report.formats.json:json_text", about="the results themselves, of several together"),
    ReportInfo("csv", "tfcert.report.formats.csv:csv_text", about="a line for each answer"),
    ReportInfo(
        "markdown", "tfcert.report.formats.markdown:markdown_text", about="tables for a comment on a pull request"
    ),
)
