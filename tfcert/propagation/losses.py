"""Where a proof loses: how much of a bound's gap each relaxed layer takes.

A backward pass replaces one nonlinear node after another by lines, and what is left is a linear function of the input,
whose least value over the region is the bound. At the point where that is least, take lines for all nodes behind the
k-th one, and the network's own values for the k-th and those before it: for each k that is a number. These numbers fall
from the network's own margin at the point to the linear function's value, each by what the lines of one node lose
there, which is never negative; and they add up exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf

from tfcert.clauses import Clauses
from tfcert.network.graph import Elementwise, MaxPool, Network, Node
from tfcert.propagation.backward import Relaxed, Stop, linear_lower_bounds
from tfcert.propagation.bounds import bounded_outputs, method_of
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.concretize import middle
from tfcert.propagation.enclosures import TensorInterval
from tfcert.propagation.preactivation import Passes, by_name, nonlinear, relax_before
from tfcert.sets.balls import Perturbation
from tfcert.sets.region import Region, region_of


@dataclass(frozen=True, eq=False)
class Entered:
    """What is known of the values that enter a nonlinear node.

    Attributes:
        name: of the layer.
        kind: the activation, or what else it is.
        lower, upper: ``[samples, values]``.
        open: bool ``[samples, values]``: those on whose bounds the node is no line.
    """

    name: str
    kind: str
    lower: np.ndarray
    upper: np.ndarray
    open: np.ndarray


@dataclass(frozen=True, eq=False)
class LostByNode:
    """How a bound of one row of one sample comes about; all numbers in float64, without what rounding may take.

    Attributes:
        nodes: of the network, those that are relaxed.
        lost: for each what its lines lose at ``point``, at least 0.
        bound: the least value of the linear function that is left.
        reached: the row's value at ``point`` by the network: ``bound + over + lost.sum()``.
        over: by how much the linear function at ``point`` is above ``bound``: 0 where the point attains it.
        point: ``[*input]``, in the region's box: where the linear function is least.
        entered: what enters the nodes.
        row: ``[outputs]``, the row that the bound is of.
    """

    nodes: tuple[int, ...]
    lost: np.ndarray
    bound: float
    reached: float
    over: float
    point: np.ndarray
    entered: tuple[Entered, ...]
    row: np.ndarray


def entering_values(network: Network, bounds: Mapping[int, TensorInterval]) -> tuple[Entered, ...]:
    """What the bounds of a network's bounded nodes say of each of its nonlinear nodes."""
    return tuple(_entered(network.nodes[i], bounds) for i in nonlinear(network))


def _entered(node: Node, bounds: Mapping[int, TensorInterval]) -> Entered:
    """Of a node of several inputs what enters by the first of them."""
    lower, upper = (np.asarray(end, np.float64).reshape(len(end), -1) for end in bounds[node.inputs[0]])
    kind = type(node).__name__.lower()
    straight = lower >= upper
    if isinstance(node, Elementwise):
        kind, kinks = node.activation.name, node.activation.kinks
        if kinks is not None:
            straight = ~np.any([(lower < kink) & (kink < upper) for kink in kinks], axis=0)
    elif isinstance(node, MaxPool):
        kind = "max pooling"
    return Entered(node.name.removesuffix(f"/{kind}"), kind, lower, upper, ~straight)


