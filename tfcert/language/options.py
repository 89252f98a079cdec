"""Options of blocks and calls: which exist, of which type, and reading them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from tfcert.language import syntax as s
from tfcert.language.diagnostics import AbortError
from tfcert.language.elaborate import Elaborator
from tfcert.language.formula import Constant
from tfcert.language.scope import did_you_mean
from tfcert.language.values import NORMS, Condition, Words, describe

Value = bool | int | Fraction | str


@dataclass(frozen=True)
class Option:
    """The type of one option.

    Attributes:
        kind: ``whole`` (at least ``least``), ``positive``, ``time``, ``choice``, ``text``, ``flag``, ``column`` (a text
            or a whole number).
        choices: what a ``choice`` may be.
        least: of a ``whole``.
    """

    kind: str
    choices: tuple[str, ...] = ()
    least: int = 0


@dataclass(frozen=True)
class StageSchema:
    """What a stage of a strategy accepts.

    Attributes:
        options: by name.
        norms: the balls it can handle.
        proves: whether it can prove; the others only refute.
        supported: whether it works yet.
    """

    options: Mapping[str, Option]
    norms: tuple[str, ...] = NORMS
    proves: bool = True
    supported: bool = True


RELAXATIONS = ("fastlin", "crown", "cnncert", "deepcert", "frown", "adaptive")
_OPTIMISED = {"relaxation": Option("choice", RELAXATIONS)}
_RELAXED = {"relaxation": Option("choice", tuple(r for r in RELAXATIONS if r != "frown"))}
"""FROWN's lines are found by gradient through backward passes, so only stages made of those take it."""
_ATTACK = {
    "steps": Option("whole", least=1),
    "restarts": Option("whole", least=1),
    "step_size": Option("positive"),
    "seed": Option("whole"),
}
_SOLVER = {
    "gap": Option("positive"),
    "time_limit": Option("time"),
    "solver": Option("choice", ("cbc", "highs")),
    "threads": Option("whole", least=1),
}
_OPTIMISER = {"iterations": Option("whole", least=1), "learning_rate": Option("positive")}

STAGES: dict[str, StageSchema] = {
    "pgd": StageSchema(_ATTACK, proves=False),
    "fgsm": StageSchema({}, norms=("linf",), proves=False, supported=False),
    "ibp": StageSchema({}),
    "forward": StageSchema(_RELAXED),
    "forward_backward": StageSchema(_RELAXED),
    "crown_ibp": StageSchema(_RELAXED),
    "crown": StageSchema(_OPTIMISED),
    "alpha_crown": StageSchema({**_OPTIMISED, **_OPTIMISER}),
    "lp": StageSchema(_SOLVER, norms=("linf", "l1"), supported=False),
    "milp": StageSchema(_SOLVER, norms=("linf", "l1"), supported=False),
    "split": StageSchema({"time_limit": Option("time"), "depth": Option("whole", least=1)}, supported=False),
}

_SPLIT = {"split": Option("choice", ("train", "test"))}


@dataclass(frozen=True)
class SourceSchema:
    """What a source of data or networks accepts.

    Attributes:
        positional: what its first argument is: ``path``, ``choice`` or "" for none.
        options: its named arguments.
        choices: of the first argument.
        range: of the stored values, if known.
        supported: whether it works yet.
    """

    positional: str = ""
    options: Mapping[str, Option] | None = None
    choices: tuple[str, ...] = ()
    range: tuple[Fraction, Fraction] | None = None
    supported: bool = True


_BYTES = (Fraction(0), Fraction(255))
DATASETS: dict[str, SourceSchema] = {
    "npz": SourceSchema("path", {"x": Option("text"), "y": Option("text")}),
    "csv": SourceSchema("path", {"label": Option("column")}),
    "digits": SourceSchema(options=_SPLIT, range=(Fraction(0), Fraction(16))),
    "mnist5k": SourceSchema(options=_SPLIT, range=_BYTES),
    "keras": SourceSchema("choice", _SPLIT, ("mnist", "fashion_mnist", "cifar10"), _BYTES),
    "idx": SourceSchema(supported=False),
    "images": SourceSchema(supported=False),
    "tfds": SourceSchema(supported=False),
}
MODELS: dict[str, SourceSchema] = {
    "keras": SourceSchema("path", {}),
    "onnx": SourceSchema("path", {}, supported=False),
}


def read_option(e: Elaborator, expression: s.Expr, option: Option, what: str) -> Value:
    """The value of an option; reports and leaves if it is of another type."""
    match option.kind:
        case "whole":
            return e.whole(expression, what, option.least)
        case "positive":
            number = e.number(expression, what)
            if number <= 0:
                raise e.scope.problem("E220", f"{what} must be positive", expression)
            return number
        case "time":
            number = e.number(expression, what, "s")
            if number <= 0:
                raise e.scope.problem("E220", f"{what} must be a positive time", expression)
            return number
        case "choice":
            return _choice(e, expression, option.choices, what)
        case "flag":
            value = e.value(expression)
            if not isinstance(value, Condition) or not isinstance(value.formula, Constant):
                raise e.scope.problem(
                    "E206", f"{what} must be `true` or `false`; this is {describe(value)}", expression
                )
            return value.formula.value
        case _:
            if option.kind == "column" and not isinstance(expression, s.Text):
                return e.whole(expression, what)
            value = e.value(expression)
            if not isinstance(value, Words):
                raise e.scope.problem("E206", f"{what} must be a text in quotes; this is {describe(value)}", expression)
            return value.text


def _choice(e: Elaborator, expression: s.Expr, choices: tuple[str, ...], what: str) -> str:
    given = expression.name if isinstance(expression, s.Ref) else None
    given = expression.value if isinstance(expression, s.Text) else given
    if given in choices:
        return given
    listed = ", ".join(f"`{c}`" for c in choices)
    hint = did_you_mean(given, choices) if given else ""
    raise e.scope.problem("E220", f"{what} must be one of {listed}", expression, hint)


def read_arguments(
    e: Elaborator, arguments: Iterable[s.Argument], options: Mapping[str, Option], owner: str
) -> tuple[tuple[str, Value], ...]:
    """Named arguments of a stage or a source, checked; problems are reported and the argument left out."""
    found: dict[str, Value] = {}
    for argument in arguments:
        name = argument.name
        if name is None or isinstance(argument.value, s.Interval):
            e.scope.report("E205", f"`{owner}` takes only options written `name=value`", argument)
        elif name not in options:
            hint = did_you_mean(name, options) or _listing(options)
            e.scope.report("E219", f"`{owner}` has no option `{name}`", argument, hint)
        elif name in found:
            e.scope.report("E202", f"the option `{name}` is given twice", argument)
        else:
            try:
                found[name] = read_option(e, argument.value, options[name], f"`{name}`")
            except AbortError:
                continue
    return tuple(found.items())


def read_entries(e: Elaborator, block: s.Block | None, names: Iterable[str], owner: str) -> dict[str, s.Entry]:
    """The entries of a block by name; unknown and repeated ones are reported."""
    known, found = tuple(names), dict[str, s.Entry]()
    for entry in block.entries if block else ():
        name = entry.name.text
        if name not in known:
            hint = did_you_mean(name, known) or _listing(known)
            e.scope.report("E219", f"{owner} has no option `{name}`", entry.name, hint)
        elif name in found:
            e.scope.report("E202", f"the option `{name}` is given twice", entry.name)
        else:
            found[name] = entry
    return found


def _listing(names: Iterable[str]) -> str:
    listed = ", ".join(f"`{n}`" for n in names)
    return f"it has {listed}" if listed else "it has no options"
