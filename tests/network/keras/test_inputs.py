"""Models with several inputs and outputs, operations with several outputs, shared and nested models of both."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L
from keras import ops

import tfcert
from tfcert.network import FrontendMismatchError, UnsupportedLayerError, from_keras, inputs_of, register_layer
from tfcert.network.keras import graph, inputs

STRUCTURES = {
    "list": lambda a, b: [a, b],
    "other order": lambda a, b: [b, a],
    "dictionary": lambda a, b: {"tab": b, "image": a},
    "nested": lambda a, b: {"z": [a], "c": {"d": b}},
}


def two(structure="list", image_dtype=None):
    image, tab = keras.Input((4, 4, 1), name="image", dtype=image_dtype), keras.Input((3,), name="tab")
    seen = L.Flatten()(L.Conv2D(2, 3, padding="same", activation="relu")(image))
    joined = L.Concatenate()([seen, L.Dense(4, activation="tanh")(tab)])
    return keras.Model(STRUCTURES[structure](image, tab), L.Dense(3)(joined))


def points(rng, count=4):
    return rng.random((count, 4, 4, 1), np.float32), rng.random((count, 3), np.float32)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_network_of_several_inputs_takes_them_side_by_side(structure, rng):
    """Whatever the structure: the vector is in Keras's order, and each part is found under its name."""
    model = two(structure)
    network = from_keras(model)
    image, tab = points(rng)
    parts = network.parts
    assert network.input_shape == (19,) and {part.name: part.shape for part in parts} == {
        "image": (4, 4, 1),
        "tab": (3,),
    }
    given = STRUCTURES[structure](image, tab)
    vectors = parts.join(given)
    for name, array in (("image", image), ("tab", tab)):
        np.testing.assert_array_equal(parts.split(vectors)[name], array)
    np.testing.assert_allclose(network(tf.constant(vectors)), model(given), rtol=1e-5, atol=1e-6)
    by_name = parts.join({"image": image, "tab": tab})
    np.testing.assert_array_equal(by_name, vectors)


def test_a_network_of_one_input_is_as_it_was():
    model = keras.Sequential([keras.Input((2, 3)), L.Flatten(), L.Dense(2)])
    network = from_keras(model)
    assert network.parts is None and network.input_shape == (2, 3) and inputs_of(model) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda image, tab: {"image": image}, "missing: 'tab'"),
        (lambda image, tab: {"image": image, "tab": tab, "more": tab}, "names 'image', 'tab', 'more'"),
        (lambda image, tab: [image], "holds 1 arrays"),
        (lambda image, tab: [tab, image], r"x\['image'\] has shape \(4, 3\)"),
        (lambda image, tab: [image, tab[:2]], "different numbers of samples"),
        (lambda image, tab: image, "one array of shape"),
    ],
)
@pytest.mark.parametrize("ask", [tfcert.certify, tfcert.attack])
def test_samples_that_do_not_fit_are_refused_in_a_sentence(ask, given, message, rng):
    with pytest.raises(ValueError, match=message):
        ask(two(), given(*points(rng)), np.zeros(4, int), eps=0.1)


def test_unknown_dimensions_are_refused_by_the_name_of_the_input():
    a, b = keras.Input((None, 2), name="path"), keras.Input((3,))
    model = keras.Model([a, b], L.Concatenate()([L.GlobalAveragePooling1D()(a), b]))
    with pytest.raises(UnsupportedLayerError, match=r"'path'.*unknown dimensions"):
        from_keras(model)


def test_integers_and_booleans_are_numbers_that_may_be_cast(rng):
    x, mask = keras.Input((3, 2)), keras.Input((3, 1), dtype="bool", name="mask")
    count = keras.Input((1,), dtype="int32", name="count")
    kept = L.Concatenate()([L.Dense(2)(x), ops.cast(mask, "float32")])
    joined = L.Concatenate()([L.Flatten()(kept), ops.cast(count, "float32")])
    model = keras.Model([x, mask, count], L.Dense(2)(joined))
    network = from_keras(model)
    given = [rng.random((2, 3, 2), np.float32), rng.random((2, 3, 1)) > 0.5, np.array([[7], [2]])]
    found = network(tf.constant(network.parts.join(given)))
    np.testing.assert_allclose(found, model([tf.constant(g) for g in given]), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"'count'.*holds fractions.*int32"):
        network.parts.join([*given[:2], np.full((2, 1), 0.5)])


def test_types_that_differ_are_refused():
    with pytest.raises(UnsupportedLayerError, match="takes float32 and float64 inputs"):
        from_keras(two(image_dtype="float64"))


def test_operations_with_several_outputs(check, rng):
    x = keras.Input((4, 6))
    first, second, third = ops.split(x, [1, 3], axis=-1)
    rows = ops.unstack(L.Dense(3)(x), axis=1)
    thirds = ops.split(x, 3, axis=2)
    parts = [L.Flatten()(part) for part in (first, L.ReLU()(second), third, thirds[1])]
    check(keras.Model(x, L.Concatenate()([*parts, rows[2], L.ReLU()(rows[0])])))
    with pytest.raises(UnsupportedLayerError, match="on 3 samples"):
        batch = keras.Input(batch_shape=(4, 2))
        from_keras(keras.Model(batch, ops.split(batch, 2, axis=0)[0]))


