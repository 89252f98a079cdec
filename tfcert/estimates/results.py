"""Results of the comparators: each says what it is, in its fields and when it is printed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tfcert.showing import ShownResult
from tfcert.verdict import Guarantee

MEANINGS = {
    Guarantee.NUMERIC: "certified",
    Guarantee.ESTIMATE: "an estimate, no guarantee",
    Guarantee.REPLAYED: "an attack's upper bound, replayed",
}


def result_line(method: str, norm: str, guarantee: Guarantee, values: np.ndarray) -> str:
    """One line: what was computed, what it promises, and its median and mean where it is finite."""
    finite = values[np.isfinite(values)]
    what = f"{method}, {norm}, {len(finite)} of {len(values)} samples"
    numbers = f": median {np.median(finite):.4g}, mean {finite.mean():.4g}" if finite.size else ""
    return f"{what}{numbers} ({guarantee.value}: {MEANINGS[guarantee]})"


@dataclass(frozen=True)
class LipschitzRadii(ShownResult):
    """Radii certified by a global Lipschitz constant: guaranteed, and loose.

    Attributes:
        radius: ``[batch]``; 0 if the sample is misclassified, infinite where no target's margin depends on the input.
        margin: ``[batch, targets]``, ``f_y - f_j`` at the sample.
        constant: ``[batch, targets]``, an upper bound of the Lipschitz constant of ``f_y - f_j`` everywhere.
    """

    radius: np.ndarray
    margin: np.ndarray
    constant: np.ndarray
    norm: str
    method: str = "global-lipschitz"
    guarantee: Guarantee = Guarantee.NUMERIC

    def __repr__(self) -> str:
        return result_line(self.method, self.norm, self.guarantee, self.radius)

    def _columns(self) -> dict[str, Any]:
        return {"radius": self.radius}


@dataclass(frozen=True)
class CleverScores(ShownResult):
    """CLEVER scores: estimates of the smallest distance to another class, above or below it.

    Attributes:
        score: ``[batch]``; 0 if the sample is misclassified, at most ``limit``.
        constant: ``[batch, targets]``, the estimated Lipschitz constant of ``f_y - f_j`` in the ball; NaN where the
            sample is misclassified.
        largest: ``[batch, targets]``, the largest gradient (in the dual norm) that was sampled; NaN as above.
        limit: the radius of the balls sampled.
    """

    score: np.ndarray
    constant: np.ndarray
    largest: np.ndarray
    limit: float
    norm: str
    method: str = "clever"
    guarantee: Guarantee = Guarantee.ESTIMATE

    def __repr__(self) -> str:
        return result_line(self.method, self.norm, self.guarantee, self.score)

    def _columns(self) -> dict[str, Any]:
        return {"score": self.score}


@dataclass(frozen=True)
class AttackDistances(ShownResult):
    """The nearest adversarial examples that attacks found: upper bounds of every certified radius.

    Attributes:
        distance: ``[batch]``, rounded up; 0 if the sample is misclassified, infinite where nothing was found.
        witness: ``[batch, *input]``, the examples, replayed on the original model; NaN where nothing was found.
        found_by: ``[batch]``, the attack that found each; ``""`` where none did or none was needed.
    """

    distance: np.ndarray
    witness: np.ndarray
    found_by: tuple[str, ...]
    norm: str
    method: str

    @property
    def guarantee(self) -> list[Guarantee]:
        """``replayed`` where a witness was found; ``estimate``, which is no guarantee at all, elsewhere."""
        return [Guarantee.REPLAYED if np.isfinite(d) else Guarantee.ESTIMATE for d in self.distance]

    def __repr__(self) -> str:
        return result_line(self.method, self.norm, Guarantee.REPLAYED, self.distance)

    def _columns(self) -> dict[str, Any]:
        return {"distance": self.distance, "found by": self.found_by}
