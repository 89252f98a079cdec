"""Samples that are read as they are needed: a tf.data.Dataset, and a folder of images."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfcert
from tfcert.datasets import DatasetError, load_dataset, streamed
from tfcert.driver.fingerprint import data_hash
from tfcert.driver.train.order import Order
from tfcert.errors import UsageError

CLASSES = 3


class Counted:
    """Endless samples of four numbers, with labels in turn; refuses to be read beyond ``most``."""

    def __init__(self, most: int, total: int | None = None, labels: bool = True):
        self.most, self.total, self.labels = most, total, labels
        self.read = 0

    def __call__(self):
        number = 0
        while self.total is None or number < self.total:
            assert number < self.most, f"sample {number} is not needed"
            self.read += 1
            yield (sample(number), np.int64(number % CLASSES)) if self.labels else sample(number)
            number += 1

    def data_set(self) -> tf.data.Dataset:
        x, y = tf.TensorSpec([4], tf.float32), tf.TensorSpec([], tf.int64)
        return tf.data.Dataset.from_generator(self, output_signature=(x, y) if self.labels else x)


def sample(number: int) -> np.ndarray:
    return np.random.default_rng(number).random(4, np.float32)


@pytest.fixture(scope="module")
def clf():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(CLASSES)])


SPEC = """
prop 1
model clf = keras("clf.keras")
dataset test = npz("none.npz") {block}
strategy fast = ibp
property robust(x, y in test{narrowed}) using fast {{
  forall z in ball(x, linf, 1/100) within [0, 1] in net: argmax(clf(z)) == y
}}
{more}
"""


def verify(clf, data, folder, narrowed="", more="", block="", **options):
    text = SPEC.format(narrowed=narrowed, more=more, block=block)
    return tfcert.verify(text, bindings={"clf": clf, "test": data}, out=folder / "out", **options)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(
    ("narrowed", "block", "samples", "needed"),
    [
        (" take 5", "", [0, 1, 2, 3, 4], 5),
        (" where y == 1 take 3", "", [1, 4, 7], 8),
        ("", "take 4", [0, 1, 2, 3], 4),
        (" where y == 2", "take 4", [2], 4),
    ],
)
def test_no_more_of_a_data_set_is_read_than_a_question_needs(clf, tmp_path, narrowed, block, samples, needed):
    data = Counted(most=needed)
    report = verify(clf, data.data_set(), tmp_path, narrowed, block=block)
    assert [r.sample for r in report.records] == samples
    assert [r.label for r in report.records] == [s % CLASSES for s in samples]
    expected = np.asarray(clf(np.stack([sample(s) for s in samples]))).argmax(1)
    assert [r.prediction for r in report.records] == expected.tolist()
    assert data.read == needed  # once: what was read is kept


@pytest.mark.usefixtures("eager")
def test_a_data_set_too_large_to_be_kept_is_read_again_and_says_the_same(clf, tmp_path, monkeypatch):
    kept = verify(clf, Counted(40, total=40).data_set().batch(7), tmp_path / "a", more="report accuracy(clf, test)")
    monkeypatch.setattr(streamed, "KEPT", 3 * 16)
    data = Counted(40, total=40)
    read = verify(clf, data.data_set().batch(7), tmp_path / "b", more="report accuracy(clf, test)")
    assert data.read > 40
    rows = [[(r.sample, r.outcome, r.prediction, r.verdict.margin) for r in report.records] for report in (kept, read)]
    assert len(rows[0]) == 40
    np.testing.assert_equal(rows[0], rows[1])


@pytest.mark.usefixtures("eager")
def test_an_endless_data_set_is_refused_where_its_end_is_needed_and_taken_where_it_is_not(clf, tmp_path):
    endless = Counted(10**6, total=5).data_set().repeat()
    assert len(verify(clf, endless, tmp_path / "a", " take 7").records) == 7
    with pytest.raises(DatasetError, match=r"repeats for ever, and all of its samples are asked about: say .*take N"):
        verify(clf, endless, tmp_path / "b")
    with pytest.raises(DatasetError, match="repeats for ever"):
        verify(clf, endless, tmp_path / "c", " take 7", more="report accuracy(clf, test)")


def test_where_that_selects_nothing_of_an_endless_data_set_comes_to_an_end(clf, tmp_path, monkeypatch):
    monkeypatch.setattr(streamed, "MOST", 20)
    endless = Counted(10**6, total=5).data_set().repeat()
    with pytest.raises(DatasetError, match="20 samples were not enough: does `where` select any"):
        verify(clf, endless, tmp_path, " where y == 7 take 1")


def test_a_data_set_that_is_shuffled_anew_is_refused_once_it_is_read_again(monkeypatch):
    data = Counted(40, total=40).data_set().shuffle(40)
    assert np.asarray(load_dataset(data).x).shape == (40, 4)  # kept, so read once
    monkeypatch.setattr(streamed, "KEPT", 0)
    found = load_dataset(data).x
    len(found)
    with pytest.raises(DatasetError, match="gives other samples when it is read again"):
        np.asarray(found)
    steady = Counted(40, total=40).data_set().shuffle(40, reshuffle_each_iteration=False)
    assert np.asarray(load_dataset(steady).x).shape == (40, 4)


def test_streamed_inputs_are_indexed_as_an_array_is(monkeypatch):
    whole = np.stack([sample(i) for i in range(10)])
    for kept in (streamed.KEPT, 2 * 16):
        monkeypatch.setattr(streamed, "KEPT", kept)
        x = load_dataset(Counted(10, total=10).data_set()).x
        for index in (slice(2, 5), slice(8, 20), slice(None), slice(None, None, 3), slice(-3, None), [7, 1, 7], 4):
            np.testing.assert_array_equal(x[index], whole[index])
        assert len(x) == 10 and x.shape == (None, 4) and x.dtype == np.float32
        with pytest.raises(IndexError, match="has 10 samples, and no number 10"):
            x[[10]]


def test_a_hash_of_a_stream_depends_on_each_sample_read_and_not_on_batches():
    def hashed(most, data):
        samples = load_dataset(data)
        samples.x[:most]
        return data_hash(samples)

    data = Counted(20, total=20)
    one = hashed(6, data.data_set())
    assert one == hashed(6, data.data_set()) == hashed(6, data.data_set().batch(3))
    changed = data.data_set().map(lambda x, y: (x + tf.cast(y == 5, tf.float32), y))
    other = data.data_set().map(lambda x, y: (x, (y + tf.cast(tf.reduce_all(x == sample(5)), tf.int64)) % CLASSES))
    assert len({one, hashed(5, data.data_set()), hashed(6, other)}) == 3
    assert hashed(6, changed) == one  # no label is 5


@pytest.mark.usefixtures("eager")
def test_a_run_on_a_stream_is_resumed_on_the_same_samples_and_no_others(clf, tmp_path):
    verify(clf, Counted(9, total=9).data_set(), tmp_path, " take 6")
    text = SPEC.format(narrowed=" take 6", more="", block="")
    (tmp_path / "out" / "result.json").unlink()
    again = tfcert.verify(text, bindings={"clf": clf, "test": Counted(6, total=6).data_set()}, resume=tmp_path / "out")
    assert len(again.records) == 6
    other = Counted(9, total=9).data_set().map(lambda x, y: (1 - x, y))
    with pytest.raises(ValueError, match=r"the samples of test .* changed since"):
        tfcert.verify(text, bindings={"clf": clf, "test": other}, resume=tmp_path / "out")


def test_values_outside_the_range_and_not_finite_are_found_while_reading(clf, tmp_path):
    data = (
        Counted(9, total=9).data_set().map(lambda x, y: (x + 5 * tf.cast(tf.reduce_all(x == sample(4)), tf.float32), y))
    )
    with pytest.raises(UsageError, match=r"sample 4 leaves the range \[0, 1\]"):
        verify(clf, data, tmp_path, " where y == 1", block="{ range: [0, 1] }")
    broken = Counted(9, total=9).data_set().map(lambda x, y: (x / tf.cast(y - 1, tf.float32) * 0, y))
    with pytest.raises(UsageError, match="sample 1 holds a NaN"):
        verify(clf, broken, tmp_path, " take 2")


def write_images(folder, rng, sizes, name="{}.png"):
    """Images of classes, in an order of their names that is not the order of writing."""
    written = {}
    for label, (word, shapes) in enumerate(sorted(sizes.items())):
        (folder / word).mkdir(parents=True)
        for number, shape in reversed(list(enumerate(shapes))):
            pixels = rng.integers(0, 256, shape, np.uint8)
            (folder / word / name.format(number)).write_bytes(tf.io.encode_png(pixels, compression=0).numpy())
            written[label, number] = pixels
    return written


def test_a_folder_of_images_has_a_class_for_each_sub_folder_in_the_order_of_names(tmp_path, rng):
    written = write_images(tmp_path / "pictures", rng, {"dog": [(5, 4, 3)] * 2, "cat": [(5, 4, 3)] * 3})
    found = load_dataset("images", "pictures", root=tmp_path)
    assert found.y.tolist() == [0, 0, 0, 1, 1] and found.x.classes == ("cat", "dog")
    assert len(found.x) == 5 and found.x.sample_shape == (5, 4, 3) and found.x.dtype == np.uint8
    np.testing.assert_array_equal(found.x[3], written[1, 0])
    np.testing.assert_array_equal(found.x[[4, 0]], [written[1, 1], written[0, 0]])
    np.testing.assert_array_equal(np.asarray(found.x), [written[key] for key in sorted(written)])


def test_images_are_decoded_when_they_are_asked_for_and_not_before(tmp_path, rng):
    write_images(tmp_path, rng, {"a": [(4, 4, 3)] * 4})
    (tmp_path / "a" / "3.png").write_bytes(b"no image")
    found = load_dataset("images", tmp_path)
    assert found.x[:3].shape == (3, 4, 4, 3)
    with pytest.raises(DatasetError, match=r"3\.png is no readable image"):
        found.x[3]


def test_images_of_other_sizes_are_refused_or_made_to_fit(tmp_path, rng):
    flat = np.full((8, 4, 3), 77, np.uint8)
    write_images(tmp_path, rng, {"a": [(4, 4, 3), (8, 4, 3)]})
    (tmp_path / "a" / "1.png").write_bytes(tf.io.encode_png(flat).numpy())
    with pytest.raises(DatasetError, match="has 8 x 4 pixels, and 4 x 4 are wanted: give height, width and resize="):
        np.asarray(load_dataset("images", tmp_path).x)
    for resize in ("stretch", "crop"):
        found = load_dataset("images", tmp_path, height=6, width=4, resize=resize).x
        assert np.asarray(found).shape == (2, 6, 4, 3) and (found[1] == 77).all()
    steps = np.repeat(np.arange(0, 160, 20, dtype=np.uint8), 12).reshape(8, 4, 3)
    (tmp_path / "a" / "1.png").write_bytes(tf.io.encode_png(steps).numpy())
    cropped = load_dataset("images", tmp_path, height=4, width=4, resize="crop").x[1]
    np.testing.assert_array_equal(cropped, steps[2:6])  # the middle, as it is
    with pytest.raises(DatasetError, match="give height and width, or neither"):
        load_dataset("images", tmp_path, height=4)


def test_images_of_one_channel_and_jpeg_files(tmp_path, rng):
    (tmp_path / "one").mkdir()
    pixels = np.full((8, 8, 3), (200, 40, 90), np.uint8)
    (tmp_path / "one" / "a.JPG").write_bytes(tf.io.encode_jpeg(pixels, quality=100).numpy())
    found = load_dataset("images", tmp_path)
    assert np.abs(found.x[0].astype(int) - pixels).max() <= 2
    assert load_dataset("images", tmp_path, channels=1).x[0].shape == (8, 8, 1)
    assert load_dataset("images", tmp_path / "one").y is None


def test_folders_that_cannot_be_read_say_why(tmp_path, rng):
    with pytest.raises(DatasetError, match="there is no folder none"):
        load_dataset("images", "none", root=tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match="is no folder"):
        load_dataset("images", "file", root=tmp_path)
    with pytest.raises(DatasetError, match="holds no images"):
        (tmp_path / "bare").mkdir()
        load_dataset("images", "bare", root=tmp_path)
    write_images(tmp_path / "mixed", rng, {"a": [(2, 2, 3)]})
    (tmp_path / "mixed" / "loose.png").touch()
    with pytest.raises(DatasetError, match="beside sub-folders"):
        load_dataset("images", "mixed", root=tmp_path)


def test_no_link_leads_out_of_the_folder_of_a_specification(tmp_path, rng):
    write_images(tmp_path / "secret", rng, {"a": [(2, 2, 3)]})
    write_images(tmp_path / "specs" / "pictures", rng, {"a": [(2, 2, 3)]})
    root = tmp_path / "specs"
    (root / "pictures" / "b").symlink_to(tmp_path / "secret" / "a")
    with pytest.raises(DatasetError, match="leads outside"):
        load_dataset("images", "pictures", root=root)
    assert len(load_dataset("images", root / "pictures").x) == 2  # the caller named it
    (root / "pictures" / "b").unlink()
    (root / "pictures" / "a" / "link.png").symlink_to(tmp_path / "secret" / "a" / "0.png")
    with pytest.raises(DatasetError, match="leads outside"):
        load_dataset("images", "pictures", root=root)
    with pytest.raises(DatasetError, match="leads outside"):
        load_dataset("images", "../secret", root=root)


PICTURES = """
prop 1
model clf = keras("clf.keras") {{ outputs: [{names}] }}
dataset test = images("pictures") {{ scale: 1/255 }}
strategy fast = ibp
property robust(x, y in test take 3) using fast {{
  forall z in ball(x, linf, 1/1000) within [0, 1] in unit: argmax(clf(z)) == y
}}
"""


@pytest.fixture
def pictures(tmp_path, rng):
    write_images(tmp_path / "pictures", rng, {"cat": [(4, 4, 3)] * 2, "dog": [(4, 4, 3)] * 2})
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(3)])
    model.save(tmp_path / "clf.keras")
    return tmp_path


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(("names", "labels"), [("cat, dog, eel", [0, 0, 1]), ("eel, dog, cat", [2, 2, 1])])
@pytest.mark.parametrize("bound", [False, True])
def test_a_specification_reads_images_and_labels_them_as_the_outputs_are_named(pictures, names, labels, bound):
    (pictures / "s.prop").write_text(PICTURES.format(names=names))
    bindings = {"test": str(pictures / "pictures")} if bound else {}
    report = tfcert.verify(pictures / "s.prop", bindings=bindings, out=pictures / "out")
    assert [r.label for r in report.records] == labels


@pytest.mark.usefixtures("eager")
def test_a_run_on_images_is_not_resumed_once_a_picture_that_it_asked_about_changed(pictures, rng):
    (pictures / "s.prop").write_text(PICTURES.format(names="cat, dog, eel"))
    tfcert.verify(pictures / "s.prop", out=pictures / "out")
    (pictures / "out" / "result.json").unlink()
    assert len(tfcert.verify(pictures / "s.prop", resume=pictures / "out").records) == 3
    file = pictures / "pictures" / "cat" / "1.png"
    before = file.stat().st_size
    pixels = tf.io.decode_png(file.read_bytes()).numpy() ^ 1
    file.write_bytes(tf.io.encode_png(pixels, compression=0).numpy())
    assert file.stat().st_size == before
    with pytest.raises(ValueError, match=r"the samples of test .* changed since"):
        tfcert.verify(pictures / "s.prop", resume=pictures / "out")


@pytest.mark.parametrize("forward", [False, True])
def test_training_reads_every_sample_once_an_epoch_in_an_order_of_its_own(tmp_path, rng, forward, monkeypatch):
    if forward:
        monkeypatch.setattr("tfcert.driver.train.order.STRETCH", 24)
        x, y = load_dataset(Counted(10, total=10).data_set())
    else:
        write_images(tmp_path, rng, {"a": [(2, 2, 3)] * 5, "b": [(2, 2, 3)] * 5})
        x, y = load_dataset("images", tmp_path)
    y, whole = np.asarray(y), np.asarray(x)
    order = Order(x, y, 3, seed=1)
    epochs = []
    for epoch in (0, 1, 0):
        order.on_epoch_begin(epoch)
        batches = [(a.numpy(), b.numpy()) for a, b in order.batches()]
        assert [len(b) for _, b in batches] == [3, 3, 3]
        found = [int(np.flatnonzero((whole == one).reshape(10, -1).all(1))[0]) for a, _ in batches for one in a]
        assert len(set(found)) == 9 and y[found].tolist() == [int(v) for _, b in batches for v in b]
        epochs.append(found)
    assert epochs[0] == epochs[2] != epochs[1]


TRAIN = """
prop 1
model clf = keras("clf.keras")
dataset test = images("pictures") { scale: 1/255 }
dataset learn = images("pictures") { scale: 1/255 }
strategy fast = ibp
property robust(x, y in test take 3) using fast {
  forall z in ball(x, linf, 1/1000) within [0, 1] in unit: argmax(clf(z)) == y
}
objective quick for robust {
  bound: ibp
  train: learn
  epochs: 2
  batch: 2
  natural_weight: 1/2
}
"""


@pytest.mark.usefixtures("eager")
def test_a_model_is_trained_on_a_folder_of_images(pictures):
    from tfcert.driver.train.run import train

    (pictures / "t.prop").write_text(TRAIN)
    done = train(pictures / "t.prop", "quick", pictures / "trained.keras", verbose=0)
    assert done.out.is_file() and len(done.curves.epochs) == 2
