"""The compiled engine: what it runs is what the plain functions compute, at full precision."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from soundness import networks
from sweeps import sweep_but

import tfcert
from tfcert.network.builder import Builder
from tfcert.network.linear import DenseMap
from tfcert.propagation import engine, kernels
from tfcert.propagation.bounds import output_bounds
from tfcert.propagation.engine import joint_bounds, lower_bounds, prepared_bounds
from tfcert.sets.balls import LpBall
from tfcert.sets.region import region_of
from tfcert.tracing import CALLS, expecting, timed


def question(network, eps=0.1, norm="linf", samples=3):
    x = np.random.default_rng(5).normal(size=(samples, *network.input_shape))
    ball = LpBall(x, eps, norm)
    rows = np.broadcast_to(np.eye(network.output_shape[0]), (samples, *[network.output_shape[0]] * 2))
    return ball, rows, np.zeros(rows.shape[:2])


BLOCKS = (*networks.IMAGE_BLOCKS, networks.activation_block)
USUAL = [*((block, "linf") for block in BLOCKS), (networks.projection_block, "l2"), (networks.max_pool_block, "l2")]


@pytest.mark.parametrize(("block", "norm"), sweep_but(USUAL, itertools.product(BLOCKS, ["linf", "l2"])))
def test_a_compiled_pass_computes_what_the_plain_functions_do(block, norm):
    network = networks.block_sketch(block, 3).network()
    ball, rows, offsets = question(network, norm=norm)
    run = prepared_bounds(network, ball, rows, offsets, method="crown")
    run.compiled.is_traced = True
    compiled = run.run()[0]
    plain = output_bounds(network, region_of(ball), (rows, offsets), "crown").numpy()
    # A pass over the unstable neurons alone leaves the others' (exact) relaxations as they are.
    np.testing.assert_allclose(compiled, plain, rtol=1e-9, atol=1e-9)


def test_bounds_are_computed_without_tf32_and_leave_the_setting_as_it_was(monkeypatch):
    seen = []
    run = engine._Compiled.__call__

    def spy(self, *args):
        seen.append(tf.config.experimental.tensor_float_32_execution_enabled())
        return run(self, *args)

    monkeypatch.setattr(engine._Compiled, "__call__", spy)
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(True)
    try:
        network = networks.seeded_sketch(1).network()
        lower_bounds(network, *question(network), method="ibp")
        assert tf.config.experimental.tensor_float_32_execution_enabled()
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)
    assert seen == [False]


def test_rows_and_layers_are_bounded_by_one_pass_that_is_traced_once_for_fewer_rows_too():
    network = networks.seeded_sketch(1).network()
    ball, rows, offsets = question(network)
    compiled = prepared_bounds(network, ball, rows, offsets).compiled
    values = [value.numpy() for value in network.values(tf.constant(ball.center, network.dtype))]
    for _ in range(2):  # op by op, and traced
        bounds, layers = joint_bounds(network, ball, rows, offsets)
        np.testing.assert_allclose(bounds, lower_bounds(network, ball, rows, offsets), rtol=1e-9)
        assert list(layers) == list(network.bounded())
        for node, (low, high) in layers.items():
            assert ((low <= values[node]) & (values[node] <= high)).all()
        compiled.is_traced = True
    fewer = lower_bounds(network, ball, rows[:, :1], offsets[:, :1])
    np.testing.assert_allclose(fewer, bounds[:, :1], rtol=1e-9)
    assert list(compiled._traced) == [rows.shape[1]]


def test_batches_are_padded_or_cut_to_sizes_that_ran_until_that_has_cost_a_compilation():
    sizes = []

    def run(values, *rows):
        sizes.append(int(values.shape[0]))
        return [values, True]

    compiled = engine._Compiled(run, lambda rows: run, engine._COMPILATION / 20, usual=25, is_traced=True)

    def answer(count):
        tensors = [tf.range(float(count))[:, None]] * 4 + [tf.zeros([count, 1, 1]), tf.zeros([count, 1])]
        return compiled(tensors, (), 100, layers=False)[0]

    answers = {count: answer(count) for count in (50, 45, 3)}
    # 50 as two passes, 45 padded by 5; 3 padded by 22 would cost more than compiling for 3 does.
    assert sizes == [25, 25, 25, 25, 3]
    for count, found in answers.items():
        np.testing.assert_array_equal(found[:, 0], np.arange(count))


def test_a_pass_is_traced_when_it_has_been_or_will_be_run_often_but_never_on_the_clock():
    network = networks.seeded_sketch(1).network()
    ball, rows, offsets = question(network, samples=1)
    compiled = prepared_bounds(network, ball, rows, offsets).compiled
    compiled.passes = CALLS - 1
    with timed():
        for _ in range(2):
            lower_bounds(network, ball, rows, offsets)
    assert compiled.passes == CALLS + 1 and not compiled.is_traced
    lower_bounds(network, ball, rows, offsets)
    assert compiled.is_traced
    ball, rows, offsets = question(network, norm="l2", samples=1)
    with expecting(CALLS):
        lower_bounds(network, ball, rows, offsets)
    assert prepared_bounds(network, ball, rows, offsets).compiled.is_traced


def test_a_pass_reads_a_weight_once_and_the_next_pass_reads_it_anew():
    weight, reads = tf.Variable(np.eye(2)), []

    def read():
        reads.append(None)
        return tf.convert_to_tensor(weight)

    builder = Builder(tf.float64)
    hidden = builder.activation(builder.linear(builder.input((2,), "x"), DenseMap(read, (2,), 2)), "relu")
    network, _ = builder.network(builder.linear(hidden, DenseMap(read, (2,), 2)))
    ball, rows, offsets = LpBall(np.full((3, 2), 5.0), 1.0), np.broadcast_to(np.eye(2), (3, 2, 2)), np.zeros((3, 2))
    reads.clear()
    np.testing.assert_allclose(lower_bounds(network, ball, rows, offsets), np.full((3, 2), 4.0))
    assert len(reads) == 1
    for traced, scale in ((False, 2.0), (True, 3.0), (True, 4.0)):
        prepared_bounds(network, ball, rows, offsets).compiled.is_traced = traced
        weight.assign(scale * np.eye(2))
        np.testing.assert_allclose(lower_bounds(network, ball, rows, offsets), np.full((3, 2), 4 * scale**2))
    assert len(reads) == 3  # the two traced passes share what was traced


def test_in_eager_mode_a_kernel_is_compiled_once_its_work_has_paid_for_that_and_never_on_the_clock(monkeypatch):
    compiled = []
    monkeypatch.setattr(kernels, "traced", lambda function, **_: compiled.append(function) or function)
    values = tf.ones([2, kernels._WORTH_COMPILING + 1])
    monkeypatch.setattr(kernels, "_WORTH_COMPILING_NOW", 5 * kernels._WORTH_COMPILING)
    double = kernels.kernel()(lambda x: 2 * x)
    with kernels.fused_kernels(True):
        for _ in range(2):
            double(values)
        assert not compiled
        with timed():
            double(values)
        assert not compiled
        for _ in range(2):
            double(values)
    assert len(compiled) == 1


@pytest.mark.parametrize("method", ["ibp", "crown-ibp"])
def test_bounds_that_overflow_are_infinite_and_no_nan(method):
    """Sums of infinities of both signs are NaN, which no reader of bounds or margins expects."""
    model = keras.Sequential([keras.Input((2,)), *(keras.layers.Dense(2, activation="relu") for _ in range(3))])
    model.add(keras.layers.Dense(2))
    model.set_weights([part for _ in range(4) for part in (1e20 * np.array([[1.0, -1.0], [-1.0, 1.0]]), np.zeros(2))])
    x = np.zeros((1, 2), np.float32)
    found = tfcert.bounds(model, tfcert.LpBall(x, 1.0), method=method)
    assert (found.lower == -np.inf).all() and (found.upper == np.inf).all()
    assert tfcert.margins(model, tfcert.LpBall(x, 1.0), np.array([0]), method=method)[0, 1] == -np.inf