class Halves(L.Layer):
    """A layer with several outputs."""

    def call(self, x):
        return {"double": 2.0 * x, "less": [x - 1.0]}


def test_a_layer_of_one_s_own_may_have_several_outputs(check, monkeypatch):
    monkeypatch.delitem(graph.CONVERTERS, Halves, raising=False)

    def convert(layer, builder, inputs):
        double = builder.scale(inputs[0], builder.constant(2.0))
        return [double, builder.scale(inputs[0], builder.constant(1.0), builder.constant(-1.0), part="less")]

    register_layer(Halves, convert)
    x = keras.Input((3,))
    found = Halves()(x)
    check(keras.Model(x, L.Concatenate()([L.ReLU()(found["less"][0]), found["double"]])))
    graph.CONVERTERS[Halves] = lambda layer, builder, inputs: convert(layer, builder, inputs)[::-1]
    with pytest.raises(FrontendMismatchError, match="halves"):
        from_keras(keras.Model(x, L.Add()([found["double"], L.ReLU()(found["less"][0])])))
    graph.CONVERTERS[Halves] = lambda layer, builder, inputs: inputs
    with pytest.raises(UnsupportedLayerError, match="2 outputs, of which its converter knows 1"):
        from_keras(keras.Model(x, found["double"]))
    monkeypatch.delitem(graph.CONVERTERS, Halves)


@pytest.mark.parametrize("by_name", [False, True])
def test_nested_and_shared_models_with_several_inputs_and_outputs(check, by_name):
    a, b = keras.Input((4,), name="left"), keras.Input((3,), name="right")
    total = L.Dense(3, activation="relu")(L.Concatenate()([a, b]))
    inner = keras.Model([a, b], {"state": L.Dense(3)(total), "out": L.Dense(4, activation="tanh")(total)})
    x = keras.Input((7,))
    left, right = x[:, :4], x[:, 4:]
    for _ in range(3):  # called three times, on its own outputs
        found = inner({"right": right, "left": left} if by_name else [left, right])
        left, right = found["out"], found["state"]
    check(keras.Model(x, L.Dense(2)(L.Concatenate()([left, right]))))


def heads():
    x = keras.Input((4,), name="x")
    hidden = L.Dense(5, activation="relu")(x)
    grade = L.Dense(3, activation="softmax", name="grade")(hidden)
    return keras.Model(x, {"size": L.Dense(2, name="size")(hidden), "grade": grade})


def test_one_of_several_outputs_is_chosen_by_name_or_place(rng):
    model, x = heads(), rng.random((2, 4), np.float32)
    with pytest.raises(UnsupportedLayerError, match=r"2 outputs \('grade' \(3,\), 'size' \(2,\)\).*with_output"):
        from_keras(model)
    for output in ("size", 1, -1):
        network = from_keras(model, output=output)
        assert not network.peeled
        np.testing.assert_allclose(network(tf.constant(x)), model(x)["size"], rtol=1e-5, atol=1e-6)
    assert from_keras(model, output="grade").peeled
    with pytest.raises(ValueError, match=r"no output 'sise'.*'grade', 'size'"):
        tfcert.with_output(model, "sise")
    with pytest.raises(ValueError, match="no output 2"):
        tfcert.with_output(model, 2)


def test_all_outputs_are_one_vector_with_named_parts(rng):
    x = keras.Input((4, 2))
    model = keras.Model(x, [L.Dense(3, name="wide")(x), L.Flatten(name="flat")(x)])
    joined = tfcert.with_output(model, "all")
    parts, given = inputs.outputs_of(model), rng.random((2, 4, 2), np.float32)
    assert parts.names == ["wide", "flat"]
    found = parts.split(from_keras(joined)(tf.constant(given)).numpy())
    for name, wanted in zip(parts.names, model(given), strict=True):
        np.testing.assert_allclose(found[name], wanted, rtol=1e-5, atol=1e-6)


def test_weights_are_shared_with_what_an_output_is_chosen_of(rng):
    model, x = heads(), rng.random((2, 4), np.float32)
    network = from_keras(model, output="size")
    model.get_layer("size").bias.assign([3.0, -3.0])
    np.testing.assert_allclose(network(tf.constant(x)), model(x)["size"], rtol=1e-5, atol=1e-6)


def test_a_wrong_slice_of_an_input_is_noticed(monkeypatch):
    """The comparison on probes sees inputs that are read in another place, or another order."""
    real = graph._starts

    def swapped(model, graph_, builder, parts, x):
        starts = real(model, graph_, builder, parts, x)
        return [builder.index(s, np.arange(int(np.prod(s.shape)))[::-1].reshape(s.shape)) for s in starts]

    monkeypatch.setattr(graph, "_starts", swapped)
    with pytest.raises(FrontendMismatchError):
        from_keras(two())
