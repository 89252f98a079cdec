"""Radii from global Lipschitz constants: exact on linear networks, sound on others, below an attack's distance."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sweeps import sweep_but

import tfcert
from tfcert.activations import Activation, activation, names
from tfcert.estimates.activations import activation_constant
from tfcert.estimates.lipschitz import Constants
from tfcert.network import from_keras
from tfcert.verdict import Guarantee

DUAL = {"linf": 1, "l2": 2, "l1": np.inf}
ORDERS = {"linf": np.inf, "l2": 2, "l1": 1}
layers = keras.layers


def samples(model: keras.Model, count: int = 8) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(2).normal(size=(count, *model.input_shape[1:])).astype(np.float32)
    return x, np.asarray(model(x)).argmax(axis=1)


def linear_model() -> keras.Model:
    """Two linear paths, joined; no activation anywhere."""
    start = keras.Input((6, 6, 2))
    left = layers.Conv2D(3, 3, padding="same")(start)
    right = layers.AveragePooling2D(3, 1, "same")(layers.Conv2D(3, 1)(start))
    joined = layers.Add()([left, right])
    both = layers.Concatenate()([layers.Flatten()(joined), layers.Flatten()(start)])
    return keras.Model(start, layers.Dense(4)(both))


@pytest.mark.usefixtures("seed")
@pytest.mark.parametrize("norm", DUAL)
def test_on_a_linear_network_the_radius_is_margin_over_dual_norm(norm):
    model = linear_model()
    x, y = samples(model)
    found = tfcert.global_lipschitz_radius(model, x, y, norm=norm)
    with tf.GradientTape() as tape:
        point = tf.constant(x)
        tape.watch(point)
        values = model(point)
    jacobian = tape.batch_jacobian(values, point).numpy().reshape(len(x), 4, -1).astype(float)
    for i, label in enumerate(y):
        others = [j for j in range(4) if j != label]
        costs = np.linalg.norm(jacobian[i, label] - jacobian[i, others], DUAL[norm], axis=1)
        np.testing.assert_allclose(found.constant[i], costs, rtol=1e-5)
        margins = values.numpy()[i, label] - values.numpy()[i, others]
        assert found.radius[i] == pytest.approx((margins / costs).min(), rel=1e-4)
    assert found.guarantee is Guarantee.NUMERIC and "certified" in str(found)


def convolutional() -> keras.Model:
    """Overlapping pooling, batch normalisation, a residual block, a join of branches."""
    start = keras.Input((8, 8, 1))
    x = layers.Conv2D(4, 3, activation="relu")(start)
    x = layers.BatchNormalization()(x)
    x = layers.MaxPooling2D(3, 1)(x)
    x = layers.Add()([x, layers.Conv2D(4, 3, padding="same", activation="relu")(x)])
    x = layers.Concatenate()([layers.ReLU()(x), layers.AveragePooling2D(2, 1, "same")(x)])
    return keras.Model(start, layers.Dense(3)(layers.Flatten()(x)))


def randomize(model: keras.Model, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        values = rng.normal(size=variable.shape) / np.sqrt(max(1, np.prod(variable.shape[:-1])))
        variable.assign(np.abs(values) + 0.3 if "variance" in variable.name else values)


@pytest.mark.parametrize("norm", DUAL)
def test_no_sampled_slope_exceeds_the_constant(norm, rng):
    """Chords between near and far points, and gradients, over random networks."""
    for seed in range(4):
        model = convolutional()
        randomize(model, seed)
        network = from_keras(model)
        constants = Constants(network, norm).of_rows(np.array([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0]]))
        x = rng.normal(size=(300, 8, 8, 1))
        z = x + rng.normal(size=x.shape) * 10.0 ** rng.uniform(-2, 1, (300, 1, 1, 1)) * (rng.random(x.shape) < 0.3)
        change = np.asarray(model(z.astype(np.float32))) - np.asarray(model(x.astype(np.float32)))
        distance = np.linalg.norm((z - x).reshape(300, -1), ORDERS[norm], axis=1)
        moved = np.abs(np.stack([change[:, 0] - change[:, 1], change[:, 1] - change[:, 2]]))
        assert (moved <= constants[:, None] * distance * (1 + 1e-4) + 1e-5).all()
        points = tf.constant(x.astype(np.float32))
        with tf.GradientTape() as tape:
            tape.watch(points)
            margin = model(points) @ tf.constant([[1.0], [-1.0], [0.0]])
        slopes = np.linalg.norm(tape.gradient(margin, points).numpy().reshape(300, -1), DUAL[norm], axis=1)
        assert (slopes <= constants[0] * (1 + 1e-5)).all()


@pytest.mark.parametrize(("norm", "windows"), [("linf", 1.0), ("l2", 3.0), ("l1", 9.0)])
def test_an_input_of_overlapping_windows_counts_once_for_each(norm, windows):
    """A peak in the middle is the maximum of nine windows of 3 x 3, whose sum the head takes."""
    start = keras.Input((5, 5, 1))
    model = keras.Model(start, layers.Flatten()(layers.MaxPooling2D(3, 1)(start)))
    network = from_keras(model)
    assert Constants(network, norm).of_node(1) == windows
    peak = np.zeros((2, 5, 5, 1), np.float32)
    peak[1, 2, 2] = 1
    change = np.diff(np.asarray(model(peak)), axis=0)[0]
    assert np.linalg.norm(change, ORDERS[norm]) == windows


@pytest.mark.usefixtures("seed")
@pytest.mark.parametrize("norm", sweep_but(["linf", "l2"], DUAL))
def test_the_radius_lies_below_what_bounds_certify_and_what_attacks_reach(norm):
    model = convolutional()
    x, y = samples(model)
    loose = tfcert.global_lipschitz_radius(model, x, y, norm=norm).radius
    assert (loose > 0).all()
    assert (loose <= tfcert.certified_radius(model, x, y, norm=norm).radius).all()
    assert not tfcert.attack(model, x, y, eps=loose, norm=norm).success.any()


@pytest.mark.usefixtures("seed")
def test_one_target_has_its_own_constant_and_a_misclassified_sample_radius_zero():
    model = convolutional()
    x, y = samples(model)
    everything = tfcert.global_lipschitz_radius(model, x, y)
    for shift in (1, 2):
        one = tfcert.global_lipschitz_radius(model, x, y, targets=(y + shift) % 3)
        assert one.constant.shape == (len(x), 1) and (one.radius >= everything.radius).all()
    assert not tfcert.global_lipschitz_radius(model, x, (y + 1) % 3).radius.any()


def test_a_trained_weight_is_seen_at_once():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, activation="relu"), layers.Dense(2)])
    x, y = samples(model)
    before = tfcert.global_lipschitz_radius(model, x, y).constant
    model.layers[0].kernel.assign(2 * model.layers[0].kernel)
    np.testing.assert_allclose(tfcert.global_lipschitz_radius(model, x, y).constant, 2 * before, rtol=1e-6)


def test_a_margin_that_depends_on_nothing_is_certified_everywhere():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    model.layers[0].set_weights([np.zeros((3, 2)), np.array([1.0, 0.0])])
    found = tfcert.global_lipschitz_radius(model, np.ones((1, 3)), np.array([0]))
    assert found.radius[0] == np.inf


def parameters(name: str) -> dict:
    known = {
        "prelu": {"alpha": lambda: tf.constant([0.5, -2.0, 1.0])},
        "power": {"exponent": 3.0},
        "threshold": {"threshold": 0.5, "default_value": 0.5},
    }
    return known.get(name, {})


@pytest.mark.parametrize("name", names())
def test_an_activation_is_nowhere_steeper_than_its_constant(name):
    """Or it has none: then it is an error that says so."""
    act = activation(name, **parameters(name))
    try:
        constant = activation_constant(act, (3,), tf.float32)
    except ValueError as error:
        assert act.name in str(error)
        return
    x = np.sort(np.concatenate([np.linspace(-30, 30, 60_001), np.linspace(-1e3, 1e3, 2001)]))
    values = act.function(tf.constant(np.repeat(x[:, None], 3, axis=1), tf.float32 if name == "prelu" else tf.float64))
    steps = np.diff(x)
    slopes = np.abs(np.diff(values.numpy().astype(float), axis=0))[steps > 1e-4] / steps[steps > 1e-4, None]
    slack = 1e-2 if name == "prelu" else 1e-9
    assert slopes.max() <= constant * (1 + slack)
    assert slopes.max() >= 0.99 * constant


def test_leaky_slopes_count_and_steeper_ones_than_one_too():
    for slope in (0.1, -0.5, 3.0):
        act = activation("leaky_relu", negative_slope=slope)
        assert activation_constant(act, (2,), tf.float32) == pytest.approx(max(1, abs(slope)), rel=1e-6)


@pytest.mark.parametrize("alpha", [0.3, 1.0, 2.5])
def test_the_left_slope_of_an_elu_counts(alpha):
    assert activation_constant(activation("elu", alpha=alpha), (2,), tf.float32) == max(1.0, alpha)


def test_an_activation_without_a_known_constant_is_an_error_that_says_so():
    known = activation("tanh")

    def made(name: str, function) -> Activation:
        return Activation(name, function, known.critical_points, known.relaxations, known.ranges)

    with pytest.raises(ValueError, match="no global Lipschitz constant is known for the activation 'cube'"):
        activation_constant(made("cube", lambda x: x**3), (2,), tf.float32)
    with pytest.raises(ValueError, match="'tanh'"):  # a name alone proves nothing
        activation_constant(made("tanh", lambda x: tf.tanh(2 * x)), (2,), tf.float32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norm": "l3"}, "unknown norm"),
        ({"targets": "nearest"}, "targets must be"),
        ({"x": np.zeros((2, 5))}, "of shape"),
        ({"x": np.full((2, 3), np.nan)}, "NaN"),
        ({"y": np.array([0, 2])}, "outside"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    given = {"x": np.zeros((2, 3)), "y": np.array([0, 1]), **arguments}
    with pytest.raises(ValueError, match=message):
        tfcert.global_lipschitz_radius(model, given.pop("x"), given.pop("y"), **given)
