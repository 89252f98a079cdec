"""Backward propagation of linear bounds (the CROWN family).

Rows of linear functions of one node are carried backward through the graph until they are functions of the input (or
of values whose interval is known), where their least value is computed. Only lower bounds are computed: the upper bound
of a row is minus the lower bound of its negative (Zhang et al. 2018, section 3.2, in matrix form).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import tensorflow as tf

from tfcert.activations import Lines
from tfcert.network.graph import Linear, MaxPool, Multivariate, Network, Node
from tfcert.network.linear import Shape
from tfcert.propagation.affine import AffinePart, Factor, affine_nodes, affine_part
from tfcert.propagation.coefficients import Coefficients, Patches
from tfcert.propagation.concretize import least_change
from tfcert.propagation.enclosures import TensorInterval
from tfcert.propagation.errors import (
    Errors,
    apart,
    charged,
    dotted,
    lowered,
    moved_apart,
    share_of_sum,
    summed,
)
from tfcert.propagation.folding import (
    absorbed,
    only_reader,
    over_activation,
    scaled_convolution,
)
from tfcert.propagation.gathered import errors_gathered
from tfcert.propagation.multivariate import ChosenStep
from tfcert.propagation.pooling import PoolLines, pooled_apart
from tfcert.propagation.ranges import errors_of
from tfcert.propagation.stepping import NodeLines, Step, group_count, step_back
from tfcert.roundoff import Rounding
from tfcert.sets.region import Region

Stop = Callable[[Coefficients], tuple[Coefficients | None, tf.Tensor]]


@dataclass(frozen=True)
class Relaxed:
    """Knowledge of the nodes before its target that a backward pass may use.

    Attributes:
        lines: of each nonlinear node that the pass goes through, or the step through it.
        stops: what replaces a node, not an affine one, at which the pass ends: a function from rows over the node to
            rows over the input (or None) and the constant ``[samples, groups, rows]``, a lower bound of the rest.
        added: linear terms ``[samples, *shape]`` over nodes, which every row gains there (multipliers of constraints).
        affine: the network's affine part over the region; None for it to be computed for this pass.
        errors: of a rounded network; None for them to be computed for this pass, of nodes with these ``bounds``.
        bounds: ranges of nodes, as far as they are known.
    """

    lines: Mapping[int, NodeLines | Step | ChosenStep]
    stops: Mapping[int, Stop] = field(default_factory=dict)
    added: Mapping[int, tf.Tensor] = field(default_factory=dict)
    affine: AffinePart | None = None
    errors: Errors | None = None
    bounds: Mapping[int, TensorInterval] = field(default_factory=dict)

    @property
    def fixed(self) -> frozenset[int]:
        """The nodes that keep their own step: something happens there."""
        return frozenset(self.stops) | frozenset(self.added)


def linear_lower_bounds(
    network: Network, target: int, rows: Coefficients, relaxed: Relaxed, region: Region
) -> tf.Tensor:
    """Lower bounds of linear functions of a node's output over a region.

    Args:
        network: the network.
        target: the node whose output the rows are functions of.
        rows: the linear functions.
        relaxed: relaxations of the nonlinear nodes among the target's ancestors, and where to stop.
        region: the inputs.

    Returns:
        ``[samples, groups * rows]`` (selected groups: ``[1, groups * rows]``).
    """
    found = _Pass(network, target, relaxed, region).run(rows)
    return _flat(found, group_count(rows), rows.values.shape[2])


class _Pass:
    """A backward pass: rows that wait at nodes, and the constants that they have gained on the way.

    Attributes:
        waiting: rows over nodes that the pass has not come to.
        constants: ``[samples or 1, groups or 1, rows]`` each.
        affine: nodes over which rows are functions of how far they are from their values in the middle.
        free: nodes with a single reader that need no step of their own.
        biased: nodes whose bias is in the lines of the activation after them.
        paid: nodes whose errors are in lines, or in those of the node that their rows come from.
    """

    def __init__(self, network: Network, target: int, relaxed: Relaxed, region: Region) -> None:
        self.network, self.target, self.relaxed, self.region = network, target, relaxed, region
        self.rounding, errors = network.rounding, relaxed.errors
        self.errors = errors_of(network, region, relaxed.bounds, target) if errors is None else errors
        self.free = frozenset(only_reader(network)) - relaxed.fixed
        self.paid: set[int] = set()
        if self.errors is not None:
            self.errors, paid = errors_gathered(self.errors, target, self.free, relaxed.stops)
            self.paid.update(paid)
        self.affine = affine_nodes(network)
        self.waiting: dict[int, Coefficients] = {}
        self.constants: list[tf.Tensor] = []
        self.biased: set[int | None] = set()

    @functools.cached_property
    def part(self) -> AffinePart:
        return self.relaxed.affine or affine_part(self.network, self.region)

    def middle(self, index: int) -> tf.Tensor | None:
        return self.part.values[index] if index in self.affine else None

    def run(self, rows: Coefficients) -> tf.Tensor:
        """The sum of all constants."""
        self.waiting[self.target] = rows
        if self.target in self.affine:
            self.gain(rows, self.target)
        for index in range(self.target, -1, -1):
            if index in self.waiting:
                here = self.added(index, self.waiting.pop(index))
                if not self.ends(index, here):
                    self.step(index, here)
        return summed(self.constants, self.errors)

    def gain(self, rows: Coefficients, index: int) -> None:
        """Adds the rows' values in the middle of the region, where the node is affine."""
        self.constants.append(dotted(rows, self.part.values[index], self.rounding))

    def charge(self, rows: Coefficients, vector: tf.Tensor) -> None:
        """Takes what rounding may take from the rows."""
        assert self.rounding is not None
        self.constants.append(-charged(rows, vector, self.rounding))

    def send(self, source: int, rows: Coefficients) -> None:
        """Rows over a node, to be added to those that wait there."""
        if source not in self.waiting:
            self.waiting[source] = rows
            return
        self.waiting[source] = total = self.waiting[source].plus(rows)
        ends_there = source == 0 and bool(self.relaxed.stops)
        if self.errors is not None and (ends_there or len(self.network.readers[source]) > 2):
            # Sums on the way may be larger than the last one, which is what the node's own errors are charged for.
            self.charge(total, 2.0 * self.errors.rounding.own * self.errors.sizes[source])

    def added(self, index: int, here: Coefficients) -> Coefficients:
        """Rows over a node, charged for its errors, with the term that is added there."""
        errors = self.errors
        if errors is not None and index in errors.vectors and index not in self.paid and not self._bends(index):
            self.charge(here, errors.vectors[index])
        if index not in self.relaxed.added:
            return here
        shape = self.network.nodes[index].shape
        term = Coefficients(tf.reshape(self.relaxed.added[index], [-1, 1, 1, math.prod(shape)]), shape)
        here = here.plus(term)
        if errors is not None:  # the node's errors of the term, and the rounding of the sum
            if index in errors.vectors:
                self.charge(term, errors.vectors[index])
            self.charge(here, 4.0 * errors.rounding.own * errors.sizes[index])
        if index in self.affine:
            self.gain(term, index)
        return here

    def _bends(self, index: int) -> bool:
        """Tells whether a node has lines, whose intercepts take its own errors: rows multiply these by their sizes."""
        return isinstance(self.relaxed.lines.get(index), Lines) and index not in self.relaxed.fixed

    def ends(self, index: int, here: Coefficients) -> bool:
        """Bounds rows over a node where the pass ends with it: at a stop, the input, or a factor."""
        if index in self.relaxed.stops:
            over_input, constant = self.relaxed.stops[index](here)
            self.constants.append(constant)
            if over_input is not None:
                self.gain(over_input, 0)
                self.send(0, over_input)
            return True
        if index == 0:
            self.constants.append(least_change(here, self.region, self.rounding))
            return True
        if index not in self.affine or self.waiting or any(i < index for i in self.relaxed.fixed):
            return False
        turned = _turned(here, index, self.part.factor)
        if turned is None:
            return False
        self.constants.append(least_change(turned, self.region, self.rounding))
        self.constants += lost_by_turning(here, self.part.factor, self.region, self.rounding)
        return True

    def step(self, index: int, here: Coefficients) -> None:
        """Sends rows over a node to its inputs, or to the nodes before them that are passed by."""
        node = self._whole(index, here)
        sources, lines = node.inputs, None
        if index in self.relaxed.lines:
            lines, sources = self._lines(index, here)
        shapes = [self.network.nodes[i].shape for i in sources]
        sent, constant = step_back(node, here, lines, shapes, with_bias=index not in self.biased | self.affine)
        if constant is not None:
            self.constants.append(constant)
        # Lines of an activation, and steps through it, have what the middle adds in them.
        gains = index not in self.affine and not isinstance(lines, Lines | Step)
        for source, rows in zip(sources, sent, strict=True):
            if gains and source in self.affine and source in node.inputs:
                self.gain(rows, source)
            self.send(source, rows)

    def _whole(self, index: int, here: Coefficients) -> Node:
        """A node, with the convolution before it that it scales."""
        node = self.network.nodes[index]
        if not isinstance(node, Linear):
            return node
        whole = scaled_convolution(self.network, index, self.free)
        if self.errors is not None and whole is not node and node.inputs[0] not in self.paid:
            self.charge(here, tf.abs(node.map.diagonal()) * self.errors.vectors[node.inputs[0]])
        return whole

    def _lines(self, index: int, here: Coefficients) -> tuple[NodeLines | Step | ChosenStep, tuple[int, ...]]:
        """What a nonlinear node is replaced by, and the nodes that this is about."""
        lines, sources, biased = _folded(self.network, index, self.relaxed, self.free, self.middle, self.errors)
        self.biased.add(biased)
        if isinstance(lines, Lines) or (isinstance(lines, PoolLines) and sources != self.network.nodes[index].inputs):
            self.paid.update(i for i in sources if i in self.free)
        if self.errors is not None and isinstance(lines, Lines) and index in self.errors.vectors and self._bends(index):
            lines = moved_apart(lines, self.errors.vectors[index])
        if self.errors is not None and isinstance(lines, Lines | PoolLines):
            share = share_of_sum(here.values.shape[3], self.errors.rounding)
            lines = apart(lines, share) if isinstance(lines, Lines) else pooled_apart(lines, share)
        return lines, sources


