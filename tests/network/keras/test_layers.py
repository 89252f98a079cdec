"""Every supported layer computes what Keras computes, over its options."""

import inspect

import keras
import numpy as np
import pytest
from keras import layers as L

from tfcert.network import ConvMap, DenseMap, Elementwise, Linear, MaxPool, from_keras
from tfcert.network.keras import images as keras_images


def sequential(shape, *layers):
    return keras.Sequential([keras.Input(shape), *layers])


def kinds(network):
    return [type(node).__name__ for node in network.nodes[1:]]


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4)])
@pytest.mark.parametrize("use_bias", [True, False])
def test_dense_acts_on_the_last_axis(check, shape, use_bias):
    network = check(sequential(shape, L.Dense(5, use_bias=use_bias)))
    assert kinds(network) == ["Linear"]
    assert (network.nodes[1].bias is not None) == use_bias


@pytest.mark.parametrize(
    ("shape", "equation", "output", "bias"),
    [
        ((4,), "ab,bc->ac", 3, "c"),
        ((5, 4), "abc,cd->abd", (None, 3), None),
        ((5, 4), "...x,xy->...y", 3, "y"),
    ],
)
def test_einsum_dense_on_the_last_axis_is_one_dense_map(check, shape, equation, output, bias):
    network = check(sequential(shape, L.EinsumDense(equation, output, bias_axes=bias, activation="relu")))
    assert isinstance(network.nodes[1].map, DenseMap)


@pytest.mark.parametrize(
    ("shape", "equation", "output", "bias"),
    [
        ((5, 4), "abc,cde->abde", (None, 2, 3), "de"),
        ((5, 2, 4), "abcd,cde->abe", (None, 3), "e"),
        ((5, 4), "abc,bd->adc", (3, 4), "d"),
        ((5, 4), "...bc,bcd->...d", 3, "d"),
    ],
)
def test_einsum_dense_of_any_axes_is_one_linear_map(check, shape, equation, output, bias):
    network = check(sequential(shape, L.EinsumDense(equation, output, bias_axes=bias)))
    assert kinds(network) == ["Linear"]


CONVOLUTIONS = [
    {},
    {"padding": "same"},
    {"strides": 2},
    {"strides": 3, "padding": "same"},
    {"dilation_rate": 2},
    {"dilation_rate": 3, "padding": "same"},
    {"use_bias": False},
]


@pytest.mark.parametrize("options", CONVOLUTIONS)
@pytest.mark.parametrize("size", [2, 3])
def test_conv2d(check, options, size):
    network = check(sequential((9, 8, 2), L.Conv2D(3, size, **options)))
    assert kinds(network) == ["Linear"]


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": (1, 3), "strides": (2, 1)},
        {"kernel_size": (4, 2), "strides": (3, 2), "padding": "same"},
        {"kernel_size": (2, 3), "dilation_rate": (1, 2), "padding": "same"},
        {"kernel_size": 3, "strides": 4},
    ],
)
def test_conv2d_with_unequal_sides(check, options):
    check(sequential((7, 6, 3), L.Conv2D(4, **options)))


@pytest.mark.parametrize(("groups", "options"), [(2, {"padding": "same"}), (4, {"strides": 2})])
def test_grouped_conv2d(check, groups, options):
    network = check(sequential((5, 5, 4), L.Conv2D(8, 3, groups=groups, **options)))
    assert network.nodes[1].map.groups == groups


@pytest.mark.parametrize("options", [*CONVOLUTIONS, {"padding": "causal"}, {"padding": "causal", "dilation_rate": 2}])
def test_conv1d_is_a_convolution_of_an_image_of_one_row(check, options):
    network = check(sequential((9, 2), L.Conv1D(3, 3, activation="relu", **options)))
    assert kinds(network) == ["Linear", "Linear", "Linear", "Elementwise"]
    assert isinstance(network.nodes[2].map, ConvMap)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": "same", "depth_multiplier": 2},
        {"strides": 2, "padding": "same"},
        {"dilation_rate": 2, "padding": "same"},
        {"strides": 2, "dilation_rate": 2, "padding": "same"},
    ],
)
@pytest.mark.parametrize("layer", [L.DepthwiseConv2D, L.SeparableConv2D])
def test_depthwise_and_separable_conv2d(check, layer, options):
    first = {} if layer is L.DepthwiseConv2D else {"filters": 5}
    check(sequential((7, 8, 3), layer(kernel_size=3, activation="relu", **first, **options)))


