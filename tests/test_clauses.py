"""Clauses: padding moves nothing, what is no number proves nothing, and margins are what their rows say."""

import numpy as np
import pytest

from tfcert.clauses import Clause, Clauses, keeps_label, misses_target, target_classes
from tfcert.verdict import is_proof


@pytest.fixture
def samples(rng) -> list[list[Clause]]:
    """Clauses of every shape: one row and three, one clause and three."""
    shapes = [(1,), (3, 1), (2, 2, 1), (3,)]
    return [[Clause(rng.normal(size=(n, 4)), rng.normal(size=n)) for n in sizes] for sizes in shapes]


def test_a_margin_is_the_least_clause_of_its_best_row_whatever_is_padded(samples, rng):
    points = rng.normal(size=(5, len(samples), 4)).astype(np.float32)
    stacked = Clauses.stack(samples)
    expected = [
        [
            min(max(c.coefficients @ y.astype(float) + c.offsets) for c in each)
            for y, each in zip(p, samples, strict=True)
        ]
        for p in points
    ]
    np.testing.assert_allclose(stacked.margins(points), expected, rtol=1e-12)
    np.testing.assert_allclose(stacked.margin(points[0]), expected[0], rtol=1e-12)
    alone = [min(float(c.margin(y.astype(float))) for c in each) for y, each in zip(points[0], samples, strict=True)]
    np.testing.assert_allclose(alone, expected[0], rtol=1e-12)


def test_samples_padded_one_by_one_are_those_stacked_together(samples, rng):
    alone = [Clauses.stack([sample]).padded(3, 3) for sample in samples]
    joined, stacked = Clauses.joined(alone), Clauses.stack(samples)
    np.testing.assert_array_equal(joined.coefficients, stacked.coefficients)
    np.testing.assert_array_equal(joined.offsets, stacked.offsets)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_not_finite_settle_nothing(samples, bad):
    outputs = np.ones((len(samples), 4))
    outputs[1, 2] = bad
    stacked = Clauses.stack(samples)
    margin = stacked.margin(outputs)
    assert np.isnan(margin).tolist() == [False, True, False, False]
    assert np.isnan(stacked.margins(outputs[None])[0]).tolist() == [False, True, False, False]
    assert np.isnan(stacked.values(outputs)[1]).all() and not is_proof(margin, 0.0)[1] and not (margin < 0)[1]


