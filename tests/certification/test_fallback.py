"""Relaxations of papers on networks whose activations the papers leave out: refused, or with a named fallback."""

import keras
import numpy as np
import pytest

import tfcert
from tfcert.catalog import check_method, with_fallback


def mixed_model(seed: int = 0) -> keras.Model:
    """Sigmoid, elu, max pooling and relu6: only the first has a rule of DeepCert."""
    keras.utils.set_random_seed(seed)
    start = keras.Input((4, 4, 1))
    x = keras.layers.Conv2D(2, 3, padding="same", activation="sigmoid")(start)
    x = keras.layers.MaxPooling2D()(keras.layers.Activation("elu")(x))
    return keras.Model(start, keras.layers.Dense(4)(keras.layers.Dense(5, "relu6")(keras.layers.Flatten()(x))))


def sigmoid_model() -> keras.Model:
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((5,)), keras.layers.Dense(8, "sigmoid"), keras.layers.Dense(3)])


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return mixed_model()


def samples(model: keras.Model, count: int = 3) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(count, *model.input_shape[1:])).astype("float32")
    return x, np.asarray(model(x)).argmax(axis=1)


@pytest.mark.parametrize("relaxation", ["cnncert", "deepcert"])
def test_without_a_fallback_the_refusal_says_that_there_is_one(model, relaxation):
    x, y = samples(model)
    with pytest.raises(ValueError, match="fallback='adaptive'"):
        tfcert.certify(model, x, y, eps=0.01, relaxation=relaxation)


@pytest.mark.parametrize(("relaxation", "norm"), [("cnncert", "linf"), ("deepcert", "l2")])
def test_a_mixed_network_is_bounded_soundly_and_its_results_name_the_fallback(model, eager, relaxation, norm):
    x, y = samples(model)
    found = tfcert.certify(model, x, y, eps=0.02, norm=norm, relaxation=relaxation, fallback="adaptive")
    assert found.verified.all() and found.relaxation == f"{relaxation}+adaptive"
    ball = tfcert.LpBall(x, 0.3, norm)
    margins = tfcert.margins(model, ball, y, relaxation=relaxation, fallback="adaptive")
    box = tfcert.bounds(model, ball, relaxation=relaxation, fallback="adaptive")
    rng = np.random.default_rng(1)
    for _ in range(50):
        step = rng.normal(size=x.shape) if norm != "linf" else rng.choice([-1.0, 1.0], x.shape)
        length = np.linalg.norm(step.reshape(len(x), -1), {"linf": np.inf, "l2": 2, "l1": 1}[norm], axis=1)
        outputs = np.asarray(model((x + step * (ball.eps / length)[:, None, None, None] * 0.999).astype("float32")))
        assert (box.lower <= outputs + 1e-5).all() and (outputs <= box.upper + 1e-5).all()
        differences = outputs[np.arange(len(y)), y][:, None] - outputs
        np.put_along_axis(differences, y[:, None], np.inf, axis=1)
        assert (margins <= differences + 1e-5).all()


def test_where_every_activation_has_the_rule_a_fallback_changes_the_name_alone():
    model = sigmoid_model()
    x, y = samples(model)
    plain, named = (
        tfcert.certify(model, x, y, eps=0.1, relaxation="deepcert", fallback=fallback)
        for fallback in (None, "adaptive")
    )
    np.testing.assert_array_equal(plain.margin, named.margin)
    assert (plain.relaxation, named.relaxation) == ("deepcert", "deepcert+adaptive")


def test_a_fallback_needs_a_relaxation_that_may_lack_a_rule():
    model = sigmoid_model()
    x, y = samples(model)
    for relaxation, fallback, said in (
        (None, "adaptive", "name that relaxation"),
        ("adaptive", "adaptive", "takes no fallback"),
        ("frown", "adaptive", "takes no fallback"),
        ("deepcert", "crown", "unknown fallback 'crown'"),
        ("unheard", "adaptive", "unknown relaxation 'unheard'"),
    ):
        with pytest.raises(ValueError, match=said):
            tfcert.certify(model, x, y, eps=0.1, relaxation=relaxation, fallback=fallback)
    with pytest.raises(ValueError, match="takes no relaxation"):
        check_method("lp", with_fallback("deepcert", "adaptive"))
