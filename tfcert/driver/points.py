"""Questions about several points: the vector that holds their numbers, their sets in it, and conditions on it."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from tfcert.driver.arrivals import InputShape
from tfcert.driver.regions import Regions, build_regions, empty_of, gathered
from tfcert.errors import UsageError
from tfcert.language import AnyTemplate
from tfcert.language.spec.formula import And, Atom, Feature, Formula, TruthConstant
from tfcert.language.spec.layout import Layout, SampleFacts
from tfcert.language.spec.normal_form import normalise
from tfcert.language.spec.points import AppliedTo, AtPoint, AtSample
from tfcert.sets.balls import Box, Perturbation
from tfcert.sets.conditions import Conditions, ExactCondition
from tfcert.sets.side_by_side import boxed, side_by_side


@dataclass(frozen=True, eq=False)
class Vector:
    """Where the numbers of a question's points lie in the one vector that its network takes.

    Attributes:
        names: of the points, and of the sample, if its numbers are among them.
        shapes: of each point, and of the sample.
        places: the places of each one's numbers, flat. Points that agree in a number share its place.
        size: how many numbers the vector has.
        sample: whether the last of these is the sample, whose numbers do not change.
    """

    names: tuple[str, ...]
    shapes: tuple[InputShape, ...]
    places: tuple[np.ndarray, ...]
    size: int
    sample: bool

    def source(self, argument: AppliedTo) -> np.ndarray | int:
        """What an argument of an application is, as :class:`tfcert.network.joint.Applied` takes it."""
        match argument:
            case AtPoint(number):
                return self.places[number]
            case AtSample():
                return self.places[-1]
        return argument.number

    def shown(self, features: Sequence[Feature]) -> tuple[int, ...]:
        """The places of features."""
        return tuple(int(self.places[f.of][f.index]) for f in features)

    @property
    def points(self) -> int:
        """How many quantified points there are."""
        return len(self.places) - self.sample

    def split(self, z: np.ndarray) -> dict[str, np.ndarray]:
        """The points of vectors ``[..., size]`` by their names, ``[..., *shape]`` each; without the sample."""
        known = list(zip(self.names, self.shapes, self.places, strict=True))[: self.points]
        return {name: z[..., places].reshape(*z.shape[:-1], *shape) for name, shape, places in known}

    def whole(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """The vector ``[size]`` of its points' numbers, and of the sample's where it holds them, in order."""
        z = np.zeros(self.size, parts[0].dtype)
        for places, part in zip(self.places, parts, strict=True):
            z[places] = part.ravel()
        return z


@dataclass(frozen=True, eq=False)
class Placed:
    """The points of some samples' questions.

    Attributes:
        vector: where their numbers lie.
        around: the samples ``[n, *shape]`` as each point's networks receive them, and last, where the vector holds the
            sample, as it stands there; None without samples.
    """

    vector: Vector
    around: tuple[np.ndarray, ...] | None

    def take(self, places: Any) -> Placed:
        """The same of some samples."""
        around = None if self.around is None else tuple(part[places] for part in self.around)
        return Placed(self.vector, around)


def vector_of(template: AnyTemplate, shapes: Sequence[InputShape], sample: InputShape | None) -> Vector:
    """The vector of a question's points, whose inputs have these shapes.

    Args:
        sample: the shape of the sample, where a network that is applied to a point as well reads it, or a point agrees
            with it in some numbers.

    Raises:
        UsageError: points that agree in numbers have different inputs.
    """
    whole = [*shapes, *([] if sample is None else [sample])]
    sizes = [math.prod(shape) for shape in whole]
    starts = np.cumsum([0, *sizes])
    first = np.arange(starts[-1])  # the number that stands for each
    for agreement in template.agreements:
        one, other = agreement.one, len(shapes) if agreement.other is None else agreement.other
        if sizes[one] != sizes[other]:
            raise UsageError(
                f"{template.name}: points with {sizes[one]} and {sizes[other]} numbers cannot agree in some"
            )
        for place in agreement.shared(sizes[one]):
            a, b = sorted((int(first[starts[one] + place]), int(first[starts[other] + place])))
            first[first == b] = a
    kept, number = np.unique(first, return_inverse=True)
    names = [point.name or f"z{i}" for i, point in enumerate(template.points)]
    return Vector(
        tuple([*names, *([] if sample is None else [template.sample or "x"])]),
        tuple(whole),
        tuple(number[start:stop] for start, stop in itertools.pairwise(starts)),
        len(kept),
        sample is not None,
    )


def reads_sample(template: AnyTemplate) -> bool:
    """Tells whether numbers of the sample are among those of a question's vector."""
    live = [application for application in template.applications if not application.fixed]
    mixed = any(isinstance(argument, AtSample) for application in live for argument in application.arguments)
    return mixed or any(agreement.other is None for agreement in template.agreements)


def build_joint(template: AnyTemplate, placed: Placed, dtype: Any, radii: Sequence[Fraction] | None = None) -> Regions:
    """The sets of all points of a question side by side.

    Args:
        radii: as for :func:`tfcert.driver.regions.build_regions`.

    Raises:
        UsageError: as for that function, or points that share numbers lie in no set together.
    """
    vector, around = placed.vector, placed.around
    found = [
        build_regions(template.with_points([point]), None if around is None else around[i], shape, dtype, radii)
        for i, (point, shape) in enumerate(zip(template.points, vector.shapes, strict=False))
    ]
    if vector.sample and around is not None:
        found = [_with_sample(one, vector, i, around[-1]) for i, one in enumerate(found)]
        known = Box(around[-1], around[-1])
        found.append(Regions(known, known))
    inner = [one.witness for one in found]
    try:
        proof = _joined([one.proof for one in found], vector)
        witness = None if None in inner else _joined([one for one in inner if one is not None], vector)
    except ValueError as error:
        raise UsageError(f"{template.name}: {error}") from error
    return Regions(boxed(proof), witness)


