"""Lines and intervals of functions hold for the program's values, for any slopes, and are close to the best."""

import keras
import numpy as np
import pytest

from tfcert.activations.accuracy import ACCURACIES
from tfcert.proof.functions import FUNCTIONS, elu
from tfcert.proof.graph import Bent, Graph
from tfcert.proof.lines import Shape

UNIT = 2.0**-24
GRAPH = Graph((), UNIT, float(np.finfo(np.float32).tiny), False, "")
ALL = FUNCTIONS | {"elu 0.3": elu(0.3)}


def of(name):
    """What Keras computes."""
    return (lambda x: keras.activations.elu(x, 0.3)) if name == "elu 0.3" else keras.activations.get(name)


def shape(name, low, high):
    place = Bent(name=name, inputs=(0,), shape=low.shape, function=ALL[name])
    return Shape(place, (low, high), GRAPH)


def intervals(seed):
    """Wide and narrow ones, single numbers, and far ones: ``[numbers]`` each."""
    rng = np.random.default_rng(seed)
    low = rng.normal(0, 3, 400) * rng.choice([1e-3, 1.0, 20.0], 400)
    return low, low + np.abs(rng.normal(0, 3, 400)) * rng.choice([0.0, 1e-6, 1.0, 20.0], 400)


@pytest.mark.parametrize("name", ALL)
def test_they_hold_for_what_keras_computes(name):
    low, high = intervals(0)
    found, rng = shape(name, low, high), np.random.default_rng(1)
    least, most = ALL[name].slopes
    x = (low + (high - low) * np.concatenate([[0, 1], rng.random(60)])[:, None]).astype(np.float32)
    x = np.clip(x, np.nextafter(low.astype(np.float32), np.inf), np.nextafter(high.astype(np.float32), -np.inf))
    inside = (x >= low) & (x <= high)
    y = np.asarray(of(name)(x)).astype(np.float64)
    ends = found.interval()
    assert ((ends[0] <= y) & (y <= ends[1]) | ~inside).all()
    for slopes in [(), *((rng.uniform(least, most, (2, 400)), rng.uniform(least, most, (2, 400))) for _ in range(3))]:
        lines = found.lines(*slopes)
        for row in range(2 if slopes else 1):
            lower, below, upper, above = (part[row] if slopes else part for part in lines[:4])
            assert ((lower * x + below <= y) | ~inside).all()
            assert ((upper * x + above >= y) | ~inside).all()


@pytest.mark.parametrize("name", ALL)
def test_they_are_nearly_the_best_in_the_middle(name):
    """No line below the function at 2,000 points is higher in the middle than the convex hull of those points."""
    rng = np.random.default_rng(2)
    low = rng.normal(0, 2, 40)
    high = low + np.abs(rng.normal(0, 2, 40)) + 0.1
    lines, middle = shape(name, low, high).lines(), 0.5 * (low + high)
    x = low + (high - low) * np.linspace(0, 1, 2001)[:, None]
    for sign, at in ((1.0, lines.lower * middle + lines.below), (-1.0, -(lines.upper * middle + lines.above))):
        y = sign * ALL[name].of(x)
        slopes = np.linspace(*sorted((sign * ALL[name].slopes[0], sign * ALL[name].slopes[1])), 400)
        best = np.max([(y - s * x).min(axis=0) + s * middle for s in slopes], axis=0)
        assert (at >= best - 1e-3 * (high - low) ** 2 - 1e-4).all()


def test_programs_may_err_by_what_the_prover_allows_them():
    """The checker states errors of its own; none is less than the prover's, of the same function."""
    size = np.array([1e-6, 0.1, 1.0, 30.0])
    for name, function in FUNCTIONS.items():
        if name not in ACCURACIES:
            continue
        theirs, value = ACCURACIES[name], np.abs(function.of(np.concatenate([size, -size])))
        x = np.concatenate([size, size])
        assert (
            function.units * (value + function.base + function.reach * x)
            >= 2 * theirs.ulps * (value + theirs.base + theirs.reach * x) * (1 - 1e-12)
        ).all(), name


def test_slopes_bend_by_no_more_than_is_stated():
    x = np.linspace(-12, 12, 48_001)
    for name, function in ALL.items():
        if function.bend is None:
            continue
        low, high, step = x[:-2], x[2:], x[1] - x[0]
        second = np.abs(function.of(low) - 2 * function.of(x[1:-1]) + function.of(high)) / step**2
        smooth = np.all([(low > kink) | (high < kink) for kink in function.kinks] or [np.full(low.shape, True)], axis=0)
        assert (second <= function.bend(low, high) * 1.001 + 1e-6)[smooth].all(), name
        slopes = np.diff(function.of(x)) / step
        assert function.slopes[0] - 1e-9 <= slopes.min() and slopes.max() <= function.slopes[1] + 1e-9, name
