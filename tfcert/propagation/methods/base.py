"""The protocol of a method, and what several of them share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from tfcert.network.graph import Network
from tfcert.options import BoundOptions
from tfcert.propagation.ascent import Ascent
from tfcert.propagation.backward import Relaxed, linear_lower_bounds
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.combined import Together, combined_rows
from tfcert.propagation.enclosures import TensorInterval
from tfcert.propagation.errors import Errors
from tfcert.propagation.interval import intervals
from tfcert.propagation.plan import Plan
from tfcert.propagation.preactivation import WHOLE, Passes, by_name, floor, greater, relax_before
from tfcert.propagation.ranges import errors_of
from tfcert.propagation.widening import last_pass
from tfcert.sets.balls import Perturbation
from tfcert.sets.region import Region

_ASCENT = Ascent()


@dataclass(frozen=True)
class How:
    """Options of a method; no choice here changes what is proven.

    Attributes:
        relaxation: a rule by which activations choose their lines; None for the default of each.
        passes: how backward passes are cut, and whether they may leave out stable neurons.
        ascent: how better relaxations are looked for.
        together: the clauses that the rows make up; None where each row is one.
        wide: whether the last pass of a rounded network may be computed in float64, behind passes that take longer.
    """

    relaxation: str | None = None
    passes: Passes = WHOLE
    ascent: Ascent = _ASCENT
    together: Together | None = None
    wide: bool = True


class Bounded(NamedTuple):
    """Lower bounds of rows ``[samples, rows]``, and the bounds of every node that enters a nonlinearity.

    ``combined`` are those of the clauses' best combinations of rows ``[samples, clauses]``, offsets included, where
    rows make up clauses.
    """

    lower: tf.Tensor
    pre_activation: dict[int, TensorInterval]
    combined: tf.Tensor | None = None

    def of_rows(self) -> list[tf.Tensor]:
        """The bounds of rows, and those of combinations where there are such."""
        return [self.lower] if self.combined is None else [self.lower, self.combined]


class Method(Protocol):
    """A way to bound by propagation: functions of (network, region) without state.

    Rows are :class:`Coefficients` over the network's output, ``[samples or 1, 1, rows, outputs]``.
    """

    def plan(self, network: Network, rows: int, memory_mb: int, is_box: bool) -> Plan:
        """The number of samples in a pass, and its cuts, so that coefficients take ``memory_mb`` MiB."""

    def pre_activation(self, network: Network, region: Region, how: How) -> dict[int, TensorInterval]:
        """Bounds of every node that enters a nonlinearity, ``[samples, *shape]`` pairs, by node number."""

    def lower(self, network: Network, region: Region, rows: Coefficients, how: How) -> Bounded:
        """Lower bounds of rows over the output."""


class SolvedMethod(Protocol):
    """A way to bound by a solver, outside of TensorFlow."""

    def bounds(
        self,
        network: Network,
        perturbation: Perturbation,
        coefficients: np.ndarray,
        offsets: np.ndarray,
        options: BoundOptions,
    ) -> np.ndarray:
        """Lower bounds ``[batch, rows]`` float64 of ``C y + d``, C ``[batch, rows, outputs]``, d ``[batch, rows]``."""


def interval_bounds(
    network: Network, region: Region, how: How, errors: Errors | None = None
) -> dict[int, TensorInterval]:
    """The intervals of every node that enters a nonlinearity; those of all nodes are taken up in ``errors``."""
    ranges = intervals(network, region, {}, how.passes.parts, errors)
    return {i: ranges[i] for i in network.bounded()}


def in_parts(rows: Coefficients, at_once: int | None, bound: Callable[[Coefficients], tf.Tensor]) -> tf.Tensor:
    """Bounds of rows ``[samples, rows]`` that are found for so many ``at_once``."""
    parts = [bound(part) for part in split(rows, at_once)]
    return parts[0] if len(parts) == 1 else tf.concat(parts, axis=1)


def split(rows: Coefficients, at_once: int | None) -> list[Coefficients]:
    """So many rows ``at_once``."""
    count = rows.values.shape[2]
    if at_once is None or count <= at_once:
        return [rows]
    return [replace(rows, values=rows.values[:, :, i : i + at_once]) for i in range(0, count, at_once)]


def in_clauses(rows: Coefficients, how: How) -> Iterator[tuple[Coefficients, Together]]:
    """The rows of as many clauses at a time as rows may be bounded at once, with the clauses; none where there are no
    clauses."""
    whole = how.together
    if whole is None:
        return
    at_once = whole.clauses if how.passes.rows is None else max(1, how.passes.rows // whole.rows)
    for first in range(0, whole.clauses, at_once):
        last = min(first + at_once, whole.clauses)
        yield (
            replace(rows, values=rows.values[:, :, first * whole.rows : last * whole.rows]),
            whole.part(first, last),
        )


def combined_through(
    network: Network, region: Region, rows: Coefficients, relaxed: Relaxed, how: How
) -> tf.Tensor | None:
    """Bounds of the clauses' combinations of rows through relaxed nodes; None where rows make up no clauses."""
    found = [combined_rows(network, region, some, clauses, relaxed) for some, clauses in in_clauses(rows, how)]
    return tf.concat(found, axis=1) if found else None


def by_rows(
    network: Network,
    region: Region,
    rows: Coefficients,
    relaxed: Relaxed,
    bounds: dict[int, TensorInterval],
    how: How,
) -> Bounded:
    """Rows bounded through relaxed nodes, met with what intervals say, and combinations of them through the nodes."""
    errors = relaxed.errors or errors_of(network, region, relaxed.bounds)
    relaxed = replace(relaxed, errors=errors)

    def bound(some: Coefficients) -> tf.Tensor:
        bounded = last_pass if how.wide else linear_lower_bounds
        lower = bounded(network, network.output, some, relaxed, region)
        return greater(lower, floor(network, region, some, bounds, errors))

    combined = combined_through(network, region, rows, relaxed, how)
    return Bounded(in_parts(rows, how.passes.rows, bound), bounds, combined)


def backward_rows(
    network: Network,
    region: Region,
    rows: Coefficients,
    how: How,
    bounds: dict[int, TensorInterval],
    errors: Errors | None = None,
) -> Bounded:
    """Rows bounded by a backward pass to the input, every nonlinear node relaxed on its bounds."""
    relaxed = relax_before(network, network.output, by_name(network, how.relaxation), bounds, errors=errors)
    return by_rows(network, region, rows, relaxed, bounds, how)
