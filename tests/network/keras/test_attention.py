"""Attention layers in all their options, against Keras on noise; what a mask hides has no influence; refusals."""

from itertools import product

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L
from sweeps import sweep_but

import tfcert
from tfcert.network import UnsupportedLayerError, from_keras
from tfcert.options import BoundOptions

STEPS, SIZE = 5, 6
SOME = np.random.default_rng(3).random((1, STEPS, STEPS)) < 0.6
SOME[0, np.arange(STEPS), np.arange(STEPS)] = True
FIRST = np.arange(STEPS)[None] < 3


def functional(function, shape=(STEPS, SIZE), **options):
    inputs = keras.Input(shape, **options)
    return keras.Model(inputs, function(inputs))


def of_itself(layer, **how):
    return lambda x: layer(x, x, **how)


MULTI_HEAD = {
    "plain": (dict(num_heads=2, key_dim=3), {}),
    "one head, values of another size": (dict(num_heads=1, key_dim=2, value_dim=4), {}),
    "no bias, another output": (dict(num_heads=2, key_dim=3, use_bias=False, output_shape=4), {}),
    "an output of two axes": (dict(num_heads=2, key_dim=3, output_shape=(2, 3)), {}),
    "dropout": (dict(num_heads=2, key_dim=3, dropout=0.5), {}),
    "dropout, causal": (dict(num_heads=2, key_dim=3, dropout=0.5), dict(use_causal_mask=True)),
    "a gate": (dict(num_heads=2, key_dim=3, value_dim=2, use_gate=True), {}),
    "causal": (dict(num_heads=2, key_dim=3), dict(use_causal_mask=True)),
    "a window": (dict(num_heads=2, key_dim=3, sliding_window=2), {}),
    "a causal window": (dict(num_heads=1, key_dim=3, sliding_window=3), dict(use_causal_mask=True)),
    "a mask": (dict(num_heads=2, key_dim=3), dict(attention_mask=SOME)),
    "a mask and causal": (dict(num_heads=2, key_dim=3), dict(attention_mask=SOME, use_causal_mask=True)),
    "a mask without a batch": (dict(num_heads=2, key_dim=3), dict(attention_mask=SOME[0].astype("float32"))),
    "a mask of all queries": (dict(num_heads=2, key_dim=3), dict(attention_mask=FIRST[:, None])),
    "a mask of nothing": (dict(num_heads=2, key_dim=3), dict(attention_mask=np.ones((1, STEPS, STEPS), bool))),
}
GROUPED = {
    "two groups of two": (dict(head_dim=3, num_query_heads=4, num_key_value_heads=2), {}),
    "one group": (dict(head_dim=2, num_query_heads=3, num_key_value_heads=1, use_bias=False), {}),
    "no groups, dropout": (dict(head_dim=2, num_query_heads=2, num_key_value_heads=2, dropout=0.3), {}),
    "a gate, causal": (
        dict(head_dim=3, num_query_heads=4, num_key_value_heads=2, use_gate=True),
        dict(use_causal_mask=True),
    ),
    "a mask and a window": (
        dict(head_dim=3, num_query_heads=4, num_key_value_heads=2, sliding_window=3),
        dict(attention_mask=SOME),
    ),
}


@pytest.mark.parametrize(
    "name",
    sweep_but(
        ["dropout, causal", "a gate", "a causal window", "a mask and causal", "an output of two axes"], MULTI_HEAD
    ),
)
def test_multi_head_attention(check, name):
    options, how = MULTI_HEAD[name]
    check(functional(of_itself(L.MultiHeadAttention(**options), **how)))


@pytest.mark.parametrize("name", sweep_but(["a gate, causal", "a mask and a window"], GROUPED))
def test_grouped_query_attention(check, name):
    options, how = GROUPED[name]
    check(functional(of_itself(L.GroupQueryAttention(**options), **how)))


def different(x):
    """A query, a value and a key of their own, of another length than the query."""
    return L.Dense(4)(x)[:, :3], L.Dense(5)(x), L.Dense(2, activation="tanh")(x)


def test_query_key_and_value_may_differ(check):
    check(functional(lambda x: L.MultiHeadAttention(2, 3)(*different(x))))
    check(functional(lambda x: L.MultiHeadAttention(2, 3)(key=x, value=x, query=L.Dense(4)(x))))


