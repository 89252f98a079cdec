"""IntervalAbstraction: its cells are exact, phi of a ball is the cell of its centre, and Keras saves and tunes it."""

import itertools
from fractions import Fraction

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers as L

import tfcert
from tfcert.layers import IntervalAbstraction
from tfcert.network import DenseMap, Linear, abstraction_of, from_keras

DTYPES = ("float32", "float64")


def ends(layer, x):
    """The ends of the cells of some numbers ``[n]``, as the layer has them."""
    found = layer(np.asarray(x, layer.dtype)[:, None]).numpy()
    return found[:, 0], found[:, 1]


def assert_cells(layer, numbers, expected):
    """``expected``: the ends of each number's cell as fractions, which the layer rounds once."""
    lower, upper = ends(layer, [float(x) for x in numbers])
    for found, side in ((lower, 0), (upper, 1)):
        exact = np.array([float(pair[side]) for pair in expected]).astype(layer.dtype)
        np.testing.assert_array_equal(found, exact)


CASES = {  # granularity as written, range, and the numbers: all those with this denominator
    "2/255": (2 / 255, Fraction(2, 255), (0, 1), 255),
    "0.1": (0.1, Fraction(1, 10), (0, 1), 100),
    "0.3 overhangs": (0.3, Fraction(3, 10), (0, 1), 100),
    "0.1 around 0": (0.1, Fraction(1, 10), (-1, 1), 40),
    "1/3 around 0": (1 / 3, Fraction(1, 3), (-1, 1), 60),
    "integers": (2, Fraction(2), (0, 255), 1),
    "0.7 of integers": (0.7, Fraction(7, 10), (0, 255), 10),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_a_number_is_in_the_cell_that_exact_arithmetic_says_edges_included(case, dtype):
    written, width, (low, high), denominator = CASES[case]
    layer = IntervalAbstraction(written, (low, high), dtype=dtype)
    numbers = [Fraction(k, denominator) for k in range(low * denominator, high * denominator + 1)]
    last = -((low - high) // width) - 1
    index = [min((x - low) // width, last) for x in numbers]
    assert_cells(layer, numbers, [(low + k * width, low + (k + 1) * width) for k in index])
    assert index[-1] == last and (last + 1) * width >= high - low > last * width


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_top_cell_is_closed_and_outside_belongs_to_the_outermost_cells(dtype):
    layer = IntervalAbstraction(0.25, (-0.5, 0.5), dtype=dtype)
    top, bottom = (Fraction(1, 4), Fraction(1, 2)), (Fraction(-1, 2), Fraction(-1, 4))
    assert_cells(layer, [0.5, 0.75, 1e30, np.inf], [top] * 4)
    assert_cells(layer, [-0.5, -0.51, -1e30, -np.inf], [bottom] * 4)


def test_the_top_cell_of_a_layer_with_room_for_finer_cells_is_closed_too():
    layer = IntervalAbstraction(0.5, (0, 1), finest=0.1)
    assert_cells(layer, [0.75, 1.0, 7.0], [(Fraction(1, 2), Fraction(1))] * 3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_neighbours_of_an_edge_are_on_their_own_sides(dtype):
    layer = IntervalAbstraction(0.1, (0, 1), dtype=dtype)
    edge = np.dtype(dtype).type(0.3)
    lower, upper = ends(layer, [np.nextafter(edge, edge.dtype.type(0)), edge])
    assert upper[0] == lower[1] == edge


def phi(ball, width, low, high):
    """Algorithm 1 of AbsCert for one value: the interval that the ball ``(min, max)`` is mapped to."""
    count = -((low - high) // width)
    parts = [(low + j * width, low + (j + 1) * width) for j in range(count)]
    for j, part in enumerate(parts):
        if ball[0] > part[1]:
            continue
        if j + 1 == count or (part[0] <= ball[0] and ball[1] <= part[1]):
            return part
        right, left = ball[1] - parts[j + 1][0], part[1] - ball[0]
        return parts[j + 1] if right >= left else part
    raise AssertionError("the ball is beyond the range")


@settings(deadline=None, max_examples=50)
@given(st.integers(-240, 240), st.integers(2, 90), st.data())
def test_phi_of_a_ball_is_the_cell_of_its_centre_while_eps_is_at_most_half_the_granularity(place, size, data):
    x, width = Fraction(place, 240), Fraction(size, 60)
    eps = width / 2 * Fraction(data.draw(st.integers(1, 12)), 12)
    layer = IntervalAbstraction(float(width), (-1, 1), dtype="float64")
    assert_cells(layer, [x], [phi((x - eps, x + eps), width, Fraction(-1), Fraction(1))])


def test_a_wider_ball_is_not_mapped_to_the_cell_of_its_centre():
    """Algorithm 1 takes the first cells that the ball meets for all of them: so ``d >= 2 eps`` is needed above."""
    x, width, eps = Fraction(1, 20), Fraction(1, 10), Fraction(3, 10)
    assert phi((x - eps, x + eps), width, Fraction(-1), Fraction(1)) == (Fraction(-1, 5), Fraction(-1, 10))


# A granularity for each value


def test_each_channel_has_the_cells_of_its_own_granularity_and_room_where_it_has_fewer():
    widths = [0.5, 0.1, 1 / 3]
    layer = IntervalAbstraction(widths, (0, 1), dtype="float64")
    x = np.random.default_rng(1).uniform(-0.2, 1.2, (50, 2, 3))
    found = layer(x).numpy()
    for channel, width in enumerate(widths):
        alone = IntervalAbstraction(width, (0, 1), dtype="float64")(x[..., channel : channel + 1]).numpy()
        np.testing.assert_array_equal(found[..., [channel, channel + 3]], alone)
    compiled = tf.function(layer, jit_compile=True)
    np.testing.assert_array_equal(compiled(x), found)


def test_each_value_of_an_input_may_have_its_own_granularity(tmp_path):
    widths = np.array([[0.5, 0.2], [0.25, 1.0]])
    made = keras.Sequential([keras.Input((2, 2)), IntervalAbstraction(widths), L.Flatten(), L.Dense(3)])
    x = np.random.default_rng(2).random((9, 2, 2)).astype(np.float32)
    lower, upper = np.split(made.layers[0](x).numpy(), 2, axis=-1)
    assert (lower <= x).all() and (x <= upper + 1e-7).all()
    np.testing.assert_allclose(upper - lower, np.broadcast_to(widths, x.shape), rtol=1e-5)
    made.save(tmp_path / "m.keras")
    again = tfcert.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again.layers[0].granularity, widths)
    np.testing.assert_array_equal(again.predict(x, verbose=0), made.predict(x, verbose=0))


@pytest.mark.parametrize("method", ["ibp", "crown", "milp"])
def test_bounds_over_cells_of_several_widths_are_those_of_every_combination_of_reachable_cells(method):
    keras.utils.set_random_seed(5)
    widths, eps = [0.5, 0.2, 0.3], 0.09
    made = keras.Sequential(
        [keras.Input((3,)), IntervalAbstraction(widths, (0, 1)), L.Dense(6, activation="relu"), L.Dense(3)]
    )
    x = np.random.default_rng(6).uniform(0.1, 0.9, (4, 3)).astype(np.float32)
    y = made.predict(x, verbose=0).argmax(axis=1)
    found = tfcert.certify(made, x, y, eps=eps, clip=(0, 1), method=method)
    cells = keras.Sequential(made.layers[1:])
    for row, label, margin, verified in zip(x, y, found.margin, found.verified, strict=True):
        pairs = list(zip(row.astype(float), widths, strict=True))
        reach = [range(int((v - eps) / d), int((v + eps) / d) + 1) for v, d in pairs]
        lower = np.array(list(itertools.product(*reach))) * widths
        values = cells(np.concatenate([lower, lower + widths], axis=1).astype(np.float32)).numpy()
        least = (values[:, [label]] - np.delete(values, label, axis=1)).min()
        assert margin <= least + 1e-4
        if method == "milp":
            assert verified == (least > 1e-4)


@pytest.mark.parametrize(
    ("widths", "finest", "match"),
    [([0.1, -0.1], None, "positive number, not \\[0.1, -0.1\\]"), ([0.1, 0.2], 0.1, "must have one shape"),
     ([0.1, 0.2], [0.1, 0.3], "at least \\[0.1, 0.3\\] \\(finest\\), not \\[0.1, 0.2\\]")],
)  # fmt: skip
def test_granularities_that_cannot_be_are_refused(widths, finest, match):
    with pytest.raises(ValueError, match=match):
        IntervalAbstraction(widths, (0, 1), finest)


def test_granularities_that_do_not_suit_the_input_are_refused_and_tuning_needs_one():
    with pytest.raises(ValueError, match="do not broadcast against an input of shape \\(4,\\)"):
        IntervalAbstraction([0.1] * 3)(np.zeros((2, 4), np.float32))
    several = model([0.2] * 4)
    several.compile("sgd", "mse")
    assert tfcert.abstraction_error(several, X, np.zeros(20, int), eps=0.1).granularity.shape == (4,)
    with pytest.raises(ValueError, match="tuning takes steps off one number"):
        tfcert.tune_granularity(lambda d: several, X, np.zeros(20, int), eps=0.1, start=0.2, step=0.1, verbose=0)


# In Keras


def test_lower_ends_come_first_along_the_last_axis():
    layer = IntervalAbstraction(0.5, (0, 1))
    x = np.array([0.1, 0.7, 0.6, 0.2, 0.9, 0.3]).reshape(1, 1, 2, 3)
    found = layer(x).numpy()
    assert found.shape == layer.compute_output_shape(x.shape) == (1, 1, 2, 6)
    np.testing.assert_array_equal(found[..., :3], np.where(x < 0.5, 0, 0.5))
    np.testing.assert_array_equal(found[..., 3:], found[..., :3] + 0.5)


def test_the_gradient_of_both_ends_is_that_of_the_number():
    x = tf.constant([[0.1, 0.25, 2.0]])
    weights = tf.constant([[1.0, 2.0, 3.0, 10.0, 20.0, 30.0]])
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(weights * IntervalAbstraction(0.25)(x))
    np.testing.assert_array_equal(tape.gradient(total, x), [[11.0, 22.0, 33.0]])


def test_xla_finds_the_same_cells():
    layer = IntervalAbstraction(0.1, (-1, 1))
    x = np.linspace(-1.2, 1.2, 97, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(tf.function(layer, jit_compile=True)(x), layer(x))


def model(granularity=0.25, finest=None, dtype="float32"):
    keras.utils.set_random_seed(2)
    abstraction = IntervalAbstraction(granularity, (0, 1), finest, dtype=dtype)
    return keras.Sequential([keras.Input((4,), dtype=dtype), abstraction, L.Dense(3, dtype=dtype)])


X = np.random.default_rng(0).random((20, 4)).astype(np.float32)


def test_a_granularity_that_was_set_is_seen_by_compiled_functions_and_by_networks():
    tuned, network = model(0.5, finest=0.1), None
    network = from_keras(tuned)
    compiled = tf.function(tuned)
    before = tuned.predict(X, verbose=0), compiled(X)
    tuned.layers[0].granularity = 0.1
    fine = model(0.1)
    fine.layers[1].set_weights(tuned.layers[1].get_weights())
    expected = fine.predict(X, verbose=0)
    for found, old in zip((tuned.predict(X, verbose=0), compiled(X)), before, strict=True):
        np.testing.assert_array_equal(found, expected)
        assert np.abs(old - found).max() > 0.01
    np.testing.assert_allclose(network(tf.constant(X)), expected, atol=1e-6)
    bound = tfcert.bounds(tuned, tfcert.LpBall(X, 0.0), method="ibp")
    np.testing.assert_allclose(bound.lower, expected, atol=1e-6)


@pytest.mark.parametrize("load", [tfcert.load_model, keras.models.load_model])
def test_a_model_is_saved_and_loaded_with_the_granularity_that_was_set(load, tmp_path):
    tuned = model(0.4, finest=0.05)
    tuned.layers[0].granularity = 0.15
    tuned.save(tmp_path / "m.keras")
    again = load(tmp_path / "m.keras")
    assert again.layers[0].granularity == 0.15 and again.layers[0].finest == 0.05
    np.testing.assert_array_equal(again.predict(X, verbose=0), tuned.predict(X, verbose=0))
    again.layers[0].granularity = 0.05


def test_weights_alone_restore_a_granularity(tmp_path):
    tuned, other = model(0.4, finest=0.1), model(0.4, finest=0.1)
    tuned.layers[0].granularity = 0.1
    tuned.save_weights(tmp_path / "m.weights.h5")
    other.load_weights(tmp_path / "m.weights.h5")
    assert other.layers[0].granularity == 0.1
    np.testing.assert_array_equal(other.predict(X, verbose=0), tuned.predict(X, verbose=0))


def test_a_clone_has_the_same_cells():
    layer = IntervalAbstraction(2 / 255, (-1, 1), 1 / 255, name="a")
    again = IntervalAbstraction.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    np.testing.assert_array_equal(again.edges, layer.edges)
    cloned = keras.models.clone_model(model(0.3))
    assert cloned.layers[0].granularity == 0.3


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((0.0,), "positive"),
        ((-0.1,), "positive"),
        ((float("nan"),), "positive"),
        ((0.1, (1, 0)), "the lower first"),
        ((0.1, (0, float("inf"))), "finite"),
        ((0.1, (0, 1), 0.2), "at least 0.2"),
        ((1e-9, (1, 1.00000001)), "vanish in float32"),
    ],
)
def test_cells_that_cannot_be_are_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        IntervalAbstraction(*arguments)


def test_a_granularity_below_the_finest_is_refused_and_changes_nothing():
    layer = IntervalAbstraction(0.4, finest=0.2)
    with pytest.raises(ValueError, match=r"at least 0\.2 \(finest\), not 0\.1"):
        layer.granularity = 0.1
    assert layer.granularity == 0.4
    np.testing.assert_array_equal(layer.edges[:4], np.float32([0, 0.4, 0.8, 1.2]))


def test_a_granularity_whose_cells_vanish_is_refused_and_changes_nothing():
    layer = IntervalAbstraction(0.5, (1000, 1001), 1e-5)
    before = layer.edges.numpy()
    with pytest.raises(ValueError, match="vanish in float32"):
        layer.granularity = 1e-5
    assert layer.granularity == 0.5
    np.testing.assert_array_equal(layer.edges, before)


def test_a_range_that_floats_computed_has_the_cells_that_were_meant():
    mean, std = 0.1307, 0.3081
    edges = IntervalAbstraction(1 / 3 / std, ((0 - mean) / std, (1 - mean) / std)).edges.numpy()
    assert len(edges) == 4 and abs(edges[-1] - (1 - mean) / std) < 1e-6


def test_nan_stays_nan():
    assert np.isnan(IntervalAbstraction(0.5)(np.float32([[np.nan, 0.2]])).numpy()).tolist() == [[True, False] * 2]


# In a network


def test_weights_of_another_abstraction_are_seen_when_bounds_are_asked_for():
    here, other = (
        keras.Sequential([keras.Input((4,)), IntervalAbstraction(d, ends), L.Dense(2)])
        for d, ends in ((0.5, (0, 1)), (1.0, (-1, 1)))
    )
    here.set_weights(other.get_weights())
    with pytest.raises(tfcert.UnsupportedLayerError, match="weights of another abstraction were loaded"):
        from_keras(here)


@pytest.mark.parametrize(
    "before",
    [L.Rescaling(2.0), L.Dense(4), L.ReLU(), L.BatchNormalization(), L.AveragePooling1D(1), L.Normalization()],
    ids=lambda layer: type(layer).__name__,
)
def test_what_computes_before_the_abstraction_is_refused(before):
    shape = (4, 1) if isinstance(before, L.AveragePooling1D) else (4,)
    if isinstance(before, L.Normalization):
        before = L.Normalization(mean=0.5, variance=2.0)
    late = keras.Sequential([keras.Input(shape), before, IntervalAbstraction(0.25), L.Flatten(), L.Dense(2)])
    with pytest.raises(tfcert.UnsupportedLayerError, match="Make it the first layer"):
        from_keras(late)


@pytest.mark.parametrize("before", [L.Reshape((2, 2)), L.Flatten(), L.Permute((2, 1)), L.ZeroPadding2D(1)])
def test_what_only_moves_numbers_may_come_before_it(before):
    shape = {L.Reshape: (4,), L.ZeroPadding2D: (2, 2, 1)}.get(type(before), (4, 1))
    late = keras.Sequential([keras.Input(shape), before, IntervalAbstraction(0.25), L.Flatten(), L.Dense(2)])
    x = X.reshape(20, *shape)
    np.testing.assert_allclose(from_keras(late)(tf.constant(x)), late.predict(x, verbose=0), atol=1e-6)


def readers(kind):
    """A model in which dense layers or convolutions read the ends of cells, some of them rescaled or reshaped."""
    keras.utils.set_random_seed(4)
    inputs = keras.Input((3, 2, 2) if kind != "dense" else (4,), dtype="float64")
    x = IntervalAbstraction(0.2, (0, 1), dtype="float64")(inputs)
    match kind:
        case "rescaled":
            x = L.Rescaling(2.0, -1.0, dtype="float64")(x)
        case "normalised":
            x = L.BatchNormalization(dtype="float64")(x)
        case "flat":
            x = L.Flatten(dtype="float64")(x)
        case "conv" | "two":
            x = L.Conv2D(3, 2, padding="same", dtype="float64")(x)
    if kind == "two":
        x = L.Concatenate(dtype="float64")([x, L.Conv2D(2, 1, strides=1, dtype="float64")(inputs)])
    built = keras.Model(inputs, L.Dense(3, dtype="float64")(L.Flatten(dtype="float64")(x)))
    rng = np.random.default_rng(1)
    for weight in built.trainable_weights:
        weight.assign(rng.normal(size=weight.shape))
    return built


@pytest.mark.parametrize("kind", ["dense", "conv", "rescaled", "normalised", "flat", "two"])
def test_matrices_that_read_both_ends_are_added_up_and_nothing_else_changes(kind):
    built = readers(kind)
    network = from_keras(built)
    assert not [n for n in network.nodes if isinstance(n, Linear) and "Copies" in type(n.map).__name__]
    x = tf.constant(np.random.default_rng(0).random((5, *network.input_shape)))
    direction = tf.constant(np.random.default_rng(2).normal(size=(5, 3)))
    found = []
    for function in (network, built):
        with tf.GradientTape() as tape:
            outputs = function(x)
            total = tf.reduce_sum(direction * outputs)
        found.append([outputs, *tape.gradient(total, built.trainable_weights)])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-10)


def test_a_dense_layer_that_reads_the_ends_has_one_column_a_value():
    network = from_keras(readers("dense"))
    maps = [node.map for node in network.nodes if isinstance(node, Linear)]
    assert [type(m) for m in maps] == [DenseMap] and maps[0].in_shape == (4,)


def test_the_abstraction_of_a_model_is_found_in_nested_models_and_is_one():
    inner = model(0.2)
    outer = keras.Sequential([keras.Input((4,)), inner, L.ReLU()])
    assert abstraction_of(outer) is inner.layers[0]
    with pytest.raises(ValueError, match="has no IntervalAbstraction: put"):
        abstraction_of(keras.Sequential([keras.Input((4,)), L.Dense(2)]))
    twice = keras.Sequential([keras.Input((4,)), IntervalAbstraction(0.2), IntervalAbstraction(0.1)])
    with pytest.raises(ValueError, match="has several"):
        abstraction_of(twice)
    with pytest.raises(TypeError, match="Keras model"):
        abstraction_of(inner.layers[0])
