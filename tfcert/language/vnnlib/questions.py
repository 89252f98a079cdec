"""VNN-LIB's questions as those that a specification asks: the same templates, regions and formulas."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from fractions import Fraction

from tfcert.language.spec.declarations import ModelDeclaration, StageSpec, Strategy
from tfcert.language.spec.formula import Formula, negation
from tfcert.language.spec.questions import PropertyTemplate
from tfcert.language.spec.regions import BoxSpec, UnionSpec
from tfcert.language.spec.spaces import IDENTITY
from tfcert.language.spec.specification import Spec
from tfcert.language.vnnlib.reader import VnnlibQuestion

MODEL = "net"
"""The name that the model is bound to."""
VNNLIB_STRATEGY = Strategy("vnnlib", (StageSpec("pgd"), StageSpec("crown"), StageSpec("split")))
"""How files are decided that come without a strategy."""


def few_inputs(seconds: Fraction | None) -> Strategy:
    """The same where few inputs move: the first bounds of parts take less than other stages' preparation.

    Neurons are split of what cutting inputs leaves open, after so many seconds of that.
    """
    limit = () if seconds is None else (("time_limit", seconds),)
    return Strategy(
        "vnnlib", (StageSpec("split", (("cut", "inputs"), *limit)), StageSpec("split", (("cut", "neurons"),)))
    )


def vnnlib_spec(question: VnnlibQuestion, strategy: Strategy = VNNLIB_STRATEGY, filename: str = "<vnnlib>") -> Spec:
    """A specification that asks what a VNN-LIB file asks, of the model that is bound to ``net``.

    Boxes that are asked the same of the outputs make up one region, and one property: whether some input of it
    satisfies the formula. So the file's answer is ``sat`` where one of the properties is verified, and ``unsat`` where
    all are falsified.
    """
    grouped: dict[Formula, list[BoxSpec]] = {}
    for case in question.cases:
        box = BoxSpec(case.bounds, (), "net", rounded=True)
        grouped.setdefault(case.formula, []).append(box)
    properties: Mapping[str, PropertyTemplate] = {
        f"case_{number}": PropertyTemplate(
            name=f"case_{number}",
            model=MODEL,
            dataset=None,
            sample=None,
            label=None,
            where=None,
            choice=(),
            region=boxes[0] if len(boxes) == 1 else UnionSpec(tuple(boxes)),
            transform=IDENTITY,
            strategy=strategy,
            formula=negation(formula),
            text=f"{filename}, {len(boxes)} of its boxes",
            existential=True,
            variable="z",
        )
        for number, (formula, boxes) in enumerate(grouped.items())
    }
    model = ModelDeclaration(MODEL, "bound", "", True)
    digest = hashlib.sha256(repr(question).encode()).hexdigest()
    return Spec(filename, digest, {}, {MODEL: model}, {}, {strategy.name: strategy}, {}, properties, {}, {}, (), (), ())
