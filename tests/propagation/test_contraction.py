"""Rows through contractions of odd shapes."""

import numpy as np
import tensorflow as tf

from tfcert.propagation.contraction import _summed


def test_an_axis_of_length_one_stays_where_every_leading_axis_is_long():
    """TensorFlow's squeeze of no axes is one of all, which made matrices of one row refuse to be multiplied."""
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 3, 4, 1, 5)), rng.normal(size=(2, 3, 4, 5, 6))
    found = _summed((tf.constant(first), "SGR", "ij"), (tf.constant(second), "SGR", "jk"), ("SGR", "ik"))
    np.testing.assert_allclose(found, np.einsum("sgrij,sgrjk->sgrik", first, second), atol=1e-12)
