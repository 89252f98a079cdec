"""The forms in which public data sets are published: idx, MATLAB's, CIFAR-10's batches; and where they are found."""

import gzip
import io
import pickle
import struct
import sys
import tarfile

import h5py
import numpy as np
import pytest
import scipy.io

import tfcert
from tfcert.catalog import SOURCES, of_file
from tfcert.datasets import DatasetError, load_dataset
from tfcert.datasets.public import read_public


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """The folder that TFCERT_DATA names; Keras has nothing."""
    monkeypatch.setenv("TFCERT_DATA", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return tmp_path


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (3, 4, 5), np.uint8)


def idx_bytes(array: np.ndarray, code: int = 8) -> bytes:
    big = array.astype(array.dtype.newbyteorder(">"))
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape) + big.tobytes()


def write_pair(folder, images, labels, stem="t10k", end=".gz"):
    folder.mkdir(parents=True, exist_ok=True)
    for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
        content = idx_bytes(np.asarray(array, np.uint8))
        (folder / f"{stem}-{kind}-ubyte{end}").write_bytes(gzip.compress(content) if end else content)


@pytest.mark.parametrize("end", ["", ".gz"])
def test_idx_images_come_with_the_labels_beside_them(tmp_path, images, end):
    write_pair(tmp_path, images, [7, 0, 9], end=end)
    found = load_dataset("idx", f"t10k-images-idx3-ubyte{end}", root=tmp_path)
    np.testing.assert_array_equal(found.x[..., 0], images)
    assert found.y.tolist() == [7, 0, 9] and found.x.dtype == np.uint8
    (tmp_path / f"t10k-labels-idx1-ubyte{end}").unlink()
    assert load_dataset("idx", f"t10k-images-idx3-ubyte{end}", root=tmp_path).y is None


def test_idx_numbers_of_several_bytes_are_read_in_their_order(tmp_path):
    values = np.array([[1.5, -2.0], [0.25, 1e6]], np.float32)
    (tmp_path / "a.idx").write_bytes(idx_bytes(values, 13))
    found = load_dataset("idx", "a.idx", root=tmp_path).x
    np.testing.assert_array_equal(found, values)
    assert found.dtype == np.float32


def test_idx_labels_are_not_read_through_a_link_out_of_the_folder(tmp_path, images):
    write_pair(tmp_path / "elsewhere", images, [1, 2, 3])
    inside = tmp_path / "specs"
    inside.mkdir()
    name = "t10k-{}-ubyte.gz"
    (inside / name.format("images-idx3")).write_bytes(
        (tmp_path / "elsewhere" / name.format("images-idx3")).read_bytes()
    )
    (inside / name.format("labels-idx1")).symlink_to(tmp_path / "elsewhere" / name.format("labels-idx1"))
    assert load_dataset("idx", name.format("images-idx3"), root=inside).y is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no idx file"),
        (b"PK\x03\x04", "no idx file"),
        (idx_bytes(np.zeros((2, 3), np.uint8))[:-1], "says 6 bytes, and it has 5"),
        (b"\0\0\x08\x03\0\0", "cut off"),
        (struct.pack(">BBBB3I", 0, 0, 8, 3, 2**31, 2**31, 2**31), "cut off"),
        (b"\x1f\x8b\x08cut off", "cannot be read"),
    ],
)
def test_a_damaged_idx_file_is_a_sentence(tmp_path, content, message):
    (tmp_path / "a-ubyte").write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        load_dataset("idx", tmp_path / "a-ubyte")


def svhn_arrays(rng, count):
    return rng.integers(0, 256, (32, 32, 3, count), np.uint8), np.arange(1, count + 1)[:, None] % 10


def test_svhn_has_samples_along_the_last_axis_and_ten_means_zero(tmp_path, rng):
    x, digits = svhn_arrays(rng, 11)
    scipy.io.savemat(tmp_path / "test_32x32.mat", {"X": x, "y": np.where(digits == 0, 10, digits)})
    found = load_dataset("mat", "test_32x32.mat", root=tmp_path)
    assert found.x.shape == (11, 32, 32, 3) and found.x.dtype == np.uint8 and found.x.flags.c_contiguous
    np.testing.assert_array_equal(found.x[4], x[..., 4])
    assert found.y.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]


