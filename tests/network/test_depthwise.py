"""Convolutions of single channels: the same products, however they are written."""

import numpy as np
import pytest
import tensorflow as tf

from tfcert.network.linear import ConvMap

CASES = {
    "plain": (64, 1, (3, 3), {"padding": ((1, 1), (1, 1))}),
    "two outputs of each": (64, 2, (3, 2), {"padding": ((1, 0), (0, 1)), "strides": (2, 2)}),
    "dilated": (70, 1, (3, 3), {"padding": ((2, 1), (1, 2)), "strides": (2, 2), "dilation": (2, 2)}),
    "two strides": (64, 1, (3, 3), {"padding": ((1, 1), (1, 1)), "strides": (1, 2)}),
    "a large window": (64, 1, (8, 9), {"strides": (3, 3)}),
}


class BetweenAll(ConvMap):
    """The same with the kernel between all channels written out."""

    _by_channel = False


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("traced", [False, True])
def test_products_are_those_of_the_kernel_between_all_channels(name, traced, rng):
    channels, times, size, options = CASES[name]
    kernel = rng.normal(size=(*size, 1, channels * times))
    x = tf.constant(rng.normal(size=(2, 12, 11, channels)))

    def one(kind):
        return kind(lambda: tf.constant(kernel), kernel.shape, x.shape[1:], groups=channels, **options)

    mine, written_out = one(ConvMap), one(BetweenAll)
    a = tf.constant(rng.normal(size=(2, *written_out.out_shape)))
    for what, given in (("apply", x), ("abs_apply", x), ("square_apply", x), ("transpose", a)):
        asked = getattr(mine, what)
        found = tf.function(asked)(given) if traced else asked(given)
        np.testing.assert_allclose(found, getattr(written_out, what)(given), rtol=0, atol=1e-9)
