"""The registry of activations: what bound propagation must know of an elementwise function.

A *relaxation* is a choice of two slopes for an interval ``[l, u]``; the intercepts follow from the function by one
shared routine (:func:`tfcert.activations.placing.lines`), so any slope gives a sound pair of lines (CROWN, Zhang et al.
2018, section 3.2, writes the same thing as "alpha (x + beta)").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfcert.activations.accuracy import ACCURACIES, Accuracy

Slopes = tuple[tf.Tensor, tf.Tensor]
SlopeRule = Callable[[tf.Tensor, tf.Tensor], Slopes]
"""``(lower, upper) -> (lower_slope, upper_slope)``, elementwise."""
DomainEnds = tuple[float, float]
WHOLE: DomainEnds = (-np.inf, np.inf)
Ranges = tuple[Slopes | None, Slopes | None]
"""For the lower and the upper line: the least and greatest slope worth taking, None where one is always best."""


class Lines(NamedTuple):
    """``lower_slope * x + lower_intercept <= f(x) <= upper_slope * x + upper_intercept`` on ``[l, u]``."""

    lower_slope: tf.Tensor
    lower_intercept: tf.Tensor
    upper_slope: tf.Tensor
    upper_intercept: tf.Tensor


@dataclass(frozen=True)
class Declaration:
    """A family's declarations of a function, which :mod:`tfcert.activations.registration` holds against it.

    Attributes:
        derivative: the derivative; at the ends of a piece it may have the value of either side.
        ends: where one piece ends and the next begins, in order.
        rising: of each piece, whether the derivative rises in it; None where it does not change.
        jumps: those of the ends right of which the function jumps.
    """

    derivative: Callable[[tf.Tensor], tf.Tensor]
    ends: tuple[float, ...]
    rising: tuple[bool | None, ...]
    jumps: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class Activation:
    """An elementwise function, and how to relax it.

    Attributes:
        name: the field's name of the function, as printed in reports.
        function: the function on tensors.
        critical_points: ``(slope, lower, upper) -> points``: the points, other than the ends, at which
            ``f(x) - slope * x`` can have an extremum on the interval: kinks, and points with ``f'(x) = slope``. A
            point outside the interval is clamped by the caller.
        relaxations: slope rules by relaxation name.
        ranges: what :meth:`slope_ranges` computes, on finite intervals.
        default: the rule that ``adaptive`` and an unnamed relaxation mean.
        kinks: where the pieces of a continuous function meet that is straight between and beyond them; None for
            any other function.
        increasing: whether the function as computed never falls; False where that was not established.
        edges: of a staircase: reads where its steps are (see :mod:`tfcert.activations.cells`). Its lines are constants.
        domain: between which numbers the rest of this holds. On an interval that leaves the domain nothing is known of
            the function but its ``values``: its bounds are infinite where these are.
        poles: numbers without a value; an interval that holds one is like one that leaves the domain.
        values: between which numbers all values lie, in the domain and beyond it.
        overflows: whether a finite number may have an infinite value; on intervals with such an end lines are flat.
        alike: whether it is the same function at every place of a tensor; False of one whose parameters are a tensor.
        declaration: what the family that made it was told.
        accuracy: how far computed values may be from the function's; None where nothing is known of that.
        exact: how many of the critical points, the first ones, are declared places, rather than searched for. Where
            the others are as many as pieces that bend, each is of one of these, in order.
        strays: ``(lower, upper, unit) -> errors``: by how much the least of ``f(x) - s x`` at critical points as they
            are computed with this unit roundoff may lie above the true one, and the greatest below. None where that
            is found from the derivative that was declared, or the points are exact.
        closed_form: ``(lower, upper) -> lines``: what :func:`~tfcert.activations.placing.lines` finds for the default
            rule, up to rounding, on finite intervals; in few operations, for passes whose gradient is taken. None where
            nobody wrote it.

    Raises:
        ValueError: a domain that is empty, or a domain or poles beside ``kinks``, ``increasing`` or ``edges``, which
            hold everywhere.
    """

    name: str
    function: Callable[[tf.Tensor], tf.Tensor]
    critical_points: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, ...]]
    relaxations: Mapping[str, SlopeRule]
    ranges: Callable[[tf.Tensor, tf.Tensor], Ranges]
    default: str = "adaptive"
    kinks: tuple[float, ...] | None = None
    increasing: bool = False
    edges: Callable[[], tf.Tensor] | None = None
    domain: DomainEnds = WHOLE
    poles: tuple[float, ...] = ()
    values: DomainEnds = WHOLE
    overflows: bool = False
    alike: bool = True
    declaration: Declaration | None = None
    accuracy: Accuracy | None = None
    exact: int = 0
    strays: Callable[[tf.Tensor, tf.Tensor, float], tf.Tensor] | None = None
    closed_form: Callable[[tf.Tensor, tf.Tensor], Lines] | None = None

    def __post_init__(self) -> None:
        if not self.domain[0] < self.domain[1]:
            raise ValueError(f"the domain of {self.name!r} is {self.domain}: its first number must be below its second")
        if self.limited and (self.kinks is not None or self.increasing or self.edges is not None):
            raise ValueError(f"{self.name!r} has kinks, edges or increasing, which hold on all numbers, and a domain")

    @property
    def limited(self) -> bool:
        """Tells whether there are intervals on which nothing is known of the function."""
        return self.domain != WHOLE or bool(self.poles)

    @property
    def piecewise_linear(self) -> bool:
        """Tells whether the function is linear on either side of zero."""
        return self.kinks == (0.0,)

    def slopes(self, relaxation: str | None, lower: tf.Tensor, upper: tf.Tensor) -> Slopes:
        """The slopes that the named relaxation places on ``[lower, upper]``.

        Args:
            relaxation: a name; None for the default; ``deepcert+adaptive`` for one with the default where this
                activation does not define it.
            lower: lower ends.
            upper: upper ends.

        Raises:
            ValueError: this activation does not define the relaxation.
        """
        named, _, fallback = (relaxation or self.default).partition("+")
        rule = self.relaxations.get(named) or (self.relaxations[self.default] if fallback else None)
        if rule is None:
            raise ValueError(f"{self.name} {self.lacks(named)}")
        known, ends = self._known(lower, upper)
        return _flat_unless(known, rule(*ends))

    def lacks(self, relaxation: str) -> str:
        """The rest of a sentence that refuses a relaxation which this activation does not define."""
        known = ", ".join(sorted(self.relaxations))
        return (
            f"defines no relaxation {relaxation!r}; it has {known}. With fallback={self.default!r} (in a specification "
            f"fallback: {self.default}) it is bounded by its default lines, and the others by {relaxation!r}"
        )

    def slope_ranges(self, lower: tf.Tensor, upper: tf.Tensor) -> Ranges:
        """Between which slopes lies the line of each side that is best for some point of ``[lower, upper]``.

        These are the slopes of the function's convex (lower line) and concave (upper line) envelope at the ends of
        the interval. Both are equal where the function is straight, or the envelope one line (a chord); None stands
        for a side where that is so on every interval, for :meth:`slopes` to say which (the chord above a convex
        function, say).

        Returns:
            ``((lower_min, lower_max) or None, (upper_min, upper_max) or None)``, shaped like ``lower``.
        """
        known, ends = self._known(lower, upper)
        below, above = self.ranges(*ends)
        return (
            None if below is None else _flat_unless(known, below),
            None if above is None else _flat_unless(known, above),
        )

    def declared(self, lower: tf.Tensor, upper: tf.Tensor) -> tf.Tensor:
        """Marks the intervals in the domain, without poles (compared in float64: its ends are not rounded)."""
        low, high = tf.cast(lower, tf.float64), tf.cast(upper, tf.float64)
        inside = (low >= self.domain[0]) & (high <= self.domain[1])
        for pole in self.poles:
            inside &= (low > pole) | (high < pole)
        return inside

    @property
    def reach(self) -> str:
        """The domain in words."""
        holes = "".join(f" without {pole:.6g}" for pole in self.poles)
        return f"from {self.domain[0]:.6g} to {self.domain[1]:.6g}{holes}"

    @property
    def _somewhere(self) -> float:
        """A number of the domain that is no pole."""
        low, high = self.domain
        near = [min(max(place, low), high) for place in (0.0, 1.0)]
        return next(place for place in (*near, 0.5 * near[0] + 0.5 * near[1]) if place not in self.poles)

    def _known(self, lower: tf.Tensor, upper: tf.Tensor) -> tuple[tf.Tensor, Slopes]:
        """Marks finite intervals in the domain; returns the intervals, too, with one point in place of the others."""
        known = tf.math.is_finite(lower) & tf.math.is_finite(upper)
        if self.limited:
            known &= self.declared(lower, upper)
        if self.overflows:
            for end in (lower, upper):
                known &= tf.math.is_finite(self.function(tf.stop_gradient(end)))
        return known, self.within(known, lower, upper)

    def within(self, known: tf.Tensor, lower: tf.Tensor, upper: tf.Tensor) -> Slopes:
        """The intervals, with one point of the domain in place of those that are not ``known``."""
        point = tf.constant(self._somewhere, lower.dtype)
        return tf.where(known, lower, point), tf.where(known, upper, point)


def _flat_unless(known: tf.Tensor, slopes: Slopes) -> Slopes:
    """Replaces lines by constants where bounds blew up or a slope overflowed: others are unbounded there."""
    lower, upper = (tf.where(known & tf.math.is_finite(slope), slope, tf.zeros_like(slope)) for slope in slopes)
    return lower, upper


_ACTIVATIONS: dict[str, Callable[..., Activation]] = {}
_SPELLINGS: list[tuple[Callable, str]] = []
_SHIPPED: set[str] = set()
_MADE: dict[tuple[str, str], Activation] = {}


def enter(
    name: str, build: Callable[..., Activation], spellings: Iterable[Callable[..., Any]] = (), shipped: bool = True
) -> None:
    """Makes ``build(**parameters) -> Activation`` available under ``name``; see :func:`is_shipped` for ``shipped``.

    Raises:
        ValueError: the name is taken.
    """
    if name in _ACTIVATIONS:
        raise ValueError(f"an activation named {name!r} is already registered")
    _ACTIVATIONS[name] = build
    if shipped:
        _SHIPPED.add(name)
    _SPELLINGS.extend((function, name) for function in spellings)


def is_shipped(act: Activation | str) -> bool:
    """Tells whether an activation, or one of this name, is tfcert's own: XLA compiles these, and need not compile a
    user's."""
    return (act if isinstance(act, str) else act.name) in _SHIPPED


def spelled(function: Any) -> str | None:
    """The name under which a function was registered as a spelling, by identity."""
    return next((name for known, name in _SPELLINGS if known is function), None)


def activation(name: str, **parameters: Any) -> Activation:
    """The registered activation ``name`` with its parameters; of tfcert's own the same object for the same numbers.

    Raises:
        KeyError: no such activation.
    """
    if name not in _ACTIVATIONS:
        raise KeyError(f"unknown activation {name!r}; registered: {', '.join(names())}")
    if name not in _SHIPPED:
        return _ACTIVATIONS[name](**parameters)
    key = (name, repr(sorted(parameters.items())))
    found = _MADE.get(key)
    if found is None:
        found = _ACTIVATIONS[name](**parameters)
        if found.accuracy is None:
            found = replace(found, accuracy=ACCURACIES.get(found.name))
        if all(part is None or type(part) in (int, float, str, bool) for part in parameters.values()):
            _MADE[key] = found
    return found


def names() -> list[str]:
    """The registered names, sorted."""
    return sorted(_ACTIVATIONS)
