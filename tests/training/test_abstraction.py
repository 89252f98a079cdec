"""AbsCert's figure is what it says, and no guarantee: the counter-example. Gradients of ends, and objectives."""

import re

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcert
from tfcert.layers import IntervalAbstraction
from tfcert.network.abstraction import simplest
from tfcert.objectives import IBP
from tfcert.training.abstraction import EndGradients, check_eps, end_gradients
from tfcert.verdict import Guarantee
from training.small import certified, crossentropies, robust_step


def sign_net():
    """Class 0 for cells above zero and class 1 for those below: outputs ``lower + upper`` and 0, exactly."""
    model = keras.Sequential([keras.Input((1,)), IntervalAbstraction(0.2, (-1, 1)), L.Dense(2, use_bias=False)])
    model.layers[1].kernel.assign([[1.0, 0.0], [1.0, 0.0]])
    return model


X = np.array([[0.05]], np.float32)


@pytest.mark.usefixtures("eager")
def test_the_counter_example_has_no_abstraction_error_and_is_not_robust():
    """d = 0.2, eps = 0.1, x = 0.05: -0.01 is in the ball, and its cell [-0.2, 0] was never looked at."""
    model = sign_net()
    found = tfcert.abstraction_error(model, X, [0], eps=0.1)
    assert found.error == 0.0 and not found.wrong.any()
    np.testing.assert_allclose(model.predict(np.float32([[-0.01]]), verbose=0), [[-0.2, 0.0]], atol=1e-7)
    for method in ("ibp", "crown", "milp"):
        certified = tfcert.certify(model, X, np.array([0]), eps=0.1, method=method)
        assert not certified.verified[0]
        np.testing.assert_allclose(certified.margin, -0.2, atol=1e-6)
    attacked = tfcert.attack(model, X, np.array([0]), eps=0.1)
    assert attacked.success[0] and -0.05 <= attacked.witness[0, 0] < 0
    # The ball that stays within its cell is proven, by the same methods.
    assert tfcert.certify(model, X, np.array([0]), eps=0.049, method="ibp").verified[0]


def test_it_says_that_it_is_an_estimate():
    found = tfcert.abstraction_error(sign_net(), np.float32([[0.05], [-0.3], [0.7]]), [0, 0, 0])
    assert found.guarantee is Guarantee.ESTIMATE and found.granularity == 0.2
    assert "33.33% (1 of 3 samples, granularity 0.2; estimate)" in str(found)
    assert "NOT a guarantee" in str(found) and "tfcert.certify" in str(found)


def test_a_tie_and_a_nan_are_errors():
    model = keras.Sequential([keras.Input((1,)), IntervalAbstraction(0.5, (-1, 1)), L.Dense(2)])
    kernel = np.array([[1.0, -1.0], [1.0, -1.0]])
    for bias, expected in (((0.0, 0.0), [False, True]), ((0.5, -0.5), [False, True]), ((0.0, np.nan), [True, True])):
        model.layers[1].set_weights([kernel, np.array(bias)])
        found = tfcert.abstraction_error(model, np.float32([[0.2], [-0.2]]), [0, 0])
        assert found.wrong.tolist() == expected  # with the second bias -0.5 + 0.5 ties with 0.5 - 0.5


def test_samples_of_one_cell_have_one_answer_whatever_their_labels_look_like(rng):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), IntervalAbstraction(0.25), L.Dense(3)])
    x = rng.random((40, 4)).astype(np.float32)
    y = rng.integers(0, 3, 40)
    moved = (np.floor(x * 4) + rng.random(x.shape).astype(np.float32) * 0.9) / 4
    found = tfcert.abstraction_error(model, x, y, batch_size=7)
    assert 0 < found.error < 1
    np.testing.assert_array_equal(found.wrong, tfcert.abstraction_error(model, moved, np.eye(3)[y]).wrong)
    np.testing.assert_array_equal(found.wrong, model.predict(x, verbose=0).argmax(axis=1) != y)


