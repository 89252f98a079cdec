"""Sizes of backward passes, known from shapes alone, and cuts that fit them into the memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tfcert.network.graph import Concatenate, Elementwise, Input, Linear, MaxPool, Network
from tfcert.network.linear import Window
from tfcert.propagation.backward import patches_before
from tfcert.propagation.coefficients import Patches
from tfcert.propagation.interval import exact_intervals

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
        parts: for each bounded node the slices of :func:`identity`'s rows that one pass takes each.
    """

    samples: int
    floats: float
    parts: dict[int, tuple[slice | None, ...]]


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
        elif isinstance(node, Concatenate) and node.axis != len(node.shape) - 1:
            layout = None
        for source in node.inputs:
            same = source not in layouts or layouts[source] == layout
            layouts[source] = layout if same else None
    return most


def rows_plan(network: Network, rows: int, memory_mb: int) -> Plan:
    """The plan of a method with one pass for the rows and nothing that grows faster than the network's values."""
    return _plan(_needs(network, rows), {}, _budget(network, memory_mb, COPIES))


def planes_plan(network: Network, rows: int, memory_mb: int) -> Plan:
    """The plan of a method that carries two planes over the inputs for every value of the largest node."""
    planes = 2.0 * int(np.prod(network.input_shape)) * max(int(np.prod(n.shape)) for n in network.nodes)
    return _plan([*_needs(network, rows), planes], {}, _budget(network, memory_mb, COPIES))


def passes_plan(network: Network, rows: int, memory_mb: int, is_box: bool, copies: int = COPIES) -> Plan:
    """The plan of a method with a backward pass for every node that needs one, each cut to fit, and for the rows."""
    budget = _budget(network, memory_mb, copies)
    needs, parts = _needs(network, rows), dict[int, tuple[slice | None, ...]]()
    for index in set(network.bounded()) - exact_intervals(network, is_box):
        if isinstance(network.nodes[index], Elementwise):  # its bounds are the image of those before it
            continue
        shape = network.nodes[index].shape
        need = 2.0 * float(np.prod(shape)) * entries_per_row(network, index)
        length = shape[0] if len(shape) == 3 else int(np.prod(shape))
        pieces = min(length, math.ceil(need / budget))
        parts[index] = _slices(length, pieces)
        needs.append(need / pieces)
    return _plan(needs, parts, budget)


def _needs(network: Network, rows: int) -> list[float]:
    """The numbers that any method keeps for one sample: all values, and the coefficients of the rows."""
    values = sum(int(np.prod(n.shape)) for n in network.nodes)
    return [float(values), float(rows * entries_per_row(network, network.output))]


def _budget(network: Network, memory_mb: int, copies: int) -> float:
    """The coefficients that fit in ``memory_mb`` MiB."""
    return memory_mb * 2**20 / (network.dtype.size * copies)


def _plan(needs: list[float], parts: dict[int, tuple[slice | None, ...]], budget: float) -> Plan:
    """One sample a pass at least, whatever it needs."""
    return Plan(max(1, int(budget // max(needs))), max(needs), parts)


def _slices(length: int, pieces: int) -> tuple[slice | None, ...]:
    if pieces <= 1:
        return (None,)
    ends = np.linspace(0, length, pieces + 1).astype(int)
    return tuple(slice(int(a), int(b)) for a, b in pairwise(ends) if b > a)
