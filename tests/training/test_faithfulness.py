"""Where nothing robust has a weight, training is plain training, step by step."""

import keras
import numpy as np
import pytest

import tfcert
from tfcert.objectives import IBP, ConstrainedIBP, CrownIBP
from tfcert.schedules import Ramp
from tfcert.training.normalization import same_in_training
from training.small import certified, dense_net

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class Weights(keras.callbacks.Callback):
    """Keeps the weights of a model after each step."""

    def __init__(self, model):
        super().__init__()
        self.plain, self.steps = model, []

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append([w.numpy() for w in self.plain.weights])


def network():
    layers = keras.layers
    model = dense_net(layers.BatchNormalization(), layers.Dropout(0.3, seed=5))
    model.layers[0].kernel.regularizer = keras.regularizers.L2(1e-2)
    return model


def trained(model, data, objective=None, epochs=2, **compiled):
    """The weights after each step of a fit, and its history."""
    whole = model if objective is None else tfcert.CertifiedModel(model, objective)
    whole.compile(keras.optimizers.Adam(0.01), loss=LOSS, **compiled)
    kept = Weights(model)
    keras.utils.set_random_seed(7)
    history = whole.fit(*data, batch_size=16, epochs=epochs, verbose=0, callbacks=[kept])
    return kept.steps, history.history


def same(left, right):
    return all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize(
    ("objective", "jit"),
    [(IBP(0.1, kappa=1.0), False), (ConstrainedIBP(0.1, kappa=1.0, weight=0.0), True)],
)
def test_kappa_one_and_weight_zero_is_plain_training_bit_for_bit(data, objective, jit):
    plain, _ = trained(network(), data, jit_compile=jit)
    found, _ = trained(network(), data, objective, jit_compile=jit)
    assert len(plain) == len(found) == 6
    assert all(same(a, b) for a, b in zip(plain, found, strict=True))


def test_a_ramp_is_plain_training_exactly_until_it_begins(data):
    plain, _ = trained(network(), data)
    found, history = trained(network(), data, IBP(0.1, kappa=Ramp(1.0, 0.0, 1, 2)))
    agree = [same(a, b) for a, b in zip(plain, found, strict=True)]
    # The ramp begins after 3 steps; the step at its very beginning still has kappa = 1.
    assert agree == [True, True, True, True, False, False]
    assert history["kappa"][0] == 1.0 and history["kappa"][1] < 1.0


def test_bounds_that_overflow_do_not_poison_plain_steps(data):
    objective = IBP(1e38, kappa=1.0)
    plain, _ = trained(network(), data)
    found, history = trained(network(), data, objective)
    assert all(same(a, b) for a, b in zip(plain, found, strict=True))
    assert history["verified_accuracy"] == [0.0, 0.0]


def test_a_robust_step_at_kappa_one_is_finite_and_near_a_plain_one_though_bounds_overflow(data):
    ramp = IBP(Ramp(1e38, 0.1, 1, 2, "steps"), kappa=Ramp(1.0, 0.5, 10, 20, "steps"))
    models = [dense_net(), dense_net()]
    plain, wrapped = models[0], tfcert.CertifiedModel(models[1], ramp)
    for model in (plain, wrapped):
        model.compile(keras.optimizers.SGD(0.1), loss=LOSS)
        model.train_on_batch(*data)  # one function for all steps: this one is compiled for robust steps too
    for a, b in zip(plain.weights, models[1].weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_the_pass_that_stands_for_the_model_is_the_model(data):
    """Without layers that differ in training the network's own values are the logits, and train the same."""
    objective = CrownIBP(0.0, kappa=0.5)  # a ball of radius 0: both parts of the loss are the nominal loss
    plain, _ = trained(dense_net(), data)
    found, _ = trained(dense_net(), data, objective)
    for a, b in zip(plain[-1], found[-1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_layers_that_take_part_in_training_alone_are_told_from_those_that_do_not():
    """A dense layer's call knows of training for the sake of quantised weights: that must not cost another pass."""
    assert same_in_training(dense_net())
    for layer in (keras.layers.Dropout(0.3), keras.layers.BatchNormalization(), keras.layers.GaussianNoise(0.1)):
        assert not same_in_training(dense_net(layer))


def test_the_backward_pass_ends_when_its_weight_is_zero_for_good_and_nothing_else_changes(data):
    objective = CrownIBP(0.05, kappa=Ramp(1.0, 0.5, 1, 2), beta=Ramp(1.0, 0.0, 1, 3))
    model, kinds = certified(dense_net(), objective), []

    class Kinds(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            kinds.extend(name for name, step in model._functions.items() if step is model.train_function)

    keras.utils.set_random_seed(7)
    model.fit(*data, batch_size=16, epochs=4, verbose=0, callbacks=[Kinds()])
    assert kinds == 4 * ["plain"] + 5 * ["robust"] + 3 * ["intervals"]
    whole = certified(dense_net(), objective)
    keras.utils.set_random_seed(7)
    whole.choose_train_function = lambda: True  # the one that every step goes by
    whole.fit(*data, batch_size=16, epochs=4, verbose=0)
    for a, b in zip(model.weights, whole.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_steps_executed_together_take_the_same_course(data):
    histories = []
    for together in (1, 3):
        model = certified(dense_net(), IBP(0.05, kappa=Ramp(1.0, 0.5, 1, 2)), steps_per_execution=together)
        keras.utils.set_random_seed(7)
        model.fit(*data, batch_size=16, epochs=3, verbose=0)
        histories.append([w.numpy() for w in model.model.weights])
    for a, b in zip(*histories, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
