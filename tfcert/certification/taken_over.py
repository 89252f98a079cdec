"""Trees that branch and bound found, as trees over the checker's places: they are taken over, and not looked for anew.

Which place of the checker's graph holds what a node of the network computes is told by what both compute at points.
A wrong guess costs a proof and no more: what a tree proves is for the checker to say.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfcert.certification.slopes import Chosen
from tfcert.certification.trees import Leaf, Tree
from tfcert.complete.search.results import ProvenPiece, ProvenPieces, Split
from tfcert.network.graph import Network
from tfcert.proof.graph import Affine, Bent, Beside, Entry, Graph, Largest, Total
from tfcert.propagation.splitting import split_nodes

_CLOSE = 1e-4
"""By what share of their size numbers of one neuron may differ: models' scales are rounded."""


def trees_taken_over(parts: ProvenPieces, graph: Graph, clauses: Sequence[int], center: np.ndarray) -> dict[int, Tree]:
    """The trees by the number of their clause in a certificate, as far as they can be told in the checker's places.

    Args:
        clauses: the number in ``parts`` of each clause of the certificate.
        center: a point ``[*input]``.
    """
    places = _places(parts.network, graph, center)
    wanted = {
        i for part in parts.clauses.values() for leaf in part for i in (*leaf.slopes, *(c.node for c in leaf.path))
    }
    if not wanted <= set(places):
        return {}
    return {
        n: _tree(list(parts.clauses[k]), 0, Tree(), places, graph) for n, k in enumerate(clauses) if k in parts.clauses
    }


def _places(network: Network, graph: Graph, center: np.ndarray) -> dict[int, int]:
    """For the network's split nodes, by their order, the places of the graph that hold the same numbers."""
    x = np.stack([center, center + np.random.default_rng(0).normal(0.0, 0.1, center.shape)]).astype(np.float64)
    values = network.values(tf.constant(x, network.dtype))
    known, found = values_at(graph, x), dict[int, int]()
    entering = sorted({place.inputs[0] for place in graph.places if isinstance(place, Bent)})
    for number, node in enumerate(split_nodes(network)):
        ours = values[node].numpy().astype(np.float64)
        for place in entering:
            theirs = known[place].reshape(2, -1)
            size = 1.0 + np.abs(theirs).max()
            if ours.size == theirs.size and np.abs(ours.reshape(2, -1) - theirs).max() <= _CLOSE * size:
                found.setdefault(number, place)
    return found


def values_at(graph: Graph, x: np.ndarray) -> list[np.ndarray]:
    """The numbers of each place at inputs ``[count, *input]``."""
    found: list[np.ndarray] = []
    for place in graph.places:
        before = [found[i] for i in place.inputs]
        match place:
            case Entry():
                found.append(x)
            case Affine():
                found.append(place.map.forward(before[0]) + place.bias)
            case Bent():
                found.append(place.function.of(before[0]))
            case Total():
                found.append(np.sum(before, axis=0))
            case Beside():
                found.append(np.concatenate(before, axis=-1))
            case Largest():
                image = place.windows.pad(before[0], -np.inf)
                found.append(np.max([image[place.windows.at(where)] for where in place.windows.places], axis=0))
            case _:
                raise TypeError(type(place).__name__)
    return found


def _tree(leaves: list[ProvenPiece], depth: int, tree: Tree, places: dict[int, int], graph: Graph) -> Tree:
    """Adds the nodes above some leaves, whose ways are one as far as ``depth``."""
    if len(leaves) == 1 and len(leaves[0].path) == depth:
        tree.close(_leaf(leaves[0], places, graph))
        return tree
    cut: Split = leaves[0].path[depth]
    tree.add(places[cut.node], cut.neuron, cut.at)
    for above in (False, True):
        _tree([leaf for leaf in leaves if leaf.path[depth].above == above], depth + 1, tree, places, graph)
    return tree


def _leaf(part: ProvenPiece, places: dict[int, int], graph: Graph) -> Leaf:
    """A leaf with its choices: one for all rows of its clause and their combination, for which they were chosen."""
    count = 1 if part.weights is None else len(part.weights) + 1
    slopes = {}
    for node, chosen in part.slopes.items():
        index = next(
            i for i, place in enumerate(graph.places) if isinstance(place, Bent) and places[node] in place.inputs
        )
        slopes[index] = np.broadcast_to(chosen.reshape(graph.places[index].shape), (count, *graph.places[index].shape))
    multipliers = np.broadcast_to(part.multipliers, (count, len(part.path)))
    return Leaf(Chosen(slopes, multipliers, np.full(count, -np.inf), {}), part.weights)
