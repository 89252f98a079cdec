"""Rows over probabilities, as rows over logits and ratios: of one sign, and on the safe side of every rounding."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfcert.clauses import Clauses
from tfcert.network import from_keras
from tfcert.network import probabilities as module
from tfcert.network.probabilities import Heads, Softmax
from tfcert.options import BoundOptions
from tfcert.rigour.radius import CertifyingMethod

halves = st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0])
thresholds = st.sampled_from([-1.0, -0.75, -0.25, 0.0, 0.1, 0.5, 1.0, 1 - 2.0**-30, -(2.0**-30), 1e-30, 2.0])


def rewritten(row: np.ndarray, softmaxes: tuple[Softmax, ...], size: int) -> tuple[Heads, np.ndarray]:
    """The heads that a row asks for, and the row over their outputs, offset last."""
    heads = Heads(softmaxes, size).fitted([row])
    found = heads.clauses(Clauses(row[None, None, None, :-1], row[None, None, None, -1]))
    return heads, np.append(found.coefficients[0, 0, 0], found.offsets[0, 0, 0])


def outputs(heads: Heads, logits: np.ndarray) -> np.ndarray:
    """What the network has for outputs at logits ``[n, size]``, in float64."""
    above, below = (np.array([pair[side] for pair in heads.ratios], int) for side in (0, 1))
    with np.errstate(over="ignore"):
        ratios = np.exp(logits[:, above] - logits[:, below])
    whole = [np.asarray(tf.nn.softmax(tf.constant(logits[:, s.places]))) for s in heads.whole]
    return np.concatenate([logits, ratios, *whole], axis=1)


def value(row: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.nansum(np.where(row[:-1] == 0, 0.0, numbers * row[:-1]), axis=1) + row[-1]


@settings(max_examples=150, deadline=None)
@given(st.integers(2, 5).flatmap(lambda k: st.tuples(st.lists(halves, min_size=k, max_size=k), thresholds)))
def test_a_row_that_is_positive_over_logits_is_positive_of_the_rounded_probabilities(case):
    coefficients, offset = case
    size = len(coefficients)
    row = np.array([*coefficients, offset])
    heads, found = rewritten(row, (Softmax(0, size),), size)
    rng = np.random.default_rng(3)
    logits = np.concatenate([rng.normal(size=(60, size)) * scale for scale in (0.1, 2.0, 20.0, 200.0)])
    logits = logits.astype(np.float32).astype(np.float64)
    computed = np.asarray(tf.nn.softmax(tf.constant(logits, tf.float32))).astype(np.float64)
    positive = value(found, outputs(heads, logits)) > 0
    ordering = offset == 0 and (row[:-1] != 0).sum() == 2  # a tie of two that are too small for their type
    truth = value(row, computed) >= 0 if ordering else value(row, computed) > 0
    assert truth[positive].all()
    # Nor is much given away: what holds of probabilities by more than rounding is positive.
    clear = value(row, computed) > 1e-5
    assert ordering or positive[clear & (np.abs(logits).max(axis=1) < 5)].all()


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "xla"])
@pytest.mark.parametrize("size", [2, 3, 40])
def test_rows_that_a_computed_softmax_only_just_keeps_are_not_positive(size, compiled):
    """Catches a charge that leaves out what the difference from the largest logit, or an exponential, errs by."""
    rng = np.random.default_rng(size)
    softmax = tf.function(tf.nn.softmax, jit_compile=compiled) if compiled else tf.nn.softmax
    logits = np.concatenate([rng.normal(size=(50, size)) * scale for scale in (0.3, 3.0, 30.0, 60.0)])
    logits = logits.astype(np.float32).astype(np.float64)
    computed = np.asarray(softmax(tf.constant(logits, tf.float32))).astype(np.float64)
    exact = np.exp(logits - logits.max(axis=1, keepdims=True))
    exact /= exact.sum(axis=1, keepdims=True)
    heads, worst = Heads((Softmax(0, size),), size), 0.0
    for place, sign in itertools.product(range(0, size, max(1, size // 3)), (1.0, -1.0)):
        for p, q in zip(exact, computed, strict=True):
            row = np.append(sign * np.eye(size)[place], -sign * q[place])  # 0 as computed
            weights = heads._weights(row, Softmax(0, size))
            assert weights @ p <= 0
            worst = max(worst, abs(q[place] - p[place]) / p[place] if p[place] > 1e-30 else 0.0)
    assert worst > (10 if size < 40 else 2) * 2.0**-24  # it is not for want of errors


def test_rows_that_order_two_of_several_probabilities_are_not_charged():
    """As deployed both may be 0: what decides such a row over logits claims nothing of it."""
    three, two = (Softmax(0, 3),), (Softmax(0, 2),)

    def charged(softmaxes, size, *row):
        heads = Heads(softmaxes, size).fitted([np.array(row)])
        return heads.clauses(Clauses(np.array(row)[None, None, None, :-1], np.array([[[row[-1]]]]))).charged

    assert not charged(three, 3, 1.0, -1.0, 0.0, 0.0) and not charged(three, 3, 2.0, 0.0, -1.0, 0.0)
    assert not charged(two, 2, 1.0, -1.0, 0.0)  # a tie is charged elsewhere, where one is ranked above all others
    assert charged(two, 2, 2.0, -1.0, 0.0) and charged(three, 3, 1.0, 0.0, 0.0, -0.5)
    assert np.asarray(tf.nn.softmax([[200.0, 20.0, 10.0]]))[0, 1:].tolist() == [0.0, 0.0]


def test_thresholds_have_the_level_of_their_network_and_bare_orders_have_not(seed):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, activation="softmax")])
    network = from_keras(model)
    how = CertifyingMethod("crown-ibp", options=BoundOptions(rounding="deployed"))
    for row, level in (([1.0, 0, 0, -0.3], "float32-any-order"), ([1.0, -1.0, 0, 0], "numeric")):
        heads = Heads.of(network, [Softmax(0, 3)]).fitted([np.array(row)])
        asked = heads.clauses(Clauses(np.array(row)[None, None, None, :-1], np.array([[[row[-1]]]])))
        assert how.guarantee(heads.network(network), asked).value == level
        assert (how.not_charged(heads.network(network), asked) == "") == (level != "numeric")


def test_of_two_classes_a_row_is_one_difference_of_logits():
    heads, found = rewritten(np.array([0.0, -1.0, 0.2]), (Softmax(0, 2),), 2)  # p_1 < 0.2
    assert heads.outputs == 2 and found[:2].tolist() == [1, -1]
    assert found[2] == pytest.approx(-np.log(0.8 / 0.2), abs=1e-5) and found[2] < -np.log(4.0)


@pytest.mark.parametrize(
    ("row", "kept"),
    [
        ([1, -1, 0, 0], True),
        ([-3, 0, 3, 0], True),
        ([1, -1, 0, 0.1], False),
        ([2, -1, -1, 0], False),
        ([2, -1, 0, 0], False),
        ([1, 0, 0, 0], False),
        ([0, 0, 0, 1], True),
    ],
)
def test_only_rows_that_order_two_probabilities_are_read_over_logits(row, kept):
    heads, row = Heads((Softmax(0, 3),), 3), np.array(row, float)
    assert heads.keeps(row[None]).tolist() == [kept]
    assert not kept or rewritten(row, heads.softmaxes, 3)[1].tolist() == row.tolist()


def test_comparisons_with_factors_are_differences_of_logits():
    heads, found = rewritten(np.array([0, 2.0, -6.0, 0]), (Softmax(0, 3),), 3)
    assert heads.outputs == 3 and found[:3].tolist() == [0, 1, -1] and found[3] == pytest.approx(-np.log(3))


def test_numbers_beside_a_softmax_and_another_softmax_are_compared_with_its_probabilities():
    two = (Softmax(0, 3), Softmax(4, 2))
    heads, found = rewritten(np.array([1.0, 0, 0, 0, -1.0, 0, 0.25]), two, 6)
    assert heads.whole == two and not heads.ratios
    assert np.flatnonzero(found).tolist() == [6, 9, 11] and found[[6, 9, 11]].tolist() == [1, -1, 0.25]
    heads, found = rewritten(np.array([1.0, 0, 0, -1.0, 0, 0, 0.25]), two, 6)
    assert heads.whole == two[:1] and np.flatnonzero(found).tolist() == [3, 6, 9]
    heads, found = rewritten(np.array([0, 0, 0, 1.0, 0, 0, 0.25]), two, 6)
    assert heads.outputs == 6 and found.tolist() == [0, 0, 0, 1, 0, 0, 0.25] and heads.keeps(found[None]).all()
    # Each softmax by itself keeps its ratios, whatever stands beside it.
    heads, found = rewritten(np.array([0, 1.0, 0, 0, 0, 0, -0.25]), two, 6)
    assert set(heads.ratios) == {(0, 1), (2, 1)} and found[0] == 0 and (found[6:8] < 0).all()


def test_beyond_the_most_ratios_probabilities_are_computed(monkeypatch):
    monkeypatch.setattr(module, "_MOST_RATIOS", 3)
    rows = [np.append(np.eye(3)[i], -0.5) for i in range(3)]
    heads = Heads((Softmax(0, 3),), 3).fitted(rows)
    assert heads.ratios == () and heads.whole == (Softmax(0, 3),)
    found = heads.clauses(Clauses(rows[1][None, None, None, :-1], rows[1][None, None, None, -1:].reshape(1, 1, 1)))
    assert np.flatnonzero(found.coefficients).tolist() == [4]


@pytest.mark.parametrize("size", [2, 3])
def test_the_network_has_what_is_read_of_the_models_answers(seed, size):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(size, activation="softmax")])
    network = from_keras(model)
    rows = [np.append(np.eye(size)[0], -0.5), np.append(np.eye(size)[1], -0.5)]
    heads = Heads.of(network, [Softmax(0, size)]).fitted(rows)
    x = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    whole = heads.network(network)
    found, read = np.asarray(whole(tf.constant(x))), heads.scores(np.asarray(model(x)))
    assert whole.peeled and found.shape == read.shape == (5, heads.outputs)
    shift = (found - read)[:, :1]  # logarithms of probabilities are logits but for one number a sample
    np.testing.assert_allclose(found[:, :size] - shift, read[:, :size], atol=1e-5)
    np.testing.assert_allclose(found[:, size:], read[:, size:], rtol=1e-5)
    assert heads.network(network) is whole and (size > 2 or whole is network)


def test_rows_that_heads_were_not_fitted_to_are_no_rows_over_logits():
    """A comparison needs no ratios; the same with an offset does, and must not be read over logits for want of them."""
    softmaxes = (Softmax(0, 3), Softmax(3, 3))
    compares, shifted, both = np.zeros((3, 7))
    compares[[0, 1]] = shifted[[0, 1]] = 1, -1
    shifted[-1], both[[0, 3]] = 0.1, 1
    heads = Heads(softmaxes, 6).fitted([compares])
    assert heads.outputs == 6 and not heads.ratios
    for row in (shifted, both):
        with pytest.raises(ValueError, match="lack the probabilities from 0 on"):
            heads.clauses(Clauses(row[None, None, None, :-1], row[None, None, -1:]))
