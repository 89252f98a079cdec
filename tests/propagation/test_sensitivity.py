"""What relaxed neurons take from a bound goes to the inputs that move them, in the right amount."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcert.network import from_keras
from tfcert.network.joint import Applied, joint
from tfcert.network.related import related
from tfcert.propagation.backward import linear_lower_bounds
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.preactivation import backward_bounds, by_name, relax_before
from tfcert.propagation.sensitivity import is_counted, taken_by_input
from tfcert.sets.balls import Box
from tfcert.sets.region import region_of


def network_of(kernel, last, bias=0.0, activation="relu"):
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(len(kernel[0]), activation), keras.layers.Dense(1, use_bias=False)]
    )
    model.set_weights([np.array(kernel, float), np.full(len(kernel[0]), bias), np.array(last, float)])
    return from_keras(model).astype(tf.float64)


def estimate(network, row, low=(-1.0, -1.0), high=(1.0, 1.0)):
    """The bound of a row over a box, and what of its loss goes with each input."""
    region = region_of(Box(np.array([low]), np.array([high])))
    bounds = backward_bounds(network, region, by_name(network, None))
    relaxed = relax_before(network, network.output, by_name(network, None), bounds)
    assert is_counted(relaxed)
    rows = Coefficients(tf.constant([[[row]]], tf.float64), network.output_shape)
    found, taken = taken_by_input(
        network,
        region.lower,
        region.upper,
        relaxed,
        lambda: linear_lower_bounds(network, network.output, rows, relaxed, region)[:, 0],
    )
    return float(found[0]), taken.numpy()[0]


def test_a_neuron_counts_for_the_input_that_moves_it():
    """relu(x_1) on [-1, 1]: its lines are apart by 0.5, for each unit of a width of 2 that is 0.25."""
    bound, taken = estimate(network_of([[0.0], [1.0]], [[3.0]]), [-1.0])
    assert bound == pytest.approx(-3)
    np.testing.assert_allclose(taken, [0, 0.75], atol=1e-9)


def test_a_neuron_counts_by_how_much_each_input_moves_it():
    """relu(x_1 - 3 x_0) on [-4, 4]: lines apart by 2, three quarters of it with the first input."""
    _, taken = estimate(network_of([[-3.0], [1.0]], [[1.0]]), [-1.0])
    np.testing.assert_allclose(taken, [0.75, 0.25], atol=1e-9)


def test_stable_neurons_and_inputs_that_cannot_move_count_nothing():
    assert estimate(network_of([[1.0], [1.0]], [[1.0]], bias=5.0), [-1.0])[1].max() < 1e-9
    _, taken = estimate(network_of([[1.0], [1.0]], [[1.0]]), [-1.0], low=(0.0, -1.0), high=(0.0, 1.0))
    assert taken[0] == 0 and taken[1] == pytest.approx(0.25)


def test_a_difference_counts_for_what_moves_its_arguments():
    """f and f + 0.1 behind relu: of the row f - g only the difference is relaxed, and its lines are apart by 0.1.

    The distance of both arguments does not depend on any input; whether they are active depends on the second alone.
    """
    nets = [network_of([[0.0], [1.0]], [[1.0]], bias) for bias in (0.0, 0.1)]
    pairs = related(joint([Applied(net, np.arange(2)) for net in nets], 2))
    assert pairs is not None
    row = pairs.matched(tf.constant([1.0, -1.0], tf.float64)).numpy()
    bound, taken = estimate(pairs.network, row)
    assert bound == pytest.approx(-0.1)
    np.testing.assert_allclose(taken, [0, 0.05], atol=1e-9)
