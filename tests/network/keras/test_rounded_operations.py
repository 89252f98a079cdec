"""What programs compute of an operation lies within the bounds of the nodes that stand for it.

An operation may be bounded by others than its kernel computes (a logarithm of a sum of exponentials by softpluses), and
what these are charged must cover the kernel, too. At a point all of a bound's width is what is charged; bounds are
computed in float64, so that it is charged for the program alone.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L
from keras import ops as K
from sweeps import sweep_but

from tfcert.network import from_keras
from tfcert.propagation.bounds import output_bounds
from tfcert.propagation.supported import not_supported
from tfcert.roundoff import rounding_of
from tfcert.sets.balls import LpBall
from tfcert.sets.region import region_of

SHAPE = (2, 4)
LAYERS = {
    "dot": lambda x: L.Dot(axes=2)([x, x[:, ::-1] * 0.7]),
    "normalised dot": lambda x: L.Dot(axes=2, normalize=True)([x + 0.1, x[:, ::-1] - 0.3]),
    "group_normalization": lambda x: L.GroupNormalization(2)(x),
    "rms_normalization": lambda x: L.RMSNormalization()(x),
    "unit_normalization": lambda x: L.UnitNormalization()(x),
    "softmax": lambda x: L.Dense(2)(L.Softmax()(x)),
    "attention": lambda x: L.Attention()([x, x]),
    "recurrent": lambda x: L.LSTM(2)(x * 0.1),
}
UNARY = [
    "cos",
    "cumsum",
    "elu",
    "erf",
    "erfc",
    "gelu",
    "glu",
    "hard_shrink",
    "hard_silu",
    "layer_normalization",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "mean",
    "rms_normalization",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "softsign",
    "soft_shrink",
    "sparse_plus",
    "squareplus",
    "std",
    "tanh",
    "tanh_shrink",
    "var",
]
PAIRS = ["add", "divide", "hypot", "logaddexp", "maximum", "minimum", "multiply", "subtract"]
COMPOSED = ("erfc", "hypot", "log_softmax", "logaddexp", "logsumexp", "std", "tanh_shrink", "softmax")
"""Those whose kernels compute something else than the nodes."""
NOT_AT_ZERO = ("divide", "hypot", "std")
"""Nothing is known of them near 0, or of samples in a batch with such: they are tried at other numbers alone."""


def named(name: str) -> Callable:
    if name in LAYERS:
        return LAYERS[name]
    operation = getattr(K, name)
    if name in PAIRS:
        return lambda x: operation(x[:, 0], x[:, 1])
    reduces = name in ("cumsum", "log_softmax", "logsumexp", "mean", "std", "var")
    return lambda x: operation(x, axis=-1) if reduces else operation(x)


def points(rng: np.random.Generator) -> np.ndarray:
    """Numbers of one size and of many, far apart, close together and alike, and small ones beside zeros."""
    even = [rng.normal(size=SHAPE) * size for size in (1e-3, 0.3, 1.0, 3.0, 12.0)]
    mixed = [rng.normal(size=SHAPE) * 10.0 ** rng.uniform(-5, 1.2, SHAPE) for _ in range(6)]
    few = [
        np.where(np.arange(8).reshape(SHAPE) % 4 == k, -value, 0.0) for k, value in enumerate((9.0, 14.0, 1e-4, 0.6))
    ]
    near = [100 + 1e-3 * rng.normal(size=SHAPE), 1 + 1e-5 * rng.normal(size=SHAPE)]
    return np.array([*even, *mixed, *few, *near], np.float32)


@pytest.mark.parametrize("name", sweep_but(COMPOSED, dict.fromkeys((*COMPOSED, *UNARY, *PAIRS, *LAYERS))))
def test_what_programs_compute_of_an_operation_lies_within_its_bounds(name, seed):
    x = keras.Input(SHAPE)
    model = keras.Model(x, L.Flatten()(named(name)(x)))
    network, given = from_keras(model), points(np.random.default_rng(0))
    given = given[:5] if name in NOT_AT_ZERO else given
    assert not_supported(network) == ""
    ways = [lambda z: model(z, training=False)]
    ways += [tf.function(ways[0], autograph=False), tf.function(ways[0], autograph=False, jit_compile=True)]
    found = [way(tf.constant(given)).numpy().astype(np.float64) for way in ways]
    wide = network.astype(tf.float64).rounded(rounding_of("deployed", np.float32, np.float64))
    eye = np.eye(network.output_shape[0])
    rows = np.repeat([np.concatenate([eye, -eye])], len(given), axis=0), np.zeros((len(given), 2 * len(eye)))
    compared = 0
    for method in ("ibp", "crown"):
        region = region_of(LpBall(given.astype(np.float64), 0.0))
        low, high = np.split(output_bounds(wide, region, rows, method).numpy(), 2, axis=1)
        for value in found:
            known = np.isfinite(value) & np.isfinite(low) & np.isfinite(high)
            assert ((low <= value) & (value <= -high))[known].all(), method
            compared += int(known.sum())
    assert compared == 2 * len(found) * found[0].size
