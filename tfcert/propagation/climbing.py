"""The climb of rows to their best bounds, by lines that each row chooses for itself."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import tensorflow as tf

from tfcert.network.graph import MaxPool, Network
from tfcert.propagation import kernels
from tfcert.propagation.affine import AffinePart
from tfcert.propagation.ascent import Ascent, Choosing, best_choices, owned
from tfcert.propagation.backward import Relaxed, before_linear, linear_lower_bounds
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.combined import WeightedRows
from tfcert.propagation.concretize import middle
from tfcert.propagation.enclosures import TensorInterval
from tfcert.propagation.errors import Errors, share_of_sum, summed
from tfcert.propagation.multivariate import Carried, ChosenStep
from tfcert.propagation.open_lines import Opened, OpenLines, chosen_step
from tfcert.propagation.pooling import default_height, pool_lines
from tfcert.propagation.preactivation import greater, nonlinear
from tfcert.propagation.stepping import NodeLines, Step
from tfcert.sets.region import Region

_WEIGHT = 0.1
"""Steps of the weights of rows, relative to those of slopes: they are best for the named relaxation to begin with."""
Pools = Mapping[int, tuple[MaxPool, TensorInterval]]
ChosenSteps = Mapping[int, Step | ChosenStep]


@dataclass(frozen=True)
class NodeSearch:
    """A search for the bounds of rows, node after node.

    Attributes:
        opened: of each nonlinear node whose input's bounds are final, what its lines are chosen from.
        errors: of a rounded network, with the bounds of nodes as they are known by now.
    """

    network: Network
    region: Region
    relaxation: str | None
    ascent: Ascent
    affine: AffinePart
    opened: dict[int, Opened | NodeLines]
    errors: Errors | None


def climbed(
    search: NodeSearch,
    target: int,
    rows: Coefficients,
    pools: Pools | None = None,
    weighted: WeightedRows | None = None,
) -> tf.Tensor | None:
    """Lower bounds of rows over a node by lines that each row chooses for itself, given bounds of the nodes before it.

    Args:
        search: what is known of these nodes.
        target: the node.
        rows: over its output.
        pools: those pooling nodes whose levels are to be chosen, for all rows of a sample, with bounds of their input.
        weighted: where combinations of rows are bounded, one a clause, the weights to begin with, which climb too.

    Returns:
        ``[samples, groups * rows]`` (selected groups: ``[1, groups * rows]``), or ``[samples, clauses]``; None where
        there is nothing to choose.
    """
    what = _Rows(search, target, rows, pools or {}, weighted)
    return best_choices(what.climb(), what.nothing, search.ascent) if what.free or what.pools else None


class _Rows:
    """Rows, or combinations of them, on their climb.

    Attributes:
        free: of nodes with a choice what their lines are chosen from, ``named`` the lines of the others.
        nothing: bounds that say nothing, in the result's shape.
    """

    def __init__(
        self, search: NodeSearch, target: int, rows: Coefficients, pools: Pools, weighted: WeightedRows | None
    ) -> None:
        network = search.network
        known = {i: search.opened[i] for i in nonlinear(network) if i in network.ancestors(target)}
        self.search, self.pools, self.weighted = search, pools, weighted
        self.free = {i: what for i, what in known.items() if isinstance(what, Opened)}
        self.named = {i: what for i, what in known.items() if not isinstance(what, Opened)}
        lead = [1, rows.values.shape[1] * rows.values.shape[2]]
        if rows.owner is None:
            each = rows.values.shape[2] if weighted is None else weighted.together.clauses
            lead = [tf.shape(search.region.center)[0], each]
        self.nothing = tf.fill(lead, tf.constant(-float("inf"), network.dtype))
        # What rounding takes from combinations is found from the rows as they are given.
        self.target, self.rows, self.given = target, rows, rows
        self.gained: tf.Tensor = tf.zeros([1, rows.values.shape[2]], network.dtype)
        if (self.free or pools) and (weighted is None or search.errors is None):  # once for all steps
            self.target, self.rows, self.gained = before_linear(network, target, rows, search.errors)
        self.arranged: dict[int, Opened] = {}  # for the entries that rows have at a node: the first pass finds out
        self.places: list[tf.Tensor] = []
        self.sizes: list[int] = []
        self.box: tf.Tensor | None = None

    def climb(self) -> Choosing:
        """The choices of all nodes, heights of pools and weights of rows after them."""
        fast = self.search.network.rounded(None)
        heights = [default_height(pool, *ends) for pool, ends in self.pools.values()]
        weights = [] if self.weighted is None else [self.weighted.weights]
        self._bound(fast, {i: self._step(i, what) for i, what in self.free.items()}, heights, weights)
        paces = [what.pace for what, size in zip(self.arranged.values(), self.sizes, strict=True) for _ in range(size)]
        paces += [1.0] * len(heights) + [_WEIGHT] * len(weights)
        first = [*self.places, *heights, *weights]
        axes = [3] * len(self.places) + [1] * len(heights) + [2] * len(weights)
        return Choosing(
            functools.partial(self._evaluate, fast),
            first,
            paces,
            None if fast is self.search.network else functools.partial(self._evaluate, self.search.network),
            lambda mark: [owned(mark, choice, count) for choice, count in zip(first, axes, strict=True)],
            together=bool(heights),
        )

    def _step(self, index: int, what: Opened) -> Step | ChosenStep:
        """A step by the named relaxation, which arranges what there is to choose from for the rows that pass."""

        def arrange(here: Coefficients) -> Carried | tuple[Coefficients, tf.Tensor]:
            quick = what.fast if isinstance(what, OpenLines) else what
            self.arranged[index] = quick.over(here)
            samples = 1 if here.owner is not None else tf.shape(self.search.region.center)[0]
            groups = here.values.shape[1] if here.owner is not None or here.patches is None else here.patches.positions
            first = self.arranged[index].first([samples, groups, *here.values.shape[2:]])
            self.sizes.append(len(first))
            self.places.extend(first)
            return self.arranged[index].back(here, first)

        return chosen_step(what, arrange)

    def _evaluate(self, network: Network, flat: list[tf.Tensor]) -> tf.Tensor:
        parts, steps = iter(flat), {}
        for index, size in zip(self.arranged, self.sizes, strict=True):
            chosen = [next(parts) for _ in range(size)]
            steps[index] = chosen_step(self.free[index], self._back(network, index, chosen))
        rest = list(parts)
        found = self._bound(network, steps, rest[: len(self.pools)], rest[len(self.pools) :])
        return tf.ensure_shape(greater(found, self.nothing), self.nothing.shape)

    def _back(self, network: Network, index: int, chosen: Sequence[tf.Tensor]):  # type: ignore[no-untyped-def]
        if network.rounding is None or not isinstance(self.free[index], OpenLines):
            return functools.partial(self.arranged[index].back, choices=chosen)
        return lambda here: self.free[index].over(here).back(here, chosen)

    def _bound(
        self, network: Network, steps: ChosenSteps, heights: Sequence[tf.Tensor], weights: Sequence[tf.Tensor]
    ) -> tf.Tensor:
        """Bounds of the rows, or of their combinations by these weights, by a network that is rounded or is not."""
        search, some, constant = self.search, self.rows, self.gained
        errors = None if network.rounding is None else search.errors
        weighted = None if self.weighted is None else replace(self.weighted, weights=weights[0])
        if weighted is not None:
            some, offsets = weighted.mixture(self.rows)
            constant = weighted.mixed(self.gained) + offsets
        levels = {
            i: pool_lines(pool, *ends, search.relaxation, height)
            for (i, (pool, ends)), height in zip(self.pools.items(), heights, strict=True)
        }
        stops = {0: functools.partial(self._over_box, network)} if search.region.is_box else {}
        relaxed = Relaxed({**self.named, **levels, **steps}, stops, {}, search.affine, errors)
        found = linear_lower_bounds(network, self.target, some, relaxed, search.region)
        if errors is None:
            return found + constant
        if weighted is None:
            return summed([found, constant], errors)
        return weighted.charged(found + constant, self.given, errors)

    def _over_box(self, network: Network, here: Coefficients) -> tuple[None, tf.Tensor]:
        if self.box is None:
            center = middle(self.search.region)
            reach = tf.maximum(self.search.region.upper - center, center - self.search.region.lower)
            self.box = here.unfold(reach)
        size = kernels.size_by_fixed_weights(here.values, self.box)
        if network.rounding is not None:
            size *= 1.0 + share_of_sum(here.values.shape[3], network.rounding, 16)
        return None, -size
