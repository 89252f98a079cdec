"""Several inputs and uneven radii against the same question put to one input and one radius: equal answers."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L
from methods import GENERAL
from sweeps import sweep_but
from unrounded import IGNORED

import tfcert

OPTIONS = replace(IGNORED, jit=False, iterations=3)
METHODS = [*GENERAL, "symbolic", "dual-lp"]
NORMS = ["linf", "l2", "l1"]
CLIPS = [None, (0.0, 1.0)]
CASES = [(norm, clip, method) for norm in NORMS for clip in CLIPS for method in METHODS]
USUAL = [("linf", None, "ibp"), ("l2", (0.0, 1.0), "crown"), ("l1", None, "forward"), ("l2", None, "alpha-crown"),
         ("l1", (0.0, 1.0), "crown-ibp"), ("linf", (0.0, 1.0), "symbolic"), ("l2", None, "dual-lp")]  # fmt: skip
ATOL = 2e-6


@pytest.fixture(scope="module")
def models():
    """A model of an image and of numbers, and the same of both as one vector."""
    keras.utils.set_random_seed(1)
    image, tab = keras.Input((3, 3, 1), name="image"), keras.Input((4,), name="tab")
    seen = L.Conv2D(2, 2, activation="relu")(image)
    both = L.Concatenate()([L.Flatten()(seen), L.Dense(5, activation="relu")(tab)])
    two = keras.Model({"image": image, "tab": tab}, L.Dense(3)(L.Dense(6, activation="relu")(both)))
    z = keras.Input((13,))
    return two, keras.Model(z, two({"image": L.Reshape((3, 3, 1))(z[:, :9]), "tab": z[:, 9:]}))


@pytest.fixture(scope="module")
def samples(models):
    rng = np.random.default_rng(0)
    x = {"image": rng.random((2, 3, 3, 1), np.float32), "tab": rng.random((2, 4), np.float32)}
    return x, np.concatenate([x["image"].reshape(2, 9), x["tab"]], axis=1), models[0].predict(x, verbose=0).argmax(1)


@pytest.mark.parametrize(("norm", "clip", "method"), sweep_but(USUAL, CASES))
@pytest.mark.usefixtures("eager")
def test_bounds_of_two_inputs_are_those_of_one_that_holds_both(models, samples, norm, clip, method):
    (two, one), (x, flat, _) = models, samples
    eps = {"image": 0.1, "tab": 0.02}
    shares = np.array([0.1] * 9 + [0.02] * 4)
    for given, wanted in (({"eps": 0.1}, {"eps": 0.1}), ({"eps": eps}, {"eps": shares}),
                          ({"eps": 0.1, "free": "tab"}, {"eps": 0.1, "free": shares < 0.1})):  # fmt: skip
        found = tfcert.bounds(two, tfcert.LpBall(x, norm=norm, clip=clip, **given), method=method, options=OPTIONS)
        same = tfcert.bounds(one, tfcert.LpBall(flat, norm=norm, clip=clip, **wanted), method=method, options=OPTIONS)
        np.testing.assert_allclose(found.lower, same.lower, atol=ATOL)
        np.testing.assert_allclose(found.upper, same.upper, atol=ATOL)


def scaled(model, scale):
    """The model of ``u``, where ``x = u * scale``: its first layer scales."""
    u = keras.Input((13,))
    factor = L.Dense(13, use_bias=False)
    output = model(factor(u))
    factor.set_weights([np.diag(scale).astype(np.float32)])
    return keras.Model(u, output)


@pytest.mark.parametrize(("norm", "clip", "method"), sweep_but(USUAL, CASES))
@pytest.mark.usefixtures("eager")
def test_bounds_of_uneven_radii_are_those_of_a_network_whose_first_layer_scales(models, samples, norm, clip, method):
    """To rounding: L-inf as a box, L2 and L1 by the dual norm of what was multiplied. No method charges more."""
    scale = np.array([2.0, 0.5, 0.25, 4.0, 1.0, 0.125, 2.0, 1.0, 0.5, 8.0, 0.5, 1.0, 2.0])
    (_, one), (_, flat, _) = models, samples
    box = None if clip is None else (clip[0] / scale, clip[1] / scale)
    uneven = tfcert.LpBall(flat, 0.01 * scale, norm, clip)
    even = tfcert.LpBall((flat / scale).astype(np.float32), 0.01, norm, box)
    found = tfcert.bounds(one, uneven, method=method, options=OPTIONS)
    same = tfcert.bounds(scaled(one, scale), even, method=method, options=OPTIONS)
    np.testing.assert_allclose(found.lower, same.lower, atol=ATOL)
    np.testing.assert_allclose(found.upper, same.upper, atol=ATOL)


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.usefixtures("eager")
def test_what_is_fixed_costs_nothing(norm, clip):
    """A ball over some numbers is as tight as that of a network into whose bias the others are folded."""
    keras.utils.set_random_seed(2)
    model = keras.Sequential([keras.Input((6,)), L.Dense(10, activation="relu"), L.Dense(3)])
    x = np.random.default_rng(2).random((1, 6), np.float32)
    free = np.array([1, 1, 0, 0, 1, 0], bool)
    w, b, w2, b2 = model.get_weights()
    small = keras.Sequential([keras.Input((3,)), L.Dense(10, activation="relu"), L.Dense(3)])
    small.set_weights([w[free], b + x[0, ~free] @ w[~free], w2, b2])
    for method in ("ibp", "crown"):
        whole = tfcert.bounds(model, tfcert.LpBall(x, 0.3, norm, clip, free=free), method=method, options=OPTIONS)
        part = tfcert.bounds(small, tfcert.LpBall(x[:, free], 0.3, norm, clip), method=method, options=OPTIONS)
        np.testing.assert_allclose(whole.lower, part.lower, atol=ATOL)
        np.testing.assert_allclose(whole.upper, part.upper, atol=ATOL)


@pytest.mark.parametrize("norm", sweep_but(["l2"], NORMS))
@pytest.mark.usefixtures("eager")
def test_certificates_radii_least_perturbations_and_attacks_agree_with_one_input(models, samples, norm):
    (two, one), (x, flat, y) = models, samples
    scale = {"image": 1.0, "tab": 0.25}
    shares = np.array([1.0] * 9 + [0.25] * 4)
    radius = tfcert.certified_radius(two, x, y, norm=norm, scale=scale, options=OPTIONS).radius
    same = tfcert.certified_radius(one, flat, y, norm=norm, scale=shares, options=OPTIONS).radius
    np.testing.assert_allclose(radius, same, rtol=1e-3)
    even = tfcert.certified_radius(scaled(one, shares), flat / shares, y, norm=norm, options=OPTIONS).radius
    np.testing.assert_allclose(radius, even, rtol=1e-3)
    for factor, wanted in ((0.99, True), (1.1, False)):
        for i in range(2):
            part = {name: array[i : i + 1] for name, array in x.items()}
            eps = {name: factor * share * radius[i] for name, share in scale.items()}
            assert tfcert.certify(two, part, y[i : i + 1], eps=eps, norm=norm, options=OPTIONS).verified[0] == wanted
    found = tfcert.attack(two, x, y, eps={n: 20 * s for n, s in scale.items()}, norm=norm)
    # Distances are shares of uneven radii.
    assert found.success.all() and (20 * found.distance >= radius).all() and (found.distance <= 1).all()
    assert_witness(two, x, y, found.witness, tfcert.LpBall(x, 20 * found.distance * (1 + 1e-6), norm, scale=scale))


def assert_witness(model, x, y, witness, ball):
    assert sorted(witness) == ["image", "tab"] and witness["image"].shape == x["image"].shape
    assert (model.predict(witness, verbose=0).argmax(1) != y).all()
    assert ball.contains(np.concatenate([witness["image"].reshape(len(y), 9), witness["tab"]], axis=1)).all()


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(
    ("norm", "search"), sweep_but([("l1", "milp"), ("l2", "milp")], [("linf", "split"), ("l1", "milp"), ("l2", "milp")])
)
def test_least_perturbations_are_those_of_a_network_that_scales(norm, search):
    """By branch and bound and by integer programs: distances are multiples of the scale, and witnesses are by name."""
    keras.utils.set_random_seed(3)
    a, b = keras.Input((2,), name="a"), keras.Input((1,), name="b")
    two = keras.Model([a, b], L.Dense(2)(L.Dense(4, activation="relu")(L.Concatenate()([a, b]))))
    u = keras.Input((3,))
    factor = L.Dense(3, use_bias=False)
    shares = np.array([2.0, 0.5, 0.25])
    one = keras.Model(u, two([factor(u)[:, :2], factor(u)[:, 2:]]))
    factor.set_weights([np.diag(shares).astype(np.float32)])
    x = {"a": np.array([[0.5, -0.5]], np.float32), "b": np.array([[1.0]], np.float32)}
    flat = np.concatenate([x["a"], x["b"]], axis=1)
    y = np.asarray(two([x["a"], x["b"]])).argmax(1)
    how = {"norm": norm, "upper": 10.0, "search": search, "options": OPTIONS}
    found = tfcert.minimum_perturbation(two, x, y, scale={"a": [2.0, 0.5], "b": 0.25}, **how)
    same = tfcert.minimum_perturbation(one, flat / shares, y, **how)
    np.testing.assert_allclose(found.upper, same.upper, rtol=1e-3)
    np.testing.assert_allclose(found.lower, same.lower, rtol=1e-3)
    assert np.isfinite(found.upper).all() and np.asarray(two(list(found.witness.values()))).argmax(1) != y
    step = (np.concatenate(list(found.witness.values()), axis=1) - flat) / shares
    order = {"linf": np.inf, "l1": 1, "l2": 2}[norm]
    np.testing.assert_allclose(np.linalg.norm(step, order, axis=1), found.upper, rtol=1e-6)
    fixed = tfcert.minimum_perturbation(two, x, y, free="a", **how)
    np.testing.assert_array_equal(fixed.witness["b"], np.where(np.isfinite(fixed.upper), x["b"], np.nan))


@pytest.mark.usefixtures("eager")
def test_nothing_but_what_is_free_changes_in_a_witness(models, samples):
    (two, _), (x, _, y) = models, samples
    for norm in NORMS:
        found = tfcert.attack(two, x, y, eps=50.0, norm=norm, free="tab")
        assert found.success.all()
        np.testing.assert_array_equal(found.witness["image"], x["image"])


def test_sets_of_dictionaries_go_by_name_and_lists_by_order(models, samples):
    (two, _), (x, flat, _) = models, samples
    wanted = tfcert.bounds(two, tfcert.LpBall(flat, 0.1), method="ibp", options=OPTIONS)
    backwards = {"tab": x["tab"], "image": x["image"]}
    for given in (x, backwards, [x["image"], x["tab"]]):
        found = tfcert.bounds(two, tfcert.LpBall(given, 0.1), method="ibp", options=OPTIONS)
        np.testing.assert_array_equal(found.lower, wanted.lower)
    box = tfcert.Box({n: a - 0.1 for n, a in backwards.items()}, {n: a + 0.1 for n, a in backwards.items()})
    np.testing.assert_allclose(tfcert.bounds(two, box, method="ibp", options=OPTIONS).lower, wanted.lower, atol=ATOL)
    for wrong, message in (([x["tab"], x["image"]], "the sets are of inputs"), ({"a": x["tab"]}, "names 'a'"),
                           (flat[:, :5], r"shape \(5,\) for a model of the inputs")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            tfcert.bounds(two, tfcert.LpBall(wrong, 0.1))


def test_data_sets_of_several_inputs(models, samples):
    (two, _), (x, _, y) = models, samples
    wanted = tfcert.certify(two, x, y, eps=0.01, method="ibp", options=OPTIONS).margin
    data = tf.data.Dataset.from_tensor_slices((x, y))
    for given in (data, data.batch(2)):
        found = tfcert.certify(two, given, eps=0.01, method="ibp", options=OPTIONS).margin
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.usefixtures("eager")
def test_integers_must_be_held_fixed():
    rng = np.random.default_rng(3)
    image, mask = keras.Input((3, 2), name="image"), keras.Input((3, 1), dtype="int32", name="mask")
    shown = L.Concatenate()([image, keras.ops.cast(mask, "float32")])
    model = keras.Model([image, mask], L.Dense(2)(L.Flatten()(L.Dense(3, activation="relu")(shown))))
    x = {"image": rng.random((2, 3, 2), np.float32), "mask": rng.integers(0, 2, (2, 3, 1))}
    y = model.predict(x, verbose=0).argmax(1)
    for ask in (tfcert.certify, tfcert.attack):
        with pytest.raises(ValueError, match=r"'mask' holds int32.*hold it fixed.*free=\['image'\]"):
            ask(model, x, y, eps=0.1)
    with pytest.raises(ValueError, match="'mask' holds int32"):
        tfcert.certified_radius(model, x, y)
    assert tfcert.certify(model, x, y, eps=1e-5, free="image", options=OPTIONS).verified.all()
    radius = tfcert.certified_radius(model, x, y, free=["image"], options=OPTIONS).radius
    assert (radius > 0).all()
    found = tfcert.attack(model, x, y, eps={"image": 50.0, "mask": 0})
    np.testing.assert_array_equal(found.witness["mask"][found.success], x["mask"][found.success])


def test_what_has_no_largest_radius_is_refused(models, samples):
    (two, _), (x, _, y) = models, samples
    with pytest.raises(ValueError, match="nothing of sample 0 may change"):
        tfcert.certified_radius(two, x, y, scale={"image": 0, "tab": 0})
    with pytest.raises(ValueError, match="guide cw"):
        tfcert.minimum_perturbation(two, x, y, upper=1.0, free="tab", guide="cw")
