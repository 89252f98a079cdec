"""Bounds of the values that enter a nonlinearity, by backward passes to the input."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from tfcert.activations import Lines, image, is_shipped, lines
from tfcert.activations.either import either
from tfcert.network.difference import Difference, Residuals
from tfcert.network.graph import Elementwise, MaxPool, Multivariate, Network, Node, Nonlinear, entering
from tfcert.network.linear import pad_or_crop
from tfcert.network.windows import gather_windows
from tfcert.propagation import kernels
from tfcert.propagation.affine import AffinePart, affine_part
from tfcert.propagation.backward import Relaxed, Stop, linear_lower_bounds, selected
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.concretize import least_over_box
from tfcert.propagation.difference import bends_between, without
from tfcert.propagation.enclosures import TensorInterval
from tfcert.propagation.errors import Errors, no_errors
from tfcert.propagation.folding import only_reader
from tfcert.propagation.interval import (
    Parts,
    all_sides,
    both_sides,
    exact_intervals,
    hull,
    intervals,
    needs_ball,
    step,
    taken_up,
    tidy,
)
from tfcert.propagation.kinds import multivariate_kind
from tfcert.propagation.pooling import pool_lines
from tfcert.propagation.stepping import NodeLines
from tfcert.sets.region import Region

Relaxer = Callable[[int, int, Mapping[int, TensorInterval]], NodeLines]
"""``(node, target, bounds) -> lines``: relaxes a nonlinear node for a pass to ``target``, given bounds of its input."""


@dataclass(frozen=True)
class Passes:
    """How a method's passes are cut; no choice here changes what is guaranteed.

    Attributes:
        parts: for each bounded node the slices of ``identity_rows`` that one pass takes each; one pass if absent.
        select: whether a pass may take only the unstable neurons where they are few.
        rows: how many rows over the output a pass takes; None for all.
        inputs: how many inputs forward planes are over at a time; None for all.
        signs: of nodes that enter a nonlinearity what neurons are known to be, ``[samples, *shape]``: 1 where they are
            never negative, -1 where never positive, else 0. Those that keep their sign need no pass.
    """

    parts: Parts = field(default_factory=dict)
    select: bool = False
    rows: int | None = None
    inputs: int | None = None
    signs: Mapping[int, tf.Tensor] = field(default_factory=dict)


WHOLE = Passes()
_OPERATIONS = 20
"""So many operations, or twice as many, place lines or compare bounds: each reads all of a node's values."""
_MUCH = 0.5
"""Bounds of a neuron that is not propagated exactly give way to an interval of at most this much of their width."""
_FEW = 0.45
"""The fraction of a node's neurons up to which a pass over the unstable ones alone pays (its rows share no slopes)."""
_SIZES = 3
"""Where kernels are compiled, passes over selected neurons are for this many numbers of them, so that they are compiled
for no more."""


def backward_bounds(
    network: Network,
    region: Region,
    relaxer: Relaxer,
    passes: Passes = WHOLE,
    affine: AffinePart | None = None,
    errors: Errors | None = None,
) -> dict[int, TensorInterval]:
    """Bounds of every node that enters a nonlinearity, ``[samples, *shape]`` pairs, by node number.

    Each is found by a backward pass through the nonlinear nodes before it, relaxed on the bounds found so far, and is
    met with the interval that follows from the bounds of the nodes before; see :func:`tighter`. An activation that
    enters a maximum needs no pass: its lines over the interval that it maps would only lie outside its image.

    ``errors``: of a rounded network, of no node yet: those of all nodes are taken up there.
    """
    found = _Ranges(network, region, relaxer, passes)
    found.affine, found.errors = affine or affine_part(network, region), errors or no_errors(network, region)
    for index in range(len(network.nodes)):
        found.of(index)
    return found.bounds


