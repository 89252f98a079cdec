"""No point of a region leaves the bounds of networks with any registered activation, however it is relaxed."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from sweeps import sweep_but

from soundness import regions
from soundness.networks import Sketch, flatten
from tfcert.activations import activation, names
from tfcert.network.graph import Elementwise, Network
from tfcert.options import BoundOptions
from tfcert.propagation.ascent import Ascent
from tfcert.propagation.bounds import output_bounds
from tfcert.propagation.supported import with_charges
from tfcert.sets.balls import LpBall
from tfcert.sets.region import region_of

PARAMETERS = {
    "prelu": {"alpha": lambda: tf.constant([0.3, -0.2, 1.4], tf.float64)},
    "power": {"exponent": -3},
    "threshold": {"threshold": 0.2, "default_value": -0.5},
}
"""What an activation must be told: slopes of three channels, an exponent, where to jump."""
SLACK = 1e-9
"""Rounding in float64, and critical points found to within it (whose error counts squared)."""


def bent(s: Sketch, source: int, name: str) -> int:
    function = activation(name, **PARAMETERS.get(name, {}))
    if function.limited:  # to where every one of them is known
        source = s.scale(source, np.float32(0.1), np.float32(2.0))
    shape = s.shapes[source]
    return s.add(name, shape, lambda _: Elementwise(name=name, inputs=(source,), shape=shape, activation=function))


def network_with(name: str) -> tuple[Sketch, Network]:
    """Convolution, activation, a residual branch with another, dense."""
    s = Sketch(np.random.default_rng(len(name)))
    x = bent(s, s.conv(s.input((5, 5, 1)), 3, (2, 2), strides=(2, 2)), name)
    branch = bent(s, s.conv(x, 3, (2, 2), padding=((1, 0), (0, 1))), name)
    s.dense(flatten(s, s.sum(x, branch)), 3)
    return s, s.network()


ROUND = ("leaky_relu", "relu", "tanh")
"""Activations that every run of the tests bounds over balls of L2 as well."""
USUAL = [*((name, "linf") for name in names()), *((name, "l2") for name in ROUND)]


@pytest.mark.parametrize(("name", "norm"), sweep_but(USUAL, itertools.product(names(), ["linf", "l2"])))
def test_no_point_leaves_the_bounds(name, norm):
    s, network = network_with(name)
    region = LpBall(s.rng.uniform(-1, 1, (2, 5, 5, 1)), [0.3, 0.02] if norm == "linf" else [1.0, 0.05], norm)
    rows = np.broadcast_to(np.concatenate([np.eye(3), s.rng.normal(size=(2, 3))]), (2, 5, 3))
    points = regions.adversaries(network, region, rows, s.rng)
    flat = tf.constant(points.reshape(-1, *points.shape[2:]))
    exact = rows.astype(np.longdouble)  # more digits than bounds are charged for
    values = np.einsum("sro,pso->psr", exact, network(flat).numpy().reshape(len(points), 2, 3)).min(axis=0)
    known = set(activation(name, **PARAMETERS.get(name, {})).relaxations) & set(activation("tanh").relaxations)
    asked = [("crown", relaxation) for relaxation in sorted(known)]
    asked += [("ibp", None), ("forward", None)] if norm == "linf" else [("alpha-crown", None)]
    for method, relaxation in asked:
        given = (tf.constant(rows), tf.zeros([2, 5], tf.float64))
        sets, ascent = region_of(region), Ascent(iterations=1)
        charged = with_charges(network, method, relaxation, BoundOptions())
        slack = 0.0 if charged.rounding is not None else SLACK * (1 + np.abs(values))
        found = output_bounds(charged, sets, given, method, relaxation, ascent=ascent).numpy()
        assert np.isfinite(found).all(), (method, relaxation)
        assert np.all(found <= values + slack), (method, relaxation, float((found - values).max()))
