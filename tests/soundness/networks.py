"""Random small networks: written node by node in the network IR, and as Keras models.

A ``Sketch`` holds float32 weights and builds the same network in float32 and float64, so that a bound computed in
float32 can be checked against values computed in float64. Every choice goes through ``pick``, which is either a
hypothesis draw (it shrinks) or a seeded generator (it is fast).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import keras
import numpy as np
import tensorflow as tf
from hypothesis import strategies as st

from tfcert.activations import activation
from tfcert.network import ConvMap, DenseMap, IndexMap, Network, PadMap, Product, ReshapeMap, ScaleMap
from tfcert.network.graph import Add, Concatenate, Elementwise, Input, Linear, MaxPool, Node
from tfcert.network.linear import LinearMap

T = TypeVar("T")
Pick = Callable[[Sequence[T]], T]
Shape = tuple[int, ...]


@dataclass
class Sketch:
    """Makers of nodes, and the shapes they will have."""

    rng: np.random.Generator
    makers: list[Callable[[tf.DType], Node]] = field(default_factory=list)
    shapes: list[Shape] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)

    @property
    def last(self) -> int:
        return len(self.makers) - 1

    def network(self, dtype: tf.DType = tf.float64) -> Network:
        return Network(tuple(make(dtype) for make in self.makers), dtype)

    def add(self, kind: str, shape: Shape, make: Callable[[tf.DType], Node]) -> int:
        self.makers.append(make)
        self.shapes.append(tuple(int(n) for n in shape))
        self.kinds.append(kind)
        return self.last

    def weights(self, *shape: int, fan_in: int = 1) -> np.ndarray:
        return (self.rng.normal(size=shape) * 1.5 / np.sqrt(fan_in)).astype(np.float32)

    def input(self, shape: Shape) -> int:
        return self.add("input", shape, lambda _: Input(name="input", shape=shape))

    def linear(
        self, source: int, kind: str, make_map: Callable[[tf.DType], LinearMap], bias: np.ndarray | None = None
    ) -> int:
        shape = make_map(tf.float32).out_shape
        name = f"{kind}{len(self.makers)}"

        def make(dtype: tf.DType) -> Node:
            reader = None if bias is None else (lambda: tf.constant(bias, dtype))
            return Linear(name=name, inputs=(source,), shape=shape, map=make_map(dtype), bias=reader)

        return self.add(kind, shape, make)

    def dense(self, source: int, units: int, bias: bool = True) -> int:
        shape = self.shapes[source]
        kernel = self.weights(shape[-1], units, fan_in=shape[-1])
        offsets = 0.3 * self.weights(units) if bias else None
        return self.linear(source, "dense", lambda t: DenseMap(lambda: tf.constant(kernel, t), shape, units), offsets)

    def conv(self, source: int, channels: int, size: tuple[int, int], bias: bool = True, **options: Any) -> int:
        shape = self.shapes[source]
        depth = shape[2] // options.get("groups", 1)
        kernel = self.weights(*size, depth, channels, fan_in=size[0] * size[1] * depth)
        offsets = 0.3 * self.weights(channels) if bias else None

        def make_map(dtype: tf.DType) -> LinearMap:
            return ConvMap(lambda: tf.constant(kernel, dtype), kernel.shape, shape, **options)

        return self.linear(source, "conv", make_map, offsets)

    def scale(self, source: int, scale: np.ndarray, bias: np.ndarray | None, kind: str = "scale") -> int:
        shape = self.shapes[source]
        return self.linear(source, kind, lambda t: ScaleMap(lambda: tf.constant(scale, t), shape), bias)

    def batch_norm(self, source: int) -> int:
        channels = self.shapes[source][-1]
        return self.scale(source, self.weights(channels), self.weights(channels), "batchnorm")

    def average(self, source: int, window: tuple[int, int], strides: tuple[int, int]) -> int:
        """Keras's ``same`` average pooling: sums over the padded windows, divided by the count of pixels inside."""
        shape = self.shapes[source]
        pads = same_pads(shape, window, strides)
        ones = np.ones((*window, 1, shape[2]), np.float32)

        def make_map(dtype: tf.DType) -> LinearMap:
            options = {"strides": strides, "padding": pads, "groups": shape[2]}
            return ConvMap(lambda: tf.constant(ones, dtype), ones.shape, shape, **options)

        total = self.linear(source, "average", make_map)
        grid = self.shapes[total]
        counts = np.zeros(grid, np.float32)
        for i, j in np.ndindex(*grid[:2]):
            rows, columns = (
                sum(0 <= at * strides[axis] - pads[axis][0] + k < shape[axis] for k in range(window[axis]))
                for axis, at in enumerate((i, j))
            )
            counts[i, j] = rows * columns
        return self.scale(total, 1 / counts, None, "counts")

    def max_pool(self, source: int, window: tuple[int, int], strides: tuple[int, int], padding: Any) -> int:
        shape, name = self.shapes[source], f"pool{len(self.makers)}"
        grid = [(shape[a] + sum(padding[a]) - window[a]) // strides[a] + 1 for a in (0, 1)]
        out = (*grid, shape[2])
        options = {"window": window, "strides": strides, "padding": padding}
        return self.add("maxpool", out, lambda _: MaxPool(name=name, inputs=(source,), shape=out, **options))

    def pad(self, source: int, padding: Any) -> int:
        shape = self.shapes[source]
        return self.linear(source, "pad", lambda _: PadMap(shape, padding))

    def index(self, source: int, index: np.ndarray, kind: str) -> int:
        shape = self.shapes[source]
        return self.linear(source, kind, lambda _: IndexMap(shape, index))

    def reshape(self, source: int, shape: Shape) -> int:
        before = self.shapes[source]
        return source if before == shape else self.linear(source, "reshape", lambda _: ReshapeMap(before, shape))

    def activate(self, source: int, slope: float = 0.0) -> int:
        shape, name = self.shapes[source], f"act{len(self.makers)}"
        relu = activation("relu") if slope == 0 else activation("leaky_relu", negative_slope=slope)
        kind = "relu" if slope == 0 else "leaky"
        return self.add(kind, shape, lambda _: Elementwise(name=name, inputs=(source,), shape=shape, activation=relu))

    def sum(self, *sources: int) -> int:
        shape, name = self.shapes[sources[0]], f"add{len(self.makers)}"
        return self.add("add", shape, lambda _: Add(name=name, inputs=sources, shape=shape))

    def product(self, x: int, y: int) -> int:
        shape, name = self.shapes[x], f"product{len(self.makers)}"
        return self.add("product", shape, lambda _: Product(name=name, inputs=(x, y), shape=shape))

    def concatenate(self, sources: Sequence[int], axis: int) -> int:
        shape, name = list(self.shapes[sources[0]]), f"concatenate{len(self.makers)}"
        shape[axis] = sum(self.shapes[s][axis] for s in sources)
        out = tuple(shape)
        return self.add(
            "concatenate", out, lambda _: Concatenate(name=name, inputs=tuple(sources), shape=out, axis=axis)
        )


def same_pads(shape: Shape, window: tuple[int, int], strides: tuple[int, int]) -> Any:
    """TensorFlow's ``same`` padding: the odd row after."""
    total = [max((-(-shape[a] // strides[a]) - 1) * strides[a] + window[a] - shape[a], 0) for a in (0, 1)]
    return tuple((t // 2, t - t // 2) for t in total)


# --- blocks of the generated networks: (sketch, node, pick) -> node ------------------------------------------------


def conv_block(s: Sketch, x: int, pick: Pick) -> int:
    shape = s.shapes[x]
    size = (pick([3, 2, 1]), pick([3, 2, 1]))
    dilation = (pick([1, 1, 2]), pick([1, 1, 2]))
    pads = tuple((pick([0, 1, 2]), pick([0, 1, 2])) for _ in range(2))
    for axis in (0, 1):  # no empty output
        reach = (size[axis] - 1) * dilation[axis] + 1
        if shape[axis] + sum(pads[axis]) < reach:
            return x
    groups = pick([1, 2]) if shape[2] % 2 == 0 else 1
    strides = (pick([1, 2, 3]), pick([1, 2, 3])) if max(shape[:2]) > 2 else (1, 1)
    options = {"strides": strides, "padding": pads, "dilation": dilation, "groups": groups}
    return s.conv(x, 2 * groups if groups > 1 else pick([2, 1, 3]), size, bias=pick([True, False]), **options)


def double_conv_block(s: Sketch, x: int, pick: Pick) -> int:
    """Coefficients that the second convolution puts on the padding must not reach through the first."""
    first = s.conv(x, 2, (3, 3), padding=((1, 1), (1, 1)))
    return s.conv(first, 2, (3, 2), padding=((1, 1), (1, 0)))


def max_pool_block(s: Sketch, x: int, pick: Pick) -> int:
    shape = s.shapes[x]
    window = (min(pick([2, 3, 1]), shape[0]), min(pick([2, 3, 1]), shape[1]))
    strides = (pick([1, 2, 3]), pick([1, 2, 3]))
    padding = same_pads(shape, window, strides) if pick([True, False]) else ((0, 0), (0, 0))
    return s.max_pool(x, window, strides, padding)


def average_block(s: Sketch, x: int, pick: Pick) -> int:
    return s.average(x, (pick([3, 2]), pick([3, 2])), (pick([1, 2]), pick([1, 2])))


def batch_norm_block(s: Sketch, x: int, pick: Pick) -> int:
    return s.batch_norm(x)


def padded_batch_norm_block(s: Sketch, x: int, pick: Pick) -> int:
    """Zeros added before batch normalisation are shifted by it, those of the convolution after it are not."""
    padded = s.pad(x, ((1, 0), (pick([0, 1]), 1)))
    return s.conv(s.batch_norm(padded), 2, (3, 2), padding=((1, 1), (0, 1)))


def crop_block(s: Sketch, x: int, pick: Pick) -> int:
    shape = s.shapes[x]
    amounts = [(-pick([0, 1]), -pick([0, 1])) if shape[a] > 2 else (0, pick([0, 1])) for a in (0, 1)]
    return s.pad(x, tuple(amounts))


def activation_block(s: Sketch, x: int, pick: Pick) -> int:
    return s.activate(x, pick([0.0, 0.0, 0.25, 0.01]))


def residual_block(s: Sketch, x: int, pick: Pick) -> int:
    """The input joins a branch with a wider patch."""
    branch = s.activate(s.conv(x, s.shapes[x][2], (3, 3), padding=((1, 1), (1, 1))), pick([0.0, 0.3]))
    if pick([True, False]):
        branch = s.conv(branch, s.shapes[x][2], (2, 2), padding=((1, 0), (0, 1)))
    return s.sum(x, branch) if pick([True, False]) else s.sum(branch, x, x)


def projection_block(s: Sketch, x: int, pick: Pick) -> int:
    """Two branches whose patches begin at different pixels (and, through the strides, may need to go dense)."""
    stride = pick([1, 2])
    first = s.conv(x, 2, (3, 3), strides=(stride, stride), padding=((1, 1), (1, 1)))
    if pick([True, False]):
        first = s.conv(s.activate(first), 2, (3, 1), padding=((2, 0), (0, 0)))
    second = s.conv(x, 2, (1, 1), strides=(stride, stride))
    return s.sum(first, second)


def concatenate_block(s: Sketch, x: int, pick: Pick) -> int:
    first = s.conv(x, 2, (2, 3), padding=((1, 0), (1, 1)))
    axis = pick([2, 2, 0, 1])
    return s.concatenate([s.activate(first), s.conv(x, 2 if axis < 2 else 1, (1, 1))], axis)


def upsample_block(s: Sketch, x: int, pick: Pick) -> int:
    shape = s.shapes[x]
    if shape[0] * shape[1] > 9:
        return x
    index = np.arange(int(np.prod(shape))).reshape(shape)
    return s.index(x, index.repeat(2, axis=0) if pick([True, False]) else index.repeat(2, axis=1), "upsample")


def permute_block(s: Sketch, x: int, pick: Pick) -> int:
    index = np.arange(int(np.prod(s.shapes[x]))).reshape(s.shapes[x])
    return s.index(x, index.transpose(pick([(1, 0, 2), (2, 1, 0), (0, 2, 1)])), "permute")


def pointwise_dense_block(s: Sketch, x: int, pick: Pick) -> int:
    """Keras's Dense on an image acts on the channels."""
    return s.dense(x, 2)


IMAGE_BLOCKS = (
    conv_block, activation_block, residual_block, max_pool_block, batch_norm_block, average_block,
    padded_batch_norm_block, projection_block, concatenate_block, crop_block, upsample_block, permute_block,
    pointwise_dense_block, double_conv_block,
)  # fmt: skip


def vector_residual_block(s: Sketch, x: int, pick: Pick) -> int:
    width = s.shapes[x][0]
    return s.sum(x, s.dense(s.activate(s.dense(x, pick([5, 3]))), width))


def vector_concatenate_block(s: Sketch, x: int, pick: Pick) -> int:
    return s.concatenate([s.activate(s.dense(x, 3)), s.dense(x, 2)], 0)


def dense_block(s: Sketch, x: int, pick: Pick) -> int:
    return s.dense(x, pick([6, 4, 9]), bias=pick([True, False]))


def sequence_block(s: Sketch, x: int, pick: Pick) -> int:
    """A Dense on the last axis of ``[n, 2]``."""
    width = s.shapes[x][0]
    pairs = s.reshape(s.dense(x, 6) if width % 2 else x, ((6 if width % 2 else width) // 2, 2))
    return flatten(s, s.activate(s.dense(pairs, 2)))


VECTOR_BLOCKS = (
    dense_block, activation_block, vector_residual_block, batch_norm_block, vector_concatenate_block, sequence_block,
)  # fmt: skip


def gate_block(s: Sketch, x: int, pick: Pick) -> int:
    """Values times what was made of them, by a ReLU or not."""
    other = s.dense(x, s.shapes[x][-1])
    return s.product(x if pick([True, False]) else s.dense(x, s.shapes[x][-1]), pick([other, s.activate(other)]))


def mixed_product_block(s: Sketch, x: int, pick: Pick) -> int:
    """Entries of one tensor multiplied with each other, moved: ``x[i] * x[n - 1 - i]``, and a sum with x."""
    size = int(np.prod(s.shapes[x]))
    turned = s.index(x, np.arange(size)[::-1].reshape(s.shapes[x]), "turned")
    product = s.product(turned, x)
    return s.sum(product, x) if pick([True, False]) else product


def image_product_block(s: Sketch, x: int, pick: Pick) -> int:
    """Patches of two sizes that meet in a product."""
    channels = s.shapes[x][2]
    first = s.conv(x, channels, (3, 3), padding=((1, 1), (1, 1)))
    second = s.conv(x, channels, (2, 1), padding=((1, 0), (0, 0)))
    return s.product(s.activate(first), pick([second, x]))


def squeeze_block(s: Sketch, x: int, pick: Pick) -> int:
    """Squeeze and excitation: channels weighed by what is made of their means."""
    height, width, channels = s.shapes[x]
    mean = s.average(x, (2 * height - 1, 2 * width - 1), (height, width))
    gate = s.activate(s.dense(mean, channels), 0.25)
    index = np.arange(channels) + np.zeros((height, width, 1), int)
    return s.product(x, s.index(gate, index, "broadcast"))


PRODUCT_BLOCKS = (gate_block, mixed_product_block, image_product_block, squeeze_block)


def flatten(s: Sketch, x: int) -> int:
    return s.reshape(x, (int(np.prod(s.shapes[x])),))


def image_sketch(pick: Pick, rng: np.random.Generator, blocks: Sequence[Callable] = IMAGE_BLOCKS) -> Sketch:
    """An image network of two to four blocks and a dense head with three outputs."""
    s = Sketch(rng)
    x = s.input((pick([4, 5, 6, 3, 1]), pick([4, 5, 3]), pick([1, 2])))
    for _ in range(pick([3, 2, 4])):
        if int(np.prod(s.shapes[x])) <= 80:
            x = pick(blocks)(s, x, pick)
    return _head(s, x, pick)


def vector_sketch(pick: Pick, rng: np.random.Generator) -> Sketch:
    """A network of vectors: two to four blocks and three outputs."""
    s = Sketch(rng)
    x = s.input((pick([3, 2, 5, 1]),))
    for _ in range(pick([3, 2, 4])):
        x = pick(VECTOR_BLOCKS)(s, x, pick)
    return _head(s, x, pick)


def _head(s: Sketch, x: int, pick: Pick) -> Sketch:
    x = flatten(s, s.activate(x, pick([0.0, 0.1])))
    if pick([True, False]):
        x = s.activate(s.dense(x, 5))
    s.dense(x, 3)
    return s


def seeded(seed: int) -> tuple[Pick, np.random.Generator]:
    """Choices and weights from one seed."""
    rng = np.random.default_rng(seed)
    return (lambda options: options[int(rng.integers(len(options)))]), rng


def seeded_sketch(seed: int) -> Sketch:
    """Network number ``seed``: two of three are image networks."""
    return (vector_sketch if seed % 3 == 2 else image_sketch)(*seeded(seed))


@st.composite
def sketches(draw: st.DrawFn) -> Sketch:
    """A hypothesis strategy of sketches; fewer and plainer blocks are simpler."""
    rng = np.random.default_rng(draw(st.integers(0, 2**20)))

    def pick(options: Sequence[T]) -> T:
        return options[draw(st.integers(0, len(options) - 1))]

    return image_sketch(pick, rng) if draw(st.booleans()) else vector_sketch(pick, rng)


def block_sketch(block: Callable, seed: int, shape: Shape = (4, 4, 2)) -> Sketch:
    """A network around one block: convolution, ReLU, the block, ReLU, dense."""
    pick, rng = seeded(seed)
    s = Sketch(rng)
    x = s.activate(s.conv(s.input(shape), shape[2], (3, 3), padding=((1, 1), (1, 1))))
    x = block(s, x, pick)
    s.dense(flatten(s, s.activate(s.conv(x, 2, (1, 1)))), 3)
    return s


# --- Keras models --------------------------------------------------------------------------------------------------


def randomize(model: keras.Model, rng: np.random.Generator) -> None:
    """Gives every weight, biases and moving statistics included, values that matter."""
    for weight in model.weights:
        if "float" not in weight.dtype:
            continue
        values = rng.normal(size=weight.shape) / np.sqrt(max(1.0, np.prod(weight.shape[:-1])))
        weight.assign(np.abs(values) + 0.3 if "variance" in weight.name else values)


def keras_model(seed: int, dtype: str = "float32") -> keras.Model:
    """A functional Keras model with branches, of layers drawn from everything the frontend reads."""
    pick, rng = seeded(seed)
    layers, options = keras.layers, {"dtype": dtype}
    inputs = keras.Input((pick([4, 5]), pick([4, 5, 3]), pick([1, 2])), dtype=dtype)
    x = inputs
    for _ in range(3):
        padding, odd = pick(["same", "valid"]), pick([1, 2])
        padding = padding if min(x.shape[1:3]) >= 3 else "same"
        match pick(["conv", "conv", "depthwise", "average", "max", "residual", "project", "norm", "concat", "shape"]):
            case "conv":
                groups = pick([1, 2]) if x.shape[3] % 2 == 0 else 1
                dilation, strides = pick([(1, odd), (1, 1), (2, 1)])
                x = layers.Conv2D(
                    2 * groups, (2, 3) if padding == "valid" else 3, strides=strides, padding="same" if dilation > 1
                    else padding, dilation_rate=dilation, groups=groups, activation=pick(["relu", None]), **options,
                )(x)  # fmt: skip
            case "depthwise":
                x = layers.DepthwiseConv2D(2, strides=odd, padding=padding, activation="relu", **options)(x)
            case "average":
                x = layers.AveragePooling2D(2 + (padding == "same"), strides=odd, padding=padding, **options)(x)
            case "max":
                x = layers.MaxPooling2D(2, strides=odd, padding=padding, **options)(x)
            case "residual":
                branch = layers.Conv2D(x.shape[3], 3, padding="same", activation="relu", **options)(x)
                x = layers.Add(**options)([x, branch])
            case "project":
                first = layers.Conv2D(2, 3, strides=odd, padding="same", **options)(x)
                x = layers.Subtract(**options)([first, layers.Conv2D(2, 1, strides=odd, **options)(x)])
                x = layers.ReLU(**options)(x)
            case "norm":
                x = layers.ZeroPadding2D(((1, 0), (0, 1)), **options)(x)
                x = layers.LeakyReLU(negative_slope=0.2, **options)(layers.BatchNormalization(**options)(x))
                x = layers.Cropping2D(((1, 0), (0, 0)), **options)(x)
            case "concat":
                branch = layers.Conv2D(2, 2, padding="same", activation="relu", **options)(x)
                x = layers.Concatenate(axis=3, **options)([branch, x])
            case "shape":
                x = layers.Permute((2, 1, 3), **options)(layers.UpSampling2D((1, 2), **options)(x))
                x = layers.AveragePooling2D((2, 1), **options)(x) if x.shape[1] > 1 else x
    x = layers.Dense(6, activation="relu", **options)(layers.Flatten(**options)(x))
    model = keras.Model(inputs, layers.Dense(3, **options)(x))
    randomize(model, rng)
    return model
