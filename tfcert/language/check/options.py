"""Options of blocks and calls: which exist, and of which type. ``reading`` reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from tfcert.language.check.values import NORMS


@dataclass(frozen=True)
class Option:
    """The type of one option.

    Attributes:
        kind: ``whole`` (at least ``least``), ``positive``, ``amount`` (at least 0), ``share`` (between 0 and 1, both
            excluded), ``time``, ``choice``, ``text``, ``flag``, ``column`` (a text or a whole number).
        choices: what a ``choice`` may be.
        least: of a ``whole``.
    """

    kind: str
    choices: tuple[str, ...] = ()
    least: int = 0


class StageKind(StrEnum):
    """What a stage of a strategy can do with the samples that are still open."""

    ATTACK = "attack"
    """Looks for witnesses; proves nothing."""
    BOUND = "bound"
    """Proves that there is no witness; finds none. A batch at a time."""
    SOLVER = "solver"
    """Finds a witness or proves that there is none. One sample at a time, as long as its time lasts."""


@dataclass(frozen=True)
class StageSchema:
    """What a stage of a strategy accepts.

    Attributes:
        options: by name.
        norms: the balls it can handle.
        kind: what it can do.
        supported: whether it works yet.
    """

    options: Mapping[str, Option]
    norms: tuple[str, ...] = NORMS
    kind: StageKind = StageKind.BOUND
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
_LINEAR = {
    "time_limit": Option("time"),
    "solver": Option("choice", ("cbc", "highs")),
    "threads": Option("whole", least=1),
}
_INTEGER = {
    **_LINEAR,
    "gap": Option("share"),
    "confirm": Option("choice", ("cbc", "highs", "cbc_default")),
    "tighten": Option("choice", ("none", "lp", "progressive")),
    "guided": Option("flag"),
}
"""``cbc`` is CBC without cuts and preprocessing, ``cbc_default`` CBC as it comes."""
_OPTIMISER = {"iterations": Option("whole", least=1), "learning_rate": Option("positive")}

STAGES: dict[str, StageSchema] = {
    "pgd": StageSchema(_ATTACK, kind=StageKind.ATTACK),
    "fgsm": StageSchema({}, norms=("linf",), kind=StageKind.ATTACK, supported=False),
    "ibp": StageSchema({}),
    "forward": StageSchema(_RELAXED),
    "forward_backward": StageSchema(_RELAXED),
    "crown_ibp": StageSchema(_RELAXED),
    "crown": StageSchema(_OPTIMISED),
    "alpha_crown": StageSchema({**_OPTIMISED, **_OPTIMISER}),
    "lp": StageSchema(_LINEAR),
    "milp": StageSchema(_INTEGER, kind=StageKind.SOLVER),
    "split": StageSchema(_LINEAR, kind=StageKind.SOLVER),
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
