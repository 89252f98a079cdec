"""Queries about samples: bounds of the set that is encoded, and of the rows that must hold on it."""

from __future__ import annotations

import functools
import time
import weakref
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from tfcert.attacks.conditions import within_limits
from tfcert.catalog import BOUNDS, NeuronBoundsInfo
from tfcert.clauses import Clauses
from tfcert.complete.encoding.piecewise import PiecewiseNetwork, flatten
from tfcert.complete.search.query import Query, Solvers
from tfcert.complete.search.tighten import propagated_bounds, tightened
from tfcert.complete.search.witness import Judge
from tfcert.network import Network
from tfcert.network.related import related
from tfcert.options import BoundOptions
from tfcert.propagation.bounds import check_names
from tfcert.propagation.disjunctions import clause_bounds
from tfcert.propagation.supported import as_given, not_charged
from tfcert.rigour.margins import rounding
from tfcert.rigour.radius import lost_in_ties
from tfcert.roundoff import rounding_of
from tfcert.sets.balls import Perturbation

_PARTS = ("coefficients", "offsets")


@dataclass
class _Pace:
    """The seconds that bounds of one set took last."""

    seconds: float = 0.0


_PACES: weakref.WeakKeyDictionary[Network, dict[Any, _Pace]] = weakref.WeakKeyDictionary()


def flat_network(network: Network, bounds: str, options: BoundOptions | None = None) -> PiecewiseNetwork:
    """Reads a network for queries with bounds of that name: rounded, as options ask, where all bounds can charge it.

    Raises:
        ValueError: a weight is NaN or infinite, or unknown bounds.
    """
    asked = options or BoundOptions()
    if not_charged(network, BOUNDS.find(bounds).method, None, asked, combined=True):
        return flatten(network)
    return flatten(network, rounding_of(asked.rounding, network.dtype.as_numpy_dtype, np.float64))


@dataclass(frozen=True)
class QueryBuilder:
    """Builds queries about one network.

    Attributes:
        net: the network.
        model: the original, which judges witnesses.
        bounds: of neurons, one of ``catalog.BOUNDS``.
        options: of bound computations.
        rounded: whether proofs must leave room for the rounding of the model's own arithmetic; bounds need not.
        combine: whether the best combinations of rows are looked for in clauses that bounds leave open; parts of sets
            that are cut soon show more.

    Raises:
        ValueError: unknown bounds, or such as are not defined for the network.
    """

    net: PiecewiseNetwork
    model: Any
    bounds: str = "crown"
    options: BoundOptions | None = None
    rounded: bool = True
    combine: bool = True

    def __post_init__(self) -> None:
        check_names(self.net.network, self._how.method, None)

    @property
    def _how(self) -> NeuronBoundsInfo:
        return BOUNDS.find(self.bounds)

    @property
    def _pace(self) -> _Pace:
        return _PACES.setdefault(self.net.deployed, {}).setdefault((self.bounds, self.options), _Pace())

    def query(self, region: Perturbation, judge: Judge, solvers: Solvers) -> Query:
        """The query about one sample's set; the judge has its clauses.

        Raises:
            TimeoutError: what it takes is more than what is left of the solvers' time.
        """
        left = solvers.left()
        if left <= 0 or self._pace.seconds > left:
            raise TimeoutError(
                "the budget was used up before bounds were computed"
                if left <= 0
                else f"the budget was used up: bounds take about {self._pace.seconds:.3g} s, and {left:.3g} s are left"
            )
        query = self.untightened(region, judge)
        integer = self._how.solver == "progressive"
        if not self._how.solver or not (integer or query.prices_prove):
            return query
        bounds = tightened(query.net, query.region, query.bounds, solvers.first, solvers.until, integer=integer)
        return replace(query, bounds=bounds)

    def untightened(self, region: Perturbation, judge: Judge) -> Query:
        """The query as far as it takes no solver."""
        began = time.monotonic()
        region = within_limits(self.net.network, region, judge.clauses)
        net, ways = self._asked(judge.clauses)
        rows, offsets = (np.concatenate([getattr(way, part) for way in ways], axis=2) for part in _PARTS)
        every = Clauses(rows, offsets)
        bounds, lower, upper = propagated_bounds(net, region, self._how.method, every, self.options)
        lower = np.max(np.split(lower, len(ways), axis=1), axis=0)
        upper = np.min(np.split(upper, len(ways), axis=1), axis=0)
        lost = self._lost(region, judge.clauses)
        less = np.where(np.isfinite(lost), lost, 0.0)  # nothing is decided where it is not: see ``decide``
        ends, of = (lower - less, upper - less), None if net is self.net else self.net.network
        query = Query(net, region, ways[-1].less(less), lost, bounds, *ends, judge, tighten=self.bounds, asked_of=of)
        if self.combine and judge.clauses.disjunctive and query.open:
            query = self._combined(query)
        self._pace.seconds = time.monotonic() - began
        return query

    def _combined(self, query: Query) -> Query:
        """The query with what combinations of rows prove of its clauses."""
        method, options = self._how.method, as_given(self.net.network, self.options)
        _, combined = clause_bounds(self.net.network, query.region, query.posed, method=method, options=options)
        if combined is None:
            return query
        return query.holding({k: float(combined[0, k]) for k in query.open if np.isfinite(combined[0, k])}, False)

    def _asked(self, clauses: Clauses) -> tuple[PiecewiseNetwork, list[Clauses]]:
        """The network to be asked, and the clauses over its outputs: as they are, and those over differences last."""
        options = as_given(self.net.network, self.options)
        pairs = related(self.net.network) if options.differences else None
        if pairs is None or not pairs.concerns(clauses.coefficients):
            return self.net, [clauses]
        rounded = self.net.network.rounding is not None
        if rounded and not_charged(pairs.network, self._how.method, None, options, combined=True):
            return self.net, [clauses]
        forms = [form(tf.constant(clauses.coefficients)).numpy() for form in (pairs.plain, pairs.matched)]
        return self._with_differences, [Clauses(form, clauses.offsets) for form in forms]

    @functools.cached_property
    def _with_differences(self) -> PiecewiseNetwork:
        """The network with its differences, as layers."""
        pairs = related(self.net.network)
        assert pairs is not None
        return flatten(pairs.network, pairs.network.rounding)

    def _lost(self, region: Perturbation, clauses: Clauses) -> np.ndarray:
        """Estimates what the rounding of the deployed network may take from the clauses' rows, ``[clauses, rows]``."""
        if not self.rounded:
            return np.zeros(clauses.offsets.shape[1:])
        if self.net.network.rounding is not None:  # bounds are of what the deployed network computes
            return lost_in_ties(self.net.deployed, clauses).reshape(clauses.offsets.shape[1:])
        return rounding(self.net.deployed, region, clauses.rows()[0]).reshape(clauses.offsets.shape[1:])
