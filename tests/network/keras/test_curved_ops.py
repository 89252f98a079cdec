"""Operations that bend numbers or choose between them: what Keras computes, bounded, or refused with a way out."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L
from keras import ops
from unrounded import IGNORED

import tfcert
from tfcert.network import Elementwise, UnsupportedLayerError, from_keras

MASK = np.array([[True, False, True]])
LIMITS = np.array([-0.5, 0.0, 0.2], np.float32)
BENT = {
    "square": lambda x: ops.square(x),
    "x ** 2": lambda x: x**2,
    "x ** 3": lambda x: x**3,
    "x ** -1": lambda x: (x + 5.0) ** -1,
    "x ** 0": lambda x: x**0,
    "x ** 1": lambda x: x**1,
    "2 ** x": lambda x: 2.0**x,
    "a root": lambda x: ops.abs(x) ** 0.5,
    "a fractional power": lambda x: ops.abs(x) ** 2.5,
    "1 / x": lambda x: 1 / (x + 5.0),
    "a constant by a tensor": lambda x: ops.divide(LIMITS[None], x + 5.0),
    "sqrt": lambda x: ops.sqrt(ops.abs(x)),
    "rsqrt": lambda x: ops.rsqrt(ops.square(x) + 0.5),
    "exp": ops.exp,
    "expm1": ops.expm1,
    "exp2": ops.exp2,
    "log": lambda x: ops.log(x + 5.0),
    "log1p": lambda x: ops.log1p(ops.abs(x)),
    "log2": lambda x: ops.log2(x + 5.0),
    "log10": lambda x: ops.log10(x + 5.0),
    "sin": ops.sin,
    "cos": ops.cos,
    "sinh": ops.sinh,
    "cosh": ops.cosh,
    "arcsinh": ops.arcsinh,
    "erf": ops.erf,
    "erfc": ops.erfc,
    "sign": ops.sign,
    "degrees": lambda x: ops.rad2deg(ops.deg2rad(x) + 1.0),
    "threshold": lambda x: ops.threshold(x, 0.1, 0.3),
    "hard shrink": ops.hard_shrink,
    "tanh shrink": ops.tanh_shrink,
}
CHOSEN = {
    "maximum": lambda x: ops.maximum(x, ops.sin(x)),
    "minimum": lambda x: ops.minimum(ops.cos(x), x),
    "maximum of three": lambda x: L.Maximum()([x, ops.sin(x), ops.cos(x)]),
    "minimum of layers": lambda x: L.Minimum()([x, ops.sin(x)]),
    "broadcast": lambda x: ops.maximum(x, x[:, :1]),
    "clip to arrays": lambda x: ops.clip(x, [-0.5, 0.0, 0.2], [0.1, 0.4, 0.9]),
    "clip to a number and an array": lambda x: ops.clip(x, -1.0, [-0.5, 0.0, 0.2]),
    "where": lambda x: ops.where(MASK, x, ops.exp(x)),
    "where of a list": lambda x: ops.where([[True, False, True]], ops.exp(x), x),
    "where or a number": lambda x: ops.where(MASK, x, 0.5),
    "a number or an array": lambda x: ops.where(MASK, LIMITS, x),
    "logaddexp": lambda x: ops.logaddexp(x, ops.sin(x)),
    "logaddexp of a constant": lambda x: ops.logaddexp(LIMITS[None], x),
    "logsumexp": lambda x: ops.logsumexp(x, axis=-1, keepdims=True),
    "logsumexp without the axis": lambda x: ops.logsumexp(ops.reshape(x, (-1, 3, 1)), axis=(1, 2))[:, None],
    "log softmax": ops.log_softmax,
    "log softmax as an activation": L.Activation("log_softmax"),
    "gated": lambda x: ops.glu(ops.concatenate([x, ops.sin(x)], axis=-1)),
    "quotient": lambda x: x / (ops.square(x) + 1.0),
    "hypot": lambda x: ops.hypot(x, ops.cos(x) + 2.0),
}


def model_of(function):
    x = keras.Input((3,))
    return keras.Model(x, function(x))


@pytest.mark.parametrize("function", [*BENT.values(), *CHOSEN.values()], ids=[*BENT, *CHOSEN])
def test_the_network_is_the_model_and_its_bounds_hold(function, rng, eager):
    """Values as Keras's, and over a box two methods whose bounds no sample leaves."""
    model = model_of(function)
    network = from_keras(model)
    x = rng.normal(size=(40, 3)).astype(np.float32)
    expected = model(x).numpy()
    scale = np.abs(expected).max()
    np.testing.assert_allclose(network(tf.constant(x)), expected, rtol=2e-6, atol=2e-6 * scale)
    eps = 0.1
    inside = x[None] + rng.uniform(-eps, eps, size=(300, *x.shape)).astype(np.float32)
    inside[:2] = np.clip(inside[:2] + np.array([1, -1])[:, None, None], x - eps, x + eps)
    values = model(inside.reshape(-1, 3)).numpy().reshape(300, 40, -1)
    for method in ("ibp", "crown"):
        found = tfcert.bounds(model, tfcert.LpBall(x, eps), method=method, options=tfcert.BoundOptions(jit=False))
        slack = 1e-5 * (1 + np.abs(values).max(axis=0))
        assert np.isfinite(found.lower).all() and np.isfinite(found.upper).all()
        assert (found.lower <= values.min(axis=0) + slack).all() and (values.max(axis=0) <= found.upper + slack).all()
        assert (found.upper - found.lower).max() < 40 * (values.max(axis=0) - values.min(axis=0)).max() + 1e-3


def test_a_power_that_bends_nothing_leaves_no_activation():
    for exponent in (0, 1):
        assert not any(isinstance(n, Elementwise) for n in from_keras(model_of(lambda x, p=exponent: x**p)).nodes)


def test_logsumexp_does_not_overflow_and_its_bounds_are_close():
    x = np.array([[1000.0, 999.0, -1000.0], [-1000.0, -1000.0, -1000.0]], np.float32)
    model = model_of(lambda x: ops.logsumexp(x, axis=-1, keepdims=True))
    found = tfcert.bounds(model, tfcert.LpBall(x, 0.25), method="crown", options=IGNORED)
    value = model(x).numpy()
    np.testing.assert_allclose(found.lower, value - 0.25, atol=1e-3)
    np.testing.assert_allclose(found.upper, value + 0.25, atol=0.06)


REFUSED = {
    "a tensor to the power of a tensor": (lambda x: x ** ops.sin(x), r"exp\(y \* log\(x\)\)"),
    "an array of exponents": (lambda x: x**LIMITS, "one number for all"),
    "a base below zero": (lambda x: (-2.0) ** x, "one number above zero"),
    "a choice by a tensor": (lambda x: ops.where(x > 0, x, ops.sin(x)), "maximum, minimum, relu"),
    "all axes": (lambda x: ops.reshape(ops.logsumexp(x), (1, 1)) + x, "takes in the batch"),
    "Lambda": (L.Lambda(ops.square, output_shape=(3,)), "keras.ops on the tensors"),
}


@pytest.mark.parametrize(("function", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_says_what_to_do(function, message):
    with pytest.raises(UnsupportedLayerError, match=message):
        from_keras(model_of(function))