def _with_sample(one: Regions, vector: Vector, point: int, sample: np.ndarray) -> Regions:
    """The sets of a point, in which witnesses may have the numbers that the point shares with the sample.

    A stored number at the end of a box arrives at the network rounded, perhaps beyond that end by a roundoff, which
    only the proof's box holds.
    """
    if not (isinstance(one.proof, Box) and isinstance(one.witness, Box)):
        return one
    places, known = vector.places[point], np.zeros((len(sample), vector.size), sample.dtype)
    known[:, vector.places[-1]] = sample.reshape(len(sample), -1)
    values = known[:, places].reshape(one.proof.lower.shape)
    shared = np.isin(places, vector.places[-1]).reshape(one.proof.input_shape)
    arrived = shared & (values >= one.proof.lower) & (values <= one.proof.upper)
    witness = copy.copy(one.witness)
    witness.lower = np.where(arrived, np.minimum(witness.lower, values), witness.lower)
    witness.upper = np.where(arrived, np.maximum(witness.upper, values), witness.upper)
    return Regions(one.proof, witness)


def build_joint_pieces(pieces: Sequence[AnyTemplate], rows: np.ndarray, placed: Placed, dtype: Any) -> Regions:
    """The sets of some pieces of a question: of number ``rows[i]`` for the i-th sample.

    Raises:
        UsageError: as for :func:`build_joint`.
        ValueError: they are of several kinds.
    """
    numbers = np.unique(rows)
    places = [np.flatnonzero(rows == number) for number in numbers]
    found = [
        build_joint(pieces[number], placed.take(some), dtype) for number, some in zip(numbers, places, strict=True)
    ]
    return gathered(found, places)


def empty_joint(piece: AnyTemplate, placed: Placed, dtype: Any) -> np.ndarray:
    """Marks the samples of which a piece leaves some point nowhere to lie."""
    found = []
    for number, (point, shape) in enumerate(zip(piece.points, placed.vector.shapes, strict=False)):
        around = None if placed.around is None else placed.around[number]
        found.append(empty_of(piece.with_points([point]), around, shape, dtype))
    empty = np.asarray(np.any(found, axis=0))
    if placed.vector.size < sum(map(len, placed.vector.places)):  # points share numbers, which then lie in two sets
        for row in np.flatnonzero(~empty):
            empty[row] = _apart(piece, placed.take(np.array([row])), dtype)
    return empty


def _apart(piece: AnyTemplate, placed: Placed, dtype: Any) -> bool:
    """Tells whether points of one sample share a number for which their sets have no value in common."""
    vector, around = placed.vector, placed.around
    low, high = np.full(vector.size, -np.inf), np.full(vector.size, np.inf)
    for i, places in enumerate(vector.places):
        if i < len(piece.points):
            alone, centers = piece.with_points([piece.points[i]]), None if around is None else around[i]
            ends = build_regions(alone, centers, vector.shapes[i], dtype).proof.interval()
        elif around is None:
            continue
        else:
            ends = around[i], around[i]
        np.maximum.at(low, places, ends[0].reshape(-1).astype(np.float64))
        np.minimum.at(high, places, ends[1].reshape(-1).astype(np.float64))
    return bool((low > high).any())


def _joined(sets: Sequence[Perturbation], vector: Vector) -> Perturbation:
    return side_by_side(list(zip(sets, vector.places, strict=True)))


def conditions_of(template: AnyTemplate, vector: Vector, layout: Layout, facts: Sequence[SampleFacts]) -> Conditions:
    """The linear conditions on the vectors of samples, of a question whose conditions are no alternatives.

    Conditions that are false of a sample whatever the point is are one that no point meets.
    """
    each = [_linear(template.given or TruthConstant(True), layout, known) for known in facts]
    most = max(map(len, each))
    rows, offsets = np.zeros((len(facts), most, vector.size)), np.ones((len(facts), most))
    strict = np.zeros((len(facts), most), bool)
    exact: list[list[ExactCondition]] = [[({}, Fraction(1))] * most for _ in facts]
    columns = vector.shown([Feature(shown.index, shown.of) for shown in layout.shown])
    for i, atoms in enumerate(each):
        for j, (values, constant, is_strict) in enumerate(atoms):
            terms: dict[int, Fraction] = {}
            for column, value in values.items():
                terms[columns[column]] = terms.get(columns[column], Fraction(0)) + value
            for place, value in terms.items():
                rows[i, j, place] = float(value)
            offsets[i, j], strict[i, j], exact[i][j] = float(constant), is_strict, (terms, constant)
    return Conditions(rows, offsets, strict, exact)


def _linear(given: Formula, layout: Layout, facts: SampleFacts) -> list[tuple[dict[int, Fraction], Fraction, bool]]:
    """The linear atoms that all hold: coefficients by the number of the shown feature, constant, whether strict."""
    normal = normalise(given, layout, facts)
    found = []
    for part in normal.parts if isinstance(normal, And) else (normal,):
        if part == TruthConstant(True):
            continue
        if part == TruthConstant(False):
            return [({}, Fraction(-1), False)]
        assert isinstance(part, Atom)  # alternatives were taken apart
        values: dict[int, Fraction] = {}
        constant = part.term.constant
        for variable, coefficient in part.term.coefficients:
            assert isinstance(variable, Feature)
            column, shown = layout.place(variable.of, variable.index)
            values[column - layout.outputs] = coefficient * shown.factor
            constant += coefficient * shown.offset
        size = max(abs(value) for value in values.values())
        found.append(({k: v / size for k, v in values.items()}, constant / size, part.strict))
    return found
