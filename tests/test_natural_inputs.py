"""Every public function reads samples, labels and radii alike: one reading, whatever the function."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfcert
from tfcert.misfit import MisfitWarning

X = np.array([[0.9, 0.2, 0.4], [0.1, 0.8, 0.3], [0.3, 0.2, 0.7], [0.6, 0.5, 0.1]], np.float32)
Y = np.array([0, 1, 2, 1])
"""The last label is wrong."""
SMALL = tfcert.BoundOptions(jit=False)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """The class of the largest input."""
    built = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    built.set_weights([np.eye(3), np.zeros(3)])
    return built


def evaluation(model, x, y=None):
    """What the callback finds, as an array."""
    callback = tfcert.callbacks.CertifiedEvaluation(x if y is None else (x, y), eps=0.22, method="ibp")
    callback.set_model(model)
    return np.array(list(callback.evaluate().values()))


FUNCTIONS = {
    "certify": lambda m, *xy: tfcert.certify(m, *xy, eps=0.1, options=SMALL).margin,
    "certified_radius": lambda m, *xy: tfcert.certified_radius(m, *xy, options=SMALL).radius,
    "attack": lambda m, *xy: tfcert.attack(m, *xy, eps=0.22, steps=5, restarts=1).success,
    "minimum_perturbation": lambda m, *xy: tfcert.minimum_perturbation(m, *xy, upper="1/2", time_limit=5).lower,
    "clever_score": lambda m, *xy: tfcert.clever_score(m, *xy, batches=10, samples=1).score,
    "global_lipschitz_radius": lambda m, *xy: tfcert.global_lipschitz_radius(m, *xy).radius,
    "CertifiedEvaluation": evaluation,
}


SLOW = ("clever_score", "minimum_perturbation")
"""They read as the Lipschitz radius does; that they refuse shows it."""


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in SLOW])
def test_labels_and_samples_mean_the_same_in_every_form(model, name):
    def function(*given):
        return FUNCTIONS[name](model, *given)

    wanted = function(X, Y)
    assert len(np.unique(wanted)) > 1
    pipeline = tf.data.Dataset.from_tensor_slices((X, np.eye(3)[Y])).batch(3)
    for given in (
        (X, np.eye(3)[Y]),
        (X.tolist(), Y[:, None].astype(float)),
        (tf.constant(X), tf.constant(Y)),
        (pipeline,),
    ):
        np.testing.assert_allclose(function(*given), wanted, rtol=1e-6)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_labels_that_are_no_classes_of_the_model_are_refused(model, name):
    with pytest.raises(ValueError, match=r"outside 0\.\.2"):
        FUNCTIONS[name](model, X, np.array([0, 1, 3, 1]))
    with pytest.raises(ValueError, match=r"row 0 of the labels has not a single 1"):
        FUNCTIONS[name](model, X, np.full((4, 3), 1 / 3))


def test_margins_and_errors_of_abstractions_take_the_same_labels(model):
    ball = tfcert.LpBall(X, "1/10")
    for form in (np.eye(3)[Y], Y[:, None]):
        wanted = tfcert.margins(model, ball, Y, options=SMALL)
        np.testing.assert_array_equal(tfcert.margins(model, ball, form, options=SMALL), wanted)
    cells = keras.Sequential(
        [
            keras.Input((3,)),
            tfcert.layers.IntervalAbstraction(0.25, (0, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    wrong = tfcert.abstraction_error(cells, X, Y).wrong
    np.testing.assert_array_equal(tfcert.abstraction_error(cells, X, np.eye(3)[Y]).wrong, wrong)


def test_attack_distances_take_the_same_labels(model):
    pytest.importorskip("foolbox")
    few = {"norm": "linf", "steps": 3}
    wanted = tfcert.attack_distance(model, X, Y, **few).distance
    np.testing.assert_allclose(tfcert.attack_distance(model, X, np.eye(3)[Y], **few).distance, wanted)


def test_data_frames_are_samples_and_their_columns_labels(model):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["a", "b", "c"])
    wanted = tfcert.certify(model, X, Y, eps=0.1, options=SMALL).margin
    for labels in (pandas.Series(Y), pandas.DataFrame({"y": Y}), pandas.get_dummies(pandas.Series(Y))):
        found = tfcert.certify(model, frame, labels, eps="1/10", options=SMALL).margin
        np.testing.assert_allclose(found, wanted)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"x": X}, "there are no labels: pass y"),
        ({"x": X, "y": Y, "clip": (1, 0)}, "pass the low end first"),
        ({"x": X, "y": Y, "clip": ([0, 0], 1)}, r"shape \(2,\), which does not broadcast"),
        ({"x": X, "y": Y, "eps": np.full((4, 2), 0.1)}, r"one a number of the inputs \(an array of shape \(3,\)\)"),
        ({"x": X, "y": Y, "eps": "a tenth"}, "is no number"),
        ({"x": [X, X[:, :2]], "y": Y}, "different shapes"),
        ({"x": {"a": X}, "y": Y}, r"a dictionary \(a\)"),
        ({"x": X[0], "y": Y[:1]}, r"pass a single one as x\[None\]"),
    ],
)
@pytest.mark.parametrize("name", ["certify", "attack"])
def test_what_cannot_be_read_is_refused_in_a_sentence(model, name, given, sentence):
    with pytest.raises(ValueError, match=sentence):
        getattr(tfcert, name)(model, **({"eps": 0.1} | given))


def test_indexing_of_the_batch_or_by_arrays_is_refused_and_slices_of_features_are_not():
    z = keras.Input((4, 3))
    picked = keras.layers.Flatten()(z[..., 1:, 0])
    model = keras.Model(z, keras.layers.Dense(2)(picked))
    x = np.random.default_rng(0).random((2, 4, 3)).astype(np.float32)
    found = tfcert.bounds(model, tfcert.LpBall(x, 0.0), options=SMALL)
    np.testing.assert_allclose(found.lower, model.predict(x, verbose=0), atol=1e-5)
    with pytest.raises(tfcert.UnsupportedLayerError, match="indexes the batch"):
        tfcert.bounds(keras.Model(z, keras.layers.Flatten()(z[:1, :])), tfcert.LpBall(x, 0.0))


@pytest.mark.parametrize("name", ["certify", "attack"])
def test_samples_that_the_model_does_not_know_are_warned_of_where_the_user_asks(model, name):
    x = np.random.default_rng(0).random((60, 3)).astype(np.float32)
    asked = {"eps": 0.001} | ({"options": SMALL} if name == "certify" else {"steps": 1, "restarts": 1})
    with pytest.warns(MisfitWarning, match="of 50 samples are classified right, no more than guessing") as caught:
        getattr(tfcert, name)(model, x, x.argmin(axis=1), **asked)
    assert caught[0].filename == __file__
    callback = tfcert.callbacks.CertifiedEvaluation((x, x.argmin(axis=1)), eps=0.001, method="ibp", attack="fgsm")
    callback.set_model(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        callback.evaluate()  # of a model that may not be trained yet
        getattr(tfcert, name)(model, x, x.argmax(axis=1), **asked)


@pytest.mark.parametrize("name", ["certify", "attack"])
def test_a_radius_for_other_units_than_the_inputs_is_warned_of(model, name):
    asked = {"options": SMALL} if name == "certify" else {"steps": 1, "restarts": 1}
    with pytest.warns(MisfitWarning, match="0.014% of what the inputs span, 25.5 to 229.5") as caught:
        getattr(tfcert, name)(model, 255 * X, Y, eps=[0.0, 0.01, 0.02, 8 / 255 - 0.0029], **asked)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("name", ["crown_ibp", "alpha_crown", "forward_backward"])
def test_methods_are_known_by_the_names_that_specifications_give_them(model, name):
    found = tfcert.certify(model, X, Y, eps=0.1, method=name, options=SMALL)
    assert found.method == name.replace("forward_", "forward+").replace("_", "-")
    np.testing.assert_allclose(found.margin, tfcert.certify(model, X, Y, eps=0.1, options=SMALL).margin, rtol=1e-5)
