"""Inputs of regions that meet the conditions on them: a claim about none would be vacuous, so each sample needs one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfcert.driver.points import Placed, build_joint, conditions_of, empty_joint
from tfcert.errors import UsageError
from tfcert.language import AnyTemplate, MeasureTemplate
from tfcert.language.spec.layout import Layout, SampleFacts
from tfcert.sets.balls import Perturbation
from tfcert.sets.conditions import Conditions


@dataclass(frozen=True, eq=False)
class AskedPoints:
    """The pieces of a question (the question itself where it is one piece), and what its samples are."""

    pieces: Sequence[AnyTemplate]
    placed: Placed
    layout: Layout
    facts: Sequence[SampleFacts]
    samples: np.ndarray

    def conditions(self, piece: AnyTemplate, places: np.ndarray) -> Conditions:
        """The conditions of a piece on the vectors of some samples."""
        return conditions_of(piece, self.placed.vector, self.layout, [self.facts[place] for place in places])

    @property
    def numbers(self) -> list[int] | None:
        """The samples' numbers for messages; None of a question without."""
        return None if self.placed.around is None else self.samples.tolist()


def centers_of(asked: AskedPoints, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """A vector of each sample's region ``[n, size]``: its middle, or where conditions leave that out another one. And
    which of its numbers change.

    Raises:
        UsageError: a region is empty.
    """
    count, alone = len(asked.samples), len(asked.pieces) == 1
    centers = np.zeros((count, asked.placed.vector.size), dtype)
    moving, left = np.zeros(centers.shape, bool), np.ones(count, bool)
    for piece in asked.pieces:
        held = np.arange(count) if alone else np.flatnonzero(~empty_joint(piece, asked.placed, dtype))
        if not len(held):
            continue
        radii = [piece.lower] * len(held) if isinstance(piece, MeasureTemplate) else None
        regions = build_joint(piece, asked.placed.take(held), dtype, radii)
        sets = regions.proof if regions.witness is None else regions.witness
        moving[held] |= sets.moving()
        points, common = _points(asked, piece, sets, held)
        new = common & left[held]
        centers[held[new]], left[held[new]] = points[new], False
    if left.any():
        name, numbers = asked.pieces[0].name, asked.numbers
        where = "" if numbers is None else f" of sample {asked.samples[left][0]}"
        met = "" if asked.pieces[0].given is None else " that meets the conditions of `where`"
        raise UsageError(f"{name}: no input was found in the region{where}{met}; an empty one would prove nothing")
    return centers, moving


def _points(
    asked: AskedPoints, piece: AnyTemplate, sets: Perturbation, held: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Points of a piece's sets that meet its conditions, and marks where one was found: everywhere for a lone piece."""
    from tfcert.complete.search.feasible import common_points, require_common_points

    if piece.given is None:
        return sets.center, np.ones(len(held), bool)
    conditions = asked.conditions(piece, held)
    if len(asked.pieces) > 1:
        each = common_points(sets, conditions)
        points = [at if one.point is None else one.point for one, at in zip(each, sets.center, strict=True)]
        return np.stack(points), np.array([one.point is not None for one in each])
    if conditions.never.any():
        raise UsageError(
            f"{piece.name}: the conditions of `where` are false of a sample whatever the input is, so that no input of "
            "the region is left; choose samples by `where` behind the data set"
        )
    return require_common_points(sets, conditions, piece.name, asked.numbers), np.ones(len(held), bool)