class _Ranges:
    """The ranges of a network's nodes, each found once, and bounds of those that enter a nonlinearity.

    Of two nodes whose difference a node is over, the second's range is met with the first's less the difference's
    interval: where they are close, that shows the signs of nearly all neurons whose sign the first's bounds show, and
    these need no pass.
    """

    def __init__(self, network: Network, region: Region, relaxer: Relaxer, passes: Passes) -> None:
        self.network, self.region, self.relaxer, self.passes = network, region, relaxer, passes
        self.affine: AffinePart | None = None
        self.errors: Errors | None = None
        self.bounds: dict[int, TensorInterval] = {}
        self._exact = exact_intervals(network, region.is_box) | network.sized()
        self._wanted, self._worth = frozenset(network.bounded()), worth_a_pass(network)
        self._found: dict[int, TensorInterval] = {}
        self._steps: dict[int, TensorInterval] = {}
        self._under_way: set[int] = set()

    def of(self, index: int) -> TensorInterval:
        """A node's range; those of its inputs are known."""
        if index not in self._found:
            here = self._step(index)
            if index in self._wanted:
                node = self.network.nodes[index]
                if not (isinstance(node, Elementwise) or index in self._exact) and index in self._worth:
                    here = self._by_passes(index, here)
                self.bounds[index] = here
            self._found[index] = here
        return self._found[index]

    def _step(self, index: int) -> TensorInterval:
        """What follows from the ranges of the node's inputs."""
        if index not in self._steps:
            node, errors = self.network.nodes[index], self.errors
            if index:
                self._steps[index] = taken_up(index, node, [self._found[i] for i in node.inputs], errors)
            else:
                self._steps[index] = self.region.lower, self.region.upper
                if errors is not None:
                    errors.add(index, self._steps[index])
        return self._steps[index]

    def _by_passes(self, index: int, here: TensorInterval) -> TensorInterval:
        network, passes, errors = self.network, self.passes, self.errors
        if passes.select and stable_is_exact(network, index):
            here = self._from_others(index, _signed(here, passes.signs.get(index)))
        relaxed = relax_before(network, index, self.relaxer, self.bounds, self.affine, errors)
        if passes.select and passes.parts.get(index, (None,)) == (None,) and stable_is_exact(network, index):
            here = _to_the_first_pooling(network, index, relaxed, self.region, here, self._found)
        here = _refined(network, index, relaxed, self.region, here, passes)
        if errors is not None:
            errors.narrow(index, here)
        return here

    def _from_others(self, index: int, here: TensorInterval) -> TensorInterval:
        """A node's interval, met with what follows from those that it is subtracted from."""
        network = self.network
        for node in network.nodes:
            if not (isinstance(node, Difference) and node.inputs[4] == index and node.inputs[3] in self._found):
                continue
            d, before = node.inputs[0], network.ancestors(node.inputs[0])
            if index in before or before & self._under_way:
                continue  # that is what is being found
            self._under_way.add(index)
            for source in sorted(before - {d}):
                self.of(source)
            self._under_way.remove(index)
            here = tighter(here, without(self._found[node.inputs[3]], self._step(d), network.rounding), True)
        return here


def _signed(here: TensorInterval, signs: tf.Tensor | None) -> TensorInterval:
    """An interval, met with what is known of signs."""
    if signs is None:
        return here
    low, high = here
    return hull(tf.where(signs > 0, tf.nn.relu(low), low), tf.where(signs < 0, tf.minimum(high, 0), high))


def worth_a_pass(network: Network) -> frozenset[int]:
    """The nodes whose bounds are worth a pass: residuals ask for sizes alone."""
    readers = (node for node in network.nodes if isinstance(node, Nonlinear) and not isinstance(node, Residuals))
    return frozenset(source for node in readers for source in node.inputs)