@pytest.mark.parametrize("layer", [L.Attention(), L.Attention(score_mode="concat"), L.AdditiveAttention()])
def test_attention_without_projections_of_different_tensors(check, layer):
    def call(x):
        return layer([L.Dense(4)(x)[:, :3], L.Dense(5)(x), L.Dense(4)(x)])

    check(functional(call))


@pytest.mark.parametrize("axes", sweep_but([(2,)], [(None,), (1,), (2,), ((1, 2),), (-2,)]), ids=str)
def test_attention_along_several_axes(check, axes):
    layer = L.MultiHeadAttention(2, 3, attention_axes=axes)
    check(functional(of_itself(layer), shape=(3, 2, 4)))


def test_a_mask_over_several_axes(check):
    mask = np.random.default_rng(0).random((1, 3, 2, 3, 2)) < 0.7
    mask[0, :, :, 0, 0] = True
    check(functional(of_itself(L.MultiHeadAttention(2, 3), attention_mask=mask), shape=(3, 2, 4)))


@pytest.mark.parametrize(
    "options",
    sweep_but([{"use_scale": True}], [{}, {"use_scale": True}, {"score_mode": "concat"}, {"dropout": 0.5}]),
    ids=str,
)
@pytest.mark.parametrize("how", [{}, {"use_causal_mask": True}, {"mask": [None, FIRST]}], ids=["all", "causal", "mask"])
def test_attention(check, options, how):
    check(functional(lambda x: L.Attention(**options)([x, x], **how)))


def test_attention_of_scaled_sums_of_a_causal_mask_and_one_of_values(check):
    layer = L.Attention(score_mode="concat", use_scale=True)
    check(functional(lambda x: layer([x, x], mask=[None, FIRST], use_causal_mask=True)))
    check(functional(lambda x: L.AdditiveAttention(use_scale=False)([x, x, L.Dense(SIZE)(x)])))
    check(functional(lambda x: L.Attention()([x, x], use_causal_mask=True), shape=(2, 3, 4)))


@pytest.mark.parametrize("make", [
    lambda x: L.MultiHeadAttention(2, 3)(x, x, return_attention_scores=True, use_causal_mask=True),
    lambda x: L.GroupQueryAttention(3, 4, 2)(x, x, return_attention_scores=True),
    lambda x: L.Attention()([x, x], return_attention_scores=True),
], ids=["multi-head", "grouped", "plain"])  # fmt: skip
def test_the_weights_are_an_output_of_their_own(check, make):
    def both(x):
        context, weights = make(x)
        return L.Concatenate()([L.Flatten()(context), L.Flatten()(weights)])

    check(functional(both))


def test_float64_and_one_query_alone(check):
    check(functional(of_itself(L.MultiHeadAttention(2, 3, dtype="float64")), dtype="float64"))
    check(functional(lambda x: L.MultiHeadAttention(2, 3)(x[:, :1], x)))
    check(functional(lambda x: L.MultiHeadAttention(2, 3)(x, x[:, :1])))


def test_a_masked_key_has_no_influence_on_any_bound(eager):
    model = functional(lambda x: L.Flatten()(L.MultiHeadAttention(2, 3)(x, x, attention_mask=FIRST[:, None])[:, :1]))
    x = np.random.default_rng(0).normal(size=(2, STEPS, SIZE)).astype("float32")
    wide = np.where(np.arange(STEPS)[None, :, None] < 3, 0.0, 50.0).astype("float32")
    for method in ("ibp", "crown"):
        still = tfcert.bounds(model, tfcert.Box(x, x), method=method)
        moved = tfcert.bounds(model, tfcert.Box(x - wide, x + wide), method=method)
        np.testing.assert_allclose(moved.lower, still.lower, atol=1e-5)
        np.testing.assert_allclose(moved.upper, still.upper, atol=1e-5)


LAYERS = {
    "multi-head": of_itself(L.MultiHeadAttention(2, 3)),
    "causal": of_itself(L.MultiHeadAttention(1, 3), use_causal_mask=True),
    "grouped": of_itself(L.GroupQueryAttention(2, 4, 2)),
    "plain": lambda x: L.Attention()([x, x]),
    "additive": lambda x: L.AdditiveAttention()([x, x]),
}


METHODS = ("ibp", "forward", "forward+backward", "crown-ibp", "crown", "alpha-crown")
KEPT = [
    ("grouped", "forward"),
    ("multi-head", "crown"),
    ("multi-head", "forward"),
    ("causal", "ibp"),
    ("additive", "crown-ibp"),
]