def test_a_certified_model_has_the_figure_of_its_inner_model(data):
    model = certified(small_net(), IBP(0.1))
    np.testing.assert_array_equal(
        tfcert.abstraction_error(model, *data).wrong, tfcert.abstraction_error(model.model, *data).wrong
    )


@pytest.mark.parametrize("granularity", [0.1, 0.2, 0.3, 2 / 255])
def test_eps_may_be_half_the_granularity_to_the_last_digit_and_no_more(granularity):
    model = keras.Sequential([keras.Input((1,)), IntervalAbstraction(granularity), L.Dense(2)])
    tfcert.abstraction_error(model, X, [0], eps=granularity / 2)
    with pytest.raises(ValueError, match=r"d >= 2 eps.* or leave eps out"):
        tfcert.abstraction_error(model, X, [0], eps=granularity / 2 + 1e-9)
    with pytest.raises(ValueError, match=r"at least .*, or") as refused:
        tfcert.abstraction_error(model, X, [0], eps=(eps := 0.5 + granularity / 3))
    advised = float(re.search("at least (.*), or", str(refused.value))[1])
    check_eps(simplest(advised), eps)
    assert advised == pytest.approx(2 * eps, rel=1e-15)
    with pytest.raises(ValueError, match="from 0 on"):
        tfcert.abstraction_error(model, X, [0], eps=-0.1)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="no IntervalAbstraction"):
        tfcert.abstraction_error(keras.Sequential([keras.Input((1,)), L.Dense(2)]), X, [0])
    with pytest.raises(ValueError, match="labels from 2 to 2"):
        tfcert.abstraction_error(sign_net(), X, [2])
    with pytest.raises(ValueError, match="samples need"):
        tfcert.abstraction_error(sign_net(), X, [0, 1])


# Gradients


def linear_net(loss, scale=1.0):
    """Cells of 2 values into 3 logits."""
    model = keras.Sequential([keras.Input((2,)), IntervalAbstraction(0.25), L.Dense(3)])
    rng = np.random.default_rng(5)
    model.layers[1].set_weights([scale * rng.normal(size=(4, 3)), rng.normal(size=3)])
    model.compile("sgd", loss)
    return model


