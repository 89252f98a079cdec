"""Models of token ids, cut behind their embeddings; what such a cut would leave out is refused."""

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcert
from tfcert.network import UnsupportedLayerError, from_keras

WORDS, STEPS, SIZE = 7, 4, 3
TOKENS = np.array([[1, 2, 3, 4], [5, 6, 1, 1]])


def classifier(rng, embed, *, open_length=False, dtype="int32", pool=L.GlobalAveragePooling1D):
    """A classifier whose embeddings are what ``embed`` makes of the ids."""
    tokens = keras.Input((None if open_length else STEPS,), dtype=dtype)
    x = L.Dense(5, activation="relu")(embed(tokens))
    model = keras.Model(tokens, L.Dense(2)(pool()(x)))
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))
    return model


class TokensAndPositions(L.Layer):
    """The layer of many tutorials: it cannot be read, and is what is cut behind."""

    def __init__(self):
        super().__init__(name="both")
        self.words, self.places = L.Embedding(WORDS, SIZE), L.Embedding(STEPS, SIZE)

    def call(self, x):
        return self.words(x) + self.places(keras.ops.arange(x.shape[-1]))


class Positions(L.Layer):
    def build(self, shape):
        self.places = self.add_weight(shape=shape[1:], name="places")

    def call(self, x):
        return x + self.places


def with_constant(x):
    return L.Embedding(WORDS, SIZE)(x) + np.linspace(0, 1, STEPS * SIZE, dtype="float32").reshape(1, STEPS, SIZE)


@pytest.mark.parametrize(
    ("embed", "after"),
    [
        (L.Embedding(WORDS, SIZE), None),
        (with_constant, None),
        (lambda x: TokensAndPositions()(x), "both"),
        (lambda x: Positions(name="sum")(L.Embedding(WORDS, SIZE)(x)), "sum"),
        (lambda x: L.Add(name="sum")([L.Embedding(WORDS, SIZE)(x), L.Embedding(2, SIZE)(x // 6)]), "sum"),
    ],
    ids=["embedding", "constant", "own layer", "own positions", "two embeddings"],
)
def test_a_cut_model_takes_the_embeddings_and_shares_the_weights(embed, after, rng):
    model = classifier(rng, embed)
    tail, points = tfcert.embedded(model, TOKENS, after=after)
    assert points.shape == (2, STEPS, SIZE) and points.dtype == np.float32
    np.testing.assert_allclose(from_keras(tail)(points), model(TOKENS), rtol=1e-4, atol=1e-5)
    model.layers[-1].bias.assign([10.0, -10.0])
    np.testing.assert_allclose(tail(points), model(TOKENS), rtol=1e-4, atol=1e-5)


def test_a_sequential_model_and_one_of_open_length(rng):
    stack = keras.Sequential([keras.Input((STEPS,)), L.Embedding(WORDS, SIZE), L.Flatten(), L.Dense(2)])
    tail, points = tfcert.embedded(stack, TOKENS)
    np.testing.assert_allclose(tail(points), stack(TOKENS), rtol=1e-5, atol=1e-6)
    model = classifier(rng, L.Embedding(WORDS, SIZE), open_length=True)
    tail, points = tfcert.embedded(model, TOKENS)
    assert tfcert.certify(tail, points, [0, 0], eps=0.0).margin == pytest.approx(
        np.subtract(*model(TOKENS).numpy().T), rel=1e-4, abs=1e-4
    )


@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_ids_themselves_are_not_perturbed_and_the_refusal_says_what_to_do(dtype, rng):
    model = classifier(rng, L.Embedding(WORDS, SIZE, name="words"), dtype=dtype)
    with pytest.raises(UnsupportedLayerError, match=r"tfcert\.embedded\(model, tokens\) cuts .* tfcert\.substitutions"):
        tfcert.certify(model, TOKENS.astype(dtype), [0, 0], eps=1)


def attending(embedding):
    """Attention takes the mask of its input unseen: nothing in the graph shows it."""

    def embed(x):
        x = embedding(x)
        return L.MultiHeadAttention(1, 2)(x, x)

    return embed


def test_a_mask_of_padding_is_refused_where_there_is_padding(rng):
    words = L.Embedding(WORDS, SIZE, mask_zero=True, name="words")
    masked = classifier(rng, attending(words), pool=L.Flatten)
    tail, points = tfcert.embedded(masked, TOKENS)
    np.testing.assert_allclose(tail(points), masked(TOKENS), rtol=1e-4, atol=1e-5)
    with pytest.raises(UnsupportedLayerError, match=r"'words' .* masks the token 0, which sample 1 holds"):
        tfcert.embedded(masked, TOKENS * (TOKENS != 6))
    with pytest.raises(UnsupportedLayerError, match="by another way than through layer 'words', its mask perhaps"):
        tfcert.embedded(classifier(rng, words), TOKENS)


def test_what_else_reads_the_tokens_is_refused(rng):
    def twice(x):
        return L.Embedding(WORDS, SIZE, name="words")(x) * keras.ops.cast(x, "float32")[:, :, None]

    with pytest.raises(UnsupportedLayerError, match="by another way than through layer 'words'"):
        tfcert.embedded(classifier(rng, twice), TOKENS)


def test_a_mask_of_ones_own_is_noticed(rng):
    class Masks(L.Embedding):
        def compute_mask(self, inputs, mask=None):
            return keras.ops.not_equal(inputs, 1)

    words = Masks(WORDS, SIZE, name="words")
    words.supports_masking = True
    with pytest.raises(UnsupportedLayerError, match="computes something else than its part behind layer 'words'"):
        tfcert.embedded(classifier(rng, attending(words), pool=L.Flatten), TOKENS)


def test_where_to_cut_must_be_known(rng):
    two = classifier(rng, lambda x: L.Embedding(WORDS, SIZE, name="a")(x) + L.Embedding(WORDS, SIZE, name="b")(x))
    with pytest.raises(ValueError, match=r"has 2 calls of Embedding; name the layer .*: a, b"):
        tfcert.embedded(two, TOKENS)
    with pytest.raises(ValueError, match=r"has no calls of layer 'c'; .*: a, b, add"):
        tfcert.embedded(two, TOKENS, after="c")
    with pytest.raises(ValueError, match=r"has no calls of Embedding; .*: both, dense"):
        tfcert.embedded(classifier(rng, lambda x: TokensAndPositions()(x)), TOKENS)
