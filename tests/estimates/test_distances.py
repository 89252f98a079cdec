"""Attack distances: witnesses are real, linear models have the closed form, and bounds lie under them."""

import builtins

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfcert
from tfcert.errors import UsageError
from tfcert.estimates import DistanceOptions
from tfcert.verdict import Guarantee

DUAL = {"linf": 1, "l2": 2, "l1": np.inf}
ORDERS = {"linf": np.inf, "l2": 2, "l1": 1}
CHEAP = {"steps": 40, "searches": 3}
layers = keras.layers


@pytest.fixture
def library():
    pytest.importorskip("foolbox", reason="foolbox (the extra 'attacks') is not installed")


def small_model(head: str | None = None) -> keras.Model:
    keras.utils.set_random_seed(0)
    stack = [layers.Dense(16, activation="relu"), layers.Dense(3, activation=head)]
    return keras.Sequential([keras.Input((6,)), *stack])


def samples(model: keras.Model, count: int = 6) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(1).uniform(0.1, 0.9, (count, 6)).astype(np.float32)
    return x, np.asarray(model(x)).argmax(axis=1)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("norm", ORDERS)
@pytest.mark.parametrize("clip", [None, (0.0, 1.0)])
def test_witnesses_replay_at_their_distance_above_every_certified_radius(norm, clip):
    model = small_model()
    x, y = samples(model)
    found = tfcert.attack_distance(model, x, y, norm=norm, clip=clip, **CHEAP)
    hit = np.isfinite(found.distance)
    assert hit.sum() >= 4
    assert (np.asarray(model(found.witness[hit])).argmax(axis=1) != y[hit]).all()
    step = found.witness[hit].astype(float) - x[hit].astype(float)
    np.testing.assert_allclose(np.linalg.norm(step, ORDERS[norm], axis=1), found.distance[hit], rtol=1e-10)
    assert clip is None or (found.witness[hit].min() >= 0 and found.witness[hit].max() <= 1)
    assert np.isnan(found.witness[~hit]).all()
    certified = tfcert.certified_radius(model, x, y, norm=norm, clip=clip).radius
    loose = tfcert.global_lipschitz_radius(model, x, y, norm=norm).radius
    assert (certified < found.distance).all() and (loose < found.distance).all()
    assert found.guarantee == [Guarantee.REPLAYED if h else Guarantee.ESTIMATE for h in hit]
    assert "upper bound" in str(found)


@pytest.mark.usefixtures("library")
def test_nothing_is_called_that_tensorflow_warns_of(monkeypatch):
    def warned(*_, **__):
        raise AssertionError("tf.test.is_gpu_available is deprecated, and says so on standard error")

    monkeypatch.setattr(tf.test, "is_gpu_available", warned)
    model = small_model()
    assert np.isfinite(tfcert.attack_distance(model, *samples(model), norm="l2", **CHEAP).distance).any()


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(("norm", "excess"), [("linf", 1.02), ("l2", 1.02), ("l1", 1.3)])
def test_on_a_linear_model_the_distance_is_close_to_the_closed_form(norm, excess):
    model = keras.Sequential([keras.Input((6,)), layers.Dense(2)])
    keras.utils.set_random_seed(2)
    model.layers[0].kernel.assign(np.random.default_rng(5).normal(size=(6, 2)))
    x, y = samples(model, 20)
    difference = np.asarray(model(x)) @ [1.0, -1.0]
    model.layers[0].bias.assign([-np.median(difference), 0.0])  # some samples are near the boundary
    y = np.asarray(model(x)).argmax(axis=1)
    values, kernel = np.asarray(model(x), float), model.layers[0].kernel.numpy().astype(float)
    exact = np.abs(values[:, 0] - values[:, 1]) / np.linalg.norm(kernel[:, 0] - kernel[:, 1], DUAL[norm])
    keep = (exact > 0.05) & (exact < 0.3)  # within reach of where the attack looks
    assert keep.sum() >= 2
    found = tfcert.attack_distance(model, x[keep], y[keep], norm=norm, steps=80, searches=4)
    assert (found.distance >= exact[keep] * (1 - 1e-5)).all()
    assert (found.distance <= exact[keep] * excess).all()


@pytest.mark.usefixtures("library")
def test_several_attacks_together_find_the_nearest_of_each():
    model = small_model()
    x, y = samples(model)
    cw, fmn, both = (
        tfcert.attack_distance(model, x, y, norm="l2", attacks=a, **CHEAP) for a in (("cw",), ("fmn",), ("cw", "fmn"))
    )
    np.testing.assert_allclose(both.distance, np.minimum(cw.distance, fmn.distance), rtol=1e-6)
    assert set(both.found_by) <= {"cw", "fmn", ""} and both.method == "cw+fmn"


@pytest.mark.usefixtures("library")
def test_a_witness_towards_a_target_raises_the_target_above_the_label():
    model = small_model()
    x, y = samples(model)
    target = (y + 1) % 3
    found = tfcert.attack_distance(model, x, y, norm="l2", targets=target, **CHEAP)
    hit = np.flatnonzero(np.isfinite(found.distance))
    assert hit.size >= 3
    values = np.asarray(model(found.witness[hit]))
    assert (values[range(hit.size), target[hit]] > values[range(hit.size), y[hit]]).all()
    assert (tfcert.certified_radius(model, x, y, norm="l2", targets=target).radius < found.distance).all()


@pytest.mark.usefixtures("library")
def test_witnesses_of_a_softmax_model_fool_the_model_itself():
    model = small_model("softmax")
    x, y = samples(model)
    found = tfcert.attack_distance(model, x, y, norm="l2", **CHEAP)
    hit = np.isfinite(found.distance)
    assert hit.any()
    assert (np.asarray(model(found.witness[hit])).argmax(axis=1) != y[hit]).all()


def test_a_misclassified_sample_is_its_own_witness_at_distance_zero_without_the_library():
    model = small_model()
    x, y = samples(model)
    found = tfcert.attack_distance(model, x, (y + 1) % 3)
    np.testing.assert_array_equal(found.distance, 0)
    np.testing.assert_array_equal(found.witness, x)


def test_without_the_library_the_error_says_what_to_install(monkeypatch):
    genuine = builtins.__import__

    def missing(name, *arguments, **options):
        if name == "foolbox":
            raise ImportError(name)
        return genuine(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    model = small_model()
    with pytest.raises(UsageError, match=r"pip install 'tfcert\[attacks\]'"):
        tfcert.attack_distance(model, *samples(model))


@pytest.mark.parametrize("options", [{"attacks": ("fgsm",)}, {"attacks": ()}, {"steps": 0}, {"batch_size": 0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=r"attacks must be|must be at least 1"):
        DistanceOptions(**options)
