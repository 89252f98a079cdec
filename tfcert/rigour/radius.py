"""Margins, and the radii up to which they are proofs: what the network's own rounding may take is left to it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tfcert.attacks.conditions import within_limits
from tfcert.clauses import Clauses
from tfcert.network import Network
from tfcert.options import BoundOptions
from tfcert.propagation.disjunctions import clause_bounds
from tfcert.propagation.engine import lower_bounds
from tfcert.propagation.question import first_order
from tfcert.propagation.radius import RadiusSearch, first_guess, largest_radius
from tfcert.propagation.supported import guarantee_of, not_charged
from tfcert.rigour.margins import rounding
from tfcert.sets.balls import LpBall, Perturbation
from tfcert.verdict import Guarantee

_TIED = 16.0
"""Units of roundoff, of differences of logits: where ``z_y - z_j`` is larger, ``exp(z_j - z_y)`` is below 1 by more
than the error of four units in the last place that an exponential may have and the rounding of a quotient."""


def unit_of(network: Network) -> float:
    """The unit roundoff of a network's type."""
    return 0.5 * float(np.finfo(network.dtype.as_numpy_dtype).eps)


def lost_in_ties(network: Network) -> float:
    """What a softmax that a network leaves out may take from a margin: outputs closer than that may become equal."""
    return _TIED * unit_of(network) if network.peeled else 0.0


@dataclass(frozen=True)
class CertifyingMethod:
    """The method, relaxation and options of bounds; see :func:`~tfcert.propagation.engine.lower_bounds`."""

    method: str = "crown"
    relaxation: str | None = None
    options: BoundOptions | None = None

    def not_charged(self, network: Network, clauses: Clauses | None = None) -> str:
        """The reason why bounds of a network leave rounding out of account, in words; "" where they do not."""
        return not_charged(network, self.method, self.relaxation, self.options or BoundOptions(), _combines(clauses))

    def guarantee(self, network: Network, clauses: Clauses | None = None) -> Guarantee:
        """The guarantee of bounds of a network."""
        return guarantee_of(network, self.method, self.relaxation, self.options or BoundOptions(), _combines(clauses))


def _combines(clauses: Clauses | None) -> bool:
    """Tells whether bounds are of combinations of rows, too."""
    return clauses is not None and clauses.disjunctive and len(clauses) > 0


@dataclass(frozen=True)
class Reach:
    """Limits of a radius search: how far and how closely it looks.

    Attributes:
        upper: the largest radius of interest.
        tolerance: relative, of the radius.
        absolute: a tolerance that is close enough whatever the radius.
        start: the radius to try first; None for a guess from the gradient.
        left: seconds that are left, by a clock of the caller's; asked before each pass, which is not begun where it
            would take more than that.
    """

    upper: float = math.inf
    tolerance: float = 1e-4
    absolute: float = 0.0
    start: float | None = None
    left: Callable[[], float] = lambda: math.inf


def rows_below(network: Network, sets: Perturbation, rows: np.ndarray, how: CertifyingMethod) -> np.ndarray:
    """Lower bounds of rows ``C y`` over each set, ``[batch, rows]``."""
    offsets = np.zeros(rows.shape[:2])
    return lower_bounds(network, sets, rows, offsets, method=how.method, relaxation=how.relaxation, options=how.options)


def margins_of(
    network: Network, sets: Perturbation, clauses: Clauses, how: CertifyingMethod
) -> tuple[np.ndarray, np.ndarray]:
    """The certified margins in the type of the bounds, NaN where nothing is known; and what rounding may take.

    Where the bounds are charged for rounding themselves, that is nothing but what a softmax may take that the network
    leaves out: outputs closer than that may become equal.
    """
    sets, (rows, _) = within_limits(network, sets, clauses), clauses.rows()
    lower, combined = clause_bounds(
        network, sets, clauses, method=how.method, relaxation=how.relaxation, options=how.options
    )
    taken: np.ndarray | float = lost_in_ties(network)
    if how.not_charged(network, clauses):
        taken = rounding(network, sets, rows)
    margins, lost = clauses.certified(lower, taken, combined)
    return margins.astype(lower.dtype), lost  # each margin is one of the bounds


def proven_radius(
    network: Network, center: LpBall, clauses: Clauses, how: CertifyingMethod, reach: Reach
) -> RadiusSearch:
    """The largest radius around each centre at which every clause is proven.

    Args:
        center: balls of radius 0, in the network's type.
        clauses: of its outputs, without offsets.

    Returns:
        What was proven by the time that there was: a radius that was itself certified, 0 where none was.
    """
    start, slope = first_order(
        network, center.x, clauses, center.norm, None if center.scale is None else center.scale.high
    )
    pace = 0.0

    def margin_at(index: np.ndarray, eps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        nonlocal pace
        before = reach.left()
        if before <= pace * len(index):
            raise TimeoutError("no time is left for another pass")
        margins = margins_of(network, center.take(index).resized(eps), clauses.take(index), how)
        pace = (before - reach.left()) / max(1, len(index)) if math.isfinite(before) else 0.0
        return margins

    return largest_radius(
        margin_at,
        start,
        start_rounding=rounding(network, center, clauses.rows()[0]).min(axis=1),  # a guess
        guesses=first_guess(start, slope, center.norm) if reach.start is None else np.full(len(start), reach.start),
        slope=slope,
        upper=min(reach.upper, farthest(center)),
        tolerance=reach.tolerance,
        absolute=reach.absolute,
    )


def farthest(center: LpBall) -> float:
    """The distance beyond which no point of any ball's clip range lies; infinite without one."""
    if center.clip is None:
        return math.inf
    return float(np.max(clip_distance(center), initial=0.0))


def clip_distance(center: LpBall) -> np.ndarray:
    """The distance of the farthest point of the clip range from each centre, in its scale: ``[batch]``."""
    assert center.clip is not None
    points = center.x.astype(np.float64)
    far = np.where(center.clip[1] - points > points - center.clip[0], center.clip[1], center.clip[0])
    return center.lengths(np.where(center.moving(), far, points))
