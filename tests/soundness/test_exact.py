"""Bounds and verdicts against the true optimum in exact rational arithmetic, for networks of at most six ReLUs."""

from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf
from methods import GENERAL
from sweeps import sweep_but

import tfcert
from soundness.exact import Affine, Largest, Layer, Leaky, Skip, evaluate, least
from tfcert.activations import activation
from tfcert.network import DenseMap, Network, ReshapeMap
from tfcert.network.graph import Add, Elementwise, Input, Linear, MaxPool, Node
from tfcert.propagation.ascent import Ascent
from tfcert.propagation.bounds import output_bounds
from tfcert.propagation.supported import with_charges
from tfcert.sets.balls import Box, LpBall
from tfcert.sets.region import region_of

METHODS = GENERAL


def random_layers(seed: int) -> tuple[list[Layer], int]:
    """At most six ReLUs in one or two layers, some with a skip connection, LeakyReLU or a maximum; two outputs."""
    rng = np.random.default_rng(seed)
    inputs = int(rng.integers(1, 3 if seed % 4 == 3 else 4))  # maxima have the most pieces

    def affine(n: int, m: int) -> Affine:
        kernel, bias = rng.normal(size=(n, m)) * 1.5 / np.sqrt(n), 0.3 * rng.normal(size=m)
        return Affine(kernel.astype(np.float32), bias.astype(np.float32))

    leaky = Leaky(float(rng.choice([0, 0, 0.25])))
    match seed % 4:
        case 0:
            return [affine(inputs, 5), leaky, affine(5, 2)], inputs
        case 1:
            return [affine(inputs, 3), leaky, affine(3, 3), leaky, affine(3, 2)], inputs
        case 2:
            return [affine(inputs, 3), leaky, affine(3, inputs), Skip(-1), Leaky(0.0), affine(inputs, 2)], inputs
        case _:
            pool = Largest(((0, 1), (2, 3)))
            return [affine(inputs, 4), Leaky(0.0), pool, affine(2, 2), leaky, affine(2, 2)], inputs


def as_network(layers: list[Layer], inputs: int, dtype: tf.DType) -> Network:
    nodes: list[Node] = [Input(name="input", shape=(inputs,))]
    ends = [0]
    for number, layer in enumerate(layers):
        source, shape, name = ends[-1], nodes[ends[-1]].shape, f"layer{number}"
        match layer:
            case Affine(kernel, bias):
                matrix = DenseMap(lambda k=kernel: tf.constant(k, dtype), shape, kernel.shape[1])
                node = Linear(
                    name=name, inputs=(source,), shape=matrix.out_shape, map=matrix,
                    bias=lambda b=bias: tf.constant(b, dtype),
                )  # fmt: skip
            case Leaky(slope):
                act = activation("leaky_relu", negative_slope=slope)
                node = Elementwise(name=name, inputs=(source,), shape=shape, activation=act)
            case Skip(layer=earlier):
                node = Add(name=name, inputs=(source, ends[earlier + 1]), shape=shape)
            case Largest(groups):  # pairs of neighbours: a pooling window over an image of one column
                image = (shape[0], 1, 1)
                lift = ReshapeMap(shape, image)
                nodes.append(Linear(name=f"{name}/lift", inputs=(source,), shape=image, map=lift))
                pooled = (len(groups), 1, 1)
                nodes.append(
                    MaxPool(name=f"{name}/max", inputs=(len(nodes) - 1,), shape=pooled, window=(2, 1), strides=(2, 1))
                )
                lower = ReshapeMap(pooled, (len(groups),))
                node = Linear(name=name, inputs=(len(nodes) - 1,), shape=lower.out_shape, map=lower)
        nodes.append(node)
        ends.append(len(nodes) - 1)
    return Network(tuple(nodes), dtype)


BRIEF, REAL = Ascent(iterations=2), tfcert.BoundOptions(rounding="real")
ROWS = np.array([[1, -1], [-1, 1], [1, 0], [0.5, 2]], np.float32)


def box_of(seed: int, inputs: int) -> Box:
    rng = np.random.default_rng(seed + 1000)
    center = rng.normal(size=(1, inputs)).astype(np.float32)
    radius = np.float32(rng.choice([1e-6, 0.1, 0.5, 2.0]))
    return Box(center - radius, center + radius)


