"""From a model and samples to queries: attacks first, then bounds in the set that is encoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfcert.attacks import falsify
from tfcert.clauses import Clauses
from tfcert.complete.encoding.piecewise import Plain
from tfcert.complete.search.query import Query, Solvers
from tfcert.complete.search.tighten import BOUNDS, LayerBounds, propagated, tightened
from tfcert.complete.search.witness import Judge
from tfcert.complete.solver.process import SolverError
from tfcert.options import BoundOptions
from tfcert.propagation.engine import lower_bounds
from tfcert.rigour.margins import rounding
from tfcert.sets.balls import LpBall, Perturbation

_ROUNDS = 7
"""How often the nearest witness is looked for in a smaller ball."""


@dataclass(frozen=True)
class Asker:
    """Builds queries about one network.

    Attributes:
        net: the network.
        model: the original, which judges witnesses.
        bounds: ``interval``, ``crown``, ``lp`` or ``progressive`` (see ``tightening``).
        options: of bound computations.
        rounded: whether proofs must leave room for the rounding of the model's own arithmetic; bounds need not.
    """

    net: Plain
    model: Any
    bounds: str = "crown"
    options: BoundOptions | None = None
    rounded: bool = True

    def __post_init__(self) -> None:
        if self.bounds not in BOUNDS:
            raise ValueError(f"unknown bounds {self.bounds!r}: one of {', '.join(BOUNDS)}")

    def query(self, region: Perturbation, judge: Judge, solvers: Solvers) -> Query:
        """The query about one sample's set; the judge has its clauses."""
        method = "interval" if self.bounds in ("interval", "progressive") else "crown"
        (bounds,) = propagated(self.net, region, method, self.options)
        if self.bounds in ("lp", "progressive"):
            bounds = self._tightened(region, bounds, solvers)
        clauses = judge.clauses
        lower, upper = self._rows(region, clauses, "crown" if method == "crown" else "ibp")
        lost = self._lost(region, clauses)
        less = np.where(np.isfinite(lost), lost, 0.0)  # nothing is decided where it is not: see ``decide``
        return Query(self.net, region, clauses.less(less), lost, bounds, lower - less, upper - less, judge)

    def _lost(self, region: Perturbation, clauses: Clauses) -> np.ndarray:
        """What the rounding of the deployed network may take from the clauses' rows, ``[clauses, rows]``."""
        if not self.rounded:
            return np.zeros(clauses.offsets.shape[1:])
        return rounding(self.net.deployed, region, clauses.rows()[0]).reshape(clauses.offsets.shape[1:])

    def _tightened(self, region: Perturbation, bounds: LayerBounds, solvers: Solvers) -> LayerBounds:
        try:
            return tightened(
                self.net, region, bounds, solvers.first, solvers.until, integer=self.bounds == "progressive"
            )
        except SolverError:
            return bounds  # looser, and as sound as before

    def _rows(self, region: Perturbation, clauses: Clauses, method: str) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds of the clauses' rows, ``[clauses, rows]``; infinite for padding."""
        both = [np.concatenate([part, -part], axis=1) for part in clauses.rows()]
        ends = lower_bounds(self.net.network, region, *both, method=method, options=self.options)
        lower, upper = np.split(ends, 2, axis=1)
        return clauses.settled(lower)[0], clauses.settled(-upper, np.inf)[0]


def nearest_witnesses(
    model: Any,
    ball: LpBall,
    clauses: Clauses,
    *,
    network: Any = None,
    tell: Callable[[np.ndarray], None] | None = None,
    **options: Any,
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest strict witnesses that PGD finds by bisecting on the radius.

    Args:
        ball: how far to look, one ball a sample.
        network: what gradients are taken of where the model's own outputs saturate.
        tell: is called with the distances so far.
        options: of the attack.

    Returns:
        Witnesses ``[batch, *input]`` in the model's dtype (NaN where none) and their distances ``[batch]``, rounded up
        (infinite where none).
    """
    count = len(ball)
    witness = np.full(ball.x.shape, np.nan, ball.x.dtype)
    distance, failed = np.full(count, np.inf), np.zeros(count)
    radius, todo = ball.eps.copy(), np.arange(count)
    for _ in range(_ROUNDS):
        if not len(todo):
            break
        some = ball.take(todo)
        some = LpBall(some.x, list(radius[todo]), some.norm, some.clip)
        part = clauses.take(todo)

        def holds(outputs: np.ndarray, samples: np.ndarray, part: Clauses = part) -> np.ndarray:
            return ~(part.take(samples).margin(outputs) < 0)

        found = falsify(model, some, part, network=network, holds=holds, **options)
        for i, sample in enumerate(todo):
            if found.success[i] and found.distance[i] * (1 + 1e-12) < distance[sample]:
                judge = Judge(model, ball.take([sample]), clauses.take([sample]))
                witness[sample], distance[sample] = found.witness[i], judge.distance(found.witness[i])
            elif not found.success[i]:
                failed[sample] = radius[sample]
        if tell is not None:
            tell(distance)
        todo = np.flatnonzero(np.isfinite(distance) & (distance > 1.02 * failed))
        radius[todo] = np.where(failed[todo] > 0, 0.5 * (failed[todo] + distance[todo]), 0.5 * distance[todo])
    return witness, distance
