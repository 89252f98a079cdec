"""What is bounded with rounding taken into account, and why what is not is not."""

from __future__ import annotations

from dataclasses import replace

from tfcert.catalog import METHODS, ROUNDINGS
from tfcert.network.graph import Elementwise, Multivariate, Network
from tfcert.options import BoundOptions
from tfcert.propagation.deployed import not_modelled
from tfcert.propagation.kinds import multivariate_kind
from tfcert.roundoff import Rounding, rounding_name, rounding_of
from tfcert.verdict import Guarantee


def not_supported(network: Network) -> str:
    """The reason why rounding is not taken into account in bounds of a network, in words; "" where it is."""
    outside = not_modelled(network)
    if outside:
        return outside
    if network.deployed.size > network.dtype.size:
        return f"the model computes in {network.deployed.name}, and weights were rounded to {network.dtype.name}"
    if network.precomputed:
        return network.precomputed
    marked = next((node for node in network.nodes if node.uncharged), None)
    if marked is not None:
        return f"{marked.uncharged} ({marked.name})"
    for node in network.nodes:
        if isinstance(node, Elementwise) and node.activation.accuracy is None:
            return f"nothing is known of how activation {node.activation.name!r} ({node.name}) rounds"
        if isinstance(node, Multivariate) and not multivariate_kind(node).charges_rounding:
            return f"the rounding of a {type(node).__name__.lower()} ({node.name}) is not bounded"
    return ""


def not_charged(
    network: Network, method: str, relaxation: str | None, options: BoundOptions, combined: bool = False
) -> str:
    """The reason why bounds by a method leave rounding out of account; "" where they do not.

    ``combined``: rows are bounded together, as combinations.
    """
    if options.rounding == "ignore":
        return "rounding is left out of account, as asked"
    info = METHODS.find(method)
    if not info.charges_rounding:
        return f"the method {method} does not bound rounding"
    if combined and not info.charges_combined:
        return f"combinations of rows by {method} do not bound rounding"
    return not_supported(network)


def with_charges(
    network: Network, method: str, relaxation: str | None, options: BoundOptions, combined: bool = False
) -> Network:
    """The network whose bounds are charged for rounding as asked; without any charge where they cannot be.

    A network that is rounded already stays as it is: it may be a copy of another type than the deployed one's.
    """
    if not_charged(network, method, relaxation, options, combined):
        return network.rounded(None)
    if network.rounding is not None:
        return network
    deployed, own = (dtype.as_numpy_dtype for dtype in (network.deployed, network.dtype))
    return network.rounded(rounding_of(options.rounding, deployed, own))


def as_given(network: Network, options: BoundOptions | None) -> BoundOptions:
    """The options of bounds of a network that is taken as it is, charged or not, whatever they say of rounding."""
    return replace(options or BoundOptions(), rounding=rounding_name(network.rounding))


def level_of(rounding: Rounding | None) -> Guarantee:
    """The guarantee of bounds of a network with this rounding."""
    if rounding is None:
        return Guarantee.NUMERIC
    return Guarantee.FLOAT32_ANY_ORDER if rounding.deployed else Guarantee.REAL


def guarantee_of(
    network: Network, method: str, relaxation: str | None, options: BoundOptions, combined: bool = False
) -> Guarantee:
    """The guarantee of a method's bounds of a network."""
    if not_charged(network, method, relaxation, options, combined):
        return METHODS.find(method).guarantee
    return ROUNDINGS.find(options.rounding).guarantee
