"""No point of a region leaves the bounds, for networks, regions and methods drawn at random."""

import os
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from methods import GENERAL
from sweeps import sweep_but
from unrounded import IGNORED

from soundness import networks, regions
from soundness.allowance import allowance
from tfcert import BoundOptions
from tfcert.network import from_keras
from tfcert.network.graph import Network
from tfcert.propagation.ascent import Ascent
from tfcert.propagation.bounds import output_bounds
from tfcert.propagation.engine import lower_bounds
from tfcert.propagation.supported import with_charges
from tfcert.sets.balls import LpBall, Perturbation
from tfcert.sets.region import region_of

METHODS = GENERAL

DEPTH = int(os.environ.get("TFCERT_EXAMPLES", "1"))
"""How many times the usual number of examples is tried; above 1 the examples are not always the same."""
SETTINGS = settings(
    max_examples=8 * DEPTH,
    deadline=None,
    derandomize=DEPTH == 1,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate,) if DEPTH == 1 else tuple(Phase),  # shrinking takes minutes
)
RELAXATIONS = ("fastlin", "crown")


def bounds_of(network: Network, region: Perturbation, rows: np.ndarray, method: str, relaxation: str) -> np.ndarray:
    coefficients = tf.constant(rows, network.dtype)
    asked = (coefficients, coefficients[:, :, 0])
    return output_bounds(network, region_of(region), asked, method, relaxation, ascent=Ascent(iterations=2)).numpy()


def assert_sound(
    network: Network, precise: Network, region: Perturbation, method: str, relaxation: str, rng: np.random.Generator
) -> None:
    """Rows ``C y + d`` (d is C's first column) of every adversary are at least a bound that is charged for rounding.

    Nothing is allowed for. Rows are evaluated in more digits than they are charged for.
    """
    outputs = network.output_shape[0]
    rows = np.concatenate([np.eye(outputs), rng.normal(size=(2, outputs))]).astype(np.float32)
    rows = np.broadcast_to(rows, (len(region), *rows.shape))
    region = region.astype(network.dtype.as_numpy_dtype)
    charged = with_charges(network, method, relaxation, BoundOptions())
    assert charged.rounding is not None
    lower = bounds_of(charged, region, rows, method, relaxation).astype(np.longdouble)
    points = regions.adversaries(precise, region, rows, rng)
    flat = tf.constant(points.reshape(-1, *points.shape[2:]), tf.float64)
    exact = rows.astype(np.longdouble)
    values = np.einsum("sro,pso->psr", exact, precise(flat).numpy().reshape(len(points), len(region), outputs))
    assert np.isfinite(lower).all()
    excess = (lower - exact[:, :, 0] - values.min(axis=0)).max()
    assert excess <= 0, f"{method}/{relaxation}: a bound lies {float(excess):.3g} above a value"


@pytest.mark.parametrize("method", METHODS)
@SETTINGS
@given(sketch=networks.sketches(), data=st.data())
def test_no_point_leaves_the_bounds_of_a_generated_network(method, sketch, data):
    def pick(options):
        return options[data.draw(st.integers(0, len(options) - 1))]

    dtype = pick([tf.float64, tf.float32])
    region = regions.perturbation(pick, sketch.rng, sketch.shapes[0])
    assert_sound(sketch.network(dtype), sketch.network(), region, method, pick(RELAXATIONS), sketch.rng)


@pytest.mark.parametrize("block", networks.IMAGE_BLOCKS, ids=lambda block: block.__name__)
def test_no_point_leaves_the_bounds_around_each_kind_of_block(block):
    for seed, method in enumerate(("crown", "forward", "crown", "ibp")):
        sketch = networks.block_sketch(block, seed)
        region = LpBall(sketch.rng.uniform(0, 1, (2, 4, 4, 2)), [0.2, 0.05], ("linf", "l2", "l1", "l2")[seed], (0, 1))
        network = sketch.network()
        assert_sound(network, network, region, method, RELAXATIONS[seed // 2], sketch.rng)


@pytest.mark.parametrize("seed", sweep_but(range(4), range(8)))
def test_no_point_leaves_the_bounds_of_a_keras_model(seed):
    model = networks.keras_model(seed, "float64")
    network = from_keras(model)
    pick, rng = networks.seeded(seed)
    region = regions.perturbation(pick, rng, network.input_shape)
    for method in ("crown", METHODS[seed % 4]):
        assert_sound(network, network, region, method, pick(RELAXATIONS), rng)


def test_the_allowance_is_small_beside_what_bounds_leave_open():
    ratios = {tf.float32: [], tf.float64: []}
    for seed in range(16):
        sketch = networks.seeded_sketch(seed)
        region = LpBall(sketch.rng.uniform(0, 1, (1, *sketch.shapes[0])), 0.1)
        rows = np.concatenate([np.eye(3), -np.eye(3)])[None]
        for dtype, found in ratios.items():
            network, cast = sketch.network(dtype), region.astype(dtype.as_numpy_dtype)
            lower = bounds_of(network, cast, rows, "crown-ibp", "crown") - rows[:, :, 0]
            width = -lower[:, :3] - lower[:, 3:]
            found.append(np.median(allowance(network, region_of(cast), rows)[:, :3] / width))
    assert np.median(ratios[tf.float32]) < 0.02
    assert np.max(ratios[tf.float64]) < 1e-7


@pytest.mark.parametrize("seed", sweep_but([1], [1, 2]))
def test_compiled_bounds_equal_those_of_the_same_operations_run_one_by_one(seed):
    sketch = networks.seeded_sketch(seed)
    network = sketch.network(tf.float32)
    region = LpBall(sketch.rng.uniform(0, 1, (3, *sketch.shapes[0])).astype(np.float32), [0.1, 0.05, 0.2])
    rows = sketch.rng.normal(size=(3, 4, 3)).astype(np.float32)
    eager = output_bounds(network, region_of(region), (tf.constant(rows), tf.zeros([3, 4])), "crown").numpy()
    for jit in (True, False):
        found = lower_bounds(network, region, rows, np.zeros((3, 4)), options=replace(IGNORED, jit=jit))
        assert np.all(np.abs(found - eager) <= 2 * allowance(network, region_of(region), rows))
