"""Activations of the user's own: what a declaration claims is held against the function, densely and in float64.

A wrong declaration would make lines that the function crosses, and nothing later could tell. What is checked: the
derivative is the function's, every piece bends the way that is declared and joins the next one, what is said to rise or
to be straight does and is, and lines laid on many intervals hold on both sides.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from tfcert.activations.accuracy import Accuracy
from tfcert.activations.placing import lines
from tfcert.activations.registry import WHOLE, Activation, Declaration, enter

_NEAR, _FAR = 200.0, 1e6
"""Evenly up to the first, and in growing steps up to the second, is a piece sampled that never ends."""
_SAMPLES = 8000
_ENDS = (
    "declare every point where it inflects, breaks or jumps, and with domain=(least, greatest) the numbers between "
    "which these are all"
)
_ROUNDING = 1e-9
"""Share of the largest term by which float64 may err: far more than it does, far less than a wrong declaration."""


def register_activation(
    name: str,
    build: Callable[..., Activation],
    spellings: Iterable[Callable[..., Any]] = (),
    ulps: float | None = None,
) -> None:
    """Makes ``build(**parameters) -> Activation`` available under ``name``.

    What ``build`` returns is checked against its function, in float64, on thousands of points of its domain: here if
    all parameters have defaults, and whenever a model asks for others. On an interval that leaves the domain bounds are
    infinite, so that nothing is verified there, and a warning says where the domain ends.

    Args:
        name: the name.
        build: makes the activation; its parameters are numbers, or functions that read a tensor. The function and its
            derivative take tensors of float32 and of float64.
        spellings: functions of Keras or your own which are this activation (with default parameters) where a model
            applies them. Functions of Keras's own that have the same name are found without.
        ulps: your word, which nothing checks, that every program which computes the function, and tfcert in the type of
            the model and in float64, errs by at most so many units in the last place of ``|f(x)| + |x| + 1``. None:
            nothing is known of how it rounds, and results of networks with it are ``numeric``.

    Raises:
        ValueError: the name is taken, ``ulps`` is no number above 0, or a declaration is wrong; the message says at
            which number.

    Example:
        >>> @keras.saving.register_keras_serializable("mine")
        ... def wave(x):
        ...     return x + keras.ops.sin(x) / 2
        >>> turns = tuple(math.pi * n for n in range(-8, 9))  # where it inflects between -8 pi and 8 pi
        >>> def build_wave():
        ...     bends = Bends(
        ...         lambda x: x + tf.sin(x) / 2, lambda x: 1 + tf.cos(x) / 2, turns, domain=(turns[0], turns[-1])
        ...     )
        ...     return general("wave", bends)
        >>> register_activation("wave", build_wave, spellings=[wave])
        >>> act = activation("wave")
        >>> low, high = tf.constant([0.0, 20.0]), tf.constant([math.pi, 30.0])
        >>> found = lines(act, act.slopes("adaptive", low, high), low, high)
        >>> [round(float(part[0]), 4) for part in found]
        [1.0, 0.0, 1.0, 0.5]
        >>> [float(part[1]) for part in found]  # 30 lies beyond 8 pi: nothing is known there
        [0.0, -inf, 0.0, inf]
    """
    if ulps is not None and not 0 < ulps < np.inf:
        raise ValueError(f"ulps must be a finite number above 0, not {ulps}")
    known: set[Any] = set()

    def checked(**parameters: Any) -> Activation:
        act = build(**parameters)
        key = tuple(sorted(parameters.items()))
        if key not in known:
            check_activation(act)
            known.add(key)
        return replace(act, accuracy=None if ulps is None else Accuracy(float(ulps), 1.0, 1.0, _steep(act), sharp=True))

    given = inspect.signature(build).parameters.values()
    if all(p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in given):
        checked()
    enter(name, checked, spellings, shipped=False)


def check_activation(act: Activation) -> None:
    """Compares an activation with what it is declared to be.

    Raises:
        ValueError: it is something else; the message says where.
    """
    with tf.init_scope(), tf.device("/CPU:0"):
        if act.declaration is not None:
            _check_pieces(act, act.declaration)
        if act.increasing:
            x, value = _values(act, act.function, _grid(*WHOLE))
            _all(act, x, np.maximum.accumulate(value) - value <= _slack(value), "is declared to rise, and falls")
        if act.kinks is not None:
            for low, high in itertools.pairwise((-np.inf, *act.kinks, np.inf)):
                x, value = _values(act, act.function, _grid(low, high))
                straight = np.interp(x, x[[0, -1]], value[[0, -1]])
                _all(act, x, np.abs(value - straight) <= _slack(value, x), "is declared straight, and bends")
        for rule in act.relaxations:
            _check_lines(act, rule)


def _steep(act: Activation) -> float:
    """Above the function's slope next to zero; where it has no values, its domain ends, and the rest is sharp."""
    with tf.init_scope(), tf.device("/CPU:0"):
        step = 1e-6
        left, middle, right = act.function(tf.constant([-step, 0.0, step], tf.float64)).numpy()
    slopes = [abs(right - middle) / step, abs(middle - left) / step]
    return 1.0 + 2.0 * max([slope for slope in slopes if np.isfinite(slope)], default=0.0)