def _refined(
    network: Network, index: int, relaxed: Relaxed, region: Region, here: TensorInterval, passes: Passes
) -> TensorInterval:
    """Bounds of a node by backward passes, given its interval."""

    def all_neurons() -> TensorInterval:
        return met_with(network, index, all_sides(network, index, relaxed, region, passes.parts), here)

    # Rows over affine nodes are the same for all samples: selecting some for each would only make more of them.
    is_cut = len(passes.parts.get(index, (None,))) > 1
    if is_cut or not passes.select or not relaxed.lines or not stable_is_exact(network, index):
        return all_neurons()
    wanted = matters(network, index, here, relaxed.bounds)
    every, count = (tf.cast(n, tf.float32) for n in (tf.size(wanted), tf.math.count_nonzero(wanted)))
    step = tf.math.ceil(_FEW / _SIZES * every) if kernels.are_fused() else tf.constant(1.0)
    size = tf.maximum(1.0, tf.math.ceil(count / step)) * step
    few = functools.partial(_some_only, network, index, relaxed, region, here, wanted, tf.cast(size, tf.int32))
    lower, upper = tf.cond(size <= tf.math.ceil(_FEW / _SIZES * every) * _SIZES, few, all_neurons)
    return tf.ensure_shape(lower, here[0].shape), tf.ensure_shape(upper, here[1].shape)


def _to_the_first_pooling(
    network: Network,
    index: int,
    relaxed: Relaxed,
    region: Region,
    here: TensorInterval,
    ranges: Mapping[int, TensorInterval],
) -> TensorInterval:
    """A node's interval, met with bounds by a backward pass that ends at the network's first max pooling, if any.

    Before a pooling images are several times as large, so such a pass costs a fraction of one to the input, and it
    shows the signs of many neurons, which that need not bound (measured: half of those whose interval holds 0).
    """
    first = min((i for i in relaxed.lines if isinstance(network.nodes[i], MaxPool)), default=index)
    if first >= max(relaxed.lines, default=first):  # nothing between is relaxed: the interval says as much
        return here

    def box(rows: Coefficients) -> tuple[None, tf.Tensor]:
        return None, least_over_box(rows, *ranges[first], network.rounding)

    ending = Relaxed(relaxed.lines, {first: box}, errors=relaxed.errors)
    return tighter(here, both_sides(network, index, ending, region), True)