def test_other_matlab_files_keep_their_labels_unless_told(tmp_path, rng):
    x, y = rng.normal(size=(6, 4)), np.array([3, 1, 2, 3, 1, 10])
    scipy.io.savemat(tmp_path / "a.mat", {"features": x, "label": y})
    found = load_dataset("mat", "a.mat", root=tmp_path, x="features", y="label")
    np.testing.assert_array_equal(found.x, x)
    assert found.y.tolist() == y.tolist()
    told = load_dataset("mat", "a.mat", root=tmp_path, x="features", y="label", zero=3)
    assert told.y.tolist() == [0, 1, 2, 0, 1, 10]
    assert load_dataset("mat", "a.mat", root=tmp_path, x="features").y is None
    with pytest.raises(DatasetError, match=r"a\.mat has no array 'X'; it has features, label"):
        load_dataset("mat", "a.mat", root=tmp_path)
    with pytest.raises(DatasetError, match=r"no array 'classes'; it has features, label"):
        load_dataset("mat", "a.mat", root=tmp_path, x="features", y="classes")


def test_matlab_files_of_version_7_3_have_their_axes_turned_round(tmp_path, rng):
    x, y = svhn_arrays(rng, 10)
    y[y == 0] = 10
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
        file["X"], file["y"], file["more"] = x.T, y.T, np.zeros(3)
    found = load_dataset("mat", "a.mat", root=tmp_path)
    np.testing.assert_array_equal(found.x, np.moveaxis(x, -1, 0))
    assert found.y.tolist() == [*range(1, 10), 0]


def test_a_damaged_matlab_file_and_a_missing_scipy_are_sentences(tmp_path, monkeypatch):
    (tmp_path / "a.mat").write_bytes(b"MATLAB 5.0 MAT-file, cut off")
    with pytest.raises(DatasetError, match="not a readable MATLAB file"):
        load_dataset("mat", "a.mat", root=tmp_path)
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(DatasetError, match=r"needs scipy: pip install tfcert\[data\]"):
        load_dataset("mat", "a.mat", root=tmp_path)


def batch(rng, count):
    pixels = rng.integers(0, 256, (count, 3072), np.uint8)
    return pixels, pickle.dumps({b"data": pixels, b"labels": list(range(count))}, protocol=3)


def test_cifar10_is_read_from_its_batches_or_its_archive_in_their_order(folder, rng):
    batches = {f"data_batch_{i}": batch(rng, 2) for i in range(1, 6)} | {"test_batch": batch(rng, 3)}
    with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz") as archive:
        for name in sorted(batches, reverse=True):  # in the published archive they are in no order either
            entry = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            entry.size = len(batches[name][1])
            archive.addfile(entry, io.BytesIO(batches[name][1]))
    packed = {split: load_dataset("keras", "cifar10", split=split) for split in ("train", "test")}
    expected = np.concatenate([batches[f"data_batch_{i}"][0] for i in range(1, 6)])
    np.testing.assert_array_equal(packed["train"].x, expected.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    assert packed["train"].y.tolist() == [0, 1] * 5 and packed["test"].y.tolist() == [0, 1, 2]
    (folder / "cifar-10-batches-py").mkdir()
    for name, (_, content) in batches.items():
        (folder / "cifar-10-batches-py" / name).write_bytes(content)
    (folder / "cifar-10-python.tar.gz").write_bytes(b"cut off")  # the folder comes first
    np.testing.assert_array_equal(load_dataset("keras", "cifar10", split="train").x, packed["train"].x)
    (folder / "cifar-10-batches-py" / "data_batch_3").unlink()
    with pytest.raises(DatasetError, match=r"incomplete or damaged .*data_batch_3.*fetch it again"):
        load_dataset("keras", "cifar10", split="train")


def test_a_damaged_archive_is_a_sentence(folder, rng):
    (folder / "cifar-10-python.tar.gz").write_bytes(b"cut off")
    with pytest.raises(DatasetError, match="damaged"):
        load_dataset("keras", "cifar10")
    with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("readme"), io.BytesIO())
    with pytest.raises(DatasetError, match="has no cifar-10-batches-py/test_batch"):
        load_dataset("keras", "cifar10")


