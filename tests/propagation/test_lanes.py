"""Lines that differ by row: each lane of rows gives the bounds that its own lines give."""

import numpy as np
import pytest
import tensorflow as tf
from soundness.networks import Sketch, flatten

from tfcert.activations import Lines, lines
from tfcert.network.graph import Elementwise
from tfcert.propagation import stepping
from tfcert.propagation.backward import Relaxed, identity_rows, linear_lower_bounds
from tfcert.propagation.bounds import pre_activation_bounds
from tfcert.propagation.coefficients import Coefficients, Patches
from tfcert.sets.balls import LpBall
from tfcert.sets.region import region_of


def convolutional() -> Sketch:
    s = Sketch(np.random.default_rng(3))
    x = s.activate(s.conv(s.input((6, 5, 2)), 3, (3, 3)))
    x = s.activate(s.conv(x, 2, (2, 2)))
    s.dense(flatten(s, x), 4)
    return s


@pytest.mark.parametrize("patched", [True, False], ids=["patches", "dense"])
@pytest.mark.parametrize("place", ["convolution", "output"])
def test_each_lane_of_rows_is_bounded_with_its_own_lines(monkeypatch, place, patched):
    monkeypatch.setattr(stepping, "patches_pay", lambda *_: patched)
    s = convolutional()
    network = s.network()
    region = region_of(LpBall(s.rng.uniform(0, 1, (3, *s.shapes[0])), 0.1))
    known = pre_activation_bounds(network, region, "crown-ibp")
    bent = [i for i, node in enumerate(network.nodes) if isinstance(node, Elementwise)]
    target = network.output if place == "output" else network.nodes[bent[1]].inputs[0]
    rows = identity_rows(network.nodes[target].shape, network.dtype)
    count = rows.values.shape[2]

    def relaxed(lane: int, lanes: int) -> dict[int, Lines]:
        """Lower slopes of a lane, or (-1) of all lanes along an axis of their own."""
        found = {}
        for node in (i for i in bent if i < target):
            bounds = known[network.nodes[node].inputs[0]]
            share = [(k + 1) / (lanes + 1) for k in (range(lanes) if lane < 0 else [lane])]
            slopes = [
                tf.where(bounds[0] >= 0, 1.0, tf.where(bounds[1] <= 0, 0.0, tf.cast(v, tf.float64))) for v in share
            ]
            activation = network.nodes[node].activation
            each = [lines(activation, (v, activation.slopes("crown", *bounds)[1]), *bounds) for v in slopes]
            found[node] = each[0] if lane >= 0 else Lines(*(tf.stack(part, axis=1) for part in zip(*each, strict=True)))
        return found

    for lanes in (2, count):
        together = linear_lower_bounds(network, target, rows, Relaxed(relaxed(-1, lanes)), region)
        together = tf.reshape(together, [3, -1, lanes, count // lanes])
        for lane in range(lanes):
            alone = linear_lower_bounds(network, target, rows, Relaxed(relaxed(lane, lanes)), region)
            alone = tf.reshape(alone, [3, -1, lanes, count // lanes])
            np.testing.assert_allclose(together[:, :, lane], alone[:, :, lane], atol=1e-12)
            assert lane == 0 or np.abs(together[:, :, 0] - alone[:, :, 0]).max() > 1e-3


@pytest.mark.parametrize(
    "patches",
    [
        Patches((3, 4), (2, 3)),
        Patches((3, 2), (4, 3), strides=(2, 3), offset=(1, 2)),
        Patches((2, 2), (3, 3), strides=(3, 1), offset=(0, 1)),
        Patches((4, 4), (2, 2), strides=(1, 2), offset=(-1, 0)),
    ],
    ids=str,
)
def test_the_gradient_of_lanes_is_folded_from_the_patches_that_read_them(patches):
    rng, shape, lanes = np.random.default_rng(0), (6, 7, 2), 3
    rows = Coefficients(tf.zeros([1, 1, lanes, patches.area * 2], tf.float64), shape, patches)
    x = tf.constant(rng.normal(size=(2, lanes, *shape)))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        together = rows.unfold(x)
        alone = tf.concat([rows.unfold(x[:, lane]) for lane in range(lanes)], axis=2)
    np.testing.assert_array_equal(together, alone)
    weights = tf.constant(rng.normal(size=together.shape))
    folded, added = (tape.gradient(found, x, output_gradients=weights) for found in (together, alone))
    np.testing.assert_allclose(folded, added, atol=1e-12)
