"""Questions about how far samples are from another class, as drivers ask them, and the answers, sample by sample."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfcert.propagation.question import choose_targets
from tfcert.sets.balls import Clip
from tfcert.verdict import NO_REASON, NO_WORK, Guarantee, Work


@dataclass(frozen=True, eq=False)
class DistanceQuestion:
    """Samples that a model classifies as their labels say, and how to measure their distances to another class.

    Attributes:
        name: of the way, in ``tfcert.catalog.DISTANCES``.
        model: a Keras model.
        x, y: ``[batch, *input]`` as the model receives them, ``[batch]`` classes.
        places: ``[batch]``, the samples' numbers, which random choices depend on: answers do not depend on batches.
        norm, clip: of the distances, in the units of x.
        options: of the way, by name; lengths in the units of x.
    """

    name: str
    model: Any
    x: np.ndarray
    y: np.ndarray
    places: Sequence[int]
    norm: str
    clip: Clip | None
    options: Mapping[str, Any]

    @property
    def targets(self) -> str | np.ndarray:
        """The classes that count, as Python's functions take them; random ones are drawn by the samples' places."""
        rule = str(self.options["targets"]).replace("_", "-")
        return choose_targets(self.model, self.x, self.y, rule, numbers=self.places) if rule == "random" else rule


@dataclass(frozen=True)
class DistanceAnswer:
    """The distance of one sample to another class, as far as it is known, in the units of the question.

    Attributes:
        lower: no input within it is of another class, by ``guarantee``; NaN where nothing is proven.
        upper: the distance of ``witness``, rounded up; NaN without one.
        estimate: a number that bounds nothing; NaN where none was asked for.
        guarantee: of ``lower``; without one ``replayed`` where there is a witness.
        witness: ``[*input]``, an input that the model gets strictly wrong; None where none was found.
        optimal: whether lower and upper are as near each other as was asked; None where that was not asked.
        reason: why no more is known; "" where all is.
        seconds: that the sample took; None where its batch was asked as a whole.
    """

    lower: float = math.nan
    upper: float = math.nan
    estimate: float = math.nan
    guarantee: Guarantee = Guarantee.ESTIMATE
    witness: np.ndarray | None = None
    optimal: bool | None = None
    reason: str = NO_REASON
    seconds: float | None = None
    work: Work = NO_WORK
