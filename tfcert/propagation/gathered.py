"""Errors that a backward pass takes together: what several nodes are charged for the same rows, as one vector.

Rows over a sum of nodes are, unchanged, rows over each of them, and rows over a node that scales become rows over what
it scales, times the scale. So ``|A| e_1 + |A s| e_2`` is ``|A| (e_1 + |s| e_2)``: a residual block is charged by one
sum over its rows instead of one for each of its layers. (Products with the scale, and sums of the vectors, are rounded
a few times, for which there is room.)
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import tensorflow as tf

from tfcert.network.graph import Add, Linear
from tfcert.propagation.errors import Errors


def errors_gathered(
    errors: Errors, target: int, free: Collection[int], stops: Collection[int]
) -> tuple[Errors, frozenset[int]]:
    """The errors for a pass, with sums of nodes charged for these, too, and the nodes that are charged so.

    Args:
        errors: of the nodes before the target.
        target: the node that the pass begins at.
        free: nodes with a single reader that need no step of their own.
        stops: nodes that the pass ends with.
    """
    vectors, paid = dict(errors.vectors), set[int]()
    for index, node in enumerate(errors.network.nodes[: target + 1]):
        if isinstance(node, Add) and index in vectors and index not in stops:
            vectors[index] = _together(errors, index, free, paid)
    return replace(errors, vectors=vectors), frozenset(paid)


def _together(errors: Errors, index: int, free: Collection[int], paid: set[int]) -> tf.Tensor:
    """What a node's rows are charged for it and for the nodes before it that get them; these are added to ``paid``."""
    node, total = errors.network.nodes[index], errors.vectors[index]
    scale = node.map.diagonal() if isinstance(node, Linear) else None
    for source in node.inputs if isinstance(node, Add) or scale is not None else ():
        before = errors.network.nodes[source]
        if source in free and source in errors.vectors and isinstance(before, Add | Linear):
            found = _together(errors, source, free, paid)
            total += found if scale is None else tf.abs(scale) * found
            paid.add(source)
    return total * (1.0 + 8.0 * errors.rounding.own)
