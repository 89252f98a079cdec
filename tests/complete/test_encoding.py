"""Encodings: every point of the set satisfies them, exact layers have exact optima, and only open neurons a binary."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from soundness import networks
from soundness.networks import Sketch, block_sketch, randomize, seeded

from complete.brute_force import least_margin
from complete.questions import REGIONS, around, keeps_class, mlp, points
from complete.questions import question as deployed
from tfcert.catalog import BOUNDS
from tfcert.clauses import Clauses
from tfcert.complete.encoding.encode import EncodingOptions, encode
from tfcert.complete.encoding.piecewise import PiecewiseNetwork, flatten
from tfcert.complete.encoding.program import Program
from tfcert.complete.search.query import Query, distance_program, margin_program
from tfcert.complete.search.tighten import LayerBounds, propagated_bounds
from tfcert.network import Network, from_keras
from tfcert.network.cache import network_of
from tfcert.sets.balls import ORDER, Box, LpBall, Perturbation

layers = keras.layers
question = functools.partial(deployed, rounded=False)  # programs of the rows as they are have the exact optima
pytestmark = pytest.mark.usefixtures("eager")


def vector_sketch(block, seed: int) -> Sketch:
    pick, rng = seeded(seed)
    s = Sketch(rng)
    s.dense(s.activate(block(s, s.activate(s.dense(s.input((3,)), 4)), pick)), 3)
    return s


SKETCHES = {
    block.__name__: functools.partial(block_sketch, block, seed, (3, 3, 2))
    for seed, block in enumerate(networks.IMAGE_BLOCKS)
} | {block.__name__: functools.partial(vector_sketch, block, seed) for seed, block in enumerate(networks.VECTOR_BLOCKS)}
EXACT = {
    "relu": lambda: layers.ReLU(),
    "leaky": lambda: layers.LeakyReLU(0.2),
    "steep leaky": lambda: layers.LeakyReLU(1.7),
    "prelu": lambda: layers.PReLU(),
    "relu6": lambda: layers.ReLU(max_value=6.0),
    "relu1 from a threshold": lambda: layers.ReLU(max_value=1.0, negative_slope=0.1),
    "hard tanh": lambda: layers.Activation("hard_tanh"),
    "hard sigmoid": lambda: layers.Activation("hard_sigmoid"),
    "abs": lambda: layers.Activation(keras.ops.abs),
}
CURVED = {name: functools.partial(layers.Activation, name) for name in ("sigmoid", "tanh", "gelu", "softplus")}


def activated(make, seed: int = 0, gain: float = 3.0) -> keras.Model:
    """Two layers of an activation, of which some neurons are on each piece."""
    model = keras.Sequential([keras.Input((2,)), layers.Dense(4), make(), layers.Dense(3), make(), layers.Dense(3)])
    randomize(model, np.random.default_rng(seed))
    for layer in model.layers:
        if isinstance(layer, layers.Dense):
            layer.kernel.assign(gain * layer.kernel)
    return model


def wide_bounds(net: PiecewiseNetwork, region: Perturbation) -> LayerBounds:
    return propagated_bounds(net, Box(*region.astype(np.float64).interval()), "crown-ibp")[0]


def encoded(net: PiecewiseNetwork, region: Perturbation, bounds: LayerBounds, relax: bool):
    encoding = encode(net, region.astype(np.float64), bounds.layers, bounds.output, EncodingOptions(relax=relax))
    return encoding, encoding.builder.program((encoding.inputs[:0], np.zeros(0)))


def assert_holds_everything(network: Network, regions: list[Perturbation]) -> None:
    """Members of the sets satisfy the programs, whole where they have to be, and give the network's outputs."""
    net = flatten(network)
    for region in regions:
        bounds = wide_bounds(net, region)
        xs = points(region, 10)
        outputs = net.network(tf.constant(xs, tf.float64)).numpy().reshape(len(xs), -1)
        for relax in (True, False):
            encoding, program = encoded(net, region, bounds, relax)
            assert relax == (program.binaries == 0) or not relax
            for x, expected in zip(xs, outputs, strict=True):
                v = encoding.point(x.astype(np.float64).ravel(), program)
                size = max(1.0, float(np.abs(v).max()))
                assert program.violation(v) <= 1e-9 * size
                assert set(np.unique(v[program.integer])) <= {0.0, 1.0}
                assert np.abs(encoding.outputs.at(v) - expected).max() <= 1e-9 * size


