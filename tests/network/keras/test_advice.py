"""What a refusal says: the class, why, and what to do; for every layer and operation that Keras has."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import keras
import pytest
from keras import layers as L

import tfcert
from tfcert.network import UnsupportedLayerError, from_keras
from tfcert.network.keras.fixed import SHAPED
from tfcert.network.keras.graph import CONVERTERS
from tfcert.network.keras.reasons import LAYERS, OPERATIONS

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def table() -> ModuleType:
    """``docs/layers.py``."""
    spec = importlib.util.spec_from_file_location("table_of_layers", ROOT / "docs" / "layers.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_every_layer_of_keras_is_converted_or_refused_for_a_reason(table):
    """A layer that a new Keras brings fails here until it has a converter, or a reason in ``reasons.py``."""
    layers = {name: kind for name, kind in table.classes().items() if issubclass(kind, L.Layer)}
    assert len(layers) > 100
    known = {kind.__name__ for kind in CONVERTERS} | {*LAYERS, "InputLayer"}
    assert not {name for name, kind in layers.items() if kind.__name__ not in known}


def test_every_operation_of_keras_is_converted_or_refused_for_a_reason(table):
    supported = {*CONVERTERS, *SHAPED}
    operations = table.operation_classes()
    assert len(operations) > 300
    assert not {name for name, kind in operations.items() if kind not in supported and name not in OPERATIONS}
    assert not {name for name, kind in operations.items() if kind in supported and name in OPERATIONS}


def test_no_reason_is_left_of_a_layer_that_has_a_converter():
    assert not set(LAYERS) & {kind.__name__ for kind in CONVERTERS if issubclass(kind, L.Layer)}


def test_the_table_of_layers_is_what_the_code_makes_of_it(table):
    """Converts one layer of every class; ``python docs/layers.py`` writes the table anew."""
    assert table.page() == (ROOT / "docs" / "layers.md").read_text(encoding="utf-8")


def test_reasons_are_given_of_what_keras_has(table):
    names = {kind.__name__ for kind in table.classes().values()}
    assert not set(LAYERS) - names
    assert not set(OPERATIONS) - set(table.operation_classes())


def refusal(function) -> str:
    inputs = keras.Input((3,))
    with pytest.raises(UnsupportedLayerError) as error:
        from_keras(keras.Model(inputs, function(inputs)))
    return str(error.value)


class OfSomebody(L.Layer):
    def call(self, x):
        return keras.ops.relu(x)


def test_a_layer_of_somebody_is_refused_with_an_example_that_works():
    said = refusal(OfSomebody(name="mine"))
    assert said.startswith("layer 'mine' (OfSomebody) is not supported")
    example = said[said.index("tfcert.register_layer(") :].partition(" says that")[0]
    assert example == (
        "tfcert.register_layer(OfSomebody, lambda layer, builder, inputs: builder.activation(inputs[0], 'relu'))"
    )
    try:
        eval(example, {"tfcert": tfcert, "OfSomebody": OfSomebody})
        inputs = keras.Input((3,))
        assert len(from_keras(keras.Model(inputs, OfSomebody()(inputs))).nodes) == 2
    finally:
        CONVERTERS.pop(OfSomebody, None)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (
            lambda x: L.Discretization(bin_boundaries=[0.0])(x) * 1.0,
            "whole numbers, which jump; run it before the model",
        ),
        (lambda x: L.Lambda(lambda y: y)(x), "call keras.ops on the tensors"),
        (lambda x: keras.ops.sort(x), "it sorts"),
        (lambda x: keras.ops.round(x), "it jumps; tfcert.register_activation"),
        (lambda x: keras.ops.cast(x > 0, "float32"), "write choices between numbers with maximum"),
    ],
)
def test_a_refusal_says_why_and_what_to_do(function, said):
    assert said in refusal(function)