@pytest.mark.parametrize(("name", "method"), sweep_but(KEPT, product(LAYERS, METHODS)))
def test_bounds_hold_and_are_met_at_a_point(name, method, eager, rng):
    model = functional(lambda x: L.Dense(2)(L.Flatten()(LAYERS[name](x))), shape=(3, 4))
    for weight in model.weights:
        weight.assign(0.7 * rng.normal(size=weight.shape))
    x = rng.normal(size=(2, 3, 4)).astype("float32")
    found = tfcert.bounds(model, tfcert.LpBall(x, 0.1), method=method)
    corners = x + 0.1 * rng.choice([-1, 0, 1], size=(400, *x.shape))
    values = model(corners.reshape(-1, 3, 4).astype("float32")).numpy().reshape(400, 2, -1)
    slack = 1e-4 * (1 + np.abs(values).max())
    assert (values >= found.lower - slack).all() and (values <= found.upper + slack).all()
    # Planes touch what they enclose, but for what rounding is charged.
    plain = BoundOptions(rounding="ignore")
    point = tfcert.bounds(model, tfcert.LpBall(x, 0.0), method=method, options=plain)
    np.testing.assert_allclose(point.lower, model(x), atol=1e-3)
    np.testing.assert_allclose(point.upper, model(x), atol=1e-3)


def test_a_traced_pass_knows_the_shapes_of_selected_rows(rng):
    """Neurons behind attention, of several samples of which some are stable: not eager, where lengths are all known."""

    def block(x):
        return L.Dense(2)(L.Flatten()(L.Dense(4, activation="relu")(L.MultiHeadAttention(2, 2)(x, x))))

    model = functional(block, shape=(3, 4))
    x = rng.normal(size=(3, 3, 4)).astype("float32")
    found = tfcert.bounds(model, tfcert.LpBall(x, 0.05), options=tfcert.BoundOptions(jit=False))
    corners = x + 0.05 * rng.choice([-1, 1], size=(200, *x.shape))
    values = model(corners.reshape(-1, 3, 4).astype("float32")).numpy().reshape(200, 3, 2)
    assert (values >= found.lower - 1e-4).all() and (values <= found.upper + 1e-4).all()
    alone = tfcert.bounds(model, tfcert.LpBall(x[:1], 0.05), options=tfcert.BoundOptions(jit=False))
    np.testing.assert_allclose(alone.lower, found.lower[:1], atol=1e-3)


REFUSED = {
    "a mask from the input": (
        lambda x: L.MultiHeadAttention(2, 3)(x, x, attention_mask=x[:, :, :STEPS]),
        "mask that is computed from the input",
    ),
    "a mask a sample": (
        lambda x: L.MultiHeadAttention(2, 3)(x, x, attention_mask=np.repeat(SOME, 2, axis=0)),
        "mask of shape .* its batch must be 1",
    ),
    "half a mask": (
        lambda x: L.MultiHeadAttention(2, 3)(x, x, attention_mask=np.full((1, STEPS, STEPS), 0.5)),
        "other entries than 0 and 1",
    ),
    "nothing to attend to": (
        lambda x: L.MultiHeadAttention(2, 3)(x, x, attention_mask=np.eye(STEPS, k=1)[None]),
        "a query that may attend to nothing",
    ),
    "a mask of values": (
        lambda x: L.MultiHeadAttention(2, 3)(x, x, value_mask=FIRST),
        "called with a value_mask; a constant attention_mask",
    ),
    "a mask of queries": (
        lambda x: L.Attention()([x, x], mask=[FIRST, None]),
        "a mask of its queries; set what it masks to zero",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    make, message = REFUSED[name]
    with pytest.raises(UnsupportedLayerError, match=message):
        from_keras(functional(make))


def test_lora_within_attention_is_refused():
    layer = L.MultiHeadAttention(2, 3)
    model = functional(of_itself(layer))
    layer.query_dense.enable_lora(2)
    with pytest.raises(UnsupportedLayerError, match="LoRA"):
        from_keras(model)


def test_weights_are_read_live(rng):
    layer = L.MultiHeadAttention(2, 3)
    model = functional(of_itself(layer))
    network = from_keras(model)
    x = tf.constant(rng.normal(size=(2, STEPS, SIZE)), tf.float32)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))
    np.testing.assert_allclose(network(x), model(x), atol=1e-4)