@pytest.mark.parametrize("name", SKETCHES)
def test_points_of_the_set_satisfy_the_program_of_every_layer(name, rng):
    network = SKETCHES[name]().network(tf.float64)
    x = rng.uniform(0.2, 0.8, (1, *network.input_shape))
    assert_holds_everything(network, [around(kind, x, 0.3) for kind in REGIONS])


@pytest.mark.parametrize("seed", range(3))
def test_points_of_the_set_satisfy_the_program_of_keras_models(seed, rng):
    network = from_keras(networks.keras_model(seed))
    x = rng.uniform(0.2, 0.8, (1, *network.input_shape)).astype(np.float32)
    assert_holds_everything(network, [around("linf", x, 0.1, (0.0, 1.0))])


@pytest.mark.parametrize("name", EXACT | CURVED)
def test_points_of_the_set_satisfy_the_program_of_every_activation(name, rng):
    x = rng.normal(size=(1, 2)).astype(np.float32)
    network = network_of(activated((EXACT | CURVED)[name]), x)
    assert_holds_everything(network, [around(kind, x, 1.0) for kind in (REGIONS if name in EXACT else ["l2"])])


# Optima


def rows_of(rng: np.random.Generator, clauses: int, rows: int, outputs: int = 3) -> Clauses:
    return Clauses(rng.normal(size=(1, clauses, rows, outputs)), rng.normal(size=(1, clauses, rows)))


def solved(query: Query, solver, relax: bool = False):
    asked = margin_program(query, range(query.clauses.offsets.shape[1]), relax=relax)
    answer = solver.solve(asked.program, 30, relax=relax)
    assert answer.status == "optimal"
    return asked, answer


@pytest.mark.parametrize("kind", ["linf", "l1", "box"])
@pytest.mark.parametrize(("clauses", "rows"), [(1, 1), (1, 3), (3, 1), (2, 2)])
def test_the_integer_optimum_is_that_of_all_activation_patterns(solver, kind, clauses, rows, rng):
    model, x = mlp(2, 4, 3, 3, seed=clauses + rows), rng.normal(size=(1, 2)).astype(np.float32)
    region, asked = around(kind, x, 1.0), rows_of(rng, clauses, rows)
    _, answer = solved(question(model, region, asked, bounds="interval"), solver)
    assert answer.objective == pytest.approx(least_margin(model, region, asked), abs=1e-6)


def pooled(kind: str) -> keras.Model:
    """Images with overlapping and padded pools, residual adds, joins and normalised channels."""
    inputs = keras.Input((3, 3, 1))
    x = layers.Conv2D(2, 2, padding="same", strides=(1, 1))(inputs)
    match kind:
        case "overlapping maxima":
            x = layers.MaxPooling2D(2, strides=1)(x)
        case "padded maxima":
            x = layers.MaxPooling2D(2, strides=2, padding="same")(layers.ReLU()(x))
        case "averages":
            x = layers.AveragePooling2D(2, strides=1, padding="same")(layers.ReLU()(x))
        case "residual":
            x = layers.Add()([x, layers.Conv2D(2, 3, padding="same", activation="relu")(x)])
        case "joined":
            x = layers.Concatenate()([layers.ReLU()(x), layers.BatchNormalization()(x)])
    model = keras.Model(inputs, layers.Dense(3)(layers.Dense(3, activation="relu")(layers.Flatten()(x))))
    randomize(model, np.random.default_rng(1))
    return model


MODELS = {name: functools.partial(activated, make) for name, make in EXACT.items()}
MODELS |= {
    name: functools.partial(pooled, name)
    for name in ("overlapping maxima", "padded maxima", "averages", "residual", "joined")
}


@pytest.mark.parametrize(("number", "name"), list(enumerate(MODELS)), ids=list(MODELS))
def test_the_integer_optimum_is_reached_by_the_network_and_by_no_sample_undercut(number, name, cbc, highs, rng):
    """Reached: so nothing was relaxed. Not undercut, and above the relaxation: so nothing was cut off."""
    model, clauses = MODELS[name](), rows_of(rng, 2, 2)
    x = rng.uniform(0, 1, (1, *model.input_shape[1:])).astype(np.float32)
    region = around(REGIONS[number % 3], x, 0.5)
    query = question(model, region, clauses, bounds="interval")
    asked, answer = solved(query, cbc)
    _, relaxed = solved(query, cbc, relax=True)
    _, second = solved(query, highs)
    size = 2e-6 * query.scale
    reached = min(query.true_margin(answer.v[asked.encoding.inputs], k) for k in range(2))
    assert reached == pytest.approx(answer.objective, abs=size)
    assert second.objective == pytest.approx(answer.objective, abs=size)
    assert relaxed.proven_bound() <= answer.objective + size
    xs = points(region, 200)
    outputs = query.net.network(tf.constant(xs, tf.float64)).numpy()
    margins = clauses.take([0] * len(xs)).margin(outputs)
    assert answer.bound <= margins.min() + size


