"""Benchmarks find data in the folder that ``TFCERT_DATA`` names, and say what they miss; tables land in READMEs."""

import numpy as np
import pytest

from benchmarks.common import data
from benchmarks.common.store import Store
from benchmarks.radius import records


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TFCERT_DATA", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return tmp_path


@pytest.mark.parametrize("place", ["", "data"])
def test_images_are_found_at_the_top_of_the_folder_and_in_its_data(folder, place):
    (folder / place).mkdir(exist_ok=True)
    x, y = np.arange(32 * 32 * 3, dtype=np.uint8).reshape(1, 32, 32, 3), np.array([[7]])
    np.savez(folder / place / "cifar10.npz", x_test=x, y_test=y, x_train=x + 1, y_train=y)
    pixels, labels = data.pixels("cifar10", "test")
    np.testing.assert_array_equal(pixels, x)
    assert labels.tolist() == [7]  # Keras's own file has a column of labels


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("mnist", "mnist.npz"),
        ("fashion_mnist", "fashion_mnist.npz"),
        ("cifar10", "cifar-10-python.tar.gz"),
        ("svhn", "train_32x32.mat and test_32x32.mat"),
    ],
)
def test_what_is_missing_is_said_in_one_sentence_with_what_to_put_where(folder, name, files):
    with pytest.raises(data.MissingDataError, match=f"{name} is not here: put .*{files}") as raised:
        data.pixels(name, "train")
    assert f"in the folder that TFCERT_DATA names ({folder})" in str(raised.value)
    assert "\n" not in str(raised.value) and isinstance(raised.value, SystemExit)  # no traceback


def test_without_the_variable_data_is_beside_the_repository(monkeypatch):
    monkeypatch.delenv("TFCERT_DATA", raising=False)
    assert data.root() == data.REPOSITORY.parent / "shared"


def test_without_records_there_is_nothing_to_stand_beside_our_radii(folder):
    records._all.cache_clear()
    try:
        assert records.recorded("mnist_cnn_4layer_5_3_relu", "linf", "fastlin") == []
        assert records.targets("mnist_cnn_4layer_5_3_relu") == {}
    finally:
        records._all.cache_clear()


def test_a_table_takes_the_place_of_the_last_one_and_nothing_else_changes(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- a -->\nold\n<!-- /a -->\nbetween\n<!-- b -->\nkept\n<!-- /b -->\n")
    store = Store(str(tmp_path / "run.py"))
    store.write_table("a", "new")
    assert readme.read_text() == "before\n<!-- a -->\nnew\n<!-- /a -->\nbetween\n<!-- b -->\nkept\n<!-- /b -->\n"
    with pytest.raises(ValueError, match="no marks <!-- c -->"):
        store.write_table("c", "lost")


def test_results_go_to_the_folder_that_the_variable_names_and_the_stored_ones_stay(tmp_path, monkeypatch):
    script = tmp_path / "radius" / "run.py"
    script.parent.mkdir()
    (script.parent / "README.md").write_text("<!-- a -->\nours\n<!-- /a -->\n")
    monkeypatch.setenv("TFCERT_RESULTS", str(tmp_path / "new"))
    store = Store(str(script))
    assert store.read("radius", {}) == {}
    store.write("radius", {"found": 1})
    for table in ("first", "second"):
        store.write_table("a", table)
    assert store.read("radius") == {"found": 1}
    assert (tmp_path / "new" / "radius" / "README.md").read_text() == "## a\n\n<!-- a -->\nsecond\n<!-- /a -->\n\n"
    assert (script.parent / "README.md").read_text() == "<!-- a -->\nours\n<!-- /a -->\n"