@pytest.mark.parametrize("seed", sweep_but(range(6), range(12)))
def test_bounds_lie_below_the_exact_optimum_and_reach_it_where_nothing_changes_sign(seed):
    layers, inputs = random_layers(seed)
    box = box_of(seed, inputs)
    exact = np.array([least(layers, box.lower[0], box.upper[0], row) for row in ROWS])
    for dtype in (tf.float32, tf.float64):
        network = as_network(layers, inputs, dtype)
        region = region_of(box.astype(dtype.as_numpy_dtype))
        center = [Fraction(float(v)) for v in box.lower[0]]
        at = np.array([float(v) for v in evaluate(layers, center)])
        assert np.allclose(network(tf.constant(box.lower, dtype)).numpy()[0], at, rtol=1e-4, atol=1e-5)
        for method in METHODS:
            for relaxation in ("fastlin", "crown") if method != "ibp" else ("crown",):
                charged = with_charges(network, method, relaxation, REAL)
                assert charged.rounding is not None, "nothing is allowed for: these bounds are rigorous"
                asked = (tf.constant(ROWS[None], dtype), tf.zeros([1, 4], dtype))
                found = output_bounds(charged, region, asked, method, relaxation, ascent=BRIEF).numpy()[0]
                assert all(Fraction(float(f)) <= e for f, e in zip(found, exact, strict=True)), (method, relaxation)
                if method == "crown" and box.upper[0, 0] - box.lower[0, 0] < 1e-5:
                    assert np.all(found >= exact.astype(float) - 1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_every_method_is_exact_on_a_network_whose_neurons_are_stable(seed):
    rng = np.random.default_rng(seed)
    first = Affine(rng.normal(size=(2, 3)).astype(np.float32), np.array([9, -9, 9], np.float32))
    last = Affine(rng.normal(size=(3, 2)).astype(np.float32), rng.normal(size=2).astype(np.float32))
    layers: list[Layer] = [first, Leaky(0.25), last]
    network, box = as_network(layers, 2, tf.float64), Box(np.full((1, 2), -1.0), np.full((1, 2), 1.0))
    exact = [float(least(layers, box.lower[0], box.upper[0], row)) for row in ROWS]
    rows = (tf.constant(ROWS[None], tf.float64), tf.zeros([1, 4], tf.float64))
    for method in ("forward", "forward+backward", "crown-ibp", "crown"):
        assert np.allclose(output_bounds(network, region_of(box), rows, method).numpy()[0], exact, rtol=0, atol=1e-12)


def test_the_bound_of_one_relu_is_the_exact_one_for_the_side_that_the_chord_bounds():
    layers: list[Layer] = [Affine(np.eye(1), np.zeros(1)), Leaky(0.0), Affine(np.array([[1.0, -1.0]]), np.zeros(2))]
    network = as_network(layers, 1, tf.float64)
    rows = (tf.constant([[[0.0, 1.0]]], tf.float64), tf.zeros([1, 1], tf.float64))
    for low, high in ((-1.0, 2.0), (-3.0, 1.0), (-1.0, 0.0), (0.0, 1.0)):
        box = Box(np.array([[low]]), np.array([[high]]))
        exact = float(least(layers, box.lower[0], box.upper[0], np.array([0, 1])))
        assert exact == -high
        assert output_bounds(network, region_of(box), rows, "crown").numpy()[0, 0] == pytest.approx(exact)


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_verdicts_agree_with_the_exact_margin(seed):
    layers, inputs = random_layers(seed)
    network = as_network(layers, inputs, tf.float32)
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(12, inputs)).astype(np.float32)
    eps = rng.choice([0.01, 0.1, 0.3], size=12)
    y = network(tf.constant(x)).numpy().argmax(axis=1)
    y[-2:] = 1 - y[-2:]  # misclassified
    ball = LpBall(x, eps)
    signs = np.array([[1, -1], [-1, 1]])[y]
    exact = [least(layers, *ends) for ends in zip(ball.lower, ball.upper, signs, strict=True)]
    verdict = tfcert.certify(network, x, y, eps=eps)
    assert not verdict.verified[-2:].any()
    for sample, margin in enumerate(exact):
        assert not verdict.verified[sample] or margin > 0
        assert Fraction(float(verdict.margin[sample])) <= margin
    assert verdict.verified[np.array(eps) == 0.01].any() or seed == 3
    assert np.array_equal(verdict.verified, verdict.margin > 0)


def test_a_margin_of_exactly_zero_is_not_verified():
    layers: list[Layer] = [Affine(np.array([[1.0, 1.0]]), np.array([0.0, 0.0]))]
    network = as_network(layers, 1, tf.float32)
    for eps in (0.0, 0.5):
        for rounding in ("deployed", "ignore"):
            options = tfcert.BoundOptions(rounding=rounding)
            verdict = tfcert.certify(network, np.array([[1.0]], np.float32), [0], eps=eps, options=options)
            assert verdict.margin[0] == 0 if rounding == "ignore" else -1e-5 < verdict.margin[0] < 0
            assert not verdict.verified[0]