@pytest.mark.parametrize("name", CURVED)
def test_curves_are_enclosed_and_closer_with_more_pieces(name, cbc, rng):
    model, x = activated(CURVED[name]), rng.normal(size=(1, 2)).astype(np.float32)
    region, clauses = around("linf", x, 0.7), rows_of(rng, 1, 1)
    query = question(model, region, clauses)
    _, answer = solved(query, cbc)
    _, relaxed = solved(query, cbc, relax=True)
    outputs = query.net.network(tf.constant(points(region, 300), tf.float64)).numpy()
    sampled = clauses.take([0] * len(outputs)).margin(outputs).min()
    assert relaxed.proven_bound() <= answer.bound + 1e-6
    assert answer.bound <= sampled + 1e-6
    assert sampled - answer.bound <= 0.5 * (sampled - relaxed.proven_bound()) + 1e-6


@pytest.mark.parametrize("norm", ["linf", "l1", "l2"])
@pytest.mark.parametrize("way_out", [True, False])
def test_broken_points_satisfy_the_program_of_distances_at_their_own(norm, way_out, rng):
    model, x = mlp(2, 5, 3, seed=2), rng.normal(size=(1, 2)).astype(np.float32)
    region = LpBall(x, 2.0, norm)
    query = question(model, region, keeps_class(model, x))
    asked = distance_program(query, way_out=way_out)
    broken = 0
    for point in points(region, 60).astype(np.float64):
        v = asked.encoding.point(point.ravel(), asked.program)
        bad = min(query.true_margin(point.ravel(), k) for k in query.open) <= 0
        broken += bad
        if bad or way_out:
            assert asked.program.violation(v) <= 1e-9
        if bad:
            distance = np.linalg.norm((point - x[0]).ravel(), ORDER[norm])
            assert asked.program.value(v) == pytest.approx(distance**2 if norm == "l2" else distance, rel=1e-9)
        elif way_out:
            assert asked.program.value(v) >= (4.0 if norm == "l2" else 2.0)
    assert broken


# Binaries


def test_only_open_neurons_have_a_binary(rng):
    model, x = mlp(3, 8, 6, 2, seed=5), rng.normal(size=(1, 3)).astype(np.float32)
    counts = []
    for eps in (0.0, 0.05, 0.3, 1.0, 10.0):
        query = question(model, LpBall(x, eps), keeps_class(model, x))
        expected = sum(int(((low < 0) & (high > 0)).sum()) for low, high in query.bounds.layers)
        program = margin_program(query, [0]).program
        assert program.binaries == expected
        assert margin_program(query, [0], relax=True).program.binaries == 0
        counts.append(expected)
    assert counts[0] == 0 and counts[-1] == 14 and counts == sorted(counts)


def line(*stack: layers.Layer, weight: float = 1.0, bias: float = 0.0) -> keras.Model:
    """One number through ``weight x + bias`` and a stack of layers."""
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1), *stack, layers.Dense(1)])
    for layer, (kernel, offset) in zip((model.layers[0], model.layers[-1]), ((weight, bias), (1.0, 0.0)), strict=True):
        layer.set_weights([np.array([[kernel]]), np.array([offset])])
    return model


def ends(model: keras.Model, region: Perturbation, solver) -> tuple[float, float]:
    """The least and the largest output."""
    found = []
    for sign in (1.0, -1.0):
        clauses = Clauses(np.full((1, 1, 1, 1), sign), np.zeros((1, 1, 1)))
        found.append(sign * solved(question(model, region, clauses), solver)[1].objective)
    return found[0], found[1]


