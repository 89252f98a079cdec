"""Networks are simple as they are built: each value once, constants folded, numbers moved once; weights stay live."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers as L

import tfcert
from tfcert.activations import activation
from tfcert.network import Add, Builder, Elementwise, IndexMap, Input, Linear, Network, ReshapeMap, ScaleMap, from_keras
from tfcert.network.densify import densify

DENSE = "DenseMap"


def functional(shape: tuple[int, ...], function: Callable[[Any], Any]) -> keras.Model:
    inputs = keras.Input(shape)
    return keras.Model(inputs, function(inputs))


def kinds(network: Network) -> list[str]:
    """The maps of linear nodes, the classes of others, in order; without the input."""
    return [type(n.map if isinstance(n, Linear) else n).__name__ for n in network.nodes[1:]]


def converted(shape: tuple[int, ...], function: Callable[[Any], Any], check: Any) -> list[str]:
    return kinds(check(functional(shape, function)))


def test_a_value_minus_itself_is_zero_and_not_an_interval(seed, check):
    layer = L.Dense(3, activation="tanh")
    model = functional((4,), lambda x: layer(x) - layer(x))
    assert kinds(check(model)) == ["IndexMap"]
    for method in ("ibp", "forward", "crown-ibp", "crown", "alpha-crown"):
        for norm in ("linf", "l2"):
            found = tfcert.bounds(model, tfcert.LpBall(np.ones((2, 4), "float32"), 5.0, norm), method=method)
            assert not found.lower.any() and not found.upper.any()


def test_a_value_and_itself_is_twice_the_value(check):
    assert converted((3,), lambda x: x + x, check) == ["ScaleMap"]
    assert converted((3,), lambda x: L.Add()([x, x, x]), check) == ["ScaleMap"]
    assert converted((3,), lambda x: 2.0 * x + x, check) == ["ScaleMap"]
    assert converted((3,), lambda x: L.Average()([x, x]), check) == []  # half of twice


def test_a_difference_that_the_model_rounds_stays_a_difference(check):
    """``1.0001 f - f`` loses most of its digits in the model; ``0.0001 f`` would not, and would not be the model."""
    assert converted((3,), lambda x: 1.0001 * x - x, check)[-1] == "Add"


def test_a_layer_called_twice_on_one_tensor_is_one_node(check):
    layer = L.Dense(4, activation="relu")
    conv = L.Conv2D(2, 3, activation="gelu")
    assert converted((3,), lambda x: L.Concatenate()([layer(x), layer(x)]), check) == [
        DENSE,
        "Elementwise",
        "Concatenate",
    ]
    assert converted((4, 4, 1), lambda x: L.Add()([conv(x), conv(x)]), check) == ["ConvMap", "Elementwise", "ScaleMap"]


def test_layers_that_differ_stay_apart(check):
    """Equal options, and even equal numbers, do not make two weights one: they are trained apart."""

    def twins(x):
        return L.Concatenate()([L.Dense(2, kernel_initializer="ones")(x) for _ in range(2)])

    assert converted((3,), twins, check).count(DENSE) == 2
    assert (
        converted((3,), lambda x: L.Add()([L.LeakyReLU(0.1)(x), L.LeakyReLU(0.2)(x)]), check).count("Elementwise") == 2
    )
    assert converted((3,), lambda x: L.Concatenate()([x * 2.0, x * 3.0]), check).count("ScaleMap") == 2


def test_an_activation_is_known_again_by_its_parameters_and_a_weight_by_its_variable():
    builder = Builder(tf.float32)
    x = builder.input((2, 3), "x")
    slopes = [keras.Variable(np.ones(3, "float32")) for _ in range(2)]
    asked: list[tuple[str, dict[str, Any]]] = [("gelu", {}), ("gelu", {"approximate": True}), ("relu", {})]
    asked += [("prelu", {"alpha": builder.constant(slope)}) for slope in slopes]
    made = [builder.activation(x, name, **parameters).index for name, parameters in asked]
    asked[3:] = [("prelu", {"alpha": builder.constant(slope)}) for slope in slopes]
    assert made == [builder.activation(x, name, **parameters).index for name, parameters in asked]
    assert len(set(made)) == len(made)


def test_a_loop_s_variable_is_read_when_the_node_is_made():
    """The functions of a loop share their code and their variable, and yet read other numbers."""
    builder, scales = Builder(tf.float32), [2.0, 3.0]
    x = builder.input((3,), "x")
    made = [builder.scale(x, lambda: tf.constant(factor)).index for factor in scales]  # noqa: B023
    assert made[0] != made[1]


def test_numbers_are_moved_once(check):
    assert converted((2, 3), lambda x: L.Reshape((3, 2))(L.Reshape((6,))(x)), check) == ["ReshapeMap"]
    assert converted((2, 3), lambda x: L.Reshape((2, 3))(L.Reshape((6,))(x)), check) == []
    assert converted((2, 3), lambda x: L.Permute((2, 1))(L.Permute((2, 1))(x)), check) == []
    assert converted((2, 3, 4), lambda x: L.Permute((2, 1, 3))(L.Permute((2, 3, 1))(x)), check) == ["TransposeMap"]
    assert converted((9,), lambda x: x[:, 1:7][:, ::2], check) == ["TakeMap"]


def test_moves_by_an_index_are_one_with_what_reshapes_around_them():
    builder = Builder(tf.float32)
    x = builder.input((2, 3), "x")
    turned = builder.index(builder.reshape(x, (6,)), np.array([5, 4, 3, 2, 1, 0]))
    once, back = builder.reshape(turned, (3, 2)), builder.index(turned, np.array([[5, 4, 3], [2, 1, 0]]))
    assert back.index == x.index
    network, _ = builder.network(once)
    assert kinds(network) == ["IndexMap"]
    assert network(tf.reshape(tf.range(6.0), [1, 2, 3])).numpy().tolist() == [[[5, 4], [3, 2], [1, 0]]]


def test_zeros_moved_by_an_index_stay_zeros():
    builder = Builder(tf.float32)
    x = builder.input((4,), "x")
    twice = builder.index(builder.index(x, np.array([3, -1, 0])), np.array([1, 2, -1, 0]))
    network, _ = builder.network(twice)
    assert len(network.nodes) == 2
    assert network(tf.constant([[5.0, 6.0, 7.0, 8.0]])).numpy().tolist() == [[0, 5, 0, 8]]


def test_factors_that_are_written_in_the_model_are_one(check):
    assert converted((3,), lambda x: keras.ops.negative(-x), check) == []
    assert converted((3,), lambda x: 1.0 * x, check) == []
    assert converted((3,), lambda x: -(x * np.float32([1, 2, 3])), check) == ["ScaleMap"]
    assert converted((3,), lambda x: L.Rescaling(2.0, 1.0)(-x), check) == ["ScaleMap"]
    assert converted((3,), lambda x: -(x + 1.0), check) == ["ScaleMap", "ScaleMap"]  # the bias is rounded first


def test_factors_that_overflow_stay_two():
    builder = Builder(tf.float32)
    x = builder.input((1,), "x")
    for numbers in ((1e30, 1e30), (1e-30, 1e-30)):
        y = x
        for number in numbers:
            y = builder.scale(y, builder.constant(number))
        assert len(builder.network(y)[0].nodes) == 3


def test_a_product_of_one_value_is_its_square(check):
    layer = L.Dense(3)
    assert converted((3,), lambda x: layer(x) * layer(x), check) == [DENSE, "Elementwise"]
    assert converted((3,), lambda x: x * -x, check) == ["Elementwise", "ScaleMap"]
    assert converted((3,), lambda x: x * L.Dense(3)(x), check) == [DENSE, "Product"]


def test_a_product_with_a_constant_is_linear_and_reads_it_live(seed):
    table = L.Dense(3)
    model = functional((3,), lambda x: L.Multiply()([x, table(keras.ops.ones_like(x)), x - x + 2.0]))
    network = from_keras(model)
    assert set(kinds(network)) == {"ScaleMap"}
    table.bias.assign([1.0, 2.0, 3.0])
    x = np.array([[1.0, -2.0, 0.5]], "float32")
    assert np.allclose(network(tf.constant(x)), model(x), atol=1e-5)


def test_what_is_made_of_constants_is_constant_and_its_weights_stay_live(seed):
    layer = L.Dense(2)
    model = functional((3,), lambda x: L.Add()([L.Dense(2)(x), L.ReLU()(layer(x - x))]))
    network = from_keras(model)
    assert kinds(network) == [DENSE, "ScaleMap"]
    x = np.ones((1, 3), "float32")
    for bias in ([0.5, -0.5], [2.0, 3.0]):
        layer.bias.assign(bias)
        assert np.allclose(network(tf.constant(x)), model(x), atol=1e-6)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(network(tf.constant(x)))
    assert tape.gradient(value, layer.bias.value).numpy().tolist() == [1, 1]


def test_a_fixed_tensor_goes_through_every_pass(seed, rng):
    """A constant among what is concatenated, added and bent; the bounds of the same network written densely."""
    builder = Builder(tf.float64)
    x = builder.input((3,), "x")
    offset = keras.Variable(rng.normal(size=2), dtype="float64")
    fixed = builder.fixed(builder.constant(offset), (2,), part="fixed")
    both = builder.concatenate(
        [builder.elementwise(x, activation("relu")), fixed, builder.elementwise(fixed, activation("tanh"))], 0
    )
    network, _ = builder.network(builder.add([both, builder.scale(both, builder.constant(0.5))]))
    values = np.concatenate([np.maximum([1.0, -1, 0], 0), offset.numpy(), np.tanh(offset.numpy())]) * 1.5
    assert np.allclose(network(tf.constant([[1.0, -1, 0]], tf.float64)), values)
    ball = tfcert.LpBall(np.array([[1.0, -1, 0]]), 0.5)
    for method in ("ibp", "forward", "crown-ibp", "crown", "alpha-crown"):
        found, dense = (tfcert.bounds(n, ball, method=method) for n in (network, densify(network)))
        assert np.allclose(found.lower[0, 3:], values[3:]) and np.allclose(found.upper[0, 3:], values[3:])
        assert np.allclose(found.lower, dense.lower) and np.allclose(found.upper, dense.upper)


def test_a_builder_s_nodes_are_in_order_and_named_apart(check):
    network = check(functional((3,), lambda x: L.Maximum()([L.Dense(3)(x), x - x, -x])))
    assert isinstance(network.nodes[0], Input)
    assert all(source < index for index, node in enumerate(network.nodes) for source in node.inputs)
    assert any(isinstance(node, Elementwise) for node in network.nodes)
    assert not any(isinstance(n, Linear) and isinstance(n.map, ReshapeMap) for n in network.nodes)
    assert {type(n.map) for n in network.nodes if isinstance(n, Linear)} >= {ScaleMap}
    assert not any(isinstance(n, Linear) and isinstance(n.map, IndexMap) for n in network.nodes)
    assert sum(isinstance(n, Add) for n in network.nodes) >= 1