@pytest.mark.parametrize("layer", [L.DepthwiseConv1D, L.SeparableConv1D])
def test_depthwise_and_separable_conv1d(check, layer):
    first = {} if layer is L.DepthwiseConv1D else {"filters": 5}
    check(sequential((8, 3), layer(kernel_size=3, strides=2, padding="same", **first)))


POOLINGS = [
    {"pool_size": 2},
    {"pool_size": 3, "padding": "same"},
    {"pool_size": 3, "strides": 2, "padding": "same"},
    {"pool_size": (2, 3), "strides": (3, 1), "padding": "same"},
    {"pool_size": 3, "strides": 2},
    {"pool_size": 2, "strides": 3, "padding": "same"},
]


@pytest.mark.parametrize("options", POOLINGS)
@pytest.mark.parametrize("layer", [L.AveragePooling2D, L.MaxPooling2D])
def test_pooling(check, layer, options):
    network = check(sequential((8, 7, 2), layer(**options)))
    assert isinstance(network.nodes[-1], Linear if layer is L.AveragePooling2D else MaxPool)


@pytest.mark.parametrize("layer", [L.AveragePooling1D, L.MaxPooling1D])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_pooling_of_sequences(check, layer, padding):
    check(sequential((7, 2), layer(3, strides=2, padding=padding)))


@pytest.mark.parametrize("keepdims", [True, False])
def test_global_average_pooling(check, keepdims):
    check(sequential((5, 4, 3), L.GlobalAveragePooling2D(keepdims=keepdims)))
    check(sequential((5, 3), L.GlobalAveragePooling1D(keepdims=keepdims)))


@pytest.mark.parametrize("keepdims", [True, False])
def test_global_max_pooling(check, keepdims):
    assert "MaxPool" in kinds(check(sequential((5, 4, 3), L.GlobalMaxPooling2D(keepdims=keepdims))))
    check(sequential((5, 3), L.GlobalMaxPooling1D(keepdims=keepdims)))


@pytest.mark.parametrize("layer", keras_images.AUGMENTATION, ids=lambda layer: layer.__name__)
def test_augmentation_is_the_identity_at_inference(check, layer):
    given = inspect.signature(layer).parameters
    options = {name: 0.2 for name in ("factor", "height_factor", "width_factor") if name in given}
    options |= {"factor": 4} if layer is L.RandomPosterization else {}
    options |= {"max_number": 3} if "max_number" in given else {}
    assert kinds(check(sequential((5, 4, 3), layer(**options), L.Dense(2)))) == ["Linear"]


@pytest.mark.parametrize("size", [(3, 4), (4, 2), (5, 4)])
def test_center_crop(check, size):
    check(sequential((5, 4, 2), L.CenterCrop(*size)))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos3"])
@pytest.mark.parametrize("size", [(3, 7), (10, 4), (5, 3)])
def test_resizing_is_linear_in_rows_and_in_columns(check, interpolation, size):
    check(sequential((5, 4, 2), L.Resizing(*size, interpolation=interpolation)))
    check(sequential((5, 4, 2), L.UpSampling2D((2, 3), interpolation=interpolation)))


def test_resizing_with_antialiasing(check):
    check(sequential((9, 8, 2), L.Resizing(4, 3, antialias=True)))


@pytest.mark.parametrize("shape", [(4,), (3, 4), (3, 2, 4)])
@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("options", [{}, {"center": False}, {"scale": False, "epsilon": 0.1}])
def test_batch_normalization(check, shape, axis, options):
    network = check(sequential(shape, L.BatchNormalization(axis=axis, **options)))
    assert kinds(network) == ["Linear"]


def test_flatten_reshape_and_permute(check):
    check(sequential((3, 4, 2), L.Flatten()))
    check(sequential((3, 4, 2), L.Flatten(data_format="channels_first")))
    check(sequential((3, 4, 2), L.Reshape((2, -1)), L.Permute((2, 1)), L.Reshape((24,))))
    check(sequential((3, 4, 2), L.Permute((3, 1, 2)), L.Dense(3)))


def test_shape_layers_that_do_nothing_leave_no_node(check):
    network = check(
        sequential(
            (4,), L.Flatten(), L.Reshape((4,)), L.Activation("linear"), L.Permute((1,)), L.Dense(2), L.Dropout(0.5)
        )
    )
    assert kinds(network) == ["Linear"]


def test_permuting_an_axis_of_length_one_is_a_reshape(check):
    network = check(sequential((1, 5), L.Permute((2, 1)), L.Dense(2)))
    assert type(network.nodes[1].map).__name__ == "ReshapeMap"


