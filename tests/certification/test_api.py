"""What users call: closed forms on linear models, targets, errors, and nothing verified that should not be."""

import math
from fractions import Fraction

import keras
import numpy as np
import pytest
import tensorflow as tf
from methods import GENERAL
from soundness import networks

import tfcert
from tfcert import BoundOptions, Box, LpBall
from tfcert.catalog import propagated
from tfcert.certification.softmax import softmax_bounds
from tfcert.network import from_keras
from tfcert.propagation.ascent import Ascent
from tfcert.propagation.bounds import output_bounds
from tfcert.roundoff import rounding_of
from tfcert.sets.region import region_of

METHODS = propagated()

NORMS = {"linf": 1, "l2": 2, "l1": np.inf}


def linear_model(dtype: str = "float32", classes: int = 3) -> keras.Model:
    start = keras.Input((4,), dtype=dtype)
    model = keras.Model(start, keras.layers.Dense(classes, dtype=dtype)(start))
    networks.randomize(model, np.random.default_rng(1))
    return model


def small_model(seed: int = 0) -> keras.Model:
    layers = [keras.layers.Dense(6, activation="relu"), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    networks.randomize(model, np.random.default_rng(seed))
    return model


def inputs(model: keras.Model, count: int = 6) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(2).normal(size=(count, 4)).astype(model.inputs[0].dtype)
    return x, np.asarray(model(x)).argmax(axis=1)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rounding", ["deployed", "ignore"])
def test_the_radius_of_a_linear_model_is_margin_over_dual_norm(norm, dtype, rounding):
    model = linear_model(dtype)
    x, y = inputs(model)
    kernel, values = model.layers[-1].kernel.numpy().astype(float), np.asarray(model(x), float)
    exact = np.full(len(x), np.inf)
    for i, label in enumerate(y):
        for j in set(range(3)) - {label}:
            cost = np.linalg.norm(kernel[:, label] - kernel[:, j], NORMS[norm])
            exact[i] = min(exact[i], (values[i, label] - values[i, j]) / cost)
    how = {"norm": norm, "options": BoundOptions(rounding=rounding)}
    found = tfcert.certified_radius(model, x, y, **how)
    np.testing.assert_allclose(found.radius, exact, rtol=2e-4)
    again = tfcert.certify(model, x, y, eps=found.radius, **how)
    assert again.verified.all()
    ulp = np.finfo(dtype).eps * np.abs(values).max()  # charges are of the outputs' size, and rounded in their type
    np.testing.assert_allclose(again.margin, found.margin, rtol=1e-5, atol=ulp if rounding == "deployed" else 1e-7)
    assert not tfcert.certify(model, x, y, eps=found.radius * (1 + 4e-4), **how).verified.any()
    assert again.margin.dtype == np.dtype(dtype)


@pytest.mark.parametrize("method", METHODS)
def test_a_certified_radius_is_certified_when_evaluated_again(method):
    model = small_model()
    x, y = inputs(model)
    found = tfcert.certified_radius(model, x, y, method=method)
    assert np.all(found.radius > 0)
    again = tfcert.certify(model, x, y, eps=found.radius, method=method)
    assert again.verified.all()
    np.testing.assert_allclose(again.margin, found.margin, rtol=1e-4, atol=1e-6)
    assert found.evaluations <= 30


def test_a_misclassified_sample_has_radius_zero_and_is_not_verified():
    model = small_model()
    x, y = inputs(model)
    wrong = (y + 1) % 3
    assert np.all(tfcert.certified_radius(model, x, wrong).radius == 0)
    assert not tfcert.certify(model, x, wrong, eps=0.0).verified.any()


def test_a_clip_that_differs_by_sample_stays_with_its_sample():
    model = small_model()
    x, y = inputs(model)
    y = y.copy()
    y[[0, 2]] = (y[[0, 2]] + 1) % 3  # these leave the search at once, so the others move up
    low, high = x - np.arange(6)[:, None] * 0.05, x + 0.01
    found = tfcert.certified_radius(model, x, y, clip=(low, high))
    for i in (1, 3, 4, 5):
        alone = tfcert.certify(
            model, x[i : i + 1], y[i : i + 1], eps=float(found.radius[i]), clip=(low[i : i + 1], high[i : i + 1])
        )
        assert alone.margin[0] == pytest.approx(found.margin[i], abs=1e-5)


def test_the_radius_stops_at_the_upper_end_and_at_the_end_of_the_clip():
    model = linear_model()
    model.layers[-1].kernel.assign(tf.zeros([4, 3]))
    x, y = np.zeros((2, 4), np.float32), [int(np.argmax(model.layers[-1].bias.numpy()))] * 2
    assert np.all(tfcert.certified_radius(model, x, y, upper=0.25).radius == 0.25)
    assert np.all(tfcert.certified_radius(model, x, y, clip=(-0.5, 0.5), norm="l1").radius == 2.0)


def test_margins_are_those_of_each_class_and_infinite_for_the_label():
    model = small_model()
    x, y = inputs(model)
    ball = LpBall(x, 0.05)
    found = tfcert.margins(model, ball, y)
    assert np.all(np.isinf(found[np.arange(6), y])) and np.all(found[np.arange(6), y] > 0)
    everything = tfcert.certify(model, x, y, eps=0.05)
    np.testing.assert_array_equal(found.min(axis=1), everything.margin)
    network = from_keras(model).rounded(rounding_of("deployed", np.float32, np.float32))
    for sample, label in enumerate(y):
        for j in set(range(3)) - {label}:
            rows = tf.constant(np.eye(3, dtype=np.float32)[None, [label]] - np.eye(3, dtype=np.float32)[None, [j]])
            region = region_of(ball.take([sample]))
            alone = output_bounds(network, region, (rows, tf.zeros([1, 1])), "crown").numpy()
            assert alone[0, 0] == pytest.approx(found[sample, j], abs=1e-5)


def test_targets_choose_the_rows():
    model = small_model()
    x, y = inputs(model)
    logits = np.asarray(model(x))
    found = tfcert.margins(model, LpBall(x, 0.02), y)
    order = np.argsort(logits, axis=1)
    runner_up, least = order[:, 1], order[:, 0]
    for targets, chosen in (("runner-up", runner_up), ("least", least), (least, least)):
        margin = tfcert.certify(model, x, y, eps=0.02, targets=targets).margin
        np.testing.assert_allclose(margin, found[np.arange(6), chosen], atol=1e-6)
        radius = tfcert.certified_radius(model, x, y, targets=targets).radius
        assert np.all(radius >= tfcert.certified_radius(model, x, y).radius * (1 - 2e-4))


def test_random_targets_mean_the_same_wherever_they_are_given():
    model = linear_model(classes=5)
    x, y = inputs(model)
    chosen = tfcert.choose_targets(model, x, y)
    assert (chosen != y).all()
    expected = tfcert.margins(model, LpBall(x, 0.02), y)[np.arange(6), chosen]
    np.testing.assert_allclose(tfcert.certify(model, x, y, eps=0.02, targets="random").margin, expected, atol=1e-6)
    named, given = (tfcert.attack(model, x, y, eps=9.0, targets=targets, steps=5) for targets in ("random", chosen))
    np.testing.assert_array_equal(named.success, given.success)
    np.testing.assert_array_equal(tfcert.choose_targets(model, x[2:], y[2:], numbers=range(2, 6)), chosen[2:])
    with pytest.raises(ValueError, match="at least four classes, and the model has 3"):
        tfcert.certify(small_model(), *inputs(small_model()), eps=0.1, targets="random")


def test_the_first_samples_that_are_classified_correctly():
    model = linear_model()
    x, y = inputs(model, 700)
    wrong = np.arange(700) % 3 == 0
    y = np.where(wrong, (y + 1) % 3, y)
    np.testing.assert_array_equal(tfcert.first_correct(model, x, y), np.flatnonzero(~wrong))
    np.testing.assert_array_equal(tfcert.first_correct(model, x, y, 300), np.flatnonzero(~wrong)[:300])
    assert len(tfcert.first_correct(model, x[:1], y[:1])) == 0
    with pytest.raises(ValueError, match="count must be at least 1"):
        tfcert.first_correct(model, x, y, 0)


@pytest.mark.parametrize("norm", NORMS)
def test_a_search_starts_and_ends_where_it_is_told(norm, monkeypatch, eager):
    import tfcert.rigour.radius as searched

    model, seen = small_model(), []
    x, y = inputs(model)
    y[1] = (y[1] + 1) % 3
    kept = searched.margins_of

    def noting(network, sets, clauses, how):
        seen.append(np.array(sets.eps))
        return kept(network, sets, clauses, how)

    monkeypatch.setattr(searched, "margins_of", noting)
    exact = tfcert.certified_radius(model, x, y, norm=norm, tolerance=1e-6).radius
    seen.clear()
    how = {"norm": norm, "tolerance": 0, "absolute_tolerance": 0.01, "start": "1/20", "clip": (-9, 9)}
    found = tfcert.certified_radius(model, x, y, **how)
    np.testing.assert_allclose(seen[0], 0.05, rtol=1e-6)
    assert found.radius[1] == 0 and len(seen[0]) == 5  # the misclassified sample is not searched
    assert (found.radius <= exact * (1 + 1e-3)).all() and (found.radius >= exact - 0.01 - 1e-6).all()
    close = tfcert.certified_radius(model, x, y, norm=norm).evaluations
    assert found.evaluations < close


@pytest.mark.parametrize(
    "how", [{"tolerance": 0}, {"tolerance": -1, "absolute_tolerance": 2}, {"absolute_tolerance": -1e-5}, {"start": 0}]
)
def test_a_search_without_an_end_or_a_start_is_refused(how):
    with pytest.raises(ValueError, match=r"tolerance|start must be a positive number"):
        tfcert.certified_radius(small_model(), *inputs(small_model()), **how)


def test_bounds_are_those_of_each_output():
    model = linear_model()
    x, _ = inputs(model)
    found = tfcert.bounds(model, LpBall(x, 0.1))
    reach = 0.1 * np.abs(model.layers[-1].kernel.numpy()).sum(axis=0)
    np.testing.assert_allclose(found.lower, np.asarray(model(x)) - reach, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.upper, np.asarray(model(x)) + reach, rtol=0, atol=1e-5)


def test_a_softmax_head_changes_no_margin():
    model = small_model()
    x, y = inputs(model)
    soft = keras.Sequential([*model.layers, keras.layers.Softmax()])
    np.testing.assert_allclose(
        tfcert.certify(soft, x, y, eps=0.05).margin, tfcert.certify(model, x, y, eps=0.05).margin, atol=1e-6
    )


def with_head(model: keras.Model, head: str) -> keras.Model:
    last = keras.layers.Activation(head, dtype=model.inputs[0].dtype)
    return keras.Model(model.inputs[0], last(model.outputs[0]))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bounds_of_two_probabilities_are_attained(norm, dtype):
    model = linear_model(dtype, classes=2)
    x, _ = inputs(model)
    found = tfcert.bounds(with_head(model, "softmax"), LpBall(x, 0.3, norm))
    weights = model.layers[-1].kernel.numpy().astype(np.float64)
    gap = np.asarray(model(x)).astype(np.float64) @ [1, -1]
    reach = 0.3 * np.linalg.norm(weights @ [1, -1], {"linf": 1, "l2": 2, "l1": np.inf}[norm])
    low, high = 1 / (1 + np.exp(reach - gap)), 1 / (1 + np.exp(-reach - gap))
    np.testing.assert_allclose(found.lower, np.stack([low, 1 - high], axis=1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.upper, np.stack([high, 1 - low], axis=1), rtol=1e-5, atol=1e-6)
    assert found.lower.dtype == dtype and np.all(found.lower >= 0) and np.all(found.upper <= 1)


@pytest.mark.parametrize("method", ["ibp", "crown"])
@pytest.mark.parametrize("classes", [3, 40])
def test_probabilities_of_sampled_inputs_lie_in_their_bounds(method, classes):
    layers = [keras.layers.Dense(5, activation="relu"), keras.layers.Dense(classes)]
    model = with_head(keras.Sequential([keras.Input((2,)), *layers]), "softmax")
    networks.randomize(model, np.random.default_rng(3))
    rng = np.random.default_rng(4)
    x = rng.normal(size=(2, 2)).astype(np.float32)
    found = tfcert.bounds(model, LpBall(x, 0.2), method=method)
    points = x[:, None] + rng.choice([1, 1, 0.5], (2, 500, 2)) * rng.uniform(-0.2, 0.2, (2, 500, 2)).astype(np.float32)
    outputs = np.asarray(model(points.reshape(-1, 2).astype(np.float32))).reshape(2, 500, classes)
    assert np.all(outputs >= found.lower[:, None] - 1e-6) and np.all(outputs <= found.upper[:, None] + 1e-6)
    middle = np.asarray(model(x))
    assert np.all(found.lower < middle) and np.all(found.upper > middle) and np.median(found.upper - found.lower) < 0.9


def test_probabilities_that_nothing_is_known_of_lie_between_0_and_1():
    model = with_head(small_model(), "softmax")
    model.layers[-2].set_weights([1e30 * w for w in model.layers[-2].get_weights()])
    found = tfcert.bounds(model, LpBall(inputs(model)[0], 10.0))
    assert np.all(found.lower == 0) and np.all(found.upper == 1)


@pytest.mark.parametrize("unknown", [math.nan, math.inf, -math.inf])
def test_a_difference_that_overflowed_says_nothing_of_probabilities(unknown):
    """An infinite lower bound, too: taken at its word, it would make a probability of one."""
    low, high = softmax_bounds(2, lambda rows: np.where(rows[None, :, 0] > 0, unknown, -1.0))
    assert low[0, 0] == 0 and high[0, 1] == 1


def test_the_only_class_is_certain():
    low, high = softmax_bounds(1, lambda rows: np.zeros((3, len(rows))))
    assert low.shape == high.shape == (3, 1)
    assert np.all(low > 1 - 1e-12) and np.all(high == 1)


def test_logits_are_bounded_where_they_are_asked_for():
    model = small_model()
    ball = LpBall(inputs(model)[0], 0.1)
    plain, soft = tfcert.bounds(model, ball), with_head(model, "softmax")
    for found in (
        tfcert.bounds(model, ball, outputs="logits"),
        tfcert.bounds(soft, ball, outputs="logits"),
        tfcert.bounds(from_keras(soft), ball),
    ):
        np.testing.assert_array_equal([found.lower, found.upper], [plain.lower, plain.upper])
    with pytest.raises(ValueError, match="ends in sigmoid, which belongs to its outputs"):
        tfcert.bounds(with_head(model, "sigmoid"), ball, outputs="logits")
    with pytest.raises(ValueError, match="outputs must be 'model' or 'logits'"):
        tfcert.bounds(model, ball, outputs="probabilities")


@pytest.mark.parametrize("jit", [False, True])
def test_weights_changed_after_a_certificate_are_seen_by_the_next(jit):
    model = small_model()
    x, y = inputs(model)
    options = BoundOptions(jit=jit)
    before = tfcert.certify(model, x, y, eps=0.05, options=options).margin
    weights = model.get_weights()
    model.set_weights([2 * w for w in weights])
    changed = tfcert.certify(model, x, y, eps=0.05, options=options).margin
    fresh = small_model()
    fresh.set_weights([2 * w for w in weights])
    np.testing.assert_allclose(changed, tfcert.certify(fresh, x, y, eps=0.05).margin, rtol=1e-4, atol=1e-5)
    assert not np.allclose(before, changed)
    model.layers[0].kernel.assign(tf.fill([4, 6], np.nan))
    with pytest.raises(ValueError, match="NaN"):
        tfcert.certify(model, x, y, eps=0.05, options=options)


def test_memory_and_batch_size_change_no_number():
    model = networks.keras_model(1)
    x = np.random.default_rng(0).uniform(0, 1, (5, *model.input_shape[1:])).astype(np.float32)
    y = np.asarray(model(x)).argmax(axis=1)
    expected = tfcert.certify(model, x, y, eps=0.03).margin
    for options in (BoundOptions(memory_mb=0.05), BoundOptions(batch_size=2)):
        found = tfcert.certify(model, x, y, eps=0.03, options=options).margin
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_batch_larger_than_the_largest_bucket_is_certified_whole():
    model = linear_model()
    x = np.random.default_rng(0).normal(size=(1500, 4)).astype(np.float32)
    y = np.asarray(model(x)).argmax(axis=1)
    small = tfcert.certify(model, x, y, eps=0.01)
    large = tfcert.certify(model, x, y, eps=0.01, options=BoundOptions(batch_size=2000))
    np.testing.assert_allclose(small.margin, large.margin, atol=1e-6)
    assert small.margin.shape == (1500,)


def test_an_empty_batch_has_no_verdicts():
    found = tfcert.certify(small_model(), np.zeros((0, 4), np.float32), np.zeros(0, int), eps=0.1)
    assert found.verified.shape == (0,)


def test_an_eps_of_each_sample_gives_what_each_sample_gives_alone():
    model = small_model()
    x, y = inputs(model, 3)
    eps = [0.01, 0.1, 0.0]
    together = tfcert.certify(model, x, y, eps=eps, norm="l2")
    for i in range(3):
        alone = tfcert.certify(model, x[i : i + 1], y[i : i + 1], eps=eps[i], norm="l2")
        assert alone.margin[0] == pytest.approx(together.margin[i], abs=1e-6)


BAD = [
    ({"x": np.full((1, 4), np.nan)}, "centre"),
    ({"x": np.full((1, 4), np.inf)}, "centre"),
    ({"x": np.zeros((1, 5))}, "shape"),
    ({"x": np.zeros(4)}, "shape|batch"),
    ({"eps": -0.1}, "eps"),
    ({"eps": np.nan}, "eps"),
    ({"eps": np.inf}, "eps"),
    ({"eps": Fraction(-1, 10)}, "eps"),
    ({"eps": [0.1, 0.1]}, "eps"),
    ({"clip": (0.5, 1.0)}, "clip"),
    ({"clip": (np.nan, 1.0)}, "clip"),
    ({"clip": (1.0, 0.0)}, "clip"),
    ({"norm": "l3"}, "norm"),
    ({"method": "magic"}, "method"),
    ({"relaxation": "magic"}, "relaxation"),
    ({"targets": "worst"}, "targets"),
    ({"targets": [0]}, "target"),
    ({"targets": [3]}, "target"),
    ({"y": [3]}, "label"),
    ({"y": [-1]}, "label"),
    ({"y": [0.5]}, "label"),
    ({"y": [0, 1]}, "label"),
]


@pytest.mark.parametrize(("change", "message"), BAD, ids=lambda value: str(value)[:40])
def test_a_question_that_makes_no_sense_is_an_error_that_names_it(change, message):
    arguments = {"x": np.zeros((1, 4)), "y": [0], "eps": 0.1, **change}
    with pytest.raises(ValueError, match=message):
        tfcert.certify(small_model(), arguments.pop("x"), arguments.pop("y"), **arguments)


def test_a_model_of_one_output_has_no_other_class_to_exclude():
    with pytest.raises(ValueError, match=r"class|output"):
        tfcert.certify(linear_model(classes=1), np.zeros((1, 4), np.float32), [0], eps=0.1)


def test_an_empty_or_unbounded_box_is_an_error():
    for low, high in ((1.0, 0.0), (np.nan, 1.0), (-np.inf, 0.0)):
        with pytest.raises(ValueError, match="box"):
            Box(np.full((1, 4), low), np.full((1, 4), high))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_an_error(bad):
    model = small_model()
    network = from_keras(model)
    model.layers[1].bias.assign([0.0, bad, 0.0])
    for answerer in (model, network):
        with pytest.raises(ValueError, match="NaN"):
            tfcert.certify(answerer, np.zeros((1, 4), np.float32), [0], eps=0.1)


@pytest.mark.parametrize(
    ("method", "norm"), [(m, n) for m in GENERAL for n in ("linf", "l2") if (m, n) != ("alpha-crown", "l2")]
)
def test_a_network_that_overflows_is_never_verified(method, norm):
    """Every class is within reach of a huge ball, so nothing may be verified, however the numbers overflow."""
    for seed in range(6):
        sketch = networks.block_sketch(networks.IMAGE_BLOCKS[(3, 2, 5, 0, 8, 4)[seed]], seed)
        makers = sketch.makers
        network = sketch.network(tf.float32)
        scaled = scaled_up(network, 1e19 if seed % 2 else 3e38)
        assert len(makers) == len(scaled.nodes)
        x = sketch.rng.uniform(0, 1, (2, 4, 4, 2)).astype(np.float32)
        rows = np.concatenate([np.eye(3), -np.eye(3)]).astype(np.float32)[None]
        region = region_of(LpBall(x, 1e3, norm))
        found = output_bounds(scaled, region, (tf.constant(rows), tf.zeros([1, 6])), method, ascent=Ascent(1)).numpy()
        points = LpBall(x, 1e3, norm).sample(60, seed)
        values = network(tf.constant(points.reshape(-1, 4, 4, 2), tf.float32)).numpy() @ rows[0].T
        reached = values.reshape(60, 2, 6).min(axis=0) < 0
        verified = np.isfinite(found) & (found > 0)
        assert not (verified & reached).any()


def scaled_up(network, factor: float):
    """The network with the kernels of its dense and convolution nodes times ``factor`` (biases kept)."""
    from dataclasses import replace

    from tfcert.network import ConvMap, DenseMap, Linear

    nodes = []
    for node in network.nodes:
        if isinstance(node, Linear) and isinstance(node.map, DenseMap):
            old = node.map
            node = replace(node, map=DenseMap(lambda o=old: o.kernel() * factor, old.in_shape, old.out_shape[-1]))
        elif isinstance(node, Linear) and isinstance(node.map, ConvMap):
            old = node.map
            options = {"strides": old.strides, "padding": old.padding, "dilation": old.dilation}
            shape = (*old.size, old.in_shape[2], old.out_shape[2])
            node = replace(node, map=ConvMap(lambda o=old: o.kernel() * factor, shape, old.in_shape, **options))
        nodes.append(node)
    return replace(network, nodes=tuple(nodes))


def test_certifying_many_models_and_questions_is_not_taken_for_retracing(caplog):
    """Each is traced once; TensorFlow counts functions of the same lines together and used to warn."""
    import logging

    with caplog.at_level(logging.WARNING, logger="tensorflow"):
        logging.getLogger("tensorflow").addHandler(caplog.handler)
        for width in range(2, 9):
            model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(width)])
            for norm in ("linf", "l2"):
                tfcert.certify(model, np.zeros((width, 2)), np.zeros(width, int), eps=0.1, norm=norm, method="ibp")
        logging.getLogger("tensorflow").removeHandler(caplog.handler)
    assert "retracing" not in caplog.text