@pytest.mark.parametrize(("name", "place"), [("mnist", "mnist"), ("fashion_mnist", "fashion-mnist")])
def test_idx_files_of_the_two_mnists_are_told_apart_by_their_folder(folder, images, name, place):
    write_pair(folder / "mnist", images, [1, 1, 1])
    write_pair(folder / "fashion-mnist", images // 2, [2, 2, 2])
    write_pair(folder / place, images, [3, 3, 3], stem="train", end="")
    assert set(load_dataset("keras", name).y) == {1 if name == "mnist" else 2}
    assert set(load_dataset("keras", name, split="train").y) == {3}


def test_svhn_by_name_comes_from_the_folder_or_its_data(folder, rng):
    with pytest.raises(DatasetError, match=r"svhn is not here: put train_32x32\.mat and test_32x32\.mat in the folder"):
        load_dataset("svhn")
    x, y = svhn_arrays(rng, 10)
    (folder / "data").mkdir()
    scipy.io.savemat(folder / "data" / "train_32x32.mat", {"X": x, "y": np.where(y == 0, 10, y)})
    assert sorted(load_dataset("svhn", split="train").y) == list(range(10))
    with pytest.raises(DatasetError, match="split must be train or test or extra"):
        read_public("svhn", "all")


def test_files_are_read_by_their_suffix():
    names = {"a.mat": "mat", "t10k-images-idx3-ubyte": "idx", "t10k-images-idx3-ubyte.gz": "idx", "a.npz": "npz"}
    assert {name: of_file(SOURCES, name).name for name in names} == names


SPEC = """
prop 1
model clf = keras("clf.keras")
dataset digits = {source} take 3 {{ range: [0, 255]  scale: 1/255 }}
strategy fast = ibp
property robust(x, y in digits) using fast {{
  forall z in ball(x, linf, 1/1000) within [0, 1] in unit: argmax(clf(z)) == y
}}
"""


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("source", ['mat("test_32x32.mat")', "svhn()", 'svhn(split="test")', "bound"])
def test_a_specification_reads_svhn(folder, rng, source):
    import keras

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(10)])
    model.save(folder / "clf.keras")
    x, y = svhn_arrays(rng, 10)
    scipy.io.savemat(folder / "test_32x32.mat", {"X": x, "y": np.where(y == 0, 10, y)})
    bindings = {"digits": str(folder / "test_32x32.mat")} if source == "bound" else {}
    text = SPEC.format(source='npz("none.npz")' if source == "bound" else source)
    (folder / "s.prop").write_text(text)
    report = tfcert.verify(folder / "s.prop", bindings=bindings)
    predicted = np.asarray(model(np.moveaxis(x[..., :3], -1, 0) / np.float32(255))).argmax(1)
    assert [r.label for r in report.records] == y[:3, 0].tolist()
    assert [r.prediction for r in report.records] == predicted.tolist()


@pytest.mark.parametrize("name", ["test_32x32.mat", "t10k-images-idx3-ubyte.gz"])
def test_the_command_line_takes_the_files_where_it_takes_an_npz(tmp_path, rng, name, capsys):
    import keras

    from tfcert.cli.main import main

    shape = (32, 32, 3) if name.endswith("mat") else (4, 5, 1)
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(10)])
    model.save(tmp_path / "clf.keras")
    if name.endswith("mat"):
        x, y = svhn_arrays(rng, 10)
        scipy.io.savemat(tmp_path / name, {"X": x, "y": np.where(y == 0, 10, y)})
    else:
        write_pair(tmp_path, rng.integers(0, 256, (10, 4, 5)), np.arange(10))
    code = main(["radius", str(tmp_path / "clf.keras"), str(tmp_path / name), "--out", str(tmp_path / "out")])
    assert code == 0, capsys.readouterr()
    assert "10" in capsys.readouterr().out