def _turned(rows: Coefficients, index: int, factor: Factor | None) -> Coefficients | None:
    """Rows over an affine node as rows over as many inputs of a turned ball, where these are as long and fewer."""
    if factor is None or factor.node != index or rows.values.shape[2] < rows.values.shape[3]:
        return None  # few rows do not pay for the factor
    lead = [-1 if n is None else n for n in rows.values.shape[:3]]
    flat = tf.matmul(tf.reshape(rows.values, [-1, rows.values.shape[3]]), factor.matrix)
    return replace(rows, values=tf.reshape(flat, [*lead, flat.shape[1]]))


def lost_by_turning(
    rows: Coefficients, factor: Factor | None, region: Region, rounding: Rounding | None
) -> list[tf.Tensor]:
    """What rounding may take from the bound of rows that were turned."""
    if factor is None or factor.lost is None or rounding is None:
        return []
    eps = region.eps[:, None] * (1.0 + 4.0 * rounding.own)
    return [-charged(rows, eps * factor.lost, rounding), tf.reshape(-factor.flushed * tf.reduce_max(eps), [1, 1, 1])]


def before_linear(
    network: Network, target: int, rows: Coefficients, errors: Errors | None = None
) -> tuple[int, Coefficients, tf.Tensor]:
    """Rows over a node as rows over the first node before it that is not linear, and what they gain on the way.

    ``errors``: of a rounded network, of which what is gained is a lower bound.

    Returns:
        That node, the rows, and the constant ``[samples or 1, groups * rows]``.
    """
    groups, count = group_count(rows), rows.values.shape[2]
    constants = [tf.zeros([1, 1, count], rows.values.dtype)]
    while isinstance(network.nodes[target], Linear):
        node = network.nodes[target]
        if errors is not None and target in errors.vectors:
            constants.append(-charged(rows, errors.vectors[target], errors.rounding))
        (target,) = node.inputs
        (rows,), constant = step_back(node, rows, None, [network.nodes[target].shape], with_bias=True)
        constants += [] if constant is None else [constant]
    return target, rows, _flat(summed(constants, errors), groups, count)


