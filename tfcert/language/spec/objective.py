"""Objectives: what to train on what, towards which property, and how. Plain frozen data, exact numbers."""

from __future__ import annotations

import builtins
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from tfcert.catalog import METHODS, STAGES, Option, Options, StageKind, propagated
from tfcert.language.spec.declarations import Dataset, StageSpec, Value
from tfcert.language.spec.spaces import IDENTITY, Transform
from tfcert.language.text.diagnostics import Span

_WIDTH = {
    "weight": Option("amount"),
    "layers": Option("choice", ("all", "hidden")),
    "reduction": Option("choice", ("log", "mean", "sum")),
}
_BALANCED = {"weight": Option("amount"), "tolerance": Option("share"), "fade": Option("flag")}
_ATTACKED = {"attack_steps": Option("whole", least=1), "attack_factor": Option("share")}

OBJECTIVES: dict[str, Options] = {
    "ibp": {"elide": Option("flag")},
    "constrained_ibp": {**_WIDTH, "elide": Option("flag")},
    "crown_ibp": {"fuse": Option("flag")},
    "dual_lp": {},
    "mtl_ibp": _ATTACKED,
    "loss_landscape_matters": {},
    "adv_ibp": {**_ATTACKED, "decay": Option("share")},
}
"""How bounds enter the loss, with the options of each."""
NATURAL_WEIGHTS = {"ibp": Fraction(1, 2), "constrained_ibp": Fraction(1, 2)}
"""Where the natural weight ends if nothing is said; 0 for the others."""
MIXTURES = ("crown_ibp", "mtl_ibp")
"""Those that mix two robust losses: intervals with CROWN-IBP, an attack with intervals."""
USUAL_VERIFIERS = {"dual_lp": "dual_lp"}
"""The stage that verifies held-out samples if nothing is said; ``ibp`` for the others."""
REGULARIZERS: dict[str, Options] = {"interval_width": _WIDTH, "tightness": _BALANCED, "relu_balance": _BALANCED}
OPTIMIZERS: dict[str, Options] = {
    "adam": {"clip_norm": Option("positive")},
    "adamw": {"clip_norm": Option("positive"), "weight_decay": Option("amount")},
    "sgd": {"clip_norm": Option("positive"), "momentum": Option("share"), "nesterov": Option("flag")},
}
RATES = {"adam": Fraction(1, 1000), "adamw": Fraction(1, 1000), "sgd": Fraction(1, 100)}
"""The learning rate where none is given."""
FILLS = ("edge", "reflect")
AUGMENTATIONS: dict[str, Options] = {
    "flip": {},
    "shift": {"pixels": Option("whole", least=1), "fill": Option("choice", FILLS, default="edge")},
}
"""How images of training are changed at random, each anew in every epoch."""
INITIALIZATIONS = ("keep", "fresh", "ibp")
STATISTICS = ("batch", "moving")


def verifiers() -> dict[str, Options]:
    """The stages that may verify held-out samples while training goes on."""
    return {METHODS[name].word: {} for name in propagated()}


def attacks() -> dict[str, Options]:
    """The stages that may attack them."""
    found = {word: schema.options for word, schema in STAGES.words().items() if schema.kind is StageKind.ATTACK}
    return {**found, "none": {}}


@dataclass(frozen=True)
class RampSpec:
    """A number that goes from ``start`` to ``stop`` between two moments, and is constant before and after.

    Attributes:
        begin, end: in ``unit``.
        unit: ``epochs`` or ``steps``.
        shape: ``linear`` or ``smooth``.
    """

    start: Fraction
    stop: Fraction
    begin: Fraction
    end: Fraction
    unit: str = "epochs"
    shape: str = "linear"


Scheduled = Fraction | RampSpec


@dataclass(frozen=True)
class Named:
    """Something chosen by name, with its options: ``interval_width(weight=1e-3)``."""

    name: str
    options: tuple[tuple[str, Value], ...] = ()

    def option(self, name: str, default: Any = None) -> Any:
        """An option as it was given, or ``default``."""
        return dict(self.options).get(name, default)


@dataclass(frozen=True)
class LearningRate:
    """A rate that is multiplied by ``factor`` at each of the moments ``at``, in ``unit`` (``epochs`` or ``steps``)."""

    initial: Fraction
    factor: Fraction = Fraction(1)
    at: tuple[int, ...] = ()
    unit: str = "epochs"


@dataclass(frozen=True)
class CosineRate:
    """A rate that rises from 0 as a line, and then falls as half a cosine until the training ends.

    Attributes:
        peak: where it rises to.
        warmup: how long that takes, in epochs; 0 to begin at the peak.
        final: where it ends.
    """

    peak: Fraction
    warmup: Fraction = Fraction(0)
    final: Fraction = Fraction(0)


Rate = LearningRate | CosineRate


@dataclass(frozen=True, kw_only=True)
class ObjectiveTemplate:
    """An ``objective``: a network is trained until as many samples as possible have the property, by proof.

    Attributes:
        property: the property's name; its model is what is trained, its samples are held out.
        model: the name of that model.
        train: the samples to train on; None where the caller binds the property's data set and none is named.
        train_transform: takes their stored values to network inputs.
        bound: how bounds enter the loss; one of ``OBJECTIVES``.
        eps: radius, in the space of the property's region, perhaps as a schedule.
        natural_weight: kappa, the weight of the loss at the unperturbed input.
        mixture: of a bound among ``MIXTURES``, in [0, 1]: the weight of CROWN-IBP's bound beside that of intervals, or
            of the loss by intervals beside an attack's. None for the default.
        eps_factor: in training, eps is multiplied by it.
        regularizers: added to the loss; of ``REGULARIZERS``.
        augment: changes of the images of training, of ``AUGMENTATIONS``, in this order.
        batch_norm: which statistics of batch normalisation bounds use, ``batch`` or ``moving``.
        initialize: ``keep`` the weights of the model, draw them afresh by its layers' own initialisers (``fresh``)
            or as suits interval bounds (``ibp``).
        verify: how the held-out samples are verified, every ``verify_every`` epochs.
        attack: how they are attacked then, or None.
        text: the statement, pretty-printed.
    """

    name: str
    property: str
    model: str
    train: Dataset | None
    train_transform: Transform = IDENTITY
    bound: Named
    eps: Scheduled
    natural_weight: Scheduled
    mixture: Scheduled | None
    eps_factor: Fraction
    regularizers: tuple[Named, ...]
    augment: tuple[Named, ...] = ()
    batch_norm: str
    initialize: str
    epochs: int
    batch: int
    seed: int
    optimizer: Named
    learning_rate: Rate
    verify: StageSpec
    verify_every: int
    attack: StageSpec | None
    text: str
    span: Span = field(default=Span(), compare=False)

    @builtins.property
    def trains_bounds(self) -> bool:
        """Tells whether bounds enter the loss: a natural weight of 1 throughout leaves them out."""
        return self.natural_weight != 1