@pytest.mark.parametrize(
    ("make", "low", "high", "least", "most"),
    [
        (EXACT["relu"], 0.0, 2.0, 0.0, 2.0),  # the kink is the lower end
        (EXACT["relu"], -2.0, 0.0, 0.0, 0.0),  # the kink is the upper end
        (EXACT["relu"], 1.0, 1.0, 1.0, 1.0),  # a single point
        (EXACT["relu"], 0.0, 0.0, 0.0, 0.0),  # a single point at the kink
        (EXACT["hard tanh"], -1.0, 1.0, -1.0, 1.0),
        (EXACT["hard tanh"], -3.0, 3.0, -1.0, 1.0),
        (EXACT["hard tanh"], 1.0, 3.0, 1.0, 1.0),
        (EXACT["relu6"], 5.0, 9.0, 5.0, 6.0),
        (EXACT["abs"], -1.0, 3.0, 0.0, 3.0),
        (EXACT["abs"], 0.0, 3.0, 0.0, 3.0),
        (EXACT["leaky"], -1.0, 2.0, -0.2, 2.0),
        (EXACT["leaky"], -1.0, 0.0, -0.2, 0.0),
        (EXACT["steep leaky"], -1.0, 2.0, -1.7, 2.0),
        (CURVED["tanh"], 0.5, 0.5, np.tanh(0.5), np.tanh(0.5)),
    ],
)
def test_intervals_that_end_at_kinks_or_are_points_have_their_closed_form(make, low, high, least, most, solver):
    region = Box(np.array([[low]]), np.array([[high]]))
    assert ends(line(make()), region, solver) == pytest.approx((least, most), abs=2e-7)


@pytest.mark.parametrize("make", [EXACT["relu"], EXACT["hard tanh"], EXACT["abs"], CURVED["sigmoid"]])
def test_a_neuron_that_hangs_on_nothing_is_a_constant(make, cbc):
    region = Box(np.array([[-1.0]]), np.array([[1.0]]))
    for bias in (-0.5, 0.0, 0.5):
        model = line(make(), weight=0.0, bias=bias)
        expected = float(model(np.zeros((1, 1), np.float32))[0, 0])
        assert ends(model, region, cbc) == pytest.approx((expected, expected), abs=1e-6)


def test_a_maximum_that_one_entry_dominates_needs_no_binary(cbc):
    model = keras.Sequential([keras.Input((2, 1, 1)), layers.MaxPooling2D((2, 1)), layers.Flatten()])
    far = Box(np.array([0.0, 2.0]).reshape(1, 2, 1, 1), np.array([1.0, 3.0]).reshape(1, 2, 1, 1))
    near = Box(np.array([0.0, 0.5]).reshape(1, 2, 1, 1), np.array([1.0, 3.0]).reshape(1, 2, 1, 1))
    for region, binaries, expected in ((far, 0, (2.0, 3.0)), (near, 2, (0.5, 3.0))):
        clauses = Clauses(np.ones((1, 1, 1, 1)), np.zeros((1, 1, 1)))
        assert margin_program(question(model, region, clauses), [0]).program.binaries == binaries
        assert ends(model, region, cbc) == pytest.approx(expected, abs=1e-7)


