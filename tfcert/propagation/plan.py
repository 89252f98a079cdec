"""Sizes of backward passes, known from shapes alone, and cuts that fit them into the memory."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from tfcert.network.graph import Concatenate, Elementwise, Input, Linear, MaxPool, Multivariate, Network, Node
from tfcert.network.linear import Window
from tfcert.propagation.affine import leaving_nodes
from tfcert.propagation.coefficients import Patches
from tfcert.propagation.interval import exact_intervals, moved_inputs
from tfcert.propagation.kinds import multivariate_kind
from tfcert.propagation.stepping import patches_before

COPIES = 8
"""Arrays of the size of the coefficients that one pass is taken to keep at once: before and after a step, data of its
relaxation, and what the allocator holds back (measured: at 5 the peak was 1.4 times the limit)."""
COPIES_OF_ASCENT = 16
"""The same for a pass that is differentiated: what its gradient needs is kept too, and the gradient itself."""


@dataclass(frozen=True)
class Plan:
    """A plan that runs a method within the memory.

    Attributes:
        samples: how many samples one pass takes.
        floats: how many coefficients the largest pass keeps for one sample.
        parts: for each node that passes are made for, the slices of :func:`identity`'s rows that one pass takes each.
        rows: how many rows over the output a pass takes; None for all.
        inputs: how many inputs forward planes are over at a time; None for all.
    """

    samples: int
    floats: float
    parts: dict[int, tuple[slice | None, ...]]
    rows: int | None = None
    inputs: int | None = None


def entries_per_row(network: Network, target: int) -> int:
    """The largest number of coefficients that a row of the target has on its way back to the input."""
    shape = network.nodes[target].shape
    start = Patches((shape[0], shape[1])) if len(shape) == 3 else None
    layouts: dict[int, Patches | None] = {target: start}
    most = 1
    for index in range(target, -1, -1):
        if index not in layouts:
            continue
        node, layout = network.nodes[index], layouts[index]
        entries = int(np.prod(node.shape)) if layout is None else layout.area * node.shape[2]
        most = max(most, entries)
        if isinstance(node, Input):
            continue
        if layout is not None and isinstance(node, Linear):
            layout = layout if node.map.diagonal() is not None else patches_before(node.map, layout)
        elif layout is not None and isinstance(node, MaxPool):
            layout = layout.before(Window(node.strides, node.window, (0, 0)))
        elif _goes_dense(node):
            layout = None
        for source in node.inputs:
            same = source not in layouts or layouts[source] == layout
            layouts[source] = layout if same else None
    return most


def _held(node: Node) -> int:
    """The numbers that a pass holds at a node for one sample, rows left out."""
    return multivariate_kind(node).held(node) if isinstance(node, Multivariate) else math.prod(node.shape)


def _goes_dense(node: Node) -> bool:
    """Tells whether patches over a node are dense rows before it."""
    if isinstance(node, Multivariate):
        return not multivariate_kind(node).keeps_patches
    return isinstance(node, Concatenate) and node.axis != len(node.shape) - 1


def rows_plan(network: Network, rows: int, memory_mb: int, is_box: bool) -> Plan:
    """The plan of a method with one pass for the rows, over intervals."""
    cuts = _Cuts(network, memory_mb, COPIES)
    cuts.bound(_ball_nodes(network, is_box))
    return cuts.plan(rows)


def planes_plan(network: Network, rows: int, memory_mb: int, is_box: bool, *, blocks: bool = True) -> Plan:
    """The plan of a method that carries two planes over the inputs for every value of the largest node.

    Args:
        blocks: whether the planes may be over a block of the inputs at a time; else what does not fit is refused.
    """
    cuts = _Cuts(network, memory_mb, COPIES)
    cuts.bound(_ball_nodes(network, is_box))
    each = 2.0 * max(int(np.prod(n.shape)) for n in network.nodes)
    inputs = int(np.prod(network.input_shape))
    if not blocks:
        cuts.fitting(1, inputs * each, "two equations of all inputs for every value of the largest layer")
        return cuts.plan(rows)
    block = cuts.fitting(inputs, each, "planes over one input")  # first: the plan is for all that is known to be needed
    return replace(cuts.plan(rows), inputs=block)


def passes_plan(network: Network, rows: int, memory_mb: int, is_box: bool, copies: int = COPIES) -> Plan:
    """The plan of a method with a backward pass for every node that needs one, each cut to fit, and for the rows."""
    cuts = _Cuts(network, memory_mb, copies)
    exact = exact_intervals(network, is_box)
    # An activation's bounds are the image of those before it.
    bent = {i for i, node in enumerate(network.nodes) if isinstance(node, Elementwise)}
    cuts.bound(set(network.bounded()) - exact - bent)
    # Of a rounded network the rows may be of float64 (see :mod:`tfcert.propagation.widening`).
    return cuts.plan(rows, 1 if network.rounding is None else 8 // network.dtype.size)


def _ball_nodes(network: Network, is_box: bool) -> frozenset[int]:
    """The nodes whose intervals are found by a backward pass."""
    return frozenset() if is_box else leaving_nodes(network) - moved_inputs(network)


class _Cuts:
    """The cuts of a method's passes that fit them into the memory, one after the other."""

    def __init__(self, network: Network, memory_mb: int, copies: int):
        self.network, self.memory_mb, self.copies = network, memory_mb, copies
        self.parts: dict[int, tuple[slice | None, ...]] = {}
        values = float(sum(map(_held, network.nodes)))
        self.needs: list[float] = []
        self._keep(values, "the values of all layers")

    def bound(self, nodes: Collection[int]) -> None:
        """Cuts the backward passes to these nodes: each takes some of their values."""
        for index in nodes:
            shape = self.network.nodes[index].shape
            length = shape[0] if len(shape) == 3 else int(np.prod(shape))
            each = 2.0 * float(np.prod(shape)) / length * entries_per_row(self.network, index)
            most = self.fitting(length, each, f"the smallest pass to layer {self.network.nodes[index].name!r}")
            self.parts[index] = (None,) if most is None else _slices(length, math.ceil(length / most))

    def fitting(self, count: int, each: float, what: str) -> int | None:
        """How many of ``count`` things that take so many coefficients each fit; None for all."""
        self._keep(each, what)
        most = int(self._budget // each)
        self.needs.append(each * min(count, most))
        return None if most >= count else most

    def plan(self, rows: int, size: int = 1) -> Plan:
        """The plan, with so many rows over the output, each number of which takes the memory of ``size`` others."""
        each = float(size * entries_per_row(self.network, self.network.output))
        at_once = self.fitting(rows, each, "a single row")
        largest = max(self.needs)
        return Plan(max(1, int(self._budget // largest)), largest, self.parts, at_once)

    @property
    def _budget(self) -> float:
        """The coefficients that fit in ``memory_mb`` MiB."""
        return self.memory_mb * 2**20 / (self.network.dtype.size * self.copies)

    def _keep(self, need: float, what: str) -> None:
        if need > self._budget:
            needed = need * self.network.dtype.size * self.copies / 2**20
            raise ValueError(
                f"{what} of one sample may take {needed:,.4g} MiB, and memory_mb is {self.memory_mb:g}: give "
                f"BoundOptions(memory_mb=...) that much, or take a method that needs less (crown-ibp, ibp)"
            )
        self.needs.append(need)


def _slices(length: int, pieces: int) -> tuple[slice | None, ...]:
    if pieces <= 1:
        return (None,)
    ends = np.linspace(0, length, pieces + 1).astype(int)
    return tuple(slice(int(a), int(b)) for a, b in pairwise(ends) if b > a)
