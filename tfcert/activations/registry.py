"""The registry of activations: what bound propagation must know of an elementwise function.

A *relaxation* is a choice of two slopes for an interval ``[l, u]``; the intercepts follow from the function by one
shared routine (:func:`lines`), so any slope gives a sound pair of lines (CROWN, Zhang et al. 2018, section 3.2,
writes the same thing as "alpha (x + beta)").
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import tensorflow as tf

Slopes = tuple[tf.Tensor, tf.Tensor]
SlopeRule = Callable[[tf.Tensor, tf.Tensor], Slopes]
"""``(lower, upper) -> (lower_slope, upper_slope)``, elementwise."""


class Lines(NamedTuple):
    """``lower_slope * x + lower_intercept <= f(x) <= upper_slope * x + upper_intercept`` on ``[l, u]``."""

    lower_slope: tf.Tensor
    lower_intercept: tf.Tensor
    upper_slope: tf.Tensor
    upper_intercept: tf.Tensor


@dataclass(frozen=True)
class Activation:
    """An elementwise function, and how to relax it.

    Attributes:
        name: the field's name of the function, as printed in reports.
        function: the function on tensors.
        critical_points: ``slope -> points``: for a slope (any shape), the points, other than the ends of the
            interval, at which ``f(x) - slope * x`` can have an extremum: kinks, and points with ``f'(x) = slope``.
            A point outside the interval is clamped by the caller.
        relaxations: slope rules by relaxation name.
        default: the rule that ``adaptive`` and an unnamed relaxation mean.
        piecewise_linear: whether the function consists of linear pieces that meet at its critical points.
    """

    name: str
    function: Callable[[tf.Tensor], tf.Tensor]
    critical_points: Callable[[tf.Tensor], tuple[tf.Tensor, ...]]
    relaxations: Mapping[str, SlopeRule] = field(default_factory=dict)
    default: str = "adaptive"
    piecewise_linear: bool = False

    def slopes(self, relaxation: str | None, lower: tf.Tensor, upper: tf.Tensor) -> Slopes:
        """The slopes that the named relaxation places on ``[lower, upper]``.

        Raises:
            ValueError: this activation does not define the relaxation.
        """
        rule = self.relaxations.get(relaxation or self.default)
        if rule is None:
            known = ", ".join(sorted(self.relaxations))
            raise ValueError(f"{self.name} defines no relaxation {relaxation!r}; it has {known}")
        return rule(lower, upper)


_ACTIVATIONS: dict[str, Callable[..., Activation]] = {}


def register_activation(name: str, build: Callable[..., Activation]) -> None:
    """Makes ``build(**parameters) -> Activation`` available under ``name``.

    Raises:
        ValueError: the name is taken.
    """
    if name in _ACTIVATIONS:
        raise ValueError(f"an activation named {name!r} is already registered")
    _ACTIVATIONS[name] = build


def activation(name: str, **parameters: float) -> Activation:
    """The registered activation ``name`` with its parameters.

    Raises:
        KeyError: no such activation.
    """
    if name not in _ACTIVATIONS:
        raise KeyError(f"unknown activation {name!r}; registered: {', '.join(names())}")
    return _ACTIVATIONS[name](**parameters)


def names() -> list[str]:
    """The registered names, sorted."""
    return sorted(_ACTIVATIONS)


def lines(act: Activation, slopes: Slopes, lower: tf.Tensor, upper: tf.Tensor) -> Lines:
    """The tightest sound lines with the given slopes over ``[lower, upper]``.

    ``f(x) - s x`` takes its extrema on the interval at an end or at a critical point, so the least (greatest) value
    over those points is the intercept of a lower (upper) line.
    """
    lower_slope, upper_slope = slopes
    return Lines(
        lower_slope,
        _extremum(act, lower_slope, lower, upper, tf.minimum),
        upper_slope,
        _extremum(act, upper_slope, lower, upper, tf.maximum),
    )


def image(act: Activation, lower: tf.Tensor, upper: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The interval of values that the function takes on ``[lower, upper]``: lines of slope zero."""
    flat = tf.zeros_like(lower)
    return (
        _extremum(act, flat, lower, upper, tf.minimum),
        _extremum(act, flat, lower, upper, tf.maximum),
    )


def _extremum(
    act: Activation,
    slope: tf.Tensor,
    lower: tf.Tensor,
    upper: tf.Tensor,
    choose: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
) -> tf.Tensor:
    points = [lower, upper, *(tf.clip_by_value(point, lower, upper) for point in act.critical_points(slope))]
    # XLA's min and max may drop a NaN, which stands for "nothing is known": say so with an infinity.
    unknown = tf.constant(-np.inf if choose is tf.minimum else np.inf, lower.dtype)
    gaps = [act.function(point) - tf.math.multiply_no_nan(point, slope) for point in points]
    return functools.reduce(choose, [tf.where(tf.math.is_nan(gap), unknown, gap) for gap in gaps])
