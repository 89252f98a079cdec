"""Floating-point operations of one CROWN pass, counted from shapes.

Only products with weights are counted (two operations a multiplication and addition), for the neurons that need a
bound: not those that intervals show to be stable, nor what an activation makes of bounded values. The relaxations'
elementwise work, batch normalisation (which could be folded into the weights) and the concretisation are overhead, as
are the zeros of a Toeplitz matrix. So a rate computed from ``useful`` says how much of the machine's peak goes into
work that any backward pass over patches has to do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tfcert.network import Add, ConvMap, DenseMap, Elementwise, Linear, MaxPool, Network
from tfcert.network.linear import Window
from tfcert.propagation.bounds import pre_activation_bounds
from tfcert.propagation.coefficients import Patches
from tfcert.propagation.interval import exact_over_boxes, step
from tfcert.propagation.stepping import patches_pay
from tfcert.sets.region import Region


@dataclass(frozen=True)
class Flops:
    """``useful``: multiplications by a kernel's entries; ``with_padding``: by the Toeplitz matrices' zeros as well."""

    useful: int = 0
    with_padding: int = 0

    def __add__(self, other: Flops) -> Flops:
        return Flops(self.useful + other.useful, self.with_padding + other.with_padding)


@dataclass(frozen=True)
class _Rows:
    """How many rows one product carries, and where their coefficients lie."""

    count: int
    expanded: int
    patches: Patches | None

    def bent(self) -> _Rows:
        """After a relaxation the rows differ between samples and positions."""
        return replace(self, count=self.expanded)

    def spread(self, pool: MaxPool) -> _Rows:
        """Before a pooling."""
        if self.patches is None:
            return self
        pads = (pool.padding[0][0], pool.padding[1][0])
        return replace(self, patches=self.patches.before(Window(pool.strides, pool.window, pads)))

    def plus(self, other: _Rows) -> _Rows:
        """Where branches meet: patches become the larger, which in a residual block holds the smaller."""
        count = max(self.count, other.count)
        mine, theirs = self.patches, other.patches
        if mine is None or theirs is None or mine.strides != theirs.strides:
            return _Rows(self.expanded, self.expanded, None)
        return replace(self, count=count, patches=max(mine, theirs, key=lambda patches: patches.area))


def crown_pass(network: Network, region: Region, targets: int) -> Flops:
    """One CROWN pass: bounds of every neuron that needs them, then ``targets`` rows of the output.

    Raises:
        TypeError: the network has a kind of node that is not counted here.
    """
    rows = targets * int(region.center.shape[0])
    total = _backward(network, network.output, _Rows(rows, rows, None))
    for index, neurons in bounded_neurons(network, region).items():
        shape = network.nodes[index].shape
        if len(shape) == 3:
            start = _Rows(2 * shape[2], 2 * neurons, Patches((shape[0], shape[1])))
        else:
            start = _Rows(2 * int(np.prod(shape)), 2 * neurons, None)
        total += _backward(network, index, start)
    return total


def bounded_neurons(network: Network, region: Region) -> dict[int, int]:
    """How many neurons of a batch need a backward pass, by node.

    Where only piecewise linear activations read a node, those whose interval, from bounds of the layer before, holds
    0; else all. None where an activation makes the node: it is monotone, so its bounds follow from its input's.
    """
    free = exact_over_boxes(network) if region.is_box else frozenset()
    known = pre_activation_bounds(network, region, "crown")
    ranges = [(region.lower, region.upper)]
    found: dict[int, int] = {}
    for index, node in enumerate(network.nodes[1:], start=1):
        lower, upper = step(node, [ranges[i] for i in node.inputs])
        if index in known and index not in free and not isinstance(node, Elementwise):
            unsure = (lower < 0) & (upper > 0) if _bends_at_zero(network, index) else np.ones(lower.shape)
            found[index] = int(np.sum(unsure))
        ranges.append(known.get(index, (lower, upper)))
    return found


def _bends_at_zero(network: Network, index: int) -> bool:
    readers = [node for node in network.nodes if index in node.inputs]
    return all(isinstance(node, Elementwise) and node.activation.piecewise_linear for node in readers)


def _backward(network: Network, target: int, rows: _Rows) -> Flops:
    total = Flops()
    waiting = {target: rows}
    for index in range(target, 0, -1):
        if index not in waiting:
            continue
        node, here = network.nodes[index], waiting.pop(index)
        match node:
            case Elementwise():
                here = here.bent()
            case MaxPool():
                here = here.bent().spread(node)
            case Linear():
                cost, here = _linear(node, here)
                total += cost
            case Add():
                pass
            case _:
                raise TypeError(f"no count for a {type(node).__name__} node")
        for source in node.inputs:
            waiting[source] = waiting[source].plus(here) if source in waiting else here
    return total


def _linear(node: Linear, rows: _Rows) -> tuple[Flops, _Rows]:
    linear, patches = node.map, rows.patches
    if isinstance(linear, ConvMap):
        taps = linear.terms()
        if patches is not None and patches_pay(linear, patches):
            larger = patches.before(linear.window)
            entries = patches.area * linear.out_shape[2]
            matrix = entries * larger.area * linear.in_shape[2]
            return Flops(2 * rows.count * entries * taps, 2 * rows.count * matrix), replace(rows, patches=larger)
        dense = replace(rows, count=rows.expanded, patches=None) if patches is not None else rows
        work = 2 * dense.count * int(np.prod(linear.out_shape)) * taps
        return Flops(work, work), dense
    if isinstance(linear, DenseMap):
        work = 2 * rows.count * int(np.prod(linear.out_shape)) * linear.in_shape[-1]
        return Flops(work, work), rows
    return Flops(), rows
