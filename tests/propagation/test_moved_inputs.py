"""What only moves inputs is bounded by the region's own box: behind it a rounding error would be a whole cell."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from methods import GENERAL

import tfcert
from tfcert.layers import IntervalAbstraction
from tfcert.propagation.bounds import pre_activation_bounds
from tfcert.sets.region import region_of

METHODS = GENERAL

LAYERS = keras.layers
MOVES = {
    "nothing": (),
    "reshaped": (LAYERS.Reshape((2, 2, 1)), LAYERS.Permute((2, 1, 3)), LAYERS.Reshape((4,))),
    "copied twice": (LAYERS.Reshape((2, 2, 1)), LAYERS.UpSampling2D(2), LAYERS.UpSampling2D(2)),
}
SAMPLES = 300


@pytest.fixture(scope="module", params=MOVES)
def network(request):
    layers = [*MOVES[request.param], IntervalAbstraction(0.1, (0, 1)), LAYERS.Flatten(), LAYERS.Dense(2)]
    return tfcert.from_keras(keras.Sequential([keras.Input((4,)), *layers]))


@pytest.mark.parametrize(
    ("norm", "clip"), [("linf", None), ("linf", (0, 1)), ("l2", None), ("l2", (0, 1)), ("l1", (-2, 2))]
)
def test_no_float_of_a_region_is_beyond_the_bounds_of_a_moved_input(network, norm, clip, rng):
    x = rng.uniform(0.0, 1.0, (SAMPLES, 4)).astype(np.float32)
    ball = tfcert.LpBall(x, list(rng.uniform(0.01, 0.9, SAMPLES)), norm, clip=clip)
    outermost = []
    for axis in range(4):
        for far in (-9.0, 9.0):
            point = x.copy()
            point[:, axis] = far
            outermost.append(ball.project(point))
            assert ball.contains(outermost[-1]).all()
    # The network's own moves, of every member at once.
    cells = next(i for i, node in enumerate(network.nodes) if node.name.endswith("cells"))
    source = network.nodes[cells].inputs[0]
    reached = [network.values(tf.constant(point))[source].numpy() for point in outermost]
    for method in METHODS:
        lower, upper = (end.numpy() for end in pre_activation_bounds(network, region_of(ball), method)[source])
        assert all((lower <= values).all() and (values <= upper).all() for values in reached), method
