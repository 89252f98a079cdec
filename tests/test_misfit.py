"""Samples that are not what a model expects are said to be so, and others hardly ever."""

from __future__ import annotations

import warnings
from math import comb

import numpy as np
import pytest

from tfcert.misfit import MisfitWarning, misfit, needed, tiny_radius, warn_of_misfit

X = np.linspace(0, 255, 100).reshape(100, 1)


def suspected(right, count, classes):
    return misfit(np.arange(count) < right, classes, X[:count]) is not None


@pytest.mark.parametrize(
    ("classes", "accuracy", "most"), [(10, 0.4, 0.02), (10, 0.5, 0.002), (2, 0.7, 0.002), (3, 0.6, 0.005)]
)
def test_a_classifier_that_knows_something_is_rarely_suspected(classes, accuracy, most):
    n = needed(classes)
    chance = sum(comb(n, k) * accuracy**k * (1 - accuracy) ** (n - k) for k in range(n + 1) if suspected(k, n, classes))
    assert chance < most


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
def test_what_guessing_gets_is_suspected_and_too_few_samples_never(classes):
    n = needed(classes)
    assert suspected(n // classes, n, classes)
    assert not suspected(0, n - 1, classes)
    assert not suspected(n, n, classes)


def test_the_sentence_says_what_was_counted_and_what_the_inputs_are():
    said = misfit(np.arange(100) < 9, 10, X)
    assert said is not None and said.startswith("9 of 100 samples are classified right, no more than guessing among 10")
    assert "they go from 0 to 255" in said


def test_samples_are_drawn_evenly_and_the_warning_is_the_caller_s():
    seen = []

    def predict(x):
        seen.append(x)
        return np.zeros(len(x), int)

    with pytest.warns(MisfitWarning) as caught:
        warn_of_misfit(predict, X, np.arange(100) % 10 + 1, 11, stack=1)
    assert caught[0].filename == __file__
    assert len(seen[0]) == 20 and (seen[0][0], seen[0][-1]) == (0, 255)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_misfit(predict, X, np.zeros(100, int), 11)
        warn_of_misfit(predict, X[:19], np.ones(19, int), 11)


@pytest.mark.parametrize(
    ("eps", "suspect"), [(8 / 255, True), (0.254, True), (0.256, False), (8, False), (0.0, False), (np.nan, False)]
)
def test_a_radius_below_a_thousandth_of_what_the_inputs_span_is_told_its_share(eps, suspect):
    said = tiny_radius(eps, X)
    assert (said is not None) == suspect
    if eps == 8 / 255:
        assert said is not None and "eps 0.0313725 is 0.012% of what the inputs span, 0 to 255" in said