def _folded(
    network: Network,
    index: int,
    relaxed: Relaxed,
    free: Collection[int],
    middle: Callable[[int], tf.Tensor | None],
    errors: Errors | None,
) -> tuple[NodeLines | Step | ChosenStep, tuple[int, ...], int | None]:
    """A nonlinear node's lines with what precedes it, and what :func:`absorbed` returns with them."""
    node, lines = network.nodes[index], relaxed.lines[index]
    if isinstance(lines, Step):
        return lines, node.inputs, lines.biased
    if isinstance(lines, Lines):
        lines, before, biased = absorbed(network, index, lines, free, middle, errors)
        return lines, (before,), biased
    if isinstance(node, Multivariate):
        return lines, node.sources, None
    assert isinstance(node, MaxPool) and isinstance(lines, PoolLines)
    source = node.inputs[0]
    inner = relaxed.lines.get(source)
    if not isinstance(inner, Lines) or source not in free:
        return lines, node.inputs, None
    if inner.lower_slope.shape.rank > len(node.shape) + 1:  # they differ by row
        return lines, node.inputs, None
    inner, before, biased = absorbed(network, source, inner, free, middle, errors)
    if errors is not None:
        share = share_of_sum(2 * math.prod(node.window), errors.rounding)
        # Rows over overlapping windows are summed: those of the nodes that are passed by have that in their errors.
        inner = apart(inner if before in free else lowered(inner, share * errors.sizes[before]), share)
    return over_activation(node, lines, inner), (before,), biased


