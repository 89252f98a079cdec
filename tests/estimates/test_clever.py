"""CLEVER: the fit against SciPy's, the score against the adversarial-robustness-toolbox's, exact on linear models."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats
from sweeps import sweep_but

import tfcert
from tfcert.estimates.clever import CleverOptions, gradient_maxima, uniform_in_ball
from tfcert.estimates.weibull import LARGEST_SHAPE, fit_reverse_weibull
from tfcert.network import from_keras
from tfcert.verdict import Guarantee

DUAL = {"linf": 1, "l2": 2, "l1": np.inf}
ORDERS = {"linf": np.inf, "l2": 2, "l1": 1}
layers = keras.layers


def log_likelihood(fit, maxima: np.ndarray, row: int) -> float:
    return stats.weibull_max.logpdf(maxima[row], fit.shape[row], fit.location[row], fit.scale[row]).mean()


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e4])
def test_the_fit_is_at_least_as_likely_as_scipy_s_and_recovers_the_location(rng, unit):
    shapes = np.array([1.5, 2.5, 4.0, 7.0])
    maxima = unit * (10 - rng.weibull(shapes[:, None], (4, 2000)))
    fit = fit_reverse_weibull(maxima)
    assert (fit.location >= maxima.max(axis=1)).all()
    np.testing.assert_allclose(fit.location, 10 * unit, rtol=0.03)
    np.testing.assert_allclose(fit.shape[:3], shapes[:3], rtol=0.15)
    for row, shape in enumerate(shapes):
        mine = log_likelihood(fit, maxima, row)
        assert mine == pytest.approx(fit.log_likelihood[row], abs=1e-9)
        # From the truth, so that SciPy's search cannot get lost.
        start = {"loc": 10 * unit, "scale": unit}
        theirs = stats.weibull_max.fit(maxima[row], shape, **start)
        assert mine >= stats.weibull_max.logpdf(maxima[row], *theirs).mean() - 1e-6
        assert fit.location[row] == pytest.approx(theirs[1], rel=1e-3)


def test_no_nearby_parameters_are_likelier(rng):
    maxima = 3 - rng.weibull(3.0, (1, 300))
    fit = fit_reverse_weibull(maxima)
    best = log_likelihood(fit, maxima, 0)
    for _ in range(500):
        shape, gap, scale = (1 + 0.05 * rng.normal(size=3)) * [
            fit.shape[0], fit.location[0] - maxima.max(), fit.scale[0],
        ]  # fmt: skip
        location = maxima.max() + gap
        assert stats.weibull_max.logpdf(maxima[0], shape, location, scale).mean() <= best + 1e-9


def test_maxima_that_are_all_equal_are_the_location_and_others_stay_within_the_shapes(rng):
    gumbel = rng.gumbel(size=400)
    crowded = np.where(np.arange(400) < 350, 1.0, rng.random(400))  # most at the end: shape below 1
    fit = fit_reverse_weibull(np.stack([np.full(400, 7.0), 7 + 1e-9 * gumbel, gumbel, crowded]))
    np.testing.assert_allclose(fit.location[:2], 7, rtol=1e-7)
    assert 1 <= fit.shape[3] < 1.01 and fit.location[3] == pytest.approx(1, abs=1e-3)
    assert 10 < fit.shape[2] <= LARGEST_SHAPE and np.isfinite(fit.location).all()


@pytest.mark.parametrize("norm", ORDERS)
def test_points_are_uniform_in_the_ball(norm):
    """The radius to the power of the dimension is uniform, and so is every sign."""
    points = uniform_in_ball(norm, 20_000, 3, tf.constant([1, 2]), tf.float64).numpy()
    radius = np.linalg.norm(points, ORDERS[norm], axis=1)
    assert radius.max() <= 1 + 1e-12
    assert stats.kstest(radius**3, "uniform").pvalue > 0.01
    assert np.abs((points > 0).mean(axis=0) - 0.5).max() < 0.02


def small_model(seed: int = 0) -> keras.Model:
    keras.utils.set_random_seed(seed)
    stack = [layers.Dense(16, activation="tanh"), layers.Dense(16, activation="tanh"), layers.Dense(3)]
    return keras.Sequential([keras.Input((5,)), *stack])


def inputs(model: keras.Model, count: int = 4) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(3).normal(size=(count, 5)).astype(np.float32)
    return x, np.asarray(model(x)).argmax(axis=1)


@pytest.mark.parametrize("norm", DUAL)
def test_on_a_linear_model_the_score_is_the_distance(norm, rng):
    model = keras.Sequential([keras.Input((5,)), layers.Dense(3)])
    x, y = inputs(model)
    kernel, values = model.layers[0].kernel.numpy().astype(float), np.asarray(model(x), float)
    exact = [
        min(
            (values[i, c] - values[i, j]) / np.linalg.norm(kernel[:, c] - kernel[:, j], DUAL[norm])
            for j in range(3)
            if j != c
        )
        for i, c in enumerate(y)
    ]
    found = tfcert.clever_score(model, x, y, norm=norm, radius=100.0, batches=10, samples=4)
    np.testing.assert_allclose(found.score, exact, rtol=1e-4)
    capped = tfcert.clever_score(model, x, y, norm=norm, radius=min(exact) / 2, batches=10, samples=4)
    np.testing.assert_array_equal(capped.score, min(exact) / 2)


def test_the_maxima_are_the_largest_gradients_of_their_batch():
    model = small_model()
    x, _ = inputs(model, 1)
    rows = np.array([[1.0, -1.0, 0.0], [1.0, 0.0, -1.0]])
    network = from_keras(model)
    options = CleverOptions(radius=0.5, batches=10, samples=7, seed=4)
    found = gradient_maxima(network, "l1", options)(x[0], rows, 3)
    for batch in range(10):
        seed = tf.constant([4, 30 + batch])
        points = tf.constant(x) + 0.5 * uniform_in_ball("l1", 7, 5, seed, tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(points)
            margins = model(points) @ tf.constant(rows.T, tf.float32)
        gradients = tape.batch_jacobian(margins, points).numpy()
        np.testing.assert_allclose(found[:, batch], np.abs(gradients).max(axis=(0, 2)), rtol=1e-5)


def test_the_estimate_says_that_it_is_none_and_repeats_itself():
    model = small_model()
    x, y = inputs(model)
    options = {"radius": 2.0, "batches": 20, "samples": 32}
    first, again, other = (tfcert.clever_score(model, x, y, seed=s, **options) for s in (0, 0, 1))
    np.testing.assert_array_equal(first.score, again.score)
    assert (first.score != other.score).any()
    assert first.guarantee is Guarantee.ESTIMATE and "no guarantee" in str(first)
    assert (first.constant >= first.largest).all()
    assert (first.score > 0).all() and (first.score <= 2).all()


def test_a_misclassified_sample_scores_zero_and_one_target_at_least_the_least_of_all():
    model = small_model()
    x, y = inputs(model)
    options = {"radius": 2.0, "batches": 20, "samples": 32}
    wrong = tfcert.clever_score(model, x, (y + 1) % 3, **options)
    assert not wrong.score.any() and np.isnan(wrong.constant).all()
    least = np.minimum(*(tfcert.clever_score(model, x, y, targets=(y + k) % 3, **options).score for k in (1, 2)))
    np.testing.assert_allclose(least, tfcert.clever_score(model, x, y, **options).score, rtol=1e-4)


@pytest.mark.parametrize("options", [{"radius": 0.0}, {"radius": np.inf}, {"batches": 5}, {"samples": 0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=r"radius must be|at least 10 batches"):
        CleverOptions(**options)


@pytest.mark.parametrize("norm", sweep_but(["linf"], ORDERS))
def test_scores_agree_with_the_adversarial_robustness_toolbox(norm):
    """Both estimate from random points: equal up to their scatter."""
    pytest.importorskip("art", reason="the adversarial-robustness-toolbox is not installed")
    from art.estimators.classification import TensorFlowV2Classifier
    from art.metrics import clever_t

    class Classifier(TensorFlowV2Classifier):
        """Its own metric passes a NumPy integer where it wants a Python one."""

        def class_gradient(self, x, label=None, **options):
            return super().class_gradient(x, None if label is None else int(label), **options)

    model = small_model(1)
    x, y = inputs(model, 3)
    classifier = Classifier(model, nb_classes=3, input_shape=(5,), loss_object=keras.losses.MeanSquaredError())
    np.random.seed(0)  # the toolbox draws from the global generator
    radius, batches, count = 0.4, 60, 64
    targets = (y + 1) % 3
    theirs = [clever_t(classifier, x[i], int(targets[i]), batches, count, radius, ORDERS[norm]) for i in range(3)]
    options = {"radius": radius, "batches": batches, "samples": count}
    ours = tfcert.clever_score(model, x, y, norm=norm, targets=targets, **options)
    np.testing.assert_allclose(ours.score, theirs, rtol=0.05)
    assert (ours.score < radius).any()