def lost_by_node(
    network: Network,
    perturbation: Perturbation,
    clauses: Clauses,
    method: str = "crown",
    relaxation: str | None = None,
    memory_mb: int = 1024,
) -> LostByNode:
    """Where the bound of one sample's worst clause loses, which is that of its best row.

    Args:
        network: rounding is left out of account.
        perturbation: the set of one sample.
        clauses: of one sample.
        method: bounds neurons, and finds the row. What is explained is the backward pass with each activation's
            lines by ``relaxation`` on these bounds: of ``crown`` its own, of an optimising method the pass before it
            optimises.
        relaxation: a rule for lines; None for each activation's default.
        memory_mb: memory for coefficients, MiB.

    Raises:
        ValueError: a method or relaxation that the network does not take, or one that asks a solver.
    """
    network = network.rounded(None).astype(tf.float64)
    region = region_of(perturbation.astype(np.float64))
    chosen, slopes = method_of(method, relaxation)
    rows, offsets = clauses.rows()
    plan = chosen.plan(network, rows.shape[1], memory_mb, region.is_box)
    passes = Passes(plan.parts, True, plan.rows, plan.inputs)
    bounded = bounded_outputs(network, region, (rows, offsets), method, relaxation, passes)
    worst = _worst(clauses, bounded.lower.numpy())
    row = Coefficients(tf.constant(rows[:, None, worst : worst + 1], tf.float64), network.output_shape)
    relaxed = relax_before(network, network.output, by_name(network, slopes), bounded.pre_activation)
    offset = float(offsets[0, worst])

    def value(stops: Mapping[int, Stop]) -> float:
        through = replace(relaxed, stops=stops)
        return float(linear_lower_bounds(network, network.output, row, through, region)[0, 0]) + offset

    bound = value({})
    point = _attaining(network, row, relaxed, region)
    known = network.values(point)
    stops: dict[int, Stop] = {0: _at(point - middle(region))}
    nodes = tuple(i for i in nonlinear(network) if i in network.ancestors(network.output))
    values = [value(stops)]
    for index in nodes:
        stops[index] = _at(known[index])
        values.append(value(stops))
    lost = np.diff(values)
    entered = entering_values(network, bounded.pre_activation)
    return LostByNode(nodes, lost, bound, values[-1], values[0] - bound, point.numpy()[0], entered, rows[0, worst])


def _worst(clauses: Clauses, lower: np.ndarray) -> int:
    """The number of the row that settles a sample: the best one of the worst clause."""
    count, size = clauses.offsets.shape[1:]
    found = np.where(np.isfinite(clauses.offsets[0]), lower.reshape(count, size), clauses.offsets[0])
    clause = int(np.argmin(found.max(axis=1)))
    return clause * size + int(np.argmax(found[clause]))


def _at(values: tf.Tensor) -> Stop:
    """Ends a pass at a node with the rows' values at one point."""
    return lambda rows: (None, tf.reduce_sum(rows.masked().values * rows.unfold(values), axis=3))


def _attaining(network: Network, row: Coefficients, relaxed: Relaxed, region: Region) -> tf.Tensor:
    """The point of the region's box where the linear function that a row becomes is least, ``[1, *input]``.

    Of a ball that is cut by a box the ball's point, moved into the box; of sets side by side their middle.
    """
    found: list[tf.Tensor] = []

    def keep(rows: Coefficients) -> tuple[None, tf.Tensor]:
        dense = rows.dense()
        found.append(tf.reshape(dense.values, [1, *network.input_shape]))
        return None, tf.zeros(dense.values.shape[:3], dense.values.dtype)

    linear_lower_bounds(network, network.output, row, replace(relaxed, stops={0: keep}), region)
    if not found:  # the row does not depend on the input
        return middle(region)
    slope = found[0]
    if region.is_box:
        return tf.where(slope > 0, region.lower, region.upper)
    if region.blocks():
        return middle(region)
    eps = region.eps if region.uneven else tf.reshape(region.eps, [-1] + [1] * len(network.input_shape))
    scaled = eps * slope
    if region.norm == "l2":
        step = scaled / tf.maximum(tf.norm(scaled), 1e-300)
    else:
        step = tf.where(tf.abs(scaled) == tf.reduce_max(tf.abs(scaled)), tf.sign(scaled), tf.zeros_like(scaled))
        step /= tf.maximum(tf.reduce_sum(tf.abs(step)), 1.0)
    return tf.clip_by_value(region.center - eps * step, region.lower, region.upper)