def identity_rows(shape: Shape, dtype: tf.DType, part: slice | None = None) -> Coefficients:
    """Each value of a node, and minus each value, as rows: ``+`` rows of a group first, then ``-`` rows.

    ``part`` restricts an image to some of its pixel rows, other tensors to some of their values.
    """
    if len(shape) == 3:
        first, last, _ = (part or slice(None)).indices(shape[0])
        patches = Patches((last - first, shape[1]), offset=(-first, 0))
        eye = np.eye(shape[2])
    else:
        patches, eye = None, np.eye(int(np.prod(shape)))[part or slice(None)]
    return Coefficients(tf.constant(np.concatenate([eye, -eye])[None, None], dtype), shape, patches)


def selected(shape: Shape, dtype: tf.DType, sample: tf.Tensor, neuron: tf.Tensor) -> Coefficients:
    """One value of a node (and minus it) for each pair of a sample and a neuron number: two rows a group."""
    if len(shape) == 3:
        patches, entries = Patches((shape[0], shape[1])), shape[2]
        owner = sample * patches.positions + neuron // entries
    else:
        patches, entries, owner = None, int(np.prod(shape)), sample
    one = tf.one_hot(tf.math.floormod(neuron, entries), entries, dtype=dtype)
    return Coefficients(tf.stack([one, -one], axis=1)[None], shape, patches, owner)


def _flat(part: tf.Tensor, groups: int | tf.Tensor, rows: int | None) -> tf.Tensor:
    """``[samples or 1, groups or 1, rows]`` to ``[samples, groups * rows]``."""
    if part.shape[1] != groups:
        part = tf.broadcast_to(part, [tf.shape(part)[0], groups, rows])
    samples = part.shape[0] if part.shape[0] is not None else tf.shape(part)[0]
    return tf.reshape(part, [samples, -1])
