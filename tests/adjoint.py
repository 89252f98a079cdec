"""Whether the products of a linear map belong together."""

import numpy as np
import tensorflow as tf

from tfcert.network import LinearMap


def assert_adjoint(linear_map: LinearMap, dtype: tf.DType, rng: np.random.Generator) -> None:
    """``<a, W x> = <W^T a, x>`` and ``|W x| <= |W| |x|``, with the shapes that the map declares."""
    x = tf.constant(rng.normal(size=(2, *linear_map.in_shape)), dtype)
    a = tf.constant(rng.normal(size=(2, *linear_map.out_shape)), dtype)
    y, back = linear_map.apply(x), linear_map.transpose(a)
    assert y.shape == a.shape
    assert back.shape == x.shape
    scale = float(tf.reduce_sum(tf.abs(a) * linear_map.abs_apply(tf.abs(x))))
    assert abs(float(tf.reduce_sum(a * y)) - float(tf.reduce_sum(back * x))) <= 1e-5 * scale
    assert np.all(np.abs(y) <= linear_map.abs_apply(tf.abs(x)).numpy() * (1 + 1e-5) + 1e-6)
