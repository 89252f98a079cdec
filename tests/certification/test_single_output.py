"""A model with a single output has no classes: whatever needs them refuses it, and the way out that it names works."""

from pathlib import Path

import keras
import numpy as np
import pytest
from soundness import networks

import tfcert
from tfcert.driver.direct.request import Request
from tfcert.errors import UsageError


def binary(head: str) -> keras.Model:
    start = keras.Input((2,))
    hidden = keras.layers.Dense(4, activation="relu")(start)
    model = keras.Model(start, keras.layers.Dense(1, activation=head)(hidden))
    networks.randomize(model, np.random.default_rng(5))
    model.layers[-1].bias.assign(-np.asarray(keras.Model(start, hidden)(X) @ model.layers[-1].kernel).mean(axis=0))
    return model


X = np.random.default_rng(6).uniform(-1, 1, (12, 2)).astype(np.float32)
ZEROS = np.zeros(len(X), int)
QUESTIONS = {
    "certify": lambda m: tfcert.certify(m, X, ZEROS, eps=0.1),
    "margins": lambda m: tfcert.margins(m, tfcert.LpBall(X, 0.1), ZEROS),
    "certified_radius": lambda m: tfcert.certified_radius(m, X, ZEROS),
    "attack": lambda m: tfcert.attack(m, X, ZEROS, eps=0.1),
    "attack on targets": lambda m: tfcert.attack(m, X, ZEROS, eps=0.1, targets=ZEROS + 1),
    "minimum_perturbation": lambda m: tfcert.minimum_perturbation(m, X[:1], ZEROS[:1], upper=1.0),
    "clever_score": lambda m: tfcert.clever_score(m, X, ZEROS),
    "global_lipschitz_radius": lambda m: tfcert.global_lipschitz_radius(m, X, ZEROS),
}


@pytest.mark.parametrize("head", ["sigmoid", "linear"])
@pytest.mark.parametrize("question", QUESTIONS)
def test_a_single_output_is_refused(question, head):
    with pytest.raises(ValueError, match=r"a single output.*keras.ops.concatenate\(\[1 - p, p\], axis=-1\)"):
        QUESTIONS[question](binary(head))


def test_a_single_output_is_refused_by_the_command_line(tmp_path: Path):
    binary("sigmoid").save(tmp_path / "m.keras")
    np.savez(tmp_path / "d.npz", x=X, y=ZEROS)
    data = Request(str(tmp_path / "m.keras"), str(tmp_path / "d.npz"), "linf", None, 5)
    with pytest.raises(UsageError, match=r"m.keras: the model has a single output"):
        data.load()


def test_a_single_output_is_refused_in_training():
    with pytest.raises(ValueError, match=r"with at least two classes: of a binary classifier.* Dense\(2\)"):
        tfcert.CertifiedModel(binary("linear"), tfcert.objectives.IBP(eps=0.1))
    model = binary("sigmoid")
    model.compile("sgd", "binary_crossentropy")
    evaluation = tfcert.callbacks.CertifiedEvaluation((X, ZEROS), eps=0.1)
    with pytest.raises(ValueError, match="the model has a single output"):
        model.fit(X, ZEROS, epochs=1, verbose=0, callbacks=[evaluation])


def test_the_abstraction_error_of_a_single_output_is_refused():
    start = keras.Input((2,))
    model = keras.Model(start, keras.layers.Dense(1)(tfcert.layers.IntervalAbstraction(0.5, (-1, 1))(start)))
    with pytest.raises(ValueError, match="the model has a single output"):
        tfcert.abstraction_error(model, X, ZEROS)


@pytest.mark.parametrize("head", ["sigmoid", "linear"])
def test_two_outputs_made_of_one_answer_what_was_meant(head):
    model = binary(head)
    p = model.output
    two = keras.Model(model.input, keras.ops.concatenate([1 - p if head == "sigmoid" else -p, p], axis=-1))
    said = np.asarray(model(X))[:, 0] > (0.5 if head == "sigmoid" else 0)
    y = said.astype(int)
    assert 0 < y.sum() < len(y)
    found = tfcert.certify(two, X, y, eps=0.05)
    assert found.verified.any() and not tfcert.certify(two, X, 1 - y, eps=0.05).verified.any()
    steps = np.linspace(-0.05, 0.05, 21)
    grid = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(1, -1, 2)
    points = (X[:, None] + grid).astype(np.float32)
    kept = (np.asarray(model(points.reshape(-1, 2))).reshape(len(X), -1) > (0.5 if head == "sigmoid" else 0)) == said[
        :, None
    ]
    assert kept[found.verified].all()
    attacked = tfcert.attack(two, X, y, eps=0.05)
    assert not (attacked.success & found.verified).any() and attacked.success.sum() == (~kept.all(axis=1)).sum()