def figure_2() -> keras.Model:
    """Figure 2 of Agrify (Zhu et al. 2021), section III.

    Its composed labels are l1 = 3 v1 - 3 v2 - 2 v3 + 2 vrect and l2 = -2 v1 + v2 + v3 + 2 vrect, where vrect is
    max(0, n6). With n4 = v1 - 2 v2 - v3 and n5 = -2 v1 + v2 + v3 these are n4 - n5 + 2 vrect and n5 + 2 vrect: the
    weights of the second layer. What the paper prints does not fit together in four places: n5 with 2 v2 (its bounds
    [3, 11] and l2 need v2), x = -2 beside x = -3 for the same input, l1 with n4 let through although the paper itself
    calls n4 inactive (so l1 is -n5 + 2 vrect in the network), and [0, 3] for n6 by a solver (v1 = -3, v3 = 2 gives -1).
    """
    model = keras.Sequential([keras.Input((3,)), layers.Dense(3, activation="relu"), layers.Dense(2)])
    hidden = np.array([[1.0, -2.0, -1.0], [-2.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
    model.set_weights([hidden.T, np.zeros(3), np.array([[1.0, -1.0, 2.0], [0.0, 1.0, 2.0]]).T, np.zeros(2)])
    return model


FIGURE_2 = LpBall(np.array([[-2.0, 0.0, 3.0]]), 1.0)
"""v1 in [-3, -1], v2 in [-1, 1], v3 in [2, 4]."""


@pytest.mark.parametrize("bounds", BOUNDS)
def test_the_neurons_of_agrifys_figure_2_have_its_bounds_and_one_binary(bounds, cbc):
    clauses = Clauses(np.eye(2).reshape(1, 2, 1, 2), np.zeros((1, 2, 1)))
    query = question(figure_2(), FIGURE_2, clauses, bounds=bounds, solver=cbc)
    ((lower, upper),) = query.bounds.layers
    assert np.allclose(lower, [-9, 3, -1], rtol=0, atol=1e-6) and np.allclose(upper, [-1, 11, 3], rtol=0, atol=1e-6)
    assert margin_program(query, [0]).program.binaries == 1


@pytest.mark.parametrize(
    ("row", "exact", "relaxed"),
    [
        # l1 = 2 v1 - v2 - v3 + 2 max(0, v1 + v3): least at v1 = -3, v2 = 1, v3 = 3, at the kink.
        ([1.0, 0.0], -10.0, -10.0),
        # l2 = -2 v1 + v2 + v3 + 2 max(0, v1 + v3): least where v1 + v3 = 0 or above, v2 = -1.
        ([0.0, 1.0], 5.0, 5.0),
        # its largest value needs the upper line of the triangle, which lies above the hinge at v1 = -3, v3 = 4.
        ([0.0, -1.0], -13.0, -14.0),
        # l2 - l1 = 2 n5: the label is kept.
        ([-1.0, 1.0], 6.0, 6.0),
    ],
)
def test_the_optima_of_agrifys_figure_2_are_those_by_hand(row, exact, relaxed, solver):
    clauses = Clauses(np.array(row).reshape(1, 1, 1, 2), np.zeros((1, 1, 1)))
    query = question(figure_2(), FIGURE_2, clauses)
    assert solved(query, solver)[1].objective == pytest.approx(exact, abs=1e-6)
    assert solved(query, solver, relax=True)[1].proven_bound() == pytest.approx(relaxed, abs=1e-6)
    assert least_margin(figure_2(), FIGURE_2, clauses) == pytest.approx(exact, abs=1e-6)


# What cannot be encoded


def test_bounds_that_are_not_finite_are_refused():
    net = flatten(network_of(figure_2(), np.zeros((1, 3))))
    bounds = wide_bounds(net, FIGURE_2)
    output = bounds.output[0], np.array([np.inf, 1.0])
    with pytest.raises(ValueError, match="not finite"):
        encode(net, FIGURE_2.astype(np.float64), bounds.layers, output)


def test_one_sample_is_encoded_at_a_time_and_boxes_have_no_distance():
    net = flatten(network_of(figure_2(), np.zeros((1, 3))))
    bounds = wide_bounds(net, FIGURE_2)
    two = LpBall(np.zeros((2, 3)), 1.0)
    with pytest.raises(ValueError, match="one sample"):
        encode(net, two, bounds.layers, bounds.output)
    with pytest.raises(ValueError, match="no centre"):
        encode(net, Box(np.zeros((1, 3)), np.ones((1, 3))), bounds.layers, bounds.output, distance=True)


def test_a_model_with_a_weight_that_is_not_finite_is_refused():
    model = figure_2()
    model.layers[0].bias.assign([0.0, np.nan, 0.0])
    with pytest.raises(ValueError, match="NaN or infinite"):
        flatten(network_of(model, np.zeros((1, 3))))


def test_infinite_coefficients_are_no_rows(rng):
    """Padding: a row at -inf never holds, a clause with a row at +inf always does and is not asked about."""
    offsets = np.array([[[0.5, -np.inf], [np.inf, 0.0]]])
    clauses = Clauses(rng.normal(size=(1, 2, 2, 2)), offsets)
    query = question(figure_2(), FIGURE_2, clauses)
    assert 1 not in query.open
    assert query.clause(0).coefficients.shape == (1, 2)


def test_clauses_that_are_proven_are_not_asked_about_again(rng):
    model, x = mlp(2, 4, 4, seed=3), rng.normal(size=(1, 2)).astype(np.float32)
    query = question(model, LpBall(x, 3.0), keeps_class(model, x))
    assert len(query.open) == 2
    assert set(query.without({query.open[0]}).open) == set(query.open[1:])
    assert query.without(query.open).open == []


def test_programs_have_finite_bounds_only(rng):
    for kind in REGIONS:
        model, x = mlp(2, 4, 3), rng.normal(size=(1, 2))
        query = question(model, around(kind, x, 1.0), keeps_class(model, x))
        program: Program = margin_program(query, [0]).program
        assert np.isfinite(program.lower).all() and np.isfinite(program.upper).all()
        assert (program.lower <= program.upper).all()
