"""Graphs: branches, shared layers, nested models, ``keras.ops``; live weights; what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L

from tfcert.network import (
    Add,
    Concatenate,
    FrontendMismatchError,
    NonFiniteWeightError,
    UnsupportedLayerError,
    from_keras,
    register_layer,
    with_preprocessing,
)
from tfcert.network.keras import graph


def functional(shape, function, **options):
    inputs = keras.Input(shape, **options)
    return keras.Model(inputs, function(inputs))


def test_a_residual_block_splits_and_joins(check):
    def block(x):
        y = L.Conv2D(3, 3, padding="same", activation="relu")(x)
        y = L.BatchNormalization()(L.Conv2D(3, 3, padding="same")(y))
        x = L.ReLU()(L.Add()([x, y]))
        return L.Dense(2)(L.GlobalAveragePooling2D()(x))

    network = check(functional((5, 5, 3), block))
    (join,) = [node for node in network.nodes if isinstance(node, Add)]
    assert join.inputs[0] == 0


def test_merging_layers(check):
    def merge(x):
        a, b, c = L.Dense(3)(x), L.Dense(3, activation="relu")(x), L.Dense(1)(x)
        total = L.Add()([c, a, b])
        return L.Concatenate()([L.Subtract()([a, b]), L.Average()([c, a, b]), total])

    check(functional((4,), merge))


@pytest.mark.parametrize("axis", [1, 2, 3, -1, -2])
def test_concatenation_along_any_axis(check, axis):
    network = check(functional((2, 3, 4), lambda x: L.Concatenate(axis=axis)([x, L.ReLU()(x), x])))
    assert network.nodes[-1].axis == (axis - 1 if axis > 0 else 3 + axis)
    assert isinstance(network.nodes[-1], Concatenate)


class Halves(L.Layer):
    """Two outputs, the first and the second half of the features, of the factor that it is called with."""

    def call(self, x, factor=1.0):
        return factor * x[:, :2], factor * x[:, 2:]


@pytest.fixture
def halves(monkeypatch):
    monkeypatch.setattr(graph, "CONVERTERS", dict(graph.CONVERTERS))

    def add(convert, **how):
        monkeypatch.setattr(graph, "TAKES_NAMES", {Halves} if how.get("named") else set())
        graph.CONVERTERS[Halves] = convert

    return add


def test_a_layer_may_have_several_outputs(check, halves):
    def convert(layer, builder, inputs):
        return [builder.index(inputs[0], np.arange(2), part="a"), builder.index(inputs[0], np.arange(2, 4), part="b")]

    halves(convert)
    network = check(functional((4,), lambda x: L.Subtract()(Halves()(x))))
    np.testing.assert_array_equal(network(tf.constant([[1.0, 2.0, 5.0, 7.0]])), [[-4.0, -5.0]])
    halves(lambda layer, builder, inputs: convert(layer, builder, inputs)[0])
    with pytest.raises(UnsupportedLayerError, match="has 2 outputs, of which its converter knows 1"):
        from_keras(functional((4,), lambda x: L.Subtract()(Halves()(x))))


def test_a_converter_may_ask_for_the_arguments_by_name(check, halves):
    def convert(layer, builder, given):
        assert set(given) == {"x", "factor"}
        x = builder.scale(given["x"], builder.constant(given["factor"]), part="scaled")
        return [builder.index(x, np.arange(2), part="a"), builder.index(x, np.arange(2, 4), part="b")]

    halves(convert, named=True)
    check(functional((4,), lambda x: L.Subtract()(Halves()(factor=3.0, x=x))))


def test_merging_layers_broadcast(check):
    check(functional((3, 4), lambda x: L.Add()([L.Dense(1)(x), x, L.Dense(4)(L.Flatten()(x))])))


def test_multiplication_by_a_constant(check, rng):
    factor = rng.normal(size=(1, 3, 4)).astype("float32")
    check(functional((3, 4), lambda x: x * factor))
    check(functional((3, 4), lambda x: L.Multiply()([x, factor])))
    check(functional((3, 1), lambda x: x * factor[0]))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x + L.Dense(3, dtype=x.dtype)(x),
        lambda x: x - keras.ops.relu(x),
        lambda x: 1.0 - x,
        lambda x: x - 1.0,
        lambda x: 2 * x + np.ones(3, "float32"),
        lambda x: -x / 3.0,
        lambda x: keras.ops.divide(x, np.array([1.0, 2.0, 4.0], x.dtype)),
        lambda x: keras.ops.reshape(x, (-1, 3, 1)),
        lambda x: keras.ops.transpose(L.Reshape((1, 3))(x), (0, 2, 1)),
        lambda x: keras.ops.concatenate([x, x], axis=-1),
        lambda x: keras.activations.relu(x, negative_slope=0.3),
        lambda x: keras.ops.leaky_relu(x, 0.1),
        lambda x: keras.activations.leaky_relu(x),
        lambda x: x + x,
        lambda x: keras.ops.clip(x, -0.3, 0.7),
        lambda x: keras.ops.minimum(keras.ops.maximum(x, -0.3), 0.7),
        lambda x: keras.ops.minimum(0.1, x),
        lambda x: keras.ops.maximum(x, np.array([0.5, -0.5, 0.1], x.dtype)),
        lambda x: keras.ops.minimum(np.array([0.5, -0.5, 0.1], x.dtype), x),
        lambda x: keras.ops.maximum(x, L.Dense(3, dtype=x.dtype)(x)),
        lambda x: L.Minimum(dtype=x.dtype)([x, L.Dense(3, dtype=x.dtype)(x), -x]),
        lambda x: L.Maximum(dtype=x.dtype)([L.Dense(3, dtype=x.dtype)(x), x, -x]),
        lambda x: keras.ops.matmul(x, np.arange(6.0).reshape(3, 2).astype(x.dtype)),
        lambda x: keras.ops.matmul(np.arange(6.0).reshape(2, 3).astype(x.dtype), keras.ops.reshape(x, (-1, 3, 1))),
        lambda x: keras.ops.repeat(keras.ops.reshape(x, (-1, 3, 1)), 2, axis=1),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_operations_of_keras_ops(check, function, dtype):
    if dtype == "float64":
        keras.config.set_floatx("float64")
    try:
        inputs = keras.Input((3,), dtype=dtype)
        outputs = function(inputs)
        if outputs.dtype == dtype:
            check(keras.Model(inputs, outputs))
    finally:
        keras.config.set_floatx("float32")


def test_a_layer_called_twice_shares_its_weights(check):
    shared = L.Dense(4, activation="relu", name="twice")
    network = check(functional((4,), lambda x: shared(shared(x))))
    assert [node.name for node in network.nodes[1:]] == ["twice", "twice/relu", "twice_1", "twice/relu_1"]


def test_nested_models(check):
    inner = keras.Sequential([keras.Input((3,)), L.Dense(4, activation="relu", name="a")], name="inner")
    middle = functional((3,), lambda x: L.Concatenate()([inner(x), x]))
    outer = keras.Sequential([keras.Input((2,)), L.Dense(3), middle, L.Dense(2)])
    network = check(outer)
    assert any(node.name.endswith("/inner/a/relu") for node in network.nodes)


def test_a_nested_model_may_end_in_the_softmax_head(seed):
    inner = keras.Sequential([keras.Input((3,)), L.Dense(4, activation="softmax")])
    assert len(from_keras(functional((3,), inner)).notes) == 1


def test_a_submodel_between_intermediate_tensors(check):
    inputs = keras.Input((4,))
    middle = L.Dense(3)(inputs)
    check(keras.Model(middle, L.Dense(2)(L.ReLU()(middle))))


def test_nodes_the_output_does_not_need_are_dropped(check):
    inputs = keras.Input((4,))
    first = L.Dense(3)(inputs)
    L.Dense(7)(first)
    assert len(check(keras.Model(inputs, first)).nodes) == 2


def test_unknown_dimensions_are_fixed_by_x(check, rng):
    def function(x):
        return L.GlobalAveragePooling2D()(L.Conv2D(2, 3, padding="same", activation="relu")(x))

    model = functional((None, None, 1), function)
    with pytest.raises(ValueError, match="pass x"):
        from_keras(model)
    assert check(model, rng.normal(size=(2, 5, 6, 1)).astype("float32")).input_shape == (5, 6, 1)
    with pytest.raises(ValueError, match="takes"):
        from_keras(model, np.zeros((2, 5, 6, 3)))


def test_an_unbuilt_sequential_takes_its_shape_from_x(check, rng):
    with pytest.raises(ValueError, match="pass x"):
        from_keras(keras.Sequential([L.Dense(2)]))
    assert check(keras.Sequential([L.Dense(2)]), np.zeros((1, 3), "float32")).input_shape == (3,)


def test_trained_weights_are_seen_at_once(check, rng):
    model = keras.Sequential([keras.Input((4, 4, 1)), L.Conv2D(2, 2), L.BatchNormalization(), L.Flatten(), L.Dense(2)])
    network = check(model)
    x = rng.normal(size=(2, 4, 4, 1)).astype("float32")
    before = network(x).numpy()
    for weight in model.weights:
        weight.assign(weight * 2.0)
    np.testing.assert_allclose(network(x), model(x), rtol=1e-5)
    assert not np.allclose(before, network(x))


def test_gradients_reach_every_weight_in_graph_mode(check, rng):
    def function(x):
        x = L.SeparableConv2D(3, 2, activation="relu")(L.Conv2D(2, 3, groups=2, padding="same")(x))
        x = L.DepthwiseConv2D(2)(L.BatchNormalization()(x))
        return L.Dense(2)(L.Conv1D(2, 2)(L.Reshape((-1, 3))(x)))

    model = functional((5, 5, 2), function)
    network = check(model)
    x = tf.constant(rng.normal(size=(3, 5, 5, 2)), tf.float32)
    variables = [weight.value for weight in model.trainable_weights]

    @tf.function
    def gradients(call):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(call(x)))
        return tape.gradient(loss, variables)

    def by_keras(x):
        return model(x, training=False)

    for ours, keras_own in zip(gradients(network), gradients(by_keras), strict=True):
        np.testing.assert_allclose(ours, keras_own, rtol=1e-3, atol=1e-3 * float(np.abs(keras_own).max()))


class Doubling(L.Dense):
    def call(self, x):
        return 2 * super().call(x)


class Written(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = L.Dense(2)

    def call(self, x):
        return self.dense(x)


def image(function):
    return functional((6, 6, 2), function)


REFUSED = [
    (lambda: functional((3,), Doubling(2)), r"'doubling.*' \(Doubling\) is not supported.*register_layer"),
    (lambda: functional((3,), L.Lambda(lambda x: x)), r"Lambda.*keras.ops"),
    (Written, r"Written.*functional"),
    (lambda: functional((3,), lambda x: L.ReLU(max_value=1.0, threshold=2.0)(x)), r"threshold < max_value"),
    (lambda: functional((3,), L.Dense(2, activation=lambda x: x)), r"Dense.*'<lambda>'.*Keras's own"),
    (lambda: functional((3,), L.Dense(2, activation="hard_shrink")), r"applies 'hard_shrink'.*nearest.*soft_shrink"),
    (lambda: functional((3,), lambda x: L.Dropout(0.5)(x, training=True)), r"training=True"),
    (lambda: functional((3,), lambda x: L.BatchNormalization()(x, training=True)), r"training=True"),
    (lambda: functional((3,), L.Dense(1, activation="softmax")), r"single number"),
    (lambda: functional((3, 3), lambda x: L.Multiply()([x, np.ones((1, 3), "float32")])), r"another rank"),
    (lambda: functional((3,), lambda x: x * np.ones((2, 3), "float32")), r"constant of shape \(2, 3\)"),
    (lambda: functional((3,), lambda x: keras.ops.tan(x)), r"\(Tan\) is not supported.*register_activation"),
    (lambda: functional((3,), lambda x: x + L.Reshape((1, 3))(x)), r"lines up a batch"),
    (lambda: functional((3,), lambda x: x + L.Dense(1)(x)), r"takes for a bias at some batch sizes"),
    (lambda: functional((3, 3), lambda x: L.Average()([x, L.Dense(1)(x)])), r"put the smaller operand first"),
    (lambda: image(lambda x: x + L.Conv2D(1, (6, 1))(x)), r"takes for a bias at some batch sizes"),
    (lambda: functional((3,), lambda x: keras.ops.reshape(x, (-1, 1))), r"cannot reshape"),
    (lambda: functional((3,), lambda x: keras.ops.concatenate([x, x], axis=0)), r"along the batch"),
    (lambda: image(L.RandomCrop(3, 3)), r"in training only.*CenterCrop"),
    (lambda: image(L.AutoContrast()), r"own brightness.*not linear"),
    (lambda: functional((3,), lambda x: keras.ops.matmul(x, x)), r"multiplies the batch with itself"),
    (lambda: functional((2, 3, 3), lambda x: keras.ops.matmul(x, x[:, 0])), r"lines up a batch with another axis"),
    (lambda: functional((3, 3), lambda x: keras.ops.einsum("bij,cjk->bik", x, x)), r"'bij,cjk->bik'.*batch"),
    (lambda: functional((3, 3), lambda x: keras.ops.einsum("bij,bjk->ik", x, x)), r"'bij,bjk->ik'.*batch"),
    (lambda: functional((3, 2), lambda x: keras.ops.matmul(np.ones((4, 3, 3), "float32"), x)), r"vector or matrix"),
    (lambda: functional((3, 2), lambda x: keras.ops.repeat(x, 2, axis=0)), r"changes the batch"),
    (lambda: functional((3,), L.Dense(2, dtype="float64")), r"float64.*float32"),
    (lambda: functional((3,), L.Dense(2, dtype="mixed_float16")), r"float16"),
    (lambda: functional((3,), L.Dense(2, dtype="bfloat16")), r"bfloat16"),
    (lambda: functional((3,), L.Rescaling(1 / 255), dtype="uint8"), r"uint8 inputs.*float32"),
    (lambda: functional((3,), lambda x: [x, L.Dense(2)(x)]), r"has 2 outputs .*choose one.*with_output\(model"),
]


@pytest.mark.parametrize(("build", "message"), REFUSED)
def test_what_is_not_known_is_refused_by_name(build, message):
    with pytest.raises(UnsupportedLayerError, match=message):
        from_keras(build())


def test_a_sequential_of_another_type_than_its_layers_casts_and_is_refused():
    model = keras.Sequential([keras.Input((3,), dtype="float64"), L.Dense(2, dtype="float64")])
    with pytest.raises(UnsupportedLayerError, match=r"Sequential.*float32"):
        from_keras(model)


def test_lora_and_quantized_kernels_are_refused():
    model = keras.Sequential([keras.Input((8,)), L.Dense(4)])
    model.layers[0].enable_lora(2)
    with pytest.raises(UnsupportedLayerError, match="LoRA"):
        from_keras(model)
    model = keras.Sequential([keras.Input((8,)), L.Dense(4)])
    model.quantize("int8")
    with pytest.raises(UnsupportedLayerError, match="quantized"):
        from_keras(model)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused_by_layer(value):
    model = keras.Sequential([keras.Input((2,)), L.Dense(3), L.Dense(2, name="broken")])
    model.layers[1].bias.assign([value, 0.0])
    with pytest.raises(NonFiniteWeightError, match="'broken'"):
        from_keras(model)


def test_a_negative_variance_is_refused():
    model = keras.Sequential([keras.Input((2,)), L.BatchNormalization(name="statistics")])
    model.layers[0].moving_variance.assign([1.0, -1.0])
    with pytest.raises(NonFiniteWeightError, match="'statistics'"):
        from_keras(model)


@pytest.mark.parametrize("error", [1e-4, -1e-4])
def test_a_converter_that_is_slightly_wrong_is_caught(monkeypatch, error):
    class Scaled(L.Layer):
        def call(self, x):
            return 2.0 * x

    def wrong(layer, builder, inputs):
        return builder.scale(inputs[0], builder.constant(2.0 * (1 + error)))

    register_layer(Scaled, wrong)
    with pytest.raises(FrontendMismatchError, match="rounding explains"):
        from_keras(keras.Sequential([keras.Input((3,)), L.Dense(4), L.ReLU(), Scaled()]))


def test_an_option_that_a_converter_forgot_is_caught(monkeypatch):
    honest = graph.CONVERTERS[L.Conv2D]

    def forgets_padding(layer, builder, inputs):
        clone = L.Conv2D.from_config(layer.get_config() | {"padding": "valid"})
        clone.build((None, *inputs[0].shape))
        clone.set_weights(layer.get_weights())
        return honest(clone, builder, [builder.broadcast(inputs[0], inputs[0].shape)])

    monkeypatch.setitem(graph.CONVERTERS, L.Conv2D, forgets_padding)
    from_keras(image(lambda x: L.Conv2D(2, 3)(x)))
    with pytest.raises(UnsupportedLayerError, match="in Keras"):
        from_keras(image(lambda x: L.Conv2D(2, 3, padding="same")(x)))


def test_a_layer_of_the_users_own(check):
    class Shifted(L.Layer):
        def build(self, shape):
            self.shift = self.add_weight(shape=(shape[-1],), initializer="ones")

        def call(self, x):
            return keras.ops.relu(x + self.shift)

    model = keras.Sequential([keras.Input((3,)), L.Dense(4), Shifted(name="mine"), L.Dense(2)])
    with pytest.raises(UnsupportedLayerError, match="register_layer"):
        from_keras(model)

    def convert(layer, builder, inputs):
        y = builder.scale(inputs[0], builder.constant(1.0), builder.constant(layer.shift))
        return builder.activation(y, "relu", part="relu")

    register_layer(Shifted, convert)
    network = check(model)
    assert [node.name for node in network.nodes[2:4]] == ["mine", "mine/relu"]
    model.layers[1].shift.assign([5.0, 5.0, 5.0, 5.0])
    x = np.ones((1, 3), "float32")
    np.testing.assert_allclose(network(x), model(x), rtol=1e-5)
    with pytest.raises(ValueError, match="already"):
        register_layer(Shifted, convert)


def test_preprocessing_moves_the_model_to_the_users_space(check, rng):
    inner = keras.Sequential([keras.Input((4, 4, 3)), L.Conv2D(2, 3, activation="relu"), L.Flatten(), L.Dense(2)])
    mean, std = np.array([0.4, 0.5, 0.6]), np.array([0.2, 0.25, 0.3])
    raw = with_preprocessing(inner, scale=1 / 255, mean=mean, std=std)
    check(raw)
    x = rng.uniform(0, 255, size=(3, 4, 4, 3)).astype("float32")
    expected = inner(((x / 255 - mean) / std).astype("float32"))
    np.testing.assert_allclose(from_keras(raw)(x), expected, rtol=1e-4, atol=1e-4)
    inner.layers[-1].bias.assign([100.0, 0.0])
    assert float(raw(x)[0, 0]) > 50.0


@pytest.mark.parametrize("numbers", [{"std": 0.0}, {"scale": 0.0}, {"mean": np.nan}, {"std": [1.0, -1.0]}])
def test_preprocessing_refuses_what_is_no_change_of_units(numbers):
    with pytest.raises(ValueError, match="must"):
        with_preprocessing(keras.Sequential([keras.Input((2,)), L.Dense(1)]), **numbers)


def test_keras_still_takes_a_column_of_samples_for_a_bias(rng):
    """Why such sums are refused; when this fails, Keras was mended and the refusal can go."""
    a, column = rng.normal(size=(3, 3)).astype("float32"), rng.normal(size=(3, 1)).astype("float32")
    assert not np.allclose(keras.ops.add(a, column), a + column)
