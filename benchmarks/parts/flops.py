"""Floating-point operations of one CROWN pass, counted from shapes.

Only products with weights are counted (two operations a multiplication and addition), for the neurons that intervals
leave unstable: the relaxations' elementwise work and the concretisation are overhead, as are the zeros of a Toeplitz
matrix and stable neurons. So a rate computed from ``useful`` says how much of the machine's peak goes into work that
any backward pass over patches has to do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tfcert.network import ConvMap, DenseMap, Elementwise, Input, Linear, Network
from tfcert.perturbations import Region
from tfcert.propagation.backward import patches_pay
from tfcert.propagation.bounds import pre_activation_bounds
from tfcert.propagation.coefficients import Patches
from tfcert.propagation.interval import exact_over_boxes, step


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


def crown_pass(network: Network, region: Region, targets: int) -> Flops:
    """One CROWN pass: bounds of every unstable pre-activation, then ``targets`` rows of the output.

    Covers chains of dense layers, convolutions and activations.

    Raises:
        TypeError: the network has another kind of node.
    """
    rows = targets * int(region.center.shape[0])
    total = _backward(network, network.output, _Rows(rows, rows, None))
    for index, unstable in unstable_neurons(network, region).items():
        shape = network.nodes[index].shape
        if len(shape) == 3:
            start = _Rows(2 * shape[2], 2 * unstable, Patches((shape[0], shape[1])))
        else:
            start = _Rows(2 * int(np.prod(shape)), 2 * unstable, None)
        total += _backward(network, index, start)
    return total


def unstable_neurons(network: Network, region: Region) -> dict[int, int]:
    """How many neurons of a batch need a backward pass: their interval, from bounds of the layer before, holds 0."""
    free = exact_over_boxes(network) if region.is_box else frozenset()
    known = pre_activation_bounds(network, region, "crown", "crown")
    ranges = [(region.lower, region.upper)]
    found: dict[int, int] = {}
    for index, node in enumerate(network.nodes[1:], start=1):
        lower, upper = step(node, [ranges[i] for i in node.inputs])
        if index in known and index not in free:
            found[index] = int(np.sum((lower < 0) & (upper > 0)))
        ranges.append(known.get(index, (lower, upper)))
    return found


def _backward(network: Network, target: int, rows: _Rows) -> Flops:
    total, index = Flops(), target
    while not isinstance(node := network.nodes[index], Input):
        if isinstance(node, Elementwise):
            rows = rows.bent()
        elif isinstance(node, Linear):
            cost, rows = _linear(node, rows)
            total += cost
        else:
            raise TypeError(f"no count for a {type(node).__name__} node")
        (index,) = node.inputs
    return total


def _linear(node: Linear, rows: _Rows) -> tuple[Flops, _Rows]:
    linear, patches = node.map, rows.patches
    if isinstance(linear, ConvMap):
        taps = linear.terms()
        if patches is not None and patches_pay(linear, patches):
            larger = patches.before(linear)
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
