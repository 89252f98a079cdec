"""The example of ``register_activation`` runs as it is printed."""

import doctest
import math

import keras
import tensorflow as tf

from tfcert import activations
from tfcert.activations import registration
from tfcert.activations.general import Bends, general


def test_the_example_of_register_activation():
    given = {
        "keras": keras, "math": math, "tf": tf, "general": general, "Bends": Bends,
        "register_activation": activations.register_activation, "activation": activations.activation,
        "lines": activations.lines,
    }  # fmt: skip
    example = doctest.DocTestFinder().find(registration.register_activation, "example", globs=given)
    results = doctest.DocTestRunner().run(example[0])
    assert results.attempted > 6 and results.failed == 0
    assert activations.spelled(example[0].globs.get("wave")) in ("wave", None)
