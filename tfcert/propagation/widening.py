"""The last pass of a rounded network in float64, where it is the least of the work.

What is claimed is evaluated by the last backward pass, over the rows that were asked about: a few, where the passes
before it have two rows for every neuron. In float32 its own rounding takes more than the deployed program's: each
product ``A W`` is charged ``gamma_K |A| |W| m``, each sum of intercepts and biases ``gamma_n`` of its terms (see
:mod:`tfcert.propagation.errors`). In float64 both are 2**-29 of that.

Nothing that it is made of changes: weights, rows, lines and regions are numbers of float32, which are numbers of
float64, and sizes of values and of terms are what they are in any arithmetic. Only the unit roundoff of our own
operations does, in the charges of all nodes; and the bound, which is rounded down to float32 in the end. The program's
own rounding is charged as before.
"""

from __future__ import annotations

import math
from dataclasses import replace

import tensorflow as tf

from tfcert.activations import Lines
from tfcert.network.graph import Elementwise, Network
from tfcert.propagation.affine import AffinePart, values_in_middle
from tfcert.propagation.backward import Relaxed, linear_lower_bounds
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.errors import Errors, rounded_down
from tfcert.propagation.interval import exact_intervals
from tfcert.propagation.pooling import PoolLines
from tfcert.roundoff import unit_roundoff
from tfcert.sets.region import Region

_FEWER = 8
"""How many times as many rows as the last pass those before it have where it is computed in float64: that takes two to
three times as long on a CPU, and is then a fifth of the whole or less."""


def last_pass(network: Network, target: int, rows: Coefficients, relaxed: Relaxed, region: Region) -> tf.Tensor:
    """What :func:`~tfcert.propagation.backward.linear_lower_bounds` finds, behind passes that bounded the neurons."""
    if not pays_in_float64(network, rows, relaxed, region):
        return linear_lower_bounds(network, target, rows, relaxed, region)
    wide, relaxed, region = all_in_float64(network, relaxed, region)
    rows = replace(rows, values=_wide(rows.values))
    return rounded_down(linear_lower_bounds(wide, target, rows, relaxed, region), network.dtype)


def pays_in_float64(network: Network, rows: Coefficients, relaxed: Relaxed, region: Region) -> bool:
    """Tells whether the last pass is computed in float64: where it is charged for float32, and has few rows."""
    if network.rounding is None or network.dtype == tf.float64 or relaxed.errors is None or relaxed.stops:
        return False
    if not all(isinstance(lines, Lines | PoolLines) for lines in relaxed.lines.values()):
        return False
    exact = exact_intervals(network, region.is_box)
    passed = (i for i in network.bounded() if i not in exact and not isinstance(network.nodes[i], Elementwise))
    return _FEWER * int(rows.values.shape[2]) <= sum(2 * math.prod(network.nodes[i].shape) for i in passed)


def all_in_float64(network: Network, relaxed: Relaxed, region: Region) -> tuple[Network, Relaxed, Region]:
    """A rounded network of float32, what is known of its nodes, and a region, as numbers of float64."""
    assert network.rounding is not None and relaxed.errors is not None
    rounding = replace(network.rounding, own=unit_roundoff(tf.float64.as_numpy_dtype))
    wide = network.astype(tf.float64).rounded(rounding)
    region = Region(region.norm, region.clipped, *map(_wide, region[2:]))
    lines = {
        index: type(found)(*map(_wide, found))
        for index, found in relaxed.lines.items()
        if isinstance(found, Lines | PoolLines)
    }
    relaxed = Relaxed(
        lines,
        added={index: _wide(term) for index, term in relaxed.added.items()},
        affine=AffinePart(values_in_middle(wide, region), None),  # few rows do not pay for the factor
        errors=wider(relaxed.errors, wide),
    )
    return wide, relaxed, region


def wider(errors: Errors, network: Network) -> Errors:
    """The errors of the same nodes, with our own rounding in float64: of the sizes that are known."""
    found = Errors(
        network,
        sizes={index: _wide(size) for index, size in errors.sizes.items()},
        lost=_wide(errors.lost),
        affine=errors.affine,
        terms={index: (_wide(size), _wide(flushed)) for index, (size, flushed) in errors.terms.items()},
    )
    for index in found.sizes:
        found.charge(index)
    return found


def _wide(x: tf.Tensor | float) -> tf.Tensor:
    return tf.cast(x, tf.float64)
