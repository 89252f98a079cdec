"""Loading is safe, and says what is wrong with a file."""

import zipfile

import keras
import numpy as np
import pytest
from keras import layers as L
from keras.src.saving.serialization_lib import SafeModeScope

from tfcert.loading import load_model
from tfcert.network import from_keras
from tfcert.network.errors import ModelLoadError


def saved(model, path):
    model.save(path)
    return path


def test_a_saved_model_comes_back(check, tmp_path, rng):
    model = keras.Sequential([keras.Input((4,)), L.Dense(3, activation="relu"), L.Dense(2)])
    check(model)
    path = saved(model, tmp_path / "model.keras")
    x = rng.normal(size=(3, 4)).astype("float32")
    np.testing.assert_array_equal(from_keras(load_model(str(path)))(x), from_keras(model)(x))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_model(tmp_path / "nowhere.keras")


@pytest.mark.parametrize(
    ("name", "message"),
    [("old.h5", "HDF5"), ("old.hdf5", "HDF5"), ("model.pkl", "not a .keras or .onnx file"), ("model.keras", "damaged")],
)
def test_other_formats_are_refused(tmp_path, name, message):
    (tmp_path / name).write_bytes(b"not a model")
    with pytest.raises(ModelLoadError, match=message):
        load_model(tmp_path / name)


def test_a_zip_that_is_no_model_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(ModelLoadError, match="cannot load"):
        load_model(tmp_path / "model.keras")


def test_a_folder_is_refused(tmp_path):
    (tmp_path / "model.keras").mkdir()
    with pytest.raises(ModelLoadError, match="is not a"):
        load_model(tmp_path / "model.keras")


def test_code_in_a_file_is_never_run_even_where_keras_was_told_to_be_unsafe(tmp_path):
    model = keras.Sequential([keras.Input((4,)), L.Lambda(lambda x: x * 2), L.Dense(2)])
    path = saved(model, tmp_path / "model.keras")
    with SafeModeScope(False), pytest.raises(ModelLoadError, match=r"Lambda layer.*never run"):
        load_model(path)


def test_a_class_that_is_not_registered_is_named(tmp_path):
    @keras.saving.register_keras_serializable(package="test_loading")
    class Mine(L.Dense):
        pass

    path = saved(keras.Sequential([keras.Input((4,)), Mine(2)]), tmp_path / "model.keras")
    del keras.saving.get_custom_objects()["test_loading>Mine"]
    with pytest.raises(ModelLoadError, match=r"Mine.*register_keras_serializable"):
        load_model(path)
