"""What users give is read as they mean it, or refused with what to pass; never taken for something else."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from tfcert.given import class_labels, inputs, radii, samples, valid_range

Y = np.array([2, 0, 1, 2])
EYE = np.eye(3)


@pytest.mark.parametrize(
    "form",
    [
        Y, Y.tolist(), Y[:, None], Y.astype(np.uint8), Y.astype(np.float32), Y[:, None].astype(np.float64), EYE[Y],
        EYE[Y].astype(bool), EYE[Y].tolist(), Y.astype(object),
    ],
)  # fmt: skip
def test_every_form_of_labels_is_the_same_classes(form):
    found = class_labels(form, 4, classes=3)
    assert found.dtype == np.int64 and found.shape == (4,)
    np.testing.assert_array_equal(found, Y)


@pytest.mark.parametrize(
    ("form", "classes", "sentence"),
    [
        (None, 3, "there are no labels: pass y"),
        (Y[:3], 3, r"4 samples need 4 labels.*these have shape \(3,\)"),
        (Y[None], 3, r"these have shape \(1, 4\)"),
        (EYE[Y].T, 3, r"these have shape \(3, 4\)"),
        (np.array([2, 0, 1, 3]), 3, r"sample 3 has label 3, which is outside 0\.\.2"),
        (np.array([2, -1, 1, 0]), 3, "sample 1 has label -1"),
        (np.array([0, 1, 0.5, 0]), 3, "whole numbers.*that of sample 2 is 0.5"),
        (np.array([0, 1, np.nan, 0]), 3, "that of sample 2 is nan"),
        (np.array([0, np.inf, 1, 0]), None, "that of sample 1 is inf"),
        (np.array(["a", "b", "c", "a"]), 3, "names of classes become numbers"),
        (np.array([1, 2, 1j, 0]), 3, "not values of type complex128"),
        (EYE[Y] * 0.9 + 0.03, 3, r"row 0 of the labels has not a single 1.*y\.argmax\(axis=1\)"),
        (EYE[Y] + EYE[[0, 0, 0, 2]], 3, "row 0 of the labels"),
        (np.zeros((4, 3)), 3, "row 0 of the labels"),
        (np.eye(2)[[0, 1, 0, 1]], 3, r"shape \(4, 2\) for a model of 3 outputs"),
        ([[0, 1], [2], [0], [1]], 3, "rows of different lengths"),
    ],
)  # fmt: skip
def test_what_is_no_label_is_refused_in_a_sentence(form, classes, sentence):
    with pytest.raises(ValueError, match=sentence):
        class_labels(form, 4, classes=classes)


def test_one_class_a_sample_is_no_one_hot_row_when_there_are_as_many_samples_as_classes():
    np.testing.assert_array_equal(class_labels([0, 0, 1], 3, classes=3), [0, 0, 1])
    np.testing.assert_array_equal(class_labels(np.eye(3)[[1, 2, 0]], 3, classes=3), [1, 2, 0])


@pytest.mark.parametrize(
    ("eps", "wanted"),
    [
        ("8/255", [Fraction(8, 255)] * 3),
        ("0.1", [Fraction(1, 10)] * 3),
        (Fraction(1, 3), [Fraction(1, 3)] * 3),
        (np.float32(0.5), [0.5] * 3),
        (np.array(0.25), [0.25] * 3),
        ([1, "1/2", 0.25], [1, Fraction(1, 2), 0.25]),
        (np.array([1.0, 2.0, 3.0]), [1.0, 2.0, 3.0]),
        (np.array([[1.0], [2.0], [3.0]]), [1.0, 2.0, 3.0]),
    ],
)
def test_radii_are_one_number_or_one_a_sample_and_texts_are_exact(eps, wanted):
    assert radii(eps, (3, 4)) == wanted


@pytest.mark.parametrize(
    ("eps", "sentence"),
    [
        ("eight", "eps 'eight' is no number; texts may be such as \"8/255\""),
        ("1/0", "is no number"),
        ([0.1] * 4, r"here are 4 values of eps in the shape .4,. for 3 samples"),
        (np.full((3, 4), 0.1), "one a number of the inputs .*here are 12 values of eps"),
        ([0.1, 0.2], "2 values of eps in the shape .2,. for 3 samples$"),
        ({"a": 1}, "eps is one number, or one a sample, not {"),
    ],
)
def test_other_radii_are_refused(eps, sentence):
    with pytest.raises(ValueError, match=sentence):
        radii(eps, (3, 4))


@pytest.mark.parametrize(
    ("clip", "sentence"),
    [
        ((1, 0), r"\(1, 0\) is empty.*pass the low end first"),
        (([0, 0.5], [1, 0.4]), "is empty"),
        (1, r"a pair \(low, high\) such as \(0, 1\), not 1"),
        ((0, 1, 2), "a pair"),
        ("01", "a pair"),
        ((0, None), "NaN|numbers"),
        (("a", "b"), "a pair of numbers"),
        ((0, float("nan")), "NaN"),
        (([0, 0], [1, 1, 1]), "shapes"),
    ],
)
def test_a_range_that_is_none_is_refused(clip, sentence):
    with pytest.raises(ValueError, match=sentence):
        valid_range(clip)


@pytest.mark.parametrize(
    ("x", "sentence"),
    [
        ([np.zeros((3, 2)), np.zeros((3, 5))], "different shapes: a model with one input takes one array"),
        ({"age": [1.0], "income": [2.0]}, r"a dictionary \(age, income\): a model with one input takes one array"),
        (np.array([["a"]]), "real numbers"),
        (np.array([[1j]]), "real numbers"),
    ],
)
def test_inputs_that_are_no_array_of_numbers_are_refused(x, sentence):
    with pytest.raises(ValueError, match=sentence):
        inputs(x)


class Frame:
    """A table of mixed columns, as a DataFrame gives itself to NumPy."""

    def __array__(self, dtype=None, copy=None):
        return np.array([[1, 2.5], [3, True]], dtype=object)


def test_a_table_of_mixed_columns_of_numbers_is_read_as_floats():
    np.testing.assert_array_equal(inputs(Frame()), [[1, 2.5], [3, 1]])


class DataSet:
    """What ``tf.data.Dataset`` shows of itself to NumPy."""

    def __init__(self, elements, cardinality=3):
        self.elements, self.count = elements, cardinality

    def cardinality(self):
        return self.count

    def as_numpy_iterator(self):
        return iter(self.elements)


X = np.arange(12.0).reshape(4, 3)


@pytest.mark.parametrize(
    "elements",
    [
        list(zip(X, Y, strict=True)),
        list(zip(X, EYE[Y], strict=True)),
        [(X[:3], Y[:3]), (X[3:], Y[3:])],
        [(X[:3], EYE[Y[:3]]), (X[3:], EYE[Y[3:]])],
        [(X[:3], Y[:3, None]), (X[3:], Y[3:, None])],
    ],
    ids=["samples", "samples, one-hot", "batches", "batches, one-hot", "batches, columns"],
)
def test_data_sets_of_samples_and_of_batches_are_the_same_samples(elements):
    class Model:
        input_shape = (3,)

    for model in (None, Model()):
        x, y = samples(DataSet(elements), model=model)
        np.testing.assert_array_equal(x, X)
        np.testing.assert_array_equal(class_labels(y, 4, classes=3), Y)
    x, y = samples(DataSet(elements, cardinality=-1), limit=2)
    np.testing.assert_array_equal(x, X[:2])
    assert len(y) == 2


def test_the_model_tells_a_square_sample_with_one_hot_labels_from_a_batch():
    class Model:
        input_shape = (3, 3)

    image, label = np.arange(9.0).reshape(3, 3), np.array([0.0, 0.0, 1.0])
    x, y = samples(DataSet([(image, label)]), model=Model())
    assert x.shape == (1, 3, 3) and class_labels(y, 1, classes=3) == [2]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (DataSet([(X, Y)], cardinality=-1), r"for ever: give it with \.take"),
        (DataSet([]), "no elements"),
        (DataSet([{"image": X, "label": Y}]), r"not dictionaries \(image, label\): \.map\("),
        (DataSet([(X, Y, Y)]), "weights of samples have no place here"),
        (DataSet([((X, X), Y)]), "one array of inputs and one of labels"),
    ],
)
def test_other_data_sets_are_refused(data, sentence):
    with pytest.raises(ValueError, match=sentence):
        samples(data)


def test_labels_besides_a_data_set_are_refused():
    with pytest.raises(ValueError, match="leave y out"):
        samples(DataSet([(X, Y)]), Y)
