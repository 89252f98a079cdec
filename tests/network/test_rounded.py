"""A rounded network is the same network, and says on each node what bounds of it are charged."""

import math
from fractions import Fraction

import keras
import numpy as np
import pytest
import six_neurons
import tensorflow as tf

import tfcert
from tfcert.network.joint import Applied, joint
from tfcert.network.keras.graph import from_keras
from tfcert.options import BoundOptions
from tfcert.propagation.supported import not_supported, with_charges
from tfcert.roundoff import Rounding, gamma, rounding_of


def network():
    return from_keras(six_neurons.network(3))


SINGLE = Rounding(2.0**-24, 2.0**-24, 2.0**-24, float(np.finfo(np.float32).tiny))


def test_a_copy_in_another_type_is_about_the_model_s_own():
    """Catches a float64 copy of a float32 model whose bounds are charged as if the model computed in float64."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    network = from_keras(model)
    charged = with_charges(network.astype(tf.float64), "crown", None, BoundOptions())
    assert charged.rounding is not None
    assert (charged.rounding.deployed, charged.rounding.own) == (2.0**-24, 2.0**-53)
    assert with_charges(network.astype(tf.float64).astype(tf.float32), "ibp", None, BoundOptions()).rounding is not None
    start = keras.Input((3,), dtype="float64")
    wide = from_keras(keras.Model(start, keras.layers.Dense(2, dtype="float64")(start)))
    assert with_charges(wide.astype(tf.float32), "crown", None, BoundOptions()).rounding is None


def test_units_and_the_smallest_number_are_those_of_the_types():
    assert rounding_of("deployed", np.float32, np.float32) == SINGLE
    assert rounding_of("deployed", np.float32, np.float64) == Rounding(2.0**-24, 2.0**-53, 2.0**-24, SINGLE.tiny)
    assert rounding_of("real", np.float64, np.float64) == Rounding(
        0.0, 2.0**-53, 2.0**-53, float(np.finfo(np.float64).tiny)
    )
    assert rounding_of("ignore", np.float32, np.float32) is None


@pytest.mark.parametrize("unit", [2.0**-24, 2.0**-53])
@pytest.mark.parametrize("terms", [0, 1, 3, 7, 1000, 12345])
def test_gamma_is_not_below_its_exact_value(terms, unit):
    size = Fraction(terms) * Fraction(unit)
    assert Fraction(gamma(terms, unit)) >= size / (1 - size)


def test_gamma_is_infinite_where_it_says_nothing():
    assert gamma(2**23, 2.0**-24) == math.inf


def test_each_node_says_what_it_is_charged_and_the_network_is_kept():
    plain = network()
    rounded = plain.rounded(SINGLE)
    assert plain.rounding is None and plain.rounded(None) is plain
    assert rounded is plain.rounded(SINGLE)
    for made in (rounded, rounded.with_weights_read(), rounded.astype(tf.float64), rounded.astype(tf.float16)):
        assert {node.rounding for node in made.nodes} == {SINGLE}
    assert {node.rounding for node in rounded.rounded(None).nodes} == {None}


def test_a_joint_network_is_charged_as_its_applications_are():
    rounded = network().rounded(SINGLE)
    size = math.prod(rounded.input_shape)
    whole = joint([Applied(rounded, np.arange(size)), Applied(rounded, np.arange(size))], size)
    assert {node.rounding for node in whole.nodes} == {SINGLE}


def test_a_rounding_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="deployed, real or ignore"):
        BoundOptions(rounding="single")


def test_what_the_model_computes_of_constants_or_copies_marks_a_network():
    """Catches a level for sums that the model runs and the network has not: their rounding is nobody's."""
    x = keras.Input((3,))
    fixed = keras.Model(x, keras.layers.Add()([x, keras.layers.Dense(3)(keras.ops.ones_like(x))]))
    both = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(2)])
    assert not_supported(from_keras(both)) == ""
    assert "beforehand" in not_supported(from_keras(fixed))
    ends = keras.Sequential([keras.Input((3,)), tfcert.layers.IntervalAbstraction(0.25), keras.layers.Dense(2)])
    assert "beforehand" in not_supported(from_keras(ends))