def test_bounds_of_the_rows_become_the_margins_that_their_clauses_have(samples, rng):
    """Bounds that are exact at one point give the margin there, as the rows of the query say it."""
    outputs = rng.normal(size=(len(samples), 4))
    stacked = Clauses.stack(samples)
    rows, offsets = stacked.rows()
    assert np.isfinite(offsets).all()
    lower = np.einsum("bro,bo->br", rows, outputs) + offsets
    margin, lost = stacked.certified(lower)
    np.testing.assert_allclose(margin, stacked.margin(outputs), rtol=1e-12)
    assert (lost == 0).all()
    np.testing.assert_allclose(stacked.less(np.full(stacked.offsets.shape, 0.5)).margin(outputs), margin - 0.5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bound_that_is_not_finite_says_nothing_of_its_row_alone(bad):
    """``y0 > 0 or y1 > 0``, and ``y1 > 0``: of the first clause the other row still counts, the second has none."""
    either, second = Clause(np.eye(2), np.zeros(2)), Clause(np.eye(2)[1:], np.zeros(1))
    stacked = Clauses.stack([[either], [either], [either, second]])
    lower = np.array([[bad, 2.0, 0, 0], [bad, bad, 0, 0], [3.0, 2.0, bad, 0]])
    margin, lost = stacked.certified(lower, 0.5)
    np.testing.assert_array_equal(margin, [2.0, np.nan, np.nan])
    assert is_proof(margin, lost).tolist() == [True, False, False] and lost[0] == 0.5


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_row_whose_rounding_is_not_finite_proves_nothing(bad):
    stacked = Clauses.stack([[Clause(np.eye(2), np.zeros(2))]])
    for rounding, proven in (([bad, bad], False), ([bad, 0.1], True), ([0.0, bad], True), ([1.0, 2.0], False)):
        margin, lost = stacked.certified(np.array([[1.0, 2.0]]), np.array([rounding]))
        assert margin[0] == 2.0 and bool(is_proof(margin, lost)[0]) == proven


def test_rounding_is_taken_from_the_row_that_proves_not_from_the_largest():
    """The row of the larger bound loses all of it to rounding, the other one keeps a surplus: what is left of the
    margin is that of the other."""
    stacked = Clauses.stack([[Clause(np.eye(2), np.zeros(2))]])
    margin, lost = stacked.certified(np.array([[1.0, 2.0]]), np.array([[0.25, 1.75]]))
    assert margin[0] == 2.0 and margin[0] - lost[0] == 0.75


def test_what_has_its_own_value_for_padding_keeps_it(samples):
    stacked = Clauses.stack(samples)
    bounds = np.full(stacked.rows()[1].shape, 7.0)
    settled = stacked.settled(bounds)
    assert (settled[stacked.counts] == 7.0).all()
    assert (settled[~stacked.counts] == stacked.offsets[~stacked.counts]).all() and stacked.counts.sum() == 13


def test_samples_without_clauses_or_of_different_outputs_are_refused():
    one = Clause(np.ones((1, 2)), np.zeros(1))
    for samples, message in (
        ([[one], []], "at least one clause"),
        ([[Clause(np.zeros((0, 2)), np.zeros(0))]], "at least one row"),
        ([[one], [Clause(np.ones((1, 3)), np.zeros(1))]], "outputs"),
    ):
        with pytest.raises(ValueError, match=message):
            Clauses.stack(samples)


def test_the_margin_of_a_label_is_the_gap_to_the_runner_up(rng):
    outputs, y = rng.normal(size=(20, 5)), rng.integers(0, 5, 20)
    others = np.where(np.eye(5, dtype=bool)[y], -np.inf, outputs).max(axis=1)
    gap = outputs[np.arange(20), y] - others
    np.testing.assert_allclose(keeps_label(y, 5).margin(outputs), gap)
    np.testing.assert_allclose(misses_target(y, 5).margin(outputs), -gap)


@pytest.mark.parametrize("y", [[-1], [3]])
def test_a_label_that_is_no_class_is_refused(y):
    with pytest.raises(ValueError, match="class indices from 0 to 2"):
        keeps_label(np.array(y), 3)


def test_random_targets_are_neither_the_label_nor_the_ends_and_depend_on_their_sample_alone(rng):
    outputs, y = rng.normal(size=(300, 6)), rng.integers(0, 6, 300)
    found = target_classes(outputs, y, "random")
    for rule in ("runner-up", "least"):
        assert (found != target_classes(outputs, y, rule)).all()
    assert (found != y).all() and np.bincount(found, minlength=6).min() > 20
    some = rng.permutation(300)[:50]
    np.testing.assert_array_equal(target_classes(outputs[some], y[some], "random", some), found[some])
    other = target_classes(outputs, y, "random", seed=1)
    assert (other == found).mean() < 0.6  # of three classes, one in three is drawn again by chance
    np.testing.assert_array_equal(found, target_classes(outputs, y, "random", np.arange(300), 0))


def test_the_rule_of_the_papers_leaves_one_class_of_four_and_none_of_three():
    outputs = np.array([[4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0]])
    right = np.array([0, 3])
    np.testing.assert_array_equal(target_classes(outputs, right, "random"), [2, 1])
    # Of a sample that is misclassified (as 0) the likeliest other class is what is predicted.
    np.testing.assert_array_equal(target_classes(outputs[:1], np.array([1]), "random"), [2])
    with pytest.raises(ValueError, match="at least four classes, and the model has 3"):
        target_classes(outputs[:, :3], np.array([0, 2]), "random")
    with pytest.raises(ValueError, match="'random' or integers, not 'worst'"):
        target_classes(outputs, right, "worst")