@pytest.mark.parametrize("one_hot", [False, True])
def test_gradients_of_ends_are_means_of_their_closed_form(rng, one_hot):
    """Of cross-entropy through one dense layer: ``W (softmax - onehot)``, lower ends first."""
    kind = keras.losses.CategoricalCrossentropy if one_hot else keras.losses.SparseCategoricalCrossentropy
    model = linear_net(kind(from_logits=True))
    x, y = rng.random((13, 2)).astype(np.float32), rng.integers(0, 3, 13)
    logits = model.predict(x, verbose=0).astype(np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    exact = (probabilities - np.eye(3)[y]) @ model.layers[1].kernel.numpy().T
    for batch_size in (256, 13, 5, 1):  # 5 leaves a batch of 3
        found = end_gradients(model, x, np.eye(3)[y] if one_hot else y, batch_size=batch_size)
        assert found.lower == pytest.approx(exact[:, :2].mean(), abs=1e-6)
        assert found.upper == pytest.approx(exact[:, 2:].mean(), abs=1e-6)


def test_they_are_found_in_nested_and_in_certified_models_and_the_layer_stays_as_it_was(rng):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    x, y = rng.random((6, 2)).astype(np.float32), rng.integers(0, 3, 6)
    inner = linear_net(loss)
    expected = end_gradients(inner, x, y)
    assert "call" not in vars(inner.layers[0])
    outer = keras.Sequential([keras.Input((2,)), inner])
    outer.compile("sgd", loss)
    assert end_gradients(outer, x, y) == expected
    found = end_gradients(certified(inner, IBP(0.1)), x, y)
    assert found.lower == pytest.approx(expected.lower) and found.upper == pytest.approx(expected.upper)


def test_gradients_need_a_loss():
    with pytest.raises(ValueError, match="compile it first"):
        end_gradients(sign_net(), X, np.array([0]))


@pytest.mark.parametrize(
    ("upper", "lower", "wider"),
    [
        (-1, 1, True),
        (0, 0, True),
        (-1, 0, True),
        (1, 1, False),
        (-1, -1, False),
        (np.nan, 1, False),
        (-1, np.nan, False),
    ],
)
def test_wider_cells_are_asked_for_where_the_loss_falls_at_both_ends(upper, lower, wider):
    assert EndGradients(upper=upper, lower=lower).ask_for_wider_cells is wider


# Training over reachable cells


def small_net(seed=0):
    keras.utils.set_random_seed(seed)
    hidden = L.Dense(6, activation="relu", bias_initializer="ones")
    return keras.Sequential([keras.Input((4,)), IntervalAbstraction(0.25, (0, 1)), hidden, L.Dense(3)])


def test_the_margins_of_a_step_are_those_of_certification(data):
    x, y = data
    model = certified(small_net(), IBP(0.1, kappa=0.5, clip=(0, 1)))
    outcome = robust_step(model, x, y)
    by_engine = tfcert.certify(model.model, x, y, eps=0.1, clip=(0, 1), method="ibp")
    np.testing.assert_allclose(outcome.margin, by_engine.margin, atol=1e-5)
    np.testing.assert_allclose(outcome.logits, model.model(x), atol=1e-6)


def test_the_loss_of_a_step_is_that_of_the_worst_reachable_cells(data):
    """One layer of weights behind the cells: the exact worst case, cell by cell."""
    x, y = data
    keras.utils.set_random_seed(3)
    inner = keras.Sequential([keras.Input((4,)), IntervalAbstraction(0.25, (0, 1)), L.Dense(3)])
    model = certified(inner, IBP(0.1, kappa=0.0, clip=(0, 1)))
    kernel, bias = (w.astype(np.float64) for w in inner.layers[1].get_weights())
    low, high = (np.minimum(np.floor(np.clip(x + e, 0, 1).astype(np.float64) * 4), 3) for e in (-0.1, 0.1))
    margins = np.zeros((len(x), 3))
    for j in range(3):
        rows = (kernel[:, y] - kernel[:, [j]]).T
        summed, offset = rows[:, :4] + rows[:, 4:], 0.25 * rows[:, 4:].sum(axis=1) + bias[y] - bias[j]
        margins[:, j] = np.minimum(summed * low / 4, summed * high / 4).sum(axis=1) + offset
    outcome = robust_step(model, x, y)
    assert float(outcome.loss) == pytest.approx(crossentropies(-margins, y).mean(), rel=1e-5)


def test_training_with_kappa_1_is_plain_training_bit_for_bit(data):
    plain, wrapped = small_net(), certified(small_net(), IBP(0.1, kappa=1.0))
    plain.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    for model in (plain, wrapped):
        model.fit(*data, batch_size=16, epochs=1, shuffle=False, verbose=0)
    for a, b in zip(plain.get_weights(), wrapped.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_initialisation_for_intervals_leaves_the_cells_alone():
    model = small_net()
    edges = model.layers[0].edges.numpy()
    tfcert.ibp_initialize(model)
    np.testing.assert_array_equal(model.layers[0].edges, edges)
    assert not model.layers[1].bias.numpy().any()


def test_a_granularity_that_changes_while_training_is_seen_by_the_next_step(data):
    """The function of training is not traced again: the margins of the logs are those of the cells of the day."""
    x, y = data
    keras.utils.set_random_seed(0)
    layers = [IntervalAbstraction(0.5, (0, 1), finest=0.1), L.Dense(6, activation="relu"), L.Dense(3)]
    model = certified(keras.Sequential([keras.Input((4,)), *layers]), IBP(0.05), optimizer=keras.optimizers.SGD(0.0))
    losses, traces = [], []
    for granularity in (0.5, 0.1):
        model.model.layers[0].granularity = granularity
        history = model.fit(x, y, batch_size=48, verbose=0).history
        losses.append(history["loss"][0])
        traces.append(model.train_function)
        margins = tfcert.certify(model.model, x, y, eps=0.05, method="ibp").margin
        assert history["verified_accuracy"][0] == pytest.approx((margins > 0).mean())
    assert traces[0] is traces[1] and losses[0] != losses[1]
