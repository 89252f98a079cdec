"""The gate of the frontend: how tight its tolerance is, and that examples in docstrings hold."""

import doctest

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L

from tfcert.activations import Bends, general
from tfcert.network import FrontendMismatchError, from_keras, register_layer
from tfcert.network.keras import graph as keras_graph
from tfcert.network.keras import preprocessing
from tfcert.network.keras.validation import Checkpoint, probes, tolerances, validate


def model_of(width, depth, dtype="float32"):
    layers = [L.Dense(width, activation="relu", dtype=dtype) for _ in range(depth)]
    inputs = outputs = keras.Input((width,), dtype=dtype)
    for layer in [*layers, L.Dense(3, dtype=dtype)]:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs)


def output_of(network, model, softmax=False):
    return [Checkpoint("output", network.output, model.outputs[0], softmax)]


@pytest.mark.parametrize(("width", "depth"), [(4, 1), (64, 3), (256, 6)])
def test_the_tolerance_holds_against_float64_and_is_tight(check, rng, width, depth):
    """Float32 values lie within the errors of the exact ones, which stay far below what a wrong layer would do."""
    single, double = model_of(width, depth), model_of(width, depth, "float64")
    network = check(single)
    double.set_weights([weight.numpy().astype("float64") for weight in single.weights])
    x = tf.constant(probes(network))
    value = network(x)
    allowed = tolerances(network, network.values(x), x, {network.output})[network.output].numpy()
    exact = double(tf.cast(x, tf.float64), training=False).numpy()
    assert np.all(np.abs(value.numpy() - exact) <= allowed)
    assert np.all(allowed <= 1e-3 * np.abs(exact).max(axis=1, keepdims=True))


@pytest.mark.parametrize("change", [1e-4, -1e-4])
def test_a_small_difference_in_one_weight_is_seen(check, change):
    model, other = model_of(8, 2), model_of(8, 2)
    network = check(model)
    other.set_weights(model.get_weights())
    validate(network, other, output_of(network, other))
    bias = other.layers[-1].bias
    bias.assign([float(bias[0]) + change, float(bias[1]), float(bias[2])])
    with pytest.raises(FrontendMismatchError, match="rounding explains"):
        validate(network, other, output_of(network, other))


def test_a_wrong_softmax_axis_or_a_missing_softmax_is_seen(check):
    logits = model_of(5, 1)
    network = check(logits)
    probabilities = keras.Model(logits.inputs, L.Softmax()(logits.outputs[0]))
    validate(network, probabilities, output_of(network, probabilities, softmax=True))
    with pytest.raises(FrontendMismatchError):
        validate(network, probabilities, output_of(network, probabilities))
    with pytest.raises(FrontendMismatchError):
        validate(network, logits, output_of(network, logits, softmax=True))


def test_a_fault_is_found_and_named_even_behind_a_layer_of_zeros(seed):
    class Wrong(L.Layer):
        def call(self, x):
            return keras.ops.relu(x)

    register_layer(Wrong, lambda layer, builder, inputs: builder.scale(inputs[0], builder.constant(1.0)))
    head = L.Dense(2, kernel_initializer="zeros")
    with pytest.raises(FrontendMismatchError, match="layer 'culprit'"):
        from_keras(keras.Sequential([keras.Input((3,)), L.Dense(4), Wrong(name="culprit"), head]))


@pytest.mark.parametrize("kind", ["elu", "selu", "celu", "gelu", "mish", "softplus", "sigmoid", "hard_sigmoid"])
@pytest.mark.parametrize("factor", [1e-2, 1e-5])
def test_functions_that_are_computed_through_one_are_accepted_of_small_numbers(check, kind, factor):
    """Keras computes elu as exp(x) - 1: a rounding of one, whatever the size of the result. Biases stay zero."""
    model = keras.Sequential([keras.Input((9,)), L.Rescaling(factor), L.Dense(16, activation=kind), L.Dense(3)])
    check(model, randomized=False)


OVERFLOWING = {
    "two exponentials": [L.Dense(8, activation="exponential"), L.Dense(8, activation="exponential")],
    "a clip far out, which excuses nothing behind it": [L.ReLU(max_value=1e9)],
    "large weights": [
        L.Dense(8, activation="relu", kernel_initializer=keras.initializers.RandomNormal(stddev=size, seed=1))
        for size in (1e20, 1e17)
    ],
}


@pytest.mark.parametrize("layers", OVERFLOWING.values(), ids=OVERFLOWING)
@pytest.mark.parametrize("error", [0.0, 1e-4])
def test_networks_that_overflow_on_large_probes_are_compared_on_smaller_ones(seed, monkeypatch, layers, error):
    monkeypatch.setitem(
        keras_graph.CONVERTERS,
        L.LeakyReLU,
        lambda layer, builder, inputs: builder.activation(inputs[0], "leaky_relu", negative_slope=0.2 + error),
    )
    model = keras.Sequential(
        [keras.Input((4,)), *[type(y).from_config(y.get_config()) for y in layers], L.Dense(6), L.LeakyReLU(0.2)]
    )
    if not error:
        from_keras(model)
    else:
        with pytest.raises(FrontendMismatchError, match="rounding explains"):
            from_keras(model)


def test_what_is_finite_nowhere_is_refused_with_what_to_pass(seed):
    class Root(L.Layer):
        def call(self, x):
            return keras.ops.sqrt(x - 300.0)

    def convert(layer, builder, inputs):
        bends = Bends(lambda x: tf.sqrt(x - 300.0), lambda x: 0.5 * tf.math.rsqrt(x - 300.0), domain=(300.1, np.inf))
        return builder.elementwise(inputs[0], general("root", bends))

    register_layer(Root, convert)
    model = keras.Sequential([keras.Input((2,)), Root(name="root")])
    with pytest.raises(FrontendMismatchError, match=r"'root'.*pass x"):
        from_keras(model)
    from_keras(model, np.full((1, 2), 400.0, "float32"))


def test_one_value_that_only_the_model_has_is_refused(seed):
    """The others agree on every probe."""

    class Same(L.Layer):
        def call(self, x):
            return 1.0 * x

    def convert(layer, builder, inputs):
        far = builder.scale(inputs[0], builder.constant(1.0), builder.constant(np.array([3e38, 0.0, 0.0])))
        return builder.scale(far, builder.constant(np.array([10.0, 1.0, 1.0])))

    register_layer(Same, convert)
    with pytest.raises(FrontendMismatchError, match="1 of its 3 values"):
        from_keras(keras.Sequential([keras.Input((3,)), Same()]))


def test_probes_hold_corners_noise_and_inputs_of_the_users(check):
    network = check(keras.Sequential([keras.Input((4,)), L.Dense(2)]))
    found = probes(network, np.full((5, 4), 7.0))
    assert found.dtype == np.float32
    for corner in (0.0, 1.0, -1.0, 255.0, 7.0):
        assert np.any(np.all(found == corner, axis=1))


@pytest.mark.parametrize("function", [register_layer, preprocessing.with_preprocessing])
def test_examples_in_docstrings(function):
    (example,) = doctest.DocTestFinder().find(function, globs=dict(function.__globals__))
    results = doctest.DocTestRunner().run(example)
    assert results.attempted > 0 and results.failed == 0
