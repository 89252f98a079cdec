"""alpha-CROWN and FROWN: never looser than where they start, and as tight as slopes can make the rows."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from soundness import networks
from soundness.networks import Sketch, flatten
from sweeps import sweep_but

from tfcert import BoundOptions
from tfcert.activations import activation, lines
from tfcert.network.graph import Elementwise, Network
from tfcert.propagation import kernels, open_lines, optimised
from tfcert.propagation.affine import affine_part
from tfcert.propagation.ascent import Ascent
from tfcert.propagation.bounds import output_bounds
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.engine import lower_bounds
from tfcert.propagation.plan import entries_per_row
from tfcert.sets.balls import Box, LpBall, Perturbation
from tfcert.sets.region import region_of


def bounds(
    network: Network, region: Perturbation, rows: np.ndarray, method: str, relaxation: str | None = None, steps: int = 8
) -> np.ndarray:
    """Bounds as the engine computes them: in graph mode but for tests that say ``eager``."""
    rows = np.broadcast_to(rows, (len(region), *rows.shape[-2:]))
    options = BoundOptions(iterations=steps)
    zeros = np.zeros(rows.shape[:2])
    return lower_bounds(network, region, rows, zeros, method=method, relaxation=relaxation, options=options)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("relaxation", [None, "fastlin"])
@pytest.mark.parametrize(("seed", "norm"), [(1, "l2"), (2, "l1")])
def test_no_row_is_below_the_relaxation_it_starts_from(seed, relaxation, norm):
    s = networks.seeded_sketch(seed)
    region = LpBall(s.rng.uniform(0, 1, (2, *s.shapes[0])), [0.1, 0.03], norm)
    network, rows = s.network(), np.concatenate([np.eye(3), -np.eye(3)])
    start = bounds(network, region, rows, "crown", relaxation)
    found = bounds(network, region, rows, "alpha-crown", relaxation)
    assert np.all(found >= start - 1e-12)


@pytest.mark.usefixtures("eager")
def test_more_steps_are_never_worse():
    s = networks.block_sketch(networks.conv_block, 1)
    region = LpBall(s.rng.uniform(0, 1, (2, *s.shapes[0])), 0.1)
    found = [bounds(s.network(), region, np.eye(3), "alpha-crown", steps=k) for k in (1, 4, 12)]
    assert np.all(found[0] <= found[1] + 1e-12) and np.all(found[1] <= found[2] + 1e-12)
    assert found[2].sum() > found[0].sum() + 1e-3


def test_the_best_slope_below_a_relu_is_found():
    # relu(z) - z/2 on [-1, 1] is at least 0, which only the slope 1/2 proves: crown's slopes 0 and 1 prove -1/2.
    s = Sketch(np.random.default_rng(0))
    x = s.input((1,))
    bend = s.activate(s.scale(x, np.ones(1, np.float32), None))
    s.sum(bend, s.scale(x, np.full(1, -0.5, np.float32), None))
    box = Box(np.full((1, 1), -1.0), np.full((1, 1), 1.0))
    network = s.network()
    np.testing.assert_allclose(bounds(network, box, np.eye(1), "crown"), -0.5, atol=1e-12)
    assert -1e-2 <= bounds(network, box, np.eye(1), "alpha-crown", steps=40)[0, 0] <= 0


def test_rows_have_slopes_of_their_own():
    # relu(z) - z/4 and relu(z) - 3z/4 are at least 0, by the slopes 1/4 and 3/4: no one slope proves both.
    s = Sketch(np.random.default_rng(0))
    x = s.input((1,))
    bend = s.activate(s.scale(x, np.ones(1, np.float32), None))
    parts = [s.sum(bend, s.scale(x, np.full(1, -share, np.float32), None)) for share in (0.25, 0.75)]
    s.concatenate(parts, axis=0)
    box = Box(np.full((1, 1), -1.0), np.full((1, 1), 1.0))
    network = s.network()
    own = bounds(network, box, np.eye(2), "alpha-crown", steps=60)
    assert np.all((own >= -2e-2) & (own <= 0))


def test_each_neuron_of_a_convolution_has_slopes_of_its_own():
    # relu(z) - share z is at least 0, by a slope below the ReLU of that share, and the shares differ by position: one
    # slope for both leaves a neuron 0.4 below, and the output then is at least -0.28 for each.
    s = Sketch(np.random.default_rng(0))
    z = s.scale(s.input((1, 2, 1)), np.ones(1, np.float32), None)
    share = np.array([0.1, 0.9], np.float32).reshape(1, 2, 1)
    inner = s.sum(s.activate(z), s.scale(z, -share, None))
    below = s.activate(s.scale(inner, np.full(1, -1, np.float32), None))
    s.scale(flatten(s, below), np.full(2, -1, np.float32), None)
    box = Box(np.full((1, 1, 2, 1), -1.0), np.full((1, 1, 2, 1), 1.0))
    found = bounds(s.network(), box, np.eye(2), "alpha-crown", steps=60)
    assert np.all((found >= -0.05) & (found <= 1e-12))


def test_neurons_that_climb_in_pieces_have_the_bounds_that_they_have_together(monkeypatch):
    # The last piece is filled up, and what is found belongs to the neuron that climbed.
    s = networks.block_sketch(networks.conv_block, 3)
    region = LpBall(s.rng.uniform(0, 1, (2, *s.shapes[0])), 0.1)
    rows = np.concatenate([np.eye(3), -np.eye(3)])
    together = bounds(s.network(), region, rows, "alpha-crown")
    network = s.network()
    monkeypatch.setattr(optimised, "_PIECE", 6 * max(entries_per_row(network, i) for i in network.bounded()))
    np.testing.assert_allclose(bounds(network, region, rows, "alpha-crown"), together, atol=1e-9)


@pytest.mark.parametrize("name", ["relu", "sigmoid", "softplus", "prelu"])
def test_a_step_by_chosen_lines_and_its_gradient_are_those_of_the_lines(name):
    rng = np.random.default_rng(1)
    kinds = {"prelu": {"alpha": lambda: tf.constant([0.5, -0.2, 1.5, 0.1])}}
    act = activation(name, **kinds.get(name, {}))
    s = Sketch(rng)
    s.dense(s.input((3,)), 4)
    before = s.network().nodes
    node = Elementwise(name="bend", inputs=(1,), shape=(4,), activation=act)
    network = Network((*before, node), tf.float64)
    lower = tf.constant(rng.uniform(-2, 0.3, (2, 4)))
    upper = lower + rng.uniform(0.5, 3, (2, 4))
    affine = affine_part(network, region_of(LpBall(rng.uniform(0, 1, (2, 3)), 0.1)))
    opened = open_lines.opened(network, 2, {1: (lower, upper)}, None, affine)
    assert isinstance(opened, open_lines.OpenLines) and opened.biased == 1
    values, weights = (tf.constant(rng.normal(size=(2, 1, 3, 4))) for _ in range(2))
    rows = Coefficients(values, (4,))
    ranges = act.slope_ranges(lower, upper)
    choices = [tf.constant(rng.uniform(0, 1, (2, 1, 3, 4))) for pair in ranges if pair is not None]

    def plain(values: tf.Tensor, choices: list[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        parts = iter(choices)
        slopes = []
        for named, pair in zip(act.slopes(None, lower, upper), ranges, strict=True):
            least, most = (named, named) if pair is None else pair
            least, most = (end[:, None, None] for end in (least, most))
            slopes.append(least + (0 if pair is None else next(parts)) * (most - least) + tf.zeros_like(values))
        low, below, high, above = lines(act, (slopes[0], slopes[1]), lower[:, None, None], upper[:, None, None])
        bent, constant = kernels.by_sign_both(values, low, below, high, above)
        return bent, constant + tf.reduce_sum(bent * affine.values[1][:, None, None], axis=-1)

    def stepped(values: tf.Tensor, choices: list[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        found, constant = opened.over(rows).back(replace(rows, values=values), choices)
        return found.values, constant

    results = []
    for function in (plain, stepped):
        with tf.GradientTape() as tape:
            tape.watch([values, choices])
            bent, constant = function(values, choices)
            total = tf.reduce_sum(bent * weights) + tf.reduce_sum(constant * weights[..., 0])
        results.append([bent, constant, *tf.nest.flatten(tape.gradient(total, [values, choices]))])
    for wanted, found in zip(*results, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-9)


def test_the_gradient_of_a_size_by_fixed_weights_is_that_of_the_size():
    rng = np.random.default_rng(2)
    values, weights, given = (tf.constant(rng.normal(size=n)) for n in ((1, 3, 2, 5), (1, 3, 1, 5), (1, 3, 2)))
    found = []
    for function in (kernels.weighted_size, kernels.size_by_fixed_weights):
        with tf.GradientTape() as tape:
            tape.watch(values)
            size = function(values, weights)
        found.append((size, tape.gradient(size, values, output_gradients=given)))
    for wanted, other in zip(*found, strict=True):
        np.testing.assert_allclose(other, wanted, atol=1e-12)


BLOCKS = (networks.conv_block, networks.residual_block, networks.max_pool_block, networks.concatenate_block)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("block", sweep_but([networks.conv_block, networks.max_pool_block], BLOCKS))
def test_alpha_crown_gains_over_crown_nearly_all_that_frown_gains_or_more(block):
    s = networks.block_sketch(block, 2)
    region = LpBall(s.rng.uniform(0, 1, (2, 4, 4, 2)), 0.08)
    rows = np.concatenate([np.eye(3), -np.eye(3)])
    network = s.network()
    crown = bounds(network, region, rows, "crown")
    frown = bounds(network, region, rows, "crown", "frown")
    alpha = bounds(network, region, rows, "alpha-crown")
    assert np.all(frown >= crown - 1e-12) and np.all(alpha >= crown - 1e-12)
    assert (alpha - crown).mean() >= 0.95 * (frown - crown).mean()
    np.testing.assert_allclose(bounds(network, region, rows, "alpha-crown", "frown"), frown, atol=1e-12)


def test_levels_of_pooling_planes_are_optimised():
    s = Sketch(np.random.default_rng(5))
    x = s.conv(s.input((5, 5, 1)), 3, (2, 2))
    x = s.max_pool(x, (2, 2), (2, 2), ((0, 0), (0, 0)))  # no activation: nothing but planes to choose
    s.dense(flatten(s, x), 3)
    network, region = s.network(), LpBall(s.rng.uniform(0, 1, (2, 5, 5, 1)), 0.3)
    rows = np.concatenate([np.eye(3), -np.eye(3)])
    crown, alpha = (bounds(network, region, rows, method, steps=20) for method in ("crown", "alpha-crown"))
    assert np.all(alpha >= crown) and (alpha - crown).mean() > 1e-3


def test_passes_cut_for_memory_give_sound_bounds_no_looser_than_crown():
    s = networks.block_sketch(networks.conv_block, 1)
    region = LpBall(s.rng.uniform(0, 1, (3, *s.shapes[0])), 0.1).astype(np.float32)
    network, rows = s.network(tf.float32), np.broadcast_to(np.eye(3), (3, 3, 3))
    options = BoundOptions(memory_mb=1, iterations=4)
    zeros = np.zeros((3, 3))
    crown, alpha = (
        lower_bounds(network, region, rows, zeros, method=m, options=options) for m in ("crown", "alpha-crown")
    )
    assert np.all(alpha >= crown)
    points = region.x[None] + s.rng.uniform(-0.1, 0.1, (200, *region.x.shape)).astype(np.float32)
    values = network(tf.constant(points.reshape(-1, *s.shapes[0]))).numpy().reshape(200, 3, 3)
    assert np.all(values.min(axis=0) >= alpha - 1e-4)


@pytest.mark.sweep
def test_whole_pass_xla_gives_the_same_optimised_bounds():
    s = Sketch(np.random.default_rng(1))
    x = s.activate(s.conv(s.input((3, 3, 1)), 2, (2, 2)))
    s.dense(s.activate(s.dense(flatten(s, x), 4)), 3)
    region = LpBall(s.rng.uniform(0, 1, (2, *s.shapes[0])), 0.3)
    network, rows = s.network(), np.broadcast_to(np.eye(3), (2, 3, 3))
    found = [
        lower_bounds(
            network, region, rows, np.zeros((2, 3)), method="alpha-crown", options=BoundOptions(iterations=2, jit=jit)
        )
        for jit in (False, True)
    ]
    np.testing.assert_allclose(*found, atol=1e-9)


def test_a_method_without_backward_passes_to_optimise_refuses_frown():
    network = networks.seeded_sketch(0).network()
    region = region_of(LpBall(np.zeros((1, *network.input_shape)), 0.1))
    with pytest.raises(ValueError, match="frown goes with crown and alpha-crown, not with ibp"):
        output_bounds(
            network, region, (tf.eye(3, dtype=tf.float64)[None], tf.zeros([1, 3], tf.float64)), "ibp", "frown"
        )


def test_a_search_without_steps_is_refused():
    with pytest.raises(ValueError, match="iterations must be positive"):
        BoundOptions(iterations=0)
    assert Ascent().iterations == BoundOptions().iterations
