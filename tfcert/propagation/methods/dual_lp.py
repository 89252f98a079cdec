"""Wong and Kolter's dual network (2018, "Provable defenses via the convex outer adversarial polytope").

The least value of a linear function of the outputs over all activations that the triangles of the ReLUs allow is a
linear program. Every feasible point of its dual bounds it from below, and the paper takes one that a network run
backward computes (theorem 1): a row is carried backward through the layers, and through a ReLU of ``l < 0 < u`` it is
multiplied by ``u / (u - l)``, which is their ``D`` and the choice ``alpha = u / (u - l)`` of their free variables. What
the triangles add is ``l * [nu]_+`` for each such ReLU. The bounds l and u come from the same dual network, layer by
layer (algorithm 1). Nothing is met with intervals, unlike in every other method here, so that bounds of deep networks
can be looser than those of ``ibp``; gradients flow through all of it, the layers' bounds included.

Its relatives: given the layers' bounds, a row's bound is that of Fast-Lin (Weng et al. 2018: the relaxation
``fastlin``), which found it by another way; ``crown`` with that relaxation meets layers and rows with intervals. ``lp``
is the optimum of the linear program, over CROWN's bounds of neurons, and CNN-Cert's comparator "Dual-LP". CROWN's lines
are another feasible point of the same dual.

The paper has dense ReLU networks and L-infinity balls. Other norms by their dual norms, convolutions and skip
connections are as in its successor (Wong et al. 2018, "Scaling provable adversarial defenses"), but without the random
projections there, which make estimates of bounds. Any other nonlinearity is refused.
"""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from tfcert.network.graph import Network
from tfcert.propagation.affine import AffinePart, affine_part
from tfcert.propagation.backward import linear_lower_bounds
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.enclosures import TensorInterval
from tfcert.propagation.interval import all_sides, exact_intervals, step, tidy
from tfcert.propagation.methods.base import Bounded, How, combined_through, in_parts
from tfcert.propagation.plan import Plan, passes_plan
from tfcert.propagation.preactivation import Passes, Relaxer, by_name, relax_before
from tfcert.propagation.ranges import errors_of
from tfcert.sets.region import Region

_HOW = How()


class _DualLp:
    def plan(self, network: Network, rows: int, memory_mb: int, is_box: bool) -> Plan:
        return passes_plan(network, rows, memory_mb, is_box)

    def pre_activation(self, network: Network, region: Region, how: How) -> dict[int, TensorInterval]:
        return _layers(network, region, _slopes(network), how.passes, affine_part(network, region))

    def lower(self, network: Network, region: Region, rows: Coefficients, how: How) -> Bounded:
        return dual_network(network, region, rows, how)


def dual_network(network: Network, region: Region, rows: Coefficients, how: How = _HOW) -> Bounded:
    """Lower bounds of rows over the output by the dual network, and the layers' bounds by algorithm 1."""
    affine, relaxer = affine_part(network, region), _slopes(network)
    bounds = _layers(network, region, relaxer, how.passes, affine)
    errors = errors_of(network, region, bounds)
    relaxed = relax_before(network, network.output, relaxer, bounds, affine, errors)

    def bound(some: Coefficients) -> tf.Tensor:
        return linear_lower_bounds(network, network.output, some, relaxed, region)

    combined = combined_through(network, region, rows, relaxed, how)
    return Bounded(in_parts(rows, how.passes.rows, bound), bounds, combined)


def _slopes(network: Network) -> Relaxer:
    """One slope for both lines of a ReLU: that of its chord."""
    return by_name(network, "fastlin")


def _layers(
    network: Network, region: Region, relaxer: Relaxer, passes: Passes, affine: AffinePart
) -> dict[int, TensorInterval]:
    """Algorithm 1: bounds of every node that enters a ReLU, each by the dual network of the layers before it."""
    exact, bounds = _first_layers(network, region), dict[int, TensorInterval]()
    for index in sorted(network.bounded()):
        if index in exact:
            bounds[index] = exact[index]
            continue
        relaxed = relax_before(network, index, relaxer, bounds, affine)
        bounds[index] = all_sides(network, index, relaxed, region, passes.parts)
    return bounds


def _first_layers(network: Network, region: Region) -> Mapping[int, TensorInterval]:
    """The nodes before any ReLU whose interval is what the dual network would say of them."""
    ranges = {0: (region.lower, region.upper)}
    for index in sorted(exact_intervals(network, region.is_box) - {0}):
        node = network.nodes[index]
        ranges[index] = tidy(*step(node, [ranges[i] for i in node.inputs]))
    return ranges


DUAL_LP = _DualLp()