def _check_pieces(act: Activation, told: Declaration) -> None:
    """The derivative, which way each piece bends, and that the pieces join."""
    low, high = act.domain
    borders = [low, *told.ends, high]
    for (left, right), rising in zip(itertools.pairwise(borders), told.rising, strict=True):
        if not left < right:
            continue
        grid = _grid(left, right)
        slope, value = _values(act, told.derivative, grid)[1], _values(act, act.function, grid)[1]
        finite = np.isfinite(slope) & np.isfinite(value)
        x, slope, value = grid[finite], slope[finite], value[finite]
        mean = np.diff(value) / np.diff(x)
        least, most = np.minimum(slope[:-1], slope[1:]), np.maximum(slope[:-1], slope[1:])
        slack = _slack(slope)[:-1]
        where = f"between {left:.6g} and {right:.6g}"
        _check_bend(act, x, slope, rising, where)
        # The mean slope lies between the ends' wherever the derivative is monotone; values err by their rounding.
        slack = slack + 16 * np.finfo(float).eps * (1 + np.abs(value[:-1]) + np.abs(value[1:])) / np.diff(x)
        close = (mean >= least - slack) & (mean <= most + slack)
        _all(act, x[:-1], close, f"is given the wrong derivative {where}", "it must be the function's")
    for end in told.ends:
        if end in act.poles:
            continue
        sides = [-1.0] if end in told.jumps else [-1.0, 1.0]
        x = np.clip(end + 1e-9 * (1 + abs(end)) * np.array([0.0, *sides]), low, high)
        value, steepest = _values(act, act.function, x)[1], np.abs(_values(act, told.derivative, x)[1]).max()
        apart = np.abs(value - value[0]) <= 1e-6 * (1 + abs(value[0])) + 4 * steepest * np.abs(x - end)
        _all(act, x, apart, "has an end of pieces that is not declared a jump, and jumps")


def _check_bend(act: Activation, x: np.ndarray, slope: np.ndarray, rising: bool | None, where: str) -> None:
    """Tells whether the derivative, sampled in one piece, only rises, only falls, or stays."""
    way = 1.0 if rising else -1.0
    back = np.abs(slope - slope[:1]) if rising is None else np.maximum.accumulate(way * slope) - way * slope
    holds = back <= _slack(slope)
    near = np.flatnonzero(np.abs(x) <= _NEAR)
    turns = (
        [k for k in (near[slope[near].argmax()], near[slope[near].argmin()]) if near[0] < k < near[-1]]
        if len(near)
        else []
    )
    if not holds.all() and turns:
        _all(act, x[turns[:1]], np.zeros(1, bool), f"bends both ways {where} and inflects")
    kind = "straight" if rising is None else "convex" if rising else "concave"
    _all(act, x, holds, f"is declared {kind} {where}, and is not")


def _check_lines(act: Activation, rule: str) -> None:
    """Lines on intervals of all sizes hold at the ends, and at points between."""
    generator = np.random.default_rng(0)
    low, high = act.domain
    middle = generator.normal(size=400) * generator.choice([0.1, 1.0, 5.0, 30.0], 400)
    if np.isfinite(high - low):
        middle[::2] = low + (high - low) * generator.uniform(size=200)
    radius = generator.exponential(size=400) * generator.choice([1e-2, 0.3, 1.0, 3.0, 30.0], 400)
    lower, upper = np.clip(middle - radius, low, high), np.clip(middle + radius, low, high)
    ends = tf.constant(lower), tf.constant(upper)
    found = [part.numpy()[:, None] for part in lines(act, act.slopes(rule, *ends), *ends)]
    x = lower[:, None] + (upper - lower)[:, None] * np.linspace(0.0, 1.0, 129)
    x = np.clip(x, lower[:, None], upper[:, None])
    value = _values(act, act.function, x.ravel())[1].reshape(x.shape)
    for slope, intercept, side, name in ((*found[:2], 1.0, "lower"), (*found[2:], -1.0, "upper")):
        terms = np.abs(value) + np.abs(slope * x) + np.abs(intercept)
        beyond = side * (slope * x + intercept - value)
        held = ~(beyond > _ROUNDING * (1 + terms)) | ~np.isfinite(value)
        _all(act, x, held, f"crosses its {name} line (relaxation {rule!r})")


def _grid(low: float, high: float) -> np.ndarray:
    """Numbers strictly between two ends, rising: even steps, and ever smaller ones towards each end."""
    even = np.linspace(max(low, min(-_NEAR, high - 1)), min(high, max(_NEAR, low + 1)), _SAMPLES)
    steps = np.geomspace(1e-6, _FAR, _SAMPLES // 2)
    parts = [even, *([low + steps, high - steps] if np.isfinite([low, high]).any() else [steps, -steps])]
    found = np.unique(np.concatenate(parts))
    return found[np.isfinite(found) & (found > low) & (found < high)]


def _values(
    act: Activation, function: Callable[[tf.Tensor], tf.Tensor], x: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    try:
        value = function(tf.constant(x, tf.float64)).numpy()
    except (TypeError, tf.errors.InvalidArgumentError) as error:
        raise ValueError(
            f"activation {act.name!r} cannot be computed in float64, in which it is checked: {error}"
        ) from error
    _all(act, x, ~np.isnan(value), "or its derivative is not a number", "leave the point out of the domain")
    return x, value


def _slack(value: np.ndarray, x: np.ndarray | float = 0.0) -> np.ndarray:
    return _ROUNDING * (1 + np.maximum.accumulate(np.abs(value)) + np.abs(x))


def _all(act: Activation, x: np.ndarray, holds: np.ndarray, what: str, advice: str = _ENDS) -> None:
    """Raises a ValueError that says at which number something does not hold: the first that is not far out."""
    if not holds.all():
        wrong = x[~holds]
        near = wrong[np.abs(wrong) <= _NEAR]
        at = near[0] if len(near) else wrong[np.abs(wrong).argmin()]
        raise ValueError(f"activation {act.name!r} {what} at x = {at:.6g}: {advice}")
