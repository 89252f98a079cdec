"""Data sets that are chosen from, joined, or come from TensorFlow Datasets."""

import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfcert
from tfcert.datasets import DatasetError, load_dataset
from tfcert.datasets.lazy import JoinedInputs
from tfcert.driver.sources import load_samples
from tfcert.errors import UsageError
from tfcert.language import load

X = np.arange(24, dtype=np.float32).reshape(12, 2)
Y = np.arange(12) % 3


def samples(text: str, **bindings):
    """The samples of the data set ``test`` of a text, those of Python among them."""
    spec = load("prop 1\n" + text, bound=bindings)
    return load_samples(spec.datasets["test"], bindings)


def streamed(x=X, y=Y) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(5)


@pytest.mark.parametrize("data", [lambda: (X, Y), streamed], ids=["arrays", "stream"])
@pytest.mark.parametrize(
    ("steps", "kept"),
    [
        ("skip 3 take 4", [3, 4, 5, 6]),
        ("take 2 per class", [0, 1, 2, 3, 4, 5]),
        ("indices [11, 0, 5]", [11, 0, 5]),
        ("take 8 indices [7, 1]", [7, 1]),
    ],
)
def test_a_data_set_holds_what_its_choice_leaves(data, steps, kept):
    found = samples(f'dataset test = npz("a.npz") {steps}', test=data())
    np.testing.assert_array_equal(np.asarray(found.x), X[kept])
    np.testing.assert_array_equal(np.asarray(found.y), Y[kept])


def test_a_shuffled_stream_is_the_shuffled_array():
    array, stream = (samples('dataset test = npz("a.npz") shuffle(5)', test=d) for d in ((X, Y), streamed()))
    np.testing.assert_array_equal(np.asarray(stream.x), array.x)
    assert sorted(array.x[:, 0]) == sorted(X[:, 0]) != array.x[:, 0].tolist()


@pytest.mark.parametrize("lazy", [(), ("a",), ("b",), ("a", "b")], ids=str)
def test_joined_data_sets_follow_one_another_and_keep_their_choices(lazy):
    given = {name: streamed(X + k, Y) if name in lazy else (X + k, Y) for k, name in ((0, "a"), (100, "b"))}
    text = 'dataset a = npz("a.npz") take 4\ndataset b = npz("b.npz") skip 10\ndataset test = joined(a, b)'
    found = samples(text, **given)
    whole, labels = np.concatenate([X[:4], X[10:] + 100]), np.concatenate([Y[:4], Y[10:]])
    np.testing.assert_array_equal(np.asarray(found.x), whole)
    np.testing.assert_array_equal(np.asarray(found.y), labels)
    assert isinstance(found.x, JoinedInputs) == bool(lazy)
    np.testing.assert_array_equal(np.asarray(samples(text + " take 5", **given).x), whole[:5])
    np.testing.assert_array_equal(found.x[np.array([5, 0, 4])], whole[[5, 0, 4]])


def test_a_joined_data_set_that_is_bound_is_what_was_bound():
    text = 'dataset a = npz("a.npz")\ndataset test = joined(a, a) take 2'
    np.testing.assert_array_equal(samples(text, a=(X, Y), test=(X + 7, Y)).x, X[:2] + 7)


def test_what_cannot_be_joined_or_chosen_is_refused_with_the_reason():
    two = 'dataset a = npz("a.npz")\ndataset b = npz("b.npz")\ndataset test = joined(a, b)'
    with pytest.raises(UsageError, match=r"samples of a have shape \(2,\), of b \(1,\)"):
        samples(two, a=(X, Y), b=(X[:, :1], Y))
    with pytest.raises(UsageError, match="b has no labels"):
        samples(two, a=(X, Y), b=X)
    with pytest.raises(UsageError, match="there is no sample 12: there are 12"):
        samples('dataset test = npz("a.npz") indices [12]', test=(X, Y))
    with pytest.raises(UsageError, match="leaves none"):
        samples('dataset test = npz("a.npz") skip 12', test=(X, Y))
    with pytest.raises(UsageError, match="cannot be taken per class"):
        samples('dataset test = npz("a.npz") take 1 per class', test=X)
    with pytest.raises(DatasetError, match="repeats for ever"):
        samples('dataset test = npz("a.npz") shuffle(1) take 3', test=streamed().repeat())


def test_values_beyond_the_range_are_found_in_joined_streams():
    text = 'dataset a = npz("a.npz") { range: [0, 22] }\ndataset test = joined(a, a)'
    with pytest.raises(UsageError, match=r"sample 11 leaves the range"):
        np.asarray(samples(text, a=streamed()).x)


@pytest.mark.usefixtures("eager")
def test_a_question_asks_about_its_own_choice_and_numbers_samples_in_the_data_set(tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input([2]), keras.layers.Dense(3)])
    text = """prop 1
model clf = keras("clf.keras")
dataset test = npz("test.npz") skip 2
property p(x, y in test where y != 1 shuffle(5) take 2 per class) using fast {
  forall z in ball(x, linf, 0.001) in raw: argmax(clf(z)) == y }
strategy fast = ibp
"""
    for data in ((X, Y), streamed()):
        report = tfcert.verify(text, bindings={"clf": model, "test": data}, out=tmp_path)
        numbers = [record.sample for record in report.records]
        assert sorted(record.label for record in report.records) == [0, 0, 2, 2]
        assert [record.label for record in report.records] == [Y[2:][number] for number in numbers]
        predicted = np.asarray(model(X[2:][numbers])).argmax(1)
        assert [record.prediction for record in report.records] == predicted.tolist()
        assert numbers != sorted(numbers)


def test_columns_that_a_specification_names_are_taken_in_that_order(tmp_path):
    (tmp_path / "p.csv").write_text("age,sex,the income,grade\n1,2,3,0\n4,5,6,1\n")
    text = 'prop 1\ndataset test = csv("p.csv", x=["the income", age], label=grade)'
    found = load_samples(load(text, root=tmp_path).datasets["test"], {})
    assert found.x.tolist() == [[3, 1], [6, 4]] and found.y.tolist() == [0, 1]


def test_tensorflow_datasets_are_streamed_where_they_are_prepared(monkeypatch):
    asked = []

    def prepared(name, **options):
        if name != "toy":
            raise LookupError(f"Dataset {name} not found")
        asked.append(options)
        return streamed()

    package = types.ModuleType("tensorflow_datasets")
    package.load = prepared
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", package)
    np.testing.assert_array_equal(np.asarray(samples('dataset test = tfds("toy", split="train") take 3').x), X[:3])
    assert asked[0]["split"] == "train" and asked[0]["as_supervised"] and not asked[0]["download"]
    with pytest.raises(DatasetError, match=r"Dataset other not found; prepare it with `tfds build other`"):
        samples('dataset test = tfds("other")')
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(DatasetError, match=r"pip install tfcert\[tfds\]"):
        load_dataset("tfds", "toy")
