"""Words that may be replaced: boxes that hold every sentence, no larger than said."""

from itertools import product

import keras
import numpy as np
import pytest
from keras import layers as L
from unrounded import IGNORED

import tfcert
from tfcert.network.keras.private import calls

WORDS = {1: (2, 3), 4: (1,), 5: (5,)}
TOKENS = np.array([[1, 4, 5, 0], [0, 6, 5, 6], [4, 4, 1, 1]])


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    tokens = keras.Input((4,), dtype="int32")
    x = L.Embedding(7, 3)(tokens) + rng.normal(size=(1, 4, 3)).astype("float32")
    model = keras.Model(tokens, L.Dense(2)(L.Flatten()(L.Dense(6, activation="relu")(x))))
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))
    return model


def sentences(row, changes=4):
    """Every sentence that at most so many replacements make of one."""
    every = product(*((int(t), *WORDS.get(int(t), ())) for t in row))
    return np.array([s for s in every if sum(a != b for a, b in zip(s, row, strict=True)) <= changes])


@pytest.mark.parametrize("after", [None, "add"])
def test_one_box_a_sample_is_the_hull_of_its_sentences(model, after):
    after = after and next(call.operation.name for call in calls(model) if after in call.operation.name)
    found = tfcert.substitutions(model, TOKENS, WORDS, after=after)
    assert found.owner.tolist() == [0, 1, 2] and len(found.box) == 3
    for i, row in enumerate(TOKENS):
        points = tfcert.embedded(model, sentences(row), after=after)[1]
        np.testing.assert_array_equal(found.box.lower[i], points.min(axis=0))
        np.testing.assert_array_equal(found.box.upper[i], points.max(axis=0))
    assert repr(found).startswith("Substitutions of 3 samples: Box of 3 samples of shape (4, 3)")


@pytest.mark.parametrize(("changes", "boxes"), [(0, [1, 1, 1]), (1, [2, 1, 4]), (2, [1, 1, 6]), (9, [1, 1, 1])])
def test_so_many_changes_at_once_are_in_one_of_the_boxes(model, changes, boxes):
    found = tfcert.substitutions(model, TOKENS, WORDS, changes=changes)
    assert np.bincount(found.owner).tolist() == boxes
    whole = tfcert.substitutions(model, TOKENS, WORDS).box
    for i, row in enumerate(TOKENS):
        own = found.box.take(np.flatnonzero(found.owner == i))
        assert (own.lower >= whole.lower[i]).all() and (own.upper <= whole.upper[i]).all()
        for point in tfcert.embedded(model, sentences(row, changes))[1]:
            assert own.contains(np.broadcast_to(point, own.lower.shape)).any()
        unchanged = (own.lower == own.upper).all(axis=2)
        assert (unchanged.sum(axis=1) >= 4 - changes).all()


def test_what_is_proven_of_the_boxes_holds_for_every_sentence(model):
    labels = model(TOKENS).numpy().argmax(axis=1)
    tail, _ = tfcert.embedded(model, TOKENS)
    for changes in (None, 1):
        sets = tfcert.substitutions(model, TOKENS, WORDS, changes=changes)
        margins = tfcert.margins(tail, sets.box, labels[sets.owner]).min(axis=1)
        found = tfcert.certify_words(model, TOKENS, labels, WORDS, changes=changes)
        for i, row in enumerate(TOKENS):
            logits = model(sentences(row, 4 if changes is None else changes)).numpy()
            least = (logits[:, labels[i]] - logits[:, 1 - labels[i]]).min()
            assert found.margin[i] == pytest.approx(margins[sets.owner == i].min(), rel=1e-5)
            assert found.margin[i] <= least and found.verified[i] == (found.margin[i] > 0)
        assert found.verified[1], "a sentence without replacements is as it is"
        assert found.method == "crown" and found.guarantee == "float32-any-order" and (found.rounding == 0).all()


def test_what_rounding_is_estimated_to_take_is_that_of_the_worst_set(model):
    labels = model(TOKENS).numpy().argmax(axis=1)
    found = tfcert.certify_words(model, TOKENS, labels, WORDS, options=IGNORED)
    assert found.guarantee == "numeric" and 0 < found.rounding.max() < 1e-3
    assert (found.verified == (found.margin > found.rounding)).all()


def test_one_set_that_is_not_proven_is_enough_not_to_verify_a_sample(model):
    labels = model(TOKENS).numpy().argmax(axis=1)
    wrong = tfcert.certify_words(model, TOKENS, 1 - labels, WORDS, changes=1)
    assert not wrong.verified.any() and (wrong.margin < 0).all()
    flips = {1: (2, 3, 6), 4: (0, 6), 5: (6,)}
    found = tfcert.certify_words(model, TOKENS, labels, flips, changes=1)
    sets = tfcert.substitutions(model, TOKENS, flips, changes=1)
    margins = tfcert.margins(tfcert.embedded(model, TOKENS)[0], sets.box, labels[sets.owner]).min(axis=1)
    mixed = [i for i in range(3) if (margins[sets.owner == i] > 0).any() and (margins[sets.owner == i] < 0).any()]
    assert mixed, "some sample has sets of both kinds"
    assert not found.verified[mixed].any()


def test_mistakes(model):
    with pytest.raises(ValueError, match=r"whole numbers \[samples, positions\], not float64"):
        tfcert.substitutions(model, TOKENS * 1.0, WORDS)
    with pytest.raises(ValueError, match="changes must not be negative"):
        tfcert.substitutions(model, TOKENS, WORDS, changes=-1)
    long = np.ones((1, 40), np.int64)
    stack = keras.Sequential([keras.Input((40,)), L.Embedding(7, 3), L.Flatten(name="flat"), L.Dense(2)])
    with pytest.raises(ValueError, match="6 changes at once make 3838380 boxes"):
        tfcert.substitutions(stack, long, WORDS, changes=6)
    with pytest.raises(ValueError, match="are not one for each of the tokens"):
        tfcert.substitutions(stack, long, WORDS, after="flat")


def test_words_that_move_more_than_their_own_position_are_noticed():
    mixed = [
        keras.Input((4,)),
        L.Embedding(7, 3),
        L.Conv1D(3, 3, padding="same", name="mixed"),
        L.Flatten(),
        L.Dense(2),
    ]
    with pytest.raises(ValueError, match="moves numbers at others, too"):
        tfcert.substitutions(keras.Sequential(mixed), TOKENS, WORDS, after="mixed")
