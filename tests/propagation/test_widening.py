"""The last pass in float64: as sound as that in float32, and charged less."""

from fractions import Fraction

import keras
import numpy as np
import pytest
import tensorflow as tf
from propagation.test_rounded_passes import convolutional, dense, exact, in_float32

from tfcert.network.graph import Linear
from tfcert.network.keras.graph import from_keras
from tfcert.propagation import widening
from tfcert.propagation.affine import affine_part
from tfcert.propagation.backward import linear_lower_bounds
from tfcert.propagation.coefficients import Coefficients
from tfcert.propagation.errors import linear_error, linear_size, no_errors
from tfcert.propagation.preactivation import backward_bounds, by_name, relax_before
from tfcert.roundoff import rounding_of
from tfcert.sets.balls import LpBall
from tfcert.sets.region import region_of

ROWS = np.array([[1, -1], [-1, 1], [1, 0.3]], np.float32)


def rounded(model, kind):
    return from_keras(model).rounded(rounding_of(kind, np.float32, np.float32))


def asked(network, ball):
    """The region, rows over the output, and all that a last pass by CROWN knows."""
    region = region_of(ball.astype(network.dtype.as_numpy_dtype))
    rows = Coefficients(tf.constant(ROWS[None, None], network.dtype), network.output_shape)
    relaxer, affine, errors = by_name(network, None), affine_part(network, region), no_errors(network, region)
    bounds = backward_bounds(network, region, relaxer, affine=affine, errors=errors)
    return rows, relax_before(network, network.output, relaxer, bounds, affine, errors), region


def both(network, ball):
    """Bounds by the last pass in float32 and in float64, ``[samples, rows]``."""
    rows, relaxed, region = asked(network, ball)
    assert widening.pays_in_float64(network, rows, relaxed, region)
    narrow, wide = (
        found(network, network.output, rows, relaxed, region) for found in (linear_lower_bounds, widening.last_pass)
    )
    assert wide.dtype == network.dtype
    return narrow.numpy(), wide.numpy()


@pytest.mark.parametrize("kind", ["deployed", "real"])
@pytest.mark.parametrize("bias", [1.0, 2.0**56])
def test_points_have_bounds_below_exact_and_computed_values(kind, bias):
    """Catches a bound that is not rounded down in the end, and giants that float64 absorbs without a charge."""
    rng = np.random.default_rng(3)
    for _ in range(2):
        model = dense((3, 12, 12, 2), rng, bias)
        weights, x = model.get_weights(), rng.random((5, 3)).astype(np.float32)
        narrow, wide = both(rounded(model, kind), LpBall(x, 0.0))
        assert (wide >= narrow).all() and (wide > narrow).any()
        for point, found in zip(x, wide, strict=True):
            values = [exact(weights, point)]
            if kind == "deployed":
                values += [[Fraction(float(v)) for v in in_float32(weights, point, rng)] for _ in range(6)]
            for lower, row in zip(found, ROWS, strict=True):
                least = min(sum(Fraction(float(c)) * v for c, v in zip(row, value, strict=True)) for value in values)
                assert Fraction(float(lower)) <= least


@pytest.mark.parametrize(("norm", "clip"), [("linf", None), ("l1", (0, 1))])
def test_no_more_than_the_program_s_own_rounding_is_left(norm, clip):
    """Every kind of node and ball: what is lost to bounds without any charge shrinks, and nothing is gained on them."""
    rng = np.random.default_rng(1)
    model = convolutional(rng)
    x = rng.random((3, *model.input_shape[1:])).astype(np.float32)
    ball, network = LpBall(x, 1e-6, norm, clip), rounded(model, "real")
    narrow, wide = both(network, ball)
    exact = network.rounded(None).astype(tf.float64)
    plain = linear_lower_bounds(exact, exact.output, *asked(exact, ball)).numpy()
    assert (wide <= plain).all() and (narrow < wide).all()
    assert np.median((plain - wide) / (plain - narrow)) < 0.7


def test_lines_of_a_curve_are_those_of_float32():
    """CROWN's bounds of points behind curved functions are below the model's values, and behind a wide last pass."""
    rng = np.random.default_rng(0)
    model = dense((3, 12, 12, 2), rng, 1.0)
    for layer in model.layers[:-1]:
        layer.activation = tf.tanh
    x = rng.random((4, 3)).astype(np.float32)
    network = rounded(model, "deployed")
    narrow, wide = both(network, LpBall(x, 0.0))
    assert (wide > narrow).all()
    for values in (model(x).numpy(), network.astype(tf.float64)(tf.cast(x, tf.float64)).numpy()):
        assert (values.astype(np.float64) @ ROWS.astype(np.float64).T >= wide).all()


def test_where_many_rows_or_products_are_asked_about_the_pass_stays_in_float32():
    """Where it would take longest; and through planes, which are no numbers that are read as they are."""
    rng = np.random.default_rng(0)
    network = rounded(dense((3, 12, 2), rng, 1.0), "deployed")  # one layer, whose interval is exact
    assert not widening.pays_in_float64(network, *asked(network, LpBall(np.zeros((1, 3), np.float32), 0.1)))
    network = rounded(dense((3, 12, 12, 2), rng, 1.0), "deployed")
    rows, *known = asked(network, LpBall(np.zeros((1, 3), np.float32), 0.1))
    assert widening.pays_in_float64(network, rows, *known)
    assert not widening.pays_in_float64(network, Coefficients(tf.ones([1, 1, 40, 2]), (2,)), *known)
    assert not widening.pays_in_float64(network.rounded(None), rows, *known)


@pytest.mark.parametrize("kind", ["deployed", "real"])
def test_weights_that_were_computed_in_float32_are_charged_as_such_in_float64(kind):
    """A copy in float64 reads scales that float32 arithmetic found: catches their charge at the unit of float64."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.BatchNormalization(), keras.layers.Dense(1)])
    network = from_keras(model).astype(tf.float64).rounded(rounding_of(kind, np.float32, np.float64))
    (node,) = (node for node in network.nodes if isinstance(node, Linear) and node.computed)
    m = tf.ones([1, 1], tf.float64)
    lost = float(linear_error(node, m, 1)[0, 0])
    size = float(linear_size(node, m)[0][0, 0])
    # Of our own roundings, and as many of the program's.
    assert lost >= node.computed * 2.0**-24 * size * (2 if kind == "deployed" else 1)