def test_padding_cropping_and_upsampling(check):
    check(sequential((4, 5, 2), L.ZeroPadding2D(((1, 2), (0, 3)))))
    check(sequential((5, 6, 2), L.Cropping2D(((1, 2), (0, 3)))))
    check(sequential((3, 2, 2), L.UpSampling2D((2, 3))))
    assert len(check(sequential((3, 2, 2), L.ZeroPadding2D(0), L.Cropping2D(0))).nodes) == 1


def test_normalization_given_or_adapted(check, rng):
    check(sequential((3,), L.Normalization(mean=[1.0, 2.0, 3.0], variance=[4.0, 0.0, 0.5])))
    check(sequential((2, 3), L.Normalization(mean=1.0, variance=4.0, invert=True)))
    layer = L.Normalization(axis=1)
    layer.adapt(rng.normal(3.0, 2.0, size=(50, 4, 3)).astype("float32"))
    check(sequential((4, 3), layer), randomized=False)


def test_rescaling(check):
    check(sequential((2, 3), L.Rescaling(1 / 255, offset=-0.5)))
    check(sequential((2, 3), L.Rescaling([1.0, 2.0, 3.0], offset=[0.0, 1.0, 2.0])))


def test_noise_layers_are_the_identity(check):
    layers = [L.Dropout(0.5), L.GaussianNoise(1.0), L.GaussianDropout(0.5), L.AlphaDropout(0.5)]
    assert len(check(sequential((4, 4, 2), *layers, L.SpatialDropout2D(0.5))).nodes) == 1
    assert len(check(sequential((4, 2), L.SpatialDropout1D(0.5))).nodes) == 1


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (L.ReLU(), "relu"),
        (L.ReLU(negative_slope=0.2), "leaky_relu"),
        (L.LeakyReLU(), "leaky_relu"),
        (L.LeakyReLU(0.05), "leaky_relu"),
        (L.Activation("relu"), "relu"),
        (L.Activation("leaky_relu"), "leaky_relu"),
        (L.Activation(keras.ops.relu), "relu"),
        (L.Activation(L.LeakyReLU(0.3)), "leaky_relu"),
    ],
)
def test_activation_layers(check, layer, name):
    network = check(sequential((5,), L.Dense(4), layer, L.Dense(2)))
    assert kinds(network) == ["Linear", "Elementwise", "Linear"]
    assert network.nodes[2].activation.name == name


@pytest.mark.parametrize("activation", ["relu", keras.activations.leaky_relu, L.LeakyReLU(0.4), L.ReLU()])
def test_inline_activations_follow_their_layer(check, activation):
    network = check(sequential((5, 5, 1), L.Conv2D(2, 3, activation=activation)))
    assert kinds(network) == ["Linear", "Elementwise"]
    assert network.nodes[1].name in network.nodes[2].name


def test_a_linear_activation_leaves_no_node(check):
    assert kinds(check(sequential((5,), L.Dense(4, activation="linear")))) == ["Linear"]


@pytest.mark.parametrize(
    "head",
    [
        [L.Dense(3), L.Softmax()],
        [L.Dense(3), L.Activation("softmax")],
        [L.Dense(3, activation="softmax")],
        [L.Dense(3), L.Softmax(), L.Dropout(0.5)],
    ],
)
def test_a_softmax_head_is_peeled_off_and_reported(seed, rng, head):
    model = sequential((4,), L.Dense(5, activation="relu"), *head)
    network = from_keras(model)
    assert len(network.notes) == 1
    assert "softmax" in network.notes[0]
    x = rng.normal(size=(4, 4)).astype("float32")
    np.testing.assert_allclose(keras.ops.softmax(network(x)), model(x), atol=1e-6)


def test_a_float64_model_is_a_float64_network(check):
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2), dtype="float64"),
            L.Rescaling(1 / 3, dtype="float64"),
            L.Conv2D(3, 3, padding="same", activation="relu", dtype="float64"),
            L.AveragePooling2D(2, padding="same", dtype="float64"),
            L.BatchNormalization(dtype="float64"),
            L.Permute((3, 1, 2), dtype="float64"),
            L.Flatten(dtype="float64"),
            L.Dense(2, dtype="float64"),
        ]
    )
    model = keras.Model(model.inputs, model.outputs)
    network = check(model)
    assert network.dtype.name == "float64"
    assert network(np.zeros((1, 6, 6, 2))).dtype.name == "float64"


def test_nodes_are_named_after_their_layers(check):
    model = sequential((4,), L.Dense(3, name="first", activation="relu"), L.Dense(2, name="second"))
    network = check(model)
    assert [node.name for node in network.nodes[1:]] == ["first", "first/relu", "second"]
    assert [isinstance(node, Elementwise) for node in network.nodes] == [False, False, True, False]
