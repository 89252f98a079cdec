"""Functions of one number that activations are, and how far programs may be from them.

NumPy's ``exp``, ``expm1``, ``log1p``, ``tanh``, and Python's ``erf``, are taken to err by at most 4 units in the last
place in float64; then each function here is off by at most ``OWN`` roundings of ``|f(x)| + base + reach |x|``. What
programs err by is stated, and not proved: twice of what ``benchmarks/ulps`` measured of TensorFlow's kernels, or more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
OWN = 64


@dataclass(frozen=True, eq=False)
class Function:
    """A continuous function f of one number.

    Attributes:
        name: what it is, with its parameters.
        of: f in float64.
        slopes: the least and the greatest that it has.
        kinks: where its slope may jump, in order.
        parts: slopes of its straight pieces, one more than there are kinks; none of a curve.
        start: the value of such a function at its first kink.
        bend: of a curve: a bound of ``|f''|`` between two numbers with no kink between them; it may be too large.
        units: the program errs by at most so many unit roundoffs of ``|f(x)| + base + reach |x|``; 0: by none.
    """

    name: str
    of: Callable[[Array], Array]
    slopes: tuple[float, float]
    kinks: tuple[float, ...] = ()
    parts: tuple[float, ...] = ()
    start: float = 0.0
    bend: Callable[[Array, Array], Array] | None = None
    units: int = 20
    base: float = 0.0
    reach: float = 0.0

    @property
    def steepest(self) -> float:
        return max(1.0, *map(abs, self.slopes))


def pieces(kinks: tuple[float, ...], parts: tuple[float, ...], start: float = 0.0, units: int = 4) -> Function:
    """A function of straight pieces: their slopes, and its value ``start`` at the first kink."""

    def of(x: Array) -> Array:
        found = start + parts[0] * np.minimum(x - kinks[0], 0.0)
        for number, slope in enumerate(parts[1:]):
            width = np.maximum(x - kinks[number], 0.0)
            if number + 1 < len(kinks):
                width = np.minimum(width, kinks[number + 1] - kinks[number])
            found = found + slope * width
        return np.asarray(found)

    steep = max(map(abs, parts))
    single = kinks == (0.0,)  # the program rounds its slope, and the product
    base, reach = (0.0, 0.0) if single else (abs(start) + 1.0 + steep * sum(map(abs, kinks)), steep)
    name = f"{kinks} {parts} {start}"
    return Function(name, of, (min(parts), max(parts)), kinks, parts, start, units=units, base=base, reach=reach)


def _sigmoid(x: Array) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-x)))


def _softplus(x: Array) -> Array:
    return np.asarray(np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x))))


def _silu(x: Array) -> Array:
    return x * _sigmoid(x)


def _hard_silu(x: Array) -> Array:
    return x * np.clip((x + 3.0) / 6.0, 0.0, 1.0)


def _gelu(x: Array) -> Array:
    erf = np.vectorize(math.erf, otypes=[np.float64])
    return np.asarray(0.5 * x * (1.0 + erf(x * math.sqrt(0.5))))


def _normal(x: Array) -> Array:
    return np.asarray(0.3990 * np.exp(-0.5 * np.square(x)))


def _curve(
    name: str, of: Callable[[Array], Array], slopes: tuple[float, float], bend: Callable[[Array], Array], **more: float
) -> Function:
    """A function whose ``|f''|`` at a distance from 0, and farther from it, is at most ``bend`` of that."""

    def on(low: Array, high: Array) -> Array:
        return bend(np.asarray(np.maximum(0.0, np.maximum(low, -high))))

    return Function(name, of, slopes, bend=on, **more)  # type: ignore[arg-type]


def elu(alpha: float, scale: float = 1.0) -> Function:
    """``scale x`` on the right of 0, and on its left ``scale alpha (exp(x) - 1)``."""
    left = scale * alpha
    return Function(
        f"elu {alpha} {scale}",
        lambda x: np.where(x > 0, scale * x, left * np.expm1(np.minimum(x, 0.0))),
        (0.0, max(scale, left)),
        kinks=(0.0,),
        bend=lambda low, high: np.where(low >= 0, 0.0, left * np.exp(np.minimum(high, 0.0))),
        base=max(1.0, left),
    )


FUNCTIONS = {
    "relu": pieces((0.0,), (0.0, 1.0), units=0),
    "relu6": pieces((0.0, 6.0), (0.0, 1.0, 0.0), units=0),
    "leaky_relu": pieces((0.0,), (0.2, 1.0)),
    "hard_sigmoid": pieces((-3.0, 3.0), (0.0, 1 / 6, 0.0)),
    "hard_tanh": pieces((-1.0, 1.0), (0.0, 1.0, 0.0), -1.0),
    "sparse_sigmoid": pieces((-1.0, 1.0), (0.0, 0.5, 0.0)),
    "soft_shrink": pieces((-0.5, 0.5), (1.0, 0.0, 1.0)),
    "elu": elu(1.0),
    "selu": elu(1.6732632423543772, 1.0507009873554805),
    # f'' is s (1 - s) (1 - 2 s) of the sigmoid s, and s (1 - s) <= exp(-|x|)
    "sigmoid": _curve("sigmoid", _sigmoid, (0.0, 0.25), lambda d: np.minimum(0.0963, np.exp(-d))),
    # tanh(x) = 2 s(2 x) - 1; at most 4 / sqrt(27)
    "tanh": _curve("tanh", np.tanh, (0.0, 1.0), lambda d: np.minimum(0.7699, 8.0 * np.exp(-2.0 * d))),
    "softplus": _curve("softplus", _softplus, (0.0, 1.0), lambda d: np.minimum(0.25, np.exp(-d))),
    "log_sigmoid": _curve("-softplus", lambda x: -_softplus(-x), (0.0, 1.0), lambda d: np.minimum(0.25, np.exp(-d))),
    "softsign": _curve("softsign", lambda x: x / (1.0 + np.abs(x)), (0.0, 1.0), lambda d: 2.0 / (1.0 + d) ** 3),
    # s (1 - s) (2 - x tanh(x / 2)), whose last factor is at most max(2, |x|) in size
    "silu": _curve("silu", _silu, (-0.1, 1.1), lambda d: np.where(d < 2, 0.5, d * np.exp(-d)), reach=1.0),
    # (2 - x^2) times the normal density, which is at most 0.3990 exp(-x^2 / 2)
    "gelu": _curve("gelu", _gelu, (-0.13, 1.13), lambda d: np.where(d < 2, 0.7979, d * d * _normal(d)), reach=1.0),
    "hard_silu": Function(
        "hard_silu", _hard_silu, (-0.5, 1.5), (-3.0, 3.0), bend=lambda *_: np.array(0.3334), reach=1.0
    ),
}
"""By the names that Keras saves."""
FUNCTIONS |= {"celu": FUNCTIONS["elu"], "swish": FUNCTIONS["silu"], "hard_swish": FUNCTIONS["hard_silu"]}
