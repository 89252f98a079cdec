"""Differences of related networks on rounded networks: against simulated float32 programs, without slack.

Both networks of a pair are run by one simulated program whose sums are drawn anew for every node, so each side has
orders of its own.
"""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from related_networks import APART, BUILDS, SAME, absorbing, dense, near, together
from rigour.simulated import drawn, simulated
from sweeps import sweep_but

from tfcert.network.difference import Residuals
from tfcert.network.graph import Add, Linear
from tfcert.network.related import related
from tfcert.options import BoundOptions
from tfcert.propagation.engine import lower_bounds
from tfcert.propagation.kinds import multivariate_kind
from tfcert.propagation.supported import not_charged
from tfcert.roundoff import rounding_of
from tfcert.sets.balls import Box

pytestmark = pytest.mark.usefixtures("eager")
DEPLOYED, IGNORED = (BoundOptions(rounding=kind) for kind in ("deployed", "ignore"))
STACKED = replace(DEPLOYED, differences=False)


CASES = {
    "dense": lambda: together(one := absorbing(dense()), near(one, 1e-6)),
    "apart": lambda: together(one := absorbing(dense()), one, APART),
    "tanh": lambda: together(one := dense(activation="tanh"), near(one, 1e-7)),
    "residual": lambda: together(one := BUILDS["residual"](), near(one, 1e-7)),
    "convolutional": lambda: together(one := BUILDS["convolutional"](), near(one, 1e-7)),
    "one output": lambda: together(one := absorbing(dense((6, 5), 1)), near(one, 1e-6)),
}
METHODS = ("ibp", "crown", "forward", "forward+backward")


def charged_for(network):
    """The rounding of a network that is bounded in float64."""
    return rounding_of("deployed", network.dtype.as_numpy_dtype, np.float64)


def rows_of(network):
    """Rows over the outputs of both: differences of either sign, and one with other factors."""
    size = network.applied[0]
    eye = np.eye(size)
    parts = [(eye, -eye), (-eye, eye), (0.3 * eye, -0.1 * eye)]
    return np.concatenate([np.concatenate(part, axis=1) for part in parts])[None]


def around(network, rng, radius=1e-3):
    """A small box; where both networks have inputs of their own, these are about the same."""
    center = np.resize(rng.normal(size=(1, 3)), (1, *network.input_shape)).astype(np.float32)
    return Box(center - np.float32(radius), center + np.float32(radius))


def points_of(region, rng, count=24):
    low, high = region.lower[0].astype(np.float64), region.upper[0].astype(np.float64)
    shares = np.where(
        rng.random((count, 1)) < 0.5, rng.integers(0, 2, (count, low.size)), rng.random((count, low.size))
    )
    return np.clip((low + shares * (high - low)).astype(np.float32), region.lower[0], region.upper[0])


def runs(network, rows, points, count=12):
    """The least value of each row in so many programs and at all points ``[rows]``."""
    outputs = np.stack([simulated(network, drawn(seed))(points) for seed in range(count)]).astype(np.float64)
    return (outputs @ rows[0].T).min(axis=(0, 1))


def bound(network, region, rows, options, method="crown"):
    return lower_bounds(network, region, rows, np.zeros(rows.shape[:2]), method=method, options=options)[0]


KEPT = [("dense", "crown"), ("dense", "ibp"), ("apart", "forward"), ("tanh", "crown"), ("one output", "crown")]


@pytest.mark.parametrize(("case", "method"), sweep_but(KEPT, [(c, m) for c in CASES for m in METHODS]))
def test_no_two_programs_differ_by_more_than_bounds_say(case, method, seed, rng):
    """Catches differences that are charged for one side alone, for the formula alone, or not at all; in both types."""
    network = CASES[case]()
    region, rows = around(network, rng), rows_of(network)
    least = runs(network, rows, points_of(region, rng))
    pairs = related(network.rounded(None))
    assert pairs is not None and not not_charged(pairs.network, method, None, DEPLOYED)
    for kind in (network, network.astype(tf.float64)):
        if kind is not network:  # as branch and bound has it: float64 bounds of the float32 program
            kind = kind.rounded(charged_for(network))
        found = bound(kind, region, rows, DEPLOYED, method)
        assert (found <= least).all()
        stacked = bound(kind, region, rows, STACKED, method)
        assert (found >= stacked - 1e-6 * (1 + np.abs(stacked))).all()


def test_bounds_without_rounding_are_below_some_program():
    """What the test above could catch is there."""
    rng = np.random.default_rng(1)
    network = CASES["dense"]()
    region, rows = around(network, rng, 0.0), rows_of(network)
    least = runs(network, rows, points_of(region, rng))
    assert (bound(network.astype(tf.float64), region, rows, IGNORED) > least).any()


def test_differences_stay_tight(seed, rng):
    """Catches charges relative to what the networks compute where they should be relative to what these round."""
    network = together(one := dense((12, 10)), near(one, 1e-3), SAME)
    region, rows = around(network, rng, 0.3), rows_of(network)[:, :4]
    width = {}
    for name, options in (("deployed", DEPLOYED), ("ignore", IGNORED), ("stacked", STACKED)):
        low = bound(network, region, rows, options)
        width[name] = float(-(low[:2] + low[2:]).sum())
    assert width["ignore"] < width["deployed"] < 1.05 * width["ignore"] < 0.05 * width["stacked"]


def test_residuals_are_those_of_both_nodes_and_zero_without_rounding(rng):
    """Catches a residual of one node, one that shrinks with the difference, and one where nothing rounds."""
    network = CASES["dense"]().rounded(charged_for(CASES["dense"]()))
    pairs = related(network)
    nodes = pairs.network.nodes
    found = [node for node in nodes if isinstance(node, Residuals)]
    assert len(found) == 3 and all(node.rounding.deployed for node in found)
    assert not any(isinstance(node, Residuals) for node in related(network.rounded(None)).network.nodes)
    formal = [node for node in nodes if node.formal]
    assert formal and all(isinstance(node, Linear | Add) and not node.rounding.deployed for node in formal)
    ends = tf.constant(rng.normal(size=(1, *nodes[found[0].inputs[0]].shape)), tf.float32)
    low, high = multivariate_kind(found[0]).interval(found[0], [(ends, ends), (ends, ends)])
    alone = [abs(float(np.abs(np.asarray(node.bias())).max())) * 2.0**-24 for node in found[0].pair]
    assert float(tf.reduce_max(high)) > sum(alone) and np.array_equal(low, -high)
    none = multivariate_kind(found[0]).interval(replace(found[0], rounding=None), [(ends, ends), (ends, ends)])
    assert not np.asarray(none).any()


@pytest.mark.parametrize("factors", [(1.0, -1.0), (0.3, -0.1), (0.1, -0.3), (1e-3, -1e4), (1.0, 1.0), (0.0, -2.0)])
def test_rows_over_differences_are_the_same_rows_exactly(factors):
    """Catches coefficients that are rounded where a difference is taken out of them."""
    pairs = related(CASES["one output"]())
    ours, theirs = np.float32(factors[0]), np.float32(factors[1])
    left, right, share = (float(part) for part in pairs.matched(tf.constant([[ours, theirs]]))[0])
    assert left + share == float(ours) and right - share == float(theirs)
    assert share == 0 if ours * theirs >= 0 else min(abs(left), abs(right)) <= 2.0**-24 * max(abs(ours), abs(theirs))
