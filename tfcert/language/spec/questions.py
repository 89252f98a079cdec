"""Questions of a specification: regions, and formulas to be proven on them; frozen data with exact numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from typing import Any, Self

import numpy as np

from tfcert.catalog import DISTANCES, DistanceInfo
from tfcert.clauses import Clause
from tfcert.language.spec.alternatives import alternatives
from tfcert.language.spec.cells import Abstraction
from tfcert.language.spec.choice import Choice
from tfcert.language.spec.declarations import Strategy, Value
from tfcert.language.spec.formula import (
    ArgIs,
    Feature,
    Formula,
    Label,
    Not,
    Or,
    TruthConstant,
    evaluate,
    variable_term,
)
from tfcert.language.spec.layout import Layout, SampleFacts, Shown
from tfcert.language.spec.lowering import lower
from tfcert.language.spec.named import applications, features, output_indices, sample_features, uses_label
from tfcert.language.spec.normal_form import normalise
from tfcert.language.spec.points import Agreement, Application, AtPoint
from tfcert.language.spec.regions import BallSpec, RegionSpec
from tfcert.language.spec.sense import Sense
from tfcert.language.spec.spaces import Transform
from tfcert.language.text.diagnostics import Span

LabelNumber = int | float


@dataclass(frozen=True)
class Point:
    """A quantified point.

    Attributes:
        name: as written.
        region: where it lies.
        transform: from stored values to network inputs.
        names: its numbers' names, in order; empty where they have none.
        width: the width of the data set's declared range in the region's space, to tell radii as shares of; or None.
    """

    name: str
    region: RegionSpec
    transform: Transform
    names: tuple[str, ...] = ()
    width: Fraction | None = None


@dataclass(frozen=True, kw_only=True)
class Template:
    """A question over all inputs of a region, of which a formula is to be proven; properties and measures are such.

    Whether some input satisfies a formula is asked as whether all inputs satisfy its negation, with the answers
    exchanged: a witness against the negation says yes, a proof of it says no.

    A question may be about several points at once, and apply several networks (see ``points``). Then ``region``,
    ``transform`` and ``width`` are those of its first point, and ``model`` is that of the first application that is not
    to the sample alone. ``is_single`` tells whether there is one point and one network at it, and nothing else.

    Attributes:
        model, dataset: names in ``Spec.models`` and ``Spec.datasets``; no data set for a property without samples.
        sample, label: the variables of the samples, or None.
        where: which samples are asked about, a formula over what they give, or None for all.
        choice: which of the selected samples are asked about.
        region: the region, around the sample for a ball.
        transform: from stored values to network inputs.
        strategy: how to decide.
        formula: what is to be proven of the outputs (logits or named outputs) at every input of the region. Where there
            are conditions on the inputs, that is ``not given or ...``.
        existential: whether the question is about some input; then ``formula`` is the negation of what was written.
        text: the statement, pretty-printed.
        width: the width of the data set's declared range in the region's space, to tell radii as shares of; or None.
        abstraction: what the model stands behind: then the question is about the classifier made of both.
        variable, names: the first point's name, and those of its numbers.
        others: further points.
        applied: the applications, by number; empty where the only one is of ``model`` to the only point.
        given: the conditions on the points, over their features and what a sample gives; or None. No agreement is
            among them.
        premise: the conditions on what networks answer to the points, or None. They are in the formula, as
            ``not premise or ...``: which inputs meet them is not known before the networks are run.
        agreements: numbers that points share.
    """

    name: str
    model: str
    dataset: str | None
    sample: str | None
    label: str | None
    where: Formula | None
    choice: Choice
    region: RegionSpec
    transform: Transform
    strategy: Strategy
    formula: Formula
    text: str
    existential: bool = False
    width: Fraction | None = None
    abstraction: Abstraction | None = None
    variable: str = ""
    names: tuple[str, ...] = ()
    others: tuple[Point, ...] = ()
    applied: tuple[Application, ...] = ()
    given: Formula | None = None
    premise: Formula | None = None
    agreements: tuple[Agreement, ...] = ()
    span: Span = field(default=Span(), compare=False)

    @property
    def line(self) -> int:
        """Where the question stands in the text, from 1; 0 for one that is imported."""
        return 0 if "." in self.name.partition("(")[0] else self.span.line

    # Points and networks

    @property
    def points(self) -> tuple[Point, ...]:
        """The quantified points, in order."""
        return (Point(self.variable, self.region, self.transform, self.names, self.width), *self.others)

    def with_points(self, points: Sequence[Point]) -> Self:
        """The same question about points in other regions."""
        first, *others = points
        return replace(
            self,
            variable=first.name,
            region=first.region,
            transform=first.transform,
            names=first.names,
            width=first.width,
            others=tuple(others),
        )

    @property
    def applications(self) -> tuple[Application, ...]:
        """What networks are applied to, by number."""
        return self.applied or (Application(self.model, (AtPoint(0),)),)

    @property
    def features(self) -> tuple[Feature, ...]:
        """The numbers of the points that the formula names, in the order in which they are shown."""
        return features(self.formula)

    @property
    def is_single(self) -> bool:
        """Tells whether one network takes one point, of which the formula names no number, and which has no conditions.

        What the sample gives may be in the formula.
        """
        live = [a for a in self.applications if not a.fixed]
        only = len(live) == 1 and live[0].arguments == (AtPoint(0),)
        return only and not (self.others or self.features or self.agreements or self.given)

    @property
    def fixed_applications(self) -> tuple[int, ...]:
        """The applications to the sample alone that the formula speaks of."""
        return tuple(n for n in sorted(applications(self.formula)) if self.applications[n].fixed)

    @property
    def sample_features(self) -> tuple[int, ...]:
        """The numbers of the sample that the formula names."""
        return sample_features(self.formula)

    @property
    def alternatives(self) -> tuple[Formula, ...]:
        """The conjunctions whose union the conditions on the points are; none without conditions."""
        return () if self.given is None else alternatives(self.given)

    def under(self, given: Formula) -> Self:
        """The same claim under other conditions on the points."""
        claim = self.formula
        if self.given is not None:
            assert isinstance(claim, Or)
            claim = claim.parts[1]
        return replace(self, given=given, formula=Or((Not(given), claim)))

    @property
    def met(self) -> PropertyTemplate:
        """The question whether some input of the region meets the premise."""
        assert self.premise is not None
        claim = Not(self.premise) if self.given is None else Or((Not(self.given), Not(self.premise)))
        kept = {f.name: getattr(self, f.name) for f in fields(Template)}
        return PropertyTemplate(**{**kept, "formula": claim, "premise": None, "existential": True})

    def layout(self, sizes: Sequence[int]) -> Layout:
        """The columns of rows, where applications have so many outputs each."""
        shown = [Shown(f.of, f.index, *self.points[f.of].transform.stored(f.index)) for f in self.features]
        fixed = frozenset(n for n, a in enumerate(self.applications) if a.fixed)
        return Layout(tuple(sizes), fixed, tuple(shown))

    # The formula

    def clauses(self, layout: Layout | int, given: SampleFacts | LabelNumber | None = None) -> tuple[Clause, ...]:
        """The formula as a conjunction of clauses; proving each of them everywhere proves the formula.

        A row's coefficients are exact; they may be a positive multiple of what is written where that is needed to
        make them so. Offsets are rounded down (see ``lowering``).

        Args:
            layout: the columns, as :meth:`layout` gives them; a number stands for the outputs of the only application.
            given: what the sample gives; a number, or None, where that is the label alone.

        Raises:
            TooManyClausesError, InexactRowError: the formula cannot be lowered for this number of outputs.
            IndexError: a named output or the label does not exist among the outputs.
            ValueError: the label is needed and is missing or no whole number.
        """
        return lower(self.formula, layout, exact_facts(given))

    def holds(
        self,
        outputs: np.ndarray | Iterable[float],
        given: SampleFacts | LabelNumber | None = None,
        layout: Layout | None = None,
    ) -> bool:
        """Tells whether the formula holds at concrete outputs (one vector), in exact arithmetic.

        Args:
            outputs: the columns of ``layout``; without one, the outputs of the only application.
            given: what the sample gives; a number, or None, where that is the label alone.

        Raises:
            ValueError: an output is NaN or infinite, or the label is missing.
            IndexError: as for ``clauses``.
        """
        exact = _exact_outputs(outputs)
        return evaluate(self.formula, exact if layout is None else layout.values(exact), exact_facts(given))

    def sample_selected(self, given: SampleFacts | LabelNumber | None) -> bool:
        """Tells whether ``where`` selects a sample that gives this: all that ``where`` names, or its label alone."""
        return self.where is None or evaluate(self.where, (), exact_facts(given))

    @property
    def named_outputs(self) -> frozenset[int]:
        """Fixed output indices the formula names, to be checked against the loaded network."""
        return output_indices(self.formula)

    @property
    def needs_label(self) -> bool:
        """Tells whether the formula or ``where`` names the label."""
        return uses_label(self.formula) or (self.where is not None and uses_label(self.where))

    def is_settled(self, layout: Layout | int, given: SampleFacts | LabelNumber | None = None) -> bool:
        """Tells whether the formula holds, or fails, whatever the outputs are: ``argmax(f) in {0, 1}`` of two outputs.

        Raises:
            As for ``clauses``.
        """
        return isinstance(normalise(self.formula, layout, exact_facts(given)), TruthConstant)

    @property
    def is_robustness(self) -> bool:
        """Tells whether the question is just ``argmax(f) == y`` for all inputs, or ``argmax(f) != y`` for some."""
        return self.formula == ArgIs("argmax", variable_term(Label())) and self.is_single


@dataclass(frozen=True, kw_only=True)
class PropertyTemplate(Template):
    """A ``property``; ``expect_fail`` if it passes where it is falsified."""

    expect_fail: bool = False


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

    proof_above = False
    in_region = True

    @property
    def extremum(self) -> str:
        """``largest`` or ``smallest``: what was asked for."""
        return "smallest" if self.existential else "largest"

    @property
    def usual(self) -> Fraction:
        """A value of the interval, to prepare by."""
        return self.upper


@dataclass(frozen=True, kw_only=True)
class ValueTemplate(Template):
    """A ``measure`` whose variable v stands in the formula: the largest or smallest v with which the answer is yes.

    A value with a witness bounds ``largest v such that exists ...: f >= v`` from below, and a proof that no input has a
    value bounds it from above; of ``largest v such that forall ...: f >= v`` it is the other way round.

    Attributes:
        lower, upper: the interval in which v is sought; None for no end.
        tolerance: how exactly to find it; relative to the value if ``relative``.
        sense: how ``formula``, with the radius of the region, moves with v: it ``RISES`` or ``FALLS``.
        in_region: whether v stands in the radius of the region, too.
    """

    lower: Fraction | None
    upper: Fraction | None
    tolerance: Fraction = Fraction(1, 10_000)
    relative: bool = True
    sense: Sense
    in_region: bool = False

    @property
    def proof_above(self) -> bool:
        """Tells whether a value with a proof bounds the answer from above, and one with a witness from below."""
        return self.sense is Sense.RISES

    @property
    def extremum(self) -> str:
        """``largest`` or ``smallest``: what was asked for."""
        return "smallest" if self.existential != self.proof_above else "largest"

    @property
    def usual(self) -> Fraction:
        """A value of the interval, to prepare by: one that is nothing in particular."""
        low = self.lower if self.lower is not None else (self.upper or Fraction(0)) - 1
        high = self.upper if self.upper is not None else low + 2
        return low + (high - low) * Fraction(144, 233)


@dataclass(frozen=True, kw_only=True)
class ShareTemplate(Template):
    """A ``measure`` of the share of a region's volume whose inputs satisfy the formula.

    Attributes:
        tolerance: how much of the volume may stay open; relative to the share if ``relative``.
    """

    tolerance: Fraction = Fraction(1, 100)
    relative: bool = False


@dataclass(frozen=True, kw_only=True)
class DistanceTemplate(Template):
    """A ``measure`` of how far each sample is from another class, by a way of ``tfcert.catalog.DISTANCES``.

    Its formula is that of the label's class, and its region a ball around the sample, of whatever radius.

    Attributes:
        way: as a specification writes it.
        options: those that are written; lengths in the region's space.
    """

    region: BallSpec
    way: str
    options: tuple[tuple[str, Value], ...] = ()

    @property
    def info(self) -> DistanceInfo:
        """The catalog's entry of the way."""
        return DISTANCES.words()[self.way]

    @property
    def unit(self) -> Fraction:
        """The size in the space that distances are measured in of one unit of the distance."""
        (size,) = self.space.net_eps(self.region.space, Fraction(1))
        return size

    @property
    def space(self) -> Transform:
        """The way from stored values to where distances are measured.

        That is network space, or before a normalisation that would make another measure of the distance.
        """
        return self.transform.before_unequal(self.region.space)

    def settled(self) -> dict[str, Any]:
        """All options, as the way takes them: defaults too, numbers as floats, lengths in network space."""
        given: dict[str, Any] = {}
        for name, value in self.options:
            length = self.info.options[name].kind == "length"
            number = Fraction(value) * self.unit if length else value
            given[name] = float(number) if isinstance(number, Fraction) else number
        return self.info.settled(given)


AnyTemplate = PropertyTemplate | MeasureTemplate | ValueTemplate | DistanceTemplate | ShareTemplate


def exact_facts(given: SampleFacts | LabelNumber | None) -> SampleFacts:
    """What a sample gives, exact; a number, or None, is its label.

    Raises:
        ValueError: the label is NaN or infinite.
    """
    if given is None or isinstance(given, SampleFacts):
        return SampleFacts.of(given)
    number = float(given)
    if not np.isfinite(number):
        raise ValueError(f"the label {given} is not a finite number")
    return SampleFacts(Fraction(number))


def _exact_outputs(outputs: np.ndarray | Iterable[float]) -> list[Fraction]:
    values = np.asarray(outputs, dtype=np.float64).reshape(-1)
    if not np.isfinite(values).all():
        raise ValueError("an output is NaN or infinite: no formula can be evaluated on it")
    return [Fraction(float(v)) for v in values]
