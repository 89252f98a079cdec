"""Tells whether samples can be what a model expects: a warning where that is unlikely, by two rules.

By its answers: a classifier that is right about no more samples than guessing would be (their share of the number of
classes, and one standard deviation) was hardly trained on inputs like these, scaled and labelled like these. It takes
:func:`needed` samples to say so. A model that is right about 40% of ten classes is suspected in less than 2% of cases,
one that is right about 50% or more in about one of a thousand.

By the radius: one of less than a thousandth of what the inputs span is likelier meant for inputs of another scale
(8/255 for pixels from 0 to 255), where a network may well be as accurate as ever.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator

import numpy as np

from tfcert.verdict import TINY

LEAST = 20


class MisfitWarning(UserWarning):
    """Samples are not what the model seems to expect."""


def needed(classes: int) -> int:
    """The number of samples that tell a classifier from guessing: more for few classes, of which guesses hit many."""
    return max(LEAST, math.ceil(100 / (classes - 1)))


def misfit(right: np.ndarray, classes: int, x: np.ndarray) -> str | None:
    """A sentence for samples ``[n, *input]`` that a model does no better on than guessing; None if it does.

    Args:
        right: bool ``[n]``, which of the samples are classified right.
        classes: how many there are.
        x: the samples, in the space that the sentence speaks of.
    """
    count, hits = len(right), int(right.sum())
    if classes < 2 or count < needed(classes) or not x.size:
        return None
    if hits > count / classes + math.sqrt(count * (classes - 1)) / classes:
        return None
    return (
        f"{hits} of {count} samples are classified right, no more than guessing among {classes} classes would get: are "
        f"the inputs scaled as the model was trained (they go from {float(np.min(x)):g} to {float(np.max(x)):g}), and "
        "labels in its order? Radii and valid ranges are in the units of the inputs"
    )


def tiny_radius(eps: float, x: np.ndarray) -> str | None:
    """A sentence for a radius that is next to nothing beside what the inputs ``[n, *input]`` span; None for others."""
    if not x.size:
        return None
    low, high = float(np.min(x)), float(np.max(x))
    if not 0 < eps < TINY * (high - low):
        return None
    return (
        f"eps {eps:g} is {100 * eps / (high - low):.2g}% of what the inputs span, {low:g} to {high:g}: it is in their "
        "units; are they scaled as the model was trained?"
    )


def warn_of_tiny_radius(eps: np.ndarray, x: np.ndarray) -> None:
    """Warns where even the largest of the radii ``[n]`` is next to nothing."""
    said = tiny_radius(float(np.max(eps, initial=0.0)), x)
    if said is not None:
        warnings.warn(said, MisfitWarning, stacklevel=3)


def warn_of_misfit(
    predict: Callable[[np.ndarray], np.ndarray], x: np.ndarray, y: np.ndarray, classes: int, stack: int = 3
) -> None:
    """Warns of a misfit, by as many samples as that takes, spread evenly.

    Args:
        predict: inputs ``[n, *input]`` to classes ``[n]``.
        x, y: the samples ``[n, *input]`` and their classes ``[n]``.
        classes: how many there are.
        stack: whose line the warning names: 1 is the caller's.
    """
    if classes < 2 or len(x) < needed(classes):
        return
    some = np.linspace(0, len(x) - 1, needed(classes)).astype(int)
    said = misfit(predict(x[some]) == y[some], classes, x[some])
    if said is not None:
        warnings.warn(said, MisfitWarning, stacklevel=stack + 1)


@contextlib.contextmanager
def unsaid() -> Iterator[None]:
    """A context without these warnings: a model is not trained yet, or the caller says it in his own way."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MisfitWarning)
        yield
