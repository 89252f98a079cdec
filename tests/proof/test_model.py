"""The checker's own reader of models: what it computes is what Keras computes, and the rest is refused."""

import io
import json
import zipfile

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from proof import small
from tfcert.proof.errors import ProofError
from tfcert.proof.model import read_model


def in_float64(build):
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        return build()
    finally:
        keras.config.set_floatx(before[0])
        keras.config.set_dtype_policy(before[1])


@pytest.mark.parametrize("build", [small.image, small.flat, small.dense, lambda: in_float64(small.dense)])
def test_it_computes_what_the_model_computes(build, tmp_path):
    model = build()
    _, graph = small.saved(model, tmp_path)
    x = np.random.default_rng(1).normal(size=(9, *model.input_shape[1:])).astype(model.compute_dtype)
    found = small.values(graph, x)
    if graph.softmax:
        found = np.exp(found) / np.exp(found).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, model(x).numpy(), atol=20 * graph.unit, rtol=20 * graph.unit)


def test_the_digest_is_of_all_weights_and_options(tmp_path):
    model = small.dense()
    digests = {small.saved(model, tmp_path)[1].digest}
    assert small.saved(model, tmp_path, "again.keras")[1].digest in digests
    weights = model.get_weights()
    for part in weights:
        part.flat[0] = np.nextafter(part.flat[0], np.float32(9))
        model.set_weights(weights)
        digests.add(small.saved(model, tmp_path)[1].digest)
    digests.add(small.saved(small.dense(activation="relu6"), tmp_path)[1].digest)
    assert len(digests) == 2 + len(weights)


def changed(path, change_config=None, change_weights=None):
    """The model file with something else in it."""
    with zipfile.ZipFile(path) as opened:
        parts = {name: opened.read(name) for name in opened.namelist()}
    if change_config is not None:
        config = json.loads(parts["config.json"])
        change_config(config["config"]["layers"])
        parts["config.json"] = json.dumps(config).encode()
    if change_weights is not None:
        stream = io.BytesIO(parts["model.weights.h5"])
        with h5py.File(stream, "r+") as file:
            change_weights(file)
        parts["model.weights.h5"] = stream.getvalue()
    with zipfile.ZipFile(path, "w") as written:
        for name, content in parts.items():
            written.writestr(name, content)
    return path


def swapped(file):
    """Two layers' weights change places, and their names stay."""
    for number in ("0", "1"):
        one, other = (file[f"layers/{name}/vars/{number}"] for name in ("dense_1", "dense_2"))
        one[...], other[...] = other[...], one[...]


def renamed(file):
    file.move("layers/dense_1", "layers/aside")
    file.move("layers/dense_2", "layers/dense_1")
    file.move("layers/aside", "layers/dense_2")


def linked(file):
    del file["layers/dense/vars/0"]
    file["layers/dense/vars/0"] = h5py.ExternalLink("/etc/hostname", "x")


def huge(file):
    del file["layers/dense/vars/0"]
    file.create_dataset("layers/dense/vars/0", (1 << 20, 1 << 20), "f4", chunks=(1024, 1024), compression="gzip")


def nan(file):
    file["layers/dense/vars/1"][0] = np.nan


def test_weights_cannot_be_taken_for_another_layers(tmp_path):
    path, graph = small.saved(small.dense((3, 3, 3, 3)), tmp_path)
    assert read_model(changed(path, change_weights=swapped)).digest != graph.digest
    with pytest.raises(ProofError, match="noted as those of"):
        read_model(changed(path, change_weights=renamed))


@pytest.mark.parametrize(
    ("change", "said"),
    [(linked, "of its own"), (huge, "shape"), (nan, "NaN"), (lambda f: f.pop("layers"), "of its own")],
)
def test_weights_that_are_not_plain_arrays_of_the_file_are_refused(change, said, tmp_path):
    path, _ = small.saved(small.dense(), tmp_path)
    with pytest.raises(ProofError, match=said):
        read_model(changed(path, change_weights=change))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("activation", "mish", "'mish' is not known"),
        ("lora_rank", 2, "lora_rank"),
        ("units", 1 << 30, "units"),
        ("units", "5", "units"),
        ("dtype", "mixed_float16", "compute in"),
    ],
)
def test_an_option_that_is_not_known_is_refused(key, value, said, tmp_path):
    path, _ = small.saved(small.dense(), tmp_path)
    with pytest.raises(ProofError, match=said):
        read_model(changed(path, change_config=lambda each: each[1]["config"].update({key: value})))


def test_layers_that_are_not_known_are_refused(tmp_path):
    model = keras.Sequential([keras.Input((4, 2)), layers.LSTM(3), layers.Dense(2)])
    with pytest.raises(ProofError, match="LSTM"):
        small.saved(model, tmp_path)
    nested = keras.Sequential([keras.Input((3,)), small.dense()])
    with pytest.raises(ProofError, match="Sequential"):
        small.saved(nested, tmp_path)
    start = keras.Input((3,))
    inside = layers.Dense(2)(layers.Softmax()(layers.Dense(3)(start)))
    with pytest.raises(ProofError, match="softmax"):
        small.saved(keras.Model(start, inside), tmp_path)


def test_a_softmax_beside_the_output_is_none_of_it(tmp_path):
    start = keras.Input((3,))
    end = layers.Dense(3, name="end")(start)
    path, graph = small.saved(keras.Model(start, layers.Softmax(name="soft")(end)), tmp_path)
    assert graph.softmax

    with zipfile.ZipFile(path) as opened:
        parts = {name: opened.read(name) for name in opened.namelist()}
    config = json.loads(parts["config.json"])
    config["config"]["output_layers"] = [["end", 0, 0]]
    parts["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as written:
        for name, content in parts.items():
            written.writestr(name, content)
    with pytest.raises(ProofError, match="softmax"):
        read_model(path)
