"""Kernels, windows and borders in one, two and three dimensions compute what Keras computes, over their options."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from gradients import check_gradients
from keras import layers as L

from tfcert.network import Linear, MaxPool, TransposeMap, UnsupportedLayerError, from_keras

SEQUENCE, IMAGE, VOLUME = (7, 2), (6, 5, 2), (5, 4, 3, 2)


def sequential(shape, *layers):
    return keras.Sequential([keras.Input(shape), *layers])


TRANSPOSED = [
    (SEQUENCE, L.Conv1DTranspose, {"kernel_size": 3}),
    (SEQUENCE, L.Conv1DTranspose, {"kernel_size": 2, "strides": 3, "padding": "same", "activation": "relu"}),
    (SEQUENCE, L.Conv1DTranspose, {"kernel_size": 3, "dilation_rate": 2}),
    (IMAGE, L.Conv2DTranspose, {"kernel_size": 3, "strides": 2, "padding": "same"}),
    (IMAGE, L.Conv2DTranspose, {"kernel_size": (2, 3), "strides": (3, 2), "output_padding": (1, 0)}),
    (IMAGE, L.Conv2DTranspose, {"kernel_size": 3, "strides": 2, "padding": "same", "output_padding": 1}),
    (IMAGE, L.Conv2DTranspose, {"kernel_size": 1, "strides": 2, "use_bias": False}),
    (IMAGE, L.Conv2DTranspose, {"kernel_size": 3, "dilation_rate": (2, 1), "padding": "same"}),
    (VOLUME, L.Conv3DTranspose, {"kernel_size": 2, "strides": (2, 1, 3)}),
    (VOLUME, L.Conv3DTranspose, {"kernel_size": 3, "strides": 2, "padding": "same"}),
]


@pytest.mark.parametrize(("shape", "layer", "options"), TRANSPOSED)
def test_transposed_convolutions(check, shape, layer, options):
    network = check(sequential(shape, layer(filters=3, **options)))
    assert sum(isinstance(node, Linear) and bool(node.map.sources()) for node in network.nodes) == 1


VOLUMES = [
    {"kernel_size": 2},
    {"kernel_size": (1, 3, 2), "strides": (2, 1, 2), "padding": "same"},
    {"kernel_size": 2, "dilation_rate": (2, 1, 2), "activation": "relu"},
    {"kernel_size": 2, "groups": 2, "use_bias": False},
]


@pytest.mark.parametrize("options", VOLUMES)
def test_conv3d(check, options):
    check(sequential(VOLUME, L.Conv3D(4, **options)))


FIRST = [
    (SEQUENCE, L.Conv1D, {"filters": 3, "kernel_size": 2, "strides": 2, "padding": "same"}),
    (SEQUENCE, L.Conv1DTranspose, {"filters": 3, "kernel_size": 2, "strides": 2}),
    (SEQUENCE, L.DepthwiseConv1D, {"kernel_size": 2, "depth_multiplier": 2}),
    (SEQUENCE, L.SeparableConv1D, {"filters": 3, "kernel_size": 2}),
    (SEQUENCE, L.MaxPooling1D, {"pool_size": 2, "padding": "same"}),
    (SEQUENCE, L.AveragePooling1D, {"pool_size": 2, "padding": "same"}),
    (SEQUENCE, L.GlobalMaxPooling1D, {}),
    (SEQUENCE, L.GlobalAveragePooling1D, {"keepdims": True}),
    (SEQUENCE, L.AdaptiveAveragePooling1D, {"output_size": 3}),
    (SEQUENCE, L.ZeroPadding1D, {"padding": (1, 2)}),
    (IMAGE, L.Conv2D, {"filters": 4, "kernel_size": (2, 3), "groups": 2, "activation": "relu"}),
    (IMAGE, L.Conv2DTranspose, {"filters": 3, "kernel_size": 3, "strides": (1, 2)}),
    (IMAGE, L.DepthwiseConv2D, {"kernel_size": 2, "strides": 2, "padding": "same"}),
    (IMAGE, L.SeparableConv2D, {"filters": 3, "kernel_size": 2, "depth_multiplier": 2}),
    (IMAGE, L.MaxPooling2D, {"pool_size": (2, 3), "strides": 1}),
    (IMAGE, L.AveragePooling2D, {"pool_size": 2}),
    (IMAGE, L.GlobalMaxPooling2D, {"keepdims": True}),
    (IMAGE, L.GlobalAveragePooling2D, {}),
    (IMAGE, L.AdaptiveMaxPooling2D, {"output_size": (2, 4)}),
    (IMAGE, L.ZeroPadding2D, {"padding": ((1, 0), (2, 1))}),
    (IMAGE, L.Cropping2D, {"cropping": ((1, 0), (2, 1))}),
    (IMAGE, L.UpSampling2D, {"size": (2, 3)}),
    (IMAGE, L.UpSampling2D, {"size": 2, "interpolation": "bilinear"}),
    (IMAGE, L.Resizing, {"height": 4, "width": 7}),
    (IMAGE, L.CenterCrop, {"height": 3, "width": 4}),
    (IMAGE, L.BatchNormalization, {}),
    (VOLUME, L.Conv3D, {"filters": 3, "kernel_size": 2}),
    (VOLUME, L.Conv3DTranspose, {"filters": 3, "kernel_size": 2, "strides": 2}),
    (VOLUME, L.MaxPooling3D, {"pool_size": 2}),
    (VOLUME, L.AveragePooling3D, {"pool_size": 2, "padding": "same"}),
    (VOLUME, L.GlobalMaxPooling3D, {}),
    (VOLUME, L.GlobalAveragePooling3D, {"keepdims": True}),
    (VOLUME, L.ZeroPadding3D, {"padding": 1}),
    (VOLUME, L.Cropping3D, {"cropping": ((1, 0), (1, 1), (0, 1))}),
    (VOLUME, L.UpSampling3D, {"size": (1, 2, 3)}),
]


@pytest.mark.parametrize(("shape", "layer", "options"), FIRST)
def test_channels_may_come_first(check, shape, layer, options):
    where = {"axis": 1} if layer is L.BatchNormalization else {"data_format": "channels_first"}
    check(sequential((shape[-1], *shape[:-1]), layer(**options, **where)))


def test_channels_that_come_first_move_once(check):
    """Orders of axes cancel behind what acts on each number, so that patches pass."""
    first = {"data_format": "channels_first"}
    inputs = keras.Input((2, 6, 5))
    x = L.BatchNormalization(axis=1)(L.Conv2D(3, 2, activation="relu", padding="same", **first)(inputs))
    x = L.Add()([x, L.Conv2D(3, 1, activation="tanh", **first)(x)])
    network = check(keras.Model(inputs, L.MaxPooling2D(2, **first)(L.LeakyReLU()(x))))
    turns = [node for node in network.nodes if isinstance(node, Linear) and isinstance(node.map, TransposeMap)]
    assert len(turns) == 2


def test_slopes_of_their_own_stay_at_their_places(check):
    check(sequential((2, 4, 3), L.Conv2D(3, 2, data_format="channels_first"), L.PReLU()))


POOLS = [
    (SEQUENCE, {"pool_size": 3, "strides": 2, "padding": "same"}),
    (VOLUME, {"pool_size": 2}),
    (VOLUME, {"pool_size": (2, 1, 2), "strides": (1, 2, 1)}),
    (VOLUME, {"pool_size": 3, "strides": 2, "padding": "same"}),
]


@pytest.mark.parametrize(("shape", "options"), POOLS)
@pytest.mark.parametrize("kind", ["Max", "Average"])
def test_pools_of_sequences_and_volumes(check, shape, options, kind):
    check(sequential(shape, getattr(L, f"{kind}Pooling{len(shape) - 1}D")(**options)))


def test_a_volume_of_windows_side_by_side_is_one_maximum(check):
    """Two in a row would be bounded less tightly."""
    network = check(sequential(VOLUME, L.MaxPooling3D(2)))
    assert sum(isinstance(node, MaxPool) for node in network.nodes) == 1


@pytest.mark.parametrize(
    ("shape", "size"), [(SEQUENCE, 3), (SEQUENCE, 7), (IMAGE, (2, 3)), (IMAGE, (4, 2)), (VOLUME, (2, 3, 2))]
)
@pytest.mark.parametrize("kind", ["Max", "Average"])
def test_adaptive_pools(check, shape, size, kind):
    check(sequential(shape, getattr(L, f"Adaptive{kind}Pooling{len(shape) - 1}D")(size)))


def test_an_adaptive_maximum_that_crashes_tensorflow_is_refused_before_it_runs(check):
    with pytest.raises(UnsupportedLayerError, match=r"crash.*global maximum"):
        check(sequential(IMAGE, L.AdaptiveMaxPooling2D((1, 2))))


BORDERS = [
    (SEQUENCE, L.ZeroPadding1D((1, 2))),
    (SEQUENCE, L.Cropping1D((1, 2))),
    (SEQUENCE, L.UpSampling1D(3)),
    (VOLUME, L.ZeroPadding3D(((1, 0), (0, 2), (1, 1)))),
    (VOLUME, L.Cropping3D(((1, 0), (0, 2), (1, 1)))),
    (VOLUME, L.UpSampling3D((2, 1, 3))),
    ((4,), L.RepeatVector(3)),
    (IMAGE, L.CenterCrop(8, 4)),
    (IMAGE, L.Resizing(3, 4, crop_to_aspect_ratio=True)),
    (IMAGE, L.Resizing(9, 4, crop_to_aspect_ratio=True, interpolation="nearest")),
    (IMAGE, L.Resizing(3, 7, pad_to_aspect_ratio=True, fill_value=0.5)),
    (IMAGE, L.Resizing(8, 3, pad_to_aspect_ratio=True)),
]


@pytest.mark.parametrize(("shape", "layer"), BORDERS)
def test_borders_and_sizes(check, shape, layer):
    check(sequential(shape, layer))


def test_a_softmax_inside_a_layer_that_has_its_channels_first_is_along_the_last_axis(rng):
    model = sequential((2, 4, 3), L.Conv2D(3, 2, data_format="channels_first", activation="softmax"))
    x = rng.normal(size=(2, 2, 4, 3)).astype("float32")
    np.testing.assert_allclose(keras.ops.softmax(from_keras(model)(x), axis=-1), model(x), atol=1e-6)


@pytest.mark.parametrize(("shape", "layer"), [((3, 3, 1), L.Conv2DTranspose), ((2, 3, 2, 1), L.Conv3D)])
def test_gradients_reach_the_kernels(shape, layer, rng, eager):
    """Through the map, its magnitudes, its squares and its transpose."""
    inputs = keras.Input(shape, dtype="float64")
    options = {"strides": 2, "padding": "same", "use_bias": False, "dtype": "float64"}
    model = keras.Model(inputs, layer(2, 2, **options)(inputs))
    linear = next(n.map for n in from_keras(model).nodes if isinstance(n, Linear))
    x, a = (tf.constant(rng.normal(size=(1, *shape))) for shape in (linear.in_shape, linear.out_shape))

    def objective() -> tf.Tensor:
        parts = (linear.apply(x) * a, linear.abs_apply(tf.abs(x)), linear.square_apply(x), linear.transpose(a) * x)
        return tf.add_n([tf.reduce_sum(part) for part in parts])

    check_gradients(model, objective, rng)


KERNEL = np.random.default_rng(0).normal(size=(2, 3, 2, 4)).astype("float32")
OPERATIONS = {
    "conv": lambda x: keras.ops.conv(x, KERNEL, strides=2, padding="same"),
    "depthwise": lambda x: keras.ops.depthwise_conv(x, KERNEL, strides=1, dilation_rate=(2, 1)),
    "max": lambda x: keras.ops.max_pool(x, 2),
    "average": lambda x: keras.ops.average_pool(x, (2, 3), strides=1, padding="same"),
    "resize": lambda x: keras.ops.image.resize(x, (4, 7)),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_with_kernels_and_windows(check, name):
    inputs = keras.Input(IMAGE)
    check(keras.Model(inputs, OPERATIONS[name](inputs)))


def test_a_sequence_convolved_by_an_operation(check):
    inputs = keras.Input((2, 7))
    check(keras.Model(inputs, keras.ops.conv(inputs, KERNEL[0], data_format="channels_first")))
