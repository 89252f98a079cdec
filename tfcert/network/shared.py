"""Networks of one structure, of which what is traced for one serves the others.

A trace reads weights when it runs. So a network whose weights are variables can hold those of any network of its
structure, one after another: the same nodes with the same shapes, activations and rounding. Families of small networks
that differ in weights alone are bounded so after one trace, which takes far longer than bounds of one of them. Each
thread holds networks of its own: what one of them bounds must not change when another takes up weights.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace

import tensorflow as tf

from tfcert.network.graph import Add, Concatenate, Elementwise, Input, Linear, Network, Node
from tfcert.network.linear import DenseMap, LinearMap, ScaleMap, Source
from tfcert.network.moves import ReshapeMap

_MOST = 1 << 20
"""Networks with more weights are not held beside themselves."""
_KEPT = 8
"""So many structures, those used last, are remembered with what was traced of them."""


@dataclass(eq=False)
class Holder:
    """A network whose weights are variables.

    Attributes:
        network: the network, to be bounded after :meth:`hold`.
        variables: what it reads, in the order in which :func:`_sources` finds it.
        held: whose weights it holds.
    """

    network: Network
    variables: tuple[tf.Variable, ...]
    held: object = None

    def hold(self, owner: object, network: Network) -> None:
        """Takes up the weights of a network of the same structure, as they are now; of an ``owner`` once, until
        another one's are taken up."""
        if self.held is not owner:
            for variable, source in zip(self.variables, _sources(network), strict=True):
                variable.assign(source())
            self.held = owner


def held(network: Network) -> Network:
    """A network that holds another one's weights, as they are now, until others are held; itself where none can."""
    holder = holder_of(network)
    if holder is None:
        return network
    holder.hold(object(), network)
    return holder.network


class _Holders(threading.local):
    """The holders of a thread, by structure, the last used last."""

    def __init__(self) -> None:
        self.kept: OrderedDict[Hashable, Holder] = OrderedDict()


_HOLDERS = _Holders()


def holder_of(network: Network) -> Holder | None:
    """The holder of a network's structure; None where a trace may depend on more than that, or weights are many."""
    key = _structure(network)
    if key is None:
        return None
    mine = _HOLDERS.kept
    if key not in mine:
        mine[key] = _made(network)
        if len(mine) > _KEPT:
            mine.popitem(last=False)
    mine.move_to_end(key)
    return mine[key]


def _made(network: Network) -> Holder:
    """A network like another one, with variables for weights."""
    variables: list[tf.Variable] = []

    def held(source: Source) -> Source:
        variable = tf.Variable(source(), trainable=False)
        variables.append(variable)
        return variable.read_value

    return Holder(_reread(network, held), tuple(variables))


def _reread(network: Network, change: Callable[[Source], Source]) -> Network:
    """The network with each of its sources changed, node by node, and last those that are checked to be finite."""
    nodes = tuple(node.reading(change) if isinstance(node, Linear) else node for node in network.nodes)
    return replace(network, nodes=nodes, weights=tuple(map(change, network.weights)))


def _sources(network: Network) -> list[Source]:
    """What a network reads, in that order."""
    found: list[Source] = []

    def seen(source: Source) -> Source:
        found.append(source)
        return source

    _reread(network, seen)
    return found


def _structure(network: Network) -> Hashable | None:
    """What a trace of a network depends on, its weights aside; None where that is not known."""
    parts = [_of_node(node) for node in network.nodes]
    if None in parts or network.applied or network.parts is not None:
        return None
    maps = [node.map for node in network.nodes if isinstance(node, Linear)]
    if sum(m.in_shape[-1] * m.out_shape[-1] for m in maps if isinstance(m, DenseMap)) > _MOST:
        return None
    weights = [source() for source in _sources(network)]
    about = (network.dtype, network.cast_from, network.peeled, network.precomputed)
    return (*parts, *about, *((tuple(weight.shape), weight.dtype) for weight in weights))


def _of_node(node: Node) -> Hashable | None:
    """The same of a node; activations are told apart as objects, which a holder's network keeps alive."""
    said = (type(node), node.inputs, node.shape, node.rounding, node.formal, node.uncharged)
    match node:
        case Linear():
            kind = _of_map(node.map)
            more = (node.bias is None, node.size_of_bias is None, node.computed, node.folded, len(node.scales))
            return None if kind is None else (*said, kind, *more)
        case Elementwise():
            return (*said, id(node.activation))
        case Input() | Add():
            return said
        case Concatenate():
            return (*said, node.axis)
    return None


def _of_map(linear: LinearMap) -> Hashable | None:
    return (type(linear), linear.in_shape) if type(linear) in (DenseMap, ScaleMap, ReshapeMap) else None
