"""Backward passes: patches, selected rows, parts and batches all give the numbers of the plain dense pass."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from methods import GENERAL
from soundness import networks
from soundness.networks import Sketch

from tfcert.activations import activation
from tfcert.network import densify
from tfcert.network.graph import Elementwise, Network
from tfcert.network.linear import ConvMap
from tfcert.propagation import kernels, preactivation, stepping
from tfcert.propagation.ascent import Ascent
from tfcert.propagation.backward import Relaxed, identity_rows, linear_lower_bounds, selected
from tfcert.propagation.bounds import output_bounds, pre_activation_bounds
from tfcert.propagation.coefficients import Coefficients, Patches, toeplitz
from tfcert.propagation.interval import both_sides, exact_over_boxes, intervals
from tfcert.sets.balls import Box, LpBall, Perturbation
from tfcert.sets.region import region_of
from tfcert.tracing import traced

METHODS = GENERAL

NONE = ((0, 0), (0, 0))


def ball_of(sketch: Sketch, norm: str = "linf", clip=(0.0, 1.0)) -> LpBall:
    return LpBall(sketch.rng.uniform(0, 1, (3, *sketch.shapes[0])), [0.1, 0.02, 0.5], norm, clip)


def bounds_of(network: Network, region: Perturbation, method: str = "crown", relaxation: str = "crown") -> np.ndarray:
    outputs = network.output_shape[0]
    eye = np.eye(outputs)
    rows = tf.constant(np.concatenate([eye, -eye, eye - eye[::-1]])[None], network.dtype)
    asked = (rows, tf.zeros([1, 3 * outputs], rows.dtype))
    return output_bounds(network, region_of(region), asked, method, relaxation, ascent=Ascent(iterations=2))


def relaxations(network: Network, region: Perturbation) -> Relaxed:
    """What a backward pass to the last pre-activation may use."""
    known = pre_activation_bounds(network, region_of(region), "crown-ibp")
    nodes = [i for i, node in enumerate(network.nodes) if i and node.inputs[0] in known and hasattr(node, "activation")]
    nodes += [i for i, node in enumerate(network.nodes) if hasattr(node, "window")]
    return Relaxed({i: preactivation.relax(network, i, known, "crown") for i in nodes})


@pytest.fixture
def always_patches(monkeypatch):
    """Patches wherever they are possible: on images this small the cost model goes dense at once."""
    monkeypatch.setattr(stepping, "patches_pay", lambda *_: True)


@pytest.mark.parametrize("window", [(2, 2), (1, 3), (3, 2)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 1), (2, 3)])
def test_a_point_has_its_own_values_as_bounds_behind_a_maximum(window, strides, always_patches):
    s = networks.Sketch(np.random.default_rng(1))
    shape = (5, 6, 2)
    x = s.max_pool(s.conv(s.input(shape), 2, (2, 2)), window, strides, ((1, 0), (0, 1)) if window == (2, 2) else NONE)
    s.dense(networks.flatten(s, s.activate(s.conv(x, 2, (1, 1)))), 3)
    network, point = s.network(), s.rng.normal(size=(2, *shape))
    values = network(tf.constant(point)).numpy()
    for method in METHODS:
        np.testing.assert_allclose(bounds_of(network, Box(point, point), method).numpy()[:, :3], values, atol=1e-10)


@pytest.mark.parametrize("block", networks.IMAGE_BLOCKS, ids=lambda block: block.__name__)
@pytest.mark.parametrize("seed", [0, 1])
def test_patches_give_the_bounds_of_the_dense_network(block, seed, always_patches):
    sketch = networks.block_sketch(block, seed + 10)
    network = sketch.network()
    region = ball_of(sketch, ("linf", "l2")[seed])
    for method in ("crown", ("forward", "ibp")[seed]):
        found, dense = (bounds_of(n, region, method) for n in (network, densify(network)))
        np.testing.assert_allclose(found, dense, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(100, 108))
def test_patches_give_the_bounds_of_the_dense_network_on_generated_networks(seed, always_patches):
    sketch = networks.image_sketch(*networks.seeded(seed))
    network, region = sketch.network(), ball_of(sketch, ("linf", "l2", "l1")[seed % 3])
    method, relaxation = METHODS[seed % 5], ("fastlin", "crown")[seed % 2]
    found, dense = (bounds_of(n, region, method, relaxation) for n in (network, densify(network)))
    np.testing.assert_allclose(found, dense, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(200, 206))
def test_selected_rows_equal_the_same_rows_of_the_full_pass(seed, always_patches):
    sketch = networks.image_sketch(*networks.seeded(seed))
    network, region = sketch.network(), ball_of(sketch, ("linf", "l2", "l1")[seed % 3])
    relaxed, tensors = relaxations(network, region), region_of(region)
    for target in network.bounded():
        if target == 0 or isinstance(network.nodes[target], Elementwise):
            continue
        full = [end.numpy().reshape(3, -1) for end in both_sides(network, target, relaxed, tensors)]
        sample = sketch.rng.integers(3, size=7)
        neuron = sketch.rng.integers(full[0].shape[1], size=7)
        rows = selected(network.nodes[target].shape, network.dtype, tf.constant(sample), tf.constant(neuron))
        found = linear_lower_bounds(network, target, rows, relaxed, tensors).numpy().reshape(7, 2)
        expected = np.stack([full[0][sample, neuron], -full[1][sample, neuron]], axis=1)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", [300, 301, 302])
def test_rows_bounded_in_parts_equal_rows_bounded_at_once(seed, always_patches):
    sketch = networks.image_sketch(*networks.seeded(seed))
    network, region = sketch.network(), ball_of(sketch)
    relaxed, tensors = relaxations(network, region), region_of(region)
    for target in network.bounded():
        length = network.nodes[target].shape[0]
        if length < 2 or target == 0:
            continue
        whole = both_sides(network, target, relaxed, tensors)
        parts = [both_sides(network, target, relaxed, tensors, p) for p in (slice(0, 1), slice(1, length))]
        for end in (0, 1):
            joined = np.concatenate([part[end].numpy().reshape(3, -1) for part in parts], axis=1)
            np.testing.assert_allclose(joined, whole[end].numpy().reshape(3, -1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", [0, 1, 2, 4])
def test_a_sample_has_the_same_bounds_alone_and_in_a_batch(seed):
    sketch = networks.seeded_sketch(seed)
    network = sketch.network()
    region = ball_of(sketch, ("linf", "l2", "l1", "linf")[seed % 4])
    method = METHODS[seed]
    together = bounds_of(network, region, method).numpy()
    alone = np.concatenate([bounds_of(network, region.take([i]), method).numpy() for i in range(3)])
    np.testing.assert_allclose(together, alone, rtol=1e-9, atol=1e-9)
    backwards = bounds_of(network, region.take([2, 1, 0]), method).numpy()
    np.testing.assert_allclose(together[::-1], backwards, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_every_method_but_interval_is_exact_on_linear_networks(norm):
    """Bounds of an affine function over a ball are its value at the centre less eps times the dual norm."""
    s = networks.Sketch(np.random.default_rng(1))
    x = s.input((4, 4, 2))
    y = s.average(s.conv(x, 2, (3, 2), strides=(1, 2), padding=((1, 0), (0, 1))), (2, 2), (1, 1))
    y = s.batch_norm(s.pad(s.sum(y, s.conv(y, 2, (1, 1))), ((1, 0), (0, 0))))
    s.dense(networks.flatten(s, y), 3)
    network, region = s.network(), ball_of(s, norm, None)
    point = tf.constant(region.x)
    with tf.GradientTape() as tape:
        tape.watch(point)
        values = network(point)
    jacobian = tape.batch_jacobian(values, point).numpy().reshape(3, 3, -1)
    dual = np.linalg.norm(jacobian, {"linf": 1, "l2": 2, "l1": np.inf}[norm], axis=2)
    exact = values.numpy() - dual * region.eps[:, None]
    for method in METHODS:  # with no nonlinearity to stop at, intervals are exact too: the rows go back to the input
        np.testing.assert_allclose(bounds_of(network, region, method).numpy()[:, :3], exact, rtol=0, atol=1e-9)


def test_nodes_said_to_have_exact_intervals_have_the_bounds_of_a_backward_pass():
    for seed in range(24):
        sketch = networks.seeded_sketch(seed)
        network, region = sketch.network(), region_of(ball_of(sketch))
        ranges = intervals(network, region, {})
        for index in exact_over_boxes(network) - {0}:
            passed = both_sides(network, index, Relaxed({}), region)
            for end in (0, 1):
                np.testing.assert_allclose(ranges[index][end], passed[end], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_a_toeplitz_matrix_carries_patches_as_the_transposed_convolution_carries_images(seed):
    pick, rng = networks.seeded(seed)
    s = networks.Sketch(rng)
    s.input((7, 6, 2))
    options = {"strides": (pick([1, 2, 3]), pick([1, 2])), "dilation": (pick([1, 2]), 1), "groups": pick([1, 2])}
    s.conv(0, 4, (pick([2, 3]), pick([1, 3])), bias=False, **options)
    conv = s.network().nodes[1].map
    window = (2, 2)
    rows = rng.normal(size=(5, *window, 4))
    read = Patches((1, 1), window).before(conv.window).window
    alone = ConvMap(conv.kernel, conv.kernel().shape, (*read, 2), strides=conv.strides, dilation=conv.dilation)
    assert alone.out_shape == (*window, 4)
    expected = alone.transpose(tf.constant(rows)).numpy()
    matrix = toeplitz(conv, window).numpy()
    np.testing.assert_allclose(rows.reshape(5, -1) @ matrix, expected.reshape(5, -1), atol=1e-12)


def test_coefficients_on_padding_are_dropped_before_a_batch_norm_shifts_it():
    s = networks.Sketch(np.random.default_rng(2))
    x = s.pad(s.input((2, 2, 1)), ((1, 1), (1, 1)))
    x = s.scale(x, np.array([2.0], np.float32), np.array([5.0], np.float32))  # zeros become 5
    x = s.conv(x, 1, (3, 3), bias=False, padding=((1, 1), (1, 1)))  # zeros of its own stay 0
    x = s.conv(s.activate(x), 1, (3, 3), bias=False)
    s.dense(networks.flatten(s, s.activate(x)), 2)
    network = s.network()
    point = s.rng.uniform(0, 1, (1, 2, 2, 1))
    values = network(tf.constant(point)).numpy()
    for method in METHODS:
        found = bounds_of(network, Box(point, point), method).numpy()
        np.testing.assert_allclose(found[:, :2], values, atol=1e-12)
        np.testing.assert_allclose(found[:, 2:4], -values, atol=1e-12)


@pytest.mark.parametrize("strides", [(1, 1), (2, 3)])
@pytest.mark.parametrize("offset", [(0, 0), (1, 2), (-1, 0)])
@pytest.mark.parametrize("window", [(3, 2), (1, 1)])
def test_rows_meet_the_pixels_that_their_patches_cover(strides, offset, window):
    """Patches that hang over an edge, or begin inside, are read line by line, and by a convolution where alike."""
    rng = np.random.default_rng(4)
    shape, patches = (5, 7, 2), Patches((3, 2), window, strides, offset)
    image = rng.normal(size=(2, *shape))
    flat = np.concatenate([image.reshape(2, 35, 2), np.zeros((2, 1, 2))], axis=1)
    read = flat[:, patches.table(shape)].reshape(2, 6, 1, -1)
    for lead in ((1, 1), (2, 6)):
        rows = Coefficients(tf.constant(rng.normal(size=(*lead, 4, read.shape[3]))), shape, patches)
        np.testing.assert_array_equal(rows.unfold(tf.constant(image)), read)
        np.testing.assert_allclose(rows.dot(tf.constant(image)), (rows.values * read).numpy().sum(axis=3), atol=1e-12)


def fused_bounds_of(monkeypatch, network: Network, region: Perturbation) -> np.ndarray:
    """Bounds by a graph in which every kernel is compiled, and sums of any length are taken in lanes."""
    monkeypatch.setattr(kernels, "_WORTH_COMPILING", 0)
    monkeypatch.setattr(kernels, "_LONG", 5)
    monkeypatch.setattr(kernels, "_LANES", 4)

    def run() -> tf.Tensor:
        with kernels.fused_kernels(True):
            return bounds_of(network, region, relaxation="adaptive")

    return traced(run)().numpy()


@pytest.mark.parametrize(("kind", "norm"), [("relu", "linf"), ("tanh", "l2")])
def test_compiled_kernels_give_the_bounds_of_eager_passes(monkeypatch, kind, norm, always_patches):
    s = Sketch(np.random.default_rng(6))
    x = s.activate(s.conv(s.input((6, 5, 2)), 3, (3, 3), padding=((1, 0), (0, 1))))
    x = s.activate(s.conv(s.activate(s.conv(x, 3, (2, 2))), 3, (2, 3)))
    s.dense(networks.flatten(s, x), 4)
    bent = activation(kind)
    nodes = (replace(node, activation=bent) if isinstance(node, Elementwise) else node for node in s.network().nodes)
    network, region = Network(tuple(nodes), tf.float64), ball_of(s, norm, clip=None)
    eager = bounds_of(network, region, relaxation="adaptive")
    np.testing.assert_allclose(fused_bounds_of(monkeypatch, network, region), eager, rtol=1e-9, atol=1e-9)


def test_lines_of_a_users_activation_need_not_compile(monkeypatch):
    s = Sketch(np.random.default_rng(7))
    s.dense(s.activate(s.dense(s.input((4,)), 5)), 3)
    network, region = s.network(), ball_of(s, clip=None)
    eager = bounds_of(network, region, relaxation="adaptive")

    def function(x: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(tf.numpy_function(lambda v: np.maximum(v, 0), [x], x.dtype), x.shape)

    own = network.nodes[2].activation
    nodes = (*network.nodes[:2], replace(network.nodes[2], activation=replace(own, name="mine", function=function)))
    users = Network((*nodes, *network.nodes[3:]), network.dtype)
    np.testing.assert_allclose(fused_bounds_of(monkeypatch, users, region), eager, rtol=1e-9, atol=1e-9)


def test_rows_of_the_identity_of_an_image_are_its_values():
    image = tf.random.stateless_normal([1, 3, 2, 2], [1, 2], dtype=tf.float64)
    rows = identity_rows((3, 2, 2), tf.float64)
    values = rows.dot(image).numpy().reshape(6, 4)
    np.testing.assert_array_equal(values[:, :2].ravel(), image.numpy().ravel())
    np.testing.assert_array_equal(values[:, 2:], -values[:, :2])


@pytest.mark.parametrize("method", METHODS)
def test_a_point_has_its_own_values_as_bounds(method):
    sketch = networks.seeded_sketch(7)
    network, x = sketch.network(), sketch.rng.uniform(0, 1, (2, *sketch.shapes[0]))
    values = network(tf.constant(x)).numpy()
    for region in (LpBall(x, 0.0, "l2"), LpBall(x, 0.0, "l1", (0, 1)), Box(x, x)):
        np.testing.assert_allclose(bounds_of(network, region, method).numpy()[:, :3], values, atol=1e-10)
