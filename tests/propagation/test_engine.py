"""The compiled engine: what it runs is what the plain functions compute, at full precision."""

import numpy as np
import pytest
import tensorflow as tf
from soundness import networks

from tfcert.propagation import engine
from tfcert.propagation.bounds import output_bounds
from tfcert.propagation.engine import lower_bounds
from tfcert.sets.balls import LpBall
from tfcert.sets.region import region_of


def question(network, eps=0.1, norm="linf", samples=3):
    x = np.random.default_rng(5).normal(size=(samples, *network.input_shape))
    ball = LpBall(x, eps, norm)
    rows = np.broadcast_to(np.eye(network.output_shape[0]), (samples, *[network.output_shape[0]] * 2))
    return ball, rows, np.zeros(rows.shape[:2])


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("block", [*networks.IMAGE_BLOCKS, networks.activation_block], ids=lambda b: b.__name__)
def test_a_compiled_pass_computes_what_the_plain_functions_do(block, norm):
    network = networks.block_sketch(block, 3).network()
    ball, rows, offsets = question(network, norm=norm)
    compiled = lower_bounds(network, ball, rows, offsets, method="crown")
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


def test_batches_are_padded_or_cut_to_sizes_that_ran_until_that_has_cost_a_compilation():
    sizes = []

    def run(values):
        sizes.append(int(values.shape[0]))
        return values, True

    compiled = engine._Compiled(run, floats=engine._COMPILATION / 20, usual=25)
    answers = {count: compiled([tf.range(float(count))[:, None]], 100) for count in (50, 45, 3)}
    # 50 as two passes, 45 padded by 5; 3 padded by 22 would cost more than compiling for 3 does.
    assert sizes == [25, 25, 25, 25, 3]
    for count, answer in answers.items():
        np.testing.assert_array_equal(answer[:, 0], np.arange(count))
