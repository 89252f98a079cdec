"""The door to the methods: by their names, each found through the catalog."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf

from tfcert.catalog import METHODS, RELAXATIONS, check_method, relaxation_info
from tfcert.network.graph import Elementwise, MaxPool, Multivariate, Network, Node
from tfcert.propagation.ascent import Ascent
from tfcert.propagation.backward import Relaxed
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.combined import Together
from tfcert.propagation.enclosures import TensorInterval
from tfcert.propagation.methods.base import Bounded, How, Method
from tfcert.propagation.preactivation import WHOLE, Passes, by_name, relax_before
from tfcert.propagation.stepping import NodeLines
from tfcert.sets.region import Region


def method_of(name: str, relaxation: str | None = None) -> tuple[Method, str | None]:
    """The method of a name that propagates, and the relaxation by which activations choose their lines in it.

    A relaxation that is no rule of activations is a method of its own, and stands in for the one of that name.

    Raises:
        ValueError: there is no such method or relaxation, or the two do not go together.
    """
    check_method(name, relaxation)
    info = METHODS.find(name)
    if info.asks_solver:
        raise ValueError(f"the method {name} asks a solver: it does not propagate bounds")
    if relaxation is not None and relaxation_info(relaxation).where:
        return RELAXATIONS.load(relaxation), None
    return info.load(), relaxation


def output_bounds(
    network: Network,
    region: Region,
    rows: tuple[tf.Tensor, tf.Tensor],
    method: str = "crown",
    relaxation: str | None = None,
    passes: Passes = WHOLE,
    ascent: Ascent = How.ascent,
) -> tf.Tensor:
    """Lower bounds of linear functions of the network's output over a region: those of :func:`bounded_outputs`."""
    return bounded_outputs(network, region, rows, method, relaxation, passes, ascent).lower


def bounded_outputs(
    network: Network,
    region: Region,
    rows: tuple[tf.Tensor, tf.Tensor],
    method: str = "crown",
    relaxation: str | None = None,
    passes: Passes = WHOLE,
    ascent: Ascent = How.ascent,
    together: Together | None = None,
) -> Bounded:
    """Lower bounds of linear functions of the network's output over a region, and the layers' bounds that led there.

    Args:
        network: the network; its output has one axis.
        region: the inputs, ``[samples, *input]``.
        rows: coefficients ``[samples or 1, rows, outputs]`` and offsets ``[samples or 1, rows]``.
        method: one of ``catalog.propagated()``.
        relaxation: one of ``catalog.RELAXATIONS``, None for each activation's default. ``alpha-crown`` starts from it.
            ``frown`` is what ``alpha-crown`` does with one pair of lines a neuron, and goes with ``crown`` too.
        passes: how to cut the backward passes, and whether they may leave out stable neurons.
        ascent: how ``alpha-crown`` and ``frown`` look for relaxations.
        together: the clauses that the rows make up, whose combinations of rows are bounded, too; None for none.

    Returns:
        The rows' bounds ``[samples, rows]``, those of every node that enters a nonlinearity, and those of combinations
        ``[samples, clauses]``. Guarantee: ``numeric``; of a rounded network, for the values that it is rounded for.

    Raises:
        ValueError: an unknown method, or a relaxation that an activation does not define.
    """
    coefficients, offsets = (tf.convert_to_tensor(part, network.dtype) for part in rows)
    check_names(network, method, relaxation)
    chosen, slopes = method_of(method, relaxation)
    first = Coefficients(coefficients[:, None], network.output_shape)
    bounded = chosen.lower(network, region, first, How(slopes, passes, ascent, together))
    lower = bounded.lower + offsets
    if network.rounding is not None:
        lower -= 2.0 * network.rounding.own * tf.abs(lower) + network.rounding.tiny
    return bounded._replace(lower=lower)


def pre_activation_bounds(
    network: Network, region: Region, method: str, relaxation: str | None = None, passes: Passes = WHOLE
) -> dict[int, TensorInterval]:
    """Bounds of every node that enters a nonlinearity, ``[samples, *shape]`` pairs, by node number; errors as above."""
    chosen, slopes = method_of(method, relaxation)
    return chosen.pre_activation(network, region, How(slopes, passes))


def relaxed_by_lines(network: Network, ranges: Sequence[TensorInterval]) -> Relaxed:
    """Relaxes every nonlinear node on its range, as ``crown-ibp`` does, with lines whose gradients are cheap."""
    default = by_name(network, None)

    def relaxer(index: int, target: int, bounds: Mapping[int, TensorInterval]) -> NodeLines:
        node = network.nodes[index]
        if isinstance(node, Elementwise) and node.activation.closed_form is not None:
            return node.activation.closed_form(*bounds[node.inputs[0]])
        return default(index, target, bounds)

    bounds = {i: ranges[i] for i in network.bounded()}
    return relax_before(network, network.output, relaxer, bounds)


def check_names(network: Network, method: str, relaxation: str | None) -> None:
    """Checks that a method and a relaxation exist and suit the network.

    Raises:
        ValueError: one does not exist, they do not go together, an activation does not define the relaxation, or the
            method is not defined for a nonlinearity of the network.
    """
    check_method(method, relaxation)
    _check_nonlinearities(network, method)
    if relaxation is None or "+" in relaxation or RELAXATIONS.find(relaxation).where:
        return
    for node in network.nodes:
        if isinstance(node, Elementwise) and relaxation not in node.activation.relaxations:
            raise ValueError(f"{node.activation.name} ({node.name}) {node.activation.lacks(relaxation)}")


def _check_nonlinearities(network: Network, method: str) -> None:
    only = METHODS.find(method).activations
    for node in network.nodes if only else ():
        what = _nonlinearity(node)
        if what is not None and what not in only:
            raise ValueError(
                f"the method {method} is for networks of {' and '.join(only)} alone, and {node.name} is {what}: use "
                "the method crown, which bounds it"
            )


def _nonlinearity(node: Node) -> str | None:
    """What a node is called where a method is not defined for it; None of an affine node."""
    match node:
        case Elementwise():
            return node.activation.name
        case MaxPool():
            return "a maximum"
        case Multivariate():
            return f"a {type(node).__name__.lower()}"
    return None
