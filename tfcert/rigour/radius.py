"""Margins, and the radii up to which they are proofs: what the network's own rounding may take is left to it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tfcert.attacks.conditions import within_limits
from tfcert.catalog import METHODS
from tfcert.clauses import Clauses
from tfcert.network import Network
from tfcert.options import BoundOptions
from tfcert.propagation.disjunctions import clause_bounds
from tfcert.propagation.engine import lower_bounds
from tfcert.propagation.question import first_order
from tfcert.propagation.radius import RadiusSearch, first_guess, largest_radius
from tfcert.propagation.supported import guarantee_of, not_charged
from tfcert.rigour.margins import rounding
from tfcert.roundoff import unit_roundoff
from tfcert.sets.balls import LpBall, Perturbation
from tfcert.verdict import Guarantee

_TIED = 64.0
"""Units of roundoff, of differences of logits, that a softmax tells apart: see :func:`lost_in_ties`."""


def lost_in_ties(network: Network, clauses: Clauses) -> np.ndarray:
    """What a softmax that a network leaves out may take from the clauses' rows ``[batch, rows]``, as deployed.

    Two logits that differ may have one probability. Let x be the largest logit and y another, ``x - y`` at least
    ``64 u``, u the unit roundoff. The program computes ``exp`` of 0 and of at most ``-(x - y) (1 - u)``, each up to 8
    ulps, ``16 u`` of its value, and divides both by one sum (or multiplies by its inverse), which leaves their order
    and needs no more than ``4 u`` between them to keep them apart: ``exp(-64 u) < 1 - 60 u``, and
    ``(1 - 60 u)(1 + 16 u)(1 + 4 u) < 1 - 16 u``. Of two logits neither of which is the largest nothing is said (both
    probabilities may be 0), nor of any other rows: these lose everything.
    """
    rows, _ = clauses.rows()
    if not network.peeled or clauses.charged:
        return np.zeros(rows.shape[:2])
    tied = _TIED * unit_roundoff(network.dtype.as_numpy_dtype) * np.abs(rows).max(axis=2, initial=0.0)
    return np.where(clauses.ranks_first[:, None], tied, np.inf)


@dataclass(frozen=True)
class CertifyingMethod:
    """The method, relaxation and options of bounds; see :func:`~tfcert.propagation.engine.lower_bounds`."""

    method: str = "crown"
    relaxation: str | None = None
    options: BoundOptions | None = None

    def not_charged(self, network: Network, clauses: Clauses | None = None) -> str:
        """The reason why bounds of a network leave rounding out of account, in words; "" where they do not."""
        what = not_charged(network, self.method, self.relaxation, self.options or BoundOptions(), _combines(clauses))
        return what or unranked(network, clauses)

    def guarantee(self, network: Network, clauses: Clauses | None = None) -> Guarantee:
        """The guarantee of bounds of a network."""
        if unranked(network, clauses):
            return METHODS.find(self.method).guarantee
        return guarantee_of(network, self.method, self.relaxation, self.options or BoundOptions(), _combines(clauses))


def unranked(network: Network, clauses: Clauses | None) -> str:
    """The reason why rows over the logits of a softmax say nothing certain of its probabilities as deployed; or ""."""
    if not network.peeled or clauses is None or clauses.charged or clauses.ranks_first.all():
        return ""
    return "of the probabilities of a softmax, as deployed, only which one is the largest follows from bounds of logits"


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
    uncharged = bool(how.not_charged(network, clauses))
    taken = rounding(network, sets, rows) if uncharged else lost_in_ties(network, clauses)
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