def _some_only(
    network: Network,
    index: int,
    relaxed: Relaxed,
    region: Region,
    here: TensorInterval,
    wanted: tf.Tensor,
    size: tf.Tensor,
) -> TensorInterval:
    """Bounds of the ``wanted`` neurons of the batch, at most ``size``, by one backward pass; others keep theirs."""
    flat = [tf.reshape(end, [-1]) for end in here]
    number = tf.where(tf.reshape(wanted, [-1]))[:, 0]
    # Filled up with neuron 0, whose bound is as good as any.
    number = tf.concat([number, tf.zeros([size], tf.int64)], axis=0)[:size]
    shape = network.nodes[index].shape
    rows = selected(shape, network.dtype, number // math.prod(shape), tf.math.floormod(number, math.prod(shape)))
    bounds = tf.reshape(linear_lower_bounds(network, index, rows, relaxed, region), [size, 2])
    known = tf.gather(flat[0], number), tf.gather(flat[1], number)
    found = met_with(network, index, tidy(bounds[:, 0], -bounds[:, 1]), known)
    lower, upper = (
        tf.reshape(tf.tensor_scatter_nd_update(old, number[:, None], new), [-1, *shape])
        for old, new in zip(flat, found, strict=True)
    )
    return lower, upper


def stable_is_exact(network: Network, index: int) -> bool:
    """Tells whether a neuron of the node that keeps its sign is propagated exactly, however loose its bounds are; of a
    difference's, one whose two arguments keep theirs."""
    return all(
        isinstance(node, Elementwise | Difference) and node.activation.piecewise_linear
        for node in _readers(network, index)
    )


def _readers(network: Network, index: int) -> list[Node]:
    """The nodes whose bounds depend on how wide those of a node are.

    A difference of activations takes its arguments' bounds as they are found for the activations themselves, so that
    these are what they are without it; residuals ask for sizes alone.
    """
    readers = [node for node in network.nodes if index in node.inputs and not isinstance(node, Residuals)]
    return [node for node in readers if not (isinstance(node, Difference) and index != node.inputs[0])]


def matters(network: Network, index: int, here: TensorInterval, bounds: Mapping[int, TensorInterval]) -> tf.Tensor:
    """Marks neurons that need more than their interval: unstable ones, and those whose range a maximum reads.

    Of what a difference is over, those that its lines bend at, given ``bounds`` of its two arguments.
    """
    differences = [node for node in _readers(network, index) if isinstance(node, Difference)]
    if differences:  # and nothing else reads it
        bent = [bends_between(node.activation, *(bounds[i] for i in node.inputs[3:])) for node in differences]
        return tf.broadcast_to(functools.reduce(tf.logical_or, bent), tf.shape(here[0]))
    found = (here[0] < 0) & (here[1] > 0)
    readers = only_reader(network)
    for number, node in enumerate(network.nodes):
        if index not in node.inputs or isinstance(node, Difference | Residuals):
            continue
        if any(isinstance(reader, Nonlinear) for reader in _readers(network, number)):
            assert isinstance(node, Elementwise)
            lower, upper = image(node.activation, *here)
            pool = network.nodes[readers[number]] if number in readers else None
            found |= _may_win(pool, lower, upper) if isinstance(pool, MaxPool) else lower < upper
    return found


def _may_win(pool: MaxPool, lower: tf.Tensor, upper: tf.Tensor) -> tf.Tensor:
    """Marks values above the best lower bound in their window: no line of the maximum depends on the others."""
    if pool.window != pool.strides:
        return lower < upper
    best = tf.reduce_max(gather_windows(lower, pool, fill=-np.inf), axis=3)
    for axis in (0, 1):
        best = tf.repeat(best, pool.window[axis], axis=axis + 1)
    (top, _), (left, _) = pool.padding
    unread = [lower.shape[axis + 1] - best.shape[axis + 1] + (top, left)[axis] for axis in (0, 1)]
    return upper > pad_or_crop(best, ((-top, unread[0]), (-left, unread[1])))


def relax_before(
    network: Network,
    target: int,
    relaxer: Relaxer,
    bounds: Mapping[int, TensorInterval],
    affine: AffinePart | None = None,
    errors: Errors | None = None,
) -> Relaxed:
    """The relaxations that a pass to ``target`` goes through (its own too, if it is nonlinear)."""
    before = network.ancestors(target)
    lines = {i: relaxer(i, target, bounds) for i in nonlinear(network) if i in before}
    return Relaxed(lines, affine=affine, errors=errors, bounds=bounds)


def relaxed_by_intervals(network: Network, ranges: Sequence[TensorInterval], errors: Errors | None = None) -> Relaxed:
    """Bounds rows at the last nonlinear nodes by the ranges of these, as ``ibp`` does."""

    def box(lower: tf.Tensor, upper: tf.Tensor) -> Stop:
        return lambda rows: (None, least_over_box(rows, lower, upper, network.rounding))

    stops = {i: box(*ranges[i]) for i in nonlinear(network)}
    return Relaxed({}, stops, errors=errors, bounds=dict(enumerate(ranges)))


def floor(
    network: Network,
    region: Region,
    rows: Coefficients,
    bounds: Mapping[int, TensorInterval],
    errors: Errors | None = None,
) -> tf.Tensor:
    """Interval bounds of rows over the output, ``[samples, rows]``: at least as high as those of ``ibp``.

    Lines can leave the range of a bounded function (a sigmoid's lie below 0), and be looser than intervals where a
    network is wide and bounds are loose. Each nonlinear node's range is met with what its pre-activation ``bounds``
    leave of it, where they are given. ``errors``: of a rounded network; None for them to be computed.
    """
    # Over a ball that is no box, bounds of affine nodes were found from the ball, as intervals find them.
    ranges = intervals(network, region, {i: bounds[i] for i in needs_ball(network, region) if i in bounds})
    for index in nonlinear(network):
        node = network.nodes[index]
        if all(source in bounds for source in entering(node)):
            low, high = tidy(*step(node, [bounds[source] for source in entering(node)]))
            least, most = tf.maximum(ranges[index][0], low), tf.minimum(ranges[index][1], high)
            ranges[index] = tidy(least, most)
    return linear_lower_bounds(network, network.output, rows, relaxed_by_intervals(network, ranges, errors), region)


def greater(bound: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """The greater of two lower bounds; of one that is NaN, which says nothing, the other."""
    return tf.where(tf.math.is_nan(bound), other, tf.where(tf.math.is_nan(other), bound, tf.maximum(bound, other)))


def nonlinear(network: Network) -> list[int]:
    """The nodes that are relaxed."""
    return [i for i, node in enumerate(network.nodes) if isinstance(node, Nonlinear)]


def by_name(network: Network, relaxation: str | None) -> Relaxer:
    """The named relaxation, the same for every target."""
    known: dict[int, NodeLines] = {}

    def relaxer(node: int, _: int, bounds: Mapping[int, TensorInterval]) -> NodeLines:
        if node not in known:
            known[node] = relax(network, node, bounds, relaxation)
        return known[node]

    return relaxer


def relax(network: Network, index: int, bounds: Mapping[int, TensorInterval], relaxation: str | None) -> NodeLines:
    """The relaxation of a nonlinear node on the ``bounds`` of its inputs."""
    node = network.nodes[index]
    if isinstance(node, Multivariate):
        return multivariate_kind(node).relax(node, [bounds[source] for source in node.asked], relaxation)
    here = [bounds[source] for source in node.inputs]
    if isinstance(node, MaxPool):
        return pool_lines(node, *here[0], relaxation)
    assert isinstance(node, Elementwise)
    act = node.activation

    def placed(lower: tf.Tensor, upper: tf.Tensor) -> Lines:
        return lines(act, act.slopes(relaxation, lower, upper), lower, upper, node.rounding)

    # XLA computes curves several times over, and may not know how to compute a user's function.
    if act.kinks is None or not is_shipped(act):
        return placed(*here[0])
    found: Lines = kernels.fused(placed, *here[0], passes=_OPERATIONS)
    return found


def met_with(network: Network, index: int, bounds: TensorInterval, interval: TensorInterval) -> TensorInterval:
    """Bounds of a node by lines, met with its interval: see :func:`tighter`.

    Wholly, where an activation with a domain reads it: lines of a square leave zero, beyond which no root is known, and
    close to a pole every bit of distance counts; and where a difference reads it, whose lines do not jump.
    """
    found = tighter(bounds, interval, stable_is_exact(network, index))
    readers = [node for node in network.nodes if index in node.inputs]
    limited = any(isinstance(node, Elementwise) and node.activation.limited for node in readers)
    if not limited and not any(isinstance(node, Difference) for node in _readers(network, index)):
        return found
    return hull(tf.maximum(found[0], interval[0]), tf.minimum(found[1], interval[1]))


def tighter(bounds: TensorInterval, other: TensorInterval, by_sign: bool) -> TensorInterval:
    """Sound bounds, met with ``other`` sound bounds where these are inside and much narrower, or ``by_sign``; no NaN.

    Not the intersection everywhere: adaptive slopes jump with the bounds, so a one-sided gain of a few neurons moves
    the output's bound up or down by more than it is worth (measured: 1e-3 to 3e-3 either way). Bounds that blew up
    have narrow ones inside them. With ``by_sign`` a neuron whose sign is known is propagated exactly (see
    :func:`stable_is_exact`), so bounds that show it are taken, and any that lie inside.
    """

    def met(low: tf.Tensor, high: tf.Tensor, other_low: tf.Tensor, other_high: tf.Tensor) -> TensorInterval:
        # Ends that are equal in exact arithmetic are common: rounding must not decide which pair is taken.
        slack = 64 * np.finfo(low.dtype.as_numpy_dtype).eps * tf.maximum(tf.abs(low), tf.abs(high))
        better = (other_low >= low - slack) & (other_high <= high + slack)
        if by_sign:
            better |= (other_low >= 0) | (other_high <= 0)
        else:
            better &= other_high - other_low <= _MUCH * (high - low)
        least = either(better, tf.maximum(other_low, low), low)
        return hull(least, either(better, tf.minimum(other_high, high), high))

    found: TensorInterval = kernels.fused(met, *bounds, *other, passes=_OPERATIONS)
    return found
